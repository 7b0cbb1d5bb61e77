"""Everything enters by one door: what is due before it happens before it, and a replay sees the very same."""
import json
from hashlib import sha256
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape import venues
from onetape.clock import SECOND
from onetape.feed.door import Door
from onetape.feed.inputs import Answer, Closed, Failed, Frame, Opened
from onetape.feed.recording import Header, RecordingWriter, Setup, open_recording
from onetape.feed.replay import Replay
from onetape.feed.session import Session
from onetape.model import (
    Channel,
    Event,
    FeedError,
    FeedStatus,
    Fetch,
    Reconnect,
    Send,
    Subscription,
    Trade,
    TrustState,
    encode,
)

SETUPS = {
    "binance": Setup("binance", "", (Subscription("BTCUSDT", Channel.BOOK), Subscription("BTCUSDT", Channel.TRADES))),
    "kraken": Setup("kraken", "", (Subscription("BTC/USD", Channel.BOOK, 10), Subscription("BTC/USD", Channel.TRADES))),
}
HEADER = Header(1, SETUPS)


class Logged(Session):
    """A session that says when it was woken."""

    log: list

    def wake(self, now):
        self.log.append((now, self.name))
        return super().wake(now)


class Live:
    """Drives a door as a live process does, and records all that enters, if asked to."""

    def __init__(self, recording=None, names=tuple(SETUPS), session=Session):
        self.door, self.out, self.inputs, self._recording = Door(), [], [], recording
        self._session, self._names = session, names

    def enter(self, kind, at, connection="binance", **rest):
        number, time = self.door.stamp(at)
        it = kind(number=number, time=time, connection=connection, **rest)
        if kind is Opened:
            setup = SETUPS[connection]
            self.door.sessions[connection] = self._session(
                venues.create(setup.venue, setup.route), setup.wanted, time
            )
        self.inputs.append(it)
        if self._recording:
            self._recording.add(it)
        outcomes = list(self.door.enter(it))
        self.out += outcomes
        return [outcome for _, outcome in outcomes]

    def open(self, at=SECOND):
        for name in self._names:
            self.enter(Opened, at, name)


def trade(number):
    return json.dumps({"stream": "btcusdt@trade", "data": {
        "e": "trade", "E": 1, "s": "BTCUSDT", "t": number, "p": "1.0", "q": "2.0", "T": 5, "m": True}}).encode()


def depth(first, last, bids=(), asks=()):
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": {
        "e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}}).encode()


def body(last):
    return json.dumps({"lastUpdateId": last, "bids": [["9.50", "1.0"]], "asks": [["9.60", "1"]]}).encode()


def kraken(kind, bids, asks, held=None):
    """A book message, with the checksum of what the book holds after it (asks first, ascending; bids descending)."""
    held_bids, held_asks = held or (bids, asks)
    text = "".join(
        number.replace(".", "").lstrip("0") for side in (held_asks, held_bids) for level in side for number in level
    )
    sides = ",".join(
        f'"{name}":[' + ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in side) + "]"
        for name, side in (("bids", bids), ("asks", asks))
    )
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD",{sides},"checksum":{crc32(text.encode())}}}]}}'
    ).encode()


# --- numbers and times ----------------------------------------------------------------------------------------------


def test_numbers_have_no_hole_and_a_clock_that_goes_back_is_held():
    door = Door()
    assert [door.stamp(now) for now in (5, 9, 7, 8, 9, 12)] == [(1, 5), (2, 9), (3, 9), (4, 9), (5, 9), (6, 12)]


@given(st.lists(st.integers(0, 10**19)))
def test_whatever_the_clock_does_inputs_are_numbered_and_never_go_back(clock):
    door = Door()
    stamps = [door.stamp(now) for now in clock]
    assert [number for number, _ in stamps] == list(range(1, len(clock) + 1))
    assert [time for _, time in stamps] == [max(clock[: at + 1]) for at in range(len(clock))]


# --- wakes ----------------------------------------------------------------------------------------------------------


def logged(names):
    log = []
    live = Live(names=names, session=Logged)
    live.open()
    for name, session in live.door.sessions.items():
        session.name, session.log = name, log
    return live, log


def test_what_is_due_before_an_input_happens_before_it_each_at_its_own_deadline():
    live, log = logged(["binance"])
    live.enter(Frame, 5 * SECOND + 1, data=trade(1))
    assert log == [(second * SECOND, "binance") for second in (2, 3, 4, 5)]


def test_what_is_due_at_the_very_time_of_an_input_happens_before_it():
    live, log = logged(["binance"])
    due = 11 * SECOND + int(SECOND / 3)  # the subscription left a third of a second after the start, its ack is due now
    first, *_ = live.enter(Frame, due, data=b"\xff")
    assert log[-1] == (due, "binance")
    assert isinstance(first, FeedError)
    assert "not acknowledged" in first.reason


@pytest.mark.parametrize("names", [["binance", "kraken"], ["kraken", "binance"]])
def test_ties_are_taken_in_the_order_of_the_connections(names):
    live, log = logged(names)
    live.enter(Frame, 3 * SECOND, data=trade(1))
    assert log == [(2 * SECOND, names[0]), (2 * SECOND, names[1]), (3 * SECOND, names[0]), (3 * SECOND, names[1])]


def test_the_deadlines_of_all_connections_are_one_order():
    live, log = logged(["binance", "kraken"])
    live.enter(Closed, SECOND, "kraken", reason="")
    live.enter(Opened, SECOND + SECOND // 2, "kraken")
    live.door.sessions["kraken"].name, live.door.sessions["kraken"].log = "kraken", log
    list(live.door.wake(4 * SECOND))
    assert log == sorted(log)
    assert [name for _, name in log] == ["binance", "kraken"] * 2 + ["binance"]


def test_the_next_wake_is_the_earliest_of_all_and_nothing_is_due_before_it():
    live, log = logged(["binance", "kraken"])
    assert live.door.next_wake() == 2 * SECOND
    assert list(live.door.wake(2 * SECOND - 1)) == []
    assert log == []


def test_a_door_without_connections_has_nothing_to_wake():
    door = Door()
    assert door.next_wake() is None
    assert list(door.wake(10**19)) == []


# --- connections ----------------------------------------------------------------------------------------------------


def test_an_input_of_an_unknown_connection_is_a_key_error():
    with pytest.raises(KeyError):
        list(Door().enter(Frame(number=1, time=1, connection="nobody", data=b"")))


def test_outcomes_carry_the_name_of_their_connection():
    live = Live()
    live.open()
    live.enter(Frame, SECOND, data=trade(1))
    assert {name for name, it in live.out if isinstance(it, Trade)} == {"binance"}
    assert {name for name, _ in live.out} == {"binance", "kraken"}


def test_closing_takes_the_books_down_and_the_session_away():
    live = Live()
    live.open()
    downs = [it for it in live.enter(Closed, 2, reason="1006") if isinstance(it, FeedStatus)]
    assert {(it.state, it.reason) for it in downs} == {(TrustState.DOWN, "1006")}
    assert list(live.door.sessions) == ["kraken"]
    with pytest.raises(KeyError):
        live.enter(Frame, 3, data=trade(1))


def test_every_kind_of_input_reaches_its_session():
    live = Live(names=["binance"])
    live.open()
    fetch = next(it for it in live.enter(Frame, SECOND, data=depth(11, 12)) if isinstance(it, Fetch))
    assert isinstance(live.enter(Failed, SECOND, id=fetch.id, reason="no route")[0], FeedError)
    again = next(it for it in live.enter(Frame, 3 * SECOND, data=trade(1)) if isinstance(it, Fetch))
    out = live.enter(Answer, 3 * SECOND, id=again.id, status=200, body=body(11))
    assert TrustState.LIVE in [it.state for it in out if isinstance(it, FeedStatus)]


# --- live and replayed ----------------------------------------------------------------------------------------------


def digest(outcomes):
    summed = sha256()
    for name, it in outcomes:
        if isinstance(it, Event):
            summed.update(name.encode() + encode(it) + b"\n")
    return summed.hexdigest()


def answer_all(live, outcomes, at, last):
    """Every snapshot that was asked for comes, 40 ms later."""
    for it in [it for it in outcomes if isinstance(it, Fetch)]:
        live.enter(Answer, at + SECOND // 25, id=it.id, status=200, body=body(last), url=it.request.path)


def run(recording):
    """Two venues for some minutes: a snapshot by REST, a gap, a bad checksum, hostile bytes, silence, a new socket."""
    live = Live(recording)
    live.open()
    at = 2 * SECOND
    answer_all(live, live.enter(Frame, at, data=depth(11, 12, [["9.40", "1"]])), at, 11)
    live.enter(Frame, at, "kraken", data=kraken("snapshot", [("9.5", "1.00")], [("9.6", "2.50"), ("9.7", "1.00")]))
    live.enter(Frame, at - SECOND, "kraken", data=kraken(  # the clock was put back meanwhile
        "update", [], [("9.6", "0")], ([("9.5", "1.00")], [("9.7", "1.00")])))
    for number in range(30):
        at += SECOND // 3
        live.enter(Frame, at, data=depth(13 + number, 13 + number, [["9.40", str(number)]]))
        live.enter(Frame, at + 1, data=trade(number))
    at += SECOND
    answer_all(live, live.enter(Frame, at, data=depth(90, 91)), at, 90)  # a gap
    live.enter(Frame, at, "kraken", data=kraken("update", [("9.4", "1.00")], [], ([], [])))  # a checksum of nothing
    live.enter(Frame, at, data=b"\xff\xfe{")
    live.enter(Frame, at, "kraken", data=b'{"channel":"book"')
    fetched = live.enter(Frame, at + 8 * SECOND, data=depth(92, 93))
    fetch = next(it for it in fetched if isinstance(it, Fetch))
    live.enter(Failed, at + 9 * SECOND, id=fetch.id, reason="timed out")
    answer_all(live, live.enter(Frame, at + 20 * SECOND, data=depth(94, 95)), at + 20 * SECOND, 94)
    live.enter(Closed, at + 80 * SECOND, "kraken", reason="1006")  # after a minute in which nothing came
    live.enter(Opened, at + 81 * SECOND, "kraken")
    live.enter(Frame, at + 82 * SECOND, "kraken", data=kraken("snapshot", [("8.5", "1.00")], [("8.6", "2.50")]))
    live.enter(Closed, at + 83 * SECOND, reason="bye")
    return live


def test_a_replay_of_what_was_recorded_beside_a_live_run_says_the_very_same(tmp_path):
    path = tmp_path / "run.jsonl.zst"
    with RecordingWriter(path, HEADER) as recording:
        live = run(recording)
    player = Replay(open_recording(path), None)
    steps = list(player)
    replayed = [outcome for step in steps for outcome in step.outcomes]
    assert [step.input for step in steps] == live.inputs
    assert [it for _, it in replayed] == [it for _, it in live.out]
    assert digest(replayed) == digest(live.out)
    assert {name: session.counters for name, session in player.door.sessions.items()} == {
        name: session.counters for name, session in live.door.sessions.items()
    }


def test_that_run_has_something_of_everything():
    out = [it for _, it in run(None).out]
    states = [(it.venue, it.state) for it in out if isinstance(it, FeedStatus)]
    for venue in SETUPS:
        assert {TrustState.SYNCING, TrustState.LIVE, TrustState.STALE, TrustState.DOWN} == {
            state for of, state in states if of == venue
        }
    assert {Send, Fetch, Reconnect, Trade, FeedError} <= {type(it) for it in out}
    assert sum(it.quarantined for it in out if isinstance(it, FeedError)) == 2


def test_the_wait_that_a_header_tells_is_kept_in_the_recording_too(tmp_path):
    path = tmp_path / "run.jsonl.zst"
    with RecordingWriter(path, HEADER) as recording:
        live = Live(recording, names=["binance"])
        live.open(0)
        fetch = next(it for it in live.enter(Frame, 0, data=depth(11, 12)) if isinstance(it, Fetch))
        live.enter(Answer, 0, id=fetch.id, status=429, body=b"{}", headers={"retry-after": "37"})
        live.enter(Frame, 37 * SECOND - 1, data=trade(1))
        live.enter(Frame, 37 * SECOND, data=trade(2))
    steps = list(Replay(open_recording(path), None))
    fetched = [step.input.number for step in steps for _, it in step.outcomes if isinstance(it, Fetch)]
    assert fetched == [2, 5]
    assert [outcome for step in steps for outcome in step.outcomes] == live.out


def test_one_byte_more_is_another_hash(tmp_path):
    live = run(None)
    before = digest(live.out)
    live.enter(Frame, 200 * SECOND, "kraken", data=kraken("update", [("8.5", "1.01")], [], (
        [("8.5", "1.01")], [("8.6", "2.50")])))
    assert digest(live.out) != before


STEPS = st.lists(st.tuples(
    st.sampled_from(["depth", "depth", "depth", "gap", "trade", "garbage", "answer", "answer", "fail", "close"]),
    st.sampled_from(["binance", "kraken"]), st.integers(-2, 15),
), max_size=40)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_any_run_is_replayed_to_the_same_outcomes(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("runs") / "run.jsonl.zst"
    with RecordingWriter(path, HEADER) as recording:
        live = Live(recording)
        live.open()
        at, update = 2 * SECOND, 11
        for what, name, wait in steps:
            at += wait * SECOND
            fetches = [it.id for of, it in live.out if isinstance(it, Fetch) and of == name]
            update += {"depth": 1, "gap": 5}.get(what, 0)
            if name not in live.door.sessions:
                live.enter(Opened, at, name)
            elif what == "close":
                live.enter(Closed, at, name, reason="1006")
            elif what in ("answer", "fail") and fetches:
                rest = {"status": 200, "body": body(update)} if what == "answer" else {"reason": "no"}
                live.enter(Answer if what == "answer" else Failed, at, name, id=fetches[-1], **rest)
            elif what == "trade":
                live.enter(Frame, at, name, data=trade(update))
            elif what == "garbage":
                live.enter(Frame, at, name, data=b"\xff")
            elif name == "kraken":
                live.enter(Frame, at, name, data=kraken("snapshot", [("9.5", "1.00")], [("9.6", "2.50")]))
            else:
                live.enter(Frame, at, name, data=depth(update, update))
    replayed = [outcome for step in Replay(open_recording(path), None) for outcome in step.outcomes]
    assert replayed == live.out
    assert digest(replayed) == digest(live.out)
