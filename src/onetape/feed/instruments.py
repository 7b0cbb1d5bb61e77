"""What a venue lists, and what has changed in it since it was last asked."""
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import structs

from onetape.model import Change, Instrument, InstrumentChanged, InstrumentId, Kind
from onetape.venues.base import UNREADABLE, Venue

MAX_INSTRUMENTS = 100_000  # of one venue; more is no list of instruments


class Directory:
    """Of one venue: the one map between its symbols and pairs, of what can be subscribed to. Sans-I/O."""

    def __init__(self, venue: Venue, instruments: Iterable[Instrument] = ()) -> None:
        self._venue = venue
        self.instruments: dict[InstrumentId, Instrument] = {it.id: it for it in instruments}
        self.missing: frozenset[InstrumentId] = frozenset()
        """What the last list lacked, and has until the next one to be there again."""
        self.failures = 0
        """Lists that could not be read, or that lacked what nobody delists at once."""

    def believes(self, listed: Iterable[Instrument]) -> bool:
        """Not of an empty list, nor of an endless one, nor of one that lacks half of what there was of any kind."""
        found, known = (Counter(it.kind for it in of) for of in (listed, self.instruments.values()))
        return 0 < found.total() <= MAX_INSTRUMENTS and all(found[kind] * 2 >= count for kind, count in known.items())

    def after(self, listed: Iterable[Instrument]) -> dict[InstrumentId, Instrument]:
        """What there is when this list has come. What it lacks for the first time is kept once more: a row that could
        not be read is no delisting. Not so what it has under another symbol."""
        now = {it.id: it for it in listed if it.kind is not Kind.OTHER}
        pairs = {it.pair for it in now.values()}
        kept = {
            id: it for id, it in self.instruments.items()
            if id not in now and id not in self.missing and it.pair not in pairs
        }
        return now | kept

    def receive(self, pages: Sequence[bytes], now: int) -> list[InstrumentChanged] | None:
        """A whole new list: what is different. None: it cannot be read, or not be believed, and changes nothing."""
        try:
            rows = [it for page in pages for it in self._venue.parse_instruments(page)[0] if it.kind is not Kind.OTHER]
        except UNREADABLE:
            rows = []
        if not self.believes(rows):
            self.failures += 1
            return None
        known, self.instruments = self.instruments, self.after(rows)
        listed = self.instruments
        self.missing = frozenset(listed.keys() - {it.id for it in rows})
        gone = {it.pair: it for id, it in known.items() if id not in listed}
        changes = []
        for id, it in listed.items():
            if it == known.get(id):
                continue
            before = gone.pop(it.pair, None) if id not in known else None  # the same, by another symbol
            symbol_before = "" if before is None else before.id.symbol
            changes.append(self._change(_kind(before or known.get(id), it), it, now, symbol_before))
        unlisted = [self._change(Change.DELISTED, structs.replace(it, tradable=False), now) for it in gone.values()]
        return [*unlisted, *changes]

    def _change(self, change: Change, it: Instrument, now: int, symbol_before: str = "") -> InstrumentChanged:
        return InstrumentChanged(
            venue=self._venue.spec.name, received_time=now, available_at=now, change=change, instrument=it,
            symbol_before=symbol_before,
        )


def _kind(before: Instrument | None, now: Instrument) -> Change:
    if before is None:
        return Change.LISTED
    return Change.RENAMED if (before.pair, before.id) != (now.pair, now.id) else Change.UPDATED
