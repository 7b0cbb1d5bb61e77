"""One product of the simulated Coinbase in words that both of its protocols use (sections 5 to 8)."""
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from onetape.clock import DAY, MICROSECOND, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Change, Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Truth
from onetape.sim.venues.kraken_frames import micros, nanos

NAMES = {
    "BTC": "Bitcoin", "ETH": "Ethereum", "SOL": "Solana", "DOGE": "Dogecoin", "USD": "US Dollar", "USDT": "Tether",
    "USDC": "USDC",
}
MONTH = 30 * DAY


class Paper:
    """Of one truth. What is written with all its digits comes from the truth itself, what is cut short from here."""

    def __init__(self, truth: Truth) -> None:
        self.truth, self.listing, self.symbol = truth, truth.listing, truth.listing.symbol
        self.price: Callable[[int], str] = lru_cache(1 << 12)(lambda ticks: trimmed(truth.price_text(ticks)))
        self.size: Callable[[int], str] = lru_cache(1 << 13)(lambda lots: trimmed(truth.size_text(lots)))
        self._month: tuple[int, int] = -1, 0

    def sequence(self, now: int) -> int:
        """The product's counter of everything, as it stands now."""
        last = self.truth.last_matches(1)
        return sequence(last[0].id if last else 0, now)

    def month(self, now: int) -> int:
        """The volume of 30 days, as far as it is known, counted once a minute."""
        minute = now - now % MINUTE
        if self._month[0] != minute:
            self._month = minute, sum(it.volume for it in self.truth.candles(DAY, minute - MONTH, minute + 1))
        return self._month[1]


def sequence(trade_id: int, time: int) -> int:
    """It rises with time and with each trade, and is dense on ``full`` alone, which is not simulated."""
    return time // MILLISECOND + 2 * trade_id


def trimmed(text: str) -> str:
    """65062.50 to 65062.5, 985.0 to 985."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def maker_side(it: Match) -> str:
    """Of the order that rested (section 5.1)."""
    return "sell" if it.buy else "buy"


def conflated(changes: Iterable[Change]) -> dict[tuple[bool, int], int]:
    """The last size of each level: what came and went within a batch is told as gone, though nobody has seen it."""
    return {(it.bid, it.price): it.size for it in changes}


def short_nanos(time: int) -> str:
    """``2026-10-05T12:00:43.10519Z``: without the zeros at the end, as Go writes it."""
    return f"{trimmed(nanos(time)[:-1])}Z"


def short_micros(time: int) -> str:
    return short_nanos(time - time % MICROSECOND)


def iso_millis(time: int) -> str:
    return f"{micros(time)[:-4]}Z"


def go_time(time: int, running: int) -> str:
    """As Go prints a moment, with how long the process has been running."""
    date, _, clock = short_nanos(time)[:-1].partition("T")
    return f"{date} {clock} +0000 UTC m=+{running // SECOND}.{running % SECOND:09d}"


def newest_candles(paper: Paper, interval: int, now: int, count: int) -> list[Kline]:
    """At most so many, oldest first, the running one included; where nothing was traded there is none."""
    begin = now - now % interval - (count - 1) * interval
    return paper.truth.candles(interval, begin, now + 1)


def aliases(papers: Mapping[str, Paper]) -> dict[str, str]:
    """``BTC-USDC`` is the book of ``BTC-USD``: by alias, the product that answers (section 11)."""
    found = {f"{it.listing.base}-USDC": symbol for symbol, it in papers.items() if it.listing.quote == "USD"}
    return {alias: symbol for alias, symbol in found.items() if alias not in papers}
