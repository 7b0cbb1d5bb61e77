"""Connections to both simulated Binances: what is said on them, and when they end (sections 1 to 3 and 10)."""
from collections import deque
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from math import gcd
from random import Random

from msgspec import Struct, field

from onetape.clock import HOUR, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Action, Close, Frame, Happening, Ping, Rejected
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.venues import binance_control as control
from onetape.sim.venues.binance_budget import seconds_until
from onetape.sim.venues.binance_desk import Desk, next_beat
from onetape.sim.venues.binance_streams import Manner, Stream, Target

STREAMS = 1_024
"""Per connection."""
ATTEMPTS, ATTEMPTS_WITHIN = 300, 5 * MINUTE
LIFETIME = 24 * HOUR
NOTICE_BEFORE = 10 * SECOND


class Rules(Struct, frozen=True):
    """What is not the same on both markets (section 2)."""

    messages: int
    """A client may send in a second: pongs count, and so would pings, which the driver answers itself."""
    ping_every: int
    pong_within: int
    read_target: Callable[[str], Target]
    """Raises Rejected."""
    parse: Callable[[str], Stream | None]
    """The name of a stream."""


class _Connection(Struct):
    id: int
    rules: Rules
    manner: Manner
    route: str
    next_ping: int
    ends: int
    said: deque[int]
    """When the client sent its last messages: as many as it may in a second."""
    ends_with: tuple[int, str] = (1001, "")
    streams: dict[str, Stream] = field(default_factory=dict)
    pings: list[tuple[int, bytes]] = field(default_factory=list)
    """Unanswered, oldest first: when, and what has to come back."""

    def too_fast(self, now: int) -> bool:
        """Counts a message."""
        fast = len(self.said) == self.said.maxlen and now - self.said[0] < SECOND
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
        deadline = self.pings[0][0] + self.rules.pong_within if self.pings else self.ends
        return min(self.next_ping, deadline, self.ends)


class Sockets:
    """All of a venue but its REST, and what it calls its trades. See ``SimVenue``."""

    def __init__(self, name: str, rules: Rules, desks: Mapping[str, Desk], faults: Faults, phase: int) -> None:
        """``desks`` by the venue's upper-case symbol; their clocks beat in ``phase``."""
        self.name, self._rules, self._phase = name, rules, phase
        self._faults, self._may_skew = faults, bool(faults.of(FaultKind.CLOCK_SKEW))
        self._by_symbol = desks
        self._desks = {symbol.lower(): desk for symbol, desk in desks.items()}  # streams are named in lower case
        self._connections: dict[int, _Connection] = {}
        self._attempts: deque[int] = deque(maxlen=ATTEMPTS)
        self._agenda: list[tuple[int, int]] = []  # when to look at which connection; each stands in it once
        self._period = 0  # in which all streams fit that are told by the clock
        self._beaten = 0  # up to when that has been done
        notices = (it for it in faults.of(FaultKind.NOTICE) if it.venue in ("", self.name))
        self._notices = sorted((faults.time(it.at) for it in notices), reverse=True)

    # --- connections ------------------------------------------------------------------------------------------------

    def connect(self, connection: int, target: str, now: int) -> list[Action]:
        self._count_attempt(now)
        wanted = self._rules.read_target(target)
        streams = [it for it in map(self._rules.parse, dict.fromkeys(wanted.names)) if it is not None]
        if len(streams) > STREAMS:
            raise Rejected(400)
        rules, said = self._rules, deque[int](maxlen=self._rules.messages)
        it = _Connection(
            connection, rules, wanted.manner, wanted.route, now + rules.ping_every, now + LIFETIME, said,
        )
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
        streams = [stream for name in request.names() if (stream := self._rules.parse(name))]
        if len(streams) < len(request.params):
            raise control.Refused(2, "Invalid request: invalid stream", request.id)
        return streams

    def _change_manner(self, it: _Connection, manner: Manner, now: int) -> None:
        before, it.manner = it.manner, manner
        for stream in it.streams.values() if before != manner else ():
            if desk := self._desk(it, stream):
                desk.rewrite(stream, before, manner, it.id, now)

    def _listen(self, it: _Connection, stream: Stream, now: int) -> None:
        it.streams[stream.name] = stream
        if desk := self._desk(it, stream):
            desk.listen(stream, it.manner, it.id, now)

    def _tell_no_more(self, it: _Connection, stream: Stream) -> None:
        if desk := self._desk(it, stream):
            desk.leave(stream, it.manner, it.id)

    def _desk(self, it: _Connection, stream: Stream) -> Desk | None:
        """None: there is no such instrument, or it is not told of on this route."""
        return self._desks.get(stream.symbol) if stream.route == it.route else None

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
        if it.pings and it.pings[0][0] + self._rules.pong_within <= now:
            return self._close(it, 1008, "Pong timeout", now)
        out: list[Action] = []
        if it.next_ping <= now:
            payload = str(self._told_time(now) // MILLISECOND).encode()
            it.pings.append((now, payload))
            it.next_ping = now + self._rules.ping_every
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
        self._period = gcd(*(it.period() for it in self._desks.values()))

    def _skew(self, now: int) -> int:
        if not self._may_skew:
            return 0
        fault = self._faults.active(FaultKind.CLOCK_SKEW, self.name, now)
        return round(fault.seconds * SECOND) if fault is not None else 0

    def _told_time(self, now: int) -> int:
        return now + self._skew(now)


def phases(name: str, seed: int) -> tuple[int, int]:
    """When a venue's clock beats, against the round time, and when its cached books are taken: at no beat, so that a
    snapshot falls into the midst of a diff. The real ones beat at no round time either (recordings).
    """
    dice = Random(f"{seed} {name}")  # noqa: S311 - chance, no secret
    phase = dice.randrange(5, 95) * MILLISECOND
    return phase, phase + dice.randrange(10, 90) * MILLISECOND
