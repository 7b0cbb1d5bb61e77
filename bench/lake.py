"""What a trade takes in the lake, and how fast it is asked, against plain DuckDB on the same Parquet: ``make bench``.

bytes    per trade, all columns and the folders' files as they lie there after compaction
candles  of a minute, over all trades, by SQL over the view of lake and journal; and plain, over ``read_parquet``
vwap     of an hour each, likewise
hour     one candle each minute of a single hour: what the row groups' times save
verify   the whole store, read again

The trades are made, not heard: consecutive ids, a price that walks in ticks, lognormal sizes of 5 to 8 digits, several
fills at one time, times of microseconds at the exchange and of nanoseconds here. They are written into files of the
journal by SQL, batches of 1,000, a million trades a file; what compacts and asks them is what a user has. The last
10,000 stay in the journal, and come with ours only; both count the same lake.

    python bench/lake.py [TRADES]
"""
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import msgspec

from onetape.clock import DAY
from onetape.storage.compaction import compact
from onetape.storage.journal import _create
from onetape.storage.lake import Lake

TRADES = 10_000_000
A_FILE = 1_000_000
TAIL = 10_000
BATCH = 1_000
REPEATS = 5
START = 1_760_000_000_000_000_000 // DAY * DAY
SPAN = 2 * DAY
QUERIES = {
    "candles": """
        SELECT exchange_time // 60_000_000_000 AS minute, arg_min(price, pos), max(price), min(price),
            arg_max(price, pos), sum(size), count(*)
        FROM {} WHERE venue = 'binance' AND symbol = 'BTCUSDT' AND exchange_time < {}
        GROUP BY minute ORDER BY minute""",
    "vwap": """
        SELECT exchange_time // 3_600_000_000_000 AS hour,
            round(sum(price::DOUBLE * size::DOUBLE) / sum(size::DOUBLE), 6)
        FROM {} WHERE venue = 'binance' AND symbol = 'BTCUSDT' AND exchange_time < {} GROUP BY hour ORDER BY hour""",
    "hour": """
        SELECT exchange_time // 60_000_000_000 AS minute, max(price), sum(size)
        FROM {} WHERE venue = 'binance' AND symbol = 'BTCUSDT' AND exchange_time < {}
            AND exchange_time >= 1760018400000000000 AND exchange_time < 1760022000000000000
        GROUP BY minute ORDER BY minute""",
}


def main(count: int) -> None:
    print(f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, {platform.machine()}, "
          f"{os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        began = time.perf_counter()
        rows = Trades(count + TAIL)
        for file in range(-(-count // A_FILE)):
            write(store, file, rows.take(min(A_FILE, count - file * A_FILE)))
        print(f"{count:,} trades of {SPAN // DAY} days written in {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        compact(store, START + 9 * DAY, keep_journal_ns=-1)
        took = time.perf_counter() - began
        compact(store, START + 9 * DAY, keep_replaced_ns=-1, merge_at=2)
        print(f"compacted at {count / took:,.0f} trades/s; {per_trade(store, count):.1f} bytes per trade in the lake")
        until = rows.time
        write(store, -(-count // A_FILE), rows.take(TAIL))
        ask(store, until)
        began = time.perf_counter()
        with Lake(store) as lake:
            problems = lake.verify()
        took = time.perf_counter() - began
        print(f"verify: {took:.1f} s, {took / count * 1e6:.2f} s a million trades; {len(problems)} problems")
        shutil.rmtree(store / "lake")


def per_trade(store: Path, count: int) -> float:
    return sum(it.stat().st_size for it in (store / "lake").rglob("*.parquet")) / count


# --- trades ----------------------------------------------------------------------------------------------------------


class Trades:
    """Rows of the journal's table, in order; the batch and the place in it are for who writes them."""

    def __init__(self, count: int) -> None:
        self._chance = random.Random(1)
        self._pause = count / (SPAN * 0.999)
        self._id, self._price = 4_000_000_000, 6_000_000
        self.time = START

    def take(self, count: int) -> Iterator[tuple[int, ...]]:
        """id, side, price in cents and size in 1e-8, exchange_time, received_time."""
        chance, burst, side, delay = self._chance, 0, 0, 0
        draw, lognormal, exponential = chance.random, chance.lognormvariate, chance.expovariate
        for _ in range(count):
            self._id += 1
            if burst:  # one order, several fills
                burst -= 1
                self._price += 2 * side - 1
            else:
                burst = int(exponential(0.7))
                self.time += int(exponential(self._pause) * 2) // 1_000 * 1_000 + 1_000
                side = int(draw() < 0.5)
                self._price += int(lognormal(0, 1)) * (2 * side - 1) if draw() < 0.3 else 0
                delay = 2_000_000 + int(lognormal(13, 1))
            size = int(lognormal(13, 2)) + 1
            yield self._id, side, self._price, size, self.time, self.time + delay


def write(store: Path, number: int, rows: Iterator[tuple[int, ...]]) -> None:
    """A sealed file of the journal; prices have two digits behind the point, sizes eight."""
    first = number * (A_FILE // BATCH) + 1
    path = store / "journal" / "main" / f"{first:012d}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    _create(path)
    scales, held, end = 2 << 8 | 8, 0, (0, 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA synchronous=OFF")
        file.execute("BEGIN")
        file.execute("INSERT INTO instruments VALUES (1, 'binance', 'BTCUSDT', 'BTC-USDT')")

        def placed() -> Iterator[tuple[object, ...]]:
            nonlocal held, end
            for id_, side, price, size, exchange, received in rows:
                end = end if held else (id_, exchange)
                yield ((first + held // BATCH) << 20 | held % BATCH, id_, side, price, size, scales, exchange, received,
                       received)
                held += 1

        file.executemany(
            "INSERT INTO trades VALUES (?,1,0,?,NULL,NULL,?,?,?,?,?,?,?,0,0,NULL)", placed())
        last_id, last_time = file.execute("SELECT id, exchange_time FROM trades ORDER BY pos DESC LIMIT 1").fetchone()
        batches = -(-held // BATCH)
        file.execute(
            "INSERT INTO coverage VALUES (?,1,0,?,?,?,?)",
            ((first + batches - 1) << 20 | BATCH, end[0], last_id, end[1], last_time))
        file.executemany("INSERT INTO batches VALUES (?,?,?)", (
            (first + it, last_time, msgspec.json.encode(
                {"trades": min(BATCH, held - it * BATCH)} | ({"coverage": 1} if it == batches - 1 else {})).decode())
            for it in range(batches)))
        file.execute("COMMIT")


# --- questions -------------------------------------------------------------------------------------------------------


def ask(store: Path, until: int) -> None:
    """In turn, so that a noisy machine disturbs both; the answers are compared."""
    began = time.perf_counter()
    with Lake(store) as lake, closing(lake.connect()) as ours, closing(duckdb.connect()) as plain:
        print(f"connected to lake and journal in {(time.perf_counter() - began) * 1e3:.0f} ms")
        found = f"read_parquet('{store}/lake/trades/**/*.parquet', hive_partitioning = true)"
        for name, sql in QUERIES.items():
            questions = ours, sql.format("trades", until + 1), plain, sql.format(found, until + 1)
            assert ours.execute(questions[1]).fetchall() == plain.execute(questions[3]).fetchall()
            mine, theirs = zip(*(
                (timed(ours, questions[1]), timed(plain, questions[3])) for _ in range(REPEATS)), strict=True)
            ratio = statistics.median(theirs) / statistics.median(mine)
            print(f"{name:8} ours {spread(mine)}   plain {spread(theirs)}   {ratio:.2f}x")


def timed(duck: duckdb.DuckDBPyConnection, sql: str) -> float:
    began = time.perf_counter()
    duck.execute(sql).fetchall()
    return time.perf_counter() - began


def spread(values: tuple[float, ...]) -> str:
    low, middle, high = min(values) * 1e3, statistics.median(values) * 1e3, max(values) * 1e3
    return f"{middle:,.0f} ms ({low:,.0f} to {high:,.0f})"


if __name__ == "__main__":
    main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else TRADES)
