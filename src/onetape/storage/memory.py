"""The newest events, in memory: a store for tests and light use."""
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping
from itertools import islice

from msgspec import Struct

from onetape.clock import HOUR
from onetape.model import Event
from onetape.model.events import kind_of

PER_RING = 1_000
TOTAL = 10_000
RETENTION_NS = HOUR

_Age = tuple[int, int]  # available_at, then the order of arrival: one age for all bounds and for reading
_Ring = tuple[str, str, str]


class Statistics(Struct, frozen=True):
    """``received`` is ``held`` and all that was evicted."""

    received: int
    held: int
    evicted: Mapping[str, int]
    """By reason: ``retention`` (too old), ``ring`` (its instrument and kind had newer ones), ``total``."""


class MemoryStore:
    """A ring for each kind of event of an instrument. Each bound, when full, lets the oldest go, and counts it."""

    def __init__(self, *, per_ring: int = PER_RING, total: int = TOTAL, retention_ns: int = RETENTION_NS) -> None:
        self._per_ring, self._total, self._retention_ns = per_ring, total, retention_ns
        self._events: dict[_Age, Event] = {}
        self._ages: list[_Age] = []  # ascending; taking from its front moves 80 kB at most
        self._rings: dict[_Ring, list[_Age]] = {}  # the same, apart; an empty one is forgotten
        self._received = 0
        self._evicted = Counter(retention=0, ring=0, total=0)
        self._newest = 0

    def add(self, event: Event) -> None:
        age = event.available_at, self._received
        ring = self._rings.setdefault(_ring_of(event), [])
        self._received += 1
        self._events[age] = event
        insort(self._ages, age)
        insort(ring, age)
        self.expire(event.available_at)
        if len(ring) > self._per_ring:
            self._evict(ring[0], "ring")
        if len(self._ages) > self._total:
            self._evict(self._ages[0], "total")

    def expire(self, now: int) -> None:
        """Lets go what is beyond the retention at ``now``; ``add`` does it too, by the newest time that it has seen."""
        self._newest = max(self._newest, now)
        while self._ages and self._ages[0][0] < self._newest - self._retention_ns:
            self._evict(self._ages[0], "retention")

    def read(
        self, kind: str | None = None, venue: str | None = None, symbol: str | None = None, *,
        start: int | None = None, end: int | None = None, limit: int | None = None, ascending: bool = False,
    ) -> list[Event]:
        """Events with ``start <= available_at < end``, newest first unless ``ascending``, the first ``limit`` of them.

        ``kind`` is the tag of an event (``trade``); ``symbol`` is empty for events that are not of one instrument.
        """
        ages = self._ages
        if kind is not None and venue is not None and symbol is not None:
            ages = self._rings.get((kind, venue, symbol), [])
        low = 0 if start is None else bisect_left(ages, (start,))
        high = len(ages) if end is None else bisect_left(ages, (end,))
        wanted = (kind, venue, symbol)
        chosen = (
            event for event in map(self._events.__getitem__, ages[low:high] if ascending else ages[low:high][::-1])
            if all(want is None or want == has for want, has in zip(wanted, _ring_of(event), strict=True))
        )
        return list(islice(chosen, limit))

    def statistics(self) -> Statistics:
        return Statistics(self._received, len(self._ages), dict(self._evicted))

    def __len__(self) -> int:
        """Number of events held."""
        return len(self._ages)

    def _evict(self, age: _Age, reason: str) -> None:
        key = _ring_of(self._events.pop(age))
        ring = self._rings[key]
        for ages in (self._ages, ring):
            del ages[bisect_left(ages, age)]
        if not ring:
            del self._rings[key]
        self._evicted[reason] += 1


def _ring_of(event: Event) -> _Ring:
    return kind_of(event), event.venue, getattr(event, "symbol", "")
