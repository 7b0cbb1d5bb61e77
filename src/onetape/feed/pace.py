"""Spreads what a venue counts (connection attempts) so that its limit is never met."""
from collections import deque

SHARE = 0.8  # of what the venue allows: others may share our address


class Pace:
    """At most ``limit`` things within any ``per_ns``; shared by all lines to one venue."""

    def __init__(self, limit: int, per_ns: int) -> None:
        self._most = max(int(limit * SHARE), 1)
        self._per_ns = per_ns
        self._taken: deque[int] = deque()  # times, ascending; never more than _most

    def free_at(self, now: int) -> int:
        """When the next one may happen: ``now`` if at once."""
        if len(self._taken) < self._most:
            return now
        return max(now, self._taken[0] + self._per_ns)

    def take(self, now: int) -> None:
        """It happens now."""
        if len(self._taken) >= self._most:
            self._taken.popleft()
        self._taken.append(now)
