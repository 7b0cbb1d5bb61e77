"""What is imported before there is work for it: no package that takes long, no simulator that nobody asked for."""
import subprocess
import sys

import pytest

HEAVY = {
    "adbc_driver_sqlite", "aiohttp", "asyncio", "cryptography", "duckdb", "onetape.config", "onetape.model",
    "onetape.sim", "onetape.venues", "picows", "structlog", "textual", "uvloop", "zstandard",
}
OF_TYPER = {"pydantic"}  # by which it reads the options of a command, its --help among them
AT_THE_END = """
import atexit, sys
atexit.register(lambda: print(*(name for name, it in sys.modules.items() if it), file=sys.stderr))
"""


def imported_by(code):
    """Names of modules."""
    words = [sys.executable, "-c", AT_THE_END + code]
    return set(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stderr.split())


def imported_by_command(*words):
    return imported_by(f"sys.argv = {['onetape', *words]}; from onetape.cli.main import main; main()")


def test_the_package_itself_imports_none_of_its_parts():
    assert {it for it in imported_by("import onetape") if it.startswith("onetape")} == {"onetape"}


def test_help_waits_for_nothing_that_takes_long():
    found = imported_by_command("--help")
    assert "onetape.cli.run" in found
    assert not found & (HEAVY | OF_TYPER)


@pytest.mark.parametrize("words", [["--version"], ["run", "--help"], ["candles", "show", "--help"]])
def test_nor_does_that_of_a_command(words):
    assert not imported_by_command(*words) & HEAVY


def test_a_run_against_the_exchanges_imports_no_simulator():
    found = imported_by("import onetape.cli.run, onetape.cli.board, onetape.service.run")
    assert "onetape.service.collector" in found
    assert not {it for it in found if it.startswith("onetape.sim")}
