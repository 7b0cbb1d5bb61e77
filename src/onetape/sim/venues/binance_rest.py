"""The REST of the simulated Binance on spot: which endpoint answers what, and at which weight (section 7)."""
import re
from collections.abc import Callable, Mapping

from msgspec import json, structs

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.base import Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Book
from onetape.sim.venues import binance_ask as asks
from onetape.sim.venues import binance_bodies as bodies
from onetape.sim.venues import binance_frames as frames
from onetape.sim.venues.binance_ask import NEVER, Ask, BadRequest, Endpoint, Endpoints, endpoints, flat
from onetape.sim.venues.binance_budget import WEIGHT, Budgets, Verdict, seconds_until
from onetape.sim.venues.binance_desk import Desk
from onetape.sim.venues.binance_intervals import INTERVALS, Interval, candles, earliest

CACHE = SECOND
"""For every other one of these spans a depth snapshot is kept: then it may be older than the stream (Traps, 5)."""
MOST_ROWS, MOST_LEVELS = 1_000, 5_000


class Rest:
    """Says what the desks' truths say, as long as the asker's budget lasts."""

    intervals: Mapping[str, Interval] = INTERVALS
    most_candles = MOST_ROWS

    def __init__(
        self, venue: str, desks: Mapping[str, Desk], faults: Faults, phase: int, weight: int = WEIGHT,
    ) -> None:
        """``desks`` by the venue's upper-case symbol; ``weight``: what each address may use in a minute."""
        self._venue, self._desks, self._faults, self._phase = venue, desks, faults, phase
        self._budgets = Budgets(weight)
        self._books: dict[str, tuple[int, Book]] = {}
        self._endpoints = self._all_endpoints()

    def request(
        self, method: str, target: str, now: int, skew: int, headers: Mapping[str, str], client: str,
    ) -> Response:
        path, query = asks.split(target)
        endpoint = self._endpoints.get(path)
        verdict = self._budgets.charge(client, endpoint.weight(query) if endpoint else 1, now)
        if verdict.status != 200:
            return self._over_budget(verdict, now, skew)
        if endpoint is None:
            return _response(404, b"<html><body><h2>404 Not found</h2></body></html>", verdict, "text/html")
        if method != "GET":
            return _response(405, b"", verdict)
        try:
            asks.check(query, target, endpoint.parameters)
            sent = {name.lower(): value for name, value in headers.items()}
            return _response(200, endpoint.answer(Ask(query, now, skew, self._unit(sent), sent)), verdict)
        except BadRequest as error:
            said = _response(error.status, json.encode({"code": error.code, "msg": str(error)}), verdict)
            return structs.replace(said, after_ns=error.after_ns)

    def _unit(self, headers: Mapping[str, str]) -> int:
        """Of times."""
        return asks.wanted_unit(headers)

    def _over_budget(self, verdict: Verdict, now: int, skew: int) -> Response:
        limit = self._budgets.weight
        text = f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE."
        if verdict.status == 418:
            text = f"Way too much request weight used; IP banned until {(verdict.until + skew) // MILLISECOND}."
        said = _response(verdict.status, json.encode({"code": -1003, "msg": text}), verdict)
        return structs.replace(said, headers={**said.headers, "Retry-After": seconds_until(verdict.until, now)})

    # --- which instruments --------------------------------------------------------------------------------------------

    def _desk(self, symbol: str, now: int) -> Desk:
        if not re.fullmatch(r"[^a-z\s]{1,50}", symbol):
            legal = "legal range is '^[A-Z0-9-_.]{1,20}$'"
            raise BadRequest(-1100, f"Illegal characters found in parameter 'symbol'; {legal}.")
        if symbol not in self._desks or not self._faults.listed(self._venue, symbol, now):
            raise BadRequest(-1121, "Invalid symbol.")
        return self._desks[symbol]

    def _one(self, ask: Ask) -> Desk:
        """That ``symbol`` names."""
        if not ask.query.get("symbol"):
            raise BadRequest(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        return self._desk(ask.query["symbol"], ask.now)

    def _many(self, ask: Ask) -> list[Desk]:
        """That ``symbol`` or ``symbols`` name; all if neither does."""
        if len({"symbol", "symbols", "permissions"} & set(ask.query)) > 1:
            raise BadRequest(-1128, "Combination of optional parameters invalid.")
        if "symbols" in ask.query:
            return [self._desk(it, ask.now) for it in asks.names(ask.query["symbols"])]
        return [self._one(ask)] if "symbol" in ask.query else self._listed(ask)

    def _listed(self, ask: Ask) -> list[Desk]:
        return [it for symbol, it in self._desks.items() if self._faults.listed(self._venue, symbol, ask.now)]

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def _all_endpoints(self) -> Mapping[str, Endpoint]:
        table: Endpoints = (
            ("ping", flat(1), (), self.ping),
            ("time", flat(1), (), self.time),
            ("exchangeInfo", flat(20), _MANY | {"permissions", "symbolStatus"}, self.exchange_info),
            ("depth", _of_depth, {"symbol", "limit"}, self.depth),
            ("trades", flat(25), {"symbol", "limit"}, self.trades),
            ("historicalTrades", flat(25), {"symbol", "limit", "fromId"}, self.historical_trades),
            ("aggTrades", flat(4), {"symbol", "limit", "fromId", "startTime", "endTime"}, self.aggregate_trades),
            ("klines", flat(2), _CANDLES, self.klines),
            ("uiKlines", flat(2), _CANDLES, self.klines),
            ("ticker/24hr", _of_day, _MANY | {"type"}, self.day),
            ("ticker/price", _of_many, _MANY, self.price),
            ("ticker/bookTicker", _of_many, _MANY, self.best),
        )
        return endpoints("/api/v3", table)

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
        _, book = self._book(desk, ask.now)
        if not desk.paper.truth.bids(1) and not desk.paper.truth.asks(1):
            return b'{"lastUpdateId":-1,"bids":[],"asks":[]}'  # a new listing (section 5.7)
        return frames.book(desk.paper, book.sequence, book.bids[:limit], book.asks[:limit]).encode()

    def _book(self, desk: Desk, now: int) -> tuple[int, Book]:
        """With its moment: the present, or what the cache has had for up to a second; older while it is at fault.

        Only at times: there are clients (ccxt) that ask once and give up where the answer is old, and they do well.
        """
        truth, symbol = desk.paper.truth, desk.paper.symbol
        stale = self._faults.active(FaultKind.STALE_SNAPSHOT, self._venue, now, symbol, "book")
        if stale is not None and self._faults.hits(stale):
            moment = now - round(stale.seconds * SECOND)
            if (past := truth.book_at_time(moment)) is not None:
                return moment, past
        span, age = divmod(now - self._phase, CACHE)
        moment = now - age if span % 2 else now
        cached, book = self._books.get(symbol, (-1, None))
        if book is None or cached != moment:
            book = truth.book_at_time(moment) or truth.book_at(truth.sequence)
            assert book is not None, "the present is always known"
            self._books[symbol] = moment, book
        return moment, book

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
        return json.encode([bodies.aggregate(ask, desk.paper, it) | {"M": True} for it in within])

    def klines(self, ask: Ask) -> bytes:
        desk, limit = self._one(ask), ask.limit(500, self.most_candles)
        interval = asks.wanted_interval(ask, self.intervals)
        starts = asks.starts(ask, interval, earliest(desk.paper.truth, interval), limit)
        rows = candles(desk.paper.truth, interval, starts)
        return json.encode([bodies.candle(ask.unit, desk.paper, interval, it) for it in rows])

    def day(self, ask: Ask) -> bytes:
        names = bodies.MINI if asks.mini(ask) else ()
        return self._each(ask, lambda desk: bodies.day(ask, desk.paper, names))

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


# --- what each costs, and what it understands ------------------------------------------------------------------------


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
