"""A small recording, and the store that it makes."""
from shutil import copytree

import pytest

from tests.cli.test_store import START, good, trade


def write(folder):
    """Trades over three minutes, one of them impossible; of the ids 1 to 6 the fifth never came."""
    frames = [
        (0, trade(1, 0)), (30, trade(2, 30, "101.00")), (61, trade(3, 61, "99.9", "2")), (62, trade(4, 62, "0")),
        (90, trade(6, 90, "100.5")), (95, trade(6, 90, "100.5")), (130, trade(7, 130)),
    ]
    path = folder / "spot.jsonl"
    path.write_text("".join(f"{frame}\n" for _, frame in frames))
    (folder / "spot.recv_ns.txt").write_text("".join(f"{START + at * 1_000}000000\n" for at, _ in frames))
    return path


@pytest.fixture
def recording(tmp_path):
    return write(tmp_path)


@pytest.fixture(scope="session")
def played(tmp_path_factory):
    """The store of the recording, for all tests: not to be changed."""
    folder = tmp_path_factory.mktemp("played")
    good("replay", write(folder), "--venue", "binance", "--store", folder / "data")
    return folder / "data"


@pytest.fixture
def store(played, tmp_path):
    return copytree(played, tmp_path / "data")
