"""``onetape export``: a store as files that other programs read."""
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import quote

import typer
from msgspec import Struct

from onetape.cli.answers import Asked, gap_row, sentence
from onetape.cli.main import app
from onetape.cli.options import DEFAULT, End, Pair, Start, Store, Venue
from onetape.cli.output import print_json
from onetape.errors import OneTapeError, UsageError

if TYPE_CHECKING:
    import duckdb

    from onetape.cli.progress import Tell
    from onetape.model import Channel, InstrumentId
    from onetape.storage.completeness import Completeness
    from onetape.storage.lake import Lake, Selection

What = Literal[
    "trades", "candles", "quotes", "book_snapshots", "book_deltas", "gaps", "feed_status", "coverage", "quarantine",
    "incremental_book_L2", "hftbacktest",
]
TOLD = ("trades", "candles", "hftbacktest")
"""Of which it is known whether anything is missing."""
POLL_S = 0.2


class Order(Struct, frozen=True):
    """What is to be written, and how."""

    what: str
    format: str
    compression: str
    out: Path
    folder: bool
    """A file of each instrument goes into it."""
    interval: str | None
    revisions: bool
    channel: "Channel | None"

    @property
    def tables(self) -> Sequence[str]:
        """That are read for it."""
        from onetape.storage.formats.history import BOOK_TABLES

        match self.what:
            case "incremental_book_L2":
                return BOOK_TABLES
            case "hftbacktest":
                return ("trades", *BOOK_TABLES)
        return (self.what,)


class Done(Struct, frozen=True):
    """A file."""

    path: Path
    rows: int
    note: str = ""


@app.command()
def export(
    what: Annotated[What, typer.Argument(help="A table; or a book, or a whole instrument, in the layout of others.")],
    *, out: Annotated[
        str, typer.Option(metavar="FILE", help="What to write; a folder, or what ends in /: a file of each instrument.")
    ],
    store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, start: Start = None, end: End = None,
    format: Annotated[
        Literal["parquet", "csv", "tardis"] | None,
        typer.Option(help="Without it, as the name ends: .parquet, .csv, .csv.gz, .csv.zst."),
    ] = None,
    interval: Annotated[str | None, typer.Option(help="Of candles: only that one.")] = None,
    revisions: Annotated[bool, typer.Option("--revisions", help="Of candles: each revision, not the latest.")] = False,
    channel: Annotated[
        Literal["trades", "agg_trades"] | None,
        typer.Option(help="Of trades: only that one. Tardis and hftbacktest get the one that makes the candles."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
) -> None:
    """Write what a store holds as a file: exact numbers, times in ns (in us for Tardis), in the order of their times.

    Tables become Parquet or CSV. For Tardis there are trades (--format tardis) and incremental_book_L2, for hftbacktest
    the events of one instrument (.npz). A file is written aside and named when it is whole. At the end it is said
    whether anything is missing in it.

    Examples:

      onetape export trades --pair BTC-USDT --start 2024-08-08 --end 2024-08-09 --out trades.parquet

      onetape export candles --interval 1m --out candles.csv.gz

      onetape export trades --format tardis --venue binance-usdm --out folder/

      onetape export hftbacktest --venue binance-usdm --pair BTC-USDT-PERP --out btc.npz
    """
    from onetape.cli.progress import progress
    from onetape.storage.formats.flat import prepare
    from onetape.storage.formats.written import folder
    from onetape.storage.lake import Lake

    order = _order(what, format, out, interval, channel, revisions=revisions)
    asked = Asked(store, venue, pair, None, start, end, json=True)
    with Lake(store) as lake, _mapped(store, order.out), lake.connect() as duck:
        selection = asked.selection(lake)
        prepare(duck)
        parts = _parts(duck, order, selection)
        if order.folder:
            folder(order.out)
        with progress() as bar:
            done = [_write(duck, lake, order, path, part, bar, force=force) for path, part in parts]
        facts = _facts(duck, lake, order, selection)
        pairs = lake.pairs()
    if json:
        _print_json(done, facts, pairs)
    else:
        _print(done, facts, pairs)


def _print_json(done: "list[Done]", facts: "Completeness | None", pairs: Mapping[tuple[str, str], str]) -> None:
    print_json({
        "files": [{"file": str(it.path), "rows": str(it.rows), "note": it.note} for it in done],
        "rows": str(sum(it.rows for it in done)), "complete": None if facts is None else facts.complete,
        "gaps": [] if facts is None else [gap_row(it, pairs) for it in facts.gaps],
    })


def _print(done: "list[Done]", facts: "Completeness | None", pairs: Mapping[tuple[str, str], str]) -> None:
    for it in done:
        print(f"{it.path}: {it.rows:,} rows" + (f"; {it.note}" if it.note else ""))
    if not done:
        print("nothing to export")
    elif facts is not None:
        print(sentence(facts, pairs))


def _order(
    what: str, format: str | None, out: str, interval: str | None, channel: str | None, *, revisions: bool,
) -> Order:
    """Raises UsageError: it does not fit together."""
    from onetape.model import Channel
    from onetape.storage.formats.flat import COMPRESSIONS

    if out == "-":
        raise UsageError("--out - is none: a file is named when it is whole, and a pipe has no name; name a file")
    own = {"incremental_book_L2": "tardis", "hftbacktest": "hftbacktest"}.get(what)
    if own is not None and format not in (None, own):
        raise UsageError(f"{what} is not written as {format}: leave out --format")
    if format == "tardis" and what not in ("trades", "incremental_book_L2"):
        raise UsageError(f"the layout of Tardis is for trades and incremental_book_L2, not for {what}")
    if what != "candles" and (interval is not None or revisions):
        raise UsageError(f"--interval and --revisions are for candles, not for {what}")
    if what not in ("trades", "hftbacktest") and channel is not None:
        raise UsageError(f"--channel is for trades, not for {what}")
    path, folder = Path(out), out.endswith("/") or Path(out).is_dir()
    compression = "" if folder else COMPRESSIONS.get(path.suffix, "")
    suffix = path.with_suffix("").suffix if compression else path.suffix
    named = {".parquet": "parquet", ".csv": "csv"}.get(suffix, "parquet" if folder else None)
    found = own or format or named
    if found is None:
        raise UsageError(f"{out} does not say the format: end it in .parquet, .csv or .csv.gz, or add --format")
    if compression and found in ("parquet", "hftbacktest"):
        raise UsageError(f"{out}: {found} is packed as it is, leave out {path.suffix}")
    if folder and found == "tardis":
        compression = "gzip"
    known = None if channel is None else Channel(channel)
    return Order(what, found, compression, path, folder, interval, revisions, known)


def _parts(duck: "duckdb.DuckDBPyConnection", order: Order, selection: "Selection") -> "list[tuple[Path, Selection]]":
    """Files, and what goes into each. Raises UsageError: of more than one instrument, where a file takes but one."""
    from msgspec.structs import replace

    from onetape.storage.formats.history import instruments

    if not order.folder and order.format != "hftbacktest":
        return [(order.out, replace(selection, channel=order.channel))]
    ids = instruments(duck, selection, order.tables)
    suffix = {"parquet": ".parquet", "csv": ".csv", "tardis": ".csv.gz", "hftbacktest": ".npz"}[order.format]
    if not order.folder and len(ids) != 1:
        found = ", ".join(map(str, ids[:5])) or "none"
        raise UsageError(f"hftbacktest takes one instrument a file, and here is {found}: name --venue and --pair")
    return [
        (
            order.out / f"{order.what}_{id.venue}_{quote(id.symbol, safe='')}{suffix}" if order.folder else order.out,
            replace(selection, instruments=frozenset({id}), channel=order.channel),
        )
        for id in ids
    ]


def _write(
    duck: "duckdb.DuckDBPyConnection", lake: "Lake", order: Order, path: Path, selection: "Selection", bar: "Tell", *,
    force: bool,
) -> Done:
    from onetape.storage.formats import flat, hftbacktest, tardis
    from onetape.storage.formats.history import instruments, span
    from onetape.storage.formats.written import written

    def tell(time: int) -> None:
        if time - told[0] >= step:
            told[0] = time
            bar(path.name, time - first, last - first)

    with written(path, force=force) as aside:
        match order.format, order.what:
            case "tardis", "trades":
                tapes = _tapes(lake, order, instruments(duck, selection, ("trades",)))
                with _polled(duck, path.name, bar):
                    return Done(path, tardis.write_trades(duck, selection, tapes, aside, order.compression))
            case "tardis" | "hftbacktest", _:
                first, last = span(duck, selection, order.tables)
                step, told = (last - first) // 200 + 1, [first]
                if order.format == "tardis":
                    rows, begun = tardis.write_books(duck, selection, aside, order.compression, tell)
                    return Done(path, rows, f"the book begins anew {begun} x, with a snapshot")
                id = next(iter(selection.instruments or ()))
                channel = next(iter(_tapes(lake, order, [id]).values()), None)
                done = hftbacktest.write(duck, selection, channel, aside, tell)
                return Done(path, done.rows, done.note)
        with _polled(duck, path.name, bar):
            return Done(path, flat.write(
                duck, order.what, selection, aside, csv=order.format == "csv", compression=order.compression,
                interval=order.interval, revisions=order.revisions,
            ))


def _tapes(lake: "Lake", order: Order, ids: "Iterable[InstrumentId]") -> "dict[InstrumentId, Channel]":
    """The channel of each instrument's trades; of those that have any."""
    from onetape.storage.restore import fed

    coverage = lake.coverage()
    found = {id: order.channel or fed(lake, coverage, id) for id in ids}
    return {id: channel for id, channel in found.items() if channel is not None}


def _facts(
    duck: "duckdb.DuckDBPyConnection", lake: "Lake", order: Order, selection: "Selection",
) -> "Completeness | None":
    """Whether anything is missing; None where nobody knows."""
    from msgspec.structs import replace

    from onetape.storage.completeness import completeness
    from onetape.storage.formats.history import instruments

    if order.what not in TOLD:
        return None
    selection = replace(selection, channel=order.channel)
    if order.what == "trades" and order.format != "tardis":
        return completeness(lake, selection)
    ids = instruments(duck, selection, ("trades",) if order.what == "trades" else (order.tables[0],))
    if order.what == "candles":  # those that are gone by policy had some
        ids += [id for id in _chosen(lake, selection) if tuple(id) in lake.pruned("candles")]
    tapes = {(*id, channel) for id, channel in _tapes(lake, order, ids).items()}
    return completeness(
        lake, selection, tapes=tapes, table="candles" if order.what == "candles" else "trades")


def _chosen(lake: "Lake", selection: "Selection") -> "Iterator[InstrumentId]":
    from onetape.model import InstrumentId

    for it in lake.instruments():
        id = InstrumentId(it.venue, it.symbol)
        if selection.venue in (None, id.venue) and (selection.instruments is None or id in selection.instruments):
            yield id


@contextmanager
def _polled(duck: "duckdb.DuckDBPyConnection", what: str, bar: "Tell") -> Iterator[None]:
    """Shows how far one long statement is."""
    over = threading.Event()

    def poll() -> None:
        while not over.wait(POLL_S):
            done = duck.query_progress()
            if done >= 0:
                bar(what, int(done), 100)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _mapped(store: Path, out: Path) -> Iterator[None]:
    """What DuckDB says, in one line; SIGTERM is as Ctrl-C, so that it leaves no half file either."""
    import duckdb

    from onetape.storage.compaction import said

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except duckdb.Error as error:
        folder = out if out.is_dir() else out.absolute().parent
        raise OneTapeError(f"{store} cannot be exported: {said(folder, error)}") from error
    except RuntimeError as error:  # so it says that a signal came
        if "interrupted" not in str(error):
            raise
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGTERM, before)
