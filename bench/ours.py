"""OneTape in the race against the peers: its sessions and pipeline, fed frames; or its collector, over loopback.

    python -m ours
    python -m ours PORT FILE

In process, included: the clock, `Session.receive` (liveness, subscriptions, parsing, the sequence rule, the book),
`Pipeline.handle` (validation, ledger, candles, views of the book), one subscriber, who reads the best bid and the best
ask with every change of a book; and the joining of snapshot and
stream, which the peers have behind them when the clock starts. Left out: socket, network and door, the journal's disk.
Settings are those of a default run. `ONETAPE_PURE=1`: with the reference book, in pure Python.
"""
import asyncio
import logging
import sys
import time
from array import array
from collections import Counter

import uvloop
from msgspec import structs

from onetape import venues
from onetape.config import Settings
from onetape.feed.session import Session
from onetape.model import BookDelta, Channel, Event, Quote, Subscription, Trade
from onetape.pipeline import Pipeline, Policy
from onetape.service.choice import choices
from onetape.service.collector import Collector
from rivals.ear import Ear
from rivals.loop import Begun, Levels, run

DEPTH = Settings().depth  # levels that are wanted of a book
CHANNELS = (Channel.TRADES, Channel.AGG_TRADES, Channel.BOOK, Channel.QUOTES)


def begin(symbol: str, snapshot: bytes, calls: Counter, now: int) -> Begun:
    venue = venues.create("binance")
    wanted = [Subscription(symbol, it, depth=DEPTH if it is Channel.BOOK else 0) for it in CHANNELS]
    session = Session(venue, wanted, now)
    session.open(now)
    if snapshot:
        asked = session.expect(venue.book_request(symbol, 1_000))
        session.receive_rest(asked, 200, snapshot, now)
    books = session.books

    def publish(event: Event) -> None:
        if type(event) is Trade:
            calls["trade"] += 1
        elif type(event) is BookDelta:
            calls["book"] += 1
            book = books[event.symbol].book
            quote = book.best_bid, book.best_ask  # exact, as Decimals
            assert quote
        elif type(event) is Quote:
            calls["quote"] += 1

    rows: list = []
    pipeline = Pipeline(
        store=rows.append, commit=lambda _: rows.clear(), publish=publish, pair_of=lambda _: f"{symbol[:3]}-USDT",
        book_of=lambda it: session.books.get(it.symbol),
    )

    def feed(frames: list[bytes], times: array) -> None:
        receive, handle, clock = session.receive, pipeline.handle, time.time_ns
        for frame, at in zip(frames, times, strict=True):
            clock()  # as the socket does; but time is that of the frames, so that candles close when they do
            for event in receive(frame, at):
                if isinstance(event, Event):
                    handle(event)

    def top(depth: int) -> tuple[Levels, Levels]:
        book = session.books[symbol].book
        return book.bids(depth), book.asks(depth)

    return feed, top


# --- over loopback ---------------------------------------------------------------------------------------------------


async def listen(port: str, ear: Ear) -> None:
    settings = Settings.model_validate({"pairs": ["BTC-USDT"], "channels": ["book"], "venues": {"binance": {}}})
    (choice,) = choices(settings)
    choice = structs.replace(
        choice, websocket={"": (f"ws://127.0.0.1:{port}/stream",)}, rest=(f"http://127.0.0.1:{port}",))

    def publish(event: Event) -> None:
        if type(event) is BookDelta:
            ear.hear(event.sequence)

    await Collector([choice], policy=Policy(), store=None, publish=publish).run(asyncio.Event())


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if len(sys.argv) > 1:
        uvloop.run(listen(sys.argv[1], Ear(sys.argv[2])))
    else:
        run(begin)
