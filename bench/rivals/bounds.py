"""Lower bounds beside the race: the least that any handler of these frames has to do.

    python -m rivals.bounds envelope    msgspec decodes each frame to its fields, levels left raw
    python -m rivals.bounds scan        each byte of the frames is looked at once, joined: what memory gives
    python -m rivals.bounds PORT FILE   over loopback: picows on uvloop, of each frame nothing but its update id is read
"""
import sys
from array import array
from collections import Counter

import uvloop
from msgspec import Raw, Struct, json
from picows import WSFrame, WSListener, WSTransport, ws_connect

from rivals.ear import BASE, Ear
from rivals.loop import Begun, Levels, run


class _Depth(Struct, gc=False):
    E: int
    s: str
    U: int
    u: int
    b: Raw
    a: Raw


class _Trade(Struct, gc=False):
    s: str
    p: str
    q: str
    T: int
    m: bool
    t: int = 0
    a: int = 0


class _Ticker(Struct, gc=False):
    u: int
    s: str
    b: str
    B: str
    a: str
    A: str


class _OfDepth(Struct, gc=False):
    stream: str
    data: _Depth


class _OfTrade(Struct, gc=False):
    stream: str
    data: _Trade


class _OfTicker(Struct, gc=False):
    stream: str
    data: _Ticker


DECODERS = {
    ord("d"): json.Decoder(_OfDepth).decode, ord("b"): json.Decoder(_OfTicker).decode,
    ord("t"): json.Decoder(_OfTrade).decode, ord("a"): json.Decoder(_OfTrade).decode,
}
"""By the first letter of the channel."""


def no_book(_depth: int) -> tuple[Levels, Levels]:
    return [], []


def envelope(symbol: str, _snapshot: bytes, _calls: Counter, _now: int) -> Begun:
    at = len(f'{{"stream":"{symbol}@')

    def feed(frames: list[bytes], _times: array) -> None:
        if len({frame[at] for frame in frames}) == 1:
            decode = DECODERS[frames[0][at]]
            for frame in frames:
                decode(frame)
        else:
            for frame in frames:
                DECODERS[frame[at]](frame)

    return feed, no_book


def scan(_symbol: str, _snapshot: bytes, _calls: Counter, _now: int) -> Begun:
    def feed(frames: list[bytes], _times: array) -> None:
        frames[0].find(0)  # there is none

    return feed, no_book


class Reader(WSListener):
    def __init__(self, ear: Ear) -> None:
        self.ear = ear

    def on_ws_frame(self, _transport: WSTransport, frame: WSFrame) -> None:
        data = frame.get_payload_as_bytes()
        at = data.index(b'"u":') + 4
        self.ear.hear(int(data[at:at + len(str(BASE))]))


async def read(port: str, ear: Ear) -> None:
    transport, _ = await ws_connect(lambda: Reader(ear), f"ws://127.0.0.1:{port}/stream")
    await transport.wait_disconnected()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["envelope"]:
            run(envelope)
        case ["scan"]:
            run(scan, lambda frames: [b"".join(frames)])
        case [port, path]:
            uvloop.run(read(port, Ear(path)))
