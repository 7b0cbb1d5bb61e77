"""coinbase-advanced-py: its WebSocket on a thread of its own, in its own types, and its public REST."""
import json
import time
from queue import Queue

import where
from coinbase.rest import RESTClient
from coinbase.websocket import WebsocketResponse, WSClient

import say

WANTED, SYMBOL = where.WANTED, where.WANTED["symbol"]
TAKER = {"BUY": "sell", "SELL": "buy"}  # the venue tells the maker's side


def ask():
    rest = RESTClient()
    for it in rest.get_public_market_trades(SYMBOL, limit=50).trades:
        say.trade("rest", it.trade_id, it.price, it.size, TAKER[it.side])
    for _ in range(3):
        book = rest.get_public_product_book(SYMBOL, limit=20).pricebook
        say.book("rest", *([(it.price, it.size) for it in side] for side in (book.bids, book.asks)))
    now = int(time.time())
    for it in rest.get_public_candles(SYMBOL, str(now - 1_200), str(now), "ONE_MINUTE").candles:
        say.candle(int(it.start) * 1_000, it.open, it.high, it.low, it.close, it.volume)
    listed = rest.get_public_products().products
    say.say("markets", markets={it.product_id: [it.price_increment, it.base_increment] for it in listed})


def main():
    frames = Queue()
    socket = WSClient(on_message=lambda text: frames.put(typed(text)))
    socket.open()
    socket.subscribe([SYMBOL], ["market_trades", "level2", "heartbeats"])
    ask()
    follow(frames)
    socket.close()


def typed(text):
    """The library's own type wants a field that the venue has documented, and no longer sends."""
    return WebsocketResponse({"client_id": "", **json.loads(text)})


def follow(frames):
    trades, books, book = 0, 0, say.Book()
    while trades < WANTED["trades"] or books < WANTED["books"]:
        message = frames.get(timeout=30)
        for event in message.events:
            if message.channel == "market_trades":
                for it in event.trades:
                    say.trade("websocket", it.trade_id, it.price, it.size, TAKER[it.side])
                trades += len(event.trades)
            elif message.channel == "l2_data":
                sides = (
                    [(it.price_level, it.new_quantity) for it in event.updates if it.side == side]
                    for side in ("bid", "offer"))
                (book.snapshot if event.type == "snapshot" else book.update)(*sides)
                say.book("websocket", *book.best(10))
                books += 1


main()
