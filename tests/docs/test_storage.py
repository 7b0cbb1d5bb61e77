"""What docs/storage.md shows works as shown, on a store that has what it speaks of."""
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from onetape.cli import follow, storage
from onetape.clock import DAY
from onetape.config import Settings
from onetape.storage.compaction import compact
from onetape.storage.schema import TABLES
from tests.storage.test_lake import BTC, NOW, T0, candle, gap, others, store_of, trade

TEXT = (Path(__file__).parents[2] / "docs" / "storage.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
NEEDS = {"polars": ("polars",), "pandas": ("pandas", "pyarrow")}


@pytest.fixture
def store(tmp_path):
    for part in range(2):
        trades = [trade(n, time=T0 + n * DAY // 4) for n in range(part * 5, part * 5 + 5)]
        store_of(tmp_path / "data", [*trades, candle(T0), gap(T0), *others()], pairs={BTC: "BTC-USDT"})
    assert compact(tmp_path / "data", NOW).refused == []
    return tmp_path


@pytest.mark.parametrize("code", BLOCKS, ids=[re.search(r"import (\w+)", it)[1] for it in BLOCKS])
def test_every_example_reads_the_ten_trades(store, code):
    missing = [it for name, needed in NEEDS.items() if f"import {name}" in code for it in needed if not find_spec(it)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=store)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert re.search(r"\b10\b|\b9 +9\b", done.stdout), done.stdout


def test_the_settings_that_are_shown_are_settings():
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert Settings.model_validate(tomllib.loads(text)).retention.book_deltas == ("7d",)


def test_the_commands_and_tables_that_are_named_are_those_there_are():
    commands = {it.callback.__name__ for it in storage.storage.registered_commands}
    assert follow.follow.__name__ in commands
    assert set(re.findall(r"^    onetape storage (\w+)", TEXT, re.MULTILINE)) == commands
    first_column = "".join(re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", first_column)) == set(TABLES) - {"batches", "instruments"}
