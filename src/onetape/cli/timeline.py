"""Draws what is known of tapes over time: a line for each, an axis, and what the characters mean."""
from collections.abc import Iterable, Iterator, Sequence
from math import floor
from typing import TYPE_CHECKING

from msgspec import Struct

from onetape.clock import DAY, HOUR, MINUTE, SECOND, isoformat

if TYPE_CHECKING:
    from rich.text import Text

Span = tuple[int, int]
COVERED, NOTHING = "covered", "nothing known"
LOOKS = {  # from what is worst to what is best: where several share a column, the first one is seen
    "open": ("o", "white on red"), "filling": ("f", "black on yellow"), "unhealable": ("x", "white on magenta"),
    "healed": ("h", "black on cyan"), COVERED: ("=", "black on green"), NOTHING: (".", "dim"),
}
WORDS = {"open": "gap open", "filling": "being filled"}
STEPS = (
    *(it * SECOND for it in (1, 2, 5, 10, 15, 30)), *(it * MINUTE for it in (1, 2, 5, 10, 15, 30)),
    *(it * HOUR for it in (1, 2, 3, 6, 12)), *(it * DAY for it in (1, 2, 7, 14, 30, 90, 365)),
)
NARROWEST = 20


class Line(Struct, frozen=True):
    """One tape. Times are ns."""

    label: str
    known: Sequence[Span]
    gaps: Sequence[tuple[str, int, int]]
    """State, from, to."""

    def share(self, start: int, end: int) -> float:
        """Of the time, what is known without a gap; 1 is all."""
        known = sum(max(min(last, end) - max(first, start), 0) for first, last in self.known)
        return known / (end - start)

    def counts(self) -> dict[str, int]:
        """Of gaps, by state."""
        states = [state for state, _, _ in self.gaps]
        return {state: states.count(state) for state in LOOKS if state in states}


def cells(line: Line, start: int, end: int, width: int) -> list[str]:
    """What each column stands for; a gap is seen however short it is."""
    order = list(LOOKS)
    out = [NOTHING] * width
    for state, first, last in (*((COVERED, *it) for it in line.known), *line.gaps):
        if last < start or first > end:
            continue
        low, high = (_column(min(max(it, start), end), start, end, width) for it in (first, last))
        for at in range(low, high + 1):
            out[at] = min(out[at], state, key=order.index)
    return out


def draw(lines: Sequence[Line], start: int, end: int, width: int) -> "Iterator[Text]":
    """In ``width`` columns of a terminal; ``end`` is behind ``start``."""
    from rich.text import Text

    labels = max(len(it.label) for it in lines)
    ends = [_summary(it, start, end) for it in lines]
    bar = max(width - labels - max(map(len, ends)) - 3, NARROWEST)
    yield Text(f"{isoformat(start)[:19]}Z to {isoformat(end)[:19]}Z".replace("T", " "))
    marks, times = _axis(start, end, bar)
    yield Text(f"{'':{labels}} {times}", style="dim")
    yield Text(f"{'':{labels}} {marks}", style="dim")
    for line, said in zip(lines, ends, strict=True):
        text = Text(f"{line.label:{labels}} ")
        for state in cells(line, start, end, bar):
            text.append(*LOOKS[state])
        yield text.append(f"  {said}")
    legend = Text()
    for state, (character, style) in LOOKS.items():
        legend.append(character, style)
        legend.append(f" {WORDS.get(state, state)}  ")
    yield legend


def _summary(line: Line, start: int, end: int) -> str:
    """``99.98% o1 h2``: never rounded up to what it is not."""
    counts = " ".join(f"{LOOKS[state][0]}{count}" for state, count in line.counts().items())
    return f"{floor(line.share(start, end) * 10_000) / 100:6.2f}% {counts}".rstrip()


def _column(time: int, start: int, end: int, width: int) -> int:
    return min((time - start) * width // (end - start), width - 1)


def _axis(start: int, end: int, width: int) -> tuple[str, str]:
    """A line of marks, and one of the times above them."""
    long = len(_label(start, end - start)) + 2
    step = next((it for it in STEPS if it * width >= long * (end - start)), STEPS[-1])
    marks, times = ["-"] * width, [" "] * width
    free = 0
    for time in _ticks(start, end, step):
        at, text = _column(time, start, end, width), _label(time, end - start)
        marks[at] = "+"
        if at >= free and at + len(text) <= width:
            times[at : at + len(text)] = text
            free = at + len(text) + 1
    return "".join(marks), "".join(times)


def _ticks(start: int, end: int, step: int) -> Iterable[int]:
    return range(start + -start % step, end + 1, step)


def _label(time: int, span: int) -> str:
    text = isoformat(time)
    if span > 3 * DAY:
        return text[5:10]
    return text[5:16].replace("T", " ") if span > DAY else text[11:16] if span > 10 * MINUTE else text[11:19]
