"""The catalog: which files the lake consists of, which files of the journal they stand for, and who reads these."""
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from msgspec import Struct, structs

from onetape.errors import UsageError
from onetape.model import Channel
from onetape.tape.coverage import Coverage, Covered

VERSION = 3
"""Of this schema; a catalog of a newer one is refused."""
NAME = "catalog.db"
NO_ROOM = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
TapeId = tuple[str, str, Channel]
"""Venue, symbol, channel."""

# compacted: files of the journal whose rows are to be read from the lake. replaced: files of the lake that no longer
# count, merged into others or pruned, and since when, ns: whoever still reads them may go on for a while. generation:
# counts publications.
SCHEMA = """
    CREATE TABLE generation(number INT NOT NULL) STRICT;
    INSERT INTO generation VALUES (0);
    CREATE TABLE lake_files(
        path TEXT PRIMARY KEY, tbl TEXT NOT NULL, date TEXT NOT NULL, venue TEXT NOT NULL, pair TEXT NOT NULL,
        writer TEXT NOT NULL, rows INT NOT NULL, bytes INT NOT NULL, low INT NOT NULL, high INT NOT NULL) STRICT;
    CREATE INDEX lake_files_tbl ON lake_files(tbl, venue, pair);
    CREATE TABLE replaced(path TEXT PRIMARY KEY, since INT NOT NULL) STRICT;
    CREATE TABLE compacted(
        writer TEXT NOT NULL, first_batch INT NOT NULL, last_batch INT NOT NULL, committed_at INT NOT NULL,
        compacted_at INT NOT NULL, PRIMARY KEY (writer, first_batch)) STRICT;
    CREATE TABLE instruments(
        venue TEXT NOT NULL, symbol TEXT NOT NULL, pair TEXT NOT NULL, PRIMARY KEY (venue, symbol, pair)) STRICT;
    CREATE TABLE coverage(
        venue TEXT NOT NULL, symbol TEXT NOT NULL, channel TEXT NOT NULL, first INT NOT NULL, last INT NOT NULL,
        from_time INT NOT NULL, to_time INT NOT NULL, PRIMARY KEY (venue, symbol, channel, first)) STRICT;
"""

# Of each reader of the journal beside the lake, which has `compacted`: the position up to which it has a writer's rows.
# The row with an empty writer makes it a reader: of writers that have no row yet it has nothing.
READERS = """
    CREATE TABLE readers(
        name TEXT NOT NULL, writer TEXT NOT NULL, position INT NOT NULL, PRIMARY KEY (name, writer)) STRICT
"""

# sum: SHA-256 of the file as it was published. schema: of its columns (tables.py). counts: rows by table that the file
# of the journal brought, JSON. pruned: what went for its age or for space, in all. doubled: rows that two writers had
# brought, and that were merged into one. So rows that came = rows that are there + pruned + doubled.
LEDGER = (
    "ALTER TABLE lake_files ADD COLUMN sum TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE lake_files ADD COLUMN schema INT NOT NULL DEFAULT 1",
    "ALTER TABLE compacted ADD COLUMN counts TEXT NOT NULL DEFAULT ''",
    """CREATE TABLE pruned(
        tbl TEXT NOT NULL, venue TEXT NOT NULL, pair TEXT NOT NULL, low INT NOT NULL, high INT NOT NULL,
        files INT NOT NULL, rows INT NOT NULL, bytes INT NOT NULL, PRIMARY KEY (tbl, venue, pair)) STRICT""",
    "CREATE TABLE doubled(tbl TEXT PRIMARY KEY, rows INT NOT NULL) STRICT",
)
MIGRATIONS: Mapping[int, Sequence[str]] = {1: (READERS,), 2: LEDGER}
"""By the version that each of them makes one higher."""


class LakeFile(Struct, frozen=True):
    """``path`` within the store; ``low`` and ``high`` are the least and greatest time, ns, that its rows speak of."""

    path: str
    table: str
    date: str
    venue: str
    pair: str
    writer: str
    """Empty where rows of several were merged."""
    rows: int
    bytes: int
    low: int
    high: int
    sum: str = ""
    """SHA-256 of its bytes; empty: it was written before that was noted."""
    schema: int = 1
    """Of its columns."""


class Compacted(Struct, frozen=True):
    """A file of the journal that the lake stands for; ``committed_at`` is the time of its last commit, ns."""

    writer: str
    first_batch: int
    last_batch: int
    committed_at: int
    compacted_at: int
    counts: str = ""
    """Rows by table, JSON; empty: it was compacted before that was noted."""


class Pruned(Struct, frozen=True):
    """What of a pair at a venue is gone from a table by policy: rows of the times ``low`` to ``high``, inclusive."""

    table: str
    venue: str
    pair: str
    low: int
    high: int
    files: int
    rows: int
    bytes: int


class StoredInstrument(Struct, frozen=True, order=True):
    venue: str
    symbol: str
    pair: str
    """Base and quote across venues; the symbol where nothing else is known."""


class Publication(Struct, frozen=True):
    """What a compaction of one file of the journal brings into the lake, all of it or nothing."""

    files: Sequence[LakeFile]
    compacted: Compacted
    instruments: Sequence[StoredInstrument]
    coverage: Iterable[Covered]


class Catalog:
    """Over one connection; readers come and go while one compaction writes."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file

    # --- reading ----------------------------------------------------------------------------------------------------

    @contextmanager
    def moment(self) -> Iterator[None]:
        """All that is read within is of one moment."""
        self._file.execute("BEGIN")
        try:
            yield
        finally:
            self._file.execute("COMMIT")

    def generation(self) -> int:
        (number,) = self._file.execute("SELECT number FROM generation").fetchone()
        return int(number)

    def files(self, table: str | None = None) -> list[LakeFile]:
        rows = self._file.execute("SELECT * FROM lake_files WHERE ? IN (tbl, '') ORDER BY path", (table or "",))
        return [LakeFile(*row) for row in rows]

    def compacted(self) -> list[Compacted]:
        return [Compacted(*row) for row in self._file.execute("SELECT * FROM compacted ORDER BY writer, first_batch")]

    def instruments(self) -> list[StoredInstrument]:
        return [StoredInstrument(*row) for row in self._file.execute("SELECT * FROM instruments")]

    def replaced(self, since: int = 1 << 62) -> list[str]:
        """Paths of the files that ceased to count by then, and may still be there."""
        return [path for (path,) in self._file.execute("SELECT path FROM replaced WHERE since <= ?", (since,))]

    def coverage(self) -> dict[TapeId, Coverage]:
        out: dict[TapeId, Coverage] = {}
        for venue, symbol, channel, *interval in self._file.execute("SELECT * FROM coverage ORDER BY first"):
            out.setdefault((venue, symbol, Channel(channel)), Coverage()).add(*interval)
        return out

    def pruned(self) -> list[Pruned]:
        """Of each table, venue and pair in all."""
        if _version(self._file) < 3:  # nobody has written it since
            return []
        return [Pruned(*row) for row in self._file.execute("SELECT * FROM pruned ORDER BY tbl, venue, pair")]

    def doubled(self) -> dict[str, int]:
        """Rows by table that were there twice, and are there once."""
        return {} if _version(self._file) < 3 else dict(self._file.execute("SELECT * FROM doubled"))

    def readers(self) -> dict[str, dict[str, int]]:
        """Who reads the journal beside the lake, and how far each has come, by writer; not named: nowhere yet."""
        out: dict[str, dict[str, int]] = {}
        if _version(self._file) < 2:  # nobody has written it since
            return out
        for name, writer, position in self._file.execute("SELECT * FROM readers ORDER BY name, writer"):
            of = out.setdefault(name, {})
            if writer:
                of[writer] = position
        return out

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the file itself."""
        found = [text for (text,) in self._file.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    # --- writing ----------------------------------------------------------------------------------------------------

    def publish(self, it: Publication) -> None:
        """From here on the rows of the file are read from the lake, and no longer from the journal."""
        with self._transaction():
            self._add(it.files)
            self._file.execute("INSERT INTO compacted VALUES (?,?,?,?,?,?)", structs.astuple(it.compacted))
            self._file.executemany(
                "INSERT OR IGNORE INTO instruments VALUES (?,?,?)", map(structs.astuple, it.instruments))
            self._cover(it.coverage)

    def replace(self, old: Sequence[LakeFile], new: Sequence[LakeFile], now: int) -> None:
        """The rows of the old files are in the new ones, once."""
        doubled = sum(it.rows for it in old) - sum(it.rows for it in new)
        with self._transaction():
            self._take_out(old, now)
            self._add(new)
            if doubled:
                self._file.execute(
                    "INSERT INTO doubled VALUES (?,?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
                    (old[0].table, doubled))

    def prune(self, files: Sequence[LakeFile], now: int) -> None:
        """Their rows are gone; of which times they were stays known, so that nobody takes them for a gap."""
        with self._transaction():
            self._take_out(files, now)
            self._file.executemany(
                "INSERT INTO pruned VALUES (?,?,?,?,?,1,?,?) ON CONFLICT DO UPDATE SET low = min(low, excluded.low),"
                " high = max(high, excluded.high), files = files + 1, rows = rows + excluded.rows,"
                " bytes = bytes + excluded.bytes",
                [(it.table, it.venue, it.pair, it.low, it.high, it.rows, it.bytes) for it in files])

    def forget(self, paths: Sequence[str]) -> None:
        """Replaced files that are no longer there."""
        with self._transaction():
            self._file.executemany("DELETE FROM replaced WHERE path = ?", [(path,) for path in paths])

    def register(self, reader: str) -> None:
        """From here on no file of the journal is removed that the reader is not past."""
        self._file.execute("INSERT OR IGNORE INTO readers VALUES (?,'',0)", (reader,))

    def advance(self, reader: str, writer: str, position: int) -> None:
        """The reader has all rows of the writer up to a position, that included; it never goes back."""
        self._file.execute(
            "INSERT INTO readers VALUES (?,?,?) ON CONFLICT DO UPDATE SET position = max(position, excluded.position)",
            (reader, writer, position))

    def restart(self, reader: str, positions: Mapping[str, int]) -> None:
        """The reader has these rows, and no others: it may have lost some that it had."""
        with self._transaction():
            self.unregister(reader)
            self.register(reader)
            for writer, position in positions.items():
                self.advance(reader, writer, position)

    def unregister(self, reader: str) -> None:
        """Nothing is kept for it any more."""
        self._file.execute("DELETE FROM readers WHERE name = ?", (reader,))

    def _take_out(self, files: Sequence[LakeFile], now: int) -> None:
        self._file.executemany("DELETE FROM lake_files WHERE path = ?", [(it.path,) for it in files])
        self._file.executemany("INSERT INTO replaced VALUES (?,?)", [(it.path, now) for it in files])

    def _add(self, files: Sequence[LakeFile]) -> None:
        self._file.executemany(
            "INSERT INTO lake_files VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", [structs.astuple(it) for it in files])

    def _cover(self, news: Iterable[Covered]) -> None:
        known = self.coverage()
        touched = set()
        for it in news:
            key = it.venue, it.symbol, it.channel
            touched.add(key)
            known.setdefault(key, Coverage()).add(it.first, it.last, it.from_time, it.to_time)
        self._file.executemany("DELETE FROM coverage WHERE (venue, symbol, channel) = (?,?,?)", touched)
        self._file.executemany(
            "INSERT INTO coverage VALUES (?,?,?,?,?,?,?)",
            [(*key, *structs.astuple(interval)) for key in touched for interval in known[key]],
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._file.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._file.execute("UPDATE generation SET number = number + 1")
            self._file.execute("COMMIT")
        except BaseException:
            if self._file.in_transaction:  # a full disk has ended it already
                self._file.execute("ROLLBACK")
            raise


@contextmanager
def open_catalog(store: Path) -> Iterator[Catalog]:
    """For those that write it; it is made where there is none, and an older one is brought up to this schema.

    Raises UsageError: a newer schema, a corrupt file.
    """
    path = store / NAME
    if not path.exists():
        _create(path)
    for left in path.parent.glob(f"{path.stem}*.new*"):  # by a kill, or by who makes one just now, and sees this one
        left.unlink(missing_ok=True)
    with _plainly(path), closing(sqlite3.connect(path, isolation_level=None)) as file:
        _check(file, path)
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=FULL")  # what it says is in the lake may soon be gone from the journal
        _migrate(file)
        yield Catalog(file)
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # as far as no reader is in the way: see _to_read


def _create(path: Path) -> None:
    """Under a name of its own first: who sees the file, after a kill -9 too, sees its tables."""
    new = path.with_name(f"{path.stem}.{uuid4().hex}.new")
    with closing(sqlite3.connect(new, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=MEMORY")  # a log would be left behind where the disk is full: half a catalog
        later = "; ".join(it for version in sorted(MIGRATIONS) for it in MIGRATIONS[version])
        file.executescript(f"BEGIN; {SCHEMA} {later}; PRAGMA user_version={VERSION}; COMMIT;")
    try:
        os.link(new, path)
    except OSError:
        if not path.exists():  # else somebody was faster, and may have written to it
            new.rename(path)  # a file system without links
    new.unlink(missing_ok=True)


def _migrate(file: sqlite3.Connection) -> None:
    """One version at a time, each in a transaction: a kill leaves the one before, readers of both go on."""
    while _version(file) < VERSION:
        file.execute("BEGIN IMMEDIATE")
        if (version := _version(file)) < VERSION:  # else another process was faster
            for statement in MIGRATIONS[version]:
                file.execute(statement)
            file.execute(f"PRAGMA user_version={version + 1}")
        file.execute("COMMIT")


@contextmanager
def read_catalog(store: Path) -> Iterator[Catalog | None]:
    """For reading while it is written; None where there is none. Raises UsageError: a newer schema, a corrupt file."""
    path = store / NAME
    if not path.exists():
        yield None
        return
    with _plainly(path), closing(_to_read(path)) as file:
        yield Catalog(file)


def _to_read(path: Path) -> sqlite3.Connection:
    """A full disk has no room for what readers of a log share: where no log is, nothing has to be shared."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        return _checked(uri, path)
    except sqlite3.OperationalError as error:
        log = path.with_name(f"{path.name}-wal")
        if error.sqlite_errorcode & 255 not in NO_ROOM:
            raise
        if log.exists() and log.stat().st_size:
            raise UsageError(f"{path} cannot be read: {error}: is the disk full?") from error
    return _checked(f"{uri}&immutable=1", path)


def _checked(uri: str, path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        _check(file, path)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def _plainly(path: Path) -> Iterator[None]:
    """Nothing of a corrupt catalog is believed: which files of the lake count, nobody else knows."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 255 not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        raise _corrupt(path, str(error)) from error


def _corrupt(path: Path, reason: str) -> UsageError:
    help = "put back a copy of it, or move it and lake/ away to go on with the journal alone"
    return UsageError(f"{path} is corrupt: {reason}: {help}")


def _version(file: sqlite3.Connection) -> int:
    (version,) = file.execute("PRAGMA user_version").fetchone()
    return int(version)


def _check(file: sqlite3.Connection, path: Path) -> None:
    version = _version(file)
    if version > VERSION:
        raise UsageError(f"{path} was written by a newer OneTape: schema {version}, this one reads {VERSION}")
    if version < 1:
        raise _corrupt(path, "it has no tables")
