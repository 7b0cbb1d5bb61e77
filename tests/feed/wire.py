"""Servers on loopback that say what a test tells them to, byte for byte; and the loop in which they do."""
import asyncio
import gc
import re
import struct
import tracemalloc
from base64 import b64encode
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha1

import uvloop

WITHIN = 15.0  # seconds, in which every test is over
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def run(coroutine):
    """In the loop that OneTape runs in; what is raised where nobody sees it fails the test."""
    unseen = []

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        async with asyncio.timeout(WITHIN):
            result = await coroutine
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        return result

    result = uvloop.run(main())
    gc.collect()
    assert unseen == []
    return result


@asynccontextmanager
async def serving(script, **rest):
    """Runs ``script(reader, writer)`` for each connection; gives the port. What a script raises, this raises."""
    tasks, broken = set(), []

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await script(reader, writer)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001 - raised at the end
            broken.append(error)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20, **rest)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
    for error in broken:
        raise error


async def until(condition):
    """Waits for what no event tells."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


@contextmanager
def at_most(peak):
    """Bytes of memory that are held meanwhile, beyond what was held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield
        _, most = tracemalloc.get_traced_memory()
        assert most - before < peak
    finally:
        tracemalloc.stop()


# --- WebSocket ------------------------------------------------------------------------------------------------------


async def shake(reader, writer, extra=b"", tail=b""):
    """The server's part of the handshake; gives the client's. ``tail`` leaves in the same packet."""
    request = await reader.readuntil(b"\r\n\r\n")
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)[1]
    accept = b64encode(sha1(key + GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + extra + b"\r\n" + tail
    )
    return request


def frame(kind, payload=b"", *, fin=True, reserved=0, mask=b"", size=None):
    """``size``: what is announced, if it is not the truth."""
    size = len(payload) if size is None else size
    first, masked = fin << 7 | reserved << 4 | kind, 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, masked | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, masked | 126, size)
    else:
        head = struct.pack("!BBQ", first, masked | 127, size)
    if mask:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


async def hear(reader):
    """One frame of a client's: kind and payload."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    assert second & 0x80, "a client masks"
    mask = await reader.readexactly(4)
    payload = await reader.readexactly(size)
    return first & 0xF, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


# --- proxies --------------------------------------------------------------------------------------------------------


async def pipe(reader, writer, port):
    """Both ways, until one of them ends."""
    other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source, sink):
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.transport.abort()

    try:
        await asyncio.gather(copy(reader, other_writer), copy(other_reader, writer))
    finally:
        other_writer.transport.abort()


def socks5(port, asked, reply=0):
    """A proxy that leads wherever it is asked to ``port`` on loopback, and notes what it was asked."""
    async def script(reader, writer):
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        method = 2 if 2 in methods else 0
        writer.write(bytes([5, method]))
        if method == 2:
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            asked.append((user, password))
            writer.write(b"\1\0")
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await reader.readexactly(4)))
        asked.append((host, int.from_bytes(await reader.readexactly(2), "big")))
        writer.write(bytes([5, reply, 0, 1, 127, 0, 0, 1, 0, 0]))
        if reply:
            await writer.drain()
        else:
            await pipe(reader, writer, port)

    return script


def connect_proxy(port, asked):
    """As ``socks5``, of the kind that is asked by HTTP CONNECT."""
    async def script(reader, writer):
        request = await reader.readuntil(b"\r\n\r\n")
        asked.append(request)
        if not request.startswith(b"CONNECT "):  # plain HTTP is asked for as it is, with the whole address
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nproxy")
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await pipe(reader, writer, port)

    return script
