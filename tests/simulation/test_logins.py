"""Logins at the simulated venues, in memory: what is right changes nothing, what is wrong ends one venue, said once."""
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from onetape.credentials import Credentials, Secret
from onetape.feed.door import Door
from onetape.model import ConnectionState, Event, FeedError, Lifecycle, Send
from onetape.sim.credentials import KEY, PASSPHRASE, SECRET, SECRET_BASE64, private_key
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.venues.coinbase import Coinbase
from onetape.sim.venues.coinbase_exchange import CoinbaseExchange
from onetape.sim.venues.kraken import Kraken
from onetape.sim.venues.okx import Okx
from tests.simulation.lab import Lab

CLASSES = {"coinbase": Coinbase, "coinbase-exchange": CoinbaseExchange, "kraken": Kraken, "okx": Okx}
SETTINGS = {"pairs": ["BTC-USDT", "ETH-USD"], "channels": ["trades", "book"]}
PEM = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def account(venue, **changed):
    secret = {"coinbase": PEM, "coinbase-exchange": SECRET_BASE64}.get(venue, SECRET)
    phrase = "" if venue == "coinbase" else PASSPHRASE
    given = {"key": KEY, "secret": secret, "passphrase": phrase} | changed
    return Credentials(venue, **{name: Secret(text) for name, text in given.items()})


RIGHT = {it: account(it) for it in ("okx", "coinbase", "coinbase-exchange")}
WRONG = [
    ("okx", {"key": "nobody"}, "60032"), ("okx", {"secret": "guessed"}, "60007"),
    ("okx", {"passphrase": "guessed"}, "60024"), ("okx", {"key": ""}, "60005"),
    ("coinbase", {"key": "nobody"}, "authentication failure"),
    ("coinbase-exchange", {"key": "nobody"}, "Authentication Failed"),
    ("coinbase-exchange", {"secret": "Z3Vlc3NlZA=="}, "Authentication Failed"),
    ("coinbase-exchange", {"passphrase": "guessed"}, "Authentication Failed"),
]


def lab(plan=None, credentials=RIGHT, record=None, **changed):
    it = Lab(plan, classes=CLASSES, settings=SETTINGS | changed, credentials=credentials, record=record)
    it.logins = Logins(it)
    it.start()
    return it


class Logins:
    """What proves who asks, of all that is sent."""

    def __init__(self, it):
        self.frames, self._arrive = [], it._arrive
        it._arrive = self.arrive

    def arrive(self, name, frame):
        self.frames.append((name, frame))
        self._arrive(name, frame)

    def of(self, line):
        said = [json.loads(it) for name, it in self.frames if name.startswith(f"{line}#") and it[:1] == b"{"]
        return [it for it in said if "jwt" in it or "signature" in it or it.get("op") == "login"]


def test_with_the_right_account_all_is_well():
    it = lab()
    it.play(40)
    assert it.healthy, it.states
    assert not [one for one in it.events if isinstance(one, FeedError)]
    assert {len(it.attempts[venue]) for venue in ("coinbase", "coinbase-exchange", "kraken")} == {1}
    okx = [name for name in it.states if name.startswith("okx")]
    assert len(okx) == 2  # each of its sockets logs in
    assert [len(it.logins.of(name)) for name in okx] == [1, 1]
    tokens = [one["jwt"] for one in it.logins.of("coinbase")]
    assert len(tokens) == len(set(tokens)) == 3  # heartbeats, trades, books
    assert len(it.logins.of("coinbase-exchange")) == 3
    assert not it.logins.of("kraken")
    it.stop()
    verdict = it.referee.finish()
    assert not verdict.wrong, verdict.findings


@pytest.mark.parametrize(("venue", "changed", "words"), WRONG)
def test_a_wrong_one_ends_its_venue_and_is_said_once(venue, changed, words):
    it = lab(credentials=RIGHT | {venue: account(venue, **changed)})
    it.play(20)
    mine = {name: state for name, state in it.states.items() if it.door.lines[name].setup.venue == venue}
    assert set(mine.values()) == {Lifecycle.ERROR}
    others = {state for name, state in it.states.items() if name not in mine}
    assert others == {Lifecycle.ACTIVE}
    books = {id: book for id, book in it.books().items() if id[0] != venue}
    assert {id[0] for id in books} == set(CLASSES) - {venue}
    assert all(book.state == "live" for book in books.values())
    (said,) = [one for one in it.events if isinstance(one, FeedError)]
    assert (said.venue, said.symbol, said.permanent) == (venue, "", True)
    assert said.reason.startswith(f"login refused: {words}")
    assert len(it.attempts[venue]) == len(mine)  # and no more
    told = [one for one in it.events if isinstance(one, ConnectionState) and one.state is Lifecycle.ERROR]
    assert sorted(one.connection for one in told) == sorted(mine)
    assert all(one.reason == said.reason for one in told)
    assert all(it.door.lines[name].next_wake() is None for name in mine)
    assert not any(it.door.lines[name].leader for name in mine)


def test_another_key_is_another_account():
    """Of Coinbase: well formed, and not the one that the venue knows."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    other = Ed25519PrivateKey.from_private_bytes(bytes(32))
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    it = lab(credentials={"coinbase": account("coinbase", secret=pem)})
    it.play(20)
    assert it.states["coinbase"] is Lifecycle.ERROR
    assert len([one for one in it.events if isinstance(one, FeedError)]) == 1


def test_a_clock_that_is_wrong_for_a_while_is_no_wrong_key():
    """Late is late: it is tried again, as after any loss, until the clocks agree."""
    plan = FaultPlan(faults=(Fault(kind=FaultKind.CLOCK_SKEW, venue="okx", at=0.0, lasts=60.0, seconds=120.0),))
    it = lab(plan)
    it.play(50)
    assert {it.states[name] for name in it.states if name.startswith("okx")} <= {
        Lifecycle.RECONNECTING, Lifecycle.CONNECTING, Lifecycle.SUBSCRIBING,
    }
    assert {one.reason for one in it.events if isinstance(one, FeedError)} <= set()
    told = {one.reason for one in it.events if isinstance(one, ConnectionState) and one.venue == "okx"}
    assert "60006: Timestamp request expired" in told
    it.play(60 + 45)
    assert it.healthy, it.states


def test_what_comes_new_to_a_venue_that_refuses_is_not_tried():
    plan = FaultPlan(faults=(Fault(kind=FaultKind.UNLISTED, venue="okx", symbol="BTC-USDT", at=0.0, lasts=30.0),))
    it = lab(plan, credentials={"okx": account("okx", secret="guessed")}, pairs=["BTC-USDT", "ETH-USDT"])
    it.play(35)
    attempts, before = len(it.attempts["okx"]), it.setups["okx"]
    it.refresh()
    it.play(50)
    assert it.setups["okx"] != before  # it is listed again
    it._obey(it.door._change_lines("okx", {**it.setups["okx"], "okx-more": next(iter(before.values()))}, it.now))
    it.play(60)
    assert it.states["okx-more"] is Lifecycle.ERROR
    assert len(it.attempts["okx"]) == attempts
    assert len([one for one in it.events if isinstance(one, FeedError) and one.permanent and one.venue == "okx"]) == 1


@pytest.mark.parametrize("secret", [SECRET, "guessed"])
def test_a_replay_without_credentials_brings_the_same_events(secret):
    """Faults besides, so that there is much to be asked for again."""
    inputs = []
    plan = FaultPlan(faults=(
        Fault(kind=FaultKind.DROP, at=5.0, lasts=20.0, share=0.02),
        Fault(kind=FaultKind.CLOSE, at=20.0, lasts=1.0, code=1006),
        Fault(kind=FaultKind.SILENT, symbol="BTC-USDT", at=25.0, lasts=60.0),
    ))
    it = lab(plan, credentials=RIGHT | {"okx": account("okx", secret=secret)}, record=inputs.append)
    it.play(80)
    it.stop()
    door, events = Door(1), []
    for one in inputs:
        events += [said for _, said in door.enter(one) if isinstance(said, Event)]
    assert len(events) > 1_000
    assert events == it.events


def test_a_login_leaves_before_all_else():
    inputs = []
    it = lab(record=inputs.append)
    it.play(5)
    door = Door(1, RIGHT)
    for one in inputs:
        said = [(name, one.frame) for name, one in door.enter(one) if isinstance(one, Send) and name.startswith("okx")]
        if said:
            assert b'"login"' in said[0][1]
            assert b'"subscribe"' in said[1][1]
            break
