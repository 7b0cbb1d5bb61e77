"""ccxt against every simulated venue, redirected by its own table of addresses."""
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from onetape.sim import credentials
from tests.peers.bench import compared, report

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
LOGINS = {
    "coinbase-exchange": {
        "apiKey": credentials.KEY, "secret": credentials.SECRET_BASE64, "password": credentials.PASSPHRASE,
    },
}
"""Where the library takes books from a channel for those who have an account."""


@pytest.mark.parametrize("venue", SYMBOLS)
def test_ccxt(venue, tmp_path):
    symbol, known_as = SYMBOLS[venue]
    counts = compared("with_ccxt", venue, symbol, known_as, tmp_path, login=LOGINS.get(venue, {}))
    report("ccxt", version("ccxt"), venue, counts)
    assert counts["trades", "websocket"] >= 60
    assert counts["books", "websocket"] >= 60
    assert counts["trades", "rest"] >= 20
    assert counts["books", "rest"] == 3
    assert counts["candles", "rest"] >= 5
    assert counts["markets", "rest"] >= 3
