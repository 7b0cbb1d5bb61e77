"""What is impossible is refused, what is odd is flagged and kept."""
from decimal import Decimal as D
from random import Random
from statistics import median

import pytest
from msgspec import structs

from onetape.clock import HOUR, SECOND
from onetape.model import Channel, Flag, InstrumentId, Side, Trade
from onetape.tape.validation import AHEAD_NS, EARLIEST, FRESH_NS, PAUSE_NS, SanityCheck, impossible

NOW = 1_795_000_000 * SECOND


def trade(price="100", size="1", time=NOW, venue="binance", symbol="BTCUSDT"):
    return Trade(
        venue=venue, symbol=symbol, received_time=NOW, available_at=NOW, exchange_time=time, channel=Channel.TRADES,
        id="1", after=0, price=D(price), size=D(size), side=Side.BUY,
    )


def flags(check, it, pair):
    return check.flags(it, check.recent(InstrumentId(it.venue, it.symbol), pair))


@pytest.mark.parametrize(("it", "why"), [
    (trade(), ""), (trade(price="0"), "price"), (trade(price="-1"), "price"), (trade(size="0.000"), "size"),
    (trade(time=0), "absurd time"), (trade(time=EARLIEST), ""), (trade(time=EARLIEST - 1), "absurd time"),
    (trade(time=NOW + AHEAD_NS), ""), (trade(time=NOW + AHEAD_NS + 1), "absurd time"),
    (trade(price="99999999999999999999.9"), ""), (trade(price="1" + "0" * 20), "price that no store holds"),
    (trade(size="123456789012345678901234"), "size that no store holds"),
])
def test_what_cannot_be_true(it, why):
    assert why in impossible(it)
    assert bool(impossible(it)) == bool(why)


def test_the_first_trade_has_nothing_to_be_compared_with():
    assert flags(SanityCheck(), trade(), "BTC-USDT") == ()


def test_a_price_far_from_the_last_is_flagged_and_is_the_last_from_then_on():
    check = SanityCheck()
    flags(check, trade("100"), "BTC-USDT")
    assert flags(check, trade("110"), "BTC-USDT") == ()
    assert flags(check, trade("122"), "BTC-USDT") == (Flag.FAR_FROM_LAST,)
    assert flags(check, trade("122"), "BTC-USDT") == ()


def test_a_price_far_from_the_other_venues_is_flagged_even_if_it_is_the_first_of_its_own():
    check = SanityCheck()
    for venue in ("kraken", "okx", "bybit"):
        flags(check, trade("100", venue=venue), "BTC-USDT")
    assert flags(check, trade("150"), "BTC-USDT") == (Flag.FAR_FROM_OTHERS,)
    assert flags(check, trade("150", symbol="XYZ"), "XYZ-USDT") == ()


def test_a_venue_that_fell_silent_says_nothing_about_the_price():
    check = SanityCheck()
    flags(check, trade("100", venue="kraken", time=NOW - FRESH_NS - HOUR), "BTC-USDT")
    assert flags(check, trade("150"), "BTC-USDT") == ()


def test_without_a_pair_only_its_own_history_counts():
    check = SanityCheck()
    flags(check, trade("100", venue="kraken"), "")
    assert flags(check, trade("150"), "") == ()
    assert flags(check, trade("300"), "") == (Flag.FAR_FROM_LAST,)


def test_a_size_far_beyond_recent_ones_is_flagged():
    check = SanityCheck()
    for _ in range(50):
        assert flags(check, trade(size="1"), "") == ()
    assert flags(check, trade(size="101"), "") == (Flag.HUGE,)
    assert flags(check, trade("200", size="10000"), "") == (Flag.FAR_FROM_LAST, Flag.HUGE)


@pytest.mark.parametrize(("time", "newest", "possible"), [
    (NOW, 0, True), (NOW + AHEAD_NS, 0, True), (NOW + AHEAD_NS + 1, 0, False), (NOW, NOW - PAUSE_NS - AHEAD_NS, True),
    (NOW, NOW - PAUSE_NS - AHEAD_NS - 1, False), (NOW - HOUR, NOW, True), (EARLIEST - 1, NOW, False),
])
def test_where_no_clock_was_kept_the_newest_trade_and_today_bound_the_time(time, newest, possible):
    it = structs.replace(trade(time=time), received_time=5_000_000)
    assert (impossible(it, newest, NOW) == "") is possible


@pytest.mark.parametrize("seed", range(20))
def test_prices_are_flagged_as_if_each_were_compared_with_all_others(seed):
    """The band that lets nearly all pass hides none that is far."""
    random, check, last, flagged = Random(seed), SanityCheck(), {}, 0
    level = 100.0
    for number in range(500):
        level *= random.choice([1, 1, 1, 1, 1.001, 0.999, 1.04, 0.96, 1.12, 0.88])
        venue = random.choice(["binance", "kraken", "okx", "bybit"])
        it = trade(f"{level * random.choice([1, 1, 1.05, 0.95]):.2f}", venue=venue, time=NOW + number)
        price, others = float(it.price), [price for name, price in last.items() if name != venue]
        expected = [
            flag for flag, other in (
                (Flag.FAR_FROM_LAST, last.get(venue)), (Flag.FAR_FROM_OTHERS, median(others) if others else None),
            ) if other is not None and abs(price - other) > 0.10 * other
        ]
        assert flags(check, it, "BTC-USDT") == tuple(expected)
        flagged += bool(expected)
        last[venue] = price
    assert flagged
