"""Whatever comes: each trade once, what is missing is told, and each batch holds together."""
from decimal import Decimal as D

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from onetape.book.order_book import OrderBook, Window
from onetape.book.sync import BookSync
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    FeedError,
    FeedStatus,
    Flag,
    GapClosed,
    GapOpened,
    InstrumentId,
    Levels,
    NeedTrades,
    Quote,
    Side,
    Skipped,
    Trade,
    TrustState,
)
from onetape.pipeline import Pipeline, Policy
from onetape.tape.coverage import Covered, Interval
from onetape.tape.history import History
from onetape.tape.ledger import LedgerState
from onetape.venues import spec

SHORT = Policy(intervals=("1s", "1m"))
START = 1_700_000_040 * SECOND  # a whole minute
LATER = START + 10 * MINUTE


class Kept:
    """A pipeline, and the batches that it made: (time, records)."""

    def __init__(self, policy=SHORT, **rest):
        self.batches, self.waiting, self.published, self.needs = [], [], [], []
        self.pipeline = Pipeline(
            policy, store=self.waiting.append, commit=self.commit, publish=self.published.append, **rest)

    def commit(self, now):
        self.batches.append((now, list(self.waiting)))
        self.waiting.clear()

    def give(self, *events):
        for it in events:
            self.needs += self.pipeline.handle(it)
        return self

    def finish(self, now=LATER):
        self.pipeline.finish(now)
        return self

    def of(self, kind):
        return [it for _, batch in self.batches for it in batch if isinstance(it, kind)]


def trade(number, at=0, price="100", size="1", now=None, *, after=True, venue="binance", channel=Channel.TRADES):
    """``at``, ``now``: ns after START."""
    now = START + (at if now is None else now)
    return Trade(
        venue=venue, symbol="BTCUSDT", exchange_time=START + at, received_time=now, available_at=now, channel=channel,
        id=str(number), after=number - 1 if after else None, price=D(price), size=D(size), side=Side.BUY,
    )


def down(at, venue="binance"):
    """The connection is lost, ``at`` ns after START."""
    return FeedStatus(
        venue=venue, symbol="BTCUSDT", exchange_time=START + at, received_time=START + at, available_at=START + at,
        channel=Channel.TRADES, state=TrustState.DOWN, since=START + at, reason="1006",
    )


def ids(kept):
    return [int(it.id) for it in kept.of(Trade)]


def test_each_trade_is_stored_and_published_once():
    kept = Kept().give(trade(1), trade(2), trade(2), trade(1), trade(3)).finish()
    assert ids(kept) == [1, 2, 3]
    assert [it.id for it in kept.published if isinstance(it, Trade)] == ["1", "2", "3"]
    assert kept.needs == []


def test_the_impossible_is_quarantined_with_its_reason_and_leaves_no_gap():
    kept = Kept().give(trade(1), trade(2, price="0"), trade(2, price="0"), trade(3, at=MINUTE, now=MINUTE)).finish()
    assert ids(kept) == [1, 3]
    (error,) = kept.of(FeedError)
    assert (error.reason, error.quarantined) == ("a price that is not above zero", True)
    assert '"id":"2"' in error.text
    assert kept.pipeline.quarantined == 1
    assert kept.of(GapOpened) == []
    assert {number for it in kept.of(Covered) for number in range(it.first, it.last + 1)} == {1, 2, 3}


def test_an_absurd_time_is_quarantined():
    ahead = trade(1, at=2 * 60 * MINUTE, now=0)
    assert Kept().give(ahead).finish().of(Trade) == []


def test_the_odd_is_flagged_and_kept():
    kept = Kept().give(trade(1), trade(2, price="150"), trade(3, price="150", size="5000")).finish()
    assert [it.flags for it in kept.of(Trade)] == [(), (Flag.FAR_FROM_LAST,), (Flag.HUGE,)]


def test_a_gap_is_told_after_its_grace_asked_for_and_closed_when_filled():
    kept = Kept().give(trade(1), trade(5, at=SECOND), trade(6, at=2 * SECOND))
    assert kept.needs == [
        NeedTrades("binance", "BTCUSDT", Channel.TRADES, "1", "5", START, START + SECOND, "ids are missing")
    ]
    kept.give(*(trade(number, at=SECOND // 2, now=2 * SECOND) for number in (2, 3, 4))).finish()
    (opened,), (closed,) = kept.of(GapOpened), kept.of(GapClosed)
    assert (opened.after, opened.before, opened.available_at) == ("1", "5", START + SECOND + 250 * MILLISECOND)
    assert (opened.from_time, opened.to_time) == (closed.from_time, closed.to_time) == (START, START + SECOND)
    assert (closed.healed, closed.recovered) == (True, 3)


def test_candles_over_a_gap_are_incomplete_until_it_is_filled_then_revised():
    kept = Kept().give(trade(0, at=-1), trade(1), trade(3, at=30 * SECOND), trade(4, at=2 * MINUTE))
    kept.give(trade(2, at=29 * SECOND, now=2 * MINUTE + 1)).finish()
    minutes = [it for it in kept.of(Candle) if it.interval == "1m" and it.start == START]
    assert [(it.revision, it.complete, it.trades) for it in minutes] == [(0, False, 2), (1, True, 3)]
    batch = next(records for _, records in kept.batches if minutes[1] in records)
    assert any(isinstance(it, Trade) and it.id == "2" for it in batch)  # no end comes between a trade and its candle


def test_a_candle_is_final_when_the_watermark_has_passed_its_end_and_not_before():
    kept = Kept().give(trade(1, at=-MINUTE), trade(2), trade(3, at=59 * SECOND))
    running = kept.pipeline.candles(InstrumentId("binance", "BTCUSDT")).current("1m")
    assert (running.final, running.trades, running.end) == (False, 2, START + MINUTE)
    kept.pipeline.wake(START + MINUTE + 2 * SECOND - 1)
    assert all(it.end < START + MINUTE for it in kept.of(Candle) + kept.waiting if isinstance(it, Candle))
    kept.finish()
    (minute,) = (it for it in kept.of(Candle) if it.interval == "1m" and it.start == START)
    assert (minute.final, minute.available_at) == (True, START + MINUTE + 2 * SECOND)


def test_a_batch_closes_after_100_ms_or_1000_rows():
    kept = Kept().give(trade(1), trade(2, at=99 * MILLISECOND), trade(3, at=101 * MILLISECOND))
    assert [(time - START, sum(isinstance(it, Trade) for it in records)) for time, records in kept.batches] == [
        (100 * MILLISECOND, 2),
    ]
    kept.give(*(trade(number, at=102 * MILLISECOND) for number in range(4, 2_000)))
    assert len(kept.batches) == 2
    assert len(kept.batches[1][1]) == 1_000 + 1  # the coverage of these trades


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), max_size=80))
def test_at_any_commit_what_is_covered_is_what_is_stored(moves):
    """Whenever the process ends, coverage never claims a trade that is not there, and misses none that is."""
    kept, now = Kept(Policy(intervals=("1s",), batch_rows=5)), 0
    for number, wait in moves:
        now += wait * MILLISECOND
        kept.give(trade(number, at=number * MILLISECOND, now=now))
    kept.finish()
    seen, covered = set(), set()
    for _, records in kept.batches:
        seen |= {int(it.id) for it in records if isinstance(it, Trade)}
        covered |= {n for it in records if isinstance(it, Covered) for n in range(it.first, it.last + 1)}
        assert seen == covered
    assert seen == {number for number, _ in moves}
    assert len(ids(kept)) == len(seen)


def test_where_ids_prove_nothing_a_lost_connection_is_a_gap_at_the_next_new_trade():
    of = {"after": False, "venue": "bybit"}
    down = FeedStatus(
        venue="bybit", symbol="BTCUSDT", exchange_time=START, received_time=START + 2, available_at=START + 2,
        channel=Channel.TRADES, state=TrustState.DOWN, since=START, reason="1006",
    )
    kept = Kept().give(trade(0, **of), trade(1, at=1, **of), down, trade(0, now=3, **of), trade(2, at=SECOND, **of))
    kept.finish()
    (gap,) = kept.of(GapOpened)
    assert (gap.after, gap.before, gap.from_time, gap.to_time) == ("1", "2", START + 1, START + SECOND)
    assert gap.cause == "1006; ids cannot tell what was missed"
    assert not any(it.complete for it in kept.of(Candle))


def test_skipped_ids_are_covered_and_not_stored():
    skipped = Skipped(
        venue="binance", symbol="BTCUSDT", exchange_time=START, received_time=START, available_at=START,
        channel=Channel.TRADES, first="2", last="4", after=1, reason="off-book",
    )
    kept = Kept().give(trade(1), skipped, trade(5, at=MINUTE)).finish()
    assert ids(kept) == [1, 5]
    assert kept.of(GapOpened) == []


def test_one_channel_of_an_instrument_feeds_its_candles():
    aggregated = Channel.AGG_TRADES
    kept = Kept().give(
        trade(1, at=-SECOND), trade(7, at=-SECOND, channel=aggregated), trade(2), trade(8, channel=aggregated)).finish()
    assert len(kept.of(Trade)) == 4
    assert {it.trades for it in kept.of(Candle)} == {1}


def test_without_a_clock_the_trades_tell_how_late_it_is():
    """Recordings without receive times count milliseconds from 1970 on."""
    def frame(number, at):
        return Trade(
            venue="okx", symbol="BTC-USDT", exchange_time=START + at, received_time=number * MILLISECOND,
            available_at=number * MILLISECOND, channel=Channel.TRADES, id=str(number), after=number - 1,
            price=D(1), size=D(1), side=Side.SELL,
        )
    kept = Kept().give(frame(1, 0), frame(2, SECOND), frame(3, 2 * SECOND), frame(4, 4 * SECOND)).finish(5_000_000)
    assert len(kept.of(Trade)) == 4
    assert [it.end - START for it in kept.of(Candle)] == [SECOND, 2 * SECOND]


def test_views_of_live_books_are_kept_every_so_often_and_deltas_only_if_wanted():
    id, rules = InstrumentId("binance", "BTCUSDT"), spec("binance").book
    head = {"venue": "binance", "symbol": "BTCUSDT", "exchange_time": START, "received_time": START}

    def delta(number, at):
        return BookDelta(
            **head, available_at=START + at, after=number - 1, sequence=number,
            bids=Levels.of([(D(number), D(1))]), asks=Levels.of([]))
    whole = BookSnapshot(
        **head, available_at=START, sequence=1, bids=Levels.of([(D(1), D(1))]), asks=Levels.of([(D(100), D(1))]),
        depth=0, verification="sequence")
    for deltas in (False, True):
        sync = BookSync(id, OrderBook(Window()), rules, lambda *_: 0, START)
        policy = Policy(snapshot_depth=2, deltas=deltas)
        kept = Kept(policy, book_of={id: sync}.get)
        sync.receive(whole, START)
        kept.give(whole)
        for number, at in ((2, 1), (3, 11 * SECOND), (4, 30 * SECOND)):
            sync.receive(delta(number, at), START + at)
            kept.give(delta(number, at))
        kept.finish()
        views = [it for it in kept.of(BookSnapshot) if it.depth]
        assert [(it.sequence, it.available_at - START) for it in views] == [
            (1, 0), (3, 11 * SECOND), (4, 30 * SECOND),
        ]
        assert all(len(it.bids) <= 2 for it in views)
        assert len(kept.of(BookDelta)) == (3 if deltas else 0)
        assert [it.sequence for it in kept.published if isinstance(it, BookDelta)] == [2, 3, 4]


def test_quotes_are_kept_unless_the_policy_says_no():
    quote = Quote(
        venue="binance", symbol="BTCUSDT", exchange_time=START, received_time=START, available_at=START,
        bid=(D(1), D(1)), ask=None)
    for quotes in (True, False):
        kept = Kept(Policy(quotes=quotes)).give(quote).finish()
        assert (kept.of(Quote), kept.published) == ([quote] if quotes else [], [quote])


def test_at_the_end_what_is_missing_is_a_gap():
    kept = Kept().give(trade(1), trade(5)).finish(START + 1)
    (gap,) = kept.of(GapOpened)
    assert (gap.after, gap.before, gap.available_at) == ("1", "5", START + 1)


def test_a_refused_trade_does_not_carry_its_absurd_time_into_a_gap():
    kept = Kept().give(trade(1), trade(3, at=5 * 60 * MINUTE, now=SECOND), trade(4, at=2 * SECOND)).finish()
    (gap,) = kept.of(GapOpened)
    assert (gap.after, gap.before, gap.from_time, gap.to_time) == ("1", "3", START, START)


def test_what_the_store_shows_to_be_missing_is_told_when_it_is_known():
    intervals = (Interval(1, 5, START, START + 1), Interval(9, 9, START + 2, START + 2))
    kept = Kept(restore=lambda *_: History(ledger=LedgerState(intervals=intervals)))
    kept.give(trade(10, at=SECOND)).finish()
    (gap,) = kept.of(GapOpened)
    assert (gap.after, gap.before, gap.available_at) == ("5", "9", START + SECOND)


def test_a_repetition_of_the_last_stored_trade_mends_a_tape_whose_ids_prove_nothing():
    of = {"after": False, "venue": "bybit"}
    last = trade(2, at=SECOND, **of)
    for repeated in (True, False):
        kept = Kept(restore=lambda *_: History(last=last), stored_ids=lambda *_: ["1", "2"])
        kept.give(trade(1, **of), *([last] if repeated else []), trade(3, at=2 * SECOND, **of)).finish()
        assert len(kept.of(GapOpened)) == (0 if repeated else 1)
        assert ids(kept) == [3]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(-5_000, 5_000)), max_size=60), st.booleans())
def test_no_candle_is_known_before_its_end_or_its_trades(moves, clock):
    """Also where recordings are played in the wrong order, or kept no clock."""
    kept, now = Kept(), 10 * MINUTE
    for number, (id, step) in enumerate(moves):
        now = max(now + step * MILLISECOND, 0)
        it = trade(id, at=now, now=now)
        if not clock:
            it = structs.replace(it, received_time=number, available_at=number)
        kept.give(it)
    kept.finish()
    trades = kept.of(Trade)
    for it in kept.of(Candle):
        assert it.available_at >= it.end
        parts = [one for one in trades if it.start <= one.exchange_time < it.end]
        assert it.trades <= len(parts)
        known = [one for one in parts if one.available_at <= it.available_at]
        assert len(known) >= it.trades


def test_the_next_wake_is_known_and_ends():
    kept = Kept().give(trade(1), trade(3, at=SECOND))
    woken = 0
    while (due := kept.pipeline.next_wake()) is not None:
        kept.pipeline.wake(due)
        woken += 1
        assert woken < 20
    assert kept.waiting == []
    assert len(kept.of(GapOpened)) == 1


def test_rubbish_does_not_fill_the_store():
    stored, published = [], []
    pipeline = Pipeline(
        Policy(quarantine_per_minute=3), store=stored.append, commit=lambda _: None, publish=published.append,
    )
    for second in range(0, 120, 10):
        now = START + second * SECOND
        pipeline.handle(FeedError(
            venue="kraken", received_time=now, available_at=now, symbol="", channel="", reason="no JSON",
            quarantined=True, text="x",
        ))
    assert sum(isinstance(it, FeedError) for it in stored) <= 9  # of three minutes at most
    assert len(published) == 12
    assert pipeline.unkept == 12 - sum(isinstance(it, FeedError) for it in stored) >= 3


def test_no_candle_is_called_complete_while_it_is_not_known_what_there_is():
    """The connection is lost, a minute ends, and only then does a trade show whether something was missed."""
    for missed in (False, True):
        kept = Kept().give(trade(1, at=-SECOND), trade(2, at=SECOND), down(at=30 * SECOND))
        kept.pipeline.wake(START + 2 * MINUTE)
        minutes = [it for it in kept.of(Candle) if it.interval == "1m" and it.start == START]
        assert [it.complete for it in minutes] == [False]
        kept.give(trade(5 if missed else 3, at=2 * MINUTE + SECOND)).finish(START + 3 * MINUTE)
        minutes = [it for it in kept.of(Candle) if it.interval == "1m" and it.start == START]
        assert [it.complete for it in minutes] == ([False] if missed else [False, True])


def test_what_an_earlier_process_left_running_is_complete_only_when_the_next_trade_follows():
    last = trade(2, at=SECOND)
    for missed in (False, True):
        known = History(
            ledger=LedgerState(intervals=(Interval(1, 2, START - SECOND, START + SECOND),)), last=last,
            covered_since=START - SECOND, trades=(trade(1, at=-SECOND), last), final_until=START,
            known_at=START + SECOND,
        )
        kept = Kept(restore=lambda *_, known=known: known)
        kept.pipeline.begin(InstrumentId("binance", "BTCUSDT"), Channel.TRADES, START + 5 * MINUTE)
        kept.pipeline.wake(START + 5 * MINUTE + SECOND)
        minutes = [it for it in kept.of(Candle) if it.interval == "1m"]
        assert [it.complete for it in minutes] == [False]
        kept.give(trade(9 if missed else 3, at=5 * MINUTE + 2 * SECOND)).finish(START + 6 * MINUTE)
        minutes = [it for it in kept.of(Candle) if it.interval == "1m" and it.start == START]
        assert [it.complete for it in minutes] == ([False] if missed else [False, True])


def test_what_a_tape_was_once_due_for_is_not_remembered_for_ever():
    """A hole that is filled in its grace leaves a deadline behind, where nothing else is due for a day."""
    kept = Kept(Policy(intervals=("1d",)))
    for number in range(1, 3_000, 3):
        at = number * SECOND
        kept.give(trade(number, at), trade(number + 2, at), trade(number + 1, at + MILLISECOND))
    assert len(kept.pipeline._schedule) < 100
