"""Kraken spot on the wire: WebSocket v2 under ``/v2``, and REST handed on. Written from the protocol page alone."""
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from random import Random

from onetape.clock import MICROSECOND, MINUTE, SECOND
from onetape.sim.base import Action, Close, Frame, Happening, Listing, Match, Rejected, Response
from onetape.sim.faults import Fault, FaultKind, Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import kraken_frames as frames
from onetape.sim.venues.kraken_channels import TOPICS, VENUE, Channels, Option
from onetape.sim.venues.kraken_requests import (
    MALFORMED,
    Params,
    Request,
    echo,
    is_pair,
    option,
    read_params,
    read_request,
    wrong,
)
from onetape.sim.venues.kraken_rest import Bucket, KrakenRest

HEARTBEAT_NS = SECOND
IDLE_NS = MINUTE
MESSAGES_A_SECOND, MESSAGES_AT_ONCE = 20, 50  # the venue publishes no number: about what a large client uses unharmed
ATTEMPTS, ATTEMPTS_NS, BAN_NS = 150, 10 * MINUTE, 10 * MINUTE
NOTICE_NS, RESTART_NS = 10 * SECOND, 5 * SECOND

Topic = tuple[str, str, Option]
"""Channel, symbol (empty: all instruments), option."""


class _Connection:
    """One client's socket."""

    def __init__(self, number: int, now: int) -> None:
        self.number = number
        self.topics: dict[tuple[str, str], dict[Option, Topic]] = {}
        """By channel and symbol."""
        self.sent = self.heard = now
        self.messages = Bucket(MESSAGES_AT_ONCE, MESSAGES_A_SECOND, now)
        self.due = 0
        """When the timer has to look at it."""

    def wakes_at(self) -> int:
        """For a heartbeat if it is subscribed to anything; else for the end of its idleness (sections 2 and 3.1)."""
        return self.sent + HEARTBEAT_NS if self.topics else max(self.sent, self.heard) + IDLE_NS


class Kraken:
    """The venue. See SimVenue."""

    name = VENUE
    book_clock_ns = MICROSECOND  # no sequence, only a checksum
    instruments_path = "/0/public/AssetPairs"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        self._faults, self._truths = faults, truths
        self._channels = {symbol: Channels(truth, faults) for symbol, truth in truths.items()}
        self._random = Random(seed)  # noqa: S311 - connection ids, no secrets
        self._rest = KrakenRest(truths, faults)
        self._connections: dict[int, _Connection] = {}
        self._hearers: dict[Topic, dict[int, _Connection]] = {}
        self._timers: list[tuple[int, int]] = []
        self._notices = _of_this_venue(faults, FaultKind.NOTICE)
        self._skewed = bool(_of_this_venue(faults, FaultKind.CLOCK_SKEW))
        self._announcements = [faults.time(it.at) for it in self._notices]
        heapify(self._announcements)
        self._closings: list[int] = []
        self._attempts: deque[int] = deque()
        self._banned_until = 0

    # --- connections (section 2) --------------------------------------------------------------------------------------

    def connect(self, connection: int, target: str, now: int) -> list[Action]:
        self._attempt(now)
        if target.partition("?")[0] != "/v2":
            raise Rejected(404)
        if self._restarting(now):
            raise Rejected(503)
        client = self._connections[connection] = _Connection(connection, now)
        self._set_timer(client)
        return self._say([client], frames.status(self._system(now), self._random.getrandbits(64)), now)

    def _attempt(self, now: int) -> None:
        """The edge counts attempts, whatever becomes of them; REST lies behind the same edge."""
        while self._attempts and self._attempts[0] <= now - ATTEMPTS_NS:
            self._attempts.popleft()
        if now >= self._banned_until and len(self._attempts) >= ATTEMPTS:
            self._banned_until = now + BAN_NS
            self._attempts.clear()
        if now < self._banned_until:
            raise Rejected(429)
        self._attempts.append(now)

    def disconnect(self, connection: int, now: int) -> None:
        client = self._connections.pop(connection, None)
        if client is not None:
            for topic in [it for by_option in client.topics.values() for it in by_option.values()]:
                self._leave(client, topic)

    def pong(self, connection: int, payload: bytes, now: int) -> list[Action]:
        client = self._connections.get(connection)
        if client is not None:
            client.heard = now
        return []

    # --- requests (section 3) -----------------------------------------------------------------------------------------

    def receive(self, connection: int, frame: bytes, now: int) -> list[Action]:
        client = self._connections.get(connection)
        if client is None:
            return []
        client.heard = now
        if not client.messages.take(now):
            return self._say([client], frames.EXCEEDED, now)
        time = now + self._skew(now)
        request = read_request(frame)
        if request is None:
            return self._say([client], frames.failed(MALFORMED, time), now)
        match request.method:
            case "ping":
                return self._say([client], frames.done("pong", time, request.req_id), now)
            case "subscribe" | "unsubscribe":
                return self._ask(client, request, now)
            case method:
                return self._say([client], frames.failed("Event(s) not found", time, method, request.req_id), now)

    def _ask(self, client: _Connection, request: Request, now: int) -> list[Action]:
        """One answer per symbol; none of the symbols gets its own if the rest of the request is wrong."""
        params = read_params(request.params)
        error = MALFORMED if params is None else wrong(params)
        if params is None or error is not None:
            return self._fail(client, request, error or MALFORMED, now)
        obey = self._subscribe if request.method == "subscribe" else self._unsubscribe
        symbols = params.symbol if params.channel != "instrument" else ("",)
        return [action for symbol in symbols for action in obey(client, request, params, symbol, now)]

    def _subscribe(
        self, client: _Connection, request: Request, params: Params, symbol: str, now: int,
    ) -> list[Action]:
        topic = params.channel, symbol, option(params)
        refusal = self._refusal(client, topic, now)
        if refusal is not None:
            return self._fail(client, request, refusal, now, symbol)
        self._join(client, topic)
        wanted = params.channel != "trade" if params.snapshot is None else params.snapshot
        actions = self._done(client, request, echo(params, symbol, wanted), now)
        data = self._snapshot(topic, now) if wanted else None
        return actions if data is None else actions + self._say([client], data, now, symbol, TOPICS.get(topic[0], ""))

    def _refusal(self, client: _Connection, topic: Topic, now: int) -> str | None:
        channel, symbol, option = topic
        refused = symbol and self._faults.active(FaultKind.REFUSE_SYMBOL, VENUE, now, symbol, TOPICS.get(channel, ""))
        if symbol and not is_pair(symbol):
            return f"Currency pair not in ISO 4217-A3 format {symbol}"
        if refused or (symbol and not self._is_listed(symbol, now)):
            return f"Currency pair not supported {symbol}"
        options = client.topics.get((channel, symbol), ())
        # Frames of ohlc carry their interval; those of a book no depth, so that a client can hear only one.
        taken = option in options if channel == "ohlc" else bool(options)
        return "Already subscribed" if taken else None

    def _is_listed(self, symbol: str, now: int) -> bool:
        return symbol in self._channels and self._faults.listed(VENUE, symbol, now)

    def _unsubscribe(
        self, client: _Connection, request: Request, params: Params, symbol: str, now: int,
    ) -> list[Action]:
        topic = client.topics.get((params.channel, symbol), {}).get(option(params))
        if topic is None:
            return self._fail(client, request, "Subscription Not Found", now, symbol)
        self._leave(client, topic)
        return self._done(client, request, echo(params, symbol, None), now)

    def _join(self, client: _Connection, topic: Topic) -> None:
        channel, symbol, option = topic
        hearers = self._hearers.setdefault(topic, {})
        if not hearers and symbol:
            self._channels[symbol].begin(channel, option)
        hearers[client.number] = client
        first = not client.topics
        client.topics.setdefault((channel, symbol), {})[option] = topic
        if first:
            self._set_timer(client)

    def _leave(self, client: _Connection, topic: Topic) -> None:
        channel, symbol, option = topic
        del client.topics[channel, symbol][option]
        if not client.topics[channel, symbol]:
            del client.topics[channel, symbol]
        del self._hearers[topic][client.number]
        if not self._hearers[topic]:
            del self._hearers[topic]
            if symbol:
                self._channels[symbol].end(channel, option)

    def _snapshot(self, topic: Topic, now: int) -> bytes | None:
        channel, symbol, option = topic
        if channel == "instrument":
            return frames.instruments("snapshot", self._listings(now), self._system(now))
        return self._channels[symbol].snapshot(channel, option, now, self._skew(now))

    def _listings(self, now: int) -> list[Listing]:
        return [truth.listing for symbol, truth in self._truths.items() if self._is_listed(symbol, now)]

    def number(self, trade_id: str) -> int:
        return int(trade_id)

    def match(self, symbol: str, number: int) -> Match | None:
        return self._truths[symbol].match(number)

    def skipped(self, symbol: str) -> Sequence[int]:
        return self._truths[symbol].skipped()

    # --- the market, and time -----------------------------------------------------------------------------------------

    def happen(self, it: Happening, now: int) -> list[Action]:
        channels = self._channels.get(it.listing.symbol)
        if channels is None or not channels.heard:
            return []
        actions: list[Action] = []
        symbol = it.listing.symbol
        for said in channels.happen(it, now, self._skew(now) if self._skewed else 0):
            hearers = self._hearers[said.channel, symbol, said.option].values()
            actions += self._say(hearers, said.data, now, symbol, TOPICS[said.channel])
        return actions

    def next_wake(self) -> int | None:
        firsts = [it[0] for it in (self._announcements, self._closings) if it]
        return min([*firsts, *(it[0] for it in self._timers[:1])], default=None)

    def wake(self, now: int) -> list[Action]:
        actions: list[Action] = []
        while self._announcements and self._announcements[0] <= now:
            heappush(self._closings, heappop(self._announcements) + NOTICE_NS)
            actions += self._announce(now)
        while self._closings and self._closings[0] <= now:
            heappop(self._closings)
            actions += self._close(list(self._connections.values()), 1012, "service restart", now)
        while self._timers and self._timers[0][0] <= now:
            due, number = heappop(self._timers)
            client = self._connections.get(number)
            if client is not None and client.due == due:
                actions += self._look_at(client, now)
        return actions

    def _look_at(self, client: _Connection, now: int) -> list[Action]:
        actions: list[Action] = []
        if client.wakes_at() <= now:
            if not client.topics:
                return self._close([client], 1001, "idle", now)
            actions = self._say([client], frames.HEARTBEAT, now)
        self._set_timer(client)
        return actions

    def _set_timer(self, client: _Connection) -> None:
        client.due = client.wakes_at()
        heappush(self._timers, (client.due, client.number))

    def _announce(self, now: int) -> list[Action]:
        """Every connection hears the engine's state; who hears instruments learns it pair by pair as well."""
        data = frames.instruments("update", self._listings(now), "maintenance")
        actions = self._say(self._hearers.get(("instrument", "", ""), {}).values(), data, now)
        for client in self._connections.values():
            actions += self._say([client], frames.status("maintenance", self._random.getrandbits(64)), now)
        return actions

    def _close(self, clients: Iterable[_Connection], code: int, reason: str, now: int) -> list[Action]:
        actions: list[Action] = []
        for client in clients:
            self.disconnect(client.number, now)
            actions.append(Close(client.number, code, reason))
        return actions

    # --- REST (section 7) ---------------------------------------------------------------------------------------------

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        if now < self._banned_until:
            return Response(429, b"")
        if self._restarting(now):
            return Response(200, b'{"error":["EService:Unavailable"]}')
        return self._rest.request(method, target, now, client, self._system(now), self._skew(now))

    # --- small things -------------------------------------------------------------------------------------------------

    def _system(self, now: int) -> str:
        begun = (self._faults.time(it.at) for it in self._notices)
        return "maintenance" if any(it <= now < it + NOTICE_NS + RESTART_NS for it in begun) else "online"

    def _restarting(self, now: int) -> bool:
        ended = (self._faults.time(it.at) + NOTICE_NS for it in self._notices)
        return any(it <= now < it + RESTART_NS for it in ended)

    def _skew(self, now: int) -> int:
        fault = self._faults.active(FaultKind.CLOCK_SKEW, VENUE, now) if self._skewed else None
        return int(fault.seconds * SECOND) if fault is not None else 0

    def _say(
        self, clients: Iterable[_Connection], data: bytes, now: int, symbol: str = "", topic: str = "",
    ) -> list[Action]:
        actions: list[Action] = []
        for client in clients:
            client.sent = now
            actions.append(Frame(client.number, data, symbol, topic))
        return actions

    def _done(self, client: _Connection, request: Request, result: Mapping[str, object], now: int) -> list[Action]:
        data = frames.done(request.method, now + self._skew(now), request.req_id, result)
        return self._say([client], data, now)

    def _fail(
        self, client: _Connection, request: Request, error: str, now: int, symbol: str = "",
    ) -> list[Action]:
        time = now + self._skew(now)
        return self._say([client], frames.failed(error, time, request.method, request.req_id, symbol or None), now)


def _of_this_venue(faults: Faults, kind: FaultKind) -> Sequence[Fault]:
    return [it for it in faults.of(kind) if it.venue in {"", VENUE}]
