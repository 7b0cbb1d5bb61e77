"""The measuring loop that runs inside each competitor's process: an order in, the frames fed, the figures out.

Orders and answers are lines of JSON on stdin and stdout. Only the feeding is timed, in CPU time of the process, which
neighbours on the same core hardly disturb. The garbage collector is left as the competitor has it.
"""
import gc
import json
import os
import platform
import sys
import time
from array import array
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from importlib.metadata import distributions
from pathlib import Path

DEPTH = 20  # levels per side of the final book that are compared

Levels = list[tuple[object, object]]
Feed = Callable[[list, array], None]
Begun = tuple[Feed, Callable[[int], tuple[Levels, Levels]]]
"""What is fed with frames and their times, and what then tells the best levels of the book."""
Begin = Callable[[str, bytes, Counter, int], Begun]
"""Symbol, snapshot (empty: none), where calls of the subscriber are counted, by kind, and the first frame's time."""


def run(begin: Begin, prepare: Callable[[list[bytes]], list] = lambda frames: frames) -> None:
    """``prepare``: what the frames are made into before the clock runs."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    installed = {it.metadata["Name"]: it.version for it in distributions()}
    print(json.dumps({"python": platform.python_version(), "packages": installed}), file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        frames, times, snapshot = load(Path(order["path"]))
        frames = prepare(frames)
        calls: Counter = Counter()
        feed, top = begin(order["symbol"], snapshot, calls, times[0])
        gc.collect()
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        feed(frames, times)
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        best = [[[plain(it) for it in level] for level in side] for side in top(DEPTH)] if snapshot else []
        print(json.dumps({"cpu": cpu, "wall": wall, "calls": calls, "best": best}), file=answers)


def load(path: Path) -> tuple[list[bytes], array, bytes]:
    times = array("q")
    times.frombytes(path.with_suffix(".times").read_bytes())
    return path.with_suffix(".jsonl").read_bytes().split(b"\n"), times, path.with_suffix(".json").read_bytes()


def decoded(frames: list[bytes]) -> list[str]:
    """As a socket library hands them out that gives text as str."""
    return [it.decode() for it in frames]


def plain(it: object) -> str:
    """The number alone, whatever type and digits stand for it."""
    return format(Decimal(str(it)).normalize(), "f")
