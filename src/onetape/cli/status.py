"""``onetape status`` and ``onetape top``: how a run is doing, as seen from another process."""
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetape.cli.main import app
from onetape.cli.output import print_json, print_table
from onetape.clock import SECOND
from onetape.errors import UsageError

if TYPE_CHECKING:
    from onetape.service.status import Status, VenueStatus

Store = Annotated[
    Path | None,
    typer.Option("--store", metavar="DIR", help="Of the run; by default the one of the settings, or data/sim."),
]
LOST = "killed or hanging"
NOT_STORED = "not stored"  # the journal's counter of what it has no table for


@app.command()
def status(
    *, store: Store = None,
    json: Annotated[bool, typer.Option("--json", help="An object; times in ns.")] = False,
) -> None:
    """Show how the run on a store is doing; exit code 0 if it runs, all its venues are active and it stores, else 1.

    Examples:

      onetape status

      onetape status --store data/sim --json
    """
    folder, found = latest(stores(store))
    now = time.time_ns()
    state = state_of(found, now)
    sound = state == "running" and all(it.state == "active" for it in found.venues) and not found.behind
    if json:
        import msgspec

        more = {"state": state, "sound": sound, "age_s": round((now - found.at) / SECOND, 3), "folder": str(folder)}
        print_json(more | msgspec.to_builtins(found))
    else:
        _print(found, folder, now)
    if not sound:
        raise typer.Exit(1)


@app.command()
def top(*, store: Store = None) -> None:
    """Watch the run on a store, in the terminal: venues, books, rates. It runs elsewhere; this only looks.

    Keys: q ends, d changes between dark and light, arrows scroll.

    Examples:

      onetape top

      onetape top --store data/sim
    """
    if not sys.stdout.isatty():
        raise UsageError("onetape top needs a terminal; elsewhere: onetape status")
    from onetape.cli.top import Top

    Top(stores(store)).run()


# --- which run ------------------------------------------------------------------------------------------------------


def stores(store: Path | None) -> list[Path]:
    """Where a run may be: where it is said to be, else where ``onetape run`` would keep."""
    from onetape.cli.run import SIM_STORE
    from onetape.config import load

    if store is not None:
        return [store]
    settings = load(None)
    return [settings.store] if "store" in settings.model_fields_set else [settings.store, SIM_STORE]


def latest(folders: list[Path]) -> "tuple[Path, Status]":
    """The run that was alive last, and its store. Raises UsageError: there was none."""
    from onetape.service.status import read

    found: list[tuple[Path, Status]] = []
    problems: list[UsageError] = []
    for it in folders:
        try:
            found.append((it, read(it)))
        except UsageError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    return max(found, key=lambda it: (not it[1].stopped, it[1].at) if _fresh(it[1]) else (False, it[1].at))


def _fresh(it: "Status") -> bool:
    from onetape.service.status import running

    return running(it, time.time_ns())


def state_of(it: "Status", now: int) -> str:
    """``running``, ``stopped``, or LOST."""
    from onetape.service.status import running

    return "stopped" if it.stopped else "running" if running(it, now) else LOST


def headline(it: "Status", folder: Path, now: int) -> str:
    """Whether it runs, where, and since when."""
    what = "the simulator" if it.source == "sim" else "the exchanges"
    match state_of(it, now):
        case "running":
            passed = span((it.at - it.started_at) / SECOND)
            return f"running on {folder}: {what}, pid {it.pid}, for {passed}, since {moment(it.started_at)}"
        case "stopped":
            return f"stopped on {folder} at {moment(it.at)}, after {span((it.at - it.started_at) / SECOND)}: {what}"
        case _:
            age = span((now - it.at) / SECOND)
            return f"{LOST} on {folder} since {moment(it.at)}, {age} ago: {what}, pid {it.pid}"


def moment(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns / SECOND, UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(seconds: float) -> str:
    """In the unit that suits."""
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(seconds, 0):.0f} s"


# --- in words -------------------------------------------------------------------------------------------------------


def _print(it: "Status", folder: Path, now: int) -> None:
    from onetape.cli.board import reasons, summary

    print(headline(it, folder, now))
    print_table([_row(venue) for venue in it.venues], right=NUMBERS, spare=("rest", "books", "clock ms", "audit"))
    for line in reasons(it):
        print(line)
    print(summary(it))
    for venue in it.venues:
        counted = ", ".join(f"{what} {count:,}" for what, count in sorted(venue.counters.items()) if count)
        print(f"{venue.name}: {counted or 'nothing beside plain delivery'}")
    rows = ", ".join(
        f"{table.replace('_', ' ')} {count:,}" for table, count in sorted(it.stored.items())
        if count and table != NOT_STORED
    )
    beside = it.stored.get(NOT_STORED, 0)
    print(f"rows stored: {rows or 'none'}" + (f"; events that no table keeps: {beside:,}" if beside else ""))
    if (to := it.postgres) is not None:
        stored = sum(to.stored.values())
        lag = f"{to.waiting:,} wait, lag {to.lag_ns / SECOND:.1f} s"
        print(f"PostgreSQL {to.url}: {to.state}, {stored:,} rows stored, {lag}")


NUMBERS = ("frames", "p50 ms", "p99 ms", "clock ms", "reconnects", "rest", "books", "audit")


def _row(it: "VenueStatus") -> dict[str, Any]:
    from onetape.cli.board import latency, milliseconds, percent
    from onetape.service.status import match_of

    p50, p99 = latency(it)
    live = sum(book.state == "live" for book in it.books)
    return {
        "venue": it.name, "state": str(it.state), "frames": f"{frames(it):,}", "p50 ms": milliseconds(p50),
        "p99 ms": milliseconds(p99), "clock ms": milliseconds(it.offset_ms), "reconnects": str(reconnects(it)),
        "rest": f"{it.requests:,}", "books": f"{live} of {len(it.books)} live",
        "audit": percent(match_of(it)),
    }


def frames(it: "VenueStatus") -> int:
    return sum(line.frames for line in it.lines)


def reconnects(it: "VenueStatus") -> int:
    """Attempts to connect beyond the first of each line."""
    return max(it.counters.get("attempts", 0) - len(it.lines), 0)
