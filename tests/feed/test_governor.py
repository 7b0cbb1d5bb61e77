"""A venue's allowance: never more than a share of it in any window, pauses kept, everybody served in the end."""
from heapq import heappop, heappush

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetape.clock import SECOND
from onetape.feed.governor import LONGEST_PAUSE_NS, Governor, Priority, allowed
from onetape.venues.base import Budget

HEADER = "x-used"
budgets = st.builds(Budget, st.integers(1, 60), st.integers(1, 200), st.just(HEADER), st.sampled_from([0.5, 0.9]))
requests = st.tuples(st.integers(0, 60), st.integers(1, 40), st.sampled_from(Priority))  # time before it, weight, whose
used = st.tuples(st.just("used"), st.integers(0, 90))
pauses = st.tuples(st.just("pause"), st.integers(0, 300))
happenings = st.lists(st.one_of(requests, requests, requests, used, pauses), min_size=1, max_size=60)


def play(governor, budget, happenings):
    """Everybody asks one after the other and leaves as soon as it may; gives (time, weight, priority, used before)."""
    now, sent, paused = 0, [], 0
    for it in happenings:
        if it[0] == "used":
            governor.answered({HEADER: str(it[1])}, now)
            continue
        if it[0] == "pause":
            governor.pause(it[1], now)
            paused = max(paused, now + it[1])
            continue
        wait, weight, priority = it
        now += wait
        turns = 0
        while (at := governor.free_at(weight, priority, now)) > now:
            now, turns = at, turns + 1
            assert turns < 500, "it never gets its turn"
        assert now >= paused
        sent.append((now, weight, priority, governor.used))
        governor.sent(weight, now)
    return sent


@given(budgets, happenings)
def test_never_more_than_the_share_within_any_window(budget, happenings):
    sent = play(Governor(budget), budget, happenings)
    for number, (time, weight, priority, _) in enumerate(sent):
        within = weight + sum(it[1] for it in sent[:number] if it[0] > time - budget.per_ns)
        share = allowed(budget, priority)
        assert within <= share or within == weight  # what is heavier than the share goes alone


@given(budgets, happenings)
def test_what_the_venue_says_is_used_counts_as_if_it_were_ours(budget, happenings):
    for _, weight, priority, before in play(Governor(budget), budget, happenings):
        share = allowed(budget, priority)
        assert before + weight <= share or before == 0


@given(budgets, st.lists(requests, min_size=1, max_size=60))
def test_nobody_waits_without_need(budget, asked):
    """A moment earlier it would have been too much."""
    governor, now, sent = Governor(budget), 0, []
    for wait, weight, priority in asked:
        now += wait
        before = now
        while (at := governor.free_at(weight, priority, now)) > now:
            now = at
        if now > before:
            share = allowed(budget, priority)
            recent = sum(it for time, it in sent if time > now - 1 - budget.per_ns)
            assert recent + weight > share
        sent.append((now, weight))
        governor.sent(weight, now)


@given(budgets, st.lists(st.tuples(st.integers(1, 40), st.sampled_from(Priority)), min_size=1, max_size=40))
def test_everybody_is_served_in_the_end_the_urgent_ones_first(budget, wanted):
    """As Rest does it: all come at once, and the most urgent one leaves as soon as it may."""
    governor, now, waiting, order = Governor(budget), 0, [], []
    for number, (weight, priority) in enumerate(wanted):
        heappush(waiting, (priority, number, weight))
    while waiting:
        priority, number, weight = waiting[0]
        at = governor.free_at(weight, priority, now)
        if at <= now:
            heappop(waiting)
            governor.sent(weight, now)
            order.append((priority, number))
        else:
            now = at
    assert order == sorted(order)
    assert now <= budget.per_ns * len(wanted)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 10**18)), min_size=1, max_size=20))
def test_pauses_only_grow_and_are_never_longer_than_a_ban(asked):
    governor, now, until = Governor(Budget(100, SECOND)), 0, 0
    for wait, pause in asked:
        now += wait
        governor.pause(pause, now)
        until = max(until, now + min(pause, LONGEST_PAUSE_NS))
        assert governor.paused_until == until
        assert governor.free_at(1, Priority.RESYNC, now) == max(now, until)
    assert governor.counters["pauses"] == len(asked)


def test_backfill_leaves_room_for_a_resync():
    governor = Governor(Budget(100, SECOND, backfill=0.5))
    for priority, room in ((Priority.BACKFILL, 50), (Priority.RESYNC, 40)):
        assert governor.free_at(room, priority, 0) == 0
        governor.sent(room, 0)
        assert governor.free_at(1, priority, 0) == SECOND
    assert governor.used == 90
    assert governor.free_at(1, Priority.BACKFILL, SECOND) == SECOND
    assert governor.used == 0


@pytest.mark.parametrize("text", ["", "x", "-5", "1e3", "٣", " 7", "99999999999999999999"])
def test_a_header_that_makes_no_sense_changes_nothing(text):
    governor = Governor(Budget(100, SECOND, HEADER))
    governor.answered({HEADER: text}, 0)
    assert governor.used == 0


def test_a_header_beyond_all_reason_stops_us_for_a_window_and_no_longer():
    governor = Governor(Budget(100, SECOND, HEADER))
    governor.answered({HEADER: "999999999"}, 5)
    assert governor.free_at(1, Priority.RESYNC, 6) == 5 + SECOND
    assert governor.free_at(1, Priority.RESYNC, 5 + SECOND) == 5 + SECOND


def test_a_header_that_says_less_than_we_know_is_not_believed():
    governor = Governor(Budget(100, SECOND, HEADER))
    governor.sent(30, 0)
    governor.answered({HEADER: "10"}, 1)
    governor.answered({}, 1)
    governor.answered({"other": "90"}, 1)
    assert governor.used == 30


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=300))
def test_what_is_past_is_forgotten(waits):
    governor, now = Governor(Budget(10**9, 1_000)), 0
    for wait in waits:
        now += wait
        governor.free_at(1, Priority.RESYNC, now)
        governor.sent(1, now)
    assert governor.used == len(governor._sent) <= 1_001
