"""Turns what a person writes (a pair, a time) into what a store is asked for."""
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from onetape import venues
from onetape.clock import SECOND, rfc3339
from onetape.errors import UsageError
from onetape.model import InstrumentId
from onetape.nearest import nearest

if TYPE_CHECKING:
    from onetape.storage.lake import Lake

_LATEST = 1 << 63
_UNITS = ((11, SECOND), (14, 10**6), (17, 10**3), (19, 1))  # of an epoch time, by how many digits it has at most


def moment(text: str, option: str) -> int:
    """ns since the epoch, of a date or time in ISO 8601 (UTC where it names no zone) or of an epoch number.

    Raises UsageError.
    """
    try:
        time = _parse(text)
        if not -_LATEST < time < _LATEST - 1:
            raise ValueError("beyond what 64 bits hold in ns")
    except (ValueError, OverflowError) as error:
        wanted = "a date (2024-08-08), a time (2024-08-08T12:00:00Z) or an epoch number in s, ms, us or ns, before 2262"
        raise UsageError(f"{option} must be {wanted}: {text[:40]!r}") from error
    return time


def _parse(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text) * next((unit for digits, unit in _UNITS if len(text) <= digits), _LATEST)
    if text.endswith("Z") and len(text) >= 20:
        return rfc3339(text)
    time = datetime.fromisoformat(text)
    whole = time if time.tzinfo else time.replace(tzinfo=UTC)
    return int(whole.replace(microsecond=0).timestamp()) * SECOND + whole.microsecond * 1_000


def find(lake: "Lake", venue: str | None, pair: str | None) -> frozenset[InstrumentId] | None:
    """The instruments of a store that are meant; None: all of the venue. Raises UsageError: there is no such pair."""
    if venue is not None and all(it.venue != venue for it in lake.instruments()):
        venues.spec(venue)  # else one that somebody imported under a name of their own
    if pair is None:
        return None
    there = [it for it in lake.instruments() if venue in (None, it.venue)]
    found = frozenset(
        InstrumentId(it.venue, it.symbol) for it in there
        if pair in (it.pair, it.symbol) or (it.pair == it.symbol and _bare(it.symbol) == _bare(pair))
    )
    if not found:
        where = "" if venue is None else f" of {venue}"
        raise UsageError(f"the store has no pair {pair[:40]!r}{where}: {nearest(pair, {it.pair for it in there})}")
    return found


def _bare(text: str) -> str:
    """Letters and digits that a symbol and its pair have in common, where no instrument list tells which is which."""
    name = text.rpartition(":")[2].upper()
    return re.sub(r"[^A-Z0-9]", "", re.sub(r"[-_/](PERP|SWAP)$", "", name))
