"""Decides when and how one book asks for a fresh snapshot: at the venue's pace, never in a storm."""
from enum import Enum

from onetape.book.rules import BookRules, Snapshots
from onetape.clock import MINUTE, SECOND

LONGEST_WAIT_NS = 30 * SECOND
CALM_NS = MINUTE  # a book that was live for so long begins its next trouble afresh
FETCH_NS = 10 * MINUTE  # every Fetch is answered or fails, if late behind others: this is for when it is not


class Step(Enum):
    FETCH = "fetch"
    UNSUBSCRIBE = "unsubscribe"
    SUBSCRIBE = "subscribe"


class _Phase(Enum):
    IDLE = "idle"
    WANTED = "wanted"
    UNSUBSCRIBING = "unsubscribing"
    AWAITING = "awaiting"
    FETCHING = "fetching"


class Resync:
    """One book's requests, one at a time. Methods return the step to take now, or None."""

    def __init__(self, rules: BookRules) -> None:
        self._rules = rules
        self._phase = _Phase.IDLE
        self._deadline: int | None = None
        self._attempts = 0
        self._not_before = 0
        self._live_since: int | None = None

    @property
    def hopeless(self) -> bool:
        """Subscribing again and again has not helped: perhaps another connection would."""
        return self._attempts > self._rules.reconnect_after

    def subscribed(self, now: int) -> None:
        """The first subscription was sent: an in-band snapshot is on its way."""
        if self._rules.snapshots is not Snapshots.REST:
            self._enter(_Phase.AWAITING, now)

    def sent(self, at: int) -> None:
        """The frame of the last step leaves only ``at`` that time: the wait for its answer begins then."""
        if self._phase in (_Phase.AWAITING, _Phase.UNSUBSCRIBING):
            self._enter(self._phase, at)

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
        if self._phase is _Phase.FETCHING:  # else it comes too late to matter
            self._enter(_Phase.WANTED, now)
        return self._try(now)

    def refused(self, now: int) -> None:
        """The venue will not have the subscription now: again later, and later each time."""
        self._not_before = max(self._not_before, now + self._wait())
        self._enter(_Phase.WANTED, now)

    def unsubscribed(self, now: int) -> Step | None:
        """The venue confirmed: only now does subscribing again bring a snapshot."""
        if self._phase is not _Phase.UNSUBSCRIBING:
            return None
        self._enter(_Phase.AWAITING, now)
        return Step.SUBSCRIBE

    def held(self) -> None:
        """A snapshot was brought and waits for the stream to say its first word: nothing to ask for."""
        if self._phase is not _Phase.UNSUBSCRIBING:  # who left the stream must come back, or hears nothing ever again
            self._enter(_Phase.IDLE, 0)

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
            return self.unsubscribed(now)
        self._enter(_Phase.WANTED, now)
        return self._try(now)

    def _try(self, now: int) -> Step | None:
        if self._phase is not _Phase.WANTED or now < self._not_before:
            return None
        self._attempts += 1
        self._not_before = now + self._wait()
        if self._by_rest():
            self._enter(_Phase.FETCHING, now)
            return Step.FETCH
        self._enter(_Phase.UNSUBSCRIBING, now)
        return Step.UNSUBSCRIBE

    def _wait(self) -> int:
        return min(self._rules.resync_every_ns << min(max(self._attempts - 1, 0), 10), LONGEST_WAIT_NS)

    def _by_rest(self) -> bool:
        match self._rules.snapshots:
            case Snapshots.REST:
                return True
            case Snapshots.IN_BAND:
                return False
            case Snapshots.IN_BAND_OR_REST:  # the one that was not tried last
                return self._attempts % 2 == 0

    def _enter(self, phase: _Phase, now: int) -> None:
        self._phase = phase
        match phase:
            case _Phase.IDLE | _Phase.WANTED:
                self._deadline = None
            case _Phase.UNSUBSCRIBING | _Phase.AWAITING:
                self._deadline = now + self._rules.snapshot_wait_ns
            case _Phase.FETCHING:
                self._deadline = now + FETCH_NS
