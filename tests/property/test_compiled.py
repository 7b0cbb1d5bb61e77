"""What is compiled beside the book is its reference: numbers, running candles, what is known of trades and silence."""
import gc
import sys
from decimal import Decimal
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from onetape.candles import COMPILED as CANDLES
from onetape.candles import RunningCandle
from onetape.candles.running import RunningCandle as Reference
from onetape.clock import SECOND
from onetape.feed import liveness
from onetape.model import BUY, SELL, BadNumber, Channel, InstrumentId, Trade
from onetape.model import numbers
from onetape.service.check import why_not_compiled
from onetape.tape import validation
from onetape.tape.validation import BEYOND, EARLIEST, SanityCheck

COMPILED = numbers.COMPILED and CANDLES and validation.COMPILED and liveness.COMPILED
pytestmark = pytest.mark.skipif(not COMPILED, reason=f"not all is compiled here; of the book: {why_not_compiled()}")

ID = InstrumentId("binance", "BTCUSDT")
NOW = 1_795_000_000 * SECOND
FIELDS = (
    "trades", "open", "high", "low", "close", "first", "last", "first_id", "last_id", "volume", "quote_volume",
    "taker_buy_volume",
)

plain = st.from_regex(r"\d{1,12}(\.\d{1,10})?", fullmatch=True)
exotic = st.from_regex(r"[+-]?\d{0,30}\.?\d{0,20}([eE][+-]?\d{1,3})?[ \n]?", fullmatch=True)
texts = plain | exotic | st.text(max_size=24)


# --- numbers ----------------------------------------------------------------------------------------------------------


def outcome(read, text):
    try:
        return read(text).as_tuple()
    except BadNumber as error:
        return str(error)


@given(texts)
def test_a_number_is_read_or_refused_with_the_digits_and_words_of_the_reference(text):
    for compiled, reference in zip((numbers.number, numbers.level_number), numbers.REFERENCE, strict=True):
        assert compiled is not reference
        assert outcome(compiled, text) == outcome(reference, text)
        assert outcome(compiled, text) == outcome(reference, text)  # once it is remembered


@pytest.mark.parametrize("text", [
    "", ".", "0", "1.", ".1", "00.10", "9999999999.99999999", "99999999990", "1.000000000", "1" * 10 + "." + "1" * 9,
    "\ud800", "1\u0661", "\u06611", "1\x00", "1.0\x00", "\x001", "-0", "1e1", "1_0", " 1", "9" * 18, "9" * 19, "9" * 28,
])
def test_the_edges_of_a_number(text):
    for compiled, reference in zip((numbers.number, numbers.level_number), numbers.REFERENCE, strict=True):
        assert outcome(compiled, text) == outcome(reference, text)


@pytest.mark.parametrize("it", [None, 1, b"1", 1.0])
def test_what_is_no_text_is_no_number(it):
    for read in (numbers.number, numbers.level_number):
        with pytest.raises(TypeError):
            read(it)


def test_what_was_read_goes_when_it_is_written_over():
    """Both memos have so many places, and each place one owner."""
    def read_many(first):
        for at in range(first, first + 50_000):
            assert numbers.number(f"{at}.{at % 100:02}") == Decimal(f"{at}.{at % 100:02}")

    read_many(0)
    gc.collect()
    before = sys.getallocatedblocks()
    read_many(10**6)
    gc.collect()
    assert sys.getallocatedblocks() < before + 5_000


# --- the running candle -----------------------------------------------------------------------------------------------


def number_of(dice):
    """Mostly short; now and then longer than what is summed as integers, or with an exponent."""
    places = dice.choice((0, 1, 2, 8, 8, 8))
    value = Decimal(dice.randint(1, 10 ** dice.randint(1, 10))).scaleb(-places)
    if dice.random() < 0.02:
        value = dice.choice((Decimal("1E+3"), Decimal("0.000000000123"), Decimal(10**19), Decimal("1E-18")))
    return value


def trade_of(dice, id):
    return Trade(
        venue="binance", symbol="BTCUSDT", received_time=NOW, available_at=NOW, channel=Channel.TRADES,
        exchange_time=NOW + dice.randint(0, 20), id=dice.choice((str(id), str(dice.randint(0, 50)), "x")), after=None,
        price=number_of(dice), size=number_of(dice), side=dice.choice((BUY, SELL)),
    )


def said(candle):
    finished = candle.candle(ID, "1m", NOW, NOW + 60 * SECOND, NOW, complete=True, final=True)
    return [getattr(candle, it) for it in FIELDS], repr(finished)


@pytest.mark.parametrize("seed", range(150))
def test_candles_out_of_the_same_trades_are_the_same_digit_for_digit(seed):
    dice = Random(seed)
    first = trade_of(dice, 0)
    candles = [(RunningCandle(first), Reference(first))]
    for step in range(60):
        compiled, reference = dice.choice(candles)
        other = dice.choice(candles)
        match dice.randint(0, 9):
            case 0:
                candles.append((compiled.copy(), reference.copy()))
            case 1:
                another = trade_of(dice, step)
                candles.append((RunningCandle(another), Reference(another)))
            case 2 if other[0] is not compiled:
                compiled.merge(other[0])
                reference.merge(other[1])
            case 3:
                carried = compiled.carried(), reference.carried()
                assert said(carried[0]) == said(carried[1])
            case 4:
                finished = reference.candle(ID, "1s", NOW, NOW + SECOND, NOW, complete=True, final=True)
                candles.append((RunningCandle.of(finished), Reference.of(finished)))
            case _:
                more = trade_of(dice, step)
                compiled.add(more)
                reference.add(more)
        assert said(compiled) == said(reference)


def test_sums_that_128_bits_do_not_hold_are_summed_all_the_same():
    longest = Decimal("9999999999.99999999")
    most = structs.replace(trade_of(Random(1), 1), price=longest, size=longest)
    compiled, reference = RunningCandle(most), Reference(most)
    for _ in range(200):
        compiled.add(most)
        reference.add(most)
    assert said(compiled) == said(reference)
    for _ in range(10):
        compiled.merge(compiled.copy())
        reference.merge(reference.copy())
    assert said(compiled) == said(reference)


# --- what is remembered of trades -------------------------------------------------------------------------------------


def twins(count):
    """Two checks that know the same instruments of one pair: as they are compiled, and as they are written."""
    out = []
    for new_recent, new_pair in ((validation.Recent, validation.Pair), validation.REFERENCE):
        check, pair = SanityCheck(), new_pair()
        for at in range(count):
            pair.members[InstrumentId(str(at), "BTCUSDT")] = new_recent(pair)
        out.append((check, list(pair.members.values())))
    return out


@pytest.mark.parametrize("seed", range(100))
def test_the_same_trades_are_usual_and_the_same_flags_are_told(seed):
    dice = Random(seed)
    both = twins(3)
    price, size = number_of(dice), number_of(dice)
    for id in range(120):
        it = structs.replace(
            trade_of(dice, id), price=price * dice.choice((1, 1, 1, Decimal("1.01"), Decimal("1.09"), Decimal("1.2"))),
            size=size * dice.choice((1, 1, 1, Decimal("0.5"), 3, 500)),
            exchange_time=dice.choice((NOW, NOW, NOW, EARLIEST, EARLIEST - 1, NOW + 2 * 3_600 * SECOND)),
        )
        if dice.random() < 0.05:
            it = structs.replace(it, size=dice.choice((Decimal(0), -size, BEYOND, size)))
        which, told = dice.randrange(3), []
        for check, members in both:
            mine = members[which]
            usual = mine.usual(it)
            if usual and mine.add(it):
                check.fold(mine)
            flags = check.flags(it, mine) if not usual and it.size > 0 else ()
            told.append((
                usual, flags, mine.price, mine.time, mine.mean, mine.count, mine.fold_at, mine.sum, mine.huge,
                mine.pair.low, mine.pair.high,
            ))
        assert told[0] == told[1]


# --- the habits of a subscription -------------------------------------------------------------------------------------


def test_a_pulse_beats_as_the_reference_does():
    dice, now = Random(5), NOW
    tapes, books = [[kind(NOW, 7) for kind in (liveness.Pulse, liveness.REFERENCE)] for _ in range(2)]
    for tape, book in zip(tapes, books, strict=True):
        tape.book = book
    for _ in range(300):
        now += dice.randint(0, 10 * SECOND)
        which = dice.choice((tapes, tapes, books))
        for it in which:
            it.beat(now)
        if dice.random() < 0.1:
            for it in which:
                it.suspected, it.vain = True, it.vain + 1
        for pair in (tapes, books):
            compiled, reference = (
                [getattr(it, name) for name in liveness.REFERENCE.__slots__ if name != "book"] + [it.limit()]
                for it in pair
            )
            assert compiled == reference
