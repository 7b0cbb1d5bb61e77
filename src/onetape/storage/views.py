"""A store as SQL: a view of each table over the lake and the end of the journal, as of one moment."""
from collections.abc import Mapping

import duckdb

from onetape.storage.journal import POSITIONS
from onetape.storage.moment import Moment, opened, pairs_of
from onetape.storage.parquet import scan
from onetape.storage.schema import TABLES
from onetape.storage.sealed import JournalFile
from onetape.storage.stream import for_each_select
from onetape.storage.tables import LAKE, names, prepare, prepare_file, prepare_trades, projection

Config = dict[str, str | bool | int | float | list[str]]
TYPES = {"INT": "BIGINT", "INTEGER": "BIGINT", "TEXT": "VARCHAR", "BLOB": "BLOB", "ANY": "BIGINT"}
"""What a column of the journal is in a stream."""

RAW_TRADES = """
    SELECT venue AS exchange, symbol, pair, id, price, size, side, make_timestamp_ns(exchange_time) AS timestamp,
        make_timestamp_ns(received_time) AS received_at, make_timestamp_ns(available_at) AS available_at, channel,
        source, flags, first_id, last_id
    FROM trades"""
MARKET_DATA = """
    SELECT venue AS exchange, symbol, pair, interval, make_timestamp_ns("end") AS timestamp,
        make_timestamp_ns(start) AS start, open, high, low, close, volume, quote_volume, quote_volume_exact, vwap,
        trades, taker_buy_volume, complete, source, revision, make_timestamp_ns(available_at) AS available_at
    FROM candles WHERE final
    QUALIFY row_number() OVER (
        PARTITION BY venue, symbol, interval, "end", source ORDER BY revision DESC, candles.available_at DESC, pos DESC
    ) = 1"""


def views(moment: Moment, config: Config) -> duckdb.DuckDBPyConnection:
    """Of the lake's files nothing is read yet; the end of the journal is loaded."""
    duck = duckdb.connect(config=config)
    try:
        prepare(duck)
        _make_tails(duck)
        for it in moment.journal:
            _load(duck, it)
        for table in LAKE:
            _view(duck, moment, table)
        _instruments(duck, pairs_of(moment))
        duck.execute(f"CREATE VIEW raw_trades AS {RAW_TRADES}")
        duck.execute(f"CREATE VIEW market_data AS {MARKET_DATA}")
    except BaseException:
        duck.close()
        raise
    return duck


def _make_tails(duck: duckdb.DuckDBPyConnection) -> None:
    prepare_file(duck, "", [], as_words=False)
    prepare_trades(duck, wide=False)
    for table, of in LAKE.items():
        types = _types(table) | {name: "VARCHAR" for name, sql in of.stream.items() if sql.startswith("cast(")}
        empty = ", ".join(f'NULL::{types[name]} AS "{name}"' for name in of.stream)
        select = projection(table, f"(SELECT {empty} WHERE false)")
        duck.execute(f"CREATE TABLE {_tail(table)} AS {select}")


def _types(table: str) -> dict[str, str]:
    columns = (it.split() for it in TABLES[table].split(","))
    return {name: TYPES[type_] for name, type_, *_ in columns}


def _load(duck: duckdb.DuckDBPyConnection, it: JournalFile) -> None:
    with opened(it) as file:
        (last,) = file.execute("SELECT max(batch) FROM batches").fetchone()
        counts = {table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in LAKE}  # noqa: S608
        instruments = file.execute("SELECT * FROM instruments ORDER BY id").fetchall()
    prepare_file(duck, it.writer, instruments, as_words=False)

    def run(table: str, select: str) -> int:
        (rows,) = duck.execute(f"INSERT INTO {_tail(table)} {select}").fetchone() or (0,)
        return int(rows)

    for table, count in counts.items():  # a writer may have gone on: up to the same batch in all tables
        for_each_select(duck, it.path, table, (last or 0) + 1 << POSITIONS, count, run)


def _view(duck: duckdb.DuckDBPyConnection, moment: Moment, table: str) -> None:
    columns = ", ".join(f'"{it}"' for it in names(table))
    parts = [f"SELECT {columns} FROM {_tail(table)}"]  # noqa: S608
    if files := [it for it in moment.lake if it.table == table]:
        parts.append(f"SELECT {columns} FROM {scan(moment.store, files)}")  # noqa: S608
    duck.execute(f"CREATE VIEW {table} AS {' UNION ALL '.join(parts)}")


def _instruments(duck: duckdb.DuckDBPyConnection, pairs: Mapping[tuple[str, str], str]) -> None:
    rows = [(venue, symbol, pair) for (venue, symbol), pair in sorted(pairs.items())]
    venues, symbols, of = ([it[column] for it in rows] for column in range(3))
    duck.execute(
        "CREATE TABLE instruments AS SELECT unnest(?::VARCHAR[]) AS venue, unnest(?::VARCHAR[]) AS symbol,"
        " unnest(?::VARCHAR[]) AS pair", [venues, symbols, of])


def _tail(table: str) -> str:
    return f"tail_of_{table}"
