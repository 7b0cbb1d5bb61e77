"""How far PostgreSQL is with a store: as a value, and as a file in the store that other processes read."""
import sqlite3
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.storage.following import waiting

FILE = "postgres.json"
READER, SENT = READERS = ("postgres", "postgres (sent)")
"""Of the journal: what the database has, and what was on its way. The journal keeps what either has not."""
SILENT_NS = 5 * SECOND  # it tells of itself every second, whatever there is to do


class Following(Struct):
    """How far PostgreSQL is, as a file in the store tells it to other processes. Times in ns."""

    url: str
    """Without its password."""
    state: str = "connecting"
    """``connecting``, ``following``, or ``away``: the server takes nothing, for the reason given."""
    reason: str = ""
    pid: int = 0
    at: int = 0
    stored: dict[str, int] = {}
    """Rows by table that this process has brought."""
    positions: dict[str, int] = {}
    """By writer: up to where its journal is stored."""
    waiting: int = 0
    """Rows that are in the journal and not yet there."""
    lag_ns: int = 0
    """How long the oldest of them has waited."""
    refused: int = 0
    """Rows that no table takes, set aside in the table ``refused``."""
    failures: int = 0
    """In a row."""


def write(it: Following, store: Path) -> None:
    """Whole or not at all. Raises OSError."""
    new = store / f".{FILE}.{it.pid}"
    new.write_bytes(msgspec.json.encode(it))
    new.replace(store / FILE)


def read(store: Path, now: int) -> Following | None:
    """As it was told last, ``now`` being in ns; None: nobody follows this store, or none that can be read."""
    try:
        it = msgspec.json.decode((store / FILE).read_bytes(), type=Following)
    except (OSError, msgspec.MsgspecError):
        return None
    if it.state == "following" and now - it.at > SILENT_NS:
        it.state, it.reason = "away", f"nothing was heard of it for {(now - it.at) // SECOND} s"
    return it


def counted(it: Following, store: Path, now: int) -> Following:
    """With what waits in the journal now; after hours without a server that takes a moment."""
    with suppress(OSError, sqlite3.Error, UsageError):  # the store tells by itself what is wrong with it
        left = waiting(store, it.positions)
        it.waiting, it.lag_ns = left.rows, max(now - left.since, 0) if left.rows else 0
    return it
