"""Whether two connections that followed one another had every trade between them, where no id can tell."""
from collections.abc import Iterable

from onetape.clock import MILLISECOND, SECOND
from onetape.model import Trade

MARGIN_NS = 250 * MILLISECOND
"""The older one has to have brought so much of what came after the newer one was subscribed."""
LEAST_SILENCE_NS, HABIT, FAR_BEYOND = SECOND, 50, 5
"""A connection that has brought so many events and then nothing for so long, and so many times longer than ever."""


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
        self._events = self._heard_at = self._longest = 0

    def acked(self, symbols: Iterable[str]) -> None:
        self._confirmed.update(it for it in symbols if it not in self._since)

    def event(self, exchange_time: int, now: int) -> int:
        """Of any kind. Gives the silence before it, ns, if it was far longer than any before; else 0."""
        self.newest = max(self.newest, exchange_time)
        if self._confirmed:
            self._since.update(dict.fromkeys(self._confirmed, self.newest))
            self._confirmed.clear()
        silence, self._heard_at = now - self._heard_at, now
        self._events += 1
        if self._events <= 1:
            return 0
        unlike = self._events > HABIT and silence >= max(LEAST_SILENCE_NS, FAR_BEYOND * self._longest)
        self._longest = max(self._longest, silence)
        return silence if unlike else 0

    def trade(self, it: Trade) -> None:
        if it.symbol not in self._first:
            self._first[it.symbol] = it
        self.last[it.symbol] = it

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
