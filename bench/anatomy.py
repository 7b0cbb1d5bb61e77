"""Where the time of a frame goes, from bytes to subscriber: ``python bench/anatomy.py``.

Each line is a part by itself, over the frames of the race (12 levels a depth frame, 50 trades a second); what stands
below it, further in, is in it. CPU time, microseconds a frame, median of 5.
"""
import gc
import os
import platform
import statistics
import time
from collections.abc import Callable

import frames
from onetape import venues
from onetape.book import COMPILED
from onetape.candles.builder import CandleBuilder
from onetape.feed.door import Door
from onetape.feed.inputs import Answer, Frame, Opened, Setup, Started
from onetape.feed.session import Session
from onetape.model import Channel, Event, Fetch, InstrumentId, Subscription, Trade
from onetape.pipeline import Pipeline
from onetape.service.meter import Meter
from onetape.tape.ledger import TradeLedger
from onetape.tape.validation import SanityCheck
from onetape.venues import binance

ROUNDS = 5
COUNT = 20_000
ID = InstrumentId("binance", "BTCUSDT")
Part = Callable[[], Callable[[object], object]]


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load before: "
          f"{os.getloadavg()[0]:.1f}; us a frame, median of {ROUNDS}; "
          f"{'compiled book' if COMPILED else 'book in pure Python'}")
    depth, trades = frames.depth(COUNT), frames.trades(COUNT, "trade")
    show("depth", depth.frames, depth.times, Channel.BOOK, depth.snapshot)
    show("trade", trades.frames, trades.times, Channel.TRADES, b"")


def show(kind: str, burst: list[bytes], times: list[int], channel: Channel, snapshot: bytes) -> None:
    print(kind)
    inputs = list(zip(burst, times, strict=True))
    events = [event for frame, at in inputs for event in venues.create("binance").parse(frame, at)]
    decode = binance._decode_depth if channel is Channel.BOOK else binance.decode_trade
    line("door, as the network calls it, and meter", lambda: through_door(channel, snapshot), inputs)
    line("  session", lambda: through_session(channel, snapshot), inputs)
    line("    parse", parsing, inputs)
    line("      decode to an envelope", lambda: lambda it: decode(it[0]), inputs)
    if channel is Channel.BOOK:
        line("    sync", lambda: syncing(snapshot), events)
        line("      book", lambda: applying(snapshot), events)
    line("pipeline", handling, events)
    if channel is Channel.TRADES:
        line("  ledger", ledger, events)
        line("  what is impossible or odd", odd, events)
        line("  candles, running", candles, events)


def line(name: str, part: Part, items: list) -> None:
    took = []
    for _ in range(ROUNDS):
        call = part()
        gc.collect()
        began = time.process_time_ns()
        for it in items:
            call(it)
        took.append((time.process_time_ns() - began) / len(items) / 1e3)
    print(f"  {name:44} {statistics.median(took):6.2f}   ({min(took):.2f} .. {max(took):.2f})")


# --- the parts, each ready to be called ------------------------------------------------------------------------------


def parsing() -> Callable:
    parse = venues.create("binance").parse
    return lambda it: parse(it[0], it[1])


def session(channel: Channel, snapshot: bytes) -> Session:
    venue = venues.create("binance")
    out = Session(venue, [Subscription(ID.symbol, channel)], 0)
    out.open(0)
    if snapshot:
        out.receive_rest(out.expect(venue.book_request(ID.symbol, 1_000)), 200, snapshot, 0)
    return out


def through_session(channel: Channel, snapshot: bytes) -> Callable:
    receive = session(channel, snapshot).receive
    return lambda it: receive(it[0], it[1])


def through_door(channel: Channel, snapshot: bytes) -> Callable:
    """The session is joined after a moment, as it is live."""
    door, meter = Door(), Meter()
    start = frames.START * frames.MILLISECOND
    setup = Setup("binance", "", (Subscription(ID.symbol, channel),))
    door.enter(Started(number=1, time=start, connection="binance", lines={"binance": setup}))
    name = door.lines["binance"].leader
    door.enter(Opened(number=2, time=start, connection=name))

    def enter(it: tuple[bytes, int]) -> None:
        number, at = door.stamp(it[1])
        for _, said in door.enter(Frame(number=number, time=at, connection=name, data=it[0])):
            if isinstance(said, Event):
                meter.add(said)
            elif isinstance(said, Fetch):
                number, at = door.stamp(at)
                door.enter(Answer(number=number, time=at, connection=name, id=said.id, status=200, body=snapshot))

    return enter


def syncing(snapshot: bytes) -> Callable:
    receive = session(Channel.BOOK, snapshot).books[ID.symbol].receive
    return lambda it: receive(it, it.received_time)


def applying(snapshot: bytes) -> Callable:
    first = frames.depth(1).frames[0]
    joined = session(Channel.BOOK, snapshot)
    joined.receive(first, frames.START * frames.MILLISECOND)
    apply = joined.books[ID.symbol].book.apply
    return lambda it: apply(it.bids, it.asks)


def handling() -> Callable:
    rows: list = []
    return Pipeline(store=rows.append, commit=lambda _: rows.clear()).handle


def ledger() -> Callable:
    receive = TradeLedger(ID, Channel.TRADES).receive
    return lambda it: receive(it, it.available_at)


def odd() -> Callable:
    check = SanityCheck()
    recent = check.recent(ID, "BTC-USDT")

    def look(it: Trade) -> None:
        if recent.usual(it):  # which holds what cannot be true as well
            if recent.add(it):
                check.fold(recent)
        else:
            check.flags(it, recent)

    return look


def candles() -> Callable:
    builder = CandleBuilder(ID)

    def add(it: Trade) -> None:
        builder.add(it, it.available_at)

    return add


if __name__ == "__main__":
    main()
