"""The simulated Coinbase Exchange against its protocol page, and against what the real one sent."""
import hmac
import json
import re
from base64 import b64decode, b64encode
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import MICROSECOND, MILLISECOND, MINUTE, SECOND, isoformat, rfc3339
from onetape.sim.base import Action, Close, Frame, Rejected, Response, SimVenue
from onetape.sim.credentials import KEY, PASSPHRASE, SECRET_BASE64
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.listings import LISTINGS
from onetape.sim.market import Market
from onetape.sim.venues.coinbase_exchange import CoinbaseExchange

START = 1_790_000_000 * SECOND
BTC, ETH, DOGE = "BTC-USD", "ETH-USD", "DOGE-USD"

QUIRKS = (
    ("1", "level2, level3 and full are refused without a signature", "test_some_channels_want_a_signature"),
    ("1", "level2_50 and ticker_1000 are the old names, and the only ones in acks", "test_acks_know_old_names_alone"),
    ("2", "8 connection attempts a second, 20 at once", "test_attempts_are_counted"),
    ("2", "closed without a subscription within 5 s", "test_a_socket_without_a_subscription_is_closed"),
    ("2", "100 messages a second", "test_messages_are_counted"),
    ("2", "a deploy closes all sockets, announced by nothing", "test_a_deploy"),
    ("2.1", "many channels a message; root products are of those only named", "test_products_of_channels"),
    ("2.1", "the ack lists the complete set", "test_acks_know_old_names_alone"),
    ("2.1", "unsubscribing without products drops the channel", "test_unsubscribing"),
    ("4", "a heartbeat a second of each product, with last_trade_id", "test_heartbeats_tell_the_newest_trade"),
    ("5.1", "last_match, then every match; consecutive ids, the maker's side", "test_matches_are_those_of_the_truth"),
    ("5.1", "sequence rises in jumps", "test_matches_are_those_of_the_truth"),
    ("6.1", "a ticker per order that trades, the taker's side; ticker_batch every 5 s", "test_tickers"),
    ("6.4", "status of everything, again and again", "test_status"),
    ("7.2", "no time at first, then batches with that of the last change", "test_books_are_the_truth_at_their_time"),
    ("7.2", "signed level2 comes unbatched", "test_signed_books_come_at_once"),
    ("8.1", "books of level 1, 2 and 3, counted by sequence", "test_rest_books"),
    ("8.1", "products, delisted ones among them", "test_products"),
    ("8.2", "low before high, numbers, 300 (301) at most, both ends count", "test_rest_candles"),
    ("8.2", "the last minute lags", "test_the_last_minute_lags"),
    ("8.3", "after walks back, before gives the newest; CB-BEFORE and CB-AFTER", "test_trades_are_paged"),
    ("8.4", "10 requests a second, 15 at once", "test_rest_budget"),
    ("8.4", "book 2 s, ticker 1 s, first page of trades 5 s, candles 300 s", "test_answers_are_cached"),
    ("8.5", "errors are a message", "test_rest_errors"),
    ("9", "one bad product fails the whole message", "test_one_bad_product_fails_all"),
    ("10", "the signature of /users/self/verify, no older than 30 s", "test_signatures_are_verified"),
    ("11", "BTC-USDC is delisted here", "test_products"),
)


class Wire:
    """One market, one venue, and a clock that only this test moves."""

    def __init__(self, *faults: Fault, pace: float = 3.0, symbols: tuple[str, ...] = (BTC, ETH)) -> None:
        listings = [it for it in LISTINGS["coinbase"] if it.symbol in symbols]
        self.market = Market(1, listings, START, pace)
        self.truths = {symbol: truth for (_, symbol), truth in self.market.truths.items()}
        self.venue: SimVenue = CoinbaseExchange(self.truths, Faults(FaultPlan(faults=faults), START), 1)
        self.now = START

    def connect(self, number: int = 1) -> None:
        assert self.venue.connect(number, "/", self.now) == []

    def ask(self, *channels: Any, products: tuple[str, ...] = (BTC,), number: int = 1, **more: Any) -> list[Any]:
        request = {"type": "subscribe", "channels": channels, "product_ids": products, **more}
        return texts(self.venue.receive(number, json.dumps(request).encode(), self.now))

    def respond(self, target: str, client: str = "1.1.1.1", method: str = "GET") -> Response:
        return self.venue.request(method, target, self.now, {}, client)

    def get(self, target: str) -> Any:
        response = self.respond(target, client=target)
        assert response.status == 200, response.body
        return json.loads(response.body, parse_float=Decimal)

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


def of(kind: str, frames: list[Any]) -> list[Any]:
    return [it for it in frames if it["type"] == kind]


def refused(reason: str) -> list[Any]:
    return [{"type": "error", "message": "Failed to subscribe", "reason": reason}]


def shape(value: Any) -> Any:
    """Keys and their order, JSON types, and numbers in quotes."""
    match value:
        case dict():
            return [(key, shape(it)) for key, it in value.items()]
        case [first, *_]:
            return [shape(first) if isinstance(first, (dict, list)) else [shape(it) for it in value]]
        case str() if re.fullmatch(r"\d+(\.\d+)?", value):
            return "quoted number"
        case str() if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value):
            return "time"
        case _:
            return type(value).__name__


def ticks(text: str | Decimal | int, unit: Decimal) -> int:
    count = Decimal(text) / unit
    assert count == int(count)
    return int(count)


# --- connections ----------------------------------------------------------------------------------------------------


def test_attempts_are_counted() -> None:
    wire = Wire()
    for number in range(20):
        wire.connect(number)
    with pytest.raises(Rejected) as caught:
        wire.connect(20)
    assert caught.value.status == 429
    wire.run(1)
    for number in range(20, 28):
        wire.connect(number)


def test_a_socket_without_a_subscription_is_closed() -> None:
    wire = Wire()
    wire.connect()
    assert wire.ask("level2")[0]["type"] == "error"
    assert not wire.run(4.9)
    assert wire.run(0.2) == [Close(1, 1006)]
    assert wire.ask("matches") == []


def test_an_idle_socket_stays() -> None:
    wire = Wire()
    wire.connect()
    wire.ask("auctionfeed", "rfq_matches")
    assert not wire.run(300, market=False)


def test_messages_are_counted() -> None:
    wire = Wire()
    wire.connect()
    answers = [wire.ask("heartbeat")[0] for _ in range(102)]
    assert [it.get("message") for it in answers] == [None] * 100 + ["ErrSlowRead"] * 2
    wire.run(1)
    (answer,) = texts(wire.venue.receive(1, b'{"type":"' + b"x" * 100_000 + b'"}', wire.now))
    assert answer["message"] == "Message too big"


def test_a_deploy() -> None:
    wire = Wire(Fault(kind=FaultKind.NOTICE, at=1.0))
    wire.connect()
    wire.ask("heartbeat")
    assert Close(1, 1001) not in wire.run(10.9)
    assert Close(1, 1001) in wire.run(0.2)
    with pytest.raises(Rejected):
        wire.connect(2)
    wire.run(5)
    wire.connect(2)


# --- messages -------------------------------------------------------------------------------------------------------


def test_acks_know_old_names_alone() -> None:
    for name, old in (("level2_batch", "level2_50"), ("level2_50", "level2_50"), ("ticker_batch", "ticker_1000")):
        wire = Wire()
        wire.connect()
        ack, *data = wire.ask("heartbeat", name, products=(BTC, ETH))
        assert [(it["name"], sorted(it["product_ids"])) for it in ack["channels"]] == [
            ("heartbeat", [BTC, ETH]), (old, [BTC, ETH]),
        ]
        assert {it["account_ids"] for it in ack["channels"]} == {None}
        assert len(data) == 2
        (ack, *_) = wire.ask("matches", products=(ETH,))
        assert len(ack["channels"]) == 3


def test_products_of_channels() -> None:
    wire = Wire()
    wire.connect()
    ack, *_ = wire.ask("matches", {"name": "heartbeat", "product_ids": [ETH]}, "status")
    assert {it["name"]: it["product_ids"] for it in ack["channels"]} == {
        "matches": [BTC], "heartbeat": [ETH], "status": [],
    }
    missing = "You need to specify at least one product ID for channel heartbeat"
    assert wire.ask("heartbeat", products=()) == wire.ask({"name": "heartbeat"}) == refused(missing)


def test_unsubscribing() -> None:
    wire = Wire()
    wire.connect()
    wire.ask("level2_batch", "heartbeat", products=(BTC, ETH))
    assert len(wire.ask("level2_batch")) == 1  # it goes on: no second snapshot
    ack, *_ = wire.ask("level2_batch", type="unsubscribe")
    assert ack["channels"][0] == {"name": "level2_50", "product_ids": [ETH], "account_ids": None}
    assert {it["product_id"] for it in of("l2update", texts(wire.run(1)))} == {ETH}
    assert wire.ask("level2_batch")[1]["type"] == "snapshot"
    ack, *_ = wire.ask("level2_50", products=(), type="unsubscribe")
    assert [it["name"] for it in ack["channels"]] == ["heartbeat"]


def test_one_bad_product_fails_all() -> None:
    wire = Wire(Fault(kind=FaultKind.UNLISTED, symbol=ETH, lasts=3.0))
    wire.connect()
    wire.ask("heartbeat")
    for bad in ("XXX-USD", "btc-usd", "BTC-USDC", ETH, ""):
        assert wire.ask("matches", products=(BTC, bad)) == refused(f"{bad} is not a valid product")
    assert wire.ask("nothing") == refused("nothing is not a valid channel")
    assert not of("match", texts(wire.run(3)))
    assert len(wire.ask("matches", products=(BTC, ETH))) == 3


def test_some_channels_want_a_signature() -> None:
    wire = Wire()
    wire.connect()
    for channel in ("level2", "level3", "full"):
        (error,) = wire.ask(channel)
        assert error["message"] == "Failed to subscribe"
        assert error["reason"].startswith("level2, level3, and full channels now require authentication. https://")
    assert wire.ask("user")[0]["type"] == "error"


def signature(timestamp: str) -> dict[str, Any]:
    """Section 10, literally."""
    text = f"{timestamp}GET/users/self/verify".encode()
    signed = b64encode(hmac.new(b64decode(SECRET_BASE64), text, "sha256").digest()).decode()
    return {"signature": signed, "key": KEY, "passphrase": PASSPHRASE, "timestamp": timestamp}


SECONDS = START // SECOND


@pytest.mark.parametrize(("fields", "good"), [
    (signature(str(SECONDS)), True),
    (signature(f"{SECONDS + 29}.5"), True),
    (signature(str(SECONDS - 31)), False),
    (signature(str(SECONDS)) | {"timestamp": str(SECONDS + 1)}, False),
    (signature(str(SECONDS)) | {"key": "other"}, False),
    (signature(str(SECONDS)) | {"passphrase": "other"}, False),
    (signature(str(SECONDS)) | {"signature": "\u00e9"}, False),
    ({"key": KEY}, False), (signature("x"), False), (signature(""), False),
])
def test_signatures_are_verified(fields: dict[str, Any], good: bool) -> None:
    wire = Wire()
    wire.connect()
    answer = wire.ask("level2", **fields)[0]
    if good:
        assert answer["type"] == "subscriptions"
    else:
        assert answer == {"type": "error", "message": "Authentication Failed", "reason": "invalid signature"}


@pytest.mark.parametrize("frame", [
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", b"[" * 60_000, b'{"type":7}', b'{"type":"subscribe"}',
    b'{"type":"x"}',
    b'{"type":"subscribe","channels":"matches"}', b'{"type":"subscribe","channels":[7]}',
    b'{"type":"subscribe","channels":[null]}', b'{"type":"subscribe","channels":[{}]}',
    b'{"type":"subscribe","channels":["matches"]}', b'{"type":"subscribe","channels":["matches"],"product_ids":7}',
    b'{"type":"subscribe","channels":[{"name":"matches","product_ids":[1e400]}]}',
    b'{"type":"subscribe","channels":["matches"],"product_ids":["\\ud800"]}',
    b'{"type":"subscribe","channels":["matches"],"product_ids":["BTC-USD"],"timestamp":1e400}',
    b'{"type":"subscribe","channels":["matches"],"product_ids":["BTC-USD"],"timestamp":-1}',
])
def test_hostile_messages_get_an_error(frame: bytes) -> None:
    wire = Wire()
    wire.connect()
    (answer,) = texts(wire.venue.receive(1, frame, wire.now))
    assert answer.keys() == {"type", "message", "reason"}
    assert wire.ask("heartbeat")[0]["type"] == "subscriptions"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_nothing_that_a_client_sends_raises(frame: bytes) -> None:
    venue = CoinbaseExchange({}, Faults(FaultPlan(), START), 1)
    venue.connect(1, "/", START)
    assert texts(venue.receive(1, frame, START))


# --- what is said ---------------------------------------------------------------------------------------------------


class Book:
    """Section 7.2, literally: what a client makes of the frames."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {}

    def receive(self, frame: Any) -> None:
        if frame["type"] == "snapshot":
            self.sides = {
                side: {Decimal(price): Decimal(size) for price, size in frame[name]}
                for side, name in (("buy", "bids"), ("sell", "asks"))
            }
            return
        for side, price, size in frame["changes"]:
            self.sides[side][Decimal(price)] = Decimal(size)
            if not Decimal(size):
                del self.sides[side][Decimal(price)]


def true_sides(wire: Wire, symbol: str, time: int) -> dict[str, dict[Decimal, Decimal]]:
    truth = wire.truths[symbol]
    book = truth.book_at_time(time)
    assert book is not None
    tick, lot = truth.listing.tick, truth.listing.lot
    sides = {"buy": book.bids, "sell": book.asks}
    return {name: {price * tick: size * lot for price, size in levels} for name, levels in sides.items()}


@settings(max_examples=5, deadline=None)
@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_books_are_the_truth_at_their_time(before: float, between: float) -> None:
    """Whenever somebody comes, and whoever listens already."""
    wire = Wire(pace=20, symbols=(DOGE,))
    for number, wait in ((1, before), (2, between)):
        wire.run(wait)
        wire.connect(number)
        book = Book()
        _, snapshot = wire.ask("level2_batch", products=(DOGE,), number=number)
        assert snapshot.keys() == {"type", "product_id", "asks", "bids"}
        book.receive(snapshot)
        assert book.sides == true_sides(wire, DOGE, wire.now)
        updates = texts([it for it in wire.run(1) if isinstance(it, Frame) and it.connection == number])
        for it in updates:
            book.receive(it)
            assert book.sides == true_sides(wire, DOGE, rfc3339(it["time"]) + MICROSECOND - 1)
        assert 10 <= len(updates) <= 21


def test_signed_books_come_at_once() -> None:
    wire = Wire(pace=20)
    wire.connect()
    wire.ask("level2", **signature(str(SECONDS)))
    updates = of("l2update", texts(wire.run(2)))
    truth = wire.truths[BTC]
    times = {it.time // MICROSECOND for it in truth.changes_since(0) if it.time > START}
    assert [rfc3339(it["time"]) // MICROSECOND for it in updates] == sorted(times)


def test_matches_are_those_of_the_truth() -> None:
    wire = Wire(pace=10)
    wire.connect()
    last = wire.truths[BTC].last_matches(1)[0].id
    (_, first) = wire.ask("matches")
    assert (first["type"], first["trade_id"]) == ("last_match", last)
    rows = [first, *of("match", texts(wire.run(10)))]
    assert [it["trade_id"] for it in rows] == list(range(last, last + len(rows)))
    assert len(rows) > 100
    truth = wire.truths[BTC]
    tick, lot = truth.listing.tick, truth.listing.lot
    for it in rows:
        match = wire.venue.match(BTC, wire.venue.number(str(it["trade_id"])))
        assert match is not None
        assert (ticks(it["price"], tick), ticks(it["size"], lot)) == (match.price, match.size)
        assert it["side"] == ("sell" if match.buy else "buy")
        assert rfc3339(it["time"]) == match.time // 1_000 * 1_000
        assert len({UUID(it["maker_order_id"]), UUID(it["taker_order_id"])}) == 2
    steps = {after["sequence"] - it["sequence"] for it, after in pairwise(rows)}
    assert min(steps) > 1
    assert len(steps) > 20
    by_time: dict[str, set[str]] = {}
    for it in rows:
        by_time.setdefault(it["time"], set()).add(it["taker_order_id"])
    assert all(len(takers) == 1 for takers in by_time.values())


def test_heartbeats_tell_the_newest_trade() -> None:
    wire = Wire(pace=10)
    wire.connect()
    frames = texts(wire.venue.receive(1, json.dumps(
        {"type": "subscribe", "channels": ["heartbeat", "matches"], "product_ids": [BTC]}).encode(), wire.now))
    newest = frames[-1]
    beats = 0
    for it in texts(wire.run(10)):
        if it["type"] == "match":
            newest = it
            continue
        beats += 1
        assert it["last_trade_id"] == newest["trade_id"]
        assert it["sequence"] >= newest["sequence"]
    assert beats == 10


def test_tickers() -> None:
    wire = Wire(pace=10)
    wire.connect()
    first = wire.ask("ticker", "ticker_batch", "matches")[1:]
    assert [it["type"] for it in first] == ["ticker", "ticker", "last_match"]
    frames = texts(wire.run(11))
    matches = {it["trade_id"]: it for it in of("match", frames)}
    tickers = of("ticker", frames)
    assert len({it["time"] for it in matches.values()}) == len({it["trade_id"] for it in tickers})
    assert len(tickers) - len({it["trade_id"] for it in tickers}) == 2  # of the batch
    for it in tickers:
        match = matches[it["trade_id"]]
        assert (it["price"], it["last_size"], it["sequence"]) == (match["price"], match["size"], match["sequence"])
        assert it["side"] != match["side"]
    last = tickers[-1]
    sides = true_sides(wire, BTC, rfc3339(last["time"]) + MICROSECOND - 1)
    bid, ask = max(sides["buy"]), min(sides["sell"])
    assert (Decimal(last["best_bid"]), Decimal(last["best_ask"])) == (bid, ask)
    assert (Decimal(last["best_bid_size"]), Decimal(last["best_ask_size"])) == (sides["buy"][bid], sides["sell"][ask])


def test_status() -> None:
    wire = Wire(Fault(kind=FaultKind.UNLISTED, symbol=ETH, at=1.0, lasts=60.0))
    wire.connect()
    _, status = wire.ask("status", products=())
    assert [it["id"] for it in status["products"]] == [BTC, ETH]
    assert {it["id"] for it in status["currencies"]} == {"BTC", "ETH", "USD"}
    later = texts(wire.run(11))
    assert len(later) == 2
    assert [it["id"] for it in later[-1]["products"]] == [BTC]


def test_a_skipped_match_takes_its_number_along() -> None:
    wire = Wire(Fault(kind=FaultKind.SKIP_SEQUENCE, at=1.0, lasts=3.0, share=0.5), pace=20)
    wire.connect()
    frames = wire.ask("matches", "level2_batch") + texts(wire.run(5))
    ids = [it["trade_id"] for it in frames if it["type"] in ("match", "last_match")]
    assert any(after - before > 1 for before, after in pairwise(ids))
    book = Book()
    for it in [*of("snapshot", frames), *of("l2update", frames)]:
        book.receive(it)
    assert book.sides == true_sides(wire, BTC, rfc3339(of("l2update", frames)[-1]["time"]) + MICROSECOND - 1)


def test_frames_look_like_the_recorded_ones(recordings: Path) -> None:
    real: dict[str, Any] = {}
    with (recordings / "coinbase" / "exchange_20210417_A5prod.jsonl").open() as file:
        for it in map(json.loads, file):
            real.setdefault(it["type"], it)
    wire = Wire(pace=10)
    wire.connect()
    ours: dict[str, Any] = {}
    for it in wire.ask("level2_batch", "matches", "ticker") + texts(wire.run(3)):
        ours.setdefault(it["type"], it)
    assert ours.keys() == real.keys()
    for row in ours["subscriptions"]["channels"] + real["subscriptions"]["channels"]:
        row.pop("account_ids", None)  # of today (section 2.1)
        del row["product_ids"][1:]
    for name in ("best_bid_size", "best_ask_size"):
        del ours["ticker"][name]  # since 2022 (samples)
    for kind, it in ours.items():
        assert shape(it) == shape(real[kind])


def test_todays_samples_have_the_same_shape(recordings: Path) -> None:
    samples = recordings / "coinbase" / "samples"
    lines = [json.loads(it) for it in (samples / "exchange_live_2026_isolated.jsonl").read_text().splitlines()]
    lines.append(json.loads((samples / "tardis_node_mapper_messages.jsonl").read_text().splitlines()[-1])["msg"])
    wire = Wire(pace=10)
    wire.connect()
    frames = wire.ask("level2_batch", "matches", "ticker") + texts(wire.run(3))
    assert {it["type"] for it in lines} == {"last_match", "l2update", "ticker"}
    for it in lines:
        assert shape(of(it["type"], frames)[0]) == shape(it)


# --- REST -----------------------------------------------------------------------------------------------------------


def test_time() -> None:
    wire = Wire()
    wire.run(0.123)
    assert wire.get("/time") == {"iso": "2026-09-21T14:13:20.123Z", "epoch": Decimal("1790000000.123")}


def test_products() -> None:
    wire = Wire(Fault(kind=FaultKind.UNLISTED, symbol=ETH, at=1.0, lasts=1.0))
    rows = {it["id"]: it for it in wire.get("/products")}
    assert {it: row["status"] for it, row in rows.items()} == {
        BTC: "online", ETH: "online", "BTC-USDC": "delisted", "ETH-USDC": "delisted",
    }
    assert rows[BTC].keys() == rows["BTC-USDC"].keys() == {
        "id", "base_currency", "quote_currency", "base_increment", "quote_increment", "display_name",
        "min_market_funds", "status", "status_message", "trading_disabled", "post_only", "limit_only", "cancel_only",
        "auction_mode", "margin_enabled", "fx_stablecoin", "max_slippage_percentage", "high_bid_limit_percentage",
    }
    assert (rows[BTC]["base_increment"], rows[BTC]["quote_increment"]) == ("0.00000001", "0.01")
    assert wire.get(f"/products/{BTC}") == rows[BTC]
    wire.run(1.5)
    assert ETH not in {it["id"] for it in wire.get("/products")}
    assert wire.respond(f"/products/{ETH}/book").status == 404


def test_rest_books(recordings: Path) -> None:
    wire = Wire(Fault(kind=FaultKind.STALE_SNAPSHOT, at=4.0, lasts=2.0, seconds=3.0))
    wire.run(2)
    book = wire.get(f"/products/{BTC}/book?level=2")
    assert (rfc3339(book["time"]), book["auction_mode"], book["auction"]) == (wire.now, False, None)
    for name, side in (("bids", "buy"), ("asks", "sell")):
        assert {Decimal(it[0]): Decimal(it[1]) for it in book[name]} == true_sides(wire, BTC, wire.now)[side]
    best = wire.get(f"/products/{BTC}/book")
    assert (best["bids"], best["asks"]) == (book["bids"][:1], book["asks"][:1])
    assert all(UUID(it[2]) for it in wire.get(f"/products/{BTC}/book?level=3")["bids"])
    assert wire.respond(f"/products/{BTC}/book?level=4").status == 400
    real = json.loads((recordings / "coinbase" / "rest_20260807_btcusd_book_level2.json").read_text())
    assert shape(book["bids"]) == shape(real["bids"])
    wire.run(3)
    old = wire.get(f"/products/{BTC}/book?level=1")
    assert 3 * SECOND <= wire.now - rfc3339(old["time"]) < 4 * SECOND
    assert old["sequence"] - book["sequence"] < 3_000 < wire.get(f"/products/{ETH}/book")["sequence"]


def test_rest_ticker_and_stats() -> None:
    wire = Wire()
    ticker, stats = wire.get(f"/products/{BTC}/ticker"), wire.get(f"/products/{BTC}/stats")
    assert ticker.keys() == {"trade_id", "price", "size", "bid", "ask", "volume", "time", "rfq_volume"}
    assert stats.keys() == {"open", "high", "low", "last", "volume", "volume_30day"}
    assert wire.get("/products/stats")[BTC] == stats
    assert (ticker["trade_id"], ticker["price"]) == (wire.truths[BTC].last_matches(1)[0].id, stats["last"])


def test_trades_are_paged() -> None:
    wire = Wire(pace=20)
    wire.run(20)
    truth = wire.truths[BTC]
    tick, lot = truth.listing.tick, truth.listing.lot
    newest = truth.last_matches(1)[0].id
    first = wire.respond(f"/products/{BTC}/trades")
    rows = json.loads(first.body)
    assert [it["trade_id"] for it in rows] == list(range(newest, newest - 1_000, -1))
    assert (first.headers["CB-BEFORE"], first.headers["CB-AFTER"]) == (str(newest), str(newest - 999))
    page = wire.get(f"/products/{BTC}/trades?limit=10&after={newest - 999}")
    assert [it["trade_id"] for it in page] == list(range(newest - 1_000, newest - 1_010, -1))
    for row in page:
        match = truth.match(row["trade_id"])
        assert match is not None
        assert (ticks(row["price"], tick), ticks(row["size"], lot)) == (match.price, match.size)
        assert row["side"] == ("sell" if match.buy else "buy")
    page = wire.get(f"/products/{BTC}/trades?limit=10&before={newest - 500}")
    assert [it["trade_id"] for it in page] == list(range(newest, newest - 10, -1))  # not those above it
    assert len(wire.get(f"/products/{BTC}/trades?before={newest - 3}")) == 3
    oldest = truth.matches[0].id
    assert [it["trade_id"] for it in wire.get(f"/products/{BTC}/trades?after={oldest + 1}")] == [oldest]
    last = wire.respond(f"/products/{BTC}/trades?after={oldest}")
    assert (json.loads(last.body), "CB-AFTER" in last.headers) == ([], False)
    assert wire.respond(f"/products/{BTC}/trades?limit=1001").status == 400


def query(granularity: int, start: int, end: int) -> str:
    return f"/products/{BTC}/candles?granularity={granularity}&start={isoformat(start)[:19]}Z&end={isoformat(end)}"


def test_rest_candles() -> None:
    wire = Wire()
    wire.run(20)  # in the second half of a minute
    minute = wire.now // MINUTE * MINUTE
    rows = wire.get(query(60, minute - 3 * MINUTE, minute))
    assert [it[0] * SECOND for it in rows] == [minute - n * MINUTE for n in range(4)]
    truth = wire.truths[BTC]
    tick, lot = truth.listing.tick, truth.listing.lot
    for row, it in zip(rows[::-1], truth.candles(MINUTE, minute - 3 * MINUTE, wire.now + 1), strict=True):
        assert [ticks(value, tick) for value in row[1:5]] == [it.low, it.high, it.open, it.close]
        assert ticks(row[5], lot) == it.volume
    assert [it[0] * SECOND for it in wire.get(query(60, minute - 3 * MINUTE, minute - SECOND))] == [
        minute - n * MINUTE for n in (1, 2, 3)
    ]
    for minutes, status in ((300, 200), (301, 400)):
        assert wire.respond(query(60, minute - minutes * MINUTE, minute)).status == status
    assert "exceeds 300" in json.loads(wire.respond(query(60, minute - 301 * MINUTE, minute)).body)["message"]
    (five,) = wire.get(query(300, minute - 300 * SECOND, minute))[:1]
    (true,) = truth.candles(5 * MINUTE, five[0] * SECOND, five[0] * SECOND + 1)
    assert ticks(five[5], lot) == true.volume
    assert wire.respond(f"/products/{BTC}/candles?granularity=120").body == b'{"message":"Unsupported granularity"}'


def test_the_last_minute_lags() -> None:
    wire = Wire()
    truth, minute = wire.truths[BTC], START // MINUTE * MINUTE + MINUTE
    wire.run((minute - START) / SECOND + 10)
    assert [it[0] * SECOND for it in wire.get(query(60, minute - 3 * MINUTE, minute))] == [
        minute - n * MINUTE for n in (2, 3)
    ]
    partial = wire.get(query(3_600, minute - 60 * MINUTE, minute))[0]
    begun = partial[0] * SECOND
    volumes = [it.volume for it in truth.candles(MINUTE, begun, minute - MINUTE)]
    assert ticks(partial[5], truth.listing.lot) == sum(volumes)
    wire.run(30)
    assert wire.get(query(60, minute - 3 * MINUTE, minute + 1))[0][0] * SECOND == minute


def test_answers_are_cached() -> None:
    wire = Wire()
    targets = {
        f"/products/{BTC}/book": 2, f"/products/{BTC}/ticker": 1, f"/products/{BTC}/trades": 5,
        f"/products/{BTC}/candles?granularity=60": 300, f"/products/{BTC}/trades?after=1": 0,
        query(60, START - MINUTE, START): 0, "/time": 0,
    }
    for target, seconds in targets.items():
        wire.run(1)
        first = wire.respond(target, client=target)
        wire.run(max(seconds - 0.1, 0), market=False)
        assert (wire.respond(target, client=target) is first) == bool(seconds)
        wire.run(0.2, market=False)
        assert wire.respond(target, client=target) is not first


def test_rest_budget() -> None:
    wire = Wire()
    answers = [wire.respond("/time") for _ in range(16)]
    assert [it.status for it in answers] == [200] * 15 + [429]
    assert json.loads(answers[-1].body).keys() == {"message"}
    assert "Retry-After" not in answers[-1].headers
    wire.run(1)
    assert [wire.respond("/time").status for _ in range(11)] == [200] * 10 + [429]
    assert wire.respond("/time", client="2.2.2.2").status == 200


def test_rest_errors() -> None:
    wire = Wire()
    for target in ("/products/XXX-USD", f"/products/{BTC}/nothing", "/nothing", "/products/BTC-USDC/book"):
        answer = wire.respond(target, client=target)
        assert (answer.status, json.loads(answer.body)) == (404, {"message": "NotFound"})
    assert wire.respond("/orders", method="POST").status == 401


@given(st.text(max_size=80))
def test_no_request_raises(target: str) -> None:
    venue = CoinbaseExchange({}, Faults(FaultPlan(), START), 1)
    for path in (target, f"/{target}", f"/products/{target}", f"/products/X/candles?{target}"):
        assert venue.request("GET", path, START, {}, "1").status >= 200


@pytest.mark.parametrize("text", [
    "limit=-1", "limit=1e9", "limit=" + "9" * 99, "after=x", "after=0", "before=999999999999999999", "level=0",
    "before=5&after=3", "start=x", "start=9999-99-99&end=1", "start=0001-01-01T00:00:00&end=9999-12-31T23:59:59Z",
    "start=2026-09-21T14:00:00-24:00&end=2026-09-21T14:00:00Z", "start=2026-09-21&end=2026-09-20", "granularity=60.0",
    "start=2026-09-21T14:00:00.000000001Z&end=2026-09-21T14:00:01+02:00", "a=%ff&&==", "limit=\u0663",
])
def test_hostile_queries_are_answered(text: str) -> None:
    wire = Wire()
    for leaf in ("book", "ticker", "trades", "candles", "stats"):
        assert wire.respond(f"/products/{BTC}/{leaf}?{text}", client=leaf).status in (200, 400)


def test_the_table_of_quirks_names_tests() -> None:
    assert all(callable(globals().get(test)) for _, _, test in QUIRKS), [it for it in QUIRKS if it[2] not in globals()]


def test_a_wrong_clock_is_shown_everywhere() -> None:
    wire = Wire(Fault(kind=FaultKind.CLOCK_SKEW, lasts=9.0, seconds=-3.0), pace=10)
    wire.connect()
    frames = wire.ask("matches", "heartbeat", "level2_batch") + texts(wire.run(2))
    for it in [it for it in frames if it["type"] in ("match", "heartbeat", "l2update")]:
        assert -3 * SECOND - 60 * MILLISECOND <= rfc3339(it["time"]) - START <= -SECOND
    assert rfc3339(wire.get("/time")["iso"]) == wire.now - 3 * SECOND
