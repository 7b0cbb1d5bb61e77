"""What is too old or too large leaves the lake by whole days; that it was there stays known."""
import signal
import sqlite3
from contextlib import closing

import pytest
from msgspec import structs

from onetape.candles.series import StaleRange
from onetape.clock import DAY, HOUR, MINUTE
from onetape.errors import UsageError
from onetape.model import Channel, InstrumentId
from onetape.service.keeper import Keeper
from onetape.storage.catalog import open_catalog
from onetape.storage.compaction import alone, compact, end_of
from onetape.storage.completeness import completeness
from onetape.storage.journal import files
from onetape.storage.lake import Lake, Selection
from onetape.storage.restore import Stored, rebuild
from onetape.storage.retention import TABLES, Limit, planned, prune
from onetape.tape.coverage import Covered, Interval
from tests.storage.test_compaction import ids, in_process, parquet
from tests.storage.test_lake import BTC, ETH, T0, candle, gap, others, snapshot, store_of, trade

DAYS = 10
MIDNIGHT = T0 - T0 % DAY
NOW = MIDNIGHT + DAYS * DAY + HOUR
"""An hour into the eleventh day."""
TIMES = ("exchange_time", "received_time", "available_at", "start", "end")
BYBIT = InstrumentId("bybit", "BTCUSDT")


def covered(first, last):
    return Covered(*BTC, Channel.TRADES, first, last, MIDNIGHT + first * DAY, MIDNIGHT + last * DAY + HOUR)


def ten_days(store, *more):
    """A file of the journal for each day, with two trades, all compacted; the ids of a day n are 2n and 2n + 1."""
    days = [
        [trade(2 * day, time=MIDNIGHT + day * DAY), trade(2 * day + 1, time=MIDNIGHT + day * DAY + HOUR),
         Covered(*BTC, Channel.TRADES, 2 * day, 2 * day + 1, MIDNIGHT + day * DAY, MIDNIGHT + day * DAY + HOUR),
         *(make(day) for make in more)]
        for day in range(DAYS)
    ]
    store_of(store, *days)
    assert compact(store, NOW).refused == []


def dates(store, table="trades"):
    return sorted({it.parts[-4].removeprefix("date=") for it in parquet(store) if f"/lake/{table}/" in str(it)})


def sound(store):
    with Lake(store) as lake:
        assert lake.verify() == []


# --- what goes, and when ----------------------------------------------------------------------------------------------


def test_days_that_are_older_go_and_their_files_an_hour_later(tmp_path):
    ten_days(tmp_path)
    before = parquet(tmp_path)
    limits = {"trades": Limit(age_ns=7 * DAY)}
    (plan,) = planned(tmp_path, NOW, limits).removals
    assert (plan.table, plan.rows, plan.dates) == ("trades", 6, ("2025-10-09", "2025-10-11"))
    assert ids(tmp_path) == list(range(20))  # it was only said
    (done,) = prune(tmp_path, NOW, limits).removals
    assert done == plan
    assert ids(tmp_path) == list(range(6, 20))
    assert parquet(tmp_path) == before  # who reads them may go on
    assert prune(tmp_path, NOW + HOUR - 1, limits).removed == 0
    assert prune(tmp_path, NOW + HOUR, limits).removed == 3
    assert dates(tmp_path)[0] == "2025-10-12"
    assert not (tmp_path / "lake/trades/date=2025-10-09/venue=binance/pair=BTCUSDT").exists()
    sound(tmp_path)


def test_a_day_goes_when_all_of_it_is_older(tmp_path):
    ten_days(tmp_path)
    limit = {"trades": Limit(age_ns=2 * DAY)}
    assert prune(tmp_path, MIDNIGHT + 3 * DAY - 1, limit).removals == []
    assert prune(tmp_path, MIDNIGHT + 3 * DAY, limit).removals[0].rows == 2


def test_of_what_is_too_large_the_oldest_days_go_until_it_fits(tmp_path):
    ten_days(tmp_path)
    with open_catalog(tmp_path) as catalog:
        sizes = [it.bytes for it in catalog.files("trades")]
    limit = {"trades": Limit(bytes=sum(sizes[-4:]))}
    (done,) = prune(tmp_path, NOW, limit).removals
    assert (done.rows, done.over) == (12, 0)
    assert ids(tmp_path) == list(range(12, 20))
    assert prune(tmp_path, NOW, limit).removals == []


def test_the_last_whole_day_stays_however_large_it_is_and_that_is_said(tmp_path):
    ten_days(tmp_path)
    (done,) = prune(tmp_path, NOW, {"trades": Limit(bytes=1)}).removals
    with open_catalog(tmp_path) as catalog:
        assert done.over == sum(it.bytes for it in catalog.files("trades")) - 1
    assert ids(tmp_path) == [18, 19]  # of yesterday: an hour of today has passed, and has no trade
    (again,) = prune(tmp_path, NOW, {"trades": Limit(bytes=1)}).removals
    assert (again.rows, again.over) == (0, done.over)


def test_each_table_has_its_own_limit_and_without_one_it_stays(tmp_path):
    makers = [
        lambda day: candle(MIDNIGHT + day * DAY + MINUTE), lambda day: snapshot(MIDNIGHT + day * DAY),
        lambda day: gap(MIDNIGHT + day * DAY, after=f"{90 + day}", before="99"),
    ]
    ten_days(tmp_path, *makers)
    with Lake(tmp_path) as lake:
        prune(tmp_path, NOW, {"book_snapshots": Limit(age_ns=DAY), "candles": Limit(age_ns=5 * DAY)})
        counts = {table: lake.count(table) for table in ("trades", "candles", "book_snapshots", "gaps", "coverage")}
        assert counts == {"trades": 20, "candles": 5, "book_snapshots": 1, "gaps": 10, "coverage": 10}
        gone = lake.status()["pruned"]
        assert {table: it["rows"] for table, it in gone.items()} == {"book_snapshots": 9, "candles": 5}
        assert gone["candles"]["from_time"] == MIDNIGHT + MINUTE
    sound(tmp_path)


def test_every_table_but_gaps_and_coverage_may_have_a_limit(tmp_path):
    first = [trade(1), candle(T0), snapshot(T0), *others()]
    store_of(tmp_path, [*first, gap(T0), covered(1, 1)], [
        structs.replace(it, **{name: getattr(it, name) + DAY for name in TIMES if hasattr(it, name)}) for it in first])
    compact(tmp_path, NOW)
    with Lake(tmp_path) as lake:
        before = {table: lake.count(table) for table in TABLES}
        going = prune(tmp_path, NOW, dict.fromkeys(TABLES, Limit(age_ns=DAY))).removals
        assert {it.table for it in going} == set(TABLES)
        assert {table: 2 * lake.count(table) for table in TABLES} == before
        assert [lake.count(table) for table in ("gaps", "coverage")] == [1, 1]
    sound(tmp_path)


def test_what_only_the_journal_has_stays_however_old_it_is(tmp_path):
    store_of(tmp_path, [trade(1)])
    assert prune(tmp_path, NOW + 900 * DAY, {"trades": Limit(age_ns=DAY)}).removals == []
    assert ids(tmp_path) == [1]


def test_the_last_day_of_each_pair_that_is_there_stays_however_long_ago_it_was(tmp_path):
    store_of(tmp_path, *[[trade(day, time=MIDNIGHT + day * DAY)] for day in range(3)], [
        trade(9, id=ETH, time=MIDNIGHT + DAY)])
    compact(tmp_path, NOW)
    for limit in (Limit(age_ns=DAY), Limit(bytes=1)):
        prune(tmp_path, NOW + 900 * DAY, {"trades": limit})
        assert ids(tmp_path) == [9, 2]
    sound(tmp_path)


def test_what_a_merge_left_that_was_killed_goes_before_the_day_it_is_a_copy_of(tmp_path):
    """Alone it would be taken for what nobody else has."""
    store_of(tmp_path, *[[trade(n)] for n in range(8)], [trade(8, time=T0 + DAY)])
    code = """
import os, signal
from onetape.storage.catalog import Catalog
Catalog.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
compact(store, NOW)
"""
    assert in_process(code, tmp_path)[0] == -signal.SIGKILL
    assert len(parquet(tmp_path)) == 10
    assert prune(tmp_path, NOW, {"trades": Limit(age_ns=DAY)}).removals[0].rows == 8
    assert compact(tmp_path, NOW + DAY).orphans == 0
    assert ids(tmp_path) == [8]
    sound(tmp_path)


def test_a_file_of_the_journal_that_a_reader_needs_stays_though_the_lake_has_lost_its_rows(tmp_path):
    store_of(tmp_path, [trade(1)], [trade(2)], [trade(3, time=T0 + DAY)])
    compact(tmp_path, NOW)
    with open_catalog(tmp_path) as catalog:
        catalog.register("postgres")
    prune(tmp_path, NOW, {"trades": Limit(age_ns=DAY)})
    assert ids(tmp_path) == [3]  # and the journal does not bring them back
    for _ in range(2):
        compact(tmp_path, NOW + 9 * DAY, keep_journal_ns=0)
        assert len(files(tmp_path / "journal" / "main")) == 3
    with open_catalog(tmp_path) as catalog:
        catalog.advance("postgres", "main", end_of(2))
    compact(tmp_path, NOW + 9 * DAY, keep_journal_ns=0)
    assert len(files(tmp_path / "journal" / "main")) == 1
    sound(tmp_path)


# --- what is known of it afterwards -----------------------------------------------------------------------------------


def test_what_was_pruned_is_no_gap_and_stays_accounted_for(tmp_path):
    ten_days(tmp_path)
    store_of(tmp_path, [Covered(*BTC, Channel.TRADES, 0, 19, MIDNIGHT, MIDNIGHT + 9 * DAY + HOUR)])
    compact(tmp_path, NOW)
    prune(tmp_path, NOW, {"trades": Limit(age_ns=5 * DAY)})
    whole = Interval(0, 19, MIDNIGHT, MIDNIGHT + 9 * DAY + HOUR)
    with Lake(tmp_path) as lake:
        assert list(lake.coverage()[*BTC, Channel.TRADES]) == [whole]
        history = Stored(lake).history(BTC, Channel.TRADES, ("1m",))
        assert (history.ledger.intervals, history.ledger.gaps) == ((whole,), ())
        assert not Stored(lake).unhealed(BTC, Channel.TRADES)


def test_a_run_that_goes_on_after_a_pruning_misses_nothing_and_asks_for_nothing(tmp_path):
    events = [trade(n, time=MIDNIGHT + n * 6 * HOUR, after=n - 1) for n in range(1, 42)]
    for part in (events[:40], events[40:]):
        with Keeper(tmp_path) as keeper:
            needs = [need for it in part for need in keeper.handle(it)]
            needs += keeper.finish(part[-1].available_at + MINUTE)
        compact(tmp_path, NOW)
        prune(tmp_path, NOW, {"trades": Limit(age_ns=5 * DAY), "candles": Limit(age_ns=5 * DAY)})
        assert needs == []
    with Lake(tmp_path) as lake:
        assert [int(it.id) for it in lake.trades()] == list(range(20, 42))
        assert [(it.first, it.last) for it in lake.coverage()[*BTC, Channel.TRADES]] == [(1, 41)]
        assert lake.gaps() == []
        assert all(it.complete for it in lake.candles(interval="1m") if it.start > MIDNIGHT + 5 * DAY)
        assert lake.verify() == []


def said(lake, start, end, **more):
    found = completeness(
        lake, Selection(venue="binance", start=MIDNIGHT + start * HOUR, end=MIDNIGHT + end * HOUR), **more)
    hours = [[((it.from_time - MIDNIGHT) / HOUR, (it.to_time - MIDNIGHT) // HOUR) for it in of]
             for of in (found.known, found.pruned, found.unknown)]
    return found.complete, *hours


@pytest.mark.parametrize("proven", [True, False])
def test_an_answer_about_what_was_pruned_says_so(tmp_path, proven):
    days = [
        [trade(2 * day, time=MIDNIGHT + day * DAY), trade(2 * day + 1, time=MIDNIGHT + day * DAY + 20 * HOUR)]
        for day in range(4)
    ]
    if proven:
        days[3].append(Covered(*BTC, Channel.TRADES, 0, 7, MIDNIGHT, MIDNIGHT + 92 * HOUR))
    store_of(tmp_path, *days)
    compact(tmp_path, NOW)
    with Lake(tmp_path) as lake:
        assert said(lake, 0, 92)[0]
        prune(tmp_path, MIDNIGHT + 3 * DAY, {"trades": Limit(age_ns=DAY)})  # of the four days two go
        for as_of in (None, NOW):
            complete, known, pruned, unknown = said(lake, 10, 92, as_of=as_of)
            assert (complete, pruned, unknown) == (False, [(10, 44)], [])
            assert [(round(it), until) for it, until in known] == [(44, 92)]
            assert said(lake, 45, 92, as_of=as_of)[0]
            assert said(lake, -3, 3, as_of=as_of)[2:] == ([(0, 3)], [(-3, 0)])
            assert not said(lake, -3, 3, as_of=as_of)[0]


def test_candles_outlive_their_trades_and_are_complete(tmp_path):
    ends = [MIDNIGHT + day * DAY + HOUR + MINUTE for day in range(DAYS)]
    ten_days(tmp_path, lambda day: candle(ends[day]))
    store_of(tmp_path, [Covered(*BTC, Channel.TRADES, 0, 19, MIDNIGHT, MIDNIGHT + 9 * DAY + HOUR)])
    compact(tmp_path, NOW)
    prune(tmp_path, NOW, {"trades": Limit(age_ns=5 * DAY), "candles": Limit(age_ns=8 * DAY)})
    with Lake(tmp_path) as lake:
        assert [it.end for it in lake.candles()] == ends[2:]
        assert said(lake, 2 * 24, 9 * 24, table="candles")[0]
        assert not said(lake, 24, 9 * 24, table="candles")[0]
        assert not said(lake, 2 * 24, 9 * 24)[0]


def test_a_candle_whose_trades_are_gone_is_not_built_anew_without_them(tmp_path):
    ends = [MIDNIGHT + day * DAY + HOUR + MINUTE for day in range(DAYS)]
    ten_days(tmp_path, lambda day: candle(ends[day]), lambda day: candle(MIDNIGHT + day * DAY + 7 * DAY, interval="1w"))
    prune(tmp_path, NOW, {"trades": Limit(age_ns=5 * DAY)})
    with Lake(tmp_path) as lake:
        for interval in ("1m", "1w"):
            stale = StaleRange(interval, MIDNIGHT - 7 * DAY, MIDNIGHT + DAYS * DAY)
            built = [it for part in rebuild(lake, lake.coverage(), BTC, stale, NOW) for it in part.changed]
            assert all(it.start >= MIDNIGHT + 5 * DAY for it in built)


def test_a_tape_whose_ids_prove_nothing_is_known_from_where_the_rest_was_pruned(tmp_path):
    times = [MIDNIGHT + hour * HOUR for hour in range(0, 96, 6)]
    store_of(tmp_path, [trade(n, id=BYBIT, time=time) for n, time in enumerate(times)])
    compact(tmp_path, NOW)
    prune(tmp_path, MIDNIGHT + 3 * DAY, {"trades": Limit(age_ns=DAY)})
    with Lake(tmp_path) as lake:
        assert lake.pruned("trades") == {BYBIT: (MIDNIGHT, MIDNIGHT + 42 * HOUR + 1)}
        history = Stored(lake).history(BYBIT, Channel.TRADES, ("1m", "1h"))
        assert history.covered_since == MIDNIGHT + 2 * DAY


# --- bad input, and what is in the way --------------------------------------------------------------------------------


def test_it_waits_for_no_compaction_and_touches_no_store_of_a_newer_schema(tmp_path):
    ten_days(tmp_path)
    limits = {"trades": Limit(age_ns=DAY)}
    with alone(tmp_path), pytest.raises(UsageError, match=r"^[^\n]*is being compacted already, or pruned[^\n]*$"):
        prune(tmp_path, NOW, limits)
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as file:
        file.execute("PRAGMA user_version=99")
    for work in (prune, planned):
        with pytest.raises(UsageError, match="newer OneTape: schema 99"):
            work(tmp_path, NOW, limits)
    with pytest.raises(UsageError, match="newer OneTape: schema 99"):
        compact(tmp_path, NOW)
    with pytest.raises(UsageError, match="newer OneTape: schema 99"), Lake(tmp_path):
        pass
    assert len(dates(tmp_path)) == DAYS
    with pytest.raises(UsageError, match="is no store"):
        prune(tmp_path / "nothing", NOW, limits)


@pytest.mark.parametrize("largest", [0, 4_096])
def test_a_full_disk_prunes_nothing_and_says_so_in_one_line(tmp_path, largest):
    ten_days(tmp_path)
    code = """
import resource, sys
from onetape.storage.retention import Limit, prune
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    prune(store, int(sys.argv[4]), {"trades": Limit(age_ns=DAY)})
except UsageError as error:
    print(error)
"""
    code, out, errors = in_process(code, tmp_path, str(largest), str(NOW))
    assert (code, out.count("\n"), errors) == (0, 1, "")
    assert "cannot be written" in out
    assert ids(tmp_path) == list(range(20))
    assert prune(tmp_path, NOW, {"trades": Limit(age_ns=DAY)}).removals[0].rows == 18
    sound(tmp_path)


def test_a_kill_between_the_catalog_and_the_files_leaves_only_work_for_the_next_one(tmp_path):
    ten_days(tmp_path)
    code = """
import os, signal, sys
import onetape.storage.retention as it
it.retire_replaced = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
it.prune(store, int(sys.argv[3]), {"trades": it.Limit(age_ns=DAY)}, keep_replaced_ns=-1)
"""
    assert in_process(code, tmp_path, str(NOW))[0] == -signal.SIGKILL
    assert (ids(tmp_path), len(dates(tmp_path))) == ([18, 19], DAYS)
    sound(tmp_path)
    assert compact(tmp_path, NOW + HOUR).removed >= DAYS - 1
    assert len(dates(tmp_path)) == 1
    sound(tmp_path)


def test_pairs_and_venues_go_day_by_day(tmp_path):
    store_of(tmp_path, *[
        [trade(day, time=MIDNIGHT + day * DAY), trade(day, id=ETH, time=MIDNIGHT + day * DAY),
         trade(day, id=BYBIT, time=MIDNIGHT + day * DAY)] for day in range(5)
    ])
    compact(tmp_path, NOW)
    with open_catalog(tmp_path) as catalog:
        one = catalog.files("trades")[0].bytes
    (done,) = prune(tmp_path, NOW, {"trades": Limit(bytes=10 * one + one // 2)}).removals
    assert [(it.date, it.venue, it.pair) for it in done.files][:3] == [
        ("2025-10-09", "binance", "BTCUSDT"), ("2025-10-09", "binance", "ETHUSDT"), ("2025-10-09", "bybit", "BTCUSDT")]
    with Lake(tmp_path) as lake:
        left = [it.exchange_time for it in lake.trades()]
    assert min(left) == MIDNIGHT + len(done.files) // 3 * DAY
