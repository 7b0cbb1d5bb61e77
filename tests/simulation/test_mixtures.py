"""Mixtures of faults by chance, three venues at a time: what is live is right, what is lost is told, all heals."""
import os
from random import Random

import pytest
from msgspec import structs

from onetape.clock import SECOND
from onetape.model import InstrumentId
from onetape.sim.faults import FaultKind, FaultPlan
from onetape.sim.venues import VENUES
from tests.simulation.lab import Lab
from tests.simulation.test_faults import HEALED_WITHIN, SYMBOLS

SEEDS = range(200) if os.environ.get("ONETAPE_LONG") else range(0, 200, 25)
SETTINGS = {"pairs": ["BTC-USDT", "BTC-USD", "BTC-USDT-PERP"], "timings": {"audit": 5.0}}
PLAYED = 40.0  # seconds in which the faults fall


def plan_of(seed, venues):
    """What cannot be seen by any number is left out: single trades of Bybit."""
    faults = []
    for it in FaultPlan.random(seed, venues, 3 * PLAYED).faults:
        fault = structs.replace(it, at=it.at / 3, lasts=min(it.lasts, 15.0))
        if fault.kind in (FaultKind.DROP, FaultKind.SKIP_SEQUENCE) and fault.venue == "bybit":
            fault = structs.replace(fault, channel="book")
        faults.append(fault)
    return FaultPlan(faults=tuple(faults), seed=seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_a_mixture(seed):
    venues = Random(f"venues {seed}").sample(sorted(SYMBOLS), 3)
    plan = plan_of(seed, venues)
    lab = Lab(plan, classes={name: VENUES[name] for name in venues}, settings=SETTINGS, pace=0.6, seed=seed,
              promised=True)
    lab.start()
    for moment in range(0, int(plan.ends() + HEALED_WITHIN), 7):
        lab.play(moment)
        lab.refresh()
    lab.play(plan.ends() + HEALED_WITHIN)
    said = [(it.kind, it.venue, it.at, it.lasts, it.channel) for it in plan.faults]
    assert lab.healthy, (lab.states, {key: (it.state, it.reason) for key, it in lab.books().items()}, said)
    assert not lab.deceived(10 * SECOND)
    assert {InstrumentId(*key) for key in lab.books()} == set(lab.ids), "not every tape brought trades"
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, (verdict.findings, said)
    assert not verdict.unproven or "coinbase-exchange" in venues, "the one whose books have no number at all"
    assert lab.missing() == lab.told_missing(), said
