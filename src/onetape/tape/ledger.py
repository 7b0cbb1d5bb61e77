"""Knows of one instrument's tape what is there, once, and what is missing.

Sans-I/O. Where a venue's ids are consecutive, coverage is a set of intervals: a trade covers (after, id], so aggregates
and single matches follow one rule, and it does not matter in which order they come. A hole is only suspected at first;
if it is still there after the grace it is a gap: told, and asked for. Where ids prove nothing (Bybit), trades are only
kept apart by them.
"""
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from msgspec import Struct, structs

from onetape.clock import HOUR, MILLISECOND
from onetape.model import Channel, GapClosed, GapOpened, InstrumentId, NeedTrades, Skipped, Trade
from onetape.tape.coverage import Coverage, Covered, Interval

GRACE_NS = 250 * MILLISECOND
WINDOW_NS = HOUR
MAX_WINDOW = 500_000  # ids of one hour: 140 trades a second
MAX_HOURS = 8  # that are held at a time; what is forgotten can be read again
MAX_INTERVALS = 10_000  # holes that are kept apart; beyond, the oldest interval is forgotten, and what lies below it

Output = GapOpened | GapClosed | NeedTrades
NEW: Sequence[Output] = ()
"""The trade is new, and nothing follows from it."""


class OpenGap(Struct):
    """Ids strictly between ``after`` and ``before`` are missing, or were."""

    after: int
    before: int
    from_time: int
    to_time: int
    opened_at: int
    recovered: int = 0


class LedgerState(Struct, frozen=True):
    """All that a restart must not forget."""

    intervals: tuple[Interval, ...] = ()
    gaps: tuple[OpenGap, ...] = ()
    closed: tuple[tuple[int, int], ...] = ()
    """(after, before) of what is missing for good, or never was: not to be asked for again."""


class _Suspect(Struct, frozen=True):
    due: int
    after: int
    before: int


_after, _before = attrgetter("after"), attrgetter("before")


class TradeLedger:
    """Of one instrument and channel; outlives connections. The one owner of what counts as seen."""

    def __init__(
        self, id: InstrumentId, channel: Channel, grace_ns: int = GRACE_NS,
        state: LedgerState = LedgerState(),  # noqa: B008 - frozen
        stored: Callable[[int], Iterable[str]] = lambda _: (),
    ) -> None:
        """``stored``: where ids prove nothing, those that are stored of the hour of exchange time that begins then."""
        self.id, self.channel = id, channel
        self.received = self.duplicates = self.skipped = self.forgotten = 0
        self._grace_ns = grace_ns
        self._coverage = Coverage(state.intervals)
        self._gaps = sorted(map(structs.replace, state.gaps), key=_after)  # disjoint, so by both ends
        self._suspects: deque[_Suspect] = deque()
        if state.intervals:  # what was only suspected when the process ended is told at the first wake
            self._suspects.append(_Suspect(0, state.intervals[0].first, state.intervals[-1].last))
        self._closed = list(state.closed)
        self._told_gaps = Coverage()  # ids that were told to be missing, once
        for after, before in (*((it.after, it.before) for it in self._gaps), *self._closed):
            self._told_gaps.add(after + 1, before - 1, 0, 0)
        self._stored = stored
        self._hours: OrderedDict[int, dict[str, None]] = OrderedDict()  # ids by the hour of their trades
        self._told = self._coverage.last  # of the coverage that ``take_covered`` has told, the highest interval
        self._fresh: list[Covered] = []

    @property
    def coverage(self) -> Iterable[Interval]:
        return self._coverage

    @property
    def gaps(self) -> Sequence[OpenGap]:
        return self._gaps

    def state(self) -> LedgerState:
        return LedgerState(tuple(self._coverage), tuple(self._gaps), tuple(self._closed))

    def receive(self, it: Trade, now: int) -> Sequence[Output] | None:
        """None for a trade that was had before; else what follows from the new one, mostly nothing."""
        if it.after is None:
            return self._receive_by_id(it.id, it.exchange_time)
        last = int(it.id)
        if self._coverage.extend(it.after, last, it.exchange_time):
            self.received += 1
            return NEW
        return self._cover(it.after + 1, last, it.exchange_time, now)

    def skip(self, it: Skipped, now: int) -> Sequence[Output] | None:
        """As ``receive``, for ids that have no place on the tape: they count as covered."""
        if it.after is None:
            return self._receive_by_id(it.last, it.exchange_time)
        self.skipped += 1
        return self._cover(it.after + 1, int(it.last), it.exchange_time, now)

    def next_wake(self) -> int | None:
        """When the oldest suspicion has had its grace."""
        return self._suspects[0].due if self._suspects else None

    def wake(self, now: int) -> list[Output]:
        """What is still missing after its grace is a gap."""
        out: list[Output] = []
        while self._suspects and self._suspects[0].due <= now:
            suspect = self._suspects.popleft()
            for hole in self._coverage.missing(suspect.after, suspect.before):
                if not self._told_gaps.covers(hole.first, hole.last):
                    out += self._open(hole, now)
        return out

    def finish(self, now: int) -> list[Output]:
        """Nothing more will come: what is missing now is a gap without a grace."""
        self._suspects = deque(_Suspect(now, it.after, it.before) for it in self._suspects)
        return self.wake(now)

    def take_covered(self) -> list[Covered]:
        """What has been covered since the last call, to be stored in one transaction with the trades that did it."""
        self._tell_extended()
        fresh, self._fresh = self._fresh, []
        return fresh

    def close(self, gap: OpenGap, cause: str, now: int, *, healed: bool = False) -> GapClosed:
        """Ends a gap that no trade will fill: the venue has nothing there (``healed``), or gives it no more."""
        self._gaps.remove(gap)
        if not self._coverage.covers(gap.after + 1, gap.before - 1):
            self._closed.append((gap.after, gap.before))
        return self._tell_closed(gap, cause, now, healed=healed)

    # --- ids that are consecutive -----------------------------------------------------------------------------------

    def _cover(self, first: int, last: int, time: int, now: int) -> Sequence[Output] | None:
        self._tell_extended()
        added = self._coverage.add(first, last, time, time)
        if not added:
            self.duplicates += 1
            return None
        self.received += 1
        self._fresh.append(Covered(*self.id, self.channel, first, last, time, time))
        self._told = self._coverage.last
        self._suspect(self._coverage.below(first), first, now)
        self._suspect(last, self._coverage.above(last), now)
        if len(self._coverage) > MAX_INTERVALS:
            self._coverage = Coverage(list(self._coverage)[1:])
            self.forgotten += 1
        return self._fill(first, last, added, now) if self._gaps else NEW

    def _tell_extended(self) -> None:
        """What the hot path has added to the highest interval, from its former end on: there they touch."""
        told, last = self._told, self._coverage.last
        if told is not None and last is not None and last.last > told.last:
            self._fresh.append(Covered(*self.id, self.channel, told.last + 1, last.last, told.to_time, last.to_time))
        self._told = last

    def _suspect(self, after: int | None, before: int | None, now: int) -> None:
        if after is not None and before is not None and before - after > 1:
            self._suspects.append(_Suspect(now + self._grace_ns, after, before))

    def _open(self, hole: Interval, now: int) -> list[Output]:
        gap = OpenGap(hole.first - 1, hole.last + 1, hole.from_time, hole.to_time, now)
        insort(self._gaps, gap, key=_after)
        self._told_gaps.add(hole.first, hole.last, 0, 0)
        opened = GapOpened(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=hole.to_time, received_time=now,
            available_at=now, channel=self.channel, after=str(gap.after), before=str(gap.before),
            from_time=hole.from_time, to_time=hole.to_time, cause="ids are missing",
        )
        return [opened, NeedTrades(self.id.symbol, self.channel, opened.after, opened.before, opened.cause)]

    def _fill(self, first: int, last: int, added: int, now: int) -> Sequence[Output]:
        out: list[Output] = []
        low = bisect_right(self._gaps, first, key=_before)
        for gap in self._gaps[low : bisect_left(self._gaps, last, key=_after)]:
            gap.recovered += min(added, gap.before - gap.after - 1)
            if self._coverage.covers(gap.after + 1, gap.before - 1):
                out.append(self.close(gap, "filled", now, healed=True))
        return out or NEW

    def _tell_closed(self, gap: OpenGap, cause: str, now: int, *, healed: bool) -> GapClosed:
        return GapClosed(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=now, received_time=now, available_at=now,
            channel=self.channel, after=str(gap.after), before=str(gap.before), from_time=gap.from_time,
            to_time=gap.to_time, healed=healed, cause=cause, recovered=gap.recovered,
        )

    # --- ids that prove nothing -------------------------------------------------------------------------------------

    def _receive_by_id(self, identity: str, time: int) -> Sequence[Output] | None:
        """A trade has one time whenever it comes, so that only its hour can hold it: however old, it is known again."""
        hour = time - time % WINDOW_NS
        ids = self._hours.get(hour)
        if ids is None:
            ids = self._open_hour(hour)
        if identity in ids:
            self.duplicates += 1
            return None
        self.received += 1
        ids[identity] = None
        if len(ids) > MAX_WINDOW:
            del ids[next(iter(ids))]
            self.forgotten += 1
        return NEW

    def _open_hour(self, hour: int) -> dict[str, None]:
        ids = self._hours[hour] = dict.fromkeys(self._stored(hour))
        if len(self._hours) > MAX_HOURS:
            self._hours.popitem(last=False)
        return ids
