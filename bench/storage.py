"""The journal against bare SQLite, the event loop beside its commits, and the trade ledger: ``make bench``.

journal  rows/s of add, take and commit, and of a plain ``executemany`` of the same tuples into the same table
loop     how late a ticker of 1 ms comes while trades are added in the loop and committed in a thread
ledger   microseconds per trade
"""
import asyncio
import gc
import os
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from onetape.model import Channel, InstrumentId, Side, Trade
from onetape.model.numbers import number
from onetape.storage.journal import Journal, Synchronous, _insert, _open
from onetape.storage.schema import NULL, WRITERS
from onetape.tape.ledger import TradeLedger

REPEATS = 5
BATCH = 1_000
BATCHES = 200
RATE = 20_000  # trades per second
SECONDS = 10
BACKLOG = 200_000
LEDGER = 200_000
NOW = 1_760_000_000_000_000_000
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


def main() -> None:
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}, "
          f"{os.cpu_count()} cores")
    print(f"journal, rows/s, batches of {BATCH:,}, median of {REPEATS} (and their range)")
    for synchronous in ("normal", "full"):
        print(f"  synchronous={synchronous:7}", journal(synchronous))
    print(f"loop, {RATE:,} trades/s, lateness of a 1 ms ticker")
    for name, commits in (("no commits", False), ("a commit each 100 ms", True)):
        print(f"  {name:24}", asyncio.run(beside_commits(commits=commits)))
    for name, commits in (("as long without", False), (f"{BACKLOG:,} at once", True)):
        print(f"  {name:24}", asyncio.run(beside_backlog(commits=commits)))
    print(f"ledger, us per trade, {LEDGER:,} trades, median of {REPEATS}")
    for name, loss in (("consecutive", 0.0), ("1 % lost, 1 % doubled", 0.01)):
        print(f"  {name:24}", ledger(loss))


def trades(first: int, count: int) -> list[Trade]:
    """As a venue's parser makes them; the same for the same ``first``."""
    chance = random.Random(first)
    price, out = 6_000_000, []
    for id_ in range(first, first + count):
        price += chance.randint(-5, 5)
        text = f"{int(chance.lognormvariate(6, 2)) + 1:06}"
        now = NOW + id_ * 1_000
        out.append(Trade(
            venue="binance", symbol=SYMBOLS[id_ % 3], exchange_time=now, received_time=now, available_at=now,
            channel=Channel.TRADES, id=str(id_), after=id_ - 1, price=number(f"{price // 100}.{price % 100:02}000000"),
            size=number(f"{text[:-5]}.{text[-5:]}000"), side=chance.choice((Side.BUY, Side.SELL)),
        ))
    return out


# --- journal ---------------------------------------------------------------------------------------------------------


def journal(synchronous: Synchronous) -> str:
    ours, bare = zip(*(race(synchronous) for _ in range(REPEATS)), strict=True)
    ratios = [mine / other for mine, other in zip(ours, bare, strict=True)]
    return (f"journal {spread(ours, ',.0f')}   executemany {spread(bare, ',.0f')}   ratio {spread(ratios, '.2f')}")


def race(synchronous: Synchronous) -> tuple[float, float]:
    """Rows/s of the journal and of executemany, batch by batch in turn, so that a noisy machine disturbs both."""
    ours = bare = 0
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder), synchronous=synchronous) as journal:
        file = _open(Path(folder) / "bare.db", synchronous)
        for batch in range(BATCHES):
            first = 4_000_000_000 + batch * BATCH
            fresh = trades(first, BATCH)
            ours += timed(lambda fresh=fresh: through(journal, fresh))
            rows = [plain_row(it, batch << 20 | n) for n, it in enumerate(trades(first, BATCH))]
            bare += timed(lambda rows=rows: plainly(file, rows))
        file.close()
    total = BATCH * BATCHES * 1e9
    return total / ours, total / bare


def through(journal: Journal, fresh: list[Trade]) -> None:
    for it in fresh:
        journal.add(it)
    fresh.clear()  # the journal holds them alone, as it does in life, and frees them in its time
    journal.commit(journal.take(NOW))


def plain_row(it: Trade, pos: int) -> tuple[object, ...]:
    """With None for NULL, as a program writes it that knows nothing of the journal."""
    return tuple(None if value is NULL else value for value in WRITERS[Trade][1](it, pos, 1))


def plainly(file: sqlite3.Connection, rows: list[tuple[object, ...]]) -> None:
    file.execute("BEGIN IMMEDIATE")
    file.executemany(_insert("trades", 1), rows)
    file.execute("COMMIT")


# --- loop ------------------------------------------------------------------------------------------------------------


async def beside_commits(*, commits: bool) -> str:
    late: list[float] = []
    ready = trades(1, RATE * SECONDS)[::-1]
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        gc.collect()
        ticker = asyncio.create_task(tick(late))
        feeder = asyncio.create_task(feed(journal, ready))
        took = []
        for _ in range(SECONDS * 10):
            await asyncio.sleep(0.1)
            batch = journal.take(NOW)
            if commits:
                began = time.perf_counter()
                await asyncio.to_thread(journal.commit, batch)
                took.append(time.perf_counter() - began)
        ticker.cancel()
        feeder.cancel()
        stored = journal.counters["trades"]
    if not took:
        return lateness(late)
    return f"{lateness(late)}   {stored:,} rows, a commit takes {1e3 * statistics.median(took):.1f} ms"


async def beside_backlog(*, commits: bool) -> str:
    late: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder)) as journal:
        for it in trades(1, BACKLOG):
            journal.add(it)
        gc.collect()
        ticker = asyncio.create_task(tick(late))
        began = time.perf_counter()
        await (asyncio.to_thread(journal.commit, journal.take(NOW)) if commits else asyncio.sleep(0.8))
        took = time.perf_counter() - began
        ticker.cancel()
    return lateness(late) + (f"   the commit takes {1e3 * took:.0f} ms" if commits else "")


async def feed(journal: Journal, ready: list[Trade]) -> None:
    """Adds as many as the rate says, each time that the loop comes by."""
    began, added = time.perf_counter(), 0
    while ready:
        for _ in range(min(int((time.perf_counter() - began) * RATE) - added, len(ready))):
            journal.add(ready.pop())
            added += 1
        await asyncio.sleep(0.001)


async def tick(late: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)


def lateness(late: list[float]) -> str:
    late = sorted(1e3 * it for it in late)
    p50, p99 = (late[int(len(late) * part)] for part in (0.5, 0.99))
    return f"p50 {p50:5.2f} ms   p99 {p99:5.2f} ms   max {late[-1]:5.2f} ms"


# --- ledger ----------------------------------------------------------------------------------------------------------


def ledger(loss: float) -> str:
    return spread([receive_all(loss) / LEDGER / 1e3 for _ in range(REPEATS)], ".2f")


def receive_all(loss: float) -> int:
    """ns; with the wakes at which what stays lost becomes a gap."""
    chance = random.Random(1)
    arrivals: list[Trade] = []
    for it in trades(1, LEDGER):
        fate = chance.random()
        arrivals += [it] * (0 if fate < loss else 2 if fate < 2 * loss else 1)
    it = TradeLedger(InstrumentId("binance", "BTCUSDT"), Channel.TRADES)
    return timed(lambda: receive(it, arrivals))


def receive(it: TradeLedger, arrivals: Iterable[Trade]) -> None:
    now = 0
    for trade in arrivals:
        now += 1_000_000_000 // RATE
        it.receive(trade, now)
        wake = it.next_wake()
        if wake is not None and wake <= now:
            it.wake(now)


def timed(work: Callable[[], object]) -> int:
    began = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - began


def spread(values: Iterable[float], form: str) -> str:
    low, *_, high = ordered = sorted(values)
    return f"{statistics.median(ordered):{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
