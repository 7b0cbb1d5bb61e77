"""``onetape``: the commands, and how they end."""
import sys
from typing import Annotated

import typer
from typer.exceptions import TyperException

from onetape import __version__
from onetape.errors import OneTapeError, UsageError

EPILOG = "Exit codes: 0 done, 1 failed, 2 wrong usage or input (one line on stderr says what), 130 interrupted."

app = typer.Typer(
    name="onetape", rich_markup_mode="rich", pretty_exceptions_enable=False, epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The consolidated tape and order book of crypto: exact, verified, gap-aware.",
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        print(f"onetape {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


def main() -> None:
    """Runs the command line; errors that a person can mend are one line on stderr and exit code 2."""
    from onetape.cli import (  # noqa: F401 - they register themselves; not for `--version`
        backfill, candles, check, config, export, follow, gaps, importing, listing, replay, run, sim, status, storage,
        store,
    )

    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context else ""
        code = _fail(error.format_message() + hint, error.exit_code)
    except UsageError as error:
        code = _fail(str(error), 2)
    except OneTapeError as error:
        code = _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except OSError as error:  # of the output: a closed pipe ends silently before it comes here
        code = _fail(f"cannot write: {error.strerror or error}", 1)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    """One line, but for a list of problems, which has a line each."""
    lines = (" ".join(line.split()) for line in message.splitlines())
    print("onetape: " + "\n  ".join(line for line in lines if line), file=sys.stderr)
    return code
