"""How Tardis names exchanges and symbols, and what they are called here."""
import re

from onetape.errors import UsageError
from onetape.model import InstrumentId
from onetape.venues import VENUES

LINEAR = "linear:"
_OLD = {"XBT": "BTC", "XDG": "DOGE"}  # Tardis has Kraken by v1 of its WebSocket, OneTape by v2
_NEW = {new: old for old, new in _OLD.items()}

VENUE_OF = {
    "binance": "binance", "binance-futures": "binance-usdm", "coinbase": "coinbase-exchange", "kraken": "kraken",
    "okex": "okx", "okex-swap": "okx", "okex-futures": "okx", "bybit": "bybit", "bybit-spot": "bybit",
    # ours, of what Tardis has not
    "coinbase-advanced": "coinbase",
}
"""By Tardis's name."""

_NAME = re.compile(r"\w[\w./:@+-]{0,79}")
"""A symbol; it goes into names of folders, terminals and spreadsheets."""


def instrument(exchange: str, symbol: str, venue: str | None = None) -> InstrumentId:
    """Of a row; under ``venue`` if that is named. Raises ValueError."""
    if _NAME.fullmatch(symbol) is None or ".." in symbol:
        raise ValueError(f"not a symbol: {symbol[:40]!r}")
    if venue is not None:
        return InstrumentId(venue, symbol)
    ours = VENUE_OF.get(exchange)
    if ours is None:
        raise ValueError(
            f"the exchange {exchange[:40]!r} is none that is known ({', '.join(VENUE_OF)}): --venue NAME says under"
            " which name to store it all the same")
    if exchange == "bybit" and not symbol.endswith("USD"):  # those are inverse, and no spot pair ends so
        return InstrumentId(ours, LINEAR + symbol)
    return InstrumentId(ours, _renamed(symbol, _OLD) if ours == "kraken" else symbol)


def exchange(id: InstrumentId) -> tuple[str, str]:
    """Tardis's exchange and symbol of an instrument of ours; of a venue that Tardis names alike, or not, its own."""
    venue, symbol = id
    match venue:
        case "binance-usdm":
            return "binance-futures", symbol
        case "coinbase-exchange":
            return "coinbase", symbol
        case "coinbase":
            return "coinbase-advanced", symbol
        case "kraken":
            return venue, _renamed(symbol, _NEW)
        case "bybit":
            linear = symbol.startswith(LINEAR) or symbol.endswith("USD")
            return "bybit" if linear else "bybit-spot", symbol.removeprefix(LINEAR)
        case "okx":
            kind = "okex-swap" if symbol.endswith("-SWAP") else "okex-futures" if symbol[-6:].isdigit() else "okex"
            return kind, symbol
    return venue, symbol


def name(text: str) -> str:
    """A venue as somebody names it who imports. Raises UsageError."""
    if text not in VENUES and re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,39}", text) is None:
        raise UsageError(f"--venue must be a name of small letters, digits, '-', '_' and '.': {text[:40]!r}")
    return text


def _renamed(symbol: str, names: dict[str, str]) -> str:
    return "/".join(names.get(it, it) for it in symbol.split("/"))
