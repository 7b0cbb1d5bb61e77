"""Backfill against the simulated venues over real sockets: how much of what it may use of their REST it does use.

Holes of 30,000 trades, of a few instruments as after an outage, are asked for by the real Backfill, Governor and Rest,
again when they are full, as long as the time lasts: in each hole one request after the other. Kraken's pace is by
pair; Bybit gives its newest trades only, and is asked for holes in those. The simulator is another process, and refuses
who asks too much: then this ends with exit code 1.
"""
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection

from msgspec import Struct, structs

from onetape import venues
from onetape.clock import MINUTE, SECOND
from onetape.config import Settings
from onetape.feed.backfill import Backfill
from onetape.feed.governor import Governor, Priority, allowed
from onetape.feed.rest import Rest, Unanswered, client
from onetape.model import Command, Event, Fetch, NeedTrades, Trade
from onetape.service.choice import Choice, choices
from onetape.sim.server import Server
from onetape.sim.simulator import Simulator
from onetape.sim.venues import VENUES

HOLE = 30_000
PACE, PAST_NS = 2.0, 20 * MINUTE  # so that there are as many trades
BEGIN_NS = 10 * SECOND  # and a whole window at least: how it begins is left out
MEASURED_NS = 60 * SECOND  # in whole windows
TARGET = 0.9
DOLLARS = ["BTC-USD", "ETH-USD", "SOL-USD"]
SYMBOLS = {
    "binance": ["BTCUSDT"], "binance-usdm": ["BTCUSDT"], "coinbase": DOLLARS, "coinbase-exchange": DOLLARS,
    "okx": ["BTC-USDT", "ETH-USDT", "SOL-USDT"], "kraken": ["BTC/USDT", "ETH/USDT", "BTC/USD", "ETH/USD"],
    "bybit": ["BTCUSDT", "ETHUSDT", "SOLUSDT", "linear:BTCUSDT", "linear:ETHUSDT", "linear:SOLUSDT"],
}
NEWEST = 30  # trades of a hole at Bybit, which gives its newest 60 on spot


class Hole(Struct, frozen=True):
    symbol: str
    after: str
    before: str
    from_time: int
    to_time: int


class Where(Struct, frozen=True):
    """What the simulator's process says of a venue."""

    rest: str
    holes: dict[str, Hole]
    """By symbol."""


# --- the simulator ---------------------------------------------------------------------------------------------------


def simulate(pipe: Connection) -> None:
    with suppress(EOFError, KeyboardInterrupt):
        asyncio.run(serve(pipe))


async def serve(pipe: Connection) -> None:
    simulator = Simulator(3, sorted(VENUES), start=time.time_ns(), clock=time.time_ns, pace=PACE, history_ns=PAST_NS)
    wheres = {name: {it: hole_of(simulator, name, it) for it in SYMBOLS[name]} for name in VENUES}
    async with Server(simulator) as server:
        pipe.send({name: Where(server.rest_url(name), holes) for name, holes in wheres.items()})
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


def hole_of(simulator: Simulator, name: str, symbol: str) -> Hole:
    """Below the newest trade; smaller where there are not so many."""
    venue = venues.create(name)
    request = venue.trades_request(symbol, None, None, None)
    assert request is not None
    answer = simulator.request(name, "GET", request.path, simulator.now, client="who looks first")
    rows = venue.parse_trades(request, answer.body, simulator.now)
    if venue.spec.history.newest_only:
        return newest(rows)
    before, match = int(rows[-1].id), simulator.venues[name].match
    first = next(it for id in range(before - HOLE - 1, before) if (it := match(symbol, id)))
    last = match(symbol, before)
    assert last is not None
    return Hole(symbol, str(first.id), str(before), first.time, last.time)


def newest(rows: Sequence[Trade]) -> Hole:
    first, last = rows[-NEWEST], rows[-1]
    return Hole(last.symbol, first.id, last.id, first.exchange_time, last.exchange_time)


# --- the client ------------------------------------------------------------------------------------------------------


class Page(Struct, frozen=True):
    sent_at: int
    took: int
    """ns."""
    weight: int
    trades: int
    """That were missing; not all of a page."""


class Asker:
    """One venue's Backfill with hands; as it comes, one answer brings the next request."""

    def __init__(self, choice: Choice, rest: Rest, holes: dict[str, Hole]) -> None:
        self.pages: list[Page] = []
        self._rest, self._holes = rest, holes
        self._tape = choice.spec.capabilities.tape
        self._venue = venues.create(choice.venue)
        self._backfill = Backfill(self._venue)
        self._trades = 0
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self, until: int) -> None:
        """Until ``until``, ns by our clock."""
        while time.time_ns() < until:
            for it in self._holes.values():  # those that are asked for already count but once
                self._obey(self._backfill.need(self._need(it), time.time_ns()))
            self._obey(self._backfill.wake(time.time_ns()))
            await asyncio.sleep(0.01)
        for task in self._waiting:
            task.cancel()

    def _need(self, it: Hole) -> NeedTrades:
        venue = self._venue.spec.name
        return NeedTrades(venue, it.symbol, self._tape, it.after, it.before, it.from_time, it.to_time, "bench")

    def _obey(self, said: Sequence[Event | Command]) -> None:
        for it in said:
            self._trades += isinstance(it, Trade)
            if isinstance(it, Fetch):
                task = asyncio.create_task(self._fetch(it))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)

    async def _fetch(self, it: Fetch) -> None:
        try:
            reply = await self._rest.fetch(it.request, Priority.BACKFILL)
        except Unanswered as error:
            self._obey(self._backfill.failed(it.id, str(error), time.time_ns()))
            return
        before, symbol = self._trades, it.request.symbol
        self._obey(self._backfill.receive(it.id, reply.status, reply.body, reply.headers, time.time_ns()))
        self.pages.append(
            Page(reply.sent_at, reply.received_at - reply.sent_at, it.request.weight, self._trades - before))
        if self._venue.spec.history.newest_only:
            self._holes[symbol] = newest(self._venue.parse_trades(it.request, reply.body, reply.received_at))
            self._obey(self._backfill.need(self._need(self._holes[symbol]), time.time_ns()))


async def measure(name: str, where: Where) -> tuple[str, bool]:
    """A line of the table, and whether nothing was refused."""
    (choice,) = choices(Settings.model_validate({"venues": {name: {"channels": ["trades"]}}}))
    choice = structs.replace(choice, rest=(where.rest,), history=())
    budget, governor = choice.spec.budget, Governor(choice.spec.budget)
    begin = -(-BEGIN_NS // budget.per_ns) * budget.per_ns
    count = max(MEASURED_NS // budget.per_ns, 1)
    async with client() as http:
        rest = Rest(http, venues.create(name), choice.rest, governor, clock=time.time_ns)
        running = asyncio.create_task(rest.run())
        asker = Asker(choice, rest, where.holes)
        await asker.run(time.time_ns() + begin + (count + 1) * budget.per_ns)
        running.cancel()
        await asyncio.wait({running})
    first = min(it.sent_at for it in asker.pages) + begin
    pages = [it for it in asker.pages if first <= it.sent_at < first + count * budget.per_ns]
    seconds = count * budget.per_ns / SECOND
    used = sum(it.weight for it in pages) / count
    most = allowed(budget, Priority.BACKFILL)
    refused = governor.counters["refused"] + governor.counters["unanswered"]
    took = statistics.median(it.took for it in pages) / 1e6
    line = (
        f"{name:18}{sum(it.trades for it in pages) / seconds:10,.0f}{len(pages) / seconds:9.2f}{took:8.1f}"
        f"{used:9.1f}{most:9}{budget.weight:8}{budget.per_ns / SECOND:6g}{used / most:9.1%}"
        f"{used / budget.weight:9.1%}{refused:9}"
    )
    return line + ("" if used / most >= TARGET else f"  less than {TARGET:.0%}"), not refused


HEAD = f"""
backfill: holes of {HOLE:,} trades of a few instruments, asked for again and again, in each hole one request after the
  other (bybit: {NEWEST} of the newest trades of each); all venues at once, over loopback, two processes. Steady state:
  at least {MEASURED_NS // SECOND} s in whole windows, after at least {BEGIN_NS // SECOND} s and a window.
  trades   that were missing, and are had; what else was on the pages does not count
  ms       from a request to its answer, median
  used     weight in a window of so many s; permitted: what the governor leaves to backfill; limit: the venue's
  refused  answers that were none, 429 and 418 above all: there may be none"""
COLUMNS = (
    f"{'venue':18}{'trades/s':>10}{'pages/s':>9}{'ms':>8}{'used':>9}{'permit.':>9}{'limit':>8}{'s':>6}{'of perm.':>9}"
    f"{'of limit':>9}{'refused':>9}"
)


async def everybody(wheres: dict[str, Where]) -> int:
    results = await asyncio.gather(*(measure(name, it) for name, it in sorted(wheres.items())))
    print(HEAD)
    print(COLUMNS)
    for line, _ in results:
        print(line)
    return 0 if all(good for _, good in results) else 1


def main() -> int:
    ours, theirs = get_context("spawn").Pipe()
    simulator = get_context("spawn").Process(target=simulate, args=(theirs,))
    simulator.start()
    theirs.close()
    try:
        return asyncio.run(everybody(ours.recv()))
    finally:
        simulator.terminate()
        simulator.join()


if __name__ == "__main__":
    sys.exit(main())
