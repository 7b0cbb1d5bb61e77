"""Binance spot, simulated: connections, what is said on them, and when they end (sections 1 to 3 and 10).

Its streams are told by ``binance_desk``, its REST by ``binance_rest``.
"""
from collections import deque
from collections.abc import Mapping
from heapq import heappop, heappush
from random import Random
from urllib.parse import unquote

from msgspec import Struct, field

from onetape.clock import HOUR, MICROSECOND, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Action, Close, Frame, Happening, Ping, Rejected, Response
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import binance_control as control
from onetape.sim.venues.binance_budget import seconds_until
from onetape.sim.venues.binance_desk import Desk, Manner, next_beat
from onetape.sim.venues.binance_rest import Rest
from onetape.sim.venues.binance_streams import Stream, parse

STREAMS = 1_024
"""Per connection."""
MESSAGES = 5
"""A client may send in a second: pongs count, and so would pings, which the driver answers itself."""
ATTEMPTS, ATTEMPTS_WITHIN = 300, 5 * MINUTE
PING_EVERY, PONG_WITHIN = 20 * SECOND, 60 * SECOND
LIFETIME = 24 * HOUR
NOTICE_BEFORE = 10 * SECOND


class _Connection(Struct):
    id: int
    manner: Manner
    started: int
    next_ping: int
    ends: int
    ends_with: tuple[int, str] = (1001, "")
    streams: dict[str, Stream] = field(default_factory=dict)
    said: deque[int] = field(default_factory=lambda: deque(maxlen=MESSAGES))
    """When the client sent its last messages."""
    pings: list[tuple[int, bytes]] = field(default_factory=list)
    """Unanswered, oldest first: when, and what has to come back."""

    def too_fast(self, now: int) -> bool:
        """Counts a message."""
        fast = len(self.said) == MESSAGES and now - self.said[0] < SECOND
        self.said.append(now)
        return fast

    def answered(self, payload: bytes) -> None:
        """A pong. One that nobody asked for is allowed, and keeps nothing alive."""
        for index, (_, sent) in enumerate(self.pings):
            if sent == payload:
                del self.pings[:index + 1]
                return

    def due(self) -> int:
        """When something has to be done about it."""
        deadline = self.pings[0][0] + PONG_WITHIN if self.pings else self.ends
        return min(self.next_ping, deadline, self.ends)


class Binance:
    """See ``SimVenue``."""

    name = "binance"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        dice = Random(f"{seed} {self.name}")  # noqa: S311 - chance, no secret
        self._phase = dice.randrange(5, 95) * MILLISECOND  # the real one beats at no round time either (recordings)
        self._faults, self._may_skew = faults, bool(faults.of(FaultKind.CLOCK_SKEW))
        desks = {symbol: Desk(self.name, truth, faults, self._phase) for symbol, truth in truths.items()}
        self._by_symbol = desks
        self._desks = {symbol.lower(): desk for symbol, desk in desks.items()}  # streams are named in lower case
        off_beat = self._phase + dice.randrange(10, 90) * MILLISECOND  # a snapshot falls into the midst of a diff
        self._rest = Rest(self.name, desks, faults, off_beat)
        self._connections: dict[int, _Connection] = {}
        self._attempts: deque[int] = deque(maxlen=ATTEMPTS)
        self._agenda: list[tuple[int, int]] = []  # when to look at which connection; each stands in it once
        self._period = 0  # of the fastest stream that is told by the clock
        self._beaten = 0  # up to when that has been done
        notices = (it for it in faults.of(FaultKind.NOTICE) if it.venue in ("", self.name))
        self._notices = sorted((faults.time(it.at) for it in notices), reverse=True)

    # --- connections ------------------------------------------------------------------------------------------------

    def connect(self, connection: int, target: str, now: int) -> list[Action]:
        self._count_attempt(now)
        combined, names, unit = _read_target(target)
        streams = [it for it in map(parse, dict.fromkeys(names)) if it is not None]
        if len(streams) > STREAMS:
            raise Rejected(400)
        it = _Connection(connection, (combined, unit), now, now + PING_EVERY, now + LIFETIME)
        self._connections[connection] = it
        heappush(self._agenda, (it.due(), connection))
        for stream in streams:
            if not self._refuses(stream, now):
                self._listen(it, stream, now)
        self._set_period(now)
        return []

    def _count_attempt(self, now: int) -> None:
        """Raises Rejected. The simulator knows no address here: all clients are one."""
        if len(self._attempts) == ATTEMPTS and now - self._attempts[0] < ATTEMPTS_WITHIN:
            raise Rejected(429, {"Retry-After": seconds_until(self._attempts[0] + ATTEMPTS_WITHIN, now)})
        self._attempts.append(now)

    def receive(self, connection: int, frame: bytes, now: int) -> list[Action]:
        it = self._connections.get(connection)
        if it is None:
            return []
        if it.too_fast(now):
            return self._close(it, 1008, "Too many requests", now)
        if len(frame) > control.LONGEST:
            return []
        try:
            return [Frame(connection, self._obey(it, control.read(frame), now))]
        except control.Refused as refused:
            return [Frame(connection, refused.frame)]

    def pong(self, connection: int, payload: bytes, now: int) -> list[Action]:
        it = self._connections.get(connection)
        if it is None:
            return []
        if it.too_fast(now):
            return self._close(it, 1008, "Too many requests", now)
        it.answered(payload)
        return []

    def disconnect(self, connection: int, now: int) -> None:
        it = self._connections.pop(connection, None)
        if it is not None:
            for stream in it.streams.values():
                self._tell_no_more(it, stream)
            self._set_period(now)

    def _close(self, it: _Connection, code: int, reason: str, now: int) -> list[Action]:
        self.disconnect(it.id, now)
        return [Close(it.id, code, reason)]

    # --- subscriptions ----------------------------------------------------------------------------------------------

    def _obey(self, it: _Connection, request: control.Request, now: int) -> bytes:
        """Raises Refused."""
        match request.method:
            case "SUBSCRIBE":
                return self._subscribe(it, request, now)
            case "UNSUBSCRIBE":
                return self._unsubscribe(it, request, now)
            case "LIST_SUBSCRIPTIONS":
                return control.done(list(it.streams), request.id)
            case "GET_PROPERTY":
                request.property(1)
                return control.done(it.manner[0], request.id)
            case _:
                _, combined = request.property(2)
                self._change_manner(it, (bool(combined), it.manner[1]), now)
                return control.done(None, request.id)

    def _subscribe(self, it: _Connection, request: control.Request, now: int) -> bytes:
        """All or nothing. An unknown symbol is no mistake: it is acked, and stays silent for ever."""
        streams = self._streams(request)
        if any(self._refuses(stream, now) for stream in streams):
            raise control.Refused(2, "Invalid request: invalid stream", request.id)
        new = {stream.name: stream for stream in streams if stream.name not in it.streams}
        if len(it.streams) + len(new) > STREAMS:
            return control.too_many(request.id)
        for stream in new.values():
            self._listen(it, stream, now)
        self._set_period(now)
        return control.done(None, request.id)

    def _unsubscribe(self, it: _Connection, request: control.Request, now: int) -> bytes:
        for stream in self._streams(request):
            if it.streams.pop(stream.name, None):
                self._tell_no_more(it, stream)
        self._set_period(now)
        return control.done(None, request.id)

    def _streams(self, request: control.Request) -> list[Stream]:
        """Raises Refused."""
        streams = [stream for name in request.names() if (stream := parse(name))]
        if len(streams) < len(request.params):
            raise control.Refused(2, "Invalid request: invalid stream", request.id)
        return streams

    def _change_manner(self, it: _Connection, manner: Manner, now: int) -> None:
        before, it.manner = it.manner, manner
        for stream in it.streams.values() if before != manner else ():
            if desk := self._desks.get(stream.symbol):
                desk.rewrite(stream, before, manner, it.id, now)

    def _listen(self, it: _Connection, stream: Stream, now: int) -> None:
        it.streams[stream.name] = stream
        if desk := self._desks.get(stream.symbol):
            desk.listen(stream, it.manner, it.id, now)

    def _tell_no_more(self, it: _Connection, stream: Stream) -> None:
        if desk := self._desks.get(stream.symbol):
            desk.leave(stream, it.manner, it.id)

    def _refuses(self, stream: Stream, now: int) -> bool:
        fault = self._faults.active(FaultKind.REFUSE_SYMBOL, self.name, now, stream.symbol.upper())
        return fault is not None and self._faults.hits(fault)

    # --- time -------------------------------------------------------------------------------------------------------

    def happen(self, it: Happening, now: int) -> list[Action]:
        return self._by_symbol[it.listing.symbol].happen(it, now, self._skew(now))

    def next_wake(self) -> int | None:
        times = [it[0] for it in self._agenda[:1]] + self._notices[-1:]
        if self._period:
            times.append(next_beat(self._beaten, self._period, self._phase))
        return min(times, default=None)

    def wake(self, now: int) -> list[Action]:
        out: list[Action] = []
        while self._period and (beat := next_beat(self._beaten, self._period, self._phase)) <= now:
            self._beaten = beat
            skew = self._skew(beat)
            for desk in self._by_symbol.values():
                out += desk.beat(beat, skew)
        while self._notices and self._notices[-1] <= now:
            out += self._announce_shutdown(self._notices.pop(), now)
        while self._agenda and self._agenda[0][0] <= now:
            _, connection = heappop(self._agenda)
            if it := self._connections.get(connection):
                out += self._look_at(it, now)
        return out

    def _look_at(self, it: _Connection, now: int) -> list[Action]:
        if it.ends <= now:
            return self._close(it, *it.ends_with, now)
        if it.pings and it.pings[0][0] + PONG_WITHIN <= now:
            return self._close(it, 1008, "Pong timeout", now)
        out: list[Action] = []
        if it.next_ping <= now:
            payload = str(self._told_time(now) // MILLISECOND).encode()
            it.pings.append((now, payload))
            it.next_ping = now + PING_EVERY
            out.append(Ping(it.id, payload))
        heappush(self._agenda, (it.due(), it.id))
        return out

    def _announce_shutdown(self, time: int, now: int) -> list[Action]:
        """To everybody: no subscription is needed (section 2)."""
        fault = self._faults.active(FaultKind.NOTICE, self.name, time)
        out: list[Action] = []
        for it in self._connections.values():
            if fault is not None and not self._faults.hits(fault):
                continue
            combined, unit = it.manner
            text = f'{{"e":"serverShutdown","E":{self._told_time(now) // unit}}}'
            data = f'{{"stream":"!serverShutdown","data":{text}}}' if combined else text
            it.ends = min(it.ends, now + NOTICE_BEFORE)
            heappush(self._agenda, (it.ends, it.id))
            out.append(Frame(it.id, data.encode()))
        return out

    def _set_period(self, now: int) -> None:
        """What nobody has waited for until now is not made up for."""
        if not self._period or next_beat(self._beaten, self._period, self._phase) > now:
            self._beaten = now
        self._period = min((period for it in self._desks.values() if (period := it.period())), default=0)

    def _skew(self, now: int) -> int:
        if not self._may_skew:
            return 0
        fault = self._faults.active(FaultKind.CLOCK_SKEW, self.name, now)
        return round(fault.seconds * SECOND) if fault is not None else 0

    def _told_time(self, now: int) -> int:
        return now + self._skew(now)

    # --- REST -------------------------------------------------------------------------------------------------------

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        return self._rest.request(method, target, now, self._skew(now), headers, client)


def _read_target(target: str) -> tuple[bool, list[str], int]:
    """``/ws/<s1>/<s2>`` or ``/stream?streams=<s1>/<s2>``: whether combined, the streams, and the unit of time (1.1).

    Raises Rejected.
    """
    path, _, query = target.partition("?")
    pairs = (it.partition("=") for it in query.split("&"))
    options = {name: unquote(value) for name, _, value in pairs}  # a plus stays: it stands in names of zones
    unit = MICROSECOND if options.get("timeUnit", "").upper() == "MICROSECOND" else MILLISECOND
    first, *names = [unquote(it) for it in path.split("/") if it] or [""]
    if first == "ws":
        return False, names, unit
    if first == "stream" and not names:
        return True, [it for it in options.get("streams", "").split("/") if it], unit
    raise Rejected(404)


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
    ("Traps 5", "a snapshot may be older than the stream", "test_depth_is_cached"),
)
"""Section of the protocol page, what it says, and the test that holds the simulation to it."""
