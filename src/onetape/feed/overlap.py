"""Whether two connections that followed one another had every trade between them, where no id can tell."""
from collections.abc import Iterable

from onetape.clock import MILLISECOND, SECOND
from onetape.model import Trade

MARGIN_NS = 250 * MILLISECOND
"""The older one has to have brought so much of what came after the newer one was subscribed."""
HABIT = 50
LEAST_SILENCE_NS, FAR_BEYOND = SECOND, 5
"""Of a connection that has brought ``HABIT`` events: nothing for so long, and so many times longer than ever."""
LEAST_OF_TRADES_NS, FAR_BEYOND_OF_TRADES = 3 * SECOND, 3
"""Of the trades of one instrument likewise."""


class _Habit:
    """How long something keeps silent."""

    __slots__ = ("_beyond", "_events", "_heard_at", "_least_ns", "_longest")

    def __init__(self, least_ns: int, beyond: int) -> None:
        self._least_ns, self._beyond = least_ns, beyond
        self._events = self._heard_at = self._longest = 0

    def silence(self, now: int) -> int:
        """That which ends now, ns, if it was far longer than any before; else 0."""
        silence, self._heard_at = now - self._heard_at, now
        self._events += 1
        if self._events == 1:
            return 0
        unlike = self._events > HABIT and silence >= max(self._least_ns, self._beyond * self._longest)
        self._longest = max(self._longest, silence)
        return silence if unlike else 0


class Overlap:
    """What one connection says about its tapes. Times are the venue's own: a connection may lag behind as a whole."""

    def __init__(self) -> None:
        self.newest = 0
        """Exchange time of the newest event: TCP keeps the order, so all from before has come."""
        self.last: dict[str, Trade] = {}
        """By symbol."""
        self._first: dict[str, Trade] = {}
        self._since: dict[str, int] = {}  # by symbol: the venue's time when the subscription stood
        self._confirmed: set[str] = set()  # symbols whose time is that of the next event
        self._habit = _Habit(LEAST_SILENCE_NS, FAR_BEYOND)
        self._trading: dict[str, _Habit] = {}

    def acked(self, symbols: Iterable[str]) -> None:
        self._confirmed.update(it for it in symbols if it not in self._since)

    def event(self, exchange_time: int, now: int) -> int:
        """Of any kind. Gives the silence before it, ns, if it was far longer than any before; else 0."""
        self.newest = max(self.newest, exchange_time)
        if self._confirmed:
            self._since.update(dict.fromkeys(self._confirmed, self.newest))
            self._confirmed.clear()
        return self._habit.silence(now)

    def trade(self, it: Trade, now: int) -> int:
        """Gives the silence of the instrument's trades before it, as ``event`` does."""
        if it.symbol not in self._first:
            self._first[it.symbol] = it
            self._trading[it.symbol] = _Habit(LEAST_OF_TRADES_NS, FAR_BEYOND_OF_TRADES)
        last = self.last.get(it.symbol)
        self.last[it.symbol] = it
        if last is not None and last.exchange_time == it.exchange_time:  # of one order: no silence lies between them
            return 0
        return self._trading[it.symbol].silence(now)

    def begun(self, symbol: str) -> bool:
        """A trade of it has come."""
        return symbol in self._first

    def proven(self, before: "Overlap", symbol: str) -> bool:
        """The connection before went on until well after this one was subscribed."""
        since = self._since.get(symbol)
        return since is not None and before.newest >= since + MARGIN_NS

    def hole(self, before: "Overlap", symbol: str) -> tuple[Trade, Trade] | None:
        """The last trade there and the first one here, if any may be missing between them."""
        first, last = self._first.get(symbol), before.last.get(symbol)
        if first is None or last is None or first.exchange_time < last.exchange_time or self.proven(before, symbol):
            return None
        return last, first
