"""Names and rows of the simulated Kraken's REST answers: numbers in quotes, and each endpoint with its own digits."""
from decimal import ROUND_HALF_UP, Decimal

from msgspec import Raw, Struct

from onetape.clock import DAY, SECOND
from onetape.sim.base import Listing, Match
from onetape.sim.klines import Kline
from onetape.sim.truth import Day, Truth
from onetape.sim.venues.kraken_frames import MINIMUM, OTHERWISE, average, digits, market_order

CANDLES = 720  # committed; the running one comes on top
MIN_PRICE_DIGITS = 5
THOUSANDTH = Decimal("0.001")

OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
CLASSED = {"BTC": "XXBT", "ETH": "XETH", "DOGE": "XXDG", "USD": "ZUSD", "EUR": "ZEUR"}
"""Assets of the first years carry their class, X or Z, in REST's names; newer ones do not (section 10)."""

CandleRow = tuple[int, str, str, str, str, str, str, int]


class Names(Struct, frozen=True):
    """Of one pair: no two interfaces of the venue agree."""

    key: str
    """Of results: ``XXBTZUSD``, ``XBTUSDT``, ``XDGUSD``."""
    altname: str
    wsname: str


def names(listing: Listing) -> Names:
    base, quote = (OLD_NAMES.get(it, it) for it in (listing.base, listing.quote))
    both = CLASSED.get(listing.base), CLASSED.get(listing.quote)
    classed = None not in both and listing.base != "DOGE"  # XDGUSD, though both its assets are classed (captured)
    return Names(f"{both[0]}{both[1]}" if classed else base + quote, base + quote, f"{base}/{quote}")


def old_asset(name: str) -> str:
    return CLASSED.get(name, name)


def asset_row(name: str, *, new: bool) -> dict[str, object]:
    return {
        "aclass": "currency", "altname": name if new else OLD_NAMES.get(name, name),
        "decimals": 4 if name in {"USD", "EUR"} else 10, "display_decimals": 2 if name in {"USD", "EUR"} else 5,
        "status": "enabled",
    }


def pair_row(listing: Listing, it: Names, *, new: bool) -> dict[str, object]:
    """Types as captured in 2025 (section 7.1)."""
    base, quote = listing.base, listing.quote
    return {
        "altname": base + quote if new else it.altname, "wsname": listing.symbol if new else it.wsname,
        "aclass_base": "currency", "base": base if new else old_asset(base),
        "aclass_quote": "currency", "quote": quote if new else old_asset(quote),
        "lot": "unit", "cost_decimals": 5, "pair_decimals": digits(listing.tick), "lot_decimals": digits(listing.lot),
        "lot_multiplier": 1, "leverage_buy": [2, 3], "leverage_sell": [2, 3], "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]], "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40,
        "ordermin": MINIMUM.get(base, OTHERWISE), "costmin": "0.5", "tick_size": f"{listing.tick:f}",
        "status": "online", "long_position_limit": 80, "short_position_limit": 80,
    }


def _price(truth: Truth, ticks: int) -> str:
    """With at least five digits, as in all answers but candles."""
    whole, _, fraction = truth.price_text(ticks).partition(".")
    return f"{whole}.{fraction.ljust(MIN_PRICE_DIGITS, '0')}"


def _thousandths(truth: Truth, lots: int) -> Decimal:
    """Sizes in books are rounded, yet what is there is never nothing."""
    size = (lots * truth.listing.lot).quantize(THOUSANDTH, ROUND_HALF_UP)
    return max(size, THOUSANDTH)


def depth_row(truth: Truth, price: int, lots: int, seconds: int) -> list[object]:
    """The times of levels say nothing coherent (section 7): here each level has its own age, below a minute."""
    return [_price(truth, price), f"{_thousandths(truth, lots)}", seconds - (price + lots) % 60]


def trade_row(truth: Truth, it: Match, skew: int) -> list[object]:
    """The time is a JSON number of seconds with seven digits behind the point."""
    tenths = (it.time + skew + 50) // 100
    return [
        _price(truth, it.price), truth.size_text(it.size), Raw(b"%d.%07d" % divmod(tenths, 10**7)),
        "b" if it.buy else "s", "m" if market_order(it) else "l", "", it.id,
    ]


def ticker_row(truth: Truth, now: int) -> dict[str, object] | None:
    day = truth.day(now)
    last = truth.last_matches(1)
    if day is None or not last:
        return None
    midnight = now // DAY * DAY
    today = next(iter(truth.candles(DAY, midnight, midnight + DAY)), None)
    spans = [_statistics(truth, today), _statistics(truth, day)]
    return {
        "a": _top(truth, truth.asks(1)), "b": _top(truth, truth.bids(1)),
        "c": [_price(truth, last[0].price), truth.size_text(last[0].size)],
        **{key: [span[key] for span in spans] for key in "vptlh"},
        "o": _price(truth, today.open if today is not None else day.last),
    }


def _top(truth: Truth, levels: list[tuple[int, int]]) -> list[str]:
    """Price, whole lots, size."""
    price, lots = levels[0] if levels else (0, 0)
    size = _thousandths(truth, lots)
    return [_price(truth, price), str(int(size)), f"{size}"]


def _statistics(truth: Truth, it: Kline | Day | None) -> dict[str, object]:
    """Volume, average price, number of trades, low, high."""
    if it is None:
        return {"v": truth.size_text(0), "p": _price(truth, 0), "t": 0, "l": _price(truth, 0), "h": _price(truth, 0)}
    exact = Decimal(it.quote) / Decimal(it.volume) * truth.listing.tick
    places = max(MIN_PRICE_DIGITS, digits(truth.listing.tick))
    return {
        "v": truth.size_text(it.volume), "p": f"{exact:.{places}f}", "t": it.trades,
        "l": _price(truth, it.low), "h": _price(truth, it.high),
    }


def candle_rows(truth: Truth, interval: int, now: int) -> list[CandleRow]:
    """The newest 720 and the running one; where nothing was traded the last price goes on (section 7.4)."""
    running = now // interval * interval
    start = running - CANDLES * interval
    traded = {it.start: it for it in truth.candles(interval, start - CANDLES * interval, running + interval)}
    rows: list[CandleRow] = []
    close: int | None = None
    for moment in range(min(traded, default=running), running + interval, interval):
        candle = traded.get(moment)
        close = candle.close if candle is not None else close
        if moment >= start and close is not None:
            rows.append(_candle_row(truth, moment, candle, close))
    return rows


def _candle_row(truth: Truth, start: int, it: Kline | None, close: int) -> CandleRow:
    price, seconds = truth.price_text, start // SECOND
    if it is None:
        flat = price(close)
        return seconds, flat, flat, flat, flat, price(0), truth.size_text(0), 0
    prices = price(it.open), price(it.high), price(it.low), price(it.close)
    return seconds, *prices, price(average(it.quote, it.volume)), truth.size_text(it.volume), it.trades
