"""Rows of a SQLite file as a stream of columns that DuckDB reads: no row passes through Python."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import adbc_driver_manager
import adbc_driver_sqlite
import duckdb
from msgspec import Struct

from onetape.clock import DAY
from onetape.storage.sealed import open_sound
from onetape.storage.tables import prepare_trades, projection, streams

ROWS = 65_536
"""Rows of one step, at most; the driver takes the types of the columns from the first."""
STEP = 16_000_000
"""Bytes of one step: the memory that the driver takes for it is none of DuckDB's."""
BODIES = {"book_snapshots": "body", "book_deltas": "body", "quarantine": "text"}
"""By table the column that may be of any length."""
FIXED = 100
"""Bytes of all the others, about."""
SOURCE = "rows_of_journal"


class Breadth(Struct, frozen=True):
    """Of the rows of a table in a file of the journal."""

    width: int = 1
    """Bytes of a row, on average, in the partition where they are widest; 1: they are narrow."""
    partitions: int = 1


def breadth_of(path: Path, table: str) -> Breadth:
    """Looked up where rows may be of any length."""
    if table not in BODIES:
        return Breadth()
    partition = "venue" if table == "quarantine" else f"instrument, exchange_time / {DAY}"
    widths = f"SELECT avg(length({BODIES[table]})) AS width FROM {table} GROUP BY {partition}"  # noqa: S608 - ours
    with closing(open_sound(path)) as file:
        width, partitions = file.execute(f"SELECT max(width), count(*) FROM ({widths})").fetchone()  # noqa: S608
    return Breadth(int(width) + FIXED, partitions) if partitions else Breadth()


@contextmanager
def stream(path: Path, sql: str, rows: int = ROWS) -> Iterator[Any]:
    """The result of a SELECT, to be read once, by columns; it is closed with the file at the end of the block."""
    with ExitStack() as stack:
        database = stack.enter_context(adbc_driver_sqlite.connect(f"{path.absolute().as_uri()}?mode=ro"))
        connection = stack.enter_context(adbc_driver_manager.AdbcConnection(database))
        statement = stack.enter_context(adbc_driver_manager.AdbcStatement(connection))
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(rows)})
        statement.set_sql_query(sql)
        result, _ = statement.execute_query()
        yield result


def _any(path: Path, sql: str) -> bool:
    with closing(open_sound(path)) as file:
        return file.execute(f"SELECT 1 FROM ({sql}) LIMIT 1").fetchone() is not None  # noqa: S608 - ours


def for_each_select(
    duck: duckdb.DuckDBPyConnection, path: Path, table: str, end: int, count: int, run: Callable[[str, str], int], *,
    breadth: Breadth | None = None, most: int | None = None,
) -> int:
    """Has the ``count`` rows of a table below a position run, as (table, SELECT); ``run`` returns how many it saw.

    More than one SELECT where not all rows come alike, or where each may have so many rows at ``most``; what is rare is
    only looked for where rows are missing.
    """
    rows = 0
    if not count:
        return rows
    width = (breadth or breadth_of(path, table)).width
    step = max(min(ROWS, STEP // width), 1)
    for it in streams(table, end):
        for sql in _pieces(it.sql, most):
            if rows == count or not _any(path, sql):  # an empty stream would have no types either
                break
            if table == "trades":
                prepare_trades(duck, wide=it.wide)
            others = "".join(f', {sql} AS "{name}"' for name, sql in it.without.items())
            with stream(path, sql, step) as source:
                duck.register(SOURCE, source)
                try:
                    rows += run(table, projection(table, f"(SELECT *{others} FROM {SOURCE})"))  # noqa: S608 - ours
                finally:
                    duck.unregister(SOURCE)
    return rows


def _pieces(sql: str, most: int | None) -> Iterator[str]:
    """Without an end, where it is cut: whoever takes them stops at the first that is empty."""
    if most is None:
        yield sql
        return
    for offset in count(0, most):
        yield f"{sql} LIMIT {most} OFFSET {offset}"
