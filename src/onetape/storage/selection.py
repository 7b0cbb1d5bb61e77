"""What is asked of a store, and its SQL: every value bound, none written into a statement."""
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from onetape.model import Channel, InstrumentId
from onetape.storage.catalog import LakeFile, StoredInstrument
from onetape.storage.schema import CHANNELS
from onetape.storage.tables import folder

Codes = Mapping[int, InstrumentId]
"""The instruments of a file of the journal, by their numbers there."""


class Selection(Struct, frozen=True, kw_only=True):
    """None: all. The time of a trade, quote or book is its exchange_time, that of a candle its end."""

    venue: str | None = None
    instruments: frozenset[InstrumentId] | None = None
    channel: Channel | None = None
    """Of trades and gaps."""
    start: int | None = None
    """From then on, ns."""
    end: int | None = None
    """Before then, ns."""
    limit: int | None = None
    """So many of the newest."""


def of_one(
    id: InstrumentId, *, channel: Channel | None = None, start: int | None = None, end: int | None = None,
    limit: int | None = None,
) -> Selection:
    """Of one instrument."""
    return Selection(
        venue=id.venue, instruments=frozenset({id}), channel=channel, start=start, end=end, limit=limit,
    )


class Where(Struct, frozen=True):
    """Conditions that all must hold, and their parameters."""

    conditions: tuple[str, ...] = ()
    parameters: tuple[Any, ...] = ()

    def also(self, condition: str, *parameters: Any) -> "Where":
        return Where((*self.conditions, condition), (*self.parameters, *parameters))

    def __str__(self) -> str:
        return " AND ".join(self.conditions) or "true"


def where_of(selection: Selection, low: str, high: str) -> Where:
    """Rows whose times ``low`` to ``high`` (columns) touch the range: what is spelt alike in journal and lake."""
    it = Where()
    if selection.start is not None:
        it = it.also(f'"{high}" >= ?', selection.start)
    if selection.end is not None:
        it = it.also(f'"{low}" < ?', selection.end)
    return it


def known_by(it: Where, as_of: int | None) -> Where:
    """Rows that were available at ``as_of``, ns; None: all. The one place that keeps queries from looking ahead."""
    return it if as_of is None else it.also("available_at <= ?", as_of)


def in_lake(it: Where, selection: Selection) -> Where:
    """With venue, instruments and channel by name."""
    if selection.venue is not None:
        it = it.also("venue = ?", selection.venue)
    if selection.instruments is not None:
        ids = sorted(selection.instruments)
        either = " OR ".join(["(venue = ? AND symbol = ?)"] * len(ids))
        it = it.also(f"({either or 'false'})", *(word for id in ids for word in id))
    if selection.channel is not None:
        it = it.also("channel = ?", str(selection.channel))
    return it


def in_journal(it: Where, selection: Selection, wanted: Codes, known: Codes) -> Where:
    """With instruments and channel by the codes of one file."""
    if len(wanted) < len(known):
        it = it.also(f"instrument IN ({', '.join(map(str, wanted))})")  # integers of ours
    if selection.channel is not None:
        it = it.also("channel = ?", CHANNELS.index(selection.channel))
    return it


class Query(Struct, frozen=True):
    """Of one table: rows ``where``, ordered by a time; with ``rank`` of each instrument (and ``of``) only the best."""

    table: str
    where: Where
    time: str
    of: tuple[str, ...] = ()
    rank: tuple[str, ...] = ()


def sql_of(query: Query, select: str, source: str, keys: tuple[str, ...], place: str, where: Where) -> str:
    """``keys`` name an instrument in the source, ``place`` a row. It takes a limit behind the parameters."""
    chosen = str(where)
    if query.rank:  # first which: bodies of books, of thousands of levels, are read of the best only
        of = ", ".join(f'"{it}"' for it in (*keys, *query.of))
        best = ", ".join(f'"{it}" DESC' for it in (*query.rank, "pos"))
        chosen = (
            f"({place}) IN (SELECT {place} FROM (SELECT {place}, row_number() OVER (PARTITION BY {of} ORDER BY {best})"  # noqa: S608
            f" AS nth FROM {source} WHERE {chosen}) WHERE nth = 1)")
    order = ", ".join(f"{it} DESC" for it in (f'"{query.time}"', *place.split(", ")))
    return f"SELECT {select} FROM {source} WHERE {chosen} ORDER BY {order} LIMIT ?"  # noqa: S608


def span_of(query: Query, keys: tuple[str, ...], source: str, where: Where) -> str:
    """The first and the last of the query's time, by ``keys`` and what it is ``of``."""
    of = ", ".join((*keys, *query.of))
    return f'SELECT {of}, min("{query.time}"), max("{query.time}") FROM {source} WHERE {where} GROUP BY {of}'  # noqa: S608


def wanted_of(selection: Selection, known: Codes) -> Codes:
    """The instruments of a journal file that are selected, by their codes."""
    return {
        code: id for code, id in known.items()
        if selection.venue in (None, id.venue) and (selection.instruments is None or id in selection.instruments)
    }


def relevant(
    files: Iterable[LakeFile], selection: Selection, instruments: Iterable[StoredInstrument],
) -> list[LakeFile]:
    """Files that may have rows of the selection, by what the catalog knows of them."""
    places = None
    if selection.instruments is not None:
        places = {
            (it.venue, folder(it.pair)) for it in instruments
            if InstrumentId(it.venue, it.symbol) in selection.instruments
        }
    return [
        it for it in files
        if selection.venue in (None, it.venue) and (places is None or (it.venue, it.pair) in places)
        and (selection.start is None or it.high >= selection.start)
        and (selection.end is None or it.low < selection.end)
    ]
