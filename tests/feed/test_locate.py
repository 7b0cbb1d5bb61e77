"""A time is found on every venue's tape, as the truth has it, whatever its pages are spoiled by."""
import json
import os
from itertools import pairwise
from random import Random
from urllib.parse import parse_qs, urlsplit
from zlib import crc32

import pytest
from msgspec import structs

from onetape import venues
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.errors import BadFrame, RestError, UsageError
from onetape.feed.locate import MAX_PAGES, Locate
from onetape.model import Channel
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.history import MISSING_EVERY
from onetape.sim.simulator import Simulator
from onetape.venues.base import UNREADABLE
from tests.feed.past import Past

START = 1_790_000_000 * SECOND
BACK = 6 * MINUTE
SYMBOLS = {
    "binance": "BTCUSDT", "binance-usdm": "BTCUSDT", "coinbase": "BTC-USD", "coinbase-exchange": "BTC-USD",
    "kraken": "BTC/USD", "okx": "BTC-USDT",
}


class Asker:
    """Of one simulated venue, a request every few seconds."""

    def __init__(self, venue, *faults, seed=1):
        plan = FaultPlan(faults=tuple(Fault(kind=it, lasts=36_000.0, **more) for it, more in faults), seed=seed)
        self.simulator = Simulator(seed, [venue], start=START, plan=plan, history_ns=BACK)
        self.venue, self.symbol, self.now = venue, SYMBOLS[venue], START
        self.refused = self.asked = 0
        self.still = False

    def rows(self, request):
        self.asked += 1
        self.now += 0 if self.still else 3 * SECOND if self.venue == "kraken" else SECOND // 4  # whose cache has 2 s
        said = self.simulator.request(self.venue, "GET", request.path, self.now, {}, "local")
        it = venues.create(self.venue)
        it.check(said.status, said.headers, said.body)
        return it.parse_trades(request, said.body, self.now)

    def locate(self, time, most=400):
        it = Locate(venues.create(self.venue), self.symbol, time)
        for _ in range(most):
            try:
                it.receive(self.rows(it.request()))
            except (RestError, *UNREADABLE):
                self.refused += 1
            if it.found is not None:
                return it.found
        raise AssertionError("it never ends")

    def all_of_it(self):
        """Every trade of the past, by walking through all pages: an independent way to the same."""
        truth = self.simulator.truths[self.venue, self.symbol]
        if self.venue != "binance-usdm":
            return [(it.id, it.time) for it in truth.matches]
        request = venues.create(self.venue).trades_request(self.symbol, "0", None, None)
        return [(int(it.id), it.exchange_time) for it in self.rows(request)]


def around(trades, time):
    before = [it for it in trades if it[1] < time]
    behind = [it for it in trades if it[1] >= time]
    return (before[-1] if before else None), (behind[0] if behind else None)


def pair_of(place):
    return tuple(
        None if it is None else (int(it.id), it.exchange_time) for it in (place.before, place.behind)
    )


def same(found, expected):
    """Times but for the digits that one way of asking cuts."""
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None), (found, expected)
        if one is not None:
            assert one[0] == other[0], (found, expected)
            assert abs(one[1] - other[1]) <= MILLISECOND


def times(trades, seed):
    """Within, at a trade, between two of one moment, before all, after all."""
    chance = Random(seed)
    known = [it[1] for it in trades]
    yield from (chance.randrange(known[0] + SECOND, known[-1]) // MILLISECOND * MILLISECOND for _ in range(4))
    yield known[len(known) // 2] // MILLISECOND * MILLISECOND


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_time_is_found_as_the_truth_has_it(venue):
    it = Asker(venue)
    trades = it.all_of_it()
    assert len(trades) > 100
    for time in times(trades, venue):
        it.asked = 0
        same(pair_of(it.locate(time)), around(trades, time))
        assert it.asked <= 25
    assert it.refused == 0


@pytest.mark.parametrize("venue", SYMBOLS)
def test_before_all_that_the_venue_has_there_is_nothing(venue):
    it = Asker(venue)
    first = it.all_of_it()[0]
    same(pair_of(it.locate(START - 3 * 86_400 * SECOND)), (None, first))


@pytest.mark.parametrize("venue", SYMBOLS)
def test_behind_its_newest_trade_there_is_nothing_yet(venue):
    it = Asker(venue)
    it.still = True
    found = it.locate(START + SECOND)
    assert found.behind is None
    assert START - 20 * SECOND < found.before.exchange_time <= START


SPOILED = [
    kind for kind in FaultKind if kind.startswith("history_") and kind is not FaultKind.HISTORY_LATE
]


CASES = [(venue, kind) for venue in SYMBOLS for kind in SPOILED]


@pytest.mark.parametrize(("venue", "kind"), CASES if os.environ.get("ONETAPE_LONG") else Random(7).sample(CASES, 16))
def test_spoiled_pages_do_not_lead_astray(venue, kind):
    only_time = kind is FaultKind.HISTORY_FOREIGN and venue == "kraken"  # no id is asked for that would tell
    it = Asker(venue, (kind, {"share": 0.1 if only_time else 0.3}), seed=4)
    trades = Asker(venue, seed=4).all_of_it()
    for time in list(times(trades, f"{venue}{kind}"))[:3]:
        same(pair_of(it.locate(time)), around(trades, time))


def test_ids_that_the_venue_left_out_may_lie_between_neighbours():
    past = Past([1, 2, 3, 10, 11, 12], START, SECOND)
    okx = Locate(venues.create("okx"), "BTCUSDT", START + 5 * SECOND)
    okx.receive([past.trade(id, START) for id in (1, 2, 3)])
    for _ in range(10):
        asked = parse_qs(urlsplit(okx.request().path).query)
        below = int(asked["after"][0]) if "after" in asked else 100
        okx.receive([past.trade(id, START) for id in past.ids if id < below])
    assert (okx.found.before.id, okx.found.behind.id) == ("3", "10")


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_time_is_found_beside_ids_that_the_venue_never_gave(venue):
    it = Asker(venue, (FaultKind.HISTORY_HOLES, {"code": 1}))
    trades = it.all_of_it()
    present = [one for one in trades if not missing(one[0])]
    beside = [one[1] for one, gone in pairwise(trades) if missing(gone[0]) or gone[0] > one[0] + 1]
    chosen = Random(3).sample(beside[1:-1], 10)
    for time in [it // MILLISECOND * MILLISECOND + MILLISECOND for it in chosen]:
        it.asked = 0
        same(pair_of(it.locate(time)), around(present, time))
        assert it.asked <= 40
    assert it.refused == 0


def missing(id):
    return crc32(f"1 {id}".encode()) % MISSING_EVERY == 0


@pytest.mark.parametrize("gone", [1, 2, 3, 8, 40])
@pytest.mark.parametrize("side", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("told", [True, False])
def test_however_many_ids_in_a_row_the_venue_never_gave(gone, side, told):
    ids = [*range(1, 1_500), *range(1_500 + gone, 4_000)]
    past = Past(ids, START, SECOND)
    binance = Locate(venues.create("binance"), "BTCUSDT", past.time(1_500) + round(gone * side) * SECOND)
    first = structs.replace(past.trade(3_000, START), channel=Channel.AGG_TRADES, first_id="3000")
    binance.receive([first] if told else [])  # the only aggregate that was asked for may be one that it never gave
    for _ in range(40):
        request = binance.request()
        binance.receive(venues.create("binance").parse_trades(request, past.binance(request.path), START))
        if binance.found is not None:
            break
    assert (binance.found.before.id, binance.found.behind.id) == ("1499", str(1_500 + gone))


def test_answers_that_never_fit_together_are_an_error_at_last():
    it = Locate(venues.create("okx"), "BTC-USDT", START)
    one = structs.replace(Past([5], START - 10 * SECOND, SECOND).trade(5, START), symbol="BTC-USDT")
    with pytest.raises(BadFrame, match="do not fit together"):  # noqa: PT012 - which of them says so does not matter
        for number in range(MAX_PAGES + 2):
            it.receive([structs.replace(one, id=str(5 + number))])


def test_of_another_instrument_nothing_is_believed():
    it = Locate(venues.create("kraken"), "BTC/USD", START)
    with pytest.raises(BadFrame, match="another instrument"):
        it.receive([Past([5], START, SECOND).trade(5, START)])


def test_a_venue_that_shows_its_newest_alone_is_not_asked():
    with pytest.raises(UsageError, match="bybit gives its newest trades alone"):
        Locate(venues.create("bybit"), "linear:BTCUSDT", START)


def test_the_requests_are_those_of_the_venue():
    paths = {
        venue: Locate(venues.create(venue), symbol, START).request().path for venue, symbol in SYMBOLS.items()
    }
    ms = START // MILLISECOND
    assert f"aggTrades?symbol=BTCUSDT&startTime={ms}&limit=1" in paths["binance"]
    assert f"startTime={ms}" in paths["binance-usdm"]
    assert f"since={START - MILLISECOND}" in paths["kraken"]
    assert f"type=2&after={ms}&" in paths["okx"]
    assert "ticker" in paths["coinbase"]
    assert json.dumps(paths["coinbase-exchange"]).count("after=") == 0
