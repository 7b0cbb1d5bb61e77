"""Binance USD-M futures: https://developers.binance.com/docs/derivatives/usds-margined-futures"""
from collections.abc import Mapping, Sequence
from typing import ClassVar
from urllib.parse import quote

from msgspec import Raw, Struct, json

from onetape.book import OrderBook
from onetape.clock import HOUR, MILLISECOND, MINUTE, SECOND
from onetape.credentials import Credentials
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
    Kind,
    Levels,
    Request,
    RestKind,
    Skipped,
    Subscription,
    Trade,
)
from onetape.model.numbers import number
from onetape.venues.base import (
    BookRules,
    Budget,
    Endpoints,
    History,
    Limits,
    Milliseconds,
    Parsed,
    Reaction,
    Snapshots,
    Spec,
    Timings,
    Whole,
    readable,
)
from onetape.venues.binance import (
    INTERVALS,
    PARTIAL_DEPTHS,
    Combined,
    Readers,
    Requests,
    agg_trade,
    blame,
    book_ticker,
    candle,
    check,
    decode_agg_trade,
    decode_book_ticker,
    decode_depth_body,
    decode_exchange_info,
    decode_kline,
    decode_symbol,
    decode_ticker,
    decode_time,
    instrument,
    parse_klines,
    parse_trades,
    request_of,
    snapshot,
    ticker,
)

# On the wrong route a stream is acked, then silent for ever: github.com/binance/binance-public-data/issues/472
ROUTES = {
    Channel.BOOK: "public", Channel.QUOTES: "public", Channel.TRADES: "public",
    Channel.AGG_TRADES: "market", Channel.TICKER: "market", Channel.CANDLES: "market",
}


def _endpoints(streams: str, rest: str) -> Endpoints:
    return Endpoints({route: (f"{streams}/{route}/stream",) for route in ("public", "market")}, (rest,))


SPEC = Spec(
    name="binance-usdm",
    exchange="binance",
    documentation="https://developers.binance.com/docs/derivatives/usds-margined-futures",
    endpoints={
        "production": _endpoints("wss://fstream.binance.com", "https://fapi.binance.com"),
        "testnet": _endpoints("wss://fstream.binancefuture.com", "https://testnet.binancefuture.com"),
        "demo": _endpoints("wss://demo-fstream.binance.com", "https://demo-fapi.binance.com"),
    },
    capabilities=Capabilities(
        channels=frozenset(ROUTES),
        depths=(0, *PARTIAL_DEPTHS),
        intervals=tuple(it for it in INTERVALS if it != "1s"),
        verification="sequence",
        tape=Channel.AGG_TRADES,  # trades cannot be had again without a key, and their stream is undocumented
    ),
    book=BookRules(Snapshots.REST, resends=False, overlapping=False, resync_every_ns=SECOND),
    limits=Limits(
        subscriptions=1_024,
        frame_bytes=4_000,  # longer ones get no answer at all: github.com/binance/binance-connector-rust/issues/27
        sends_per_second=5.0,  # 10 are allowed, pongs included
        connects=300,
        connects_per_ns=5 * MINUTE,
    ),
    timings=Timings(ping_every_ns=20 * SECOND, silence_ns=30 * SECOND, rotate_after_ns=23 * HOUR),
    history=History(reach_ns=48 * HOUR),
    budget=Budget(2_400, MINUTE, "x-mbx-used-weight-1m", backfill=0.5),
    close_codes={1008: Reaction.RETRY},
)


class _Match(Struct, gc=False):
    s: str  # symbol
    t: Whole  # trade id
    T: Milliseconds  # trade time, ms
    m: bool  # the buyer is the maker
    p: str = ""  # price
    q: str = ""  # quantity, base; RPI fills included
    X: str = "MARKET"  # or INSURANCE_FUND, ADL, NA; frames of 2019 have none


class _Depth(Struct, gc=False):
    s: str  # symbol
    T: Milliseconds  # transaction time, ms
    u: Whole  # last update id
    pu: Whole  # last update id of the event before: the one promise of continuity, U jumps
    b: Raw  # changed bids, or the best in a partial depth
    a: Raw  # changed asks, or the best


_decode_trade = json.Decoder(Combined[_Match]).decode
_decode_depth = json.Decoder(Combined[_Depth]).decode


class BinanceUsdm:
    spec: ClassVar[Spec] = SPEC

    def __init__(self, route: str = "") -> None:
        self.route = route
        self._requests = Requests(self.spec.limits)
        self._readers = Readers({  # a partial depth looks like a diff: only the stream's name tells them apart
            b"trade": self._trade, b"aggTrade": self._agg_trade, b"bookTicker": self._quote, b"ticker": self._ticker,
            b"kline_": self._candle, b"depth": self._depth, b"depthN": self._partial, b"": self._requests.answer,
        }, 2 * self.spec.limits.subscriptions)
        self._by_stream = self._readers.by_stream

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        return ROUTES[subscription.channel]

    # --- out --------------------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        """None: no public stream asks who listens, and private ones have keys of their own, by REST."""
        return []

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        return frame

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._requests.frames("SUBSCRIBE", wanted)

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._requests.frames("UNSUBSCRIBE", wanted)

    def ping(self, number: int) -> bytes | None:
        """The server itself pings every 3 min only: a request that changes nothing is answered at once."""
        return b'{"method":"LIST_SUBSCRIPTIONS","id":%d}' % -number

    # --- in ---------------------------------------------------------------------------------------------------------

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        reader = self._by_stream.get(frame[: frame.find(b'"', 11)]) or self._readers.find(frame)
        return reader(frame, received)

    def _trade(self, frame: bytes, received: int) -> Sequence[Parsed]:
        it = _decode_trade(frame).data
        if it.X != "MARKET":  # off the book, at odd prices: github.com/QuantConnect/Lean.Brokerages.Binance/issues/28
            return (Skipped(
                venue=self.spec.name, symbol=it.s, exchange_time=it.T * MILLISECOND, received_time=received,
                available_at=received, channel=Channel.TRADES, first=str(it.t), last=str(it.t), after=it.t - 1,
                reason=f"off the book: {it.X}",
            ),)
        return (Trade(
            venue=self.spec.name, symbol=it.s, exchange_time=it.T * MILLISECOND, received_time=received,
            available_at=received, channel=Channel.TRADES, id=str(it.t), after=it.t - 1, price=number(it.p),
            size=number(it.q), side=SELL if it.m else BUY,
        ),)

    def _agg_trade(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (agg_trade(self.spec.name, decode_agg_trade(frame).data, received),)

    def _quote(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (book_ticker(self.spec.name, decode_book_ticker(frame).data, received),)

    def _ticker(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (ticker(self.spec.name, decode_ticker(frame).data, received),)

    def _candle(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (candle(self.spec.name, decode_kline(frame).data, received),)

    def _depth(self, frame: bytes, received: int) -> Sequence[Parsed]:
        it = _decode_depth(frame).data
        return (BookDelta(
            venue=self.spec.name, symbol=it.s, exchange_time=it.T * MILLISECOND, received_time=received,
            available_at=received, after=it.pu, sequence=it.u, bids=Levels(it.b, PAIRS),
            asks=Levels(it.a, PAIRS),
        ),)

    def _partial(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = _decode_depth(frame)
        it, (_, _, rest) = message.data, message.stream.partition("@depth")
        return (BookSnapshot(
            venue=self.spec.name, symbol=it.s, exchange_time=it.T * MILLISECOND, received_time=received,
            available_at=received, sequence=it.u, bids=Levels(it.b, PAIRS), asks=Levels(it.a, PAIRS),
            depth=int(rest.partition("@")[0]), verification="none",
        ),)

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        return blame(frame)

    def checksum(self, symbol: str, book: OrderBook) -> int:
        raise ValueError("Binance numbers its updates and sums nothing")

    # --- REST -------------------------------------------------------------------------------------------------------

    def time_request(self) -> Request:
        return Request(RestKind.TIME, "/fapi/v1/time")

    def parse_time(self, body: bytes) -> int:
        return decode_time(body).serverTime * MILLISECOND

    def instrument_requests(self) -> list[Request]:
        return [Request(RestKind.INSTRUMENTS, "/fapi/v1/exchangeInfo")]

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        return readable(self._instrument, decode_exchange_info(body).symbols), None

    def _instrument(self, row: Raw) -> Instrument:
        # Dated ones, and those on stocks with their market hours, are not offered. A multiplied contract keeps its
        # multiplied base: 1000PEPE-USDT-PERP is quoted per 1000 and must not meet PEPE-USDT in one book.
        it = decode_symbol(row)
        return instrument(self.spec.name, it, Kind.PERPETUAL if it.contractType == "PERPETUAL" else Kind.OTHER)

    def book_request(self, symbol: str, depth: int) -> Request:
        limit, weight = next(
            (it for it in ((5, 2), (10, 2), (20, 2), (50, 2), (100, 5), (500, 10)) if 0 < depth <= it[0]), (1_000, 20)
        )
        return Request(
            RestKind.BOOK, f"/fapi/v1/depth?symbol={quote(symbol)}&limit={limit}", symbol, weight, depth=limit
        )

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot:
        return snapshot(self.spec.name, request.symbol, decode_depth_body(body), request.depth, "sequence", received)

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        # By id or by time: both together may time out. Either way the last 48 h are all there is.
        start = ""
        if after is not None:
            start = f"&fromId={int(after)}"
        elif since is not None:
            start = f"&startTime={since // MILLISECOND}"
        return Request(
            RestKind.TRADES, f"/fapi/v1/aggTrades?symbol={quote(symbol)}{start}&limit=1000", symbol, 20,
            channel=Channel.AGG_TRADES,
        )

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        return parse_trades(self.spec.name, request, body, received)

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        return Request(
            RestKind.CANDLES,
            f"/fapi/v1/klines?symbol={quote(symbol)}&interval={interval}&startTime={start // MILLISECOND}"
            f"&endTime={end // MILLISECOND - 1}&limit=1500",
            symbol, 10, interval=interval,
        )

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        return parse_klines(self.spec.name, request, body, received)

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        check(status, headers, body)

    def request_of(self, url: str) -> Request | None:
        return request_of(url, ("/fapi/v1/",))
