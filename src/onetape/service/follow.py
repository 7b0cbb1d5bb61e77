"""Brings the journal of a store to PostgreSQL, for as long as it runs: in order, exactly once, whoever dies meanwhile.

What cannot be written stays in the journal, which removes no file before it was: hours of outage lose nothing.
"""
import asyncio
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import structlog

from onetape.clock import isoformat
from onetape.errors import OneTapeError, UsageError
from onetape.service import wiring
from onetape.service.followed import Following, write
from onetape.storage.catalog import open_catalog
from onetape.storage.following import Portion, identity, in_lake_alone, next_portion, waiting, writers_of
from onetape.storage.postgres.store import Moved, Origin, Postgres, hidden

READER = "postgres"
LOOK_S = 0.1  # between two looks for new batches: the journal has one as often
TELL_S = 1.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0


class Follow:
    """Of one store into one database; ``run`` returns when ``stop`` is set and nothing waits any more.

    It is given up then if the server is away: what waits is in the journal, and the next one goes on with it.
    """

    def __init__(
        self, store: Path, url: str, *, clock: Callable[[], int] = time.time_ns,
        tell: Callable[[Following], None] | None = None,
    ) -> None:
        """``tell`` hears of every change; without it the state is written to the store, about once a second."""
        self.now = Following(hidden(url), pid=os.getpid())
        self._store, self._url, self._clock = store, url, clock
        self._tell = tell if tell is not None else self._write
        self._identity = ""
        self._origins: dict[str, Origin] = {}
        self._proven = False
        self._told = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Raises UsageError: it cannot be begun with, and a human must change something."""
        self._identity = identity(self._store)
        with open_catalog(self._store) as catalog:
            catalog.register(READER)
            self.now.positions = catalog.readers()[READER]
        while True:
            try:
                async with Postgres(self._url) as database:
                    await self._prove(database)
                    await self._follow(database, stop)
                    return
            except Moved:
                self._origins.clear()
            except (OneTapeError, sqlite3.OperationalError, FileNotFoundError) as error:
                if isinstance(error, UsageError) and not self._proven:
                    raise
                self._away(error)
                if stop.is_set():
                    return
                await _until(stop, min(FIRST_WAIT_S * 2 ** min(self.now.failures - 1, 10), LONGEST_WAIT_S))

    async def _prove(self, database: Postgres) -> None:
        """Once: a row of every table goes all the way, and is taken back."""
        if self._proven:
            return
        with wiring.probe() as portion:
            wiring.compare(portion.counts, await database.probe(portion), f"PostgreSQL at {self.now.url}")
        self._proven = True

    async def _follow(self, database: Postgres, stop: asyncio.Event) -> None:
        while True:
            stopping = stop.is_set()
            brought = [await self._bring(database, writer) for writer in writers_of(self._store)]
            if self.now.state != "following":
                if self.now.failures:
                    structlog.get_logger().warning("PostgreSQL takes rows again", waiting=self.now.waiting)
                self.now.state, self.now.reason, self.now.failures = "following", "", 0
                self._say()
            if time.monotonic() - self._told >= TELL_S:
                self._say()
            if any(brought):
                continue
            if stopping:
                self._say()
                return
            await _until(stop, LOOK_S)

    async def _bring(self, database: Postgres, writer: str) -> bool:
        """The next portion of a writer; False: there is none."""
        origin = self._origins.get(writer)
        if origin is None:
            origin = self._origins[writer] = await database.origin(self._identity, writer)
            self.now.positions[writer] = origin.position
            self._tell_older(writer, origin.position)
        portion = next_portion(self._store, writer, origin.position)
        if portion is None:
            return False
        before = database.refused
        self._origins[writer] = await database.write(portion, origin)
        self.now.refused += database.refused - before
        self._count(portion)
        return True

    def _tell_older(self, writer: str, position: int) -> None:
        """What was compacted before this store had a database is not brought."""
        if older := in_lake_alone(self._store, writer, position):
            last = max(it.committed_at for it in older)
            structlog.get_logger().warning(
                "older rows are in the lake alone: onetape export has them", writer=writer, until=isoformat(last))

    def _count(self, it: Portion) -> None:
        self.now.positions[it.writer] = it.until
        self.now.stored = dict(Counter(self.now.stored) + it.counts)

    def _away(self, error: Exception) -> None:
        """What cannot be mended by waiting is told as well, but it ends nothing: the rows are safe in the journal."""
        reason = " ".join(str(error).split())
        if self.now.state != "away" or self.now.reason != reason:
            structlog.get_logger().error("PostgreSQL takes nothing; all stays in the journal", reason=reason)
        self._origins.clear()
        self.now.state, self.now.reason = "away", reason
        self.now.failures += 1
        self._say()

    def _say(self) -> None:
        """How far it is, to the catalog and to whoever wants to know."""
        self._told = time.monotonic()
        with open_catalog(self._store) as catalog:
            for writer, position in self.now.positions.items():
                catalog.advance(READER, writer, position)
        left = waiting(self._store, self.now.positions)
        self.now.at = self._clock()
        self.now.waiting = left.rows
        self.now.lag_ns = max(self.now.at - left.since, 0) if left.rows else 0
        self._tell(self.now)

    def _write(self, now: Following) -> None:
        try:
            write(now, self._store)
        except OSError as error:  # the disk may be full: what matters is in the database
            structlog.get_logger().warning("the state of PostgreSQL is not written", reason=str(error))


async def _until(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


