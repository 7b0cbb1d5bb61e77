"""Coinbase Advanced Trade, simulated: what clients say and what they get (sections 2.2, 3, 9 and 10)."""
import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct, json

from onetape.clock import HOUR, MINUTE
from onetape.sim.base import Action, Happening, Match, Response
from onetape.sim.faults import Faults
from onetape.sim.truth import Truth
from onetape.sim.venues import coinbase_frames as frames
from onetape.sim.venues.coinbase_exchange_rest import CoinbaseExchangeRest
from onetape.sim.venues.coinbase_feeds import MAKERS, Heartbeats
from onetape.sim.venues.coinbase_login import token_is_good
from onetape.sim.venues.coinbase_paper import Paper, aliases
from onetape.sim.venues.coinbase_rest import CoinbaseRest
from onetape.sim.venues.coinbase_sockets import MAX_MESSAGE, Client, Feed, Rules, Sockets

EXCHANGE_TRADES = re.compile(r"/products/[^/]+/trades")
"""Older trades are to be had from the exchange's other host alone: the same ids, but budgets and caches of its own."""
HEARTBEATS = "heartbeats"
PRIVATE = ("user", "futures_balance_summary")
RULES = Rules(
    connects_at_once=8, messages=8, idle=MINUTE,
    skipped=frozenset(("trades", "book", "ticker", "candles")), counted=True,
)


class _Refused(Exception):
    """A message, as a whole."""


class _Request(Struct):
    """Exactly one channel (section 2.2)."""

    type: str
    channel: str
    product_ids: list[str] = []
    jwt: str | None = None


_read = json.Decoder(_Request).decode


class Coinbase:
    """See ``SimVenue``."""

    name = "coinbase"
    book_clock_ns = 1
    instruments_path = "/api/v3/brokerage/market/products"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        self._papers = {symbol: Paper(truth) for symbol, truth in truths.items()}
        self._aliases = aliases(self._papers)
        self._sockets = Sockets(self.name, RULES, faults, seed, self._make)
        self._began = faults.start - self._sockets.dice.randrange(HOUR, 50 * HOUR)
        self._rest = CoinbaseRest(self.name, self._papers, self._aliases, faults)
        self._exchange = CoinbaseExchangeRest(self.name, self._papers, (), faults)

    def number(self, trade_id: str) -> int:
        return int(trade_id)

    def match(self, symbol: str, number: int) -> Match | None:
        return self._papers[symbol].truth.match(number)

    def skipped(self, symbol: str) -> Sequence[int]:
        return self._papers[symbol].truth.skipped()

    def _make(self, channel: str, symbol: str) -> Feed:
        return Heartbeats(self._began) if channel == HEARTBEATS else MAKERS[channel](self._papers[symbol])

    # --- connections --------------------------------------------------------------------------------------------------

    def connect(self, connection: int, target: str, now: int) -> list[Action]:
        self._sockets.open(connection, target, now)
        return []

    def disconnect(self, connection: int, now: int) -> None:
        self._sockets.drop(connection)

    def pong(self, connection: int, payload: bytes, now: int) -> list[Action]:
        return []

    # --- messages -----------------------------------------------------------------------------------------------------

    def receive(self, connection: int, frame: bytes, now: int) -> list[Action]:
        client = self._sockets.client(connection)
        if client is None:
            return []
        try:
            return self._obey(client, frame, now)
        except _Refused as refused:
            return [self._sockets.say(client, frames.failed(str(refused)))]

    def _obey(self, client: Client, frame: bytes, now: int) -> list[Action]:
        """Data first, then the ack (as captured), which is numbered like them."""
        if len(frame) > MAX_MESSAGE:
            raise _Refused("Message too big")
        if not self._sockets.may_send(now):
            raise _Refused("ErrSlowRead")
        try:
            request = _read(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused("invalid message") from error
        self._check(request, now)
        channel = request.channel
        products = [self._aliases.get(it, it) for it in request.product_ids] if channel != HEARTBEATS else [""]
        out: list[Action] = []
        if request.type == "subscribe":
            out = self._subscribe(client, channel, products, now)
        else:
            self._sockets.leave(client, channel, products)
        ack = frames.subscriptions(self._sockets.heard_by(client), now + self._sockets.skew(now))
        return [*out, self._sockets.say(client, ack)]

    def _check(self, request: _Request, now: int) -> None:
        if request.type not in ("subscribe", "unsubscribe"):
            raise _Refused("unknown message type")
        token = request.jwt
        if request.channel in PRIVATE or (token and not token_is_good(token, now + self._sockets.skew(now))):
            raise _Refused("authentication failure")
        if request.channel not in (*MAKERS, HEARTBEATS):
            raise _Refused("unknown channel")

    def _subscribe(self, client: Client, channel: str, products: list[str], now: int) -> list[Action]:
        """All or nothing. Status alone can do without products: all of them are meant."""
        if channel == "status" and not products:
            products = [it for it in self._papers if self._sockets.may_hear(channel, it, now)]
        if not products:
            raise _Refused(f"You need to specify at least one product ID for channel {channel}")
        for it in products if channel != HEARTBEATS else ():
            if it not in self._papers or not self._sockets.may_hear(channel, it, now):
                raise _Refused(f"{it} is not a valid product")
        return self._sockets.join(client, channel, products, now)

    # --- the market, time, REST ---------------------------------------------------------------------------------------

    def happen(self, it: Happening, now: int) -> list[Action]:
        return self._sockets.happen(it.listing.symbol, now)

    def next_wake(self) -> int | None:
        return self._sockets.next_wake()

    def wake(self, now: int) -> list[Action]:
        return self._sockets.wake(now)

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        if method == "GET" and EXCHANGE_TRADES.fullmatch(target.partition("?")[0]):
            return self._exchange.request(method, target, now, self._sockets.skew(now), client)
        return self._rest.request(method, target, now, self._sockets.skew(now), headers, client)
