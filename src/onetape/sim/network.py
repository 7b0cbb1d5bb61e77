"""Carries what venues send to their clients, and goes wrong on the way where the plan says so."""
from collections.abc import Iterable
from heapq import heappop, heappush
from random import Random
from typing import Any

import msgspec

from onetape.clock import SECOND
from onetape.sim.base import Action, Close, Frame
from onetape.sim.faults import Fault, FaultKind, Faults, moments

GIANT_BYTES = 64 * 1024 * 1024
REORDER_WAIT_NS = SECOND  # a frame that waits for its successor waits no longer

_ON_FRAMES = (
    FaultKind.UNLISTED, FaultKind.SILENT, FaultKind.DROP, FaultKind.CORRUPT, FaultKind.DOUBLE, FaultKind.GARBAGE,
    FaultKind.DELAY, FaultKind.REORDER,
)


class Wire:
    """One connection, as far as the network knows it."""

    def __init__(self, number: int, venue: str) -> None:
        self.number, self.venue = number, venue
        self.dead = False
        """Half open: nothing gets through any more, for good."""
        self.free_at = 0
        """A frame that is late holds up all that stand behind it until then: TCP keeps the order."""
        self.overtaken: Frame | None = None
        """Goes out behind the next one."""


class Network:
    """All connections. What is ready to go out is in ``out``, in order; the driver empties it."""

    def __init__(self, faults: Faults) -> None:
        self.out: list[Action] = []
        self.swallowed = 0
        """Actions that a fault kept from a client."""
        self._faults = faults
        self._wires: dict[int, Wire] = {}
        self._late: list[tuple[int, int, Action, bool]] = []  # due, order, action, whether it is one to be overtaken
        self._order = 0
        self._armed: tuple[FaultKind, ...] = ()

    def open(self, connection: int, venue: str) -> None:
        self._wires[connection] = Wire(connection, venue)

    def venue(self, connection: int) -> str | None:
        """Where the frames of a client arrive; None if they do not."""
        wire = self._wires.get(connection)
        return None if wire is None or wire.dead else wire.venue

    def forget(self, connection: int) -> str | None:
        """It is closed. The venue it led to, if it was open."""
        wire = self._wires.pop(connection, None)
        return wire.venue if wire else None

    def of(self, venue: str) -> list[int]:
        """Open connections to this venue, or to all for an empty name."""
        return [it.number for it in self._wires.values() if venue in ("", it.venue)]

    # --- time -------------------------------------------------------------------------------------------------------

    def next_wake(self) -> int | None:
        return self._late[0][0] if self._late else None

    def wake(self, now: int) -> None:
        while self._late and self._late[0][0] <= now:
            _, _, it, to_overtake = heappop(self._late)
            wire = self._wires.get(it.connection)
            if wire is None or wire.dead:
                continue
            if not to_overtake:
                self.out.append(it)
            elif wire.overtaken is it:  # nothing came after it
                wire.overtaken = None
                self._leave(wire, it, now)

    def edge(self, now: int) -> None:
        """A fault begins or ends now."""
        self._armed = tuple(kind for kind in _ON_FRAMES if any(self._lies_on(it, now) for it in self._faults.of(kind)))
        for fault in self._faults.of(FaultKind.HALF_OPEN):
            if self._faults.time(fault.at) == now:
                self._kill(fault)
        for fault in self._faults.of(FaultKind.GIANT):
            if any(self._faults.time(moment) == now for moment in moments(fault)):
                data = giant(fault.code or GIANT_BYTES)
                self.send((Frame(it, data) for it in self.of(fault.venue) if self._faults.hits(fault)), now)

    def _lies_on(self, it: Fault, now: int) -> bool:
        return self._faults.active(it.kind, it.venue, now, it.symbol, it.channel) is not None

    def _kill(self, fault: Fault) -> None:
        for connection in self.of(fault.venue):
            if self._faults.hits(fault):
                self._wires[connection].dead = True

    # --- sending ----------------------------------------------------------------------------------------------------

    def send(self, actions: Iterable[Action], now: int) -> list[Close]:
        """Returns those among them that end a connection."""
        closes = []
        for it in actions:
            wire = self._wires.get(it.connection)
            if wire is None:
                continue
            if isinstance(it, Close):
                closes.append(it)
            if wire.dead:
                self.swallowed += 1
            elif isinstance(it, Close):  # what is late behind it is lost
                self.out.append(it)
            elif self._armed and isinstance(it, Frame) and it.channel:
                self._distort(wire, it, now)
            else:
                self._leave(wire, it, now)
        return closes

    def _distort(self, wire: Wire, it: Frame, now: int) -> None:
        """Each kind of fault that hits the frame takes its turn."""
        copies = 1
        for kind in self._armed:
            fault = self._faults.active(kind, wire.venue, now, it.symbol, it.channel)
            if fault is None or not self._faults.hits(fault):
                continue
            match kind:
                case FaultKind.UNLISTED | FaultKind.SILENT | FaultKind.DROP:
                    self.swallowed += 1
                    return
                case FaultKind.CORRUPT:
                    it = Frame(it.connection, corrupted(it.data, self._faults.dice), it.symbol, it.channel)
                case FaultKind.DOUBLE:
                    copies = 2
                case FaultKind.GARBAGE:
                    noise = self._faults.dice.randbytes(self._faults.dice.randrange(1, 512))
                    self._leave(wire, Frame(it.connection, noise), now)
                case FaultKind.DELAY:
                    wire.free_at = max(wire.free_at, now + round(fault.seconds * SECOND))
                case _ if wire.overtaken is None:  # reorder
                    wire.overtaken = it
                    self._later(now + REORDER_WAIT_NS, it, to_overtake=True)
                    return
                case _:
                    pass
        for _ in range(copies):
            self._leave(wire, it, now)
        if wire.overtaken is not None:
            self._leave(wire, wire.overtaken, now)
            wire.overtaken = None

    def _leave(self, wire: Wire, it: Action, now: int) -> None:
        if wire.free_at > now:
            self._later(wire.free_at, it, to_overtake=False)
        else:
            self.out.append(it)

    def _later(self, due: int, it: Action, *, to_overtake: bool) -> None:
        self._order += 1
        heappush(self._late, (due, self._order, it, to_overtake))


def corrupted(data: bytes, dice: Random) -> bytes:
    """No JSON any more: cut, or one byte of its structure replaced."""
    places = [at for at, byte in enumerate(data[:4096]) if byte in b'{}[]":,']
    if places and dice.random() < 0.5:
        at = dice.choice(places)
        changed = data[:at] + dice.choice((b"x", b"\x00", b"}", b"\xff")) + data[at + 1:]
        if not _is_json(changed):
            return changed
    return data[:dice.randrange(1, len(data))] if len(data) > 1 else b"\xff"


def emptied(data: bytes) -> bytes:
    """The same document without a row in it: every list, and every table of tables, is empty."""
    return msgspec.json.encode(_without_rows(msgspec.json.decode(data)))


def _without_rows(it: Any) -> Any:
    match it:
        case list():
            return []
        case dict() if len(it) > 1 and all(isinstance(value, dict) for value in it.values()):
            return {}
        case dict():
            return {key: _without_rows(value) for key, value in it.items()}
        case _:
            return it


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def giant(size: int) -> bytes:
    """A frame of JSON of this size."""
    head, tail = b'{"giant":"', b'"}'
    return head + b"x" * max(size - len(head) - len(tail), 0) + tail


