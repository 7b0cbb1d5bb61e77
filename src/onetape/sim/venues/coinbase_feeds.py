"""What each channel of the simulated Advanced Trade says of one product, and when (sections 4 to 7.1)."""
from collections.abc import Callable, Mapping

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.sim.venues import coinbase_frames as frames
from onetape.sim.venues.coinbase_paper import Paper, conflated, newest_candles
from onetape.sim.venues.coinbase_sockets import Feed, Said

BUCKET = 5 * MINUTE  # the only candles of the channel
SNAPSHOT_TRADES = SNAPSHOT_CANDLES = 100  # not documented; as captured


class Books:
    """All levels, then every 50 ms (as captured) those that changed. A frame is the book at its own time."""

    period, restless, topic = 50 * MILLISECOND, False, "book"

    def __init__(self, paper: Paper) -> None:
        self._paper, self._told = paper, 0

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        paper, truth = self._paper, self._paper.truth
        if first:
            self._told = truth.sequence
        changed = truth.time + skew
        rows = frames.level_rows(paper, True, truth.bids(), changed)
        rows += frames.level_rows(paper, False, truth.asks(), changed)
        return [frames.book(paper, "snapshot", rows, now + skew)]

    def tell(self, now: int, skew: int) -> list[Said]:
        paper, changes = self._paper, self._paper.truth.changes_since(self._told)
        if not changes:
            return []
        self._told = changes[-1].sequence
        changed = changes[-1].time + skew
        levels = conflated(changes).items()
        rows = [row for bid in (True, False) for row in frames.level_rows(
            paper, bid, ((price, size) for (of_bid, price), size in levels if of_bid is bid), changed,
        )]
        return [frames.book(paper, "update", rows, now + skew)]


class Trades:
    """The last hundred, then four times a second all new ones; the newest first, both times (as captured)."""

    period, restless, topic = 250 * MILLISECOND, False, "trades"

    def __init__(self, paper: Paper) -> None:
        self._paper, self._told = paper, 0

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        matches = self._paper.truth.last_matches(SNAPSHOT_TRADES)
        if first and matches:
            self._told = matches[-1].id
        return [frames.trades(self._paper, "snapshot", matches, now + skew, skew)]

    def tell(self, now: int, skew: int) -> list[Said]:
        truth = self._paper.truth
        matches = truth.matches_from(self._told + 1, len(truth.matches))
        if not matches:
            return []
        self._told = matches[-1].id
        return [frames.trades(self._paper, "update", matches, now + skew, skew)]


class Candles:
    """Those of five minutes, oldest first, then once a second those that were traded in. None is told to be closed."""

    period, restless, topic = SECOND, False, "candles"

    def __init__(self, paper: Paper) -> None:
        self._paper, self._told = paper, 0

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        klines = newest_candles(self._paper, BUCKET, now, SNAPSHOT_CANDLES)
        if first and klines:
            self._told = klines[-1].last_id
        return [frames.candles(self._paper, "snapshot", klines, now + skew)]

    def tell(self, now: int, skew: int) -> list[Said]:
        truth = self._paper.truth
        fresh = truth.matches_from(self._told + 1, 1)
        if not fresh:
            return []
        klines = truth.candles(BUCKET, fresh[0].time - fresh[0].time % BUCKET, now + 1)
        self._told = klines[-1].last_id
        return [frames.candles(self._paper, "update", klines, now + skew)]


class Tickers:
    """When a figure changed: four times a second (as captured), or every 5 s and then without best prices."""

    restless = False

    def __init__(self, paper: Paper, *, batch: bool) -> None:
        self.topic = "ticker"
        self.period = 5 * SECOND if batch else 250 * MILLISECOND
        self._paper, self._batch, self._row = paper, batch, ""
        self._channel = "ticker_batch" if batch else "ticker"

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        row = self._figures(now)
        if first:
            self._row = row
        return [frames.tickers(self._channel, "snapshot", row, now + skew)] if row else []

    def tell(self, now: int, skew: int) -> list[Said]:
        row = self._figures(now)
        if row in ("", self._row):
            return []
        self._row = row
        return [frames.tickers(self._channel, "update", row, now + skew)]

    def _figures(self, now: int) -> str:
        day = self._paper.truth.day(now)
        return frames.ticker_row(self._paper, day, best=not self._batch) if day else ""


class Status:
    """Once; again only if it changed, which it does not here: what is not listed any more is not spoken of."""

    period, restless, topic = 0, False, ""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        return [frames.statuses("snapshot", [self._paper], now + skew)]

    def tell(self, now: int, skew: int) -> list[Said]:
        return []


class Heartbeats:
    """Of the connection, once a second; counted since the process began, which was long ago."""

    period, restless, topic = SECOND, True, ""

    def __init__(self, began: int) -> None:
        self._began = began

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        return []

    def tell(self, now: int, skew: int) -> list[Said]:
        return [frames.heartbeat(now - self._began, now + skew)]


MAKERS: Mapping[str, Callable[[Paper], Feed]] = {
    "level2": Books, "market_trades": Trades, "candles": Candles, "status": Status,
    "ticker": lambda paper: Tickers(paper, batch=False), "ticker_batch": lambda paper: Tickers(paper, batch=True),
}
"""By channel; heartbeats are of no product."""
