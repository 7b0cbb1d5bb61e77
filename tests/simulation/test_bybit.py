"""OneTape against the simulated Bybit in memory: spot and linear lines at once, healthy and under every fault."""
from decimal import Decimal
from types import MappingProxyType

import pytest
from msgspec import structs

from onetape import venues
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.feed.governor import Priority
from onetape.feed.inputs import Started
from onetape.model import Candle, FeedError, GapClosed, GapOpened, Lifecycle, Quote, Ticker, Trade, TrustState
from onetape.service import referee
from onetape.service.choice import lines, tradable
from onetape.sim import simulator
from onetape.sim.base import Listing
from onetape.sim.faults import FaultKind, FaultPlan
from onetape.sim.venues.bybit import Bybit
from onetape.sim.venues.bybit_ids import match_id
from tests.simulation.lab import START, Lab
from tests.simulation.test_faults import AT, CASES, HEALED_WITHIN

SETTINGS = {"pairs": ["BTC-USDT", "ETH-USDT", "BTC-USDT-PERP"]}
SYMBOL = "linear:BTCUSDT"
LISTINGS = tuple(
    Listing(venue="bybit", symbol=symbol, base=base, quote=quote, tick=Decimal(tick), lot=Decimal(lot), rate=rate)
    for symbol, base, quote, tick, lot, rate in (
        ("BTCUSDT", "BTC", "USDT", "0.1", "0.000001", 2.0),
        ("ETHUSDT", "ETH", "USDT", "0.01", "0.00001", 1.5),
        ("linear:BTCUSDT", "BTC", "USDT", "0.10", "0.001", 3.0),
        ("linear:BTCPERP", "BTC", "USDC", "0.10", "0.001", 0.3),
    )
)


class BybitReferee(referee.Referee):
    """Books are known by their time, to a ms."""

    def _by_sequence(self, it, truth, bids, asks):
        return self._by_time(structs.replace(it, exchange_time=it.exchange_time + MILLISECOND - 1), truth, bids, asks)


def _counted(it):
    """With the numbers of the truth, which are consecutive, instead of the venue's ids."""
    if isinstance(it, Trade):
        return structs.replace(it, id=str(match_id(it.id)))
    if isinstance(it, (GapOpened, GapClosed)):
        return structs.replace(it, after=str(match_id(it.after)), before=str(match_id(it.before)))
    return it


class BybitLab(Lab):
    """Two lines, two lists of instruments, and ids that are no sequence."""

    def __init__(self, plan=None, *, settings=None, **options):
        super().__init__(plan, venue="bybit", classes={"bybit": Bybit}, settings=settings or SETTINGS, **options)
        self.referee = BybitReferee(self.sim.truths)

    @property
    def healthy(self):
        wanted = {(line.setup.venue, it.symbol) for line in self.door.lines.values() for it in line.setup.wanted}
        books = self.books()
        return (
            len(self.door.lines) == 2 and set(self.states.values()) == {Lifecycle.ACTIVE}
            and set(books) == wanted and all(it.state is TrustState.LIVE for it in books.values())
        )

    def _published(self, it):
        super()._published(_counted(it))

    def _discover(self, choice):
        venue, found = venues.create(choice.venue), []
        pending = venue.instrument_requests()

        def ask(request):
            self._request(choice.venue, request, Priority.DISCOVERY, listed)

        def listed(answer):
            if isinstance(answer, str) or answer.status != 200:
                self._at(self.now + 5 * SECOND, lambda: self._discover(choice))
                return
            instruments, more = venue.parse_instruments(answer.body)
            found.extend(instruments)
            if more is not None:
                ask(more)
            elif pending:
                ask(pending.pop(0))
            else:
                instruments = tradable(found)
                self.enter(Started, choice.venue, lines=lines(choice, instruments), instruments=instruments)

        ask(pending.pop(0))


@pytest.fixture(autouse=True)
def listings(monkeypatch):
    monkeypatch.setattr(simulator, "LISTINGS", MappingProxyType({"bybit": LISTINGS}))


def test_books_equal_the_truth_and_nothing_is_missing():
    lab = BybitLab()
    lab.start()
    lab.play(60)
    assert lab.healthy, lab.states
    assert set(lab.books()) == {("bybit", it) for it in ("BTCUSDT", "ETHUSDT", "linear:BTCUSDT")}
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    assert verdict.books > 1_000
    assert verdict.trades > 500
    assert not any(lab.missing().values())
    assert len(lab.attempts["bybit"]) == 2


def test_every_channel_is_understood():
    """More than ten topics on spot; closed candles are the truth's, quotes lie at the top of the book."""
    settings = {"channels": ["trades", "book", "quotes", "ticker", "candles"], "intervals": ["1m", "5m", "1h"]}
    lab = BybitLab(settings=SETTINGS | settings)
    lab.start()
    lab.play(100)
    assert lab.healthy
    assert not [it for it in lab.events if isinstance(it, FeedError)]
    for kind in (Quote, Ticker, Candle):
        assert {it.symbol for it in lab.events if isinstance(it, kind)} == {it for _, it in lab.books()}
    closed = [it for it in lab.events if isinstance(it, Candle) and it.final and it.interval == "1m"]
    assert len(closed) >= 3
    for it in closed:
        truth = lab.sim.truths["bybit", it.symbol]
        tick, lot = truth.listing.tick, truth.listing.lot
        (true,) = truth.candles(MINUTE, it.start, it.start + 1)
        assert (it.open, it.close, it.volume) == (true.open * tick, true.close * tick, true.volume * lot)
        assert it.quote_volume == true.quote * tick * lot
    for symbol in {it for _, it in lab.books()}:
        quote = [it for it in lab.events if isinstance(it, Quote) and it.symbol == symbol][-1]
        book = lab.sim.truths["bybit", symbol].book_at_time(quote.exchange_time + MILLISECOND - 1)
        listing = lab.sim.truths["bybit", symbol].listing
        assert tuple(quote.bid) == (book.bids[0][0] * listing.tick, book.bids[0][1] * listing.lot)


def plan_of(case):
    named = {FaultKind.SILENT, FaultKind.REFUSE_SYMBOL}
    return FaultPlan(seed=7, faults=tuple(
        structs.replace(it, venue="bybit", symbol=SYMBOL if it.kind in named else "") for it in CASES[case]
    ))


# A lost trade cannot be seen from Bybit's ids: what is lost between two frames of one connection cannot be told.
UNSEEN = {"drop", "corrupt", "skip_sequence", "silent trades"}


@pytest.mark.parametrize("case", CASES)
def test_a_fault(case):
    plan = plan_of(case)
    lab = BybitLab(plan, pace=0.7)
    lab.start()
    if case != "dns at the start":
        lab.play(AT - 1)
        assert lab.healthy, lab.states
    ends = max(it.ends() for it in plan.faults)
    lab.play(ends)
    flowing = 0
    for second in range(int(HEALED_WITHIN) + 1):
        seen = lab.referee.verdict.books
        lab.play(ends + second)
        flowing = flowing + 1 if lab.healthy and lab.referee.verdict.books > seen else 0
        if flowing == 4:
            break
    assert flowing, (lab.states, {key: (it.state, it.reason) for key, it in lab.books().items()})
    seen = lab.referee.verdict.trades
    lab.play((lab.now - START) / SECOND + 10)
    assert lab.referee.verdict.trades > seen, "no trades come"
    assert lab.healthy
    lab.stop()
    verdict = lab.referee.finish()
    assert verdict.books > 50
    assert not verdict.wrong, verdict.findings
    if case not in UNSEEN:
        assert lab.missing() == lab.told_missing()
