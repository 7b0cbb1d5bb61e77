"""A live book against a snapshot from elsewhere: at its own number, or at the moment that fits best."""
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetape.book import audit as module
from onetape.book.audit import Audit
from onetape.book.order_book import OrderBook, Window
from onetape.model import BookDelta, BookSnapshot, Levels

HEAD = {"venue": "binance", "symbol": "BTCUSDT", "exchange_time": 1, "received_time": 1, "available_at": 1}
LEVELS = 4


def levels(**sizes):
    """``levels(p9=1)``: price 9, size 1."""
    return Levels.of((Decimal(name[1:]), Decimal(str(size))) for name, size in sizes.items())


BIDS, ASKS = levels(p9=1, p8=2, p7=3), levels(p11=1, p12=2, p13=3)


def snapshot(sequence=10, bids=BIDS, asks=ASKS, depth=0):
    return BookSnapshot(**HEAD, sequence=sequence, bids=bids, asks=asks, depth=depth, verification="sequence")


def delta(after, sequence, bids=(), asks=()):
    return BookDelta(**HEAD, after=after, sequence=sequence, bids=Levels.of(bids), asks=Levels.of(asks))


class Live:
    """A book and its audit, both told the same."""

    def __init__(self, start):
        self.book = OrderBook(Window(0))
        self.book.replace(start.bids, start.asks, start.depth)
        self.sequence = start.sequence
        self.audit = Audit(start, LEVELS)

    def add(self, it):
        self.book.apply(it.bids, it.asks)
        self.sequence = it.sequence
        self.audit.add(it)
        return self

    def by_number(self, it):
        return self.audit.by_number(it, self.book, self.sequence)


def d(price, size):
    return Decimal(price), Decimal(size)


# --- by number ------------------------------------------------------------------------------------------------------


def test_a_snapshot_is_brought_forward_to_the_book():
    live = Live(snapshot()).add(delta(10, 12, bids=[d(9, 5)])).add(delta(12, 14, asks=[d(11, 0)]))
    for number, bids in ((10, BIDS), (12, levels(p9=5, p8=2, p7=3))):
        match = live.by_number(snapshot(number, bids))
        assert (match.bids, match.asks, match.odd) == (1.0, 1.0, frozenset())


def test_a_snapshot_in_the_midst_of_a_delta():
    """Sizes are absolute: the whole delta over a part of it is the same."""
    live = Live(snapshot()).add(delta(10, 14, bids=[d(9, 5), d(8, 6)]))
    assert live.by_number(snapshot(12, levels(p9=5, p8=2, p7=3))).worst == 1.0


def test_what_differs_is_named():
    match = Live(snapshot()).add(delta(10, 11, bids=[d(7, 4)])).by_number(snapshot(10, levels(p9=1, p8=3, p7=3)))
    assert match.asks == 1.0
    assert match.bids == pytest.approx(2 / 3)
    assert match.odd == {(True, d(8, 3))}
    assert match.levels == 3


def test_a_level_that_they_do_not_have():
    match = Live(snapshot()).by_number(snapshot(10, levels(p9=1, p7=3, p6=4)))
    assert match.bids == pytest.approx(2 / 3)
    assert match.odd == {(True, d(6, 4)), (True, d(8, 2))}


@pytest.mark.parametrize("number", [8, 9, 13])
def test_one_from_before_or_after_all_that_is_known(number):
    live = Live(snapshot()).add(delta(10, 12, bids=[d(9, 5)]))
    assert live.by_number(snapshot(number)) is None


def test_a_new_snapshot_of_the_stream_begins_anew():
    live = Live(snapshot())
    live.audit.add(snapshot(20, levels(p5=1)))
    live.book.replace(levels(p5=1), ASKS, 0)
    live.sequence = 20
    assert live.by_number(snapshot(10)) is None
    assert live.by_number(snapshot(20, levels(p5=1))).worst == 1.0


def test_too_much_is_not_compared(monkeypatch):
    monkeypatch.setattr(module, "MAX_EVENTS", 2)
    live = Live(snapshot()).add(delta(10, 11)).add(delta(11, 12))
    assert not live.audit.overrun
    assert live.add(delta(12, 13)).audit.overrun


def test_a_venue_that_numbers_anew():
    assert Live(snapshot()).add(delta(10, 3)).audit.overrun


changes = st.lists(st.tuples(st.booleans(), st.integers(1, 6), st.integers(0, 3)), max_size=4)


@given(st.lists(changes, max_size=12), st.data())
def test_a_right_book_always_matches_and_a_wrong_one_never(batches, data):
    """Safety and liveness, whatever the stream does and wherever the snapshot stands."""
    live, theirs = Live(snapshot()), [snapshot()]
    truth = OrderBook(Window(0))
    truth.replace(BIDS, ASKS, 0)
    for number, batch in enumerate(batches, 11):
        bids = [d(price, size) for bid, price, size in batch if bid]
        asks = [d(price + 10, size) for bid, price, size in batch if not bid]
        live.add(delta(number - 1, number, bids, asks))
        truth.apply(Levels.of(bids), Levels.of(asks))
        theirs.append(snapshot(number, Levels.of(truth.bids()), Levels.of(truth.asks())))
    chosen = data.draw(st.sampled_from(theirs))
    assert live.by_number(chosen).worst == 1.0
    assert live.audit.by_time(chosen).worst == 1.0
    best = live.book.bids(1)
    if best:
        live.book.apply(Levels.of([(best[0][0], best[0][1] + 1)]), Levels.of([]))
        match = live.by_number(theirs[-1])
        assert match.bids < 1.0
        assert (True, theirs[-1].bids.read()[0]) in match.odd


# --- by time --------------------------------------------------------------------------------------------------------


def test_the_best_moment_counts():
    live = Live(snapshot()).add(delta(10, 11, bids=[d(9, 5)])).add(delta(11, 12, bids=[d(9, 6)]))
    for size in (1, 5, 6):
        assert live.audit.by_time(snapshot(0, levels(p9=size, p8=2, p7=3))).worst == 1.0


def test_a_snapshot_from_between_two_changes():
    """One of the two levels had changed already."""
    live = Live(snapshot()).add(delta(10, 11, bids=[d(9, 5), d(8, 6)]))
    assert live.audit.by_time(snapshot(0, levels(p9=5, p8=2, p7=3))).worst == 1.0


def test_what_is_wrong_at_all_moments_is_wrong():
    live = Live(snapshot()).add(delta(10, 11, asks=[d(11, 5)])).add(delta(11, 12, asks=[d(11, 6)]))
    match = live.audit.by_time(snapshot(0, levels(p9=1, p8=9, p7=3)))
    assert match.bids == pytest.approx(2 / 3)
    assert match.asks == 1.0
    assert match.odd == {(True, d(8, 9))}


def test_levels_in_no_order_and_with_fewer_digits():
    """As Kraken's REST has them: three decimals, and no more levels than were asked for."""
    book = snapshot(10, levels(p9="0.12345678", p8=2, p7=3))
    rest = snapshot(0, Levels.of([d(7, "3.000"), d(9, "0.123"), d(8, "2.000")]), depth=3)
    assert Audit(book, LEVELS).by_time(rest).worst == 1.0
    assert Audit(book, LEVELS).by_time(snapshot(0, levels(p9="0.125", p8=2, p7=3))).bids < 1.0


def test_an_empty_side():
    empty = snapshot(0, levels(), ASKS)
    assert Audit(snapshot(), LEVELS).by_time(empty).bids == 0.0
    assert Audit(snapshot(10, levels(), ASKS), LEVELS).by_time(empty).worst == 1.0
