"""The simulated venues by name."""
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from onetape.sim.base import SimVenue
from onetape.sim.faults import Faults
from onetape.sim.truth import Truth
from onetape.sim.venues.binance import Binance
from onetape.sim.venues.bybit import Bybit
from onetape.sim.venues.coinbase import Coinbase
from onetape.sim.venues.coinbase_exchange import CoinbaseExchange
from onetape.sim.venues.kraken import Kraken
from onetape.sim.venues.okx import Okx
from onetape.sim.venues.usdm import BinanceUsdm


class VenueClass(Protocol):
    """Makes a venue from the truths of its instruments, by symbol."""

    def __call__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> SimVenue: ...


VENUES: Mapping[str, VenueClass] = MappingProxyType({
    "binance": Binance, "binance-usdm": BinanceUsdm, "bybit": Bybit, "coinbase": Coinbase,
    "coinbase-exchange": CoinbaseExchange, "kraken": Kraken, "okx": Okx,
})
