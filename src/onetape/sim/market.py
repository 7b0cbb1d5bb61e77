"""One seeded market from which all venues live: orders that come in bursts move the books of every instrument."""
from collections.abc import Iterable, Mapping
from heapq import heapify, heapreplace
from math import exp, sqrt
from random import Random

from onetape.clock import MINUTE, SECOND
from onetape.sim.base import Happening, Listing
from onetape.sim.orders import Orders
from onetape.sim.truth import Truth

RATE = 8.0
"""Orders per second that an instrument of rate 1 gets at pace 1, bursts aside."""

_PRICES = {"BTC": 64_000.0, "ETH": 3_200.0, "SOL": 150.0, "DOGE": 0.16, "TON": 3.2, "UNI": 8.5, "PEPE": 1.1e-5}
_OTHER_PRICE = 100.0
_VOLATILITY = 7e-5  # of a price, per square root of a second: 40 % a year
_BASIS = {"USD": 0.0, "USDT": -3e-4, "USDC": 1e-4}  # what a dollar costs in each of them, about

_BURST_DECAY = 0.05  # seconds
_CHILDREN = 2.0  # orders that one that trades brings forth, on average: far fewer than every second of them trades
_MAX_BURST = 40.0  # in units of the base rate
_SHOCK_EVERY = 90.0  # seconds between bursts of volatility, on average
_SHOCK_DECAY = 8.0
_SHOCK = 8.0  # times the volatility, at most
_CHANGES, _MATCHES = 500, 100  # numbers that are set aside for each second: more than are used


class _Fair:
    """What a base is worth: a random walk whose volatility bursts now and then. The same for all venues."""

    def __init__(self, base: str, dice: Random, start: int) -> None:
        self.price = _PRICES.get(base, _OTHER_PRICE) * exp(dice.gauss(0, 0.02))
        self._dice, self._time, self._shock = dice, start, 0.0

    def move(self, now: int, pace: float) -> float:
        seconds = (now - self._time) / SECOND * pace
        if seconds > 0:
            self._time = now
            self._shock *= exp(-seconds / _SHOCK_DECAY)
            if self._dice.random() < seconds / _SHOCK_EVERY:
                self._shock = _SHOCK * self._dice.random()
            self.price *= 1.0 + self._dice.gauss(0, _VOLATILITY * (1.0 + self._shock) * sqrt(seconds))
        return self.price


class _Flow:
    """The orders of one instrument: when the next one comes, and what it does."""

    def __init__(self, truth: Truth, fair: _Fair, dice: Random) -> None:
        listing = truth.listing
        self.truth, self.time, self.pace = truth, truth.time, 1.0
        self._orders = Orders(truth, dice)
        self._fair, self._dice = fair, dice
        self._rate, self._burst = RATE * listing.rate, 0.0
        self._premium = _BASIS.get(listing.quote, 0.0) + dice.gauss(0, 5e-5)
        self._tick = float(listing.tick)

    def open(self) -> Happening:
        """All the orders that were there before the first one came."""
        self.time += 1
        return self.truth.happen(self.time, self._orders.opening(self._worth()))

    def plan(self) -> int:
        """Draws the time of the next order: the more were executed of late, the sooner."""
        seconds = self._dice.expovariate(self._rate * (1.0 + self._burst))
        self._burst *= exp(-seconds / _BURST_DECAY)
        self.time += 1_000 + int(seconds / self.pace * SECOND)
        return self.time

    def happen(self) -> Happening:
        levels, trades = self._orders.next(self._worth())
        if trades:
            self._burst = min(self._burst + _CHILDREN / (self._rate * _BURST_DECAY), _MAX_BURST)
        return self.truth.happen(self.time, levels, trades)

    def _worth(self) -> float:
        """In ticks."""
        return self._fair.move(self.time, self.pace) * (1.0 + self._premium) / self._tick


class Market:
    """All instruments, in order of time. The same seed, listings, start and pace make the same market.

    ``pace`` is how fast the market's own time runs: 10 is ten times the orders, and the price moves of ten seconds in
    one. It has a past when it begins: ``history_ns`` of it, at pace 1 or less, so that REST has an answer.
    """

    def __init__(
        self, seed: int, listings: Iterable[Listing], start: int, pace: float = 1.0, history_ns: int = 10 * MINUTE,
    ) -> None:
        begin = start - history_ns
        fairs: dict[str, _Fair] = {}
        self._flows: list[_Flow] = []
        truths: dict[tuple[str, str], Truth] = {}
        for it in listings:
            if it.base not in fairs:
                fairs[it.base] = _Fair(it.base, Random(f"{seed} {it.base}"), begin)  # noqa: S311 - chance, no secret
            dice = Random(f"{seed} {it.venue} {it.symbol}")  # noqa: S311
            seconds = begin // SECOND  # a market that begins later has higher numbers: no id ever means two things
            truth = Truth(
                it, begin, dice.randrange(10**9, 5 * 10**10) + _CHANGES * seconds,
                dice.randrange(10**7, 10**9) + _MATCHES * seconds,
            )
            truths[it.venue, it.symbol] = truth
            self._flows.append(_Flow(truth, fairs[it.base], dice))
        self.truths: Mapping[tuple[str, str], Truth] = truths
        """By venue and symbol."""
        self._set_pace(min(pace, 1.0))
        for flow in self._flows:
            flow.open()
        self._agenda = [(flow.plan(), index) for index, flow in enumerate(self._flows)]
        heapify(self._agenda)
        while self._agenda and self._agenda[0][0] <= start:
            self._next()
        self._set_pace(pace)

    def next_wake(self) -> int | None:
        """When the next order comes; None without instruments."""
        return self._agenda[0][0] if self._agenda else None

    def wake(self, now: int) -> list[Happening]:
        """All that happens until ``now``, in order of time."""
        out = []
        agenda = self._agenda
        while agenda and agenda[0][0] <= now:
            out.append(self._next())
        return out

    def _next(self) -> Happening:
        _, index = self._agenda[0]
        flow = self._flows[index]
        it = flow.happen()
        heapreplace(self._agenda, (flow.plan(), index))
        return it

    def _set_pace(self, pace: float) -> None:
        for flow in self._flows:
            flow.pace = pace
