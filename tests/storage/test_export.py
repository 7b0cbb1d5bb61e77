"""What leaves a store as a file is what is in it: exact, in order, whole, and read by those whose format it is."""
import ast
import csv
import gzip
import struct
import zipfile
from contextlib import contextmanager
from decimal import Decimal as D

import duckdb
import pytest
from msgspec.structs import replace

from onetape.book import OrderBook
from onetape.clock import DAY, SECOND
from onetape.errors import OneTapeError, UsageError
from onetape.feed.recording import open_recording
from onetape.feed.replay import Replay
from onetape.model import BookDelta, BookSnapshot, Channel, Event, FeedStatus, InstrumentId, Levels, Trade, TrustState
from onetape.pipeline import Policy
from onetape.service.keeper import Keeper
from onetape.storage.compaction import compact
from onetape.storage.formats import flat, hftbacktest, history, tardis
from onetape.storage.formats.recognise import opened
from onetape.storage.formats.rows import Wanted
from onetape.storage.formats.written import written
from onetape.storage.lake import Lake, Selection
from tests.storage.test_lake import BTC, ETH, HOSTILE, NOW, T0, candle, gap, others, snapshot, store_of, trade

TODAY = 2 * 10**18
ALL = Selection()


@contextmanager
def exporting(store):
    with Lake(store) as lake, lake.connect() as duck:
        flat.prepare(duck)
        yield duck


def as_csv(store, table, path, selection=ALL, **more):
    with exporting(store) as duck:
        count = flat.write(duck, table, selection, path, csv=True, **more)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    return rows


def play(recording, venue, store):
    """A recording into a store that keeps deltas; its books as they were at the end."""
    player, time = Replay(open_recording(recording), venue, 0), 0
    events = []
    policy = Policy(deltas=True, snapshot_every_ns=SECOND)
    with Keeper(store, policy, pair_of=player.pair, book_of=player.book, tape_of=player.tape, today=TODAY) as keeper:
        for step in player:
            time = step.input.time
            for _, it in step.outcomes:
                if isinstance(it, Event):
                    keeper.handle(it)
                    events.append(it)
        keeper.finish(time)
    return player, events


# --- tables -----------------------------------------------------------------------------------------------------------


def test_numbers_in_csv_have_the_digits_of_the_wire(tmp_path):
    numbers = ["1.10", "2", "0.000000000000000001", "99999999999999999999.999999999999999999", "100.00000000"]
    store = tmp_path / "s"
    trades = [trade(n, price=it, size=it) for n, it in enumerate(numbers)]
    store_of(store, trades, [candle(T0 + DAY), *others()[:2]])
    rows = as_csv(store, "trades", tmp_path / "a.csv")
    assert [(it["price"], it["size"]) for it in rows] == [(it, it) for it in numbers]
    assert list(rows[0]) == [
        "venue", "pair", "symbol", "channel", "id", "first_id", "last_id", "price", "size", "side", "flags",
        "exchange_time", "received_time", "available_at", "source", "raw"]
    (found,) = as_csv(store, "candles", tmp_path / "b.csv")
    assert (found["open"], found["high"], found["low"], found["volume"], found["quote_volume"], found["vwap"]) == (
        "1.50", "2", "1.000", "12.50", "18.7500", "1.500000000000000001")
    assert [it["bid_price"] for it in as_csv(store, "quotes", tmp_path / "c.csv")] == ["1.10", ""]


def test_a_sum_that_no_decimal_column_takes_is_exact_all_the_same(tmp_path):
    exact = "0.123456789012345678901234567890123456"
    store_of(tmp_path / "s", [candle(T0, quote_volume=D(exact))])
    assert [it["quote_volume"] for it in as_csv(tmp_path / "s", "candles", tmp_path / "a.csv")] == [exact]


@pytest.mark.parametrize("table", flat.TABLES)
def test_every_table_leaves_the_journal_and_the_lake_alike(table, tmp_path):
    store = tmp_path / "s"
    events = [
        [trade(1), trade(2, id=ETH), candle(T0), gap(T0), snapshot(T0), *others()], [trade(3), gap(T0, state="healed")],
    ]
    store_of(store, *events, pairs={BTC: "BTC-USDT"})
    before = as_csv(store, table, tmp_path / "a.csv")
    with exporting(store) as duck:
        rows = flat.write(duck, table, Selection(), tmp_path / "a.parquet", csv=False)
    assert rows == len(before) == duckdb.sql(f"FROM '{tmp_path}/a.parquet'").shape[0]
    assert compact(store, NOW).refused == []
    assert as_csv(store, table, tmp_path / "b.csv") == before
    assert before or table == "coverage"


def test_parquet_holds_exact_decimals_and_the_events_of_books(tmp_path):
    store_of(tmp_path / "s", [trade(1, price="1.10"), snapshot(T0)])
    with exporting(tmp_path / "s") as duck:
        flat.write(duck, "trades", Selection(), tmp_path / "t.parquet", csv=False)
        flat.write(duck, "book_snapshots", Selection(), tmp_path / "b.parquet", csv=False)
    assert duckdb.sql(f"SELECT price, price_digits FROM '{tmp_path}/t.parquet'").fetchall() == [(D("1.10"), 2)]
    sql = f"SELECT body ->> '$.bids[0][0]' FROM '{tmp_path}/b.parquet'"
    assert duckdb.sql(sql).fetchall() == [("1.10",)]


def test_only_what_is_asked_for_leaves_in_the_order_of_its_times(tmp_path):
    store_of(tmp_path / "s", [trade(n, time=T0 + 10 - n, id=BTC if n % 2 else ETH) for n in range(10)])
    chosen = Selection(instruments=frozenset({BTC}), start=T0 + 3, end=T0 + 8)
    rows = as_csv(tmp_path / "s", "trades", tmp_path / "a.csv", chosen)
    assert [int(it["exchange_time"]) - T0 for it in rows] == [3, 5, 7]
    assert {it["symbol"] for it in rows} == {"BTCUSDT"}


def test_of_candles_the_latest_revision_leaves_or_all_of_them(tmp_path):
    store_of(tmp_path / "s", [candle(T0), candle(T0, revision=1, close="1.7"), candle(T0 + 1, interval="1h")])
    one = {"interval": "1m"}
    assert [it["close"] for it in as_csv(tmp_path / "s", "candles", tmp_path / "a.csv", **one)] == ["1.7"]
    both = as_csv(tmp_path / "s", "candles", tmp_path / "a.csv", revisions=True, **one)
    assert [it["close"] for it in both] == ["1.5", "1.7"]


def test_hostile_names_are_only_text(tmp_path):
    store_of(tmp_path / "s", [trade(n, id=InstrumentId("binance", it)) for n, it in enumerate(HOSTILE)])
    assert {it["symbol"] for it in as_csv(tmp_path / "s", "trades", tmp_path / "a'b.csv")} == set(HOSTILE)


def test_a_file_that_fails_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("before")
    with pytest.raises(UsageError, match="is there already"), written(path):
        pass
    with pytest.raises(ZeroDivisionError), written(path, force=True) as aside:  # noqa: PT012 - half of a block
        aside.write_text("half")
        raise ZeroDivisionError
    assert [(it.name, it.read_text()) for it in tmp_path.iterdir()] == [("a.csv", "before")]
    with written(path, force=True) as aside:
        aside.write_text("whole")
    assert [(it.name, it.read_text()) for it in tmp_path.iterdir()] == [("a.csv", "whole")]
    with pytest.raises(UsageError, match="cannot be written"), written(tmp_path / "no" / "a.csv"):
        pass
    with pytest.raises(OneTapeError, match="cannot be written"), written(tmp_path / "b.csv"):
        raise OSError(28, "No space left on device")
    assert not (tmp_path / "b.csv").exists()


# --- Tardis -----------------------------------------------------------------------------------------------------------


def read_back(path):
    return [it for _, it in opened(Wanted(path, TODAY)).events()]


def micro(time):
    return time // 1_000 * 1_000


def test_trades_of_tardis_have_its_columns_and_microseconds(tmp_path):
    usdm = InstrumentId("binance-usdm", "BTCUSDT")
    store_of(tmp_path / "s", [trade(7, id=usdm, price="1.10", size="0.50", time=T0 + 1_999)])
    with exporting(tmp_path / "s") as duck:
        tapes = {usdm: Channel.TRADES}
        assert tardis.write_trades(duck, Selection(), tapes, tmp_path / "a.csv.gz", "gzip") == 1
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()).decode() == (
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        f"binance-futures,BTCUSDT,{T0 // 1_000 + 1},{T0 // 1_000 + 2},7,buy,1.10,0.50\n")


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_what_tardis_gets_comes_back_as_the_same_events(compression, recordings, tmp_path):
    """Trades in their order; of books every message that says something."""
    _, events = play(recordings / "binance" / "usdm_20240808_ethusdt_first60s.jsonl", "binance-usdm", tmp_path / "s")
    with exporting(tmp_path / "s") as duck:
        id = InstrumentId("binance-usdm", "ETHUSDT")
        tardis.write_trades(duck, Selection(), {id: Channel.TRADES}, tmp_path / "trades.csv", compression)
        tardis.write_books(duck, Selection(), tmp_path / "books.csv", compression)
    trades, sent = read_back(tmp_path / "trades.csv"), [it for it in events if isinstance(it, Trade)]
    assert len(trades) > 2_000
    assert [_of_trade(it) for it in trades] == [_of_trade(it) for it in sent]
    books = read_back(tmp_path / "books.csv")
    sent = [it for it in events if isinstance(it, BookDelta | BookSnapshot) and (len(it.bids) or len(it.asks))]
    assert len(books) > 1_000
    assert [_of_book(it) for it in books] == [_of_book(it) for it in sent]


def _of_trade(it):
    return it.id, it.after, it.side, str(it.price), str(it.size), micro(it.exchange_time), micro(it.available_at)


def _of_book(it):
    levels = [[(str(price), str(size)) for price, size in side] for side in (it.bids, it.asks)]
    return type(it), micro(it.exchange_time), micro(it.available_at), levels


def test_views_beside_deltas_are_no_snapshots_and_views_alone_are(tmp_path):
    def view(at, sequence):
        return replace(snapshot(T0 + at, sequence=sequence), depth=1)

    def delta(at, after, sequence):
        return BookDelta(
            venue="binance", symbol="BTCUSDT", exchange_time=T0 + at, received_time=T0 + at, available_at=T0 + at,
            after=after, sequence=sequence, bids=Levels.of([(D(1), D(at))]), asks=Levels.of([]))

    stale = FeedStatus(
        venue="binance", symbol="BTCUSDT", exchange_time=T0, received_time=T0 + 5, available_at=T0 + 5,
        channel=Channel.BOOK, state=TrustState.STALE, since=T0 + 5, reason="a gap")
    beside = [
        snapshot(T0, sequence=1), view(0, 3), delta(0, 1, 2), delta(0, 2, 3), delta(3, 3, 4), view(4, 4), stale,
        snapshot(T0 + 6, sequence=4), delta(7, 4, 5),
    ]
    store_of(tmp_path / "s", [replace(it, symbol="ETHUSDT") for it in (view(1, 5), view(2, 7), view(3, 9))], beside)
    with exporting(tmp_path / "s") as duck:
        history.prepare_books(duck, Selection())
        found = [(it.symbol, it.available_at - T0, it.snapshot) for it in history.books(duck, Selection())]
    assert [it[1:] for it in found if it[0] == "ETHUSDT"] == [(1, True), (2, True), (3, True)]
    assert [it[1:] for it in found if it[0] == "BTCUSDT"] == [
        (0, True), (0, False), (0, False), (3, False), (6, True), (7, False)]


def test_a_time_within_a_book_begins_with_the_book_as_it_was(recordings, tmp_path):
    play(recordings / "binance" / "usdm_20240808_ethusdt_first60s.jsonl", "binance-usdm", tmp_path / "s")
    with exporting(tmp_path / "s") as duck:
        history.prepare_books(duck, Selection())
        whole = list(history.books(duck, Selection()))
        start = whole[len(whole) // 2].exchange_time
        history.prepare_books(duck, Selection(start=start))
        half = list(history.books(duck, Selection(start=start)))
    cut = next(at for at, it in enumerate(whole) if it.exchange_time >= start)
    assert half[1:] == whole[cut:]
    assert half[0].snapshot
    assert (half[0].exchange_time, half[0].available_at) == (whole[cut - 1].exchange_time, whole[cut - 1].available_at)
    assert state_of(half[:1]) == state_of(whole[:cut])
    assert state_of(half) == state_of(whole)


def state_of(messages):
    book = OrderBook()
    for it in messages:
        sides = [Levels.of([(D(price), D(size)) for price, size in side]) for side in (it.bids, it.asks)]
        (book.replace if it.snapshot else book.apply)(*sides)
    return book.bids(), book.asks()


# --- hftbacktest ------------------------------------------------------------------------------------------------------


def array_of(path):
    """Read by hand: the header as NumPy documents it, the rows as hftbacktest declares them."""
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["data.npy"]
        data = archive.read("data.npy")
    assert data[:8] == b"\x93NUMPY\x01\x00"
    (length,) = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0
    head = ast.literal_eval(data[10 : 10 + length].decode())
    assert head["descr"] == [
        ("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"), ("order_id", "<u8"),
        ("ival", "<i8"), ("fval", "<f8")]
    rows = list(struct.iter_unpack("<QqqddQqd", data[10 + length :]))
    assert head["shape"] == (len(rows),)
    assert not head["fortran_order"]
    return rows


def test_events_stand_in_both_orders_split_where_these_differ(tmp_path):
    def printed(number, exchange, ours):
        return trade(number, time=T0 + exchange, received_time=T0 + ours, available_at=T0 + ours, price="1.5")

    store_of(tmp_path / "s", [printed(1, 10, 20), printed(2, 12, 40), printed(3, 15, 30)])
    with exporting(tmp_path / "s") as duck:
        chosen = Selection(instruments=frozenset({BTC}))
        done = hftbacktest.write(duck, chosen, Channel.TRADES, tmp_path / "a.npz")
    both, exchange, local = 3 << 30, 1 << 31, 1 << 30
    buy, sell = 1 << 29 | 2, 1 << 28 | 2
    assert [(ev, exch - T0, ours - T0) for ev, exch, ours, *_ in array_of(tmp_path / "a.npz")] == [
        (both | buy, 10, 20), (exchange | sell, 12, 40), (both | buy, 15, 30), (local | sell, 12, 40)]
    assert (done.rows, done.shifted) == (4, 0)


def test_a_clock_of_ours_that_was_behind_is_put_right(tmp_path):
    store_of(tmp_path / "s", [
        trade(n, time=T0 + n, received_time=T0 + n + late, available_at=T0 + n + late)
        for n, late in ((1, -7), (2, 5))
    ])
    with exporting(tmp_path / "s") as duck:
        chosen = Selection(instruments=frozenset({BTC}))
        assert hftbacktest.write(duck, chosen, Channel.TRADES, tmp_path / "a.npz").shifted == 7
    assert [row[2] - row[1] for row in array_of(tmp_path / "a.npz")] == [0, 12]


def test_a_real_minute_is_in_order_for_the_exchange_and_for_us(recordings, tmp_path):
    recording = recordings / "binance" / "usdm_20240808_ethusdt_first60s.jsonl"
    player, events = play(recording, "binance-usdm", tmp_path / "s")
    id = InstrumentId("binance-usdm", "ETHUSDT")
    with exporting(tmp_path / "s") as duck:
        hftbacktest.write(duck, Selection(instruments=frozenset({id})), Channel.TRADES, tmp_path / "a.npz")
    rows = array_of(tmp_path / "a.npz")
    levels = sum(len(it.bids) + len(it.asks) for it in events if isinstance(it, BookDelta | BookSnapshot))
    expected = sum(isinstance(it, Trade) for it in events) + levels + 2  # a snapshot clears both sides
    for flag, column in ((1 << 31, 1), (1 << 30, 2)):
        times = [row[column] for row in rows if row[0] & flag]
        assert times == sorted(times)
        assert len(times) == expected
    assert all(row[2] >= row[1] for row in rows)
    assert all(row[0] & 3 << 30 for row in rows)
    sides = {1 << 29: {}, 1 << 28: {}}
    for kind, _, _, price, size, *_ in rows:
        if kind & 1 << 30 and kind & 7 in (1, 4):
            sides[kind & 3 << 28][price] = size
    book = player.book(id).book
    for side, held, sign in zip(sides.values(), (book.bids(100), book.asks(100)), (-1, 1), strict=True):
        best = sorted((sign * price, size) for price, size in side.items() if size)[:100]
        assert best == [(sign * float(price), float(size)) for price, size in held]
