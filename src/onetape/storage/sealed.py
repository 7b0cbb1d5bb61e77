"""Which files of the journal will never be written again."""
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from msgspec import Struct

from onetape.storage.catalog import Compacted
from onetape.storage.journal import files, open_readonly, writers, writers_lock

__all__ = [
    "JournalFile", "fold", "is_sealed", "journal_files", "last_batch", "open_sound", "uncompacted", "writers_lock",
]


class JournalFile(Struct, frozen=True):
    path: Path
    writer: str
    first_batch: int
    newest: bool
    """Of its writer: it may still be written."""


def journal_files(store: Path) -> list[JournalFile]:
    """Of all writers, those of each in the order of their batches."""
    return [
        JournalFile(path, folder.name, int(path.stem), path == paths[-1])
        for folder in writers(store) for paths in [files(folder)] for path in paths
    ]


def uncompacted(store: Path, compacted: list[Compacted]) -> list[JournalFile]:
    """Those whose rows are to be read from the journal."""
    done = {(it.writer, it.first_batch) for it in compacted}
    return [it for it in journal_files(store) if (it.writer, it.first_batch) not in done]


def is_sealed(it: JournalFile) -> bool:
    """Has batches, and no writer that may add one.

    A free lock is enough, it need not stay ours: a writer that starts now begins a file of its own after the last
    batch. Only to an empty file would it go on writing: that one is never sealed.
    """
    if not it.newest:
        return True
    with writers_lock(it.path.parent) as free:
        pass
    return free and last_batch(it.path) is not None


def open_sound(path: Path) -> sqlite3.Connection:
    """For reading while it is written; what a kill interrupted is undone first.

    A kill while a log is folded in leaves a rollback journal, in the way of all who may only read. Raises UsageError
    for a schema that is newer than this code.
    """
    try:
        return open_readonly(path)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 255 != sqlite3.SQLITE_READONLY:
            raise
    with closing(sqlite3.connect(path)) as file:
        file.execute("SELECT count(*) FROM sqlite_master")  # whoever reads and may write rolls it back
    return open_readonly(path)


def last_batch(path: Path) -> tuple[int, int] | None:
    """The highest batch and its commit time, ns; None if the file has none."""
    with closing(open_sound(path)) as file:
        row = file.execute("SELECT batch, committed_at FROM batches ORDER BY batch DESC LIMIT 1").fetchone()
    return None if row is None else (int(row[0]), int(row[1]))


def fold(path: Path) -> None:
    """Brings the write-ahead log of a killed writer into the file; where a reader is in the way, it stays beside."""
    if not path.with_name(f"{path.name}-wal").exists():
        return
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as file, suppress(sqlite3.OperationalError):
        file.execute("PRAGMA journal_mode=DELETE")
