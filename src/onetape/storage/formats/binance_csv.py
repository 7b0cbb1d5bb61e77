"""Reads the archives of https://data.binance.vision: trades, aggregates and candles, with a head or without.

They say nothing of when anybody heard of it: the time at the exchange stands for all three, that of a candle is its
end. The symbol stands in the name of the file alone; spot and futures differ by a column. Times of spot are
microseconds since 2025, all others milliseconds.
"""
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from onetape.clock import DAY, MILLISECOND, SECOND, interval_ns
from onetape.errors import UsageError
from onetape.model import Candle, Channel, Event, InstrumentId, Side, Source, Trade
from onetape.model.numbers import positive
from onetape.storage.formats.exchanges import instrument
from onetape.storage.formats.rows import (
    REFUSALS,
    Read,
    Wanted,
    bad,
    checked,
    fields,
    held,
    millis_or_micros,
    plain,
)
from onetape.storage.formats.source import Lines
from onetape.venues.base import whole

INTERVALS = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w")
_NAME = re.compile(  # BTCUSDT-aggTrades-2024-08-08.zip: no symbol has small letters
    r"((?:(?![a-z])\w)+)-(?:trades|aggTrades|\d+\w+)-\d{4}-\d\d(?:-\d\d)?\.(?:zip|csv)(?:\.gz|\.zst)?")
_MAKER = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_HEADS = {
    "id": "trades", "trade_id": "trades", "agg_trade_id": "aggTrades", "open_time": "klines",
}


def recognised(first: str) -> tuple[str, bool] | None:
    """By the first line: trades, aggTrades or klines; and whether that line is a head. None: neither."""
    columns = first.split(",")
    if columns[0] in _HEADS and len(columns) in (6, 7, 8, 12):
        return _HEADS[columns[0]], True
    if not columns[0].isdecimal():
        return None
    if len(columns) == 12:
        return "klines", False
    if len(columns) in (6, 7) and columns[5] in _MAKER:
        return "trades", False
    if len(columns) in (7, 8) and columns[6] in _MAKER:
        return "aggTrades", False
    return None


def reader(layout: str) -> Read:
    return {"trades": trades, "aggTrades": aggregates, "klines": klines}[layout]


def trades(lines: Lines, wanted: Wanted) -> Iterator[tuple[int, Event]]:
    """id, price, quantity, quote quantity, time, buyer is maker; of spot also whether it was the best match."""
    id, count = None, 0  # columns: as many as in the first row, for a row that was cut has fewer
    for line, text in lines:
        try:
            count = count or (7 if text.count(",") == 7 - 1 else 6)
            columns = fields(text, count)
            id = id or _instrument(wanted, spot=count == 7)
            yield line, _trade(wanted, id, columns[0], columns[1], columns[2], columns[4], columns[5])
        except REFUSALS as error:
            raise bad(wanted, line, error) from error


def aggregates(lines: Lines, wanted: Wanted) -> Iterator[tuple[int, Event]]:
    """id, price, quantity, first and last single trade, time, buyer is maker; of spot also whether the best match."""
    id, count = None, 0  # columns: as many as in the first row, for a row that was cut has fewer
    for line, text in lines:
        try:
            count = count or (8 if text.count(",") == 8 - 1 else 7)
            columns = fields(text, count)
            id = id or _instrument(wanted, spot=count == 8)
            singles = columns[3], columns[4]
            yield line, _trade(wanted, id, columns[0], columns[1], columns[2], columns[5], columns[6], singles)
        except REFUSALS as error:
            raise bad(wanted, line, error) from error


def klines(lines: Lines, wanted: Wanted) -> Iterator[tuple[int, Event]]:
    """Start, open, high, low, close, volume, last moment, quote volume, trades, volume of buyers, likewise in quote."""
    id = _instrument(wanted, spot=None)
    for line, text in lines:
        try:
            yield line, _candle(id, fields(text, 12), wanted)
        except REFUSALS as error:
            raise bad(wanted, line, error) from error


def _trade(
    wanted: Wanted, id: InstrumentId, name: str, price: str, size: str, time: str, maker: str,
    singles: tuple[str, str] | None = None,
) -> Trade:
    at, number = millis_or_micros(time, wanted.today), whole(name)
    if maker not in _MAKER:
        raise ValueError(f"the buyer is the maker, or not: {maker[:20]!r}")
    first, last = (_single(it) for it in singles) if singles else (None, None)
    return checked(Trade(
        venue=id.venue, symbol=id.symbol, exchange_time=at, received_time=at, available_at=at,
        channel=Channel.TRADES if singles is None else Channel.AGG_TRADES, id=str(number), after=number - 1,
        price=positive(plain(price)), size=positive(plain(size)), side=Side.SELL if _MAKER[maker] else Side.BUY,
        source=Source.BACKFILL, first_id=first, last_id=last,
    ), wanted.today)


def _single(text: str) -> str | None:
    """-1: there is none."""
    return None if text == "-1" else str(whole(text))


def _candle(id: InstrumentId, columns: list[str], wanted: Wanted) -> Candle:
    start, last = (millis_or_micros(columns[at], wanted.today) for at in (0, 6))
    end = last + (MILLISECOND if last % SECOND == 999 * MILLISECOND else 1_000)
    open, high, low, close = (held(plain(it)) for it in columns[1:5])
    if not 0 < low <= min(open, close) <= max(open, close) <= high:
        raise ValueError(f"not a candle: {','.join(columns[1:5])[:80]}")
    if end > wanted.today:
        raise ValueError("a candle that is not over")
    return Candle(
        venue=id.venue, symbol=id.symbol, exchange_time=end, received_time=end, available_at=end,
        interval=_interval(start, end), start=start, end=end, open=open, high=high, low=low, close=close,
        volume=held(plain(columns[5])), quote_volume=held(plain(columns[7])), vwap=None, trades=whole(columns[8]),
        taker_buy_volume=held(plain(columns[9])), complete=True, final=True, source="venue",
    )


_LENGTHS = {interval_ns(it): it for it in INTERVALS}


def _interval(start: int, end: int) -> str:
    if (name := _LENGTHS.get(end - start)) is not None:
        return name
    first, last = (datetime.fromtimestamp(it // SECOND, UTC) for it in (start, end))
    if first.day == last.day == 1 and start % DAY == end % DAY == 0 and 27 * DAY < end - start < 32 * DAY:
        return "1M"
    raise ValueError(f"no interval is {(end - start) // MILLISECOND} ms long")


def _instrument(wanted: Wanted, *, spot: bool | None) -> InstrumentId:
    """Raises UsageError: the file does not say of what it is."""
    venue = wanted.venue or ("binance" if spot else None)
    if venue is None:
        raise UsageError(
            f"{wanted.path} does not say which market it is of: add --venue binance or --venue binance-usdm")
    if spot and venue == "binance-usdm":
        raise UsageError(f"{wanted.path} is of the spot market: leave out --venue {venue}")
    named = _NAME.fullmatch(wanted.path.name)
    symbol = wanted.symbol or (named[1] if named else None)
    if symbol is None:
        raise UsageError(f"{wanted.path} does not say which symbol it is of: add --symbol, as in --symbol BTCUSDT")
    try:
        return instrument(venue, symbol, venue)
    except ValueError as error:
        raise UsageError(f"--symbol: {error}") from error
