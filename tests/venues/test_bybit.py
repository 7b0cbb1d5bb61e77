"""Bybit: what its frames and REST bodies say, and what is sent to it."""
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from onetape.clock import DAY, MILLISECOND, MINUTE, SECOND
from onetape.errors import ClockSkew, GiveUp, TryAgain
from onetape.model import (
    BadLevels,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Instrument,
    InstrumentId,
    Kind,
    Levels,
    Quote,
    Request,
    RestKind,
    Side,
    Skipped,
    Source,
    Subscription,
    Ticker,
    Trade,
    VenueStatus,
)
from onetape.venues.base import UNREADABLE, Acked, Alive, Parsed, Reaction, Refused, Unknown
from onetape.venues.bybit import BARS, Bybit
from tests.venues.books import checksum

D = Decimal
NOW = 1_790_000_001 * SECOND
NAMES = (
    "ack", "unsubscribed", "ack without id", "no handler", "invalid symbol", "too many args", "already", "pong",
    "other pong", "trades", "spot trades", "spot ticker", "ticker", "ticker delta", "candle", "candle day", "best",
    "snapshot", "delta", "restart", "rpi", "status", "liquidation", "option ack", "auth",
)


@pytest.fixture(scope="session")
def frames(fixtures: Path) -> dict[str, bytes]:
    return dict(zip(NAMES, (fixtures / "bybit.jsonl").read_bytes().splitlines(), strict=True))


@pytest.fixture(scope="session")
def bodies(fixtures: Path) -> dict[str, bytes]:
    found = json.loads((fixtures / "bybit_rest.json").read_text())
    return {name: json.dumps(body).encode() for name, body in found.items()}


def at(ms: int) -> dict[str, Any]:
    return {"exchange_time": ms * MILLISECOND, "received_time": NOW, "available_at": NOW}


def levels(*pairs: tuple[str, str]) -> Levels:
    return Levels.of((D(price), D(size)) for price, size in pairs)


def trades(symbol: str = "AAAUSDT") -> Subscription:
    return Subscription(symbol, Channel.TRADES)


def book(symbol: str = "AAAUSDT", depth: int = 200) -> Subscription:
    return Subscription(symbol, Channel.BOOK, depth)


# --- data -----------------------------------------------------------------------------------------------------------


def test_trades(frames):
    trade, skipped = Bybit("linear").parse(frames["trades"], NOW)
    assert trade == Trade(
        venue="bybit", symbol="linear:AAAUSDT", **at(1790000000123), channel=Channel.TRADES,
        id="20f43950-0000-5b31-9112-a178eb6023af", after=None, price=D("101.50"), size=D("0.25"), side=Side.BUY,
    )
    assert skipped == Skipped(
        venue="bybit", symbol="linear:AAAUSDT", **at(1790000000124), channel=Channel.TRADES,
        first="20f43950-0001-5b31-9112-a178eb6023af", last="20f43950-0001-5b31-9112-a178eb6023af", after=None,
        reason="block trade",
    )


def test_spot_trades(frames):
    assert Bybit().parse(frames["spot trades"], NOW) == [Trade(
        venue="bybit", symbol="AAAUSDT", **at(1790000000124), channel=Channel.TRADES, id="2290000000000000007",
        after=None, price=D("101.5"), size=D("0.1"), side=Side.SELL,
    )]


def test_spot_ticker(frames):
    assert Bybit().parse(frames["spot ticker"], NOW) == (Ticker(
        venue="bybit", symbol="AAAUSDT", **at(1790000000126), last=D(103), price_change=D(3),
        price_change_percent=D(3), high=D(104), low=D(98), volume=D("200.5"), quote_volume=D("20202.5"),
    ),)


def test_candle(frames):
    start = 1789999800000 * MILLISECOND
    assert Bybit().parse(frames["candle"], NOW) == [Candle(
        venue="bybit", symbol="AAAUSDT", **at(1790000000128), interval="5m", start=start, end=start + 5 * MINUTE,
        open=D(100), high=D(102), low=D(99), close=D(101), volume=D("12.5"), quote_volume=D("1262.5"), vwap=None,
        trades=None, taker_buy_volume=None, complete=True, final=False, source="venue",
    )]


def test_a_closed_day(frames):
    (day,) = Bybit("linear").parse(frames["candle day"], NOW)
    assert isinstance(day, Candle)
    assert (day.symbol, day.interval, day.final, day.end - day.start) == ("linear:AAAUSDT", "1d", True, DAY)


def test_a_candle_without_a_time_of_its_frame(frames):
    (candle,) = Bybit().parse(frames["candle"].replace(b'"ts":1790000000128,', b""), NOW)
    assert isinstance(candle, Candle)
    assert candle.exchange_time == 1790000000100 * MILLISECOND


def test_best(frames):
    assert Bybit("linear").parse(frames["best"], NOW) == (Quote(
        venue="bybit", symbol="linear:AAAUSDT", **at(1790000000119), bid=(D("101.4"), D(7)), ask=None, sequence=700,
    ),)


def test_snapshot_and_delta(frames):
    bybit = Bybit()
    assert bybit.parse(frames["snapshot"], NOW) == (BookSnapshot(
        venue="bybit", symbol="AAAUSDT", **at(1790000000120), sequence=10, bids=levels(("101.4", "7")),
        asks=levels(("101.6", "8"), ("101.7", "1")), depth=50, verification="sequence",
    ),)
    assert bybit.parse(frames["delta"], NOW) == (BookDelta(
        venue="bybit", symbol="AAAUSDT", **at(1790000000140), after=10, sequence=11, bids=levels(("101.5", "2")),
        asks=levels(("101.6", "0")),
    ),)


def test_a_delta_numbered_1_is_a_restart(frames):
    (delta,) = Bybit().parse(frames["restart"], NOW)
    assert isinstance(delta, BookDelta)
    assert (delta.after, delta.sequence, delta.restart) == (0, 1, True)


@pytest.mark.parametrize("depth", [50, 200, 500, 1_000])
def test_the_topic_tells_the_depth(frames, depth):
    (snapshot,) = Bybit().parse(frames["snapshot"].replace(b"book.50.", b"book.%d." % depth), NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.depth == depth


def test_a_book_without_the_engines_time_has_the_gateways(frames):
    (snapshot,) = Bybit().parse(frames["snapshot"].replace(b',"cts":1790000000120', b""), NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.exchange_time == 1790000000130 * MILLISECOND


def test_status(frames):
    assert Bybit().parse(frames["status"], NOW) == [VenueStatus(
        venue="bybit", symbol="", **at(1790000000131), status="scheduled", message="Spot maintenance",
    )]


@pytest.mark.parametrize(("name", "what"), [
    ("liquidation", "liquidation.AAAUSDT"), ("rpi", "orderbook.rpi"), ("option ack", "?"), ("auth", "auth"),
])
def test_what_is_not_known_is_counted(frames, name, what):
    assert Bybit().parse(frames[name], NOW) == (Unknown(what),)


def test_the_order_of_keys_does_not_matter(frames):
    for name in ("trades", "snapshot", "delta", "best", "ticker", "candle"):
        frame = json.loads(frames[name])
        turned = json.dumps(dict(reversed(frame.items()))).encode()
        assert list(Bybit().parse(turned, NOW)) == list(Bybit().parse(frames[name], NOW))


# --- the two markets ------------------------------------------------------------------------------------------------


def test_the_market_stands_before_the_symbols_of_linear():
    spot, linear = trades("BTCUSDT"), trades("linear:BTCUSDT")
    assert (Bybit.route_of(spot), Bybit.route_of(linear)) == ("spot", "linear")
    expected = b'{"req_id":"1","op":"subscribe","args":["publicTrade.BTCUSDT"]}'
    assert Bybit("spot").subscribe([spot]) == Bybit("linear").subscribe([linear]) == [expected]
    assert set(Bybit.spec.endpoints["production"].websocket) == {"spot", "linear"}


# --- requests and answers -------------------------------------------------------------------------------------------


def test_subscribe_frame():
    wanted = [
        trades(), Subscription("AAAUSDT", Channel.QUOTES), Subscription("AAAUSDT", Channel.TICKER), book(),
        book(depth=0), Subscription("AAAUSDT", Channel.CANDLES, interval="1h"),
    ]
    (frame,) = Bybit().subscribe(wanted)
    assert json.loads(frame) == {"req_id": "1", "op": "subscribe", "args": [
        "publicTrade.AAAUSDT", "orderbook.1.AAAUSDT", "tickers.AAAUSDT", "orderbook.200.AAAUSDT",
        "orderbook.1000.AAAUSDT", "kline.60.AAAUSDT",
    ]}


@pytest.mark.parametrize("channel", [Channel.AGG_TRADES, Channel.STATUS])
def test_what_bybit_lacks_cannot_be_asked_for(channel):
    assert channel not in Bybit.spec.capabilities.channels
    with pytest.raises(ValueError, match="Bybit has no"):
        Bybit().subscribe([Subscription("AAAUSDT", channel)])


def test_a_symbol_cannot_break_out_of_its_frame():
    (frame,) = Bybit().subscribe([trades('X"],"op":"y')])
    assert json.loads(frame)["args"] == ['publicTrade.X"],"op":"y']


def test_one_ack_answers_a_whole_request(frames):
    bybit = Bybit("linear")
    wanted = trades("linear:AAAUSDT"), book("linear:AAAUSDT")
    bybit.subscribe(wanted)
    bybit.unsubscribe(wanted[:1])
    assert bybit.parse(frames["unsubscribed"], NOW) == (Acked(wanted[:1], removed=True),)
    assert bybit.parse(frames["ack"], NOW) == (Acked(wanted),)
    assert bybit.parse(frames["ack"], NOW) == (Acked(()),)


def test_an_ack_without_an_id_names_nothing(frames):
    assert Bybit().parse(frames["ack without id"], NOW) == (Acked(()),)


@pytest.mark.parametrize(("name", "bad"), [
    ("no handler", [book("NOPEUSDT", 1_000)]),
    ("invalid symbol", [book("NOPEUSDT", 1_000), trades("NOPEUSDT")]),
])
def test_the_one_to_blame_is_dropped_and_the_others_asked_for_again(frames, name, bad):
    bybit = Bybit()
    good = [trades(), book()]
    bybit.subscribe([good[0], *bad, good[1]])
    first, second = bybit.parse(frames[name], NOW)
    reason = json.loads(frames[name])["ret_msg"]
    assert first == Refused(tuple(bad), reason, Reaction.DROP)
    assert second == Refused(tuple(good), f"in one request with {reason}", Reaction.RETRY)


def test_already_subscribed_is_harmless(frames):
    bybit = Bybit()
    bybit.subscribe([trades(), book()])
    first, second = bybit.parse(frames["already"], NOW)
    assert first == Refused((trades(),), "error:already subscribed,topic:publicTrade.AAAUSDT", Reaction.IGNORE)
    assert isinstance(second, Refused)
    assert (second.subscriptions, second.reaction) == ((book(),), Reaction.RETRY)


def test_where_nobody_is_named_each_is_next_asked_for_alone(frames):
    bybit = Bybit()
    wanted = trades(), book()
    bybit.subscribe(wanted)
    assert bybit.parse(frames["too many args"], NOW) == (Refused(wanted, "args size >10", Reaction.RETRY),)
    other = trades("BBBUSDT")
    assert [json.loads(it)["args"] for it in bybit.subscribe([*wanted, other])] == [
        ["publicTrade.BBBUSDT"], ["publicTrade.AAAUSDT"], ["orderbook.200.AAAUSDT"],
    ]
    alone = frames["too many args"].replace(b'"1"', b'"3"')
    assert bybit.parse(alone, NOW) == (Refused((trades(),), "args size >10", Reaction.DROP),)
    assert bybit.parse(frames["ack"].replace(b'"1"', b'"4"'), NOW) == (Acked((book(),)),)
    assert len(bybit.subscribe([*wanted, other])) == 1


def test_a_refused_removal_is_harmless(frames):
    bybit = Bybit()
    bybit.unsubscribe([trades(), book()])
    (refused,) = bybit.parse(frames["no handler"].replace(b"orderbook.1000.NOPEUSDT", b"publicTrade.AAAUSDT"), NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.removed) == ((trades(), book()), True)
    assert len(bybit.subscribe([trades(), book()])) == 1  # neither is suspected of anything
    unknown = json.dumps({"success": False, "ret_msg": "no such topic", "op": "unsubscribe"}).encode()
    assert bybit.parse(unknown, NOW) == (Refused((), "no such topic", Reaction.DROP, removed=True),)


@pytest.mark.parametrize("text", ["error:invalid op", "Failed to decode incoming data ..."])
def test_errors_of_nobody(text):
    frame = json.dumps({"success": False, "ret_msg": text, "conn_id": "x"}).encode()
    assert Bybit().parse(frame, NOW) == (Refused((), text, Reaction.DROP),)


def test_requests_never_answered_are_forgotten_in_the_end():
    bybit = Bybit()
    for number in range(500):
        bybit.subscribe([trades(f"C{number}USDT")])
    assert len(bybit._requests) == 64


# --- bad input ------------------------------------------------------------------------------------------------------

DATA = ("trades", "spot ticker", "ticker", "candle", "best", "snapshot", "delta", "status")


@pytest.mark.parametrize("name", DATA)
def test_truncated_frames_are_refused(frames, name):
    bybit = Bybit()
    for cut in range(len(frames[name])):
        with pytest.raises(UNREADABLE) as caught:
            bybit.parse(frames[name][:cut], NOW)
        assert str(caught.value)
    assert bybit._tickers == {}


BAD = [b'"NaN"', b'"-1"', b'"Infinity"', b'"1_0"', b'" 1"', b'"' + b"9" * 40 + b'"', b"{}", b'"\xff"', b"[]", b"true"]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(("name", "good"), [
    ("trades", b'"101.50"'), ("trades", b'"0.25"'), ("trades", b'"Buy"'), ("trades", b"1790000000123"),
    ("ticker", b'"99"'), ("candle", b'"102"'), ("candle", b"1789999800000"), ("candle", b'"5"'), ("best", b'"101.4"'),
    ("best", b"700"), ("snapshot", b"1790000000120"), ("delta", b"11"), ("delta", b'"delta"'),
])
def test_bad_values_are_refused(frames, name, good, bad):
    bybit = Bybit()
    assert good in frames[name]
    with pytest.raises(UNREADABLE) as caught:
        bybit.parse(frames[name].replace(good, bad), NOW)
    assert str(caught.value)
    assert bybit._tickers == {}


@pytest.mark.parametrize("bad", [b"-1", b"1.5", b"9" * 40, b"1e400", b'"11"'])
def test_bad_sequence_numbers_are_refused(frames, bad):
    with pytest.raises(UNREADABLE):
        Bybit().parse(frames["delta"].replace(b'"u":11', b'"u":' + bad), NOW)


@pytest.mark.parametrize("bad", [b"-1", b"99999999999999", b"1.5", b"true"])
def test_bad_times_are_refused(frames, bad):
    with pytest.raises(UNREADABLE):
        Bybit().parse(frames["delta"].replace(b"1790000000140", bad), NOW)


def test_a_candle_ends_within_time(frames, bodies):
    last = b"9223372036854"
    frame = re.sub(rb'"end":\d+', b'"end":' + last, frames["candle"])
    assert frame != frames["candle"]
    with pytest.raises(UNREADABLE, match="without an end"):
        Bybit().parse(frame, NOW)
    request = Bybit().candles_request("AAAUSDT", "1m", 0, SECOND)
    row = [last.decode(), *"1111", "2", "3"]
    body = json.dumps({"retCode": 0, "result": {"list": [row]}, "time": 1790000000000}).encode()
    with pytest.raises(UNREADABLE, match="without an end"):
        Bybit().parse_candles(request, body, NOW)


@pytest.mark.parametrize("bad", ["-1790000000123456789", "", "1", "17900000001234567890123", "1_90000000123456789"])
def test_bad_clocks_are_refused(bad):
    body = json.dumps({"retCode": 0, "result": {"timeNano": bad}}).encode()
    with pytest.raises(UNREADABLE):
        Bybit().parse_time(body)


@pytest.mark.parametrize("bad", [b'["1","2"],5', b'["1"]', b'["-1","2"]', b"[1,2]", b'["1","NaN"]', b'["9e99","1"]'])
def test_bad_levels_show_when_they_are_read(frames, bad):
    (delta,) = Bybit().parse(frames["delta"].replace(b'["101.5","2"]', bad), NOW)
    assert isinstance(delta, BookDelta)
    with pytest.raises(BadLevels):
        delta.bids.read()


@pytest.mark.parametrize("frame", [
    b"", b"pong", b"null", b"5", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"data":' * 100_000, b'{"topic":5}',
    b'{"topic":"orderbook.50.A","type":"delta","data":{"s":"A","u":2,"b":' + b"[" * 100_000,
    b'{"topic":"orderbook","data":{"s":"A","u":2,"b":[],"a":[]}}', b'{"topic":"kline.1","data":[]}',
    b'{"topic":"orderbook.50.A","data":{"s":"A","u":2,"b":[],"a":[]}}',
])
def test_garbage_is_refused(frame):
    with pytest.raises(UNREADABLE) as caught:
        Bybit().parse(frame, NOW)
    assert str(caught.value)


def test_a_bad_delta_of_a_ticker_changes_nothing(frames):
    bybit = Bybit("linear")
    bybit.parse(frames["ticker"], NOW)
    before = dict(bybit._tickers)
    with pytest.raises(UNREADABLE):
        bybit.parse(frames["ticker delta"].replace(b'"201"', b'"NaN"'), NOW)
    assert bybit._tickers == before
    (after,) = bybit.parse(frames["ticker delta"], NOW)
    assert isinstance(after, Ticker)
    assert (after.last, after.high, after.volume) == (D(101), D(104), D(201))


def test_tickers_are_bounded(frames):
    bybit = Bybit()
    for number in range(2 * bybit.spec.limits.subscriptions):
        bybit.parse(frames["spot ticker"].replace(b"AAAUSDT", b"C%d" % number), NOW)
    with pytest.raises(UNREADABLE, match="more tickers"):
        bybit.parse(frames["spot ticker"], NOW)
    assert bybit.parse(frames["spot ticker"].replace(b"AAAUSDT", b"C7"), NOW)


@pytest.mark.parametrize(("frame", "blamed"), [
    (b'{"topic":"orderbook.50.A","type":"del', ("linear:A", Channel.BOOK)),
    (b'{"type":"delta","topic" : "orderbook.200.A",', ("linear:A", Channel.BOOK)),
    (b'{"topic":"orderbook.1.A"', ("linear:A", Channel.QUOTES)),
    (b'{"topic":"publicTrade.A"', ("linear:A", Channel.TRADES)),
    (b'{"topic":"tickers.A"', ("linear:A", Channel.TICKER)),
    (b'{"topic":"kline.15.A"', ("linear:A", Channel.CANDLES)),
    (b'{"topic":"orderbook.50.A', ("", None)), (b'{"topic":"orderbook.50"', ("", None)),
    (b'{"topic":"new.A"', ("", None)), (b'{"topic":"\xff.\xff"', ("", None)), (b"", ("", None)),
])
def test_blame(frame, blamed):
    assert Bybit("linear").blame(frame) == blamed


def test_there_is_no_checksum():
    with pytest.raises(ValueError, match="sums nothing"):
        checksum(Bybit(), "AAAUSDT", [], [])


# --- REST -----------------------------------------------------------------------------------------------------------


def test_time(bodies):
    bybit = Bybit()
    assert bybit.time_request() == Request(RestKind.TIME, "/v5/market/time")
    assert bybit.parse_time(bodies["time"]) == 1790000000423213947


def test_instruments(bodies):
    bybit = Bybit()
    assert [it.path for it in bybit.instrument_requests()] == [
        "/v5/market/instruments-info?category=spot&limit=1000",
        "/v5/market/instruments-info?category=linear&limit=1000",
    ]
    spot, more = bybit.parse_instruments(bodies["instruments_spot"])
    assert more is None
    assert spot == [
        Instrument(
            id=InstrumentId("bybit", "AAAUSDT"), pair="AAA-USDT", base="AAA", quote="USDT", kind=Kind.SPOT,
            tradable=True, status="Trading", tick_size=D("0.01"), lot_size=D("0.000001"), min_size=D("0.00001"),
        ),
        Instrument(
            id=InstrumentId("bybit", "ACMEXUSDT"), pair="", base="ACMEX", quote="USDT", kind=Kind.OTHER, tradable=True,
            status="Trading", tick_size=D("0.01"), lot_size=D("0.01"), min_size=D("0.01"),
        ),
    ]
    linear, _ = bybit.parse_instruments(bodies["instruments_linear"])
    assert linear[0] == Instrument(
        id=InstrumentId("bybit", "linear:AAAUSDT"), pair="AAA-USDT-PERP", base="AAA", quote="USDT",
        kind=Kind.PERPETUAL, tradable=True, status="Trading", tick_size=D("0.10"), lot_size=D("0.001"),
        min_size=D("0.001"),
    )
    assert [(it.id.symbol, it.pair, it.kind, it.tradable, it.min_size) for it in linear[1:]] == [
        ("linear:AAAPERP", "AAA-USDC-PERP", Kind.PERPETUAL, False, None),
        ("linear:AAAUSDT-25DEC26", "", Kind.OTHER, True, D("0.001")),
        ("linear:ACMEUSDT", "", Kind.OTHER, True, D("0.01")),
    ]


@pytest.mark.parametrize(("symbol", "depth", "query", "limit"), [
    ("AAAUSDT", 50, "category=spot&symbol=AAAUSDT&limit=50", 50),
    ("linear:AAAUSDT", 0, "category=linear&symbol=AAAUSDT&limit=1000", 1_000),
    ("linear:AAAUSDT-25DEC26", 5_000, "category=linear&symbol=AAAUSDT-25DEC26&limit=1000", 1_000),
])
def test_book_request(symbol, depth, query, limit):
    request = Bybit().book_request(symbol, depth)
    assert request == Request(RestKind.BOOK, f"/v5/market/orderbook?{query}", symbol, depth=limit)


@pytest.mark.parametrize(("depth", "verification"), [(1_000, "sequence"), (200, "none")])
def test_book(bodies, depth, verification):
    bybit = Bybit()
    request = bybit.book_request("linear:AAAUSDT", depth)
    assert bybit.parse_book(request, bodies["orderbook"], NOW) == BookSnapshot(
        venue="bybit", symbol="linear:AAAUSDT", **at(1790000000139), sequence=77, bids=levels(("101.4", "7")),
        asks=levels(("101.6", "8")), depth=depth, verification=verification,
    )


def test_trades_ascend_without_blocks(bodies):
    bybit = Bybit()
    request = bybit.trades_request("AAAUSDT", None, None, None)
    assert request is not None
    first, second = bybit.parse_trades(request, bodies["trades"], NOW)
    assert first == Trade(
        venue="bybit", symbol="AAAUSDT", **at(1790000000124), channel=Channel.TRADES, id="2290000000000000008",
        after=None, price=D("101.5"), size=D("0.25"), side=Side.BUY, source=Source.BACKFILL,
    )
    assert (second.id, second.side) == ("2290000000000000009", Side.SELL)


def test_candles_ascend(bodies):
    bybit = Bybit()
    request = bybit.candles_request("AAAUSDT", "1m", 1789999920000 * MILLISECOND, 1790000040000 * MILLISECOND)
    first, second = bybit.parse_candles(request, bodies["klines"], NOW + DAY)
    assert (first.start, first.end - first.start, first.final) == (1789999920000 * MILLISECOND, MINUTE, True)
    assert (second.start, second.final) == (1789999980000 * MILLISECOND, False)  # by the server's time, not by ours
    assert (first.symbol, first.volume, first.quote_volume) == ("AAAUSDT", D(5), D(505))


def test_a_month_ends_with_the_calendar(bodies):
    body = bodies["klines"].replace(b"1789999920000", b"1788220800000")
    first, _ = Bybit().parse_candles(Request(RestKind.CANDLES, "", "AAAUSDT", interval="1M"), body, NOW)
    assert first.end - first.start == 30 * DAY  # September


def test_of_a_long_range_the_first_candles_are_asked_for():
    start = 1_789_999_920_000
    request = Bybit().candles_request("AAAUSDT", "1m", start * MILLISECOND, start * MILLISECOND + 10 * DAY)
    assert request.path == (
        f"/v5/market/kline?category=spot&symbol=AAAUSDT&interval=1&start={start}&end={start + 60_000_000 - 1}"
        "&limit=1000"
    )


def body_of(code: int, text: str = "") -> bytes:
    return json.dumps({"retCode": code, "retMsg": text, "result": {}, "time": 1790000000000}).encode()


@pytest.mark.parametrize(("status", "body", "expected"), [
    (200, body_of(10000, "Server Timeout"), TryAgain),
    (200, body_of(10006, "Too many visits!"), TryAgain),
    (200, body_of(10016, "Server error"), TryAgain),
    (200, b"<html>", TryAgain),
    (200, b"\xff", TryAgain),
    (429, b"", TryAgain),
    (502, b"<html>bad gateway</html>", TryAgain),
    (403, b"access too frequent. please wait at least 10 minutes", TryAgain),
    (403, b"The Amazon CloudFront distribution is configured to block access from your country.", GiveUp),
    (200, body_of(10002, "invalid request, please check your server timestamp"), ClockSkew),
    (200, body_of(-1), ClockSkew),
    (200, body_of(10001, "params error: symbol invalid"), GiveUp),
    (200, body_of(10029), GiveUp),
    (200, body_of(10009), GiveUp),
    (404, b"", GiveUp),
    (400, b"<html>", GiveUp),
])
def test_check(status, body, expected):
    with pytest.raises(expected) as caught:
        Bybit().check(status, {}, body)
    assert f"HTTP {status}" in str(caught.value)


def test_waits():
    with pytest.raises(TryAgain) as caught:
        Bybit().check(403, {}, b'{"retMsg":"Access too frequent"}')
    assert caught.value.retry_after_ns == 10 * MINUTE
    with pytest.raises(TryAgain) as caught:
        Bybit().check(200, {"x-bapi-limit-reset-timestamp": "1790000003000"}, body_of(10006))
    assert caught.value.retry_after_ns == 3 * SECOND
    for reset in ("1789999999000", "soon", ""):
        with pytest.raises(TryAgain) as caught:
            Bybit().check(200, {"x-bapi-limit-reset-timestamp": reset}, body_of(10006))
        assert caught.value.retry_after_ns == 0
    with pytest.raises(TryAgain) as caught:
        Bybit().check(200, {"x-bapi-limit-reset-timestamp": "9223372036854"}, body_of(10006))
    assert caught.value.retry_after_ns == 10 * MINUTE  # no ban lasts longer
    with pytest.raises(TryAgain) as caught:
        Bybit().check(503, {"retry-after": "4"}, b"")
    assert caught.value.retry_after_ns == 4 * SECOND


def test_good_answers_pass_and_errors_are_no_empty_ones(bodies):
    bybit = Bybit()
    for name in ("time", "orderbook", "trades", "klines", "instruments_linear"):
        bybit.check(200, {}, bodies[name])
    with pytest.raises(GiveUp, match="10001"):
        bybit.check(200, {}, bodies["error"])
    with pytest.raises(UNREADABLE):
        bybit.parse_instruments(bodies["error"])


def test_requests_are_known_again_by_their_url():
    bybit = Bybit()
    requests = [bybit.time_request(), *bybit.instrument_requests()]
    for symbol in ("AAAUSDT", "linear:AAAUSDT"):
        recent = bybit.trades_request(symbol, None, None, None)
        assert recent is not None
        requests += [bybit.book_request(symbol, 50), bybit.candles_request(symbol, "1w", 0, DAY), recent]
    for request in requests:
        assert bybit.request_of(f"https://api.bybit.com{request.path}") == request
    assert bybit.request_of("https://api.bybit.com/v5/market/kline?category=spot&symbol=A&interval=7") is None
    assert bybit.request_of("https://api.bybit.com/v5/market/tickers?category=spot") is None
    assert bybit.request_of("https://api.bybit.com/v5/market/orderbook?category=inverse&symbol=A") is None


# --- traps ----------------------------------------------------------------------------------------------------------


def test_trap_01_pong_has_two_shapes(frames):
    bybit = Bybit()
    assert bybit.ping(17) == b'{"req_id":"17","op":"ping"}'
    assert bybit.parse(frames["pong"], NOW) == (Alive(17),)
    assert bybit.parse(frames["other pong"], NOW) == (Alive(18),)
    for bare in (b'"req_id":"",', b"", b'"req_id":"x",'):
        assert bybit.parse(frames["pong"].replace(b'"req_id":"17",', bare), NOW) == (Alive(),)
    assert bybit.parse(b'{"args":["1790000000123"],"op":"pong"}', NOW) == (Alive(),)


def test_trap_02_ten_args_a_request():
    wanted = [trades(f"C{number}USDT") for number in range(25)]
    sizes = [len(json.loads(it)["args"]) for it in Bybit().subscribe(wanted)]
    assert sizes == [10, 10, 5]


def test_trap_03_one_bad_topic_does_not_silence_its_batch(frames):
    bybit = Bybit()
    bybit.subscribe([trades(), book("NOPEUSDT", 1_000)])
    again = [it for it in bybit.parse(frames["no handler"], NOW) if isinstance(it, Refused)][1]
    assert again.reaction is Reaction.RETRY
    assert json.loads(bybit.subscribe(again.subscriptions)[0])["args"] == ["publicTrade.AAAUSDT"]


def test_trap_04_deltas_of_a_ticker_are_merged(frames):
    bybit = Bybit("linear")
    assert bybit.parse(frames["ticker delta"], NOW) == (Unknown("a ticker's delta before its snapshot"),)
    bybit.parse(frames["ticker"], NOW)
    assert bybit.parse(frames["ticker delta"], NOW) == (Ticker(
        venue="bybit", symbol="linear:AAAUSDT", **at(1790000000227), last=D(101), price_change=D(1),
        price_change_percent=D("1.00"), high=D(104), low=D(98), volume=D(201), quote_volume=D("20202.5"),
    ),)
    emptied = frames["ticker delta"].replace(b'"lastPrice":"101"', b'"highPrice24h":""')
    (ticker,) = bybit.parse(emptied, NOW)
    assert isinstance(ticker, Ticker)
    assert (ticker.last, ticker.high) == (D(101), None)
    (renewed,) = bybit.parse(frames["ticker"].replace(b'"highPrice24h":"104",', b""), NOW)
    assert isinstance(renewed, Ticker)
    assert (renewed.last, renewed.high, renewed.price_change_percent) == (D(99), None, D("-1.00"))


def test_trap_04_fields_of_a_trade_may_be_missing(frames):
    lean = frames["spot trades"].replace(b',"BT":false,"RPI":true', b"")
    assert Bybit().parse(lean, NOW) == Bybit().parse(frames["spot trades"], NOW)


def test_trap_05_a_snapshot_of_trades_is_no_reset(frames):
    (trade, _) = Bybit().parse(frames["trades"], NOW)
    assert isinstance(trade, Trade)
    assert trade.source is Source.LIVE


def test_trap_06_the_best_comes_again_with_the_same_number(frames):
    bybit = Bybit()
    assert bybit.parse(frames["best"], NOW) == bybit.parse(frames["best"], NOW)


def test_trap_06_an_old_delta_of_the_best_is_no_quote(frames):
    old = frames["best"].replace(b"snapshot", b"delta")
    assert Bybit().parse(old, NOW) == (Unknown("orderbook.1 delta"),)


def test_trap_07_a_snapshot_numbered_1_is_a_snapshot(frames):
    (snapshot,) = Bybit().parse(frames["snapshot"].replace(b'"u":10', b'"u":1'), NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.sequence == 1


def test_trap_08_times_come_as_numbers_and_as_text(frames):
    for name, time in (("delta", b"1790000000140"), ("trades", b"1790000000123"), ("candle", b"1789999800000")):
        as_text = frames[name].replace(time, b'"' + time + b'"')
        assert list(Bybit().parse(as_text, NOW)) == list(Bybit().parse(frames[name], NOW))


def test_trap_09_the_category_is_always_named():
    bybit = Bybit()
    for symbol, category in (("AAAUSDT", "spot"), ("linear:AAAUSDT", "linear")):
        recent = bybit.trades_request(symbol, None, None, None)
        assert recent is not None
        for request in (bybit.book_request(symbol, 50), bybit.candles_request(symbol, "1m", 0, DAY), recent):
            assert f"?category={category}&symbol=AAAUSDT&" in request.path
    assert all("category=" in it.path for it in bybit.instrument_requests())


def test_trap_10_the_list_goes_on(bodies):
    bybit = Bybit()
    _, more = bybit.parse_instruments(bodies["instruments_linear"])
    assert more == Request(
        RestKind.INSTRUMENTS,
        "/v5/market/instruments-info?category=linear&limit=1000&cursor=first%3DAAAUSDT%26last%3DACMEUSDT",
    )
    for end in (b'""', b"null"):
        body = bodies["instruments_linear"].replace(b'"first%3DAAAUSDT%26last%3DACMEUSDT"', end)
        assert bybit.parse_instruments(body)[1] is None


def test_trap_11_recent_trades_are_few_and_have_no_pages():
    bybit = Bybit()
    spot = bybit.trades_request("AAAUSDT", "5", "9", None)
    linear = bybit.trades_request("linear:AAAUSDT", None, None, NOW)
    assert spot is not None
    assert linear is not None
    assert spot.path == "/v5/market/recent-trade?category=spot&symbol=AAAUSDT&limit=60"
    assert linear.path == "/v5/market/recent-trade?category=linear&symbol=AAAUSDT&limit=1000"


def test_trap_12_ids_are_text_and_prove_nothing(frames):
    for route, name in (("linear", "trades"), ("spot", "spot trades")):
        trade = Bybit(route).parse(frames[name], NOW)[0]
        assert isinstance(trade, Trade)
        assert isinstance(trade.id, str)
        assert trade.after is None


def test_trap_12_trades_are_sorted_by_time_and_not_by_id(bodies):
    body = json.loads(bodies["trades"])
    body["result"]["list"][2]["execId"] = "9990000000000000000"
    request = Request(RestKind.TRADES, "", "AAAUSDT", channel=Channel.TRADES)
    assert [it.id for it in Bybit().parse_trades(request, json.dumps(body).encode(), NOW)] == [
        "9990000000000000000", "2290000000000000009",
    ]


def test_trap_15_the_demo_streams_from_mainnet():
    endpoints = Bybit.spec.endpoints
    assert endpoints["demo"].websocket == endpoints["production"].websocket


def test_trap_17_fills_of_rpi_orders_are_trades(frames):
    (trade,) = Bybit().parse(frames["spot trades"], NOW)
    assert isinstance(trade, Trade)


def test_trap_18_a_perpetual_on_its_way_out_is_tradable_until_it_closes(bodies):
    perpetual = Bybit().parse_instruments(bodies["instruments_linear"])[0][0]
    assert (perpetual.kind, perpetual.tradable) == (Kind.PERPETUAL, True)
    closed = bodies["instruments_linear"].replace(b'"status": "Trading"', b'"status": "Closed"')
    assert not any(it.tradable for it in Bybit().parse_instruments(closed)[0])


def test_intervals():
    assert set(Bybit.spec.capabilities.intervals) == set(BARS)
    assert len(set(BARS.values())) == len(BARS)


# --- what Bybit really sent -----------------------------------------------------------------------------------------


def parsed_of(bybit: Bybit, path: Path) -> list[Parsed]:
    out: list[Parsed] = []
    for frame in path.read_bytes().splitlines():
        events = bybit.parse(frame, NOW)
        assert events
        out += events
    assert not [it for it in out if isinstance(it, Unknown | Refused)]
    return out


def chained(parsed: list[Parsed]) -> dict[str, int]:
    """Books by symbol, with the number of deltas that continue without a gap."""
    here: dict[str, int] = {}
    steps: dict[str, int] = {}
    for it in parsed:
        if isinstance(it, BookSnapshot):
            assert len(it.bids) == len(it.asks) == it.depth
            here[it.symbol] = it.sequence
        elif isinstance(it, BookDelta):
            assert it.bids.read() or it.asks.read()
            assert it.after == here[it.symbol]
            here[it.symbol] = it.sequence
            steps[it.symbol] = steps.get(it.symbol, 0) + 1
    return steps


def test_recording_of_spot(recordings):
    parsed = parsed_of(Bybit("spot"), recordings / "bybit" / "v5_20260809_spot.jsonl")
    steps = chained(parsed)
    assert (set(steps), sum(steps.values())) == ({"BTCUSDT", "ETHUSDT"}, 548)
    assert {Trade, Ticker, Candle, Acked} <= {type(it) for it in parsed}


def test_recording_of_linear(recordings):
    path = recordings / "bybit" / "v5_20241201_linear_xrpusdt_ob500.jsonl"
    assert chained(parsed_of(Bybit("linear"), path)) == {"linear:XRPUSDT": 49}


def test_samples_parse(recordings):
    """Many are of the API before v5: those are of a kind unknown to us."""
    kinds: set[str] = set()
    for path in sorted((recordings / "bybit" / "samples").glob("*.jsonl")):
        bybit = Bybit()
        for line in path.read_bytes().splitlines():
            inner = json.loads(line).get("msg")
            frame = json.dumps(inner, separators=(",", ":")).encode() if isinstance(inner, dict) else line
            kinds |= {type(it).__name__ for it in bybit.parse(frame, NOW)}
    assert kinds == {"Trade", "Ticker", "Quote", "BookSnapshot", "BookDelta", "Unknown"}


def test_rest_samples_parse(recordings):
    bybit = Bybit()
    counts = {}
    for path in sorted((recordings / "bybit" / "v5_20260809.rest").glob("*.json")):
        rows = json.loads(path.read_text())["result"]["list"]
        found, more = bybit.parse_instruments(path.read_bytes())
        assert (len(found), more) == (len(rows), None)
        pairs = [it.pair for it in found if it.kind is not Kind.OTHER]
        assert len(pairs) == len(set(pairs))
        counts[path.name[:2]] = len(pairs)
    assert counts["00"] < 800  # the dated futures and the stocks are not offered
    folder = recordings / "bybit" / "samples" / "nautilus"
    offered = {}
    for path in sorted(folder.glob("http_get_instruments_*.json")):
        found, _ = bybit.parse_instruments(path.read_bytes())
        offered[path.stem.removeprefix("http_get_instruments_")] = [it.pair for it in found]
    assert offered["linear"] == ["BTC-USDT-PERP", "ETH-USDT-PERP"]
    assert offered["spot"] == ["BTC-USDT", "ETH-USDT"]
    assert offered["inverse"] == offered["option"] == offered["option_symbol_id"] == []
    candles = Request(RestKind.CANDLES, "", "linear:BTCUSDT", interval="1m")
    assert len(bybit.parse_candles(candles, (folder / "http_get_klines_linear.json").read_bytes(), NOW)) == 1
    recent = Request(RestKind.TRADES, "", "linear:BTCUSDT", channel=Channel.TRADES)
    assert len(bybit.parse_trades(recent, (folder / "http_get_trades_recent.json").read_bytes(), NOW)) == 1
