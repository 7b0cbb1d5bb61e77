"""The order book topics of one instrument of the simulated Bybit (sections 5.3 and 5.5)."""
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from heapq import nlargest, nsmallest
from itertools import groupby

from msgspec import Struct

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.base import Change, Happening
from onetape.sim.truth import Level
from onetape.sim.venues import bybit_frames as frames
from onetape.sim.venues.bybit_frames import Paper

PERIODS = {1: 10 * MILLISECOND, 50: 20 * MILLISECOND, 200: 100 * MILLISECOND, 1_000: 200 * MILLISECOND}
"""How often each depth is pushed, at most."""
CACHE = 3 * SECOND
"""So old may the snapshot be that a new subscriber gets, and all deltas since at once (recordings: 3.0 and 3.2 s)."""
REPEAT = 3 * SECOND
"""The best prices come again when nothing changed for so long, with the same u."""


class _Told(Struct, frozen=True):
    beat: int
    before: int  # the sequence of what was told before
    data: bytes


class Depth:
    """One topic: what was told last, and what has to be told now.

    Its beats lie a ns before the full ms: what is told has all that bears its time, and nothing that bears it is to
    come. While nobody listens it stands still; whoever comes then gets what it would have told meanwhile. Its numbers
    are those of its beats, so that they never fall, and skip where it stood still for long.
    """

    def __init__(self, paper: Paper, depth: int, phase: int) -> None:
        self.topic, self.channel = f"orderbook.{depth}.{paper.symbol}", "book" if depth > 1 else "quotes"
        self._paper, self._truth, self._depth = paper, paper.truth, depth
        self.period = PERIODS[depth]
        self._phase = phase % self.period - 1
        self._origin = 0  # when its numbers began
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._seen = 0  # the last change that was looked at
        self.u = self.sequence = self.changed = 0  # of what was told last; changed: in ns
        self._kept: deque[_Told] = deque()
        self._sent = 0

    # --- what the venue asks ------------------------------------------------------------------------------------------

    def moved(self, it: Happening) -> bool:
        return bool(it.changes)

    def next(self, now: int, *, moved: bool) -> int | None:
        repeat = max(self._sent + REPEAT, now + 1) if self._depth == 1 else None
        beat = now - (now - self._phase) % self.period + self.period if moved else None
        return min((it for it in (beat, repeat) if it is not None), default=None)

    def join(self, now: int, skew: int, *, first: bool) -> list[bytes]:
        """A snapshot of a while ago, and the deltas since."""
        beat = self.catch_up(now, skew)
        if self._depth == 1:
            self._sent = beat if first else self._sent
            return [self._snapshot(beat + skew, skew)]
        while self._kept and self._kept[0].beat < beat - CACHE:
            self._kept.popleft()
        past = self._truth.book_at(self._kept[0].before) if self._kept else None
        if past is None:
            return [self._snapshot(beat + skew, skew)]
        numbers, depth = (self.u - len(self._kept), past.sequence), self._depth
        head = frames.book(
            self._paper, depth, "snapshot", (past.bids[:depth], past.asks[:depth]), numbers, past.time + skew,
            past.time + skew,
        )
        return [head, *(it.data for it in self._kept)]

    def stale(self, now: int, skew: int, age: int) -> list[bytes]:
        """What a cache out of order gives: a snapshot of long ago, and nothing of what came since."""
        beat = self.catch_up(now, skew)
        past = self._truth.book_at_time(beat - age)
        if past is None:
            return [self._snapshot(beat + skew, skew)]
        numbers = max(self.u - max(age // self.period, 1), 2), past.sequence
        levels = past.bids[:self._depth], past.asks[:self._depth]
        return [frames.book(self._paper, self._depth, "snapshot", levels, numbers, past.time + skew, past.time + skew)]

    def beat(self, now: int, skew: int) -> list[bytes]:
        told = self._tell(now, skew)
        if self._depth > 1:
            return told
        if not told and now - self._sent < REPEAT:
            return []
        self._sent = now
        return [self._snapshot(now + skew, skew)]

    def restart(self, now: int, skew: int) -> list[bytes]:
        """The service begins anew: the whole book again, as number 1."""
        self.catch_up(now, skew)
        self._origin = now - self.period
        self.u = 1
        self._kept.clear()
        return [self._snapshot(now + skew, skew)]

    def catch_up(self, now: int, skew: int) -> int:
        """To the last beat, which is returned; nothing is left to do where it is listened to."""
        beat = now - (now - self._phase) % self.period
        self._tell(beat, skew)
        return beat

    def levels(self, n: int) -> tuple[list[Level], list[Level]]:
        """As told last: bids and asks."""
        return list(self._bids.items())[:n], list(self._asks.items())[:n]

    # --- telling ------------------------------------------------------------------------------------------------------

    def _tell(self, beat: int, skew: int) -> list[bytes]:
        """All that changed up to this beat and has not been told: of one beat, or of all that nobody waited for."""
        changes = self._untold(beat)
        if not self.u or (changes and changes[0].time <= beat - CACHE):
            self._begin(beat - CACHE)
            changes = self._untold(beat)
        if not changes:
            return []
        if changes[0].time > beat - self.period and changes[-1].sequence == self._truth.sequence:
            now = dict(self._truth.bids(self._depth)), dict(self._truth.asks(self._depth))
            return self._push(*now, changes[-1], beat, skew)
        return self._replay(changes, skew)

    def _untold(self, until: int) -> Sequence[Change]:
        changes = self._truth.changes_since(self._seen)
        if changes and changes[-1].time > until:
            return changes[:bisect_right(changes, until, key=_time)]
        return changes

    def _begin(self, since: int) -> None:
        book = self._truth.book_at_time(since)
        if book is None:  # nothing is known of then
            first = next(iter(self._truth.changes_since(0)), None)
            book = self._truth.book_at(self._truth.sequence if first is None else first.sequence - 1)
        assert book is not None, "what the first change changed is known"
        self._bids, self._asks = dict(book.bids[:self._depth]), dict(book.asks[:self._depth])
        self._seen = self.sequence = book.sequence
        self.changed = book.time
        self.u = max((since - self._origin) // self.period, 1)
        self._kept.clear()

    def _replay(self, changes: Sequence[Change], skew: int) -> list[bytes]:
        book = self._truth.book_at(self._seen)
        assert book is not None, "no longer ago than the cache"
        bids, asks, told = dict(book.bids), dict(book.asks), []
        for beat, group in groupby(changes, self._beat_of):
            for it in group:
                side = bids if it.bid else asks
                side.pop(it.price, None) if not it.size else side.__setitem__(it.price, it.size)
            top = dict(nlargest(self._depth, bids.items())), dict(nsmallest(self._depth, asks.items()))
            told += self._push(*top, it, beat, skew)
        return told

    def _beat_of(self, it: Change) -> int:
        """At which it is told: the first that is not before it."""
        return it.time + (self._phase - it.time) % self.period

    def _push(self, bids: dict[int, int], asks: dict[int, int], last: Change, beat: int, skew: int) -> list[bytes]:
        """Nothing if all of it lies below what is shown. A price that left the window is told as gone."""
        self._seen = last.sequence
        gone_bids, gone_asks = _changed(self._bids, bids), _changed(self._asks, asks)
        self._bids, self._asks = bids, asks
        if not gone_bids and not gone_asks:
            return []
        before, self.sequence, self.changed = self.sequence, last.sequence, last.time
        self.u += 1
        levels = sorted(gone_bids.items(), reverse=True), sorted(gone_asks.items())
        numbers, changed = (self.u, self.sequence), self.changed + skew
        data = b"" if self._depth == 1 else frames.book(
            self._paper, self._depth, "delta", levels, numbers, beat + skew, changed,
        )
        self._kept.append(_Told(beat, before, data))
        while self._kept[0].beat < beat - CACHE:
            self._kept.popleft()
        return [data]

    def _snapshot(self, sent: int, skew: int) -> bytes:
        numbers, levels = (self.u, self.sequence), (self._bids.items(), self._asks.items())
        return frames.book(self._paper, self._depth, "snapshot", levels, numbers, sent, self.changed + skew)


def _changed(before: Mapping[int, int], now: Mapping[int, int]) -> dict[int, int]:
    """Sizes by price; 0 for what is there no more."""
    gone = dict.fromkeys(before.keys() - now.keys(), 0)
    return gone | {price: size for price, size in now.items() if before.get(price) != size}


def _time(it: Change) -> int:
    return it.time
