"""What a venue counts is spread so that its limit is never met, and everybody comes through."""
from hypothesis import given
from hypothesis import strategies as st

from onetape.feed.pace import SHARE, Pace

steps = st.lists(st.integers(0, 50), min_size=1, max_size=200)


def times_of(pace, waits):
    """Everybody goes as soon as it may, having come so long after the one before."""
    now, times = 0, []
    for wait in waits:
        now = max(now + wait, pace.free_at(now + wait))
        pace.take(now)
        times.append(now)
    return times


@given(st.integers(1, 30), st.integers(1, 100), steps)
def test_never_more_than_the_share_within_any_window(limit, per, waits):
    most = max(int(limit * SHARE), 1)
    times = times_of(Pace(limit, per), waits)
    for first, last in zip(times, times[most:], strict=False):
        assert last - first >= per


@given(st.integers(1, 30), st.integers(1, 100), steps)
def test_nobody_waits_without_need(limit, per, waits):
    """Who waits is the one too many within the window that ends with its turn."""
    most = max(int(limit * SHARE), 1)
    pace, now, times = Pace(limit, per), 0, []
    for wait in waits:
        now += wait
        at = pace.free_at(now)
        assert at >= now
        assert at <= now + per
        if at > now:
            assert times[-most] + per == at
        now = at
        pace.take(now)
        times.append(now)


@given(st.integers(1, 30), st.integers(1, 100), st.lists(st.integers(0, 1_000)))
def test_asking_takes_nothing(limit, per, moments):
    pace = Pace(limit, per)
    assert [pace.free_at(now) for now in moments] == moments


@given(st.integers(1, 5), st.integers(1, 100), st.integers(1, 40))
def test_who_does_not_wait_is_counted_all_the_same(limit, per, count):
    """What happened happened: the next one waits for it, and no list grows."""
    pace = Pace(limit, per)
    for _ in range(count):
        pace.take(7)
    most = max(int(limit * SHARE), 1)
    assert pace.free_at(7) == (7 if count < most else 7 + per)
    assert len(pace._taken) <= most
