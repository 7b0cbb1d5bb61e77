"""Bybit v5 public, simulated: connections, what is said on them, and when they end (sections 1 to 3 and 8).

An instrument is listed as ``BTCUSDT`` on spot, as ``linear:BTCUSDT`` on linear; on the wire both are ``BTCUSDT``. Its
topics are told by ``bybit_feeds`` and ``bybit_books``, its REST by ``bybit_rest``.
"""
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from random import Random

from msgspec import Struct, field, json

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Action, Close, Frame, Happening, Match, Rejected, Response
from onetape.sim.faults import Fault, FaultKind, Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import bybit_control as control
from onetape.sim.venues.bybit_books import PERIODS, Depth
from onetape.sim.venues.bybit_feeds import Desk, Stream, Trades
from onetape.sim.venues.bybit_ids import match_id
from onetape.sim.venues.bybit_rest import Rest

SPOT, LINEAR, STATUS = "spot", "linear", "status"
PATHS = {f"/v5/public/{SPOT}": SPOT, f"/v5/public/{LINEAR}": LINEAR, "/v5/public/misc/status": STATUS}
ATTEMPTS, ATTEMPTS_WITHIN = 500, 5 * MINUTE
CONNECTIONS = 1_000
"""At a time, of each category."""
ARGS_CHARACTERS = 21_000
"""Of all topics of a connection."""
SPOT_ARGS, LINEAR_ARGS = 10, 500
"""Of one request. More are refused on spot, and close the connection on linear."""
LOOK_EVERY, IDLE, UNSUBSCRIBED = 30 * SECOND, 10 * MINUTE, MINUTE
NOTICE_BEFORE, OUTAGE = 10 * SECOND, 12 * SECOND
"""A maintenance is announced only if it is longer than 10 s, and never on the sockets that it ends."""

_Task = Callable[[int], list[Action]]


class _Refused(Exception):
    """A request, as a whole."""


class _Connection(Struct):
    id: int
    category: str
    conn_id: str
    alive: int
    """When it last brought data, or a request came."""
    subscribed: int
    """When it last had a topic, or began."""
    topics: dict[str, Stream | None] = field(default_factory=dict)
    """None: the status."""


class Bybit:
    """See ``SimVenue``."""

    name = "bybit"
    book_clock_ns = MILLISECOND  # of "ts": its update ids are each depth's own
    instruments_path = "/v5/market/instruments-info"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        self._faults, self._dice = faults, Random(f"{seed} {self.name}")  # noqa: S311 - chance, no secret
        self._truths = truths
        self._listed = {symbol: Desk(truth, seed) for symbol, truth in truths.items()}
        self._desks = {(it.paper.category, it.paper.symbol): it for it in self._listed.values()}
        self._rest = Rest(self.name, self._desks, faults)
        self._connections: dict[int, _Connection] = {}
        self._attempts: deque[int] = deque(maxlen=ATTEMPTS)
        self._agenda: list[tuple[int, int, _Task]] = []
        self._order = 0
        self._may_skew, self._may_skip = (bool(faults.of(it)) for it in (FaultKind.CLOCK_SKEW, FaultKind.SKIP_SEQUENCE))
        self._down_until = 0
        for it in faults.of(FaultKind.NOTICE):
            if it.venue in ("", self.name):
                self._plan_maintenance(it)

    def number(self, trade_id: str) -> int:
        return match_id(trade_id)

    def match(self, symbol: str, number: int) -> Match | None:
        return self._truths[symbol].match(number)

    def skipped(self, symbol: str) -> Sequence[int]:
        return self._truths[symbol].skipped()

    # --- connections ------------------------------------------------------------------------------------------------

    def connect(self, connection: int, target: str, now: int) -> list[Action]:
        """The simulator knows no address here: all clients are one."""
        category = PATHS.get(target.partition("?")[0])
        if category is None:
            raise Rejected(404)
        if len(self._attempts) == ATTEMPTS and now - self._attempts[0] < ATTEMPTS_WITHIN:
            raise Rejected(403, None, b"access too frequent")
        self._attempts.append(now)
        if now < self._down_until and category != STATUS:
            raise Rejected(503)
        if Counter(it.category for it in self._connections.values())[category] >= CONNECTIONS:
            raise Rejected(403)
        it = _Connection(connection, category, control.conn_id(self._dice), now, now)
        self._connections[connection] = it
        self._at(now + LOOK_EVERY, partial(self._look_at, it))
        return []

    def disconnect(self, connection: int, now: int) -> None:
        it = self._connections.pop(connection, None)
        for stream in it.topics.values() if it is not None else ():
            if stream is not None:
                stream.listeners.pop(connection, None)

    def pong(self, connection: int, payload: bytes, now: int) -> list[Action]:
        return []

    def _close(self, it: _Connection, now: int) -> list[Action]:
        """Without a word: no close codes are documented (section 8)."""
        self.disconnect(it.id, now)
        return [Close(it.id, 1006)]

    def _look_at(self, it: _Connection, now: int) -> list[Action]:
        if self._connections.get(it.id) is not it:
            return []
        if it.topics:
            it.subscribed = now
        if now - it.alive >= IDLE or now - it.subscribed >= UNSUBSCRIBED:
            return self._close(it, now)
        self._at(now + LOOK_EVERY, partial(self._look_at, it))
        return []

    # --- requests (section 3) ---------------------------------------------------------------------------------------

    def receive(self, connection: int, frame: bytes, now: int) -> list[Action]:
        it = self._connections.get(connection)
        if it is None:
            return []
        it.alive = now
        request = control.read(frame)
        if isinstance(request, str):
            return [self._answer(it, control.Request(), success=False, text=request)]
        match request.op:
            case "ping":
                return [self._answer(it, request, success=True, text="pong")]
            case "subscribe" if it.category == LINEAR and len(request.args or ()) > LINEAR_ARGS:
                return self._close(it, now)
            case "subscribe" | "unsubscribe":
                return self._ask(it, request, now)
            case _:
                return [self._answer(it, request, success=False, text="error:invalid op")]

    def _ask(self, it: _Connection, request: control.Request, now: int) -> list[Action]:
        """One answer for all; it may come behind the first data (recordings)."""
        try:
            data = (self._subscribe if request.op == "subscribe" else self._unsubscribe)(it, request.args or [], now)
        except _Refused as refused:
            return [self._answer(it, request, success=False, text=str(refused))]
        done = self._answer(it, request, success=True, text=control.done(it.category == SPOT, request.op))
        return [*data, done] if self._dice.random() < 0.5 else [done, *data]

    def _subscribe(self, it: _Connection, args: list[str], now: int) -> list[Action]:
        """All or nothing."""
        if not args:
            raise _Refused("Params Error")
        if it.category == SPOT and len(args) > SPOT_ARGS:
            raise _Refused(f"args size >{SPOT_ARGS}")
        if sum(map(len, (*it.topics, *args))) > ARGS_CHARACTERS:
            raise _Refused(f"args length >{ARGS_CHARACTERS}")
        new: dict[str, Stream | None] = {}
        for topic in args:
            if topic in it.topics or topic in new:
                raise _Refused(f"error:already subscribed,topic:{topic}")
            new[topic] = self._find(it.category, topic, now)
        it.topics.update(new)
        return [action for stream in new.values() if stream is not None for action in self._join(it, stream, now)]

    def _unsubscribe(self, it: _Connection, args: list[str], now: int) -> list[Action]:
        for topic in args:
            stream = it.topics.pop(topic, None)
            if stream is not None:
                stream.listeners.pop(it.id, None)
        it.subscribed = now
        return []

    def _find(self, category: str, topic: str, now: int) -> Stream | None:
        """Raises _Refused."""
        if category == STATUS and topic == "system.status":
            return None
        kind, _, rest = topic.partition(".")
        option, _, symbol = rest.rpartition(".")
        desk = self._desks.get((category, symbol))
        symbol_is_known = desk is not None and self._faults.listed(self.name, desk.paper.listing.symbol, now)
        if desk is None or not symbol_is_known or self._refuses(desk, now):
            unknown = f"Invalid symbol :[{topic}]" if category == SPOT else f"error:handler not found,topic:{topic}"
            raise _Refused(unknown)
        stream = desk.stream(kind, option)
        if stream is None:
            raise _Refused(f"error:handler not found,topic:{topic}")
        return stream

    def _refuses(self, desk: Desk, now: int) -> bool:
        fault = self._faults.active(FaultKind.REFUSE_SYMBOL, self.name, now, desk.paper.listing.symbol)
        return fault is not None and self._faults.hits(fault)

    def _join(self, it: _Connection, stream: Stream, now: int) -> list[Action]:
        feed, skew = stream.feed, self._skew(now)
        said = feed.join(now, skew, first=not stream.listeners)
        stale = self._faults.active(FaultKind.STALE_SNAPSHOT, self.name, now, stream.symbol, feed.channel)
        if isinstance(feed, Depth) and feed.channel == "book" and stale is not None and self._faults.hits(stale):
            said = feed.stale(now, skew, round(stale.seconds * SECOND))
        stream.listeners[it.id] = None
        self._expect(stream, now, moved=True)
        return [Frame(it.id, data, stream.symbol, feed.channel) for data in said]

    def _answer(self, it: _Connection, request: control.Request, *, success: bool, text: str) -> Action:
        spot = it.category == SPOT
        return Frame(it.id, control.answer(spot, it.conn_id, request.op, request.req_id, success=success, text=text))

    # --- the market, and time ---------------------------------------------------------------------------------------

    def happen(self, it: Happening, now: int) -> list[Action]:
        out: list[Action] = []
        for stream in self._listed[it.listing.symbol].streams.values():
            if not stream.listeners:
                continue
            feed = stream.feed
            if isinstance(feed, Trades):
                if it.matches:
                    out += self._publish(stream, feed.happen(it, now, self._skew(now)), now)
            elif feed.moved(it):
                self._expect(stream, now, moved=True)
        return out

    def _expect(self, stream: Stream, now: int, *, moved: bool) -> None:
        due = stream.feed.next(now, moved=moved)
        if due is not None and (not stream.due or due < stream.due):
            stream.due = due
            self._at(due, partial(self._beat, stream, due))

    def _beat(self, stream: Stream, due: int, now: int) -> list[Action]:
        if stream.due != due:
            return []
        stream.due = 0
        if not stream.listeners:
            return []
        out = self._publish(stream, stream.feed.beat(due, self._skew(now)), now)
        self._expect(stream, now, moved=False)
        return out

    def _publish(self, stream: Stream, said: list[bytes], now: int) -> list[Action]:
        if self._may_skip and said:
            fault = self._faults.active(FaultKind.SKIP_SEQUENCE, self.name, now, stream.symbol, stream.feed.channel)
            said = [it for it in said if fault is None or not self._faults.hits(fault)]
        for connection in stream.listeners if said else ():
            self._connections[connection].alive = now
        return stream.to_all(said)

    def next_wake(self) -> int | None:
        return self._agenda[0][0] if self._agenda else None

    def wake(self, now: int) -> list[Action]:
        out: list[Action] = []
        while self._agenda and self._agenda[0][0] <= now:
            out += heappop(self._agenda)[2](now)
        return out

    def _at(self, time: int, task: _Task) -> None:
        self._order += 1
        heappush(self._agenda, (time, self._order, task))

    # --- maintenance (section 2.2) ----------------------------------------------------------------------------------

    def _plan_maintenance(self, fault: Fault) -> None:
        """Announced on the status socket alone. The books begin anew at once, and 10 s later all sockets end."""
        at = self._faults.time(fault.at)
        begin, end = at + NOTICE_BEFORE, at + NOTICE_BEFORE + OUTAGE
        for time, state in ((at, "scheduled"), (begin, "ongoing"), (end, "completed")):
            self._at(time, partial(self._tell_status, state, begin, end))
        self._at(at, self._restart_books)
        self._at(begin, partial(self._end_all, fault, end))

    def _tell_status(self, state: str, begin: int, end: int, now: int) -> list[Action]:
        skew = self._skew(now)
        row = {
            "id": f"{begin // MILLISECOND:x}", "title": "System maintenance", "state": state,
            "begin": str((begin + skew) // MILLISECOND), "end": str((end + skew) // MILLISECOND), "href": "",
            "serviceTypes": [1, 5], "product": [1, 2], "uidSuffix": [], "maintainType": "1", "env": "1",
        }
        data = json.encode({"topic": "system.status", "ts": (now + skew) // MILLISECOND, "data": [row]})
        return [Frame(it.id, data) for it in self._connections.values() if "system.status" in it.topics]

    def _restart_books(self, now: int) -> list[Action]:
        out: list[Action] = []
        for desk in self._listed.values():
            for depth in PERIODS:  # those too that nobody has asked for yet
                desk.stream("orderbook", str(depth))
            for stream in desk.streams.values():
                if isinstance(stream.feed, Depth):
                    out += stream.to_all(stream.feed.restart(now, self._skew(now)))
        return out

    def _end_all(self, fault: Fault, until: int, now: int) -> list[Action]:
        self._down_until = until
        ended = [it for it in self._connections.values() if it.category != STATUS and self._faults.hits(fault)]
        return [action for it in ended for action in self._close(it, now)]

    def _skew(self, now: int) -> int:
        if not self._may_skew:
            return 0
        fault = self._faults.active(FaultKind.CLOCK_SKEW, self.name, now)
        return round(fault.seconds * SECOND) if fault is not None else 0

    # --- REST -------------------------------------------------------------------------------------------------------

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        down = now < self._down_until
        return self._rest.request(method, target, now, self._skew(now), client, down=down)


QUIRKS = (
    ("1", "spot and linear have a path each, and the same names", "test_one_name_is_two_instruments"),
    ("1", "other paths are none", "test_other_paths_are_refused"),
    ("2", "500 connections per 5 minutes, 1,000 at a time of each category", "test_connections_are_counted"),
    ("2", "spot takes 10 args per request", "test_spot_takes_ten_args"),
    ("2", "linear takes many, and drops those who send too many", "test_linear_drops_who_asks_for_too_much"),
    ("2", "21,000 characters of args on a connection", "test_args_are_limited_in_length"),
    ("2", "cut after 10 minutes without ping and data", "test_an_idle_socket_is_cut"),
    ("2", "cut after a minute without a topic", "test_an_unsubscribed_socket_is_cut"),
    ("2.1", "the pong says ping; req_id is missing on spot, empty on linear", "test_pongs"),
    ("2.2", "maintenance is announced on the status socket alone", "test_maintenance"),
    ("3", "one ack per request, with a text of its own on spot", "test_acks_look_like_the_recorded_ones"),
    ("3", "the ack may come before or after the first data", "test_acks_come_before_or_after_the_data"),
    ("3", "one bad topic fails its whole request, and is named", "test_one_bad_topic_fails_all"),
    ("3", "already subscribed; invalid op; what cannot be decoded", "test_wrong_requests"),
    ("3", "topics are case sensitive", "test_one_bad_topic_fails_all"),
    ("3", "keys come in another order on spot", "test_frames_look_like_the_recorded_ones"),
    ("4", "spot strips zeros, linear writes them", "test_numbers_of_both_markets"),
    ("5.1", "one frame for each order, all of one seq, that of the book", "test_trades_of_one_order_share_a_frame"),
    ("5.1", "at most 1,024 in a frame", "test_many_trades_are_split"),
    ("5.1", "ids are no sequence: digits on spot, UUIDs on linear", "test_ids_lead_back_to_the_truth"),
    ("5.1", "no history is replayed", "test_subscribing_to_trades_replays_nothing"),
    ("5.2", "spot tickers are whole, linear ones deltas", "test_tickers_merge_to_the_truth"),
    ("5.3", "best prices come as snapshots, again after 3 s with the same u", "test_best_prices_repeat"),
    ("5.4", "the running candle at most once a second, then the closed one", "test_candles"),
    ("5.4", "all intervals, weeks from Monday, months of the calendar", "test_candles_of_all_intervals"),
    ("5.5", "depths 50, 200, 1000 every 20, 100, 200 ms; 500 is gone", "test_books_come_at_their_beats"),
    ("5.5", "u rises by one with each message, seq is the engine's", "test_any_depth_follows_the_truth"),
    ("5.5", "what leaves the window is told as gone, what enters as new", "test_any_depth_follows_the_truth"),
    ("5.5", "who subscribes gets an older snapshot, and the deltas since", "test_a_snapshot_is_old_and_deltas_follow"),
    ("5.5", "subscribing again brings a snapshot again", "test_subscribing_again_brings_a_snapshot"),
    ("5.5", "u == 1 after a restart: the whole book", "test_maintenance"),
    ("5.5", "u of REST is that of depth 1000", "test_rest_book_is_that_of_depth_1000"),
    ("6", "envelope, retCode as a number, HTTP 200 for failures", "test_rest_refusals"),
    ("6", "instruments of linear are paged, those of spot are not", "test_instruments_are_paged_on_linear"),
    ("6", "an order book has 1 level on spot, 25 on linear", "test_rest_book_is_that_of_depth_1000"),
    ("6", "60 recent trades on spot, 1,000 on linear, newest first", "test_recent_trades"),
    ("6", "candles newest first, linear by default, both ends inclusive", "test_rest_candles"),
    ("6", "spot tickers have best prices here", "test_rest_tickers"),
    ("7", "600 requests per 5 s, then 403 for ten minutes", "test_rest_budget"),
    ("9", "a perpetual against USDC is called PERP", "test_instruments_look_like_the_recorded_ones"),
)
"""Section of the protocol page, what it says, and the test that holds the simulation to it."""
