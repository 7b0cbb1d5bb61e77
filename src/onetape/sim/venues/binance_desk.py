"""The streams of one instrument of the simulated Binance: who hears what, and when it is said (section 5)."""
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import gcd

from msgspec import Struct, field

from onetape.sim.base import Action, Change, Frame, Happening, Match
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.truth import Level
from onetape.sim.venues import binance_frames as frames
from onetape.sim.venues.binance_aggregates import Aggregates
from onetape.sim.venues.binance_intervals import INTERVALS, candles
from onetape.sim.venues.binance_streams import CHANNELS, Kind, Manner, Stream

class Audience(Struct):
    """Everybody who hears one stream, and how far it has been told."""

    stream: Stream
    symbol: str
    channel: str
    listeners: dict[Manner, list[int]] = field(default_factory=dict)
    told: int = 0
    """Of depth: the last sequence. Of klines: the beginning of the running one."""
    match: int = 0
    """The last one, where nothing is told while there is no other."""
    best: tuple[Level, Level] | None = None

    def publish(self, write: Callable[[int], str]) -> list[Action]:
        """Written once for each manner, however many listen."""
        out: list[Action] = []
        symbol, channel = self.symbol, self.channel
        for (combined, unit), connections in self.listeners.items():
            text = write(unit)
            data = (f'{{"stream":"{self.stream.name}","data":{text}}}' if combined else text).encode()
            out += [Frame(it, data, symbol, channel) for it in connections]
        return out


class Desk:
    """Tells what the truth says, to those who listen; it remembers nothing but how far it has told it."""

    def __init__(
        self, venue: str, paper: frames.Paper, aggregates: Aggregates, faults: Faults, phase: int,
    ) -> None:
        self.paper, self.aggregates = paper, aggregates
        self._venue, self._truth, self._faults, self._phase = venue, paper.truth, faults, phase
        self._audiences: dict[str, Audience] = {}
        self._may_skip = bool(faults.of(FaultKind.SKIP_SEQUENCE))
        name = self.paper.symbol.lower()
        self._trade, self._aggregate, self._quote = (f"{name}@{it}" for it in (Kind.TRADE, Kind.AGGREGATE, Kind.BEST))

    # --- who listens ------------------------------------------------------------------------------------------------

    def listen(self, stream: Stream, manner: Manner, connection: int, now: int) -> None:
        if stream.kind is Kind.MUTE:
            return
        if stream.name not in self._audiences:
            self._audiences[stream.name] = self._begin(stream, now)
        self._audiences[stream.name].listeners.setdefault(manner, []).append(connection)

    def rewrite(self, stream: Stream, before: Manner, after: Manner, connection: int, now: int) -> None:
        """The connection goes on listening where it was, in another manner."""
        self.listen(stream, after, connection, now)
        self.leave(stream, before, connection)

    def leave(self, stream: Stream, manner: Manner, connection: int) -> None:
        audience = self._audiences.get(stream.name)
        if audience is None or connection not in audience.listeners.get(manner, ()):
            return
        audience.listeners[manner].remove(connection)
        if not audience.listeners[manner]:
            del audience.listeners[manner]
        if not audience.listeners:
            del self._audiences[stream.name]

    def period(self) -> int:
        """In which all streams fit that are told by the clock; 0 if there is none."""
        return gcd(*(it.stream.period for it in self._audiences.values()))

    def _begin(self, stream: Stream, now: int) -> Audience:
        audience = Audience(stream, self.paper.symbol, CHANNELS[stream.kind])
        if stream.kind in (Kind.DIFF, Kind.PARTIAL):
            audience.told = self._truth.sequence
        elif stream.kind is Kind.KLINE:
            audience.told = INTERVALS[stream.interval].floor(now)
        elif stream.kind is Kind.BEST:
            audience.best = self.paper.best()
        return audience

    # --- what is told at once ---------------------------------------------------------------------------------------

    def happen(self, it: Happening, now: int, skew: int) -> list[Action]:
        if it.matches:
            self.aggregates.add(it.matches)
        if not self._audiences:
            return []
        out = self._executed(it.matches, now, skew) if it.matches else []
        if it.changes and (quotes := self._audiences.get(self._quote)):
            best = self.paper.best()
            if best != quotes.best:
                quotes.best = best
                out += self._best(quotes, *best, now, skew)
        return out

    def _executed(self, matches: Sequence[Match], now: int, skew: int) -> list[Action]:
        event = now + skew
        out: list[Action] = []
        if trades := self._audiences.get(self._trade):
            for match in matches:
                if not self._skips(trades, now):
                    out += trades.publish(partial(frames.trade, self.paper, match, event, skew))
        if aggregates := self._audiences.get(self._aggregate):
            for one in self.aggregates.of(matches):
                if not self._skips(aggregates, now):
                    out += aggregates.publish(partial(frames.aggregate, self.paper, one, event, skew))
        return out

    def _best(self, quotes: Audience, bid: Level, ask: Level, _now: int, _skew: int) -> list[Action]:
        """Always of the sequence that it names, even if the truth is ahead of what is being told."""
        return quotes.publish(partial(frames.best, self.paper, self._truth.sequence, bid, ask))

    # --- what is told by the clock ----------------------------------------------------------------------------------

    def beat(self, time: int, skew: int) -> list[Action]:
        """One moment of the venue's clock, on which any of the periods may end."""
        out: list[Action] = []
        for it in self._audiences.values():
            if it.stream.period and (time - self._phase) % it.stream.period == 0:
                out += self._due(it, time, time + skew)
        return out

    def _due(self, it: Audience, time: int, event: int) -> list[Action]:
        match it.stream.kind:
            case Kind.DIFF:
                return self._diff(it, time, event)
            case Kind.PARTIAL:
                n = it.stream.levels
                bids, asks = self._truth.bids(n), self._truth.asks(n)
                return it.publish(partial(frames.book, self.paper, self._truth.sequence, bids, asks))
            case Kind.KLINE:
                return self._klines(it, time, event)
            case _:
                return it.publish(partial(frames.ticker, self.paper, self._truth.day(time), event))

    def _diff(self, it: Audience, time: int, event: int) -> list[Action]:
        """All that changed in the interval, of each level the last; nothing if nothing did (section 5.7)."""
        changes = self._untold(it, time)
        if not changes or self._skips(it, time):
            return []
        bids, asks = levels(changes)
        return it.publish(partial(frames.diff, self.paper, changes[0].sequence, it.told, bids, asks, event))

    def _untold(self, it: Audience, time: int) -> list[Change]:
        """What has changed since it was told; from now on it has been."""
        changes = self._truth.changes_since(it.told)
        if changes and changes[-1].time > time:
            changes = changes[:bisect_right(changes, time, key=_time)]
        if changes:
            it.told = changes[-1].sequence
        return changes

    def _klines(self, it: Audience, time: int, event: int) -> list[Action]:
        """The running one, or those that have ended since it was told."""
        interval = INTERVALS[it.stream.interval]
        begun, running = it.told, interval.floor(time)
        it.told = running
        closed = begun < running
        starts = interval.starts(begun, running - 1) if closed else [running]
        out: list[Action] = []
        for one in candles(self._truth, interval, starts):
            out += it.publish(partial(frames.kline, self.paper, interval, one, closed, event))
        return out

    def _skips(self, it: Audience, now: int) -> bool:
        if not self._may_skip:
            return False
        fault = self._faults.active(FaultKind.SKIP_SEQUENCE, self._venue, now, it.symbol, it.channel)
        return fault is not None and self._faults.hits(fault)


def levels(changes: Iterable[Change]) -> tuple[list[Level], list[Level]]:
    """Bids and asks, the best first."""
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    for it in changes:
        (bids if it.bid else asks)[it.price] = it.size
    return sorted(bids.items(), reverse=True), sorted(asks.items())


def next_beat(after: int, period: int, phase: int) -> int:
    """The venue's clock beats at the same moments for all: every ``period``, ``phase`` after the round time."""
    return after - (after - phase) % period + period


def _time(it: Change) -> int:
    return it.time
