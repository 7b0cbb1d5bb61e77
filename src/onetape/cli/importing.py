"""``onetape import``: files of Tardis and of Binance's public archive, into a store."""
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from onetape.cli.main import app
from onetape.cli.options import DEFAULT, Store
from onetape.cli.output import print_json
from onetape.errors import OneTapeError, UsageError

if TYPE_CHECKING:
    from onetape.service.importing import Imported


@app.command(name="import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="CSV, plain or packed: .gz, .zst, .zip.")],
    *, store: Store = DEFAULT,
    format: Annotated[
        Literal["tardis", "binance"] | None, typer.Option(help="Refuse it unless it is of this one.")
    ] = None,
    venue: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The venue that it is stored under: binance-usdm. Else what the file says."),
    ] = None,
    symbol: Annotated[
        str | None, typer.Option(help="Of which symbol it is, if neither the file nor its name says so: BTCUSDT.")
    ] = None,
    channel: Annotated[
        Literal["trades", "agg_trades"] | None,
        typer.Option(help="Of trades of Tardis: whether the venue had merged them. Without it: trades."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> None:
    """Import a file of Tardis or of Binance's public archive into a store, as if it had been collected.

    Of Tardis: trades, incremental_book_L2, quotes, book_snapshot_N. Of data.binance.vision: trades, aggTrades, klines,
    of spot and of futures. What a file is, its first line says. It is checked whole before anything of it is stored.
    Trades that are there are known; the same file again adds nothing. After Ctrl-C the same command goes on.
    Of one instrument a store takes trades or agg_trades, never one beside the other.

    Trades of Tardis without a side are left out, and what is missing there is a gap. Exit code 1: some trades are not
    what is stored under their ids, which stays as it was.

    Examples:

      onetape import binance-futures_trades_2024-08-08_BTCUSDT.csv.gz

      onetape import BTCUSDT-aggTrades-2024-08-08.zip --venue binance-usdm --store data
    """
    from onetape.cli.interrupt import interruptible
    from onetape.cli.progress import progress
    from onetape.model import Channel
    from onetape.service.importing import check, keep
    from onetape.storage.formats.exchanges import name
    from onetape.storage.formats.recognise import opened
    from onetape.storage.formats.rows import Wanted

    wanted = Wanted(
        path, time.time_ns(), None if venue is None else name(venue), symbol,
        None if channel is None else Channel(channel))
    file = opened(wanted, format)
    if channel is not None and (file.format, file.layout) != ("tardis", "trades"):
        raise UsageError(f"--channel is for trades of Tardis: {path} is {file.layout} of {file.format}")
    with progress() as bar, interruptible() as stopped:
        found = check(file, lambda done: bar("checking", done, file.bytes), stopped)
        if stopped():
            raise typer.Abort
        done = keep(
            store, file, found, lambda done: bar("importing", done, file.bytes), stopped,
            lambda: bar("building candles", 0, 1),
        )
        halted = stopped()
    if json:
        print_json({
            "file": str(path), "format": file.format, "layout": file.layout, "events": str(done.events),
            "new": {table: str(rows) for table, rows in sorted(done.new.items())},
            "left_out": str(done.left_out), "contradicted": str(done.contradicted),
        })
    else:
        _show(done, f"{file.layout} of {file.format}")
    if done.contradicted:
        rows = f"{done.contradicted:,} row{'s contradict' if done.contradicted > 1 else ' contradicts'}"
        raise OneTapeError(f"{path}: {rows} what is stored, which stays as it was: {done.contradiction}")
    if halted:
        raise typer.Abort


def _show(done: "Imported", what: str) -> None:
    of = ", ".join(map(str, done.instruments[:3])) + (", ..." if len(done.instruments) > 3 else "")
    rows = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in sorted(done.new.items()))
    print(f"{done.events:,} {what}: {of}")
    print(f"new in the store: {rows or 'nothing'}")
    if done.left_out:
        trades = "trades" if done.left_out > 1 else "trade"
        print(f"{done.left_out:,} {trades} without a side left out: what is missing there is on record as a gap")
