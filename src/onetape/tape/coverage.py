"""Sets of integers as disjoint intervals: which ids are accounted for."""
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from msgspec import Struct

from onetape.model import Channel


class Interval(Struct, frozen=True, order=True):
    """Ids ``first`` to ``last``, both inclusive, and the exchange times (ns) of the two."""

    first: int
    last: int
    from_time: int
    to_time: int


class Covered(Struct, frozen=True):
    """Ids of one tape, ``first`` to ``last``, that are accounted for from now on; times as of ``Interval``."""

    venue: str
    symbol: str
    channel: Channel
    first: int
    last: int
    from_time: int
    to_time: int


class Coverage:
    """Ascending, disjoint, and merged where they touch. Adding at the end is the common case, and cheap."""

    __slots__ = ("_first", "_from", "_last", "_to")

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        self._from: list[int] = []
        self._to: list[int] = []
        for it in intervals:
            self.add(it.first, it.last, it.from_time, it.to_time)

    def extend(self, after: int, last: int, time: int) -> bool:
        """Adds (after, last] if it directly continues the highest interval; False if it does not."""
        if not self._last or self._last[-1] != after:
            return False
        self._last[-1] = last
        self._to[-1] = time
        return True

    def add(self, first: int, last: int, from_time: int, to_time: int) -> int:
        """Adds ids ``first`` to ``last``; returns how many of them are new."""
        low = bisect_left(self._last, first - 1)  # the first interval that touches, or comes after
        high = bisect_right(self._first, last + 1)  # one beyond the last that touches
        before = sum(self._last[it] - self._first[it] + 1 for it in range(low, high))
        if low < high:
            if self._first[low] < first:
                first, from_time = self._first[low], self._from[low]
            if self._last[high - 1] > last:
                last, to_time = self._last[high - 1], self._to[high - 1]
        for column, value in (
            (self._first, first), (self._last, last), (self._from, from_time), (self._to, to_time),
        ):
            column[low:high] = [value]
        return last - first + 1 - before

    @property
    def first(self) -> Interval | None:
        """The lowest interval."""
        return Interval(self._first[0], self._last[0], self._from[0], self._to[0]) if self._first else None

    @property
    def since(self) -> int | None:
        """Exchange time of the lowest id."""
        return self._from[0] if self._from else None

    @property
    def last(self) -> Interval | None:
        """The highest interval."""
        return Interval(self._first[-1], self._last[-1], self._from[-1], self._to[-1]) if self._first else None

    def covers(self, first: int, last: int) -> bool:
        """All of ``first`` to ``last`` is there."""
        at = bisect_left(self._last, last)
        return at < len(self._first) and self._first[at] <= first

    def touches(self, first: int, last: int) -> bool:
        """Some of ``first`` to ``last`` is there."""
        at = bisect_left(self._last, first)
        return at < len(self._first) and self._first[at] <= last

    def missing(self, after: int, before: int) -> list[Interval]:
        """What is not there strictly between two ids, each with the times of its neighbours."""
        holes = []
        at = bisect_right(self._first, after) - 1
        for left in range(max(at, 0), len(self._first) - 1):
            first, last = max(self._last[left] + 1, after + 1), min(self._first[left + 1] - 1, before - 1)
            if first > before - 1:
                break
            if first <= last:
                holes.append(Interval(first, last, self._to[left], self._from[left + 1]))
        return holes

    def holes(self) -> list[Interval]:
        """All that is missing between the lowest id and the highest."""
        return self.missing(self._first[0], self._last[-1]) if self._first else []

    def below(self, first: int) -> int | None:
        """The highest id that is there below ``first``; None if there is none."""
        at = bisect_left(self._first, first)
        return min(self._last[at - 1], first - 1) if at else None

    def above(self, last: int) -> int | None:
        """The lowest id that is there above ``last``; None if there is none."""
        at = bisect_right(self._last, last)
        return max(self._first[at], last + 1) if at < len(self._last) else None

    def __iter__(self) -> Iterator[Interval]:
        return map(Interval, self._first, self._last, self._from, self._to)

    def __len__(self) -> int:
        """Number of intervals."""
        return len(self._first)

    def __bool__(self) -> bool:
        return bool(self._first)
