"""What trades where, what can be subscribed to, and what a venue has of it."""
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct


class InstrumentId(NamedTuple):
    """One tradable thing at one venue, ``binance:BTCUSDT``."""

    venue: str
    symbol: str
    """The venue's own spelling; where it spells two things alike, the market stands before: ``linear:BTCUSDT``."""

    def __str__(self) -> str:
        return f"{self.venue}:{self.symbol}"


class Kind(StrEnum):
    SPOT = "spot"
    PERPETUAL = "perpetual"
    OTHER = "other"
    """Dated futures, stocks, inverse contracts: listed, but not offered."""


class Instrument(Struct, frozen=True, kw_only=True):
    id: InstrumentId
    pair: str
    """Base and quote across venues: ``BTC-USDT``, ``BTC-USDT-PERP``; empty for Kind.OTHER."""
    base: str
    quote: str
    kind: Kind
    tradable: bool
    """The venue says that it trades normally now; an unknown status word counts as no."""
    status: str
    """The venue's own word."""
    tick_size: Decimal
    """Smallest step of the price, in quote."""
    lot_size: Decimal
    """Smallest step of the size, in the unit of sizes (base, or contracts where ``contract_value`` is not 1)."""
    min_size: Decimal | None = None
    contract_value: Decimal = Decimal(1)
    """Base units in one unit of size: 0.01 for OKX BTC-USDT-SWAP, whose sizes are contracts; else 1."""
    may_cross: bool = False
    """It is in an auction or pre-open, where a crossed book is legitimate."""


class Channel(StrEnum):
    TRADES = "trades"
    """Single matches."""
    AGG_TRADES = "agg_trades"
    """Matches of one taker merged by the venue: another id series, never mixed with the first."""
    QUOTES = "quotes"
    TICKER = "ticker"
    CANDLES = "candles"
    BOOK = "book"
    STATUS = "status"


TAPES = (Channel.TRADES, Channel.AGG_TRADES)
"""The channels that bring trades."""


class Subscription(Struct, frozen=True, order=True, cache_hash=True):
    """(symbol, channel), with the depth of a book or the interval of candles where the channel needs one."""

    symbol: str
    """Empty where a channel concerns the whole venue (``status`` on most)."""
    channel: Channel
    depth: int = 0
    """Levels per side of ``book``; 0: as many as the venue has."""
    interval: str = ""
    """Of ``candles``: ``1s 1m 5m 1h 1d 1w 1M``, the names of OneTape, not of the venue."""


class Capabilities(Struct, frozen=True):
    """What a venue has, as ``onetape.venues.capabilities(name)`` tells."""

    channels: frozenset[Channel]
    depths: tuple[int, ...]
    """Depths of ``book`` that can be asked for, ascending; 0 stands for the whole book."""
    intervals: tuple[str, ...]
    """Intervals of ``candles``."""
    verification: str
    """What stands behind its books: ``sequence``, ``checksum(10)`` or ``none``."""
    tape: Channel
    """The one channel that feeds the tape and the candles."""

    def depth_for(self, wanted: int) -> int:
        """The depth to subscribe to: the next one up; where none is deep enough, the whole book or the deepest.

        A whole book keeps the number wanted: it says how much of it somebody wants to see.
        """
        enough = [it for it in self.depths if it >= wanted > 0]
        if enough:
            return min(enough)
        return wanted if 0 in self.depths else max(self.depths)
