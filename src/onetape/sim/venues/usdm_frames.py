"""The text of what the simulated USD-M tells of an instrument: with the digits of tick and lot (section 6)."""
from collections.abc import Iterable

from msgspec import json, structs

from onetape.sim.base import Match
from onetape.sim.truth import Day, Level
from onetape.sim.venues import usdm_tape as tape
from onetape.sim.venues.binance_aggregates import Aggregate
from onetape.sim.venues.binance_frames import Paper, day_figures

_OFF_PRICE = 97, 100
"""What an off-book price is of the book's."""


def trade(paper: Paper, it: Match, event: int, skew: int, unit: int) -> str:
    return _print(paper, it, paper.id(it.id), "MARKET", event, skew, unit)


def off_book(paper: Paper, before: Match, event: int, skew: int, unit: int) -> str:
    """What follows a match and is none: at a price that nobody quoted, or at none at all (section 6.2)."""
    why = tape.reason(before.id)
    factor, divisor = _OFF_PRICE
    price, size = (0, 0) if why == tape.NOT_APPLICABLE else (before.price * factor // divisor, before.size)
    it = structs.replace(before, price=price, size=size)
    return _print(paper, it, paper.id(before.id) + 1, why, event, skew, unit)


def _print(paper: Paper, it: Match, id: int, why: str, event: int, skew: int, unit: int) -> str:
    return (
        f'{{"e":"trade","E":{event // unit},"T":{(it.time + skew) // unit},"s":"{paper.symbol}","t":{id},'
        f'"p":"{paper.price(it.price)}","q":"{paper.size(it.size)}","X":"{why}","m":{_false(it.buy)}}}'
    )


def aggregate(paper: Paper, it: Aggregate, event: int, skew: int, unit: int) -> str:
    return (
        f'{{"e":"aggTrade","E":{event // unit},"s":"{paper.symbol}","a":{it.id},"p":"{paper.price(it.price)}",'
        f'"q":"{paper.size(it.size)}","nq":"{paper.size(_without_retail(paper, it))}","f":{paper.id(it.first)},'
        f'"l":{paper.id(it.last)},"T":{(it.time + skew) // unit},"m":{_false(it.buy)},"st":1}}'
    )


def _without_retail(paper: Paper, it: Aggregate) -> int:
    matches = paper.truth.matches_from(it.first, it.last - it.first + 1)  # without a hole within
    return sum(one.size for one in matches if not tape.is_retail(one.id))


def best(paper: Paper, sequence: int, bid: Level, ask: Level, event: int, time: int, unit: int) -> str:
    return (
        f'{{"e":"bookTicker","u":{sequence},"E":{event // unit},"T":{time // unit},"s":"{paper.symbol}",'
        f'"ps":"{paper.symbol}","b":"{paper.price(bid[0])}","B":"{paper.size(bid[1])}","a":"{paper.price(ask[0])}",'
        f'"A":"{paper.size(ask[1])}","st":1}}'
    )


def depth(
    paper: Paper, ids: tuple[int, int, int], bids: Iterable[Level], asks: Iterable[Level], event: int, time: int,
    unit: int,
) -> str:
    """Of a diff or of a snapshot: they look the same. ``ids``: first, last, and last of the event before."""
    first, last, previous = ids
    return (
        f'{{"e":"depthUpdate","E":{event // unit},"T":{time // unit},"s":"{paper.symbol}","U":{first},"u":{last},'
        f'"pu":{previous},"b":{paper.levels(bids)},"a":{paper.levels(asks)},"ps":"{paper.symbol}","st":1}}'
    )


def ticker(paper: Paper, day: Day | None, event: int, unit: int) -> str:
    figures = day_figures(paper, day, event, unit)
    return json.encode(
        {"e": "24hrTicker", "E": event // unit, "s": paper.symbol, "ps": paper.symbol}
        | {key: figures[of] for key, of in _LETTERS.items()} | {"st": 1},
    ).decode()


_LETTERS = {
    "p": "priceChange", "P": "priceChangePercent", "w": "weightedAvgPrice", "c": "lastPrice", "Q": "lastQty",
    "o": "openPrice", "h": "highPrice", "l": "lowPrice", "v": "volume", "q": "quoteVolume", "O": "openTime",
    "C": "closeTime", "F": "firstId", "L": "lastId", "n": "count",
}
DAY_FIGURES = ("symbol", *_LETTERS.values())
"""What is known of the last 24 hours: neither best prices nor the one before (section 6.4)."""


def book(paper: Paper, sequence: int, bids: Iterable[Level], asks: Iterable[Level], event: int, time: int) -> str:
    """Of REST; times in ms."""
    return (
        f'{{"lastUpdateId":{sequence},"E":{event},"T":{time},"bids":{paper.levels(bids)},"asks":{paper.levels(asks)}}}'
    )


def _false(truth: bool) -> str:
    return "false" if truth else "true"
