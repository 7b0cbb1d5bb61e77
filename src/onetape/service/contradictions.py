"""Finds trades of a file whose id another trade has: within the file, or in the store."""
from collections.abc import Sequence

from onetape.clock import MILLISECOND
from onetape.model import Channel, Event, InstrumentId, Trade
from onetape.storage.lake import Lake, Selection

REMEMBERED = 50_000
"""Ids of a file, at least: those of one tape are consecutive, or near."""
Key = tuple[str, str, Channel, str]


class Ids:
    """Those of a file that came last, in two generations: what is older is forgotten."""

    def __init__(self) -> None:
        self._new: dict[Key, int] = {}
        self._old: dict[Key, int] = {}

    def contradicts(self, it: Trade) -> bool:
        """Another trade of the same id came lately."""
        key, content = _key(it), hash((it.exchange_time, it.price, it.size, it.side))
        known = self._new.get(key)
        if known is None:
            known = self._old.get(key)
        if len(self._new) >= REMEMBERED:
            self._old, self._new = self._new, {}
        self._new[key] = content
        return known is not None and known != content


class Stored:
    """Looks for what a store has of the trades of a file; what it has lacked from the beginning costs nothing."""

    def __init__(self, lake: Lake, ids: Sequence[InstrumentId]) -> None:
        self._lake = lake
        self._spans = lake.spans(Selection(instruments=frozenset(ids)))
        self.count = 0
        self.example = ""

    def compare(self, events: Sequence[Event]) -> None:
        """Prices, sizes and sides; not times, which some files round. Of a denser store its newest rows there."""
        trades = {_key(it): it for it in events if isinstance(it, Trade) and self._may_have(it)}
        if not trades:
            return
        times = [it.exchange_time for it in trades.values()]
        ids = frozenset(InstrumentId(it.venue, it.symbol) for it in trades.values())
        for it in self._lake.trades(Selection(
            instruments=ids, start=min(times) - MILLISECOND, end=max(times) + MILLISECOND, limit=4 * len(events),
        )):
            other = trades.get(_key(it))
            if other is not None and _content(other) != _content(it):
                self.count += 1
                self.example = self.example or (
                    f"{it.venue} {it.symbol} {it.id} is {_said(it)} in the store, and {_said(other)} in the file")

    def _may_have(self, it: Trade) -> bool:
        first, last = self._spans.get((it.venue, it.symbol, it.channel), (0, -1))
        return first - MILLISECOND <= it.exchange_time <= last + MILLISECOND


def _key(it: Trade) -> Key:
    return it.venue, it.symbol, it.channel, it.id


def _content(it: Trade) -> tuple[object, ...]:
    return it.price, it.size, it.side


def _said(it: Trade) -> str:
    return f"{it.side} {it.size} at {it.price}"
