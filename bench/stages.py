"""Frames per second and microseconds per frame, by stage, on the recordings: ``make bench``.

parse    bytes to events, by the venue
book     snapshots and deltas into verified books (session less parse)
session  all of it: parse, books, watches, as it runs live
"""
import gc
import os
import platform
import statistics
import sys
import time
from pathlib import Path

import msgspec

from onetape import demo, venues
from onetape.feed.inputs import Frame
from onetape.feed.recording import open_recording
from onetape.feed.replay import Replay
from onetape.model import BookDelta, BookSnapshot

REPEATS = 5
RECORDINGS = (
    ("binance", "binance/spot_20240808_ethusdt.jsonl"),
    ("binance-usdm", "binance/usdm_20240808_ethusdt_first60s.jsonl"),
    ("coinbase", "coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl"),
    ("coinbase-exchange", "coinbase/exchange_20210417_A5prod.jsonl"),
    ("kraken", "kraken/v2_20260720_btcusd_d10_sample70.jsonl"),
    ("okx", "okx/v5_20210722_conn1.jsonl"),
    ("bybit", "bybit/v5_20260809_spot.jsonl"),
)


def main() -> None:
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("ONETAPE_RECORDINGS", root.parent / "shared" / "recordings"))
    print(f"Python {platform.python_version()}, msgspec {msgspec.__version__}, {platform.machine()}, "
          f"{os.cpu_count()} cores, median of {REPEATS}; microseconds per frame")
    print(f"{'recording':62} {'frames':>7} {'parse':>8} {'book':>8} {'session':>8} {'frames/s':>9}")
    rows = [(venue, folder / name) for venue, name in RECORDINGS] if folder.is_dir() else []
    if not rows:
        print(f"no real recordings at {folder}: the built-in session stands in", file=sys.stderr)
    for venue, path in [*rows, (None, demo.SESSION)]:
        frames, parse, session = measure(venue, path)
        name = f"{path.parent.name}/{path.name}"
        print(f"{name:62} {frames:7} {parse:8.2f} {session - parse:8.2f} {session:8.2f} {1e6 / session:9,.0f}")


def measure(venue: str | None, path: Path) -> tuple[int, float, float]:
    """Number of frames, and us per frame of parsing alone and of the whole session."""
    parse, whole = [], []
    frames = 0
    for _ in range(REPEATS):
        player = Replay(open_recording(path), venue)
        steps = list(player._recording.inputs)
        player._recording.inputs = iter(steps)
        frames = sum(isinstance(it, Frame) for _, it in steps)
        parse.append(time_parse(venue, player, [it for _, it in steps]))
        whole.append(time_sessions(player))
    return frames, statistics.median(parse) / frames / 1e3, statistics.median(whole) / frames / 1e3


def time_parse(venue, player, inputs) -> int:
    header = player._recording.header
    adapters = (
        {"": venues.create(venue)} if header is None
        else {name: venues.create(it.venue, it.route) for name, it in header.sessions.items()}
    )
    frames = [(adapters[it.connection], it.data, it.time) for it in inputs if isinstance(it, Frame)]
    gc.collect()
    began = time.perf_counter_ns()
    for adapter, data, now in frames:
        for event in adapter.parse(data, now):
            if isinstance(event, BookDelta | BookSnapshot):
                pass
    return time.perf_counter_ns() - began


def time_sessions(player) -> int:
    gc.collect()
    began = time.perf_counter_ns()
    for _ in player:
        pass
    return time.perf_counter_ns() - began


if __name__ == "__main__":
    main()
