"""The topics of one instrument of the simulated Bybit, who hears them, and when they speak (sections 5.1 to 5.5)."""
from collections.abc import Iterable, Mapping
from random import Random
from typing import Protocol

from msgspec import Struct, field

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Action, Frame, Happening
from onetape.sim.truth import Truth
from onetape.sim.venues import bybit_frames as frames
from onetape.sim.venues.binance_intervals import INTERVALS, Interval, candles
from onetape.sim.venues.bybit_books import PERIODS, Depth
from onetape.sim.venues.bybit_frames import Paper

NAMES = {
    "1": "1m", "3": "3m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "120": "2h", "240": "4h", "360": "6h",
    "720": "12h", "D": "1d", "W": "1w", "M": "1M",
}
BARS: Mapping[str, Interval] = {bar: INTERVALS[name] for bar, name in NAMES.items()}
"""Of candles, by the venue's own names."""
MATCHES_PER_FRAME = 1_024
TICKER_SPOT, TICKER_LINEAR = 50 * MILLISECOND, 100 * MILLISECOND


class Feed(Protocol):
    """What one topic says, whoever listens. ``now`` is the time, ``skew`` what the venue's clock is wrong by."""

    topic: str
    channel: str

    def join(self, now: int, skew: int, *, first: bool) -> list[bytes]:
        """What a new subscriber hears; ``first``: nobody else listens."""
        ...

    def moved(self, it: Happening) -> bool:
        """Whether there may be something to tell."""
        ...

    def next(self, now: int, *, moved: bool) -> int | None:
        """When to ask for a beat."""
        ...

    def beat(self, now: int, skew: int) -> list[bytes]: ...


class Trades:
    """Each order's executions at once."""

    channel = "trades"

    def __init__(self, paper: Paper) -> None:
        self.topic = f"publicTrade.{paper.symbol}"
        self._paper = paper

    def join(self, now: int, skew: int, *, first: bool) -> list[bytes]:
        return []

    def moved(self, it: Happening) -> bool:
        return False

    def next(self, now: int, *, moved: bool) -> int | None:
        return None

    def beat(self, now: int, skew: int) -> list[bytes]:
        return []

    def happen(self, it: Happening, now: int, skew: int) -> list[bytes]:
        parts = (it.matches[at:at + MATCHES_PER_FRAME] for at in range(0, len(it.matches), MATCHES_PER_FRAME))
        sequence = it.changes[-1].sequence if it.changes else self._paper.truth.sequence
        return [frames.trades(self._paper, part, sequence, now + skew, skew) for part in parts]


class Tickers:
    """All figures at once on spot, on linear only those that changed. The index moves every second."""

    channel = "ticker"

    def __init__(self, paper: Paper, phase: int) -> None:
        self.topic = f"tickers.{paper.symbol}"
        self._paper, self._phase = paper, phase
        self._period = TICKER_LINEAR if paper.linear else TICKER_SPOT
        self._row: dict[str, str] = {}
        self._index, self._indexed, self._sequence = "", 0, 0

    def join(self, now: int, skew: int, *, first: bool) -> list[bytes]:
        if first or not self._row:
            self._row, self._sequence = self._figures(now), self._paper.truth.sequence
        return [self._write("snapshot", self._row, now + skew)] if self._row else []

    def moved(self, it: Happening) -> bool:
        if it.matches and it.changes:
            self._sequence = it.changes[-1].sequence
        return bool(it.matches) or self._paper.linear

    def next(self, now: int, *, moved: bool) -> int | None:
        period = self._period if moved else SECOND
        return now - (now - self._phase) % period + period

    def beat(self, now: int, skew: int) -> list[bytes]:
        row = self._figures(now)
        changed = {name: value for name, value in row.items() if self._row.get(name) != value}
        if not changed:
            return []
        kind = "delta" if self._paper.linear and self._row else "snapshot"
        self._row = row
        told = row if kind == "snapshot" else {"symbol": self._paper.symbol} | changed
        return [self._write(kind, told, now + skew)]

    def _figures(self, now: int) -> dict[str, str]:
        if (second := (now - self._phase) // SECOND) != self._indexed:
            self._index, self._indexed = frames.index_price(self._paper), second
        return frames.day_row(self._paper, now, self._index)

    def _write(self, kind: str, row: Mapping[str, str], sent: int) -> bytes:
        return frames.ticker(self._paper, kind, row, self._sequence, sent)


class Candles:
    """Once a second if anything was traded, once a minute in any case; after its end each one as closed."""

    channel = "candles"

    def __init__(self, paper: Paper, bar: str, phase: int) -> None:
        self.topic = f"kline.{bar}.{paper.symbol}"
        self._paper, self._bar, self._interval, self._phase = paper, bar, BARS[bar], phase
        self._running = self._told = self._sent = 0  # its beginning; the last match in it; when
        self._last = b""

    def join(self, now: int, skew: int, *, first: bool) -> list[bytes]:
        """What was said last."""
        if first:
            self._last = b""
            self._running = self._interval.floor(now)
            self._say([self._running], now, skew, closed=False)
        return [self._last] if self._last else []

    def moved(self, it: Happening) -> bool:
        return False

    def next(self, now: int, *, moved: bool) -> int | None:
        return now - (now - self._phase) % SECOND + SECOND

    def beat(self, now: int, skew: int) -> list[bytes]:
        running, begun, interval = self._interval.floor(now), self._running, self._interval
        self._running = running
        if begun < running:
            closed = self._say(interval.starts(begun, running - 1), now, skew, closed=True)
            return closed + self._say([running], now, skew, closed=False)
        last = self._paper.truth.last_matches(1)
        if last and (last[0].id != self._told or now - self._sent >= MINUTE):
            return self._say([running], now, skew, closed=False)
        return []

    def _say(self, starts: Iterable[int], now: int, skew: int, *, closed: bool) -> list[bytes]:
        said = [
            frames.candle(self._paper, self._bar, self._interval, it, closed, now + skew)
            for it in candles(self._paper.truth, self._interval, list(starts))
        ]
        last = self._paper.truth.last_matches(1)
        self._told, self._sent = last[0].id if last else 0, now
        self._last = said[-1] if said else self._last
        return said


class Stream(Struct):
    """A topic and all who hear it."""

    feed: Feed
    symbol: str
    """As listed."""
    listeners: dict[int, None] = field(default_factory=dict)
    due: int = 0
    """When it will speak; 0: not known."""

    def to_all(self, said: Iterable[bytes]) -> list[Action]:
        symbol, channel = self.symbol, self.feed.channel
        return [Frame(it, data, symbol, channel) for data in said for it in self.listeners]


class Desk:
    """All topics of one instrument; each is made when it is first asked for, and stays."""

    def __init__(self, truth: Truth, seed: int) -> None:
        self.paper = Paper(truth)
        self._seed = seed
        self.streams: dict[str, Stream] = {}
        """By topic."""
        self.depth = self._depth(1_000)
        """Of which REST speaks too (section 5.5)."""

    def stream(self, kind: str, option: str) -> Stream | None:
        """None: there is no such topic."""
        topic = f"{kind}.{option}.{self.paper.symbol}" if option else f"{kind}.{self.paper.symbol}"
        if topic not in self.streams:
            feed = self._feed(kind, option)
            if feed is None:
                return None
            self.streams[topic] = Stream(feed, self.paper.listing.symbol)
        return self.streams[topic]

    def _feed(self, kind: str, option: str) -> Feed | None:
        match kind, option:
            case "publicTrade", "":
                return Trades(self.paper)
            case "tickers", "":
                return Tickers(self.paper, self._phase("ticker"))
            case "kline", _ if option in BARS:
                return Candles(self.paper, option, self._phase("kline"))
            case "orderbook", "1000":
                return self.depth
            case "orderbook", "1" | "50" | "200":
                return self._depth(int(option))
            case _:
                return None

    def _depth(self, levels: int) -> Depth:
        return Depth(self.paper, levels, self._phase(f"book {levels}") % PERIODS[levels])

    def _phase(self, name: str) -> int:
        """Beats come at no round time (recordings), and not all at once."""
        dice = Random(f"{self._seed} {self.paper.listing.symbol} {name}")  # noqa: S311 - chance, no secret
        return dice.randrange(1_000) * MILLISECOND
