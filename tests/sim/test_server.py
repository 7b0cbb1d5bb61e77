"""Real sockets on loopback: what the simulator says is what a client hears, and the other way round."""
import asyncio
import time

import aiohttp
import picows
import pytest
from picows import WSListener, WSMsgType, ws_connect

from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.sim.base import Close, Frame, Ping, Rejected, Response
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.server import Server, packed, packet, route
from onetape.sim.simulator import Simulator

LONG = "x" * 70_000


class Plain:
    """It does what it is told: ``close``, ``go``, ``ping``, ``long``, or an echo."""

    name = "kraken"
    instruments_path = "/0/public/AssetPairs"

    def __init__(self, truths, faults, seed):
        self.targets, self.heard, self.open = [], [], set()

    def connect(self, connection, target, now):
        if target == "/no":
            raise Rejected(429, {"Retry-After": "9"}, b"slowly")
        self.targets.append(target)
        self.open.add(connection)
        return [Frame(connection, b'"hello"')]

    def receive(self, connection, frame, now):
        self.heard.append(frame)
        match frame:
            case b"close":
                return [Frame(connection, b"last"), Close(connection, 1008, "enough")]
            case b"go":
                return [Close(connection, 1006)]
            case b"ping":
                return [Ping(connection, b"42")]
            case b"long":
                return [Frame(connection, LONG.encode())]
        return [Frame(connection, frame)]

    def pong(self, connection, payload, now):
        return [Frame(connection, b"pong " + payload)]

    def disconnect(self, connection, now):
        self.open.remove(connection)

    def happen(self, it, now):
        return []

    def next_wake(self):
        return None

    def wake(self, now):
        return []

    def request(self, method, target, now, headers, client):
        return Response(418, f"{method} {target} {client} {headers['X-Me']}".encode(), {"X-Used": "3"}, after_ns=1)


class Ear(WSListener):
    """Puts what it hears into a queue; ``None`` when the connection is gone."""

    def __init__(self):
        self.heard = asyncio.Queue()

    def on_ws_frame(self, transport, frame):
        match frame.msg_type:
            case WSMsgType.TEXT:
                self.heard.put_nowait(frame.get_payload_as_bytes())
            case WSMsgType.CLOSE:
                self.heard.put_nowait((int(frame.get_close_code()), frame.get_close_message()))
                transport.send_close(frame.get_close_code())
            case kind:
                self.heard.put_nowait((kind, frame.get_payload_as_bytes()))

    def on_ws_disconnected(self, transport):
        self.heard.put_nowait(None)

    async def next(self):
        return await asyncio.wait_for(self.heard.get(), 10)


def served(test, *faults, **rest):
    """Runs a test against a server of its own."""
    async def run():
        simulator = Simulator(
            start=time.time_ns(), plan=FaultPlan(faults=faults), history_ns=SECOND, classes={"kraken": Plain}, **rest,
        )
        async with Server(simulator) as server:
            await test(server, simulator.venues["kraken"])

    asyncio.run(run())


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a simulator has no event for everything that it does
            await asyncio.sleep(0.001)


async def dial(server, path="/v2", url=None, **rest):
    transport, ear = await ws_connect(Ear, (url or server.websocket_url("kraken")) + path, **rest)
    assert await ear.next() == b'"hello"'
    return transport, ear


def test_frames_go_both_ways():
    async def test(server, venue):
        transport, ear = await dial(server, "/v2?a=b")
        transport.send(WSMsgType.TEXT, b"one")
        assert await ear.next() == b"one"
        transport.send(WSMsgType.TEXT, b"tw", fin=False)
        transport.send(WSMsgType.CONTINUATION, b"o")
        assert await ear.next() == b"two"
        transport.send(WSMsgType.TEXT, b"long")
        assert await ear.next() == LONG.encode()
        assert venue.targets == ["/v2?a=b"]

    served(test)


def test_pings_of_both_sides_are_answered():
    async def test(server, venue):
        transport, ear = await dial(server, enable_auto_pong=False)
        transport.send_ping(b"mine")
        assert await ear.next() == (WSMsgType.PONG, b"mine")
        transport.send(WSMsgType.TEXT, b"ping")
        assert await ear.next() == (WSMsgType.PING, b"42")
        transport.send_pong(b"42")
        assert await ear.next() == b"pong 42"

    served(test)


def test_a_venue_closes_with_a_code_and_a_word_or_without():
    async def test(server, venue):
        transport, ear = await dial(server)
        transport.send(WSMsgType.TEXT, b"close")
        assert await ear.next() == b"last"
        assert await ear.next() == (1008, b"enough")
        assert await ear.next() is None
        transport, ear = await dial(server)
        transport.send(WSMsgType.TEXT, b"go")
        assert await ear.next() is None
        assert not venue.open
        assert not server.connections

    served(test)


def test_a_client_that_leaves_is_let_go():
    async def test(server, venue):
        transport, ear = await dial(server)
        transport.send_close(picows.WSCloseCode.OK)
        assert (await ear.next())[0] == 1000
        assert await ear.next() is None
        assert not venue.open
        transport, ear = await dial(server)
        transport.underlying_transport.abort()
        assert await ear.next() is None
        await until(lambda: not venue.open and not server.connections)

    served(test)


def test_a_refused_handshake_says_why():
    async def test(server, venue):
        with pytest.raises(picows.WSHandshakeError) as caught:
            await dial(server, "/no")
        response = caught.value.response
        assert (response.status, response.headers["Retry-After"]) == (429, "9")
        async with aiohttp.ClientSession() as session:
            url = server.websocket_url("kraken").replace("ws:", "http:")
            wrong = {
                "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "short",
            }
            for headers in ({}, wrong):
                async with session.get(url, headers=headers) as answer:
                    assert answer.status == 400
        assert not venue.open

    served(test)


def test_rest_answers_with_status_headers_and_body():
    async def test(server, venue):
        async with aiohttp.ClientSession(headers={"X-Me": "7"}) as session:
            async with session.get(server.rest_url("kraken") + "/0/public/Time?x=%22a%22") as answer:
                assert (answer.status, answer.headers["X-Used"]) == (418, "3")
                assert await answer.text() == "GET /0/public/Time?x=%22a%22 127.0.0.1 7"
            url = server.rest_url("kraken").removesuffix("/kraken")
            async with session.post(url + "/0/x", headers={"Host": "api.kraken.com"}) as answer:
                assert (await answer.text()).startswith("POST /0/x ")
            with pytest.raises(aiohttp.ClientError):
                await session.get(url + "/nasdaq/x")

    served(test)


def test_a_real_host_name_needs_no_prefix():
    async def test(server, venue):
        url = server.websocket_url("kraken").removesuffix("/kraken")
        await dial(server, "/v2", url, extra_headers={"Host": "ws.kraken.com"})
        assert venue.targets == ["/v2"]

    served(test)


def test_the_other_host_of_coinbase_is_answered_by_who_keeps_its_market():
    async def scenario():
        simulator = Simulator(1, ["coinbase"], start=1_790_000_000 * SECOND, history_ns=5 * SECOND)
        async with Server(simulator) as server, aiohttp.ClientSession() as session:
            url = server.rest_url("x").removesuffix("/x")
            for path, status in (("/products/BTC-USD/trades?limit=3", 200), ("/products", 404)):
                async with session.get(url + path, headers={"Host": "api.exchange.coinbase.com"}) as answer:
                    assert answer.status == status
                    rows = await answer.json()
                    assert status == 404 or [type(it["trade_id"]) for it in rows] == [int] * 3

    asyncio.run(scenario())


def test_half_open_is_silence_in_both_directions():
    async def test(server, venue):
        transport, ear = await dial(server, enable_auto_pong=False)
        await until(lambda: not server.simulator.heard(1))
        for word in (b"one", b"close"):
            transport.send(WSMsgType.TEXT, word)
        transport.send_ping(b"mine")
        transport.send_close(picows.WSCloseCode.OK)
        transport_too, ear_too = await dial(server)
        transport_too.send(WSMsgType.TEXT, b"one")
        assert await ear_too.next() == b"one"
        assert venue.heard == [b"one"]
        assert ear.heard.empty()
        assert not transport.is_disconnected

    served(test, Fault(kind=FaultKind.HALF_OPEN, at=1.0))


def test_giant_frames_really_go_out():
    async def test(server, venue):
        transport, ear = await ws_connect(Ear, server.websocket_url("kraken"), max_frame_size=1 << 27)
        assert await ear.next() == b'"hello"'
        assert len(await ear.next()) == 64 * 1024 * 1024
        transport.send(WSMsgType.TEXT, b"still there")
        assert await ear.next() == b"still there"

    served(test, Fault(kind=FaultKind.GIANT, at=1.0))


def test_a_client_that_does_not_read_is_dropped():
    async def test(server, venue):
        transport, ear = await dial(server)
        transport.underlying_transport.pause_reading()
        big = [Frame(1, bytes(40_000_000))]
        for _ in range(5):
            server.send(big)
        assert server.dropped_clients == 1
        await until(lambda: not venue.open)
        transport.underlying_transport.abort()  # it would read nothing more, not even the end
        assert await ear.next() is None

    served(test)


def test_a_port_in_use_is_one_line():
    async def test(server, venue):
        simulator = server.simulator
        taken = [int(url.split(":")[2].split("/")[0]) for url in (server.websocket_url(""), server.rest_url(""))]
        for ports in ({"ws_port": taken[0]}, {"rest_port": taken[1]}):
            with pytest.raises(UsageError, match="is in use") as caught:
                async with Server(simulator, **ports):
                    pass
            assert "\n" not in str(caught.value)

    served(test)


def test_a_chosen_time_goes_on_as_fast_as_the_real_one():
    start = 1_500_000_000 * SECOND

    async def run():
        simulator = Simulator(start=start, history_ns=SECOND, classes={"kraken": Plain})
        async with Server(simulator) as server:
            await until(lambda: simulator.now > start)
            assert start < server.now() < start + 10 * SECOND

    asyncio.run(run())


def test_what_breaks_in_a_venue_is_raised():
    class Broken(Plain):
        def happen(self, it, now):
            raise RuntimeError("broken")

    async def run():
        simulator = Simulator(start=time.time_ns(), history_ns=SECOND, classes={"kraken": Broken})
        async with Server(simulator) as server:
            with pytest.raises(RuntimeError, match="broken"):
                await asyncio.wait_for(server.wait(), 10)

    with pytest.raises(RuntimeError, match="broken"):  # also for those who did not wait
        asyncio.run(run())


@pytest.mark.parametrize(("host", "target", "expected"), [
    ("127.0.0.1:80", "/binance/stream?streams=a/b", ("binance", "/stream?streams=a/b")),
    ("127.0.0.1", "/kraken", ("kraken", "/")),
    ("localhost:1", "/kraken/", ("kraken", "/")),
    ("api.binance.com:443", "/api/v3/depth?a=/b", ("binance", "/api/v3/depth?a=/b")),
    ("WS.Kraken.com", "/v2", ("kraken", "/v2")),
    ("", "", ("", "/")),
    ("x", "?a", ("", "/?a")),
])
def test_routes(host, target, expected):
    assert route(host, target) == expected


@pytest.mark.parametrize(("size", "head"), [
    (0, b"\x81\x00"), (125, b"\x81\x7d"), (126, b"\x81\x7e\x00\x7e"), (65_535, b"\x81\x7e\xff\xff"),
    (65_536, b"\x81\x7f" + (65_536).to_bytes(8, "big")),
])
def test_packets(size, head):
    assert packet(1, b"x" * size) == head + b"x" * size


def test_actions_are_packed_by_connection_in_order():
    actions = [Frame(1, b"a"), Frame(2, b"b"), Ping(1, b"c"), Close(1, 1001, "d"), Close(2, 1006)]
    assert packed(actions) == {1: b"\x81\x01a\x89\x01c\x88\x03\x03\xe9d", 2: b"\x81\x01b"}
