"""Binance spot: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams"""
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, ClassVar, Generic, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from msgspec import Meta, Raw, Struct, json

from onetape.book import OrderBook
from onetape.clock import HOUR, MILLISECOND, MINUTE, SECOND
from onetape.credentials import Credentials
from onetape.errors import BadFrame, ClockSkew, GiveUp, TryAgain
from onetape.model import (
    BUY,
    PAIRS,
    SELL,
    BookDelta,
    BookSnapshot,
    Candle,
    Capabilities,
    Channel,
    Instrument,
    InstrumentId,
    Kind,
    Level,
    Levels,
    Quote,
    Request,
    RestKind,
    Source,
    Subscription,
    Ticker,
    Trade,
)
from onetape.model.numbers import level_number, number, signed
from onetape.venues.base import (
    UNREADABLE,
    Acked,
    Alive,
    BookRules,
    Budget,
    Endpoints,
    Limits,
    Milliseconds,
    Notice,
    Parsed,
    Reaction,
    Refused,
    Snapshots,
    Spec,
    Timings,
    Unknown,
    Whole,
    batches,
    milliseconds,
    readable,
    retry_after_ns,
)

INTERVALS = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
PARTIAL_DEPTHS = (5, 10, 20)  # full replacements; anything deeper is the whole book by deltas

SPEC = Spec(
    name="binance",
    exchange="binance",
    documentation="https://developers.binance.com/docs/binance-spot-api-docs",
    endpoints={
        "production": Endpoints(
            {"": (
                "wss://stream.binance.com:9443/stream", "wss://stream.binance.com:443/stream",
                "wss://data-stream.binance.vision/stream",
            )},
            ("https://api.binance.com", "https://api-gcp.binance.com", "https://api1.binance.com"),
        ),
        "testnet": Endpoints(
            {"": ("wss://stream.testnet.binance.vision/stream",)}, ("https://testnet.binance.vision",)
        ),
        "demo": Endpoints({"": ("wss://demo-stream.binance.com/stream",)}, ("https://demo-api.binance.com",)),
    },
    capabilities=Capabilities(
        channels=frozenset(Channel) - {Channel.STATUS},
        depths=(0, *PARTIAL_DEPTHS),
        intervals=INTERVALS,
        verification="sequence",
        tape=Channel.TRADES,
    ),
    book=BookRules(Snapshots.REST, resends=False, overlapping=True, resync_every_ns=SECOND),
    limits=Limits(
        subscriptions=1_024,
        frame_bytes=4_000,  # longer ones get no answer at all: github.com/binance/binance-connector-rust/issues/27
        sends_per_second=3.0,  # 5 are allowed, pongs included
        connects=300,
        connects_per_ns=5 * MINUTE,
    ),
    # The server pings by frame every 20 s, which is a sign of life, and the socket layer answers: own pings would
    # count against the 5/s.
    timings=Timings(silence_ns=30 * SECOND, rotate_after_ns=23 * HOUR),
    budget=Budget(6_000, MINUTE, "x-mbx-used-weight-1m", backfill=0.5),
    close_codes={1008: Reaction.RETRY},
)

T = TypeVar("T")
OrNone = Annotated[int, Meta(ge=-1, le=2**63 - 1)]  # -1: there is none yet


class Combined(Struct, Generic[T], gc=False):
    """The wrapper of ``/stream``: without it a bookTicker or a partial depth cannot be told apart."""

    stream: str
    data: T


class Match(Struct, gc=False):
    s: str  # symbol
    t: Whole  # trade id
    p: str  # price
    q: str  # quantity, base
    T: Milliseconds  # trade time, ms
    m: bool  # the buyer is the maker


class AggTrade(Struct, gc=False):
    a: Whole  # aggregate id
    p: str  # price
    q: str  # quantity, base
    f: OrNone  # first raw trade id
    l: OrNone  # last raw trade id  # noqa: E741 - the venue's own name
    T: Milliseconds  # trade time, ms
    m: bool  # the buyer is the maker
    s: str = ""  # symbol; REST does not repeat it


class BookTicker(Struct, gc=False):
    u: Whole  # book update id, the series of depth
    s: str  # symbol
    b: str  # best bid price
    B: str  # best bid quantity
    a: str  # best ask price
    A: str  # best ask quantity
    T: Milliseconds | None = None  # transaction time, ms; USD-M only


class Ticker24h(Struct, gc=False):
    E: Milliseconds  # event time, ms
    s: str  # symbol
    p: str  # price change
    P: str  # price change percent
    c: str  # last price
    h: str  # high
    l: str  # low  # noqa: E741 - the venue's own name
    v: str  # volume, base
    q: str  # volume, quote


class _K(Struct, gc=False):
    t: Milliseconds  # open time, ms
    T: Milliseconds  # close time, ms: open + interval - 1
    i: str  # interval
    o: str  # open
    c: str  # close
    h: str  # high
    l: str  # low  # noqa: E741 - the venue's own name
    v: str  # volume, base
    n: Whole  # trades
    x: bool  # closed
    q: str  # volume, quote
    V: str  # taker-buy volume, base


class Kline(Struct, gc=False):
    E: Milliseconds  # event time, ms
    s: str  # symbol
    k: _K


class _Depth(Struct, gc=False):
    E: Milliseconds  # event time, ms
    s: str  # symbol
    U: Whole  # first update id
    u: Whole  # last update id
    b: Raw  # changed bids
    a: Raw  # changed asks


class Depth20(Struct, gc=False):
    lastUpdateId: OrNone  # of a new listing -1, with an empty book
    bids: Raw
    asks: Raw
    E: Milliseconds | None = None  # event time, ms; REST of USD-M only


class _Error(Struct):
    code: int
    msg: str


class Control(Struct):
    """An answer to a request: ``{"result":null,"id":1}``, or an error in one of two shapes."""

    id: int | None = None
    code: int | None = None
    msg: str = ""
    error: _Error | None = None
    stream: str | None = None


decode_trade = json.Decoder(Combined[Match]).decode
decode_agg_trade = json.Decoder(Combined[AggTrade]).decode
decode_book_ticker = json.Decoder(Combined[BookTicker]).decode
decode_ticker = json.Decoder(Combined[Ticker24h]).decode
decode_kline = json.Decoder(Combined[Kline]).decode
_decode_depth = json.Decoder(Combined[_Depth]).decode
_decode_partial = json.Decoder(Combined[Depth20]).decode
decode_control = json.Decoder(Control).decode

STREAM = re.compile(rb'"stream"\s*:\s*"([^"@]+)@([a-zA-Z]+_?)(\d*)')  # symbol, kind, depth
CHANNELS = {
    b"trade": Channel.TRADES, b"aggTrade": Channel.AGG_TRADES, b"bookTicker": Channel.QUOTES, b"ticker": Channel.TICKER,
    b"kline_": Channel.CANDLES, b"depth": Channel.BOOK,
}
# https://developers.binance.com/docs/binance-spot-api-docs/errors
TRANSIENT = frozenset({-1000, -1001, -1003, -1006, -1007, -1008, -1016, -1034})
_TRADES, _AGG_TRADES = Channel.TRADES, Channel.AGG_TRADES  # see BUY in model/events.py
PENDING = 64  # requests whose acks are still awaited; the oldest is forgotten first
FORBIDDEN_WAIT = 5 * MINUTE  # HTTP 403 of the web application firewall


class Binance:
    spec: ClassVar[Spec] = SPEC

    def __init__(self, route: str = "") -> None:
        self.route = route
        self._name = self.spec.name
        self._requests = Requests(self.spec.limits)
        self._readers = Readers({
            b"trade": self._trade, b"aggTrade": self._agg_trade, b"bookTicker": self._quote, b"ticker": self._ticker,
            b"kline_": self._candle, b"depth": self._depth, b"depthN": self._partial, b"": self._requests.answer,
        }, 2 * self.spec.limits.subscriptions)
        self._by_stream = self._readers.by_stream

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        return ""

    # --- out --------------------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        """None: no public stream asks who listens; `signing.binance_logon` is for the WebSocket API."""
        return []

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        return frame

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._requests.frames("SUBSCRIBE", wanted)

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._requests.frames("UNSUBSCRIBE", wanted)

    def ping(self, number: int) -> bytes | None:
        return None

    # --- in ---------------------------------------------------------------------------------------------------------

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        reader = self._by_stream.get(frame[: frame.find(b'"', 11)]) or self._readers.find(frame)
        return reader(frame, received)

    def _trade(self, frame: bytes, received: int) -> Sequence[Parsed]:
        it = decode_trade(frame).data
        return (Trade(
            venue=self._name, symbol=it.s, exchange_time=it.T * MILLISECOND, received_time=received,
            available_at=received, channel=_TRADES, id=str(it.t), after=it.t - 1, price=number(it.p),
            size=number(it.q), side=SELL if it.m else BUY,
        ),)

    def _agg_trade(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (agg_trade(self._name, decode_agg_trade(frame).data, received),)

    def _quote(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (book_ticker(self._name, decode_book_ticker(frame).data, received),)

    def _ticker(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (ticker(self.spec.name, decode_ticker(frame).data, received),)

    def _candle(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (candle(self.spec.name, decode_kline(frame).data, received),)

    def _depth(self, frame: bytes, received: int) -> Sequence[Parsed]:
        it = _decode_depth(frame).data
        return (BookDelta(
            venue=self._name, symbol=it.s, exchange_time=it.E * MILLISECOND, received_time=received,
            available_at=received, after=it.U - 1, sequence=it.u, bids=Levels(it.b, PAIRS),
            asks=Levels(it.a, PAIRS),
        ),)

    def _partial(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = _decode_partial(frame)
        name, _, rest = message.stream.partition("@depth")  # the payload names no symbol
        depth = int(rest.partition("@")[0])
        return (snapshot(self.spec.name, name.upper(), message.data, depth, "none", received),)

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        return blame(frame)

    def checksum(self, symbol: str, book: OrderBook) -> int:
        raise ValueError("Binance numbers its updates and sums nothing")

    # --- REST -------------------------------------------------------------------------------------------------------

    def time_request(self) -> Request:
        return Request(RestKind.TIME, "/api/v3/time")

    def parse_time(self, body: bytes) -> int:
        return decode_time(body).serverTime * MILLISECOND

    def instrument_requests(self) -> list[Request]:
        return [Request(RestKind.INSTRUMENTS, "/api/v3/exchangeInfo", weight=20)]

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        rows = decode_exchange_info(body).symbols
        return readable(lambda row: instrument(self.spec.name, decode_symbol(row), Kind.SPOT), rows), None

    def book_request(self, symbol: str, depth: int) -> Request:
        limit, weight = next(
            (it for it in ((100, 5), (500, 25), (1_000, 50)) if 0 < depth <= it[0]), (5_000, 250)
        )
        return Request(
            RestKind.BOOK, f"/api/v3/depth?symbol={quote(symbol)}&limit={limit}", symbol, weight, depth=limit
        )

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot:
        return snapshot(self.spec.name, request.symbol, decode_depth_body(body), request.depth, "sequence", received)

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        if after is not None:
            return Request(
                RestKind.TRADES, f"/api/v3/historicalTrades?symbol={quote(symbol)}&fromId={int(after)}&limit=1000",
                symbol, 25, channel=Channel.TRADES,
            )
        if since is not None:  # only aggregates can be asked for by time: the first of them names the first id
            return Request(
                RestKind.TRADES, f"/api/v3/aggTrades?symbol={quote(symbol)}&startTime={since // MILLISECOND}&limit=1",
                symbol, 4, channel=Channel.AGG_TRADES,
            )
        return Request(
            RestKind.TRADES, f"/api/v3/historicalTrades?symbol={quote(symbol)}&limit=1000", symbol, 25,
            channel=Channel.TRADES,
        )

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        return parse_trades(self.spec.name, request, body, received)

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        return Request(
            RestKind.CANDLES,
            f"/api/v3/klines?symbol={quote(symbol)}&interval={interval}&startTime={start // MILLISECOND}"
            f"&endTime={end // MILLISECOND - 1}&limit=1000",
            symbol, 2, interval=interval,
        )

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        return parse_klines(self.spec.name, request, body, received)

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        check(status, headers, body)

    def request_of(self, url: str) -> Request | None:
        return request_of(url, ("/api/v3/", "/api/v1/"))


# --- what both markets of Binance share: their shapes ---------------------------------------------------------------


Reader = Callable[[bytes, int], Sequence[Parsed]]


class Readers:
    """Finds the reader of a frame by the name of its stream, so that no wrapper is decoded twice."""

    def __init__(self, by_kind: Mapping[bytes, Reader], limit: int) -> None:
        """``by_kind``: ``depthN`` reads partial depths, the empty one what has no stream."""
        self._by_kind, self._limit = by_kind, limit
        self.by_stream: dict[bytes, Reader] = {}
        """By what a frame begins with, up to the end of its stream's name, where that stands first; as they are met."""

    def find(self, frame: bytes) -> Reader:
        end = frame.find(b'"', 11)
        stream = frame[:end] if end > 0 and frame.startswith(b'{"stream":"') else b""
        match = STREAM.match(frame, 1) if stream else STREAM.search(frame)  # the name may stand last
        if match is None:
            return self._by_kind[b""]
        _, kind, depth = match.groups()
        reader = self._by_kind.get(b"depthN" if depth and kind == b"depth" else kind, unknown)
        if stream and len(self.by_stream) < self._limit:
            self.by_stream[stream] = reader
        return reader


def unknown(frame: bytes, _received: int) -> Sequence[Parsed]:
    return (Unknown(decode_control(frame).stream or "?"),)


class Requests:
    """What this connection has asked for, by the number that the answer repeats."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._sent = 0
        self._pending: dict[int, tuple[tuple[Subscription, ...], bool]] = {}  # awaiting an ack; True: unsubscribing

    def frames(self, method: str, wanted: Sequence[Subscription]) -> list[bytes]:
        streams = {json.encode(stream_of(it)).decode(): it for it in wanted}
        frames = []
        for batch in batches(list(streams), self._limits):
            self._sent += 1
            if len(self._pending) >= PENDING:
                del self._pending[next(iter(self._pending))]
            self._pending[self._sent] = tuple(streams[it] for it in batch), method == "UNSUBSCRIBE"
            frames.append(f'{{"method":"{method}","params":[{",".join(batch)}],"id":{self._sent}}}'.encode())
        return frames

    def answer(self, frame: bytes, _received: int) -> Sequence[Parsed]:
        """Acks prove only that the request was read: a stream of an unknown symbol is acked, and silent for ever."""
        it = decode_control(frame)
        if it.stream == "!serverShutdown":
            return (Notice("serverShutdown"),)
        if it.stream is not None:
            return (Unknown(it.stream),)
        error = it.error or (_Error(it.code, it.msg) if it.code is not None else None)
        if it.id is not None and it.id < 0:  # of a ping: whatever it says, the venue lives
            return (Alive(-it.id),)
        wanted, removed = self._pending.pop(it.id, ((), False)) if it.id is not None else ((), False)
        if error is not None:
            # One bad name fails its whole frame, and nothing says which: each has to be asked for alone.
            reaction = Reaction.RETRY if len(wanted) > 1 and not removed else Reaction.DROP
            return (Refused(wanted, f"{error.code}: {error.msg}", reaction, removed),)
        return (Unknown("?") if it.id is None else Acked(wanted, removed),)


def stream_of(it: Subscription) -> str:
    symbol = it.symbol.lower()
    match it.channel:
        case Channel.TRADES:
            return f"{symbol}@trade"
        case Channel.AGG_TRADES:
            return f"{symbol}@aggTrade"
        case Channel.QUOTES:
            return f"{symbol}@bookTicker"
        case Channel.TICKER:
            return f"{symbol}@ticker"
        case Channel.CANDLES:
            return f"{symbol}@kline_{it.interval}"
        case Channel.BOOK:
            return f"{symbol}@depth{it.depth if it.depth in PARTIAL_DEPTHS else ''}@100ms"
        case Channel.STATUS:
            raise ValueError("Binance has no status channel")


def agg_trade(venue: str, it: AggTrade, received: int, source: Source = Source.LIVE) -> Trade:
    return Trade(
        venue=venue, symbol=it.s, exchange_time=it.T * MILLISECOND, received_time=received, available_at=received,
        channel=_AGG_TRADES, id=str(it.a), after=it.a - 1, price=number(it.p), size=number(it.q),
        side=SELL if it.m else BUY, source=source, first_id=None if it.f < 0 else str(it.f),
        last_id=None if it.l < 0 else str(it.l),
    )


def book_ticker(venue: str, it: BookTicker, received: int) -> Quote:
    return Quote(
        venue=venue, symbol=it.s, exchange_time=received if it.T is None else it.T * MILLISECOND,
        received_time=received, available_at=received, bid=_level(it.b, it.B), ask=_level(it.a, it.A), sequence=it.u,
    )


def _level(price: str, size: str) -> Level | None:
    """A side without orders is sent as zeros."""
    level = level_number(price), level_number(size)
    return level if level[0] else None


def ticker(venue: str, it: Ticker24h, received: int) -> Ticker:
    return Ticker(
        venue=venue, symbol=it.s, exchange_time=it.E * MILLISECOND, received_time=received, available_at=received,
        last=number(it.c), price_change=signed(it.p), price_change_percent=signed(it.P), high=number(it.h),
        low=number(it.l), volume=number(it.v), quote_volume=number(it.q),
    )


def candle(venue: str, event: Kline, received: int) -> Candle:
    it = event.k
    return Candle(
        venue=venue, symbol=event.s, exchange_time=event.E * MILLISECOND, received_time=received,
        available_at=received, interval=it.i, start=it.t * MILLISECOND, end=milliseconds(it.T + 1),
        open=number(it.o), high=number(it.h), low=number(it.l), close=number(it.c), volume=number(it.v),
        quote_volume=number(it.q), vwap=None, trades=it.n, taker_buy_volume=number(it.V), complete=True, final=it.x,
        source="venue",
    )


def snapshot(venue: str, symbol: str, it: Depth20, depth: int, verification: str, received: int) -> BookSnapshot:
    return BookSnapshot(
        venue=venue, symbol=symbol, exchange_time=received if it.E is None else it.E * MILLISECOND,
        received_time=received, available_at=received, sequence=it.lastUpdateId,
        bids=Levels(it.bids, PAIRS), asks=Levels(it.asks, PAIRS), depth=depth, verification=verification,
    )


def blame(frame: bytes) -> tuple[str, Channel | None]:
    match = STREAM.search(frame)
    if match is None or match[2] not in CHANNELS:
        return "", None
    return match[1].decode("utf-8", "replace").upper(), CHANNELS[match[2]]


# --- what both share in REST ----------------------------------------------------------------------------------------


class _Time(Struct):
    serverTime: Milliseconds


class _Filter(Struct):
    filterType: str
    tickSize: str = ""
    stepSize: str = ""
    minQty: str = ""


class Symbol(Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[_Filter]
    contractType: str = ""  # USD-M only


class ExchangeInfo(Struct):
    symbols: list[Raw]


class _RestTrade(Struct):
    id: Whole
    price: str
    qty: str
    time: Milliseconds
    isBuyerMaker: bool


class _Code(Struct):
    code: int
    msg: str = ""


KlineRow = tuple[Milliseconds, str, str, str, str, str, Milliseconds, str, Whole, str, str, str]

decode_time = json.Decoder(_Time).decode
decode_symbol = json.Decoder(Symbol).decode
decode_exchange_info = json.Decoder(ExchangeInfo).decode
decode_depth_body = json.Decoder(Depth20).decode
_decode_trades = json.Decoder(list[_RestTrade]).decode
_decode_agg_trades = json.Decoder(list[AggTrade]).decode
_decode_klines = json.Decoder(list[KlineRow]).decode
_decode_code = json.Decoder(_Code).decode


def instrument(venue: str, it: Symbol, kind: Kind) -> Instrument:
    if not (it.symbol and it.baseAsset and it.quoteAsset):
        raise BadFrame(f"an instrument without a name: {it.symbol!r}", it.symbol)
    filters = {each.filterType: each for each in it.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    suffix = {Kind.SPOT: "", Kind.PERPETUAL: "-PERP", Kind.OTHER: ""}[kind]
    return Instrument(
        id=InstrumentId(venue, it.symbol), kind=kind,
        pair="" if kind is Kind.OTHER else f"{it.baseAsset}-{it.quoteAsset}{suffix}",
        base=it.baseAsset, quote=it.quoteAsset, tradable=it.status == "TRADING", status=it.status,
        tick_size=number(price.tickSize) if price else Decimal(0), lot_size=number(lot.stepSize) if lot else Decimal(0),
        min_size=number(lot.minQty) if lot else None,
    )


def parse_trades(venue: str, request: Request, body: bytes, received: int) -> list[Trade]:
    if request.channel is Channel.AGG_TRADES:
        rows = _decode_agg_trades(body)
        for row in rows:
            row.s = request.symbol
        return [agg_trade(venue, row, received, Source.BACKFILL) for row in rows]
    return [
        Trade(
            venue=venue, symbol=request.symbol, exchange_time=it.time * MILLISECOND, received_time=received,
            available_at=received, channel=Channel.TRADES, id=str(it.id), after=it.id - 1, price=number(it.price),
            size=number(it.qty), side=SELL if it.isBuyerMaker else BUY, source=Source.BACKFILL,
        )
        for it in _decode_trades(body)
    ]


def parse_klines(venue: str, request: Request, body: bytes, received: int) -> list[Candle]:
    return [
        Candle(
            venue=venue, symbol=request.symbol, exchange_time=min(milliseconds(close + 1), received),
            received_time=received, available_at=received, interval=request.interval, start=start * MILLISECOND,
            end=milliseconds(close + 1), open=number(o), high=number(h), low=number(low), close=number(c),
            volume=number(volume), quote_volume=number(quote_volume), vwap=None, trades=trades,
            taker_buy_volume=number(taker), complete=True, source="venue",
            final=milliseconds(close + 1) <= received,  # the last row may still be open, and nothing in it says so
        )
        for start, o, h, low, c, volume, close, quote_volume, trades, taker, _, _ in _decode_klines(body)
    ]


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    if status == 200:
        return
    try:
        error = _decode_code(body)
    except UNREADABLE:
        error = _Code(0, body[:100].decode("utf-8", "replace"))
    reason = f"HTTP {status}: {error.code} {error.msg}"
    if status in (418, 429):
        raise TryAgain(reason, retry_after_ns(headers, MINUTE))
    if status == 403:
        raise TryAgain(reason, retry_after_ns(headers, FORBIDDEN_WAIT))
    if error.code == -1021:
        raise ClockSkew(reason)
    if status >= 500 or status == 408 or error.code in TRANSIENT:
        raise TryAgain(reason, retry_after_ns(headers))
    raise GiveUp(reason)


def request_of(url: str, roots: Sequence[str]) -> Request | None:
    parts = urlsplit(url)
    root = next((it for it in roots if parts.path.startswith(it)), None)
    if root is None:
        return None
    asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    symbol, path = asked.get("symbol", ""), parts.path + (f"?{parts.query}" if parts.query else "")
    match parts.path.removeprefix(root):
        case "depth":
            return Request(RestKind.BOOK, path, symbol, depth=int(asked.get("limit", "100")))  # the default
        case "aggTrades":
            return Request(RestKind.TRADES, path, symbol, channel=Channel.AGG_TRADES)
        case "trades" | "historicalTrades":
            return Request(RestKind.TRADES, path, symbol, channel=Channel.TRADES)
        case "klines":
            return Request(RestKind.CANDLES, path, symbol, interval=asked.get("interval", ""))
        case "exchangeInfo":
            return Request(RestKind.INSTRUMENTS, path)
        case "time":
            return Request(RestKind.TIME, path)
        case _:
            return None
