"""The tables of the journal, and how events become their rows and rows become events again."""
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from onetape.model import (
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Event,
    FeedError,
    FeedStatus,
    Flag,
    GapClosed,
    GapFilling,
    GapOpened,
    Quote,
    Side,
    Source,
    Trade,
    TrustState,
    encode,
)
from onetape.model.numbers import plain
from onetape.tape.coverage import Covered

VERSION = 1
"""Of this schema; a journal of a newer one is refused."""

INT64 = 2**63
Row = tuple[Any, ...]
NULL = float("nan")
"""Bound by SQLite as NULL. None would be too, but Python's sqlite3 first looks for an adapter: 0.27 us for each one."""

# Codes are written to disk: append, never reorder.
CHANNELS = tuple(Channel)
SIDES = (Side.BUY, Side.SELL)
SOURCES = (Source.LIVE, Source.SNAPSHOT, Source.BACKFILL)
STATES = tuple(TrustState)
FLAGS = (Flag.FAR_FROM_LAST, Flag.FAR_FROM_OTHERS, Flag.HUGE)

# pos: batch << 20 | n, n counted over all tables of the batch. instrument: id in the table `instruments` of this file.
# price, size: integer mantissas, as TEXT where they need more than 64 bits (ANY keeps what it is given; INTEGER
# affinity would make a REAL of a 22-digit text). scales: digits behind the point, price << 8 | size. flags: a bit each.
TABLES: Mapping[str, str] = {
    "trades": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, channel INT NOT NULL, id ANY NOT NULL, first_id ANY,
        last_id ANY, side INT NOT NULL, price ANY NOT NULL, size ANY NOT NULL, scales INT NOT NULL,
        exchange_time INT NOT NULL, received_time INT NOT NULL, available_at INT NOT NULL, source INT NOT NULL,
        flags INT NOT NULL, raw BLOB""",
    "candles": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, interval TEXT NOT NULL, start INT NOT NULL, end INT NOT NULL,
        revision INT NOT NULL, final INT NOT NULL, complete INT NOT NULL, source TEXT NOT NULL, open TEXT NOT NULL,
        high TEXT NOT NULL, low TEXT NOT NULL, close TEXT NOT NULL, volume TEXT NOT NULL, quote_volume TEXT, vwap TEXT,
        trades INT, taker_buy_volume TEXT, exchange_time INT NOT NULL, received_time INT NOT NULL,
        available_at INT NOT NULL""",
    "quotes": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, bid_price TEXT, bid_size TEXT, ask_price TEXT, ask_size TEXT,
        sequence INT, exchange_time INT NOT NULL, received_time INT NOT NULL, available_at INT NOT NULL""",
    "book_snapshots": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, sequence INT NOT NULL, body BLOB NOT NULL,
        exchange_time INT NOT NULL, received_time INT NOT NULL, available_at INT NOT NULL""",
    "book_deltas": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, after INT NOT NULL, sequence INT NOT NULL, body BLOB NOT NULL,
        exchange_time INT NOT NULL, received_time INT NOT NULL, available_at INT NOT NULL""",
    "feed_status": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, channel INT NOT NULL, state INT NOT NULL, since INT NOT NULL,
        reason TEXT NOT NULL, received_time INT NOT NULL, available_at INT NOT NULL""",
    "gaps": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, channel INT NOT NULL, after TEXT NOT NULL,
        before TEXT NOT NULL, from_time INT NOT NULL, to_time INT NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL,
        recovered INT NOT NULL, available_at INT NOT NULL""",
    "coverage": """
        pos INTEGER PRIMARY KEY, instrument INT NOT NULL, channel INT NOT NULL, first INT NOT NULL, last INT NOT NULL,
        from_time INT NOT NULL, to_time INT NOT NULL""",
    "quarantine": """
        pos INTEGER PRIMARY KEY, venue TEXT NOT NULL, symbol TEXT NOT NULL, channel TEXT NOT NULL, reason TEXT NOT NULL,
        text TEXT NOT NULL, received_time INT NOT NULL, available_at INT NOT NULL""",
    "batches": "batch INTEGER PRIMARY KEY, committed_at INT NOT NULL, counts TEXT NOT NULL",
    "instruments": "id INTEGER PRIMARY KEY, venue TEXT NOT NULL, symbol TEXT NOT NULL, pair TEXT NOT NULL",
}


def mantissa(value: Decimal) -> tuple[int | str, int]:
    """The digits as an integer (text beyond 64 bits), and how many of them stand behind the point."""
    return _mantissa(str(value))


@lru_cache(maxsize=16_384)  # by text: 1.10 and 1.1 are equal as Decimals, but not in their digits
def _mantissa(text: str) -> tuple[int | str, int]:
    whole, _, fraction = (text if "E" not in text else plain(Decimal(text))).partition(".")
    value = int(whole + fraction)
    return value if value < INT64 else str(value), len(fraction)


Record = Event | Covered
"""All that can be written: the rows that speak of trades commit with them."""


def identity(text: str) -> int | str:
    """Ids are kept as integers where that loses nothing: half the space, and they sort."""
    if len(text) > 18:  # may need more than 64 bits; and most ids that are no numbers end here
        return text
    try:
        value = int(text)
    except ValueError:
        return text
    return value if f"{value}" == text else text


def _trade(it: Trade, pos: int, instrument: int) -> Row:
    price, price_scale = _mantissa(str(it.price))
    size, size_scale = _mantissa(str(it.size))
    return (
        pos, instrument, _CHANNEL_CODES[it.channel], identity(it.id),
        NULL if it.first_id is None else identity(it.first_id), NULL if it.last_id is None else identity(it.last_id),
        _SIDE_CODES[it.side], price, size, price_scale << 8 | size_scale, it.exchange_time, it.received_time,
        it.available_at, _SOURCE_CODES[it.source], sum(_FLAG_BITS[flag] for flag in it.flags) if it.flags else 0, NULL,
    )


def _candle(it: Candle, pos: int, instrument: int) -> Row:
    return (
        pos, instrument, it.interval, it.start, it.end, it.revision, int(it.final), int(it.complete), it.source,
        plain(it.open), plain(it.high), plain(it.low), plain(it.close), plain(it.volume), _text(it.quote_volume),
        _text(it.vwap), NULL if it.trades is None else it.trades, _text(it.taker_buy_volume), it.exchange_time,
        it.received_time, it.available_at,
    )


def _quote(it: Quote, pos: int, instrument: int) -> Row:
    bid, ask = it.bid or (None, None), it.ask or (None, None)
    return (
        pos, instrument, _text(bid[0]), _text(bid[1]), _text(ask[0]), _text(ask[1]),
        NULL if it.sequence is None else it.sequence, it.exchange_time, it.received_time, it.available_at,
    )


def _snapshot(it: BookSnapshot, pos: int, instrument: int) -> Row:
    return pos, instrument, it.sequence, encode(it), it.exchange_time, it.received_time, it.available_at


def _delta(it: BookDelta, pos: int, instrument: int) -> Row:
    return pos, instrument, it.after, it.sequence, encode(it), it.exchange_time, it.received_time, it.available_at


def _status(it: FeedStatus, pos: int, instrument: int) -> Row:
    return (
        pos, instrument, _CHANNEL_CODES[it.channel], _STATE_CODES[it.state], it.since, it.reason, it.received_time,
        it.available_at,
    )


def _opened(it: GapOpened, pos: int, instrument: int) -> Row:
    return (
        pos, instrument, _CHANNEL_CODES[it.channel], it.after, it.before, it.from_time, it.to_time, "open", it.cause, 0,
        it.available_at,
    )


def _filling(it: GapFilling, pos: int, instrument: int) -> Row:
    return (
        pos, instrument, _CHANNEL_CODES[it.channel], it.after, it.before, it.from_time, it.to_time, "filling", it.cause,
        it.recovered, it.available_at,
    )


def _closed(it: GapClosed, pos: int, instrument: int) -> Row:
    state = "healed" if it.healed else "unhealable"
    return (
        pos, instrument, _CHANNEL_CODES[it.channel], it.after, it.before, it.from_time, it.to_time, state, it.cause,
        it.recovered, it.available_at,
    )


def _covered(it: Covered, pos: int, instrument: int) -> Row:
    return pos, instrument, _CHANNEL_CODES[it.channel], it.first, it.last, it.from_time, it.to_time


def _error(it: FeedError, pos: int, _instrument: int) -> Row:
    return pos, it.venue, it.symbol, it.channel, it.reason, it.text, it.received_time, it.available_at


def _text(value: Decimal | None) -> str | float:
    return NULL if value is None else plain(value)


_CHANNEL_CODES = {it: code for code, it in enumerate(CHANNELS)}
_SIDE_CODES = {it: code for code, it in enumerate(SIDES)}
_SOURCE_CODES = {it: code for code, it in enumerate(SOURCES)}
_FLAG_BITS = {it: 1 << bit for bit, it in enumerate(FLAGS)}
_STATE_CODES = {it: code for code, it in enumerate(STATES)}

WRITERS: Mapping[type, tuple[str, Callable[[Any, int, int], Row]]] = {
    Trade: ("trades", _trade), Candle: ("candles", _candle), Quote: ("quotes", _quote),
    BookSnapshot: ("book_snapshots", _snapshot), BookDelta: ("book_deltas", _delta),
    FeedStatus: ("feed_status", _status), GapOpened: ("gaps", _opened), GapFilling: ("gaps", _filling),
    GapClosed: ("gaps", _closed), Covered: ("coverage", _covered), FeedError: ("quarantine", _error),
}
"""Which table a record goes to, and how it becomes its row (record, pos, instrument), in which NULL stands for None.

What is not here has no table.
"""
