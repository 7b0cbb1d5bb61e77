"""Frames per second and microseconds per frame, by stage, on the recordings: ``make bench``.

parse     bytes to events, by the venue
book      snapshots and deltas into verified books, watches (session less parse)
pipeline  trades checked, had once, counted into candles; batches (what it adds to the session)
journal   rows built, committed (what it adds to the pipeline)
all       from bytes to committed rows, and the frames/s that this makes
"""
import gc
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from onetape import demo, venues
from onetape.feed.inputs import Frame
from onetape.feed.recording import open_recording
from onetape.feed.replay import Replay
from onetape.model import BookDelta, BookSnapshot, Event
from onetape.pipeline import Pipeline
from onetape.service.keeper import Keeper

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
    stages = ("parse", "book", "pipeline", "journal", "all")
    print(f"{'recording':62} {'frames':>7} {' '.join(f'{it:>8}' for it in stages)} {'frames/s':>9}")
    rows = [(venue, folder / name) for venue, name in RECORDINGS] if folder.is_dir() else []
    if not rows:
        print(f"no real recordings at {folder}: the built-in session stands in", file=sys.stderr)
    for venue, path in [*rows, (None, demo.SESSION)]:
        frames, parse, session, pipeline, journal = measure(venue, path)
        name = f"{path.parent.name}/{path.name}"
        steps = (parse, session - parse, pipeline - session, journal - pipeline, journal)
        print(f"{name:62} {frames:7} {' '.join(f'{it:8.2f}' for it in steps)} {1e6 / journal:9,.0f}")


def measure(venue: str | None, path: Path) -> tuple[int, float, float, float, float]:
    """Number of frames, and us per frame: parsing alone, sessions, with the pipeline, with the journal."""
    times: list[list[int]] = [[], [], [], []]
    frames = 0
    for _ in range(REPEATS):
        steps = list(Replay(open_recording(path), venue)._recording.inputs)
        frames = sum(isinstance(it, Frame) for _, it in steps)
        times[0].append(time_parse(venue, ready(venue, path, steps), [it for _, it in steps]))
        times[1].append(time_play(ready(venue, path, steps), lambda _: None))
        times[2].append(time_pipeline(ready(venue, path, steps)))
        times[3].append(time_keeper(ready(venue, path, steps)))
    parse, session, pipeline, journal = (statistics.median(it) / frames / 1e3 for it in times)
    return frames, parse, session, pipeline, journal


def ready(venue: str | None, path: Path, steps: list) -> Replay:
    """A replay whose inputs are in memory."""
    player = Replay(open_recording(path), venue)
    player._recording.inputs = iter(steps)
    return player


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


def time_play(player, take) -> int:
    gc.collect()
    began = time.perf_counter_ns()
    for step in player:
        for _, it in step.outcomes:
            if isinstance(it, Event):
                take(it)
    return time.perf_counter_ns() - began


def time_pipeline(player) -> int:
    rows: list = []
    pipeline = Pipeline(store=rows.append, commit=lambda _: rows.clear(), pair_of=player.pair, book_of=player.book)
    return time_play(player, pipeline.handle)


def time_keeper(player) -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        Keeper(Path(folder), pair_of=player.pair, book_of=player.book, tape_of=player.tape) as keeper,
    ):
        took, began = time_play(player, keeper.handle), time.perf_counter_ns()
        keeper.flush()
        return took + time.perf_counter_ns() - began


if __name__ == "__main__":
    main()
