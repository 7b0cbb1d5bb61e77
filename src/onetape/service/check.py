"""The doctor: follows what a run would do from its settings to a stored row, and says where it ends."""
import asyncio
import platform
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from enum import StrEnum
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from msgspec import Struct, structs

from onetape import COMPILED_MODULES, PURE, candles, venues
from onetape.book import COMPILED
from onetape.clock import MILLISECOND, SECOND
from onetape.config import Settings
from onetape.credentials import Credentials, without_password
from onetape.errors import OneTapeError, RestError, RetryBatch, UsageError
from onetape.feed import liveness
from onetape.feed.governor import Governor, Priority
from onetape.feed.rest import Reply, Rest, Unanswered, client
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Candle,
    ConnectionState,
    Event,
    FeedError,
    Instrument,
    Lifecycle,
    Quote,
    Request,
    Ticker,
    Trade,
)
from onetape.model import numbers
from onetape.nearest import nearest
from onetape.service import wiring
from onetape.service.choice import Choice, choices, tradable, unknown_pairs
from onetape.service.collector import Collector
from onetape.service.run import Simulated, policy_of, redirect, serve
from onetape.service.status import read, running
from onetape.storage.lake import Lake
from onetape.tape import validation
from onetape.venues.base import UNREADABLE

DNS_S = 5.0
REST_S = 15.0
DATA_S = 15.0
ROW_S = 5.0  # from the first data to a row of it
LOOK_S = 0.05
SKEW_NS = SECOND  # of the clocks: more makes times and latencies wrong
LITTLE_BYTES = 2 * 2**30
TOO_LITTLE_BYTES = 100 * 2**20
TABLES = ("trades", "quotes", "book_snapshots", "candles")

DATA: Mapping[type[Event], str] = MappingProxyType({
    Trade: "trades", BookDelta: "book deltas", BookSnapshot: "book snapshots", Quote: "quotes", Ticker: "tickers",
    Candle: "candles",
})


BESIDE: Mapping[str, bool] = MappingProxyType({
    "numbers": numbers.COMPILED, "candles": candles.COMPILED, "checks of trades": validation.COMPILED,
    "silences": liveness.COMPILED,
})
"""What is compiled beside the order book, and whether it is."""


class Grade(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


class Finding(Struct, frozen=True):
    """Of one check."""

    grade: Grade
    venue: str
    """Empty: of the whole."""
    check: str
    says: str
    """A figure or a reason."""
    todo: str = ""
    """What would help, where something is amiss."""


class Failed(Exception):  # ends the checks of one venue, never seen outside
    """What follows has no sense any more."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.says)
        self.finding = finding


Tell = Callable[[Finding], None]


async def check(
    settings: Settings, simulated: Simulated | None, tell: Tell, credentials: Mapping[str, Credentials] | None = None,
) -> None:
    """Every finding goes to ``tell``, those of a venue in their order; the venues side by side."""
    credentials = credentials or {}
    try:
        chosen = choices(settings)
    except UsageError as error:
        for finding in of_settings(error):
            tell(finding)
        chosen = []
    else:
        if simulated is not None:
            chosen = [it for it in chosen if it.venue in simulated.venues]
        names = ", ".join(it.venue for it in chosen) + (", all simulated" if simulated is not None else "")
        tell(Finding(Grade.OK, "", "settings", f"{len(settings.pairs)} pairs at {names}"))
    if credentials:
        tell(Finding(Grade.OK, "", "credentials", f"there are some for {', '.join(credentials)}"))
    for finding in (*_of_store(settings.store), _of_loop(), _of_book()):
        tell(finding)
    if settings.postgres is not None:
        tell(await _of_postgres(settings.postgres))
    listed: dict[str, Sequence[Instrument]] = {}
    async with AsyncExitStack() as stack:
        if simulated is not None and chosen:
            server = await serve(simulated, stack)
            moving = asyncio.create_task(server.wait())
            stack.callback(moving.cancel)
            chosen = [redirect(it, server) for it in chosen]
        await asyncio.gather(*(_of_venue(it, settings, tell, listed, credentials) for it in chosen))
    for finding in _of_pairs(chosen, listed):
        tell(finding)


# --- this machine ---------------------------------------------------------------------------------------------------


def of_settings(error: UsageError) -> list[Finding]:
    """A line each, but for the one above them, which only counts them."""
    first, *rest = str(error).splitlines()
    return [
        Finding(Grade.FAILED, "", "settings", it.strip(), "mend it; onetape config show says what is in force")
        for it in rest or [first]
    ]


def _of_store(store: Path) -> Iterator[Finding]:
    there = next((it for it in (store.absolute(), *store.absolute().parents) if it.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        todo = "choose another folder with --store or `store`, or give yourself the right to write there"
        yield Finding(Grade.FAILED, "", "store", f"cannot write in {there}: {error.strerror}", todo)
        return
    free = shutil.disk_usage(there).free
    grade = Grade.FAILED if free < TOO_LITTLE_BYTES else Grade.WARNING if free < LITTLE_BYTES else Grade.OK
    todo = "" if grade is Grade.OK else "make room, or choose a folder on another disk"
    yield Finding(grade, "", "store", f"{store} can be written; {free / 2**30:,.1f} GiB free", todo)
    with suppress(UsageError):
        status = read(store)
        if running(status, time.time_ns()):
            says = f"{store} is in use by pid {status.pid}: a second run on it would be refused"
            yield Finding(Grade.OK, "", "store", says)


async def _of_postgres(url: str) -> Finding:
    """All the way: connected, its schema made, a row of every table written and taken back."""
    try:
        from onetape.storage.postgres.store import Postgres  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return Finding(Grade.FAILED, "", "PostgreSQL", "asyncpg is not installed", "pip install 'onetape[postgres]'")
    began = time.monotonic()
    try:
        async with Postgres(url) as database:
            with wiring.probe() as portion:
                wiring.compare(portion.counts, await database.probe(portion), "PostgreSQL")
    except RetryBatch as error:
        return Finding(Grade.FAILED, "", "PostgreSQL", str(error), "a run would collect, and bring its rows later")
    except UsageError as error:
        return Finding(Grade.FAILED, "", "PostgreSQL", str(error), "a run with this setting would end at once")
    took = time.monotonic() - began
    return Finding(Grade.OK, "", "PostgreSQL", f"{without_password(url)} takes a row of every table; {took:.1f} s")


def _of_loop() -> Finding:
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    python = f"Python {platform.python_version()}"
    if loop == "uvloop" or sys.platform == "win32":
        with suppress(PackageNotFoundError):
            loop = f"{loop} {version(loop)}"
        return Finding(Grade.OK, "", "event loop", f"{loop}, {python}")
    return Finding(Grade.WARNING, "", "event loop", f"{loop}, {python}: slower", "install uvloop")


def _of_book() -> Finding:
    """Both books give the same: which one runs is no fault, but a matter of speed."""
    if COMPILED and _outdated():
        todo = "install OneTape again (`make test`, or pip install --editable .)"
        return Finding(Grade.WARNING, "", "order book", "compiled kernel, older than its source", todo)
    if COMPILED:
        slow = [name for name, compiled in BESIDE.items() if not compiled]
        todo = "install OneTape again where there is a C compiler: pure Python is slower" if slow else ""
        says = f"compiled kernel, but {' and '.join(slow)} in pure Python" if slow else "compiled kernel"
        return Finding(Grade.OK, "", "order book", says, todo)
    todo = "" if PURE else "install OneTape again where there is a C compiler: pure Python is slower"
    return Finding(Grade.OK, "", "order book", f"pure Python ({why_not_compiled()})", todo)


def _outdated() -> bool:
    """The source of one of them, in a checkout, has changed since."""
    for module in COMPILED_MODULES:
        with suppress(ImportError):
            built = Path(str(import_module(module).__file__))
            source = built.with_name(f"{module.rpartition('.')[2]}.pyx")
            if source.is_file() and source.stat().st_mtime > built.stat().st_mtime:
                return True
    return False


def why_not_compiled() -> str:
    """What was asked for, what the build said, or what loading it says."""
    if PURE:
        return "ONETAPE_PURE is set"
    reason = files("onetape.book") / "_kernel.missing.txt"
    if reason.is_file():
        return f"no compiled kernel: {reason.read_text(encoding='utf-8').strip()}"
    try:
        import_module("onetape.book._kernel")
    except ModuleNotFoundError:
        return "no compiled kernel: it was not built for this Python"
    except ImportError as error:
        return f"no compiled kernel: it cannot be loaded: {error}"
    return "the compiled kernel was built after this began"


# --- one venue ------------------------------------------------------------------------------------------------------


async def _of_venue(
    choice: Choice, settings: Settings, tell: Tell, listed: dict[str, Sequence[Instrument]],
    credentials: Mapping[str, Credentials],
) -> None:
    """From its name to a stored row, as far as that goes."""
    try:
        tell(await _resolve(choice))
        instruments = await _ask(choice, tell)
        listed[choice.venue] = instruments
        pair = _one_pair(choice, instruments)
        await _Probe(structs.replace(choice, pairs=(pair,)), settings, tell, credentials).run()
    except Failed as error:
        tell(error.finding)
    except OneTapeError as error:
        tell(Finding(Grade.FAILED, choice.venue, "run", str(error)))


async def _resolve(choice: Choice) -> Finding:
    """Raises Failed: none of the hosts for REST, or of those for a WebSocket, has an address."""
    groups = [(choice.proxy,)] if choice.proxy else [choice.rest, *choice.websocket.values()]  # one of each is needed
    hosts = [[urlsplit(url).hostname or url for url in urls] for urls in groups]
    names = list(dict.fromkeys(it for group in hosts for it in group))
    problems = dict(zip(names, await asyncio.gather(*(_look_up(it) for it in names)), strict=True))
    whose = "the proxy " if choice.proxy else ""
    if not any(problems.values()):
        return Finding(Grade.OK, choice.venue, "DNS", f"{whose}{', '.join(names)}")
    says = f"cannot resolve {whose}{', '.join(f'{host} ({why})' for host, why in problems.items() if why)}"
    if any(all(problems[it] for it in group) for group in hosts):
        todo = "is this machine online? see its resolver, a proxy, or try --sim"
        raise Failed(Finding(Grade.FAILED, choice.venue, "DNS", says, todo))
    return Finding(Grade.WARNING, choice.venue, "DNS", says, "the others are tried instead")


async def _look_up(host: str) -> str:
    """Why a name has no address; empty if it has. In a thread that nobody waits for: a resolver may take minutes."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def give(why: str) -> None:
        if not answer.done():
            answer.set_result(why)

    def ask() -> None:
        try:
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            why = ""
        except OSError as error:
            why = error.strerror or str(error)
        except UnicodeError:
            why = "not a name"
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(give, why)

    threading.Thread(target=ask, daemon=True).start()
    try:
        async with asyncio.timeout(DNS_S):
            return await answer
    except TimeoutError:
        return f"no answer within {DNS_S:g} s"


async def _ask(choice: Choice, tell: Tell) -> Sequence[Instrument]:
    """The venue's clock and its instruments. Raises Failed."""
    clock, todo = time.time_ns, "see the proxy, a firewall, or the venue's status page"
    async with client(choice.proxy, choice.local_address) as http:
        rest = Rest(http, venues.create(choice.venue), choice.rest, Governor(choice.spec.budget), clock=clock)
        asking = asyncio.create_task(rest.run())
        try:
            async with asyncio.timeout(REST_S):
                tell(await _clock(choice, rest))
                return await _instruments(choice, rest)
        except TimeoutError:
            why = f"no answer within {REST_S:g} s"
        except (Unanswered, RestError) as error:
            why = str(error)
        except UNREADABLE as error:
            why = f"an unreadable answer: {error}"[:200]
        finally:
            asking.cancel()
    raise Failed(Finding(Grade.FAILED, choice.venue, "REST", why, todo))


async def _fetch(choice: Choice, rest: Rest, request: Request) -> Reply:
    """Each address once. Raises Unanswered, RestError."""
    for left in reversed(range(len(choice.rest))):
        try:
            reply = await rest.fetch(request, Priority.DISCOVERY)
        except Unanswered:
            if not left:
                raise
        else:
            venues.create(choice.venue).check(reply.status, reply.headers, reply.body)
            return reply
    raise AssertionError


async def _clock(choice: Choice, rest: Rest) -> Finding:
    venue = venues.create(choice.venue)
    reply = await _fetch(choice, rest, venue.time_request())
    theirs, took = venue.parse_time(reply.body), reply.received_at - reply.sent_at
    offset = theirs - (reply.sent_at + reply.received_at) // 2
    says = f"answers in {took / MILLISECOND:,.0f} ms; "
    whole = theirs % SECOND == 0  # a clock that tells seconds alone is behind by half of one
    if whole:
        offset += SECOND // 2
        says += f"its clock, by whole seconds, is {offset / SECOND:+.1f} s from ours"
    else:
        says += f"its clock is {offset / MILLISECOND:+,.0f} ms from ours"
    if abs(offset) <= SKEW_NS + took // 2 + SECOND // 2 * whole:
        return Finding(Grade.OK, choice.venue, "REST", says)
    return Finding(Grade.WARNING, choice.venue, "REST", says, "set this machine's clock (NTP): latencies are wrong")


async def _instruments(choice: Choice, rest: Rest) -> Sequence[Instrument]:
    venue, found = venues.create(choice.venue), list[Instrument]()
    requests = venue.instrument_requests()
    while requests:
        reply = await _fetch(choice, rest, requests.pop(0))
        page, following = venue.parse_instruments(reply.body)
        found += page
        requests += [following] if following is not None else []
    return tradable(found)


def _one_pair(choice: Choice, instruments: Sequence[Instrument]) -> str:
    """The first one that the venue has. Raises Failed."""
    there = {it.pair for it in instruments if it.pair}
    pair = next((it for it in choice.pairs if it in there), None)
    if pair is None:
        says = f"has none of {', '.join(choice.pairs[:9])}: it lists {len(there):,} pairs"
        raise Failed(Finding(Grade.FAILED, choice.venue, "pairs", says, nearest(choice.pairs[0], there)))
    return pair


class _Probe:
    """Collects one pair of one venue into a store that is removed afterwards."""

    def __init__(
        self, choice: Choice, settings: Settings, tell: Tell, credentials: Mapping[str, Credentials],
    ) -> None:
        self._choice, self._settings, self._tell, self._credentials = choice, settings, tell, credentials
        self._stop = asyncio.Event()
        self._began = self._opened = self._came = 0.0
        self._kinds: Counter[str] = Counter()
        self._reason = ""
        self._silent: list[str] = []  # lines that are not active in the end

    async def run(self) -> None:
        """Raises OneTapeError."""
        with tempfile.TemporaryDirectory(prefix="onetape-check-") as name:
            store, self._began = Path(name), time.monotonic()
            collector = Collector(
                [self._choice], policy=policy_of(self._settings, [self._choice]), store=store, log=self._hear,
                credentials=self._credentials,
            )
            watching = asyncio.create_task(self._watch(collector))
            try:
                await collector.run(self._stop)
            finally:
                watching.cancel()
            self._tell_lines(collector)
            if self._came:
                self._tell(self._of_rows(store))

    def _hear(self, it: Event) -> None:
        match it:
            case ConnectionState(state=Lifecycle.CONNECTED):
                self._opened = self._opened or time.monotonic()
            case ConnectionState() | FeedError() if it.reason:
                self._reason = it.reason
            case _ if type(it) in DATA:
                self._came = self._came or time.monotonic()
                self._kinds[DATA[type(it)]] += 1

    async def _watch(self, collector: Collector) -> None:
        """Until every line is active and a row is kept, or it has been long enough."""
        end = self._began + DATA_S
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_S)
            lines = collector.door.lines.values()
            kept = collector.keeper is not None and any(collector.keeper.journal.counters[it] for it in TABLES)
            if lines and all(it.state is Lifecycle.ACTIVE for it in lines) and kept:
                break
            if any(it.refused for it in lines):
                break
            if self._came:
                end = max(end, self._came + ROW_S)
        self._silent = [it.name for it in collector.door.lines.values() if it.state is not Lifecycle.ACTIVE]
        self._stop.set()

    def _tell_lines(self, collector: Collector) -> None:
        venue, pair, why = self._choice.venue, self._choice.pairs[0], self._reason
        if not self._opened:
            says = why or collector.reasons.get(venue, "") or f"not open within {DATA_S:g} s"
            todo = "see the proxy, a firewall, or the venue's status page"
            self._tell(Finding(Grade.FAILED, venue, "WebSocket", says, todo))
            return
        sockets = len(collector.door.lines)
        opened = f"open after {self._opened - self._began:.1f} s" + (f", {sockets} sockets" if sockets > 1 else "")
        self._tell(Finding(Grade.OK, venue, "WebSocket", opened))
        if any(it.refused for it in collector.door.lines.values()):
            todo = "mend the credentials in the environment, or take them away: what is collected needs none"
            self._tell(Finding(Grade.FAILED, venue, "login", self._reason.removeprefix("login refused: "), todo))
            return
        if not self._came:
            says = f"nothing of {pair} within {DATA_S:g} s" + (f": {why}" if why else "")
            self._tell(Finding(Grade.FAILED, venue, "data", says, "is the pair traded? see the venue's status page"))
            return
        kinds = ", ".join(f"{count} {name}" for name, count in self._kinds.items())
        says = f"{pair} after {self._came - self._began:.1f} s: {kinds}"
        if self._silent:
            says += f"; but nothing yet on {', '.join(self._silent)}" + (f": {why}" if why else "")
        self._tell(Finding(
            Grade.WARNING if self._silent else Grade.OK, venue, "data", says,
            "a quiet pair needs longer" if self._silent else "",
        ))

    def _of_rows(self, store: Path) -> Finding:
        """As another process would read them."""
        with Lake(store) as lake:
            rows = {table: lake.count(table) for table in TABLES}
        kept = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in rows.items() if count)
        if kept:
            return Finding(Grade.OK, self._choice.venue, "stored", kept)
        todo = f"of {', '.join(self._choice.channels)} none may be kept: choose trades, book or quotes"
        return Finding(Grade.FAILED, self._choice.venue, "stored", "no row came into the store", todo)


def _of_pairs(chosen: Iterable[Choice], listed: Mapping[str, Sequence[Instrument]]) -> Iterator[Finding]:
    """Of those that a run would refuse."""
    for venue, says in unknown_pairs(chosen, listed):
        where = "of this venue" if venue else "in the settings"
        yield Finding(Grade.FAILED, venue, "pairs", says, f"mend the pairs {where}")
