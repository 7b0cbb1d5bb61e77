"""Parquet files of the lake: written aside, forced to the disk, and only then put where they are looked for."""
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import duckdb
from msgspec import Struct

from onetape.storage.catalog import LakeFile
from onetape.storage.tables import ADDED, LAKE, SCHEMA

FOLDER = "lake"
STAGING = f"{FOLDER}/.staging"
ROW_GROUP = 122_880
LEAST_GROUP = 2_048
"""Rows: DuckDB has no smaller vector, and no smaller row group."""
FLUSH = 524_288
OPEN = 100
"""Rows that it distributes at once, and files that it has open for them, unless it is told otherwise."""
HELD = 64_000_000
"""Bytes of wide rows in unfinished row groups: as it packs and sorts them, DuckDB has them several times."""
KEYS = "date, venue, pair"


class Staged(Struct, frozen=True):
    """A finished file that nobody looks for yet; ``folder`` is that of its partition within the table."""

    path: Path
    folder: Path
    table: str
    keys: dict[str, str]
    rows: int
    bytes: int
    low: int
    high: int


@contextmanager
def engine(store: Path, memory: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that takes no more memory than it is given, and spills into the store.

    Of one thread: several would shuffle the rows of a partition (duckdb/duckdb#14349), and none of its row groups could
    be passed over by the time that is asked for. It takes a third longer, and leaves the other cores to who collects.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory, "temp_directory": str((store / STAGING / "spill").absolute()),
        "autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": 1,
    }
    with closing(duckdb.connect(config=config)) as duck:
        yield duck


def copy(
    duck: duckdb.DuckDBPyConnection, select: str, table: str, folder: Path, *, width: int = 1, partitions: int = 1,
) -> list[Staged]:
    """Writes the rows of a SELECT into a new folder, a file or more for each partition.

    ``width``: bytes of a row, where it may be of any length. Of wide rows fewer make a row group: each open file holds
    its last one in memory, which DuckDB cannot put on the disk.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    held = HELD // width
    opened = max(min(OPEN, held // LEAST_GROUP), 1)
    duck.execute(f"SET partitioned_write_max_open_files = {opened}")
    duck.execute(f"SET partitioned_write_flush_threshold = {max(min(FLUSH, held // 4), 1)}")
    group = max(min(ROW_GROUP, held // min(opened, partitions)), LEAST_GROUP)
    rows = duck.execute(
        f"COPY ({select}) TO {literal(folder)} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({KEYS}),"
        f" ROW_GROUP_SIZE {group}, RETURN_STATS)"
    ).fetchall()
    out = []
    for name, count, size, _, statistics, keys, *_ in rows:
        low, high = (int(statistics[f'"{column}"'][end]) for column, end in _ends(table))
        path = Path(name)
        out.append(Staged(path, path.parent.relative_to(folder), table, keys, count, size, low, high))
    return out


def _ends(table: str) -> tuple[tuple[str, str], tuple[str, str]]:
    of = LAKE[table]
    return (of.low, "min"), (of.high, "max")


def put_in_place(
    store: Path, staged: Sequence[Staged], name: str, writer: str, schema: int = SCHEMA,
) -> list[LakeFile]:
    """Moves files to where they belong, under names that begin with ``name``, and forces all of it to the disk."""
    out: list[LakeFile] = []
    folders: set[Path] = set()
    number = Counter[Path]()
    for it in staged:
        folder = Path(FOLDER, it.table, it.folder)
        number[folder] += 1
        again = f"-{number[folder]}" if number[folder] > 1 else ""
        path = folder / f"{name}{again}.parquet"
        (store / folder).mkdir(parents=True, exist_ok=True)
        sync(it.path)
        checksum = sum_of(it.path)
        it.path.rename(store / path)
        folders.update((folder, *folder.parents))
        out.append(LakeFile(
            str(path), it.table, it.keys["date"], it.keys["venue"], it.keys["pair"], writer, it.rows, it.bytes, it.low,
            it.high, checksum, schema,
        ))
    for folder in sorted(folders, reverse=True):  # the deepest first
        sync(store / folder)
    return out


def sync(path: Path) -> None:
    """Forces a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sum_of(path: Path) -> str:
    """What ``sha256sum`` says of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lake_paths(store: Path) -> set[str]:
    """All Parquet files in the folders of the lake, as the catalog names them."""
    staging = store / STAGING
    return {
        str(path.relative_to(store)) for path in (store / FOLDER).rglob("*.parquet")
        if not path.is_relative_to(staging)
    }


def scan(store: Path, files: Sequence[LakeFile]) -> str:
    """``read_parquet`` of these files of one table, the keys of their folders as columns.

    Where some have other columns than the table has now, what a file lacks is NULL. That costs a look into each of
    them before the first row: those that are all of today's columns are not asked for it.
    """
    listed = _listed(store, files)
    types = "{'date': 'DATE', 'venue': 'VARCHAR', 'pair': 'VARCHAR'}"  # else a pair named 1 would come back as a number
    options = f"hive_partitioning = true, hive_types = {types}"
    if all(it.schema == SCHEMA for it in files):
        return f"read_parquet([{listed}], {options})"
    rows = f"FROM read_parquet([{listed}], union_by_name = true, {options})"
    added = ", ".join(f'NULL::{type_} AS "{name}"' for name, type_ in ADDED.get(files[0].table, {}).items())
    return f"({rows} UNION ALL BY NAME SELECT {added} WHERE false)" if added else f"({rows})"


def width_of(duck: duckdb.DuckDBPyConnection, store: Path, files: Sequence[LakeFile]) -> int:
    """Bytes of a row, on average, in that of the files where they are widest; only what the files say of themselves."""
    rows = "sum(num_values) FILTER (path_in_schema = 'pos')"
    of = f"parquet_metadata([{_listed(store, files)}]) GROUP BY file_name"
    sql = f"SELECT max(width) FROM (SELECT sum(total_uncompressed_size) // {rows} AS width FROM {of})"  # noqa: S608
    (width,) = duck.execute(sql).fetchone() or (1,)
    return max(int(width), 1)


def _listed(store: Path, files: Sequence[LakeFile]) -> str:
    return ", ".join(literal(_no_glob((store / it.path).absolute())) for it in files)


def _no_glob(path: Path) -> str:
    return "".join(f"[{it}]" if it in "*?[" else it for it in str(path))


def literal(text: object) -> str:
    """As a string of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def file_name(writer: str, first_batch: int) -> str:
    """Of the files that a file of the journal becomes."""
    return f"{quote(writer, safe='')}-{first_batch:012d}"
