"""Compaction: sealed files of the journal become Parquet files of the lake, each in one transaction of the catalog.

Files are written where nobody looks, forced to the disk and renamed; then one commit of the catalog makes them count.
What a kill leaves behind before that commit is unknown to the catalog, and the next compaction removes it.
"""
import fcntl
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

import adbc_driver_manager
import duckdb
import msgspec
from msgspec import Struct, field

from onetape.clock import DAY, HOUR
from onetape.errors import UsageError
from onetape.storage.catalog import NAME, Catalog, Compacted, LakeFile, Publication, StoredInstrument, open_catalog
from onetape.storage.journal import POSITIONS, end_of, writers_lock
from onetape.storage.merging import MERGED, crowded, merge
from onetape.storage.moment import check, covered, line
from onetape.storage.parquet import (
    FOLDER,
    HELD,
    LEAST_GROUP,
    STAGING,
    Staged,
    copy,
    engine,
    file_name,
    lake_paths,
    put_in_place,
)
from onetape.storage.sealed import (
    JournalFile,
    fold,
    is_sealed,
    journal_files,
    last_batch,
    open_sound,
    uncompacted,
)
from onetape.storage.stream import Breadth, breadth_of, for_each_select
from onetape.storage.tables import LAKE, prepare, prepare_file

KEEP_JOURNAL_NS = DAY
KEEP_REPLACED_NS = HOUR
MEMORY = "512MB"
MERGE_AT = 8
FULL = 1_000_000
"""Bytes: with fewer left, that is what is wrong, whatever the error says."""
NO_SPACE = ("No space left", "disk is full")
"""What the system, passed on by DuckDB, and SQLite say then."""
LOCK = "compaction.lock"
Instruments = list[tuple[int, str, str, str]]
"""Id, venue, symbol, pair."""


class Report(Struct):
    """What a compaction did."""

    files: int = 0
    """Of the journal, that became part of the lake."""
    rows: Counter[str] = field(default_factory=Counter)
    """By table."""
    merged: int = 0
    """Partitions whose files became one."""
    removed: int = 0
    """Files that were no longer needed."""
    orphans: int = 0
    """Files that an interrupted compaction had left."""
    refused: list[str] = field(default_factory=list)
    """A line for each file of the journal that cannot be compacted, and for each partition that cannot be merged: their
    rows are still read from where they are."""


class Refused(Exception):
    """A file of the journal stays where it is."""


def compact(
    store: Path, now: int, *, keep_journal_ns: int = KEEP_JOURNAL_NS, keep_replaced_ns: int = KEEP_REPLACED_NS,
    memory: str = MEMORY, merge_at: int = MERGE_AT,
) -> Report:
    """Everything that is sealed into the lake, and what is no longer needed away; ``now`` in ns.

    Raises UsageError: there is no store, it cannot be written, or another compaction is running.
    """
    check(store)
    report = Report()
    with said_plainly(store), alone(store), open_catalog(store) as catalog:
        report.orphans = sweep(store, catalog)
        try:
            for it in uncompacted(store, catalog.compacted()):
                if is_sealed(it):
                    _compact(store, it, catalog, now, memory, report)
            for group in crowded(catalog.files(), merge_at):
                _merge(store, group, catalog, now, memory, report)
        finally:
            shutil.rmtree(store / STAGING, ignore_errors=True)
        report.removed = _retire_journal(store, catalog, now - keep_journal_ns)
        report.removed += retire_replaced(store, catalog, now - keep_replaced_ns)
    return report


def _merge(
    store: Path, group: Sequence[LakeFile], catalog: Catalog, now: int, memory: str, report: Report,
) -> None:
    """What fails leaves the files as they are, which are as good: other partitions do not wait for it."""
    try:
        report.merged += merge(store, group, catalog, now, memory)
    except (OSError, duckdb.Error) as error:
        shutil.rmtree(store / STAGING, ignore_errors=True)  # the next one needs the place, and the name
        folder = (store / group[0].path).parent
        report.refused.append(f"the {len(group)} files in {folder} are not merged: {said(store, error)}")


# --- one file of the journal -----------------------------------------------------------------------------------------


def _compact(store: Path, it: JournalFile, catalog: Catalog, now: int, memory: str, report: Report) -> None:
    with writers_lock(it.path.parent) as free:
        if free or not it.newest:
            fold(it.path)
    try:
        publication = _written(store, it, now, memory)
    except Refused as error:
        report.refused.append(f"{it.path} stays in the journal: {error}")
        return
    catalog.publish(publication)
    report.files += 1
    for file in publication.files:
        report.rows[file.table] += file.rows


def _written(store: Path, it: JournalFile, now: int, memory: str) -> Publication:
    """Its rows are in the lake, but do not count there yet."""
    with _refusing():
        with closing(open_sound(it.path)) as file:
            counts = counts_of(file)
            instruments: Instruments = file.execute("SELECT * FROM instruments ORDER BY id").fetchall()
            coverage = list(covered(file))
        last, committed_at = last_batch(it.path) or (it.first_batch - 1, 0)
        with engine(store, memory) as duck:
            prepare(duck)
            prepare_file(duck, it.writer, instruments)
            staged = _copied(store, it, duck, counts, last + 1 << POSITIONS)
    files = put_in_place(store, staged, file_name(it.writer, it.first_batch), it.writer)
    known = [StoredInstrument(venue, symbol, pair or symbol) for _, venue, symbol, pair in instruments]
    told = msgspec.json.encode(counts).decode()
    done = Compacted(it.writer, it.first_batch, last, committed_at, now, told)
    return Publication(files, done, known, coverage)


def _copied(
    store: Path, it: JournalFile, duck: duckdb.DuckDBPyConnection, counts: Counter[str], end: int,
) -> list[Staged]:
    out: list[Staged] = []
    number = count()
    folder = store / STAGING / file_name(it.writer, it.first_batch)

    def run(table: str, select: str) -> int:
        files = copy(
            duck, select, table, folder / f"{next(number)}", width=breadth.width, partitions=breadth.partitions)
        out.extend(files)
        return sum(file.rows for file in files)

    for table in LAKE:
        breadth = breadth_of(it.path, table) if counts[table] else Breadth()
        # not even the smallest row group of them fits: so many at once, and a file of each
        most = max(HELD // breadth.width, 1) if breadth.width * LEAST_GROUP > HELD else None
        rows = for_each_select(duck, it.path, table, end, counts[table], run, breadth=breadth, most=most)
        if rows != counts[table]:
            raise Refused(f"its batches tell of {counts[table]} rows of {table}, it has {rows}")
    return out


def counts_of(file: sqlite3.Connection) -> Counter[str]:
    """Rows by table, as the batches of a journal file tell it."""
    out = Counter[str]()
    for (counts,) in file.execute("SELECT counts FROM batches"):
        out.update(msgspec.json.decode(counts, type=dict[str, int]))
    return out


@contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with one file of the journal must not keep the others out of the lake."""
    try:
        yield
    except (duckdb.DataError, duckdb.InvalidInputException) as error:
        raise Refused(line(error)) from error
    except duckdb.OutOfMemoryException as error:
        raise Refused("its rows are too large for the memory that a compaction is given") from error
    except (duckdb.IOException, adbc_driver_manager.Error) as error:
        if "malformed" not in str(error):  # what SQLite says of a damaged page, passed on by the stream
            raise
        raise Refused(line(error)) from error
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # not the file: the disk
            raise
        raise Refused(line(error)) from error


# --- what is no longer needed ----------------------------------------------------------------------------------------


def sweep(store: Path, catalog: Catalog) -> int:
    """Removes what a killed compaction has left; returns how many files of the lake that were.

    To be done before files cease to count: what was left beside them is a copy only as long as they do.
    """
    shutil.rmtree(store / STAGING, ignore_errors=True)
    found = orphans(store, catalog)
    if lost := only_copies(store, catalog, found):
        raise UsageError(
            f"{store / NAME} does not know {len(lost)} files of the lake whose rows are nowhere else, {lost[0]} is one:"
            " put back the catalog that belongs to them, or move them away",
        )
    for path in found:
        (store / path).unlink()
        with suppress(OSError):  # others are in it
            (store / path).parent.rmdir()
    return len(found)


def orphans(store: Path, catalog: Catalog | None) -> list[str]:
    """Files of the lake that the catalog does not know."""
    if catalog is None:
        return sorted(lake_paths(store))
    known = {it.path for it in catalog.files()}.union(catalog.replaced())
    return sorted(lake_paths(store) - known)


def only_copies(store: Path, catalog: Catalog | None, found: Iterable[str]) -> list[str]:
    """Those of the files that the catalog does not know which no kill explains: it is lost, or an old one.

    What a kill leaves is a copy: of a file of the journal that is not compacted yet, or of files of the same partition.
    """
    done = catalog.compacted() if catalog else []
    waiting = {file_name(it.writer, it.first_batch) for it in uncompacted(store, done)}
    files = catalog.files() if catalog else []
    known = {Path(it.path).parent for it in files if (store / it.path).exists()}
    return [
        path for path in found
        if not any(Path(path).name.startswith(it) for it in waiting)
        and not (Path(path).name.startswith(MERGED) and Path(path).parent in known)
    ]


def _retire_journal(store: Path, catalog: Catalog, until: int) -> int:
    """Of what all readers are past. A writer's newest file stays for good: it alone tells the next batch number."""
    newest = {it.path for it in journal_files(store) if it.newest}
    readers = catalog.readers().values()
    removed = 0
    for it in catalog.compacted():
        path = store / "journal" / it.writer / f"{it.first_batch:012d}.db"
        if it.compacted_at > until or path in newest or not path.exists():
            continue
        if any(of.get(it.writer, 0) < end_of(it.last_batch) for of in readers):
            continue
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        removed += 1
    return removed


def retire_replaced(store: Path, catalog: Catalog, until: int) -> int:
    """Removes the files of the lake that ceased to count by then."""
    paths = catalog.replaced(until)
    for path in paths:
        (store / path).unlink(missing_ok=True)
        with suppress(OSError):  # others are in it
            (store / path).parent.rmdir()
    if paths:
        catalog.forget(paths)
    return len(paths)


# --- the rest of the world -------------------------------------------------------------------------------------------


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Raises UsageError if another compaction of the store is running, or a pruning."""
    with (store / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{store} is being compacted already, or pruned: let that one finish") from error
        yield


@contextmanager
def said_plainly(store: Path) -> Iterator[None]:
    """What the disk refuses, as UsageError."""
    try:
        yield
    except (OSError, sqlite3.Error, duckdb.Error, adbc_driver_manager.Error) as error:
        raise UsageError(f"{store / FOLDER} cannot be written: {said(store, error)}") from error


def said(store: Path, error: BaseException) -> str:
    """Why something could not be written. By then what was begun may be gone again, and some space be free."""
    free = shutil.disk_usage(store).free
    if free < FULL or any(it in str(error) for it in NO_SPACE):
        return f"no space left: the disk is full, {free // 1_000} kB are left"
    return line(error)
