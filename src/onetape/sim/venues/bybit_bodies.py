"""How the simulated Bybit lists its instruments over REST: all the fields that were recorded (section 6)."""
from decimal import Decimal
from zlib import crc32

from onetape.sim.venues.bybit_frames import Paper

_LAUNCH = "1610604231000"
_RISK = {"priceLimitRatioX": "0.005", "priceLimitRatioY": "0.01"}


def instrument(paper: Paper) -> dict[str, object]:
    return _linear(paper) if paper.linear else _spot(paper)


def _spot(paper: Paper) -> dict[str, object]:
    it, lot = paper.listing, f"{paper.listing.lot:f}"
    return {
        "symbolId": _number(paper), "symbol": paper.symbol, "baseCoin": it.base, "quoteCoin": it.quote,
        "innovation": "0", "status": "Trading", "marginTrading": "utaOnly", "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": lot, "quotePrecision": f"{(it.tick * it.lot).normalize():f}", "minOrderQty": lot,
            "maxOrderQty": "230", "minOrderAmt": "5", "maxOrderAmt": "8000000", "maxLimitOrderQty": "230",
            "maxMarketOrderQty": "120", "postOnlyMaxLimitOrderSize": "1150",
        },
        "priceFilter": {"tickSize": f"{it.tick:f}"}, "riskParameters": _RISK, "symbolType": "", "xstockMultiplier": "1",
    }


def _linear(paper: Paper) -> dict[str, object]:
    """``displayName`` tells the pair where the name does not: of perpetuals against USDC."""
    it, tick, lot = paper.listing, f"{paper.listing.tick:f}", f"{paper.listing.lot:f}"
    most = f"{Decimal(1_500).quantize(it.lot):f}"
    return {
        "symbol": paper.symbol, "contractType": "LinearPerpetual", "status": "Trading", "baseCoin": it.base,
        "quoteCoin": it.quote, "launchTime": _LAUNCH, "deliveryTime": "0", "deliveryFeeRate": "",
        "priceScale": str(max(-int(it.tick.as_tuple().exponent), 0)),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": tick, "maxPrice": f"{it.tick * 19_999_998:f}", "tickSize": tick},
        "lotSizeFilter": {
            "maxOrderQty": most, "minOrderQty": lot, "qtyStep": lot, "postOnlyMaxOrderQty": most,
            "maxMktOrderQty": most, "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True, "fundingInterval": 480, "settleCoin": it.quote, "copyTrading": "both",
        "upperFundingRate": "0.005", "lowerFundingRate": "-0.005", "isPreListing": False, "preListingInfo": None,
        "riskParameters": _RISK, "displayName": f"{it.base}{it.quote}" if paper.symbol.endswith("PERP") else "",
        "symbolType": "", "forbidUplWithdrawal": False, "symbolId": _number(paper),
    }


def _number(paper: Paper) -> int:
    return crc32(paper.listing.symbol.encode()) % 1_000
