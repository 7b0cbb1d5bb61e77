"""Binance spot: what its frames and REST bodies say, what is sent to it, and the traps that others fell into."""
import json
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, month_end
from onetape.errors import ClockSkew, GiveUp, TryAgain
from onetape.feed.session import Session
from onetape.model import (
    BadLevels,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Event,
    Fetch,
    Instrument,
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
    TrustState,
)
from onetape.venues.base import UNREADABLE, Acked, Notice, Reaction, Refused, Snapshots, Unknown, Venue
from onetape.venues.binance import PENDING, Binance
from tests.venues.books import checksum

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = (
    "ack", "ack_2", "listed", "error", "error_nested", "error_without_id", "trade", "agg_trade", "quote", "quote_empty",
    "ticker", "candle", "candle_empty", "depth", "depth_next", "depth20", "mini_ticker", "ticker_1h", "block_trade",
    "ticker_arr", "shutdown",
)
FRAMES = dict(zip(NAMES, (FIXTURES / "binance.jsonl").read_bytes().splitlines(), strict=True))
REST = json.loads((FIXTURES / "binance_rest.json").read_text())
BODIES = {name: json.dumps(body).encode() for name, body in REST.items()}
DATA = ("trade", "agg_trade", "quote", "ticker", "candle", "depth", "depth20")
NOW = 1_790_000_000_500 * MILLISECOND
BOOK, TRADES = Subscription("AAAUSDT", Channel.BOOK), Subscription("AAAUSDT", Channel.TRADES)
D = Decimal


def common(ms: int, symbol: str = "AAAUSDT") -> dict[str, Any]:
    return {
        "venue": "binance", "symbol": symbol, "exchange_time": ms * MILLISECOND, "received_time": NOW,
        "available_at": NOW,
    }


def timeless(symbol: str = "AAAUSDT") -> dict[str, Any]:
    return common(0, symbol) | {"exchange_time": NOW}


def levels(*pairs: tuple[str, str]) -> Levels:
    return Levels.of((D(price), D(size)) for price, size in pairs)


def spoilt(name: str, old: bytes, new: bytes) -> bytes:
    assert old in FRAMES[name]
    return FRAMES[name].replace(old, new)


def one(frame: bytes) -> Event:
    (event,) = Binance().parse(frame, NOW)
    assert isinstance(event, Event)
    return event


def test_it_is_a_venue() -> None:
    venue: Venue = Binance()
    assert (venue.spec.name, venue.spec.exchange, venue.route) == ("binance", "binance", "")
    assert venue.ping(1) is None
    with pytest.raises(ValueError, match="sums nothing"):
        checksum(venue, "AAAUSDT", [], [])


def test_its_tables() -> None:
    spec = Binance.spec
    assert (spec.book.snapshots, spec.book.resends, spec.book.overlapping) == (Snapshots.REST, False, True)
    assert spec.book.checksum_depth == 0
    assert spec.capabilities.tape is Channel.TRADES
    assert spec.capabilities.depths == (0, 5, 10, 20)
    assert {"1s", "1m", "5m", "1h", "1d", "1w", "1M"} <= set(spec.capabilities.intervals)
    assert spec.capabilities.channels == set(Channel) - {Channel.STATUS}
    assert (spec.budget.weight, spec.budget.per_ns) == (6_000, MINUTE)
    assert (spec.limits.subscriptions, spec.limits.connects, spec.limits.connects_per_ns) == (1_024, 300, 5 * MINUTE)
    assert set(spec.endpoints) == {"production", "testnet", "demo"}
    assert all(Binance.route_of(Subscription("A", it)) == "" for it in spec.capabilities.channels)


# --- out ------------------------------------------------------------------------------------------------------------


def test_streams() -> None:
    (frame,) = Binance().subscribe([
        TRADES, Subscription("AAAUSDT", Channel.AGG_TRADES), Subscription("AAAUSDT", Channel.QUOTES),
        Subscription("AAAUSDT", Channel.TICKER), Subscription("AAAUSDT", Channel.CANDLES, interval="1M"), BOOK,
        *(Subscription(f"B{depth}USDT", Channel.BOOK, depth) for depth in (5, 10, 20, 50)),
    ])
    assert json.loads(frame) == {"method": "SUBSCRIBE", "id": 1, "params": [
        "aaausdt@trade", "aaausdt@aggTrade", "aaausdt@bookTicker", "aaausdt@ticker", "aaausdt@kline_1M",
        "aaausdt@depth@100ms", "b5usdt@depth5@100ms", "b10usdt@depth10@100ms", "b20usdt@depth20@100ms",
        "b50usdt@depth@100ms",
    ]}


def test_unsubscribe_frame() -> None:
    binance = Binance()
    binance.subscribe([BOOK])
    assert binance.unsubscribe([BOOK]) == [b'{"method":"UNSUBSCRIBE","params":["aaausdt@depth@100ms"],"id":2}']


def test_there_is_no_status_channel() -> None:
    with pytest.raises(ValueError, match="no status channel"):
        Binance().subscribe([Subscription("", Channel.STATUS)])


@pytest.mark.parametrize("symbol", ["SYMBOL{}USDT", "币安人生{}USDT"])  # the limit is one of bytes
def test_request_frames_stay_below_four_thousand_bytes(symbol: str) -> None:
    wanted = [Subscription(symbol.format(n), Channel.BOOK) for n in range(1_024)]
    frames = Binance().subscribe(wanted)
    assert 1 < max(map(len, frames)) <= 4_000
    assert min(map(len, frames[:-1])) > 3_800  # and are filled
    assert [json.loads(it)["id"] for it in frames] == list(range(1, len(frames) + 1))
    assert [name for it in frames for name in json.loads(it)["params"]] == [
        f"{it.symbol.lower()}@depth@100ms" for it in wanted
    ]


def test_a_symbol_cannot_break_out_of_its_frame() -> None:
    (frame,) = Binance().subscribe([Subscription('X"],"METHOD":"Y', Channel.TRADES)])
    assert json.loads(frame) == {"method": "SUBSCRIBE", "params": ['x"],"method":"y@trade'], "id": 1}


def test_an_ack_names_what_was_asked_for() -> None:
    binance = Binance()
    binance.subscribe([BOOK, TRADES])
    binance.unsubscribe([TRADES])
    assert binance.parse(FRAMES["ack_2"], NOW) == (Acked((TRADES,), removed=True),)
    assert binance.parse(FRAMES["ack"], NOW) == (Acked((BOOK, TRADES)),)
    assert binance.parse(FRAMES["ack"], NOW) == (Acked(()),)  # said already


def test_each_frame_of_a_long_request_is_acked_by_itself() -> None:
    binance = Binance()
    wanted = [Subscription(f"C{n}USDT", Channel.TRADES) for n in range(400)]
    frames = binance.subscribe(wanted)
    acked = [binance.parse(b'{"result":null,"id":%d}' % json.loads(it)["id"], NOW)[0] for it in frames]
    assert [it for ack in acked if isinstance(ack, Acked) for it in ack.subscriptions] == wanted


def test_requests_never_answered_are_forgotten_in_the_end() -> None:
    binance = Binance()
    for number in range(500):
        binance.subscribe([Subscription(f"C{number}USDT", Channel.BOOK)])
    assert len(binance._requests._pending) == PENDING
    assert binance.parse(b'{"result":null,"id":500}', NOW) == (Acked((Subscription("C499USDT", Channel.BOOK),)),)


def test_what_others_list_is_an_ack_of_nothing() -> None:
    assert Binance().parse(FRAMES["listed"], NOW) == (Acked(()),)


@pytest.mark.parametrize(("name", "reason"), [
    ("error", "2: Invalid request: invalid stream"), ("error_nested", "4: Too many subscriptions"),
])
def test_a_refusal_in_either_shape_names_what_was_asked_for(name: str, reason: str) -> None:
    binance = Binance()
    binance.subscribe([BOOK])
    assert binance.parse(FRAMES[name], NOW) == (Refused((BOOK,), reason, Reaction.DROP),)
    assert binance.parse(FRAMES[name], NOW) == (Refused((), reason, Reaction.DROP),)


@pytest.mark.parametrize("name", ["error", "error_nested"])
def test_of_many_refused_at_once_each_is_asked_for_alone(name: str) -> None:
    binance = Binance()
    binance.subscribe([BOOK, TRADES])
    (refused,) = binance.parse(FRAMES[name], NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.reaction, refused.removed) == ((BOOK, TRADES), Reaction.RETRY, False)
    binance.subscribe([BOOK])
    binance.subscribe([TRADES])
    assert binance.parse(FRAMES["ack_2"], NOW) == (Acked((BOOK,)),)  # the good one...
    (refused,) = binance.parse(FRAMES[name].replace(b'"id":1', b'"id":3'), NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.reaction) == ((TRADES,), Reaction.DROP)  # ...and the bad one


@pytest.mark.parametrize("wanted", [[BOOK], [BOOK, TRADES]])
def test_a_refused_removal_says_so(wanted: list[Subscription]) -> None:
    binance = Binance()
    binance.unsubscribe(wanted)
    (refused,) = binance.parse(FRAMES["error"], NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.reaction, refused.removed) == (tuple(wanted), Reaction.DROP, True)


def test_a_refusal_need_not_say_of_what() -> None:
    reason = "3: Invalid JSON: expected value at line 1 column 1"
    binance = Binance()
    binance.subscribe([BOOK])
    assert binance.parse(FRAMES["error_without_id"], NOW) == (Refused((), reason, Reaction.DROP),)
    assert binance.parse(b'{"error":{"code":0,"msg":"unknown property"}}', NOW) == (
        Refused((), "0: unknown property", Reaction.DROP),
    )
    assert binance.parse(FRAMES["ack"], NOW) == (Acked((BOOK,)),)


# --- in -------------------------------------------------------------------------------------------------------------


def test_trade() -> None:
    assert Binance().parse(FRAMES["trade"], NOW) == (Trade(
        **common(1790000000210), channel=Channel.TRADES, id="9000000123", after=9000000122, price=D("101.5"),
        size=D("0.025"), side=Side.SELL,
    ),)
    buy = one(spoilt("trade", b'"m":true', b'"m":false'))
    assert isinstance(buy, Trade)
    assert (buy.side, buy.source) == (Side.BUY, Source.LIVE)


def test_digits_are_kept() -> None:
    event = one(FRAMES["trade"])
    assert isinstance(event, Trade)
    assert (str(event.price), str(event.size)) == ("101.50000000", "0.02500000")


def test_agg_trade() -> None:
    assert Binance().parse(FRAMES["agg_trade"], NOW) == (Trade(
        **common(1790000000211), channel=Channel.AGG_TRADES, id="4000000056", after=4000000055, price=D("101.6"),
        size=D("1.75"), side=Side.BUY, first_id="9000000124", last_id="9000000129",
    ),)


def test_a_quote_has_no_time_of_its_own() -> None:
    assert Binance().parse(FRAMES["quote"], NOW) == (Quote(
        **timeless(), bid=(D("101.5"), D(7)), ask=(D("101.6"), D("0.3")), sequence=52000000310,
    ),)


def test_a_side_of_a_quote_may_be_empty() -> None:
    assert Binance().parse(FRAMES["quote_empty"], NOW) == (Quote(
        **timeless("NEWUSDT"), bid=None, ask=(D(5), D(2)), sequence=3,
    ),)


def test_ticker() -> None:
    assert Binance().parse(FRAMES["ticker"], NOW) == (Ticker(
        **common(1790000000214), last=D("101.5"), price_change=D("-2.5"), price_change_percent=D("-2.404"),
        high=D("105.25"), low=D("100.75"), volume=D("8200.5"), quote_volume=D("842191.35"),
    ),)


def test_candle() -> None:
    assert Binance().parse(FRAMES["candle"], NOW) == (Candle(
        **common(1790000100007), interval="5m", start=1789999800000 * MILLISECOND, end=1790000100000 * MILLISECOND,
        open=D(101), high=D("101.75"), low=D("100.9"), close=D("101.5"), volume=D("42.5"),
        quote_volume=D("4310.25"), vwap=None, trades=230, taker_buy_volume=D("20.25"), complete=True, final=True,
        source="venue",
    ),)


def test_a_candle_without_a_trade() -> None:
    assert Binance().parse(FRAMES["candle_empty"], NOW) == (Candle(
        **common(1790000001004, "NEWUSDT"), interval="1s", start=1790000000 * SECOND, end=1790000001 * SECOND,
        open=D(5), high=D(5), low=D(5), close=D(5), volume=D(0), quote_volume=D(0), vwap=None, trades=0,
        taker_buy_volume=D(0), complete=True, final=False, source="venue",
    ),)


def test_depth() -> None:
    binance = Binance()
    assert binance.parse(FRAMES["depth"], NOW) == (BookDelta(
        **common(1790000000215), after=52000000300, sequence=52000000310, bids=levels(("101.5", "7")),
        asks=levels(("101.7", "0"), ("101.6", "0.3")),
    ),)
    assert binance.parse(FRAMES["depth_next"], NOW) == (BookDelta(
        **common(1790000000315), after=52000000310, sequence=52000000311, bids=levels(),
        asks=levels(("101.65", "4")),
    ),)


@pytest.mark.parametrize(("stream", "depth"), [
    (b"aaausdt@depth20@100ms", 20), (b"aaausdt@depth5", 5), (b"aaausdt@depth10@100ms", 10),
])
def test_a_partial_depth_is_a_snapshot_that_the_stream_names(stream: bytes, depth: int) -> None:
    assert Binance().parse(spoilt("depth20", b"aaausdt@depth20@100ms", stream), NOW) == (BookSnapshot(
        **timeless(), sequence=52000000312, bids=levels(("101.5", "6.5"), ("101.4", "1")),
        asks=levels(("101.6", "0.3")), depth=depth, verification="none",
    ),)


def test_symbols_need_not_be_latin() -> None:
    event = one(spoilt("depth20", b"aaausdt", "币安人生usdt".encode()))
    assert isinstance(event, BookSnapshot)
    assert event.symbol == "币安人生USDT"


@pytest.mark.parametrize(("name", "what"), [
    ("mini_ticker", "aaausdt@miniTicker"), ("ticker_1h", "aaausdt@ticker_1h"), ("block_trade", "aaausdt@blockTrade"),
    ("ticker_arr", "!ticker_1h@arr"),
])
def test_what_is_not_known_is_counted(name: str, what: str) -> None:
    binance = Binance()
    assert binance.parse(FRAMES[name], NOW) == binance.parse(FRAMES[name], NOW) == (Unknown(what),)


@pytest.mark.parametrize("frame", [b"{}", b'{"result":null}', b'{"id":null,"result":null}', b'{"hello":[1,{"a":2}]}'])
def test_what_says_nothing_is_no_ack(frame: bytes) -> None:
    assert Binance().parse(frame, NOW) == (Unknown("?"),)


def test_shutdown_notice() -> None:
    assert Binance().parse(FRAMES["shutdown"], NOW) == (Notice("serverShutdown"),)


@pytest.mark.parametrize("name", NAMES)
def test_neither_spaces_nor_the_order_of_keys_nor_unknown_fields_matter(name: str) -> None:
    it = json.loads(FRAMES[name])
    more = it | {"future": {"stream": 1}}
    if isinstance(it.get("data"), dict):
        more["data"] = it["data"] | {"zz": [1, {"a": None}]}
    for frame in (
        json.dumps(it), json.dumps(it, indent=1), json.dumps(dict(reversed(it.items()))), json.dumps(more),
    ):
        binance = Binance()
        binance.subscribe([BOOK])
        expected = Binance()
        expected.subscribe([BOOK])
        assert binance.parse(frame.encode(), NOW) == expected.parse(FRAMES[name], NOW)


def test_streams_of_one_connection_are_told_apart_again_and_again() -> None:
    binance = Binance()
    for _ in range(3):
        assert [type(binance.parse(FRAMES[name], NOW)[0]) for name in DATA] == [
            Trade, Trade, Quote, Ticker, Candle, BookDelta, BookSnapshot,
        ]


# --- REST -----------------------------------------------------------------------------------------------------------


def query(request: Request | None) -> tuple[str, dict[str, str]]:
    assert request is not None
    parts = urlsplit(request.path)
    return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}


def test_time() -> None:
    binance = Binance()
    assert binance.time_request() == Request(RestKind.TIME, "/api/v3/time")
    assert binance.parse_time(BODIES["time"]) == 1790000000221 * MILLISECOND


def spot(symbol: str, base: str, quote: str, status: str = "TRADING", tick: str = "0.01") -> Instrument:
    return Instrument(
        id=InstrumentId("binance", symbol), pair=f"{base}-{quote}", base=base, quote=quote, kind=Kind.SPOT,
        tradable=status == "TRADING", status=status, tick_size=D(tick), lot_size=D("0.0001"), min_size=D("0.0001"),
    )


def test_instruments() -> None:
    binance = Binance()
    assert binance.instrument_requests() == [Request(RestKind.INSTRUMENTS, "/api/v3/exchangeInfo", weight=20)]
    instruments, more = binance.parse_instruments(BODIES["instruments"])
    assert more is None
    assert instruments[:-1] == [  # what is half announced or malformed hides nobody else
        spot("AAAUSDT", "AAA", "USDT"), spot("AUSDTB", "AUSD", "TB", tick="0.00000001"),
        spot("币安人生USDT", "币安人生", "USDT"), spot("OLDUSDT", "OLD", "USDT", "BREAK"),
        spot("SLOWUSDT", "SLOW", "USDT", "CANCEL_ONLY"), spot("ODDUSDT", "ODD", "USDT", "MAINTENANCE_2"),
    ]
    plain = instruments[-1]  # names no filters
    assert (plain.pair, plain.tick_size, plain.lot_size, plain.min_size) == ("PLAIN-USDT", D(0), D(0), None)


@pytest.mark.parametrize(("depth", "limit", "weight"), [
    (0, 5_000, 250), (5, 100, 5), (100, 100, 5), (101, 500, 25), (500, 500, 25), (1_000, 1_000, 50),
    (1_001, 5_000, 250), (9_999, 5_000, 250),
])
def test_book_request(depth: int, limit: int, weight: int) -> None:
    assert Binance().book_request("AAAUSDT", depth) == Request(
        RestKind.BOOK, f"/api/v3/depth?symbol=AAAUSDT&limit={limit}", "AAAUSDT", weight, depth=limit,
    )


def test_symbols_are_percent_encoded() -> None:
    binance = Binance()
    for symbol in ("币安人生USDT", "A&limit=1#"):
        requests = (
            binance.book_request(symbol, 100), binance.trades_request(symbol, "1", None, None),
            binance.trades_request(symbol, None, None, NOW), binance.trades_request(symbol, None, None, None),
            binance.candles_request(symbol, "1m", NOW, NOW + MINUTE),
        )
        for request in requests:
            assert request is not None
            assert request.path.isascii()
            assert query(request)[1]["symbol"] == request.symbol == symbol


def test_book_by_rest() -> None:
    binance = Binance()
    request = binance.book_request("AAAUSDT", 0)
    assert binance.parse_book(request, BODIES["book"], NOW) == BookSnapshot(
        **timeless(), sequence=52000000305, bids=levels(("101.4", "1"), ("101.3", "2")), asks=levels(("101.7", "3")),
        depth=5_000, verification="sequence",
    )
    assert binance.parse_book(request, BODIES["book_new_listing"], NOW) == BookSnapshot(
        **timeless(), sequence=-1, bids=levels(), asks=levels(), depth=5_000, verification="sequence",
    )


def test_trades_are_asked_for_by_id_and_by_time() -> None:
    binance = Binance()
    by_id = binance.trades_request("AAAUSDT", "9000000123", "9000009999", NOW)
    assert by_id == Request(  # the id itself is had already: by its time it can be told whose trades they are
        RestKind.TRADES, "/api/v3/historicalTrades?symbol=AAAUSDT&fromId=9000000123&limit=1000", "AAAUSDT", 25,
        channel=Channel.TRADES,
    )
    by_time = binance.trades_request("AAAUSDT", None, None, NOW)  # only aggregates can be asked for by time
    assert by_time == Request(
        RestKind.TRADES, "/api/v3/aggTrades?symbol=AAAUSDT&startTime=1790000000500&limit=1", "AAAUSDT", 4,
        channel=Channel.AGG_TRADES,
    )
    newest = binance.trades_request("AAAUSDT", None, None, None)
    assert newest == Request(
        RestKind.TRADES, "/api/v3/historicalTrades?symbol=AAAUSDT&limit=1000", "AAAUSDT", 25, channel=Channel.TRADES,
    )


def test_trades_by_rest() -> None:
    binance = Binance()
    request = binance.trades_request("AAAUSDT", "9000000123", None, None)
    assert request is not None
    assert binance.parse_trades(request, BODIES["trades"], NOW) == [
        Trade(
            **common(1790000000211), channel=Channel.TRADES, id="9000000124", after=9000000123, price=D("101.6"),
            size=D("0.75"), side=Side.BUY, source=Source.BACKFILL,
        ),
        Trade(
            **common(1790000000211), channel=Channel.TRADES, id="9000000125", after=9000000124, price=D("101.6"),
            size=D(1), side=Side.SELL, source=Source.BACKFILL,
        ),
    ]


def test_aggregates_by_rest() -> None:
    binance = Binance()
    request = binance.trades_request("AAAUSDT", None, None, NOW)
    assert request is not None
    assert binance.parse_trades(request, BODIES["agg_trades"], NOW) == [
        Trade(
            **common(1790000000211), channel=Channel.AGG_TRADES, id="4000000056", after=4000000055, price=D("101.6"),
            size=D("1.75"), side=Side.BUY, source=Source.BACKFILL, first_id="9000000124", last_id="9000000129",
        ),
        Trade(
            **common(1790000000260), channel=Channel.AGG_TRADES, id="4000000057", after=4000000056, price=D("101.5"),
            size=D("0.1"), side=Side.SELL, source=Source.BACKFILL, first_id="9000000130", last_id="9000000130",
        ),
    ]


def test_candles_are_asked_for_without_their_end() -> None:
    assert Binance().candles_request("AAAUSDT", "1d", 19_000 * DAY, 19_001 * DAY) == Request(
        RestKind.CANDLES,
        "/api/v3/klines?symbol=AAAUSDT&interval=1d&startTime=1641600000000&endTime=1641686399999&limit=1000",
        "AAAUSDT", 2, interval="1d",
    )


def test_candles_by_rest() -> None:
    binance = Binance()
    now = 1790000100000 * MILLISECOND
    first, running = binance.parse_candles(binance.candles_request("AAAUSDT", "5m", 0, now), BODIES["candles"], now)
    assert first == Candle(
        venue="binance", symbol="AAAUSDT", exchange_time=now, received_time=now, available_at=now, interval="5m",
        start=1789999800000 * MILLISECOND, end=now, open=D(101), high=D("101.75"), low=D("100.9"), close=D("101.5"),
        volume=D("42.5"), quote_volume=D("4310.25"), vwap=None, trades=230, taker_buy_volume=D("20.25"),
        complete=True, final=True, source="venue",
    )
    assert (running.start, running.end, running.final) == (now, now + 5 * MINUTE, False)
    assert running.exchange_time == now  # never later than it was had
    before = binance.parse_candles(binance.candles_request("AAAUSDT", "5m", 0, now), BODIES["candles"], now - 1)
    assert not before[0].final


def test_request_of_a_url_is_the_request_that_was_made() -> None:
    binance = Binance()
    for made in (
        binance.time_request(), *binance.instrument_requests(), binance.book_request("AAAUSDT", 0),
        binance.book_request("币安人生USDT", 100), binance.trades_request("AAAUSDT", "7", None, None),
        binance.trades_request("AAAUSDT", None, None, NOW), binance.candles_request("AAAUSDT", "4h", NOW, NOW),
    ):
        assert made is not None
        found = binance.request_of("https://api.binance.com" + made.path)
        assert found is not None
        assert (found.kind, found.path, found.symbol, found.depth, found.channel, found.interval) == (
            made.kind, made.path, made.symbol, made.depth, made.channel, made.interval,
        )
    for other in (
        "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT", "https://api.binance.com/api/v3/ticker/24hr",
        "https://api.binance.com/", "",
    ):
        assert binance.request_of(other) is None


def test_a_url_of_old_and_one_without_a_limit() -> None:
    old = Binance().request_of("https://www.binance.com/api/v1/depth?symbol=AAABTC&limit=500")
    assert old is not None
    assert (old.kind, old.symbol, old.depth) == (RestKind.BOOK, "AAABTC", 500)
    bare = Binance().request_of("https://api.binance.com/api/v3/depth?symbol=AAABTC")
    assert bare is not None
    assert bare.depth == 100  # it is cut, though nobody asked for that


@pytest.mark.parametrize(("status", "headers", "body", "error", "wait"), [
    (429, {"retry-after": "7"}, b'{"code":-1003,"msg":"Too many requests"}', TryAgain, 7 * SECOND),
    (418, {"retry-after": "259200"}, b'{"code":-1003,"msg":"banned until 1790000000999"}', TryAgain, 72 * HOUR),
    (429, {}, b"", TryAgain, MINUTE),
    (429, {"retry-after": "soon"}, b"", TryAgain, MINUTE),
    (429, {"retry-after": "\u00b2"}, b"", TryAgain, MINUTE),
    (418, {"retry-after": "9" * 5_000}, b"", TryAgain, 3 * DAY),
    (403, {"retry-after": "30"}, b"<html>", TryAgain, 30 * SECOND),
    (503, {"retry-after": "2"}, b"", TryAgain, 2 * SECOND),
    (403, {}, b"<html>", TryAgain, 5 * MINUTE),
    (500, {}, b'{"code":-1000,"msg":"unknown"}', TryAgain, 0),
    (502, {}, b"<html>bad gateway</html>", TryAgain, 0),
    (503, {}, b"", TryAgain, 0),
    (503, {}, b'{"x":' + b"[" * 100_000, TryAgain, 0),
    (504, {}, b'{"code":1,"msg":"\xff"}', TryAgain, 0),
    (408, {}, b"", TryAgain, 0),
    *((400, {}, b'{"code":%d,"msg":"so it is"}' % code, TryAgain, 0)
      for code in (-1000, -1001, -1003, -1006, -1007, -1008, -1016, -1034)),
    (400, {}, b'{"code":-1021,"msg":"Timestamp for this request is outside of the recvWindow."}', ClockSkew, None),
    *((400, {}, b'{"code":%d,"msg":"so it is"}' % code, GiveUp, None)
      for code in (-1002, -1013, -1020, -1022, -1100, -1106, -1111, -1120, -1121, -1128, -1130, -2015, -2043, -9999)),
    (401, {}, b'{"code":-2014,"msg":"API-key format invalid."}', GiveUp, None),
    (404, {}, b"<html>", GiveUp, None),
    (451, {}, b'{"code":0,"msg":"Service unavailable from a restricted location"}', GiveUp, None),
])
def test_errors_have_their_class(
    status: int, headers: dict[str, str], body: bytes, error: type[Exception], wait: int | None,
) -> None:
    with pytest.raises(error, match=f"HTTP {status}") as caught:
        Binance().check(status, headers, body)
    assert getattr(caught.value, "retry_after_ns", None) == wait
    assert len(str(caught.value)) < 200


def test_an_error_carries_the_words_of_the_venue() -> None:
    with pytest.raises(GiveUp, match=r"^HTTP 400: -1121 Invalid symbol\.$"):
        Binance().check(400, {}, BODIES["unknown_symbol"])


def test_good_answers_pass() -> None:
    for name in ("time", "instruments", "book", "trades", "agg_trades", "candles"):
        Binance().check(200, {}, BODIES[name])


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_truncated_frames_are_refused_and_change_nothing(name: str) -> None:
    binance = Binance()
    binance.subscribe([BOOK])
    for cut in range(len(FRAMES[name])):
        with pytest.raises(UNREADABLE) as caught:
            binance.parse(FRAMES[name][:cut], NOW)
        assert str(caught.value)
        binance.blame(FRAMES[name][:cut])
    assert binance.parse(FRAMES["ack"], NOW) == (Acked((BOOK,)),)


def test_a_name_cut_short_does_not_stand_for_another_stream() -> None:
    binance = Binance()
    with pytest.raises(UNREADABLE):
        binance.parse(b'{"stream":"aaausdt@depth5', NOW)
    (event,) = binance.parse(spoilt("depth", b"aaausdt@depth@100ms", b"aaausdt@depth"), NOW)
    assert isinstance(event, BookDelta)


@pytest.mark.parametrize("bad", [
    b'"NaN"', b'"-1"', b'"+1"', b'"Infinity"', b'"1_0"', b'" 1"', b'"1e99"', b'"' + b"9" * 40 + b'"', b"null", b"{}",
    b"1", b'"\xff"', b'""', b"[" * 100_000,
])
@pytest.mark.parametrize(("name", "good"), [
    ("trade", b'"101.50000000"'), ("trade", b'"0.02500000"'), ("agg_trade", b'"101.60000000"'),
    ("agg_trade", b'"1.75000000"'), ("quote", b'"101.60000000"'), ("quote", b'"7.00000000"'),
    ("ticker", b'"105.25000000"'), ("ticker", b'"8200.50000000"'), ("candle", b'"100.90000000"'),
    ("candle", b'"42.50000000"'), ("candle", b'"20.25000000"'),
])
def test_bad_numbers_are_refused(name: str, good: bytes, bad: bytes) -> None:
    with pytest.raises(UNREADABLE) as caught:
        Binance().parse(spoilt(name, good, bad), NOW)
    assert str(caught.value)


@pytest.mark.parametrize("bad", [b"-2", b"1.5", b"1e400", b"9" * 40, b'"1"', b"null", b"true", b"NaN", b"[]"])
@pytest.mark.parametrize(("name", "key", "good"), [
    ("trade", b"t", b"9000000123"), ("trade", b"T", b"1790000000210"), ("agg_trade", b"a", b"4000000056"),
    ("agg_trade", b"f", b"9000000124"), ("agg_trade", b"T", b"1790000000211"), ("quote", b"u", b"52000000310"),
    ("ticker", b"E", b"1790000000214"), ("candle", b"E", b"1790000100007"), ("candle", b"t", b"1789999800000"),
    ("candle", b"T", b"1790000099999"), ("candle", b"n", b"230"), ("depth", b"E", b"1790000000215"),
    ("depth", b"U", b"52000000301"), ("depth", b"u", b"52000000310"), ("depth20", b"lastUpdateId", b"52000000312"),
])
def test_bad_whole_numbers_are_refused(name: str, key: bytes, good: bytes, bad: bytes) -> None:
    frame = spoilt(name, b'"%b":%b' % (key, good), b'"%b":%b' % (key, bad))
    with pytest.raises(UNREADABLE) as caught:
        Binance().parse(frame, NOW)
    assert str(caught.value)


def test_what_does_not_exist_yet_is_no_number() -> None:
    frame = spoilt("agg_trade", b'"f":9000000124', b'"f":-1').replace(b'"l":9000000129', b'"l":-1')
    trade = one(frame)
    assert isinstance(trade, Trade)
    assert (trade.id, trade.first_id, trade.last_id) == ("4000000056", None, None)
    empty = one(spoilt("depth20", b"52000000312", b"-1"))
    assert isinstance(empty, BookSnapshot)
    assert empty.sequence == -1  # a new listing: the book begins with its first delta


def test_the_last_millisecond_that_fits_has_no_candle() -> None:
    last = (2**63 - 1) // MILLISECOND
    (trade,) = Binance().parse(spoilt("trade", b'"T":1790000000210', b'"T":%d' % last), NOW)
    assert isinstance(trade, Trade)
    assert trade.exchange_time < 2**63
    with pytest.raises(UNREADABLE):
        Binance().parse(spoilt("candle", b'"T":1790000099999', b'"T":%d' % last), NOW)
    request = Binance().candles_request("A", "5m", 0, SECOND)
    body = BODIES["candles"].replace(b"1790000099999", b"%d" % last)
    assert body != BODIES["candles"]
    with pytest.raises(UNREADABLE):
        Binance().parse_candles(request, body, NOW)


@pytest.mark.parametrize("frame", [
    b"", b"null", b"5", b"[]", b'"pong"', b"\xff\xfe", b"[" * 100_000, b'{"stream":' * 100_000,
    b'{"stream":"aaausdt@trade"}', b'{"stream":"aaausdt@trade","data":null}', b'{"stream":"aaausdt@trade","data":[]}',
    b'{"stream":"aaausdt@depth@100ms","data":' + b"[" * 100_000, b'{"stream":5,"data":{}}',
    b'{"stream":"aaausdt@depth' + b"9" * 5_000 + b'","data":{"lastUpdateId":1,"bids":[],"asks":[]}}',
    spoilt("trade", b'"m":true', b'"m":1'), spoilt("trade", b'"s":"AAAUSDT"', b'"s":"A\xff"'),
    spoilt("trade", b'"p":"101.50000000",', b""), spoilt("depth", b'"b":', b'"beds":'),
    spoilt("depth20", b'"data":', b'"date":'), spoilt("ack", b":1}", b':"one"}'),
    spoilt("error", b'"code":2', b'"code":"2"'), spoilt("error_nested", b'"code":4,', b""),
])
def test_garbage_is_refused_and_changes_nothing(frame: bytes) -> None:
    binance = Binance()
    binance.subscribe([BOOK])
    with pytest.raises(UNREADABLE) as caught:
        binance.parse(frame, NOW)
    assert str(caught.value)
    binance.blame(frame)
    assert binance.parse(FRAMES["ack"], NOW) == (Acked((BOOK,)),)


def test_streams_never_asked_for_are_bounded() -> None:
    binance = Binance()
    for number in range(3 * binance.spec.limits.subscriptions):
        binance.parse(spoilt("trade", b"aaausdt", b"c%dusdt" % number), NOW)
    assert len(binance._readers.by_stream) <= 2 * binance.spec.limits.subscriptions
    assert [type(binance.parse(FRAMES[name], NOW)[0]) for name in DATA] == [
        Trade, Trade, Quote, Ticker, Candle, BookDelta, BookSnapshot,
    ]


BAD_LEVELS = [
    b'["101.5"]', b'["-1","1"]', b"[1,2]", b'["NaN","1"]', b'["1","' + b"9" * 40 + b'"]', b"7", b'["1e99","1"]', b"{}",
    b'["","1"]', b'["1",null]', b'["1","\xff"]',
]


@pytest.mark.parametrize("level", BAD_LEVELS)
def test_bad_levels_are_found_when_they_are_read(level: bytes) -> None:
    delta = one(spoilt("depth", b'["101.50000000","7.00000000"]', level))
    snapshot = one(spoilt("depth20", b'["101.40000000","1.00000000"]', level))
    for event in (delta, snapshot):
        assert isinstance(event, BookDelta | BookSnapshot)
        with pytest.raises(BadLevels):
            event.bids.read()
        assert event.asks.read()


@pytest.mark.parametrize(("frame", "blamed"), [
    (FRAMES["depth"][:-20], ("AAAUSDT", Channel.BOOK)), (FRAMES["depth20"], ("AAAUSDT", Channel.BOOK)),
    (FRAMES["trade"], ("AAAUSDT", Channel.TRADES)), (FRAMES["agg_trade"], ("AAAUSDT", Channel.AGG_TRADES)),
    (FRAMES["quote"], ("AAAUSDT", Channel.QUOTES)), (FRAMES["ticker"], ("AAAUSDT", Channel.TICKER)),
    (FRAMES["candle"], ("AAAUSDT", Channel.CANDLES)), (b'{"stream" : "aaausdt@depth@1', ("AAAUSDT", Channel.BOOK)),
    ('{"stream":"币安人生usdt@trade",'.encode(), ("币安人生USDT", Channel.TRADES)),
    (b'{"stream":"\xffusdt@trade",', ("\ufffdUSDT", Channel.TRADES)),
    (b'{"data":{},"stream":"aaausdt@depth@100ms"', ("AAAUSDT", Channel.BOOK)),
    (FRAMES["mini_ticker"], ("", None)), (FRAMES["ack"], ("", None)), (b'{"stream":"aaausdt@dep', ("", None)),
    (b"\xff", ("", None)), (b"", ("", None)),
])
def test_blame(frame: bytes, blamed: tuple[str, Channel | None]) -> None:
    assert Binance().blame(frame) == blamed


@pytest.mark.parametrize("body", [
    b"", b"{}", b"null", b'[{"a":1}]', b'[[1,"x"]]', b"[" * 100_000, b"\xff", b"<html>", BODIES["unknown_symbol"],
    BODIES["book"][:-1], BODIES["trades"][:-1], BODIES["candles"][:-1], BODIES["instruments"][:-1],
    BODIES["trades"].replace(b'"101.60000000"', b'"-1"'), BODIES["trades"].replace(b"9000000125", b"9" * 40),
    BODIES["agg_trades"].replace(b'"1.75000000"', b'"NaN"'), BODIES["agg_trades"].replace(b"1790000000211", b"-5"),
    BODIES["candles"].replace(b'"42.50000000"', b'"' + b"9" * 40 + b'"'),
    BODIES["candles"].replace(b"1789999800000", b"9" * 40), BODIES["book"].replace(b"52000000305", b"-2"),
    BODIES["time"].replace(b"1790000000221", b"-1"), BODIES["time"].replace(b"1790000000221", b"9" * 40),
])
def test_bad_bodies_are_refused(body: bytes) -> None:
    binance = Binance()
    by_id, by_time = binance.trades_request("A", "1", None, None), binance.trades_request("A", None, None, NOW)
    assert by_id is not None
    assert by_time is not None
    reads = [
        lambda: binance.parse_trades(by_id, body, NOW), lambda: binance.parse_trades(by_time, body, NOW),
        lambda: binance.parse_book(binance.book_request("A", 5), body, NOW),
        lambda: binance.parse_candles(binance.candles_request("A", "5m", 0, NOW), body, NOW),
        lambda: binance.parse_instruments(body), lambda: binance.parse_time(body),
    ]
    for read in reads:
        with pytest.raises(UNREADABLE) as caught:
            read()
        assert str(caught.value)


# --- traps of others ------------------------------------------------------------------------------------------------


def test_trap_02_an_ack_is_only_an_ack() -> None:
    binance = Binance()
    nowhere = Subscription("NOSUCHUSDT", Channel.BOOK)
    binance.subscribe([nowhere])
    assert binance.parse(FRAMES["ack"], NOW) == (Acked((nowhere,)),)
    assert binance.spec.timings.first_frame_ns > 0  # what is acked and stays silent is noticed


def test_trap_03_only_the_combined_form_can_be_told_apart() -> None:
    for environment in Binance.spec.endpoints.values():
        assert all(urlsplit(url).path == "/stream" for urls in environment.websocket.values() for url in urls)
    for name in (*DATA, "shutdown"):
        raw = json.dumps(json.loads(FRAMES[name])["data"]).encode()
        try:
            said = Binance().parse(raw, NOW)
        except UNREADABLE:
            continue  # an aggregate without its wrapper, say
        assert said == (Unknown("?"),)


def test_trap_04_continuity_is_u_plus_one() -> None:
    first, second = one(FRAMES["depth"]), one(FRAMES["depth_next"])
    assert isinstance(first, BookDelta)
    assert isinstance(second, BookDelta)
    assert second.after == first.sequence
    assert one(spoilt("depth_next", b'"s":', b'"pu":7,"s":')) == second  # a key of the futures, of no meaning here
    assert Binance.spec.book.overlapping


def test_trap_05_the_buffer_outlives_an_old_snapshot_and_the_straddling_event_is_kept() -> None:
    session = Session(Binance(), (BOOK,), NOW)
    session.open(NOW)
    (fetch,) = session.receive(FRAMES["depth"], NOW)  # first the stream, then the snapshot
    assert isinstance(fetch, Fetch)
    session.receive(FRAMES["depth_next"], NOW)
    old = BODIES["book"].replace(b"52000000305", b"52000000299")
    session.receive_rest(fetch.id, 200, old, NOW)
    assert session.books["AAAUSDT"].state is TrustState.SYNCING
    again = next(it for it in session.wake(NOW + MINUTE) if isinstance(it, Fetch))
    session.receive_rest(again.id, 200, BODIES["book"], NOW + MINUTE)  # at 305, in the middle of the first event
    sync = session.books["AAAUSDT"]
    assert (sync.state, sync.sequence) == (TrustState.LIVE, 52000000311)
    assert sync.book.bids(2) == [(D("101.5"), D(7)), (D("101.4"), D(1))]
    assert sync.book.asks(2) == [(D("101.6"), D("0.3")), (D("101.65"), D(4))]


def test_trap_06_a_level_once_cut_is_not_sent_again() -> None:
    assert not Binance.spec.book.resends
    binance = Binance()
    for depth in (100, 1_000, 0):  # even of all there is 5000 levels are an edge
        request = binance.book_request("AAAUSDT", depth)
        assert request.depth == int(query(request)[1]["limit"])
        assert binance.parse_book(request, BODIES["book"], NOW).depth == request.depth


def test_trap_07_what_an_outage_cost_can_be_asked_for() -> None:
    binance = Binance()
    last = one(FRAMES["trade"])
    assert isinstance(last, Trade)
    request = binance.trades_request("AAAUSDT", last.id, None, None)
    assert request is not None
    missed = binance.parse_trades(request, BODIES["trades"], NOW)
    assert [it.after for it in missed] == [int(last.id), int(missed[0].id)]  # no id in between
    candle = one(FRAMES["candle"])
    assert isinstance(candle, Candle)
    again = binance.candles_request("AAAUSDT", "5m", candle.start, candle.end)
    assert query(again)[1]["startTime"] == str(candle.start // MILLISECOND)
    assert int(query(again)[1]["endTime"]) == candle.end // MILLISECOND - 1


def test_trap_08_a_snapshot_costs_no_more_than_it_must() -> None:
    spec = Binance.spec
    weights = [Binance().book_request("AAAUSDT", depth).weight for depth in (100, 500, 1_000, 0)]
    assert weights == [5, 25, 50, 250]
    assert spec.budget.used_header == "x-mbx-used-weight-1m"
    assert spec.timings.rotate_after_ns < 24 * HOUR
    assert spec.close_codes == {1008: Reaction.RETRY}
    assert spec.limits.sends_per_second < 5


def test_trap_09_block_trades_are_not_on_the_tape() -> None:
    assert Binance().parse(FRAMES["block_trade"], NOW) == (Unknown("aaausdt@blockTrade"),)


def test_trap_10_own_pings_would_count_against_the_limit() -> None:
    assert Binance().ping(1) is None
    assert Binance.spec.timings.ping_every_ns == 0
    assert Binance.spec.timings.silence_ns == 30 * SECOND  # the server pings each 20 s


def test_trap_11_an_aggregate_is_the_sum_of_its_matches() -> None:
    binance = Binance()
    by_id, by_time = binance.trades_request("A", "1", None, None), binance.trades_request("A", None, None, NOW)
    assert by_id is not None
    assert by_time is not None
    matches = binance.parse_trades(by_id, BODIES["trades"], NOW)
    first, second = binance.parse_trades(by_time, BODIES["agg_trades"], NOW)
    assert sum(it.size for it in matches) == first.size == D("1.75")
    assert int(second.first_id or 0) == int(first.last_id or 0) + 1
    assert {it.channel for it in matches} != {first.channel}  # two series of ids, never mixed


def test_trap_12_an_upgrade_announces_itself() -> None:
    assert Binance().parse(FRAMES["shutdown"], NOW) == (Notice("serverShutdown"),)
    assert Binance().parse(b'{"stream": "!serverShutdown", "data": {}}', NOW) == (Notice("serverShutdown"),)


# --- what the exchange really sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count", "symbols", "kinds"), [
    ("spot_20240808_ethusdt", 33_617, 1, {BookDelta: 3_434, Quote: 24_077, Trade: 6_106}),
    ("spot_20210814_4sym", 1_003, 4, None), ("spot_20211012_4sym", 265, 4, None),
])
def test_recordings(recordings: Path, name: str, count: int, symbols: int, kinds: dict[type, int] | None) -> None:
    binance = Binance()
    here: dict[tuple[str, Channel], int] = {}
    seen: dict[type, int] = {}
    for frame in (recordings / "binance" / f"{name}.jsonl").read_bytes().splitlines():
        (event,) = binance.parse(frame, NOW)
        seen[type(event)] = seen.get(type(event), 0) + 1
        if isinstance(event, BookDelta):
            assert len(event.bids) + len(event.asks) > 0
            assert event.after < event.sequence
            key = event.symbol, Channel.BOOK
            assert here.get(key, event.after) == event.after
            here[key] = event.sequence
        elif isinstance(event, Trade):
            key = event.symbol, event.channel
            assert here.get(key, event.after) == event.after  # not one id is missing
            here[key] = int(event.id)
        elif isinstance(event, Quote):
            assert event.bid is not None
            assert event.ask is not None
            assert event.bid[0] < event.ask[0]
        else:
            assert isinstance(event, Candle)
            assert event.end - event.start == MINUTE
    assert sum(seen.values()) == count
    assert kinds in (None, seen)
    assert len({symbol for symbol, channel in here if channel is Channel.BOOK}) == symbols


def test_samples(recordings: Path) -> None:
    folder = recordings / "binance" / "samples"
    frames = (folder / "crypto_msg_parser_raw.jsonl").read_bytes().splitlines()
    frames += [
        json.dumps(json.loads(it)["msg"]).encode()
        for it in (folder / "tardis_node_mapper_messages.jsonl").read_bytes().splitlines()
    ]
    kinds, reasons = set(), []
    for frame in frames:  # futures and options among them
        try:
            kinds |= {type(it) for it in Binance().parse(frame, NOW)}
        except UNREADABLE as error:
            reasons.append(str(error))
    # Partial depths of the futures, and one aggregate of 2019 without its id.
    assert sorted(reasons) == ["Object missing required field `a` - at `$.data`"] + 5 * [
        "Object missing required field `lastUpdateId` - at `$.data`",
    ]
    assert {Trade, Quote, Ticker, Candle, BookDelta, BookSnapshot, Unknown} == kinds


def test_samples_of_spot(recordings: Path) -> None:
    folder = recordings / "binance" / "samples"
    labels = (folder / "crypto_msg_parser_raw.labels.txt").read_text().split()
    frames = (folder / "crypto_msg_parser_raw.jsonl").read_bytes().splitlines()
    said = {
        label: type(Binance().parse(frame, NOW)[0])
        for label, frame in zip(labels, frames, strict=True)
        if label.endswith("::spot") and b'"stream":"!' not in frame and frame.startswith(b'{"stream"')
    }
    assert said == {
        "trade::spot": Trade, "l2_event::spot": BookDelta, "l2_topk::spot": BookSnapshot, "ticker::spot": Ticker,
        "candlestick::spot": Candle,
    }
    seen = []
    for it in map(json.loads, (folder / "tardis_node_mapper_messages.jsonl").read_bytes().splitlines()):
        if it["tardis_exchange"] == "binance":
            (event,) = Binance().parse(json.dumps(it["msg"]).encode(), NOW)
            seen.append(type(event))
    assert set(seen) == {Trade, Quote, Ticker, BookDelta, Unknown}  # the last are snapshots of a collector's own making
    assert seen.count(Unknown) == 2


def test_real_rest_bodies(recordings: Path) -> None:
    binance = Binance()
    folder = recordings / "binance" / "samples" / "gct_rest"
    parsed, refused = dict.fromkeys(RestKind, 0), []
    for row in (folder / "index.tsv").read_text().splitlines():
        name, path, *_ = row.split("\t")
        request = binance.request_of(f"https://api.binance.com{path}") if name.startswith("api_") else None
        if request is None:
            continue
        body = (folder / name).read_bytes()
        if b'"":' in body:  # mangled by those who collected it: ``m`` has lost its name
            with pytest.raises(UNREADABLE, match="missing required field `m`"):
                binance.parse_trades(request, body, NOW)
            refused.append(name)
            continue
        match request.kind:
            case RestKind.BOOK:
                book = binance.parse_book(request, body, NOW)
                assert book.bids.read()[0] < book.asks.read()[0]
            case RestKind.TRADES:
                trades = binance.parse_trades(request, body, NOW)
                assert trades
                assert all(before.exchange_time <= it.exchange_time for before, it in pairwise(trades))
                assert {it.symbol for it in trades} == {request.symbol}
            case RestKind.CANDLES:
                candles = binance.parse_candles(request, body, NOW)
                assert candles
                assert all(before.end <= it.start for before, it in pairwise(candles))
                assert all(it.final and it.low <= it.open <= it.high for it in candles)
            case RestKind.INSTRUMENTS:
                instruments = binance.parse_instruments(body)[0]
                assert len(instruments) == len(json.loads(body)["symbols"])
                assert all(it.kind is Kind.SPOT and it.tick_size > 0 and it.lot_size > 0 for it in instruments)
        parsed[request.kind] += 1
    assert parsed == {
        RestKind.TIME: 0, RestKind.INSTRUMENTS: 1, RestKind.BOOK: 1, RestKind.TRADES: 26 - len(refused),
        RestKind.CANDLES: 13,
    }


def test_real_snapshots(recordings: Path) -> None:
    binance = Binance()
    folder = recordings / "binance"
    found = 0
    for name in ("spot_20210814_4sym", "spot_20211012_4sym"):
        for row in (folder / f"{name}.rest" / "index.tsv").read_text().splitlines()[1:]:
            file, _, url = row.split("\t")
            request = binance.request_of(url)
            assert request is not None
            book = binance.parse_book(request, (folder / f"{name}.rest" / file).read_bytes(), NOW)
            assert book.symbol in url
            assert book.depth in (1_000, 5_000)
            assert book.bids.read()[0] < book.asks.read()[0]
            assert max(len(book.bids), len(book.asks)) <= book.depth
            found += 1
    body = (folder / "spot_20240808_ethusdt.rest_depth.json").read_bytes()
    assert binance.parse_book(binance.book_request("ETHUSDT", 1_000), body, NOW).sequence == 35346513512
    assert found == 8


def test_a_real_month(recordings: Path) -> None:
    frames = (recordings / "binance" / "samples" / "crypto_msg_parser_raw.jsonl").read_bytes().splitlines()
    (frame,) = [it for it in frames if b"@kline_1M" in it]
    month = one(frame)
    assert isinstance(month, Candle)
    assert (month.interval, month.end) == ("1M", month_end(month.start))
