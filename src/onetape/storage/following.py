"""The journal as its readers beside the lake see it: portions of whole batches, in order, from a position on."""
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec
from msgspec import Struct

from onetape.errors import UsageError
from onetape.storage.catalog import Compacted, read_catalog
from onetape.storage.damage import damages
from onetape.storage.journal import POSITIONS, end_of, files, writers
from onetape.storage.sealed import open_sound

ROWS = 20_000
"""Of a portion, unless a single batch has more."""
IDENTITY = "identity"


class Portion(Struct, frozen=True):
    """Batches of one file that follow one another; their rows lie above ``after``, and up to ``until``."""

    path: Path
    writer: str
    after: int
    until: int
    first: int
    """The number of the first of them."""
    committed_at: int
    """When the last of them was committed, ns."""
    counts: Counter[str]
    """Rows by table."""


class Waiting(Struct, frozen=True):
    """What a reader does not have yet."""

    rows: int
    since: int
    """When the oldest of it was committed, ns; 0: nothing waits."""


def identity(store: Path) -> str:
    """What tells this store from any other, also from one that had its folder before; made with the first question.

    Raises UsageError: it cannot be written.
    """
    path = store / IDENTITY
    try:
        if not path.exists():
            new = path.with_name(f".{IDENTITY}.{uuid4().hex}")
            with new.open("w") as file:
                file.write(f"{uuid4()}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(new)  # whoever comes second keeps what the first one wrote
            except FileExistsError:
                pass
            except OSError:  # a file system without links
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)
        text = path.read_text().strip()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    if not text:
        raise UsageError(f"{path} is empty: put back a copy of it, or remove it to begin as another store")
    return text


def writers_of(store: Path) -> list[str]:
    """Those that the journal has files of."""
    return [it.name for it in writers(store) if files(it)]


def is_of(store: Path, writer: str, position: int, committed_at: int) -> bool:
    """The batch that ends at a position is the one that was committed then, as far as it can still be told.

    It is not where the store was put back from an older copy: then its numbers are used a second time.
    """
    batch = (position + 1 >> POSITIONS) - 1
    folder = store / "journal" / writer
    found = [it for it in files(folder) if int(it.stem) <= batch]
    for path in found[-1:]:
        with closing(open_sound(path)) as file:
            row = file.execute("SELECT committed_at FROM batches WHERE batch = ?", (batch,)).fetchone()
        if row is not None:
            return bool(row[0] == committed_at)
    with read_catalog(store) as catalog:
        compacted = catalog.compacted() if catalog is not None else []
    return any(it.writer == writer and it.first_batch <= batch <= it.last_batch for it in compacted) or any(
        it.first_batch <= batch for it in damages(folder))  # set aside with what it had


def in_lake_alone(store: Path, writer: str, position: int) -> list[Compacted]:
    """Files behind a position that are gone from the journal, because the lake has them."""
    held = {int(it.stem) for it in files(store / "journal" / writer)}
    with read_catalog(store) as catalog:
        compacted = catalog.compacted() if catalog is not None else []
    return [
        it for it in compacted
        if it.writer == writer and end_of(it.last_batch) > position and it.first_batch not in held
    ]


def next_portion(store: Path, writer: str, position: int, rows: int = ROWS) -> Portion | None:
    """The first batches behind a position; None: there are none yet."""
    found = files(store / "journal" / writer)
    wanted = (position + 1 >> POSITIONS) - 1  # the last batch that the reader has all of
    begun = [it for it in found if int(it.stem) <= wanted + 1]
    for path in [*begun[-1:], *found[len(begun):]]:  # behind a damaged file the next one goes on
        try:
            portion = _portion(path, writer, position, rows)
        except sqlite3.OperationalError:
            if path.exists():
                raise
            return next_portion(store, writer, position, rows)  # compacted, and gone meanwhile
        if portion is not None:
            return portion
    return None


def _portion(path: Path, writer: str, position: int, rows: int) -> Portion | None:
    counts: Counter[str] = Counter()
    first = last = at = 0
    with closing(open_sound(path)) as file:
        for batch, committed_at, told in _batches(file, position):
            first, last, at = first or batch, batch, committed_at
            counts.update(told)
            if counts.total() >= rows:
                break
    return Portion(path, writer, position, end_of(last), first, at, counts) if last else None


def waiting(store: Path, position_of: dict[str, int]) -> Waiting:
    """Of all writers, beyond the position of each."""
    rows, since = 0, 0
    for folder in writers(store):
        position = position_of.get(folder.name, 0)
        wanted = (position + 1 >> POSITIONS) - 1
        found = files(folder)
        begun = [it for it in found if int(it.stem) <= wanted + 1]
        for path in [*begun[-1:], *found[len(begun):]]:
            with closing(open_sound(path)) as file:
                for _, committed_at, told in _batches(file, position):
                    rows += told.total()
                    since = min(since or committed_at, committed_at)
    return Waiting(rows, since)


def _batches(file: sqlite3.Connection, position: int) -> Iterator[tuple[int, int, Counter[str]]]:
    """Those behind a position: number, when it was committed, rows by table."""
    sql = "SELECT batch, committed_at, counts FROM batches WHERE batch > ? ORDER BY batch"
    for batch, committed_at, counts in file.execute(sql, ((position + 1 >> POSITIONS) - 1,)):
        yield batch, committed_at, Counter(msgspec.json.decode(counts, type=dict[str, int]))


@contextmanager
def reading(it: Portion) -> Iterator[sqlite3.Connection]:
    """The file of a portion, as of one moment; raises FileNotFoundError: the lake has it now, and the journal not."""
    if not it.path.exists():
        raise FileNotFoundError(it.path)
    with closing(open_sound(it.path)) as file:
        file.execute("BEGIN")
        yield file
