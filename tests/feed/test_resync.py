"""A book asks for its snapshot at the venue's pace, never in a storm, and never stops asking."""
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onetape.book.rules import BookRules, Snapshots
from onetape.clock import SECOND
from onetape.feed.resync import CALM_NS, FETCH_NS, LONGEST_WAIT_NS, Resync, Step
from onetape.feed.session import Session
from onetape.model import Channel, FeedStatus, Reconnect, Send, Subscription, TrustState
from onetape.venues.base import Timings
from onetape.venues.bybit import Bybit

EVERY, PATIENCE = 5 * SECOND, 3 * SECOND
KINDS = {kind: BookRules(kind, resends=True, resync_every_ns=EVERY, snapshot_wait_ns=PATIENCE) for kind in Snapshots}
REST, IN_BAND, EITHER = (KINDS[it] for it in (Snapshots.REST, Snapshots.IN_BAND, Snapshots.IN_BAND_OR_REST))
REQUESTS = (Step.FETCH, Step.UNSUBSCRIBE)


def asked(resync, end, now=0):
    """What its timers bring until ``end``, as (time, step)."""
    seen, wakes = [], 0
    while (due := resync.next_wake()) is not None and due <= end:
        wakes += 1
        assert wakes < 1_000  # it does not spin
        assert due >= now
        now = due
        step = resync.wake(now)
        seen += [(now, step)] if step else []
    return seen


def in_vain(resync, end, now=0):
    """As ``asked``, where every fetch fails at once."""
    seen = []
    while (due := resync.next_wake()) is not None and due <= end:
        now, step = due, resync.wake(due)
        seen += [(now, step)] if step else []
        if step is Step.FETCH:
            assert resync.answered(now) is None
    return seen


# --- by REST --------------------------------------------------------------------------------------------------------


def test_a_need_is_fetched_at_once():
    assert Resync(REST).need(7) is Step.FETCH


def test_saying_so_again_while_a_request_is_under_way_changes_nothing():
    resync = Resync(REST)
    resync.need(0)
    due = resync.next_wake()
    assert resync.need(1) is None
    assert resync.next_wake() == due == FETCH_NS


def test_an_answer_may_be_long_in_coming_behind_others_and_is_not_asked_for_twice():
    resync = Resync(REST)
    resync.need(0)
    assert asked(resync, FETCH_NS - 1) == []
    assert asked(resync, FETCH_NS) == [(FETCH_NS, Step.FETCH)]


def test_an_answer_in_vain_makes_room_for_the_next_one_at_the_pace():
    resync = Resync(REST)
    resync.need(0)
    assert resync.answered(SECOND) is None
    assert resync.next_wake() == EVERY
    assert resync.wake(EVERY - 1) is None
    assert resync.wake(EVERY) is Step.FETCH


def test_the_venues_own_wait_counts_where_it_is_longer():
    resync = Resync(REST)
    resync.need(0)
    assert resync.answered(SECOND, 100 * SECOND) is None
    assert asked(resync, 101 * SECOND) == [(101 * SECOND, Step.FETCH)]


def test_by_rest_it_never_gives_the_connection_up():
    resync = Resync(REST)
    resync.need(0)
    resync.answered(0)
    steps = in_vain(resync, 3_600 * SECOND)
    assert len(steps) > 50
    assert {step for _, step in steps} == {Step.FETCH}


def test_waits_double_up_to_half_a_minute():
    resync = Resync(REST)
    resync.need(0)
    resync.answered(0)
    times = [0, *(at for at, _ in in_vain(resync, 900 * SECOND))]
    waits = [later - earlier for earlier, later in pairwise(times)]
    assert [it // SECOND for it in waits[:5]] == [5, 10, 20, 30, 30]
    assert set(waits[4:]) == {LONGEST_WAIT_NS}


def test_live_ends_it():
    resync = Resync(REST)
    resync.need(0)
    resync.live(SECOND)
    assert resync.next_wake() is None
    assert resync.wake(10**15) is None


def test_a_snapshot_that_waits_for_the_streams_word_is_not_asked_for_again():
    resync = Resync(REST)
    resync.need(0)
    resync.held()
    assert resync.next_wake() is None


def test_a_book_that_was_live_only_shortly_goes_on_where_its_waits_were():
    resync = Resync(REST)
    resync.need(0)
    resync.live(1)
    assert resync.need(CALM_NS) is Step.FETCH
    resync.answered(CALM_NS)
    assert in_vain(resync, CALM_NS + 10 * SECOND, CALM_NS) == [(CALM_NS + 2 * EVERY, Step.FETCH)]


def test_a_book_that_was_live_for_long_begins_its_next_trouble_afresh():
    resync = Resync(REST)
    resync.need(0)
    resync.live(1)
    assert resync.need(1 + CALM_NS) is Step.FETCH
    resync.answered(1 + CALM_NS)
    assert in_vain(resync, 1 + CALM_NS + EVERY, CALM_NS) == [(1 + CALM_NS + EVERY, Step.FETCH)]


# --- in-band --------------------------------------------------------------------------------------------------------


def test_the_snapshot_of_the_first_subscription_is_waited_for():
    resync = Resync(IN_BAND)
    resync.subscribed(0)
    assert resync.need(1) is None
    assert asked(resync, PATIENCE) == [(PATIENCE, Step.UNSUBSCRIBE)]


def test_by_rest_the_first_subscription_brings_no_snapshot():
    resync = Resync(REST)
    resync.subscribed(0)
    assert resync.next_wake() is None


def test_it_subscribes_again_only_when_the_venue_confirmed():
    resync = Resync(IN_BAND)
    assert resync.need(0) is Step.UNSUBSCRIBE
    assert resync.need(1) is None
    assert resync.unsubscribed(2) is Step.SUBSCRIBE
    assert resync.unsubscribed(3) is None
    assert resync.next_wake() == 2 + PATIENCE


def test_it_subscribes_again_though_the_confirmation_stays_away():
    resync = Resync(IN_BAND)
    resync.need(0)
    assert asked(resync, PATIENCE) == [(PATIENCE, Step.SUBSCRIBE)]


def test_an_unsubscription_that_nobody_asked_for_is_not_answered():
    assert Resync(IN_BAND).unsubscribed(0) is None


def test_after_three_in_vain_it_is_hopeless_and_goes_on_all_the_same():
    resync = Resync(IN_BAND)
    resync.need(0)
    seen = []
    while not resync.hopeless:
        seen += asked(resync, resync.next_wake())
    assert [step for _, step in seen].count(Step.UNSUBSCRIBE) == 3  # and the first one
    later = [at for at, step in asked(resync, 3_600 * SECOND) if step is Step.UNSUBSCRIBE]
    assert len(later) > 50
    resync.live(later[-1])
    resync.need(later[-1] + CALM_NS)
    assert not resync.hopeless


def test_a_wait_begins_when_the_frame_left_and_not_when_it_was_put_in_line():
    resync = Resync(IN_BAND)
    resync.need(0)
    resync.sent(30 * SECOND)
    assert asked(resync, 30 * SECOND + PATIENCE) == [(30 * SECOND + PATIENCE, Step.SUBSCRIBE)]


def test_what_is_refused_for_now_is_asked_for_later():
    resync = Resync(IN_BAND)
    resync.subscribed(0)
    resync.refused(1)
    assert asked(resync, 1 + EVERY) == [(1 + EVERY, Step.UNSUBSCRIBE)]


def test_where_both_serve_it_takes_turns():
    resync = Resync(EITHER)
    steps = [resync.need(0), *(step for _, step in in_vain(resync, 120 * SECOND))]
    assert [it for it in steps if it is not Step.SUBSCRIBE][:4] == [
        Step.UNSUBSCRIBE, Step.FETCH, Step.UNSUBSCRIBE, Step.FETCH,
    ]


@pytest.mark.parametrize("meanwhile", ["live", "held", "answered"])
def test_once_unsubscribed_it_subscribes_again_whatever_comes_meanwhile(meanwhile):
    """A late snapshot makes the book live; were it left so, nothing would ever come of it again."""
    for ends in ("confirmed", "not confirmed"):
        resync = Resync(EITHER)
        assert resync.need(0) is Step.UNSUBSCRIBE
        getattr(resync, meanwhile)(*([] if meanwhile == "held" else [1]))
        if ends == "confirmed":
            assert resync.unsubscribed(2) is Step.SUBSCRIBE
        else:
            assert asked(resync, PATIENCE) == [(PATIENCE, Step.SUBSCRIBE)]


@pytest.mark.parametrize("by_then", ["live", "held"])
def test_an_answer_in_vain_that_comes_when_all_is_well_asks_for_nothing(by_then):
    """Else a healthy book would be torn down, and in the end its connection with it."""
    resync = Resync(EITHER)
    resync.need(0)
    resync.unsubscribed(0)
    assert asked(resync, EVERY) == [(EVERY, Step.FETCH)]
    getattr(resync, by_then)(*([EVERY + 1] if by_then == "live" else []))
    assert resync.answered(EVERY + 2) is None
    assert asked(resync, 3_600 * SECOND) == []


def snapshot(update):
    return (
        b'{"topic":"orderbook.50.BTCUSDT","type":"snapshot","ts":1,"data":{"s":"BTCUSDT","b":[["1","1"]],"a":[],"u":%d}}'
        % update
    )


def test_a_snapshot_that_comes_after_the_book_was_unsubscribed_leaves_no_live_book_without_a_stream():
    book = Subscription("BTCUSDT", Channel.BOOK, 50)
    session = Session(Bybit("spot"), (book,), 0, timings=Timings(silence_ns=0, heartbeat_ns=0))
    session.open(0)
    leaving = int(SECOND / Bybit.spec.limits.sends_per_second)
    late = Bybit.spec.book.snapshot_wait_ns + leaving
    assert session.next_wake() == SECOND
    assert [it.frame.count(b'"unsubscribe"') for it in session.wake(late)] == [1]
    session.receive(snapshot(7), late + 1)
    assert session.books["BTCUSDT"].state is TrustState.LIVE
    stale, send = session.receive(b'{"success":true,"ret_msg":"","req_id":"2","op":"unsubscribe"}', late + 2)
    assert isinstance(stale, FeedStatus)
    assert stale.state is TrustState.STALE
    assert b'"subscribe"' in send.frame
    session.receive(snapshot(9), late + 3)
    assert session.books["BTCUSDT"].state is TrustState.LIVE
    sent = [it for at in range(20) for it in session.wake(late + at * SECOND) if isinstance(it, Send | Reconnect)]
    assert sent == []


# --- in any order ---------------------------------------------------------------------------------------------------

MOVES = st.lists(st.tuples(
    st.sampled_from(["need", "need", "answered", "unsubscribed", "held", "live", "wake", "wake"]),
    st.integers(0, 90 * SECOND), st.sampled_from([0, 0, 7 * SECOND, 200 * SECOND]),
), max_size=50)
FIRST = st.booleans()  # whether all begins with a subscription


class Driven:
    """A Resync with all that it asked for."""

    def __init__(self, rules, first):
        self.resync, self.now, self.steps = Resync(rules), 0, []
        if first:
            self.resync.subscribed(0)

    def move(self, verb, wait, told):
        self.now += wait
        match verb:
            case "held":
                step = self.resync.held()
            case "answered":
                step = self.resync.answered(self.now, told)
            case _:
                step = getattr(self.resync, verb)(self.now)
        self.note(step)

    def note(self, step):
        if step is not None:
            self.steps.append((self.now, step))

    def run(self, moves):
        for it in moves:
            self.move(*it)


@pytest.mark.parametrize("kind", Snapshots)
@given(moves=MOVES, first=FIRST)
def test_requests_are_never_closer_than_the_spacing(kind, moves, first):
    driven = Driven(KINDS[kind], first)
    driven.run(moves)
    times = [at for at, step in driven.steps if step in REQUESTS]
    assert all(later - earlier >= EVERY for earlier, later in pairwise(times))


@pytest.mark.parametrize("kind", Snapshots)
@given(moves=MOVES, first=FIRST)
def test_subscribing_always_follows_unsubscribing_once(kind, moves, first):
    driven = Driven(KINDS[kind], first)
    driven.run(moves)
    in_band = [step for _, step in driven.steps if step in (Step.UNSUBSCRIBE, Step.SUBSCRIBE)]
    assert in_band[0::2] == [Step.UNSUBSCRIBE] * len(in_band[0::2])
    assert in_band[1::2] == [Step.SUBSCRIBE] * len(in_band[1::2])


@pytest.mark.parametrize("kind", Snapshots)
@example(moves=[("need", 0, 0), ("held", 0, 0)], first=False)
@given(moves=MOVES, first=FIRST)
def test_from_any_state_a_book_in_need_gets_its_step_within_the_longest_waits(kind, moves, first):
    driven = Driven(KINDS[kind], first)
    driven.run(moves)
    driven.note(driven.resync.need(driven.now))
    count, begin = len(driven.steps), driven.now
    for _ in range(3):  # woken when it says so, and nothing else ever happens
        if len(driven.steps) > count:
            break
        due = driven.resync.next_wake()
        assert due is not None
        driven.now = max(driven.now, due)
        driven.note(driven.resync.wake(driven.now))
    assert len(driven.steps) > count
    assert driven.now - begin <= FETCH_NS + LONGEST_WAIT_NS + PATIENCE + 200 * SECOND


@pytest.mark.parametrize("kind", Snapshots)
@given(moves=MOVES, first=FIRST)
def test_a_wake_that_is_due_always_moves_on(kind, moves, first):
    """Whoever wakes at the deadline does not spin."""
    driven = Driven(KINDS[kind], first)
    for it in moves:
        driven.move(*it)
        due = driven.resync.next_wake()
        if due is not None and due <= driven.now:
            driven.note(driven.resync.wake(driven.now))
            again = driven.resync.next_wake()
            assert again is None or again > driven.now
