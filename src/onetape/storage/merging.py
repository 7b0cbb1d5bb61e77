"""Merging: the files of a partition that has collected many become one, in which each trade stands once."""
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from onetape.storage.catalog import Catalog, LakeFile
from onetape.storage.parquet import HELD, LEAST_GROUP, STAGING, copy, engine, put_in_place, scan, width_of
from onetape.storage.stream import BODIES
from onetape.storage.tables import LAKE, SCHEMA

MERGED = "day+"
"""What the names of merged files begin with."""
SAME = "symbol, channel, id"
"""Of a partition of trades: what makes two rows one trade."""
WIDEST = HELD // LEAST_GROUP // 16
"""Bytes of a row: of wider ones DuckDB cannot sort any number in the memory it is given."""


def crowded(files: Sequence[LakeFile], merge_at: int) -> Iterator[list[LakeFile]]:
    """The files of each partition that has so many, or trades of several writers: they may have brought the same."""
    partitions = defaultdict(list)
    for it in files:
        partitions[it.table, it.date, it.venue, it.pair].append(it)
    return (group for group in partitions.values() if len(group) >= merge_at or _may_repeat(group))


def _may_repeat(group: Sequence[LakeFile]) -> bool:
    """Files of trades of several writers; an empty name stands for several that are not known any more."""
    writers = {it.writer for it in group} if group[0].table == "trades" else set()
    return len(group) > 1 and (len(writers) > 1 or "" in writers)


def merge(store: Path, group: Sequence[LakeFile], catalog: Catalog, now: int, memory: str) -> bool:
    """One transaction of the catalog; the old files stay for a while, for those who are reading them.

    Of a trade that two writers brought, the one stays that was available first. Returns whether they were merged: rows
    wider than the memory allows to sort are left in the files they came in, which are large as they are.
    """
    table, found, writers = group[0].table, scan(store, group), {it.writer for it in group}
    of = LAKE[table]
    times = [of.low] if of.low in of.columns else []
    order = ", ".join(f'"{it}"' for it in ("symbol", *times, "writer", "pos"))
    # No name is ever used twice: a generation has one publication, and "+" stands in no name of a writer's file.
    name = f"{MERGED}{catalog.generation() + 1:012d}"
    before, select = sum(it.rows for it in group), f"FROM {found}"
    with engine(store, memory) as duck:
        width = width_of(duck, store, group) if table in BODIES else 1
        if width > WIDEST and width * before > HELD:
            return False
        if _may_repeat(group):
            (before,) = duck.execute(f"SELECT count(DISTINCT ({SAME})) FROM {found}").fetchone() or (0,)  # noqa: S608
            select += f" QUALIFY row_number() OVER (PARTITION BY {SAME} ORDER BY available_at, writer, pos) = 1"
        staged = copy(duck, f"{select} ORDER BY {order}", table, store / STAGING / "merged" / name, width=width)
    if (rows := sum(it.rows for it in staged)) != before:
        raise OSError(f"{group[0].path} and the files beside it have {rows} rows, where {before} were written")
    writer, schema = writers.pop() if len(writers) == 1 else "", max(SCHEMA, *(it.schema for it in group))
    catalog.replace(group, put_in_place(store, staged, name, writer, schema), now)
    return True
