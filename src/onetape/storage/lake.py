"""The lake: everything that a store holds, read while it is written and compacted."""
import os
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Self

import duckdb
import msgspec

from onetape.model import BookSnapshot, Candle, Channel, Trade, decode
from onetape.storage.catalog import StoredInstrument, TapeId
from onetape.storage.inspection import status, verify
from onetape.storage.moment import (
    Moment,
    consistently,
    count_of,
    coverage_of,
    instruments_of,
    look,
    opened,
    pairs_of,
    proven_tapes,
    pruned_of,
)
from onetape.storage.parquet import scan
from onetape.storage.rows import (
    CANDLE_IN_JOURNAL,
    CANDLE_IN_LAKE,
    TRADE_IN_JOURNAL,
    TRADE_IN_LAKE,
    Placed,
    Row,
    StoredGap,
    candles_of_journal,
    candles_of_lake,
    gap_of,
    trades_of_journal,
    trades_of_lake,
)
from onetape.storage.schema import CHANNELS
from onetape.storage.selection import (
    Codes,
    Query,
    Selection,
    Where,
    in_journal,
    in_lake,
    known_by,
    relevant,
    span_of,
    sql_of,
    wanted_of,
    where_of,
)
from onetape.storage.tables import LAKE
from onetape.storage.views import views
from onetape.tape.coverage import Coverage

__all__ = ["Lake", "Selection", "StoredGap", "StoredInstrument"]

ALL = Selection()
Span = tuple[int, int]
"""First and last, ns, both inclusive."""
_GAP = "channel, after, before, from_time, to_time, state, cause, recovered, available_at"


class Lake:
    """Over the folder of a store; each answer is of the moment in which it was asked for."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._engine: duckdb.DuckDBPyConnection | None = None

    def __enter__(self) -> Self:
        """Raises UsageError: there is no store, or its schema is newer."""
        look(self._store)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._engine is not None:
            self._engine.close()

    @property
    def _duck(self) -> duckdb.DuckDBPyConnection:
        """Opened by the first Parquet file that is read: it takes 27 MB, and a run over a new store has none."""
        if self._engine is None:
            self._engine = duckdb.connect(config=_config())
        return self._engine

    # --- what there is ----------------------------------------------------------------------------------------------

    def instruments(self) -> list[StoredInstrument]:
        """Each once, under the pair that is known of it."""
        return [StoredInstrument(*key, pair) for key, pair in sorted(self.pairs().items())]

    def pairs(self) -> dict[tuple[str, str], str]:
        """The pair of each venue and symbol; the symbol itself where nothing else is known."""
        return consistently(self._store, pairs_of)

    def coverage(self) -> dict[TapeId, Coverage]:
        """Of each tape whose ids prove something: which of them are accounted for."""
        return consistently(self._store, coverage_of)

    def pruned(self, table: str) -> dict[tuple[str, str], Span]:
        """Of which times rows of a table are gone by policy, by venue and symbol: from and until, ns."""
        assert table in LAKE
        return consistently(self._store, lambda moment: pruned_of(moment, table))

    def count(self, table: str) -> int:
        """Rows of a table."""
        assert table in LAKE
        return consistently(self._store, lambda moment: count_of(moment, table))

    # --- events -----------------------------------------------------------------------------------------------------

    def trades(self, selection: Selection = ALL, *, as_of: int | None = None) -> list[Trade]:
        """By exchange_time, those of one time as they were stored; each number with the digits of the wire.

        ``as_of``: only those that were available by then, ns.
        """
        return consistently(self._store, lambda moment: self._trades(moment, selection, as_of))

    def spans(
        self, selection: Selection = ALL, *, as_of: int | None = None, behind: int | None = None,
    ) -> dict[TapeId, Span]:
        """Exchange times of the first and the last stored trade of each tape; ``as_of`` as of ``trades``.

        ``behind``: of what is later than that, ns. The times and the limit of the selection do not matter.
        """
        where = Where() if behind is None else Where().also("exchange_time > ?", behind)
        query = Query("trades", known_by(where, as_of), "exchange_time", ("channel",))
        found = consistently(self._store, lambda moment: self._spans(moment, selection, query))
        return {(venue, symbol, Channel(channel)): span for (venue, symbol, channel), span in found.items()}

    def candle_spans(self, selection: Selection = ALL, source: str = "trades") -> dict[tuple[str, str, str], Span]:
        """Ends of the first and the last stored candle by venue, symbol and interval; the selection as of ``spans``."""
        query = Query("candles", Where().also("source = ?", source), "end", ("interval",))
        return consistently(self._store, lambda moment: self._spans(moment, selection, query))

    def candles(
        self, selection: Selection = ALL, interval: str | None = None, *, source: str = "trades",
        as_of: int | None = None, latest: bool = True,
    ) -> list[Candle]:
        """By their ends, each in its latest revision; all revisions if not ``latest``.

        ``as_of``: as they were known at that time, ns: nothing that was available later.
        """
        where = where_of(selection, "end", "end").also("source = ?", source)
        if interval is not None:
            where = where.also("interval = ?", interval)
        where = known_by(where, as_of)
        rank = ("revision", "available_at") if latest else ()
        query = Query("candles", where, "end", ("interval", "end"), rank)
        found = consistently(self._store, lambda moment: self._candles(moment, selection, query))
        if latest:
            found = _best(
                found, lambda it: (it.venue, it.symbol, it.interval, it.end), lambda it: (it.revision, it.available_at))
        return _newest(found, selection.limit)

    def gaps(self, selection: Selection = ALL, *, as_of: int | None = None) -> list[StoredGap]:
        """Each once, as it is now, by where it begins; those that touch the time of the selection.

        ``as_of``: as they were known at that time, ns.
        """
        where = known_by(where_of(selection, "from_time", "to_time"), as_of)
        query = Query("gaps", where, "from_time")
        everything = msgspec.structs.replace(selection, limit=None)
        steps: dict[Any, list[Placed]] = {}
        for placed in consistently(self._store, lambda moment: self._gaps(moment, everything, query)):
            steps.setdefault(placed[1][:5], []).append(placed)
        found = [(min(of)[0], gap_of([it for _, it in sorted(of)])) for of in steps.values()]
        return _newest(found, selection.limit)

    def books(self, selection: Selection = ALL) -> list[BookSnapshot]:
        """The last snapshot of each instrument, oldest first."""
        where = where_of(selection, "exchange_time", "exchange_time")
        query = Query("book_snapshots", where, "exchange_time", (), ("exchange_time", "received_time"))
        of_books = msgspec.structs.replace(selection, channel=None)  # all are of one
        found = consistently(self._store, lambda moment: self._books(moment, of_books, query))
        found = _best(found, lambda it: (it.venue, it.symbol), lambda it: (it.exchange_time, it.received_time))
        return _newest(found, selection.limit)

    # --- as a whole -------------------------------------------------------------------------------------------------

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB with a view of each table, ``raw_trades`` and ``market_data``, as of now; the caller closes it.

        Files that were merged away stay for an hour after: for longer work, connect again.
        """
        return consistently(self._store, lambda moment: views(moment, _config()))

    def status(self) -> dict[str, Any]:
        """For people: rows, bytes, files, writers, and what waits for compaction."""
        return consistently(self._store, status)

    def verify(self) -> list[str]:
        """Everything that is wrong with the store, a line each; empty: it is sound."""
        return verify(self._store, self.connect)

    # --- of one moment ----------------------------------------------------------------------------------------------

    def _trades(self, moment: Moment, selection: Selection, as_of: int | None) -> list[Trade]:
        where = known_by(where_of(selection, "exchange_time", "exchange_time"), as_of)
        query = Query("trades", where, "exchange_time")
        tail = list(_of_journal(moment, selection, query, TRADE_IN_JOURNAL))
        proven = proven_tapes(moment) if tail else set(moment.coverage)
        found = list(trades_of_lake(self._of_lake(moment, selection, query, TRADE_IN_LAKE), proven))
        for writer, known, rows in tail:
            found += trades_of_journal(rows, writer, known, proven)
        return _newest(found, selection.limit)

    def _spans(self, moment: Moment, selection: Selection, query: Query) -> dict[tuple[str, str, str], Span]:
        """The earliest and the latest time of each instrument and of what ``query.of`` names."""
        out: dict[tuple[str, str, str], Span] = {}

        def add(id: Sequence[str], of: str, first: int, last: int) -> None:
            known = out.get((id[0], id[1], of), (first, last))
            out[id[0], id[1], of] = min(first, known[0]), max(last, known[1])

        anytime = msgspec.structs.replace(selection, start=None, end=None)
        if files := relevant((it for it in moment.lake if it.table == query.table), anytime, moment.instruments):
            where = in_lake(query.where, anytime)
            sql = span_of(query, ("venue", "symbol"), scan(moment.store, files), where)
            for venue, symbol, of, *span in self._duck.execute(sql, list(where.parameters)).fetchall():
                add((venue, symbol), of, *span)
        for it in moment.journal:
            with opened(it) as file:
                known = instruments_of(file)
                if not (wanted := wanted_of(anytime, known)):
                    continue
                where = in_journal(query.where, anytime, wanted, known)
                rows = file.execute(span_of(query, ("instrument",), query.table, where), where.parameters)
                for code, of, *span in rows:
                    add(known[code], CHANNELS[of] if query.of == ("channel",) else of, *span)
        return out

    def _candles(self, moment: Moment, selection: Selection, query: Query) -> list[Placed]:
        found = list(candles_of_lake(self._of_lake(moment, selection, query, CANDLE_IN_LAKE)))
        for writer, known, rows in _of_journal(moment, selection, query, CANDLE_IN_JOURNAL):
            found += candles_of_journal(rows, writer, known)
        return found

    def _gaps(self, moment: Moment, selection: Selection, query: Query) -> list[Placed]:
        rows = self._of_lake(moment, selection, query, f"from_time, writer, pos, venue, symbol, {_GAP}")
        found: list[Placed] = [
            ((time, writer, pos), (venue, symbol, Channel(channel), *rest))
            for time, writer, pos, venue, symbol, channel, *rest in rows
        ]
        for writer, known, tail in _of_journal(moment, selection, query, f"from_time, pos, instrument, {_GAP}"):
            found += (
                ((time, writer, pos), (*known[instrument], CHANNELS[channel], *rest))
                for time, pos, instrument, channel, *rest in tail
            )
        return found

    def _books(self, moment: Moment, selection: Selection, query: Query) -> list[Placed]:
        found: list[Placed] = []
        found += (
            ((time, writer, pos), decode(body))
            for time, writer, pos, body in self._of_lake(moment, selection, query, "exchange_time, writer, pos, body")
        )
        for writer, _, tail in _of_journal(moment, selection, query, "exchange_time, pos, body"):
            found += (((time, writer, pos), decode(body)) for time, pos, body in tail)
        return found

    def _of_lake(self, moment: Moment, selection: Selection, query: Query, select: str) -> Sequence[Row]:
        files = [it for it in moment.lake if it.table == query.table]
        files = relevant(files, selection, moment.instruments)
        if not files:
            return []
        where = in_lake(query.where, selection)
        sql = sql_of(query, select, scan(moment.store, files), ("venue", "symbol"), "writer, pos", where)
        return self._duck.execute(sql, [*where.parameters, _limit(selection)]).fetchall()


def _of_journal(
    moment: Moment, selection: Selection, query: Query, select: str,
) -> Iterator[tuple[str, Codes, list[Row]]]:
    """For each file of the journal that has any: its writer, its instruments, the rows."""
    for it in moment.journal:
        with opened(it) as file:
            known = instruments_of(file)
            wanted = wanted_of(selection, known)
            if not wanted:
                continue
            where = in_journal(query.where, selection, wanted, known)
            sql = sql_of(query, select, query.table, ("instrument",), "pos", where)
            rows: list[Row] = file.execute(sql, [*where.parameters, _limit(selection)]).fetchall()
        if rows:
            yield it.writer, known, rows


def _limit(selection: Selection) -> int:
    return (1 << 62) if selection.limit is None else selection.limit


def _best(found: list[Placed], key: Callable[[Any], Any], rank: Callable[[Any], Any]) -> list[Placed]:
    """Of those with the same key the one of the highest rank, of these the one that was stored last."""
    best: dict[Any, Placed] = {}
    for placed in sorted(found, key=lambda it: (rank(it[1]), it[0])):
        best[key(placed[1])] = placed
    return list(best.values())


def _newest(found: list[Placed], limit: int | None) -> list[Any]:
    """In order of their places, the last ``limit`` of them."""
    ordered = [it for _, it in sorted(found, key=itemgetter(0))]
    return ordered if limit is None else ordered[max(len(ordered) - limit, 0):]


def _config() -> dict[str, str | bool | int | float | list[str]]:
    """Nothing is fetched from anywhere; what memory does not hold goes to the system's temporary folder."""
    return {
        "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
        "temp_directory": str(_temporary() / "onetape-duckdb"),
    }


def _temporary() -> Path:
    try:
        return Path(gettempdir())
    except FileNotFoundError:  # it tries to write there: on a full disk memory has to be enough
        return Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108 - where it would be
