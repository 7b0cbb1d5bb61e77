"""What the simulated venues list, with the ticks and lots of the real ones."""
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from onetape.sim.base import Listing


def _listing(venue: str, symbol: str, base: str, quote: str, tick: str, lot: str, rate: float) -> Listing:
    return Listing(
        venue=venue, symbol=symbol, base=base, quote=quote, tick=Decimal(tick), lot=Decimal(lot), rate=rate,
    )


_BINANCE = (
    _listing("binance", "BTCUSDT", "BTC", "USDT", "0.01", "0.00001", 3.0),
    _listing("binance", "ETHUSDT", "ETH", "USDT", "0.01", "0.0001", 2.0),
    _listing("binance", "SOLUSDT", "SOL", "USDT", "0.01", "0.001", 1.0),
    _listing("binance", "DOGEUSDT", "DOGE", "USDT", "0.00001", "1", 0.7),
    _listing("binance", "BTCUSDC", "BTC", "USDC", "0.01", "0.00001", 1.0),
    _listing("binance", "ETHUSDC", "ETH", "USDC", "0.01", "0.0001", 0.7),
)

_KRAKEN = (
    _listing("kraken", "BTC/USD", "BTC", "USD", "0.1", "0.00000001", 1.5),
    _listing("kraken", "BTC/USDT", "BTC", "USDT", "0.1", "0.00000001", 0.5),
    _listing("kraken", "ETH/USD", "ETH", "USD", "0.01", "0.00000001", 1.0),
    _listing("kraken", "ETH/USDT", "ETH", "USDT", "0.01", "0.00000001", 0.4),
    _listing("kraken", "SOL/USD", "SOL", "USD", "0.01", "0.00000001", 0.6),
    _listing("kraken", "SOL/USDT", "SOL", "USDT", "0.01", "0.00000001", 0.3),
    _listing("kraken", "DOGE/USD", "DOGE", "USD", "0.0000001", "0.00000001", 0.5),
)

LISTINGS: Mapping[str, tuple[Listing, ...]] = MappingProxyType({"binance": _BINANCE, "kraken": _KRAKEN})
"""By venue."""
