"""Knows of one instrument's tape what is there, once, and what is missing.

Sans-I/O. Where a venue's ids are consecutive, coverage is a set of intervals: a trade covers (after, id], so aggregates
and single matches follow one rule, and it does not matter in which order they come. A hole is only suspected at first;
if it is still there after the grace it is a gap: told, and asked for. Where ids prove nothing (Bybit), trades are only
kept apart by them, and others say where something may be missing.
"""
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

from msgspec import Struct, structs

from onetape.clock import HOUR, MILLISECOND
from onetape.model import (
    Channel,
    GapClosed,
    GapFilling,
    GapOpened,
    InstrumentId,
    NeedTrades,
    Skipped,
    Source,
    Trade,
)
from onetape.tape.coverage import Coverage, Covered, Interval

GRACE_NS = 250 * MILLISECOND
WINDOW_NS = HOUR
MAX_WINDOW = 500_000  # ids of one hour: 140 trades a second
MAX_HOURS = 8  # that are held at a time; what is forgotten can be read again
MAX_INTERVALS = 10_000  # holes that are kept apart; beyond, the oldest interval is forgotten, and what lies below it
MAX_GAPS = 10_000  # of a tape whose ids prove nothing; beyond, the oldest is on record only

IDS_MISSING = "ids are missing"
ASKED = "asked for"
FILLED = "filled"
VENUE_HOLE = "venue hole"
"""So begins the reason of a gap that the venue should have trades for, and gives none: they may come later."""

Output = GapOpened | GapFilling | GapClosed | NeedTrades
NEW: Sequence[Output] = ()
"""The trade is new, and nothing follows from it."""


class OpenGap(Struct):
    """What lies strictly between the trades ``after`` and ``before`` is missing, or may be."""

    after: str
    before: str
    from_time: int
    to_time: int
    opened_at: int
    recovered: int = 0
    attempts: int = 0
    unhealable: str = ""
    """Why the venue does not give it; empty: it may."""
    low: int = 0
    """The ids as numbers, where they are consecutive."""
    high: int = 0
    earliest: Trade | None = None
    """Where ids prove nothing: the first one that was found again. Behind it the venue has given all."""


class LedgerState(Struct, frozen=True):
    """All that a restart must not forget."""

    intervals: tuple[Interval, ...] = ()
    gaps: tuple[OpenGap, ...] = ()


class _Suspect(Struct, frozen=True):
    due: int
    after: int
    before: int


Key = tuple[str, str]
_low, _high = attrgetter("low"), attrgetter("high")
_first_id, _last_id = attrgetter("first"), attrgetter("last")


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
        self._gaps = sorted(map(structs.replace, state.gaps), key=_low)  # disjoint, so by both ends
        self.suspects: deque[_Suspect] = deque()
        """Between which ids something may be missing, by when that is no longer only suspected."""
        if state.intervals:  # what was only suspected when the process ended is told at the first wake
            self.suspects.append(_Suspect(0, state.intervals[0].first, state.intervals[-1].last))
        self._told_gaps = Coverage()  # ids that were told to be missing, once
        for it in self._gaps:
            if it.high:
                self._told_gaps.add(it.low + 1, it.high - 1, 0, 0)
        self._stored = stored
        self._hours: OrderedDict[int, dict[str, None]] = OrderedDict()  # ids by the hour of their trades
        self._told = self._coverage.last  # of the coverage that ``take_covered`` has told, the highest interval
        self._extended_from: int | None = None  # exchange time of the first trade that it does not tell yet
        self._fresh: list[Covered] = []

    @property
    def coverage(self) -> Iterable[Interval]:
        return self._coverage

    @property
    def since(self) -> int | None:
        """Exchange time, ns, from which it is covered, but for the gaps; None: nothing is, or ids prove nothing."""
        return self._coverage.since

    @property
    def gaps(self) -> Sequence[OpenGap]:
        return self._gaps

    def state(self) -> LedgerState:
        return LedgerState(tuple(self._coverage), tuple(self._gaps))

    def receive(self, it: Trade, now: int) -> Sequence[Output] | None:
        """None for a trade that was had before; else what follows from the new one, mostly nothing."""
        if it.after is None:
            new = self._receive_by_id(it.id, it.exchange_time)
            if new is not None and self._gaps and it.source is Source.BACKFILL:
                self._recover(it)
            return new
        last = int(it.id)
        if self._coverage.extend(it.after, last, it.exchange_time):
            self.received += 1
            if self._extended_from is None:
                self._extended_from = it.exchange_time
            return NEW
        return self._cover(it.after + 1, last, it.exchange_time, now, FILLED)

    def knows(self, it: Trade) -> bool:
        """It was had before."""
        if it.after is not None:
            return self._coverage.covers(it.after + 1, int(it.id))
        hour = it.exchange_time - it.exchange_time % WINDOW_NS
        return it.id in (self._hours.get(hour) or self._open_hour(hour))

    def skip(self, it: Skipped, now: int) -> Sequence[Output] | None:
        """As ``receive``, for ids that have no place on the tape: they count as covered."""
        if it.after is None:
            return self._receive_by_id(it.last, it.exchange_time)
        self.skipped += 1
        return self._cover(it.after + 1, int(it.last), it.exchange_time, now, it.reason)

    def next_wake(self) -> int | None:
        """When the oldest suspicion has had its grace."""
        return self.suspects[0].due if self.suspects else None

    def wake(self, now: int) -> list[Output]:
        """What is still missing after its grace is a gap."""
        out: list[Output] = []
        while self.suspects and self.suspects[0].due <= now:
            suspect = self.suspects.popleft()
            for hole in self._coverage.missing(suspect.after, suspect.before):
                if not self._told_gaps.covers(hole.first, hole.last):
                    out += self._open(hole, now)
        return out

    def finish(self, now: int) -> list[Output]:
        """Nothing more will come: what is missing now is a gap without a grace."""
        self.suspects = deque(_Suspect(now, it.after, it.before) for it in self.suspects)
        return self.wake(now)

    def take_covered(self) -> list[Covered]:
        """What has been covered since the last call, to be stored in one transaction with the trades that did it."""
        self._tell_extended()
        fresh, self._fresh = self._fresh, []
        return fresh

    # --- gaps ---------------------------------------------------------------------------------------------------------

    def needs(self) -> list[NeedTrades]:
        """What is missing, and may be had: at a start, all that was not healed before."""
        return [self._need(it, "not healed before") for it in self._gaps if not it.unhealable]

    def missing(self, after: int, before: int) -> list[tuple[Interval, str]]:
        """What is not there strictly between two ids; of what was given up with the reason."""
        given_up = [it for it in self._gaps if it.unhealable and it.low < before and after < it.high]
        return [
            (hole, next((it.unhealable for it in given_up if it.low < hole.first and hole.last < it.high), ""))
            for hole in self._coverage.missing(after, before)
        ]

    def want(self, after: int, before: int, now: int) -> list[Output]:
        """Somebody asks for what lies between two trades that are there, however old it is.

        What nobody told is a gap from now on, without a grace; what was given up is asked for once more.
        """
        out: list[Output] = []
        for gap in [it for it in self._gaps if it.unhealable and it.low < before and after < it.high]:
            out += self._reopen(gap, after, before, now)
        for hole in self._coverage.missing(after, before):
            known = next((it for it in self._gaps if it.low < hole.first and hole.last < it.high), None)
            if known is None:
                *opened, _ = self._open(hole, now, ASKED)
                out += opened
                known = _gap_of(hole, now)
            out.append(structs.replace(self._need(known, ASKED), asked=True))
        return out

    def unwant(self, after: int, before: int) -> list[NeedTrades]:
        """Nobody asks for it any more: what is open there is as any other gap."""
        return [
            self._need(it, IDS_MISSING) for it in self._gaps
            if not it.unhealable and it.low < before and after < it.high
        ]

    def _reopen(self, gap: OpenGap, after: int, before: int, now: int) -> list[Output]:
        """What of it lies between the two; what lies outside stays given up."""
        left = self._left(gap, now)
        self._gaps.remove(gap)
        out: list[Output] = []
        for it in left:
            inside = after <= it.low and it.high <= before
            it.unhealable = "" if inside else gap.unhealable
            insort(self._gaps, it, key=_low)
            out.append(self._opened(it, ASKED if inside else f"the rest of the gap after {gap.after}", now))
            if not inside:
                out.append(self._closed(it, it.unhealable, now, healed=False))
        return out if left == [gap] else [*out, self._closed(gap, "the rest is asked for", now, healed=True)]

    def settle(self, now: int) -> list[Output]:
        """At a start: each gap on record is to be just a hole between ids that are there, with the times at its edges.

        A process may have ended while gaps were being filled, or have stored less than it had.
        """
        if not self._coverage:
            return []
        rows, self._gaps, out = self._gaps, [], list[Output]()
        holes = self._coverage.holes()
        within: dict[int, list[OpenGap]] = {}  # by the place of a hole, the rows that speak of it
        for row in rows:
            low = bisect_right(holes, row.low, key=_last_id)
            for place in range(low, bisect_left(holes, row.high, key=_first_id)):
                within.setdefault(place, []).append(row)
        exact: set[Key] = set()
        for place, those in within.items():
            gap = _gap_of(holes[place], now)
            same = next((it for it in those if (it.low, it.high) == (gap.low, gap.high)), None)
            if same is not None:
                exact.add((same.after, same.before))
                same.from_time, same.to_time = gap.from_time, gap.to_time
                self._gaps.append(same)
                continue
            if all(it.unhealable for it in those):
                gap.unhealable = those[0].unhealable
            self._gaps.append(gap)
            out.append(self._opened(gap, f"the rest of the gap after {those[0].after}", now))
            out += [self._closed(gap, gap.unhealable, now, healed=False)] if gap.unhealable else []
        self._gaps.sort(key=_low)
        left = [it for it in rows if (it.after, it.before) not in exact]
        return [*out, *(self._closed(it, "filled as far as no other gap says", now, healed=True) for it in left)]

    def open(self, it: GapOpened, now: int) -> list[Output]:
        """Somebody else says that something may be missing: no id would show it."""
        if self._find(it.after, it.before) is not None:
            return []
        gap = OpenGap(it.after, it.before, it.from_time, it.to_time, now)
        self._gaps.append(gap)
        if len(self._gaps) > MAX_GAPS:
            del self._gaps[0]
            self.forgotten += 1
        return [it, self._need(gap, it.cause)]

    def filling(self, it: GapFilling) -> list[Output]:
        """The venue is being asked; of a gap that is no longer one: nothing."""
        gap = self._find(it.after, it.before)
        if gap is None:
            return []
        gap.attempts += 1
        return [structs.replace(it, attempts=gap.attempts, recovered=gap.recovered)]

    def close(self, it: GapClosed, now: int) -> list[Output]:
        """Who has asked the venue says what came of it. Where ids are consecutive, they alone say what is healed."""
        gap = self._find(it.after, it.before)
        if gap is None:
            return []
        if not it.healed:
            return self._give_up(gap, it.cause, now)
        if gap.high:
            return []
        self._gaps.remove(gap)
        return [self._closed(gap, it.cause, now, healed=True)]

    def _give_up(self, gap: OpenGap, cause: str, now: int) -> list[Output]:
        """What is left of it stays on record, and is not asked for again until somebody says so."""
        left = self._left(gap, now)
        if left == [gap]:
            gap.unhealable = cause
            return [self._closed(gap, cause, now, healed=False)]
        out: list[Output] = []
        self._gaps.remove(gap)
        for it in left:  # before the whole one ends: at no moment it looks as if all were there
            it.unhealable = cause
            insort(self._gaps, it, key=_low)
            out += [self._opened(it, f"the rest of the gap after {gap.after}", now)]
            out += [self._closed(it, cause, now, healed=False)]
        rest = ", ".join(f"{it.after} to {it.before}" for it in left[:3]) + (", ..." if len(left) > 3 else "")
        return [*out, self._closed(gap, f"filled, but for {rest}", now, healed=True)]

    def _left(self, gap: OpenGap, now: int) -> list[OpenGap]:
        if not gap.high:
            first = gap.earliest
            if first is None:
                return [gap]
            return [OpenGap(gap.after, first.id, gap.from_time, first.exchange_time, now)]
        lowest = self._coverage.first
        if lowest is None or gap.low < lowest.first:  # what is below was forgotten: it is not had because of that
            return [gap]
        holes = self._coverage.missing(gap.low, gap.high)
        if len(holes) == 1 and holes[0].first == gap.low + 1 and holes[0].last == gap.high - 1:
            return [gap]
        return [_gap_of(it, now) for it in holes]

    def _find(self, after: str, before: str) -> OpenGap | None:
        return next((it for it in self._gaps if it.after == after and it.before == before), None)

    def _need(self, it: OpenGap, reason: str) -> NeedTrades:
        return NeedTrades(*self.id, self.channel, it.after, it.before, it.from_time, it.to_time, reason)

    def _opened(self, it: OpenGap, cause: str, now: int) -> GapOpened:
        return GapOpened(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=it.to_time, received_time=now, available_at=now,
            channel=self.channel, after=it.after, before=it.before, from_time=it.from_time, to_time=it.to_time,
            cause=cause,
        )

    def _closed(self, gap: OpenGap, cause: str, now: int, *, healed: bool) -> GapClosed:
        return GapClosed(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=now, received_time=now, available_at=now,
            channel=self.channel, after=gap.after, before=gap.before, from_time=gap.from_time, to_time=gap.to_time,
            healed=healed, cause=cause, recovered=gap.recovered,
        )

    # --- ids that are consecutive -----------------------------------------------------------------------------------

    def _cover(self, first: int, last: int, time: int, now: int, cause: str) -> Sequence[Output] | None:
        self._tell_extended()
        added = self._coverage.add(first, last, time, time)
        if not added:
            self.duplicates += 1
            return None
        self.received += 1
        fresh = self._fresh[-1] if self._fresh else None
        if fresh is not None and fresh.last == first - 1:  # an older day is one row a batch, and not one a trade
            self._fresh[-1] = structs.replace(fresh, last=last, to_time=time)
        else:
            self._fresh.append(Covered(*self.id, self.channel, first, last, time, time))
        self._told = self._coverage.last
        self._suspect(self._coverage.below(first), first, now)
        self._suspect(last, self._coverage.above(last), now)
        if len(self._coverage) > MAX_INTERVALS:
            self._coverage = Coverage(list(self._coverage)[1:])
            self.forgotten += 1
        return self._fill(first, last, added, now, cause) if self._gaps else NEW

    def _tell_extended(self) -> None:
        """What the hot path has added to the highest interval, from its former end on: there they touch."""
        told, last = self._told, self._coverage.last
        if told is not None and last is not None and last.last > told.last:
            # Exact at both ends: what was stored before it may be lost, and then the first trade is the edge of a hole.
            since = told.to_time if self._extended_from is None else self._extended_from
            self._fresh.append(Covered(*self.id, self.channel, told.last + 1, last.last, since, last.to_time))
        self._told, self._extended_from = last, None

    def _suspect(self, after: int | None, before: int | None, now: int) -> None:
        if after is not None and before is not None and before - after > 1:
            self.suspects.append(_Suspect(now + self._grace_ns, after, before))

    def _open(self, hole: Interval, now: int, cause: str = IDS_MISSING) -> list[Output]:
        gap = _gap_of(hole, now)
        insort(self._gaps, gap, key=_low)
        self._told_gaps.add(hole.first, hole.last, 0, 0)
        return [self._opened(gap, cause, now), self._need(gap, cause)]

    def _fill(self, first: int, last: int, added: int, now: int, cause: str) -> Sequence[Output]:
        out: list[Output] = []
        low = bisect_right(self._gaps, first, key=_high)
        for gap in self._gaps[low : bisect_left(self._gaps, last, key=_low)]:
            if cause == FILLED:
                gap.recovered += min(added, gap.high - gap.low - 1)
            if self._coverage.covers(gap.low + 1, gap.high - 1):
                self._gaps.remove(gap)
                out.append(self._closed(gap, cause, now, healed=True))
        return out or NEW

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

    def _recover(self, it: Trade) -> None:
        for gap in self._gaps:
            if gap.from_time <= it.exchange_time <= gap.to_time:
                gap.recovered += 1
                if gap.earliest is None or it.exchange_time < gap.earliest.exchange_time:
                    gap.earliest = it
                return


def _gap_of(hole: Interval, now: int) -> OpenGap:
    low, high = hole.first - 1, hole.last + 1
    return OpenGap(str(low), str(high), hole.from_time, hole.to_time, now, low=low, high=high)
