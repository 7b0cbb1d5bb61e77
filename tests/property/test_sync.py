"""Whatever the wire does, a live book is the true book (safety), and it always gets live again (liveness)."""
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal as D
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.book import OrderBook, Window
from onetape.book.rules import BookRules, Snapshots
from onetape.book.sync import BookSync, Output
from onetape.model import (
    BookDelta,
    BookSnapshot,
    FeedStatus,
    InstrumentId,
    Level,
    Levels,
    NeedSnapshot,
    TrustState,
)

Sides = tuple[dict[D, D], dict[D, D]]


@dataclass
class Style:
    """How one venue numbers and resends."""

    rules: BookRules
    chained: bool = False  # delta ids jump; only after == previous sequence is meant
    counted: bool = False  # no ids: arrivals are counted
    resets: bool = False  # (15, 3): the numbering goes down by an ordinary delta
    restarts: bool = False  # a delta that says only: all begins anew
    told: bool = False  # losses are told by the connection's own counter
    summed: bool = False  # a checksum sees the whole (small) book
    cache: int = 0  # REST may be this many steps behind
    depth: int = 0


STYLES = {
    "binance": Style(BookRules(Snapshots.REST, resends=False, overlapping=True), cache=3),
    "binance_usdm": Style(BookRules(Snapshots.REST, resends=False), chained=True, cache=3),
    "okx": Style(BookRules(Snapshots.IN_BAND_OR_REST, resends=True), chained=True, resets=True),
    "bybit": Style(BookRules(Snapshots.IN_BAND, resends=True, crossed_grace_messages=1), restarts=True),
    "coinbase": Style(BookRules(Snapshots.IN_BAND, resends=False, crossed_grace_ns=5), counted=True, told=True),
    "kraken": Style(BookRules(Snapshots.IN_BAND, resends=True, checksum_depth=10), counted=True, summed=True),
}


def checksum(_symbol: str, book: OrderBook) -> int:
    return summed(book.bids(), book.asks())


def summed(bids: Sequence[Level], asks: Sequence[Level]) -> int:
    return hash((tuple(bids), tuple(asks)))


def true_sum(sides: Sides) -> int:
    return summed(sorted(sides[0].items(), reverse=True), sorted(sides[1].items()))


@dataclass
class World:
    """A true history, what the venue says of it, and a client that believes only its BookSync."""

    style: Style
    random: Random
    states: list[Sides] = field(default_factory=lambda: [({}, {})])
    sequences: list[int] = field(default_factory=lambda: [1_000_000])  # the wire's number of each state
    series: int = 1_000  # each reset goes to numbers that were never used
    arrivals: int = 0
    at: int = 0  # index of the state after the last delta sent
    due: list[tuple[int, int, int]] = field(default_factory=list)  # step, epoch, oldest state it may show
    step: int = 0
    went_live: int = 0

    def __post_init__(self) -> None:
        book = OrderBook(Window(0, resends=self.style.rules.resends))
        self.sync = BookSync(InstrumentId("v", "s"), book, self.style.rules, checksum, 0)

    # the venue

    def change(self) -> BookDelta:
        """Some true changes, and the delta that tells them."""
        changed: list[dict[D, D]] = [{}, {}]
        first = self.at
        for _ in range(self.random.randint(1, 3)):
            side = self.random.randrange(2)
            price = D(self.random.randint(1, 4) + 4 * side)
            size = D(self.random.randint(0, 2))
            state = {**self.states[-1][0]}, {**self.states[-1][1]}
            state[side].pop(price, None)
            if size:
                state[side][price] = size
            changed[side][price] = size
            self.states.append(state)
            self.sequences.append(self.sequences[-1] + (self.random.randint(1, 4) if self.style.chained else 1))
        self.at = len(self.states) - 1
        return self.delta(self.sequences[first], self.sequences[self.at], changed)

    def delta(self, after: int, sequence: int, changed: list[dict[D, D]], *, restart: bool = False) -> BookDelta:
        return BookDelta(
            venue="v", symbol="s", exchange_time=0, received_time=self.at, available_at=0, after=after,
            sequence=sequence, bids=Levels.of(changed[0].items()), asks=Levels.of(changed[1].items()),
            checksum=true_sum(self.states[self.at]) if self.style.summed else None, restart=restart,
        )

    def renumber(self) -> BookDelta:
        """A reset (OKX) keeps its link; a restart (Bybit) is only a mark, and always begins at 1.

        Hence one restart a history: were two lost in a row, their numbers could meet, and nobody could tell.
        """
        self.series -= 1
        before, self.sequences[-1] = self.sequences[-1], 1_000 * self.series
        if self.style.resets:
            return self.delta(before, self.sequences[-1], [{}, {}])
        self.sequences[-1] = 1
        return self.delta(0, 1, [{}, {}], restart=True)

    def snapshot(self, state: int) -> BookSnapshot:
        bids, asks = self.states[state]
        return BookSnapshot(
            venue="v", symbol="s", exchange_time=0, received_time=state, available_at=0,
            sequence=self.sequences[state], bids=Levels.of(bids.items()), asks=Levels.of(asks.items()), depth=0,
            verification="", checksum=true_sum(self.states[state]) if self.style.summed else None,
        )

    # the client

    def send(self, event: BookDelta | BookSnapshot) -> None:
        if self.style.counted:  # the venue's adapter numbers what arrives
            self.arrivals += 1
            if isinstance(event, BookSnapshot):
                event = BookSnapshot(**{it: getattr(event, it) for it in event.__struct_fields__} | {
                    "sequence": self.arrivals})
            else:
                event = BookDelta(**{it: getattr(event, it) for it in event.__struct_fields__} | {
                    "after": self.arrivals - 1, "sequence": self.arrivals})
        self.obey(self.sync.receive(event, self.step))

    def obey(self, outputs: list[Output]) -> None:
        told = [it.state for it in outputs if isinstance(it, FeedStatus)]
        if told:
            assert told[-1] is self.sync.state
        for it in outputs:
            if isinstance(it, NeedSnapshot):
                assert not any(self.sync.state is state for state in (TrustState.LIVE, TrustState.DOWN))
                oldest = max(0, len(self.states) - 1 - self.random.randint(0, self.style.cache))
                self.due.append((self.step + self.random.randint(0, 4), self.sync.epoch, oldest))
            elif isinstance(it, BookSnapshot | BookDelta):
                self.shown = it.received_time
        if self.sync.state is TrustState.LIVE:
            self.went_live += TrustState.LIVE in told
            bids, asks = self.states[self.shown]
            assert self.sync.book.bids() == sorted(bids.items(), reverse=True)
            assert self.sync.book.asks() == sorted(asks.items())

    def answer(self) -> None:
        """Snapshots that are due: in the stream at its very place, or by REST from some moment since asked."""
        ripe, self.due = [it for it in self.due if it[0] <= self.step], [it for it in self.due if it[0] > self.step]
        for _, epoch, oldest in ripe:
            by_rest = self.style.rules.snapshots is Snapshots.REST or (
                self.style.rules.snapshots is Snapshots.IN_BAND_OR_REST and self.random.random() < 0.5
            )
            if by_rest:
                state = self.random.randint(oldest, len(self.states) - 1)
                self.obey(self.sync.join(self.snapshot(state), epoch, self.step))
            else:
                self.send(self.snapshot(self.at))

    def tick(self, faults: float) -> None:
        self.step += 1
        self.answer()
        event = self.change()
        may_renumber = self.style.resets or (self.style.restarts and self.series == 1_000)
        if may_renumber and self.random.random() < faults / 4:
            self.deliver(event, faults)
            event = self.renumber()
        self.deliver(event, faults)
        self.obey(self.sync.wake(self.step))

    def deliver(self, event: BookDelta, faults: float) -> None:
        if self.random.random() >= faults:
            self.send(event)
            return
        fate = self.random.choice(["lost", "twice", "quarantined"])
        if self.style.counted and not self.style.summed:
            fate = "lost"  # a doubled frame is dropped by the connection's counter
        if fate == "twice":
            self.send(event)
            self.send(event)
        elif fate == "quarantined" or self.style.told:
            self.obey(self.sync.distrust("lost or unreadable", self.step))


@pytest.mark.parametrize("name", STYLES)
@settings(max_examples=150, deadline=None)
@given(random=st.randoms(use_true_random=False), steps=st.integers(5, 60))
def test_a_live_book_is_the_true_book_and_it_gets_live_again(name, random, steps):
    world = World(STYLES[name], random)
    if world.style.rules.snapshots is not Snapshots.REST:
        world.due.append((random.randint(0, 3), 0, 0))
    for _ in range(steps):
        world.tick(faults=0.3)
    for _ in range(40):  # the faults end; what was asked for in vain is asked for again, as the session does
        if not world.due and world.sync.state not in (TrustState.LIVE, TrustState.CROSSED):
            world.due.append((world.step, world.sync.epoch, len(world.states) - 1))
        world.tick(faults=0.0)
    assert world.sync.state is TrustState.LIVE
    assert world.shown == len(world.states) - 1
    assert world.went_live >= 1
