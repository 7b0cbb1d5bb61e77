"""What is known of the trades between two connections when their ids tell nothing."""
from decimal import Decimal

from onetape.clock import SECOND
from onetape.feed.overlap import HABIT, LEAST_OF_TRADES_NS, LEAST_SILENCE_NS, MARGIN_NS, Overlap
from onetape.model import Channel, Side, Trade


def trade(id, seconds, symbol="BTCUSDT"):
    time = round(seconds * SECOND)
    return Trade(
        venue="bybit", symbol=symbol, exchange_time=time, received_time=time, available_at=time, id=id, after=None,
        price=Decimal(1), size=Decimal(1), side=Side.BUY, channel=Channel.TRADES,
    )


def heard(*trades, at=0.0, since=None):
    """A connection that brought these, was confirmed at ``since`` by the venue's time, and came up to ``at``."""
    it = Overlap()
    if since is not None:
        it.acked(["BTCUSDT"])
        it.event(round(since * SECOND), round(since * SECOND))
    for one in trades:
        it.event(one.exchange_time, one.received_time)
        it.trade(one, one.received_time)
    it.event(round(at * SECOND), round(at * SECOND))
    return it


def test_an_older_connection_that_went_on_long_enough_leaves_no_hole():
    old = heard(trade("a", 9), at=10.5)
    new = heard(trade("c", 10.4), since=10)
    assert new.proven(old, "BTCUSDT")
    assert new.hole(old, "BTCUSDT") is None


def test_one_that_ended_before_leaves_a_hole_between_its_last_trade_and_the_first_new_one():
    old, first = heard(trade("a", 9), trade("b", 9.4), at=9.5), trade("c", 10.4)
    new = heard(first, trade("d", 10.9), since=10)
    assert not new.proven(old, "BTCUSDT")
    assert new.hole(old, "BTCUSDT") == (trade("b", 9.4), first)


def test_one_that_lags_proves_nothing_though_it_is_heard():
    """What it brings now, the venue sent before the new one was subscribed."""
    old = heard(trade("a", 8))
    for late in range(80, 100):
        old.event(late * SECOND // 10, 12 * SECOND + late)
    assert not heard(trade("c", 10.4), since=10).proven(old, "BTCUSDT")


def test_the_margin_counts_from_the_confirmation():
    new = heard(trade("c", 10.4), since=10)
    limit = 10 + MARGIN_NS / SECOND
    for at, proven in ((limit - 0.001, False), (limit, True)):
        assert new.proven(heard(trade("a", 9), at=at), "BTCUSDT") is proven


def test_without_a_confirmation_nothing_is_proven():
    assert not heard(trade("c", 10.4)).proven(heard(trade("a", 9), at=60), "BTCUSDT")


def test_a_trade_that_both_had_is_no_hole():
    """The older one brought what came after the first trade here."""
    assert heard(trade("b", 9.4), since=10).hole(heard(trade("a", 9), trade("c", 9.45)), "BTCUSDT") is None


def test_where_one_of_them_never_had_a_trade_there_is_no_hole_to_name():
    assert heard(since=10).hole(heard(trade("a", 9)), "BTCUSDT") is None
    assert heard(trade("b", 10), since=10).hole(heard(), "BTCUSDT") is None
    assert not heard(since=10).begun("BTCUSDT")
    assert heard(trade("b", 10)).begun("BTCUSDT")


def test_a_silence_unlike_any_before_is_told_once():
    it = Overlap()
    for number in range(HABIT + 1):
        assert it.event(number, number * SECOND // 10) == 0
    last = HABIT * SECOND // 10
    assert it.event(99, last + LEAST_SILENCE_NS - 1) == 0
    assert it.event(99, last + 30 * SECOND) == 29 * SECOND + 1
    assert it.event(99, last + 31 * SECOND) == 0


def test_a_quiet_connection_is_used_to_silences():
    it = Overlap()
    for number in range(HABIT + 1):
        it.event(number, number * 10 * SECOND)
    assert it.event(99, HABIT * 10 * SECOND + 40 * SECOND) == 0
    assert it.event(99, HABIT * 10 * SECOND + 40 * SECOND + 200 * SECOND) == 200 * SECOND


def test_trades_that_keep_silent_unlike_before_while_the_connection_speaks():
    it = Overlap()
    for number in range(HABIT + 1):
        assert it.trade(trade(str(number), number), number * SECOND) == 0
    last = HABIT * SECOND
    assert it.trade(trade("late", HABIT + 2.9), last + LEAST_OF_TRADES_NS - 1) == 0
    assert it.trade(trade("later", HABIT + 30), last + 30 * SECOND) == 27 * SECOND + 1
    assert it.trade(trade("other", 1, "ETHUSDT"), last + 60 * SECOND) == 0
