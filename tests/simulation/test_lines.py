"""Lines in the simulator: rotation without a break, states of a connection, replays of what a line went through."""
from hashlib import sha256

import pytest

from onetape.feed.recording import VERSION, Header, RecordingWriter, open_recording
from onetape.feed.replay import Replay
from onetape.model import Channel, ConnectionState, Event, FeedStatus, Lifecycle, TrustState, encode
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from tests.simulation.lab import Lab

PAIRS = {"pairs": ["BTC-USDT", "ETH-USDT"]}


@pytest.mark.parametrize("venue", ["binance", "kraken"])
def test_a_planned_rotation_breaks_nothing(venue):
    lab = Lab(venue=venue, settings={**PAIRS, "timings": {"rotate_after": 12.0}})
    lab.start()
    lab.play(62)
    (line,) = lab.door.lines.values()
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


def test_a_refused_symbol_does_not_silence_the_others():
    plan = FaultPlan(faults=(Fault(kind=FaultKind.REFUSE_SYMBOL, at=0.0, lasts=1000.0, symbol="BTC/USDT"),))
    lab = Lab(plan, venue="kraken", settings=PAIRS)
    lab.start()
    lab.play(60)
    books = {symbol: it.state for (_, symbol), it in lab.books().items()}
    assert books.pop("ETH/USDT") is TrustState.LIVE
    assert books.get("BTC/USDT") is not TrustState.LIVE
    downs = [it for it in lab.events if isinstance(it, FeedStatus) and it.state is TrustState.DOWN]
    assert {(it.symbol, it.channel) for it in downs} == {("BTC/USDT", Channel.BOOK)}
    assert len(lab.attempts["kraken"]) == 1


MIXTURES = [1, 2, 3]


@pytest.mark.parametrize("seed", MIXTURES)
def test_a_recording_of_a_run_under_faults_replays_to_the_same_events(seed, tmp_path):
    plan = FaultPlan.random(seed, ["binance", "kraken"], 60.0)
    digest = sha256()
    with RecordingWriter(tmp_path / "r", Header(VERSION, seed=1), part_bytes=200_000) as writer:
        lab = Lab(plan, settings=PAIRS, record=writer.add)
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
