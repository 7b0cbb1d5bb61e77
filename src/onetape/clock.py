"""Time is an integer count of nanoseconds since the epoch, UTC, everywhere."""
from datetime import UTC, datetime
from functools import lru_cache

MICROSECOND = 1_000
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def rfc3339(text: str) -> int:
    """``2026-07-10T00:00:00.123456789Z`` to ns, without going through a float. Raises ValueError.

    Python's own parser drops what is finer than a microsecond: hence the fraction is read apart.
    """
    if len(text) < 20 or text[-1] != "Z":
        raise ValueError(f"not an RFC 3339 time in UTC: {text[:40]!r}")
    whole, _, fraction = text[:-1].partition(".")
    if fraction and not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f"not an RFC 3339 time in UTC: {text[:40]!r}")
    return _whole_seconds(whole) * SECOND + int(fraction.ljust(9, "0")[:9] or 0)


@lru_cache(maxsize=64)  # the second changes rarely compared with the frames within it
def _whole_seconds(text: str) -> int:
    seconds = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    if seconds >= 2**63 // SECOND:
        raise ValueError(f"a time beyond what 64 bits hold in ns: {text[:40]!r}")
    return seconds


def decimal_seconds(text: str) -> int:
    """``1628952395.799805`` (seconds as decimal text) to ns, exactly. Raises ValueError."""
    whole, _, fraction = text.strip().partition(".")
    if not (whole + fraction).isdigit():
        raise ValueError(f"not a time in seconds: {text[:40]!r}")
    return int(whole) * SECOND + int(fraction.ljust(9, "0")[:9] or 0)


def interval_ns(name: str) -> int:
    """Length of a candle interval: ``1s``, ``5m``, ``4h``, ``1d``, ``1w``. Raises ValueError.

    Months (``1M``, ``3M``) have no fixed length and no place here: the venues' own monthly candles carry both ends.
    """
    number, unit = name[:-1], name[-1:]
    if not number.isdigit() or unit not in _UNITS:
        raise ValueError(f"not a candle interval: {name!r}")
    return int(number) * _UNITS[unit]


def month_end(start: int, months: int = 1) -> int:
    """End of the calendar month(s) that begin at ``start`` (both ns)."""
    day = datetime.fromtimestamp(start // SECOND, UTC)
    index = day.year * 12 + day.month - 1 + months
    return int(datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC).timestamp()) * SECOND


def isoformat(time: int) -> str:
    """ns to ``2026-07-10T00:00:00.123456789Z``."""
    return f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%dT%H:%M:%S}.{time % SECOND:09d}Z"
