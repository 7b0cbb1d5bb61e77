"""The simulated Bybit against its protocol page, section by section, and against what the real one sent."""
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Action, Close, Frame, Listing, Rejected, Response, SimVenue
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.market import Market
from onetape.sim.truth import Truth
from onetape.sim.venues.bybit import QUIRKS, Bybit
from onetape.sim.venues.bybit_books import PERIODS
from onetape.sim.venues.bybit_feeds import BARS
from onetape.sim.venues.bybit_ids import match_id, trade_id

START = 1_790_000_040 * SECOND  # a round minute
SPOT, LINEAR, STATUS = "/v5/public/spot", "/v5/public/linear", "/v5/public/misc/status"
PERP = "linear:BTCUSDT"
DEPTHS = (50, 200, 1_000)


def _listing(symbol: str, base: str, quote: str, tick: str, lot: str, rate: float = 1.0) -> Listing:
    return Listing(
        venue="bybit", symbol=symbol, base=base, quote=quote, tick=Decimal(tick), lot=Decimal(lot), rate=rate,
    )


LISTINGS = (
    _listing("BTCUSDT", "BTC", "USDT", "0.1", "0.000001", 2.0),
    _listing("ETHUSDT", "ETH", "USDT", "0.01", "0.00001"),
    _listing(PERP, "BTC", "USDT", "0.10", "0.001", 3.0),
    _listing("linear:ETHUSDT", "ETH", "USDT", "0.01", "0.01"),
    _listing("linear:BTCPERP", "BTC", "USDC", "0.10", "0.001"),
    _listing("linear:DOGEUSDT", "DOGE", "USDT", "0.00001", "1"),
)
BID, ASK = (True, 600_000, 50_000), (False, 600_001, 70_000)


class Bench:
    """A venue on a virtual clock, with what every connection has heard; over a market, or over what a test lets be."""

    def __init__(self, *faults: Fault, market: bool = False, pace: float = 1.0, seed: int = 1) -> None:
        self.now = START
        self.market = Market(seed, LISTINGS, START, pace) if market else None
        self.truths = (
            {symbol: it for (_, symbol), it in self.market.truths.items()} if self.market else
            {it.symbol: Truth(it, START - HOUR, 70_000_000_000, 5_000_000_000) for it in LISTINGS}
        )
        self.venue = Bybit(self.truths, Faults(FaultPlan(faults=faults), START), seed)
        self.actions: list[Action] = []
        for number, target in enumerate((SPOT, LINEAR), 1):
            self.connect(number, target)

    def connect(self, connection: int = 1, target: str = SPOT) -> None:
        assert self.venue.connect(connection, target, self.now) == []

    def say(self, said: object, connection: int = 1) -> Any:
        """The answer, or None."""
        frame = said if isinstance(said, bytes) else json.dumps(said).encode()
        actions = self.venue.receive(connection, frame, self.now)
        self.actions += actions
        found = [json.loads(it.data) for it in actions if isinstance(it, Frame)]
        return next((it for it in found if "op" in it), None)

    def ask(self, *topics: str, connection: int = 1, op: str = "subscribe") -> Any:
        return self.say({"op": op, "args": topics}, connection)

    def happen(
        self, *levels: tuple[bool, int, int], trades: Sequence[tuple[int, int, bool]] = (), symbol: str = "BTCUSDT",
    ) -> list[Action]:
        self.run(1)
        actions = self.venue.happen(self.truths[symbol].happen(self.now, levels, trades), self.now)
        self.actions += actions
        return actions

    def run(self, ns: int) -> list[Action]:
        """Lets time pass, and the market live if there is one."""
        end, out = self.now + ns, []
        while (wake := self._next()) is not None and wake <= end:
            self.now = max(self.now, wake)
            for it in self.market.wake(self.now) if self.market else ():
                out += self.venue.happen(it, self.now)
            out += self.venue.wake(self.now)
        self.now = end
        self.actions += out
        return out

    def keep(self, ns: int) -> None:
        """The same, with pings."""
        end = self.now + ns
        while self.now < end:
            self.run(min(20 * SECOND, end - self.now))
            for connection in (1, 2):
                self.say({"op": "ping"}, connection)

    def _next(self) -> int | None:
        times = [self.venue.next_wake(), self.market.next_wake() if self.market else None]
        return min((it for it in times if it is not None), default=None)

    def heard(self, topic: str = "", connection: int = 1) -> list[Any]:
        """Data frames, or all."""
        frames = [json.loads(it.data) for it in self.actions if isinstance(it, Frame) and it.connection == connection]
        return [it for it in frames if it.get("topic") == topic] if topic else frames

    def closes(self) -> list[Close]:
        return [it for it in self.actions if isinstance(it, Close)]

    def get(self, target: str, client: str = "1.2.3.4") -> Response:
        return self.venue.request("GET", f"/v5/market/{target}", self.now, {}, client)

    def body(self, target: str) -> Any:
        answer = self.get(target)
        assert answer.status == 200
        said = json.loads(answer.body)
        assert (said["retCode"], said["retMsg"], said["retExtInfo"]) == (0, "OK", {})
        return said["result"]


class Book:
    """Section 5.5, literally: what a client makes of the frames of one topic."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {}
        self.u = self.sequence = self.cts = self.gaps = 0

    def receive(self, frame: Any) -> None:
        data = frame["data"]
        if frame["type"] == "snapshot":
            self.sides = {"b": {}, "a": {}}
        elif data["u"] <= self.u:
            return
        elif data["u"] != self.u + 1 or not self.sides:
            self.sides = {}
            self.gaps += 1
            return
        assert data["seq"] > self.sequence or frame["type"] == "snapshot"
        assert frame["cts"] <= frame["ts"]
        self.u, self.sequence, self.cts = data["u"], data["seq"], frame["cts"]
        for name, side in self.sides.items():
            prices = [Decimal(price) for price, _ in data[name]]
            assert prices == sorted(prices, reverse=name == "b")
            for price, size in data[name]:
                side[Decimal(price)] = Decimal(size)
                if not Decimal(size):
                    del side[Decimal(price)]

    def is_the_truth(self, truth: Truth, depth: int) -> None:
        """By the number, and by the time."""
        by_number, by_time = truth.book_at(self.sequence), truth.book_at_time((self.cts + 1) * MILLISECOND - 1)
        assert by_number is not None
        assert by_number == by_time
        tick, lot = truth.listing.tick, truth.listing.lot
        for name, levels in (("b", by_number.bids), ("a", by_number.asks)):
            assert {price * tick: size * lot for price, size in levels[:depth]} == self.sides[name]


@pytest.fixture
def bench() -> Bench:
    it = Bench()
    for symbol in it.truths:
        it.happen(BID, ASK, symbol=symbol)
    it.run(10 * SECOND)
    return it


@pytest.fixture(scope="module")
def lively() -> Bench:
    it = Bench(market=True)
    for connection in (1, 2):
        it.ask("publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "tickers.BTCUSDT", connection=connection)
        it.ask("kline.1.BTCUSDT", *(f"orderbook.{depth}.BTCUSDT" for depth in DEPTHS), connection=connection)
    it.keep(70 * SECOND)
    return it


def fault(kind: FaultKind, **options: Any) -> Fault:
    return Fault(kind=kind, **({"lasts": 1e6} | options))


def shape(value: Any) -> Any:
    """Keys in their order, JSON types, and whether text is a number."""
    match value:
        case dict():
            return [(key, shape(it)) for key, it in value.items()]
        case [first, *_]:
            return [shape(first)]
        case str() if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return "quoted number"
        case str() if re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", value):
            return "UUID"
        case _:
            return type(value).__name__


def lines(path: Path) -> list[Any]:
    return [json.loads(it) for it in path.read_text().splitlines()]


def test_is_a_venue() -> None:
    venue: SimVenue = Bench().venue
    assert venue.name == "bybit"


def test_every_quirk_has_its_test() -> None:
    assert all(callable(globals().get(test)) for _, _, test in QUIRKS), [it for it in QUIRKS if it[2] not in globals()]


def test_the_same_seed_says_the_same() -> None:
    runs = []
    for _ in range(2):
        it = Bench(market=True)
        it.ask("orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT", "kline.1.BTCUSDT")
        it.run(3 * SECOND)
        runs.append(it.actions)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 50


# --- 1 and 2: connections ---------------------------------------------------------------------------------------------


def test_one_name_is_two_instruments(bench: Bench) -> None:
    for connection in (1, 2):
        assert bench.ask("publicTrade.BTCUSDT", "tickers.BTCUSDT", connection=connection)["success"]
    bench.happen(trades=[(600_001, 7, True)])
    bench.happen(trades=[(600_000, 7, True)], symbol=PERP)
    assert [it["data"][0]["p"] for it in bench.heard("publicTrade.BTCUSDT")] == ["60000.1"]
    assert [it["data"][0]["p"] for it in bench.heard("publicTrade.BTCUSDT", 2)] == ["60000.00"]
    assert {it.symbol for it in bench.actions if isinstance(it, Frame) and it.connection == 2} == {"", PERP}
    assert not bench.ask("publicTrade.BTCPERP")["success"]


@pytest.mark.parametrize("target", ["/", "", "/v5/public", "/v5/public/inverse", "/v5/private", "/v5/public/spot/"])
def test_other_paths_are_refused(target: str) -> None:
    with pytest.raises(Rejected) as caught:
        Bench().connect(7, target)
    assert caught.value.status == 404


def test_connections_are_counted() -> None:
    bench = Bench()
    for number in range(3, 501):
        bench.connect(number)
    with pytest.raises(Rejected) as caught:
        bench.connect(501)
    assert caught.value.status == 403
    for round_ in range(1, 3):
        bench.now += 5 * MINUTE
        for number in range(500 * round_ + 1, 500 * round_ + 500):
            if len([it for it in bench.venue._connections.values() if it.category == "spot"]) == 1_000:
                break
            bench.connect(number)
    with pytest.raises(Rejected) as caught:
        bench.connect(9_000)
    assert caught.value.status == 403
    bench.connect(9_001, LINEAR)


def test_spot_takes_ten_args(bench: Bench) -> None:
    topics = [f"kline.{it}.BTCUSDT" for it in BARS][:11]
    answer = bench.ask(*topics)
    assert (answer["success"], answer["ret_msg"]) == (False, "args size >10")
    assert bench.ask(*topics[1:])["success"]
    assert bench.ask(*topics[:1])["success"]
    assert bench.ask(*topics, op="unsubscribe")["success"]
    assert bench.ask(*topics, connection=2)["success"]


def test_linear_drops_who_asks_for_too_much(bench: Bench) -> None:
    bench.ask(*(f"publicTrade.X{it}" for it in range(500)), connection=2)
    assert not bench.closes()
    bench.ask(*(f"publicTrade.X{it}" for it in range(501)), connection=2)
    assert bench.closes() == [Close(2, 1006)]
    assert bench.say({"op": "ping"}, 2) is None


def test_args_are_limited_in_length(bench: Bench) -> None:
    bench.ask("publicTrade.BTCUSDT", connection=2)
    answer = bench.ask("tickers.BTCUSDT", "tickers." + "X" * 20_960, connection=2)
    assert answer["ret_msg"] == "args length >21000"
    answer = bench.ask("tickers." + "X" * 20_900, connection=2)
    assert answer["ret_msg"].startswith("error:handler not found")


def test_an_idle_socket_is_cut(bench: Bench) -> None:
    """Data or pings keep it open; a status socket has no data of its own."""
    bench.connect(3, STATUS)
    bench.ask("system.status", connection=3)
    bench.ask("orderbook.1.BTCUSDT")
    bench.ask("publicTrade.BTCUSDT", connection=2)
    bench.run(9 * MINUTE)
    bench.say({"op": "ping"}, 2)
    bench.run(119 * SECOND)
    assert bench.closes() == [Close(3, 1006)]
    bench.run(8 * MINUTE + 31 * SECOND)
    assert bench.closes() == [Close(3, 1006), Close(2, 1006)]


def test_an_unsubscribed_socket_is_cut(bench: Bench) -> None:
    bench = Bench()
    bench.ask("publicTrade.BTCUSDT")
    bench.keep(61 * SECOND)
    assert bench.closes() == [Close(2, 1006)]
    bench.ask("publicTrade.BTCUSDT", op="unsubscribe")
    bench.keep(59 * SECOND)
    assert len(bench.closes()) == 1
    bench.keep(32 * SECOND)
    assert bench.closes() == [Close(2, 1006), Close(1, 1006)]


def test_pongs(bench: Bench) -> None:
    assert list(bench.say({"op": "ping"})) == ["success", "ret_msg", "conn_id", "op"]
    spot, linear = (bench.say({"req_id": "100001", "op": "ping"}, it) for it in (1, 2))
    for pong in (spot, linear):
        assert (pong["success"], pong["ret_msg"], pong["op"], pong["req_id"]) == (True, "pong", "ping", "100001")
    assert bench.say({"op": "ping"}, 2)["req_id"] == ""
    assert bench.say({"op": "ping", "req_id": 2}, 1)["req_id"] == "2"  # as ccxt sends it, and is answered
    assert bench.venue.pong(1, b"", bench.now) == []


def test_maintenance() -> None:
    bench = Bench(fault(FaultKind.NOTICE, at=20.0, lasts=1.0))
    bench.happen(BID, ASK)
    bench.connect(3, STATUS)
    bench.ask("system.status", connection=3)
    bench.ask("orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT")
    bench.run(15 * SECOND)
    bench.happen((True, 599_999, 3))
    bench.run(4 * SECOND)
    before = bench.heard("orderbook.50.BTCUSDT")[-1]["data"]["u"]
    bench.run(2 * SECOND)
    again = bench.heard("orderbook.50.BTCUSDT")[-1]
    assert before > 10**9
    assert (again["type"], again["data"]["u"], len(again["data"]["b"])) == ("snapshot", 1, 2)
    bench.happen((True, 599_998, 3))
    bench.run(SECOND)
    assert bench.heard("orderbook.50.BTCUSDT")[-1]["data"]["u"] == 2
    bench.happen((True, 599_998, 3), symbol="ETHUSDT")
    bench.run(4 * SECOND)
    assert all(bench.body(f"orderbook?category=spot&symbol={it}")["u"] < 1_000 for it in ("BTCUSDT", "ETHUSDT"))
    assert not bench.closes()
    bench.run(4 * SECOND)
    assert sorted(it.connection for it in bench.closes()) == [1, 2]
    with pytest.raises(Rejected) as caught:
        bench.connect(4)
    assert caught.value.status == 503
    assert json.loads(bench.get("time").body)["retCode"] == 10016
    bench.run(12 * SECOND)
    bench.connect(4)
    assert bench.body("time")
    assert [it["data"][0]["state"] for it in bench.heard("system.status", 3)] == ["scheduled", "ongoing", "completed"]
    assert list(bench.heard("system.status", 3)[0]["data"][0]) == [
        "id", "title", "state", "begin", "end", "href", "serviceTypes", "product", "uidSuffix", "maintainType", "env",
    ]


# --- 3: control frames ------------------------------------------------------------------------------------------------


def test_acks_look_like_the_recorded_ones(bench: Bench, recordings: Path) -> None:
    real = next(it for it in lines(recordings / "bybit" / "v5_20260809_spot.jsonl") if "op" in it)
    ack = bench.ask("publicTrade.BTCUSDT")
    assert list(ack) == list(real)
    assert {**ack, "conn_id": ""} == {**real, "conn_id": ""}
    assert [len(it) for it in ack["conn_id"].split("-")] == [len(it) for it in real["conn_id"].split("-")]
    named = bench.say({"req_id": "7", "op": "subscribe", "args": ["publicTrade.BTCUSDT"]}, 2)
    assert {**named, "conn_id": ""} == {"success": True, "ret_msg": "", "conn_id": "", "req_id": "7", "op": "subscribe"}
    assert bench.ask("publicTrade.BTCUSDT", op="unsubscribe", connection=2)["req_id"] == ""


def test_acks_come_before_or_after_the_data(bench: Bench) -> None:
    firsts = set()
    for _ in range(20):
        bench.actions.clear()
        bench.ask("orderbook.50.BTCUSDT")
        firsts.add("op" in bench.heard()[0])
        bench.ask("orderbook.50.BTCUSDT", op="unsubscribe")
    assert firsts == {True, False}


@pytest.mark.parametrize("bad", [
    "orderbook.500.BTCUSDT", "orderbook.050.BTCUSDT", "orderbook.BTCUSDT", "kline.1m.BTCUSDT", "kline.1s.BTCUSDT",
    "kline..BTCUSDT", "publicTrade.50.BTCUSDT", "tickers.x.BTCUSDT", "publictrade.BTCUSDT", "liquidation.BTCUSDT",
    "orderbook.full.BTCUSDT", "orderbook.50.100.BTCUSDT", "order", "", ".", ".BTCUSDT",
])
@pytest.mark.parametrize("connection", [1, 2])
def test_one_bad_topic_fails_all(bench: Bench, bad: str, connection: int) -> None:
    symbol = bad.rpartition(".")[2] == "BTCUSDT"
    for topic in (bad, "publicTrade.btcusdt", "publicTrade.NOPEUSDT"):
        answer = bench.ask("publicTrade.BTCUSDT", topic, "tickers.BTCUSDT", connection=connection)
        named = f"error:handler not found,topic:{topic}"
        if connection == 1 and (topic != bad or not symbol):
            named = f"Invalid symbol :[{topic}]"
        assert (answer["success"], answer["ret_msg"], answer["op"]) == (False, named, "subscribe")
    bench.happen(trades=[(600_000, 1, True)], symbol=PERP if connection == 2 else "BTCUSDT")
    bench.run(2 * SECOND)
    assert not bench.heard("publicTrade.BTCUSDT", connection)
    assert bench.ask("publicTrade.BTCUSDT", connection=connection)["success"]


def test_wrong_requests(bench: Bench) -> None:
    bench.ask("publicTrade.BTCUSDT", connection=2)
    again = bench.ask("tickers.BTCUSDT", "publicTrade.BTCUSDT", connection=2)
    assert (again["success"], again["ret_msg"]) == (False, "error:already subscribed,topic:publicTrade.BTCUSDT")
    twice = bench.ask("tickers.BTCUSDT", "tickers.BTCUSDT", connection=2)
    assert twice["ret_msg"] == "error:already subscribed,topic:tickers.BTCUSDT"
    assert bench.say({"op": "nope"}, 2)["ret_msg"] == "error:invalid op"
    assert bench.ask()["success"] is False
    bench.happen(trades=[(600_000, 1, True)], symbol=PERP)
    assert len(bench.heard("publicTrade.BTCUSDT", 2)) == 1
    assert not bench.heard("tickers.BTCUSDT", 2)


@pytest.mark.parametrize("frame", [
    b"", b"hello", b"{", b"[]", b'"ping"', b"\xff\xfe", b"[" * 100_000, b'{"op":7}', b'{"op":"subscribe","args":"x"}',
    b'{"op":"subscribe","args":[1]}', b'{"op":"subscribe","args":["\\ud800"]}', b'{"op":"ping","req_id":[7]}',
])
def test_hostile_frames_get_an_answer(bench: Bench, frame: bytes) -> None:
    answer = bench.say(frame)
    assert answer["success"] is False
    assert answer["ret_msg"].startswith("Failed to decode incoming data")
    assert bench.say({"op": "ping"})["ret_msg"] == "pong"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.lists(st.text(max_size=20)).map(
    lambda it: json.dumps({"op": "subscribe", "args": it}).encode()))
def test_nothing_that_a_client_sends_raises(frame: bytes) -> None:
    bench = Bench()
    for connection in (1, 2):
        assert bench.say(frame, connection) is not None


@given(st.text(max_size=60))
def test_no_request_raises(target: str) -> None:
    bench = Bench()
    for path in (target, f"kline?{target}", f"orderbook?category=spot&symbol=BTCUSDT&limit={target}"):
        assert bench.get(path).status in (200, 404)


def test_unknown_connections_are_ignored(bench: Bench) -> None:
    assert bench.say({"op": "ping"}, 99) is None
    bench.venue.disconnect(99, bench.now)


# --- 5.1: trades ------------------------------------------------------------------------------------------------------


def test_trades_of_one_order_share_a_frame(bench: Bench) -> None:
    for connection in (1, 2):
        bench.ask("publicTrade.BTCUSDT", "orderbook.50.BTCUSDT", connection=connection)
    bench.happen((False, 600_001, 69_000), trades=[(600_001, 300, True), (600_001, 700, True)])
    bench.run(SECOND)
    (frame,) = bench.heard("publicTrade.BTCUSDT")
    delta = bench.heard("orderbook.50.BTCUSDT")[-1]
    assert [it["v"] for it in frame["data"]] == ["0.0003", "0.0007"]
    assert {it["seq"] for it in frame["data"]} == {delta["data"]["seq"]} == {bench.truths["BTCUSDT"].sequence}
    assert {it["T"] for it in frame["data"]} == {delta["cts"]}
    assert {it["S"] for it in frame["data"]} == {"Buy"}
    (row,) = bench.happen((True, 600_000, 49_000), trades=[(600_000, 1_000, False)], symbol=PERP)
    assert isinstance(row, Frame)
    row = json.loads(row.data)["data"][0]
    assert (row["S"], row["v"], row["p"]) == ("Sell", "1.000", "60000.00")
    for (price, buy), word in (((599_999, True), "MinusTick"), ((599_999, False), "ZeroMinusTick"),
                               ((600_000, True), "PlusTick"), ((600_000, True), "ZeroPlusTick")):
        bench.happen(trades=[(price, 1, buy)], symbol=PERP)
        assert bench.heard("publicTrade.BTCUSDT", 2)[-1]["data"][0]["L"] == word


def test_many_trades_are_split(bench: Bench) -> None:
    bench.ask("publicTrade.BTCUSDT")
    bench.happen(trades=[(600_000, 1, True)] * 1_500)
    assert [len(it["data"]) for it in bench.heard("publicTrade.BTCUSDT")] == [1_024, 476]


def test_ids_lead_back_to_the_truth(lively: Bench) -> None:
    for connection, symbol in ((1, "BTCUSDT"), (2, PERP)):
        rows = [row for frame in lively.heard("publicTrade.BTCUSDT", connection) for row in frame["data"]]
        truth, ids = lively.truths[symbol], [match_id(it["i"]) for it in rows]
        tick, lot = truth.listing.tick, truth.listing.lot
        matches = truth.matches_from(ids[0], len(ids))
        assert ids == [it.id for it in matches]
        assert len(ids) > 50
        for row, it in zip(rows, matches, strict=True):
            assert (Decimal(row["p"]), Decimal(row["v"])) == (it.price * tick, it.size * lot)
            assert (row["S"], row["T"]) == ("Buy" if it.buy else "Sell", it.time // MILLISECOND)
        assert [it["seq"] for it in rows] == sorted(it["seq"] for it in rows)
        if connection == 1:
            steps = {int(after["i"]) - int(before["i"]) for before, after in pairwise(rows)}
            assert min(steps) > 0
            assert len(steps) > 2


@given(st.integers(1, 10**12), st.booleans())
def test_any_id_leads_back(match: int, linear: bool) -> None:
    id = trade_id("BTCUSDT", match, linear=linear)
    assert match_id(id) == match
    assert id != trade_id("ETHUSDT", match, linear=linear)
    assert UUID(id).version == 5 if linear else len(id) == 19


def test_subscribing_to_trades_replays_nothing(bench: Bench) -> None:
    bench.happen(trades=[(600_000, 1, True)])
    bench.ask("publicTrade.BTCUSDT")
    assert not bench.heard("publicTrade.BTCUSDT")


# --- 5.2 to 5.4: tickers, best prices, candles ------------------------------------------------------------------------


def test_tickers_merge_to_the_truth(lively: Bench) -> None:
    spot, linear = (lively.heard("tickers.BTCUSDT", it) for it in (1, 2))
    assert {it["type"] for it in spot} == {"snapshot"}
    assert [it["type"] for it in linear] == ["snapshot"] + ["delta"] * (len(linear) - 1)
    assert {(after["ts"] - before["ts"]) % 50 for before, after in pairwise(spot)} == {0}
    assert {(after["ts"] - before["ts"]) % 100 for before, after in pairwise(linear[1:])} == {0}
    assert len(spot) > 100
    merged: dict[str, str] = {}
    for frame in linear:
        assert frame["data"]["symbol"] == "BTCUSDT"
        merged |= frame["data"]
    assert set(merged) == set(linear[0]["data"])
    assert any(len(it["data"]) < 10 for it in linear[1:])
    for connection, symbol, row in ((1, "BTCUSDT", spot[-1]["data"]), (2, PERP, merged)):
        listing, trades = lively.truths[symbol].listing, lively.heard("publicTrade.BTCUSDT", connection)
        day = lively.truths[symbol].day(lively.now)
        assert day is not None
        assert row["lastPrice"] == trades[-1]["data"][-1]["p"]
        assert Decimal(row["volume24h"]) == day.volume * listing.lot
        assert Decimal(row["turnover24h"]) == day.quote * listing.lot * listing.tick
        assert Decimal(row["highPrice24h"]) == day.high * listing.tick
    assert merged["bid1Price"] == lively.heard("orderbook.1.BTCUSDT", 2)[-1]["data"]["b"][0][0]


def test_a_ticker_waits_for_the_first_trade(bench: Bench) -> None:
    assert bench.ask("tickers.BTCUSDT")["success"]
    bench.run(5 * SECOND)
    assert not bench.heard("tickers.BTCUSDT")
    bench.happen(trades=[(600_000, 1, True)])
    bench.run(50 * MILLISECOND)
    assert len(bench.heard("tickers.BTCUSDT")) == 1
    bench.run(5 * SECOND)
    assert len(bench.heard("tickers.BTCUSDT")) == 1


def test_a_second_listener_takes_no_ticker_from_the_first(bench: Bench) -> None:
    """The snapshot of whoever comes is what the others know, and all get the same deltas after it."""
    bench.connect(3, LINEAR)
    bench.ask("tickers.BTCUSDT", connection=2)
    merged: dict[int, dict[str, str]] = {2: {}, 3: {}}
    bench.happen(trades=[(600_000, 1, True)], symbol=PERP)
    bench.run(SECOND)
    assert [it["type"] for it in bench.heard("tickers.BTCUSDT", 2)] == ["snapshot"]
    bench.happen((True, 600_000, 7), trades=[(600_000, 3, False)], symbol=PERP)
    bench.ask("tickers.BTCUSDT", connection=3)
    bench.run(SECOND)
    for connection, row in merged.items():
        for frame in bench.heard("tickers.BTCUSDT", connection):
            row.update(frame["data"])
    assert merged[2] == merged[3]
    assert merged[2]["volume24h"] == "0.004"


def test_best_prices_repeat(bench: Bench) -> None:
    bench.ask("orderbook.1.BTCUSDT")
    bench.run(10 * SECOND)
    frames = bench.heard("orderbook.1.BTCUSDT")
    assert len(frames) == 4
    assert {json.dumps(it["data"]) for it in frames} == {json.dumps(frames[0]["data"])}
    assert [after["ts"] - before["ts"] for before, after in pairwise(frames[1:])] == [3_000, 3_000]
    bench.happen((True, 599_999, 1))
    bench.run(10 * MILLISECOND)
    assert len(bench.heard("orderbook.1.BTCUSDT")) == 4
    bench.happen((True, 600_000, 1))
    bench.run(10 * MILLISECOND)
    last = bench.heard("orderbook.1.BTCUSDT")[-1]
    assert last["data"]["b"] == [["60000", "0.000001"]]
    assert (last["type"], last["data"]["u"]) == ("snapshot", frames[0]["data"]["u"] + 1)


def test_candles(lively: Bench) -> None:
    for connection, symbol in ((1, "BTCUSDT"), (2, PERP)):
        truth, frames = lively.truths[symbol], lively.heard("kline.1.BTCUSDT", connection)
        rows = [it["data"][0] for it in frames]
        (closed,) = [it for it in rows if it["confirm"]]
        at = rows.index(closed)
        assert closed["end"] == START // MILLISECOND + 59_999
        assert 0 < closed["timestamp"] - closed["end"] <= 1_001
        assert rows[at + 1]["start"] == closed["end"] + 1
        assert rows[at + 1]["timestamp"] == closed["timestamp"]
        (true,) = truth.candles(MINUTE, START, START + 1)
        tick, lot = truth.listing.tick, truth.listing.lot
        assert [Decimal(closed[it]) for it in ("open", "high", "low", "close")] == [
            it * tick for it in (true.open, true.high, true.low, true.close)
        ]
        assert Decimal(closed["volume"]) == true.volume * lot
        assert Decimal(closed["turnover"]) == true.quote * lot * tick
        pauses = [after["ts"] - before["ts"] for before, after in pairwise(frames[1:])]
        assert set(pauses) <= {0, *range(1_000, 70_000, 1_000)}
        assert {it["start"] % 60_000 for it in rows} == {0}


def test_a_candle_without_trades(bench: Bench) -> None:
    bench.ask("kline.1.BTCUSDT")
    bench.run(3 * MINUTE)
    assert not bench.heard("kline.1.BTCUSDT")
    bench.happen(trades=[(600_000, 2_000_000, True)])
    bench.run(2 * MINUTE)
    rows = [it["data"][0] for it in bench.heard("kline.1.BTCUSDT")]
    assert [it["confirm"] for it in rows] == [False, True, False, True, False]
    assert [it["volume"] for it in rows] == ["2", "2", "0", "0", "0"]
    assert {it["open"] for it in rows} == {"60000"}


def test_a_quiet_candle_comes_once_a_minute(bench: Bench) -> None:
    bench.happen(trades=[(600_000, 1, True)])
    bench.ask("kline.D.BTCUSDT")
    bench.run(5 * MINUTE)
    frames = bench.heard("kline.D.BTCUSDT")
    assert 5 <= len(frames) <= 7
    assert {json.dumps({**it["data"][0], "timestamp": 0}) for it in frames} == {
        json.dumps({**frames[0]["data"][0], "timestamp": 0}),
    }


def test_candles_of_all_intervals(bench: Bench) -> None:
    bench.happen(trades=[(600_000, 1, True)])
    topics = [f"kline.{it}.BTCUSDT" for it in BARS]
    bench.ask(*topics, connection=1, op="unsubscribe")
    for topic in topics:
        assert bench.ask(topic)["success"]
    rows = {it["data"][0]["interval"]: it["data"][0] for it in bench.heard() if "topic" in it}
    assert set(rows) == set(BARS) == {"1", "3", "5", "15", "30", "60", "120", "240", "360", "720", "D", "W", "M"}
    assert rows["W"]["start"] * MILLISECOND % (7 * DAY) == 4 * DAY
    assert rows["M"]["start"] == 1_788_220_800_000  # 2026-09-01
    assert rows["M"]["end"] == 1_790_812_799_999
    assert rows["D"]["end"] - rows["D"]["start"] == 86_399_999


# --- 5.5: books -------------------------------------------------------------------------------------------------------


def test_books_come_at_their_beats(lively: Bench) -> None:
    for connection in (1, 2):
        for depth in DEPTHS:
            frames = lively.heard(f"orderbook.{depth}.BTCUSDT", connection)
            assert [it["type"] for it in frames] == ["snapshot"] + ["delta"] * (len(frames) - 1)
            pauses = {after["ts"] - before["ts"] for before, after in pairwise(frames[1:])}
            assert {it * MILLISECOND % PERIODS[depth] for it in pauses} == {0}
            assert min(pauses) == PERIODS[depth] // MILLISECOND


def test_a_book_has_all_of_its_millisecond(bench: Bench) -> None:
    """What is told at a time is the book after everything that bears it: else nobody could compare by time."""
    bench.ask("orderbook.50.BTCUSDT")
    bench.now += MILLISECOND - bench.now % MILLISECOND
    for price in (599_998, 599_997):
        bench.happen((True, price, 1))
        wake = bench.venue.next_wake()
        assert wake is not None
        assert wake % MILLISECOND == MILLISECOND - 1
    bench.run(20 * MILLISECOND)
    last = bench.heard("orderbook.50.BTCUSDT")[-1]
    assert [it[0] for it in last["data"]["b"]] == ["59999.8", "59999.7"]


@pytest.mark.parametrize("connection", [1, 2])
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_market_can_be_followed(lively: Bench, depth: int, connection: int) -> None:
    book, truth = Book(), lively.truths[PERP if connection == 2 else "BTCUSDT"]
    frames = lively.heard(f"orderbook.{depth}.BTCUSDT", connection)
    for number, frame in enumerate(frames):
        book.receive(frame)
        if number % 20 == 0:
            book.is_the_truth(truth, depth)
    assert not book.gaps
    assert len(frames) > 100


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_depth_follows_the_truth(data: st.DataObject) -> None:
    """Few prices, so that levels leave the window and come back; listeners come and go at any time."""
    bench, topics = Bench(), [f"orderbook.{depth}.BTCUSDT" for depth in DEPTHS]
    books: dict[tuple[str, int], Book] = {}
    for number in (3, 4):
        bench.connect(number)
    bench.happen(*((True, 1_000 - it, 5) for it in range(70)), *((False, 1_001 + it, 5) for it in range(70)))
    for _ in range(data.draw(st.integers(5, 40))):
        match data.draw(st.integers(0, 5)):
            case 0:
                topic, number = data.draw(st.sampled_from(topics)), data.draw(st.integers(3, 4))
                if (topic, number) in books:
                    bench.ask(topic, connection=number, op="unsubscribe")
                    del books[topic, number]
                else:
                    at = len(bench.actions)
                    bench.ask(topic, connection=number)
                    book = books[topic, number] = _read(Book(), bench, at, topic, number)
                    book.is_the_truth(bench.truths["BTCUSDT"], int(topic.split(".")[1]))
                continue
            case 1:
                step = data.draw(st.sampled_from((1, MILLISECOND, 70 * MILLISECOND, 2 * SECOND, 9 * SECOND)))
                at = len(bench.actions)
                bench.run(step)
            case _:
                bid, price = data.draw(st.booleans()), data.draw(st.integers(0, 80))
                level = bid, 1_000 - price if bid else 1_001 + price, data.draw(st.integers(0, 3))
                at = len(bench.actions)
                bench.happen(level)
                bench.run(data.draw(st.integers(0, 30)) * MILLISECOND)
        for (topic, number), book in books.items():
            _read(book, bench, at, topic, number)
    at, truth = len(bench.actions), bench.truths["BTCUSDT"]
    bench.run(SECOND)
    for (topic, number), book in books.items():
        _read(book, bench, at, topic, number)
        assert not book.gaps
        depth = int(topic.split(".")[1])
        assert _scaled(truth, truth.bids(depth)) == book.sides["b"]
        assert _scaled(truth, truth.asks(depth)) == book.sides["a"]


def _read(book: Book, bench: Bench, at: int, topic: str, number: int) -> Book:
    for it in bench.actions[at:]:
        if isinstance(it, Frame) and it.connection == number and it.channel == "book":
            frame = json.loads(it.data)
            if frame["topic"] == topic:
                book.receive(frame)
    return book


def _scaled(truth: Truth, levels: list[tuple[int, int]]) -> dict[Decimal, Decimal]:
    return {price * truth.listing.tick: size * truth.listing.lot for price, size in levels}


def test_a_snapshot_is_old_and_deltas_follow() -> None:
    bench = Bench(market=True)
    bench.run(5 * SECOND)
    for connection, first in ((1, True), (3, False)):
        bench.connect(connection + 10)
        bench.ask("orderbook.50.BTCUSDT", connection=connection + 10)
        frames = bench.heard("orderbook.50.BTCUSDT", connection + 10)
        assert len(frames) > 10
        assert 2_000 < bench.now // MILLISECOND - frames[0]["ts"] < 4_000 if first else frames[0]["type"] == "snapshot"
        book = Book()
        for frame in frames:
            book.receive(frame)
            book.is_the_truth(bench.truths["BTCUSDT"], 50)
        assert book.gaps == 0
        assert bench.now // MILLISECOND - frames[-1]["ts"] < 1_000
        bench.run(SECOND)


def test_what_nobody_hears_is_caught_up_with(bench: Bench) -> None:
    """Numbers never fall, and those who stay see no break because another comes or goes."""
    bench.ask("orderbook.50.BTCUSDT")
    bench.happen((True, 599_000, 1))
    bench.run(SECOND)
    last = bench.heard("orderbook.50.BTCUSDT")[-1]["data"]["u"]
    bench.ask("orderbook.50.BTCUSDT", op="unsubscribe")
    bench.happen((True, 598_000, 1))
    bench.run(MINUTE)
    bench.ask("orderbook.50.BTCUSDT")
    frame = bench.heard("orderbook.50.BTCUSDT")[-1]
    assert frame["type"] == "snapshot"
    assert frame["data"]["u"] > last
    assert len(frame["data"]["b"]) == 3


def test_subscribing_again_brings_a_snapshot(bench: Bench) -> None:
    for _ in range(3):
        bench.ask("orderbook.200.BTCUSDT", connection=2)
        bench.ask("orderbook.200.BTCUSDT", connection=2, op="unsubscribe")
    assert [it["type"] for it in bench.heard("orderbook.200.BTCUSDT", 2)] == ["snapshot"] * 3
    bench.happen((True, 599_999, 1), symbol=PERP)
    bench.run(SECOND)
    assert len(bench.heard("orderbook.200.BTCUSDT", 2)) == 3


def test_numbers_of_both_markets(bench: Bench) -> None:
    for connection, symbol in ((1, "BTCUSDT"), (2, PERP)):
        bench.happen((True, 600_000, 100_000), symbol=symbol)
        bench.ask("orderbook.50.BTCUSDT", connection=connection)
    bench.run(SECOND)
    assert bench.heard("orderbook.50.BTCUSDT", 1)[-1]["data"]["b"] == [["60000", "0.1"]]
    assert bench.heard("orderbook.50.BTCUSDT", 2)[-1]["data"]["b"] == [["60000.00", "100.000"]]


def test_an_empty_book(bench: Bench) -> None:
    bench = Bench()
    bench.ask("orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT")
    for topic in ("orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT"):
        (frame,) = bench.heard(topic)
        assert (frame["data"]["b"], frame["data"]["a"]) == ([], [])
    bench.happen(BID, ASK)
    bench.run(SECOND)
    assert len(bench.heard("orderbook.50.BTCUSDT")[-1]["data"]["b"]) == 1
    assert Bench().body("orderbook?category=spot&symbol=BTCUSDT")["b"] == []


# --- 6 and 7: REST ----------------------------------------------------------------------------------------------------


def test_time(bench: Bench) -> None:
    assert bench.body("time") == {"timeSecond": str(bench.now // SECOND), "timeNano": str(bench.now)}
    assert json.loads(bench.get("time").body)["time"] == bench.now // MILLISECOND


def test_rest_refusals(bench: Bench) -> None:
    for target in (
        "orderbook?symbol=BTCUSDT", "orderbook?category=spot", "orderbook?category=spot&symbol=BTCPERP",
        "orderbook?category=spot&symbol=BTCUSDT&limit=0", "orderbook?category=spot&symbol=BTCUSDT&limit=1001",
        "orderbook?category=spot&symbol=BTCUSDT&limit=x", "recent-trade?category=spot&symbol=BTCUSDT&limit=61",
        "recent-trade?category=linear&symbol=BTCUSDT&limit=1001", "kline?symbol=BTCUSDT", "tickers",
        "kline?symbol=BTCUSDT&interval=2", "kline?symbol=BTCUSDT&interval=1&start=x", "tickers?category=inverse",
        "instruments-info?category=nope", "kline?category=spot&symbol=btcusdt&interval=1",
    ):
        answer = bench.get(target)
        said = json.loads(answer.body)
        assert (answer.status, said["retCode"], said["result"]) == (200, 10001, {}), target
        assert said["retMsg"]
    assert bench.get("nothing").status == 404
    assert bench.venue.request("POST", "/v5/market/time", bench.now, {}, "x").status == 404


def test_instruments_are_paged_on_linear(bench: Bench) -> None:
    whole = bench.body("instruments-info?category=linear")
    assert whole["nextPageCursor"] == ""
    names, cursor = [], ""
    for _ in range(3):
        page = bench.body(f"instruments-info?category=linear&limit=2&cursor={cursor}")
        names += [it["symbol"] for it in page["list"]]
        cursor = page["nextPageCursor"]
        encoded = bench.body(f"instruments-info?category=linear&limit=2&cursor={quote(cursor)}") if cursor else page
        if not cursor:
            break
        assert encoded["list"][0]["symbol"] not in names  # encoded twice, it is the same
    assert names == [it["symbol"] for it in whole["list"]] == ["BTCPERP", "BTCUSDT", "DOGEUSDT", "ETHUSDT"]
    spot = bench.body("instruments-info?category=spot&limit=1")
    assert len(spot["list"]) == 2
    assert "nextPageCursor" not in spot
    assert [it["symbol"] for it in bench.body("instruments-info?category=linear&baseCoin=ETH")["list"]] == ["ETHUSDT"]
    assert [it["symbol"] for it in bench.body("instruments-info?category=linear&symbol=BTCPERP")["list"]] == ["BTCPERP"]
    assert bench.body("instruments-info?category=spot&status=PreLaunch")["list"] == []


def test_instruments_look_like_the_recorded_ones(bench: Bench, recordings: Path) -> None:
    files = sorted((recordings / "bybit" / "v5_20260809.rest").glob("*.json"))
    for file, category in zip(files, ("linear", "spot"), strict=True):
        real = {it["symbol"]: it for it in json.loads(file.read_text())["result"]["list"]}
        ours = {it["symbol"]: it for it in bench.body(f"instruments-info?category={category}")["list"]}
        for symbol, row in ours.items():
            assert shape(row) == shape(real[symbol])
            for name in ("baseCoin", "quoteCoin", "displayName", "status", "contractType", "priceFilter"):
                if name != "priceFilter":
                    assert row.get(name) == real[symbol].get(name)
            assert row["priceFilter"]["tickSize"] == real[symbol]["priceFilter"]["tickSize"]
            step = "qtyStep" if category == "linear" else "basePrecision"
            assert row["lotSizeFilter"][step] == real[symbol]["lotSizeFilter"][step]


def test_rest_book_is_that_of_depth_1000() -> None:
    bench = Bench(market=True)
    early = bench.body("orderbook?category=linear&symbol=BTCUSDT&limit=1000")
    bench.run(700 * MILLISECOND)
    bench.ask("orderbook.1000.BTCUSDT", connection=2)
    seen = {it["data"]["u"]: it["data"]["seq"] for it in bench.heard("orderbook.1000.BTCUSDT", 2)}
    assert seen[early["u"]] == early["seq"]
    for _ in range(20):
        bench.run(300 * MILLISECOND)
        last = bench.heard("orderbook.1000.BTCUSDT", 2)[-1]
        rest = bench.body("orderbook?category=linear&symbol=BTCUSDT&limit=1000")
        assert (rest["u"], rest["seq"], rest["cts"]) == (last["data"]["u"], last["data"]["seq"], last["cts"])
        book = bench.truths[PERP].book_at(rest["seq"])
        assert book is not None
        assert _scaled(bench.truths[PERP], book.bids[:1_000]) == {Decimal(p): Decimal(s) for p, s in rest["b"]}
    assert list(rest) == ["s", "b", "a", "ts", "u", "seq", "cts"]
    sizes = [len(bench.body(f"orderbook?category={it}&symbol=BTCUSDT")["a"]) for it in ("spot", "linear")]
    assert sizes == [1, 25]
    before = bench.body("orderbook?category=spot&symbol=ETHUSDT")["u"]
    bench.run(MINUTE)
    assert bench.body("orderbook?category=spot&symbol=ETHUSDT")["u"] > before


def test_recent_trades(lively: Bench) -> None:
    for category, connection, most in (("spot", 1, 60), ("linear", 2, 500)):
        rows = lively.body(f"recent-trade?category={category}&symbol=BTCUSDT")["list"]
        assert len(rows) == most
        told = {it["i"]: it for frame in lively.heard("publicTrade.BTCUSDT", connection) for it in frame["data"]}
        common = [it for it in rows if it["execId"] in told]
        assert len(common) >= min(most, len(told)) > 20
        for row in common:
            it = told[row["execId"]]
            assert (row["price"], row["size"], row["side"]) == (it["p"], it["v"], it["S"])
            assert (row["time"], row["seq"]) == (str(it["T"]), str(it["seq"]))
        assert [int(it["time"]) for it in rows] == sorted((int(it["time"]) for it in rows), reverse=True)
    assert len(lively.body("recent-trade?category=linear&symbol=BTCUSDT&limit=1000")["list"]) == 1_000


def test_rest_candles(lively: Bench) -> None:
    rows = lively.body("kline?symbol=BTCUSDT&interval=1")["list"]
    assert lively.body("kline?category=linear&symbol=BTCUSDT&interval=1")["list"] == rows
    assert lively.body("kline?category=spot&symbol=BTCUSDT&interval=1")["list"] != rows
    starts = [int(it[0]) for it in rows]
    assert starts == sorted(starts, reverse=True)
    assert starts[0] == lively.now // MINUTE * 60_000
    assert {before - after for before, after in pairwise(starts)} == {60_000}
    closed = next(it["data"][0] for it in lively.heard("kline.1.BTCUSDT", 2) if it["data"][0]["confirm"])
    row = next(it for it in rows if int(it[0]) == closed["start"])
    assert row[1:] == [closed[it] for it in ("open", "high", "low", "close", "volume", "turnover")]
    first, last = starts[5], starts[2]
    paged = lively.body(f"kline?symbol=BTCUSDT&interval=1&start={first}&end={last}")["list"]
    assert [int(it[0]) for it in paged] == starts[2:6]
    newest = lively.body(f"kline?symbol=BTCUSDT&interval=1&start={first}&end={last}&limit=2")["list"]
    assert [int(it[0]) for it in newest] == starts[2:4]
    oldest = lively.body(f"kline?symbol=BTCUSDT&interval=1&start={first}&limit=2")["list"]
    assert [int(it[0]) for it in oldest] == starts[4:6]
    before = lively.body(f"kline?symbol=BTCUSDT&interval=1&end={last - 1}&limit=1")["list"]
    assert [int(it[0]) for it in before] == [starts[3]]
    assert lively.body(f"kline?symbol=BTCUSDT&interval=1&start={starts[0] + 1}")["list"] == []
    assert lively.body(f"kline?symbol=BTCUSDT&interval=1&start={10**17}&end={10**17}")["list"] == []
    assert Bench().body("kline?symbol=BTCUSDT&interval=1")["list"] == []
    assert all(lively.body(f"kline?symbol=BTCUSDT&interval={it}")["list"] for it in BARS)


def test_rest_tickers(lively: Bench) -> None:
    spot, linear = (lively.body(f"tickers?category={it}")["list"] for it in ("spot", "linear"))
    assert [it["symbol"] for it in spot] == ["BTCUSDT", "ETHUSDT"]
    assert len(linear) == 4
    assert Decimal(spot[0]["bid1Price"]) < Decimal(spot[0]["ask1Price"])
    assert set(linear[0]) == set(lively.heard("tickers.BTCUSDT", 2)[0]["data"])
    (one,) = lively.body("tickers?category=linear&symbol=BTCUSDT")["list"]
    assert one["lastPrice"] == lively.heard("publicTrade.BTCUSDT", 2)[-1]["data"][-1]["p"]
    assert Bench().body("tickers?category=spot")["list"] == []


def test_rest_budget(bench: Bench) -> None:
    for _ in range(600):
        assert bench.get("time").status == 200
    answer = bench.get("time")
    assert (answer.status, answer.body) == (403, b"access too frequent")
    assert bench.get("time", client="5.6.7.8").status == 200
    bench.now += 10 * MINUTE - SECOND
    assert bench.get("time").status == 403
    bench.now += SECOND
    assert bench.get("time").status == 200
    for _ in range(3_000):
        bench.now += 9 * MILLISECOND
        assert bench.get("time", client="slow").status == 200


# --- faults -----------------------------------------------------------------------------------------------------------


def test_clock_skew_shifts_all_times() -> None:
    bench = Bench(fault(FaultKind.CLOCK_SKEW, seconds=3.0), market=True)
    plain = Bench(market=True)
    for it in (bench, plain):
        it.ask("publicTrade.BTCUSDT", "orderbook.50.BTCUSDT", "tickers.BTCUSDT", "kline.1.BTCUSDT")
        it.run(2 * SECOND)
    assert len(bench.actions) == len(plain.actions)
    for skewed, true in zip(bench.heard(), plain.heard(), strict=True):
        if "topic" in true:
            assert skewed["ts"] == true["ts"] + 3_000
    skewed, true = (it.heard("publicTrade.BTCUSDT")[0]["data"][0]["T"] for it in (bench, plain))
    assert skewed == true + 3_000
    rows = [it.body("recent-trade?category=spot&symbol=BTCUSDT")["list"][0] for it in (bench, plain)]
    assert int(rows[0]["time"]) == int(rows[1]["time"]) + 3_000
    assert int(bench.body("time")["timeNano"]) == bench.now + 3 * SECOND


def test_skipped_frames_leave_a_hole() -> None:
    bench = Bench(fault(FaultKind.SKIP_SEQUENCE, at=2.0, lasts=3.0, share=0.3, channel="book"), market=True)
    bench.ask("orderbook.50.BTCUSDT", "publicTrade.BTCUSDT")
    bench.run(8 * SECOND)
    numbers = [it["data"]["u"] for it in bench.heard("orderbook.50.BTCUSDT")]
    steps = [after - before for before, after in pairwise(numbers)]
    assert min(steps) == 1 < max(steps)
    at = len(bench.actions)
    bench.ask("orderbook.50.BTCUSDT", op="unsubscribe")
    bench.ask("orderbook.50.BTCUSDT")
    book = _read(Book(), bench, at, "orderbook.50.BTCUSDT", 1)
    assert not book.gaps
    book.is_the_truth(bench.truths["BTCUSDT"], 50)


def test_a_stale_snapshot_does_not_join_its_deltas() -> None:
    bench = Bench(fault(FaultKind.STALE_SNAPSHOT, at=0.0, lasts=5.0, seconds=20.0), market=True)
    bench.ask("orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT")
    bench.run(SECOND)
    snapshot, delta, *_ = bench.heard("orderbook.50.BTCUSDT")
    assert bench.now // MILLISECOND - snapshot["cts"] > 19_000
    assert delta["data"]["u"] > snapshot["data"]["u"] + 1
    rest = bench.body("orderbook?category=spot&symbol=BTCUSDT")
    assert bench.now // MILLISECOND - rest["cts"] > 19_000
    bench.run(5 * SECOND)
    after = bench.body("orderbook?category=spot&symbol=BTCUSDT")
    assert bench.now // MILLISECOND - after["cts"] < 5_000
    assert after["u"] > rest["u"]


def test_a_refused_symbol() -> None:
    bench = Bench(fault(FaultKind.REFUSE_SYMBOL, lasts=5.0, symbol=PERP))
    assert bench.ask("publicTrade.BTCUSDT")["success"]
    answer = bench.ask("publicTrade.ETHUSDT", "publicTrade.BTCUSDT", connection=2)
    assert answer["ret_msg"] == "error:handler not found,topic:publicTrade.BTCUSDT"
    bench.run(6 * SECOND)
    assert bench.ask("publicTrade.ETHUSDT", "publicTrade.BTCUSDT", connection=2)["success"]


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_frames_look_like_the_recorded_ones(lively: Bench, recordings: Path) -> None:
    """Keys, their order, types, and on spot that no number ends in a zero."""
    real: dict[str, Any] = {}
    for it in lines(recordings / "bybit" / "v5_20260809_spot.jsonl"):
        if _is_whole(it):
            real.setdefault(f"{it['topic']} {it['type']}", it)
    ours = {f"{it['topic']} {it['type']}": it for it in lively.heard() if _is_whole(it)}
    assert len(real) == 5
    for key, frame in real.items():
        assert shape(ours[key]) == shape(frame), key
    texts = [it for frame in lively.heard("orderbook.50.BTCUSDT") for level in frame["data"]["b"] for it in level]
    assert len(texts) > 500
    assert not [it for it in texts if re.fullmatch(r"\d+\.\d*0", it)]


def _is_whole(frame: Any) -> bool:
    """Of bitcoin, and with levels on both sides."""
    topic, data = frame.get("topic", ""), frame.get("data")
    return topic.endswith(".BTCUSDT") and (not topic.startswith("order") or bool(data["b"] and data["a"]))


def test_linear_frames_look_like_the_recorded_ones(lively: Bench, recordings: Path) -> None:
    folder = recordings / "bybit"
    snapshot, delta, *_ = lines(folder / "v5_20241201_linear_xrpusdt_ob500.jsonl")
    frames = [it for it in lively.heard("orderbook.200.BTCUSDT", 2) if it["data"]["b"] and it["data"]["a"]]
    assert shape(frames[0]) == shape(snapshot)
    assert shape(frames[1]) == shape(delta)
    samples = [it["msg"] for it in lines(folder / "samples" / "tardis_node_mapper_messages.jsonl")]
    old = next(it for it in samples if it.get("topic") == "publicTrade.LTCUSDT")
    new = lively.heard("publicTrade.BTCUSDT", 2)[0]
    assert list(new) == list(old)
    assert shape(new["data"])[0][:8] == shape(old["data"])[0]
    old = next(it for it in samples if it.get("topic") == "tickers.BTCUSDT" and it["type"] == "snapshot" and "cs" in it)
    new = lively.heard("tickers.BTCUSDT", 2)[0]
    assert list(new) == list(old)
    theirs, types = dict(shape(old["data"])), dict(shape(new["data"]))
    assert {name: types[name] for name in theirs} == theirs
    for frame in lively.heard("orderbook.50.BTCUSDT", 2):
        for price, size in frame["data"]["b"] + frame["data"]["a"]:
            assert re.fullmatch(r"\d+\.\d0", price)
            assert re.fullmatch(r"\d+\.\d{3}|0", size)


@pytest.mark.parametrize(("name", "target"), [
    ("http_get_klines_linear", "kline?symbol=BTCUSDT&interval=1"),
    ("http_get_trades_recent", "recent-trade?category=linear&symbol=BTCUSDT"),
])
def test_rest_bodies_look_like_the_samples(lively: Bench, recordings: Path, name: str, target: str) -> None:
    real = json.loads((recordings / "bybit" / "samples" / "nautilus" / f"{name}.json").read_text())
    ours = json.loads(lively.get(target).body)
    assert set(real) <= set(ours)
    first, other = ours["result"]["list"][0], real["result"]["list"][0]
    if isinstance(other, dict):
        assert {key: shape(it) for key, it in first.items() if key in other} == {
            key: "UUID" if key == "execId" else shape(it) for key, it in other.items()
        }
    else:
        assert shape(first) == shape(other)
        assert len(first) == len(other)
