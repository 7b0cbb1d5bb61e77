"""Compares stored candles with the venue's own, as REST gives them now or as they were stored."""
import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from msgspec import Struct, field

from onetape import venues
from onetape.candles.compare import Compared, Verdict, compare
from onetape.clock import interval_ns, isoformat
from onetape.config import Settings
from onetape.feed.governor import Governor
from onetape.feed.rest import Rest, client
from onetape.model import Candle, Channel, InstrumentId
from onetape.service.choice import Choice, choices
from onetape.service.klines import Lacking, klines
from onetape.storage.completeness import Completeness, completeness
from onetape.storage.lake import Lake, Selection
from onetape.storage.restore import feeding

STEP = 1_000  # candles that are read from the store at once
MAX_FOUND = 10_000  # differences that are listed of one instrument; further ones are counted


class Wanted(Struct, frozen=True):
    """Candles of ours, from the start of the first to the end of the last, ns, that a venue's own are held against."""

    id: InstrumentId
    interval: str
    start: int
    end: int
    channel: Channel
    """That they are made of."""


class Outcome(Struct):
    """Of one instrument."""

    venue: str
    symbol: str
    interval: str
    agree: int = 0
    differ: int = 0
    """Ours is complete, both are final, and still they are not equal."""
    undecided: int = 0
    """They are not equal, or one is not there, and it is known why."""
    found: list[Compared] = field(default_factory=list)
    """All but those that agree, MAX_FOUND at most, by time."""
    lacking: list[Lacking] = field(default_factory=list)
    """What was not had of the venue."""


def wanted(lake: Lake, selection: Selection, interval: str) -> Iterator[Wanted]:
    """What of ours is stored in the selection's time; nothing of an instrument that has no such candles."""
    length = interval_ns(interval)
    coverage = lake.coverage()
    for (venue, symbol, of), (first, last) in sorted(lake.candle_spans(selection).items()):
        id = InstrumentId(venue, symbol)
        channel = feeding(lake, coverage, id) if of == interval else None
        if channel is not None:
            start = first - length if selection.start is None else selection.start
            end = last if selection.end is None else min(selection.end, last)
            yield Wanted(id, interval, start, end, channel)


async def compare_candles(
    lake: Lake, it: Wanted, theirs: AsyncIterator[list[Candle]], outcome: Outcome,
    tell: Callable[[int], None] = lambda _: None,
) -> None:
    """``theirs``: pages that ascend; what it lacks stands in the outcome. ``tell`` hears how far it has come, ns."""
    facts = completeness(lake, _selection(it, it.start, it.end), tapes={(*it.id, it.channel)}, table="candles")
    cursor = it.start
    async for page in theirs:
        end = min(page[-1].end, it.end)
        _add(outcome, it, _ours(lake, it, cursor, end), [one for one in page if cursor <= one.start < end], facts)
        cursor = max(cursor, end)
        tell(cursor)
    for start in range(cursor, it.end, STEP * interval_ns(it.interval)):
        end = min(start + STEP * interval_ns(it.interval), it.end)
        _add(outcome, it, _ours(lake, it, start, end), (), facts)
        tell(end)


async def stored(lake: Lake, it: Wanted) -> AsyncIterator[list[Candle]]:
    """The venue's own as they were kept, from its stream or by backfill."""
    step = STEP * interval_ns(it.interval)
    for start in range(it.start, it.end, step):
        page = _ours(lake, it, start, min(start + step, it.end), source="venue")
        if page:
            yield page


def _add(
    outcome: Outcome, it: Wanted, ours: Sequence[Candle], theirs: Sequence[Candle], facts: Completeness,
) -> None:
    counts = it.channel is Channel.TRADES  # an aggregate is one of ours, and several of theirs
    found = compare(
        ours, theirs, counts=counts, missing=lambda start, end: _missing(facts, start, end),
        lacking=lambda start, end: _lacking(outcome.lacking, start, end),
    )
    for one in found:
        match one.verdict:
            case Verdict.AGREES:
                outcome.agree += 1
            case Verdict.DIFFERS:
                outcome.differ += 1
            case Verdict.UNDECIDED:
                outcome.undecided += 1
        if one.verdict is not Verdict.AGREES and len(outcome.found) < MAX_FOUND:
            outcome.found.append(one)


def _missing(facts: Completeness, start: int, end: int) -> str:
    """Why our tape is not complete in [start, end); empty: it is."""
    for gap in facts.gaps:
        if gap.from_time < end and start <= gap.to_time:
            return f"a gap of ours ({gap.state}) from {isoformat(gap.from_time)[11:19]}"
    if any(it.from_time < end and start < it.to_time for it in facts.pruned):
        return "pruned since"
    first, last = facts.known[0].from_time if facts.known else end, facts.known[-1].to_time if facts.known else start
    if start < first or end > last:
        return "not collected then"
    return ""


def _lacking(lacking: Sequence[Lacking], start: int, end: int) -> str:
    return next((it.reason for it in lacking if it.start < end and start < it.end), "")


def _ours(lake: Lake, it: Wanted, start: int, end: int, source: str = "trades") -> list[Candle]:
    """Those that lie wholly in [start, end)."""
    found = lake.candles(_selection(it, start + 1, end + 1), it.interval, source=source)
    return [one for one in found if one.start >= start]


def _selection(it: Wanted, start: int, end: int) -> Selection:
    return Selection(venue=it.id.venue, instruments=frozenset({it.id}), start=start, end=end)


# --- all that is wanted ---------------------------------------------------------------------------------------------

Tell = Callable[[Outcome, int, int], None]
"""How much is done of how much, ns of exchange time."""


async def compare_stored(lake: Lake, selection: Selection, interval: str, tell: Tell) -> list[Outcome]:
    """With the venue's own in the store; of instruments of which there is any."""
    own = lake.candle_spans(selection, "venue")
    outcomes = []
    for it in wanted(lake, selection, interval):
        if (*it.id, interval) in own:
            outcomes.append(outcome := Outcome(*it.id, interval))
            await compare_candles(lake, it, stored(lake, it), outcome, _teller(it, outcome, tell))
    return outcomes


async def compare_fetched(
    lake: Lake, selection: Selection, interval: str, settings: Settings, now: int, tell: Tell,
) -> list[Outcome]:
    """With what REST says now, venue after venue. Raises UsageError: a venue has no such candles."""
    outcomes: list[Outcome] = []
    found = list(wanted(lake, selection, interval))
    for venue in sorted({it.id.venue for it in found}):
        choice = choice_of(settings, venue)
        async with asking(choice) as rest:
            for it in (one for one in found if one.id.venue == venue):
                outcomes.append(outcome := Outcome(*it.id, interval))
                theirs = klines(
                    choice, rest, it.id.symbol, interval, it.start, min(it.end, now), lacking=outcome.lacking.append,
                )
                await compare_candles(lake, it, theirs, outcome, _teller(it, outcome, tell))
    return outcomes


def choice_of(settings: Settings, venue: str) -> Choice:
    """Where a venue's REST is by the settings, whatever they collect of it. Raises UsageError."""
    own = settings.venue(venue).model_copy(update={"enabled": True, "channels": ("trades",)})
    (choice,) = choices(settings.model_copy(update={"venues": {venue: own}}))
    return choice


@asynccontextmanager
async def asking(choice: Choice) -> AsyncIterator[Rest]:
    """A venue's REST, for as long as it is needed."""
    async with client(choice.proxy, choice.local_address) as http:
        governor = Governor(choice.spec.budget)
        rest = Rest(http, venues.create(choice.venue), choice.rest, governor, clock=time.time_ns)
        running = asyncio.create_task(rest.run())
        try:
            yield rest
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def _teller(it: Wanted, outcome: Outcome, tell: Tell) -> Callable[[int], None]:
    return lambda time: tell(outcome, time - it.start, it.end - it.start)
