"""Each trade once, coverage true, and gaps exactly what is missing."""
from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from onetape.model import Channel, GapClosed, GapOpened, InstrumentId, NeedTrades, Side, Skipped, Source, Trade
from onetape.tape.coverage import Interval
from onetape.tape.ledger import (
    GRACE_NS,
    MAX_HOURS,
    MAX_INTERVALS,
    MAX_WINDOW,
    NEW,
    WINDOW_NS,
    LedgerState,
    OpenGap,
    TradeLedger,
)

HEAD = {"venue": "v", "symbol": "s", "received_time": 0, "available_at": 0, "channel": Channel.TRADES}


def trade(number, width=1, time=None, after=-1):
    return Trade(
        **HEAD, exchange_time=number * 10 if time is None else time, id=str(number),
        after=number - width if after == -1 else after, price=D(1), size=D(1), side=Side.BUY,
    )


def skipped(first, last):
    return Skipped(
        **HEAD, exchange_time=last * 10, first=str(first), last=str(last), after=first - 1, reason="off the book"
    )


def ledger(**rest):
    return TradeLedger(InstrumentId("v", "s"), Channel.TRADES, **rest)


def feed(it, *numbers, now=0):
    return [it.receive(trade(number), now) for number in numbers]


def test_consecutive_trades_are_new_once():
    it = ledger()
    assert feed(it, 5, 6, 7) == [NEW, NEW, NEW]
    assert feed(it, 6, 7, 5) == [None, None, None]
    assert (it.received, it.duplicates) == (3, 3)


def verdict(need, cause):
    """Of who has asked the venue in vain."""
    return GapClosed(
        venue=need.venue, symbol=need.symbol, exchange_time=0, received_time=0, available_at=0, channel=need.channel,
        after=need.after, before=need.before, from_time=need.from_time, to_time=need.to_time, healed=False, cause=cause,
        recovered=0,
    )


def test_a_descending_snapshot_is_no_gap():
    it = ledger()
    feed(it, *range(200, 100, -1))
    assert it.wake(10 * GRACE_NS) == []
    assert [(one.first, one.last) for one in it.coverage] == [(101, 200)]


def test_a_hole_has_its_grace_and_is_a_gap_after_it():
    it = ledger()
    feed(it, 1, 2, 5, now=100)
    assert it.wake(99 + GRACE_NS) == []
    assert it.next_wake() == 100 + GRACE_NS
    opened, need = it.wake(100 + GRACE_NS)
    assert isinstance(opened, GapOpened)
    assert (opened.after, opened.before, opened.from_time, opened.to_time) == ("2", "5", 20, 50)
    assert need == NeedTrades("v", "s", Channel.TRADES, "2", "5", 20, 50, "ids are missing")
    assert it.next_wake() is None


def test_what_comes_within_the_grace_is_no_gap():
    it = ledger()
    feed(it, 1, 4, 3, 2)
    assert it.wake(GRACE_NS) == []


def test_filling_a_gap_closes_it_with_the_last_missing_trade():
    it = ledger()
    feed(it, 1, 5)
    it.wake(GRACE_NS)
    assert feed(it, 3, 2) == [NEW, NEW]
    (closed,) = it.receive(trade(4), 9)
    assert isinstance(closed, GapClosed)
    assert (closed.after, closed.before, closed.healed, closed.recovered) == ("1", "5", True, 3)
    assert list(it.gaps) == []


def test_skipped_ids_count_as_covered():
    it = ledger()
    feed(it, 1)
    assert it.skip(skipped(2, 4), 0) == NEW
    feed(it, 5)
    assert it.wake(GRACE_NS) == []
    assert it.skip(skipped(2, 4), 0) is None


def test_aggregates_cover_the_matches_that_they_merge():
    it = ledger()
    assert it.receive(trade(10, width=3), 0) == NEW
    assert it.receive(trade(15, width=5), 0) == NEW
    assert it.receive(trade(13, width=2), 0) is None
    assert [(one.first, one.last) for one in it.coverage] == [(8, 15)]


def test_an_unhealable_gap_is_closed_by_hand():
    it = ledger()
    feed(it, 1, 5)
    it.wake(GRACE_NS)
    (closed,) = it.close(verdict(*it.needs(), "too old"), 7)
    assert (closed.healed, closed.cause, closed.recovered) == (False, "too old", 0)
    assert it.needs() == []  # it stays on record, and nobody asks for it
    feed(it, 2, 3)
    assert [type(one) for one in it.receive(trade(4), 9)] == [GapClosed]  # it may come all the same


def test_what_is_left_of_a_gap_is_a_gap_of_its_own_before_the_whole_one_ends():
    it = ledger()
    feed(it, 1, 9)
    (need,) = (one for one in it.wake(GRACE_NS) if isinstance(one, NeedTrades))
    feed(it, 4, 5)
    outputs = it.close(verdict(need, "too old"), 7)
    assert [(type(one), one.after, one.before) for one in outputs] == [
        (GapOpened, "1", "4"), (GapClosed, "1", "4"), (GapOpened, "5", "9"), (GapClosed, "5", "9"),
        (GapClosed, "1", "9"),
    ]
    assert [one.healed for one in outputs if isinstance(one, GapClosed)] == [False, False, True]
    assert ledger(state=it.state()).wake(10**15) == []  # nor is it told again


def test_where_ids_prove_nothing_the_part_that_was_found_again_ends_a_gap():
    it = ledger()
    for number in (1, 9):
        it.receive(trade(number, after=None), 0)
    opened = GapOpened(
        venue="v", symbol="s", exchange_time=90, received_time=0, available_at=0, channel=Channel.TRADES, after="1",
        before="9", from_time=10, to_time=90, cause="the connection was lost")
    kept, need = it.open(opened, 0)
    assert kept == opened
    assert it.open(opened, 0) == []
    for number in (5, 7, 6):
        it.receive(structs.replace(trade(number, after=None), source=Source.BACKFILL), 0)
    first, closed, whole = it.close(verdict(need, "no more than the newest 60"), 7)
    assert (first.after, first.before, first.to_time) == ("1", "5", 50)
    assert (closed.healed, whole.healed, whole.recovered) == (False, True, 3)


def test_where_ids_prove_nothing_they_only_tell_trades_apart():
    it = ledger()
    first = trade(1, after=None, time=0)
    assert it.receive(first, 0) == NEW
    assert it.receive(first, 0) is None
    for number in range(2, 100):
        it.receive(trade(number, after=None, time=WINDOW_NS + number), 0)
    assert it.receive(first, 0) is None  # however much later
    assert it.wake(10**15) == []


def test_of_an_hour_the_stored_ids_are_known_whichever_comes_first():
    asked = []

    def stored(hour):
        asked.append(hour)
        return {0: ["1"], WINDOW_NS: ["2"]}.get(hour, [])
    it = ledger(stored=stored)
    assert it.receive(trade(9, after=None, time=WINDOW_NS + 5), 0) == NEW
    assert it.receive(trade(1, after=None, time=7), 0) is None
    assert it.receive(trade(2, after=None, time=WINDOW_NS + 9), 0) is None
    assert asked == [WINDOW_NS, 0]
    for hour in range(2, MAX_HOURS + 3):  # what is forgotten is read again
        it.receive(trade(hour, after=None, time=hour * WINDOW_NS), 0)
    assert it.receive(trade(1, after=None, time=7), 0) is None


def test_the_ids_of_an_hour_are_bounded():
    it = ledger()
    for number in range(MAX_WINDOW + 10):
        it.receive(trade(number, after=None, time=0), 0)
    assert it.forgotten == 10


def test_what_was_closed_is_not_asked_for_again_after_a_restart():
    it = ledger()
    feed(it, 1, 5)
    it.wake(GRACE_NS)
    (closed,) = it.skip(skipped(2, 4), 7)
    assert closed.healed
    assert ledger(state=it.state()).wake(10**15) == []


def test_at_the_end_what_is_missing_is_told_without_a_grace():
    it = ledger()
    feed(it, 1, 5)
    assert [type(one) for one in it.finish(3)] == [GapOpened, NeedTrades]
    assert it.finish(4) == []


def test_it_all_survives_a_restart():
    it = ledger()
    feed(it, 1, 2, 6)
    it.wake(GRACE_NS)
    again = ledger(state=it.state())
    assert feed(again, 2, 6) == [None, None]
    assert [(one.after, one.before) for one in again.gaps] == [("2", "6")]
    assert [(one.after, one.before) for one in again.needs()] == [("2", "6")]
    outcomes = feed(again, 3, 4, 5)
    assert [type(one) for one in outcomes[-1]] == [GapClosed]


step = st.one_of(
    st.tuples(st.just("trade"), st.integers(1, 40)),
    st.tuples(st.just("skip"), st.integers(1, 40)),
    st.tuples(st.just("wait"), st.integers(1, 3)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("snapshot"), st.integers(5, 40)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(step, max_size=60))
def test_coverage_is_true_and_gaps_are_exactly_what_is_missing(steps):
    it, now, seen, told = ledger(), 0, set(), {}

    def take(outputs):
        for one in outputs or ():
            if isinstance(one, GapOpened):
                assert (one.after, one.before) not in told
                assert not seen & set(range(int(one.after) + 1, int(one.before)))  # exactly what is missing then
                told[one.after, one.before] = one
            elif isinstance(one, GapClosed):
                assert one.healed
                del told[one.after, one.before]

    def receive(number):
        outputs = it.receive(trade(number), now)
        assert (outputs is None) == (number in seen)
        seen.add(number)
        take(outputs)

    covered = set()
    for kind, number in steps:
        if kind == "trade":
            receive(number)
        elif kind == "skip":
            outputs = it.skip(skipped(number, number), now)
            assert (outputs is None) == (number in seen)
            seen.add(number)
            take(outputs)
        elif kind == "snapshot":
            for one in range(number, max(number - 5, 0), -1):
                receive(one)
        elif kind == "wait":
            now += number * GRACE_NS
            take(it.wake(now))
        else:
            it = ledger(state=it.state())
        covered |= {n for one in it.take_covered() for n in range(one.first, one.last + 1)}
        assert covered == seen  # what a store was told, before any restart
    assert {n for one in it.coverage for n in range(one.first, one.last + 1)} == seen
    take(it.wake(now + GRACE_NS))
    missing = {n for n in range(min(seen), max(seen)) if n not in seen} if seen else set()
    in_gaps = {n for after, before in told for n in range(int(after) + 1, int(before))}
    assert in_gaps - seen == missing
    for gap in told.values():  # none is told that is not (still partly) missing
        assert any(int(gap.after) < n < int(gap.before) for n in missing)


@pytest.mark.parametrize("many", [3, 50])
def test_many_holes_are_many_gaps(many):
    it = ledger()
    feed(it, *range(0, 2 * many, 2))
    assert sum(isinstance(one, GapOpened) for one in it.wake(GRACE_NS)) == many - 1


def test_a_restart_finds_just_the_holes_that_there_are():
    """A process may end while a gap is filled, and what was shed lies across others."""
    gaps = tuple(OpenGap(str(a), str(b), 0, 0, 0, low=a, high=b) for a, b in ((10, 31), (40, 50), (40, 46)))
    intervals = (Interval(1, 15, 10, 150), Interval(31, 40, 310, 400), Interval(50, 60, 500, 600))
    it = ledger(state=LedgerState(intervals, gaps))
    outputs = it.settle(7)
    assert [(type(one), one.after, one.before) for one in outputs] == [
        (GapOpened, "15", "31"), (GapClosed, "10", "31"), (GapClosed, "40", "46"),
    ]
    assert [(one.after, one.before, one.from_time, one.to_time) for one in it.gaps] == [
        ("15", "31", 150, 310), ("40", "50", 400, 500),
    ]
    assert {(one.after, one.before) for one in it.needs()} == {("15", "31"), ("40", "50")}
    assert it.wake(10**15) == []
    for number in (*range(16, 31), *range(41, 50)):
        it.receive(trade(number), 9)
    assert list(it.gaps) == []


def test_what_was_forgotten_is_not_called_healed():
    it = ledger()
    for number in range(1, 2 * MAX_INTERVALS + 40, 2):
        it.receive(trade(number), 0)
        it.wake(10**15)
    (closed,) = it.close(verdict(it.needs()[0], "too old"), 7)
    assert not closed.healed


def test_what_is_stored_as_covered_has_the_times_of_its_own_trades():
    it = ledger()
    feed(it, 1, 2)
    it.take_covered()
    feed(it, 3, 4, 5)
    (covered,) = it.take_covered()
    assert (covered.first, covered.last, covered.from_time, covered.to_time) == (3, 5, 30, 50)
