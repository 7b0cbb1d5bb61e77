"""The composition root: sockets, REST, door, pipeline, journal and recording as one process."""
import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random

import aiohttp
import structlog
from msgspec import structs

from onetape import venues
from onetape.clock import MINUTE, SECOND
from onetape.config import Storage
from onetape.credentials import Credentials
from onetape.errors import OneTapeError, RestError, UsageError
from onetape.feed.connection import Access, Network
from onetape.feed.door import Door
from onetape.feed.governor import Governor, Priority
from onetape.feed.inputs import Listed, Needed, Setup, Started, Stopped, Unlisted
from onetape.feed.recording import VERSION, Header, RecordingWriter
from onetape.feed.rest import Reply, Rest, Unanswered, client
from onetape.feed.socket import Way
from onetape.feed.steady import SteadyClock
from onetape.model import (
    TAPES,
    Candle,
    Channel,
    Event,
    FeedError,
    GapClosed,
    GapFilling,
    GapOpened,
    Instrument,
    InstrumentId,
    Need,
    Request,
    Trade,
)
from onetape.book.sync import BookSync
from onetape.pipeline import Policy
from onetape.service.choice import Choice, lines, tradable, unknown_pairs
from onetape.service.demand import Demand
from onetape.service.keeper import Keeper
from onetape.service.meter import Meter
from onetape.tape.ledger import TradeLedger
from onetape.venues.base import UNREADABLE

GAPS = (GapOpened, GapFilling, GapClosed)
MAX_PAGES = 100  # of a list of instruments
DOUBT_NS = 10 * SECOND  # what is in doubt is looked at so much later: by then the venue's own list may say so
CLOCK_NS = 5 * MINUTE  # between two looks at a venue's clock
EARLY_NS = MINUTE  # until then a mistake in the settings ends the run
PART_BYTES = 1 << 30  # of a recording, uncompressed


class Collector:
    """Lives as long as one run; ``run`` returns when ``stop`` is set and all that waited is kept."""

    def __init__(
        self, choices: Sequence[Choice], *, policy: Policy, store: Path | None, recording: Path | None = None,
        publish: Callable[[Event], None] = lambda _: None, log: Callable[[Event], None] | None = None, seed: int = 0,
        credentials: Mapping[str, Credentials] | None = None, storage: Storage = Storage(),  # noqa: B008 - frozen
        drain_s: float = 5,
    ) -> None:
        """``publish``: every event once, a trade that comes twice included; without a store, all that comes.

        ``drain_s``: how long is tried, at the end, on a disk that takes nothing.
        """
        self.choices = choices
        self.clock = SteadyClock()
        self.door = Door(seed, credentials)
        self.meter = Meter()
        shared = {venue for it in choices if (venue := it.spec.history.shares)}
        self.governors = {
            name: Governor(venues.spec(name).budget) for name in {*shared, *(it.venue for it in choices)}
        }
        """By venue: one for each host that is asked."""
        self.reasons: dict[str, str] = {}
        """Of the venues that have no lines yet: why."""
        self.keeper: Keeper | None = None
        self.recorder: RecordingWriter | None = None
        self.demand: Demand | None = None
        """What is asked of the store's past."""
        self.network: Network
        self.started_at = self.clock()
        self._policy, self._store, self._recording, self._seed = policy, store, recording, seed
        self._storage, self._drain_s = storage, drain_s
        self._publish, self._log = publish, log
        self.instruments: dict[InstrumentId, Instrument] = {}
        """All that the venues list."""
        self._listed: dict[str, tuple[Instrument, ...]] = {}
        self._doubts = {it.venue: asyncio.Event() for it in choices}
        """Set: a venue's list of instruments may no longer be true."""

    async def run(self, stop: asyncio.Event, stopping: Callable[[], None] = lambda: None) -> None:
        """``stopping`` is called when all still is as it was.

        Raises UsageError (a human must change something), RetryBatch (the disk takes no more).
        """
        async with AsyncExitStack() as stack:
            if self._store is not None:
                self.keeper = stack.enter_context(Keeper(
                    self._store, self._policy, publish=self._kept, pair_of=self.pair, book_of=self.book,
                    tape_of=self.tape, synchronous=self._storage.synchronous, hold=self._storage.held_rows,
                    drain_s=self._drain_s, mend_s=self._drain_s,
                ))
                self.demand = Demand(self._store, self)
            if self._recording is not None:
                header = Header(VERSION, seed=self._seed)
                self.recorder = stack.enter_context(RecordingWriter(self._recording, header, PART_BYTES))
            accesses = self._accesses = {it.venue: await self._access(it, stack) for it in self.choices}
            self.network = Network(
                self.door, accesses, self._take, record=self.recorder.add if self.recorder else None,
                waker=self if self.keeper else None, clock=self.clock,
            )
            try:
                await self._collect(accesses, stop, stopping)
            except* OneTapeError as group:
                raise _first(group) from None
            finally:
                if self.keeper is not None:
                    self.keeper.finish(self.network.now())

    # --- reading ----------------------------------------------------------------------------------------------------

    def pair(self, id: InstrumentId) -> str:
        """Empty: the venue has not listed it."""
        listed = self.instruments.get(id)
        return "" if listed is None else listed.pair

    def book(self, id: InstrumentId) -> BookSync | None:
        """As it is now, on the connection that leads."""
        session = self.door.leading(id, Channel.BOOK)
        return None if session is None else session.books.get(id.symbol)

    def tape(self, id: InstrumentId) -> Channel | None:
        """The channel that feeds the instrument's candles: of those subscribed to."""
        channels = {
            it.channel for line in self.door.lines.values() if line.setup.venue == id.venue
            for it in line.setup.wanted if it.symbol == id.symbol and it.channel in TAPES
        }
        tape = venues.capabilities(id.venue).tape
        return tape if tape in channels else next(iter(channels), None)

    # --- what is asked for (service/demand.py) ----------------------------------------------------------------------

    def choice(self, venue: str) -> Choice | None:
        """None: nothing of this venue is collected."""
        return next((it for it in self.choices if it.venue == venue), None)

    def rest(self, venue: str) -> Rest:
        return self._accesses[venue].rest

    def listed(self, venue: str) -> Sequence[Instrument] | None:
        """None: the venue has not told them yet."""
        directory = self.door.directories.get(venue)
        return None if directory is None else list(directory.instruments.values())

    def now(self) -> int:
        return self.network.now()

    def ledger(self, id: InstrumentId, channel: Channel) -> TradeLedger | None:
        """None: no trade of it has come yet."""
        assert self.keeper is not None  # else nobody can ask
        return self.keeper.pipeline.ledger(id, channel)

    def want(self, first: Trade, last: Trade) -> None:
        """All between two trades of one tape, themselves included, however old."""
        assert self.keeper is not None
        first, last = self._as_of_now((first, last))
        self._ask_for(self.keeper.want(first, last))

    def unwant(self, id: InstrumentId, channel: Channel, after: int, before: int) -> None:
        ledger = self.ledger(id, channel)
        self._ask_for(() if ledger is None else ledger.unwant(after, before))

    def bring(self, trades: Sequence[Trade]) -> None:
        """Trades of the past, of a tape whose ids prove nothing."""
        assert self.keeper is not None
        for it in self._as_of_now(trades):
            self._ask_for(self.keeper.handle(it))

    def keep(self, candles: Sequence[Candle]) -> None:
        """The venue's own, as a batch."""
        assert self.keeper is not None
        self.keeper.pipeline.restate(candles, self.network.now())

    def handed(self) -> Callable[[], bool]:
        """Whether all that has been handed over so far is on the disk."""
        assert self.keeper is not None
        return self.keeper.handed(self.network.now())

    def _as_of_now(self, trades: Iterable[Trade]) -> list[Trade]:
        now = self.network.now()
        return [structs.replace(it, received_time=now, available_at=now) for it in trades]

    # --- running ----------------------------------------------------------------------------------------------------

    async def _access(self, choice: Choice, stack: AsyncExitStack) -> Access:
        http: aiohttp.ClientSession = await stack.enter_async_context(client(choice.proxy, choice.local_address))
        venue = venues.create(choice.venue)
        rest = Rest(
            http, venue, choice.rest, self.governors[choice.venue], clock=self.clock, history=choice.history,
            history_governor=self.governors[choice.spec.history.shares or choice.venue],
        )
        way = Way(choice.proxy, choice.local_address, deflate=choice.deflate)
        return Access(choice.spec, choice.websocket, rest, way)

    async def _collect(self, accesses: dict[str, Access], stop: asyncio.Event, stopping: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self.network.run())]
            running += [tasks.create_task(it.rest.run()) for it in accesses.values()]
            running += [tasks.create_task(self._serve(it, accesses[it.venue].rest)) for it in self.choices]
            running += [tasks.create_task(self.demand.run())] if self.demand is not None else []
            await stop.wait()
            try:
                stopping()
            finally:
                self.network.enter(Stopped, "")
            for task in running:
                task.cancel()

    def _take(self, event: Event) -> None:
        """Every event, in the stack of the frame that caused it."""
        if self.recorder is not None:
            self.recorder.happened(event)
        if isinstance(event, GAPS) and self.keeper is not None:
            self._ask_for(self.keeper.handle(event))  # the ledger knows what is true of it, and says so
            return
        self.meter.add(event)
        if isinstance(event, FeedError) and event.permanent and event.symbol and event.venue in self._doubts:
            self._doubts[event.venue].set()  # what is refused for good may be listed no more
        if self.keeper is None:
            self._publish(event)
        elif needs := self.keeper.handle(event):  # which publishes
            self._ask_for(needs)
        if self._log is not None:
            self._log(event)

    def next_wake(self) -> int | None:
        """Of the pipeline."""
        return None if self.keeper is None else self.keeper.next_wake()

    def wake(self, now: int) -> None:
        """The pipeline's deadlines: what it misses then is asked for."""
        if self.keeper is not None:
            self._ask_for(self.keeper.wake(now))

    def _ask_for(self, needs: Sequence[Need]) -> None:
        """As an input of its own, after the one that showed that something is missing: so it is recorded."""
        for it in needs:
            self.network.enter_soon(Needed, it.venue, need=it)

    def _kept(self, event: Event) -> None:
        """What comes out of the pipeline: what came in but once, and what the pipeline says itself."""
        if isinstance(event, GAPS):
            self.meter.add(event)
            if self._log is not None:
                self._log(event)
        if self.demand is not None and self.demand.listens:
            self.demand.hear(event)
        self._publish(event)

    async def _serve(self, choice: Choice, rest: Rest) -> None:
        """One venue: its instruments, then its lines; after that its clock and its instruments, now and then."""
        instruments = await self._list(choice, rest)
        setups = lines(choice, instruments)
        self.reasons.pop(choice.venue, None)
        self._check_pairs(choice, instruments)
        self.instruments.update({it.id: it for it in instruments})
        self.network.enter(Started, choice.venue, lines=setups, instruments=instruments, max_age_ns=choice.max_age_ns)
        await self._begin_tapes(choice.venue, setups)
        clock_at, refresh_at = self.clock(), self.clock() + choice.timings.refresh_ns
        while True:
            self._note_lines(choice, setups)
            if self.clock() >= clock_at:
                clock_at = self.clock() + CLOCK_NS
                await self._measure_clock(choice, rest)
            await self._doubted(choice.venue, min(clock_at, refresh_at) - self.clock())
            if self.clock() >= refresh_at or self._doubts[choice.venue].is_set():
                setups = await self._refresh(choice, rest, setups)
                refresh_at = self.clock() + choice.timings.refresh_ns

    async def _begin_tapes(self, venue: str, setups: Mapping[str, Setup]) -> None:
        """One after the other: each may read from the store."""
        tapes = dict.fromkeys((it.symbol, it.channel) for setup in setups.values() for it in setup.wanted)
        for symbol, channel in tapes:
            if self.keeper is not None and channel in TAPES:
                self._ask_for(self.keeper.begin(InstrumentId(venue, symbol), channel, self.network.now()))
                await asyncio.sleep(0)

    def _note_lines(self, choice: Choice, setups: Mapping[str, Setup]) -> None:
        if not setups:
            self.reasons[choice.venue] = "has none of the pairs"
        elif self.reasons.get(choice.venue) == "has none of the pairs":
            del self.reasons[choice.venue]

    async def _doubted(self, venue: str, longest_ns: int) -> None:
        """Until the list of instruments is in doubt, but not for longer, and not at once again."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._doubts[venue].wait(), max(longest_ns, 0) / SECOND)
            await asyncio.sleep(DOUBT_NS / SECOND)

    async def _list(self, choice: Choice, rest: Rest) -> tuple[Instrument, ...]:
        """The venue's instruments, however long that takes; why it takes so long is said each time."""
        failures = 0
        chance = Random(f"{self._seed}{choice.venue}")  # noqa: S311 - jitter
        while True:
            try:
                _, instruments = await self._ask_instruments(choice, rest)
            except (Unanswered, RestError) as error:
                failures += 1
                self.meter.counters[choice.venue, "instrument lists in vain"] += 1
                self.reasons[choice.venue] = str(error)
                self.network.enter(Unlisted, choice.venue, reason=str(error))
                await asyncio.sleep(choice.patience.wait(failures, chance.random()) / SECOND)
                continue
            return instruments

    async def _ask_instruments(
        self, choice: Choice, rest: Rest,
    ) -> tuple[tuple[bytes, ...], tuple[Instrument, ...]]:
        """The pages as they came, and what can be subscribed to of it. Raises Unanswered, RestError."""
        venue = venues.create(choice.venue)
        pages: list[bytes] = []
        listed: list[Instrument] = []
        requests = venue.instrument_requests()
        asked: set[str] = set()
        while requests:
            request = requests.pop(0)
            if request.path in asked or len(asked) >= MAX_PAGES:
                raise Unanswered(f"{choice.venue}'s list of instruments has no end")
            asked.add(request.path)
            reply = await self._ask(choice, rest, request)
            try:
                instruments, following = venue.parse_instruments(reply.body)
            except UNREADABLE as error:
                raise Unanswered(f"{choice.venue} gave an unreadable list of instruments: {error}"[:200]) from error
            pages.append(reply.body)
            listed += instruments
            requests += [following] if following is not None else []
        if not (found := tradable(listed)):
            raise Unanswered(f"{choice.venue} gave an empty list of instruments")
        return tuple(pages), found

    @staticmethod
    async def _ask(choice: Choice, rest: Rest, request: Request) -> Reply:
        """Raises Unanswered, RestError."""
        reply = await rest.fetch(request, Priority.DISCOVERY)
        venues.create(choice.venue).check(reply.status, reply.headers, reply.body)
        return reply

    async def _refresh(self, choice: Choice, rest: Rest, setups: dict[str, Setup]) -> dict[str, Setup]:
        """The list once more; gives the lines that follow from it."""
        directory = self.door.directories[choice.venue]
        self._doubts[choice.venue].clear()
        try:
            pages, listed = await self._ask_instruments(choice, rest)
        except (Unanswered, RestError) as error:
            self.meter.counters[choice.venue, "instrument lists in vain"] += 1
            structlog.get_logger().warning("instrument list", venue=choice.venue, reason=str(error))
            return setups
        if not directory.believes(listed):
            self.meter.counters[choice.venue, "instrument lists in vain"] += 1
            reason = f"it has {len(listed)} instruments, and had {len(directory.instruments)}"
            structlog.get_logger().warning("instrument list", venue=choice.venue, reason=reason)
            return setups
        changed = lines(choice, directory.after(listed).values(), setups)
        self.network.enter(Listed, choice.venue, pages=pages, lines=None if changed == setups else changed)
        self.instruments.update(directory.instruments)
        if directory.missing:
            self._doubts[choice.venue].set()
        return changed

    async def _measure_clock(self, choice: Choice, rest: Rest) -> None:
        """The venue's clock less ours: half of the way there and back is taken for the way back."""
        venue = venues.create(choice.venue)
        try:
            reply = await self._ask(choice, rest, venue.time_request())
            theirs = venue.parse_time(reply.body)
        except (Unanswered, RestError, *UNREADABLE):
            self.meter.counters[choice.venue, "clocks not read"] += 1
            return
        self.meter.measured(choice.venue, theirs, reply.sent_at, reply.received_at)

    def _check_pairs(self, choice: Choice, instruments: tuple[Instrument, ...]) -> None:
        """A pair chosen for a venue must be there; one chosen for all, at one of them at least. Raises UsageError.

        Once a run goes on, a venue that answers late does not end it: then that is what is wrong with this venue.
        """
        self._listed[choice.venue] = instruments
        known = self.choices if len(self._listed) == len(self.choices) else [choice] if choice.own_pairs else []
        problems = [words for _, words in unknown_pairs(known, self._listed)]
        if problems and self.clock() - self.started_at < EARLY_NS:
            raise UsageError("\n".join(problems))
        if problems:
            self.reasons[choice.venue] = "; ".join(problems)


def _first(group: BaseExceptionGroup[OneTapeError]) -> OneTapeError:
    """What was raised first, out of the groups in which tasks wrap it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, OneTapeError)
    return error
