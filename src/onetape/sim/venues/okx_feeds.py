"""The channels of one instrument of the simulated OKX, who hears them, and when they speak (sections 5.1 to 5.5)."""
from collections.abc import Iterable
from itertools import groupby
from random import Random
from typing import Protocol

from msgspec import Struct, field

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.base import Frame, Happening
from onetape.sim.faults import Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import okx_frames as frames
from onetape.sim.venues.okx_bars import BARS, traded
from onetape.sim.venues.okx_books import DEPTHS, Best, Book
from onetape.sim.venues.okx_frames import Paper

TICKER_PERIOD = 100 * MILLISECOND
AFTER_BOOKS = len(DEPTHS)
"""The rank of what has none among the books."""


class Feed(Protocol):
    """What one channel says, whoever listens. ``now`` is the time, ``skew`` what the venue's clock is wrong by."""

    name: str
    channel: str
    rank: int
    """Of those that speak at the same moment, the lowest is first."""

    def begin(self, now: int) -> None:
        """From now on somebody listens."""
        ...

    def moved(self, it: Happening) -> bool:
        """Whether there may be something to tell."""
        ...

    def next(self, now: int, *, moved: bool) -> int | None:
        """When to ask for a beat."""
        ...

    def beat(self, now: int, skew: int) -> list[bytes]: ...

    def whole(self, now: int, skew: int) -> bytes:
        """What somebody hears at the first beat; nothing if there is nothing."""
        ...


class Trades:
    """Each order's executions at once: one frame for each match, or for all at one price."""

    channel, rank = "trades", AFTER_BOOKS

    def __init__(self, paper: Paper, name: str) -> None:
        self.name = name
        self._paper = paper

    def begin(self, now: int) -> None:
        pass

    def moved(self, it: Happening) -> bool:
        return False

    def next(self, now: int, *, moved: bool) -> int | None:
        return None

    def beat(self, now: int, skew: int) -> list[bytes]:
        return []

    def whole(self, now: int, skew: int) -> bytes:
        return b""

    def happen(self, it: Happening, skew: int) -> list[bytes]:
        paper, time = self._paper, it.time + skew
        if self.name == "trades-all":
            return [frames.single_trade(paper, match, time) for match in it.matches]
        sequence = it.changes[-1].sequence if it.changes else paper.truth.sequence
        merged = groupby(it.matches, lambda match: (match.price, match.buy))
        return [frames.trade(paper, list(group), sequence, time) for _, group in merged]


class Tickers:
    """After a trade, or when the best prices changed."""

    name, channel, rank = "tickers", "ticker", AFTER_BOOKS

    def __init__(self, paper: Paper, phase: int) -> None:
        self._paper, self._phase = paper, phase
        self._told: object = None

    def begin(self, now: int) -> None:
        self._told = self._key()

    def moved(self, it: Happening) -> bool:
        return True

    def next(self, now: int, *, moved: bool) -> int | None:
        return now - (now - self._phase) % TICKER_PERIOD + TICKER_PERIOD if moved else None

    def beat(self, now: int, skew: int) -> list[bytes]:
        key = self._key()
        if key == self._told:
            return []
        self._told = key
        return [self.whole(now, skew)]

    def whole(self, now: int, skew: int) -> bytes:
        return frames.ticker(self._paper, frames.ticker_row(self._paper, now, skew))

    def _key(self) -> object:
        truth = self._paper.truth
        return truth.last_matches(1), truth.bids(1), truth.asks(1)


class Candles:
    """The running one once a second if anything was traded in it, each one as closed after its end.

    Of an interval without a trade nothing is said: whether the real venue does is not known, REST has them.
    """

    channel, rank = "candles", AFTER_BOOKS

    def __init__(self, paper: Paper, bar: str, phase: int) -> None:
        self.name = f"candle{bar}"
        self._paper, self._bar, self._phase = paper, bar, phase
        self._running = self._told = 0  # its beginning; the last match in it that was told

    def begin(self, now: int) -> None:
        self._running, self._told = BARS[self._bar].floor(now), self._last()

    def moved(self, it: Happening) -> bool:
        return False

    def next(self, now: int, *, moved: bool) -> int | None:
        return now - (now - self._phase) % SECOND + SECOND

    def beat(self, now: int, skew: int) -> list[bytes]:
        """Never two: at the beat after its end, a candle is told as closed, and the running one waits."""
        ended, self._running = self._running, BARS[self._bar].floor(now)
        closed = self._say(ended, closed=True) if ended < self._running else b""
        if closed:
            return [closed]
        if self._told == self._last():
            return []
        self._told = self._last()
        running = self.whole(now, skew)
        return [running] if running else []

    def whole(self, now: int, skew: int) -> bytes:
        return self._say(self._running, closed=False)

    def _say(self, start: int, *, closed: bool) -> bytes:
        bar = BARS[self._bar]
        it = traded(self._paper.truth, bar, start, bar.after(start)).get(start)
        return frames.candle(self._paper, self._bar, it, closed=closed) if it is not None else b""

    def _last(self) -> int:
        last = self._paper.truth.last_matches(1)
        return last[0].id if last else 0


class Stream(Struct):
    """A channel of an instrument, and all who hear it."""

    feed: Feed
    symbol: str
    listeners: dict[int, None] = field(default_factory=dict)
    new: dict[int, None] = field(default_factory=dict)
    """Those of them who have heard nothing yet."""
    due: int = 0
    """When it will speak; 0: not known."""

    def join(self, connection: int) -> None:
        """Of trades nothing is told but those that come."""
        self.listeners[connection] = None
        if not isinstance(self.feed, Trades):
            self.new[connection] = None

    def leave(self, connection: int) -> None:
        self.listeners.pop(connection, None)
        self.new.pop(connection, None)

    def to_all(self, said: Iterable[bytes]) -> list[Frame]:
        symbol, channel = self.symbol, self.feed.channel
        return [Frame(it, data, symbol, channel) for data in said for it in self.listeners if it not in self.new]

    def to_new(self, whole: bytes) -> list[Frame]:
        new, self.new = self.new, {}
        return [Frame(it, whole, self.symbol, self.feed.channel) for it in new] if whole else []


class Desk:
    """All channels of one instrument; each is made when it is first asked for, and stays."""

    def __init__(self, truth: Truth, faults: Faults, seed: int) -> None:
        self.paper = Paper(truth)
        self._faults = faults
        dice = Random(f"{seed} okx {self.paper.symbol}")  # noqa: S311 - chance, no secret
        self._phase = dice.randrange(1_000) * MILLISECOND - 1  # not all instruments speak at once
        self.streams: dict[str, Stream] = {}
        """By channel."""

    def stream(self, channel: str) -> Stream | None:
        """None: there is no such channel."""
        if channel not in self.streams:
            feed = self._feed(channel)
            if feed is None:
                return None
            self.streams[channel] = Stream(feed, self.paper.symbol)
        return self.streams[channel]

    def _feed(self, channel: str) -> Feed | None:
        match channel:
            case "trades" | "trades-all":
                return Trades(self.paper, channel)
            case "tickers":
                return Tickers(self.paper, self._phase)
            case "books" | frames.RPI:
                return Book(self.paper, channel, self._phase, self._faults)
            case "bbo-tbt" | "books5":
                return Best(self.paper, channel, self._phase)
            case _ if channel.removeprefix("candle") in BARS and channel.startswith("candle"):
                return Candles(self.paper, channel.removeprefix("candle"), self._phase)
            case _:
                return None
