"""Kraken: what its frames and REST bodies say, what we ask of it, and the traps that others fell into."""
import json
import re
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from onetape.book import OrderBook
from onetape.clock import DAY, MINUTE, SECOND, rfc3339
from onetape.errors import GiveUp, TryAgain
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
from onetape.venues.base import UNREADABLE, Acked, Alive, Notice, Reaction, Refused, Unknown, Venue
from onetape.venues.kraken import Kraken
from tests.venues.books import checksum

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = (
    "status", "heartbeat", "pong", "ack_book", "ack_ohlc", "ack_instrument", "ack_unsubscribe", "error_pair",
    "error_already", "error_depth", "error_rate", "trades", "trades_snapshot", "ticker", "ohlc", "ohlc_snapshot",
    "book_snapshot", "book_update", "instruments", "instruments_update", "unknown",
)
FRAMES = dict(zip(NAMES, (FIXTURES / "kraken.jsonl").read_bytes().splitlines(), strict=True))
REST = json.loads((FIXTURES / "kraken_rest.json").read_text())
BODIES = {name: json.dumps(body).encode() for name, body in REST.items()}
NOW = rfc3339("2026-10-05T12:01:00.000000001Z")
BOOK = Subscription("BTC/USD", Channel.BOOK)
D = Decimal


def at(seconds: str) -> int:
    return rfc3339(f"2026-10-05T12:00:{seconds}Z")


def levels(*pairs: tuple[str, str]) -> Levels:
    return Levels.of((D(price), D(size)) for price, size in pairs)


def sent(frames: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(frame) for frame in frames]


def common(symbol: str, exchange_time: int) -> dict[str, Any]:
    return {
        "venue": "kraken", "symbol": symbol, "exchange_time": exchange_time, "received_time": NOW, "available_at": NOW,
    }


def test_it_is_a_venue() -> None:
    venue: Venue = Kraken()
    assert venue.spec.name == venue.spec.exchange == "kraken"
    assert venue.route_of(BOOK) in venue.spec.endpoints["production"].websocket


# --- out ------------------------------------------------------------------------------------------------------------


def test_each_channel_is_asked_for_with_its_own_parameters() -> None:
    frames = sent(Kraken().subscribe([
        Subscription("BTC/USD", Channel.TRADES), Subscription("BTC/USD", Channel.QUOTES),
        Subscription("BTC/USD", Channel.TICKER), Subscription("BTC/USD", Channel.CANDLES, interval="5m"),
        Subscription("BTC/USD", Channel.BOOK, depth=100), Subscription("", Channel.STATUS),
    ]))
    assert {json.dumps(frame["params"]) for frame in frames} == {json.dumps(params) for params in (
        {"symbol": ["BTC/USD"], "channel": "trade", "snapshot": True},
        {"symbol": ["BTC/USD"], "channel": "ticker", "event_trigger": "bbo", "snapshot": True},
        {"symbol": ["BTC/USD"], "channel": "ticker", "event_trigger": "trades", "snapshot": True},
        {"symbol": ["BTC/USD"], "channel": "ohlc", "interval": 5, "snapshot": True},
        {"symbol": ["BTC/USD"], "channel": "book", "depth": 100, "snapshot": True},
        {"channel": "instrument", "snapshot": True},
    )}
    assert {frame["method"] for frame in frames} == {"subscribe"}
    assert sorted(frame["req_id"] for frame in frames) == [1, 2, 3, 4, 5, 6]


def test_the_faster_trigger_is_asked_for_first() -> None:
    frames = sent(Kraken().subscribe([
        Subscription("A/USD", Channel.TICKER), Subscription("B/USD", Channel.TICKER),
        Subscription("B/USD", Channel.QUOTES),
    ]))
    assert [frame["params"]["event_trigger"] for frame in frames] == ["bbo", "trades"]


def test_symbols_are_asked_for_in_batches_of_fifty() -> None:
    frames = sent(Kraken().subscribe([Subscription(f"S{n}/USD", Channel.TRADES) for n in range(120)]))
    symbols = [frame["params"]["symbol"] for frame in frames]
    assert [len(it) for it in symbols] == [50, 50, 20]
    assert [it for batch in symbols for it in batch] == [f"S{n}/USD" for n in range(120)]


def test_unsubscribing_repeats_the_parameters() -> None:
    frames = sent(Kraken().unsubscribe([
        BOOK, Subscription("BTC/USD", Channel.CANDLES, interval="1h"), Subscription("BTC/USD", Channel.QUOTES),
    ]))
    assert [frame["params"] for frame in frames] == [
        {"symbol": ["BTC/USD"], "channel": "book", "depth": 10},
        {"symbol": ["BTC/USD"], "channel": "ohlc", "interval": 60},
        {"symbol": ["BTC/USD"], "channel": "ticker", "event_trigger": "bbo"},
    ]
    assert {frame["method"] for frame in frames} == {"unsubscribe"}


@pytest.mark.parametrize("wanted", [
    Subscription("BTC/USD", Channel.AGG_TRADES), Subscription("BTC/USD", Channel.CANDLES, interval="1s"),
])
def test_what_the_venue_lacks_is_refused_before_sending(wanted: Subscription) -> None:
    with pytest.raises(ValueError, match="Kraken has no"):
        Kraken().subscribe([wanted])


def test_ping_is_answered_by_its_number() -> None:
    kraken = Kraken()
    assert json.loads(kraken.ping(101) or b"") == {"method": "ping", "req_id": 101}
    assert kraken.parse(FRAMES["pong"], NOW) == (Alive(101),)


# --- in: data -------------------------------------------------------------------------------------------------------


def test_trades() -> None:
    assert Kraken().parse(FRAMES["trades"], NOW) == [
        Trade(
            **common("BTC/USD", at("55.440295")), channel=Channel.TRADES, id="70000002", after=70000001,
            price=D("61250.5"), size=D("0.000276"), side=Side.BUY,
        ),
        Trade(
            **common("ETH/USD", at("55.440301")), channel=Channel.TRADES, id="40000009", after=40000008,
            price=D("2410.07"), size=D("1.5"), side=Side.SELL,
        ),
    ]


def test_a_snapshot_of_trades_comes_in_ascending_order() -> None:
    trades = Kraken().parse(FRAMES["trades_snapshot"], NOW)
    assert [(it.id, it.source) for it in trades if isinstance(it, Trade)] == [
        ("70000000", Source.SNAPSHOT), ("70000001", Source.SNAPSHOT),
    ]


QUOTE = Quote(
    **common("BTC/USD", at("59.123456")), bid=(D("61250.4"), D("2.5")), ask=(D("61250.5"), D("3.2")),
)
TICKER = Ticker(
    **common("BTC/USD", at("59.123456")), last=D("61250.5"), price_change=D("-250.0"), price_change_percent=D("-0.41"),
    high=D("61613.1"), low=D("60711.0"), volume=D("163.289"), quote_volume=None,
)


@pytest.mark.parametrize(("channels", "events"), [
    ((), [QUOTE, TICKER]),
    ((Channel.QUOTES,), [QUOTE]),
    ((Channel.TICKER,), [TICKER]),
    ((Channel.QUOTES, Channel.TICKER), [QUOTE, TICKER]),
])
def test_a_ticker_frame_is_what_was_subscribed(channels: tuple[Channel, ...], events: list[Any]) -> None:
    kraken = Kraken()
    kraken.subscribe([Subscription("BTC/USD", channel) for channel in channels])
    assert kraken.parse(FRAMES["ticker"], NOW) == events


def test_a_ticker_that_ended_or_was_refused_yields_no_more() -> None:
    kraken = Kraken()
    quotes, ticker = Subscription("BTC/USD", Channel.QUOTES), Subscription("BTC/USD", Channel.TICKER)
    kraken.subscribe([quotes, ticker])
    kraken.parse(b'{"error":"Malformed request","method":"subscribe","success":false,"req_id":1}', NOW)
    assert kraken.parse(FRAMES["ticker"], NOW) == [TICKER]
    kraken.subscribe([quotes])
    kraken.unsubscribe([ticker])
    kraken.parse(
        b'{"method":"unsubscribe","result":{"channel":"ticker","symbol":"BTC/USD"},"success":true,"req_id":4}', NOW
    )
    assert kraken.parse(FRAMES["ticker"], NOW) == [QUOTE]


def test_an_empty_side_has_no_level() -> None:
    row = b'{"symbol":"NEW/USD","bid":0,"bid_qty":0,"ask":null,"last":5}'
    frame = b'{"channel":"ticker","type":"snapshot","data":[' + row + b"]}"
    quote, ticker = Kraken().parse(frame, NOW)
    assert quote == Quote(**common("NEW/USD", NOW), bid=None, ask=None)
    assert isinstance(ticker, Ticker)
    assert (ticker.last, ticker.high) == (D(5), None)


def candle(start: str, close: str, trades: int, time: int, *, final: bool) -> Candle:
    begin = rfc3339(f"2026-10-05T{start}:00Z")
    return Candle(
        **common("ETH/USD", time), interval="5m", start=begin, end=begin + 5 * MINUTE, open=D("2409.90"),
        high=D("2411.00"), low=D("2409.50"), close=D(close), volume=D("0.5805"), quote_volume=None, vwap=D("2410.20"),
        trades=trades, taker_buy_volume=None, complete=True, final=final, source="venue",
    )


def test_candles() -> None:
    time = rfc3339("2026-10-05T12:00:52.114514810Z")
    assert Kraken().parse(FRAMES["ohlc"], NOW) == [candle("12:00", "2410.07", 15, time, final=False)]


def test_in_a_snapshot_all_candles_but_the_last_are_final() -> None:
    time = rfc3339("2026-10-05T12:00:43.105000001Z")
    assert Kraken().parse(FRAMES["ohlc_snapshot"], NOW) == [
        candle("11:50", "2409.00", 3, time, final=True), candle("12:00", "2410.00", 14, time, final=False),
    ]


BIDS = levels(("61250.4", "0.5"), ("61250.1", "1.25"), ("61249.9", "0.0042"))
ASKS = levels(("61250.5", "0.75"), ("61250.8", "0.1"), ("61251.0", "3"))


def test_book() -> None:
    kraken = Kraken()
    kraken.subscribe([BOOK])
    assert kraken.parse(FRAMES["book_snapshot"], NOW) == [BookSnapshot(
        **common("BTC/USD", at("55.440295")), sequence=1, bids=BIDS, asks=ASKS, depth=10, verification="checksum(10)",
        checksum=2409096083,
    )]
    assert kraken.parse(FRAMES["book_update"], NOW) == [BookDelta(
        **common("BTC/USD", at("55.540295")), after=1, sequence=2, bids=levels(("61250.4", "0"), ("61249.5", "2")),
        asks=levels(), checksum=2585618966,
    )]


def test_arrivals_are_counted_per_symbol_and_on_through_snapshots() -> None:
    kraken = Kraken()
    other = FRAMES["book_update"].replace(b"BTC/USD", b"ETH/USD")
    intervals = []
    for frame in (FRAMES["book_snapshot"], other, FRAMES["book_update"], FRAMES["book_snapshot"], other,
                  FRAMES["book_update"]):
        (event,) = kraken.parse(frame, NOW)
        assert isinstance(event, BookSnapshot | BookDelta)
        intervals.append((event.symbol, getattr(event, "after", None), event.sequence))
    assert intervals == [
        ("BTC/USD", None, 1), ("ETH/USD", 0, 1), ("BTC/USD", 1, 2), ("BTC/USD", None, 3), ("ETH/USD", 1, 2),
        ("BTC/USD", 3, 4),
    ]


def test_one_message_may_carry_several_books() -> None:
    frame = json.loads(FRAMES["book_update"])
    frame["data"] += [{**frame["data"][0], "symbol": "ETH/USD"}, frame["data"][0]]
    events = Kraken().parse(json.dumps(frame).encode(), NOW)
    assert [(it.symbol, it.after, it.sequence) for it in events if isinstance(it, BookDelta)] == [
        ("BTC/USD", 0, 1), ("ETH/USD", 0, 1), ("BTC/USD", 1, 2),
    ]


@pytest.mark.parametrize(("count", "depth"), [(0, 10), (10, 10), (11, 25), (26, 100), (501, 1_000), (1_001, 1_000)])
def test_an_unknown_depth_is_the_least_that_holds_the_snapshot(count: int, depth: int) -> None:
    frame = json.loads(FRAMES["book_snapshot"])
    frame["data"][0]["bids"] = [{"price": 100_000 - n, "qty": 1} for n in range(count)]
    frame["data"][0]["asks"] = []
    (event,) = Kraken().parse(json.dumps(frame).encode(), NOW)
    assert isinstance(event, BookSnapshot)
    assert event.depth == depth


def test_the_depth_is_what_was_acked_or_else_subscribed() -> None:
    kraken = Kraken()
    kraken.subscribe([Subscription("BTC/USD", Channel.BOOK, depth=100)])
    for depth in (100, 25):
        (event,) = kraken.parse(FRAMES["book_snapshot"], NOW)
        assert isinstance(event, BookSnapshot)
        assert event.depth == depth
        kraken.parse(FRAMES["ack_book"], NOW)


def test_a_number_with_an_exponent_is_exact() -> None:
    frame = FRAMES["trades"].replace(b"61250.5", b"6.12505e4").replace(b"0.00027600", b"2.76e-04")
    trade = Kraken().parse(frame, NOW)[0]
    assert isinstance(trade, Trade)
    assert (trade.price, trade.size) == (D("61250.5"), D("0.000276"))


# --- in: status, instruments, control -------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["online", "cancel_only", "post_only", "maintenance", "a word not yet invented"])
def test_status(word: str) -> None:
    assert Kraken().parse(FRAMES["status"].replace(b"online", word.encode()), NOW) == [
        VenueStatus(**common("", NOW), status=word),
    ]


def test_the_snapshot_of_instruments_is_silent() -> None:
    assert Kraken().parse(FRAMES["instruments"], NOW) == []


def test_a_change_of_an_instrument_is_told() -> None:
    assert Kraken().parse(FRAMES["instruments_update"], NOW) == [InstrumentChanged(
        venue="kraken", received_time=NOW, available_at=NOW, change=Change.UPDATED,
        instrument=Instrument(
            id=InstrumentId("kraken", "BTC/USD"), pair="BTC-USD", base="BTC", quote="USD", kind=Kind.SPOT,
            tradable=False, status="cancel_only", tick_size=D("0.01"), lot_size=D("0.00000001"), min_size=D("0.0001"),
        ),
    )]


def test_heartbeat_and_unknown_kinds() -> None:
    kraken = Kraken()
    assert kraken.parse(FRAMES["heartbeat"], NOW) == (Alive(),)
    assert kraken.parse(FRAMES["unknown"], NOW) == (Unknown("level9"),)
    assert kraken.parse(b'{"method":"add_order","success":true,"result":{}}', NOW) == (Unknown("add_order"),)
    assert kraken.parse(b'{"event":"systemStatus"}', NOW) == (Unknown("?"),)


def test_the_order_of_keys_does_not_matter() -> None:
    for name in ("trades", "book_snapshot", "status", "ohlc"):
        turned = json.dumps(dict(reversed(json.loads(FRAMES[name]).items())))
        exact = turned.replace("1.25", "1.25000000")
        assert Kraken().parse(exact.encode(), NOW) == Kraken().parse(FRAMES[name], NOW)


def test_there_is_one_ack_for_each_symbol() -> None:
    kraken = Kraken()
    other = Subscription("ETH/USD", Channel.BOOK, depth=10)
    kraken.subscribe([BOOK, other])
    assert kraken.parse(FRAMES["ack_book"], NOW) == (Acked((BOOK,)),)
    assert kraken.parse(FRAMES["ack_book"].replace(b"BTC/USD", b"ETH/USD"), NOW) == (Acked((other,)),)
    assert kraken.parse(FRAMES["ack_book"], NOW) == (Acked(()),)
    assert not kraken._requests


def test_acks_name_what_was_asked_for() -> None:
    kraken = Kraken()
    candles, status = Subscription("ETH/USD", Channel.CANDLES, interval="5m"), Subscription("", Channel.STATUS)
    kraken.subscribe([candles])
    assert kraken.parse(FRAMES["ack_ohlc"], NOW) == (Acked((candles,)),)
    kraken = Kraken()
    kraken.subscribe([status])
    assert kraken.parse(FRAMES["ack_instrument"], NOW) == (Acked((status,)),)
    kraken.unsubscribe([BOOK])
    assert kraken.parse(FRAMES["ack_unsubscribe"], NOW) == (Acked((BOOK,), removed=True),)


@pytest.mark.parametrize(("error", "reaction"), [
    ("Currency pair not supported XBT/USD", Reaction.DROP),
    ("Currency pair not in ISO 4217-A3 format XBTUSD", Reaction.DROP),
    ("Exceeded msg rate", Reaction.RETRY),
    ("Already subscribed", Reaction.IGNORE),
    ("Subscription depth not supported", Reaction.DROP),
    ("Subscription ohlc interval not supported", Reaction.DROP),
    ("Malformed request", Reaction.DROP),
    ("ESession:Invalid session", Reaction.DROP),
    ("EGeneral:Internal error", Reaction.RETRY),
    ("EService: Unavailable", Reaction.RETRY),
    ("Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com", Reaction.DROP),
])
def test_errors_have_their_reaction(error: Any, reaction: Reaction) -> None:
    kraken = Kraken()
    kraken.subscribe([BOOK])
    frame = json.dumps({"error": error, "method": "subscribe", "success": False, "symbol": "BTC/USD", "req_id": 1})
    assert kraken.parse(frame.encode(), NOW) == (Refused((BOOK,), error, reaction),)


def test_a_refusal_without_a_symbol_is_for_all_that_still_wait() -> None:
    kraken = Kraken()
    others = [Subscription(symbol, Channel.BOOK) for symbol in ("ETH/USD", "SOL/USD")]
    kraken.subscribe([BOOK, *others])
    kraken.parse(FRAMES["ack_book"], NOW)
    assert kraken.parse(FRAMES["error_depth"], NOW) == (
        Refused(tuple(others), "Subscription depth not supported", Reaction.DROP),
    )
    assert kraken.parse(FRAMES["error_rate"], NOW) == (Refused((), "Exceeded msg rate", Reaction.RETRY),)


def test_what_cannot_be_unsubscribed_is_not_dropped() -> None:
    kraken = Kraken()
    kraken.unsubscribe([BOOK])
    frame = b'{"error":"Subscription not found","method":"unsubscribe","success":false,"symbol":"BTC/USD","req_id":1}'
    assert kraken.parse(frame, NOW) == (Refused((BOOK,), "Subscription not found", Reaction.DROP, removed=True),)
    assert kraken.parse(frame, NOW) == (Refused((), "Subscription not found", Reaction.DROP, removed=True),)
    kraken.unsubscribe([BOOK])  # the request knows, where the answer does not say
    assert kraken.parse(b'{"error":"Exceeded msg rate","success":false,"req_id":2}', NOW) == (
        Refused((BOOK,), "Exceeded msg rate", Reaction.RETRY, removed=True),
    )


def test_a_refused_removal_does_not_end_quotes() -> None:
    kraken = Kraken()
    quotes, ticker = Subscription("BTC/USD", Channel.QUOTES), Subscription("BTC/USD", Channel.TICKER)
    kraken.subscribe([quotes, ticker])
    before = [type(it) for it in kraken.parse(FRAMES["ticker"], NOW)]
    kraken.unsubscribe([quotes])
    kraken.parse(b'{"error":"Malformed request","method":"unsubscribe","success":false,"req_id":3}', NOW)
    assert [type(it) for it in kraken.parse(FRAMES["ticker"], NOW)] == before == [Quote, Ticker]


def test_requests_never_answered_are_forgotten_in_the_end() -> None:
    kraken = Kraken()
    wanted = [Subscription(f"C{number}/USD", Channel.BOOK) for number in range(500)]
    for it in wanted:
        kraken.subscribe([it])
    assert len(kraken._requests) == 64
    ack = FRAMES["ack_book"].replace(b"BTC/USD", b"C499/USD").replace(b'"req_id":1', b'"req_id":500')
    assert kraken.parse(ack, NOW) == (Acked((wanted[-1],)),)


# --- the checksum ---------------------------------------------------------------------------------------------------

PAGE_ASKS = [
    ("45285.2", "0.00100000"), ("45286.4", "1.54571953"), ("45286.6", "1.54571109"), ("45289.6", "1.54560911"),
    ("45290.2", "0.15890660"), ("45291.8", "1.54553491"), ("45294.7", "0.04454749"), ("45296.1", "0.35380000"),
    ("45297.5", "0.09945542"), ("45299.5", "0.18772827"),
]
PAGE_BIDS = [
    ("45283.5", "0.10000000"), ("45283.4", "1.54582015"), ("45282.1", "0.10000000"), ("45281.0", "0.10000000"),
    ("45280.3", "1.54592586"), ("45279.0", "0.07990000"), ("45277.6", "0.03310103"), ("45277.5", "0.30000000"),
    ("45277.3", "1.54602737"), ("45276.6", "0.15445238"),
]
MOVING_BIDS = [
    ("29430.2", "0.18967538"), ("29429.6", "0.00011621"), ("29427.4", "0.001"), ("29426.7", "4.0"),
    ("29425.7", "0.67945399"), ("29423.5", "0.67950478"), ("29422.1", "0.16314267"), ("29421.8", "0.06797895"),
    ("29421.7", "0.23401846"), ("29421.5", "0.28639276"),
]
MOVING_ASKS = [
    ("29430.3", "8.25215653"), ("29430.4", "2.55637606"), ("29430.5", "0.2997598"), ("29430.9", "2.56473216"),
    ("29431.0", "0.00011662"), ("29431.1", "0.001"), ("29432.3", "0.0241"), ("29432.4", "0.02210682"),
    ("29432.5", "3.39761477"), ("29433.1", "0.01021497"),
]


def decimals(pairs: list[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    return [(D(price), D(size)) for price, size in pairs]


def test_the_checksum_of_the_documentation() -> None:
    kraken, bids, asks = Kraken(), decimals(PAGE_BIDS), decimals(PAGE_ASKS)
    assert checksum(kraken, "BTC/USD", bids, asks) == 3310070434
    book = OrderBook()
    book.replace(Levels.of(bids), Levels.of(asks))
    assert zlib.crc32(b"".join(book.digits(10))) == 2704419326  # bids before asks: wrong, and told from right
    assert checksum(kraken, "BTC/USD", [*bids, (D(1), D(1))], [*asks, (D(99999), D(1))]) == 3310070434  # the ten best


def test_the_checksum_of_an_empty_book() -> None:
    assert checksum(Kraken(), "BTC/USD", [], []) == zlib.crc32(b"")


def test_the_checksum_of_tiny_and_huge_numbers() -> None:
    bids, asks = [(D("1E-8"), D("100000"))], [(D("3.0E-8"), D("2.5E+3"))]
    assert checksum(Kraken(), "X/USD", bids, asks) == zlib.crc32(b"30" b"2500" b"10" b"100000")


def test_the_checksum_vectors(recordings: Path) -> None:
    vectors = json.loads((recordings / "vectors" / "kraken_book_crc32_shared.json").read_text())
    assert len(vectors) == 105
    for it in vectors:
        assert checksum(Kraken(), "", decimals(it["bids"]), decimals(it["asks"])) == it["checksum"], it["id"]


def test_the_checksum_vectors_with_trimmed_zeros_and_known_precision(recordings: Path) -> None:
    for it in json.loads((recordings / "vectors" / "kraken_book_crc32_shared.json").read_text()):
        digits = [
            max(len(level[side].partition(".")[2]) for level in it["bids"] + it["asks"]) for side in (0, 1)
        ]
        kraken = Kraken()
        kraken._digits["S"] = digits[0], digits[1]
        bids, asks = ([(p.normalize(), q.normalize()) for p, q in decimals(it[side])] for side in ("bids", "asks"))
        assert checksum(kraken, "S", bids, asks) == it["checksum"], it["id"]


# --- REST -----------------------------------------------------------------------------------------------------------


def query(request: Request | None) -> tuple[str, dict[str, str]]:
    assert request is not None
    parts = urlsplit(request.path)
    return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}


def test_requests() -> None:
    kraken = Kraken()
    assert kraken.time_request() == Request(RestKind.TIME, "/0/public/Time")
    assert [query(it) for it in kraken.instrument_requests()] == [("/0/public/AssetPairs", {"assetVersion": "1"})]
    pair = {"pair": "BTCUSD", "assetVersion": "1"}
    assert query(kraken.book_request("BTC/USD", 25)) == ("/0/public/Depth", {**pair, "count": "25"})
    assert [kraken.book_request("BTC/USD", depth).depth for depth in (0, 25, 500, 1_000)] == [500, 25, 500, 500]
    assert query(kraken.trades_request("BTC/USD", "7", "9", None)) == ("/0/public/Trades", {**pair, "count": "1000"})
    trades = kraken.trades_request("BTC/USD", None, None, NOW)
    assert trades is not None
    assert (trades.channel, trades.symbol, trades.weight) == (Channel.TRADES, "BTC/USD", 1)


def test_time() -> None:
    assert Kraken().parse_time(BODIES["time"]) == rfc3339("2026-10-05T12:00:00Z")


def test_instruments() -> None:
    instruments, more = Kraken().parse_instruments(BODIES["instruments"])
    assert more is None
    assert instruments == [
        Instrument(
            id=InstrumentId("kraken", "BTC/USD"), pair="BTC-USD", base="BTC", quote="USD", kind=Kind.SPOT,
            tradable=True, status="online", tick_size=D("0.5"), lot_size=D("1E-8"), min_size=D("0.00005"),
        ),
        Instrument(
            id=InstrumentId("kraken", "ETH/EUR"), pair="ETH-EUR", base="ETH", quote="EUR", kind=Kind.SPOT,
            tradable=False, status="post_only", tick_size=D("0.1"), lot_size=D("1E-8"), min_size=D("0.00005"),
        ),
        Instrument(
            id=InstrumentId("kraken", "DOGE/USD"), pair="DOGE-USD", base="DOGE", quote="USD", kind=Kind.SPOT,
            tradable=False, status="", tick_size=D("1E-7"), lot_size=D("1E-8"), min_size=D("0.00005"),
        ),
        Instrument(
            id=InstrumentId("kraken", "AAPLx/USD"), pair="", base="AAPLx", quote="USD", kind=Kind.OTHER,
            tradable=True, status="online", tick_size=D("0.1"), lot_size=D("1E-8"), min_size=D("0.00005"),
        ),
    ]


def test_book_by_rest() -> None:
    kraken = Kraken()
    assert kraken.parse_book(kraken.book_request("BTC/USD", 2), BODIES["book"], NOW) == BookSnapshot(
        **common("BTC/USD", NOW), sequence=0, bids=levels(("61250.40000", "1.500")),
        asks=levels(("61250.50000", "0.136"), ("61251.00000", "0.002")), depth=2, verification="none",
    )


def test_trades_by_rest() -> None:
    kraken = Kraken()
    request = kraken.trades_request("BTC/USD", None, None, NOW)
    assert request is not None
    assert kraken.parse_trades(request, BODIES["trades"], NOW) == [
        Trade(
            **common("BTC/USD", 1791201433_971744000), channel=Channel.TRADES, id="70000000", after=69999999,
            price=D("61250.4"), size=D("0.00027625"), side=Side.BUY, source=Source.BACKFILL,
        ),
        Trade(
            **common("BTC/USD", 1791201434 * SECOND), channel=Channel.TRADES, id="70000001", after=70000000,
            price=D("61250.3"), size=D("0.001"), side=Side.SELL, source=Source.BACKFILL,
        ),
    ]


def test_candles_by_rest() -> None:
    kraken = Kraken()
    candles = kraken.parse_candles(kraken.candles_request("BTC/USD", "1m", NOW, NOW), BODIES["candles"], NOW)
    assert candles[0] == Candle(
        **common("BTC/USD", 1791201360 * SECOND), interval="1m", start=1791201300 * SECOND, end=1791201360 * SECOND,
        open=D("61240"), high=D("61255.5"), low=D("61238.1"), close=D("61250.4"), volume=D("1.25"), quote_volume=None,
        vwap=D("61246.7"), trades=41, taker_buy_volume=None, complete=True, final=True, source="venue",
    )
    assert [(it.start // SECOND, it.trades, it.vwap, it.final) for it in candles[1:]] == [
        (1791201360, 0, None, True), (1791201420, 2, D("61250.4"), False),
    ]


def test_the_answers_key_names_the_symbol_only_where_the_request_cannot() -> None:
    kraken = Kraken()
    of_url = kraken.request_of("https://api.kraken.com/0/public/Trades?pair=BTCUSD&assetVersion=1")
    assert of_url is not None
    body = BODIES["trades"].replace(b"XXBTZUSD", b"BTC/USD")
    assert {it.symbol for it in kraken.parse_trades(of_url, body, NOW)} == {"BTC/USD"}
    asked = kraken.trades_request("XDG/USD", None, None, NOW)
    assert asked is not None
    assert {it.symbol for it in kraken.parse_trades(asked, body, NOW)} == {"XDG/USD"}


def test_request_of_a_url_is_the_request_that_was_made() -> None:
    kraken = Kraken()
    for made in (
        kraken.time_request(), *kraken.instrument_requests(), kraken.book_request("BTC/USD", 100),
        kraken.trades_request("BTC/USD", None, None, NOW), kraken.candles_request("BTC/USD", "4h", NOW, NOW),
    ):
        assert made is not None
        found = kraken.request_of("https://api.kraken.com" + made.path)
        assert found is not None
        assert (found.kind, found.path, found.symbol, found.depth, found.channel, found.interval) == (
            made.kind, made.path, made.symbol.replace("/", ""), made.depth, made.channel, made.interval,
        )
    assert kraken.request_of("https://api.kraken.com/0/public/Spread?pair=BTCUSD") is None
    assert kraken.request_of("https://api.kraken.com/0/private/Balance") is None


@pytest.mark.parametrize("errors", [
    ["EQuery:Unknown asset pair"], ["EQuery:Invalid asset pair"], ["EGeneral:Invalid arguments:since"],
    ["EGeneral:Unknown method"], ["EAPI:Bad request"], ["EGeneral:Permission denied"], ["ENew:An unknown error"],
])
def test_permanent_errors(errors: list[str]) -> None:
    with pytest.raises(GiveUp, match=errors[0]):
        Kraken().check(200, {}, json.dumps({"error": errors}).encode())


@pytest.mark.parametrize(("error", "wait"), [
    ("EGeneral:Too many requests", 5 * SECOND), ("EAPI:Rate limit exceeded", 5 * SECOND),
    ("EService:Unavailable", 0), ("EService: Busy", 0), ("EService:Deadline elapsed", 0),
    ("EGeneral:Internal error", 0), ("EDatabase:Internal error", 0), ("EGeneral:Temporary lockout", 15 * MINUTE),
    ("EService:Market in cancel_only mode", 0), ("EAPI:Invalid nonce", 0),
])
def test_transient_errors(error: Any, wait: Any) -> None:
    with pytest.raises(TryAgain) as caught:
        Kraken().check(200, {}, json.dumps({"error": [error]}).encode())
    assert (caught.value.reason, caught.value.retry_after_ns) == (error, wait)


@pytest.mark.parametrize(("status", "headers", "error", "wait"), [
    (429, {"retry-after": "7"}, TryAgain, 7 * SECOND), (429, {}, TryAgain, MINUTE), (403, {}, TryAgain, 10 * MINUTE),
    (429, {"retry-after": "9" * 5_000}, TryAgain, 3 * DAY), (503, {"retry-after": "3"}, TryAgain, 3 * SECOND),
    (503, {}, TryAgain, 0), (520, {}, TryAgain, 0), (408, {}, TryAgain, 0), (404, {}, GiveUp, None),
    (451, {}, GiveUp, None),
])
def test_http_errors(status: int, headers: dict[str, str], error: Any, wait: Any) -> None:
    with pytest.raises(error, match=f"HTTP {status}: <html>") as caught:
        Kraken().check(status, headers, b"<html>")
    assert getattr(caught.value, "retry_after_ns", None) == wait


def test_good_answers_pass() -> None:
    for name in ("time", "instruments", "book", "trades", "candles", "warning"):
        Kraken().check(200, {}, BODIES[name])


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error":"x"}', b"[" * 100_000])
def test_an_unreadable_answer_is_asked_for_again(body: bytes) -> None:
    with pytest.raises(TryAgain):
        Kraken().check(200, {}, body)


@pytest.mark.parametrize("body", [
    b"", b'{"error":[]}', b'{"result":{}}', b'{"result":{"A":[],"B":[]}}', b'{"result":{"A":{"x":1}}}',
    b'{"result":{"A":[["NaN","1",1.5,"b","m","",7]]}}', b'{"result":{"A":[["1","-1",1.5,"b","m","",7]]}}',
    b'{"result":{"A":[["1","1",1.5,"x","m","",7]]}}', b'{"result":{"A":[["1","1","soon","b","m","",7]]}}',
    b'{"result":{"A":[["1","1",1.5,"b","m","",-7]]}}',
    b'{"result":{"A":[["1","1",1.5,"b","m","",9223372036854775808]]}}',
    b'{"result":{"A":[["1","1",9000000001.5,"b","m","",7]]}}', b'{"result":{"A":[["1","1",-1.5,"b","m","",7]]}}',
    b'{"result":{"A":[[-60,"1","1","1","1","1","1",2]]}}', b'{"result":{"A":[[9000000001,"1","1","1","1","1","1",2]]}}',
    b'{"result":{"A":[[60,"1","1","1","1","1","1",-2]]}}',
])
def test_bad_bodies_are_refused(body: bytes) -> None:
    kraken = Kraken()
    request = kraken.trades_request("BTC/USD", None, None, NOW)
    assert request is not None
    for parse in (kraken.parse_trades, kraken.parse_book, kraken.parse_candles):
        with pytest.raises(UNREADABLE):
            parse(request, body, NOW)


# --- bad input ------------------------------------------------------------------------------------------------------


def spoilt(name: str, old: bytes, new: bytes) -> bytes:
    assert old in FRAMES[name]
    return FRAMES[name].replace(old, new)


@pytest.mark.parametrize("frame", [
    b"", b"pong", b"null", b"[]", b"{}{}", b"\xff\xfe", b'{"channel":5}', b"[" * 100_000,
    b'{"channel":"book","type":"update","data":' + b"[" * 100_000,
    FRAMES["book_update"][:-20],
    FRAMES["book_update"][:40],
    spoilt("book_update", b'"update"', b'"other"'),
    spoilt("book_update", b"2585618966", b"-1"),
    spoilt("book_update", b"2585618966", b"4294967296"),
    spoilt("book_update", b"2585618966", b'"2585618966"'),
    spoilt("book_update", b"2026-10-05T12:00:55.540295Z", b"yesterday"),
    spoilt("book_update", b"BTC/USD", b"BTC\xff"),
    spoilt("book_update", b'"asks":[],', b""),
    spoilt("trades", b"61250.5", b"-61250.5"),
    spoilt("trades", b"61250.5", b"NaN"),
    spoilt("trades", b"61250.5", b'"61250.5"'),
    spoilt("trades", b"61250.5", b"9" * 40),
    spoilt("trades", b"0.00027600", b"null"),
    spoilt("trades", b"0.00027600", b"1e99"),
    spoilt("trades", b'"buy"', b'"b"'),
    spoilt("trades", b"70000002", b'"70000002"'),
    spoilt("trades", b"70000002", b"-1"),
    spoilt("trades", b"70000002", b"9223372036854775808"),
    re.sub(rb'"timestamp":"\d{4}', b'"timestamp":"1969', FRAMES["trades"]),
    re.sub(rb'"timestamp":"\d{4}', b'"timestamp":"2262', FRAMES["book_update"]),
    re.sub(rb'"interval_begin":"\d{4}', b'"interval_begin":"2261', FRAMES["ohlc"]),
    re.sub(rb'"trades":\d+', b'"trades":-1', FRAMES["ohlc"]),
    spoilt("ticker", b"61250.4", b"-1"),
    spoilt("ticker", b"61613.1", b"-1"),
    spoilt("ohlc", b'"interval":5', b'"interval":7'),
    spoilt("ohlc", b"2411.00", b"[]"),
    spoilt("status", b'"online"', b"1"),
    spoilt("ack_book", b'{"channel":"book","depth":25,"snapshot":true,"symbol":"BTC/USD"}', b"[]"),
    spoilt("pong", b"101", b'"101"'),
])
def test_bad_frames_are_refused_and_nothing_is_counted(frame: bytes) -> None:
    kraken = Kraken()
    kraken.subscribe([BOOK])
    kraken.parse(FRAMES["book_snapshot"], NOW)
    with pytest.raises(UNREADABLE) as caught:
        kraken.parse(frame, NOW)
    assert str(caught.value)
    kraken.blame(frame)
    (event,) = kraken.parse(FRAMES["book_update"], NOW)
    assert isinstance(event, BookDelta)
    assert (event.after, event.sequence) == (1, 2)
    assert kraken._requests == {1: ({"BTC/USD": BOOK}, False)}


@pytest.mark.parametrize("level", [
    b'{"price":-1.0,"qty":1}', b'{"price":"1.0","qty":1}', b'{"price":1.0}', b"[1.0,1]", b"7",
    b'{"price":1.0,"qty":' + b"9" * 40 + b"}", b'{"price":1.0,"qty":true}',
])
def test_bad_levels_are_found_when_they_are_read(level: bytes) -> None:
    (event,) = Kraken().parse(spoilt("book_update", b'"asks":[]', b'"asks":[' + level + b"]"), NOW)
    assert isinstance(event, BookDelta)
    assert len(event.bids) == 2
    with pytest.raises(BadLevels):
        event.asks.read()


def test_a_bad_row_of_many_changes_no_count() -> None:
    kraken = Kraken()
    frame = json.loads(FRAMES["book_update"])
    frame["data"].append({**frame["data"][0], "symbol": "ETH/USD", "timestamp": "never"})
    with pytest.raises(UNREADABLE):
        kraken.parse(json.dumps(frame).encode(), NOW)
    (event,) = kraken.parse(FRAMES["book_update"], NOW)
    assert isinstance(event, BookDelta)
    assert event.after == 0


@pytest.mark.parametrize(("frame", "blamed"), [
    (FRAMES["book_update"], ("BTC/USD", Channel.BOOK)),
    (FRAMES["book_update"][:-30], ("", Channel.BOOK)),  # cut: others may have stood behind
    (FRAMES["trades"], ("", Channel.TRADES)),  # of two symbols
    (FRAMES["trades_snapshot"], ("BTC/USD", Channel.TRADES)),
    (FRAMES["ticker"], ("BTC/USD", Channel.TICKER)),
    (FRAMES["ohlc"], ("ETH/USD", Channel.CANDLES)),
    (FRAMES["status"], ("", Channel.STATUS)),
    (FRAMES["unknown"], ("", None)),
    (b"\xff\x00garbage", ("", None)),
    (b"", ("", None)),
])
def test_blame(frame: bytes, blamed: tuple[str, Channel | None]) -> None:
    assert Kraken().blame(frame) == blamed


# --- traps of others ------------------------------------------------------------------------------------------------


def test_trap_01_floats_and_trimmed_zeros_break_the_checksum() -> None:
    kraken = Kraken()
    (event,) = kraken.parse(FRAMES["book_snapshot"], NOW)
    assert isinstance(event, BookSnapshot)
    assert [str(size) for _, size in event.bids] == ["0.50000000", "1.25000000", "0.00420000"]
    assert checksum(kraken, "BTC/USD", event.bids.read(), event.asks.read()) == event.checksum
    trimmed = [[(price, size.normalize()) for price, size in side] for side in (event.bids, event.asks)]
    assert checksum(kraken, "BTC/USD", *trimmed) != event.checksum  # nothing tells the precision
    kraken.parse(FRAMES["instruments"], NOW)
    assert checksum(kraken, "BTC/USD", *trimmed) == event.checksum


def test_trap_02_levels_beyond_the_depth_do_not_come_back() -> None:
    kraken, asks = Kraken(), dict(decimals(MOVING_ASKS))
    bids = dict(decimals(MOVING_BIDS))
    assert kraken.spec.book.resends
    assert kraken.spec.book.halts == {"maintenance"}
    sums = [checksum(kraken, "", list(bids.items()), list(asks.items()))]
    for side, changes in (
        (asks, [("29431.1", "0"), ("29433.3", "0.8"), ("29430.6", "0.001")]), (asks, [("29430.3", "8.25182177")]),
        (bids, [("29423.0", "2.54902601")]),
    ):
        side.update(decimals(changes))
        kept = sorted(((price, size) for price, size in side.items() if size), reverse=side is bids)[:10]
        side.clear()
        side.update(kept)
        sums.append(checksum(kraken, "", list(bids.items()), list(asks.items())))
    assert sums == [2785033588, 3547452596, 3111681483, 434883881]


def test_trap_03_the_snapshot_is_summed_too() -> None:
    (event,) = Kraken().parse(FRAMES["book_snapshot"], NOW)
    assert isinstance(event, BookSnapshot)
    assert (event.checksum, event.verification) == (2409096083, "checksum(10)")


def test_trap_04_xbt_is_refused_and_never_asked_for() -> None:
    kraken = Kraken()
    xbt = Subscription("XBT/USD", Channel.BOOK)
    kraken.subscribe([xbt, BOOK])
    assert kraken.parse(FRAMES["error_pair"], NOW) == (
        Refused((xbt,), "Currency pair not supported XBT/USD", Reaction.DROP),
    )
    old = BODIES["instruments"].replace(b'"BTC/USD"', b'"XXBTZUSD"')
    assert [it.id.symbol for it in kraken.parse_instruments(old)[0]][:3] == ["BTC/USD", "ETH/EUR", "DOGE/USD"]


def test_trap_05_a_refused_symbol_is_named_while_the_others_go_on() -> None:
    kraken = Kraken()
    kraken.subscribe([Subscription("XBT/USD", Channel.BOOK), BOOK])
    assert isinstance(kraken.parse(FRAMES["error_pair"], NOW)[0], Refused)
    assert kraken.parse(FRAMES["ack_book"], NOW) == (Acked((BOOK,)),)
    assert kraken.parse(FRAMES["heartbeat"], NOW) == (Alive(),)  # which says nothing of either


def test_trap_07_too_many_requests_on_the_socket_are_waited_for() -> None:
    assert Kraken().parse(FRAMES["error_rate"], NOW) == (Refused((), "Exceeded msg rate", Reaction.RETRY),)
    assert Kraken().parse(FRAMES["error_already"], NOW) == (Refused((), "Already subscribed", Reaction.IGNORE),)


def test_trap_08_the_ticker_carries_the_venues_time_and_candles_are_asked_for_from_a_time() -> None:
    assert all(it.exchange_time == at("59.123456") for it in (QUOTE, TICKER))
    request = Kraken().candles_request("BTC/USD", "1h", NOW, NOW + MINUTE)
    assert query(request)[1]["since"] == str(NOW // SECOND - 1)  # exclusive


def test_trap_09_since_is_in_ns_for_trades_and_in_seconds_for_candles() -> None:
    trades = query(Kraken().trades_request("BTC/USD", None, None, NOW))[1]["since"]
    candles = query(Kraken().candles_request("BTC/USD", "1m", NOW, NOW))[1]["since"]
    assert (len(trades), len(candles)) == (19, 10)
    assert NOW - SECOND < int(trades) < NOW


def test_trap_10_errors_come_with_http_200_and_odd_spaces() -> None:
    with pytest.raises(TryAgain) as caught:
        Kraken().check(200, {"date": "Mon, 05 Oct 2026 12:00:00 GMT"}, BODIES["throttled"])
    assert caught.value.retry_after_ns == 30 * SECOND
    with pytest.raises(TryAgain) as caught:
        Kraken().check(200, {}, BODIES["throttled"])
    assert caught.value.retry_after_ns == MINUTE
    with pytest.raises(TryAgain):
        Kraken().check(200, {}, BODIES["too_many_requests"])
    with pytest.raises(GiveUp):
        Kraken().check(200, {}, BODIES["unknown_pair"])


def test_trap_11_rest_trades_keep_their_id() -> None:
    kraken = Kraken()
    request = kraken.trades_request("BTC/USD", None, None, NOW)
    assert request is not None
    assert [it.id for it in kraken.parse_trades(request, BODIES["trades"], NOW)] == ["70000000", "70000001"]
    with pytest.raises(UNREADABLE):
        kraken.parse_trades(request, b'{"result":{"A":[["1","1",1.5,"b","m",""]]}}', NOW)


def test_trap_13_precision_comes_from_the_metadata() -> None:
    kraken = Kraken()
    bids, asks = [(D("0.5"), D("7"))], [(D("0.51"), D("1.5"))]
    assert checksum(kraken, "DOGE/USD", bids, asks) == zlib.crc32(b"51" b"15" b"50" b"70")
    kraken.parse(FRAMES["instruments"], NOW)  # 7 and 8 digits
    assert checksum(kraken, "DOGE/USD", bids, asks) == zlib.crc32(b"5100000" b"150000000" b"5000000" b"700000000")
    finer = [(D("0.512345678"), D("1.5"))]  # finer than announced: never rounded
    assert checksum(kraken, "DOGE/USD", [], finer) == zlib.crc32(b"512345678" b"150000000")
    kraken.parse(FRAMES["instruments_update"], NOW)
    assert checksum(kraken, "BTC/USD", [], [(D("5"), D("1"))]) == zlib.crc32(b"500" b"100000000")


def test_trap_14_only_documented_parameters_are_sent() -> None:
    kraken = Kraken()
    allowed = {
        "Depth": {"pair", "count", "assetVersion"}, "Trades": {"pair", "since", "count", "assetVersion"},
        "OHLC": {"pair", "interval", "since", "assetVersion"},
    }
    for request in (
        kraken.book_request("BTC/USD", 10), kraken.trades_request("BTC/USD", "1", "9", NOW),
        kraken.candles_request("BTC/USD", "1m", NOW, NOW + MINUTE),
    ):
        path, asked = query(request)
        assert asked.keys() <= allowed[path.removeprefix("/0/public/")]


def test_trap_15_every_digit_of_a_level_is_kept() -> None:
    frame = spoilt("book_update", b'"qty":2.00000000', b'"qty":1234567890.12345678')
    (event,) = Kraken().parse(frame, NOW)
    assert isinstance(event, BookDelta)
    assert str(event.bids.read()[1][1]) == "1234567890.12345678"  # a float64 ends at ...123456


def test_trap_16_frames_of_v1_are_not_mistaken_for_v2() -> None:
    kraken = Kraken()
    with pytest.raises(UNREADABLE):
        kraken.parse(b'[340,[["61250.50000","0.00100000","1791201433.971744","b","m",""]],"trade","XBT/USD"]', NOW)
    assert kraken.parse(b'{"event":"heartbeat"}', NOW) == (Unknown("?"),)


def test_maintenance_is_a_status_and_no_notice() -> None:
    events = Kraken().parse(FRAMES["status"].replace(b"online", b"maintenance"), NOW)
    assert not any(isinstance(it, Notice) for it in events)  # no new connection would help


# --- what the exchange really sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v2_20260824_btcusd_d10_short", "v2_20260720_btcusd_d10_sample70"])
def test_recordings(recordings: Path, name: str) -> None:
    kraken = Kraken()
    counts = []
    for frame in (recordings / "kraken" / f"{name}.jsonl").read_bytes().splitlines():
        for event in kraken.parse(frame, NOW):
            assert not isinstance(event, Unknown | Refused)
            if isinstance(event, BookSnapshot | BookDelta):
                counts.append(event.sequence)
                assert len(event.bids) + len(event.asks) > 0
            if isinstance(event, BookSnapshot):
                assert checksum(kraken, event.symbol, event.bids.read(), event.asks.read()) == event.checksum
    assert counts == list(range(1, len(counts) + 1))


def lines(path: Path) -> list[bytes]:
    found = path.read_bytes().splitlines()
    return [json.dumps(json.loads(it)["msg"]).encode() for it in found] if "tardis" in path.name else found


@pytest.mark.parametrize("name", ["v2_live_2026_isolated", "crypto_msg_parser_raw", "tardis_node_mapper_messages"])
def test_samples(recordings: Path, name: str) -> None:
    parsed, reasons = 0, []
    for frame in lines(recordings / "kraken" / "samples" / f"{name}.jsonl"):
        try:
            parsed += all(not isinstance(it, Unknown) for it in Kraken().parse(frame, NOW))
        except UNREADABLE as error:
            reasons.append(str(error))
    assert all(reasons)
    assert parsed == {"v2_live_2026_isolated": 14}.get(name, 0)  # the others are of v1 and of futures


def test_the_real_list_of_instruments(recordings: Path) -> None:
    kraken = Kraken()
    body = (recordings / "kraken" / "samples" / "v2_instrument_snapshot_2024.json").read_bytes()
    assert kraken.parse(body, NOW) == []
    assert len(kraken._digits) == len(json.loads(body)["data"]["pairs"])
    assert kraken._digits["BTC/USD"] == (1, 8)
    old, _ = kraken.parse_instruments((recordings / "kraken/samples/rest_2021/AssetPairs.json").read_bytes())
    assert {"BTC/USD", "DOGE/EUR", "ETH/BTC"} <= {it.id.symbol for it in old}


def test_real_rest_bodies(recordings: Path) -> None:
    kraken = Kraken()
    folder = recordings / "kraken" / "samples" / "nautilus"
    trades = kraken.trades_request("BTC/USDT", None, None, 0)
    assert trades is not None
    found = kraken.parse_trades(trades, (folder / "http_trades.json").read_bytes(), NOW)
    assert [it.after for it in found[1:]] == [int(it.id) for it in found[:-1]]
    request = kraken.candles_request("BTC/USDT", "1m", 0, 0)
    candles = kraken.parse_candles(request, (folder / "http_ohlc.json").read_bytes(), NOW)
    assert [it.final for it in candles] == [True] * 720 + [False]
    book = kraken.parse_book(kraken.book_request("BTC/USDT", 10), (folder / "http_order_book.json").read_bytes(), NOW)
    assert book.bids.read()[0] < book.asks.read()[0]
    assert kraken.parse_time((folder / "http_server_time.json").read_bytes()) == 1762820224 * SECOND
