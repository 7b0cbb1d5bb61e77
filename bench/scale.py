"""What a frame costs as there are more instruments, and as books are deeper: ``python bench/scale.py``.

instruments  depth frames (12 levels) and trades of so many instruments in turn, on one connection
levels       depth frames into a book of so many levels a side; changes are near the top, or anywhere in the book

Through session, pipeline and one subscriber, as in the race (`ours.py`). CPU time; median of 5.
"""
import gc
import os
import platform
import random
import statistics
import time

import frames
from onetape import venues
from onetape.book import COMPILED
from onetape.feed.session import Session
from onetape.model import Channel, Event, Subscription
from onetape.pipeline import Pipeline

ROUNDS = 5
COUNT = 60_000  # frames
INSTRUMENTS = (1, 10, 100, 1_000)
LEVELS = (10, 100, 1_000, 10_000)
START_NS = frames.START * frames.MILLISECOND


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load before: "
          f"{os.getloadavg()[0]:.1f}; median of {ROUNDS}; {'compiled book' if COMPILED else 'book in pure Python'}")
    for kind, make in (("depth", of_books), ("trade", of_trades)):
        show(f"{kind}, instruments", {many: make(many) for many in INSTRUMENTS})
    for where in ("near the top", "anywhere"):
        show(f"depth, levels, {where}", {many: of_levels(many, where) for many in LEVELS})


def show(what: str, runs: dict) -> None:
    took = {many: [] for many in runs}
    for _ in range(ROUNDS):
        for many, (snapshots, burst) in runs.items():
            took[many].append(measure(snapshots, burst))
    print(what)
    first = statistics.median(next(iter(took.values())))
    for many, values in took.items():
        median = statistics.median(values)
        print(f"  {many:>6} {median:8.2f} us/frame {1e6 / median:10,.0f} frames/s {median / first:6.2f}x "
              f"({min(values):.2f} .. {max(values):.2f})")


def measure(snapshots: dict[str, bytes], burst: list[tuple[bytes, int]]) -> float:
    """us per frame."""
    venue = venues.create("binance")
    symbols = snapshots or {it.decode() for it in {frame[11:frame.index(b"@")] for frame, _ in burst}}
    channel = Channel.BOOK if snapshots else Channel.TRADES
    session = Session(venue, [Subscription(it.upper(), channel) for it in symbols], START_NS)
    session.open(START_NS)
    for symbol, body in snapshots.items():
        session.receive_rest(session.expect(venue.book_request(symbol, 5_000)), 200, body, START_NS)
    heard = 0

    def publish(_event: Event) -> None:
        nonlocal heard
        heard += 1

    rows: list = []
    pipeline = Pipeline(store=rows.append, commit=lambda _: rows.clear(), publish=publish)
    once = 2 * len(symbols)  # each book is joined, each tape begun
    for frame, now in burst[:once]:
        for event in session.receive(frame, now):
            if isinstance(event, Event):
                pipeline.handle(event)
    gc.collect()
    gc.freeze()
    began = time.process_time_ns()
    for frame, now in burst[once:]:
        for event in session.receive(frame, now):
            if isinstance(event, Event):
                pipeline.handle(event)
    took = time.process_time_ns() - began
    gc.unfreeze()
    assert heard >= len(burst), f"{heard} of {len(burst)} heard"
    assert all(it.state == "live" for it in session.books.values())
    return took / (len(burst) - once) / 1e3


def of_books(many: int) -> tuple[dict[str, bytes], list]:
    """The frames of the race, each instrument's in their order."""
    names = [f"X{number}USDT" for number in range(many)]
    one = frames.depth(max(COUNT // many, 1))
    burst, now = [], START_NS
    for frame in one.frames:
        for name in names:
            now += frames.MILLISECOND // 10
            renamed = frame.replace(b"btcusdt", name.lower().encode(), 1).replace(b"BTCUSDT", name.encode(), 1)
            burst.append((renamed, now))
    return dict.fromkeys(names, one.snapshot), burst


def of_trades(many: int) -> tuple[dict[str, bytes], list]:
    """50 a second of each instrument."""
    names = [f"X{number}USDT" for number in range(many)]
    one = frames.trades(max(COUNT // many, 1), "trade")
    burst = []
    for frame, at in zip(one.frames, one.times, strict=True):
        for number, name in enumerate(names):
            renamed = frame.replace(b"btcusdt", name.lower().encode(), 1).replace(b"BTCUSDT", name.encode(), 1)
            burst.append((renamed, at + number * 1_000))
    return {}, burst


def of_levels(many: int, where: str) -> tuple[dict[str, bytes], list]:
    """A book that keeps its size: every level that is taken away comes back with the next frame."""
    dice, last = random.Random(3), 100
    def price(side: int, at: int) -> str:
        return f"{60_000 + side * (at + 1) / 100:.2f}000000"
    def rows(side: int) -> str:
        return ",".join(f'["{price(side, at)}","1.00000000"]' for at in range(many))
    snapshot = f'{{"lastUpdateId":{last},"bids":[{rows(-1)}],"asks":[{rows(1)}]}}'.encode()
    reach = many if where == "anywhere" else min(many, 30)
    burst, now, gone = [], START_NS, {-1: [], 1: []}
    for _ in range(COUNT // 3):
        sides = {}
        for side in (-1, 1):
            changed = [f'["{price(side, at)}","{dice.randint(1, 10**6) / 10**5:.8f}"]' for at in gone[side]]
            places = dice.sample(range(reach), min(6 - len(changed), reach))
            gone[side] = [at for at in places[:1] if at not in gone[side]]
            for at in places:
                size = "0" if at in gone[side] else f"{dice.randint(1, 10**6) / 10**5}"
                changed.append(f'["{price(side, at)}","{float(size):.8f}"]')
            sides[side] = ",".join(changed)
        last, now = last + 1, now + frames.MILLISECOND
        burst.append((
            f'{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":{now // frames.MILLISECOND},'
            f'"s":"BTCUSDT","U":{last},"u":{last},"b":[{sides[-1]}],"a":[{sides[1]}]}}}}'.encode(), now,
        ))
    return {"BTCUSDT": snapshot}, burst


if __name__ == "__main__":
    main()
