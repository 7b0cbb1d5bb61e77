"""How a message lies in memory: alone, with more of its frame behind it, or at the very end of what may be read."""
import ctypes
import mmap
import sys
from collections.abc import Callable
from itertools import cycle

Buffer = bytes | memoryview
Laid = Callable[[bytes], Buffer]
ROOM = 2**20


def alone(message: bytes) -> Buffer:
    return message


def followed(by: bytes) -> Laid:
    """What follows is not part of the message, and nobody may look at it."""
    return lambda message: memoryview(message + by)[: len(message)]


class Wall:
    """Behind the message stands a page that cannot be read: one byte too many ends the process."""

    def __init__(self) -> None:
        self._lanes = cycle((_lane(), _lane()))  # one a side

    def __call__(self, message: bytes) -> Buffer:
        if len(message) > ROOM:
            return message
        lane = next(self._lanes)
        lane[ROOM - len(message) : ROOM] = message
        return memoryview(lane)[ROOM - len(message) : ROOM]


def _lane() -> mmap.mmap:
    lane = mmap.mmap(-1, ROOM + mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    end = ctypes.addressof(ctypes.c_char.from_buffer(lane)) + ROOM
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(end), ctypes.c_size_t(mmap.PAGESIZE), 0):
        raise OSError("mprotect refused")
    return lane


wall: Laid = Wall() if sys.platform != "win32" else followed(b"5")
