"""Binance USD-M futures, simulated.

Its connections are kept by ``binance_sockets``, as those of spot are; its streams are told by ``usdm_desk``, its REST
by ``usdm_rest``.
"""
from collections.abc import Mapping, Sequence

from onetape.clock import MINUTE
from onetape.sim.base import Match, Response
from onetape.sim.faults import Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import usdm_contracts as contracts
from onetape.sim.venues import usdm_tape as tape
from onetape.sim.venues.binance_aggregates import Aggregates
from onetape.sim.venues.binance_frames import Paper
from onetape.sim.venues.binance_sockets import Rules, Sockets, phases
from onetape.sim.venues.usdm_desk import UsdmDesk
from onetape.sim.venues.usdm_rest import BASE, UsdmRest
from onetape.sim.venues.usdm_streams import parse, read_target

RULES = Rules(messages=10, ping_every=3 * MINUTE, pong_within=10 * MINUTE, read_target=read_target, parse=parse)


class BinanceUsdm(Sockets):
    """See ``SimVenue``. The tape is that of the aggregates."""

    name = "binance-usdm"
    book_clock_ns = 0
    instruments_path = f"{BASE}/exchangeInfo"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        phase, off_beat = phases(self.name, seed)
        batches = tape.Batches(phase)

        def desk(truth: Truth) -> UsdmDesk:
            paper = Paper(truth, None, tape.trade_id)
            return UsdmDesk(self.name, paper, Aggregates(truth, batches.together), faults, phase)

        self._traded = {symbol: desk(truth) for symbol, truth in truths.items()}
        super().__init__(self.name, RULES, self._traded, faults, phase)
        others = contracts.others(self.name, faults.start)
        listed = self._traded | {it.symbol: desk(Truth(it, faults.start)) for it, _ in others}
        sorts = {it.symbol: sort for it, sort in others}
        self._rest = UsdmRest(self.name, listed, faults, off_beat, batches, sorts)

    def number(self, trade_id: str) -> int:
        return int(trade_id)

    def match(self, symbol: str, number: int) -> Match | None:
        found = self._traded[symbol].aggregates.from_id(number, 1)
        if not found or found[0].id != number:
            return None
        it = found[0]
        return Match(it.id, it.time, it.price, it.size, it.buy)

    def skipped(self, symbol: str) -> Sequence[int]:
        return self._traded[symbol].aggregates.skipped()

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        return self._rest.request(method, target, now, self._skew(now), headers, client)


QUIRKS = (
    ("1.2", "public and market streams have a route each; on another they are acked, and silent", "test_routes"),
    ("1.2", "without a route only what is public is told", "test_routes"),
    ("1.2", "the private route tells nothing of the market", "test_routes"),
    ("1.1", "raw and combined frames behind a route; times in ms, whatever is asked for", "test_url_forms"),
    ("2", "a ping every 3 minutes, a pong within 10, else 1008", "test_ping_every_3_minutes"),
    ("2", "more than 10 messages a second: 1008", "test_ten_messages_a_second"),
    ("2", "cut at 24 hours, 300 connections per 5 minutes, 1,024 streams", "test_limits_of_both_markets"),
    ("2", "serverShutdown without a subscription", "test_notice_then_close"),
    ("3", "an unknown symbol is acked, and silent; a bad name refuses the whole request", "test_names_of_streams"),
    ("4", "numbers with the digits of tick and lot", "test_aggregates_of_100_ms"),
    ("6.1", "aggregates of 100 ms by price and side, told at their end", "test_aggregates_of_100_ms"),
    ("6.1", "nq leaves out retail price improvement", "test_quantity_without_retail"),
    ("6.1", "a rises by one; f leaps over what is off the book", "test_streams_of_a_market_agree"),
    ("6.2", "X tells what is off the book; ids count it, prices are odd or none", "test_off_book_prints"),
    ("6.3", "best prices with event and trade time, only when they change", "test_best_prices"),
    ("6.4", "every 2 s, without the best prices", "test_ticker"),
    ("6.5", "every 250 ms when something was executed; the closing frame after the end; no 1s", "test_klines"),
    ("6.6", "250, 500 and 100 ms; pu is the last u, U is often beyond u + 1", "test_depth_is_a_chain"),
    ("6.6", "partial depth looks like a diff", "test_partial_depth_looks_like_a_diff"),
    ("6.6", "snapshot and diffs make the book, by the rule of the page", "test_depth_and_snapshot_make_the_truth"),
    ("8", "the weights", "test_weights"),
    ("8", "depth has seven limits, and tells its times", "test_depth_limits"),
    ("8", "trades of the market alone, with isRPITrade", "test_trades_and_history"),
    ("8", "historicalTrades wants a key, no signature; 500 at most", "test_history_wants_a_key"),
    ("8", "aggTrades: by id or by less than an hour; never both: that times out", "test_aggregates_paging"),
    ("8", "aggTrades of the last 48 h; the running 100 ms are not in them", "test_aggregates_that_are_known"),
    ("8", "klines up to 1,500, the last may be open", "test_klines_over_rest"),
    ("8", "dated futures, stocks and coins that are being settled are listed too", "test_exchange_info"),
    ("8", "the used weight is wrong on bookTicker", "test_weights"),
    ("9", "2,400 a minute: 429 until it ends, then 418", "test_429_and_418"),
    ("Traps 5", "a snapshot may be older than the stream", "test_depth_is_cached_at_times"),
)
"""Section of the protocol page, what it says, and the test that holds the simulation to it."""
