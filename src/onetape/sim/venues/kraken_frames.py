"""The text of every frame that the simulated Kraken sends: numbers bare and with all their digits, times RFC 3339."""
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

from msgspec import json

from onetape.clock import MINUTE, SECOND
from onetape.sim.base import Listing, Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Day, Truth

HEARTBEAT = b'{"channel":"heartbeat"}'
EXCEEDED = b'{"Error":"Exceeded msg rate"}'
ANSWER_NS = 46_000  # between the two times of an ack, as captured
OTHERWISE = "0.0001"
MINIMUM = {"BTC": "0.00005", "ETH": "0.002", "SOL": "0.06", "DOGE": "13"}
"""The size of an order, the same on WebSocket and REST."""


def micros(time: int) -> str:
    """ns to ``2026-10-05T12:00:43.105193Z``: cut, not rounded, so that what happened apart stays apart."""
    return f"{_second(time // SECOND)}.{time % SECOND // 1_000:06d}Z"


def nanos(time: int) -> str:
    """ns to ``2026-10-05T12:00:00.000000000Z``."""
    return f"{_second(time // SECOND)}.{time % SECOND:09d}Z"


@lru_cache(maxsize=4_096)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def digits(step: Decimal) -> int:
    """After the point."""
    return max(0, -int(step.as_tuple().exponent))


def signed(truth: Truth, ticks: int) -> str:
    """A price, or the difference of two."""
    return truth.price_text(ticks) if ticks >= 0 else f"-{truth.price_text(-ticks)}"


def market_order(match: Match) -> bool:
    """Whether the taker's order was a market order: one order, one answer, on WebSocket and REST alike."""
    return match.time // 1_000 % 3 == 0


# --- what the venue says of itself and of a request (sections 3 and 3.1) ----------------------------------------------

def status(system: str, connection_id: int) -> bytes:
    return (
        f'{{"channel":"status","type":"update","data":[{{"version":"2.0.10","system":"{system}","api_version":"v2",'
        f'"connection_id":{connection_id},"upcoming_maintenance":[],"emergency":[]}}]}}'
    ).encode()


def done(method: str, now: int, req_id: int | None, result: Mapping[str, object] | None = None) -> bytes:
    """A request that was understood and obeyed; a pong has no result."""
    body = {} if result is None else {"result": result, "success": True}
    return json.encode({"method": method, **body, **_times(now, req_id)})


def failed(
    error: str, now: int, method: str | None = None, req_id: int | None = None, symbol: str | None = None,
) -> bytes:
    """A failure has no result; the symbol, if it is about one, stands at top level (section 3)."""
    about = {"method": method, "success": False, "symbol": symbol, **_times(now, req_id)}
    return json.encode({"error": error} | {key: value for key, value in about.items() if value is not None})


def _times(now: int, req_id: int | None) -> dict[str, object]:
    times: dict[str, object] = {"time_in": micros(now), "time_out": micros(now + ANSWER_NS)}
    return times if req_id is None else times | {"req_id": req_id}


# --- market data (section 5) ------------------------------------------------------------------------------------------

def trade_row(truth: Truth, match: Match, stamp: str) -> str:
    return (
        f'{{"symbol":"{truth.listing.symbol}","side":"{"buy" if match.buy else "sell"}",'
        f'"price":{truth.price_text(match.price)},"qty":{truth.size_text(match.size)},'
        f'"ord_type":"{"market" if market_order(match) else "limit"}","trade_id":{match.id},"timestamp":"{stamp}"}}'
    )


def trades(kind: str, rows: Iterable[str]) -> bytes:
    return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'.encode()


def book(kind: str, symbol: str, bids: str, asks: str, checksum: int, stamp: str) -> bytes:
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],'
        f'"checksum":{checksum},"timestamp":"{stamp}"}}]}}'
    ).encode()


def level(truth: Truth, price: int, size: int) -> str:
    return f'{{"price":{truth.price_text(price)},"qty":{truth.size_text(size)}}}'


def ticker(kind: str, truth: Truth, bid: tuple[int, int], ask: tuple[int, int], day: Day, stamp: str) -> bytes:
    price, size = truth.price_text, truth.size_text
    change = day.last - day.open
    percent = 100 * change / day.open if day.open else 0.0
    return (
        f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{truth.listing.symbol}",'
        f'"bid":{price(bid[0])},"bid_qty":{size(bid[1])},"ask":{price(ask[0])},"ask_qty":{size(ask[1])},'
        f'"last":{price(day.last)},"volume":{size(day.volume)},"vwap":{price(average(day.quote, day.volume))},'
        f'"low":{price(day.low)},"high":{price(day.high)},"change":{signed(truth, change)},'
        f'"change_pct":{percent:.2f},"trades":{day.trades},"timestamp":"{stamp}"}}]}}'
    ).encode()


def average(quote: int, volume: int) -> int:
    """The volume-weighted price, to the nearest tick."""
    return (2 * quote + volume) // (2 * volume) if volume else 0


def candle_row(truth: Truth, candle: Kline, minutes: int) -> str:
    """The row's own ``timestamp`` is the interval's END, and deprecated (section 5.3)."""
    price = truth.price_text
    return (
        f'{{"symbol":"{truth.listing.symbol}","open":{price(candle.open)},"high":{price(candle.high)},'
        f'"low":{price(candle.low)},"close":{price(candle.close)},"trades":{candle.trades},'
        f'"volume":{truth.size_text(candle.volume)},"vwap":{price(average(candle.quote, candle.volume))},'
        f'"interval_begin":"{nanos(candle.start)}","interval":{minutes},'
        f'"timestamp":"{micros(candle.start + minutes * MINUTE)}"}}'
    )


def candles(kind: str, rows: Iterable[str], stamp: str) -> bytes:
    return f'{{"channel":"ohlc","type":"{kind}","timestamp":"{stamp}","data":[{",".join(rows)}]}}'.encode()


# --- the universe (section 5.4) ---------------------------------------------------------------------------------------

def instruments(kind: str, listings: Iterable[Listing], pair_status: str) -> bytes:
    """``data`` is an object here, unlike everywhere else; an update tells of pairs alone."""
    listings = tuple(listings)
    names = sorted({name for listing in listings for name in (listing.base, listing.quote)})
    assets = ",".join(_asset(name) for name in names) if kind == "snapshot" else ""
    pairs = ",".join(_pair(listing, pair_status) for listing in listings)
    return f'{{"channel":"instrument","type":"{kind}","data":{{"assets":[{assets}],"pairs":[{pairs}]}}}}'.encode()


def _asset(name: str) -> str:
    money = name in {"USD", "EUR"}
    return (
        f'{{"id":"{name}","status":"enabled","precision":{4 if money else 10},"precision_display":{2 if money else 5},'
        '"borrowable":true,"collateral_value":1.00,"margin_rate":0.015000}'
    )


def _pair(listing: Listing, pair_status: str) -> str:
    """Increments may come in exponent form, ``1e-08``: that is how floats are written below 0.0001."""
    tick, lot = float(listing.tick), float(listing.lot)
    minimum = Decimal(MINIMUM.get(listing.base, OTHERWISE)).quantize(listing.lot)
    return (
        f'{{"symbol":"{listing.symbol}","base":"{listing.base}","quote":"{listing.quote}","status":"{pair_status}",'
        f'"qty_precision":{digits(listing.lot)},"qty_increment":{lot!r},"price_precision":{digits(listing.tick)},'
        f'"price_increment":{tick!r},"tick_size":{tick!r},"cost_precision":5,"cost_min":0.50,"qty_min":{minimum:f},'
        '"marginable":true,"has_index":true,"margin_initial":0.20,"position_limit_long":300,"position_limit_short":240}'
    )
