"""How a store is doing, and whether it is sound: every check compares two things that were written apart."""
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from onetape.errors import UsageError
from onetape.storage.catalog import Compacted, LakeFile, read_catalog
from onetape.storage.compaction import alone, only_copies, orphans
from onetape.storage.damage import Damage, damages
from onetape.storage.journal import POSITIONS, writers
from onetape.storage.moment import Moment, coverage_of, count_of, line, look, opened
from onetape.storage.parquet import STAGING, scan, sum_of
from onetape.storage.sealed import JournalFile, is_sealed, journal_files, last_batch
from onetape.storage.tables import LAKE

MOST = 5
"""Examples of one kind of problem."""


def status(moment: Moment) -> dict[str, Any]:
    """Rows, bytes, files, writers, and what waits for compaction; times in ns."""
    in_lake, in_journal = Counter[str](), {table: count_of(moment, table) for table in LAKE}
    for it in moment.lake:
        in_lake[it.table] += it.rows
    files = journal_files(moment.store)
    return {
        "tables": {
            table: {"lake": in_lake[table], "journal": in_journal[table] - in_lake[table]} for table in LAKE
        },
        "lake": {
            "files": len(moment.lake), "bytes": sum(it.bytes for it in moment.lake),
            "unchecked": sum(not it.sum for it in moment.lake),
        },
        "pruned": _pruned(moment),
        "journal": {"files": len(files), "bytes": sum(_bytes(it.path) for it in files)},
        "writers": _writers(moment),
        "readers": _readers(moment),
        "damaged": [str(it) for it in _damages(moment.store)],
        "waiting": sum(map(is_sealed, moment.journal)),
    }


def _pruned(moment: Moment) -> dict[str, dict[str, int]]:
    """What is gone of each table by policy, and the times of it."""
    out: dict[str, dict[str, int]] = {}
    for it in moment.pruned:
        known = out.setdefault(it.table, {"rows": 0, "bytes": 0, "from_time": it.low, "to_time": it.high})
        known["rows"], known["bytes"] = known["rows"] + it.rows, known["bytes"] + it.bytes
        known["from_time"], known["to_time"] = min(known["from_time"], it.low), max(known["to_time"], it.high)
    return out


def _bytes(path: Path) -> int:
    return sum(
        it.stat().st_size for suffix in ("", "-wal") if (it := path.with_name(path.name + suffix)).exists())


def _writers(moment: Moment) -> dict[str, dict[str, int]]:
    """The last batch of each, and the time of its commit."""
    last: dict[str, tuple[int, int]] = {}
    for done in moment.compacted:
        last[done.writer] = max(last.get(done.writer, (0, 0)), (done.last_batch, done.committed_at))
    for it in moment.journal:
        last[it.writer] = max(last.get(it.writer, (0, 0)), last_batch(it.path) or (0, 0))
    return {writer: {"last_batch": batch, "committed_at": time} for writer, (batch, time) in sorted(last.items())}


def _readers(moment: Moment) -> dict[str, dict[str, int]]:
    """The last batch of each writer that each reader of the journal has all of."""
    lake: dict[str, int] = {}
    for done in moment.compacted:
        lake[done.writer] = max(lake.get(done.writer, 0), done.last_batch)
    with read_catalog(moment.store) as catalog:
        others = catalog.readers() if catalog else {}
    batches = {name: {writer: (at + 1 >> POSITIONS) - 1 for writer, at in of.items()} for name, of in others.items()}
    return {"lake": lake} | batches


def _damages(store: Path) -> list[Damage]:
    return [it for folder in writers(store) for it in damages(folder)]


# --- soundness -------------------------------------------------------------------------------------------------------


def verify(store: Path, connect: Callable[[], duckdb.DuckDBPyConnection]) -> list[str]:
    """Everything that is wrong, a line each. Raises UsageError: there is no store, or its schema is newer."""
    problems = [*_of_catalog(store)]
    if problems:  # what it says cannot be compared with anything
        return problems
    moment = look(store)
    problems += map(str, _damages(store))
    damaged = [text for it in journal_files(store) for text in _of_journal_file(it)]
    with closing(duckdb.connect()) as duck:
        unreadable = [text for it in moment.lake for text in _of_lake_file(duck, store, it)]
    problems += [*damaged, *_of_writers(store, moment.compacted), *unreadable, *_of_folders(store), *_of_counts(store)]
    if not damaged and not unreadable:  # else these would only say it again
        try:
            with closing(connect()) as duck:
                problems += [*_doubles(duck), *_uncovered(duck, look(store))]  # of now: a writer may go on
        except UsageError as error:
            problems.append(line(error))
    return problems


def _of_catalog(store: Path) -> Iterator[str]:
    try:
        with read_catalog(store) as catalog:
            for text in catalog.problems() if catalog else ():
                yield f"catalog.db: {text}"
    except (sqlite3.DatabaseError, UsageError) as error:
        yield f"catalog.db: {line(error)}"


def _of_journal_file(it: JournalFile) -> Iterator[str]:
    name = f"journal/{it.writer}/{it.path.name}"
    try:
        with opened(it) as file:
            found = [text for (text,) in file.execute("PRAGMA integrity_check")]
            yield from (f"{name}: {text}" for text in found if text != "ok")
            yield from (f"{name}: {text}" for text in _of_batches(file, it.first_batch))
    except FileNotFoundError:
        return
    except (sqlite3.DatabaseError, msgspec.DecodeError, UsageError) as error:
        yield f"{name}: {line(error)}"


def _of_batches(file: sqlite3.Connection, first: int) -> Iterator[str]:
    """They follow one another, and hold the rows that they tell of."""
    told: dict[int, dict[str, int]] = {}
    for expected, (batch, counts) in enumerate(file.execute("SELECT batch, counts FROM batches ORDER BY batch"), first):
        if batch != expected:
            yield f"batch {batch} stands where {expected} should"
            return
        told[batch] = msgspec.json.decode(counts, type=dict[str, int])
    held: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for table in LAKE:
        for batch, rows in file.execute(f"SELECT pos >> {POSITIONS}, count(*) FROM {table} GROUP BY 1"):  # noqa: S608
            held[batch][table] = rows
    for batch in sorted(told.keys() | held.keys()):
        if (tells := told.get(batch, {})) != (holds := held.get(batch, {})):
            yield f"batch {batch} tells of {tells} rows and holds {holds}"


def _of_writers(store: Path, compacted: Sequence[Compacted]) -> Iterator[str]:
    """Each file of a writer begins with the batch after the last of the one before, wherever the two are now."""
    spans: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for it in journal_files(store):
        try:
            last = last_batch(it.path)
        except (sqlite3.DatabaseError, UsageError):  # told already
            return
        spans[it.writer][it.first_batch] = last[0] if last else it.first_batch - 1
    for done in compacted:
        known = spans[done.writer].setdefault(done.first_batch, done.last_batch)
        if known != done.last_batch:
            span = f"{done.first_batch} to {done.last_batch}"
            yield f"{done.writer}: the lake has the batches {span}, the journal those to {known}"
    aside = {(it.writer, it.first_batch) for it in _damages(store)}  # told already
    for writer, of in sorted(spans.items()):
        expected = None
        for first, last_of in sorted(of.items()):
            if expected not in (None, first) and (writer, expected) not in aside:
                yield f"{writer}: after batch {(expected or 0) - 1} comes {first}"
            expected = last_of + 1


def _of_lake_file(duck: duckdb.DuckDBPyConnection, store: Path, it: LakeFile) -> Iterator[str]:
    """There, as it was published, readable to its last column, with as many rows as the catalog says."""
    if not (store / it.path).exists():
        yield f"{it.path}: the catalog has it, the disk does not"
        return
    if it.sum and sum_of(store / it.path) != it.sum:
        yield f"{it.path}: is not as it was written: its checksum differs"
    try:
        sql = f"SELECT count(*), bit_xor(hash(it)) FROM {scan(store, [it])} AS it"  # noqa: S608
        (rows, _) = duck.execute(sql).fetchone() or (0, 0)
    except duckdb.Error as error:
        yield f"{it.path}: {line(error)}"
        return
    if rows != it.rows:
        yield f"{it.path}: has {rows} rows, the catalog says {it.rows}"


def _of_counts(store: Path) -> Iterator[str]:
    """By table: what the files of the journal brought is in the lake, or was pruned, or was there twice."""
    with read_catalog(store) as catalog:
        if catalog is None:
            return
        with catalog.moment():
            done, files, pruned, doubled = catalog.compacted(), catalog.files(), catalog.pruned(), catalog.doubled()
    if not all(it.counts for it in done):  # some were compacted before that was noted
        return
    came, there = Counter[str](), Counter[str](doubled)
    for it in done:
        came.update(msgspec.json.decode(it.counts, type=dict[str, int]))
    for table, rows in [*((it.table, it.rows) for it in files), *((it.table, it.rows) for it in pruned)]:
        there[table] += rows
    for table in LAKE:
        if came[table] != there[table]:
            yield (f"{table}: {came[table]} rows came into the lake; those that are there, were pruned, or were there"
                   f" twice are {there[table]}")


def _of_folders(store: Path) -> Iterator[str]:
    """Leftovers of a killed compaction; while one is running, what it has not published is none."""
    try:
        with alone(store), read_catalog(store) as catalog:
            found = orphans(store, catalog)
            lost = set(only_copies(store, catalog, found))
            for path in found:
                what = "nothing else has its rows" if path in lost else "the next compaction removes it"
                yield f"{path}: the catalog does not know it; {what}"
            if (store / STAGING).exists():
                yield f"{STAGING}: left by a killed compaction; the next one removes it"
    except (UsageError, OSError):  # one is running, or nobody may write here
        return


def _doubles(duck: duckdb.DuckDBPyConnection) -> Iterator[str]:
    found = duck.execute("""
        SELECT venue, symbol, channel, id, count(*) FROM trades GROUP BY ALL HAVING count(*) > 1 LIMIT ?""", [MOST])
    for venue, symbol, channel, id, times in found.fetchall():
        yield f"{venue}:{symbol} {channel}: trade {id} is there {times} times"


def _uncovered(duck: duckdb.DuckDBPyConnection, moment: Moment) -> Iterator[str]:
    """On a tape that has coverage the id of each trade lies within it."""
    rows = [(*key, it.first, it.last) for key, of in coverage_of(moment).items() for it in of]
    columns = [[str(it[n]) for it in rows] for n in range(3)] + [[it[n] for it in rows] for n in (3, 4)]
    duck.execute(
        "CREATE TEMP TABLE covered AS SELECT unnest(?::VARCHAR[]) AS venue, unnest(?::VARCHAR[]) AS symbol,"
        " unnest(?::VARCHAR[]) AS channel, unnest(?::HUGEINT[]) AS first, unnest(?::HUGEINT[]) AS last", columns)
    found = duck.execute("""
        SELECT t.venue, t.symbol, t.channel, t.id FROM (SELECT *, try_cast(id AS HUGEINT) AS number FROM trades) AS t
        ASOF LEFT JOIN covered AS c
        ON t.venue = c.venue AND t.symbol = c.symbol AND t.channel = c.channel AND t.number >= c.first
        WHERE (t.venue, t.symbol, t.channel) IN (SELECT (venue, symbol, channel) FROM covered)
        AND (c.last IS NULL OR t.number > c.last) LIMIT ?""", [MOST])
    for venue, symbol, channel, id in found.fetchall():
        yield f"{venue}:{symbol} {channel}: trade {id} lies outside its coverage"
