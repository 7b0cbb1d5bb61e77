"""cryptofeed in the race: its own Binance feed, fed frames; or its own FeedHandler, over loopback.

    python -m rivals.cryptofeed
    python -m rivals.cryptofeed PORT FILE

In process, included: `Binance.message_handler` (JSON by msgspec, the check of update ids, Decimals, the sorted book in
C, the delta, the callbacks), the clock as its connection reads it. Left out: socket, connection handler. The snapshot
comes from where its REST connection would bring it. As it is by default: uvloop, no checks switched on or off, the full
book. Its trades are aggTrade: it knows no trade stream of Binance.
"""
import asyncio
import logging
import sys
import time
from collections import Counter

import uvloop
from cryptofeed import FeedHandler
from cryptofeed.connection import RestEndpoint, Routes
from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance
from cryptofeed.symbols import Symbols

from rivals.ear import Ear
from rivals.loop import Begun, decoded, run

NAMES = {"BTCUSDT": "BTC-USDT", "ETHUSDT": "ETH-USDT"}
QUIET = {"log": {"disabled": True}}


class Given:
    """What its REST connection would read."""

    def __init__(self, body: bytes) -> None:
        self.body = body.decode()

    async def read(self, *_args: object, **_options: object) -> str:
        return self.body


def begin(symbol: str, snapshot: bytes, calls: Counter, _now: int) -> Begun:
    Symbols.set("BINANCE", {name: id for id, name in NAMES.items()}, {})

    async def on_book(_book: object, _at: float) -> None:
        calls["book"] += 1

    async def on_trade(_trade: object, _at: float) -> None:
        calls["trade"] += 1

    async def on_ticker(_ticker: object, _at: float) -> None:
        calls["quote"] += 1

    it = Binance(
        symbols=[NAMES[symbol]], channels=[L2_BOOK, TRADES, TICKER],
        callbacks={L2_BOOK: on_book, TRADES: on_trade, TICKER: on_ticker}, config=QUIET,
    )
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    if snapshot:
        it.http_conn = Given(snapshot)
        runner.run(it._snapshot(symbol))
        calls.clear()  # the snapshot calls the subscriber as well

    async def go(frames: list[str]) -> None:
        handle, clock = it.message_handler, time.time
        for frame in frames:
            await handle(frame, None, clock())

    def top(depth: int) -> tuple[list, list]:
        book = it._l2_book[NAMES[symbol]].book
        return tuple([side.index(n) for n in range(depth)] for side in (book.bids, book.asks))

    return lambda frames, _times: runner.run(go(frames)), top


# --- over loopback ---------------------------------------------------------------------------------------------------


class Loopback(Binance):
    """Its connection takes none but wss:// addresses, so the address is set right after."""

    def connect(self) -> list:
        connections = super().connect()
        for connection, *_ in connections:
            connection.address = connection.address.replace("wss://", "ws://", 1)
        return connections

    @classmethod
    def _write_symbol_cache(cls, *_args: object) -> None:
        """Nothing is left behind in the user's cache."""


def listen(port: str, ear: Ear) -> None:
    Loopback.websocket_endpoints[0].address = f"wss://127.0.0.1:{port}"
    Loopback.rest_endpoints = [RestEndpoint(
        f"http://127.0.0.1:{port}", routes=Routes("/api/v3/exchangeInfo", l2book="/api/v3/depth?symbol={}&limit={}"),
    )]

    async def on_book(book: object, _at: float) -> None:
        ear.hear(book.sequence_number)

    handler = FeedHandler(config=QUIET)
    handler.add_feed(Loopback(symbols=["BTC-USDT"], channels=[L2_BOOK], callbacks={L2_BOOK: on_book}, config=QUIET))
    handler.run()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if len(sys.argv) > 1:
        listen(sys.argv[1], Ear(sys.argv[2]))
    else:
        run(begin, decoded)
