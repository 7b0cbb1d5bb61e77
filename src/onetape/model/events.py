"""Normalised market events: immutable, tagged, and the only thing that crosses a module boundary.

The meaning and unit of every field is in EVENTS.md. Prices and sizes are exact Decimals, times are ns since the epoch.
"""
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from onetape.model.instruments import Channel, Instrument
from onetape.model.levels import Level, Levels
from onetape.model.numbers import level_number, plain


class Side(StrEnum):
    """Of the taker, always."""

    BUY = "buy"
    SELL = "sell"


BUY, SELL = Side
"""For hot paths: what an enum gives by name it has to look for, 70 ns in Python 3.11."""


class Source(StrEnum):
    """How an event reached us."""

    LIVE = "live"
    SNAPSHOT = "snapshot"
    """Sent by the venue on subscribing; it may repeat what was had before."""
    BACKFILL = "backfill"


class Flag(StrEnum):
    """What is odd about a trade that is kept all the same."""

    FAR_FROM_LAST = "far_from_last"
    """Its price, compared with the one before on this venue."""
    FAR_FROM_OTHERS = "far_from_others"
    """Its price, compared with the median of the pair's other venues."""
    HUGE = "huge"
    """Its size, compared with recent ones."""


class TrustState(StrEnum):
    SYNCING = "syncing"
    LIVE = "live"
    STALE = "stale"
    CROSSED = "crossed"
    DOWN = "down"


class Lifecycle(StrEnum):
    """States of a connection; ``active`` only after data flowed."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    SUBSCRIBING = "subscribing"
    ACTIVE = "active"
    RECONNECTING = "reconnecting"
    ERROR = "error"


class Change(StrEnum):
    LISTED = "listed"
    DELISTED = "delisted"
    RENAMED = "renamed"
    UPDATED = "updated"


class _Event(msgspec.Struct, frozen=True, gc=False, tag_field="kind", kw_only=True):
    venue: str
    received_time: int
    available_at: int


class _MarketEvent(_Event, frozen=True, gc=False, kw_only=True):
    symbol: str
    exchange_time: int


class Trade(_MarketEvent, frozen=True, gc=False, tag="trade"):
    channel: Channel
    id: str
    after: int | None
    """The id that comes directly before this one in the venue's own counting; None where its ids prove nothing."""
    price: Decimal
    size: Decimal
    side: Side
    source: Source = Source.LIVE
    first_id: str | None = None
    last_id: str | None = None
    flags: tuple[Flag, ...] = ()


class BookSnapshot(_MarketEvent, frozen=True, gc=False, tag="book_snapshot"):
    sequence: int
    bids: Levels
    asks: Levels
    depth: int
    """Levels per side at which the venue cuts; 0: it does not."""
    verification: str
    checksum: int | None = None


class BookDelta(_MarketEvent, frozen=True, gc=False, tag="book_delta"):
    """Absolute sizes of the levels that changed in the interval (after, sequence]."""

    after: int
    sequence: int
    bids: Levels
    asks: Levels
    checksum: int | None = None
    restart: bool = False


class Quote(_MarketEvent, frozen=True, gc=False, tag="quote"):
    bid: Level | None
    ask: Level | None
    sequence: int | None = None


class Ticker(_MarketEvent, frozen=True, gc=False, tag="ticker"):
    last: Decimal | None
    price_change: Decimal | None
    price_change_percent: Decimal | None
    high: Decimal | None
    low: Decimal | None
    volume: Decimal | None
    quote_volume: Decimal | None


class Candle(_MarketEvent, frozen=True, gc=False, tag="candle"):
    interval: str
    start: int
    end: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None
    vwap: Decimal | None
    trades: int | None
    taker_buy_volume: Decimal | None
    complete: bool
    final: bool
    source: str
    revision: int = 0


class FeedStatus(_MarketEvent, frozen=True, gc=False, tag="feed_status"):
    """In-band, so that no consumer mistakes silence for a quiet market."""

    channel: Channel
    state: TrustState
    since: int
    reason: str = ""


class ConnectionState(_Event, frozen=True, gc=False, tag="connection_state"):
    connection: str
    state: Lifecycle
    reason: str = ""


class VenueStatus(_MarketEvent, frozen=True, gc=False, tag="venue_status"):
    status: str
    message: str = ""


class ConnectionGap(_Event, frozen=True, gc=False, tag="connection_gap"):
    expected: int
    got: int


class GapOpened(_MarketEvent, frozen=True, gc=False, tag="gap_opened"):
    channel: Channel
    after: str
    before: str
    from_time: int
    to_time: int
    cause: str


class GapFilling(_MarketEvent, frozen=True, gc=False, tag="gap_filling"):
    """The venue is being asked for what is missing."""

    channel: Channel
    after: str
    before: str
    from_time: int
    to_time: int
    attempts: int
    """The first is 1."""
    cause: str
    """Why the attempt before brought not all; empty: there was none."""
    recovered: int = 0


class GapClosed(_MarketEvent, frozen=True, gc=False, tag="gap_closed"):
    channel: Channel
    after: str
    before: str
    from_time: int
    to_time: int
    healed: bool
    cause: str
    recovered: int


class Skipped(_MarketEvent, frozen=True, gc=False, tag="skipped"):
    """Ids that exist but have no place on the tape; they count as covered."""

    channel: Channel
    first: str
    last: str
    after: int | None
    reason: str


class InstrumentChanged(_Event, frozen=True, gc=False, tag="instrument_changed"):
    change: Change
    instrument: Instrument
    symbol_before: str = ""
    """Of one that is renamed and now has another symbol: the one that it had."""


class BookAudited(_MarketEvent, frozen=True, gc=False, tag="book_audited"):
    """A live book was compared with what the venue's REST shows."""

    sequence: int
    """Of the book."""
    levels: int
    """Compared on each side."""
    bids_match: float
    asks_match: float
    """Share of the levels that both show alike: 1 is all of them."""
    exact: bool
    """At the very number of the snapshot; else at the moment that fits best."""
    wrong: bool
    """The book is had anew."""


class FeedError(_Event, frozen=True, gc=False, tag="feed_error"):
    """Something was refused: a subscription by the venue, or a frame by us (``quarantined``, with its text)."""

    symbol: str
    channel: str
    reason: str
    permanent: bool = False
    quarantined: bool = False
    text: str = ""


Event = (  # the most frequent ones first: whoever asks whether something is one goes through them
    BookDelta | Trade | Quote | BookSnapshot | Ticker | Candle | FeedStatus | ConnectionState | VenueStatus
    | ConnectionGap | GapOpened | GapFilling | GapClosed | Skipped | InstrumentChanged | FeedError | BookAudited
)


def kind_of(event: Event) -> str:
    """The tag under which the event is encoded: ``trade``, ``book_delta``..."""
    return str(event.__struct_config__.tag)


def _to_wire(value: Any) -> Any:
    if isinstance(value, Levels):
        return [(plain(price), plain(size)) for price, size in value]
    raise NotImplementedError(f"cannot encode {type(value).__name__}")


def _from_wire(kind: type, value: Any) -> Any:
    if kind is Levels:
        return Levels.of([(level_number(price), level_number(size)) for price, size in value])
    raise NotImplementedError(f"cannot decode {kind.__name__}")


encode = msgspec.json.Encoder(enc_hook=_to_wire).encode
"""An event to JSON: numbers as decimal text, Levels as [price, size] pairs."""
decode = msgspec.json.Decoder(Event, dec_hook=_from_wire).decode
"""JSON to the event that was encoded, equal in every field."""
