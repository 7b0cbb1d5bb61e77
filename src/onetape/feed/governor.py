"""Keeps one venue's REST within its allowance, whoever asks: discovery, snapshots, audit, backfill."""
from collections import Counter, deque
from collections.abc import Mapping
from enum import IntEnum

from onetape.clock import SECOND
from onetape.venues.base import Budget


class Priority(IntEnum):
    """Who goes first, and which share of the allowance is left to whom: backfill never starves a resync."""

    RESYNC = 0
    DISCOVERY = 1
    AUDIT = 2
    BACKFILL = 3


SHARES = {Priority.RESYNC: 0.8, Priority.DISCOVERY: 0.7, Priority.AUDIT: 0.6, Priority.BACKFILL: 0.5}
LONGEST_PAUSE_NS = 3 * 86_400 * SECOND  # of all bans the longest


class Governor:
    """Of one venue as seen from one address. Sans-I/O; weights are the venue's own.

    A sliding window: stricter than a venue that counts by the minute, right for one that does not say how it counts.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._sent: deque[tuple[int, int]] = deque()  # time and weight, within the window
        self._used = 0
        self._paused_until = 0
        self.counters: Counter[str] = Counter()

    def free_at(self, weight: int, priority: Priority, now: int) -> int:
        """When a request of this weight may leave: ``now`` if at once."""
        self._forget(now)
        at = max(now, self._paused_until)
        most = max(int(self._budget.weight * SHARES[priority]), 1)
        over = self._used + weight - most
        for sent_at, sent in self._sent:  # what is heavier than the whole share waits until nothing else is left
            if over <= 0:
                break
            over -= sent
            at = max(at, sent_at + self._budget.per_ns)
        return at

    def sent(self, weight: int, now: int) -> None:
        self._add(weight, now)
        self.counters["requests"] += 1

    def answered(self, headers: Mapping[str, str], now: int) -> None:
        """The venue may say how much it has counted: others may be asking from our address. Names in lower case."""
        used = headers.get(self._budget.used_header, "") if self._budget.used_header else ""
        if used.isascii() and used.isdigit() and len(used) <= 9:
            self._forget(now)
            if int(used) > self._used:
                self._add(int(used) - self._used, now)

    def pause(self, wait_ns: int, now: int) -> None:
        """The venue has had too much: nobody asks anything for so long."""
        self.counters["pauses"] += 1
        self._paused_until = max(self._paused_until, now + min(wait_ns, LONGEST_PAUSE_NS))

    @property
    def used(self) -> int:
        """Weight within the window, as of the last call."""
        return self._used

    @property
    def paused_until(self) -> int:
        """ns; in the past if nothing is amiss."""
        return self._paused_until

    def _add(self, weight: int, now: int) -> None:
        self._sent.append((now, weight))
        self._used += weight

    def _forget(self, now: int) -> None:
        while self._sent and self._sent[0][0] + self._budget.per_ns <= now:
            self._used -= self._sent.popleft()[1]
