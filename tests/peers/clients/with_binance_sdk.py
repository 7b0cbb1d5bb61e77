"""binance-sdk-spot, the official client: its streams and its REST, in its own types."""
import asyncio

from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketStreams
from binance_sdk_spot.rest_api.models import KlinesIntervalEnum
from binance_sdk_spot.spot import Spot
from binance_sdk_spot.websocket_streams.models import DiffBookDepthUpdateSpeedEnum

import say
from where import WANTED

SYMBOL = WANTED["symbol"]


def diff(it):
    return it.U, it.u, it.b, it.a


def side(maker_bought):
    return "sell" if maker_bought else "buy"


def trade(it):
    say.trade("websocket", it.t, it.p, it.q, side(it.m))


async def follow(rest, diffs):
    """Binance's own instructions, step by step."""
    book, last = say.Book(), -1
    told = 0
    while told < WANTED["books"]:
        first, final, bids, asks = await diffs.get()
        while last + 1 < first:  # none yet, or one older than the stream
            await asyncio.sleep(0.25)
            snapshot = (await asyncio.to_thread(rest.depth, SYMBOL, 1_000)).data()
            book.snapshot(snapshot.bids, snapshot.asks)
            last = snapshot.last_update_id
        if final <= last:
            continue
        book.update(bids, asks)
        last = final
        say.book("websocket", *book.best(10), nonce=last)
        told += 1


def ask(rest):
    for it in rest.get_trades(SYMBOL, 50).data():
        say.trade("rest", it.id, it.price, it.qty, side(it.is_buyer_maker))
    for _ in range(3):
        it = rest.depth(SYMBOL, 20).data()
        say.book("rest", it.bids, it.asks, it.last_update_id)
    for row in rest.klines(SYMBOL, KlinesIntervalEnum["INTERVAL_1m"].value, limit=20).data():
        say.candle(*row[:6])


async def main():
    client = Spot(
        config_rest_api=ConfigurationRestAPI(api_key="", api_secret="", base_path=WANTED["rest"]),
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=WANTED["websocket"] + "/stream"),
    )
    streams, diffs, enough, count = client.websocket_streams, asyncio.Queue(), asyncio.Event(), 0

    def traded(it):
        nonlocal count
        trade(it)
        count += 1
        if count >= WANTED["trades"]:
            enough.set()

    connection = await streams.create_connection()
    try:
        (await connection.trade(SYMBOL.lower())).on("message", traded)
        depth = await connection.diff_book_depth(
            SYMBOL.lower(), update_speed=DiffBookDepthUpdateSpeedEnum["UPDATE_SPEED_100ms"].value)
        depth.on("message", lambda it: diffs.put_nowait(diff(it)))
        await asyncio.gather(follow(client.rest_api, diffs), enough.wait(), asyncio.to_thread(ask, client.rest_api))
    finally:
        await connection.close_connection(close_session=True)


asyncio.run(main())
