"""The cases that cost others money, one by one."""
from decimal import Decimal as D

import pytest
from msgspec import structs

from onetape.book import OrderBook, Window
from onetape.book.rules import BookRules, Snapshots
from onetape.book.sync import MAX_PENDING, BookSync
from onetape.clock import SECOND
from onetape.model import BookDelta, BookSnapshot, FeedStatus, InstrumentId, Levels, NeedSnapshot, TrustState

REST = BookRules(Snapshots.REST, resends=False)
SPOT = BookRules(Snapshots.REST, resends=False, overlapping=True)
IN_BAND = BookRules(Snapshots.IN_BAND, resends=True)
HEAD = {"venue": "v", "symbol": "s", "exchange_time": 0, "received_time": 0, "available_at": 0}


def sync(rules=IN_BAND, depth=0):
    return BookSync(InstrumentId("v", "s"), OrderBook(Window(depth, rules.resends)), rules, lambda *_: 7, 0)


def levels(*pairs):
    return Levels.of([(D(price), D(size)) for price, size in pairs])


def delta(after, sequence, bids=(), asks=(), **rest):
    return BookDelta(**HEAD, after=after, sequence=sequence, bids=levels(*bids), asks=levels(*asks), **rest)


def snapshot(sequence, bids=((1, 1),), asks=((9, 1),), depth=0, **rest):
    return BookSnapshot(
        **HEAD, sequence=sequence, bids=levels(*bids), asks=levels(*asks), depth=depth, verification="sequence", **rest
    )


def kinds(outputs):
    return [it.state if isinstance(it, FeedStatus) else type(it) for it in outputs]


def run(book, *events, now=0):
    return [kinds(book.receive(it, now)) for it in events]


def test_a_lost_okx_reset_is_a_gap_and_not_an_old_message():
    """(10,15) (15,3 lost) (3,5): a rule that ignores what lies below would be silently stale for ever."""
    book = sync()
    out = run(book, snapshot(10), delta(10, 15), delta(3, 5))
    assert out[-1] == [TrustState.STALE, NeedSnapshot]
    assert book.state is TrustState.STALE


def test_an_okx_reset_that_arrives_is_no_gap():
    book = sync()
    out = run(book, snapshot(10), delta(10, 15), delta(15, 3, bids=[(2, 2)]), delta(3, 5))
    assert out[2:] == [[BookDelta], [BookDelta]]
    assert (book.state, book.sequence) == (TrustState.LIVE, 5)


def test_the_documented_okx_chain():
    book = sync()
    run(book, snapshot(10), *(delta(*it) for it in ((10, 15), (15, 15), (15, 3), (3, 5))))
    assert (book.state, book.sequence, book.applied) == (TrustState.LIVE, 5, 4)


def test_a_bybit_delta_with_u_1_is_a_restart_and_never_applied():
    book = sync()
    out = run(book, snapshot(100), delta(0, 1, bids=[(5, 5)], restart=True), delta(1, 2))
    assert out[1] == [TrustState.STALE, NeedSnapshot]
    assert book.book.bids() == [(D(1), D(1))]
    assert run(book, snapshot(2, bids=[(3, 3)]))[0] == [BookSnapshot, TrustState.LIVE]


def test_stale_is_told_before_the_need_and_nothing_passes_until_the_next_snapshot():
    book = sync()
    out = run(book, snapshot(1), delta(1, 2), delta(5, 6), delta(6, 7), snapshot(8), delta(8, 9))
    assert out == [
        [BookSnapshot, TrustState.LIVE], [BookDelta], [TrustState.STALE, NeedSnapshot], [],
        [BookSnapshot, TrustState.LIVE], [BookDelta],
    ]


def test_the_same_delta_twice_is_ignored():
    book = sync()
    assert run(book, snapshot(1), delta(1, 2), delta(1, 2), delta(2, 3))[1:] == [[BookDelta], [], [BookDelta]]
    assert book.ignored == 1


def test_binance_joins_a_straddling_delta_and_drops_what_is_older():
    book = sync(SPOT)
    assert run(book, delta(8, 10), delta(10, 14), delta(14, 15)) == [[NeedSnapshot], [], []]
    assert kinds(book.join(snapshot(12), 0, 5)) == [BookSnapshot, TrustState.LIVE, BookDelta, BookDelta]
    assert (book.sequence, book.ignored) == (15, 1)
    assert run(book, delta(13, 15), delta(14, 18)) == [[], [BookDelta]]


def test_a_snapshot_older_than_the_stream_is_fetched_again_and_the_pending_are_kept():
    book = sync(SPOT)
    run(book, delta(20, 21), delta(21, 22))
    assert kinds(book.join(snapshot(15), book.epoch, 0)) == [NeedSnapshot]
    assert kinds(book.join(snapshot(20), book.epoch, 0)) == [BookSnapshot, TrustState.LIVE, BookDelta, BookDelta]


def test_a_snapshot_alone_proves_nothing_until_the_stream_continues_it():
    """A cached one may be older than the stream, which then would have said something in between."""
    book = sync(SPOT)
    assert book.join(snapshot(15), 0, 0) == []
    assert book.state is TrustState.SYNCING
    assert run(book, delta(15, 16)) == [[BookSnapshot, TrustState.LIVE, BookDelta]]


def test_deltas_that_end_before_the_snapshot_do_not_prove_that_it_joins():
    """After a lost reset an old snapshot has a high number, and all that comes would seem to be older."""
    book = sync(BookRules(Snapshots.IN_BAND_OR_REST, resends=True))
    run(book, delta(1092, 1093), delta(3, 5))
    assert book.join(snapshot(1092), book.epoch, 0) == []
    assert run(book, delta(5, 7), delta(7, 9), now=1) == [[], []]
    assert run(book, delta(9, 12), now=10 * SECOND) == [[NeedSnapshot]]
    assert book.state is TrustState.SYNCING


def test_a_delta_among_full_replacements_is_of_another_stream():
    """OKX books5 and books of one symbol share their numbers."""
    book = sync(BookRules(Snapshots.IN_BAND_OR_REST, resends=True))
    event = snapshot(10)
    book.receive(structs.replace(event, verification="none"), 0)
    assert run(book, delta(10, 11)) == [[TrustState.STALE, NeedSnapshot]]


def test_usdm_continues_by_pu_alone():
    book = sync(REST)
    run(book, delta(3, 10), delta(10, 40))
    assert kinds(book.join(snapshot(25), 0, 0)) == [BookSnapshot, TrustState.LIVE, BookDelta]
    assert run(book, delta(40, 90), delta(89, 95)) == [[BookDelta], [TrustState.STALE, NeedSnapshot]]


def test_a_new_listing_begins_with_its_first_delta():
    book = sync(SPOT)
    run(book, delta(0, 3, bids=[(2, 2)]))
    assert kinds(book.join(snapshot(-1, (), ()), 0, 0)) == [BookSnapshot, TrustState.LIVE, BookDelta]
    assert book.book.bids() == [(D(2), D(2))]


def test_a_reset_voids_the_snapshot_that_was_asked_for_before():
    book = sync(BookRules(Snapshots.IN_BAND_OR_REST, resends=True))
    run(book, delta(10, 15))
    before = book.epoch
    run(book, delta(15, 3), delta(3, 5))
    assert kinds(book.join(snapshot(12), before, 0)) == [NeedSnapshot]
    assert kinds(book.join(snapshot(4), book.epoch, 0)) == [BookSnapshot, TrustState.LIVE, BookDelta]


def test_a_bad_checksum_is_stale_at_once_and_the_delta_does_not_pass():
    book = sync()
    assert run(book, snapshot(1, checksum=7), delta(1, 2, checksum=8)) == [
        [BookSnapshot, TrustState.LIVE], [TrustState.STALE, NeedSnapshot],
    ]
    assert run(book, snapshot(3, checksum=8)) == [[TrustState.STALE, NeedSnapshot]]


def test_pending_deltas_are_bounded_and_overflow_clears_them_all():
    book = sync(SPOT)
    for number in range(MAX_PENDING):
        book.receive(delta(number, number + 1), 0)
    epoch = book.epoch
    assert kinds(book.receive(delta(MAX_PENDING, MAX_PENDING + 1), 0)) == [NeedSnapshot]
    assert (book.overflows, book.epoch) == (1, epoch + 1)


def test_crossed_is_told_at_once_and_resynchronised_without_grace():
    book = sync()
    assert run(book, snapshot(1), delta(1, 2, bids=[(9, 1)]))[1] == [TrustState.CROSSED, NeedSnapshot]
    assert book.state is TrustState.CROSSED
    assert run(book, snapshot(3, bids=[(9, 1)])) == [[NeedSnapshot]]
    assert run(book, snapshot(4)) == [[BookSnapshot, TrustState.LIVE]]


def test_bybit_may_be_crossed_for_one_message():
    rules = BookRules(Snapshots.IN_BAND, resends=True, crossed_grace_messages=1)
    book = sync(rules)
    out = run(book, snapshot(1), delta(1, 2, bids=[(9, 1)]), delta(2, 3, bids=[(9, 0)]))
    assert out[1:] == [[TrustState.CROSSED, BookDelta], [BookDelta, TrustState.LIVE]]
    out = run(book, delta(3, 4, bids=[(9, 1)]), delta(4, 5))
    assert out == [[TrustState.CROSSED, BookDelta], [NeedSnapshot]]


def test_coinbase_may_be_crossed_for_a_second():
    rules = BookRules(Snapshots.IN_BAND, resends=False, crossed_grace_ns=1_000)
    book = sync(rules)
    book.receive(snapshot(1), 0)
    assert kinds(book.receive(delta(1, 2, bids=[(9, 1)]), 10)) == [TrustState.CROSSED, BookDelta]
    assert book.next_wake() == 1_010
    assert kinds(book.receive(delta(2, 3), 1_009)) == [BookDelta]
    assert book.wake(1_009) == []
    assert kinds(book.wake(1_010)) == [NeedSnapshot]
    assert (book.state, book.next_wake()) == (TrustState.CROSSED, None)


def test_in_an_auction_a_crossed_book_is_legitimate():
    book = sync()
    book.may_cross = True
    assert run(book, snapshot(1, bids=[(10, 1)])) == [[BookSnapshot, TrustState.LIVE]]


def test_too_few_levels_inside_the_known_edge_ask_for_a_snapshot():
    book = sync(SPOT, depth=2)
    run(book, delta(1, 2))
    book.join(snapshot(1, bids=[(5, 1), (4, 1)], asks=[(6, 1)], depth=2), 0, 0)
    out = run(book, delta(2, 3, bids=[(3, 1)]), delta(3, 4, bids=[(5, 0)]))
    assert out == [[BookDelta], [TrustState.STALE, NeedSnapshot]]


def test_distrust_makes_stale_and_down_ends_it():
    book = sync()
    run(book, snapshot(1))
    assert kinds(book.distrust("unreadable", 3)) == [TrustState.STALE, NeedSnapshot]
    assert kinds(book.down("closed", 4)) == [TrustState.DOWN]
    assert (book.state, book.since, book.reason) == (TrustState.DOWN, 4, "closed")


def test_what_waited_is_available_only_when_the_snapshot_made_it_so():
    book = sync(SPOT)
    run(book, delta(1, 2), delta(2, 3))
    assert {it.available_at for it in book.join(snapshot(1), 0, 50)} == {50}


@pytest.mark.parametrize("rules", [SPOT, REST, IN_BAND])
def test_empty_deltas_and_empty_books_are_valid(rules):
    book = sync(rules)
    if rules.snapshots is Snapshots.REST:
        book.receive(delta(0, 1), 0)
        book.join(snapshot(1, (), ()), 0, 0)
    else:
        book.receive(snapshot(1, (), ()), 0)
    book.receive(delta(1, 2), 0)
    assert (book.state, book.book.held) == (TrustState.LIVE, (0, 0))
