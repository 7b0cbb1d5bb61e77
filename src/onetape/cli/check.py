"""``onetape check``: the doctor."""
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from onetape.cli.main import app
from onetape.cli.output import print_json
from onetape.cli.run import ConfigFile, Sim, Venues, settings_of, simulated_of
from onetape.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from onetape.config import Settings
    from onetape.credentials import Credentials
    from onetape.service.check import Finding
    from onetape.service.run import Simulated

STYLES = {"ok": "green", "warning": "yellow", "FAILED": "bold red"}


@app.command()
def check(
    *, sim: Sim = False, config: ConfigFile = None, venue: Venues = None,
    json: Annotated[bool, typer.Option("--json", help="An array of objects.")] = False,
) -> None:
    """Follow what a run would do, from its settings to a stored row, and say where it ends and what would help.

    Settings, store and disk; then of each venue: DNS, REST and its clock, WebSocket, data of one pair, a row in a
    temporary store. It takes seconds, 40 at most, and writes nothing that stays. Exit code 0 if all is ok, else 1.

    Examples:

      onetape check --sim

      onetape check --live --config onetape.toml

      onetape check --live --venue kraken --json
    """
    from rich.console import Console

    from onetape import venues as known
    from onetape.credentials import load
    from onetape.service.check import of_settings

    for name in venue or ():
        known.spec(name)
    findings: list[Finding] = []
    console = Console(highlight=False)
    shown = _Shown(None if json else console)
    try:
        settings = settings_of(config, sim, None, venue, None)
        simulated = simulated_of(settings, sim, None, 1, None, None, compare=False)
        credentials = load(os.environ)
    except UsageError as error:
        for finding in of_settings(error):
            findings.append(finding)
            shown.tell(finding)
    else:
        findings = _check(settings, simulated, shown, credentials)
    shown.end()
    sound = all(it.grade == "ok" for it in findings)
    if json:
        print_json(findings)
    else:
        bad = sum(it.grade == "FAILED" for it in findings)
        doubtful = sum(it.grade == "warning" for it in findings)
        print("all is well" if sound else f"{bad} failed, {doubtful} with a warning, of {len(findings)} checks")
    if not sound:
        raise typer.Exit(1)


def _check(
    settings: "Settings", simulated: "Simulated | None", shown: "_Shown", credentials: "Mapping[str, Credentials]",
) -> "list[Finding]":
    import asyncio

    from onetape.config import Log
    from onetape.service.check import check as check_all
    from onetape.service.log import configure

    configure(Log(level="error"))
    findings: list[Finding] = []

    def tell(finding: "Finding") -> None:
        findings.append(finding)
        shown.tell(finding)

    work = check_all(settings, simulated, tell, credentials)
    if sys.platform == "win32":
        asyncio.run(work)
    else:
        import uvloop

        uvloop.run(work)
    return findings


class _Shown:
    """A line a finding, as it comes; what would help on a line below."""

    def __init__(self, console: "Console | None") -> None:
        self._console = console
        self._busy = None if console is None or not console.is_terminal else console.status("looking")
        if self._busy is not None:
            self._busy.start()

    def tell(self, it: "Finding") -> None:
        if self._console is None:
            return
        from rich.text import Text

        about = " ".join(part for part in (it.venue, it.check) if part)
        line = Text.assemble((f"{it.grade:<8}", STYLES[it.grade]), (f"{about:<24}", "bold"), " ", it.says)
        self._console.print(line, soft_wrap=True)
        if it.todo:
            self._console.print(Text(f"{'':8}{'':24} -> {it.todo}"), soft_wrap=True)

    def end(self) -> None:
        if self._busy is not None:
            self._busy.stop()
