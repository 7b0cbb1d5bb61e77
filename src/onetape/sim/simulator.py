"""The whole simulator on a virtual clock: one market, the venues that live from it, and a network with its faults."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

from msgspec import structs

from onetape.clock import MINUTE, SECOND
from onetape.errors import UsageError
from onetape.sim.base import Action, Close, Happening, Listing, Rejected, Response, SimVenue
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults, moments
from onetape.sim.history import Histories
from onetape.sim.kinds import OF_HISTORY
from onetape.sim.listings import LISTINGS, SHOWS
from onetape.sim.market import Market
from onetape.sim.network import Network, corrupted, emptied
from onetape.sim.truth import Truth
from onetape.sim.venues import VENUES, VenueClass

_NEVER = 1 << 63
_ANOTHER = "another"  # the address that asks for pages which nobody wanted: they use up no client's budget


class Unreachable(ConnectionError):
    """No answer at all: the venue's name is not found, or nobody listens."""


class Simulator:
    """Sans-I/O. Every method first lets all happen that is due by ``now``; a ``now`` that falls counts as the last.

    Actions may concern any connection: all that is ready comes with whichever method is called next, and
    ``next_wake`` is at once while something waits.
    """

    def __init__(
        self, seed: int = 1, venues: Iterable[str] | None = None, *, start: int, plan: FaultPlan | None = None,
        pace: float = 1.0, history_ns: int = 10 * MINUTE, classes: Mapping[str, VenueClass] = VENUES,
        listings: Mapping[str, Iterable[Listing]] = LISTINGS, clock: Callable[[], int] | None = None,
    ) -> None:
        """``venues``: None for all. Raises UsageError: a venue is not simulated.

        ``clock``: the time to begin at, asked when the market's past is made, which takes a while; else ``start``.
        """
        names = sorted(classes if venues is None else set(venues))
        unknown = [name for name in names if name not in classes]
        if unknown:
            raise UsageError(f"no simulated venue is called {', '.join(unknown)}; there are {', '.join(classes)}")
        shown = {name: SHOWS.get(name, name) for name in names}  # by venue: whose market
        markets = sorted(set(shown.values()))
        self.market = Market(seed, [it for name in markets for it in listings[name]], start, pace, history_ns)
        self.truths: Mapping[tuple[str, str], Truth] = {
            (name, symbol): truth for name in names for (market, symbol), truth in self.market.truths.items()
            if market == shown[name]
        }
        """By venue and symbol."""
        self._showing = {it: [name for name in names if shown[name] == it] for it in markets}
        self.now = start if clock is None else max(start, clock())
        self.market.wake(self.now)
        self._faults = Faults(plan or FaultPlan(), self.now)
        self._network = Network(self._faults)
        self._histories = Histories(self._faults)
        self._spoils = any(self._faults.of(kind) for kind in OF_HISTORY)
        for (market, symbol), truth in self.market.truths.items():
            truth.leaves_out = _skips(self._faults, self._showing[market], symbol)
        self.venues: Mapping[str, SimVenue] = {
            name: classes[name](
                {symbol: truth for (venue, symbol), truth in self.truths.items() if venue == name}, self._faults, seed,
            )
            for name in names
        }
        self._due = {name: self._next_of(it) for name, it in self.venues.items()}
        self._edges = self._faults.edges()[::-1]  # the next one last
        self._connections = 0
        self.witness: Callable[[Happening], None] | None = None
        """Hears of all that happens."""

    @property
    def swallowed(self) -> int:
        """Actions that a fault kept from a client."""
        return self._network.swallowed

    # --- clients ----------------------------------------------------------------------------------------------------

    def connect(self, venue: str, target: str, now: int, client: str = "local") -> tuple[int, list[Action]]:
        """A WebSocket: its number, and what is sent first. Raises Rejected, or Unreachable."""
        now = self._advance(now)
        it = self._reach(venue, now)
        fault = self._faults.active(FaultKind.REFUSE_CONNECT, venue, now)
        if fault is not None and self._faults.hits(fault):
            raise Rejected(fault.code or 503, _retry_after(fault))
        self._connections += 1
        connection = self._connections
        actions = it.connect(connection, target, now)
        self._network.open(connection, venue)
        self._send(venue, actions, now)
        return connection, self._take()

    def receive(self, connection: int, frame: bytes, now: int) -> list[Action]:
        """A text frame of a client's."""
        now = self._advance(now)
        venue = self._network.venue(connection)
        if venue is not None:
            self._send(venue, self.venues[venue].receive(connection, frame, now), now)
        return self._take()

    def pong(self, connection: int, payload: bytes, now: int) -> list[Action]:
        now = self._advance(now)
        venue = self._network.venue(connection)
        if venue is not None:
            self._send(venue, self.venues[venue].pong(connection, payload, now), now)
        return self._take()

    def heard(self, connection: int) -> bool:
        """Whether anything that this client sends arrives: not on a connection that is half open, or closed."""
        return self._network.venue(connection) is not None

    def disconnect(self, connection: int, now: int) -> None:
        """The client is gone."""
        now = self._advance(now)
        self._forget(connection, now)

    def request(
        self, venue: str, method: str, target: str, now: int, headers: Mapping[str, str] | None = None,
        client: str = "local",
    ) -> Response:
        """A REST request. Raises Unreachable."""
        now = self._advance(now)
        it = self._reach(venue, now)
        fault = self._faults.active(FaultKind.REST_STATUS, venue, now)
        if fault is not None and self._faults.hits(fault):
            return Response(fault.code or 503, b"", _retry_after(fault))
        response = it.request(method, target, now, headers or {}, client)
        self._refresh(venue)
        if target.partition("?")[0] == it.instruments_path and response.status == 200:
            response = self._listed(venue, response, now)
        elif self._spoils:
            response = self._histories.spoiled(
                venue, target, response, now, lambda other: it.request("GET", other, now, headers or {}, _ANOTHER),
                [truth.listing for (name, _), truth in self.truths.items() if name == venue],
            )
            self._refresh(venue)
        slow = self._faults.active(FaultKind.SLOW_REST, venue, now)
        if slow is not None and self._faults.hits(slow):
            response = structs.replace(response, after_ns=response.after_ns + round(slow.seconds * SECOND))
        return response

    def _listed(self, venue: str, response: Response, now: int) -> Response:
        """A list of instruments, or what the plan makes of it."""
        body = response.body
        if (empty := self._faults.active(FaultKind.EMPTY_LIST, venue, now)) is not None and self._faults.hits(empty):
            body = emptied(body)
        if (bad := self._faults.active(FaultKind.BAD_LIST, venue, now)) is not None and self._faults.hits(bad):
            body = body.ljust(bad.code) if bad.code else corrupted(body, self._faults.dice)
        return structs.replace(response, body=body)

    def _reach(self, venue: str, now: int) -> SimVenue:
        fault = self._faults.active(FaultKind.DNS, venue, now)
        if venue not in self.venues or (fault is not None and self._faults.hits(fault)):
            raise Unreachable(f"the name of {venue} is not found")
        return self.venues[venue]

    def bad_certificate(self, venue: str, now: int) -> Fault | None:
        """For who listens on sockets: whether a TLS handshake that begins now is hit. No venue: it is not known."""
        names = [venue] if venue else list(self.venues)
        found = (self._faults.active(FaultKind.BAD_CERTIFICATE, it, now) for it in names)
        fault = next((it for it in found if it is not None), None)
        return fault if fault is not None and self._faults.hits(fault) else None

    # --- time -------------------------------------------------------------------------------------------------------

    def next_wake(self) -> int:
        """Never later than the next order of the market."""
        return self.now if self._network.out else self._next()

    def wake(self, now: int) -> list[Action]:
        self._advance(now)
        return self._take()

    def _next(self) -> int:
        return min(
            self.market.next_wake() or _NEVER,
            self._network.next_wake() or _NEVER,
            self._edges[-1] if self._edges else _NEVER,
            *self._due.values(),
        )

    def _advance(self, now: int) -> int:
        """Everything that is due, each at its own time: first faults, then the market, then the venues' clocks."""
        while (time := self._next()) <= now:
            self.now = time = max(time, self.now)
            if self._edges and self._edges[-1] <= time:
                self._edge(self._edges.pop())
            self._network.wake(time)
            for it in self.market.wake(time):
                if self.witness is not None:
                    self.witness(it)
                for venue in self._showing[it.listing.venue]:
                    self._send(venue, self.venues[venue].happen(it, time), time)
            for name, due in self._due.items():
                if due <= time:
                    self._wake(name, time)
        self.now = max(now, self.now)
        return self.now

    def _wake(self, venue: str, time: int) -> None:
        self._send(venue, self.venues[venue].wake(time), time)
        self._due[venue] = max(self._due[venue], time + 1)  # one that is not satisfied must not stop the clock

    def _edge(self, time: int) -> None:
        """A fault begins or ends: connections are closed, and every venue may look what it has to do about it."""
        self._network.edge(time)
        for fault in self._faults.of(FaultKind.CLOSE):
            if any(self._faults.time(moment) == time for moment in moments(fault)):
                self._close(fault, time)
        for name in self.venues:
            self._wake(name, time)

    def _close(self, fault: Fault, now: int) -> None:
        closes = [Close(it, fault.code or 1006) for it in self._network.of(fault.venue) if self._faults.hits(fault)]
        for it in self._network.send(closes, now):
            self._forget(it.connection, now)

    # --- what venues send -------------------------------------------------------------------------------------------

    def _send(self, venue: str, actions: list[Action], now: int) -> None:
        for it in self._network.send(actions, now):
            self._forget(it.connection, now)
        self._refresh(venue)

    def _forget(self, connection: int, now: int) -> None:
        venue = self._network.forget(connection)
        if venue is not None:
            self.venues[venue].disconnect(connection, now)
            self._refresh(venue)

    def _refresh(self, venue: str) -> None:
        self._due[venue] = self._next_of(self.venues[venue])

    def _take(self) -> list[Action]:
        out, self._network.out = self._network.out, []
        return out

    def _next_of(self, venue: SimVenue) -> int:
        due = venue.next_wake()
        return _NEVER if due is None else due


def _skips(faults: Faults, venues: Sequence[str], symbol: str) -> Callable[[int], int] | None:
    """How many numbers an instrument leaves out before a match; None where the plan has no such fault."""
    if not faults.of(FaultKind.VENUE_SKIPS):
        return None
    dice = Random(f"{faults.seed} skips {venues[0]} {symbol}")  # noqa: S311 - the market's own dice must not feel it

    def count(now: int) -> int:
        found = (faults.active(FaultKind.VENUE_SKIPS, venue, now, symbol) for venue in venues)
        fault = next((it for it in found if it is not None), None)
        return 0 if fault is None or dice.random() >= fault.share else fault.code or 1

    return count


def _retry_after(fault: Fault) -> dict[str, str]:
    return {"Retry-After": str(max(round(fault.seconds), 1))} if fault.seconds > 0 else {}
