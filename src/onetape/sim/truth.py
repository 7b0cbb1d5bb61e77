"""What really happened on one instrument: the only source from which a venue derives any channel or REST answer."""
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise

from msgspec import Struct

from onetape.clock import DAY, MINUTE
from onetape.sim import klines
from onetape.sim.base import Change, Happening, Listing, Match
from onetape.sim.klines import Kline, Minutes

CHECKPOINT_EVERY = 4_096  # changes: how many have to be applied to rebuild a book of the past
MINUTES_KEPT = 20_000  # two weeks

Level = tuple[int, int]
"""Price in ticks, size in lots."""


class Book(Struct, frozen=True):
    """All levels at one moment, best first."""

    sequence: int
    time: int
    bids: list[Level]
    asks: list[Level]


class Day(Struct, frozen=True):
    """The last 24 hours, as far as they are known. The window moves by whole minutes."""

    open: int
    high: int
    low: int
    last: int
    volume: int
    quote: int
    trades: int
    first_id: int
    last_id: int
    first_time: int
    """Of the first match."""


class _Checkpoint(Struct, frozen=True):
    sequence: int
    time: int
    bids: dict[int, int]
    asks: dict[int, int]


class Truth:
    """The book, the matches and the candles of one instrument, now and as they were. Written by ``happen`` alone."""

    def __init__(
        self, listing: Listing, start: int, sequence: int = 0, match_id: int = 1, *,
        matches_kept: int = 50_000, changes_kept: int = 20_000,
    ) -> None:
        self.listing = listing
        self.sequence = sequence
        """Of the last change."""
        self.time = start
        """Of the last happening."""
        self.price_text: Callable[[int], str] = lru_cache(1 << 12)(_writer(listing.tick))
        """Ticks to text, always with the digits of the tick: ``60123.40``."""
        self.size_text: Callable[[int], str] = lru_cache(1 << 13)(_writer(listing.lot))
        self._sides: tuple[dict[int, int], dict[int, int]] = {}, {}  # asks, bids: indexed by "is a bid"
        self._prices: tuple[list[int], list[int]] = [], []  # the same, ascending
        self._changes: list[Change] = []
        self._matches: list[Match] = []
        self._changes_kept, self._matches_kept = changes_kept, matches_kept
        self._next_id = match_id
        self.leaves_out: Callable[[int], int] | None = None
        """Asked before each match, with its time: how many numbers are given to none, before its own."""
        self._minutes = Minutes(MINUTES_KEPT)
        self._checkpoints = [_Checkpoint(sequence, start, {}, {})]
        self._day: tuple[int, Kline | None] = -1, None

    # --- writing ----------------------------------------------------------------------------------------------------

    def happen(
        self, time: int, levels: Iterable[tuple[bool, int, int]], trades: Iterable[tuple[int, int, bool]] = (),
    ) -> Happening:
        """One order came: the levels (bid, price, new size) that it changed, its executions (price, size, buy).

        Times rise: no two happenings share theirs. A level that already has the size is no change.
        """
        if time <= self.time:
            raise ValueError(f"{self.listing.symbol}: {time} is not after {self.time}")
        self.time = time
        changes = [self._set(time, *level) for level in levels if self.size(level[0], level[1]) != level[2]]
        matches = [self._match(time, *trade) for trade in trades]
        self._changes += changes
        self._matches += matches
        if self.sequence - self._checkpoints[-1].sequence >= CHECKPOINT_EVERY:
            self._checkpoint()
        return Happening(self.listing, time, changes, matches)

    def _set(self, time: int, bid: bool, price: int, size: int) -> Change:
        sizes = self._sides[bid]
        if not size:
            prices = self._prices[bid]
            del sizes[price], prices[bisect_left(prices, price)]
        else:
            if price not in sizes:
                insort(self._prices[bid], price)
            sizes[price] = size
        self.sequence += 1
        return Change(self.sequence, time, bid, price, size)

    def _match(self, time: int, price: int, size: int, buy: bool) -> Match:
        if self.leaves_out is not None:
            self._next_id += self.leaves_out(time)
        match = Match(self._next_id, time, price, size, buy)
        self._next_id += 1
        self._minutes.add(match)
        return match

    def _checkpoint(self) -> None:
        """Here the history is cut as well: rarely, and to where a checkpoint stands."""
        self._checkpoints.append(_Checkpoint(self.sequence, self.time, dict(self._sides[1]), dict(self._sides[0])))
        kept_from = bisect_right(self._checkpoints, self.sequence - self._changes_kept, key=_sequence) - 1
        if kept_from > 0:
            del self._checkpoints[:kept_from]
            del self._changes[:self._checkpoints[0].sequence + 1 - self._changes[0].sequence]
        del self._matches[:max(len(self._matches) - self._matches_kept, 0)]

    # --- the book ---------------------------------------------------------------------------------------------------

    def bids(self, n: int = 0) -> list[Level]:
        """The ``n`` best; all for 0. Best first."""
        sizes = self._sides[1]
        return [(price, sizes[price]) for price in self._prices[1][:-n - 1 if n else None:-1]]

    def asks(self, n: int = 0) -> list[Level]:
        sizes = self._sides[0]
        return [(price, sizes[price]) for price in self._prices[0][:n or None]]

    def size(self, bid: bool, price: int) -> int:
        """Lots at this price; 0 if there are none."""
        return self._sides[bid].get(price, 0)

    def prices(self, bid: bool) -> Sequence[int]:
        """Of all levels of a side, ascending: the best bid is the last. A view, not to be changed."""
        return self._prices[bid]

    def changes_since(self, sequence: int) -> list[Change]:
        """Those after ``sequence``, as far back as they are kept."""
        if not self._changes:
            return []
        return self._changes[max(sequence + 1 - self._changes[0].sequence, 0):]

    def knows(self, sequence: int) -> bool:
        """Whether it can be said how the book stood when this was the last change."""
        return self._checkpoints[0].sequence <= sequence <= self.sequence

    def book_at(self, sequence: int) -> Book | None:
        """As it stood when this was the last change; None if that is too long ago, or has not come yet."""
        if not self.knows(sequence):
            return None
        base = self._checkpoints[bisect_right(self._checkpoints, sequence, key=_sequence) - 1]
        sides, time = (dict(base.asks), dict(base.bids)), base.time
        first = base.sequence + 1 - self._changes[0].sequence if self._changes else 0
        for it in self._changes[first:first + sequence - base.sequence]:
            time = it.time
            if it.size:
                sides[it.bid][it.price] = it.size
            else:
                del sides[it.bid][it.price]
        return Book(sequence, time, sorted(sides[1].items(), reverse=True), sorted(sides[0].items()))

    def book_at_time(self, time: int) -> Book | None:
        """As it stood after everything up to and including this time; None if that is too long ago."""
        if time < self._checkpoints[0].time:
            return None
        later = bisect_right(self._changes, time, key=_time)
        return self.book_at(self._changes[later - 1].sequence if later else self._checkpoints[0].sequence)

    # --- the matches ------------------------------------------------------------------------------------------------

    @property
    def matches(self) -> Sequence[Match]:
        """Those that are kept, ascending; ids are consecutive but for those left out. A view, not to be changed."""
        return self._matches

    def skipped(self) -> list[int]:
        """Numbers that no match has, between the first and the last that are kept, ascending."""
        return gaps([it.id for it in self._matches])

    def match(self, id: int) -> Match | None:
        """The one with this id; None if that is too long ago, or it never was."""
        found = self.matches_from(id, 1)
        return found[0] if found and found[0].id == id else None

    def matches_from(self, id: int, limit: int) -> list[Match]:
        """At most ``limit`` with this id or a higher one, ascending."""
        return self._slice(self._place(id), limit)

    def matches_before(self, id: int, limit: int) -> list[Match]:
        """At most ``limit`` of those with a lower id, ascending: the newest of them."""
        end = self._place(id)
        first = max(end - max(limit, 0), 0)
        return self._matches[first:end]

    def _place(self, id: int) -> int:
        """Of the first with this id or a higher one."""
        if not self._matches:
            return 0
        at = min(max(id - self._matches[0].id, 0), len(self._matches))  # it is here, or where ids are left out before
        if at and self._matches[at - 1].id >= id:
            return bisect_left(self._matches, id, 0, at, key=_id)
        return at

    def matches_after(self, time: int, limit: int) -> list[Match]:
        """At most ``limit`` of this time or later, ascending."""
        return self._slice(bisect_left(self._matches, time, key=_time), limit)

    def last_matches(self, n: int) -> list[Match]:
        """Ascending."""
        return self._slice(len(self._matches) - n, n)

    def _slice(self, first: int, limit: int) -> list[Match]:
        first = max(first, 0)
        return self._matches[first:first + max(limit, 0)]

    # --- candles ----------------------------------------------------------------------------------------------------

    def candles(self, interval_ns: int, start: int, end: int) -> list[Kline]:
        """Those with a match that begin in [start, end), aligned to the epoch, the running one included.

        Of less than a minute they go back as far as matches do, else as far as minutes.
        """
        start, end = -(-start // interval_ns) * interval_ns, -(-end // interval_ns) * interval_ns
        if interval_ns % MINUTE == 0:
            return klines.by_interval(self._minutes.between(start, end), interval_ns)
        first = bisect_left(self._matches, start, key=_time)
        last = bisect_left(self._matches, end, key=_time)
        return klines.of_matches(self._matches[first:last], interval_ns)

    def day(self, now: int) -> Day | None:
        """None if nothing was traded. The minute that was current 24 hours ago is in it."""
        minute = now - now % MINUTE
        if self._day[0] != minute:
            self._day = minute, klines.merged(self._minutes.between(minute - DAY, minute))
        whole = klines.merged([it for it in (self._day[1], *self._minutes.between(minute, now + 1)) if it is not None])
        if whole is None:
            return None
        first = self.matches_from(whole.first_id, 1)
        return Day(
            open=whole.open, high=whole.high, low=whole.low, last=whole.close, volume=whole.volume, quote=whole.quote,
            trades=whole.trades, first_id=whole.first_id, last_id=whole.last_id,
            first_time=first[0].time if first and first[0].id == whole.first_id else whole.start,
        )


def _writer(unit: Decimal) -> Callable[[int], str]:
    """Multiples of a unit (0.01, 0.5, 10) to text with the unit's own digits."""
    exponent = unit.as_tuple().exponent
    places = max(-int(exponent), 0)
    step = int(unit.scaleb(places))
    scale = 10**places

    def write(count: int) -> str:
        whole, rest = divmod(count * step, scale)
        return f"{whole}.{rest:0{places}}" if places else str(whole)

    return write


def gaps(ascending: Sequence[int]) -> list[int]:
    """The numbers between the first and the last of these that are not among them."""
    return [it for before, after in pairwise(ascending) if after - before > 1 for it in range(before + 1, after)]


def _sequence(it: _Checkpoint) -> int:
    return it.sequence


def _id(it: Match) -> int:
    return it.id


def _time(it: Change | Match) -> int:
    return it.time
