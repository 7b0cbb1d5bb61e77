"""The REST of the simulated USD-M: which endpoint answers what, and at which weight (section 8)."""
import re
from collections.abc import Mapping, Sequence

from msgspec import json, structs

from onetape.clock import DAY, HOUR, MILLISECOND, SECOND
from onetape.sim.base import Match, Response
from onetape.sim.credentials import KEY
from onetape.sim.faults import Faults
from onetape.sim.venues import binance_bodies as bodies
from onetape.sim.venues import usdm_contracts as contracts
from onetape.sim.venues import usdm_frames as frames
from onetape.sim.venues import usdm_tape as tape
from onetape.sim.venues.binance_ask import NEVER, Ask, BadRequest, Endpoint, Endpoints, endpoints, flat
from onetape.sim.venues.binance_budget import USDM_WEIGHT
from onetape.sim.venues.binance_desk import Desk
from onetape.sim.venues.binance_rest import MOST_ROWS, Rest
from onetape.sim.venues.usdm_contracts import Contract
from onetape.sim.venues.usdm_streams import INTERVALS

BASE = "/fapi/v1"
DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1_000: 20}
"""By limit; there are no others."""
AGGREGATES_KEPT, HISTORY_KEPT = 48 * HOUR, 30 * DAY
LONGEST_WINDOW = HOUR
GIVES_UP_AFTER = 10 * SECOND
_WRONG_WEIGHT = "1"  # what bookTicker tells of the used weight


class UsdmRest(Rest):
    """Says what the desks' truths say, as long as the asker's budget lasts."""

    intervals = INTERVALS
    most_candles = 1_500

    def __init__(
        self, venue: str, desks: Mapping[str, Desk], faults: Faults, phase: int, batches: tape.Batches,
        sorts: Mapping[str, Contract],
    ) -> None:
        """``sorts``: of contracts that are no common perpetuals, by symbol."""
        super().__init__(venue, desks, faults, phase, USDM_WEIGHT)
        self._batches, self._sorts = batches, sorts

    def _all_endpoints(self) -> Mapping[str, Endpoint]:
        times = {"symbol", "limit", "startTime", "endTime"}
        table: Endpoints = (
            ("ping", flat(1), (), self.ping),
            ("time", flat(1), (), self.time),
            ("exchangeInfo", flat(1), (), self.exchange_info),
            ("depth", _of_depth, {"symbol", "limit"}, self.depth),
            ("trades", flat(5), {"symbol", "limit"}, self.trades),
            ("historicalTrades", flat(200), {"symbol", "limit", "fromId"}, self.historical_trades),
            ("aggTrades", flat(20), times | {"fromId"}, self.aggregate_trades),
            ("klines", _of_klines, times | {"interval"}, self.klines),
            ("ticker/24hr", lambda query: 1 if "symbol" in query else 40, {"symbol"}, self.day),
            ("ticker/bookTicker", lambda query: 2 if "symbol" in query else 5, {"symbol"}, self.best),
        )
        return endpoints(BASE, table)

    def request(
        self, method: str, target: str, now: int, skew: int, headers: Mapping[str, str], client: str,
    ) -> Response:
        said = super().request(method, target, now, skew, headers, client)
        if target.partition("?")[0] == f"{BASE}/ticker/bookTicker":
            return structs.replace(said, headers={**said.headers, "X-MBX-USED-WEIGHT-1M": _WRONG_WEIGHT})
        return said

    def _unit(self, _headers: Mapping[str, str]) -> int:
        return MILLISECOND

    # --- the endpoints ------------------------------------------------------------------------------------------------

    def exchange_info(self, ask: Ask) -> bytes:
        rows = [contracts.row(it.paper, self._sorts.get(it.paper.symbol, Contract())) for it in self._listed(ask)]
        return json.encode({
            "timezone": "UTC", "serverTime": ask.shown(ask.now), "futuresType": "U_MARGINED",
            "rateLimits": contracts.RATE_LIMITS, "exchangeFilters": [], "assets": contracts.ASSETS, "symbols": rows,
        })

    def depth(self, ask: Ask) -> bytes:
        desk, limit = self._one(ask), ask.number("limit")
        if limit is not None and limit not in DEPTH_WEIGHTS:
            raise BadRequest(-1130, "Data sent for parameter 'limit' is not valid.")
        moment, book = self._book(desk, ask.now)
        bids, asks = book.bids[:limit or 500], book.asks[:limit or 500]
        return frames.book(desk.paper, book.sequence, bids, asks, ask.shown(moment), ask.shown(book.time)).encode()

    def trades(self, ask: Ask) -> bytes:
        desk, limit = self._one(ask), ask.limit(500, MOST_ROWS)
        return _trades(ask, desk, desk.paper.truth.last_matches(limit))

    def historical_trades(self, ask: Ask) -> bytes:
        """With a key, and no signature."""
        key = ask.headers.get("x-mbx-apikey")
        if not key:
            raise BadRequest(-2014, "API-key format invalid.", 401)
        if key != KEY:
            raise BadRequest(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        desk, limit, first = self._one(ask), ask.limit(500, 500), ask.number("fromId")
        truth = desk.paper.truth
        found = truth.last_matches(limit) if first is None else truth.matches_from(tape.match_from(first), limit)
        return _trades(ask, desk, [it for it in found if it.time >= ask.now - HISTORY_KEPT])

    def aggregate_trades(self, ask: Ask) -> bytes:
        """Of the last 48 hours; those of the running 100 ms are not made yet.

        What an older ``fromId`` answers is not documented: here, the first ones within reach.
        """
        desk, limit, first = self._one(ask), ask.limit(500, MOST_ROWS), ask.number("fromId")
        start, end = ask.time("startTime"), ask.time("endTime")
        if first is not None and (start, end) != (None, None):
            text = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
            raise BadRequest(-1007, text, 408, GIVES_UP_AFTER)
        if start is not None and end is not None and end - start >= LONGEST_WINDOW:
            raise BadRequest(-1127, "More than 1 hours between startTime and endTime.")
        made = self._batches.closed(ask.now) + 1
        before = made if end is None else min(made, end + MILLISECOND)  # the whole millisecond counts
        if first is not None:
            reached = desk.aggregates.after(ask.now - AGGREGATES_KEPT, 1)
            found = desk.aggregates.from_id(max(first, reached[0].id), limit) if reached else []
        elif start is not None:
            found = desk.aggregates.after(start, limit)
        else:
            found = desk.aggregates.newest(limit, before)
        known = [it for it in found if ask.now - AGGREGATES_KEPT <= it.time < before]
        return json.encode([bodies.aggregate(ask, desk.paper, it) for it in known])

    def day(self, ask: Ask) -> bytes:
        return self._each(ask, lambda desk: bodies.day(ask, desk.paper, frames.DAY_FIGURES))


def _trades(ask: Ask, desk: Desk, matches: Sequence[Match]) -> bytes:
    """Those of the market alone: what is off the book is left out, and its id with it."""
    paper = desk.paper
    return json.encode([
        {
            "id": paper.id(it.id), "price": paper.price(it.price), "qty": paper.size(it.size),
            "quoteQty": paper.rough_quote(it.price * it.size), "time": ask.shown(it.time), "isBuyerMaker": not it.buy,
            "isRPITrade": tape.is_retail(it.id),
        }
        for it in matches
    ])


def _limit(query: Mapping[str, str]) -> int:
    limit = query.get("limit", "500")
    return int(limit) if re.fullmatch(r"[0-9]{1,9}", limit) else NEVER


def _of_depth(query: Mapping[str, str]) -> int:
    return DEPTH_WEIGHTS.get(_limit(query), 20)


def _of_klines(query: Mapping[str, str]) -> int:
    limit = _limit(query)
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1_000 else 10
