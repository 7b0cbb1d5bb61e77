"""The simulated Binance against the protocol page, section by section, and against what the real one sent."""
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Action, Close, Frame, Listing, Ping, Rejected, Response, SimVenue
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.listings import LISTINGS
from onetape.sim.market import Market
from onetape.sim.truth import Truth
from onetape.sim.venues.binance import QUIRKS, Binance
from onetape.sim.venues.binance_aggregates import Aggregates
from onetape.sim.venues.binance_budget import PATIENCE, WEIGHT
from onetape.sim.venues.binance_intervals import INTERVALS

START = 1_790_000_040 * SECOND  # a round minute
BTC = Listing(
    venue="binance", symbol="BTCUSDT", base="BTC", quote="USDT", tick=Decimal("0.01"), lot=Decimal("0.00001"),
)
ETH = Listing(venue="binance", symbol="ETHUSDT", base="ETH", quote="USDT", tick=Decimal("0.01"), lot=Decimal("0.0001"))
BID, ASK = (True, 6_000_000, 50_000), (False, 6_000_100, 70_000)


def listed(symbol: str) -> str:
    """As a parameter that takes a list."""
    return quote(f'["{symbol}"]')


class Bench:
    """The venue on a virtual clock, with what every connection has heard."""

    def __init__(self, *faults: Fault, seed: int = 1) -> None:
        self.now = START
        self.truths = {it.symbol: Truth(it, START - HOUR, 70_000_000_000, 5_000_000_000) for it in (BTC, ETH)}
        self.venue = Binance(self.truths, Faults(FaultPlan(faults=faults), START), seed)
        self.actions: list[Action] = []

    @property
    def truth(self) -> Truth:
        return self.truths["BTCUSDT"]

    def connect(self, target: str = "/stream", connection: int = 1) -> None:
        self._did(self.venue.connect(connection, target, self.now))

    def say(self, said: object, connection: int = 1) -> Any:
        """The answer, or None."""
        frame = said if isinstance(said, bytes) else json.dumps(said).encode()
        actions = self.venue.receive(connection, frame, self.now)
        self._did(actions)
        self.now += 250 * MILLISECOND  # slowly enough for the limit
        return json.loads(actions[0].data) if actions and isinstance(actions[0], Frame) else None

    def subscribe(self, *names: str, connection: int = 1) -> Any:
        return self.say({"method": "SUBSCRIBE", "params": names, "id": 1}, connection)

    def happen(
        self, *levels: tuple[bool, int, int], trades: Sequence[tuple[int, int, bool]] = (), symbol: str = "BTCUSDT",
    ) -> list[Action]:
        self.run(1)
        actions = self.venue.happen(self.truths[symbol].happen(self.now, levels, trades), self.now)
        self._did(actions)
        return actions

    def run(self, ns: int) -> list[Action]:
        """Lets time pass; only what the clock brought about."""
        end, out = self.now + ns, []
        while (wake := self.venue.next_wake()) is not None and wake <= end:
            self.now = max(self.now, wake)
            out += self.venue.wake(self.now)
        self.now = end
        self._did(out)
        return out

    def answer_pings(self, ns: int) -> None:
        end = self.now + ns
        while self.now < end:
            for it in self.run(min(20 * SECOND, end - self.now)):
                if isinstance(it, Ping):
                    self._did(self.venue.pong(it.connection, it.payload, self.now))

    def _did(self, actions: list[Action]) -> None:
        self.actions += actions

    def heard(self, stream: str = "", connection: int = 1) -> list[Any]:
        """Data frames of a stream on a combined connection, or all that a raw one got."""
        frames = [json.loads(it.data) for it in self.actions if isinstance(it, Frame) and it.connection == connection]
        return [it["data"] for it in frames if it.get("stream") == stream] if stream else frames

    def closes(self) -> list[Close]:
        return [it for it in self.actions if isinstance(it, Close)]

    def get(self, target: str, client: str = "1.2.3.4", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.venue.request("GET", f"/api/v3/{target}", self.now, named, client)

    def body(self, target: str, **headers: str) -> Any:
        answer = self.get(target, **headers)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def refusal(self, target: str) -> int:
        answer = self.get(target)
        assert answer.status == 400
        return json.loads(answer.body)["code"]


@pytest.fixture
def bench() -> Bench:
    it = Bench()
    it.happen(BID, ASK)
    it.happen(BID, ASK, symbol="ETHUSDT")
    return it


def fault(kind: FaultKind, **options: Any) -> Fault:
    return Fault(kind=kind, **({"lasts": 1e6} | options))


def test_is_a_venue() -> None:
    venue: SimVenue = Bench().venue
    assert venue.name == "binance"


def test_every_quirk_has_its_test() -> None:
    assert all(callable(globals().get(test)) for _, _, test in QUIRKS), [it for it in QUIRKS if it[2] not in globals()]


# --- 1.1 URLs ---------------------------------------------------------------------------------------------------------


def test_url_forms_raw_and_combined(bench: Bench) -> None:
    bench.connect("/ws/btcusdt@trade/ethusdt@trade", 1)
    bench.connect("/stream?streams=btcusdt@trade/ethusdt@trade", 2)
    bench.connect("/ws", 3)
    bench.connect("/stream", 4)
    bench.happen(trades=[(6_000_000, 7, True)])
    bench.happen(trades=[(6_000_000, 8, True)], symbol="ETHUSDT")
    assert [it["s"] for it in bench.heard()] == ["BTCUSDT", "ETHUSDT"]
    assert [it["stream"] for it in bench.heard(connection=2)] == ["btcusdt@trade", "ethusdt@trade"]
    assert [it["data"] for it in bench.heard(connection=2)] == bench.heard()
    assert bench.heard(connection=3) == bench.heard(connection=4) == []


@pytest.mark.parametrize("target", ["/", "/nothing", "/stream/btcusdt@trade", ""])
def test_unknown_path_is_no_websocket(bench: Bench, target: str) -> None:
    with pytest.raises(Rejected) as caught:
        bench.connect(target)
    assert caught.value.status == 404


def test_upper_case_stream_is_silent(bench: Bench) -> None:
    bench.connect()
    assert bench.subscribe("BTCUSDT@trade") == {"result": None, "id": 1}
    bench.happen(trades=[(6_000_000, 7, True)])
    assert len(bench.heard()) == 1


@pytest.mark.parametrize("target", ["/ws/btcusdt@trade?timeUnit=MICROSECOND", "/ws/btcusdt@trade?timeUnit=microsecond"])
def test_time_unit_microsecond(bench: Bench, target: str) -> None:
    bench.connect(target)
    bench.connect("/ws/btcusdt@trade", 2)
    bench.happen(trades=[(6_000_000, 7, True)])
    assert bench.heard()[0]["T"] == bench.truth.time // 1_000
    assert bench.heard(connection=2)[0]["T"] == bench.truth.time // MILLISECOND


# --- 2 connections ----------------------------------------------------------------------------------------------------


def test_ping_every_20_s_and_pong_within_60_s(bench: Bench) -> None:
    bench.connect()
    began = bench.now
    bench.run(59 * SECOND)
    pings = [it for it in bench.actions if isinstance(it, Ping)]
    assert len(pings) == 2
    assert len({it.payload for it in pings}) == 2
    bench.run(22 * SECOND)
    assert bench.closes() == [Close(1, 1008, "Pong timeout")]
    assert bench.now - began == 81 * SECOND
    assert bench.venue.next_wake() is None


def test_answered_pings_keep_alive(bench: Bench) -> None:
    bench.connect()
    bench.answer_pings(10 * MINUTE)
    assert bench.closes() == []


def test_unsolicited_pongs_do_not_keep_alive(bench: Bench) -> None:
    bench.connect()
    for _ in range(90):
        bench.venue.pong(1, b"", bench.now)
        bench.run(SECOND)
    assert bench.closes() == [Close(1, 1008, "Pong timeout")]


def test_cut_at_24_h(bench: Bench) -> None:
    bench.connect()
    bench.answer_pings(DAY - SECOND)
    assert bench.closes() == []
    bench.answer_pings(2 * SECOND)
    assert [it.code for it in bench.closes()] == [1001]


def test_five_messages_a_second(bench: Bench) -> None:
    bench.connect()
    for _ in range(5):
        assert bench.venue.receive(1, b'{"method":"LIST_SUBSCRIPTIONS","id":1}', bench.now)
    bench.now += SECOND
    for _ in range(3):
        assert bench.venue.receive(1, b'{"method":"LIST_SUBSCRIPTIONS","id":1}', bench.now)
    for _ in range(2):
        assert bench.venue.pong(1, b"", bench.now) == []
    assert bench.venue.pong(1, b"", bench.now) == [Close(1, 1008, "Too many requests")]
    assert bench.venue.receive(1, b"{}", bench.now) == []


def test_300_connections_in_5_minutes(bench: Bench) -> None:
    for number in range(300):
        bench.connect(connection=number)
    bench.now += MINUTE
    with pytest.raises(Rejected) as caught:
        bench.connect(connection=301)
    assert caught.value.status == 429
    assert caught.value.headers == {"Retry-After": "240"}
    bench.now += 240 * SECOND
    bench.connect(connection=301)


def test_notice_then_close() -> None:
    bench = Bench(fault(FaultKind.NOTICE, at=5.0, lasts=1.0))
    bench.connect("/stream", 1)
    bench.connect("/ws", 2)
    bench.run(6 * SECOND)
    assert bench.heard() == [{"stream": "!serverShutdown", "data": bench.heard(connection=2)[0]}]
    assert bench.heard(connection=2) == [{"e": "serverShutdown", "E": (START + 5 * SECOND) // MILLISECOND}]
    bench.connect("/stream", 3)
    bench.run(8 * SECOND)
    assert bench.closes() == []
    bench.run(SECOND)
    assert sorted(it.connection for it in bench.closes()) == [1, 2]


# --- 3 control frames -------------------------------------------------------------------------------------------------


def test_subscribe_unsubscribe_list(bench: Bench) -> None:
    bench.connect()
    assert bench.subscribe("btcusdt@aggTrade", "btcusdt@depth@100ms") == {"result": None, "id": 1}
    listed = {"method": "LIST_SUBSCRIPTIONS", "id": "three"}
    assert bench.say(listed) == {"result": ["btcusdt@aggTrade", "btcusdt@depth@100ms"], "id": "three"}
    gone = {"method": "UNSUBSCRIBE", "params": ["btcusdt@depth@100ms", "btcusdt@trade"], "id": None}
    assert bench.say(gone) == {"result": None, "id": None}
    assert bench.say(listed)["result"] == ["btcusdt@aggTrade"]
    bench.happen((True, 6_000_000, 1), trades=[(6_000_000, 7, False)])
    bench.run(2 * SECOND)
    assert {it["stream"] for it in bench.heard() if "stream" in it} == {"btcusdt@aggTrade"}


def test_properties(bench: Bench) -> None:
    bench.connect("/ws/btcusdt@trade")
    assert bench.say({"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == {"result": False, "id": 2}
    assert bench.say({"method": "SET_PROPERTY", "params": ["combined", True], "id": 5}) == {"result": None, "id": 5}
    assert bench.say({"method": "GET_PROPERTY", "params": ["combined"], "id": 2}) == {"result": True, "id": 2}
    bench.happen(trades=[(6_000_000, 7, True)])
    assert len(bench.heard("btcusdt@trade")) == 1


def test_changing_combined_loses_nothing(bench: Bench) -> None:
    bench.connect("/ws/btcusdt@depth@100ms")
    bench.happen((True, 5_999_000, 1))
    bench.say({"method": "SET_PROPERTY", "params": ["combined", True], "id": 5})
    bench.run(SECOND)
    assert bench.heard("btcusdt@depth@100ms")[0]["b"] == [["59990.00000000", "0.00001000"]]


def test_unknown_symbol_is_acked_and_silent(bench: Bench) -> None:
    bench.connect()
    assert bench.subscribe("nothing@trade", "nothing@depth", "btcusdt@miniTicker") == {"result": None, "id": 1}
    listed = bench.say({"method": "LIST_SUBSCRIPTIONS", "id": 1})["result"]
    assert listed == ["nothing@trade", "nothing@depth", "btcusdt@miniTicker"]
    bench.happen(trades=[(6_000_000, 7, True)])
    bench.run(5 * SECOND)
    assert len(bench.heard()) == 2
    assert bench.say({"method": "UNSUBSCRIBE", "params": ["nothing@trade"], "id": 1})["result"] is None


@pytest.mark.parametrize("name", [
    "btcusdt", "@trade", "btcusdt@", "btcusdt@nonsense", "btcusdt@kline_7m", "btcusdt@depth7", "btcusdt@trade/x@trade",
    "btc usdt@trade", "btcusdt@depth@200ms", "", "btcusdt@kline_1m ",
])
def test_bad_stream_is_refused(bench: Bench, name: str) -> None:
    bench.connect()
    expected = {"code": 2, "msg": "Invalid request: invalid stream", "id": 1}
    assert bench.subscribe("btcusdt@trade", name) == expected
    assert bench.say({"method": "LIST_SUBSCRIPTIONS", "id": 1})["result"] == []


@pytest.mark.parametrize(("said", "code"), [
    ({"method": "SET_PROPERTY", "params": ["nothing", True], "id": 1}, 0),
    ({"method": "GET_PROPERTY", "params": ["nothing"], "id": 1}, 0),
    ({"method": "SET_PROPERTY", "params": ["combined", "true"], "id": 1}, 1),
    ({"method": "SET_PROPERTY", "params": ["combined"], "id": 1}, 1),
    ({"method": "SET_PROPERTY", "params": ["combined", True, 1], "id": 1}, 2),
    ({"method": "GET_PROPERTY", "params": [1], "id": 1}, 2),
    ({"method": "GET_PROPERTY", "params": ["combined", True], "id": 1}, 2),
    ({"method": "subscribe", "params": [], "id": 1}, 2),
    ({"method": ["SUBSCRIBE"], "params": [], "id": 1}, 2),
    ({"method": "SUBSCRIBE", "id": 1}, 2),
    ({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 1}, 2),
    ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2),
    ({"params": [], "id": 1}, 2),
])
def test_error_codes(bench: Bench, said: object, code: int) -> None:
    bench.connect()
    answer = bench.say(said)
    assert (answer["code"], answer["id"]) == (code, 1)
    assert "result" not in answer


@pytest.mark.parametrize("id", [2**63, -(2**63) - 1, "x" * 37, "", "a b", 1.5, True, [1], {}])
def test_bad_ids(bench: Bench, id: object) -> None:
    bench.connect()
    answer = bench.say({"method": "LIST_SUBSCRIPTIONS", "id": id})
    assert answer["code"] == 2
    assert "id" not in answer


@pytest.mark.parametrize("id", [2**63 - 1, -(2**63), 0, "x" * 36, "8a1f-77", None])
def test_good_ids(bench: Bench, id: object) -> None:
    bench.connect()
    assert bench.say({"method": "LIST_SUBSCRIPTIONS", "id": id}) == {"result": [], "id": id}


@pytest.mark.parametrize("frame", [b"", b"{", b"nonsense", b"\xff\xfe", b"[" * 4_000, b'{"a":1}x', b'{"id":"\\ud800"}'])
def test_invalid_json(bench: Bench, frame: bytes) -> None:
    bench.connect()
    answer = bench.say(frame)
    assert answer["code"] == 3
    assert re.fullmatch(r"Invalid JSON: expected value at line \d+ column \d+", answer["msg"])


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["method", "params", "id", "x"]),
        inner | st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE", "SET_PROPERTY", "combined", "btcusdt@trade"]), max_size=4,
    ), max_leaves=8,
).map(lambda it: json.dumps(it).encode())))
@settings(max_examples=300, deadline=None)
def test_hostile_frames_are_answered_or_ignored(frame: bytes) -> None:
    bench = Bench()
    bench.connect()
    answer = bench.say(frame)
    assert "result" in answer or "code" in answer


def test_long_frames_get_no_answer(bench: Bench) -> None:
    bench.connect()
    frame = json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}).encode()
    assert bench.say(frame.ljust(4_096)) == {"result": None, "id": 1}
    bench.say({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
    assert bench.say(frame.ljust(4_097)) is None
    assert bench.say({"method": "LIST_SUBSCRIPTIONS", "id": 1})["result"] == []


def test_1024_streams_per_connection(bench: Bench) -> None:
    bench.connect("/stream?streams=" + "/".join(f"x{number}@trade" for number in range(1_023)))
    nested = {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 1}
    assert bench.subscribe("btcusdt@trade", "ethusdt@trade") == nested
    assert bench.subscribe("btcusdt@trade", "btcusdt@trade", "x1@trade") == {"result": None, "id": 1}
    assert bench.subscribe("ethusdt@trade") == nested
    with pytest.raises(Rejected):
        bench.connect("/stream?streams=" + "/".join(f"x{number}@trade" for number in range(1_025)), 2)


# --- 5 streams --------------------------------------------------------------------------------------------------------


def test_trade_one_event_per_match(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@trade")
    bench.happen(trades=[(6_000_000, 120, False), (5_999_999, 5, False)])
    first, second = bench.heard("btcusdt@trade")
    time = bench.truth.time // MILLISECOND
    assert first == {
        "e": "trade", "E": time, "s": "BTCUSDT", "t": 5_000_000_000, "p": "60000.00000000", "q": "0.00120000",
        "T": time, "m": True, "M": True,
    }
    assert second["t"] == first["t"] + 1


def test_aggregate_per_order_and_price(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@aggTrade")
    bench.happen(trades=[(6_000_000, 1, True), (6_000_000, 2, True), (6_000_001, 3, True)])
    bench.happen(trades=[(6_000_001, 4, True)])
    heard = bench.heard("btcusdt@aggTrade")
    assert [(it["f"] - 5_000_000_000, it["l"] - 5_000_000_000, it["q"]) for it in heard] == [
        (0, 1, "0.00003000"), (2, 2, "0.00003000"), (3, 3, "0.00004000"),
    ]
    assert all(later["a"] == it["a"] + 1 and later["f"] == it["l"] + 1 for it, later in pairwise(heard))
    assert heard[0]["a"] != heard[0]["f"]
    rest = bench.body("aggTrades?symbol=BTCUSDT")
    assert rest == [{key: it[key] for key in ("a", "p", "q", "f", "l", "T", "m", "M")} for it in heard]


def test_best_only_when_it_changes_and_without_time(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@bookTicker")
    bench.happen((True, 5_999_000, 1))
    assert bench.heard() == []
    bench.happen((True, 6_000_000, 60_000))
    assert bench.heard("btcusdt@bookTicker") == [{
        "u": bench.truth.sequence, "s": "BTCUSDT", "b": "60000.00000000", "B": "0.60000000", "a": "60001.00000000",
        "A": "0.70000000",
    }]


def test_ticker_every_second(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@ticker")
    bench.happen(trades=[(6_000_000, 100_000, True)])
    bench.happen(trades=[(6_060_000, 100_000, True)])
    bench.run(3 * SECOND)
    heard = bench.heard("btcusdt@ticker")
    assert [later["E"] - it["E"] for it, later in pairwise(heard)] == [1_000, 1_000]
    it = heard[-1]
    assert (it["p"], it["P"], it["w"], it["n"]) == ("600.00000000", "1.000", "60300.00000000", 2)
    assert (it["o"], it["c"], it["v"], it["q"]) == (
        "60000.00000000", "60600.00000000", "2.00000000", "120600.00000000",
    )
    assert it["C"] - it["O"] == DAY // MILLISECOND


def test_ticker_without_any_trade(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@ticker")
    bench.run(SECOND)
    assert [(it["n"], it["F"], it["L"], it["P"]) for it in bench.heard("btcusdt@ticker")] == [(0, -1, -1, "0.000")]


def test_kline_every_two_seconds_and_closing_after_the_end(bench: Bench) -> None:
    bench.happen(trades=[(6_000_000, 100_000, True)])
    bench.connect("/stream?streams=btcusdt@kline_1m")
    bench.answer_pings(MINUTE)
    bench.happen(trades=[(6_010_000, 100_000, False)])
    bench.answer_pings(MINUTE + 5 * SECOND)
    heard = bench.heard("btcusdt@kline_1m")
    assert all(later["E"] - it["E"] == 2_000 for it, later in pairwise(heard))
    closed = [it for it in heard if it["k"]["x"]]
    assert [it["k"]["t"] for it in closed] == [START // MILLISECOND, (START + MINUTE) // MILLISECOND]
    assert all(0 < it["E"] - it["k"]["T"] < 200 for it in closed)
    assert [(it["k"]["c"], it["k"]["n"], it["k"]["V"]) for it in closed] == [
        ("60000.00000000", 1, "1.00000000"), ("60100.00000000", 1, "0.00000000"),
    ]


def test_kline_1s_every_second_and_without_trades(bench: Bench) -> None:
    bench.happen(trades=[(6_000_000, 100_000, True)])
    bench.connect("/stream?streams=btcusdt@kline_1s")
    bench.run(4 * SECOND)
    begun, *heard = [it["k"] for it in bench.heard("btcusdt@kline_1s")]
    assert [it["t"] for it in heard] == [START // MILLISECOND + 1_000 * n for n in range(3)]
    assert not begun["x"]
    assert all(it["x"] for it in heard)
    assert [it["n"] for it in heard] == [1, 0, 0]
    empty = heard[1]
    assert (empty["f"], empty["L"], empty["o"], empty["l"], empty["v"]) == (
        -1, -1, "60000.00000000", "60000.00000000", "0.00000000",
    )


def test_depth_covers_all_and_tells_the_last(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@depth@100ms/btcusdt@depth")
    before = bench.truth.sequence
    bench.happen((True, 5_999_000, 1), (True, 5_999_500, 2), (False, 6_000_500, 3), (False, 6_000_200, 4))
    bench.happen((True, 5_999_000, 5), (False, 6_000_500, 0))
    bench.run(100 * MILLISECOND)
    fast = bench.heard("btcusdt@depth@100ms")
    assert len(fast) == 1
    assert (fast[0]["U"], fast[0]["u"]) == (before + 1, before + 6)
    assert fast[0]["b"] == [["59995.00000000", "0.00002000"], ["59990.00000000", "0.00005000"]]
    assert fast[0]["a"] == [["60002.00000000", "0.00004000"], ["60005.00000000", "0.00000000"]]
    bench.run(2 * SECOND)
    assert bench.heard("btcusdt@depth@100ms") == fast
    assert [{**it, "E": 0} for it in bench.heard("btcusdt@depth")] == [{**fast[0], "E": 0}]
    bench.happen((True, 5_999_000, 0))
    bench.run(SECOND)
    assert bench.heard("btcusdt@depth@100ms")[1]["U"] == before + 7


def test_partial_depth_without_symbol_and_time(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@depth5@100ms/btcusdt@depth20")
    bench.happen(*((True, 5_999_000 - n, 1) for n in range(30)))
    bench.run(SECOND)
    fast, slow = bench.heard("btcusdt@depth5@100ms"), bench.heard("btcusdt@depth20")
    assert (len(fast), len(slow)) == (10, 1)
    assert list(fast[-1]) == ["lastUpdateId", "bids", "asks"]
    assert fast[-1]["lastUpdateId"] == bench.truth.sequence
    assert (len(fast[-1]["bids"]), len(slow[-1]["bids"]), len(slow[-1]["asks"])) == (5, 20, 1)
    assert fast[-1]["bids"][0] == ["60000.00000000", "0.50000000"]


def test_a_late_driver_gets_the_same_frames(bench: Bench) -> None:
    other = Bench()
    other.truths = bench.truths
    other.venue = Binance(bench.truths, Faults(FaultPlan(), START), 1)
    other.now = bench.now
    for it in (bench, other):
        it.connect("/stream?streams=btcusdt@depth@100ms")
    for n in range(20):
        bench.happen((True, 5_990_000 + n, 1))
        bench.run(37 * MILLISECOND)
    other.run(bench.now - other.now)
    assert other.actions == bench.actions
    assert len(bench.actions) > 5


def test_a_diff_may_straddle_the_snapshot(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@depth")
    for n in range(200):
        bench.happen((True, 5_990_000 + n, 1))
        bench.run(20 * MILLISECOND)
    at = bench.body("depth?symbol=BTCUSDT")["lastUpdateId"]
    bench.run(SECOND)
    assert [it["U"] for it in bench.heard("btcusdt@depth") if it["U"] <= at < it["u"]]


Written = list[tuple[bool, int, int, int]]
CHANGES = st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 3), st.integers(1, 90))


@given(
    st.lists(CHANGES, min_size=1, max_size=80), st.integers(0, 2_500), st.sampled_from(["depth@100ms", "depth"]),
    st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_depth_and_snapshot_make_the_truth(written: Written, asked_after: int, stream: str, seed: int) -> None:
    """Section 5.7, step by step."""
    bench = Bench(seed=seed)
    bench.happen(BID, ASK)
    bench.run(2 * SECOND)  # the cache has it
    bench.connect(f"/stream?streams=btcusdt@{stream}")
    snapshot: Any = None
    asked = bench.now + asked_after * MILLISECOND
    for bid, offset, size, wait in written:
        price = 6_000_000 - offset if bid else 6_000_100 + offset
        if bench.now >= asked and snapshot is None:
            snapshot = bench.body("depth?symbol=BTCUSDT&limit=5000")
        bench.happen((bid, price, size))
        bench.run(wait * MILLISECOND)
    bench.run(2 * SECOND)
    events = bench.heard(f"btcusdt@{stream}")
    if snapshot is None or (events and snapshot["lastUpdateId"] + 1 < events[0]["U"]):
        snapshot = bench.body("depth?symbol=BTCUSDT&limit=5000")  # step 2: again, and keep the buffer
    assert follows(bench.truth, snapshot, events) == bench.truth.sequence


def follows(truth: Truth, snapshot: Any, events: Sequence[Any]) -> int:
    """Applies events to a snapshot as a client does; after each one the book is the truth at that sequence."""
    last = snapshot["lastUpdateId"]
    sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
    is_the_truth(truth, last, sides)
    for it in events:
        if it["u"] <= last:
            continue
        assert it["U"] <= last + 1
        for side, levels in sides.items():
            for price, size in it[side]:
                levels[price] = size
                if not Decimal(size):
                    del levels[price]
        last = it["u"]
        is_the_truth(truth, last, sides)
    return last


def is_the_truth(truth: Truth, sequence: int, sides: dict[str, dict[str, str]]) -> None:
    book = truth.book_at(sequence)
    assert book is not None
    tick, lot = truth.listing.tick, truth.listing.lot
    for side, levels in (("b", book.bids), ("a", book.asks)):
        assert {Decimal(p): Decimal(q) for p, q in sides[side].items()} == {p * tick: q * lot for p, q in levels}


def market_run(seconds: int, seed: int = 1) -> tuple[Bench, Market]:
    """All streams of all instruments, from the real model."""
    market = Market(seed, LISTINGS["binance"], START, history_ns=2 * MINUTE)
    bench = Bench()
    bench.truths = {symbol: truth for (_, symbol), truth in market.truths.items()}
    bench.venue = Binance(bench.truths, Faults(FaultPlan(), START), seed)
    kinds = ("trade", "aggTrade", "bookTicker", "ticker", "kline_1m", "kline_1s", "depth@100ms", "depth", "depth5")
    bench.connect("/stream?streams=" + "/".join(f"{it.lower()}@{kind}" for it in bench.truths for kind in kinds))
    while (next_order := market.next_wake() or 0) < START + seconds * SECOND:
        bench.run(next_order - bench.now)
        for it in market.wake(bench.now):
            bench.actions += bench.venue.happen(it, bench.now)
    return bench, market


@pytest.fixture(scope="module")
def lively() -> Bench:
    return market_run(20)[0]


def test_streams_of_a_market_agree(lively: Bench) -> None:
    for symbol, truth in lively.truths.items():
        trades, aggregates = lively.heard(f"{symbol.lower()}@trade"), lively.heard(f"{symbol.lower()}@aggTrade")
        assert [it["t"] for it in trades] == list(range(trades[0]["t"], trades[-1]["t"] + 1))
        assert all(it["E"] >= it["T"] for it in trades + aggregates)
        assert all(later["f"] == it["l"] + 1 and later["a"] == it["a"] + 1 for it, later in pairwise(aggregates))
        assert sum(Decimal(it["q"]) for it in trades) == sum(Decimal(it["q"]) for it in aggregates)
        for stream in ("depth", "depth@100ms"):
            events = lively.heard(f"{symbol.lower()}@{stream}")
            assert all(later["U"] == it["u"] + 1 for it, later in pairwise(events))
        seconds = {it["k"]["t"]: it["k"] for it in lively.heard(f"{symbol.lower()}@kline_1s") if it["k"]["x"]}
        for start, kline in list(seconds.items())[1:]:
            inside = [it for it in trades if start <= it["T"] <= kline["T"]]
            assert (kline["n"], Decimal(kline["v"])) == (len(inside), sum(Decimal(it["q"]) for it in inside))
            assert Decimal(kline["q"]) == sum(Decimal(it["p"]) * Decimal(it["q"]) for it in inside)
        for it in lively.heard(f"{symbol.lower()}@bookTicker"):
            book = truth.book_at(it["u"])
            assert book is not None
            tick, lot = truth.listing.tick, truth.listing.lot
            assert [Decimal(it[key]) for key in "bBaA"] == [
                book.bids[0][0] * tick, book.bids[0][1] * lot, book.asks[0][0] * tick, book.asks[0][1] * lot,
            ]


def test_a_market_can_be_followed(lively: Bench) -> None:
    snapshot = lively.body("depth?symbol=ETHUSDT&limit=5000")
    lively.run(SECOND)
    events = lively.heard("ethusdt@depth@100ms")
    assert follows(lively.truths["ETHUSDT"], snapshot, events) == lively.truths["ETHUSDT"].sequence


def test_the_same_seed_says_the_same() -> None:
    assert market_run(2)[0].actions == market_run(2)[0].actions


# --- 7 REST -----------------------------------------------------------------------------------------------------------


def test_ping_and_time(bench: Bench) -> None:
    assert bench.body("ping") == {}
    assert bench.body("time") == {"serverTime": bench.now // MILLISECOND}
    assert bench.body("time", x_mbx_time_unit="MICROSECOND") == {"serverTime": bench.now // 1_000}


def test_exchange_info(bench: Bench) -> None:
    whole = bench.body("exchangeInfo")
    assert [it["symbol"] for it in whole["symbols"]] == ["BTCUSDT", "ETHUSDT"]
    limits = {it["rateLimitType"]: it["limit"] for it in whole["rateLimits"]}
    assert (limits["REQUEST_WEIGHT"], limits["RAW_REQUESTS"]) == (6_000, 300_000)
    one = bench.body("exchangeInfo?symbol=ETHUSDT")["symbols"]
    assert one == [whole["symbols"][1]]
    assert bench.body(f"exchangeInfo?symbols={listed('ETHUSDT')}")["symbols"] == one
    filters = {it["filterType"]: it for it in one[0]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert (filters["LOT_SIZE"]["stepSize"], filters["LOT_SIZE"]["minQty"]) == ("0.00010000", "0.00010000")
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"
    assert bench.body("exchangeInfo?symbolStatus=HALT")["symbols"] == []
    assert len(bench.body("exchangeInfo?permissions=SPOT")["symbols"]) == 2
    assert bench.body(f"exchangeInfo?permissions={listed('LEVERAGED')}")["symbols"] == []


def test_depth_is_cached_at_times(bench: Bench) -> None:
    bench.run(SECOND)
    before = bench.truth.sequence
    seen = []
    for n in range(1, 40):
        bench.happen((True, 5_990_000, n))
        bench.run(100 * MILLISECOND)
        seen.append(bench.body("depth?symbol=BTCUSDT&limit=1")["lastUpdateId"] - before - n)
    assert set(range(-9, 0)) <= set(seen) <= set(range(-10, 1))
    assert seen.count(0) >= 15  # every other second it is as new as the stream


def test_depth_limits_and_weights(bench: Bench) -> None:
    bench.happen(*((True, 5_999_000 - n, 1) for n in range(5_200)))
    bench.run(2 * SECOND)
    for limit, weight, count in (
        ("", 5, 100), ("&limit=1", 5, 1), ("&limit=100", 5, 100), ("&limit=101", 25, 101), ("&limit=500", 25, 500),
        ("&limit=1000", 50, 1_000), ("&limit=5000", 250, 5_000), ("&limit=9999", 250, 5_000),
    ):
        answer = bench.get(f"depth?symbol=BTCUSDT{limit}", client=limit)
        assert len(json.loads(answer.body)["bids"]) == count
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


def test_a_new_listing_has_no_update_id() -> None:
    assert Bench().body("depth?symbol=BTCUSDT") == {"lastUpdateId": -1, "bids": [], "asks": []}


@pytest.mark.parametrize(("target", "weight"), [
    ("ping", 1), ("time", 1), ("exchangeInfo", 20), ("trades?symbol=BTCUSDT", 25), ("aggTrades?symbol=BTCUSDT", 4),
    ("historicalTrades?symbol=BTCUSDT", 25), ("klines?symbol=BTCUSDT&interval=1m", 2),
    ("uiKlines?symbol=BTCUSDT&interval=1m", 2),
    ("ticker/24hr?symbol=BTCUSDT", 2), ("ticker/24hr", 80), (f"ticker/24hr?symbols={listed('BTCUSDT')}", 2),
    ("ticker/price?symbol=BTCUSDT", 2), ("ticker/price", 4), ("ticker/bookTicker?symbol=BTCUSDT", 2),
    ("ticker/bookTicker", 4),
])
def test_weights(bench: Bench, target: str, weight: int) -> None:
    assert bench.get(target).headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


def test_trades_and_history(bench: Bench) -> None:
    for n in range(30):
        bench.happen(trades=[(6_000_000 + n, 100, n % 2 == 0)])
    newest = bench.body("trades?symbol=BTCUSDT&limit=2")
    assert [it["id"] for it in newest] == [5_000_000_028, 5_000_000_029]
    assert newest[-1] == {
        "id": 5_000_000_029, "price": "60000.29000000", "qty": "0.00100000", "quoteQty": "60.00029000",
        "time": bench.truth.time // MILLISECOND, "isBuyerMaker": True, "isBestMatch": True,
    }
    assert bench.body("historicalTrades?symbol=BTCUSDT&limit=2") == newest
    paged = bench.body("historicalTrades?symbol=BTCUSDT&fromId=5000000003&limit=2")
    assert [it["id"] for it in paged] == [5_000_000_003, 5_000_000_004]
    assert bench.body("historicalTrades?symbol=BTCUSDT&fromId=5000000030") == []
    assert len(bench.body("trades?symbol=BTCUSDT&limit=1001")) == 30


def test_aggregates_paging(bench: Bench) -> None:
    for n in range(30):
        bench.happen(trades=[(6_000_000 + n, 100, True), (6_000_000 + n, 50, True)])
        bench.run(SECOND)
    every = bench.body("aggTrades?symbol=BTCUSDT")
    assert len(every) == 30
    assert list(every[0]) == ["a", "p", "q", "f", "l", "T", "m", "M"]
    page = f"aggTrades?symbol=BTCUSDT&fromId={every[7]['a']}"
    assert bench.body(f"{page}&limit=3") == every[7:10]
    assert bench.body("aggTrades?symbol=BTCUSDT&fromId=0&limit=3") == every[:3]
    assert bench.body(f"aggTrades?symbol=BTCUSDT&fromId={every[-1]['a'] + 1}") == []
    time = every[10]["T"]
    assert bench.body(f"aggTrades?symbol=BTCUSDT&startTime={time}&limit=4") == every[10:14]
    assert bench.body(f"aggTrades?symbol=BTCUSDT&endTime={time}&limit=4") == every[7:11]
    assert bench.body(f"aggTrades?symbol=BTCUSDT&startTime={time}&endTime={time + 2_000}") == every[10:13]
    assert bench.body(f"aggTrades?symbol=BTCUSDT&startTime={time + 2_000}&endTime={time}") == []
    assert bench.refusal(f"aggTrades?symbol=BTCUSDT&fromId=1&startTime={time}") == -1128


def test_aggregates_survive_forgotten_matches() -> None:
    truth = Truth(BTC, START, 1, 1_000, matches_kept=100)
    aggregates = Aggregates(truth)
    for n in range(9_000):
        truth.happen(START + 1 + n, [(True, 100, n + 1)], [(100, 1, True), (100, 2, True)])
        aggregates.catch_up()
    assert truth.matches[0].id > 1_000
    found = aggregates.from_id(0, 5)
    assert [it.id - 700 for it in found] == [(it.first - 1_000) // 2 for it in found]
    assert found[0].first >= truth.matches[0].id
    assert aggregates.newest(3)[-1].last == truth.matches[-1].id


def test_klines_order_and_open_row(bench: Bench) -> None:
    for n in range(10):
        bench.happen(trades=[(6_000_000 + n, 100_000, True)])
        bench.run(MINUTE)
    bench.run(5 * SECOND)
    rows = bench.body("klines?symbol=BTCUSDT&interval=1m")
    assert bench.body("uiKlines?symbol=BTCUSDT&interval=1m") == rows
    assert [it[0] for it in rows] == [START // MILLISECOND + 60_000 * n for n in range(11)]
    assert rows[-1][6] > bench.now // MILLISECOND
    assert rows[-1][8] == 0
    assert rows[0] == [
        START // MILLISECOND, *["60000.00000000"] * 4, "1.00000000", START // MILLISECOND + 59_999, "60000.00000000", 1,
        "1.00000000", "60000.00000000", "0",
    ]
    start = rows[3][0]
    assert bench.body("klines?symbol=BTCUSDT&interval=1m&limit=2") == rows[-2:]
    assert bench.body(f"klines?symbol=BTCUSDT&interval=1m&startTime={start}&limit=2") == rows[3:5]
    assert bench.body(f"klines?symbol=BTCUSDT&interval=1m&startTime={start - 1}&limit=2") == rows[3:5]
    assert bench.body(f"klines?symbol=BTCUSDT&interval=1m&endTime={start}&limit=2") == rows[2:4]
    assert bench.body(f"klines?symbol=BTCUSDT&interval=1m&startTime={start}&endTime={start + 120_000}") == rows[3:6]
    assert bench.body(f"klines?symbol=BTCUSDT&interval=1m&startTime={start}&endTime={start - 60_000}") == []
    assert bench.body("klines?symbol=BTCUSDT&interval=1m&startTime=99999999999999") == []
    assert bench.body("klines?symbol=ETHUSDT&interval=1m") == []


def test_klines_of_every_interval(lively: Bench) -> None:
    truth = lively.truths["BTCUSDT"]
    for name in INTERVALS:
        rows = lively.body(f"klines?symbol=BTCUSDT&interval={name}&limit=1000")
        assert sum(it[8] for it in rows) == len(truth.matches)
        assert sum(Decimal(it[5]) for it in rows) == sum(it.size for it in truth.matches) * truth.listing.lot
        assert all(later[0] == it[6] + 1 for it, later in pairwise(rows))
        assert rows[-1][0] <= lively.now // MILLISECOND <= rows[-1][6]


def test_weeks_begin_on_mondays_and_months_on_the_first() -> None:
    assert INTERVALS["1w"].floor(START) == 1_789_948_800 * SECOND  # 2026-09-21
    assert INTERVALS["1M"].floor(START) == 1_788_220_800 * SECOND
    assert INTERVALS["1M"].after(1_788_220_800 * SECOND) == 1_790_812_800 * SECOND


def test_tickers(lively: Bench) -> None:
    full = lively.body("ticker/24hr?symbol=ETHUSDT")
    streamed = lively.heard("ethusdt@ticker")[-1]
    assert set(lively.body("ticker/24hr?symbol=ETHUSDT&type=MINI").items()) <= set(full.items())
    assert full["firstId"] == streamed["F"]
    assert len(lively.body("ticker/24hr")) == len(lively.truths)
    assert lively.body("ticker/price?symbol=ETHUSDT") == {"symbol": "ETHUSDT", "price": full["lastPrice"]}
    best = lively.body("ticker/bookTicker?symbol=ETHUSDT")
    assert best == {key: full[key] for key in ("symbol", "bidPrice", "bidQty", "askPrice", "askQty")}
    assert [it["symbol"] for it in lively.body("ticker/price")] == list(lively.truths)


@pytest.mark.parametrize(("target", "code"), [
    ("depth", -1102), ("depth?symbol=", -1102), ("depth?symbol=NOTHING", -1121), ("depth?symbol=btcusdt", -1100),
    ("depth?symbol=BTCUSDT&limit=0", -1130), ("depth?symbol=BTCUSDT&limit=x", -1100),
    ("depth?symbol=BTCUSDT&x=1", -1104), ("depth?symbol=BTCUSDT&limit=-5", -1100),
    ("depth?symbol=BTCUSDT&symbol=BTCUSDT", -1101),
    ("klines?symbol=BTCUSDT", -1102), ("klines?symbol=BTCUSDT&interval=7m", -1120),
    ("klines?symbol=BTCUSDT&interval=1m&startTime=x", -1100), ("klines?symbol=BTCUSDT&interval=1m&timeZone=8", -1130),
    ("ticker/24hr?symbol=BTCUSDT&type=X", -1130), (f"ticker/24hr?symbol=BTCUSDT&symbols={listed('BTCUSDT')}", -1128),
    (f"ticker/price?symbols={listed('NOTHING')}", -1121), ("ticker/price?symbols=BTCUSDT", -1100),
    ("exchangeInfo?symbol=NOTHING", -1121), ("aggTrades?symbol=BTCUSDT&fromId=1&endTime=1", -1128),
])
def test_refusals(bench: Bench, target: str, code: int) -> None:
    assert bench.refusal(target) == code


def test_unknown_path_and_method(bench: Bench) -> None:
    assert bench.get("nothing").status == 404
    assert bench.venue.request("GET", "/", bench.now, {}, "c").status == 404
    assert bench.venue.request("POST", "/api/v3/ping", bench.now, {}, "c").status == 405


@given(st.text(st.characters(codec=None), max_size=40), st.sampled_from(["", "GET", "DELETE"]))
@settings(max_examples=200, deadline=None)
def test_hostile_requests_are_answered(text: str, method: str) -> None:
    bench = Bench()
    for target in (text, f"/api/v3/klines?{text}", f"/api/v3/depth?symbol=BTCUSDT&limit={text}",
                   f"/api/v3/exchangeInfo?symbols={text}"):
        assert bench.venue.request(method, target, bench.now, {}, "c").status in (200, 400, 404, 405)


@given(st.text(st.characters(codec=None), max_size=20))
@settings(max_examples=200, deadline=None)
def test_hostile_targets_connect_or_are_rejected(text: str) -> None:
    for target in (text, f"/ws/{text}", f"/stream?streams={text}@trade", f"/stream?{text}"):
        bench = Bench()
        with suppress(Rejected):
            bench.connect(target)
            assert "result" in bench.say({"method": "LIST_SUBSCRIPTIONS", "id": 1})


# --- 9 limits ---------------------------------------------------------------------------------------------------------


def test_429_until_the_minute_is_over(bench: Bench) -> None:
    bench.now = START + 47 * SECOND
    for _ in range(WEIGHT // 250):
        assert bench.get("depth?symbol=BTCUSDT&limit=5000").status == 200
    answer = bench.get("ping")
    assert (answer.status, answer.headers["Retry-After"]) == (429, "13")
    assert json.loads(answer.body)["code"] == -1003
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "6001"
    assert bench.get("ping", client="another").status == 200
    bench.now += 13 * SECOND
    answer = bench.get("ping")
    assert (answer.status, answer.headers["X-MBX-USED-WEIGHT-1M"]) == (200, "1")


def test_418_for_those_who_do_not_listen(bench: Bench) -> None:
    def overdo() -> list[int]:
        return [bench.get("depth?symbol=BTCUSDT&limit=5000").status for _ in range(24 + PATIENCE)]

    assert set(overdo()) == {200, 429}
    answer = bench.get("ping")
    assert (answer.status, answer.headers["Retry-After"]) == (418, "120")
    assert "banned until" in json.loads(answer.body)["msg"]
    bench.now += 100 * SECOND
    assert bench.get("ping").headers["Retry-After"] == "120"  # each further request extends it
    bench.now += 121 * SECOND
    assert set(overdo()) == {200, 429}
    assert bench.get("ping").headers["Retry-After"] == "240"


# --- faults -----------------------------------------------------------------------------------------------------------


def test_skipped_sequences() -> None:
    bench = Bench(fault(FaultKind.SKIP_SEQUENCE, at=0.0, lasts=5.0, symbol="BTCUSDT"))
    bench.connect("/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@aggTrade/ethusdt@depth@100ms")
    for _ in range(2):
        bench.happen(BID, trades=[(6_000_000, 1, True)])
        bench.happen(BID, symbol="ETHUSDT")
        bench.happen(ASK)
        bench.run(6 * SECOND)
    before = bench.truth.sequence
    bench.happen((True, 5_999_000, 1), trades=[(6_000_000, 1, True)])
    bench.run(SECOND)
    assert [it["U"] for it in bench.heard("btcusdt@depth@100ms")] == [before + 1]
    assert [it["t"] - 5_000_000_000 for it in bench.heard("btcusdt@trade")] == [1, 2]
    assert [it["f"] - 5_000_000_000 for it in bench.heard("btcusdt@aggTrade")] == [1, 2]
    assert len(bench.heard("ethusdt@depth@100ms")) == 1


def test_stale_snapshots() -> None:
    bench = Bench(fault(FaultKind.STALE_SNAPSHOT, at=10.0, seconds=7.0))
    for n in range(20):
        bench.happen((True, 5_990_000, n + 1))
        bench.run(SECOND - 1)
    book = bench.truth.book_at_time(bench.now - 7 * SECOND)
    assert book is not None
    assert bench.body("depth?symbol=BTCUSDT")["lastUpdateId"] == book.sequence < bench.truth.sequence - 5


def test_clock_skew() -> None:
    bench = Bench(fault(FaultKind.CLOCK_SKEW, seconds=-3.0))
    bench.connect("/stream?streams=btcusdt@trade")
    bench.happen(BID, trades=[(6_000_000, 1, True)])
    shown = (bench.now - 3 * SECOND) // MILLISECOND
    assert [(it["E"], it["T"]) for it in bench.heard("btcusdt@trade")] == [(shown, shown)]
    assert bench.body("time") == {"serverTime": shown}
    assert [it["time"] for it in bench.body("trades?symbol=BTCUSDT")] == [shown]
    assert len(bench.body(f"aggTrades?symbol=BTCUSDT&startTime={shown}&endTime={shown}")) == 1


def test_refused_symbols() -> None:
    bench = Bench(fault(FaultKind.REFUSE_SYMBOL, symbol="BTCUSDT", lasts=2.0))
    bench.connect("/stream?streams=btcusdt@trade")
    assert bench.subscribe("ethusdt@trade", "btcusdt@trade")["code"] == 2
    assert bench.subscribe("ethusdt@trade") == {"result": None, "id": 1}
    assert bench.say({"method": "LIST_SUBSCRIPTIONS", "id": 1})["result"] == ["ethusdt@trade"]
    bench.run(2 * SECOND)
    assert bench.subscribe("btcusdt@trade") == {"result": None, "id": 1}


def test_frames_are_marked_for_the_faults(lively: Bench) -> None:
    marks = {(it.symbol, it.channel) for it in lively.actions if isinstance(it, Frame)}
    assert {(symbol, channel) for symbol in lively.truths
            for channel in ("trades", "book", "quotes", "ticker", "candles")} == marks


def test_written_once_for_all_listeners(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@trade", 1)
    bench.connect("/stream?streams=btcusdt@trade", 2)
    first, second = bench.happen(trades=[(6_000_000, 1, True)])
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert first.data is second.data


def test_nobody_listens_and_nothing_is_said(bench: Bench) -> None:
    bench.connect("/stream?streams=btcusdt@depth@100ms/btcusdt@trade")
    bench.venue.disconnect(1, bench.now)
    bench.actions.clear()
    assert bench.happen(BID, trades=[(6_000_000, 1, True)]) == []
    assert bench.run(MINUTE) == []
    assert bench.venue.next_wake() is None


# --- the shapes of real frames ----------------------------------------------------------------------------------------


def shape(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every path in there, and what stands at its end: of decimals as text, the digits after the point too."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from shape(inner, f"{path}.{key}")
    elif isinstance(value, list):
        mixed = len({type(it) for it in value}) > 1  # a row: the position counts
        for index, inner in enumerate(value):
            yield from shape(inner, f"{path}[{index if mixed else ''}]")
    elif isinstance(value, str) and (found := re.fullmatch(r"-?\d+\.(\d+)", value)):
        yield path, f"decimal with {len(found.group(1))} digits"
    else:
        yield path, type(value).__name__


def shapes(values: Sequence[object]) -> set[tuple[str, str]]:
    return {it for value in values for it in shape(value)}


def lines(path: Path) -> list[Any]:
    return [json.loads(it) for it in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("stream", ["depth@100ms", "bookTicker", "aggTrade", "kline_1m", "trade"])
def test_shape_of_stream(recordings: Path, lively: Bench, stream: str) -> None:
    folder = recordings / "binance"
    recorded = [
        it["data"]
        for name in ("spot_20210814_4sym", "spot_20211012_4sym", "spot_20240808_ethusdt")
        for it in lines(folder / f"{name}.jsonl") if it["stream"].partition("@")[2] == stream
    ]
    simulated = [it for symbol in lively.truths for it in lively.heard(f"{symbol.lower()}@{stream}")]
    assert recorded
    assert shapes(simulated) == shapes(recorded)
    assert {tuple(it) for it in simulated} == {tuple(it) for it in recorded}  # even the order of the keys


def test_shape_of_ticker_and_partial_depth(recordings: Path, lively: Bench) -> None:
    samples = lines(recordings / "binance" / "samples" / "crypto_msg_parser_raw.jsonl")
    ticker = next(it["data"] for it in samples if it.get("stream") == "ethusdt@ticker" and "x" in it["data"])
    assert shapes(lively.heard("ethusdt@ticker")) == shapes([ticker])
    assert tuple(lively.heard("ethusdt@ticker")[0]) == tuple(ticker)
    partial = next(it["data"] for it in samples if "lastUpdateId" in it.get("data", ()))
    assert shapes(lively.heard("ethusdt@depth5")) == shapes([partial])


@pytest.mark.parametrize(("pattern", "target"), [
    ("api_v3_depth_*", "depth?symbol=ETHUSDT"),
    ("api_v3_trades_*", "trades?symbol=ETHUSDT"),
    ("api_v3_aggTrades_*", "aggTrades?symbol=ETHUSDT"),
    ("api_v3_klines_*", "klines?symbol=ETHUSDT&interval=1m"),
    ("api_v3_ticker_24hr_[012]*", "ticker/24hr?symbol=ETHUSDT"),
    ("api_v3_ticker_24hr_[34]*", "ticker/24hr"),
])
def test_shape_of_rest(recordings: Path, lively: Bench, pattern: str, target: str) -> None:
    files = sorted((recordings / "binance" / "samples" / "gct_rest").glob(f"{pattern}.json"))
    assert files
    recorded = [json.loads(it.read_text("utf-8")) for it in files]
    nameless = {("[].", "bool")}  # in one recorded file a key has lost its name
    assert shapes([lively.body(target)]) == shapes(recorded) - nameless


def test_shape_of_recorded_snapshots(recordings: Path, lively: Bench) -> None:
    folder = recordings / "binance"
    files = [*folder.glob("spot_*.rest/*_depth_*.json"), folder / "spot_20240808_ethusdt.rest_depth.json"]
    recorded = [json.loads(it.read_text("utf-8")) for it in files]
    bodies = [lively.body(f"depth?symbol={symbol}&limit=5000") for symbol in lively.truths]
    assert len(files) == 9
    assert shapes(bodies) == shapes(recorded)


def test_shape_of_exchange_info(recordings: Path, lively: Bench) -> None:
    """The filters of ours are among theirs; all that section 7 reads is there."""
    path = recordings / "binance" / "samples" / "gct_rest" / "api_v3_exchangeInfo_0.json"
    recorded, simulated = json.loads(path.read_text("utf-8")), lively.body("exchangeInfo")
    assert set(simulated) == set(recorded)
    assert set(simulated["symbols"][0]) == set(recorded["symbols"][0])
    theirs = {it["filterType"]: shapes([it]) for symbol in recorded["symbols"] for it in symbol["filters"]}
    ours = {it["filterType"]: shapes([it]) for symbol in simulated["symbols"] for it in symbol["filters"]}
    assert ours.items() <= theirs.items()
    assert shapes([simulated["rateLimits"]]) == shapes([recorded["rateLimits"]])
