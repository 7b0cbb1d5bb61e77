"""Prints tables for people and JSON for programs."""
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from rich.console import JustifyMethod


WIDE = 96  # columns from which there is room for what is good to know


def terminal_width() -> int:
    from rich.console import Console

    return Console().width


def print_json(value: Any) -> None:
    print(msgspec.json.encode(value).decode(), flush=True)


def print_table(rows: Sequence[Mapping[str, Any]], *, right: Collection[str] = (), spare: Sequence[str] = ()) -> None:
    """Columns are the keys of the first row; lists are joined, numbers and ``right`` ones stand to the right.

    Where they do not fit, ``spare`` columns are left out, the first ones first; what is then still too wide is folded.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not rows:
        console.print("nothing")
        return
    texts = {key: [_text(row[key]) for row in rows] for key in rows[0]}
    widths = {key: max(len(key), *map(len, column)) for key, column in texts.items()}
    for key in spare:
        if _too_wide(widths, console.width):
            widths.pop(key, None)
    left_out = [key.replace("_", " ") for key in texts if key not in widths]
    whole = not _too_wide(widths, console.width)  # else cells are folded: a number that is cut looks like another one
    table = Table(box=None, header_style="bold", pad_edge=False)
    for key in widths:
        value = rows[0][key]
        number = key in right or (isinstance(value, int) and not isinstance(value, bool))
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(key.replace("_", " "), justify=justify, overflow="fold", no_wrap=whole)
    for texts_of_row in zip(*(texts[key] for key in widths), strict=True):
        table.add_row(*texts_of_row)
    console.print(table)
    if left_out:
        console.print(f"left out for lack of room: {', '.join(left_out)}", style="dim")


def _too_wide(widths: Mapping[str, int], width: int) -> bool:
    return sum(widths.values()) + 2 * (len(widths) - 1) > width


def _text(value: Any) -> str:
    match value:
        case list():
            return " ".join(str(it) for it in value)
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
