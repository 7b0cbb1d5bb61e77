"""``onetape candles``: shown, built anew, and compared with the exchange's own."""
import sys
import time
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onetape.cli.answers import Asked, Pairs, Row, answer, clock, head, number, print_rows
from onetape.cli.main import app
from onetape.cli.options import DEFAULT, AsOf, End, Json, Limit, Pair, Proof, Start, Store, Venue
from onetape.cli.output import print_json
from onetape.errors import UsageError

if TYPE_CHECKING:
    from onetape.candles.compare import Compared
    from onetape.service.compare import Outcome
    from onetape.service.rebuild import Progress
    from onetape.storage.catalog import TapeId
    from onetape.storage.lake import Lake, Selection

candles = typer.Typer(no_args_is_help=True, help="Candles of a store.")
app.add_typer(candles, name="candles")

VALUES = (
    "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "taker_buy_volume", "revision",
)
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings: where the venues are, and how to get there.")
]


@candles.command()
def show(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, limit: Limit = None,
    interval: Annotated[str, typer.Option(help="1s, 1m, 5m, 15m, 1h, 4h, 1d, or any that is stored.")] = "1m",
    start: Start = None, end: End = None,
    source: Annotated[
        Literal["trades", "venue"], typer.Option(help="trades: ours; venue: the exchange's own.")
    ] = "trades",
    as_of: AsOf = None, json: Json = False, proof: Proof = False,
) -> None:
    """List candles, oldest first, each labelled by its END, in its latest revision; and whether anything is missing.

    --start and --end give those that lie wholly between them. What is still running when the store ends is shown too,
    as provisional. --as-of gives each in the revision that was the latest then, and no trade that came later.

    Examples:

      onetape candles show --venue binance --pair ETH-USDT --interval 1m

      onetape candles show --pair BTC-USDT --interval 1h --limit 24 --json

      onetape candles show --pair BTC-USDT --as-of 2024-08-08T12:00:00Z --json --proof
    """
    columns = ("time", "venue", "pair", "open", "high", "low", "close", "volume", "trades", "state")
    asked = Asked(store, venue, pair, limit, start, end, as_of, json=json, proof=proof)
    if proof and source == "venue":
        raise UsageError("--proof is of candles that are made of trades: how the venue made its own is not known")
    read = partial(_candles, interval=interval, source=source, as_of=asked.known_by)
    answer(asked, columns, read, time="start", tapes=_feeding if source == "trades" else None, table="candles")


def _candles(
    lake: "Lake", selection: "Selection", interval: str, source: str, as_of: int | None,
) -> Iterable[tuple[Row, Row]]:
    from onetape.candles.builder import INTERVALS
    from onetape.storage.restore import running

    since = selection.start or 0
    selection = _ending_in(selection)
    found = lake.candles(selection, interval, source=source, as_of=as_of)
    if not found and interval not in INTERVALS:
        raise UsageError(f"there are no candles of {interval[:20]!r}: there is {', '.join(INTERVALS)}")
    if source == "trades":
        found = sorted([*found, *running(lake, selection, interval, as_of=as_of)], key=lambda it: it.end)
    pairs = lake.pairs()
    found = [it for it in found if it.start >= since]
    for it in found[-selection.limit:] if selection.limit else found:
        row = head(it, pairs) | {
            "interval": it.interval, "start": str(it.start), "end": str(it.end),
            **{name: number(getattr(it, name)) for name in VALUES}, "complete": it.complete, "final": it.final,
            "source": it.source,
        }
        state = "complete" if it.complete else "incomplete"
        state = state if it.final else "provisional" if it.complete else "provisional, incomplete"
        yield row, {"time": f"{clock(it.end)[:19]}Z", "state": state}


def _ending_in(selection: "Selection") -> "Selection":
    """Candles whose ends are behind the one time, and no later than the other."""
    from msgspec import structs

    start, end = selection.start, selection.end
    return structs.replace(
        selection, start=None if start is None else start + 1, end=None if end is None else end + 1,
    )


def _feeding(lake: "Lake", selection: "Selection") -> "Collection[TapeId]":
    """The tapes whose trades make the candles, or made those that are gone by policy."""
    from onetape.model import InstrumentId
    from onetape.storage.restore import fed

    coverage = lake.coverage()
    ids = [InstrumentId(it.venue, it.symbol) for it in lake.instruments()]
    channels = {
        id: fed(lake, coverage, id) for id in ids if selection.venue in (None, id.venue)
        and (selection.instruments is None or id in selection.instruments)
    }
    return {(*id, channel) for id, channel in channels.items() if channel is not None}


# --- built anew -----------------------------------------------------------------------------------------------------


@candles.command()
def rebuild(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None,
    interval: Annotated[
        list[str] | None, typer.Option("--interval", help="Only of this length, stored before or not; may be repeated.")
    ] = None,
    start: Start = None, end: End = None, json: Json = False,
) -> None:
    """Build final candles anew from the stored trades: what differs becomes a revision, what is missing is written.

    Without --interval all lengths that are stored. It writes into the store, so nothing may be collecting into it.

    Examples:

      onetape candles rebuild

      onetape candles rebuild --venue binance --pair BTC-USDT --interval 3m --start 2024-08-08
    """
    from onetape.cli.interrupt import interruptible
    from onetape.cli.progress import progress
    from onetape.service.rebuild import rebuild_store
    from onetape.storage.lake import Lake

    asked = Asked(store, venue, pair, None, start, end, json=json)
    for it in interval or ():
        _check(it)
    with Lake(store) as lake:
        selection, pairs = asked.selection(lake), lake.pairs()
    with progress() as bar, interruptible() as stopped:

        def tell(it: "Progress") -> None:
            bar(f"{it.of.venue} {pairs[it.of.venue, it.of.symbol]} {it.of.interval}", it.done, it.total)

        outcomes = rebuild_store(store, selection, interval or (), stopped=stopped, tell=tell)
        halted = stopped()
    rows: list[dict[str, Any]] = [
        {
            "venue": it.venue, "pair": pairs[it.venue, it.symbol], "symbol": it.symbol, "interval": it.interval,
            "same": str(it.same), "revised": str(it.revised), "new": str(it.new),
        }
        for it in outcomes
    ]
    if json:
        print_json(rows)
    elif rows:
        print_rows([{key: row[key] for key in ("venue", "pair", "interval", "same", "revised", "new")} for row in rows])
    if not json:
        same, revised, new = (sum(getattr(it, name) for it in outcomes) for name in ("same", "revised", "new"))
        print(f"{same:,} the same, {revised:,} revised, {new:,} new")
    if halted:
        raise typer.Abort


def _check(interval: str) -> None:
    """Raises UsageError."""
    from onetape.clock import DAY, interval_ns

    try:
        length = interval_ns(interval)
    except ValueError:
        length = 0
    if not 0 < length <= 366 * DAY:
        wanted = "a number and s, m, h, d or w, such as 90s, 3m, 4h, up to a year"
        raise UsageError(f"--interval must be {wanted}: {interval[:20]!r}")


# --- compared -------------------------------------------------------------------------------------------------------


@candles.command()
def compare(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None,
    interval: Annotated[str, typer.Option(help="One that is stored, and that the venue has.")] = "1m",
    start: Start = None, end: End = None,
    stored: Annotated[
        bool, typer.Option("--stored", help="With the venue's candles that are in the store; nothing is fetched.")
    ] = False,
    config: Config = None,
    json: Annotated[bool, typer.Option("--json", help="An array: of each instrument counts and differences.")] = False,
) -> None:
    """Compare our candles with the exchange's own: open, high, low, close, volume, and trades where the venue has them.

    They are fetched by REST, within the venue's limits. Each difference is listed with what is known about why: ours
    is incomplete, the venue's is still open, or was not to be had. Exit code 0 if all of ours that are complete agree,
    1 if one does not, or none could be compared.

    Examples:

      onetape candles compare --venue binance --pair BTC-USDT --start 2024-08-08

      onetape candles compare --stored --interval 5m --json
    """
    import asyncio

    from onetape.cli.progress import progress
    from onetape.storage.lake import Lake

    _check(interval)
    asked = Asked(store, venue, pair, None, start, end, json=json)
    with Lake(store) as lake, progress() as bar:
        selection, pairs = asked.selection(lake), lake.pairs()

        def tell(it: "Outcome", done: int, total: int) -> None:
            bar(f"{it.venue} {pairs[it.venue, it.symbol]} {it.interval}", done, total)

        if stored:
            from onetape.service.compare import compare_stored

            outcomes = asyncio.run(compare_stored(lake, selection, interval, tell))
        else:
            from onetape.config import load
            from onetape.service.compare import compare_fetched

            outcomes = asyncio.run(compare_fetched(lake, selection, interval, load(config), time.time_ns(), tell))
    if not outcomes:
        raise UsageError(f"there are no candles of {interval} to compare: onetape candles rebuild makes them")
    if json:
        _print_compared(outcomes, pairs)
    else:
        _show_compared(outcomes, pairs)
    if any(it.differ for it in outcomes) or not any(it.agree for it in outcomes):
        raise typer.Exit(1)


def _print_compared(outcomes: "Iterable[Outcome]", pairs: Pairs) -> None:
    print_json([
        {
            "venue": it.venue, "pair": pairs[it.venue, it.symbol], "symbol": it.symbol, "interval": it.interval,
            "agree": str(it.agree), "differ": str(it.differ), "undecided": str(it.undecided),
            "lacking": [{"start": str(one.start), "end": str(one.end), "reason": one.reason} for one in it.lacking],
            "differences": [
                {
                    "end": str(one.end), "verdict": one.verdict, "fields": list(one.fields), "why": one.why,
                    "ours": _values(one.ours), "theirs": _values(one.theirs),
                }
                for one in it.found
            ],
        }
        for it in outcomes
    ])


def _values(it: Any) -> dict[str, str | None] | None:
    return None if it is None else {name: number(getattr(it, name)) for name in (*VALUES[:5], "trades")}


def _show_compared(outcomes: "Collection[Outcome]", pairs: Pairs) -> None:
    rows = [row for it in outcomes for one in it.found for row in _differences(it, one, pairs)]
    if rows:
        print_rows(rows)
    for it in outcomes:
        for one in it.lacking:
            print(
                f"not had of {it.venue} {pairs[it.venue, it.symbol]}, {clock(one.start)} to {clock(one.end)}:"
                f" {one.reason}", file=sys.stderr,
            )
    agree, differ, undecided = (sum(getattr(it, name) for it in outcomes) for name in ("agree", "differ", "undecided"))
    compared = agree + differ
    share = f"{agree / compared:.4%} of {compared:,} agree" if compared else "nothing could be compared"
    print(f"{share}; {differ:,} differ, {undecided:,} undecided")


def _differences(it: "Outcome", one: "Compared", pairs: Pairs) -> Iterable[Row]:
    where = {"time": f"{clock(one.end)[:19]}Z", "venue": it.venue, "pair": pairs[it.venue, it.symbol]}
    ours, theirs = one.ours, one.theirs
    if ours is None or theirs is None:
        why = one.why or ("we have none" if ours is None else "the venue has none")
        left, right = ("-" if side is None else f"{side.volume:f}" for side in (ours, theirs))
        yield where | {"what": "volume", "ours": left, "theirs": right, "delta": "", "why": why}
        return
    for name in one.fields:
        left, right = getattr(ours, name), getattr(theirs, name)
        yield where | {
            "what": name, "ours": number(left) or "", "theirs": number(right) or "",
            "delta": number(left - right) or "", "why": one.why,
        }
