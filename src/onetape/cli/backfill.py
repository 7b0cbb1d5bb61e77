"""``onetape backfill``: what a venue still has of the past, asked for by a person."""
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from msgspec import structs

from onetape.cli.answers import clock, duration
from onetape.cli.main import app
from onetape.cli.output import print_json
from onetape.cli.run import ConfigFile, Deadline, Faults, Seed, Sim, settings_of, simulated_of
from onetape.clock import MINUTE, SECOND
from onetape.errors import UsageError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from onetape.config import Settings
    from onetape.service.demand import Report
    from onetape.service.requests import Asked
    from onetape.service.run import Simulated
    from onetape.service.status import Status

LINES_S = 5.0  # between two lines where there is no terminal
LOOK_S = 0.5
PAST_NS = 10 * MINUTE  # of the simulated market: it is the past that is asked for
GONE_NS = 3 * SECOND  # the file of a request is deleted at once, the status that says why comes within a second


@app.command()
def backfill(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="BTC-USDT, or the venue's own symbol.")],
    *, venue: Annotated[str, typer.Option("--venue", help="Which one is asked.")],
    start: Annotated[
        str, typer.Option("--from", metavar="TIME", help="2024-08-08, 2024-08-08T12:00:00Z, or an epoch number.")
    ],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="Before then.")],
    candles: Annotated[bool, typer.Option("--candles", help="The venue's own candles instead of trades.")] = False,
    interval: Annotated[str | None, typer.Option(help="Of candles: 1m if it is not given.")] = None,
    store: Annotated[Path | None, typer.Option("--store", metavar="DIR", help="Where it is kept.")] = None,
    config: ConfigFile = None, sim: Sim = False, seed: Seed = 1, faults: Faults = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Withdraw the request, whoever does it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="At the end print all as an object.")] = False,
) -> None:
    """Fetch trades of the past from an exchange, or its own candles; what is stored already is not asked for again.

    They come by the way of all trades: checked, each once, gaps told, candles built. Where a run collects into the
    store, it does the work, and this command only shows it; else it is done here. Ctrl-C leaves the request standing:
    the same command goes on with it, and so does the next run. Exit code 1 if something could not be had.

    Examples:

      onetape backfill BTC-USDT --venue binance --from 2024-08-08 --to 2024-08-09

      onetape backfill BTC-USD --venue kraken --from 2024-08-08T12:00:00Z --to 2024-08-08T13:00:00Z --json

      onetape backfill BTC-USDT --venue okx --from 2024-01-01 --to 2024-02-01 --candles --interval 1h
    """
    from onetape.service.requests import put, withdraw

    asked = _asked(pair, venue, start, end, interval or "1m" if candles else "")
    if interval is not None and not candles:
        raise UsageError("--interval is of --candles")
    settings = _settings(config, sim, store, venue)
    if cancel:
        if not withdraw(settings.store, asked.id):
            raise UsageError(f"nothing like that is asked of {settings.store}")
        print("withdrawn; what has come so far stays")
        return
    simulated = simulated_of(settings, sim, None, seed, faults, None, compare=False)
    if simulated is not None:
        simulated = structs.replace(simulated, past_ns=PAST_NS)
    put(settings.store, asked)
    with ExitStack() as stack:
        show = _Show(asked.id, stack, quiet=json)
        report = _done(settings, asked, show, simulated)
    _tell(report, json=json)


def _asked(pair: str, venue: str, start: str, end: str, interval: str) -> "Asked":
    """Raises UsageError."""
    from onetape import venues
    from onetape.cli.select import moment
    from onetape.service.requests import Asked

    spec = venues.spec(venue)
    first, last, now = moment(start, "--from"), moment(end, "--to"), time.time_ns()
    if first >= last:
        raise UsageError(f"--from must be before --to: {clock(first)}, {clock(last)}")
    if last > now:
        raise UsageError(f"--to is in the future: {clock(last)}, and it is {clock(now)}")
    if first < 0:
        raise UsageError(f"--from is before 1970: {start[:40]!r}")
    if interval:
        _check(interval, venue)
    elif spec.history.newest_only:
        print(f"onetape: {venue} gives its newest trades alone: what is older cannot be had", file=sys.stderr)
    return Asked(venue, pair, first, last, interval)


def _check(interval: str, venue: str) -> None:
    """Raises UsageError: the venue has no such candles."""
    from onetape import venues
    from onetape.clock import interval_ns

    try:
        venues.create(venue).candles_request("", interval, 0, interval_ns(interval))
    except (LookupError, ValueError) as error:
        raise UsageError(f"{venue} gives no candles of {interval[:20]!r} by REST") from error


def _settings(config: Path | None, sim: bool, store: Path | None, venue: str) -> "Settings":
    """Those of a run that has this venue alone, for its trades."""
    settings = settings_of(config, sim, store, [venue], None)
    own = settings.venue(venue).model_copy(update={"channels": ("trades",)})
    return settings.model_copy(update={"venues": {venue: own}})


# --- who does it ----------------------------------------------------------------------------------------------------


def _done(settings: "Settings", asked: "Asked", show: "_Show", simulated: "Simulated | None") -> "Report":
    """By whoever writes the store. Raises typer.Abort: interrupted, the request stands."""
    from onetape.service.requests import withdraw

    while show.report is None:
        if _is_free(settings.store):
            try:
                _here(settings, show, simulated)
            except UsageError:  # nobody can do it before a person has mended something
                withdraw(settings.store, asked.id)
                raise
        else:
            try:
                _elsewhere(settings.store, asked, show)
            except KeyboardInterrupt:
                show.interrupted = True
        if show.interrupted and show.report is None:
            print(
                "onetape: interrupted; the request stands: the same command goes on with it, and so does a run on"
                f" {settings.store}; --cancel withdraws it", file=sys.stderr,
            )
            raise typer.Abort
    return show.report


def _is_free(store: Path) -> bool:
    from onetape.storage.journal import writers_lock

    folder = store / "journal" / "main"
    if not folder.is_dir():
        return True
    with writers_lock(folder) as free:
        return free


def _here(settings: "Settings", show: "_Show", simulated: "Simulated | None") -> None:
    """As a run that collects nothing, until the request is done. Raises UsageError: a schema that is newer."""
    import uvloop

    from onetape.credentials import load
    from onetape.service.log import configure

    configure(settings.log.model_copy(update={"level": "error"}))
    async def work() -> None:
        import asyncio

        from onetape.service.run import collect

        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        deadline = Deadline(settings.stop_within)

        def ask() -> None:
            if show.interrupted:
                deadline.give_up()
            show.interrupted = True
            deadline.start()
            stop.set()

        def view(status: "Status") -> None:
            show.see(status)
            if show.report is not None:
                stop.set()

        for it in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(it, ask)
        try:
            outcome = await collect(
                settings, simulated=simulated, store=settings.store, record=None, duration=None, view=view, stop=stop,
                credentials=load(os.environ), idle=True,
            )
            show.see(outcome.status)
        finally:
            deadline.stop()

    try:
        uvloop.run(work())
    except UsageError as error:
        if "another writer" not in str(error):  # that one has been quicker than we were
            raise


def _elsewhere(store: Path, asked: "Asked", show: "_Show") -> None:
    """Follows what the process does that writes the store, until it has done it, or no longer runs."""
    from onetape.service.requests import path_of
    from onetape.service.status import read, running

    gone = 0
    while show.report is None and not _is_free(store):
        now = time.time_ns()
        try:
            status = read(store)
        except UsageError as error:
            show.wait(str(error))
        else:
            show.see(status)
            if not running(status, now):
                show.wait("somebody else writes into the store: it is done when that has stopped")
        gone = 0 if path_of(store, asked.id).exists() else gone or now
        if show.report is None and gone and now - gone > GONE_NS:
            raise UsageError("the request was withdrawn")
        time.sleep(LOOK_S)
    if show.report is None and not path_of(store, asked.id).exists():
        show.see(read(store))
        if show.report is None:
            raise UsageError("the request was withdrawn")


# --- what is shown --------------------------------------------------------------------------------------------------


class _Show:
    """How far one request is: a bar on a terminal, a line now and then elsewhere; both on stderr."""

    def __init__(self, id: str, stack: ExitStack, *, quiet: bool) -> None:
        self.report: Report | None = None
        """When it has ended."""
        self.interrupted = False
        self._id, self._quiet = id, quiet
        self._tell: Callable[[str, int, int], None] = _lines()
        self._began: tuple[float, int] | None = None
        self._waits = ""
        if sys.stderr.isatty():
            self._tell = _bar(stack)

    def see(self, status: "Status") -> None:
        report = next((it for it in reversed(status.asked) if it.id == self._id), None)
        if report is None:
            return
        if report.ended:
            self.report = report
        if self._quiet or report.ended:
            return
        if report.state != "filling":
            self.wait(report.reason or {"looking": "looking for where that is"}.get(report.state, report.state))
            return
        now = time.monotonic()
        began, had = self._began = self._began or (now, report.done)
        rate = (report.done - had) / max(now - began, 0.001)
        left = f", {duration(round((report.total - report.done) / rate * SECOND))} left" if rate else ""
        pace = f", {rate:,.0f}/s{left}" if rate else ""
        self._tell(f"{report.done:,} of {report.total:,}{pace}", report.done, report.total)

    def wait(self, why: str) -> None:
        if why != self._waits and not self._quiet:
            self._waits = why
            print(f"onetape: {_clean(why)}", file=sys.stderr, flush=True)


def _lines() -> Callable[[str, int, int], None]:
    told = -LINES_S

    def tell(words: str, _done: int, _total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= LINES_S:
            told = time.monotonic()
            print(words, file=sys.stderr, flush=True)

    return tell


def _bar(stack: ExitStack) -> Callable[[str, int, int], None]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    bar: Progress | None = None
    task: TaskID | None = None

    def tell(words: str, done: int, total: int) -> None:
        nonlocal bar, task
        if bar is None or task is None:
            bar = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True))
            task = bar.add_task(words, total=total)
        bar.update(task, description=words, completed=done, total=total)

    return tell


def _tell(report: "Report", *, json: bool) -> None:
    """How it ended. Raises UsageError: it could not be done as it was asked for; Exit(1): not all was to be had."""
    seconds = max(report.at - report.began, 0) / SECOND
    if report.state == "withdrawn":
        raise UsageError("the request was withdrawn")
    if json:
        print_json(_row(report) | {"seconds": round(seconds, 3)})
    if report.state == "refused":
        raise UsageError(_clean(report.reason))
    if not json:
        what = f"{report.asked.interval} candles" if report.asked.interval else "trades"
        skipped = f", {report.skipped:,} ids that the venue left out" if report.skipped else ""
        print(f"{report.stored:,} {what} stored, {report.present:,} there before{skipped}; {seconds:.1f} s")
        for note in report.notes:
            print(_clean(note))
        for it in report.lacking:
            print(f"not had, {clock(it.start)} to {clock(it.end)}: {_clean(it.reason)}", file=sys.stderr)
    if report.lacking:
        raise typer.Exit(1)


def _row(it: "Report") -> dict[str, Any]:
    return {
        "venue": it.asked.venue, "pair": it.asked.pair, "symbol": it.symbol, "interval": it.asked.interval or None,
        "from_time": str(it.asked.start), "to_time": str(it.asked.end), "state": it.state, "reason": it.reason,
        "first_id": it.first or None, "last_id": it.last or None, "total": str(it.total), "stored": str(it.stored),
        "present": str(it.present), "skipped": str(it.skipped), "notes": it.notes,
        "lacking": [
            {"from_time": str(one.start), "to_time": str(one.end), "reason": one.reason} for one in it.lacking
        ],
    }


def _clean(text: str) -> str:
    from onetape.service.status import clean

    return clean(text)
