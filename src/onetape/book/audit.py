"""Compares a live book with a snapshot that was fetched apart from its stream.

Sans-I/O. Where the snapshot has a number of the stream's own series, it is brought to the book's number by the deltas
that followed it, and the two have to be equal. Elsewhere the book as it was at every moment since shortly before the
request is compared, and the best moment counts: what really is wrong is wrong at all of them.
"""
from collections.abc import Sequence

from decimal import Decimal

from msgspec import Struct

from onetape.book import OrderBook, Window
from onetape.model import BookDelta, BookSnapshot, Level, Levels

MAX_EVENTS = 2_000  # of one book during one comparison; more are not compared
ROOM = 4  # times the levels that are compared, to follow the deltas

ZERO = Decimal(0)

Side = dict[Decimal, Decimal]
"""Sizes by price, best first."""
Odd = tuple[bool, Level]
"""Whether it is a bid, and a level that only one of the two has."""


class Match(Struct, frozen=True):
    """How much of the snapshot is in the book, and the other way round: 1 is all of it."""

    bids: float
    asks: float
    levels: int
    """That were compared, on the longer side."""
    odd: frozenset[Odd]

    @property
    def worst(self) -> float:
        return min(self.bids, self.asks)


class Audit:
    """One comparison of one book: begun with the book as it is, told every event that follows, asked once."""

    def __init__(self, book: BookSnapshot, levels: int) -> None:
        self._begin, self._levels = book, levels
        self._events: list[BookDelta | BookSnapshot] = []
        self.overrun = False
        """Too much came, or the venue numbers anew: there will be no result."""

    @property
    def depth(self) -> int:
        """Levels a side that the snapshot should have."""
        return 2 * self._levels

    def add(self, event: BookDelta | BookSnapshot) -> None:
        """What the book was just changed by."""
        renumbered = isinstance(event, BookDelta) and event.sequence < event.after
        if len(self._events) >= MAX_EVENTS or renumbered:
            self.overrun = True
        else:
            self._events.append(event)

    def divides(self, number: int) -> bool:
        """A delta begins before this number and ends after it."""
        return any(isinstance(it, BookDelta) and it.after < number < it.sequence for it in self._events)

    def by_number(self, snapshot: BookSnapshot, book: OrderBook, sequence: int) -> Match | None:
        """``book``: as it is now, at ``sequence``. None: the snapshot is from before all that is remembered.

        One that divides a delta is taken for right where the venue tells every level that was touched, as Binance does.

        Raises BadLevels.
        """
        following = self._after(snapshot.sequence, sequence)
        if following is None:
            return None
        theirs = _made_of(snapshot, 0)
        for it in following:
            theirs.apply(it.bids, it.asks)
        return _match(book, theirs, self._levels)

    def by_time(self, snapshot: BookSnapshot) -> Match | None:
        """Of all moments the best. A snapshot may be from between two changes of the book: both count for it.

        None: it says itself that it is from before all that is remembered. Raises BadLevels.
        """
        if snapshot.exchange_time < self._begin.exchange_time:
            return None
        theirs = _top(snapshot.bids, self._levels, bids=True), _top(snapshot.asks, self._levels, bids=False)
        unit = _unit(snapshot)
        ours = _made_of(self._begin, ROOM * self._levels)
        before = after = self._shown(ours)
        best = _between(before, after, theirs, unit)
        for it in self._events:
            if best.worst == 1.0:
                break
            if isinstance(it, BookSnapshot):
                ours = _made_of(it, 0)
            else:
                ours.apply(it.bids, it.asks)
            before, after = after, self._shown(ours)
            best = max(best, _between(before, after, theirs, unit), key=_both)
        return best

    def _shown(self, book: OrderBook) -> tuple[Side, Side]:
        return dict(book.bids(self._levels)), dict(book.asks(self._levels))

    def _after(self, number: int, here: int) -> Sequence[BookDelta] | None:
        """The deltas that lead from this number to the book's; None if they are not all known."""
        following: list[BookDelta] = []
        for it in self._events:
            if isinstance(it, BookSnapshot):
                following = []
            elif it.sequence > number:
                following.append(it)
        joins = following[0].after <= number if following else number == here
        return following if joins else None


def _made_of(snapshot: BookSnapshot, depth: int) -> OrderBook:
    book = OrderBook(Window(depth))
    book.replace(snapshot.bids, snapshot.asks, snapshot.depth)
    return book


def _match(ours: OrderBook, theirs: OrderBook, levels: int) -> Match:
    mine, other = ((dict(it.bids(levels)), dict(it.asks(levels))) for it in (ours, theirs))
    return _between(mine, mine, other, ZERO)


def _between(before: tuple[Side, Side], after: tuple[Side, Side], theirs: tuple[Side, Side], unit: Decimal) -> Match:
    bids, odd_bids = _side(before[0], after[0], theirs[0], unit)
    asks, odd_asks = _side(before[1], after[1], theirs[1], unit)
    odd = frozenset([*((True, it) for it in odd_bids), *((False, it) for it in odd_asks)])
    return Match(bids, asks, max(map(len, theirs)), odd)


def _side(before: Side, after: Side, theirs: Side, unit: Decimal) -> tuple[float, list[Level]]:
    """The share of their levels that are ours, and what is odd: levels of theirs that we never showed, and of ours that
    stood all the time and they do not have. As many as both show count: a snapshot may be cut where a book goes on."""
    count = min(len(after), len(theirs))
    if not count:
        return (1.0 if len(after) == len(theirs) else 0.0), []
    shown = list(theirs.items())[:count]
    lacking = [
        (price, size) for price, size in shown
        if not any(price in side and _same(side[price], size, unit) for side in (before, after))
    ]
    lasting = [it for it in list(after.items())[:count] if before.get(it[0]) == it[1]]
    extra = [(price, size) for price, size in lasting if price not in theirs]
    return 1.0 - max(len(lacking), len(extra)) / count, lacking + extra


def _same(ours: Decimal, theirs: Decimal, unit: Decimal) -> bool:
    """Kraken's REST has sizes of three decimals, whatever its stream shows."""
    return ours == theirs or abs(ours - theirs) < unit


def _unit(snapshot: BookSnapshot) -> Decimal:
    """The finest digit of the sizes in there."""
    finest = min((size.normalize().as_tuple().exponent for side in (snapshot.bids, snapshot.asks) for _, size in side),
                 default=0)
    return Decimal(1).scaleb(min(int(finest), 0))


def _top(levels: Levels, count: int, *, bids: bool) -> Side:
    """The order of a snapshot's levels is not promised everywhere."""
    return dict(sorted(levels, reverse=bids)[:count])


def _both(it: Match) -> float:
    return it.bids + it.asks
