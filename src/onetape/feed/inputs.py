"""Everything that can come from outside: numbered, timed, and all that a replay needs."""
from msgspec import Struct


class _Input(Struct, frozen=True, gc=False, kw_only=True):
    number: int
    """Counts the inputs of the process, from 1, without a hole."""
    time: int
    """ns since the epoch; never less than that of the input before."""
    connection: str


class Opened(_Input, frozen=True, gc=False):
    """The socket stands."""


class Frame(_Input, frozen=True, gc=False):
    data: bytes


class Answer(_Input, frozen=True, gc=False):
    """Of REST, to the Fetch with this id; in recordings of others the url stands for it."""

    id: int
    status: int
    body: bytes
    url: str = ""
    headers: dict[str, str] = {}
    """Names in lower case; only those that tell how long to wait, and what is left."""


class Failed(_Input, frozen=True, gc=False):
    """A Fetch that brought no answer at all."""

    id: int
    reason: str


class Pinged(_Input, frozen=True, gc=False):
    """A ping or pong frame of the WebSocket itself."""


class Closed(_Input, frozen=True, gc=False):
    reason: str


Input = Opened | Frame | Answer | Failed | Pinged | Closed
