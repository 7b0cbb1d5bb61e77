"""What was committed is there, in order, once, whatever happens to the writer."""
import os
import signal
import subprocess
import sys
from contextlib import closing
from decimal import Decimal as D
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetape.clock import HOUR
from onetape.errors import UsageError
from onetape.model import Channel, FeedStatus, Quote, Side, Source, Ticker, Trade, TrustState
from onetape.storage.journal import POSITIONS, Journal, files, open_readonly, read, writers
from onetape.storage.schema import TABLES, exact, identity, mantissa
from onetape.tape.coverage import Covered

HEAD = {"venue": "binance", "symbol": "BTCUSDT", "received_time": 2, "available_at": 3}


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
        nothing = dict.fromkeys(
            ("last", "price_change", "price_change_percent", "high", "low", "volume", "quote_volume"))
        commit(journal, Ticker(**HEAD, exchange_time=1, **nothing), trade(1))
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
    assert str(exact(*mantissa(value))) == str(value)


@pytest.mark.parametrize(("text", "stored"), [
    ("0", 0), ("17", 17), ("9" * 18, int("9" * 18)), ("9" * 19, "9" * 19), ("007", "007"), ("", ""),
    ("20f43950-d8dd-5b31-9112-a178eb6023af", "20f43950-d8dd-5b31-9112-a178eb6023af"), ("٣", "٣"),
])
def test_ids_come_back_as_they_were(text, stored):
    assert identity(text) == stored
    assert str(identity(text)) == text


def test_a_22_digit_number_stays_exact(tmp_path):
    with Journal(tmp_path) as journal:
        commit(journal, trade(1, size="1234567890123.123456789"))
        (row,) = read(files(journal.folder)[0], "trades")
    assert exact(row[8], row[9] & 255) == D("1234567890123.123456789")


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
