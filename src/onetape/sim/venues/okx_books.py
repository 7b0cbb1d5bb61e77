"""The order book channels of one instrument of the simulated OKX (sections 5.4 and 5.6).

Their beats lie a ns before the full ms: what is told has all that bears its time, and nothing that bears it is to come.
"""
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Happening
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Level, Truth
from onetape.sim.venues import okx_frames as frames
from onetape.sim.venues.okx_frames import RPI, Paper

VENUE = "okx"
DEPTHS = {"bbo-tbt": 1, "books": 400, RPI: 400, "books5": 5}
"""Levels a side, in the order in which they are pushed on a connection."""
PERIODS = {"bbo-tbt": 10 * MILLISECOND, "books": 100 * MILLISECOND, RPI: 100 * MILLISECOND, "books5": 100 * MILLISECOND}
REPEAT = MINUTE
"""What does not change is told again after this time, so that silence means something."""
SHOWN = 400


class Window:
    """The best levels of one side, as told last."""

    def __init__(self, truth: Truth, *, bid: bool, depth: int = SHOWN) -> None:
        self._truth, self._bid, self._depth = truth, bid, depth
        self.levels: dict[int, int] = {}
        self._worst = 0

    def begin(self) -> None:
        self.levels = dict(self._truth.bids(self._depth) if self._bid else self._truth.asks(self._depth))
        self._worst = next(reversed(self.levels), 0)

    def follow(self, touched: Iterable[int]) -> list[Level]:
        """Sizes that changed, the best first; 0 for what is there no more, or no more among those shown (recordings).

        Besides the prices that were touched, only those between the worst that was shown and the worst that is can
        have come or gone.
        """
        prices = self._truth.prices(self._bid)
        if self._bid:
            first, last = max(len(prices) - self._depth, 0), len(prices)
            before, now = bisect_left(prices, self._worst), first
        else:
            first, last = 0, min(self._depth, len(prices))
            before, now = bisect_right(prices, self._worst), last
        changed: list[Level] = []
        for price in sorted({*touched, *prices[min(before, now):max(before, now)]}, reverse=self._bid):
            shown = first < last and prices[first] <= price <= prices[last - 1]
            size = self._truth.size(self._bid, price) if shown else 0
            if size != self.levels.get(price, 0):
                changed.append((price, size))
        for price, size in changed:
            if size:
                self.levels[price] = size
            else:
                del self.levels[price]
        if first < last:
            self._worst = prices[first if self._bid else last - 1]
        return changed

    def best_first(self) -> list[Level]:
        return sorted(self.levels.items(), reverse=self._bid)


class Book:
    """A snapshot, then what changes. All who listen hear the same numbers; while nobody does it stands still."""

    channel = "book"

    def __init__(self, paper: Paper, name: str, phase: int, faults: Faults) -> None:
        self.name, self.rank = name, list(DEPTHS).index(name)
        self._paper, self._truth, self._faults, self._phase = paper, paper.truth, faults, phase
        self._bids, self._asks = Window(paper.truth, bid=True), Window(paper.truth, bid=False)
        self._seen = self._number = -1
        self._sent = 0

    def begin(self, now: int) -> None:
        """Nobody has listened until now."""
        self._seen, self._sent = -1, now

    def moved(self, it: Happening) -> bool:
        return bool(it.changes)

    def next(self, now: int, *, moved: bool) -> int | None:
        repeat = self._sent + REPEAT
        return min(repeat, _beat_after(now, self._phase, PERIODS[self.name])) if moved else repeat

    def beat(self, now: int, skew: int) -> list[bytes]:
        seen, self._seen = self._seen, self._truth.sequence
        if seen < 0:
            self._bids.begin()
            self._asks.begin()
            self._sent, self._number = now, self._paper.number(self._seen)
        elif seen < self._seen:
            changes = self._truth.changes_since(seen)
            bids = self._bids.follow(it.price for it in changes if it.bid)
            asks = self._asks.follow(it.price for it in changes if not it.bid)
            if bids or asks:
                return [self._tell((bids, asks), self._paper.number(self._seen), now, skew)]
        return [self._tell(([], []), self._number, now, skew)] if now - self._sent >= REPEAT else []

    def whole(self, now: int, skew: int) -> bytes:
        """As told last; what a cache out of order gives is of long ago, and joins nothing."""
        stale = self._faults.active(FaultKind.STALE_SNAPSHOT, VENUE, now, self._paper.symbol, self.channel)
        if stale is not None and self._faults.hits(stale):
            past = self._truth.book_at_time(now - round(stale.seconds * SECOND))
            if past is not None:
                numbers = -1, self._paper.number(past.sequence)
                levels = past.bids[:SHOWN], past.asks[:SHOWN]
                return frames.book(self._paper, self.name, levels, numbers, past.time + skew, self._checksum(now))
        both = self._bids.best_first(), self._asks.best_first()
        return frames.book(self._paper, self.name, both, (-1, self._number), now + skew, self._checksum(now))

    def _tell(self, levels: tuple[list[Level], list[Level]], number: int, now: int, skew: int) -> bytes:
        numbers = self._number, number
        self._number, self._sent = number, now
        return frames.book(self._paper, self.name, levels, numbers, now + skew, self._checksum(now))

    def _checksum(self, now: int) -> int:
        """0 since 2026; a fault gives any number, which means as little."""
        fault = self._faults.active(FaultKind.CHECKSUM, VENUE, now, self._paper.symbol, self.channel)
        return self._faults.dice.randrange(-2**31, 2**31) if fault is not None and self._faults.hits(fault) else 0


class Best:
    """The best levels as a whole, each time one of them changes."""

    def __init__(self, paper: Paper, name: str, phase: int) -> None:
        self.name, self.rank = name, list(DEPTHS).index(name)
        self.channel = "quotes" if name == "bbo-tbt" else "book"
        self._paper, self._truth, self._phase, self._depth = paper, paper.truth, phase, DEPTHS[name]
        self._shown: tuple[list[Level], list[Level]] = [], []
        self._seen = -1
        self._number = self._changed = self._sent = 0

    def begin(self, now: int) -> None:
        self._seen, self._sent = -1, now

    def moved(self, it: Happening) -> bool:
        return bool(it.changes)

    def next(self, now: int, *, moved: bool) -> int | None:
        """Only the best prices come again when they stay as they are."""
        repeat = self._sent + REPEAT if self._depth == 1 else None
        beat = _beat_after(now, self._phase, PERIODS[self.name]) if moved else None
        return min((it for it in (beat, repeat) if it is not None), default=None)

    def beat(self, now: int, skew: int) -> list[bytes]:
        truth = self._truth
        if truth.sequence != self._seen:
            first, self._seen = self._seen < 0, truth.sequence
            shown = truth.bids(self._depth), truth.asks(self._depth)
            if first or shown != self._shown:
                self._shown, self._number, self._sent = shown, self._paper.number(truth.sequence), now
                self._changed = truth.time
                return [] if first else [self.whole(now, skew)]
        if self._depth == 1 and now - self._sent >= REPEAT:
            self._sent = now
            return [self.whole(now, skew)]
        return []

    def whole(self, now: int, skew: int) -> bytes:
        """Best prices bear the time of the matching engine, books that of their making."""
        time = self._changed if self._depth == 1 else now
        return frames.best(self._paper, self.name, self._shown, self._number, time + skew)


def _beat_after(now: int, phase: int, period: int) -> int:
    return now - (now - phase) % period + period

