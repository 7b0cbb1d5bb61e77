"""Logins of sessions, lines and sockets: they come first and change nothing else; a refusal ends the venue."""
import json

from onetape import venues
from onetape.clock import MILLISECOND, SECOND
from onetape.credentials import Credentials, Secret
from onetape.feed.door import Door
from onetape.feed.inputs import Closed, Frame, Opened, Setup, Started
from onetape.feed.session import Session
from onetape.model import (
    Channel,
    Connect,
    ConnectionState,
    Disconnect,
    FeedError,
    FeedStatus,
    Lifecycle,
    Reconnect,
    Send,
    Subscription,
)
from tests.feed.test_network import networking, url
from tests.feed.wire import TEXT, frame, hear, run, serving, shake, until

T0 = 1_790_000_000 * SECOND
MINE = Credentials("okx", Secret("my-key"), Secret("my-secret"), Secret('my "magic"'))
WANTED = (Subscription("BTC-USDT", Channel.BOOK, 400), Subscription("BTC-USDT", Channel.TICKER))
REFUSED = b'{"event":"error","msg":"Invalid sign","code":"60007","connId":"a"}'
LATE = b'{"event":"error","msg":"Timestamp request expired","code":"60006","connId":"a"}'
UPGRADE = b'{"event":"notice","code":"64008","msg":"soon","connId":"a"}'


def sent(out):
    return [json.loads(it.frame)["op"] for it in out if isinstance(it, Send)]


def test_a_session_logs_in_first_and_nothing_else_is_different():
    plain, mine = (Session(venues.create("okx"), WANTED, T0, credentials=it) for it in (None, MINE))
    one, other = plain.open(T0), mine.open(T0)
    assert sent(one) == ["subscribe"]
    assert sent(other) == ["login", "subscribe"]
    assert [it for it in other if not isinstance(it, Send) or b"login" not in it.frame] == one
    for _ in range(20):  # all that follows is due at the same times
        due = plain.next_wake()
        assert mine.next_wake() == due
        assert plain.wake(due) == mine.wake(due)


def test_a_refused_login_is_told_before_the_connection_ends():
    session = Session(venues.create("okx"), WANTED, T0, credentials=MINE)
    session.open(T0)
    error, end = session.receive(REFUSED, T0 + 1)
    assert isinstance(error, FeedError)
    assert (error.symbol, error.permanent, error.reason) == ("", True, "login refused: 60007: Invalid sign")
    assert end == Reconnect("login refused: 60007: Invalid sign", refused=True)
    assert session.receive(LATE, T0 + 2) == [Reconnect("60006: Timestamp request expired")]


class Okx:
    """A door with two lines of OKX and one of Kraken."""

    def __init__(self):
        self.door, self.now, self.out = Door(1, {"okx": MINE}), T0, []
        candles = (Subscription("BTC-USDT", Channel.CANDLES, interval="1m"),)
        self.enter(Started, "okx", lines={
            "okx": Setup("okx", "public", WANTED), "okx-business": Setup("okx", "business", candles),
        })
        self.enter(Started, "kraken", lines={
            "kraken": Setup("kraken", "", (Subscription("BTC/USD", Channel.BOOK, 10),)),
        })
        for it in ("okx#1", "okx-business#1", "kraken#1"):
            self.enter(Opened, it)

    def enter(self, kind, connection, **fields):
        self.now += MILLISECOND
        number, time = self.door.stamp(self.now)
        out = self.door.enter(kind(number=number, time=time, connection=connection, **fields))
        self.out += out
        return [said for _, said in out]

    def states(self):
        return {name: line.state for name, line in self.door.lines.items()}


def test_all_lines_of_a_venue_end_with_the_first_that_is_refused():
    it = Okx()
    said = it.enter(Frame, "okx#1", data=REFUSED)
    assert it.states() == {
        "okx": Lifecycle.ERROR, "okx-business": Lifecycle.ERROR, "kraken": Lifecycle.SUBSCRIBING,
    }
    assert len([one for one in said if isinstance(one, FeedError)]) == 1
    assert [one.connection for one in said if isinstance(one, Disconnect)] == ["okx#1", "okx-business#1"]
    assert {one.state for one in said if isinstance(one, FeedStatus)} == {"down"}
    told = [one for one in said if isinstance(one, ConnectionState)]
    assert [(one.connection, one.state, one.reason) for one in told] == [
        (name, Lifecycle.ERROR, "login refused: 60007: Invalid sign") for name in ("okx", "okx-business")
    ]
    late = it.door.late
    assert it.enter(Frame, "okx-business#1", data=REFUSED) == []  # it was on its way
    assert it.enter(Closed, "okx#1", reason="Login failed", code=4001) == []
    assert it.door.late == late + 1
    out = it.door.wake(it.now + 3_600 * SECOND)
    assert not [one for name, one in out if isinstance(one, Connect) and name.startswith("okx")]
    assert "okx#1" not in it.door.sessions


def test_a_replacement_that_is_refused_ends_the_line_too():
    """The key was taken back while the line was up: the next connection would fail in any case."""
    it = Okx()
    it.now += 2 * SECOND  # so many attempts were made just now
    said = it.enter(Frame, "okx#1", data=UPGRADE)
    assert [one.connection for one in said if isinstance(one, Connect)] == ["okx#2"]
    it.enter(Opened, "okx#2")
    said = it.enter(Frame, "okx#2", data=REFUSED)
    assert [one.connection for one in said if isinstance(one, Disconnect)] == ["okx#1", "okx#2", "okx-business#1"]
    assert len([one for one in said if isinstance(one, FeedError)]) == 1
    assert it.states()["okx"] is Lifecycle.ERROR


def test_a_login_that_is_late_is_tried_again():
    it = Okx()
    it.enter(Frame, "okx#1", data=LATE)
    assert it.states() == {
        "okx": Lifecycle.RECONNECTING, "okx-business": Lifecycle.SUBSCRIBING, "kraken": Lifecycle.SUBSCRIBING,
    }
    out = it.door.wake(it.now + 2 * SECOND)
    assert [one.connection for _, one in out if isinstance(one, Connect)] == ["okx#2"]


def test_what_the_venue_repeats_of_a_login_gets_no_further():
    """Neither into the recording nor into an event."""
    async def script(reader, writer):
        await shake(reader, writer)
        _, login = await hear(reader)
        said = {"event": "error", "code": "60012", "msg": f"Illegal request: {login.decode()}", "connId": "a"}
        writer.write(frame(TEXT, json.dumps(said).encode()))
        await until(lambda: False)

    async def main():
        async with serving(script) as port, networking(okx=url(port)) as it:
            it.network.door.credentials = {"okx": MINE}
            it.network.enter(Started, "okx", lines={"okx": Setup("okx", "public", WANTED)})
            await until(lambda: it.of(FeedError))
            (error,), (record,) = it.of(FeedError), it.of(Frame)
            assert error.reason.startswith("60012: Illegal request: ")
            for secret in ("my-secret", "my-key", "magic"):
                assert secret not in repr(error)
                assert secret not in repr(record)
    run(main())
