"""Whatever bytes come: no exception, no book that lies about itself, and an end of all trouble with good frames."""
import json
import os
import re
from dataclasses import dataclass, field
from random import Random

import pytest

from onetape import demo, venues
from onetape.clock import MILLISECOND, SECOND
from onetape.feed.inputs import Answer, Frame
from onetape.feed.recording import open_recording
from onetape.feed.session import Session
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Channel,
    Event,
    FeedError,
    FeedStatus,
    Fetch,
    Reconnect,
    Send,
    TrustState,
    encode,
)
from onetape.model.numbers import plain
from onetape.venues import VENUES
from tests.venues.books import checksum

SEEDS = 40 if os.environ.get("ONETAPE_LONG") else 2
HOSTILE = 250  # frames with mutations among them; the other 200 or more are good
RESTED = {"binance", "binance-usdm"}  # snapshots by REST only
NUMBERS = [
    b"-1", b"0", b"-0", b"NaN", b"Infinity", b"1" * 40, b"0." + b"0" * 40 + b"1", b"1e999", b"1e-999", b"1e99999999999",
    b"1e5", b"1E+2", b"18446744073709551616", b"9223372036854775807", b"4294967296", b"01", b"1_0", b"0x1", b"",
]
VALUES = [
    b"null", b"true", b"[]", b"{}", b'""', b"5", b"-5", b"0.5", b'"x"', b"[[]]", b'[["1"]]', b'{"a":1}', b'"\\u0000"',
]


# --- how frames are spoiled -----------------------------------------------------------------------------------------


def spot(frame, random, pattern):
    """One of the places where a pattern occurs; the whole frame if none does."""
    found = [it.span() for it in re.finditer(pattern, frame)]
    return random.choice(found) if found else (0, len(frame))


def replaced(frame, span, by):
    return frame[: span[0]] + by + frame[span[1] :]


def truncated(frame, random):
    return frame[: random.randrange(len(frame) + 1)]


def flipped(frame, random):
    spoiled = bytearray(frame)
    for _ in range(random.randint(1, 4) if frame else 0):
        spoiled[random.randrange(len(spoiled))] ^= 1 << random.randrange(8)
    return bytes(spoiled)


def renumbered(frame, random):
    return replaced(frame, spot(frame, random, rb"-?\d+(\.\d+)?"), random.choice(NUMBERS))


def retyped(frame, random):
    return replaced(frame, spot(frame, random, rb'"[^"]*"(?!:)|(?<=:)\d[\d.]*|\[\]'), random.choice(VALUES))


def nested(frame, random):
    depth = random.choice([3, 60, 3_000])
    opening, closing = random.choice([(b"[", b"]"), (b'{"a":', b"}")])
    return replaced(frame, spot(frame, random, rb'"[^"]*"(?!:)'), opening * depth + b"1" + closing * depth)


def garbled(frame, random):
    at = random.randrange(len(frame) + 1)
    return frame[:at] + random.choice([b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\x00", b"\\ud800"]) + frame[at:]


def doubled_key(frame, random):
    begin, end = spot(frame, random, rb'"\w+":("[^"]*"|\d+|\[\])')
    key = frame[begin:end].partition(b":")[0]
    return replaced(frame, (end, end), b"," + key + b":" + random.choice(VALUES))


def without_key(frame, random):
    return replaced(frame, spot(frame, random, rb'"\w+":("[^"]*"|\d+|\[\]),'), b"")


def renamed(frame, random):
    begin, end = spot(frame, random, rb"[A-Za-z_]{3,}")
    return replaced(frame, (begin, end), random.choice([b"x", b"BOOK", b"snapshot", b"update", b"", b"y" * 300]))


def twice(frame, random):
    return frame + frame


MUTATIONS = [
    truncated, flipped, renumbered, renumbered, renumbered, retyped, retyped, nested, garbled, doubled_key, without_key,
    renamed, twice,
]


# --- a venue that sends the built-in session ------------------------------------------------------------------------


@dataclass
class Feed:
    """What one venue sends in the built-in session on the connection that has its books."""

    name: str
    route: str
    wanted: tuple
    inputs: list
    strange: list = field(default_factory=list)  # of other kinds


def feed_of(name, fixtures):
    recording = open_recording(demo.SESSION)
    connection, setup = next(
        (connection, it) for connection, it in recording.header.sessions.items()
        if it.venue == name and any(each.channel is Channel.BOOK for each in it.wanted)
    )
    feed = Feed(name, setup.route, setup.wanted, [])
    for _, it in recording.inputs:
        if isinstance(it, Frame | Answer) and it.connection == connection:
            feed.inputs.append(it)
        elif isinstance(it, Frame) and recording.header.sessions[it.connection].venue == name:
            feed.strange.append(it.data)
    for line in (fixtures / f"{name.replace('-', '_')}.jsonl").read_bytes().splitlines():
        feed.strange += [line, line.replace(b"AAA", b"BTC").replace(b"BBB", b"ETH")]
    return feed


def snapshot(name, symbol, session):
    """A frame (or, of those that have none, a REST body) that says what the book of a clean session holds."""
    sync = session.books[symbol]
    bids, asks = sync.book.bids(), sync.book.asks()
    pairs = [[[plain(price), plain(size)] for price, size in side] for side in (bids, asks)]
    match name:
        case "binance" | "binance-usdm":
            return json.dumps({"lastUpdateId": sync.sequence, "bids": pairs[0], "asks": pairs[1]}).encode()
        case "coinbase":
            updates = [
                {"side": side, "event_time": "", "price_level": price, "new_quantity": size}
                for side, levels in zip(("bid", "offer"), pairs, strict=True) for price, size in levels
            ]
            return json.dumps({
                "channel": "l2_data", "timestamp": "2026-11-18T11:06:40.1Z", "sequence_num": 0,
                "events": [{"type": "snapshot", "product_id": symbol, "updates": updates}],
            }, separators=(",", ":")).encode()
        case "coinbase-exchange":
            return json.dumps(
                {"type": "snapshot", "product_id": symbol, "bids": pairs[0], "asks": pairs[1]}).encode()
        case "kraken":
            sides = [",".join(f'{{"price":{price},"qty":{size}}}' for price, size in levels) for levels in pairs]
            return (
                f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{symbol}","bids":[{sides[0]}],'
                f'"asks":[{sides[1]}],"checksum":{checksum(session.venue, symbol, bids[:10], asks[:10])}}}]}}'
            ).encode()
        case "okx":
            rows = [[[*level, "0", "1"] for level in levels] for levels in pairs]
            return json.dumps({
                "arg": {"channel": "books", "instId": symbol}, "action": "snapshot",
                "data": [{"bids": rows[0], "asks": rows[1], "ts": "1", "prevSeqId": -1, "seqId": sync.sequence}],
            }, separators=(",", ":")).encode()
        case "bybit":
            return json.dumps({
                "topic": f"orderbook.50.{symbol}", "type": "snapshot", "ts": 1,
                "data": {"s": symbol, "b": pairs[0], "a": pairs[1], "u": sync.sequence},
            }, separators=(",", ":")).encode()


def rest_body(name, symbol, session):
    if name != "okx":
        return snapshot(name, symbol, session)
    return json.dumps({"code": "0", "msg": "", "data": json.loads(snapshot(name, symbol, session))["data"]}).encode()


# --- what a consumer believes ---------------------------------------------------------------------------------------


class Believed:
    """A book made of nothing but the events of one session, in dicts."""

    def __init__(self):
        self.sides, self.edges, self.depth, self.state = ({}, {}), [None, None], 0, None

    def take(self, it, *, resends):
        for at, (side, levels) in enumerate(zip(self.sides, (it.bids, it.asks), strict=True)):
            if isinstance(it, BookSnapshot):
                side.clear()
                side.update({price: size for price, size in levels if size})
                cut = it.depth and not resends and len(side) >= it.depth
                self.edges[at] = (max if at else min)(side) if cut else None
                self.depth = it.depth if resends else 0
            else:
                side.update(levels)
            for price in [price for price, size in side.items() if not size]:
                del side[price]
            for price in sorted(side, reverse=not at)[self.depth :] if self.depth else ():
                del side[price]

    def shown(self):
        bids, asks = self.sides
        low, high = self.edges
        return (
            [(price, bids[price]) for price in sorted(bids, reverse=True) if low is None or price >= low],
            [(price, asks[price]) for price in sorted(asks) if high is None or price <= high],
        )


class World:
    """A session among hostile frames, the driver that obeys it, and a clean twin that sees only what was sent."""

    def __init__(self, feed, random, *, strict):
        self.feed, self.random, self.strict = feed, random, strict
        self.symbols = [it.symbol for it in feed.wanted if it.channel is Channel.BOOK]
        self.now = 10**18
        self.twin = Session(venues.create(feed.name, feed.route), feed.wanted, self.now)
        self.twin.open(self.now)
        self.faults = True
        self.connections = self.quarantined = 0
        self.connect()

    def connect(self):
        venue = venues.create(self.feed.name, self.feed.route)
        self.session = Session(venue, self.feed.wanted if self.strict else None, self.now)
        self.believed, self.gone, self.due, self.number, self.sent, self.refused = {}, set(), [], 0, 0, 0
        self.connections += 1
        self.over = False
        self.obey(self.session.open(self.now))
        if not self.strict:
            self.due += [("frame", it) for it in self.symbols]

    def numbered(self, frame):
        """Coinbase counts all frames of a connection."""
        if self.feed.name != "coinbase":
            return frame
        self.number += 1
        return re.sub(rb'"sequence_num": ?\d+', b'"sequence_num":%d' % (self.number - 1), frame, count=1)

    def deliver(self, frame):
        books = {symbol: (it.book.bids(), it.book.asks()) for symbol, it in self.session.books.items()}
        before = self.session.counters["quarantined"]
        self.sent += 1
        out = self.session.receive(frame, self.now)
        shown = {it.symbol for it in out if isinstance(it, BookSnapshot | BookDelta)}
        if self.session.counters["quarantined"] > before:
            for symbol, sync in self.session.books.items():
                if symbol in books and symbol not in shown:
                    assert (sync.book.bids(), sync.book.asks()) == books[symbol]
        self.refused += sum(isinstance(it, FeedError) and it.quarantined for it in out)
        assert self.session.frames == self.sent
        assert self.session.counters["quarantined"] == self.refused
        self.obey(out)

    def obey(self, out):
        resends = self.session.venue.spec.book.resends
        for it in out:
            if isinstance(it, Event):
                encode(it)
            if isinstance(it, FeedStatus) and it.channel is Channel.BOOK:
                self.believed.setdefault(it.symbol, Believed()).state = it.state
            elif isinstance(it, BookSnapshot | BookDelta):
                self.believed.setdefault(it.symbol, Believed()).take(it, resends=resends)
            elif isinstance(it, FeedError) and it.permanent and it.channel == Channel.BOOK:
                self.gone.add(it.symbol)
            elif isinstance(it, Fetch) and it.request.symbol in self.symbols:
                self.due.append(("rest", it))
            elif isinstance(it, Send) and b"unsubscribe" not in it.frame and self.feed.name not in RESTED:
                self.due += [("frame", symbol) for symbol in self.symbols if symbol.encode() in it.frame]
            elif isinstance(it, Reconnect):
                self.over = True
        self.check()

    @property
    def wanted_again(self):
        """The books that must come back: all but those that were told to be given up for good."""
        return set(self.symbols) - self.gone

    def check(self):
        """A book that is live has told so, and shows what its events say."""
        for symbol, sync in self.session.books.items():
            if symbol in self.believed:
                assert sync.state in (self.believed[symbol].state, TrustState.SYNCING)
            if sync.state is TrustState.LIVE:
                assert self.believed[symbol].state is TrustState.LIVE
                assert (sync.book.bids(), sync.book.asks()) == self.believed[symbol].shown()

    def spoiled(self, data):
        return self.random.choice(MUTATIONS)(data, self.random) if self.faults and self.random.random() < 0.3 else data

    def bring(self):
        """The snapshots that are due; while there are faults, some stay away or are spoiled."""
        due, self.due = self.due, []
        for kind, what in due:
            if kind == "frame":
                if self.twin.books[what].sequence:
                    self.deliver(self.spoiled(self.numbered(snapshot(self.feed.name, what, self.twin))))
            elif self.faults and self.random.random() < 0.2:
                self.obey(self.session.rest_failed(what.id, "no route", self.now))
            else:
                status = self.random.choice([200, 200, 200, 429, 500, 418]) if self.faults else 200
                body = self.spoiled(rest_body(self.feed.name, what.request.symbol, self.twin))
                out = self.session.receive_rest(what.id, status, body, self.now)
                self.refused += sum(isinstance(it, FeedError) and it.quarantined for it in out)
                self.obey(out)

    def step(self, sent, wait):
        """The next thing that the venue sends, perhaps spoiled, lost, or after something strange."""
        if isinstance(sent, Answer):  # the twin asked for it; the session has its own
            self.twin.receive_rest(sent.id, sent.status, sent.body, self.now)
            return
        self.now += wait
        self.wake()
        self.bring()
        self.twin.receive(sent.data, self.now)
        if self.faults and self.random.random() < 0.25:
            strange = self.numbered(self.random.choice(self.feed.strange or [sent.data]))
            self.deliver(self.random.choice(MUTATIONS)(strange, self.random))
        frame, chance = self.numbered(sent.data), self.random.random() if self.faults else 0
        if chance < 0.7:
            self.deliver(frame)
        elif chance < 0.95:
            self.deliver(self.random.choice(MUTATIONS)(frame, self.random))

    def wake(self):
        for _ in range(100):
            if self.over or self.session.next_wake() > self.now:
                break
            self.obey(self.session.wake(self.session.next_wake()))
        assert self.over or self.session.next_wake() > self.now  # it does not spin
        if self.over:
            self.obey(self.session.close("asked for", self.now))
            assert {it.state for it in self.session.books.values()} <= {TrustState.DOWN}
            self.connect()


@pytest.fixture(scope="module")
def feeds(fixtures):
    return {name: feed_of(name, fixtures) for name in VENUES}


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "adopting"])
@pytest.mark.parametrize("name", VENUES)
def test_no_book_lies_whatever_comes_and_all_are_live_again_when_it_ends(feeds, name, strict, seed):
    world = World(feeds[name], Random(f"{name} {strict} {seed}"), strict=strict)
    inputs = iter(feeds[name].inputs)
    for _, it in zip(range(HOSTILE), inputs, strict=False):
        world.step(it, world.random.choice([MILLISECOND, 100 * MILLISECOND, 100 * MILLISECOND, 6 * SECOND]))
    assert world.session.counters["quarantined"] or world.connections > 1
    world.faults = False
    world.deliver(b"\xff")  # it may have spoken of anything: no book is believed any more
    assert TrustState.LIVE not in {sync.state for sync in world.session.books.values()}
    for it in inputs:
        world.step(it, SECOND)
    assert world.wanted_again <= set(world.session.books)
    for symbol in world.wanted_again:
        sync, true = world.session.books[symbol], world.twin.books[symbol]
        assert sync.state is TrustState.LIVE, symbol
        assert (sync.book.bids(), sync.book.asks()) == (true.book.bids(), true.book.asks())


@pytest.mark.parametrize("name", sorted(RESTED))
def test_levels_that_cannot_be_read_are_told_at_once_though_the_book_still_waits_for_its_snapshot(feeds, name):
    """Kept unread, they would break the snapshot that they wait for, half-way and without a word."""
    world = World(feeds[name], Random(0), strict=True)
    world.faults = False
    frames = [it.data for it in feeds[name].inputs if isinstance(it, Frame) and b'"s":"BTCUSDT"' in it.data]
    frames = [it for it in frames if b"depthUpdate" in it]
    world.deliver(frames[0])
    world.deliver(re.sub(rb'"b":\[\["[\d.]+', b'"b":[["NaN', frames[1]))
    assert world.session.counters["quarantined"] == 1
    ((_, fetch),) = world.due
    body = json.dumps({"lastUpdateId": json.loads(frames[0])["data"]["u"], "bids": [["1", "1"]], "asks": []}).encode()
    world.obey(world.session.receive_rest(fetch.id, 200, body, world.now))
    assert world.session.books["BTCUSDT"].state is TrustState.SYNCING
    world.deliver(frames[2])
