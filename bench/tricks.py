"""What each trick of the hot path saves, against what one would write otherwise: ``python bench/tricks.py``.

A trick that saves nothing any more, on a newer Python say, is to go: then what one would write is what is written.
"""
import platform
import timeit
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from heapq import heappop, heappush
from itertools import cycle

from msgspec import Raw

from onetape.book.order_book import OrderBook as Reference
from onetape.candles import RunningCandle
from onetape.candles.running import _EXACT
from onetape.candles.running import RunningCandle as RunningSlowly
from onetape.model import PAIRS, BookDelta, BookSnapshot, Channel, Levels, Side, Subscription, Trade
from onetape.model import numbers
from onetape.model.numbers import _parse
from onetape.tape import validation

NUMBER, TIMES = 200_000, 5
PRICE, SIZE, SUM = Decimal("60123.45"), Decimal("0.01700000"), Decimal("1234.56789012")
HERE = Side.SELL
NOW = 1_790_000_000_000_000_000


class Plain(StrEnum):
    SELL = "sell"


class Times:
    """What a clock that goes back is held by."""

    time = 5


times, deadlines, outcomes = Times(), dict.fromkeys(range(1_000), 7), [PRICE]
subscription, watched = Subscription("BTCUSDT", Channel.BOOK), {Subscription("BTCUSDT", Channel.BOOK): 1}


def kept_with_max(now: int) -> None:
    times.time = max(times.time, now)


def kept_with_if(now: int) -> None:
    if now > times.time:  # noqa: PLR1730 - that is the question
        times.time = now


def named_in_a_comprehension() -> list:
    return [("binance#1", one) for one in outcomes]


def named_in_a_loop() -> list:
    out = []
    for one in outcomes:
        out.append(("binance#1", one))  # noqa: PERF401 - that is the question
    return out


def wide(price: Decimal, size: Decimal) -> int:
    """What sums of integers need of each price and size."""
    whole, _, fraction = format(price, "f").partition(".")
    lots, _, parts = format(size, "f").partition(".")
    return int(whole + fraction) * int(lots + parts)


def told_by_pattern() -> bool:
    match TRADE:
        case BookDelta() | BookSnapshot():
            return False
        case Trade():
            return True
    return False


def told_by_type() -> bool:
    if type(TRADE) is BookDelta:
        return False
    return type(TRADE) is Trade


def due_of_all() -> int:
    return min(deadlines.values())


def due_by_heap(heap: list = [(7, 0)]) -> int:  # noqa: B006 - one for all calls
    due = heappop(heap)
    heappush(heap, due)
    return due[0]


TRADE = Trade(
    venue="binance", symbol="BTCUSDT", exchange_time=NOW, received_time=NOW, available_at=NOW, channel=Channel.TRADES,
    id="1", after=0, price=PRICE, size=SIZE, side=HERE,
)
NEW = [f"0.{it:05}000" for it in range(100_000)]  # more than are remembered
new = {"plain": cycle(NEW), "compiled": cycle(NEW)}
running, summed = RunningSlowly(TRADE), RunningCandle(TRADE)
recents = [of(pair()) for of, pair in (validation.REFERENCE, (validation.Recent, validation.Pair))]
for it in recents:
    it.pair.low, it.pair.high, it.huge = PRICE, PRICE, SIZE

TRICKS = {
    "a type compared, not a pattern": (told_by_pattern, told_by_type),
    "a new number, compiled": (lambda: numbers.REFERENCE[0](next(new["plain"])),
                               lambda: numbers.number(next(new["compiled"]))),
    "the running candle, compiled": (lambda: running.add(TRADE), lambda: summed.add(TRADE)),
    "a trade seen to be usual, compiled": (lambda: recents[0].usual(TRADE), lambda: recents[1].usual(TRADE)),
    "an enum's member as a constant": (lambda: Plain.SELL, lambda: HERE),
    "if, not max()": (lambda: kept_with_max(5), lambda: kept_with_if(5)),
    "a loop, not a comprehension, for one": (named_in_a_comprehension, named_in_a_loop),
    "a number within every limit": (lambda: _parse("60123.4500000000", 28), lambda: _parse("60123.45000000", 28)),
    "Decimals that refuse to round, not integers": (lambda: wide(PRICE, SIZE), lambda: _EXACT.fma(PRICE, SIZE, SUM)),
    "tapes in a heap, of a thousand": (due_of_all, due_by_heap),
    "a subscription that knows its hash": (lambda: watched[Subscription("BTCUSDT", Channel.BOOK)],
                                           lambda: watched[subscription]),
}


def main() -> None:
    print(f"Python {platform.python_version()}, {platform.machine()}; ns a time, the best of {TIMES}")
    print(f"{'':46} {'plain':>8} {'trick':>8} {'saves':>8}")
    for name, (plain, trick) in TRICKS.items():
        show(name, cost(plain), cost(trick))
    kernel()


def kernel() -> None:
    """The compiled book: by levels of a delta, and how deep in a book of a thousand they lie."""
    try:
        from onetape.book._kernel import OrderBook  # noqa: PLC0415 - it may not be built
    except ImportError:
        print("no compiled book here")
        return
    for what, first in (("near the top", 0), ("in the middle", 500)):
        delta, none = levels(first, 6), Levels.of(())
        took = {}
        for kind in (Reference, OrderBook):
            book = kind()
            book.replace(Levels(levels(0, 1_000), PAIRS), none)
            took[kind] = cost(lambda book=book, delta=delta, none=none: book.apply(Levels(delta, PAIRS), none))
        show(f"the kernel, six levels {what}", took[Reference], took[OrderBook])


def levels(first: int, count: int) -> Raw:
    rows = ",".join(f'["{60_000 - at / 100:.8f}","0.{at + 1:08}"]' for at in range(first, first + count))
    return Raw(f"[{rows}]".encode())


def cost(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=NUMBER, repeat=TIMES)) / NUMBER * 1e9


def show(name: str, plain: float, trick: float) -> None:
    print(f"{name:46} {plain:8.0f} {trick:8.0f} {plain - trick:8.0f}")


if __name__ == "__main__":
    main()
