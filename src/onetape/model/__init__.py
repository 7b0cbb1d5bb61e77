"""The vocabulary: events, instruments, levels and commands. Imports nothing of ours but the base."""
from onetape.model.commands import (
    Command,
    Connect,
    Disconnect,
    Fetch,
    Need,
    NeedCandles,
    NeedSnapshot,
    NeedTrades,
    Purpose,
    Reconnect,
    Request,
    RestKind,
    Send,
)
from onetape.model.events import (
    BookAudited,
    BookDelta,
    BookSnapshot,
    Candle,
    Change,
    ConnectionGap,
    ConnectionState,
    Event,
    FeedError,
    FeedStatus,
    Flag,
    GapClosed,
    GapFilling,
    GapOpened,
    InstrumentChanged,
    Lifecycle,
    Quote,
    Side,
    Skipped,
    Source,
    Ticker,
    Trade,
    TrustState,
    VenueStatus,
    decode,
    encode,
)
from onetape.model.instruments import TAPES, Capabilities, Channel, Instrument, InstrumentId, Kind, Subscription
from onetape.model.levels import EMPTY, BadLevels, Level, Levels, Shape
from onetape.model.numbers import BadNumber

__all__ = [
    "EMPTY", "TAPES", "BadLevels", "BadNumber", "BookAudited", "BookDelta", "BookSnapshot", "Candle", "Capabilities",
    "Change", "Channel", "Command", "Connect", "ConnectionGap", "ConnectionState", "Disconnect", "Event", "FeedError",
    "FeedStatus", "Fetch", "Flag", "GapClosed", "GapFilling", "GapOpened", "Instrument", "InstrumentChanged",
    "InstrumentId", "Kind", "Level", "Levels", "Lifecycle", "Need", "NeedCandles", "NeedSnapshot", "NeedTrades",
    "Purpose", "Quote", "Reconnect", "Request", "RestKind", "Send", "Shape", "Side", "Skipped", "Source",
    "Subscription", "Ticker", "Trade", "TrustState", "VenueStatus", "decode", "encode",
]
