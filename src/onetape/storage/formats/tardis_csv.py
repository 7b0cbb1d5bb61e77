"""Reads CSV files of Tardis: their rows become the events that they were."""
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeVar

from onetape.model import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    FeedStatus,
    InstrumentId,
    Levels,
    Quote,
    Side,
    Source,
    Trade,
    TrustState,
)
from onetape.model.levels import Level
from onetape.model.numbers import level_number, positive
from onetape.storage.formats.exchanges import instrument
from onetape.storage.formats.rows import REFUSALS, Read, Wanted, after, bad, checked, columns, fields, micros
from onetape.storage.formats.source import Lines
from onetape.storage.formats.tardis import BOOKS, HEAD, TRADES
from onetape.tape.validation import skipped

QUOTES = f"{HEAD},ask_amount,ask_price,bid_price,bid_amount"
DEEPEST = 1_000
MOST_LEVELS = 500_000
"""Of one message: a book has no more."""
NEW = "the recorder had the book anew: what came before may have lacked something"

Find = Callable[[str, str], InstrumentId]


def reader(head: str) -> tuple[str, Read] | None:
    """By the first line: the name of the layout, and what reads the rows behind; None: it is none of Tardis's."""
    depth = head.count(".price") // 2
    if head == TRADES:
        return "trades", trades
    if head == BOOKS:
        return "incremental_book_L2", books
    if head == QUOTES:
        return "quotes", quotes
    if 0 < depth <= DEEPEST and head == _snapshots(depth):
        return f"book_snapshot_{depth}", partial(snapshots, depth=depth)
    return None


def _snapshots(depth: int) -> str:
    levels = (f"asks[{at}].price,asks[{at}].amount,bids[{at}].price,bids[{at}].amount" for at in range(depth))
    return ",".join((HEAD, *levels))


def trades(lines: Lines, wanted: Wanted) -> Iterator[tuple[int, Event]]:
    """Kraken's have no ids before 2024: the time and a count of those of the same time stand for them.

    Where the venue did not say who took, Tardis says ``unknown``: such a trade is none of ours, and is skipped.
    """
    find, today, channel = _finder(wanted), wanted.today, wanted.channel or Channel.TRADES
    counted: dict[InstrumentId, tuple[str, int]] = {}
    for line, text in lines:
        try:
            exchange, symbol, timestamp, local, name, side, price, amount = fields(text, 8)
            id = find(exchange, symbol)
            if not name:
                time, nth = counted.get(id, ("", 0))
                nth = nth + 1 if time == timestamp else 0
                counted[id] = timestamp, nth
                name, before = f"{timestamp}-{nth}", None
            else:
                before = after(id, _name(name))
            received = micros(local, today)
            event = checked(Trade(
                venue=id.venue, symbol=id.symbol, exchange_time=micros(timestamp, today), received_time=received,
                available_at=received, channel=channel, id=name, after=before, price=positive(price),
                size=positive(amount), side=_side_of(_TRADED, side), source=Source.BACKFILL,
            ), today)
        except REFUSALS as error:
            raise bad(wanted, line, error) from error
        yield line, event if side in _SIDES else skipped(event, SIDELESS, event.exchange_time, received)


def books(lines: Lines, wanted: Wanted) -> Iterator[tuple[int, Event]]:
    """Rows of one instrument and of the same times are one message; messages are counted, for Tardis has no numbers.

    A snapshot behind changes means that the recorder had lost its connection: the break is told before it.
    """
    find, today = _finder(wanted), wanted.today
    count: dict[InstrumentId, int] = {}
    snapped: dict[InstrumentId, bool] = {}
    head, start, bids, asks = ("", "", "", "", ""), 0, list[Level](), list[Level]()

    def told() -> Iterator[Event]:
        id, whole = find(*head[:2]), head[4] == "true"
        count[id] = count.get(id, 0) + 1
        times = micros(head[2], today), micros(head[3], today)
        yield from _message(id, *times, count[id], (bids, asks), whole=whole, anew=whole and not snapped.get(id, True))
        snapped[id] = whole

    line = 0
    for line, text in lines:
        try:
            *key, side, price, amount = fields(text, 8)
            if tuple(key) != head:
                if start:
                    for it in told():
                        yield line - 1, it
                head, start, bids, asks = (key[0], key[1], key[2], key[3], key[4]), line, [], []
                if head[4] not in ("true", "false"):
                    raise ValueError(f"is_snapshot is true or false: {head[4][:20]!r}")
                find(*head[:2]), micros(head[2], today), micros(head[3], today)
            (bids if _side_of(_BOOK_SIDES, side) else asks).append(_level(price, amount))
            if line - start > MOST_LEVELS:
                raise ValueError(f"more than {MOST_LEVELS:,} levels in one message")
        except REFUSALS as error:
            raise bad(wanted, line, error) from error
    if start:
        for it in told():
            yield line, it


def _message(
    id: InstrumentId, time: int, at: int, nth: int, levels: tuple[list[Level], list[Level]], *, whole: bool, anew: bool,
) -> Iterator[Event]:
    bids, asks = map(Levels.of, levels)
    if not whole:
        yield BookDelta(
            venue=id.venue, symbol=id.symbol, exchange_time=time, received_time=at, available_at=at, after=nth - 1,
            sequence=nth, bids=bids, asks=asks,
        )
        return
    if anew:
        yield _status(id, time, at, TrustState.STALE)
    yield BookSnapshot(
        venue=id.venue, symbol=id.symbol, exchange_time=time, received_time=at, available_at=at, sequence=nth,
        bids=bids, asks=asks, depth=0, verification="none",
    )
    if anew:
        yield _status(id, time, at, TrustState.LIVE)


def quotes(lines: Lines, wanted: Wanted) -> Iterator[tuple[int, Event]]:
    find, today = _finder(wanted), wanted.today
    for line, text in lines:
        try:
            exchange, symbol, timestamp, local, ask_size, ask, bid, bid_size = fields(text, 8)
            id, received = find(exchange, symbol), micros(local, today)
            event = Quote(
                venue=id.venue, symbol=id.symbol, exchange_time=micros(timestamp, today), received_time=received,
                available_at=received, bid=_level(bid, bid_size) if bid else None,
                ask=_level(ask, ask_size) if ask else None,
            )
        except REFUSALS as error:
            raise bad(wanted, line, error) from error
        yield line, event


def snapshots(lines: Lines, wanted: Wanted, depth: int) -> Iterator[tuple[int, Event]]:
    """Each row is the ``depth`` best levels of a book.

    They are numbered by lines and depth, so that those of another depth at the same time are others.
    """
    find, today = _finder(wanted), wanted.today
    for line, text in lines:
        try:
            exchange, symbol, timestamp, local, *levels = columns(text)
            if len(levels) != 4 * depth:
                raise ValueError(f"{len(levels) + 4} columns, not {4 * depth + 4}")
            id, received = find(exchange, symbol), micros(local, today)
            asks, bids = _side(levels[0::4], levels[1::4]), _side(levels[2::4], levels[3::4])
            event = BookSnapshot(
                venue=id.venue, symbol=id.symbol, exchange_time=micros(timestamp, today), received_time=received,
                available_at=received, sequence=line << 10 | depth, bids=bids, asks=asks, depth=depth,
                verification="none",
            )
        except REFUSALS as error:
            raise bad(wanted, line, error) from error
        yield line, event


SIDELESS = "no side"
_SIDES = {"buy": Side.BUY, "sell": Side.SELL}
_TRADED = _SIDES | {"unknown": Side.BUY}  # so that all else of it is checked
_BOOK_SIDES = {"bid": True, "ask": False}
T = TypeVar("T")


def _side_of(sides: Mapping[str, T], text: str) -> T:
    side = sides.get(text)
    if side is None:
        raise ValueError(f"a side is {' or '.join(sides)}: {text[:20]!r}")
    return side


def _side(prices: Sequence[str], sizes: Sequence[str]) -> Levels:
    """Where a book has fewer levels, the columns of the others are empty."""
    return Levels.of([_level(price, size) for price, size in zip(prices, sizes, strict=True) if price or size])


def _level(price: str, size: str) -> Level:
    value = level_number(price)
    if not value:
        raise ValueError(f"a price must be more than zero: {price[:60]!r}")
    return value, level_number(size)


def _name(text: str) -> str:
    if len(text) > 100 or not text.isprintable():
        raise ValueError(f"not an id: {text[:40]!r}")
    return text


def _status(id: InstrumentId, time: int, at: int, state: TrustState) -> FeedStatus:
    return FeedStatus(
        venue=id.venue, symbol=id.symbol, exchange_time=time, received_time=at, available_at=at, channel=Channel.BOOK,
        state=state, since=at, reason=NEW if state is TrustState.STALE else "",
    )


def _finder(wanted: Wanted) -> Find:
    """Instruments by exchange and symbol, each judged once."""
    def find(exchange: str, symbol: str) -> InstrumentId:
        return instrument(exchange, wanted.symbol or symbol, wanted.venue)

    return lru_cache(maxsize=100_000)(find)
