"""Outages, restarts and bad answers in simulated time: what is stored afterwards, against what really happened.

``python -m tests.simulation.outages --seeds 200`` plays them all and prints a table by venue.
"""
import argparse
import sys
from collections import Counter
from itertools import pairwise
from decimal import Decimal
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory

from msgspec import Struct, structs

from onetape import venues
from onetape.clock import DAY, SECOND
from onetape.model import Candle, Channel, InstrumentId, Trade
from onetape.sim.faults import FaultPlan
from onetape.sim.simulator import Simulator
from onetape.sim.venues import VENUES
from onetape.storage.lake import Lake, StoredGap
from tests.simulation.lab import Lab
from tests.simulation.test_faults import PAIRS

LENGTH = 240
PATIENCE = 400  # virtual seconds after the last fault, within which all has to be well


class Report(Struct):
    venue: str
    seed: int
    trades: int = 0
    wrong: int = 0
    doubled: int = 0
    lost: int = 0
    """Missing, and in no gap on record."""
    missing: int = 0
    gaps: int = 0
    healed: int = 0
    unhealable: int = 0
    waiting: int = 0
    """Still open at the end."""
    candles: int = 0
    """Minutes, compared with those of the truth."""
    revised: int = 0
    restarts: int = 0
    heal_seconds: list[float] = []
    findings: list[str] = []


def play(venue: str, seed: int, folder: Path, length: int = LENGTH) -> Report:
    dice = Random(f"{venue} {seed}")
    settings = {"redundancy": venues.spec(venue).redundancy}
    if venue in PAIRS:
        settings["pairs"] = PAIRS[venue]
    lab = Lab(
        FaultPlan.outages(seed, [venue], length), venue=venue, seed=seed, max_age_ns=DAY, store=folder,
        settings=settings, pace=0.5,
    )
    report = Report(venue, seed, restarts=dice.choice((0, 1, 2)))
    lab.start()
    moments = sorted(dice.uniform(5, 0.9 * length) for _ in range(report.restarts))
    now = 0.0
    for moment in moments:
        now = max(now, moment)
        lab.play(now)
        lab.kill()
        now += dice.choice((0.5, 5.0, 30.0))
        lab.play(now)
        lab.restart()
    end = length + PATIENCE
    now = max(now + 15, length)  # what was begun last has time to bring something
    lab.play(now)
    while now < end and (not lab.healthy or any(it.waiting for it in lab.door.backfills.values())):
        now += 10
        lab.play(now)
    lab.stop()
    lab.pipeline.__exit__()
    compare(lab.sim, folder, lab.now, report)
    return report


def compare(sim: Simulator, folder: Path, now: int, report: Report) -> None:
    """Fills the report: what the store has of the report's venue, against what happened in ``sim`` until ``now``."""
    with Lake(folder) as lake:
        trades = [it for it in lake.trades() if it.venue == report.venue]
        gaps = [it for it in lake.gaps() if it.venue == report.venue]
        candles = [it for it in lake.candles(interval="1m", latest=False) if it.venue == report.venue]
    _compare_candles(sim, now, candles, trades, gaps, report)
    stored: dict[InstrumentId, Counter[int]] = {}
    number, match = sim.venues[report.venue].number, sim.venues[report.venue].match
    for it in trades:
        id = InstrumentId(it.venue, it.symbol)
        stored.setdefault(id, Counter())[number(it.id)] += 1
        listing, true = sim.truths[id].listing, match(it.symbol, number(it.id))
        report.wrong += true is None or (it.price, it.size) != (true.price * listing.tick, true.size * listing.lot)
    for id, numbers in stored.items():
        report.trades += len(numbers)
        report.doubled += sum(numbers.values()) - len(numbers)
        missing = set(range(min(numbers), max(numbers) + 1)) - set(numbers)
        missing = {it for it in missing if match(id.symbol, it) is not None}
        told = {
            it for gap in gaps if (gap.venue, gap.symbol) == id and gap.state != "healed"
            for it in range(number(gap.after) + 1, number(gap.before))
        }
        report.missing += len(missing)
        report.lost += len(missing - told)
        if missing - told:
            lost = sorted(missing - told)
            times = sorted({round((now - match(id.symbol, it).time) / SECOND, 1) for it in lost})
            ago = f"{times[-1]} to {times[0]} s before the end"
            report.findings.append(f"{id}: {len(lost)} lost, {lost[0]} to {lost[-1]}, {ago}")
        last = sim.truths[id].last_matches(1)[0]
        behind = match(id.symbol, max(numbers)).time < now - 5 * SECOND < last.time
        if behind:
            report.findings.append(f"{id}: nothing came at the end")
    for gap in gaps:
        report.gaps += 1
        report.healed += gap.state == "healed"
        report.unhealable += gap.state == "unhealable"
        report.waiting += gap.state in ("open", "filling")
        if gap.state in ("open", "filling"):
            report.findings.append(f"{gap.symbol} {gap.after} to {gap.before}: {gap.state}, {gap.cause}")
        if gap.state == "healed":
            report.heal_seconds.append((gap.available_at - gap.opened_at) / SECOND)


def _compare_candles(
    sim: Simulator, now: int, candles: list[Candle], trades: list[Trade], gaps: list[StoredGap], report: Report,
) -> None:
    """The latest revision equals the truth, or says that it is not complete, and a gap says why."""
    history: dict[tuple[str, int], list[Candle]] = {}
    for it in sorted(candles, key=lambda it: (it.symbol, it.end, it.available_at, it.revision)):
        history.setdefault((it.symbol, it.end), []).append(it)
    first = {symbol: min(end for name, end in history if name == symbol) for symbol, _ in history}
    for (symbol, end), revisions in history.items():
        report.revised += len(revisions) > 1
        last = revisions[-1]
        numbers = [it.revision for it in revisions]
        same = any(structs.replace(before, revision=0, available_at=0, received_time=0)
                   == structs.replace(after, revision=0, available_at=0, received_time=0)
                   for before, after in pairwise(revisions))
        if numbers != list(range(len(numbers))) or same:
            ago = (now - end) / SECOND
            report.findings.append(f"{symbol}: revisions {numbers} of the minute {ago} s before the end")
        within = [it for it in gaps if it.symbol == symbol and it.state != "healed"
                  and it.from_time < end and it.to_time >= last.start]
        if not last.complete:
            if end != first[symbol] and not within and end < now - 5 * SECOND:
                report.findings.append(f"{symbol}: incomplete for no reason, {(now - end) / SECOND} s before the end")
            continue
        report.candles += 1
        expected = _true(sim, InstrumentId(report.venue, symbol), last, trades)
        if (last.open, last.high, last.low, last.close, last.volume) != expected and not _is_tied(
            last, expected, trades,
        ):
            report.findings.append(f"{symbol}: {last} is not {expected}")


def _is_tied(it: Candle, expected: tuple[Decimal, ...], trades: list[Trade]) -> bool:
    """Where ids have no order, nothing says which of the trades of one millisecond came first, or last."""
    parts = [one for one in trades if one.symbol == it.symbol and it.start <= one.exchange_time < it.end]
    if not parts or parts[0].after is not None or (it.high, it.low, it.volume) != (*expected[1:3], expected[4]):
        return False
    times = [one.exchange_time for one in parts]
    first = {one.price for one in parts if one.exchange_time == min(times)}
    last = {one.price for one in parts if one.exchange_time == max(times)}
    return {it.open, expected[0]} <= first and {it.close, expected[3]} <= last


def _true(sim: Simulator, id: InstrumentId, it: Candle, trades: list[Trade]) -> tuple[Decimal, ...]:
    """Open, high, low, close and volume. Where the tape is of aggregates, one may reach over the end of a minute: then
    its trades, which are compared one by one, say it, and not the venue's matches."""
    if venues.capabilities(id.venue).tape is Channel.AGG_TRADES:
        parts = [one for one in trades if one.symbol == id.symbol and it.start <= one.exchange_time < it.end]
        parts.sort(key=lambda one: (one.exchange_time, int(one.id)))
        prices = [one.price for one in parts]
        return prices[0], max(prices), min(prices), prices[-1], sum((one.size for one in parts), Decimal(0))
    tick, lot = sim.truths[id].listing.tick, sim.truths[id].listing.lot
    (true,) = sim.truths[id].candles(60 * SECOND, it.start, it.end)
    return true.open * tick, true.high * tick, true.low * tick, true.close * tick, true.volume * lot


def is_good(it: Report) -> bool:
    """Nothing wrong, doubled or lost; nothing missing at all where ids prove it; nothing left to do."""
    counted = venues.spec(it.venue).counted_trades
    return not (it.wrong or it.doubled or it.lost or it.findings or (it.missing and counted) or not it.trades)


def _one(task: tuple[str, int]) -> Report:
    with TemporaryDirectory() as folder:
        return play(*task, Path(folder))


def table(reports: list[Report]) -> str:
    head = f"{'venue':18}{'runs':>6}{'trades':>10}{'lost':>6}{'twice':>6}{'wrong':>6}{'gaps':>7}{'healed':>7}"
    lines = [f"{head}{'unheal.':>8}{'open':>6}{'missing':>8}{'median s':>9}{'p99 s':>7}{'candles':>9}{'revised':>8}"]
    for venue in sorted({it.venue for it in reports}):
        of = [it for it in reports if it.venue == venue]
        times = sorted(time for it in of for time in it.heal_seconds) or [0.0]

        def total(name: str, of: list[Report] = of) -> int:
            return sum(getattr(it, name) for it in of)
        lines.append(
            f"{venue:18}{len(of):6}{total('trades'):10}{total('lost'):6}{total('doubled'):6}{total('wrong'):6}"
            f"{total('gaps'):7}{total('healed'):7}{total('unhealable'):8}{total('waiting'):6}{total('missing'):8}"
            f"{median(times):9.2f}{times[min(len(times) * 99 // 100, len(times) - 1)]:7.1f}{total('candles'):9}"
            f"{total('revised'):8}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--venues", nargs="*", default=sorted(VENUES))
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    chosen = sorted(asked.venues)
    tasks = [(chosen[seed % len(chosen)], seed) for seed in range(asked.first, asked.first + asked.seeds)]
    reports = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for it in pool.map(_one, tasks):
            reports.append(it)
            if not is_good(it):
                print(f"{it.venue} {it.seed}: {it}", flush=True)  # noqa: T201 - a command's output
    print(table(reports))  # noqa: T201
    return 0 if all(map(is_good, reports)) else 1


if __name__ == "__main__":
    sys.exit(main())
