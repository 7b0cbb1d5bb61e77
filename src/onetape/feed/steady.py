"""The machine's clock, but never going back: an hour set back would freeze every timeout for an hour."""
import time

from onetape.clock import SECOND

SYNC_NS = 10 * SECOND


class SteadyClock:
    """Call it: ns since the epoch. Runs with the monotonic clock; a wall clock that is ahead is followed at once."""

    def __init__(self) -> None:
        self._offset = time.time_ns() - time.monotonic_ns()
        self._sync_at = 0

    def __call__(self) -> int:
        now = time.monotonic_ns()
        if now >= self._sync_at:
            self._sync_at = now + SYNC_NS
            self._offset = max(self._offset, time.time_ns() - now)
        return now + self._offset

    @property
    def ahead_ns(self) -> int:
        """By how much the wall clock was set back since this one began; it stays ahead until then."""
        return max(self._offset - (time.time_ns() - time.monotonic_ns()), 0)
