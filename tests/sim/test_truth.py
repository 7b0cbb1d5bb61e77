"""The truth keeps its own books: whatever can be asked of it follows from what happened."""
from decimal import Decimal as D
from random import Random

import pytest

from onetape.clock import DAY, MINUTE, SECOND
from onetape.sim.base import Listing
from onetape.sim.truth import CHECKPOINT_EVERY, Truth

START = 1_800_000_000 * SECOND


def truth(tick="0.01", lot="0.001", **kept):
    it = Listing(venue="v", symbol="s", base="B", quote="Q", tick=D(tick), lot=D(lot))
    return Truth(it, START, 1_000, 500, **kept)


def crowd(it, count, seed=1, step=SECOND // 10):
    """Random levels and trades; yields each happening with the books that should be there after it."""
    dice = Random(seed)
    books = {True: {}, False: {}}
    for number in range(count):
        levels = []
        for _ in range(dice.randrange(1, 4)):
            bid = dice.random() < 0.5
            price = dice.randrange(1, 300) + (0 if bid else 300)
            size = dice.choice((0, 0, dice.randrange(1, 50)))
            levels.append((bid, price, size))
            books[bid][price] = size
        trades = [(dice.randrange(250, 350), dice.randrange(1, 9), dice.random() < 0.5)] * dice.randrange(3)
        yield it.happen(START + (number + 1) * step, levels, trades), shown(books)


def shown(books):
    return (
        sorted(((price, size) for price, size in books[True].items() if size), reverse=True),
        sorted((price, size) for price, size in books[False].items() if size),
    )


def test_the_book_is_what_the_changes_made_of_it():
    it = truth()
    for _, (bids, asks) in crowd(it, 500):
        assert it.bids() == bids
        assert it.asks() == asks
        assert it.bids(3) == bids[:3]
        assert it.asks(3) == asks[:3]
    assert it.bids(10**6) == bids
    assert (it.size(bid=True, price=bids[0][0]), it.size(bid=True, price=299_000)) == (bids[0][1], 0)


def test_sequences_and_ids_are_consecutive_and_a_level_that_stays_is_no_change():
    it = truth()
    happened = [happening for happening, _ in crowd(it, 300)]
    changes = [change for happening in happened for change in happening.changes]
    matches = [match for happening in happened for match in happening.matches]
    assert [change.sequence for change in changes] == list(range(1_001, 1_001 + len(changes)))
    assert [match.id for match in matches] == list(range(500, 500 + len(matches)))
    for happening in happened:
        assert {each.time for each in (*happening.changes, *happening.matches)} <= {happening.time}
    assert it.sequence == changes[-1].sequence
    again = it.happen(it.time + 1, [(True, price, size) for price, size in it.bids()])
    assert not again.changes


def test_two_happenings_never_share_their_time():
    it = truth()
    it.happen(START + 1, [(True, 1, 1)])
    with pytest.raises(ValueError, match="is not after"):
        it.happen(START + 1, [(True, 2, 1)])


def test_books_of_the_past_are_rebuilt_exactly():
    it = truth()
    past = [(it.sequence, START, [], [])]
    past += [(it.sequence, it.time, *book) for _, book in crowd(it, 4_000)]
    assert it.sequence - 1_000 > CHECKPOINT_EVERY
    for sequence, time, bids, asks in past[::37]:
        at = it.book_at_time(time)
        assert (at.bids, at.asks, at.sequence) == (bids, asks, sequence)
        assert it.book_at_time(time + 1) == at
        at = it.book_at(sequence)
        assert (at.bids, at.asks) == (bids, asks)
    assert it.book_at(it.sequence + 1) is None
    assert it.book_at(999) is None
    assert it.book_at_time(START - 1) is None


def test_a_sequence_within_a_happening_has_its_book_too():
    it = truth()
    it.happen(START + 5, [(True, 1, 1), (True, 2, 2), (False, 9, 3)])
    assert it.book_at(1_002).bids == [(2, 2), (1, 1)]
    assert it.book_at(1_002).asks == []


def test_history_is_bounded_and_what_is_gone_is_said_to_be_gone():
    it = truth(changes_kept=5_000, matches_kept=1_000)
    past = [(happening.time, it.sequence, book) for happening, book in crowd(it, 15_000)]
    assert len(it.changes_since(0)) <= 5_000 + 2 * CHECKPOINT_EVERY
    assert len(it.matches) <= 1_000 + 2 * CHECKPOINT_EVERY
    assert it.book_at_time(past[0][0]) is None
    assert it.book_at(past[0][1]) is None
    assert [it.knows(sequence) for sequence in (past[0][1], past[-1_500][1], it.sequence, it.sequence + 1)] == [
        False, True, True, False]
    time, sequence, (bids, asks) = past[-1_500]
    assert (it.book_at(sequence).bids, it.book_at_time(time).asks) == (bids, asks)


def test_changes_since_leads_from_one_book_to_the_next():
    it = truth()
    list(crowd(it, 100))
    before = it.book_at(it.sequence)
    sides = {True: dict(before.bids), False: dict(before.asks)}
    sequence = it.sequence
    for number in range(50):
        it.happen(it.time + 1, [(True, number + 1, number % 3)])
    for change in it.changes_since(sequence):
        sides[change.bid][change.price] = change.size
    assert shown(sides) == (it.bids(), it.asks())
    assert it.changes_since(it.sequence) == []


def test_matches_are_found_by_id_and_by_time():
    it = truth()
    matches = [match for happening, _ in crowd(it, 300) for match in happening.matches]
    middle = matches[len(matches) // 2]
    assert it.matches_from(middle.id, 5) == [match for match in matches if match.id >= middle.id][:5]
    assert it.matches_from(0, 2) == matches[:2]
    assert it.matches_from(matches[-1].id + 1, 2) == []
    assert it.matches_after(middle.time, 7) == [match for match in matches if match.time >= middle.time][:7]
    assert it.matches_after(middle.time + 1, 7) == [match for match in matches if match.time > middle.time][:7]
    assert it.last_matches(4) == matches[-4:]
    assert it.last_matches(10**6) == matches
    assert it.last_matches(0) == []


def candle(matches, start):
    bought = [match for match in matches if match.buy]
    return {
        "start": start, "open": matches[0].price, "high": max(it.price for it in matches),
        "low": min(it.price for it in matches), "close": matches[-1].price,
        "volume": sum(it.size for it in matches), "quote": sum(it.price * it.size for it in matches),
        "trades": len(matches), "taker_volume": sum(it.size for it in bought),
        "taker_quote": sum(it.price * it.size for it in bought),
        "first_id": matches[0].id, "last_id": matches[-1].id,
    }


@pytest.mark.parametrize("interval", [SECOND, 15 * SECOND, MINUTE, 5 * MINUTE, 60 * MINUTE, DAY])
def test_candles_equal_the_trades(interval):
    it = truth()
    matches = [match for happening, _ in crowd(it, 3_000, step=7 * SECOND) for match in happening.matches]
    by_start = {}
    for match in matches:
        by_start.setdefault(match.time // interval * interval, []).append(match)
    expected = [candle(group, start) for start, group in sorted(by_start.items())]

    def fields(klines):
        return [{name: getattr(kline, name) for name in kline.__struct_fields__} for kline in klines]

    assert fields(it.candles(interval, 0, it.time + 1)) == expected
    start, end = START + 10 * interval + 1, START + 20 * interval + 1
    assert fields(it.candles(interval, start, end)) == [each for each in expected if start <= each["start"] < end]
    assert fields(it.candles(interval, 0, it.time + 1)) == expected, "asking changes nothing"


def test_the_day_rolls_by_the_minute():
    it = truth()
    assert it.day(START) is None
    matches = [match for happening, _ in crowd(it, 4_000, step=30 * SECOND) for match in happening.matches]
    assert it.time - START > DAY
    for now in (it.time, it.time + MINUTE // 2, it.time + MINUTE, it.time + DAY // 2):
        kept = [match for match in matches if match.time >= now // MINUTE * MINUTE - DAY]
        day, expected = it.day(now), candle(kept, 0)
        assert (day.open, day.high, day.low, day.last) == tuple(expected[it] for it in ("open", "high", "low", "close"))
        assert (day.volume, day.quote, day.trades) == (expected["volume"], expected["quote"], expected["trades"])
        assert (day.first_id, day.last_id) == (expected["first_id"], expected["last_id"])
        assert day.first_time == kept[0].time
    assert it.day(it.time + 3 * DAY) is None


@pytest.mark.parametrize(("tick", "count", "text"), [
    ("0.01", 6012340, "60123.40"), ("0.01", 5, "0.05"), ("0.5", 3, "1.5"), ("1", 7, "7"), ("10", 7, "70"),
    ("0.00000001", 1, "0.00000001"), ("0.0000001", 1234567, "0.1234567"), ("0.00001000", 1, "0.00001000"),
    ("0.1", 0, "0.0"), ("1E+1", 3, "30"),
])
def test_numbers_are_written_with_the_digits_of_the_venue(tick, count, text):
    assert truth(tick=tick).price_text(count) == text
    assert truth(lot=tick).size_text(count) == text
