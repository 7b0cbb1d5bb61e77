"""The names of the simulated Binance's streams, and what they ask for (sections 1.1 and 5)."""
import re
from enum import StrEnum
from functools import lru_cache

from msgspec import Struct

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.venues.binance_intervals import INTERVALS


class Kind(StrEnum):
    """What a stream tells."""

    TRADE = "trade"
    AGGREGATE = "aggTrade"
    BEST = "bookTicker"
    DAY = "ticker"
    KLINE = "kline"
    DIFF = "depth"
    PARTIAL = "partial depth"
    MUTE = "mute"
    """The real venue has it; this one acks it, and is silent."""


CHANNELS = {
    Kind.TRADE: "trades", Kind.AGGREGATE: "trades", Kind.BEST: "quotes", Kind.DAY: "ticker", Kind.KLINE: "candles",
    Kind.DIFF: "book", Kind.PARTIAL: "book",
}
"""What the faults call them."""


class Stream(Struct, frozen=True):
    """A well-formed name, whether or not its symbol exists."""

    name: str
    symbol: str
    """In lower case if it is to be found."""
    kind: Kind
    period: int = 0
    """ns; 0: at once."""
    levels: int = 0
    interval: str = ""


_NAME = re.compile(
    r"(?P<symbol>[^@/\s\ud800-\udfff]+)@(?:"  # half a character could not be listed again
    r"(?P<plain>trade|aggTrade|bookTicker|ticker)"
    rf"|kline_(?P<interval>{'|'.join(INTERVALS)})"
    r"|depth(?P<levels>5|10|20)?(?:@(?P<speed>100|1000)ms)?"
    rf"|(?P<mute>blockTrade|miniTicker|avgPrice|ticker_(?:1h|4h|1d)|arr|kline_(?:{'|'.join(INTERVALS)})@[+-]\d\d:\d\d)"
    r")",
)


@lru_cache(maxsize=4_096)
def parse(name: str) -> Stream | None:
    """None: that is no name of a stream."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    symbol, plain, interval, levels, speed, mute = found.group(
        "symbol", "plain", "interval", "levels", "speed", "mute",
    )
    if plain:
        return Stream(name, symbol, Kind(plain), SECOND if plain == Kind.DAY else 0)
    if interval:
        return Stream(name, symbol, Kind.KLINE, SECOND if interval == "1s" else 2 * SECOND, interval=interval)
    if mute:
        return Stream(name, symbol, Kind.MUTE)
    period = 100 * MILLISECOND if speed == "100" else SECOND
    return Stream(name, symbol, Kind.PARTIAL if levels else Kind.DIFF, period, int(levels or 0))
