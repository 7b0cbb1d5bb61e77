"""Lines in the simulator: rotation without a break, states of a connection, replays of what a line went through."""
import json
from hashlib import sha256

import pytest

from onetape.clock import SECOND
from onetape.feed.inputs import Closed, Listed, Unlisted
from onetape.feed.recording import VERSION, Header, RecordingWriter, open_recording
from onetape.feed.replay import Replay
from onetape.model import (
    Change,
    Channel,
    Connect,
    ConnectionState,
    Event,
    FeedStatus,
    InstrumentChanged,
    Lifecycle,
    TrustState,
    encode,
)
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.venues import VENUES
from tests.simulation import test_faults
from tests.simulation.lab import Lab
from tests.simulation.test_faults import SYMBOLS

PAIRS = {"pairs": ["BTC-USDT", "ETH-USDT"]}


def pairs_of(venue):
    return {"pairs": test_faults.PAIRS.get(venue, PAIRS["pairs"])}


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_planned_rotation_breaks_nothing(venue):
    lab = Lab(venue=venue, settings={**pairs_of(venue), "timings": {"rotate_after": 12.0}})
    lab.start()
    lab.play(62)
    for line in lab.door.lines.values():
        assert line.counters["rotations"] >= 4
        assert line.counters["rotations failed"] == 0
    assert lab.healthy
    lab.stop()
    bad = (TrustState.STALE, TrustState.CROSSED, TrustState.DOWN)
    breaks = [it for it in lab.events if isinstance(it, FeedStatus) and it.state in bad and it.reason != "stopped"]
    assert not breaks
    assert not any(lab.missing().values())
    assert not lab.gaps
    assert lab.referee.finish().wrong == 0
    assert all(it.snapshots >= 5 for it in lab.followers.values())


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_a_notice_is_answered_by_a_new_connection_before_the_cut(venue):
    plan = FaultPlan(faults=(Fault(kind=FaultKind.NOTICE, venue=venue, at=8.0, lasts=1.0),))
    lab = Lab(plan, venue=venue, settings=PAIRS)
    lab.start()
    lab.play(40)
    assert lab.healthy
    lab.stop()
    assert lab.missing() == lab.told_missing()
    if venue == "binance":  # Kraken says maintenance: its books are not trusted from then on
        assert not [it for it in lab.events if isinstance(it, FeedStatus) and it.state is TrustState.STALE]
        assert not any(lab.missing().values())


def test_the_states_of_a_connection():
    plan = FaultPlan(faults=(Fault(kind=FaultKind.CLOSE, at=5.0, code=1001),))
    lab = Lab(plan, venue="kraken", settings=PAIRS)
    lab.start()
    lab.play(20)
    lab.stop()
    states = [it.state for it in lab.events if isinstance(it, ConnectionState)]
    once = [Lifecycle.CONNECTING, Lifecycle.CONNECTED, Lifecycle.SUBSCRIBING, Lifecycle.ACTIVE]
    assert states == [*once, Lifecycle.RECONNECTING, *once, Lifecycle.STOPPED]


def test_the_circuit_opens_and_a_probe_closes_it():
    plan = FaultPlan(faults=(Fault(kind=FaultKind.REFUSE_CONNECT, at=0.0, lasts=400.0),))
    lab = Lab(plan, venue="kraken", settings={**PAIRS, "reconnect": {"max_attempts": 3}}, pace=0.01)
    lab.start()
    lab.play(60)
    assert lab.states == {"kraken": Lifecycle.ERROR}
    assert len(lab.attempts["kraken"]) == 3
    lab.play(700)
    assert lab.states == {"kraken": Lifecycle.ACTIVE}
    assert len(lab.attempts["kraken"]) == 5  # a probe each five minutes


@pytest.mark.parametrize("venue", SYMBOLS)
def test_what_a_replacement_is_refused_is_told(venue):
    """The old connection had it, the new one does not: nobody may go on thinking that all is well."""
    plan = FaultPlan(faults=(Fault(kind=FaultKind.REFUSE_SYMBOL, at=8.0, lasts=1000.0, symbol=SYMBOLS[venue]),))
    lab = Lab(plan, venue=venue, settings={**pairs_of(venue), "timings": {"rotate_after": 12.0}})
    lab.start()
    for second in range(10, 150):
        lab.play(second)
        assert not lab.deceived(20 * SECOND)
    lab.stop()
    assert lab.missing() == lab.told_missing()


@pytest.mark.parametrize("venue", SYMBOLS)
def test_trades_that_are_silent_from_the_start_are_asked_for_again(venue):
    symbol = SYMBOLS[venue]
    plan = FaultPlan(faults=(Fault(kind=FaultKind.SILENT, at=0.0, lasts=300.0, symbol=symbol, channel="trades"),))
    lab = Lab(plan, venue=venue, settings=pairs_of(venue))
    lab.start()
    lab.play(250)
    sessions = [lab.door.sessions[line.leader] for line in lab.door.lines.values()]
    assert sum(it.counters["subscription silent"] for it in sessions) >= 1
    assert lab.tapes.get((venue, symbol)) is not TrustState.LIVE


def test_failover_stays_where_data_flows_and_rotates_there():
    """The first address is dead; the second one is good."""
    tried = []

    class Two(Lab):
        def _connect(self, name):
            tried.append(self.address % 2)
            if self.address % 2 == 0:
                self.enter(Closed, name, reason="nobody listens")
            else:
                super()._connect(name)

        def _obey(self, outcomes):
            for _, it in outcomes:
                if isinstance(it, Connect):
                    self.address = it.address
            super()._obey(outcomes)

    lab = Two(venue="kraken", settings={**PAIRS, "timings": {"rotate_after": 20.0}})
    lab.start()
    lab.play(100)
    assert lab.healthy
    assert tried[:2] == [0, 1]
    assert set(tried[1:]) == {1}
    assert len(tried) >= 5


def test_a_new_list_of_instruments_is_told_and_learnt():
    """Listed, delisted, and a tick that changes: the book with its checksums begins anew."""
    lab = Lab(venue="kraken", settings=PAIRS)
    lab.start()
    lab.play(8)
    body = lab.sim.request("kraken", "GET", "/0/public/AssetPairs", lab.now).body
    rows = json.loads(body)
    row = next(row for row in rows["result"].values() if row["wsname"] == "XBT/USDT")
    row["tick_size"] = "0.5"
    gone = next(name for name, row in rows["result"].items() if row["wsname"].startswith("XDG"))
    del rows["result"][gone]
    for _ in range(2):  # a row that is missing once may only have been unreadable
        lab.enter(Listed, "kraken", pages=(json.dumps(rows).encode(),))
    changed = {(it.instrument.pair, it.change) for it in lab.events if isinstance(it, InstrumentChanged)}
    assert ("BTC-USDT", Change.UPDATED) in changed
    assert ("DOGE-USD", Change.DELISTED) in changed
    assert lab.books()["kraken", "BTC/USDT"].state is TrustState.STALE
    lab.enter(Listed, "kraken", pages=(b"no list at all",))
    assert lab.door.directories["kraken"].failures == 1
    lab.play(20)
    assert lab.healthy
    lab.enter(Unlisted, "kraken", reason="nobody answers")
    assert lab.events[-1].reason == "nobody answers"


def test_a_refused_symbol_does_not_silence_the_others():
    plan = FaultPlan(faults=(Fault(kind=FaultKind.REFUSE_SYMBOL, at=0.0, lasts=1000.0, symbol="BTC/USDT"),))
    lab = Lab(plan, venue="kraken", settings=PAIRS)
    lab.start()
    lab.play(60)
    books = {symbol: it.state for (_, symbol), it in lab.books().items()}
    assert books.pop("ETH/USDT") is TrustState.LIVE
    assert books.get("BTC/USDT") is not TrustState.LIVE
    downs = [it for it in lab.events if isinstance(it, FeedStatus) and it.state is TrustState.DOWN]
    assert {(it.symbol, it.channel) for it in downs} == {("BTC/USDT", Channel.BOOK), ("BTC/USDT", Channel.TRADES)}
    assert len(lab.attempts["kraken"]) == 1


MIXTURES = [1, 2, 3]


@pytest.mark.parametrize("seed", MIXTURES)
def test_a_recording_of_a_run_under_faults_replays_to_the_same_events(seed, tmp_path):
    plan = FaultPlan.random(seed, VENUES, 60.0)
    digest = sha256()
    with RecordingWriter(tmp_path / "r", Header(VERSION, seed=1), part_bytes=200_000) as writer:
        lab = Lab(plan, settings={"pairs": ["BTC-USDT", "BTC-USD", "BTC-USDT-PERP"]}, record=writer.add)
        lab.heard = writer.happened
        lab.start()
        lab.play(60)
        lab.stop()
    recording = open_recording(tmp_path / "r")
    player = Replay(recording, None)
    events = 0
    for step in player:
        for _, it in step.outcomes:
            if isinstance(it, Event):
                events += 1
                digest.update(encode(it) + b"\n")
    assert events == len(lab.events) > 1_000
    assert recording.hash == digest.hexdigest()
    assert len(list((tmp_path / "r").iterdir())) > 1
