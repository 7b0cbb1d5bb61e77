"""nautilus_trader in the race: its own Binance spot data client, data engine and message bus, fed frames.

    python -m rivals.nautilus

Included: `BinanceSpotDataClient._handle_ws_message` (two decodes by msgspec, an OrderBookDelta per level, prices and
sizes in fixed point), the message bus to the data engine, the engine's managed order book in Rust and its cache, one
subscriber on the bus. Left out: the socket (in Rust), and the queue between client and engine of a live node, whose
engine runs in a task of its own: here `DataEngine.process` is called straight, to its favour. It checks no update ids.
The snapshot is parsed and applied by its own code. No strategy, no logging; not raced over loopback.
"""
import asyncio
from array import array
from collections import Counter

import msgspec
from nautilus_trader.adapters.binance.common.constants import BINANCE_CLIENT_ID, BINANCE_VENUE
from nautilus_trader.adapters.binance.config import BinanceDataClientConfig
from nautilus_trader.adapters.binance.http.client import BinanceHttpClient
from nautilus_trader.adapters.binance.http.market import BinanceDepth
from nautilus_trader.adapters.binance.spot.data import BinanceSpotDataClient
from nautilus_trader.common.component import LiveClock, MessageBus
from nautilus_trader.common.providers import InstrumentProvider
from nautilus_trader.data.engine import DataEngine
from nautilus_trader.data.messages import SubscribeOrderBook
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.data import OrderBookDelta
from nautilus_trader.model.enums import BookType
from nautilus_trader.model.identifiers import InstrumentId, Symbol, TraderId
from nautilus_trader.test_kit.stubs.component import TestComponentStubs

from rivals.loop import Begun, run


class Offline(BinanceSpotDataClient):
    """It asks for nothing when something subscribes."""

    async def _subscribe_order_book_deltas(self, command: SubscribeOrderBook) -> None:
        pass


def begin(symbol: str, snapshot: bytes, calls: Counter, _now: int) -> Begun:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    clock = LiveClock()
    bus = MessageBus(TraderId("RACE-001"), clock)
    cache = TestComponentStubs.cache()
    engine = DataEngine(bus, cache, clock)
    client = Offline(
        loop=loop, client=BinanceHttpClient(clock, None, None, "http://127.0.0.1:1"), msgbus=bus, cache=cache,
        clock=clock, instrument_provider=InstrumentProvider(), base_url_ws="ws://127.0.0.1:1",
        config=BinanceDataClientConfig(),
    )
    engine.register_client(client)
    id = InstrumentId(Symbol(symbol), BINANCE_VENUE)
    engine.start()
    engine.execute(SubscribeOrderBook(
        id, OrderBookDelta, BookType.L2_MBP, BINANCE_CLIENT_ID, BINANCE_VENUE, UUID4(), clock.timestamp_ns(),
    ))
    loop.run_until_complete(asyncio.sleep(0))

    def counted(kind: str):
        def hear(_data: object) -> None:
            calls[kind] += 1
        return hear

    for kind, topic in (("book", "book.deltas"), ("trade", "trades"), ("quote", "quotes")):
        bus.subscribe(f"data.{topic}.{BINANCE_VENUE}.{symbol}", counted(kind))
    handle = client._handle_ws_message
    if snapshot:
        body = msgspec.json.decode(snapshot, type=BinanceDepth)
        engine.process(body.parse_to_order_book_snapshot(id, clock.timestamp_ns()))
        calls.clear()

    def feed(frames: list[bytes], _times: array) -> None:
        for frame in frames:
            handle(frame)

    def top(depth: int) -> tuple[list, list]:
        book = cache.order_book(id)
        return tuple([(it.price, it.size()) for it in side[:depth]] for side in (book.bids(), book.asks()))

    return feed, top


if __name__ == "__main__":
    run(begin)
