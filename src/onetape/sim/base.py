"""The words that market, venues, faults and drivers of the simulator share; no socket, no clock, no chance in here."""
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from msgspec import Struct


class Listing(Struct, frozen=True, kw_only=True):
    """One instrument as one simulated venue lists it. Prices count in ticks, sizes in lots: integers everywhere."""

    venue: str
    symbol: str
    """The venue's own spelling, as on its WebSocket."""
    base: str
    quote: str
    tick: Decimal
    """0.01; written with as many digits as the venue shows in prices."""
    lot: Decimal
    """0.00001; written with as many digits as the venue shows in sizes."""
    rate: float = 1.0
    """Of its order flow, against the market's own pace."""
    contract: Decimal = Decimal(1)
    """Base units in one unit of size: 0.01 where a contract is a hundredth of a bitcoin."""


class Match(Struct, frozen=True, gc=False):
    """One execution."""

    id: int
    """Consecutive within the instrument; a plan may have numbers left out, and then no match has them."""
    time: int
    """ns since the epoch."""
    price: int
    """Ticks."""
    size: int
    """Lots."""
    buy: bool
    """The taker bought."""


class Change(Struct, frozen=True, gc=False):
    """One level of the book now has this size."""

    sequence: int
    """Consecutive within the instrument."""
    time: int
    bid: bool
    price: int
    size: int
    """Lots; 0: the level is gone."""


class Happening(Struct, frozen=True, gc=False):
    """All that one order did to one instrument: one moment, never torn. No two of an instrument share their time."""

    listing: Listing
    time: int
    changes: Sequence[Change]
    matches: Sequence[Match]


class Frame(Struct, frozen=True, gc=False):
    """To be sent on a connection."""

    connection: int
    data: bytes
    symbol: str = ""
    """What it is about, for the faults that choose; empty: the connection as a whole."""
    channel: str = ""
    """``trades``, ``book``, ``quotes``, ``ticker``, ``candles``; empty: acks, heartbeats, notices."""


class Ping(Struct, frozen=True, gc=False):
    """A ping frame of the WebSocket itself, to be sent on a connection."""

    connection: int
    payload: bytes


class Close(Struct, frozen=True, gc=False):
    """The venue ends a connection; code 1006: without a word, the TCP connection just goes."""

    connection: int
    code: int
    reason: str = ""


Action = Frame | Ping | Close


class Rejected(Exception):  # not an error of ours, an answer of the venue's
    """A WebSocket handshake or a REST request that ends in this HTTP status."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.headers, self.body = status, dict(headers or {}), body


class Response(Struct, frozen=True):
    """To a REST request."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}
    after_ns: int = 0
    """How long the venue takes to say so."""


class SimVenue(Protocol):
    """One venue, sans-I/O. Times are the simulator's, ns since the epoch, never falling; connections are numbers.

    Nothing raises but ``connect`` (Rejected). A venue answers hostile input as the real one does.
    """

    name: str
    book_clock_ns: int
    """0: a book's sequence, as clients see it, is that of the truth. Else books have no number that could be compared:
    they are known by their time, which is told in steps of so many ns."""
    instruments_path: str
    """Of the REST request that lists the instruments, without its query."""

    def number(self, trade_id: str) -> int:
        """The number of a trade of the tape's channel, consecutive within its instrument, from the id that is sent."""
        ...

    def match(self, symbol: str, number: int) -> Match | None:
        """What the tape's trade of this number truly is; None if that is too long ago, or it never was."""
        ...

    def skipped(self, symbol: str) -> Sequence[int]:
        """Numbers of the tape that no trade has, ascending, as far back as trades are kept."""
        ...

    def connect(self, connection: int, target: str, now: int) -> list[Action]:
        """A WebSocket to this path and query is asked for. Raises Rejected."""
        ...

    def receive(self, connection: int, frame: bytes, now: int) -> list[Action]:
        """A text frame of the client's."""
        ...

    def pong(self, connection: int, payload: bytes, now: int) -> list[Action]:
        """A pong frame of the client's."""
        ...

    def disconnect(self, connection: int, now: int) -> None: ...

    def happen(self, it: Happening, now: int) -> list[Action]:
        """The market moved: what subscribers hear at once."""
        ...

    def next_wake(self) -> int | None: ...

    def wake(self, now: int) -> list[Action]:
        """What has become due: 100 ms batches, heartbeats, tickers, timeouts."""
        ...

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        """A REST request; ``target`` is path and query, ``client`` the address whose budget it uses."""
        ...
