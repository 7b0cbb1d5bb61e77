"""What rows of any format have in common: how their fields are read, and refused."""
import csv
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

from msgspec import Struct

from onetape.clock import DAY, MICROSECOND, MILLISECOND
from onetape.errors import BadFrame, UsageError
from onetape.model import Channel, Event, InstrumentId, Trade
from onetape.model.numbers import BadNumber, number
from onetape.storage.formats.source import Lines
from onetape.tape.validation import BEYOND, EARLIEST, impossible
from onetape.venues import VENUES
from onetape.venues.base import whole

REFUSALS = (BadNumber, BadFrame, ValueError)
"""What a field that cannot be read raises."""
MOST_MS = 10**14
"""Of a time in milliseconds; what is more is in microseconds."""


class Wanted(Struct, frozen=True):
    """What is known of a file beside its rows."""

    path: Path
    today: int
    """ns; no row is of a later day."""
    venue: str | None = None
    symbol: str | None = None
    channel: Channel | None = None
    """Of trades whose layout does not say it."""


Read = Callable[[Lines, Wanted], Iterator[tuple[int, Event]]]
"""The rows behind the head, to events and the numbers of their (last) lines."""


def bad(wanted: Wanted, line: int, error: object) -> UsageError:
    """A row that is refused."""
    return UsageError(f"{wanted.path} line {line}: {' '.join(str(error).split())[:300]}")


def fields(line: str, count: int) -> list[str]:
    """Raises ValueError."""
    found = columns(line)
    if len(found) != count:
        raise ValueError(f"{len(found)} columns, not {count}")
    return found


def columns(line: str) -> list[str]:
    """Raises ValueError."""
    if '"' not in line:  # as nearly all are
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(f"not quoted as in CSV: {error}") from error


def micros(text: str, today: int) -> int:
    """A time in us as ns. Raises ValueError."""
    return _possible(whole(text) * MICROSECOND, text, today)


def millis_or_micros(text: str, today: int) -> int:
    """A time in ms or us, as its size tells, as ns. Raises ValueError."""
    value = whole(text)
    return _possible(value * (MILLISECOND if value < MOST_MS else MICROSECOND), text, today)


def _possible(time: int, text: str, today: int) -> int:
    if not EARLIEST <= time <= today + DAY:
        raise ValueError(f"an absurd time: {text}")
    return time


def plain(text: str) -> str:
    """Of a venue that never writes an exponent. Raises ValueError."""
    if "e" in text or "E" in text:
        raise ValueError(f"no number has an exponent here: {text[:60]}")
    return text


def held(text: str) -> Decimal:
    """A number that every store holds. Raises ValueError."""
    value = number(text)
    if value >= BEYOND:
        raise ValueError(f"more than any store holds: {text[:60]}")
    return value


def checked(trade: Trade, today: int) -> Trade:
    """Raises ValueError: it cannot be true."""
    reason = impossible(trade, today=today)
    if reason:
        raise ValueError(reason)
    return trade


def after(id: InstrumentId, trade_id: str) -> int | None:
    """The id before, where the venue's are consecutive."""
    venue = VENUES.get(id.venue)
    if venue is None or not venue.spec.counted_trades or not (trade_id.isascii() and trade_id.isdecimal()):
        return None
    return whole(trade_id) - 1
