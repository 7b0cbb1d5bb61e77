"""Rows of a SQLite file as a stream of columns that DuckDB reads: no row passes through Python."""
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import adbc_driver_manager
import adbc_driver_sqlite
import duckdb

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


def for_each_select(
    duck: duckdb.DuckDBPyConnection, path: Path, table: str, end: int, count: int, run: Callable[[str, str], int],
) -> int:
    """Has the ``count`` rows of a table below a position run, as (table, SELECT); ``run`` returns how many it saw.

    More than one SELECT where not all rows come alike; what is rare is only looked for where rows are missing.
    """
    rows = 0
    for wide, sql in enumerate(streams(table, end)):
        if rows == count:  # an empty stream would have no types either
            break
        if table == "trades":
            prepare_trades(duck, wide=bool(wide))
        with stream(path, sql) as source:
            duck.register(SOURCE, source)
            try:
                rows += run(table, projection(table, SOURCE))
            finally:
                duck.unregister(SOURCE)
    return rows
