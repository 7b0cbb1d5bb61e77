"""While the disk is full: nothing is lost that memory holds, books go first, trades last, and no coverage lies."""
import sys
from collections import Counter
from decimal import Decimal as D
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import SECOND
from onetape.errors import RetryBatch
from onetape.model import BookDelta, Channel, GapOpened, InstrumentId, Levels, Quote, Trade
from onetape.service.keeper import Keeper
from onetape.storage.journal import Batch, Journal, files, read
from onetape.storage.lake import Lake
from onetape.storage.shedding import CAUSE, Backlog
from onetape.tape.coverage import Coverage, Covered

sys.path.insert(0, str(Path(__file__).parent))
from test_lake import BTC, T0, candle, others, trade

sys.path.pop(0)
XRP = InstrumentId("bybit", "XRPUSDT")


def at(seconds):
    return T0 + round(seconds * SECOND)


def numbered(number, **more):
    time = at(number / 100)
    return trade(number, time=time, after=number - 1, received_time=time, available_at=time, **more)


def unproven(number):
    time = at(number / 100)
    return trade(number, id=XRP, time=time, received_time=time, available_at=time)


def quote(number):
    time = at(number / 100)
    return Quote(venue=BTC.venue, symbol=BTC.symbol, exchange_time=time, received_time=time, available_at=time,
                 bid=(D(number), D(1)), ask=None)


def delta(number):
    time = at(number / 100)
    return BookDelta(venue=BTC.venue, symbol=BTC.symbol, exchange_time=time, received_time=time, available_at=time,
                     after=number, sequence=number + 1, bids=Levels.of([]), asks=Levels.of([]))


def fill_up(journal, *, up=True):
    """A real limit of SQLite's on the file: it is as full as a disk can be."""
    file = journal._file
    (pages,) = file.execute("PRAGMA page_count").fetchone()
    file.execute(f"PRAGMA max_page_count={pages if up else 10**6}")


def wait(keeper):
    """For the disk's thread, and for what it said to be heard."""
    while keeper.disk._writes:
        keeper.disk._writes[-1].exception()
        keeper.disk._collect(0)


class Held:
    """A run over a store that holds so many rows; its disk can be filled up."""

    def __init__(self, store, hold, **more):
        self.published = []
        self.keeper = Keeper(store, publish=self.published.append, hold=hold, **more)

    def __enter__(self):
        self.keeper.__enter__()
        return self

    def __exit__(self, *error):
        self.keeper.__exit__(*error)

    def give(self, *events):
        for it in events:
            self.keeper.handle(it)
            wait(self.keeper)

    def full(self, up=True):
        fill_up(self.keeper.journal, up=up)


def ids(store, venue="binance"):
    with Lake(store) as lake:
        return [int(it.id) for it in lake.trades() if it.venue == venue]


def within(gaps, venue=None):
    of = [it for it in gaps if venue in (None, getattr(it, "venue", None))]
    return {n for it in of for n in range(int(it.after) + 1, int(it.before))}


def test_a_full_disk_ends_no_run_and_loses_nothing_that_memory_holds(tmp_path):
    with Held(tmp_path, 10**6) as it:
        it.give(*map(numbered, range(20)))
        it.full()
        it.give(*map(numbered, range(20, 20_000)))
        assert "full" in it.keeper.disk.behind
        assert "000000000001.db" in it.keeper.disk.behind
        there = ids(tmp_path)
        assert there == list(range(len(there)))
        assert len(there) < 20_000
        assert it.keeper.disk.backlog.rows > 19_000 - len(there)
        it.full(up=False)
        it.give(*map(numbered, range(20_000, 20_030)))
        assert it.keeper.disk.behind == ""
        it.keeper.finish(at(203))
    assert ids(tmp_path) == list(range(20_030))
    with Lake(tmp_path) as lake:
        assert lake.verify() == []
        assert lake.gaps() == []
    batches = [row for path in files(tmp_path / "journal" / "main") for row in read(path, "trades")]
    assert [row[3] for row in sorted(batches)] == list(range(20_030))  # in order


def test_it_is_tried_again_every_second_even_if_nothing_comes(tmp_path):
    with Held(tmp_path, 10**6) as it:
        it.give(*map(numbered, range(20)))
        it.full()
        it.give(*map(numbered, range(20, 4_000)))
        keeper, now = it.keeper, at(41)
        assert keeper.disk.behind
        it.full(up=False)
        keeper.push(now)
        wait(keeper)
        keeper.push(now + SECOND)
        wait(keeper)
        assert keeper.disk.behind == ""
        assert keeper.disk.backlog.rows == 0


def test_a_disk_that_is_full_to_the_end_says_what_is_lost(tmp_path):
    with Held(tmp_path, 10**6, drain_s=0.3) as it:
        it.give(*map(numbered, range(20)))
        it.full()
        it.give(*map(numbered, range(20, 4_000)), quote(4_001))
        with pytest.raises(RetryBatch, match=r"^[^\n]*full[^\n]*lost: [^\n]*1 quotes, [\d,]+ trades$") as error:
            it.keeper.finish(at(41))
        lost = int(str(error.value).split(" trades")[0].split()[-1].replace(",", ""))
        it.full(up=False)
    assert len(ids(tmp_path)) + lost == 4_000
    assert ids(tmp_path) == list(range(4_000 - lost))


def test_beyond_the_bound_books_go_first_then_quotes_and_trades_stay(tmp_path):
    with Held(tmp_path, 3_000) as it:
        it.give(*map(numbered, range(20)))
        it.keeper.flush()
        it.full()
        it.give(*(one for n in range(20, 2_500) for one in (numbered(n), quote(n), delta(n))))
        dropped = it.keeper.disk.backlog.dropped
        assert it.keeper.disk.backlog.rows <= 3_100
        assert dropped["quotes"] > 1_000
        assert not {"trades", "coverage", "gaps"} & dropped.keys()
        it.full(up=False)
        it.give(numbered(2_500))
        it.keeper.push(at(30))
        it.keeper.finish(at(32))
        stored = it.keeper.journal.counters["quotes"]
    assert stored + dropped["quotes"] == 2_480
    assert ids(tmp_path) == list(range(2_501))
    with Lake(tmp_path) as lake:
        assert lake.gaps() == []


def test_dropped_trades_are_covered_by_nothing_and_a_restart_asks_for_them(tmp_path):
    with Held(tmp_path, 1_000) as it:
        it.give(*(one for n in range(50) for one in (numbered(n), unproven(n))))
        it.keeper.flush()
        it.full()
        it.give(*(one for n in range(50, 4_000) for one in (numbered(n), unproven(n))))
        assert it.keeper.disk.backlog.dropped["trades"] > 4_000
        it.full(up=False)
        it.give(*(one for n in range(4_000, 4_020) for one in (numbered(n), unproven(n))))
        it.keeper.push(at(50))
        it.keeper.finish(at(52))
        lost = it.keeper.disk.backlog.dropped["trades"]
        told = [gap for gap in it.published if isinstance(gap, GapOpened) and gap.cause == CAUSE]
    proven, other = ids(tmp_path), ids(tmp_path, "bybit")
    assert 2 * 4_020 - len(proven) - len(other) == lost
    assert {gap.venue for gap in told} == {"binance", "bybit"}
    with Lake(tmp_path) as lake:
        gaps = lake.gaps()  # a small transaction may find room on a disk that is full: then there are several
        (first, second) = lake.coverage()[*BTC, Channel.TRADES]
        assert lake.verify() == []
    assert set(range(4_020)) - set(proven) == set(range(first.last + 1, second.first)) == within(gaps, "binance")
    assert set(range(4_020)) - set(other) == within(gaps, "bybit")
    assert {str(gap.state) for gap in gaps} == {"open"}
    with Keeper(tmp_path) as keeper:
        keeper.handle(numbered(4_020))
        ledger = keeper.pipeline._tapes[*BTC, Channel.TRADES].ledger
        assert within(ledger.gaps) == within(gaps, "binance")
        keeper.finish(at(53))


def test_candles_that_had_to_go_are_built_anew_from_the_trades_that_stayed(tmp_path):
    events = [one for n in range(20, 4_500) for one in (numbered(n), quote(n))]
    with Held(tmp_path / "roomy", 10**6) as it:
        it.give(*map(numbered, range(20)))
        it.full()
        it.give(*events)
        waiting = it.keeper.disk.backlog.count()
        it.full(up=False)
        it.keeper.finish(at(58))
    assert waiting["candles"] > 20
    with Held(tmp_path, sum(waiting.values()) - waiting["quotes"] - 10) as it:
        it.give(*map(numbered, range(20)))
        it.full()
        it.give(*events)
        assert it.keeper.disk.backlog.dropped["candles"]
        assert not it.keeper.disk.backlog.dropped["trades"]
        it.full(up=False)
        it.keeper.push(at(56))
        it.keeper.finish(at(58))
    with Lake(tmp_path) as lake, Lake(tmp_path / "roomy") as roomy:
        for interval in ("1s", "1m"):
            one, other = (
                [(c.end, c.open, c.close, c.volume, c.complete) for c in it.candles(interval=interval)]
                for it in (lake, roomy))
            assert one == other


# --- the order, by itself --------------------------------------------------------------------------------------------



def test_what_goes_first():
    backlog = Backlog(10)
    for n in range(5):
        backlog.add(Batch([trade(n), candle(T0), *others()], n))
    assert backlog.dropped == {"book_deltas": 5, "quotes": 10, "feed_status": 4, "quarantine": 4, "candles": 4} or (
        backlog.rows <= 10 and not backlog.dropped["trades"])
    for n in range(5, 40):
        backlog.add(Batch([trade(n)], n))
    assert backlog.rows == 10
    assert backlog.count() == {"trades": 10}
    batch = backlog.take()
    assert [int(it.id) for it in batch.records if isinstance(it, Trade)] == [0, 29, *range(30, 40)]
    (gap,) = (it for it in batch.records if isinstance(it, GapOpened))
    assert (gap.after, gap.before) == ("0", "29")
    backlog.committed()
    assert backlog.dropped["trades"] == 28
    assert backlog.take_gaps() == [gap]
    assert backlog.take() is None


STEPS = st.lists(st.tuples(st.sampled_from(["add", "take", "done", "fail"]), st.integers(1, 4)), max_size=120)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(2, 12))
def test_whatever_happens_each_trade_is_stored_or_within_a_gap_and_none_is_covered_that_is_not_stored(steps, bound):
    """Of a tape with consecutive ids and one without; batches come, are written, fail, in any order."""
    backlog, number, under_way = Backlog(bound), 0, None
    disk = []

    def write(work):
        nonlocal under_way
        if work == "take" and under_way is None:
            under_way = backlog.take(5)
        elif work == "done" and under_way is not None:
            disk.extend(under_way.records)
            backlog.committed()
            under_way = None
        elif work == "fail" and under_way is not None:
            backlog.give_back()
            under_way = None

    for work, size in steps:
        if work == "add":
            new = range(number, number + size)
            number += size
            covered = Covered(*BTC, Channel.TRADES, new[0], new[-1], T0, T0)
            backlog.add(Batch([*map(numbered, new), covered, *map(unproven, new), quote(number)], number))
            assert backlog.rows <= max(bound, 0) + (len(under_way.records) if under_way else 0)
        else:
            write(work)
    write("done")
    while (under_way := backlog.take(5)) is not None:
        write("done")
    stored = [int(it.id) for it in disk if isinstance(it, Trade) and it.venue == "binance"]
    coverage = Coverage()
    for it in disk:
        if isinstance(it, Covered):
            coverage.add(it.first, it.last, T0, T0)
    covered = [n for it in coverage for n in range(it.first, it.last + 1)]
    missing = {n for it in disk if isinstance(it, GapOpened) and it.venue == "binance"
               for n in range(int(it.after) + 1, int(it.before))}
    assert stored == covered == [n for n in range(number) if n not in missing]
    other = [int(it.id) for it in disk if isinstance(it, Trade) and it.venue == "bybit"]
    gaps = [(int(it.after), int(it.before)) for it in disk if isinstance(it, GapOpened) and it.venue == "bybit"]
    assert len(set(other)) == len(other)
    assert all({after, before} <= set(other) for after, before in gaps)
    within = {n for after, before in gaps for n in range(after + 1, before)}
    assert set(range(number)) - set(other) <= within
    assert backlog.dropped["trades"] == 2 * number - len(stored) - len(other)
    assert backlog.rows == 0
    assert Counter(backlog.count()) == Counter()


def test_the_setting_for_power_loss_is_the_files(tmp_path):
    for name, value in (("off", 0), ("normal", 1), ("full", 2)):
        with Keeper(tmp_path / name, synchronous=name) as keeper:
            keeper.handle(numbered(1))
            keeper.finish(at(1))
            assert keeper.journal._file.execute("PRAGMA synchronous").fetchone() == (value,)
    with Journal(tmp_path / "default") as journal:
        journal.add(numbered(1))
        journal.commit(journal.take(1))
        assert journal._file.execute("PRAGMA synchronous").fetchone() == (1,)
