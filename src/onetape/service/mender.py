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

Ranges = Sequence[tuple[InstrumentId, StaleRange]]


class Mender:
    """Of one store, while its keeper runs; a context manager. ``turn`` is to be called about once a second."""

    def __init__(self, store: Path, pipeline: Pipeline, disk: Disk, stale: StaleCandles) -> None:
        self.mended = 0
        """Candles that got another revision, or were missing."""
        self._store, self._pipeline, self._disk, self._stale = store, pipeline, disk, stale
        self._job: Future[list[Candle]] | None = None
        self._since = 0  # when the oldest of what waits was first seen
        self._due = 0

    def __enter__(self) -> Self:
        self._thread = ThreadPoolExecutor(1, "mender")
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.shutdown()

    def turn(self, now: int) -> None:
        """Stores what was rebuilt, or begins to rebuild. Raises what went wrong."""
        if self._job is not None:
            if self._job.done():
                self.finish(now)
            return
        if not self._stale or self._disk.behind:
            self._since = 0
            return
        self._since = self._since or now
        healing = any(not gap.unhealable for _, gap in self._pipeline.gaps())
        if now < self._due or (healing and now - self._since < PATIENCE_NS):
            return
        ranges = self._stale.begin()
        self._job = self._thread.submit(self._rebuild, ranges, self._disk.barrier(), now)

    def finish(self, now: int) -> None:
        """Waits for what is being rebuilt, and stores it."""
        if self._job is None:
            return
        job, self._job = self._job, None
        self._due = now + EVERY_NS
        try:
            candles = [it for it in job.result() if self._is_ours(it)]
        except (UsageError, duckdb.Error, sqlite3.Error) as error:  # a file that was merged away meanwhile, say
            structlog.get_logger().warning("candles not rebuilt yet", reason=str(error))
            self._stale.undo()
            return
        self.mended += len(candles)
        # It becomes known now, not when the work on it began.
        at = (structs.replace(it, received_time=now, available_at=max(now, it.available_at)) for it in candles)
        self._pipeline.restate(at, now)
        self._stale.done()
        self._since = 0

    def _is_ours(self, it: Candle) -> bool:
        """What the builder still holds it revises itself."""
        builder = self._pipeline.candles(InstrumentId(it.venue, it.symbol))
        return builder is None or it.end <= builder.forgotten_until(it.interval)

    def _rebuild(self, ranges: Ranges, committed: "Future[None]", now: int) -> list[Candle]:
        """In the thread: of all that was committed when it began, at least."""
        committed.result()
        out: list[Candle] = []
        with Lake(self._store) as lake:
            coverage = lake.coverage()
            for id, stale in ranges:
                for candles in rebuilt(lake, coverage, id, stale, now):
                    out += candles
        return out
