"""Numbers what was taken at one price: the aggregate trades of both simulated Binances."""
from bisect import bisect_left
from collections.abc import Callable, Sequence

from msgspec import Struct

from onetape.sim.base import Match
from onetape.sim.truth import Truth, gaps

KEPT = 200_000
_ALL = 1 << 62  # more than any id, count or time


class Aggregate(Struct, frozen=True, gc=False):
    """Successive matches that belong together."""

    id: int
    price: int
    size: int
    first: int
    last: int
    """Ids of matches, both inclusive."""
    time: int
    """Of the first."""
    buy: bool


def of_one_order(it: Match, before: Match) -> bool:
    """On spot: matches of one moment, price and side (section 5.2)."""
    return it.time == before.time and it.price == before.price and it.buy == before.buy


class Aggregates:
    """Their own ids over all matches of an instrument, whoever listens; as consecutive as those of the matches.

    Numbers that no match has part what stands before them from what follows, and count as aggregates of their own: so
    the venue's holes are holes of either series.
    """

    def __init__(self, truth: Truth, belongs: Callable[[Match, Match], bool] = of_one_order) -> None:
        """``belongs``: whether a match is of the same aggregate as the one before."""
        self._truth, self._belongs = truth, belongs
        self._firsts: list[int] = []  # the id of the first match of each
        self._ids: list[int] = []  # their own, ascending
        self._next = 0
        self._last: Match | None = None

    def catch_up(self) -> None:
        """With the truth; to be called more often than it forgets matches."""
        new = self._truth.matches_from(self._last.id + 1, _ALL) if self._last else self._truth.matches
        if new:
            self._number(new)

    def add(self, matches: Sequence[Match]) -> None:
        """The newest of the truth: cheaper than to ask it."""
        if self._last is not None and matches[0].id == self._last.id + 1:
            self._number(matches)
        else:
            self.catch_up()

    def _number(self, new: Sequence[Match]) -> None:
        if self._last is None:
            self._next = new[0].id * 7 // 10
        before = self._last
        for it in new:
            if before is None or not self._together(it, before):
                self._next += it.id - before.id - 1 if before else 0
                self._firsts.append(it.id)
                self._ids.append(self._next)
                self._next += 1
            before = it
        self._last = before
        if len(self._firsts) > 2 * KEPT:
            del self._firsts[:KEPT], self._ids[:KEPT]

    def _together(self, it: Match, before: Match) -> bool:
        return it.id == before.id + 1 and self._belongs(it, before)

    def skipped(self) -> list[int]:
        """Ids that no aggregate has, between the first and the last that are kept, ascending."""
        self.catch_up()
        return gaps(self._ids)

    def of(self, matches: Sequence[Match]) -> list[Aggregate]:
        """Those that consist of these matches, which are successive and begin with an aggregate."""
        if not matches:
            return []
        at = bisect_left(self._firsts, matches[0].id)
        out: list[Aggregate] = []
        begin = 0
        for end in range(1, len(matches) + 1):
            if end == len(matches) or not self._together(matches[end], matches[end - 1]):
                out.append(_one(self._ids[at + len(out)], matches[begin:end]))
                begin = end
        return out

    def from_id(self, id: int, limit: int) -> list[Aggregate]:
        """At most ``limit`` with this id or a higher one, ascending."""
        self.catch_up()
        known = bisect_left(self._firsts, self._truth.matches[0].id) if self._truth.matches else 0
        return self._slice(max(bisect_left(self._ids, id), known), limit)

    def newest(self, limit: int, before: int = _ALL) -> list[Aggregate]:
        """The last ``limit`` of those whose time is before this, ascending."""
        self.catch_up()
        end = bisect_left(self._firsts, before, key=self._time)
        known = bisect_left(self._firsts, self._truth.matches[0].id) if self._truth.matches else 0
        start = max(end - limit, known)
        return self._slice(start, end - start)

    def after(self, time: int, limit: int) -> list[Aggregate]:
        """At most ``limit`` of this time or later, ascending."""
        first = self._truth.matches_after(time, 1)
        self.catch_up()
        return self._slice(bisect_left(self._firsts, first[0].id), limit) if first else []

    def _slice(self, start: int, limit: int) -> list[Aggregate]:
        firsts = self._firsts[start:start + max(limit, 0) + 1]
        if not firsts:
            return []
        if len(firsts) <= limit:
            return self.of(self._truth.matches_from(firsts[0], _ALL))
        found = self._truth.matches_from(firsts[0], firsts[-1] - firsts[0])  # more where numbers are left out
        return self.of([it for it in found if it.id < firsts[-1]])

    def _time(self, first: int) -> int:
        """Of a match; those that the truth has forgotten are older than all that it knows."""
        found = self._truth.matches_from(first, 1)
        return found[0].time if found and found[0].id == first else 0


def _one(id: int, matches: Sequence[Match]) -> Aggregate:
    first = matches[0]
    size = sum(it.size for it in matches)
    return Aggregate(id, first.price, size, first.id, matches[-1].id, first.time, first.buy)
