"""Where ids prove nothing: a minute with less volume than the venue's is a gap, told once and only when it is sure."""
from decimal import Decimal as D
from itertools import pairwise

from msgspec import structs

from onetape.clock import MINUTE, SECOND
from onetape.model import Candle, Channel, Side, Trade
from onetape.tape.ledger import OpenGap
from onetape.tape.volume import KEPT, LATE_NS, PROVE_EVERY, VolumeCheck

START = 1_790_000_040 * SECOND // MINUTE * MINUTE


def trade(number, at, size="1"):
    """``at``: ns after START."""
    return Trade(
        venue="bybit", symbol="BTCUSDT", exchange_time=START + at, received_time=START + at, available_at=START + at,
        channel=Channel.TRADES, id=f"id{number}", after=None, price=D(5), size=D(size), side=Side.BUY,
    )


def candle(minute, volume, source="trades", **more):
    """Of the minute that begins so many minutes after START."""
    start = START + minute * MINUTE
    return Candle(
        venue="bybit", symbol="BTCUSDT", exchange_time=start + MINUTE, received_time=start + MINUTE,
        available_at=start + MINUTE, interval="1m", start=start, end=start + MINUTE, open=D(5), high=D(5), low=D(5),
        close=D(5), volume=D(volume), quote_volume=None, vwap=None, trades=None, taker_buy_volume=None, final=True,
        complete=True, source=source, **more,
    )


def check(*trades):
    it = VolumeCheck()
    for one in trades:
        it.add(one)
    return it


def full(ours="2", theirs="2"):
    """Trades in three minutes; both candles of the one in the middle."""
    it = check(trade(1, 0), trade(2, MINUTE), trade(3, MINUTE + 5 * SECOND), trade(4, 2 * MINUTE))
    it.take(candle(1, ours))
    it.take(candle(1, theirs, "venue"))
    return it


def test_equal_volume_is_no_gap():
    it = full()
    assert it.judge((), START, 0) == []
    assert (it.verified, it.short, it.unverifiable) == (1, 0, 0)


def test_less_than_the_venue_has_is_a_gap_over_the_minute_told_once():
    it = full(theirs="2.5")
    (gap,) = it.judge((), START, 7)
    assert (gap.after, gap.before, gap.from_time, gap.to_time) == ("id1", "id4", START, START + 2 * MINUTE)
    assert gap.available_at == 7
    assert "2.5" in gap.cause
    assert it.judge((), START, 8) == []
    assert it.short == 1


def test_sums_that_are_rounded_are_no_gap():
    assert full("2.0000001", "2.0000002").judge((), START, 0) == []


def test_more_than_the_venue_has_is_no_gap():
    assert full("3").judge((), START, 0) == []


def test_it_waits_for_a_trade_behind_the_minute_and_for_both_candles():
    it = check(trade(1, 0), trade(2, MINUTE))
    it.take(candle(1, "1"))
    assert it.judge((), START, 0) == []
    assert not it.waiting
    it.take(candle(1, "2", "venue"))
    assert it.waiting
    assert it.judge((), START, 0) == []
    it.add(trade(3, 2 * MINUTE))
    assert len(it.judge((), START, 0)) == 1


def test_a_gap_that_may_be_healed_has_time_and_one_that_may_not_is_widened_to_the_minute():
    it = full(theirs="9")
    gap = OpenGap("id2", "id3", START + MINUTE, START + MINUTE + 5 * SECOND, 0)
    assert it.judge([gap], START, 0) == []
    gap.unhealable = "venue limit"
    assert len(it.judge([gap], START, 0)) == 1


def test_a_minute_that_is_a_gap_as_a_whole_is_not_told_again():
    it = full(theirs="9")
    gap = OpenGap("id1", "id4", START, START + 2 * MINUTE, 0, unhealable="venue limit")
    assert it.judge([gap], START, 0) == []
    assert it.unverifiable == 1


def test_of_a_minute_with_trades_off_the_tape_nothing_can_be_said():
    it = full(theirs="9")
    it.skip(START + MINUTE + 1)
    assert it.judge((), START, 0) == []
    assert it.unverifiable == 1


def test_of_the_minute_in_which_it_begins_nothing_can_be_said():
    assert full(theirs="9").judge((), START + MINUTE + 1, 0) == []


def test_candles_that_do_not_come_are_asked_for_once():
    it = check(trade(1, 0))
    it.take(candle(1, "1"))
    it.take(candle(2, "1"))
    end = START + 3 * MINUTE
    assert it.lacking(START + 2 * MINUTE + LATE_NS - 1) is None
    assert it.lacking(end + LATE_NS) == (START + MINUTE, end)
    assert it.lacking(end + LATE_NS + MINUTE) is None


def test_the_first_minute_is_proven_pair_by_pair_without_a_hole():
    it, pairs = VolumeCheck(), []
    for number in range(10 * PROVE_EVERY):
        pair = it.prove(trade(number, number * 100_000_000))
        pairs += [pair] if pair else []
    assert pairs[0][0].id == "id0"
    assert all(before[1] is after[0] for before, after in pairwise(pairs))
    over = it.prove(trade(999, MINUTE))
    assert (over[0], over[1].id) == (pairs[-1][1], "id999")
    assert not it.proving


def test_what_it_keeps_is_bounded():
    it = VolumeCheck()
    for minute in range(10 * KEPT):
        it.add(trade(minute, minute * MINUTE))
        it.take(candle(minute, "1"))
        it.skip(START + minute * MINUTE)
        it.lacking(START + (minute + 5) * MINUTE)
    assert all(len(kept) <= KEPT for kept in (it._edges, it._ours, it._asked, it._blurred))


def test_minutes_of_an_earlier_process_are_judged():
    it = VolumeCheck()
    it.restore([trade(1, 0), trade(2, MINUTE), trade(3, 2 * MINUTE)], [candle(1, "1")])
    assert not it.proving
    it.take(structs.replace(candle(1, "2", "venue")))
    assert len(it.judge((), START, 0)) == 1


def test_a_minute_of_which_every_trade_was_lost_is_a_gap():
    it = check(trade(1, 0), trade(2, 2 * MINUTE))
    it.take(candle(1, "3", "venue"))
    assert it.judge((), START, START + 2 * MINUTE) == []  # our candle may be on its way
    (gap,) = it.judge((), START, START + 3 * MINUTE)
    assert (gap.after, gap.before) == ("id1", "id2")


def test_a_quiet_minute_is_no_gap():
    it = check(trade(1, 0), trade(2, 2 * MINUTE))
    it.take(candle(1, "0", "venue"))
    assert it.judge((), START, START + 3 * MINUTE) == []


def test_a_late_trade_makes_it_wait_for_the_revision():
    it = full(ours="1", theirs="2")
    it.add(trade(9, MINUTE + 3 * SECOND))
    assert it.judge((), START, START) == []
    it.take(candle(1, "2", revision=1))
    assert it.judge((), START, START) == []
    assert it.verified == 1


def test_a_restart_within_the_first_minute_goes_on_proving():
    it = VolumeCheck()
    it.restore([trade(1, 0), trade(2, 5 * SECOND)], [])
    assert it.proving
    first, last = it.prove(trade(3, MINUTE))
    assert (first.id, last.id) == ("id2", "id3")
    later = VolumeCheck()
    later.restore([trade(1, 0), trade(2, 2 * MINUTE)], [])
    assert not later.proving


def test_a_revision_of_long_ago_is_no_reason_to_ask_again_and_again():
    it = check(trade(1, 0))
    for minute in range(1, KEPT + 2):
        it.add(trade(minute + 1, minute * MINUTE))
        it.take(candle(minute, "1"))
        assert it.lacking(START + (minute + 2) * MINUTE)
        it.take(candle(minute, "1", "venue"))
        it.judge((), START, 0)
    it.take(candle(0, "2", revision=1))
    assert it.lacking(START + 20 * MINUTE) is None
