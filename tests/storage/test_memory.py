"""The memory store holds what a naive model of its bounds holds, and accounts for every event."""
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onetape.clock import HOUR
from onetape.model import Channel, ConnectionState, Quote, Side, Trade
from onetape.model.events import Lifecycle, kind_of
from onetape.storage.memory import MemoryStore, Statistics


def trade(number, available_at=0, venue="binance", symbol="BTCUSDT"):
    return Trade(
        venue=venue, symbol=symbol, exchange_time=1, received_time=2, available_at=available_at,
        channel=Channel.TRADES, id=str(number), after=number - 1, price=D(1), size=D(2), side=Side.BUY,
    )


def quote(number, available_at, venue, symbol):
    return Quote(
        venue=venue, symbol=symbol, exchange_time=1, received_time=2, available_at=available_at, bid=None, ask=None,
        sequence=number,
    )


def connection(number, available_at, venue, _symbol):
    return ConnectionState(
        venue=venue, received_time=number, available_at=available_at, connection="c", state=Lifecycle.ACTIVE)


class Naive:
    """The bounds as they are told: too old, then more than the ring takes, then more than all."""

    def __init__(self, per_ring, total, retention_ns):
        self.per_ring, self.total, self.retention_ns = per_ring, total, retention_ns
        self.held, self.newest = [], 0
        self.evicted = {"retention": 0, "ring": 0, "total": 0}

    def add(self, event):
        self.held.append(event)
        self.held.sort(key=lambda it: it.available_at)  # stable: equal times stay in the order of arrival
        self.expire(event.available_at)
        mine = [it for it in self.held if place(it) == place(event)]
        self.drop(mine[: max(len(mine) - self.per_ring, 0)], "ring")
        self.drop(self.held[: max(len(self.held) - self.total, 0)], "total")

    def expire(self, now):
        self.newest = max(self.newest, now)
        self.drop([it for it in self.held if it.available_at < self.newest - self.retention_ns], "retention")

    def drop(self, events, reason):
        self.evicted[reason] += len(events)
        self.held = [it for it in self.held if not any(it is event for event in events)]

    def read(self, kind, venue, symbol, start, end, limit, ascending):
        out = [
            it for it in self.held
            if all(want in (None, has) for want, has in zip((kind, venue, symbol), place(it), strict=True))
            and (start is None or it.available_at >= start) and (end is None or it.available_at < end)
        ]
        return (out if ascending else out[::-1])[:limit]


def place(event):
    return kind_of(event), event.venue, getattr(event, "symbol", "")


VENUES, SYMBOLS, TIMES = st.sampled_from(["binance", "okx"]), st.sampled_from(["A", "B"]), st.integers(0, 60)
EVENTS = st.builds(
    lambda make, *rest: make(1, *rest), st.sampled_from([trade, quote, connection]), TIMES, VENUES, SYMBOLS)
QUERIES = st.fixed_dictionaries({
    "kind": st.sampled_from([None, "trade", "quote", "connection_state", "candle"]), "venue": st.none() | VENUES,
    "symbol": st.sampled_from([None, "A", "B", ""]), "start": st.none() | TIMES, "end": st.none() | TIMES,
    "limit": st.none() | st.integers(0, 5), "ascending": st.booleans(),
})


@given(
    st.lists(EVENTS | TIMES, max_size=60), st.lists(QUERIES, max_size=5), st.integers(1, 6), st.integers(1, 12),
    st.integers(0, 40),
)
def test_it_holds_and_reads_what_the_naive_model_does(steps, queries, per_ring, total, retention):
    store = MemoryStore(per_ring=per_ring, total=total, retention_ns=retention)
    naive = Naive(per_ring, total, retention)
    received = 0
    for step in steps:
        for it in (store, naive):
            it.expire(step) if isinstance(step, int) else it.add(step)
        received += not isinstance(step, int)
        assert same(store.read(ascending=True), naive.held)
        assert store.statistics() == Statistics(received, len(naive.held), naive.evicted)
        assert received == len(store) + sum(naive.evicted.values())
    for query in queries:
        assert same(store.read(**query), naive.read(**query))


def same(ours, theirs):
    return len(ours) == len(theirs) and all(one is other for one, other in zip(ours, theirs, strict=True))


def test_the_bounds_of_the_default():
    store = MemoryStore()
    for number in range(1_500):
        store.add(trade(number))
    assert [it.id for it in store.read("trade", "binance", "BTCUSDT", limit=2)] == ["1499", "1498"]
    assert store.statistics() == Statistics(1_500, 1_000, {"retention": 0, "ring": 500, "total": 0})
    for number in range(10_000):
        store.add(trade(number, symbol=f"S{number % 20}"))
    assert store.statistics() == Statistics(11_500, 10_000, {"retention": 0, "ring": 500, "total": 1_000})
    store.add(trade(1, HOUR + 1))
    assert store.statistics() == Statistics(11_501, 1, {"retention": 10_000, "ring": 500, "total": 1_000})


@pytest.mark.parametrize("late", [1, 5])
def test_what_comes_too_late_is_not_held_but_counted(late):
    store = MemoryStore(retention_ns=10)
    store.add(trade(1, 100))
    store.add(trade(2, 90 - late))
    assert store.statistics() == Statistics(2, 1, {"retention": 1, "ring": 0, "total": 0})


def test_instruments_that_left_leave_nothing_behind():
    store = MemoryStore(total=10)
    for number in range(1_000):
        store.add(trade(number, symbol=f"S{number}"))
    assert len(store._rings) == len(store._events) == len(store) == 10
