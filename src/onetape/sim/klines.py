"""Sums the matches of one instrument by the minute, and gives them out as candles of any length."""
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from onetape.clock import MINUTE
from onetape.sim.base import Match


class Kline(Struct, gc=False):
    """What was traded in one interval. Prices in ticks, volumes in lots, quote volumes in ticks times lots."""

    start: int
    """ns since the epoch, inclusive."""
    open: int
    high: int
    low: int
    close: int
    volume: int
    quote: int
    trades: int
    taker_volume: int
    """Of the matches whose taker bought; so is ``taker_quote``."""
    taker_quote: int
    first_id: int
    last_id: int

    def add(self, it: Match) -> None:
        """The next match after those summed."""
        quote = it.price * it.size
        self.high, self.low = max(self.high, it.price), min(self.low, it.price)
        self.close, self.last_id = it.price, it.id
        self.volume += it.size
        self.quote += quote
        self.trades += 1
        if it.buy:
            self.taker_volume += it.size
            self.taker_quote += quote

    def merge(self, later: "Kline") -> None:
        """The interval that follows."""
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.close, self.last_id = later.close, later.last_id
        self.volume += later.volume
        self.quote += later.quote
        self.trades += later.trades
        self.taker_volume += later.taker_volume
        self.taker_quote += later.taker_quote


class Minutes:
    """The minutes in which anything was traded, oldest first: bounded, and the only sums that are kept."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._minutes: list[Kline] = []

    def add(self, it: Match) -> None:
        start = it.time - it.time % MINUTE
        if self._minutes and self._minutes[-1].start == start:
            self._minutes[-1].add(it)
            return
        self._minutes.append(_begun(start, it))
        if len(self._minutes) > 2 * self._bound:
            del self._minutes[:self._bound]

    def between(self, start: int, end: int) -> list[Kline]:
        """Those that begin in [start, end), not to be changed."""
        first = bisect_left(self._minutes, start, key=_start)
        return self._minutes[first:bisect_left(self._minutes, end, first, key=_start)]


def by_interval(minutes: Iterable[Kline], length: int) -> list[Kline]:
    """Whole minutes merged into intervals of this length, a multiple of a minute."""
    out: list[Kline] = []
    for it in minutes:
        start = it.start - it.start % length
        if out and out[-1].start == start:
            out[-1].merge(it)
        else:
            out.append(structs.replace(it, start=start))
    return out


def of_matches(matches: Iterable[Match], length: int) -> list[Kline]:
    """Intervals of any length, from the matches themselves, which come in order."""
    out: list[Kline] = []
    for it in matches:
        start = it.time - it.time % length
        if out and out[-1].start == start:
            out[-1].add(it)
        else:
            out.append(_begun(start, it))
    return out


def merged(klines: Sequence[Kline]) -> Kline | None:
    """All of them as one; None if there are none."""
    if not klines:
        return None
    whole = structs.replace(klines[0])
    for it in klines[1:]:
        whole.merge(it)
    return whole


def _begun(start: int, it: Match) -> Kline:
    quote = it.price * it.size
    bought = (it.size, quote) if it.buy else (0, 0)
    return Kline(start, it.price, it.price, it.price, it.price, it.size, quote, 1, *bought, it.id, it.id)


def _start(it: Kline) -> int:
    return it.start
