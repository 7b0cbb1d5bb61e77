"""The keyless REST of the simulated Coinbase Exchange (sections 8.1 to 8.5)."""
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, unquote

from msgspec import Raw, json, structs

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim import klines
from onetape.sim.base import Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.klines import Kline
from onetape.sim.truth import Level
from onetape.sim.venues.coinbase_edge import ANSWER, Ask, Edge, Problem
from onetape.sim.venues.coinbase_exchange_feeds import order_id, status_row, volume
from onetape.sim.venues.coinbase_paper import Paper, iso_millis, maker_side, newest_candles
from onetape.sim.venues.kraken_frames import micros

AT_ONCE, PER_SECOND = 15, 10
GRANULARITIES = tuple(it * SECOND for it in (60, 300, 900, 3_600, 21_600, 86_400))
MAX_CANDLES, NEWEST_CANDLES, MAX_TRADES = 300, 350, 1_000
CACHE = {"book": 2 * SECOND, "ticker": SECOND, "trades": 5 * SECOND, "candles": 300 * SECOND}
"""By the last part of the path; candles without both bounds, the first page of trades only."""
LAG = MINUTE
HEADERS = {"Content-Type": "application/json; charset=utf-8"}
_EPOCH = datetime.fromtimestamp(0, UTC)

_Answer = tuple[object, Mapping[str, str]]


class CoinbaseExchangeRest:
    """Says what the truths say."""

    def __init__(self, venue: str, papers: Mapping[str, Paper], delisted: Sequence[str], faults: Faults) -> None:
        self._venue, self._papers, self._delisted, self._faults = venue, papers, delisted, faults
        self._edge = Edge(AT_ONCE, PER_SECOND)
        self._leaves: Mapping[str, Callable[[Paper, Ask], object]] = {
            "book": self._book, "ticker": self._ticker, "candles": self._candles, "stats": self._stats,
        }

    def request(self, method: str, target: str, now: int, skew: int, client: str) -> Response:
        cached = self._edge.cached(f"{method} {target}", now)
        if cached is not None:
            return cached
        path, _, query = target.partition("?")
        ask = Ask(dict(parse_qsl(query, keep_blank_values=True)), now, skew)
        try:
            if not self._edge.take(client, now):
                raise Problem(429, "Public rate limit exceeded")
            if method != "GET":
                raise Problem(401, "CB-ACCESS-KEY header is required")
            body, headers = self._answer([unquote(it) for it in path.strip("/").split("/")], ask)
        except Problem as problem:
            return Response(problem.status, json.encode({"message": problem.text}), HEADERS, ANSWER)
        response = Response(200, json.encode(body), {**HEADERS, **headers}, ANSWER)
        self._edge.keep(f"{method} {target}", response, now, _age(path.rpartition("/")[2], ask))
        return response

    def _answer(self, parts: list[str], ask: Ask) -> _Answer:
        match parts:
            case ["time"]:
                time = ask.now + ask.skew
                epoch = Raw(b"%d.%03d" % (time // SECOND, time % SECOND // MILLISECOND))
                return {"iso": iso_millis(time), "epoch": epoch}, {}
            case ["products"]:
                gone = [_delisted_row(it) for it in self._delisted]
                return [*(_product_row(it) for it in self.listed(ask.now)), *gone], {}
            case ["products", "stats"]:
                return {it.symbol: self._stats(it, ask) for it in self.listed(ask.now)}, {}
            case ["products", symbol]:
                return _product_row(self._paper(symbol, ask)), {}
            case ["products", symbol, "trades"]:
                return self._trades(self._paper(symbol, ask), ask)
            case ["products", symbol, leaf] if leaf in self._leaves:
                return self._leaves[leaf](self._paper(symbol, ask), ask), {}
            case _:
                raise Problem(404, "NotFound")

    def listed(self, now: int) -> list[Paper]:
        return [it for it in self._papers.values() if self._faults.listed(self._venue, it.symbol, now)]

    def _paper(self, symbol: str, ask: Ask) -> Paper:
        paper = self._papers.get(symbol)
        if paper is None or not self._faults.listed(self._venue, symbol, ask.now):
            raise Problem(404, "NotFound")
        return paper

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def _book(self, paper: Paper, ask: Ask) -> object:
        """How many orders make a level is not known here: one. Level 3 is those orders."""
        level = ask.number("level") or 1
        if level not in (1, 2, 3):
            raise Problem(400, "Invalid level")
        truth, time, count = paper.truth, ask.now, 1 if level == 1 else 0
        bids, asks = truth.bids(count), truth.asks(count)
        fault = self._faults.active(FaultKind.STALE_SNAPSHOT, self._venue, time, paper.symbol, "book")
        old = truth.book_at_time(time - round(fault.seconds * SECOND)) if fault and self._faults.hits(fault) else None
        if old is not None:
            bids, asks, time = old.bids[:count or None], old.asks[:count or None], old.time
        return {
            "bids": _levels(paper, bids, "buy", level), "asks": _levels(paper, asks, "sell", level),
            "sequence": paper.sequence(time), "auction_mode": False, "auction": None, "time": micros(time + ask.skew),
        }

    def _ticker(self, paper: Paper, ask: Ask) -> object:
        truth, day = paper.truth, paper.truth.day(ask.now)
        last, bids, asks = truth.last_matches(1), truth.bids(1), truth.asks(1)
        if not last or day is None:
            return {}
        return {
            "ask": paper.price(asks[0][0]) if asks else "", "bid": paper.price(bids[0][0]) if bids else "",
            "volume": paper.size(day.volume), "trade_id": last[0].id, "price": paper.price(last[0].price),
            "size": paper.size(last[0].size), "time": micros(last[0].time + ask.skew), "rfq_volume": "0",
        }

    def _trades(self, paper: Paper, ask: Ask) -> _Answer:
        """Newest first: below ``after``, and above ``before``, but then the newest of all, not those next to it."""
        truth, limit = paper.truth, ask.number("limit") or MAX_TRADES
        before, after = ask.number("before"), ask.number("after")
        if limit > MAX_TRADES:
            raise Problem(400, "Invalid limit")
        found = truth.last_matches(limit) if after is None else truth.matches_before(after, limit)
        matches = [it for it in found if before is None or it.id > before]
        rows = [
            {
                "trade_id": it.id, "side": maker_side(it), "size": truth.size_text(it.size),
                "price": truth.price_text(it.price), "time": micros(it.time + ask.skew),
            }
            for it in reversed(matches)
        ]
        ends = {"CB-BEFORE": str(matches[-1].id), "CB-AFTER": str(matches[0].id)} if matches else {}
        return rows, ends

    def _candles(self, paper: Paper, ask: Ask) -> object:
        """Newest first, low before high, as numbers; both ends count, and empty ones are missing."""
        interval = (ask.number("granularity") or 60) * SECOND
        if interval not in GRANULARITIES:
            raise Problem(400, "Unsupported granularity")
        bounds = [_moment(ask.query[name]) for name in ("start", "end") if ask.query.get(name)]
        if len(bounds) == 2:
            start, end = bounds
            if (end - start) / interval > MAX_CANDLES:
                raise Problem(400, (
                    "granularity too small for the requested time range. "
                    f"Count of aggregations requested exceeds {MAX_CANDLES}"
                ))
            known = [it for it in _known(paper, interval, start, ask.now) if it.start <= end]
        else:
            begin = newest_candles(paper, interval, ask.now, NEWEST_CANDLES)
            known = _known(paper, interval, begin[0].start, ask.now) if begin else []
        return [_candle_row(paper, it) for it in reversed(known)]

    def _stats(self, paper: Paper, ask: Ask) -> object:
        day = paper.truth.day(ask.now)
        if day is None:
            return {}
        price = paper.price
        return {
            "open": price(day.open), "high": price(day.high), "low": price(day.low), "last": price(day.last),
            "volume": paper.size(day.volume), "volume_30day": volume(paper, max(paper.month(ask.now), day.volume)),
        }


def _age(leaf: str, ask: Ask) -> int:
    """How long an answer is served again (section 8.4)."""
    bounded = {"trades": ("before", "after"), "candles": ("start", "end")}.get(leaf, ())
    if leaf == "trades" and any(ask.query.get(it) for it in bounded):
        return 0
    if leaf == "candles" and all(ask.query.get(it) for it in bounded):
        return 0
    return CACHE.get(leaf, 0)


def _known(paper: Paper, interval: int, start: int, now: int) -> list[Kline]:
    """From ``start`` on. In the first half of a minute the minute before and what runs are not there yet."""
    minute = now - now % MINUTE
    known = minute - LAG if now - minute < MINUTE // 2 else now + 1
    whole = paper.truth.candles(interval, start, known - known % interval)
    begun = max(known - known % interval, -(-start // interval) * interval)
    part = klines.merged(paper.truth.candles(MINUTE, begun, known))
    return whole if part is None else [*whole, structs.replace(part, start=begun)]


def _candle_row(paper: Paper, it: Kline) -> list[object]:
    numbers = (paper.price(it.low), paper.price(it.high), paper.price(it.open), paper.price(it.close))
    return [it.start // SECOND, *(Raw(text.encode()) for text in (*numbers, paper.size(it.volume)))]


def _moment(text: str) -> int:
    """ISO 8601; of no zone: UTC."""
    try:
        time = datetime.fromisoformat(text)
        return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1) * 1_000
    except (ValueError, OverflowError) as error:
        raise Problem(400, "Invalid start or end") from error


def _levels(paper: Paper, levels: Sequence[Level], side: str, level: int) -> list[list[object]]:
    last: Callable[[int], object] = (lambda price: order_id(side, paper, price)) if level == 3 else lambda _: 1
    return [[paper.price(price), paper.size(size), last(price)] for price, size in levels]


def _product_row(paper: Paper) -> dict[str, object]:
    return status_row(paper) | {
        "status_message": "", "margin_enabled": False, "trading_disabled": False, "auction_mode": False,
        "max_slippage_percentage": "0.02000000", "high_bid_limit_percentage": "",
    }


def _delisted_row(symbol: str) -> dict[str, object]:
    base, _, quote = symbol.partition("-")
    return {
        "id": symbol, "base_currency": base, "quote_currency": quote, "base_increment": "0.00000001",
        "quote_increment": "0.01", "display_name": symbol, "status": "delisted", "min_market_funds": "1",
        "post_only": False, "limit_only": False, "cancel_only": False, "fx_stablecoin": False, "status_message": "",
        "margin_enabled": False, "trading_disabled": True, "auction_mode": False,
        "max_slippage_percentage": "0.02000000", "high_bid_limit_percentage": "",
    }
