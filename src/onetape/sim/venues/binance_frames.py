"""The text of what the simulated Binance tells of an instrument on spot: decimals as strings."""
from collections.abc import Callable, Iterable
from decimal import Decimal

from msgspec import json

from onetape.clock import DAY, MILLISECOND
from onetape.sim.base import Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Day, Level, Truth
from onetape.sim.venues.binance_aggregates import Aggregate
from onetape.sim.venues.binance_intervals import Interval

DIGITS = 8


def fixed(count: int, digits: int = DIGITS) -> str:
    """So many units of the last digit."""
    whole, rest = divmod(abs(count), 10**digits)
    point = f".{rest:0{digits}}" if digits else ""
    return f"{'-' if count < 0 else ''}{whole}{point}"


def digits_of(step: Decimal) -> int:
    return max(-int(step.as_tuple().exponent), 0)


class Paper:
    """How the numbers of one instrument are written: with eight digits on spot, else with those of tick and lot."""

    def __init__(self, truth: Truth, digits: int | None = DIGITS, number: Callable[[int], int] = int) -> None:
        """``number`` makes the id of a trade from that of a match."""
        self.truth, self.symbol, self._number = truth, truth.listing.symbol, number
        tick, lot = truth.listing.tick, truth.listing.lot
        self.price_digits = digits_of(tick) if digits is None else digits
        self.size_digits = digits_of(lot) if digits is None else digits
        self._quote_digits = self.price_digits + self.size_digits if digits is None else digits
        self.tick, self.lot = int(tick.scaleb(self.price_digits)), int(lot.scaleb(self.size_digits))
        """In units of the last digit."""
        self._price, self._price_pad = truth.price_text, _pad(tick, self.price_digits)
        self._size, self._size_pad = truth.size_text, _pad(lot, self.size_digits)

    def price(self, ticks: int) -> str:
        return self._price(ticks) + self._price_pad

    def size(self, lots: int) -> str:
        return self._size(lots) + self._size_pad

    def change(self, ticks: int) -> str:
        """Of a price: it may be negative."""
        return fixed(ticks * self.tick, self.price_digits)

    def average(self, ticks_lots: int, lots: int) -> str:
        return fixed(ticks_lots * self.tick // max(lots, 1), self.price_digits)

    def quote(self, ticks_lots: int) -> str:
        """A turnover; what is finer than the eighth digit is cut off."""
        return self._turnover(ticks_lots, self._quote_digits)

    def rough_quote(self, ticks_lots: int) -> str:
        """With the digits of prices."""
        return self._turnover(ticks_lots, self.price_digits)

    def _turnover(self, ticks_lots: int, digits: int) -> str:
        finer = self.price_digits + self.size_digits - digits
        return fixed(ticks_lots * self.tick * self.lot // 10**finer, digits)

    def id(self, match: int) -> int:
        """Of a trade, from that of its match; -1 stays, for there is none."""
        return match if match < 0 else self._number(match)

    def levels(self, levels: Iterable[Level]) -> str:
        """``[["0.35130000","6195.00000000"],...]``"""
        price, size, price_pad, size_pad = self._price, self._size, self._price_pad, self._size_pad
        return "[" + ",".join([f'["{price(p)}{price_pad}","{size(s)}{size_pad}"]' for p, s in levels]) + "]"

    def best(self) -> tuple[Level, Level]:
        """Bid and ask; a side without levels is all zeros."""
        bids, asks = self.truth.bids(1), self.truth.asks(1)
        return bids[0] if bids else (0, 0), asks[0] if asks else (0, 0)


def _pad(step: Decimal, digits: int) -> str:
    """From the digits that the truth writes to those that the venue writes."""
    written = digits_of(step)
    return ("." if digits and not written else "") + "0" * (digits - written)


# --- streams: event is the venue's time in ns, skew what its clock is wrong by, unit 10^6 or 10^3 ns ------------------


def trade(paper: Paper, it: Match, event: int, skew: int, unit: int) -> str:
    return (
        f'{{"e":"trade","E":{event // unit},"s":"{paper.symbol}","t":{it.id},"p":"{paper.price(it.price)}",'
        f'"q":"{paper.size(it.size)}","T":{(it.time + skew) // unit},"m":{_false(it.buy)},"M":true}}'
    )


def aggregate(paper: Paper, it: Aggregate, event: int, skew: int, unit: int) -> str:
    return (
        f'{{"e":"aggTrade","E":{event // unit},"s":"{paper.symbol}","a":{it.id},"p":"{paper.price(it.price)}",'
        f'"q":"{paper.size(it.size)}","f":{it.first},"l":{it.last},"T":{(it.time + skew) // unit},'
        f'"m":{_false(it.buy)},"M":true}}'
    )


def best(paper: Paper, sequence: int, bid: Level, ask: Level, _unit: int) -> str:
    """Section 5.5: neither type nor time."""
    return (
        f'{{"u":{sequence},"s":"{paper.symbol}","b":"{paper.price(bid[0])}","B":"{paper.size(bid[1])}",'
        f'"a":"{paper.price(ask[0])}","A":"{paper.size(ask[1])}"}}'
    )


def diff(
    paper: Paper, first: int, last: int, bids: Iterable[Level], asks: Iterable[Level], event: int, unit: int,
) -> str:
    return (
        f'{{"e":"depthUpdate","E":{event // unit},"s":"{paper.symbol}","U":{first},"u":{last},'
        f'"b":{paper.levels(bids)},"a":{paper.levels(asks)}}}'
    )


def book(paper: Paper, sequence: int, bids: Iterable[Level], asks: Iterable[Level], _unit: int = MILLISECOND) -> str:
    """Partial depth and the REST snapshot: neither symbol nor time."""
    return f'{{"lastUpdateId":{sequence},"bids":{paper.levels(bids)},"asks":{paper.levels(asks)}}}'


def kline(paper: Paper, interval: Interval, it: Kline, closed: bool, event: int, unit: int) -> str:
    price, size = paper.price, paper.size
    return (
        f'{{"e":"kline","E":{event // unit},"s":"{paper.symbol}","k":{{"t":{it.start // unit},'
        f'"T":{interval.after(it.start) // unit - 1},"s":"{paper.symbol}","i":"{interval.name}",'
        f'"f":{paper.id(it.first_id)},"L":{paper.id(it.last_id)},"o":"{price(it.open)}","c":"{price(it.close)}",'
        f'"h":"{price(it.high)}","l":"{price(it.low)}","v":"{size(it.volume)}","n":{it.trades},'
        f'"x":{_false(not closed)},"q":"{paper.quote(it.quote)}","V":"{size(it.taker_volume)}",'
        f'"Q":"{paper.quote(it.taker_quote)}","B":"0"}}}}'
    )


def ticker(paper: Paper, day: Day | None, event: int, unit: int) -> str:
    figures = day_figures(paper, day, event, unit)
    return json.encode(
        {"e": "24hrTicker", "E": event // unit, "s": paper.symbol} | {key: figures[of] for key, of in _LETTERS.items()},
    ).decode()


_LETTERS = {
    "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "x": "prevClosePrice", "c": "lastPrice",
    "Q": "lastQty", "b": "bidPrice", "B": "bidQty", "a": "askPrice", "A": "askQty", "o": "openPrice", "h": "highPrice",
    "l": "lowPrice", "v": "volume", "q": "quoteVolume", "O": "openTime", "C": "closeTime", "F": "firstId",
    "L": "lastId", "n": "count",
}  # fmt: skip


def day_figures(paper: Paper, day: Day | None, event: int, unit: int) -> dict[str, str | int]:
    """The rolling 24 hours, by their names on REST; without any trade all zeros, and no ids."""
    it = day or Day(
        open=0, high=0, low=0, last=0, volume=0, quote=0, trades=0, first_id=-1, last_id=-1, first_time=event,
    )
    change = it.last - it.open
    bid, ask = paper.best()
    last = paper.truth.last_matches(1)
    before = paper.truth.matches_before(it.first_id, 1)
    return {
        "symbol": paper.symbol,
        "priceChange": paper.change(change),
        "priceChangePercent": f"{Decimal(100 * change) / max(it.open, 1):.3f}",
        "weightedAvgPrice": paper.average(it.quote, it.volume),
        "prevClosePrice": paper.price(before[0].price if before else it.open),
        "lastPrice": paper.price(it.last),
        "lastQty": paper.size(last[0].size if last else 0),
        "bidPrice": paper.price(bid[0]), "bidQty": paper.size(bid[1]),
        "askPrice": paper.price(ask[0]), "askQty": paper.size(ask[1]),
        "openPrice": paper.price(it.open), "highPrice": paper.price(it.high), "lowPrice": paper.price(it.low),
        "volume": paper.size(it.volume), "quoteVolume": paper.rough_quote(it.quote),
        "openTime": (event - DAY) // unit, "closeTime": event // unit,
        "firstId": paper.id(it.first_id), "lastId": paper.id(it.last_id), "count": it.trades,
    }


def _false(truth: bool) -> str:
    """The opposite, as JSON: the buyer was the maker exactly if the taker sold."""
    return "false" if truth else "true"
