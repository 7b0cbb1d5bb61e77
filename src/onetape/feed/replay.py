"""Plays a recording through the same lines that run live."""
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw, Struct

from onetape import venues
from onetape.book.sync import BookSync
from onetape.clock import DAY
from onetape.errors import UsageError
from onetape.feed import plan
from onetape.feed.door import Door, asked_by_backfill
from onetape.feed.line import Outcome
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
from onetape.feed.recording import Header, Recording
from onetape.feed.session import Session
from onetape.model import TAPES, Channel, InstrumentId, Request, RestKind
from onetape.nearest import nearest
from onetape.venues.base import UNREADABLE, Timings

LONGEST_PAUSE_NS = 7 * DAY  # within one recording: what is due in between takes time to play
# Others' recordings know nothing of our pings and of our patience: only what they say counts.
PATIENT = Timings(ping_every_ns=0, silence_ns=0, heartbeat_ns=0)
_OF_CONNECTION = Opened | Frame | Answer | Failed | Pinged | Closed


class Step(Struct, frozen=True):
    """One input, and what came of it."""

    line: int
    """1-based line of the file that the input belongs to."""
    input: Input
    outcomes: list[Outcome]


class Replay:
    """Iterate it to play; ``door.sessions`` are the live sessions as far as it has been played."""

    def __init__(self, recording: Recording, venue: str | None, depth: int = 0) -> None:
        """``venue``: of a recording of others; of ours, the one to play (None: all). Raises UsageError."""
        self.door = Door()
        self.ended: dict[str, Session] = {}
        """Sessions whose connection was closed, the last of each name."""
        self._recording, self._venue, self._depth = recording, venue, depth
        self._pairs: dict[InstrumentId, str] = {}
        self._wanted: dict[InstrumentId, set[Channel]] = {}
        if recording.header is not None:
            self.door = Door(recording.header.seed)
            for setup in recording.header.sessions.values():
                self._want(setup)
            _check(recording.header, venue)
            self._pairs = {it.id: it.pair for it in recording.header.instruments}
        elif venue is None:
            raise UsageError("say --venue: this recording does not name its venue")
        else:
            venues.spec(venue)

    def __iter__(self) -> Iterator[Step]:
        header, time = self._recording.header, None
        for line, it in self._recording.inputs:
            try:
                prepared = self._prepare(it) if header is None else self._chosen(it, header)
            except KeyError:
                raise UsageError(
                    f"the recording is corrupt in line {line}: unknown connection {it.connection!r}"
                ) from None
            if prepared is None:
                continue
            if time is not None and it.time - time > LONGEST_PAUSE_NS:
                days = (it.time - time) // DAY
                raise UsageError(f"the recording is corrupt in line {line}: its clock jumps by {days} days")
            time = it.time
            session = self.door.sessions.get(it.connection)
            if session is None and not self.door.lines and isinstance(prepared, _OF_CONNECTION):
                raise UsageError(f"the recording is corrupt in line {line}: {it.connection!r} was never opened")
            yield Step(line, it, self.door.enter(prepared))
            if session is not None and it.connection not in self.door.sessions:
                self.ended[it.connection] = session

    @property
    def sessions(self) -> dict[str, Session]:
        """Those that count: of each line the one that leads, or the last that did."""
        if not self.door.lines:
            return self.ended | self.door.sessions
        found = {name: self.door.sessions.get(it.leader, it.last) for name, it in self.door.lines.items()}
        return {name: it for name, it in found.items() if it is not None}

    def book(self, id: InstrumentId) -> BookSync | None:
        """As it is now, on the last connection that has it."""
        return next(
            (book for it in reversed(self.sessions.values())
             if it.venue.spec.name == id.venue and (book := it.books.get(id.symbol)) is not None),
            None,
        )

    def pair(self, id: InstrumentId) -> str:
        """As the recording's instruments say; empty: they do not."""
        return self._pairs.get(id, "")

    def tape(self, id: InstrumentId) -> Channel | None:
        """The channel that feeds the instrument's candles: of those subscribed to; None: that is not known."""
        if self._recording.header is None:
            return None
        tape, channels = venues.capabilities(id.venue).tape, self._wanted.get(id, set())
        return tape if tape in channels else next(iter(channels), None)

    def _want(self, setup: Setup) -> None:
        for it in setup.wanted:
            if it.channel in TAPES:
                self._wanted.setdefault(InstrumentId(setup.venue, it.symbol), set()).add(it.channel)

    def _chosen(self, it: Input, header: Header) -> Input | None:
        """None: of another venue. Raises KeyError for a connection that nobody made."""
        if header.onetape > 1:
            return it if self._is_chosen(it) else None
        setup = header.sessions[it.connection]
        if self._venue not in (None, setup.venue):
            return None
        if isinstance(it, Opened):
            self.door.sessions[it.connection] = Session(
                venues.create(setup.venue, setup.route), setup.wanted, it.time
            )
        return it

    def _is_chosen(self, it: Input) -> bool:
        if isinstance(it, Stopped):
            return True
        if venue := it.connection if isinstance(it, Needed) else asked_by_backfill(it.connection):
            return self._venue in (None, venue)
        if isinstance(it, Started | Listed | Unlisted):
            chosen = self._venue in (None, venues.spec(it.connection).name)
            if isinstance(it, Started | Listed) and it.lines and chosen:
                _check_lines(it.lines)
                for setup in it.lines.values():
                    self._want(setup)
            if isinstance(it, Started) and chosen:
                self._pairs.update({one.id: one.pair for one in it.instruments})
            return chosen
        if self.door.line_of(it.connection) is not None or self.door.let_go(it.connection):
            return True
        if self._venue is None:
            raise KeyError(it.connection)
        return False

    def _prepare(self, it: Input) -> Input | None:
        assert self._venue is not None
        if not self.door.sessions:
            self.door.sessions[it.connection] = Session(
                venues.create(self._venue), None, it.time, depth=self._depth, timings=PATIENT
            )
        if not isinstance(it, Answer):
            return it
        session = self.door.sessions[it.connection]
        try:
            request = session.venue.request_of(it.url) if it.url else _guess(session, it.body)
        except UNREADABLE as error:
            raise UsageError(f"a URL beside the recording is corrupt: {it.url[:100]!r}: {error}") from error
        if request is None or request.kind is not RestKind.BOOK:
            return None
        return msgspec.structs.replace(it, id=session.expect(request))


class _Sides(Struct):
    bids: list[Raw]
    asks: list[Raw]


def _guess(session: Session, body: bytes) -> Request | None:
    """A body without a URL is the snapshot of the only book that there is."""
    if len(session.books) != 1:
        count = len(session.books)
        hint = "" if count else ": is --venue right?"
        raise UsageError(f"whose is the REST snapshot? Up to there the recording shows {count} books{hint}")
    try:
        sides = msgspec.json.decode(body, type=_Sides)
    except msgspec.MsgspecError as error:
        raise UsageError(f"the REST snapshot is corrupt: {error}") from error
    longest = max(len(sides.bids), len(sides.asks))
    (symbol,) = session.books
    return Request(RestKind.BOOK, "", symbol, depth=longest if longest % 100 == 0 else 0)


def _check(header: Header, venue: str | None) -> None:
    if venue is not None:
        venues.spec(venue)
    if header.onetape > 1:
        return
    _check_lines(header.sessions)
    there = sorted({it.venue for it in header.sessions.values()})
    if venue is not None and venue not in there:
        raise UsageError(f"the recording has no venue {venue!r}: {nearest(venue, there)}")


def _check_lines(lines: Mapping[str, Setup]) -> None:
    for setup in lines.values():
        if setup.route not in venues.spec(setup.venue).endpoints["production"].websocket:
            raise UsageError(f"the recording is corrupt: {setup.venue} has no route {setup.route!r}")
        for wanted in setup.wanted:
            plan.check(venues.VENUES[setup.venue], wanted)
