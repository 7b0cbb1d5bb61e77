"""``onetape run`` and ``onetape record``: the main job."""
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onetape.cli.main import app
from onetape.cli.sim import MIXTURE_S
from onetape.clock import SECOND
from onetape.errors import OneTapeError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from onetape.config import Settings
    from onetape.credentials import Credentials
    from onetape.service.run import Outcome, Simulated, View
    from onetape.service.status import Status

SIM_STORE = Path("data/sim")
SWITCH_S = 0.0005  # the thread that commits holds the interpreter no longer: a frame waits for it at most so long
LINES_NS = 5 * SECOND  # between two lines where there is no terminal

Sim = Annotated[bool, typer.Option("--sim/--live", help="The built-in simulator, no network needed; or the exchanges.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings: TOML or JSON.")]
Duration = Annotated[float | None, typer.Option(metavar="S", help="Stop after so many seconds.")]
Venues = Annotated[list[str] | None, typer.Option("--venue", help="Only this venue; may be repeated.")]
Pairs = Annotated[list[str] | None, typer.Option("--pair", help="Only this pair; may be repeated.")]
Seed = Annotated[int, typer.Option(help="Of the simulated market.")]
Faults = Annotated[
    str | None, typer.Option(metavar="SEED|FILE", help="What goes wrong there: by chance, or a plan in TOML.")
]
Truth = Annotated[Path | None, typer.Option(metavar="FILE", help="Where the simulator writes what really happened.")]


@app.command()
def run(
    *, sim: Sim = False, config: ConfigFile = None,
    store: Annotated[Path | None, typer.Option("--store", metavar="DIR", help="Where it is kept.")] = None,
    record: Annotated[Path | None, typer.Option("--record", metavar="DIR", help="Record every frame too.")] = None,
    duration: Duration = None, venue: Venues = None, pair: Pairs = None, seed: Seed = 1, faults: Faults = None,
    truth: Truth = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare all that is published with the simulator's truth.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="At the end print all as JSON, nothing before.")] = False,
) -> None:
    """Collect: books, trades and candles, verified, shown as they come and kept.

    Stops on Ctrl-C or SIGTERM when all that came is kept, and says what that was; a second Ctrl-C does not wait.

    Examples:

      onetape run --sim

      onetape run --sim --duration 60 --store data/try

      onetape run --live --config onetape.toml

      onetape run --live --venue kraken --pair BTC-USD
    """
    settings = settings_of(config, sim, store, venue, pair)
    simulated = simulated_of(settings, sim, duration, seed, faults, truth, compare)
    _run(settings, simulated, settings.store, record, duration, json=json)


@app.command()
def record(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the recording.")],
    *, sim: Sim = False, config: ConfigFile = None, duration: Duration = None, venue: Venues = None, pair: Pairs = None,
    seed: Seed = 1, faults: Faults = None,
) -> None:
    """Record every raw frame and REST answer with its receive time, as ``onetape replay`` plays it.

    Examples:

      onetape record --sim --duration 60 recorded

      onetape replay recorded --verify
    """
    settings = settings_of(config, sim, None, venue, pair)
    _run(settings, simulated_of(settings, sim, duration, seed, faults, None, compare=False), None, path, duration)


def settings_of(
    config: Path | None, sim: bool, store: Path | None, venues: list[str] | None, pairs: list[str] | None,
) -> "Settings":
    from onetape import venues as known
    from onetape.config import load

    flags: dict[str, object] = {}
    if store is not None:
        flags["store"] = str(store)
    if pairs:
        flags["pairs"] = pairs
    settings = load(config, flags=flags)
    if sim and not venues and not settings.venues:  # the simulator has them all
        settings = _everything(settings)
    if venues:
        for name in venues:
            known.spec(name)
        kept = {name: settings.venue(name).model_copy(update={"enabled": True}) for name in venues}
        settings = settings.model_copy(update={"venues": kept})
    if sim and store is None and "store" not in settings.model_fields_set:
        settings = settings.model_copy(update={"store": SIM_STORE})
    return settings


def _everything(settings: "Settings") -> "Settings":
    """All feeds; of those that lack what is asked of all, what they have, unless pairs or channels were named."""
    from onetape import venues
    from onetape.config import FIVE, VENUES, Venue
    from onetape.presets import PRESETS

    preset = PRESETS["seven-feeds"].values["venues"]
    named = settings.model_fields_set & {"pairs", "channels"}
    found = {name: Venue(**{key: it for key, it in preset[name].items() if key not in named}) for name in VENUES}
    if "pairs" in named:
        perpetual = {it.endswith("-PERP") for it in settings.pairs}
        found = {name: it for name, it in found.items() if name in FIVE or (name == "binance-usdm") in perpetual}
    for name in found if "channels" in named else ():  # beyond the five, each as far as it has what is asked for
        has = venues.capabilities(name).channels
        some = tuple(it for it in settings.channels if it in has or (it == "trades" and "agg_trades" in has))
        if name not in FIVE:
            found[name] = found[name].model_copy(update={"enabled": bool(some), "channels": some or None})
    return settings.model_copy(update={"venues": found})


def simulated_of(
    settings: "Settings", sim: bool, duration: float | None, seed: int, faults: str | None, truth: Path | None,
    compare: bool,
) -> "Simulated | None":
    if duration is not None and not duration > 0:  # so that NaN is refused too
        raise UsageError(f"--duration must be above 0: {duration:g}")
    if not sim:
        if faults is not None or truth is not None or compare:
            raise UsageError("--faults, --truth and --compare are of the simulator: say --sim")
        return None
    from onetape.cli.sim import plan_of
    from onetape.service.run import Simulated
    from onetape.sim.venues import VENUES

    names = [it for it in settings.chosen() if it in VENUES]
    if not names:
        raise UsageError(f"no simulated venue is chosen: there is {', '.join(VENUES)}")
    plan = plan_of(faults, names, duration or MIXTURE_S)
    return Simulated(names, seed, plan, truth, time.time_ns(), compare)


def _run(
    settings: "Settings", simulated: "Simulated | None", store: Path | None, record: Path | None,
    duration: float | None, *, json: bool = False,
) -> None:
    """Until it is asked to stop; what then waits is kept within the deadline."""
    import uvloop
    from rich.console import Console

    from onetape.cli.board import reasons, summary
    from onetape.cli.output import print_json
    from onetape.credentials import load
    from onetape.service import followed
    from onetape.service.log import configure
    from onetape.storage.schema import TABLES

    credentials = load(os.environ)
    sys.setswitchinterval(SWITCH_S)
    console = Console()
    configure(settings.log if not console.is_terminal or json else settings.log.model_copy(update={"level": "error"}))
    gc.freeze()  # what was imported stays: each full collection would look through it, for 50 ms without a frame
    try:
        outcome = uvloop.run(
            _until_asked(settings, simulated, store, record, duration, None if json else console, credentials)
        )
    finally:
        gc.unfreeze()  # DuckDB complains at the end about what nobody has freed
    if json:
        print_json(outcome)
    else:
        print(f"stopped after {summary(outcome.status)}")
        for line in reasons(outcome.status):
            print(line)
        if store is not None:
            kept = {table: count for table, count in outcome.stored.items() if table in TABLES}
            rows = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in kept.items())
            what = "what memory could hold" if outcome.status.dropped else "all that came"
            print(f"{what} is kept in {store}: {rows or 'nothing'}")
            if settings.postgres is not None and (there := followed.read(store, time.time_ns())) is not None:
                there = followed.counted(there, store, time.time_ns())
                print(f"PostgreSQL {there.url} " + (
                    f"lacks {there.waiting:,} rows of it, which the next run will bring" if there.waiting
                    else "has all of it"
                ))
        if record is not None:
            print(f"recorded in {record}: play it with onetape replay {record} --verify")
    if outcome.verdict is not None:
        if not json:
            print(outcome.verdict)
        for finding in outcome.verdict.findings:
            print(finding, file=sys.stderr)
        if outcome.verdict.wrong or outcome.verdict.untold:
            raise OneTapeError("what was published differs from the truth")


async def _until_asked(
    settings: "Settings", simulated: "Simulated | None", store: Path | None, record: Path | None,
    duration: float | None, console: "Console | None", credentials: "Mapping[str, Credentials]",
) -> "Outcome":
    import asyncio

    from onetape.service.log import EventLog
    from onetape.service.run import collect

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    deadline = Deadline(settings.stop_within)

    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            deadline.give_up()
        stop.set()

    async def limit() -> None:  # whatever it was that asked to stop
        await stop.wait()
        deadline.start()

    for it in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(it, ask)
    limiting = asyncio.create_task(limit())
    with ExitStack() as stack:
        try:
            return await collect(
                settings, simulated=simulated, store=store, record=record, duration=duration, stop=stop,
                view=_view(console, stack), log=EventLog().add, credentials=credentials,
            )
        finally:
            limiting.cancel()
            deadline.stop()


def _view(console: "Console | None", stack: ExitStack) -> "View":
    """A live table in a terminal, a line now and then elsewhere, nothing where JSON is wanted."""
    from onetape.cli.board import Rates, board, summary

    if console is None:
        return lambda _: None
    if not console.is_terminal:
        shown = 0

        def tell(status: "Status") -> None:
            nonlocal shown
            if status.at - shown >= LINES_NS:
                shown = status.at
                print(summary(status), flush=True)

        return tell
    from rich.live import Live

    rates, live = Rates(), stack.enter_context(Live(console=console, auto_refresh=False, vertical_overflow="crop"))

    def show(status: "Status") -> None:
        rates.add(status)
        live.update(board(status, rates, console.width, console.height), refresh=True)

    return show


class Deadline:
    """From the request to stop: whoever does not come to an end by then is ended; the journal stays whole."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer = threading.Timer(seconds, self.give_up)
        self._timer.daemon = True

    def start(self) -> None:
        self._timer.start()

    def stop(self) -> None:
        self._timer.cancel()

    def give_up(self) -> None:
        print(
            "onetape: gave up waiting; what was not committed yet is lost, the rest is whole",
            file=sys.stderr, flush=True,
        )
        os._exit(1)
