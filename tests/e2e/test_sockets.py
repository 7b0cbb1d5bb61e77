"""Faults over real sockets, on both venues at once: what is published is right, what is lost is told, all heals."""
import asyncio
import os
import time

import pytest
from msgspec import structs

from onetape.config import Settings
from onetape.model import Lifecycle, TrustState
from onetape.service.run import Simulated, collect
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.storage.lake import Lake
from onetape.storage.selection import Selection

HEALED_WITHIN = 45.0
QUICK = [
    [Fault(kind=FaultKind.DROP, lasts=2.0, share=0.2)],
    [Fault(kind=FaultKind.CORRUPT, lasts=1.0, share=0.1)],
    [Fault(kind=FaultKind.CLOSE, code=1012)],
    [Fault(kind=FaultKind.REORDER, lasts=1.0, share=0.2)],
]
ALL = [
    *QUICK,
    [Fault(kind=FaultKind.DOUBLE, lasts=3.0, share=0.3)],
    [Fault(kind=FaultKind.DELAY, lasts=3.0, share=0.1, seconds=1.0)],
    [Fault(kind=FaultKind.GARBAGE, lasts=2.0, share=0.1)],
    [Fault(kind=FaultKind.GIANT)],
    [Fault(kind=FaultKind.CHECKSUM, lasts=2.0, share=0.1)],
    [Fault(kind=FaultKind.SKIP_SEQUENCE, lasts=2.0, share=0.1)],
    [Fault(kind=FaultKind.SILENT, lasts=12.0, channel="book")],
    [Fault(kind=FaultKind.SLOW_REST, lasts=4.0, seconds=2.0), Fault(kind=FaultKind.CLOSE)],
    [Fault(kind=FaultKind.REST_STATUS, lasts=4.0, code=429, seconds=3.0), Fault(kind=FaultKind.CLOSE)],
    [Fault(kind=FaultKind.REST_STATUS, lasts=4.0, code=503), Fault(kind=FaultKind.CLOSE)],
    [Fault(kind=FaultKind.STALE_SNAPSHOT, lasts=4.0, seconds=3.0), Fault(kind=FaultKind.CLOSE)],
    [Fault(kind=FaultKind.NOTICE, lasts=1.0)],
    [Fault(kind=FaultKind.REFUSE_CONNECT, lasts=4.0, code=503), Fault(kind=FaultKind.CLOSE)],
    [Fault(kind=FaultKind.DNS, lasts=4.0), Fault(kind=FaultKind.CLOSE)],
    [Fault(kind=FaultKind.HALF_OPEN)],
]
APART = 4.0  # seconds from the end of one fault to the next
FIRST = 5.0


def plan_of(cases) -> FaultPlan:
    faults, at = [], FIRST
    for case in cases:
        faults += [
            structs.replace(it, at=at) for it in case
        ]
        at += max(it.lasts for it in case) + APART
    return FaultPlan(faults=tuple(faults), seed=3)


@pytest.mark.long
def test_faults_over_sockets(tmp_path):
    plan = plan_of(ALL if os.environ.get("ONETAPE_LONG") else QUICK)
    settings = Settings.model_validate({"pairs": ["BTC-USDT", "ETH-USDT"], "store": str(tmp_path)})
    outcome = asyncio.run(run(settings, plan, tmp_path))
    verdict = outcome.verdict
    assert verdict.books > 100
    assert not verdict.wrong, verdict.findings
    assert {it.name: it.state for it in outcome.status.venues} == dict.fromkeys(("binance", "kraken"), Lifecycle.ACTIVE)
    assert all(book.state is TrustState.LIVE for it in outcome.status.venues for book in it.books)
    with Lake(tmp_path) as lake:
        gaps = lake.gaps(Selection())
        told = sum(int(it.before) - int(it.after) - 1 for it in gaps if it.state != "healed")
        seen: dict[tuple[str, str], list[int]] = {}
        for it in lake.trades(Selection()):
            seen.setdefault((it.venue, it.symbol), []).append(int(it.id))
    missing = sum(max(ids) - min(ids) + 1 - len(set(ids)) for ids in seen.values())
    assert any(it.state == "healed" and it.recovered for it in gaps)
    assert missing == told == verdict.missing
    assert not verdict.untold
    assert all(len(ids) == len(set(ids)) for ids in seen.values())


async def run(settings, plan, store):
    """Until all is well after the last fault, or its time is over."""
    stop, well = asyncio.Event(), 0
    loop = asyncio.get_running_loop()
    began = loop.time()

    def view(status):
        nonlocal well
        healthy = all(it.state is Lifecycle.ACTIVE for it in status.venues) and all(
            book.state is TrustState.LIVE for it in status.venues for book in it.books)
        passed = loop.time() - began
        well = well + 1 if healthy and passed > plan.ends() + 2 else 0
        if (well >= 5 and plan.faults[-1].kind is not FaultKind.HALF_OPEN) or passed > plan.ends() + HEALED_WITHIN:
            stop.set()

    venues = ["binance", "kraken"]
    simulated = Simulated(venues, 1, plan, None, time.time_ns(), compare=True)
    return await collect(
        settings.model_copy(update={"venues": Settings.model_validate({"venues": {it: {} for it in venues}}).venues}),
        simulated=simulated, store=store, record=None, duration=None, view=view, stop=stop,
    )
