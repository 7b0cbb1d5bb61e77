"""What clients say to the simulated OKX over a WebSocket, and its answers to it (sections 3 and 10)."""
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest, new

import msgspec
from msgspec import Raw, Struct, json, structs

from onetape.clock import SECOND
from onetape.sim.credentials import KEY, PASSPHRASE, SECRET

SIGNED = "GET/users/self/verify"
VALID = 30 * SECOND
"""How far the time of a login may be from the venue's."""
ECHOED = 200
"""Characters of what cannot be read that an answer repeats."""

TEXTS: Mapping[str, str] = {
    "60004": "Invalid timestamp", "60005": "Invalid apiKey", "60006": "Timestamp request expired",
    "60007": "Invalid sign", "60009": "Login failed.", "60011": "Please log in", "60013": "Invalid args",
    "60014": "Requests too frequent", "60024": "Wrong passphrase",
    "60026": "Batch login by APIKey and token simultaneously is not supported",
    "60031": "The WebSocket endpoint does not allow multiple or repeated logins.", "60032": "API key doesn't exist",
    "64001": (
        "This channel has been migrated to the '/business' URL. Please subscribe using the new URL. "
        "More details can be found at: https://www.okx.com/docs-v5/log_en/"
    ),
    "64003": "Your trading fee tier doesn't meet the requirement to access this channel",
    "64008": "The connection will soon be closed for a service upgrade. Please reconnect.",
}


class Problem(Exception):
    """What is wrong with a request, or with one of its args."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(text or TEXTS[code])
        self.code = code


class Arg(Struct, frozen=True, omit_defaults=True):
    """As it is repeated in an ack."""

    channel: str = ""
    instType: str = ""
    instId: str = ""

    def about(self) -> str:
        """An instrument, a kind of them, or nothing in particular."""
        return {"status": "", "instruments": self.instType}.get(self.channel, self.instId)

    def missing(self) -> Problem:
        """Said of a channel or an instrument that is not there: the only place where it is named (section 3)."""
        named = f"channel:{self.channel},instId:{self.instId}" if self.instId else f"channel:{self.channel}"
        advice = "Please use the correct URL, channel and parameters referring to API document."
        return Problem("60018", f"Wrong URL or {named} doesn't exist. {advice}")


class Request(Struct, frozen=True):
    op: str
    args: list[Raw]
    id: str = ""


class _Head(Struct, frozen=True):
    op: object = None
    args: object = None
    id: object = None


class _Args(Struct, frozen=True):
    args: list[Raw]


class _Login(Struct, frozen=True):
    apiKey: str = ""
    passphrase: str = ""
    timestamp: str = ""
    sign: str = ""


def read(frame: bytes) -> Request | tuple[Problem, str]:
    """Or what is wrong with it as a whole, and its id."""
    try:
        head = _read_head(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Problem("60012", f"Illegal request: {frame.decode('utf-8', 'replace')[:ECHOED]}"), ""
    if head.id is not None and not _is_id(head.id):
        return Problem("60033", "Parameter id error"), ""
    id = head.id if isinstance(head.id, str) else ""
    if head.op not in ("subscribe", "unsubscribe", "login"):
        return Problem("60019", f"Invalid op: {str(head.op)[:ECHOED]}"), id
    if not isinstance(head.args, list) or not head.args:
        return Problem("60013"), id
    return Request(str(head.op), _read_args(frame).args, id)


def _is_id(id: object) -> bool:
    return isinstance(id, str) and 1 <= len(id) <= 32 and id.isascii() and id.isalnum()


def read_arg(raw: Raw) -> Arg:
    """Raises Problem."""
    try:
        arg = _read_arg(raw)
    except msgspec.DecodeError as error:
        raise Problem("60013") from error
    if not arg.channel:
        raise Problem("60027", "Parameter channel can not be empty")
    return arg


def check_login(args: list[Raw], now: int) -> None:
    """Raises Problem."""
    if len(args) != 1:
        raise Problem("60026")
    try:
        it = _read_login(args[0])
    except msgspec.DecodeError as error:
        raise Problem("60013") from error
    if not it.apiKey:
        raise Problem("60005")
    if not it.passphrase or not it.sign:
        raise Problem("60009")
    if not (it.timestamp.isascii() and it.timestamp.isdigit() and len(it.timestamp) <= 10):
        raise Problem("60004")
    if abs(now - int(it.timestamp) * SECOND) > VALID:
        raise Problem("60006")
    if it.apiKey != KEY:
        raise Problem("60032")
    if it.passphrase != PASSPHRASE:
        raise Problem("60024")
    if not compare_digest(it.sign.encode(), signature(it.timestamp, SECRET)):
        raise Problem("60007")


def signature(timestamp: str, secret: str) -> bytes:
    return b64encode(new(secret.encode(), (timestamp + SIGNED).encode(), sha256).digest())


_read_head = json.Decoder(_Head).decode
_read_args = json.Decoder(_Args).decode
_read_arg = json.Decoder(Arg).decode
_read_login = json.Decoder(_Login).decode


def done(op: str, arg: Arg, id: str, conn_id: str) -> bytes:
    """One for each arg."""
    said = {"event": op, "arg": {name: it for name, it in structs.asdict(arg).items() if it}, "connId": conn_id}
    return json.encode({"id": id} | said if id else said)


def logged_in(id: str, conn_id: str) -> bytes:
    said = {"event": "login", "code": "0", "msg": "", "connId": conn_id}
    return json.encode({"id": id} | said if id else said)


def failed(it: Problem, id: str, conn_id: str) -> bytes:
    """One for each arg that is wrong, or for the request. Keys in the order that was recorded."""
    said = {"event": "error", "msg": str(it), "code": it.code, "connId": conn_id}
    return json.encode({"id": id} | said if id else said)


def notice(conn_id: str) -> bytes:
    """Of the upgrade that ends a connection (section 2)."""
    return json.encode({"event": "notice", "code": "64008", "msg": TEXTS["64008"], "connId": conn_id})
