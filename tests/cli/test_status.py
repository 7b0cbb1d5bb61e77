"""`onetape status` and `onetape top`: how a run is doing, seen from outside."""
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec import structs
from textual.widgets import DataTable, Static

from onetape.cli.status import LOST, headline, latest, span, state_of, stores
from onetape.cli.top import Top
from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.model import Channel, Lifecycle, TrustState
from onetape.service.status import BookStatus, ChannelStatus, LineStatus, Status, VenueStatus, read, write

COMMAND = Path(sys.executable).with_name("onetape")
NOW = time.time_ns()


def onetape(*arguments, cwd):
    bare = {key: value for key, value in os.environ.items() if not key.startswith("ONETAPE_")}
    return subprocess.run(
        [COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60, cwd=cwd,
        env=bare | {"COLUMNS": "160", "NO_COLOR": "1"},
    )


def book(pair, state=TrustState.LIVE, **rest):
    live = state is TrustState.LIVE
    return BookStatus(**{
        "symbol": pair, "pair": pair, "state": state, "since": NOW, "reason": "", "verification": "sequence",
        "bid": "64810.29" if live else "", "ask": "64811.45" if live else "", "last": "64814.02", "side": "buy",
    } | rest)


def venue(name, state=Lifecycle.ACTIVE, *, frames=100, books=(), **rest):
    line = LineStatus(name, state, NOW, "", 3, frames, 0, None, 1.5)
    return VenueStatus(**{
        "name": name, "state": state, "reason": "", "offset_ms": -3.5, "lines": (line,),
        "channels": (ChannelStatus(Channel.TRADES, 1_234, NOW, 1.5, 12.25),), "books": books,
        "counters": {"attempts": 3, "gaps opened": 1, "quarantined": 0}, "requests": 7, "rest_ms": 20.5,
    } | rest)


def status(*venues, **rest):
    return Status(**{
        "pid": os.getpid(), "started_at": time.time_ns() - 90 * SECOND, "at": time.time_ns(), "source": "sim",
        "store": "x",
        "stopped": False, "clock_ahead_ms": 0.0, "venues": venues or (venue("kraken", books=(book("BTC-USD"),)),),
        "stored": {"trades": 1_234, "quotes": 0, "not stored": 9},
    } | rest)


def kept(folder, it):
    folder.mkdir(parents=True, exist_ok=True)
    write(it, folder)
    return folder


def old(it):
    return structs.replace(it, at=time.time_ns() - 60 * SECOND)


# --- status ---------------------------------------------------------------------------------------------------------


def test_a_run_that_is_well(tmp_path):
    kept(tmp_path / "s", status(at=time.time_ns() + 60 * SECOND))  # so that it is not old however slow this machine is
    done = onetape("status", "--store", "s", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert first.startswith(f"running on s: the simulator, pid {os.getpid()}, for ")
    text = "\n".join(rest)
    assert "kraken  active     100     1.5    12.2      -3.5           2     7  1 of 1 live" in text
    assert "kraken: attempts 3, gaps opened 1\n" in text
    assert "rows stored: trades 1,234; events that no table keeps: 9" in text


def test_as_json_it_is_all_with_what_it_means(tmp_path):
    it = status()
    kept(tmp_path, it)
    shown = json.loads(onetape("status", "--store", ".", "--json", cwd=tmp_path).stdout)
    assert shown["state"] in ("running", LOST)
    assert (shown["folder"], shown["pid"], shown["at"]) == (".", os.getpid(), it.at)
    assert shown["venues"][0]["books"][0]["bid"] == "64810.29"


@pytest.mark.parametrize(("it", "words"), [
    (status(stopped=True), "stopped on s at "),
    (old(status()), "killed or hanging on s since "),
    (status(venue("kraken"), venue("okx", Lifecycle.RECONNECTING, reason="DNS: cannot resolve it"),
            at=NOW + 900 * SECOND), "okx is reconnecting: DNS: cannot resolve it"),
])
def test_what_is_not_well_is_said_and_is_exit_code_1(it, words, tmp_path):
    kept(tmp_path / "s", it)
    done = onetape("status", "--store", "s", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert words in done.stdout


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[]", b"[" * 100_000, b'{"pid": "me"}'])
def test_without_a_readable_status_it_is_one_line_and_exit_code_2(content, tmp_path):
    if content is not None:
        (tmp_path / "status.json").write_bytes(content)
    done = onetape("status", "--store", ".", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert ("nothing has run" if content is None else "another version") in done.stderr


def test_the_running_one_is_found_then_the_latest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONETAPE_STORE", raising=False)
    folders = stores(None)
    assert folders == [Path("data"), Path("data/sim")]
    with pytest.raises(UsageError, match="nothing has run on the store data yet"):
        latest(folders)
    kept(Path("data"), old(status(stopped=True)))
    assert latest(folders)[0] == Path("data")
    kept(Path("data/sim"), old(status()))
    kept(Path("data"), status(stopped=True))
    assert latest(folders)[0] == Path("data")
    kept(Path("data/sim"), status(at=time.time_ns() - SECOND))
    assert latest(folders)[0] == Path("data/sim")


def test_a_store_that_is_said_or_set_is_the_only_one(monkeypatch):
    assert stores(Path("x")) == [Path("x")]
    monkeypatch.setenv("ONETAPE_STORE", "y")
    assert stores(None) == [Path("y")]


def test_states_and_spans():
    it = status()
    assert [state_of(it, it.at + age) for age in (0, 5 * SECOND, 6 * SECOND)] == ["running", "running", LOST]
    assert "6 s ago" in headline(it, Path("x"), it.at + 6 * SECOND)
    assert [span(it) for it in (-1, 0, 119, 120, 7_200, 200_000)] == ["0 s", "0 s", "119 s", "2 min", "2 h", "2 d"]


def test_what_is_written_is_read(tmp_path):
    it = status()
    assert read(kept(tmp_path, it)) == it
    assert [it.name for it in tmp_path.iterdir()] == ["status.json"]


def test_a_real_run_is_seen_while_it_runs_and_when_it_has_stopped(tmp_path):
    with subprocess.Popen(
        [COMMAND, "run", "--sim"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as process:
        try:
            process.stdout.readline()  # its first view of itself
            end = time.monotonic() + 60
            while (done := onetape("status", cwd=tmp_path)).returncode != 0:
                assert time.monotonic() < end, done
            assert f"running on data/sim: the simulator, pid {process.pid}" in done.stdout
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    done = onetape("status", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("stopped on data/sim at ")


# --- top ------------------------------------------------------------------------------------------------------------


def looked(folder, test, *, size=(120, 40)):
    """Runs a test with the view of a store."""
    async def run():
        app = Top([folder])
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await test(app, pilot)
    asyncio.run(run())


def cells(app, name):
    table = app.query_one(f"#{name}", DataTable)
    columns = [str(it.label) for it in table.ordered_columns]
    return [dict(zip(columns, map(str, table.get_row_at(it)), strict=True)) for it in range(table.row_count)]


def said(app, name):
    return str(app.query_one(f"#{name}", Static).render())


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
def test_top_shows_venues_books_and_totals(tmp_path, size):
    names = ("binance", "coinbase", "kraken", "okx", "bybit")
    pairs = ("BTC-USDT", "ETH-USDT", "SOL-USDT")
    kept(tmp_path, status(*(venue(it, books=tuple(map(book, pairs))) for it in names)))

    async def test(app, pilot):
        (first, *_), (one, *_) = cells(app, "venues"), cells(app, "books")
        assert len(cells(app, "venues")) == 5
        assert len(cells(app, "books")) == 15
        assert (first["venue"], first["state"], first["p50 ms"]) == ("binance", "active", "1.5")
        assert (one["pair"], one["book"], one["bid"], one["ask"]) == ("BTC-USDT", "live", "64810.29", "64811.45")
        assert ("verified by" in one) == (size[0] == 120)
        assert "venues 5 active; books 15 live" in said(app, "totals")
        for name in ("venues", "books"):
            assert app.query_one(f"#{name}", DataTable).virtual_size.width <= size[0]

    looked(tmp_path, test, size=size)


def test_top_follows_from_look_to_look(tmp_path):
    before = status(venue("kraken", frames=100, books=(book("BTC-USD"),)))
    kept(tmp_path, before)

    async def test(app, pilot):
        after = venue("kraken", Lifecycle.RECONNECTING, frames=300, books=(book("BTC-USD", TrustState.STALE),))
        after = structs.replace(after, reason="the connection was lost")
        kept(tmp_path, structs.replace(before, venues=(after,), at=before.at + 2 * SECOND))
        app.look()
        (row,), (one,) = cells(app, "venues"), cells(app, "books")
        assert (row["state"], row["frames/s"], row["reason"]) == ("reconnecting", "100", "the connection was lost")
        assert (one["book"], one["bid"]) == ("stale", "-")
        kept(tmp_path, structs.replace(before, venues=(after, venue("okx"))))
        app.look()
        assert [it["venue"] for it in cells(app, "venues")] == ["kraken", "okx"]

    looked(tmp_path, test)


@pytest.mark.parametrize(("it", "words", "kind"), [
    (status(stopped=True), "What is shown is how it was then.", "stopped"),
    (old(status()), "killed or hanging on ", "lost"),
    (None, "nothing has run on the store ", "stopped"),
])
def test_top_says_when_nothing_runs(tmp_path, it, words, kind):
    if it is not None:
        kept(tmp_path, it)

    async def test(app, pilot):
        assert words in said(app, "head")
        assert app.query_one("#head").has_class(kind)
        assert len(cells(app, "venues")) == (it is not None)
        kept(tmp_path, status(at=time.time_ns() + 60 * SECOND))
        app.look()
        assert said(app, "head").startswith("running on ")

    looked(tmp_path, test)


def test_the_keys_of_top(tmp_path):
    kept(tmp_path, status())

    async def test(app, pilot):
        def colour():
            return app.query_one("#venues", DataTable).get_cell("0", "state").style

        dark, before = app.current_theme.dark, colour()
        await pilot.press("d")
        await pilot.pause()
        assert app.current_theme.dark is not dark
        assert colour() != before
        await pilot.press("d")
        await pilot.pause()
        assert (app.current_theme.dark, colour()) == (dark, before)
        await pilot.press("q")
        await pilot.pause()
        assert app._exit

    looked(tmp_path, test)


def test_top_needs_a_terminal(tmp_path):
    done = onetape("top", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
