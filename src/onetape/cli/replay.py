"""``onetape replay``: a recording through the same code that runs live."""
import sys
import time as wall
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onetape.cli.interrupt import interruptible
from onetape.cli.main import app
from onetape.cli.output import WIDE, print_json, print_table, terminal_width
from onetape.errors import OneTapeError, UsageError

if TYPE_CHECKING:
    from onetape.cli.summary import Summary
    from onetape.feed.replay import Replay, Step

LONG = 5_000  # frames from which a progress bar is worth its space


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(help="A recording: of OneTape's, or a file with one frame a line.")],
    *,
    venue: Annotated[str | None, typer.Option(help="Whose frames these are; ours say so themselves.")] = None,
    depth: Annotated[
        str, typer.Option(metavar="N|all", help="Best levels a side that are wanted (more are held).")
    ] = "all",
    summary: Annotated[Literal["json"] | None, typer.Option(help="Print one JSON object.")] = None,
    hash: Annotated[bool, typer.Option("--hash", help="Print the SHA-256 of all events.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the events with those that came when it was recorded.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="The same as --summary json.")] = False,
    store: Annotated[
        Path | None, typer.Option("--store", metavar="DIR", help="Keep what it brings there, what is new of it.")
    ] = None,
) -> None:
    """Play a recording and show where it ended: books, trades, gaps.

    Examples:

      onetape replay spot.jsonl --venue binance

      onetape replay spot.jsonl --venue binance --summary json --hash

      onetape replay session.jsonl.zst --venue kraken

      onetape replay recorded --verify

      onetape replay spot.jsonl --venue binance --store data
    """
    from onetape.cli.summary import Summary
    from onetape.feed.recording import open_recording
    from onetape.feed.replay import Replay
    from onetape.model import Event, encode

    recording = open_recording(path)
    player = Replay(recording, venue, _depth(depth))
    count, digest, kept = Summary(), sha256(), Counter[str]()
    with interruptible() as asked, _keeping(store, player, kept) as keep:
        for step in _with_progress(player, recording.frames):
            if asked():
                break
            count.add(step)
            keep(step)
            if hash or verify:
                for _, outcome in step.outcomes:
                    if isinstance(outcome, Event):
                        digest.update(encode(outcome) + b"\n")
    if asked():
        raise KeyboardInterrupt
    _check_understood(player, count, path)
    if recording.cut_off:
        print(f"onetape: {path} was cut off: this is all that it holds", file=sys.stderr)
    result = count.to_dict(player.sessions) | ({"hash": digest.hexdigest()} if hash or verify else {})
    if verify:
        _verify(recording.hash, digest.hexdigest(), path, whole=venue is None)
        result["verified"] = True
    if store is not None:
        result["stored"] = dict(kept)
    if summary or json:
        print_json(result)
    elif hash:
        print(result["hash"])
    elif verify:
        events = sum(result["events"].values())
        print(f"the same {events} events, SHA-256 {result['hash']}, of {result['frames']} frames")
    else:
        _show(result)
        for reason, times in count.reasons.most_common(5):
            print(f"quarantined {times} x: {reason}")


@contextmanager
def _keeping(store: Path | None, player: "Replay", kept: Counter[str]) -> Iterator[Callable[["Step"], None]]:
    """What takes each step; at the end, or when interrupted, all of it is kept, and ``kept`` says how many rows."""
    if store is None:
        yield lambda _: None
        return
    from onetape.model import Event
    from onetape.service.keeper import Keeper
    from onetape.storage.schema import TABLES

    time = 0

    def keep(step: "Step") -> None:
        nonlocal time
        time = step.input.time
        for _, outcome in step.outcomes:
            if isinstance(outcome, Event):
                keeper.handle(outcome)

    with Keeper(
        store, pair_of=player.pair, book_of=player.book, tape_of=player.tape, repeats=True,
        today=wall.time_ns(),
    ) as keeper:
        try:
            yield keep
        except OneTapeError:  # it may be the recording that ends here
            keeper.finish(time)
            raise
        keeper.finish(time)
        kept.update({table: rows for table, rows in keeper.journal.counters.items() if table in TABLES})


def _verify(recorded: str, played: str, path: Path, *, whole: bool) -> None:
    if not whole:
        raise UsageError("--verify plays the whole recording: leave out --venue")
    if not recorded:
        raise UsageError(f"{path} does not say which events came of it: it was cut off, or is not a recording of a run")
    if recorded != played:
        raise OneTapeError(f"{path} brought other events: {played}, recorded was {recorded}")


def _depth(text: str) -> int:
    if text == "all":
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) == 0:
        raise UsageError(f"--depth must be a number of levels above 0, or all: {text[:40]!r}")
    return int(text)


def _with_progress(player: "Replay", frames: int) -> Iterator["Step"]:
    from rich.console import Console

    console = Console(stderr=True)
    steps: Iterable[Step] = player
    if frames >= LONG and console.is_terminal:
        from rich.progress import track

        steps = track(player, "replaying", frames, console=console, transient=True)
    yield from steps


def _check_understood(player: "Replay", count: "Summary", path: Path) -> None:
    """A recording of which nothing was understood is most likely another venue's."""
    sessions = player.sessions.values()
    foreign = sum(it.counters["unknown"] for it in sessions) + count.foreign
    if count.frames and foreign >= count.frames and not any(it.delivered for it in sessions):
        names = ", ".join(sorted({it.venue.spec.name for it in sessions}))
        raise UsageError(f"none of the {count.frames} frames in {path} is of {names}: is --venue right?")


def _show(result: dict[str, Any]) -> None:
    wide = terminal_width() >= WIDE
    print_table([
        {
            "book": symbol, "state": it["state"], **({"verified by": it["verification"]} if wide else {}),
            "bid": it["bids"][0][0] if it["bids"] else "-", "ask": it["asks"][0][0] if it["asks"] else "-",
            "levels": "/".join(map(str, it["levels"])), "trades": result["trades"].get(symbol, 0),
        }
        for symbol, it in result["books"].items()
    ])
    for gap in result["gaps"]:
        print(f"gap in {gap['symbol']} {gap['channel']} at line {gap['at_frame']}: {gap['reason']}")
    counted = ", ".join(f"{count} {kind}" for kind, count in result["events"].items())
    print(
        f"{result['frames']} frames: {counted or 'no events'}; "
        f"{result['quarantined']} quarantined, {result['unknown']} unknown"
    )
    if "stored" in result:
        rows = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in result["stored"].items())
        print(f"new in the store: {rows or 'nothing'}")
