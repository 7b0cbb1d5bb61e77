"""``onetape run``: the main job in the terminal; without sockets yet, over the built-in session."""
import time
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onetape.cli.interrupt import interruptible
from onetape.cli.main import app
from onetape.cli.output import WIDE
from onetape.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from onetape.feed.replay import Replay, Step
    from onetape.model import Candle, InstrumentId, Trade
    from onetape.service import Keeper

STORE = Path("data/demo")
REFRESH_S = 0.25
LINES_S = 5.0  # between two reports where there is no terminal
COLOURS = {"live": "green", "syncing": "yellow", "stale": "red", "crossed": "magenta", "down": "red"}
SIDES = {"buy": "green", "sell": "red"}


@app.command()
def run(
    *,
    speed: Annotated[float, typer.Option(help="Times real time.")] = 1.0,
    duration: Annotated[float | None, typer.Option(help="Stop after so many seconds.")] = None,
    store: Annotated[Path, typer.Option("--store", metavar="DIR", help="Where it is kept.")] = STORE,
) -> None:
    """Show the books, trades and candles of all seven feeds, verified, as they come; and keep them.

    This version plays a session of 15 seconds that comes with OneTape: no network is needed. Its prices are invented,
    so it has a store of its own.

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
    from onetape.service import Keeper

    recording = open_recording(demo.SESSION)
    assert recording.header is not None
    player = Replay(recording, None)
    console = Console()
    with Keeper(store, pair_of=player.pair, book_of=player.book, tape_of=player.tape, repeats=True) as keeper:
        board = Board(player, keeper, console.width)
        console.print("Playing the built-in session: seven feeds, real protocols, invented prices.")
        with interruptible() as asked:
            _play(board, takewhile(lambda _: not asked(), _paced(player, speed, duration)), console)
            keeper.finish(board.time)
    console.print(board.candles())
    console.print(board.verdict())
    console.print(board.kept(store), soft_wrap=True)
    if asked():
        raise KeyboardInterrupt


def _play(board: "Board", steps: Iterator["Step"], console: "Console") -> None:
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
    """What a person sees: a row per book, with its trust, its top, the last trade, and the candle that runs."""

    def __init__(self, player: "Replay", keeper: "Keeper", width: int) -> None:
        self._player, self._keeper, self._width = player, keeper, width
        self._last: dict[tuple[str, str], Trade] = {}
        self._trades: Counter[tuple[str, str]] = Counter()
        self._frames = self.time = 0

    def add(self, step: "Step") -> None:
        from onetape.feed.inputs import Frame
        from onetape.model import Event, Trade

        self._frames += isinstance(step.input, Frame)
        self.time = step.input.time
        for _, it in step.outcomes:
            if isinstance(it, Event):
                self._keeper.handle(it)
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
                    sync.id.venue, self._player.pair(sync.id) or sync.id.symbol,
                    Text(sync.state, COLOURS[sync.state]), *([sync.verification] if wide else []),
                    f"{bids[0][0]:f}" if bids else "-", f"{asks[0][0]:f}" if asks else "-", last,
                    str(self._trades[sync.id]),
                )
        return table

    def candles(self) -> "Table":
        """The last minute of each instrument."""
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("venue", "pair"):
            table.add_column(name, no_wrap=True)
        for name in ("1m open", "high", "low", "close", "volume"):
            table.add_column(name, justify="right", no_wrap=True)
        for session in self._player.sessions.values():
            for id in (sync.id for sync in session.books.values()):
                if (it := self._candle(id)) is not None:
                    prices = (f"{price:f}" for price in (it.open, it.high, it.low, it.close))
                    table.add_row(id.venue, self._player.pair(id) or id.symbol, *prices, f"{it.volume:.2f}")
        return table

    def _candle(self, id: "InstrumentId") -> "Candle | None":
        builder = self._keeper.pipeline.candles(id)
        return builder.current("1m") if builder else None

    def kept(self, store: Path) -> str:
        new = self._keeper.journal.counters
        rows = f"{new['trades']} trades and {new['candles']} candles are new" if new["trades"] else "nothing is new"
        return f"Kept in {store}: {rows} in it.\nLook at it: onetape trades --store {store}"

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
