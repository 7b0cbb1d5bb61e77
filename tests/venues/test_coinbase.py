"""Coinbase Advanced Trade: what its frames and REST bodies say, and what is sent to it."""
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from onetape.clock import DAY, MILLISECOND, MINUTE, SECOND
from onetape.credentials import Credentials, Secret
from onetape.errors import ClockSkew, GiveUp, TryAgain
from onetape.model import (
    BadLevels,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    ConnectionGap,
    Instrument,
    InstrumentId,
    Kind,
    Level,
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
from onetape.sim.credentials import KEY, private_key
from onetape.sim.venues.coinbase_login import token_is_good
from onetape.venues.base import UNREADABLE, Acked, Alive, LoginRefused, Parsed, Reaction, Refused, Unknown
from onetape.venues.coinbase import MAX_REPEATED, MAX_PRODUCTS, SPEC, Coinbase
from tests.venues.books import checksum

D = Decimal
NOON = 1_791_201_600 * SECOND
NOW = NOON + 10 * SECOND
NAMES = (
    "trades snapshot", "first ack", "book snapshot", "book several", "ack", "trades", "ticker", "ticker batch",
    "candles", "status", "heartbeat", "heartbeat number", "unknown", "error",
)
BTC_BOOK = Subscription("BTC-USD", Channel.BOOK, depth=200)
BTC_TRADES = Subscription("BTC-USD", Channel.TRADES)
BTC_TICKER = Subscription("BTC-USD", Channel.TICKER)
BTC_QUOTES = Subscription("BTC-USD", Channel.QUOTES)
BTC_CANDLES = Subscription("BTC-USD", Channel.CANDLES, interval="5m")
STATUS = Subscription("", Channel.STATUS)


@pytest.fixture(scope="session")
def frames(fixtures: Path) -> dict[str, bytes]:
    return dict(zip(NAMES, (fixtures / "coinbase.jsonl").read_bytes().splitlines(), strict=True))


@pytest.fixture(scope="session")
def bodies(fixtures: Path) -> dict[str, bytes]:
    found = msgspec.json.decode((fixtures / "coinbase_rest.json").read_bytes(), type=dict[str, msgspec.Raw])
    return {name: bytes(body) for name, body in found.items()}


def at(time: int) -> dict[str, Any]:
    return {"venue": "coinbase", "exchange_time": time, "received_time": NOW, "available_at": NOW}


def btc(serial: int, ms: int, price: str, size: str, side: Side, source: Source) -> Trade:
    return Trade(
        **at(NOON + ms * MILLISECOND), symbol="BTC-USD", channel=Channel.TRADES, id=str(serial), after=serial - 1,
        price=D(price), size=D(size), side=side, source=source,
    )


def numbered(frame: bytes, number: int) -> bytes:
    message = json.loads(frame)
    message["sequence_num"] = number
    return json.dumps(message).encode()


def levels(*pairs: tuple[str, str]) -> Levels:
    return Levels.of([(D(price), D(size)) for price, size in pairs])


# --- channels ---------------------------------------------------------------------------------------------------------


def test_trades(frames: dict[str, bytes]) -> None:
    eth = Trade(
        **at(NOON + 920 * MILLISECOND), symbol="ETH-USD", channel=Channel.TRADES, id="77", after=76, price=D("3000.20"),
        size=D(2), side=Side.BUY,
    )
    assert Coinbase().parse(frames["trades"], NOW) == [
        eth,
        btc(1004, 900, "60002.50", "0.5", Side.BUY, Source.LIVE),
        btc(1005, 950, "60003.00", "0.00150000", Side.SELL, Source.LIVE),
    ]


def test_trades_of_a_snapshot_ascend(frames: dict[str, bytes]) -> None:
    assert Coinbase().parse(frames["trades snapshot"], NOW) == [
        btc(1001, -900, "60000.00", "0.10", Side.SELL, Source.SNAPSHOT),
        btc(1002, -800, "60001.00", "0.20", Side.BUY, Source.SNAPSHOT),
        btc(1003, -700, "60002.00", "0.30", Side.BUY, Source.SNAPSHOT),
    ]


def test_book(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    assert venue.parse(frames["book snapshot"], NOW) == [BookSnapshot(
        **at(NOON + 200 * MILLISECOND), symbol="BTC-USD", sequence=1, depth=0, verification="sequence",
        bids=levels(("60000.00", "1.5"), ("59999.00", "2")), asks=levels(("60001.00", "0.75")),
    )]
    time = at(NOON + 300 * MILLISECOND)
    assert venue.parse(frames["book several"], NOW) == [
        BookDelta(
            **time, symbol="BTC-USD", after=1, sequence=2, bids=levels(("60000.50", "0.25")),
            asks=levels(("60001.00", "0")),
        ),
        BookSnapshot(
            **time, symbol="ETH-USD", sequence=1, bids=levels(("3000.10", "7")), asks=levels(), depth=0,
            verification="sequence",
        ),
        BookDelta(
            **time, symbol="BTC-USD", after=2, sequence=3, bids=levels(("1.00", "0.00000000")), asks=levels(),
        ),
    ]


def test_a_second_snapshot_continues_the_count(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.parse(frames["book snapshot"], NOW)
    venue.parse(frames["book several"], NOW)
    [again] = venue.parse(numbered(frames["book snapshot"], 4), NOW)
    assert isinstance(again, BookSnapshot)
    assert again.sequence == 4


TICKER = Ticker(
    **at(NOON + 2 * SECOND), symbol="BTC-USD", last=D("60003.00"), price_change=None, price_change_percent=D("-1.85"),
    high=D("61000.00"), low=D("59000.00"), volume=D("15328.1"), quote_volume=None,
)
QUOTE = Quote(
    **at(NOON + 2 * SECOND), symbol="BTC-USD", bid=(D("60002.00"), D("1.5")), ask=(D("60003.00"), D("0.5"))
)


@pytest.mark.parametrize(("wanted", "expected"), [
    ([], [TICKER]),
    ([BTC_TICKER], [TICKER]),
    ([BTC_QUOTES], [TICKER, QUOTE]),
    ([BTC_QUOTES, BTC_TICKER], [TICKER, QUOTE]),
    ([Subscription("ETH-USD", Channel.QUOTES)], [TICKER]),
])
def test_ticker(frames: dict[str, bytes], wanted: list[Subscription], expected: list[Parsed]) -> None:
    venue = Coinbase()
    venue.subscribe(wanted)
    assert venue.parse(frames["ticker"], NOW) == expected


def test_no_quote_after_unsubscribing_it(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.subscribe([BTC_QUOTES, BTC_TICKER])
    venue.unsubscribe([BTC_QUOTES])
    assert venue.parse(frames["ticker"], NOW) == [TICKER]


def test_ticker_batch_has_no_quote(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.subscribe([BTC_QUOTES])
    [it] = venue.parse(frames["ticker batch"], NOW)
    assert isinstance(it, Ticker)
    assert (it.last, it.price_change_percent) == (D("60004.00"), D("1.5"))


def test_a_side_without_orders_has_no_quote(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.subscribe([BTC_QUOTES])
    message = json.loads(frames["ticker"])
    message["events"][0]["tickers"][0].update(best_ask="0", best_ask_quantity="", price="")
    ticker, quote = venue.parse(json.dumps(message).encode(), NOW)
    assert isinstance(ticker, Ticker)
    assert isinstance(quote, Quote)
    assert (ticker.last, quote.bid, quote.ask) == (None, (D("60002.00"), D("1.5")), None)


def test_candles_are_final_once_a_later_one_of_the_product_has_begun(frames: dict[str, bytes]) -> None:
    first = Candle(
        **at(NOON + 4 * SECOND), symbol="BTC-USD", interval="5m", start=NOON - 5 * MINUTE, end=NOON, open=D("60000.00"),
        high=D("60010.00"), low=D("59990.00"), close=D("60005.00"), volume=D("42.15"), quote_volume=None, vwap=None,
        trades=None, taker_buy_volume=None, complete=True, final=True, source="venue",
    )
    parsed = Coinbase().parse(frames["candles"], NOW)
    assert parsed[0] == first
    found = [(it.symbol, it.end, it.close, it.final) for it in parsed if isinstance(it, Candle)]
    assert found == [
        ("BTC-USD", NOON, D("60005.00"), True),
        ("BTC-USD", NOON + 5 * MINUTE, D("60003.00"), False),
        ("ETH-USD", NOON, D("3000.5"), False),
    ]


def test_status(frames: dict[str, bytes]) -> None:
    time = at(NOON + 5 * SECOND)
    assert Coinbase().parse(frames["status"], NOW) == [
        VenueStatus(**time, symbol="BTC-USD", status="online"),
        VenueStatus(**time, symbol="OLD-USD", status="delisted", message="gone"),
    ]


@pytest.mark.parametrize("name", ["heartbeat", "heartbeat number"])
def test_heartbeats_whatever_their_counter_is(frames: dict[str, bytes], name: str) -> None:
    assert Coinbase().parse(frames[name], NOW) == (Alive(),)


def test_unknown_channels_are_named_and_counted(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    assert venue.parse(frames["unknown"], NOW) == (Unknown("futures_balance_summary"),)
    assert venue.parse(numbered(frames["heartbeat"], 13), NOW) == (Alive(),)
    assert venue.parse(b'{"type":"something"}', NOW) == (Unknown("something"),)


def test_time_that_the_venue_does_not_give_is_that_of_receipt(frames: dict[str, bytes]) -> None:
    frame = frames["trades"].replace(b"2026-10-05T12:00:00.950000Z", b"0001-01-01T00:00:00Z")
    last = Coinbase().parse(frame, NOW)[-1]
    assert isinstance(last, Trade)
    assert (last.id, last.exchange_time) == ("1005", NOW)


# --- the counter of the connection ------------------------------------------------------------------------------------


def feed(venue: Coinbase, frame: bytes, numbers: Sequence[int]) -> list[Parsed]:
    return [it for number in numbers for it in venue.parse(numbered(frame, number), NOW)]


def gap(expected: int, got: int) -> ConnectionGap:
    return ConnectionGap(venue="coinbase", received_time=NOW, available_at=NOW, expected=expected, got=got)


def test_all_frames_are_numbered_in_one_series(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    parsed = [it for name in NAMES for it in venue.parse(frames[name], NOW)]
    assert not [it for it in parsed if isinstance(it, ConnectionGap)]


def test_a_recording_may_start_midway(frames: dict[str, bytes]) -> None:
    assert feed(Coinbase(), frames["heartbeat"], [500, 501]) == [Alive(), Alive()]


def test_a_gap_comes_before_what_the_frame_says(frames: dict[str, bytes]) -> None:
    assert feed(Coinbase(), frames["heartbeat"], [0, 3, 4]) == [Alive(), gap(1, 3), Alive(), Alive()]


def test_a_series_that_begins_anew_is_a_gap_and_not_a_repetition(frames: dict[str, bytes]) -> None:
    """Else a second connection, or a reset of the venue's, would be passed over for ever while the book says live."""
    venue = Coinbase()
    feed(venue, frames["heartbeat"], [5, 6, 7])
    assert feed(venue, frames["heartbeat"], [0, 1, 2]) == [gap(8, 0), Alive(), Alive(), Alive()]
    parsed = feed(Coinbase(), frames["heartbeat"], [500, *range(200, 200 + MAX_REPEATED + 2)])
    assert parsed.count(Unknown("duplicate sequence_num")) == MAX_REPEATED
    assert parsed[-3:] == [gap(501, 200 + MAX_REPEATED), Alive(), Alive()]


def test_duplicates_say_nothing(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.parse(frames["book snapshot"], NOW)
    duplicate = (Unknown("duplicate sequence_num"),)
    assert venue.parse(frames["book snapshot"], NOW) == duplicate
    assert tuple(feed(venue, frames["trades snapshot"], [1])) == duplicate
    [delta, *_] = venue.parse(frames["book several"], NOW)
    assert isinstance(delta, BookDelta)
    assert (delta.after, delta.sequence) == (1, 2)


def test_errors_are_not_numbered(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    feed(venue, frames["heartbeat"], [0])
    venue.parse(frames["error"], NOW)
    assert feed(venue, frames["heartbeat"], [1]) == [Alive()]
    venue.parse(b'{"type":"error","message":"numbered after all","sequence_num":2}', NOW)
    assert feed(venue, frames["heartbeat"], [3]) == [Alive()]


# --- requests, acks, refusals -----------------------------------------------------------------------------------------


def test_subscribe_is_one_channel_a_message_and_begins_with_heartbeats() -> None:
    venue = Coinbase()
    eth_book = Subscription("ETH-USD", Channel.BOOK)
    assert venue.subscribe([BTC_BOOK, eth_book, BTC_TICKER, BTC_QUOTES, BTC_TRADES, BTC_CANDLES, STATUS]) == [
        b'{"type":"subscribe","channel":"heartbeats"}',
        b'{"type":"subscribe","product_ids":["BTC-USD","ETH-USD"],"channel":"level2"}',
        b'{"type":"subscribe","product_ids":["BTC-USD"],"channel":"ticker"}',
        b'{"type":"subscribe","product_ids":["BTC-USD"],"channel":"market_trades"}',
        b'{"type":"subscribe","product_ids":["BTC-USD"],"channel":"candles"}',
        b'{"type":"subscribe","channel":"status"}',
    ]
    assert venue.subscribe([eth_book]) == [b'{"type":"subscribe","product_ids":["ETH-USD"],"channel":"level2"}']
    assert venue.subscribe([]) == []
    assert venue.ping(1) is None


def test_unsubscribe_leaves_a_shared_channel_to_the_other() -> None:
    venue = Coinbase()
    venue.subscribe([BTC_TICKER, BTC_QUOTES, BTC_BOOK])
    assert venue.unsubscribe([BTC_QUOTES]) == []
    assert venue.unsubscribe([BTC_TICKER, BTC_BOOK]) == [
        b'{"type":"unsubscribe","product_ids":["BTC-USD"],"channel":"ticker"}',
        b'{"type":"unsubscribe","product_ids":["BTC-USD"],"channel":"level2"}',
    ]


def test_long_lists_are_split() -> None:
    wanted = [Subscription(f"X{n}-USD", Channel.TRADES) for n in range(2 * SPEC.limits.args + 1)]
    frames = Coinbase().subscribe(wanted)
    sizes = [len(json.loads(it).get("product_ids", ())) for it in frames]
    assert sizes == [0, SPEC.limits.args, SPEC.limits.args, 1]


def test_symbols_are_quoted() -> None:
    [_, frame] = Coinbase().subscribe([Subscription('A"],"x":["B', Channel.TRADES)])
    assert json.loads(frame)["product_ids"] == ['A"],"x":["B']


def test_what_it_does_not_have() -> None:
    assert Channel.AGG_TRADES not in SPEC.capabilities.channels
    with pytest.raises(ValueError, match="no channel agg_trades"):
        Coinbase().subscribe([Subscription("BTC-USD", Channel.AGG_TRADES)])
    with pytest.raises(ValueError, match="sums nothing"):
        checksum(Coinbase(), "BTC-USD", [], [])
    assert {Coinbase.route_of(it) for it in (BTC_BOOK, STATUS)} == {""} == set(SPEC.endpoints["production"].websocket)


def test_ack_lists_all_that_is_subscribed(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.subscribe([BTC_BOOK, BTC_QUOTES, BTC_TRADES, BTC_CANDLES, STATUS])
    [first] = venue.parse(frames["first ack"], NOW)
    assert isinstance(first, Acked)
    assert BTC_TRADES in first.subscriptions
    assert BTC_BOOK not in first.subscriptions
    [ack] = venue.parse(numbered(frames["ack"], 2), NOW)
    assert isinstance(ack, Acked)
    assert not ack.removed
    assert {BTC_BOOK, BTC_QUOTES, BTC_TRADES, BTC_CANDLES, STATUS} <= set(ack.subscriptions)
    assert BTC_TICKER not in ack.subscriptions


def test_ack_of_a_recording_of_others(frames: dict[str, bytes]) -> None:
    assert Coinbase().parse(frames["first ack"], NOW) == [
        Acked((BTC_TRADES, Subscription("ETH-USD", Channel.TRADES)))
    ]


def test_what_is_no_longer_listed_has_been_left(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.subscribe([BTC_BOOK, BTC_TRADES])
    venue.unsubscribe([BTC_BOOK])
    still = venue.parse(frames["ack"], NOW)
    assert [it.removed for it in still if isinstance(it, Acked)] == [False]
    _, left = venue.parse(numbered(frames["first ack"], 5), NOW)
    assert left == Acked((BTC_BOOK,), removed=True)
    assert len(venue.parse(numbered(frames["first ack"], 6), NOW)) == 1


@pytest.mark.parametrize(("message", "refused", "reaction"), [
    ("BTC-USD is not a valid product", (BTC_TRADES, BTC_BOOK), Reaction.DROP),
    ("unknown product: BTC-USDT", (), Reaction.DROP),
    ("ErrSlowConsume", (), Reaction.RECONNECT),
    ("ErrSlowRead", (), Reaction.RETRY),
    ("Rate limit exceeded", (), Reaction.RETRY),
    ("Message too big", (), Reaction.DROP),
])
def test_refusals(message: str, refused: tuple[Subscription, ...], reaction: Reaction) -> None:
    venue = Coinbase()
    venue.subscribe([BTC_BOOK, BTC_TRADES])
    frame = json.dumps({"type": "error", "message": message}).encode()
    assert venue.parse(frame, NOW) == (Refused(tuple(sorted(refused)), message, reaction),)


def test_a_token_that_is_refused() -> None:
    for said in ("authentication failure", "Authentication Failure: unknown key"):
        frame = json.dumps({"type": "error", "message": said}).encode()
        assert Coinbase().parse(frame, NOW) == (LoginRefused(said),)


def test_who_was_accepted_before_has_the_right_key(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.subscribe([BTC_BOOK, BTC_TRADES])
    venue.parse(frames["ack"], NOW)
    said = json.dumps({"type": "error", "message": "authentication failure"}).encode()
    assert venue.parse(said, NOW) == (Refused((), "authentication failure", Reaction.RECONNECT),)


def test_each_subscription_has_a_token_of_its_own() -> None:
    pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    venue, mine = Coinbase(), Credentials("coinbase", Secret(KEY), Secret(pem))
    assert venue.login(mine, NOW) == []
    frames = venue.subscribe([BTC_BOOK, BTC_TRADES])
    assert len(frames) == 3
    signed = [json.loads(venue.signed(it, mine, NOW)) for it in frames]
    tokens = {it.pop("jwt") for it in signed}
    assert len(tokens) == 3
    assert all(token_is_good(it, NOW) for it in tokens)
    assert not any(token_is_good(it, NOW + 121 * SECOND) for it in tokens)
    assert signed == [json.loads(it) for it in frames]
    again = [json.loads(it)["jwt"] for it in (venue.signed(it, mine, NOW) for it in frames)]
    assert not tokens & set(again)
    other = Coinbase()  # the same key, time and count: the same token
    assert {json.loads(other.signed(it, mine, NOW))["jwt"] for it in frames} == tokens
    (frame,) = venue.unsubscribe([BTC_BOOK])
    assert venue.signed(frame, mine, NOW) == frame


# --- hostile input ----------------------------------------------------------------------------------------------------


def trades_with(**changed: Any) -> bytes:
    row = {
        "trade_id": "1", "product_id": "BTC-USD", "price": "1", "size": "1", "side": "BUY",
        "time": "2026-10-05T12:00:00Z", **changed,
    }
    return json.dumps({
        "channel": "market_trades", "timestamp": "2026-10-05T12:00:00Z", "sequence_num": 1,
        "events": [{"type": "update", "trades": [row]}],
    }).encode()


BAD = {
    "nothing": b"",
    "empty object": b"{}",
    "cut": b'{"channel":"l2_data","timestamp":"2026-10-05T12:00:00Z","sequence_num":1,"events":[{"type":"upd',
    "array": b"[]",
    "deep": b"[" * 100_000,
    "deep inside": b'{"channel":"heartbeats","x":' + b"[" * 100_000,
    "invalid UTF-8": trades_with(product_id="X").replace(b'"X"', b'"\xff"'),
    "no number": b'{"channel":"heartbeats","timestamp":"2026-10-05T12:00:00Z"}',
    "number as text": b'{"channel":"heartbeats","timestamp":"2026-10-05T12:00:00Z","sequence_num":"1"}',
    "negative number": b'{"channel":"heartbeats","timestamp":"2026-10-05T12:00:00Z","sequence_num":-1}',
    "endless number": b'{"channel":"heartbeats","timestamp":"x","sequence_num":1%s}' % (b"0" * 40),
    "events no list": b'{"channel":"l2_data","timestamp":"2026-10-05T12:00:00Z","sequence_num":1,"events":{}}',
    "kind of book event": b'{"channel":"l2_data","timestamp":"2026-10-05T12:00:00Z","sequence_num":1,"events":'
                          b'[{"type":"other","product_id":"BTC-USD","updates":[]}]}',
    "time of book": b'{"channel":"l2_data","timestamp":"noon","sequence_num":1,"events":'
                    b'[{"type":"update","product_id":"BTC-USD","updates":[]}]}',
    "negative price": trades_with(price="-1"),
    "NaN": trades_with(size="NaN"),
    "40 digits": trades_with(size="1" * 40),
    "price a number": trades_with(price=1.5),
    "unknown side": trades_with(side="UNKNOWN_ORDER_SIDE"),
    "negative id": trades_with(trade_id="-1"),
    "id with underscores": trades_with(trade_id="1_000"),
    "endless id": trades_with(trade_id="9" * 5_000),
    "time of trade": trades_with(time="yesterday"),
    "no product": trades_with(product_id=""),
}


UNNUMBERED = {"cut"}  # so broken that not even its number can be had


@pytest.mark.parametrize("name", BAD)
def test_bad_frames_are_refused_and_are_no_gap(frames: dict[str, bytes], name: str) -> None:
    venue = Coinbase()
    feed(venue, frames["book snapshot"], [0])
    with pytest.raises(UNREADABLE):
        venue.parse(BAD[name], NOW)
    came = b'"sequence_num":1,' in BAD[name] or b'"sequence_num": 1,' in BAD[name]  # it was number 1, if refused
    [delta, *_] = feed(venue, frames["book several"], [2 if came and name not in UNNUMBERED else 1])
    assert isinstance(delta, BookDelta)
    assert (delta.after, delta.sequence) == (1, 2)


def test_products_without_end_are_refused(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    message = json.loads(frames["book snapshot"])
    message["events"] = [{"type": "update", "product_id": f"X{n}", "updates": []} for n in range(MAX_PRODUCTS + 1)]
    with pytest.raises(UNREADABLE, match="more products"):
        venue.parse(json.dumps(message).encode(), NOW)
    [snapshot] = venue.parse(frames["book snapshot"], NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.sequence == 1


@pytest.mark.parametrize("update", [
    b'{"side":"ask","price_level":"1","new_quantity":"1"}',
    b'{"side":"bid","price_level":"-1","new_quantity":"1"}',
    b'{"side":"bid","price_level":"1","new_quantity":"NaN"}',
    b'{"side":"bid","price_level":"1","new_quantity":"%s"}' % (b"1" * 40),
    b'{"side":"bid","price_level":"1"}',
    b'{"side":"bid","price_level":"\xff","new_quantity":"1"}',
    b'["bid","1","1"]',
])
def test_bad_levels_are_refused_when_read(update: bytes) -> None:
    frame = (
        b'{"channel":"l2_data","timestamp":"2026-10-05T12:00:00Z","sequence_num":1,"events":'
        b'[{"type":"update","product_id":"BTC-USD","updates":[%s]}]}' % update
    )
    [delta] = Coinbase().parse(frame, NOW)
    assert isinstance(delta, BookDelta)
    with pytest.raises(BadLevels):
        delta.bids.read()


@pytest.mark.parametrize(("frame", "blamed"), [
    (BAD["negative price"], ("BTC-USD", Channel.TRADES)),
    (BAD["kind of book event"], ("BTC-USD", Channel.BOOK)),
    (BAD["cut"], ("", Channel.BOOK)),
    (b'{"channel":"l2_data","events":[{"product_id":"BTC-USD"},{"product_id":"ETH-USD"}]}', ("", Channel.BOOK)),
    (b'{"channel":"l2_data","events":[{"product_id":"BTC-USD"},{"prod', ("", Channel.BOOK)),
    (b'{"channel":"nonsense","product_id":"BTC-USD"}', ("", None)),
    (b'{ "channel" : "ticker", "product_id" : "BTC\xff" }', ("BTC\N{REPLACEMENT CHARACTER}", Channel.TICKER)),
    (b"\xff", ("", None)),
])
def test_blame(frame: bytes, blamed: tuple[str, Channel | None]) -> None:
    assert Coinbase().blame(frame) == blamed


# --- REST -------------------------------------------------------------------------------------------------------------


def test_time(bodies: dict[str, bytes]) -> None:
    assert Coinbase().time_request() == Request(RestKind.TIME, "/api/v3/brokerage/time")
    assert Coinbase().parse_time(bodies["time"]) == NOON + 123 * MILLISECOND


def test_instruments(bodies: dict[str, bytes]) -> None:
    [request] = Coinbase().instrument_requests()
    assert request == Request(RestKind.INSTRUMENTS, "/api/v3/brokerage/market/products?product_type=SPOT")
    found, more = Coinbase().parse_instruments(bodies["products"])
    assert more is None
    assert found[0] == Instrument(
        id=InstrumentId("coinbase", "BTC-USD"), pair="BTC-USD", base="BTC", quote="USD", kind=Kind.SPOT, tradable=True,
        status="online", tick_size=D("0.01"), lot_size=D("0.00000001"), min_size=D("0.0001"),
    )
    assert [(it.id.symbol, it.kind, it.pair, it.tradable, it.status) for it in found[1:]] == [
        ("BTC-USDC", Kind.OTHER, "", False, "alias"),
        ("OLD-USD", Kind.SPOT, "OLD-USD", False, "delisted"),
        ("HALT-USD", Kind.SPOT, "HALT-USD", False, "online"),
        ("BIT-24APR26-CDE", Kind.OTHER, "", False, ""),
    ]


@pytest.mark.parametrize("auction", [False, True])
def test_in_an_auction_a_book_may_cross(bodies: dict[str, bytes], auction: bool) -> None:
    product = json.loads(bodies["products"])["products"][0] | {"auction_mode": auction}
    (found,), _ = Coinbase().parse_instruments(json.dumps({"products": [product]}).encode())
    assert (found.may_cross, found.tradable) == (auction, not auction)


@pytest.mark.parametrize("start", ["9000000000", "9999999999", "-1", "1e9", ""])
def test_a_candle_ends_within_time(start: str) -> None:
    row = {"start": start, "low": "1", "high": "1", "open": "1", "close": "1", "volume": "1"}
    with pytest.raises(UNREADABLE):
        Coinbase().parse_candles(
            Coinbase().candles_request("BTC-USD", "5m", NOON, NOON + 10 * MINUTE),
            json.dumps({"candles": [row]}).encode(), NOW,
        )


@pytest.mark.parametrize("clock", ["-1", "9223372036855", "1.5", ""])
def test_bad_clocks_are_refused(clock: str) -> None:
    with pytest.raises(UNREADABLE):
        Coinbase().parse_time(json.dumps({"epochMillis": clock}).encode())


@pytest.mark.parametrize(("depth", "limit"), [(0, 1_000), (10, 10), (5_000, 1_000)])
def test_book_request(depth: int, limit: int) -> None:
    request = Coinbase().book_request("BTC-USD", depth)
    assert request.path == f"/api/v3/brokerage/market/product_book?product_id=BTC-USD&limit={limit}"
    assert request.depth == limit


def test_book_body(bodies: dict[str, bytes]) -> None:
    request = Coinbase().book_request("BTC-USD", 10)
    assert Coinbase().parse_book(request, bodies["book"], NOW) == BookSnapshot(
        **at(NOON + 662_782_000), symbol="BTC-USD", sequence=0, bids=levels(("60000.00", "1.5"), ("59999", "2")),
        asks=levels(("60001.00", "0.75")), depth=10, verification="none",
    )


def test_trades_body(bodies: dict[str, bytes]) -> None:
    venue = Coinbase()
    path = "/api/v3/brokerage/market/products/BTC-USD/ticker?limit=1000"
    request = venue.trades_request("BTC-USD", None, None, None)
    assert request == Request(RestKind.TRADES, path, "BTC-USD", channel=Channel.TRADES)
    since = venue.trades_request("BTC-USD", None, None, NOON)
    assert since is not None
    assert since.path == f"{path}&start=1791201600"
    assert venue.parse_trades(request, bodies["trades"], NOW) == [
        btc(1004, 900, "60002.50", "0.5", Side.BUY, Source.BACKFILL),
        btc(1005, 950, "60003.00", "0.0015", Side.SELL, Source.BACKFILL),
    ]


def test_trades_of_the_past_are_asked_for_at_the_exchange(bodies: dict[str, bytes]) -> None:
    venue = Coinbase()
    request = venue.trades_request("BTC-USD", "1", "9", None)
    assert request is not None
    assert request.path == "/products/BTC-USD/trades?limit=1000&after=10"  # with 9, which is known
    assert venue.request_of("https://api.exchange.coinbase.com" + request.path) == request
    body = b'[{"trade_id":9,"side":"sell","size":"0.5","price":"60002.50","time":"2026-10-05T12:00:00.9Z"}]'
    assert venue.parse_trades(request, body, NOW) == [btc(9, 900, "60002.50", "0.5", Side.BUY, Source.BACKFILL)]


def test_trades_without_a_time_have_no_place_in_the_past(bodies: dict[str, bytes]) -> None:
    request = Request(RestKind.TRADES, "/", "BTC-USD", channel=Channel.TRADES)
    body = bodies["trades"].replace(b"2026-10-05T12:00:00.95Z", b"0001-01-01T00:00:00Z")
    with pytest.raises(UNREADABLE, match="without its time"):
        Coinbase().parse_trades(request, body, NOW)


def test_candles_request() -> None:
    request = Coinbase().candles_request("BTC-USD", "5m", NOON, NOON + 10 * MINUTE)
    assert request.path == (
        "/api/v3/brokerage/market/products/BTC-USD/candles?start=1791201600&end=1791202199"
        "&granularity=FIVE_MINUTE&limit=350"
    )
    assert (request.symbol, request.interval) == ("BTC-USD", "5m")
    longest = Coinbase().candles_request("BTC-USD", "1m", NOON, NOON + 1_000 * MINUTE)
    assert f"&end={1_791_201_600 + 350 * 60 - 1}&" in longest.path


def test_candles_body(bodies: dict[str, bytes]) -> None:
    request = Coinbase().candles_request("BTC-USD", "5m", NOON - 5 * MINUTE, NOON + 5 * MINUTE)
    received = NOON + MINUTE
    first, second = Coinbase().parse_candles(request, bodies["candles"], received)
    assert first == Candle(
        venue="coinbase", symbol="BTC-USD", exchange_time=NOON, received_time=received, available_at=received,
        interval="5m", start=NOON - 5 * MINUTE, end=NOON, open=D(60000), high=D(60010), low=D(59990), close=D(60005),
        volume=D("42.15"), quote_volume=None, vwap=None, trades=None, taker_buy_volume=None, complete=True, final=True,
        source="venue",
    )
    assert (second.start, second.final) == (NOON, False)
    [early, _] = Coinbase().parse_candles(request, bodies["candles"], received - 1)
    assert not early.final


@pytest.mark.parametrize(("status", "body", "error", "reason"), [
    (400, b'{"error":"INVALID_ARGUMENT","message":"number of candles"}', GiveUp, "400: INVALID_ARGUMENT number of"),
    (401, b"Unauthorized", GiveUp, "401: Unauthorized"),
    (401, b'{"message":"request timestamp expired"}', ClockSkew, "timestamp expired"),
    (403, b"<html>", GiveUp, "403"),
    (404, "not_found", GiveUp, "NOT_FOUND Product NOPE-USD not supported"),
    (408, b"", TryAgain, "408"),
    (429, "rate_limit", TryAgain, "rate_limit_exceeded Too many requests"),
    (500, b'{"error":{"nested":1}}', TryAgain, "500"),
    (503, b"\xff", TryAgain, "503"),
    (524, b"[" * 100_000, TryAgain, "524"),
])
def test_check(
    bodies: dict[str, bytes], status: int, body: bytes | str, error: type[Exception], reason: str,
) -> None:
    with pytest.raises(error, match=reason):
        Coinbase().check(status, {}, bodies[body] if isinstance(body, str) else body)


def test_check_waits_as_told() -> None:
    Coinbase().check(200, {}, b"{}")
    for header, wait in (("7", 7 * SECOND), ("soon", 0), ("9" * 30, 3 * DAY)):
        with pytest.raises(TryAgain) as caught:
            Coinbase().check(429, {"retry-after": header}, b"")
        assert caught.value.retry_after_ns == wait


def test_requests_are_known_again_by_their_url() -> None:
    venue = Coinbase()
    trades = venue.trades_request("BTC-USD", None, None, NOON)
    assert trades is not None
    for request in (
        venue.time_request(), *venue.instrument_requests(), venue.book_request("BTC-USD", 10), trades,
        venue.candles_request("BTC-USD", "1h", NOON, NOON + MINUTE),
    ):
        assert venue.request_of("https://api.coinbase.com" + request.path) == request
    for url in ("https://api.coinbase.com/v2/time", "https://api.coinbase.com/time", "https://example.com/"):
        assert venue.request_of(url) is None


@pytest.mark.parametrize("body", [
    b"", b"[]", b'{"products":1}', b'{"trades":[{"trade_id":"x"}]}', b"\xff", b"[" * 100_000,
])
def test_bad_bodies_are_refused(body: bytes) -> None:
    venue, request = Coinbase(), Request(RestKind.TRADES, "/", "BTC-USD", interval="5m")
    for parse in (
        lambda: venue.parse_time(body), lambda: venue.parse_instruments(body),
        lambda: venue.parse_book(request, body, NOW), lambda: venue.parse_trades(request, body, NOW),
        lambda: venue.parse_candles(request, body, NOW),
    ):
        with pytest.raises(UNREADABLE):
            parse()


# --- the traps of the protocol page -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("word", "side"), [("BUY", Side.SELL), ("SELL", Side.BUY)])
def test_trap_01_side_is_the_makers(word: str, side: Side) -> None:
    [trade] = Coinbase().parse(trades_with(side=word), NOW)
    assert isinstance(trade, Trade)
    assert trade.side is side


def test_trap_02_a_snapshot_of_5_mb_is_one_frame() -> None:
    row = b'{"side":"bid","event_time":"2026-10-05T12:00:00.000000Z","price_level":"%d","new_quantity":"0.123"}'
    updates = b",".join(row % price for price in range(1, 50_001))
    frame = (
        b'{"channel":"l2_data","timestamp":"2026-10-05T12:00:00Z","sequence_num":0,"events":'
        b'[{"type":"snapshot","product_id":"BTC-USD","updates":[%s]}]}' % updates
    )
    assert 4_500_000 < len(frame) < SPEC.limits.receive_bytes
    [snapshot] = Coinbase().parse(frame, NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert (len(snapshot.bids), len(snapshot.asks)) == (50_000, 0)


def test_trap_03_offer_is_the_ask_side(frames: dict[str, bytes]) -> None:
    [snapshot] = Coinbase().parse(frames["book snapshot"], NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.asks.read() == [(D("60001.00"), D("0.75"))]


def test_trap_04_acks_and_heartbeats_are_numbered_too(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    parsed = [*feed(venue, frames["book snapshot"], [0]), *feed(venue, frames["heartbeat"], [1]),
              *feed(venue, frames["ack"], [2]), *feed(venue, frames["book several"], [3])]
    assert not [it for it in parsed if isinstance(it, ConnectionGap)]


def test_trap_05_deletes_of_levels_that_are_not_there_are_plain_deltas(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.parse(frames["book snapshot"], NOW)
    delta = venue.parse(frames["book several"], NOW)[2]
    assert isinstance(delta, BookDelta)
    assert delta.bids.read() == [(D("1.00"), D(0))]
    assert (delta.after, delta.sequence) == (2, 3)


def test_trap_09_names_of_data_differ_from_names_of_requests(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    assert b'"channel":"level2"' in venue.subscribe([BTC_BOOK])[1]
    [snapshot] = venue.parse(frames["book snapshot"], NOW)
    assert isinstance(snapshot, BookSnapshot)
    [ack] = venue.parse(numbered(frames["ack"], 3), NOW)
    assert isinstance(ack, Acked)
    assert BTC_BOOK in ack.subscriptions


def test_trap_12_events_carry_the_name_in_the_message(frames: dict[str, bytes]) -> None:
    venue = Coinbase()
    venue.subscribe([Subscription("BTC-USDC", Channel.BOOK)])
    [snapshot] = venue.parse(frames["book snapshot"], NOW)
    assert isinstance(snapshot, BookSnapshot)
    assert snapshot.symbol == "BTC-USD"


# --- what the venue really sent ---------------------------------------------------------------------------------------


def replay(venue: Coinbase, path: Path) -> list[Parsed]:
    return [it for line in path.read_bytes().splitlines() for it in venue.parse(line, NOW)]


def best(side: dict[Decimal, Decimal], *, descending: bool) -> list[Level]:
    return sorted(side.items(), reverse=descending)[:10]


def test_recording(recordings: Path) -> None:
    name = "coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl"
    books: dict[str, tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]] = {}
    counts: dict[str, int] = {}
    serials: dict[str, int] = {}
    for it in replay(Coinbase(), recordings / name):
        assert not isinstance(it, ConnectionGap | Unknown | Refused)
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
    assert books.keys() == expected.keys() == {"BTC-USD", "ETH-USD"}
    for symbol, (bids, asks) in books.items():
        assert best(bids, descending=True) == [(D(price), D(size)) for price, size in expected[symbol]["bids"]]
        assert best(asks, descending=False) == [(D(price), D(size)) for price, size in expected[symbol]["asks"]]


def test_recorded_instruments(recordings: Path) -> None:
    folder = recordings / "coinbase" / "advtrade_20260809_btcusd_ethusd.rest"
    _, line = (folder / "index.tsv").read_text().splitlines()
    file, _, url = line.split("\t")
    request = Coinbase().request_of(url)
    assert request is not None
    assert request.kind is RestKind.INSTRUMENTS
    found, _ = Coinbase().parse_instruments((folder / file).read_bytes())
    assert len(found) == 920
    offered = [it for it in found if it.kind is Kind.SPOT]
    assert len(offered) == 520
    assert len({it.pair for it in offered}) == 520
    assert sum(it.tradable for it in offered) == 516  # the other four are delisted


def test_sample_bodies(recordings: Path) -> None:
    venue, folder = Coinbase(), recordings / "coinbase" / "samples" / "nautilus"
    trades = venue.trades_request("BTC-USD", None, None, None)
    assert trades is not None
    assert [it.id for it in venue.parse_trades(trades, (folder / "http_ticker.json").read_bytes(), NOW)] == [
        "995098661", "995098662", "995098663",
    ]
    candles = venue.candles_request("BTC-USD", "1h", NOON, NOON)
    assert len(venue.parse_candles(candles, (folder / "http_candles.json").read_bytes(), NOW)) == 2
    book = venue.parse_book(venue.book_request("BTC-USD", 5), (folder / "http_product_book.json").read_bytes(), NOW)
    assert (len(book.bids), len(book.asks)) == (5, 5)
    found, _ = venue.parse_instruments((folder / "http_products.json").read_bytes())
    assert [(it.id.symbol, it.kind) for it in found] == [("BTC-USD", Kind.SPOT), ("BTC-USDC", Kind.OTHER)]
    futures, _ = venue.parse_instruments((folder / "http_products_future.json").read_bytes())
    assert {it.kind for it in futures} == {Kind.OTHER}
    with pytest.raises(UNREADABLE, match="products"):  # one product, which is nothing that we ask for
        venue.parse_instruments((folder / "http_product.json").read_bytes())
