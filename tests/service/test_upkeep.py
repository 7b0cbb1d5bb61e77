"""The store of a run is compacted and pruned beside it; whatever comes of that, the run goes on."""
import asyncio
import os
import subprocess
import sys
from collections import Counter

import pytest

from onetape.clock import DAY
from onetape.config import Retention, Upkeep
from onetape.service import upkeep as module
from onetape.service.upkeep import Upkeep as Keeping
from onetape.storage.compaction import LOCK, alone
from onetape.storage.lake import Lake
from tests.storage.test_lake import T0, store_of, trade


class Told(Counter):
    """Wakes whoever waits for a count."""

    def __init__(self):
        super().__init__()
        self.changed = asyncio.Event()

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.changed.set()

    async def until(self, *keys):
        while not all(self["", key] for key in keys):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 60)


def kept(store, *until, retention=None):
    """Runs it until so much is counted; gives all that is."""
    told = Told()

    async def run():
        task = asyncio.create_task(Keeping(store, Upkeep(), retention or Retention(), told, first_s=0).run())
        try:
            await told.until(*until)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    return {key: count for (_, key), count in told.items()}


def test_what_is_finished_is_compacted_and_what_is_too_old_is_pruned(tmp_path):
    store_of(tmp_path, [trade(n, time=T0 - n * DAY) for n in range(4)])
    retention = Retention(trades=("1d", "50GB"))
    assert kept(tmp_path, "compact done", "prune done", retention=retention) == {
        "compact done": 1, "prune done": 1}
    with Lake(tmp_path) as lake:
        assert lake.status()["pruned"]["trades"]["rows"] == 3  # all are old, but the last day that is there stays
        assert (lake.count("trades"), lake.verify()) == (1, [])


def test_without_a_limit_nothing_is_pruned(tmp_path):
    store_of(tmp_path, [trade(1)])
    assert kept(tmp_path, "compact done") == {"compact done": 1}
    with Lake(tmp_path) as lake:
        assert (lake.count("trades"), lake.status()["lake"]["files"]) == (1, 1)


def test_never_is_never(tmp_path):
    asyncio.run(Keeping(tmp_path, Upkeep(compact_every="0"), Retention(), Counter(), first_s=0).run())
    assert not (tmp_path / LOCK).exists()


def test_what_fails_is_counted_with_what_it_said_and_the_rest_is_done_all_the_same(tmp_path, monkeypatch):
    store_of(tmp_path, [trade(1)])
    said = []
    note = Keeping._note
    monkeypatch.setattr(Keeping, "_note", lambda self, *how: (said.append(how), note(self, *how)))
    with alone(tmp_path):  # somebody compacts it by hand
        kept(tmp_path, "compact failed", "prune failed", retention=Retention(trades="9d"))
    assert {how for _, how, _ in said} == {"failed"}
    assert all("is being compacted already" in words for _, _, words in said)
    with Lake(tmp_path) as lake:
        assert lake.count("trades") == 1


def test_where_no_process_can_be_made_that_is_counted(tmp_path, monkeypatch):
    store_of(tmp_path, [trade(1)])
    monkeypatch.setattr(module, "PROGRAM", (str(tmp_path / "nothing"),))
    assert kept(tmp_path, "compact failed") == {"compact failed": 1}


def test_a_full_disk_is_pruned_but_not_compacted(tmp_path, monkeypatch):
    store_of(tmp_path, [trade(1)])
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": usage.f_bsize}))
    assert kept(tmp_path, "compact put off", "prune done", retention=Retention(trades="9d")) == {
        "compact put off": 1, "prune done": 1}


def test_the_child_has_no_keys_comes_last_and_goes_when_the_run_stops(tmp_path, monkeypatch):
    """One that says of itself what is asked here, instead of the command, and then waits."""
    said = tmp_path / "said"
    os.mkfifo(said)
    code = f"""if True:
        import os, threading
        from onetape.cli.storage import _beside_run
        _beside_run()
        with open({str(said)!r}, "w") as file:
            file.write(f"{{os.getpid()}} {{os.nice(0)}} {{'ONETAPE_OKX_API_KEY' in os.environ}}\\n")
        threading.Event().wait()
        """
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "-c", code))
    monkeypatch.setenv("ONETAPE_OKX_API_KEY", "secret")

    async def run():
        task = asyncio.create_task(Keeping(tmp_path, Upkeep(), Retention(), Counter(), first_s=0).run())
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        words = await asyncio.wait_for(reader.readline(), 60)
        transport.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return words.split()

    with os.fdopen(os.open(said, os.O_RDWR), "rb") as pipe:
        pid, priority, has_keys = asyncio.run(run())
    assert (int(priority) - os.nice(0), has_keys) == (10, b"False")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_the_child_ends_when_the_run_is_killed():
    code = """if True:
        import threading
        from onetape.cli.storage import _beside_run
        _beside_run()
        print(flush=True)
        threading.Event().wait()
        """
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert child.poll() is None
        child.stdin.close()  # as the system does for a process that is gone
        assert child.wait(60) == 1
