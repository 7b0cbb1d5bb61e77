"""The market is the same for the same seed, never impossible, and looks like one."""
from itertools import pairwise
from statistics import median

import pytest

from onetape.clock import MINUTE, SECOND
from onetape.sim.listings import LISTINGS
from onetape.sim.market import Market

START = 1_800_000_000 * SECOND
ALL = [it for listings in LISTINGS.values() for it in listings]


def market(seed=1, listings=ALL, history_ns=30 * SECOND, **rest):
    return Market(seed, listings, START, history_ns=history_ns, **rest)


def test_the_same_seed_makes_the_same_market():
    one, two, other = market(), market(), market(seed=2)
    assert one.wake(START + 20 * SECOND) == two.wake(START + 20 * SECOND)
    for key, truth in one.truths.items():
        assert (truth.bids(), truth.asks(), truth.matches) == (
            two.truths[key].bids(), two.truths[key].asks(), two.truths[key].matches,
        )
    assert other.wake(START + 20 * SECOND) != one.wake(START + 40 * SECOND)


def test_how_often_it_is_woken_makes_no_difference():
    one, two = market(), market()
    at_once = one.wake(START + 5 * SECOND)
    bit_by_bit = []
    while (due := two.next_wake()) <= START + 5 * SECOND:
        bit_by_bit += two.wake(due)
    assert bit_by_bit == at_once


def test_happenings_come_in_order_and_no_two_of_an_instrument_share_their_time():
    happened = market(pace=20).wake(START + 10 * SECOND)
    assert [it.time for it in happened] == sorted(it.time for it in happened)
    keys = [(it.listing.venue, it.listing.symbol, it.time) for it in happened]
    assert len(set(keys)) == len(keys)
    assert all(START < it.time <= START + 10 * SECOND for it in happened)


@pytest.mark.parametrize("seed", range(3))
def test_no_book_is_ever_crossed_or_empty(seed):
    it = market(seed, pace=10)
    for happening in it.wake(START + 5 * SECOND):
        assert all(change.size >= 0 and change.price > 0 for change in happening.changes)
        assert all(match.size > 0 and match.price > 0 for match in happening.matches)
    for truth in it.truths.values():
        sides = {True: dict(truth.book_at_time(START).bids), False: dict(truth.book_at_time(START).asks)}
        by_time = {}
        for change in truth.changes_since(truth.book_at_time(START).sequence):
            by_time.setdefault(change.time, []).append(change)
        for changes in by_time.values():
            for change in changes:
                sides[change.bid][change.price] = change.size
                if not change.size:
                    del sides[change.bid][change.price]
            assert max(sides[True]) < min(sides[False])
        assert len(truth.bids()) > 20
        assert len(truth.asks()) > 20


def test_a_trade_takes_what_was_there():
    it = market(listings=ALL[:1])
    truth = next(iter(it.truths.values()))
    sequence, taken = truth.sequence, 0
    for happening in it.wake(START + 30 * SECOND):
        before = truth.book_at(sequence)
        sequence = happening.changes[-1].sequence if happening.changes else sequence
        if not happening.matches:
            continue
        taken += 1
        buy = happening.matches[0].buy
        there = dict(before.asks if buy else before.bids)
        for change in happening.changes:
            eaten = sum(match.size for match in happening.matches if match.price == change.price)
            assert there[change.price] - eaten == change.size
            assert change.bid is not buy
        prices = [match.price for match in happening.matches]
        assert prices == sorted(prices, reverse=not buy)
    assert taken > 10


def test_it_has_a_past_and_the_past_has_no_future():
    it = market(history_ns=5 * MINUTE)
    for truth in it.truths.values():
        assert START - 5 * MINUTE <= truth.matches[0].time < START - 3 * MINUTE
        assert truth.time <= START
        assert len(truth.candles(MINUTE, 0, START + MINUTE)) >= 4
    assert it.next_wake() > START


def test_it_looks_like_a_market():
    it = market(history_ns=4 * MINUTE)
    it.wake(START + MINUTE)
    mids = {}
    for (venue, symbol), truth in it.truths.items():
        (bid, _), (ask, _) = truth.bids(1)[0], truth.asks(1)[0]
        mid = (bid + ask) / 2
        assert (ask - bid) / mid < 2e-3, f"{venue} {symbol}: spread"
        assert 80 < len(truth.bids()) < 1_500, f"{venue} {symbol}: depth"
        assert 80 < len(truth.asks()) < 1_500, f"{venue} {symbol}: depth"
        mids.setdefault(truth.listing.base, []).append(mid * float(truth.listing.tick))
        assert any(len({match.price for match in group}) > 1 for group in groups(truth.matches)), "walks the book"
        assert {match.buy for match in truth.matches} == {True, False}
    for base, prices in mids.items():
        assert max(prices) / min(prices) < 1.005, f"{base}: venues are near each other"


def groups(matches):
    by_time = {}
    for match in matches:
        by_time.setdefault(match.time, []).append(match)
    return by_time.values()


def test_orders_come_in_bursts():
    it = market(listings=ALL[:1], history_ns=SECOND)
    times = [happening.time for happening in it.wake(START + 3 * MINUTE)]
    waits = [later - earlier for earlier, later in pairwise(times)]
    mean = sum(waits) / len(waits)
    assert median(waits) < 0.65 * mean, "of a process without memory it would be ln 2"


def test_pace_scales_the_number_of_happenings():
    slow, fast = (len(market(pace=pace, history_ns=SECOND).wake(START + 60 * SECOND)) for pace in (0.25, 2))
    assert 6 < fast / slow < 10


def test_a_market_of_nothing_never_wakes():
    it = market(listings=[])
    assert it.next_wake() is None
    assert it.wake(START + SECOND) == []
