"""Gives a pipeline what the store knows of a tape, and builds candles anew from stored trades."""
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from msgspec import structs

from onetape.candles.batch import build
from onetape.candles.series import StaleRange
from onetape.clock import HOUR, interval_ns
from onetape.model import Candle, Channel, InstrumentId
from onetape.storage.lake import Lake, Selection
from onetape.tape.coverage import Coverage
from onetape.tape.history import History
from onetape.tape.ledger import WINDOW_NS, LedgerState, OpenGap
from onetape.venues import VENUES

_TAPES = (Channel.TRADES, Channel.AGG_TRADES)
_NEVER = 1 << 63


def history(lake: Lake, id: InstrumentId, channel: Channel, time: int, intervals: Sequence[str]) -> History:
    """Of a tape whose next trade has the exchange time ``time``, for candles of ``intervals``."""
    if not any((it.venue, it.symbol) == id for it in lake.instruments()):
        return History()
    coverage = lake.coverage().get((*id, channel)) or Coverage()
    gaps = [it for it in lake.gaps(_of(id, channel=channel)) if it.state != "healed"]
    newest = lake.candles(_of(id, limit=1))
    final_until = newest[-1].end if newest else None
    since = None if final_until is None else final_until - max(map(interval_ns, intervals))
    window = () if coverage else lake.trades(_of(id, channel=channel, start=time - WINDOW_NS))
    last = lake.trades(_of(id, channel=channel, limit=1))
    return History(
        ledger=LedgerState(
            intervals=tuple(coverage),
            gaps=tuple(
                OpenGap(int(it.after), int(it.before), it.from_time, it.to_time, it.available_at, it.recovered)
                for it in gaps if coverage and it.state == "open"
            ),
            window=tuple((it.exchange_time, it.id) for it in window),
        ),
        covered_since=_since(coverage),
        final_until=final_until,
        gaps=[(it.from_time, it.to_time) for it in gaps],
        last=last[-1] if last else None,
        trades=lake.trades(_of(id, channel=channel, start=since)),
        feeds_candles=channel is (feeding(lake, id) or channel),
    )


def feeding(lake: Lake, id: InstrumentId) -> Channel | None:
    """The channel whose stored trades make the candles: the venue's tape if there is any of it, else the other."""
    tape = VENUES[id.venue].spec.capabilities.tape
    ordered = sorted(_TAPES, key=lambda it: it is not tape)
    return next((it for it in ordered if lake.trades(_of(id, channel=it, limit=1))), None)


def rebuilt(lake: Lake, id: InstrumentId, stale: StaleRange, now: int) -> list[Candle]:
    """Final candles whose stored trades say something else than they do, each as its next revision.

    In parts, so that no more than an hour of trades, or those of one candle, are held.
    """
    channel = feeding(lake, id)
    coverage = lake.coverage().get((*id, channel)) if channel is not None else None
    out: list[Candle] = []
    for start, end in _parts(stale):
        stored = {it.end: it for it in lake.candles(_of(id, start=start, end=end + 1), stale.interval)}
        built = build(
            lake.trades(_of(id, channel=channel, start=start, end=end)), stale.interval, now, until=end,
            covered_since=_since(coverage or Coverage()) or _NEVER, gaps=_holes(coverage or Coverage()),
        )
        out += _revisions(built, stored, proven=bool(coverage))
    return out


def running(lake: Lake, selection: Selection, interval: str) -> list[Candle]:
    """The candles of an interval that are not final yet, as far as their trades are stored: provisional."""
    out: list[Candle] = []
    for it in lake.instruments():
        id = InstrumentId(it.venue, it.symbol)
        if selection.venue not in (None, it.venue) or (selection.instruments and id not in selection.instruments):
            continue
        final = lake.candles(_of(id, limit=1), interval)
        channel = feeding(lake, id)
        if channel is None:
            continue
        coverage = lake.coverage().get((*id, channel)) or Coverage()
        trades = lake.trades(_of(id, channel=channel, start=final[-1].end if final else None))
        now = max((trade.available_at for trade in trades), default=0)
        built = build(trades, interval, now, until=_NEVER, covered_since=_since(coverage), gaps=_holes(coverage))
        out += (structs.replace(candle, final=False) for candle in built)
    since, until = selection.start, selection.end
    return [it for it in out if (since is None or it.end >= since) and (until is None or it.end < until)]


def _revisions(built: Iterable[Candle], stored: dict[int, Candle], *, proven: bool) -> Iterator[Candle]:
    for it in built:
        before = stored.get(it.end)
        if before is None:
            yield it
            continue
        complete = it.complete if proven else before.complete  # else a late trade proves nothing, either way
        unchanged = structs.replace(
            it, received_time=before.received_time, available_at=before.available_at, revision=before.revision,
            complete=complete,
        )
        if unchanged != before:
            yield structs.replace(it, revision=before.revision + 1, complete=complete)


def _parts(stale: StaleRange) -> Iterator[tuple[int, int]]:
    length = interval_ns(stale.interval)
    step = length * max(1, HOUR // length)
    for start in range(stale.start, stale.end, step):
        yield start, min(start + step, stale.end)


def _since(coverage: Coverage) -> int | None:
    return next((it.from_time for it in coverage), None)


def _holes(coverage: Coverage) -> list[tuple[int, int]]:
    intervals = list(coverage)
    return [(left.to_time, right.from_time) for left, right in pairwise(intervals)]


def _of(
    id: InstrumentId, *, channel: Channel | None = None, start: int | None = None, end: int | None = None,
    limit: int | None = None,
) -> Selection:
    return Selection(
        venue=id.venue, instruments=frozenset({id}), channel=channel, start=start, end=end, limit=limit,
    )
