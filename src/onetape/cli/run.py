"""``onetape run``: the main job in the terminal; until the sockets are there, over the built-in session."""
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from onetape.cli.main import app
from onetape.cli.output import WIDE
from onetape.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from onetape.feed.replay import Replay, Step
    from onetape.model import Trade

REFRESH_S = 0.25
LINES_S = 5.0  # between two reports where there is no terminal
COLOURS = {"live": "green", "syncing": "yellow", "stale": "red", "crossed": "magenta", "down": "red"}
SIDES = {"buy": "green", "sell": "red"}


@app.command()
def run(
    *,
    speed: Annotated[float, typer.Option(help="Times real time.")] = 1.0,
    duration: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
) -> None:
    """Show the books and last trades of all seven feeds, verified, as they come.

    This version plays a session of 15 seconds that comes with OneTape: no network is needed.

    Examples:

      onetape run

      onetape run --speed 5 --duration 3
    """
    if not speed > 0:  # so that NaN is refused too
        raise UsageError(f"--speed must be above 0: {speed:g}")
    if duration is not None and not duration > 0:
        raise UsageError(f"--duration must be above 0: {duration:g}")
    from rich.console import Console

    from onetape import demo
    from onetape.feed.recording import open_recording
    from onetape.feed.replay import Replay

    recording = open_recording(demo.SESSION)
    assert recording.header is not None
    player = Replay(recording, None)
    console = Console()
    board = Board(player, {tuple(it.id): it.pair for it in recording.header.instruments}, console.width)
    console.print("Playing the built-in session: seven feeds, invented prices, the venues' own protocols.")
    steps = _paced(player, speed, duration)
    if console.is_terminal:
        from rich.live import Live

        with Live(board.table(), console=console, auto_refresh=False) as live:
            for _ in _every(REFRESH_S, steps, board):
                live.update(board.table(), refresh=True)
            live.update(board.table(), refresh=True)
    else:
        for _ in _every(LINES_S, steps, board):
            print(board.line(), flush=True)
        console.print(board.table())
    console.print(board.verdict())


def _paced(player: "Replay", speed: float, duration: float | None) -> Iterator["Step"]:
    """The steps, each not before its time."""
    began, first = time.monotonic(), None
    for step in player:
        if first is None:
            first = step.input.time
        wait = (step.input.time - first) / 1e9 / speed - (time.monotonic() - began)
        if duration is not None:
            wait = min(wait, began + duration - time.monotonic())
        if wait > 0:
            time.sleep(wait)
        if duration is not None and time.monotonic() - began >= duration:
            return
        yield step


def _every(seconds: float, steps: Iterator["Step"], board: "Board") -> Iterator[None]:
    """Takes all steps in, and says when it is time to show something."""
    shown = time.monotonic()
    for step in steps:
        board.add(step)
        if time.monotonic() - shown >= seconds:
            shown = time.monotonic()
            yield


class Board:
    """What a person sees: a row per book, with its trust, its top, and the last trade."""

    def __init__(self, player: "Replay", pairs: dict[tuple[str, ...], str], width: int) -> None:
        self._player, self._pairs, self._width = player, pairs, width
        self._last: dict[tuple[str, str], Trade] = {}
        self._trades: Counter[tuple[str, str]] = Counter()
        self._frames = 0

    def add(self, step: "Step") -> None:
        from onetape.feed.inputs import Frame
        from onetape.model import Trade

        self._frames += isinstance(step.input, Frame)
        for _, it in step.outcomes:
            if isinstance(it, Trade):
                self._last[it.venue, it.symbol] = it
                self._trades[it.venue, it.symbol] += 1

    def table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        wide = self._width >= WIDE
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("venue", "pair", "book", "verified by") if wide else ("venue", "pair", "book"):
            table.add_column(name, no_wrap=True)
        for name in ("bid", "ask", "last", "trades"):
            table.add_column(name, justify="right", no_wrap=True)
        for session in self._player.sessions.values():
            for sync in session.books.values():
                bids, asks = sync.book.bids(1), sync.book.asks(1)
                trade = self._last.get(sync.id)
                last = Text(f"{trade.price:f}", SIDES[trade.side]) if trade else "-"
                table.add_row(
                    sync.id.venue, self._pairs.get(tuple(sync.id), sync.id.symbol),
                    Text(sync.state, COLOURS[sync.state]), *([sync.verification] if wide else []),
                    f"{bids[0][0]:f}" if bids else "-", f"{asks[0][0]:f}" if asks else "-", last,
                    str(self._trades[sync.id]),
                )
        return table

    def line(self) -> str:
        return f"{self._frames} frames, {self._states()}, {self._trades.total()} trades"

    def verdict(self) -> str:
        quarantined = sum(it.counters["quarantined"] for it in self._player.sessions.values())
        return f"{self.line()}, {quarantined} frames quarantined"

    def _states(self) -> str:
        states = Counter(
            sync.state for session in self._player.sessions.values() for sync in session.books.values()
        )
        return "books " + ", ".join(f"{count} {state}" for state, count in states.items())
