"""REST against servers that answer, dawdle, break and attack: a bounded answer or one reason, at a polite pace."""
import asyncio
import gzip
import re
import socket
import zlib
from contextlib import asynccontextmanager, suppress

import pytest

from onetape import venues
from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.feed import rest as rest_module
from onetape.feed.governor import Governor, Priority
from onetape.feed.rest import Rest, Unanswered, client
from onetape.model import Request, RestKind
from onetape.venues.base import Budget
from tests.feed.wire import at_most, connect_proxy, run, serving, socks5, until

MEBIBYTE = 1 << 20
MAX = 4 * MEBIBYTE
PLENTY = Budget(1_000_000, SECOND, "x-mbx-used-weight-1m")


@pytest.fixture(autouse=True)
def bounds(monkeypatch):
    """Smaller ones, so that the tests are quick."""
    monkeypatch.setattr(rest_module, "MAX_BYTES", MAX)
    monkeypatch.setattr(rest_module, "TIMEOUT_S", 2.0)


def request(path="/", weight=1):
    return Request(RestKind.TIME, path, weight=weight)


class Clock:
    """Stands still unless it is moved."""

    def __init__(self):
        self.now = 1_000 * SECOND

    def __call__(self):
        return self.now


@asynccontextmanager
async def asking(*ports, budget=PLENTY, clock=None, venue="binance", **way):
    """A Rest that runs, towards these ports in turn."""
    addresses = [it if isinstance(it, str) else f"http://127.0.0.1:{it}" for it in ports]
    async with client(**way) as http:
        it = Rest(http, venues.create(venue), addresses, Governor(budget), clock=clock or Clock())
        task = asyncio.create_task(it.run())
        try:
            yield it
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def answering(answer, asked=None):
    """A server that answers each request on a connection with ``answer``: bytes, or a function of the path."""
    async def script(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            if asked is not None:
                asked.append(path)
            said = answer(path) if callable(answer) else answer
            if said is None:  # it is kept waiting
                await reader.read()
            writer.write(said)
            await writer.drain()
    return script


def good(body=b"{}", *headers, status="200 OK"):
    return b"\r\n".join([f"HTTP/1.1 {status}".encode(), *headers, b"Content-Length: %d" % len(body), b"", body])


async def refused(port, **rest):
    """The one reason."""
    async with asking(port, **rest) as it:
        with pytest.raises(Unanswered) as raised:
            await it.fetch(request(), Priority.RESYNC)
        assert it.governor.counters["unanswered"] == 1
    assert "\n" not in str(raised.value)
    assert 0 < len(str(raised.value)) <= 400
    return str(raised.value)


# --- answers --------------------------------------------------------------------------------------------------------


def test_an_answer():
    asked = []

    async def main():
        async with serving(answering(good(b'{"a":1}', b"X-One: 1"), asked)) as port, asking(port) as it:
            reply = await it.fetch(request("/api/v3/depth?symbol=A%2FB&limit=5"), Priority.RESYNC)
            assert (reply.status, reply.body, reply.headers["x-one"]) == (200, b'{"a":1}', "1")
            assert reply.sent_at == reply.received_at == 1_000 * SECOND
    run(main())
    assert asked == ["/api/v3/depth?symbol=A%2FB&limit=5"]


@pytest.mark.parametrize("status", ["301 Moved", "404 Not Found", "500 Broken", "599 Unheard of"])
def test_what_is_no_success_is_an_answer_too(status):
    """And no redirect is followed."""
    async def main():
        said = good(b"no", b"Location: http://127.0.0.1:1/", status=status)
        async with serving(answering(said)) as port, asking(port) as it:
            reply = await it.fetch(request(), Priority.RESYNC)
            assert (str(reply.status), reply.body) == (status[:3], b"no")
            assert it.governor.counters["unanswered"] == 0
    run(main())


def test_connections_are_kept():
    connections = []

    async def script(reader, writer):
        connections.append(writer)
        await answering(good())(reader, writer)

    async def main():
        async with serving(script) as port, asking(port) as it:
            for _ in range(5):
                await it.fetch(request(), Priority.RESYNC)
    run(main())
    assert len(connections) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer(encoding):
    body = b'{"a":1}' * 1_000

    async def main():
        packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
        said = good(packed, f"Content-Encoding: {encoding}".encode())
        async with serving(answering(said)) as port, asking(port) as it:
            assert (await it.fetch(request(), Priority.RESYNC)).body == body
    run(main())


# --- no answers -----------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def test_nobody_listens():
    port = free_port()
    assert str(port) in run(refused(port))


def test_a_name_that_nobody_knows():
    assert run(refused("https://nobody.invalid")).startswith("DNS: cannot resolve nobody.invalid: ")


def test_a_name_that_is_none():
    run(refused(f"https://{'a' * 70}.com"))


def test_tls_to_a_plain_port():
    async def main():
        async with serving(answering(good())) as port:
            return await refused(f"https://127.0.0.1:{port}")
    assert "127.0.0.1" in run(main())


@pytest.mark.parametrize("said", [
    b"\x00\xff\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\nContent-Length: 4\r\n\r\n\xff\xff\xff\xff",
    b"HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
])
def test_garbage(said):
    async def main():
        async with serving(answering(said)) as port:
            await refused(port)
    run(main())


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
@pytest.mark.parametrize("reset", [True, False])
def test_a_server_that_hangs_up(said, reset):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.close()

    async def main():
        async with serving(script) as port:
            await refused(port)
    run(main())


async def dawdles(script):
    """The reason, with a client that has but a quarter of a second."""
    rest_module.TIMEOUT_S = 0.25
    async with serving(script) as port:
        assert await refused(port) == f"http://127.0.0.1:{port} did not answer within 0.25 s"


def test_a_server_that_says_nothing():
    run(dawdles(answering(lambda _: None)))


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
def test_an_answer_byte_by_byte(head):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)
    run(dawdles(script))


def endless(head, again):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while True:
            writer.write(again)
            await writer.drain()
    return script


@pytest.mark.parametrize(("head", "again"), [
    (b"HTTP/1.1 200 OK\r\n", b"X-More: of the same\r\n" * 100),
    (b"HTTP/1.1 200 OK\r\nX-More: ", b"x" * 65_536),
    (b"", b"x" * 65_536),
    (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n", b"x" * 65_536),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000\r\n", b"x" * 65_536),
], ids=["headers", "header", "status", "body", "long body", "chunks", "small chunks", "long chunk"])
def test_an_answer_without_end(head, again):
    async def main():
        async with serving(endless(head, again)) as port:
            with at_most(48 * MEBIBYTE):
                await refused(port)
    run(main())


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb(encoding):
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    body = b"".join(packer.compress(bytes(MEBIBYTE)) for _ in range(128)) + packer.flush()
    assert len(body) < MEBIBYTE

    async def main():
        async with serving(answering(good(body, f"Content-Encoding: {encoding}".encode()))) as port:
            with at_most(48 * MEBIBYTE):
                assert "more than" in await refused(port)
    run(main())


def test_after_a_failure_the_next_address_is_asked():
    one, two = [], []

    async def main():
        async with (
            serving(answering(good(), one)) as first, serving(answering(good(), two)) as second,
            asking("https://nobody.invalid", first, second) as it,
        ):
            with pytest.raises(Unanswered):
                await it.fetch(request("/1"), Priority.RESYNC)
            await it.fetch(request("/2"), Priority.RESYNC)
            await it.fetch(request("/3"), Priority.RESYNC)
    run(main())
    assert (one, two) == (["/2", "/3"], [])


def test_one_failure_does_not_disturb_the_others():
    async def main():
        def answer(path):
            return b"garbage\r\n\r\n" if path == "/bad" else good(path.encode())
        async with serving(answering(answer)) as port, asking(port) as it:
            paths = ["/a", "/bad", "/b", "/bad", "/c", "/d", "/e"]
            replies = await asyncio.gather(
                *(it.fetch(request(path), Priority.RESYNC) for path in paths), return_exceptions=True)
            told = [reply.body.decode() if not isinstance(reply, Exception) else "/bad" for reply in replies]
            assert told == paths
    run(main())


# --- order and pace -------------------------------------------------------------------------------------------------


class Gate:
    """A server that holds each answer back until it is let through."""

    def __init__(self):
        self.asked, self.open, self.held = [], asyncio.Event(), {}

    async def __call__(self, reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.asked.append(path)
            self.held[path] = asyncio.get_running_loop().create_future()
            writer.write(await self.held[path])
            await writer.drain()

    def answer(self, path, said=None):
        self.held.pop(path).set_result(said or good())


async def asked_by_turns(gate, it, *wanted):
    """Asks for all, as (path, priority); gives the paths in the order in which they reached the server."""
    tasks = []
    for path, priority in wanted:
        tasks.append(asyncio.create_task(it.fetch(request(path), priority)))
        await asyncio.sleep(0)
    return tasks


def test_not_more_than_a_few_are_asked_at_once_and_the_urgent_ones_first():
    async def main():
        gate = Gate()
        async with serving(gate) as port, asking(port) as it:
            busy = [(f"/{at}", Priority.RESYNC) for at in range(rest_module.AT_ONCE)]
            tasks = await asked_by_turns(gate, it, *busy)
            await until(lambda: len(gate.asked) == rest_module.AT_ONCE)
            tasks += await asked_by_turns(
                gate, it, ("/backfill1", Priority.BACKFILL), ("/backfill2", Priority.BACKFILL),
                ("/discovery", Priority.DISCOVERY), ("/resync1", Priority.RESYNC), ("/resync2", Priority.RESYNC),
            )
            order = []
            for count in range(rest_module.AT_ONCE, len(tasks)):
                assert len(gate.asked) == count
                gate.answer(gate.asked[count - rest_module.AT_ONCE])
                await until(lambda count=count: len(gate.asked) == count + 1)
                order.append(gate.asked[-1])
            for path in list(gate.held):
                gate.answer(path)
            await asyncio.gather(*tasks)
            assert order == ["/resync1", "/resync2", "/discovery", "/backfill1", "/backfill2"]
    run(main())


@pytest.mark.parametrize("status", ["429 Too many", "418 Teapot"])
def test_who_has_had_too_much_is_left_alone_by_everybody(status):
    """Also by those who had been waiting for a free connection."""
    async def main():
        gate, clock = Gate(), Clock()
        async with serving(gate) as port, asking(port, clock=clock) as it:
            wanted = [(f"/{at}", Priority.RESYNC) for at in range(rest_module.AT_ONCE + 3)]
            tasks = await asked_by_turns(gate, it, *wanted)
            await until(lambda: len(gate.asked) == rest_module.AT_ONCE)
            gate.answer("/0", good(b"{}", b"Retry-After: 30", status=status))
            reply = await tasks[0]
            assert reply.status == int(status[:3])
            assert it.governor.paused_until == clock.now + 30 * SECOND
            for at in range(1, rest_module.AT_ONCE):
                gate.answer(f"/{at}")
                await tasks[at]
            again = asyncio.create_task(it.fetch(request("/again"), Priority.RESYNC))
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(gate.asked) == rest_module.AT_ONCE  # nobody more
            clock.now += 31 * SECOND
            tasks.append(asyncio.create_task(it.fetch(request("/news"), Priority.RESYNC)))  # wakes it
            await until(lambda: len(gate.asked) == 2 * rest_module.AT_ONCE)
            for task in (*tasks, again):
                task.cancel()
            for path in list(gate.held):
                gate.answer(path)
    run(main())


def test_429_without_a_wait_of_its_own():
    async def main():
        async with serving(answering(good(status="429 Too many"))) as port, asking(port) as it:
            await it.fetch(request(), Priority.RESYNC)
            assert it.governor.paused_until >= 1_000 * SECOND + rest_module.FLOOD_NS
            assert it.governor.counters["refused"] == 1
    run(main())


def test_a_server_error_stops_nobody():
    async def main():
        async with serving(answering(good(status="503 Down"))) as port, asking(port) as it:
            for _ in range(3):
                assert (await it.fetch(request(), Priority.RESYNC)).status == 503
            assert it.governor.paused_until == 0
    run(main())


def test_what_others_used_of_our_allowance_counts():
    async def main():
        clock, asked = Clock(), []
        said = good(b"{}", b"X-MBX-USED-WEIGHT-1M: 80")
        budget = Budget(100, 60 * SECOND, "x-mbx-used-weight-1m")
        async with serving(answering(said, asked)) as port, asking(port, clock=clock, budget=budget) as it:
            await it.fetch(request("/1", weight=5), Priority.RESYNC)
            assert it.governor.used == 80
            await it.fetch(request("/2", weight=10), Priority.RESYNC)  # of 90
            waiting = asyncio.create_task(it.fetch(request("/3", weight=10), Priority.RESYNC))
            for _ in range(100):
                await asyncio.sleep(0)
            assert asked == ["/1", "/2"]
            waiting.cancel()
    run(main())


def test_whoever_is_too_many_is_told_at_once(monkeypatch):
    monkeypatch.setattr(rest_module, "MAX_WAITING", 10)

    async def main():
        clock = Clock()
        async with serving(answering(good())) as port, asking(port, clock=clock, budget=Budget(10, SECOND)) as it:
            it.governor.pause(60 * SECOND, clock.now)
            tasks = [asyncio.create_task(it.fetch(request(), Priority.BACKFILL)) for _ in range(10)]
            await asyncio.sleep(0)
            with pytest.raises(Unanswered, match="10 requests wait already"):
                await it.fetch(request(), Priority.RESYNC)
            for task in tasks:
                task.cancel()
    run(main())


def test_who_no_longer_waits_is_not_asked_for():
    async def main():
        gate = Gate()
        async with serving(gate) as port, asking(port) as it:
            busy = [(f"/{at}", Priority.RESYNC) for at in range(rest_module.AT_ONCE)]
            tasks = await asked_by_turns(gate, it, *busy)
            await until(lambda: len(gate.asked) == rest_module.AT_ONCE)
            gone, kept = await asked_by_turns(gate, it, ("/gone", Priority.RESYNC), ("/kept", Priority.BACKFILL))
            gone.cancel()
            await asyncio.sleep(0)
            gate.answer("/0")
            await until(lambda: len(gate.asked) > rest_module.AT_ONCE)
            assert gate.asked[-1] == "/kept"
            for path in list(gate.held):
                gate.answer(path)
            await asyncio.gather(*tasks, kept)
    run(main())


# --- ways out -------------------------------------------------------------------------------------------------------


def test_through_proxies():
    asked = []

    async def main():
        async with serving(answering(good(b"there"))) as port:
            async with (
                serving(socks5(port, asked)) as proxy,
                asking("http://exchange.invalid:81", proxy=f"socks5://me:secret@127.0.0.1:{proxy}") as it,
            ):
                assert (await it.fetch(request(), Priority.RESYNC)).body == b"there"
            async with (
                serving(connect_proxy(port, asked)) as proxy,
                asking("http://exchange.invalid:81", proxy=f"http://me:se%20cret@127.0.0.1:{proxy}") as it,
            ):
                assert (await it.fetch(request(), Priority.RESYNC)).body == b"proxy"
    run(main())
    assert asked[:2] == [(b"me", b"secret"), ("exchange.invalid", 81)]
    assert asked[2].startswith(b"GET http://exchange.invalid:81/ HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6c2UgY3JldA==\r\n" in asked[2]


def test_tls_through_a_proxy_is_asked_for_by_connect():
    asked = []

    async def main():
        async with serving(answering(good())) as port, serving(connect_proxy(port, asked)) as proxy:
            await refused("https://exchange.invalid:81", proxy=f"http://me:secret@127.0.0.1:{proxy}")
    run(main())
    assert asked[0].startswith(b"CONNECT exchange.invalid:81 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in asked[0]


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1", "socks5://127.0.0.1:no", "http://a:99999", "http://:80"])
def test_a_proxy_that_is_no_address_is_refused_at_once(proxy):
    with pytest.raises(UsageError, match=r"^proxy: "):
        client(proxy)


async def _reads(reader, _writer):
    await reader.read()


async def _leaves(_reader, _writer):
    pass


async def _garbles(_reader, writer):
    writer.write(b"garbage garbage")
    await writer.drain()


@pytest.mark.parametrize(("scheme", "script"), [
    ("http", answering(good(status="407 Proxy Authentication Required"))),
    ("http", answering(b"garbage\r\n\r\n")),
    ("http", _leaves),
    ("http", _reads),
    ("socks5", socks5(0, [], reply=2)),
    ("socks5", _garbles),
    ("socks5", _leaves),
    ("socks5", _reads),
    ("socks4", _garbles),
], ids=range(9))
def test_a_proxy_that_refuses(scheme, script):
    async def main():
        rest_module.TIMEOUT_S = 0.5
        async with serving(script) as proxy:
            reason = await refused("https://exchange.invalid", proxy=f"{scheme}://me:secret@127.0.0.1:{proxy}")
            assert "secret" not in reason
    run(main())


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks4"])
def test_a_proxy_that_is_not_there(scheme):
    port = free_port()
    reason = run(refused("https://exchange.invalid", proxy=f"{scheme}://me:secret@127.0.0.1:{port}"))
    assert re.search(rf"127\.0\.0\.1[:', ]+{port}", reason)
    assert "secret" not in reason


def test_a_local_address():
    peers = []

    async def script(reader, writer):
        peers.append(writer.get_extra_info("peername")[0])
        await answering(good())(reader, writer)

    async def main():
        async with serving(script) as port:
            async with asking(port, local_address="127.0.0.9") as it:
                await it.fetch(request(), Priority.RESYNC)
            await refused(port, local_address="192.0.2.1")
    run(main())
    assert peers == ["127.0.0.9"]
