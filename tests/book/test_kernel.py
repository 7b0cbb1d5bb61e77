"""The compiled book by itself: its interface, its memory, and what only a book of integers could get wrong."""
import gc
import itertools
import subprocess
import sys
import weakref
from decimal import Decimal as D

import pytest
from msgspec import Raw

from onetape.book import COMPILED, merged
from onetape.book import OrderBook as Chosen
from onetape.book.order_book import OrderBook as Reference
from onetape.book.order_book import Window
from onetape.book.order_book import merged as merged_slowly
from onetape.model import EMPTY, BadLevels, Levels, Shape
from onetape.service.check import why_not_compiled

_kernel = pytest.importorskip("onetape.book._kernel", reason=why_not_compiled(), exc_type=ImportError)
Kernel = _kernel.OrderBook



def pairs(*levels):
    rows = ",".join(f'["{price}","{size}"]' for price, size in levels)
    return Levels(Raw(f"[{rows}]".encode()), Shape.PAIRS)


def text(levels):
    return [(str(price), str(size)) for price, size in levels]


def test_it_is_the_one_that_runs():
    assert COMPILED
    assert (Chosen, merged) == (Kernel, _kernel.merged)


def test_it_has_the_names_of_the_reference():
    names = {it for it in dir(Reference()) if not it.startswith("_")}
    assert {it for it in dir(Kernel) if not it.startswith("_")} == names - {"take_over"}


@pytest.mark.parametrize("new", [Reference, Kernel])
def test_the_best_is_told_anew_when_only_the_point_has_moved(new):
    """1.0 and 0.1 are the same integer, at two scales."""
    book = new()
    book.replace(pairs(("1.0", "5")), pairs(("2.0", "5")))
    assert text([book.best_bid, book.best_ask]) == [("1.0", "5"), ("2.0", "5")]
    book.replace(pairs(("0.1", "5")), pairs(("0.2", "5")))
    assert text([book.best_bid, book.best_ask]) == [("0.1", "5"), ("0.2", "5")]
    book.replace(pairs(("1.00", "5")), pairs(("2.00", "5")))
    assert text([book.best_bid, book.best_ask]) == [("1.00", "5"), ("2.00", "5")]
    book.apply(pairs(("1", "0"), ("0.01", "5")), pairs(("2", "0"), ("0.02", "5")))
    assert text([book.best_bid, book.best_ask]) == [("0.01", "5"), ("0.02", "5")]
    book.apply(pairs(("0.01", "50")), EMPTY)
    book.apply(pairs(("0.01", "5.0")), pairs(("0.02", "0")))
    assert text([book.best_bid]) == [("0.01", "5.0")]
    assert book.best_ask is None


@pytest.mark.parametrize("new", [Reference, Kernel])
@pytest.mark.parametrize(("price", "size"), [
    ("12345678901234567890.5", "1"), ("1", "12345678901234567890.1234567"), ("1E+30", "1"), ("1E-30", "1"),
    ("1", "1E-200"), ("-5", "1"), ("1", "-2.50"),
    ("9223372036854775807", "9223372036854775808"), ("123456789012345678", "0.000000000000000001"),
    ("1E-19", "1E-19"), ("1." + "0" * 25, "1"), ("1", "1." + "0" * 19), ("0E-40", "1"), ("0E+40", "9E+18"),
])
def test_decimals_that_were_not_read_from_the_wire_may_have_any_digits(new, price, size):
    book = new()
    book.replace(Levels.of([(D(price), D(size))]), EMPTY)
    assert text(book.bids()) == text([(D(price), D(size))])
    assert [it.tolist() for it in book.float64()] == [[float(D(price))], [float(D(size))], [], []]
    book.replace(EMPTY, EMPTY)
    book.apply(pairs(("1.5", "1.50")), EMPTY)
    book.apply(Levels.of([(D(price), D(size))]), Levels.of([(D(price), D(size))]))
    assert text(book.bids()) == text(sorted([(D(price), D(size)), (D("1.5"), D("1.50"))], reverse=True))
    assert text(book.asks()) == text([(D(price), D(size))])
    book.apply(Levels.of([(D(price), D(0))]), EMPTY)
    assert text(book.bids()) == [("1.5", "1.50")]


@pytest.mark.parametrize("new", [Reference, Kernel])
def test_a_refused_message_changes_nothing_not_even_the_scale(new):
    book, bad = new(), Levels(Raw(b'[["1.5","1"],["0.000000000000000001","-1"]]'), Shape.PAIRS)
    book.apply(pairs(("1.0", "1"), ("1.0", "0")), pairs(("2", "3"), ("7", "0")))
    for feed in (lambda: book.apply(pairs(("9", "9")), bad), lambda: book.replace(bad, pairs(("9", "9")), 1)):
        with pytest.raises(BadLevels, match="not a plain non-negative decimal: '-1'"):
            feed()
        assert (text(book.bids()), text(book.asks()), book.orphans, book.known) == ([], [("2", "3")], 1, (None, None))


@pytest.mark.parametrize("new", [Reference, Kernel])
def test_what_the_wider_book_takes_over_is_whole(new):
    """Prices that do not fit 64 bits together: edge, depth, orphans and digits go along, and come back."""
    book = new(Window(10))
    book.required = (3, 0)
    book.replace(pairs(("10.50", "1.0"), ("9", "2")), pairs(("11", "3")), cut_at=2)
    book.apply(pairs(("8", "1"), ("7", "0")), EMPTY)
    assert (book.held, book.known, book.orphans) == ((2, 1), (2, None), 1)
    book.apply(pairs(("0.000000000000000001", "1")), pairs(("123456789012345678", "4")))
    assert text(book.bids()) == [("10.50", "1.0"), ("9", "2")]
    assert text(book.asks()) == [("11", "3"), ("123456789012345678", "4")]
    assert (book.held, book.known, book.orphans, book.lacks) == ((2, 2), (2, None), 1, True)
    book.replace(pairs(("10.50", "1.0")), pairs(("11", "3")))
    book.apply(pairs(("10.5", "2")), pairs(("12", "0")))
    assert (text(book.bids()), book.known, book.orphans) == ([("10.50", "2")], (None, None), 2)


@pytest.mark.parametrize("new", [Reference, Kernel])
@pytest.mark.parametrize("beyond", [[], [("900000000000000001", "7")]])
def test_an_edge_that_no_longer_fits_takes_the_book_along(new, beyond):
    """It stays where the venue's snapshot ended, though its level is gone and all others would fit."""
    book, far = new(), "900000000000000000"
    book.replace(EMPTY, pairs(("1", "1"), (far, "1")), cut_at=2)
    book.apply(EMPTY, pairs((far, "0"), *beyond))
    for number, finer in enumerate(("1.5", "1.25", "1.125"), start=2):
        book.apply(EMPTY, pairs((finer, "1")))
        assert (book.known, book.held) == ((None, number), (0, number + len(beyond)))
    assert text(book.asks()) == [("1", "1"), ("1.125", "1"), ("1.25", "1"), ("1.5", "1")]


@pytest.mark.parametrize("new", [Reference, Kernel])
def test_levels_can_still_be_read_and_may_be_the_same_on_both_sides(new):
    book, levels = new(), pairs(("1.0", "2"), ("1.50", "3"))
    book.apply(levels, levels)
    book.apply(levels, levels)
    assert text(levels) == [("1.0", "2"), ("1.50", "3")]
    assert (text(book.bids()), text(book.asks())) == ([("1.50", "3"), ("1.0", "2")], [("1.0", "2"), ("1.50", "3")])
    assert book.crossed


@pytest.mark.parametrize("new", [Reference, Kernel])
@pytest.mark.parametrize("shape", [Shape.TAGGED_TRIPLES, Shape.TAGGED_OBJECTS])
def test_a_tag_that_the_shape_does_not_know_is_refused(new, shape):
    rows = {Shape.TAGGED_TRIPLES: b'[["other","1","2"]]',
            Shape.TAGGED_OBJECTS: b'[{"side":"other","price_level":"1","new_quantity":"2"}]'}
    with pytest.raises(BadLevels, match="Invalid enum value 'other'"):
        new().apply(Levels(Raw(rows[shape]), shape, "other"), EMPTY)


@pytest.mark.parametrize("new", [Reference, Kernel])
@pytest.mark.parametrize("levels", [
    [("3.3", "0.1"), ("2.675", "12345678901234567.8"), ("0.3", "9007199254740993"), ("0.10", "0.000000000000000003")],
    [("90071992547409951.5", "3.14159265358979323"), ("9007199254740993", "0.7"), ("0", "1e17")],
    [("123456789012345678", "1"), ("0.000000000000000003", "2.5")],
])
def test_float64_is_the_nearest_float_as_a_buffer(new, levels):
    book = new()
    book.replace(pairs(*levels), pairs(*levels))
    prices, sizes = ([float(D(it)) for it in column] for column in zip(*levels, strict=True))
    views = [memoryview(it) for it in book.float64()]
    assert [it.format for it in views] == ["d"] * 4
    assert [it.tolist() for it in views] == [prices, sizes, prices[::-1], sizes[::-1]]
    assert [memoryview(it).tolist() for it in book.float64(1)] == [prices[:1], sizes[:1], prices[-1:], sizes[-1:]]
    assert [len(it) for it in new().float64()] == [0] * 4


@pytest.mark.parametrize(("new", "merge"), [(Reference, merged_slowly), (Kernel, _kernel.merged)])
def test_several_books_as_one(new, merge):
    """Equal prices in the order of the books, each in its own digits; what lies beyond an edge is not shown."""
    one, two, wide = new(), new(), new()
    one.replace(pairs(("10.0", "1"), ("9.5", "2"), ("8", "3")), pairs(("11", "1")), cut_at=2)
    one.apply(pairs(("1", "1")), EMPTY)
    two.replace(pairs(("10", "4"), ("9.75", "5")), pairs(("11.00", "2"), ("10.5", "1")))
    wide.replace(pairs(("0.000000000000000001", "9")), pairs(("900000000000000000", "9")))
    bids, asks = merge([one, two, new()], 0)
    assert [(*text([it[:2]])[0], it[2]) for it in bids] == [
        ("10.0", "1", 0), ("10", "4", 1), ("9.75", "5", 1), ("9.5", "2", 0), ("8", "3", 0),
    ]
    assert [(*text([it[:2]])[0], it[2]) for it in asks] == [("10.5", "1", 1), ("11", "1", 0), ("11.00", "2", 1)]
    assert merge([one, two], 2) == (bids[:2], asks[:2])
    assert merge([wide, two], 1) == ([(D(10), D(4), 1)], [(D("10.5"), D(1), 1)])
    assert merge([], 3) == ([], [])
    far = new()  # holds whole numbers that have no room for the other's two digits behind the point
    far.replace(EMPTY, pairs(("900000000000000000", "3")))
    assert merge([far, two])[1] == [*((*it[:2], 1) for it in two.asks()), (D("900000000000000000"), D(3), 0)]


@pytest.mark.parametrize("count", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("how", ["snapshot", "deltas", "churn"])
def test_a_level_takes_32_bytes_at_most(count, how):
    prices = [(f"{number / 100:.2f}", "1.50") for number in range(2 * count)]
    book = Kernel(Window(resends=True))
    if how == "deltas":
        for number in range(0, count, 50):
            book.apply(pairs(*prices[number : number + 50]), pairs(*prices[count + number : count + number + 50]))
    else:
        book.replace(pairs(*prices[:count]), pairs(*prices[count:]), count)
    if how == "churn":  # the best goes up, the worst falls out
        for number in range(2 * count, 5 * count, 40):
            book.apply(pairs(*[(f"{it / 100:.2f}", "1") for it in range(number, number + 40)]), EMPTY)
    assert book.held == (count, count)
    assert sys.getsizeof(book) <= 32 * 2 * count + 512


def test_a_book_that_was_long_once_gives_its_memory_back():
    book, prices = Kernel(), [(str(number), "1") for number in range(100_000)]
    book.replace(pairs(*prices), EMPTY)
    book.apply(pairs(*[(price, "0") for price, _ in prices[:99_000]]), EMPTY)
    assert book.held == (1_000, 0)
    assert sys.getsizeof(book) <= 200_000
    assert text(book.bids(2)) == [("99999", "1"), ("99998", "1")]


@pytest.mark.parametrize("new", [Reference, Kernel])
@pytest.mark.parametrize("window", [Window(), Window(5), Window(resends=True), Window(2**70)])
def test_a_depth_beyond_every_book_cuts_nothing(new, window):
    book = new(window)
    book.replace(pairs(("2", "1"), ("1", "1")), EMPTY, 2**70)
    book.apply(pairs(("3", "1")), EMPTY)
    assert (book.held, book.known) == ((3, 0), (None, None))


def test_no_more_memory_is_taken_than_it_says():
    """In a process of its own, whose memory nobody else fills."""
    code = """
import sys
import weakref
from msgspec import Raw
from onetape.book._kernel import OrderBook
from onetape.model import Levels, Shape
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def levels():
    return Levels(Raw(memoryview(wire)), Shape.PAIRS)
wire = ("[" + ",".join(f'["{it / 100:.2f}","1.5"]' for it in range(100_000)) + "]").encode()
books = [OrderBook() for _ in range(9)]
books[0].replace(levels(), levels())
before = resident()
for it in books[1:]:
    it.replace(levels(), levels())
print(resident() - before, sum(map(sys.getsizeof, books[1:])))
"""
    if sys.platform != "linux":
        pytest.skip("only Linux tells a process's memory in /proc/self/statm")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    taken, said = map(int, done.stdout.split())
    assert said <= 8 * 200_000 * 32
    assert taken < said * 1.1 + 2**20


@pytest.mark.parametrize(("new", "merge"), [(Reference, merged_slowly), (Kernel, _kernel.merged)])
def test_a_depth_below_zero_is_refused_everywhere(new, merge):
    """A venue's ack may say so: nothing is cut by it, and nothing is read beyond its end."""
    book = new(Window(10, resends=True))
    book.replace(pairs(("1", "1")), pairs(("2", "1")))
    with pytest.raises(BadLevels, match="cut at -1 levels"):
        book.replace(pairs(("3", "1")), EMPTY, -1)
    for ask in (book.bids, book.asks, book.float64, book.digits, lambda depth: merge([book], depth)):
        with pytest.raises(ValueError, match="a depth of -1"):
            ask(-1)
    for behind in ((-1, 0), (0, -1), (29, 0), (0, 2**40)):
        with pytest.raises(ValueError, match="digits behind the point"):
            book.digits(10, *behind)
    assert (book.held, text(book.bids()), text(book.asks())) == ((1, 1), [("1", "1")], [("2", "1")])


def test_books_of_both_kinds_and_of_any_source_are_one():
    books = [Kernel(), Reference()]
    for it in books:
        it.replace(pairs(("1", "1")), EMPTY)
    expected = ([(D("1"), D("1"), 0), (D("1"), D("1"), 1)], [])
    assert _kernel.merged(books) == _kernel.merged(iter(books)) == merged_slowly(iter(books)) == expected
    assert _kernel.merged([]) == merged_slowly([]) == ([], [])
    with pytest.raises(AttributeError):
        _kernel.merged([None])


def test_who_reads_may_be_interrupted_by_who_writes():
    """Making Python objects may run a finalizer, or another thread: what is read is a copy, as it was at the call."""
    prices = [(f"{number}.5", "1") for number in range(300)]
    books = [Kernel(), Kernel()]

    class Writer:
        def __del__(self):
            for book in books:
                book.replace(pairs(*prices[: next(lengths)]), EMPTY)

    lengths = itertools.cycle((1, 300, 0, 150))
    seen = set()
    for _ in range(200):
        for read in (books[0].bids, books[0].float64, lambda: _kernel.merged(books), lambda: books[0].best_bid):
            writer = Writer()
            writer.itself = writer  # only the collector of garbage ends it
            del writer
            gc.set_threshold(1)
            try:
                read()
                seen.add(len(books[0].bids()))
            finally:
                gc.set_threshold(700, 10, 10)
    assert seen <= {0, 1, 150, 300}
    assert len(seen) > 1


def test_wrong_arguments_are_exceptions_and_change_nothing():
    book = Kernel()
    book.replace(pairs(("100.01", "1")), EMPTY)
    for wrong in (
        lambda: Kernel.bids(None), lambda: Kernel.bids(Reference()), lambda: Kernel.apply(5, EMPTY, EMPTY),
        lambda: book.replace(pairs(("1.23456", "1")), EMPTY, None), lambda: book.apply(None, EMPTY),
        lambda: book.bids("x"), lambda: book.digits(None),
    ):
        with pytest.raises((TypeError, AttributeError)):
            wrong()
    assert text(book.bids()) == [("100.01", "1")]


@pytest.mark.parametrize("new", [Reference, Kernel])
def test_levels_nested_without_end_are_refused(new):
    deep = b'[{"price":1,"qty":1,"x":' + b"[" * 100_000
    with pytest.raises(BadLevels):
        new().apply(Levels(Raw(deep), Shape.PRICE_QTY), EMPTY)


@pytest.mark.parametrize("new", [Reference, Kernel])
def test_it_can_be_made_into_another_class(new):
    class Named(new):
        def __init__(self, name):
            super().__init__(Window(5))
            self.name = name

    named = Named("x")
    named.replace(pairs(("1", "1")), EMPTY)
    assert (weakref.ref(named)(), named.window, text(named.bids())) == (named, Window(5), [("1", "1")])
