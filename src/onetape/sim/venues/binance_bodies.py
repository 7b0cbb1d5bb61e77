"""The bodies of the simulated Binance's REST answers (section 7)."""
from collections.abc import Sequence

from msgspec import json

from onetape.sim.base import Match
from onetape.sim.klines import Kline
from onetape.sim.venues import binance_frames as frames
from onetape.sim.venues.binance_aggregates import Aggregate
from onetape.sim.venues.binance_ask import Ask
from onetape.sim.venues.binance_budget import WEIGHT
from onetape.sim.venues.binance_frames import Paper
from onetape.sim.venues.binance_intervals import Interval


def trades(ask: Ask, paper: Paper, matches: Sequence[Match]) -> bytes:
    return json.encode([
        {
            "id": it.id, "price": paper.price(it.price), "qty": paper.size(it.size),
            "quoteQty": paper.quote(it.price * it.size), "time": ask.shown(it.time), "isBuyerMaker": not it.buy,
            "isBestMatch": True,
        }
        for it in matches
    ])


def aggregate(ask: Ask, paper: Paper, it: Aggregate) -> dict[str, object]:
    return {
        "a": it.id, "p": paper.price(it.price), "q": paper.size(it.size), "f": paper.id(it.first),
        "l": paper.id(it.last), "T": ask.shown(it.time), "m": not it.buy,
    }


def candle(unit: int, paper: Paper, interval: Interval, it: Kline) -> list[object]:
    return [
        it.start // unit, paper.price(it.open), paper.price(it.high), paper.price(it.low), paper.price(it.close),
        paper.size(it.volume), interval.after(it.start) // unit - 1, paper.quote(it.quote), it.trades,
        paper.size(it.taker_volume), paper.quote(it.taker_quote), "0",
    ]


def day(ask: Ask, paper: Paper, names: Sequence[str] = ()) -> dict[str, str | int]:
    """All figures, or those of these names."""
    figures = frames.day_figures(paper, paper.truth.day(ask.now), ask.now + ask.skew, ask.unit)
    return {name: figures[name] for name in names or figures}


MINI = (
    "symbol", "openPrice", "highPrice", "lowPrice", "lastPrice", "volume", "quoteVolume", "openTime", "closeTime",
    "firstId", "lastId", "count",
)


def price(paper: Paper) -> dict[str, str]:
    last = paper.truth.last_matches(1)
    return {"symbol": paper.symbol, "price": paper.price(last[0].price if last else 0)}


def best(paper: Paper) -> dict[str, str]:
    bid, ask = paper.best()
    return {
        "symbol": paper.symbol, "bidPrice": paper.price(bid[0]), "bidQty": paper.size(bid[1]),
        "askPrice": paper.price(ask[0]), "askQty": paper.size(ask[1]),
    }


RATE_LIMITS = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": WEIGHT},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200_000},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000},
]  # the last cannot be reached: every request weighs at least 1


def instrument(paper: Paper) -> dict[str, object]:
    listing = paper.truth.listing
    return {
        "symbol": paper.symbol, "status": "TRADING", "baseAsset": listing.base, "baseAssetPrecision": 8,
        "quoteAsset": listing.quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8, "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "icebergAllowed": True,
        "ocoAllowed": True, "otoAllowed": True, "quoteOrderQtyMarketAllowed": True, "allowTrailingStop": True,
        "cancelReplaceAllowed": True, "amendAllowed": True, "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": True, "filters": _filters(paper), "permissions": [],
        "permissionSets": [["SPOT", "MARGIN"]], "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
    }


def _filters(paper: Paper) -> list[dict[str, object]]:
    tick, lot = frames.fixed(paper.tick), frames.fixed(paper.lot)
    most = frames.fixed(paper.lot * 900_000_000)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot},
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": most, "stepSize": "0.00000000"},
        {
            "filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True,
            "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
    ]
