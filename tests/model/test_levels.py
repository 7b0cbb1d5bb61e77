"""Levels are read once, whoever asks first."""
import sys
import threading
from decimal import Decimal as D
from enum import Enum

from msgspec import Raw

from onetape.model import PAIRS, Levels


def test_two_threads_may_read_the_same_levels():
    """The journal's and the loop's: one is held still on its way to the reader while the other reads all."""
    levels = Levels(Raw(b'[["1.5","2"]]'), PAIRS)
    standing, go_on, read = threading.Event(), threading.Event(), []

    def hold(frame, what, _):
        if what == "call" and frame.f_code is Enum.__hash__.__code__ and not standing.is_set():
            standing.set()
            assert go_on.wait(30)

    def slowly():
        sys.settrace(hold)
        read.append(levels.read())

    thread = threading.Thread(target=slowly)
    thread.start()
    assert standing.wait(30)
    assert levels.read() == [(D("1.5"), D(2))]
    go_on.set()
    thread.join()
    assert read == [[(D("1.5"), D(2))]]
