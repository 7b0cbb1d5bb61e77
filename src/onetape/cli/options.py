"""The options that commands over a store share."""
from pathlib import Path
from typing import Annotated

import typer

ROWS = 20  # shown to a person who names no limit
DEFAULT = Path("data")

Store = Annotated[Path, typer.Option("--store", metavar="DIR", help="The folder of the store.")]
Venue = Annotated[str | None, typer.Option(help="Only this venue.")]
Pair = Annotated[str | None, typer.Option(help="Only this pair, BTC-USDT; the venue's own symbol will do.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, max=10**9, metavar="N", help=f"The newest N. Without it: {ROWS} in a table, all as JSON."),
]
Start = Annotated[
    str | None, typer.Option(metavar="TIME", help="From then on: 2024-08-08, 2024-08-08T12:00:00Z, or an epoch number.")
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")]
AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="As it was known then: nothing that was available later.")
]
Json = Annotated[bool, typer.Option("--json", help="An array of objects, numbers as text, times in ns.")]
Proof = Annotated[
    bool, typer.Option("--proof", help="With --json: an object that also says whether anything is missing, and what.")
]
