"""``onetape run`` and ``record`` as processes: what they keep is the truth, how they stop, and what they refuse."""
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard

from onetape.clock import SECOND
from onetape.model import Side
from onetape.sim.listings import SHOWS
from onetape.sim.venues import VENUES
from onetape.sim.venues.bybit_ids import match_id
from onetape.storage.lake import Lake
from onetape.storage.selection import Selection

COMMAND = Path(sys.executable).with_name("onetape")
ENVIRONMENT = {name: it for name, it in os.environ.items() if not name.startswith("ONETAPE_")} | {
    "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1",
}
WITHIN = 90.0  # seconds, in which every process is done
PAIRS = ("--pair", "BTC-USDT", "--pair", "ETH-USDT")


def onetape(*arguments, cwd, **rest):
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=WITHIN, cwd=cwd,
        env=ENVIRONMENT, **rest,
    )


def refusal(*arguments, cwd, lines=1):
    """What is said before anything is done."""
    done = onetape(*arguments, cwd=cwd)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("onetape: "), done.stderr
    assert done.stderr.count("\n") == lines, done.stderr
    return done.stderr


class Process:
    """One that goes on until it is told."""

    def __init__(self, *arguments, cwd):
        self._it = subprocess.Popen(
            [COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd,
            env=ENVIRONMENT,
        )
        self._errors = []
        self._reader = threading.Thread(target=lambda: self._errors.extend(self._it.stderr))
        self._reader.start()
        self._alarm = threading.Timer(WITHIN, self._it.kill)
        self._alarm.start()
        self.said = ""

    def wait_for(self, words):
        """The line of its output that says so."""
        for line in self._it.stdout:
            self.said += line
            if re.search(words, line):
                return line
        raise AssertionError(f"it ended without {words!r}: {self.said}{''.join(self._errors)}")

    def signal(self, *signals):
        for it in signals:
            self._it.send_signal(it)

    def end(self):
        """Exit code, output and errors."""
        self.said += self._it.stdout.read()
        code = self._it.wait()
        self._reader.join()
        return code, self.said, "".join(self._errors)

    def leave(self):
        if self._it.poll() is None:
            self._it.kill()
            self._it.wait()
        self._reader.join()
        self._alarm.cancel()
        self._it.stdout.close()
        self._it.stderr.close()


@contextmanager
def running(*arguments, cwd):
    it = Process(*arguments, cwd=cwd)
    try:
        yield it
    finally:
        it.leave()


def truth_of(path):
    """By (venue, symbol): the matches by id, as (price, size, buy, time)."""
    listings, matches = {}, {}
    with path.open("rb") as file:
        text = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True).read()
    for line in text.splitlines():
        it = json.loads(line)
        key = it["venue"], it["symbol"]
        if "tick" in it:
            listings[key] = Decimal(it["tick"]), Decimal(it["lot"])
            matches[key] = {}
        for number, price, size, buy in it.get("matches", ()):
            tick, lot = listings[key]
            matches[key][number] = price * tick, size * lot, buy, it["time"]
    return matches


def stored(store):
    with Lake(store) as lake:
        assert lake.verify() == []
        return lake.trades(Selection()), lake.candles(), lake.gaps()


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_a_run_keeps_what_really_happened(tmp_path):
    done = onetape(
        "run", "--sim", "--duration", 4, "--store", "D", "--compare", "--truth", "truth.zst", cwd=tmp_path)
    assert done.returncode == 0, done
    assert " 0 wrong" in done.stdout
    assert " 0 missing" in done.stdout
    assert "all that came is kept in D" in done.stdout
    matches = truth_of(tmp_path / "truth.zst")
    trades, candles, gaps = stored(tmp_path / "D")
    assert gaps == []
    found = {}
    for it in trades:
        key, number = (it.venue, it.symbol), match_id(it.id) if it.venue == "bybit" else int(it.id)
        assert number not in found.setdefault(key, {}), "twice"
        found[key][number] = it
    assert {venue for venue, _ in found} == set(VENUES)
    compared = 0
    for (venue, symbol), by_id in found.items():
        if venue == "binance-usdm":  # aggregates, which the truth does not number: `--compare` has seen to them
            continue
        key = SHOWS.get(venue, venue), symbol
        first = min(matches[key])  # what was before the log began is not in it
        last = max(by_id)
        expected = {number: it for number, it in matches[key].items() if number <= last}
        assert set(by_id) >= {it for it in expected if it >= max(first, min(by_id))}
        for number, it in by_id.items():
            if number >= first:
                compared += 1
                price, size, buy, time = expected[number]
                assert (it.price, it.size, it.side is Side.BUY) == (price, size, buy)
                assert abs(it.exchange_time - time) < SECOND // 1_000
    assert compared > 20
    others = ("bybit", "binance-usdm")  # whose ids have no order; whose trades count their matches
    check_candles(candles, {key: it for key, it in found.items() if key[0] not in others})


def check_candles(candles, found):
    """A complete one is made of the trades within it, and of all of them."""
    checked = 0
    for it in candles:
        if it.interval != "1s" or not it.complete or not it.final or (it.venue, it.symbol) not in found:
            continue
        within = [
            trade for trade in found[it.venue, it.symbol].values()
            if it.start <= trade.exchange_time < it.end
        ]
        within.sort(key=lambda trade: (trade.exchange_time, int(trade.id)))
        assert it.trades == len(within)
        if within:
            checked += 1
            prices = [trade.price for trade in within]
            assert (it.open, it.high, it.low, it.close) == (prices[0], max(prices), min(prices), prices[-1])
            assert it.volume == sum(trade.size for trade in within)
    assert checked > 3


def test_a_run_under_faults_publishes_nothing_wrong(tmp_path):
    done = onetape(
        "run", "--sim", "--duration", 8, "--store", "D", "--compare", "--faults", 5, *PAIRS, cwd=tmp_path)
    assert done.returncode == 0, done
    assert " 0 wrong" in done.stdout
    stored(tmp_path / "D")


def test_two_runs_into_one_store(tmp_path):
    for _ in range(2):
        done = onetape(
            "run", "--sim", "--duration", 3, "--store", "D", "--venue", "binance", "--compare", *PAIRS, cwd=tmp_path)
        assert done.returncode == 0, done
    trades, _, _ = stored(tmp_path / "D")
    ids = [(it.venue, it.symbol, it.id) for it in trades]
    assert len(ids) == len(set(ids))


def test_all_as_json(tmp_path):
    done = onetape("run", "--sim", "--duration", 2, "--json", "--compare", *PAIRS, cwd=tmp_path)
    assert done.returncode == 0, done
    said = json.loads(done.stdout)
    assert said["verdict"]["wrong"] == 0
    assert {it["name"] for it in said["status"]["venues"]} == set(VENUES) - {"binance-usdm"}, "it has neither pair"


def test_a_recording_brings_the_events_of_the_run(tmp_path):
    done = onetape("record", "--sim", "--duration", 5, "--faults", 3, "D", *PAIRS, cwd=tmp_path)
    assert done.returncode == 0, done
    assert "onetape replay D --verify" in done.stdout
    done = onetape("replay", "D", "--verify", cwd=tmp_path)
    assert done.returncode == 0, done
    assert done.stderr == ""
    assert "D is not empty" in refusal("record", "--sim", "--duration", 1, "D", cwd=tmp_path)


def test_a_recording_beside_a_run_brings_its_events(tmp_path):
    done = onetape(
        "run", "--sim", "--duration", 3, "--store", "D", "--record", "R", "--venue", "binance", *PAIRS, cwd=tmp_path)
    assert done.returncode == 0, done
    assert onetape("replay", "R", "--verify", cwd=tmp_path).returncode == 0


# --- how it stops ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_when_all_is_kept(how, tmp_path):
    with running("run", "--sim", "--store", "D", *PAIRS, cwd=tmp_path) as it:
        it.wait_for(r"venues 6 active; .* [1-9][\d,]* rows kept")
        it.signal(how)
        code, said, errors = it.end()
    assert code == 0, errors
    assert "stopped after" in said
    assert "all that came is kept in D" in said
    assert "Traceback" not in errors
    told = int(re.search(r"([\d,]+) trades", said.splitlines()[-1])[1].replace(",", ""))
    trades, _, _ = stored(tmp_path / "D")
    assert len(trades) == told > 0


def test_a_second_signal_does_not_wait(tmp_path):
    with running("run", "--sim", "--store", "D", *PAIRS, cwd=tmp_path) as it:
        it.wait_for("venues 6 active")
        it.signal(signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT)  # both are there when it looks
        code, said, errors = it.end()
    assert code == 1
    assert "all that came is kept" not in said
    assert "onetape: gave up waiting" in errors
    stored(tmp_path / "D")  # it is whole
    done = onetape("run", "--sim", "--duration", 2, "--store", "D", *PAIRS, cwd=tmp_path)
    assert done.returncode == 0, done


def test_killed_it_leaves_a_store_that_the_next_run_goes_on_with(tmp_path):
    with running("run", "--sim", "--store", "D", *PAIRS, cwd=tmp_path) as it:
        it.wait_for(r"venues 6 active; .* [1-9][\d,]* rows kept")
        it.signal(signal.SIGKILL)
        assert it.end()[0] == -signal.SIGKILL
    before, _, _ = stored(tmp_path / "D")
    done = onetape("run", "--sim", "--duration", 2, "--store", "D", *PAIRS, cwd=tmp_path)
    assert done.returncode == 0, done
    after, _, _ = stored(tmp_path / "D")
    assert {(it.venue, it.symbol, it.id) for it in after} > {(it.venue, it.symbol, it.id) for it in before}


# --- no way to a venue ----------------------------------------------------------------------------------------------


NOWHERE = """
pairs = ["BTC-USDT"]
[venues.binance]
websocket = "wss://stream.binance.invalid"
rest = "https://api.binance.invalid"
[venues.okx]
websocket = "wss://ws.okx.invalid"
rest = ["https://www.okx.invalid", "https://other.okx.invalid"]
"""


def test_without_a_network_each_venue_says_so_keeps_trying_and_stops(tmp_path):
    (tmp_path / "nowhere.toml").write_text(NOWHERE)
    with running("run", "--live", "--config", "nowhere.toml", "--store", "D", cwd=tmp_path) as it:
        it.wait_for("venues 2 reconnecting")
        it.wait_for("venues 2 reconnecting")  # 5 s on
        it.signal(signal.SIGTERM)
        code, said, errors = it.end()
    assert code == 0, errors
    assert "binance is reconnecting: DNS: cannot resolve api.binance.invalid: " in said
    assert re.search(r"okx is reconnecting: DNS: cannot resolve (www|other)\.okx\.invalid: ", said)
    assert "Traceback" not in errors
    assert errors.count("venue=binance") <= 10
    assert stored(tmp_path / "D") == ([], [], [])


def settings_of(said):
    """What ``onetape sim`` prints, as a table by venue."""
    return {
        name: (websocket, rest) for name, websocket, rest in
        re.findall(r'\[venues\.(\S+)\]\nwebsocket = "(.*)"\nrest = "(.*)"', said)
    }


@pytest.fixture
def simulator(tmp_path):
    """Of two venues: the past of each takes a second to make."""
    with running("sim", "--venue", "binance", "--venue", "kraken", cwd=tmp_path) as it:
        it.wait_for("kraken")
        it.wait_for("rest")
        yield settings_of(it.said)


def test_what_it_prints_is_a_settings_file_for_all_feeds(tmp_path):
    with running("sim", cwd=tmp_path) as simulator:
        for words in (r"venues\.okx", "rest", "pairs"):
            simulator.wait_for(words)
        (tmp_path / "here.toml").write_text(simulator.said)
        done = onetape("run", "--live", "--config", "here.toml", "--duration", 4, "--json", cwd=tmp_path)
    assert done.returncode == 0, done
    venues = json.loads(done.stdout)["status"]["venues"]
    assert {it["name"]: it["state"] for it in venues} == dict.fromkeys(VENUES, "active")


@pytest.mark.parametrize(("websocket", "reason"), [
    ("wss://nobody.invalid/v2", "DNS: cannot resolve nobody.invalid"),
    ("ws://127.0.0.1:1/v2", "cannot connect to 127.0.0.1:1"),
])
def test_a_socket_that_cannot_be_had_leaves_the_other_venue_alone(simulator, websocket, reason, tmp_path):
    (tmp_path / "half.toml").write_text(f"""
pairs = ["BTC-USDT"]
[venues.kraken]
websocket = "{websocket}"
rest = "{simulator['kraken'][1]}"
[venues.binance]
websocket = "{simulator['binance'][0]}"
rest = "{simulator['binance'][1]}"
""")
    with running("run", "--live", "--config", "half.toml", "--store", "D", cwd=tmp_path) as it:
        it.wait_for("(1 reconnecting, 1 active|1 active, 1 reconnecting).* [1-9][0-9,]* rows kept")
        it.signal(signal.SIGTERM)
        code, said, errors = it.end()
    assert code == 0, errors
    assert f"kraken is reconnecting: {reason}" in errors + said or f"reason='{reason}" in errors
    trades, _, _ = stored(tmp_path / "D")
    assert {it.venue for it in trades} == {"binance"}


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_proxy_that_is_not_there(scheme, tmp_path):
    (tmp_path / "proxy.toml").write_text(f'proxy = "{scheme}://me:secret@127.0.0.1:1"\n{NOWHERE}')
    with running("run", "--live", "--config", "proxy.toml", "--store", "D", cwd=tmp_path) as it:
        it.wait_for("venues 2 reconnecting")
        it.signal(signal.SIGINT)
        code, said, errors = it.end()
    assert code == 0, errors
    assert "127.0.0.1:1" in said
    assert "secret" not in said + errors
    assert "Traceback" not in errors


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_pair_that_nobody_has(tmp_path):
    done = onetape("run", "--sim", "--duration", 20, "--store", "D", "--pair", "BTC-USTD", cwd=tmp_path)
    assert done.returncode == 2, done
    told = [it for it in done.stderr.splitlines() if it.startswith("onetape: ")]
    assert len(told) == 1
    assert "BTC-USTD" in told[0]
    assert "BTC-USDT" in told[0]  # which is near
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def test_a_pair_of_a_venue_of_its_own(tmp_path):
    (tmp_path / "own.toml").write_text('[venues.kraken]\npairs = ["BTC-USDT", "NO-SUCH"]\n')
    done = onetape("run", "--sim", "--duration", 20, "--config", "own.toml", cwd=tmp_path)
    assert done.returncode == 2, done
    assert "NO-SUCH" in done.stderr
    assert "kraken" in done.stderr
    assert "BTC-USDT" not in done.stderr.split(":")[1]


@pytest.mark.parametrize(("arguments", "words"), [
    (("--venue", "krakn"), "unknown venue 'krakn': "),
    (("--duration", "0"), "--duration must be above 0"),
    (("--duration", "nan"), "--duration must be above 0"),
    (("--config", "nope.toml"), "cannot read nope.toml"),
    (("--faults", "nope.toml"), "nope.toml"),
    (("--truth", "no/such/folder"), "cannot write the truth to no/such/folder"),
])
def test_wrong_arguments(arguments, words, tmp_path):
    assert words in refusal("run", "--sim", *arguments, cwd=tmp_path)
    assert not (tmp_path / "data" / "sim" / "journal").exists()


def test_of_the_default_pairs_a_venue_takes_what_it_has(tmp_path):
    """Nobody asked OKX for dollars; but of perpetuals alone there is nothing in the defaults."""
    done = onetape("run", "--sim", "--duration", 2, "--venue", "okx", "--json", cwd=tmp_path)
    assert done.returncode == 0, done
    assert len(json.loads(done.stdout)["status"]["venues"][0]["books"]) == 3
    said = refusal("run", "--sim", "--venue", "binance-usdm", cwd=tmp_path)
    assert "nothing is at binance-usdm of what is collected by default: name pairs" in said


@pytest.mark.parametrize("arguments", [("--faults", "1"), ("--truth", "t"), ("--compare",)])
def test_what_is_of_the_simulator_alone(arguments, tmp_path):
    assert "say --sim" in refusal("run", "--live", *arguments, cwd=tmp_path)


@pytest.mark.parametrize(("text", "told"), [
    ("pears = 1\n", ["pears: there is no such setting", "pairs"]),
    ('pairs = ["btc"]\n', ["pairs.0: "]),
    ("[venues.krakn]\n", ["venues.krakn: there is no such venue", "kraken"]),
    ('[venues.kraken]\nproxy = "ftp://x"\n', ["venues.kraken.proxy: ", "socks5://"]),
    ('[venues.kraken]\nwebsocket = "http://x"\n', ["venues.kraken.websocket", "wss://"]),
    ("depth = 0\nstop_within = -1\n[log]\nlevel = 'loud'\n", ["depth: ", "stop_within: ", "log.level: "]),
    ('channels = ["ticker", "nothing"]\n', ["channels.1: ", "one of"]),
    ("= 1\n", ["is not TOML"]),
])
def test_wrong_settings_are_told_all_at_once_before_anything_connects(text, told, tmp_path):
    (tmp_path / "wrong.toml").write_text(text)
    done = onetape("run", "--sim", "--config", "wrong.toml", "--duration", 5, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    for it in told:
        assert it in done.stderr
    assert "[" not in done.stderr.split("\n")[0].replace("[venues", "")  # no log: nothing was begun
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("proxy", ["socks5://localhost", "socks5://localhost:no", "http://localhost:99999", "http://:80"])
def test_a_proxy_address_that_is_none_is_refused_at_the_start(proxy, tmp_path):
    (tmp_path / "proxy.toml").write_text(f'proxy = "{proxy}"\n')
    done = onetape("run", "--live", "--config", "proxy.toml", "--duration", 5, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].strip().removeprefix("onetape: ").startswith("proxy: ")
    assert done.stderr.count("\n") <= 2


@pytest.mark.parametrize("address", ["nonsense", "999.0.0.1", "192.0.2.1"])
def test_a_local_address_that_is_not_ours(address, tmp_path):
    """Refused, or told as the reason why nothing can be reached: not a traceback."""
    (tmp_path / "local.toml").write_text(NOWHERE.replace("[venues.okx]", f'local_address = "{address}"\n[venues.okx]'))
    done = onetape("run", "--live", "--config", "local.toml", "--duration", 3, "--store", "D", cwd=tmp_path)
    assert done.returncode in (0, 2), done
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in ("file", "file/below"):
        assert folder in refusal("run", "--sim", "--duration", 5, "--store", folder, cwd=tmp_path)


def test_a_recording_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    assert "file" in refusal("record", "--sim", "--duration", 5, "file", cwd=tmp_path)
    assert "full is not empty" in refusal("record", "--sim", "--duration", 5, "full", cwd=tmp_path)


def test_a_store_that_another_run_writes(tmp_path):
    with running("run", "--sim", "--store", "D", *PAIRS, cwd=tmp_path) as it:
        it.wait_for("rows kept")
        told = refusal("run", "--sim", "--duration", 5, "--store", "D", cwd=tmp_path)
        assert "D" in told
        it.signal(signal.SIGTERM)
        assert it.end()[0] == 0


@pytest.mark.parametrize("option", ["--ws-port", "--rest-port"])
def test_a_port_in_use(option, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in refusal("sim", "--venue", "kraken", option, port, "--duration", 5, cwd=tmp_path)
