"""Redundant lines: who listens gets one unbroken story of each book, whichever line tells it, and each gap but once."""
import os
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import SECOND
from onetape.feed.standby import MAX_IDS, Standby, chosen, copies, group_of
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Channel,
    Disconnect,
    Event,
    FeedStatus,
    GapOpened,
    Levels,
    Lifecycle,
    Quote,
    Reconnect,
    Trade,
    TrustState,
)
from tests.feed.past import Past
from tests.simulation.lab import START, Lab

BTC = "BTCUSDT"
PAST = Past(range(1, 10_000), 0, 1)
STAMP = {"venue": "binance", "symbol": BTC, "exchange_time": 0, "received_time": 0, "available_at": 0}


def status(state, channel=Channel.BOOK, reason=""):
    return FeedStatus(**STAMP, channel=channel, state=state, since=0, reason=reason)


def delta(sequence):
    return BookDelta(**STAMP, after=sequence - 1, sequence=sequence, bids=Levels.of([]), asks=Levels.of([]))


def snapshot(sequence):
    sides = {"bids": Levels.of([]), "asks": Levels.of([])}
    return BookSnapshot(**STAMP, sequence=sequence, **sides, depth=0, verification="sequence")


def gap():
    return GapOpened(**STAMP, channel=Channel.TRADES, after="1", before="3", from_time=0, to_time=0, cause="")


class Book:
    """As far as it introduces itself."""

    def __init__(self):
        self.sequence, self.state = 0, TrustState.LIVE

    def introduce(self, now):
        said = [status(self.state)]
        return [snapshot(self.sequence), *said] if self.state is TrustState.LIVE else said


class Session:
    def __init__(self):
        self.book = Book()
        self.books = {BTC: self.book}
        self.proven, self.bridged = False, []

    def covers(self, before, symbol):
        return self.proven

    def bridge(self, before, reason, now, symbol):
        return self.bridged


class Twins:
    """Two lines, ``a`` and ``a+2``, each with a session that does what the test says, and all that was passed on."""

    def __init__(self):
        self.sessions = {"a#1": Session(), "a+2#1": Session()}
        self.lines = {
            name: SimpleNamespace(leader=f"{name}#1", last=None, state=Lifecycle.ACTIVE) for name in copies("a", 2)
        }
        self.standby = Standby(self.lines, ["a", "a+2"], self.sessions.get)

    def say(self, line, *said):
        """In one input. Gives what is passed on."""
        events = chosen([(f"{line}#1", it) for it in said], {"a": self.standby}, self.lines, 0)
        return [it for _, it in events]

    def live(self):
        """Both are, and the first one leads."""
        self.say("a", status(TrustState.LIVE))
        self.say("a+2", status(TrustState.LIVE))
        return self

    def lose(self, line, channel=Channel.BOOK):
        self.lines[line].last = self.sessions.pop(f"{line}#1")
        self.lines[line].leader, self.lines[line].state = "", Lifecycle.RECONNECTING
        return self.say(line, status(TrustState.DOWN, channel, "lost"))


def test_names_of_copies_belong_to_one_group():
    assert copies("bybit/linear", 1) == ["bybit/linear"]
    names = copies("bybit/linear", 3)
    assert len(set(names)) == 3
    assert {group_of(it) for it in names} == {"bybit/linear"}


def test_only_the_leader_of_a_book_is_heard():
    twins = Twins().live()
    assert twins.say("a", delta(1)) == [delta(1)]
    assert twins.say("a+2", delta(1), snapshot(1), status(TrustState.LIVE)) == []


def test_a_live_standby_takes_over_with_its_book_and_nobody_is_told_of_the_break():
    twins = Twins().live()
    twins.sessions["a+2#1"].book.sequence = 7
    assert twins.say("a", status(TrustState.STALE)) == [snapshot(7), status(TrustState.LIVE)]
    assert twins.say("a", snapshot(8), status(TrustState.LIVE), delta(9)) == [], "who comes back waits"
    assert twins.say("a+2", delta(8)) == [delta(8)]
    assert twins.standby.switches == 1
    assert twins.lose("a+2") == [snapshot(0), status(TrustState.LIVE)]


def test_without_a_live_standby_the_break_is_told_and_the_first_that_lives_again_leads():
    twins = Twins().live()
    assert twins.say("a+2", status(TrustState.STALE)) == []
    assert twins.say("a", status(TrustState.STALE)) == [status(TrustState.STALE)]
    assert twins.say("a+2", delta(3)) == []
    twins.sessions["a+2#1"].book.sequence = 5
    assert twins.say("a+2", snapshot(5), status(TrustState.LIVE)) == [snapshot(5), status(TrustState.LIVE)]
    assert twins.standby.leader(BTC, Channel.BOOK) == "a+2"


def test_deltas_that_a_shown_book_has_in_it_are_not_passed_on_after_it():
    """A snapshot by REST, what waited for it, and perhaps the next break come of one input."""
    twins = Twins()
    twins.say("a", status(TrustState.SYNCING))
    twins.sessions["a+2#1"].book.sequence = 7
    said = twins.say("a+2", snapshot(5), status(TrustState.LIVE), delta(6), delta(7))
    assert said == [snapshot(7), status(TrustState.LIVE)]
    assert twins.say("a+2", delta(8)) == [delta(8)]


def test_a_book_that_lives_and_dies_within_one_input_is_never_shown():
    twins = Twins()
    twins.say("a", status(TrustState.SYNCING))
    twins.sessions["a+2#1"].book.state = TrustState.STALE
    said = twins.say("a+2", snapshot(5), status(TrustState.LIVE), delta(6), status(TrustState.STALE), delta(9))
    assert {it.state for it in said} == {TrustState.STALE}
    twins = Twins()
    twins.say("a", status(TrustState.SYNCING))
    del twins.sessions["a+2#1"]  # its connection was given up, and says so at the end
    said = twins.say("a+2", snapshot(5), status(TrustState.LIVE), delta(6), status(TrustState.DOWN))
    assert said == [status(TrustState.DOWN)]


def test_a_standby_whose_connection_is_gone_does_not_take_over():
    twins = Twins().live()
    del twins.sessions["a+2#1"]
    assert twins.say("a", status(TrustState.DOWN)) == [status(TrustState.DOWN)]


def test_a_tape_goes_on_on_the_other_line_with_what_lies_between():
    twins = Twins()
    for line in twins.lines:
        twins.say(line, status(TrustState.LIVE, Channel.TRADES))
    twins.sessions["a+2#1"].bridged = [gap()]
    assert twins.lose("a", Channel.TRADES) == [gap()]
    assert twins.say("a+2", gap()) == [gap()]
    assert twins.say("a", gap(), status(TrustState.LIVE, Channel.TRADES)) == [], "it was not the one to be heard"


@pytest.mark.parametrize(("proven", "state", "told"), [
    (True, None, False), (True, TrustState.DOWN, False),  # of the connection before
    (True, TrustState.STALE, True),  # it may be silent still
    (False, None, True),
])
def test_a_tape_without_a_trade_yet_takes_over_if_it_must_have_every_trade(proven, state, told):
    twins = Twins()
    twins.say("a", status(TrustState.LIVE, Channel.TRADES))
    if state is not None:
        assert twins.say("a+2", status(state, Channel.TRADES)) == []
    twins.sessions["a+2#1"].proven = proven
    said = twins.lose("a", Channel.TRADES)
    assert said == ([status(TrustState.DOWN, Channel.TRADES, "lost")] if told else [])


def test_a_tape_that_was_broken_before_is_not_mended_by_that():
    twins = Twins()
    twins.say("a", status(TrustState.LIVE, Channel.TRADES))
    twins.say("a", status(TrustState.STALE, Channel.TRADES))
    twins.sessions["a+2#1"].proven = True
    assert twins.lose("a", Channel.TRADES)


def test_quotes_are_those_of_the_first_line_that_is_active():
    quote = Quote(**STAMP, bid=None, ask=None, sequence=1)
    twins = Twins()
    assert (twins.say("a", quote), twins.say("a+2", quote)) == ([quote], [])
    twins.lines["a"].state = Lifecycle.RECONNECTING
    assert (twins.say("a", quote), twins.say("a+2", quote)) == ([], [quote])


def test_commands_are_everybodys_own():
    twins = Twins().live()
    assert twins.say("a+2", Reconnect("x"), Disconnect("a+2#1", "x")) == [Reconnect("x"), Disconnect("a+2#1", "x")]


@given(st.lists(st.tuples(st.sampled_from(["a", "a+2"]), st.integers(1, 30)), max_size=80))
def test_every_trade_is_passed_on_and_counted_for_who_brought_it_first(said):
    twins, seen = Twins(), set()
    wins, late = dict.fromkeys(twins.lines, 0), dict.fromkeys(twins.lines, 0)
    for line, id in said:
        trade = PAST.trade(id, 0)
        assert twins.say(line, trade) == [trade], "the ledger takes each but once"
        (late if id in seen else wins)[line] += 1
        seen.add(id)
    assert {line: twins.standby.wins[line] for line in twins.lines} == wins
    assert {line: twins.standby.late[line] for line in twins.lines} == late


def test_ids_by_which_the_first_is_told_are_bounded():
    twins = Twins()
    for id in range(1, MAX_IDS + 2):
        twins.say("a", PAST.trade(id, 0))
    twins.say("a+2", PAST.trade(2, 0), PAST.trade(1, 0))
    assert (twins.standby.late["a+2"], twins.standby.wins["a+2"]) == (1, 1), "the oldest is forgotten"


# --- two real connections to a simulated venue ------------------------------------------------------------------------


class Listener(Lab):
    """Follows one book as somebody who hears nothing but the events, and who is strict about it."""

    def __init__(self, venue, pair):
        self.told, self.sequence, self.teller = TrustState.SYNCING, None, ""
        self.lost: set[str] = set()  # connections whose next frame of the book does not arrive
        super().__init__(venue=venue, pace=0.5, depth=20, settings={
            "redundancy": 2, "pairs": [pair], "channels": ["trades", "book"]})

    def _obey(self, outcomes):
        for name, it in outcomes:
            if isinstance(it, Event):
                self._follow(name, it)
        super()._obey(outcomes)

    def _follow(self, connection, it):
        match it:
            case FeedStatus(channel=Channel.BOOK):
                self.told = it.state
                if it.state is TrustState.LIVE:
                    assert self.sequence is not None, "live, and nothing was shown"
                elif it.state is not TrustState.CROSSED:
                    others = self.live(but=connection.partition("#")[0])  # its own replacement may lead already
                    assert not any(others) or it.reason == "stopped", "told, while a standby lives"
                    self.sequence = None
            case BookSnapshot():
                self.sequence, self.teller = it.sequence, ""
            case BookDelta():
                assert self.sequence is not None, "a delta of a book that was not shown"
                assert it.after == self.sequence or it.after < self.sequence < it.sequence, (self.sequence, it)
                assert self.teller in ("", connection), "two leaders at once"
                self.sequence, self.teller = it.sequence, connection

    def live(self, but=""):
        """Of each line: whether the book is."""
        for name, line in self.door.lines.items():
            session = self.door.sessions.get(line.leader)
            if name != but and session is not None and session.books:
                yield any(it.state is TrustState.LIVE for it in session.books.values())

    def do(self, what, which):
        lines = self.door.lines.values()
        with_book = [it for it in lines if any(one.channel is Channel.BOOK for one in it.setup.wanted)]
        name = with_book[which].leader
        session = self.door.sessions.get(name)
        if name not in self._sockets or session is None:
            return
        match what:
            case "close":
                self.lose(name)
            case "half open":
                self.lose(name, unnoticed=True)
            case "replace":
                self._obey(self.door.line_of(name).relay(name, [Reconnect("planned", planned=True)], self.now))
            case "lose a frame":
                self.lost.add(name)

    def _hear(self, it):
        name = next((name for name, number in self._sockets.items() if number == it.connection), None)
        if name in self.lost and getattr(it, "channel", "") == "book":
            self.lost.discard(name)
            return
        super()._hear(it)


STEPS = st.lists(st.tuples(
    st.sampled_from(["close", "half open", "replace", "lose a frame"]), st.integers(0, 1),
    st.sampled_from([0.0, 0.004, 0.02, 0.1, 0.5, 3.0]),
), min_size=1, max_size=12)


@pytest.mark.long
@pytest.mark.parametrize(("venue", "pair"), [
    ("binance", "ETH-USDT"), ("okx", "ETH-USDT"), ("kraken", "ETH-USDT"), ("coinbase", "ETH-USD"),
])
@settings(max_examples=100 if os.environ.get("ONETAPE_LONG") else 8, deadline=None)
@given(steps=STEPS)
def test_however_two_lines_break_and_heal_a_book_is_one_story(venue, pair, steps):
    lab = Listener(venue, pair)
    lab.start()
    lab.play(2)
    for what, which, seconds in steps:
        lab.do(what, which)
        lab.play((lab.now - START) / SECOND + seconds)
    for _ in range(70):
        if lab.healthy and all(lab.live()):
            break
        lab.play((lab.now - START) / SECOND + 1)
    assert lab.healthy
    assert lab.told is TrustState.LIVE
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    counted = sum(it.wins.total() + it.late.total() for it in lab.door.standbys.values())
    assert counted == sum(isinstance(it, Trade) for it in lab.events)
