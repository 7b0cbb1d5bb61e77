"""Outages over real sockets, several venues at once, with a restart between: what is stored against what happened."""
import asyncio
import os
import sys
import time
from random import Random

import pytest

from onetape.clock import MINUTE, SECOND
from onetape.config import Settings
from onetape.service.choice import choices
from onetape.service.collector import Collector
from onetape.service.run import policy_of, redirect
from onetape.sim.faults import FaultPlan
from onetape.sim.server import Server
from onetape.sim.simulator import Simulator
from onetape.sim.venues import VENUES
from onetape.storage.lake import Lake
from tests.simulation import outages
from tests.simulation.test_faults import PAIRS

SEEDS = range(10) if os.environ.get("ONETAPE_LONG") else (5,)  # not with Bybit: see JUDGED_NS
LENGTH = 40.0  # seconds, of which faults fall into the first 28
WELL_WITHIN = 100.0  # seconds after that: a silence, a backoff and a venue's own waits
JUDGED_NS = 15 * SECOND
"""After the end of a minute: by then its volume has told what Bybit's ids cannot."""
AT_ONCE = 3
LOOK_S = 0.25


def settings_of(names):
    return Settings.model_validate({"venues": {
        it: {"pairs": PAIRS.get(it, ["BTC-USDT", "ETH-USDT"]), "channels": ["trades", "book"]} for it in names
    }})


async def collect(settings, server, store, until):
    """A run from start to stop, that stops when ``until(collector)`` says so."""
    chosen = [redirect(it, server) for it in choices(settings)]
    collector = Collector(chosen, policy=policy_of(settings, chosen), store=store)
    stop = asyncio.Event()
    running = asyncio.create_task(collector.run(stop))
    while not running.done() and not until(collector):
        await asyncio.wait({running}, timeout=LOOK_S)
    stop.set()
    await running


def is_well(collector, names):
    """Every venue has lines, every connection its books and tapes, and nothing is left to be asked for."""
    door = collector.door
    sessions = [door.sessions.get(line.leader) for line in door.lines.values()]
    return (
        {line.setup.venue for line in door.lines.values()} == set(names)
        and all(it is not None and it.settled and not it.awaited for it in sessions)
        and not any(it.waiting for it in door.backfills.values())
    )


async def play(names, seed, store):
    """Gives the simulator and its time just before the end."""
    dice = Random(f"sockets {seed}")
    plan = FaultPlan.outages(seed, names, LENGTH)
    simulator = Simulator(seed, names, start=time.time_ns(), plan=plan, clock=time.time_ns, pace=0.5)
    settings = settings_of(names)
    async with Server(simulator) as server:
        began = server.now()

        def passed():
            return (server.now() - began) / SECOND

        restart = dice.uniform(8, 0.8 * LENGTH)
        await collect(settings, server, store, lambda _: passed() > restart)
        end = began + round(LENGTH * SECOND)
        least = -(-end // MINUTE) * MINUTE + JUDGED_NS if "bybit" in names else end
        last = least + round(WELL_WITHIN * SECOND)
        await collect(settings, server, store, lambda it: server.now() > last or (
            server.now() > least and is_well(it, names)))
        return simulator, server.now()


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
def test_outages_over_sockets(tmp_path, seed):
    names = sorted(Random(f"venues {seed}").sample(sorted(VENUES), AT_ONCE))
    simulator, now = asyncio.run(play(names, seed, tmp_path))
    reports = [outages.Report(it, seed) for it in names]
    for it in reports:
        outages.compare(simulator, tmp_path, now, it)
    sys.stdout.write(outages.table(reports) + "\n")
    assert all(map(outages.is_good, reports)), [(it.venue, it.lost, it.findings) for it in reports]
    assert sum(it.gaps for it in reports), "nothing was ever missing: the faults did not bite"
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
