"""Market, venues, network and faults work together on a virtual clock, and the same run is the same run."""
import json

import pytest

from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.sim.base import Close, Frame, Rejected, Response
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.listings import LISTINGS
from onetape.sim.simulator import Simulator, Unreachable

START = 1_800_000_000 * SECOND


class Plain:
    """A venue that tells everybody everything, says hello, beats every second and echoes."""

    name = "kraken"
    instruments_path = "/0/public/AssetPairs"

    def __init__(self, truths, faults, seed):
        self.truths, self.faults = truths, faults
        self.connections, self.beat, self.times, self.noticed = [], START + SECOND, [], None

    def connect(self, connection, target, now):
        self._at(now)
        if target == "/no":
            raise Rejected(404)
        self.connections.append(connection)
        return [Frame(connection, b'"hello"')]

    def receive(self, connection, frame, now):
        self._at(now)
        assert connection in self.connections
        return [Close(connection, 1008)] if frame == b"bye" else [Frame(connection, frame)]

    def pong(self, connection, payload, now):
        return [Frame(connection, b'"pong"')]

    def disconnect(self, connection, now):
        self.connections.remove(connection)

    def happen(self, it, now):
        self._at(now)
        assert now == it.time
        data = json.dumps([it.listing.symbol, it.time]).encode()
        return [Frame(connection, data, it.listing.symbol, "book") for connection in self.connections]

    def next_wake(self):
        return self.beat

    def wake(self, now):
        self._at(now)
        if self.noticed is None and self.faults.active(FaultKind.NOTICE, self.name, now):
            self.noticed = now
        if now < self.beat:
            return []
        self.beat += SECOND
        return [Frame(connection, b'"beat"') for connection in self.connections]

    def request(self, method, target, now, headers, client):
        return Response(200, f"{method} {target} {client}".encode(), after_ns=5)

    def _at(self, now):
        assert not self.times or now >= self.times[-1], "time never falls"
        self.times.append(now)


def simulator(*faults, seed=1, **rest):
    rest = {"history_ns": 5 * SECOND, "classes": {"kraken": Plain}} | rest
    return Simulator(seed, start=START, plan=FaultPlan(faults=faults), **rest)


def at(seconds):
    return START + round(seconds * SECOND)


def data(actions, connection=1):
    return [it for it in actions if isinstance(it, Frame) and it.connection == connection and it.channel]


def words(actions):
    return [it.data if isinstance(it, Frame) else it for it in actions if not getattr(it, "channel", "")]


def test_a_client_hears_the_market_and_the_clock_of_the_venue():
    it = simulator()
    connection, actions = it.connect("kraken", "/v2", START)
    assert words(actions) == [b'"hello"']
    heard = it.wake(at(3.5))
    assert words(heard) == [b'"beat"'] * 3
    truths = [truth for (venue, _), truth in it.truths.items() if venue == "kraken"]
    happened = {(truth.listing.symbol, change.time) for truth in truths for change in truth.changes_since(0)}
    assert {tuple(json.loads(frame.data)) for frame in data(heard)} >= {pair for pair in happened if pair[1] > START}
    assert words(it.receive(connection, b'"echo"', at(3.5))) == [b'"echo"']
    assert words(it.pong(connection, b"", at(3.5))) == [b'"pong"']


def test_the_same_run_is_the_same_run_however_often_it_is_woken():
    faults = FaultPlan.random(4, ["kraken"], 60).faults
    runs = []
    for step in (0.01, 0.7):
        it = simulator(*faults)
        it.connect("kraken", "/", START)
        out, time = [], 0.0
        while time < 30:
            time += step
            out += it.wake(at(min(time, 30)))
        runs.append(out)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 100


def test_beats_come_at_their_own_time_between_the_happenings():
    it = simulator()
    it.connect("kraken", "/", START)
    heard = it.wake(at(2.5))
    beats = [index for index, frame in enumerate(heard) if frame.data == b'"beat"']
    times = [json.loads(frame.data)[1] for frame in data(heard[:beats[0]])]
    assert max(times) <= at(1) < json.loads(data(heard[beats[0]:])[0].data)[1]


def test_next_wake_is_at_once_while_something_waits():
    it = simulator()
    connection, _ = it.connect("kraken", "/", START)
    assert it.next_wake() > START
    assert it.request("kraken", "GET", "/x?y=1", at(2), client="c") == Response(200, b"GET /x?y=1 c", after_ns=5)
    assert it.next_wake() == it.now == at(2)
    assert b'"beat"' in words(it.wake(at(2)))
    it.disconnect(connection, at(3))
    assert it.wake(at(4)) == [] or all(frame.connection == connection for frame in it.wake(at(4)))
    assert it.venues["kraken"].connections == []


def test_a_refused_handshake_leaves_nothing_behind():
    it = simulator()
    with pytest.raises(Rejected):
        it.connect("kraken", "/no", START)
    assert it.wake(at(2)) == []
    with pytest.raises(Unreachable):
        it.connect("nasdaq", "/", START)
    with pytest.raises(Unreachable):
        it.request("nasdaq", "GET", "/", START)


def test_a_venue_that_closes_is_told_that_it_is_closed_once():
    it = simulator()
    connection, _ = it.connect("kraken", "/", START)
    assert it.receive(connection, b"bye", START) == [Close(connection, 1008)]
    assert it.venues["kraken"].connections == []
    assert not it.heard(connection)
    assert it.receive(connection, b"still there?", at(1)) == []
    it.disconnect(connection, at(2))


def test_only_venues_that_exist():
    with pytest.raises(UsageError, match="nasdaq"):
        simulator(venues=["nasdaq"])
    assert simulator(venues=["kraken"]).truths.keys() == {("kraken", it.symbol) for it in LISTINGS["kraken"]}


# --- faults ---------------------------------------------------------------------------------------------------------


def test_drops_begin_and_end_when_they_should():
    it = simulator(Fault(kind=FaultKind.DROP, at=2, lasts=2))
    it.connect("kraken", "/", START)
    times = [json.loads(frame.data)[1] for frame in data(it.wake(at(6)))]
    assert not [time for time in times if at(2) <= time < at(4)]
    assert any(time < at(2) for time in times)
    assert any(time >= at(4) for time in times)
    assert it.swallowed > 0


def test_half_open_hears_nothing_and_is_not_heard_and_others_go_on():
    it = simulator(Fault(kind=FaultKind.HALF_OPEN, at=1))
    dead, _ = it.connect("kraken", "/", START)
    it.wake(at(1))
    assert it.receive(dead, b"x", at(1.5)) == []
    assert not it.heard(dead)
    alive, _ = it.connect("kraken", "/", at(1.6))
    heard = it.wake(at(5))
    assert {frame.connection for frame in heard} == {alive}
    assert it.venues["kraken"].connections == [dead, alive], "the venue does not know"


def test_close_comes_again():
    it = simulator(Fault(kind=FaultKind.CLOSE, at=1, lasts=2, seconds=1, code=1012))
    first, _ = it.connect("kraken", "/", START)
    assert Close(first, 1012) in it.wake(at(1))
    second, _ = it.connect("kraken", "/", at(1.5))
    third, _ = it.connect("kraken", "/", at(1.6))
    assert {Close(second, 1012), Close(third, 1012)} <= set(closes(it.wake(at(2))))
    fourth, _ = it.connect("kraken", "/", at(2.5))
    assert closes(it.wake(at(3))) == [Close(fourth, 1012)]
    it.connect("kraken", "/", at(3.5))
    assert closes(it.wake(at(20))) == []


def closes(actions):
    return [it for it in actions if isinstance(it, Close)]


def test_close_without_a_code_is_without_a_word():
    it = simulator(Fault(kind=FaultKind.CLOSE, at=1))
    it.connect("kraken", "/", START)
    assert closes(it.wake(at(1))) == [Close(1, 1006)]


def test_a_venue_may_look_when_a_fault_begins():
    it = simulator(Fault(kind=FaultKind.NOTICE, at=1.25, lasts=1))
    it.wake(at(5))
    assert it.venues["kraken"].noticed == at(1.25)


def test_rest_goes_wrong():
    it = simulator(
        Fault(kind=FaultKind.REST_STATUS, at=1, lasts=1, code=429, seconds=7),
        Fault(kind=FaultKind.SLOW_REST, at=3, lasts=1, seconds=2),
        Fault(kind=FaultKind.DNS, at=5, lasts=1),
    )
    assert it.request("kraken", "GET", "/", at(0.5)).status == 200
    assert it.request("kraken", "GET", "/", at(1.5)) == Response(429, b"", {"Retry-After": "7"})
    assert it.request("kraken", "GET", "/", at(3.5)).after_ns == 2 * SECOND + 5
    with pytest.raises(Unreachable):
        it.request("kraken", "GET", "/", at(5.5))
    with pytest.raises(Unreachable):
        it.connect("kraken", "/", at(5.6))
    assert it.connect("kraken", "/", at(6))


def test_refused_connections():
    it = simulator(Fault(kind=FaultKind.REFUSE_CONNECT, at=1, lasts=1))
    with pytest.raises(Rejected) as caught:
        it.connect("kraken", "/", at(1))
    assert caught.value.status == 503
    assert it.connect("kraken", "/", at(2))


def test_a_fault_on_another_venue_is_none():
    it = simulator(*(Fault(kind=kind, venue="binance", lasts=9) for kind in FaultKind))
    it.connect("kraken", "/", START)
    assert len(data(it.wake(at(3)))) > 10
    assert it.swallowed == 0


def test_a_witness_hears_of_all_that_happens():
    it, heard = simulator(), []
    sequences = {key: truth.sequence for key, truth in it.truths.items()}
    it.witness = heard.append
    it.wake(at(5))
    for key, truth in it.truths.items():
        told = [change for one in heard if (one.listing.venue, one.listing.symbol) == key for change in one.changes]
        assert told == truth.changes_since(sequences[key])


# --- with the real venues -------------------------------------------------------------------------------------------


def subscribed(*faults, seed=1, names=None, pace=1.0):
    """All venues, each with a client that hears everything that there is of two instruments."""
    it = Simulator(seed, names, start=START, plan=FaultPlan(faults=faults, seed=seed), history_ns=SECOND, pace=pace)
    if "kraken" in it.venues:
        dial_kraken(it, START)
    if "binance" in it.venues:
        dial_binance(it, START)
    return it


def dial_kraken(it, now):
    connection, _ = it.connect("kraken", "/v2", now)
    for channel in ("trade", "book", "ticker"):
        asked = {"method": "subscribe", "params": {"channel": channel, "symbol": ["BTC/USD", "ETH/USD"]}}
        it.receive(connection, json.dumps(asked).encode(), now)


def dial_binance(it, now):
    channels = ("trade", "depth", "bookTicker")
    streams = (f"{symbol}@{channel}" for symbol in ("btcusdt", "ethusdt") for channel in channels)
    it.connect("binance", f"/stream?streams={'/'.join(streams)}", now)


def test_all_venues_live_from_one_market():
    it = subscribed()
    assert {"binance", "kraken"} <= it.venues.keys()
    heard = it.wake(at(10))
    assert {frame.connection for frame in heard} == {1, 2}
    for frame in heard:
        if isinstance(frame, Frame):
            json.loads(frame.data)
    assert {"trades", "book", "quotes"} <= {frame.channel for frame in heard if isinstance(frame, Frame)}


def test_with_real_venues_too_the_same_run_is_the_same_run():
    faults = FaultPlan.random(5, ["kraken", "binance"], 40).faults
    runs = []
    for steps in (1, 40):
        it = subscribed(*faults, seed=5)
        runs.append([action for step in range(steps) for action in it.wake(at(20 * (step + 1) / steps))])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("seed", range(6))
def test_no_mixture_of_faults_breaks_the_simulator(seed):
    """Clients that come again and again, whatever happens to them."""
    faults = tuple(
        fault for part in range(8) for fault in FaultPlan.random(8 * seed + part, ["kraken", "binance"], 40).faults
    )
    it = subscribed(*faults, seed=seed)
    for second in range(1, 41):
        it.wake(at(second))
        try:
            (dial_kraken if second % 2 else dial_binance)(it, at(second))
            it.request("binance", "GET", "/api/v3/depth?symbol=BTCUSDT&limit=100", at(second))
            it.request("kraken", "GET", "/0/public/Depth?pair=XBTUSD", at(second))
        except (Rejected, Unreachable):
            pass


def test_when_the_faults_are_over_all_is_well():
    faults = tuple(fault for seed in range(8) for fault in FaultPlan.random(seed, ["kraken", "binance"], 20).faults)
    it = subscribed(*faults)
    it.wake(at(60))
    dial_kraken(it, at(60))
    dial_binance(it, at(60))
    swallowed = it.swallowed
    heard = [frame for frame in it.wake(at(70)) if isinstance(frame, Frame)]
    assert len(heard) > 100
    assert all(json.loads(frame.data) for frame in heard)
    assert all(it.heard(frame.connection) for frame in heard)
    assert it.swallowed - swallowed < len(heard), "only what goes to those that are dead"
