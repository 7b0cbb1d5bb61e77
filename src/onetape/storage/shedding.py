"""What waits for the disk: in order, bounded, and what goes first when there is too much of it."""
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from threading import Lock

from msgspec import Struct

from onetape.candles.series import StaleRange
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    FeedError,
    FeedStatus,
    GapClosed,
    GapOpened,
    InstrumentId,
    Quote,
    Trade,
)
from onetape.storage.journal import Batch
from onetape.storage.schema import WRITERS, Record
from onetape.tape.coverage import Coverage, Covered

LARGEST = 100_000
"""Records of one transaction, where so many wait: a longer one would hold the rows that readers wait for."""
CAUSE = "the disk was full, and memory too"
ORDER: tuple[tuple[type, ...], ...] = (
    (BookDelta, BookSnapshot), (Quote,), (FeedStatus, FeedError, Candle), (Trade, Covered),
)
"""What goes first: books, of which the next snapshot says all again; trades last. Gaps stay, whatever happens."""
Tape = tuple[str, str, Channel]


class _Run(Struct):
    """Dropped trades of a tape whose ids prove nothing; the first and the last are kept: they bound what is missing."""

    first: Trade
    first_serial: int
    last: Trade
    last_serial: int
    count: int = 1


class Backlog:
    """Filled by the loop, emptied by the disk's thread: ``take``, then ``committed`` or ``give_back``.

    Batches stay whole: what stands in one transaction with its trades stays with them. Of trades that had to go, the
    coverage goes too, and gaps stand for them in the next transaction, before all that came later.
    """

    def __init__(self, bound: int | None) -> None:
        """``bound``: rows that are held, those being written included; None: as many as come."""
        self.rows = 0
        self.dropped: Counter[str] = Counter()
        """Rows that had to go, by table."""
        self.paused = False
        """Nothing is given to the disk's thread: what is to be done before has failed."""
        self._bound = bound
        self._lock = Lock()
        self._batches: deque[Batch] = deque()
        self._serial = 0  # of the oldest of them
        self._clean = [0] * len(ORDER)  # by kind: the batches before this serial have none of it
        self._taken: list[Batch] = []
        self._taken_clean: list[int] = []
        self._covered: dict[Tape, Coverage] = {}  # ids of dropped trades
        self._gone: dict[Tape, Coverage] = {}  # the same, of all that ever had to go
        self._runs: dict[Tape, _Run] = {}
        self._told_covered: dict[Tape, Coverage] = {}  # of these two, what the transaction that is under way tells
        self._told_runs: dict[Tape, _Run] = {}
        self._gaps: list[GapOpened] = []  # in the transaction that is under way
        self._news: list[GapOpened] = []
        self._candles: dict[tuple[InstrumentId, str], tuple[int, int]] = {}
        self._at = 0  # when the newest batch was closed, ns

    # --- in the loop ------------------------------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        with self._lock:
            self._batches.append(batch)
            self._at = max(self._at, batch.committed_at)
            self.rows += len(batch.records)
            if self._bound is not None and self.rows > self._bound:
                self._shed(self.rows - self._bound)

    def take_gaps(self) -> list[GapOpened]:
        """Those that were committed since the last call."""
        with self._lock:
            out, self._news = self._news, []
        return out

    def take_stale_ranges(self) -> list[tuple[InstrumentId, StaleRange]]:
        """Final candles that were dropped: their trades may be stored, and they can be built anew from these."""
        with self._lock:
            out = [(id, StaleRange(interval, *span)) for (id, interval), span in self._candles.items()]
            self._candles.clear()
        return out

    def ids(self, id: InstrumentId, channel: Channel, start: int, end: int) -> list[str]:
        """Of the trades of a tape, from ``start`` to before ``end`` in exchange time, that are not known committed."""
        with self._lock:
            held = [*self._taken, *self._batches]
            ends = [it for run in (*self._runs.values(), *self._told_runs.values()) for it in (run.first, run.last)]
        return [
            it.id for it in (*_trades(held), *ends)
            if it.symbol == id.symbol and it.venue == id.venue and it.channel is channel
            and start <= it.exchange_time < end
        ]

    def count(self) -> Counter[str]:
        """Rows that wait, by table."""
        with self._lock:
            kinds = Counter(type(it) for batch in (*self._taken, *self._batches) for it in batch.records)
        out = Counter[str]()
        for kind, rows in kinds.items():
            if kind in WRITERS:
                out[WRITERS[kind][0]] += rows
        return out

    # --- in the disk's thread ---------------------------------------------------------------------------------------

    def take(self, largest: int = LARGEST) -> Batch | None:
        """The oldest batches as one, at least one of them; None: nothing waits."""
        with self._lock:
            assert not self._taken
            if self.paused:
                return None
            size, self._taken_clean = 0, list(self._clean)
            while self._batches and (not self._taken or size + len(self._batches[0].records) <= largest):
                size += len(self._batches[0].records)
                self._taken.append(self._batches.popleft())
            self._serial += len(self._taken)
            told = list(self._tell())
            if not self._taken and not told:
                return None
            at = max((it.committed_at for it in self._taken), default=self._at)
            return Batch(
                [*told, *(it for batch in self._taken for it in batch.records if not self._is_undone(it))], at)

    def _is_undone(self, it: Record) -> bool:
        """A gap that was healed by trades that had to go."""
        if not isinstance(it, GapClosed) or not it.healed or not it.after.isdecimal():
            return False
        gone = self._gone.get((it.venue, it.symbol, it.channel))
        return gone is not None and gone.touches(int(it.after) + 1, int(it.before) - 1)

    def committed(self) -> None:
        """What was taken is on the disk."""
        with self._lock:
            self.rows -= sum(len(it.records) for it in self._taken)
            for run in self._told_runs.values():
                self.dropped["trades"] -= min(run.count, 2)  # its ends are stored after all
            self._taken = []
            self._news += self._gaps
            self._gaps, self._told_covered, self._told_runs = [], {}, {}

    def give_back(self) -> None:
        """What was taken is not on the disk, and is the first in line again."""
        with self._lock:
            self._serial -= len(self._taken)
            self._batches.extendleft(reversed(self._taken))
            self._clean = [
                min(now, max(then, self._serial)) for now, then in zip(self._clean, self._taken_clean, strict=True)]
            self._taken, self._gaps = [], []
            for tape, coverage in self._told_covered.items():
                for it in coverage:
                    self._covered.setdefault(tape, Coverage()).add(it.first, it.last, it.from_time, it.to_time)
            for tape, run in self._told_runs.items():
                if (later := self._runs.get(tape)) is not None:
                    run = _joined(run, later)  # noqa: PLW2901
                self._runs[tape] = run
            self._told_covered, self._told_runs = {}, {}

    # --- what goes --------------------------------------------------------------------------------------------------

    def _shed(self, excess: int) -> None:
        for kind, types in enumerate(ORDER):
            serial = max(self._clean[kind], self._serial)
            while excess > 0 and serial < self._serial + len(self._batches):
                excess -= self._drop(self._batches[serial - self._serial], kind, types, serial)
                serial += 1
            self._clean[kind] = serial
            if excess <= 0:
                return

    def _drop(self, batch: Batch, kind: int, types: tuple[type, ...], serial: int) -> int:
        """All of one kind out of a batch; with the first kind also what has no table."""
        gone = [it for it in batch.records if isinstance(it, types) or (kind == 0 and type(it) not in WRITERS)]
        if not gone:
            return 0
        batch.records = [
            it for it in batch.records if not (isinstance(it, types) or (kind == 0 and type(it) not in WRITERS))]
        self.rows -= len(gone)
        for it in gone:
            if type(it) in WRITERS:
                self.dropped[WRITERS[type(it)][0]] += 1
            match it:
                case Covered():
                    for of in (self._covered, self._gone):
                        known = of.setdefault((it.venue, it.symbol, it.channel), Coverage())
                        known.add(it.first, it.last, it.from_time, it.to_time)
                case Trade(after=None):
                    self._drop_unproven(it, serial)
                case Candle(source="trades", final=True):
                    key = InstrumentId(it.venue, it.symbol), it.interval
                    start, end = self._candles.get(key, (it.start, it.end))
                    self._candles[key] = min(start, it.start), max(end, it.end)
        return len(gone)

    def _drop_unproven(self, it: Trade, serial: int) -> None:
        tape = it.venue, it.symbol, it.channel
        run = self._runs.get(tape)
        new = _Run(it, serial, it, serial)
        if run is None:
            self._runs[tape] = new
        else:
            self._runs[tape] = _joined(run, new) if serial >= run.last_serial else _inserted(run, new)

    # --- what is told of it -----------------------------------------------------------------------------------------

    def _tell(self) -> Iterator[Record]:
        """The trades that bound what is gone, and the gaps; from here on told by the transaction under way."""
        self._told_covered, self._covered = self._covered, {}
        self._told_runs, self._runs = self._runs, {}
        for tape, coverage in self._told_covered.items():
            for it in coverage:
                self._gaps.append(_gap(tape, str(it.first - 1), str(it.last + 1), it.from_time, it.to_time, self._at))
        for tape, run in self._told_runs.items():
            yield run.first
            if run.count > 1:
                yield run.last
            if run.count > 2:
                first, last = run.first, run.last
                self._gaps.append(
                    _gap(tape, first.id, last.id, first.exchange_time, last.exchange_time, self._at))
        yield from self._gaps


def _joined(run: _Run, later: _Run) -> _Run:
    return _Run(run.first, run.first_serial, later.last, later.last_serial, run.count + later.count)


def _inserted(run: _Run, it: _Run) -> _Run:
    """A trade of a batch that came before those of the run's end: one that failed, and was given back."""
    if it.first_serial < run.first_serial:
        return _joined(it, run)
    return _Run(run.first, run.first_serial, run.last, run.last_serial, run.count + 1)


def _gap(tape: Tape, after: str, before: str, from_time: int, to_time: int, now: int) -> GapOpened:
    venue, symbol, channel = tape
    return GapOpened(
        venue=venue, symbol=symbol, exchange_time=to_time, received_time=now, available_at=now, channel=channel,
        after=after, before=before, from_time=from_time, to_time=to_time, cause=CAUSE,
    )


def _trades(batches: Iterable[Batch]) -> Iterator[Trade]:
    return (it for batch in batches for it in batch.records if isinstance(it, Trade))
