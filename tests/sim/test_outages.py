"""Outages by chance: each venue is out of reach for a while, its REST is in trouble after that, and all comes back."""
import pytest

from onetape.clock import SECOND
from onetape.model import Lifecycle
from onetape.sim.faults import FaultKind, FaultPlan
from onetape.sim.kinds import OF_HISTORY
from onetape.sim.venues import VENUES
from tests.simulation.lab import START, Lab

DURATION = 240.0
KEPT_OUT = (FaultKind.REFUSE_CONNECT, FaultKind.DNS)
SETTINGS = {"pairs": ["BTC-USDT", "BTC-USD", "BTC-USDT-PERP"], "channels": ["trades"]}


def test_a_plan_of_outages_is_the_same_for_the_same_seed_and_ends_in_time():
    kinds, lengths = set(), []
    for seed in range(200):
        plan = FaultPlan.outages(seed, ["okx", "kraken"], DURATION)
        assert plan == FaultPlan.outages(seed, ["kraken", "okx"], DURATION)
        alone = FaultPlan.outages(seed, ["kraken"], DURATION)
        assert alone.faults == tuple(it for it in plan.faults if it.venue == "kraken"), "whoever else is in it"
        assert plan.ends() <= 0.7 * DURATION
        assert all(it.at >= 0 and it.lasts >= 0 for it in plan.faults)
        kinds |= {it.kind for it in plan.faults}
        lengths += [it.lasts for it in plan.faults if it.kind in KEPT_OUT]
    wanted = {
        FaultKind.CLOSE, FaultKind.HALF_OPEN, FaultKind.DROP, FaultKind.DOUBLE, FaultKind.REST_STATUS,
        FaultKind.SLOW_REST, *KEPT_OUT, *OF_HISTORY,
    }
    assert kinds == wanted
    assert min(lengths) < 3
    assert max(it.lasts for seed in range(50) for it in FaultPlan.outages(seed, ["okx"], 600).faults) > 100
    assert FaultPlan.outages(1, [], DURATION).faults == ()


@pytest.mark.parametrize("venue", sorted(VENUES))
@pytest.mark.parametrize("seed", range(3))
def test_all_is_active_again_after_outages(venue, seed):
    plan = FaultPlan.outages(seed, [venue], DURATION)
    lab = Lab(plan, venue=venue, seed=seed, pace=0.5, settings=SETTINGS)
    opened = []
    connect = lab._connect

    def noted(name):
        before = len(lab._sockets)
        connect(name)
        if len(lab._sockets) > before:
            opened.append(lab.now)

    lab._connect = noted
    lab.start()
    lab.play(DURATION)
    assert lab.states, "nothing began"
    assert set(lab.states.values()) == {Lifecycle.ACTIVE}, (lab.states, plan.faults)
    outages = [it for it in plan.faults if it.kind in KEPT_OUT]
    assert outages
    for it in outages:
        began, ended = (START + round(moment * SECOND) for moment in (it.at, it.ends()))
        assert not [time for time in opened if began <= time < ended], "nobody is let in"
        assert [time for time in opened if time >= ended], "somebody comes back"
