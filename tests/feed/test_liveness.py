"""Silence of the socket, of the heartbeat, of one subscription, and of a book beside its trades."""
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetape.clock import SECOND
from onetape.feed.liveness import (
    FAR_BEYOND,
    FROZEN_NS,
    FROZEN_TRADES,
    MIN_HISTORY,
    MIN_SILENCE_NS,
    MUTE_CHANGES,
    MUTE_NS,
    SIBLINGS_NS,
    BookFrozen,
    HeartbeatSilent,
    Liveness,
    SocketSilent,
    SubscriptionSilent,
)
from onetape.feed.session import Session
from onetape.model import Channel, Reconnect, Send, Subscription
from onetape.venues.base import Timings
from onetape.venues.kraken import Kraken

BOOK, TRADES = Subscription("A", Channel.BOOK), Subscription("A", Channel.TRADES)
AGGREGATES, OTHER = Subscription("A", Channel.AGG_TRADES), Subscription("B", Channel.TRADES)


def watching(*subscriptions, silence_ns=0, heartbeat_ns=0):
    liveness = Liveness(silence_ns, heartbeat_ns, 0)
    for it in subscriptions:
        liveness.expect(it, 0)
    return liveness


def heard(liveness, subscription, now):
    if (pulse := liveness.pulses.get(subscription)) is not None:
        pulse.beat(now)


def speaking(liveness, subscription, times=MIN_HISTORY, every=SECOND, start=0):
    """It spoke so often; gives the time of the last one."""
    for number in range(times):
        heard(liveness, subscription, start + number * every)
    return start + (times - 1) * every


# --- socket ---------------------------------------------------------------------------------------------------------


def test_a_socket_is_silent_from_its_limit_on():
    liveness = watching(TRADES, silence_ns=30 * SECOND)
    liveness.frame_at = 5 * SECOND
    assert liveness.wake(35 * SECOND - 1) == []
    assert liveness.wake(35 * SECOND) == [SocketSilent(30 * SECOND)]


def test_who_asked_for_nothing_hears_nothing_and_that_is_no_silence():
    """Else a connection whose only symbol was refused would be made anew for ever."""
    assert watching(silence_ns=30 * SECOND).wake(90 * SECOND) == []


def test_a_book_that_never_keeps_silent_for_so_long_is_dead_without_siblings_too():
    liveness = Liveness(silence_ns=0, heartbeat_ns=0, now=0)
    liveness.expect(BOOK, 0, 75 * SECOND)
    heard(liveness, BOOK, SECOND)
    assert liveness.wake(75 * SECOND) == []
    assert liveness.wake(76 * SECOND) == [SubscriptionSilent(BOOK, 75 * SECOND)]


def test_any_frame_breaks_the_silence_of_the_socket():
    liveness = watching(TRADES, silence_ns=30 * SECOND)
    liveness.frame_at = 29 * SECOND
    assert liveness.wake(58 * SECOND) == []


def test_a_silent_socket_is_told_once_until_it_speaks_again():
    liveness = watching(TRADES, silence_ns=30 * SECOND)
    told = [verdict for second in range(30, 60) for verdict in liveness.wake(second * SECOND)]
    assert told == [SocketSilent(30 * SECOND)]
    liveness.frame_at = 60 * SECOND
    assert liveness.wake(89 * SECOND) == []
    assert liveness.wake(90 * SECOND) == [SocketSilent(30 * SECOND)]


def test_0_switches_a_level_off():
    liveness = watching()
    liveness.heartbeat(1)
    assert liveness.wake(10**18) == []


# --- heartbeat ------------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_missed_only_where_one_was_ever_heard():
    liveness = watching(heartbeat_ns=10 * SECOND)
    assert liveness.wake(100 * SECOND) == []
    liveness.heartbeat(100 * SECOND)
    assert liveness.wake(109 * SECOND) == []
    assert liveness.wake(110 * SECOND) == [HeartbeatSilent(10 * SECOND)]


def test_frames_are_no_heartbeat():
    liveness = watching(heartbeat_ns=10 * SECOND, silence_ns=10 * SECOND)
    liveness.heartbeat(0)
    liveness.frame_at = 10 * SECOND
    assert liveness.wake(10 * SECOND) == [HeartbeatSilent(10 * SECOND)]


def test_a_missed_heartbeat_is_told_once_until_the_next_one():
    liveness = watching(heartbeat_ns=10 * SECOND)
    liveness.heartbeat(0)
    assert len([it for second in range(60) for it in liveness.wake(second * SECOND)]) == 1
    liveness.heartbeat(60 * SECOND)
    assert liveness.wake(70 * SECOND) == [HeartbeatSilent(10 * SECOND)]


# --- one subscription -----------------------------------------------------------------------------------------------


def test_far_beyond_its_own_history_while_a_sibling_speaks_is_suspicious_once():
    liveness = watching(TRADES, OTHER)
    last = speaking(liveness, TRADES, every=10 * SECOND)
    due = last + FAR_BEYOND * 10 * SECOND
    heard(liveness, OTHER, due)
    assert liveness.wake(due - 1) == []
    assert liveness.wake(due) == [SubscriptionSilent(TRADES, FAR_BEYOND * 10 * SECOND)]
    assert liveness.wake(due + SECOND) == []


def test_it_may_be_suspected_again_after_it_healed():
    liveness = watching(TRADES, OTHER)
    last = speaking(liveness, TRADES)
    heard(liveness, OTHER, last + MIN_SILENCE_NS)
    assert len(liveness.wake(last + MIN_SILENCE_NS)) == 1
    healed = last + MIN_SILENCE_NS + SECOND
    heard(liveness, TRADES, healed)
    again = healed + FAR_BEYOND * (MIN_SILENCE_NS + SECOND)  # that silence is part of its habits now
    heard(liveness, OTHER, again)
    assert liveness.wake(again - 1) == []
    assert liveness.wake(again) == [SubscriptionSilent(TRADES, FAR_BEYOND * (MIN_SILENCE_NS + SECOND))]


def test_with_little_history_silence_means_nothing():
    liveness = watching(TRADES, OTHER)
    speaking(liveness, TRADES, times=MIN_HISTORY - 1)
    heard(liveness, OTHER, 10**15)
    assert liveness.wake(10**15) == []


def test_however_quick_before_the_silence_must_last():
    liveness = watching(TRADES, OTHER)
    last = speaking(liveness, TRADES, every=1)
    heard(liveness, OTHER, last + MIN_SILENCE_NS)
    assert liveness.wake(last + MIN_SILENCE_NS - 1) == []
    assert len(liveness.wake(last + MIN_SILENCE_NS)) == 1


def test_when_nobody_speaks_it_is_the_market_that_is_quiet():
    liveness = watching(TRADES, OTHER)
    last = speaking(liveness, TRADES)
    now = last + MIN_SILENCE_NS
    heard(liveness, OTHER, now)
    assert liveness.wake(now + SIBLINGS_NS + 1) == []
    assert len(liveness.wake(now + SIBLINGS_NS)) == 1


def test_what_is_forgotten_is_suspected_no_more():
    liveness = watching(TRADES, OTHER)
    last = speaking(liveness, TRADES)
    liveness.forget(TRADES)
    heard(liveness, OTHER, last + MIN_SILENCE_NS)
    assert liveness.wake(last + MIN_SILENCE_NS) == []


# --- trades move, the book does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tape", [TRADES, AGGREGATES])
def test_many_trades_without_a_change_of_the_book_are_told_once(tape):
    liveness = watching(BOOK, tape)
    heard(liveness, BOOK, 0)
    speaking(liveness, tape, times=FROZEN_TRADES, every=1)
    assert liveness.wake(FROZEN_NS - 1) == []
    assert liveness.wake(FROZEN_NS) == [BookFrozen(BOOK, FROZEN_TRADES)]
    assert liveness.wake(FROZEN_NS + SECOND) == []


def test_a_trade_too_few_is_no_frozen_book():
    liveness = watching(BOOK, TRADES)
    speaking(liveness, TRADES, times=FROZEN_TRADES - 1, every=1)
    assert liveness.wake(FROZEN_NS) == []


def test_one_change_of_the_book_begins_the_count_anew():
    liveness = watching(BOOK, TRADES)
    speaking(liveness, TRADES, times=FROZEN_TRADES, every=1)
    heard(liveness, BOOK, 100)
    speaking(liveness, TRADES, times=FROZEN_TRADES - 1, every=1, start=101)
    assert liveness.wake(100 + FROZEN_NS) == []
    heard(liveness, TRADES, 200)
    assert liveness.wake(100 + FROZEN_NS) == [BookFrozen(BOOK, FROZEN_TRADES)]


def test_the_trades_of_another_symbol_do_not_count():
    liveness = watching(BOOK, OTHER)
    heard(liveness, BOOK, 0)
    speaking(liveness, OTHER, times=2 * FROZEN_TRADES, every=1)
    assert liveness.wake(FROZEN_NS) == []


def test_trades_and_book_on_two_connections():
    """As OKX and Binance USD-M have them: each looks at the other."""
    here, there = watching(BOOK), Liveness(0, 0, 0, lambda: [here])
    there.expect(TRADES, 0)
    beside = Liveness(0, 0, 0, lambda: [beside, there])  # and is not counted twice if it finds itself
    beside.expect(BOOK, 0)
    heard(beside, BOOK, 0)
    assert beside.wake(SECOND) == []
    speaking(there, TRADES, times=FROZEN_TRADES, every=1, start=2 * SECOND)
    assert beside.wake(FROZEN_NS) == [BookFrozen(BOOK, FROZEN_TRADES)]
    heard(beside, BOOK, FROZEN_NS)
    assert beside.wake(FROZEN_NS + SECOND) == []
    assert beside.wake(2 * FROZEN_NS + SECOND) == []


def test_trades_that_never_speak_while_their_book_elsewhere_moves():
    book = watching(BOOK)
    trades = Liveness(0, 0, 0, lambda: [book])
    trades.expect(TRADES, 0)
    speaking(book, BOOK, times=MUTE_CHANGES, every=1)
    assert trades.wake(MUTE_NS - 1) == []
    assert trades.wake(MUTE_NS) == [SubscriptionSilent(TRADES, MUTE_NS)]


def test_a_sibling_on_another_connection_is_one():
    book = watching(BOOK)
    trades = Liveness(0, 0, 0, lambda: [book])
    trades.expect(TRADES, 0)
    last = speaking(trades, TRADES)
    late = last + MIN_SILENCE_NS
    assert trades.wake(late) == [], "all is quiet"
    heard(book, BOOK, late)
    assert trades.wake(late) == [SubscriptionSilent(TRADES, MIN_SILENCE_NS)]


def test_of_two_depths_of_a_book_one_may_be_forgotten():
    deeper = Subscription("A", Channel.BOOK, 10)
    liveness = watching(BOOK, deeper, TRADES)
    liveness.forget(deeper)
    heard(liveness, BOOK, 1)
    speaking(liveness, TRADES, every=1)
    assert liveness.wake(FROZEN_NS) == []


# --- all together ---------------------------------------------------------------------------------------------------


def test_who_watches_nothing_need_not_wake():
    assert Liveness(silence_ns=0, heartbeat_ns=0, now=0).next_wake() is None


def test_it_wants_to_be_woken_a_second_after_each_wake():
    liveness = Liveness(silence_ns=30 * SECOND, heartbeat_ns=0, now=0)
    assert liveness.next_wake() == SECOND
    liveness.wake(7 * SECOND)
    assert liveness.next_wake() == 8 * SECOND


WATCHED = [BOOK, TRADES, AGGREGATES, OTHER, Subscription("A", Channel.BOOK, 10), Subscription("B", Channel.BOOK)]
ACTIONS = st.tuples(
    st.sampled_from(["expect", "forget", "data", "data", "data", "frame", "heartbeat", "wake"]),
    st.sampled_from(WATCHED), st.integers(0, 40), st.integers(1, 40),
)


@given(st.lists(ACTIONS, max_size=60))
def test_it_never_fails_and_names_only_what_it_was_told_to_expect(actions):
    liveness, now, expected = watching(silence_ns=10**12), 0, set()
    for verb, subscription, wait, times in actions:
        now += wait * SECOND
        if verb == "wake":
            verdicts = liveness.wake(now)
            named = [it.subscription for it in verdicts if isinstance(it, SubscriptionSilent | BookFrozen)]
            assert set(named) <= expected
            assert all(count == 1 for count in Counter(named).values())
        elif verb == "frame":
            liveness.frame_at = now
        elif verb == "heartbeat":
            liveness.heartbeat(now)
        elif verb == "expect":
            liveness.expect(subscription, now)
            expected.add(subscription)
        elif verb == "forget":
            liveness.forget(subscription)
            expected.discard(subscription)
        else:
            for _ in range(times):
                heard(liveness, subscription, now)


# --- pings, which the session itself keeps --------------------------------------------------------------------------


def pinging(every, wait):
    """A Kraken session, alone with its pings; and what its timers bring until some time."""
    session = Session(Kraken(), (), 0, timings=Timings(
        ping_every_ns=every * SECOND, pong_wait_ns=wait * SECOND, silence_ns=0, heartbeat_ns=0))
    session.open(0)

    def until(end):
        seen = []
        while (due := session.next_wake()) <= end * SECOND:
            seen += [(due // SECOND, type(it)) for it in session.wake(due)]
        return seen

    return session, until


def test_a_ping_goes_out_at_its_time_and_its_pong_gives_the_round_trip():
    session, until = pinging(20, 10)
    assert until(20) == [(20, Send)]
    session.receive(b'{"method":"pong","req_id":1}', 20 * SECOND + 70)
    assert session.round_trip_ns == 70
    assert until(50) == [(40, Send), (50, Reconnect)]


@pytest.mark.parametrize(("every", "wait"), [(20, 10), (10, 10), (4, 10)])
def test_a_missing_pong_is_noticed_however_often_pings_go_out(every, wait):
    _, until = pinging(every, wait)
    assert (every + wait, Reconnect) in until(every + wait)


def test_a_pong_wait_of_0_waits_for_no_pong():
    session, until = pinging(20, 0)
    assert until(45) == [(20, Send), (40, Send)]
    assert session.counters["pong missing"] == 0


def test_trades_that_are_no_longer_wanted_freeze_no_book():
    liveness = watching(BOOK, TRADES)
    heard(liveness, BOOK, 0)
    speaking(liveness, TRADES, times=2 * FROZEN_TRADES, every=1)
    liveness.forget(TRADES)
    assert liveness.wake(FROZEN_NS) == []
