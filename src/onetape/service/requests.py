"""What is asked of a store's tapes, as files in the store: whoever writes it does them, and deletes what is done.

So a request outlives whoever made it and whoever does it. A file is written aside and renamed: it is there whole or not
at all.
"""
import hashlib
import re
from pathlib import Path

import msgspec
from msgspec import Struct

from onetape.errors import UsageError

FOLDER = "requests"
MOST = 1_000
"""That stand at a time; further ones are refused."""


class Asked(Struct, frozen=True, forbid_unknown_fields=True):
    """The trades of one pair at one venue, or its candles, from ``start`` to before ``end``, ns."""

    venue: str
    pair: str
    """As it was written: the pair, or the venue's own symbol."""
    start: int
    end: int
    interval: str = ""
    """Of the venue's own candles; empty: trades."""

    @property
    def id(self) -> str:
        """The same for the same wish: to ask twice is to ask once."""
        name = re.sub(r"[^A-Za-z0-9]+", "-", f"{self.venue}-{self.pair}")[:60]
        return f"{name}-{hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:10]}"


_decode = msgspec.json.Decoder(Asked).decode


def put(store: Path, asked: Asked) -> None:
    """Raises UsageError: the store cannot be written, or too much is asked of it."""
    folder = store / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if len(list(folder.glob("*.json"))) >= MOST:
            raise UsageError(f"{MOST} requests wait in {folder}: withdraw some with --cancel")
        new = folder / f".{asked.id}"
        new.write_bytes(msgspec.json.encode(asked))
        new.replace(path_of(store, asked.id))
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error


def path_of(store: Path, id: str) -> Path:
    return store / FOLDER / f"{id}.json"


def standing(store: Path) -> dict[str, Asked]:
    """By id. What cannot be read is set aside, under another ending."""
    found = {}
    for path in sorted((store / FOLDER).glob("*.json")):
        try:
            found[path.stem] = _decode(path.read_bytes())
        except msgspec.MsgspecError:
            path.replace(path.with_suffix(".unreadable"))
        except FileNotFoundError:  # withdrawn meanwhile
            continue
    return found


def withdraw(store: Path, id: str) -> bool:
    """False: it did not stand."""
    try:
        path_of(store, id).unlink()
    except FileNotFoundError:
        return False
    return True
