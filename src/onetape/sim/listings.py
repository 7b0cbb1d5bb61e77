"""What the simulated venues list, with the ticks and lots of the real ones."""
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType

from onetape.sim.base import Listing


def _listing(
    venue: str, symbol: str, base: str, quote: str, tick: str, lot: str, rate: float, contract: str = "1",
) -> Listing:
    return Listing(
        venue=venue, symbol=symbol, base=base, quote=quote, tick=Decimal(tick), lot=Decimal(lot), rate=rate,
        contract=Decimal(contract),
    )


_BINANCE = (
    _listing("binance", "BTCUSDT", "BTC", "USDT", "0.01", "0.00001", 3.0),
    _listing("binance", "ETHUSDT", "ETH", "USDT", "0.01", "0.0001", 2.0),
    _listing("binance", "SOLUSDT", "SOL", "USDT", "0.01", "0.001", 1.0),
    _listing("binance", "DOGEUSDT", "DOGE", "USDT", "0.00001", "1", 0.7),
    _listing("binance", "BTCUSDC", "BTC", "USDC", "0.01", "0.00001", 1.0),
    _listing("binance", "ETHUSDC", "ETH", "USDC", "0.01", "0.0001", 0.7),
)

_BINANCE_USDM = (
    _listing("binance-usdm", "BTCUSDT", "BTC", "USDT", "0.10", "0.001", 4.0),
    _listing("binance-usdm", "ETHUSDT", "ETH", "USDT", "0.01", "0.001", 3.0),
    _listing("binance-usdm", "SOLUSDT", "SOL", "USDT", "0.0100", "0.01", 1.5),
    _listing("binance-usdm", "DOGEUSDT", "DOGE", "USDT", "0.000010", "1", 0.8),
    _listing("binance-usdm", "BTCUSDC", "BTC", "USDC", "0.1", "0.001", 0.6),
    _listing("binance-usdm", "ETHUSDC", "ETH", "USDC", "0.01", "0.001", 0.5),
)

_COINBASE = (
    _listing("coinbase", "BTC-USD", "BTC", "USD", "0.01", "0.00000001", 2.0),
    _listing("coinbase", "ETH-USD", "ETH", "USD", "0.01", "0.00000001", 1.5),
    _listing("coinbase", "SOL-USD", "SOL", "USD", "0.01", "0.00000001", 0.8),
    _listing("coinbase", "DOGE-USD", "DOGE", "USD", "0.00001", "0.1", 0.6),
    _listing("coinbase", "BTC-USDT", "BTC", "USDT", "0.01", "0.00000001", 0.4),
    _listing("coinbase", "ETH-USDT", "ETH", "USDT", "0.01", "0.00000001", 0.3),
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

_OKX = (
    _listing("okx", "BTC-USDT", "BTC", "USDT", "0.1", "0.00000001", 2.0),
    _listing("okx", "ETH-USDT", "ETH", "USDT", "0.01", "0.000001", 1.5),
    _listing("okx", "SOL-USDT", "SOL", "USDT", "0.01", "0.000001", 0.8),
    _listing("okx", "DOGE-USDT", "DOGE", "USDT", "0.00001", "0.000001", 0.5),
    _listing("okx", "TON-USDT", "TON", "USDT", "0.001", "0.0001", 0.4),
    _listing("okx", "UNI-USDT", "UNI", "USDT", "0.001", "0.000001", 0.3),
    _listing("okx", "PEPE-USDT", "PEPE", "USDT", "0.000000001", "1", 0.5),
    _listing("okx", "BTC-USDC", "BTC", "USDC", "0.1", "0.00000001", 0.5),
    _listing("okx", "ETH-USDC", "ETH", "USDC", "0.01", "0.000001", 0.4),
    _listing("okx", "BTC-USDT-SWAP", "BTC", "USDT", "0.1", "0.01", 3.0, "0.01"),
    _listing("okx", "ETH-USDT-SWAP", "ETH", "USDT", "0.01", "0.01", 2.0, "0.1"),
    _listing("okx", "SOL-USDT-SWAP", "SOL", "USDT", "0.01", "0.01", 1.0),
)

_BYBIT = (  # the venue has two markets on two sockets: symbols of perpetuals begin with that of theirs
    _listing("bybit", "BTCUSDT", "BTC", "USDT", "0.1", "0.000001", 2.0),
    _listing("bybit", "ETHUSDT", "ETH", "USDT", "0.01", "0.00001", 1.5),
    _listing("bybit", "SOLUSDT", "SOL", "USDT", "0.01", "0.0001", 0.8),
    _listing("bybit", "DOGEUSDT", "DOGE", "USDT", "0.00001", "0.1", 0.5),
    _listing("bybit", "BTCUSDC", "BTC", "USDC", "0.1", "0.000001", 0.6),
    _listing("bybit", "ETHUSDC", "ETH", "USDC", "0.01", "0.00001", 0.4),
    _listing("bybit", "linear:BTCUSDT", "BTC", "USDT", "0.10", "0.001", 3.0),
    _listing("bybit", "linear:ETHUSDT", "ETH", "USDT", "0.01", "0.01", 2.0),
    _listing("bybit", "linear:SOLUSDT", "SOL", "USDT", "0.010", "0.1", 1.0),
    _listing("bybit", "linear:DOGEUSDT", "DOGE", "USDT", "0.00001", "1", 0.6),
    _listing("bybit", "linear:BTCPERP", "BTC", "USDC", "0.10", "0.001", 0.3),
    _listing("bybit", "linear:ETHPERP", "ETH", "USDC", "0.01", "0.01", 0.2),
)

LISTINGS: Mapping[str, tuple[Listing, ...]] = MappingProxyType({
    "binance": _BINANCE, "binance-usdm": _BINANCE_USDM, "coinbase": _COINBASE, "kraken": _KRAKEN, "okx": _OKX,
    "bybit": _BYBIT,
})
"""By the venue that keeps the market."""

SHOWS: Mapping[str, str] = MappingProxyType({"coinbase-exchange": "coinbase"})
"""Venues that have no market of their own, and whose they show."""
