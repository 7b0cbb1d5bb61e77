"""The names of the simulated USD-M's streams, and the route on which each is told (sections 1.2 and 6)."""
import re
from functools import lru_cache
from types import MappingProxyType

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.venues import binance_streams as spot
from onetape.sim.venues.binance_intervals import INTERVALS as SPOT_INTERVALS
from onetape.sim.venues.binance_streams import Kind, Stream, Target
from onetape.sim.venues.usdm_tape import BATCH

PUBLIC, MARKET = "public", "market"
ROUTES = MappingProxyType({"public": PUBLIC, "market": MARKET, "private": "private"})
INTERVALS = MappingProxyType({name: it for name, it in SPOT_INTERVALS.items() if name != "1s"})
DEPTH_PERIOD, KLINE_PERIOD, DAY_PERIOD = 250 * MILLISECOND, 250 * MILLISECOND, 2 * SECOND

_SYMBOL = r"(?P<symbol>[^@/!\s\ud800-\udfff]+)"
_NAME = re.compile(
    rf"{_SYMBOL}@(?:"
    r"(?P<plain>trade|aggTrade|bookTicker|ticker)"
    rf"|kline_(?P<interval>{'|'.join(INTERVALS)})"
    r"|depth(?P<levels>5|10|20)?(?:@(?P<speed>100|500)ms)?"
    r"|(?P<mute>depth@0ms|rpiDepth@500ms|miniTicker|markPrice(?:@1s)?|forceOrder|compositeIndex"
    rf"|(?:perpetual|current_quarter|next_quarter)@continuousKline_(?:{'|'.join(INTERVALS)}))"
    r")",
)
_OF_ALL = frozenset({
    "!bookTicker", "!ticker@arr", "!miniTicker@arr", "!markPrice@arr", "!markPrice@arr@1s", "!forceOrder@arr",
    "!contractInfo", "!assetIndex@arr", "tradingSession",
})
_PLAIN = MappingProxyType({
    Kind.TRADE: (0, PUBLIC), Kind.AGGREGATE: (BATCH, MARKET), Kind.BEST: (0, PUBLIC), Kind.DAY: (DAY_PERIOD, MARKET),
})


@lru_cache(maxsize=4_096)
def parse(name: str) -> Stream | None:
    """None: that is no name of a stream."""
    if name in _OF_ALL:
        return Stream(name, "", Kind.MUTE)
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    symbol, plain, interval, levels, speed, mute = found.group(
        "symbol", "plain", "interval", "levels", "speed", "mute",
    )
    if plain:
        period, route = _PLAIN[Kind(plain)]
        return Stream(name, symbol, Kind(plain), period, route=route)
    if interval:
        return Stream(name, symbol, Kind.KLINE, KLINE_PERIOD, interval=interval, route=MARKET)
    if mute:
        return Stream(name, symbol, Kind.MUTE)
    period = int(speed) * MILLISECOND if speed else DEPTH_PERIOD
    return Stream(name, symbol, Kind.PARTIAL if levels else Kind.DIFF, period, int(levels or 0), route=PUBLIC)


def read_target(target: str) -> Target:
    """As on spot, behind a route; without one, only what is public is told (section 1.2). Times are in ms."""
    path, mark, query = target.partition("?")
    first, _, rest = path.lstrip("/").partition("/")
    within = spot.read_target(f"/{rest}{mark}{query}" if first in ROUTES else target)
    return Target((within.manner[0], MILLISECOND), within.names, ROUTES.get(first, PUBLIC))
