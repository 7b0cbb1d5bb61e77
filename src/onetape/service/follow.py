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

from onetape.credentials import without_password
from onetape.errors import OneTapeError, UsageError
from onetape.service import wiring
from onetape.service.followed import READER, READERS, SENT, Following, write
from onetape.storage.catalog import open_catalog
from onetape.storage.following import (
    IDENTITY,
    Portion,
    identity,
    in_lake_alone,
    is_of,
    next_portion,
    waiting,
    writers_of,
)
from onetape.storage.journal import POSITIONS
from onetape.storage.postgres.store import Moved, Origin, Postgres

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
        self.now = Following(without_password(url), pid=os.getpid())
        self._store, self._url, self._clock = store, url, clock
        self._tell = tell if tell is not None else self._write
        self._identity = ""
        self._origins: dict[str, Origin] = {}
        self._proven = False

    async def run(self, stop: asyncio.Event) -> None:
        """Raises UsageError: it cannot be begun with, and a human must change something."""
        self._identity = identity(self._store)
        telling = asyncio.create_task(self._tell_regularly())
        try:
            await self._run(stop)
        finally:
            telling.cancel()
        self._say()

    async def _run(self, stop: asyncio.Event) -> None:
        while True:
            try:
                self._register()
                async with Postgres(self._url) as database:
                    await self._prove(database)
                    await self._follow(database, stop)
                    return
            except Moved:  # another one follows this store: the two take turns
                self._origins.clear()
                await _until(stop, FIRST_WAIT_S)
            except (OneTapeError, sqlite3.Error, OSError) as error:
                if isinstance(error, UsageError) and not self._proven:
                    raise
                self._away(error)
                if stop.is_set():
                    return
                await _until(stop, min(FIRST_WAIT_S * 2 ** min(self.now.failures - 1, 10), LONGEST_WAIT_S))

    def _register(self) -> None:
        """From here on the journal keeps what we do not have."""
        with open_catalog(self._store) as catalog:
            known = catalog.readers()
            for reader in READERS:
                if reader not in known:
                    catalog.register(reader)
            self.now.positions = known.get(READER, {}) | self.now.positions

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
            if any(brought):
                continue
            if stopping:
                return
            await _until(stop, LOOK_S)

    async def _bring(self, database: Postgres, writer: str) -> bool:
        """The next portion of a writer; False: there is none."""
        origin = self._origins.get(writer)
        if origin is None:
            origin = await self._begin(database, writer)
        portion = next_portion(self._store, writer, origin.position)
        if portion is None:
            return False
        self._tell_jump(portion)
        with open_catalog(self._store) as catalog:  # who loses its last batches must not use their numbers again
            catalog.advance(SENT, writer, portion.until)
        self._origins[writer] = await database.write(portion, origin)
        self.now.refused = database.refused
        self.now.positions[writer] = portion.until
        self.now.stored = dict(Counter(self.now.stored) + portion.counts)
        return True

    async def _begin(self, database: Postgres, writer: str) -> Origin:
        """Where the database stands, which may be behind what we knew: it was put back, or made anew."""
        origin = self._origins[writer] = await database.origin(self._identity, writer)
        if origin.position and not is_of(self._store, writer, origin.position, origin.committed_at):
            raise UsageError(
                f"{self._store} was put back from an older copy: PostgreSQL has batches of it that it lacks: remove"
                f" {self._store / IDENTITY} to go on as another store (what both have is doubled, but for trades)")
        if self.now.positions.get(writer, 0) > origin.position:
            with open_catalog(self._store) as catalog:
                catalog.restart(READER, {**self.now.positions, writer: origin.position})
        self.now.positions[writer] = origin.position
        return origin

    def _tell_jump(self, it: Portion) -> None:
        """Of batches that the journal does not have any more: of a database that is younger than they are."""
        if it.first <= (it.after + 1 >> POSITIONS):
            return
        older = in_lake_alone(self._store, it.writer, it.after)
        structlog.get_logger().warning(
            "older rows are in the lake alone: onetape export has them" if older else "batches are missing",
            writer=it.writer, first=it.after + 1 >> POSITIONS, last=it.first - 1)

    def _away(self, error: Exception) -> None:
        """What cannot be mended by waiting is told as well, but it ends nothing: the rows are safe in the journal."""
        reason = " ".join(str(error).split())
        if isinstance(error, sqlite3.Error):
            reason = f"{self._store} cannot be read or written: {reason}"
        if self.now.state != "away" or self.now.reason != reason:
            structlog.get_logger().error("nothing is brought to PostgreSQL; all stays in the journal", reason=reason)
        self._origins.clear()
        self.now.state, self.now.reason = "away", reason
        self.now.failures += 1
        self._say()

    async def _tell_regularly(self) -> None:
        """Whatever the server does. To count what waits may take a while after hours: then it is done less often."""
        while True:  # noqa: ASYNC110 - it is time that is waited for
            await asyncio.sleep(max(TELL_S, 20 * self._say()))

    def _say(self) -> float:
        """How far it is, to the catalog and to whoever wants to know; gives how long that took, in seconds."""
        began = time.monotonic()
        try:
            with open_catalog(self._store) as catalog:
                for writer, position in self.now.positions.items():
                    catalog.advance(READER, writer, position)
            left = waiting(self._store, self.now.positions)
        except (OneTapeError, sqlite3.Error, OSError) as error:  # a full disk, say: nothing is removed meanwhile
            structlog.get_logger().warning("how far PostgreSQL is cannot be noted", reason=str(error))
        else:
            self.now.waiting = left.rows
            self.now.lag_ns = max(self._clock() - left.since, 0) if left.rows else 0
        self.now.at = self._clock()
        self._tell(self.now)
        return time.monotonic() - began

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
