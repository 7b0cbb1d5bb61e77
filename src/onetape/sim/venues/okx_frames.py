"""The text of what the simulated OKX tells of an instrument: numbers and times in quotes, but for ids (section 4).

Sizes of swaps are contracts. No number ends in a zero behind the point: as recorded.
"""
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec import json

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE
from onetape.sim.base import Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Level, Truth

RPI = "books-rpi"


class Paper:
    """How one instrument is named, and how its numbers are written."""

    def __init__(self, truth: Truth) -> None:
        self.truth, self.listing = truth, truth.listing
        self.symbol = truth.listing.symbol
        self.swap = self.symbol.endswith("-SWAP")
        self.type = "SWAP" if self.swap else "SPOT"
        self.price, self.size = _plain(truth.price_text), _plain(truth.size_text)
        self._base = truth.listing.lot * truth.listing.contract
        self._shift = 0
        self._opens: dict[int, int] = {}

    def base(self, lots: int) -> str:
        """Exactly, in coins."""
        return stripped(f"{lots * self._base:f}")

    def quote(self, ticks_lots: int) -> str:
        """A turnover, exactly."""
        return stripped(f"{ticks_lots * self.listing.tick * self._base:f}")

    def number(self, sequence: int) -> int:
        """The venue's seqId of a change."""
        return max(sequence + self._shift, 0)

    def restart(self) -> None:
        """Maintenance: the numbers begin anew, lower than before."""
        self._shift = 1 - self.truth.sequence

    def open(self, midnight: int) -> str:
        """The first price since then; the last one if there is none yet, "" if there never was."""
        if midnight not in self._opens:
            first = self.truth.candles(MINUTE, midnight, midnight + DAY)
            if not first:
                last = self.truth.last_matches(1)
                return self.price(last[0].price) if last else ""
            self._opens = {it: price for it, price in self._opens.items() if it > midnight - DAY}
            self._opens[midnight] = first[0].open
        return self.price(self._opens[midnight])

    def levels(self, levels: Iterable[Level], channel: str = "") -> str:
        """``[["78722.3","0.38699412","0","10"],...]``; the third says something in one channel only (section 5.6)."""
        price, size = self.price, self.size
        if channel == RPI:
            return "[" + ",".join([f'["{price(p)}","{size(s)}","{size(s)}","{orders(p, s)}"]' for p, s in levels]) + "]"
        return "[" + ",".join([f'["{price(p)}","{size(s)}","0","{orders(p, s)}"]' for p, s in levels]) + "]"


def orders(price: int, lots: int) -> int:
    """How many make up a level: of our own making, the truth does not know."""
    return 1 + (price + lots) % 9 if lots else 0


def stripped(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _plain(write: Callable[[int], str]) -> Callable[[int], str]:
    return lru_cache(1 << 16)(lambda count: stripped(write(count)))


def side_of(it: Match) -> str:
    """The taker's."""
    return "buy" if it.buy else "sell"


# --- streams: times in ns, as the venue's clock shows them ------------------------------------------------------------


def _head(channel: str, symbol: str) -> str:
    return f'{{"arg":{{"channel":"{channel}","instId":"{symbol}"}},'


def trade(paper: Paper, merged: Sequence[Match], sequence: int, time: int) -> bytes:
    """Matches of one order at one price, as one: named by the last of them (section 5.1)."""
    last, size = merged[-1], sum(it.size for it in merged)
    return (
        f'{_head("trades", paper.symbol)}"data":[{{"instId":"{paper.symbol}","tradeId":"{last.id}",'
        f'"px":"{paper.price(last.price)}","sz":"{paper.size(size)}","side":"{side_of(last)}",'
        f'"ts":"{time // MILLISECOND}","count":"{len(merged)}","source":"0","seqId":{paper.number(sequence)}}}]}}'
    ).encode()


def single_trade(paper: Paper, it: Match, time: int) -> bytes:
    return (
        f'{_head("trades-all", paper.symbol)}"data":[{{"instId":"{paper.symbol}","tradeId":"{it.id}",'
        f'"px":"{paper.price(it.price)}","sz":"{paper.size(it.size)}","side":"{side_of(it)}","source":"0",'
        f'"ts":"{time // MILLISECOND}"}}]}}'
    ).encode()


def book(
    paper: Paper, channel: str, levels: tuple[Iterable[Level], Iterable[Level]], numbers: tuple[int, int], time: int,
    checksum: int,
) -> bytes:
    """``levels``: bids and asks; ``numbers``: prevSeqId and seqId. A snapshot where nothing came before."""
    (before, number), (bids, asks) = numbers, levels
    summed = "" if channel == RPI else f'"checksum":{checksum},'
    return (
        f'{_head(channel, paper.symbol)}"action":"{"update" if before >= 0 else "snapshot"}",'
        f'"data":[{{"asks":{paper.levels(asks, channel)},"bids":{paper.levels(bids, channel)},'
        f'"ts":"{time // MILLISECOND}",{summed}"seqId":{number},"prevSeqId":{before}}}]}}'
    ).encode()


def best(paper: Paper, channel: str, levels: tuple[Iterable[Level], Iterable[Level]], number: int, time: int) -> bytes:
    bids, asks = levels
    name = f'"instId":"{paper.symbol}",' if channel == "books5" else ""
    return (
        f'{_head(channel, paper.symbol)}"data":[{{"asks":{paper.levels(asks)},"bids":{paper.levels(bids)},{name}'
        f'"ts":"{time // MILLISECOND}","seqId":{number}}}]}}'
    ).encode()


def candle(paper: Paper, bar: str, it: Kline, *, closed: bool) -> bytes:
    row = json.encode(candle_row(paper, it, closed=closed)).decode()
    return f'{_head(f"candle{bar}", paper.symbol)}"data":[{row}]}}'.encode()


def ticker(paper: Paper, row: Mapping[str, str]) -> bytes:
    return f'{_head("tickers", paper.symbol)}"data":[{json.encode(row).decode()}]}}'.encode()


# --- rows that REST has as well ---------------------------------------------------------------------------------------


def trade_row(paper: Paper, it: Match, time: int) -> dict[str, str]:
    return {
        "instId": paper.symbol, "side": side_of(it), "sz": paper.size(it.size), "source": "0",
        "px": paper.price(it.price), "tradeId": str(it.id), "ts": str(time // MILLISECOND),
    }


def candle_row(paper: Paper, it: Kline, *, closed: bool) -> list[str]:
    """Volumes in contracts and coins for swaps, in coins and quote for spot; the last one is quote for both."""
    quote, price = paper.quote(it.quote), paper.price
    return [
        str(it.start // MILLISECOND), price(it.open), price(it.high), price(it.low), price(it.close),
        paper.size(it.volume), paper.base(it.volume) if paper.swap else quote, quote, "1" if closed else "0",
    ]


def ticker_row(paper: Paper, now: int, skew: int) -> dict[str, str]:
    """"" for what there is not yet (section 4), "0" for the size of the last trade (section 5.3)."""
    truth, price, size = paper.truth, paper.price, paper.size
    day, last = truth.day(now), truth.last_matches(1)
    bid, ask = (side[0] if side else None for side in (truth.bids(1), truth.asks(1)))
    turnover = paper.base(day.volume) if day and paper.swap else paper.quote(day.quote) if day else "0"
    return {
        "instType": paper.type, "instId": paper.symbol, "last": price(last[0].price) if last else "",
        "lastSz": size(last[0].size) if last else "0", "askPx": price(ask[0]) if ask else "",
        "askSz": size(ask[1]) if ask else "", "bidPx": price(bid[0]) if bid else "",
        "bidSz": size(bid[1]) if bid else "", "open24h": price(day.open) if day else "",
        "high24h": price(day.high) if day else "", "low24h": price(day.low) if day else "",
        "sodUtc0": paper.open(now // DAY * DAY), "sodUtc8": paper.open((now + 8 * HOUR) // DAY * DAY - 8 * HOUR),
        "volCcy24h": turnover, "vol24h": size(day.volume) if day else "0", "ts": str((now + skew) // MILLISECOND),
    }
