"""A damaged file of the journal is set aside and said; what was in it is missing, and known to be."""
import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from onetape.clock import HOUR
from onetape.errors import UsageError
from onetape.model import Channel, InstrumentId, NeedTrades
from onetape.service.keeper import Keeper
from onetape.storage.damage import ROOM, damages
from onetape.storage.journal import Journal, files
from onetape.storage.lake import Lake
from onetape.storage.compaction import compact

sys.path.insert(0, str(Path(__file__).parent))
from test_lake import NOW, T0, store_of, trade

sys.path.pop(0)
XRP = InstrumentId("bybit", "XRPUSDT")


def consecutive(number, hour):
    """Its id says what comes before it."""
    return trade(number, time=T0 + hour * HOUR + number, after=number - 1)


def unproven(number, hour):
    return trade(number, id=XRP, time=T0 + hour * HOUR + number, price="1")


def kept(store, *hours):
    """A run in each hour, with these trades; the needs of all runs."""
    needs = []
    with Keeper(store) as keeper:
        for trades in hours:
            for it in trades:
                needs += keeper.handle(it)
        needs += keeper.finish(trades[-1].available_at)
    return needs


def three(store):
    """Files of the journal with ids 0 to 9, 10 to 19 and 20 to 29, and trades of a tape whose ids prove nothing."""
    for hour in range(3):
        numbers = range(hour * 10, hour * 10 + 10)
        kept(store, [it for n in numbers for it in (consecutive(n, hour), unproven(n, hour))])
    return files(store / "journal" / "main")


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2:len(data) // 2 + 9_000] = os.urandom(9_000)
    path.write_bytes(data)


def other_tables(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE trades(id)")
        file.execute("PRAGMA user_version=1")


def in_sql(sql):
    def work(path):
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            file.execute(sql)
    return work


DAMAGES = {
    "cut off": (lambda it: it.write_bytes(it.read_bytes()[:9_000]), "malformed"),
    "cut within a page": (lambda it: it.write_bytes(it.read_bytes()[:-100]), "."),
    "bytes flipped": (flip, "."),
    "no database": (lambda it: it.write_bytes(b"rubbish" * 3_000), "file is not a database"),
    "the head": (lambda it: it.write_bytes(b"\xff" * 100 + it.read_bytes()[100:]), "file is not a database"),
    "empty": (lambda it: it.write_bytes(b""), "it is empty"),
    "zeros": (lambda it: it.write_bytes(bytes(it.stat().st_size)), "."),
    "no tables": (lambda it: it.write_bytes(b"") or in_sql("PRAGMA user_version=1")(it), "it has no tables"),
    "other tables": (other_tables, "it lacks the tables batches"),
    "a row less": (in_sql("DELETE FROM trades WHERE id = 15"), "tell of"),
    "a batch less": (in_sql("DELETE FROM batches"), "tell of 0 rows of"),
    "another batch": (in_sql("UPDATE batches SET batch = batch + 7"), "are not those from"),
    "counts": (in_sql("UPDATE batches SET counts = 'x'"), "counts of a batch"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_hole_of_a_damaged_file_between_others_is_found_and_asked_for(tmp_path, name, capsys):
    before, damaged, _ = three(tmp_path)
    work, sign = DAMAGES[name]
    work(damaged)
    bytes_before = damaged.read_bytes()
    with Keeper(tmp_path) as keeper:
        (found,) = keeper.damages
        assert sign in found.reason + "."
        assert "\n" not in str(found)
        assert found.path.read_bytes() == bytes_before
        assert found.first_batch == int(damaged.stem)
        assert T0 <= found.from_time < T0 + HOUR
        assert T0 + 2 * HOUR <= found.to_time < T0 + 3 * HOUR
        needs = [*keeper.handle(consecutive(30, 3)), *keeper.finish(T0 + 3 * HOUR + 40)]
    assert [(it.after, it.before) for it in needs if isinstance(it, NeedTrades)] == [("9", "20")]
    err = capsys.readouterr()
    assert str(found) in err.err + err.out
    assert not damaged.exists()
    assert before.exists()
    with Lake(tmp_path) as lake:
        gaps = {(it.venue, it.after, it.before): it for it in lake.gaps()}
        assert {it for it in gaps if it[1:] != ("19", "20")} == {("binance", "9", "20"), ("bybit", "9", "20")}
        of_bybit = gaps["bybit", "9", "20"]
        assert found.reason in of_bybit.cause
        assert (of_bybit.from_time, of_bybit.to_time) == (T0 + 9, T0 + 2 * HOUR + 20)
        assert [int(it.id) for it in lake.trades() if it.venue == "binance"] == [*range(10), *range(20, 31)]
        assert lake.verify() == [str(found)]
        assert lake.status()["damaged"] == [str(found)]
        assert compact(tmp_path, NOW).refused == []
        assert lake.verify() == [str(found)]


def test_what_was_told_once_is_not_told_again(tmp_path):
    flip(three(tmp_path)[1])
    for _ in range(3):
        with Keeper(tmp_path):
            pass
    with Lake(tmp_path) as lake:
        assert [it.after for it in lake.gaps() if "damaged" in it.cause] == ["9"]
        assert lake.count("gaps") == 2


def test_a_gap_that_a_kill_kept_from_the_record_is_told_at_the_next_start(tmp_path):
    flip(three(tmp_path)[1])
    with Journal(tmp_path) as journal:
        assert len(journal.damages) == 1
    with Keeper(tmp_path) as keeper:
        assert keeper.journal.damages == []
        assert len(keeper.damages) == 1
    with Lake(tmp_path) as lake:
        assert ("bybit", "9", "20") in [(it.venue, it.after, it.before) for it in lake.gaps()]


def test_where_the_newest_is_damaged_its_batch_numbers_stay_free(tmp_path):
    *_, newest = three(tmp_path)
    with Journal(tmp_path) as journal:
        used = journal.last_batch
    newest.write_bytes(b"")
    for _ in range(2):  # the second finds no file behind the damaged one, only its name
        with Journal(tmp_path) as journal:
            assert journal.last_batch >= int(newest.stem) + ROOM > used
    kept(tmp_path, [consecutive(30, 3), unproven(30, 3)])
    with Journal(tmp_path) as journal:
        again = journal.last_batch
    assert int(newest.stem) + ROOM < again < int(newest.stem) + 2 * ROOM
    with Lake(tmp_path) as lake:
        gaps = {(it.venue, it.after, it.before): it for it in lake.gaps() if it.after == "19"}
        assert gaps.keys() == {("binance", "19", "30"), ("bybit", "19", "30")}
        assert "a damaged file" in gaps["bybit", "19", "30"].cause
        assert len(lake.verify()) == 1


def test_all_may_be_damaged(tmp_path):
    for path in three(tmp_path):
        path.write_bytes(b"x" * 20_000)
    kept(tmp_path, [consecutive(30, 3), unproven(30, 3)])
    with Lake(tmp_path) as lake:
        assert [it.id for it in lake.trades()] == ["30", "30"]
        assert lake.gaps() == []
    assert len(damages(tmp_path / "journal" / "main")) == 3


def test_an_earlier_damaged_file_of_that_name_is_not_overwritten(tmp_path):
    path = three(tmp_path)[1]
    first = path.read_bytes()[:5_000]
    for text in (first, b"second" * 2_000):
        path.write_bytes(text)
        with Journal(tmp_path):
            pass
    assert [it.path.read_bytes() for it in damages(path.parent)] == [first, b"second" * 2_000]


def test_what_the_lake_has_may_be_damaged_in_the_journal(tmp_path):
    _, damaged, newest = three(tmp_path)
    compact(tmp_path, NOW)
    damaged.write_bytes(b"")
    newest.write_bytes(b"")
    with Keeper(tmp_path) as keeper:
        assert keeper.damages == []
        keeper.handle(consecutive(30, 3))
        assert not keeper.finish(T0 + 3 * HOUR + 40)
    with Lake(tmp_path) as lake:
        assert [int(it.id) for it in lake.trades() if it.venue == "binance"] == list(range(31))


def test_a_damaged_file_of_another_writer_is_in_nobodys_way(tmp_path):
    store_of(tmp_path, [trade(1)], writer="backfill")
    (path,) = files(tmp_path / "journal" / "backfill")
    path.write_bytes(b"")
    with Journal(tmp_path, "backfill"):  # a writer that runs has looked at its files itself
        pass
    kept(tmp_path, [consecutive(1, 0)])
    with Lake(tmp_path) as lake:
        assert [it.id for it in lake.trades()] == ["1"]


def test_a_file_that_was_found_sound_is_read_once(tmp_path, monkeypatch):
    from onetape.storage import damage  # noqa: PLC0415

    three(tmp_path)
    with Journal(tmp_path):
        pass
    looked = []
    monkeypatch.setattr(damage, "what_is_wrong", lambda path: looked.append(path) or ("", True))
    with Journal(tmp_path):
        pass
    assert looked == []
    newest = files(tmp_path / "journal" / "main")[-1]
    newest.write_bytes(newest.read_bytes() + b"x")
    with Journal(tmp_path):
        pass
    assert looked == [newest]


def test_a_reader_that_has_seen_more_than_is_there_gets_new_numbers(tmp_path):
    """A loss of power may take commits that somebody has read."""
    from onetape.storage.catalog import open_catalog  # noqa: PLC0415
    from onetape.storage.compaction import end_of  # noqa: PLC0415

    store_of(tmp_path, [trade(1)])
    with open_catalog(tmp_path) as catalog:
        catalog.register("postgres")
        catalog.advance("postgres", "main", end_of(7))
    with Journal(tmp_path) as journal:
        assert journal.last_batch == 7


def test_a_corrupt_catalog_is_one_line_and_nothing_is_believed_or_removed(tmp_path):
    three(tmp_path)
    compact(tmp_path, NOW)
    catalog, listed = tmp_path / "catalog.db", sorted(tmp_path.rglob("*.parquet"))
    whole = catalog.read_bytes()
    for rubbish in (b"", b"x" * 20_000, whole[:100] + b"\xff" * (len(whole) - 100), whole[:6_000]):
        catalog.write_bytes(rubbish)
        for work in (Keeper(tmp_path).__enter__, lambda: compact(tmp_path, NOW), Lake(tmp_path).__enter__):
            with pytest.raises(UsageError, match=r"^[^\n]*catalog\.db is corrupt[^\n]*$"):
                work()
        assert sorted(tmp_path.rglob("*.parquet")) == listed
    catalog.write_bytes(whole)
    with Lake(tmp_path) as lake:
        assert lake.verify() == []


def test_gaps_of_tapes_that_prove_nothing_are_events_as_any(tmp_path):
    flip(three(tmp_path)[1])
    with Keeper(tmp_path), Lake(tmp_path) as lake:
        gap, _ = lake.gaps()
    assert (gap.venue, gap.channel, gap.state) == ("bybit", Channel.TRADES, "open")


def test_a_file_that_is_gone_is_told_like_one_that_is_damaged(tmp_path):
    paths = three(tmp_path)
    with Keeper(tmp_path) as keeper:  # it has seen them
        assert keeper.damages == []
    paths[1].unlink()
    for _ in range(2):
        with Keeper(tmp_path) as keeper:
            assert [it.reason for it in keeper.damages] == ["it is gone"]
    with Lake(tmp_path) as lake:
        assert [(it.venue, it.after, it.before) for it in lake.gaps()].count(("bybit", "9", "20")) == 1
