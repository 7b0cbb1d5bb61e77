"""Builds the candles of one instrument from its trades: provisional, then final once, then revised and never silently.

Sans-I/O. The newest second is summed in place; when a newer one begins it is merged into the running candle of every
interval. A trade out of order is added to each of them by itself, and since sums do not mind the order, so can a late
one be added to candles that are final: nothing but the sums has to be kept of the past.

    running --watermark >= end + lateness--> final, revision 0 --late trade, gap, coverage--> revision n + 1
                                                    └──retention over──> forgotten: a stale range tells to rebuild it
"""
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from onetape.candles import RunningCandle
from onetape.candles.series import BEGINNING, NEVER, Series, StaleRange
from onetape.clock import DAY, SECOND
from onetape.model import Candle, InstrumentId, Trade

INTERVALS = ("1s", "1m", "5m", "15m", "1h", "4h", "1d")
LATENESS_NS = 2 * SECOND
RETENTION_NS = DAY
MAX_KEPT = 3_600  # final candles of one interval: an hour of seconds, a day of all others; 1 kB each
MAX_GAPS = 1_000  # open ones; beyond, all before the oldest counts as incomplete
Key = tuple[str, str]
"""Of a gap: the ids before and behind it. Two gaps may have the same times."""
Span = tuple[int, int]
NO_GAPS: Mapping[Key, Span] = MappingProxyType({})


class CandleBuilder:
    """Fed with each trade of the tape once, in whatever order. All times are ns since the epoch.

    Nothing is emitted by ``add``: final candles by ``wake``, corrections of them by ``revise``, so that a backfill of
    10,000 trades makes one revision of a day and not 10,000. Only when candles are about to be forgotten does
    ``wake`` emit the corrections first.
    """

    def __init__(
        self, id: InstrumentId, intervals: tuple[str, ...] = INTERVALS, lateness_ns: int = LATENESS_NS,
        *, carry_empty: bool = False, covered_since: int | None = None, final_until: int | None = None,
        retention_ns: int = RETENTION_NS, max_kept: int = MAX_KEPT, max_gaps: int = MAX_GAPS,
    ) -> None:
        """``covered_since``: None for the first trade that comes. Raises ValueError: not an interval.

        ``final_until``: candles that end by then were emitted by an earlier process; ``restore`` the others.
        """
        self.id = id
        self.covered_since = covered_since
        self.final_until = BEGINNING if final_until is None else final_until
        """Candles that end by then are final."""
        self.late = self.forgotten = 0
        self._lateness_ns, self._retention_ns = lateness_ns, retention_ns
        self._max_kept, self._max_gaps = max_kept, max_gaps
        every = (Series(it, self.final_until, carry_empty=carry_empty) for it in dict.fromkeys(intervals))
        self._series = sorted(every, key=lambda it: it.length)
        self._carry_empty = carry_empty
        self._gaps: dict[Key, Span] = {}
        self._doubted_since: int | None = None
        self._doubted_until = BEGINNING  # there was a gap, which nobody remembers
        self._hot: RunningCandle  # the newest second, [start, end); there is none if they are equal
        self._hot_start = self._hot_end = BEGINNING
        self._now = 0  # of the last trade
        self._next_end = NEVER  # of the earliest candle that is not final
        self._touched = False  # what is final, since the last ``revise``

    # --- trades -----------------------------------------------------------------------------------------------------

    def add(self, it: Trade, now: int) -> bool:
        """A new trade of the tape, that came with the input at ``now``. True: ``next_wake`` may have changed."""
        self._now = now
        if self._hot_start <= it.exchange_time < self._hot_end:
            self._hot.add(it)
            return False
        self._add_elsewhere(it)
        return True

    def _add_elsewhere(self, it: Trade) -> None:
        time = it.exchange_time
        if self.covered_since is None:
            self.covered_since = time
        if time >= self._hot_end and time - time % SECOND + SECOND > self.final_until:
            self._fold()
            self._begin(it)
        else:
            self._touched = True
            late = [series.add(it, self.final_until) for series in self._series]
            self.late += any(late)
            if self._carry_empty and any(late):  # it may be the first one that there is to carry
                self._next_end = self._soonest()
        if time < self._next_end:  # else every candle of this trade ends later still
            ends = (series.end_of(time) for series in self._series)
            self._next_end = min(self._next_end, *(end for end in ends if end > self.final_until), NEVER)

    def _fold(self) -> None:
        """The newest second, if there is one, is over."""
        if self._hot_start < self._hot_end:
            for series in self._series:
                series.merge(self._hot_start, self._hot, self.final_until)
            self._hot_start = self._hot_end

    def _begin(self, it: Trade) -> None:
        self._hot = RunningCandle(it)
        self._hot_start = it.exchange_time - it.exchange_time % SECOND
        self._hot_end = self._hot_start + SECOND

    def restore(
        self, trades: Iterable[Trade], candles: Iterable[Candle] = (), gaps: Mapping[Key, Span] = NO_GAPS,
    ) -> None:
        """Before all else: what the store has of the candles that were not final when the last process ended.

        That is from the start of the longest one on, in any order: final ``candles`` for the longer ones that they fit
        into, and the trades behind them; trades of final candles do no harm. ``gaps`` are known to who reads the store.
        """
        self._gaps = dict(list(gaps.items())[-self._max_gaps:])
        for one in candles:
            if one.volume:
                part = RunningCandle.of(one)
                for series in self._series:
                    if series.length > one.end - one.start and series.end_of(one.start) > self.final_until:
                        series.merge(one.start, part, self.final_until)
        newest = BEGINNING
        for it in trades:
            if self._hot_start <= it.exchange_time < self._hot_end:
                self._hot.add(it)
                continue
            if self.covered_since is None:
                self.covered_since = it.exchange_time
            self._fold()
            self._begin(it)
            newest = max(newest, self._hot_end)
        self._fold()
        self._hot_start = self._hot_end = newest
        self._next_end = self._soonest()

    # --- becoming final ---------------------------------------------------------------------------------------------

    def next_wake(self) -> int | None:
        """The watermark at which ``wake`` has something to emit; None if nothing is unfinished."""
        return None if self._next_end == NEVER else self._next_end + self._lateness_ns

    def wake(self, watermark: int, now: int) -> list[Candle]:
        """All exchange times up to ``watermark`` have passed: what ended a lateness before is final.

        By end, then shorter intervals before longer. A watermark that goes back changes nothing.
        """
        since, until = self.final_until, watermark - self._lateness_ns
        if until <= since:
            return []
        if until < self._next_end:
            self.final_until = until
            return []
        if self._hot_end <= until:
            self._fold()
        out: list[Candle] = []
        for it in self._series:
            if it.moved or it.base_moved:
                it.carry_corrections(since)
            if it.carry_empty or it.soonest() <= until:
                out += [self._emit(it, end, now) for end in it.finish(since, until, self._oldest(it, until))]
        self.final_until = until
        out.sort(key=_order)
        out = self._forget(now) + out
        self._next_end = self._soonest()
        return out

    def _soonest(self) -> int:
        ends = [it.soonest() for it in self._series]
        if self._hot_start < self._hot_end:
            ends += [it.end_of(self._hot_start) for it in self._series]
        if self._carry_empty:
            ends += [it.end_of(self.final_until) for it in self._series if it.ends or it.base is not None]
        return min(ends, default=NEVER)

    def _oldest(self, it: Series, until: int) -> int:
        """What is final and ends by then is not held."""
        oldest = until - self._retention_ns
        return max(oldest, until - self._max_kept * it.length) if it.carry_empty else oldest

    def _forget(self, now: int) -> list[Candle]:
        """Corrections of what is to be forgotten are emitted first."""
        counts = []
        unrevised = False
        for it in self._series:
            until = self._oldest(it, self.final_until)
            count = it.overdue(until, self._max_kept)
            counts.append((it, count, until))
            unrevised = unrevised or (count > 0 and it.unrevised(count))
        out = self.revise(now) if unrevised else []
        for it, count, until in counts:
            it.forget(count, until)
            self.forgotten += count
        if self._gaps:  # those that no candle held, or running, can touch
            oldest = min(it.forgotten_until - it.length for it in self._series)
            self._gaps = {key: span for key, span in self._gaps.items() if span[1] >= oldest}
        return out

    def _emit(self, it: Series, end: int, now: int) -> Candle:
        revision = it.told[end][0] + 1 if end in it.told else 0
        start = end - it.length
        complete = self._complete(start, end)
        it.told[end] = revision, complete
        return it.final[end].candle(
            self.id, it.interval, start, end, now, complete=complete, final=True, revision=revision,
        )

    # --- corrections ------------------------------------------------------------------------------------------------

    @property
    def unrevised(self) -> bool:
        """``revise`` has, or may have, something to emit."""
        return self._touched and any(it.corrected or it.rechecked or it.base_moved for it in self._series)

    def revise(self, now: int) -> list[Candle]:
        """The final candles that are no longer as they were emitted, each once; a late one that is new as revision 0.

        To be called before the trades are committed, so that no end of the process comes between them and their
        candles; at the latest after a batch of backfill. In the order of ``wake``.
        """
        out = []
        for it in self._series:
            it.carry_corrections(self.final_until)
            rechecked = (end for end in it.rechecked if end in it.told)
            changed = {end for end in rechecked if it.told[end][1] != self._complete(end - it.length, end)}
            out += [self._emit(it, end, now) for end in it.corrected | changed]
            it.corrected.clear()
            it.rechecked.clear()
        self._touched = False
        out.sort(key=_order)
        return out

    def take_stale_ranges(self) -> list[StaleRange]:
        """What was touched by late trades or gaps and is forgotten, since the last call: rebuild it from the store."""
        return [stale for it in self._series for stale in it.take_stale()]

    # --- completeness -----------------------------------------------------------------------------------------------

    def cover(self, since: int) -> None:
        """The tape is covered since this exchange time, but for gaps: a backfill went further back."""
        before, self.covered_since = self.covered_since, since
        if before is not None:
            self._recheck(min(before, since), max(before, since))

    def gap_opened(self, from_time: int, to_time: int, key: Key | None = None) -> None:
        """Trades are missing between two that are there, at these exchange times: both may have others beside them.

        One of the same ``key`` is the same gap; without one each is another.
        """
        self._gaps[key or (f"{from_time} to {to_time}", str(len(self._gaps)))] = from_time, to_time
        if len(self._gaps) > self._max_gaps:
            oldest = min(self._gaps, key=lambda it: self._gaps[it])
            _, until = self._gaps.pop(oldest)
            self._doubted_until = max(self._doubted_until, until)
        self._recheck(from_time, to_time)

    def gap_closed(self, from_time: int, to_time: int, key: Key | None = None) -> None:
        """Nothing is missing there any more; a gap that cannot be healed is never closed."""
        if key is None:
            key = next((it for it, span in self._gaps.items() if span == (from_time, to_time)), None)
        if key is not None:
            self._gaps.pop(key, None)
        self._recheck(from_time, to_time)

    def doubt(self, since: int) -> None:
        """From this exchange time on it is not known what there is: the connection is lost, say."""
        if self._doubted_since is None:
            self._doubted_since = since
            self._recheck_held(since)

    def end_doubt(self) -> None:
        """All of it is there, or gaps say what is not."""
        if self._doubted_since is not None:
            since, self._doubted_since = self._doubted_since, None
            self._recheck(since, NEVER)  # what is not held an earlier process may have emitted in doubt

    def _recheck_held(self, since: int) -> None:
        """What is not held was emitted while it was known."""
        self._touched = True
        for it in self._series:
            it.recheck_held(since, NEVER)

    def _recheck(self, from_time: int, to_time: int) -> None:
        self._touched = True
        for it in self._series:
            it.recheck(from_time, to_time)

    def _complete(self, start: int, end: int) -> bool:
        if self.covered_since is None or start < self.covered_since or start <= self._doubted_until:
            return False
        if self._doubted_since is not None and end > self._doubted_since:
            return False
        return not touched(start, end, self._gaps.values())

    # --- reading ----------------------------------------------------------------------------------------------------

    def forgotten_until(self, interval: str) -> int:
        """Final candles of an interval that end by then are not held: who finds them wrong rebuilds them."""
        return next((it.forgotten_until for it in self._series if it.interval == interval), NEVER)

    @property
    def held(self) -> int:
        """Number of candles in memory, running and final, over all intervals."""
        return sum(len(it.running) + len(it.final) for it in self._series) + (self._hot_start < self._hot_end)

    @property
    def uncarried(self) -> int:
        """Empty candles that were not made because they are older than what is held."""
        return sum(it.uncarried for it in self._series)

    def current(self, interval: str) -> Candle | None:
        """The running candle as of the last trade, provisional; None if none runs. Raises ValueError: not built."""
        it = next((it for it in self._series if it.interval == interval), None)
        if it is None:
            raise ValueError(f"{interval!r} is not among the intervals built: {', '.join(self.intervals)}")
        if self._hot_start < self._hot_end:
            end = it.end_of(self._hot_start)
            part = self._hot
            if end in it.running:
                part = it.running[end].copy()
                part.merge(self._hot)
        elif it.running:
            end = max(it.running)
            part = it.running[end]
        else:
            return None
        start = end - it.length
        return part.candle(
            self.id, interval, start, end, self._now, complete=self._complete(start, end), final=False,
        )

    @property
    def intervals(self) -> tuple[str, ...]:
        """Shortest first."""
        return tuple(it.interval for it in self._series)


def touched(start: int, end: int, gaps: Iterable[tuple[int, int]]) -> bool:
    """Whether [start, end) holds an exchange time of one of the gaps; both times of a gap belong to it."""
    return any(from_time < end and start <= to_time for from_time, to_time in gaps)


def _order(it: Candle) -> tuple[int, int]:
    return it.end, -it.start
