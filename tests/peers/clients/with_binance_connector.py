"""binance-connector, the official client before the present one: raw frames from a thread of its own, and REST."""
import json
import time
from queue import Queue

from binance.spot import Spot
from binance.websocket.spot.websocket_stream import SpotWebsocketStreamClient

import say
from where import WANTED

SYMBOL = WANTED["symbol"]


def side(maker_bought):
    return "sell" if maker_bought else "buy"


def ask(rest):
    for it in rest.trades(SYMBOL, limit=50):
        say.trade("rest", it["id"], it["price"], it["qty"], side(it["isBuyerMaker"]))
    for _ in range(3):
        it = rest.depth(SYMBOL, limit=20)
        say.book("rest", it["bids"], it["asks"], it["lastUpdateId"])
    for row in rest.klines(SYMBOL, "1m", limit=20):
        say.candle(*row[:6])


def main():
    frames, rest = Queue(), Spot(base_url=WANTED["rest"])
    socket = SpotWebsocketStreamClient(
        stream_url=WANTED["websocket"], on_message=lambda _, text: frames.put(json.loads(text)))
    try:
        socket.trade(SYMBOL)
        socket.diff_book_depth(SYMBOL, speed=100)
        ask(rest)
        follow(frames, rest)
    finally:
        socket.stop()


def follow(frames, rest):
    trades, books, last, book = 0, 0, -1, say.Book()
    while trades < WANTED["trades"] or books < WANTED["books"]:
        it = frames.get(timeout=30)
        match it.get("e"):
            case "trade":
                say.trade("websocket", it["t"], it["p"], it["q"], side(it["m"]))
                trades += 1
            case "depthUpdate":
                while last + 1 < it["U"]:  # none yet, or one older than the stream
                    time.sleep(0.25)
                    snapshot = rest.depth(SYMBOL, limit=1_000)
                    book.snapshot(snapshot["bids"], snapshot["asks"])
                    last = snapshot["lastUpdateId"]
                if it["u"] > last:
                    book.update(it["b"], it["a"])
                    last = it["u"]
                    say.book("websocket", *book.best(10), nonce=last)
                    books += 1


main()
