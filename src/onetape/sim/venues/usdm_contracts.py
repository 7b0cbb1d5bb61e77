"""What the simulated USD-M lists: perpetuals, and other contracts that nobody trades here (section 8)."""
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from msgspec import Struct

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.base import Listing
from onetape.sim.venues.binance_budget import USDM_WEIGHT
from onetape.sim.venues.binance_frames import Paper

NEVER_DELIVERED = 4_133_404_800_000
ONBOARD = 1_569_398_400_000
_FRIDAY = 4
_DELIVERED_AT = timedelta(hours=8)


class Contract(Struct, frozen=True, kw_only=True):
    """Of what sort an instrument is."""

    kind: str = "PERPETUAL"
    status: str = "TRADING"
    pair: str = ""
    """Empty: called like the symbol."""
    delivery: int = NEVER_DELIVERED
    """ms since the epoch."""
    underlying: str = "COIN"


def others(venue: str, now: int) -> list[tuple[Listing, Contract]]:
    """Two quarterlies, a stock, a coin that is being settled, and one that is still to come."""
    current, following = _quarters(datetime.fromtimestamp(now // SECOND, UTC))
    return [
        (_listing(venue, f"BTCUSDT_{current:%y%m%d}", "BTC", "0.1"), _dated("CURRENT_QUARTER", current)),
        (_listing(venue, f"BTCUSDT_{following:%y%m%d}", "BTC", "0.1"), _dated("NEXT_QUARTER", following)),
        (_listing(venue, "TSLAUSDT", "TSLA", "0.01"), Contract(kind="TRADIFI_PERPETUAL", underlying="EQUITY")),
        (_listing(venue, "MKRUSDT", "MKR", "0.10"), Contract(status="SETTLING")),
        (_listing(venue, "MEGAUSDT", "MEGA", "0.0001"), Contract(status="PENDING_TRADING")),
    ]


def _listing(venue: str, symbol: str, base: str, tick: str) -> Listing:
    return Listing(venue=venue, symbol=symbol, base=base, quote="USDT", tick=Decimal(tick), lot=Decimal("0.001"))


def _dated(kind: str, delivery: datetime) -> Contract:
    return Contract(kind=kind, pair="BTCUSDT", delivery=int(delivery.timestamp()) * SECOND // MILLISECOND)


def _quarters(now: datetime) -> tuple[datetime, datetime]:
    """The next two deliveries: on the last Fridays of quarters."""
    months = (divmod(now.year * 12 + (now.month - 1) // 3 * 3 + 3 * n, 12) for n in range(1, 4))
    fridays = (_last_friday(datetime(year, month + 1, 1, tzinfo=UTC)) for year, month in months)
    current, following, *_ = (it for it in fridays if it > now)
    return current, following


def _last_friday(next_month: datetime) -> datetime:
    """Before the first of a month."""
    last = next_month - timedelta(days=1)
    return last - timedelta(days=(last.weekday() - _FRIDAY) % 7) + _DELIVERED_AT


RATE_LIMITS = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": USDM_WEIGHT},
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1_200},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
]
ASSETS = [
    {"asset": it, "marginAvailable": True, "autoAssetExchange": "-10000"} for it in ("USDT", "USDC")
]


def row(paper: Paper, it: Contract) -> Mapping[str, object]:
    """In the list of instruments. ``pricePrecision`` is not the tick."""
    listing = paper.truth.listing
    return {
        "symbol": paper.symbol, "pair": it.pair or paper.symbol, "contractType": it.kind, "deliveryDate": it.delivery,
        "onboardDate": ONBOARD, "status": it.status, "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000", "baseAsset": listing.base, "quoteAsset": listing.quote,
        "marginAsset": listing.quote, "pricePrecision": paper.price_digits, "quantityPrecision": paper.size_digits,
        "baseAssetPrecision": 8, "quotePrecision": 8, "underlyingType": it.underlying, "underlyingSubType": ["PoW"],
        "triggerProtect": "0.0500", "liquidationFee": "0.012500", "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": _filters(paper), "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "orderTypes": ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT"], "permissionSets": ["GRID", "COPY"],
    }


def _filters(paper: Paper) -> list[Mapping[str, object]]:
    tick, lot = paper.price(1), paper.size(1)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "4529764", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "1000", "stepSize": lot},
        {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": "120", "stepSize": lot},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
        {"filterType": "MIN_NOTIONAL", "notional": "100"},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.0500", "multiplierDown": "0.9500", "multiplierDecimal": "4"},
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]
