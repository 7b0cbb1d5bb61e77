"""The streams of one instrument of the simulated USD-M: who hears what, and when it is said (section 6)."""
from collections.abc import Sequence
from functools import partial

from onetape.sim.base import Action, Change, Match
from onetape.sim.truth import Level
from onetape.sim.venues import usdm_frames as frames
from onetape.sim.venues.binance_desk import Audience, Desk, levels
from onetape.sim.venues.binance_intervals import INTERVALS
from onetape.sim.venues.binance_streams import Kind
from onetape.sim.venues.usdm_tape import BATCH, is_followed

_ALL = 1 << 62


class UsdmDesk(Desk):
    """Aggregates are told by the clock, klines only when something was executed, depth as a chain of events."""

    def _executed(self, matches: Sequence[Match], now: int, skew: int) -> list[Action]:
        trades = self._audiences.get(self._trade)
        if trades is None:
            return []
        out: list[Action] = []
        for it in matches:
            if not self._skips(trades, now):
                out += trades.publish(partial(frames.trade, self.paper, it, now + skew, skew))
            if is_followed(it.id) and not self._skips(trades, now):
                out += trades.publish(partial(frames.off_book, self.paper, it, now + skew, skew))
        return out

    def _best(self, quotes: Audience, bid: Level, ask: Level, now: int, skew: int) -> list[Action]:
        event, time = now + skew, self._truth.time + skew
        return quotes.publish(partial(frames.best, self.paper, self._truth.sequence, bid, ask, event, time))

    def _due(self, it: Audience, time: int, event: int) -> list[Action]:
        match it.stream.kind:
            case Kind.AGGREGATE:
                return self._batch(it, time, event)
            case Kind.DIFF | Kind.PARTIAL:
                return self._depth(it, time, event)
            case Kind.KLINE:
                return self._klines(it, time, event) if self._has_moved(it, time) else []
            case _:
                return it.publish(partial(frames.ticker, self.paper, self._truth.day(time), event))

    def _batch(self, it: Audience, time: int, event: int) -> list[Action]:
        """All of the last 100 ms (section 6.1)."""
        matches = [one for one in self._truth.matches_after(time - BATCH + 1, _ALL) if one.time <= time]
        if not matches:
            return []
        self.aggregates.catch_up()
        out: list[Action] = []
        for one in self.aggregates.of(matches):
            if not self._skips(it, time):
                out += it.publish(partial(frames.aggregate, self.paper, one, event, event - time))
        return out

    def _depth(self, it: Audience, time: int, event: int) -> list[Action]:
        """What changed, or as many levels as are wanted; nothing if nothing did. ``pu`` is the last ``u`` (6.6)."""
        before = it.told
        changes = self._untold(it, time)
        if not changes or self._skips(it, time):
            return []
        ids = _first_id(changes), it.told, before
        n = it.stream.levels
        bids, asks = (self._truth.bids(n), self._truth.asks(n)) if n else levels(changes)
        executed = changes[-1].time + event - time
        return it.publish(partial(frames.depth, self.paper, ids, bids, asks, event, executed))

    def _has_moved(self, it: Audience, time: int) -> bool:
        """Whether the candle has, or its interval is over: the real ones are not repeated (recordings)."""
        last = self._truth.matches[-1].id if self._truth.matches else 0
        before, it.match = it.match, last
        return before != last or INTERVALS[it.stream.interval].floor(time) != it.told


def _first_id(changes: Sequence[Change]) -> int:
    """The last one of the first order: hence ``U`` is often more than the last ``u`` + 1, as the real one always is,
    and yet no snapshot falls between them.
    """
    time = changes[0].time
    return max(it.sequence for it in changes if it.time == time)
