"""The candles of one interval: those that run, and those of the recent past that a late trade may still change."""
from bisect import bisect_left, bisect_right, insort
from operator import itemgetter

from msgspec import Struct

from onetape.candles import RunningCandle
from onetape.candles.running import follows
from onetape.clock import DAY, interval_ns
from onetape.model import Trade

BEGINNING, NEVER = -(1 << 63), 1 << 63
"""Before and behind any exchange time."""
MAX_STALE = 1_000  # ranges kept apart; beyond, the two oldest become one, with what lies between them


class StaleRange(Struct, frozen=True, order=True):
    """The final candles in [start, end) (ns) are no longer held here: build them anew from the store."""

    interval: str
    start: int
    end: int


class Series:
    """By end (ns). A candle runs until the watermark has passed it, then it is final, and one day forgotten.

    With ``carry_empty``, every end after the first trade has a final candle: an empty one carries the close of the
    last trade before it.
    """

    __slots__ = (
        "base", "base_moved", "carry_empty", "corrected", "ends", "final", "forgotten_until", "interval", "length",
        "moved", "offset", "rechecked", "running", "stale", "told", "uncarried",
    )

    def __init__(self, interval: str, final_until: int, *, carry_empty: bool) -> None:
        """What ends by ``final_until`` is final already, and held elsewhere. Raises ValueError: not an interval."""
        self.interval, self.length = interval, interval_ns(interval)
        if not self.length:
            raise ValueError(f"not a candle interval: {interval!r}")
        self.offset = 4 * DAY if interval[-1] == "w" else 0  # the epoch was a Thursday, weeks begin on Monday
        self.carry_empty = carry_empty
        self.running: dict[int, RunningCandle] = {}
        self.final: dict[int, RunningCandle] = {}
        self.ends: list[int] = []
        """Of the final ones, ascending."""
        self.told: dict[int, tuple[int, bool]] = {}
        """Revision and completeness of a final one as it was last emitted."""
        self.corrected: set[int] = set()
        """Final ones that differ from what was last emitted."""
        self.rechecked: set[int] = set()
        """Final ones whose completeness may differ from what was last emitted."""
        self.moved: set[int] = set()
        """Final ones whose close may differ from what the empty ones after them carry."""
        self.base: RunningCandle | None = None
        """Has the last trade among the forgotten, whose close is carried."""
        self.base_moved = False
        self.forgotten_until = final_until
        """Of final ones that end by then nothing is known here."""
        self.stale: list[tuple[int, int]] = []
        self.uncarried = 0

    def end_of(self, time: int) -> int:
        """End of the candle that an exchange time falls into."""
        return time - (time - self.offset) % self.length + self.length

    # --- trades -----------------------------------------------------------------------------------------------------

    def merge(self, time: int, part: RunningCandle, final_until: int) -> None:
        """Takes the trades of the second that begins at ``time``, unless they are in a final candle: that has them."""
        end = self.end_of(time)
        if end <= final_until:
            self._rebase(part)
            self.base_moved = False
        elif end in self.running:
            self.running[end].merge(part)
        else:
            self.running[end] = part.copy()

    def add(self, it: Trade, final_until: int) -> bool:
        """Takes a trade that comes out of order; True if it is late: its candle is final."""
        end = self.end_of(it.exchange_time)
        if end <= final_until:
            self._add_late(it, end)
            return True
        if end in self.running:
            self.running[end].add(it)
        else:
            self.running[end] = RunningCandle(it)
        return False

    def _add_late(self, it: Trade, end: int) -> None:
        if end <= self.forgotten_until:
            self.mark_stale(it.exchange_time, self.forgotten_until if self.carry_empty else it.exchange_time)
            self._rebase(RunningCandle(it))
            return
        held = self.final.get(end)
        if held is None:
            insort(self.ends, end)
        if held is None or not held.trades:
            self.final[end] = RunningCandle(it)
        else:
            held.add(it)
        self.corrected.add(end)
        if self.carry_empty:
            self.moved.add(end)

    def _rebase(self, part: RunningCandle) -> None:
        base = self.base
        if base is None or part.last > base.last or (part.last == base.last and follows(part.last_id, base.last_id)):
            self.base, self.base_moved = part, self.carry_empty

    # --- becoming final, and being forgotten ------------------------------------------------------------------------

    def finish(self, since: int, until: int, oldest: int) -> list[int]:
        """Makes final what ends in (since, until], and returns the ends. What is empty is not carried by ``oldest``."""
        new = sorted(end for end in self.running if end <= until)
        for end in new:
            self.final[end] = self.running.pop(end)
        if self.carry_empty:
            new = sorted(new + self._fill(since, until, oldest, new))
        self.ends += new  # they were not final at the last time, so they all come after those that were
        return new

    def _fill(self, since: int, until: int, oldest: int, new: list[int]) -> list[int]:
        made: list[int] = []
        last = self.final[self.ends[-1]] if self.ends else self.base
        end = self.end_of(since)
        for stop in (*new, self.end_of(until)):
            if last is not None:
                begin = max(end, min(stop, self.end_of(oldest)))
                self.uncarried += (begin - end) // self.length
                for empty in range(begin, stop, self.length):
                    self.final[empty] = last.carried()
                    made.append(empty)
            last, end = self.final.get(stop), stop + self.length
        return made

    def carry_corrections(self, until: int) -> None:
        """Lets what is empty behind a corrected candle carry its new close."""
        sources = [(end, self.final[end]) for end in sorted(self.moved)]
        if self.base_moved and self.base is not None:
            sources.insert(0, (self.end_of(self.forgotten_until) - self.length, self.base))
        for source, last in sources:
            for end in range(source + self.length, until + 1, self.length):
                held = self.final.get(end)
                if held is not None and (held.trades or (held.last, held.last_id) == (last.last, last.last_id)):
                    break
                if held is None:
                    insort(self.ends, end)
                if held is None or held.close != last.close:
                    self.corrected.add(end)
                self.final[end] = last.carried()
        self.moved.clear()
        self.base_moved = False

    def soonest(self) -> int:
        """The earliest end of those that run, mostly one or two; far in the future if none runs."""
        return min(self.running, default=NEVER)

    def overdue(self, until: int, most: int) -> int:
        """How many final ones there are to forget: what ends by ``until``, and all but the last ``most``."""
        if not self.ends or (self.ends[0] > until and len(self.ends) <= most):
            return 0
        return max(bisect_right(self.ends, until), len(self.ends) - most, 0)

    def forget(self, count: int, until: int) -> None:
        """The oldest ``count``; from now on nothing is known of what ends by ``until``."""
        for end in self.ends[:count]:
            part = self.final.pop(end)
            self.told.pop(end, None)
            self.forgotten_until = end
            if part.trades:
                self.base = part
        del self.ends[:count]
        self.forgotten_until = max(self.forgotten_until, until)

    # --- what is no longer as it was emitted --------------------------------------------------------------------------

    def unrevised(self, count: int) -> bool:
        """Whether one of the oldest ``count`` has not been emitted as it is."""
        return any(end in self.corrected or end in self.rechecked for end in self.ends[:count])

    def recheck(self, from_time: int, to_time: int) -> None:
        """The completeness of candles that hold one of these exchange times, both inclusive, may have changed."""
        self.recheck_held(from_time, to_time)
        self.mark_stale(from_time, to_time)

    def recheck_held(self, from_time: int, to_time: int) -> None:
        """The same, of those that are not forgotten."""
        low, high = bisect_right(self.ends, from_time), bisect_right(self.ends, to_time + self.length)
        self.rechecked.update(self.ends[low:high])

    def mark_stale(self, from_time: int, to_time: int) -> None:
        """The same for those that are forgotten: they have to be built anew, elsewhere."""
        start = self.end_of(from_time) - self.length
        end = min(self.end_of(to_time), self.end_of(self.forgotten_until) - self.length)
        if start >= end:
            return
        low = bisect_left(self.stale, start, key=itemgetter(1))  # the first range that touches, or comes after
        high = bisect_right(self.stale, end, key=itemgetter(0))  # one beyond the last that touches
        if low < high:
            start, end = min(start, self.stale[low][0]), max(end, self.stale[high - 1][1])
        self.stale[low:high] = [(start, end)]
        if len(self.stale) > MAX_STALE:
            self.stale[:2] = [(self.stale[0][0], self.stale[1][1])]

    def take_stale(self) -> list[StaleRange]:
        ranges, self.stale = self.stale, []
        return [StaleRange(self.interval, start, end) for start, end in ranges]
