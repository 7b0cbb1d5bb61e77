"""One run from start to stop: settings in, a store or a recording out, and a view of it meanwhile."""
import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from msgspec import Struct, structs

from onetape.clock import SECOND
from onetape.config import Settings
from onetape.credentials import Credentials
from onetape.errors import RetryBatch
from onetape.model import TAPES, BookDelta, BookSnapshot, Event, InstrumentId
from onetape.pipeline import Policy
from onetape.service import status as statuses
from onetape.service import wiring
from onetape.service.child import Child
from onetape.service.choice import Choice, choices
from onetape.service.collector import Collector
from onetape.service.followed import Following
from onetape.service.upkeep import Upkeep

if TYPE_CHECKING:  # a run against the exchanges has no use for the simulator
    from onetape.service.referee import Referee, Verdict
    from onetape.sim.faults import FaultPlan
    from onetape.sim.server import Server

STATUS_S = 1.0


class Simulated(Struct, frozen=True):
    """The simulator instead of the exchanges."""

    venues: Sequence[str]
    seed: int
    plan: "FaultPlan"
    truth: Path | None
    """Where the truth is written."""
    start: int
    compare: bool = False
    """All that is published, with what really happened."""
    past_ns: int = 10 * SECOND
    """How long the market has been there. Ten minutes of all venues take six seconds to make, and nothing is shown."""


class Outcome(Struct, frozen=True):
    status: statuses.Status
    """As it was when it was asked to stop."""
    stored: dict[str, int]
    """Rows by table, all that was drained included."""
    verdict: "Verdict | None"


View = Callable[[statuses.Status], None]


async def collect(
    settings: Settings, *, simulated: Simulated | None, store: Path | None, record: Path | None,
    duration: float | None, view: View, stop: asyncio.Event, publish: Callable[[Event], None] = lambda _: None,
    log: Callable[[Event], None] = lambda _: None, credentials: Mapping[str, Credentials] | None = None,
    idle: bool = False,
) -> Outcome:
    """Runs until ``stop``; ``idle``: collects nothing but what is asked for. Raises UsageError, RetryBatch."""
    chosen = choices(settings)
    if idle:
        chosen = [structs.replace(it, pairs=(), own_pairs=False, named_pairs=True) for it in chosen]
    source = "live" if simulated is None else "sim"
    referee: Referee | None = None

    def hear(event: Event) -> None:
        if referee is not None:
            id = None if not isinstance(event, BookDelta | BookSnapshot) else InstrumentId(event.venue, event.symbol)
            referee.add(event, collector.book(id) if id is not None else None)
        publish(event)

    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []
        if simulated is not None:
            server = await serve(simulated, stack)
            chosen = [redirect(it, server) for it in chosen if it.venue in simulated.venues]
            tasks.append(asyncio.create_task(_ends(server.wait, stop)))
            if simulated.compare:
                referee = _referee(server, simulated)
        collector = Collector(
            chosen, policy=policy_of(settings, chosen), store=store, recording=record, publish=hear, log=log,
            seed=int.from_bytes(os.urandom(4)), credentials=credentials, storage=settings.storage,
            drain_s=settings.stop_within / 2,
        )
        if duration is not None:
            asyncio.get_running_loop().call_later(duration, stop.set)
        tasks.append(asyncio.create_task(_ends(partial(_watch, collector, source, store, view), stop)))
        if store is not None:
            _prove_wiring(settings, chosen)
        if store is not None and settings.postgres is not None:
            tasks.append(asyncio.create_task(_ends(await _follower(settings, store, stack), stop)))
        if store is not None and not idle:
            upkeep = Upkeep(store, settings.upkeep, settings.retention, collector.meter.counters)
            tasks.append(asyncio.create_task(upkeep.run()))
        asked: list[statuses.Status] = []
        wanted: set[InstrumentId] = set()

        def stopping() -> None:
            asked.append(statuses.status_of(collector, source, store))
            for line in collector.door.lines.values():
                tapes = (it for it in line.setup.wanted if it.channel in TAPES)
                wanted.update(InstrumentId(line.setup.venue, it.symbol) for it in tapes)

        try:
            await collector.run(stop, stopping)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        for it in results:
            if isinstance(it, Exception):
                raise it
        last = statuses.status_of(collector, source, store, stopped=True)
        if store is not None:
            statuses.write(last, store)
        verdict = referee.finish(wanted) if referee is not None else None
        return Outcome(asked[0] if asked else last, last.stored, verdict)


def _prove_wiring(settings: Settings, chosen: Sequence[Choice]) -> None:
    """What is collected comes to the store; what does not is said before anything is collected. Raises UsageError."""
    try:
        wiring.check_store()
    except (OSError, RetryBatch) as error:  # a full disk ends no run
        structlog.get_logger().warning("the wiring could not be tried", reason=str(error))
    for it in chosen:
        for channel, reason in wiring.unstored(it.channels, policy_of(settings, chosen)).items():
            structlog.get_logger().warning("not stored", venue=it.venue, channel=str(channel), reason=reason)


async def _follower(
    settings: Settings, store: Path, stack: AsyncExitStack,
) -> Callable[[], Coroutine[object, object, None]]:
    """Brings the store to PostgreSQL, in a process of its own, until all that was collected is there."""
    assert settings.postgres is not None
    child = Child(
        "postgres", ["storage", "follow", "--beside-run", "--store", str(store)],
        drain_s=settings.stop_within / 2,
        environment={"ONETAPE_POSTGRES": settings.postgres},  # arguments are for all to read, passwords included
    )
    return (await stack.enter_async_context(child)).watch


async def _ends(work: Callable[[], Coroutine[object, object, None]], stop: asyncio.Event) -> None:
    """If it breaks, the run stops."""
    try:
        await work()
    finally:
        stop.set()


async def serve(simulated: Simulated, stack: AsyncExitStack) -> "Server":
    from onetape.sim import server, simulator, truthlog  # noqa: PLC0415 - 6 MB that a live run does without

    structlog.get_logger().debug("making the simulated market", venues=len(simulated.venues))
    it = simulator.Simulator(
        simulated.seed, simulated.venues, start=simulated.start, plan=simulated.plan, clock=time.time_ns,
        history_ns=simulated.past_ns,
    )
    for fault in simulated.plan.faults:
        planned = {name: value for name, value in structs.asdict(fault).items() if value not in ("", 0, 0.0)}
        structlog.get_logger().info("fault planned", **planned | {"kind": str(fault.kind)})
    if simulated.truth is not None:
        stack.enter_context(truthlog.TruthLog(simulated.truth, it))
    return await stack.enter_async_context(server.Server(it))


def _referee(server: "Server", simulated: Simulated) -> "Referee":
    from onetape.service.referee import Referee  # noqa: PLC0415 - it brings the simulator along

    return Referee(server.simulator, promised=bool(simulated.plan.faults))


def redirect(choice: Choice, server: "Server") -> Choice:
    """To the simulator; the path of the venue's own address stays."""
    return structs.replace(
        choice, rest=(server.rest_url(choice.venue),), history=(), proxy=None, local_address=None,
        websocket={
            route: tuple(server.websocket_url(choice.venue) + path_of(url) for url in urls[:1])
            for route, urls in choice.websocket.items()
        },
    )


def path_of(url: str) -> str:
    """``wss://host:port/v2`` to ``/v2``."""
    return "/" + "/".join(url.split("/")[3:])


async def _watch(collector: Collector, source: str, store: Path | None, view: View) -> None:
    before: Following | None = None
    while True:
        await asyncio.sleep(STATUS_S)
        if collector.keeper is not None:
            collector.keeper.push(collector.clock())
        now = statuses.status_of(collector, source, store)
        before = _tell_postgres(before, now.postgres)
        if store is not None:
            try:
                statuses.write(now, store)
            except OSError:  # the disk may be full: what has to be kept says so itself
                collector.meter.counters["", "status not written"] += 1
        view(now)


def _tell_postgres(before: Following | None, now: Following | None) -> Following | None:
    """What the child beside us says of it, in our log; gives what is the last word now."""
    if now is not None and (before is None or (before.state, before.reason) != (now.state, now.reason)):
        if now.state == "away":
            structlog.get_logger().error(
                "PostgreSQL takes nothing; all stays in the journal", reason=now.reason, waiting=now.waiting)
        elif before is not None and before.state == "away":
            structlog.get_logger().warning("PostgreSQL takes rows again", waiting=now.waiting)
    return now


def policy_of(settings: Settings, chosen: Sequence[Choice]) -> Policy:
    candles, keep = settings.candles, settings.keep
    return Policy(
        intervals=candles.intervals, carry_empty=candles.carry_empty, lateness_ns=round(candles.lateness * SECOND),
        deltas=keep.deltas, quotes=keep.quotes, snapshot_every_ns=round(keep.snapshot_every * SECOND),
        snapshot_depth=keep.snapshot_depth, redundant=frozenset(it.venue for it in chosen if it.redundancy > 1),
    )
