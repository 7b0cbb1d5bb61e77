"""Coinbase Advanced Trade: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview"""
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal
from urllib.parse import parse_qs, quote, unquote, urlsplit

import msgspec
from msgspec import Meta, Raw, Struct, json

from onetape.book import OrderBook
from onetape.clock import MINUTE, SECOND, interval_ns, rfc3339
from onetape.credentials import Credentials
from onetape.errors import BadFrame, ClockSkew, GiveUp, TryAgain
from onetape.model import (
    TAGGED_OBJECTS,
    BookDelta,
    BookSnapshot,
    Candle,
    Capabilities,
    Channel,
    ConnectionGap,
    Instrument,
    InstrumentId,
    Kind,
    Level,
    Levels,
    Quote,
    Request,
    RestKind,
    Side,
    Source,
    Subscription,
    Ticker,
    Trade,
    VenueStatus,
)
from onetape.model.numbers import level_number, number, optional, optional_signed, positive
from onetape.venues.base import (
    UNREADABLE,
    Acked,
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
    batches,
    milliseconds,
    next_step,
    readable,
    retry_after_ns,
)
from onetape.venues.signing import coinbase_nonce, coinbase_token

WIRE = {
    Channel.TRADES: "market_trades", Channel.QUOTES: "ticker", Channel.TICKER: "ticker", Channel.CANDLES: "candles",
    Channel.BOOK: "level2", Channel.STATUS: "status",
}
GRANULARITIES = {  # of REST; the channel has 5m and nothing else
    "1m": "ONE_MINUTE", "5m": "FIVE_MINUTE", "15m": "FIFTEEN_MINUTE", "30m": "THIRTY_MINUTE", "1h": "ONE_HOUR",
    "2h": "TWO_HOUR", "4h": "FOUR_HOUR", "6h": "SIX_HOUR", "1d": "ONE_DAY",
}
CANDLES_PER_PAGE = 350  # 351 are refused
ROOT = "/api/v3/brokerage"
PAST = "/products"
"""Of Coinbase Exchange, whose trades are the same, by the same ids: only there can they be asked for by id."""
TRADES_PER_PAGE = 1_000

SPEC = Spec(
    name="coinbase",
    exchange="coinbase",
    documentation="https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview",
    endpoints={
        "production": Endpoints({"": ("wss://advanced-trade-ws.coinbase.com",)}, ("https://api.coinbase.com",),
                                history=("https://api.exchange.coinbase.com",)),
    },
    capabilities=Capabilities(
        channels=frozenset(WIRE),
        depths=(0,),
        intervals=("5m",),
        verification="sequence",
        tape=Channel.TRADES,
    ),
    book=BookRules(Snapshots.IN_BAND, resends=False, counted=True, crossed_grace_ns=SECOND),
    limits=Limits(
        args=100,  # none is published: short enough never to be "Message too big"
        sends_per_second=4.0,  # 8 are allowed per IP
        connects=8,
        connects_per_ns=SECOND,
        # A snapshot of BTC-USD is 5 MB; clients with a lower limit time out: github.com/ccxt/ccxt/issues/23597
        receive_bytes=32 * 2**20,
    ),
    timings=Timings(silence_ns=5 * SECOND, heartbeat_ns=10 * SECOND),  # a heartbeat comes each second
    history=History(shares="coinbase-exchange", search=Search.NEVER),
    budget=Budget(5, SECOND),  # none is published; older pages said 10
)

Id = Annotated[str, Meta(pattern="^[0-9]{1,18}$")]
Seconds = Annotated[str, Meta(pattern="^[0-8]?[0-9]{1,9}$")]  # to 2255: with an interval on top it fits 64 bits in ns


class _Frame(Struct, gc=False, tag_field="channel"):
    timestamp: str  # RFC 3339, ns
    sequence_num: Whole  # counts all frames of the socket


class _BookEvent(Struct, gc=False):
    type: Literal["snapshot", "update"]
    product_id: str
    updates: Raw  # both sides mixed: "bid" and "offer", never "ask"; sizes are absolute


class Level2(_Frame, tag="l2_data"):
    events: list[_BookEvent]


class MarketTrade(Struct, gc=False):
    trade_id: Id | Whole  # consecutive per product; a number on Exchange
    price: str
    size: str  # base
    side: Literal["BUY", "SELL", "buy", "sell"]  # of the MAKER; lower case on Exchange
    time: str  # RFC 3339
    product_id: str = ""  # REST of Exchange does not repeat it


class _TradesEvent(Struct, gc=False):
    type: str  # snapshot, update
    trades: list[MarketTrade]  # of several products; the snapshot in descending order


class MarketTrades(_Frame, tag="market_trades"):
    events: list[_TradesEvent]


class _TickerRow(Struct, gc=False):
    product_id: str
    price: str = ""
    volume_24_h: str = ""  # base
    low_24_h: str = ""
    high_24_h: str = ""
    price_percent_chg_24_h: str = ""
    best_bid: str = ""  # the four of these are absent from ticker_batch
    best_bid_quantity: str = ""
    best_ask: str = ""
    best_ask_quantity: str = ""


class _TickerEvent(Struct, gc=False):
    tickers: list[_TickerRow]


class Tickers(_Frame, tag="ticker"):
    events: list[_TickerEvent]


class TickerBatch(Tickers, tag="ticker_batch"):
    """The same, every 5 s at most; not subscribed to, but in recordings."""


class CandleRow(Struct, gc=False):
    start: Seconds
    low: str
    high: str
    open: str
    close: str
    volume: str  # base
    product_id: str = ""  # REST does not repeat it


class _CandlesEvent(Struct, gc=False):
    candles: list[CandleRow]


class Candles(_Frame, tag="candles"):
    events: list[_CandlesEvent]


class StatusRow(Struct, gc=False):
    id: str = ""  # product
    status: str = ""  # online, offline, internal, delisted
    status_message: str | None = None


class _StatusEvent(Struct, gc=False):
    products: list[StatusRow] = []


class Statuses(_Frame, tag="status"):
    events: list[_StatusEvent]


class Heartbeats(_Frame, tag="heartbeats"):
    """Its time is Go's print format and its counter now a number, now text: neither is read."""


class _SubscriptionsEvent(Struct, gc=False):
    subscriptions: dict[str, list[str] | None]  # by channel, the complete set


class Subscriptions(_Frame, tag="subscriptions"):
    events: list[_SubscriptionsEvent]


class Other(Struct, gc=False):
    """An error, or a channel that we do not know."""

    channel: str = ""
    type: str = ""  # error
    message: str = ""
    sequence_num: Whole | None = None  # absent from errors


Frame = Level2 | MarketTrades | Tickers | TickerBatch | Candles | Statuses | Heartbeats | Subscriptions

_decode: Callable[[bytes], Frame] = json.Decoder(Frame).decode
_decode_other = json.Decoder(Other).decode

CHANNELS = {
    "l2_data": Channel.BOOK, "level2": Channel.BOOK, "market_trades": Channel.TRADES, "ticker": Channel.TICKER,
    "ticker_batch": Channel.TICKER, "candles": Channel.CANDLES, "status": Channel.STATUS,
}
KNOWN = frozenset(CHANNELS) - {"level2"} | {"heartbeats", "subscriptions"}
MAX_REPEATED = 100
MAX_PRODUCTS = 20_000  # whose books are counted: far more than Coinbase has
CHANNEL = re.compile(rb'"channel"\s*:\s*"(\w+)"')
PRODUCT = re.compile(rb'"product_id"\s*:\s*"([^"]+)"')


class Coinbase:
    spec: ClassVar[Spec] = SPEC

    def __init__(self, route: str = "") -> None:
        self.route = route
        self._wanted = Wanted()
        self._beating = False
        self._tokens = 0
        self._expected: int | None = None
        self._repeated = 0  # frames in a row whose number had passed
        self._arrivals: dict[str, int] = {}  # book events by product
        self._running: dict[str, CandleRow] = {}  # by product, the newest bucket as it was last told

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        return ""

    # --- out --------------------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        return []

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        """Each subscription has a token of its own; once accepted, it outlives it."""
        if not frame.startswith(SUBSCRIBE):
            return frame
        self._tokens += 1
        token = coinbase_token(credentials, now, coinbase_nonce(credentials, now, self._tokens))
        return frame[:-1] + f',"jwt":"{token}"}}'.encode()

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        names = [(_wire(it), it.symbol) for it in wanted]
        for (channel, _), it in zip(names, wanted, strict=True):
            self._wanted.add(channel, it)
        frames = _request("subscribe", names)
        if frames and not self._beating:  # without heartbeats a quiet channel is closed after 60 to 90 s
            self._beating = True
            frames.insert(0, b'{"type":"subscribe","channel":"heartbeats"}')
        return frames

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        # Quotes and ticker share a channel: it is left only when nobody needs it any more.
        return _request("unsubscribe", [
            (channel, it.symbol) for it in wanted if self._wanted.remove(channel := _wire(it), it)
        ])

    def ping(self, number: int) -> bytes | None:
        return None

    # --- in ---------------------------------------------------------------------------------------------------------

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        """One counter runs over all frames of the socket, acks and heartbeats too: what was lost cannot be attributed.

        A new connection begins at 0, but the first number seen is taken as it is: a recording may start midway, and
        what was lost before the first frame can have spoiled nothing that comes after it.
        """
        expected = self._expected
        try:
            it = _read(frame)
            got = it.sequence_num
            if got is None:
                return self._events(it, received)
            if expected is not None and got < expected and not self._began_anew(got, expected):
                self._repeated += 1
                return (Unknown("duplicate sequence_num"),)
            events = self._events(it, received)
        except UNREADABLE:
            if _number(frame) == expected is not None:  # it came, if only to be refused: the next one is no gap
                self._expected = expected + 1
            raise
        self._expected, self._repeated = got + 1, 0
        if expected is None or got == expected:
            return events
        gap = ConnectionGap(
            venue=self.spec.name, received_time=received, available_at=received, expected=expected, got=got
        )
        return (gap, *events)

    def _began_anew(self, got: int, expected: int) -> bool:
        """A repeated frame is a repetition; a 0 late on, or very many in a row, are another series."""
        return (got == 0 and expected > 1) or self._repeated >= MAX_REPEATED

    def _events(self, it: Frame | Other, received: int) -> Sequence[Parsed]:
        match it:
            case Level2():
                return self._book(it, received)
            case MarketTrades():
                return self._trades(it, received)
            case Tickers():
                return self._tickers(it, received)
            case Candles():
                return self._candles(it, received)
            case Statuses():
                time = moment(it.timestamp, received)
                return [
                    venue_status(self.spec.name, row, time, received)
                    for event in it.events for row in event.products if row.id
                ]
            case Heartbeats():
                return (Alive(),)
            case Subscriptions():
                return self._wanted.acked([
                    (name, products or ()) for event in it.events for name, products in event.subscriptions.items()
                ], CHANNELS)
            case Other():
                if it.channel or it.type != "error":
                    return (Unknown(it.channel or it.type),)
                return (self._wanted.login_refused(it.message) or self._wanted.refused(it.message),)

    def _book(self, it: Level2, received: int) -> Sequence[Parsed]:
        # Levels' own event_time goes back and forth, and was 1970 in old snapshots: the frame's time it is.
        time = moment(it.timestamp, received)
        counts: dict[str, int] = {}
        out: list[Parsed] = []
        for event in it.events:
            symbol = event.product_id
            after = counts.get(symbol, self._arrivals.get(symbol, 0))
            counts[symbol] = after + 1
            bids = Levels(event.updates, TAGGED_OBJECTS, "bid")
            asks = Levels(event.updates, TAGGED_OBJECTS, "offer")
            if event.type == "snapshot":
                out.append(BookSnapshot(
                    venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received,
                    available_at=received, sequence=after + 1, bids=bids, asks=asks, depth=0, verification="sequence",
                ))
            else:
                out.append(BookDelta(
                    venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received,
                    available_at=received, after=after, sequence=after + 1, bids=bids, asks=asks,
                ))
        if len(self._arrivals) + len(counts) > MAX_PRODUCTS:
            raise BadFrame("books of more products than there can be")
        self._arrivals.update(counts)
        return out

    def _trades(self, it: MarketTrades, received: int) -> Sequence[Parsed]:
        out: list[Parsed] = []
        for event in it.events:
            source = Source.SNAPSHOT if event.type == "snapshot" else Source.LIVE
            rows = sorted(event.trades, key=trade_id)
            out += [trade(self.spec.name, row.product_id, row, received, source) for row in rows]
        return out

    def _tickers(self, it: Tickers, received: int) -> Sequence[Parsed]:
        time = moment(it.timestamp, received)
        out: list[Parsed] = []
        for row in (row for event in it.events for row in event.tickers):
            out.append(Ticker(
                venue=self.spec.name, symbol=row.product_id, exchange_time=time, received_time=received,
                available_at=received, last=optional(row.price), price_change=None,
                price_change_percent=optional_signed(row.price_percent_chg_24_h), high=optional(row.high_24_h),
                low=optional(row.low_24_h), volume=optional(row.volume_24_h), quote_volume=None,
            ))
            if (row.best_bid or row.best_ask) and self._wanted.has("ticker", row.product_id, Channel.QUOTES):
                out.append(Quote(
                    venue=self.spec.name, symbol=row.product_id, exchange_time=time, received_time=received,
                    available_at=received, bid=_level(row.best_bid, row.best_bid_quantity),
                    ask=_level(row.best_ask, row.best_ask_quantity),
                ))
        return out

    def _candles(self, it: Candles, received: int) -> Sequence[Parsed]:
        """Nothing says that a bucket is closed; that a later one has begun does."""
        time = moment(it.timestamp, received)
        rows: dict[str, list[CandleRow]] = {}
        for event in it.events:
            for row in event.candles:
                rows.setdefault(row.product_id, []).append(row)
        return [told for product, of in rows.items() for told in self._bucket(product, of, time, received)]

    def _bucket(self, product: str, rows: list[CandleRow], time: int, received: int) -> Iterator[Candle]:
        rows.sort(key=_start)
        running = self._running.get(product)
        if running is None and len(self._running) >= MAX_PRODUCTS:
            raise BadFrame("candles of more products than there can be", product, Channel.CANDLES)
        if running is not None and _start(running) < _start(rows[0]):
            yield candle(self.spec.name, product, running, "5m", time, received, final=True)
        for row in rows:
            if running is None or _start(row) >= _start(running):  # else told as final before
                yield candle(self.spec.name, product, row, "5m", time, received, final=row is not rows[-1])
                self._running[product] = row

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        match = CHANNEL.search(frame)
        channel = CHANNELS.get(match[1].decode()) if match else None
        products = set(PRODUCT.findall(frame))
        # A frame may hold events of several products: one that was cut may have spoken of more than can be seen.
        if channel is None or len(products) != 1 or not frame.rstrip().endswith(b"}"):
            return "", channel
        return products.pop().decode("utf-8", "replace"), channel

    def checksum(self, symbol: str, book: OrderBook) -> int:
        raise ValueError("Coinbase numbers its frames and sums nothing")

    # --- REST -------------------------------------------------------------------------------------------------------

    def time_request(self) -> Request:
        return Request(RestKind.TIME, f"{ROOT}/time")

    def parse_time(self, body: bytes) -> int:
        return milliseconds(_decode_time(body).epochMillis)

    def instrument_requests(self) -> list[Request]:
        return [Request(RestKind.INSTRUMENTS, f"{ROOT}/market/products?product_type=SPOT")]

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        return readable(_instrument, _decode_products(body).products), None  # without a limit, one page holds them all

    def book_request(self, symbol: str, depth: int) -> Request:
        limit = min(depth or 1_000, 1_000)
        return Request(
            RestKind.BOOK, f"{ROOT}/market/product_book?product_id={_quoted(symbol)}&limit={limit}", symbol, depth=limit
        )

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot:
        """Carries no number that the stream knows: good for a comparison, not to start from."""
        it = _decode_book(body).pricebook
        return BookSnapshot(
            venue=self.spec.name, symbol=request.symbol, exchange_time=moment(it.time, received),
            received_time=received, available_at=received, sequence=0, bids=_levels(it.bids), asks=_levels(it.asks),
            depth=request.depth, verification="none",
        )

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        """Between ids of Coinbase Exchange, which shows the same trades; else the newest of Advanced Trade itself,
        which knows no cursor and stops at 100 of them."""
        if before is not None:
            path = f"{PAST}/{_quoted(symbol)}/trades?limit={TRADES_PER_PAGE}&after={int(before) + 1}"  # the page below
        else:
            start = f"&start={since // SECOND}" if since is not None else ""
            path = f"{ROOT}/market/products/{_quoted(symbol)}/ticker?limit=1000{start}"
        return Request(RestKind.TRADES, path, symbol, channel=Channel.TRADES)

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        found = _decode_past(body) if request.path.startswith(PAST) else _decode_trades(body).trades
        rows = sorted(found, key=trade_id)
        return [trade(self.spec.name, request.symbol, it, received, Source.BACKFILL) for it in rows]

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        end = min(end, start + CANDLES_PER_PAGE * interval_ns(interval))
        return Request(
            RestKind.CANDLES,
            f"{ROOT}/market/products/{_quoted(symbol)}/candles?start={start // SECOND}&end={end // SECOND - 1}"
            f"&granularity={GRANULARITIES[interval]}&limit={CANDLES_PER_PAGE}",
            symbol, interval=interval,
        )

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        length = interval_ns(request.interval)
        ends = [(int(it.start) * SECOND + length, it) for it in _decode_candles(body).candles]
        return [
            candle(self.spec.name, request.symbol, it, request.interval, end, received, settled(end, received))
            for end, it in reversed(ends)
        ]

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        check(status, headers, body)

    def request_of(self, url: str) -> Request | None:
        parts = urlsplit(url)
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        if parts.path.startswith(PAST) and parts.path.endswith("/trades"):
            return Request(RestKind.TRADES, path, unquote(parts.path.split("/")[2]), channel=Channel.TRADES)
        if not parts.path.startswith(ROOT):
            return None
        match parts.path.removeprefix(ROOT).strip("/").split("/"):
            case ["time"]:
                return Request(RestKind.TIME, path)
            case ["market", "products"]:
                return Request(RestKind.INSTRUMENTS, path)
            case ["market", "product_book"]:
                limit = asked.get("limit", "")
                return Request(
                    RestKind.BOOK, path, asked.get("product_id", ""), depth=int(limit) if limit.isdecimal() else 0
                )
            case ["market", "products", symbol, "ticker"]:
                return Request(RestKind.TRADES, path, unquote(symbol), channel=Channel.TRADES)
            case ["market", "products", symbol, "candles"]:
                names = {granularity: interval for interval, granularity in GRANULARITIES.items()}
                return Request(
                    RestKind.CANDLES, path, unquote(symbol), interval=names.get(asked.get("granularity", ""), "")
                )
            case _:
                return None


def _read(frame: bytes) -> Frame | Other:
    try:
        return _decode(frame)
    except msgspec.ValidationError:
        other = _decode_other(frame)
        if other.channel in KNOWN or not (other.channel or other.type):
            raise
        return other


def _number(frame: bytes) -> int | None:
    """The number of a frame whose content could not be read."""
    try:
        return _decode_other(frame).sequence_num
    except UNREADABLE:
        return None


def _wire(it: Subscription) -> str:
    if it.channel not in WIRE:
        raise ValueError(f"Coinbase Advanced Trade has no channel {it.channel}")
    return WIRE[it.channel]


def _request(verb: str, names: Sequence[tuple[str, str]]) -> list[bytes]:
    """One channel a message."""
    return [
        (f'{{"type":"{verb}","product_ids":{products},"channel":"{channel}"}}' if products else
         f'{{"type":"{verb}","channel":"{channel}"}}').encode()
        for channel, products in grouped(names, SPEC.limits)
    ]


def _quoted(symbol: str) -> str:
    return quote(symbol, safe="")


def _level(price: str, size: str) -> Level | None:
    """A side without orders is sent as zeros or empty."""
    level = level_number(price or "0"), level_number(size or "0")
    return level if level[0] else None


# --- REST: bodies -----------------------------------------------------------------------------------------------------


class _Time(Struct):
    epochMillis: str  # `iso` may come without seconds


class _Product(Struct):
    product_id: str  # symbol
    product_type: str  # SPOT, FUTURE
    base_currency_id: str  # empty for futures
    quote_currency_id: str
    price_increment: str  # tick
    base_increment: str  # lot
    status: str  # online, delisted; empty for futures
    base_min_size: str = ""
    alias: str | None = ""  # the product whose book this one shows; alias_to is its inverse
    is_disabled: bool = False
    trading_disabled: bool = False
    view_only: bool = False
    cancel_only: bool = False
    post_only: bool = False
    auction_mode: bool = False


class _Products(Struct):
    products: list[Raw]


class _PriceSize(Struct, gc=False):
    price: str
    size: str


class _PriceBook(Struct):
    bids: list[_PriceSize]
    asks: list[_PriceSize]
    time: str = ""


class _Book(Struct):
    pricebook: _PriceBook


class _TradesBody(Struct):
    trades: list[MarketTrade]  # newest first


class _CandlesBody(Struct):
    candles: list[CandleRow]  # newest first


_decode_time = json.Decoder(_Time).decode
_decode_product = json.Decoder(_Product).decode
_decode_products = json.Decoder(_Products).decode
_decode_book = json.Decoder(_Book).decode
_decode_trades = json.Decoder(_TradesBody).decode
_decode_past = json.Decoder(list[MarketTrade]).decode
_decode_candles = json.Decoder(_CandlesBody).decode


def _instrument(row: Raw) -> Instrument:
    it = _decode_product(row)
    closed = (
        it.is_disabled or it.trading_disabled or it.view_only or it.cancel_only or it.post_only or it.auction_mode
    )
    # BTC-USDC is another name for the book of BTC-USD: offered twice, the same orders would count twice.
    spot = it.product_type == "SPOT" and not it.alias
    if spot and not (it.base_currency_id and it.quote_currency_id):
        raise BadFrame("a product without its currencies", it.product_id)
    return Instrument(
        id=InstrumentId(SPEC.name, it.product_id), kind=Kind.SPOT if spot else Kind.OTHER,
        pair=f"{it.base_currency_id}-{it.quote_currency_id}" if spot else "", base=it.base_currency_id,
        quote=it.quote_currency_id, tradable=it.status == "online" and not it.alias and not closed,
        status="alias" if it.alias else it.status, tick_size=positive(it.price_increment),
        lot_size=positive(it.base_increment), min_size=optional(it.base_min_size), may_cross=it.auction_mode,
    )


def _levels(rows: Iterable[_PriceSize]) -> Levels:
    return Levels.of((level_number(it.price), level_number(it.size)) for it in rows)


# --- what both feeds of Coinbase share --------------------------------------------------------------------------------

# Trades carry the side of the MAKER, on both feeds and in REST: github.com/Tucsky/aggr/issues/253
TAKER = {"BUY": Side.SELL, "SELL": Side.BUY, "buy": Side.SELL, "sell": Side.BUY}
REFUSALS = {
    "ErrSlowConsume": Reaction.RECONNECT,  # the server's queue is full: we read too slowly
    "ErrSlowRead": Reaction.RETRY,  # we send too fast
    "rate limit": Reaction.RETRY,
    "too many": Reaction.RETRY,
    "internal": Reaction.RETRY,
}
WORD = re.compile(r"[\w-]+")
SUBSCRIBE = b'{"type":"subscribe",'


class Wanted:
    """What a connection has asked for, to be found again by the venue's words: acks and errors carry no number."""

    def __init__(self) -> None:
        self._asked: dict[tuple[str, str], set[Subscription]] = {}  # by channel of the venue and product
        self._leaving: dict[tuple[str, str], set[Subscription]] = {}
        self._accepted = False
        self._settled: set[tuple[str, str]] = set()  # acked, or asked for once more after others were refused

    def add(self, channel: str, it: Subscription) -> None:
        self._asked.setdefault((channel, it.symbol), set()).add(it)
        self._leaving.pop((channel, it.symbol), None)

    def remove(self, channel: str, it: Subscription) -> bool:
        """True if nothing else needs that channel of that product."""
        name = channel, it.symbol
        self._leaving.setdefault(name, set()).add(it)
        others = self._asked.get(name, set())
        others.discard(it)
        if not others:
            self._asked.pop(name, None)
        return not others

    def has(self, name: str, symbol: str, channel: Channel) -> bool:
        return any(it.channel is channel for it in self._asked.get((name, symbol), ()))

    def on(self, name: str) -> tuple[Subscription, ...]:
        return tuple(sorted(it for (channel, _), asked in self._asked.items() if channel == name for it in asked))

    def acked(
        self, listed: Iterable[tuple[str, Iterable[str]]], channels: Mapping[str, Channel],
    ) -> list[Acked]:
        """``listed`` is the complete set, by channel: what was to go and is not in it has gone."""
        names = dict.fromkeys(
            (name, product) for name, products in listed if name in channels
            for product in (*products, *([""] if channels[name] is Channel.STATUS else ()))
        )
        self._settled.update(name for name in names if name in self._asked)
        there: set[Subscription] = set()
        for channel, product in names:  # who wants the state of one product gets that of all
            asked = self._asked.get((channel, product)) or (set() if product else set(self.on(channel)))
            there |= asked or {_subscription(channels[channel], product)}
        self._accepted = self._accepted or bool(names)
        gone = {name for name in self._leaving if name not in names}
        left = [it for name in gone for it in self._leaving.pop(name)]
        return [Acked(tuple(sorted(there))), *([Acked(tuple(sorted(left)), removed=True)] if left else ())]

    def login_refused(self, reason: str) -> LoginRefused | Refused | None:
        """Of what an error says: not that a channel needs a login, but that the one which came is wrong, or late.

        Who was accepted before on this connection has the right key: something passing, to be tried on another.
        """
        words = reason.lower()
        if "authentication fail" not in words:
            return None
        passing = self._accepted or "expired" in words
        return Refused((), reason, Reaction.RECONNECT) if passing else LoginRefused(reason)

    def refused(self, reason: str) -> Refused:
        """Only words say what is refused: all that was wanted of the products that they name.

        The rest of the message may have been refused with it, and nothing says which message that was.
        """
        words = set(WORD.findall(reason))
        named = [it for (_, symbol), asked in self._asked.items() if symbol in words for it in asked]
        rest = [name for name in self._asked if named and name[1] not in words and name not in self._settled]
        self._settled.update(rest)
        others = tuple(sorted(it for name in rest for it in self._asked[name]))
        return Refused(tuple(sorted(named)), reason, next_step(REFUSALS, reason), others=others)


def _subscription(channel: Channel, symbol: str) -> Subscription:
    return Subscription(symbol, channel, interval="5m" if channel is Channel.CANDLES else "")


def grouped(names: Iterable[tuple[str, str]], limits: Limits) -> Iterator[tuple[str, str]]:
    """By channel, its products as JSON arrays within the limits; no array where the whole venue is meant.

    One channel a message on both feeds: where one product is bad, the whole message may be refused.
    """
    channels: dict[str, dict[str, None]] = {}
    for channel, symbol in names:
        channels.setdefault(channel, {})[symbol] = None
    for channel, symbols in channels.items():
        if "" in symbols:
            yield channel, ""
        for batch in batches([json.encode(it).decode() for it in symbols if it], limits):
            yield channel, f"[{','.join(batch)}]"


def moment(text: str, received: int) -> int:
    """ns; the time of receipt where the venue gives none: absent, ``0001-01-01...`` or 1970."""
    time = rfc3339(text) if text else 0
    return time if time > 0 else received


def trade_id(it: MarketTrade) -> int:
    return int(it.trade_id)


def trade(venue: str, symbol: str, it: MarketTrade, received: int, source: Source) -> Trade:
    # Taken for now, an old trade without its time would land in the wrong candle.
    time = moment(it.time, 0 if source is Source.BACKFILL else received)
    if not (time and symbol):
        raise BadFrame("a trade without its time or product", symbol, Channel.TRADES)
    serial = int(it.trade_id)
    return Trade(
        venue=venue, symbol=symbol, exchange_time=time, received_time=received, available_at=received,
        channel=Channel.TRADES, id=str(serial), after=serial - 1, price=number(it.price), size=number(it.size),
        side=TAKER[it.side], source=source,
    )


def _start(it: CandleRow) -> int:
    return int(it.start)


def candle(
    venue: str, symbol: str, it: CandleRow, interval: str, time: int, received: int, final: bool,
) -> Candle:
    start = int(it.start) * SECOND
    return Candle(
        venue=venue, symbol=symbol, exchange_time=time, received_time=received, available_at=received,
        interval=interval, start=start, end=start + interval_ns(interval), open=number(it.open), high=number(it.high),
        low=number(it.low), close=number(it.close), volume=number(it.volume), quote_volume=None, vwap=None, trades=None,
        taker_buy_volume=None, complete=True, final=final, source="venue",
    )


def settled(end: int, received: int) -> bool:
    """REST shows the last minute up to a minute late."""
    return end + MINUTE <= received


def venue_status(venue: str, it: StatusRow, time: int, received: int) -> VenueStatus:
    return VenueStatus(
        venue=venue, symbol=it.id, exchange_time=time, received_time=received, available_at=received,
        status=it.status, message=it.status_message or "",
    )


class _ErrorItem(Struct):
    id: str = ""
    message: str = ""


class _Error(Struct):
    """``{"message":...}`` of Exchange, ``{"error":...,"message":...}`` or ``{"errors":[...]}`` of Advanced Trade."""

    error: str = ""
    message: str = ""
    errors: list[_ErrorItem] = []


_decode_error = json.Decoder(_Error).decode


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    if status == 200:
        return
    try:
        error = _decode_error(body)
        first = error.errors[0] if error.errors else _ErrorItem(error.error, error.message)
        reason = f"HTTP {status}: {first.id} {first.message}"
    except UNREADABLE:
        reason = f"HTTP {status}: {body[:100].decode('utf-8', 'replace')}"
    if status in (408, 429) or status >= 500:
        raise TryAgain(reason, retry_after_ns(headers))  # not promised
    if "timestamp expired" in reason:
        raise ClockSkew(reason)
    raise GiveUp(reason)
