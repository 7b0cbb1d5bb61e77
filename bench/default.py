"""Memory and CPU of the default configuration: ``python bench/default.py [SECONDS]``, ten minutes unless said.

The simulator plays the five venues in a process of its own; what is measured is ``onetape run`` alone, with a store.
"""
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = Path(sys.executable).with_name("onetape")
VENUES = ("binance", "coinbase", "kraken", "okx", "bybit")
EVERY = 30.0  # seconds between two lines
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load before: "
          f"{os.getloadavg()[0]:.1f}; {seconds:g} s of {', '.join(VENUES)}, simulated in another process")
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "here.toml"
        simulator = subprocess.Popen(
            [COMMAND, "sim", *(it for name in VENUES for it in ("--venue", name))], stdout=settings.open("w"),
        )
        try:
            _wait_for(settings)
            _only_where(settings)
            _measure(folder, settings, seconds)
        finally:
            simulator.send_signal(signal.SIGINT)
            simulator.wait()


def _wait_for(settings: Path) -> None:
    """Until the simulator has said where all its venues are."""
    end = time.monotonic() + 120
    while settings.read_text().count("rest = ") < len(VENUES):
        if time.monotonic() > end:
            sys.exit("the simulator does not begin")
        time.sleep(0.2)


def _only_where(settings: Path) -> None:
    """Where the venues are, and nothing of what to collect: that is what is the default."""
    settings.write_text(re.sub(r"^(pairs|channels) = .*\n", "", settings.read_text(), flags=re.MULTILINE))


def _measure(folder: str, settings: Path, seconds: float) -> None:
    store = Path(folder) / "store"
    log = (Path(folder) / "log").open("w")
    run = subprocess.Popen(
        [COMMAND, "run", "--live", "--config", settings, "--store", store, "--duration", str(seconds)],
        stdout=subprocess.PIPE, stderr=log, text=True,
    )
    began, before = time.monotonic(), 0.0
    print(f"{'s':>5} {'RSS MB':>8} {'CPU %':>6}")
    while run.poll() is None:
        time.sleep(min(EVERY, max(seconds - (time.monotonic() - began), 0.5)))
        try:
            rss, cpu = _of(run.pid)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            break
        passed = time.monotonic() - began
        if passed < seconds:
            print(f"{passed:5.0f} {rss / 1e6:8.1f} {(cpu - before) / EVERY * 100:6.1f}", flush=True)
        before = cpu
    said = (run.communicate()[0] or "").splitlines()
    print("\n".join(said[-2:]))
    rows = sum(it.stat().st_size for it in store.rglob("*") if it.is_file())
    print(f"CPU {before:.1f} s in all; store {rows / 1e6:.1f} MB")


def _of(pid: int) -> tuple[int, float]:
    """RSS in bytes, CPU in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return resident * PAGE, (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
