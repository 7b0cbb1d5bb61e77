"""What ``onetape backfill`` refuses before anything is asked of anybody, in one line."""
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from onetape.storage.schema import VERSION
from tests.cli.test_store import good, refusal

GIVEN = ("backfill", "BTC-USDT", "--venue", "binance", "--from", "2024-08-08", "--to", "2024-08-09")


def changed(**options):
    """The words of a good request, some of them others."""
    words = list(GIVEN)
    for name, value in options.items():
        words[words.index(f"--{name}") + 1] = value
    return words


REFUSED = {
    "a venue that is none": (changed(venue="binanze"), "binance"),
    "times that are none": (changed(**{"from": "yesterday"}), "--from must be a date"),
    "the wrong way round": (changed(to="2024-08-07"), "--from must be before --to"),
    "nothing at all": (changed(to="2024-08-08"), "--from must be before --to"),
    "the future": (changed(to=f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%d}"), "--to is in the future"),
    "before all exchanges": (changed(**{"from": "1969-12-01"}), "--from is before 1970"),
    "an interval of trades": ((*GIVEN, "--interval", "1m"), "--interval is of --candles"),
    "an interval that the venue has not": (
        (*changed(venue="kraken"), "--candles", "--interval", "7m"), "kraken gives no candles of '7m'",
    ),
    "nothing to withdraw": ((*GIVEN, "--cancel"), "nothing like that is asked of"),
    "faults of the real world": ((*GIVEN, "--faults", "3"), "--faults, --truth and --compare are of the simulator"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line(name, tmp_path):
    words, expected = REFUSED[name]
    said = refusal(*words, "--store", tmp_path / "D")
    assert expected in said


def test_a_store_of_a_newer_schema_is_refused(tmp_path):
    folder = tmp_path / "D" / "journal" / "main"
    folder.mkdir(parents=True)
    file = sqlite3.connect(folder / "000000000001.db")
    file.execute(f"PRAGMA user_version = {VERSION + 1}")
    file.close()
    assert "newer OneTape" in refusal(*GIVEN, "--store", tmp_path / "D")


def test_its_help_has_examples():
    assert "onetape backfill BTC-USDT --venue binance" in good("backfill", "--help")
