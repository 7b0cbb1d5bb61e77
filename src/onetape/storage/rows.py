"""Rows of the lake and of the journal, and the events that they were."""
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import lru_cache
from typing import Any

from msgspec import Struct

from onetape.model import Candle, Channel, Flag, InstrumentId, Trade
from onetape.storage.catalog import TapeId
from onetape.storage.schema import CHANNELS, FLAGS, SIDES, SOURCES
from onetape.storage.tables import DIGITS

Place = tuple[int, str, int]
"""Where a row stands among others: its time, its writer, its position."""
Placed = tuple[Place, Any]
Row = Sequence[Any]

TRADE_IN_LAKE = (
    "exchange_time, writer, pos, venue, symbol, channel, id, first_id, last_id, side, price::VARCHAR, price_digits,"
    " size::VARCHAR, size_digits, flags, received_time, available_at, source")
TRADE_IN_JOURNAL = (
    "exchange_time, pos, instrument, channel, id, first_id, last_id, side, price, size, scales, flags, received_time,"
    " available_at, source")

_HEAD = '"end", writer, pos, venue, symbol, '
_FIELDS = "interval, start, revision, final, complete, source, trades, exchange_time, received_time, available_at"
_PRICES = ("open", "high", "low", "close", "volume", "vwap", "taker_buy_volume")  # in the order of their digits
CANDLE_IN_LAKE = (
    f"{_HEAD}{_FIELDS}, {', '.join(f'{it}::VARCHAR' for it in _PRICES)}, digits, quote_volume::VARCHAR,"
    " quote_volume_digits, quote_volume_exact")
CANDLE_IN_JOURNAL = f'"end", pos, instrument, {_FIELDS}, {", ".join(_PRICES)}, quote_volume'

_CHANNELS = {str(it): it for it in CHANNELS}
_SIDES = {str(it): it for it in SIDES}
_SOURCES = {str(it): it for it in SOURCES}


def trades_of_lake(rows: Iterable[Row], proven: AbstractSet[TapeId]) -> Iterator[Placed]:
    for (
        time, writer, pos, venue, symbol, channel, id, first, last, side, price, price_digits, size, size_digits, flags,
        received, available, source,
    ) in rows:
        known = _CHANNELS[channel]
        yield (time, writer, pos), Trade(
            venue=venue, symbol=symbol, exchange_time=time, received_time=received, available_at=available,
            channel=known, id=id, after=_after(id, first, last) if (venue, symbol, known) in proven else None,
            price=cut(price, price_digits), size=cut(size, size_digits),
            side=_SIDES[side], source=_SOURCES[source], first_id=first, last_id=last,
            flags=tuple(map(Flag, flags.split(","))) if flags else (),
        )


def trades_of_journal(
    rows: Iterable[Row], writer: str, known: Mapping[int, InstrumentId], proven: AbstractSet[TapeId],
) -> Iterator[Placed]:
    for (
        time, pos, instrument, channel, id, first, last, side, price, size, scales, flags, received, available, source,
    ) in rows:
        venue, symbol = known[instrument]
        texts = str(id), None if first is None else str(first), None if last is None else str(last)
        yield (time, writer, pos), Trade(
            venue=venue, symbol=symbol, exchange_time=time, received_time=received, available_at=available,
            channel=CHANNELS[channel], id=texts[0],
            after=_after(*texts) if (venue, symbol, CHANNELS[channel]) in proven else None,
            price=scaled(price, scales >> 8), size=scaled(size, scales & 255), side=SIDES[side],
            source=SOURCES[source], first_id=texts[1], last_id=texts[2],
            flags=tuple(it for bit, it in enumerate(FLAGS) if flags >> bit & 1) if flags else (),
        )


def _after(id: str, first: str | None, last: str | None) -> int | None:
    """The id before a trade, on a tape that has coverage: its ids are consecutive, and only then is there any.

    Where a trade is named by the last of the matches that it merges (OKX), it comes after the one before the first.
    """
    whole = first if last == id and first is not None else id
    return int(whole) - 1 if whole.isdecimal() else None


def candles_of_lake(rows: Iterable[Row]) -> Iterator[Placed]:
    for end, writer, pos, venue, symbol, *rest in rows:
        fields, prices, digits = rest[:10], rest[10:17], rest[17]
        quote_volume = rest[20] if rest[18] is None else cut(rest[18], rest[19])
        numbers = [None if it is None else cut(it, of) for it, of in zip(prices, digits, strict=True)]
        yield (end, writer, pos), _candle(venue, symbol, end, fields, numbers, _number(quote_volume))


def candles_of_journal(rows: Iterable[Row], writer: str, known: Mapping[int, InstrumentId]) -> Iterator[Placed]:
    for end, pos, instrument, *rest in rows:
        numbers = list(map(_number, rest[10:17]))
        yield (end, writer, pos), _candle(*known[instrument], end, rest[:10], numbers, _number(rest[17]))


def _candle(
    venue: str, symbol: str, end: int, fields: Row, numbers: Sequence[Decimal | None], quote_volume: Decimal | None,
) -> Candle:
    interval, start, revision, final, complete, source, trades, exchange_time, received_time, available_at = fields
    return Candle(
        venue=venue, symbol=symbol, exchange_time=exchange_time, received_time=received_time, available_at=available_at,
        interval=interval, start=start, end=end, trades=trades, complete=bool(complete), final=bool(final),
        source=source, revision=revision, quote_volume=quote_volume,
        **dict(zip(_PRICES, numbers, strict=True)),  # type: ignore[arg-type]  # only vwap and the last may be None
    )


def _number(value: str | Decimal | None) -> Decimal | None:
    return None if value is None else Decimal(value)


@lru_cache(maxsize=16_384)
def scaled(whole: int | str, scale: int) -> Decimal:
    """The Decimal of a mantissa, exact whatever the precision of the context."""
    return Decimal(f"{whole}E-{scale}")


@lru_cache(maxsize=16_384)  # the same prices and sizes come again and again
def cut(text: str, digits: int) -> Decimal:
    """The text of a DECIMAL(38,18) to the digits that it had behind the point."""
    return Decimal(text[: len(text) - DIGITS + digits] if digits else text[: -DIGITS - 1])


class StoredGap(Struct, frozen=True):
    """Something missing on a tape, as far as it is known now; the journal and the lake have a row for each step of it.

    ``open``: told, and to be asked for. ``filling``: the venue was asked. ``healed``: nothing is missing any more.
    ``unhealable``: the venue does not give it, for the reason in ``cause``.
    """

    venue: str
    symbol: str
    channel: Channel
    after: str
    """The id before what is missing."""
    before: str
    """The id behind it."""
    from_time: int
    """Exchange times, ns, of these two."""
    to_time: int
    state: str
    detected: str
    """How it was found."""
    cause: str
    """Why it is in this state."""
    attempts: int
    """To fill it, this process's and earlier ones'."""
    recovered: int
    """Trades that were found again."""
    opened_at: int
    """When it was first told, ns."""
    available_at: int
    """When it came into this state, ns: of one that is healed or unhealable, when it was closed."""


GapStep = tuple[str, str, Channel, str, str, int, int, str, str, int, int]
"""A row of the table ``gaps``: venue, symbol, channel, after, before, from and to time, state, cause, recovered and
when it became available."""
_FINAL = {"open": 0, "filling": 0, "unhealable": 1, "healed": 2}
"""What an older recording has healed was healed after it was opened, whatever its times say."""


def gap_of(steps: Sequence[GapStep]) -> StoredGap:
    """What has become of one gap; its steps in the order in which they were stored."""
    ordered = sorted(steps, key=lambda it: it[10])
    first, last = ordered[0], max(ordered, key=lambda it: (_FINAL[it[7]], it[10]))
    opened = next((it for it in ordered if it[7] == "open"), first)
    return StoredGap(
        *last[:8], detected=opened[8], cause=last[8], attempts=sum(it[7] == "filling" for it in steps),
        recovered=last[9], opened_at=first[10], available_at=last[10],
    )
