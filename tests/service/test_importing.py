"""An imported file is as if it had been collected: once, complete or not as it is, whatever happens on the way."""
import os
import signal
import subprocess
import sys
from collections import Counter
from decimal import Decimal as D
from pathlib import Path

import pytest
from msgspec import structs

from onetape.clock import MINUTE, SECOND
from onetape.errors import UsageError
from onetape.model import Channel, InstrumentId, Side, Source, Trade
from onetape.service.contradictions import Ids
from onetape.service.importing import check, keep
from onetape.service.keeper import Keeper
from onetape.service.seams import COMING, UNTOLD, seams
from onetape.storage.compaction import compact
from onetape.storage.completeness import completeness
from onetape.storage.formats import flat, history
from onetape.storage.formats.recognise import opened
from onetape.storage.formats.rows import Wanted
from onetape.storage.formats.tardis_csv import QUOTES
from onetape.storage.lake import Lake, Selection
from tests.storage.test_import import BOOKS, TRADES

TODAY = 1_760_000_000_000_000_000
START = 1_723_118_400 * SECOND  # 2024-08-08T12:00:00Z, a whole hour
BTC = InstrumentId("binance", "BTCUSDT")
TRADE = Trade(
    venue="binance", symbol="BTCUSDT", exchange_time=START, received_time=START, available_at=START,
    channel=Channel.TRADES, id="1", after=None, price=D("1.10"), size=D("2"), side=Side.BUY,
)


def trades(folder, first, last, *, exchange="binance", name="a.csv", start=START, every=SECOND):
    """Trades ``first`` to ``last``, one each second since ``start`` by their ids."""
    rows = [TRADES]
    for n in range(first, last + 1):
        us = (start + n * every) // 1_000
        side, price, size = "buy" if n % 2 else "sell", f"{100 + n % 7}.50", f"0.{n % 9 + 1}0"
        rows.append(f"{exchange},BTCUSDT,{us},{us + 3},{n},{side},{price},{size}")
    path = folder / name
    path.write_text("\n".join(rows) + "\n")
    return path


def brought(store, path, *, stopped=lambda: False, **more):
    file = opened(Wanted(path, TODAY, **more))
    found = check(file, lambda _: None, lambda: False)
    return keep(store, file, found, lambda _: None, stopped)


def state(store):
    with Lake(store) as lake:
        return (
            [(it.id, it.exchange_time, it.price, it.size, it.side) for it in lake.trades()],
            [(it.interval, it.end, it.open, it.close, it.volume, it.trades, it.complete) for it in lake.candles()],
            [(it.after, it.before, it.state) for it in lake.gaps()],
        )


def facts(store):
    with Lake(store) as lake:
        return completeness(lake, Selection())


# --- once -------------------------------------------------------------------------------------------------------------


def test_the_same_file_again_adds_nothing(tmp_path):
    path = trades(tmp_path, 1, 400)
    first = brought(tmp_path / "s", path)
    assert (first.events, first.new["trades"], first.instruments) == (400, 400, [BTC])
    before = state(tmp_path / "s")
    again = brought(tmp_path / "s", path)
    assert (again.events, again.new) == (400, Counter())
    assert state(tmp_path / "s") == before
    with Lake(tmp_path / "s") as lake:
        assert {it.source for it in lake.trades()} == {Source.BACKFILL}
        minutes = lake.candles(interval="1m")
    assert [it.trades for it in minutes] == [59, 60, 60, 60, 60, 60]
    assert [it.complete for it in minutes] == [False, True, True, True, True, True]
    assert facts(tmp_path / "s").complete


def test_books_quotes_and_candles_come_once_too(tmp_path):
    us = START // 1_000
    head = f"binance,BTCUSDT,{us}"
    books = [f"{head},{us + n},{'true' if n == 0 else 'false'},bid,{n + 1},1" for n in range(50)]
    quotes = [f"{head},{us + n // 2},1,2,1,1" for n in range(50)]
    klines = []
    for n in range(50):
        start = (START + n * MINUTE) // 10**6
        klines.append(f"{start},1,2,0.5,1.5,10,{start + 59_999},15,3,4,6,0")
    for table, count, rows in (  # of candles one file of the journal is begun, and not one for each hour
        ("book_deltas", 49, [BOOKS, *books]),
        ("quotes", 50, [QUOTES, *quotes]),
        ("candles", 50, klines),
    ):
        path = tmp_path / "BTCUSDT-1m-2024-08-08.csv"
        path.write_text("\n".join(rows) + "\n")
        assert brought(tmp_path / "s", path, venue="binance").new[table] == count
        assert brought(tmp_path / "s", path, venue="binance").new == Counter()
    assert len(list((tmp_path / "s" / "journal" / "main").glob("*.db"))) == 3


def test_what_was_collected_before_is_known(tmp_path):
    """A file that lies over what is there: only what is new of it comes."""
    brought(tmp_path / "s", trades(tmp_path, 100, 200))
    assert brought(tmp_path / "s", trades(tmp_path, 150, 300)).new["trades"] == 100
    assert brought(tmp_path / "s", trades(tmp_path, 50, 300)).new["trades"] == 50
    brought(tmp_path / "t", trades(tmp_path, 50, 300))
    assert state(tmp_path / "s")[0] == state(tmp_path / "t")[0]
    assert facts(tmp_path / "s").complete


# --- complete or not --------------------------------------------------------------------------------------------------


def test_ids_that_are_missing_in_a_file_are_a_gap_until_they_come(tmp_path):
    path = trades(tmp_path, 1, 400)
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[:150] + rows[160:]) + "\n")
    brought(tmp_path / "s", path)
    assert [(it.after, it.before, it.state) for it in facts(tmp_path / "s").gaps] == [("149", "160", "open")]
    brought(tmp_path / "s", trades(tmp_path, 150, 159))
    assert facts(tmp_path / "s").complete
    with Lake(tmp_path / "s") as lake:
        ours = [it.complete for it in lake.candles(interval="1m")]
    assert ours == [False, True, True, True, True, True]


def test_an_older_file_does_not_cost_a_row_of_coverage_for_each_trade(tmp_path):
    brought(tmp_path / "s", trades(tmp_path, 5_001, 5_100))
    assert brought(tmp_path / "s", trades(tmp_path, 1, 5_000, every=SECOND // 20)).new["coverage"] < 20


@pytest.mark.parametrize("first", ["older", "newer"])
def test_files_that_follow_one_another_are_one_tape_in_either_order(first, tmp_path):
    """Candles at the seam and behind it are complete, as they are of one long file."""
    older, newer = trades(tmp_path, 1, 5_000, name="a.csv"), trades(tmp_path, 5_001, 10_000, name="b.csv")
    for path in (older, newer) if first == "older" else (newer, older):
        brought(tmp_path / "s", path)
    brought(tmp_path / "t", trades(tmp_path, 1, 10_000, name="c.csv"))
    found, expected = state(tmp_path / "s"), state(tmp_path / "t")
    assert found[0] == expected[0]
    assert {it[2] for it in found[2]} <= {"healed"}
    assert expected[2] == []
    with Lake(tmp_path / "s") as mine, Lake(tmp_path / "t") as one:
        for interval in ("1m", "1h"):
            left, right = (
                [(it.end, it.volume, it.trades, it.complete) for it in lake.candles(interval=interval)]
                for lake in (mine, one))
            assert left == right
            assert all(it[3] for it in left[1:])


def test_where_ids_prove_nothing_the_seams_are_gaps(tmp_path):
    def bybit(first, last):
        return trades(tmp_path, first, last, exchange="bybit-spot")

    def told():
        return [(it.after, it.before) for it in facts(tmp_path / "s").gaps]

    brought(tmp_path / "s", bybit(1_000, 1_100))
    assert told() == []
    brought(tmp_path / "s", bybit(3_000, 3_100))
    assert told() == [("1100", "3000")]
    brought(tmp_path / "s", bybit(3_000, 3_100))
    brought(tmp_path / "s", bybit(10, 20))
    assert told() == [("20", "1000"), ("1100", "3000")]
    brought(tmp_path / "s", bybit(10, 20))
    brought(tmp_path / "s", bybit(1_000, 1_100))
    assert told() == [("20", "1000"), ("1100", "3000")]


@pytest.mark.parametrize("until", [1, 2, 3, 5])
def test_an_import_that_ends_in_front_of_what_is_stored_is_never_called_complete(until, tmp_path):
    """Where ids prove nothing; the same command goes on, and then only the seams are left."""
    def bybit(first, last):
        return trades(tmp_path, first, last, exchange="bybit-spot")

    def told():
        return {(it.after, it.before) for it in facts(tmp_path / "s").gaps}

    brought(tmp_path / "s", bybit(10_000, 10_100))
    path, asked = bybit(1, 6_000), iter([False] * until + [True] * 99)
    assert brought(tmp_path / "s", path, stopped=lambda: next(asked)).events == until * 1_000
    assert told() == {("1", "10000")}
    with Lake(tmp_path / "s") as lake:
        parts = [completeness(lake, Selection(start=START + at * SECOND, end=START + (at + 10) * SECOND))
                 for at in (100, until * 1_000 - 5, until * 1_000 + 50, 9_000, 10_050)]
        assert [it.complete for it in parts] == [False, False, False, False, True]
    assert brought(tmp_path / "s", path).new["trades"] == 6_000 - until * 1_000
    assert told() == {("6000", "10000")}
    assert brought(tmp_path / "s", path).new == Counter()
    brought(tmp_path / "s", bybit(5_000, 10_050))
    assert told() == set()
    brought(tmp_path / "t", bybit(1, 10_100))
    with Lake(tmp_path / "s") as mine, Lake(tmp_path / "t") as one:
        left, right = (
            [(it.end, it.volume, it.trades, it.complete) for it in lake.candles(interval="1m")] for lake in (mine, one))
    assert left == right


def test_a_file_over_a_part_of_a_seam_leaves_what_is_left_of_it(tmp_path):
    def bybit(first, last):
        return trades(tmp_path, first, last, exchange="bybit-spot")

    for first, last, left in (
        (1, 10, []), (100, 110, [("10", "100")]), (40, 50, [("10", "40"), ("50", "100")]),
        (30, 40, [("10", "30"), ("50", "100")]), (60, 60, [("10", "30"), ("50", "60"), ("60", "100")]),
        (5, 105, []),
    ):
        brought(tmp_path / "s", bybit(first, last))
        assert [(it.after, it.before) for it in facts(tmp_path / "s").gaps] == left


def test_the_next_trade_that_is_stored_is_found_without_reading_those_behind_it(tmp_path, monkeypatch):
    brought(tmp_path / "s", trades(tmp_path, 9_000, 12_000, exchange="bybit-spot"))
    first = structs.replace(TRADE, venue="bybit")
    loaded, real = [], Lake.trades

    def counted(lake, *asked):
        found = real(lake, *asked)
        loaded.append(len(found))
        return found

    monkeypatch.setattr(Lake, "trades", counted)
    for where in ("journal", "lake"):
        with Lake(tmp_path / "s") as lake:
            found = seams(lake, first, structs.replace(first, id="2", exchange_time=START + SECOND))
        assert [(it.after, it.before, it.cause) for it in found.before] == [("1", "9000", COMING)], where
        assert [(it.after, it.before, it.cause) for it in found.behind] == [("2", "9000", UNTOLD)], where
        compact(tmp_path / "s", TODAY)
    assert max(loaded) == 1


@pytest.mark.parametrize("exchange", ["binance", "bybit-spot"])
def test_trades_without_a_side_are_left_out_and_are_a_gap(exchange, tmp_path):
    path = trades(tmp_path, 1, 400, exchange=exchange)
    rows = path.read_text().splitlines()
    for at in (100, 101, 200):
        rows[at] = rows[at].replace("sell", "unknown").replace("buy", "unknown")
    path.write_text("\n".join(rows) + "\n")
    done = brought(tmp_path / "s", path)
    assert (done.events, done.left_out, done.new["trades"]) == (400, 3, 397)
    assert [(it.after, it.before) for it in facts(tmp_path / "s").gaps] == [("99", "102"), ("199", "201")]
    assert brought(tmp_path / "s", path).new == Counter()


def test_one_id_with_two_trades_in_a_file_refuses_it(tmp_path):
    path = trades(tmp_path, 1, 400)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows, rows[399]]) + "\n")
    assert brought(tmp_path / "s", path).new["trades"] == 400
    price, size, time = (rows[399].replace(*it) for it in ((".50,", ".51,"), (",0.", ",1."), ("172311", "172310")))
    for row in (price, size, time):
        path.write_text("\n".join([*rows, row]) + "\n")
        with pytest.raises(UsageError, match="line 402: the id 399 has another trade before"):
            brought(tmp_path / "t", path)
    assert not (tmp_path / "t").exists()


def test_ids_are_remembered_within_bounds(monkeypatch):
    monkeypatch.setattr("onetape.service.contradictions.REMEMBERED", 10)
    ids, price = Ids(), D("1.10")
    made = [structs.replace(TRADE, id=str(n), price=price) for n in range(100)]
    assert not any(ids.contradicts(it) for it in made)
    other = [structs.replace(it, price=D("1.11")) for it in made]
    assert [ids.contradicts(it) for it in (other[99], other[91], other[50])] == [True, True, False]


@pytest.mark.parametrize("exchange", ["binance", "bybit-spot"])
@pytest.mark.parametrize("where", ["journal", "lake"])
def test_what_contradicts_the_store_is_counted_and_the_store_stays(exchange, where, tmp_path):
    path = trades(tmp_path, 1, 12_000, exchange=exchange, every=SECOND // 20)
    assert brought(tmp_path / "s", path).contradicted == 0
    if where == "lake":
        compact(tmp_path / "s", TODAY)
    before = state(tmp_path / "s")
    assert brought(tmp_path / "s", path).contradicted == 0
    text = path.read_text()
    path.write_text(text.replace("106.50", "116.50"))
    done = brought(tmp_path / "s", path)
    assert (done.contradicted, done.new) == (text.count("106.50"), Counter())
    assert " 6 is sell 0.70 at 106.50 in the store, and sell 0.70 at 116.50 in the file" in done.contradiction
    assert state(tmp_path / "s")[0] == before[0]


def test_a_venue_of_ones_own_is_kept_and_leaves_again(tmp_path):
    brought(tmp_path / "s", trades(tmp_path, 1, 90, exchange="bitmex"), venue="bitmex")
    with Lake(tmp_path / "s") as lake, lake.connect() as duck:
        assert {(it.venue, it.after) for it in lake.trades()} == {("bitmex", None)}
        flat.prepare(duck)
        assert flat.write(duck, "trades", Selection(), tmp_path / "a.csv", csv=True) == 90
    with Lake(tmp_path / "s") as lake:
        assert lake.verify() == []


@pytest.mark.parametrize("first", [Channel.TRADES, Channel.AGG_TRADES])
def test_trades_beside_aggregates_of_the_same_instrument_are_refused(first, tmp_path):
    """And the file that fits comes as if nobody had tried."""
    second = Channel.AGG_TRADES if first is Channel.TRADES else Channel.TRADES
    older, newer = trades(tmp_path, 1, 90, name="a.csv"), trades(tmp_path, 91, 400, name="b.csv")
    brought(tmp_path / "s", older, channel=first)
    before = state(tmp_path / "s")
    with pytest.raises(UsageError, match=f"is kept as {first} in this store: import its {second} into another one"):
        brought(tmp_path / "s", newer, channel=second)
    assert state(tmp_path / "s") == before
    assert brought(tmp_path / "s", trades(tmp_path, 1, 9, exchange="okex"), channel=second).new["trades"] == 9
    brought(tmp_path / "s", newer, channel=first)
    brought(tmp_path / "t", trades(tmp_path, 1, 400), channel=first)
    with Lake(tmp_path / "s") as mine, Lake(tmp_path / "t") as one:
        left, right = (
            [(it.end, it.trades, it.complete) for it in lake.candles(Selection(venue="binance"), interval="1m")]
            for lake in (mine, one))
    assert left == right


@pytest.mark.parametrize("layout", ["books", "klines", "one trade"])
def test_whatever_came_first_of_an_instrument_the_candles_of_its_trades_are_all_there(layout, tmp_path):
    us, path = START // 1_000, tmp_path / "BTCUSDT-1m-2024-08-08.csv"
    match layout:
        case "books":
            path.write_text(f"{BOOKS}\nbinance,BTCUSDT,{us},{us},true,bid,1,1\n")
        case "klines":
            path.write_text(f"{us // 1_000},1,2,0.5,1.5,10,{us // 1_000 + 59_999},15,3,4,6,0\n")
        case _:
            path = trades(tmp_path, 1, 1)
    brought(tmp_path / "s", path, venue="binance")
    path = trades(tmp_path, 1, 400)
    brought(tmp_path / "s", path)
    brought(tmp_path / "t", path)
    with Lake(tmp_path / "s") as mine, Lake(tmp_path / "t") as one:
        left, right = (
            [(it.interval, it.end, it.volume, it.trades, it.complete) for it in lake.candles()] for lake in (mine, one))
    assert left == right


def test_a_book_that_was_imported_is_unbroken(tmp_path):
    us = START // 1_000
    path = tmp_path / "a.csv"
    head = f"binance,BTCUSDT,{us}"
    rows = [f"{head},{us + n * 10**6},{'true' if n in (0, 30) else 'false'},bid,{n + 1},1" for n in range(60)]
    path.write_text("\n".join([BOOKS, *rows]) + "\n")
    done = brought(tmp_path / "s", path)
    assert (done.new["book_snapshots"], done.new["book_deltas"], done.new["feed_status"]) == (2, 58, 2)
    with Lake(tmp_path / "s") as lake, lake.connect() as duck:
        history.prepare_books(duck, Selection())
        assert [it.snapshot for it in history.books(duck, Selection())] == [n in (0, 30) for n in range(60)]


# --- whatever happens -------------------------------------------------------------------------------------------------


def test_of_a_file_with_a_bad_row_nothing_is_stored(tmp_path):
    path = trades(tmp_path, 1, 30_000, every=SECOND // 20)
    path.write_text(path.read_text() + "binance,BTCUSDT,x\n")
    with pytest.raises(UsageError, match="line 30002: 3 columns, not 8"):
        brought(tmp_path / "s", path)
    assert not (tmp_path / "s").exists()


def test_a_file_that_goes_bad_while_it_is_imported_stops_it_and_what_came_is_whole(tmp_path):
    path = trades(tmp_path, 1, 20_000, every=SECOND // 20)
    file = opened(Wanted(path, TODAY))
    found = check(file, lambda _: None, lambda: False)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:15_000], "rubbish"]) + "\n")
    with pytest.raises(UsageError, match="line 15001: 1 columns"):
        keep(tmp_path / "s", file, found, lambda _: None, lambda: False)
    with Lake(tmp_path / "s") as lake:
        assert len(lake.trades()) == 14_999
        assert lake.verify() == []
    brought(tmp_path / "s", trades(tmp_path, 1, 20_000, every=SECOND // 20))
    brought(tmp_path / "t", trades(tmp_path, 1, 20_000, every=SECOND // 20))
    assert state(tmp_path / "s")[0] == state(tmp_path / "t")[0]


def test_who_stops_it_keeps_what_came_and_the_same_command_goes_on(tmp_path):
    path = trades(tmp_path, 1, 20_000, every=SECOND // 20)
    asked = iter([False] * 8 + [True] * 1_000)
    assert brought(tmp_path / "s", path, stopped=lambda: next(asked)).events == 8_000
    assert brought(tmp_path / "s", path).new["trades"] == 12_000
    brought(tmp_path / "t", path)
    assert state(tmp_path / "s")[0] == state(tmp_path / "t")[0]
    assert facts(tmp_path / "s").complete


KILLED = """
import os, signal, sys, time
from pathlib import Path
from onetape.storage.lake import Lake
from onetape.service.importing import check, keep
from onetape.storage.formats.recognise import opened
from onetape.storage.formats.rows import Wanted

file = opened(Wanted(Path(sys.argv[2]), int(sys.argv[3])))
found = check(file, lambda _: None, lambda: False)
looks = iter(range(int(sys.argv[4])))
store = Path(sys.argv[1])

def committed():
    if not any(store.glob("journal/main/*.db")):
        return 0
    with Lake(store) as lake:
        return lake.count("trades")

before = committed()

def stopped():
    if next(looks, None) is None:
        while committed() == before:  # another thread does it
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    return False

keep(store, file, found, lambda _: None, stopped)
"""


def test_killed_again_and_again_it_comes_to_the_same_end(tmp_path):
    path = trades(tmp_path, 1, 30_000, every=SECOND // 20)
    for looks in (3, 12, 28):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, tmp_path / "s", path, str(TODAY), str(looks)], check=False, timeout=120,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")})
        assert done.returncode == -signal.SIGKILL
    last = brought(tmp_path / "s", path)
    assert last.events == 30_000
    assert last.new["trades"] < 30_000
    brought(tmp_path / "t", path)
    assert state(tmp_path / "s")[0] == state(tmp_path / "t")[0]
    assert facts(tmp_path / "s").complete
    with Lake(tmp_path / "s") as lake:
        assert lake.verify() == []


def test_killed_in_front_of_what_is_stored_it_is_not_called_complete(tmp_path):
    """Where ids prove nothing."""
    brought(tmp_path / "s", trades(tmp_path, 40_000, 40_010, exchange="bybit-spot"))
    path = trades(tmp_path, 1, 6_000, exchange="bybit-spot")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "s", path, str(TODAY), "3"], check=False, timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")})
    assert done.returncode == -signal.SIGKILL
    with Lake(tmp_path / "s") as lake:
        assert 11 < lake.count("trades") < 6_011
    assert [(it.after, it.before) for it in facts(tmp_path / "s").gaps] == [("1", "40000")]
    brought(tmp_path / "s", path)
    assert [(it.after, it.before) for it in facts(tmp_path / "s").gaps] == [("6000", "40000")]


def test_beside_a_writer_it_is_refused(tmp_path):
    path = trades(tmp_path, 1, 5)
    with Keeper(tmp_path / "s"), pytest.raises(UsageError, match="another writer"):
        brought(tmp_path / "s", path)


def test_a_file_without_rows_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"{TRADES}\n")
    with pytest.raises(UsageError, match="holds no row"):
        brought(tmp_path / "s", path)
