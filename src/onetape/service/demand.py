"""Does what is asked of a store's past: finds where it lies, has it filled as any gap is, and says how far it is.

The ledger has one owner, the process that writes the store. So it does the asking, whoever wants it: see requests.py.
Trades come by the same way as those of any gap; here only the two between which all is wanted are looked for.
"""
import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import structlog
from msgspec import Struct

from onetape import venues
from onetape.clock import HOUR, MINUTE, SECOND, interval_ns, isoformat
from onetape.errors import BadFrame, GiveUp, RestError, UsageError
from onetape.feed.backfill import AGAIN_NS
from onetape.feed.governor import Priority
from onetape.feed.locate import Locate, Place
from onetape.feed.rest import Rest, Unanswered
from onetape.model import Candle, Channel, Event, Instrument, InstrumentId, Request, Skipped, Trade
from onetape.nearest import nearest
from onetape.service import requests
from onetape.service.choice import Choice
from onetape.service.klines import NEWEST, PAGES, Lacking, klines
from onetape.service.requests import Asked
from onetape.storage.lake import Lake, Selection
from onetape.tape.coverage import Interval
from onetape.tape.ledger import TradeLedger
from onetape.venues.base import UNREADABLE

LOOK_S = 0.5  # between two looks at the folder, and at what is still missing
TRIES = 40  # answers that bring nothing, while a time is looked for
LONGEST_WAIT_S = 30.0
FINISHED = 20  # reports that are kept
MARGIN_NS = 5 * MINUTE  # what a venue keeps for no longer than that is not begun with: it would be gone meanwhile
NOW_NS = MINUTE  # a time that is no longer ago is the present

State = Literal["waiting", "looking", "filling", "done", "refused", "withdrawn"]


class Report(Struct):
    """How far one request is. Times in ns; of candles ``done`` and ``total`` count candles, else ids."""

    id: str
    asked: Asked
    state: State = "waiting"
    reason: str = ""
    """Why it is refused, or waits."""
    symbol: str = ""
    first: str = ""
    last: str = ""
    """The ids between which, themselves included, all was wanted."""
    total: int = 0
    present: int = 0
    """Of these, what was there before."""
    done: int = 0
    """What is accounted for, ``present`` and ``skipped`` included."""
    stored: int = 0
    skipped: int = 0
    """Ids that stand for no trade: the venue itself has none, or it cannot be true."""
    lacking: list[Lacking] = []
    """What could not be had, and why."""
    notes: list[str] = []
    began: int = 0
    at: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ("done", "refused", "withdrawn")


class Hands(Protocol):
    """What the collector lends: all that writes, and its ways to the venues."""

    def choice(self, venue: str) -> Choice | None:
        """None: nothing of this venue is collected."""
        ...

    def rest(self, venue: str) -> Rest: ...

    def listed(self, venue: str) -> Sequence[Instrument] | None:
        """None: not yet."""
        ...

    def now(self) -> int: ...

    def want(self, first: Trade, last: Trade) -> None: ...

    def unwant(self, id: InstrumentId, channel: Channel, after: int, before: int) -> None: ...

    def bring(self, trades: Sequence[Trade]) -> None: ...

    def keep(self, candles: Sequence[Candle]) -> None: ...

    def ledger(self, id: InstrumentId, channel: Channel) -> TradeLedger | None: ...

    def handed(self) -> Callable[[], bool]:
        """Whether all that has been handed over so far is on the disk."""
        ...


class Demand:
    """Of one store; ``run`` lives as long as its writer. Requests of one venue come one after the other."""

    def __init__(self, store: Path, hands: Hands) -> None:
        self.reports: dict[str, Report] = {}
        """Of what stands, by id."""
        self.finished: deque[Report] = deque(maxlen=FINISHED)
        self._store, self._hands = store, hands
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._heard: dict[tuple[str, str, Channel], tuple[Report, int, int]] = {}

    @property
    def listens(self) -> bool:
        """To what is published."""
        return bool(self._heard)

    def hear(self, event: Event) -> None:
        """Everything that is published: what came, once."""
        if not isinstance(event, Trade | Skipped):
            return
        report, low, high = self._heard.get((event.venue, event.symbol, event.channel), (None, 0, 0))
        if report is None:
            return
        if isinstance(event, Trade):
            report.stored += event.after is None or low <= int(event.id) <= high
        elif event.after is not None and low <= int(event.last) <= high:
            report.skipped += int(event.last) - event.after

    async def run(self) -> None:
        """Until it is cancelled: what is not done by then stands. A defect is raised."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._look(tasks)
                await asyncio.sleep(LOOK_S)

    def _look(self, tasks: asyncio.TaskGroup) -> None:
        asked = requests.standing(self._store)
        for id, it in asked.items():
            if id not in self.reports:
                report = self.reports[id] = Report(id, it, began=self._hands.now())
                self._tasks[id] = tasks.create_task(self._do(report))
        for id in [it for it in self.reports if it not in asked]:
            self._tasks[id].cancel()

    async def _do(self, report: Report) -> None:
        try:
            await self._in_turn(report)
        except asyncio.CancelledError:
            if requests.path_of(self._store, report.id).exists():  # it is not the request that ends
                raise
            report.state = "withdrawn"
        except (UsageError, GiveUp) as error:
            report.state, report.reason = "refused", str(error)
        else:
            report.state = "done"
        structlog.get_logger().info("asked for", id=report.id, state=report.state, stored=report.stored)
        report.at = self._hands.now()
        self.finished.append(report)
        del self.reports[report.id], self._tasks[report.id]
        requests.withdraw(self._store, report.id)

    async def _in_turn(self, report: Report) -> None:
        """Raises UsageError: it cannot be done as it was asked for; GiveUp: nor at all."""
        venue = report.asked.venue
        choice = self._hands.choice(venue)
        if choice is None:
            raise UsageError(f"the process that writes this store does not collect {venue}: ask when it has stopped")
        report.reason = "another request of this venue comes first"
        async with self._turns.setdefault(venue, asyncio.Lock()):
            report.reason = f"the instruments of {venue} are not known yet"
            while (listed := self._hands.listed(venue)) is None:  # noqa: ASYNC110 - the venue may be down
                await asyncio.sleep(LOOK_S)
            report.reason = ""
            id = instrument(report.asked.pair, venue, listed)
            report.symbol, report.state = id.symbol, "looking"
            if report.asked.interval:
                await self._candles(report, choice, id)
            else:
                await self._trades(report, choice, id)
            committed = self._hands.handed()
            while not committed():  # noqa: ASYNC110 - another thread does it
                await asyncio.sleep(LOOK_S / 10)

    # --- trades -----------------------------------------------------------------------------------------------------

    async def _trades(self, report: Report, choice: Choice, id: InstrumentId) -> None:
        asked, now = report.asked, self._hands.now()
        if choice.spec.history.newest_only:
            await self._newest(report, choice, id)
            return
        start, reach = asked.start, choice.spec.history.reach_ns
        if reach and start < now - reach + MARGIN_NS:
            start = min(now - reach + MARGIN_NS, asked.end)
            report.lacking.append(Lacking(asked.start, start, f"too old: the venue keeps {reach // HOUR} hours"))
        if start >= asked.end:
            return
        await asyncio.sleep(max(asked.end + AGAIN_NS - now, 0) / SECOND)  # REST may show the newest ones later
        low = await self._place(choice, id, start)
        high = await self._place(choice, id, asked.end)
        first, last = low.before or low.behind, high.behind or high.before
        if first is None or last is None:
            report.notes.append("the venue has no trades of it")
            return
        if low.before is None:
            report.notes.append(f"the venue has nothing before {isoformat(first.exchange_time)}")
        if high.behind is None:
            report.notes.append(f"the newest trade of the venue is of {isoformat(last.exchange_time)}")
        await self._fill(report, id, first, last)

    async def _fill(self, report: Report, id: InstrumentId, first: Trade, last: Trade) -> None:
        """All between two trades, themselves included."""
        low, high = int(first.id), int(last.id)
        key = (*id, first.channel)
        report.first, report.last, report.total = first.id, last.id, high - low + 1
        self._heard[key] = report, low, high
        try:
            self._hands.want(first, last)  # only now it is known what the store has of this tape
            report.done = report.total - self._missing(report, id, first.channel)
            report.present = report.done - report.stored - report.skipped
            report.state = "filling"
            while (left := self._left(report, id, first.channel)):
                report.done = report.total - left
                report.at = self._hands.now()
                await asyncio.sleep(LOOK_S / 2)
        except asyncio.CancelledError:
            if not requests.path_of(self._store, report.id).exists():
                self._hands.unwant(id, first.channel, low, high)
            raise
        finally:
            del self._heard[key]
        self._say_what_lacks(report, id, first.channel)

    def _holes(self, report: Report, id: InstrumentId, channel: Channel) -> list[tuple[Interval, str]]:
        ledger = self._hands.ledger(id, channel)
        assert ledger is not None  # it has the first and the last
        return ledger.missing(int(report.first), int(report.last))

    def _missing(self, report: Report, id: InstrumentId, channel: Channel) -> int:
        return sum(it.last - it.first + 1 for it, _ in self._holes(report, id, channel))

    def _left(self, report: Report, id: InstrumentId, channel: Channel) -> int:
        """Ids that may still come."""
        holes = self._holes(report, id, channel)
        return sum(it.last - it.first + 1 for it, given_up in holes if not given_up)

    def _say_what_lacks(self, report: Report, id: InstrumentId, channel: Channel) -> None:
        report.done = report.total - self._missing(report, id, channel)
        report.lacking += [
            Lacking(it.from_time, it.to_time, f"{it.last - it.first + 1} ids from {it.first} on: {why}")
            for it, why in self._holes(report, id, channel)
        ]

    async def _newest(self, report: Report, choice: Choice, id: InstrumentId) -> None:
        """Of a venue that gives no others."""
        asked = report.asked
        why = f"venue limit: {choice.venue} gives its newest trades alone, whatever time or id is asked for"
        if asked.end < self._hands.now() - NOW_NS:
            report.lacking.append(Lacking(asked.start, asked.end, why))
            return
        request = venues.create(choice.venue).trades_request(id.symbol, None, None, None)
        assert request is not None
        rows = [it for it in await self._rows(choice, request, id) if it.exchange_time < asked.end]
        since = rows[0].exchange_time if rows else asked.end
        if since > asked.start:
            report.lacking.append(Lacking(asked.start, since, why))
        wanted = [it for it in rows if it.exchange_time >= asked.start]
        self._heard[(*id, choice.spec.capabilities.tape)] = report, 0, 0
        self._hands.bring(wanted)
        del self._heard[(*id, choice.spec.capabilities.tape)]
        report.total = report.done = len(wanted)
        report.present = len(wanted) - report.stored

    async def _place(self, choice: Choice, id: InstrumentId, at: int) -> Place:
        """Raises GiveUp."""
        it = Locate(venues.create(choice.venue), id.symbol, at)
        reason, failures = "", 0
        while it.found is None:
            if failures >= TRIES:
                raise GiveUp(f"cannot find out where {isoformat(at)} is: {reason}")
            try:
                it.receive(await self._rows(choice, it.request(), id))
            except BadFrame as error:
                reason, failures = error.reason, failures + 1
        return it.found

    async def _rows(self, choice: Choice, request: Request, id: InstrumentId) -> Sequence[Trade]:
        """What an answer says, ascending, each once. Raises GiveUp, BadFrame."""
        venue, reason = venues.create(choice.venue), ""
        for turn in range(TRIES):
            try:
                reply = await self._hands.rest(choice.venue).fetch(request, Priority.BACKFILL)
                venue.check(reply.status, reply.headers, reply.body)
                rows = {it.id: it for it in venue.parse_trades(request, reply.body, reply.received_at)}
            except GiveUp:
                raise
            except (Unanswered, RestError) as error:
                reason = str(error)
            except UNREADABLE as error:
                raise BadFrame(" ".join(str(error).split())[:200], id.symbol) from error
            else:
                return sorted(rows.values(), key=_number) if choice.spec.counted_trades else list(rows.values())
            await asyncio.sleep(min(2.0 ** turn, LONGEST_WAIT_S))
        raise GiveUp(reason)

    # --- candles ----------------------------------------------------------------------------------------------------

    async def _candles(self, report: Report, choice: Choice, id: InstrumentId) -> None:
        """The venue's own, final ones that lie wholly in the time; those that are stored are not asked for again."""
        asked, interval = report.asked, report.asked.interval
        try:
            length = interval_ns(interval)
            venues.create(choice.venue).candles_request(id.symbol, interval, asked.start, asked.start + length)
        except (LookupError, ValueError) as error:
            raise UsageError(f"{choice.venue} gives no candles of {interval[:20]!r} by REST") from error
        start, end = asked.start + -asked.start % length, asked.end - asked.end % length
        report.total, report.state = max(end - start, 0) // length, "filling"
        step = end - start if choice.venue in NEWEST else PAGES[choice.venue] * length
        while start < end:
            until = min(start + step, end)
            stored = await asyncio.to_thread(_stored, self._store, id, interval, start, until)
            report.present += len(stored)
            absent = [it for it in range(start, until, length) if it not in stored]
            if absent:
                await self._fetch(report, choice, id, absent[0], absent[-1] + length, stored)
            report.done += (until - start) // length
            start = until

    async def _fetch(
        self, report: Report, choice: Choice, id: InstrumentId, start: int, end: int, stored: set[int],
    ) -> None:
        rest = self._hands.rest(choice.venue)
        pages = klines(
            choice, rest, id.symbol, report.asked.interval, start, end, lacking=partial(_add, report.lacking))
        async for page in pages:
            news = [it for it in page if it.final and it.start not in stored]
            self._hands.keep(news)
            report.stored += len(news)
            report.at = self._hands.now()
            for it in page:
                if not it.final:
                    _add(report.lacking, Lacking(it.start, it.end, "the venue says that it is not final yet"))


def _add(lacking: list[Lacking], it: Lacking) -> None:
    """As one with what it continues."""
    if lacking and lacking[-1].end == it.start and lacking[-1].reason == it.reason:
        it = Lacking(lacking.pop().start, it.end, it.reason)
    lacking.append(it)


def _stored(store: Path, id: InstrumentId, interval: str, start: int, end: int) -> set[int]:
    """Starts of the venue's own candles that are there."""
    selection = Selection(venue=id.venue, instruments=frozenset({id}), start=start + 1, end=end + 1)
    with Lake(store) as lake:
        return {it.start for it in lake.candles(selection, interval, source="venue")}


def _number(it: Trade) -> int:
    return int(it.id)


def instrument(pair: str, venue: str, listed: Sequence[Instrument]) -> InstrumentId:
    """The pair, or the venue's own symbol, as ``venue`` lists it. Raises UsageError, which names the nearest."""
    for it in sorted(listed, key=lambda it: not it.tradable):  # of two the tradable
        if pair in (it.pair, it.id.symbol):
            return it.id
    known = {it.pair for it in listed if it.pair}
    raise UsageError(f"there is no pair {pair[:40]!r} at {venue}: {nearest(pair, known)}")
