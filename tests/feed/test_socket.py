"""What a hostile or broken server does to a WebSocket: it is bounded, told once, and ends that socket alone."""
import asyncio
import socket
import ssl
import zlib
from contextlib import asynccontextmanager

import pytest

from onetape.clock import MILLISECOND, SECOND
from onetape.feed.socket import Ends, Unreached, Way, connect
from tests.feed.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    at_most,
    connect_proxy,
    frame,
    hear,
    run,
    serving,
    shake,
    socks5,
    until,
)

MAX = 1_000_000  # bytes of a message that the client takes
MEBIBYTE = 1 << 20
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"
DEFLATE_ALONE = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"


class Ear:
    """Notes all that it is told, in its order."""

    def __init__(self, boom=None):
        self.heard, self.boom = [], boom
        self.ends = Ends(
            opened=self._note("opened"), frame=self._note("frame"), pinged=self._note("pinged"),
            closed=self._note("closed"), failed=self._note("failed"),
        )

    def _note(self, what):
        def note(*told):
            self.heard.append((what, *told))
            if what == self.boom:
                raise ZeroDivisionError(what)
        return note

    @property
    def frames(self):
        return [it[1] for it in self.heard if it[0] == "frame"]

    @property
    def order(self):
        return [it[0] for it in self.heard]

    async def closed(self):
        """Reason and code."""
        await until(lambda: "closed" in self.order)
        for _ in range(10):  # turns of the loop: nothing may follow
            await asyncio.sleep(0)
        assert self.order.count("closed") == 1
        assert self.order[-1] == "closed"
        return self.heard[-1][1:]


def clock():
    return 42


async def opened(port, ear, *, seconds=10.0, max_bytes=MAX, scheme="ws", path="/", host="127.0.0.1", **way):
    return await connect(
        f"{scheme}://{host}:{port}{path}", ear.ends, way=Way(**way), timeout_ns=round(seconds * SECOND),
        max_bytes=max_bytes, clock=clock,
    )


async def unreached(port, ear=None, **rest):
    """Why there is no socket."""
    ear = ear or Ear()
    with pytest.raises(Unreached) as raised:
        await opened(port, ear, **rest)
    assert ear.heard == []
    assert "\n" not in raised.value.reason
    assert len(raised.value.reason) < 300
    return raised.value


@asynccontextmanager
async def talking(script, extra=b"", tail=b"", boom=None, **rest):
    """A client whose server goes on with ``script`` after the handshake; gives the client's ear and socket."""
    async def whole(reader, writer):
        await shake(reader, writer, extra, tail)
        await script(reader, writer)
        await reader.read()

    ear = Ear(boom)
    async with serving(whole) as port:
        it = await opened(port, ear, **rest)
        yield ear, it
        it.close("the test is over")
        await ear.closed()


def says(*data):
    """A script: these bytes, a packet each."""
    async def script(_reader, writer):
        for it in data:
            writer.write(it)
            await writer.drain()
            await asyncio.sleep(0)  # so that they come one by one, as a rule
    return script


def answers(data):
    """A server's script: it reads the request, and answers with these bytes."""
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        await reader.read()
    return script


# --- no socket to be had --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "status", "wait", "said"), [
    (b"HTTP/1.1 403 Forbidden\r\n\r\n", 403, 0, "refuses: HTTP 403"),
    (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 17\r\nContent-Length: 3\r\n\r\nno!", 429, 17, "HTTP 429"),
    (b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 99999999999999\r\n\r\n", 429, 0, "HTTP 429"),
    (b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 999999999\r\n\r\n", 429, 3 * 86_400, "HTTP 429"),
    (b"HTTP/1.1 418 I'm a teapot\r\nRetry-After: -5\r\n\r\n", 418, 0, "HTTP 418"),
    (b"HTTP/1.1 503 Unavailable\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\n\r\n", 503, 0, "HTTP 503"),
    (b"HTTP/1.1 451 Not here\r\n\r\n", 451, 0, "HTTP 451"),
    (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, 0, "HTTP 200"),
    (b"HTTP/1.1 301 Moved\r\n\r\n", 301, 0, ""),
    (b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1/\r\n\r\n", 0, 0, "ws or wss"),
    (b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:99999/\r\n\r\n", 0, 0, ""),
    (b"HTTP/1.1 301 Moved\r\nLocation: ws://[::1/\r\n\r\n", 0, 0, ""),
    (b"HTTP/1.1 301 Moved\r\nLocation: ws://\xc3\xbc@127.0.0.1/\r\n\r\n", 0, 0, ""),
    (b"HTTP/1.1 301 Moved\r\nLocation: ws://" + b"a" * 70 + b".com/\r\n\r\n", 0, 0, ""),
    (b"HTTP/1.1 301 Moved\r\nLocation: ws://127.0.0.1:1/\r\n\r\n", 0, 0, "cannot connect"),
    (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 0, 0, "ccept"),
    (b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
     0, 0, "ccept"),
    (b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\n\r\n", 0, 0, ""),
    (b"HTTP/1.1 521 Web Server Is Down\r\n\r\n", 0, 0, "521"),
    (b"HTTP/1.0 503 Old\r\n\r\n", 0, 0, ""),
    (b"\x00\xff\xfe\r\n\r\n", 0, 0, ""),
    (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", 0, 0, ""),
    (b"HTTP/1.1 200\r\nno colon here\r\n\r\n", 0, 0, ""),
    (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n", 200, 0, ""),
    (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000, 0, 0, "header"),
    (b"HTTP/1.1 200 OK\r\nA: \xff\xfe\x00\r\n\r\n", 0, 0, ""),
], ids=lambda it: repr(it[:40]) if isinstance(it, bytes) else None)
def test_a_handshake_that_is_refused(answer, status, wait, said):
    async def main():
        async with serving(answers(answer)) as port:
            error = await unreached(port)
            assert said in error.reason
            assert error.retry_after_ns == wait * SECOND
            if status:
                assert error.status == status
            return error
    run(main())


def test_redirects_come_to_an_end():
    asked = []

    async def again(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /again\r\n\r\n")
        await writer.drain()

    async def main():
        async with serving(again) as port:
            error = await unreached(port)
            assert error.status == 302
        assert len(asked) <= 3
    run(main())


def test_a_server_that_hangs_up_at_once():
    async def main():
        async def script(_reader, _writer):
            pass
        async with serving(script) as port:
            await unreached(port)
    run(main())


def test_a_server_that_hangs_up_after_the_request():
    async def main():
        async def script(reader, _writer):
            await reader.readuntil(b"\r\n\r\n")
        async with serving(script) as port:
            await unreached(port)
    run(main())


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def test_nobody_listens():
    error = run(unreached(free_port()))
    assert error.reason.startswith("cannot connect to 127.0.0.1:")


def test_a_name_that_nobody_knows():
    error = run(unreached(80, host="nobody.invalid"))
    assert error.reason.startswith("DNS: cannot resolve nobody.invalid: ")


def test_a_name_that_is_none():
    run(unreached(80, host="a" * 70 + ".com"))


def test_tls_to_a_plain_port():
    async def main():
        async def script(reader, writer):
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
        async with serving(script) as port:
            error = await unreached(port, scheme="wss", tls=ssl.create_default_context())
            assert "TLS" in error.reason
    run(main())


def test_tls_that_never_shakes_hands():
    async def main():
        async def script(reader, _writer):
            await reader.read()
        async with serving(script) as port:
            error = await unreached(port, scheme="wss", seconds=0.2)
            assert "0.2 s" in error.reason
    run(main())


def endless(first, again):
    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first)
        while True:
            writer.write(again)
            await writer.drain()
    return script


@pytest.mark.parametrize("again", [b"X-More: of the same\r\n" * 100, b"x" * 65_536])
def test_endless_headers(again):
    async def main():
        async with serving(endless(b"HTTP/1.1 101 Switching Protocols\r\n", again)) as port:
            with at_most(4 * MEBIBYTE):
                error = await unreached(port)
            assert "header" in error.reason
    run(main())


def test_a_handshake_byte_by_byte():
    """Slow loris: the whole has its time, however busy it looks."""
    gone = asyncio.Event()

    async def script(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        try:
            for byte in b"HTTP/1.1 101 Switching Protocols\r\n" + b"X" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            gone.set()

    async def main():
        async with serving(script) as port:
            error = await unreached(port, seconds=0.3)
            assert error.reason == f"127.0.0.1:{port} did not answer within 0.3 s"
            await gone.wait()  # and nothing of it is left
    run(main())


def test_giving_up_leaves_nothing_behind():
    gone, asked = asyncio.Event(), asyncio.Event()

    async def script(reader, _writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()

    async def main():
        async with serving(script) as port:
            task = asyncio.create_task(opened(port, Ear(), seconds=0.5))
            await asked.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await gone.wait()
    run(main())


# --- what passes ----------------------------------------------------------------------------------------------------


def test_frames_that_come_with_the_handshake_are_heard_after_opened():
    async def main():
        async with talking(says(), tail=frame(TEXT, b"one") + frame(TEXT, b"two")) as (ear, it):
            await until(lambda: len(ear.frames) == 2)
            assert ear.order == ["opened", "frame", "frame"]
            assert ear.heard == [("opened", it), ("frame", b"one", 42), ("frame", b"two", 42)]
    run(main())


def test_a_frame_and_the_end_in_one_packet():
    async def main():
        async with talking(says(), tail=frame(TEXT, b"one") + frame(CLOSE, b"\x03\xe9bye")) as (ear, _):
            assert await ear.closed() == ("closed by the venue: 1001 bye", 1001)
            assert ear.order == ["opened", "frame", "closed"]
    run(main())


def test_what_is_sent_arrives_and_is_counted():
    heard = []

    async def script(reader, _writer):
        heard.append(await hear(reader))
        heard.append(await hear(reader))

    async def main():
        async with talking(script) as (_, it):
            it.send(b'{"a":1}')
            it.send(b"x" * 70_000)
            await until(lambda: len(heard) == 2)
            assert it.sent == 2
    run(main())
    assert heard == [(TEXT, b'{"a":1}'), (TEXT, b"x" * 70_000)]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, MAX])
def test_messages_of_any_size_up_to_the_bound(size):
    data = b"x" * size

    async def main():
        half = size // 2
        parts = frame(TEXT, data[:half], fin=False), frame(PING, b"!"), frame(CONTINUATION, data[half:])
        async with talking(says(frame(TEXT, data), frame(BINARY, data), *parts)) as (ear, _):
            await until(lambda: len(ear.frames) == 3)
            assert ear.frames == [data] * 3
            assert ear.order == ["opened", "frame", "frame", "pinged", "frame"]
    run(main())


def test_bytes_that_are_no_utf8_reach_the_session_as_they_are():
    async def main():
        parts = frame(TEXT, b"\xe2\x82", fin=False), frame(CONTINUATION, b"\xff")
        async with talking(says(frame(TEXT, b"\xff\xfe{"), *parts, frame(TEXT, b"{}"))) as (ear, _):
            await until(lambda: len(ear.frames) == 3)
            assert ear.frames == [b"\xff\xfe{", b"\xe2\x82\xff", b"{}"]
    run(main())


@pytest.mark.parametrize("payload", [b"", b"42", b"\x00\xff" * 62])
def test_a_ping_is_answered_with_what_it_carried_and_told(payload):
    heard = []

    async def script(reader, writer):
        writer.write(frame(PING, payload))
        heard.append(await hear(reader))
        writer.write(frame(PONG, b"unasked"))

    async def main():
        async with talking(script) as (ear, _):
            await until(lambda: len(ear.heard) == 3)
            assert ear.heard[1:] == [("pinged", 42), ("pinged", 42)]
    run(main())
    assert heard == [(PONG, payload)]


# --- how it ends ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("payload", "reason", "code"), [
    (b"\x03\xe8", "closed by the venue: 1000", 1000),
    (b"\x03\xe9going away", "closed by the venue: 1001 going away", 1001),
    (b"\x03\xf0Too many requests", "closed by the venue: 1008 Too many requests", 1008),
    (b"\x03\xf4restart", "closed by the venue: 1012 restart", 1012),
    (b"\x0f\xa0own", "closed by the venue: 4000 own", 4000),
    (b"\x0f\xa7" + "Übergröße".encode(), "closed by the venue: 4007 Übergröße", 4007),
    (b"\xfa\xc8beyond", "closed by the venue: 64200 beyond", 64_200),
    (b"", "closed by the venue: no code", 0),
])
def test_codes_and_reasons_are_told(payload, reason, code):
    answers = []

    async def script(reader, writer):
        writer.write(frame(CLOSE, payload))
        answers.append(await hear(reader))

    async def main():
        async with talking(script) as (ear, _):
            assert await ear.closed() == (reason, code)
    run(main())
    assert [kind for kind, _ in answers] == [CLOSE]


@pytest.mark.parametrize("payload", [b"\x03", b"\x00\x01", b"\x03\xe8\xff\xfe", b"\x03\xed"])
def test_a_close_frame_that_makes_no_sense_ends_it_all_the_same(payload):
    async def main():
        async with talking(says(frame(CLOSE, payload))) as (ear, _):
            await ear.closed()
    run(main())


def test_without_a_word():
    """What others call 1006."""
    async def main():
        async def script(_reader, writer):
            writer.write(frame(TEXT, b"one"))
            await writer.drain()
            writer.transport.abort()
        async with talking(script) as (ear, _):
            assert await ear.closed() == ("the connection was lost", 0)
    run(main())


def test_in_the_middle_of_a_frame():
    async def main():
        async def script(_reader, writer):
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two", size=1_000))
            await writer.drain()
            writer.close()
        async with talking(script) as (ear, _):
            assert await ear.closed() == ("the connection was lost", 0)
            assert ear.frames == [b"one"]
    run(main())


def test_what_we_close_is_told_with_our_reason_and_says_goodbye():
    heard = []

    async def script(reader, _writer):
        heard.append(await hear(reader))

    async def main():
        async with talking(script) as (ear, it):
            it.close("rotated")
            it.close("again")
            it.send(b"too late")
            assert await ear.closed() == ("rotated", 0)
            it.close("long gone")
            it.send(b"too late")
            await until(lambda: heard)
    run(main())
    assert heard == [(CLOSE, b"\x03\xe8")]


def test_nothing_is_heard_after_we_have_closed():
    async def main():
        ear = Ear()

        def first(data, at):
            ear.heard.append(("frame", data, at))
            it.close("enough")

        async def script(reader, writer):
            await shake(reader, writer)
            await hear(reader)
            writer.write(frame(TEXT, b"one") + frame(TEXT, b"two"))
            await reader.read()

        async with serving(script) as port:
            ends = Ends(ear.ends.opened, first, ear.ends.pinged, ear.ends.closed, ear.ends.failed)
            it = await connect(
                f"ws://127.0.0.1:{port}/", ends, way=Way(), timeout_ns=SECOND, max_bytes=MAX, clock=clock)
            it.send(b"go")
            assert await ear.closed() == ("enough", 0)
        assert ear.frames == [b"one"]
    run(main())


@pytest.mark.parametrize("boom", ["opened", "frame", "pinged", "closed"])
def test_what_a_callback_raises_is_told(boom):
    async def main():
        everything = frame(TEXT, b"one") + frame(PING) + frame(CLOSE, b"\x03\xe8")
        ear = Ear(boom)

        async def script(reader, writer):
            await shake(reader, writer, b"", everything)
            await reader.read()

        async with serving(script) as port:
            await opened(port, ear)
            await until(lambda: "failed" in ear.order)
            await until(lambda: "closed" in ear.order)
        (error,) = [it[1] for it in ear.heard if it[0] == "failed"]
        assert isinstance(error, ZeroDivisionError)
        assert str(error) == boom
    run(main())


# --- what is against the rules --------------------------------------------------------------------------------------


async def refused(*data, extra=b"", good=1, **rest):
    """The one frame before is heard, then it ends; gives the reason, and the code that the server is told."""
    codes = []

    async def script(reader, writer):
        for it in data:
            writer.write(it)
            await writer.drain()
            await asyncio.sleep(0)
        kind, payload = await hear(reader)
        assert kind == CLOSE
        codes.append(int.from_bytes(payload[:2], "big"))

    async with talking(script, extra, frame(TEXT, b"good") * good, **rest) as (ear, _):
        reason, code = await ear.closed()
        assert code == 0
        assert ear.frames == [b"good"] * good
        await until(lambda: codes)
        return reason, codes[0]


@pytest.mark.parametrize("bad", [
    frame(TEXT, b"masked", mask=b"\1\2\3\4"),
    frame(3, b"reserved opcode"),
    frame(11, b"reserved opcode"),
    frame(TEXT, b"reserved bit", reserved=1),
    frame(TEXT, b"reserved bit", reserved=2),
    frame(TEXT, b"not agreed upon", reserved=4),
    frame(BINARY, b"reserved bit", reserved=3),
    frame(PING, b"in parts", fin=False),
    frame(PING, b"x" * 126),
    frame(CONTINUATION, b"of nothing"),
    frame(CONTINUATION, b"of nothing", fin=False),
    frame(TEXT, b"begun", fin=False) + frame(TEXT, b"another"),
    frame(TEXT, b"begun", fin=False) + frame(BINARY, b"another", fin=False),
    b"\x81\x7e\x00\x05short",
    b"\x81\x7f\x80" + bytes(7),
], ids=range(15))
def test_frames_against_the_rules_end_it(bad):
    """Nothing that follows them is believed."""
    reason, code = run(refused(bad + frame(TEXT, b"after"), frame(TEXT, b"later")))
    assert reason != "the connection was lost"
    assert code == 1002


def test_a_giant_frame_is_refused_by_what_it_announces():
    async def script(_reader, writer):
        writer.write(frame(TEXT, size=1 << 40))
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async def main():
        with at_most(64 * MEBIBYTE):
            async with talking(script) as (ear, _):
                reason, _ = await ear.closed()
        assert str(1 << 40) in reason
        assert ear.frames == []
    run(main())


def test_a_giant_frame_that_comes_whole_is_not_heard():
    big = frame(TEXT, b"x" * (MAX + 1))
    reason, code = run(refused(big[:1_000], big[1_000:] + frame(TEXT, b"after")))
    assert str(MAX + 1) in reason
    assert code == 1009


def test_a_giant_frame_in_one_packet_is_not_heard():
    reason, code = run(refused(frame(TEXT, b"x" * 1_001) + frame(TEXT, b"after"), max_bytes=1_000))
    assert "1001" in reason
    assert code == 1009


def test_a_message_that_grows_in_parts():
    async def script(_reader, writer):
        writer.write(frame(TEXT, b"x" * 65_536, fin=False))
        while True:
            writer.write(frame(CONTINUATION, b"x" * 65_536, fin=False))
            await writer.drain()

    async def main():
        with at_most(32 * MEBIBYTE):
            async with talking(script) as (ear, _):
                assert await ear.closed() == (f"a message of more than {MAX} bytes, or 65536 parts", 0)
                assert ear.frames == []
    run(main())


@pytest.mark.parametrize("part", [b"", b"xy"])
def test_endless_small_parts(part):
    """They cost more than their bytes."""
    async def script(_reader, writer):
        writer.write(frame(TEXT, b"x", fin=False))
        while True:
            writer.write(frame(CONTINUATION, part, fin=False) * 20_000)
            await writer.drain()

    async def main():
        with at_most(32 * MEBIBYTE):
            async with talking(script) as (ear, _):
                reason, _ = await ear.closed()
                assert "more than" in reason
                assert ear.frames == []
    run(main())


def test_endless_pings_of_one_who_does_not_read_the_answers():
    async def script(_reader, writer):
        while True:
            writer.write(frame(PING, b"x" * 125) * 1_000)
            await writer.drain()

    async def main():
        ear = Ear()
        async with serving(lambda reader, writer: deaf(reader, writer, script)) as port:
            with at_most(16 * MEBIBYTE):
                await opened(port, ear)
                await until(lambda: "closed" in ear.order)
        assert ear.heard[-1] == ("closed", "it pings, and does not read the answers", 0)
    run(main())


async def deaf(reader, writer, script):
    await shake(reader, writer)
    writer.transport.pause_reading()
    await script(reader, writer)


def test_nothing_is_heard_after_a_message_that_was_too_big():
    parts = frame(TEXT, b"x" * MAX, fin=False) + frame(CONTINUATION, b"x") + frame(TEXT, b"after")
    reason, code = run(refused(parts))
    assert "more than" in reason
    assert code == 1009


# --- compression ----------------------------------------------------------------------------------------------------


class Deflate:
    """As a server compresses."""

    def __init__(self, keep=True, level=6):
        self.keep, self.level, self._stream = keep, level, zlib.compressobj(level, wbits=-15)

    def __call__(self, data):
        if not self.keep:
            self._stream = zlib.compressobj(self.level, wbits=-15)
        return (self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


MESSAGES = [b'{"a":1}', b"", b'{"a":1}', b"x" * 50_000, b'{"a":1}', bytes(range(256)) * 100]


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize(("extra", "keep"), [(DEFLATE, True), (DEFLATE_ALONE, False), (DEFLATE, False)])
def test_compressed_messages(extra, keep, level):
    async def main():
        deflate = Deflate(keep, level)
        frames = []
        for at, message in enumerate(MESSAGES):
            data = deflate(message)
            if at % 2:
                frames.append(frame(TEXT, data[:3], fin=False, reserved=4) + frame(CONTINUATION, data[3:]))
            else:
                frames.append(frame(TEXT, data, reserved=4))
            frames.append(frame(TEXT, b"plain"))  # which is allowed between them
        async with talking(says(*frames), extra, deflate=True) as (ear, _):
            await until(lambda: len(ear.frames) == len(frames))
            assert ear.frames == [it for message in MESSAGES for it in (message, b"plain")]
    run(main())


def test_compression_is_asked_for_only_where_it_is_wanted():
    async def main(wanted):
        async def script(reader, writer):
            requests.append(await shake(reader, writer))
            await reader.read()
        async with serving(script) as port:
            ear = Ear()
            it = await opened(port, ear, deflate=wanted)
            it.close("over")
            await ear.closed()

    requests = []
    run(main(wanted=True))
    run(main(wanted=False))
    assert b"permessage-deflate" in requests[0]
    assert b"permessage-deflate" not in requests[1]


def test_messages_that_end_their_stream():
    """RFC 7692, 7.2.3.4: a final block is allowed, and says nothing about the messages after it."""
    def final(data):
        stream = zlib.compressobj(wbits=-15)
        return stream.compress(data) + stream.flush() + b"\0"

    frames = [frame(TEXT, final(it), reserved=4) for it in MESSAGES]

    async def main():
        async with talking(says(*frames), DEFLATE, deflate=True) as (ear, _):
            await until(lambda: len(ear.frames) == len(MESSAGES))
            assert ear.frames == MESSAGES
    run(main())


def bomb(size):
    stream = zlib.compressobj(9, wbits=-15)
    parts = [stream.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)]
    return b"".join(parts) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_zip_bomb(wanted):
    data = bomb(128 * MEBIBYTE)
    assert len(data) < MAX
    with at_most(24 * MEBIBYTE):
        reason, code = run(refused(
            frame(TEXT, data, reserved=4) + frame(TEXT, b"after"), extra=DEFLATE, deflate=wanted, good=wanted,
        )) if wanted else (run(bomb_unasked(data)), 0)
    assert code == (1009 if wanted else 0)
    assert "decompresses to more than" in reason if wanted else reason


async def bomb_unasked(data):
    """A server that compresses though nobody asked for it: told at the handshake, or at its first such frame."""
    async def script(reader, writer):
        await shake(reader, writer, DEFLATE, frame(TEXT, data, reserved=4))
        await reader.read()

    ear = Ear()
    async with serving(script) as port:
        await opened(port, ear)
        reason, _ = await ear.closed()
    assert ear.frames == []
    return reason


def test_a_bomb_of_exactly_the_bound_passes():
    async def main():
        async with talking(
            says(frame(TEXT, bomb(MEBIBYTE), reserved=4)), DEFLATE, deflate=True, max_bytes=MEBIBYTE,
        ) as (ear, _):
            await until(lambda: ear.frames)
            assert ear.frames == [bytes(MEBIBYTE)]
    run(main())


@pytest.mark.parametrize("bad", [
    frame(TEXT, b"\xff\xff\xff\xff", reserved=4),
    frame(TEXT, b"\xff", fin=False, reserved=4) + frame(CONTINUATION, b"\xff\xff\xff"),
    frame(TEXT, Deflate()(b"begun")[:1], fin=False, reserved=4) + frame(CONTINUATION, b"rest", reserved=4),
])
def test_compression_that_cannot_be_undone(bad):
    reason, code = run(refused(bad + frame(TEXT, b"after"), extra=DEFLATE, deflate=True))
    assert reason != "the connection was lost"
    assert code == 1002


# --- ways out -------------------------------------------------------------------------------------------------------


async def hello(reader, writer):
    await shake(reader, writer, b"", frame(TEXT, b"hello"))
    await reader.read()


async def through(proxy, port, host="127.0.0.1", **rest):
    """The client's ear, having heard a word of the server."""
    ear = Ear()
    it = await opened(port, ear, proxy=proxy, host=host, **rest)
    await until(lambda: ear.frames)
    it.close("over")
    await ear.closed()
    assert ear.frames == [b"hello"]


def test_a_proxy_by_connect():
    asked = []

    async def main():
        async with serving(hello) as port, serving(connect_proxy(port, asked)) as proxy:
            await through(f"http://127.0.0.1:{proxy}", port)
            await through(f"http://me:se%20cret@127.0.0.1:{proxy}", 443, host="exchange.invalid")
    run(main())
    assert asked[1].startswith(b"CONNECT exchange.invalid:443 HTTP/1.1\r\n")  # the proxy resolves
    assert b"Proxy-Authorization: Basic bWU6c2UgY3JldA==" in asked[1]
    assert b"Authorization" not in asked[0]


def test_a_proxy_by_socks():
    asked = []

    async def main():
        async with serving(hello) as port, serving(socks5(port, asked)) as proxy:
            await through(f"socks5://127.0.0.1:{proxy}", port)
            await through(f"socks5://me:secret@127.0.0.1:{proxy}", 443, host="exchange.invalid")
    run(main())
    assert asked[-2:] == [(b"me", b"secret"), ("exchange.invalid", 443)]


@pytest.mark.parametrize(("scheme", "script"), [
    ("http", answers(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")),
    ("http", answers(b"garbage\r\n\r\n")),
    ("http", answers(b"HTTP/1.1 xyz\r\n\r\n")),
    ("http", endless(b"HTTP/1.1 200 OK\r\n", b"X-More: of the same\r\n" * 100)),
    ("http", endless(b"", b"x" * 65_536)),
    ("socks5", socks5(0, [], reply=2)),
    ("socks5", says(b"garbage garbage")),
    ("socks5", says(b"\5\xff")),
    ("socks5", says()),
], ids=range(9))
def test_a_proxy_that_refuses(scheme, script):
    async def main():
        async with serving(script) as proxy:
            with at_most(8 * MEBIBYTE):
                error = await unreached(443, host="exchange.invalid", proxy=f"{scheme}://me:secret@127.0.0.1:{proxy}")
        assert f"{scheme}://127.0.0.1:{proxy}" in error.reason
        assert "secret" not in error.reason
    run(main())


def test_what_a_proxy_refuses_is_told():
    async def main():
        async with serving(answers(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")) as proxy:
            return await unreached(443, proxy=f"http://127.0.0.1:{proxy}")
    assert "407" in run(main()).reason


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks4"])
def test_a_proxy_that_hangs(scheme):
    async def main():
        async def script(reader, _writer):
            await reader.read()
        async with serving(script) as proxy:
            error = await unreached(443, host="127.0.0.1", proxy=f"{scheme}://127.0.0.1:{proxy}", seconds=0.3)
            assert "0.3 s" in error.reason
    run(main())


@pytest.mark.parametrize("scheme", ["http", "https", "socks5", "socks4"])
def test_a_proxy_that_is_not_there(scheme):
    port = free_port()
    error = run(unreached(443, proxy=f"{scheme}://me:secret@127.0.0.1:{port}"))
    assert f"{scheme}://127.0.0.1:{port}" in error.reason
    assert "secret" not in error.reason


@pytest.mark.parametrize("proxy", ["http://nobody.invalid:8080", "socks5://nobody.invalid:1080"])
def test_a_proxy_whose_name_nobody_knows(proxy):
    error = run(unreached(443, proxy=proxy))
    assert "proxy" in error.reason


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1", "socks5://127.0.0.1:no", "http://127.0.0.1:99999", "http://:80"])
def test_a_proxy_address_that_is_none(proxy):
    error = run(unreached(443, proxy=proxy, seconds=1.0))
    assert "127.0.0.1:443" in error.reason


def test_a_local_address():
    peers = []

    async def script(reader, writer):
        peers.append(writer.get_extra_info("peername")[0])
        await hello(reader, writer)

    async def main():
        async with serving(script) as port:
            await through(None, port, local_address="127.0.0.9")
            asked = []
            async with serving(socks5(port, asked)) as proxy:
                await through(f"socks5://127.0.0.1:{proxy}", port, local_address="127.0.0.9")
            error = await unreached(port, local_address="192.0.2.1")
            assert "192.0.2.1" in error.reason
    run(main())
    assert peers[0] == "127.0.0.9"


def test_the_wait_is_the_whole_of_it():
    """DNS, TCP, proxy and handshake together: each part for itself may take less."""
    async def main():
        async def slow(reader, writer):
            await asyncio.sleep(0.2)
            await connect_proxy(port, [])(reader, writer)

        async def script(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.2)
            writer.write(b"HTTP/1.1 101 ")
            await reader.read()

        async with serving(script) as port, serving(slow) as proxy:
            await unreached(port, proxy=f"http://127.0.0.1:{proxy}", seconds=300 * MILLISECOND / SECOND)
    run(main())
