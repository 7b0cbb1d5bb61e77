"""Brings files of others into a store, by the way that everything goes which is collected.

A file is read twice: first all of it is checked, so that one with a bad row changes nothing, and then it is kept, by
ledger, candles and journal, in memory that does not grow with it: undoing what was committed would be a second way to
change a store, and checking costs less than keeping. Whatever ends it early leaves whole batches; the same command goes
on where it ended, for what is there already is known: trades by their ids, all else by its times. Trades of a channel
other than that of which the store has trades of an instrument are refused.
"""
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct, field, structs

from onetape.clock import DAY, HOUR
from onetape.errors import OneTapeError, UsageError
from onetape.model import Channel, Event, GapClosed, GapOpened, InstrumentId, Skipped, Trade
from onetape.pipeline import Policy
from onetape.service.contradictions import Ids, Stored
from onetape.service.keeper import Keeper
from onetape.service.seams import Seams, seams
from onetape.storage.formats.recognise import Opened
from onetape.storage.formats.rows import bad
from onetape.storage.lake import Lake
from onetape.storage.schema import TABLES
from onetape.storage.selection import of_one

BATCH = 2_000
LONGEST = 6 * HOUR
"""Of a batch, in the time of the file: ids of older hours may be forgotten, and are then looked for in the store."""
YEAR = 366 * DAY  # candles have no such ids, and the journal would begin a file for each batch of another hour
LOOK = 1_000  # events between two looks at whether to stop, and that are compared with the store at once
TapeId = tuple[str, str, Channel]
LEFT_OUT = "trades without a side were left out"


class Found(Struct):
    """What a file holds."""

    events: int = 0
    instruments: dict[tuple[str, str], None] = field(default_factory=dict)
    """Venues and symbols, in the order of the file."""
    tapes: dict[TapeId, None] = field(default_factory=dict)
    ends: dict[TapeId, tuple[Trade, Trade]] = field(default_factory=dict)
    """The first and the last trade of each tape whose ids prove nothing, by their times."""


class Imported(Struct, frozen=True):
    """What came of it."""

    events: int
    new: Counter[str]
    """Rows, by table."""
    instruments: list[InstrumentId]
    left_out: int = 0
    """Trades without a side."""
    contradicted: int = 0
    """Trades that are not what is stored under their ids, which stays."""
    contradiction: str = ""
    """The first of them."""


def check(file: Opened, tell: Callable[[int], None], stopped: Callable[[], bool]) -> Found:
    """Reads all of it, and keeps nothing. Raises UsageError: the first thing that is wrong."""
    found, ids = Found(), Ids()
    for line, it in _until(file, tell, stopped):
        found.events += 1
        found.instruments[it.venue, getattr(it, "symbol", "")] = None
        if not isinstance(it, Trade):
            continue
        tape = it.venue, it.symbol, it.channel
        found.tapes[tape] = None
        if ids.contradicts(it):
            raise bad(file.wanted, line, f"the id {it.id} has another trade before: other numbers, or another time")
        if it.after is None:
            first, last = found.ends.get(tape, (it, it))
            found.ends[tape] = (
                it if it.exchange_time < first.exchange_time else first,
                it if it.exchange_time >= last.exchange_time else last,
            )
    if not found.events and not stopped():
        raise UsageError(f"{file.wanted.path} holds no row")
    return found


def keep(
    store: Path, file: Opened, found: Found, tell: Callable[[int], None], stopped: Callable[[], bool],
    ending: Callable[[], None] = lambda: None,
) -> Imported:
    """Raises UsageError: somebody else writes into the store, it has trades of another channel, or the file is no
    longer what was checked.

    ``ending`` is called when only the candles are left that older trades have touched: they are built anew.
    """
    batch_ns = YEAR if file.layout == "klines" else LONGEST
    policy = Policy(deltas=True, past=True, batch_rows=BATCH, batch_ns=batch_ns)
    channel = file.wanted.channel or (Channel.AGG_TRADES if file.layout == "aggTrades" else Channel.TRADES)
    instruments = [InstrumentId(*it) for it in found.instruments]
    with ExitStack() as stack:
        lake = stack.enter_context(Lake(store)) if (store / "journal").is_dir() else None
        pairs, known = _known(lake, found)
        stored = None if lake is None else Stored(lake, instruments)
        keeper = stack.enter_context(Keeper(
            store, policy, pair_of=lambda it: pairs.get((it.venue, it.symbol), ""), tape_of=lambda _: channel,
            repeats=True, today=file.wanted.today,
        ))
        into = _Into(keeper, known)
        try:
            for events in _together(_until(file, tell, stopped)):
                if stored is not None:
                    stored.compare(events)
                for it in events:
                    into.handle(it)
        except OneTapeError:  # the file is no longer what it was: what came of it before stays
            keeper.finish(into.now)
            raise
        if not stopped():
            into.end()
        ending()
        keeper.finish(into.now)
        new = Counter({table: rows for table, rows in keeper.journal.counters.items() if table in TABLES})
    contradicted, example = (0, "") if stored is None else (stored.count, stored.example)
    return Imported(into.events, new, instruments, into.left_out, contradicted, example)


class _Into:
    """Hands the events of one file to a keeper, with what has to be told between them."""

    def __init__(self, keeper: Keeper, known: dict[TapeId, Seams]) -> None:
        self.events = self.left_out = self.now = 0
        self._keeper, self._seams, self._begun = keeper, known, set[TapeId]()
        self._last: dict[TapeId, Trade] = {}  # of tapes whose ids prove nothing
        self._hole: set[TapeId] = set()  # behind these something was left out

    def handle(self, it: Event) -> None:
        self.events, self.now = self.events + 1, max(self.now, it.available_at)
        if isinstance(it, Skipped):
            self.left_out += 1
            self._hole.add((it.venue, it.symbol, it.channel))
            return
        if isinstance(it, Trade) and it.after is None:
            self._tell(it)
        self._keeper.handle(it)

    def end(self) -> None:
        """All of the file has come."""
        for tape in self._begun & self._seams.keys():
            self._all([*self._seams[tape].behind, *self._seams[tape].over], self.now)

    def _tell(self, it: Trade) -> None:
        tape = it.venue, it.symbol, it.channel
        if tape not in self._begun:
            self._begun.add(tape)
            if (seam := self._seams.get(tape)) is not None:
                # It is to be there: a gap of a tape that is none yet is kept, but nobody could close it.
                self._keeper.pipeline.begin(InstrumentId(it.venue, it.symbol), it.channel, it.available_at)
                self._all(seam.before, it.available_at)
        last = self._last.get(tape)
        if tape in self._hole and last is not None:
            left, right = sorted((last, it), key=lambda one: one.exchange_time)
            self._all([GapOpened(
                venue=it.venue, symbol=it.symbol, exchange_time=it.exchange_time, received_time=it.received_time,
                available_at=it.available_at, channel=it.channel, after=left.id, before=right.id,
                from_time=left.exchange_time, to_time=right.exchange_time, cause=LEFT_OUT,
            )], it.available_at)
        self._hole.discard(tape)
        self._last[tape] = it

    def _all(self, told: "Iterable[GapOpened | GapClosed]", now: int) -> None:
        for it in told:
            self._keeper.handle(structs.replace(it, received_time=now, available_at=now))


def _together(found: Iterable[tuple[int, Event]]) -> Iterator[Sequence[Event]]:
    """Many at once; before an error all that came until then."""
    events: list[Event] = []
    try:
        for _, it in found:
            events.append(it)
            if len(events) == LOOK:
                yield events
                events = []
    except OneTapeError:
        yield events
        raise
    yield events


def _until(file: Opened, tell: Callable[[int], None], stopped: Callable[[], bool]) -> Iterator[tuple[int, Event]]:
    for number, (line, it) in enumerate(file.events(tell)):
        if number % LOOK == 0 and stopped():
            return
        yield line, it


def _known(lake: Lake | None, found: Found) -> tuple[dict[tuple[str, str], str], dict[TapeId, Seams]]:
    """The pairs of the store; and what may be missing around the file where ids prove nothing."""
    if lake is None:
        return {}, {}
    for tape in found.tapes:
        _check_channel(lake, tape)
    return dict(lake.pairs()), {tape: seams(lake, *ends) for tape, ends in found.ends.items()}


def _check_channel(lake: Lake, tape: TapeId) -> None:
    """Raises UsageError: candles of one instrument would be made of two tapes, whose trades are not the same ones."""
    stored = {channel for _, _, channel in lake.spans(of_one(InstrumentId(*tape[:2])))}
    if stored and tape[2] not in stored:
        kept = ", ".join(sorted(stored))
        raise UsageError(f"{tape[0]} {tape[1]} is kept as {kept} in this store: import its {tape[2]} into another one")
