"""OKX v5 public, simulated: connections, what is said on them, and when they end (sections 2, 3 and 10).

Its channels are told by ``okx_feeds`` and ``okx_books``, its REST by ``okx_rest``.
"""
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from random import Random

from msgspec import Raw, Struct, field, json

from onetape.clock import HOUR, MILLISECOND, SECOND
from onetape.sim.base import Action, Close, Frame, Happening, Match, Rejected, Response
from onetape.sim.faults import Fault, FaultKind, Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import okx_control as control
from onetape.sim.venues.okx_bodies import OTHERS, Row, instrument
from onetape.sim.venues.okx_books import VENUE
from onetape.sim.venues.okx_control import Arg, Problem
from onetape.sim.venues.okx_feeds import Desk, Stream, Trades
from onetape.sim.venues.okx_rest import Rest
from onetape.sim.venues.okx_upgrades import LASTS, NOTICE_BEFORE, Upgrades

PUBLIC, BUSINESS, PRIVATE = "public", "business", "private"
PATHS = {f"/ws/v5/{socket}": socket for socket in (PUBLIC, BUSINESS, PRIVATE)}
ATTEMPTS, ATTEMPTS_WITHIN = 3, SECOND
REQUESTS, REQUESTS_WITHIN = 480, HOUR
"""Of subscribing, unsubscribing and logging in, all together, on each connection."""
FRAME_BYTES = 64 * 1024
"""Of one request. All that there is to subscribe to is less, so that the limit of a connection is never reached."""
IDLE = 30 * SECOND
HEAVY = frozenset({"books-l2-tbt", "books50-l2-tbt"})
"""For those who trade much and are logged in."""

_Task = Callable[[int], list[Action]]
_Topic = tuple[str, str]
"""Channel and instrument, or kind of instruments."""


class _Connection(Struct):
    id: int
    socket: str
    conn_id: str
    pushed: int
    """When it last brought anything."""
    subscribed: bool = False
    """At any time."""
    logged_in: bool = False
    requests: deque[int] = field(default_factory=lambda: deque(maxlen=REQUESTS))
    topics: dict[_Topic, Stream | None] = field(default_factory=dict)
    """None: what is about no single instrument."""


class Okx:
    """See ``SimVenue``."""

    name = VENUE
    book_clock_ns = MILLISECOND  # of "ts": maintenance begins the numbers anew
    instruments_path = "/api/v5/public/instruments"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        self._truths, self._faults = truths, faults
        self._dice = Random(f"{seed} {VENUE}")  # noqa: S311 - connection ids, no secret
        self._desks = {symbol: Desk(truth, faults, seed) for symbol, truth in truths.items()}
        self._connections: dict[int, _Connection] = {}
        self._attempts: deque[int] = deque(maxlen=ATTEMPTS)
        self._agenda: list[tuple[int, int, int, _Task]] = []
        self._order = 0
        self._may_skew, self._may_skip = (bool(faults.of(it)) for it in (FaultKind.CLOCK_SKEW, FaultKind.SKIP_SEQUENCE))
        self._unlisted: set[str] = set()
        self._may_unlist = bool(faults.of(FaultKind.UNLISTED))
        self._upgrades = Upgrades(faults)
        self._rest = Rest(self._desks, faults, self._upgrades)
        for it in self._upgrades.notices:
            self._at(faults.time(it.at), partial(self._announce, it))

    def number(self, trade_id: str) -> int:
        return int(trade_id)

    def match(self, symbol: str, number: int) -> Match | None:
        return self._truths[symbol].match(number)

    def skipped(self, symbol: str) -> Sequence[int]:
        return self._truths[symbol].skipped()

    # --- connections (section 2) ------------------------------------------------------------------------------------

    def connect(self, connection: int, target: str, now: int) -> list[Action]:
        """The simulator knows no address here: all clients are one."""
        socket = PATHS.get(target.partition("?")[0])
        if socket is None:
            raise Rejected(404)
        if len(self._attempts) == ATTEMPTS and now - self._attempts[0] < ATTEMPTS_WITHIN:
            raise Rejected(429)
        self._attempts.append(now)
        it = _Connection(connection, socket, f"{self._dice.getrandbits(32):08x}", now)
        self._connections[connection] = it
        self._at(now + IDLE, partial(self._look_at, it))
        return []

    def disconnect(self, connection: int, now: int) -> None:
        it = self._connections.pop(connection, None)
        for stream in it.topics.values() if it is not None else ():
            if stream is not None:
                stream.leave(connection)

    def pong(self, connection: int, payload: bytes, now: int) -> list[Action]:
        """Of the WebSocket itself: nothing depends on it."""
        return []

    def _look_at(self, it: _Connection, now: int) -> list[Action]:
        """30 s after its beginning, and whenever it may have been silent for as long."""
        if self._connections.get(it.id) is not it:
            return []
        if now - it.pushed >= IDLE or not it.subscribed:
            return self._close(it, 4004, "No data received in 30s", now)
        self._at(it.pushed + IDLE, partial(self._look_at, it))
        return []

    def _close(self, it: _Connection, code: int, reason: str, now: int) -> list[Action]:
        self.disconnect(it.id, now)
        return [Close(it.id, code, reason)]

    # --- requests (sections 3 and 10) -------------------------------------------------------------------------------

    def receive(self, connection: int, frame: bytes, now: int) -> list[Action]:
        it = self._connections.get(connection)
        if it is None:
            return []
        if frame == b"ping":
            return [self._say(it, b"pong", now)]
        if len(frame) > FRAME_BYTES:
            return self._close(it, 1009, "Request message exceeds the maximum frame length", now)
        request = control.read(frame)
        if not isinstance(request, control.Request):
            return [self._fail(it, *request, now)]
        if len(it.requests) == REQUESTS and now - it.requests[0] < REQUESTS_WITHIN:
            return [self._fail(it, Problem("60014"), request.id, now)]
        it.requests.append(now)
        if request.op == "login":
            return self._log_in(it, request, now)
        return [self._obey(it, request, raw, now) for raw in request.args]

    def _obey(self, it: _Connection, request: control.Request, raw: Raw, now: int) -> Action:
        """Each arg succeeds or fails by itself."""
        try:
            arg = control.read_arg(raw)
            if request.op == "subscribe":
                self._subscribe(it, arg, now)
            else:
                self._unsubscribe(it, arg)
        except Problem as problem:
            return self._fail(it, problem, request.id, now)
        return self._say(it, control.done(request.op, arg, request.id, it.conn_id), now)

    def _subscribe(self, it: _Connection, arg: Arg, now: int) -> None:
        """What there is to hear at once comes with the first beat. Raises Problem."""
        stream = it.topics[arg.channel, arg.about()] = self._find(it, arg, now)
        it.subscribed = True
        if stream is None:
            return
        if not stream.listeners:
            stream.feed.begin(now)
        stream.join(it.id)
        self._expect(stream, now, moved=True)

    def _unsubscribe(self, it: _Connection, arg: Arg) -> None:
        """Whoever hears nothing there is told the same."""
        stream = it.topics.pop((arg.channel, arg.about()), None)
        if stream is not None:
            stream.leave(it.id)

    def _find(self, it: _Connection, arg: Arg, now: int) -> Stream | None:
        """None: about no single instrument. Raises Problem."""
        channel = arg.channel
        if it.socket == PRIVATE:
            raise arg.missing() if it.logged_in else Problem("60011")
        if it.socket == PUBLIC and (channel == "status" or (channel == "instruments" and arg.instType in OTHERS)):
            return None
        desk = self._desks.get(arg.instId)
        if desk is None or not self._faults.listed(VENUE, arg.instId, now) or self._refuses(arg.instId, now):
            raise arg.missing()
        if channel in HEAVY and it.socket == PUBLIC:
            raise Problem("64003" if it.logged_in else "60011")
        stream, candles = desk.stream(channel), channel.startswith("candle")
        if stream is None or (candles or channel == "trades-all") != (it.socket == BUSINESS):
            raise Problem("64001") if stream is not None and candles else arg.missing()
        return stream

    def _refuses(self, symbol: str, now: int) -> bool:
        fault = self._faults.active(FaultKind.REFUSE_SYMBOL, VENUE, now, symbol)
        return fault is not None and self._faults.hits(fault)

    def _log_in(self, it: _Connection, request: control.Request, now: int) -> list[Action]:
        """Whoever fails is shown out; whoever is in already is not."""
        if it.logged_in:
            return [self._fail(it, Problem("60031"), request.id, now)]
        try:
            control.check_login(request.args, now + self._skew(now))
        except Problem as problem:
            return [self._fail(it, problem, request.id, now), *self._close(it, 4001, "Login failed", now)]
        it.logged_in = True
        return [self._say(it, control.logged_in(request.id, it.conn_id), now)]

    # --- the market, and time ---------------------------------------------------------------------------------------

    def happen(self, it: Happening, now: int) -> list[Action]:
        out: list[Action] = []
        for stream in self._desks[it.listing.symbol].streams.values():
            if not stream.listeners:
                continue
            feed = stream.feed
            if isinstance(feed, Trades):
                if it.matches:
                    out += self._publish(stream, feed.happen(it, self._skew(now)), now)
            elif feed.moved(it):
                self._expect(stream, now, moved=True)
        return out

    def _expect(self, stream: Stream, now: int, *, moved: bool) -> None:
        due = stream.feed.next(now, moved=moved)
        if due is not None and (not stream.due or due < stream.due):
            stream.due = due
            self._at(due, partial(self._beat, stream, due), stream.feed.rank)

    def _beat(self, stream: Stream, due: int, now: int) -> list[Action]:
        if stream.due != due:
            return []
        stream.due = 0
        if not stream.listeners:
            return []
        skew = self._skew(now)
        out = self._publish(stream, stream.feed.beat(due, skew), now)
        if stream.new:
            out += self._carry(stream, stream.to_new(stream.feed.whole(due, skew)), now)
        self._expect(stream, now, moved=False)
        return out

    def _publish(self, stream: Stream, said: Iterable[bytes], now: int) -> list[Action]:
        return [action for data in said for action in self._carry(stream, stream.to_all([data]), now)]

    def _carry(self, stream: Stream, frames: list[Frame], now: int) -> list[Action]:
        """The same frame to everybody, unless a fault leaves it out."""
        if self._may_skip and frames:
            fault = self._faults.active(FaultKind.SKIP_SEQUENCE, VENUE, now, stream.symbol, stream.feed.channel)
            if fault is not None and self._faults.hits(fault):
                return []
        for it in frames:
            self._connections[it.connection].pushed = now
        return [*frames]

    def next_wake(self) -> int | None:
        return self._agenda[0][0] if self._agenda else None

    def wake(self, now: int) -> list[Action]:
        out = self._tell_listings(now) if self._may_unlist else []
        while self._agenda and self._agenda[0][0] <= now:
            out += heappop(self._agenda)[3](now)
        return out

    def _at(self, time: int, task: _Task, rank: int = 0) -> None:
        self._order += 1
        heappush(self._agenda, (time, rank, self._order, task))

    def _skew(self, now: int) -> int:
        if not self._may_skew:
            return 0
        fault = self._faults.active(FaultKind.CLOCK_SKEW, VENUE, now)
        return round(fault.seconds * SECOND) if fault is not None else 0

    # --- what is about no single instrument (sections 2, 5.7 and 5.8) -----------------------------------------------

    def _tell_listings(self, now: int) -> list[Action]:
        """Only the rows that changed."""
        unlisted = {it for it in self._desks if not self._faults.listed(VENUE, it, now)}
        changed, self._unlisted = sorted(unlisted ^ self._unlisted), unlisted
        out: list[Action] = []
        for symbol in changed:
            paper = self._desks[symbol].paper
            row = instrument(paper, "expired" if symbol in unlisted else "live")
            out += self._tell({"channel": "instruments", "instType": paper.type}, row, now)
        return out

    def _tell(self, arg: Mapping[str, str], row: Row, now: int) -> list[Action]:
        topic, data = (arg["channel"], arg.get("instType", "")), json.encode({"arg": arg, "data": [row]})
        return [self._say(it, data, now) for it in self._connections.values() if topic in it.topics]

    def _announce(self, fault: Fault, now: int) -> list[Action]:
        """All that is connected now ends soon, business sockets without a word; the books' numbers begin anew."""
        ending = [it for it in self._connections.values() if self._faults.hits(fault)]
        for desk in self._desks.values():
            desk.paper.restart()
        self._at(now + NOTICE_BEFORE, partial(self._end, ending))
        for after in (0, NOTICE_BEFORE, NOTICE_BEFORE + LASTS):
            self._at(now + after, partial(self._tell_status, fault))
        return [self._say(it, control.notice(it.conn_id), now) for it in ending if it.socket != BUSINESS]

    def _end(self, ending: list[_Connection], now: int) -> list[Action]:
        left = [it for it in ending if self._connections.get(it.id) is it]
        return [action for it in left for action in self._close(it, *_ENDS[it.socket], now)]

    def _tell_status(self, fault: Fault, now: int) -> list[Action]:
        return self._tell({"channel": "status"}, self._upgrades.row(fault, now, self._skew(now)), now)

    # --- answers ----------------------------------------------------------------------------------------------------

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        return self._rest.request(method, target, now, self._skew(now), client)

    def _say(self, it: _Connection, data: bytes, now: int) -> Action:
        it.pushed = now
        return Frame(it.id, data)

    def _fail(self, it: _Connection, problem: Problem, id: str, now: int) -> Action:
        return self._say(it, control.failed(problem, id, it.conn_id), now)


_ENDS = {PUBLIC: (1001, "service upgrade"), PRIVATE: (1001, "service upgrade"), BUSINESS: (1006, "")}

QUIRKS = (
    ("1", "other paths are none; an old suffix does no harm", "test_other_paths_are_refused"),
    ("1", "candles and trades-all on business, the rest on public", "test_each_channel_has_its_socket"),
    ("2", "3 new connections a second", "test_three_connections_a_second"),
    ("2", "480 subscribe, unsubscribe and login an hour on a connection", "test_480_requests_an_hour"),
    ("2", "cut 30 s after connecting without a subscription", "test_a_socket_without_subscription_is_cut"),
    ("2", "cut after 30 s without a push; a pong is one", "test_a_silent_socket_is_cut"),
    ("2", "ping and pong are plain text", "test_pings_are_text"),
    ("2", "64008 before an upgrade, on public sockets alone", "test_an_upgrade"),
    ("3", "one ack for each arg, with the id and the arg", "test_acks_look_like_the_recorded_ones"),
    ("3", "each arg succeeds or fails alone; errors carry no arg", "test_each_arg_succeeds_or_fails_alone"),
    ("3", "60012, 60013, 60019, 60027, 60033 by what is wrong", "test_hostile_frames_get_an_answer"),
    ("3", "64001 for candles on public, 60018 for what is nowhere", "test_each_channel_has_its_socket"),
    ("3", "60011, or 64003 when logged in, for tbt books", "test_logging_in"),
    ("3", "1009 for a frame that is too long", "test_a_long_request_ends_the_connection"),
    ("4", "numbers are strings, but for ids; no zeros at the end", "test_books_look_like_the_recorded_ones"),
    ("4", "sizes of swaps are contracts", "test_trades_are_the_truth"),
    ("5.1", "one push per order and price, id of the last, count", "test_trades_at_one_price_are_one"),
    ("5.1", "seqId of trades is that of the books", "test_trades_at_one_price_are_one"),
    ("5.1", "no snapshot of trades", "test_subscribing_to_trades_replays_nothing"),
    ("5.2", "one push per match, ids without a hole", "test_trades_are_the_truth"),
    ("5.3", "at most every 100 ms; vol24h and volCcy24h flip their meaning", "test_tickers_tell_the_truth"),
    ("5.3", "lastSz 0 before the first trade", "test_a_ticker_before_the_first_trade"),
    ("5.4", "time of the matching engine, again every 60 s, sides may be empty", "test_best_prices_repeat"),
    ("5.5", "volumes in contracts, coins and quote; confirm", "test_candles"),
    ("5.5", "at most one a second", "test_candles_come_once_a_second_at_most"),
    ("5.5", "empty intervals: unconfirmed; here only REST has them", "test_an_empty_interval_brings_no_candle"),
    ("5.5", "long bars open by UTC+8 without utc; 1m is not 1M", "test_candles_of_all_bars"),
    ("5.6", "snapshot, then linked updates; always 400 levels", "test_levels_that_leave_the_window_are_told"),
    ("5.6", "any history of a book", "test_any_book_follows_the_truth"),
    ("5.6", "identical numbers on every connection", "test_all_listeners_hear_the_same_numbers"),
    ("5.6", "heartbeat with prevSeqId == seqId after 60 s", "test_a_quiet_book_repeats_its_number"),
    ("5.6", "maintenance resets seqId to lower numbers", "test_maintenance_begins_the_numbers_anew"),
    ("5.6", "checksum 0, absent, or any number", "test_a_checksum_means_nothing"),
    ("5.6", "books5 is whole each time", "test_books5_is_whole_each_time"),
    ("5.6", "bbo-tbt, books, books5 in this order", "test_books_of_an_instrument_come_in_order"),
    ("5.6", "subscribing again brings a snapshot", "test_subscribing_again_brings_a_snapshot"),
    ("5.6", "a REST book joins the updates by seqId", "test_a_rest_book_joins_the_updates"),
    ("5.7", "only changed rows are pushed, with state expired", "test_instruments_are_told_when_they_change"),
    ("5.8", "planned maintenance, on status and over REST", "test_an_upgrade"),
    ("6", "sz 1 by default, 400 at most, 50 ms old; full books differ", "test_rest_books_are_refreshed_every_50_ms"),
    ("6", "100 trades by default, 500 at most", "test_trades_newest_first"),
    ("6", "after is older, before newer, alone the newest page", "test_history_of_trades_is_paged_down"),
    ("6", "before is refused with type 2", "test_rest_refusals"),
    ("6", "candles by after and before, the open one first", "test_rest_candles"),
    ("6", "candles of the latest 1440 bars", "test_candles_reach_back_1440_bars"),
    ("6", "states, empty fields, other kinds", "test_what_must_not_be_offered_is_listed_too"),
    ("7", "limits per endpoint in fixed 2 s, 429 with 50011", "test_rest_budgets"),
    ("7", "a failure may come with HTTP 200", "test_rest_refusals"),
    ("10", "the formula of the signature", "test_the_signature_is_that_of_the_page"),
    ("10", "wrong logins end the connection with 4001", "test_wrong_logins_are_shown_out"),
)
"""Section of the protocol page, what it says, and the test that holds the simulation to it."""
