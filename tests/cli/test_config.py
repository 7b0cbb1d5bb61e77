"""`onetape config`: what is in force, and files to begin with that load without a problem."""
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from onetape.cli.config import Entry, toml
from onetape.config import Reconnect, Settings, Timings, load
from onetape.config import Venue as OfVenue
from onetape.presets import MEANINGS, PRESETS
from onetape.service.choice import choices

COMMAND = Path(sys.executable).with_name("onetape")


def onetape(*arguments, cwd, **environment):
    bare = {key: value for key, value in os.environ.items() if not key.startswith("ONETAPE_")}
    return subprocess.run(
        [COMMAND, "config", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, cwd=cwd,
        env=bare | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
    )


def good(*arguments, cwd, **environment):
    done = onetape(*arguments, cwd=cwd, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- init -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_loads_as_toml_and_as_json_and_every_venue_has_what_it_asks(preset, tmp_path):
    for name in ("a.toml", "a.json"):
        assert str(name) in good("init", "--preset", preset, name, cwd=tmp_path)
    settings = load(tmp_path / "a.toml", {})
    assert settings == load(tmp_path / "a.json", {})
    assert [it.venue for it in choices(settings)] == list(PRESETS[preset].values["venues"])
    assert settings.reconnect.max_attempts == 0


def test_the_preset_of_okx_is_nine_pairs_books_of_five_levels_trades_and_tickers():
    settings = Settings.model_validate(PRESETS["okx"].values)
    assert settings.pairs == (
        "BTC-USDT", "ETH-USDT", "SOL-USDT", "DOGE-USDT", "TON-USDT", "UNI-USDT", "PEPE-USDT", "BTC-USDC", "ETH-USDC",
    )
    assert (settings.depth, set(settings.channels), settings.chosen()) == (5, {"trades", "book", "ticker"}, ("okx",))


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_only_proposed_is_valid_too(preset, tmp_path):
    good("init", "--preset", preset, "a.toml", cwd=tmp_path)
    text = (tmp_path / "a.toml").read_text()
    lines = [it[1:] if it[:1] == "#" and it[1:2] not in (" ", "") else it for it in text.splitlines()]
    assert lines != text.splitlines()
    (tmp_path / "b.toml").write_text("\n".join(lines).replace('environment = "testnet"\n', ""))
    load(tmp_path / "b.toml", {})


def test_every_setting_is_explained():
    def of(model, path=""):
        return {path + name for name in model.model_fields}

    own = of(OfVenue, "venues.*.") - {"venues.*.timings", "venues.*.reconnect"}
    assert of(Settings) | own | of(Timings, "timings.") | of(Reconnect, "reconnect.") <= set(MEANINGS)


def test_the_default_name_and_nothing_is_overwritten(tmp_path):
    good("init", cwd=tmp_path)
    before = (tmp_path / "onetape.toml").read_bytes()
    done = onetape("init", "--preset", "okx", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "onetape.toml exists already" in done.stderr
    assert (tmp_path / "onetape.toml").read_bytes() == before
    good("init", "--json", cwd=tmp_path)
    assert json.loads((tmp_path / "onetape.json").read_text())["venues"]["kraken"] == {"enabled": True}


@pytest.mark.parametrize("arguments", [
    ["--preset", "nothing"], ["--json", "a.toml"], ["no/such/folder/a.toml"], ["a", "b"], ["."],
])
def test_wrong_usage_is_one_line_and_writes_nothing(arguments, tmp_path):
    done = onetape("init", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


# --- show -----------------------------------------------------------------------------------------------------------


def test_what_is_shown_is_a_settings_file_that_says_the_same(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(
        'pairs = ["BTC-USD"]\n[venues.kraken]\nrest = "http://h:1"\nwebsocket = "ws://h:2"\n'
        '[venues.kraken.timings]\nack = 3\n[venues.binance-usdm]\n'
    )
    shown = good("show", "--config", path, cwd=tmp_path)
    (tmp_path / "b.toml").write_text(shown)
    assert load(tmp_path / "b.toml", {}).model_dump() == load(path, {}).model_dump()


def test_it_says_where_a_setting_comes_from(tmp_path):
    (tmp_path / "a.toml").write_text('depth = 20\nstore = "data"\n')
    lines = good("show", "--config", "a.toml", cwd=tmp_path, ONETAPE_LOG__LEVEL="debug").splitlines()
    assert "depth = 20  # from a.toml" in lines
    assert 'level = "debug"  # from the environment' in lines
    assert 'store = "data"' in lines
    assert lines[-1] == "# no venue is named: binance, coinbase, kraken, okx, bybit"


def test_passwords_are_not_shown(tmp_path):
    for more in ([], ["--json"]):
        shown = onetape(
            "show", *more, cwd=tmp_path, ONETAPE_PROXY="http://me:hunter2@h:1", ONETAPE_OKX_API_KEY="hunter2",
            ONETAPE_OKX_API_SECRET="hunter2", ONETAPE_OKX_PASSPHRASE="hunter2",
        )
        assert shown.returncode == 0
        assert "http://me:***@h:1" in shown.stdout
        assert "hunter2" not in shown.stdout + shown.stderr


def test_it_says_for_which_venues_there_are_credentials(tmp_path):
    mine = {"ONETAPE_BYBIT_API_KEY": "k", "ONETAPE_BYBIT_API_SECRET": "hunter2"}
    lines = good("show", cwd=tmp_path, **mine).splitlines()
    assert lines[-1] == "# credentials are there, in the environment, for bybit"
    shown = onetape("show", "--json", cwd=tmp_path, **mine)  # the output is a settings file: beside it
    assert json.loads(shown.stdout) == Settings().model_dump(mode="json")
    assert shown.stderr == "credentials are there for bybit\n"
    del mine["ONETAPE_BYBIT_API_KEY"]
    shown = onetape("show", cwd=tmp_path, **mine)
    assert (shown.returncode, shown.stdout) == (2, "")
    assert "ONETAPE_BYBIT_API_KEY is missing beside ONETAPE_BYBIT_API_SECRET" in shown.stderr


def test_as_json_all_is_there(tmp_path):
    shown = json.loads(good("show", "--json", cwd=tmp_path))
    assert shown == Settings().model_dump(mode="json")


def test_problems_are_listed_on_stderr(tmp_path):
    (tmp_path / "a.toml").write_text("depht = 3\npairs = []\n")
    done = onetape("show", "--config", "a.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "depht: there is no such setting" in done.stderr
    assert "pairs: must not be empty" in done.stderr


@pytest.mark.parametrize("value", [
    "plain", 'quo"te', "back\\slash", "line\nbreak", "\x00\x1f\x7f", "π 😀", True, 3, 2.5, 1e-9, 1e22, [], ["a", "b"],
])
def test_what_is_written_as_toml_is_read_as_it_was(value):
    text = toml([Entry((), "a", value), Entry(("t", "*"), "the key", value), Entry(("t", ""), "b", value)])
    assert tomllib.loads(text) == {"a": value, "t": {"*": {"the key": value}, "": {"b": value}}}
