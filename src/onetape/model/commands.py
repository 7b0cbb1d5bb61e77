"""What the pure parts ask of those with hands: values that a connection obeys."""
from enum import StrEnum

from msgspec import Struct

from onetape.model.instruments import Channel


class RestKind(StrEnum):
    TIME = "time"
    INSTRUMENTS = "instruments"
    BOOK = "book"
    TRADES = "trades"
    CANDLES = "candles"


class Request(Struct, frozen=True):
    """One REST GET; ``path`` begins with a slash, is percent-encoded and carries its query."""

    kind: RestKind
    path: str
    symbol: str = ""
    weight: int = 1
    """In the venue's own units (requests where it counts requests)."""
    depth: int = 0
    """Of a book: the number of levels per side at which this answer is cut; 0: it is not."""
    channel: Channel | None = None
    interval: str = ""
    rows: int = 0
    """Of the newest trades: as many as are asked for; 0: it does not matter."""


class Purpose(StrEnum):
    """Why something is asked for by REST, the most urgent first."""

    RESYNC = "resync"
    AUDIT = "audit"
    """Only to compare with."""
    BACKFILL = "backfill"


class Send(Struct, frozen=True):
    """Put this text frame on the socket, at the venue's pace."""

    frame: bytes


class Fetch(Struct, frozen=True):
    """Make this REST call and bring the answer back by ``Session.receive_rest(id, ...)``."""

    id: int
    request: Request
    purpose: Purpose = Purpose.RESYNC


class Reconnect(Struct, frozen=True):
    """This connection is beyond repair (or is about to be cut): make a new one.

    ``planned``: the new one first, then close the old; else close at once. ``refused``: the venue does not accept our
    credentials, which asking again does not change: no new one, for none of the venue's lines.
    """

    reason: str
    planned: bool = False
    refused: bool = False


class Connect(Struct, frozen=True):
    """Open a socket; that it stands, or why it does not, comes back as Opened or Closed of ``connection``."""

    connection: str
    address: int
    """Counts the attempts without data: which of several addresses to try."""


class Disconnect(Struct, frozen=True):
    """Close the socket of ``connection``, or give up opening it: nothing of it is listened to any more."""

    connection: str
    reason: str


class NeedSnapshot(Struct, frozen=True):
    """A book cannot go on without a fresh snapshot."""

    symbol: str
    reason: str


class NeedTrades(Struct, frozen=True, tag="trades"):
    """The tape has a hole between two ids (exclusive)."""

    venue: str
    symbol: str
    channel: Channel
    after: str
    before: str
    from_time: int
    """Exchange time, ns, of the trade before what is missing; ``to_time``: of the one behind it."""
    to_time: int
    reason: str
    proof: bool = False
    """Nothing is known to be missing: it is to be shown that nothing is. If it cannot be, that is a gap."""
    asked: bool = False
    """Somebody wants it expressly: the settings' limit of age does not concern it, and whatever heals goes first."""


class NeedCandles(Struct, frozen=True, tag="candles"):
    """The venue's own final candles that begin in [start, end), ns, are to be compared with ours."""

    venue: str
    symbol: str
    interval: str
    start: int
    end: int


Need = NeedTrades | NeedCandles
Command = Send | Fetch | Reconnect | Connect | Disconnect | NeedSnapshot | NeedTrades | NeedCandles
