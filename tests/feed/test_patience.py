"""A lost connection is tried again later each time, within bounds, and not by all at once."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetape.clock import SECOND
from onetape.feed.patience import Patience

chances = st.floats(0, 1, exclude_max=True)
nanoseconds = st.integers(1, 10**12)


def test_the_waits_of_the_defaults():
    waits = [Patience().wait(failures, 0.0) // SECOND for failures in range(1, 14)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30, 30, 60, 60, 60, 60]


@given(st.integers(0, 10**9), chances)
def test_within_bounds_whatever_happens(failures, chance):
    it = Patience()
    cap = it.long_cap_ns if failures >= it.many else it.cap_ns
    assert it.base_ns <= it.wait(failures, chance) <= cap * (1 + it.jitter)


@given(nanoseconds, nanoseconds, nanoseconds, st.floats(0, 1), st.integers(1, 100), chances)
def test_within_the_bounds_of_any_setting(base, cap, long_cap, jitter, failures, chance):
    it = Patience(base_ns=base, cap_ns=cap, long_cap_ns=long_cap, jitter=jitter)
    most = long_cap if failures >= it.many else cap
    wait = it.wait(failures, chance)
    assert min(base, most) <= wait + 1
    assert wait <= most * (1 + jitter) + 1


@given(st.integers(1, 100), chances)
def test_never_sooner_than_the_time_before(failures, chance):
    it = Patience(jitter=0.0)
    assert it.wait(failures, chance) <= it.wait(failures + 1, chance)


@given(st.integers(1, 100), chances, chances)
def test_chance_alone_makes_them_differ_and_only_upwards(failures, one, other):
    it = Patience()
    assert it.wait(failures, 0.0) <= it.wait(failures, one)
    if one <= other:
        assert it.wait(failures, one) <= it.wait(failures, other)


@pytest.mark.parametrize("failures", [0, -1])
def test_before_any_failure_the_base_is_the_wait(failures):
    assert Patience().wait(failures, 0.0) == SECOND
