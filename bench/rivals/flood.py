"""The venue over loopback: depth frames on one socket, as fast as is asked for, and the REST that goes with them.

    python -m rivals.flood FILE

Orders and answers are lines of JSON on stdin and stdout: so many seconds at a rate (frames/s; 0: as fast as they are
taken) make it say the numbers of the first and the last frame. Just before each write the time is put into the file,
as an Ear does. Its own WebSocket, for it sends to one client and hardly listens; plain, without TLS.
"""
import asyncio
import base64
import hashlib
import json
import random
import sys
import time
from itertools import cycle, islice
from urllib.parse import parse_qs, urlsplit

from frames import MIDDLE, rest_book, walk
from rivals.ear import BASE, UPDATES, Ear

MILLISECOND = 1_000_000
VARIANTS = 5_000  # frames that differ; their walk ends where it began
BURST = 50  # frames of a write, when as fast as they are taken
FULL = 256 * 1024  # bytes that wait until the client reads
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
FRAME = (
    '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":%%d,"s":"BTCUSDT","U":%%d,"u":%%d,'
    '"b":[%s],"a":[%s]}}'
)
LISTED = {"timezone": "UTC", "serverTime": 0, "rateLimits": [], "exchangeFilters": [], "symbols": [{
    "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "permissions": ["SPOT"],
    "isSpotTradingAllowed": True, "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.00", "stepSize": "0.00001"},
    ],
}]}


def packet(opcode: int, payload: bytes) -> bytes:
    """Of a server: not masked."""
    size = len(payload)
    return bytes((0x80 | opcode, size)) + payload if size < 126 else bytes((0x80 | opcode, 126)) \
        + size.to_bytes(2, "big") + payload


class Flood:
    def __init__(self, sent: Ear) -> None:
        self.sent, self.number, self.middle = sent, 0, MIDDLE
        self.writer: asyncio.StreamWriter | None = None
        templates = []
        for middle, bids, asks in walk(random.Random(3), VARIANTS):
            text = (FRAME % (bids, asks)).encode()
            head = packet(TEXT, text % (10**12, BASE, BASE))[:4]  # ids have as many digits as these
            templates.append((middle, head.replace(b"%", b"%%") + text))
        self._templates = cycle(templates)

    async def obey(self) -> None:
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order, first = json.loads(line), self.number + 1
            if self.writer is not None:
                await (self.pace if order["rate"] else self.flood)(**order)
            say({"first": first, "last": self.number})

    async def pace(self, rate: int, seconds: float) -> None:
        """What is due within a millisecond is written at once."""
        began = time.monotonic_ns()
        for tick in range(1, int(seconds * 1_000) + 1):
            burst = self.burst(rate // 1_000)
            time.sleep(max(began + tick * MILLISECOND - time.monotonic_ns(), 0) / 1e9)  # noqa: ASYNC251 - exactly
            self.write(burst, rate // 1_000)
            await asyncio.sleep(0)

    async def flood(self, rate: int, seconds: float) -> None:
        until, transport = time.monotonic() + seconds, self.writer.transport
        while time.monotonic() < until and self.number + BURST < UPDATES:
            if transport.get_write_buffer_size() < FULL:
                self.write(self.burst(BURST), BURST)
            await asyncio.sleep(0)

    def burst(self, size: int) -> bytes:
        now, at, out = time.time_ns() // MILLISECOND, BASE + self.number, []
        for middle, text in islice(self._templates, size):
            self.middle, at = middle, at + 1
            out.append(text % (now, at, at))
        return b"".join(out)

    def write(self, burst: bytes, size: int) -> None:
        now, times = time.monotonic_ns(), self.sent.times
        for at in range(self.number + 1, self.number + size + 1):
            times[at] = now
        self.number += size
        if self.writer is not None:  # else it has just gone
            self.writer.write(burst)

    # --- what clients ask ---------------------------------------------------------------------------------------------

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                fields = {name.lower(): value for name, _, value in (it.partition(": ") for it in head.split("\r\n"))}
                if "sec-websocket-key" in fields:
                    return await self.listen(reader, writer, fields["sec-websocket-key"])
                body = self.answer(head.split()[1])
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                             % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, url: str) -> bytes:
        match urlsplit(url).path.rpartition("/")[2]:
            case "depth":
                return rest_book(self.middle, BASE + self.number, int(parse_qs(urlsplit(url).query)["limit"][0]))
            case "time":
                return b'{"serverTime":%d}' % (time.time_ns() // MILLISECOND)
            case _:
                return json.dumps(LISTED).encode()

    async def listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        proof = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: " + base64.b64encode(proof) + b"\r\n\r\n")
        self.writer = writer
        try:
            while True:
                first, size = await reader.readexactly(2)
                size &= 0x7F
                if size == 126:
                    size = int.from_bytes(await reader.readexactly(2), "big")
                mask, payload = await reader.readexactly(4), await reader.readexactly(size)
                payload = bytes(it ^ mask[at % 4] for at, it in enumerate(payload))
                if first & 0xF == TEXT:
                    writer.write(packet(TEXT, b'{"result":null,"id":%d}' % json.loads(payload)["id"]))
                elif first & 0xF == PING:
                    writer.write(packet(PONG, payload))
                elif first & 0xF == CLOSE:
                    return
        finally:
            self.writer = None


def say(it: dict) -> None:
    print(json.dumps(it), flush=True)


async def main() -> None:
    flood = Flood(Ear(sys.argv[1]))
    server = await asyncio.start_server(flood.accept, "127.0.0.1", 0)
    say({"port": server.sockets[0].getsockname()[1]})
    await flood.obey()


if __name__ == "__main__":
    asyncio.run(main())
