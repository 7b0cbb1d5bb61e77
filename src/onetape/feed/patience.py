"""How a lost connection is tried again: later each time, never in a storm."""
from msgspec import Struct

from onetape.clock import MINUTE, SECOND


class Patience(Struct, frozen=True):
    """How a lost connection is tried again; each is a setting with this default (SPEC B2)."""

    base_ns: int = SECOND
    cap_ns: int = 30 * SECOND
    long_cap_ns: int = 60 * SECOND
    """Of the wait after ``many`` failures in a row."""
    many: int = 10
    jitter: float = 0.1
    """Waits are longer by up to this share, so that many clients do not come at once."""
    max_attempts: int = 10
    """Failures in a row after which the line is given up, but for a probe now and then; 0: never."""
    probe_ns: int = 5 * MINUTE

    def wait(self, failures: int, chance: float) -> int:
        """Before the next attempt, after so many failures in a row; ``chance`` in [0, 1)."""
        cap = self.long_cap_ns if failures >= self.many else self.cap_ns
        wait = min(self.base_ns << min(max(failures - 1, 0), 16), cap)
        return int(wait * (1 + self.jitter * chance))
