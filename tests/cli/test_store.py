"""The commands over a store, as a person or a script meets them."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onetape import demo

COMMAND = Path(sys.executable).with_name("onetape")
START = 1_723_118_400_000  # ms: 2024-08-08T12:00:00Z, a whole minute


def onetape(*arguments, **rest):
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120, env=environment,
        **rest,
    )


def good(*arguments, **rest):
    done = onetape(*arguments, **rest)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refusal(*arguments):
    done = onetape(*arguments)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def trade(number, at, price="100.10", size="0.50", symbol="ETHUSDT"):
    """``at``: seconds after START."""
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": {
        "e": "trade", "E": 1, "s": symbol, "t": number, "p": price, "q": size, "T": START + at * 1_000, "m": False,
    }}, separators=(",", ":"))


def rows(*arguments):
    """What is missing in them stands on stderr, in one line."""
    done = onetape(*arguments, "--json")
    assert done.returncode == 0, done
    assert done.stderr.count("\n") == done.stderr.count("onetape: not complete: ") <= 1, done.stderr
    return json.loads(done.stdout)


def test_trades_come_out_once_with_the_digits_of_the_wire(store):
    found = rows("trades", "--store", store)
    assert [(it["id"], it["price"], it["size"]) for it in found] == [
        ("1", "100.10", "0.50"), ("2", "101.00", "0.50"), ("3", "99.9", "2"), ("6", "100.5", "0.50"),
        ("7", "100.10", "0.50"),
    ]
    assert found[0] == {
        "venue": "binance", "pair": "ETHUSDT", "symbol": "ETHUSDT", "channel": "trades", "id": "1", "first_id": None,
        "last_id": None, "price": "100.10", "size": "0.50", "side": "buy", "exchange_time": f"{START}000000",
        "received_time": f"{START}000000", "available_at": f"{START}000000", "source": "live", "flags": [],
    }


def test_the_same_recording_again_adds_nothing(store, recording):
    before = {command: rows(*command, "--store", store) for command in (("trades",), ("candles", "show"), ("gaps",))}
    text = good("replay", recording, "--venue", "binance", "--store", store)
    assert "new in the store: nothing" in text
    good("storage", "compact", "--store", store)
    assert json.loads(good("replay", recording, "--venue", "binance", "--store", store, "--json"))["stored"] == {}
    assert before == {command: rows(*command, "--store", store) for command in before}


@pytest.mark.parametrize("pair", ["ETH-USDT", "ETHUSDT"])
def test_candles_are_labelled_by_their_end_and_say_what_they_are(store, pair):
    for _ in range(2):
        found = rows("candles", "show", "--store", store, "--venue", "binance", "--pair", pair, "--interval", "1m")
        assert [int(it["end"]) // 10**6 - START for it in found] == [60_000, 120_000, 180_000]
        assert [(it["open"], it["high"], it["low"], it["close"]) for it in found] == [
            ("100.1", "101", "100.1", "101"), ("99.9", "100.5", "99.9", "100.5"), ("100.1", "100.1", "100.1", "100.1"),
        ]
        assert [(it["volume"], it["trades"]) for it in found] == [("1", "2"), ("2.5", "2"), ("0.5", "1")]
        assert [(it["final"], it["complete"]) for it in found] == [(True, True), (True, False), (False, True)]
        good("storage", "compact", "--store", store)


def test_candles_of_a_time_lie_wholly_within_it(store):
    def ends(start, end):
        found = rows("candles", "show", "--store", store, "--start", start, "--end", end)
        return [int(it["end"]) // 10**6 - START for it in found]
    assert ends("2024-08-08T12:00", "2024-08-08T12:03") == [60_000, 120_000, 180_000]
    assert ends("2024-08-08T12:01", "2024-08-08T12:02") == [120_000]
    assert ends("2024-08-08T12:00:01", "2024-08-08T12:01:59") == []


def test_a_gap_is_listed_with_its_state(store):
    (gap,) = rows("gaps", "--store", store)
    assert (gap["after"], gap["before"], gap["state"], gap["recovered"]) == ("4", "6", "open", "0")
    assert (gap["from_time"], gap["to_time"]) == (f"{START + 62_000}000000", f"{START + 90_000}000000")


def test_limit_start_and_end(store):
    def ids(*arguments):
        return [it["id"] for it in rows("trades", "--store", store, *arguments)]
    assert ids("--limit", "2") == ["6", "7"]
    assert ids("--start", "2024-08-08T12:00:30Z", "--end", "2024-08-08T12:01:01Z") == ["2"]
    assert ids("--start", f"{START // 1000 + 61}") == ["3", "6", "7"]
    assert ids("--start", f"{START + 61_000}", "--end", "2024-08-08T14:01:30+02:00") == ["3"]
    assert ids("--end", "2024-08-08") == []
    assert len(ids("--start", "0", "--end", "2261-01-01")) == 5
    assert "--limit" in refusal("trades", "--store", store, "--limit", "99999999999999999999")


def test_books_of_the_built_in_session_and_their_pairs(tmp_path):
    good("replay", demo.SESSION, "--store", tmp_path / "demo")
    found = rows("books", "--store", tmp_path / "demo", "--venue", "kraken")
    assert {it["pair"] for it in found} == {"BTC-USD", "ETH-USD", "SOL-USD"}
    for it in found:
        assert float(it["bids"][0][0]) < float(it["asks"][0][0])
    (one,) = rows("books", "--store", tmp_path / "demo", "--venue", "kraken", "--pair", "BTC-USD")
    assert one["symbol"] == "BTC/USD"
    again = good("replay", demo.SESSION, "--store", tmp_path / "demo")
    assert "new in the store: nothing" in again
    assert "BTC-USD" in good("candles", "show", "--store", tmp_path / "demo")


def test_for_people_there_are_tables(store):
    text = good("trades", "--store", store, "--limit", "1")
    assert "2024-08-08 12:02:10.000Z" in text
    assert "100.10" in text
    text = good("candles", "show", "--store", store, "--pair", "ETH-USDT")
    assert "provisional" in text
    assert "incomplete" in text
    assert "open" in good("gaps", "--store", store)


@pytest.mark.parametrize("columns", [30, 60, 80])
def test_in_a_narrow_terminal_no_number_is_cut_and_what_is_left_out_is_said(store, columns):
    done = subprocess.run(
        [COMMAND, "trades", "--store", store, "--limit", "2"], capture_output=True, text=True, check=True,
        env=os.environ | {"COLUMNS": str(columns), "NO_COLOR": "1"},
    )
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    if columns < 80:
        assert "left out for lack of room" in " ".join(lines)
    else:
        assert "100.10" in done.stdout


def test_the_state_of_a_store_and_its_upkeep(store):
    before = {it["table"]: it for it in rows("storage", "status", "--store", store)}
    assert (before["trades"]["journal"], before["trades"]["lake"]) == ("5", "0")
    done = rows("storage", "compact", "--store", store)
    assert {it["table"]: it["rows"] for it in done}["trades"] == "5"
    after = {it["table"]: it for it in rows("storage", "status", "--store", store)}
    assert (after["trades"]["journal"], after["trades"]["lake"]) == ("0", "5")
    assert rows("storage", "verify", "--store", store) == []
    assert "sound" in good("storage", "verify", "--store", store)


def test_what_verify_finds_is_told_and_ends_with_1(store):
    good("storage", "compact", "--store", store)
    next((store / "lake/trades").rglob("*.parquet")).unlink()
    done = onetape("storage", "verify", "--store", store)
    assert done.returncode == 1
    assert ".parquet" in done.stdout


@pytest.mark.parametrize("command", [
    ("trades",), ("candles", "show"), ("books",), ("gaps",), ("storage", "status"), ("storage", "compact"),
    ("storage", "verify"), ("gaps", "--timeline"), ("candles", "rebuild"), ("candles", "compare"),
])
def test_a_store_that_is_none_is_one_line(tmp_path, command):
    assert "no store" in refusal(*command, "--store", tmp_path / "nothing")
    (tmp_path / "other").mkdir()
    assert "no store" in refusal(*command, "--store", tmp_path / "other")


def test_an_unknown_pair_is_refused_with_the_nearest(store):
    assert "ETHUSDT" in refusal("trades", "--store", store, "--pair", "ETH-USD")
    assert "did you mean 'binance'" in refusal("trades", "--store", store, "--venue", "binanse")


@pytest.mark.parametrize("time", ["yesterday", "", "-1", "2024-13-01", "9" * 400, "9999-12-31", "2262-04-12", "9" * 19])
def test_a_time_that_is_none_is_refused(store, time):
    assert "--start must be a date" in refusal("trades", "--store", store, f"--start={time}")


@pytest.mark.parametrize("pair", ["'; DROP TABLE trades; --", "%", "../../etc", "a" * 5_000])
def test_hostile_names_are_only_unknown(store, pair):
    assert "no pair" in refusal("trades", "--store", store, f"--pair={pair}")


def test_an_unknown_interval_is_refused_with_those_there_are(store):
    line = refusal("candles", "show", "--store", store, "--interval", "7y")
    assert "1m" in line


def test_a_second_writer_is_one_line(store, recording, tmp_path):
    code = (
        "import sys; from pathlib import Path; from onetape.storage.journal import Journal\n"
        "with Journal(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:
        assert other.stdout.readline() == "locked\n"
        assert "another writer" in refusal("replay", recording, "--venue", "binance", "--store", store)
        other.stdin.close()


def test_a_store_that_cannot_be_written_is_one_line(recording, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal("replay", recording, "--venue", "binance", "--store", tmp_path / "file")


def test_a_full_disk_is_said_once_ends_no_run_and_what_is_lost_is_named_at_the_end(tmp_path):
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "--", COMMAND]
    done = subprocess.run(
        [*limited, "run", "--sim", "--duration", "12", "--store", tmp_path / "x"], capture_output=True, text=True,
        check=False, timeout=120, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    *logged, last = done.stderr.splitlines()
    assert "cannot be written" in last
    assert re.search(r"lost: .*[\d,]+ trades", last)
    assert sum("the store takes nothing" in line for line in logged) == 1
    shown = [line for line in done.stdout.splitlines() if "trades" in line]
    assert int(shown[-1].split()[0]) >= 12  # seconds: it went on
    assert rows("storage", "verify", "--store", tmp_path / "x") == []
