"""What stands behind an answer: coverage where ids are consecutive, gaps elsewhere, as it is and as it was."""
from msgspec import structs

from onetape.model import Channel, InstrumentId
from onetape.storage.compaction import compact
from onetape.storage.completeness import between, completeness
from onetape.storage.lake import Lake, Selection
from onetape.tape.coverage import Covered
from tests.storage.test_lake import BTC, NOW, T0, gap, in_every_state, store_of, trade

BYBIT = InstrumentId("bybit", "BTCUSDT")
TAPE = (*BTC, Channel.TRADES)


def covered(first, last):
    return Covered(*BTC, Channel.TRADES, first, last, T0 + first, T0 + last)


def seen(it):
    return (
        it.complete, [(one.from_time - T0, one.to_time - T0) for one in it.known],
        [(one.from_time - T0, one.to_time - T0, one.side) for one in it.unknown],
        [(one.after, one.before, one.state) for one in it.gaps],
    )


def asked(lake, **rest):
    as_of = rest.pop("as_of", None)
    times = {name: T0 + it for name, it in rest.items()}
    return seen(completeness(lake, Selection(**times), as_of=None if as_of is None else T0 + as_of))


def test_where_ids_are_consecutive_coverage_and_gaps_say_it(tmp_path):
    files = [
        [trade(1), trade(2), trade(5), covered(1, 5)], [trade(9), covered(9, 9), gap(T0 + 20)],
        [trade(10), trade(30), covered(10, 30)], [gap(T0 + 40, state="unhealable")],
    ]

    def read(lake):
        return [
            asked(lake), asked(lake, start=1, end=5), asked(lake, start=-3, end=4), asked(lake, start=25, end=99),
            asked(lake, start=40, end=50), asked(lake, start=6, end=7), asked(lake, end=5),
        ]

    the_gap = [("5", "9", "unhealable")]
    expected = [
        (False, [(1, 5), (9, 30)], [], the_gap),
        (True, [(1, 5)], [], []),
        (False, [(1, 4)], [(-3, 1, "before")], []),
        (False, [(25, 30)], [(30, 99, "behind")], []),
        (False, [], [(40, 50, "behind")], []),
        (False, [], [], the_gap),
        (True, [(1, 5)], [], []),
    ]
    assert in_every_state(tmp_path, files, read) == [expected] * 3


def test_a_healed_gap_is_none(tmp_path):
    store_of(tmp_path, [trade(1), covered(1, 9), gap(T0 + 20)], [gap(T0 + 30, state="healed")])
    with Lake(tmp_path) as lake:
        assert asked(lake) == (True, [(1, 9)], [], [])


def test_a_hole_that_nobody_has_told_is_told(tmp_path):
    store_of(tmp_path, [trade(1), covered(1, 5), trade(9), covered(9, 12), covered(20, 21), gap(T0 + 20)])
    with Lake(tmp_path) as lake:
        found = completeness(lake, Selection())
        assert [(it.after, it.before, it.state, it.detected) for it in found.gaps] == [
            ("5", "9", "open", "a test"), ("12", "20", "open", "ids are missing")]
        assert asked(lake, start=1, end=5)[0]
        assert [it[:2] for it in asked(lake, start=13, end=15)[3]] == [("12", "20")]


def test_where_ids_prove_nothing_gaps_between_the_first_and_the_last_trade_say_it(tmp_path):
    found = gap(T0 + 20, id=BYBIT, after="x", before="y")
    store_of(tmp_path, [trade(1, id=BYBIT), trade(30, id=BYBIT), found])
    for _ in range(2):
        with Lake(tmp_path) as lake:
            assert asked(lake) == (False, [(1, 5), (9, 30)], [], [("x", "y", "open")])
            assert asked(lake, start=10, end=30) == (True, [(10, 30)], [], [])
            assert not any(it.proven for it in completeness(lake, Selection()).known)
        compact(tmp_path, NOW)


def test_as_of_a_time_only_what_was_known_then_counts(tmp_path):
    late = structs.replace(trade(7), available_at=T0 + 60)
    store_of(
        tmp_path, [trade(5), covered(5, 5), trade(9), covered(9, 9), gap(T0 + 20), gap(T0 + 60, state="healed"), late,
                   covered(6, 8), trade(2, available_at=T0 + 70), covered(1, 4)])
    with Lake(tmp_path) as lake:
        assert asked(lake) == (True, [(1, 9)], [], [])
        assert asked(lake, as_of=70) == (True, [(2, 9)], [], [])
        assert asked(lake, as_of=60) == (True, [(5, 9)], [], [])
        assert asked(lake, as_of=59) == (False, [(5, 5), (9, 9)], [], [("5", "9", "open")])
        assert asked(lake, as_of=19) == (True, [(5, 9)], [], [])
        assert asked(lake, as_of=8) == (True, [(5, 5)], [], [])
        assert asked(lake, as_of=0) == (False, [], [], [])
        assert [it.id for it in lake.trades(as_of=T0 + 60)] == ["5", "7", "9"]
        assert lake.spans(as_of=T0 + 60) == {TAPE: (T0 + 5, T0 + 9)}


def test_what_is_asked_for_and_not_there_is_not_complete(tmp_path):
    store_of(tmp_path, [trade(1), covered(1, 1)])
    with Lake(tmp_path) as lake:
        assert seen(completeness(lake, Selection(venue="okx"))) == (False, [], [], [])
        other = (*BYBIT, Channel.TRADES)
        assert seen(completeness(lake, Selection(), tapes=[TAPE, other])) == (False, [(1, 1)], [], [])


def test_what_is_left_of_a_time_without_its_gaps():
    def left(*gaps):
        return list(between((0, 10), [gap_at(*it) for it in gaps]))

    def gap_at(first, last):
        return structs.replace(gap(T0), from_time=first, to_time=last)
    assert left() == [(0, 10)]
    assert left((2, 3), (5, 6)) == [(0, 2), (3, 5), (6, 10)]
    assert left((2, 6), (3, 4), (4, 8)) == [(0, 2), (8, 10)]
    assert left((0, 3), (8, 10)) == [(0, 0), (3, 8), (10, 10)]
    assert left((-5, 3), (9, 20), (30, 40)) == [(3, 9)]
    assert left((-5, 40)) == []
