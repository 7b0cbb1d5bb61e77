"""What is known of the trades between two connections when their ids tell nothing."""
from decimal import Decimal

from onetape.clock import MILLISECOND, SECOND
from onetape.feed.overlap import MARGIN_NS, Overlap
from onetape.model import Channel, Side, Trade


def trade(id, seconds, symbol="BTCUSDT"):
    time = round(seconds * SECOND)
    return Trade(
        venue="bybit", symbol=symbol, exchange_time=time, received_time=time, available_at=time, id=id, after=None,
        price=Decimal(1), size=Decimal(1), side=Side.BUY, channel=Channel.TRADES,
    )


def heard(seconds, *trades, since=None):
    it = Overlap()
    it.heard_at = round(seconds * SECOND)
    for one in trades:
        it.trade(one)
    if since is not None:
        it.acked(["BTCUSDT"], round(since * SECOND))
    return it


def test_an_older_connection_that_was_heard_long_enough_leaves_no_hole():
    old = heard(10.5, trade("a", 9))
    new = heard(11, trade("c", 10.4), since=10)
    assert new.proven(old, "BTCUSDT")
    assert new.hole(old, "BTCUSDT") is None


def test_one_that_fell_silent_before_leaves_a_hole_between_its_last_trade_and_the_first_new_one():
    old, first = heard(9.5, trade("a", 9), trade("b", 9.4)), trade("c", 10.4)
    new = heard(11, first, trade("d", 10.9), since=10)
    assert not new.proven(old, "BTCUSDT")
    assert new.hole(old, "BTCUSDT") == (trade("b", 9.4), first)


def test_the_margin_counts_from_the_confirmation():
    new = heard(11, trade("c", 10.4), since=10)
    limit = 10 * SECOND + MARGIN_NS
    for heard_at, proven in ((limit - MILLISECOND, False), (limit, True)):
        old = heard(0, trade("a", 9))
        old.heard_at = heard_at
        assert new.proven(old, "BTCUSDT") is proven


def test_without_a_confirmation_nothing_is_proven():
    assert not heard(11, trade("c", 10.4)).proven(heard(60, trade("a", 9)), "BTCUSDT")


def test_a_trade_that_both_had_is_no_hole():
    """The older one brought what came after the first trade here."""
    assert heard(11, trade("b", 9.4), since=10).hole(heard(9.5, trade("a", 9), trade("c", 9.45)), "BTCUSDT") is None


def test_where_one_of_them_never_had_a_trade_there_is_no_hole_to_name():
    assert heard(11, since=10).hole(heard(9, trade("a", 9)), "BTCUSDT") is None
    assert heard(11, trade("b", 10), since=10).hole(heard(9), "BTCUSDT") is None
    assert not heard(11, since=10).begun("BTCUSDT")
    assert heard(11, trade("b", 10)).begun("BTCUSDT")
