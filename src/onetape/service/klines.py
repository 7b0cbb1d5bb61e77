"""Fetches a venue's own candles by REST, page after page, each of them verified before anybody sees it."""
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from msgspec import Struct

from onetape import venues
from onetape.clock import DAY, interval_ns
from onetape.errors import BadFrame, GiveUp, RestError, UsageError
from onetape.feed.governor import Priority
from onetape.feed.rest import Rest, Unanswered
from onetape.model import Candle, InstrumentId, Request
from onetape.service.choice import Choice
from onetape.venues.base import UNREADABLE, Venue

PAGES: Mapping[str, int] = MappingProxyType({
    "binance": 1_000, "binance-usdm": 1_500, "coinbase": 350, "coinbase-exchange": 300, "okx": 300, "bybit": 1_000,
})
"""Candles that the venue gives in one answer."""
NEWEST: Mapping[str, int] = MappingProxyType({"kraken": 720})
"""Where the venue gives the newest alone, whatever is asked for, up to the one that is still open."""
TRIES = 4
EMPTY_TRIES = 2
"""An answer without candles may be true: nobody traded, or the pair was not listed yet."""
BACKOFF_S = 1.0
"""Before the second try; before each further one twice as long."""


class Lacking(Struct, frozen=True):
    """Of this time, [start, end) in ns, nothing was had."""

    start: int
    end: int
    reason: str


async def klines(
    choice: Choice, rest: Rest, symbol: str, interval: str, start: int, end: int, *,
    lacking: Callable[[Lacking], None] = lambda _: None, pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> AsyncIterator[list[Candle]]:
    """The candles that begin in [start, end), ns, ``end`` being no later than now; pages ascending, never empty.

    One that is not closed yet has ``final=False``. A page that is empty, cut, foreign or unreadable is asked for again,
    a few times with longer and longer waits; what then is not had goes to ``lacking``: after an empty one the next
    is tried, after any other the rest is given up. Nothing is raised for what a venue says. Raises UsageError: the
    venue has no such candles.
    """
    venue, id = venues.create(choice.venue), InstrumentId(choice.venue, symbol)
    length = _length(venue, id, interval)
    step = PAGES.get(choice.venue, 1 << 62) * length
    cursor = start + -start % length if length <= DAY else start
    while cursor < end:
        until = min(cursor + step, end)
        asked = _Asked(id, interval, cursor, until, venue.candles_request(symbol, interval, cursor, until))
        try:
            page = await _page(venue, rest, asked, pause)
        except RestError as error:
            lacking(Lacking(cursor, end, error.reason))
            return
        if not page:
            lacking(Lacking(cursor, until, "the venue has none"))
            cursor = until
            continue
        if choice.venue in NEWEST and page[0].start > cursor:
            lacking(Lacking(cursor, page[0].start, f"the venue gives the newest {NEWEST[choice.venue]} alone"))
        yield page
        cursor = until if choice.venue in NEWEST else page[-1].end  # what is behind a cut is asked for by itself


class _Asked(Struct, frozen=True):
    id: InstrumentId
    interval: str
    start: int
    end: int
    request: Request


def _length(venue: Venue, id: InstrumentId, interval: str) -> int:
    """Of the interval, ns. Raises UsageError."""
    try:
        length = interval_ns(interval)
        venue.candles_request(id.symbol, interval, 0, length)
    except (LookupError, ValueError) as error:
        raise UsageError(f"{id.venue} gives no candles of {interval[:20]!r} by REST") from error
    return length


async def _page(
    venue: Venue, rest: Rest, asked: _Asked, pause: Callable[[float], Awaitable[object]],
) -> list[Candle]:
    """Empty: the venue says twice that there are none. Raises RestError: it is not to be had, for this reason."""
    reason = ""
    empty = 0
    for turn in range(TRIES):
        if turn:
            await pause(BACKOFF_S * 2 ** (turn - 1))
        try:
            reply = await rest.fetch(asked.request, Priority.BACKFILL)
            venue.check(reply.status, reply.headers, reply.body)
            page = venue.parse_candles(asked.request, reply.body, reply.received_at)
            page = verified(page, asked.id, asked.interval, asked.start, asked.end)
        except GiveUp:
            raise
        except (Unanswered, RestError) as error:  # a wait that the venue names is kept by the governor
            reason = str(error)
        except UNREADABLE as error:
            reason = f"an answer that cannot be used: {' '.join(str(error).split())[:200]}"
        else:
            empty += not page
            if page or empty >= EMPTY_TRIES:
                return page
            reason = "an empty answer"
    raise GiveUp(f"{reason} ({TRIES} times)")


def verified(
    page: Sequence[Candle], id: InstrumentId, interval: str, start: int, end: int,
) -> list[Candle]:
    """What begins in [start, end), if all of it is what was asked for. Raises BadFrame, which says what is not.

    Rows behind the end are no offence where a venue takes no end; they are left out.
    """
    length = interval_ns(interval)
    for it in page:
        if (it.venue, it.symbol, it.interval) != (*id, interval):
            raise BadFrame(f"a candle of {it.venue}:{it.symbol} {it.interval}", id.symbol)
        if it.end - it.start != length or (length <= DAY and it.start % length):
            raise BadFrame(f"a candle from {it.start} to {it.end} is none of {interval}", id.symbol)
        if it.start < start or (it.start >= end and id.venue not in NEWEST):
            raise BadFrame(f"a candle of another time: {it.start}", id.symbol)
        if not it.low <= min(it.open, it.close) <= max(it.open, it.close) <= it.high or it.low <= 0 or it.volume < 0:
            raise BadFrame(f"an impossible candle at {it.start}", id.symbol)
    for before, it in pairwise(page):
        if it.start < before.end:
            raise BadFrame(f"candles out of order, or twice, at {it.start}", id.symbol)
    return [it for it in page if it.start < end]
