"""The candle intervals of the simulated OKX: where each begins, and what was traded in it (section 5.5)."""
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct, structs

from onetape.clock import DAY, HOUR, MINUTE, SECOND, month_end
from onetape.sim.klines import Kline
from onetape.sim.truth import Truth
from onetape.sim.venues.binance_intervals import close_before

MONDAY = 4 * DAY  # the epoch was a Thursday; weeks begin on Mondays
EAST = -8 * HOUR  # where a day of UTC+8 begins, against one of UTC


class Bar(Struct, frozen=True):
    """Of fixed length, or of whole calendar months."""

    length: int
    """0: months."""
    offset: int = 0
    """Of its beginnings against the epoch; of months against those of UTC."""
    months: int = 0

    def floor(self, time: int) -> int:
        """The beginning of the one that contains ``time``."""
        if self.length:
            return time - (time - self.offset) % self.length
        day = datetime.fromtimestamp((time - self.offset) // SECOND, UTC)
        first = day.replace(month=day.month - (day.month - 1) % self.months, day=1, hour=0, minute=0, second=0)
        return int(first.timestamp()) * SECOND + self.offset

    def after(self, start: int) -> int:
        """The beginning of the next, which is the end of this."""
        return start + self.length if self.length else month_end(start - self.offset, self.months) + self.offset

    def before(self, end: int, first: int, limit: int) -> list[int]:
        """Ascending, the last ``limit`` beginnings below ``end`` that are not below ``first``."""
        found: list[int] = []
        start = self.floor(end - 1)
        while start >= first and len(found) < limit:
            found.append(start)
            start = self.floor(start - 1)
        return found[::-1]


def _bars() -> Mapping[str, Bar]:
    minutes = {f"{n}m": Bar(n * MINUTE) for n in (1, 3, 5, 15, 30)}
    bars = {"1s": Bar(SECOND)} | minutes | {f"{n}H": Bar(n * HOUR) for n in (1, 2, 4)}
    for zone, offset in (("", EAST), ("utc", 0)):  # without a word, long ones open by the clock of UTC+8
        bars |= {f"{n}H{zone}": Bar(n * HOUR, offset) for n in (6, 12)}
        bars |= {f"{n}D{zone}": Bar(n * DAY, offset) for n in (1, 2, 3, 5)}
        bars |= {f"1W{zone}": Bar(7 * DAY, MONDAY + offset)}
        bars |= {f"{n}M{zone}": Bar(0, offset, n) for n in (1, 3)}
    return bars


BARS: Mapping[str, Bar] = _bars()


def traded(truth: Truth, bar: Bar, start: int, end: int) -> dict[int, Kline]:
    """Those with a trade that begin in [start, end), by beginning. What does not lie on the epoch is made of hours."""
    unit = bar.length if bar.length and not bar.offset % bar.length else HOUR
    out: dict[int, Kline] = {}
    for it in truth.candles(unit, start, end):
        begin = bar.floor(it.start)
        if begin in out:
            out[begin].merge(it)
        else:
            out[begin] = structs.replace(it, start=begin)
    return out


def candles(truth: Truth, bar: Bar, starts: Sequence[int]) -> list[Kline]:
    """One for each of these successive beginnings: where nothing was traded, the price before goes on."""
    if not starts:
        return []
    known = traded(truth, bar, starts[0], bar.after(starts[-1]))
    price = close_before(truth, starts[0])
    out = []
    for start in starts:
        it = known.get(start)
        if it is None and price is not None:
            it = Kline(start, price, price, price, price, 0, 0, 0, 0, 0, -1, -1)
        if it is not None:
            out.append(it)
            price = it.close
    return out


def earliest(truth: Truth, bar: Bar) -> int | None:
    """The beginning of the first candle; None before the first trade."""
    if not truth.matches:
        return None
    time = truth.matches[0].time  # the matches are cut sooner than the minutes
    return bar.floor(time if 0 < bar.length < MINUTE else truth.candles(MINUTE, 0, time + 1)[0].start)
