"""Tells what a store has already of a recording that is played again; trades and their candles know by themselves.

An event that was recorded comes at the very time at which it came before. Of one hour at a time it is counted what is
stored for each time; so many of the events of that time are repetitions, the others are new.
"""
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from onetape.clock import HOUR
from onetape.model import BookDelta, BookSnapshot, Candle, Event, FeedError, FeedStatus, Quote
from onetape.storage.journal import POSITIONS
from onetape.storage.moment import Moment, consistently, instruments_of, opened
from onetape.storage.parquet import scan
from onetape.tape.coverage import Covered

Key = tuple[Any, ...]

# What tells two events of one time and instrument apart, in columns that journal and lake spell alike.
_KEYS: dict[type, tuple[str, tuple[str, ...], Callable[[Any], Key]]] = {
    Quote: ("quotes", ("exchange_time", "sequence"), lambda it: (it.exchange_time, it.sequence)),
    Candle: ("candles", ("interval", "end", "source"), lambda it: (it.interval, it.end, it.source)),
    BookSnapshot: ("book_snapshots", ("exchange_time", "sequence"), lambda it: (it.exchange_time, it.sequence)),
    BookDelta: ("book_deltas", ("after", "sequence"), lambda it: (it.after, it.sequence)),
    FeedStatus: ("feed_status", ("since", "reason"), lambda it: (it.since, it.reason)),
    FeedError: ("quarantine", ("reason", "text"), lambda it: (it.reason, it.text)),
}


class Repeats:
    """Of one replay. What ``writer`` stores from batch ``first_batch`` on is the replay's own."""

    def __init__(self, store: Path, writer: str, first_batch: int) -> None:
        self.count = 0
        """Events that were stored before."""
        self._store, self._writer, self._own = store, writer, first_batch << POSITIONS
        self._hours: dict[str, tuple[int, Counter[Key]]] = {}  # by table: which hour, and what is left of it

    def had(self, it: Event | Covered) -> bool:
        """Whether it is stored; to be asked once for each event, in order."""
        kind = _KEYS.get(type(it))
        if kind is None or (isinstance(it, Candle) and it.source == "trades"):
            return False
        assert not isinstance(it, Covered)
        table, columns, of = kind
        hour, left = self._hours.get(table, (-1, Counter()))
        if it.available_at // HOUR != hour:
            hour = it.available_at // HOUR
            left = consistently(self._store, lambda moment: Counter(self._stored(moment, table, columns, hour)))
            self._hours[table] = hour, left
        key = it.available_at, it.venue, getattr(it, "symbol", ""), *of(it)
        if not left[key]:
            return False
        left[key] -= 1
        self.count += 1
        return True

    def _stored(self, moment: Moment, table: str, columns: tuple[str, ...], hour: int) -> Iterator[Key]:
        listed = ", ".join(f'"{it}"' for it in columns)
        within = "available_at >= ? AND available_at < ?"
        times = [hour * HOUR, (hour + 1) * HOUR]
        for it in moment.journal:
            own = self._own if it.writer == self._writer else 1 << 62
            named = "venue, symbol" if table == "quarantine" else "instrument, 0"
            sql = f"SELECT available_at, {named}, {listed} FROM {table} WHERE pos < ? AND {within}"  # noqa: S608
            with opened(it) as file:
                ids = instruments_of(file)
                for time, one, two, *rest in file.execute(sql, [own, *times]):
                    yield (time, *((one, two) if table == "quarantine" else ids[one]), *rest)
        files = [it for it in moment.lake if it.table == table]
        if files:
            sql = (f"SELECT available_at, venue, symbol, {listed} FROM {scan(moment.store, files)}"  # noqa: S608
                   f" WHERE NOT (writer = ? AND pos >= ?) AND {within}")
            with duckdb.connect() as duck:
                yield from duck.execute(sql, [self._writer, self._own, *times]).fetchall()
