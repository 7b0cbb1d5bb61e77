"""A line with sessions that only pretend: which connections it makes, when, and what it passes on. On virtual time."""
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from onetape import venues
from onetape.clock import HOUR, MINUTE, SECOND
from onetape.feed.inputs import Closed, Setup
from onetape.feed.line import FIRST_REFUSED_NS, LONGEST_WAIT_NS, RETRY_SWITCH_NS, STEADY_NS, SWITCH_NS, Line
from onetape.feed.pace import Pace
from onetape.feed.patience import Patience
from onetape.model import (
    Connect,
    ConnectionState,
    Disconnect,
    FeedError,
    Fetch,
    Lifecycle,
    NeedSnapshot,
    Quote,
    Reconnect,
    Request,
    RestKind,
    Send,
)
from onetape.venues.base import Reaction

PLAIN = Patience(jitter=0.0, max_attempts=0)
SPEC = structs.replace(venues.spec("kraken"), close_codes={4004: Reaction.DROP})
ROTATING = structs.replace(SPEC, timings=structs.replace(SPEC.timings, rotate_after_ns=HOUR))


class Fake:
    """A session that does what the test says."""

    def __init__(self, setup, now):
        self.counters, self.frames, self.delivered, self.settled = {}, 0, 0, False
        self.lacking, self.older, self.proven = 0, False, True
        self.opened_at, self.closed = now, None

    def open(self, now):
        return [Send(b"subscribe")]

    def close(self, reason, now):
        self.closed = reason
        return [error("closed")]

    def introduce(self, now, before=None):
        return [error("introduced")]

    def behind(self, other, tolerance_ns):
        return self.older

    def overlaps(self, before):
        return self.proven

    def bridge(self, before, reason, now):
        return [] if self.proven else [error("bridged")]

    def begun(self, symbol):
        return False


def error(reason):
    return FeedError(venue="kraken", received_time=0, available_at=0, symbol="", channel=None, reason=reason)


class Stand:
    """A line and what it has said."""

    def __init__(self, spec=SPEC, patience=PLAIN, seed=1, name="kraken", pace=None):
        self.sessions = {}
        self.pace = pace or Pace(1_000, SECOND)
        setup = Setup("kraken", "", (), patience=patience)
        self.line = Line(name, setup, spec, self.pace, self.sessions, seed, Fake)
        self.said = []

    def do(self, said):
        self.said = list(said)
        return self.said

    def start(self, now=0):
        return self.do(self.line.start(now))

    def open(self, now, name=None):
        return self.do(self.line.opened(name or self.line.leader, now))

    def close(self, now, name=None, **rest):
        rest = {"reason": "lost"} | rest
        return self.do(self.line.closed(Closed(number=1, time=now, connection=name or self.line.leader, **rest)))

    def wake(self):
        """At the next deadline, which it gives."""
        at = self.line.next_wake()
        self.do(self.line.wake(at))
        return at

    def relay(self, now, *said, name=None):
        return self.do(self.line.relay(name or self.line.leader, said, now))

    def active(self, now=0):
        """Up and flowing."""
        self.start(now)
        self.open(now)
        self.sessions[self.line.leader].delivered = 1
        self.relay(now)
        assert self.line.state is Lifecycle.ACTIVE
        return self

    @property
    def states(self):
        return [it.state for _, it in self.said if isinstance(it, ConnectionState)]

    @property
    def commands(self):
        return [it for _, it in self.said if isinstance(it, Connect | Disconnect)]

    @property
    def reasons(self):
        return [it.reason for _, it in self.said if isinstance(it, FeedError)]


# --- one connection -------------------------------------------------------------------------------------------------


def test_from_start_to_stop():
    it = Stand()
    it.start()
    assert it.commands == [Connect("kraken#1", 0)]
    assert it.states == [Lifecycle.CONNECTING]
    it.open(1)
    assert it.states == [Lifecycle.CONNECTED, Lifecycle.SUBSCRIBING]
    assert ("kraken#1", Send(b"subscribe")) in it.said
    it.relay(2, error("x"))
    assert it.states == []  # success is data that flowed
    it.sessions["kraken#1"].delivered = 1
    it.relay(3)
    assert it.states == [Lifecycle.ACTIVE]
    it.do(it.line.stop(4))
    assert it.commands == [Disconnect("kraken#1", "stopped")]
    assert it.states == [Lifecycle.STOPPED]
    assert it.sessions == {}
    assert it.line.next_wake() is None


def test_stopped_while_it_connects():
    it = Stand()
    it.start()
    it.do(it.line.stop(1))
    assert it.commands == [Disconnect("kraken#1", "stopped")]
    assert it.close(2, "kraken#1") == []
    assert it.line.next_wake() is None


def test_stopped_while_it_waits():
    it = Stand()
    it.start()
    it.close(1)
    it.do(it.line.stop(2))
    assert it.commands == []
    assert it.line.next_wake() is None


def test_each_failure_waits_longer_and_tries_the_next_address():
    it = Stand()
    it.start()
    now, waits = 0, []
    for failures in range(1, 8):
        it.close(now)
        assert it.states == [Lifecycle.RECONNECTING]
        at = it.wake()
        waits.append((at - now) // SECOND)
        assert it.commands == [Connect(f"kraken#{failures + 1}", failures)]
        now = at
    assert waits == [1, 2, 4, 8, 16, 30, 30]


def test_only_data_ends_the_row_of_failures():
    it = Stand()
    it.start()
    for failures in range(1, 4):
        it.close(0)
        it.wake()
        it.open(0)  # it opens, but nothing flows
        assert it.line.failures == failures
    it.sessions[it.line.leader].delivered = 1
    it.relay(0)
    assert it.states == [Lifecycle.ACTIVE]
    it.close(STEADY_NS - 1)  # some venues drop everybody with the first data
    assert it.line.failures == 4
    it.wake()
    it.open(STEADY_NS)
    it.sessions[it.line.leader].delivered = 1
    it.relay(STEADY_NS)
    it.close(2 * STEADY_NS)
    assert it.line.failures == 1


def test_late_inputs_of_a_connection_that_was_given_up_change_nothing():
    it = Stand().active()
    first = it.line.leader
    it.close(1)
    it.wake()
    it.open(2)
    before = it.line.state, it.line.leader, it.line.next_wake()
    assert it.close(3, first) == []
    assert it.close(3, "kraken#99") == []
    assert it.relay(3, Reconnect("late"), name=first) == []
    assert (it.line.state, it.line.leader, it.line.next_wake()) == before


def test_a_session_that_wants_a_new_connection_gets_one():
    it = Stand().active()
    it.relay(5, Reconnect("silent"))
    assert it.commands == [Disconnect("kraken#1", "silent")]
    assert it.states == [Lifecycle.RECONNECTING]
    assert it.reasons == ["closed"]
    assert it.wake() == 5 + SECOND
    assert it.commands == [Connect("kraken#2", 0)]  # there data flowed


# --- what the venue asks for ----------------------------------------------------------------------------------------


def wait_after(spec=SPEC, patience=PLAIN, **closed):
    it = Stand(spec, patience)
    it.start()
    it.close(0, **closed)
    return it.line.next_wake(), it.line.state


@pytest.mark.parametrize("status", [400, 401, 404, 410, 451])
def test_what_asking_again_does_not_change_is_asked_rarely(status):
    assert wait_after(status=status) == (PLAIN.probe_ns, Lifecycle.ERROR)


def test_a_close_code_that_the_venue_means_for_good():
    assert wait_after(code=4004) == (PLAIN.probe_ns, Lifecycle.ERROR)


@pytest.mark.parametrize(("closed", "wait"), [
    ({"status": 403}, FIRST_REFUSED_NS),
    ({"status": 418}, SPEC.refused_wait_ns),
    ({"status": 429}, FIRST_REFUSED_NS),
    ({"status": 429, "retry_after_ns": 17 * SECOND}, 17 * SECOND),
    ({"status": 429, "retry_after_ns": 10**18}, LONGEST_WAIT_NS),
    ({"status": 429, "retry_after_ns": 1}, SECOND),
    ({"status": 503}, SPEC.maintenance_wait_ns),
    ({"status": 503, "retry_after_ns": HOUR}, HOUR),
    ({"code": 1001}, SPEC.maintenance_wait_ns),
    ({"code": 1012}, SPEC.maintenance_wait_ns),
    ({"code": 1013}, SPEC.maintenance_wait_ns),
    ({"code": 1008, "reason": "Too many requests"}, MINUTE),
    ({"code": 1008, "reason": "pong timeout"}, SECOND),
    ({"code": 1006}, SECOND),
    ({"status": 302}, SECOND),
])
def test_the_wait_that_an_answer_asks_for(closed, wait):
    assert wait_after(**closed) == (wait, Lifecycle.RECONNECTING)


@pytest.mark.parametrize("status", [403, 429])
def test_who_is_turned_away_again_waits_as_the_venue_wants(status):
    it = Stand()
    it.start()
    it.close(0, status=status)
    now = it.wake()
    it.close(now, status=status)
    assert it.line.next_wake() - now == SPEC.refused_wait_ns
    now = it.wake()
    it.open(now)  # let in: the next refusal is a first one
    it.close(now)
    now = it.wake()
    it.close(now, status=status)
    assert it.line.next_wake() - now == FIRST_REFUSED_NS


def test_the_circuit_opens_after_so_many_failures_and_closes_with_data():
    it = Stand(patience=structs.replace(PLAIN, max_attempts=3))
    it.start()
    now = 0
    for state in (Lifecycle.RECONNECTING, Lifecycle.RECONNECTING, Lifecycle.ERROR, Lifecycle.ERROR):
        it.close(now)
        assert it.states == [state]
        assert it.line.reason == "lost"
        last, now = now, it.wake()
    assert now - last == PLAIN.probe_ns
    it.open(now)
    it.sessions[it.line.leader].delivered = 1
    it.relay(now)
    assert it.states == [Lifecycle.ACTIVE]
    it.close(now + STEADY_NS)
    assert it.states == [Lifecycle.RECONNECTING]


def test_the_pace_of_the_venue_is_kept_by_all_its_lines():
    pace = Pace(2, MINUTE)  # of which one is ours
    one, two = Stand(pace=pace), Stand(name="other", pace=pace)
    one.start()
    two.start()
    assert two.commands == []
    assert two.line.next_wake() == MINUTE
    assert two.wake() == MINUTE
    assert two.commands == [Connect("other#1", 0)]


def test_waits_differ_by_seed_and_line_and_are_the_same_again():
    def waits(seed, name):
        it = Stand(patience=Patience(max_attempts=0), seed=seed, name=name)
        it.start()
        found, now = [], 0
        for _ in range(6):
            it.close(now)
            found.append(it.line.next_wake() - now)
            now = it.wake()
        return tuple(found)

    several = [waits(seed, name) for seed in (1, 2, 3) for name in ("kraken", "kraken.2")]
    assert len(set(several)) == 6
    assert several == [waits(seed, name) for seed in (1, 2, 3) for name in ("kraken", "kraken.2")]
    assert all(SECOND <= first <= 1.1 * SECOND for first, *_ in several)


# --- its replacement ------------------------------------------------------------------------------------------------


def rotating(now=0):
    it = Stand(ROTATING).active(now)
    at = it.wake()
    assert now + 0.9 * HOUR <= at <= now + HOUR
    assert it.commands == [Connect("kraken#2", 0)]
    assert (it.line.leader, it.line.next) == ("kraken#1", "kraken#2")
    assert it.states == []  # the line is as active as before
    return it, at


def test_the_new_connection_leads_when_it_is_complete():
    it, at = rotating()
    it.open(at, "kraken#2")
    assert it.states == []
    assert it.sessions["kraken#2"].opened_at == at
    it.sessions["kraken#2"].delivered = 1
    it.relay(at + 1, name="kraken#2")
    assert it.commands == []
    it.sessions["kraken#2"].settled = True
    it.relay(at + 2, name="kraken#2")
    assert it.commands == [Disconnect("kraken#1", "planned")]
    assert it.reasons == ["introduced"]  # and nothing of the old one's end
    assert it.states == [Lifecycle.ACTIVE]
    assert list(it.sessions) == ["kraken#2"]
    assert (it.line.leader, it.line.next) == ("kraken#2", "")
    assert it.line.counters["rotations"] == 1
    assert it.wake() > at + 0.8 * HOUR  # and so on


def test_of_the_new_connection_only_what_the_ledger_sorts_out_is_passed_on():
    it, at = rotating()
    it.open(at, "kraken#2")
    head = {"venue": "kraken", "received_time": 0, "available_at": 0, "symbol": "X"}
    quote = Quote(**head, exchange_time=0, bid=None, ask=None)
    fetch = Fetch(1, Request(RestKind.BOOK, "/"))
    it.relay(at, quote, Send(b"x"), fetch, NeedSnapshot("X", "why"), name="kraken#2")
    assert [one for _, one in it.said] == [Send(b"x"), fetch]
    it.relay(at, quote)
    assert it.said == [("kraken#1", quote)]


@pytest.mark.parametrize("opened", [False, True])
def test_a_replacement_that_fails_is_tried_again_while_the_old_one_holds(opened):
    it, at = rotating()
    if opened:
        it.open(at, "kraken#2")
    it.close(at + 1, "kraken#2", status=503)
    assert it.commands == []
    assert it.states == []
    assert it.reasons == []  # its end is nobody's business
    assert it.line.counters["rotations failed"] == 1
    assert it.wake() == at + 1 + RETRY_SWITCH_NS
    assert it.commands == [Connect("kraken#3", 1)]


def test_a_replacement_that_never_opens():
    it, at = rotating()
    assert it.wake() == at + ROTATING.timings.connect_ns + SWITCH_NS
    assert it.commands == [Disconnect("kraken#2", "not complete in time")]
    assert it.line.state is Lifecycle.ACTIVE


def test_a_replacement_that_never_delivers():
    it, at = rotating()
    it.open(at + 5, "kraken#2")
    assert it.wake() == at + 5 + SWITCH_NS
    assert it.commands == [Disconnect("kraken#2", "not complete in time")]
    assert list(it.sessions) == ["kraken#1"]


def test_a_replacement_that_delivers_but_is_never_complete_leads_when_its_time_is_over():
    it, at = rotating()
    it.open(at, "kraken#2")
    it.sessions["kraken#2"].delivered = 1
    assert it.wake() == at + SWITCH_NS
    assert it.commands == [Disconnect("kraken#1", "planned")]
    assert it.line.leader == "kraken#2"


@pytest.mark.parametrize("flows", [True, False])
def test_the_old_one_is_lost_while_the_new_one_stands(flows):
    it, at = rotating()
    it.open(at, "kraken#2")
    it.sessions["kraken#2"].delivered = int(flows)
    it.close(at + 1, "kraken#1")
    assert it.commands == []
    assert it.states == [Lifecycle.ACTIVE if flows else Lifecycle.SUBSCRIBING]
    assert it.reasons == ["closed", "introduced"]
    assert (it.line.leader, it.line.next) == ("kraken#2", "")


def test_the_old_one_is_lost_while_the_new_one_connects():
    it, at = rotating()
    it.close(at + 1, "kraken#1")
    assert it.commands == []  # it is on its way already
    assert it.states == [Lifecycle.RECONNECTING]
    assert (it.line.leader, it.line.next) == ("kraken#2", "")
    it.close(at + 2, "kraken#2")
    assert it.wake() == at + 2 + SECOND
    it.open(it.line.next_wake() or at + 9, "kraken#3")
    assert it.states == [Lifecycle.CONNECTED, Lifecycle.SUBSCRIBING]


def test_the_old_one_wants_to_go_while_the_new_one_connects():
    it, at = rotating()
    it.relay(at + 1, Reconnect("silent"))
    assert it.commands == [Disconnect("kraken#1", "silent")]
    assert (it.line.leader, it.line.next) == ("kraken#2", "")


def test_a_notice_brings_a_new_connection_at_once_and_but_one():
    it = Stand().active()
    it.relay(5, Reconnect("the venue shuts down", planned=True))
    assert it.commands == [Connect("kraken#2", 0)]
    it.relay(6, Reconnect("the venue shuts down", planned=True))
    assert it.commands == []
    it.open(7, "kraken#2")
    it.sessions["kraken#2"].settled = True
    it.sessions["kraken#2"].delivered = 1
    it.relay(8, name="kraken#2")
    assert it.commands == [Disconnect("kraken#1", "the venue shuts down")]


def test_stopped_in_the_middle_of_it():
    it, at = rotating()
    it.open(at, "kraken#2")
    it.do(it.line.stop(at + 1))
    assert it.commands == [Disconnect("kraken#1", "stopped"), Disconnect("kraken#2", "stopped")]
    assert it.sessions == {}
    assert it.line.next_wake() is None


steps = st.lists(st.tuples(
    st.sampled_from(["open", "close", "data", "settle", "reconnect", "planned", "wake", "late"]), st.integers(0, 2),
    st.sampled_from([0, 403, 451, 503]),
), max_size=60)


@given(steps)
def test_whatever_happens_it_goes_on(happened):
    """At most two connections, none forgotten, and always a deadline or a connection to wait for."""
    it, now, open_, asked = Stand(ROTATING), 0, set(), set()
    it.start()
    for what, which, status in happened:
        for name, one in it.said:
            if isinstance(one, Connect):
                assert name not in asked
                asked.add(name)
            elif isinstance(one, Disconnect):
                assert name in asked
                asked.discard(name)
                open_.discard(name)
        now += 1
        it.said = []
        names = sorted(asked)
        name = names[which % len(names)] if names else "kraken#0"
        match what:
            case "open" if name in asked - open_:
                open_.add(name)
                it.open(now, name)
            case "close" if name in asked:
                asked.discard(name)
                open_.discard(name)
                it.close(now, name, status=status)
            case "data" | "settle" if name in open_:
                it.sessions[name].delivered += 1
                it.sessions[name].settled |= what == "settle"
                it.relay(now, name=name)
            case "reconnect" | "planned" if name in open_:
                it.relay(now, Reconnect("why", planned=what == "planned"), name=name)
            case "wake" if it.line.next_wake() is not None:
                now = max(now, it.wake())
            case "late":
                it.close(now, "kraken#0")
        standing = {one for one in (it.line.leader, it.line.next) if one}
        assert set(it.sessions) <= standing
        assert len(standing) <= 2
        assert standing or it.line.next_wake() is not None
        assert it.line.leader or not it.line.next
    said = {name for name, one in it.said if isinstance(one, Connect)}
    gone = {name for name, one in it.said if isinstance(one, Disconnect)}
    assert (asked | said) - gone == {one for one in (it.line.leader, it.line.next) if one}
