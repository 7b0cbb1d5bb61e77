"""Rows of a SQLite file as a stream of columns that DuckDB reads: no row passes through Python."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_manager
import adbc_driver_sqlite
import duckdb

from onetape.storage.sealed import open_sound
from onetape.storage.tables import prepare_trades, projection, streams

ROWS = 65_536
"""Rows of one step; the driver takes the types of the columns from the first."""
SOURCE = "rows_of_journal"


@contextmanager
def stream(path: Path, sql: str) -> Iterator[Any]:
    """The result of a SELECT, to be read once, by columns; it is closed with the file at the end of the block."""
    with ExitStack() as stack:
        database = stack.enter_context(adbc_driver_sqlite.connect(f"{path.absolute().as_uri()}?mode=ro"))
        connection = stack.enter_context(adbc_driver_manager.AdbcConnection(database))
        statement = stack.enter_context(adbc_driver_manager.AdbcStatement(connection))
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(ROWS)})
        statement.set_sql_query(sql)
        rows, _ = statement.execute_query()
        yield rows


def _any(path: Path, sql: str) -> bool:
    with closing(open_sound(path)) as file:
        return file.execute(f"SELECT 1 FROM ({sql}) LIMIT 1").fetchone() is not None  # noqa: S608 - ours


def for_each_select(
    duck: duckdb.DuckDBPyConnection, path: Path, table: str, end: int, count: int, run: Callable[[str, str], int],
) -> int:
    """Has the ``count`` rows of a table below a position run, as (table, SELECT); ``run`` returns how many it saw.

    More than one SELECT where not all rows come alike; what is rare is only looked for where rows are missing.
    """
    rows = 0
    for it in streams(table, end):
        if rows == count or not _any(path, it.sql):  # an empty stream would have no types either
            continue
        if table == "trades":
            prepare_trades(duck, wide=it.wide)
        others = "".join(f', {sql} AS "{name}"' for name, sql in it.without.items())
        with stream(path, it.sql) as source:
            duck.register(SOURCE, source)
            try:
                rows += run(table, projection(table, f"(SELECT *{others} FROM {SOURCE})"))  # noqa: S608 - ours
            finally:
                duck.unregister(SOURCE)
    return rows
