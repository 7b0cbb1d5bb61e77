"""Live speed over real sockets, and that of the simulator: ``make bench``.

loopback   a sender in a process of its own, at a fixed rate, against the whole path of ``onetape run``: how long a
           frame takes, what it costs, whether one is missed
memory     RSS of that path over a million frames, which come as fast as it takes them: the most that it sustains
simulator  frames/s that it makes: in memory, and over sockets
"""
import asyncio
import logging
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import cycle
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import picows
import uvloop
from aiohttp import web
from msgspec import structs
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect, ws_create_server

from onetape import venues
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.config import Settings
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    ConnectionState,
    Event,
    FeedStatus,
    Quote,
    Subscription,
    Trade,
    TrustState,
)
from onetape.pipeline import Policy
from onetape.service.choice import Choice, choices
from onetape.service.collector import Collector
from onetape.sim.base import Frame
from onetape.sim.listings import LISTINGS
from onetape.sim.server import Server, packet
from onetape.sim.simulator import Simulator

RATES = (1_000, 5_000, 20_000)  # frames/s
ROUNDS = 3
SECONDS = 3  # of one round
MILLION = 1_000_000
LATE_NS = 100 * MILLISECOND

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
KINDS = ("depth", "bookTicker", "trade", "bookTicker")  # of the frames, in turn, each of each symbol
PATTERN = tuple((kind, symbol) for kind in KINDS for symbol in SYMBOLS)
TRADE_AT = {symbol: PATTERN.index(("trade", symbol)) for symbol in SYMBOLS}
TEXT = 0x1
MIDDLE, REACH = 6_000_000, 1_000  # price in cents, and levels per side of the snapshot
CHANGES = 12  # levels per depth frame
VARIANTS = 500  # depth frames that differ, per symbol
FULL = 512 * 1024  # bytes that wait in the sender until it holds its breath

DURATION_NS, STEPS = 60 * SECOND, 10 * MILLISECOND  # of the simulator, in simulated time
PACE, BUSY_S = 60.0, 3.0  # of the simulator over sockets: more than it can do


def main() -> None:
    print(f"Python {platform.python_version()}, uvloop {uvloop.__version__}, picows {picows.__version__}, "
          f"msgspec {msgspec.__version__}, {platform.machine()}, {os.cpu_count()} cores, load before: "
          f"{os.getloadavg()[0]:.1f}")
    loopback()
    memory()
    simulator()


def apart(work: Callable, *args):
    """Each measurement in a fresh process."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


# --- the sender: a process of its own --------------------------------------------------------------------------------


class Frames:
    """Frame n, for every n from 1 on: right ids, so that books are live and no trade is missed.

    Depth and bookTicker carry n as their update id; of trades there is one of each symbol in each turn of the pattern.
    """

    def __init__(self) -> None:
        dice = random.Random(1)
        self.count = 0
        self._last = dict.fromkeys(SYMBOLS, 0)  # update id of depth
        self._levels = {symbol: cycle([_levels(dice) for _ in range(VARIANTS)]) for symbol in SYMBOLS}

    def burst(self, size: int) -> bytes:
        """So many frames, ready for the socket."""
        now = time.time_ns() // MILLISECOND
        return b"".join([packet(TEXT, self._next(now)) for _ in range(size)])

    def snapshot(self, symbol: str) -> bytes:
        def side(sign: int) -> str:
            return ",".join(f'["{_price(MIDDLE + sign * (10 + n))}","1.00000000"]' for n in range(REACH))
        return f'{{"lastUpdateId":{self._last[symbol]},"bids":[{side(-1)}],"asks":[{side(1)}]}}'.encode()

    def _next(self, now: int) -> bytes:
        turn, at = divmod(self.count, len(PATTERN))
        kind, symbol = PATTERN[at]
        stream = symbol.lower()
        self.count = n = self.count + 1
        match kind:
            case "depth":
                first, self._last[symbol] = self._last[symbol] + 1, n
                text = (f'"{stream}@depth@100ms","data":{{"e":"depthUpdate","E":{now},"s":"{symbol}","U":{first},'
                        f'"u":{n},{next(self._levels[symbol])}')
            case "trade":
                text = (f'"{stream}@trade","data":{{"e":"trade","E":{now},"s":"{symbol}","t":{turn},'
                        f'"p":"{_price(MIDDLE + n % 19 - 9)}","q":"0.{n % 99_999 + 1:05}000","T":{now},'
                        f'"m":{"true" if n % 3 else "false"},"M":true')
            case _:
                text = (f'"{stream}@bookTicker","data":{{"u":{n},"s":"{symbol}","b":"{_price(MIDDLE - 10)}",'
                        f'"B":"{n % 97}.10000000","a":"{_price(MIDDLE + 10)}","A":"2.50000000"')
        return f'{{"stream":{text}}}}}'.encode()


def frame_of(trade: Trade) -> int:
    """The number of its frame."""
    return int(trade.id) * len(PATTERN) + TRADE_AT[trade.symbol] + 1


def _levels(dice: random.Random) -> str:
    """Near the middle, mostly, and never across it; one in five is taken away."""
    def side(sign: int) -> str:
        away = {10 + min(int(dice.expovariate(1 / 60)), REACH - 1) for _ in range(CHANGES // 2)}
        sizes = (f"{dice.randint(1, 10**7) / 10**5:.8f}" if dice.random() < 0.8 else "0.00000000" for _ in away)
        return ",".join(f'["{_price(MIDDLE + sign * it)}","{size}"]' for it, size in zip(away, sizes, strict=True))
    return f'"b":[{side(-1)}],"a":[{side(1)}]'


def _price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}000000"


class Sender(WSListener):
    """One socket, whose client gets all frames whatever it asks for."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            number = msgspec.json.decode(frame.get_payload_as_bytes())["id"]
            transport.send(WSMsgType.TEXT, f'{{"result":null,"id":{number}}}'.encode())
            self._pipe.send("subscribed")


def send(pipe: Connection) -> None:
    """Process of the sender: says its ports, then sends as it is told: (rate, count)."""
    logging.getLogger("picows").setLevel(logging.CRITICAL)  # it tells of every pause in writing
    with suppress(EOFError, KeyboardInterrupt):
        asyncio.run(serve(pipe))


async def serve(pipe: Connection) -> None:
    frames, senders = Frames(), []
    loop = asyncio.get_running_loop()

    def accept(_request: object) -> Sender:
        senders.append(Sender(pipe))
        return senders[-1]

    websocket = await ws_create_server(accept, "127.0.0.1", 0)
    runner = await answer(frames)
    pipe.send((websocket.sockets[0].getsockname()[1], runner.addresses[0][1]))
    while True:
        rate, count = await loop.run_in_executor(None, pipe.recv)
        below = senders[-1].transport.underlying_transport
        pipe.send(await (paced(frames, below, rate, count) if rate else flood(frames, below, count)))


async def paced(frames: Frames, below: asyncio.Transport, rate: int, count: int) -> tuple[int, int, list[int]]:
    """One burst each millisecond. Gives the number before the first frame, their number in a burst, and the monotonic
    time, ns, just before each burst was written."""
    before, size, times = frames.count, rate // 1_000, []
    due = time.monotonic_ns() + MILLISECOND
    for _ in range(count // size):
        data = frames.burst(size)
        time.sleep(max(due - time.monotonic_ns(), 0) / SECOND)  # noqa: ASYNC251 - timers of a loop are too coarse
        times.append(time.monotonic_ns())
        below.write(data)
        due += MILLISECOND
        await asyncio.sleep(0)
    return before, size, times


async def flood(frames: Frames, below: asyncio.Transport, count: int) -> tuple[int, int, list[int]]:
    """As fast as the client reads."""
    before = frames.count
    for _ in range(count // 100):
        below.write(frames.burst(100))
        while below.get_write_buffer_size() > FULL:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await asyncio.sleep(0)
    return before, 100, []


async def answer(frames: Frames) -> web.AppRunner:
    """REST: the list of instruments, the snapshots, the time."""
    listed = msgspec.json.encode({"symbols": [
        {"symbol": it, "status": "TRADING", "baseAsset": it[:-4], "quoteAsset": "USDT", "filters": []} for it in SYMBOLS
    ]})
    app = web.Application()
    app.router.add_get("/api/v3/exchangeInfo", lambda _: done(listed))
    app.router.add_get("/api/v3/time", lambda _: done(b'{"serverTime":%d}' % (time.time_ns() // MILLISECOND)))
    app.router.add_get("/api/v3/depth", lambda it: done(frames.snapshot(it.query["symbol"])))
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def done(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


# --- the client: all of `onetape run` but what it shows --------------------------------------------------------------


class Ear:
    """The subscriber. In arrays, so that hearing costs little: number of the frame, ns since it was received, and the
    monotonic time of now."""

    clock: Callable[[], int]
    """That of the collector."""

    def __init__(self, *, remember: bool) -> None:
        self.numbers, self.within, self.times = array("q"), array("q"), array("q")
        self.count = 0
        self.others: list[Event] = []
        self._remember = remember

    def hear(self, it: Event) -> None:
        if type(it) is Trade:
            number = frame_of(it)
        elif type(it) is Quote or type(it) is BookDelta:
            number = it.sequence
        else:
            if type(it) is not Candle:
                self.others.append(it)
            return
        self.count += 1
        if self._remember:
            self.within.append(self.clock() - it.received_time)
            self.times.append(time.monotonic_ns())
            self.numbers.append(number)

    def bad(self) -> list[Event]:
        """News that a run without any trouble does not bring."""
        return [it for it in self.others if not (
            isinstance(it, BookSnapshot | ConnectionState)
            or (isinstance(it, FeedStatus) and it.state in (TrustState.LIVE, TrustState.SYNCING))
        )]


class Client:
    """A collector that runs, the sender behind it, and the words between the two."""

    def __init__(self, collector: Collector, ear: Ear, pipe: Connection) -> None:
        self.collector, self.ear, self._pipe = collector, ear, pipe

    async def order(self, rate: int, count: int) -> tuple[int, int, list[int]]:
        """Returns when all is sent."""
        self._pipe.send((rate, count))
        return await self.word()

    async def word(self):
        while not self._pipe.poll():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return self._pipe.recv()

    async def heard(self, count: int) -> None:
        """Waits for so many, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self.ear.count < count:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)

    def live(self) -> bool:
        books = [book for it in self.collector.door.sessions.values() for book in it.books.values()]
        return len(books) == len(SYMBOLS) and all(it.state is TrustState.LIVE for it in books)


@asynccontextmanager
async def collecting(*, remember: bool) -> AsyncIterator[Client]:
    """With books that are live."""
    ours, theirs = get_context("spawn").Pipe()
    sender = get_context("spawn").Process(target=send, args=(theirs,))
    sender.start()
    theirs.close()
    try:
        ports = await asyncio.to_thread(ours.recv)
        with tempfile.TemporaryDirectory() as folder:
            stop = asyncio.Event()
            ear = Ear(remember=remember)
            collector = Collector([chosen(*ports)], policy=Policy(), store=Path(folder), publish=ear.hear)
            ear.clock = collector.clock
            running = asyncio.create_task(collector.run(stop))
            client = Client(collector, ear, ours)
            assert await client.word() == "subscribed"
            await client.order(1_000, 1_600)
            await client.heard(1_600)
            assert client.live()
            yield client
            assert client.live()
            for it in ear.bad()[:5]:
                print(f"  not as it should be: {it}", file=sys.stderr)
            stop.set()
            await running
    finally:
        sender.terminate()
        sender.join()


def chosen(websocket: int, rest: int) -> Choice:
    pairs = [f"{it[:-4]}-USDT" for it in SYMBOLS]
    settings = Settings.model_validate({
        "pairs": pairs, "channels": ["trades", "book", "quotes"], "venues": {"binance": {}},
    })
    (it,) = choices(settings)
    return structs.replace(
        it, websocket={"": (f"ws://127.0.0.1:{websocket}/stream",)}, rest=(f"http://127.0.0.1:{rest}",))


# --- loopback --------------------------------------------------------------------------------------------------------


HEAD = f"""
loopback: two processes on this machine, not pinned to cores, and whatever else runs on it: a sender (asyncio), which
  makes its frames, and a client (uvloop), a Collector as of `onetape run`: socket, network, door, session, books,
  meter, pipeline, journal in a temporary store, one subscriber. No TLS, one connection, {len(SYMBOLS)} symbols; 1/4 of
  the frames are depth of {CHANGES} levels into books of 2 x {REACH:,}, 1/2 bookTicker, 1/4 trade. What is due within a
  millisecond is written at once: a frame waits for those before it. {ROUNDS} rounds of {SECONDS} s each: medians; of
  max and behind the worst, of missed and late the sum.
  rate, got  frames/s that were sent, and received
  socket     us from the receive time, which the socket's callback takes, to the subscriber
  sent       us from just before the sender's write to the subscriber: kernel and queue included
  CPU        us per frame, of the client: the loop's thread, and all threads (the journal has its own)
  behind     ms by which the sender itself was late, at most
  missed     never came; late: came more than {LATE_NS // MILLISECOND} ms after they were sent"""
COLUMNS = {
    "rate": "9,.0f", "got": "9,.0f", "socket p50": "11.0f", "p99": "8.0f", "max": "8.0f", "sent p50": "9.0f",
    "p99 ": "8.0f", "max ": "8.0f", "CPU loop": "9.1f", "all": "6.1f", "behind": "7.1f", "missed": "7.0f",
    "late": "7.0f",
}
WORST = {"max": max, "max ": max, "behind": max, "missed": sum, "late": sum}  # of the rounds; else their median


def loopback() -> None:
    print(HEAD)
    print(" ".join(f"{name:>{form.partition('.')[0].rstrip(',')}}" for name, form in COLUMNS.items()))
    rows = apart(measure_loopback)
    for rate in RATES:
        its = [row for row in rows if row["rate"] == rate]
        values = {name: WORST.get(name, statistics.median)([it[name] for it in its]) for name in COLUMNS}
        print(" ".join(f"{values[name]:{form}}" for name, form in COLUMNS.items()))


def measure_loopback() -> list[dict[str, float]]:
    async def run() -> list[dict[str, float]]:
        async with collecting(remember=True) as client:
            return [await one_round(client, rate) for _ in range(ROUNDS) for rate in RATES]

    return uvloop.run(run())


async def one_round(client: Client, rate: int) -> dict[str, float]:
    ear, count = client.ear, rate * SECONDS
    ear.numbers, ear.within, ear.times, ear.count = array("q"), array("q"), array("q"), 0
    loop, everything = time.thread_time(), time.process_time()
    before, size, sent = await client.order(rate, count)
    await client.heard(count)
    loop, everything = time.thread_time() - loop, time.process_time() - everything
    ways = [at - sent[(n - before - 1) // size] for n, at in zip(ear.numbers, ear.times, strict=True)]
    return {
        "rate": rate, "got": len(ways) / (ear.times[-1] - sent[0]) * SECOND,
        "socket p50": share(ear.within, 0.5), "p99": share(ear.within, 0.99), "max": share(ear.within, 1),
        "sent p50": share(ways, 0.5), "p99 ": share(ways, 0.99), "max ": share(ways, 1),
        "CPU loop": 1e6 * loop / count, "all": 1e6 * everything / count,
        "behind": max(at - sent[0] - n * MILLISECOND for n, at in enumerate(sent)) / MILLISECOND,
        "missed": count - len(set(ear.numbers)), "late": sum(it > LATE_NS for it in ways),
    }


def share(values: Iterable[int], part: float) -> float:
    """us."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] / 1e3


# --- memory ----------------------------------------------------------------------------------------------------------


def memory() -> None:
    print(f"\nmemory: the same client and sender, {MILLION:,} frames, as fast as the client takes them")
    took, cpu, sizes, missed = apart(measure_memory)
    text = "   ".join(f"{part} % {size / 2**20:.1f} MiB" for part, size in sizes.items())
    print(f"  RSS at {text}   second half {100 * (sizes[100] / sizes[50] - 1):+.1f} % (to be less than 5)")
    print(f"  {MILLION / took:,.0f} frames/s: the most that it sustains   {1e6 * cpu / MILLION:.1f} us CPU per frame, "
          f"all threads   {missed} missed")


def measure_memory() -> tuple[float, float, dict[int, int], int]:
    async def run() -> tuple[float, float, dict[int, int], int]:
        async with collecting(remember=False) as client:
            sizes: dict[int, int] = {}
            client.ear.count = 0
            began, cpu = time.perf_counter(), time.process_time()
            sending = asyncio.create_task(client.order(0, MILLION))
            for part in (25, 50, 75, 100):
                while client.ear.count < MILLION * part // 100 and not sending.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await client.heard(MILLION * part // 100)
                sizes[part] = rss()
            took, cpu = time.perf_counter() - began, time.process_time() - cpu
            await sending
        return took, cpu, sizes, MILLION - client.ear.count

    return uvloop.run(run())


def rss() -> int:
    """Bytes; of the whole process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the simulator ---------------------------------------------------------------------------------------------------


def simulator() -> None:
    print(f"""
simulator: all channels of all its instruments, one connection per venue; medians of {ROUNDS}. Pace: orders come so many
  times as often as they do by default; depth stays at ten frames a second""")
    for pace in (1.0, PACE):
        rows = [apart(measure_simulator, pace) for _ in range(ROUNDS)]
        made, took, seconds = (statistics.median(it) for it in zip(*rows, strict=True))
        print(f"  in memory, pace {pace:3.0f}     {made / took:9,.0f} frames/s   {seconds / took:6.1f} x real time   "
              f"{made / seconds:7,.0f} frames per simulated second")
    rows = [apart(measure_server) for _ in range(ROUNDS)]
    frames, size = (statistics.median(it) for it in zip(*rows, strict=True))
    print(f"  over sockets, pace {PACE:3.0f}  {frames:9,.0f} frames/s   {size / 2**20:6.1f} MiB/s   "
          "a server (asyncio), and in another process a client (uvloop) that only counts")


def orders() -> dict[str, list[bytes]]:
    """Subscriptions to everything, by venue."""
    return {
        name: venues.create(name).subscribe([
            wanted for it in listings for channel in venues.capabilities(name).channels
            for wanted in subscriptions(name, it.symbol, channel)
        ]) for name, listings in LISTINGS.items()
    }


def subscriptions(venue: str, symbol: str, channel: Channel) -> list[Subscription]:
    match channel:
        case Channel.STATUS:
            return []
        case Channel.CANDLES:
            return [Subscription(symbol, channel, interval="1m")]
        case Channel.BOOK:
            return [Subscription(symbol, channel, depth=venues.capabilities(venue).depth_for(100))]
        case _:
            return [Subscription(symbol, channel)]


PATHS = {"binance": "/stream", "kraken": "/v2"}


def measure_simulator(pace: float) -> tuple[int, float, float]:
    """Frames, seconds that it took, simulated seconds."""
    start = now = 1_790_000_000 * SECOND
    it = Simulator(1, start=start, pace=pace, history_ns=MINUTE)
    connections = {venue: it.connect(venue, path, now)[0] for venue, path in PATHS.items()}
    for venue, frames in orders().items():
        for frame in frames:
            now += SECOND
            it.receive(connections[venue], frame, now)
    frames, began = 0, time.perf_counter()
    until = now + DURATION_NS
    deadline = began + BUSY_S
    first = now
    while now < until and time.perf_counter() < deadline:
        now += STEPS
        frames += sum(type(action) is Frame for action in it.wake(now))
    return frames, time.perf_counter() - began, (now - first) / SECOND


def measure_server() -> tuple[float, float]:
    """Frames/s and bytes/s that a client receives."""
    ours, theirs = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=run_server, args=(theirs,))
    server.start()
    try:
        urls = ours.recv()
        return uvloop.run(count_frames(urls))
    finally:
        server.terminate()
        server.join()


def run_server(pipe: Connection) -> None:
    async def run() -> None:
        async with Server(Simulator(1, start=time.time_ns(), pace=PACE, history_ns=SECOND)) as server:
            pipe.send({venue: server.websocket_url(venue) + path for venue, path in PATHS.items()})
            await server.wait()

    asyncio.run(run())


class Count(WSListener):
    def __init__(self, totals: Counter[str]) -> None:
        self._totals = totals

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._totals["frames"] += 1
        self._totals["bytes"] += len(frame.get_payload_as_memoryview())


async def count_frames(urls: dict[str, str]) -> tuple[float, float]:
    totals: Counter[str] = Counter()
    for venue, frames in orders().items():
        transport, _ = await ws_connect(lambda: Count(totals), urls[venue])
        for frame in frames:
            await asyncio.sleep(0.25)
            transport.send(WSMsgType.TEXT, frame)
    await asyncio.sleep(1)
    before, began = totals.copy(), time.perf_counter()
    await asyncio.sleep(BUSY_S)
    took = time.perf_counter() - began
    return (totals["frames"] - before["frames"]) / took, (totals["bytes"] - before["bytes"]) / took


if __name__ == "__main__":
    main()
