"""Candles are exactly what their trades sum up to: final once, revised without holes, and never before their time."""
from decimal import Context, Decimal as D
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.candles.batch import build, roll_up
from onetape.candles.builder import CandleBuilder
from onetape.candles.running import tidy, vwap
from onetape.candles.series import MAX_STALE, StaleRange
from onetape.clock import DAY, MINUTE, SECOND, interval_ns, rfc3339
from onetape.model import Candle, Channel, InstrumentId, Side, Trade

ID = InstrumentId("v", "s")
T0 = rfc3339("2023-11-14T22:15:00Z")  # a Tuesday; begins a minute, five of them, and a quarter of an hour
LATENESS = 2 * SECOND
WIDE = Context(prec=300)


def trade(seconds, price="10", size="1", id="1", side=Side.BUY):
    """At seconds after T0."""
    return Trade(
        venue="v", symbol="s", received_time=0, available_at=0, channel=Channel.TRADES, id=id, after=None,
        exchange_time=T0 + int(D(str(seconds)) * SECOND), price=D(price), size=D(size), side=side,
    )


def builder(*intervals, **rest):
    rest.setdefault("covered_since", 0)
    return CandleBuilder(ID, intervals or ("1s", "1m"), LATENESS, **rest)


def at(seconds):
    return T0 + int(D(str(seconds)) * SECOND)


def feed(it, *trades, now=7):
    for one in trades:
        it.add(one, now)


def wake(it, seconds, now=8):
    """Everything that ended ``seconds`` after T0 is final."""
    return it.wake(at(seconds) + LATENESS, now)


def brief(candles):
    return [(it.interval, (it.end - T0) // SECOND, it.revision) for it in candles]


def prices(it):
    return it.open, it.high, it.low, it.close


# --- what a candle is -------------------------------------------------------------------------------------------------


def test_a_candle_is_labelled_by_its_end_and_sums_its_trades_exactly():
    it = builder("1m")
    feed(
        it, trade(0, "10.50", "1", "1"), trade(30, "12", "0.25", "2", Side.SELL), trade(31, "9.999", "0.001", "3"),
        trade("59.999999999", "11", "2", "4"), trade(60, "99", "5", "5"),
    )
    assert wake(it, 60, now=123) == [Candle(
        venue="v", symbol="s", exchange_time=at(60), received_time=123, available_at=123, interval="1m", start=at(0),
        end=at(60), open=D("10.5"), high=D("12"), low=D("9.999"), close=D("11"), volume=D("3.251"),
        quote_volume=D("35.509999"), vwap=D("10.922792679175638265"), trades=4, taker_buy_volume=D("3.001"),
        complete=True, final=True, source="trades", revision=0,
    )]


def test_open_and_close_are_by_time_then_id_as_a_number():
    it = builder("1s")
    feed(it, *(trade(0, id, "1", id) for id in ("10", "9", "101", "100", "11")))
    assert prices(wake(it, 1)[0]) == (9, 101, 9, 101)


def test_ids_that_are_no_numbers_stand_in_the_order_of_arrival_behind_those_that_are():
    it = builder("1s")
    feed(it, trade(0, "3", id="z"), trade(0, "1", id="a"), trade(0, "2", id="5"))
    assert prices(wake(it, 1)[0]) == (2, 3, 1, 1)


def test_finer_digits_make_room_and_no_zero_ends_a_fraction():
    it = builder("1s", "1m")
    feed(it, trade(0, "10", "1"), trade(1, "10.10000000", "1.000"), trade(2, "0.00000001", "0.000000000000000001"))
    [minute] = [it for it in wake(it, 60) if it.interval == "1m"]
    assert str(minute.high) == "10.1"
    assert str(minute.volume) == "2.000000000000000001"
    assert minute.quote_volume == D("20.1") + D("1E-26")
    assert it.current("1m") is None


def test_the_digits_do_not_depend_on_how_a_value_was_written():
    written = ("1.50", "1.5", "1.500", "100", "1E+2", "0.00", "0E-20", "1." + "0" * 39 + "10")
    assert [str(tidy(D(it))) for it in written] == [
        "1.5", "1.5", "1.5", "100", "100", "0", "0", "1." + "0" * 39 + "1",
    ]


def test_sums_are_never_rounded():
    it = builder("1m")
    most, least = "9999999999999999999.999999999", "0.000000000000000001"
    feed(it, trade(0, most, most), *(trade(number / 10, least, least) for number in range(1, 100)))
    [minute] = wake(it, 60)
    assert minute.volume == Fraction(most) + 99 * Fraction(least)
    assert minute.quote_volume == Fraction(most) ** 2 + 99 * Fraction(least) ** 2


def test_vwap_is_rounded_once_half_to_even():
    assert vwap(D(0), D(0)) is None
    assert vwap(D(2), D(3)) == D("0.666666666666666667")
    assert vwap(D(1), D(2 * 10**18)) == 0
    assert vwap(D(3), D(2 * 10**18)) == D("2E-18")
    assert vwap(D(123456789012345 * 3 + 1), D(3)) == D("123456789012345.3333333333333")  # 28 digits


def test_weeks_begin_on_monday_and_days_at_midnight_utc():
    it = builder("1d", "1w")
    feed(it, trade(0))
    day, week = it.current("1d"), it.current("1w")
    assert (day.start, day.end) == (rfc3339("2023-11-14T00:00:00Z"), rfc3339("2023-11-15T00:00:00Z"))
    assert (week.start, week.end) == (rfc3339("2023-11-13T00:00:00Z"), rfc3339("2023-11-20T00:00:00Z"))


@pytest.mark.parametrize("bad", ["0s", "1M", "", "s", "1.5m", "-1m"])
def test_what_is_no_interval_is_refused(bad):
    with pytest.raises(ValueError, match="not a candle interval"):
        builder(bad)


# --- provisional and final --------------------------------------------------------------------------------------------


def test_the_running_candle_is_provisional_and_as_of_the_last_trade():
    it = builder("1s", "1m", "1h")
    assert it.current("1h") is None
    it.add(trade(0, "10"), 5)
    it.add(trade(3, "12"), 6)
    assert [(one.final, one.trades, one.close, one.available_at) for one in map(it.current, ("1s", "1m", "1h"))] == [
        (False, 1, 12, 6), (False, 2, 12, 6), (False, 2, 12, 6),
    ]
    it.add(trade("1.5", "13"), 7)  # out of order: seen at once, but not the close
    assert [(it.current(one).high, it.current(one).close) for one in ("1s", "1m")] == [(12, 12), (13, 12)]
    wake(it, 4)
    assert (it.current("1s"), it.current("1m").trades) == (None, 3)
    with pytest.raises(ValueError, match="1d"):
        it.current("1d")


def test_nothing_is_final_before_the_watermark_has_passed_its_end_by_the_lateness():
    it = builder()
    assert it.next_wake() is None
    feed(it, trade("0.5"), trade("1.5"))
    assert it.next_wake() == at(1) + LATENESS
    assert it.wake(at(1) + LATENESS - 1, 8) == []
    assert brief(it.wake(at(1) + LATENESS, 8)) == [("1s", 1, 0)]
    assert it.wake(at(1) + LATENESS, 9) == []
    assert it.next_wake() == at(2) + LATENESS
    assert it.wake(at(0), 9) == []  # a watermark never goes back
    assert brief(it.wake(at(60) + LATENESS, 9)) == [("1s", 2, 0), ("1m", 60, 0)]
    assert it.next_wake() is None


def test_earlier_before_later_and_shorter_before_longer():
    it = builder("1m", "1s", "5m")
    feed(it, trade("59.5"), trade("299.5"), trade(0))
    assert brief(wake(it, 300)) == [
        ("1s", 1, 0), ("1s", 60, 0), ("1m", 60, 0), ("1s", 300, 0), ("1m", 300, 0), ("5m", 300, 0),
    ]


def test_the_next_wake_sees_ends_that_do_not_nest():
    it = builder("2s", "3s")
    feed(it, trade("2.5"))
    assert it.next_wake() == at(3) + LATENESS


def test_out_of_order_within_the_lateness_is_no_revision():
    it = builder("1s")
    feed(it, trade(1, "2", id="2"), trade(0, "1", id="1"), trade(2, "3", id="3"), trade("1.5", "9", id="4"))
    assert [(one.end, one.close, one.revision) for one in wake(it, 3)] == [(at(1), 1, 0), (at(2), 9, 0), (at(3), 3, 0)]
    assert not it.unrevised


def test_a_time_in_the_future_does_not_spoil_what_comes_after():
    it = builder("1s")
    feed(it, trade(1_000, "5"), trade(0, "1"), trade("0.5", "2"))
    assert prices(wake(it, 1)[0]) == (1, 2, 1, 2)
    feed(it, trade(2, "3"))
    assert brief(wake(it, 1_001)) == [("1s", 3, 0), ("1s", 1_001, 0)]


# --- late trades ------------------------------------------------------------------------------------------------------


def test_late_trades_are_batched_into_one_revision_of_each_candle():
    it = builder("1s", "1m", "1h")
    feed(it, trade(0, "10", id="1"), trade(30, "11", id="5000"))
    wake(it, 60)
    feed(it, *(trade(f"30.{number:04}", "12", id=str(number)) for number in range(1_000)))
    assert it.unrevised
    out = it.revise(99)
    assert brief(out) == [("1s", 31, 1), ("1m", 60, 1)]
    assert [(one.open, one.close, one.trades, one.available_at) for one in out] == [
        (12, 12, 1_001, 99), (10, 12, 1_002, 99),  # 30.0000 came before the trade 5000 of the same time
    ]
    assert it.revise(100) == []
    assert it.late == 1_000
    assert it.current("1h").trades == 1_002


def test_a_late_trade_where_there_was_none_makes_a_first_revision():
    it = builder("1s", "1m")
    feed(it, trade(0))
    wake(it, 60)
    feed(it, trade(5))
    assert brief(it.revise(9)) == [("1s", 6, 0), ("1m", 60, 1)]


def test_what_is_forgotten_is_told_as_stale_and_never_emitted_wrong():
    it = builder("1s", "1m", retention_ns=60 * SECOND)
    feed(it, *(trade(number, str(number + 1)) for number in range(200)))
    wake(it, 200)
    assert it.forgotten == 140 + 2
    feed(it, trade(3), trade(4), trade(10), trade(130), trade(150))
    assert brief(it.revise(9)) == [("1s", 151, 1), ("1m", 180, 1)]
    assert it.take_stale_ranges() == [
        StaleRange("1s", at(3), at(5)), StaleRange("1s", at(10), at(11)), StaleRange("1s", at(130), at(131)),
        StaleRange("1m", at(0), at(60)),
    ]
    assert it.take_stale_ranges() == []


def test_corrections_are_emitted_before_they_are_forgotten():
    it = builder("1s", max_kept=2)
    feed(it, trade(0), trade(1))
    wake(it, 2)
    feed(it, trade(0), trade(2))
    assert brief(wake(it, 3)) == [("1s", 1, 1), ("1s", 3, 0)]


def test_stale_ranges_are_bounded():
    it = builder("1s", max_kept=1)
    feed(it, *(trade(number) for number in range(2)))
    wake(it, 10_000)
    feed(it, trade(10_001))
    wake(it, 10_002)
    feed(it, *(trade(-2 * number) for number in range(MAX_STALE + 10)))
    ranges = it.take_stale_ranges()
    assert len(ranges) == MAX_STALE
    assert all(any(one.start <= at(-2 * number) < one.end for one in ranges) for number in range(MAX_STALE + 10))


# --- completeness -----------------------------------------------------------------------------------------------------


def test_what_begins_before_coverage_is_incomplete():
    it = builder("1s", "1m", covered_since=None)
    feed(it, trade("0.5"), trade(1), trade(60))
    assert [one.complete for one in wake(it, 120)] == [False, True, False, True, True]
    it.cover(at(0))
    out = it.revise(9)
    assert brief(out) == [("1s", 1, 1), ("1m", 60, 1)]
    assert all(one.complete for one in out)


def test_a_gap_makes_incomplete_what_it_touches_and_its_end_makes_it_whole():
    it = builder("1s")
    feed(it, *map(trade, range(6)))
    it.gap_opened(at(4), at(5))
    assert [one.complete for one in wake(it, 4)] == [True] * 4
    it.gap_opened(at("1.5"), at(3))  # at exactly 3 something may be missing beside the trade that is there
    assert [(one.end, one.complete, one.revision) for one in it.revise(9)] == [
        (at(2), False, 1), (at(3), False, 1), (at(4), False, 1),
    ]
    assert not it.current("1s").complete
    it.gap_opened(at(2), at(2))
    it.gap_closed(at("1.5"), at(3))
    feed(it, trade("1.6"))
    assert [(one.end, one.complete, one.trades, one.revision) for one in it.revise(9)] == [
        (at(2), True, 2, 2), (at(4), True, 1, 2),
    ]
    it.gap_closed(at(2), at(2))
    it.gap_opened(at(2), at(2))
    assert it.revise(9) == []  # nothing changed since it was last told
    assert [one.complete for one in wake(it, 6)] == [False, False]


def test_a_gap_among_the_forgotten_is_stale():
    it = builder("1s", max_kept=2)
    feed(it, *map(trade, range(10)))
    wake(it, 10)
    it.gap_opened(at("2.5"), at("8.5"))
    assert brief(it.revise(9)) == [("1s", 9, 1)]
    assert it.take_stale_ranges() == [StaleRange("1s", at(2), at(8))]


def test_gaps_are_bounded():
    it = builder("1s", max_gaps=2)
    feed(it, *map(trade, range(10)))
    for number in (1, 3, 5):
        it.gap_opened(at(number), at(number))
    it.gap_closed(at(1), at(1))
    assert [one.complete for one in wake(it, 10)] == [False, False, True, False, True, False, True, True, True, True]


# --- empty intervals --------------------------------------------------------------------------------------------------


def test_empty_intervals_are_absent_by_default():
    it = builder("1s")
    feed(it, trade(0), trade(3))
    assert brief(wake(it, 10)) == [("1s", 1, 0), ("1s", 4, 0)]


def test_empty_intervals_carry_the_last_close_where_wanted():
    it = builder("1s", "5s", carry_empty=True)
    assert wake(it, -100) == []
    feed(it, trade(0, "5"), trade(0, "6", id="2"), trade(2, "7"))
    out = wake(it, 6)
    assert brief(out) == [(("1s"), end, 0) for end in range(1, 6)] + [("5s", 5, 0), ("1s", 6, 0)]
    assert [(one.open, one.high, one.low, one.close, one.volume, one.vwap, one.trades) for one in out[1:4:2]] == [
        (6, 6, 6, 6, 0, None, 0), (7, 7, 7, 7, 0, None, 0),
    ]
    assert it.next_wake() == at(7) + LATENESS
    assert brief(wake(it, 10)) == [("1s", 7, 0), ("1s", 8, 0), ("1s", 9, 0), ("1s", 10, 0), ("5s", 10, 0)]


def test_a_late_close_is_carried_on():
    it = builder("1s", carry_empty=True)
    feed(it, trade(0, "5"), trade(4, "6"))
    wake(it, 6)
    feed(it, trade(2, "9"))
    assert [((one.end - T0) // SECOND, one.close, one.trades, one.revision) for one in it.revise(9)] == [
        (3, 9, 1, 1), (4, 9, 0, 1),
    ]
    feed(it, trade(-2, "1"))
    assert [((one.end - T0) // SECOND, one.close, one.trades, one.revision) for one in it.revise(9)] == [
        (-1, 1, 1, 0), (0, 1, 0, 0),
    ]
    feed(it, trade("4.5", "8"))
    assert [(one.close, one.revision) for one in wake(it, 7)] == [(8, 0)]  # what is new carries it at once
    assert [((one.end - T0) // SECOND, one.close) for one in it.revise(9)] == [(5, 8), (6, 8)]


def test_what_a_late_trade_among_the_forgotten_changes_is_carried_into_what_is_held():
    it = builder("1s", carry_empty=True, max_kept=3)
    feed(it, trade(0, "5", id="5"))
    wake(it, 10)
    feed(it, trade(4, "9"))
    assert [((one.end - T0) // SECOND, one.close, one.revision) for one in it.revise(9)] == [
        (8, 9, 1), (9, 9, 1), (10, 9, 1),
    ]
    assert it.take_stale_ranges() == [StaleRange("1s", at(4), at(7))]  # those behind it carried the wrong close
    feed(it, trade(0, "1", id="1"), trade(2, "1"))
    assert it.revise(9) == []
    assert it.take_stale_ranges() == [StaleRange("1s", at(0), at(7))]
    assert [one.close for one in wake(it, 11)] == [9]


def test_a_long_silence_is_not_carried_further_back_than_is_held():
    it = builder("1s", carry_empty=True, max_kept=10)
    feed(it, trade(0))
    assert brief(wake(it, 1_000)) == [("1s", 1, 0)] + [("1s", end, 0) for end in range(991, 1_001)]
    assert (it.uncarried, it.held) == (989, 10)


# --- bounds, restarts -------------------------------------------------------------------------------------------------


def test_memory_is_bounded():
    it = builder("1s", "1m", max_kept=50, retention_ns=5 * MINUTE)
    most = 0
    for number in range(3_000):
        feed(it, trade(number, id=str(number)), trade(number - 100, id=str(number)))
        it.gap_opened(at(number), at(number))
        wake(it, number)
        most = max(most, it.held)
    assert most < 50 + 5 + 10
    assert len(it._gaps) < 400


def test_after_a_restart_running_candles_go_on_and_final_ones_are_not_doubled():
    old = [trade("0.5", "1", id="1"), trade("1.5", "2", id="2"), trade("2.5", "3", id="3")]
    it = builder("1s", "1m", final_until=at(2))
    it.restore(reversed(old))
    assert it.next_wake() == at(3) + LATENESS
    feed(it, trade("2.5", "4", id="4"), trade(1, "9", id="0"))
    assert it.revise(9) == []
    assert it.take_stale_ranges() == [StaleRange("1s", at(1), at(2))]
    out = wake(it, 60)
    assert brief(out) == [("1s", 3, 0), ("1m", 60, 0)]
    assert [(*prices(one), one.trades) for one in out] == [(3, 4, 3, 4, 2), (1, 9, 1, 4, 5)]


def test_after_a_restart_the_newest_candle_is_the_running_one():
    it = builder("1s", "1m", covered_since=None, final_until=at(0))
    it.restore([trade(5, "5"), trade(1, "1")])
    feed(it, trade(3, "3"))
    assert it.current("1s").end == at(6)
    feed(it, trade("5.5", "6"))
    assert [(it.current(one).end, *prices(it.current(one))) for one in ("1s", "1m")] == [
        (at(6), 5, 6, 5, 6), (at(60), 1, 6, 1, 6),
    ]
    assert it.covered_since == at(5)
    assert brief(wake(it, 6)) == [("1s", 2, 0), ("1s", 4, 0), ("1s", 6, 0)]


# --- batch ------------------------------------------------------------------------------------------------------------


def test_a_batch_ends_with_what_it_knows():
    trades = [trade(61, "2"), trade(0, "1"), trade(125, "3")]
    assert [(one.end, one.close, one.complete, one.available_at) for one in build(trades, "1m", 5)] == [
        (at(60), 1, True, 5), (at(120), 2, True, 5),
    ]
    assert [one.end for one in build(trades, "1m", 5, until=at(180))] == [at(60), at(120), at(180)]
    assert [one.complete for one in build(trades, "1m", 5, covered_since=at(60))] == [False, True]
    assert [one.complete for one in build(trades, "1m", 5, gaps=[(at(62), at(63))])] == [True, False]
    assert [one.end for one in build(trades, "30s", 5, carry_empty=True)] == [at(30), at(60), at(90), at(120)]
    assert build([], "1m", 5) == []
    assert build(map(trade, range(3)), "1m", 5) == []


def test_shorter_candles_roll_up_to_longer_ones():
    trades = [trade(number * 7, str(10 + number % 13), f"0.{number + 1}", str(number)) for number in range(200)]
    for carried in (False, True):
        short = build(trades, "15s", 5, covered_since=0, carry_empty=carried)
        assert roll_up(reversed(short), "5m") == build(trades, "5m", 5, covered_since=0)
    assert roll_up([], "5m") == []
    assert [one.complete for one in roll_up(short, "5m", covered_since=at(1))][:2] == [False, True]


def test_a_roll_up_takes_the_highest_revision_and_says_what_it_does_not_know():
    first, second = build([trade(0, "1"), trade(1, "2"), trade(2, "3")], "1s", 5)
    wrong = build([trade(0, "9")], "1s", 5, until=at(1))[0]
    fields = {name: getattr(first, name) for name in first.__struct_fields__}
    newer = Candle(**fields | {"revision": 1, "quote_volume": None, "source": "venue", "available_at": 9})
    [one] = roll_up([wrong, newer, second], "2s")
    assert (one.open, one.close, one.quote_volume, one.vwap) == (1, 2, None, None)
    assert (one.trades, one.volume, one.source, one.available_at) == (2, 2, "venue", 9)


def test_what_does_not_fit_is_refused():
    short = build([trade(0), trade(3), trade(6)], "3s", 5)
    with pytest.raises(ValueError, match="do not make up"):
        roll_up(short, "5s")
    with pytest.raises(ValueError, match="one interval"):
        roll_up(short + build([trade(0), trade(3)], "1s", 5), "6s")


# --- against brute force ----------------------------------------------------------------------------------------------

INTERVALS = ("1s", "2s", "3s", "10s", "1m")
times = st.one_of(  # coarse for ties, fine for the edges
    st.integers(0, 120).map(lambda it: T0 + it * SECOND // 2),
    st.integers(-1, 1).flatmap(lambda edge: st.integers(0, 60).map(lambda it: T0 + it * SECOND + edge)),
)
numbers = st.builds(lambda whole, scale: D(whole).scaleb(-scale), st.integers(1, 10**12), st.integers(0, 12))
moves = st.lists(st.one_of(
    st.tuples(st.just("add"), times, numbers, numbers, st.booleans()),
    st.tuples(st.just("add"), times, st.sampled_from([D("1.50"), D("1.5"), D(2)]), numbers, st.booleans()),
    st.tuples(st.just("wake"), st.integers(0, 70).map(lambda it: T0 + it * SECOND)),
    st.tuples(st.just("gap_opened"), times, st.integers(0, 20 * SECOND)),
    st.tuples(st.just("gap_closed"), st.integers(0, 9)),
    st.tuples(st.just("cover"), times),
    st.tuples(st.just("revise")),
), max_size=60)


class Truth:
    """What is known so far, and the candles that follow from it, straight from their definition."""

    def __init__(self, covered_since, carry_empty):
        self.trades, self.gaps, self.covered_since, self.carry_empty = [], [], covered_since, carry_empty
        self.until = None

    def candle(self, interval, end):
        """The values of one candle; None if there is none."""
        start = end - interval_ns(interval)
        ordered = sorted(self.trades, key=lambda it: (it.exchange_time, int(it.id)))
        mine = [it for it in ordered if start <= it.exchange_time < end]
        before = [it for it in ordered if it.exchange_time < start]
        complete = start >= self.covered_since and not any(
            from_time < end and to_time >= start for from_time, to_time in self.gaps
        )
        if not mine:
            if not self.carry_empty or not before:
                return None
            last = before[-1].price
            return (last, last, last, last, 0, 0, None, 0, 0, complete)
        volume = quote = taker = D(0)
        for it in mine:
            volume = WIDE.add(volume, it.size)
            quote = WIDE.add(quote, WIDE.multiply(it.price, it.size))
            taker = WIDE.add(taker, it.size if it.side is Side.BUY else D(0))
        ratio = Fraction(quote) / Fraction(volume)
        digits = max(min(18, 28 - len(str(int(ratio)))), 0)
        mean = WIDE.scaleb(D(round(ratio * 10**digits)), -digits)
        some = [it.price for it in mine]
        return (some[0], max(some), min(some), some[-1], volume, quote, mean, len(mine), taker, complete)

    def all_final(self):
        """Every final candle, by (interval, end)."""
        out = {}
        for interval in INTERVALS if self.until is not None and self.trades else ():
            length = interval_ns(interval)
            first = min(it.exchange_time for it in self.trades) // length * length + length
            for end in range(first, self.until + 1, length):
                if (values := self.candle(interval, end)) is not None:
                    out[interval, end] = values
        return out


def values(it):
    return (
        it.open, it.high, it.low, it.close, it.volume, it.quote_volume, it.vwap, it.trades, it.taker_buy_volume,
        it.complete,
    )


def play(moves, carry_empty=False, restart_at=None, **rest):
    """Plays the moves into a builder and the truth, checks all that is emitted, and returns the last revisions."""
    truth = Truth(T0 + 5 * SECOND, carry_empty)
    options = {"carry_empty": carry_empty, "retention_ns": DAY, **rest}
    it = CandleBuilder(ID, INTERVALS, LATENESS, covered_since=truth.covered_since, **options)
    latest, stale = {}, []

    def receive(candles, now):
        keys = [(one.end, one.end - one.start) for one in candles]
        assert keys == sorted(keys) or "max_kept" in rest
        for one in candles:
            key = one.interval, one.end
            assert one.final
            assert one.end <= truth.until
            assert one.end - one.start == interval_ns(one.interval)
            assert (one.received_time, one.available_at, one.exchange_time) == (now, now, one.end)
            assert one.revision == (latest[key].revision + 1 if key in latest else 0)
            assert values(one) == truth.candle(*key)  # all that is known now, and nothing else
            latest[key] = one

    for now, (move, *args) in enumerate([*moves, ("wake", T0 + 75 * SECOND), ("revise",)]):
        if now == restart_at:
            receive(it.revise(now), now)
            stale += it.take_stale_ranges()
            it = CandleBuilder(
                ID, INTERVALS, LATENESS, covered_since=truth.covered_since, final_until=truth.until, **options,
            )
            it.restore(truth.trades)
            for gap in truth.gaps:
                it.gap_opened(*gap)
        if move == "add":
            time, price, size, buy = args
            one = trade(0, price, size, str(now * 7919 % 1_000), Side.BUY if buy else Side.SELL)
            fields = {name: getattr(one, name) for name in one.__struct_fields__}
            one = Trade(**fields | {"exchange_time": time})
            truth.trades.append(one)
            it.add(one, now)
        elif move == "wake":
            due = it.next_wake()
            if truth.until is None or args[0] - LATENESS > truth.until:
                truth.until = args[0] - LATENESS
            out = it.wake(args[0], now)
            if not (carry_empty or rest):
                assert bool(out) == (due is not None and due <= args[0])
            receive(out, now)
        elif move == "gap_opened":
            truth.gaps.append((args[0], args[0] + args[1]))
            it.gap_opened(*truth.gaps[-1])
        elif move == "gap_closed" and args[0] < len(truth.gaps):
            it.gap_closed(*truth.gaps.pop(args[0]))
        elif move == "cover":
            truth.covered_since = args[0]
            it.cover(args[0])
        elif move == "revise":
            receive(it.revise(now), now)
            assert not it.unrevised
            if not (rest or stale or restart_at):
                assert {key: values(one) for key, one in latest.items()} == truth.all_final()
        check_running(it, truth, now)
    return it, truth, latest, stale + it.take_stale_ranges()


def check_running(it, truth, now):
    for interval in INTERVALS:
        length = interval_ns(interval)
        ends = [one.exchange_time // length * length + length for one in truth.trades]
        running = [end for end in ends if truth.until is None or end > truth.until]
        one = it.current(interval)
        assert (one is None) == (not running)
        if one is not None:
            assert not one.final
            assert one.end == max(running)
            assert values(one) == truth.candle(interval, one.end)


@settings(max_examples=150, deadline=None)
@given(moves, st.booleans())
def test_in_whatever_order_the_final_candles_are_those_of_brute_force(moves, carry_empty):
    _, truth, latest, stale = play(moves, carry_empty)
    assert stale == []
    assert {key: values(one) for key, one in latest.items()} == truth.all_final()


@settings(max_examples=100, deadline=None)
@given(moves)
def test_volumes_add_up_across_intervals(moves):
    _, _, latest, _ = play(moves)
    for long, short in (("2s", "1s"), ("10s", "2s"), ("1m", "10s")):
        sums = {}
        length = interval_ns(long)
        for (interval, end), one in latest.items():
            if interval == short:
                sums.setdefault((end - 1) // length * length + length, []).append(one)
        for (interval, end), one in latest.items():
            if interval == long:
                parts = sums[end]
                assert one.trades == sum(part.trades for part in parts)
                assert Fraction(one.volume) == sum(Fraction(part.volume) for part in parts)
                assert Fraction(one.quote_volume) == sum(Fraction(part.quote_volume) for part in parts)


@settings(max_examples=150, deadline=None)
@given(moves, st.booleans(), st.integers(1, 20), st.integers(1, 30), st.one_of(st.none(), st.integers(0, 40)))
def test_what_is_forgotten_is_right_or_stale(moves, carry_empty, max_kept, retention, restart_at):
    it, truth, latest, stale = play(
        moves, carry_empty, restart_at, max_kept=max_kept, retention_ns=retention * SECOND,
    )
    for (interval, end), expected in truth.all_final().items():
        start = end - interval_ns(interval)
        if any(one.interval == interval and one.start <= start and end <= one.end for one in stale):
            continue
        if (interval, end) not in latest:
            assert expected[7] == 0
            assert it.uncarried or restart_at is not None
            continue
        assert values(latest[interval, end]) == expected
    for one in latest.values():
        assert values(one) == truth.candle(one.interval, one.end) or stale


@settings(max_examples=100, deadline=None)
@given(moves, st.sampled_from(INTERVALS), st.booleans())
def test_the_batch_and_the_roll_up_give_the_same_candles(moves, interval, carry_empty):
    _, truth, latest, _ = play(moves, carry_empty)
    rest = {"until": truth.until, "covered_since": truth.covered_since, "gaps": truth.gaps}
    live = [values(one) for (name, _), one in sorted(latest.items(), key=lambda it: it[0][1]) if name == interval]
    batch = build(truth.trades, interval, 5, carry_empty=carry_empty, **rest)
    assert [values(one) for one in batch] == live
    seconds = build(truth.trades, "1s", 5, carry_empty=carry_empty, **rest)
    rolled = roll_up(seconds, interval, **rest)
    assert [(one.end, *values(one)) for one in rolled] == [(one.end, *values(one)) for one in batch]
