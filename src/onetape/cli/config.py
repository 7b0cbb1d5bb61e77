"""``onetape config``: the settings in force, and a file of them to begin with."""
import json as jsons
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from msgspec import Struct

from onetape.cli.main import app
from onetape.cli.output import print_json
from onetape.errors import UsageError

if TYPE_CHECKING:
    from onetape.config import Settings
    from onetape.presets import Preset

config = typer.Typer(no_args_is_help=True, help="Settings: those in force, and a file of them to begin with.")
app.add_typer(config, name="config")

PresetName = Literal["five-venues", "seven-feeds", "okx", "binance", "binance-usdm", "coinbase", "kraken", "bybit"]
BARE = re.compile(r"[A-Za-z0-9_-]+")


class Entry(Struct, frozen=True):
    """A line of a settings file."""

    table: tuple[str, ...]
    key: str
    """Empty: the head of the table alone."""
    value: Any = None
    before: str = ""
    """A comment on a line of its own."""
    after: str = ""
    """A comment at the end of the line."""
    off: bool = False
    """Only a proposal: ``#key = value``."""


@config.command()
def show(
    *, file: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings: TOML or JSON.")] = None,
    json: Annotated[bool, typer.Option("--json", help="An object; what is not set is null.")] = False,
) -> None:
    """Show the settings in force: of the file, the environment, and by default; passwords are not shown.

    What is not as by default says where it comes from. The output is a settings file itself. For which venues there are
    credentials is said besides.

    Examples:

      onetape config show

      onetape config show --config onetape.toml --json
    """
    from onetape import credentials
    from onetape.config import load
    from onetape.service.choice import choices

    settings = load(file)
    choices(settings)  # what is wrong with it at a venue is wrong here too
    known = ", ".join(credentials.load(os.environ))
    values = _hidden(settings.model_dump(mode="json"))
    if json:
        print_json(values)
        if known:
            print(f"credentials are there for {known}", file=sys.stderr)
        return
    origins = _origins(settings, file)
    entries = [
        Entry(table, key, value, after=origins.get((*table, key), "")) for table, key, value in _flat(values)
    ]
    print(toml(entries), end="")
    if not settings.venues:
        print(f"\n# no venue is named: {', '.join(settings.chosen())}")
    if known:
        print(f"\n# credentials are there, in the environment, for {known}")


@config.command()
def init(
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help="The new file; one that ends in .json is JSON.")
    ] = None,
    *, preset: Annotated[PresetName, typer.Option(help="What is to be collected.")] = "five-venues",
    json: Annotated[bool, typer.Option("--json", help="JSON instead of TOML, without comments.")] = False,
) -> None:
    """Write a settings file to begin with: each setting with what it is for, and its default.

    Nothing is overwritten. Without a path it is onetape.toml, or onetape.json.

    Examples:

      onetape config init

      onetape config init --preset okx okx.toml

      onetape config init --json --preset binance-usdm
    """
    from onetape.presets import PRESETS

    path = path or Path("onetape.json" if json else "onetape.toml")
    of_json = path.suffix.lower() == ".json"
    if json and not of_json:
        raise UsageError(f"{path} would be read as TOML: a JSON file has to end in .json")
    chosen = PRESETS[preset]
    _create(path, _as_json(chosen) if of_json else _commented(preset, chosen))
    print(f"wrote {path}: {chosen.says}")
    print(f"try it: onetape check --config {path}; onetape run --live --config {path}")


def _create(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{path} exists already: name another file, or remove it first") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


# --- what is shown --------------------------------------------------------------------------------------------------


def _origins(settings: "Settings", file: Path | None) -> dict[tuple[str, ...], str]:
    """Of every setting that is not as by default: where it comes from."""
    from onetape.config import Settings, load

    of_environment = {(*table, key) for table, key, _ in _flat(load(None).model_dump(mode="json", exclude_unset=True))}
    defaults = {(*table, key): value for table, key, value in _flat(Settings().model_dump(mode="json"))}
    origins = {}
    for table, key, value in _flat(settings.model_dump(mode="json", exclude_unset=True)):
        path = (*table, key)
        if path not in defaults or defaults[path] != value:
            origins[path] = f"from {'the environment' if path in of_environment or file is None else file}"
    return origins


def _hidden(value: Any) -> Any:
    """The same without passwords in addresses."""
    from onetape.credentials import without_password

    match value:
        case dict():
            return {key: _hidden(it) for key, it in value.items()}
        case list():
            return [_hidden(it) for it in value]
        case str():
            return without_password(value)
        case _:
            return value


# --- what is written ------------------------------------------------------------------------------------------------


def _as_json(preset: "Preset") -> str:
    """All settings but those that are not set; of a venue only what differs there."""
    from onetape.config import Settings

    settings = Settings.model_validate(preset.values)
    values = settings.model_dump(mode="json", exclude_none=True)
    values["venues"] = settings.model_dump(mode="json", exclude_unset=True)["venues"]
    return jsons.dumps({key: it for key, it in values.items() if it != {}}, indent=2) + "\n"


def _commented(name: str, preset: "Preset") -> str:
    head = (
        f"# Settings of OneTape, from the preset {name}.\n# {preset.says}\n"
        "# A line that begins with # and a name shows a default, or an example where there is none.\n"
        "# The environment goes before this file: ONETAPE_STORE=/data, ONETAPE_VENUES__KRAKEN__DEPTH=25.\n\n"
    )
    return head + toml([*_proposed(preset), *_of_venues(preset)])


def _proposed(preset: "Preset") -> Iterator[Entry]:
    """Every setting but those of single venues: as in the preset, or as a proposal."""
    from onetape.config import Settings
    from onetape.presets import MEANINGS, OFFERED

    of_preset = {(*table, key): value for table, key, value in _flat(preset.values)}
    defaults = Settings().model_dump(mode="json", exclude={"venues"})
    for table, key, default in _flat(defaults, unset=True):
        path = ".".join((*table, key))
        given = of_preset.get((*table, key))
        value = given if given is not None else OFFERED[path] if default is None else default
        yield Entry(table, key, value, before=MEANINGS[path], off=given is None)


def _of_venues(preset: "Preset") -> Iterator[Entry]:
    """Tables of the venues; what can be said of one is proposed at the first."""
    from onetape.config import Venue
    from onetape.presets import MEANINGS, OFFERED

    for number, (venue, given) in enumerate(preset.values["venues"].items()):
        table = ("venues", venue)
        for key, value in given.items():
            yield Entry(table, key, value, before="" if number else MEANINGS[f"venues.*.{key}"])
        for key, field in Venue.model_fields.items() if number == 0 else ():
            path = f"venues.*.{key}"
            if key in given or (path not in OFFERED and field.default is None):
                continue  # `timings` and `reconnect` are tables, as above
            value = OFFERED.get(path, field.default)
            yield Entry(table, key, value, before=MEANINGS[path], off=True)


# --- TOML, as far as settings need it -------------------------------------------------------------------------------


def _flat(
    values: Mapping[str, Any], table: tuple[str, ...] = (), *, unset: bool = False,
) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """Table, key and value of each setting, a table's own before those of the tables in it. ``unset``: the None too."""
    for key, value in values.items():
        if not isinstance(value, Mapping) and (unset or value is not None):
            yield table, key, value
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*table, key), unset=unset)


def toml(entries: Sequence[Entry]) -> str:
    """A settings file; the entries of a table stand together."""
    from onetape.presets import MEANINGS

    blocks = []
    for table, of_table in groupby(entries, key=lambda it: it.table):
        lines, listed = [], list(of_table)
        if table:
            commented = any(it.before for it in listed)
            about = MEANINGS.get(".".join(table)) or (MEANINGS["venues"] if table[0] == "venues" else "")
            lines += [f"# {about}"] if about and commented else []
            lines.append(f"[{'.'.join(_key(it) for it in table)}]")
        for it in listed:
            lines += [f"# {it.before}"] if it.before else []
            after = f"  # {it.after}" if it.after else ""
            lines.append(f"{'#' * it.off}{_key(it.key)} = {_value(it.value)}{after}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():  # JSON's escapes are TOML's, but for one character
            return jsons.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(_value(it) for it in value)}]"
        case _:
            return repr(value)
