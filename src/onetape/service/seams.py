"""Says what may be missing between a file and what is stored around it, on a tape whose ids prove nothing.

While a file comes, all of it that lies in front of something stored counts as missing: whatever ends it early, nothing
is called complete that is not. When it has come to its end, what is left are the two seams.
"""
from collections.abc import Iterator

from msgspec import Struct, structs

from onetape.model import GapClosed, GapOpened, InstrumentId, Trade
from onetape.storage.lake import Lake, StoredGap
from onetape.storage.selection import of_one

UNTOLD = "between a file and what was stored before; ids cannot tell what is missing"
COMING = "the import of a file that reaches over this has not come to its end"
CAME = "a file has brought what lies here"


class Seams(Struct, frozen=True):
    """Of one tape; whoever tells them sets when."""

    before: list[GapOpened]
    """To be told before the first trade of the file."""
    behind: list[GapOpened]
    """Behind its last one."""
    over: list[GapClosed]
    """What there is no longer then."""


def seams(lake: Lake, first: Trade, last: Trade) -> Seams:
    """``first``, ``last``: of the file, by their times. Ends that are stored already were told when they came."""
    had_first, had_last = _stored(lake, first), _stored(lake, last)
    before: list[GapOpened] = []
    behind: list[GapOpened] = []
    if not had_first:
        id = InstrumentId(first.venue, first.symbol)
        earlier = lake.trades(of_one(id, channel=first.channel, end=first.exchange_time, limit=1))
        before += [_gap(it, first, UNTOLD) for it in earlier]
    later = None if had_last else _next(lake, last)
    if later is not None:
        behind.append(_gap(last, later, UNTOLD))
    over = list(_on_record(lake, first, last))
    for it in over:
        if it.from_time < first.exchange_time:
            behind.append(structs.replace(
                _gap(first, first, UNTOLD), after=it.after, from_time=it.from_time))
        if it.to_time > last.exchange_time:
            behind.append(structs.replace(
                _gap(last, last, UNTOLD), before=it.before, to_time=it.to_time, exchange_time=it.to_time))
    if first.id == last.id:
        before, behind = [*before, *behind], []
    elif not (had_first and had_last) and _next(lake, first) is not None:
        whole = _gap(first, later or last, COMING)
        before.append(whole)
        over.append(whole)
    left = {_key(it) for it in (*before, *behind) if it.cause == UNTOLD}
    closed = {_key(it): _closed(first, it) for it in over if _key(it) not in left}
    return Seams(before, behind, list(closed.values()))


def _on_record(lake: Lake, first: Trade, last: Trade) -> "Iterator[StoredGap | GapOpened]":
    """Gaps that other imports have told, and of which this file brings a part or all."""
    for it in lake.gaps(of_one(InstrumentId(first.venue, first.symbol), channel=first.channel)):
        touches = it.from_time < last.exchange_time and it.to_time > first.exchange_time
        if touches and it.state != "healed" and it.detected in (UNTOLD, COMING):
            yield it


def _stored(lake: Lake, it: Trade) -> bool:
    id, at = InstrumentId(it.venue, it.symbol), it.exchange_time
    return any(one.id == it.id for one in lake.trades(of_one(id, channel=it.channel, start=at, end=at + 1)))


def _next(lake: Lake, it: Trade) -> Trade | None:
    """The first trade that is stored behind it."""
    one = of_one(InstrumentId(it.venue, it.symbol), channel=it.channel)
    for first, _ in lake.spans(one, behind=it.exchange_time).values():
        return lake.trades(structs.replace(one, start=first, end=first + 1))[0]
    return None


def _key(it: "StoredGap | GapOpened") -> tuple[str, str]:
    return it.after, it.before


def _gap(before: Trade, behind: Trade, cause: str) -> GapOpened:
    return GapOpened(
        venue=before.venue, symbol=before.symbol, exchange_time=behind.exchange_time, received_time=0, available_at=0,
        channel=before.channel, after=before.id, before=behind.id, from_time=before.exchange_time,
        to_time=behind.exchange_time, cause=cause,
    )


def _closed(of: Trade, it: "StoredGap | GapOpened") -> GapClosed:
    return GapClosed(
        venue=of.venue, symbol=of.symbol, exchange_time=it.to_time, received_time=0, available_at=0,
        channel=of.channel, after=it.after, before=it.before, from_time=it.from_time, to_time=it.to_time, healed=True,
        cause=CAME, recovered=0,
    )
