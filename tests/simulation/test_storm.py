"""An hour against a venue that refuses, bans or drops: attempts stay within what it allows. On a virtual clock."""
from collections import deque
from itertools import pairwise

import pytest

from onetape import venues
from onetape.clock import HOUR, MINUTE
from onetape.feed.inputs import Closed, Setup
from onetape.feed.line import Line
from onetape.feed.pace import Pace
from onetape.feed.patience import Patience
from onetape.model import Connect, Lifecycle
from onetape.sim import base
from onetape.sim.venues import VENUES
from tests.simulation.lab import Lab

PUBLISHED = {"binance": (300, 5 * MINUTE), "kraken": (150, 10 * MINUTE)}


class Hostile:
    """A venue that takes the REST of the true one, and refuses or ends every WebSocket."""

    def __init__(self, how, true):
        self.how, self.true, self.name = how, true, true.name
        self.instruments_path, self.book_clock_ns = true.instruments_path, true.book_clock_ns
        self.opened = 0

    def connect(self, connection, target, now):
        self.opened += 1
        match self.how:
            case "refuses":
                raise base.Rejected(503)
            case "bans":
                raise base.Rejected(418 if self.name == "binance" else 429)
            case "is not allowed here":
                raise base.Rejected(451)
            case "drops":
                return [base.Close(connection, 1006)]
            case "has too much of us":
                return [base.Close(connection, 1008, "Too many requests")]
        return self.true.connect(connection, target, now)

    def receive(self, connection, frame, now):
        if self.how == "drops after the first request":
            return [base.Close(connection, 1006)]
        return []

    def pong(self, *_):
        return []

    def disconnect(self, *_):
        pass

    def happen(self, *_):
        return []

    def next_wake(self):
        return None

    def wake(self, now):
        return []

    def request(self, *arguments):
        return self.true.request(*arguments)


HOW = ["refuses", "bans", "is not allowed here", "drops", "has too much of us", "drops after the first request",
       "says nothing"]


@pytest.mark.parametrize("venue", ["binance", "kraken"])
@pytest.mark.parametrize("how", HOW)
def test_no_storm(how, venue):
    def hostile(truths, faults, seed):
        return Hostile(how, VENUES[venue](truths, faults, seed))

    lab = Lab(venue=venue, pace=0.001, classes={venue: hostile})
    lab.start()
    lab.play(3_600)
    attempts = lab.attempts[venue]
    assert len(attempts) >= 4, "it gave up"
    most, within = PUBLISHED[venue]
    assert busiest(attempts, within) <= most
    assert len(attempts) <= 150  # an hour at a minute each, after a few quicker ones
    if how in ("bans", "has too much of us"):
        first, *others = (b - a for a, b in pairwise(attempts))
        assert first >= MINUTE / 2
        assert min(others) >= MINUTE
    assert all(it is not Lifecycle.ACTIVE for it in lab.states.values())
    budget = venues.spec(venue).budget
    weights = [time for time, weight in lab.requests[venue] for _ in range(weight)]
    assert busiest(weights, budget.per_ns) <= budget.weight


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_many_lines_share_what_the_venue_allows(venue):
    """A hundred lines that are refused at the same time, again and again."""
    spec = venues.spec(venue)
    pace, sessions = Pace(spec.limits.connects, spec.limits.connects_per_ns), {}
    setup = Setup(venue, "", (), patience=Patience(max_attempts=0))
    lines = [Line(f"{venue}.{number}", setup, spec, pace, sessions, 1, None) for number in range(100)]
    attempts, now = [], 0
    said = [it for line in lines for it in line.start(now)]
    while now < HOUR:
        for name, it in said:
            if isinstance(it, Connect):
                attempts.append(now)
                line = next(line for line in lines if line.leader == name)
                line.closed(Closed(number=1, time=now, connection=name, reason="refused"))
        due = min(line.next_wake() for line in lines)
        now = max(due, now + 1)
        said = [it for line in lines if (at := line.next_wake()) is not None and at <= now for it in line.wake(now)]
    most, within = PUBLISHED[venue]
    assert len(attempts) > 100
    assert busiest(attempts, within) <= most


def busiest(times, within):
    """The most that ever happened within so long."""
    most, recent = 0, deque()
    for time in times:
        recent.append(time)
        while recent[0] <= time - within:
            recent.popleft()
        most = max(most, len(recent))
    return most
