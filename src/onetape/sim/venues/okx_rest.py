"""The REST of the simulated OKX, ``/api/v5/*``: newest first everywhere (sections 6 and 7)."""
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qsl

from msgspec import Struct, json

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.base import Match, Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Level
from onetape.sim.venues import okx_frames as frames
from onetape.sim.venues.okx_bars import BARS, Bar, candles, earliest
from onetape.sim.venues.okx_bodies import OTHERS, Row, instrument
from onetape.sim.venues.okx_books import VENUE
from onetape.sim.venues.okx_budget import Budgets, Problem
from onetape.sim.venues.okx_feeds import Desk
from onetape.sim.venues.okx_frames import Paper
from onetape.sim.venues.okx_upgrades import Upgrades

REFRESH, FULL_REFRESH, RPI_REFRESH = 50 * MILLISECOND, SECOND, 200 * MILLISECOND
"""How old an order book may be."""
RECENT = 1_440
"""So many bars go back those of ``candles``."""
ANSWER_NS = MILLISECOND


class Ask(Struct, frozen=True):
    """One request. ``now`` is true time, ``skew`` what the venue's clock is wrong by."""

    query: Mapping[str, str]
    now: int
    skew: int

    def text(self, name: str) -> str:
        text = self.query.get(name, "")
        if not text:
            raise Problem("50014", f"Parameter {name} can not be empty", 400)
        return text

    def number(self, name: str) -> int | None:
        text = self.query.get(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise Problem("51000", f"Parameter {name} error")
        return int(text)

    def limit(self, default: int, most: int, name: str = "limit") -> int:
        """More than there may be are not refused: they do not come."""
        limit = self.number(name)
        if limit == 0:
            raise Problem("51000", f"Parameter {name} error")
        return default if limit is None else min(limit, most)

    def shown(self, time: int) -> str:
        """In ms, by the venue's clock."""
        return str((time + self.skew) // MILLISECOND)


class Rest:
    """Says what the desks' truths say."""

    def __init__(self, desks: Mapping[str, Desk], faults: Faults, upgrades: Upgrades) -> None:
        self._desks, self._faults, self._upgrades = desks, faults, upgrades
        self._budgets = Budgets()

    def request(self, method: str, target: str, now: int, skew: int, client: str) -> Response:
        path, _, query = target.partition("?")
        ask = Ask(dict(parse_qsl(query, keep_blank_values=True)), now, skew)
        endpoint, after = _ENDPOINTS.get(path), ANSWER_NS
        try:
            if endpoint is None:
                raise Problem("404", "Not Found", 404)
            if method != "GET":
                raise Problem("50115", "Invalid request method.", 405)
            self._budgets.spend(client, path, ask.query.get("instType", ""), now)
            status, said = 200, {"code": "0", "msg": "", "data": endpoint(self, ask)}
            if path == "/api/v5/market/books":  # waits for the next refresh
                after += REFRESH - now % REFRESH
        except Problem as problem:
            status, said = problem.status, {"code": problem.code, "msg": str(problem), "data": []}
        return Response(status, json.encode(said), {"Content-Type": "application/json"}, after)

    # --- which instruments --------------------------------------------------------------------------------------------

    def _one(self, ask: Ask) -> Paper:
        symbol = ask.text("instId")
        desk = self._desks.get(symbol)
        if desk is None or not self._faults.listed(VENUE, symbol, ask.now):
            raise Problem("51001", "Instrument ID does not exist")
        return desk.paper

    def _all(self, ask: Ask) -> list[Paper]:
        """Of a kind."""
        kind = ask.text("instType")
        if kind not in OTHERS:
            raise Problem("51000", "Parameter instType error")
        papers = [it.paper for it in self._desks.values() if it.paper.type == kind]
        return [it for it in papers if self._faults.listed(VENUE, it.symbol, ask.now)]

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def time(self, ask: Ask) -> list[Row]:
        return [{"ts": ask.shown(ask.now)}]

    def status(self, ask: Ask) -> list[Row]:
        state = ask.query.get("state", "")
        return [it for it in self._upgrades.planned(ask.now, ask.skew) if state in ("", it["state"])]

    def instruments(self, ask: Ask) -> list[Row]:
        rows = [*map(instrument, self._all(ask)), *OTHERS[ask.text("instType")]]
        symbol = ask.query.get("instId", "")
        found = [it for it in rows if symbol in ("", it["instId"])]
        if symbol and not found:
            raise Problem("51001", "Instrument ID does not exist")
        return found

    def books(self, ask: Ask) -> list[Row]:
        paper, most = self._one(ask), ask.limit(1, 400, "sz")
        bids, asks, number, time = self._book(paper, ask, REFRESH)
        return [_sides(paper, asks[:most], bids[:most], "") | {"ts": ask.shown(time), "seqId": number}]

    def books_rpi(self, ask: Ask) -> list[Row]:
        paper, most = self._one(ask), ask.limit(1, 400, "sz")
        bids, asks, number, time = self._book(paper, ask, RPI_REFRESH)
        return [_sides(paper, asks[:most], bids[:most], frames.RPI) | {"ts": ask.shown(time), "seqId": number}]

    def books_full(self, ask: Ask) -> list[Row]:
        """Levels of three items, and no number."""
        paper, most = self._one(ask), ask.limit(1, 5_000, "sz")
        bids, asks, _, time = self._book(paper, ask, FULL_REFRESH)
        sides = {"asks": asks[:most], "bids": bids[:most]}
        rows = {side: [_short(paper, *level) for level in levels] for side, levels in sides.items()}
        return [rows | {"ts": ask.shown(time)}]

    def _book(self, paper: Paper, ask: Ask, refresh: int) -> tuple[Sequence[Level], Sequence[Level], int, int]:
        """As it was refreshed last, a ns before the full ms; or as old as a fault makes it."""
        truth, time = paper.truth, ask.now - (ask.now + 1) % refresh
        stale = self._faults.active(FaultKind.STALE_SNAPSHOT, VENUE, ask.now, paper.symbol, "book")
        if stale is not None and self._faults.hits(stale):
            time -= round(stale.seconds * SECOND)
        past = truth.book_at_time(time) if time < truth.time else None
        if past is None:
            return truth.bids(), truth.asks(), paper.number(truth.sequence), max(time, truth.time)
        return past.bids, past.asks, paper.number(past.sequence), time

    def trades(self, ask: Ask) -> list[Row]:
        paper = self._one(ask)
        return _rows(paper, ask, paper.truth.last_matches(ask.limit(100, 500)))

    def history_trades(self, ask: Ask) -> list[Row]:
        """``after`` is what lies before, and the other way round, both without it; the page is the newest there is."""
        paper, limit = self._one(ask), ask.limit(100, 100)
        kind, after, before = ask.query.get("type", "") or "1", ask.number("after"), ask.number("before")
        if kind not in ("1", "2"):
            raise Problem("51000", "Parameter type error")
        matches = paper.truth.matches
        if not matches:
            return []
        if kind == "2":
            if before is not None:
                raise Problem("50039", 'Parameter "before" is not supported when type is 2')
            moment = None if after is None else after * MILLISECOND - ask.skew
            after = None if moment is None else matches[0].id + bisect_left(matches, moment, key=_time)
        found = paper.truth.matches_before(matches[-1].id + 1 if after is None else after, limit)
        return _rows(paper, ask, [it for it in found if before is None or it.id > before])

    def candles(self, ask: Ask) -> list[list[str]]:
        """The running one comes first."""
        paper, bar = self._one(ask), _bar(ask)
        oldest = ask.now - RECENT * bar.length if bar.length else 0
        return _candles(paper, bar, ask, oldest, ask.now + 1, ask.limit(100, 300))

    def history_candles(self, ask: Ask) -> list[list[str]]:
        """The closed ones."""
        paper, bar = self._one(ask), _bar(ask)
        return _candles(paper, bar, ask, 0, bar.floor(ask.now), ask.limit(100, 300))

    def tickers(self, ask: Ask) -> list[Row]:
        return [frames.ticker_row(it, ask.now, ask.skew) for it in self._all(ask)]

    def ticker(self, ask: Ask) -> list[Row]:
        return [frames.ticker_row(self._one(ask), ask.now, ask.skew)]


_ENDPOINTS: Mapping[str, Callable[[Rest, Ask], object]] = {
    "/api/v5/public/time": Rest.time, "/api/v5/public/instruments": Rest.instruments,
    "/api/v5/system/status": Rest.status, "/api/v5/market/books": Rest.books,
    "/api/v5/market/books-full": Rest.books_full, "/api/v5/market/books-rpi": Rest.books_rpi,
    "/api/v5/market/trades": Rest.trades, "/api/v5/market/history-trades": Rest.history_trades,
    "/api/v5/market/candles": Rest.candles, "/api/v5/market/history-candles": Rest.history_candles,
    "/api/v5/market/tickers": Rest.tickers, "/api/v5/market/ticker": Rest.ticker,
}


def _bar(ask: Ask) -> Bar:
    bar = BARS.get(ask.query.get("bar", "") or "1m")
    if bar is None:
        raise Problem("51000", "Parameter bar error")
    return bar


def _candles(paper: Paper, bar: Bar, ask: Ask, oldest: int, end: int, limit: int) -> list[list[str]]:
    """``after`` is what begins before, ``before`` what begins after; the page is the newest there is."""
    after, before, known = ask.number("after"), ask.number("before"), earliest(paper.truth, bar)
    if known is None:
        return []
    end = end if after is None else min(end, after * MILLISECOND)
    first = max(known, oldest, 0 if before is None else before * MILLISECOND + 1)
    running = bar.floor(ask.now)
    found = candles(paper.truth, bar, bar.before(end, first, limit))
    return [frames.candle_row(paper, it, closed=it.start < running) for it in reversed(found)]


def _rows(paper: Paper, ask: Ask, matches: Sequence[Match]) -> list[Row]:
    return [frames.trade_row(paper, it, it.time + ask.skew) for it in reversed(matches)]


def _sides(paper: Paper, asks: Sequence[Level], bids: Sequence[Level], channel: str) -> dict[str, object]:
    sides = {"asks": asks, "bids": bids}
    return {side: json.decode(paper.levels(levels, channel)) for side, levels in sides.items()}


def _short(paper: Paper, price: int, lots: int) -> list[str]:
    return [paper.price(price), paper.size(lots), str(frames.orders(price, lots))]


def _time(it: Match) -> int:
    return it.time
