"""What a person sees of a run: a table in a terminal, plain lines elsewhere; made of its status alone."""
from collections import Counter

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from onetape.clock import SECOND
from onetape.cli.output import WIDE
from onetape.service.status import BookStatus, Status, VenueStatus, match_of
from onetape.storage.schema import TABLES

MIN_BOOKS = 3  # rows, however low the terminal is

COLOURS = {
    "active": "green", "live": "green", "syncing": "yellow", "subscribing": "yellow", "connected": "yellow",
    "connecting": "yellow", "stale": "red", "crossed": "magenta", "down": "red", "reconnecting": "red", "error": "red",
    "stopped": "dim",
}
SIDES = {"buy": "green", "sell": "red"}


SOON_NS = 10 * SECOND  # a wait that is longer is told
LATE_NS = 5 * SECOND  # likewise, of rows on their way to PostgreSQL


class Rates:
    """Frames per second of each venue, from one status to the next."""

    def __init__(self) -> None:
        self._frames: dict[str, int] = {}
        self._at = 0
        self.per_second: dict[str, float] = {}

    def add(self, status: Status) -> None:
        frames = {it.name: sum(line.frames for line in it.lines) for it in status.venues}
        passed = (status.at - self._at) / SECOND
        if self._at and passed > 0:
            self.per_second = {
                name: max(count - self._frames.get(name, 0), 0) / passed for name, count in frames.items()
            }
        self._frames, self._at = frames, status.at


def board(status: Status, rates: Rates, width: int, height: int) -> Group:
    """What does not fit into the height is counted: of the books, those that are not live go first."""
    why = [Text(it, "yellow") for it in reasons(status)]
    parts: list[RenderableType] = [_venues(status, rates, width), *why, Text("")]
    books = [(venue.name, it) for venue in status.venues for it in venue.books]
    if books:
        last = -(-len(summary(status)) // max(width, 1))
        above = len(status.venues) + 3 + sum(-(-len(it) // max(width, 1)) for it in why)
        room = max(height - above - last - 2, MIN_BOOKS)
        shown = books if len(books) <= room else sorted(books, key=lambda it: it[1].state == "live")[:room - 1]
        parts += [_books(shown, width), *_further(books, shown), Text("")]
    return Group(*parts, Text(summary(status), "dim"))


def _further(books: list[tuple[str, BookStatus]], shown: list[tuple[str, BookStatus]]) -> list[Text]:
    """The books for which there is no room."""
    if len(shown) == len(books):
        return []
    states = Counter(str(it.state) for _, it in books) - Counter(str(it.state) for _, it in shown)
    return [Text(f"and {_counted(states)}: onetape top shows them all", "dim")]


def summary(status: Status) -> str:
    """One line."""
    states = Counter(str(it.state) for it in status.venues)
    books = Counter(str(book.state) for it in status.venues for book in it.books)
    trades = sum(flow.events for it in status.venues for flow in it.channels if flow.channel.endswith("trades"))
    lost = sum(it.gaps_unhealable for it in status.venues)
    gaps = f"{sum(it.gaps_open for it in status.venues)} open gaps" + (f", {lost} unhealable" if lost else "")
    rows = sum(count for table, count in status.stored.items() if table in TABLES)
    stored = f", {rows:,} rows kept in {status.store}" if status.store else ""
    return (
        f"{(status.at - status.started_at) / SECOND:.0f} s: venues {_counted(states)}; books {_counted(books)}; "
        f"{trades:,} trades, {gaps}{stored}"
    )


def reasons(status: Status) -> list[str]:
    """Why a venue is not active, a line each, and what may help; and what is wrong with the store."""
    lines = [
        f"{it.name} is {it.state}: {it.reason}{_again(it, status.at)}"
        for it in status.venues if it.reason and it.state != "active"
    ]
    if status.source == "live" and len(lines) == len(status.venues) and all("DNS" in line for line in lines):
        lines.append("is there a network? onetape run --sim needs none")
    return [*lines, *_of_store(status)]


def _of_store(status: Status) -> list[str]:
    lines = []
    if status.behind:
        lines.append(f"the store takes nothing: {status.behind}; {status.waiting:,} rows are held in memory")
    if status.dropped:
        rows = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in sorted(status.dropped.items()))
        lines.append(f"memory could not hold {rows}: these are lost")
    following = status.postgres
    if following is not None and following.state == "away":
        lines.append(f"PostgreSQL takes nothing: {following.reason}; {following.waiting:,} rows wait in the journal")
    elif following is not None and following.lag_ns > LATE_NS:
        late = f"{following.waiting:,} rows, {following.lag_ns / SECOND:,.0f} s"
        lines.append(f"PostgreSQL is behind by {late}: the journal has them")
    if following is not None and following.refused:
        lines.append(f"PostgreSQL refused {following.refused:,} rows: the table onetape.refused has them")
    return [*lines, *status.damaged]


def _again(it: VenueStatus, now: int) -> str:
    """When that is worth saying."""
    due = min((line.next_attempt for line in it.lines if line.next_attempt is not None), default=None)
    return f"; next attempt in {(due - now) / SECOND:.0f} s" if due is not None and due - now >= SOON_NS else ""


def _counted(states: Counter[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "none"


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in columns:
        table.add_column(name, no_wrap=True, justify="right" if name in right else "left")
    return table


def _venues(status: Status, rates: Rates, width: int) -> Table:
    wide = width >= WIDE
    columns = ("venue", "state", "frames/s", "p50 ms", "p99 ms", *(("clock ms", "reconnects", "audit") if wide else ()))
    table = _table(*columns, right=columns[2:])
    for it in status.venues:
        p50, p99 = latency(it)
        again = str(max(it.counters.get("attempts", 0) - len(it.lines), 0))
        more = (milliseconds(it.offset_ms), again, percent(match_of(it))) if wide else ()
        table.add_row(
            it.name, Text(it.state, COLOURS[it.state]), f"{rates.per_second.get(it.name, 0):,.0f}",
            milliseconds(p50), milliseconds(p99), *more,
        )
    return table


def percent(share: float | None) -> str:
    """Cut, never rounded up: 100 % is all."""
    return "-" if share is None else f"{int(share * 1000) / 10:g} %"


def latency(it: VenueStatus) -> tuple[float | None, float | None]:
    """Of its busiest channel."""
    flow = max((flow for flow in it.channels if flow.p50_ms is not None), key=lambda flow: flow.events, default=None)
    return (None, None) if flow is None else (flow.p50_ms, flow.p99_ms)


def _books(books: list[tuple[str, BookStatus]], width: int) -> Table:
    wide = width >= WIDE
    columns = ("venue", "pair", "book", *(("verified by",) if wide else ()), "bid", "ask", "last")
    table = _table(*columns, right=("bid", "ask", "last"))
    for venue, it in books:
        table.add_row(
            venue, it.pair, Text(it.state, COLOURS[it.state]), *((it.verification,) if wide else ()),
            it.bid or "-", it.ask or "-", Text(it.last or "-", SIDES.get(it.side, "")),
        )
    return table


def milliseconds(ms: float | None) -> str:
    return "-" if ms is None else f"{ms:.1f}" if abs(ms) < 100 else f"{ms:,.0f}"
