"""One running candle in exact sums: cheap enough to take every trade at once."""
from decimal import (
    ROUND_05UP,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    Rounded,
)

from onetape.model import BUY, Candle, InstrumentId, Trade
from onetape.model.numbers import MAX_DIGITS, MAX_FRACTION

# A sum of products of 28 digits each, over more trades than there ever were, is far from 200 digits; what would be
# rounded all the same is an error and not a wrong candle.
_EXACT = Context(prec=200, traps=[Inexact, Rounded, InvalidOperation, Overflow, DivisionByZero])
_add, _fma = _EXACT.add, _EXACT.fma  # two and three times as fast as integers made of each price and size
# A quotient that is rounded again must not look like a half, or like nothing, that it is not: ROUND_05UP is for that.
_AHEAD = Context(prec=100, rounding=ROUND_05UP, traps=[InvalidOperation, Overflow, DivisionByZero])
_ROUND = Context(prec=100, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Overflow])
_PLACES = tuple(Decimal(f"1E-{it}") for it in range(MAX_FRACTION + 1))
_ZERO = Decimal(0)


def tidy(value: Decimal) -> Decimal:
    """The same value without zeros that end a fraction: the same trades give the same digits, however they came."""
    return _EXACT.add(_EXACT.normalize(value), _ZERO)  # 1E+2 becomes 100


def vwap(quote_volume: Decimal, volume: Decimal) -> Decimal | None:
    """Their quotient, rounded once, half to even: to 28 digits, no more than 18 of them behind the point."""
    if not volume:
        return None
    quotient = _AHEAD.divide(quote_volume, volume)
    fraction = max(min(MAX_FRACTION, MAX_DIGITS - max(quotient.adjusted() + 1, 1)), 0)
    return tidy(quotient.quantize(_PLACES[fraction], context=_ROUND))


def follows(new: str, old: str) -> bool:
    """Of two trades at the same time, the one that came later stands behind the other on the tape.

    By id as a number where both are; one that is none stands behind those that are, in the order of arrival.
    """
    if not new.isdecimal():
        return True
    return old.isdecimal() and int(new) > int(old)


def precedes(new: str, old: str) -> bool:
    """As ``follows``: it stands before the other."""
    return new.isdecimal() and (not old.isdecimal() or int(new) < int(old))


class RunningCandle:
    """The sum of one trade or more.

    Sums add up in any order of trades: open and close are found by (exchange time, id), not by arrival.
    """

    __slots__ = (
        "close", "first", "first_id", "high", "last", "last_id", "low", "open", "quote_volume", "taker_buy_volume",
        "trades", "volume",
    )

    def __init__(self, it: Trade) -> None:
        """Starts with one trade."""
        self.trades = 1
        self.open = self.high = self.low = self.close = it.price
        self.first = self.last = it.exchange_time  # ns
        self.first_id = self.last_id = it.id
        self.volume = it.size
        self.quote_volume = _EXACT.multiply(it.price, it.size)
        self.taker_buy_volume = it.size if it.side is BUY else _ZERO

    def add(self, it: Trade) -> None:
        """Takes one more trade. The hot path of all candles."""
        price, size = it.price, it.size
        self.trades += 1
        self.volume = _add(self.volume, size)
        self.quote_volume = _fma(price, size, self.quote_volume)
        if it.side is BUY:
            self.taker_buy_volume = _add(self.taker_buy_volume, size)
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        time = it.exchange_time
        if time > self.last:
            self.close, self.last, self.last_id = price, time, it.id
        else:
            self._place(it)

    def _place(self, it: Trade) -> None:
        """A trade at the time of the last, or out of order, may be the close, the open, or neither."""
        time = it.exchange_time
        if time == self.last and follows(it.id, self.last_id):
            self.close, self.last_id = it.price, it.id
        elif time < self.first or (time == self.first and precedes(it.id, self.first_id)):
            self.open, self.first, self.first_id = it.price, time, it.id

    def merge(self, other: "RunningCandle") -> None:
        """Takes the trades of another, which stays as it is; neither may be carried."""
        self.trades += other.trades
        self.volume = _add(self.volume, other.volume)
        self.quote_volume = _add(self.quote_volume, other.quote_volume)
        self.taker_buy_volume = _add(self.taker_buy_volume, other.taker_buy_volume)
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        if other.last > self.last or (other.last == self.last and follows(other.last_id, self.last_id)):
            self.close, self.last, self.last_id = other.close, other.last, other.last_id
        if other.first < self.first or (other.first == self.first and precedes(other.first_id, self.first_id)):
            self.open, self.first, self.first_id = other.open, other.first, other.first_id

    @classmethod
    def of(cls, it: Candle) -> "RunningCandle":
        """What a finished candle says of its trades; what it does not say counts as nothing."""
        new = cls.__new__(cls)
        new.open, new.high, new.low, new.close, new.volume = it.open, it.high, it.low, it.close, it.volume
        new.taker_buy_volume, new.quote_volume = it.taker_buy_volume or _ZERO, it.quote_volume or _ZERO
        new.trades = it.trades or 0
        new.first, new.last = it.start, it.end - 1  # candles do not overlap, so this puts them in order
        new.first_id = new.last_id = ""
        return new

    def copy(self) -> "RunningCandle":
        new = RunningCandle.__new__(RunningCandle)
        for name in self.__slots__:
            setattr(new, name, getattr(self, name))
        return new

    def carried(self) -> "RunningCandle":
        """An empty candle at the close of this one; ``last`` still tells which trade that was."""
        new = self.copy()
        new.trades = 0
        new.volume = new.quote_volume = new.taker_buy_volume = _ZERO
        new.open = new.high = new.low = new.close
        new.first, new.first_id = new.last, new.last_id
        return new

    def candle(
        self, id: InstrumentId, interval: str, start: int, end: int, now: int, *,
        complete: bool, final: bool, revision: int = 0,
    ) -> Candle:
        """As an event at the exchange time ``end`` (ns), available at ``now`` (ns)."""
        return Candle(
            venue=id.venue, symbol=id.symbol, exchange_time=end, received_time=now, available_at=now,
            interval=interval, start=start, end=end, open=tidy(self.open), high=tidy(self.high), low=tidy(self.low),
            close=tidy(self.close), volume=tidy(self.volume), quote_volume=tidy(self.quote_volume),
            vwap=vwap(self.quote_volume, self.volume), trades=self.trades,
            taker_buy_volume=tidy(self.taker_buy_volume), complete=complete, final=final, source="trades",
            revision=revision,
        )
