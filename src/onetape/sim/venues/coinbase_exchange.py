"""Coinbase Exchange, simulated: what clients say and what they get (sections 2.1, 9 and 10)."""
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct, json

from onetape.sim.base import Action, Happening, Match, Response
from onetape.sim.faults import Faults
from onetape.sim.truth import Truth
from onetape.sim.venues.coinbase_exchange_feeds import MAKERS, Mute, Status
from onetape.sim.venues.coinbase_exchange_rest import CoinbaseExchangeRest
from onetape.sim.venues.coinbase_login import signature_is_good
from onetape.sim.venues.coinbase_paper import Paper, aliases
from onetape.sim.venues.coinbase_sockets import MAX_MESSAGE, Client, Feed, Rules, Said, Sockets

STATUS, RFQ = "status", "rfq_matches"
OF_NO_PRODUCT = (STATUS, RFQ)
NEW_NAMES = {"level2_50": "level2_batch", "ticker_1000": "ticker_batch"}
OLD_NAMES = {new: old for old, new in NEW_NAMES.items()}
"""Acks know these alone (section 1)."""
SIGNED = ("level2", "level3", "full")
PRIVATE = ("user", "balance")
UNSIGNED = (
    "level2, level3, and full channels now require authentication. "
    "https://docs.cdp.coinbase.com/exchange/docs/websocket-channels"
)
FAILED = "Failed to subscribe"
RULES = Rules(connects_at_once=20, messages=100, idle=0, skipped=frozenset(("trades",)), counted=False)


class _Refused(Exception):
    """A message, as a whole."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.message, self.reason = message, reason


class _Channel(Struct):
    name: str
    product_ids: list[str] = []


class _Request(Struct):
    """Products beside the channels are for those that are only named."""

    type: str
    channels: list[str | _Channel] = []
    product_ids: list[str] = []
    signature: str = ""
    key: str = ""
    passphrase: str = ""
    timestamp: str | int | float = ""


_read = json.Decoder(_Request).decode


class CoinbaseExchange:
    """See ``SimVenue``. It shows the market of Advanced Trade: same products, books and ids."""

    name = "coinbase-exchange"
    book_clock_ns = 1_000
    instruments_path = "/products"

    def __init__(self, truths: Mapping[str, Truth], faults: Faults, seed: int) -> None:
        self._papers = {symbol: Paper(truth) for symbol, truth in truths.items()}
        self._sockets = Sockets(self.name, RULES, faults, seed, self._make)
        gone = [it for it in aliases(self._papers) if it in ("BTC-USDC", "ETH-USDC")]
        self._rest = CoinbaseExchangeRest(self.name, self._papers, gone, faults)

    def number(self, trade_id: str) -> int:
        return int(trade_id)

    def match(self, symbol: str, number: int) -> Match | None:
        return self._papers[symbol].truth.match(number)

    def skipped(self, symbol: str) -> Sequence[int]:
        return self._papers[symbol].truth.skipped()

    def _make(self, channel: str, symbol: str) -> Feed:
        match channel:
            case "status":
                return Status(self._rest.listed)
            case "rfq_matches":
                return Mute()
        return MAKERS[channel](self._papers[symbol])

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
            body = {"type": "error", "message": refused.message, "reason": refused.reason}
            return [self._sockets.say(client, Said(json.encode(body)))]

    def _obey(self, client: Client, frame: bytes, now: int) -> list[Action]:
        """The ack, then the data (as captured)."""
        if len(frame) > MAX_MESSAGE:
            raise _Refused("Message too big")
        if not self._sockets.may_send(now):
            raise _Refused("ErrSlowRead")
        try:
            request = _read(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused("Malformed JSON") from error
        wanted = _wanted(request)
        signed = self._signed(request, now)
        out: list[Action] = []
        match request.type:
            case "subscribe":
                self._check(wanted, now, signed=signed)
                for channel, products in wanted:
                    out += self._sockets.join(client, channel, products, now)
            case "unsubscribe":
                for channel, products in wanted:
                    self._sockets.leave(client, channel, [] if channel in OF_NO_PRODUCT else products)
            case kind:
                raise _Refused(FAILED, f"{kind} is not a valid type")
        return [self._ack(client), *out]

    def _signed(self, request: _Request, now: int) -> bool:
        """Whether an account asks. One that is claimed and not proved is refused (section 10)."""
        if not (request.signature or request.key or request.passphrase or request.timestamp):
            return False
        if not signature_is_good(
            request.key, request.passphrase, str(request.timestamp), request.signature,
            now + self._sockets.skew(now),
        ):
            raise _Refused("Authentication Failed", "invalid signature")
        return True

    def _check(self, wanted: list[tuple[str, list[str]]], now: int, *, signed: bool) -> None:
        """One thing that is wrong spoils all."""
        if not wanted:
            raise _Refused(FAILED, "channels must be specified")
        for channel, products in wanted:
            if channel in SIGNED and not signed:
                raise _Refused(FAILED, UNSIGNED)
            if channel in PRIVATE and not signed:
                raise _Refused(FAILED, f"{channel} channel requires authentication")
            if channel not in (*MAKERS, *OF_NO_PRODUCT):
                raise _Refused(FAILED, f"{channel} is not a valid channel")
            if not products:
                raise _Refused(FAILED, f"You need to specify at least one product ID for channel {channel}")
            for it in products if channel not in OF_NO_PRODUCT else ():
                if it not in self._papers or not self._sockets.may_hear(channel, it, now):
                    raise _Refused(FAILED, f"{it} is not a valid product")

    def _ack(self, client: Client) -> Action:
        rows = [
            {"name": OLD_NAMES.get(channel, channel), "product_ids": [it for it in products if it], "account_ids": None}
            for channel, products in self._sockets.heard_by(client).items()
        ]
        return self._sockets.say(client, Said(json.encode({"type": "subscriptions", "channels": rows})))

    # --- the market, time, REST ---------------------------------------------------------------------------------------

    def happen(self, it: Happening, now: int) -> list[Action]:
        return self._sockets.happen(it.listing.symbol, now)

    def next_wake(self) -> int | None:
        return self._sockets.next_wake()

    def wake(self, now: int) -> list[Action]:
        return self._sockets.wake(now)

    def request(self, method: str, target: str, now: int, headers: Mapping[str, str], client: str) -> Response:
        return self._rest.request(method, target, now, self._sockets.skew(now), client)


def _wanted(request: _Request) -> list[tuple[str, list[str]]]:
    """Channels by their new names, with their products: the empty one where there are none."""
    asked = [_Channel(it, request.product_ids) if isinstance(it, str) else it for it in request.channels]
    return [
        (name := NEW_NAMES.get(it.name, it.name), [""] if name in OF_NO_PRODUCT else it.product_ids) for it in asked
    ]
