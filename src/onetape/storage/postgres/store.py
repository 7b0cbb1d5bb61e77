"""PostgreSQL as it is written: each portion of the journal in one transaction with the position behind it.

Exactly once: a portion counts if the position counts that was committed with it. Rows that another store has brought
already (a second collector of the same tape) are left out by their key.
"""
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import asyncpg
import structlog
from msgspec import Struct

from onetape.clock import SECOND
from onetape.credentials import without_password
from onetape.errors import RetryBatch, UsageError
from onetape.storage.following import Portion, reading
from onetape.storage.postgres.lines import columns, lines, prepare
from onetape.storage.postgres.schema import SCHEMA, TABLES, VERSION, first

CONNECT_S = 10.0
ANSWER_S = 30.0
"""Longer than any statement of ours takes; a server that says nothing for so long is taken for dead."""
LOCK = 0x6F6E6574617065
"""Of migrations: ``onetape`` in ASCII."""
LONGEST_SYMBOL = 1_000
"""An index takes 2,700 bytes."""
UNFIT = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)
"""A row that no table takes: an id, say, that is too long for any index."""
HOPELESS = ("28", "3D", "3F", "42", "0A", "23", "25006")
"""Kinds of errors (https://www.postgresql.org/docs/current/errcodes-appendix.html) that waiting does not mend."""


class Origin(Struct, frozen=True):
    """A writer of one store, as the database knows it."""

    number: int
    position: int
    """The last row of its journal that the database has."""
    committed_at: int
    """When the batch of that row was committed, ns: by it the same number of another batch is told."""


Copy = Callable[[str, Iterable[bytes]], Awaitable[None]]
"""Brings lines into a table."""


class Moved(Exception):
    """The position is no longer where it was read: another process writes the same store here."""


class Postgres:
    """One connection; a context manager. Every method raises RetryBatch (the server is away, or cannot just now) and
    UsageError (a human must change something).

    ``url`` as libpq takes it; what it leaves out comes from PGHOST, PGPASSWORD and so on, or ~/.pgpass.
    """

    def __init__(self, url: str) -> None:
        self.refused = 0
        """Rows that no table took, and that are set aside."""
        self._url = url
        self._connection: asyncpg.Connection[Any]
        self._partitions: set[tuple[str, int]] = set()
        self._known: set[tuple[str, ...]] = set()  # instruments that were sent
        self._hypertables = False

    async def __aenter__(self) -> Self:
        """Connects, and brings the schema to this version."""
        async with _plainly(self._url):
            _ = urlsplit(self._url).port  # asyncpg takes 99999 for some other port
            self._connection = await asyncpg.connect(
                self._url, timeout=CONNECT_S, command_timeout=ANSWER_S,
                server_settings={"application_name": "onetape", "search_path": SCHEMA, "timezone": "UTC"},
            )
        try:
            async with _plainly(self._url):
                await self._migrate()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        """A server that does not answer is not waited for."""
        try:
            await self._connection.close(timeout=1)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._connection.terminate()

    # --- schema -----------------------------------------------------------------------------------------------------

    async def _migrate(self) -> None:
        """In one transaction, so that two who begin at once come one after the other."""
        connection = self._connection
        if await connection.fetchval("SHOW server_encoding") != "UTF8":
            raise UsageError(f"{without_password(self._url)} is no database in UTF8: create one with ENCODING 'UTF8'")
        self._hypertables = bool(await connection.fetchval(
            "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"))
        if await self._version() == VERSION:
            return
        # of the session, not of the transaction: within one a name that another has just made is not seen yet
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        async with connection.transaction():
            version = await self._version()
            if version > VERSION:
                raise UsageError(
                    f"{without_password(self._url)} was written by a newer OneTape: schema {version}, this one writes"
                    f" {VERSION}")
            if version < 1:
                await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                await connection.execute(
                    "CREATE TABLE migrations (version INT PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL DEFAULT now())")
                await connection.execute(first(hypertables=self._hypertables))
                await connection.execute("INSERT INTO migrations VALUES ($1)", 1)
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)

    async def _version(self) -> int:
        """0: nothing of ours is there."""
        if await self._connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.migrations") is None:
            return 0
        return int(await self._connection.fetchval("SELECT coalesce(max(version), 0) FROM migrations"))

    # --- writing ----------------------------------------------------------------------------------------------------

    async def origin(self, store: str, writer: str) -> Origin:
        """Where a writer of a store stands; known from now on."""
        async with _plainly(self._url):
            await self._connection.execute(
                "INSERT INTO origins (store, writer, position, committed_at) VALUES ($1, $2, 0, 0)"
                " ON CONFLICT DO NOTHING", store, writer)
            row = await self._connection.fetchrow(
                "SELECT origin, position, committed_at FROM origins WHERE store = $1 AND writer = $2", store, writer)
        assert row is not None
        return Origin(row["origin"], row["position"], row["committed_at"])

    async def write(self, it: Portion, origin: Origin) -> Origin:
        """All of a portion, or nothing. Raises Moved; FileNotFoundError: it is not in the journal any more."""
        for copy in (self._append, self._add_new):
            try:
                return await self._write(it, origin, copy)
            except asyncpg.UniqueViolationError:  # rare, and found out at no cost: the index has to look anyway
                continue
            except UNFIT:
                break
        return await self._write(it, origin, self._set_unfit_aside)

    async def _write(self, it: Portion, origin: Origin, copy: Copy) -> Origin:
        with reading(it) as file:
            prepare(file)
            async with _plainly(self._url):
                await self._make_partitions(it, file)
                async with self._connection.transaction():
                    await self._copy(it, file, origin, copy)
            self._known.update(_instruments(file))
        return Origin(origin.number, it.until, it.committed_at)

    async def probe(self, it: Portion) -> Mapping[str, int]:
        """Rows by table of a portion that would be written; then it is taken back, as if it had never been."""
        found: dict[str, int] = {}
        with reading(it) as file:
            prepare(file)
            async with _plainly(self._url):
                transaction = self._connection.transaction()
                await transaction.start()
                try:
                    await self._make_partitions(it, file)
                    row = await self._connection.fetchrow(
                        "INSERT INTO origins (store, writer, position, committed_at) VALUES ('probe', $1, $2, 0)"
                        " RETURNING origin", it.writer, it.after)
                    assert row is not None
                    origin = Origin(row["origin"], it.after, 0)
                    await self._copy(it, file, origin, self._append)
                    for table in TABLES:
                        found[table] = await self._connection.fetchval(
                            f"SELECT count(*) FROM {table} WHERE origin = $1", origin.number)  # noqa: S608 - ours
                finally:
                    self._partitions.clear()  # those of the probe are gone with it
                    await transaction.rollback()
        return found

    async def _copy(self, it: Portion, file: sqlite3.Connection, origin: Origin, copy: Copy) -> None:
        held = await self._connection.fetchval(
            "SELECT position FROM origins WHERE origin = $1 FOR UPDATE", origin.number)
        if held != it.after:
            raise Moved
        await self._connection.executemany(
            "INSERT INTO instruments VALUES ($1, $2, $3) ON CONFLICT (venue, symbol) DO UPDATE SET pair = excluded.pair"
            " WHERE instruments.pair <> excluded.pair",
            sorted(_instruments(file) - self._known))  # in one order: two that wait for each other's rows are none
        for table in it.counts.keys() & TABLES.keys():
            rows = Counted(lines(file, it, table, origin.number))
            await copy(table, rows)
            if rows.count != it.counts[table]:
                raise RetryBatch(
                    f"{it.path} is damaged: its batches tell of {it.counts[table]} rows of {table}, it has"
                    f" {rows.count}: see onetape storage verify; the next start of the writer sets the file aside")
        await self._connection.execute(
            "UPDATE origins SET position = $2, committed_at = $3 WHERE origin = $1", origin.number, it.until,
            it.committed_at)

    async def _append(self, table: str, rows: Iterable[bytes]) -> None:
        """Raises UniqueViolationError: some of them are there already."""
        await self._connection.copy_to_table(table, source=_each(rows), columns=columns(table), format="text")

    async def _add_new(self, table: str, rows: Iterable[bytes]) -> None:
        """Without those that another store has brought."""
        await self._connection.execute(f"CREATE TEMP TABLE incoming (LIKE {table}) ON COMMIT DROP")
        await self._merge(table, rows)
        await self._connection.execute("DROP TABLE incoming")

    async def _set_unfit_aside(self, table: str, rows: Iterable[bytes]) -> None:
        """What no table takes is kept with the reason, and holds nothing up."""
        await self._connection.execute(f"CREATE TEMP TABLE incoming (LIKE {table}) ON COMMIT DROP")
        for chunk in rows:
            await self._halve(table, chunk.splitlines(keepends=True))
        await self._connection.execute("DROP TABLE incoming")

    async def _halve(self, table: str, rows: list[bytes]) -> None:
        try:
            async with self._connection.transaction():
                await self._merge(table, rows)
        except UNFIT as error:
            if len(rows) > 1:
                await self._halve(table, rows[:len(rows) // 2])
                await self._halve(table, rows[len(rows) // 2:])
                return
            self.refused += 1
            structlog.get_logger().error("PostgreSQL refused a row", table=table, reason=_line(error))
            await self._connection.execute(
                "INSERT INTO refused (tbl, line, reason) VALUES ($1, $2, $3)", table, rows[0], _line(error))

    async def _merge(self, table: str, rows: Iterable[bytes]) -> None:
        """By way of the table ``incoming``, which is empty before and after."""
        await self._connection.copy_to_table("incoming", source=_each(rows), columns=columns(table), format="text")
        await self._connection.execute(f"INSERT INTO {table} SELECT * FROM incoming ON CONFLICT DO NOTHING")  # noqa: S608
        await self._connection.execute("TRUNCATE incoming")

    async def _make_partitions(self, it: Portion, file: sqlite3.Connection) -> None:
        """For the months that a portion has rows of, and that have none yet."""
        if self._hypertables:
            return
        for table, of in TABLES.items():
            if not of.month or not it.counts[table]:
                continue
            # rounded down: the division of SQLite goes towards zero
            second = f'("{of.month}" - ("{of.month}" % {SECOND} + {SECOND}) % {SECOND}) / {SECOND}'
            sql = f"SELECT DISTINCT strftime('%Y%m', {second}, 'unixepoch') FROM {table}"  # noqa: S608
            for (month,) in file.execute(f"{sql} WHERE pos > ? AND pos <= ?", (it.after, it.until)):
                if (table, int(month)) not in self._partitions:
                    await self._make_partition(table, int(month))
                    self._partitions.add((table, int(month)))

    async def _make_partition(self, table: str, month: int) -> None:
        name = f"{table}_{month // 100:04}_{month % 100:02}"
        if await self._connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.{name}") is not None:
            return
        low, high = _begin(month), _begin(month + 1 if month % 100 < 12 else month + 89)
        async with self._connection.transaction():
            await self._connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)  # two may need the same one
            await self._connection.execute(
                f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table} FOR VALUES FROM ({low}) TO ({high})")

    # --- reading ----------------------------------------------------------------------------------------------------

    async def counts(self, store: str) -> Mapping[str, int]:
        """Rows by table that came from a store."""
        out: dict[str, int] = {}
        async with _plainly(self._url):
            for table in TABLES:
                out[table] = await self._connection.fetchval(
                    f"SELECT count(*) FROM {table} JOIN origins USING (origin) WHERE store = $1", store)  # noqa: S608
        return out


class Counted:
    """Chunks of lines, and how many lines went by."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.count = 0
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        for it in self._chunks:
            self.count += it.count(b"\n")
            yield it


async def _each(rows: Iterable[bytes]) -> AsyncIterator[bytes]:
    for it in rows:
        yield it


def _begin(month: int) -> str:
    """202607 to the ns at which it begins, as PostgreSQL has it; beyond 64 bits to all that there is."""
    begin = int(datetime(month // 100, month % 100, 1, tzinfo=UTC).timestamp()) * SECOND
    return "MAXVALUE" if begin >= 1 << 63 else "MINVALUE" if begin < -(1 << 63) else str(begin)


def _instruments(file: sqlite3.Connection) -> set[tuple[str, ...]]:
    """Venue, symbol and pair of those whose pair is known; as they are in the lines."""
    sql = "SELECT venue, symbol, pair FROM instruments WHERE pair <> '' AND length(symbol) < ?"
    rows = file.execute(sql, (LONGEST_SYMBOL,))
    return {tuple(text.replace("\0", "\ufffd") for text in row) for row in rows}


@asynccontextmanager
async def _plainly(url: str) -> AsyncIterator[None]:
    """What went wrong, as the reaction to it."""
    try:
        yield
    except (asyncpg.UniqueViolationError, *UNFIT):
        raise
    except asyncpg.PostgresError as error:
        said = f"{without_password(url)}: {_line(error)}"
        if (error.sqlstate or "").startswith(HOPELESS):
            raise UsageError(f"{said}{_help(error)}") from error
        raise RetryBatch(said) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, EOFError) as error:
        raise RetryBatch(f"{without_password(url)} cannot be reached: {_line(error)}") from error
    except ValueError as error:  # which may quote a part of the password
        todo = "what is special in user or password is written %2F for /, %23 for #, %40 for @"
        raise UsageError(f"{without_password(url)} is no address of PostgreSQL: {todo}") from error


def _help(error: asyncpg.PostgresError) -> str:
    match error:
        case asyncpg.InsufficientPrivilegeError():
            return f": GRANT CREATE ON DATABASE to this user, or have an owner CREATE SCHEMA {SCHEMA} AUTHORIZATION it"
        case asyncpg.InvalidCatalogNameError():
            return ": create it (CREATE DATABASE), or name another"
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return ": see user and password of the address, PGPASSWORD, ~/.pgpass"
        case _:
            return ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
