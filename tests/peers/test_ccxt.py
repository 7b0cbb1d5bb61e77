"""ccxt against every simulated venue, redirected by its own table of addresses."""
from importlib.util import find_spec

import pytest

from tests.peers.bench import compared

pytestmark = pytest.mark.skipif(find_spec("ccxt") is None, reason="ccxt is not installed: make test-peers")
SYMBOLS = {
    "binance": ("BTCUSDT", "BTC/USDT"),
    "binance-usdm": ("BTCUSDT", "BTC/USDT:USDT"),
    "bybit": ("BTCUSDT", "BTC/USDT"),
    "coinbase": ("BTC-USD", "BTC/USD"),
    "coinbase-exchange": ("BTC-USD", "BTC/USD"),
    "kraken": ("BTC/USD", "BTC/USD"),
    "okx": ("BTC-USDT", "BTC/USDT"),
}


@pytest.mark.parametrize("venue", SYMBOLS)
def test_ccxt(venue, tmp_path):
    symbol, known_as = SYMBOLS[venue]
    counts = compared("with_ccxt", venue, symbol, known_as, tmp_path)
    print(counts)
    assert counts["trade", "websocket"] >= 60
    assert counts["book", "websocket"] >= 60
    assert counts["trade", "rest"] >= 20
    assert counts["book", "rest"] == 3
    assert counts["candle", "rest"] - counts["not compared", "rest"] >= 5
    assert counts["market", "rest"] >= 3
