"""The network over real sockets: at the venue's pace, never failing in silence, one venue apart from the other."""
import asyncio
import zlib
from contextlib import asynccontextmanager, suppress

import pytest
from msgspec import structs

from onetape import venues
from onetape.clock import HOUR, MILLISECOND, MINUTE, SECOND
from onetape.errors import RetryBatch
from onetape.feed import connection, steady
from onetape.feed.connection import Access, Network
from onetape.feed.door import Door
from onetape.feed.governor import Governor
from onetape.feed.inputs import Closed, Frame, Opened, Setup, Started, Stopped
from onetape.feed.patience import Patience
from onetape.feed.rest import Rest, client
from onetape.feed.steady import SYNC_NS, SteadyClock
from onetape.model import Channel, ConnectionState, FeedStatus, Lifecycle, Send, Subscription, Trade, TrustState
from onetape.service.choice import tradable
from onetape.sim.server import Server
from onetape.sim.simulator import Simulator
from tests.feed.wire import CONTINUATION, TEXT, frame, hear, run, serving, shake, until

QUICK = Patience(base_ns=10 * MILLISECOND, cap_ns=20 * MILLISECOND, long_cap_ns=20 * MILLISECOND, max_attempts=0)
SYMBOLS = {"binance": "BTCUSDT", "kraken": "BTC/USDT"}


class Run:
    """A network in a task of its own, and all that went through it."""

    def __init__(self):
        self.inputs, self.events = [], []
        self.boom = None
        self.network: Network
        self.task: asyncio.Task

    def record(self, it):
        self.inputs.append(it)

    def publish(self, it):
        self.events.append(it)
        if self.boom is not None and isinstance(it, self.boom):
            raise RetryBatch("the disk is full")

    def start(self, venue, instruments=(), wanted=(Channel.TRADES, Channel.BOOK), patience=QUICK):
        symbol = SYMBOLS[venue]
        subscriptions = tuple(Subscription(symbol, it, depth=100 if it is Channel.BOOK else 0) for it in wanted)
        route = next(iter(venues.spec(venue).endpoints["production"].websocket))
        self.network.enter(
            Started, venue, lines={venue: Setup(venue, route, subscriptions, patience=patience)},
            instruments=tuple(instruments),
        )

    def of(self, kind, venue=""):
        return [it for it in (*self.inputs, *self.events)
                if isinstance(it, kind) and (not venue or getattr(it, "connection", "").startswith(venue))]


@asynccontextmanager
async def networking(**urls):
    """``urls``: WebSocket (and REST) addresses by venue; or a pair of URL and spec."""
    it, clock = Run(), SteadyClock()
    async with client() as http:
        accesses = {}
        for venue, given in urls.items():
            websocket, rest, limits = (*given, None, None)[:3] if isinstance(given, tuple) else (given, None, None)
            spec = venues.spec(venue)
            spec = spec if limits is None else structs.replace(spec, limits=structs.replace(spec.limits, **limits))
            asker = Rest(http, venues.create(venue), [rest or "http://127.0.0.1:1"], Governor(spec.budget), clock=clock)
            routes = spec.endpoints["production"].websocket
            accesses[venue] = Access(spec, dict.fromkeys(routes, (websocket,)), asker)
        it.network = Network(Door(1), accesses, it.publish, record=it.record, clock=clock)
        tasks = [asyncio.create_task(access.rest.run()) for access in accesses.values()]
        it.task = asyncio.create_task(it.network.run())
        await asyncio.sleep(0)
        try:
            yield it
        finally:
            for task in (it.task, *tasks):
                task.cancel()
            await asyncio.gather(it.task, *tasks, return_exceptions=True)


def url(port):
    return f"ws://127.0.0.1:{port}/"


async def listening(reader, writer):
    """A server that takes all and says nothing."""
    await shake(reader, writer)
    await reader.read()


def test_frames_are_sent_at_the_pace_of_the_venue_and_in_their_order():
    heard = []

    async def script(reader, writer):
        await shake(reader, writer)
        while True:
            _, payload = await hear(reader)
            heard.append((asyncio.get_running_loop().time(), payload))

    async def main():
        async with serving(script) as port, networking(kraken=(url(port), None, {"sends_per_second": 20.0})) as it:
            it.start("kraken")
            await until(lambda: it.of(Opened))
            frames = [b"%d" % number for number in range(8)]
            it.network._pass_on([("kraken#1", Send(data)) for data in frames])
            await until(lambda: [payload for _, payload in heard][-8:] == frames)
            times = [at for at, _ in heard]
            assert times[-1] - times[0] >= (len(times) - 1) / 20 * 0.9  # no faster; how much slower is not our matter
    run(main())


def test_too_many_frames_that_wait_end_the_socket(monkeypatch):
    monkeypatch.setattr(connection, "MAX_UNSENT", 10)

    async def main():
        async with serving(listening) as port, networking(kraken=(url(port), None, {"sends_per_second": 1.0})) as it:
            it.start("kraken")
            await until(lambda: it.of(Opened))
            it.network._pass_on([("kraken#1", Send(b"x"))] * 30)
            await until(lambda: it.of(Closed))
            assert it.of(Closed)[0].reason == "10 frames wait to be sent"
            assert it.network.counters["frames not sent"] >= 1
            await until(lambda: len(it.of(Opened)) == 2)
    run(main())


def test_frames_for_a_socket_that_is_gone_are_counted():
    async def main():
        async with serving(listening) as port, networking(kraken=url(port)) as it:
            it.start("kraken")
            it.network._pass_on([("kraken#1", Send(b"x")), ("kraken#7", Send(b"x"))])
            assert it.network.counters["frames for a lost socket"] == 2
    run(main())


@pytest.mark.parametrize("answer", [False, True])
def test_stopped_while_it_connects(answer):
    asked, gone, may = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def script(reader, writer):
        try:
            if answer:
                head = await reader.readuntil(b"\r\n\r\n")
                asked.set()
                await may.wait()
                rest = asyncio.StreamReader()
                rest.feed_data(head)
                await shake(rest, writer, b"", frame(TEXT, b"too late"))
            else:
                asked.set()
            await reader.read()
        finally:
            gone.set()

    async def main():
        async with serving(script) as port, networking(kraken=url(port)) as it:
            it.start("kraken")
            await asked.wait()
            it.network.enter(Stopped, "")
            may.set()
            if answer:
                await gone.wait()
            assert [type(one) for one in it.inputs] == [Started, Stopped]
            assert it.events[-1].state is Lifecycle.STOPPED
            assert not it.task.done()
            assert not it.network._links
    run(main())


def test_what_publish_raises_ends_the_run():
    async def main():
        async with serving(listening) as port, networking(kraken=url(port)) as it:
            it.boom = FeedStatus
            it.start("kraken")
            await asyncio.wait([it.task])
            error = it.task.exception()
            while isinstance(error, BaseExceptionGroup):
                (error,) = error.exceptions
            assert isinstance(error, RetryBatch)
            assert not it.network._links
    run(main())


def test_what_publish_raises_at_a_wake_ends_the_run():
    async def main():
        async with networking(kraken="ws://127.0.0.1:1/") as it:
            it.start("kraken")  # refused, and tried again by the timer
            await until(lambda: it.of(Closed))
            it.boom = ConnectionState
            await asyncio.wait([it.task])
            assert it.task.exception() is not None
    run(main())


def test_cancelled_it_closes_its_sockets():
    gone = asyncio.Event()

    async def script(reader, writer):
        await shake(reader, writer)
        with suppress(ConnectionError):
            await reader.read()
        gone.set()

    async def main():
        async with serving(script) as port, networking(kraken=url(port)) as it:
            it.start("kraken")
            await until(lambda: it.of(Opened))
            it.task.cancel()
            await gone.wait()
    run(main())


def test_the_next_address_is_tried_after_a_failure():
    async def main():
        async with serving(listening) as port, networking(kraken=url(port)) as it:
            access = it.network._accesses["kraken"]
            it.network._accesses["kraken"] = structs.replace(
                access, websocket={"": ("ws://127.0.0.1:1/", "wss://nobody.invalid/", url(port))})
            it.start("kraken")
            await until(lambda: it.of(Opened))
            first, second = it.of(Closed)
            assert "cannot connect to 127.0.0.1:1" in first.reason
            assert "DNS: cannot resolve nobody.invalid" in second.reason
    run(main())


# --- a hostile venue beside a healthy one ---------------------------------------------------------------------------


def bomb():
    packer = zlib.compressobj(9, wbits=-15)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush(zlib.Z_SYNC_FLUSH)[:-4]


def hostile(done):
    """Something else each time."""
    how = iter([
        lambda writer: writer.write(frame(TEXT, size=1 << 40)),
        lambda writer: writer.write(frame(TEXT, b"\xff\xfe\xfd") * 50 + frame(TEXT, b"masked", mask=b"abcd")),
        lambda writer: writer.write(frame(TEXT, bomb(), reserved=4)),
        lambda writer: writer.write(frame(TEXT, b"{" * 100_000) + frame(CONTINUATION, b"of nothing")),
        lambda writer: writer.write(frame(TEXT, b'{"stream":"btcusdt@trade","data":{"s":[]}}') + frame(8, b"\x0f\xa0")),
        lambda writer: writer.write(b"\xff" * 1_000),
        lambda writer: writer.write(frame(8)),
    ])

    async def script(reader, writer):
        attack = next(how, None)
        if attack is None:
            done.set()
            await reader.read()
        await shake(reader, writer)
        attack(writer)
        await writer.drain()
        await reader.read()
    return script


def test_a_hostile_venue_does_not_touch_a_healthy_one():
    done = asyncio.Event()

    async def main():
        simulator = Simulator(1, ["kraken"], start=1_790_000_000 * SECOND, pace=5.0)
        venue = venues.create("kraken")
        (asked,) = venue.instrument_requests()
        listed = simulator.request("kraken", "GET", asked.path, simulator.now).body
        async with (
            Server(simulator) as server, serving(hostile(done)) as port,
            networking(kraken=server.websocket_url("kraken") + "/v2", binance=url(port)) as it,
        ):
            it.start("kraken", tradable(venue.parse_instruments(listed)[0]))
            await until(lambda: it.of(Trade))
            it.start("binance", wanted=(Channel.TRADES,))
            await done.wait()
            seen = len(it.of(Trade))
            await until(lambda: len(it.of(Trade)) > seen + 3)
            assert len(it.of(Opened, "binance")) == len(it.of(Closed, "binance")) == 7
            assert len(it.of(Opened, "kraken")) == 1
            assert not it.of(Closed, "kraken")
            states = [one.state for one in it.of(ConnectionState, "kraken")]
            assert states[-1] is Lifecycle.ACTIVE
            assert Lifecycle.RECONNECTING not in states
            books = [one.state for one in it.events if isinstance(one, FeedStatus) and one.venue == "kraken"]
            assert TrustState.STALE not in books
            assert TrustState.DOWN not in books
            assert all(one.connection == "" or len(one.data) < 32 << 20 for one in it.of(Frame))
    run(main())


# --- the clock ------------------------------------------------------------------------------------------------------


class Machine:
    """Its two clocks."""

    def __init__(self):
        self.wall, self.monotonic = 10**18, 5 * SECOND

    def time_ns(self):
        return self.wall

    def monotonic_ns(self):
        return self.monotonic

    def pass_time(self, ns):
        self.wall += ns
        self.monotonic += ns


@pytest.fixture
def machine(monkeypatch):
    it = Machine()
    monkeypatch.setattr(steady, "time", it)
    return it


def test_the_clock_is_the_walls(machine):
    clock = SteadyClock()
    for step in (0, 1, SECOND, HOUR):
        machine.pass_time(step)
        assert clock() == machine.wall
    assert clock.ahead_ns == 0


def test_a_wall_clock_that_is_set_back_is_not_followed(machine):
    clock = SteadyClock()
    before = clock()
    machine.wall -= HOUR
    assert clock() == before
    machine.pass_time(MINUTE)
    assert clock() == before + MINUTE
    assert clock.ahead_ns == HOUR


def test_a_wall_clock_that_is_set_forward_is_followed_soon(machine):
    clock = SteadyClock()
    clock()
    machine.wall += HOUR
    machine.pass_time(SYNC_NS)
    assert clock() == machine.wall
    assert clock.ahead_ns == 0
