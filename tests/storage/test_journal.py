"""What was committed is there, in order, once, whatever happens to the writer."""
import os
import signal
import subprocess
import sys
from contextlib import closing
from decimal import Decimal as D
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetape.clock import HOUR
from onetape.errors import RetryBatch, UsageError
from onetape.model import Candle, Channel, FeedStatus, Quote, Side, Source, Ticker, Trade, TrustState
from onetape.storage import journal as journal_module
from onetape.storage.journal import CHUNK, POSITIONS, Journal, files, open_readonly, read, writers
from onetape.storage.rows import scaled
from onetape.storage.schema import TABLES, identity, mantissa
from onetape.tape.coverage import Covered

HEAD = {"venue": "binance", "symbol": "BTCUSDT", "received_time": 2, "available_at": 3}
NO_NUMBERS = dict.fromkeys(
    ("last", "price_change", "price_change_percent", "high", "low", "volume", "quote_volume"))


def trade(number, price="1.10", size="2", symbol="BTCUSDT"):
    return Trade(
        **HEAD | {"symbol": symbol}, exchange_time=1, channel=Channel.TRADES, id=str(number), after=number - 1,
        price=D(price), size=D(size), side=Side.SELL, source=Source.LIVE,
    )


def commit(journal, *records, now=1):
    for it in records:
        journal.add(it)
    return journal.commit(journal.take(now))


def ids(store, writer="main"):
    return [row[3] for path in files(store / "journal" / writer) for row in read(path, "trades")]


def test_positions_count_through_a_batch_over_all_its_tables(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1), Quote(**HEAD, exchange_time=1, bid=(D(1), D(2)), ask=None), trade(2))
        commit(journal, trade(3))
        (path,) = files(journal.folder)
        first, second = 1 << POSITIONS, 2 << POSITIONS
        assert [row[0] for row in read(path, "trades")] == [first, first + 2, second]
        assert [row[0] for row in read(path, "quotes")] == [first + 1]
        assert journal.counters == {"trades": 3, "quotes": 1}


@pytest.mark.parametrize("size", [1, 3, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_a_batch_of_any_size_and_mixture_is_written_row_for_row(tmp_path, size):
    records = [
        Quote(**HEAD, exchange_time=n, bid=(D(1), D(2)), ask=None) if n % 5 == 2 else trade(n, symbol=f"S{n % 7}")
        for n in range(size)
    ]
    with Journal(tmp_path) as journal:
        commit(journal, *records)
        (path,) = files(journal.folder)
        with closing(open_readonly(path)) as file:
            symbols = dict(file.execute("SELECT id, symbol FROM instruments"))
            (counts,) = file.execute("SELECT counts FROM batches").fetchone()
        trades, quotes = list(read(path, "trades")), list(read(path, "quotes"))
    first = 1 << POSITIONS
    assert [(row[0] - first, symbols[row[1]], row[3]) for row in trades] == [
        (n, f"S{n % 7}", n) for n in range(size) if n % 5 != 2]
    assert [(row[0] - first, row[-3]) for row in quotes] == [(n, n) for n in range(size) if n % 5 == 2]
    assert msgspec.json.decode(counts) == {
        table: len(rows) for table, rows in (("trades", trades), ("quotes", quotes)) if rows} == journal.counters


def test_what_is_not_known_is_null(tmp_path):
    unknown = dict.fromkeys(("quote_volume", "vwap", "trades", "taker_buy_volume"))
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), D(1))
    with Journal(tmp_path) as journal:
        commit(
            journal, trade(1), Quote(**HEAD, exchange_time=1, bid=None, ask=None),
            Candle(**HEAD, **prices, **unknown, exchange_time=1, interval="1m", start=0, end=1, complete=True,
                   final=True, source="venue"),
        )
        (path,) = files(journal.folder)
        with closing(open_readonly(path)) as file:
            for table, columns in (
                ("trades", "first_id, last_id, raw"), ("quotes", "bid_price, bid_size, ask_price, ask_size, sequence"),
                ("candles", "quote_volume, vwap, trades, taker_buy_volume"),
            ):
                assert set(file.execute(f"SELECT {columns} FROM {table}").fetchone()) == {None}


def test_beyond_the_positions_of_one_batch_it_becomes_several(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "MAX_BATCH", 4)
    with Journal(tmp_path) as journal:
        assert commit(journal, *map(trade, range(10))) == 3
        assert commit(journal, trade(10)) == 4
        (path,) = files(journal.folder)
        places = [divmod(row[0], 1 << POSITIONS) for row in read(path, "trades")]
    assert places == [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (4, 0)]
    assert ids(tmp_path) == list(range(11))


def test_what_is_committed_leaves_the_batch(tmp_path):
    with Journal(tmp_path) as journal:
        journal.add(trade(1))
        batch = journal.take(1)
        assert [journal.commit(batch), journal.commit(batch)] == [1, 1]
    assert ids(tmp_path) == [1]


def test_batches_never_restart(tmp_path):
    for number in range(1, 4):
        with Journal(tmp_path) as journal:
            assert commit(journal, trade(number), now=number * HOUR) == number
    assert ids(tmp_path) == [1, 2, 3]


def test_an_empty_take_commits_nothing(tmp_path):
    with Journal(tmp_path) as journal:
        assert commit(journal) == 0
        assert files(journal.folder) == []


def test_each_hour_of_commit_time_has_its_file(tmp_path):
    with Journal(tmp_path) as journal:
        for number in range(6):
            commit(journal, trade(number), now=number * HOUR // 2)
        paths = files(journal.folder)
    assert [path.name for path in paths] == ["000000000001.db", "000000000003.db", "000000000005.db"]
    assert ids(tmp_path) == list(range(6))
    assert not list(tmp_path.rglob("*-wal"))  # sealed files stand alone


def test_a_clock_that_goes_back_opens_no_older_file(tmp_path):
    with Journal(tmp_path) as journal:
        for now in (5 * HOUR, 4 * HOUR, 5 * HOUR):
            commit(journal, trade(1), now=now)
        assert len(files(journal.folder)) == 1


def test_another_process_may_read_while_it_is_written(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1))
        count = "connect(sys.argv[1]).execute('select count(*) from trades').fetchone()"
        code = f"import sys; from sqlite3 import connect; print(*{count})"
        (path,) = files(journal.folder)
        for number in (2, 3):
            done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
            assert int(done.stdout) == number - 1
            commit(journal, trade(number))


def test_a_second_writer_is_refused_in_one_line(tmp_path):
    with Journal(tmp_path), pytest.raises(UsageError, match="another writer"), Journal(tmp_path):
        pass
    with Journal(tmp_path), Journal(tmp_path, "backfill"):
        assert {it.name for it in writers(tmp_path)} == {"main", "backfill"}


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"), Journal(tmp_path / "file"):
        pass


def test_a_newer_schema_is_refused(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1))
        (path,) = files(journal.folder)
    import sqlite3  # noqa: PLC0415

    file = sqlite3.connect(path)
    file.execute("PRAGMA user_version=99")
    file.close()
    with pytest.raises(UsageError, match="newer OneTape"):
        open_readonly(path)
    with pytest.raises(UsageError, match="newer OneTape"), Journal(tmp_path):
        pass


def test_what_has_no_table_is_counted(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, Ticker(**HEAD, exchange_time=1, **NO_NUMBERS), trade(1))
        assert journal.counters == {"trades": 1, "not stored": 1}


def test_a_batch_is_all_or_nothing_and_the_next_one_goes_on(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1))
        bad = FeedStatus(**HEAD, exchange_time=1, channel=Channel.BOOK, state=TrustState.LIVE, since=2**70)
        journal.add(trade(2, symbol="NEW"))
        journal.add(bad)
        with pytest.raises(OverflowError):
            journal.commit(journal.take(1))
        assert commit(journal, trade(3, symbol="NEW")) == 2
    assert ids(tmp_path) == [1, 3]
    with closing(open_readonly(files(tmp_path / "journal" / "main")[0])) as file:
        assert file.execute("SELECT symbol FROM instruments ORDER BY id").fetchall() == [("BTCUSDT",), ("NEW",)]


def limit_pages(journal, pages):
    journal._file.execute(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_keeps_the_batch_which_is_committed_later(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1))
        limit_pages(journal, 1)
        for it in (
            *map(trade, range(2, 2_000)), Ticker(**HEAD, exchange_time=1, **NO_NUMBERS), trade(2_000, symbol="NEW"),
        ):
            journal.add(it)
        batch = journal.take(1)
        before = list(batch.records)
        for _ in range(2):
            with pytest.raises(RetryBatch, match=r"^[^\n]*000000000001\.db cannot be written: [^\n]*full[^\n]*$"):
                journal.commit(batch)
            assert batch.records == before
            assert journal.counters == {"trades": 1}
            assert ids(tmp_path) == [1]
        limit_pages(journal, 10**6)
        assert journal.commit(batch) == 2
        assert journal.counters == {"trades": 2_000, "not stored": 1}
    assert ids(tmp_path) == list(range(1, 2_001))


def test_of_several_batches_only_those_that_failed_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_module, "MAX_BATCH", 1_000)
    with Journal(tmp_path) as journal:
        commit(journal, trade(0))
        limit_pages(journal, 40)
        for number in range(1, 5_001):
            journal.add(trade(number))
        batch = journal.take(1)
        with pytest.raises(RetryBatch):
            journal.commit(batch)
        there = ids(tmp_path)
        assert 1_000 < len(there) < 5_000
        assert [int(it.id) for it in batch.records] == list(range(len(there), 5_001))
        limit_pages(journal, 10**6)
        assert journal.commit(batch) == 6
    assert ids(tmp_path) == list(range(5_001))


def test_a_file_that_cannot_be_made_keeps_the_batch_too(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1), now=HOUR)
        obstacle = journal.folder / "000000000002.new"
        (obstacle / "within").mkdir(parents=True)
        journal.add(trade(2))
        batch = journal.take(2 * HOUR)
        for _ in range(2):
            with pytest.raises(RetryBatch, match=r"000000000002\.db cannot be written"):
                journal.commit(batch)
        (obstacle / "within").rmdir()
        obstacle.rmdir()
        assert journal.commit(batch) == 2
    assert ids(tmp_path) == [1, 2]


SHORT_OF_SPACE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_journal import Journal, RetryBatch, trade
folder, largest = Path(sys.argv[2]), int(sys.argv[3])
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
with Journal(folder) as journal:
    failed = 0
    for start in range(0, 20_000, 1_000):
        for number in range(start, start + 1_000):
            journal.add(trade(number))
        batch = journal.take(start * 10**9)  # over several hours
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
        try:
            journal.commit(batch)
        except RetryBatch as error:
            failed += 1
            assert str(folder) in str(error) and "\\n" not in str(error), error
            assert len(batch.records) == 1_000
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
            journal.commit(batch)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
print(failed)
"""


@pytest.mark.parametrize("largest", [0, 20_000, 100_000])
def test_files_that_the_system_lets_not_grow_lose_and_double_nothing(tmp_path, largest):
    code = [sys.executable, "-c", SHORT_OF_SPACE, str(Path(__file__).parent), str(tmp_path), str(largest)]
    done = subprocess.run(code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0
    assert ids(tmp_path) == list(range(20_000))


def test_a_file_whose_first_batch_failed_is_gone_on_with(tmp_path):
    bad = FeedStatus(**HEAD, exchange_time=1, channel=Channel.BOOK, state=TrustState.LIVE, since=2**70)
    with Journal(tmp_path) as journal, pytest.raises(OverflowError):
        commit(journal, bad)
    (tmp_path / "journal" / "main" / "000000000002.new").write_text("half made when the process was killed")
    with Journal(tmp_path) as journal:
        assert commit(journal, trade(1), now=HOUR) == 1
        assert commit(journal, trade(2), now=2 * HOUR) == 2
    assert ids(tmp_path) == [1, 2]


def test_gap_and_coverage_rows_commit_with_the_trades_that_they_speak_of(tmp_path):
    covered = Covered("binance", "BTCUSDT", Channel.TRADES, 1, 5, 10, 50)
    with Journal(tmp_path) as journal:
        commit(journal, trade(5), covered)
        (path,) = files(journal.folder)
        ((pos, *rest),) = read(path, "coverage")
    assert pos >> POSITIONS == 1
    assert rest == [1, 0, 1, 5, 10, 50]


@given(st.decimals(0, 10**18, places=9) | st.decimals(0, 10**20, places=0))
def test_mantissas_keep_every_digit(value):
    assert str(scaled(*mantissa(value))) == str(value)


@pytest.mark.parametrize(("text", "stored"), [
    ("0", 0), ("17", 17), ("9" * 18, int("9" * 18)), ("9" * 19, "9" * 19), ("007", "007"), ("", ""),
    ("+5", "+5"), ("1_0", "1_0"), (" 7", " 7"), ("-0", "-0"),
    ("20f43950-d8dd-5b31-9112-a178eb6023af", "20f43950-d8dd-5b31-9112-a178eb6023af"), ("٣", "٣"),
])
def test_ids_come_back_as_they_were(text, stored):
    assert identity(text) == stored
    assert str(identity(text)) == text


def test_a_22_digit_number_stays_exact(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1, size="1234567890123.123456789"))
        (row,) = read(files(journal.folder)[0], "trades")
    assert scaled(row[8], row[9] & 255) == D("1234567890123.123456789")


def test_every_table_is_strict(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1))
        with closing(open_readonly(files(journal.folder)[0])) as file:
            made = dict(file.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall())
    assert set(made) == set(TABLES)
    assert all(sql.endswith("STRICT") for sql in made.values())


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_journal import Journal, commit, trade
with Journal(Path(sys.argv[2])) as journal:
    number = journal.last_batch * 10
    while True:
        commit(journal, *[trade(number + n) for n in range(10)], now=journal.last_batch * 10**9 * 600)
        number += 10
        print(number, flush=True)
"""


@pytest.mark.parametrize("kills", [100 if os.environ.get("ONETAPE_LONG") else 8])
def test_kill_9_loses_no_committed_row_and_doubles_none(tmp_path, kills):
    """Killed after a random number of acknowledged commits: all of them are there, and at most one more batch."""
    acked = 0
    for kill in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, Path(__file__).parent, tmp_path], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(1 + kill * 7 % 23):
            acked = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        acked = int(rest[-1]) if rest and rest[-1].isdigit() else acked
        there = ids(tmp_path)
        assert there == list(range(len(there)))
        assert len(there) % 10 == 0
        assert len(there) >= acked
        acked = len(there)
