"""The candle intervals of the simulated Binance: where each begins, and what was traded in it."""
from bisect import bisect_left
from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct, structs

from onetape.clock import DAY, MINUTE, SECOND, interval_ns, month_end
from onetape.sim.base import Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Truth

MONDAY = 4 * DAY  # the epoch was a Thursday; weeks begin on Mondays


class Interval(Struct, frozen=True):
    """Of fixed length, or a calendar month."""

    name: str
    length: int
    """0: a month."""
    offset: int = 0
    """Of its beginnings against the epoch."""

    def floor(self, time: int) -> int:
        """The beginning of the one that contains ``time``."""
        if not self.length:
            whole = datetime.fromtimestamp(time // SECOND, UTC).replace(day=1, hour=0, minute=0, second=0)
            return int(whole.timestamp()) * SECOND
        return time - (time - self.offset) % self.length

    def after(self, start: int) -> int:
        """The beginning of the next, which is the end of this."""
        return start + self.length if self.length else month_end(start)

    def starts(self, first: int, last: int) -> Sequence[int]:
        """The beginnings from ``first``, which is one, to ``last``, inclusive."""
        if self.length:
            return range(first, last + 1, self.length)
        months = []
        while first <= last:
            months.append(first)
            first = month_end(first)
        return months


INTERVALS = {
    name: Interval(name, interval_ns(name))
    for name in ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d")
} | {"1w": Interval("1w", 7 * DAY, MONDAY), "1M": Interval("1M", 0)}


def candles(truth: Truth, interval: Interval, starts: Sequence[int]) -> list[Kline]:
    """One for each of these successive beginnings, empty ones included; those before the first trade are left out."""
    if not starts:
        return []
    traded = _traded(truth, interval, starts)
    price = close_before(truth, starts[0])
    out = []
    for start in starts:
        if (it := traded.get(start)) is not None:
            out.append(it)
            price = it.close
        elif price is not None:
            out.append(_empty(start, price))
    return out


def _traded(truth: Truth, interval: Interval, starts: Sequence[int]) -> dict[int, Kline]:
    """By beginning. What the truth does not know aligned to the epoch is put together from days."""
    unit = interval.length if interval.length and not interval.offset else DAY
    out: dict[int, Kline] = {}
    for it in truth.candles(unit, starts[0], interval.after(starts[-1])):
        start = interval.floor(it.start)
        if start in out:
            out[start].merge(it)
        else:
            out[start] = structs.replace(it, start=start)
    return out


def _empty(start: int, price: int) -> Kline:
    """Section 5.6: no trades, and no ids."""
    return Kline(start, price, price, price, price, 0, 0, 0, 0, 0, -1, -1)


def close_before(truth: Truth, time: int) -> int | None:
    """The price of the last match before ``time``; None if there was none."""
    at = bisect_left(truth.matches, time, key=_time)
    if at:
        return truth.matches[at - 1].price
    older = truth.candles(MINUTE, 0, time - time % MINUTE)  # the matches are cut sooner than the minutes
    return older[-1].close if older else None


def earliest(truth: Truth, interval: Interval) -> int | None:
    """The beginning of the first candle that is known whole."""
    if not truth.matches:
        return None
    first = truth.matches[0]
    if interval.length and interval.length < MINUTE:
        minute = truth.candles(MINUTE, first.time - first.time % MINUTE, first.time + 1)
        start = interval.floor(first.time)
        return interval.after(start) if minute and minute[0].first_id < first.id else start
    return interval.floor(truth.candles(MINUTE, 0, first.time + 1)[0].start)


def _time(it: Match) -> int:
    return it.time
