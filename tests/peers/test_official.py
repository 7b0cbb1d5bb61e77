"""The venues' own clients, or the ones that their documents name, each against its simulated venue."""
from importlib.metadata import PackageNotFoundError, version

import pytest

from tests.peers.bench import compared, report

CLIENTS = {
    "binance-sdk-spot": ("with_binance_sdk", "binance", "BTCUSDT", "BTCUSDT", False),
    "binance-connector": ("with_binance_connector", "binance", "BTCUSDT", "BTCUSDT", False),
    "coinbase-advanced-py": ("with_coinbase_sdk", "coinbase", "BTC-USD", "BTC-USD", True),
    "python-kraken-sdk": ("with_kraken_sdk", "kraken", "BTC/USD", "BTC/USD", True),
    "python-okx": ("with_okx_sdk", "okx", "BTC-USDT", "BTC-USDT", True),
    "pybit": ("with_pybit", "bybit", "BTCUSDT", "BTCUSDT", True),
}
"""Program, venue, symbol, as the client writes it; and whether the real names are resolved to the simulator, under TLS,
because the client knows no other address."""


@pytest.mark.parametrize("client", CLIENTS)
def test_an_official_client(client, tmp_path):
    try:
        seen = version(client)
    except PackageNotFoundError:
        pytest.skip(f"{client} is not installed: make test-peers")
    program, venue, symbol, known_as, tls = CLIENTS[client]
    counts = compared(program, venue, symbol, known_as, tmp_path, tls=tls)
    report(client, seen, venue, counts)
    assert counts["trades", "websocket"] >= 60
    assert counts["books", "websocket"] >= 60
    assert counts["trades", "rest"] == 50
    assert counts["books", "rest"] >= 1
    assert counts["candles", "rest"] >= 5
