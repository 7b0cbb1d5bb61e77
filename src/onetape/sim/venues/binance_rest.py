"""The REST of the simulated Binance, spot: which endpoint answers what, and at which weight (section 7)."""
import re
from collections.abc import Callable, Mapping

from msgspec import Struct, json

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.base import Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Book
from onetape.sim.venues import binance_ask as asks
from onetape.sim.venues import binance_bodies as bodies
from onetape.sim.venues import binance_frames as frames
from onetape.sim.venues.binance_ask import NEVER, Ask, BadRequest
from onetape.sim.venues.binance_budget import WEIGHT, Budgets, Verdict, seconds_until
from onetape.sim.venues.binance_desk import Desk
from onetape.sim.venues.binance_intervals import candles, earliest

CACHE = SECOND
"""A depth snapshot is the one of the last moment that is a multiple of this: it may be older than the stream."""
MOST_ROWS, MOST_LEVELS = 1_000, 5_000


class Rest:
    """Says what the desks' truths say, as long as the asker's budget lasts."""

    def __init__(self, venue: str, desks: Mapping[str, Desk], faults: Faults, phase: int) -> None:
        """``desks`` by the venue's upper-case symbol."""
        self._venue, self._desks, self._faults, self._phase = venue, desks, faults, phase
        self._budgets = Budgets()
        self._books: dict[str, tuple[int, Book]] = {}

    def request(
        self, method: str, target: str, now: int, skew: int, headers: Mapping[str, str], client: str,
    ) -> Response:
        path, query = asks.split(target)
        endpoint = _ENDPOINTS.get(path)
        verdict = self._budgets.charge(client, endpoint.weight(query) if endpoint else 1, now)
        if verdict.status != 200:
            return _over_budget(verdict, now, skew)
        if endpoint is None:
            return _response(404, b"<html><body><h2>404 Not found</h2></body></html>", verdict, "text/html")
        if method != "GET":
            return _response(405, b"", verdict)
        try:
            asks.check(query, target, endpoint.parameters)
            ask = Ask(query, now, skew, asks.wanted_unit(headers))
            return _response(200, endpoint.answer(self, ask), verdict)
        except BadRequest as error:
            return _response(400, json.encode({"code": error.code, "msg": str(error)}), verdict)

    # --- which instruments --------------------------------------------------------------------------------------------

    def _desk(self, symbol: str) -> Desk:
        if not re.fullmatch(r"[^a-z\s]{1,50}", symbol):
            legal = "legal range is '^[A-Z0-9-_.]{1,20}$'"
            raise BadRequest(-1100, f"Illegal characters found in parameter 'symbol'; {legal}.")
        if symbol not in self._desks:
            raise BadRequest(-1121, "Invalid symbol.")
        return self._desks[symbol]

    def _one(self, ask: Ask) -> Desk:
        """That ``symbol`` names."""
        if not ask.query.get("symbol"):
            raise BadRequest(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        return self._desk(ask.query["symbol"])

    def _many(self, ask: Ask) -> list[Desk]:
        """That ``symbol`` or ``symbols`` name; all if neither does."""
        if len({"symbol", "symbols", "permissions"} & set(ask.query)) > 1:
            raise BadRequest(-1128, "Combination of optional parameters invalid.")
        if "symbols" in ask.query:
            return [self._desk(it) for it in asks.names(ask.query["symbols"])]
        return [self._one(ask)] if "symbol" in ask.query else list(self._desks.values())

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def ping(self, _ask: Ask) -> bytes:
        return b"{}"

    def time(self, ask: Ask) -> bytes:
        return json.encode({"serverTime": ask.shown(ask.now)})

    def exchange_info(self, ask: Ask) -> bytes:
        desks = self._many(ask)
        wanted = ask.query.get("permissions", "SPOT")
        permitted = {"SPOT", "MARGIN"} & set(asks.names(wanted) if wanted.startswith("[") else [wanted])
        if ask.query.get("symbolStatus", "TRADING") != "TRADING" or not permitted:
            desks = []
        return json.encode({
            "timezone": "UTC", "serverTime": ask.shown(ask.now), "rateLimits": bodies.RATE_LIMITS,
            "exchangeFilters": [], "symbols": [bodies.instrument(it.paper) for it in desks],
        })

    def depth(self, ask: Ask) -> bytes:
        desk, limit = self._one(ask), ask.limit(100, MOST_LEVELS)
        book = self._book(desk, ask.now)
        if not desk.paper.truth.bids(1) and not desk.paper.truth.asks(1):
            return b'{"lastUpdateId":-1,"bids":[],"asks":[]}'  # a new listing (section 5.7)
        return frames.book(desk.paper, book.sequence, book.bids[:limit], book.asks[:limit]).encode()

    def _book(self, desk: Desk, now: int) -> Book:
        """As the cache has it: of the last whole second of the venue's own; older while it is at fault."""
        truth, symbol = desk.paper.truth, desk.paper.symbol
        stale = self._faults.active(FaultKind.STALE_SNAPSHOT, self._venue, now, symbol, "book")
        if stale is not None and self._faults.hits(stale):
            book = truth.book_at_time(now - round(stale.seconds * SECOND))
            if book is not None:
                return book
        moment = now - (now - self._phase) % CACHE
        cached, book = self._books.get(symbol, (-1, None))
        if book is None or cached != moment:
            book = truth.book_at_time(moment) or truth.book_at(truth.sequence)
            assert book is not None, "the present is always known"
            self._books[symbol] = moment, book
        return book

    def trades(self, ask: Ask) -> bytes:
        desk, limit = self._one(ask), ask.limit(500, MOST_ROWS)
        return bodies.trades(ask, desk.paper, desk.paper.truth.last_matches(limit))

    def historical_trades(self, ask: Ask) -> bytes:
        desk, limit, first = self._one(ask), ask.limit(500, MOST_ROWS), ask.number("fromId")
        truth = desk.paper.truth
        found = truth.last_matches(limit) if first is None else truth.matches_from(first, limit)
        return bodies.trades(ask, desk.paper, found)

    def aggregate_trades(self, ask: Ask) -> bytes:
        desk, limit, first = self._one(ask), ask.limit(500, MOST_ROWS), ask.number("fromId")
        start, end = ask.time("startTime"), ask.time("endTime")
        if first is not None and (start, end) != (None, None):
            raise BadRequest(-1128, "Combination of optional parameters invalid.")
        if first is not None:
            found = desk.aggregates.from_id(first, limit)
        elif start is not None:
            found = desk.aggregates.after(start, limit)
        else:
            found = desk.aggregates.newest(limit, NEVER if end is None else end + MILLISECOND)
        within = [it for it in found if end is None or it.time < end + MILLISECOND]  # the whole millisecond counts
        return json.encode([bodies.aggregate(ask, desk.paper, it) for it in within])

    def klines(self, ask: Ask) -> bytes:
        desk, limit, interval = self._one(ask), ask.limit(500, MOST_ROWS), asks.wanted_interval(ask)
        starts = asks.starts(ask, interval, earliest(desk.paper.truth, interval), limit)
        rows = candles(desk.paper.truth, interval, starts)
        return json.encode([bodies.candle(ask.unit, desk.paper, interval, it) for it in rows])

    def day(self, ask: Ask) -> bytes:
        mini = asks.mini(ask)
        return self._each(ask, lambda desk: bodies.day(ask, desk.paper, mini))

    def price(self, ask: Ask) -> bytes:
        return self._each(ask, lambda desk: bodies.price(desk.paper))

    def best(self, ask: Ask) -> bytes:
        return self._each(ask, lambda desk: bodies.best(desk.paper))

    def _each(self, ask: Ask, say: Callable[[Desk], object]) -> bytes:
        """One object for ``symbol``, else a list."""
        rows = [say(it) for it in self._many(ask)]
        return json.encode(rows[0] if "symbol" in ask.query else rows)


def _response(status: int, body: bytes, verdict: Verdict, kind: str = "application/json;charset=UTF-8") -> Response:
    return Response(status, body, {"Content-Type": kind, "X-MBX-USED-WEIGHT-1M": str(verdict.used)})


def _over_budget(verdict: Verdict, now: int, skew: int) -> Response:
    text = f"Too much request weight used; current limit is {WEIGHT} request weight per 1 MINUTE."
    if verdict.status == 418:
        text = f"Way too much request weight used; IP banned until {(verdict.until + skew) // MILLISECOND}."
    said = _response(verdict.status, json.encode({"code": -1003, "msg": text}), verdict)
    return Response(said.status, said.body, {**said.headers, "Retry-After": seconds_until(verdict.until, now)})


# --- what each costs, and what it understands ------------------------------------------------------------------------


class _Endpoint(Struct, frozen=True):
    weight: Callable[[Mapping[str, str]], int]
    parameters: frozenset[str]
    answer: Callable[[Rest, Ask], bytes]


def _flat(weight: int) -> Callable[[Mapping[str, str]], int]:
    return lambda _: weight


def _of_depth(query: Mapping[str, str]) -> int:
    limit = query.get("limit", "100")
    levels = int(limit) if re.fullmatch(r"[0-9]{1,9}", limit) else MOST_LEVELS
    return 5 if levels <= 100 else 25 if levels <= 500 else 50 if levels <= 1_000 else 250


def _of_day(query: Mapping[str, str]) -> int:
    if "symbol" in query:
        return 2
    count = query["symbols"].count(",") + 1 if "symbols" in query else 101
    return 2 if count <= 20 else 40 if count <= 100 else 80


def _of_many(query: Mapping[str, str]) -> int:
    return 2 if "symbol" in query else 4


_CANDLES = frozenset({"symbol", "interval", "startTime", "endTime", "limit", "timeZone"})
_MANY = frozenset({"symbol", "symbols"})
_ENDPOINTS = {
    f"/api/v3/{path}": _Endpoint(weight, frozenset(parameters), answer)
    for path, weight, parameters, answer in (
        ("ping", _flat(1), (), Rest.ping),
        ("time", _flat(1), (), Rest.time),
        ("exchangeInfo", _flat(20), _MANY | {"permissions", "symbolStatus"}, Rest.exchange_info),
        ("depth", _of_depth, {"symbol", "limit"}, Rest.depth),
        ("trades", _flat(25), {"symbol", "limit"}, Rest.trades),
        ("historicalTrades", _flat(25), {"symbol", "limit", "fromId"}, Rest.historical_trades),
        ("aggTrades", _flat(4), {"symbol", "limit", "fromId", "startTime", "endTime"}, Rest.aggregate_trades),
        ("klines", _flat(2), _CANDLES, Rest.klines),
        ("uiKlines", _flat(2), _CANDLES, Rest.klines),
        ("ticker/24hr", _of_day, _MANY | {"type"}, Rest.day),
        ("ticker/price", _of_many, _MANY, Rest.price),
        ("ticker/bookTicker", _of_many, _MANY, Rest.best),
    )
}
