"""The race against other Python handlers of market data, in process: ``make bench-peers``.

All are fed the very same frames, in turn (ours, theirs, ours, ...), each in a process of its own on one core, and each
on its own path from bytes, or what its socket hands out, to the subscriber: what that includes stands in `ours.py` and
in `rivals/`. Times are CPU times of the process. Every subscriber has to be called as often as all others, and every
book has to end with the same best levels, or the race is void.
"""
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import frames
from frames import Burst
from onetape.book import COMPILED

ROUNDS = 7  # after one to warm up
COUNT = 20_000  # generated frames of a kind
LONGEST_S = 230
HERE = Path(__file__).parent
PEERS = HERE.parent / ".venv-peers" / "bin" / "python"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
OURS, PURE = "OneTape", "OneTape, pure"
BOUNDS = ("envelope", "scan")
SHOWN = ("msgspec", "orjson", "uvloop", "picows", "websockets", "aiohttp", "order_book", "numpy", "Cython")


class Side:
    """A competitor, or a bound: its process, and what it took in each round, us per frame."""

    def __init__(self, name: str, program: str | Path, *args: str, env: dict[str, str] | None = None) -> None:
        self.name = name
        self.versions: dict = {}
        self.took: list[float] = []
        self.best: list = []
        """Levels of the book after the last round."""
        self.waited = 1.0
        """Most of the time on the clock for one of the CPU's."""
        self.races = True
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [program, "-m", *args], cwd=HERE, env=os.environ | (env or {}), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )
        pin(self._process.pid, 0)

    def begin(self) -> None:
        self.versions = self._hear()

    def race(self, burst: Burst, order: dict[str, str]) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        answer = self._hear()
        if not answer:
            return
        self.took.append(answer["cpu"] / 1e3 / len(burst.frames))
        self.waited = max(self.waited, answer["wall"] / answer["cpu"])
        self.best = answer["best"]
        if self.name not in BOUNDS and answer["calls"] != burst.calls:
            raise SystemExit(f"void: {self.name} called {answer['calls']} in {burst.name}, not {burst.calls}")

    def _hear(self) -> dict:
        """Nothing: it has ended, which is told, and is no part of the race from here on."""
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._errors.seek(0)
        why = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2] or "it ended"
        if self.name == OURS:
            raise SystemExit(f"no race without {OURS}: {why}")
        print(f"{self.name} is not raced: {why}")
        self.races = False
        return {}

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def sides() -> Iterator[Side]:
    yield Side(OURS, sys.executable, "ours")
    for name in ("cryptofeed", "ccxt", "nautilus"):
        if PEERS.exists():
            yield Side(name, PEERS, f"rivals.{name}")
        else:
            print(f"{name} is not raced: {PEERS} is not there, `make bench-peers` makes it")
    yield Side(PURE, sys.executable, "ours", env={"ONETAPE_PURE": "1"})
    for name in BOUNDS:
        yield Side(name, sys.executable, "rivals.bounds", name)


def main() -> None:
    with bounded(LONGEST_S), ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        racing = []
        for it in sides():
            stack.callback(it.stop)
            racing.append(it)
        for it in racing:
            it.begin()
        print_machine([it for it in racing if it.races])
        bursts = [frames.depth(COUNT), frames.trades(COUNT, "aggTrade"), frames.trades(COUNT, "trade")]
        for burst in [*bursts, *frames.recordings()]:
            order = burst.save(Path(folder))
            fit = [it for it in racing if it.name not in burst.fails]
            for number in range(ROUNDS + 1):
                for it in fit:
                    if number <= 1:  # what came of warming up is forgotten
                        it.took.clear()
                    if it.races:
                        it.race(burst, order)
            fit = [it for it in fit if it.races]
            compare(fit, burst)
            print_table(fit, burst)
        print(f"On the clock it took up to {max(it.waited for it in racing):.1f} times the CPU time: neighbours.")


def compare(fit: list[Side], burst: Burst) -> None:
    books = {it.name: it.best for it in fit if it.name not in BOUNDS}
    others = [name for name, best in books.items() if best != books[OURS]]
    if burst.snapshot and others:
        raise SystemExit(f"void: after {burst.name} the best levels of {', '.join(others)} are not {OURS}'s")


# --- what is printed -------------------------------------------------------------------------------------------------


def print_table(fit: list[Side], burst: Burst) -> None:
    calls = ", ".join(f"{many:,} {kind}" for kind, many in burst.calls.items())
    levels = sum(frame.count(b'["') for frame in burst.frames) / max(burst.calls.get("book", 0), 1)
    size = statistics.fmean(map(len, burst.frames))
    print(f"### {burst.name}\n\n{len(burst.frames):,} frames of {size:.0f} bytes on average"
          + (f", {levels:.1f} levels a delta" if burst.snapshot else "") + f"; every subscriber was called for {calls}"
          + ("; the best 20 levels of every final book are the same" if burst.snapshot else "") + ".\n")
    print("| | us per frame | min..max | frames/s | times OneTape's | min..max |\n|---|--:|--:|--:|--:|--:|")
    ours = next(it for it in fit if it.name == OURS)
    for it in fit:
        middle, form = statistics.median(it.took), ".3f" if it.name in BOUNDS else ".2f"
        print(f"| {it.name} | {middle:{form}} | {min(it.took):{form}}..{max(it.took):{form}} | {1e6 / middle:,.0f} "
              f"| {spread(it, ours, form)} |")
    for name, why in burst.fails.items():
        print(f"| {name} | - | {why} | | | |")
    for it in fit:
        if it.name == BOUNDS[0]:
            middle, _, between = spread(ours, it, ".1f").partition(" | ")
            print(f"\n{OURS} takes {middle} ({between}) times the decoding to envelopes.\n")


def spread(one: Side, base: Side, form: str) -> str:
    """Of the ratios, round by round."""
    ratios = [it / other for it, other in zip(one.took, base.took, strict=True)]
    return f"{statistics.median(ratios):{form}} | {min(ratios):{form}}..{max(ratios):{form}}"


def print_machine(racing: list[Side]) -> None:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    model = next((it.partition(": ")[2] for it in lines if it.startswith("model name")), platform.machine())
    print(f"`make bench-peers` (`python bench/peers.py`): medians of {ROUNDS} rounds, all on one core, in turn.\n")
    print(f"Machine: {model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, load before: "
          f"{os.getloadavg()[0]:.1f}\n")
    for it in racing:
        packages = it.versions["packages"]
        shown = {name: number for name, number in packages.items() if name in SHOWN or it.name.lower() in name.lower()}
        if it.name not in (PURE, *BOUNDS):
            print(f"- {it.name}: Python {it.versions['python']}; " + ", ".join(f"{a} {b}" for a, b in shown.items()))
    print(f"\n{OURS}'s book: {'the compiled kernel' if COMPILED else 'pure Python, no kernel is built'}.\n")


# --- around it -------------------------------------------------------------------------------------------------------


def pin(pid: int, core: int) -> None:
    """To the core of this number among ours, where the system can."""
    if CORES:
        os.sched_setaffinity(pid, {CORES[core % len(CORES)]})


@contextmanager
def bounded(seconds: int) -> Iterator[None]:
    """When the time is over, or this process is told to end, all that was started is ended.

    Meanwhile this process keeps off the core of those who race.
    """
    def over(number: int, _: object) -> None:
        raise SystemExit(f"given up after {seconds} s" if number == signal.SIGALRM else "told to end")

    signal.signal(signal.SIGALRM, over)
    signal.signal(signal.SIGTERM, over)
    signal.alarm(seconds)
    pin(os.getpid(), 1)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
