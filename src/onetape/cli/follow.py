"""``onetape storage follow``: the journal of a store into PostgreSQL."""
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onetape.cli.run import ConfigFile
from onetape.cli.storage import Beside, storage
from onetape.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from onetape.service.follow import Follow


@storage.command()
def follow(
    *, store: Annotated[Path | None, typer.Option("--store", metavar="DIR", help="The folder of the store.")] = None,
    config: ConfigFile = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="The journal no longer keeps anything for it; nothing is brought.")
    ] = False,
    beside_run: Beside = False,
) -> None:
    """Bring what a store keeps to PostgreSQL, in order, exactly once, as long as this runs.

    The address is the setting ``postgres``; ``onetape run`` does this by itself where there is one. While the server
    is away all stays in the journal. Ctrl-C brings what is there, then ends.

    Examples:

      ONETAPE_POSTGRES=postgresql://onetape@localhost/market onetape storage follow

      onetape storage follow --store data --config onetape.toml

      onetape storage follow --store data --forget
    """
    import uvloop

    from onetape.config import load
    from onetape.service.log import configure
    from onetape.storage.moment import check

    settings = load(config, flags={} if store is None else {"store": str(store)})
    if forget:
        _forget(settings.store)
        return
    if settings.postgres is None:
        raise UsageError('no PostgreSQL is set: postgres = "postgresql://user@host/database", or ONETAPE_POSTGRES')
    folder = settings.store
    if not beside_run:  # beside a run the store may be a moment younger than this
        check(folder)
    try:
        from onetape.service.follow import Follow
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise UsageError("PostgreSQL needs the extra: pip install 'onetape[postgres]'") from error
    configure(settings.log)
    following = Follow(folder, settings.postgres)
    uvloop.run(_until_asked(following, beside_run=beside_run))
    now = following.now
    rows = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in now.stored.items())
    print(f"brought to {now.url}: {rows or 'nothing'}; {now.waiting:,} rows wait in the journal")


def _forget(folder: Path) -> None:
    from onetape.service.followed import READERS
    from onetape.storage.catalog import open_catalog
    from onetape.storage.moment import check

    check(folder)
    with open_catalog(folder) as catalog:
        for reader in READERS:
            catalog.unregister(reader)
    print(f"{folder} keeps nothing for PostgreSQL any more; who follows it again begins with what is there then")


async def _until_asked(following: "Follow", *, beside_run: bool) -> None:
    import asyncio
    import signal

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for it in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(it, stop.set)
    if beside_run:
        _watch_input(stop, loop)
    await following.run(stop)


def _watch_input(stop: "asyncio.Event", loop: "asyncio.AbstractEventLoop") -> None:
    """Whoever began us holds the other end, and lets go of it when it stops, and when it is killed."""
    input = sys.stdin.fileno()
    os.set_blocking(input, False)

    def ended() -> None:
        try:
            said = os.read(input, 4_096)
        except BlockingIOError:
            return
        if not said:
            loop.remove_reader(input)
            stop.set()

    loop.add_reader(input, ended)
