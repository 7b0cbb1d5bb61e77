"""Composes pipeline, journal and lake into one that keeps what it is given."""
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from onetape.book.sync import BookSync
from onetape.model import Channel, Event, InstrumentId, NeedTrades
from onetape.pipeline import Pipeline, Policy
from onetape.storage.journal import Batch, Journal
from onetape.storage.lake import Lake
from onetape.storage.repeats import Repeats
from onetape.storage.restore import Stored, rebuilt
from onetape.storage.stale import StaleCandles
from onetape.tape.coverage import Covered
from onetape.tape.history import History

MAX_UNCOMMITTED = 64  # batches; then whoever brings more has to wait for the disk


class Keeper:
    """Over one store, as its writer; a context manager. Times are those of the events: a replay keeps what it kept.

    ``tape_of`` names the channel that feeds an instrument's candles, where that is known from its subscriptions.
    ``repeats``: what comes may have come before, at the same times, as when a recording is played again. ``today``: as
    of the Pipeline. After an exception out of ``handle`` there is only leaving: what was not committed never came.
    """

    def __init__(
        self, store: Path, policy: Policy = Policy(), *,  # noqa: B008 - frozen
        publish: Callable[[Event], None] = lambda _: None,
        pair_of: Callable[[InstrumentId], str] = lambda _: "",
        book_of: Callable[[InstrumentId], BookSync | None] = lambda _: None,
        tape_of: Callable[[InstrumentId], Channel | None] = lambda _: None, repeats: bool = False, today: int = 1 << 63,
    ) -> None:
        self.journal = Journal(store, pair_of=lambda venue, symbol: pair_of(InstrumentId(venue, symbol)))
        self.pipeline = Pipeline(
            policy, store=self._add, commit=self._commit, publish=publish, restore=self._history,
            stored_ids=self._ids, pair_of=pair_of, book_of=book_of, today=today,
        )
        self._store, self._tape_of, self._may_repeat = store, tape_of, repeats
        self._repeats: Repeats | None = None
        self._whole = True
        self._uncommitted: deque[Future[None]] = deque()
        self._taken: deque[Batch] = deque()  # by the disk's thread at its next turn
        self._failed: Batch | None = None

    def __enter__(self) -> Self:
        """Raises UsageError: another writer, a folder that cannot be written, a schema that is newer."""
        with ExitStack() as stack:
            stack.enter_context(self.journal)
            self._disk = stack.enter_context(ThreadPoolExecutor(1, "journal"))
            self._stored = Stored(stack.enter_context(Lake(self._store)))
            self._stale = StaleCandles(self._store)
            self._open = stack.pop_all()
        if self._may_repeat and self._stored.pairs:
            self._repeats = Repeats(self._store, self.journal.writer, self.journal.last_batch + 1)
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def handle(self, event: Event) -> Sequence[NeedTrades]:
        """Raises RetryBatch: the disk takes no more."""
        self._whole = False
        needs = self.pipeline.handle(event)
        self._whole = True
        return needs

    def next_wake(self) -> int | None:
        return self.pipeline.next_wake()

    def wake(self, now: int) -> Sequence[NeedTrades]:
        """As time passes without events. Raises RetryBatch: the disk takes no more."""
        self._whole = False
        needs = self.pipeline.wake(now)
        self._whole = True
        return needs

    def finish(self, now: int) -> Sequence[NeedTrades]:
        """Nothing more will come: commits what waits, and mends stored candles that late trades have touched.

        Not after an exception out of ``handle``: a trade that the ledger has seen may not have come to its batch.
        """
        if not self._whole:
            return ()
        needs = self.pipeline.finish(now)
        self.flush()
        coverage = self._stored.lake.coverage() if self._stale else {}
        for id, stale in self._stale:
            for candles in rebuilt(self._stored.lake, coverage, id, stale, now):
                self.pipeline.restate(candles, now)
        self.flush()
        self._stale.clear()
        return needs

    def flush(self) -> None:
        """Returns when all batches are committed. Raises RetryBatch."""
        while self._uncommitted:
            self._uncommitted.popleft().result()

    def _add(self, it: Event | Covered) -> None:
        if self._repeats is None or not self._repeats.had(it):
            self.journal.add(it)

    def _commit(self, now: int) -> None:
        """In a thread of its own, one batch after the other; one that failed stays the first in line. RetryBatch."""
        self._stale.add(self.pipeline.take_stale_ranges())
        while self._uncommitted and (self._uncommitted[0].done() or len(self._uncommitted) >= MAX_UNCOMMITTED):
            self._uncommitted[0].result()
            self._uncommitted.popleft()
        self._taken.append(self.journal.take(now))
        self._uncommitted.append(self._disk.submit(self._write))

    def _write(self) -> None:
        """All that was taken, in one transaction: a replay brings batches faster than the disk commits them one by one.

        What failed is tried again, with what came after it.
        """
        batch, self._failed = self._failed or Batch([], 0), None
        while self._taken:
            one = self._taken.popleft()
            batch.records += one.records
            batch.committed_at = max(batch.committed_at, one.committed_at)
        try:
            self.journal.commit(batch)
        except BaseException:
            self._failed = batch
            raise

    def _history(self, id: InstrumentId, channel: Channel) -> History:
        return self._stored.history(id, channel, self.pipeline.policy.intervals, self._tape_of(id))

    def _ids(self, id: InstrumentId, channel: Channel, hour: int) -> list[str]:
        self.flush()
        return self._stored.ids(id, channel, hour)
