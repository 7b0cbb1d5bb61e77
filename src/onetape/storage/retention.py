"""Retention: whole days of a table leave the lake for their age or for space, the oldest first, and it stays known."""
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

from msgspec import Struct

from onetape.clock import DAY
from onetape.storage.catalog import LakeFile, open_catalog, read_catalog
from onetape.storage.compaction import KEEP_REPLACED_NS, alone, retire_replaced, said_plainly, sweep
from onetape.storage.moment import check
from onetape.storage.tables import LAKE

KEPT = ("gaps", "coverage")
"""Small, and what says of all the others whether something is missing: never pruned."""
TABLES = tuple(it for it in LAKE if it not in KEPT)
LEAST_NS = DAY
"""The last whole day that is there of a venue and pair stays, whatever the limits say: a restart goes on from it."""
_EPOCH = date(1970, 1, 1)


class Limit(Struct, frozen=True):
    """Of one table; None: none."""

    age_ns: int | None = None
    bytes: int | None = None


class Removal(Struct, frozen=True):
    """What goes of one table."""

    table: str
    files: Sequence[LakeFile]
    over: int = 0
    """Bytes by which it is larger than its limit even then: its last days are, which stay."""

    @property
    def rows(self) -> int:
        return sum(it.rows for it in self.files)

    @property
    def bytes(self) -> int:
        return sum(it.bytes for it in self.files)

    @property
    def dates(self) -> tuple[str, str]:
        """The first and the last day that goes, or parts of it."""
        days = [it.date for it in self.files]
        return min(days, default=""), max(days, default="")


class Pruning(Struct, frozen=True):
    removals: Sequence[Removal]
    """Of tables that lose something, or should."""
    removed: int = 0
    """Files that had ceased to count before, and for which the time to read them is over."""


def planned(store: Path, now: int, limits: Mapping[str, Limit]) -> Pruning:
    """What ``prune`` would do now. Raises UsageError: there is no store, or its catalog is newer."""
    check(store)
    with read_catalog(store) as catalog:
        return Pruning(list(removals(catalog.files() if catalog else (), now, limits)))


def prune(
    store: Path, now: int, limits: Mapping[str, Limit], *, keep_replaced_ns: int = KEEP_REPLACED_NS,
) -> Pruning:
    """One transaction of the catalog; the files stay for a while, for those who are reading them.

    Rows that only the journal has are none of the lake's, and stay; so do files of the journal that a reader needs.
    Raises UsageError: there is no store, it cannot be written, or a compaction is running.
    """
    check(store)
    with said_plainly(store), alone(store), open_catalog(store) as catalog:
        sweep(store, catalog)
        going = list(removals(catalog.files(), now, limits))
        if files := [file for it in going for file in it.files]:
            catalog.prune(files, now)
        return Pruning(going, retire_replaced(store, catalog, now - keep_replaced_ns))


def removals(files: Sequence[LakeFile], now: int, limits: Mapping[str, Limit]) -> Iterator[Removal]:
    """By table; a partition goes with all its files or not at all."""
    for table, limit in limits.items():
        assert table in TABLES
        partitions = defaultdict(list)
        for it in files:
            if it.table == table:
                partitions[it.date, it.venue, it.pair].append(it)
        last = _last_days(partitions)
        going: list[LakeFile] = []
        left = sum(it.bytes for of in partitions.values() for it in of)
        for (day, *pair), of in sorted(partitions.items()):
            end = end_of_day(day)
            old = limit.age_ns is not None and end <= now - limit.age_ns
            large = limit.bytes is not None and left > limit.bytes
            if end <= min(now, last[*pair]) - LEAST_NS and (old or large):
                going += of
                left -= sum(it.bytes for it in of)
        over = max(left - limit.bytes, 0) if limit.bytes is not None else 0
        if going or over:
            yield Removal(table, going, over)


def _last_days(partitions: Iterable[tuple[str, str, str]]) -> dict[tuple[str, ...], int]:
    """By venue and pair the end of the last day that is there, ns."""
    last: dict[tuple[str, ...], int] = {}
    for day, *pair in partitions:
        last[*pair] = max(last.get((*pair,), 0), end_of_day(day))
    return last


def end_of_day(day: str) -> int:
    """Of a date as folders of the lake have it, ns."""
    return ((date.fromisoformat(day) - _EPOCH).days + 1) * DAY
