"""The journal: everything is committed here first, in order, by one writer; all other stores read it.

A commit that fails for something that may pass (disk full, I/O error, read-only, locked) raises RetryBatch: nothing of
the transaction is in the file, the batch is as it was, and the same ``commit`` writes it later. Any other exception (a
value that no column takes) also leaves nothing written, but would come again: such a batch is to be set aside.
"""
import fcntl
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal, Self

import msgspec
from msgspec import Struct

from onetape.clock import HOUR
from onetape.errors import RetryBatch, UsageError
from onetape.storage.catalog import read_catalog
from onetape.storage.damage import Damage, check, damages, free_after
from onetape.storage.schema import TABLES, VERSION, WRITERS, Record

Synchronous = Literal["normal", "full", "off"]
POSITIONS = 20  # bits of a position that count within its batch
MAX_BATCH = 1 << POSITIONS
CHUNK = 256
"""Rows of one INSERT: less work than one by one, and the GIL, held while they are built, is let go after them."""
COLUMNS = {table: columns.count(",") + 1 for table, columns in TABLES.items()}
MAY_PASS = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_PERM,
}
"""Results of SQLite after which the same batch may be committed later."""
STEP = 4_096
"""Records that are freed at once."""


class Batch(Struct):
    """What goes into one transaction; what is committed leaves it."""

    records: list[Record]
    committed_at: int


class Journal:
    """Of one writer. ``add`` costs nothing; ``take`` and ``commit`` may run in different threads, one commit at a time.

    A folder of SQLite files (WAL, STRICT), ``journal/<writer>/<first batch>.db``, a new one each hour of commit time.
    Batch numbers never restart, positions are ``batch << 20 | n``.
    """

    def __init__(
        self, store: Path, writer: str = "main", *, synchronous: Synchronous = "normal",
        pair_of: Callable[[str, str], str] | None = None,
    ) -> None:
        self.folder = store / "journal" / writer
        self.counters: Counter[str] = Counter()
        """Rows committed, by table; and ``not stored``: events that no table takes."""
        self.last_batch = 0
        """The last one that is committed, or else may ever have been used."""
        self.damages: list[Damage] = []
        """Files that were found damaged when this writer opened its folder."""
        self.writer = writer
        self._synchronous, self._pair_of = synchronous, pair_of
        self._records: list[Record] = []
        self._instruments: dict[tuple[str, str], int] = {}  # of the open file
        self._path, self._hour = self.folder, 0

    # --- one lifetime -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Takes the writer's lock, sets aside what is damaged and goes on behind all that was ever written.

        Raises UsageError with what to do.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock: IO[str] = (self.folder / "lock").open("w")
        except OSError as error:
            raise UsageError(f"{self.folder} cannot be written: {error.strerror or error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise UsageError(f"{self.folder} has another writer: stop it, or name this one otherwise") from error
        self._file: sqlite3.Connection | None = None
        try:
            self._check()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            _seal(self._file)
        self._lock.close()

    def _check(self) -> None:
        """Of other writers too, as far as none runs: their files are read by everybody."""
        store = self.folder.parent.parent
        with read_catalog(store) as catalog:
            compacted = catalog.compacted() if catalog else []
            readers = catalog.readers() if catalog else {}
        for folder in writers(store):
            with nullcontext(True) if folder == self.folder else writers_lock(folder) as free:
                of_writer = [it for it in compacted if it.writer == folder.name]
                self.damages += check(folder, files(folder), of_writer) if free else ()
        ends = {it.first_batch: it.last_batch for it in compacted if it.writer == self.writer}
        newest = max((int(it.stem) for it in files(self.folder)), default=0)
        if newest and newest not in ends:
            ends[newest] = _last_batch(self.folder / f"{newest:012d}.db")
        newest = max(ends, default=0)
        unknown = [free_after(it) for it in damages(self.folder) if it.first_batch > newest]
        # a machine that lost power may have lost commits that a reader had seen: it would take no second ones
        seen = [of.get(self.writer, 0) >> POSITIONS for of in readers.values()]
        self.last_batch = max(*ends.values(), *unknown, *seen, 0, 0)

    # --- writing ----------------------------------------------------------------------------------------------------

    def add(self, record: Record) -> None:
        self._records.append(record)

    @property
    def waiting(self) -> int:
        """Records that were added and are not yet taken."""
        return len(self._records)

    def take(self, now: int) -> Batch:
        """Everything that waits, for ``commit``; ``now`` is the commit time, ns."""
        records, self._records = self._records, []
        return Batch(records, now)

    def commit(self, batch: Batch) -> int:
        """Writes a batch, all of it or nothing, empties it, and returns its number (the last one if it was empty).

        Beyond MAX_BATCH records it becomes several batches, and what was not reached stays in it. Raises RetryBatch.
        """
        while batch.records:
            self._commit(batch.records, batch.committed_at)
            done, batch.records = batch.records, batch.records[MAX_BATCH:]
            _free(done)
        return self.last_batch

    def _commit(self, records: list[Record], committed_at: int) -> None:
        """The first MAX_BATCH of them."""
        number = self.last_batch + 1
        file = self._open_for(number, committed_at)
        known = len(self._instruments)
        try:
            with _mapped(self._path), file:
                file.execute("BEGIN IMMEDIATE")
                counts = self._write(file, records, number << POSITIONS)
                new = list(self._instruments.items())[known:]
                file.executemany(
                    _insert("instruments", 1),
                    [(id_, *key, self._pair_of(*key) if self._pair_of else "") for key, id_ in new],
                )
                of_tables = {table: count for table, count in counts.items() if table in TABLES}
                file.execute(_insert("batches", 1), (number, committed_at, msgspec.json.encode(of_tables).decode()))
        except BaseException:
            for key in list(self._instruments)[known:]:  # they were not committed either
                del self._instruments[key]
            raise
        self.last_batch = number
        self.counters.update(counts)

    def _write(self, file: sqlite3.Connection, records: list[Record], first: int) -> Counter[str]:
        """Builds rows and inserts them in turn, CHUNK by CHUNK: building all of them first would stall the loop."""
        counts: Counter[str] = Counter()
        values: defaultdict[str, list[Any]] = defaultdict(list)  # of each table, its rows end to end
        stop = min(len(records), MAX_BATCH)
        for start in range(0, stop, CHUNK):
            for pos, record in enumerate(records[start : min(start + CHUNK, stop)], first + start):
                writer = WRITERS.get(type(record))
                if writer is None:
                    counts["not stored"] += 1
                    continue
                table, to_row = writer
                instrument = 0 if table == "quarantine" else self._instrument(record)  # it may be any text
                values[table] += to_row(record, pos, instrument)
            for table, of_table in values.items():
                counts[table] += _insert_rows(file, table, of_table, at_least=CHUNK)
        for table, of_table in values.items():
            counts[table] += _insert_rows(file, table, of_table, at_least=1)
        return counts

    def _instrument(self, record: Any) -> int:
        key = record.venue, record.symbol
        id_ = self._instruments.get(key)
        if id_ is None:
            id_ = self._instruments[key] = len(self._instruments) + 1
        return id_

    def _open_for(self, batch: int, committed_at: int) -> sqlite3.Connection:
        hour = committed_at // HOUR
        if self._file is not None and hour <= self._hour:
            return self._file
        if self._file is not None:
            file, self._file = self._file, None
            _seal(file)
        self._path = self.folder / f"{batch:012d}.db"
        with _mapped(self._path):
            self._file = _open(self._path, self._synchronous)
        self._hour, self._instruments = hour, {}
        return self._file


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Turns what may pass into RetryBatch, with the file and the reason."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0)  # absent where not SQLite itself refused
        if code & 255 not in MAY_PASS:  # above stands the finer kind: which I/O failed
            raise
        raise RetryBatch(f"{path} cannot be written: {error} ({error.sqlite_errorname})") from error
    except OSError as error:
        raise RetryBatch(f"{path} cannot be written: {error.strerror or error}") from error


def _open(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    """A file for writing; it is there already if its first batch failed."""
    if not path.exists():
        _create(path)
    file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute(f"PRAGMA synchronous={synchronous}")
    except BaseException:
        file.close()
        raise
    return file


def _create(path: Path) -> None:
    """Under another name first: who sees the file, after a kill -9 too, sees its tables."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with closing(sqlite3.connect(new, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=MEMORY")  # what is half done is made anew, not rolled back
        file.execute("BEGIN")
        for name, columns in TABLES.items():
            file.execute(f"CREATE TABLE {name}({columns}) STRICT")
        file.execute(f"PRAGMA user_version={VERSION}")
        file.execute("COMMIT")
    new.rename(path)


def _seal(file: sqlite3.Connection) -> None:
    """Folds the write-ahead log into the file, so that it stands alone; a reader in the way leaves it as it is."""
    with suppress(sqlite3.OperationalError):
        file.execute("PRAGMA journal_mode=DELETE")
    file.close()


def _insert_rows(file: sqlite3.Connection, table: str, values: list[Any], *, at_least: int) -> int:
    """Takes rows from the end-to-end ``values`` while there are as many, CHUNK at most at a time; returns how many.

    By powers of two: few statements are ever prepared, and a remainder costs few of them. Row by row it would have to
    win the GIL back for each row, from a loop that gives it up every 5 ms when it is busy.
    """
    columns = COLUMNS[table]
    taken = 0
    while (left := len(values) // columns) >= at_least:
        rows = min(1 << left.bit_length() - 1, CHUNK)
        cut = rows * columns
        file.execute(_insert(table, rows), values if len(values) == cut else values[:cut])
        del values[:cut]
        taken += rows
    return taken


@cache
def _insert(table: str, rows: int) -> str:
    row = f"({','.join('?' * COLUMNS[table])})"
    return f"INSERT INTO {table} VALUES {','.join([row] * rows)}"  # noqa: S608 - names are ours


def _free(records: list[Record]) -> None:
    """A few at a time: 200,000 at once hold the GIL for 27 ms."""
    while len(records) > STEP:
        del records[-STEP:]
        time.sleep(0)  # lets the loop have its turn
    records.clear()


def end_of(batch: int) -> int:
    """The position of a reader that has all of a batch."""
    return (batch + 1 << POSITIONS) - 1


# --- reading ---------------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    """The files of one writer, in the order of their batches."""
    return sorted(it for it in folder.glob("*.db") if it.stem.isdecimal())


def writers(store: Path) -> list[Path]:
    """The folders of all writers of a store."""
    return sorted(it for it in (store / "journal").glob("*") if it.is_dir())


@contextmanager
def writers_lock(folder: Path) -> Iterator[bool]:
    """True within which no writer of the folder runs or starts; False: one is running."""
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def open_readonly(path: Path) -> sqlite3.Connection:
    """For reading while it is written. Raises UsageError: it is corrupt, or its schema is newer than this code."""
    return _checked(path, sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False))


def _checked(path: Path, file: sqlite3.Connection) -> sqlite3.Connection:
    try:
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise UsageError(f"{path} was written by a newer OneTape: schema {version}, this one reads {VERSION}")
        if version < 1:
            raise UsageError(f"{path} is corrupt: it has no tables")
    except sqlite3.DatabaseError as error:
        file.close()
        if isinstance(error, sqlite3.OperationalError):  # it may be there in a moment, or no longer
            raise
        raise UsageError(f"{path} is corrupt: {error}") from error
    except BaseException:
        file.close()
        raise
    return file


def read(path: Path, table: str, after: int = 0) -> Iterable[tuple[object, ...]]:
    """The committed rows of a table beyond a position, in order."""
    file = open_readonly(path)
    try:
        yield from file.execute(f"SELECT * FROM {table} WHERE pos > ? ORDER BY pos", (after,))  # noqa: S608
    finally:
        file.close()


def _last_batch(path: Path) -> int:
    """Opened for writing: a kill while the log was folded in leaves what only a writer may undo."""
    with closing(_checked(path, sqlite3.connect(path))) as file:
        try:
            (last,) = file.execute("SELECT max(batch) FROM batches").fetchone()
        except sqlite3.DatabaseError as error:
            raise UsageError(f"{path} cannot be read: {error}") from error
    return last if last is not None else int(path.stem) - 1
