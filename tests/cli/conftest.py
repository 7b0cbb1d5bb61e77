"""A small recording, and the store that it makes."""
import pytest

from tests.cli.test_store import START, good, trade


@pytest.fixture
def recording(tmp_path):
    """Trades over three minutes, one of them impossible; of the ids 1 to 6 the fifth never came."""
    frames = [
        (0, trade(1, 0)), (30, trade(2, 30, "101.00")), (61, trade(3, 61, "99.9", "2")), (62, trade(4, 62, "0")),
        (90, trade(6, 90, "100.5")), (95, trade(6, 90, "100.5")), (130, trade(7, 130)),
    ]
    path = tmp_path / "spot.jsonl"
    path.write_text("".join(f"{frame}\n" for _, frame in frames))
    (tmp_path / "spot.recv_ns.txt").write_text("".join(f"{START + at * 1_000}000000\n" for at, _ in frames))
    return path


@pytest.fixture
def store(recording, tmp_path):
    good("replay", recording, "--venue", "binance", "--store", tmp_path / "data")
    return tmp_path / "data"
