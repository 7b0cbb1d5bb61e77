"""What the next order does to one book: it rests, is withdrawn or moved, or trades through several levels."""
from math import exp
from random import Random

from onetape.sim.truth import Truth

Level = tuple[bool, int, int]
"""Bid, price, new size."""
Trade = tuple[int, int, bool]
"""Price, size, the taker bought."""
Effect = tuple[list[Level], list[Trade]]

TARGET = 600  # levels a side: more are withdrawn than come
FEWEST = 60  # below this nothing is withdrawn
MOST_EATEN = 25  # levels by one order: always fewer than there are

_TYPICAL_VALUE = 400.0  # of an order, in the quote
_HALF_SPREAD = 2e-5  # of the price: what makers want
_REACH = 1.2e-3  # of the price: how far from it resting orders lie, about
_MARKET_SHARE = 0.10  # of orders that trade when the price is right; more when it is wrong
_MOVE_SHARE = 0.25
_PULL = 0.5  # of orders that trade when somebody asks too little or bids too much


class Orders:
    """The order flow of one instrument, drawn from ``dice``. It reads the truth and leaves writing to others."""

    def __init__(self, truth: Truth, dice: Random) -> None:
        self._truth, self._dice = truth, dice
        self._tick, self._lot = float(truth.listing.tick), float(truth.listing.lot * truth.listing.contract)
        self._worth = 0.0
        self._half_spread = self._reach = 1.0  # in ticks, as is all that follows

    def opening(self, worth: float) -> list[Level]:
        """A full book around what the instrument is worth."""
        self._know(worth)
        levels: dict[tuple[bool, int], int] = {}
        for bid in (True, False):
            sign = -1 if bid else 1
            near = round(worth + sign * self._half_spread)
            for _ in range(2 * TARGET):
                price = max(near + sign * self._distance(), 1)
                if bid == (price < worth):
                    levels[bid, price] = self._size()
        return [(bid, price, size) for (bid, price), size in levels.items()]

    def next(self, worth: float) -> Effect:
        """``worth`` in ticks: where the price is drawn to."""
        self._know(worth)
        dice = self._dice
        bids, asks = self._truth.prices(bid=True), self._truth.prices(bid=False)
        best_bid, best_ask = bids[-1], asks[0]
        wrong = (worth - (best_bid + best_ask) / 2) / (self._half_spread + (best_ask - best_bid) / 2)
        buy = dice.random() < 0.5 + max(min(wrong / 4, 0.48), -0.48)
        chance = dice.random()
        if best_ask < worth - self._half_spread:  # somebody asks too little: that does not last
            if chance < _PULL:
                return self._take(buy=True, limit=int(worth))
        elif best_bid > worth + self._half_spread:
            if chance < _PULL:
                return self._take(buy=False, limit=int(worth) + 1)
        elif chance < _MARKET_SHARE:
            return self._take(buy=buy, limit=0)
        if dice.random() < _MOVE_SHARE:
            return self._move(bid=buy), []
        thinner = len(bids) < len(asks)
        bid = thinner == (dice.random() < 0.75)
        count = len(bids) if bid else len(asks)
        if count > FEWEST and 2 * dice.random() < (count / TARGET) ** 2:
            return [self._withdraw(bid=bid)], []
        return [self._rest(bid=bid)], []

    def _know(self, worth: float) -> None:
        self._worth = worth
        self._half_spread = max(worth * _HALF_SPREAD, 0.5)
        self._reach = max(worth * _REACH, 300.0)

    # --- kinds of orders --------------------------------------------------------------------------------------------

    def _rest(self, *, bid: bool) -> Level:
        """A new order, or more at a price: never across the other side, nor what nobody would offer."""
        price = self._price(bid=bid)
        return bid, price, self._truth.size(bid, price) + self._size()

    def _withdraw(self, *, bid: bool) -> Level:
        """One level, sometimes only a part of it; what is far from the price goes sooner."""
        prices = self._truth.prices(bid)
        depth = int(len(prices) * self._dice.random() ** 0.7)
        price = prices[-1 - depth] if bid else prices[depth]
        size = self._truth.size(bid, price)
        return bid, price, size // 2 if self._dice.random() < 0.2 else 0

    def _move(self, *, bid: bool) -> list[Level]:
        """A maker changes their mind about a price: gone here and there again in one moment."""
        gone = self._withdraw(bid=bid)
        price = self._price(bid=bid)
        if price == gone[1]:
            return [(bid, price, self._size())]
        return [gone, (bid, price, self._truth.size(bid, price) + self._size())]

    def _take(self, *, buy: bool, limit: int) -> Effect:
        """Trades through the levels of the other side, up to ``limit`` if there is one."""
        prices = self._truth.prices(not buy)
        left = self._size() * (10 if limit else 1)
        levels: list[Level] = []
        trades: list[Trade] = []
        for at in range(min(MOST_EATEN, len(prices) // 2)):
            price = prices[at] if buy else prices[-1 - at]
            if not left or (limit and (price > limit if buy else price < limit)):
                break
            there = self._truth.size(not buy, price)
            size = min(there, left)
            left -= size
            levels.append((not buy, price, there - size))
            trades += self._executions(price, size, buy=buy)
        if not trades:
            return [self._rest(bid=buy)], []
        return levels, trades

    def _executions(self, price: int, size: int, *, buy: bool) -> list[Trade]:
        """One level is often several orders, each an execution of its own."""
        if size < 2 or self._dice.random() < 0.7:
            return [(price, size, buy)]
        first = self._dice.randrange(1, size)
        return [(price, first, buy), (price, size - first, buy)]

    # --- what orders are made of ------------------------------------------------------------------------------------

    def _price(self, *, bid: bool) -> int:
        """Where a new order rests: within the spread, at the best, or behind it. A wide spread draws orders."""
        best_bid, best_ask = self._truth.prices(bid=True)[-1], self._truth.prices(bid=False)[0]
        wide = best_ask - best_bid > 4 * self._half_spread and self._dice.random() < 0.6
        behind = 0 if wide else self._distance()
        if bid:
            near = min(best_ask - 1, int(self._worth - self._half_spread * self._dice.random()))
            return max(near - behind, 1)
        near = max(best_bid + 1, int(self._worth + self._half_spread * self._dice.random()) + 1)
        return near + behind

    def _distance(self) -> int:
        """Ticks: often none, mostly few, now and then very many."""
        chance = self._dice.random()
        if chance < 0.25:
            return 0
        return int(self._reach * (1.0 / (1.0 - 0.97 * self._dice.random()) - 1.0) * 0.3)

    def _size(self) -> int:
        """Lots: of very different worth; people like round ones."""
        value = _TYPICAL_VALUE * exp(self._dice.gauss(0, 1.4))
        lots = int(value / (self._worth * self._tick * self._lot)) + 1
        if lots > 100 and self._dice.random() < 0.3:
            unit = int(f"1{'0' * (len(str(lots)) - 1)}")
            return max(lots // unit, 1) * unit
        return lots
