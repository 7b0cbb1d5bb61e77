"""What a venue lists, and what has changed in it since it was last asked."""
from collections.abc import Iterable, Sequence

from msgspec import structs

from onetape.model import Change, Instrument, InstrumentChanged, InstrumentId, Kind
from onetape.venues.base import UNREADABLE, Venue

MAX_INSTRUMENTS = 100_000  # of one venue; more is no list of instruments


class Directory:
    """Of one venue: the one map between its symbols and pairs. Sans-I/O."""

    def __init__(self, venue: Venue, instruments: Iterable[Instrument] = ()) -> None:
        self._venue = venue
        self.instruments: dict[InstrumentId, Instrument] = {it.id: it for it in instruments}
        self.failures = 0
        """Lists that could not be read, or that lacked what nobody delists at once."""

    def receive(self, pages: Sequence[bytes], now: int) -> list[InstrumentChanged]:
        """A whole new list: what is different. A list that cannot be read changes nothing."""
        try:
            listed = {it.id: it for page in pages for it in self._venue.parse_instruments(page)[0]}
        except UNREADABLE:
            self.failures += 1
            return []
        known = self.instruments
        if not listed or len(listed) > MAX_INSTRUMENTS or len(listed) * 2 < len(known):  # half a market is not delisted
            self.failures += 1
            return []
        self.instruments = listed
        gone = [self._change(Change.DELISTED, structs.replace(it, tradable=False), now)
                for id, it in known.items() if id not in listed]
        changed = [self._change(_kind(known.get(id), it), it, now)
                   for id, it in listed.items() if it != known.get(id) and it.kind is not Kind.OTHER]
        return [*gone, *changed]

    def _change(self, change: Change, it: Instrument, now: int) -> InstrumentChanged:
        return InstrumentChanged(
            venue=self._venue.spec.name, received_time=now, available_at=now, change=change, instrument=it,
        )


def _kind(before: Instrument | None, now: Instrument) -> Change:
    if before is None:
        return Change.LISTED
    return Change.RENAMED if before.pair != now.pair else Change.UPDATED
