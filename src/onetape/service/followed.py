"""How far PostgreSQL is with a store: as a value, and as a file in the store that other processes read."""
from pathlib import Path

import msgspec
from msgspec import Struct

FILE = "postgres.json"


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


def read(store: Path) -> Following | None:
    """As it was told last; None: nobody follows this store, or none that can be read."""
    try:
        return msgspec.json.decode((store / FILE).read_bytes(), type=Following)
    except (OSError, msgspec.MsgspecError):
        return None
