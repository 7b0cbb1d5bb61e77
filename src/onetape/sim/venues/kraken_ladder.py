"""One Kraken book as subscribers see it: the best so many levels of a side, and what must be told of a change."""
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from sys import maxsize
from zlib import crc32

from onetape.sim.base import Change
from onetape.sim.truth import Truth
from onetape.sim.venues.kraken_frames import level

CHECKSUM_DEPTH = 10
EVERYWHERE = maxsize  # where a view ends that holds the whole side

Row = Callable[[int, int], str]
"""Of a price and a size."""


class Ladder:
    """Kept from one change to the next: no message costs more than what changed, however deep the book.

    All depths share one pair of sorted sides. A depth is only a place in them where its view ends; what left the view
    by being pushed out is not told, what came into it because others left is (section 5.5, rule 4).
    """

    def __init__(self, truth: Truth) -> None:
        self.sequence = truth.sequence
        row: Row = lambda price, size: level(truth, price, size)
        units = _mantissa(truth.listing.tick), _mantissa(truth.listing.lot)
        self.bids = _Side(truth.bids(0), -1, row, units)
        self.asks = _Side(truth.asks(0), 1, row, units)

    def move(self, changes: Iterable[Change], depths: Sequence[int]) -> list[tuple[str, str]]:
        """Bids and asks to be told at each of these depths; changes that the ladder began with are passed over."""
        bids: dict[int, int] = {}
        asks: dict[int, int] = {}
        for change in changes:
            if change.sequence <= self.sequence:
                continue
            self.sequence = change.sequence
            if change.bid:
                bids[-change.price] = change.size
            else:
                asks[change.price] = change.size
        nothing = [""] * len(depths)
        told_bids = self.bids.move(bids, depths) if bids else nothing
        told_asks = self.asks.move(asks, depths) if asks else nothing
        return list(zip(told_bids, told_asks, strict=True))

    def checksum(self) -> int:
        """Of the top ten: asks before bids, each from the best on (section 5.6)."""
        return crc32((self.asks.head() + self.bids.head()).encode())

    def snapshot(self, depth: int) -> tuple[str, str]:
        return self.bids.snapshot(depth), self.asks.snapshot(depth)

    def top(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Price and size of the best bid and ask; zeros where there is none."""
        return self.bids.top(), self.asks.top()


class _Side:
    """Keys ascend from the best level on: prices of asks, negated prices of bids."""

    def __init__(self, levels: Iterable[tuple[int, int]], sign: int, row: Row, units: tuple[int, int]) -> None:
        self._sizes = {sign * price: size for price, size in levels}
        self._keys = sorted(self._sizes)
        self._sign, self._row = sign, row
        self._price_units, self._size_units = sign * units[0], units[1]
        self._head = ""

    def move(self, final: dict[int, int], depths: Sequence[int]) -> list[str]:
        """``final``: sizes by key, 0 for gone. What to tell at each depth."""
        ends = [self._end(depth) for depth in depths]
        if min(final) <= self._end(CHECKSUM_DEPTH):
            self._head = ""
        told = self._apply(final)
        return [self._changes(told, final, end, depth) for end, depth in zip(ends, depths, strict=True)]

    def head(self) -> str:
        """The side's part of what is summed: written anew only if the top ten changed.

        The digits of a number without its point and leading zeros are the integer that it is in units of the last.
        """
        if not self._head:
            sizes, price, size = self._sizes, self._price_units, self._size_units
            self._head = "".join([f"{key * price}{sizes[key] * size}" for key in self._keys[:CHECKSUM_DEPTH]])
        return self._head

    def snapshot(self, depth: int) -> str:
        return ",".join(map(self._text, self._keys[:depth]))

    def top(self) -> tuple[int, int]:
        return (self._sign * self._keys[0], self._sizes[self._keys[0]]) if self._keys else (0, 0)

    def _end(self, depth: int) -> int:
        return self._keys[depth - 1] if len(self._keys) >= depth else EVERYWHERE

    def _text(self, key: int) -> str:
        return self._row(self._sign * key, self._sizes[key])

    def _apply(self, final: dict[int, int]) -> list[int]:
        """The keys that changed indeed: a level that came and went within one happening was never there."""
        keys, sizes = self._keys, self._sizes
        told = []
        for key, size in final.items():
            if size:
                if key not in sizes:
                    insort(keys, key)
                sizes[key] = size
            elif sizes.pop(key, 0):
                del keys[bisect_left(keys, key)]
            else:
                continue
            told.append(key)
        return told

    def _changes(self, told: list[int], final: dict[int, int], before: int, depth: int) -> str:
        """What left is told if it was in view, what is there if it is in view now."""
        now = self._end(depth)
        rows = [self._row(self._sign * key, final[key]) for key in told if key <= (now if final[key] else before)]
        if now > before:
            came = self._keys[bisect_right(self._keys, before):depth]
            rows += [self._text(key) for key in came if key not in final]
        return ",".join(rows)


def _mantissa(step: Decimal) -> int:
    """5 of a tick of 0.5: nearly always 1, as Kraken's steps are powers of ten."""
    return int("".join(map(str, step.as_tuple().digits)))
