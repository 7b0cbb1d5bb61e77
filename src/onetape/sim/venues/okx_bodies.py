"""How the simulated OKX lists its instruments: all the fields that were recorded, and the newer ones (section 6).

Beside those of the market it lists some that a client must not offer: of other kinds, not traded now, or not yet filled
in. They are names only: nothing can be heard of them.
"""
from collections.abc import Mapping
from types import MappingProxyType
from zlib import crc32

from onetape.sim.venues.okx_frames import Paper

_LISTED, _EXPIRY = "1548133413000", "1798185600000"
_MINIMUM = {"BTC": "0.00001", "ETH": "0.001", "SOL": "0.01", "DOGE": "10"}
_CONTRACT = {
    "lever": "100", "openType": "", "settleCcy": "USDT", "ctMult": "1", "ctType": "linear", "quoteCcy": "",
    "baseCcy": "", "maxMktAmt": "", "maxMktSz": "30000", "maxLmtSz": "100000000", "maxStopSz": "30000",
}
_BLANK = {
    "alias": "", "auctionEndTime": "", "baseCcy": "", "category": "1", "contTdSwTime": "", "ctMult": "", "ctType": "",
    "ctVal": "", "ctValCcy": "", "expTime": "", "futureSettlement": False, "instCategory": "1", "instFamily": "",
    "instId": "", "instIdCode": 0, "instType": "", "lever": "10", "listTime": _LISTED, "lotSz": "",
    "maxIcebergSz": "9999999999.0000000000000000", "maxLmtAmt": "20000000", "maxLmtSz": "9999999999",
    "maxMktAmt": "1000000", "maxMktSz": "1000000", "maxPlatOILmt": "", "maxStopSz": "1000000",
    "maxTriggerSz": "9999999999.0000000000000000", "maxTwapSz": "9999999999.0000000000000000", "minSz": "",
    "openType": "call_auction", "optType": "", "posLmtAmt": "", "posLmtPct": "", "preMktSwTime": "", "quoteCcy": "",
    "ruleType": "normal", "settleCcy": "", "state": "live", "stk": "", "tickSz": "", "tradeQuoteCcyList": [],
    "uly": "", "upcChg": [],
}

Row = Mapping[str, object]


def instrument(paper: Paper, state: str = "live") -> Row:
    it, lot = paper.listing, f"{paper.listing.lot:f}"
    if paper.swap:
        family = paper.symbol.removesuffix("-SWAP")
        return _row("SWAP", paper.symbol, tickSz=f"{it.tick:f}", lotSz=lot, minSz=lot, state=state) | _CONTRACT | {
            "settleCcy": it.quote, "ctVal": f"{it.contract:f}", "ctValCcy": it.base, "instFamily": family,
            "uly": family,
        }
    return _row("SPOT", paper.symbol, tickSz=f"{it.tick:f}", lotSz=lot, minSz=_MINIMUM.get(it.base, lot)) | {
        "baseCcy": it.base, "quoteCcy": it.quote, "tradeQuoteCcyList": [it.quote], "state": state,
    }


def _row(kind: str, symbol: str, **fields: object) -> dict[str, object]:
    return _BLANK | {"instType": kind, "instId": symbol, "instIdCode": crc32(symbol.encode()) % 1_000_000} | fields


def _contract(kind: str, symbol: str, base: str, contract: str, **fields: object) -> dict[str, object]:
    family = "-".join(symbol.split("-")[:2])
    known = {"ctVal": contract, "ctValCcy": base, "instFamily": family, "uly": family, "tickSz": "0.1", "lotSz": "1"}
    return _row(kind, symbol, minSz="1") | _CONTRACT | known | fields


_INVERSE = {"ctType": "inverse", "settleCcy": "BTC"}

OTHERS: Mapping[str, tuple[Row, ...]] = MappingProxyType({
    "SPOT": (
        _row("SPOT", "LUNC-USDT", baseCcy="LUNC", quoteCcy="USDT", tickSz="0.00000001", lotSz="1", minSz="1",
             state="suspend"),
        _row("SPOT", "NEWCOIN-USDT", baseCcy="NEWCOIN", quoteCcy="USDT", state="preopen"),
    ),
    "SWAP": (
        _contract("SWAP", "BTC-USD-SWAP", "USD", "100", **_INVERSE),
        _contract("SWAP", "TSLA-USDT-SWAP", "TSLA", "1", instCategory="3"),
        _contract("SWAP", "XAU-USDT-SWAP", "XAU", "0.001", instCategory="4"),
        _contract("SWAP", "TESTBTC-USDT-SWAP", "TESTBTC", "1", state="test"),
        _contract("SWAP", "NEWCOIN-USDT-SWAP", "", "", state="preopen", tickSz="", lotSz="", minSz="",
                  ruleType="pre_market"),
    ),
    "FUTURES": (
        _contract("FUTURES", "BTC-USDT-261225", "BTC", "0.01", alias="quarter", expTime=_EXPIRY),
        _contract("FUTURES", "BTC-USD-261225", "USD", "100", alias="quarter", expTime=_EXPIRY, **_INVERSE),
        _contract("FUTURES", "BTC-USDT-311226", "BTC", "0.0001", ruleType="xperp", expTime=_EXPIRY),
    ),
    "MARGIN": (),
    "OPTION": (),
})
"""By instType: what is listed besides the market."""
