"""Decides when and how one book asks for a fresh snapshot: at the venue's pace, never in a storm."""
from enum import Enum

from onetape.book.rules import BookRules, Snapshots
from onetape.clock import MINUTE

LONGEST_WAIT_NS = MINUTE
CALM_NS = MINUTE  # a book that was live for so long begins its next trouble afresh


class Step(Enum):
    FETCH = "fetch"
    UNSUBSCRIBE = "unsubscribe"
    SUBSCRIBE = "subscribe"
    RECONNECT = "reconnect"


class _Phase(Enum):
    IDLE = "idle"
    WANTED = "wanted"
    UNSUBSCRIBING = "unsubscribing"
    AWAITING = "awaiting"


class Resync:
    """One book's requests. Every method returns the step to take now, or None."""

    def __init__(self, rules: BookRules) -> None:
        self._rules = rules
        self._phase = _Phase.IDLE
        self._deadline: int | None = None
        self._attempts = 0
        self._not_before = 0
        self._live_since: int | None = None

    def subscribed(self, now: int) -> None:
        """The first subscription was sent: an in-band snapshot is on its way."""
        if self._rules.snapshots is not Snapshots.REST:
            self._await(now)

    def need(self, now: int) -> Step | None:
        """The book has said NeedSnapshot. Once a request is under way, saying so again changes nothing..."""
        if self._live_since is not None and now - self._live_since >= CALM_NS:
            self._attempts = 0
        self._live_since = None
        if self._phase is _Phase.IDLE:
            self._phase = _Phase.WANTED
        return self._try(now)

    def answered(self, now: int, wait_ns: int = 0) -> Step | None:
        """...but an answer that came and did not help makes room for the next request, not before ``wait_ns``."""
        self._not_before = max(self._not_before, now + wait_ns)
        if self._phase is _Phase.AWAITING:  # else it comes too late to matter
            self._phase, self._deadline = _Phase.WANTED, None
        return self._try(now)

    def unsubscribed(self, now: int) -> Step | None:
        """The venue confirmed: only now does subscribing again bring a snapshot."""
        if self._phase is not _Phase.UNSUBSCRIBING:
            return None
        self._await(now)
        return Step.SUBSCRIBE

    def held(self) -> None:
        """A snapshot was brought and waits for the stream to say its first word: nothing to ask for."""
        if self._phase is not _Phase.UNSUBSCRIBING:  # who left the stream must come back, or hears nothing ever again
            self._phase, self._deadline = _Phase.IDLE, None

    def live(self, now: int) -> None:
        self._live_since = now
        self.held()

    def next_wake(self) -> int | None:
        return self._not_before if self._phase is _Phase.WANTED else self._deadline

    def wake(self, now: int) -> Step | None:
        due = self.next_wake()
        if due is None or now < due:
            return None
        if self._phase is _Phase.UNSUBSCRIBING:  # the confirmation stayed away: go on without it
            self._await(now)
            return Step.SUBSCRIBE
        self._phase = _Phase.WANTED
        return self._try(now)

    def _try(self, now: int) -> Step | None:
        if self._phase is not _Phase.WANTED or now < self._not_before:
            return None
        self._attempts += 1
        wait = min(self._rules.resync_every_ns << min(self._attempts - 1, 10), LONGEST_WAIT_NS)
        self._not_before = now + wait
        if self._by_rest():
            self._await(now)
            return Step.FETCH
        if self._attempts > self._rules.reconnect_after:
            self._phase = _Phase.IDLE
            return Step.RECONNECT
        self._phase, self._deadline = _Phase.UNSUBSCRIBING, now + self._rules.snapshot_wait_ns
        return Step.UNSUBSCRIBE

    def _by_rest(self) -> bool:
        match self._rules.snapshots:
            case Snapshots.REST:
                return True
            case Snapshots.IN_BAND:
                return False
            case Snapshots.IN_BAND_OR_REST:  # the one that was not tried last
                return self._attempts % 2 == 0

    def _await(self, now: int) -> None:
        self._phase, self._deadline = _Phase.AWAITING, now + self._rules.snapshot_wait_ns
