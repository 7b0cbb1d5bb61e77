"""ccxt: trades and books over its WebSockets, and the same by REST."""
import asyncio
from urllib.parse import urlsplit

import ccxt.pro

import say
from where import WANTED

OTHER = {"buy": "sell", "sell": "buy"}
NAMES = {"binance-usdm": "binanceusdm", "coinbase-exchange": "coinbaseexchange"}
TYPES = {"binance": ["spot"], "binance-usdm": ["linear"], "okx": ["spot"], "bybit": ["spot"]}
DEPTH = {"bybit": 50, "binance": 100, "binance-usdm": 100}


def redirected(addresses):
    """All addresses of a venue to the simulator; what stands behind the host stays."""
    if isinstance(addresses, dict):
        return {name: redirected(it) for name, it in addresses.items()}
    place = WANTED["websocket"] if addresses.startswith("ws") else WANTED["rest"]
    return place + urlsplit(addresses).path


async def trades(exchange, symbol):
    count = 0
    while count < WANTED["trades"]:
        for it in await exchange.watch_trades(symbol):
            told(it, "websocket")
            count += 1


def told(it, via):
    """Executions of one order at one price are one trade of OKX's, and of what is asked of Binance by REST.

    Of Coinbase Advanced Trade this library passes on the maker's side, as the venue tells it.
    """
    id, count, info, side = it["id"], None, it["info"], it["side"]
    if WANTED["venue"] == "coinbase":
        side = OTHER[side]
    if WANTED["venue"] == "okx":
        count = info.get("count")  # by REST each stands alone
    elif WANTED["venue"] == "binance" and via == "rest":
        id, count = info["l"], int(info["l"]) - int(info["f"]) + 1  # it always asks for aggregates
    say.trade(via, id, it["price"], it["amount"], side, count)


async def books(exchange, symbol):
    """Binance's snapshots may be older than the stream: then this library asks its user to begin again."""
    count = begun = 0
    while count < WANTED["books"]:
        try:
            it = await exchange.watch_order_book(symbol, DEPTH.get(WANTED["venue"]))
        except ccxt.pro.ChecksumError:
            begun += 1
            if begun > 20:
                raise
            await asyncio.sleep(0.2)
        else:
            say.book("websocket", it["bids"][:10], it["asks"][:10], it["nonce"], it["timestamp"])
            count += 1
    say.say("begun", times=begun)


async def by_rest(exchange, symbol):
    for it in await exchange.fetch_trades(symbol, limit=50):
        told(it, "rest")
    for _ in range(3):
        it = await exchange.fetch_order_book(symbol, 20)
        say.book("rest", it["bids"][:20], it["asks"][:20], it["nonce"], it["timestamp"])
    for start, *prices, volume in await exchange.fetch_ohlcv(symbol, "1m", limit=20):
        say.candle(start, *prices, volume)


async def main():
    venue = WANTED["venue"]
    exchange = getattr(ccxt.pro, NAMES.get(venue, venue))({"newUpdates": True, **WANTED.get("login", {})})
    exchange.urls["api"] = redirected(exchange.urls["api"])
    if venue.startswith("coinbase"):
        exchange.has["fetchCurrencies"] = False  # the simulator speaks of markets, not of wallets
    if venue in TYPES:
        exchange.options["fetchMarkets"]["types"] = TYPES[venue]
    if venue == "binance-usdm":
        exchange.options["watchTrades"]["name"] = "aggTrade"  # the venue's documented one
    try:
        markets = await exchange.load_markets()
        say.say("markets", markets={
            it["id"]: [str(it["precision"]["price"]), str(it["precision"]["amount"])] for it in markets.values()})
        await asyncio.gather(*(it(exchange, WANTED["symbol"]) for it in (trades, books, by_rest)))
    finally:
        await exchange.close()


asyncio.run(main())
