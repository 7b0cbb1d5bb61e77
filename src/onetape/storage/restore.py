"""Gives a pipeline what the store knows of a tape, and builds candles anew from stored trades."""
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct, structs

from onetape.candles.batch import build
from onetape.candles.series import Series, StaleRange
from onetape.clock import DAY, HOUR, MINUTE, interval_ns
from onetape.model import TAPES, Candle, Channel, InstrumentId, Trade
from onetape.storage.catalog import TapeId
from onetape.storage.lake import Lake, Selection, StoredGap
from onetape.storage.selection import of_one
from onetape.tape.coverage import Coverage
from onetape.tape.history import History
from onetape.tape.ledger import VENUE_HOLE, LedgerState, OpenGap
from onetape.venues import VENUES

_NEVER = 1 << 63
Coverages = Mapping[TapeId, Coverage]
UNJUDGED_NS = 10 * MINUTE
"""Of a tape whose ids prove nothing: whose volume may not have been compared yet."""
UNPROVEN = Coverage()
"""Of a tape whose ids prove nothing; nobody adds to it."""


class Stored:
    """What a store holds at the start, read once for all tapes; what one process adds is of tapes that it restored."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.pairs = lake.pairs()
        self.coverage = lake.coverage()
        self.pruned = {table: lake.pruned(table) for table in ("trades", "candles")}
        self.gaps: dict[tuple[str, str, Channel], list[StoredGap]] = {}
        for it in lake.gaps():
            self.gaps.setdefault((it.venue, it.symbol, it.channel), []).append(it)

    def history(
        self, id: InstrumentId, channel: Channel, intervals: Sequence[str], wanted: Channel | None = None,
    ) -> History:
        """Of a tape, for candles of ``intervals``. ``wanted``: the channel that feeds them where none is stored."""
        feeds = wanted or channel
        if tuple(id) not in self.pairs:
            return History(feeds_candles=feeds is channel)
        feeds = feeding(self.lake, self.coverage, id) or feeds
        last = self.lake.trades(of_one(id, channel=channel, limit=1))
        if not last:
            return History(ledger=self._ledger(id, channel), feeds_candles=feeds is channel)
        final_until, candles = self._candles(id, intervals, last[0].exchange_time)
        since = candles[-1].end if candles else None if final_until is None else _longest(final_until, intervals)
        trades = self.lake.trades(of_one(id, channel=channel, start=since))
        covered_since = _since(self._covered(id, channel))
        if last[0].after is None:  # it is known since its first trade, but for the gaps on record
            known = self.lake.trades(of_one(id, channel=channel, start=last[0].exchange_time - UNJUDGED_NS))
            before = self.lake.trades(of_one(id, channel=channel, end=known[0].exchange_time, limit=1))
            trades = sorted({it.id: it for it in (*before, *known, *trades)}.values(), key=lambda it: it.exchange_time)
            covered_since = trades[0].exchange_time
        if gone := self.pruned["candles" if candles else "trades"].get((id.venue, id.symbol)):
            covered_since = max(covered_since or gone[1], gone[1])
        return History(
            ledger=self._ledger(id, channel), covered_since=covered_since,
            final_until=final_until, gaps=self._missing(id, channel), last=last[0], candles=candles, trades=trades,
            known_at=max(it.available_at for it in (*last, *candles, *trades)), feeds_candles=feeds is channel,
        )

    def unhealed(self, id: InstrumentId, channel: Channel) -> bool:
        """There are gaps on record that may still be had."""
        return any(it.state in ("open", "filling") or _may_come(it) for it in self.gaps.get((*id, channel), ()))

    def ids(self, id: InstrumentId, channel: Channel, hour: int) -> list[str]:
        """Of the trades of an hour, given by its start."""
        if tuple(id) not in self.pairs:
            return []
        return [it.id for it in self.lake.trades(of_one(id, channel=channel, start=hour, end=hour + HOUR))]

    def _candles(self, id: InstrumentId, intervals: Sequence[str], last: int) -> tuple[int | None, list[Candle]]:
        """Until when candles are final, and the final minutes of those that are not, as far as there are any."""
        final_until = finished_until(self.lake, id, last)
        if final_until is None or "1m" not in intervals:
            return final_until, []
        since = _longest(final_until, intervals)
        minutes = self.lake.candles(of_one(id, start=since + 1), "1m")
        return final_until, [it for it in minutes if it.start >= since]

    def _ledger(self, id: InstrumentId, channel: Channel) -> LedgerState:
        coverage = self._covered(id, channel)
        return LedgerState(
            intervals=tuple(coverage),
            gaps=tuple(
                OpenGap(
                    it.after, it.before, it.from_time, it.to_time, it.opened_at, it.recovered, it.attempts,
                    it.cause if it.state == "unhealable" and not _may_come(it) else "",
                    *((int(it.after), int(it.before)) if coverage else ()),
                )
                for it in self.gaps.get((*id, channel), ()) if it.state != "healed"
            ),
        )

    def _missing(self, id: InstrumentId, channel: Channel) -> dict[tuple[str, str], tuple[int, int]]:
        """Where ids are consecutive, the holes between them; else the gaps."""
        intervals = list(self._covered(id, channel))
        if intervals:
            return {
                (str(left.last), str(right.first)): (left.to_time, right.from_time)
                for left, right in pairwise(intervals)
            }
        return {
            (it.after, it.before): (it.from_time, it.to_time) for it in self.gaps.get((*id, channel), ())
            if it.state != "healed"
        }

    def _covered(self, id: InstrumentId, channel: Channel) -> Coverage:
        return self.coverage.get((*id, channel), UNPROVEN)


def feeding(lake: Lake, coverage: Coverages, id: InstrumentId) -> Channel | None:
    """The channel whose stored trades make the candles: the one that is stored for longest, else the venue's tape."""
    tape = VENUES[id.venue].spec.capabilities.tape if id.venue in VENUES else Channel.TRADES
    stored = [it for it in TAPES if lake.trades(of_one(id, channel=it, limit=1))]
    if len(stored) < 2:
        return stored[0] if stored else None
    return min(stored, key=lambda it: (_since(coverage.get((*id, it), UNPROVEN)) or 0, it is not tape))


def fed(lake: Lake, coverage: Coverages, id: InstrumentId) -> Channel | None:
    """As ``feeding``; where all trades are gone by policy, the channel that was covered, else the venue's tape."""
    channel = feeding(lake, coverage, id)
    if channel is not None or not any(tuple(id) in lake.pruned(table) for table in ("trades", "candles")):
        return channel
    tape = VENUES[id.venue].spec.capabilities.tape if id.venue in VENUES else Channel.TRADES
    return next((it for it in TAPES if (*id, it) in coverage), tape)


class Rebuilt(Struct, frozen=True):
    """What the stored trades of a part of a tape say of its final candles."""

    start: int
    end: int
    same: int
    """Candles that are stored as they are."""
    changed: Sequence[Candle]
    """Those that differ, as their next revision; and those that were missing."""


def rebuilt(
    lake: Lake, coverage: Coverages, id: InstrumentId, stale: StaleRange, now: int,
) -> Iterator[list[Candle]]:
    """Final candles whose stored trades say something else than they do, each as its next revision."""
    return (list(it.changed) for it in rebuild(lake, coverage, id, stale, now))


def rebuild(
    lake: Lake, coverage: Coverages, id: InstrumentId, stale: StaleRange, now: int,
) -> Iterator[Rebuilt]:
    """All final candles of a range, part by part, the newest first; empty ones that carry a close stay as they are.

    What is not final yet is left to whoever builds it: a range may reach beyond what is over. No more than an hour of
    trades is held, and the candles of an hour, or one of a longer interval.
    """
    tape = _tape(lake, coverage, id)
    if tape is None:
        return
    until = final_in(lake, id, tape.channel, stale.interval)
    if gone := lake.pruned("trades").get((id.venue, id.symbol)):  # what was made of those trades stays as it is
        first = Series(stale.interval, 0, carry_empty=False).end_of(gone[1] - 1)
        stale = structs.replace(stale, start=max(stale.start, first))
    for start, end in _parts(lake, id, tape.channel, structs.replace(stale, end=min(stale.end, until))):
        known: dict[int, int] = {}
        trades = _noting(_hourly(lake, id, tape.channel, start, end), stale.interval, known)
        stored = {it.end: it for it in lake.candles(of_one(id, start=start + 1, end=end + 1), stale.interval)}
        built = build(trades, stale.interval, now, until=end, covered_since=tape.since, gaps=tape.missing)
        changed = list(_revisions(built, stored, known))
        yield Rebuilt(start, end, len(built) - len(changed), changed)


def final_in(lake: Lake, id: InstrumentId, channel: Channel, interval: str) -> int:
    """The end of the last candle of an interval, stored or not, that is over as far as the store knows."""
    (last,) = lake.trades(of_one(id, channel=channel, limit=1))
    until = finished_until(lake, id, last.exchange_time)
    length = interval_ns(interval)
    return Series(interval, 0, carry_empty=False).end_of(last.exchange_time if until is None else until) - length


class _Tape(Struct, frozen=True):
    """The trades that make an instrument's candles."""

    channel: Channel
    since: int
    """From then on it is covered, ns, but for what is ``missing``."""
    missing: Sequence[tuple[int, int]]


def _tape(lake: Lake, coverage: Coverages, id: InstrumentId, as_of: int | None = None) -> _Tape | None:
    """None where no trade is stored, or none was by ``as_of``."""
    channel = feeding(lake, coverage, id)
    if channel is None:
        return None
    known = coverage.get((*id, channel), UNPROVEN)
    since = _since(known)
    gone = lake.pruned("trades").get((id.venue, id.symbol))
    if since is not None and as_of is None:
        return _Tape(channel, gone[1] if gone else since, _holes(known))
    selection = of_one(id, channel=channel)
    span = lake.spans(selection, as_of=as_of).get((*id, channel))
    gaps = lake.gaps(selection, as_of=as_of)
    missing = [(it.from_time, it.to_time) for it in gaps if it.state != "healed"]
    return None if span is None else _Tape(channel, gone[1] if gone else span[0], missing)


def _hourly(lake: Lake, id: InstrumentId, channel: Channel, start: int, end: int) -> Iterator[Trade]:
    """Of a long candle as of a short one no more than an hour is held."""
    for begin in range(start, end, HOUR):
        yield from lake.trades(of_one(id, channel=channel, start=begin, end=min(begin + HOUR, end)))


def _noting(trades: Iterable[Trade], interval: str, known: dict[int, int]) -> Iterator[Trade]:
    """Notes when the last trade of each candle became available, by their ends."""
    series = Series(interval, 0, carry_empty=False)
    for it in trades:
        end = series.end_of(it.exchange_time)
        known[end] = max(known.get(end, 0), it.available_at)
        yield it


def running(lake: Lake, selection: Selection, interval: str, *, as_of: int | None = None) -> list[Candle]:
    """The candles of an interval that are not final yet, as far as their trades are stored: provisional.

    ``as_of``: as they would have been shown at that time, ns.
    """
    out: list[Candle] = []
    coverage = lake.coverage()
    for it in lake.instruments():
        id = InstrumentId(it.venue, it.symbol)
        if selection.venue in (None, it.venue) and (not selection.instruments or id in selection.instruments):
            out += _running(lake, coverage, id, interval, as_of)
    since, end = selection.start, selection.end
    return [it for it in out if (since is None or it.end >= since) and (end is None or it.end < end)]


def _running(lake: Lake, coverage: Coverages, id: InstrumentId, interval: str, as_of: int | None) -> Iterator[Candle]:
    tape = _tape(lake, coverage, id, as_of)
    if tape is None:
        return
    (last,) = lake.trades(of_one(id, channel=tape.channel, limit=1), as_of=as_of)
    until = finished_until(lake, id, last.exchange_time, as_of)
    since = None if until is None else _longest(until, (interval,))
    trades = lake.trades(of_one(id, channel=tape.channel, start=since), as_of=as_of)
    known: dict[int, int] = {}
    built = build(
        _noting(trades, interval, known), interval, last.available_at, until=_NEVER, covered_since=tape.since,
        gaps=tape.missing,
    )
    for it in built:
        if until is None or it.end > until:  # a late trade may have come after the last one of the exchange's time
            yield structs.replace(it, final=False, received_time=known[it.end], available_at=known[it.end])


def finished_until(lake: Lake, id: InstrumentId, last: int, as_of: int | None = None) -> int | None:
    """Until when the candles of a tape are final whose last trade has this time; None: none is."""
    near = lake.candles(of_one(id, start=last - DAY), as_of=as_of) or lake.candles(of_one(id, limit=1), as_of=as_of)
    return near[-1].end if near else None


def _revisions(
    built: Iterable[Candle], stored: Mapping[int, Candle], known: Mapping[int, int],
) -> Iterator[Candle]:
    """What differs from what is stored; never available before its end, its trades, or the revision before it."""
    for it in built:
        before = stored.get(it.end)
        at = max(it.available_at, it.end, known[it.end])
        if before is None:
            yield structs.replace(it, available_at=at, received_time=at)
            continue
        unchanged = structs.replace(
            it, received_time=before.received_time, available_at=before.available_at, revision=before.revision,
        )
        if unchanged != before:
            at = max(at, before.available_at)
            yield structs.replace(it, available_at=at, received_time=at, revision=before.revision + 1)


def _parts(lake: Lake, id: InstrumentId, channel: Channel, stale: StaleRange) -> Iterator[tuple[int, int]]:
    """Those that have trades, the newest first; what lies between them costs nothing."""
    length = interval_ns(stale.interval)
    step = length * max(1, HOUR // length)
    end = stale.end
    while last := lake.trades(of_one(id, channel=channel, start=stale.start, end=end, limit=1)):
        start = last[0].exchange_time - (last[0].exchange_time - stale.start) % step
        yield start, min(start + step, stale.end)
        end = start


def _longest(final_until: int, intervals: Sequence[str]) -> int:
    """Start of the earliest candle that is not final."""
    return min(Series(it, 0, carry_empty=False).end_of(final_until) - interval_ns(it) for it in intervals)


def _may_come(gap: StoredGap) -> bool:
    """The venue should have it, and did not give it: another process tries once more."""
    return gap.state == "unhealable" and gap.cause.startswith(VENUE_HOLE)


def _since(coverage: Coverage) -> int | None:
    return next((it.from_time for it in coverage), None)


def _holes(coverage: Coverage) -> list[tuple[int, int]]:
    intervals = list(coverage)
    return [(left.to_time, right.from_time) for left, right in pairwise(intervals)]
