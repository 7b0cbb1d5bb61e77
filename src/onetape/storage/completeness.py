"""Says of what a store answers whether anything is missing in it, and what stands behind that."""
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct, structs

from onetape.model import InstrumentId
from onetape.storage.catalog import TapeId
from onetape.storage.lake import Lake, Selection, Span, StoredGap
from onetape.tape.coverage import Coverage
from onetape.tape.ledger import IDS_MISSING

Gaps = Mapping[TapeId, Sequence[StoredGap]]
_EVER = (-(1 << 63), 1 << 63)


class Known(Struct, frozen=True):
    """A tape was collected from one exchange time to another, ns, both inclusive."""

    venue: str
    symbol: str
    channel: str
    from_time: int
    to_time: int
    proven: bool
    """By ids that are consecutive; else by the gaps alone: what no connection noticed is in none."""


class Unknown(Struct, frozen=True):
    """Of this part of what was asked for nothing is known: it lies before or behind all that is stored, ns."""

    venue: str
    symbol: str
    channel: str
    from_time: int
    to_time: int
    side: str
    """``before`` or ``behind``."""


class Gone(Struct, frozen=True):
    """What of this part was stored was removed by policy, ns; to_time is exclusive."""

    venue: str
    symbol: str
    channel: str
    from_time: int
    to_time: int


class Completeness(Struct, frozen=True):
    """Of the tapes and the time that were asked for."""

    complete: bool
    """Nothing is missing: no gap, nothing unknown, nothing pruned, and there is a tape."""
    gaps: Sequence[StoredGap]
    """Those that touch the time and are not healed, by where they begin."""
    known: Sequence[Known]
    """What is covered, as far as it lies in the time."""
    unknown: Sequence[Unknown]
    pruned: Sequence[Gone] = ()


def completeness(
    lake: Lake, selection: Selection, *, as_of: int | None = None, tapes: Collection[TapeId] | None = None,
    table: str = "trades",
) -> Completeness:
    """Of what is stored of the selection, whose limit does not matter; ``tapes``: only of these, and of each of them.

    ``table``: trades, or the candles that were made of them, which may be kept for longer.

    Where ids are consecutive it is what coverage and gaps say, elsewhere the gaps between the first and the last stored
    trade. ``as_of``: as it was known at that time, ns; since nobody noted when an id was covered, that too is then
    said by gaps and trades.
    """
    whole = structs.replace(selection, limit=None)
    coverage = {} if as_of is not None else _coverage(lake, whole)
    unproven = whole if as_of is not None else _others(lake, whole, coverage)
    spans = {} if unproven is None else lake.spans(unproven, as_of=as_of)
    gaps: dict[TapeId, list[StoredGap]] = {}
    for it in lake.gaps(whole, as_of=as_of):
        if it.state != "healed":
            gaps.setdefault((it.venue, it.symbol, it.channel), []).append(it)
    wanted = sorted({*coverage, *spans} if tapes is None else set(tapes))
    trades = lake.pruned("trades")
    gone = trades if table == "trades" else lake.pruned(table)
    found = [
        _of_tape(
            it, coverage.get(it), _since_ever(spans.get(it), trades.get(it[:2])), gaps.get(it, ()), whole,
            gone.get(it[:2]))
        for it in wanted
    ]
    return merged(found)


def merged(found: Iterable[Completeness]) -> Completeness:
    """Of several tapes as one."""
    parts = list(found)
    return Completeness(
        complete=bool(parts) and all(it.complete for it in parts),
        gaps=sorted((gap for it in parts for gap in it.gaps), key=lambda it: (it.from_time, it.venue, it.symbol)),
        known=[it for part in parts for it in part.known], unknown=[it for part in parts for it in part.unknown],
        pruned=[it for part in parts for it in part.pruned],
    )


def untold(tape: TapeId, coverage: Coverage, gaps: Iterable[StoredGap]) -> Iterator[StoredGap]:
    """Holes between the ids that no gap speaks of: the process ended within the grace, or has not told them yet."""
    told = Coverage()
    for it in gaps:
        if it.after.isdecimal() and it.before.isdecimal() and int(it.before) - int(it.after) > 1:
            told.add(int(it.after) + 1, int(it.before) - 1, 0, 0)
    for left, right in pairwise(coverage):
        if not told.touches(left.last + 1, right.first - 1):
            yield StoredGap(
                *tape, str(left.last), str(right.first), left.to_time, right.from_time, "open", IDS_MISSING,
                IDS_MISSING, 0, 0, right.from_time, right.from_time,
            )


def between(span: Span, gaps: Iterable[StoredGap]) -> Iterator[Span]:
    """What is left of a time without its gaps; a moment where two of them touch."""
    start, end = span
    for it in sorted(gaps, key=lambda it: it.from_time):
        if it.to_time > start and it.from_time < end:
            if it.from_time >= start:
                yield start, it.from_time
            start = it.to_time
    if start <= end:
        yield start, end


def _of_tape(
    tape: TapeId, coverage: Coverage | None, span: Span | None, gaps: Sequence[StoredGap], selection: Selection,
    gone: Span | None,
) -> Completeness:
    low = _EVER[0] if selection.start is None else selection.start
    high = _EVER[1] if selection.end is None else selection.end
    covered: list[Span] = []
    if coverage:
        covered = [(it.from_time, it.to_time) for it in coverage]
        hidden = (it for it in untold(tape, coverage, gaps) if it.to_time >= low and it.from_time < high)
        gaps = sorted((*gaps, *hidden), key=lambda it: it.from_time)
    elif span is not None:
        covered = list(between(span, gaps))
    known = [
        Known(*tape, max(first, low), min(last, high), proven=bool(coverage))
        for whole in covered for first, last in _without(whole, gone) if last >= low and first < high
    ]
    pruned = [] if gone is None else [Gone(*tape, max(gone[0], low), min(gone[1], high))]
    pruned = [it for it in pruned if it.from_time < it.to_time]
    unknown = list(_unknown(tape, (covered[0][0], covered[-1][1]), low, high)) if covered else []
    complete = bool(covered) and not gaps and not unknown and not pruned
    return Completeness(complete, gaps, known, unknown, pruned)


def _since_ever(span: Span | None, gone: Span | None) -> Span | None:
    """The time of the stored trades, and of those before them that were pruned."""
    return span if span is None or gone is None else (min(span[0], gone[0]), span[1])


def _without(span: Span, gone: Span | None) -> Iterator[Span]:
    """What of a time was not pruned."""
    first, last = span
    if gone is None or last < gone[0] or first >= gone[1]:
        yield span
        return
    if first < gone[0]:
        yield first, gone[0]
    if last >= gone[1]:
        yield gone[1], last


def _unknown(tape: TapeId, span: Span, low: int, high: int) -> Iterator[Unknown]:
    first, last = span
    if _EVER[0] < low < first or high <= first:
        until = min(first, high)
        yield Unknown(*tape, until if low == _EVER[0] else low, until, "before")
    if last < high < _EVER[1] or low > last:
        since = max(last, low)
        yield Unknown(*tape, since, since if high == _EVER[1] else high, "behind")


def _coverage(lake: Lake, selection: Selection) -> dict[TapeId, Coverage]:
    return {tape: it for tape, it in lake.coverage().items() if it and _chosen(selection, tape)}


def _chosen(selection: Selection, tape: TapeId) -> bool:
    venue, symbol, channel = tape
    return (
        selection.venue in (None, venue) and selection.channel in (None, channel)
        and (selection.instruments is None or (venue, symbol) in selection.instruments)
    )


def _others(lake: Lake, selection: Selection, coverage: Iterable[TapeId]) -> Selection | None:
    """The instruments without coverage, for their trades have to be looked through; None: there are none."""
    proven = {InstrumentId(venue, symbol) for venue, symbol, _ in coverage}
    chosen = frozenset(
        id for it in lake.instruments() if (id := InstrumentId(it.venue, it.symbol)) not in proven
        and selection.venue in (None, it.venue) and (selection.instruments is None or id in selection.instruments)
    )
    return structs.replace(selection, instruments=chosen) if chosen else None
