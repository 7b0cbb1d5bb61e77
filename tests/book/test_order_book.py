"""Levels in, best levels out: exact, bounded, and never more than is known."""
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from onetape.book.order_book import OrderBook, Window
from onetape.model import EMPTY, BadLevels, Levels, Shape


def levels(*pairs):
    return Levels.of([(D(price), D(size)) for price, size in pairs])


def test_best_first_and_the_digits_of_the_wire():
    book = OrderBook()
    book.replace(levels(("1.10", "5.0"), ("1.20", "7")), levels(("1.4", "1"), ("1.30", "2.500")))
    assert [(str(p), str(q)) for p, q in book.bids()] == [("1.20", "7"), ("1.10", "5.0")]
    assert [(str(p), str(q)) for p, q in book.asks()] == [("1.30", "2.500"), ("1.4", "1")]


def test_one_price_however_it_is_written():
    book = OrderBook()
    book.replace(levels(("0.10", "1")), EMPTY)
    book.apply(levels(("0.1", "2")), EMPTY)
    assert book.bids() == [(D("0.1"), D(2))]
    book.apply(levels(("0.100", "0.00")), EMPTY)
    assert book.bids() == []


def test_changes_in_order_the_last_one_wins():
    book = OrderBook()
    book.apply(EMPTY, levels(("5", "1"), ("5", "0"), ("5", "3")))
    assert book.asks() == [(D(5), D(3))]


def test_removing_what_is_not_there_is_counted_and_harmless():
    book = OrderBook()
    book.apply(levels(("5", "0")), levels(("6", "0")))
    assert (book.orphans, book.held) == (2, (0, 0))


def test_a_bad_side_leaves_both_sides_as_they_were():
    book = OrderBook()
    book.replace(levels(("1", "1")), levels(("2", "1")))
    bad = Levels(Raw(b'[["3","1"],["4","-1"]]'), Shape.PAIRS)
    with pytest.raises(BadLevels):
        book.apply(levels(("1", "9")), bad)
    with pytest.raises(BadLevels):
        book.replace(EMPTY, bad)
    assert (book.bids(), book.asks()) == ([(D(1), D(1))], [(D(2), D(1))])


@pytest.mark.parametrize(("bids", "asks", "crossed"), [
    ("5", "6", False), ("6", "6", True), ("7", "6", True),
])
def test_locked_counts_as_crossed(bids, asks, crossed):
    book = OrderBook()
    book.replace(levels((bids, "1")), levels((asks, "1")))
    assert book.crossed is crossed


def test_one_sided_books_are_not_crossed():
    book = OrderBook()
    book.replace(levels(("5", "1")), EMPTY)
    assert not book.crossed
    assert book.asks() == []


def test_a_resending_venue_is_truncated_to_its_depth():
    book = OrderBook(Window(resends=True))
    book.replace(levels(("1", "1"), ("2", "1")), levels(("3", "1"), ("4", "1")), cut_at=2)
    book.apply(levels(("2.5", "1")), levels(("2.8", "1")))
    assert book.bids() == [(D("2.5"), D(1)), (D(2), D(1))]
    assert book.asks() == [(D("2.8"), D(1)), (D(3), D(1))]
    assert book.known == (None, None)


def test_levels_beyond_the_edge_of_a_cut_snapshot_are_hidden():
    book = OrderBook()
    book.replace(levels(("10", "1"), ("9", "1")), levels(("11", "1")), cut_at=2)
    book.apply(levels(("5", "1")), levels(("99", "1")))
    assert book.bids() == [(D(10), D(1)), (D(9), D(1))]  # 5 may be true, but what lies between is not known
    assert book.asks() == [(D(11), D(1)), (D(99), D(1))]  # that side came whole
    assert book.held == (3, 2)
    assert book.known == (2, None)
    book.apply(levels(("10", "0"), ("9", "0")), EMPTY)
    assert book.bids() == []


def test_a_full_depth_venue_is_cut_to_a_known_edge_that_only_moves_in():
    book = OrderBook(Window(depth=10))
    book.replace(levels(*[(str(price), "1") for price in range(1, 46_001)]), EMPTY)
    assert book.held == (1_000, 0)
    assert book.known == (1_000, None)
    book.apply(levels(("50000", "1")), EMPTY)
    assert book.held == (1_000, 0)
    assert book.bids()[-1][0] == D(45_002)
    book.apply(levels(("45001", "1")), EMPTY)  # was cut: it would stand beyond the edge
    assert book.held == (1_000, 0)
    book.apply(levels(("50000", "0")), EMPTY)
    assert book.known == (999, None)


price, size = st.integers(1, 30).map(D), st.integers(0, 3).map(D)
change = st.tuples(st.booleans(), price, size)


@given(st.lists(change, max_size=60), st.integers(0, 40))
def test_the_book_is_a_dictionary_that_is_sorted(changes, depth):
    book, plain = OrderBook(), ({}, {})
    for is_bid, p, q in changes:
        book.apply(*[Levels.of([(p, q)]) if it is is_bid else EMPTY for it in (True, False)])
        side = plain[0 if is_bid else 1]
        side.pop(p, None)
        if q:
            side[p] = q
    assert book.bids(depth) == sorted(plain[0].items(), reverse=True)[: depth or None]
    assert book.asks(depth) == sorted(plain[1].items())[: depth or None]


@given(st.lists(change, max_size=80), st.integers(1, 5))
def test_a_cut_book_shows_a_true_prefix_of_the_whole_one(changes, depth):
    """Whatever is cut or hidden, what is shown is the best of the truth, without a hole."""
    whole, cut = OrderBook(), OrderBook(Window(depth))
    cut.window = SmallWindow(depth)
    for book in (whole, cut):
        book.replace(Levels.of([(D(p), D(1)) for p in range(1, 20)]), Levels.of([(D(p), D(1)) for p in range(40, 60)]))
    for is_bid, p, q in changes:
        for book in (whole, cut):
            moved = p if is_bid else p + 40
            book.apply(*[Levels.of([(moved, q)]) if it is is_bid else EMPTY for it in (True, False)])
    for shown, true in ((cut.bids(), whole.bids()), (cut.asks(), whole.asks())):
        assert shown == true[: len(shown)]
        assert len(shown) <= 2 * depth


class SmallWindow(Window, frozen=True):
    """Keeps 2 x depth, so that small histories reach it."""

    def keep(self, cut_at):
        return 2 * self.depth
