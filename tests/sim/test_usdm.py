"""The simulated USD-M against the protocol page, section by section, and against what the real one sent."""
import json
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Close, Frame, Listing, Ping, Rejected, Response, SimVenue
from onetape.sim.credentials import KEY
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.listings import LISTINGS
from onetape.sim.market import Market
from onetape.sim.truth import Truth
from onetape.sim.venues.binance_budget import PATIENCE, USDM_WEIGHT
from onetape.sim.venues.usdm import QUIRKS, BinanceUsdm
from onetape.sim.venues.usdm_streams import INTERVALS
from onetape.sim.venues.usdm_tape import EVERY, is_followed, is_retail, match_from, trade_id
from tests.sim.test_binance import Bench as SpotBench
from tests.sim.test_binance import fault, is_the_truth, lines, shapes

START = 1_790_000_040 * SECOND  # a round minute
FIRST = 5_000_000_000  # match: FIRST % 9 == 2, FIRST % 40 == 0
BTC = Listing(
    venue="binance-usdm", symbol="BTCUSDT", base="BTC", quote="USDT", tick=Decimal("0.10"), lot=Decimal("0.001"),
)
DOGE = Listing(
    venue="binance-usdm", symbol="DOGEUSDT", base="DOGE", quote="USDT", tick=Decimal("0.000010"), lot=Decimal(1),
)
BID, ASK = (True, 600_000, 500), (False, 600_010, 700)
NEW_KEYS = {".nq", ".st", ".ps"}  # since 2026: newer than the recordings


class Bench(SpotBench):
    """The venue on a virtual clock, with what every connection has heard."""

    def __init__(self, *faults: Fault, seed: int = 1) -> None:
        super().__init__()
        self.truths = {it.symbol: Truth(it, START - HOUR, 70_000_000_000, FIRST) for it in (BTC, DOGE)}
        self.venue: SimVenue = BinanceUsdm(self.truths, Faults(FaultPlan(faults=faults), START), seed)

    def get(self, target: str, client: str = "1.2.3.4", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.venue.request("GET", f"/fapi/v1/{target}", self.now, named, client)

    def to_beat(self) -> None:
        """To just after the end of a batch: what follows within 99 ms is one."""
        self.connect("/market/stream?streams=dogeusdt@aggTrade", 99)
        wake = self.venue.next_wake()
        assert wake is not None
        self.run(wake - self.now)
        self.venue.disconnect(99, self.now)


@pytest.fixture
def bench() -> Bench:
    it = Bench()
    it.happen(BID, ASK)
    it.happen((True, 16_000, 500), (False, 16_010, 700), symbol="DOGEUSDT")
    return it


def test_is_a_venue(bench: Bench) -> None:
    assert (bench.venue.name, bench.venue.book_clock_ns) == ("binance-usdm", 0)
    assert bench.body(bench.venue.instruments_path.removeprefix("/fapi/v1/"))["symbols"]


def test_every_quirk_has_its_test() -> None:
    assert all(callable(globals().get(test)) for _, _, test in QUIRKS), [it for it in QUIRKS if it[2] not in globals()]


# --- 1 URLs and routes ------------------------------------------------------------------------------------------------


PUBLIC = ("depth@100ms", "depth", "depth5@500ms", "bookTicker", "trade")
MARKET = ("aggTrade", "kline_1m", "ticker")


@pytest.mark.parametrize(("route", "told"), [
    ("/public", set(PUBLIC)), ("/market", set(MARKET)), ("", set(PUBLIC)), ("/private", set()),
])
def test_routes(bench: Bench, route: str, told: set[str]) -> None:
    names = [f"btcusdt@{it}" for it in PUBLIC + MARKET]
    bench.connect(f"{route}/stream")
    bench.connect(f"{route}/stream?streams={'/'.join(names)}", 2)
    assert bench.subscribe(*names) == {"result": None, "id": 1}
    assert bench.say({"method": "LIST_SUBSCRIPTIONS", "id": 2})["result"] == names
    bench.happen((True, 600_001, 1), trades=[(600_001, 7, True)])
    bench.run(3 * SECOND)
    for connection in (1, 2):
        heard = {it["stream"] for it in bench.heard(connection=connection) if "stream" in it}
        assert heard == {f"btcusdt@{it}" for it in told}
    assert bench.say({"method": "SET_PROPERTY", "params": ["combined", False], "id": 1})["result"] is None
    bench.actions.clear()
    bench.happen((True, 600_002, 1), trades=[(600_002, 7, True)])
    bench.run(3 * SECOND)
    assert {it["e"] for it in bench.heard()} == {it["data"]["e"] for it in bench.heard(connection=2)}


def test_url_forms(bench: Bench) -> None:
    bench.connect("/public/ws/btcusdt@trade/dogeusdt@trade?timeUnit=MICROSECOND", 1)
    bench.connect("/public/stream?streams=btcusdt@trade/dogeusdt@trade", 2)
    bench.connect("/ws/btcusdt@trade/dogeusdt@trade", 3)
    bench.happen(trades=[(600_000, 7, True)])
    bench.happen(trades=[(16_000, 8, True)], symbol="DOGEUSDT")
    assert [it["s"] for it in bench.heard()] == ["BTCUSDT", "DOGEUSDT"]
    assert [it["data"] for it in bench.heard(connection=2)] == bench.heard() == bench.heard(connection=3)
    assert bench.heard()[1]["T"] == bench.truths["DOGEUSDT"].time // MILLISECOND


@pytest.mark.parametrize("target", ["/", "/public", "/nothing/stream", "/public/stream/btcusdt@trade", "", "/market/"])
def test_unknown_path_is_no_websocket(bench: Bench, target: str) -> None:
    with pytest.raises(Rejected) as caught:
        bench.connect(target)
    assert caught.value.status == 404


# --- 2 connections ----------------------------------------------------------------------------------------------------


def test_ping_every_3_minutes(bench: Bench) -> None:
    bench.connect("/public/stream")
    began = bench.now
    bench.run(9 * MINUTE)
    assert len([it for it in bench.actions if isinstance(it, Ping)]) == 3
    bench.run(5 * MINUTE)
    assert bench.closes() == [Close(1, 1008, "Pong timeout")]
    ends = began + 13 * MINUTE  # ten minutes after the first ping
    assert bench.now >= ends
    bench.connect("/public/stream", 2)
    bench.answer_pings(20 * MINUTE)
    assert len(bench.closes()) == 1


def test_ten_messages_a_second(bench: Bench) -> None:
    bench.connect("/public/stream")
    for _ in range(10):
        assert bench.venue.receive(1, b'{"method":"LIST_SUBSCRIPTIONS","id":1}', bench.now)
    bench.now += SECOND
    for _ in range(10):
        assert bench.venue.pong(1, b"", bench.now) == []
    assert bench.venue.pong(1, b"", bench.now) == [Close(1, 1008, "Too many requests")]


def test_limits_of_both_markets(bench: Bench) -> None:
    bench.connect("/public/stream?streams=" + "/".join(f"x{number}@trade" for number in range(1_024)))
    assert bench.subscribe("btcusdt@trade") == {"error": {"code": 4, "msg": "Too many subscriptions"}, "id": 1}
    bench.answer_pings(DAY + SECOND)
    assert [it.code for it in bench.closes()] == [1001]
    for number in range(2, 302):
        bench.connect("/public/stream", number)
    with pytest.raises(Rejected) as caught:
        bench.connect("/public/stream", 302)
    assert caught.value.status == 429


def test_notice_then_close() -> None:
    bench = Bench(fault(FaultKind.NOTICE, at=5.0, lasts=1.0))
    bench.connect("/public/stream", 1)
    bench.connect("/market/ws", 2)
    bench.run(14 * SECOND)
    assert bench.heard() == [{"stream": "!serverShutdown", "data": bench.heard(connection=2)[0]}]
    assert bench.heard(connection=2) == [{"e": "serverShutdown", "E": (START + 5 * SECOND) // MILLISECOND}]
    bench.run(2 * SECOND)
    assert sorted(it.connection for it in bench.closes()) == [1, 2]


# --- 3 control frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "nothing@trade", "BTCUSDT@trade", "btcusdt@miniTicker", "btcusdt@markPrice@1s", "btcusdt@depth@0ms",
    "btcusdt@rpiDepth@500ms", "!ticker@arr", "!bookTicker", "!contractInfo", "btcusdt@forceOrder",
    "btcusdt_261225@aggTrade", "btcusdt@continuousKline_1m", "btcusdt@kline_1s", "btcusdt@depth@1000ms",
    "btcusdt@nonsense", "btcusdt@kline_1m@+08:00", "!nothing@arr",
])
def test_names_of_streams(bench: Bench, name: str) -> None:
    bench.connect("/market/stream")
    bad = {"code": 2, "msg": "Invalid request: invalid stream", "id": 1}
    is_bad = name.endswith(("1s", "1000ms", "nonsense", "+08:00", "!nothing@arr", "t@continuousKline_1m"))
    is_bad = is_bad and "markPrice" not in name
    assert bench.subscribe("btcusdt@aggTrade", name) == (bad if is_bad else {"result": None, "id": 1})
    bench.actions.clear()
    bench.happen((True, 600_001, 1), trades=[(600_001, 7, True)])
    bench.run(5 * SECOND)
    assert {it["stream"] for it in bench.heard()} == (set() if is_bad else {"btcusdt@aggTrade"})


@given(st.text(st.characters(codec=None), max_size=30))
@settings(max_examples=200, deadline=None)
def test_hostile_input_is_answered(text: str) -> None:
    bench = Bench()
    for connection, target in enumerate((text, f"/public/{text}", f"/market/stream?streams={text}@trade")):
        with suppress(Rejected):
            bench.connect(target, connection)
    bench.connect("/public/ws", 9)
    for said in (text, {"method": "SUBSCRIBE", "params": [text], "id": 1}, {"method": text}):
        answer = bench.say(said, 9)
        assert "result" in answer or "code" in answer
    for target in (f"/{text}", f"/fapi/v1/klines?{text}", f"/fapi/v1/depth?symbol=BTCUSDT&limit={text}",
                   f"/fapi/v1/aggTrades?symbol={text}", f"/fapi/v1/historicalTrades?fromId={text}"):
        statuses = (200, 400, 401, 404, 405)
        assert bench.venue.request("GET", target, bench.now, {"X-MBX-APIKEY": text}, "c").status in statuses


# --- 6 streams --------------------------------------------------------------------------------------------------------


def test_aggregates_of_100_ms(bench: Bench) -> None:
    bench.connect("/market/stream?streams=btcusdt@aggTrade")
    bench.to_beat()
    began = bench.now
    bench.happen(trades=[(600_000, 1, True), (600_000, 2, True), (600_001, 3, True)])
    first = bench.now
    bench.run(40 * MILLISECOND)
    bench.happen(trades=[(600_001, 4, True)])
    bench.happen(trades=[(600_001, 5, False)])
    assert bench.heard() == []
    bench.run(59 * MILLISECOND)
    bench.happen(trades=[(600_001, 6, False)])
    bench.run(60 * MILLISECOND)
    one, two, three = bench.heard("btcusdt@aggTrade")
    assert one == {
        "e": "aggTrade", "E": (began + 100 * MILLISECOND) // MILLISECOND, "s": "BTCUSDT", "a": FIRST * 7 // 10,
        "p": "60000.00", "q": "0.003", "nq": "0.003", "f": trade_id(FIRST), "l": trade_id(FIRST + 1),
        "T": first // MILLISECOND, "m": False, "st": 1,
    }
    assert [(it["a"] - one["a"], it["q"], it["m"]) for it in (two, three)] == [(1, "0.007", False), (2, "0.011", True)]
    bench.happen(trades=[(600_001, 7, False)])
    bench.run(100 * MILLISECOND)
    assert [it["q"] for it in bench.heard("btcusdt@aggTrade")[3:]] == ["0.007"]
    assert list(one) == ["e", "E", "s", "a", "p", "q", "nq", "f", "l", "T", "m", "st"]


def test_who_comes_late_hears_whole_aggregates(bench: Bench) -> None:
    bench.to_beat()
    bench.happen(trades=[(600_000, 1, True)])
    bench.connect("/market/stream?streams=btcusdt@aggTrade")
    bench.happen(trades=[(600_000, 2, True)])
    bench.run(100 * MILLISECOND)
    assert [it["q"] for it in bench.heard("btcusdt@aggTrade")] == ["0.003"]


def test_quantity_without_retail(bench: Bench) -> None:
    bench.connect("/market/stream?streams=btcusdt@aggTrade")
    bench.to_beat()
    bench.happen(trades=[(600_000, n, True) for n in range(1, 10)])
    bench.run(100 * MILLISECOND)
    (it,) = bench.heard("btcusdt@aggTrade")
    rows = bench.body("trades?symbol=BTCUSDT")
    assert it["q"] == "0.045"
    assert sum(Decimal(row["qty"]) for row in rows if not row["isRPITrade"]) == Decimal(it["nq"]) < Decimal(it["q"])


def test_off_book_prints(bench: Bench) -> None:
    bench.connect("/public/stream?streams=btcusdt@trade")
    bench.connect("/market/stream?streams=btcusdt@aggTrade", 2)
    for n in range(4 * EVERY):
        bench.happen(trades=[(600_000, n + 1, False)])
        bench.run(30 * MILLISECOND)
    bench.run(SECOND)
    heard = bench.heard("btcusdt@trade")
    first = heard[0]
    assert list(first) == ["e", "E", "T", "s", "t", "p", "q", "X", "m"]
    assert (first["t"], first["p"], first["q"], first["X"], first["m"]) == (
        trade_id(FIRST), "60000.00", "0.001", "MARKET", True,
    )
    assert [later["t"] - it["t"] for it, later in pairwise(heard)] == [1] * (4 * EVERY + 3)
    off = [it for it in heard if it["X"] != "MARKET"]
    assert {it["X"] for it in off} == {"INSURANCE_FUND", "ADL", "NA"}
    assert {it["p"] for it in off} == {"58200.00", "0.00"}
    assert len(bench.body("trades?symbol=BTCUSDT")) == 4 * EVERY
    assert not {it["id"] for it in bench.body("trades?symbol=BTCUSDT")} & {it["t"] for it in off}
    told = bench.heard("btcusdt@aggTrade", 2)
    assert {later["f"] - it["l"] for it, later in pairwise(told)} == {1, 2}
    assert {later["a"] - it["a"] for it, later in pairwise(told)} == {1}


@given(st.integers(0, 10**12))
def test_ids_lead_back_to_matches(match: int) -> None:
    id = trade_id(match)
    assert match_from(id) == match
    assert trade_id(match + 1) == id + 1 + is_followed(match)
    assert match_from(id + 1) == match + 1
    assert sum(is_retail(it) for it in range(match, match + 9)) == 1


def test_best_prices(bench: Bench) -> None:
    bench.connect("/public/stream?streams=btcusdt@bookTicker")
    bench.happen((True, 599_000, 1))
    assert bench.heard() == []
    bench.happen((True, 600_000, 600))
    time = bench.now // MILLISECOND
    assert bench.heard("btcusdt@bookTicker") == [{
        "e": "bookTicker", "u": bench.truth.sequence, "E": time, "T": time, "s": "BTCUSDT", "ps": "BTCUSDT",
        "b": "60000.00", "B": "0.600", "a": "60001.00", "A": "0.700", "st": 1,
    }]


def test_ticker(bench: Bench) -> None:
    bench.connect("/market/stream?streams=btcusdt@ticker")
    bench.happen(trades=[(600_000, 1_000, True)])
    bench.happen(trades=[(606_000, 1_000, True)])
    bench.run(6 * SECOND)
    heard = bench.heard("btcusdt@ticker")
    assert [later["E"] - it["E"] for it, later in pairwise(heard)] == [2_000, 2_000]
    it = heard[-1]
    assert not set("xbBaA") & set(it)
    assert (it["p"], it["P"], it["w"], it["n"], it["F"]) == ("600.00", "1.000", "60300.00", 2, trade_id(FIRST))
    assert (it["o"], it["c"], it["v"], it["q"], it["st"]) == ("60000.00", "60600.00", "2.000", "120600.00", 1)
    assert it["ps"] == "BTCUSDT"
    rest = bench.body("ticker/24hr?symbol=BTCUSDT")
    assert (rest["lastPrice"], rest["quoteVolume"], rest["lastId"]) == (it["c"], it["q"], it["L"])
    assert not {"bidPrice", "askPrice", "prevClosePrice"} & set(rest)
    assert [it["symbol"] for it in bench.body("ticker/24hr")][:2] == ["BTCUSDT", "DOGEUSDT"]


def test_klines(bench: Bench) -> None:
    bench.connect("/market/stream?streams=btcusdt@kline_1m")
    bench.happen(trades=[(600_000, 1_000, True)])
    bench.run(30 * SECOND)
    assert len(bench.heard("btcusdt@kline_1m")) == 1
    bench.happen(trades=[(600_010, 2_001, False)])
    bench.run(31 * SECOND)
    bench.happen(trades=[(600_020, 1, False)])
    bench.run(SECOND)
    _, running, closed, begun = [it["k"] | {"E": it["E"]} for it in bench.heard("btcusdt@kline_1m")]
    assert (running["x"], closed["x"], begun["x"]) == (False, True, False)
    assert 0 < closed["E"] - closed["T"] <= 250
    assert (closed["o"], closed["c"], closed["v"], closed["n"], closed["q"]) == (
        "60000.00", "60001.00", "3.001", 2, "180062.00100",
    )
    assert (closed["f"], closed["L"]) == (trade_id(FIRST), trade_id(FIRST + 1))
    assert (begun["n"], begun["f"], begun["o"]) == (1, trade_id(FIRST + 2), "60002.00")


def test_depth_is_a_chain(bench: Bench) -> None:
    names = ("depth@100ms", "depth", "depth@500ms")
    bench.connect("/public/stream?streams=" + "/".join(f"btcusdt@{it}" for it in names))
    before = bench.truth.sequence
    for n in range(40):
        bench.happen((True, 599_000 - n, 1), (False, 601_000 + n, n + 1), (True, 599_500, n + 1))
        bench.run(50 * MILLISECOND - 1)
    bench.run(SECOND)
    for name, period in zip(names, (100, 250, 500), strict=True):
        events = bench.heard(f"btcusdt@{name}")
        assert {later["E"] - it["E"] for it, later in pairwise(events)} == {period}
        assert events[0]["pu"] == before
        assert all(later["pu"] == it["u"] and later["U"] > it["u"] + 1 for it, later in pairwise(events))
        assert events[-1]["u"] == bench.truth.sequence
    first = bench.heard("btcusdt@depth")[0]
    assert list(first) == ["e", "E", "T", "s", "U", "u", "pu", "b", "a", "ps", "st"]
    assert first["E"] > first["T"]
    assert first["b"][0] == ["59950.00", f"0.00{len(first['a'])}"]


def test_partial_depth_looks_like_a_diff(bench: Bench) -> None:
    bench.connect("/public/stream?streams=btcusdt@depth5@100ms/btcusdt@depth@100ms")
    bench.happen(*((True, 599_000 - n, 1) for n in range(30)))
    bench.run(SECOND)
    (partial,), (diff,) = bench.heard("btcusdt@depth5@100ms"), bench.heard("btcusdt@depth@100ms")
    assert list(partial) == list(diff)
    assert {**partial, "b": diff["b"], "a": diff["a"]} == diff
    assert (len(partial["b"]), partial["b"][0], partial["a"]) == (5, ["60000.00", "0.500"], [["60001.00", "0.700"]])


def test_a_late_driver_gets_the_same_frames(bench: Bench) -> None:
    other = Bench()
    other.truths, other.now = bench.truths, bench.now
    other.venue = BinanceUsdm(bench.truths, Faults(FaultPlan(), START), 1)
    for it in (bench, other):
        it.connect("/public/stream?streams=btcusdt@depth@100ms", 1)
        it.connect("/market/stream?streams=btcusdt@aggTrade", 2)
    for n in range(20):
        bench.happen((True, 599_000 + n, 1), trades=[(599_000, n + 1, True)])
        bench.run(37 * MILLISECOND)
    other.run(bench.now - other.now)
    assert other.actions == bench.actions
    assert len(bench.actions) > 10


Written = list[list[tuple[bool, int, int]]]
LEVELS = st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=3)


@given(
    st.lists(LEVELS, min_size=1, max_size=60), st.lists(st.integers(1, 90), min_size=60, max_size=60),
    st.integers(0, 2_500), st.sampled_from(["depth@100ms", "depth", "depth@500ms"]), st.integers(1, 50),
)
@settings(max_examples=150, deadline=None)
def test_depth_and_snapshot_make_the_truth(
    written: Written, waits: list[int], asked_after: int, stream: str, seed: int,
) -> None:
    """Section 6.6, step by step."""
    bench = Bench(seed=seed)
    bench.happen(BID, ASK)
    bench.run(2 * SECOND)  # the cache has it
    bench.connect(f"/public/stream?streams=btcusdt@{stream}")
    snapshot: Any = None
    asked = bench.now + asked_after * MILLISECOND
    for levels, wait in zip(written, waits, strict=False):
        if bench.now >= asked and snapshot is None:
            snapshot = bench.body("depth?symbol=BTCUSDT&limit=1000")
        bench.happen(*((bid, 600_000 - at if bid else 600_010 + at, size) for bid, at, size in levels))
        bench.run(wait * MILLISECOND)
    bench.run(2 * SECOND)
    events = bench.heard(f"btcusdt@{stream}")
    if snapshot is None or (events and snapshot["lastUpdateId"] < events[0]["pu"]):
        snapshot = bench.body("depth?symbol=BTCUSDT&limit=1000")  # step 5: again, and keep the buffer
    assert follows(bench.truth, snapshot, events) == bench.truth.sequence


def follows(truth: Truth, snapshot: Any, events: Sequence[Any]) -> int:
    """Applies events to a snapshot as a client does; after each one the book is the truth at that sequence."""
    last, synchronised = snapshot["lastUpdateId"], False
    sides = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
    is_the_truth(truth, last, sides)
    for it in events:
        if not synchronised and it["u"] < last:
            continue
        assert it["pu"] == last or (not synchronised and it["U"] <= last <= it["u"])
        synchronised = True
        for side, levels in sides.items():
            for price, size in it[side]:
                levels[price] = size
                if not Decimal(size):
                    del levels[price]
        last = it["u"]
        is_the_truth(truth, last, sides)
    return last


STREAMS = {
    "/public": ("trade", "bookTicker", "depth@100ms", "depth", "depth5"),
    "/market": ("aggTrade", "ticker", "kline_1m", "kline_5m"),
}


def market_run(seconds: int, seed: int = 1) -> tuple[Bench, Market]:
    """All streams of all instruments, from the real model."""
    market = Market(seed, LISTINGS["binance-usdm"], START, history_ns=2 * MINUTE)
    bench = Bench()
    bench.truths = {symbol: truth for (_, symbol), truth in market.truths.items()}
    bench.venue = BinanceUsdm(bench.truths, Faults(FaultPlan(), START), seed)
    for connection, (route, kinds) in enumerate(STREAMS.items(), 1):
        names = "/".join(f"{it.lower()}@{kind}" for it in bench.truths for kind in kinds)
        bench.connect(f"{route}/stream?streams={names}", connection)
    while (next_order := market.next_wake() or 0) < START + seconds * SECOND:
        bench.run(next_order - bench.now)
        for it in market.wake(bench.now):
            bench.actions += bench.venue.happen(it, bench.now)
    return bench, market


@pytest.fixture(scope="module")
def lively() -> Bench:
    return market_run(40)[0]


def test_streams_of_a_market_agree(lively: Bench) -> None:
    leaps: list[int] = []
    for symbol, truth in lively.truths.items():
        name = symbol.lower()
        trades, aggregates = lively.heard(f"{name}@trade"), lively.heard(f"{name}@aggTrade", 2)
        whole = [it for it in aggregates if it["f"] >= trades[0]["t"]]  # the first batch began before anybody listened
        of_market = [it for it in trades if it["X"] == "MARKET" and whole[0]["f"] <= it["t"] <= whole[-1]["l"]]
        ids = [it["t"] for it in trades]
        assert ids == list(range(ids[0], ids[-1] + 1))
        assert all(0 <= it["E"] - it["T"] <= 100 for it in aggregates)
        assert all(later["a"] == it["a"] + 1 and later["f"] > it["l"] for it, later in pairwise(aggregates))
        assert sum(Decimal(it["q"]) for it in of_market) == sum(Decimal(it["q"]) for it in whole)
        leaps += [later["f"] - it["l"] for it, later in pairwise(aggregates)]
        for it in aggregates[:20]:
            match = lively.venue.match(symbol, lively.venue.number(str(it["a"])))
            assert match is not None
            assert (match.price * truth.listing.tick, match.size * truth.listing.lot, match.buy) == (
                Decimal(it["p"]), Decimal(it["q"]), not it["m"],
            )
        for it in lively.heard(f"{name}@bookTicker"):
            book = truth.book_at(it["u"])
            assert book is not None
            tick, lot = truth.listing.tick, truth.listing.lot
            assert [Decimal(it[key]) for key in "bBaA"] == [
                book.bids[0][0] * tick, book.bids[0][1] * lot, book.asks[0][0] * tick, book.asks[0][1] * lot,
            ]
        for stream in ("depth", "depth@100ms"):
            events = lively.heard(f"{name}@{stream}")
            assert all(later["pu"] == it["u"] for it, later in pairwise(events))
    assert set(leaps) == {1, 2}


def test_what_was_no_aggregate_is_none(lively: Bench) -> None:
    assert lively.venue.match("BTCUSDT", 0) is None
    assert lively.venue.match("BTCUSDT", 10**15) is None


def test_a_market_can_be_followed(lively: Bench) -> None:
    for symbol, truth in lively.truths.items():
        snapshot = lively.body(f"depth?symbol={symbol}&limit=1000")
        lively.run(SECOND)
        assert follows(truth, snapshot, lively.heard(f"{symbol.lower()}@depth@100ms")) == truth.sequence


def test_the_same_seed_says_the_same() -> None:
    assert market_run(2)[0].actions == market_run(2)[0].actions


# --- 8 REST -----------------------------------------------------------------------------------------------------------


def test_ping_and_time(bench: Bench) -> None:
    assert bench.body("ping") == {}
    assert bench.body("time", x_mbx_time_unit="MICROSECOND") == {"serverTime": bench.now // MILLISECOND}


def test_exchange_info(bench: Bench) -> None:
    whole = bench.body("exchangeInfo")
    rows = {it["symbol"]: it for it in whole["symbols"]}
    assert {symbol: (it["contractType"], it["status"]) for symbol, it in rows.items()} == {
        "BTCUSDT": ("PERPETUAL", "TRADING"), "DOGEUSDT": ("PERPETUAL", "TRADING"),
        "BTCUSDT_260925": ("CURRENT_QUARTER", "TRADING"), "BTCUSDT_261225": ("NEXT_QUARTER", "TRADING"),
        "TSLAUSDT": ("TRADIFI_PERPETUAL", "TRADING"), "MKRUSDT": ("PERPETUAL", "SETTLING"),
        "MEGAUSDT": ("PERPETUAL", "PENDING_TRADING"),
    }
    assert rows["BTCUSDT_261225"]["deliveryDate"] == 1_798_185_600_000  # 2026-12-25 08:00
    assert (rows["BTCUSDT_261225"]["pair"], rows["BTCUSDT"]["deliveryDate"]) == ("BTCUSDT", 4_133_404_800_000)
    it = rows["BTCUSDT"]
    assert (it["baseAsset"], it["quoteAsset"], it["marginAsset"], it["pricePrecision"]) == ("BTC", "USDT", "USDT", 2)
    filters = {it["filterType"]: it for it in it["filters"]}
    assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.10", "0.001")
    assert {it["rateLimitType"]: it["limit"] for it in whole["rateLimits"]}["REQUEST_WEIGHT"] == USDM_WEIGHT


def test_what_nobody_trades_is_empty(bench: Bench) -> None:
    for symbol in ("BTCUSDT_260925", "TSLAUSDT", "MKRUSDT"):
        book = bench.body(f"depth?symbol={symbol}&limit=5")
        assert (book["bids"], book["asks"]) == ([], [])
        for target in ("trades?", "aggTrades?", "klines?interval=1m&"):
            assert bench.body(f"{target}symbol={symbol}") == []


def test_unlisted_symbols() -> None:
    bench = Bench(fault(FaultKind.UNLISTED, symbol="BTCUSDT", at=1.0, lasts=2.0))
    assert "BTCUSDT" in {it["symbol"] for it in bench.body("exchangeInfo")["symbols"]}
    bench.run(2 * SECOND)
    assert "BTCUSDT" not in {it["symbol"] for it in bench.body("exchangeInfo")["symbols"]}
    assert bench.refusal("depth?symbol=BTCUSDT") == -1121
    bench.connect("/public/stream")
    assert bench.subscribe("btcusdt@trade") == {"result": None, "id": 1}
    bench.run(2 * SECOND)
    assert bench.body("depth?symbol=BTCUSDT")


def test_depth_is_cached_at_times(bench: Bench) -> None:
    bench.run(SECOND)
    before = bench.truth.sequence
    seen = []
    for n in range(1, 40):
        bench.happen((True, 599_000, n))
        bench.run(100 * MILLISECOND)
        body = bench.body("depth?symbol=BTCUSDT&limit=5")
        assert body["T"] <= body["E"] <= bench.now // MILLISECOND
        seen.append(body["lastUpdateId"] - before - n)
    assert set(range(-9, 0)) <= set(seen) <= set(range(-10, 1))
    assert seen.count(0) >= 15  # every other second it is as new as the stream


@pytest.mark.parametrize(("limit", "weight", "count"), [
    ("", 10, 500), ("&limit=5", 2, 5), ("&limit=10", 2, 10), ("&limit=20", 2, 20), ("&limit=50", 2, 50),
    ("&limit=100", 5, 100), ("&limit=500", 10, 500), ("&limit=1000", 20, 1_000),
])
def test_depth_limits(bench: Bench, limit: str, weight: int, count: int) -> None:
    bench.happen(*((True, 599_000 - n, 1) for n in range(1_200)))
    bench.run(2 * SECOND)
    answer = bench.get(f"depth?symbol=BTCUSDT{limit}")
    body = json.loads(answer.body)
    assert list(body) == ["lastUpdateId", "E", "T", "bids", "asks"]
    assert (len(body["bids"]), body["asks"]) == (count, [["60001.00", "0.700"]])
    assert body["T"] == bench.truth.time // MILLISECOND
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


@pytest.mark.parametrize(("target", "weight"), [
    ("ping", 1), ("time", 1), ("exchangeInfo", 1), ("trades?symbol=BTCUSDT", 5), ("aggTrades?symbol=BTCUSDT", 20),
    ("historicalTrades?symbol=BTCUSDT", 200), ("klines?symbol=BTCUSDT&interval=1m&limit=99", 1),
    ("klines?symbol=BTCUSDT&interval=1m&limit=100", 2), ("klines?symbol=BTCUSDT&interval=1m", 5),
    ("klines?symbol=BTCUSDT&interval=1m&limit=1000", 5), ("klines?symbol=BTCUSDT&interval=1m&limit=1001", 10),
    ("klines?symbol=BTCUSDT&interval=1m&limit=x", 10), ("ticker/24hr?symbol=BTCUSDT", 1), ("ticker/24hr", 40),
])
def test_weights(bench: Bench, target: str, weight: int) -> None:
    assert bench.get(target).headers["X-MBX-USED-WEIGHT-1M"] == str(weight)
    assert bench.get("ticker/bookTicker").headers["X-MBX-USED-WEIGHT-1M"] == "1"
    assert bench.get("ticker/bookTicker?symbol=BTCUSDT").headers["X-MBX-USED-WEIGHT-1M"] == "1"
    assert bench.get("ping").headers["X-MBX-USED-WEIGHT-1M"] == str(weight + 8)


def test_trades_and_history(bench: Bench) -> None:
    for n in range(100):
        bench.happen(trades=[(600_000 + n, 100, n % 2 == 0)])
    newest = bench.body("trades?symbol=BTCUSDT&limit=2")
    assert newest[-1] == {
        "id": trade_id(FIRST + 99), "price": "60009.90", "qty": "0.100", "quoteQty": "6000.99",
        "time": bench.now // MILLISECOND, "isBuyerMaker": True, "isRPITrade": False,
    }
    history = bench.body(f"historicalTrades?symbol=BTCUSDT&fromId={trade_id(FIRST + 39) + 1}&limit=2", x_mbx_apikey=KEY)
    assert [it["id"] for it in history] == [trade_id(FIRST + 40), trade_id(FIRST + 41)]
    assert len(bench.body("historicalTrades?symbol=BTCUSDT&limit=1000", x_mbx_apikey=KEY)) == 100
    assert bench.body("historicalTrades?symbol=BTCUSDT&limit=2", X_MBX_APIKEY=KEY) == newest


@pytest.mark.parametrize(("headers", "code"), [
    ({}, -2014), ({"X_MBX_APIKEY": ""}, -2014), ({"X_MBX_APIKEY": "x"}, -2015),
])
def test_history_wants_a_key(bench: Bench, headers: dict[str, str], code: int) -> None:
    answer = bench.get("historicalTrades?symbol=BTCUSDT", **headers)
    assert (answer.status, json.loads(answer.body)["code"]) == (401, code)


def test_aggregates_paging(bench: Bench) -> None:
    for n in range(30):
        bench.happen(trades=[(600_000 + n, 100, True), (600_000 + n, 50, True)])
        bench.run(100 * MILLISECOND)
    rows = bench.body("aggTrades?symbol=BTCUSDT&limit=1000")
    assert [it["a"] for it in rows] == list(range(rows[0]["a"], rows[0]["a"] + 30))
    assert list(rows[0]) == ["a", "p", "q", "f", "l", "T", "m"]
    assert (rows[0]["q"], rows[0]["f"], rows[0]["l"]) == ("0.150", trade_id(FIRST), trade_id(FIRST + 1))
    a, start, end = rows[10]["a"], rows[10]["T"], rows[20]["T"]
    for query, expected in (
        ("limit=5", rows[-5:]), (f"fromId={a}&limit=3", rows[10:13]), (f"fromId={a}", rows[10:]),
        (f"startTime={start}&limit=3", rows[10:13]), (f"endTime={end}&limit=3", rows[18:21]),
        (f"startTime={start}&endTime={end}", rows[10:21]),
        (f"startTime={start}&endTime={start + HOUR // MILLISECOND - 1}", rows[10:]),
        (f"startTime={end}&endTime={start}", []), (f"fromId={a + 30}", []), ("startTime=99999999999999", []),
    ):
        assert bench.body(f"aggTrades?symbol=BTCUSDT&{query}") == expected, query
    assert bench.refusal(f"aggTrades?symbol=BTCUSDT&startTime={start}&endTime={start + HOUR // MILLISECOND}") == -1127
    answer = bench.get(f"aggTrades?symbol=BTCUSDT&fromId={a}&startTime={start}")
    assert (answer.status, json.loads(answer.body)["code"], answer.after_ns) == (408, -1007, 10 * SECOND)


def test_aggregates_that_are_known(bench: Bench) -> None:
    bench.to_beat()
    bench.happen(trades=[(600_000, 1, True)])
    bench.run(50 * MILLISECOND)
    for query in ("", "&fromId=0", f"&startTime={START // MILLISECOND}"):
        assert bench.body(f"aggTrades?symbol=BTCUSDT{query}") == []
    bench.run(50 * MILLISECOND)
    (it,) = bench.body("aggTrades?symbol=BTCUSDT")
    bench.run(48 * HOUR - MINUTE)
    assert bench.body("aggTrades?symbol=BTCUSDT&fromId=0") == [it]
    bench.run(MINUTE)
    assert bench.body("aggTrades?symbol=BTCUSDT&fromId=0") == []
    assert len(bench.body("trades?symbol=BTCUSDT")) == 1


def test_klines_over_rest(bench: Bench) -> None:
    for n in range(10):
        bench.happen(trades=[(600_000 + n, 1_000, True)])
        bench.run(MINUTE)
    rows = bench.body("klines?symbol=BTCUSDT&interval=1m")
    assert [it[0] for it in rows] == [START // MILLISECOND + 60_000 * n for n in range(11)]
    assert rows[-1][6] > bench.now // MILLISECOND
    assert rows[0] == [
        START // MILLISECOND, *["60000.00"] * 4, "1.000", START // MILLISECOND + 59_999, "60000.00000", 1, "1.000",
        "60000.00000", "0",
    ]
    start = rows[3][0]
    assert bench.body(f"klines?symbol=BTCUSDT&interval=1m&startTime={start}&limit=2") == rows[3:5]
    assert bench.body(f"klines?symbol=BTCUSDT&interval=1m&endTime={start}&limit=2") == rows[2:4]
    bench.run(1_600 * MINUTE)
    assert len(bench.body("klines?symbol=BTCUSDT&interval=1m&limit=2000")) == 1_500
    for name in INTERVALS:
        assert sum(it[8] for it in bench.body(f"klines?symbol=BTCUSDT&interval={name}&limit=1500")) <= 10


@pytest.mark.parametrize(("target", "code"), [
    ("depth", -1102), ("depth?symbol=NOTHING", -1121), ("depth?symbol=btcusdt", -1100),
    ("depth?symbol=BTCUSDT&limit=7", -1130), ("depth?symbol=BTCUSDT&limit=5000", -1130),
    ("depth?symbol=BTCUSDT&x=1", -1104), ("klines?symbol=BTCUSDT&interval=1s", -1120),
    ("klines?symbol=BTCUSDT&interval=1m&timeZone=0", -1104), ("trades?symbol=BTCUSDT&limit=0", -1130),
    ("ticker/24hr?symbols=[]", -1104),
])
def test_refusals(bench: Bench, target: str, code: int) -> None:
    assert bench.refusal(target) == code


def test_unknown_path_and_method(bench: Bench) -> None:
    assert bench.get("uiKlines").status == 404
    assert bench.venue.request("GET", "/api/v3/ping", bench.now, {}, "c").status == 404
    assert bench.venue.request("POST", "/fapi/v1/ping", bench.now, {}, "c").status == 405


# --- 9 limits ---------------------------------------------------------------------------------------------------------


def test_429_and_418(bench: Bench) -> None:
    bench.now = START + 47 * SECOND
    for _ in range(USDM_WEIGHT // 20):
        assert bench.get("depth?symbol=BTCUSDT&limit=1000").status == 200
    answers = [bench.get("ping") for _ in range(PATIENCE + 1)]
    assert [it.status for it in answers] == [429] * PATIENCE + [418]
    assert [answers[0].headers[it] for it in ("Retry-After", "X-MBX-USED-WEIGHT-1M")] == ["13", "2401"]
    assert "limit is 2400 request weight" in json.loads(answers[0].body)["msg"]
    assert answers[-1].headers["Retry-After"] == "120"
    bench.now += MINUTE
    assert bench.get("ping").status == 418
    assert bench.get("ping", client="another").status == 200


# --- faults -----------------------------------------------------------------------------------------------------------


def test_skipped_sequences() -> None:
    bench = Bench(fault(FaultKind.SKIP_SEQUENCE, at=0.0, lasts=5.0, symbol="BTCUSDT"))
    bench.connect("/public/stream?streams=btcusdt@depth@100ms/btcusdt@trade/dogeusdt@depth@100ms", 1)
    bench.connect("/market/stream?streams=btcusdt@aggTrade", 2)
    for _ in range(2):
        bench.happen(BID, trades=[(600_000, 1, True)])
        bench.happen((True, 16_000, 5), symbol="DOGEUSDT")
        bench.happen(ASK)
        bench.run(6 * SECOND)
    before = bench.truth.sequence
    bench.happen((True, 599_000, 1), trades=[(600_000, 1, True)])
    bench.run(SECOND)
    assert [it["pu"] for it in bench.heard("btcusdt@depth@100ms")] == [before]
    assert [it["t"] - trade_id(FIRST) for it in bench.heard("btcusdt@trade")] == [1, 2]
    assert [it["a"] - FIRST * 7 // 10 for it in bench.heard("btcusdt@aggTrade", 2)] == [1, 2]
    assert len(bench.heard("dogeusdt@depth@100ms")) == 1


def test_stale_snapshots() -> None:
    bench = Bench(fault(FaultKind.STALE_SNAPSHOT, at=10.0, seconds=7.0))
    for n in range(20):
        bench.happen((True, 599_000, n + 1))
        bench.run(SECOND - 1)
    moment = bench.now - 7 * SECOND
    book = bench.truth.book_at_time(moment)
    assert book is not None
    body = bench.body("depth?symbol=BTCUSDT")
    assert (body["lastUpdateId"], body["T"]) == (book.sequence, book.time // MILLISECOND)
    assert body["E"] == moment // MILLISECOND


def test_clock_skew() -> None:
    bench = Bench(fault(FaultKind.CLOCK_SKEW, seconds=-3.0))
    bench.connect("/public/stream?streams=btcusdt@trade/btcusdt@bookTicker/btcusdt@depth@100ms", 1)
    bench.connect("/market/stream?streams=btcusdt@aggTrade", 2)
    bench.happen(BID, trades=[(600_000, 1, True)])
    shown = (bench.now - 3 * SECOND) // MILLISECOND
    bench.run(SECOND)
    bodies = [it["data"] for connection in (1, 2) for it in bench.heard(connection=connection)]
    assert [it["T"] for it in bodies] == [shown] * 4
    assert all(shown <= it["E"] <= shown + 100 for it in bodies)
    assert bench.body("time") == {"serverTime": shown + 1_000}
    assert len(bench.body(f"aggTrades?symbol=BTCUSDT&startTime={shown}&endTime={shown}")) == 1
    assert bench.body("depth?symbol=BTCUSDT")["T"] <= shown


def test_refused_symbols() -> None:
    bench = Bench(fault(FaultKind.REFUSE_SYMBOL, symbol="BTCUSDT", lasts=2.0))
    bench.connect("/public/stream?streams=btcusdt@trade")
    assert bench.subscribe("dogeusdt@trade", "btcusdt@trade")["code"] == 2
    assert bench.say({"method": "LIST_SUBSCRIPTIONS", "id": 1})["result"] == []
    bench.run(2 * SECOND)
    assert bench.subscribe("btcusdt@trade") == {"result": None, "id": 1}


def test_frames_are_marked_for_the_faults(lively: Bench) -> None:
    marks = {(it.symbol, it.channel) for it in lively.actions if isinstance(it, Frame)}
    assert {(symbol, channel) for symbol in lively.truths
            for channel in ("trades", "book", "quotes", "ticker", "candles")} == marks


def test_nobody_listens_and_nothing_is_said(bench: Bench) -> None:
    bench.connect("/public/stream?streams=btcusdt@depth@100ms/btcusdt@trade")
    bench.venue.disconnect(1, bench.now)
    bench.actions.clear()
    assert bench.happen(BID, trades=[(600_000, 1, True)]) == []
    assert bench.run(4 * MINUTE) == []
    assert bench.venue.next_wake() is None


# --- the shapes of real frames ----------------------------------------------------------------------------------------


def without_digits(values: Sequence[object]) -> set[tuple[str, str]]:
    """Digits differ from symbol to symbol; whole sizes have no point at all."""
    return {(path, "number" if kind.startswith("decimal") or kind == "str" else kind) for path, kind in shapes(values)}


def is_old(path: str) -> bool:
    return path not in NEW_KEYS


@pytest.mark.parametrize(("stream", "connection", "names"), [
    ("depth@100ms", 1, ("usdm_20210722_4sym",)),
    ("bookTicker", 1, ("usdm_20210722_4sym", "usdm_20240808_ethusdt_first60s")),
    ("aggTrade", 2, ("usdm_20210722_4sym",)), ("kline_1m", 2, ("usdm_20210722_4sym",)),
    ("trade", 1, ("usdm_20240808_ethusdt_first60s",)),
])
def test_shape_of_stream(
    recordings: Path, lively: Bench, stream: str, connection: int, names: Sequence[str],
) -> None:
    recorded = [
        it["data"] for name in names for it in lines(recordings / "binance" / f"{name}.jsonl")
        if it["stream"].partition("@")[2] == stream
    ]
    simulated = [it for symbol in lively.truths for it in lively.heard(f"{symbol.lower()}@{stream}", connection)]
    assert recorded
    assert {it for it in without_digits(simulated) if is_old(it[0])} == without_digits(recorded)


def test_digits_are_those_of_the_instrument(recordings: Path, lively: Bench) -> None:
    """ETHUSDT has the same tick and lot as when it was recorded."""
    folder = recordings / "binance"
    recorded = lines(folder / "usdm_20240808_ethusdt_first60s.jsonl")
    for stream, ours in (("trade", "trade"), ("bookTicker", "bookTicker"), ("depth@0ms", "depth@100ms")):
        theirs = shapes([it["data"] for it in recorded if it["stream"] == f"ethusdt@{stream}"])
        simulated = shapes([it for it in lively.heard(f"ethusdt@{ours}") if it.get("X") != "NA"])
        assert {it for it in simulated if is_old(it[0])} == theirs
    snapshot = json.loads((folder / "usdm_20240808_ethusdt_first60s.rest_depth.json").read_text("utf-8"))
    assert shapes([lively.body("depth?symbol=ETHUSDT&limit=1000")]) == shapes([snapshot])


@pytest.mark.parametrize(("pattern", "target", "new"), [
    ("fapi_v1_depth_*", "depth?symbol=ETHUSDT", set()),
    ("fapi_v1_trades_*", "trades?symbol=ETHUSDT", {("[].isRPITrade", "bool")}),
    ("fapi_v1_aggTrades_*", "aggTrades?symbol=ETHUSDT", set()),
    ("fapi_v1_klines_[015]*", "klines?symbol=ETHUSDT&interval=1m", set()),
])
def test_shape_of_rest(
    recordings: Path, lively: Bench, pattern: str, target: str, new: set[tuple[str, str]],
) -> None:
    files = sorted((recordings / "binance" / "samples" / "gct_rest").glob(f"{pattern}.json"))
    assert files
    recorded = [json.loads(it.read_text("utf-8")) for it in files]
    assert shapes([lively.body(target)]) - new == shapes(recorded)


def test_shape_of_exchange_info(recordings: Path, lively: Bench) -> None:
    path = recordings / "binance" / "samples" / "gct_rest" / "fapi_v1_exchangeInfo_0.json"
    recorded, simulated = json.loads(path.read_text("utf-8")), lively.body("exchangeInfo")
    assert set(simulated) == set(recorded)
    theirs = {key: type(value) for key, value in recorded["symbols"][0].items()}
    assert {key: type(value) for key, value in simulated["symbols"][0].items()} == theirs
    keys = {it["filterType"]: set(it) for it in recorded["symbols"][0]["filters"]}
    assert {it["filterType"]: set(it) for it in simulated["symbols"][0]["filters"]} == keys
    assert shapes([simulated["rateLimits"]]) == shapes([recorded["rateLimits"]])


def test_shape_of_ticker(recordings: Path, lively: Bench) -> None:
    samples = lines(recordings / "binance" / "samples" / "tardis_node_mapper_messages.jsonl")
    ticker = next(it["msg"]["data"] for it in samples if it["msg"]["data"].get("e") == "24hrTicker"
                  and it["tardis_exchange"] == "binance-futures")
    assert {it for it in shapes(lively.heard("ethusdt@ticker", 2)) if is_old(it[0])} == shapes([ticker])
