"""`onetape storage prune` and what the upkeep of a store says, as a person or a script meets it."""
import json
import os
from decimal import Decimal as D

import pytest

from onetape.clock import DAY, MINUTE
from onetape.config import Retention, Settings, limit_of, load
from onetape.errors import UsageError
from onetape.model import Channel, Side, Trade
from onetape.storage.retention import TABLES
from onetape.tape.coverage import Covered
from tests.cli.test_candles import candle, put
from tests.cli.test_store import START, good, onetape, refusal, rows
from tests.storage.test_compaction import in_sql, older


@pytest.fixture
def compacted(store):
    good("storage", "compact", "--store", store)
    return store


@pytest.fixture
def later(store):
    """With a later day: the last one is never pruned."""
    at = START * 10**6 + 2 * DAY
    put(store, candle(at + MINUTE), Covered("binance", "ETHUSDT", Channel.TRADES, 99, 99, at, at), Trade(
        venue="binance", symbol="ETHUSDT", exchange_time=at, received_time=at, available_at=at, channel=Channel.TRADES,
        id="99", after=None, price=D(1), size=D(1), side=Side.BUY))
    good("storage", "compact", "--store", store)
    return store


def counts(store):
    return {it["table"]: it["lake"] for it in rows("storage", "status", "--store", store)}


def test_what_would_go_is_said_and_then_goes(later):
    before = counts(later)
    asked = ("storage", "prune", "--store", later, "--keep", "trades=90d", "--keep", "trades=50GB")
    would = good(*asked, "--dry-run")
    assert "2024-08-08" in would
    assert would.endswith("1 files would go; nothing was changed\n")
    assert counts(later) == before
    (row,) = rows(*asked)
    assert (row["table"], row["from"], row["rows"], row["files"]) == ("trades", "2024-08-08", "5", "1")
    assert counts(later) == before | {"trades": "1"}
    assert "pruned of trades: 5 rows of 2024-08-08 to 2024-08-08" in good("storage", "status", "--store", later)
    assert good(*asked).startswith("0 files no longer count")
    assert "sound" in good("storage", "verify", "--store", later)


def test_the_limits_of_the_settings_hold_and_what_is_gone_is_said_with_every_answer(later, tmp_path):
    (tmp_path / "s.toml").write_text('[retention]\ntrades = "90d"\nquotes = ["1d", "1kB"]\n')
    good("storage", "prune", "--store", later, "--config", tmp_path / "s.toml")
    asked = ("--store", later, "--start", "2024-08-08", "--end", "2024-08-09", "--json")
    done = onetape("trades", *asked)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert "binance ETHUSDT was pruned from 2024-08-08 12:00" in done.stderr
    proof = json.loads(good("trades", *asked, "--proof"))
    assert (proof["complete"], [it["symbol"] for it in proof["pruned"]]) == (False, ["ETHUSDT"])


def test_candles_that_are_all_gone_are_said_to_be_pruned(later, tmp_path):
    good("storage", "prune", "--store", later, "--keep", "trades=90d", "--keep", "candles=90d")
    for table in ("trades", "candles"):  # as a store that lost its last day too, before that was kept
        in_sql(later / "catalog.db", f"DELETE FROM lake_files WHERE tbl = '{table}'")
    asked = ("--store", later, "--start", "2024-08-08", "--end", "2024-08-09")
    words = "binance ETHUSDT was pruned from 2024-08-08 12:0"
    assert words in " ".join(good("candles", "show", *asked).split())
    proof = json.loads(good("candles", "show", *asked, "--json", "--proof"))
    assert (proof["complete"], [it["symbol"] for it in proof["pruned"]]) == (False, ["ETHUSDT"])
    told = onetape("export", "candles", *asked, "--out", tmp_path / "candles.csv")
    assert words in " ".join((told.stdout + told.stderr).split())


def test_the_journal_keeps_what_it_is_told_to(compacted):
    journal = compacted / "journal"
    before = sorted(journal.rglob("*.db"))
    good("storage", "compact", "--store", compacted, "--keep-journal", "0")
    assert sorted(journal.rglob("*.db")) == before  # the newest of a writer stays for good
    assert "a time is written" in refusal("storage", "compact", "--store", compacted, "--keep-journal", "a day")


@pytest.mark.parametrize(("keep", "words"), [
    ("trades", "an age is written 90d, a size 50GB"), ("trades=", "an age is written"),
    ("trades=9", "an age is written"),
    ("trades=-1d", "an age is written"), ("trades=0d", "an age is written"), ("trades=1h", "at least 1d"),
    ("trades=99999999999d", "an age is written"), ("trades=5 GB", "a size 50GB"), ("trades=5gb", "a size 50GB"),
    ("trade=90d", "did you mean 'trades'?"), ("gaps=90d", "gaps are never pruned"),
    ("coverage=90d", "coverage are never pruned"), ("../trades=90d", "there is no table '../trades'"),
    ("trades=9\n0d", "an age is written"),
])
def test_a_limit_that_is_none_is_one_line(compacted, keep, words):
    assert words in refusal("storage", "prune", "--store", compacted, "--keep", keep)
    assert counts(compacted)["trades"] == "5"


def test_without_a_limit_it_says_how_to_give_one(compacted):
    assert "--keep trades=90d" in refusal("storage", "prune", "--store", compacted)
    twice = refusal("storage", "prune", "--store", compacted, "--keep", "trades=9d", "--keep", "trades=8d")
    assert "one age and one size are enough" in twice
    assert "no store" in refusal("storage", "prune", "--store", compacted / "nothing", "--keep", "trades=9d")


def test_files_without_a_checksum_are_named_beside_the_verdict(compacted):
    older(compacted, 2)
    done = onetape("storage", "verify", "--store", compacted)
    assert (done.returncode, "sound" in done.stdout) == (0, True)
    assert "have no checksum" in done.stderr


@pytest.mark.parametrize("command", ["compact", "verify", "status", "prune"])
def test_a_newer_catalog_is_refused_in_one_line(compacted, command):
    in_sql(compacted / "catalog.db", "PRAGMA user_version=99")
    more = ("--keep", "trades=9d") if command == "prune" else ()
    assert "was written by a newer OneTape" in refusal("storage", command, "--store", compacted, *more)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_line(compacted):
    compacted.chmod(0o500)
    try:
        assert "cannot be written" in refusal("storage", "prune", "--store", compacted, "--keep", "trades=9d")
    finally:
        compacted.chmod(0o700)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_every_table_that_can_be_pruned_has_a_setting():
    assert tuple(Retention.model_fields) == TABLES


def test_limits_of_file_and_environment(tmp_path):
    (tmp_path / "s.toml").write_text('[retention]\ntrades = "90d"\n[upkeep]\ncompact_every = 0\n')
    settings = load(tmp_path / "s.toml", {
        "ONETAPE_RETENTION__BOOK_DELTAS": "7d,50GB", "ONETAPE_UPKEEP__KEEP_JOURNAL": "12h"})
    assert settings.retention.model_dump(exclude_none=True) == {"trades": ("90d",), "book_deltas": ("7d", "50GB")}
    assert (settings.upkeep.compact_every, settings.upkeep.keep_journal) == ("0", "12h")
    assert (Settings().upkeep.compact_every, Settings().retention) == ("1h", Retention())
    assert (limit_of("1w"), limit_of("24h"), limit_of("3kB")) == (
        (7 * 86_400 * 10**9, None), (86_400 * 10**9, None), (None, 3_000))


@pytest.mark.parametrize(("values", "line"), [
    ({"retention": {"trade": "9d"}}, "retention.trade: there is no such setting: did you mean 'trades'?"),
    ({"retention": {"gaps": "9d"}}, "retention.gaps: there is no such setting"),
    ({"retention": {"trades": "9"}}, "retention.trades: an age is written 90d, a size 50GB"),
    ({"retention": {"trades": "9h"}}, "retention.trades: an age must be at least 1d"),
    ({"retention": {"trades": ["9d", "8d"]}}, "retention.trades: one age is enough"),
    ({"retention": {"trades": []}}, "retention.trades: must not be empty"),
    ({"retention": {"trades": 9}}, "retention.trades: must be a list"),
    ({"upkeep": {"compact_every": "often"}}, "upkeep.compact_every: a time is written 90d, 12h or 30m"),
    ({"upkeep": {"compact_every": 60}}, "upkeep.compact_every: must be text"),
    ({"upkeep": {"keep_journal": False}}, "upkeep.keep_journal: must be text"),
])
def test_a_wrong_limit_is_told_with_its_path(tmp_path, values, line):
    (tmp_path / "s.json").write_text(json.dumps(values))
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "s.json", {})
    assert line in str(caught.value)
