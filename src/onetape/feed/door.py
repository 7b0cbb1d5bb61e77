"""The one door by which everything from outside enters: it numbers, it times, and it wakes who is due before."""
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from onetape import venues
from onetape.credentials import Credentials
from onetape.feed.backfill import Backfill
from onetape.feed.inputs import (
    Answer,
    Closed,
    Failed,
    Frame,
    Input,
    Listed,
    Needed,
    Opened,
    Pinged,
    Setup,
    Started,
    Stopped,
    Unlisted,
)
from onetape.feed.instruments import Directory
from onetape.feed.line import Line, Outcome
from onetape.feed.liveness import Liveness
from onetape.feed.pace import Pace
from onetape.feed.session import Session
from onetape.feed.standby import Standby, chosen, group_of
from onetape.model import Channel, Command, ConnectionState, Event, InstrumentId, Lifecycle, Reconnect

_NEVER = 1 << 63
_ACTIVE = Lifecycle.ACTIVE  # see BUY in model/events.py
BACKFILL = "~backfill"


class Door:
    """Of one process. Live and in replays, sessions see the same inputs in the same order at the same times.

    Timers derive from the inputs: before an input at t every wake due until t happens, earliest first, each with now =
    its own deadline. So no timer has to be recorded.
    """

    def __init__(self, seed: int = 0, credentials: Mapping[str, Credentials] | None = None) -> None:
        """``seed`` makes the jitter of reconnects; ``credentials`` are by venue, and no part of any input."""
        self.lines: dict[str, Line] = {}
        """By name. A connection is called after its line: ``binance#3``."""
        self.sessions: dict[str, Session] = {}
        """Of the connections that stand, by name; where a recording names no lines, made by whoever plays it."""
        self.directories: dict[str, Directory] = {}
        """What each venue lists."""
        self.backfills: dict[str, Backfill] = {}
        """Of each venue; its requests are those of a connection of its own, ``binance~backfill``."""
        self.standbys: dict[str, Standby] = {}
        """Of the groups of lines with the same subscriptions, by the name of the first one."""
        self.late = 0
        """Inputs of connections that had been given up."""
        self._paces: dict[str, Pace] = {}  # by venue: its lines share what it allows of connection attempts
        self._seed = seed
        self.credentials = credentials or {}
        self._let_go: set[str] = set()  # names of lines
        self._refused: dict[str, str] = {}  # by venue, why it does not accept them
        self._numbers = count(1)
        self._lines_by_connection: dict[str, Line] = {}  # of those that frames come from
        self._time = 0
        self._due = 0  # nobody is due before, though perhaps nobody then; 0: to be looked at anew

    @property
    def time(self) -> int:
        """Of the last input or wake, ns."""
        return self._time

    def stamp(self, now: int) -> tuple[int, int]:
        """Number and time for the next input; a clock that goes back is held still."""
        if now > self._time:  # noqa: PLR1730 - max() is a call, and this is for every frame
            self._time = now
        return next(self._numbers), self._time

    def enter(self, it: Input) -> list[Outcome]:
        """Passes an input on, after the wakes that are due before it. An unknown connection is a KeyError."""
        out = self.wake(it.time) if self._due <= it.time else []
        said = self._frame(it) if type(it) is Frame else self._enter(it)
        if self.standbys:
            said = chosen(said, self.standbys, self.lines, it.time)
        return out + said if out else said

    def _frame(self, it: Frame) -> list[Outcome]:
        """Nearly all that comes, and mostly of a connection that leads: then what is said there is what there is."""
        name = it.connection
        session, line = self.sessions.get(name), self._lines_by_connection.get(name)
        if session is None or line is None or line.leader != name or line.state is not _ACTIVE:
            if (line := self.line_of(name)) is not None:
                self._lines_by_connection[name] = line
            return self._to_connection(it)
        said = session.receive(it.data, it.time)
        out: list[Outcome] = []
        for one in said:
            if type(one) is Reconnect:  # what isinstance() has to deny costs 80 ns
                return self._relayed(line, session, name, said, it.time)
            out.append((name, one))
        due = session.next_wake()
        if due is not None and due < self._due:
            self._due = due
        return out

    def _enter(self, it: Input) -> list[Outcome]:
        self._due = 0  # whoever comes and goes by it
        self._lines_by_connection.clear()
        match it:
            case Started():
                return self._start(it)
            case Stopped():
                self.standbys.clear()  # all end, and each says so
                return [said for line in self.lines.values() for said in line.stop(it.time)]
            case Listed():
                return self._list(it)
            case Needed():
                return self._need(it)
            case Answer() | Failed() if (venue := asked_by_backfill(it.connection)):
                return _named(it.connection, _bring(self.backfills[venue], it))
            case Unlisted():
                return [(it.connection, ConnectionState(
                    venue=it.connection, received_time=it.time, available_at=it.time, connection=it.connection,
                    state=Lifecycle.RECONNECTING, reason=it.reason,
                ))]
            case _:
                return self._to_connection(it)

    def next_wake(self) -> int | None:
        """Nobody is due before, though perhaps nobody then; None if nothing is due ever."""
        self._due = self._due or self._earliest()
        return None if self._due == _NEVER else self._due

    def wake(self, now: int) -> list[Outcome]:
        """All that is due until ``now``, in the order of the deadlines; ties in the order of the connections."""
        out: list[Outcome] = []
        while self._due <= now:
            due = self._due = self._earliest()
            if due > now or due == _NEVER:
                break
            self._time = max(self._time, due)
            name = next((name for name, it in self.sessions.items() if it.next_wake() == due), None)
            venue = next((venue for venue, it in self.backfills.items() if it.next_wake() == due), None)
            if name is not None:
                said = self._relay(name, self.sessions[name].wake(due), due)
            elif venue is not None:
                said = _named(venue + BACKFILL, self.backfills[venue].wake(due))
            else:
                said = next(it for it in self.lines.values() if it.next_wake() == due).wake(due)
            out += chosen(said, self.standbys, self.lines, due) if self.standbys else said
        return out

    def _earliest(self) -> int:
        """Of all deadlines: too much to ask with every frame."""
        everybody: tuple[Session | Line | Backfill, ...] = (
            *self.sessions.values(), *self.lines.values(), *self.backfills.values())
        return min((due for it in everybody if (due := it.next_wake()) is not None), default=_NEVER)

    def _moved(self, *those: Session | Line) -> None:
        """A frame moves none but its own deadlines."""
        for it in those:
            due = it.next_wake()
            if due is not None and due < self._due:
                self._due = due

    def venue_of(self, connection: str) -> str:
        """Whose it is."""
        line = self.line_of(connection)
        return asked_by_backfill(connection) if line is None else line.setup.venue

    def line_of(self, connection: str) -> Line | None:
        return self.lines.get(connection.partition("#")[0])

    def let_go(self, connection: str) -> bool:
        """Of a line that nobody wants any more."""
        return connection.partition("#")[0] in self._let_go

    def _start(self, it: Started) -> list[Outcome]:
        """A venue begins."""
        venue = venues.VENUES[it.connection]
        limits = venue.spec.limits
        self._paces[it.connection] = Pace(limits.connects, limits.connects_per_ns)
        self.directories[it.connection] = Directory(venue(""), it.instruments)
        self.backfills[it.connection] = Backfill(venue(""), it.max_age_ns)
        out = [said for name, setup in it.lines.items() for said in self._start_line(name, setup, it.time)]
        self._group()
        return out

    def _need(self, it: Needed) -> list[Outcome]:
        found = self.backfills.get(it.connection)
        if found is None:  # of a venue that is not collected now
            self.late += 1
            return []
        return _named(it.connection + BACKFILL, found.need(it.need, it.time))

    def _group(self) -> None:
        groups: dict[str, list[str]] = {}
        for name in self.lines:
            groups.setdefault(group_of(name), []).append(name)
        for group, names in groups.items():
            known = self.standbys.get(group)
            if len(names) > 1 and (known is None or known.names != names):
                self.standbys[group] = Standby(self.lines, names, self.sessions.get)
        for group in [it for it in self.standbys if len(groups.get(it, ())) < 2]:
            del self.standbys[group]

    def leading(self, id: InstrumentId, channel: Channel) -> Session | None:
        """The session that is listened to for a channel of an instrument."""
        for name, line in self.lines.items():
            standby = self.standbys.get(group_of(name))
            if line.setup.venue != id.venue or (standby is not None and standby.leader(id.symbol, channel) != name):
                continue
            session = self.sessions.get(line.leader)
            if session is not None and session.has(id.symbol, channel):
                return session
        return None

    def _start_line(self, name: str, setup: Setup, now: int) -> list[Outcome]:
        spec, pace = venues.spec(setup.venue), self._paces[setup.venue]
        line = self.lines[name] = Line(name, setup, spec, pace, self.sessions, self._seed, self._new_session)
        reason = self._refused.get(setup.venue)
        return line.start(now) if reason is None else line.refuse(reason, now)

    def _change_lines(self, venue: str, lines: Mapping[str, Setup], now: int) -> list[Outcome]:
        """What is no longer wanted goes first: its place may be needed."""
        out: list[Outcome] = []
        for name in [name for name, line in self.lines.items() if line.setup.venue == venue and name not in lines]:
            out += self.lines.pop(name).stop(now)
            self._let_go.add(name)
        for name, setup in lines.items():
            line = self.lines.get(name)
            out += self._start_line(name, setup, now) if line is None else line.change(setup, now)
        self._group()
        return out

    def _new_session(self, setup: Setup, now: int) -> Session:
        return Session(
            venues.create(setup.venue, setup.route), setup.wanted, now, timings=setup.timings,
            credentials=self.credentials.get(setup.venue), beside=lambda: self._leaders(setup.venue),
        )

    def _leaders(self, venue: str) -> Iterator[Liveness]:
        """How the connections live that lead for this venue."""
        for line in self.lines.values():
            if line.setup.venue == venue and (session := self.sessions.get(line.leader)) is not None:
                yield session.liveness

    def _open(self, line: Line, it: Opened) -> list[Outcome]:
        out = line.opened(it.connection, it.time)
        listed = self.directories[line.setup.venue].instruments
        for symbol in dict.fromkeys(wanted.symbol for wanted in line.setup.wanted):
            instrument = listed.get(InstrumentId(line.setup.venue, symbol))
            if instrument is not None:
                out += self._relay(it.connection, self.sessions[it.connection].learn(instrument, it.time), it.time)
        return out

    def _to_connection(self, it: Input) -> list[Outcome]:
        line = self.line_of(it.connection)
        if line is None and self.let_go(it.connection):  # the rest of it was on its way
            self.late += 1
            return []
        if line is None:
            return self._to_session(self.sessions[it.connection], it)
        if isinstance(it, Opened):
            return self._open(line, it)
        if isinstance(it, Closed):
            return line.closed(it)
        session = self.sessions.get(it.connection)
        if session is None:  # given up, and the rest of it was on its way
            self.late += 1
            return []
        return self._relayed(line, session, it.connection, _give(session, it), it.time)

    def _relayed(
        self, line: Line, session: Session, connection: str, said: Sequence[Event | Command], now: int,
    ) -> list[Outcome]:
        out = line.relay(connection, said, now)
        if line.refused:
            out += self._refuse(line, now)
        self._moved(session, line)
        return out

    def _refuse(self, line: Line, now: int) -> list[Outcome]:
        """What one line is told holds for the venue's others, which would be told the same."""
        venue = line.setup.venue
        self._refused[venue] = line.reason
        others = [it for it in self.lines.values() if it.setup.venue == venue and not it.refused]
        return [said for it in others for said in it.refuse(line.reason, now)]

    def _to_session(self, session: Session, it: Input) -> list[Outcome]:
        said = [(it.connection, outcome) for outcome in _give(session, it)]
        self._moved(session)
        if isinstance(it, Closed):
            del self.sessions[it.connection]
        return said

    def _relay(self, connection: str, said: Sequence[Event | Command], now: int) -> list[Outcome]:
        line = self.line_of(connection)
        return [(connection, it) for it in said] if line is None else line.relay(connection, said, now)

    def _list(self, it: Listed) -> list[Outcome]:
        """Told to everybody once, and to the venue's own sessions, whose books may hang on it."""
        out: list[Outcome] = []
        changes = self.directories[it.connection].receive(it.pages, it.time)
        for change in changes or ():
            out.append((it.connection, change))
            for name, session in list(self.sessions.items()):  # one may end by it
                if session.venue.spec.name == it.connection and name in self.sessions:
                    out += self._relay(name, session.learn(change.instrument, it.time), it.time)
        if changes is not None and it.lines is not None:
            out += self._change_lines(it.connection, it.lines, it.time)
        return out


def asked_by_backfill(connection: str) -> str:
    """The venue whose backfill goes by this name; empty: it is a line's connection."""
    return connection.removesuffix(BACKFILL) if connection.endswith(BACKFILL) else ""


def _named(connection: str, said: Sequence[Event | Command]) -> list[Outcome]:
    return [(connection, it) for it in said]


def _bring(backfill: Backfill, it: Answer | Failed) -> Sequence[Event | Command]:
    if isinstance(it, Failed):
        return backfill.failed(it.id, it.reason, it.time)
    return backfill.receive(it.id, it.status, it.body, it.headers, it.time)


def _give(session: Session, it: Input) -> Sequence[Event | Command]:
    match it:
        case Frame():
            return session.receive(it.data, it.time)
        case Answer():
            return session.receive_rest(it.id, it.status, it.body, it.time, it.headers)
        case Failed():
            return session.rest_failed(it.id, it.reason, it.time)
        case Opened():
            return session.open(it.time)
        case Pinged():
            session.pinged(it.time)
            return ()
        case Closed():
            return session.close(it.reason, it.time)
        case Needed() | Listed() | Unlisted() | Started() | Stopped():
            return ()
