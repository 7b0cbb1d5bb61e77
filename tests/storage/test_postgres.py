"""PostgreSQL has what the journal has, exactly, once and in order, whatever happens to either of the two."""
import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal as D

import pytest
from msgspec import structs

from onetape.clock import HOUR, SECOND
from onetape.errors import UsageError
from onetape.model import Channel, Quote, Side, Trade
from onetape.service import followed, wiring
from onetape.service.follow import Follow
from onetape.storage import following
from onetape.storage.catalog import open_catalog
from onetape.storage.compaction import compact
from onetape.storage.following import identity, next_portion
from onetape.storage.journal import Journal, end_of, files
from onetape.storage.lake import Lake
from onetape.storage.postgres.schema import TABLES
from onetape.storage.postgres.store import Moved, Postgres
from tests.postgres import server

NOW = 1_760_000_000_000_000_000


@pytest.fixture(scope="module")
def postgres():
    with server() as it:
        yield it


def trade(number, price="1.10", size="2", symbol="BTCUSDT", at=None, **more):
    at = NOW + number * 1_000_003 if at is None else at
    return structs.replace(Trade(
        venue="binance", symbol=symbol, received_time=at, available_at=at, exchange_time=at,
        channel=Channel.TRADES, id=str(number), after=number - 1, price=D(price), size=D(size), side=Side.SELL,
    ), **more)


def write(store, *batches, writer="main", now=NOW, pair="BTC-USDT"):
    """Each argument a batch of records; the file ends with them."""
    with Journal(store, writer, pair_of=lambda *_: pair) as journal:
        for number, records in enumerate(batches):
            for it in records:
                journal.add(it)
            journal.commit(journal.take(now + number))


def brought(store, url, clock=lambda: NOW):
    """Follows until nothing waits."""
    async def go():
        stop = asyncio.Event()
        stop.set()
        it = Follow(store, url, clock=clock, tell=lambda _: None)
        await it.run(stop)
        return it.now
    return asyncio.run(go())


def counted(postgres, url):
    return {table: postgres.execute(f"SELECT count(*) FROM onetape.{table}", url=url)[0][0] for table in TABLES}


def held(store):
    with Lake(store) as lake:
        return {table: lake.count(table) for table in TABLES}


def test_every_kind_of_event_comes_as_it_was(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, wiring.PROBES)
    now = brought(tmp_path, url)
    assert (now.state, now.waiting, now.failures) == ("following", 0, 0)
    assert counted(postgres, url) == held(tmp_path) == dict.fromkeys(TABLES, 1)
    ((text, reason),) = postgres.execute("SELECT text, reason FROM onetape.quarantine", url=url)
    assert (text, reason) == ("\ufffd\t\n\\ ' \" \ufffd", "a probe")
    ((reason,),) = postgres.execute("SELECT reason FROM onetape.feed_status", url=url)
    assert reason == "a\tprobe\\n"
    ((book,),) = postgres.execute("SELECT book->'bids' FROM onetape.book_deltas", url=url)
    assert json.loads(book) == [["1.10", "1.10"]]
    ((pair, start, complete, vwap),) = postgres.execute(
        "SELECT pair, start, complete, vwap FROM onetape.market_data", url=url)
    assert (pair, start, complete, str(vwap)) == ("BTC-USDT", wiring.AT, True, "1.10")


DIGITS = [
    "1.10", "0.00000001", "60000.00000000", "1", "100", "12345678901234567890.123456789012345678", "0.1000",
    "9223372036854775807", "9223372036854775808.5", "0.000000000000000000000000000000000001",
]


@pytest.mark.parametrize("number", DIGITS)
def test_numbers_have_the_digits_of_the_wire(postgres, tmp_path, number):
    url = postgres.database()
    quote = Quote(venue="okx", symbol="X", exchange_time=1, received_time=1, available_at=1, bid=(D(number), D(1)),
                  ask=None)
    write(tmp_path, [trade(1, price=number, size=number), quote])
    brought(tmp_path, url)
    ((price, size),) = postgres.execute("SELECT price::text, size::text FROM onetape.trades", url=url)
    assert (price, size) == (number, number)
    ((bid, ask),) = postgres.execute("SELECT bid_price::text, ask_price FROM onetape.quotes", url=url)
    assert (bid, ask) == (number, None)


TEXTS = ["a\\b", "\\N", "\\.", "a\tb\nc\rd", "'; DROP TABLE trades; --", "\x00", "ü\U0001f600", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_only_texts(postgres, tmp_path, text):
    url = postgres.database()
    write(tmp_path, [trade(1, id=text or "e", symbol=text or "e", after=None)])
    brought(tmp_path, url)
    expected = (text or "e").replace("\0", "\ufffd")
    assert postgres.execute("SELECT symbol, id FROM onetape.trades", url=url) == [(expected, expected)]


def test_each_portion_once_however_often_it_is_brought(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, *([trade(n)] for n in range(1, 30)))
    assert brought(tmp_path, url).stored["trades"] == 29
    assert brought(tmp_path, url).stored == {}
    write(tmp_path, [trade(30)])
    assert brought(tmp_path, url).stored == {"trades": 1}
    ids = postgres.execute("SELECT id::int FROM onetape.trades ORDER BY pos", url=url)
    assert ids == [(n,) for n in range(1, 31)]


def test_a_store_that_begins_anew_in_the_same_folder_is_another_one(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path / "store", [trade(1)], [trade(2)])
    brought(tmp_path / "store", url)
    shutil.rmtree(tmp_path / "store")
    write(tmp_path / "store", [trade(3)])
    brought(tmp_path / "store", url)
    assert counted(postgres, url)["trades"] == 3


def test_trades_that_two_stores_have_are_there_once(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path / "one", [trade(n) for n in range(1, 50)])
    write(tmp_path / "other", [trade(n) for n in range(40, 90)], [trade(90)])
    brought(tmp_path / "one", url)
    brought(tmp_path / "other", url)
    ids = postgres.execute("SELECT id::int FROM onetape.trades ORDER BY 1", url=url)
    assert ids == [(n,) for n in range(1, 91)]


def test_each_month_has_its_partition(postgres, tmp_path):
    url = postgres.database()
    december = 1_765_000_000_000_000_000
    times = {1: NOW, 2: december, 3: december + 20 * 24 * HOUR * 2, 4: 1, 5: 1_767_225_599_999_999_999}
    write(tmp_path, [trade(number, at=at) for number, at in times.items()])
    brought(tmp_path, url)
    found = postgres.execute(
        "SELECT tableoid::regclass::text, id::int FROM onetape.trades ORDER BY 2", url=url)
    assert [name.removeprefix("onetape.") for name, _ in found] == [
        "trades_2025_10", "trades_2025_12", "trades_2026_01", "trades_1970_01", "trades_2025_12"]


def test_several_writers_each_in_their_order(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, *([trade(n)] for n in range(1, 9)))
    write(tmp_path, *([trade(n, symbol="ETHUSDT")] for n in range(1, 6)), writer="second")
    assert brought(tmp_path, url).positions.keys() == {"main", "second"}
    assert counted(postgres, url)["trades"] == 13


def test_over_files_of_many_hours_and_in_small_portions(postgres, tmp_path, monkeypatch):
    url = postgres.database()
    monkeypatch.setattr(following.next_portion, "__defaults__", (5,))
    for hour in range(4):
        write(tmp_path, *([trade(hour * 100 + n) for n in range(k)] for k in range(1, 7)), now=NOW + hour * HOUR)
    assert len(files(tmp_path / "journal" / "main")) == 4
    brought(tmp_path, url)
    # the ids of the batches of an hour overlap: each is there once
    assert counted(postgres, url)["trades"] == 4 * 6


def test_two_that_begin_at_once_make_one_schema(postgres, tmp_path):
    url = postgres.database()

    async def go():
        async def one():
            async with Postgres(url) as it:
                return await it.counts("none")
        return await asyncio.gather(*(one() for _ in range(6)))

    assert asyncio.run(go()) == [dict.fromkeys(TABLES, 0)] * 6


def test_two_that_follow_one_store_bring_each_row_once(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, *([trade(n)] for n in range(1, 200)))

    async def go():
        stop = asyncio.Event()
        stop.set()
        both = [Follow(tmp_path, url, clock=lambda: NOW, tell=lambda _: None) for _ in range(2)]
        await asyncio.gather(*(it.run(stop) for it in both))
        return sum(it.now.stored.get("trades", 0) for it in both)

    assert asyncio.run(go()) == 199
    assert counted(postgres, url)["trades"] == 199


def test_a_position_that_has_gone_on_is_not_written_again(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)])

    async def go():
        async with Postgres(url) as it:
            origin = await it.origin(identity(tmp_path), "main")
            portion = next_portion(tmp_path, "main", 0)
            await it.write(portion, origin)
            with pytest.raises(Moved):
                await it.write(portion, origin)

    asyncio.run(go())
    assert counted(postgres, url)["trades"] == 1


def test_the_probe_leaves_nothing_behind(postgres):
    url = postgres.database()

    async def go():
        async with Postgres(url) as it:
            with wiring.probe() as portion:
                return await it.probe(portion)

    assert asyncio.run(go()) == dict.fromkeys(TABLES, 1)
    assert set(counted(postgres, url).values()) == {0}
    assert postgres.execute("SELECT count(*) FROM onetape.origins", url=url) == [(0,)]
    assert postgres.execute("SELECT count(*) FROM pg_inherits", url=url) == [(0,)]


def test_the_journal_stays_until_it_is_brought(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)], now=NOW - 100 * HOUR)
    write(tmp_path, [trade(2)], now=NOW - 90 * HOUR)
    write(tmp_path, [trade(3)], now=NOW)
    with open_catalog(tmp_path) as catalog:
        catalog.register(followed.READER)
    compact(tmp_path, NOW, keep_journal_ns=0)
    assert len(files(tmp_path / "journal" / "main")) == 3
    brought(tmp_path, url)
    compact(tmp_path, NOW + HOUR, keep_journal_ns=0)
    assert len(files(tmp_path / "journal" / "main")) == 1
    assert counted(postgres, url)["trades"] == 3


# --- the server goes away --------------------------------------------------------------------------------------------


def test_what_comes_while_the_server_is_away_is_there_when_it_is_back(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)])
    states = []

    async def go():
        stop = asyncio.Event()
        it = Follow(tmp_path, url, clock=lambda: NOW, tell=lambda now: states.append((now.state, now.waiting)))
        running = asyncio.create_task(it.run(stop))
        await until(lambda: ("following", 0) in states)
        await asyncio.to_thread(postgres.stop)
        with Journal(tmp_path) as journal:
            for number in range(2, 500):
                journal.add(trade(number))
                journal.commit(journal.take(NOW + number))
            await until(lambda: states[-1][0] == "away" and states[-1][1] > 0)
            await asyncio.to_thread(postgres.start)
            await until(lambda: states[-1] == ("following", 0))
        stop.set()
        await running
        return it.now

    now = asyncio.run(go())
    assert now.stored == {"trades": 499}
    assert postgres.execute("SELECT id::int FROM onetape.trades ORDER BY pos", url=url) == [(n,) for n in range(1, 500)]


async def until(holds):
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_who_is_asked_to_stop_while_the_server_is_away_stops(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)])
    brought(tmp_path, url)
    write(tmp_path, [trade(2)])
    postgres.stop()
    try:
        now = brought(tmp_path, url)
    finally:
        postgres.start()
    assert (now.state, now.waiting) == ("away", 1)
    assert "cannot be reached" in now.reason
    assert brought(tmp_path, url).waiting == 0


SCRIPT = "import sys; from onetape.cli.main import main; sys.argv[0] = 'onetape'; main()"


def following_process(store, url):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "storage", "follow", "--store", str(store)],
        env={**os.environ, "ONETAPE_POSTGRES": url}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("seed", range(100 if os.environ.get("ONETAPE_LONG") else 6))
def test_killed_at_any_moment_it_goes_on_with_each_row_once(postgres, tmp_path, seed):
    url, dice = postgres.database(), random.Random(seed)
    total, done = 60_000, 0
    process = None
    try:
        with Journal(tmp_path, pair_of=lambda *_: "BTC-USDT") as journal:
            while done < total:
                if process is None or process.poll() is not None:
                    process = following_process(tmp_path, url)
                for number in range(done, done + 3_000):
                    journal.add(trade(number))
                done += 3_000
                journal.commit(journal.take(NOW + done))
                if dice.random() < 0.3:
                    time.sleep(dice.random() * 1.5)  # the moment of the kill is what chance decides
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
    finally:
        if process is not None:
            process.kill()
            process.communicate()
    brought(tmp_path, url)
    assert counted(postgres, url) == held(tmp_path)
    ((rows, ids, ordered),) = postgres.execute(
        "SELECT count(*), count(DISTINCT id), bool_and(ordered) FROM (SELECT id, id::int > coalesce(lag(id::int)"
        " OVER (ORDER BY pos), -1) AS ordered FROM onetape.trades) AS it", url=url)
    assert (rows, ids, ordered) == (total, total, True)


LONG = random.Random(1).randbytes(4_500).hex()  # which no compression makes short


@pytest.mark.parametrize("row", [trade(2, id=LONG), trade(2, symbol=LONG)], ids=["id", "symbol"])
def test_a_row_that_no_table_takes_holds_nothing_up(postgres, tmp_path, row):
    url = postgres.database()
    write(tmp_path, [trade(1), row, trade(3)], [trade(4)])
    now = brought(tmp_path, url)
    assert (now.state, now.waiting, now.refused) == ("following", 0, 1)
    assert postgres.execute("SELECT id::int FROM onetape.trades ORDER BY pos", url=url) == [(1,), (3,), (4,)]
    ((table, line, reason),) = postgres.execute("SELECT tbl, line, reason FROM onetape.refused", url=url)
    assert (table, LONG.encode() in line) == ("trades", True)
    assert "index row" in reason


def test_a_damaged_journal_is_never_called_stored(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(n) for n in range(1, 100)], [trade(100)])
    (path,) = files(tmp_path / "journal" / "main")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM trades WHERE id BETWEEN 10 AND 50")
    now = brought(tmp_path, url)
    assert (now.state, now.waiting) == ("away", 100)
    assert "its batches tell of 100 rows of trades, it has 59: see onetape storage verify" in now.reason
    assert counted(postgres, url)["trades"] == 0


def test_a_store_that_was_put_back_from_a_copy_is_refused(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path / "s", [trade(1)], [trade(2)])
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    brought(tmp_path / "s", url)
    shutil.copy(tmp_path / "s" / "identity", tmp_path / "copy" / "identity")
    brought(tmp_path / "copy", url)  # it is as far as the other one
    write(tmp_path / "s", [trade(3)], now=NOW + 5)
    brought(tmp_path / "s", url)
    write(tmp_path / "copy", [trade(4)], now=NOW + 7)
    now = brought(tmp_path / "copy", url)
    assert now.state == "away"
    assert "was put back from an older copy: PostgreSQL has batches of it that it lacks: remove" in now.reason
    assert counted(postgres, url)["trades"] == 3


def test_batches_that_were_on_their_way_never_get_their_numbers_again(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)])
    brought(tmp_path, url)
    with open_catalog(tmp_path) as catalog:  # as it is when the power goes between commit and catalog
        catalog.advance(followed.SENT, "main", end_of(7))
    write(tmp_path, [trade(2)])
    (_, path) = files(tmp_path / "journal" / "main")
    assert int(path.stem) == 8


def test_a_database_that_is_made_anew_gets_all_that_the_journal_has(postgres, tmp_path):
    url, other = postgres.database(), postgres.database()
    for number in range(1, 4):
        write(tmp_path, [trade(number)], now=NOW - (100 - number) * HOUR)
    brought(tmp_path, url)
    with open_catalog(tmp_path) as catalog:
        assert catalog.readers()[followed.READER]["main"] == end_of(3)

    it = Follow(tmp_path, other, clock=lambda: NOW, tell=lambda _: None)
    it._identity = identity(tmp_path)
    it._register()

    async def first():
        async with Postgres(other) as database:
            return await it._begin(database, "main")
    assert asyncio.run(first()).position == 0
    compact(tmp_path, NOW, keep_journal_ns=0)  # in the middle of it
    assert brought(tmp_path, other).stored == {"trades": 3}


@pytest.mark.parametrize("at", [-5, -(1 << 63) + SECOND, (1 << 63) - 1, 0])
def test_an_absurd_time_stops_nothing(postgres, tmp_path, at):
    url = postgres.database()
    write(tmp_path, [trade(1, at=at, received_time=1, available_at=1), trade(2)])
    assert brought(tmp_path, url).waiting == 0
    assert counted(postgres, url)["trades"] == 2


def test_symbols_without_a_pair_are_in_the_views(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)], pair="")
    brought(tmp_path, url)
    assert postgres.execute("SELECT pair FROM onetape.raw_trades", url=url) == [("BTCUSDT",)]


def test_many_rows_beside_one_that_no_table_takes(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(n, id=LONG if n == 7_000 else str(n)) for n in range(1, 15_000)])
    now = brought(tmp_path, url)
    assert (now.refused, now.waiting, counted(postgres, url)["trades"]) == (1, 0, 14_998)


def test_who_is_forgotten_holds_back_no_file(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)], now=NOW - 100 * HOUR)
    brought(tmp_path, url)
    write(tmp_path, [trade(2)], now=NOW - 90 * HOUR)
    write(tmp_path, [trade(3)])
    compact(tmp_path, NOW, keep_journal_ns=0)
    assert len(files(tmp_path / "journal" / "main")) == 2
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "storage", "follow", "--store", tmp_path, "--forget"], capture_output=True,
        text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    compact(tmp_path, NOW, keep_journal_ns=0)
    assert len(files(tmp_path / "journal" / "main")) == 1


# --- what a human has to mend ----------------------------------------------------------------------------------------


def refused(store, url, match, kind=UsageError):
    async def go():
        stop = asyncio.Event()
        stop.set()
        await Follow(store, url, clock=lambda: NOW, tell=lambda _: None).run(stop)
    with pytest.raises(kind, match=match) as caught:
        asyncio.run(go())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_newer_schema_is_refused(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)])
    brought(tmp_path, url)
    postgres.execute("INSERT INTO onetape.migrations VALUES (99)", "SELECT 1", url=url)
    refused(tmp_path, url, "written by a newer OneTape: schema 99, this one writes 1")


def test_who_may_not_create_is_told_what_to_grant(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)])
    name = f"poor_{os.getpid()}"
    postgres.execute(f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name} LOGIN PASSWORD 'secret'", "SELECT 1")
    poor = url.replace("postgres:@", f"{name}:secret@")
    said = refused(tmp_path, poor, "permission denied for database .*GRANT CREATE ON DATABASE")
    assert "secret" not in said


def test_a_database_that_is_not_there_is_named(postgres, tmp_path):
    write(tmp_path, [trade(1)])
    url = postgres.url.replace("/postgres?", "/nowhere?")
    refused(tmp_path, url, 'database "nowhere" does not exist: create it')


@pytest.mark.parametrize("url", ["postgresql://localhost:99999999/x", "postgresql://u@h:abc/x"])
def test_an_address_that_is_none_is_said(tmp_path, url):
    write(tmp_path, [trade(1)])
    refused(tmp_path, url, "is no address of PostgreSQL")


def test_where_nobody_listens_is_waited_for(tmp_path):
    write(tmp_path, [trade(1)])
    now = brought(tmp_path, "postgresql://u:secret@127.0.0.1:1/x")
    assert (now.state, now.waiting) == ("away", 1)
    assert "secret" not in now.reason
    assert "cannot be reached" in now.reason


def test_a_table_that_is_gone_for_a_while_loses_nothing(postgres, tmp_path):
    url = postgres.database()
    write(tmp_path, [trade(1)])
    brought(tmp_path, url)
    states = []

    async def go():
        stop = asyncio.Event()
        it = Follow(tmp_path, url, clock=lambda: NOW, tell=lambda now: states.append((now.state, now.reason)))
        running = asyncio.create_task(it.run(stop))
        await until(lambda: states and states[-1][0] == "following")
        await asyncio.to_thread(
            postgres.execute, "ALTER TABLE onetape.trades RENAME TO other", "SELECT 1", url=url)
        write(tmp_path, [trade(2)])
        await until(lambda: states[-1][0] == "away")
        await asyncio.to_thread(
            postgres.execute, "ALTER TABLE onetape.other RENAME TO trades", "SELECT 1", url=url)
        await until(lambda: states[-1][0] == "following")
        stop.set()
        await running

    asyncio.run(go())
    assert any('relation "trades" does not exist' in reason for _, reason in states)
    assert counted(postgres, url)["trades"] == 2
