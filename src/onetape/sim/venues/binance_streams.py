"""The names of the simulated Binance's streams, and the URLs that hold them (sections 1.1 and 5)."""
import re
from enum import StrEnum
from functools import lru_cache
from urllib.parse import unquote

from msgspec import Struct

from onetape.clock import MICROSECOND, MILLISECOND, SECOND
from onetape.sim.base import Rejected
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
    route: str = ""
    """Where it is told; spot has but one."""


Manner = tuple[bool, int]
"""How a connection wants its frames: wrapped with the stream's name or not, and its unit of time in ns."""


class Target(Struct, frozen=True):
    """What a URL asks for."""

    manner: Manner
    names: list[str]
    """Of streams."""
    route: str = ""


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


def read_target(target: str) -> Target:
    """``/ws/<s1>/<s2>`` or ``/stream?streams=<s1>/<s2>``: whether combined, the unit of time, the streams.

    Raises Rejected.
    """
    path, _, query = target.partition("?")
    pairs = (it.partition("=") for it in query.split("&"))
    options = {name: unquote(value) for name, _, value in pairs}  # a plus stays: it stands in names of zones
    unit = MICROSECOND if options.get("timeUnit", "").upper() == "MICROSECOND" else MILLISECOND
    first, *names = [unquote(it) for it in path.split("/") if it] or [""]
    if first == "ws":
        return Target((False, unit), names)
    if first == "stream" and not names:
        return Target((True, unit), [it for it in options.get("streams", "").split("/") if it])
    raise Rejected(404)
