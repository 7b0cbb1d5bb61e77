"""pybit: its WebSocket, which keeps the book itself, on a thread of its own, and its REST."""
import os
from queue import Queue

import where
from pybit.unified_trading import HTTP, WebSocket

import say

WANTED, SYMBOL = where.WANTED, where.WANTED["symbol"]


def ask(rest):
    for it in rest.get_public_trade_history(category="spot", symbol=SYMBOL, limit=50)["result"]["list"]:
        say.trade("rest", it["execId"], it["price"], it["size"], it["side"])
    for _ in range(3):
        it = rest.get_orderbook(category="spot", symbol=SYMBOL, limit=20)["result"]
        say.book("rest", it["b"], it["a"], time=it["ts"])
    for row in rest.get_kline(category="spot", symbol=SYMBOL, interval=1, limit=20)["result"]["list"]:
        say.candle(int(row[0]), *row[1:6])
    listed = rest.get_instruments_info(category="spot")["result"]["list"]
    say.say("markets", markets={
        it["symbol"]: [it["priceFilter"]["tickSize"], it["lotSizeFilter"]["basePrecision"]] for it in listed})


def main():
    frames, socket = Queue(), WebSocket(testnet=False, channel_type="spot")
    socket.trade_stream(SYMBOL, frames.put)
    socket.orderbook_stream(50, SYMBOL, lambda it: frames.put({  # the library changes its book in place
        "bids": [*it["data"]["b"]], "asks": [*it["data"]["a"]], "ts": it["ts"]}))
    rest = HTTP(testnet=False)
    rest.client.verify = os.environ["REQUESTS_CA_BUNDLE"]  # what it prepares itself is sent without a look at that
    ask(rest)
    trades = books = 0
    while trades < WANTED["trades"] or books < WANTED["books"]:
        it = frames.get(timeout=30)
        if "bids" in it:
            bids = sorted(it["bids"], key=lambda level: -float(level[0]))[:10]
            asks = sorted(it["asks"], key=lambda level: float(level[0]))[:10]
            say.book("websocket", bids, asks, time=it["ts"])
            books += 1
        else:
            for one in it["data"]:
                say.trade("websocket", one["i"], one["p"], one["v"], one["S"])
                trades += 1
    socket.exit()


main()
