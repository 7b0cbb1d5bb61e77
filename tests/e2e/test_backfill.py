"""``onetape backfill`` as a process: alone, killed in the middle, and beside a run that does the work."""
import asyncio
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from onetape import venues
from onetape.clock import SECOND, isoformat
from onetape.service import requests
from onetape.service.run import path_of
from onetape.service.status import read
from onetape.sim.faults import Fault, FaultKind
from tests.service.test_demand import World

COMMAND = Path(sys.executable).with_name("onetape")
ENVIRONMENT = {name: it for name, it in os.environ.items() if not name.startswith("ONETAPE_")} | {
    "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1",
}
WITHIN = 90.0
SLOW = Fault(kind=FaultKind.SLOW_REST, lasts=600.0, seconds=0.2)


def go(coroutine):
    async def within():
        async with asyncio.timeout(WITHIN):
            return await coroutine

    return uvloop.run(within())


class Shell:
    """A simulated world, and commands in processes of their own that know where it is."""

    def __init__(self, tmp_path, *faults, venue="binance"):
        self.world = World(venue, tmp_path / "D", *faults)
        self.folder, self.venue = tmp_path, venue

    def configure(self):
        server, spec = self.world.server, venues.spec(self.venue)
        path = path_of(next(iter(spec.endpoints["production"].websocket.values()))[0])
        (self.folder / "onetape.toml").write_text(
            f'pairs = ["BTC-USDT"]\nstore = "D"\n[backfill]\nmax_age = 1.0\n[venues.{self.venue}]\n'
            f'rest = "{server.rest_url(self.venue)}"\nwebsocket = "{server.websocket_url(self.venue)}{path}"\n'
        )

    def words(self, asked, *more):
        return (
            "backfill", asked.pair, "--venue", self.venue, "--from", isoformat(asked.start), "--to",
            isoformat(asked.end), "--config", "onetape.toml", *more,
        )

    @asynccontextmanager
    async def process(self, *words):
        it = await asyncio.create_subprocess_exec(
            COMMAND, *words, cwd=self.folder, env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield it
        finally:
            if it.returncode is None:
                it.kill()
                await it.wait()

    async def call(self, *words):
        async with self.process(*words) as it:
            out, err = await it.communicate()
        return it.returncode, out.decode(), err.decode()

    async def filling(self, id):
        """Until a request is worked at, and something of it is on the disk."""
        while True:
            try:
                report = next(it for it in read(self.world.store).asked if it.id == id and it.done > it.present + 2)
            except Exception:  # noqa: BLE001 - it is not there yet
                await asyncio.sleep(0.02)
            else:
                return report


def test_alone_it_fetches_what_is_asked_for_and_says_so(tmp_path):
    shell = Shell(tmp_path)
    asked = shell.world.asked(-160.0, -30.0, pair="BTC-USDT")

    async def ask():
        async with shell.world.server:
            shell.configure()
            first = await shell.call(*shell.words(asked, "--json"))
            return first, await shell.call(*shell.words(asked))

    (code, out, err), again = go(ask())
    assert (code, err) == (0, "")
    said = json.loads(out)
    assert (said["symbol"], said["state"], said["lacking"]) == ("BTCUSDT", "done", [])
    stored = shell.world.check(asked.start, asked.end)
    assert len(stored) <= int(said["stored"]) <= len(stored) + 2
    assert (again[0], again[1].partition(";")[0]) == (0, f"0 trades stored, {int(said['total']):,} there before")
    shell.world.check_candles(asked.start, asked.end)
    assert requests.standing(shell.world.store) == {}


def test_killed_in_the_middle_it_goes_on(tmp_path):
    shell = Shell(tmp_path, SLOW)
    asked = shell.world.asked(pair="BTC-USDT")

    async def ask():
        async with shell.world.server:
            shell.configure()
            async with shell.process(*shell.words(asked)) as it:
                await shell.filling(asked.id)
                it.kill()
                await it.wait()
            before = len(shell.world.trades())
            return before, await shell.call(*shell.words(asked, "--json"))

    before, (code, out, _) = go(ask())
    said = json.loads(out)
    assert code == 0
    assert int(said["present"]) == before < int(said["total"])
    assert int(said["stored"]) == int(said["total"]) - before > 0
    shell.world.check(asked.start, asked.end)
    shell.world.check_candles(asked.start, asked.end)
    assert shell.world.gaps() == []


def test_interrupted_the_request_stands_until_it_is_withdrawn(tmp_path):
    shell = Shell(tmp_path, SLOW)
    asked = shell.world.asked(pair="BTC-USDT")

    async def ask():
        async with shell.world.server:
            shell.configure()
            async with shell.process(*shell.words(asked)) as it:
                await shell.filling(asked.id)
                it.send_signal(signal.SIGINT)
                _, err = await it.communicate()
            assert it.returncode == 130
            assert b"the request stands" in err
            assert list(requests.standing(shell.world.store)) == [asked.id]
            first = await shell.call(*shell.words(asked, "--cancel"))
            return first, await shell.call(*shell.words(asked, "--cancel"))

    first, second = go(ask())
    assert first[0] == 0
    assert "withdrawn" in first[1]
    assert second[0] == 2
    assert "nothing like that is asked" in second[2]


def test_beside_a_run_the_run_does_it_and_both_are_once(tmp_path):
    shell = Shell(tmp_path)
    asked = shell.world.asked(-150.0, -30.0, pair="BTC-USDT")

    async def ask():
        async with shell.world.server:
            shell.configure()
            async with shell.process("run", "--config", "onetape.toml") as run:
                while not (shell.world.store / "status.json").exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                said = await asyncio.gather(
                    shell.call(*shell.words(asked, "--json")), shell.call(*shell.words(asked, "--json")),
                )
                run.send_signal(signal.SIGTERM)
                await run.communicate()
            return run.returncode, said

    code, said = go(ask())
    assert code == 0
    assert [it[0] for it in said] == [0, 0]
    one, other = (json.loads(it[1]) for it in said)
    assert one["state"] == other["state"] == "done"
    shell.world.check(asked.start, asked.end)
    shell.world.check_candles(asked.start, asked.end)
    assert len([it for it in shell.world.trades() if it.exchange_time > shell.world.start]) > 0


def test_when_the_run_stops_the_command_goes_on_by_itself(tmp_path):
    shell = Shell(tmp_path, SLOW)
    asked = shell.world.asked(pair="BTC-USDT")

    async def ask():
        async with shell.world.server:
            shell.configure()
            async with shell.process("run", "--config", "onetape.toml") as run:
                while not (shell.world.store / "status.json").exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                async with shell.process(*shell.words(asked, "--json")) as it:
                    await shell.filling(asked.id)
                    run.send_signal(signal.SIGTERM)
                    await run.communicate()
                    out, err = await it.communicate()
            return it.returncode, out, err

    code, out, err = go(ask())
    assert (code, err) == (0, b"")
    said = json.loads(out)
    assert said["state"] == "done"
    assert int(said["present"]) > 2
    shell.world.check(asked.start, asked.end)


def test_candles_of_the_venue(tmp_path):
    shell = Shell(tmp_path)
    asked = shell.world.asked(-200.0, -70.0, pair="BTC-USDT", interval="1m")

    async def ask():
        async with shell.world.server:
            shell.configure()
            return await shell.call(*shell.words(asked, "--candles"))

    code, out, _ = go(ask())
    assert code == 0
    assert "1m candles stored, 0 there before" in out


def test_what_cannot_be_had_is_named_and_the_exit_code_says_so(tmp_path):
    shell = Shell(tmp_path, venue="okx")
    asked = shell.world.asked(-400 * 86_400.0, -399 * 86_400.0, pair="BTC-USDT")

    async def ask():
        async with shell.world.server:
            shell.configure()
            return await shell.call(*shell.words(asked)), await shell.call(
                *("BTC-USDX" if it == "BTC-USDT" else it for it in shell.words(asked)))

    (code, out, err), (bad, _, why) = go(ask())
    assert code == 1
    assert "0 trades stored" in out
    assert "too old: the venue keeps 2160 hours" in err
    assert bad == 2
    assert "there is no pair 'BTC-USDX' at okx: did you mean 'BTC-USDT'" in why
    assert time.time_ns() - asked.end > 398 * 86_400 * SECOND
