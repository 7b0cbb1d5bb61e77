"""Intervals behave like the set of integers that they stand for."""
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from onetape.tape.coverage import Coverage

piece = st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda it: (it[0], it[0] + it[1]))


@given(st.lists(piece, max_size=30), st.integers(-2, 70), st.integers(0, 20))
def test_coverage_is_a_set(pieces, low, length):
    coverage, truth = Coverage(), set()
    for first, last in pieces:
        added = coverage.add(first, last, first, last)
        assert added == len(set(range(first, last + 1)) - truth)
        truth |= set(range(first, last + 1))
    intervals = list(coverage)
    assert {it for one in intervals for it in range(one.first, one.last + 1)} == truth
    assert all(left.last + 1 < right.first for left, right in pairwise(intervals))
    high = low + length
    assert coverage.covers(low, high) == (set(range(low, high + 1)) <= truth)
    assert coverage.below(low) == max((it for it in truth if it < low), default=None)
    assert coverage.above(high) == min((it for it in truth if it > high), default=None)
    if truth:
        inner = set(range(max(low, min(truth)) + 1, min(high, max(truth))))
        missing = {it for one in coverage.missing(low, high) for it in range(one.first, one.last + 1)}
        assert missing == {it for it in inner if it not in truth and low < it < high}


@given(st.lists(st.integers(1, 5), max_size=20))
def test_extending_is_adding(steps):
    quick, slow, here = Coverage(), Coverage(), 0
    for step in steps:
        if not quick.extend(here, here + step, here + step):
            quick.add(here + 1, here + step, here + step, here + step)
        slow.add(here + 1, here + step, here + step, here + step)
        here += step
    assert [(it.first, it.last) for it in quick] == [(it.first, it.last) for it in slow]


def test_extending_from_elsewhere_is_refused():
    coverage = Coverage()
    assert not coverage.extend(0, 1, 0)
    coverage.add(1, 5, 0, 0)
    assert not coverage.extend(4, 6, 0)
    assert coverage.extend(5, 6, 0)
