"""What damaged files of the journal leave on the tapes whose ids prove nothing: gaps, as far as none is on record."""
from collections.abc import Iterator, Sequence

from onetape.clock import DAY, HOUR, MINUTE
from onetape.model import TAPES, Channel, GapOpened, InstrumentId, Trade
from onetape.storage.damage import Damage
from onetape.storage.lake import Lake
from onetape.storage.selection import of_one

Tape = tuple[str, str, Channel]
BrokenOff = dict[Tape, tuple[str, str]]
"""Tapes that nothing is stored of behind the damage: the id of the last trade, and why something may be missing."""


def untold(lake: Lake, found: Sequence[Damage]) -> tuple[list[GapOpened], BrokenOff]:
    """Where ids are consecutive the ledger finds what is missing by itself: of such tapes nothing is said here."""
    gaps: list[GapOpened] = []
    broken_off: BrokenOff = {}
    told: dict[Tape, list[tuple[int, int]]] = {}
    for gap in lake.gaps() if found else ():
        told.setdefault((gap.venue, gap.symbol, gap.channel), []).append((gap.from_time, gap.to_time))
    for id, channel in _unproven(lake) if found else ():
        for it in found:
            last = None if it.from_time is None else _last(lake, id, channel, it.from_time)
            if last is None:  # the tape begins behind it
                continue
            cause = f"a damaged file of the journal: {it.writer}/{it.path.name}: {it.reason}"
            first = _first(lake, id, channel, last, it)
            if first is None:
                broken_off[(*id, channel)] = last.id, cause
                continue
            spans = told.setdefault((*id, channel), [])
            if not any(start <= last.exchange_time and end >= first.exchange_time for start, end in spans):
                spans.append((last.exchange_time, first.exchange_time))
                gaps.append(_gap(last, first, cause, it.found_at))
    return gaps, broken_off


def _unproven(lake: Lake) -> Iterator[tuple[InstrumentId, Channel]]:
    for it in lake.instruments():
        id = InstrumentId(it.venue, it.symbol)
        for channel in TAPES:
            last = lake.trades(of_one(id, channel=channel, limit=1))
            if last and last[0].after is None:
                yield id, channel


def _last(lake: Lake, id: InstrumentId, channel: Channel, until: int) -> Trade | None:
    """By our clock: the venue's may run ahead of it."""
    return next(iter(lake.trades(of_one(id, channel=channel, limit=1), as_of=until)), None)


def _first(lake: Lake, id: InstrumentId, channel: Channel, last: Trade, damage: Damage) -> Trade | None:
    """Of what came later than the damage began; sought in ever longer spans, for much may be stored of a tape."""
    assert damage.from_time is not None
    for length in (MINUTE, HOUR, DAY, None):
        end = None if length is None else (damage.to_time or damage.found_at) + length
        for it in lake.trades(of_one(id, channel=channel, start=last.exchange_time, end=end)):
            if it.available_at > damage.from_time:
                return it
    return None


def _gap(last: Trade, first: Trade, cause: str, now: int) -> GapOpened:
    return GapOpened(
        venue=last.venue, symbol=last.symbol, exchange_time=first.exchange_time, received_time=now, available_at=now,
        channel=last.channel, after=last.id, before=first.id, from_time=last.exchange_time,
        to_time=first.exchange_time, cause=cause,
    )
