"""Writes a file aside and puts it in place when it is whole: nobody ever sees half of it."""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onetape.errors import OneTapeError, UsageError
from onetape.storage.parquet import sync


@contextmanager
def written(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Where to write what becomes ``path`` at the end of the block; of a block that fails nothing is left.

    Raises UsageError: it is there already, or its folder cannot be written; OneTapeError: the disk takes no more.
    """
    refuse(path, force=force)
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb"):  # what a killed process left is gone with it
            pass
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield aside
        sync(aside)
        aside.replace(path)
        sync(path.parent)
    except OSError as error:
        raise OneTapeError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        aside.unlink(missing_ok=True)


def refuse(path: Path, *, force: bool) -> None:
    """Raises UsageError: it may not be written."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file, or end the name with / for a file of each instrument")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file that can be replaced: name another")
    if any((it / "journal").is_dir() for it in path.absolute().resolve().parents):
        raise UsageError(f"{path} lies within a store, which is written by OneTape alone: name another place")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: name another file, or say --force to replace it")


def folder(path: Path) -> None:
    """Makes it, if it is not there. Raises UsageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be made: {error.strerror or error}") from error
