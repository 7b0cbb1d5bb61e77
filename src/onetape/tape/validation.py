"""Checks each trade before it goes on: what is impossible is refused, what is odd is flagged and kept."""
from statistics import median

from msgspec import Struct

from onetape.clock import DAY, HOUR, SECOND
from onetape.model import Flag, InstrumentId, Skipped, Trade

EARLIEST = 1_230_768_000 * SECOND  # 2009: nothing of ours was traded before
AHEAD_NS = HOUR  # a venue's clock may be ahead of ours, but not by that
PAUSE_NS = 7 * DAY  # where no clock was kept, the next trade may be that much later
BEYOND = 10**20  # a DECIMAL(38,18) holds what is less
FRESH_NS = HOUR  # a venue that was silent for longer says nothing about today's price


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
    if not 0 < it.price < BEYOND:
        return "a price that is not above zero" if it.price < BEYOND else "a price that no store holds"
    if not 0 < it.size < BEYOND:
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


class _Recent:
    __slots__ = ("price", "size", "time")

    def __init__(self, price: float, size: float, time: int) -> None:
        self.price, self.size, self.time = price, size, time


class SanityCheck:
    """Knows the last price and the mean size of each instrument, by pair: as many entries as instruments.

    Floats serve: a flag is a hint, no number of it goes anywhere.
    """

    def __init__(self, sanity: Sanity = Sanity()) -> None:  # noqa: B008 - frozen
        self._sanity = sanity
        self._recent: dict[str, dict[InstrumentId, _Recent]] = {}

    def flags(self, it: Trade, pair: str) -> tuple[Flag, ...]:
        """What is odd about a trade. ``pair`` groups the venues whose prices are compared; empty: with none."""
        key, price, size = InstrumentId(it.venue, it.symbol), float(it.price), float(it.size)
        of_pair = self._recent.setdefault(pair or str(key), {})
        mine = of_pair.get(key)
        others = self._others(of_pair, key, it.exchange_time) if len(of_pair) > (mine is not None) else []
        found = []
        if mine is not None and self._far(price, mine.price):
            found.append(Flag.FAR_FROM_LAST)
        if others and self._far(price, median(others)):
            found.append(Flag.FAR_FROM_OTHERS)
        if mine is None:
            of_pair[key] = _Recent(price, size, it.exchange_time)
            return tuple(found)
        if size > self._sanity.huge * mine.size:
            found.append(Flag.HUGE)
        mine.price, mine.time = price, it.exchange_time
        mine.size += self._sanity.memory * (size - mine.size)
        return tuple(found)

    def _far(self, price: float, from_: float) -> bool:
        return abs(price - from_) > self._sanity.far * from_

    def _others(self, of_pair: dict[InstrumentId, _Recent], key: InstrumentId, time: int) -> list[float]:
        return [it.price for other, it in of_pair.items() if other != key and time - it.time <= FRESH_NS]
