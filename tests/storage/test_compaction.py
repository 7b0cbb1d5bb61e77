"""A compaction moves rows from the journal into the lake: none lost, none doubled, whoever reads or dies meanwhile."""
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from decimal import Decimal as D
from pathlib import Path

import duckdb
import pytest
from msgspec import structs

from onetape.clock import DAY, HOUR
from onetape.errors import UsageError
from onetape.model import BookSnapshot, Channel, Levels
from onetape.storage.catalog import open_catalog
from onetape.storage.compaction import alone, compact, end_of
from onetape.storage.journal import Journal, files
from onetape.storage.lake import Lake
from onetape.tape.coverage import Covered

sys.path.insert(0, str(Path(__file__).parent))
from test_lake import BTC, ETH, NOW, T0, gap, others, store_of, trade

sys.path.pop(0)
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_lake import *
store = Path(sys.argv[2])
"""


def ids(store):
    with Lake(store) as lake:
        return [int(it.id) for it in lake.trades()]


def parquet(store):
    return sorted((store / "lake").rglob("*.parquet"))


def process(code, store, *more, **options):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + code, str(Path(__file__).parent), str(store), *more], text=True, **options)


def in_process(code, store, *more):
    with process(code, store, *more, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        out, errors = it.communicate()
    return it.returncode, out, errors


# --- what is compacted, and what goes --------------------------------------------------------------------------------


def test_everything_sealed_is_compacted_once_and_lies_by_date_venue_and_pair(tmp_path):
    store_of(tmp_path, [trade(1), trade(2, time=T0 + DAY)], [trade(3)], pairs={BTC: "BTC-USDT"})
    report = compact(tmp_path, NOW)
    assert (report.files, report.rows) == (2, {"trades": 3})
    assert [str(it.relative_to(tmp_path)) for it in parquet(tmp_path)] == [
        "lake/trades/date=2025-10-09/venue=binance/pair=BTC-USDT/main-000000000001.parquet",
        "lake/trades/date=2025-10-09/venue=binance/pair=BTC-USDT/main-000000000002.parquet",
        "lake/trades/date=2025-10-10/venue=binance/pair=BTC-USDT/main-000000000001.parquet",
    ]
    again = compact(tmp_path, NOW)
    assert (again.files, again.rows, again.orphans) == (0, {}, 0)
    with closing(duckdb.connect()) as duck:  # as any other program sees it
        found = f"read_parquet('{tmp_path}/lake/trades/**/*.parquet')"
        sql = f"SELECT id, venue, pair, date::VARCHAR FROM {found} ORDER BY id"
        assert duck.execute(sql).fetchall() == [
            ("1", "binance", "BTC-USDT", "2025-10-09"), ("2", "binance", "BTC-USDT", "2025-10-10"),
            ("3", "binance", "BTC-USDT", "2025-10-09")]


def test_a_file_that_is_still_written_stays_until_its_writer_is_gone(tmp_path):
    with Journal(tmp_path) as journal:
        for number in (1, 2):
            journal.add(trade(number))
            journal.commit(journal.take(T0 + number * HOUR))
        assert compact(tmp_path, NOW).files == 1
    assert compact(tmp_path, NOW).files == 1
    assert ids(tmp_path) == [1, 2]


def test_the_journal_goes_after_its_time_but_not_the_file_that_knows_the_last_batch(tmp_path):
    store_of(tmp_path, [trade(1)], [trade(2)], [trade(3)])
    compact(tmp_path, NOW)
    assert compact(tmp_path, NOW + DAY - 1).removed == 0
    assert compact(tmp_path, NOW + DAY).removed == 2
    assert [it.name for it in files(tmp_path / "journal" / "main")] == ["000000000003.db"]
    store_of(tmp_path, [trade(4)])
    assert compact(tmp_path, NOW + 2 * DAY, keep_journal_ns=0).removed == 1
    with Journal(tmp_path) as journal:
        assert journal.last_batch == 4
    assert ids(tmp_path) == [1, 2, 3, 4]
    with Lake(tmp_path) as lake:
        assert lake.verify() == []


def test_the_journal_stays_until_all_its_readers_are_past(tmp_path):
    store_of(tmp_path, [trade(1)], [trade(2)], [trade(3)], [trade(4)])
    names = [it.name for it in files(tmp_path / "journal" / "main")]
    with open_catalog(tmp_path) as catalog:
        catalog.register("postgres")
        catalog.register("postgres")
        assert catalog.readers() == {"postgres": {}}
    assert compact(tmp_path, NOW, keep_journal_ns=-1).removed == 0  # it has nothing yet
    with open_catalog(tmp_path) as catalog:
        catalog.advance("postgres", "main", end_of(2))
        catalog.advance("postgres", "main", end_of(1))  # never back
        catalog.advance("slow", "main", end_of(2) - 1)  # not all of the second
        assert catalog.readers() == {"postgres": {"main": end_of(2)}, "slow": {"main": end_of(2) - 1}}
    with Lake(tmp_path) as lake:
        assert lake.status()["readers"] == {"lake": {"main": 4}, "postgres": {"main": 2}, "slow": {"main": 1}}
    assert compact(tmp_path, NOW, keep_journal_ns=-1).removed == 1
    assert [it.name for it in files(tmp_path / "journal" / "main")] == names[1:]
    with open_catalog(tmp_path) as catalog:
        catalog.unregister("slow")
    assert compact(tmp_path, NOW, keep_journal_ns=-1).removed == 1
    with open_catalog(tmp_path) as catalog:
        catalog.advance("postgres", "main", end_of(10**9))
    assert compact(tmp_path, NOW, keep_journal_ns=-1).removed == 1
    assert [it.name for it in files(tmp_path / "journal" / "main")] == names[3:]
    assert ids(tmp_path) == [1, 2, 3, 4]


OLDER = {  # what makes a catalog one of the version before
    3: ("ALTER TABLE lake_files DROP COLUMN sum", "ALTER TABLE lake_files DROP COLUMN schema",
        "ALTER TABLE compacted DROP COLUMN counts", "DROP TABLE pruned", "DROP TABLE doubled"),
    2: ("DROP TABLE readers",),
}


def older(store, version):
    """Its catalog as an older OneTape left it."""
    for of in sorted(OLDER, reverse=True)[:3 - version]:
        for sql in (*OLDER[of], f"PRAGMA user_version={of - 1}"):
            in_sql(store / "catalog.db", sql)


def test_a_catalog_of_the_first_schema_is_read_as_it_is_and_brought_up_to_date_by_who_writes(tmp_path):
    store_of(tmp_path, [trade(1)])
    compact(tmp_path, NOW)
    older(tmp_path, 1)
    with Lake(tmp_path) as lake:
        assert lake.status()["readers"] == {"lake": {"main": 1}}
        assert lake.verify() == []
    store_of(tmp_path, [trade(2)])
    compact(tmp_path, NOW)
    with open_catalog(tmp_path) as catalog:
        catalog.register("postgres")
    with Lake(tmp_path) as lake:
        assert lake.status()["readers"] == {"lake": {"main": 2}, "postgres": {}}
    assert ids(tmp_path) == [1, 2]


def test_a_crowded_partition_becomes_one_file(tmp_path):
    for number in range(1, 8):
        store_of(tmp_path, [trade(number), gap(T0 + number)])
        assert compact(tmp_path, NOW).merged == 0
    store_of(tmp_path, [trade(0), trade(8), trade(9, time=T0 + DAY), gap(T0 + 9)])
    assert compact(tmp_path, NOW).merged == 2
    with Lake(tmp_path) as lake:
        assert lake.status()["lake"]["files"] == 3
        assert lake.verify() == []
    assert ids(tmp_path) == list(range(10))
    assert len(parquet(tmp_path)) == 3 + 16  # who reads the old ones may go on
    assert compact(tmp_path, NOW + HOUR).removed == 16
    assert len(parquet(tmp_path)) == 3
    with closing(duckdb.connect()) as duck:
        sql = f"SELECT id FROM read_parquet('{tmp_path}/lake/trades/**/day+*.parquet')"
        assert [int(it) for it, in duck.execute(sql).fetchall()] == list(range(9))  # in the order of time
    with Lake(tmp_path) as lake:
        assert lake.verify() == []


def test_what_a_killed_compaction_left_is_removed(tmp_path):
    store_of(tmp_path, [trade(1)])
    compact(tmp_path, NOW)
    (known,) = parquet(tmp_path)
    store_of(tmp_path, [trade(2)])  # not compacted yet
    for orphan in (known.with_name("main-000000000002.parquet"), known.with_name("day+000000000009.parquet"),
                   tmp_path / "lake/.staging/main-1/0/data_0.parquet"):
        orphan.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(known, orphan)
    with Lake(tmp_path) as lake:
        assert ids(tmp_path) == [1, 2]
        assert len(lake.verify()) == 3
        assert compact(tmp_path, NOW).orphans == 2
        assert lake.verify() == []
        assert ids(tmp_path) == [1, 2]


def test_without_its_catalog_no_file_of_the_lake_is_removed(tmp_path):
    """What is in no journal any more would be gone for good."""
    store_of(tmp_path, [trade(1)])
    compact(tmp_path, NOW)
    store_of(tmp_path, [trade(2)])
    compact(tmp_path, NOW, keep_journal_ns=-1)
    before = parquet(tmp_path)
    for path in tmp_path.glob("catalog.db*"):
        path.unlink()
    with pytest.raises(UsageError, match=r"^[^\n]*does not know 1 files of the lake[^\n]*$"):
        compact(tmp_path, NOW)
    assert parquet(tmp_path) == before
    with Lake(tmp_path) as lake:
        assert any("nothing else has its rows" in it for it in lake.verify())


def test_a_second_compaction_is_refused_in_one_line(tmp_path):
    store_of(tmp_path, [trade(1)])
    with alone(tmp_path), pytest.raises(UsageError, match=r"^[^\n]*is being compacted already[^\n]*$"):
        compact(tmp_path, NOW)
    assert compact(tmp_path, NOW).files == 1


def test_the_log_of_a_killed_writer_is_folded_in(tmp_path):
    code = """
import os, signal
with Journal(store) as journal:
    for number in range(3):
        journal.add(trade(number))
        journal.commit(journal.take(T0))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_process(code, tmp_path)[0] == -signal.SIGKILL
    assert list(tmp_path.rglob("*.db-wal"))
    assert ids(tmp_path) == [0, 1, 2]
    assert compact(tmp_path, NOW).rows == {"trades": 3}
    assert not list((tmp_path / "journal").rglob("*.db-wal"))
    assert ids(tmp_path) == [0, 1, 2]


@pytest.mark.parametrize("largest", [0, 2_000, 20_000])
def test_a_full_disk_publishes_nothing_and_says_so_in_one_line(tmp_path, largest):
    store_of(tmp_path, [trade(n, size=str(n * 7919 % 10007 + 1)) for n in range(20_000)], [trade(20_000)])
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    compact(store, NOW)
except UsageError as error:
    print(error)
"""
    code, out, errors = in_process("import sys" + code, tmp_path, str(largest))
    assert (code, out.count("\n"), errors) == (0, 1, "")
    assert "cannot be written" in out
    assert ids(tmp_path) == list(range(20_001))
    assert compact(tmp_path, NOW).files == 2
    assert ids(tmp_path) == list(range(20_001))
    with Lake(tmp_path) as lake:
        assert lake.verify() == []


@pytest.fixture
def small_disk(tmp_path):
    """Of 1.5 MB."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", tmp_path], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing may be mounted here: {done.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def leave(disk, free):
    """Fills it but for so many bytes."""
    fill = disk / "fill"
    fill.unlink(missing_ok=True)
    fill.write_bytes(bytes(max(shutil.disk_usage(disk).free - free, 0)))


def test_a_disk_that_is_really_full_leaves_all_as_it_was_and_readable(small_disk):
    store = small_disk / "store"
    store_of(store, [trade(n, size=str(n * 7919 % 10007 + 1)) for n in range(9_000)], [trade(9_000)])
    for free in (0, 4_096, 16_384, 40_000, 80_000, 120_000):
        leave(small_disk, free)
        full = r"^[^\n]*cannot be written: no space left: the disk is full, \d+ kB are left$"
        with pytest.raises(UsageError, match=full):
            compact(store, NOW)
        with Lake(store) as lake:
            assert len(lake.trades()) == 9_001
            assert [it for it in lake.verify() if "next" not in it] == []
    (small_disk / "fill").unlink()
    assert compact(store, NOW).files == 2
    leave(small_disk, 0)
    with Lake(store) as lake:
        assert len(lake.trades()) == 9_001
        assert lake.verify() == []


def test_the_catalog_is_read_where_nothing_can_be_written(tmp_path):
    store_of(tmp_path, [trade(1)])
    compact(tmp_path, NOW)
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
with Lake(store) as lake:
    print([it.id for it in lake.trades()])
"""
    assert in_process(code, tmp_path) == (0, "['1']\n", "")


def test_little_memory_is_enough(tmp_path):
    store_of(tmp_path, [trade(n, size=str(n * 7919 % 10007 + 1)) for n in range(200_000)])
    assert compact(tmp_path, NOW, memory="64MB").rows == {"trades": 200_000}


def test_a_damaged_file_keeps_no_other_out_of_the_lake(tmp_path):
    store_of(tmp_path, [trade(1), trade(2)], [trade(3)])
    path = files(tmp_path / "journal" / "main")[0]
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("DELETE FROM trades WHERE id = 2")
    report = compact(tmp_path, NOW)
    assert report.refused == [f"{path} stays in the journal: its batches tell of 2 rows of trades, it has 1"]
    assert report.rows == {"trades": 1}
    assert ids(tmp_path) == [1, 3]


def test_what_two_writers_brought_is_there_once_after_compaction_and_accounted_for(tmp_path):
    store_of(tmp_path, [trade(n) for n in range(10)])
    store_of(tmp_path, [trade(n, received_time=T0) for n in range(5, 15)], [trade(15)], writer="import")
    store_of(tmp_path, [trade(7, channel=Channel.AGG_TRADES), trade(7, id=ETH)], writer="third")
    assert ids(tmp_path) == sorted([*range(16), *range(5, 10), 7, 7])
    assert compact(tmp_path, NOW).merged == 1  # the files of one pair
    assert ids(tmp_path) == sorted([*range(16), 7, 7])
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
        assert lake.status()["lake"]["files"] == 2
    assert compact(tmp_path, NOW).merged == 0


def test_a_trade_that_came_again_after_the_merge_is_there_once(tmp_path):
    store_of(tmp_path, [trade(n) for n in range(5)])
    store_of(tmp_path, [trade(n) for n in range(5)], writer="import")
    assert compact(tmp_path, NOW).merged == 1
    store_of(tmp_path, [trade(3)], writer="import")
    assert compact(tmp_path, NOW).merged == 1
    assert ids(tmp_path) == list(range(5))
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
    assert compact(tmp_path, NOW).merged == 0


def book(number, levels):
    side = Levels.of([(D(number * levels + n + 1), D(n * 7919 % 10007 + 1)) for n in range(levels)])
    return BookSnapshot(
        venue=BTC.venue, symbol=BTC.symbol, exchange_time=T0 + number, received_time=T0, available_at=T0 + number,
        sequence=number, bids=side, asks=side, depth=0, verification="none")


def test_books_are_compacted_and_merged_in_the_memory_there_is(tmp_path):
    """200 levels: all of them in one row group, as of trades, would be too much."""
    for part in range(2):
        store_of(tmp_path, [book(part * 6_500 + n, 100) for n in range(6_500)])
    report = compact(tmp_path, NOW, memory="190MB", merge_at=2)
    assert (report.rows, report.merged, report.refused) == ({"book_snapshots": 13_000}, 1, [])
    with Lake(tmp_path) as lake:
        assert lake.verify() == []


def test_books_too_deep_for_a_row_group_become_several_files_that_are_left_as_they_are(tmp_path):
    store_of(tmp_path, [book(n, 1_600) for n in range(1_600)])  # each of 3,200 levels
    report = compact(tmp_path, NOW, memory="256MB", merge_at=2)
    assert (report.rows, report.merged, report.refused) == ({"book_snapshots": 1_600}, 0, [])
    assert len(parquet(tmp_path)) > 1
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
        (last,) = lake.books()
    assert last == book(1_599, 1_600)


def test_a_partition_that_cannot_be_merged_is_told_and_keeps_nothing_else_from_its_place(tmp_path):
    for number in range(2):
        store_of(tmp_path, [trade(number), trade(number, id=ETH)])
        compact(tmp_path, NOW)
    overwrite(parquet(tmp_path)[0], 0, bytes(400))
    report = compact(tmp_path, NOW + 2 * DAY, merge_at=2)
    assert (report.merged, report.removed) == (1, 1)
    (told,) = report.refused
    assert told.startswith(f"the 2 files in {parquet(tmp_path)[0].parent} are not merged: ")
    assert not (tmp_path / "lake" / ".staging").exists()


def test_a_file_with_a_damaged_page_keeps_no_other_out_of_the_lake(tmp_path):
    store_of(tmp_path, [trade(n) for n in range(5_000)], [trade(5_000)])
    path = files(tmp_path / "journal" / "main")[0]
    overwrite(path, 0.5, bytes(3 * 4_096))
    report = compact(tmp_path, NOW)
    assert report.rows == {"trades": 1}
    (told,) = report.refused
    assert told.startswith(f"{path} stays in the journal: ")


def test_who_makes_a_catalog_at_the_same_time_finds_one_and_leaves_nothing_behind(tmp_path):
    code = """
from onetape.storage.catalog import open_catalog
sys.stdin.readline()
with open_catalog(store) as catalog:
    catalog.register(sys.argv[3])
"""
    tmp_path.joinpath("catalog.new").touch()
    tmp_path.joinpath("catalog.0.new-journal").touch()
    names = [f"reader {n}" for n in range(4)]
    together = [process(code, tmp_path, name, stdin=subprocess.PIPE) for name in names]
    for it in together:
        it.stdin.write("\n")
        it.stdin.flush()
    for it in together:
        it.communicate()
    assert [it.returncode for it in together] == [0] * 4
    with open_catalog(tmp_path) as catalog:
        assert sorted(catalog.readers()) == names
    assert [it.name for it in tmp_path.glob("*.new*")] == []


def test_the_catalog_knows_the_checksum_of_every_file_as_sha256sum_says_it(tmp_path):
    store_of(tmp_path, [trade(1), *others()])
    compact(tmp_path, NOW)
    for path in parquet(tmp_path):
        (said,) = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[:1]
        with open_catalog(tmp_path) as catalog:
            assert [it.sum for it in catalog.files() if tmp_path / it.path == path] == [said]


def test_files_of_before_there_were_checksums_are_said_to_be_unchecked(tmp_path):
    store_of(tmp_path, [trade(1)])
    compact(tmp_path, NOW)
    older(tmp_path, 2)
    store_of(tmp_path, [trade(2)])
    compact(tmp_path, NOW)
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
        assert lake.status()["lake"]["unchecked"] == 1
    rewritten(parquet(tmp_path)[0])
    with Lake(tmp_path) as lake:
        assert lake.verify() == []  # nobody can know


# --- beside others ---------------------------------------------------------------------------------------------------


def test_readers_see_every_row_once_while_files_are_compacted_merged_and_removed(tmp_path):
    rounds, acked, failures = 25, [0], []
    store_of(tmp_path, [trade(0)])
    acked[0] = 1

    def write_and_compact():
        try:
            for number in range(1, rounds):
                store_of(tmp_path, [trade(number)])
                acked[0] = number + 1
                compact(tmp_path, NOW, keep_journal_ns=0, keep_replaced_ns=0, merge_at=3)
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=write_and_compact)
    thread.start()
    reads = 0
    with Lake(tmp_path) as lake:
        while thread.is_alive():
            least = acked[0]
            there = [int(it.id) for it in lake.trades()]
            assert there == list(range(len(there)))
            assert len(there) >= least
            assert lake.count("trades") >= least
            with closing(lake.connect()) as duck:
                assert len(duck.execute("SELECT DISTINCT id FROM tail_of_trades").fetchall()) <= rounds
            reads += 1
    thread.join()
    assert failures == []
    assert reads > 3
    assert ids(tmp_path) == list(range(rounds))


# --- soundness -------------------------------------------------------------------------------------------------------


def in_sql(path, sql):
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(sql)


def overwrite(path, at, text=b"\xff" * 64):
    data = bytearray(path.read_bytes())
    place = int(len(data) * at)
    data[place:place + len(text)] = text
    path.write_bytes(data)


def shorter(path):
    with closing(duckdb.connect()) as duck:
        one = f"FROM read_parquet('{path}', hive_partitioning = false) LIMIT 1"
        duck.execute(f"COPY ({one}) TO '{path}.new' (FORMAT parquet)")
    Path(f"{path}.new").rename(path)


def rewritten(path):
    """With the same rows."""
    with closing(duckdb.connect()) as duck:
        rows = f"FROM read_parquet('{path}', hive_partitioning = false)"
        duck.execute(f"COPY ({rows}) TO '{path}.new' (FORMAT parquet, COMPRESSION uncompressed)")
    Path(f"{path}.new").rename(path)


def forgotten(it):
    path = it.lake[0].relative_to(it.store)
    in_sql(it.store / "catalog.db", f"DELETE FROM lake_files WHERE path = '{path}'")
    it.lake[0].unlink()


def again(store, *records):
    store_of(store, list(records), writer="other")


COVERED = Covered(*BTC, Channel.TRADES, 0, 400, T0, T0)
DAMAGES = {
    "a page of the journal": (lambda it: overwrite(it.journal[2], 0.5, b"\xff" * 6_000), "000000000003.db: "),
    "the head of a journal file": (lambda it: overwrite(it.journal[2], 0), "is corrupt: file is not a database"),
    "a batch": (lambda it: in_sql(it.journal[2], "DELETE FROM batches WHERE batch = 3"), "batch 3 tells of {} rows"),
    "a number of a batch": (lambda it: in_sql(it.journal[2], "UPDATE batches SET batch = 9"), "stands where 3 should"),
    "counts": (
        lambda it: in_sql(it.journal[0], "UPDATE batches SET counts = '{\"trades\": 7}'"), "tells of {'trades': 7}"),
    "counts that are none": (lambda it: in_sql(it.journal[0], "UPDATE batches SET counts = 'x'"), "000000000001.db: "),
    "a row": (lambda it: in_sql(it.journal[2], "DELETE FROM trades WHERE id = 205"), "batch 3 tells of"),
    "a file between others": (lambda it: it.journal[2].unlink(), "main: after batch 2 comes 4"),
    "the catalog": (lambda it: overwrite(it.store / "catalog.db", 0.3, b"\xff" * 9_000), "catalog.db: "),
    "the end of what is in the lake": (
        lambda it: in_sql(it.store / "catalog.db", "UPDATE compacted SET last_batch = 5 WHERE first_batch = 2"),
        "main: the lake has the batches 2 to 5, the journal those to 2"),
    "a file of the lake": (lambda it: it.lake[0].unlink(), "the catalog has it, the disk does not"),
    "the end of a lake file": (
        lambda it: it.lake[0].write_bytes(it.lake[0].read_bytes()[:-9]), "main-000000000001.parquet: "),
    "columns of a lake file": (lambda it: overwrite(it.lake[0], 0.3, b"\xff" * 300), "main-000000000001.parquet: "),
    "rows of a lake file": (lambda it: shorter(it.lake[0]), "has 1 rows, the catalog says 101"),
    "a lake file that was written anew": (lambda it: rewritten(it.lake[0]), "its checksum differs"),
    "a lake file that the catalog has forgotten": (forgotten, "200 rows came into the lake; those"),
    "an unknown file": (lambda it: shutil.copy(it.lake[0], it.lake[0].with_name("x.parquet")), "does not know it"),
    "a doubled trade": (lambda it: again(it.store, trade(7)), "binance:BTCUSDT trades: trade 7 is there 2 times"),
    "a trade outside its coverage": (lambda it: again(it.store, trade(999)), "trade 999 lies outside its coverage"),
    "a trade before its coverage": (lambda it: again(it.store, trade(-5)), "trade -5 lies outside its coverage"),
    "a trade of no number": (
        lambda it: again(it.store, structs.replace(trade(1), id="x")), "trade x lies outside its coverage"),
}


class Parts:
    def __init__(self, store):
        self.store, self.journal, self.lake = store, files(store / "journal" / "main"), parquet(store)
        self.lake = [it for it in self.lake if "/trades/" in str(it)]


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_kind_of_damage_is_found(tmp_path, damage):
    batches = [[trade(100 * k + n) for n in range(101 if k == 0 else 100)][k > 0:] for k in range(4)]
    batches[0].append(COVERED)
    store_of(tmp_path, *batches[:2])
    compact(tmp_path, NOW)
    store_of(tmp_path, *batches[2:])
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
        work, sign = DAMAGES[damage]
        work(Parts(tmp_path))
        found = lake.verify()
        assert any(sign in it for it in found), found
        assert all("\n" not in it for it in found)


WRITE = """
with Journal(store) as journal:
    number = journal.last_batch * 10
    for _ in range(150):  # else the compaction would never come to its end
        for n in range(number, number + 10):
            journal.add(trade(n, time=T0 + n % 3 * DAY + n))
        journal.add(Covered(*BTC, Channel.TRADES, number, number + 9, T0, T0))
        journal.add(quoted(T0 - journal.last_batch % 3 * DAY))
        journal.commit(journal.take(T0 + journal.last_batch * HOUR // 8))
        number += 10
        print(number, flush=True)
    sys.stdin.read()
"""
COMPACT = """
from onetape.storage.retention import Limit, prune
while True:
    compact(store, NOW, keep_journal_ns=0, keep_replaced_ns=0, merge_at=3)
    prune(store, NOW, {"quotes": Limit(age_ns=DAY)}, keep_replaced_ns=0)
    print(flush=True)
"""


@pytest.mark.parametrize("kills", [100 if os.environ.get("ONETAPE_LONG") else 8])
def test_kill_9_of_writer_compaction_and_pruning_loses_and_doubles_nothing(tmp_path, kills):
    """What was pruned is accounted for to the row, says ``verify``."""
    chance = random.Random(kills)
    tmp_path.joinpath("journal").mkdir()
    for _ in range(kills):
        writer = process(WRITE, tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        compacting = process(COMPACT, tmp_path, stdout=subprocess.PIPE)
        for _ in range(chance.randint(0, 2)):  # so many are done; the next is somewhere
            compacting.stdout.readline()
        for _ in range(chance.randint(1, 120)):
            acked = int(writer.stdout.readline())
        for it in chance.sample([writer, compacting], 2):
            it.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acked = int(rest[-1]) if rest and rest[-1].isdigit() else acked
        compacting.communicate()
        check(tmp_path, acked)
        compact(tmp_path, NOW, keep_journal_ns=0, keep_replaced_ns=0, merge_at=3)
        assert not (tmp_path / "lake" / ".staging").exists()
        check(tmp_path, acked)
        with Lake(tmp_path) as lake:
            assert lake.verify() == []
            left, gone = lake.count("quotes"), lake.status()["pruned"].get("quotes", {"rows": 0})["rows"]
            assert 10 * (left + gone) == lake.count("trades")
    assert gone


def check(store, acked):
    there = sorted(ids(store))
    assert there == list(range(len(there)))
    assert len(there) % 10 == 0
    assert len(there) >= acked


def test_a_kill_while_the_log_is_folded_in_is_undone(tmp_path):
    """Such a file has a rollback journal that a reader who may not write cannot take back."""
    store_of(tmp_path, [trade(1)])
    (path,) = files(tmp_path / "journal" / "main")
    code = """
import os, signal, sqlite3
(path,) = (store / "journal" / "main").glob("*.db")
file = sqlite3.connect(path, isolation_level=None)
file.execute("PRAGMA cache_size = 1")  # spills: the journal is on the disk, and so is what it takes back
file.execute("BEGIN")
file.execute("UPDATE batches SET counts = '{}'")
file.executemany("INSERT INTO instruments VALUES (?, 'x', hex(randomblob(500)), '')", [(n,) for n in range(9, 999)])
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_process(code, tmp_path)[0] == -signal.SIGKILL
    assert path.with_name(f"{path.name}-journal").exists()
    assert ids(tmp_path) == [1]
    assert compact(tmp_path, NOW).rows == {"trades": 1}
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
