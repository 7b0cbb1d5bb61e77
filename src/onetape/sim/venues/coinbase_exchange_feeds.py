"""What each channel of the simulated Coinbase Exchange says of one product, and when (sections 4 to 7.2)."""
from collections.abc import Callable, Iterable, Mapping
from zlib import crc32

from msgspec import json

from onetape.clock import MILLISECOND, SECOND
from onetape.sim.base import Match
from onetape.sim.truth import Day, Level
from onetape.sim.venues.coinbase_paper import NAMES, Paper, conflated, maker_side, sequence
from onetape.sim.venues.coinbase_sockets import Feed, Said
from onetape.sim.venues.kraken_frames import micros

STATUS_EVERY = 5 * SECOND  # not published


class Books:
    """The whole book, then what changed: in batches of 50 ms, or at once. No number, and the first one has no time."""

    restless, topic = False, "book"

    def __init__(self, paper: Paper, period: int) -> None:
        self.period = period
        self._paper, self._told = paper, 0

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        truth = self._paper.truth
        if first:
            self._told = truth.sequence
        asks, bids = self._levels(truth.asks()), self._levels(truth.bids())
        head = f'{{"type":"snapshot","product_id":"{self._paper.symbol}"'
        return [Said(f'{head},"asks":[{asks}],"bids":[{bids}]}}'.encode())]

    def tell(self, now: int, skew: int) -> list[Said]:
        """The time is that of the newest change in it."""
        truth = self._paper.truth
        changes = truth.changes_since(self._told)
        if not changes:
            return []
        self._told = changes[-1].sequence
        rows = ",".join(
            f'["{"buy" if bid else "sell"}","{truth.price_text(price)}","{truth.size_text(size)}"]'
            for (bid, price), size in conflated(changes).items()
        )
        return [Said((
            f'{{"type":"l2update","product_id":"{self._paper.symbol}","changes":[{rows}],'
            f'"time":"{micros(changes[-1].time + skew)}"}}'
        ).encode())]

    def _levels(self, levels: Iterable[Level]) -> str:
        price, size = self._paper.truth.price_text, self._paper.truth.size_text
        return ",".join([f'["{price(ticks)}","{size(lots)}"]' for ticks, lots in levels])


class Matches:
    """The last one, then each as it happens."""

    period, restless, topic = 0, False, "trades"

    def __init__(self, paper: Paper) -> None:
        self._paper, self._told = paper, 0

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        last = self._paper.truth.last_matches(1)
        if first and last:
            self._told = last[0].id
        return [Said(match_text(self._paper, "last_match", it, skew).encode()) for it in last]

    def tell(self, now: int, skew: int) -> list[Said]:
        truth = self._paper.truth
        matches = truth.matches_from(self._told + 1, len(truth.matches))
        if matches:
            self._told = matches[-1].id
        return [Said(match_text(self._paper, "match", it, skew).encode()) for it in matches]


class Tickers:
    """At each trade, a cascade as one; or every 5 s, if there was any."""

    restless, topic = False, "ticker"

    def __init__(self, paper: Paper, period: int) -> None:
        self.period = period
        self._paper, self._told = paper, 0

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        told = self._told
        self._told = 0
        said = self.tell(now, skew)
        self._told = self._told if first else told
        return said

    def tell(self, now: int, skew: int) -> list[Said]:
        truth = self._paper.truth
        last = truth.last_matches(1)
        day = truth.day(now) if last and last[0].id != self._told else None
        if day is None:
            return []
        self._told = last[0].id
        return [Said(ticker_text(self._paper, last[0], day, now, skew).encode())]


class Heartbeats:
    """Of the product, once a second, with the id of its newest trade."""

    period, restless, topic = SECOND, True, ""

    def __init__(self, paper: Paper) -> None:
        self._paper = paper

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        return []

    def tell(self, now: int, skew: int) -> list[Said]:
        last = self._paper.truth.last_matches(1)
        return [Said((
            f'{{"type":"heartbeat","sequence":{self._paper.sequence(now)},'
            f'"last_trade_id":{last[0].id if last else 0},"product_id":"{self._paper.symbol}",'
            f'"time":"{micros(now + skew)}"}}'
        ).encode())]


class Status:
    """All products and currencies, again and again."""

    period, restless, topic = STATUS_EVERY, True, ""

    def __init__(self, listed: Callable[[int], Iterable[Paper]]) -> None:
        self._listed = listed

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        return self.tell(now, skew)

    def tell(self, now: int, skew: int) -> list[Said]:
        papers = list(self._listed(now))
        names = sorted({name for it in papers for name in (it.listing.base, it.listing.quote)})
        currencies = [
            {"id": it, "name": NAMES.get(it, it), "min_size": "0.00000001", "status": "online", "status_message": None}
            for it in names
        ]
        body = {"type": "status", "currencies": currencies, "products": [status_row(it) for it in papers]}
        return [Said(json.encode(body))]


class Mute:
    """What is not simulated, and may be silent for as long in truth."""

    period, restless, topic = 0, False, ""

    def join(self, now: int, skew: int, *, first: bool) -> list[Said]:
        return []

    def tell(self, now: int, skew: int) -> list[Said]:
        return []


MAKERS: Mapping[str, Callable[[Paper], Feed]] = {
    "matches": Matches, "heartbeat": Heartbeats,
    "level2_batch": lambda paper: Books(paper, 50 * MILLISECOND), "level2": lambda paper: Books(paper, 0),
    "ticker": lambda paper: Tickers(paper, 0), "ticker_batch": lambda paper: Tickers(paper, 5 * SECOND),
    "auctionfeed": lambda _: Mute(),
}
"""By channel, those of one product each."""


def match_text(paper: Paper, kind: str, it: Match, skew: int) -> str:
    return (
        f'{{"type":"{kind}","trade_id":{it.id},"maker_order_id":"{order_id("maker", paper, it.id)}",'
        f'"taker_order_id":"{order_id("taker", paper, it.time)}","side":"{maker_side(it)}",'
        f'"size":"{paper.size(it.size)}","price":"{paper.price(it.price)}","product_id":"{paper.symbol}",'
        f'"sequence":{sequence(it.id, it.time)},"time":"{micros(it.time + skew)}"}}'
    )


def order_id(role: str, paper: Paper, number: int) -> str:
    """A UUID; the taker of several executions is one order."""
    head = crc32(f"{role} {paper.symbol}".encode())
    text = f"{head:08x}{number * 0x9E37_79B9_7F4A_7C15 & (1 << 96) - 1:024x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"


def ticker_text(paper: Paper, it: Match, day: Day, now: int, skew: int) -> str:
    """``side`` is the taker's here. Volumes have eight digits, best prices all of theirs, trades no zeros."""
    truth, price = paper.truth, paper.price
    bid, ask = (side[0] if side else (0, 0) for side in (truth.bids(1), truth.asks(1)))
    return (
        f'{{"type":"ticker","sequence":{sequence(it.id, it.time)},"product_id":"{paper.symbol}",'
        f'"price":"{price(it.price)}","open_24h":"{price(day.open)}","volume_24h":"{volume(paper, day.volume)}",'
        f'"low_24h":"{price(day.low)}","high_24h":"{price(day.high)}",'
        f'"volume_30d":"{volume(paper, max(paper.month(now), day.volume))}",'
        f'"best_bid":"{truth.price_text(bid[0])}","best_bid_size":"{truth.size_text(bid[1])}",'
        f'"best_ask":"{truth.price_text(ask[0])}","best_ask_size":"{truth.size_text(ask[1])}",'
        f'"side":"{"buy" if it.buy else "sell"}","time":"{micros(it.time + skew)}","trade_id":{it.id},'
        f'"last_size":"{paper.size(it.size)}"}}'
    )


def volume(paper: Paper, lots: int) -> str:
    return f"{lots * paper.listing.lot:.8f}"


def status_row(paper: Paper) -> dict[str, object]:
    it = paper.listing
    return {
        "id": it.symbol, "base_currency": it.base, "quote_currency": it.quote, "base_increment": f"{it.lot:f}",
        "quote_increment": f"{it.tick:f}", "display_name": f"{it.base}-{it.quote}", "status": "online",
        "status_message": None, "min_market_funds": "1", "post_only": False, "limit_only": False,
        "cancel_only": False, "fx_stablecoin": False,
    }
