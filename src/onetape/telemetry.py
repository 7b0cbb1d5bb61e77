"""Counts and distributions that cost next to nothing to keep."""
from onetape.clock import MICROSECOND

_FINE = 5  # bits below the leading one that tell two buckets apart: 3 % wide
_BUCKETS = 64 << _FINE


class Distribution:
    """Of times in ns: buckets 3 % wide, whatever the number of values. What is negative is counted and taken as 0."""

    __slots__ = ("_buckets", "count", "negative")

    def __init__(self) -> None:
        self.count = self.negative = 0
        self._buckets = [0] * _BUCKETS

    def add(self, value: int) -> None:
        self.count += 1
        if value < 0:
            self.negative += 1
            value = 0
        value //= MICROSECOND
        shift = value.bit_length() - _FINE - 1
        index = value if shift <= 0 else (shift << _FINE) + (value >> shift)
        self._buckets[index if index < _BUCKETS else _BUCKETS - 1] += 1

    def quantile(self, share: float) -> int | None:
        """ns, to 3 %; None without values."""
        rank = share * self.count
        seen = 0
        for index, many in enumerate(self._buckets):
            seen += many
            if many and seen >= rank:
                shift = max((index >> _FINE) - 1, 0)
                return (index - (shift << _FINE) << shift) * MICROSECOND
        return None
