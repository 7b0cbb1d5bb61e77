"""Stops long work between two steps, never within one: what a step changes is whole or has not begun."""
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C (or SIGTERM) only asks to stop: the function says whether; the second one interrupts."""
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {it: signal.signal(it, ask) for it in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for it, handler in before.items():
            signal.signal(it, handler)
