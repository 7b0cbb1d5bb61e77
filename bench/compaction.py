"""Compaction of a sealed journal file against a bare COPY of DuckDB of the same rows.

compaction  the whole of it: read, partitioned, forced to the disk, published in the catalog
stream      the same rows through the same stream into one file: nothing else
memory      the same columns, already in DuckDB's memory, into one file
"""
import os
import platform
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb

from onetape.model import Channel, Side, Trade
from onetape.model.numbers import number
from onetape.storage.compaction import MEMORY, compact
from onetape.storage.journal import Journal, files, open_readonly
from onetape.storage.parquet import engine
from onetape.storage.stream import for_each_select
from onetape.storage.tables import prepare, prepare_file

ROWS = 1_000_000
BATCH = 1_000
REPEATS = 5
NOW = 1_760_000_000_000_000_000
TO = "(FORMAT parquet, COMPRESSION zstd)"


def main() -> None:
    print(f"Python {platform.python_version()}, DuckDB {duckdb.__version__}, {platform.machine()}, "
          f"{os.cpu_count()} cores")
    print(f"compaction of a journal file of {ROWS:,} trades, rows/s, median of {REPEATS} (and their range)")
    for symbols in (("BTCUSDT",), ("BTCUSDT", "ETHUSDT", "SOLUSDT"), tuple(f"X{n}USDT" for n in range(50))):
        print(f"  {len(symbols):3} instruments  {race(symbols)}")


def race(symbols: tuple[str, ...]) -> str:
    """In turn, so that a noisy machine disturbs all of them."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        write(store, symbols)
        ours, stream, memory = zip(*(one_round(store) for _ in range(REPEATS)), strict=True)
    ratios = ", ".join(
        f"{statistics.median(mine / other for mine, other in zip(ours, others, strict=True)):.2f} of {name}"
        for name, others in (("stream", stream), ("memory", memory)))
    return f"compaction {spread(ours)}   stream {spread(stream)}   memory {spread(memory)}   {ratios}"


def write(store: Path, symbols: tuple[str, ...]) -> None:
    chance, price = random.Random(1), 6_000_000
    with Journal(store, pair_of=lambda _, symbol: f"{symbol[:-4]}-USDT") as journal:
        for id_ in range(4_000_000_000, 4_000_000_000 + ROWS):
            price += chance.randint(-5, 5)
            now = NOW + id_ * 1_000
            journal.add(Trade(
                venue="binance", symbol=symbols[id_ % len(symbols)], exchange_time=now // 1_000_000 * 1_000_000,
                received_time=now, available_at=now, channel=Channel.TRADES, id=str(id_), after=id_ - 1,
                price=number(f"{price // 100}.{price % 100:02}000000"),
                size=number(f"0.{int(chance.lognormvariate(6, 2)) % 100_000:05}000"),
                side=chance.choice((Side.BUY, Side.SELL)),
            ))
            if id_ % BATCH == BATCH - 1:
                journal.commit(journal.take(NOW))


def one_round(store: Path) -> tuple[float, float, float]:
    ours = timed(lambda: compact(store, NOW))
    shutil.rmtree(store / "lake")
    for path in store.glob("catalog.db*"):
        path.unlink()
    (path,) = files(store / "journal" / "main")
    with closing(open_readonly(path)) as file:
        instruments = file.execute("SELECT * FROM instruments ORDER BY id").fetchall()
    with engine(store, MEMORY) as duck:
        prepare(duck)
        prepare_file(duck, "main", instruments)
        stream = timed(lambda: through(duck, path, f"COPY ({{}}) TO '{store}/stream.parquet' {TO}"))
        through(duck, path, "CREATE TABLE rows AS SELECT * EXCLUDE (date, venue, pair) FROM ({})")
        memory = timed(lambda: duck.execute(f"COPY rows TO '{store}/memory.parquet' {TO}"))
    return ours, stream, memory


def through(duck: duckdb.DuckDBPyConnection, path: Path, statement: str) -> None:
    def run(_table: str, select: str) -> int:
        duck.execute(statement.format(select))
        return ROWS

    for_each_select(duck, path, "trades", 1 << 43, ROWS, run)


def timed(work: Callable[[], object]) -> float:
    """Rows/s."""
    began = time.perf_counter()
    work()
    return ROWS / (time.perf_counter() - began)


def spread(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})"


if __name__ == "__main__":
    main()
