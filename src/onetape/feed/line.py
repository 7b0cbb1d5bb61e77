"""One line to a venue: the connections that come and go for the same subscriptions, and when the next one is made."""
from collections import Counter
from collections.abc import Callable, MutableMapping, Sequence
from zlib import crc32

from onetape.clock import HOUR, MILLISECOND, MINUTE, SECOND
from onetape.feed.inputs import Closed, Setup
from onetape.feed.pace import Pace
from onetape.feed.session import Session
from onetape.model import (
    TAPES,
    Command,
    Connect,
    ConnectionState,
    Disconnect,
    Event,
    FeedError,
    FeedStatus,
    Fetch,
    Lifecycle,
    Reconnect,
    Send,
    Skipped,
    Trade,
)
from onetape.venues.base import Reaction, Spec

Outcome = tuple[str, Event | Command]
"""Name of the connection, and what was said there."""

PASSED_ON = (Send, Fetch, Trade, Skipped, FeedError)  # of what a replacement says before it leads
SWITCH_NS = 30 * SECOND  # a new connection has so long to show that it can take over
RETRY_SWITCH_NS = MINUTE  # a replacement that failed is tried again so much later, as long as the old one holds
FIRST_REFUSED_NS = 30 * SECOND  # a handshake refused with 403 or 429; the next one in a row costs the venue's own wait
FLOOD_NS = MINUTE  # after 1008 "too many requests": half as many would have been enough
PERMANENT = frozenset({400, 401, 404, 410, 451})  # answers to a handshake that asking again does not change
LONGEST_WAIT_NS = 24 * HOUR
BEHIND_NS = 250 * MILLISECOND  # by so much the books of a replacement may be older than those that it replaces
STEADY_NS = 30 * SECOND  # data has to flow for so long before the backoff begins afresh: some drop all who subscribe


class Line:
    """Sans-I/O, like its sessions, which it makes and ends in ``sessions``.

    At most two connections: the leader, whose books are passed on, and for a short while its replacement, of which only
    the trades are, for the ledger takes each but once. ``seed`` makes the jitter, the same in each replay.
    """

    def __init__(
        self, name: str, setup: Setup, spec: Spec, pace: Pace, sessions: MutableMapping[str, Session], seed: int,
        new_session: Callable[[Setup, int], Session],
    ) -> None:
        self.name, self.setup, self.spec = name, setup, spec
        self.state, self.since, self.reason = Lifecycle.STOPPED, 0, ""
        self.leader = self.next = ""
        """Names of connections: the one in charge, the one to replace it; asked for, or open. Empty: there is none."""
        self.counters: Counter[str] = Counter()
        self.last: Session | None = None
        """Of the leaders, the last one that ended."""
        self.frames = 0
        """Of connections that have ended."""
        self.failures = 0
        """In a row, since data last flowed for a while."""
        self.refused = False
        """The venue does not accept our credentials: this line is not tried again."""
        self._pace, self._sessions, self._seed, self._new_session = pace, sessions, seed, new_session
        self._timings = spec.timings if setup.timings is None else setup.timings
        self._attempts = self._address = self._refusals = self._turned_away = 0
        self._active_since: int | None = None
        self._retry_at: int | None = None
        self._rotate_at: int | None = None
        self._switch_by: int | None = None
        self._why = ""  # of the rotation under way

    @property
    def retry_at(self) -> int | None:
        """When a lost connection is tried again, ns."""
        return self._retry_at

    # --- inputs -----------------------------------------------------------------------------------------------------

    def start(self, now: int) -> list[Outcome]:
        self._retry_at = now
        return self.wake(now)

    def stop(self, now: int) -> list[Outcome]:
        out: list[Outcome] = []
        for name in filter(None, (self.leader, self.next)):
            out += self._end(name, "stopped", now)
        self.leader = self.next = ""
        self._retry_at = self._rotate_at = self._switch_by = None
        self._enter(Lifecycle.STOPPED, "", now, out)
        return out

    def refuse(self, reason: str, now: int) -> list[Outcome]:
        """The venue does not accept our credentials: that is the end of it, for they are the same next time."""
        out: list[Outcome] = []
        for name in filter(None, (self.leader, self.next)):
            out += self._end(name, reason, now)
        self.leader = self.next = ""
        self._retry_at = self._rotate_at = self._switch_by = None
        self.refused = True
        self._enter(Lifecycle.ERROR, reason, now, out, told=True)
        return out

    def change(self, setup: Setup, now: int) -> list[Outcome]:
        """Something else is wanted from now on; what both have goes on untouched."""
        before, self.setup = set(self.setup.wanted), setup
        gone = tuple(sorted(before.difference(setup.wanted)))
        new = tuple(it for it in setup.wanted if it not in before)
        out: list[Outcome] = []
        for name in filter(None, (self.leader, self.next)):
            if (session := self._sessions.get(name)) is not None and (new or gone):
                out += self.relay(name, session.change(new, gone, now), now)
        return out

    def opened(self, connection: str, now: int) -> list[Outcome]:
        """The socket stands."""
        out: list[Outcome] = []
        if connection not in (self.leader, self.next):
            self.leader = connection  # of a recording whose line was never started
        if connection == self.leader:
            self._enter(Lifecycle.CONNECTED, "", now, out)
            self._schedule_rotation(now)
        self._turned_away = 0
        session = self._sessions[connection] = self._new_session(self.setup, now)
        said = session.open(now)
        if connection == self.leader:
            self._enter(Lifecycle.SUBSCRIBING, "", now, out)
        else:
            self._switch_by = now + SWITCH_NS
        return out + self.relay(connection, said, now)

    def closed(self, it: Closed) -> list[Outcome]:
        """The socket is gone, or could not be had."""
        now, out = it.time, list[Outcome]()
        if it.connection not in (self.leader, self.next):
            return out  # given up before
        if not self._flows(it.connection):
            self._address += 1
        out += self._end(it.connection, it.reason, now, told=False)
        if it.connection == self.next:
            self._no_replacement(now)
            return out
        self.leader = ""
        if self.next in self._sessions:
            return self._succeed(out, it.reason, now)
        if self.next:
            return self._await_replacement(it.reason, now, out)
        permanent = it.status in PERMANENT or self.spec.close_codes.get(it.code) is Reaction.DROP
        self._refusals = self._refusals + 1 if permanent else 0
        self._retry(it.reason, self._wait_for(it), now, out, permanent=self._refusals >= self.setup.addresses)
        return out

    def relay(self, connection: str, said: Sequence[Event | Command], now: int) -> list[Outcome]:
        """What a session said, as far as it is to be passed on; what concerns its connection is dealt with."""
        reconnects = [it for it in said if isinstance(it, Reconnect)]
        if connection == self.leader:
            out: list[Outcome] = [(connection, it) for it in said]
            if self.state is not Lifecycle.ACTIVE and self._flows(connection):
                self._enter(Lifecycle.ACTIVE, "", now, out)
        else:
            out = [(connection, it) for it in said if isinstance(it, PASSED_ON)]
            if self._can_take_over():
                out += self._switch(now)
        if reconnects:  # what cannot wait goes first
            out += self._reconnect(connection, min(reconnects, key=lambda it: (not it.refused, it.planned)), now)
        return out

    def next_wake(self) -> int | None:
        times = (self._retry_at, self._rotate_at, self._switch_by)
        return min((it for it in times if it is not None), default=None)

    def wake(self, now: int) -> list[Outcome]:
        """Called with now = the deadline."""
        out: list[Outcome] = []
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = self._wait_for_pace(now)
            if self._retry_at is None:
                self.leader = self._connect(now, out)
                self._enter(Lifecycle.CONNECTING, self.reason, now, out)
        if self._rotate_at is not None and now >= self._rotate_at:
            self._rotate_at = None
            self._replace("planned", now, out)
        if self._switch_by is not None and now >= self._switch_by:
            out += self._force_switch(now)
        return out

    # --- replacing a connection -------------------------------------------------------------------------------------

    def _reconnect(self, connection: str, it: Reconnect, now: int) -> list[Outcome]:
        if connection not in (self.leader, self.next):
            return []
        out: list[Outcome] = []
        if it.refused:
            return self.refuse(it.reason, now)
        if it.planned and connection == self.leader:
            self._replace(it.reason, now, out)
            return out
        if not self._flows(connection):
            self._address += 1
        out += self._end(connection, it.reason, now)
        if connection == self.next:
            self._no_replacement(now)
            return out
        self.leader = ""
        if self.next in self._sessions:
            return self._succeed(out, it.reason, now)
        if self.next:
            return self._await_replacement(it.reason, now, out)
        self._retry(it.reason, 0, now, out)
        return out

    def _await_replacement(self, reason: str, now: int, out: list[Outcome]) -> list[Outcome]:
        """The leader is gone, and its replacement was on its way already."""
        self.leader, self.next, self._switch_by = self.next, "", None
        self._enter(Lifecycle.RECONNECTING, reason, now, out)
        return out

    def _replace(self, reason: str, now: int, out: list[Outcome]) -> None:
        """The new connection before the old one is let go."""
        if self.next or self.leader not in self._sessions:
            return
        self._rotate_at = self._wait_for_pace(now)
        if self._rotate_at is not None:
            return
        self._why = reason
        self.counters["rotations"] += 1
        self.next = self._connect(now, out)
        self._switch_by = now + self._timings.connect_ns + SWITCH_NS

    def _can_take_over(self) -> bool:
        new, old = self._sessions.get(self.next), self._sessions.get(self.leader)
        if new is None or not new.settled:
            return False
        return old is None or (new.overlaps(old) and not new.behind(old, BEHIND_NS))

    def _switch(self, now: int) -> list[Outcome]:
        """The replacement is complete: from here on its books are the ones."""
        old, out = self.leader, list[Outcome]()
        if old in self._sessions:
            out += self._bridge(self._sessions[old], self._why, now)
        out += self._promote(f"replaced: {self._why}", now, self._sessions.get(old))
        out += self._end(old, self._why, now)
        return out

    def _force_switch(self, now: int) -> list[Outcome]:
        """It had its time: unless it has less than the old one it takes over, else the old one stays while it lives."""
        new, old = self._sessions.get(self.next), self._sessions.get(self.leader)
        if new is not None and new.delivered and (old is None or new.lacking <= old.lacking):
            return self._switch(now)
        if not self._flows(self.next):
            self._address += 1
        out = self._end(self.next, "not complete in time", now)
        self._no_replacement(now)
        return out

    def _no_replacement(self, now: int) -> None:
        self.counters["rotations failed"] += 1
        self.next, self._switch_by = "", None
        self._rotate_at = now + RETRY_SWITCH_NS

    def _promote(self, reason: str, now: int, before: Session | None) -> list[Outcome]:
        """The replacement leads, and says what it knows: whoever listens has one unbroken story."""
        self.leader, self.next, self._switch_by = self.next, "", None
        session = self._sessions[self.leader]
        out: list[Outcome] = [(self.leader, it) for it in session.introduce(now, before)]
        state = Lifecycle.ACTIVE if self._flows(self.leader) else Lifecycle.SUBSCRIBING
        self._enter(state, reason, now, out, told=True)
        self._schedule_rotation(now)
        return out

    def _succeed(self, out: list[Outcome], reason: str, now: int) -> list[Outcome]:
        """The leader is gone, with what it said at its end, and its replacement is there."""
        new = self._sessions[self.next]
        kept = [
            (name, it) for name, it in out
            if not (isinstance(it, FeedStatus) and it.channel in TAPES and new.begun(it.symbol))  # that goes on
        ]
        if self.last is not None:
            kept += self._bridge(self.last, reason, now)
        return kept + self._promote(reason, now, self.last)

    def _bridge(self, old: Session, reason: str, now: int) -> list[Outcome]:
        return [(self.next, it) for it in self._sessions[self.next].bridge(old, reason, now)]

    # --- small things -----------------------------------------------------------------------------------------------

    def _wait_for_pace(self, now: int) -> int | None:
        """When the venue's limit of attempts allows the next one; None: now."""
        at = self._pace.free_at(now)
        return at if at > now else None

    def _connect(self, now: int, out: list[Outcome]) -> str:
        self._pace.take(now)
        self._attempts += 1
        self.counters["attempts"] += 1
        name = f"{self.name}#{self._attempts}"
        out.append((name, Connect(name, self._address)))
        return name

    def _end(self, connection: str, reason: str, now: int, *, told: bool = True) -> list[Outcome]:
        """No session, no socket; ``told``: the socket has to be told."""
        out: list[Outcome] = []
        session = self._sessions.pop(connection, None)
        if session is not None:
            self.counters.update(session.counters)
            self.frames += session.frames
        if session is not None and connection == self.leader:
            self.last = session
            out += [(connection, it) for it in session.close(reason, now)]
        if told:
            out.append((connection, Disconnect(connection, reason)))
        return out

    def _retry(self, reason: str, wait: int, now: int, out: list[Outcome], *, permanent: bool = False) -> None:
        patience = self.setup.patience
        if self._active_since is not None and now - self._active_since >= STEADY_NS:
            self.failures = 0
        self._active_since = None
        self.failures += 1
        self._rotate_at = None
        chance = crc32(f"{self._seed} {self.name} {self._attempts}".encode()) / 2**32
        open_circuit = permanent or 0 < patience.max_attempts <= self.failures
        backoff = patience.probe_ns if open_circuit else patience.wait(self.failures, chance)
        self._retry_at = now + max(backoff, wait)
        self._enter(Lifecycle.ERROR if open_circuit else Lifecycle.RECONNECTING, reason, now, out, told=True)

    def _wait_for(self, it: Closed) -> int:
        """What the venue asks for, by its answer to the handshake or its close code."""
        least = 0
        if it.status in (403, 418, 429):
            self._turned_away += 1
            first = self._turned_away == 1 and it.status != 418  # it may have been a moment; 418 says that it is a ban
            least = FIRST_REFUSED_NS if first else self.spec.refused_wait_ns
        elif it.status >= 500 or it.code in (1001, 1012, 1013):
            least = self.spec.maintenance_wait_ns
        elif it.code == 1008 and "many" in it.reason.lower():  # others say so of a missing pong, which costs no wait
            least = FLOOD_NS
        return min(max(it.retry_after_ns or least, 0), LONGEST_WAIT_NS)

    def _flows(self, connection: str) -> bool:
        session = self._sessions.get(connection)
        return session is not None and session.delivered > 0

    def _schedule_rotation(self, now: int) -> None:
        age = self._timings.rotate_after_ns
        chance = crc32(f"{self._seed} {self.name} {self._attempts} rotation".encode()) / 2**32
        # Earlier by up to a tenth: connections made together are not replaced together.
        self._rotate_at = now + int(age * (1 - 0.1 * chance)) if age else None

    def _enter(
        self, state: Lifecycle, reason: str, now: int, out: list[Outcome], *, told: bool = False,
    ) -> None:
        if state is self.state and not told:
            return
        if state is Lifecycle.ACTIVE and self._active_since is None:
            self._active_since = now
        self.state, self.since, self.reason = state, now, reason
        out.append((self.leader or self.name, ConnectionState(
            venue=self.spec.name, received_time=now, available_at=now, connection=self.name, state=state, reason=reason,
        )))
