"""``onetape venues`` and ``onetape pairs``: what there is."""
from pathlib import Path
from typing import Annotated, Any

import typer

from onetape.cli.main import app
from onetape.cli.output import print_json, print_table


@app.command()
def venues(*, json: Annotated[bool, typer.Option("--json", help="An array of objects.")] = False) -> None:
    """List the venues, with their channels, depths and what stands behind their books.

    Examples:

      onetape venues

      onetape venues --json
    """
    from onetape.venues import VENUES

    rows: list[dict[str, Any]] = []
    for name, venue in VENUES.items():
        has = venue.spec.capabilities
        rows.append({
            "venue": name, "exchange": venue.spec.exchange, "channels": sorted(has.channels), "tape": has.tape,
            "depths": ["all" if it == 0 else it for it in has.depths], "intervals": list(has.intervals),
            "verification": has.verification, "environments": list(venue.spec.endpoints),
            "documentation": venue.spec.documentation,
        })
    if json:
        print_json(rows)
    else:
        shown = ("venue", "channels", "depths", "intervals", "verification")
        print_table([{key: row[key] for key in shown} for row in rows])


@app.command()
def pairs(
    path: Annotated[
        Path | None, typer.Argument(help="A recording of OneTape's, or the venue's instrument list as REST gave it.")
    ] = None,
    *,
    venue: Annotated[str | None, typer.Option(help="Only this venue; needed for a venue's list.")] = None,
    json: Annotated[bool, typer.Option("--json", help="An array of objects.")] = False,
) -> None:
    """List pairs with the venue's symbol, tick and lot: of the built-in session, a recording, or a saved list.

    Examples:

      onetape pairs --venue kraken

      onetape pairs exchangeInfo.json --venue binance --json
    """
    from onetape.cli.instruments import instruments_of
    from onetape.model.numbers import plain

    rows = [
        {
            "venue": it.id.venue, "pair": it.pair, "symbol": it.id.symbol, "kind": it.kind, "tradable": it.tradable,
            "status": it.status, "tick_size": plain(it.tick_size), "lot_size": plain(it.lot_size),
            "contract_value": plain(it.contract_value),
        }
        for it in instruments_of(path, venue) if it.pair
    ]
    rows.sort(key=lambda row: (row["venue"], row["pair"]))
    if json:
        print_json(rows)
    else:
        shown = ("venue", "pair", "symbol", "kind", "tradable", "tick_size", "lot_size")
        print_table([{key: row[key] for key in shown} for row in rows])
