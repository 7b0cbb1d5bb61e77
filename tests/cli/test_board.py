"""The board of a run fits its terminal: what is left out is counted, and what is not live is shown first."""
import pytest
from rich.console import Console

from onetape.cli.board import MIN_BOOKS, Rates, board, percent
from onetape.model import TrustState
from tests.cli.test_status import book, status, venue

STALE = book("STALE-USD", TrustState.STALE)


def drawn(it, width, height):
    console = Console(width=width, height=height, no_color=True)
    with console.capture() as said:
        console.print(board(it, Rates(), width, height))
    return said.get().splitlines()


def of(count, *more):
    books = (*(book(f"B{number}-USD") for number in range(count)), *more)
    return status(venue("kraken", books=books[:count // 2]), venue("okx", books=books[count // 2:]))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("height", [24, 30, 50])
@pytest.mark.parametrize("count", [1, 8, 32, 60])
def test_it_fits(width, height, count):
    lines = drawn(of(count), width, height)
    assert len(lines) <= height
    rows = sum("-USD " in it for it in lines)
    if rows < count:
        assert f"and {count - rows} live: onetape top shows them all" in lines


def test_what_is_not_live_goes_first():
    lines = drawn(of(40, STALE), 80, 24)
    assert any("STALE-USD" in it and "stale" in it for it in lines)


def test_a_terminal_that_is_too_low_shows_some():
    assert sum("-USD " in it for it in drawn(of(20), 80, 6)) == MIN_BOOKS - 1


@pytest.mark.parametrize(("share", "words"), [
    (None, "-"), (1.0, "100 %"), (0.9999, "99.9 %"), (0.5, "50 %"), (0.0, "0 %"),
])
def test_a_share_is_never_rounded_up(share, words):
    assert percent(share) == words
