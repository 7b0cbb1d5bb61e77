"""Prints what a store answers: as a table or as JSON, and what stands behind it."""
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from onetape.cli.options import ROWS
from onetape.cli.output import print_json, print_table, terminal_width
from onetape.clock import SECOND, isoformat
from onetape.errors import UsageError

if TYPE_CHECKING:
    from onetape.model import BookSnapshot, Candle, Trade
    from onetape.storage.catalog import TapeId
    from onetape.storage.completeness import Completeness
    from onetape.storage.lake import Lake, Selection, StoredGap

Row = dict[str, Any]
Pairs = Mapping[tuple[str, str], str]
Read = Callable[["Lake", "Selection"], Iterable[tuple[Row, Row]]]
"""Of each row all of it for programs, and what a person is shown."""

_RIGHT = frozenset({
    "price", "size", "open", "high", "low", "close", "volume", "trades", "bid", "bid size", "ask", "ask size", "levels",
    "recovered", "attempts", "lasts", "same", "revised", "new", "ours", "theirs", "delta",
})
_SPARE = (
    "flags", "verification", "levels", "detected", "to", "after", "before", "trades", "id", "attempts", "recovered",
    "volume", "bid size", "ask size", "high", "low", "cause",
)
"""Left out of a narrow terminal, the first ones first; before them what is the same in all rows."""


class Asked(Struct, frozen=True):
    """What a person or a program wants of a store, as they wrote it."""

    store: Path
    venue: str | None = None
    pair: str | None = None
    limit: int | None = None
    start: str | None = None
    end: str | None = None
    as_of: str | None = None
    json: bool = False
    proof: bool = False

    @property
    def known_by(self) -> int | None:
        """ns. Raises UsageError."""
        from onetape.cli.select import moment

        return None if self.as_of is None else moment(self.as_of, "--as-of")

    def selection(self, lake: "Lake") -> "Selection":
        """Without a limit for JSON, with one for people. Raises UsageError."""
        from onetape.cli.select import find, moment
        from onetape.storage.lake import Selection

        start = None if self.start is None else moment(self.start, "--start")
        end = None if self.end is None else moment(self.end, "--end")
        if start is not None and end is not None and end <= start:
            raise UsageError(f"--end {self.end} is not behind --start {self.start}")
        return Selection(
            venue=self.venue, instruments=find(lake, self.venue, self.pair), start=start, end=end,
            limit=self.limit if self.json or self.limit else ROWS + 1,  # one more tells that there are more
        )


def answer(
    asked: Asked, columns: Sequence[str], read: Read, *, time: str = "",
    tapes: "Callable[[Lake, Selection], Collection[TapeId] | None] | None" = None, table: str = "trades",
) -> None:
    """Prints what ``read`` finds, and where a ``time`` orders the rows, whether it is complete (of ``tapes``).

    ``table``: that they are of.
    """
    from onetape.storage.completeness import completeness
    from onetape.storage.lake import Lake

    if asked.proof and not asked.json:
        raise UsageError("--proof is for --json")
    with Lake(asked.store) as lake:
        selection = asked.selection(lake)
        rows = list(read(lake, selection))
        shown = rows if asked.json or asked.limit else rows[-ROWS:]
        found = None
        if time and tapes is not None:
            within = _within(selection, shown, time, cut=len(shown) < len(rows) or len(rows) == asked.limit)
            found = completeness(lake, within, as_of=asked.known_by, tapes=tapes(lake, within), table=table)
        pairs = lake.pairs()
    if asked.json:
        _print_json(
            [row for row, _ in shown], found, pairs, proof=asked.proof, as_of=asked.known_by is not None)
        return
    print_rows([{key: both[1].get(key, both[0].get(key, "")) for key in columns} for both in shown])
    if len(shown) < len(rows):
        print(f"the newest {ROWS}; --limit N shows more, --json all")
    if found is not None:
        print(fill(sentence(found, pairs, as_of=asked.known_by is not None), terminal_width()))


def _within(selection: "Selection", shown: Sequence[tuple[Row, Row]], time: str, *, cut: bool) -> "Selection":
    """The time that an answer is of: where only the newest are given, it begins with the first of them."""
    from msgspec import structs

    start = int(shown[0][0][time]) if cut and shown else selection.start
    return structs.replace(selection, start=start, limit=None)


def print_rows(rows: Sequence[Row]) -> None:
    alike = [key for key in ("venue", "pair", "channel") if len({row.get(key) for row in rows}) == 1]
    print_table(rows, right=_RIGHT, spare=(*alike, *_SPARE))


# --- whether it is complete -----------------------------------------------------------------------------------------


def _print_json(rows: Sequence[Row], found: "Completeness | None", pairs: Pairs, *, proof: bool, as_of: bool) -> None:
    """An array stays one, whatever is missing in it: that is said beside it."""
    if found is None or not proof:
        print_json(rows)
        if found is not None and not found.complete:
            print(f"onetape: {sentence(found, pairs, as_of=as_of)}", file=sys.stderr)
        return
    print_json({
        "complete": found.complete, "known": [_span_row(it, pairs) | {"proven": it.proven} for it in found.known],
        "unknown": [_span_row(it, pairs) | {"side": it.side} for it in found.unknown],
        "pruned": [_span_row(it, pairs) for it in found.pruned],
        "gaps": [gap_row(it, pairs) for it in found.gaps], "rows": rows,
    })


def _span_row(it: Any, pairs: Pairs) -> Row:
    return {
        "venue": it.venue, "pair": pairs[it.venue, it.symbol], "symbol": it.symbol, "channel": it.channel,
        "from_time": str(it.from_time), "to_time": str(it.to_time),
    }


def gap_row(it: "StoredGap", pairs: Pairs) -> Row:
    return {
        "venue": it.venue, "pair": pairs[it.venue, it.symbol], "symbol": it.symbol, "channel": it.channel,
        "after": it.after, "before": it.before, "from_time": str(it.from_time), "to_time": str(it.to_time),
        "state": it.state, "detected": it.detected, "cause": it.cause, "attempts": str(it.attempts),
        "recovered": str(it.recovered), "opened_at": str(it.opened_at), "available_at": str(it.available_at),
    }


def sentence(it: "Completeness", pairs: Pairs, *, as_of: bool = False) -> str:
    """In one line what a person has to know. ``as_of``: of a time that is past, of which only the gaps are known."""
    if it.complete and as_of:
        return "complete (no gap was known then)"
    if it.complete:
        doubtful = sorted({known.venue for known in it.known if not known.proven})
        ids = f" (no gap is known; the ids of {', '.join(doubtful)} prove nothing)" if doubtful else ""
        return f"complete{ids}"
    parts = []
    if it.gaps:
        states: dict[str, int] = {}
        for gap in it.gaps:
            states[gap.state] = states.get(gap.state, 0) + 1
        how = ", ".join(f"{count} {state}" for state, count in states.items())
        parts.append(f"{len(it.gaps)} gap{'s' * (len(it.gaps) > 1)} ({how}), {duration(_lasting(it.gaps))} in all")
    for side, words in (("before", "nothing is known before"), ("behind", "nothing is known after")):
        of = [one for one in it.unknown if one.side == side]
        for one in of[:2]:
            time = one.to_time if side == "before" else one.from_time
            parts.append(f"{words} {clock(time)} of {one.venue} {pairs[one.venue, one.symbol]}")
        if len(of) > 2:
            parts.append(f"and so of {len(of) - 2} more")
    for gone in it.pruned[:2]:
        name = f"{gone.venue} {pairs[gone.venue, gone.symbol]}"
        parts.append(f"{name} was pruned from {clock(gone.from_time)} to {clock(gone.to_time)}")
    if len(it.pruned) > 2:
        parts.append(f"and so were {len(it.pruned) - 2} more")
    return f"not complete: {'; '.join(parts) or 'nothing of it was collected'}"


def _lasting(gaps: "Iterable[StoredGap]") -> int:
    """ns; of those of one tape that lie over one another but once."""
    total, until = 0, dict[tuple[str, str, str], int]()
    for it in sorted(gaps, key=lambda it: it.from_time):
        tape = it.venue, it.symbol, str(it.channel)
        start = max(it.from_time, until.get(tape, it.from_time))
        total += max(it.to_time - start, 0)
        until[tape] = max(it.to_time, until.get(tape, it.to_time))
    return total


# --- small things ---------------------------------------------------------------------------------------------------


def head(it: "Trade | Candle | BookSnapshot", pairs: Pairs) -> Row:
    return {
        "venue": it.venue, "pair": pairs[it.venue, it.symbol], "symbol": it.symbol,
        "exchange_time": str(it.exchange_time), "received_time": str(it.received_time),
        "available_at": str(it.available_at),
    }


def number(value: Decimal | int | None) -> str | None:
    return None if value is None else format(value, "f") if isinstance(value, Decimal) else str(value)


def clock(time: int) -> str:
    """To the millisecond, for people."""
    return f"{isoformat(time)[:23]}Z".replace("T", " ")


def duration(ns: int) -> str:
    """``850ms``, ``12.3s``, ``5m 12s``, ``3h 05m``, ``2d 04h``."""
    seconds = ns // SECOND
    if seconds < 1:
        return f"{ns // 10**6}ms"
    if seconds < 60:
        return f"{ns / SECOND:.1f}s"
    if seconds < 3_600:
        return f"{seconds // 60}m {seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3_600}h {seconds // 60 % 60:02}m"
    return f"{seconds // 86_400}d {seconds // 3_600 % 24:02}h"
