"""Writes trades and books of a store as CSV in the layout of Tardis: microseconds, and the digits of the wire."""
import gzip
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

import duckdb
import zstandard
from msgspec.structs import replace

from onetape.clock import MICROSECOND
from onetape.model import Channel, InstrumentId
from onetape.storage.formats.exchanges import exchange
from onetape.storage.formats.history import BOOK_TABLES, Message, books, instruments, prepare_books
from onetape.storage.parquet import literal
from onetape.storage.selection import Selection, in_lake, where_of

HEAD = "exchange,symbol,timestamp,local_timestamp"
TRADES = f"{HEAD},id,side,price,amount"
BOOKS = f"{HEAD},is_snapshot,side,price,amount"

# ``local_timestamp`` is available_at: for what waited for something else (deltas of a book for their snapshot) it alone
# tells the order in which it counts. For all else it is received_time.
_TRADES = f"""
    COPY (
        SELECT exchange, name AS symbol, exchange_time // {MICROSECOND} AS timestamp,
            available_at // {MICROSECOND} AS local_timestamp, id, side::VARCHAR AS side,
            wire(price, price_digits) AS price, wire(size, size_digits) AS amount
        FROM trades JOIN chosen USING (venue, symbol) WHERE trades.channel = chosen.channel AND {{where}}
        ORDER BY available_at, writer, pos
    ) TO {{path}} (FORMAT csv, HEADER, USE_TMP_FILE false{{packed}})"""  # noqa: S608 - names are ours


def write_trades(
    duck: duckdb.DuckDBPyConnection, selection: Selection, tapes: Mapping[InstrumentId, Channel], path: Path,
    compression: str = "",
) -> int:
    """Of each instrument the trades of one channel, in the order in which they came; returns how many."""
    rows = [(*id, *exchange(id), str(channel)) for id, channel in tapes.items()]
    columns = ("venue", "symbol", "exchange", "name", "channel")
    listed = ", ".join(f"unnest(?::VARCHAR[]) AS {it}" for it in columns)
    duck.execute(
        f"CREATE OR REPLACE TABLE chosen AS SELECT {listed}", [[it[at] for it in rows] for at in range(len(columns))])
    where = where_of(selection, "exchange_time", "exchange_time")
    where = in_lake(where, replace(selection, channel=None))
    packed = f", COMPRESSION {compression}" if compression else ""
    sql = _TRADES.format(where=where, path=literal(path), packed=packed)
    (count,) = duck.execute(sql, list(where.parameters)).fetchone() or (0,)
    return int(count)


def write_books(
    duck: duckdb.DuckDBPyConnection, selection: Selection, path: Path, compression: str = "",
    tell: Callable[[int], None] = lambda _: None,
) -> tuple[int, int]:
    """Snapshots with ``is_snapshot``, and what changed between them; returns how many rows, and how many snapshots.

    A message without levels has no row. ``tell`` hears the exchange time, ns, that it has come to.
    """
    prepare_books(duck, selection)
    known = instruments(duck, replace(selection, start=None), BOOK_TABLES)
    names = {id: ",".join(map(_cell, exchange(id))) for id in known}
    count = snapshots = 0
    with _packed(path, compression) as out:
        out.write(f"{BOOKS}\n")
        for it in books(duck, selection):
            rows = list(_rows(it, names[InstrumentId(it.venue, it.symbol)]))
            out.writelines(rows)
            count += len(rows)
            snapshots += it.snapshot
            tell(it.exchange_time)
    return count, snapshots


def _rows(it: Message, name: str) -> Iterator[str]:
    whole = "true" if it.snapshot else "false"
    head = f"{name},{it.exchange_time // MICROSECOND},{it.available_at // MICROSECOND},{whole}"
    for side, levels in (("bid", it.bids), ("ask", it.asks)):
        for price, size in levels:
            yield f"{head},{side},{price},{size}\n"


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(it in text for it in ',"\r\n') else text


@contextmanager
def _packed(path: Path, compression: str) -> Iterator[TextIO]:
    with path.open("wb") as file:
        match compression:
            case "gzip":
                with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as gz, _text(gz) as out:
                    yield out
            case "zstd":
                with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as zst, _text(zst) as out:
                    yield out
            case _:
                with _text(file) as out:
                    yield out


def _text(file: object) -> TextIOWrapper:
    return TextIOWrapper(file, encoding="utf-8", newline="")  # type: ignore[arg-type]  # whatever takes bytes
