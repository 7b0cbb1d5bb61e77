"""`onetape check`: says of each step from the settings to a stored row whether it works, and ends as it says."""
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path


import pytest

from onetape.book import COMPILED
from onetape.config import Settings
from onetape.service.check import check, why_not_compiled
from onetape.service.run import Simulated
from onetape.sim.faults import Fault, FaultKind, FaultPlan

COMMAND = Path(sys.executable).with_name("onetape")
STEPS = ["DNS", "REST", "WebSocket", "data", "stored"]


def onetape(*arguments, cwd, **environment):
    bare = {key: value for key, value in os.environ.items() if not key.startswith("ONETAPE_")}
    return subprocess.run(
        [COMMAND, "check", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, cwd=cwd,
        env=bare | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
    )


def findings(settings, *faults, simulated=("binance", "kraken")):
    """What is found in-process, by venue (empty: of the whole) and check."""
    found = []
    plan = Simulated(simulated, 1, FaultPlan(faults=faults), None, time.time_ns()) if simulated else None
    asyncio.run(check(Settings.model_validate(settings), plan, found.append))
    return {(it.venue, it.check): it for it in found}


def test_with_the_simulator_all_is_well_and_nothing_stays(tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = onetape("--sim", "--json", cwd=tmp_path, TMPDIR=str(temporary))
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, ""), found
    assert {it["grade"] for it in found} == {"ok"}
    assert [it["check"] for it in found if not it["venue"]] == ["settings", "store", "event loop", "order book"]
    for venue in ("binance", "kraken"):
        assert [it["check"] for it in found if it["venue"] == venue] == STEPS
    assert list(temporary.iterdir()) == []
    assert [it.name for it in tmp_path.iterdir()] == ["temporary"]


@pytest.mark.parametrize(("wanted", "says"), [
    ("1", {"pure Python (ONETAPE_PURE is set)"}),
    ("0", {"compiled kernel"} if COMPILED else {f"pure Python ({why_not_compiled()})"}),
])
def test_it_says_which_order_book_runs(tmp_path, wanted, says):
    (tmp_path / "a.toml").write_text('channels = ["agg_trades"]\n[venues.kraken]\n')  # nothing that could be asked for
    done = onetape("--live", "--config", "a.toml", "--json", cwd=tmp_path, ONETAPE_PURE=wanted)
    assert {it["says"] for it in json.loads(done.stdout) if it["check"] == "order book"} == says


def test_for_people_it_is_a_line_a_check(tmp_path):
    done = onetape("--sim", "--venue", "kraken", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "all is well"
    assert all(it.startswith("ok ") for it in lines[:-1])
    assert any("kraken stored" in it and "book snapshots" in it for it in lines)


def test_names_that_are_not_resolved_fail_each_venue_at_once(tmp_path):
    """The top-level domain is one that no resolver may ever know."""
    config = tmp_path / "a.toml"
    config.write_text("".join(
        f'[venues.{it}]\nrest = "https://{it}.invalid"\nwebsocket = "wss://{it}.invalid"\n' for it in ("kraken", "okx")
    ))
    done = onetape("--live", "--config", config, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    for venue in ("kraken", "okx"):
        assert f"cannot resolve {venue}.invalid (" in done.stdout
    assert "-> is this machine online?" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 failed, 0 with a warning")
    assert "REST" not in done.stdout


def test_one_address_of_several_is_a_warning():
    dead = "https://kraken.invalid"
    found = findings({
        "venues": {"kraken": {"rest": [dead, "http://127.0.0.1:1"], "websocket": "ws://127.0.0.1:1"}},
    }, simulated=())
    assert found["kraken", "DNS"].grade == "warning"
    assert found["kraken", "REST"].grade == "FAILED"
    assert "127.0.0.1:1" in found["kraken", "REST"].says


def test_a_proxy_is_what_has_to_be_found():
    found = findings({"proxy": "http://me:hunter2@proxy.invalid:1", "venues": {"kraken": {}}}, simulated=())
    assert "cannot resolve the proxy proxy.invalid" in found["kraken", "DNS"].says
    assert "hunter2" not in str(found)


def test_settings_with_problems_are_listed_and_nothing_is_tried(tmp_path):
    config = tmp_path / "a.toml"
    config.write_text("depht = 3\npairs = []\n")
    done = onetape("--live", "--config", config, "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert {(it["grade"], it["check"]) for it in found} == {("FAILED", "settings")}
    assert sorted(it["says"] for it in found) == [
        "depht: there is no such setting: did you mean 'depth'?", "pairs: must not be empty",
    ]


def test_what_a_venue_does_not_have_is_a_problem_of_the_settings():
    found = findings({"channels": ["agg_trades"], "venues": {"kraken": {}}}, simulated=())
    assert found["", "settings"].grade == "FAILED"
    assert "kraken has no agg_trades" in found["", "settings"].says
    assert not any(venue for venue, _ in found)


def test_pairs_that_a_run_would_refuse_are_named():
    found = findings({
        "pairs": ["BTC-USDT", "FOO-BAR"], "venues": {"kraken": {"pairs": ["BTC-USD", "ETH-UDS"]}, "binance": {}},
    })
    assert "FOO-BAR" in found["", "pairs"].says
    assert "did you mean 'ETH-USD'" in found["kraken", "pairs"].says
    assert found["kraken", "stored"].grade == found["binance", "stored"].grade == "ok"


def test_a_venue_with_none_of_the_pairs():
    found = findings({"pairs": ["FOO-BAR"], "venues": {"kraken": {}}}, simulated=("kraken",))
    assert ("kraken", "WebSocket") not in found
    assert found["kraken", "pairs"].grade == "FAILED"


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    found = findings({"store": str(tmp_path / "file" / "data"), "venues": {"kraken": {}}}, simulated=("kraken",))
    assert (found["", "store"].grade, found["kraken", "stored"].grade) == ("FAILED", "ok")
    assert "cannot write" in found["", "store"].says


@pytest.mark.parametrize(("fault", "step", "grade", "words"), [
    (Fault(kind=FaultKind.REST_STATUS, venue="kraken", lasts=60, code=503), "REST", "FAILED", "503"),
    (Fault(kind=FaultKind.REFUSE_CONNECT, venue="kraken", lasts=60, code=503), "WebSocket", "FAILED", "503"),
    (Fault(kind=FaultKind.SILENT, venue="kraken", lasts=60), "data", "FAILED", "nothing of BTC-USDT within 3 s"),
    (Fault(kind=FaultKind.CLOCK_SKEW, venue="kraken", lasts=60, seconds=30), "REST", "warning", "by whole seconds"),
])
def test_what_is_wrong_at_one_venue_is_said_there_and_the_other_is_well(fault, step, grade, words, monkeypatch):
    monkeypatch.setattr("onetape.service.check.DATA_S", 3.0)
    found = findings({}, fault)
    assert found["kraken", step].grade == grade, found
    assert words in found["kraken", step].says
    assert found["kraken", step].todo
    assert found["binance", "stored"].grade == "ok"
    follows = STEPS[STEPS.index(step) + 1:]
    assert [it for it in follows if ("kraken", it) in found] == (follows if grade == "warning" else [])


def test_wrong_usage_is_one_line(tmp_path):
    for arguments in (["--venue", "kracken"], ["--frobnicate"], ["more"]):
        done = onetape(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
