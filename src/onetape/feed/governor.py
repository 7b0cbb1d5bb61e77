"""Keeps one venue's REST within its allowance, whoever asks: discovery, snapshots, audit, backfill."""
from collections import Counter, deque
from collections.abc import Mapping
from enum import IntEnum

from onetape.clock import SECOND
from onetape.venues.base import Budget


class Priority(IntEnum):
    """Who goes first."""

    RESYNC = 0
    DISCOVERY = 1
    AUDIT = 2
    BACKFILL = 3


SHARE = 0.9
"""Of the allowance that is used at all; what is left is for frames of ours that arrive closer together than they left.
Backfill may be left less: see Budget."""
LONGEST_PAUSE_NS = 3 * 86_400 * SECOND  # of all bans the longest


def allowed(budget: Budget, priority: Priority) -> int:
    """Weight within any window up to which a request of this priority may leave; one that is heavier goes alone."""
    return max(int(budget.weight * (budget.backfill if priority is Priority.BACKFILL else SHARE)), 1)


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
        over = self._used + weight - allowed(self._budget, priority)
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
