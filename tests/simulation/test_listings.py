"""What a venue lists changes while OneTape runs: a pair goes, comes, is called otherwise; and lists that are none."""
from decimal import Decimal
from hashlib import sha256

import pytest
from msgspec import structs

from onetape.feed.inputs import Closed, Frame
from onetape.feed.recording import VERSION, Header, RecordingWriter, open_recording
from onetape.feed.replay import Replay
from onetape.model import (
    Change,
    Channel,
    Event,
    FeedError,
    FeedStatus,
    InstrumentChanged,
    Trade,
    TrustState,
    encode,
)
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.listings import LISTINGS
from onetape.sim.simulator import Simulator
from onetape.sim.venues import VENUES
from tests.simulation.lab import START, Lab
from tests.simulation.test_faults import PAIRS, SYMBOLS

AT, FOREVER = 8.0, 1_000.0
LATER = {"bybit": "linear:BTCUSDT2", "kraken": "BTC2/USDT", "okx": "BTC2-USDT"}
"""Another symbol for the same pair."""


def settings(venue):
    return {"pairs": PAIRS.get(venue, ["BTC-USDT", "ETH-USDT"])}


def unlisted(venue, symbol, at=0.0, lasts=FOREVER):
    return Fault(kind=FaultKind.UNLISTED, venue=venue, symbol=symbol, at=at, lasts=lasts)


def changes(lab):
    return [
        (it.change, it.instrument.id.symbol, it.symbol_before) for it in lab.events if isinstance(it, InstrumentChanged)
        if it.change is not Change.UPDATED
    ]


def finished(lab):
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    return verdict


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_delisted_pair_is_let_go_and_the_others_go_on(venue):
    symbol = SYMBOLS[venue]
    lab = Lab(FaultPlan(faults=(unlisted(venue, symbol, AT),)), venue=venue, settings=settings(venue), pace=0.7)
    lab.start()
    lab.play(AT + 1)
    connections = len(lab.attempts[venue])
    lab.refresh()
    lab.play(AT + 2)
    assert changes(lab) == [], "a row may be missing once"
    lab.refresh()
    lab.play(AT + 3)
    assert changes(lab) == [(Change.DELISTED, symbol, "")]
    assert lab.followers[venue, symbol].state is TrustState.DOWN
    assert lab.tapes[venue, symbol] is TrustState.DOWN
    assert lab.healthy
    assert (venue, symbol) not in lab.books()
    before = lab.referee.verdict.books
    lab.play(AT + 60)
    assert lab.healthy
    assert lab.referee.verdict.books > before + 50
    assert len(lab.attempts[venue]) == connections, "the others were disturbed"
    assert not [it for it in lab.events if isinstance(it, FeedError) and it.quarantined]
    finished(lab)


@pytest.mark.parametrize("venue", SYMBOLS)
def test_a_pair_that_is_listed_later_is_taken_up(venue):
    symbol = SYMBOLS[venue]
    lab = Lab(FaultPlan(faults=(unlisted(venue, symbol, 0, AT),)), venue=venue, settings=settings(venue), pace=0.7)
    lab.start()
    lab.play(AT - 1)
    assert lab.healthy
    assert (venue, symbol) not in lab.books()
    connections = len(lab.attempts[venue])
    lab.play(AT + 1)
    lab.refresh()
    lab.play(AT + 20)
    assert changes(lab) == [(Change.LISTED, symbol, "")]
    assert lab.healthy
    assert lab.books()[venue, symbol].state is TrustState.LIVE
    assert any(isinstance(it, Trade) and it.symbol == symbol for it in lab.events)
    new_lines = len(lab.attempts[venue]) - connections
    assert new_lines == (1 if venue == "bybit" else 0), "what there was has room for it; spot and linear are two"
    finished(lab)


@pytest.mark.parametrize("venue", ["bybit", "kraken"])
def test_a_pair_by_another_symbol(venue):
    old, new = SYMBOLS[venue], LATER[venue]
    listing = next(it for it in LISTINGS[venue] if it.symbol == old)
    listings = {**LISTINGS, venue: (*LISTINGS[venue], structs.replace(listing, symbol=new))}
    plan = FaultPlan(faults=(unlisted(venue, old, AT), unlisted(venue, new, 0, AT)))
    lab = Lab(plan, venue=venue, settings=settings(venue), pace=0.7, listings=listings)
    lab.start()
    lab.play(AT + 1)
    lab.refresh()
    lab.play(AT + 20)
    assert changes(lab) == [(Change.RENAMED, new, old)]
    assert lab.healthy
    assert lab.books()[venue, new].state is TrustState.LIVE
    told = [it.state for it in lab.events if isinstance(it, FeedStatus) and it.symbol == old
            and it.channel is Channel.BOOK]
    assert told[-1] is TrustState.DOWN
    finished(lab)


@pytest.mark.parametrize("venue", SYMBOLS)
@pytest.mark.parametrize("fault", [
    Fault(kind=FaultKind.EMPTY_LIST, at=AT, lasts=FOREVER), Fault(kind=FaultKind.BAD_LIST, at=AT, lasts=FOREVER),
    Fault(kind=FaultKind.BAD_LIST, at=AT, lasts=FOREVER, code=20_000_000),
], ids=["empty", "cut", "huge"])
def test_a_list_that_is_none_changes_nothing(venue, fault):
    lab = Lab(FaultPlan(faults=(fault,)), venue=venue, settings=settings(venue), pace=0.5)
    lab.start()
    lab.play(AT + 1)
    lab.refresh()
    lab.play(AT + 10)
    assert changes(lab) == []
    assert lab.healthy
    assert lab.counters["lists not read"] + lab.counters["lists not believed"] == (0 if fault.code else 1)
    finished(lab)


def test_the_last_pair_of_a_line_goes_and_what_was_on_its_way_harms_nobody():
    lab = Lab(FaultPlan(faults=(unlisted("bybit", "linear:BTCUSDT", AT),)), venue="bybit", settings=settings("bybit"))
    lab.start()
    lab.play(AT + 1)
    for moment in (AT + 2, AT + 3):
        lab.refresh()
        lab.play(moment)
    assert set(lab.door.lines) == {"bybit/spot"}
    lab.enter(Frame, "bybit/linear#1", data=b"{}")
    lab.enter(Closed, "bybit/linear#1", reason="late")
    assert lab.door.late == 2
    lab.play(AT + 10)
    assert lab.healthy
    finished(lab)


def test_a_recording_of_a_run_whose_lines_changed_replays_to_the_same_events(tmp_path):
    plan = FaultPlan(faults=(unlisted("bybit", "linear:BTCUSDT", AT), unlisted("kraken", "ETH/USDT", 0, AT)))
    with RecordingWriter(tmp_path / "r", Header(VERSION, seed=1), part_bytes=1 << 30) as writer:
        lab = Lab(plan, classes={it: VENUES[it] for it in ("bybit", "kraken")}, settings=settings("bybit"),
                  record=writer.add)
        lab.heard = writer.happened
        lab.start()
        for moment in (AT + 1, AT + 2, AT + 10):
            lab.play(moment)
            lab.refresh()
        lab.play(AT + 11)
        lab.enter(Frame, "bybit/linear#1", data=b"{}")
        lab.play(AT + 20)
        lab.stop()
    assert {it[0] for it in changes(lab)} == {Change.DELISTED, Change.LISTED}
    recording, digest = open_recording(tmp_path / "r"), sha256()
    for step in Replay(recording, None):
        for _, it in step.outcomes:
            if isinstance(it, Event):
                digest.update(encode(it) + b"\n")
    assert recording.hash == digest.hexdigest()


def test_a_simulator_of_other_listings():
    listing = structs.replace(LISTINGS["kraken"][0], symbol="NEW/USD", base="NEW", tick=Decimal("0.01"))
    simulator = Simulator(venues=["kraken"], start=START, listings={"kraken": (listing,)}, history_ns=10**9)
    assert set(simulator.truths) == {("kraken", "NEW/USD")}
