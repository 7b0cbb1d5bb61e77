"""What clients say to the simulated Binance over a WebSocket, and its answers to it (section 3)."""
import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct, json

LONGEST = 4_096
"""Bytes of a frame; a longer one gets no answer at all."""
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")

Id = int | str | None


class Refused(Exception):
    """An error frame instead of a result."""

    def __init__(self, code: int, text: str, id: Id = None, *, named: bool = True) -> None:
        super().__init__(text)
        self.frame = refused(code, text, id, named=named)


class Request(Struct, frozen=True):
    """One that makes sense so far."""

    method: str
    params: Sequence[object]
    id: Id

    def names(self) -> list[str]:
        """The parameters as streams. Raises Refused."""
        names = [it for it in self.params if isinstance(it, str)]
        if len(names) < len(self.params):
            raise Refused(2, "Invalid request: invalid type, expected a string", self.id)
        return names

    def property(self, count: int) -> Sequence[object]:
        """The parameters of a property's method: its name, and perhaps a value. Raises Refused."""
        if len(self.params) > count:
            raise Refused(2, "Invalid request: too many parameters", self.id)
        if not self.params or not isinstance(self.params[0], str):
            raise Refused(2, "Invalid request: property name must be a string", self.id)
        if self.params[0] != "combined":
            raise Refused(0, "Unknown property", self.id)
        if count == 2 and (len(self.params) < 2 or not isinstance(self.params[1], bool)):
            raise Refused(1, "Invalid value type: expected Boolean", self.id)
        return self.params


def read(frame: bytes) -> Request:
    """Raises Refused."""
    try:
        said = json.decode(frame)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused(3, f"Invalid JSON: expected value at {_place(error, frame)}", named=False) from None
    if not isinstance(said, dict):
        raise Refused(2, "Invalid request: invalid type, expected a request object", named=False)
    id = said.get("id")
    if not _valid(id):
        raise Refused(2, "Invalid request: request ID must be an integer, a string or null", named=False)
    method, params = said.get("method"), said.get("params")
    if method is None:
        raise Refused(2, "Invalid request: missing field `method`", id)
    if method not in _METHODS:
        expected = ", ".join(f"`{it}`" for it in _METHODS)
        raise Refused(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}", id)
    if params is None and method == "LIST_SUBSCRIPTIONS":
        params = []
    if not isinstance(params, list):
        raise Refused(2, "Invalid request: missing field `params`", id)
    return Request(method, params, id)


def _valid(id: object) -> bool:
    """A signed 64-bit integer, a short string, or null."""
    if isinstance(id, str):
        return _ID.fullmatch(id) is not None
    return id is None or (type(id) is int and -(2**63) <= id < 2**63)


def _place(error: Exception, frame: bytes) -> str:
    found = re.search(r"byte (\d+)", str(error))
    at = int(found.group(1)) if found else len(frame)
    lines = frame[:at].split(b"\n")
    return f"line {len(lines)} column {len(lines[-1]) + 1}"


def done(result: object, id: Id) -> bytes:
    return json.encode({"result": result, "id": id})


def refused(code: int, text: str, id: Id, *, named: bool = True) -> bytes:
    """Without a result; and without an id if that could not be read."""
    said: dict[str, object] = {"code": code, "msg": text}
    return json.encode(said | {"id": id} if named else said)


def too_many(id: Id) -> bytes:
    """The one error that has been seen nested."""
    return json.encode({"error": {"code": 4, "msg": "Too many subscriptions"}, "id": id})
