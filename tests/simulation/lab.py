"""OneTape against the simulator without a socket: doors, lines, pipeline and venues on one virtual clock."""
from collections import Counter
from heapq import heappop, heappush
from itertools import count

from onetape import venues
from onetape.book.order_book import OrderBook, Window
from onetape.book.sync import BookSync
from onetape.clock import MILLISECOND, SECOND
from onetape.config import Settings
from onetape.feed.connection import PRIORITIES
from onetape.feed.door import Door
from onetape.feed.governor import Governor, Priority
from onetape.feed.inputs import Answer, Closed, Failed, Frame, Input, Listed, Needed, Opened, Pinged, Started, Stopped
from onetape.model import (
    TAPES,
    BookDelta,
    BookSnapshot,
    Channel,
    Connect,
    Disconnect,
    Event,
    FeedStatus,
    Fetch,
    GapClosed,
    GapOpened,
    InstrumentId,
    Lifecycle,
    Reconnect,
    Send,
    Trade,
    TrustState,
)
from onetape.pipeline import Pipeline, Policy
from onetape.service.choice import choices, lines, tradable
from onetape.service.keeper import Keeper
from onetape.service.referee import Referee
from onetape.service.run import path_of
from onetape.sim import base
from onetape.sim.faults import FaultPlan
from onetape.sim.listings import LISTINGS
from onetape.sim.simulator import Simulator, Unreachable
from onetape.sim.venues import VENUES
from onetape.venues.base import UNREADABLE

START = 1_790_000_000 * SECOND
WAY_NS = 2 * MILLISECOND  # one way, of frames and requests
OWN = {"coinbase-exchange": {"channels": ["trades", "book"]}}  # it has no quotes
CONNECT_NS = 10 * MILLISECOND


class Follower:
    """Somebody who has nothing but the events: a snapshot, then deltas without a hole, and every break told."""

    def __init__(self, venue: str, depth: int):
        resends = venues.spec(venue).book.resends
        self.book = OrderBook(Window(depth, resends))
        self.state = TrustState.SYNCING
        self.sequence: int | None = None
        self.snapshots = self.deltas = self.heard_at = 0

    def add(self, it: BookSnapshot | BookDelta | FeedStatus, theirs: BookSync | None):
        self.heard_at = it.available_at
        match it:
            case FeedStatus():
                self.state = it.state
                if it.state not in (TrustState.LIVE, TrustState.CROSSED):
                    self.sequence = None
                return
            case BookSnapshot():
                self.book.replace(it.bids, it.asks, it.depth)
                self.snapshots += 1
            case BookDelta():
                assert self.sequence is not None, f"a delta without a snapshot: {it}"
                assert it.after <= self.sequence, f"a hole after {self.sequence}: {it}"
                self.book.apply(it.bids, it.asks)
                self.deltas += 1
        self.sequence = it.sequence
        if theirs is not None and theirs.sequence == it.sequence:
            assert self.book.bids(20) == theirs.book.bids(20)
            assert self.book.asks(20) == theirs.book.asks(20)


class Lab:
    """One run: ``play(until)`` as often as wanted, then look."""

    def __init__(self, plan: FaultPlan | None = None, *, venue: str | None = None, seed: int = 1, pace: float = 1.0,
                 depth: int = 100, promised: bool = False, classes=VENUES, settings=None, record=None,
                 listings=LISTINGS, credentials=None, max_age_ns=0, store=None):
        """``store``: a folder for all that is kept, so that it can be begun anew; without one nothing is."""
        names = [venue] if venue else sorted(classes)
        self.sim = Simulator(seed, names, start=START, plan=plan, pace=pace, history_ns=10 * SECOND, classes=classes,
                             listings=listings)
        self.now = START
        self.max_age_ns = max_age_ns  # of gaps that are asked for; 0: none
        self.door = Door(seed, credentials)
        self.alive, self._seed = True, seed
        self.pairs: dict[InstrumentId, str] = {}
        self.record = record or (lambda _: None)
        self.stored: list = []
        self.pipeline: Pipeline | Keeper
        self._store = store
        self.referee = Referee(self.sim, depth, promised=promised)
        self.counters: Counter[str] = Counter()
        self.heard = lambda _: None  # of every event of the feed
        self.attempts: dict[str, list[int]] = {name: [] for name in names}
        self.requests: dict[str, list[tuple[int, int]]] = {name: [] for name in names}  # time and weight
        self.sent: dict[str, list[int]] = {}
        self.events: list[Event] = []
        self.gaps: dict[tuple, GapOpened] = {}
        self.followers: dict[InstrumentId, Follower] = {}
        self.tapes: dict[InstrumentId, TrustState] = {}  # as told
        self.traded_at: dict[InstrumentId, int] = {}
        self.ids: dict[InstrumentId, set[int]] = {}
        self.governors = {name: Governor(venues.spec(name).budget) for name in names}
        self.setups = {}
        self._names = names
        self._due: list = []
        self._order = count()
        self._sockets: dict[str, int] = {}
        self._free_at: dict[str, int] = {}
        chosen = settings and "channels" in settings
        own = {"redundancy": 1, "venues": {name: {} if chosen else OWN.get(name, {}) for name in names}}
        self.choices = choices(Settings.model_validate(own | (settings or {})))
        self._keep()

    def _keep(self):
        policy = Policy(redundant=frozenset(it.venue for it in self.choices if it.redundancy > 1))
        if self._store is None:
            self.pipeline = Pipeline(
                policy, store=self.stored.append, commit=lambda _: None, publish=self._published, book_of=self.book,
            )
        else:
            self.pipeline = Keeper(
                self._store, policy, publish=self._published, book_of=self.book,
                pair_of=lambda it: self.pairs.get(it, ""),
                tape_of=lambda it: venues.capabilities(it.venue).tape,
            ).__enter__()

    def kill(self):
        """The process is gone, with all that it had not committed."""
        for number in self._sockets.values():
            self.sim.disconnect(number, self.now)
        self._sockets.clear()
        self._due.clear()
        self._free_at.clear()
        self.setups.clear()
        self.pipeline.__exit__()
        self.alive = False

    def restart(self):
        """Another process, over the same store."""
        self.alive = True
        self.door = Door(self._seed, self.door.credentials)
        self.governors = {name: Governor(venues.spec(name).budget) for name in self._names}
        self._keep()
        self.start()

    # --- what a test asks -------------------------------------------------------------------------------------------

    def start(self):
        for choice in self.choices:
            self._at(self.now, lambda choice=choice: self._discover(choice))

    def play(self, seconds: float):
        """Virtual seconds after the start."""
        until = START + round(seconds * SECOND)
        while (due := self._next()) is not None and due <= until:
            self.now = max(self.now, due)
            self._step()
        self.now = until

    def stop(self):
        self.enter(Stopped, "")
        self.pipeline.finish(self.now)

    @property
    def states(self):
        return {name: line.state for name, line in self.door.lines.items()}

    def books(self):
        ids = {
            InstrumentId(line.setup.venue, it.symbol) for line in self.door.lines.values() for it in line.setup.wanted
        }
        found = {id: self.door.leading(id, Channel.BOOK) for id in ids}
        return {id: it.books[id.symbol] for id, it in found.items() if it is not None}

    @property
    def healthy(self):
        """Everything is active, and every book that is wanted is live."""
        wanted = {(line.setup.venue, it.symbol) for line in self.door.lines.values() for it in line.setup.wanted}
        books = self.books()
        return (
            {it.setup.venue for it in self.door.lines.values()} == set(self._names)
            and set(self.states.values()) == {Lifecycle.ACTIVE}
            and set(books) == wanted and all(it.state is TrustState.LIVE for it in books.values())
        )

    def missing(self):
        """By instrument, ids between the first and the last trade that were published, which were not."""
        return {id: set(range(min(ids), max(ids) + 1)) - ids - self._never(id) for id, ids in self.ids.items()}

    def _never(self, id):
        """Ids that the venue itself has skipped."""
        return set(self.sim.venues[id.venue].skipped(id.symbol))

    def told_missing(self):
        """The same, by the gaps that were told."""
        told: dict[InstrumentId, set[int]] = {id: set() for id in self.ids}
        for it in self.gaps.values():
            id = InstrumentId(it.venue, it.symbol)
            number = self.sim.venues[it.venue].number
            told[id] |= set(range(number(it.after) + 1, number(it.before))) - self.ids[id] - self._never(id)
        return told

    def deceived(self, patience_ns: int):
        """Who takes a book for live of which nothing has come for so long, though it moves; a tape likewise."""
        books = [
            id for id, it in self.followers.items() if it.state is TrustState.LIVE
            and self.sim.truths[id].time > it.heard_at + SECOND and self.now > it.heard_at + patience_ns
        ]
        tapes = [
            id for id, state in self.tapes.items() if state is TrustState.LIVE
            and self.sim.truths[id].last_matches(1)[0].time > self.traded_at.get(id, 0) + SECOND
            and self.now > self.traded_at.get(id, 0) + patience_ns
        ]
        return books + tapes

    def book(self, id: InstrumentId) -> BookSync | None:
        session = self.door.leading(id, Channel.BOOK)
        return None if session is None else session.books.get(id.symbol)

    # --- the machinery ----------------------------------------------------------------------------------------------

    def _at(self, time: int, do):
        heappush(self._due, (time, next(self._order), do))

    def _next(self):
        times = [self.sim.next_wake()]
        if self.alive:
            times += [self.door.next_wake(), self.pipeline.next_wake()]
        if self._due:
            times.append(self._due[0][0])
        return min((it for it in times if it is not None), default=None)

    def _step(self):
        now = self.now
        self._deliver(self.sim.wake(now))
        while self._due and self._due[0][0] <= now:
            heappop(self._due)[2]()
        if not self.alive:
            return
        self._obey(self.door.wake(now))
        self.need(self.pipeline.wake(now))

    def enter(self, kind: type[Input], connection: str, **fields):
        number, time = self.door.stamp(self.now)
        it = kind(number=number, time=time, connection=connection, **fields)
        self.record(it)
        self._obey(self.door.enter(it))

    def _obey(self, outcomes):
        for name, it in outcomes:
            match it:
                case Send(frame):
                    self._send(name, frame)
                case Fetch():
                    self._fetch(name, it)
                case Connect() if self.door.let_go(name):
                    pass
                case Connect():
                    venue = self.door.line_of(name).setup.venue
                    self.attempts[venue].append(self.now)
                    self._at(self.now + CONNECT_NS, lambda name=name: self._connect(name))
                case Disconnect():
                    if (number := self._sockets.pop(name, None)) is not None:
                        self.sim.disconnect(number, self.now)
                case Reconnect():
                    pass
                case _:
                    self.events.append(it)
                    self.heard(it)
                    self.need(self.pipeline.handle(it))

    def need(self, needs):
        for it in needs:
            self._at(self.now, lambda it=it: self.enter(Needed, it.venue, need=it))

    def _published(self, it: Event):
        book = self.book(InstrumentId(it.venue, it.symbol)) if hasattr(it, "symbol") else None
        self.referee.add(it, book)
        match it:
            case BookSnapshot() | BookDelta() | FeedStatus(channel=Channel.BOOK):
                id = InstrumentId(it.venue, it.symbol)
                if id not in self.followers:
                    self.followers[id] = Follower(it.venue, 200)
                self.followers[id].add(it, book)
            case Trade():
                self.ids.setdefault(InstrumentId(it.venue, it.symbol), set()).add(
                    self.sim.venues[it.venue].number(it.id)
                )
                self.traded_at[InstrumentId(it.venue, it.symbol)] = it.available_at
            case FeedStatus() if it.channel in TAPES:
                self.tapes[InstrumentId(it.venue, it.symbol)] = it.state
            case GapOpened():
                self.gaps[it.venue, it.symbol, it.after, it.before] = it
            case GapClosed(healed=True):
                self.gaps.pop((it.venue, it.symbol, it.after, it.before), None)

    # sockets

    def _connect(self, name: str):
        line = self.door.line_of(name)
        if name not in (line.leader, line.next):
            return
        choice = next(it for it in self.choices if it.venue == line.setup.venue)
        target = path_of(choice.websocket[line.setup.route][0])
        try:
            number, actions = self.sim.connect(line.setup.venue, target, self.now)
        except base.Rejected as error:
            wait = int(error.headers.get("Retry-After", 0)) * SECOND
            self.enter(Closed, name, reason=str(error), status=error.status, retry_after_ns=wait)
        except Unreachable as error:
            self.enter(Closed, name, reason=str(error))
        else:
            self._sockets[name] = number
            self.enter(Opened, name)
            self._deliver(actions)

    def _send(self, name: str, frame: bytes):
        """At the venue's pace."""
        limits = self.door.line_of(name).spec.limits
        at = max(self.now, self._free_at.get(name, 0))
        self._free_at[name] = at + round(SECOND / limits.sends_per_second)
        self.sent.setdefault(name, []).append(at)
        self._at(at + WAY_NS, lambda: self._arrive(name, frame))

    def _arrive(self, name: str, frame: bytes):
        number = self._sockets.get(name)
        if number is not None:
            self._deliver(self.sim.receive(number, frame, self.now))

    def _deliver(self, actions):
        for it in actions:
            self._at(self.now + WAY_NS, lambda it=it: self._hear(it))

    def _hear(self, it):
        name = next((name for name, number in self._sockets.items() if number == it.connection), None)
        if name is None:
            self.counters["for nobody"] += 1
            return
        match it:
            case base.Frame():
                self.counters["frames"] += 1
                limit = self.door.line_of(name).spec.limits.receive_bytes
                if len(it.data) > limit:
                    self._lose(name, "a message that is too big", 0)
                else:
                    self.enter(Frame, name, data=it.data)
            case base.Ping():
                self._deliver(self.sim.pong(it.connection, it.payload, self.now))
                self.enter(Pinged, name)
            case base.Close():
                self._lose(name, f"closed by the venue: {it.code} {it.reason}", 0 if it.code == 1006 else it.code)

    def lose(self, name: str, *, unnoticed: bool = False):
        """This connection alone ends without a word; or it is half open from now on, and nobody is told."""
        if unnoticed:
            self.sim._network._wires[self._sockets[name]].dead = True
        else:
            self._lose(name, "closed without a word", 0)

    def _lose(self, name: str, reason: str, code: int):
        self.sim.disconnect(self._sockets.pop(name), self.now)
        self.enter(Closed, name, reason=reason, code=code)

    # REST

    def _fetch(self, name: str, it: Fetch):
        priority = PRIORITIES[it.purpose]
        self._request(self.door.venue_of(name), it.request, priority, lambda answer: self._answered(name, it, answer))

    def _answered(self, name, it, answer):
        if isinstance(answer, str):
            self.enter(Failed, name, id=it.id, reason=answer)
            return
        headers = {key.lower(): value for key, value in answer.headers.items() if key.lower() == "retry-after"}
        self.enter(
            Answer, name, id=it.id, status=answer.status, body=answer.body, url=it.request.path, headers=headers,
        )

    def _request(self, venue: str, request, priority, done):
        governor = self.governors[venue]
        at = governor.free_at(request.weight, priority, self.now)
        if at > self.now:
            self._at(at, lambda: self._request(venue, request, priority, done))
            return
        governor.sent(request.weight, self.now)
        self.requests[venue].append((self.now, request.weight))
        try:
            answer = self.sim.request(venue, "GET", request.path, self.now)
        except Unreachable as error:
            reason = str(error)
            self._at(self.now + WAY_NS, lambda: done(reason))
            return
        wait = answer.after_ns + 2 * WAY_NS
        if wait > 10 * SECOND:
            self._at(self.now + 10 * SECOND, lambda: done("no answer within 10 s"))
            return
        self._at(self.now + wait, lambda: self._come(venue, answer, done))

    def _come(self, venue, answer, done):
        headers = {key.lower(): value for key, value in answer.headers.items()}
        governor = self.governors[venue]
        governor.answered(headers, self.now)
        if answer.status in (418, 429):
            governor.pause(int(headers.get("retry-after", 5)) * SECOND, self.now)
        done(answer)

    def _discover(self, choice):
        """Asks for one list after the other, page by page; from the beginning where an answer is none."""
        venue, found, pages = venues.create(choice.venue), [], []
        pending = venue.instrument_requests()

        def ask(request):
            self._request(choice.venue, request, Priority.DISCOVERY, listed)

        def again():
            if choice.venue not in self.setups:
                self._at(self.now + 5 * SECOND, lambda: self._discover(choice))

        def listed(answer):
            if isinstance(answer, str) or answer.status != 200:
                again()
                return
            try:
                instruments, more = venue.parse_instruments(answer.body)
            except UNREADABLE:
                self.counters["lists not read"] += 1
                again()
                return
            found.extend(instruments)
            pages.append(answer.body)
            if more is not None or pending:
                ask(more or pending.pop(0))
                return
            if tradable(found) or choice.venue in self.setups:
                self._listed(choice, tuple(pages), tradable(found))
            else:
                again()

        ask(pending.pop(0))

    def _listed(self, choice, pages, instruments):
        setups = self.setups.get(choice.venue)
        if setups is None:
            self.setups[choice.venue] = setups = lines(choice, instruments)
            self.pairs |= {it.id: it.pair for it in instruments}
            self.enter(
                Started, choice.venue, lines=setups, instruments=instruments, max_age_ns=self.max_age_ns,
            )
            wanted = {(it.symbol, it.channel) for setup in setups.values() for it in setup.wanted}
            for symbol, channel in sorted(wanted):
                if self._store is not None and channel in TAPES:
                    self.need(self.pipeline.begin(InstrumentId(choice.venue, symbol), channel, self.now))
        elif (directory := self.door.directories[choice.venue]).believes(instruments):
            self.setups[choice.venue] = changed = lines(choice, directory.after(instruments).values(), setups)
            self.enter(Listed, choice.venue, pages=pages, lines=None if changed == setups else changed)
        else:
            self.counters["lists not believed"] += 1

    def refresh(self):
        """Every venue's list of instruments once more."""
        for choice in self.choices:
            self._discover(choice)
