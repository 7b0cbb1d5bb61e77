"""The journal: everything is committed here first, in order, by one writer; all other stores read it."""
import fcntl
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, Self

import msgspec
from msgspec import Struct

from onetape.clock import HOUR
from onetape.errors import UsageError
from onetape.storage.schema import TABLES, VERSION, WRITERS, Record

Synchronous = Literal["normal", "full", "off"]
POSITIONS = 20  # bits of a position that count within its batch
MAX_BATCH = 1 << POSITIONS


class Batch(Struct):
    """What goes into one transaction."""

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
        """The last one that is committed."""
        self._writer, self._synchronous, self._pair_of = writer, synchronous, pair_of
        self._records: list[Record] = []
        self._instruments: dict[tuple[str, str], int] = {}  # of the open file
        self._hour = 0

    # --- one lifetime -----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Takes the writer's lock and goes on where it ended. Raises UsageError with what to do."""
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
            for path in files(self.folder)[-1:]:
                self.last_batch = _last_batch(path)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            _seal(self._file)
        self._lock.close()

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
        """Writes a batch, all of it or nothing, and returns its number (that of the last one if it is empty)."""
        for start in range(0, len(batch.records), MAX_BATCH):
            self._commit(batch.records[start : start + MAX_BATCH], batch.committed_at)
        return self.last_batch

    def _commit(self, records: list[Record], committed_at: int) -> None:
        number = self.last_batch + 1
        file = self._open_for(number, committed_at)
        rows: dict[str, list[tuple[object, ...]]] = {}
        known = len(self._instruments)
        first = number << POSITIONS
        for n, record in enumerate(records):
            table, to_row = WRITERS.get(type(record), ("", None))
            if to_row is None:
                self.counters["not stored"] += 1
                continue
            rows.setdefault(table, []).append(to_row(record, first | n, self._instrument(record)))
        counts = {table: len(of_table) for table, of_table in rows.items()}
        try:
            with file:
                file.execute("BEGIN IMMEDIATE")
                new = list(self._instruments.items())[known:]
                file.executemany(
                    "INSERT INTO instruments VALUES (?, ?, ?, ?)",
                    [(id_, *key, self._pair_of(*key) if self._pair_of else "") for key, id_ in new],
                )
                for table, of_table in rows.items():
                    file.executemany(_insert(table, len(of_table[0])), of_table)
                file.execute(
                    "INSERT INTO batches VALUES (?, ?, ?)",
                    (number, committed_at, msgspec.json.encode(counts).decode()),
                )
        except BaseException:
            for key in list(self._instruments)[known:]:  # they were not committed either
                del self._instruments[key]
            raise
        self.last_batch = number
        self.counters.update(counts)

    def _instrument(self, record: Record) -> int:
        key = record.venue, getattr(record, "symbol", "")
        id_ = self._instruments.get(key)
        if id_ is None:
            id_ = self._instruments[key] = len(self._instruments) + 1
        return id_

    def _open_for(self, batch: int, committed_at: int) -> sqlite3.Connection:
        hour = committed_at // HOUR
        if self._file is not None and hour <= self._hour:
            return self._file
        if self._file is not None:
            _seal(self._file)
        path = self.folder / f"{batch:012d}.db"
        try:
            self._file = _create(path, self._synchronous)
        except sqlite3.Error as error:
            raise UsageError(f"{path} cannot be written: {error}") from error
        self._hour, self._instruments = hour, {}
        return self._file


def _create(path: Path, synchronous: Synchronous) -> sqlite3.Connection:
    file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute(f"PRAGMA synchronous={synchronous}")
        with file:
            file.execute("BEGIN IMMEDIATE")
            for name, columns in TABLES.items():
                file.execute(f"CREATE TABLE {name}({columns}) STRICT")
            file.execute(f"PRAGMA user_version={VERSION}")
    except BaseException:
        file.close()
        raise
    return file


def _seal(file: sqlite3.Connection) -> None:
    """Folds the write-ahead log into the file, so that it stands alone; a reader in the way leaves it as it is."""
    with suppress(sqlite3.OperationalError):
        file.execute("PRAGMA journal_mode=DELETE")
    file.close()


def _insert(table: str, columns: int) -> str:
    return f"INSERT INTO {table} VALUES ({','.join('?' * columns)})"  # noqa: S608 - names are ours


# --- reading ---------------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    """The files of one writer, in the order of their batches."""
    return sorted(folder.glob("*.db"))


def writers(store: Path) -> list[Path]:
    """The folders of all writers of a store."""
    return sorted(it for it in (store / "journal").glob("*") if it.is_dir())


def open_readonly(path: Path) -> sqlite3.Connection:
    """For reading while it is written. Raises UsageError for a schema that is newer than this code."""
    file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        file.close()
        raise UsageError(f"{path} was written by a newer OneTape: schema {version}, this one reads {VERSION}")
    return file


def read(path: Path, table: str, after: int = 0) -> Iterable[tuple[object, ...]]:
    """The committed rows of a table beyond a position, in order."""
    file = open_readonly(path)
    try:
        yield from file.execute(f"SELECT * FROM {table} WHERE pos > ? ORDER BY pos", (after,))  # noqa: S608
    finally:
        file.close()


def _last_batch(path: Path) -> int:
    file = open_readonly(path)
    try:
        (last,) = file.execute("SELECT max(batch) FROM batches").fetchone()
    finally:
        file.close()
    return last if last is not None else int(path.stem) - 1
