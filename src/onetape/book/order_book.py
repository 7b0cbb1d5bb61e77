"""The resting orders of one instrument, by price level: the reference in pure Python."""
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from decimal import Decimal
from heapq import merge
from itertools import islice

from msgspec import Struct

from onetape.model import BadLevels, Level, Levels
from onetape.model.numbers import MAX_DIGITS


Merged = tuple[Decimal, Decimal, int]
"""(price, size), and the place of the book that it comes from."""
Whole = tuple[list[Level], Decimal | None]
"""All levels of a side, and its edge."""


class Window(Struct, frozen=True):
    """How much of a book is held."""

    depth: int = 0
    """Levels per side that somebody wants to see; 0: all there are."""
    resends: bool = False
    """The venue cuts its stream at a depth of its own, and sends a level again when it comes back into it."""

    def keep(self, cut_at: int) -> int:
        """Levels per side to hold; 0: all. What a venue never resends is kept well beyond what is wanted."""
        if self.resends:
            return cut_at
        return max(4 * self.depth, 1_000) if self.depth else 0


class _Side:
    """Sizes by price, and the prices in ascending order. Faster here than a sorted dict.

    ``edge`` is the worst price up to which every level is known. A level beyond it may be true, but others between
    may be missing: it is never shown as liquidity.
    """

    __slots__ = ("bids", "edge", "orphans", "prices", "sizes")

    def __init__(self, *, bids: bool) -> None:
        self.bids = bids
        self.prices: list[Decimal] = []
        self.sizes: dict[Decimal, Decimal] = {}
        self.edge: Decimal | None = None
        self.orphans = 0

    def replace(self, levels: list[Level], cut_at: int) -> None:
        self.sizes = {price: size for price, size in levels if size}
        self.prices = sorted(self.sizes)
        cut = cut_at and len(self.prices) >= cut_at
        self.edge = self.prices[0 if self.bids else -1] if cut else None

    def apply(self, levels: list[Level]) -> None:
        sizes, prices = self.sizes, self.prices
        for price, size in levels:
            if size:
                if price not in sizes:
                    insort(prices, price)
                sizes[price] = size
            elif price in sizes:
                del sizes[price], prices[bisect_left(prices, price)]
            else:  # venues do remove levels that they never sent: normal, but worth counting
                self.orphans += 1

    def truncate(self, keep: int) -> None:
        """Keeps the best ``keep``; what goes will be sent again when it counts."""
        if len(self.prices) > keep:
            self._drop(slice(0, len(self.prices) - keep) if self.bids else slice(keep, None))

    def cut(self, keep: int) -> None:
        """Keeps the best ``keep`` inside the edge; what goes will never be sent again, so the edge moves in."""
        if self.edge is not None:
            beyond = slice(0, bisect_left(self.prices, self.edge))
            if not self.bids:
                beyond = slice(bisect_right(self.prices, self.edge), None)
            self._drop(beyond)
        if len(self.prices) > keep:
            self.truncate(keep)
            self.edge = self.prices[0 if self.bids else -1]

    def _drop(self, worst: slice) -> None:
        for price in self.prices[worst]:
            del self.sizes[price]
        del self.prices[worst]

    def known(self) -> int:
        """Number of levels inside the edge."""
        if self.edge is None:
            return len(self.prices)
        if self.bids:
            return len(self.prices) - bisect_left(self.prices, self.edge)
        return bisect_right(self.prices, self.edge)

    def take_over(self, levels: list[Level], edge: Decimal | None) -> None:
        """Best first."""
        self.sizes = dict(levels)
        self.prices = sorted(self.sizes)
        self.edge = edge

    def best(self, depth: int) -> list[Level]:
        if depth < 0:
            raise ValueError(f"a depth of {depth}")
        known = self.known()
        depth = min(depth or known, known)
        if not depth:
            return []
        prices = self.prices[: -depth - 1 : -1] if self.bids else self.prices[:depth]
        return [(price, self.sizes[price]) for price in prices]


class OrderBook:
    """Levels of both sides, exact, with the very digits of the wire.

    One writer (its BookSync); everybody else reads. ``replace`` and ``apply`` take a message whole or, raising
    BadLevels, not at all. A price keeps the digits with which it first came, a size those with which it last came.
    The compiled kernel fills this same interface.
    """

    def __init__(self, window: Window = Window()) -> None:  # noqa: B008 - frozen
        self.window = window
        self.required = (0, 0)
        """Levels (bids, asks) that have to stay inside the known edge."""
        self._keep = 0
        self._bids, self._asks = _Side(bids=True), _Side(bids=False)

    def replace(self, bids: Levels, asks: Levels, cut_at: int = 0) -> None:
        """Takes a snapshot, which the venue cut at ``cut_at`` levels per side (0: not at all). Raises BadLevels."""
        if cut_at < 0:
            raise BadLevels(f"cut at {cut_at} levels")
        new_bids, new_asks = bids.read(), asks.read()
        self._keep = max(self.window.keep(cut_at), 0)
        edge_at = 0 if self.window.resends else cut_at
        self._bids.replace(new_bids, edge_at)
        self._asks.replace(new_asks, edge_at)
        self._fit()

    def apply(self, bids: Levels, asks: Levels) -> bool:
        """Takes the changes of a delta, in their order. Raises BadLevels.

        True if all is well: not crossed, and at least ``required`` levels inside the edges.
        """
        new_bids, new_asks = bids.read(), asks.read()
        self._bids.apply(new_bids)
        self._asks.apply(new_asks)
        self._fit()
        return not self.crossed and not self.lacks

    def _fit(self) -> None:
        if not self._keep:
            return
        for side in (self._bids, self._asks):
            if self.window.resends:
                side.truncate(self._keep)
            else:
                side.cut(self._keep)

    def take_over(self, keep: int, bids: Whole, asks: Whole, orphans: int) -> None:
        """From a book that the compiled kernel cannot hold: levels best first, with the edge."""
        self._keep = keep
        self._bids.take_over(*bids)
        self._asks.take_over(*asks)
        self._bids.orphans = orphans

    def bids(self, depth: int = 0) -> list[Level]:
        """Best first, up to ``depth`` (0: all), never beyond the edge of what is known."""
        return self._bids.best(depth)

    def asks(self, depth: int = 0) -> list[Level]:
        """Best first, up to ``depth`` (0: all), never beyond the edge of what is known."""
        return self._asks.best(depth)

    @property
    def best_bid(self) -> Level | None:
        """None: there is none inside the edge."""
        return next(iter(self._bids.best(1)), None)

    @property
    def best_ask(self) -> Level | None:
        """None: there is none inside the edge."""
        return next(iter(self._asks.best(1)), None)

    def float64(self, depth: int = 0) -> "tuple[array[float], array[float], array[float], array[float]]":
        """Bid prices, bid sizes, ask prices, ask sizes, best first, as buffers of float64. Inexact by nature."""
        bids, asks = self.bids(depth), self.asks(depth)
        return (
            array("d", [float(price) for price, _ in bids]), array("d", [float(size) for _, size in bids]),
            array("d", [float(price) for price, _ in asks]), array("d", [float(size) for _, size in asks]),
        )

    def digits(self, depth: int, behind_price: int = 0, behind_size: int = 0) -> tuple[bytes, bytes]:
        """Of the best bids and asks, price and size of each one after the other, as venues sum them up.

        Without point and leading zeros, with so many digits behind the point, or as many as the finest of them has.
        """
        if not 0 <= behind_price <= MAX_DIGITS or not 0 <= behind_size <= MAX_DIGITS:
            raise ValueError(f"{behind_price} and {behind_size} digits behind the point")
        bids, asks = self.bids(depth), self.asks(depth)
        prices = _padded([price for price, _ in (*bids, *asks)], behind_price)
        sizes = _padded([size for _, size in (*bids, *asks)], behind_size)
        text = [price + size for price, size in zip(prices, sizes, strict=True)]
        return "".join(text[: len(bids)]).encode(), "".join(text[len(bids) :]).encode()

    @property
    def crossed(self) -> bool:
        """The best bid is at or above the best ask."""
        bids, asks = self._bids.prices, self._asks.prices
        return bool(bids and asks) and bids[-1] >= asks[0]

    @property
    def held(self) -> tuple[int, int]:
        """Number of levels (bids, asks) in memory, those beyond the edge included."""
        return len(self._bids.prices), len(self._asks.prices)

    @property
    def known(self) -> tuple[int | None, int | None]:
        """Number of levels (bids, asks) inside the edge; None where there is no edge: all are known."""
        return (
            None if self._bids.edge is None else self._bids.known(),
            None if self._asks.edge is None else self._asks.known(),
        )

    @property
    def lacks(self) -> bool:
        """Inside a known edge there are fewer levels than required."""
        bids, asks = self.required
        return (
            (self._bids.edge is not None and self._bids.known() < bids)
            or (self._asks.edge is not None and self._asks.known() < asks)
        )

    @property
    def orphans(self) -> int:
        """Removals of levels that were not there, since the book began."""
        return self._bids.orphans + self._asks.orphans


def merged(books: Iterable[OrderBook], depth: int = 0) -> tuple[list[Merged], list[Merged]]:
    """The bids and the asks of several books as one, best first, up to ``depth`` levels (0: all) of each side.

    Levels of one price stay apart, in the order of the books.
    """
    books = list(books)
    bids = merge(*([(*level, at) for level in book.bids(depth)] for at, book in enumerate(books)), key=_falling)
    asks = merge(*([(*level, at) for level in book.asks(depth)] for at, book in enumerate(books)), key=_rising)
    if depth < 0:
        raise ValueError(f"a depth of {depth}")
    most = depth or None
    return list(islice(bids, most)), list(islice(asks, most))


def _falling(it: Merged) -> Decimal:
    return it[0].copy_negate()  # minus would round to the caller's context


def _rising(it: Merged) -> Decimal:
    return it[0]


def _padded(values: list[Decimal], width: int) -> list[str]:
    parts = [format(it, "f").partition(".") for it in values]
    width = max([width, *(len(fraction) for _, _, fraction in parts)])
    return [(whole + fraction.ljust(width, "0")).lstrip("0") for whole, _, fraction in parts]
