"""Reads trades and books of a store as they came, row by row in constant memory, for formats that replay them."""
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import duckdb
import msgspec
from msgspec import Struct
from msgspec.structs import replace

from onetape.model import Channel, InstrumentId
from onetape.storage.selection import Selection, Where, in_lake, where_of
from onetape.storage.tables import LAKE
from onetape.venues import VENUES

BOOK_TABLES = ("book_snapshots", "book_deltas")
STEP = 10_000  # rows that are fetched at once

Level = tuple[str, str]
"""Price and size, with the digits of the wire."""


class Message(Struct, frozen=True):
    """What one frame changed of a book, or all of it."""

    venue: str
    symbol: str
    snapshot: bool
    exchange_time: int
    available_at: int
    bids: Sequence[Level]
    asks: Sequence[Level]


class _Body(Struct):
    bids: list[Level]
    asks: list[Level]
    depth: int = 0


_decode = msgspec.json.Decoder(_Body).decode

_BREAKS = "channel = 'book' AND state NOT IN ('live', 'crossed')"
# A view of a live book that was kept beside its deltas says nothing new: it has the number of the row before it, or,
# where one input brought many deltas, of a later one of the same moment. Views alone, of a store without deltas, are
# snapshots as good as any.
_VIEWS = """
    CREATE OR REPLACE TABLE views_of_books AS SELECT writer, pos FROM (
        SELECT *, lag(sequence) OVER (PARTITION BY venue, symbol ORDER BY available_at, writer, pos) AS before FROM (
            SELECT venue, symbol, writer, pos, available_at, sequence, true AS whole FROM book_snapshots WHERE {where}
            UNION ALL SELECT venue, symbol, writer, pos, available_at, sequence, false FROM book_deltas WHERE {where}
            UNION ALL SELECT venue, symbol, writer, pos, available_at, NULL, false FROM feed_status
                WHERE {breaks} AND {who}
        )
    ) WHERE whole AND before = sequence
    UNION SELECT writer, pos FROM book_snapshots SEMI JOIN book_deltas USING (venue, symbol, available_at, sequence)
        WHERE {where}"""
_BOOK = """
    SELECT venue, symbol, true AS whole, exchange_time, available_at, body, writer, pos
        FROM book_snapshots ANTI JOIN views_of_books USING (writer, pos) WHERE {where} AND available_at >= ?
    UNION ALL SELECT venue, symbol, false, exchange_time, available_at, body, writer, pos FROM book_deltas
        WHERE {where} AND available_at >= ?
    ORDER BY available_at, writer, pos"""


def instruments(duck: duckdb.DuckDBPyConnection, selection: Selection, tables: Sequence[str]) -> list[InstrumentId]:
    """Those that have a row of the selection in one of the tables."""
    found: set[InstrumentId] = set()
    for table in tables:
        of = LAKE[table]
        where = in_lake(where_of(selection, of.low, of.high), replace(selection, channel=None))
        sql = f"SELECT DISTINCT venue, symbol FROM {table} WHERE {where}"  # noqa: S608 - names are ours
        rows = duck.execute(sql, list(where.parameters))
        found.update(InstrumentId(*it) for it in rows.fetchall())
    return sorted(found)


def span(duck: duckdb.DuckDBPyConnection, selection: Selection, tables: Sequence[str]) -> tuple[int, int]:
    """The first and the last exchange time of it, ns."""
    where = in_lake(where_of(selection, "exchange_time", "exchange_time"), replace(selection, channel=None))
    every = " UNION ALL ".join(f"SELECT exchange_time AS time FROM {it} WHERE {where}" for it in tables)  # noqa: S608
    sql = f"SELECT min(time), max(time) FROM ({every})"  # noqa: S608 - names are ours
    found = duck.execute(sql, list(where.parameters) * len(tables)).fetchone()
    first, last = found or (None, None)
    return int(first or 0), int(last or 0)


def prepare_books(duck: duckdb.DuckDBPyConnection, selection: Selection) -> None:
    """Before ``books`` of it, or of a part of it: finds the views."""
    where, who = _until(selection), in_lake(Where(), selection)
    sql = _VIEWS.format(where=where, breaks=_BREAKS, who=who)
    duck.execute(sql, [*where.parameters * 2, *who.parameters, *where.parameters])


def books(duck: duckdb.DuckDBPyConnection, selection: Selection) -> Iterator[Message]:
    """By ``available_at``; of each instrument a snapshot first, then what changed, until the next snapshot.

    Where the time begins within a book, it is played from the snapshot before: its state is what comes first. What
    follows no snapshot at all is left out, for nobody could tell what book it changes.
    """
    where, start = _until(selection), selection.start
    since = -(1 << 63) if start is None else _since(duck, selection, start)
    running: dict[InstrumentId, _Running] = {}
    rows = duck.cursor().execute(
        _BOOK.format(where=where), [*where.parameters, since] * 2)
    for venue, symbol, whole, time, at, body, *_ in _fetched(rows):
        id, read = InstrumentId(venue, symbol), _decode(body)
        if not whole and id not in running:
            continue
        book = running.setdefault(id, _Running(id))
        if start is not None and time < start and not book.begun:
            book.take(read, time, at, whole=whole)
            continue
        if not book.begun and not whole:
            yield book.told()
        book.begun = True
        yield Message(venue, symbol, whole, time, at, read.bids, read.asks)


class _Running:
    """A book before the time that is asked for."""

    def __init__(self, id: InstrumentId) -> None:
        self.begun = False
        """The time that is asked for has."""
        self._id = id
        self._bids: dict[Decimal, Level] = {}
        self._asks: dict[Decimal, Level] = {}
        self._time = self._at = self._depth = 0

    def take(self, it: _Body, time: int, at: int, *, whole: bool) -> None:
        if whole:
            self._bids, self._asks, self._depth = {}, {}, it.depth
        self._time, self._at = time, at
        for side, levels, sign in ((self._bids, it.bids, -1), (self._asks, it.asks, 1)):
            for level in levels:
                price = sign * Decimal(level[0])
                if Decimal(level[1]):
                    side[price] = level
                else:
                    side.pop(price, None)
            if self._resends() and len(side) > self._depth:
                for price in sorted(side)[self._depth:]:
                    del side[price]

    def _resends(self) -> bool:
        """What leaves the depth is sent again: nobody removes it."""
        venue = VENUES.get(self._id.venue)
        return self._depth > 0 and venue is not None and venue.spec.book.resends

    def told(self) -> Message:
        """As the last message before the time left it, best levels first."""
        bids, asks = ([side[price] for price in sorted(side)] for side in (self._bids, self._asks))
        return Message(*self._id, True, self._time, self._at, bids, asks)


def _until(selection: Selection) -> Where:
    """Whatever lies before its start: books begin there."""
    return in_lake(where_of(replace(selection, start=None), "exchange_time", "exchange_time"), selection)


def _since(duck: duckdb.DuckDBPyConnection, selection: Selection, start: int) -> int:
    """From when on books have to be read so that each has its snapshot."""
    who = in_lake(Where(), selection)
    (since,) = duck.execute(
        f"SELECT min(time) FROM (SELECT max(available_at) AS time FROM book_snapshots"  # noqa: S608
        f" ANTI JOIN views_of_books USING (writer, pos) WHERE {who} AND exchange_time < ? GROUP BY venue, symbol)",
        [*who.parameters, start]).fetchone() or (None,)
    return -(1 << 63) if since is None else int(since)


# --- trades ---------------------------------------------------------------------------------------------------------


class Printed(Struct, frozen=True):
    """A trade, as far as a backtest wants it."""

    exchange_time: int
    available_at: int
    buy: bool
    price: str
    size: str


def trades(
    duck: duckdb.DuckDBPyConnection, selection: Selection, channel: Channel, order: tuple[str, str],
) -> Iterator[Printed]:
    """By two times, those of the same as they were stored."""
    where = where_of(selection, "exchange_time", "exchange_time").also("channel = ?", str(channel))
    where = in_lake(where, replace(selection, channel=None))
    numbers = "wire(price, price_digits), wire(size, size_digits)"
    rows = duck.cursor().execute(
        f"SELECT exchange_time, available_at, side = 'buy', {numbers}"  # noqa: S608 - names are ours
        f" FROM trades WHERE {where} ORDER BY {', '.join(order)}, writer, pos", list(where.parameters))
    return (Printed(*it) for it in _fetched(rows))


def _fetched(rows: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while some := rows.fetchmany(STEP):
        yield from some
