"""From the request over the ack to the first frame; whoever gets stuck is named, later each time."""
from hypothesis import given
from hypothesis import strategies as st
import pytest

from onetape.clock import SECOND
from onetape.feed.watch import FIRST_RETRY_NS, LONGEST_RETRY_NS, PROMPT, Stuck, SubscriptionWatch
from onetape.model import Channel, Subscription

ACK, FIRST = 10 * SECOND, 30 * SECOND
BOOK, TRADES = Subscription("A", Channel.BOOK), Subscription("A", Channel.TRADES)
ALL = [Subscription(symbol, channel) for symbol in "AB" for channel in Channel]


def asking(*subscriptions, ack=ACK, first=FIRST):
    watch = SubscriptionWatch(ack, first)
    watch.asked(subscriptions, 0)
    return watch


def named(watch, now):
    return [it.subscription for it in watch.wake(now)]


def test_nothing_asked_is_nothing_to_wait_for():
    watch = SubscriptionWatch(ACK, FIRST)
    assert (len(watch.open), watch.next_wake(), watch.wake(10**18)) == (0, None, [])


def test_what_is_not_acknowledged_in_time_is_stuck():
    watch = asking(TRADES)
    assert watch.next_wake() == ACK
    assert watch.wake(ACK - 1) == []
    assert watch.wake(ACK) == [Stuck(TRADES, "not acknowledged within 10 s")]


def test_acknowledged_but_silent_is_stuck_where_something_always_comes():
    watch = asking(BOOK)
    watch.acked([BOOK])
    assert watch.wake(FIRST - 1) == []
    assert watch.wake(FIRST) == [Stuck(BOOK, "acknowledged, but silent for 30 s")]


@pytest.mark.parametrize("channel", Channel)
def test_a_channel_that_may_be_quiet_for_hours_is_done_with_its_ack(channel):
    watch = asking(Subscription("A", channel))
    watch.acked([Subscription("A", channel)])
    assert len(watch.open) == (channel in PROMPT)


def test_trades_may_take_hours():
    assert Channel.TRADES not in PROMPT
    assert Channel.BOOK in PROMPT


def test_data_counts_as_the_ack():
    watch = asking(BOOK)
    watch.data(BOOK)
    assert (len(watch.open), watch.next_wake()) == (0, None)
    watch.acked([BOOK])
    assert len(watch.open) == 0


def test_each_request_in_vain_waits_twice_as_long_up_to_five_minutes():
    watch, now, waits = asking(TRADES), 0, []
    for _ in range(14):
        due = watch.next_wake()
        waits.append(due - now)
        now = due
        assert named(watch, now) == [TRADES]
        watch.asked([TRADES], now)
    assert [it // SECOND for it in waits[:6]] == [10, 20, 40, 80, 160, 300]
    assert set(waits[5:]) == {LONGEST_RETRY_NS}


def test_a_wait_that_is_longer_than_the_cap_is_kept():
    assert asking(TRADES, ack=2 * LONGEST_RETRY_NS).next_wake() == 2 * LONGEST_RETRY_NS


def test_data_begins_the_waits_afresh():
    watch = asking(BOOK)
    watch.asked([BOOK], ACK)
    watch.data(BOOK)
    watch.asked([BOOK], 100 * SECOND)
    assert watch.next_wake() == 100 * SECOND + 2 * ACK  # the second request since data came


def test_a_refusal_is_asked_again_later_each_time():
    watch, now, waits = asking(TRADES), 0, []
    for _ in range(12):
        watch.refused(TRADES, now)
        assert watch.wake(watch.next_wake())[0].reason == "refused before, asked again"
        waits.append(watch.next_wake() - now)
        now = watch.next_wake()
        watch.asked([TRADES], now)
    assert waits[0] == FIRST_RETRY_NS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_RETRY_NS


def test_a_refusal_of_what_nobody_asked_for_is_nothing():
    watch = asking(BOOK)
    watch.refused(TRADES, 0)
    assert (len(watch.open), watch.next_wake()) == (1, ACK)


def test_data_after_a_refusal_takes_the_retry_away():
    watch = asking(BOOK)
    watch.refused(BOOK, 0)
    watch.data(BOOK)
    assert watch.next_wake() is None


def test_what_is_forgotten_is_asked_for_no_more():
    watch = asking(BOOK, TRADES)
    watch.forget(BOOK)
    assert named(watch, 10**15) == [TRADES]


def test_those_that_are_due_come_in_a_fixed_order():
    orders = {tuple(named(asking(*them), ACK)) for them in (ALL, ALL[::-1])}
    assert orders == {tuple(sorted(ALL))}


@pytest.mark.parametrize(("ack", "first", "acked", "due"), [
    (0, FIRST, False, None), (0, FIRST, True, FIRST), (ACK, 0, False, ACK), (ACK, 0, True, None), (0, 0, False, None),
])
def test_a_wait_of_0_waits_for_ever(ack, first, acked, due):
    watch = asking(BOOK, ack=ack, first=first)
    if acked:
        watch.acked([BOOK])
    assert watch.next_wake() == due
    assert named(watch, 10**15) == ([] if due is None else [BOOK])


STEPS = st.lists(st.tuples(
    st.sampled_from(["asked", "acked", "data", "refused", "forget", "wake"]), st.sampled_from(ALL),
    st.integers(0, 400),
), max_size=60)


@given(STEPS)
def test_every_open_request_has_a_deadline_ahead_that_asking_again_moves_on(steps):
    """So a driver that asks again when woken never spins, and never waits for more than five minutes."""
    watch, now = SubscriptionWatch(ACK, FIRST), 0
    for verb, it, wait in steps:
        now += wait * SECOND
        match verb:
            case "wake":
                watch.wake(now)
            case "data" | "forget":
                getattr(watch, verb)(it)
            case "acked":
                watch.acked([it])
            case "asked":
                watch.asked([it], now)
            case "refused":
                watch.refused(it, now)
        assert (watch.next_wake() is None) == (len(watch.open) == 0)
        if len(watch.open):
            assert watch.next_wake() <= now + LONGEST_RETRY_NS
        due = [each.subscription for each in watch.wake(now)]
        watch.asked(due, now)
        assert watch.wake(now) == []
