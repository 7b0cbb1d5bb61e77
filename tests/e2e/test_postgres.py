"""A run with a database beside its store: all that was collected is in both, and none of it is in the arguments."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onetape.storage.lake import Lake
from onetape.storage.postgres.schema import TABLES
from tests.postgres import server

RUN = [sys.executable, "-m", "onetape", "run", "--sim", "--venue", "binance", "--venue", "kraken"]


@pytest.fixture(scope="module")
def postgres():
    with server() as it:
        yield it


def run(store, url, *more, **options):
    return subprocess.run(
        [*RUN, "--store", store, *more], env={**os.environ, "ONETAPE_POSTGRES": url}, capture_output=True, text=True,
        timeout=90, check=False, **options)


def counts(postgres, url):
    return {table: postgres.execute(f"SELECT count(*) FROM onetape.{table}", url=url)[0][0] for table in TABLES}


def test_what_a_run_collected_is_in_both(postgres, tmp_path):
    url = postgres.database()
    for _ in range(2):  # the second goes on behind the first
        it = run(tmp_path, url, "--duration", "4")
        assert it.returncode == 0, it.stderr
        assert "has all of it" in it.stdout
    with Lake(tmp_path) as lake:
        held = {table: lake.count(table) for table in TABLES}
        pairs = set(lake.pairs().items())
    assert held["trades"] > 100
    assert counts(postgres, url) == held
    found = postgres.execute("SELECT venue, symbol, pair FROM onetape.instruments", url=url)
    assert {((venue, symbol), pair) for venue, symbol, pair in found} <= pairs
    price, lake_price = (
        postgres.execute("SELECT sum(price * size)::text FROM onetape.trades", url=url)[0][0], total(tmp_path))
    assert price == lake_price


def total(store):
    with Lake(store) as lake:
        return f"{sum(it.price * it.size for it in lake.trades()):f}"


def test_while_it_runs_its_status_tells_how_far_the_database_is(postgres, tmp_path):
    url = postgres.database()
    process = subprocess.Popen(
        [*RUN, "--store", tmp_path], env={**os.environ, "ONETAPE_POSTGRES": url}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        until = time.monotonic() + 60
        while not (now := status(tmp_path)) or not (now["postgres"] or {}).get("stored", {}).get("trades"):
            assert time.monotonic() < until
            assert process.poll() is None, process.communicate()
        assert now["postgres"]["state"] == "following"
        assert now["postgres"]["lag_ns"] < 5_000_000_000
        for table, rows in now["postgres"]["stored"].items():
            assert rows <= now["stored"].get(table, 0) + 5_000
        assert now["received"]["trades"] >= now["stored"]["trades"]
        children = arguments_of_children(process.pid)
        assert any("follow" in it for it in children)
        assert not any("postgresql" in it for it in children)
    finally:
        process.kill()  # not asked to stop: what it began has to end all the same
        process.communicate()
    until = time.monotonic() + 30
    pid = now["postgres"]["pid"]
    while Path(f"/proc/{pid}").exists() and "follow" in Path(f"/proc/{pid}/cmdline").read_text():
        assert time.monotonic() < until, "it outlives the run"


def status(store):
    it = subprocess.run(
        [sys.executable, "-m", "onetape", "status", "--store", store, "--json"], capture_output=True, text=True,
        check=False)
    return json.loads(it.stdout) if it.stdout else None


def arguments_of_children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{it}/cmdline").read_text().replace("\0", " ") for it in found]


def test_a_database_that_refuses_us_ends_the_run_at_once(postgres, tmp_path):
    url = postgres.url.replace("postgres:@", "nobody:secret@")
    it = run(tmp_path, url, "--duration", "60")
    assert it.returncode == 2
    assert 'role "nobody" does not exist: see user and password' in it.stderr.splitlines()[-1]
    assert "secret" not in it.stdout + it.stderr


def test_a_database_that_is_away_does_not(tmp_path):
    it = run(tmp_path, "postgresql://u:secret@127.0.0.1:1/x", "--duration", "4")
    assert it.returncode == 0
    assert "rows of it, which the next run will bring" in it.stdout
    assert "secret" not in it.stdout + it.stderr
    with Lake(tmp_path) as lake:
        assert lake.count("trades") > 50
        assert lake.verify() == []


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql://", "localhost"])
def test_an_address_of_something_else_is_refused(url, tmp_path):
    it = run(tmp_path, url, "--duration", "1")
    assert it.returncode == 2
    assert "postgres: must be a URL that begins with postgresql://" in it.stderr
