"""Two connections for the same subscriptions: either may be lost, again and again, and no listener hears of it."""
import os
from collections import Counter
from random import Random

import pytest

from onetape.clock import SECOND
from onetape.model import Channel, FeedStatus, GapOpened, InstrumentId, Reconnect, Trade, TrustState
from onetape.sim.base import Frame
from tests.simulation.lab import START, Lab
from tests.simulation.test_faults import PAIRS

SEEDS = range(10) if os.environ.get("ONETAPE_LONG") else range(1)
VENUES = ["binance", "binance-usdm", "bybit", "coinbase", "coinbase-exchange", "kraken", "okx"]
WELL_WITHIN = 150  # virtual seconds from a loss on, a silence to be noticed and a backoff included
LOSSES = 6
SILENT = 25.0  # seconds: a connection that brings nothing of the market any more is closed by the venue in the end
PATIENCE_NS = 20 * SECOND  # so long a connection may seem to live that brings nothing any more


class Two(Lab):
    """Two connections where there was one; loses either, and notes what a listener should never hear."""

    def __init__(self, venue: str, seed: int):
        self.muted: set[int] = set()
        self.heard_of: list = []
        self.listening = False
        super().__init__(
            venue=venue, seed=seed, pace=0.7,
            settings={"redundancy": 2, "pairs": PAIRS.get(venue, ["BTC-USDT", "ETH-USDT"])},
        )

    @property
    def twins(self) -> list[tuple[str, str]]:
        return [(it, f"{it}+2") for it in sorted(self.door.lines) if "+" not in it]

    @property
    def well(self) -> bool:
        """Both of all lines are active, with live books and tapes that have begun."""
        sessions = [self.door.sessions.get(line.leader) for line in self.door.lines.values()]
        return (
            self.healthy and not any(line.next for line in self.door.lines.values())
            and all(it is not None and it.settled and not it.awaited for it in sessions)
        )

    def until_well(self, lost: list[str]):
        """Connections that were lost have been replaced, and all is as it was."""
        for _ in range(WELL_WITHIN * 4):
            self.play((self.now - START) / SECOND + 0.25)
            assert not self.deceived(PATIENCE_NS)
            if self.well and not self._sockets.keys() & set(lost):
                return
        states = {name: (it.state, it.reason) for name, it in self.door.lines.items()}
        raise AssertionError((states, {name: (it.lacking, it.awaited) for name, it in self.door.sessions.items()}))

    def _hear(self, it):
        if not (isinstance(it, Frame) and it.channel and it.connection in self.muted):
            super()._hear(it)

    def _published(self, it):
        bad = isinstance(it, FeedStatus) and it.channel is Channel.BOOK and it.state is not TrustState.LIVE
        if self.listening and (bad or isinstance(it, GapOpened)):
            self.heard_of.append(((self.now - START) / SECOND, it))
        super()._published(it)

    # --- ways to lose the connection of a line ------------------------------------------------------------------------

    def close(self, name: str):
        self.lose(name)

    def leave_half_open(self, name: str):
        self.lose(name, unnoticed=True)

    def mute(self, name: str):
        """Nothing of the market comes any more, though acks and heartbeats do."""
        self.muted.add(self._sockets[name])
        self._at(self.now + round(SILENT * SECOND), lambda: name in self._sockets and self.lose(name))

    def rotate(self, name: str):
        self._obey(self.door.line_of(name).relay(name, [Reconnect("planned", planned=True)], self.now))


WAYS = [Two.close, Two.leave_half_open, Two.mute, Two.rotate]


@pytest.mark.long
@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_loss_of_either_is_never_heard_of(venue, seed):
    dice, lab = Random(f"{venue} {seed}"), Two(venue, seed)
    lab.start()
    lab.until_well([])
    lab.listening = True
    ways = [*WAYS, *dice.choices(WAYS, k=LOSSES - len(WAYS))]
    dice.shuffle(ways)
    for way in ways:
        lab.play((lab.now - START) / SECOND + dice.uniform(0, 4))
        lost = [lab.door.lines[dice.choice(pair)].leader for pair in lab.twins]
        for name in lost:
            way(lab, name)
        lab.until_well(lost)
    lab.play((lab.now - START) / SECOND + 3)
    lab.listening = False
    lab.stop()
    assert not lab.heard_of, lab.heard_of[:5]
    assert not lab.gaps
    assert not any(lab.missing().values())
    assert all(it.snapshots and it.deltas for it in lab.followers.values())
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    tape_is_true(lab)
    for standby in lab.door.standbys.values():
        assert standby.switches


def tape_is_true(lab: Two):
    """What is stored: each trade once, from the first to the newest, with price and size as they were."""
    stored: dict[InstrumentId, Counter[int]] = {}
    for it in lab.stored:
        if isinstance(it, Trade):
            id, venue = InstrumentId(it.venue, it.symbol), lab.sim.venues[it.venue]
            number, listing = venue.number(it.id), lab.sim.truths[id].listing
            stored.setdefault(id, Counter())[number] += 1
            true = venue.match(it.symbol, number)
            assert (it.price, it.size) == (true.price * listing.tick, true.size * listing.lot)
    assert set(stored) == set(lab.sim.truths) & set(stored) != set()
    for id, numbers in stored.items():
        assert set(numbers.values()) == {1}, "one came twice"
        assert set(numbers) >= set(range(min(numbers), max(numbers) + 1)) - lab._never(id)
        newest = lab.sim.venues[id.venue].match(id.symbol, max(numbers))
        assert newest.time >= lab.sim.truths[id].last_matches(1)[0].time - SECOND, "nothing came at the end"
