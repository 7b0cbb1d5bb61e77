"""Remembers, across the end of a process, which stored candles late trades have touched and nobody has rebuilt yet."""
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from onetape.candles.series import StaleRange
from onetape.clock import HOUR, interval_ns
from onetape.errors import RetryBatch, UsageError
from onetape.model import InstrumentId
from onetape.tape.coverage import Coverage

NAME = "stale.json"
_Ranges = dict[tuple[InstrumentId, str], Coverage]


class _Line(Struct):
    venue: str
    symbol: str
    interval: str
    start: int
    end: int


_decode = msgspec.json.Decoder(list[_Line]).decode


class StaleCandles:
    """Of one store; a file in its folder, for the time in which there are any."""

    def __init__(self, store: Path) -> None:
        """Reads what an earlier process left over. Raises UsageError: the file is corrupt."""
        self._path = store / NAME
        self._ranges: _Ranges = {}
        self._under_way: list[tuple[InstrumentId, StaleRange]] = []
        self._written = True
        try:
            for it in _decode(self._path.read_bytes()):
                self._add(InstrumentId(it.venue, it.symbol), StaleRange(it.interval, it.start, it.end))
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError) as error:
            raise UsageError(f"{self._path} cannot be read; without it no candle is rebuilt: {error}") from error

    def __bool__(self) -> bool:
        return bool(self._ranges or self._under_way)

    def __iter__(self) -> Iterator[tuple[InstrumentId, StaleRange]]:
        yield from self._under_way
        for (id, interval), ranges in self._ranges.items():
            for it in ranges:
                yield id, StaleRange(interval, it.first, it.last + 1)

    def add(self, ranges: Iterable[tuple[InstrumentId, StaleRange]]) -> None:
        """To be called before the trades that touch them are committed. Raises RetryBatch.

        Short ones are widened to hours: to rebuild in vain does no harm, to write the file for each second would.
        """
        if sum(self._add(id, it) for id, it in ranges):
            self._written = False
        if not self._written:  # nor when the disk was full
            self._write()
            self._written = True

    def begin(self) -> list[tuple[InstrumentId, StaleRange]]:
        """Somebody rebuilds all of them now; what is touched meanwhile has to be rebuilt once more."""
        self._under_way = list(self)
        self._ranges = {}
        return self._under_way

    def done(self) -> None:
        """What was begun is rebuilt. It is forgotten in memory; the file may say too much until it is written again:
        to rebuild in vain does no harm."""
        self._under_way = []
        if not self._ranges:
            self.clear()

    def keep(self, left: Iterable[tuple[InstrumentId, StaleRange]]) -> None:
        """Of what was begun, that which is still to be rebuilt."""
        for id, it in left:
            self._add(id, it)

    def undo(self) -> None:
        """What was begun came to nothing."""
        begun, self._under_way = self._under_way, []
        for id, it in begun:
            self._add(id, it)

    def forget(self, mended: Iterable[tuple[InstrumentId, StaleRange]]) -> None:
        """These are rebuilt, and that is committed. Raises RetryBatch."""
        done = set(mended)
        left = [it for it in self if it not in done]
        self._under_way, self._ranges = left, {}
        if left:
            self._write()
        else:
            self.clear()

    def clear(self) -> None:
        """All of them are rebuilt, and that is committed."""
        self._ranges.clear()
        self._path.unlink(missing_ok=True)

    def _add(self, id: InstrumentId, it: StaleRange) -> bool:
        start, end = it.start, it.end
        if interval_ns(it.interval) < HOUR:
            start, end = start - start % HOUR, end + -end % HOUR
        known = self._ranges.setdefault((id, it.interval), Coverage())
        return known.add(start, end - 1, 0, 0) > 0

    def _write(self) -> None:
        lines = [_Line(*id, it.interval, it.start, it.end) for id, it in self]
        new = self._path.with_suffix(".new")
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(lines))
                file.flush()
                os.fsync(file.fileno())
            new.rename(self._path)
        except OSError as error:
            raise RetryBatch(f"{self._path} cannot be written: {error.strerror or error}") from error
