"""The race against the peers from end to end, over loopback: ``make bench-peers``.

A process floods one client at a time with depth frames of Binance over a plain WebSocket, each client being the whole
of its library as it is used, in a process of its own: ours a Collector as of `onetape run`, without a store and so
without its pipeline, cryptofeed a FeedHandler, ccxt pro a loop around `watch_order_book`; all on uvloop. The client has
one core, flood and this process the other. Each subscriber notes when it was told of which update; CPU time is read
from outside. Beside them a reader (picows on uvloop) that does nothing but find the update id: what waking up costs.

told     share of the updates for which the subscriber was called; ccxt hands out only the newest state there is
CPU      us per frame that was sent, all threads of the client
p50 p99  us from just before the write to the subscriber, of every update: that of the first one told at or behind it.
         Frames that are due within a millisecond are written at once, so each waits for those before it
most     frames/s, from the first one sent to the last one told, when they come as fast as the client reads
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from peers import HERE, OURS, PEERS, PURE, bounded, pin
from rivals.ear import Ear

RATES = (1_000, 5_000, 20_000)  # frames/s; 0: as fast as they are taken
ROUNDS = 5
SECONDS = 1.2  # of one rate
FLOOD_S = 1.5
START_S = 20  # until the book is live
DRAIN_S = 10  # until the last frame was told
ENOUGH_S = 190  # no round begins any more
LONGEST_S = 250
PLAYERS = {
    OURS: (sys.executable, "ours", {}),
    "cryptofeed": (PEERS, "rivals.cryptofeed", {}),
    "ccxt": (PEERS, "rivals.ccxt", {}),
    PURE: (sys.executable, "ours", {"ONETAPE_PURE": "1"}),
    "reader": (sys.executable, "rivals.bounds", {}),
}


@dataclass
class Leg:
    """What one client did at one rate."""

    told: float
    cpu: float
    p50: float
    p99: float
    most: float


class Failed(Exception):
    """This client cannot be raced, and why."""


class Flood:
    """The process that sends."""

    def __init__(self, path: Path) -> None:
        self.sent = Ear(path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rivals.flood", path], cwd=HERE, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        pin(self._process.pid, 1)
        self.port: int = self._hear()["port"]

    def order(self, rate: int, seconds: float) -> tuple[int, int]:
        """Numbers of the first and the last frame; none if there is no client."""
        self._process.stdin.write(json.dumps({"rate": rate, "seconds": seconds}) + "\n")
        self._process.stdin.flush()
        it = self._hear()
        return it["first"], it["last"]

    def _hear(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the flood has ended")
        return json.loads(line)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Client:
    """A process that listens."""

    def __init__(self, name: str, flood: Flood, folder: Path) -> None:
        program, module, env = PLAYERS[name]
        path = folder / "told"
        path.unlink(missing_ok=True)
        self.told, self._flood = Ear(path), flood
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [program, "-m", module, str(flood.port), path], cwd=folder, stdout=subprocess.DEVNULL, stderr=self._errors,
            env=os.environ | {"PYTHONPATH": str(HERE)} | env,
        )
        pin(self._process.pid, 0)

    def start(self) -> None:
        """Until it is told of what is sent."""
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            first, last = self._flood.order(1_000, 0.1)
            time.sleep(0.05)
            if last >= first and self.told.times[last]:
                return
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().rpartition("\n")[2]
        raise Failed(said or f"its book was not live within {START_S} s")

    def leg(self, rate: int, seconds: float) -> Leg:
        before = self._cpu()
        first, last = self._flood.order(rate, seconds)
        until = time.monotonic() + DRAIN_S
        while not self.told.times[last]:
            if time.monotonic() > until or self._process.poll() is not None:
                raise Failed(f"at {rate or 'most'} frames/s it was not told of the last one within {DRAIN_S} s")
            time.sleep(0.02)
        cpu, count = self._cpu() - before, last - first + 1
        told = self.told.times[first:last + 1].tolist()
        sent = self._flood.sent.times[first:last + 1].tolist()
        calls = [it for it in told if it]
        for at in range(count - 2, -1, -1):
            told[at] = told[at] or told[at + 1]
        ways = sorted((end - begun) / 1e3 for begun, end in zip(sent, told, strict=True))
        return Leg(
            told=len(calls) / count, cpu=cpu / 1e3 / count, p50=ways[count // 2], p99=ways[count * 99 // 100],
            most=count / (calls[-1] - sent[0]) * 1e9,
        )

    def _cpu(self) -> int:
        """ns of all its threads, by the clock that Linux keeps for each process: see clock_getcpuclockid(3)."""
        return time.clock_gettime_ns((~self._process.pid << 3) | 2)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


def main() -> None:
    racing = [name for name, (program, *_) in PLAYERS.items() if Path(program).exists()]
    for name in [it for it in PLAYERS if it not in racing]:
        print(f"{name} is not raced: `make bench-peers` installs it")
    legs: dict[str, dict[int, list[Leg]]] = {name: {rate: [] for rate in (*RATES, 0)} for name in racing}
    began = time.monotonic()
    with bounded(LONGEST_S):
        for _ in range(ROUNDS):
            if time.monotonic() - began > ENOUGH_S:
                break
            for name in list(racing):
                try:
                    for rate, leg in one_round(name).items():
                        legs[name][rate].append(leg)
                except Failed as error:
                    if name == OURS:
                        raise SystemExit(f"no race without {OURS}: {error}") from None
                    print(f"{name} is raced no further: {error}\n")
                    racing.remove(name)
    print_tables({name: its for name, its in legs.items() if its[0]})


def one_round(name: str) -> dict[int, Leg]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        flood = Flood(folder / "sent")
        stack.callback(flood.stop)
        client = Client(name, flood, folder)
        stack.callback(client.stop)
        client.start()
        return {rate: client.leg(rate, SECONDS) for rate in RATES} | {0: client.leg(0, FLOOD_S)}


# --- what is printed -------------------------------------------------------------------------------------------------


def print_tables(legs: dict[str, dict[int, list[Leg]]]) -> None:
    rounds = len(legs[OURS][0])
    print(f"`make bench-peers` (`python bench/race.py`): over loopback, medians (min..max) of {rounds} rounds.")
    for rate in RATES:
        print(f"\n### {rate:,} depth frames/s\n")
        print("| | told | CPU us per frame | times OneTape's | p50 us | p99 us | times OneTape's |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for name, its in legs.items():
            print(f"| {name} | {statistics.median(it.told for it in its[rate]):.1%} | {shown(its[rate], 'cpu', '.1f')} "
                  f"| {ratio(legs, name, rate, 'cpu')} | {shown(its[rate], 'p50', ',.0f')} "
                  f"| {shown(its[rate], 'p99', ',.0f')} | {ratio(legs, name, rate, 'p99')} |")
    print("\n### as fast as they are taken\n\n| | told | most frames/s | OneTape's times that | CPU us per frame |")
    print("|---|--:|--:|--:|--:|")
    for name, its in legs.items():
        print(f"| {name} | {statistics.median(it.told for it in its[0]):.1%} | {shown(its[0], 'most', ',.0f')} "
              f"| {ratio(legs, OURS, 0, 'most', name)} | {shown(its[0], 'cpu', '.1f')} |")


def shown(its: list[Leg], field: str, form: str) -> str:
    values = [getattr(it, field) for it in its]
    return f"{statistics.median(values):{form}} ({min(values):{form}}..{max(values):{form}})"


def ratio(legs: dict[str, dict[int, list[Leg]]], name: str, rate: int, field: str, base: str = OURS) -> str:
    """Round by round, to who is raced in the same one."""
    pairs = zip(legs[name][rate], legs[base][rate], strict=False)
    values = [getattr(one, field) / getattr(other, field) for one, other in pairs]
    return f"{statistics.median(values):.2f} ({min(values):.2f}..{max(values):.2f})" if values else "-"


if __name__ == "__main__":
    main()
