"""OKX: what its frames and REST bodies say, and what is sent to it."""
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from onetape.clock import DAY, MILLISECOND, MINUTE, SECOND
from onetape.credentials import Credentials, Secret
from onetape.errors import ClockSkew, GiveUp, TryAgain
from onetape.model import (
    BadLevels,
    BookDelta,
    BookSnapshot,
    Candle,
    Change,
    Channel,
    Instrument,
    InstrumentChanged,
    InstrumentId,
    Kind,
    Levels,
    Quote,
    Request,
    RestKind,
    Side,
    Source,
    Subscription,
    Ticker,
    Trade,
    VenueStatus,
)
from onetape.model.numbers import level_number
from onetape.venues.base import UNREADABLE, Acked, Alive, LoginRefused, Notice, Parsed, Reaction, Refused, Unknown
from onetape.venues.okx import BARS, INTERVALS, Okx
from tests.venues.books import checksum

D = Decimal
NOW = 1_790_000_001 * SECOND
NAMES = (
    "ack", "unsubscribed", "refused", "notice", "pong", "trades", "trades-all", "ticker", "ticker empty", "bbo",
    "candle", "candle day", "candle month", "books5", "snapshot", "update", "heartbeat", "reset", "old snapshot",
    "old update", "status", "instruments", "funding", "candle utc8", "unknown event",
)


@pytest.fixture(scope="session")
def frames(fixtures: Path) -> dict[str, bytes]:
    return dict(zip(NAMES, (fixtures / "okx.jsonl").read_bytes().splitlines(), strict=True))


@pytest.fixture(scope="session")
def bodies(fixtures: Path) -> dict[str, bytes]:
    found = json.loads((fixtures / "okx_rest.json").read_text())
    return {name: json.dumps(body).encode() for name, body in found.items()}


def at(ms: int) -> dict[str, Any]:
    return {"exchange_time": ms * MILLISECOND, "received_time": NOW, "available_at": NOW}


def levels(*pairs: tuple[str, str]) -> Levels:
    return Levels.of((D(price), D(size)) for price, size in pairs)


def book(symbol: str = "AAA-USDT", depth: int = 400) -> Subscription:
    return Subscription(symbol, Channel.BOOK, depth)


# --- data -----------------------------------------------------------------------------------------------------------


def test_trades_all_are_single_matches(frames):
    first, second = Okx("business").parse(frames["trades-all"], NOW)
    assert first == Trade(
        venue="okx", symbol="AAA-USDT", **at(1790000000124), channel=Channel.TRADES, id="9001", after=9000,
        price=D("101.5"), size=D("0.25"), side=Side.BUY,
    )
    assert isinstance(second, Trade)
    assert (second.id, second.after, second.side, second.source) == ("9002", 9001, Side.SELL, Source.LIVE)


def test_trades_are_aggregates(frames):
    assert Okx().parse(frames["trades"], NOW) == [Trade(
        venue="okx", symbol="AAA-USDT-SWAP", **at(1790000000123), channel=Channel.AGG_TRADES, id="7003", after=7000,
        price=D("101.5"), size=D(12), side=Side.SELL, first_id="7001", last_id="7003",
    )]


def test_an_aggregate_without_a_count_is_one_match(frames):
    (trade,) = Okx().parse(frames["trades"].replace(b'"count":"3",', b""), NOW)
    assert isinstance(trade, Trade)
    assert (trade.after, trade.first_id, trade.last_id) == (7002, "7003", "7003")


def test_ticker(frames):
    assert Okx().parse(frames["ticker"], NOW) == [Ticker(
        venue="okx", symbol="AAA-USDT", **at(1790000000126), last=D(103), price_change=D(4),
        price_change_percent=D("4.040404"), high=D(104), low=D(98), volume=D("200.5"), quote_volume=D("20202.5"),
    )]


def test_what_a_ticker_leaves_empty_is_none(frames):
    assert Okx().parse(frames["ticker empty"], NOW) == [Ticker(
        venue="okx", symbol="AAA-USDT-SWAP", **at(1790000000127), last=None, price_change=None,
        price_change_percent=None, high=None, low=None, volume=D(2050), quote_volume=None,
    )]


def test_a_side_of_a_quote_may_be_empty(frames):
    assert Okx().parse(frames["bbo"], NOW) == [Quote(
        venue="okx", symbol="AAA-USDT", **at(1790000000128), bid=None, ask=(D("101.6"), D(8)), sequence=600,
    )]


def test_candle(frames):
    start = 1789999980000 * MILLISECOND
    assert Okx("business").parse(frames["candle"], NOW) == [Candle(
        venue="okx", symbol="AAA-USDT", exchange_time=NOW, received_time=NOW, available_at=NOW, interval="1m",
        start=start, end=start + MINUTE, open=D(100), high=D("102.5"), low=D("99.5"), close=D(101), volume=D("12.5"),
        quote_volume=D("1263.5"), vwap=None, trades=None, taker_buy_volume=None, complete=True, final=False,
        source="venue",
    )]


def test_a_closed_day(frames):
    (day,) = Okx("business").parse(frames["candle day"], NOW)
    assert isinstance(day, Candle)
    assert (day.interval, day.final, day.end - day.start) == ("1d", True, DAY)
    assert day.start % DAY == 0
    assert day.exchange_time == day.end
    assert (day.volume, day.quote_volume) == (D(5000), D(5250))


def test_a_month_ends_with_the_calendar(frames):
    (month,) = Okx("business").parse(frames["candle month"], NOW)
    assert isinstance(month, Candle)
    assert (month.interval, month.end - month.start) == ("1M", 30 * DAY)  # September


def test_old_candles_are_final_when_their_time_is_over():
    frame = b'{"arg":{"channel":"candle1m","instId":"A-B"},"data":[["1654154580000","2","4","1","3","5","6"]]}'
    (candle,) = Okx().parse(frame, NOW)
    (running,) = Okx().parse(frame, 1654154580001 * MILLISECOND)
    assert isinstance(candle, Candle)
    assert isinstance(running, Candle)
    assert (candle.final, candle.quote_volume, running.final) == (True, None, False)


def test_books5_replace_one_another(frames):
    assert Okx().parse(frames["books5"], NOW) == (BookSnapshot(
        venue="okx", symbol="AAA-USDT", **at(1790000000129), sequence=601, bids=levels(("101.4", "7")),
        asks=levels(("101.6", "8")), depth=5, verification="none",
    ),)


def test_snapshot_and_update(frames):
    okx = Okx()
    assert okx.parse(frames["snapshot"], NOW) == (BookSnapshot(
        venue="okx", symbol="AAA-USDT", **at(1790000000130), sequence=10, bids=levels(("101.4", "7")),
        asks=levels(("101.6", "8"), ("101.7", "1")), depth=400, verification="sequence",
    ),)
    assert okx.parse(frames["update"], NOW) == (BookDelta(
        venue="okx", symbol="AAA-USDT", **at(1790000000230), after=10, sequence=15, bids=levels(("101.5", "2")),
        asks=levels(("101.6", "0")),
    ),)


def test_books_without_numbers_are_counted_and_summed(frames):
    okx = Okx()
    (snapshot,) = okx.parse(frames["old snapshot"], NOW)
    (update,) = okx.parse(frames["old update"], NOW)
    (third,) = okx.parse(frames["old update"], NOW)
    (other,) = okx.parse(frames["old update"].replace(b"BBB", b"CCC"), NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.sequence, snapshot.checksum, snapshot.verification) == (1, 831078360, "checksum(25)")
    assert [(it.after, it.sequence, it.checksum) for it in (update, third, other) if isinstance(it, BookDelta)] == [
        (1, 2, -7), (2, 3, -7), (0, 1, -7),
    ]
    assert checksum(okx, "BBB-USDT", snapshot.bids.read(), snapshot.asks.read()) == snapshot.checksum


@pytest.mark.parametrize(("channel", "depth"), [(b"books50-l2-tbt", 50), (b"books-l2-tbt", 400)])
def test_depth_of_the_channels_of_recordings(frames, channel, depth):
    (snapshot,) = Okx().parse(frames["snapshot"].replace(b'"books"', b'"' + channel + b'"'), NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.depth == depth


def test_status(frames):
    assert Okx().parse(frames["status"], NOW) == [VenueStatus(
        venue="okx", symbol="", **at(1790000000131), status="scheduled", message="Spot System Upgrade",
    )]


def test_instruments_channel_passes_over_what_is_not_filled(frames):
    assert Okx().parse(frames["instruments"], NOW) == [InstrumentChanged(
        venue="okx", received_time=NOW, available_at=NOW, change=Change.UPDATED, instrument=Instrument(
            id=InstrumentId("okx", "AAA-USDT"), pair="AAA-USDT", base="AAA", quote="USDT", kind=Kind.SPOT,
            tradable=False, status="suspend", tick_size=D("0.1"), lot_size=D("0.0001"), min_size=D("0.001"),
            may_cross=True,
        ),
    )]


@pytest.mark.parametrize(("name", "what"), [
    ("funding", "funding-rate"), ("candle utc8", "candle1D"), ("unknown event", "channel-conn-count"),
])
def test_what_is_not_known_is_counted(frames, name, what):
    assert list(Okx().parse(frames[name], NOW)) == [Unknown(what)]


def test_the_order_of_keys_does_not_matter(frames):
    for name in ("trades", "snapshot", "ticker", "candle"):
        frame = json.loads(frames[name])
        turned = json.dumps(dict(reversed(frame.items()))).encode()
        assert list(Okx().parse(turned, NOW)) == list(Okx().parse(frames[name], NOW))


# --- requests and answers -------------------------------------------------------------------------------------------


def test_subscribe_frames():
    wanted = [
        Subscription("AAA-USDT", Channel.AGG_TRADES), Subscription("AAA-USDT", Channel.QUOTES),
        Subscription("AAA-USDT", Channel.TICKER), book(), book(depth=5), Subscription("", Channel.STATUS),
    ]
    (frame,) = Okx().subscribe(wanted)
    assert json.loads(frame) == {"id": "1", "op": "subscribe", "args": [
        {"channel": "trades", "instId": "AAA-USDT"}, {"channel": "bbo-tbt", "instId": "AAA-USDT"},
        {"channel": "tickers", "instId": "AAA-USDT"}, {"channel": "books", "instId": "AAA-USDT"},
        {"channel": "books5", "instId": "AAA-USDT"}, {"channel": "status"},
    ]}
    assert {Okx.route_of(it) for it in wanted} == {"public"}


def test_unsubscribe_frame():
    okx = Okx()
    okx.subscribe([book()])
    assert okx.unsubscribe([book()]) == [
        b'{"id":"2","op":"unsubscribe","args":[{"channel":"books","instId":"AAA-USDT"}]}'
    ]


def test_a_symbol_cannot_break_out_of_its_frame():
    (frame,) = Okx().subscribe([book('X"}],"op":"y')])
    assert json.loads(frame)["args"] == [{"channel": "books", "instId": 'X"}],"op":"y'}]


def test_long_requests_are_split():
    wanted = [book(f"COIN{number}-USDT") for number in range(2_000)]
    frames = Okx().subscribe(wanted)
    assert len(frames) > 1
    assert max(map(len, frames)) <= Okx.spec.limits.frame_bytes
    assert [arg["instId"] for frame in frames for arg in json.loads(frame)["args"]] == [it.symbol for it in wanted]


def test_each_arg_is_acked_by_itself(frames):
    okx = Okx()
    asked = book(depth=200)  # what was asked for is what is acked, though OKX calls it the same as 400
    okx.subscribe([asked, Subscription("AAA-USDT", Channel.TICKER)])
    okx.unsubscribe([asked])
    assert okx.parse(frames["ack"], NOW) == (Acked((asked,)),)
    assert okx.parse(frames["unsubscribed"], NOW) == (Acked((asked,), removed=True),)


def test_acks_of_recordings_name_their_subscription():
    ack = b'{"event":"subscribe","arg":{"channel":"%s","instId":"A-B"}}'
    assert Okx().parse(ack % b"candle1Wutc", NOW) == (Acked((Subscription("A-B", Channel.CANDLES, interval="1w"),)),)
    assert Okx().parse(ack % b"books5", NOW) == (Acked((book("A-B", 5),)),)
    assert Okx().parse(ack % b"open-interest", NOW) == (Unknown("subscribe open-interest"),)


def test_a_refusal_names_the_one_that_failed(frames):
    okx = Okx()
    wanted = [book(depth=5), book("NOPE-USDT", 5)]
    okx.subscribe(wanted)
    (refused,) = okx.parse(frames["refused"], NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.reaction) == ((wanted[1],), Reaction.DROP)
    assert refused.reason.startswith("60018: Wrong URL or channel")


def error(code: str, msg: str = "", id: str = "1") -> bytes:
    return json.dumps({"id": id, "event": "error", "code": code, "msg": msg, "connId": "x"}).encode()


@pytest.mark.parametrize(("code", "reaction"), [
    ("60012", Reaction.DROP), ("60013", Reaction.DROP), ("60014", Reaction.RECONNECT), ("63999", Reaction.RETRY),
    ("64007", Reaction.RETRY),
])
def test_errors_of_a_whole_request(code, reaction):
    okx = Okx()
    wanted = book(), book("BBB-USDT")
    okx.subscribe(wanted)
    assert okx.parse(error(code, "so it is"), NOW) == (Refused(wanted, f"{code}: so it is", reaction),)
    assert okx.parse(error(code, "so it is"), NOW) == (Refused((), f"{code}: so it is", reaction),)


@pytest.mark.parametrize(("code", "msg"), [
    ("60014", "too many"), ("60018", "channel:books,instId:AAA-USDT doesn't exist"), ("64003", "no"),
])
def test_a_refused_removal_says_so(code, msg):
    okx = Okx()
    okx.unsubscribe([book()])
    (refused,) = okx.parse(error(code, msg), NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.removed) == ((book(),), True)
    okx.subscribe([book()])
    (refused,) = okx.parse(error(code, msg, "2"), NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.removed) == ((book(),), False)


def test_books_are_few_and_never_silent_for_long():
    assert Okx.spec.limits.books == 30
    assert Okx.spec.book.silence_ns == 75 * SECOND  # an unchanged one repeats its number after 60 s


@pytest.mark.parametrize(("code", "reaction"), [
    ("60011", Reaction.DROP), ("60027", Reaction.DROP), ("64000", Reaction.DROP), ("64001", Reaction.DROP),
    ("64003", Reaction.DROP), ("99999", Reaction.DROP),
])
def test_errors_that_name_nothing_concern_the_only_one_there_is(code, reaction):
    okx = Okx()
    okx.subscribe([book()])
    assert okx.parse(error(code, "no"), NOW) == (Refused((book(),), f"{code}: no", reaction),)
    okx.subscribe([book(), book("BBB-USDT")])
    assert okx.parse(error(code, "no", "2"), NOW) == (Refused((), f"{code}: no", reaction),)


@pytest.mark.parametrize("code", ["60005", "60007", "60009", "60024", "60032"])
def test_a_login_that_is_wrong_stays_wrong(code):
    okx = Okx()
    okx.subscribe([book()])
    assert okx.parse(error(code, "no", ""), NOW) == (LoginRefused(f"{code}: no"),)


@pytest.mark.parametrize("code", ["60004", "60006", "60022", "60023"])
def test_a_login_that_came_late_is_tried_on_another_connection(code):
    okx = Okx()
    okx.subscribe([book()])
    assert okx.parse(error(code, "no", ""), NOW) == (Refused((), f"{code}: no", Reaction.RECONNECT),)


def test_it_logs_in_before_it_subscribes():
    mine = Credentials("okx", Secret("k"), Secret("demo-secret"), Secret("p"))
    (frame,) = Okx().login(mine, 1_700_000_000 * SECOND + 1)
    assert json.loads(frame)["args"][0]["sign"] == "Dbj9TeBlK6iGESGeYVhsS/TxSP5cMwR5L9xvZYI1RMo="
    (frame,) = Okx().subscribe([book()])
    assert Okx().signed(frame, mine, NOW) == frame
    assert Okx().parse(b'{"event":"login","code":"0","msg":"","connId":"a"}', NOW) == (Unknown("login"),)


def test_requests_never_answered_are_forgotten_in_the_end():
    okx = Okx()
    for number in range(500):
        okx.subscribe([book(f"C{number}-USDT")])
    assert len(okx._requests) == 64


def test_upgrade_notice(frames):
    (notice,) = Okx().parse(frames["notice"], NOW)
    assert notice == Notice(
        "64008: The connection will soon be closed for a service upgrade. Please reconnect."
    )
    assert Okx().parse(b'{"event":"notice","code":"1","msg":"hello"}', NOW) == (Unknown("notice"),)


# --- bad input ------------------------------------------------------------------------------------------------------

DATA = ("trades", "trades-all", "ticker", "bbo", "candle", "books5", "snapshot", "update", "old update", "status")


@pytest.mark.parametrize("name", DATA)
def test_truncated_frames_are_refused(frames, name):
    okx = Okx()
    for cut in range(1, len(frames[name])):
        with pytest.raises(UNREADABLE) as caught:
            okx.parse(frames[name][:cut], NOW)
        assert str(caught.value)
    assert okx._arrivals == {}


BAD = [b'"NaN"', b'"-1"', b'"Infinity"', b'"1_0"', b'" 1"', b'"' + b"9" * 40 + b'"', b"null", b"{}", b'"\xff"', b'""']


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(("name", "good"), [
    ("trades", b'"101.5"'), ("trades", b'"12"'), ("trades", b'"7003"'), ("trades", b'"1790000000123"'),
    ("trades", b'"3"'), ("trades", b'"sell"'), ("trades-all", b'"9002"'), ("trades-all", b'"0.25"'),
    ("bbo", b'"101.6"'), ("bbo", b'"8"'), ("bbo", b'"1790000000128"'), ("candle", b'"1789999980000"'),
    ("candle", b'"102.5"'), ("candle", b'"12.5"'), ("snapshot", b'"1790000000130"'), ("update", b'"1790000000230"'),
    ("old update", b'"1626995753010"'), ("ticker", b'"1790000000126"'),
])
def test_bad_values_are_refused(frames, name, good, bad):
    okx = Okx()
    assert good in frames[name]
    with pytest.raises(UNREADABLE) as caught:
        okx.parse(frames[name].replace(good, bad), NOW)
    assert str(caught.value)
    assert okx._arrivals == {}


@pytest.mark.parametrize("bad", [
    b'"prevSeqId":"10"', b'"prevSeqId":null', b'"prevSeqId":-2', b'"prevSeqId":1e400', b'"prevSeqId":' + b"9" * 40,
])
def test_bad_sequence_numbers_are_refused(frames, bad):
    with pytest.raises(UNREADABLE):
        Okx().parse(frames["update"].replace(b'"prevSeqId":10', bad), NOW)


@pytest.mark.parametrize("bad", [b"-1", b"9223372036854775808", b'"15"'])
def test_no_book_has_a_negative_or_endless_number(frames, bad):
    frame = re.sub(rb'"seqId":\d+', b'"seqId":' + bad, frames["update"])
    assert frame != frames["update"]
    with pytest.raises(UNREADABLE):
        Okx().parse(frame, NOW)


def test_a_candle_ends_within_time(frames):
    frame = frames["candle"].replace(b"1789999980000", b"9223372036854")
    assert frame != frames["candle"]
    with pytest.raises(UNREADABLE, match="without an end"):
        Okx().parse(frame, NOW)


@pytest.mark.parametrize(("old", "new"), [
    (b'"action":"update"', b'"action":"patch"'), (b'"action":"update",', b""), (b'"instId"', b'"instID"'),
    (b'"bids":', b'"beds":'),
])
def test_books_of_another_shape_are_refused(frames, old, new):
    with pytest.raises(UNREADABLE):
        Okx().parse(frames["update"].replace(old, new), NOW)


def test_a_message_holds_one_book():
    with pytest.raises(UNREADABLE, match="0 books in one message"):
        Okx().parse(b'{"arg":{"channel":"books","instId":"A-B"},"action":"update","data":[]}', NOW)


@pytest.mark.parametrize("bad", [b'["1","2"],5', b'["1"]', b'["-1","2"]', b"[1,2]", b'["1","NaN"]', b'["9e99","1"]'])
def test_bad_levels_show_when_they_are_read(frames, bad):
    (delta,) = Okx().parse(frames["update"].replace(b'["101.5","2","0","1"]', bad), NOW)
    assert isinstance(delta, BookDelta)
    with pytest.raises(BadLevels):
        delta.bids.read()


@pytest.mark.parametrize("frame", [
    b"", b"p", b"null", b"5", b'"pong"', b"[]", b"\xff\xfe", b"[" * 100_000, b'{"arg":' * 100_000, b'{"event":5}',
    b'{"arg":{"channel":"books","instId":"A-B"},"action":"update","data":[{"asks":' + b"[" * 100_000,
])
def test_garbage_is_refused(frame):
    with pytest.raises(UNREADABLE) as caught:
        Okx().parse(frame, NOW)
    assert str(caught.value)


@pytest.mark.parametrize("count", [b'"0"', b'"7005"'])
def test_an_aggregate_of_an_impossible_count_is_refused(frames, count):
    with pytest.raises(UNREADABLE, match="merges"):
        Okx().parse(frames["trades"].replace(b'"count":"3"', b'"count":' + count), NOW)


def test_books_without_numbers_are_bounded(frames):
    okx = Okx()
    for number in range(2 * okx.spec.limits.subscriptions):
        okx.parse(frames["old update"].replace(b"BBB", b"C%d" % number), NOW)
    with pytest.raises(UNREADABLE, match="more books"):
        okx.parse(frames["old update"], NOW)
    assert okx.parse(frames["old update"].replace(b"BBB", b"C7"), NOW)


@pytest.mark.parametrize(("frame", "blamed"), [
    (b'{"arg":{"channel":"books","instId":"A-B"},"action":"upd', ("A-B", Channel.BOOK)),
    (b'{"arg":{"channel":"books5","instId":"A-B"},', ("A-B", Channel.BOOK)),
    (b'{"arg":{"channel":"trades-all","instId":"A-B"}', ("A-B", Channel.TRADES)),
    (b'{"arg":{"channel":"trades","instId":"A-B"}', ("A-B", Channel.AGG_TRADES)),
    (b'{"arg":{"channel":"candle5m","instId":"A-B"}', ("A-B", Channel.CANDLES)),
    (b'{"arg":{"channel" : "books"', ("", Channel.BOOK)),
    (b'{"arg":{"channel":"books-new","instId":"A-B"}', ("A-B", None)),
    (b'{"arg":{"channel":"\xff","instId":"\xff"}', ("\ufffd", None)),
    (b"", ("", None)), (b"\x00\xff", ("", None)),
])
def test_blame(frame, blamed):
    assert Okx().blame(frame) == blamed


# --- REST -----------------------------------------------------------------------------------------------------------


def test_time(bodies):
    okx = Okx()
    assert okx.time_request() == Request(RestKind.TIME, "/api/v5/public/time", weight=2)
    assert okx.parse_time(bodies["time"]) == 1790000000777 * MILLISECOND


def test_instruments(bodies):
    okx = Okx()
    assert [it.path for it in okx.instrument_requests()] == [
        "/api/v5/public/instruments?instType=SPOT", "/api/v5/public/instruments?instType=SWAP",
    ]
    spot, more = okx.parse_instruments(bodies["instruments_spot"])
    swap, _ = okx.parse_instruments(bodies["instruments_swap"])
    assert more is None
    assert spot[0] == Instrument(
        id=InstrumentId("okx", "AAA-USDT"), pair="AAA-USDT", base="AAA", quote="USDT", kind=Kind.SPOT, tradable=True,
        status="live", tick_size=D("0.1"), lot_size=D("0.0001"), min_size=D("0.001"),
    )
    assert swap[0] == Instrument(
        id=InstrumentId("okx", "AAA-USDT-SWAP"), pair="AAA-USDT-PERP", base="AAA", quote="USDT", kind=Kind.PERPETUAL,
        tradable=True, status="live", tick_size=D("0.1"), lot_size=D(1), min_size=D(1), contract_value=D("0.1"),
    )
    assert [(it.id.symbol, it.pair, it.kind, it.tradable) for it in spot[1:]] == [
        ("GOLD-USDT", "", Kind.OTHER, True), ("PRE-USDT", "PRE-USDT", Kind.SPOT, False),
    ]
    assert [(it.id.symbol, it.pair, it.kind) for it in swap[1:]] == [
        ("AAA-USD-SWAP", "", Kind.OTHER), ("AAA-USD_UM-SWAP", "", Kind.OTHER), ("AAA-USDT-261225", "", Kind.OTHER),
    ]


@pytest.mark.parametrize(("depth", "size"), [(0, 400), (5, 5), (400, 400), (5_000, 400)])
def test_book_request(depth, size):
    request = Okx().book_request("AAA-USDT", depth)
    assert request == Request(
        RestKind.BOOK, f"/api/v5/market/books?instId=AAA-USDT&sz={size}", "AAA-USDT", depth=size
    )


def test_book(bodies):
    okx = Okx()
    request = okx.book_request("AAA-USDT", 400)
    assert okx.parse_book(request, bodies["books"], NOW) == BookSnapshot(
        venue="okx", symbol="AAA-USDT", **at(1790000000140), sequence=12, bids=levels(("101.4", "7")),
        asks=levels(("101.6", "8")), depth=400, verification="sequence",
    )
    with pytest.raises(UNREADABLE, match="without seqId"):
        okx.parse_book(request, bodies["books_without_seq"], NOW)


def test_trades_ascend(bodies):
    okx = Okx()
    request = okx.trades_request("AAA-USDT", None, None, None)
    assert request is not None
    first, second = okx.parse_trades(request, bodies["trades"], NOW)
    assert first == Trade(
        venue="okx", symbol="AAA-USDT", **at(1790000000124), channel=Channel.TRADES, id="9001", after=9000,
        price=D("101.5"), size=D("0.25"), side=Side.BUY, source=Source.BACKFILL,
    )
    assert second.id == "9002"


def test_candles_ascend(bodies):
    okx = Okx()
    request = okx.candles_request("AAA-USDT", "1m", 1789999920000 * MILLISECOND, 1790000040000 * MILLISECOND)
    first, second = okx.parse_candles(request, bodies["candles"], NOW)
    assert (first.start, first.final, first.interval) == (1789999920000 * MILLISECOND, True, "1m")
    assert (second.start, second.final) == (1789999980000 * MILLISECOND, False)
    assert (first.symbol, first.volume, first.quote_volume) == ("AAA-USDT", D(5), D(506))


def test_of_a_long_range_the_first_candles_are_asked_for():
    start = 1_789_999_920_000
    request = Okx().candles_request("AAA-USDT", "1m", start * MILLISECOND, start * MILLISECOND + 10 * DAY)
    assert request.path == (
        f"/api/v5/market/history-candles?instId=AAA-USDT&bar=1m&after={start + 300 * 60_000}&before={start - 1}"
        "&limit=300"
    )


@pytest.mark.parametrize(("status", "body", "expected"), [
    (429, b'{"code":"50011","msg":"Too Many Requests","data":[]}', TryAgain),
    (200, b'{"code":"50013","msg":"busy","data":[]}', TryAgain),
    (503, b'{"code":"50001","msg":"down","data":[]}', TryAgain),
    (400, b'{"code":"50004","msg":"timeout","data":[]}', TryAgain),
    (502, b"<html>bad gateway</html>", TryAgain),
    (200, b"<html>hello</html>", TryAgain),
    (200, b"\xff", TryAgain),
    (401, b'{"code":"50102","msg":"Timestamp request expired","data":[]}', ClockSkew),
    (400, b'{"code":"50112","msg":"","data":[]}', ClockSkew),
    (401, b'{"code":"50113","msg":"Invalid Sign","data":[]}', GiveUp),
    (410, b'{"code":"50005","msg":"offline","data":[]}', GiveUp),
    (200, b'{"code":"51000","msg":"Parameter instId error","data":[]}', GiveUp),
    (403, b"<html>forbidden</html>", GiveUp),
    (404, b'{"code":404,"msg":"Not Found"}', GiveUp),
])
def test_check(status, body, expected):
    with pytest.raises(expected) as caught:
        Okx().check(status, {}, body)
    assert f"HTTP {status}" in str(caught.value)


def test_waits():
    with pytest.raises(TryAgain) as caught:
        Okx().check(429, {"retry-after": "7"}, b"")
    assert caught.value.retry_after_ns == 7 * SECOND
    with pytest.raises(TryAgain) as caught:
        Okx().check(429, {"retry-after": "9" * 5_000}, b"")
    assert caught.value.retry_after_ns == 3 * DAY
    with pytest.raises(TryAgain) as caught:
        Okx().check(429, {}, b"")
    assert caught.value.retry_after_ns == 2 * SECOND


def test_good_answers_pass(bodies):
    for name in ("time", "books", "trades", "candles", "instruments_spot"):
        Okx().check(200, {}, bodies[name])


def test_an_error_is_no_empty_answer(bodies):
    okx = Okx()
    with pytest.raises(UNREADABLE):
        okx.parse_instruments(bodies["error"])
    with pytest.raises(UNREADABLE):
        okx.parse_book(okx.book_request("A-B", 5), bodies["error"], NOW)


def test_requests_are_known_again_by_their_url():
    okx = Okx()
    requests = [
        okx.book_request("AAA-USDT", 5), okx.candles_request("AAA-USDT", "1d", 0, DAY), *okx.instrument_requests(),
        okx.trades_request("AAA-USDT", None, None, None), okx.trades_request("AAA-USDT", None, "9", None),
    ]
    for request in requests:
        assert request is not None
        assert okx.request_of(f"https://www.okx.com{request.path}") == request
    assert okx.request_of("https://www.okx.com/api/v5/public/time") == Request(RestKind.TIME, "/api/v5/public/time")
    assert okx.request_of("https://www.okx.com/api/v5/market/books-full?instId=A-B") is None
    assert okx.request_of("https://www.okx.com/api/v5/market/candles?instId=A-B&bar=1D") is None
    assert okx.request_of("https://www.okx.com/") is None


# --- traps ----------------------------------------------------------------------------------------------------------


def test_trap_01_port_8443_is_dead():
    for endpoints in Okx.spec.endpoints.values():
        assert not any("8443" in url for urls in endpoints.websocket.values() for url in urls)


def test_trap_02_candles_and_single_trades_live_on_business(frames):
    candles = Subscription("AAA-USDT", Channel.CANDLES, interval="1h")
    for wanted in (candles, Subscription("AAA-USDT", Channel.TRADES)):
        assert Okx.route_of(wanted) == "business"
    assert Okx.route_of(Subscription("AAA-USDT", Channel.TICKER)) == "public"
    assert Okx("business").subscribe([candles]) == [
        b'{"id":"1","op":"subscribe","args":[{"channel":"candle1H","instId":"AAA-USDT"}]}'
    ]
    (refused,) = Okx().parse(error("64001", "the channel moved"), NOW)
    assert refused == Refused((), "64001: the channel moved", Reaction.DROP)


def test_trap_03_text_pong_is_not_json(frames):
    okx = Okx()
    assert okx.ping(4) == b"ping"
    assert okx.parse(frames["pong"], NOW) == (Alive(),)


def test_trap_04_pings_come_before_the_cut_at_30_s():
    timings = Okx.spec.timings
    assert timings.ping_every_ns + timings.pong_wait_ns <= 30 * SECOND


def test_trap_05_heartbeat_and_reset_continue_the_chain(frames):
    okx = Okx()
    chain = [okx.parse(frames[name], NOW)[0] for name in ("update", "heartbeat", "reset")]
    assert [(it.after, it.sequence) for it in chain if isinstance(it, BookDelta)] == [(10, 15), (15, 15), (15, 3)]


def test_trap_08_the_checksum_beside_a_sequence_is_dead(frames):
    for value in (b"0", b"-123456789", b"null", b"4294967296"):
        (delta,) = Okx().parse(frames["update"].replace(b"-123456789", value), NOW)
        assert isinstance(delta, BookDelta)
        assert delta.checksum is None
    (absent,) = Okx().parse(frames["heartbeat"], NOW)
    assert isinstance(absent, BookDelta)
    assert absent.checksum is None


def test_trap_09_contracts_are_not_coins(frames, bodies):
    swap = Okx().parse_instruments(bodies["instruments_swap"])[0][0]
    (trade,) = Okx().parse(frames["trades"], NOW)
    (empty,) = Okx().parse(frames["ticker empty"], NOW)
    assert isinstance(trade, Trade)
    assert isinstance(empty, Ticker)
    assert trade.size * swap.contract_value == D("1.2")
    assert (empty.volume, empty.quote_volume) == (D(2050), None)


def test_trap_10_times_are_text_in_milliseconds(frames):
    (trade, _) = Okx().parse(frames["trades-all"], NOW)
    assert isinstance(trade, Trade)
    assert trade.exchange_time == 1_790_000_000_124_000_000


def test_trap_11_the_size_of_a_book_is_always_named():
    assert all("&sz=" in Okx().book_request("A-B", depth).path for depth in (0, 1, 400))


def test_trap_12_books_have_levels_of_four(bodies):
    body = bodies["books"].replace(b'["101.6", "8", "0", "2"]', b'["101.6", "8", "2"]')  # as books-full has them
    request = Okx().book_request("AAA-USDT", 400)
    assert "books-full" not in request.path
    assert Okx().parse_book(request, body, NOW).asks.read() == [(D("101.6"), D(8))]


def test_trap_13_after_means_older():
    request = Okx().trades_request("AAA-USDT", "100", "900", None)
    assert request is not None
    # with 900, which is known: by it can be told whose trades they are
    assert request.path == "/api/v5/market/history-trades?instId=AAA-USDT&type=1&after=901&limit=100"
    newest = Okx().trades_request("AAA-USDT", "100", None, None)
    assert newest is not None
    assert newest.path == "/api/v5/market/trades?instId=AAA-USDT&limit=500"
    with pytest.raises(UNREADABLE):
        Okx().trades_request("AAA-USDT", None, "9&x=1", None)


def test_trap_14_long_bars_open_by_utc(frames):
    for interval in ("6h", "12h", "1d", "2d", "3d", "5d", "1w", "1M", "3M"):
        assert BARS[interval].endswith("utc")
        assert f"bar={BARS[interval]}&" in Okx().candles_request("A-B", interval, 0, DAY).path
    assert list(Okx().parse(frames["candle utc8"], NOW)) == [Unknown("candle1D")]


def test_trap_15_a_month_is_no_minute():
    assert (BARS["1m"], BARS["1M"]) == ("1m", "1Mutc")
    assert INTERVALS["1m"] == "1m"
    assert set(Okx.spec.capabilities.intervals) == set(BARS)


def test_trap_17_a_bad_signature_is_permanent():
    (refused,) = Okx().parse(error("60005", "Invalid apiKey"), NOW)
    assert refused == LoginRefused("60005: Invalid apiKey")
    with pytest.raises(GiveUp):
        Okx().check(401, {}, b'{"code":"50113","msg":"Invalid Sign"}')


def test_trap_18_http_200_may_be_a_failure(bodies):
    with pytest.raises(GiveUp, match="51001"):
        Okx().check(200, {}, bodies["error"])
    with pytest.raises(TryAgain, match="50011"):
        Okx().check(200, {}, b'{"code":"50011","msg":"Too Many Requests","data":[]}')


def test_trap_19_an_index_has_the_name_of_a_spot_pair():
    frame = b'{"arg":{"channel":"index-tickers","instId":"AAA-USDT"},"data":[{"instId":"AAA-USDT","idxPx":"1"}]}'
    assert list(Okx().parse(frame, NOW)) == [Unknown("index-tickers")]


# --- what OKX really sent -------------------------------------------------------------------------------------------


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_checksum_vectors(recordings):
    vectors = json.loads((recordings / "vectors" / "okx_book_crc32_shared.json").read_text())
    assert len(vectors) == 32
    for vector in vectors:
        bids, asks = (
            [(level_number(price), level_number(size)) for price, size, *_ in vector[side]] for side in ("bids", "asks")
        )
        assert checksum(Okx(), "A-B", bids, asks) == vector["checksum"], vector["id"]


def test_a_checksum_knows_no_exponents_and_no_padding():
    tiny = [(D("0.0000001"), D("0.0000002"))]
    assert str(tiny[0][0]) == "1E-7"
    assert checksum(Okx(), "A-B", tiny, []) == checksum(Okx(), "A-B", [(D("1E-7"), D("0.00000020"))], [])
    one, other = [(D("28920.0"), D("10"))], [(D("28920"), D("10.0"))]
    assert checksum(Okx(), "A-B", one, []) == checksum(Okx(), "A-B", other, [])


@pytest.mark.parametrize("name", ["v5_20210722_conn1", "v5_20260824_btcusdt_books_seq"])
def test_recordings_parse(recordings, name):
    okx = Okx()
    parsed: list[Parsed] = []
    for frame in lines_of(recordings / "okx" / f"{name}.jsonl"):
        events = okx.parse(frame, NOW)
        assert events
        parsed += events
    assert not [it for it in parsed if isinstance(it, Unknown | Refused)]
    here: dict[str, int] = {}
    for it in parsed:
        if isinstance(it, BookSnapshot | BookDelta):
            it.bids.read()
            it.asks.read()
            assert isinstance(it, BookSnapshot) or it.after == here[it.symbol]
            here[it.symbol] = it.sequence
    assert here


def test_samples_parse(recordings):
    kinds: set[str] = set()
    for path in sorted((recordings / "okx" / "samples").glob("*.jsonl")):
        okx = Okx()
        for line in lines_of(path):
            wrapped = json.loads(line)
            inner = wrapped.get("msg")
            frame = json.dumps(inner, separators=(",", ":")).encode() if isinstance(inner, dict) else line
            kinds |= {type(it).__name__ for it in okx.parse(frame, NOW)}
    assert {"Trade", "Quote", "Ticker", "Candle", "BookSnapshot", "BookDelta", "Refused", "Unknown"} <= kinds


def test_rest_samples_parse(recordings):
    folder, okx = recordings / "okx" / "samples", Okx()
    for path in sorted(folder.glob("*/*instruments_*.json")):
        rows = json.loads(path.read_text())["data"]
        found, more = okx.parse_instruments(path.read_bytes())
        assert (len(found), more) == (len(rows), None)
        offered = [it.pair for it in found if it.kind is not Kind.OTHER]
        assert len(offered) == len(set(offered))
        assert all(it.pair and it.base and it.quote for it in found if it.kind is not Kind.OTHER)
    candles = Request(RestKind.CANDLES, "", "BTC-USDT", interval="1m")
    for name in ("http_get_candlesticks", "http_get_candlesticks_full"):
        assert len(okx.parse_candles(candles, (folder / "nautilus" / f"{name}.json").read_bytes(), NOW)) == 2
    trades = Request(RestKind.TRADES, "", "BTC-USDT", channel=Channel.TRADES)
    body = (folder / "nautilus" / "http_get_trades.json").read_bytes()
    assert [it.id for it in okx.parse_trades(trades, body, NOW)] == ["734864332", "734864333"]
