"""Builds stored candles anew from the stored trades, and writes what differs as revisions."""
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from msgspec import Struct

from onetape.candles.series import Series, StaleRange
from onetape.clock import interval_ns
from onetape.errors import UsageError
from onetape.model import InstrumentId
from onetape.storage.journal import Journal
from onetape.storage.lake import Lake, Selection
from onetape.storage.restore import feeding, final_in, rebuild
from onetape.storage.sealed import writers_lock


class Outcome(Struct):
    """Of the candles of one interval of one instrument."""

    venue: str
    symbol: str
    interval: str
    same: int = 0
    revised: int = 0
    new: int = 0


class Progress(Struct, frozen=True):
    """``done`` of ``total`` ns of exchange time of one outcome."""

    of: Outcome
    done: int
    total: int


def rebuild_store(
    store: Path, selection: Selection, intervals: Collection[str], *,
    tell: Callable[[Progress], None] = lambda _: None, stopped: Callable[[], bool] = lambda: False,
    clock: Callable[[], int] = time.time_ns,
) -> list[Outcome]:
    """Final candles that lie wholly in the selection's time; of no ``intervals``: all that are stored.

    Each part is committed by itself: what was done before ``stopped`` stays. Raises UsageError: somebody collects into
    the store, or there is none; RetryBatch: the disk takes no more.
    """
    with Lake(store) as lake:
        _refuse_beside_a_writer(store)
        pairs = lake.pairs()
        with Journal(store, pair_of=lambda venue, symbol: pairs.get((venue, symbol), "")) as journal:
            outcomes: list[Outcome] = []
            for it, stale in _wanted(lake, selection, intervals):
                outcomes.append(it)
                _rebuild(lake, journal, it, stale, tell, stopped, clock)
                if stopped():
                    break
            return outcomes


def _refuse_beside_a_writer(store: Path) -> None:
    folder = store / "journal" / "main"
    if folder.is_dir():
        with writers_lock(folder) as free:
            if not free:
                raise UsageError(f"somebody collects into {store}: candles are rebuilt when that has stopped")


def _wanted(
    lake: Lake, selection: Selection, intervals: Collection[str],
) -> Iterator[tuple[Outcome, StaleRange]]:
    """What is to be rebuilt, from where to where: whole candles that are final, or would be."""
    stored, spans, coverage = lake.candle_spans(selection), lake.spans(selection), lake.coverage()
    for id in sorted({InstrumentId(venue, symbol) for venue, symbol, _ in spans}):
        channel = feeding(lake, coverage, id)
        span = None if channel is None else spans.get((*id, channel))
        if channel is None or span is None:
            continue
        for interval in intervals or sorted((it for *of, it in stored if tuple(of) == id), key=interval_ns):
            end = final_in(lake, id, channel, interval)
            yield Outcome(*id, interval), _range(interval, selection, span[0], end)


def _range(interval: str, selection: Selection, first: int, end: int) -> StaleRange:
    """Aligned inwards where a time was named; nothing lies in it if the end is not behind the start."""
    series = Series(interval, 0, carry_empty=False)
    start = series.end_of(first) - series.length
    if selection.start is not None and selection.start > start:
        start = series.end_of(selection.start - 1)
    if selection.end is not None and selection.end < end:
        end = series.end_of(selection.end) - series.length
    return StaleRange(interval, start, end)


def _rebuild(
    lake: Lake, journal: Journal, it: Outcome, stale: StaleRange, tell: Callable[[Progress], None],
    stopped: Callable[[], bool], clock: Callable[[], int],
) -> None:
    total = max(stale.end - stale.start, 0)
    tell(Progress(it, 0, total))
    if total:
        for part in rebuild(lake, lake.coverage(), InstrumentId(it.venue, it.symbol), stale, clock()):
            it.same += part.same
            for candle in part.changed:
                it.revised += candle.revision > 0
                it.new += candle.revision == 0
                journal.add(candle)
            journal.commit(journal.take(clock()))
            tell(Progress(it, stale.end - part.start, total))
            if stopped():
                return
    tell(Progress(it, total, total))
