"""``onetape run`` is killed at random moments while seven exchanges send, and starts again over what it left behind."""
import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import pytest

from onetape import venues
from onetape.service.run import path_of
from onetape.sim.server import Server
from onetape.sim.simulator import Simulator
from onetape.sim.venues import VENUES
from onetape.storage.lake import Lake
from tests.simulation import outages

COMMAND = Path(sys.executable).with_name("onetape")
ENVIRONMENT = {name: it for name, it in os.environ.items() if not name.startswith("ONETAPE_")} | {
    "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUTF8": "1",
}
KILLS = 50 if os.environ.get("ONETAPE_LONG") else 3
PACE = 2.0
COUNTED = {it for it in VENUES if venues.spec(it).counted_trades}  # all but bybit, whose ids prove nothing
PAIRS = ["BTC-USDT", "ETH-USDT", "BTC-USD", "ETH-USD", "BTC-USDT-PERP"]
HEALED_WITHIN = 90.0 + 15 * KILLS  # seconds: each kill leaves four holes at Kraken, which is asked once in three
LOOK_S = 0.5


def settings_of(server, store):
    """As `onetape sim` prints them, in JSON."""
    own = {"coinbase-exchange": {"channels": ["trades", "book"]}}  # it has no quotes
    # Nobody stopped in good order before: the candles that late trades touched are all mended at the end.
    return {"pairs": PAIRS, "store": str(store), "stop_within": 60.0 + 5 * KILLS, "venues": {
        name: {
            "rest": server.rest_url(name),
            "websocket": {
                route: server.websocket_url(name) + path_of(urls[0])
                for route, urls in venues.spec(name).endpoints["production"].websocket.items()
            },
        } | own.get(name, {})
        for name in VENUES
    }}


async def begin(settings):
    return await asyncio.create_subprocess_exec(
        COMMAND, "run", "--live", "--config", settings, env=ENVIRONMENT, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE, cwd=settings.parent,
    )


def trades_in(store):
    with Lake(store) as lake:
        return lake.count("trades")


def is_healed(store, since):
    """Every tape goes on since then, and nothing is open: neither a gap on record nor a hole that is not told yet."""
    with Lake(store) as lake:
        covered = {key: it for key, it in lake.coverage().items() if key[0] in COUNTED}
        return (
            {venue for venue, *_ in covered} == COUNTED
            and all(len(it) == 1 and it.last.to_time > since for it in covered.values())
            and not any(it.state in ("open", "filling") for it in lake.gaps())
        )


async def play(folder, store):
    """Gives the simulator and its time just before the last run was asked to stop."""
    dice = Random(9)
    simulator = Simulator(9, sorted(VENUES), start=time.time_ns(), clock=time.time_ns, pace=PACE)
    async with Server(simulator) as server:
        settings = folder / "settings.json"
        settings.write_text(json.dumps(settings_of(server, store)))
        before = 0
        for _ in range(KILLS):
            process = await begin(settings)
            await asyncio.wait({asyncio.create_task(process.wait())}, timeout=dice.uniform(1, 6))
            assert process.returncode is None, await process.stderr.read()
            process.kill()
            await process.wait()
            if (store / "journal").is_dir():
                stored = await asyncio.to_thread(trades_in, store)
                assert stored >= before
                before = stored
        process, since = await begin(settings), server.now()
        async with asyncio.timeout(HEALED_WITHIN):
            while not (await asyncio.to_thread(is_healed, store, since)):
                await asyncio.wait({asyncio.create_task(process.wait())}, timeout=LOOK_S)
                assert process.returncode is None, await process.stderr.read()
        now = server.now()
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
        assert process.returncode == 0, errors
        return simulator, now


@pytest.mark.long
def test_kill_9_under_load(tmp_path):
    store = tmp_path / "store"
    simulator, now = asyncio.run(play(tmp_path, store))
    reports = [outages.Report(it, KILLS, restarts=KILLS) for it in sorted(VENUES)]
    for it in reports:
        outages.compare(simulator, store, now, it)
    sys.stdout.write(outages.table(reports) + "\n")
    assert all(map(outages.is_good, reports)), [(it.venue, it.lost, it.findings) for it in reports]
    with Lake(store) as lake:
        assert lake.verify() == []
        assert {venue for venue, *_ in lake.coverage()} >= COUNTED
        assert [key for key, it in lake.coverage().items() if key[0] in COUNTED and len(it) > 1] == []
