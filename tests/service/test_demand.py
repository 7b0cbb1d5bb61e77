"""What is asked of the past comes as it was, each trade once, beside what is collected, and whatever interrupts it."""
import asyncio
import os
import time
from contextlib import asynccontextmanager

import pytest
import uvloop
from msgspec import structs

from onetape import venues
from onetape.candles.batch import build
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.config import Settings
from onetape.feed.backfill import Backfill
from onetape.model import Channel, GapClosed, GapFilling, InstrumentId, NeedTrades, Side, Trade
from onetape.service import requests
from onetape.service.collector import Collector
from onetape.service.compare import choice_of
from onetape.service.requests import Asked
from onetape.service.run import policy_of, redirect
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.server import Server
from onetape.sim.simulator import Simulator
from onetape.sim.venues.bybit_ids import match_id
from onetape.storage.lake import Lake, Selection
from onetape.tape.ledger import TradeLedger
from onetape.venues import VENUES
from tests.feed.past import Past

WITHIN = 60.0
BACK = 4 * MINUTE
SYMBOLS = {
    "binance": "BTCUSDT", "binance-usdm": "BTCUSDT", "coinbase": "BTC-USD", "coinbase-exchange": "BTC-USD",
    "kraken": "BTC/USD", "okx": "BTC-USDT", "bybit": "linear:BTCUSDT",
}
COUNTED = [it for it in VENUES if it != "bybit"]


class World:
    """One venue and its past, on real sockets; ``collecting`` runs a collector on the store for as long as it lasts."""

    def __init__(self, venue, store, *faults, seed=1):
        plan = FaultPlan(faults=tuple(faults), seed=seed)
        self.venue, self.store, self.symbol = venue, store, SYMBOLS[venue]
        now = time.time_ns()
        self.simulator = Simulator(seed, [venue], start=now, plan=plan, history_ns=BACK, clock=time.time_ns)
        self.start = self.simulator.now
        self.server = Server(self.simulator)
        self.settings = Settings.model_validate({"venues": {venue: {}}})

    @property
    def id(self):
        return InstrumentId(self.venue, self.symbol)

    def asked(self, since=-200.0, until=-20.0, pair="", interval=""):
        """Seconds from the start of the simulated time."""
        second = self.start - self.start % SECOND
        return Asked(
            self.venue, pair or self.symbol, second + round(since * SECOND), second + round(until * SECOND), interval,
        )

    @asynccontextmanager
    async def collecting(self, pairs=(), max_age_ns=SECOND):
        choice = redirect(choice_of(self.settings, self.venue), self.server)
        choice = structs.replace(choice, pairs=pairs, own_pairs=False, named_pairs=True, max_age_ns=max_age_ns)
        collector = Collector([choice], policy=policy_of(self.settings, [choice]), store=self.store)
        stop = asyncio.Event()
        running = asyncio.create_task(collector.run(stop))
        try:
            while collector.demand is None and not running.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            yield collector
        finally:
            stop.set()
            await running

    async def done(self, collector, asked):
        """The report of a request, when it has ended."""
        requests.put(self.store, asked)
        return await self.ended(collector, asked)

    async def ended(self, collector, asked):
        while not (found := [it for it in collector.demand.finished if it.id == asked.id]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return found[-1]

    async def filling(self, collector, asked, least=3):
        """Until more has come than the two between which all is wanted."""
        while not ((it := collector.demand.reports.get(asked.id)) and it.done - it.present >= least):
            assert not collector.demand.finished
            await asyncio.sleep(0.005)
        return it

    # --- what is stored ---------------------------------------------------------------------------------------------

    def trades(self):
        with Lake(self.store) as lake:
            assert lake.verify() == []
            found = lake.trades(Selection(instruments=frozenset({self.id})))
        ids = [it.id for it in found]
        assert len(ids) == len(set(ids)), "a trade is stored twice"
        return found if self.venue == "bybit" else sorted(found, key=lambda it: int(it.id))

    def gaps(self, *states):
        with Lake(self.store) as lake:
            return [it for it in lake.gaps() if it.state in (states or ("open", "filling", "unhealable"))]

    def check(self, start, end):
        """All that happened in [start, end) is stored as it happened, each once."""
        truth = self.simulator.truths[self.venue, self.symbol]
        tick, lot = truth.listing.tick, truth.listing.lot
        expected = [it for it in truth.matches if start <= it.time < end]
        stored = [it for it in self.trades() if start <= it.exchange_time < end]
        if venues.capabilities(self.venue).tape is Channel.AGG_TRADES:
            numbers = [int(it.id) for it in stored]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert stored
            return stored
        by_id = {it.id: it for it in expected}
        assert [int(it.id) for it in stored] == [it.id for it in expected]
        for it in stored:
            match = by_id[int(it.id)]
            assert (it.price, it.size, it.side is Side.BUY) == (match.price * tick, match.size * lot, match.buy)
            assert abs(it.exchange_time - match.time) <= MILLISECOND
        return stored

    def check_candles(self, start, end):
        """Whole minutes of it are complete, and made of its trades."""
        selection = Selection(instruments=frozenset({self.id}), start=start + 1, end=end + 1)
        with Lake(self.store) as lake:
            found = [it for it in lake.candles(selection, "1m") if it.start >= start]
        first, last = start + -start % MINUTE, end - end % MINUTE
        trades = [it for it in self.trades() if first <= it.exchange_time < last]
        expected = build(trades, "1m", last, until=last, covered_since=first)
        assert [it.start for it in found] == [it.start for it in expected] != []
        for ours, theirs in zip(found, expected, strict=True):
            values = ("open", "high", "low", "close", "volume", "trades")
            assert [getattr(ours, it) for it in values] == [getattr(theirs, it) for it in values]
            assert ours.complete
            assert ours.final


def go(coroutine):
    async def within():
        async with asyncio.timeout(WITHIN):
            return await coroutine

    return uvloop.run(within())


@pytest.mark.parametrize("venue", COUNTED)
def test_a_past_that_nobody_collected_comes_as_it_was(venue, tmp_path):
    world = World(venue, tmp_path)

    async def ask():
        async with world.server, world.collecting() as collector:
            return await world.done(collector, asked)

    asked = world.asked()
    report = go(ask())
    assert (report.state, report.reason, report.lacking, report.notes) == ("done", "", [], [])
    stored = world.check(asked.start, asked.end)
    assert len(stored) <= report.stored <= len(stored) + 2
    assert (report.total, report.present, report.done) == (report.stored, 0, report.stored)
    world.check_candles(asked.start, asked.end)
    assert world.gaps() == []
    assert requests.standing(tmp_path) == {}


@pytest.mark.parametrize("venue", ["binance", "kraken", "okx", "coinbase"])
def test_beside_what_is_collected_each_comes_once(venue, tmp_path):
    world, pair = World(venue, tmp_path), "BTC-USD" if venue in ("kraken", "coinbase") else "BTC-USDT"

    async def ask():
        async with world.server, world.collecting((pair,), max_age_ns=600 * SECOND) as collector:
            while not (ledger := collector.ledger(world.id, Channel.TRADES)) or not ledger.received:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            report = await world.done(collector, world.asked(-150.0, -30.0))
            while len(list(ledger.coverage)) > 1:  # noqa: ASYNC110 - between what was asked for and what is collected
                await asyncio.sleep(0.05)
            return report, next(iter(ledger.coverage))

    report, covered = go(ask())
    assert (report.state, report.lacking) == ("done", [])
    asked = world.asked(-150.0, -30.0)
    assert covered.from_time < asked.start
    assert covered.to_time > world.start
    world.check(asked.start, covered.to_time)
    assert world.gaps() == []


@pytest.mark.parametrize("venue", ["binance", "okx", "coinbase-exchange"])
def test_interrupted_it_goes_on_where_it_was(venue, tmp_path):
    world = World(venue, tmp_path, Fault(kind=FaultKind.SLOW_REST, lasts=600.0, seconds=0.1))
    asked = world.asked()

    async def ask():
        async with world.server:
            async with world.collecting() as collector:
                requests.put(tmp_path, asked)
                await world.filling(collector, asked)
            before = len(world.trades())
            assert list(requests.standing(tmp_path)) == [asked.id]
            async with world.collecting() as collector:
                return before, await world.ended(collector, asked)

    before, report = go(ask())
    assert 2 < before < report.total
    assert report.state == "done"
    assert report.present == before
    assert report.stored + before == report.total
    world.check(asked.start, asked.end)
    world.check_candles(asked.start, asked.end)
    assert world.gaps() == []


def test_what_is_there_is_not_asked_for_again(tmp_path):
    world = World("binance", tmp_path)

    async def ask():
        async with world.server, world.collecting() as collector:
            first = await world.done(collector, world.asked(-120.0, -60.0))
            pages = collector.door.backfills["binance"].counters["pages"]
            again = await world.done(collector, world.asked(-119.0, -61.0))
            assert collector.door.backfills["binance"].counters["pages"] == pages
            wider = await world.done(collector, world.asked(-180.0, -30.0))
            return first, again, wider

    first, again, wider = go(ask())
    assert (again.state, again.stored) == ("done", 0)
    assert again.present == again.total
    assert wider.present == first.total
    assert wider.stored == wider.total - wider.present
    world.check(world.asked(-180.0).start, world.asked(-180.0, -30.0).end)


FAULTS = {
    "refused for a while": [Fault(kind=FaultKind.REST_STATUS, lasts=600.0, code=429, seconds=1.0, share=0.3)],
    "html": [Fault(kind=FaultKind.HISTORY_HTML, lasts=600.0, share=0.4)],
    "cut": [Fault(kind=FaultKind.HISTORY_CUT, lasts=600.0, share=0.5)],
    "rows left out": [Fault(kind=FaultKind.HISTORY_HOLES, lasts=600.0)],
    "shuffled and doubled": [
        Fault(kind=FaultKind.HISTORY_SHUFFLED, lasts=600.0, share=0.4),
        Fault(kind=FaultKind.HISTORY_DOUBLED, lasts=600.0, share=0.4),
    ],
    "of another symbol": [Fault(kind=FaultKind.HISTORY_FOREIGN, lasts=600.0, share=0.3)],
    "empty": [Fault(kind=FaultKind.HISTORY_EMPTY, lasts=600.0, share=0.3)],
}
CASES = [(name, venue) for name in FAULTS for venue in ("binance", "okx", "coinbase-exchange")]


@pytest.mark.parametrize(("name", "venue"), CASES if os.environ.get("ONETAPE_LONG") else [*CASES[::3], CASES[10]])
def test_bad_answers_change_nothing_of_what_comes(name, venue, tmp_path):
    world = World(venue, tmp_path, *FAULTS[name], seed=3)
    asked = world.asked(-100.0, -40.0)

    async def ask():
        async with world.server, world.collecting() as collector:
            return await world.done(collector, asked)

    report = go(ask())
    assert (report.state, report.lacking) == ("done", [])
    world.check(asked.start, asked.end)
    assert world.gaps() == []


def test_ids_that_the_venue_never_gave_are_told_as_that(tmp_path):
    world = World("binance", tmp_path, Fault(kind=FaultKind.HISTORY_HOLES, lasts=600.0, code=1))
    asked = world.asked(-60.0, -50.0)

    async def ask():
        async with world.server, world.collecting() as collector:
            return await world.done(collector, asked)

    report = go(ask())
    assert report.state == "done"
    assert report.skipped > 0
    assert report.stored + report.skipped == report.total == report.done
    assert {it.state for it in world.gaps("healed")} == {"healed"}


def test_what_lies_before_the_history_of_the_venue_is_cut_and_told(tmp_path):
    world = World("binance", tmp_path)
    asked = world.asked(-3_600.0, -200.0)

    async def ask():
        async with world.server, world.collecting() as collector:
            return await world.done(collector, asked)

    report = go(ask())
    first = world.simulator.truths["binance", world.symbol].matches[0]
    assert report.state == "done"
    assert report.first == str(first.id)
    assert "the venue has nothing before" in report.notes[0]
    world.check(asked.start, asked.end)


@pytest.mark.parametrize(("venue", "keeps"), [("binance-usdm", "48 hours"), ("okx", "2160 hours")])
def test_what_the_venue_no_longer_keeps_is_not_had_and_told(venue, keeps, tmp_path):
    world = World(venue, tmp_path)
    asked = world.asked(-400 * 86_400.0, -399 * 86_400.0)

    async def ask():
        async with world.server, world.collecting() as collector:
            return await world.done(collector, asked)

    report = go(ask())
    assert (report.state, report.stored) == ("done", 0)
    (lacking,) = report.lacking
    assert (lacking.start, lacking.end) == (asked.start, asked.end)
    assert keeps in lacking.reason


def test_of_bybit_the_newest_page_is_all_and_the_rest_is_told(tmp_path):
    world = World("bybit", tmp_path)
    old = world.asked(-200.0, -120.0)

    async def ask():
        async with world.server, world.collecting() as collector:
            told = await world.done(collector, old)
            recent = structs.replace(old, start=old.start, end=collector.now())
            return told, await world.done(collector, recent), recent

    told, report, recent = go(ask())
    assert (told.state, told.stored) == ("done", 0)
    assert [(it.start, it.end) for it in told.lacking] == [(old.start, old.end)]
    assert report.stored == report.total > 10
    (lacking,) = report.lacking
    assert "newest trades alone" in lacking.reason
    truth = world.simulator.truths["bybit", world.symbol]
    numbers = sorted(match_id(it.id) for it in world.trades())
    assert numbers == [it.id for it in truth.matches if it.id >= numbers[0] and it.time < recent.end][:len(numbers)]


@pytest.mark.parametrize("bad", ["BTC-USDX", "nothing at all", "linear:BTCUSDT"])
def test_a_pair_that_is_not_there_is_refused_with_the_nearest(bad, tmp_path):
    world = World("okx", tmp_path)

    async def ask():
        async with world.server, world.collecting() as collector:
            return await world.done(collector, world.asked(pair=bad))

    report = go(ask())
    assert report.state == "refused"
    assert f"there is no pair {bad!r} at okx" in report.reason
    assert requests.standing(tmp_path) == {}


def test_a_venue_that_is_not_collected_is_refused(tmp_path):
    world = World("okx", tmp_path)

    async def ask():
        async with world.server, world.collecting() as collector:
            return await world.done(collector, structs.replace(world.asked(), venue="kraken"))

    report = go(ask())
    assert report.state == "refused"
    assert "does not collect kraken" in report.reason


def test_a_request_that_is_withdrawn_ends_and_what_came_stays(tmp_path):
    world = World("binance", tmp_path, Fault(kind=FaultKind.SLOW_REST, lasts=600.0, seconds=0.3))
    asked = world.asked()

    async def ask():
        async with world.server, world.collecting() as collector:
            requests.put(tmp_path, asked)
            await world.filling(collector, asked)
            assert requests.withdraw(tmp_path, asked.id)
            report = await world.ended(collector, asked)
            backfill = collector.door.backfills["binance"]
            while backfill.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return report

    report = go(ask())
    assert report.state == "withdrawn"
    assert 2 < len(world.trades()) < report.total
    assert {it.cause.partition(":")[0] for it in world.gaps("unhealable")} == {"too old"}


def test_a_file_that_is_no_request_is_set_aside(tmp_path):
    world = World("binance", tmp_path)
    (tmp_path / requests.FOLDER).mkdir()
    (tmp_path / requests.FOLDER / "odd.json").write_text('{"venue": 5')
    assert requests.standing(tmp_path) == {}
    assert (tmp_path / requests.FOLDER / "odd.unreadable").exists()
    assert world.asked().id == world.asked().id != world.asked(-1.0, 0.0).id


# --- the ledger -----------------------------------------------------------------------------------------------------


def ledger_with(*ids):
    it = TradeLedger(InstrumentId("binance", "BTCUSDT"), Channel.TRADES)
    for id in ids:
        it.receive(PAST.trade(id, 0), 0)
    return it


PAST = Past([], 0, SECOND)


def told(outputs):
    return [(type(it).__name__, it.after, it.before) for it in outputs]


def test_what_nobody_told_is_a_gap_at_once_and_not_twice():
    ledger = ledger_with(10, 20, 30)
    out = ledger.want(10, 30, 1)
    assert told(out) == [
        ("GapOpened", "10", "20"), ("NeedTrades", "10", "20"), ("GapOpened", "20", "30"), ("NeedTrades", "20", "30"),
    ]
    assert all(it.asked for it in out if isinstance(it, NeedTrades))
    assert told(ledger.want(10, 30, 2)) == [("NeedTrades", "10", "20"), ("NeedTrades", "20", "30")]
    assert ledger.wake(10 * SECOND) == []


def test_of_a_gap_that_was_given_up_the_part_that_is_asked_for_is_open_again():
    ledger = ledger_with(0, 100)
    (opened, _) = ledger.wake(SECOND)
    ledger.close(closed(opened, "too old"), 2 * SECOND)
    for id in (40, 50):
        ledger.receive(PAST.trade(id, 3 * SECOND), 3 * SECOND)
    assert told(ledger.want(40, 50, 4 * SECOND)) == [
        ("GapOpened", "0", "40"), ("GapClosed", "0", "40"), ("GapOpened", "40", "50"), ("GapOpened", "50", "100"),
        ("GapClosed", "50", "100"), ("GapClosed", "0", "100"), ("NeedTrades", "40", "50"),
    ]
    assert [(hole.first, hole.last, why) for hole, why in ledger.missing(0, 100)] == [
        (1, 39, "too old"), (41, 49, ""), (51, 99, "too old"),
    ]
    assert told(ledger.unwant(40, 50)) == [("NeedTrades", "40", "50")]
    assert not ledger.unwant(40, 50)[0].asked
    assert told(ledger.want(0, 40, 5 * SECOND)) == [("GapOpened", "0", "40"), ("NeedTrades", "0", "40")]


def closed(it, cause):
    names = ("venue", "symbol", "exchange_time", "received_time", "available_at", "channel", "after", "before",
             "from_time", "to_time")
    return GapClosed(**{name: getattr(it, name) for name in names}, healed=False, cause=cause, recovered=0)


def test_what_somebody_asks_for_is_not_too_old_and_what_nobody_asks_for_any_more_is():
    day = 86_400 * SECOND
    need = NeedTrades(
        "binance", "BTCUSDT", Channel.TRADES, "10", "5000", 10 * SECOND, 5_000 * SECOND, "asked for", asked=True,
    )
    backfill = Backfill(venues.create("binance"), day)
    (told_first, fetch) = backfill.need(need, 300 * day)
    assert isinstance(told_first, GapFilling)
    assert backfill.need(structs.replace(need, asked=False), 300 * day) == []  # an answer is on its way
    said = backfill.receive(fetch.id, 200, Past(range(1, 6_000), 0, SECOND).binance(fetch.request.path), {}, 300 * day)
    assert len([it for it in said if isinstance(it, Trade)]) == 999
    assert isinstance(said[-1], GapClosed)
    assert said[-1].cause.startswith("too old")
    assert backfill.waiting == 0
    again = Backfill(venues.create("binance"), day).need(structs.replace(need, asked=False), 300 * day)
    assert told(again) == [("GapClosed", "10", "5000")]


# --- candles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("venue", VENUES)
def test_the_venues_own_candles_are_kept_once(venue, tmp_path):
    world = World(venue, tmp_path)
    asked = world.asked(-210.0, -75.0, interval="1m")

    async def ask():
        async with world.server, world.collecting() as collector:
            first = await world.done(collector, asked)
            return first, await world.done(collector, structs.replace(asked, start=asked.start - 1))

    first, again = go(ask())
    assert (first.state, first.reason) == ("done", "")
    with Lake(tmp_path) as lake:
        found = lake.candles(Selection(instruments=frozenset({world.id})), "1m", source="venue")
    expected = range(asked.start + -asked.start % MINUTE, asked.end - asked.end % MINUTE, MINUTE)
    lacking = [it.start for it in first.lacking]
    assert [it.start for it in found] == [it for it in expected if it not in lacking]
    assert len(found) == first.stored == len(expected) - len(lacking)
    assert len(lacking) <= venue.startswith("coinbase")  # whose last minute comes late
    assert again.present == first.stored
    assert again.stored == len(expected) - again.present - len(again.lacking)
    assert not first.stored or all(it.final for it in found)


def test_an_interval_that_the_venue_has_not_is_refused(tmp_path):
    world = World("coinbase", tmp_path)

    async def ask():
        async with world.server, world.collecting() as collector:
            return [await world.done(collector, world.asked(interval=it)) for it in ("3m", "1M", "x")]

    for report in go(ask()):
        assert report.state == "refused"
        assert "coinbase gives no candles of" in report.reason
