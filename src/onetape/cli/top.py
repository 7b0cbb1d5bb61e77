"""The terminal view of ``onetape top``: looks at a status file once a second."""
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import DataTable, Footer, Static

from onetape.cli.board import COLOURS, SIDES, Rates, latency, milliseconds, percent, summary
from onetape.cli.output import WIDE
from onetape.cli.status import headline, latest, reconnects, state_of
from onetape.errors import UsageError
from onetape.service.status import Status, match_of

EVERY = 1.0
TOKENS = {
    "green": "text-success", "yellow": "text-warning", "red": "text-error", "magenta": "text-accent",
    "dim": "text-muted",
}
"""What a colour is called in a theme, so that it can be read on dark and on light."""


class Top(App[None]):
    """Over the stores where a run may be; whichever was alive last is shown."""

    TITLE = "onetape top"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"), Binding("d", "toggle_dark", "Dark or light"),
    ]
    CSS = """
    #head { height: auto; max-height: 3; padding: 0 1; text-style: bold; background: $panel; }
    #head.running { color: $text-success; }
    #head.stopped { color: $text-warning; }
    #head.lost { color: $text-error; }
    #venues { height: auto; max-height: 45%; margin-bottom: 1; }
    #books { height: 1fr; }
    #totals { height: auto; max-height: 2; padding: 0 1; color: $text-muted; }
    DataTable { background: $background; }
    DataTable > .datatable--header { background: $background; text-style: bold; }
    """

    def __init__(self, folders: list[Path]) -> None:
        super().__init__()
        self._folders = folders
        self._rates = Rates()
        self._shown: Status | None = None

    def compose(self) -> ComposeResult:
        yield Static("", id="head", markup=False)
        for name in ("venues", "books"):
            yield DataTable[Text](id=name, cursor_type="none", zebra_stripes=True)
        yield Static("", id="totals", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        self.query_one("#books").focus()
        self.look()
        self.set_interval(EVERY, self.look)

    def on_resize(self, _: Resize) -> None:
        self._draw()

    def action_toggle_dark(self) -> None:
        self.theme = "textual-light" if self.current_theme.dark else "textual-dark"
        self.call_after_refresh(self._draw)  # the colours of the new theme are known only then

    def look(self) -> None:
        """At the status, as it is now."""
        now = time.time_ns()
        try:
            folder, status = latest(self._folders)
        except UsageError as error:
            self._shown = None
            self._say(str(error), "stopped")
        else:
            if self._shown is None or self._shown.pid != status.pid:
                self._rates = Rates()
            if self._shown is None or self._shown.at != status.at:
                self._rates.add(status)
            state = state_of(status, now)
            if state != "running":
                self._rates.per_second = {}
            self._shown = status
            more = "" if state == "running" else ". What is shown is how it was then."
            self._say(headline(status, folder, now) + more, state if state in ("running", "stopped") else "lost")
        self._draw()

    def _say(self, text: str, kind: str) -> None:
        head = self.query_one("#head", Static)
        head.update(text)
        head.set_classes(kind)

    def _draw(self) -> None:
        wide, status = self.size.width >= WIDE, self._shown
        self.query_one("#totals", Static).update("" if status is None else summary(status))
        _fill(self.query_one("#venues", DataTable), list(self._venues(status, wide=wide)))
        _fill(self.query_one("#books", DataTable), list(self._books(status, wide=wide)))

    def _venues(self, status: Status | None, *, wide: bool) -> Iterator[Mapping[str, Text]]:
        for it in status.venues if status is not None else ():
            p50, p99 = latency(it)
            yield {
                "venue": Text(it.name), "state": self._coloured(it.state, COLOURS[it.state]),
                "frames/s": _right(f"{self._rates.per_second.get(it.name, 0):,.0f}"),
                "p50 ms": _right(milliseconds(p50)), "p99 ms": _right(milliseconds(p99)),
                **({"clock ms": _right(milliseconds(it.offset_ms))} if wide else {}),
                **({"audit": _right(percent(match_of(it)))} if wide else {}),
                "reconnects" if wide else "again": _right(str(reconnects(it))),
                "reason": Text(it.reason if it.state != "active" else ""),
            }

    def _books(self, status: Status | None, *, wide: bool) -> Iterator[Mapping[str, Text]]:
        for venue in status.venues if status is not None else ():
            for it in venue.books:
                yield {
                    "venue": Text(venue.name), "pair": Text(it.pair),
                    "book": self._coloured(it.state, COLOURS[it.state]),
                    "bid": _right(it.bid or "-"), "ask": _right(it.ask or "-"),
                    "last": self._coloured(it.last or "-", SIDES.get(it.side, ""), right=True),
                    **({"verified by": Text(it.verification), "reason": Text(it.reason)} if wide else {}),
                }

    def _coloured(self, text: str, colour: str, *, right: bool = False) -> Text:
        token = self.theme_variables.get(TOKENS.get(colour, ""), "")
        return Text(text, token if token.startswith("#") else colour, justify="right" if right else "left")


def _right(text: str) -> Text:
    return Text(text, justify="right")


def _fill(table: "DataTable[Text]", rows: Sequence[Mapping[str, Text]]) -> None:
    """Where rows and columns are those of before, only what is in them changes: nobody loses his place."""
    columns = list(rows[0]) if rows else []
    if [key.value for key in table.columns] != columns or table.row_count != len(rows):
        place = table.scroll_y
        table.clear(columns=True)
        for name in columns:
            numeric = bool(rows) and rows[0][name].justify == "right"
            table.add_column(_right(name) if numeric else Text(name), key=name)
        for number, row in enumerate(rows):
            table.add_row(*row.values(), key=str(number))
        table.scroll_to(y=place, animate=False)
        return
    for number, row in enumerate(rows):
        for name, cell in row.items():
            old = table.get_cell(str(number), name)
            if (old, old.style) != (cell, cell.style):  # texts are equal whatever their colour
                table.update_cell(str(number), name, cell, update_width=True)
