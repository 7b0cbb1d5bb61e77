"""Checks each trade before it goes on: what is impossible is refused, what is odd is flagged and kept."""
from decimal import Decimal
from statistics import median

from msgspec import Struct

from onetape.clock import DAY, HOUR, SECOND
from onetape.model import Flag, InstrumentId, Skipped, Trade

EARLIEST = 1_230_768_000 * SECOND  # 2009: nothing of ours was traded before
AHEAD_NS = HOUR  # a venue's clock may be ahead of ours, but not by that
PAUSE_NS = 7 * DAY  # where no clock was kept, the next trade may be that much later
BEYOND = Decimal(10**20)  # a DECIMAL(38,18) holds what is less
FRESH_NS = HOUR  # a venue that was silent for longer says nothing about today's price
FOLD = 32  # trades whose sizes are added to the mean at once
NO_FLAGS: tuple[Flag, ...] = ()
_ZERO = Decimal(0)


class Sanity(Struct, frozen=True):
    """From where on a trade is odd."""

    far: float = 0.10
    """Share by which a price differs from the venue's last, or from the median of the other venues."""
    huge: float = 100.0
    """Times the recent mean size."""
    memory: float = 0.02
    """Weight of the newest size in that mean."""


def worthless(it: Trade) -> str:
    """Why nothing can have been traded; empty if something can. Its parser has seen to types and known words."""
    if not _ZERO < it.price < BEYOND:
        return "a price that is not above zero" if it.price < BEYOND else "a price that no store holds"
    if not _ZERO < it.size < BEYOND:
        return "a size that is not above zero" if it.size < BEYOND else "a size that no store holds"
    return ""


def impossible(it: Trade, newest: int = 0, today: int = 1 << 63) -> str:
    """Why a trade cannot be true, by its numbers or by its time; empty if it can.

    ``newest``: exchange time of the newest trade so far, which stands for the clock in a recording that kept none;
    that is not later than ``today``.
    """
    latest = it.received_time + AHEAD_NS
    if it.received_time < EARLIEST:
        latest = min(newest + PAUSE_NS if newest else today, today) + AHEAD_NS
    if not EARLIEST <= it.exchange_time <= latest:
        return f"an absurd time: {it.exchange_time}"
    return worthless(it)


def skipped(it: Trade, reason: str, time: int, now: int) -> Skipped:
    """Stands for a trade that has no place on the tape: its id is accounted for, at the exchange time ``time``."""
    return Skipped(
        venue=it.venue, symbol=it.symbol, exchange_time=time, received_time=it.received_time, available_at=now,
        channel=it.channel, first=it.id, last=it.id, after=it.after, reason=reason,
    )


class Recent:
    """What one instrument was traded at lately."""

    __slots__ = ("count", "fold_at", "huge", "mean", "pair", "price", "sum", "time")

    def __init__(self, pair: "Pair") -> None:
        self.pair = pair
        self.price: Decimal | None = None
        self.time = 0
        self.mean = 0.0  # of sizes, without the newest ``count`` that ``sum`` has
        self.sum, self.count, self.fold_at = _ZERO, 0, 1
        self.huge = _ZERO  # what is greater is looked at

    def usual(self, it: Trade) -> bool:
        """Nothing of it is impossible, and nothing odd: no more has to be asked of nearly all trades."""
        pair, received = self.pair, it.received_time
        return (
            received >= EARLIEST and EARLIEST <= it.exchange_time <= received + AHEAD_NS
            and pair.low <= it.price <= pair.high and _ZERO < it.size <= self.huge < BEYOND
        )

    def add(self, it: Trade) -> bool:
        """Takes a trade into account; True: there are enough sizes now for the mean."""
        self.price, self.time = it.price, it.exchange_time
        self.sum += it.size
        self.count += 1
        return self.count >= self.fold_at


class Pair:
    """The instruments whose prices are compared, and a band: while all were last inside, none is far from any.

    It lies within what is possible, or is empty.
    """

    __slots__ = ("high", "low", "members")

    def __init__(self) -> None:
        self.members: dict[InstrumentId, Recent] = {}
        self.low, self.high = _ZERO, _ZERO


REFERENCE = Recent, Pair
try:
    from onetape.tape import _validation

    _compiled = _validation.Recent, _validation.Pair
except (ImportError, AttributeError, TypeError):  # as in candles/__init__.py
    COMPILED = False
else:
    COMPILED = True
    Recent, Pair = _compiled  # type: ignore[misc]


class SanityCheck:
    """Knows the last price and the mean size of each instrument, by pair: as many entries as instruments.

    Floats serve where something may be odd: a flag is a hint, no number of it goes anywhere.
    """

    def __init__(self, sanity: Sanity = Sanity()) -> None:  # noqa: B008 - frozen
        self._sanity = sanity
        self._pairs: dict[str, Pair] = {}
        # Two prices in a band of this share to both sides of its middle differ by less than ``far`` of the lower one.
        self._band = sanity.far / (2.1 + sanity.far)

    def recent(self, id: InstrumentId, pair: str) -> Recent:
        """Of an instrument, to be given with its trades. ``pair`` groups those that are compared; empty: with none."""
        group = self._pairs.setdefault(pair or str(id), Pair())
        return group.members.setdefault(id, Recent(group))

    def flags(self, it: Trade, mine: Recent) -> tuple[Flag, ...]:
        """What is odd about a trade, which is taken into account."""
        pair = mine.pair
        flags = NO_FLAGS
        if not pair.low <= it.price <= pair.high or it.size > mine.huge:
            flags = self._look(it, mine)
        if mine.add(it) or flags:
            self.fold(mine)
        return flags

    def _look(self, it: Trade, mine: Recent) -> tuple[Flag, ...]:
        price, members = float(it.price), mine.pair.members.values()
        others = [
            float(one.price) for one in members
            if one is not mine and one.price is not None and it.exchange_time - one.time <= FRESH_NS
        ]
        found = []
        if mine.price is not None and self._far(price, float(mine.price)):
            found.append(Flag.FAR_FROM_LAST)
        if others and self._far(price, median(others)):
            found.append(Flag.FAR_FROM_OTHERS)
        if mine.price is not None and it.size > mine.huge:
            found.append(Flag.HUGE)
        low, high = Decimal(price * (1 - self._band)), Decimal(price * (1 + self._band))
        if high < BEYOND and all(one is mine or one.price is None or low <= one.price <= high for one in members):
            mine.pair.low, mine.pair.high = low, high
        else:  # a venue is elsewhere, say: every trade is looked at until it is not
            mine.pair.low, mine.pair.high = high, low
        return tuple(found)

    def fold(self, mine: Recent) -> None:
        """The sizes of the newest few into the mean, as if one by one; the first ones at once, then ever more."""
        mean = float(mine.sum) / mine.count
        weight = 1 - (1 - self._sanity.memory) ** mine.count if mine.mean else 1
        mine.mean += weight * (mean - mine.mean)
        mine.huge = Decimal(self._sanity.huge * mine.mean)
        mine.sum, mine.count = _ZERO, 0
        mine.fold_at = min(2 * mine.fold_at, FOLD)

    def _far(self, price: float, from_: float) -> bool:
        return abs(price - from_) > self._sanity.far * from_
