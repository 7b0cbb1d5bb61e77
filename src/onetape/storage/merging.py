"""Merging: the files of a partition that has collected many become one."""
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from onetape.storage.catalog import Catalog, LakeFile
from onetape.storage.parquet import STAGING, copy, engine, put_in_place, scan
from onetape.storage.tables import LAKE

MERGED = "day+"
"""What the names of merged files begin with."""


def crowded(files: Sequence[LakeFile], merge_at: int) -> Iterator[list[LakeFile]]:
    """The files of each partition that has so many."""
    partitions = defaultdict(list)
    for it in files:
        partitions[it.table, it.date, it.venue, it.pair].append(it)
    return (group for group in partitions.values() if len(group) >= merge_at)


def merge(store: Path, group: Sequence[LakeFile], catalog: Catalog, now: int, memory: str) -> None:
    """One transaction of the catalog; the old files stay for a while, for those who are reading them."""
    table = group[0].table
    of = LAKE[table]
    times = [of.low] if of.low in of.columns else []
    order = ", ".join(f'"{it}"' for it in ("symbol", *times, "writer", "pos"))
    # No name is ever used twice: a generation has one publication, and "+" stands in no name of a writer's file.
    name = f"{MERGED}{catalog.generation() + 1:012d}"
    with engine(store, memory) as duck:
        staged = copy(duck, f"FROM {scan(store, group)} ORDER BY {order}", table, store / STAGING / "merged" / name)
    if (rows := sum(it.rows for it in staged)) != (before := sum(it.rows for it in group)):
        raise OSError(f"{group[0].path} and the files beside it have {rows} rows, where {before} were written")
    catalog.replace(group, put_in_place(store, staged, name, ""), now)
