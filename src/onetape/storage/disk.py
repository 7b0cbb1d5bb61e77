"""Brings batches to the journal in a thread of its own, in order, whether the disk takes them or not."""
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import structlog

from onetape.clock import SECOND
from onetape.errors import RetryBatch
from onetape.model import Event
from onetape.storage.journal import Batch, Journal
from onetape.storage.shedding import LARGEST, Backlog

RETRY_NS = SECOND  # between two attempts while the disk takes nothing
PAUSE_S = 0.25  # likewise, at the end
PROBE = 1  # the first transaction after a failure is no longer than one batch
MAX_UNCOMMITTED = 64  # batches of a replay; then it waits for the disk
QUEUED = 2  # writes: one is under way, the next takes all that came meanwhile


class Disk:
    """Of one journal; a context manager. ``prepare`` is called before a batch can be written, and may refuse too.

    With a ``bound`` what cannot be written is held, so many rows at most, tried again every second, and said once;
    without one every call may raise RetryBatch, and more than MAX_UNCOMMITTED batches wait for the disk.
    """

    def __init__(
        self, journal: Journal, prepare: Callable[[Backlog], None], *, bound: int | None = None, drain_s: float = 0,
        publish: Callable[[Event], None] = lambda _: None,
    ) -> None:
        """``drain_s``: how long ``flush`` tries on a disk that takes nothing. ``publish``: gaps, of what had to go."""
        self.backlog = Backlog(bound)
        self.behind = ""
        """Why the disk takes nothing; empty: it does."""
        self.held = bound is not None
        self._journal, self._prepare, self._drain_s = journal, prepare, drain_s
        self._publish = publish
        self._writes: deque[Future[None]] = deque()
        self._tried = 0

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "journal")
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.shutdown()

    def add(self, batch: Batch, now: int) -> None:
        """One that may be written from now on; ``now`` in ns."""
        self._collect(now)
        ready = self._ready(now)
        self.backlog.add(batch)
        if ready:
            self._write()

    def push(self, now: int) -> None:
        """Has written what waits; to be called about once a second, for nothing may come for a while."""
        self._collect(now)
        if (self.backlog.rows or self.behind) and self._ready(now):
            self._write()

    def barrier(self) -> "Future[None]":
        """Done when all that was handed over so far is committed, unless the disk takes nothing."""
        return self._thread.submit(lambda: None)

    def settle(self) -> None:
        """Waits for what is under way. Raises RetryBatch where nothing is held."""
        if (error := self._settle()) is not None:
            if not self.held:
                raise error
            self._refused(error)

    def flush(self) -> None:
        """Returns when all is committed. Raises RetryBatch, which says what is lost if rows were held."""
        until = time.monotonic() + self._drain_s
        while (error := self._settle()) is not None or self.backlog.rows:
            if error is not None:
                if not self.held:
                    raise error
                if time.monotonic() >= until:
                    raise RetryBatch(f"{error}; lost: {said(self.backlog.count() + self.backlog.dropped)}") from error
                time.sleep(PAUSE_S)
            self._write()

    # --- the loop's side --------------------------------------------------------------------------------------------

    def _ready(self, now: int) -> bool:
        """Whether what is added next may be written now."""
        if self.behind and now - self._tried < RETRY_NS:
            self.backlog.paused = True
            return False
        self._tried = now
        try:
            self._prepare(self.backlog)
        except RetryBatch as error:
            self.backlog.paused = True
            if not self.held:
                raise
            self._refused(error)
            return False
        self.backlog.paused = False
        return True

    def _write(self) -> None:
        if not self.held or len(self._writes) < QUEUED:
            self._writes.append(self._thread.submit(self._drain))

    def _collect(self, now: int) -> None:
        """What has become of the writes so far."""
        while self._writes and (self._writes[0].done() or (not self.held and len(self._writes) >= MAX_UNCOMMITTED)):
            if not self.held:
                self._writes[0].result()
                self._writes.popleft()
            elif (error := self._result()) is not None:
                self._tried = now
                self._refused(error)
            else:
                self._accepted()

    def _result(self) -> RetryBatch | None:
        try:
            self._writes.popleft().result()
        except RetryBatch as error:
            return error
        return None

    def _settle(self) -> RetryBatch | None:
        """Waits for what is under way; why it failed."""
        error: RetryBatch | None = None
        while self._writes:
            error = self._result()
            if error is None:
                self._accepted()
        if self.backlog.paused:
            try:
                self._prepare(self.backlog)
            except RetryBatch as refused:
                return refused
            self.backlog.paused = False
        return error

    def _refused(self, error: RetryBatch) -> None:
        if not self.behind:
            structlog.get_logger().error("the store takes nothing; what comes is held in memory", reason=str(error))
        self.behind = str(error)

    def _accepted(self) -> None:
        if self.behind:
            self.behind = ""
            structlog.get_logger().warning(
                "the store takes rows again", waiting=self.backlog.rows, dropped=said(self.backlog.dropped))
        for it in self.backlog.take_gaps():
            self._publish(it)

    # --- the disk's thread ------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """All that waits, several batches in one transaction: a replay brings them faster than one by one."""
        largest = PROBE if self.behind else LARGEST
        while (batch := self.backlog.take(largest)) is not None:
            try:
                self._journal.commit(batch)
            except BaseException:
                self.backlog.give_back()
                raise
            self.backlog.committed()
            largest = LARGEST


def said(rows: Counter[str]) -> str:
    """``5 trades, 3 quotes``."""
    listed = (f"{count:,} {table.replace('_', ' ')}" for table, count in sorted(rows.items()) if count)
    return ", ".join(listed) or "nothing"
