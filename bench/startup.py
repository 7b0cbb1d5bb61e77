"""How long it takes to begin, and what it weighs: ``python bench/startup.py``, medians of five processes each.

import      ``import onetape``, beside an interpreter that runs anyway
help        ``onetape --help``, the whole process
first book  from the start of ``onetape run --sim`` until its log says that a book is live
idle        RSS of a run against exchanges that do not answer: all imported, a new store open, no book
books       what a hundred books of 1,000 levels a side add to it

Modules are compiled before, as pip does it. MB are 10^6 bytes.
"""
import asyncio
import gc
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import uvloop
from msgspec import Raw

import onetape.cli.board
import onetape.cli.run  # noqa: F401 - as the command does before it collects
from onetape.book import COMPILED, OrderBook
from onetape.config import FIVE, Settings
from onetape.model import Levels
from onetape.model.levels import Shape
from onetape.service.log import configure
from onetape.service.run import collect

ROUNDS = 5
COMMAND = Path(sys.executable).with_name("onetape")
PYTHON = [sys.executable, "-c"]
IMPORT = "import time; began = time.perf_counter(); import onetape; print(time.perf_counter() - began)"
NOBODY = {"rest": "http://127.0.0.1:9", "websocket": "ws://127.0.0.1:9"}  # the port that discards: none listens there
BOOKS, LEVELS = 100, 1_000
SETTLED_S = 2.0
LIMITS = {"import": 0.150, "help": 0.250, "first book": 2.0, "idle": 90.0, "books": 15.0}


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load before: "
          f"{os.getloadavg()[0]:.1f}; median of {ROUNDS} (and their range); "
          f"{'compiled book' if COMPILED else 'book in pure Python'}")
    with tempfile.TemporaryDirectory() as folder:
        compiled = {name: it for name, it in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = compiled | {"PYTHONPYCACHEPREFIX": folder}
        for measure in (time_import, time_help, time_first_book, weigh):  # once, for what is compiled and cached by it
            measure(environment)
        rounds = [
            (time_import(environment), time_help(environment), time_first_book(environment), *weigh(environment))
            for _ in range(ROUNDS)
        ]
    for name, values in zip(LIMITS, zip(*rounds, strict=True), strict=True):
        middle, limit = statistics.median(values), LIMITS[name]
        scale, unit = (1.0, "MB") if name in ("idle", "books") else (1e3, "ms")
        print(f"{name:10} {middle * scale:8.1f} {unit}  ({min(values) * scale:.1f} to {max(values) * scale:.1f})   "
              f"at most {limit * scale:g}{'' if middle <= limit else ': MISSED'}")


def time_import(environment: dict[str, str]) -> float:
    return float(subprocess.run([*PYTHON, IMPORT], env=environment, capture_output=True, check=True).stdout)


def time_help(environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run([COMMAND, "--help"], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def time_first_book(environment: dict[str, str]) -> float:
    """The log is the first that tells of it: the table is drawn once a second."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "onetape.toml"
        settings.write_text('[log]\nformat = "json"\n')
        began = time.perf_counter()
        run = subprocess.Popen(
            [COMMAND, "run", "--sim", "--config", settings, "--store", f"{folder}/store"], env=environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        try:
            for line in run.stderr:
                if not line.startswith(b"{"):
                    sys.exit((line + run.stderr.read()).decode())
                if {"event": "book", "state": "live"}.items() <= json.loads(line).items():
                    return time.perf_counter() - began
        finally:
            run.send_signal(signal.SIGINT)
            run.communicate()
    sys.exit("no book was live")


# --- memory ----------------------------------------------------------------------------------------------------------


def weigh(environment: dict[str, str]) -> tuple[float, float]:
    """MB: of the process, and of the books."""
    done = subprocess.run([sys.executable, __file__, "idle"], env=environment, capture_output=True, check=True)
    return tuple(map(float, done.stdout.split()))


def idle() -> None:
    settings = Settings.model_validate({"log": {"level": "error"}, "venues": dict.fromkeys(FIVE, NOBODY)})
    configure(settings.log)
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(collecting(settings, Path(folder) / "store"))


async def collecting(settings, store: Path) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(collect(
        settings, simulated=None, store=store, record=None, duration=None, view=lambda _: None, stop=stop))
    with suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(running), SETTLED_S)
    before = rss()
    held = books()
    print(before, rss() - before)
    assert len(held) == BOOKS
    stop.set()
    await running


def books() -> list:
    """Of different prices and sizes, each read from the JSON of a snapshot."""
    def side(first: int, step: int) -> Levels:
        rows = [[f"{(first + step * n) / 100:.2f}", f"{(first * 7919 + n * 104729) % 10**8 / 10**5:.5f}"]
                for n in range(1, LEVELS + 1)]
        return Levels(Raw(json.dumps(rows).encode()), Shape.PAIRS)

    out = []
    for number in range(BOOKS):
        book = OrderBook()
        book.replace(side(6_000_000 + 50_021 * number, -1), side(6_000_000 + 50_021 * number, 1))
        assert book.held == (LEVELS, LEVELS)
        out.append(book)
    gc.collect()
    return out


def rss() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    if sys.argv[1:] == ["idle"]:
        idle()
    else:
        main()
