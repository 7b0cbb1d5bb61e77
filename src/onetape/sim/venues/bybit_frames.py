"""The text of what the simulated Bybit tells of an instrument: decimals as strings, times in ms as numbers (section 4).

Spot writes no zeros at the end of a number, linear all digits of the tick and the lot in all but candles: as recorded.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from msgspec import json

from onetape.clock import HOUR, MILLISECOND, MINUTE
from onetape.sim.base import Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Level, Truth
from onetape.sim.venues.binance_intervals import Interval, close_before
from onetape.sim.venues.bybit_ids import trade_id

LINEAR = "linear:"
"""Stands before the symbols of perpetuals in the listings: ``BTCUSDT`` is the name of a spot pair as well."""
FUNDING_HOURS = 8


class Paper:
    """How one instrument is named, and how its numbers are written."""

    def __init__(self, truth: Truth) -> None:
        self.truth, self.listing = truth, truth.listing
        self.linear = truth.listing.symbol.startswith(LINEAR)
        self.category = "linear" if self.linear else "spot"
        self.symbol = truth.listing.symbol.removeprefix(LINEAR)
        """The venue's own name."""
        self.plain_price, self.plain_size = _plain(truth.price_text), _plain(truth.size_text)
        self.price = truth.price_text if self.linear else self.plain_price
        self.size = truth.size_text if self.linear else self.plain_size
        self._unit = truth.listing.tick * truth.listing.lot

    def quote(self, ticks_lots: int) -> str:
        """A turnover, exactly."""
        return stripped(f"{ticks_lots * self._unit:f}")

    def levels(self, levels: Iterable[Level]) -> str:
        """``[["1923.2","7.448"],...]``"""
        price, size = self.price, self.size
        return "[" + ",".join([f'["{price(p)}","{size(s)}"]' if s else f'["{price(p)}","0"]' for p, s in levels]) + "]"


def stripped(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(write: Callable[[int], str]) -> Callable[[int], str]:
    return lru_cache(1 << 16)(lambda count: stripped(write(count)))


# --- streams: times in ns, as the venue's clock shows them ------------------------------------------------------------


def trades(paper: Paper, matches: Sequence[Match], sequence: int, sent: int, skew: int) -> bytes:
    ts, topic = sent // MILLISECOND, f"publicTrade.{paper.symbol}"
    rows = ",".join([_trade(paper, it, sequence, (it.time + skew) // MILLISECOND) for it in matches])
    head = f'"type":"snapshot","ts":{ts}' if paper.linear else f'"ts":{ts},"type":"snapshot"'
    return f'{{"topic":"{topic}",{head},"data":[{rows}]}}'.encode()


def _trade(paper: Paper, it: Match, sequence: int, time: int) -> str:
    id, side = trade_id(paper.symbol, it.id, linear=paper.linear), side_of(it)
    price, size = paper.price(it.price), paper.size(it.size)
    if paper.linear:
        return (
            f'{{"T":{time},"s":"{paper.symbol}","S":"{side}","v":"{size}","p":"{price}",'
            f'"L":"{direction(paper.truth, it)}","i":"{id}","BT":false,"RPI":false,"seq":{sequence}}}'
        )
    return (
        f'{{"i":"{id}","T":{time},"p":"{price}","v":"{size}","S":"{side}","seq":{sequence},'
        f'"s":"{paper.symbol}","BT":false,"RPI":false}}'
    )


def side_of(it: Match) -> str:
    """The taker's."""
    return "Buy" if it.buy else "Sell"


def direction(truth: Truth, it: Match) -> str:
    """Against the trade before, or where that had the same price against the last that had another."""
    before = truth.matches_before(it.id, 1)
    same = bool(before) and before[0].price == it.price
    while before and before[0].price == it.price:
        before = truth.matches_before(before[0].id, 1)
    rose = not before or before[0].price < it.price
    return f"{'Zero' if same else ''}{'Plus' if rose else 'Minus'}Tick"


def book(
    paper: Paper, depth: int, kind: str, levels: tuple[Iterable[Level], Iterable[Level]], numbers: tuple[int, int],
    sent: int, changed: int,
) -> bytes:
    """``levels``: bids and asks; ``numbers``: u and seq."""
    ts, (bids, asks) = sent // MILLISECOND, levels
    head = f'"type":"{kind}","ts":{ts}' if paper.linear and depth > 1 else f'"ts":{ts},"type":"{kind}"'
    return (
        f'{{"topic":"orderbook.{depth}.{paper.symbol}",{head},"data":{{"s":"{paper.symbol}","b":{paper.levels(bids)},'
        f'"a":{paper.levels(asks)},"u":{numbers[0]},"seq":{numbers[1]}}},"cts":{changed // MILLISECOND}}}'
    ).encode()


def candle(paper: Paper, name: str, interval: Interval, it: Kline, closed: bool, sent: int) -> bytes:
    """The timestamp is that of the frame: the recordings say so, the documentation says the last match."""
    ts, price = sent // MILLISECOND, paper.plain_price
    row = (
        f'{{"start":{it.start // MILLISECOND},"end":{interval.after(it.start) // MILLISECOND - 1},"interval":"{name}",'
        f'"open":"{price(it.open)}","close":"{price(it.close)}","high":"{price(it.high)}","low":"{price(it.low)}",'
        f'"volume":"{paper.plain_size(it.volume)}","turnover":"{paper.quote(it.quote)}",'
        f'"confirm":{"true" if closed else "false"},"timestamp":{ts}}}'
    )
    topic = f'"topic":"kline.{name}.{paper.symbol}"'
    if paper.linear:
        return f'{{{topic},"type":"snapshot","ts":{ts},"data":[{row}]}}'.encode()
    return f'{{"type":"snapshot",{topic},"data":[{row}],"ts":{ts}}}'.encode()


def ticker(paper: Paper, kind: str, row: Mapping[str, str], sequence: int, sent: int) -> bytes:
    topic, ts, data = f"tickers.{paper.symbol}", sent // MILLISECOND, json.encode(row).decode()
    if paper.linear:
        return f'{{"topic":"{topic}","type":"{kind}","data":{data},"cs":{sequence},"ts":{ts}}}'.encode()
    return f'{{"topic":"{topic}","ts":{ts},"type":"{kind}","cs":{sequence},"data":{data}}}'.encode()


# --- the figures of a day ---------------------------------------------------------------------------------------------


def day_row(paper: Paper, now: int, index: str) -> dict[str, str]:
    """Of the ticker of either market; empty before the first trade."""
    day = paper.truth.day(now)
    if day is None:
        return {}
    price = paper.price
    known = {
        "symbol": paper.symbol, "lastPrice": price(day.last), "highPrice24h": price(day.high),
        "lowPrice24h": price(day.low), "prevPrice24h": price(day.open), "volume24h": paper.size(day.volume),
        "turnover24h": paper.quote(day.quote),
        "price24hPcnt": f"{Decimal(day.last - day.open) / day.open:.{6 if paper.linear else 4}f}",
    }
    return _linear_row(paper, now, index, known) if paper.linear else known | {"usdIndexPrice": index}


def _linear_row(paper: Paper, now: int, index: str, known: Mapping[str, str]) -> dict[str, str]:
    """Open interest and funding are of our own making: the truth knows neither."""
    truth, price = paper.truth, paper.price
    last = truth.last_matches(1)[0]
    before = close_before(truth, now - HOUR - now % MINUTE)
    single, mark = 10**9 + last.id % 10**6, Decimal(index)
    next_funding = now - now % (FUNDING_HOURS * HOUR) + FUNDING_HOURS * HOUR
    row = {
        "symbol": paper.symbol, "tickDirection": direction(truth, last), "price24hPcnt": known["price24hPcnt"],
        "lastPrice": known["lastPrice"], "prevPrice24h": known["prevPrice24h"], "highPrice24h": known["highPrice24h"],
        "lowPrice24h": known["lowPrice24h"], "prevPrice1h": price(before) if before else known["prevPrice24h"],
        "markPrice": price(middle(truth) // 2), "indexPrice": index, "openInterest": paper.size(2 * single),
        "openInterestValue": f"{2 * single * truth.listing.lot * mark:.2f}",
        "singleOpenInterest": paper.size(single),
        "singleOpenInterestValue": f"{single * truth.listing.lot * mark:.2f}",
        "turnover24h": known["turnover24h"], "volume24h": known["volume24h"],
        "fundingIntervalHour": str(FUNDING_HOURS), "fundingCap": "0.005",
        "nextFundingTime": str(next_funding // MILLISECOND), "fundingRate": "0.0001",
    }
    return row | best_row(paper) | {"preOpenPrice": "", "preQty": "", "curPreListingPhase": ""}


def best_row(paper: Paper) -> dict[str, str]:
    """"" where a side is empty."""
    (bid,), (ask,) = paper.truth.bids(1) or [(0, 0)], paper.truth.asks(1) or [(0, 0)]
    return {
        name: write(count) if count else "" for name, write, count in (
            ("bid1Price", paper.price, bid[0]), ("bid1Size", paper.size, bid[1]),
            ("ask1Price", paper.price, ask[0]), ("ask1Size", paper.size, ask[1]),
        )
    }


def index_price(paper: Paper) -> str:
    """What the coin is worth elsewhere: the middle of this book, two digits finer than the tick on spot."""
    listing, twice = paper.listing, middle(paper.truth)
    if paper.linear:
        return paper.price(twice // 2)
    return f"{twice * listing.tick / 2:.6f}"


def middle(truth: Truth) -> int:
    """Twice the middle of the best prices, in ticks."""
    bids, asks = truth.bids(1), truth.asks(1)
    if not bids or not asks:
        last = truth.last_matches(1)
        return 2 * last[0].price if last else 2
    return bids[0][0] + asks[0][0]
