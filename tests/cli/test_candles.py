"""Candles built anew and compared, as commands."""
import json
import re
from decimal import Decimal as D

import pytest

from onetape.clock import MINUTE, SECOND
from onetape.model import Candle
from onetape.storage.journal import Journal
from onetape.storage.lake import Lake
from tests.cli.test_store import START, good, onetape, refusal, rows
from tests.e2e.test_run import onetape as run
from tests.e2e.test_run import running

T0 = START * 10**6


def candle(end, *, source="trades", close="101", **rest):
    values = {"open": "100.1", "high": "101", "low": "100.1", "close": close, "volume": "1.00"}
    return Candle(**{
        "venue": "binance", "symbol": "ETHUSDT", "exchange_time": end, "received_time": end, "available_at": end,
        "interval": "1m", "start": end - MINUTE, "end": end, **{name: D(it) for name, it in values.items()},
        "quote_volume": None, "vwap": None, "trades": 2, "taker_buy_volume": None, "complete": True, "final": True,
        "source": source, "revision": 0,
    } | rest)


def put(folder, *records):
    with Journal(folder) as journal:
        for it in records:
            journal.add(it)
        journal.commit(journal.take(T0))


# --- built anew -----------------------------------------------------------------------------------------------------


def test_where_nothing_differs_nothing_is_written(store):
    before = rows("candles", "show", "--store", store)
    done = rows("candles", "rebuild", "--store", store)
    assert {it["interval"]: it["same"] for it in done} == {"1s": "4", "1m": "2"}
    assert {(it["revised"], it["new"]) for it in done} == {("0", "0")}
    assert rows("candles", "show", "--store", store) == before
    assert "6 the same, 0 revised, 0 new" in good("candles", "rebuild", "--store", store)


def test_what_differs_becomes_a_revision_and_what_is_missing_is_written(store):
    with Lake(store) as lake:
        (first, _) = lake.candles(interval="1m")
    put(store, candle(T0 + MINUTE, revision=1, close="77"))
    (done,) = rows("candles", "rebuild", "--store", store, "--interval", "1m")
    assert (done["same"], done["revised"], done["new"]) == ("1", "1", "0")
    with Lake(store) as lake:
        again = lake.candles(interval="1m")[0]
        history = [it for it in lake.candles(interval="1m", latest=False) if it.end == again.end]
    assert (again.revision, again.close, again.quote_volume) == (2, first.close, first.quote_volume)
    assert again.available_at > history[1].available_at
    (done,) = rows("candles", "rebuild", "--store", store, "--interval", "30s")
    assert (done["same"], done["revised"], done["new"]) == ("0", "0", "4")
    found = rows("candles", "show", "--store", store, "--interval", "30s")
    assert [int(it["end"]) // SECOND - T0 // SECOND for it in found] == [30, 60, 90, 120, 150]
    assert [it["final"] for it in found] == [True] * 4 + [False]
    assert "4 the same" in good("candles", "rebuild", "--store", store, "--interval", "30s")


def test_only_whole_candles_of_the_time_are_built(store):
    def built(*arguments):
        return [it["new"] for it in rows("candles", "rebuild", "--store", store, "--interval", "10s", *arguments)]
    assert built("--start", "2024-08-08T12:00:01", "--end", "2024-08-08T12:00:39") == ["0"]
    assert built("--start", "2024-08-08T12:00:01", "--end", "2024-08-08T12:00:40") == ["1"]
    assert built() == ["3"]


def test_beside_a_writer_it_is_one_line(store):
    with Journal(store):
        assert "somebody collects into" in refusal("candles", "rebuild", "--store", store)


@pytest.mark.parametrize("interval", ["", "1", "m", "0m", "1M", "-1m", "9" * 30 + "h"])
def test_an_interval_that_is_none_is_refused(store, interval):
    assert "--interval must be" in refusal("candles", "rebuild", "--store", store, f"--interval={interval}")
    assert "--interval must be" in refusal("candles", "compare", "--store", store, f"--interval={interval}")


# --- compared -------------------------------------------------------------------------------------------------------


def compared(store, *arguments):
    done = onetape("candles", "compare", "--store", store, *arguments, "--json")
    assert done.stderr == ""
    (it,) = json.loads(done.stdout)
    return done.returncode, it


def test_with_the_venues_own_that_are_stored(store):
    assert "no candles of 1m to compare" in refusal("candles", "compare", "--store", store, "--stored")
    put(store, candle(T0 + MINUTE, source="venue"))
    code, it = compared(store, "--stored", "--end", "2024-08-08T12:01")
    assert (code, it["agree"], it["differ"], it["undecided"]) == (0, "1", "0", "0")
    put(store, candle(T0 + 2 * MINUTE, source="venue", close="100.9"))
    code, it = compared(store, "--stored")
    assert (code, it["agree"], it["differ"], it["undecided"]) == (0, "1", "0", "1")  # ours has a gap
    (one,) = it["differences"]
    assert one["why"].startswith("a gap of ours (open) from 12:01:02")
    assert {"open", "close", "volume"} <= set(one["fields"])
    put(store, candle(T0 + MINUTE, source="venue", revision=1, close="100.99"))
    code, it = compared(store, "--stored")
    assert (code, it["agree"], it["differ"]) == (1, "0", "1")
    text = onetape("candles", "compare", "--store", store, "--stored").stdout
    assert re.search(r"close +101 +100.99 +0.01", text)
    assert "0.0000% of 1 agree; 1 differ, 1 undecided" in text


@pytest.mark.parametrize("venue", ["binance", "okx"])
def test_with_a_simulated_exchange_at_the_address_of_the_settings(venue, tmp_path):
    """Seconds that were collected over sockets are those of the exchange's REST."""
    flags = ("--venue", venue, "--pair", "BTC-USDT", "--store", "D")
    with running("sim", "--venue", venue, cwd=tmp_path) as simulator:
        simulator.wait_for("rest")
        (tmp_path / "here.toml").write_text(simulator.said)
        config = ("--config", "here.toml")
        done = run("run", "--live", *config, *flags, "--duration", 8, "--json", cwd=tmp_path)
        assert done.returncode == 0, done
        found = run("candles", "compare", *config, *flags, "--interval", "1s", "--json", cwd=tmp_path)
    assert (found.returncode, found.stderr) == (0, ""), found
    (it,) = json.loads(found.stdout)
    assert it["differ"] == "0"
    assert int(it["agree"]) >= 2
    assert it["lacking"] == []
    if venue == "okx":
        return
    gone = run("candles", "compare", *config, *flags, "--interval", "1s", cwd=tmp_path)
    assert gone.returncode == 1
    assert "nothing could be compared" in gone.stdout
    assert "not had of" in gone.stderr
