"""Prints tables for people and JSON for programs."""
from collections.abc import Mapping, Sequence
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


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Columns are the keys of the first row; lists are joined, numbers stand to the right."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not rows:
        console.print("nothing")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for key, value in rows[0].items():
        number = isinstance(value, int) and not isinstance(value, bool)
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(key.replace("_", " "), justify=justify, overflow="fold", no_wrap=not table.columns)
    for row in rows:
        table.add_row(*(_text(it) for it in row.values()))
    console.print(table)


def _text(value: Any) -> str:
    match value:
        case list():
            return " ".join(str(it) for it in value)
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)
