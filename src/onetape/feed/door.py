"""The one door by which everything from outside enters: it numbers, it times, and it wakes who is due before."""
from itertools import count

from onetape.feed.inputs import Answer, Closed, Failed, Frame, Input, Opened, Pinged
from onetape.feed.session import Session
from onetape.model import Command, Event

Outcome = tuple[str, Event | Command]
"""Name of the connection, and what its session said."""


class Door:
    """Of one process. Live and in replays, sessions see the same inputs in the same order at the same times.

    Timers derive from the inputs: before an input at t every wake due until t happens, earliest first, each with now =
    its own deadline. So no timer has to be recorded.
    """

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}
        self._numbers = count(1)
        self._time = 0

    def stamp(self, now: int) -> tuple[int, int]:
        """Number and time for the next input; a clock that goes back is held still."""
        self._time = max(self._time, now)
        return next(self._numbers), self._time

    def enter(self, it: Input) -> list[Outcome]:
        """Passes an input on, after the wakes that are due before it. An unknown connection is a KeyError."""
        out = self.wake(it.time)
        name = it.connection
        out += [(name, outcome) for outcome in _give(self.sessions[name], it)]
        if isinstance(it, Closed):
            del self.sessions[name]
        return out

    def next_wake(self) -> int | None:
        """The earliest deadline of all sessions; None if nothing is due ever."""
        return min((due for it in self.sessions.values() if (due := it.next_wake()) is not None), default=None)

    def wake(self, now: int) -> list[Outcome]:
        """All that is due until ``now``, in the order of the deadlines; ties in the order of the connections."""
        out: list[Outcome] = []
        while (due := self.next_wake()) is not None and due <= now:
            name, session = next(it for it in self.sessions.items() if it[1].next_wake() == due)
            out += [(name, outcome) for outcome in session.wake(due)]
        return out


def _give(session: Session, it: Input) -> list[Event | Command]:
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
            return []
        case Closed():
            return session.close(it.reason, it.time)
