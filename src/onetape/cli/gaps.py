"""``onetape gaps``: what is, or was, missing on the tape, as a table and as a timeline."""
from collections import Counter
from collections.abc import Collection, Iterable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from onetape.cli.answers import Asked, Pairs, Row, answer, clock, duration, gap_row
from onetape.cli.main import app
from onetape.cli.options import DEFAULT, AsOf, End, Json, Limit, Pair, Start, Store, Venue
from onetape.cli.output import WIDE, print_json, terminal_width
from onetape.errors import UsageError

if TYPE_CHECKING:
    from onetape.cli.timeline import Line
    from onetape.storage.completeness import Completeness
    from onetape.storage.lake import Lake, Selection, StoredGap



class State(StrEnum):  # of a Literal no list can be asked for
    OPEN = "open"
    FILLING = "filling"
    HEALED = "healed"
    UNHEALABLE = "unhealable"


States = Annotated[list[State] | None, typer.Option("--state", help="Only in this state; may be repeated.")]
Timeline = Annotated[
    bool, typer.Option("--timeline", help="A line for each instrument over the time: what is covered, and what is not.")
]


@app.command()
def gaps(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, limit: Limit = None, start: Start = None,
    end: End = None, state: States = None, timeline: Timeline = False, as_of: AsOf = None, json: Json = False,
) -> None:
    """List what is, or was, missing on the tape: each gap once, as it is now, by where it begins.

    open: told, and to be asked for. filling: the venue was asked. healed: nothing is missing any more. unhealable: the
    venue does not give it; the cause says why. --timeline goes from the first to the last stored trade, or from --start
    to --end, and says of each instrument for which share of the time it is complete.

    Examples:

      onetape gaps

      onetape gaps --state open --state unhealable

      onetape gaps --timeline --start 2024-08-08 --end 2024-08-09

      onetape gaps --venue binance --pair BTC-USDT --json
    """
    asked = Asked(store, venue, pair, limit, start, end, as_of, json=json)
    wanted = frozenset(map(str, state or ()))
    if timeline:
        if limit is not None:
            raise UsageError("--limit is not for --timeline: --start and --end bound it")
        _timeline(asked, wanted)
        return
    columns = (
        "from", "to", "lasts", "venue", "pair", "channel", "after", "before", "state", "detected", "cause", "attempts",
        "recovered",
    )
    answer(asked, columns, partial(_gaps, states=wanted, as_of=asked.known_by))


def _gaps(
    lake: "Lake", selection: "Selection", states: Collection[str], as_of: int | None,
) -> Iterable[tuple[Row, Row]]:
    pairs = lake.pairs()
    found = lake.gaps(structs.replace(selection, limit=None), as_of=as_of)
    found = [it for it in found if not states or it.state in states]
    room = 60 if terminal_width() >= WIDE else 24  # of a reason, for people; programs have all of it
    for it in found[-selection.limit:] if selection.limit else found:
        yield gap_row(it, pairs), {
            "from": clock(it.from_time), "to": clock(it.to_time), "lasts": duration(it.to_time - it.from_time),
            "detected": _cut(it.detected, room), "cause": _cut(it.cause, room),
        }


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[:room - 3]}..."


# --- over the time --------------------------------------------------------------------------------------------------


def _timeline(asked: Asked, states: Collection[str]) -> None:
    from rich.console import Console

    from onetape.cli.timeline import draw
    from onetape.storage.completeness import completeness
    from onetape.storage.lake import Lake

    with Lake(asked.store) as lake:
        selection = structs.replace(asked.selection(lake), limit=None)
        found = completeness(lake, selection, as_of=asked.known_by)
        healed = [it for it in lake.gaps(selection, as_of=asked.known_by) if it.state == "healed"]
        pairs = lake.pairs()
    start, end = _time(selection, found)
    rows = [
        (tape, line) for tape, line in _lines(found, [*found.gaps, *healed], pairs).items()
        if not states or any(state in states for state, _, _ in line.gaps)
    ]
    if states:
        rows = [(tape, _only(line, states)) for tape, line in rows]
    if asked.json:
        print_json([_row(tape, line, pairs, start, end) for tape, line in rows])
        return
    console = Console(highlight=False)
    if not rows or end <= start:
        console.print("nothing")
        return
    for text in draw([line for _, line in rows], start, end, console.width):
        console.print(text, no_wrap=True, overflow="crop", crop=True)


def _time(selection: "Selection", found: "Completeness") -> tuple[int, int]:
    """From the first to the last stored trade of what is selected, or as it was asked for."""
    start = min((it.from_time for it in found.known), default=0) if selection.start is None else selection.start
    end = max((it.to_time for it in found.known), default=start) if selection.end is None else selection.end
    return start, end


def _lines(
    found: "Completeness", gaps: "Iterable[StoredGap]", pairs: Pairs,
) -> "dict[tuple[str, str, str], Line]":
    """By venue, symbol and channel."""
    from onetape.cli.timeline import Line

    of_tape: dict[tuple[str, str, str], list[tuple[str, int, int]]] = {}
    for gap in gaps:
        tape = gap.venue, gap.symbol, str(gap.channel)
        of_tape.setdefault(tape, []).append((gap.state, gap.from_time, gap.to_time))
    known: dict[tuple[str, str, str], list[tuple[int, int]]] = {}
    for it in found.known:
        known.setdefault((it.venue, it.symbol, str(it.channel)), []).append((it.from_time, it.to_time))
    channels = Counter((venue, symbol) for venue, symbol, _ in known)
    return {
        tape: Line(
            f"{tape[0]} {pairs[tape[0], tape[1]]}" + (f" {tape[2]}" if channels[tape[:2]] > 1 else ""),
            known.get(tape, ()), of_tape.get(tape, ()),
        )
        for tape in sorted({*known, *of_tape})
    }


def _only(line: "Line", states: Collection[str]) -> "Line":
    return structs.replace(line, gaps=[it for it in line.gaps if it[0] in states])


def _row(tape: tuple[str, str, str], line: "Line", pairs: Pairs, start: int, end: int) -> Row:
    venue, symbol, channel = tape
    return {
        "venue": venue, "pair": pairs[venue, symbol], "symbol": symbol, "channel": channel, "start": str(start),
        "end": str(end), "share": f"{line.share(start, end):.6f}" if end > start else "0",
        "gaps": {state: str(count) for state, count in line.counts().items()},
        "known": [{"from_time": str(first), "to_time": str(last)} for first, last in line.known],
    }
