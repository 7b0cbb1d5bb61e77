"""What a venue must tell us: tables of facts, and pure functions from bytes to values."""
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, ClassVar, Protocol, TypeVar

import msgspec
from msgspec import Struct

from onetape.book import OrderBook
from onetape.book.rules import BookRules, Snapshots
from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from onetape.credentials import Credentials
from onetape.errors import BadFrame
from onetape.model import (
    BookSnapshot,
    Candle,
    Capabilities,
    Channel,
    Event,
    Instrument,
    Request,
    Subscription,
    Trade,
)

__all__ = [
    "UNREADABLE", "Acked", "Alive", "BookRules", "Budget", "Control", "Endpoints", "History", "Limits", "LoginRefused",
    "Milliseconds", "Notice", "Parsed", "Reaction", "Refused", "Search", "Snapshots", "Spec", "Timings", "Unknown",
    "Venue", "Whole", "batches", "milliseconds", "next_step", "readable", "retry_after_ns", "whole",
]

UNREADABLE = (BadFrame, msgspec.MsgspecError, ValueError, LookupError, ArithmeticError, RecursionError)
"""What reading hostile bytes can raise; whoever calls a ``parse`` function quarantines on these and goes on."""


# --- what a frame can say beside events -----------------------------------------------------------------------------


class Reaction(StrEnum):
    """What to do about an error of the venue's."""

    RETRY = "retry"
    """Transient: wait, then ask again."""
    DROP = "drop"
    """Permanent for this subscription: give it up, the others go on."""
    RECONNECT = "reconnect"
    """This connection is of no more use."""
    IGNORE = "ignore"
    """Harmless: what was asked for is so already."""


class Acked(Struct, frozen=True):
    """The venue confirms these subscriptions (or that they ended). An ack proves nothing: data does."""

    subscriptions: tuple[Subscription, ...]
    removed: bool = False


class Refused(Struct, frozen=True):
    """The venue refuses these subscriptions; empty where it does not say which."""

    subscriptions: tuple[Subscription, ...]
    reason: str
    reaction: Reaction
    removed: bool = False
    """It was unsubscribing that was refused: what was subscribed is not touched by that."""
    others: tuple[Subscription, ...] = ()
    """Refused along with them, for no fault of their own: to be asked for at once."""


class Alive(Struct, frozen=True):
    """A heartbeat or pong: the venue lives. ``request`` is the number of the ping that it answers."""

    request: int | None = None


class Notice(Struct, frozen=True):
    """The venue will cut this connection: make the next one before."""

    reason: str


class LoginRefused(Struct, frozen=True):
    """The venue does not accept our credentials, and would not if they came again."""

    reason: str


class Unknown(Struct, frozen=True):
    """A readable frame of a kind that we do not know: counted, never an error."""

    what: str


Control = Acked | Refused | Alive | Notice | LoginRefused | Unknown
Parsed = Event | Control


# --- tables of facts ------------------------------------------------------------------------------------------------


class Limits(Struct, frozen=True):
    """What the venue allows one client; 0 means that it names no limit."""

    subscriptions: int = 0
    """Per connection."""
    books: int = 0
    """Of those, subscriptions to books."""
    args: int = 0
    """Subscriptions per request frame."""
    frame_bytes: int = 0
    """Of a request frame."""
    sends_per_second: float = 5.0
    requests_per_hour: int = 0
    """Subscribe and unsubscribe frames per connection and hour."""
    connects: int = 100
    connects_per_ns: int = 5 * MINUTE
    receive_bytes: int = 32 * 2**20
    """Of one frame that we accept, after decompression."""


class Timings(Struct, frozen=True):
    """When to ping, when to worry; each is a setting with this default (SPEC B6b). 0 switches one off."""

    connect_ns: int = 10 * SECOND
    ping_every_ns: int = 0
    pong_wait_ns: int = 10 * SECOND
    ack_ns: int = 10 * SECOND
    first_frame_ns: int = 30 * SECOND
    silence_ns: int = 30 * SECOND
    heartbeat_ns: int = 60 * SECOND
    rotate_after_ns: int = 0
    """Age at which to replace a connection before the venue cuts it."""
    refresh_ns: int = HOUR
    """Between two looks at the list of instruments."""
    audit_ns: int = 0
    """Between two comparisons of a book with REST, per connection; the service switches them on."""


class Endpoints(Struct, frozen=True):
    """Where one environment of a venue is to be found; of several addresses the first is tried first."""

    websocket: Mapping[str, tuple[str, ...]]
    """By route: a name for a socket of its own (``""`` where there is but one)."""
    rest: tuple[str, ...]
    history: tuple[str, ...] = ()
    """REST of another host that has the tape's past; empty: ``rest`` has it."""


class Budget(Struct, frozen=True):
    """REST allowance per IP."""

    weight: int
    per_ns: int
    used_header: str = ""
    """Response header that tells what is used up."""
    backfill: float = 0.9
    """Share that backfill may use: less where books are had from REST, for those must not wait."""


class Search(StrEnum):
    """What is on the page of trades that is asked for by a time alone."""

    FROM = "from"
    """The first ones from then on."""
    ONLY = "only"
    """The same; and nothing can be asked for by id."""
    UNTIL = "until"
    """The last ones before then."""
    NEVER = "never"
    """It cannot be: the page below an id is all there is."""


class History(Struct, frozen=True):
    """What of the tape REST gives afterwards."""

    reach_ns: int = 0
    """What is older is gone; 0: all is there."""
    shares: str = ""
    """The venue whose REST it is, where it is another's (``Endpoints.history``): its allowance counts there."""
    page_every_ns: int = 0
    """Between two pages of one symbol, at least."""
    newest_only: bool = False
    """One page of the newest trades: nothing can be asked for by id or by time."""
    search: Search = Search.FROM


class Spec(Struct, frozen=True, kw_only=True):
    """All that can be said of a venue in a table."""

    name: str
    exchange: str
    """The outward word: two venues may be one exchange (``binance`` and ``binance-usdm``)."""
    documentation: str
    endpoints: Mapping[str, Endpoints]
    """By environment: ``production``, ``testnet``, ``demo``, ``sandbox``."""
    capabilities: Capabilities
    book: BookRules
    limits: Limits = Limits()
    timings: Timings = Timings()
    budget: Budget
    history: History = History()
    redundancy: int = 1
    """Connections for the same subscriptions, where the settings say nothing."""
    counted_trades: bool = True
    """Ids of the tape are consecutive; else only the connection can tell that a trade may have been lost."""
    close_codes: Mapping[int, Reaction] = {}
    """WebSocket close codes that are not simply transient."""
    maintenance_wait_ns: int = 5 * SECOND
    refused_wait_ns: int = 5 * MINUTE
    """After a handshake that was refused with 403, 418 or 429 and names no wait of its own."""
    ban_wait_ns: int = HOUR


class Venue(Protocol):
    """One instance lives as long as one connection and keeps what that connection counts: no ``reset()``.

    Nothing in here waits, connects, or looks at the clock. The REST functions use no state of the connection.
    """

    spec: ClassVar[Spec]
    route: str

    def __init__(self, route: str = "") -> None: ...

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        """The route (a key of ``Endpoints.websocket``) on which this subscription is served."""
        ...

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        """Frames to send when the socket stands, before the subscriptions, which do not wait for an answer."""
        ...

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        """A request of ``subscribe`` or ``unsubscribe`` with what proves who asks; most venues want nothing there."""
        ...

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        """Request frames within the venue's limits."""
        ...

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]: ...

    def ping(self, number: int) -> bytes | None:
        """The venue's own ping, to be answered by Alive; None where the WebSocket's ping frames serve."""
        ...

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        """What a frame says, in its order. Raises one of UNREADABLE, having changed nothing that counts."""
        ...

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        """Of a frame that ``parse`` refused: symbol and channel that it spoke of, as far as can be seen. Never raises.

        No channel means that it may have carried anything; no symbol, that it may have concerned any.
        """
        ...

    def checksum(self, symbol: str, book: OrderBook) -> int:
        """Of the best levels, in the venue's own way; only called where an event carries a checksum."""
        ...

    # REST: requests, and what their bodies say. The parsers raise one of UNREADABLE.

    def time_request(self) -> Request: ...

    def parse_time(self, body: bytes) -> int:
        """The venue's clock, ns since the epoch."""
        ...

    def instrument_requests(self) -> list[Request]: ...

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        """The instruments of one page, and the request for the next page if there is one."""
        ...

    def book_request(self, symbol: str, depth: int) -> Request:
        """A snapshot of at least ``depth`` levels (0: as many as there are), as far as the venue goes."""
        ...

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot: ...

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        """The best page of the tape's channel towards the hole between two ids (exclusive), or at a time (ns): Search.

        Where the venue is asked by ids the page begins with the known trade at the edge of the hole, by which it can
        be told whose trades they are. None where the venue has no way to ask.
        """
        ...

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        """Ascending, ``source="backfill"``."""
        ...

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        """Candles that begin in [start, end), both ns, as many as the venue gives in one answer."""
        ...

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        """Ascending by start; the one still open has ``final=False``."""
        ...

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raises TryAgain, GiveUp or ClockSkew unless this answer is the data asked for. Header names in lower case."""
        ...

    def request_of(self, url: str) -> Request | None:
        """The request that a URL of this venue's REST makes, for recordings; None if it is none of ours."""
        ...


# --- small things that every venue needs ----------------------------------------------------------------------------


def batches(args: Sequence[str], limits: Limits, overhead: int = 100) -> Iterator[list[str]]:
    """Splits subscription arguments (as JSON text) so that each request keeps to the venue's limits."""
    batch: list[str] = []
    size = overhead
    for arg in args:
        length = len(arg.encode()) + 1  # some symbols are Chinese
        full = limits.args and len(batch) >= limits.args
        long = limits.frame_bytes and size + length > limits.frame_bytes
        if batch and (full or long):
            yield batch
            batch, size = [], overhead
        batch.append(arg)
        size += length
    if batch:
        yield batch


Whole = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An id or a count as a JSON number, small enough for every store."""
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=(2**63 - 1) // MILLISECOND)]
"""A time in ms since the epoch as a JSON number; in ns it still fits 64 bits."""
LONGEST_WAIT_NS = 3 * DAY
"""The longest ban that any venue gives: who asks for a longer wait is not believed."""


def whole(text: str) -> int:
    """An id or a count sent as text. Raises BadFrame; int() alone would take signs, spaces and underscores."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise BadFrame(f"not a whole number: {text[:40]!r}")
    return int(text)


def milliseconds(value: int | str) -> int:
    """A time in ms since the epoch, as number or text, in ns. Raises BadFrame."""
    time = (whole(value) if isinstance(value, str) else value) * MILLISECOND
    if not 0 <= time < 2**63:
        raise BadFrame(f"not a time in milliseconds: {str(value)[:40]!r}")
    return time


def retry_after_ns(headers: Mapping[str, str], default: int = 0) -> int:
    """The venue's own wait, from the header ``retry-after`` in seconds; ``default`` where it names none."""
    text = headers.get("retry-after", "")
    if not (text.isascii() and text.isdigit()):
        return default
    return LONGEST_WAIT_NS if len(text) > 6 else min(int(text) * SECOND, LONGEST_WAIT_NS)


Row = TypeVar("Row")
Read = TypeVar("Read")


def readable(read: Callable[[Row], Read], rows: Iterable[Row]) -> list[Read]:
    """What can be read of a list of instruments: a row announced half empty, or malformed, does not hide the others.

    Whoever wants to know how many were passed over compares the lengths.
    """
    found = []
    for row in rows:
        with suppress(*UNREADABLE):
            found.append(read(row))
    return found


def next_step(table: Mapping[str, Reaction], text: str, default: Reaction = Reaction.DROP) -> Reaction:
    """The reaction to an error text: of the first entry that occurs in it, upper and lower case alike."""
    lowered = text.lower()
    return next((reaction for words, reaction in table.items() if words.lower() in lowered), default)
