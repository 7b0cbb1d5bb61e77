"""The simulated Kraken's public REST API: nearly every answer is HTTP 200 with an array of errors."""
from collections.abc import Callable, Mapping
from email.utils import formatdate
from urllib.parse import parse_qsl, urlsplit

from msgspec import Struct, json

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Truth
from onetape.sim.venues.kraken_channels import VENUE
from onetape.sim.venues.kraken_frames import micros
from onetape.sim.venues.kraken_requests import INTERVALS
from onetape.sim.venues.kraken_rows import (
    CLASSED,
    OLD_NAMES,
    asset_row,
    candle_rows,
    depth_row,
    names,
    old_asset,
    pair_row,
    ticker_row,
    trade_row,
)

PATH = "/0/public/"
CACHE_NS, CACHED = 2 * SECOND, 1_000
ANSWER_NS = 30 * MILLISECOND
CLIENTS = 10_000  # whose budgets are remembered
BURST, PER_SECOND = 15, 1.0  # of all calls but those counted by pair
PAIR_BURST, PAIR_PER_SECOND = 30, 1 / 3  # Trades and OHLC: section 7.5
MAX_DEPTH, MAX_TRADES = 500, 1_000
NANOSECONDS_FROM = 10**12  # smaller values of ``since`` are seconds
JSON = {"Content-Type": "application/json; charset=utf-8"}

Query = Mapping[str, str]


class Problem(Exception):
    """What goes into the array of errors."""


class Bucket:
    """So many at once, so many a second in the long run."""

    def __init__(self, capacity: float, per_second: float, now: int) -> None:
        self._capacity, self._per_second = capacity, per_second
        self._left, self._time = capacity, now

    def take(self, now: int) -> bool:
        """Whether there was one left."""
        self._left = min(self._capacity, self._left + (now - self._time) / SECOND * self._per_second)
        self._time = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Call(Struct, frozen=True):
    """One request: what is asked, and when."""

    query: Query
    now: int
    skew: int
    """Between the venue's times and true ones."""
    system: str


class KrakenRest:
    """Answers from the truths alone; keeps budgets and, like the venue's edge, answers of the last two seconds."""

    def __init__(self, truths: Mapping[str, Truth], faults: Faults) -> None:
        self._truths, self._faults = truths, faults
        self._names = {symbol: names(truth.listing) for symbol, truth in truths.items()}
        self._symbols = {alias: symbol for symbol in truths for alias in self._aliases(symbol)}
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._cache: dict[str, tuple[int, Response]] = {}
        self._endpoints: Mapping[str, Callable[[_Call], object]] = {
            "Time": self._time, "SystemStatus": self._status, "Assets": self._assets, "AssetPairs": self._pairs,
            "Ticker": self._ticker, "OHLC": self._candles, "Depth": self._depth, "Trades": self._trades,
        }

    def request(self, method: str, target: str, now: int, client: str, system: str, skew: int) -> Response:
        parts = urlsplit(target)
        if not parts.path.startswith(PATH) or method not in {"GET", "POST"}:
            return Response(404 if method in {"GET", "POST"} else 405, b"", after_ns=ANSWER_NS)
        until, cached = self._cache.get(target, (0, None))
        if cached is not None and now < until:
            return cached
        name, query = parts.path.removeprefix(PATH), dict(parse_qsl(parts.query))
        try:
            self._spend(name, query, client, now)
            endpoint = self._endpoints.get(name)
            if endpoint is None:
                raise Problem("EGeneral:Unknown method")
            response = _response([], endpoint(_Call(query, now, skew, system)))
        except Problem as problem:
            return _response([str(problem)])
        if name != "Time":  # that would be no time
            self._remember(target, now, response)
        return response

    def _remember(self, target: str, now: int, response: Response) -> None:
        if len(self._cache) >= CACHED:
            self._cache = {key: it for key, it in self._cache.items() if it[0] > now}
        if len(self._cache) < CACHED:
            self._cache[target] = now + CACHE_NS, response

    def _spend(self, name: str, query: Query, client: str, now: int) -> None:
        """Trades and OHLC are counted by address AND pair, the rest by address (section 7.5)."""
        by_pair = name in {"Trades", "OHLC"}
        key = client, self._symbols.get(query.get("pair", ""), "?") if by_pair else ""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = Bucket(PAIR_BURST, PAIR_PER_SECOND, now) if by_pair else Bucket(BURST, PER_SECOND, now)
        self._buckets[key] = bucket  # now the last: the first are forgotten
        if len(self._buckets) > CLIENTS:
            del self._buckets[next(iter(self._buckets))]
        if not bucket.take(now):
            raise Problem("EGeneral:Too many requests")

    # --- names (sections 7.1 and 10) ----------------------------------------------------------------------------------

    def _aliases(self, symbol: str) -> set[str]:
        it = self._names[symbol]
        return {it.key, it.altname, it.wsname, symbol, symbol.replace("/", "")}

    def _asked(self, call: _Call) -> list[str]:
        """The symbols of ``pair``; one that is unknown fails the whole request."""
        wanted = call.query.get("pair")
        if wanted is None:
            return [it for it in self._truths if self._faults.listed(VENUE, it, call.now)]
        symbols = [self._symbols.get(it) for it in wanted.split(",")]
        known = [it for it in symbols if it is not None and self._faults.listed(VENUE, it, call.now)]
        if len(known) < len(symbols):
            raise Problem("EQuery:Unknown asset pair")
        return known

    def _one(self, call: _Call) -> tuple[str, Truth]:
        """Of requests about one pair: the key of the result, and its truth."""
        if "pair" not in call.query:
            raise Problem("EGeneral:Invalid arguments")
        symbols = self._asked(call)
        if len(symbols) != 1:
            raise Problem("EQuery:Unknown asset pair")
        return self._key(symbols[0], call.query), self._truths[symbols[0]]

    def _key(self, symbol: str, query: Query) -> str:
        """Who asks by the name of WebSocket v2 is answered by it: python-kraken-sdk's books rely on that."""
        new = query.get("assetVersion") == "1" or symbol in query.get("pair", "").split(",")
        return symbol if new else self._names[symbol].key

    # --- endpoints ----------------------------------------------------------------------------------------------------

    def _time(self, call: _Call) -> object:
        seconds = (call.now + call.skew) // SECOND
        day, date, month, year, clock, _ = formatdate(seconds, usegmt=True).split()
        return {"unixtime": seconds, "rfc1123": f"{day} {date} {month} {year[2:]} {clock} +0000"}

    def _status(self, call: _Call) -> object:
        return {"status": call.system, "timestamp": micros(call.now + call.skew)[:19] + "Z"}

    def _assets(self, call: _Call) -> object:
        every = sorted({it for truth in self._truths.values() for it in (truth.listing.base, truth.listing.quote)})
        wanted = call.query.get("asset")
        if wanted is not None:
            names_of = {alias: it for it in every for alias in (it, OLD_NAMES.get(it, it), CLASSED.get(it, it))}
            if not all(it in names_of for it in wanted.split(",")):
                raise Problem("EQuery:Unknown asset")
            every = [names_of[it] for it in wanted.split(",")]
        new = call.query.get("assetVersion") == "1"
        return {it if new else old_asset(it): asset_row(it, new=new) for it in every}

    def _pairs(self, call: _Call) -> object:
        new = call.query.get("assetVersion") == "1"
        return {
            self._key(it, call.query): pair_row(self._truths[it].listing, self._names[it], new=new)
            for it in self._asked(call)
        }

    def _ticker(self, call: _Call) -> object:
        rows = {self._key(it, call.query): ticker_row(self._truths[it], call.now) for it in self._asked(call)}
        return {key: row for key, row in rows.items() if row is not None}

    def _candles(self, call: _Call) -> object:
        key, truth = self._one(call)
        minutes = _number(call.query, "interval", 1)
        if minutes not in INTERVALS:
            raise Problem("EGeneral:Invalid arguments:interval")
        since = _number(call.query, "since", -1)
        rows = candle_rows(truth, minutes * MINUTE, call.now)
        running = call.now // (minutes * MINUTE) * minutes * 60
        return {key: [row for row in rows if row[0] > since], "last": running - minutes * 60}

    def _depth(self, call: _Call) -> object:
        key, truth = self._one(call)
        count = min(max(_number(call.query, "count", 100), 1), MAX_DEPTH)
        bids, asks = truth.bids(count), truth.asks(count)
        fault = self._faults.active(FaultKind.STALE_SNAPSHOT, VENUE, call.now, truth.listing.symbol, "book")
        if fault is not None and self._faults.hits(fault):
            old = truth.book_at_time(call.now - int(fault.seconds * SECOND))
            bids, asks = (old.bids[:count], old.asks[:count]) if old is not None else (bids, asks)
        seconds = (call.now + call.skew) // SECOND
        sides = {"asks": asks, "bids": bids}
        return {key: {side: [depth_row(truth, *it, seconds) for it in levels] for side, levels in sides.items()}}

    def _trades(self, call: _Call) -> object:
        """``since`` includes its own nanosecond: a page repeats the last row of the one before (section 7.3)."""
        key, truth = self._one(call)
        count = min(max(_number(call.query, "count", MAX_TRADES), 1), MAX_TRADES)
        since = _number(call.query, "since", -1)
        time = since if since >= NANOSECONDS_FROM else since * SECOND
        matches = truth.last_matches(count) if since < 0 else truth.matches_after(time - call.skew, count)
        last = matches[-1].time + call.skew if matches else max(time, 0)
        return {key: [trade_row(truth, it, call.skew) for it in matches], "last": str(last)}


def _response(errors: list[str], result: object = None) -> Response:
    body: dict[str, object] = {"error": errors}
    return Response(200, json.encode(body if errors else body | {"result": result}), JSON, ANSWER_NS)


def _number(query: Query, name: str, otherwise: int) -> int:
    text = query.get(name, "")
    if not text:
        return otherwise
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Problem(f"EGeneral:Invalid arguments:{name}")
    return int(text)
