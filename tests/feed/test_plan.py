"""What is wanted is split over connections within each venue's limits, or refused before anything connects."""
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.errors import UsageError
from onetape.feed.plan import check, plan
from onetape.model import Channel, Subscription
from onetape.venues import VENUES

BINANCE, USDM, OKX, BYBIT, KRAKEN = (VENUES[it] for it in ("binance", "binance-usdm", "okx", "bybit", "kraken"))


def book(symbol, depth=0):
    return Subscription(symbol, Channel.BOOK, depth)


def trades(symbol):
    return Subscription(symbol, Channel.TRADES)


def served(connections):
    return [it for connection in connections for it in connection.subscriptions]


def test_nothing_wanted_is_no_connection():
    assert plan(BINANCE, []) == []


def test_what_fits_is_one_connection_with_the_venues_plain_name():
    (connection,) = plan(BINANCE, [trades("BTCUSDT"), book("BTCUSDT")])
    assert (connection.venue, connection.route, connection.name) == ("binance", "", "binance")


def test_each_subscription_once_though_wanted_twice():
    assert served(plan(KRAKEN, [trades("BTC/USD"), trades("BTC/USD")])) == [trades("BTC/USD")]


def test_what_becomes_the_same_by_rounding_up_is_subscribed_once():
    assert served(plan(KRAKEN, [book("BTC/USD", 11), book("BTC/USD", 25)])) == [book("BTC/USD", 25)]


@pytest.mark.parametrize("odd", [
    Subscription("BTCUSDT", Channel.TRADES, depth=200), Subscription("BTCUSDT", Channel.TRADES, interval="1m"),
])
def test_what_a_channel_has_no_use_for_makes_no_second_subscription(odd):
    assert served(plan(BINANCE, [trades("BTCUSDT"), odd])) == [trades("BTCUSDT")]


def test_candles_of_two_intervals_are_two_subscriptions():
    wanted = [Subscription("BTCUSDT", Channel.CANDLES, interval=it) for it in ("1m", "1h")]
    assert sorted(served(plan(BINANCE, wanted))) == sorted(wanted)


@pytest.mark.parametrize(("venue", "wanted", "routes"), [
    (USDM, [book("A"), Subscription("A", Channel.AGG_TRADES)], {"public": Channel.BOOK, "market": Channel.AGG_TRADES}),
    (OKX, [book("A"), trades("A")], {"public": Channel.BOOK, "business": Channel.TRADES}),
])
def test_each_route_has_its_own_socket(venue, wanted, routes):
    connections = plan(venue, wanted)
    assert {it.route: [each.channel for each in it.subscriptions] for it in connections} == {
        route: [channel] for route, channel in routes.items()
    }
    assert {it.name for it in connections} == {f"{venue.spec.name}/{route}" for route in routes}


def test_bybit_is_split_by_market():
    connections = plan(BYBIT, [trades("BTCUSDT"), trades("linear:BTCUSDT")])
    assert [(it.route, served([it])) for it in connections] == [
        ("spot", [trades("BTCUSDT")]), ("linear", [trades("linear:BTCUSDT")]),
    ]


def test_one_more_than_the_limit_is_a_second_connection_with_a_name_of_its_own():
    most = BYBIT.spec.limits.subscriptions
    connections = plan(BYBIT, [trades(f"S{number:04}USDT") for number in range(most + 1)])
    assert [len(it.subscriptions) for it in connections] == [most, 1]
    assert [it.name for it in connections] == ["bybit/spot", "bybit/spot.2"]


def test_exactly_the_limit_is_one_connection():
    most = BYBIT.spec.limits.subscriptions
    assert len(plan(BYBIT, [trades(f"S{number:04}USDT") for number in range(most)])) == 1


def test_a_venue_without_a_limit_takes_all_on_one_connection():
    assert KRAKEN.spec.limits.subscriptions == 0
    assert len(plan(KRAKEN, [trades(f"S{number}/USD") for number in range(3_000)])) == 1


def test_the_channels_of_one_symbol_are_not_parted_by_the_limit():
    """Trades that move beside a book that does not: only a connection that has both can see it."""
    wanted = [each for number in range(400) for each in (
        book(f"S{number:03}", 0), trades(f"S{number:03}"), Subscription(f"S{number:03}", Channel.QUOTES))]
    connections = plan(BINANCE, wanted)
    homes = Counter(symbol for it in connections for symbol in {each.symbol for each in it.subscriptions})
    assert len(connections) == 2
    assert set(homes.values()) == {1}


@pytest.mark.parametrize(("name", "wanted", "there"), [
    ("kraken", 1, 10), ("kraken", 10, 10), ("kraken", 11, 25), ("kraken", 200, 500),
    ("kraken", 9_999, 1_000), ("okx", 5, 5), ("okx", 6, 400), ("okx", 401, 400), ("bybit", 51, 200),
    ("binance", 5, 5), ("binance", 20, 20), ("binance", 200, 200), ("binance", 0, 0), ("coinbase", 200, 200),
])
def test_depth_is_rounded_up_and_a_whole_book_keeps_the_number_wanted(name, wanted, there):
    assert check(VENUES[name], book("X", wanted)) == book("X", there)


@pytest.mark.parametrize("name", VENUES)
@given(depth=st.integers(0, 10_000))
def test_the_depth_served_is_never_less_than_wanted_where_the_venue_has_it(name, depth):
    has = VENUES[name].spec.capabilities
    there = check(VENUES[name], book("X", depth)).depth
    assert there >= depth or there == max(has.depths)
    assert there in has.depths or (0 in has.depths and there == depth)


@pytest.mark.parametrize(("name", "channel"), [
    ("binance", Channel.STATUS), ("kraken", Channel.AGG_TRADES), ("coinbase-exchange", Channel.QUOTES),
])
def test_a_channel_that_the_venue_lacks_is_refused_with_those_that_it_has(name, channel):
    with pytest.raises(UsageError) as error:
        plan(VENUES[name], [trades("X"), Subscription("X", channel)])
    assert f"{name} has no channel {channel}" in str(error.value)
    assert all(it in str(error.value) for it in VENUES[name].spec.capabilities.channels)


@pytest.mark.parametrize(("name", "interval", "near"), [
    ("binance", "61m", "did you mean '1m'"), ("binance-usdm", "1s", "1m"), ("coinbase", "1m", "'5m'|there is 5m"),
    ("kraken", "", "there is 15d, .*1m"), ("okx", "1y", "1"), ("bybit", "90m", "30m"),
])
def test_an_interval_that_the_venue_lacks_is_refused_with_near_ones(name, interval, near):
    with pytest.raises(UsageError, match=f"{name} has no candles of '{interval}': .*({near})"):
        plan(VENUES[name], [Subscription("X", Channel.CANDLES, interval=interval)])


SYMBOLS = st.sampled_from([f"{market}S{number}" for number in range(40) for market in ("", "linear:")])


@pytest.mark.parametrize("name", VENUES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_all_that_is_wanted_is_served_once_on_its_route_within_the_limit(name, data):
    venue = VENUES[name]
    has = venue.spec.capabilities
    one = st.builds(
        lambda symbol, channel, depth, interval: Subscription(
            symbol, channel, depth if channel is Channel.BOOK else 0, interval if channel is Channel.CANDLES else ""),
        SYMBOLS, st.sampled_from(sorted(has.channels)), st.just(max(has.depths)), st.sampled_from(has.intervals),
    )
    wanted = data.draw(st.lists(one, max_size=60))
    connections = plan(venue, wanted)
    assert sorted(served(connections)) == sorted({check(venue, it) for it in wanted})
    assert len({it.name for it in connections}) == len(connections)
    assert plan(venue, wanted[::-1]) == connections
    for it in connections:
        assert it.route in venue.spec.endpoints["production"].websocket
        assert all(venue.route_of(each) == it.route for each in it.subscriptions)
        assert 0 < len(it.subscriptions) <= (venue.spec.limits.subscriptions or len(it.subscriptions))


def test_two_depths_of_one_book_are_refused():
    """Their frames cannot be told apart on one connection, and there is one book per symbol."""
    wanted = [Subscription("BTCUSDT", Channel.BOOK, depth) for depth in (50, 200)]
    with pytest.raises(UsageError, match="one book of BTCUSDT, not 2 of depths 50, 200"):
        plan(VENUES["bybit"], wanted)
