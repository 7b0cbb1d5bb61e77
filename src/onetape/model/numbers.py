"""Exact decimals from the text of the wire, refused where they are not plain non-negative numbers."""
import re
from decimal import Decimal
from functools import lru_cache

MAX_DIGITS = 28  # Decimal's default precision: arithmetic on more would round without a word
MAX_FRACTION = 18  # digits behind the point, what a DECIMAL(38, 18) of the stores takes
MAX_LEVEL_DIGITS = 18  # what an int64 mantissa always holds

_NUMBER = re.compile(r"(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,2}))?", re.ASCII)

_SHORT = re.compile(r"\d{1,10}(?:\.\d{1,8})?", re.ASCII)  # within every limit


class BadNumber(ValueError):
    """Not a number that a price or a size can be."""


def _parse(text: str, most: int) -> Decimal:
    """``most`` digits, those zeros that end a fraction not counted: 12345678901.00000000 has eleven."""
    if _SHORT.fullmatch(text) is not None:  # nearly all: three times as fast as counting their digits
        return Decimal(text)
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadNumber(f"not a plain non-negative decimal: {text[:60]!r}")
    whole, fraction, exponent = match[1].lstrip("0"), match[2] or "", int(match[3] or 0)
    before, behind = max(len(whole) + exponent, 0), max(len(fraction) - exponent, 0)
    telling = before + max(len(fraction.rstrip("0")) - exponent, 0)
    if behind > MAX_FRACTION or before + behind > MAX_DIGITS or telling > most:
        raise BadNumber(f"more than {most} digits, or {MAX_FRACTION} behind the point: {text[:60]!r}")
    return Decimal(text)


@lru_cache(maxsize=8_192)  # the same prices and sizes come again and again: 0.05 us instead of 1
def number(text: str) -> Decimal:
    """The exact value of a price, size or volume; keeps the digits as written (``0.10`` stays ``0.10``).

    Raises BadNumber on a sign, NaN, infinity, spaces, underscores, more than 28 digits or 18 behind the point.
    """
    return _parse(text, MAX_DIGITS)


@lru_cache(maxsize=16_384)
def level_number(text: str) -> Decimal:
    """As ``number``, for a price or size in a book: at most 18 digits."""
    return _parse(text, MAX_LEVEL_DIGITS)


REFERENCE = number, level_number
try:
    from onetape.model import _numbers

    _compiled = _numbers.number, _numbers.level_number
except (ImportError, AttributeError):  # as in book/__init__.py
    COMPILED = False
else:
    COMPILED = True
    number, level_number = _compiled


def positive(text: str) -> Decimal:
    """As ``number``, and more than zero: the price or size of a trade. Raises BadNumber."""
    value = number(text)
    if not value:
        raise BadNumber(f"must be more than zero: {text[:60]!r}")
    return value


def signed(text: str) -> Decimal:
    """As ``number``, with an optional sign: a change. Raises BadNumber."""
    return -number(text[1:]) if text[:1] == "-" else number(text)


def optional(text: str | None) -> Decimal | None:
    """As ``number``; None where the venue says nothing (absent, null, or the empty text)."""
    return number(text) if text else None


def optional_signed(text: str | None) -> Decimal | None:
    """As ``signed``; None where the venue says nothing."""
    return signed(text) if text else None


def plain(value: Decimal) -> str:
    """Decimal text without an exponent, digits as they came."""
    return format(value, "f")
