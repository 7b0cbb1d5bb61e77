"""What the simulated Kraken says about one instrument, on every channel; who hears it is looked up, not asked here."""
from collections.abc import Iterator, Sequence

from msgspec import Struct, structs

from onetape.clock import MICROSECOND, MINUTE, SECOND
from onetape.sim.base import Happening, Match
from onetape.sim.faults import FaultKind, Faults
from onetape.sim.klines import Kline
from onetape.sim.truth import Truth
from onetape.sim.venues import kraken_frames as frames
from onetape.sim.venues.kraken_ladder import Ladder

VENUE = "kraken"
SNAPSHOT_TRADES = 50
SNAPSHOT_CANDLES = 12  # undocumented; a captured snapshot spanned twelve minutes
TOPICS = {"book": "book", "trade": "trades", "ticker": "ticker", "ohlc": "candles"}  # the simulator's own words

Option = str | int
"""Of a channel: depth, interval in minutes, event trigger; empty for trades."""

class Said(Struct, frozen=True, gc=False):
    """One frame, for all who hear this channel with this option."""

    channel: str
    option: Option
    data: bytes


class Channels:
    """Of one instrument. Only what somebody hears is kept and built, and each frame is built once."""

    def __init__(self, truth: Truth, faults: Faults) -> None:
        self.truth = truth
        self.depths: list[int] = []
        self.minutes: dict[int, Kline | None] = {}
        """The running candle of each interval that somebody hears."""
        self.triggers: list[str] = []
        self.trades = False
        self._faults = faults
        self._faulty = bool(faults.of(FaultKind.SKIP_SEQUENCE) or faults.of(FaultKind.CHECKSUM))
        self._ladder: Ladder | None = None

    def begin(self, channel: str, option: Option) -> None:
        """Somebody hears this from now on, the first."""
        match channel, option:
            case "book", int():
                self.depths.append(option)
            case "ticker", str():
                self.triggers.append(option)
            case "ohlc", int():
                self.minutes[option] = self._running(option)
            case "trade", _:
                self.trades = True
        self._keep_ladder()

    def end(self, channel: str, option: Option) -> None:
        """Nobody does any more."""
        match channel, option:
            case "book", int():
                self.depths.remove(option)
            case "ticker", str():
                self.triggers.remove(option)
            case "ohlc", int():
                del self.minutes[option]
            case "trade", _:
                self.trades = False
        self._keep_ladder()

    @property
    def heard(self) -> bool:
        """By anybody at all."""
        return bool(self.trades or self.depths or self.minutes or self.triggers)

    def _keep_ladder(self) -> None:
        if not (self.depths or self.triggers):
            self._ladder = None
        elif self._ladder is None:
            self._ladder = Ladder(self.truth)

    # --- what a new subscriber hears first ----------------------------------------------------------------------------

    def snapshot(self, channel: str, option: Option, now: int, skew: int) -> bytes | None:
        match channel, option:
            case "book", int():
                return self._book_snapshot(option, now, skew)
            case "ticker", _:
                return self._ticker("snapshot", now, frames.micros(now + skew))
            case "ohlc", int():
                return self._candle_snapshot(option, now, skew)
            case _:
                matches = self.truth.last_matches(SNAPSHOT_TRADES)
                rows = [frames.trade_row(self.truth, it, frames.micros(it.time + skew)) for it in matches]
                return frames.trades("snapshot", rows)

    def _book_snapshot(self, depth: int, now: int, skew: int) -> bytes:
        ladder = self._ladder or Ladder(self.truth)
        bids, asks = ladder.snapshot(depth)
        stamp = frames.micros(self.truth.time + skew)
        fault = self._faults.active(FaultKind.STALE_SNAPSHOT, VENUE, now, self.truth.listing.symbol, "book")
        if fault is not None and self._faults.hits(fault):
            old = self.truth.book_at_time(now - int(fault.seconds * SECOND))
            if old is not None:  # today's checksum over yesterday's levels
                bids = ",".join(frames.level(self.truth, *it) for it in old.bids[:depth])
                asks = ",".join(frames.level(self.truth, *it) for it in old.asks[:depth])
                stamp = frames.micros(old.time + skew)
        return frames.book("snapshot", self.truth.listing.symbol, bids, asks, ladder.checksum(), stamp)

    def _candle_snapshot(self, minutes: int, now: int, skew: int) -> bytes | None:
        """Oldest first; intervals without a trade are absent (section 5.3)."""
        interval = minutes * MINUTE
        start = now // interval * interval
        candles = self.truth.candles(interval, start - (SNAPSHOT_CANDLES - 1) * interval, start + interval)
        rows = [frames.candle_row(self.truth, it, minutes) for it in candles]
        return frames.candles("snapshot", rows, _stamp(now + skew)) if rows else None

    # --- what all hear when the market moves --------------------------------------------------------------------------

    def happen(self, it: Happening, now: int, skew: int) -> Iterator[Said]:
        if not it.matches and self._ladder is None:
            return
        stamp = frames.micros(it.time + skew)
        before = self._best() if self.triggers else None
        if it.matches and self.trades:
            rows = [frames.trade_row(self.truth, match, stamp) for match in it.matches]
            yield Said("trade", "", frames.trades("update", rows))
        if self._ladder is not None:
            yield from self._book(self._ladder, it, now, stamp)
            if self.triggers:
                yield from self._tickers(self._best() != before, bool(it.matches), it.time, stamp)
        if it.matches and self.minutes:
            yield from self._candles(it.matches, _stamp(it.time + skew))

    def _book(self, ladder: Ladder, it: Happening, now: int, stamp: str) -> Iterator[Said]:
        told = ladder.move(it.changes, self.depths)
        symbol = it.listing.symbol
        for depth, (bids, asks) in zip(self.depths, told, strict=False):
            if not (bids or asks) or (self._faulty and self._struck(FaultKind.SKIP_SEQUENCE, now, symbol)):
                continue
            checksum = ladder.checksum()
            if self._faulty and self._struck(FaultKind.CHECKSUM, now, symbol):
                checksum ^= 1
            yield Said("book", depth, frames.book("update", symbol, bids, asks, checksum, stamp))

    def _struck(self, kind: FaultKind, now: int, symbol: str) -> bool:
        fault = self._faults.active(kind, VENUE, now, symbol, "book")
        return fault is not None and self._faults.hits(fault)

    def _tickers(self, moved: bool, traded: bool, time: int, stamp: str) -> Iterator[Said]:
        """With ``bbo`` the best PRICES count; sizes alone move nothing (section 5.2)."""
        due = [it for it in self.triggers if (moved if it == "bbo" else traded)]
        data = self._ticker("update", time, stamp) if due else None
        if data is not None:
            yield from (Said("ticker", trigger, data) for trigger in due)

    def _ticker(self, kind: str, now: int, stamp: str) -> bytes | None:
        day = self.truth.day(now)
        if day is None or self._ladder is None:
            return None
        return frames.ticker(kind, self.truth, *self._ladder.top(), day, stamp)

    def _best(self) -> tuple[int, int]:
        """Prices alone."""
        if self._ladder is None:
            return 0, 0
        bid, ask = self._ladder.top()
        return bid[0], ask[0]

    def _candles(self, matches: Sequence[Match], stamp: str) -> Iterator[Said]:
        """The current interval only, and never a word without a trade (section 5.3)."""
        for minutes, running in self.minutes.items():
            known = running.last_id if running is not None else -1
            fresh = [it for it in matches if it.id > known]
            candle = running
            for match in fresh:
                candle = _grown(candle, match, minutes * MINUTE)
            if candle is not None and fresh:
                self.minutes[minutes] = candle
                row = frames.candle_row(self.truth, candle, minutes)
                yield Said("ohlc", minutes, frames.candles("update", [row], stamp))

    def _running(self, minutes: int) -> Kline | None:
        interval = minutes * MINUTE
        start = self.truth.time // interval * interval
        candles = self.truth.candles(interval, start, start + interval)
        return structs.replace(candles[0]) if candles else None


def _grown(running: Kline | None, it: Match, interval: int) -> Kline:
    """With one more trade: the same candle, or another if that begins one."""
    start = it.time // interval * interval
    if running is None or start > running.start:
        running = Kline(start, it.price, it.price, it.price, it.price, 0, 0, 0, 0, 0, it.id, it.id)
    running.add(it)
    return running


def _stamp(time: int) -> str:
    """Of an ``ohlc`` frame: with nanoseconds if there are any (both captured)."""
    return frames.nanos(time) if time % MICROSECOND else frames.micros(time)
