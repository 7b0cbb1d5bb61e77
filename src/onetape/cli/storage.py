"""``onetape storage``: how a store is doing, and its upkeep."""
import sys
import time
from typing import Any

import typer

from onetape.cli.main import app
from onetape.cli.output import print_json, print_table
from onetape.cli.options import DEFAULT, Json, Store
from onetape.clock import isoformat

storage = typer.Typer(no_args_is_help=True, help="A store: its state, its compaction, its soundness.")
app.add_typer(storage, name="storage")



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
def compact(*, store: Store = DEFAULT, json: Json = False) -> None:
    """Move finished files of the journal into the lake: zstd Parquet by date, venue and pair.

    It may be killed at any moment, and run beside a writer. What the lake has stays a day in the journal.

    Examples:

      onetape storage compact

      onetape storage compact --store data --json
    """
    from onetape.storage.compaction import compact as compact_store

    done = compact_store(store, time.time_ns())
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
def verify(*, store: Store = DEFAULT, json: Json = False) -> None:
    """Check that everything committed is there, once, and readable. Exit code 1 if something is wrong.

    Examples:

      onetape storage verify

      onetape storage verify --store data --json
    """
    from onetape.storage.lake import Lake

    with Lake(store) as lake:
        problems = lake.verify()
    if json:
        print_json([{"problem": it} for it in problems])
    else:
        print("\n".join(problems) or "sound: every batch whole, every file there, every trade once")
    if problems:
        raise typer.Exit(1)


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.4g} {unit}"
        count /= 1_000
    return f"{count:.4g} TB"
