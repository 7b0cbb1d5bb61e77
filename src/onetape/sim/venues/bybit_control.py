"""What clients say to the simulated Bybit over a WebSocket, and its answers to it (section 3)."""
from random import Random

import msgspec
from msgspec import Struct, json

_LETTERS = "0123456789abcdefghijklmnopqrstuv"


class Request(Struct, frozen=True):
    """One that can be read. ``args`` are wanted for two of the operations only."""

    op: str = ""
    args: list[str] | None = None
    req_id: str | int | None = None
    """Clients send numbers too: they come back as text."""


class _Ping(Struct, frozen=True):
    op: str = ""
    req_id: str | int | None = None


def read(frame: bytes) -> Request | str:
    """Or what to say about it."""
    try:
        head = _read_ping(frame)
        if head.op in ("subscribe", "unsubscribe"):
            return _read(frame)
        return Request(head.op, None, head.req_id)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"Failed to decode incoming data:{str(error)[:80]}"


_read = json.Decoder(Request).decode
_read_ping = json.Decoder(_Ping).decode


def answer(spot: bool, conn_id: str, op: str, req_id: str | int | None, *, success: bool, text: str) -> bytes:
    """One for each request. Where the request has no ``req_id``, spot answers without one, linear with an empty one."""
    said: dict[str, object] = {"success": success, "ret_msg": text, "conn_id": conn_id}
    named = "" if req_id is None else str(req_id)
    if named or not spot:
        said["req_id"] = named
    return json.encode(said | {"op": op})


def done(spot: bool, op: str) -> str:
    """What a success says."""
    return op if spot else ""


def conn_id(dice: Random) -> str:
    """``d9avt8shteepr00gfc1g-4zd1x``, as recorded."""
    return f"{''.join(dice.choices(_LETTERS, k=20))}-{''.join(dice.choices(_LETTERS, k=5))}"
