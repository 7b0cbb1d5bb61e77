"""Writes trades and the book of one instrument as the array of events that hftbacktest 2 reads.

Every event stands where both the exchange and we would have it in order: once, with both flags, where the two orders
agree, else twice, with one flag each (what its ``correct_event_order`` makes). It knows no exact numbers: here, at the
last step, and nowhere before, prices and sizes become float64. NumPy is not needed to write its file.
"""
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from pathlib import Path
from shutil import copyfileobj
from zipfile import ZIP_DEFLATED, ZipFile

import duckdb
from msgspec import Struct

from onetape.model import Channel
from onetape.storage.formats.history import Level, books, prepare_books, trades
from onetape.storage.selection import Selection

# hftbacktest/types.py
DEPTH_EVENT, TRADE_EVENT, DEPTH_CLEAR_EVENT, DEPTH_SNAPSHOT_EVENT = 1, 2, 3, 4
EXCH_EVENT, LOCAL_EVENT, BUY_EVENT, SELL_EVENT = 1 << 31, 1 << 30, 1 << 29, 1 << 28
BOTH = EXCH_EVENT | LOCAL_EVENT

FIELDS = (
    ("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8"), ("qty", "<f8"), ("order_id", "<u8"),
    ("ival", "<i8"), ("fval", "<f8"),
)
_ROW = struct.Struct("<QqqddQqd")
_HEAD = 256
"""Bytes of the head of an array: its length is only known when all is written."""
ALL = float("nan")
"""The price up to which a side is cleared: none."""

Row = tuple[int, float, float]
"""Kind and side, price, size."""
Placed = tuple[int, int, int, Sequence[Row]]
"""Exchange and local time, ns; 0 for a trade, which goes before the change of the book that it made; what it says."""


class Written(Struct, frozen=True):
    rows: int
    shifted: int
    """ns that were added to our times, where our clock was behind the exchange's: nothing is heard of before it is."""

    @property
    def note(self) -> str:
        """For people."""
        return f"our clock was behind the exchange's: our times are {self.shifted:,} ns later" if self.shifted else ""


def write(
    duck: duckdb.DuckDBPyConnection, selection: Selection, channel: Channel | None, path: Path,
    tell: Callable[[int], None] = lambda _: None,
) -> Written:
    """``selection`` is of one instrument, ``channel`` that of its trades, if any; ``tell`` hears exchange times, ns."""
    prepare_books(duck, selection)
    shift = _shift(duck, selection)
    by_exchange = _all(duck, selection, channel, ("exchange_time", "available_at"), shift)
    by_us = _all(duck, selection, channel, ("available_at", "exchange_time"), shift)
    aside = path.with_name(f"{path.name}.npy")
    try:
        with aside.open("wb") as out:
            out.write(_head(0))
            for flags, it in _ordered(by_exchange, by_us):
                out.write(b"".join(
                    _ROW.pack(flags | kind, it[0], it[1], price, size, 0, 0, 0.0) for kind, price, size in it[3]))
                tell(it[0])
            rows = (out.tell() - _HEAD) // _ROW.size
            out.seek(0)
            out.write(_head(rows))
        with (
            ZipFile(path, "w", ZIP_DEFLATED) as packed, packed.open("data.npy", "w", force_zip64=True) as into,
            aside.open("rb") as whole,
        ):
            copyfileobj(whole, into, 1 << 20)
    finally:
        aside.unlink(missing_ok=True)
    return Written(rows, shift)


def _head(rows: int) -> bytes:
    """Of a .npy of version 1.0: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"""
    fields = ", ".join(f"('{name}', '{type_}')" for name, type_ in FIELDS)
    text = f"{{'descr': [{fields}], 'fortran_order': False, 'shape': ({rows},), }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", _HEAD - 10) + text.ljust(_HEAD - 11).encode() + b"\n"


def _ordered(by_exchange: Iterable[Placed], by_us: Iterable[Placed]) -> Iterator[tuple[int, Placed]]:
    """The same events twice, in the order of either clock, as one sequence that keeps both orders."""
    theirs, ours = iter(by_exchange), iter(by_us)
    left, right = next(theirs, None), next(ours, None)
    while left is not None and right is not None:
        if left[:2] == right[:2]:  # then it is the same one: both orders have those of the same two times alike
            yield BOTH, left
            left, right = next(theirs, None), next(ours, None)
        elif left[:2] < right[:2]:
            yield EXCH_EVENT, left
            left = next(theirs, None)
        else:
            yield LOCAL_EVENT, right
            right = next(ours, None)
    while left is not None:
        yield EXCH_EVENT, left
        left = next(theirs, None)
    while right is not None:
        yield LOCAL_EVENT, right
        right = next(ours, None)


def _all(
    duck: duckdb.DuckDBPyConnection, selection: Selection, channel: Channel | None, order: tuple[str, str], shift: int,
) -> Iterator[Placed]:
    first, second = (0, 1) if order[0] == "exchange_time" else (1, 0)
    of_trades, of_books = _trades(duck, selection, channel, order, shift), _books(duck, selection, shift)
    return merge(of_trades, of_books, key=itemgetter(first, second, 2))


def _trades(
    duck: duckdb.DuckDBPyConnection, selection: Selection, channel: Channel | None, order: tuple[str, str], shift: int,
) -> Iterator[Placed]:
    if channel is None:
        return
    for it in trades(duck, selection, channel, order):
        kind = TRADE_EVENT | (BUY_EVENT if it.buy else SELL_EVENT)
        yield it.exchange_time, it.available_at + shift, 0, ((kind, float(it.price), float(it.size)),)


def _books(duck: duckdb.DuckDBPyConnection, selection: Selection, shift: int) -> Iterator[Placed]:
    """At the exchange too nothing of a book comes before what it builds on: a snapshot may have a later time."""
    time = 0
    for it in books(duck, selection):
        time = max(time, it.exchange_time)
        rows: list[Row] = []
        for side, levels in ((BUY_EVENT, it.bids), (SELL_EVENT, it.asks)):
            if it.snapshot:
                rows.append((DEPTH_CLEAR_EVENT | side, ALL, 0.0))
            rows += _levels((DEPTH_SNAPSHOT_EVENT if it.snapshot else DEPTH_EVENT) | side, levels)
        if rows:
            yield time, it.available_at + shift, 1, rows


def _levels(kind: int, levels: Sequence[Level]) -> Iterator[Row]:
    return ((kind, float(price), float(size)) for price, size in levels)


def _shift(duck: duckdb.DuckDBPyConnection, selection: Selection) -> int:
    """By so much our clock was behind at the most."""
    id = next(iter(selection.instruments or ()))
    tables = " UNION ALL ".join(
        f"SELECT min(available_at - exchange_time) AS late FROM {it} WHERE venue = ? AND symbol = ?"  # noqa: S608
        for it in ("trades", "book_deltas", "book_snapshots"))
    (late,) = duck.execute(f"SELECT min(late) FROM ({tables})", [*id] * 3).fetchone() or (None,)  # noqa: S608
    return max(-int(late or 0), 0)
