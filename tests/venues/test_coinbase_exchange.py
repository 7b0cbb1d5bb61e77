"""Coinbase Exchange: what its frames and REST bodies say, and what is sent to it."""
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from onetape.clock import MICROSECOND, MILLISECOND, MINUTE, SECOND, rfc3339
from onetape.credentials import Credentials, Secret
from onetape.errors import GiveUp, TryAgain
from onetape.model import (
    BadLevels,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Instrument,
    InstrumentId,
    Kind,
    Level,
    Levels,
    Request,
    RestKind,
    Side,
    Source,
    Subscription,
    Ticker,
    Trade,
    VenueStatus,
)
from onetape.sim.credentials import KEY, PASSPHRASE, SECRET_BASE64
from onetape.sim.venues.coinbase_login import signature_is_good
from onetape.venues.base import UNREADABLE, Acked, Alive, LoginRefused, Parsed, Reaction, Refused, Unknown
from onetape.venues.coinbase import MAX_PRODUCTS
from onetape.venues.coinbase_exchange import SPEC, CoinbaseExchange
from tests.venues.books import checksum

D = Decimal
NOON = 1_791_201_600 * SECOND
NOW = NOON + 10 * SECOND
NAMES = (
    "ack", "last match", "match", "ticker", "snapshot", "update", "heartbeat", "status", "rfq", "open", "error",
)
BTC_BOOK = Subscription("BTC-USD", Channel.BOOK, depth=200)
BTC_TRADES = Subscription("BTC-USD", Channel.TRADES)
BTC_TICKER = Subscription("BTC-USD", Channel.TICKER)
ETH_TRADES = Subscription("ETH-USD", Channel.TRADES)
STATUS = Subscription("", Channel.STATUS)


@pytest.fixture(scope="session")
def frames(fixtures: Path) -> dict[str, bytes]:
    return dict(zip(NAMES, (fixtures / "coinbase_exchange.jsonl").read_bytes().splitlines(), strict=True))


@pytest.fixture(scope="session")
def bodies(fixtures: Path) -> dict[str, bytes]:
    found = msgspec.json.decode((fixtures / "coinbase_exchange_rest.json").read_bytes(), type=dict[str, msgspec.Raw])
    return {name: bytes(body) for name, body in found.items()}


def at(time: int) -> dict[str, Any]:
    return {"venue": "coinbase-exchange", "exchange_time": time, "received_time": NOW, "available_at": NOW}


def levels(*pairs: tuple[str, str]) -> Levels:
    return Levels.of([(D(price), D(size)) for price, size in pairs])


def match(serial: int, time: str, price: str, size: str, side: Side, source: Source = Source.LIVE) -> Trade:
    return Trade(
        **at(rfc3339(time)), symbol="BTC-USD", channel=Channel.TRADES, id=str(serial), after=serial - 1, price=D(price),
        size=D(size), side=side, source=source,
    )


def update(**changed: Any) -> bytes:
    return json.dumps({
        "type": "l2update", "product_id": "BTC-USD", "changes": [["buy", "1", "1"]],
        "time": "2026-10-05T12:00:00Z", **changed,
    }).encode()


# --- channels ---------------------------------------------------------------------------------------------------------


def test_matches(frames: dict[str, bytes]) -> None:
    assert CoinbaseExchange().parse(frames["match"], NOW) == (
        match(1001, "2026-10-05T12:00:00.198335Z", "59999.99", "0.25", Side.SELL),
    )
    assert CoinbaseExchange().parse(frames["last match"], NOW) == (
        match(1000, "2026-10-05T11:59:58.198335Z", "60000.00", "0.00150000", Side.BUY, Source.SNAPSHOT),
    )


def test_ticker(frames: dict[str, bytes]) -> None:
    time = NOON + 198_335 * MICROSECOND
    assert CoinbaseExchange().parse(frames["ticker"], NOW) == (Ticker(
        **at(time), symbol="BTC-USD", last=D("59999.99"), price_change=D("-100.01"), price_change_percent=None,
        high=D("61000.8"), low=D(59000), volume=D("2455.32"), quote_volume=None,
    ),)


def test_a_ticker_may_lack_its_time_and_its_past() -> None:
    frame = b'{"type":"ticker","product_id":"NEW-USD","price":"2.50","open_24h":""}'
    assert CoinbaseExchange().parse(frame, NOW) == (Ticker(
        **at(NOW), symbol="NEW-USD", last=D("2.50"), price_change=None, price_change_percent=None, high=None, low=None,
        volume=None, quote_volume=None,
    ),)


def test_book(frames: dict[str, bytes]) -> None:
    venue = CoinbaseExchange()
    assert venue.parse(frames["snapshot"], NOW) == (BookSnapshot(
        **at(NOW), symbol="BTC-USD", sequence=1, bids=levels(("60000.00", "0.59"), ("59998.00", "4.00000000")),
        asks=levels(("60002.00", "3"), ("60001.00", "0.20")), depth=0, verification="none",
    ),)
    assert venue.parse(frames["update"], NOW) == (BookDelta(
        **at(NOON + 300 * MILLISECOND), symbol="BTC-USD", after=1, sequence=2,
        bids=levels(("60000.00", "0.10"), ("1.23", "0.00000000")), asks=levels(("60001.00", "0.00000000")),
    ),)
    [other] = venue.parse(update(product_id="ETH-USD"), NOW)
    assert isinstance(other, BookDelta)
    assert (other.after, other.sequence) == (0, 1)
    [again] = venue.parse(frames["snapshot"], NOW)
    assert isinstance(again, BookSnapshot)
    assert again.sequence == 3


def intervals(venue: CoinbaseExchange, *times: str) -> list[tuple[int, int]]:
    deltas = [it for time in times for it in venue.parse(update(time=time), NOW)]
    return [(it.after, it.sequence) for it in deltas if isinstance(it, BookDelta)]


def test_time_that_runs_backwards_breaks_the_chain(frames: dict[str, bytes]) -> None:
    venue = CoinbaseExchange()
    assert intervals(
        venue, "2026-10-05T12:00:01Z", "2026-10-05T12:00:01Z", "2026-10-05T12:00:00.9Z", "2026-10-05T12:00:01Z",
    ) == [(0, 1), (1, 2), (3, 4), (4, 5)]
    [snapshot] = venue.parse(frames["snapshot"], NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.sequence == 6
    assert intervals(venue, "2026-10-05T11:00:00Z") == [(6, 7)]


def test_time_that_is_none_breaks_nothing() -> None:
    venue = CoinbaseExchange()
    assert intervals(venue, "2026-10-05T12:00:01Z", "0001-01-01T00:00:00.000000Z", "", "2026-10-05T12:00:00Z") == [
        (0, 1), (1, 2), (2, 3), (4, 5),
    ]
    [delta] = venue.parse(update(time="0001-01-01T00:00:00.000000Z"), NOW)
    assert isinstance(delta, BookDelta)
    assert delta.exchange_time == NOW


def test_heartbeat(frames: dict[str, bytes]) -> None:
    assert CoinbaseExchange().parse(frames["heartbeat"], NOW) == (Alive(),)
    assert CoinbaseExchange().parse(b'{"type":"heartbeat","last_trade_id":null}', NOW) == (Alive(),)


def test_status(frames: dict[str, bytes]) -> None:
    assert CoinbaseExchange().parse(frames["status"], NOW) == [
        VenueStatus(**at(NOW), symbol="BTC-USD", status="online"),
        VenueStatus(**at(NOW), symbol="OLD-USD", status="delisted", message="gone"),
    ]


def test_unknown_types_are_named(frames: dict[str, bytes]) -> None:
    assert CoinbaseExchange().parse(frames["open"], NOW) == (Unknown("open"),)


def test_requests_for_quotes_never_enter_the_tape(frames: dict[str, bytes]) -> None:
    assert CoinbaseExchange().parse(frames["rfq"], NOW) == (Unknown("rfq_match"),)


# --- requests, acks, refusals -----------------------------------------------------------------------------------------


def asked(frames: list[bytes]) -> list[tuple[str, str, list[str] | None]]:
    out = []
    for message in map(json.loads, frames):
        [channel] = message["channels"]
        out.append((message["type"], channel["name"], channel.get("product_ids")))
    return out


def test_subscribe_adds_a_heartbeat_for_each_product() -> None:
    venue = CoinbaseExchange()
    assert venue.subscribe([BTC_BOOK, BTC_TRADES, ETH_TRADES, BTC_TICKER, STATUS]) == [
        b'{"type":"subscribe","channels":[{"name":"heartbeat","product_ids":["BTC-USD","ETH-USD"]}]}',
        b'{"type":"subscribe","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]}]}',
        b'{"type":"subscribe","channels":[{"name":"matches","product_ids":["BTC-USD","ETH-USD"]}]}',
        b'{"type":"subscribe","channels":[{"name":"ticker","product_ids":["BTC-USD"]}]}',
        b'{"type":"subscribe","channels":[{"name":"status"}]}',
    ]
    assert venue.unsubscribe([BTC_BOOK, STATUS]) == [
        b'{"type":"unsubscribe","channels":[{"name":"level2_batch","product_ids":["BTC-USD"]}]}',
        b'{"type":"unsubscribe","channels":[{"name":"status"}]}',
    ]
    assert asked(venue.subscribe([BTC_BOOK])) == [("subscribe", "level2_batch", ["BTC-USD"])]
    assert venue.subscribe([]) == []
    assert venue.ping(1) is None


def test_long_lists_are_split() -> None:
    wanted = [Subscription(f"X{n}-USD", Channel.TRADES) for n in range(SPEC.limits.args + 1)]
    sizes = [(name, len(products or ())) for _, name, products in asked(CoinbaseExchange().subscribe(wanted))]
    assert sizes == [("heartbeat", 100), ("heartbeat", 1), ("matches", 100), ("matches", 1)]


def test_what_it_does_not_have() -> None:
    assert SPEC.capabilities.channels == {Channel.TRADES, Channel.TICKER, Channel.BOOK, Channel.STATUS}
    for channel in (Channel.QUOTES, Channel.CANDLES, Channel.AGG_TRADES):
        with pytest.raises(ValueError, match=f"no channel {channel}"):
            CoinbaseExchange().subscribe([Subscription("BTC-USD", channel)])
    with pytest.raises(ValueError, match="sums nothing"):
        checksum(CoinbaseExchange(), "BTC-USD", [], [])
    assert CoinbaseExchange.route_of(BTC_BOOK) in SPEC.endpoints["production"].websocket


def test_ack_lists_all_that_is_subscribed(frames: dict[str, bytes]) -> None:
    venue = CoinbaseExchange()
    wanted = [BTC_BOOK, BTC_TRADES, ETH_TRADES, BTC_TICKER, STATUS]
    venue.subscribe(wanted)
    assert venue.parse(frames["ack"], NOW) == [Acked(tuple(sorted(wanted)))]


def test_what_is_no_longer_listed_has_been_left() -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_BOOK, BTC_TRADES])
    venue.unsubscribe([BTC_BOOK])
    frame = b'{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}'
    assert venue.parse(frame, NOW) == [Acked((BTC_TRADES,)), Acked((BTC_BOOK,), removed=True)]
    assert venue.parse(frame, NOW) == [Acked((BTC_TRADES,))]
    assert CoinbaseExchange().parse(b'{"type":"subscriptions","channels":[]}', NOW) == [Acked(())]


@pytest.mark.parametrize(("message", "reason", "refused", "reaction"), [
    ("Failed to subscribe", "BTC-USD is not a valid product", (BTC_BOOK, BTC_TRADES), Reaction.DROP),
    ("Failed to subscribe", " is not a valid product", (), Reaction.DROP),
    ("Failed to subscribe", "level2, level3, and full channels now require authentication. https://x", (),
     Reaction.DROP),
    ("Failed to subscribe", "You need to specify at least one product ID for channel heartbeat", (), Reaction.DROP),
    ("ErrSlowConsume", "", (), Reaction.RECONNECT),
    ("error", "ErrSlowRead", (), Reaction.RETRY),
    ("Message too big", "", (), Reaction.DROP),
])
def test_refusals(message: str, reason: str, refused: tuple[Subscription, ...], reaction: Reaction) -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_BOOK, BTC_TRADES, ETH_TRADES])
    frame = json.dumps({"type": "error", "message": message, "reason": reason}).encode()
    text = f"{message}: {reason}" if reason else message
    others = (ETH_TRADES,) if refused else ()  # of a message that may have been refused as a whole
    assert venue.parse(frame, NOW) == (Refused(tuple(sorted(refused)), text, reaction, others=others),)
    if others:
        assert venue.parse(frame, NOW) == (Refused(tuple(sorted(refused)), text, reaction),), "asked for once"


@pytest.mark.parametrize(("reason", "said"), [
    ("invalid signature", LoginRefused("Authentication Failed: invalid signature")),
    ("", LoginRefused("Authentication Failed")),
    ("request timestamp expired", Refused(
        (), "Authentication Failed: request timestamp expired", Reaction.RECONNECT,
    )),
])
def test_a_login_that_is_refused(reason: str, said: Any) -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_BOOK, BTC_TRADES])
    frame = json.dumps({"type": "error", "message": "Authentication Failed", "reason": reason}).encode()
    assert venue.parse(frame, NOW) == (said,)


def test_who_was_accepted_before_has_the_right_key(frames: dict[str, bytes]) -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_BOOK, BTC_TRADES])
    venue.parse(frames["ack"], NOW)
    said = json.dumps({"type": "error", "message": "Authentication Failed"}).encode()
    assert venue.parse(said, NOW) == (Refused((), "Authentication Failed", Reaction.RECONNECT),)


def test_each_subscription_is_signed() -> None:
    venue = CoinbaseExchange()
    mine = Credentials("coinbase-exchange", Secret(KEY), Secret(SECRET_BASE64), Secret(PASSPHRASE))
    assert venue.login(mine, NOW) == []
    frames = venue.subscribe([BTC_BOOK, BTC_TRADES])
    for frame in frames:
        signed = json.loads(venue.signed(frame, mine, NOW))
        login = [signed.pop(it) for it in ("key", "passphrase", "timestamp", "signature")]
        assert signature_is_good(*login, NOW)
        assert signed == json.loads(frame)
    (frame,) = venue.unsubscribe([BTC_BOOK])
    assert venue.signed(frame, mine, NOW) == frame


def test_a_refusal_of_somebody_elses_product(frames: dict[str, bytes]) -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_BOOK])
    reason = "Failed to subscribe: NOPE-USD is not a valid product"
    assert venue.parse(frames["error"], NOW) == (Refused((), reason, Reaction.DROP),)


def test_after_a_refusal_heartbeats_are_asked_for_again(frames: dict[str, bytes]) -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_TRADES, Subscription("NOPE-USD", Channel.TRADES)])
    venue.parse(frames["error"], NOW)
    assert asked(venue.subscribe([BTC_TRADES])) == [
        ("subscribe", "heartbeat", ["BTC-USD"]), ("subscribe", "matches", ["BTC-USD"]),
    ]


def test_the_old_name_of_the_book_where_the_new_one_is_refused() -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_BOOK, BTC_TRADES])
    frame = b'{"type":"error","message":"Failed to subscribe","reason":"level2_batch is not a valid channel"}'
    [refused] = venue.parse(frame, NOW)
    assert isinstance(refused, Refused)
    assert (refused.subscriptions, refused.reaction) == ((BTC_BOOK,), Reaction.RETRY)
    assert ("subscribe", "level2_50", ["BTC-USD"]) in asked(venue.subscribe([BTC_BOOK]))
    [again] = venue.parse(frame, NOW)
    assert isinstance(again, Refused)
    assert again.reaction is Reaction.DROP


# --- hostile input ----------------------------------------------------------------------------------------------------


def match_with(**changed: Any) -> bytes:
    return json.dumps({
        "type": "match", "trade_id": 1, "side": "sell", "size": "1", "price": "1", "product_id": "BTC-USD",
        "time": "2026-10-05T12:00:00Z", **changed,
    }).encode()


BAD = {
    "nothing": b"",
    "empty object": b"{}",
    "cut": b'{"type":"l2update","product_id":"BTC-USD","changes":[["bu',
    "array": b"[]",
    "type a number": b'{"type":1}',
    "deep": b"[" * 100_000,
    "deep inside": b'{"type":"l2update","product_id":"BTC-USD","changes":' + b"[" * 100_000,
    "invalid UTF-8": update(product_id="X").replace(b'"X"', b'"\xff"'),
    "no changes": b'{"type":"l2update","product_id":"BTC-USD","time":"2026-10-05T12:00:00Z"}',
    "time of book": update(time="noon"),
    "snapshot of one side": b'{"type":"snapshot","product_id":"BTC-USD","bids":[]}',
    "negative price": match_with(price="-1"),
    "bad size": match_with(size="0.-10000"),
    "NaN": match_with(size="NaN"),
    "40 digits": match_with(price="1" * 40),
    "price a number": match_with(price=1.5),
    "unknown side": match_with(side="both"),
    "negative id": match_with(trade_id=-1),
    "fraction of an id": match_with(trade_id=1.5),
    "endless id": match_with(trade_id=10**40),
    "time of trade": match_with(time="yesterday"),
    "no product": match_with(product_id=""),
    "ticker": b'{"type":"ticker","product_id":"BTC-USD","price":"Infinity"}',
    "ack": b'{"type":"subscriptions","channels":{"level2":[]}}',
}


@pytest.mark.parametrize("name", BAD)
def test_bad_frames_are_refused_and_count_for_nothing(frames: dict[str, bytes], name: str) -> None:
    venue = CoinbaseExchange()
    venue.parse(frames["snapshot"], NOW)
    with pytest.raises(UNREADABLE):
        venue.parse(BAD[name], NOW)
    assert intervals(venue, "2026-10-05T12:00:00Z") == [(1, 2)]


def test_products_without_end_are_refused() -> None:
    venue = CoinbaseExchange()
    for n in range(MAX_PRODUCTS):
        venue.parse(b'{"type":"l2update","product_id":"X%d","changes":[]}' % n, NOW)
    with pytest.raises(UNREADABLE, match="more products"):
        venue.parse(update(), NOW)
    assert len(venue.parse(update(product_id="X1"), NOW)) == 1


@pytest.mark.parametrize("change", [
    ["bid", "1", "1"], ["buy", "-1", "1"], ["buy", "1", "NaN"], ["buy", "1", "1" * 40], ["buy", "1"], ["buy", 1, 1], {},
])
def test_bad_levels_are_refused_when_read(change: Any) -> None:
    [delta] = CoinbaseExchange().parse(update(changes=[change]), NOW)
    assert isinstance(delta, BookDelta)
    with pytest.raises(BadLevels):
        delta.bids.read()


@pytest.mark.parametrize("side", [b'[["1","0.-10000"]]', b'[["1"]]', b"{}", b'[["\xff","1"]]', b'[["1","1e99"]]'])
def test_bad_levels_of_a_snapshot(side: bytes) -> None:
    frame = b'{"type":"snapshot","product_id":"BTC-USD","bids":%s,"asks":[]}' % side
    [snapshot] = CoinbaseExchange().parse(frame, NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.asks.read() == []
    with pytest.raises(BadLevels):
        snapshot.bids.read()


@pytest.mark.parametrize(("frame", "blamed"), [
    (BAD["cut"], ("BTC-USD", Channel.BOOK)),
    (BAD["negative price"], ("BTC-USD", Channel.TRADES)),
    (BAD["snapshot of one side"], ("BTC-USD", Channel.BOOK)),
    (b'{"type":"last_match"', ("", Channel.TRADES)),
    (b'{"type":"nonsense","product_id":"BTC-USD"}', ("", None)),
    (b'{ "product_id" : "BTC\xff", "type" : "ticker" }', ("BTC\N{REPLACEMENT CHARACTER}", Channel.TICKER)),
    (b"\xff", ("", None)),
])
def test_blame(frame: bytes, blamed: tuple[str, Channel | None]) -> None:
    assert CoinbaseExchange().blame(frame) == blamed


# --- REST -------------------------------------------------------------------------------------------------------------


def test_time(bodies: dict[str, bytes]) -> None:
    assert CoinbaseExchange().time_request() == Request(RestKind.TIME, "/time")
    assert CoinbaseExchange().parse_time(bodies["time"]) == NOON + 123 * MILLISECOND


def test_instruments(bodies: dict[str, bytes]) -> None:
    assert CoinbaseExchange().instrument_requests() == [Request(RestKind.INSTRUMENTS, "/products")]
    found, more = CoinbaseExchange().parse_instruments(bodies["products"])
    assert more is None
    assert found[0] == Instrument(
        id=InstrumentId("coinbase-exchange", "BTC-USD"), pair="BTC-USD", base="BTC", quote="USD", kind=Kind.SPOT,
        tradable=True, status="online", tick_size=D("0.01"), lot_size=D("0.00000001"),
    )
    assert [(it.id.symbol, it.tradable, it.status, it.min_size) for it in found[1:]] == [
        ("BTC-USDC", False, "delisted", D("0.0001")),
        ("BELL-USD", False, "online", None),
        ("ODD-USD", False, "sleeping", None),
    ]


@pytest.mark.parametrize("auction", [False, True])
def test_in_an_auction_a_book_may_cross(bodies: dict[str, bytes], auction: bool) -> None:
    product = json.loads(bodies["products"])[0] | {"auction_mode": auction}
    (found,), _ = CoinbaseExchange().parse_instruments(json.dumps([product]).encode())
    assert (found.may_cross, found.tradable) == (auction, not auction)


@pytest.mark.parametrize("start", [-60, 9_000_000_001, 1.5, "60"])
def test_a_candle_ends_within_time(start: object) -> None:
    request = CoinbaseExchange().candles_request("BTC-USD", "1m", NOON, NOON + MINUTE)
    with pytest.raises(UNREADABLE):
        CoinbaseExchange().parse_candles(request, json.dumps([[start, 1, 1, 1, 1, 1]]).encode(), NOW)


def test_book_body(bodies: dict[str, bytes]) -> None:
    request = CoinbaseExchange().book_request("BTC-USD", 10)
    assert request == Request(RestKind.BOOK, "/products/BTC-USD/book?level=2", "BTC-USD", depth=10)
    assert CoinbaseExchange().parse_book(request, bodies["book"], NOW) == BookSnapshot(
        **at(NOON + 100 * MILLISECOND), symbol="BTC-USD", sequence=134905860200,
        bids=levels(("60000.00", "0.59"), ("59998", "4")), asks=levels(("60001.00", "0.20")), depth=10,
        verification="none",
    )


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_of_a_book_body_only_so_much_is_read(depth: int, bodies: dict[str, bytes]) -> None:
    """What comes behind may be anything but no JSON: it is scanned, and never made into numbers."""
    body = bodies["book"].replace(b'"59998"', b'"no price"')
    request = CoinbaseExchange().book_request("BTC-USD", depth)
    if depth != 1:
        with pytest.raises(UNREADABLE):
            CoinbaseExchange().parse_book(request, body, NOW)
        return
    book = CoinbaseExchange().parse_book(request, body, NOW)
    assert (book.bids, book.asks, book.depth) == (levels(("60000.00", "0.59")), levels(("60001.00", "0.20")), 1)


def cursor(after: str | None, before: str | None, since: int | None = None) -> dict[str, list[str]]:
    request = CoinbaseExchange().trades_request("BTC-USD", after, before, since)
    assert request is not None
    assert (request.kind, request.symbol, request.channel) == (RestKind.TRADES, "BTC-USD", Channel.TRADES)
    parts = urlsplit(request.path)
    assert parts.path == "/products/BTC-USD/trades"
    return parse_qs(parts.query)


def test_trades_walk_backwards() -> None:
    assert cursor("1000", "5000") == {"limit": ["1000"], "after": ["5001"]}  # with 5000, which is known
    assert cursor(None, "5000") == {"limit": ["1000"], "after": ["5001"]}
    assert cursor("1000", None) == {"limit": ["1000"], "after": ["2000"]}
    assert cursor(None, None, NOON) == {"limit": ["1000"]}
    assert cursor(None, "5000", NOON) == {"limit": ["1000"], "after": ["5001"]}


def test_trades_body(bodies: dict[str, bytes]) -> None:
    request = CoinbaseExchange().trades_request("BTC-USD", None, "1003", None)
    assert request is not None
    assert CoinbaseExchange().parse_trades(request, bodies["trades"], NOW) == [
        match(1001, "2026-10-05T12:00:00.198335Z", "59999.99", "0.25", Side.SELL, Source.BACKFILL),
        match(1002, "2026-10-05T12:00:02.1Z", "60000.00", "0.5", Side.BUY, Source.BACKFILL),
    ]
    for bad in (b"0001-01-01T00:00:00Z", b"1970-01-01T00:00:00Z"):
        with pytest.raises(UNREADABLE, match="without its time"):
            CoinbaseExchange().parse_trades(request, bodies["trades"].replace(b"2026-10-05T12:00:02.1Z", bad), NOW)


def test_candles_request() -> None:
    request = CoinbaseExchange().candles_request("BTC-USD", "1m", NOON, NOON + 2 * MINUTE)
    assert request == Request(
        RestKind.CANDLES,
        "/products/BTC-USD/candles?granularity=60&start=2026-10-05T12:00:00Z&end=2026-10-05T12:01:59Z",
        "BTC-USD", interval="1m",
    )
    longest = CoinbaseExchange().candles_request("BTC-USD", "1m", NOON, NOON + 1_000 * MINUTE)
    assert longest.path.endswith("&start=2026-10-05T12:00:00Z&end=2026-10-05T16:59:59Z")


def test_candles_body(bodies: dict[str, bytes]) -> None:
    request = CoinbaseExchange().candles_request("BTC-USD", "1m", NOON, NOON + 2 * MINUTE)
    received = NOON + 2 * MINUTE
    first, second = CoinbaseExchange().parse_candles(request, bodies["candles"], received)
    assert first == Candle(
        venue="coinbase-exchange", symbol="BTC-USD", exchange_time=NOON + MINUTE, received_time=received,
        available_at=received, interval="1m", start=NOON, end=NOON + MINUTE, open=D("59999.99"), high=D(60000),
        low=D(59980), close=D(60000), volume=D("42.15000001"), quote_volume=None, vwap=None, trades=None,
        taker_buy_volume=None, complete=True, final=True, source="venue",
    )
    assert (second.low, second.high, second.open, second.close, second.volume) == (
        D("59990.1"), D("60010.25"), D(60000), D("60005.10"), D("0.0000001"),
    )
    assert str(second.close) == "60005.10"
    assert (second.end, second.final) == (received, False)


@pytest.mark.parametrize(("status", "body", "error", "reason"), [
    (400, "granularity", GiveUp, "400:  Unsupported granularity"),
    (404, "not_found", GiveUp, "NotFound"),
    (403, b"Forbidden", GiveUp, "403: Forbidden"),
    (429, b'{"message":"Public rate limit exceeded"}', TryAgain, "Public rate limit exceeded"),
    (502, b"<html>", TryAgain, "502"),
])
def test_check(
    bodies: dict[str, bytes], status: int, body: bytes | str, error: type[Exception], reason: str,
) -> None:
    CoinbaseExchange().check(200, {}, b"[]")
    with pytest.raises(error, match=reason):
        CoinbaseExchange().check(status, {}, bodies[body] if isinstance(body, str) else body)


def test_requests_are_known_again_by_their_url() -> None:
    venue = CoinbaseExchange()
    trades = venue.trades_request("BTC-USD", "1", "5", None)
    assert trades is not None
    for request in (
        venue.time_request(), *venue.instrument_requests(), venue.book_request("BTC-USD", 0), trades,
        venue.candles_request("BTC-USD", "6h", NOON, NOON + MINUTE),
    ):
        assert venue.request_of("https://api.exchange.coinbase.com" + request.path) == request
    best = venue.request_of("https://api.exchange.coinbase.com/products/BTC-USD/book")
    assert best is not None
    assert best.depth == 1
    for path in ("/products/BTC-USD/book?level=3", "/products/BTC-USD/stats", "/api/v3/brokerage/time", "/"):
        assert venue.request_of("https://api.exchange.coinbase.com" + path) is None


@pytest.mark.parametrize("body", [
    b"", b'{"message":"x"}', b"[1]", b'[{"trade_id":"x"}]', b'[[1,"2",3,4,5,6]]', b"[[1,-2,3,4,5,6]]", b"\xff",
    b"[" * 100_000,
])
def test_bad_bodies_are_refused(body: bytes) -> None:
    venue, request = CoinbaseExchange(), Request(RestKind.TRADES, "/", "BTC-USD", interval="1m")
    for parse in (
        lambda: venue.parse_time(body), lambda: venue.parse_book(request, body, NOW),
        lambda: venue.parse_trades(request, body, NOW), lambda: venue.parse_candles(request, body, NOW),
    ):
        with pytest.raises(UNREADABLE):
            parse()


# --- the traps of the protocol page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "side"), [("buy", Side.SELL), ("sell", Side.BUY)])
def test_trap_01_side_is_the_makers(bodies: dict[str, bytes], word: str, side: Side) -> None:
    [live] = CoinbaseExchange().parse(match_with(side=word), NOW)
    [last] = CoinbaseExchange().parse(match_with(side=word, type="last_match"), NOW)
    request = Request(RestKind.TRADES, "/", "BTC-USD", channel=Channel.TRADES)
    [rest] = CoinbaseExchange().parse_trades(request, b"[%s]" % match_with(side=word), NOW)
    assert isinstance(live, Trade)
    assert isinstance(last, Trade)
    assert live.side is last.side is rest.side is side


def test_trap_02_frames_of_32_mb_are_accepted() -> None:
    assert SPEC.limits.receive_bytes >= 32 * 2**20


def test_trap_05_deletes_of_levels_that_are_not_there_are_plain_deltas(frames: dict[str, bytes]) -> None:
    venue = CoinbaseExchange()
    venue.parse(frames["snapshot"], NOW)
    [delta] = venue.parse(frames["update"], NOW)
    assert isinstance(delta, BookDelta)
    assert delta.bids.read()[-1] == (D("1.23"), D(0))


def test_trap_06_sequence_of_matches_is_not_consecutive() -> None:
    venue = CoinbaseExchange()
    [first] = venue.parse(match_with(trade_id=10, sequence=500), NOW)
    [second] = venue.parse(match_with(trade_id=11, sequence=900), NOW)
    assert isinstance(first, Trade)
    assert isinstance(second, Trade)
    assert (first.id, second.after) == ("10", 10)


def test_trap_08_no_deprecated_hostnames() -> None:
    for endpoints in SPEC.endpoints.values():
        urls = [*endpoints.rest, *(url for urls in endpoints.websocket.values() for url in urls)]
        assert all("exchange.coinbase.com" in url and ".pro." not in url for url in urls)


@pytest.mark.parametrize(("name", "wanted"), [
    ("level2_50", BTC_BOOK), ("level2_batch", BTC_BOOK), ("level2", BTC_BOOK), ("ticker_1000", BTC_TICKER),
    ("ticker", BTC_TICKER), ("matches", BTC_TRADES),
])
def test_trap_09_acks_echo_old_names(name: str, wanted: Subscription) -> None:
    venue = CoinbaseExchange()
    venue.subscribe([BTC_BOOK, BTC_TICKER, BTC_TRADES])
    frame = json.dumps({"type": "subscriptions", "channels": [{"name": name, "product_ids": ["BTC-USD"]}]}).encode()
    assert venue.parse(frame, NOW) == [Acked((wanted,))]


def test_trap_10_candles_name_both_ends_and_trades_page_by_after() -> None:
    candles = CoinbaseExchange().candles_request("BTC-USD", "1h", NOON, NOON + MINUTE)
    assert {"granularity", "start", "end"} == parse_qs(urlsplit(candles.path).query).keys()
    assert all("before" not in cursor(after, before) for after in (None, "1") for before in (None, "9"))


def test_trap_13_orders_are_left_alone() -> None:
    venue = CoinbaseExchange()
    for kind in ("received", "open", "done", "change", "activate"):
        frame = json.dumps({"type": kind, "order_id": "x", "product_id": "BTC-USD", "sequence": 1}).encode()
        assert venue.parse(frame, NOW) == (Unknown(kind),)
    assert venue.request_of("https://api.exchange.coinbase.com/products/BTC-USD/book?level=3") is None


def test_trap_14_a_product_in_an_auction_does_not_trade_normally(bodies: dict[str, bytes]) -> None:
    found, _ = CoinbaseExchange().parse_instruments(bodies["products"])
    assert {it.id.symbol: it.tradable for it in found}["BELL-USD"] is False


# --- what the venue really sent ---------------------------------------------------------------------------------------


def best(side: dict[Decimal, Decimal], *, descending: bool) -> list[Level]:
    return sorted(side.items(), reverse=descending)[:10]


def test_recording(recordings: Path) -> None:
    name = "coinbase/exchange_20210417_A5prod.jsonl"
    venue = CoinbaseExchange()
    books: dict[str, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]] = {}
    counts: dict[str, int] = {}
    serials: dict[str, int] = {}
    for line in (recordings / name).read_bytes().splitlines():
        for it in venue.parse(line, NOW):
            assert not isinstance(it, Unknown | Refused)
            if isinstance(it, Trade):
                assert it.after == serials.get(it.symbol, it.after)
                serials[it.symbol] = int(it.id)
            if not isinstance(it, BookSnapshot | BookDelta):
                continue
            if isinstance(it, BookSnapshot):
                books[it.symbol] = {}, {}
            else:
                assert it.after == counts[it.symbol]
            counts[it.symbol] = it.sequence
            for side, changes in zip(books[it.symbol], (it.bids, it.asks), strict=True):
                side.update(changes)
                for price in [price for price, size in changes if not size]:
                    del side[price]
    expected = json.loads((recordings / "final_books.json").read_text())[name]
    assert books.keys() == expected.keys()
    assert len(books) == 5
    for symbol, (bids, asks) in books.items():
        assert best(bids, descending=True) == [(D(price), D(size)) for price, size in expected[symbol]["bids"]]
        assert best(asks, descending=False) == [(D(price), D(size)) for price, size in expected[symbol]["asks"]]


def kinds(lines: list[bytes]) -> list[str]:
    """Of each line on a connection of its own: the type of what it says, or why it is refused."""
    out = []
    for line in lines:
        try:
            parsed: list[Parsed] = list(CoinbaseExchange().parse(line, NOW))
            for it in parsed:
                if isinstance(it, BookSnapshot | BookDelta):
                    it.bids.read()
                    it.asks.read()
            out += [type(it).__name__ for it in parsed]
        except UNREADABLE as error:
            out.append(type(error).__name__ if str(error) else "refused without a reason")
    return out


def test_samples(recordings: Path) -> None:
    folder = recordings / "coinbase" / "samples"
    # The last is a REST body, which names no type.
    assert kinds((folder / "crypto_msg_parser_raw.jsonl").read_bytes().splitlines()) == [
        "Trade", "BookSnapshot", "BookDelta", "Unknown", "Ticker", "ValidationError",
    ]
    assert kinds((folder / "exchange_live_2026_isolated.jsonl").read_bytes().splitlines()) == ["Trade", "BookDelta"]
    wrapped = (folder / "tardis_node_mapper_messages.jsonl").read_bytes().splitlines()
    # The sixth has a level of the size "0.-10000".
    assert kinds([json.dumps(json.loads(line)["msg"]).encode() for line in wrapped]) == [
        "Trade", "BookDelta", "BookDelta", "BookSnapshot", "BookDelta", "BadLevels", "Ticker", "Ticker", "Ticker",
    ]


def test_sample_bodies(recordings: Path) -> None:
    venue, folder = CoinbaseExchange(), recordings / "coinbase"
    request = venue.book_request("BTC-USD", 0)
    book = venue.parse_book(request, (folder / "rest_20260807_btcusd_book_level2.json").read_bytes(), NOW)
    assert (book.sequence, book.exchange_time) == (133905821961, NOW)
    assert book.bids.read()[0] == (D("64930.57"), D("0.07705309"))
    assert min(len(book.bids), len(book.asks)) > 10_000
    last = (folder / "samples" / "crypto_msg_parser_raw.jsonl").read_bytes().splitlines()[-1]
    assert len(venue.parse_book(request, last, NOW).asks) == 5
