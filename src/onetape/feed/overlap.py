"""Whether two connections that followed one another had every trade between them, where no id can tell."""
from collections.abc import Iterable

from onetape.clock import MILLISECOND
from onetape.model import Trade

MARGIN_NS = 250 * MILLISECOND
"""The older one has to have been heard for so long after the newer one was subscribed."""


class Overlap:
    """What one connection says about its tapes. TCP keeps the order: a frame comes after all trades before it."""

    def __init__(self) -> None:
        self.heard_at = 0
        """When any frame last came."""
        self._since: dict[str, int] = {}  # when the venue confirmed the subscription, by symbol
        self._first: dict[str, Trade] = {}
        self.last: dict[str, Trade] = {}
        """By symbol."""

    def acked(self, symbols: Iterable[str], now: int) -> None:
        for symbol in symbols:
            self._since.setdefault(symbol, now)

    def trade(self, it: Trade) -> None:
        if it.symbol not in self._first:
            self._first[it.symbol] = it
        self.last[it.symbol] = it

    def begun(self, symbol: str) -> bool:
        """A trade of it has come."""
        return symbol in self._first

    def proven(self, before: "Overlap", symbol: str) -> bool:
        """The connection before was still heard of when this one had been subscribed for a while."""
        since = self._since.get(symbol)
        return since is not None and before.heard_at >= since + MARGIN_NS

    def hole(self, before: "Overlap", symbol: str) -> tuple[Trade, Trade] | None:
        """The last trade there and the first one here, if any may be missing between them."""
        first, last = self._first.get(symbol), before.last.get(symbol)
        if first is None or last is None or first.exchange_time < last.exchange_time or self.proven(before, symbol):
            return None
        return last, first
