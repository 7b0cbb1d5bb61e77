"""ccxt pro in the race: its own Binance class, fed frames; or its own watch loop, over loopback.

    python -m rivals.ccxt
    python -m rivals.ccxt PORT FILE

In process, included: `Client.handle_message` (JSON by orjson, the fastest that it documents), `binance.handle_message`,
book, trades and tickers as it keeps them, and a future per update, made and resolved as for somebody who watches. Left
out, to its favour: the turns of the event loop until that somebody runs, `watch_order_book` itself, the socket. The
snapshot is parsed and put into the book by its own code. Its books and trades are of floats.
"""
import asyncio
import json
import sys
from collections import Counter
from types import SimpleNamespace

import ccxt.pro
import uvloop
from aiohttp import WSMsgType
from ccxt.async_support.base.ws.client import Client

from rivals.ear import Ear
from rivals.loop import Begun, decoded, run

NAMES = {"BTCUSDT": ("BTC", "USDT"), "ETHUSDT": ("ETH", "USDT")}
SPOT = {"fetchMarkets": {"types": ["spot"]}}


class Watched(Client):
    """Somebody always waits for these hashes, and asks again as soon as there is an answer."""

    kinds: dict[str, str]
    calls: Counter

    def resolve(self, result: object, message_hash: str) -> object:
        kind = self.kinds.get(message_hash)
        if kind is not None:
            super().resolve(result, message_hash)
            self.calls[kind] += 1
            self.future(message_hash)
        return result


async def listed(_params: object) -> dict:
    """What REST would answer about the instruments."""
    return {"symbols": [
        {"symbol": id, "status": "TRADING", "baseAsset": base, "quoteAsset": quote, "permissions": ["SPOT"],
         "isSpotTradingAllowed": True, "filters": []} for id, (base, quote) in NAMES.items()
    ]}


def begin(symbol: str, snapshot: bytes, calls: Counter, _now: int) -> Begun:
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    it = ccxt.pro.binance({"asyncio_loop": loop, "options": SPOT})
    it.publicGetExchangeInfo = listed
    loop.run_until_complete(it.load_markets())
    name = "/".join(NAMES[symbol])
    client = Watched("wss://stream.binance.com:9443/stream", it.handle_message, None, None, None)
    client.calls = calls
    client.kinds = {f"orderbook::{name}": "book", f"trade::{name}": "trade", f"bidask:bookTicker@{name}": "quote"}

    async def go(frames: list[str]) -> None:
        for hash in client.kinds:
            client.future(hash)
        message, handle = SimpleNamespace(type=WSMsgType.TEXT, data=""), client.handle_message
        for frame in frames:
            message.data = frame
            handle(message)

    if snapshot:
        body = json.loads(snapshot)
        book = it.orderbooks[name] = it.order_book({}, 1_000)
        book.reset(it.parse_order_book(body, name) | {"nonce": body["lastUpdateId"]})

    def top(depth: int) -> tuple[list, list]:
        return it.orderbooks[name]["bids"][:depth], it.orderbooks[name]["asks"][:depth]

    return lambda frames, _times: loop.run_until_complete(go(frames)), top


# --- over loopback ---------------------------------------------------------------------------------------------------


async def listen(port: str, ear: Ear) -> None:
    it = ccxt.pro.binance({"enableRateLimit": False, "options": SPOT})
    it.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}/stream"  # it tells spot by this path
    it.urls["api"]["public"] = f"http://127.0.0.1:{port}/api/v3"
    it.has["fetchCurrencies"] = False  # that would need a key
    while True:
        ear.hear((await it.watch_order_book("BTC/USDT"))["nonce"])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        uvloop.run(listen(sys.argv[1], Ear(sys.argv[2])))
    else:
        run(begin, decoded)
