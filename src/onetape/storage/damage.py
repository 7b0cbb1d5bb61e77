"""Damaged files of the journal: found when a writer opens its folder, set aside, never in anybody's way again.

Nothing of a damaged file is used: which of its rows are whole cannot be proven. It keeps its bytes under another name,
beside it lies what is known of it. Its ids are then absent from the coverage, and so they are asked for again.
"""
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from onetape.errors import UsageError
from onetape.storage.catalog import Compacted
from onetape.storage.schema import TABLES, VERSION

LONGEST_S = 5.0
"""For the pages of one file; a larger file is used without having been read to its end."""
STEPS = 100_000  # of SQLite between two looks at the clock
ROOM = 1 << 20
"""Batch numbers that are left free behind a damaged file, at least: nobody knows how far it went."""
LEAST_BATCH = 16  # bytes: no batch takes less of a file
CHECKED = "checked.json"
GONE = "it is gone"
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR}
BESIDE = ("-wal", "-shm", "-journal")
_NAME = re.compile(r"(\d+)\.db\.damaged\d*")


class Damage(Struct, frozen=True):
    """A file that was set aside."""

    path: Path
    """Where it lies now."""
    writer: str
    first_batch: int
    reason: str
    from_time: int | None
    """Its rows were committed after this, ns: the last commit of the file before it. None: there is none."""
    to_time: int | None
    """And before this: the first commit of the file behind it. None: it was the newest."""
    found_at: int
    """When it was set aside, ns, by the clock of the file system."""

    def __str__(self) -> str:
        if self.reason == GONE:
            return f"journal/{self.writer}/{self.first_batch:012}.db is gone, and what it held with it"
        return f"journal/{self.writer}/{self.path.name}: set aside, none of its rows is used: {self.reason}"


class _Note(Struct):
    """What is kept beside the file."""

    reason: str
    from_time: int | None
    to_time: int | None


_note = msgspec.json.Decoder(_Note)
_stamps = msgspec.json.Decoder(dict[str, tuple[int, int]])


def damages(folder: Path) -> list[Damage]:
    """All that were ever set aside in the folder of a writer, by their first batches."""
    found = []
    for path in sorted(folder.glob("*.db.damaged*")):
        if (name := _NAME.fullmatch(path.name)) is None:
            continue
        beside = path.with_name(f"{path.name}.json")
        note, at = _Note("it was damaged", None, None), path
        with suppress(OSError, msgspec.MsgspecError):
            note, at = _note.decode(beside.read_bytes()), beside
        found.append(Damage(
            path, folder.name, int(name[1]), note.reason, note.from_time, note.to_time, at.stat().st_mtime_ns))
    return found


def free_after(it: Damage) -> int:
    """A batch number that the file cannot have reached."""
    beside = (it.path.with_name(it.path.name + suffix) for suffix in ("", *BESIDE))
    return it.first_batch + ROOM + sum(path.stat().st_size for path in beside if path.exists()) // LEAST_BATCH


def check(folder: Path, paths: Sequence[Path], compacted: Sequence[Compacted]) -> list[Damage]:
    """Sets aside what is damaged of a writer's files; for whoever has the writer's lock.

    What the lake has is not looked at, and what did not change since it was found sound is not read again. Raises
    UsageError: a schema that is newer, a file or folder that cannot be read or written.
    """
    done = {it.first_batch for it in compacted}
    known = _known(folder)
    sound: dict[str, tuple[int, int]] = {}
    bad: dict[Path, str] = {}
    try:
        for path in paths:
            if int(path.stem) in done:
                continue
            if _stamp(path) is None or known.get(path.name) != _stamp(path):
                reason, whole = what_is_wrong(path)
                if reason:
                    bad[path] = reason
                if reason or not whole:
                    continue
            if (stamp := _stamp(path)) is not None:
                sound[path.name] = stamp
        for name in known:  # what was sound once, and is neither here nor in the lake
            if not (path := folder / name).exists() and int(path.stem) not in done:
                bad[path] = GONE
        for path, reason in bad.items():
            _set_aside(path, _Note(reason, *_between(path, [it for it in paths if it not in bad], compacted)))
        if sound != known:
            with suppress(OSError):  # a full disk: they are read once more
                _replace(folder / CHECKED, msgspec.json.encode(sound))
    except OSError as error:
        raise UsageError(f"{folder} cannot be checked: {error.strerror or error}") from error
    return [it for it in damages(folder) if any(it.path.name.startswith(path.name) for path in bad)]


def what_is_wrong(path: Path) -> tuple[str, bool]:
    """Of a file that nobody writes, in one line, empty if nothing is found; and whether all of it was read.

    Raises UsageError: a schema that is newer, or a disk that cannot be read.
    """
    if path.stat().st_size == 0:
        return "it is empty", True
    try:  # for writing: a kill while the log was folded in leaves what only a writer may undo
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            if reason := _of_tables(file, path):
                return reason, True
            reason, whole = _of_pages(file)
            return reason or _of_rows(file, int(path.stem)), whole
    except msgspec.MsgspecError as error:
        return f"the counts of a batch cannot be read: {error}", True
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)  # absent: a text that is none
        if code & 255 in DAMAGED:  # above stands the finer kind
            return " ".join(str(error).split()), True
        raise UsageError(f"{path} cannot be read: {error}") from error


def _of_tables(file: sqlite3.Connection, path: Path) -> str:
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise UsageError(f"{path} was written by a newer OneTape: schema {version}, this one reads {VERSION}")
    there = {name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if version < 1 or not there:
        return "it has no tables"
    missing = sorted(TABLES.keys() - there)
    return f"it lacks the tables {', '.join(missing)}" if missing else ""


def _of_pages(file: sqlite3.Connection) -> tuple[str, bool]:
    """What SQLite itself finds, and whether there was time for all of it."""
    until = time.monotonic() + LONGEST_S
    file.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return "", False
    finally:
        file.set_progress_handler(None, 0)
    return ("" if found == "ok" else " ".join(found.replace("*** in database main ***", "").split())), True


def _of_rows(file: sqlite3.Connection, first: int) -> str:
    """Batches that follow one another from the one in the name on, and tell of as many rows as there are."""
    low, high, count = file.execute("SELECT min(batch), max(batch), count(*) FROM batches").fetchone()
    if count and (low != first or high - low + 1 != count):
        return f"its {count} batches are not those from {first} on"
    told = Counter[str]()
    for (counts,) in file.execute("SELECT counts FROM batches"):
        told.update(msgspec.json.decode(counts, type=dict[str, int]))
    for table in TABLES.keys() - {"batches", "instruments"}:
        (rows,) = file.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - names are ours
        if rows != told[table]:
            return f"its batches tell of {told[table]} rows of {table}, it has {rows}"
    return ""


def _between(path: Path, sound: Sequence[Path], compacted: Sequence[Compacted]) -> tuple[int | None, int | None]:
    """The last commit of what is before a file, and the first of what is behind it."""
    first = int(path.stem)
    lake = {it.first_batch: it for it in compacted}
    here = {int(it.stem): it for it in sound}
    before = [it for it in (*lake, *here) if it < first]
    from_time = to_time = None
    if before:
        nearest = max(before)
        from_time = lake[nearest].committed_at if nearest in lake else _commit(here[nearest], "DESC")
    for nearest in sorted(it for it in here if it > first):  # one that has no batch yet says nothing
        if (to_time := _commit(here[nearest], "ASC")) is not None:
            break
    return from_time, to_time


def _commit(path: Path, order: str) -> int | None:
    with closing(sqlite3.connect(path)) as file:
        row = file.execute(f"SELECT committed_at FROM batches ORDER BY batch {order} LIMIT 1").fetchone()  # noqa: S608
    return None if row is None else int(row[0])


def _set_aside(path: Path, note: _Note) -> None:
    """The note first: after a kill in between the file is still there, and found again. One that is gone leaves an
    empty file behind, so that it is told as long as that lies there."""
    new, number = path.with_name(f"{path.name}.damaged"), 1
    while new.exists():
        number += 1
        new = path.with_name(f"{path.name}.damaged{number}")
    _replace(new.with_name(f"{new.name}.json"), msgspec.json.encode(note))
    if path.exists():
        path.rename(new)
    else:
        new.touch()
    for suffix in BESIDE:
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(new.with_name(new.name + suffix))


def _known(folder: Path) -> dict[str, tuple[int, int]]:
    try:
        return _stamps.decode((folder / CHECKED).read_bytes())
    except (OSError, msgspec.MsgspecError):  # then all are read
        return {}


def _stamp(path: Path) -> tuple[int, int] | None:
    """Another one whenever somebody has written to the file; None while rows stand beside it."""
    if path.with_name(f"{path.name}-wal").exists():
        return None
    it = path.stat()
    return it.st_size, it.st_mtime_ns


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_bytes(data)
    new.replace(path)
