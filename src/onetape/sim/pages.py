"""Where the rows of a page of trades are in each venue's body, and what an id, a time and a cursor is there."""
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import msgspec
from msgspec import Raw, Struct, json

from onetape.clock import MICROSECOND, MILLISECOND, SECOND

_NANOSECONDS_FROM = 10**12  # Kraken: smaller cursors are seconds
_OBJECT = json.Decoder(dict[str, Raw])
_ROWS = json.Decoder(list[Raw])
_OKX_OK = b'"0"'  # its errors have an empty list of rows
_ANY = "*"
"""Of an object: its first key, whatever it is called."""


class History(Struct, frozen=True, kw_only=True):
    """One request that lists trades."""

    path: str
    """A pattern; in Coinbase's the symbol is its group."""
    rows: tuple[str, ...] = ()
    """The keys from the body to the list of rows; none: it is the body."""
    id: str | int
    """Of a row: a key, or a place."""
    time: str | int
    symbol: str = ""
    """The parameter that names it."""
    cursor: str = ""
    """The parameter by which one goes on; empty: one cannot."""
    others: tuple[str, ...] = ()
    """Parameters that choose a page as well."""
    limit: str = "limit"
    default: int = 500
    """Rows, without a limit."""
    newest_first: bool = False


def _binance(base: str) -> tuple[History, ...]:
    prints = ("trades", "historicalTrades")
    return (
        *(History(path=f"{base}/{it}", id="id", time="time", symbol="symbol", cursor="fromId") for it in prints),
        History(path=f"{base}/aggTrades", id="a", time="T", symbol="symbol", cursor="fromId",
                others=("startTime", "endTime")),
    )


_EXCHANGE = History(
    path=r"/products/([^/]+)/trades", id="trade_id", time="time", cursor="after", others=("before",), default=1_000,
    newest_first=True,
)

HISTORIES: Mapping[str, Sequence[History]] = MappingProxyType({
    "binance": _binance("/api/v3"),
    "binance-usdm": _binance("/fapi/v1"),
    "coinbase-exchange": (_EXCHANGE,),
    "coinbase": (_EXCHANGE, History(
        path=r"/api/v3/brokerage/market/products/([^/]+)/ticker", rows=("trades",), id="trade_id", time="time",
        others=("start", "end"), default=100, newest_first=True,
    )),
    "kraken": (History(
        path="/0/public/Trades", rows=("result", _ANY), id=6, time=2, symbol="pair", cursor="since", limit="count",
        default=1_000,
    ),),
    "okx": (
        History(path="/api/v5/market/trades", rows=("data",), id="tradeId", time="ts", symbol="instId", default=100,
                newest_first=True),
        History(path="/api/v5/market/history-trades", rows=("data",), id="tradeId", time="ts", symbol="instId",
                cursor="after", others=("before", "type"), default=100, newest_first=True),
    ),
    "bybit": (History(
        path="/v5/market/recent-trade", rows=("result", "list"), id="execId", time="time", symbol="symbol",
        newest_first=True,
    ),),
})
"""By venue. Binance: an array, oldest first. Coinbase Exchange: an array, newest first, the cursors in headers.
Advanced Trade: ``{"trades":[...],"best_bid":...}``. Kraken: ``{"error":[],"result":{PAIR:[[...]],"last":"ns"}}``.
OKX: ``{"code":"0","msg":"","data":[...]}``. Bybit: ``{"retCode":0,...,"result":{"category":...,"list":[...]},...}``."""


class Target(Struct, frozen=True):
    """A request that lists trades, taken apart."""

    history: History
    path: str
    query: Mapping[str, str]

    @property
    def symbol(self) -> str:
        """As the client spells it."""
        found = re.fullmatch(self.history.path, self.path)
        return self.query.get(self.history.symbol, "") if self.history.symbol or not found else found[1]

    @property
    def limit(self) -> int:
        text = self.query.get(self.history.limit, "")
        return int(text) if _is_number(text) else self.history.default

    def about(self, symbol: str) -> str:
        """The same of another symbol: its newest page."""
        it = self.history
        kept = {key: text for key, text in self.query.items() if key not in (it.cursor, *it.others)}
        if it.symbol:
            return _joined(self.path, kept | {it.symbol: symbol})
        return _joined(self.path.replace(f"/{self.symbol}/", f"/{quote(symbol)}/"), kept)

    def moved(self, rows: int) -> str | None:
        """The same from so many ids later; None where there is no cursor. Kraken: later by a second for ten rows."""
        text = self.query.get(self.history.cursor, "")
        if not _is_number(text) or self.query.get("type") == "2":  # OKX pages by time then
            return None
        by = rows
        if self.history.cursor == "since":
            by = rows // 10 * (1 if int(text) < _NANOSECONDS_FROM else SECOND)
        return _joined(self.path, {**self.query, self.history.cursor: str(max(int(text) + by, 0))})


def target_of(venue: str, target: str) -> Target | None:
    """None: it asks for something else."""
    path, _, query = target.partition("?")
    for it in HISTORIES.get(venue, ()):
        if re.fullmatch(it.path, path):
            return Target(it, path, dict(parse_qsl(query, keep_blank_values=True)))
    return None


class Page:
    """A body whose rows can be exchanged. All that is not changed keeps its very bytes."""

    def __init__(self, history: History, body: bytes) -> None:
        """Raises ValueError: there are no rows in it, as in an error."""
        self._history = history
        self._layers: list[tuple[dict[str, Raw], str]] = []
        inner: bytes | Raw = body
        try:
            for name in history.rows:
                layer = _OBJECT.decode(inner)
                key = next(iter(layer)) if name == _ANY else name
                self._layers.append((layer, key))
                inner = layer[key]
            self.rows: list[Raw] = _ROWS.decode(inner)
            if any(bytes(layer.get("code", _OKX_OK)) != _OKX_OK for layer, _ in self._layers):
                raise ValueError("it is an error")
        except (msgspec.DecodeError, KeyError, StopIteration) as error:
            raise ValueError("there are no rows in it") from error

    def body(self) -> bytes:
        text = json.encode(self.rows)
        for layer, key in reversed(self._layers):
            text = json.encode(layer | {key: Raw(text)})
        return text

    def id(self, row: Raw) -> str:
        return str(json.decode(row)[self._history.id])

    def ids(self) -> list[str]:
        return [self.id(it) for it in self.rows]

    def time(self, row: Raw) -> int:
        """As the venue's clock shows it, in ns."""
        return moment(json.decode(row)[self._history.time])


def moment(told: Any) -> int:
    """ISO 8601, or a number of seconds, ms or us since the epoch, which its size tells apart."""
    if isinstance(told, str) and "T" in told:
        return round(datetime.fromisoformat(told).timestamp() * 1e6) * MICROSECOND
    number = float(told)
    if number < 1e11:
        return round(number * 1e6) * MICROSECOND
    return round(number) * (MILLISECOND if number < 1e14 else MICROSECOND)


def _joined(path: str, query: Mapping[str, str]) -> str:
    return f"{path}?{urlencode(query)}" if query else path


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20
