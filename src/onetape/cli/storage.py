"""``onetape storage``: how a store is doing, and its upkeep."""
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetape.cli.main import app
from onetape.cli.output import print_json, print_table
from onetape.cli.options import DEFAULT, Json, Store
from onetape.clock import isoformat
from onetape.errors import UsageError
from onetape.nearest import nearest

if TYPE_CHECKING:
    from onetape.storage.retention import Limit, Removal

storage = typer.Typer(no_args_is_help=True, help="A store: its state, its compaction, its limits, its soundness.")
app.add_typer(storage, name="storage")

Beside = Annotated[bool, typer.Option("--beside-run", hidden=True)]
"""It ends with its input, which a run holds the other end of."""


@storage.command()
def status(*, store: Store = DEFAULT, json: Json = False) -> None:
    """Show what a store holds, and where: rows of each table in the lake, and in the journal before it.

    Examples:

      onetape storage status

      onetape storage status --store data --json
    """
    from onetape.storage.lake import Lake

    with Lake(store) as lake:
        now = lake.status()
    tables = now["tables"].items()
    if json:
        print_json([{"table": name} | {place: str(rows) for place, rows in of.items()} for name, of in tables])
        return
    print_table([{"table": name, "in the lake": of["lake"], "in the journal": of["journal"]} for name, of in tables])
    for place in ("lake", "journal"):
        files = now[place]["files"]
        print(f"{place}: {files} file{'s' * (files != 1)}, {_size(now[place]['bytes'])}")
    for table, gone in now["pruned"].items():
        first, last = (isoformat(gone[it])[:10] for it in ("from_time", "to_time"))
        print(f"pruned of {table}: {gone['rows']:,} rows of {first} to {last}, {_size(gone['bytes'])}")
    for name, writer in now["writers"].items():
        print(f"writer {name}: batch {writer['last_batch']}, {isoformat(writer['committed_at'])[:19]}Z")
    for reader, of in now["readers"].items():
        places = ", ".join(f"{writer} up to batch {batch}" for writer, batch in of.items())
        print(f"reader {reader}: {places or 'nothing yet'}")
    for damage in now["damaged"]:
        print(damage)
    waiting = now["waiting"]
    print(f"{waiting} journal file{'s' * (waiting != 1)} ready for compaction")


@storage.command()
def compact(
    *, store: Store = DEFAULT, json: Json = False,
    keep_journal: Annotated[
        str, typer.Option(metavar="TIME", help="How long the journal keeps what the lake has: 1d, 12h, 0.")
    ] = "1d",
    beside_run: Beside = False,
) -> None:
    """Move finished files of the journal into the lake: zstd Parquet by date, venue and pair.

    It may be killed at any moment, and run beside a writer; a run does it by itself every hour. What the lake has stays
    a day in the journal.

    Examples:

      onetape storage compact

      onetape storage compact --store data --keep-journal 12h --json
    """
    from onetape.config import span_ns
    from onetape.storage.compaction import compact as compact_store

    try:
        keep = span_ns(keep_journal)
    except ValueError as error:
        raise UsageError(f"--keep-journal: {error}, not {keep_journal[:40]!r}") from None
    if beside_run:
        _beside_run()
    done = compact_store(store, time.time_ns(), keep_journal_ns=keep)
    rows: list[dict[str, Any]] = [{"table": table, "rows": count} for table, count in done.rows.items()]
    for line in done.refused:
        print(f"onetape: {line}", file=sys.stderr)
    if json:
        print_json([{"table": it["table"], "rows": str(it["rows"])} for it in rows])
        return
    if rows:
        print_table(rows)
    print(f"{done.files} journal files compacted, {done.merged} partitions merged, {done.removed} old files removed"
          + (f", {done.orphans} leftovers swept" if done.orphans else ""))


@storage.command()
def prune(
    *, store: Store = DEFAULT,
    config: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings: [retention].")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option("--keep", metavar="TABLE=LIMIT", help="Instead of the settings: trades=90d, trades=50GB.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False, beside_run: Beside = False,
) -> None:
    """Remove from the lake what is older, or more, than the settings allow for its table: whole days, oldest first.

    The last whole day stays, and what only the journal has; a run does it by itself every hour. What went stays known:
    it is no gap, is not fetched again, and answers about it say that it was pruned.

    Examples:

      onetape storage prune --dry-run --config onetape.toml

      onetape storage prune --keep trades=90d --keep book_deltas=7d --keep book_deltas=50GB
    """
    from onetape.storage.retention import planned, prune as prune_store

    limits = _limits(config, keep or ())
    if beside_run:
        _beside_run()
    done = (planned if dry_run else prune_store)(store, time.time_ns(), limits)
    rows = [_removal_row(it) for it in done.removals]
    if json:
        print_json([{name: str(it) for name, it in row.items()} for row in rows])
        return
    if rows:
        print_table([row | {"bytes": _size(row["bytes"])} for row in rows])
    for it in done.removals:
        if it.over:
            print(f"{it.table} is {_size(it.over)} over its limit even so: the last whole day stays")
    files = sum(len(it.files) for it in done.removals)
    if dry_run:
        print(f"{files} files would go; nothing was changed")
    else:
        print(f"{files} files no longer count: whoever reads them may go on for an hour, then the next compaction or"
              f" pruning removes them; {done.removed} old files removed")


def _removal_row(it: "Removal") -> dict[str, Any]:
    first, last = it.dates
    return {"table": it.table, "from": first, "to": last, "files": len(it.files), "rows": it.rows, "bytes": it.bytes}


def _limits(config: Path | None, keep: Sequence[str]) -> "Mapping[str, Limit]":
    """By table. Raises UsageError: there is none, or one is not understood."""
    from onetape.config import Retention, limit_of, load
    from onetape.storage.retention import KEPT, Limit

    texts = [it.partition("=")[::2] for it in keep]
    if not keep:
        given = load(config).retention.model_dump(exclude_none=True)
        texts = [(table, it) for table, of in given.items() for it in of]
    if not texts:
        raise UsageError("no table has a limit: say --keep trades=90d, or set [retention] and name the file: --config")
    out: dict[str, Limit] = {}
    for table, text in texts:
        if table in KEPT:
            raise UsageError(f"{table} are never pruned: they say of all the others whether something is missing")
        if table not in Retention.model_fields:
            raise UsageError(f"--keep: there is no table {table[:40]!r}: {nearest(table, Retention.model_fields)}")
        try:
            age, size = limit_of(text)
        except ValueError as error:
            raise UsageError(f"--keep {table}: {error}, not {text[:40]!r}") from None
        known = out.get(table, Limit())
        if (age and known.age_ns) or (size and known.bytes):
            raise UsageError(f"--keep {table}: one age and one size are enough")
        out[table] = Limit(age or known.age_ns, size or known.bytes)
    return out


def _beside_run() -> None:
    """As the run asks for: it has the processor first, and if it ends, so does this."""
    import os
    import threading

    def watch() -> None:
        os.read(0, 1)  # nothing is ever written there: it returns when the run is gone, however it went
        os._exit(1)

    os.nice(10)
    threading.Thread(target=watch, daemon=True).start()


@storage.command()
def verify(*, store: Store = DEFAULT, json: Json = False) -> None:
    """Check that everything committed is there, once, and readable. Exit code 1 if something is wrong.

    Examples:

      onetape storage verify

      onetape storage verify --store data --json
    """
    from onetape.storage.lake import Lake

    with Lake(store) as lake:
        problems = lake.verify()
        unchecked = lake.status()["lake"]["unchecked"] if not problems else 0
    if json:
        print_json([{"problem": it} for it in problems])
    else:
        print("\n".join(problems) or "sound: every batch whole, every file as it was written, every trade once")
    if unchecked:
        print(f"onetape: {unchecked} files of an older OneTape have no checksum: of these only the rows were counted",
              file=sys.stderr)
    if problems:
        raise typer.Exit(1)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.4g} {unit}"
        count /= 1_000
    return f"{count:.4g} TB"
