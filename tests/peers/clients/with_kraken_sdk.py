"""python-kraken-sdk: its WebSocket client, its book client, which checks every checksum, and its REST."""
import asyncio

import where
from kraken.spot import Market, SpotOrderBookClient, SpotWSClient

import say

WANTED, SYMBOL = where.WANTED, where.WANTED["symbol"]


class Trades(SpotWSClient):
    def __init__(self):
        super().__init__()
        self.count, self.enough = 0, asyncio.Event()

    async def on_message(self, message):
        if message.get("channel") == "trade" and message.get("type") == "update":
            for it in message["data"]:
                say.trade("websocket", it["trade_id"], it["price"], it["qty"], it["side"])
                self.count += 1
            if self.count >= WANTED["trades"]:
                self.enough.set()


class Books(SpotOrderBookClient):
    def __init__(self):
        super().__init__(depth=100)
        self.count, self.enough = 0, asyncio.Event()

    async def on_book_update(self, pair, message):
        if "error" in message:
            raise AssertionError(message["error"])
        book = self.get(pair)
        sides = ([(price, size) for price, (size, _) in list(book[it].items())[:10]] for it in ("bid", "ask"))
        say.book("websocket", *sides)
        self.count += 1
        if self.count >= WANTED["books"]:
            self.enough.set()


def ask():
    market, pair = Market(), SYMBOL
    (rows,) = [it for name, it in market.get_recent_trades(pair, count=50).items() if name != "last"]
    for price, size, _, side, _, _, id in rows:
        say.trade("rest", id, price, size, "buy" if side == "b" else "sell")
    (book,) = market.get_order_book(pair, count=20).values()
    say.book("rest", book["bids"], book["asks"])
    (rows,) = [it for name, it in market.get_ohlc(pair, interval=1).items() if name != "last"]
    for start, *prices, _, volume, _ in rows[-20:]:
        say.candle(start * 1_000, *prices, volume)


async def main():
    trades, books = Trades(), Books()
    await trades.start()
    await books.start()
    await trades.subscribe(params={"channel": "trade", "symbol": [SYMBOL]})
    await books.add_book([SYMBOL])
    await asyncio.gather(trades.enough.wait(), books.enough.wait(), asyncio.to_thread(ask))
    await trades.stop()
    await books.stop()


asyncio.run(main())
