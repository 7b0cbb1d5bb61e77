"""Rebuilds, beside a run, stored candles that backfilled trades have touched and that nobody holds any more."""
import sqlite3
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

import duckdb
import structlog
from msgspec import structs

from onetape.candles.series import StaleRange
from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.model import Candle, InstrumentId
from onetape.pipeline import Pipeline
from onetape.storage.disk import Disk
from onetape.storage.lake import Lake
from onetape.storage.restore import rebuilt
from onetape.storage.stale import StaleCandles

EVERY_NS = 10 * SECOND
PATIENCE_NS = 60 * SECOND  # for gaps that are being filled: their trades would touch the same candles again
A_TURN = 1_000  # candles that are handed over at a time: the loop has other work
MAX_HELD = 100_000  # candles rebuilt at a time; what is left of the ranges then stays for the next time

Ranges = Sequence[tuple[InstrumentId, StaleRange]]


class Mender:
    """Of one store, while its keeper runs; a context manager. ``turn`` is to be called about once a second.

        idle ──stale ranges──> rebuilding ──done──> handing over, a part a turn ──all──> committing ──done──> idle
    """

    def __init__(self, store: Path, pipeline: Pipeline, disk: Disk, stale: StaleCandles) -> None:
        self.mended = 0
        """Candles that got another revision, or were missing."""
        self._store, self._pipeline, self._disk, self._stale = store, pipeline, disk, stale
        self._job: Future[tuple[list[Candle], Ranges]] | None = None
        self._candles: list[Candle] = []  # rebuilt, and not yet handed over
        self._committed: Future[None] | None = None  # done: what was handed over is, unless the disk takes nothing
        self._stopping = False
        self._since = 0  # when the oldest of what waits was first seen
        self._due = 0

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "mender")
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.shutdown()

    def turn(self, now: int) -> None:
        """The next step, if it is time for it."""
        if self._job is not None:
            if self._job.done():
                self._take(now)
        elif self._candles:
            self._hand_over(now, A_TURN)
        elif self._committed is not None:
            if self._committed.done() and not self._disk.behind:
                self._committed = None
                self._stale.done()
        elif self._stale and not self._disk.behind:
            self._begin(now)

    def finish(self, now: int) -> None:
        """Hands over what is rebuilt; whoever has all committed then forgets what was stale."""
        self._stopping = True  # after the range under way: the others stay
        if self._job is not None:
            self._take(now)
        while self._candles:
            self._hand_over(now, A_TURN)
        self._committed, self._stopping = None, False

    def _begin(self, now: int) -> None:
        self._since = self._since or now
        healing = any(not gap.unhealable for _, gap in self._pipeline.gaps())
        if now < self._due or (healing and now - self._since < PATIENCE_NS):
            return
        self._pipeline.close_batch(now)  # what is stale by its trades is so once they are committed
        ranges = self._stale.begin()
        self._job = self._thread.submit(self._rebuild, ranges, self._disk.barrier(), now)

    def _take(self, now: int) -> None:
        assert self._job is not None
        job, self._job, self._since, self._due = self._job, None, 0, now + EVERY_NS
        try:
            candles, left = job.result()
        except (UsageError, duckdb.Error, sqlite3.Error) as error:  # a file that was merged away meanwhile, say
            structlog.get_logger().warning("candles not rebuilt yet", reason=str(error))
            self._stale.undo()
            return
        if self._disk.behind:  # not all that it should have seen was committed
            self._stale.undo()
            return
        self._stale.keep(left)
        self._candles = [it for it in candles if self._is_ours(it)]
        self._hand_over(now, A_TURN)

    def _hand_over(self, now: int, most: int) -> None:
        part, self._candles = self._candles[:most], self._candles[most:]
        self.mended += len(part)
        # It becomes known now, not when the work on it began.
        self._pipeline.restate(
            (structs.replace(it, received_time=now, available_at=max(now, it.available_at)) for it in part), now)
        if not self._candles:
            self._committed = self._disk.barrier()

    def _is_ours(self, it: Candle) -> bool:
        """What the builder still holds it revises itself; but what is not stored at all had to go once."""
        builder = self._pipeline.candles(InstrumentId(it.venue, it.symbol))
        return builder is None or it.revision == 0 or it.end <= builder.forgotten_until(it.interval)

    def _rebuild(self, ranges: Ranges, committed: "Future[None]", now: int) -> tuple[list[Candle], Ranges]:
        """In the thread, of all that was committed when it began, at least: candles and ranges left."""
        committed.result()
        out: list[Candle] = []
        with Lake(self._store) as lake:
            coverage = lake.coverage()
            for place, (id, stale) in enumerate(ranges):
                if len(out) >= MAX_HELD or self._stopping:
                    return out, ranges[place:]
                for candles in rebuilt(lake, coverage, id, stale, now):
                    out += candles
        return out, ()
