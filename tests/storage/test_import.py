"""Files of others become the events that they were, to the last digit; what is wrong with one is said with its line."""
import gzip
import io
import zipfile
from decimal import Decimal as D

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from onetape.clock import MINUTE
from onetape.errors import UsageError
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Channel,
    FeedStatus,
    InstrumentId,
    Quote,
    Side,
    Skipped,
    Source,
    Trade,
    TrustState,
)
from onetape.storage.formats import source
from onetape.storage.formats.exchanges import exchange, instrument, name
from onetape.storage.formats.recognise import opened
from onetape.storage.formats.rows import Wanted

TODAY = 1_760_000_000_000_000_000
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
BOOKS = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
US = 1_723_118_400_000_000
GOOD = f"binance,BTCUSDT,{US},{US + 5},7,buy,1.10,0.50"
MAPPED = [
    ("binance", "BTCUSDT", "binance", "BTCUSDT"), ("binance-futures", "BTCUSDT", "binance-usdm", "BTCUSDT"),
    ("coinbase", "BTC-USD", "coinbase-exchange", "BTC-USD"), ("kraken", "XBT/USD", "kraken", "BTC/USD"),
    ("kraken", "ETH/XBT", "kraken", "ETH/BTC"), ("okex", "BTC-USDT", "okx", "BTC-USDT"),
    ("okex-swap", "BTC-USDT-SWAP", "okx", "BTC-USDT-SWAP"), ("okex-futures", "BTC-USD-240628", "okx", "BTC-USD-240628"),
    ("bybit", "BTCUSDT", "bybit", "linear:BTCUSDT"), ("bybit", "BTCUSD", "bybit", "BTCUSD"),
    ("bybit-spot", "BTCUSDT", "bybit", "BTCUSDT"), ("coinbase-advanced", "BTC-USD", "coinbase", "BTC-USD"),
]


def file(folder, *lines, name="a.csv", end="\n"):
    path = folder / name
    path.write_text("\n".join(lines) + end, newline="")
    return path


def events(path, **more):
    return [it for _, it in opened(Wanted(path, TODAY, **more)).events()]


def refused(path, **more):
    with pytest.raises(UsageError) as error:
        events(path, **more)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    return str(error.value)[len(str(path)):].strip()


# --- Tardis -----------------------------------------------------------------------------------------------------------


def test_genuine_trades_of_tardis(recordings):
    path = recordings / "tardis" / "nautilus_bitmex_trades_XBTUSD.csv"
    found = events(path, venue="bitmex")
    assert len(found) == 10
    it = found[0]
    assert (it.venue, it.symbol, it.id, it.after) == ("bitmex", "XBTUSD", "ccc3c1fa-212c-e8b0-1706-9b9c4f3d5ecf", None)
    assert (it.side, str(it.price), str(it.size), it.source) == (Side.SELL, "8531.5", "2152", Source.BACKFILL)
    assert it.exchange_time == 1583020803145000_000
    assert it.received_time == it.available_at == 1583020803307160_000
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert [[it.id, it.side, str(it.price), str(it.size)] for it in found] == [row[4:] for row in rows]
    assert "line 2: the exchange 'bitmex' is none that is known (binance, " in refused(path)


def test_a_genuine_snapshot_of_tardis_is_one_message(recordings):
    path = recordings / "tardis" / "nautilus_deribit_incremental_book_L2_BTC-PERPETUAL.csv"
    (it,) = events(path, venue="deribit")
    assert isinstance(it, BookSnapshot)
    assert (it.exchange_time, it.available_at) == (1585699200245000_000, 1585699200355684_000)
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    assert [[str(price), str(size)] for price, size in it.asks] == [row[6:] for row in rows]
    assert list(it.bids) == []


def test_genuine_quotes_and_best_levels_of_tardis(recordings):
    quote = events(recordings / "tardis" / "nautilus_huobi-dm-swap_quotes_BTC-USD.csv", venue="huobi")[0]
    assert isinstance(quote, Quote)
    assert (quote.ask, quote.bid) == ((D("8629.3"), D(5494)), (D("8629.2"), D(806)))
    for depth in (5, 25):
        path = recordings / "tardis" / f"nautilus_binance-futures_book_snapshot_{depth}_BTCUSDT.csv"
        found = events(path)
        assert len(found) == 10
        assert {(it.venue, it.depth, len(it.bids), len(it.asks)) for it in found} == {
            ("binance-usdm", depth, depth, depth)}
        assert next(iter(found[0].asks)) == (D("11657.08"), D("1.714"))
        assert next(iter(found[0].bids)) == (D("11657.07"), D("10.896"))


def test_genuine_files_of_other_layouts_are_refused(recordings):
    assert "line 1: no known columns" in refused(recordings / "tardis" / "nautilus_options_chain.csv")
    for path in recordings.glob("csv/*"):
        if "ADABTC" not in path.name:
            refused(path)


def test_rows_of_one_time_are_one_message_and_a_snapshot_behind_changes_is_a_break(tmp_path):
    head = f"binance,BTCUSDT,{US}"
    path = file(
        tmp_path, BOOKS, f"{head},{US},true,bid,1.10,2", f"{head},{US},true,ask,1.20,3",
        f"{head},{US + 1},false,bid,1.10,0",
        f"{head},{US + 2},false,ask,1.2,1", f"{head},{US + 2},false,bid,1.0,1", f"{head},{US + 3},true,bid,1,2",
        f"{head},{US + 4},true,bid,1,3",
    )
    found = events(path)
    assert [type(it) for it in found] == [
        BookSnapshot, BookDelta, BookDelta, FeedStatus, BookSnapshot, FeedStatus, BookSnapshot]
    assert [(it.after, it.sequence) for it in found[1:3]] == [(1, 2), (2, 3)]
    assert [(list(it.bids), list(it.asks)) for it in found[:3]] == [
        ([(D("1.10"), D(2))], [(D("1.20"), D(3))]), ([(D("1.10"), D(0))], []), ([(D(1), D(1))], [(D("1.2"), D(1))])]
    assert [(it.state, it.channel) for it in (found[3], found[5])] == [
        (TrustState.STALE, Channel.BOOK), (TrustState.LIVE, Channel.BOOK)]


def test_ids_prove_something_where_the_venue_counts_and_stand_for_nothing_where_there_are_none(tmp_path):
    rows = [
        GOOD, f"bybit-spot,BTCUSDT,{US},{US},2290000000001,sell,1,1", f"kraken,XBT/USD,{US},{US},,buy,1,1",
        f"kraken,XBT/USD,{US},{US},,buy,1,1", f"kraken,XBT/USD,{US + 1},{US + 1},,buy,1,1",
    ]
    found = events(file(tmp_path, TRADES, *rows))
    assert [(it.id, it.after) for it in found] == [
        ("7", 6), ("2290000000001", None), (f"{US}-0", None), (f"{US}-1", None), (f"{US + 1}-0", None)]
    agg = events(file(tmp_path, TRADES, GOOD), channel=Channel.AGG_TRADES)
    assert agg[0].channel is Channel.AGG_TRADES


@pytest.mark.parametrize(("theirs", "symbol", "venue", "ours"), MAPPED)
def test_names_of_tardis_are_ours_and_back(theirs, symbol, venue, ours):
    assert instrument(theirs, symbol) == InstrumentId(venue, ours)
    assert exchange(InstrumentId(venue, ours)) == (theirs, symbol)


def test_a_venue_of_ones_own_is_a_plain_name():
    assert name("bitmex") == "bitmex"
    for bad in ("../x", "", "A", "a b", "x" * 41, "=cmd()"):
        with pytest.raises(UsageError, match="--venue must be"):
            name(bad)


# --- Binance ----------------------------------------------------------------------------------------------------------

MS = 1_723_118_400_000
SPOT_TRADE = f"12,61000.10000000,0.00100000,61.00010000,{MS},True,True"
USDM_TRADE = f"12,61000.1,0.001,61.0001,{MS},false"
SPOT_AGG = f"9,61000.10000000,0.00100000,11,12,{MS},True,True"
USDM_AGG = f"9,61000.1,0.001,11,12,{MS},false"
KLINE = f"{MS},1.0,2.0,0.5,1.5,10.00,{MS + 59_999},15.00,3,4.0,6.0,0"
HEADS = {
    USDM_TRADE: "id,price,qty,quote_qty,time,is_buyer_maker",
    USDM_AGG: "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker",
    KLINE: "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
           "taker_buy_quote_volume,ignore",
}


def zipped(folder, name, *lines, member=None):
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member or f"{name}.csv", "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("row", [SPOT_TRADE, SPOT_TRADE.replace(str(MS), f"{MS}000")])
def test_trades_of_spot_before_and_since_microseconds(row, tmp_path):
    (it,) = events(zipped(tmp_path, "BTCUSDT-trades-2024-08-08", row))
    assert (it.venue, it.symbol, it.channel, it.id, it.after) == ("binance", "BTCUSDT", Channel.TRADES, "12", 11)
    assert (str(it.price), str(it.size), it.side) == ("61000.10000000", "0.00100000", Side.SELL)
    assert it.exchange_time == it.received_time == it.available_at == MS * 1_000_000
    assert it.source is Source.BACKFILL


@pytest.mark.parametrize("head", [True, False])
def test_trades_and_aggregates_of_futures_with_a_head_and_without(head, tmp_path):
    for row, channel, first in ((USDM_TRADE, Channel.TRADES, None), (USDM_AGG, Channel.AGG_TRADES, "11")):
        lines = [HEADS[row], row] if head else [row]
        path = zipped(tmp_path, "BTCUSDT_240628-aggTrades-2024-08", *lines)
        (it,) = events(path, venue="binance-usdm")
        assert (it.venue, it.symbol, it.channel, it.first_id) == ("binance-usdm", "BTCUSDT_240628", channel, first)
        assert (it.side, it.exchange_time) == (Side.BUY, MS * 1_000_000)
        assert refused(path) == "does not say which market it is of: add --venue binance or --venue binance-usdm"


def test_aggregates_of_spot_name_the_trades_in_them(tmp_path):
    (it,) = events(file(tmp_path, SPOT_AGG, name="BTCUSDT-aggTrades-2024-08-08.csv"))
    assert (it.venue, it.id, it.after, it.first_id, it.last_id) == ("binance", "9", 8, "11", "12")
    (it,) = events(file(tmp_path, SPOT_AGG.replace("11,12", "-1,-1"), name="BTCUSDT-aggTrades-2024-08-08.csv"))
    assert (it.first_id, it.last_id) == (None, None)


@pytest.mark.parametrize(("unit", "head"), [(1, False), (1, True), (1_000, False)])
def test_klines_are_the_venues_own_candles_by_their_end(unit, head, tmp_path):
    row = KLINE.replace(str(MS + 59_999), str((MS + 60_000) * unit - 1)).replace(f"{MS},", f"{MS * unit},")
    path = file(tmp_path, *[HEADS[KLINE]] * head, row, name="BTCUSDT-1m-2024-08-08.csv")
    (it,) = events(path, venue="binance")
    start = MS * 1_000_000
    assert (it.interval, it.start, it.end, it.available_at) == ("1m", start, start + MINUTE, start + MINUTE)
    assert (it.source, it.final, it.complete, it.trades) == ("venue", True, True, 3)
    numbers = (it.open, it.high, it.low, it.close, it.volume, it.quote_volume, it.taker_buy_volume)
    assert list(map(str, numbers)) == ["1.0", "2.0", "0.5", "1.5", "10.00", "15.00", "4.0"]


def test_genuine_klines(recordings):
    path = recordings / "csv" / "nautilus_ADABTC-1m-2021-11-27.csv"
    assert "add --symbol" in refused(path, venue="binance")
    found = events(path, venue="binance", symbol="ADABTC")
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert [[str(it.start // 10**6), *(format(n, "f") for n in (it.open, it.high, it.low, it.close, it.volume))]
            for it in found] == [row[:6] for row in rows]


def test_a_month_is_as_long_as_it_is(tmp_path):
    start, end = 1_706_745_600_000, 1_709_251_200_000  # February 2024
    row = KLINE.replace(str(MS + 59_999), str(end - 1)).replace(f"{MS},", f"{start},")
    (it,) = events(file(tmp_path, row), venue="binance", symbol="BTCUSDT")
    assert it.interval == "1M"
    row = KLINE.replace(str(MS + 59_999), str(MS + 61_999))
    assert "no interval is 62000 ms long" in refused(file(tmp_path, row), venue="binance", symbol="BTCUSDT")


# --- what is refused --------------------------------------------------------------------------------------------------

WRONG = [
    ("price", "1.10", it) for it in (
        "NaN", "inf", "-1", "0", "0.00", "1" * 40, "1e400", "", " 1", "1_0", "0x1", "٣", "1.1.1", "=1+1",
        "0.1234567890123456789", "100000000000000000001")
] + [
    ("amount", "0.50", it) for it in ("NaN", "-inf", "-0.5", "0", "")
] + [
    ("side", "buy", it) for it in ("none", "", "BUY", "bid")
] + [
    ("symbol", "BTCUSDT", it) for it in (
        "../../x", "=cmd()", "", "a b", "a\tb", "\x1b[31m", "x" * 81, "a/../b", "'; --")
] + [
    ("time", str(US), it) for it in (
        "0", "1000000", "99999999999999999999", "3093527980800000000", "-1", "1.5", "", "2024-08-08", f"{US}0")
] + [
    ("local", str(US + 5), it) for it in ("0", "", f"{US + 5}0", str(US - 2 * 3_600 * 10**6))
] + [("id", ",7,", ",9999999999999999999,"), ("columns", "0.50", "0.50,1"), ("columns", ",0.50", "")]


@pytest.mark.parametrize(("what", "good", "bad"), WRONG)
def test_a_bad_row_is_named_by_its_line(what, good, bad, tmp_path):
    path = file(tmp_path, TRADES, GOOD, GOOD.replace(good, bad, 1), GOOD)
    assert refused(path).startswith("line 3: ")


@pytest.mark.parametrize("bad", [
    "true,bid,0,1", "true,bid,-1,1", "true,bid,1,-1", "true,bid,NaN,1", "maybe,bid,1,1", "true,buy,1,1",
    "true,bid,1,1234567890123456789", "true,bid,1", "TRUE,bid,1,1",
])
def test_a_bad_level_is_named_by_its_line(bad, tmp_path):
    head = f"binance,BTCUSDT,{US},{US}"
    assert refused(file(tmp_path, BOOKS, f"{head},true,bid,1.1,1", f"{head},{bad}")).startswith("line 3: ")


@pytest.mark.parametrize("bad", [
    SPOT_AGG.replace("True,True", "maybe,True"), SPOT_AGG.replace("9,", "x,", 1), SPOT_AGG.replace(str(MS), "1000"),
    SPOT_AGG.replace("61000.10000000", "NaN"), SPOT_AGG.replace("0.00100000", "0"), SPOT_AGG.replace("11,12", "a,b"),
    SPOT_AGG + ",1", USDM_TRADE, SPOT_AGG.rpartition(",")[0], SPOT_AGG.replace("61000.10000000", "6e4"),
])
def test_a_bad_row_of_an_archive_is_named_by_its_line(bad, tmp_path):
    path = file(tmp_path, SPOT_AGG, bad, name="BTCUSDT-aggTrades-2024-08-08.csv")
    assert refused(path).startswith("line 2: ")


@pytest.mark.parametrize("bad", [
    KLINE.replace("2.0,0.5", "0.4,0.5"), KLINE.replace("1.0,", "0,", 1), KLINE.replace(",3,", ",x,"),
    KLINE.replace(str(MS + 59_999), str(MS - 1)), KLINE.replace("10.00", "inf"),
    KLINE.replace("10.00", "1E1"),
])
def test_a_bad_candle_is_named_by_its_line(bad, tmp_path):
    path = file(tmp_path, KLINE, bad, name="BTCUSDT-1m-2024-08-08.csv")
    assert refused(path, venue="binance").startswith("line 2: ")


def test_a_trade_without_a_side_is_skipped_and_all_else_of_it_is_checked(tmp_path):
    unknown = GOOD.replace("buy", "unknown")
    found = events(file(tmp_path, TRADES, GOOD, unknown.replace(",7,", ",8,"), GOOD.replace(",7,", ",9,")))
    assert [type(it) for it in found] == [Trade, Skipped, Trade]
    assert (found[1].first, found[1].last, found[1].after, found[1].exchange_time) == ("8", "8", 7, US * 1_000)
    assert refused(file(tmp_path, TRADES, unknown.replace("1.10", "-1"))).startswith("line 2: ")


def test_quoted_fields_are_read_as_they_were_written(tmp_path):
    rows = [GOOD.replace("binance", "bybit-spot").replace(",7,", f",{it},") for it in ('"a,b"', '"q""r"', "=1+1")]
    assert [it.id for it in events(file(tmp_path, TRADES, *rows))] == ["a,b", 'q"r', "=1+1"]
    assert refused(file(tmp_path, TRADES, GOOD.replace(",7,", ',"7,'))).startswith("line 2: not quoted as in CSV")


def test_of_a_level_more_than_any_book_has_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("onetape.storage.formats.tardis_csv.MOST_LEVELS", 3)
    row = f"binance,BTCUSDT,{US},{US},true,bid,1.1,1"
    assert refused(file(tmp_path, BOOKS, *[row] * 9)).startswith("line 6: more than 3 levels")


# --- files ------------------------------------------------------------------------------------------------------------


def packed(kind, data):
    match kind:
        case "gz":
            return gzip.compress(data)
        case "zst":
            return zstandard.ZstdCompressor().compress(data)
        case "frames":
            half = len(data) // 2
            return b"".join(zstandard.ZstdCompressor().compress(it) for it in (data[:half], data[half:]))
        case "zip":
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("../../etc/passwd", data)
            return out.getvalue()
    return data


KINDS = ["plain", "gz", "zst", "frames", "zip"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is_its_bytes_say_and_not_its_name(kind, tmp_path):
    path = tmp_path / "a.txt"
    rows = "".join(f"{GOOD.replace(',7,', f',{n},')}\n" for n in range(20_000))
    path.write_bytes(packed(kind, f"{TRADES}\r\n{rows}\n\n".encode()))
    heard = []
    file = opened(Wanted(path, TODAY))
    assert [it.id for _, it in file.events(heard.append)] == [str(n) for n in range(20_000)]
    assert heard == sorted(heard)
    assert 0 < heard[-1] <= file.bytes == path.stat().st_size
    assert [it.name for it in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_off_is_refused_wherever_it_was(kind, tmp_path):
    rows = "".join(f"{GOOD.replace(',7,', f',{n * 7919},')}\n" for n in range(500))
    data = packed(kind, f"{TRADES}\n{rows}".encode())
    path = tmp_path / "a.csv"
    for length in (len(data) - 1, len(data) - 5, len(data) // 2, len(data) // 3, 30, 5, 1):
        path.write_bytes(data[:length].rstrip(b"\n") if kind == "plain" else data[:length])
        refused(path)


@pytest.mark.parametrize("kind", ["gz", "zst", "zip"])
def test_a_file_with_a_flipped_bit_is_refused(kind, tmp_path):
    rows = "".join(f"{GOOD.replace(',7,', f',{n * 7919},')}\n" for n in range(500))
    data = bytearray(packed(kind, f"{TRADES}\n{rows}".encode()))
    if kind == "zst":
        data = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(f"{TRADES}\n{rows}".encode()))
    data[len(data) // 2] ^= 16
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize(("data", "said"), [
    (b"", "is empty"), (b"\n", "line 1: no known columns"), (b"\x00" * 100 + b"\n", "line 1 is no text: it has a NUL"),
    (f"{TRADES}\n{GOOD}\n".encode() + b"\xff\xfe\n", "line 3 is no text: it has no UTF-8"),
    (f"{TRADES}\n{GOOD}\n{GOOD}".encode(), "line 3 does not end"),
    (f"{TRADES}\n{GOOD}\n".encode() + b"1" * 10_000_000, "line 3 is longer than 262,144 bytes"),
    (f"{TRADES}\n{GOOD}\n".encode() + b"1" * 10_000_000 + b"\n", "line 3 is longer than 262,144 bytes"),
    (f"{TRADES}\n{GOOD}\n\n{GOOD}\n".encode(), "line 3: an empty line"),
    (f"{TRADES}\n{GOOD}\n{TRADES}\n".encode(), "line 3: "), (f"{TRADES},x\n".encode(), "line 1: no known columns"),
    (b"PK\x03\x04rubbish\n", "is damaged"), (b"\x28\xb5\x2f\xfdrubbish\n", "is damaged"),
    (b"\x1f\x8brubbish\n", "is damaged"),
])
def test_a_file_that_is_none_is_refused_in_one_line(data, said, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(data)
    assert refused(path).startswith(said)
    if len(data) > 100:
        path.write_bytes(gzip.compress(data))
        assert refused(path).startswith(said)


def test_an_archive_of_several_files_a_folder_and_nothing_at_all_are_refused(tmp_path):
    path = zipped(tmp_path, "a", TRADES, GOOD)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("b.csv", "x")
    assert refused(path) == "holds 2 files: unpack it, and import them one by one"
    assert refused(tmp_path) == "is a folder: name a file"
    assert refused(tmp_path / "no.csv") == "cannot be read: No such file or directory"


def test_a_mark_at_the_beginning_is_no_part_of_the_first_row(tmp_path):
    path = tmp_path / "BTCUSDT-aggTrades-2024-08-08.csv"
    for text in (f"{SPOT_AGG}\n", f"{TRADES}\n{GOOD}\n"):
        path.write_text(text, encoding="utf-8-sig")
        assert len(events(path)) == 1


def test_a_format_that_is_named_has_to_be_it(tmp_path):
    path = file(tmp_path, TRADES, GOOD)
    assert opened(Wanted(path, TODAY), "tardis").layout == "trades"
    with pytest.raises(UsageError, match=r"is of tardis \(trades\), not of binance"):
        opened(Wanted(path, TODAY), "binance")


@given(rows=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=30), max_size=30))
def test_lines_come_as_they_were_wherever_blocks_end(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "a"
    path.write_bytes("".join(f"{it}\r\n" for it in rows).encode())
    before, source.BLOCK = source.BLOCK, 97
    try:
        assert list(source.lines(path)) == list(enumerate(rows, 1))
    finally:
        source.BLOCK = before
