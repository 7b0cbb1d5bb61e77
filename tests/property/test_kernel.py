"""The compiled book is the reference: over recordings, random operations, and bytes that nobody should send."""
import os
import subprocess
import sys
from itertools import islice, product
from pathlib import Path
from random import Random
from threading import Thread

import pytest
from msgspec import Raw

from onetape import demo, venues
from onetape.book.order_book import OrderBook as Reference
from onetape.book.order_book import Window, merged
from onetape.feed.recording import open_recording
from onetape.feed.replay import PATIENT, Replay
from onetape.feed.session import Session
from onetape.model import BadLevels, Levels, Shape
from onetape.service.check import why_not_compiled
from tests.e2e.test_recordings import VENUE_OF
from tests.property.fuzz_kernel import BATCH, MAX_GROWTH, WARM, WINDOWS, Both, play, run, shrunk, state
from tests.property.memory import alone, followed, wall
from tests.property.spoiled_levels import EMPTY, SHAPES, TAGS, Operation, Side, operations, written

_kernel = pytest.importorskip("onetape.book._kernel", reason=why_not_compiled(), exc_type=ImportError)
Kernel = _kernel.OrderBook

LONG = bool(os.environ.get("ONETAPE_LONG"))
OPERATIONS = 250  # of one market
MARKETS = 4_000 if LONG else 40
BATCHES = 8_000 if LONG else 2 * WARM
RECORDINGS = VENUE_OF | {"kraken/v2_20260720_btcusd_d10_sample70.jsonl": "kraken"}
FIXTURES = ("binance", "binance-usdm", "bybit", "coinbase", "coinbase-exchange", "kraken", "okx")
COMMAND = Path(sys.executable).with_name("onetape")


# --- recordings -------------------------------------------------------------------------------------------------------


class Twin:
    """An order book that is two; who asks it, asks both, and the answers have to be the same."""

    made: list["Twin"]

    def __init__(self, window):
        self.kernel, self.reference = Kernel(window), Reference(window)
        self.operations = 0
        self.made.append(self)

    def replace(self, bids, asks, cut_at=0):
        self._feed(lambda book, *sides: book.replace(*sides, cut_at), bids, asks)

    def apply(self, bids, asks):
        return self._feed(lambda book, *sides: book.apply(*sides), bids, asks)

    def _feed(self, feed, bids, asks):
        said = []
        for book in (self.reference, self.kernel):
            try:
                said.append(feed(book, copied(bids), copied(asks)))
            except BadLevels as error:
                said.append(error)
        assert repr(said[0]) == repr(said[1])
        if isinstance(said[0], BadLevels):
            raise said[0]
        self.operations += 1
        assert repr((self.bids(25), self.asks(25))) == repr((self.reference.bids(25), self.reference.asks(25)))

        return said[0]

    @property
    def required(self):
        return self.kernel.required

    @required.setter
    def required(self, levels):
        self.kernel.required = self.reference.required = levels

    def __getattr__(self, name):
        ours, theirs = getattr(self.kernel, name), getattr(self.reference, name)
        if not callable(ours):
            assert repr(ours) == repr(theirs), name
            return ours

        def ask(*arguments, **named):
            answer = ours(*arguments, **named)
            assert repr(answer) == repr(theirs(*arguments, **named)), name
            return answer

        return ask


def copied(levels):
    return Levels.of(levels.read()) if levels.raw is None else Levels(levels.raw, levels.shape, levels.tag)


class Doubled(Replay):
    """Its session keeps twins."""

    def _prepare(self, it):
        if not self.door.sessions:
            self.door.sessions[it.connection] = Session(
                venues.create(self._venue), None, it.time, depth=self._depth, timings=PATIENT, book=Twin,
            )
        return super()._prepare(it)


def replayed(path, venue, depth):
    """The twins of a recording, both books of each compared to the last digit."""
    Twin.made = []
    for _ in Doubled(open_recording(path), venue, depth):
        pass
    for it in Twin.made:
        assert state(it.kernel) == state(it.reference)
    return Twin.made


@pytest.mark.parametrize("depth", [0, 10])
@pytest.mark.parametrize("name", RECORDINGS)
def test_every_recording_makes_the_same_book(recordings, name, depth):
    twins = replayed(recordings / name, RECORDINGS[name], depth)
    assert sum(it.operations for it in twins) > 0


@pytest.mark.parametrize("venue", FIXTURES)
def test_every_fixture_makes_the_same_book(fixtures, venue):
    replayed(fixtures / f"{venue.replace('-', '_')}.jsonl", venue, 0)


def test_every_event_is_the_same_with_either_book():
    """In a process of its own, that has chosen its book by itself."""
    bare = {key: value for key, value in os.environ.items() if key != "ONETAPE_PURE"}
    hashes = {
        subprocess.run(
            [COMMAND, "replay", demo.SESSION, "--hash"], env=bare | pure, capture_output=True, text=True, check=True,
        ).stdout
        for pure in ({}, {"ONETAPE_PURE": "1"})
    }
    assert len(hashes) == 1


# --- random operations ------------------------------------------------------------------------------------------------


def same(window, made):
    if play(Kernel, window, made, alone):
        pytest.fail(shrunk(Kernel, window, made, alone))


@pytest.mark.long
@pytest.mark.parametrize("part", range(8))
def test_any_operations_in_any_window(part):
    """Levels in all spellings, twice in a message, removed without being there, prices of growing scale."""
    for seed in range(part, MARKETS, 8):
        random = Random(f"operations {seed}")
        made = operations(random, most=random.choice((1, 4, 12, 30)))
        same(random.choice(WINDOWS), list(islice(made, OPERATIONS)))


@pytest.mark.parametrize("window", [Window(10), Window(400), Window(10, resends=True), Window(resends=True)])
@pytest.mark.parametrize("shape", SHAPES)
def test_deep_books_are_cut_at_the_same_level(window, shape):
    random, both = Random(f"{window} {shape}"), Both(Kernel, window)

    def side(tag, sign, count, middle):
        ticks = [middle + sign * int(random.expovariate(0.002)) for _ in range(count)]
        levels = [(f"{it / 100:.2f}", random.choice(("0", "0.00", "1", "2.50", "7.1"))) for it in ticks]
        return Side(written(levels, shape, tag, random), shape, tag)

    for number in range(300):
        count, middle = (3_000 if number % 100 == 0 else 20), 5_000_000 + 10 * (number % 100)
        bids, asks = (side(tag, sign, count, middle + sign) for tag, sign in zip(TAGS[shape], (-1, 1), strict=True))
        cut_at = random.choice((0, 1_000, 1_500)) if count > 20 else None
        assert both.feed(Operation(bids, asks, cut_at)) is None
        assert number % 25 or both.difference() is None


@pytest.mark.parametrize("scale", range(19))
def test_prices_that_become_finer_until_they_fit_no_more(scale):
    """From whole numbers on, digit by digit, and back; at the greatest prices that a book may hold."""
    made = []
    for digits in [*range(scale + 1), 0]:
        whole = "9" * (18 - digits) or "0"
        text = f"{whole}.{'9' * digits}" if digits else whole
        small = f"0.{'1' * digits}" if digits else "1"
        for levels in ([(text, "1.0")], [(small, "1"), ("0.10", "3")], [(text, "0"), (small, "0.5")]):
            message = written(levels, Shape.PAIRS, "", Random(0))
            made.append(Operation(Side(message, Shape.PAIRS, ""), Side(message, Shape.PAIRS, ""), None))
    made += [it._replace(cut_at=0) for it in made]
    same(Window(), made)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_several_books_are_the_same_one_book(part):
    """Of one market at several moments, and of several; with levels beyond an edge, and prices that do not fit."""
    for seed in range(part, MARKETS, 4):
        random = Random(f"merged {seed}")
        both = [Both(Kernel, random.choice(WINDOWS)) for _ in range(random.randrange(5))]
        for it in both:
            made = operations(Random(f"market {seed} {random.randrange(2)}"), most=10)
            for operation in islice(made, random.randrange(20), 25):
                assert it.feed(operation) is None
        for depth in (0, 1, 5, 40):
            expected = merged([it.reference for it in both], depth)
            assert repr(_kernel.merged([it.kernel for it in both], depth)) == repr(expected)


def test_books_in_several_threads_do_not_disturb_one_another():
    found = []

    def work(seed):
        random = Random(seed)
        made = operations(random, most=40)
        found.append(play(Kernel, WINDOWS[seed % len(WINDOWS)], islice(made, 100), followed(b"5")))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [Thread(target=work, args=(seed,)) for seed in range(6)]
        for it in threads:
            it.start()
        for it in threads:
            it.join()
    finally:
        sys.setswitchinterval(before)
    assert found == [None] * 6


# --- hostile bytes ----------------------------------------------------------------------------------------------------

MESSAGES = {
    Shape.PAIRS: b'[["100.10","2.50"],["0","0.0","0","4"],["1e-5","7"]]',
    Shape.PRICE_QTY: b'[{"price":100.10,"qty":2.50},{"price":0.5,"qty":0.0},{"qty":7,"price":1e-5}]',
    Shape.TAGGED_TRIPLES: b'[["buy","100.10","2.50"],["sell","x","\\u0031"],["buy","1e-5","7"]]',
    Shape.TAGGED_OBJECTS: b'[{"side":"bid","event_time":"x","price_level":"100.10","new_quantity":"2.50"},'
                          b'{"new_quantity":"","price_level":"5","side":"offer"}]',
}


@pytest.mark.parametrize("walled", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_cut_off_at_every_byte_and_with_every_other_byte_in_its_place(shape, walled):
    """What follows in the frame would complete what was cut off; or nothing follows that could be read at all."""
    message, tag = MESSAGES[shape], TAGS[shape][0]
    both = Both(Kernel, Window())
    bad = [message[:end] for end in range(len(message))]
    bad += [message[:at] + message[at + 1 :] for at in range(len(message))]
    bad += [message[:at] + bytes([byte]) + message[at + 1 :] for at in range(len(message)) for byte in range(256)]
    for it in bad:
        laid = wall if walled else followed(message[len(it) :] + b'5"]]')
        assert both.feed(Operation(Side(it, shape, tag), EMPTY, None), laid) is None, it
    assert both.difference() is None


def test_every_short_text_that_looks_like_a_number():
    """Up to five of its characters, as JSON's number and in quotes, as price and as size."""
    characters = "01.9e-+ "
    both = Both(Kernel, Window())
    for length in range(6 if LONG else 5):
        for it in product(characters, repeat=length):
            text = "".join(it)
            for shape, message in (
                (Shape.PAIRS, f'[["{text}","1"],["2","{text}"]]'),
                (Shape.PRICE_QTY, f'[{{"price":{text},"qty":1}}]'), (Shape.PRICE_QTY, f'[{{"price":2,"qty":{text}}}]'),
            ):
                operation = Operation(Side(message.encode(), shape, ""), EMPTY, None)
                assert both.feed(operation) is None, message
    assert both.difference() is None


@pytest.mark.parametrize("digits", range(1, 45))
def test_numbers_as_long_as_they_may_be_and_longer(digits):
    both = Both(Kernel, Window())
    for nines in ("9" * digits, "1" + "0" * (digits - 1), "0" * (digits - 1) + "1"):
        for point in range(1, digits + 1):
            for zeros in (0, 1, 9, 18):
                for exponent in ("", "e0", "e-1", "E+1", "e17", "e-18", "e28", "e-28"):
                    fraction = nines[point:] + "0" * zeros
                    text = nines[:point] + ("." + fraction if fraction else "") + exponent
                    message = f'[["{text}","1"],["1","{text}"]]'.encode()
                    assert both.feed(Operation(Side(message, Shape.PAIRS, ""), EMPTY, None)) is None, text
    assert both.difference() is None


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2])
def test_hostile_bytes_are_refused_as_the_reference_refuses_them(seed):
    """A sample of what `fuzz_kernel.py` does by the million; nothing of it stays in memory."""
    assert run(Kernel, seed, range(BATCHES // 2)) < MAX_GROWTH
    assert BATCHES * BATCH > 100_000


def test_levels_nested_too_deeply_are_refused_alike():
    for inner in (b"[" * 100_000, b'{"a":' * 100_000):
        for shape in SHAPES:
            levels = [Levels(Raw(b"[" + inner), shape, TAGS[shape][0]) for _ in range(2)]
            raised = []
            for book, it in zip((Reference(), Kernel()), levels, strict=True):
                with pytest.raises((BadLevels, RecursionError)) as error:
                    book.apply(it, it)
                raised.append((error.type, str(error.value)))
            assert raised[0] == raised[1]
