"""Composes pipeline, journal and lake into one that keeps what it is given."""
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import structlog
from msgspec import structs

from onetape.book.sync import BookSync
from onetape.candles.series import StaleRange
from onetape.clock import HOUR
from onetape.model import Channel, Event, GapOpened, InstrumentId, Need, Trade
from onetape.pipeline import Pipeline, Policy
from onetape.service.mender import Mender
from onetape.storage.damage import Damage, damages
from onetape.storage.disk import Disk
from onetape.storage.holes import BrokenOff, untold
from onetape.storage.journal import Journal, Synchronous, writers
from onetape.storage.lake import Lake
from onetape.storage.repeats import Repeats
from onetape.storage.restore import Stored, rebuilt
from onetape.storage.shedding import Backlog
from onetape.storage.stale import StaleCandles
from onetape.tape.coverage import Covered
from onetape.tape.history import History


class Keeper:
    """Over one store, as its writer; a context manager. Times are those of the events: a replay keeps what it kept.

    ``tape_of`` names the channel that feeds an instrument's candles, where that is known from its subscriptions.
    ``repeats``: what comes may have come before, at the same times, as when a recording is played again. ``today``: as
    of the Pipeline. After an exception out of ``handle`` there is only leaving: what was not committed never came.

    ``hold``: rows that are held in memory while the disk takes none, as a live run wants it (then ``push`` is to be
    called now and then, and ``finish`` tries for ``drain_s`` seconds); None: RetryBatch instead. ``mend_s``: seconds
    that ``finish`` takes for rebuilding candles; what is left then is the next writer's.
    """

    def __init__(
        self, store: Path, policy: Policy = Policy(), *,  # noqa: B008 - frozen
        publish: Callable[[Event], None] = lambda _: None,
        pair_of: Callable[[InstrumentId], str] = lambda _: "",
        book_of: Callable[[InstrumentId], BookSync | None] = lambda _: None,
        tape_of: Callable[[InstrumentId], Channel | None] = lambda _: None, repeats: bool = False, today: int = 1 << 63,
        synchronous: Synchronous = "normal", hold: int | None = None, drain_s: float = 0,
        mend_s: float = float("inf"),
    ) -> None:
        self.journal = Journal(
            store, synchronous=synchronous, pair_of=lambda venue, symbol: pair_of(InstrumentId(venue, symbol)))
        self.disk = Disk(self.journal, self._note_stale, bound=hold, drain_s=drain_s, publish=publish)
        self.damages: list[Damage] = []
        """Every file of the store's journal that was ever set aside."""
        self.pipeline = Pipeline(
            policy, store=self._add, commit=self._commit, publish=publish, restore=self._history,
            stored_ids=self._ids, pair_of=pair_of, book_of=book_of, today=today,
        )
        self._mend_s = mend_s
        self._store, self._tape_of, self._may_repeat = store, tape_of, repeats
        self._repeats: Repeats | None = None
        self._whole = True
        self._broken_off: BrokenOff = {}

    def __enter__(self) -> Self:
        """Raises UsageError: another writer, a folder that cannot be written, a schema that is newer."""
        with ExitStack() as stack:
            stack.enter_context(self.journal)
            stack.enter_context(self.disk)
            lake = stack.enter_context(Lake(self._store))
            self._stale = StaleCandles(self._store)
            self._tell_damages(lake)
            self._stored = Stored(lake)
            self._mender = stack.enter_context(Mender(self._store, self.pipeline, self.disk, self._stale))
            self._open = stack.pop_all()
        if self._may_repeat and self._stored.pairs:
            self._repeats = Repeats(self._store, self.journal.writer, self.journal.last_batch + 1)
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def handle(self, event: Event) -> Sequence[Need]:
        """Raises RetryBatch: the disk takes no more."""
        self._whole = False
        needs = self.pipeline.handle(event)
        self._whole = True
        return needs

    def begin(self, id: InstrumentId, channel: Channel, now: int) -> Sequence[Need]:
        """A tape is collected: its gaps of earlier runs are asked for, if there are any that may be had."""
        if not self._stored.unhealed(id, channel):
            return ()
        self._whole = False
        needs = self.pipeline.begin(id, channel, now)
        self._whole = True
        return needs

    def want(self, first: Trade, last: Trade) -> Sequence[Need]:
        """All between two trades of one tape, themselves included. Raises RetryBatch: the disk takes no more."""
        self._whole = False
        needs = self.pipeline.want(first, last)
        self._whole = True
        return needs

    def handed(self, now: int) -> Callable[[], bool]:
        """Ends the batch; what is given says whether all that came so far is on the disk."""
        self.pipeline.restate((), now)
        written, backlog = self.journal.counters, self.disk.backlog
        until = written.total() + backlog.rows + backlog.dropped.total()
        return lambda: not backlog.rows or written.total() + backlog.dropped.total() >= until  # in order

    def next_wake(self) -> int | None:
        return self.pipeline.next_wake()

    def wake(self, now: int) -> Sequence[Need]:
        """As time passes without events. Raises RetryBatch: the disk takes no more."""
        self._whole = False
        needs = self.pipeline.wake(now)
        self._whole = True
        return needs

    def finish(self, now: int) -> Sequence[Need]:
        """Nothing more will come: commits what waits, and mends stored candles that late trades have touched.

        Not after an exception out of ``handle``: a trade that the ledger has seen may not have come to its batch.
        """
        if not self._whole:
            return ()
        self._mender.finish(now)
        needs = self.pipeline.finish(now)
        self.flush()
        mended = self._mend(now)
        self.flush()
        self._stale.forget(mended)
        return needs

    def _mend(self, now: int) -> list[tuple[InstrumentId, StaleRange]]:
        """What was rebuilt. A live run has no time to do all of it at its end: the next one goes on."""
        until = time.monotonic() + self._mend_s
        coverage = self._stored.lake.coverage() if self._stale else {}
        done = []
        for id, stale in self._stale:
            if time.monotonic() > until:
                break
            for candles in rebuilt(self._stored.lake, coverage, id, stale, now):
                self.pipeline.restate(candles, now)
            done.append((id, stale))
        return done

    def flush(self) -> None:
        """Returns when all batches are committed. Raises RetryBatch."""
        self.disk.flush()

    def push(self, now: int) -> None:
        """Has written what the disk refused, and stored candles rebuilt that late trades have touched; to be called
        about once a second in a live run."""
        self.disk.push(now)
        self._mender.turn(now)

    def _add(self, it: Event | Covered) -> None:
        if self._broken_off and isinstance(it, GapOpened):
            after, why = self._broken_off.pop((it.venue, it.symbol, it.channel), ("", ""))
            it = structs.replace(it, cause=f"{why}; {it.cause}") if why and it.after == after else it
        if self._repeats is None or not self._repeats.had(it):
            self.journal.add(it)

    def _commit(self, now: int) -> None:
        """Hands over the batch to the thread of the disk. Raises RetryBatch where nothing is held."""
        self.disk.add(self.journal.take(now), now)

    def _note_stale(self, backlog: Backlog) -> None:
        """Before the trades that touch them are committed. Raises RetryBatch."""
        self._stale.add([*self.pipeline.take_stale_ranges(), *backlog.take_stale_ranges()])

    def _tell_damages(self, lake: Lake) -> None:
        """Puts on record what no id will show; the file may have been set aside by a process that then was killed."""
        for found in self.journal.damages:
            if structlog.is_configured():
                structlog.get_logger().error("a file of the journal is damaged", what=str(found))
            else:
                sys.stderr.write(f"onetape: {found}\n")
        self.damages = [it for folder in writers(self._store) for it in damages(folder)]
        gaps, self._broken_off = untold(lake, self.damages)
        for gap in gaps:
            self.journal.add(gap)
        if gaps:
            self.disk.add(self.journal.take(max(it.available_at for it in gaps)), 0)
            self.disk.settle()

    def _history(self, id: InstrumentId, channel: Channel) -> History:
        return self._stored.history(id, channel, self.pipeline.policy.intervals, self._tape_of(id))

    def _ids(self, id: InstrumentId, channel: Channel, hour: int) -> list[str]:
        if self.disk.held:  # then it may not be waited for
            return [*self.disk.backlog.ids(id, channel, hour, hour + HOUR), *self._stored.ids(id, channel, hour)]
        self.flush()
        return self._stored.ids(id, channel, hour)
