"""Every way in which REST can spoil an answer while an outage is made good: nothing false, and all in the end."""
import os

import pytest

from onetape import venues
from onetape.clock import DAY, SECOND
from onetape.model import GapClosed, GapFilling, GapOpened, Skipped, Source, Trade
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from tests.simulation.lab import START, Lab
from tests.simulation.test_faults import PAIRS, SYMBOLS

LONG = bool(os.environ.get("ONETAPE_LONG"))
AT, OUT, LASTS = 12.0, 15.0, 20.0
OF_HISTORY = sorted(it for it in FaultKind if it.startswith("history_"))
COUNTED = [it for it in SYMBOLS if venues.spec(it).counted_trades]


def lab_of(venue, *faults):
    settings = {"pairs": PAIRS.get(venue, ["BTC-USDT", "ETH-USDT"])}
    return Lab(FaultPlan(faults=faults, seed=3), venue=venue, max_age_ns=DAY, settings=settings, pace=0.5)


def outage(venue):
    return (
        Fault(kind=FaultKind.CLOSE, venue=venue, at=AT), Fault(kind=FaultKind.DNS, venue=venue, at=AT, lasts=OUT),
    )


def play(lab, seconds):
    lab.start()
    lab.play(seconds)
    lab.stop()
    return lab.referee.finish()


def matrix():
    for row, kind in enumerate(OF_HISTORY):
        for column, venue in enumerate(SYMBOLS):
            if LONG or (row + column) % 4 == 0:
                yield pytest.param(kind, venue, id=f"{kind}-{venue}")


@pytest.mark.parametrize(("kind", "venue"), list(matrix()))
def test_bad_answers_delay_what_is_missing_and_falsify_nothing(kind, venue):
    spoiled = Fault(kind=kind, venue=venue, at=AT, lasts=OUT + LASTS, seconds=4.0 if "late" in kind else 0.0)
    lab = lab_of(venue, *outage(venue), spoiled)
    verdict = play(lab, 150)
    assert (verdict.wrong, verdict.untold, verdict.findings) == (0, 0, [])
    kept = [it for it in lab.stored if isinstance(it, Trade)]
    assert len({(it.venue, it.symbol, it.channel, it.id) for it in kept}) == len(kept)
    if venue in COUNTED:  # of Bybit REST has the newest only, which may all be spoiled
        assert any(it.source is Source.BACKFILL for it in kept)
        assert verdict.missing == 0
        assert not any(isinstance(it, GapClosed) and not it.healed for it in lab.stored)


@pytest.mark.parametrize("venue", COUNTED)
def test_ids_that_the_venue_itself_skips_close_the_gap_and_are_not_asked_for_for_ever(venue):
    lab = lab_of(venue, Fault(kind=FaultKind.VENUE_SKIPS, venue=venue, at=5, lasts=20, share=0.02))
    verdict = play(lab, 60)
    assert (verdict.wrong, verdict.missing, verdict.untold) == (0, 0, 0)
    opened = [it for it in lab.stored if isinstance(it, GapOpened)]
    closed = [it for it in lab.stored if isinstance(it, GapClosed)]
    assert opened
    assert len(opened) == len(closed)
    assert all(it.healed for it in closed)
    assert "venue-skipped" in {it.cause for it in closed}
    assert any(isinstance(it, Skipped) for it in lab.events)
    assert lab.door.backfills[venue].waiting == 0


@pytest.mark.parametrize("venue", SYMBOLS)
def test_what_is_refused_at_first_is_had_later_within_the_limits(venue):
    refused = Fault(kind=FaultKind.REST_STATUS, venue=venue, at=AT + OUT, lasts=10, code=429, seconds=3)
    lab = lab_of(venue, *outage(venue), refused)
    verdict = play(lab, 100)
    assert (verdict.wrong, verdict.untold) == (0, 0)
    if venue in COUNTED:
        assert verdict.missing == 0
    filling = [it for it in lab.stored if isinstance(it, GapFilling)]
    assert max(it.attempts for it in filling) > 1 or venue == "bybit"
    assert all(it.cause for it in filling if it.attempts > 1)
    budget = venues.spec(venue).budget
    times = lab.requests[venue]
    for number, (time, _) in enumerate(times):
        within = sum(weight for at, weight in times[number:] if at < time + budget.per_ns)
        assert within <= budget.weight, (venue, (time - START) / SECOND)
