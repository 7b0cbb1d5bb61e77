"""Brings files of others into a store, by the way that everything goes which is collected.

A file is read twice: first all of it is checked, so that one with a bad row changes nothing, and then it is kept, by
ledger, candles and journal, in memory that does not grow with it: undoing what was committed would be a second way to
change a store, and checking costs less than keeping. Whatever ends it early leaves whole batches; the same command goes
on where it ended, for what is there already is known: trades by their ids, all else by its times.
"""
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct, field

from onetape.clock import DAY, HOUR
from onetape.errors import OneTapeError, UsageError
from onetape.model import Channel, Event, GapOpened, InstrumentId, Trade
from onetape.pipeline import Policy
from onetape.service.keeper import Keeper
from onetape.storage.formats.recognise import Opened
from onetape.storage.lake import Lake
from onetape.storage.schema import TABLES
from onetape.storage.selection import of_one

BATCH = 2_000
LONGEST = 6 * HOUR
"""Of a batch, in the time of the file: ids of older hours may be forgotten, and are then looked for in the store."""
YEAR = 366 * DAY  # candles have no such ids, and the journal would begin a file for each batch of another hour
LOOK = 1_000  # events between two looks at whether to stop
TapeId = tuple[str, str, Channel]
UNTOLD = "between a file and what was stored before; ids cannot tell what is missing"


class Found(Struct):
    """What a file holds."""

    events: int = 0
    instruments: dict[tuple[str, str], None] = field(default_factory=dict)
    """Venues and symbols, in the order of the file."""
    ends: dict[TapeId, tuple[Trade, Trade]] = field(default_factory=dict)
    """The first and the last trade of each tape whose ids prove nothing, by their times."""


class Imported(Struct, frozen=True):
    """What came of it."""

    events: int
    new: Counter[str]
    """Rows, by table."""
    instruments: list[InstrumentId]


def check(file: Opened, tell: Callable[[int], None], stopped: Callable[[], bool]) -> Found:
    """Reads all of it, and keeps nothing. Raises UsageError: the first thing that is wrong."""
    found = Found()
    for _, it in _until(file, tell, stopped):
        found.events += 1
        found.instruments[it.venue, getattr(it, "symbol", "")] = None
        if isinstance(it, Trade) and it.after is None:
            tape = it.venue, it.symbol, it.channel
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
    """Raises UsageError: somebody else writes into the store, or the file is no longer what was checked.

    ``ending`` is called when only the candles are left that older trades have touched: they are built anew.
    """
    batch_ns = YEAR if file.layout == "klines" else LONGEST
    policy = Policy(deltas=True, past=True, batch_rows=BATCH, batch_ns=batch_ns)
    pairs, edges = _known(store, found)
    channel = file.wanted.channel or (Channel.AGG_TRADES if file.layout == "aggTrades" else Channel.TRADES)
    events = now = 0
    with Keeper(
        store, policy, pair_of=lambda it: pairs.get((it.venue, it.symbol), ""), tape_of=lambda _: channel, repeats=True,
        today=file.wanted.today,
    ) as keeper:
        try:
            for _, it in _until(file, tell, stopped):
                if isinstance(it, Trade) and it.after is None:
                    for gap in edges.pop((it.venue, it.symbol, it.channel, it.id), ()):
                        keeper.handle(gap)
                keeper.handle(it)
                events, now = events + 1, max(now, it.available_at)
        except OneTapeError:  # the file is no longer what it was: what came of it before stays
            keeper.finish(now)
            raise
        ending()
        keeper.finish(now)
        new = Counter({table: rows for table, rows in keeper.journal.counters.items() if table in TABLES})
    return Imported(events, new, [InstrumentId(*it) for it in found.instruments])


def _until(file: Opened, tell: Callable[[int], None], stopped: Callable[[], bool]) -> Iterator[tuple[int, Event]]:
    for number, (line, it) in enumerate(file.events(tell)):
        if number % LOOK == 0 and stopped():
            return
        yield line, it


# --- where ids prove nothing ------------------------------------------------------------------------------------------

Edges = dict[tuple[str, str, Channel, str], list[GapOpened]]
"""By the trade before which they have to be told."""


def _known(store: Path, found: Found) -> tuple[dict[tuple[str, str], str], Edges]:
    """The pairs of the store; and what may be missing between the file and the trades around it that are stored."""
    if not (store / "journal").is_dir():
        return {}, {}
    edges: Edges = {}
    with Lake(store) as lake:
        for tape, (first, last) in found.ends.items():
            for end, gap in _edges(lake, tape, first, last):
                edges.setdefault((*tape, end.id), []).append(gap)
        return dict(lake.pairs()), edges


def _edges(lake: Lake, tape: TapeId, first: Trade, last: Trade) -> Iterator[tuple[Trade, GapOpened]]:
    """Ends that are stored already were told when they came."""
    id, channel = InstrumentId(*tape[:2]), tape[2]
    if not _stored(lake, id, first):
        for before in lake.trades(of_one(id, channel=channel, end=first.exchange_time, limit=1)):
            yield first, _gap(before, first, first.available_at)
    if not _stored(lake, id, last) and (behind := _next(lake, id, last)) is not None:
        yield last, _gap(last, behind, last.available_at)


def _stored(lake: Lake, id: InstrumentId, it: Trade) -> bool:
    at = it.exchange_time
    return any(one.id == it.id for one in lake.trades(of_one(id, channel=it.channel, start=at, end=at + 1)))


def _next(lake: Lake, id: InstrumentId, it: Trade) -> Trade | None:
    """The first trade that is stored behind it."""
    spans = lake.spans(of_one(id, channel=it.channel))
    until = spans.get((*id, it.channel), (0, 0))[1]
    start, step = it.exchange_time + 1, HOUR
    while start <= until:
        trades = lake.trades(of_one(id, channel=it.channel, start=start, end=start + step))
        if trades:
            return trades[0]
        start, step = start + step, 2 * step
    return None


def _gap(before: Trade, behind: Trade, now: int) -> GapOpened:
    return GapOpened(
        venue=before.venue, symbol=before.symbol, exchange_time=behind.exchange_time, received_time=now,
        available_at=now, channel=before.channel, after=before.id, before=behind.id, from_time=before.exchange_time,
        to_time=behind.exchange_time, cause=UNTOLD,
    )
