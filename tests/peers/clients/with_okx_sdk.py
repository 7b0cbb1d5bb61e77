"""python-okx: its public WebSocket and its REST; the book is kept by hand, with the venue's sequence numbers."""
import asyncio
import json

import where
from okx.MarketData import MarketAPI
from okx.PublicData import PublicAPI
from okx.websocket.WsPublicAsync import WsPublicAsync

import say

WANTED, SYMBOL = where.WANTED, where.WANTED["symbol"]


class Market:
    """What came, and whether it is enough."""

    def __init__(self):
        self.book, self.sequence = say.Book(), None
        self.trades = self.books = 0
        self.enough = asyncio.Event()

    def hear(self, text):
        message = json.loads(text)
        for it in message.get("data", ()):
            if message["arg"]["channel"] == "trades":
                told("websocket", it)
                self.trades += 1
            else:
                self.move(message["action"], it)
        if self.trades >= WANTED["trades"] and self.books >= WANTED["books"]:
            self.enough.set()

    def move(self, action, it):
        if action == "snapshot":
            self.book.snapshot(it["bids"], it["asks"])
        else:
            assert it["prevSeqId"] == self.sequence, (it, self.sequence)
            self.book.update(it["bids"], it["asks"])
        self.sequence = it["seqId"]
        say.book("websocket", *self.book.best(10), time=int(it["ts"]))
        self.books += 1


def told(via, it):
    say.trade(via, it["tradeId"], it["px"], it["sz"], it["side"], it.get("count"))


def ask():
    rest = MarketAPI(flag="0")
    for it in rest.get_trades(SYMBOL, limit=50)["data"]:
        told("rest", it)
    for _ in range(3):
        (it,) = rest.get_orderbook(SYMBOL, sz=20)["data"]
        say.book("rest", it["bids"], it["asks"], time=int(it["ts"]))
    for row in rest.get_candlesticks(SYMBOL, bar="1m", limit=20)["data"]:
        say.candle(int(row[0]), *row[1:6])
    listed = PublicAPI(flag="0").get_instruments("SPOT")["data"]
    say.say("markets", markets={it["instId"]: [it["tickSz"], it["lotSz"]] for it in listed})


async def main():
    market = Market()
    socket = WsPublicAsync("wss://ws.okx.com:8443/ws/v5/public")
    consuming = await socket.start()
    await socket.subscribe([{"channel": it, "instId": SYMBOL} for it in ("trades", "books")], market.hear)
    await asyncio.gather(market.enough.wait(), asyncio.to_thread(ask))
    await socket.stop()
    consuming.cancel()


asyncio.run(main())
