"""Look-ahead is impossible: what a store says as of a time is what it said at that time, whatever came later."""
import os
from decimal import Decimal as D
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import MILLISECOND, SECOND
from onetape.model import Channel, FeedStatus, InstrumentId, Side, Source, Trade, TrustState
from onetape.pipeline import Policy
from onetape.service.keeper import Keeper
from onetape.service.rebuild import rebuild_store
from onetape.storage.compaction import compact
from onetape.storage.completeness import completeness
from onetape.storage.lake import Lake, Selection
from onetape.storage.restore import running

EXAMPLES = 200 if os.environ.get("ONETAPE_LONG") else 4
T0 = 1_790_000_040 * SECOND
INTERVALS = ("1s", "10s", "1m", "5m")
POLICY = Policy(intervals=INTERVALS)
PROVEN, UNPROVEN = InstrumentId("binance", "BTCUSDT"), InstrumentId("bybit", "BTCUSDT")
KINDS = ("trade", "trade", "trade", "skip", "late", "later", "again", "lost", "wait", "compact", "restart", "rebuild")
ALL = Selection()


class World:
    """A store, its writer, and what it said at the times at which it was asked."""

    def __init__(self, store, id):
        self.store, self.id, self.now = store, id, T0
        self.number = 100
        self.had = []
        """Trades that came, by id; ``missing``: ids that did not."""
        self.missing = []
        self.said = {}
        self.keeper = Keeper(store, POLICY)
        self.keeper.__enter__()

    def trade(self, number, time, source=Source.LIVE):
        after = number - 1 if self.id is PROVEN else None
        return Trade(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=time, received_time=self.now,
            available_at=self.now, channel=Channel.TRADES, id=str(number), after=after, price=D(100 + number % 7),
            size=D(1 + number % 3), side=Side.BUY if number % 2 else Side.SELL, source=source,
        )

    def step(self, kind, size):
        self.now += size * 37 * MILLISECOND
        match kind:
            case "trade" | "skip" | "late":
                if kind == "skip":
                    self.missing.append((self.number, self.now))
                    self.number += 1
                time = self.now - (size * SECOND if kind == "late" else size * MILLISECOND)
                self.had.append((self.number, time))
                self.keeper.handle(self.trade(self.number, time))
                self.number += 1
            case "later" if self.missing:  # backfilled, the newest first
                self.had.append(found := self.missing.pop())
                self.keeper.handle(self.trade(*found, Source.BACKFILL))
            case "again" if self.had:
                self.keeper.handle(self.trade(*self.had[size % len(self.had)], Source.SNAPSHOT))
            case "lost":  # nothing is seen in the ids of a tape that is not counted
                self.keeper.handle(FeedStatus(
                    venue=self.id.venue, symbol=self.id.symbol, exchange_time=self.now, received_time=self.now,
                    available_at=self.now, channel=Channel.TRADES, state=TrustState.DOWN, since=self.now, reason="lost",
                ))
            case "wait":
                self.now += size * SECOND
            case "compact" | "restart" | "rebuild":
                self.restart(kind)
        self.ask()

    def restart(self, kind):
        self.close()
        if kind == "compact":
            compact(self.store, self.now, merge_at=2)
        if kind == "rebuild":
            rebuild_store(self.store, ALL, ("30s", *INTERVALS), clock=lambda: self.now)
        self.now += SECOND
        self.keeper = Keeper(self.store, POLICY)
        self.keeper.__enter__()

    def close(self):
        self.now += SECOND
        self.keeper.finish(self.now)
        self.keeper.__exit__()

    def ask(self):
        """When all that is available is committed: a batch ends after a tenth of a second."""
        self.now += POLICY.batch_ns
        self.keeper.wake(self.now)
        self.keeper.flush()
        with Lake(self.store) as lake:
            self.said[self.now] = answers(lake, self.now)
            assert lake.trades() == lake.trades(as_of=self.now)
            assert lake.candles() == lake.candles(as_of=self.now)


def answers(lake, as_of):
    return {
        "trades": lake.trades(as_of=as_of), "candles": lake.candles(as_of=as_of),
        "revisions": lake.candles(as_of=as_of, latest=False), "gaps": lake.gaps(as_of=as_of),
        "running": [it for interval in INTERVALS for it in running(lake, ALL, interval, as_of=as_of)],
        "spans": lake.spans(as_of=as_of), "completeness": completeness(lake, ALL, as_of=as_of),
    }


def times(found):
    """Of all that an answer holds, when it became available."""
    rows = [row for name in ("trades", "candles", "revisions", "gaps", "running") for row in found[name]]
    yield from (it.available_at for it in rows)
    yield from (it.opened_at for it in (*found["gaps"], *found["completeness"].gaps))
    yield from (last for _, last in found["spans"].values())
    yield from (it.to_time for it in found["completeness"].known)


steps = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(1, 90)), min_size=4, max_size=18)


@pytest.mark.long
@pytest.mark.parametrize("id", [PROVEN, UNPROVEN], ids=["ids are consecutive", "ids prove nothing"])
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(steps=steps, moments=st.lists(st.integers(0, 1_000), min_size=3, max_size=6))
def test_as_of_a_time_is_what_was_said_at_that_time(id, steps, moments):
    with TemporaryDirectory() as folder:
        store = Path(folder)
        world = World(store, id)
        for kind, size in steps:
            world.step(kind, size)
        world.close()
        rebuild_store(store, ALL, (), clock=lambda: world.now)
        compact(store, world.now)
        with Lake(store) as lake:
            for time, said in world.said.items():
                assert answers(lake, time) == said
            for share in moments:
                time = T0 + (world.now - T0) * share // 1_000
                assert all(it <= time for it in times(answers(lake, time)))
            check_revisions(lake.candles(latest=False))


def check_revisions(candles):
    """Each is available later than the one before it, and none before its end."""
    last = {}
    for it in sorted(candles, key=lambda it: (it.interval, it.end, it.revision)):
        key = it.interval, it.end
        assert it.revision == (last[key].revision + 1 if key in last else 0)
        assert it.available_at >= (last[key].available_at if key in last else it.end)
        last[key] = it
