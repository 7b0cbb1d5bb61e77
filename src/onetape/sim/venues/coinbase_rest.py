"""The keyless REST of the simulated Advanced Trade, ``/api/v3/brokerage/market`` (sections 8.2 to 8.5)."""
from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from urllib.parse import parse_qsl, unquote

from msgspec import json

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Level
from onetape.sim.venues import coinbase_frames as frames
from onetape.sim.venues.coinbase_edge import ANSWER, Ask, Edge, Problem
from onetape.sim.venues.coinbase_paper import Paper, maker_side, short_micros, short_nanos, trimmed

ROOT = "/api/v3/brokerage/"
GRANULARITIES = {
    "ONE_MINUTE": MINUTE, "FIVE_MINUTE": 5 * MINUTE, "FIFTEEN_MINUTE": 15 * MINUTE, "THIRTY_MINUTE": 30 * MINUTE,
    "ONE_HOUR": HOUR, "TWO_HOUR": 2 * HOUR, "FOUR_HOUR": 4 * HOUR, "SIX_HOUR": 6 * HOUR, "ONE_DAY": DAY,
}
MAX_CANDLES, MAX_TRADES, MAX_LEVELS = 350, 100, 1_000
MOST_ASKED = 1_000  # trades: more are no mistake of the client's here, but an error of the server's
CACHE = SECOND
HEADERS = {"Content-Type": "application/json", "Cache-Control": "public, max-age=14400"}  # which is not so
LIMITED = json.encode({"errors": [{"id": "rate_limit_exceeded", "message": "Too many requests"}]})
AT_ONCE = PER_SECOND = 10  # of older pages; nothing is published


class CoinbaseRest:
    """Says what the truths say."""

    def __init__(self, venue: str, papers: Mapping[str, Paper], aliases: Mapping[str, str], faults: Faults) -> None:
        self._venue, self._papers, self._aliases, self._faults = venue, papers, aliases, faults
        self._edge = Edge(AT_ONCE, PER_SECOND)

    def request(
        self, method: str, target: str, now: int, skew: int, headers: Mapping[str, str], client: str,
    ) -> Response:
        fresh = any(name.lower() == "cache-control" and "no-cache" in text for name, text in headers.items())
        cached = None if fresh else self._edge.cached(f"{method} {target}", now)
        if cached is not None:
            return cached
        if not self._edge.take(client, now):
            return Response(429, LIMITED, HEADERS, ANSWER)
        path, _, query = target.partition("?")
        ask = Ask(dict(parse_qsl(query, keep_blank_values=True)), now, skew)
        try:
            body = self._answer(method, [unquote(it) for it in path.removeprefix(ROOT).split("/")], ask, path)
        except Problem as problem:
            if problem.status == 401:
                return Response(401, b"Unauthorized", {"Content-Type": "text/plain"}, ANSWER)
            said = {"error": problem.code, "message": problem.text}
            return Response(problem.status, json.encode(said), HEADERS, ANSWER)
        response = Response(200, json.encode(body), HEADERS, ANSWER)
        if not path.endswith("/time"):  # that would be no time
            self._edge.keep(f"{method} {target}", response, now, CACHE)
        return response

    def _answer(self, method: str, parts: list[str], ask: Ask, path: str) -> object:
        if not path.startswith(ROOT):
            raise Problem(404, "Not Found", "NOT_FOUND")
        match parts:
            case _ if method != "GET":
                raise Problem(401, "Unauthorized")
            case ["time"]:
                return self._time(ask)
            case ["market", "products"]:
                return self._products(ask)
            case ["market", "product_book"]:
                return self._book(ask)
            case ["market", "products", symbol]:
                return self._product(symbol, ask)
            case ["market", "products", symbol, "ticker"]:
                return self._trades(self._paper(symbol, ask), ask)
            case ["market", "products", symbol, "candles"]:
                return self._candles(self._paper(symbol, ask), ask)
            case _:  # all else is somebody's own
                raise Problem(401, "Unauthorized")

    def _paper(self, symbol: str, ask: Ask) -> Paper:
        """An alias is answered with the book that it stands for."""
        paper = self._papers.get(self._aliases.get(symbol, symbol))
        if paper is None or not self._faults.listed(self._venue, paper.symbol, ask.now):
            raise Problem(404, f"Product {symbol} not supported", "NOT_FOUND")
        return paper

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def _time(self, ask: Ask) -> object:
        time = ask.now + ask.skew
        return {
            "iso": short_nanos(time - time % SECOND), "epochSeconds": str(time // SECOND),
            "epochMillis": str(time // MILLISECOND),
        }

    def _products(self, ask: Ask) -> object:
        limit, offset = ask.number("limit"), ask.number("offset") or 0
        spot = ask.query.get("product_type", "SPOT") in ("SPOT", "UNKNOWN_PRODUCT_TYPE")
        rows = [row for it in self._papers.values() for row in self._rows(it, ask)] if spot else []
        page = rows[offset:offset + limit] if limit else rows[offset:]
        pages = {
            "prev_cursor": "", "next_cursor": "", "has_next": offset + len(page) < len(rows), "has_prev": offset > 0,
        }
        return {"products": page, "num_products": len(page), "pagination": pages}

    def _product(self, symbol: str, ask: Ask) -> object:
        return next(it for it in self._rows(self._paper(symbol, ask), ask) if it["product_id"] == symbol)

    def _rows(self, paper: Paper, ask: Ask) -> list[dict[str, object]]:
        """A product and its aliases."""
        if not self._faults.listed(self._venue, paper.symbol, ask.now):
            return []
        shown_as = [alias for alias, symbol in self._aliases.items() if symbol == paper.symbol]
        own = frames.product_row(paper, ask.now, alias=False, shown_as=shown_as)
        return [own, *(frames.product_row(paper, ask.now, alias=True, shown_as=()) for _ in shown_as)]

    def _book(self, ask: Ask) -> object:
        """Bears no number, so that it can be compared with nothing but itself."""
        paper = self._paper(ask.query.get("product_id", ""), ask)
        limit = ask.number("limit") or MAX_LEVELS
        if limit > MAX_LEVELS:
            raise Problem(400, f"limit exceeds {MAX_LEVELS}", "INVALID_ARGUMENT")
        truth, listing, time = paper.truth, paper.listing, ask.now
        bids, asks = truth.bids(), truth.asks()
        fault = self._faults.active(FaultKind.STALE_SNAPSHOT, self._venue, time, paper.symbol, "book")
        old = truth.book_at_time(time - round(fault.seconds * SECOND)) if fault and self._faults.hits(fault) else None
        if old is not None:
            bids, asks, time = old.bids, old.asks, old.time
        step = _step(ask.query.get("aggregation_price_increment", ""))
        middle = (bids[0][0] + asks[0][0]) * listing.tick / 2 if bids and asks else Decimal(0)
        spread = (asks[0][0] - bids[0][0]) * listing.tick if bids and asks else Decimal(0)
        last = truth.last_matches(1)
        return {
            "pricebook": {
                "product_id": paper.symbol, "bids": _levels(paper, bids, step, ROUND_FLOOR, limit),
                "asks": _levels(paper, asks, step, ROUND_CEILING, limit), "time": short_micros(time + ask.skew),
            },
            "last": paper.price(last[0].price) if last else "", "mid_market": trimmed(f"{middle:f}"),
            "spread_bps": f"{spread / middle * 10_000:.12f}" if middle else "",
            "spread_absolute": trimmed(f"{spread:f}"),
        }

    def _trades(self, paper: Paper, ask: Ask) -> object:
        """The newest of a window, and no way to those before them."""
        limit = ask.number("limit") or MAX_TRADES
        if limit > MOST_ASKED:
            raise Problem(500, "Internal server error", "INTERNAL")
        truth, start, end = paper.truth, ask.number("start") or 0, ask.number("end")
        matches = truth.matches_after(start * SECOND - ask.skew, len(truth.matches))
        if end is not None:
            matches = [it for it in matches if it.time + ask.skew <= end * SECOND]
        rows = [
            {
                "trade_id": str(it.id), "product_id": paper.symbol, "price": paper.price(it.price),
                "size": paper.size(it.size), "time": short_micros(it.time + ask.skew),
                "side": maker_side(it).upper(), "bid": "", "ask": "", "exchange": "coinbase",
            }
            for it in reversed(matches[-min(limit, MAX_TRADES):])
        ]
        bid, best = (paper.price(side[0][0]) if side else "" for side in (truth.bids(1), truth.asks(1)))
        return {"trades": rows, "best_bid": bid, "best_ask": best}

    def _candles(self, paper: Paper, ask: Ask) -> object:
        """Both ends count; buckets without a trade are missing."""
        interval = GRANULARITIES.get(ask.query.get("granularity", ""))
        start, end, limit = ask.number("start"), ask.number("end"), ask.number("limit") or MAX_CANDLES
        if interval is None or start is None or end is None or limit > MAX_CANDLES:
            raise Problem(400, "start, end, granularity and limit must be valid", "INVALID_ARGUMENT")
        if end * SECOND // interval + (-start * SECOND) // interval + 1 > MAX_CANDLES:
            raise Problem(400, f"number of candles requested should be less than {MAX_CANDLES}", "INVALID_ARGUMENT")
        klines = paper.truth.candles(interval, start * SECOND, min(end * SECOND, ask.now) + 1)
        rows = [frames.candle_row(paper, it, ("low", "high", "open", "close")) for it in reversed(klines)]
        return {"candles": rows[:limit]}


def _step(text: str) -> Decimal | None:
    try:
        step = Decimal(text) if text else None
    except InvalidOperation as error:
        raise Problem(400, "Invalid aggregation_price_increment", "INVALID_ARGUMENT") from error
    if step is not None and not (step.is_finite() and Decimal("1e-9") <= step <= Decimal("1e9")):
        raise Problem(400, "Invalid aggregation_price_increment", "INVALID_ARGUMENT")
    return step


def _levels(
    paper: Paper, levels: list[Level], step: Decimal | None, rounding: str, limit: int,
) -> list[dict[str, str]]:
    """Prices brought together in steps, away from the middle."""
    if step is None:
        return [{"price": paper.price(price), "size": paper.size(size)} for price, size in levels[:limit]]
    sums: dict[Decimal, int] = {}
    for price, size in levels:
        rounded = (price * paper.listing.tick / step).to_integral_value(rounding) * step
        sums[rounded] = sums.get(rounded, 0) + size
    return [{"price": trimmed(f"{price:f}"), "size": paper.size(size)} for price, size in list(sums.items())[:limit]]
