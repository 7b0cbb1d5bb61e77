"""The simulated Advanced Trade against its protocol page, and against what the real one sent."""
import json
import re
from base64 import urlsafe_b64encode
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import MINUTE, SECOND, rfc3339
from onetape.sim.base import Action, Close, Frame, Rejected, Response, SimVenue
from onetape.sim.credentials import KEY, private_key
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.listings import LISTINGS
from onetape.sim.market import Market
from onetape.sim.venues.coinbase import Coinbase

START = 1_790_000_000 * SECOND
BTC, ETH = "BTC-USD", "ETH-USD"
ROOT = "/api/v3/brokerage"
CHANNELS = ("level2", "market_trades", "ticker", "ticker_batch", "candles", "status")

QUIRKS = (
    ("2", "8 connection attempts a second", "test_attempts_are_counted"),
    ("2", "closed without a subscription within 5 s", "test_a_socket_without_a_subscription_is_closed"),
    ("2", "8 messages a second, then ErrSlowRead; too long ones are Message too big", "test_messages_are_counted"),
    ("2", "closed after a minute without a word: heartbeats keep it", "test_heartbeats_keep_a_socket_open"),
    ("2", "a deploy closes all sockets, announced by nothing", "test_a_deploy"),
    ("2.2", "one channel a message, the ack is numbered and lists the complete set", "test_acks_list_everything"),
    ("2.2", "unsubscribing without products drops the channel", "test_unsubscribing"),
    ("3", "one number over all frames of a connection, from 0; errors have none", "test_every_frame_is_numbered"),
    ("4", "heartbeats each second, +1, with a time in Go's print format", "test_heartbeats_keep_a_socket_open"),
    ("5.2", "a snapshot of a hundred trades, descending; then batches", "test_trades_are_those_of_the_truth"),
    ("5.2", "ids are text; the side is the maker's", "test_trades_are_those_of_the_truth"),
    ("6.2", "ticker; ticker_batch is without best prices", "test_tickers"),
    ("6.3", "buckets of five minutes, none of them told to be closed", "test_candles_are_those_of_the_truth"),
    ("6.4", "status; without products it is of all", "test_status"),
    ("7.1", "the whole book, then absolute sizes; bid and offer", "test_books_are_the_truth_at_their_time"),
    ("7.1", "deletes of levels that nobody has seen", "test_what_came_and_went_is_told_as_gone"),
    ("7.1", "subscribing again after unsubscribing brings a snapshot", "test_unsubscribing"),
    ("8.2", "candles: 350 at most, both ends count, newest first, empty ones missing", "test_rest_candles"),
    ("8.3", "newest 100 trades of a window, no cursor, 500 above 1000", "test_rest_trades"),
    ("8.3", "product_book without a number, 1,000 levels, aggregated", "test_rest_book"),
    ("8.3", "products are paged by limit and offset", "test_products"),
    ("8.4", "429 with an error body; a cache of 1 s that no-cache passes by", "test_rest_budget_and_cache"),
    ("8.5", "NOT_FOUND, INVALID_ARGUMENT, plain Unauthorized", "test_rest_errors"),
    ("9", "one bad product fails the whole message", "test_one_bad_product_fails_all"),
    ("10", "a token may be there, and must be right then", "test_tokens_are_verified"),
    ("11", "USDC products are aliases, answered as USD", "test_aliases_are_answered_as_what_they_stand_for"),
)


class Wire:
    """One market, one venue, and a clock that only this test moves."""

    def __init__(self, *faults: Fault, pace: float = 3.0, symbols: tuple[str, ...] = (BTC, ETH)) -> None:
        listings = [it for it in LISTINGS["coinbase"] if it.symbol in symbols]
        self.market = Market(1, listings, START, pace)
        self.truths = {symbol: truth for (_, symbol), truth in self.market.truths.items()}
        self.venue: SimVenue = Coinbase(self.truths, Faults(FaultPlan(faults=faults), START), 1)
        self.now = START

    def connect(self, number: int = 1) -> None:
        assert self.venue.connect(number, "/", self.now) == []

    def ask(self, channel: str, *products: str, number: int = 1, verb: str = "subscribe", **more: Any) -> list[Any]:
        request = {"type": verb, "channel": channel, **({"product_ids": products} if products else {}), **more}
        return texts(self.venue.receive(number, json.dumps(request).encode(), self.now))

    def respond(self, target: str, client: str = "1.1.1.1", **headers: str) -> Response:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.venue.request("GET", target, self.now, named, client)

    def get(self, target: str) -> Any:
        response = self.respond(f"{ROOT}{target}", client=target)
        assert response.status == 200, response.body
        return json.loads(response.body)

    def run(self, seconds: float, *, market: bool = True) -> list[Action]:
        end, actions = self.now + round(seconds * SECOND), []
        while (wake := min(self._wakes(market), default=end + 1)) <= end:
            self.now = max(wake, self.now)
            for it in self.market.wake(self.now) if market else ():
                actions += self.venue.happen(it, self.now)
            actions += self.venue.wake(self.now)
        self.now = end
        return actions

    def _wakes(self, market: bool) -> list[int]:
        return [it for it in (self.market.next_wake() if market else None, self.venue.next_wake()) if it is not None]


def texts(actions: list[Action]) -> list[Any]:
    return [json.loads(it.data) for it in actions if isinstance(it, Frame)]


def of(channel: str, frames: list[Any]) -> list[Any]:
    return [event for it in frames if it.get("channel") == channel for event in it["events"]]


def shape(value: Any) -> Any:
    """Keys and their order, JSON types, and numbers in quotes."""
    match value:
        case dict():
            return [(key, shape(it)) for key, it in value.items()]
        case [first, *_]:
            return [shape(first)]
        case str() if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return "quoted number"
        case str() if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d*[1-9])?Z", value):
            return "time"
        case _:
            return type(value).__name__


def ticks(text: str, unit: Decimal) -> int:
    count = Decimal(text) / unit
    assert count == int(count)
    return int(count)


# --- connections ----------------------------------------------------------------------------------------------------


def test_attempts_are_counted() -> None:
    wire = Wire()
    for number in range(8):
        wire.connect(number)
    with pytest.raises(Rejected) as caught:
        wire.connect(9)
    assert caught.value.status == 429
    wire.run(1)
    wire.connect(9)


def test_only_the_root_is_served() -> None:
    with pytest.raises(Rejected) as caught:
        Wire().venue.connect(1, "/ws", START)
    assert caught.value.status == 404


def test_a_socket_without_a_subscription_is_closed() -> None:
    wire = Wire()
    wire.connect()
    assert wire.ask("nothing", BTC)[0]["type"] == "error"
    assert not wire.run(4.9)
    assert wire.run(0.2) == [Close(1, 1006)]
    assert wire.ask("heartbeats") == []
    wire.venue.disconnect(1, wire.now)
    assert wire.venue.pong(1, b"", wire.now) == []


def test_messages_are_counted() -> None:
    wire = Wire()
    wire.connect()
    answers = [wire.ask("heartbeats")[0] for _ in range(10)]
    assert [it.get("message") for it in answers] == [None] * 8 + ["ErrSlowRead"] * 2
    wire.run(1)
    long = b'{"type":"subscribe","channel":"level2","product_ids":["' + b"x" * 100_000 + b'"]}'
    assert texts(wire.venue.receive(1, long, wire.now)) == [{"type": "error", "message": "Message too big"}]


def test_heartbeats_keep_a_socket_open() -> None:
    wire = Wire()
    wire.connect(1)
    wire.connect(2)
    wire.ask("status", BTC, number=1)
    wire.ask("heartbeats", number=2)
    actions = wire.run(90, market=False)
    assert [it for it in actions if isinstance(it, Close)] == [Close(1, 1006)]
    beats = of("heartbeats", texts(actions))
    assert len(beats) == 90
    assert {after["heartbeat_counter"] - it["heartbeat_counter"] for it, after in pairwise(beats)} == {1}
    assert re.fullmatch(r"2026-09-21 14:\d\d:\d\d\.\d+ \+0000 UTC m=\+\d+\.\d{9}", beats[0]["current_time"])


def test_a_deploy() -> None:
    wire = Wire(Fault(kind=FaultKind.NOTICE, venue="coinbase", at=1.0))
    wire.connect()
    wire.ask("heartbeats")
    actions = wire.run(10.9)
    assert not [it for it in actions if isinstance(it, Close)]
    assert Close(1, 1001) in wire.run(0.2)
    with pytest.raises(Rejected) as caught:
        wire.connect(2)
    assert caught.value.status == 503
    wire.run(5)
    wire.connect(2)


# --- messages -------------------------------------------------------------------------------------------------------


def test_every_frame_is_numbered() -> None:
    wire = Wire()
    frames = []
    wire.connect()
    for channel in CHANNELS:
        frames += wire.ask(channel, BTC, ETH)
    assert "sequence_num" not in wire.ask("nothing", BTC)[0]
    frames += wire.ask("heartbeats")
    frames += texts(wire.run(10))
    assert {it["channel"] for it in frames} == {*CHANNELS, "l2_data", "subscriptions", "heartbeats"} - {"level2"}
    assert [it["sequence_num"] for it in frames] == list(range(len(frames)))
    times = [rfc3339(it["timestamp"]) for it in frames]
    assert times == sorted(times)


def test_numbers_are_of_one_connection() -> None:
    wire = Wire()
    for number in (1, 2):
        wire.connect(number)
        wire.ask("level2", BTC, number=number)
        wire.run(1)
    by_connection: dict[int, list[int]] = {1: [], 2: []}
    for it in wire.run(2):
        assert isinstance(it, Frame)
        by_connection[it.connection].append(json.loads(it.data)["sequence_num"])
    assert 15 <= by_connection[2][0] <= 22
    assert 15 <= by_connection[1][0] - by_connection[2][0] <= 20
    assert all(after - before == 1 for numbers in by_connection.values() for before, after in pairwise(numbers))


def test_acks_list_everything() -> None:
    wire = Wire()
    wire.connect()
    *snapshots, ack = wire.ask("market_trades", BTC, ETH)
    assert [it["channel"] for it in snapshots] == ["market_trades"] * 2  # data comes before its ack
    (ack,) = wire.ask("heartbeats")
    (event,) = ack["events"]
    assert list(event["subscriptions"]) == ["heartbeats", "market_trades"]
    assert event["subscriptions"]["heartbeats"] == ["heartbeats"]
    assert sorted(event["subscriptions"]["market_trades"]) == [BTC, ETH]


def test_unsubscribing() -> None:
    wire = Wire()
    wire.connect()
    wire.ask("level2", BTC, ETH)
    (ack,) = wire.ask("level2", BTC)  # it goes on
    (ack,) = wire.ask("level2", BTC, verb="unsubscribe")
    assert ack["events"] == [{"subscriptions": {"level2": [ETH]}}]
    assert {it["product_id"] for it in of("l2_data", texts(wire.run(1)))} == {ETH}
    (snapshot, _) = wire.ask("level2", BTC)
    assert snapshot["events"][0]["type"] == "snapshot"
    (ack,) = wire.ask("level2", verb="unsubscribe")
    assert ack["events"] == [{"subscriptions": {}}]
    assert not wire.run(1)


def test_one_bad_product_fails_all() -> None:
    wire = Wire(Fault(kind=FaultKind.UNLISTED, symbol=ETH, lasts=5.0))
    wire.connect()
    wire.ask("heartbeats")
    for bad in ("XXX-USD", "btc-usd", ETH, ""):
        assert wire.ask("level2", BTC, bad) == [{"type": "error", "message": f"{bad} is not a valid product"}]
    assert not of("l2_data", texts(wire.run(5)))
    assert len(wire.ask("level2", BTC, ETH)) == 3


def test_a_product_can_be_refused() -> None:
    wire = Wire(Fault(kind=FaultKind.REFUSE_SYMBOL, symbol=BTC, channel="book", lasts=5.0))
    wire.connect()
    assert wire.ask("level2", BTC)[0]["message"] == f"{BTC} is not a valid product"
    assert wire.ask("market_trades", BTC)[0]["channel"] == "market_trades"


def test_aliases_are_answered_as_what_they_stand_for() -> None:
    wire = Wire()
    wire.connect()
    snapshot, ack = wire.ask("level2", "BTC-USDC")
    assert snapshot["events"][0]["product_id"] == BTC
    assert ack["events"] == [{"subscriptions": {"level2": [BTC]}}]
    rows = {it["product_id"]: it for it in wire.get("/market/products")["products"]}
    assert list(rows) == [BTC, "BTC-USDC", ETH, "ETH-USDC"]
    assert (rows[BTC]["alias"], rows[BTC]["alias_to"]) == ("", ["BTC-USDC"])
    assert (rows["BTC-USDC"]["alias"], rows["BTC-USDC"]["alias_to"]) == (BTC, [])
    assert rows["BTC-USDC"]["quote_currency_id"] == "USDC"
    assert wire.get("/market/products/BTC-USDC")["product_id"] == "BTC-USDC"
    assert wire.get("/market/product_book?product_id=BTC-USDC")["pricebook"]["product_id"] == BTC


def token(key: ec.EllipticCurvePrivateKey, header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Section 10, literally."""
    signed = b".".join(urlsafe_b64encode(json.dumps(it).encode()).rstrip(b"=") for it in (header, claims))
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
    signature = urlsafe_b64encode(r.to_bytes(32) + s.to_bytes(32)).rstrip(b"=")
    return b".".join((signed, signature)).decode()


HEADER = {"alg": "ES256", "typ": "JWT", "kid": KEY, "nonce": "0a1b"}
CLAIMS = {"sub": KEY, "iss": "cdp", "nbf": START // SECOND, "exp": START // SECOND + 120}


@pytest.mark.parametrize(("jwt", "good"), [
    (token(private_key(), HEADER, CLAIMS), True),
    (token(private_key(), HEADER | {"kid": "other"}, CLAIMS), False),
    (token(private_key(), HEADER | {"alg": "EdDSA"}, CLAIMS), False),
    (token(private_key(), HEADER, CLAIMS | {"iss": "me"}), False),
    (token(private_key(), HEADER, CLAIMS | {"exp": START // SECOND}), False),
    (token(private_key(), HEADER, CLAIMS | {"nbf": START // SECOND + 100}), False),
    (token(ec.generate_private_key(ec.SECP256R1()), HEADER, CLAIMS), False),
    ("a.b.c", False), ("é", False), (".", False), ("=" * 999, False),
])
def test_tokens_are_verified(jwt: str, good: bool) -> None:
    wire = Wire()
    wire.connect()
    answer = wire.ask("level2", BTC, jwt=jwt)[-1]
    assert answer.get("message") == (None if good else "authentication failure")
    assert wire.ask("user", BTC) == [{"type": "error", "message": "authentication failure"}]


HOSTILE = [
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 60_000, b'{"type":7}', b'{"type":"subscribe"}',
    b'{"type":"subscribe","channel":null}', b'{"type":"subscribe","channel":"level2"}',
    b'{"type":"x","channel":"level2","product_ids":["BTC-USD"]}',
    b'{"type":"subscribe","channel":"level2","product_ids":"BTC-USD"}',
    b'{"type":"subscribe","channel":"level2","product_ids":[1e400]}',
    b'{"type":"subscribe","channel":"level2","product_ids":[null]}',
    b'{"type":"subscribe","channel":"level2","product_ids":["\\ud800"]}',
    b'{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"],"jwt":99999999999999999999999999}',
    b'{"type":"subscribe","channels":["level2"],"product_ids":["BTC-USD"]}',
]


@pytest.mark.parametrize("frame", HOSTILE)
def test_hostile_messages_get_an_error(frame: bytes) -> None:
    wire = Wire()
    wire.connect()
    (answer,) = texts(wire.venue.receive(1, frame, wire.now))
    assert answer.keys() == {"type", "message"}
    assert wire.ask("heartbeats")[0]["channel"] == "subscriptions"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_nothing_that_a_client_sends_raises(frame: bytes) -> None:
    venue = Coinbase({}, Faults(FaultPlan(), START), 1)
    venue.connect(1, "/", START)
    assert texts(venue.receive(1, frame, START))


# --- what is said ---------------------------------------------------------------------------------------------------


class Book:
    """Section 7.1, literally: what a client makes of the events."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {"bid": {}, "offer": {}}
        self.orphans = 0

    def receive(self, event: Any) -> None:
        if event["type"] == "snapshot":
            self.sides = {"bid": {}, "offer": {}}
        for it in event["updates"]:
            side, price, size = self.sides[it["side"]], Decimal(it["price_level"]), Decimal(it["new_quantity"])
            if size:
                side[price] = size
            else:
                self.orphans += side.pop(price, None) is None


def true_sides(wire: Wire, symbol: str, time: int) -> dict[str, dict[Decimal, Decimal]]:
    truth = wire.truths[symbol]
    book = truth.book_at_time(time)
    assert book is not None
    tick, lot = truth.listing.tick, truth.listing.lot
    sides = {"bid": book.bids, "offer": book.asks}
    return {name: {price * tick: size * lot for price, size in levels} for name, levels in sides.items()}


@settings(max_examples=5, deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_books_are_the_truth_at_their_time(before: float, between: float) -> None:
    """Whenever somebody comes, and whoever listens already."""
    wire = Wire(pace=20)
    for number, wait in ((1, before), (2, between)):
        wire.run(wait)
        wire.connect(number)
        book = Book()
        frames = wire.ask("level2", BTC, number=number)[:1] + texts(
            [it for it in wire.run(1) if isinstance(it, Frame) and it.connection == number])
        for it in frames:
            book.receive(it["events"][0])
            assert book.sides == true_sides(wire, BTC, rfc3339(it["timestamp"]))
        assert 15 <= len(frames) <= 21


def test_what_came_and_went_is_told_as_gone() -> None:
    wire = Wire(pace=50)
    wire.connect()
    book = Book()
    for event in of("l2_data", wire.ask("level2", BTC) + texts(wire.run(10))):
        book.receive(event)
    assert book.orphans


def test_books_of_a_wrong_clock_say_its_time() -> None:
    wire = Wire(Fault(kind=FaultKind.CLOCK_SKEW, lasts=9.0, seconds=3.0))
    wire.connect()
    frames = wire.ask("level2", BTC) + texts(wire.run(1))
    assert all(3 * SECOND <= rfc3339(it["timestamp"]) - START <= 4 * SECOND for it in frames)
    assert json.loads(wire.respond(f"{ROOT}/time").body)["epochSeconds"] == str(START // SECOND + 4)


def test_trades_are_those_of_the_truth() -> None:
    wire = Wire(pace=10)
    wire.connect()
    snapshot, _ = of("market_trades", wire.ask("market_trades", BTC, ETH))
    assert snapshot["type"] == "snapshot"
    ids = [int(it["trade_id"]) for it in snapshot["trades"]]
    assert ids == list(range(ids[0], ids[0] - 100, -1))
    frames = texts(wire.run(10))
    assert 35 < len([it for it in frames if it["events"][0]["trades"][0]["product_id"] == BTC]) <= 41
    rows = []
    for event in (snapshot, *of("market_trades", frames)):
        assert len({it["product_id"] for it in event["trades"]}) == 1
        rows += [it for it in reversed(event["trades"]) if it["product_id"] == BTC]
    truth = wire.truths[BTC]
    tick, lot = truth.listing.tick, truth.listing.lot
    assert [int(it["trade_id"]) for it in rows] == list(range(ids[-1], ids[-1] + len(rows)))
    for it in rows:
        match = wire.venue.match(BTC, wire.venue.number(it["trade_id"]))
        assert match is not None
        assert (ticks(it["price"], tick), ticks(it["size"], lot)) == (match.price, match.size)
        assert it["side"] == ("SELL" if match.buy else "BUY")
        assert rfc3339(it["time"]) == match.time // 1_000 * 1_000
    assert wire.venue.match(BTC, ids[0] + 10**6) is None


def test_candles_are_those_of_the_truth() -> None:
    wire = Wire(pace=10)
    wire.connect()
    wire.ask("heartbeats")
    (snapshot,) = of("candles", wire.ask("candles", BTC))
    starts = [int(it["start"]) for it in snapshot["candles"]]
    assert starts == sorted(starts)
    assert len(starts) == 3  # all that there is
    frames = texts(wire.run(120) + wire.run(1, market=False))
    known = {it["start"]: it for event in (snapshot, *of("candles", frames)) for it in event["candles"]}
    truth = wire.truths[BTC]
    true = truth.candles(5 * MINUTE, START - 60 * MINUTE, START + 60 * MINUTE)
    assert len(known) == len(true) == 4
    for row, it in zip(known.values(), true, strict=True):
        names = ("open", "high", "low", "close")
        assert [ticks(row[name], truth.listing.tick) for name in names] == [it.open, it.high, it.low, it.close]
        assert (int(row["start"]) * SECOND, ticks(row["volume"], truth.listing.lot)) == (it.start, it.volume)


def test_tickers() -> None:
    wire = Wire(pace=10)
    wire.connect()
    frames = wire.ask("ticker", BTC) + wire.ask("ticker_batch", BTC) + texts(wire.run(11))
    assert 30 < len(of("ticker", frames)) <= 45
    assert len(of("ticker_batch", frames)) == 3
    assert not [key for event in of("ticker_batch", frames) for key in event["tickers"][0] if key.startswith("best")]
    for it in [it for it in frames if it["channel"] == "ticker"]:
        (row,) = it["events"][0]["tickers"]
        sides = true_sides(wire, BTC, rfc3339(it["timestamp"]))
        bid, ask = max(sides["bid"]), min(sides["offer"])
        assert (Decimal(row["best_bid"]), Decimal(row["best_ask"])) == (bid, ask)
        assert Decimal(row["best_bid_quantity"]) == sides["bid"][bid]
        assert Decimal(row["best_ask_quantity"]) == sides["offer"][ask]


def test_status() -> None:
    wire = Wire()
    wire.connect()
    rows = [row for event in of("status", wire.ask("status")) for row in event["products"]]
    assert {row["id"]: row["status"] for row in rows} == {BTC: "online", ETH: "online"}
    assert all(isinstance(it, str) for row in rows for it in row.values())


def test_only_what_is_asked_for_is_built() -> None:
    wire = Wire()
    wire.connect()
    assert not wire.run(4)
    wire.ask("heartbeats")
    assert {it["channel"] for it in texts(wire.run(5))} == {"heartbeats"}


def test_a_skipped_frame_takes_its_number_along() -> None:
    wire = Wire(Fault(kind=FaultKind.SKIP_SEQUENCE, channel="book", at=1.0, lasts=1.0, share=0.5))
    wire.connect()
    numbers = [it["sequence_num"] for it in wire.ask("level2", BTC) + texts(wire.run(3))]
    holes = sum(after - before - 1 for before, after in pairwise(numbers))
    assert 4 < holes < 18


@pytest.mark.parametrize("kind", [FaultKind.SILENT, FaultKind.UNLISTED])
def test_what_stays_away_uses_up_no_numbers(kind: FaultKind) -> None:
    wire = Wire(Fault(kind=kind, symbol=BTC, at=1.0, lasts=2.0), pace=10)
    wire.connect()
    frames = wire.ask("level2", BTC, ETH)
    frames += texts(wire.run(1))
    hushed = texts(wire.run(1.9))
    assert {it["product_id"] for it in of("l2_data", hushed)} == {ETH}
    frames += hushed + texts(wire.run(1))
    assert [it["sequence_num"] for it in frames] == list(range(len(frames)))
    book = Book()
    for it in [it for it in frames if it["channel"] == "l2_data" and it["events"][0]["product_id"] == BTC]:
        book.receive(it["events"][0])
        assert book.sides == true_sides(wire, BTC, rfc3339(it["timestamp"]))


def test_frames_look_like_the_recorded_ones(recordings: Path) -> None:
    real: dict[tuple[str, str], Any] = {}
    with (recordings / "coinbase" / "advtrade_20260809_btcusd_ethusd_first360.jsonl").open() as file:
        for it in map(json.loads, file):
            real.setdefault((it["channel"], it["events"][0].get("type", "")), it)
    wire = Wire()
    wire.connect()
    frames = [it for channel in ("market_trades", "candles", "ticker", "level2") for it in wire.ask(channel, BTC)]
    wire.run(1)
    frames += wire.ask("heartbeats") + texts(wire.run(10))
    ours = {(it["channel"], it["events"][0].get("type", "")): it for it in frames}
    assert ours.keys() == real.keys()
    for key, it in ours.items():
        event, true = it["events"][0], real[key]["events"][0]
        assert shape({**it, "events": []}) == shape({**real[key], "events": []})
        if key[0] == "subscriptions":
            assert list(event) == list(true)
            assert list(event["subscriptions"]) == sorted(event["subscriptions"])
        else:
            assert shape(event) == shape(true)


# --- REST -----------------------------------------------------------------------------------------------------------


def test_products_look_like_the_recorded_ones(recordings: Path) -> None:
    folder = recordings / "coinbase" / "advtrade_20260809_btcusd_ethusd.rest"
    real = json.loads((folder / "00_api_v3_brokerage_market_products.json").read_text())
    ours = Wire().get("/market/products?product_type=SPOT")
    assert ours.keys() == real.keys()
    assert shape(ours["pagination"]) == shape(real["pagination"])
    for mine, true in zip(ours["products"][:2], real["products"][:2], strict=True):
        assert shape(mine) == shape(true)


def test_other_answers_look_like_the_recorded_ones(recordings: Path) -> None:
    folder, wire = recordings / "coinbase" / "samples" / "nautilus", Wire()
    second = START // SECOND
    for name, target in (
        ("http_product_book", f"/market/product_book?product_id={BTC}&limit=5"),
        ("http_ticker", f"/market/products/{BTC}/ticker?limit=3"),
        ("http_candles", f"/market/products/{BTC}/candles?start={second - 300}&end={second}&granularity=ONE_MINUTE"),
    ):
        assert shape(wire.get(target)) == shape(json.loads((folder / f"{name}.json").read_text()))


def test_products() -> None:
    wire = Wire(Fault(kind=FaultKind.UNLISTED, symbol=ETH, at=1.0, lasts=1.0))
    every = [it["product_id"] for it in wire.get("/market/products")["products"]]
    first, second = (wire.get(f"/market/products?limit=3&offset={offset}") for offset in (0, 3))
    assert [it["product_id"] for it in first["products"] + second["products"]] == every
    assert (first["num_products"], first["pagination"]["has_next"]) == (3, True)
    assert (second["num_products"], second["pagination"]["has_next"]) == (1, False)
    assert wire.get("/market/products?product_type=FUTURE")["products"] == []
    wire.run(1.5)
    assert [it["product_id"] for it in wire.get("/market/products")["products"]] == [BTC, "BTC-USDC"]
    assert wire.respond(f"{ROOT}/market/products/{ETH}").status == 404


def test_rest_book() -> None:
    wire = Wire(Fault(kind=FaultKind.STALE_SNAPSHOT, at=4.0, lasts=2.0, seconds=3.0))
    wire.run(2)
    book = wire.get(f"/market/product_book?product_id={BTC}")["pricebook"]
    assert rfc3339(book["time"]) == wire.now
    for name, side in (("bids", "bid"), ("asks", "offer")):
        known = {Decimal(it["price"]): Decimal(it["size"]) for it in book[name]}
        assert known == true_sides(wire, BTC, wire.now)[side]
    assert len(wire.get(f"/market/product_book?product_id={BTC}&limit=7")["pricebook"]["bids"]) == 7
    wide = wire.get(f"/market/product_book?product_id={BTC}&aggregation_price_increment=10")["pricebook"]
    for name in ("bids", "asks"):
        assert all(Decimal(it["price"]) % 10 == 0 for it in wide[name])
        assert sum(Decimal(it["size"]) for it in wide[name]) == sum(Decimal(it["size"]) for it in book[name])
    wire.run(3)
    old = rfc3339(wire.get(f"/market/product_book?product_id={BTC}")["pricebook"]["time"])
    assert 3 * SECOND <= wire.now - old < 4 * SECOND


def test_rest_trades() -> None:
    wire = Wire(pace=20)
    wire.run(10)
    rows = wire.get(f"/market/products/{BTC}/ticker?limit=1000")["trades"]
    ids = [int(it["trade_id"]) for it in rows]
    assert ids == [it.id for it in wire.truths[BTC].last_matches(100)][::-1]
    start, end = START // SECOND + 2, START // SECOND + 3
    window = wire.get(f"/market/products/{BTC}/ticker?limit=5&start={start}&end={end}")["trades"]
    assert len(window) == 5
    assert all(start * SECOND <= rfc3339(it["time"]) <= end * SECOND for it in window)
    assert wire.respond(f"{ROOT}/market/products/{BTC}/ticker?limit=1001").status == 500


def test_rest_candles() -> None:
    wire = Wire()
    wire.run(10)
    end = wire.now // MINUTE * 60
    query = f"/market/products/{BTC}/candles?granularity=ONE_MINUTE&start={end - 180}&end="
    rows = wire.get(f"{query}{end}")["candles"]
    assert [int(it["start"]) for it in rows] == [end, end - 60, end - 120, end - 180]
    assert [int(it["start"]) for it in wire.get(f"{query}{end - 1}")["candles"]] == [end - 60, end - 120, end - 180]
    truth = wire.truths[BTC]
    for row, it in zip(rows[::-1], truth.candles(MINUTE, (end - 180) * SECOND, wire.now + 1), strict=True):
        assert (ticks(row["low"], truth.listing.tick), ticks(row["volume"], truth.listing.lot)) == (it.low, it.volume)
    for many, status in ((350, 200), (351, 400)):
        last = end - 60 * (many - 1)
        target = f"{ROOT}/market/products/{BTC}/candles?granularity=ONE_MINUTE&start={last}&end={end}"
        assert wire.respond(target).status == status
    bad = wire.respond(f"{ROOT}/market/products/{BTC}/candles?granularity=TWO_MINUTE&start=0&end=60")
    assert (bad.status, json.loads(bad.body)["error"]) == (400, "INVALID_ARGUMENT")


def test_rest_budget_and_cache() -> None:
    wire = Wire()
    target = f"{ROOT}/market/product_book?product_id={BTC}"
    first = wire.respond(target)
    assert first.headers["Cache-Control"] == "public, max-age=14400"
    wire.run(0.9)
    assert wire.respond(target) is first
    assert wire.respond(target, cache_control="no-cache").body != first.body
    wire.run(0.2)
    assert wire.respond(target).body != first.body
    answers = [wire.respond(f"{ROOT}/time", client="2.2.2.2") for _ in range(11)]
    assert [it.status for it in answers] == [200] * 10 + [429]
    assert json.loads(answers[-1].body)["errors"][0]["id"] == "rate_limit_exceeded"
    assert "Retry-After" not in answers[-1].headers
    assert wire.respond(f"{ROOT}/time", client="3.3.3.3").status == 200


def test_rest_errors() -> None:
    wire = Wire()
    missing = wire.respond(f"{ROOT}/market/products/XXX-USD")
    assert missing.status == 404
    assert json.loads(missing.body) == {"error": "NOT_FOUND", "message": "Product XXX-USD not supported"}
    closed = wire.respond(f"{ROOT}/accounts")
    assert (closed.status, closed.body) == (401, b"Unauthorized")
    assert wire.respond("/elsewhere").status == 404


@given(st.text(max_size=80))
def test_no_request_raises(target: str) -> None:
    venue = Coinbase({}, Faults(FaultPlan(), START), 1)
    for path in (target, f"{ROOT}/market/{target}", f"{ROOT}/market/products/X/candles?{target}"):
        assert venue.request("GET", path, START, {}, "1").status >= 200


@pytest.mark.parametrize("query", [
    "limit=-1", "limit=1e9", "limit=" + "9" * 99, "start=x", "start=999999999999999999&end=999999999999999999",
    "end=99999999999999&start=0", "granularity=ONE_MINUTE&start=5&end=1", "aggregation_price_increment=nan",
    "aggregation_price_increment=1e-99", "aggregation_price_increment=x", "offset=77", "a=%ff&&==", "limit=\u0663",
])
def test_hostile_queries_are_answered(query: str) -> None:
    wire = Wire()
    for path in ("products", f"product_book?product_id={BTC}", f"products/{BTC}/ticker", f"products/{BTC}/candles"):
        target = f"{ROOT}/market/{path}{'&' if '?' in path else '?'}{query}"
        assert wire.respond(target, client=path).status in (200, 400)


def test_the_table_of_quirks_names_tests() -> None:
    assert all(callable(globals().get(test)) for _, _, test in QUIRKS), [it for it in QUIRKS if it[2] not in globals()]
