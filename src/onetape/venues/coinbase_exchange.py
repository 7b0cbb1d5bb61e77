"""Coinbase Exchange: https://docs.cdp.coinbase.com/exchange/websocket-feed/overview"""
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec
from msgspec import Meta, Raw, Struct, json

from onetape.book import OrderBook
from onetape.clock import MINUTE, SECOND, interval_ns, isoformat, rfc3339
from onetape.credentials import Credentials
from onetape.errors import BadFrame
from onetape.model import (
    PAIRS,
    TAGGED_TRIPLES,
    BookDelta,
    BookSnapshot,
    Candle,
    Capabilities,
    Channel,
    Instrument,
    InstrumentId,
    Kind,
    Levels,
    Request,
    RestKind,
    Source,
    Subscription,
    Ticker,
    Trade,
)
from onetape.model.numbers import level_number, number, optional, positive
from onetape.venues.base import (
    Alive,
    BookRules,
    Budget,
    Endpoints,
    History,
    Limits,
    LoginRefused,
    Parsed,
    Reaction,
    Refused,
    Search,
    Snapshots,
    Spec,
    Timings,
    Unknown,
    Whole,
    readable,
)
from onetape.venues.coinbase import (
    MAX_PRODUCTS,
    SUBSCRIBE,
    MarketTrade,
    StatusRow,
    Wanted,
    check,
    grouped,
    moment,
    settled,
    trade,
    trade_id,
    venue_status,
)
from onetape.venues.signing import coinbase_exchange_fields

WIRE = {
    Channel.TRADES: "matches", Channel.TICKER: "ticker", Channel.BOOK: "level2_batch", Channel.STATUS: "status",
}
OLD_NAMES = {"level2_50": "level2_batch", "level2": "level2_batch", "ticker_1000": "ticker", "ticker_batch": "ticker"}
GRANULARITIES = {"1m": 60, "5m": 300, "15m": 900, "1h": 3_600, "6h": 21_600, "1d": 86_400}  # seconds; no others
CANDLES_PER_PAGE = 300
TRADES_PER_PAGE = 1_000

SPEC = Spec(
    name="coinbase-exchange",
    exchange="coinbase",
    documentation="https://docs.cdp.coinbase.com/exchange/websocket-feed/overview",
    endpoints={
        # The old *.pro.coinbase.com close with "deprecated hostname": github.com/bmoscon/cryptofeed/issues/1064
        "production": Endpoints(
            {"": ("wss://ws-feed.exchange.coinbase.com",)}, ("https://api.exchange.coinbase.com",)
        ),
        "sandbox": Endpoints(
            {"": ("wss://ws-feed-public.sandbox.exchange.coinbase.com",)},
            ("https://api-public.sandbox.exchange.coinbase.com",),
        ),
    },
    capabilities=Capabilities(
        channels=frozenset(WIRE),
        depths=(0,),
        intervals=tuple(GRANULARITIES),  # of REST: there is no channel of candles
        verification="none",
        tape=Channel.TRADES,
    ),
    book=BookRules(Snapshots.IN_BAND, resends=False, counted=True, crossed_grace_ns=SECOND),
    limits=Limits(
        args=100,  # none is published: short enough never to be "Message too big"
        connects=8,
        connects_per_ns=SECOND,
    ),
    # Each product has a heartbeat a second; but a connection with `status` alone has none, and may be silent for long.
    # REST has no book between the best prices and all 50,000 levels: seldom.
    timings=Timings(audit_ns=10 * MINUTE, heartbeat_ns=5 * SECOND),
    history=History(search=Search.NEVER),
    budget=Budget(10, SECOND),
)


class Match(MarketTrade, gc=False, tag_field="type", tag="match"):
    """Its `sequence` is that of the full feed, of which this is a part: it rises in jumps."""


class LastMatch(MarketTrade, gc=False, tag_field="type", tag="last_match"):
    """The last trade before the subscription: seldom a new one, but it tells the size of the hole."""


class TickerRow(Struct, gc=False, tag_field="type", tag="ticker"):
    """Sent per match: quotes that move without one are not in it. Its `side` is the TAKER's, unlike in matches."""

    product_id: str
    price: str
    open_24h: str = ""
    high_24h: str = ""
    low_24h: str = ""
    volume_24h: str = ""  # base
    time: str = ""  # was missing at times: github.com/bmoscon/cryptofeed CHANGES.md


class Snapshot(Struct, gc=False, tag_field="type", tag="snapshot"):
    product_id: str
    bids: Raw  # [price, size]; in no order that is promised
    asks: Raw


class L2Update(Struct, gc=False, tag_field="type", tag="l2update"):
    product_id: str
    changes: Raw  # [buy or sell, price, absolute size], to be applied in this order
    time: str = ""  # of the newest change


class Heartbeat(Struct, gc=False, tag_field="type", tag="heartbeat"):
    product_id: str = ""


class Status(Struct, gc=False, tag_field="type", tag="status"):
    products: list[StatusRow] = []


class _Listed(Struct, gc=False):
    name: str  # may be an old one: level2_50, ticker_1000
    product_ids: list[str] | None = None


class Subscriptions(Struct, gc=False, tag_field="type", tag="subscriptions"):
    channels: list[_Listed]  # the complete set


class Error(Struct, gc=False, tag_field="type", tag="error"):
    message: str = ""
    reason: str = ""


class Other(Struct, gc=False):
    type: str


Frame = Match | LastMatch | TickerRow | Snapshot | L2Update | Heartbeat | Status | Subscriptions | Error

_decode: Callable[[bytes], Frame] = json.Decoder(Frame).decode
_decode_other = json.Decoder(Other).decode

CHANNELS = {
    "match": Channel.TRADES, "last_match": Channel.TRADES, "ticker": Channel.TICKER, "snapshot": Channel.BOOK,
    "l2update": Channel.BOOK, "status": Channel.STATUS,
}
KNOWN = frozenset(CHANNELS) | {"heartbeat", "subscriptions", "error"}
ACKS = {name: channel for channel, name in WIRE.items()}
TYPE = re.compile(rb'"type"\s*:\s*"(\w+)"')
PRODUCT = re.compile(rb'"product_id"\s*:\s*"([^"]+)"')


class CoinbaseExchange:
    spec: ClassVar[Spec] = SPEC

    def __init__(self, route: str = "") -> None:
        self.route = route
        self._wanted = Wanted()
        self._beating: set[str] = set()
        self._book_name = "level2_batch"
        self._books: dict[str, tuple[int, int]] = {}  # by product: sequence, and time of the last update

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        return ""

    # --- out --------------------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        return []

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        """The fields of a login stand beside those of each subscription."""
        if not frame.startswith(SUBSCRIBE):
            return frame
        return frame[:-1] + b"," + json.encode(coinbase_exchange_fields(credentials, now))[1:]

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        names = [(_wire(it), it.symbol) for it in wanted]
        for (channel, _), it in zip(names, wanted, strict=True):
            self._wanted.add(channel, it)
        quiet = [symbol for _, symbol in names if symbol and symbol not in self._beating]
        self._beating.update(quiet)
        names = [(channel, "" if channel == "status" else symbol) for channel, symbol in names]  # it knows no products
        return self._request("subscribe", [*(("heartbeat", symbol) for symbol in quiet), *names])

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        """The heartbeats stay: a book is left only to be asked for again."""
        return self._request("unsubscribe", [
            (channel, it.symbol) for it in wanted if self._wanted.remove(channel := _wire(it), it)
            if channel != "status" or not self._wanted.on("status")
        ])

    def _request(self, verb: str, names: Sequence[tuple[str, str]]) -> list[bytes]:
        # Products beside the channels, for all of them, were refused at times, within a channel never:
        # github.com/thrasher-corp/gocryptotrader/pull/1421
        frames = []
        for channel, products in grouped(names, self.spec.limits):
            name = self._book_name if channel == "level2_batch" else channel
            of = f',"product_ids":{products}' if products else ""
            frames.append(f'{{"type":"{verb}","channels":[{{"name":"{name}"{of}}}]}}'.encode())
        return frames

    def ping(self, number: int) -> bytes | None:
        return None

    # --- in ---------------------------------------------------------------------------------------------------------

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        match it := _read(frame):
            case L2Update():
                return (self._delta(it, received),)
            case Match():
                return (trade(self.spec.name, it.product_id, it, received, Source.LIVE),)
            case LastMatch():
                return (trade(self.spec.name, it.product_id, it, received, Source.SNAPSHOT),)
            case TickerRow():
                return (_ticker(it, received),)
            case Snapshot():
                return (self._snapshot(it, received),)
            case Heartbeat():
                return (Alive(),)
            case Status():
                return [venue_status(self.spec.name, row, received, received) for row in it.products if row.id]
            case Subscriptions():
                listed = [(OLD_NAMES.get(row.name, row.name), row.product_ids or ()) for row in it.channels]
                return self._wanted.acked(listed, ACKS)
            case Error():
                return (self._refused(it),)
            case Other():
                return (Unknown(it.type),)

    def _snapshot(self, it: Snapshot, received: int) -> BookSnapshot:
        count, _ = self._book(it.product_id)
        self._books[it.product_id] = count + 1, 0
        return BookSnapshot(
            venue=self.spec.name, symbol=it.product_id, exchange_time=received, received_time=received,
            available_at=received, sequence=count + 1, bids=Levels(it.bids, PAIRS),
            asks=Levels(it.asks, PAIRS), depth=0, verification="none",
        )

    def _delta(self, it: L2Update, received: int) -> BookDelta:
        """No sequence, no checksum: a loss cannot be seen. Time that runs backwards is the one sign of disorder.

        Such an update begins beyond the end of the one before: the book sees a gap, and has itself synchronised anew.
        """
        count, last = self._book(it.product_id)
        time = moment(it.time, 0)
        after = count + 1 if 0 < time < last else count
        self._books[it.product_id] = after + 1, time or last
        return BookDelta(
            venue=self.spec.name, symbol=it.product_id, exchange_time=time or received, received_time=received,
            available_at=received, after=after, sequence=after + 1,
            bids=Levels(it.changes, TAGGED_TRIPLES, "buy"),
            asks=Levels(it.changes, TAGGED_TRIPLES, "sell"),
        )

    def _book(self, symbol: str) -> tuple[int, int]:
        if len(self._books) >= MAX_PRODUCTS and symbol not in self._books:
            raise BadFrame("books of more products than there can be", symbol, Channel.BOOK)
        return self._books.get(symbol, (0, 0))

    def _refused(self, it: Error) -> Refused | LoginRefused:
        reason = f"{it.message}: {it.reason}" if it.reason else it.message
        if login := self._wanted.login_refused(reason):
            return login
        # One bad product and its whole message is refused, which may have been that of the heartbeats: ask again.
        # github.com/coinbase/coinbase-pro-node/issues/174
        self._beating.clear()
        if self._book_name == "level2_batch" and "level2_batch" in reason:
            self._book_name = "level2_50"  # in May 2026 only the old name worked for some
            return Refused(self._wanted.on("level2_batch"), reason, Reaction.RETRY)
        return self._wanted.refused(reason)

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        kind, product = TYPE.search(frame), PRODUCT.search(frame)
        channel = CHANNELS.get(kind[1].decode()) if kind else None
        if channel is None or product is None:
            return "", channel
        return product[1].decode("utf-8", "replace"), channel

    def checksum(self, symbol: str, book: OrderBook) -> int:
        raise ValueError("Coinbase Exchange sums nothing")

    # --- REST -------------------------------------------------------------------------------------------------------

    def time_request(self) -> Request:
        return Request(RestKind.TIME, "/time")

    def parse_time(self, body: bytes) -> int:
        return rfc3339(_decode_time(body).iso)

    def instrument_requests(self) -> list[Request]:
        return [Request(RestKind.INSTRUMENTS, "/products")]

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        return readable(_instrument, _decode_products(body)), None

    def book_request(self, symbol: str, depth: int) -> Request:
        """The whole book, of which ``parse_book`` reads as much as is wanted."""
        return Request(RestKind.BOOK, f"/products/{_quoted(symbol)}/book?level=2", symbol, depth=depth)

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot:
        """Numbered by the full feed, not by ours: good for a comparison, not to start from."""
        it = _decode_book(body)
        return BookSnapshot(
            venue=self.spec.name, symbol=request.symbol, exchange_time=moment(it.time, received),
            received_time=received, available_at=received, sequence=it.sequence,
            bids=_levels(it.bids, request.depth), asks=_levels(it.asks, request.depth), depth=request.depth,
            verification="none",
        )

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        """Backwards from ``before``, for ``after=X`` means the page below X, and ids have no gaps.

        ``before=X`` of the venue is no help: it gives the newest page, not the one above X. Nor can time be asked for.
        """
        cursor = ""
        if before is not None:
            cursor = f"&after={int(before) + 1}"
        elif after is not None:
            cursor = f"&after={int(after) + TRADES_PER_PAGE}"
        return Request(
            RestKind.TRADES, f"/products/{_quoted(symbol)}/trades?limit={TRADES_PER_PAGE}{cursor}", symbol,
            channel=Channel.TRADES,
        )

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        rows = sorted(_decode_trades(body), key=trade_id)
        return [trade(self.spec.name, request.symbol, it, received, Source.BACKFILL) for it in rows]

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        # Both bounds always, and both are inclusive: without them the answer may be 5 minutes old.
        end = min(end, start + CANDLES_PER_PAGE * interval_ns(interval)) - SECOND
        return Request(
            RestKind.CANDLES,
            f"/products/{_quoted(symbol)}/candles?granularity={GRANULARITIES[interval]}"
            f"&start={isoformat(start)[:19]}Z&end={isoformat(end)[:19]}Z",
            symbol, interval=interval,
        )

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        length = interval_ns(request.interval)
        return [_candle(request, row, length, received) for row in sorted(_decode_candles(body), key=_start)]

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        check(status, headers, body)

    def request_of(self, url: str) -> Request | None:
        parts = urlsplit(url)
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        match parts.path.strip("/").split("/"):
            case ["time"]:
                return Request(RestKind.TIME, path)
            case ["products"]:
                return Request(RestKind.INSTRUMENTS, path)
            case ["products", symbol, "book"] if asked.get("level", "1") != "3":  # level 3 is orders, not levels
                return Request(RestKind.BOOK, path, unquote(symbol), depth=0 if asked.get("level") == "2" else 1)
            case ["products", symbol, "trades"]:
                return Request(RestKind.TRADES, path, unquote(symbol), channel=Channel.TRADES)
            case ["products", symbol, "candles"]:
                names = {str(seconds): interval for interval, seconds in GRANULARITIES.items()}
                return Request(
                    RestKind.CANDLES, path, unquote(symbol), interval=names.get(asked.get("granularity", ""), "")
                )
            case _:
                return None


def _read(frame: bytes) -> Frame | Other:
    try:
        return _decode(frame)
    except msgspec.ValidationError:
        other: Other = _decode_other(frame)
        if other.type in KNOWN:
            raise
        return other


def _wire(it: Subscription) -> str:
    if it.channel not in WIRE:
        raise ValueError(f"Coinbase Exchange has no channel {it.channel}")
    return WIRE[it.channel]


def _quoted(symbol: str) -> str:
    return quote(symbol, safe="")


def _ticker(it: TickerRow, received: int) -> Ticker:
    price, opened = number(it.price), optional(it.open_24h)
    return Ticker(
        venue=SPEC.name, symbol=it.product_id, exchange_time=moment(it.time, received), received_time=received,
        available_at=received, last=price, price_change=None if opened is None else price - opened,
        price_change_percent=None, high=optional(it.high_24h), low=optional(it.low_24h),
        volume=optional(it.volume_24h), quote_volume=None,
    )


# --- REST: bodies -----------------------------------------------------------------------------------------------------


class _Time(Struct):
    iso: str  # beside it `epoch`, a JSON number with a fraction


class _Product(Struct):
    id: str  # symbol
    base_currency: str
    quote_currency: str
    base_increment: str  # lot
    quote_increment: str  # tick
    status: str  # online, offline, internal, delisted
    base_min_size: str | None = None  # gone since 2022-06-30
    trading_disabled: bool = False
    cancel_only: bool = False
    post_only: bool = False
    auction_mode: bool = False


class _Book(Struct):
    bids: Raw  # price, size, number of orders; best first
    asks: Raw
    sequence: Whole
    time: str = ""


Seconds = Annotated[int, Meta(ge=0, le=9_000_000_000)]  # to 2255: with an interval on top it fits 64 bits in ns
CandleRow = tuple[Seconds, Raw, Raw, Raw, Raw, Raw]  # start, LOW, HIGH, open, close, volume: numbers, as text

_decode_time = json.Decoder(_Time).decode
_decode_product = json.Decoder(_Product).decode
_decode_products = json.Decoder(list[Raw]).decode
_decode_book = json.Decoder(_Book).decode
_decode_levels = json.Decoder(list[tuple[str, str, int]]).decode
_decode_trades = json.Decoder(list[MarketTrade]).decode
_decode_candles = json.Decoder(list[CandleRow]).decode


def _instrument(row: Raw) -> Instrument:
    it = _decode_product(row)
    if not (it.base_currency and it.quote_currency):
        raise BadFrame("a product without its currencies", it.id)
    closed = it.trading_disabled or it.cancel_only or it.post_only or it.auction_mode
    return Instrument(
        id=InstrumentId(SPEC.name, it.id), kind=Kind.SPOT, pair=f"{it.base_currency}-{it.quote_currency}",
        base=it.base_currency, quote=it.quote_currency, tradable=it.status == "online" and not closed, status=it.status,
        tick_size=positive(it.quote_increment), lot_size=positive(it.base_increment),
        min_size=optional(it.base_min_size), may_cross=it.auction_mode,
    )


def _levels(rows: Raw, count: int) -> Levels:
    """The first ``count``, or all for 0: of 50,000 levels nobody wants to read all to compare a few."""
    text, end = bytes(rows), 0
    for _ in range(count):
        end = text.find(b"]", end) + 1
        if not end or end == len(text):
            break
    else:
        text = text[:end] + b"]" if count else text
    return Levels.of((level_number(price), level_number(size)) for price, size, _ in _decode_levels(text))


def _start(row: CandleRow) -> int:
    return row[0]


def _candle(request: Request, row: CandleRow, length: int, received: int) -> Candle:
    low, high, opened, closed, volume = (number(str(it, "ascii")) for it in row[1:])
    start = row[0] * SECOND
    return Candle(
        venue=SPEC.name, symbol=request.symbol, exchange_time=start + length, received_time=received,
        available_at=received, interval=request.interval, start=start, end=start + length, open=opened, high=high,
        low=low, close=closed, volume=volume, quote_volume=None, vwap=None, trades=None, taker_buy_volume=None,
        complete=True, final=settled(start + length, received), source="venue",
    )
