"""Writes a table of a store as one Parquet or CSV file, by DuckDB: in constant memory, and with exact numbers."""
from pathlib import Path

import duckdb

from onetape.storage.parquet import literal
from onetape.storage.selection import Selection, Where, in_lake, where_of
from onetape.storage.tables import LAKE, names

TABLES = tuple(LAKE)
MEMORY = "512MB"
"""That DuckDB takes; beyond, it sorts on the disk."""
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
LATEST = """
    QUALIFY row_number() OVER (
        PARTITION BY venue, symbol, interval, "end", source ORDER BY revision DESC, available_at DESC, pos DESC
    ) = 1"""

_PRICES = ("open", "high", "low", "close", "volume", "vwap", "taker_buy_volume")  # in the order of their digits
_SIDES = ("bid_price", "bid_size", "ask_price", "ask_size")
_CSV = {  # numbers with the digits of the wire: the columns that say how many these are have no place then
    "trades": {
        "price": "wire(price, price_digits)", "size": "wire(size, size_digits)", "price_digits": "", "size_digits": "",
        "raw": "raw::VARCHAR",
    },
    "candles": {name: f"wire({name}, digits[{at}])" for at, name in enumerate(_PRICES, 1)} | {
        "quote_volume": "coalesce(wire(quote_volume, quote_volume_digits), quote_volume_exact)", "digits": "",
        "quote_volume_digits": "", "quote_volume_exact": "",
    },
    "quotes": {name: f"wire({name}, digits[{at}])" for at, name in enumerate(_SIDES, 1)} | {"digits": ""},
}
_BODY = {"body": "decode(body)"}  # the event as JSON


def prepare(duck: duckdb.DuckDBPyConnection) -> None:
    """For any export over the views of a store."""
    duck.execute(f"SET memory_limit = '{MEMORY}'")
    duck.execute("SET enable_progress_bar = true")  # else nobody can ask how far it is
    duck.execute("SET enable_progress_bar_print = false")
    duck.execute("""
        CREATE OR REPLACE MACRO wire(v, digits) AS CASE WHEN digits = 0 THEN left(v::VARCHAR, -19)
            ELSE left(v::VARCHAR, (length(v::VARCHAR) - 18 + digits)::BIGINT) END""")


def write(
    duck: duckdb.DuckDBPyConnection, table: str, selection: Selection, path: Path, *, csv: bool, compression: str = "",
    interval: str | None = None, revisions: bool = False,
) -> int:
    """The rows of a selection by their times, those of one time as they were stored; returns how many.

    ``interval``, ``revisions``: of candles only that one; each revision instead of the latest.
    """
    where = _where(table, selection)
    if interval is not None:
        where = where.also("interval = ?", interval)
    latest = LATEST if table == "candles" and not revisions else ""
    sql = (
        f"SELECT {', '.join(_columns(table, csv=csv))} FROM"  # noqa: S608 - names are ours
        f' (SELECT * FROM {table} WHERE {where}{latest}) ORDER BY "{LAKE[table].low}", writer, pos'
    )
    how = "FORMAT csv, HEADER" if csv else "FORMAT parquet, COMPRESSION zstd"
    packed = f", COMPRESSION {compression}" if compression and csv else ""
    copy = f"COPY ({sql}) TO {literal(path)} ({how}{packed}, USE_TMP_FILE false)"  # it has another name as it is
    (rows,) = duck.execute(copy, list(where.parameters)).fetchone() or (0,)
    return int(rows)


def _where(table: str, selection: Selection) -> Where:
    """Candles lie wholly in the time; of all else it is enough to touch it."""
    if table == "candles":
        where = Where()
        if selection.start is not None:
            where = where.also("start >= ?", selection.start)
        if selection.end is not None:
            where = where.also('"end" <= ?', selection.end)
    else:
        where = where_of(selection, LAKE[table].low, LAKE[table].high)
    return in_lake(where, selection)


def _columns(table: str, *, csv: bool) -> list[str]:
    own = _CSV.get(table, {}) if csv else {}
    own = own | _BODY if table in ("book_snapshots", "book_deltas") else own
    left_out = {"date", "writer", "pos", *(["pair"] if LAKE[table].stored_as_text else [])}  # where a row stands
    return [
        f'{own.get(name) or _quoted(name)} AS "{name}"' for name in names(table)
        if name not in left_out and own.get(name) != ""
    ]


def _quoted(name: str) -> str:
    return f'"{name}"'
