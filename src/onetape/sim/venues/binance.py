"""Binance spot, simulated.

Its connections are kept by ``binance_sockets``, its streams told by ``binance_desk``, its REST by ``binance_rest``.
"""
from collections.abc import Mapping, Sequence

from onetape.clock import SECOND
from onetape.sim.base import Match, Response
from onetape.sim.faults import Faults
from onetape.sim.truth import Truth
from onetape.sim.venues.binance_aggregates import Aggregates
from onetape.sim.venues.binance_desk import Desk
from onetape.sim.venues.binance_frames import Paper
from onetape.sim.venues.binance_rest import Rest
from onetape.sim.venues.binance_sockets import Rules, Sockets, phases
from onetape.sim.venues.binance_streams import parse, read_target


class Binance(Sockets):
    """See ``SimVenue``."""

    name = "binance"
    book_clock_ns = 0
    instruments_path = "/api/v3/exchangeInfo"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        phase, off_beat = phases(self.name, seed)
        desks = {
            symbol: Desk(self.name, Paper(truth), Aggregates(truth), faults, phase) for symbol, truth in truths.items()
        }
        super().__init__(self.name, RULES, desks, faults, phase)
        self._truths = truths
        self._rest = Rest(self.name, desks, faults, off_beat)

    def number(self, trade_id: str) -> int:
        return int(trade_id)

    def match(self, symbol: str, number: int) -> Match | None:
        return self._truths[symbol].match(number)

    def skipped(self, symbol: str) -> Sequence[int]:
        return self._truths[symbol].skipped()

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        return self._rest.request(method, target, now, self._skew(now), headers, client)


RULES = Rules(messages=5, ping_every=20 * SECOND, pong_within=60 * SECOND, read_target=read_target, parse=parse)


QUIRKS = (
    ("1.1", "raw and combined frames, one or many streams in the URL", "test_url_forms_raw_and_combined"),
    ("1.1", "another path is no WebSocket", "test_unknown_path_is_no_websocket"),
    ("1.1", "streams are named in lower case; others are silent", "test_upper_case_stream_is_silent"),
    ("1.1", "all times of a connection in microseconds", "test_time_unit_microsecond"),
    ("2", "a ping every 20 s, a pong within 60 s, else 1008", "test_ping_every_20_s_and_pong_within_60_s"),
    ("2", "a pong that nobody asked for keeps nothing alive", "test_unsolicited_pongs_do_not_keep_alive"),
    ("2", "more than 5 messages a second, pongs included: 1008", "test_five_messages_a_second"),
    ("2", "1,024 streams per connection", "test_1024_streams_per_connection"),
    ("2", "300 connections per 5 minutes", "test_300_connections_in_5_minutes"),
    ("2", "cut at 24 hours", "test_cut_at_24_h"),
    ("2", "serverShutdown without a subscription, raw and combined", "test_notice_then_close"),
    ("3", "an unknown symbol is acked, and silent for ever", "test_unknown_symbol_is_acked_and_silent"),
    ("3", "a bad stream name refuses the whole request with code 2", "test_bad_stream_is_refused"),
    ("3", "error frames have no result; codes 0, 1, 2", "test_error_codes"),
    ("3", "code 3 with line and column, without an id", "test_invalid_json"),
    ("3", "code 4 comes nested", "test_1024_streams_per_connection"),
    ("3", "ids: 64 bits, short text or null", "test_bad_ids"),
    ("3", "frames over 4,096 bytes get no answer at all", "test_long_frames_get_no_answer"),
    ("3", "the property `combined` changes the wrapping of a living connection", "test_properties"),
    ("4", "m says that the buyer was the maker: the taker sold", "test_trade_one_event_per_match"),
    ("5.1", "ids rise by one, one event per match", "test_trade_one_event_per_match"),
    ("5.2", "own ids; f follows the last l", "test_aggregate_per_order_and_price"),
    ("5.4", "every second; the window ends now", "test_ticker_every_second"),
    ("5.5", "no type and no time; only when the best changes", "test_best_only_when_it_changes_and_without_time"),
    ("5.6", "every 2 s; the closing frame after the end", "test_kline_every_two_seconds_and_closing_after_the_end"),
    ("5.6", "1s every second; without trades n=0 and no ids", "test_kline_1s_every_second_and_without_trades"),
    ("5.7", "U to u cover all; only the last size per level", "test_depth_covers_all_and_tells_the_last"),
    ("5.7", "partial depth has neither symbol nor time", "test_partial_depth_without_symbol_and_time"),
    ("5.7", "snapshot and diffs make the book", "test_depth_and_snapshot_make_the_truth"),
    ("5.7", "the first event may straddle the snapshot", "test_a_diff_may_straddle_the_snapshot"),
    ("5.7", "a new listing answers lastUpdateId -1", "test_a_new_listing_has_no_update_id"),
    ("7", "limits and weights of depth", "test_depth_limits_and_weights"),
    ("7", "the weights of the others", "test_weights"),
    ("7", "fromId is inclusive", "test_trades_and_history"),
    ("7", "aggregates by id or by times, never both", "test_aggregates_paging"),
    ("7", "klines ascend; which ones by which times; the last may be open", "test_klines_order_and_open_row"),
    ("7", "tick, lot and least notional stand in the filters", "test_exchange_info"),
    ("9", "used weight on each answer; 429 until the minute ends", "test_429_until_the_minute_is_over"),
    ("9", "418 for those who go on: from 2 minutes, extended by each request", "test_418_for_those_who_do_not_listen"),
    ("9", "the codes of bad requests", "test_refusals"),
    ("Traps 5", "a snapshot may be older than the stream", "test_depth_is_cached_at_times"),
)
"""Section of the protocol page, what it says, and the test that holds the simulation to it."""
