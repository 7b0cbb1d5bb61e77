"""The subscriber over loopback: writes down when it was told of each update, where the race's own process reads it."""
import mmap
import os
import time
from pathlib import Path

BASE = 1_000_000_000  # ids of updates begin behind it, so that all have as many digits
UPDATES = 2_000_000  # at most, in one run


class Ear:
    """A file of int64: at n the monotonic time, ns, at which update BASE + n was told; 0: it was not."""

    def __init__(self, path: str | Path) -> None:
        with Path(path).open("a+b") as file:
            os.ftruncate(file.fileno(), 8 * UPDATES)
            self._file = mmap.mmap(file.fileno(), 8 * UPDATES)
        self.times = memoryview(self._file).cast("q")

    def hear(self, update: int) -> None:
        self.times[update - BASE] = time.monotonic_ns()
