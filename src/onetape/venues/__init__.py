"""The venues by name: one line each."""
from onetape.errors import UsageError
from onetape.model import Capabilities
from onetape.nearest import nearest
from onetape.venues.base import Spec, Venue
from onetape.venues.binance import Binance
from onetape.venues.binance_usdm import BinanceUsdm
from onetape.venues.bybit import Bybit
from onetape.venues.coinbase import Coinbase
from onetape.venues.coinbase_exchange import CoinbaseExchange
from onetape.venues.kraken import Kraken
from onetape.venues.okx import Okx

VENUES: dict[str, type[Venue]] = {
    it.spec.name: it for it in (Binance, BinanceUsdm, Coinbase, CoinbaseExchange, Kraken, Okx, Bybit)
}


def create(name: str, route: str | None = None) -> Venue:
    """A venue for one connection, on ``route`` (its first one if not given). Raises UsageError on an unknown name."""
    if route is None:
        route = next(iter(spec(name).endpoints["production"].websocket))
    return VENUES[name](route)


def spec(name: str) -> Spec:
    """The venue's tables. Raises UsageError on an unknown name."""
    if name not in VENUES:
        raise UsageError(f"unknown venue {name!r}: {nearest(name, VENUES)}")
    return VENUES[name].spec


def capabilities(name: str) -> Capabilities:
    """Channels, depths and intervals that the venue has. Raises UsageError on an unknown name."""
    return spec(name).capabilities
