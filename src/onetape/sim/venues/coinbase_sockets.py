"""The sockets of a simulated Coinbase, of whichever protocol: who hears what, what is due, and when they end."""
from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Protocol
from zlib import crc32

from msgspec import Struct, field

from onetape.clock import SECOND
from onetape.sim.base import Action, Close, Frame, Rejected
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.venues.kraken_rest import Bucket

DEADLINE = 5 * SECOND  # for the first subscription
NOTICE, RESTART = 10 * SECOND, 5 * SECOND
ATTEMPTS = 8  # connections a second in the long run
MAX_MESSAGE = 65_536  # no number is published

_Task = Callable[[int], list[Action]]


class Said(Struct, frozen=True, gc=False):
    """One frame. With a ``tail``, the connection's own number of the frame stands between the two parts."""

    head: bytes
    tail: bytes = b""


class Feed(Protocol):
    """What one channel says of one product, whoever listens. ``skew`` is what the venue's clock is wrong by."""

    period: int
    """Between two beats; 0: it speaks as soon as something happens."""
    restless: bool
    """It speaks at every beat; else after something happened."""
    topic: str
    """The simulator's own word; empty where no fault can choose it."""

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        """What a new subscriber hears; ``first``: nobody else listens."""
        ...

    def tell(self, now: int, skew: int) -> list[Said]:
        """All that has not been told yet."""
        ...


class Topic(Struct, eq=False):
    """A feed and who hears it."""

    channel: str
    symbol: str
    feed: Feed
    hearers: "dict[int, Client]" = field(default_factory=dict)
    due: int = 0


class Client(Struct, eq=False):
    number: int
    told: int
    """When it last heard anything of a feed, or began."""
    frames: int = 0
    """How many frames with a number it got."""
    subscribed: bool = False
    """Ever."""
    topics: dict[tuple[str, str], Topic] = field(default_factory=dict)
    """By channel and product."""


class Rules(Struct, frozen=True):
    """How the two protocols differ (section 2)."""

    connects_at_once: int
    messages: int
    """A second. The simulator knows no address here: all clients are one."""
    idle: int
    """Without a word of any feed; 0: that ends nothing."""
    skipped: frozenset[str]
    """Topics whose frames bear numbers, so that one can be skipped."""
    counted: bool
    """Frames bear numbers of the connection: what stays away must not use them up."""


class Sockets:
    """``make`` builds the feed of a channel and product, the empty product where the channel has none."""

    def __init__(
        self, name: str, rules: Rules, faults: Faults, seed: int, make: Callable[[str, str], Feed],
    ) -> None:
        self.dice = Random(f"{seed} {name}")  # noqa: S311 - chance, no secret
        self._name, self._rules, self._faults, self._make = name, rules, faults, make
        self._seed = seed
        self._clients: dict[int, Client] = {}
        self._topics: dict[tuple[str, str], Topic] = {}
        self._heard: defaultdict[str, list[Topic]] = defaultdict(list)
        """By product, those that anybody hears."""
        self._attempts = Bucket(rules.connects_at_once, ATTEMPTS, faults.start)
        self._messages = Bucket(rules.messages, rules.messages, faults.start)
        self._agenda: list[tuple[int, int, _Task]] = []
        self._order = 0
        self._down_until = 0
        self._may_skew, self._may_skip = (bool(faults.of(it)) for it in (FaultKind.CLOCK_SKEW, FaultKind.SKIP_SEQUENCE))
        self._may_hold = bool(faults.of(FaultKind.UNLISTED) or faults.of(FaultKind.SILENT))
        for it in faults.of(FaultKind.NOTICE):
            if it.venue in ("", name):
                self._at(faults.time(it.at) + NOTICE, self._end_all)

    # --- connections --------------------------------------------------------------------------------------------------

    def open(self, connection: int, target: str, now: int) -> None:
        """Raises Rejected."""
        if not self._attempts.take(now):
            raise Rejected(429)
        if target.partition("?")[0] not in ("", "/"):
            raise Rejected(404)
        if now < self._down_until:
            raise Rejected(503)
        client = self._clients[connection] = Client(connection, now)
        self._at(now + DEADLINE, partial(self._look_at, client))

    def client(self, connection: int) -> Client | None:
        return self._clients.get(connection)

    def drop(self, connection: int) -> None:
        client = self._clients.pop(connection, None)
        for topic in list(client.topics.values()) if client is not None else ():
            self._leave(topic, connection)

    def may_send(self, now: int) -> bool:
        """Whether another message of a client's is heard."""
        return self._messages.take(now)

    def _look_at(self, client: Client, now: int) -> list[Action]:
        """Closes come without a word: no codes are published (section 9)."""
        if self._clients.get(client.number) is not client:
            return []
        idle = self._rules.idle
        if not client.subscribed or (idle and now >= client.told + idle):
            self.drop(client.number)
            return [Close(client.number, 1006)]
        if idle:
            self._at(client.told + idle, partial(self._look_at, client))
        return []

    def _end_all(self, now: int) -> list[Action]:
        """A deploy: nothing announces it (section 2)."""
        self._down_until = now + RESTART
        ended = list(self._clients)
        for connection in ended:
            self.drop(connection)
        return [Close(connection, 1001) for connection in ended]

    # --- subscriptions ------------------------------------------------------------------------------------------------

    def may_hear(self, channel: str, symbol: str, now: int) -> bool:
        """Whether a product that exists can be subscribed to."""
        topic = self._topic(channel, symbol).feed.topic
        fault = self._faults.active(FaultKind.REFUSE_SYMBOL, self._name, now, symbol, topic)
        return self._faults.listed(self._name, symbol, now) and (fault is None or not self._faults.hits(fault))

    def join(self, client: Client, channel: str, symbols: Iterable[str], now: int) -> list[Action]:
        """What it hears at once. Of what it hears already there is no second beginning."""
        client.subscribed = True
        out: list[Action] = []
        for symbol in symbols:
            topic = self._topic(channel, symbol)
            if (channel, symbol) in client.topics:
                continue
            client.topics[channel, symbol] = topic
            first = not topic.hearers
            if first:
                self._heard[symbol].append(topic)
            beginning = topic.feed.join(now, self.skew(now), first=first)
            for said in beginning if not self._holds(topic, now) else ():
                out.append(self.say(client, said, topic))
                client.told = now
            topic.hearers[client.number] = client
            self._expect(topic, now)
        return out

    def leave(self, client: Client, channel: str, symbols: Iterable[str]) -> None:
        """No products: all of the channel."""
        wanted = set(symbols)
        for key in [it for it in client.topics if it[0] == channel and (not wanted or it[1] in wanted)]:
            self._leave(client.topics.pop(key), client.number)

    def heard_by(self, client: Client) -> dict[str, list[str]]:
        """Products by channel, both in no order that means anything."""
        out: dict[str, list[str]] = {}
        for channel, symbol in client.topics:
            out.setdefault(channel, []).append(symbol)
        return {channel: self.dice.sample(symbols, len(symbols)) for channel, symbols in out.items()}

    def _leave(self, topic: Topic, connection: int) -> None:
        del topic.hearers[connection]
        if not topic.hearers:
            self._heard[topic.symbol].remove(topic)

    def _topic(self, channel: str, symbol: str) -> Topic:
        topic = self._topics.get((channel, symbol))
        if topic is None:
            topic = self._topics[channel, symbol] = Topic(channel, symbol, self._make(channel, symbol))
        return topic

    # --- saying -------------------------------------------------------------------------------------------------------

    def say(self, client: Client, said: Said, topic: Topic | None = None) -> Action:
        data = said.head
        if said.tail:
            data = b"%b%d%b" % (said.head, client.frames, said.tail)
            client.frames += 1
        if topic is None:
            return Frame(client.number, data)
        return Frame(client.number, data, topic.symbol, topic.feed.topic)

    def happen(self, symbol: str, now: int) -> list[Action]:
        out: list[Action] = []
        for topic in self._heard.get(symbol, ()):
            if not topic.feed.period:
                out += self._tell(topic, now)
            elif not topic.due:
                self._expect(topic, now)
        return out

    def next_wake(self) -> int | None:
        return self._agenda[0][0] if self._agenda else None

    def wake(self, now: int) -> list[Action]:
        out: list[Action] = []
        while self._agenda and self._agenda[0][0] <= now:
            out += heappop(self._agenda)[2](now)
        return out

    def skew(self, now: int) -> int:
        if not self._may_skew:
            return 0
        fault = self._faults.active(FaultKind.CLOCK_SKEW, self._name, now)
        return round(fault.seconds * SECOND) if fault is not None else 0

    def _expect(self, topic: Topic, now: int) -> None:
        """Each product has its own beats."""
        period = topic.feed.period
        if period and not topic.due:
            phase = crc32(f"{self._seed} {topic.symbol}".encode()) % period
            topic.due = now - (now - phase) % period + period
            self._at(topic.due, partial(self._beat, topic))

    def _beat(self, topic: Topic, now: int) -> list[Action]:
        topic.due = 0
        if not topic.hearers:
            return []
        if topic.feed.restless:
            self._expect(topic, now)
        return self._tell(topic, now)

    def _tell(self, topic: Topic, now: int) -> list[Action]:
        out: list[Action] = []
        if self._holds(topic, now):
            return out
        for said in topic.feed.tell(now, self.skew(now)):
            skipped = self._may_skip and self._skips(topic, now)
            for client in topic.hearers.values():
                if skipped:
                    client.frames += 1
                else:
                    out.append(self.say(client, said, topic))
                client.told = now
        return out

    def _holds(self, topic: Topic, now: int) -> bool:
        """What is not listed is not spoken of; nor is what a fault silences, or else the numbers would tell."""
        if not self._may_hold:
            return False
        silent = self._faults.active(FaultKind.SILENT, self._name, now, topic.symbol, topic.feed.topic)
        hushed = self._rules.counted and topic.feed.topic and silent is not None and self._faults.hits(silent)
        return bool(hushed) or not self._faults.listed(self._name, topic.symbol, now)

    def _skips(self, topic: Topic, now: int) -> bool:
        if topic.feed.topic not in self._rules.skipped:
            return False
        fault = self._faults.active(FaultKind.SKIP_SEQUENCE, self._name, now, topic.symbol, topic.feed.topic)
        return fault is not None and self._faults.hits(fault)

    def _at(self, time: int, task: _Task) -> None:
        self._order += 1
        heappush(self._agenda, (time, self._order, task))
