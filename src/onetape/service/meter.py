"""Counts and times what goes by, by venue and channel."""
from collections import Counter, deque

from onetape.clock import SECOND
from onetape.model import (
    BookAudited,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Event,
    FeedError,
    FeedStatus,
    GapClosed,
    GapOpened,
    Quote,
    Source,
    Ticker,
    Trade,
    TrustState,
)
from onetape.telemetry import Distribution


_BOOK, _QUOTES, _LIVE = Channel.BOOK, Channel.QUOTES, Source.LIVE  # see BUY in model/events.py
SAMPLES = 10  # of a venue's clock


class Flow:
    """Of one channel of one venue."""

    __slots__ = ("events", "last", "latency")

    def __init__(self) -> None:
        self.events = 0
        self.last = 0
        """When the last one was received, ns."""
        self.latency = Distribution()
        """From exchange to us, by the venue's clock as far as its offset is known."""


class Meter:
    """Sees every event once; ``offsets`` are the venues' clocks less ours, ns."""

    def __init__(self) -> None:
        self.flows: dict[tuple[str, Channel], Flow] = {}
        self.offsets: dict[str, int] = {}
        self.round_trips: dict[str, int] = {}
        """Of the last REST answer that told the time, ns."""
        self._samples: dict[str, deque[tuple[int, int]]] = {}
        self.counters: Counter[tuple[str, str]] = Counter()
        """By venue and what it was."""
        self.last_trades: dict[tuple[str, str], Trade] = {}
        self.audits: dict[tuple[str, str], BookAudited] = {}
        """By venue and symbol, the last one."""

    def measured(self, venue: str, theirs: int, sent_at: int, received_at: int) -> None:
        """A venue said its time. Of a clock that counts whole seconds nothing can be learnt."""
        if theirs % SECOND == 0:
            return
        round_trip = received_at - sent_at
        samples = self._samples.setdefault(venue, deque(maxlen=SAMPLES))
        samples.append((round_trip, theirs - (sent_at + received_at) // 2))
        self.offsets[venue] = min(samples)[1]  # the shortest way there and back says it best
        self.round_trips[venue] = round_trip

    def add(self, it: Event) -> None:
        if type(it) is BookDelta:  # nearly all are one of three; each class pattern that does not match costs 80 ns
            self._flow(it.venue, _BOOK, it.exchange_time, it.received_time)
        elif type(it) is Trade:
            live = it.source is _LIVE
            self._flow(it.venue, it.channel, it.exchange_time if live else None, it.received_time)
            self.last_trades[it.venue, it.symbol] = it
        elif type(it) is Quote:
            self._flow(it.venue, _QUOTES, it.exchange_time, it.received_time)
        else:
            self._add_rarer(it)

    def _add_rarer(self, it: Event) -> None:
        match it:
            case BookSnapshot():  # of REST, or old when it comes: its age is no latency
                self._flow(it.venue, Channel.BOOK, None, it.received_time)
            case Ticker():
                self._flow(it.venue, Channel.TICKER, None, it.received_time)
            case Candle():
                self._flow(it.venue, Channel.CANDLES, None, it.received_time)
            case FeedStatus(state=TrustState.STALE | TrustState.CROSSED):
                self.counters[it.venue, f"{it.channel} {it.state}"] += 1
            case BookAudited():
                self.counters[it.venue, "books audited"] += 1
                self.counters[it.venue, "books found wrong"] += it.wrong
                self.audits[it.venue, it.symbol] = it
            case GapOpened():
                self.counters[it.venue, "gaps opened"] += 1
            case GapClosed():
                self.counters[it.venue, "gaps healed" if it.healed else "gaps unhealable"] += 1
                self.counters[it.venue, "trades recovered"] += it.recovered
            case FeedError():
                self.counters[it.venue, "quarantined" if it.quarantined else "refused"] += 1
            case _:
                pass

    def _flow(self, venue: str, channel: Channel, exchange_time: int | None, received: int) -> None:
        flow = self.flows.get((venue, channel))
        if flow is None:
            flow = self.flows[venue, channel] = Flow()
        flow.events += 1
        flow.last = received
        if exchange_time is not None:
            flow.latency.add(received + self.offsets.get(venue, 0) - exchange_time)
