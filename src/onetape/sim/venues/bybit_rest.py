"""The REST of the simulated Bybit, ``/v5/market/*`` (sections 6 and 7)."""
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qsl, quote, unquote

from msgspec import Struct, json

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Change, Match, Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import bybit_frames as frames
from onetape.sim.venues.binance_intervals import Interval, candles, earliest
from onetape.sim.venues.bybit_bodies import instrument
from onetape.sim.venues.bybit_feeds import BARS, Desk
from onetape.sim.venues.bybit_ids import trade_id

REQUESTS, WITHIN, BAN = 600, 5 * SECOND, 10 * MINUTE
ADDRESSES = 10_000
"""How many are remembered."""


class Refused(Exception):
    """A failure, with HTTP 200 like a success."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Budget(Struct):
    asked: deque[int]
    banned_until: int = 0


class Ask(Struct, frozen=True):
    """One request. ``now`` is true time, ``skew`` what the venue's clock is wrong by."""

    query: Mapping[str, str]
    now: int
    skew: int

    def number(self, name: str) -> int | None:
        text = self.query.get(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise Refused(10001, f"params error: {name} invalid")
        return int(text)

    def limit(self, default: int, most: int) -> int:
        limit = self.number("limit")
        if limit is not None and not 1 <= limit <= most:
            raise Refused(10001, f"params error: limit should be between 1 and {most}")
        return default if limit is None else limit

    def shown(self, time: int) -> int:
        """In ms, by the venue's clock."""
        return (time + self.skew) // MILLISECOND


class Rest:
    """Says what the desks' truths say."""

    def __init__(self, venue: str, desks: Mapping[tuple[str, str], Desk], faults: Faults) -> None:
        """``desks`` by category and the venue's own symbol."""
        self._venue, self._desks, self._faults = venue, desks, faults
        self._budgets: dict[str, _Budget] = {}

    def request(self, method: str, target: str, now: int, skew: int, client: str, *, down: bool) -> Response:
        if not self._may_ask(client, now):
            return Response(403, b"access too frequent", {"Content-Type": "text/plain"})
        path, _, query = target.partition("?")
        endpoint = _ENDPOINTS.get(path)
        if endpoint is None or method != "GET":
            return Response(404, b"404 page not found", {"Content-Type": "text/plain"})
        ask = Ask(dict(parse_qsl(query, keep_blank_values=True)), now, skew)
        try:
            if down:
                raise Refused(10016, "Server error.")
            result, code, text = endpoint(self, ask), 0, "OK"
        except Refused as error:
            result, code, text = {}, error.code, str(error)
        said = {"retCode": code, "retMsg": text, "result": result, "retExtInfo": {}, "time": ask.shown(now)}
        return Response(200, json.encode(said), {"Content-Type": "application/json; charset=utf-8"})

    def _may_ask(self, client: str, now: int) -> bool:
        """Once an address asked too often, all its requests fail for ten minutes."""
        it = self._budgets.pop(client, None) or _Budget(deque(maxlen=REQUESTS))
        self._budgets[client] = it
        if len(self._budgets) > ADDRESSES:
            del self._budgets[next(iter(self._budgets))]
        if now < it.banned_until:
            return False
        if len(it.asked) == REQUESTS and now - it.asked[0] < WITHIN:
            it.banned_until = now + BAN
            it.asked.clear()
            return False
        it.asked.append(now)
        return True

    # --- which instruments --------------------------------------------------------------------------------------------

    def _category(self, ask: Ask, default: str = "") -> str:
        category = ask.query.get("category", default)
        if category not in ("spot", "linear"):
            raise Refused(10001, "params error: Category is Invalid")
        return category

    def _one(self, ask: Ask, default: str = "") -> Desk:
        desk = self._desks.get((self._category(ask, default), ask.query.get("symbol", "")))
        if desk is None or not self._is_listed(desk, ask):
            raise Refused(10001, "Not supported symbols")
        return desk

    def _all(self, ask: Ask) -> list[Desk]:
        """Of a category, or the one that is named."""
        if ask.query.get("symbol"):
            return [self._one(ask)]
        category = self._category(ask)
        return [desk for (of, _), desk in self._desks.items() if of == category and self._is_listed(desk, ask)]

    def _is_listed(self, desk: Desk, ask: Ask) -> bool:
        return self._faults.listed(self._venue, desk.paper.listing.symbol, ask.now)

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def time(self, ask: Ask) -> object:
        time = ask.now + ask.skew
        return {"timeSecond": str(time // SECOND), "timeNano": str(time)}

    def instruments(self, ask: Ask) -> object:
        """Spot is never paged."""
        category, limit = self._category(ask), ask.limit(500, 1_000)
        coin, status = ask.query.get("baseCoin", ""), ask.query.get("status", "") or "Trading"
        desks = [it for it in self._all(ask) if coin in ("", it.paper.listing.base) and status == "Trading"]
        if category == "spot":
            return {"category": category, "list": [instrument(it.paper) for it in desks]}
        desks.sort(key=lambda it: it.paper.symbol)
        after = unquote(ask.query.get("cursor", "")).rpartition("last=")[2]  # comes encoded, and is sent as it came
        rest = [it for it in desks if it.paper.symbol > after]
        page = rest[:limit]
        more = len(rest) > limit
        cursor = quote(f"first={page[0].paper.symbol}&last={page[-1].paper.symbol}", safe="") if more else ""
        return {"category": category, "list": [instrument(it.paper) for it in page], "nextPageCursor": cursor}

    def book(self, ask: Ask) -> object:
        """As the topic of depth 1000 stands: so is ``u``."""
        desk = self._one(ask)
        paper, depth, limit = desk.paper, desk.depth, ask.limit(25 if desk.paper.linear else 1, 1_000)
        beat = depth.catch_up(ask.now, ask.skew)
        (bids, asks), u, sequence, changed = depth.levels(limit), depth.u, depth.sequence, depth.changed
        stale = self._faults.active(FaultKind.STALE_SNAPSHOT, self._venue, ask.now, paper.listing.symbol, "book")
        if stale is not None and self._faults.hits(stale):
            age = round(stale.seconds * SECOND)
            past = paper.truth.book_at_time(beat - age)
            if past is not None:
                bids, asks, sequence, changed = past.bids[:limit], past.asks[:limit], past.sequence, past.time
                u, beat = max(u - max(age // depth.period, 1), 2), past.time
        return {
            "s": paper.symbol, "b": _levels(paper, bids), "a": _levels(paper, asks), "ts": ask.shown(beat), "u": u,
            "seq": sequence, "cts": ask.shown(changed),
        }

    def trades(self, ask: Ask) -> object:
        """Newest first; there is no way to what lies further back."""
        paper = self._one(ask).paper
        limit = ask.limit(500, 1_000) if paper.linear else ask.limit(60, 60)
        matches = paper.truth.last_matches(limit)
        rows = [
            {
                "execId": trade_id(paper.symbol, it.id, linear=paper.linear), "symbol": paper.symbol,
                "price": paper.price(it.price), "size": paper.size(it.size), "side": frames.side_of(it),
                "time": str(ask.shown(it.time)), "isBlockTrade": False, "isRPITrade": False, "seq": str(sequence),
            }
            for it, sequence in zip(matches, _sequences(paper.truth, matches), strict=True)
        ]
        return {"category": paper.category, "list": rows[::-1]}

    def klines(self, ask: Ask) -> object:
        """Newest first, the running one included."""
        paper, limit = self._one(ask, "linear").paper, ask.limit(200, 1_000)
        interval = BARS.get(ask.query.get("interval", ""))
        if interval is None:
            raise Refused(10001, "params error: Invalid period!")
        starts = _starts(ask, interval, earliest(paper.truth, interval), limit)
        price = paper.plain_price
        rows = [
            [
                str(it.start // MILLISECOND), price(it.open), price(it.high), price(it.low), price(it.close),
                paper.plain_size(it.volume), paper.quote(it.quote),
            ]
            for it in candles(paper.truth, interval, starts)
        ]
        return {"category": paper.category, "symbol": paper.symbol, "list": rows[::-1]}

    def tickers(self, ask: Ask) -> object:
        papers = [it.paper for it in self._all(ask)]
        rows = [(it, frames.day_row(it, ask.now, frames.index_price(it))) for it in papers]
        return {
            "category": self._category(ask),
            "list": [row if it.linear else row | frames.best_row(it) for it, row in rows if row],
        }


_ENDPOINTS: Mapping[str, Callable[[Rest, Ask], object]] = {
    "/v5/market/time": Rest.time, "/v5/market/instruments-info": Rest.instruments, "/v5/market/orderbook": Rest.book,
    "/v5/market/recent-trade": Rest.trades, "/v5/market/kline": Rest.klines, "/v5/market/tickers": Rest.tickers,
}


def _levels(paper: frames.Paper, levels: Sequence[tuple[int, int]]) -> list[list[str]]:
    return [[paper.price(price), paper.size(size)] for price, size in levels]


def _sequences(truth: Truth, matches: Sequence[Match]) -> list[int]:
    """Of each match the last change of its order: the number that the stream gave it."""
    changes = truth.changes_since(0)
    first = bisect_left(changes, matches[0].time, key=_time) if matches else 0
    known = changes[first:]
    found = []
    for it in matches:
        at = bisect_right(known, it.time, key=_time)
        found.append(known[at - 1].sequence if at else changes[0].sequence if changes else truth.sequence)
    return found


def _starts(ask: Ask, interval: Interval, first: int | None, limit: int) -> Sequence[int]:
    """Both ends count. Of more than ``limit`` the last; from a ``start`` without an ``end`` the first."""
    start, end = ask.number("start"), ask.number("end")
    if first is None:
        return []
    if start is not None:
        wanted = interval.floor(min(start * MILLISECOND, ask.now))
        wanted = wanted if wanted >= start * MILLISECOND else interval.after(wanted)
        first = max(first, wanted)
    last = interval.floor(ask.now if end is None else min(end * MILLISECOND, ask.now))
    found = interval.starts(first, last)
    return found[:limit] if start is not None and end is None else found[-limit:]


def _time(it: Change) -> int:
    return it.time
