"""Kraken spot, WebSocket v2 only: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2"""
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, Generic, Literal, TypeVar
from urllib.parse import parse_qs, quote, urlsplit
from zlib import crc32

from msgspec import Meta, Raw, Struct, json

from onetape.book import OrderBook
from onetape.clock import MICROSECOND, MILLISECOND, MINUTE, SECOND, decimal_seconds, interval_ns, rfc3339
from onetape.credentials import Credentials
from onetape.errors import BadFrame, GiveUp, TryAgain
from onetape.model import (
    PRICE_QTY,
    BookDelta,
    BookSnapshot,
    Candle,
    Capabilities,
    Change,
    Channel,
    Instrument,
    InstrumentChanged,
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
from onetape.model.numbers import level_number, number, signed
from onetape.venues.base import (
    UNREADABLE,
    Acked,
    Alive,
    BookRules,
    Budget,
    Endpoints,
    History,
    Limits,
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
    next_step,
    readable,
    retry_after_ns,
)

MINUTES = {  # intervals, and what Kraken calls them
    "1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1_440, "1w": 10_080, "15d": 21_600,
}
INTERVALS = {minutes: name for name, minutes in MINUTES.items()}
DEPTHS = (10, 25, 100, 500, 1_000)
CHECKSUM_DEPTH = 10
MAX_SYMBOLS = 10_000  # several times what is listed: so many books and precisions are kept, and no more
MAX_REST_DEPTH = 500
REST = "/0/public/"
ROUTED = ":BTNL"  # the same pair again, for margin of US customers

SPEC = Spec(
    name="kraken",
    exchange="kraken",
    documentation="https://docs.kraken.com/exchange/api-reference/spot-websocket-v2",
    endpoints={"production": Endpoints({"": ("wss://ws.kraken.com/v2",)}, ("https://api.kraken.com",))},
    capabilities=Capabilities(
        channels=frozenset(Channel) - {Channel.AGG_TRADES},
        depths=DEPTHS,
        intervals=tuple(MINUTES),
        verification="checksum(10)",
        tape=Channel.TRADES,
    ),
    book=BookRules(
        Snapshots.IN_BAND, resends=True, counted=True, checksum_depth=CHECKSUM_DEPTH, halts=frozenset({"maintenance"}),
    ),
    # No number of messages is published, only "Exceeded msg rate": few frames, with many symbols each.
    limits=Limits(args=50, connects=150, connects_per_ns=10 * MINUTE),
    # An idle socket is closed after 60 s. A heartbeat comes every second, but only while nothing else does.
    timings=Timings(ping_every_ns=20 * SECOND, silence_ns=10 * SECOND, heartbeat_ns=0),
    # Counted by pair too; long paging is refused at 1.5 s spacing and runs at 3 s.
    history=History(page_every_ns=3 * SECOND, search=Search.ONLY),
    budget=Budget(10, 10 * SECOND),  # about one request a second is safe: support.kraken.com/hc/articles/206548367
    refused_wait_ns=10 * MINUTE,  # the edge bans for so long
    ban_wait_ns=10 * MINUTE,
)

T = TypeVar("T")
Digits = Annotated[int, Meta(ge=0, le=18)]
LATEST = 9_000_000_000  # s, in 2255: with the longest interval on top it still fits 64 bits in ns
Seconds = Annotated[int, Meta(ge=0, le=LATEST)]
NULL = Raw(b"null")


class _Data(Struct, Generic[T], gc=False):
    """The envelope of every channel."""

    type: Literal["snapshot", "update"]
    data: T
    timestamp: str | None = None  # RFC 3339


class _Match(Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]  # the taker's
    price: Raw  # numbers are JSON numbers: kept as text, so that every digit survives
    qty: Raw  # base
    trade_id: Whole  # consecutive per symbol
    timestamp: str  # RFC 3339


class _Statistics(Struct, gc=False):
    symbol: str
    bid: Raw = NULL
    bid_qty: Raw = NULL
    ask: Raw = NULL
    ask_qty: Raw = NULL
    last: Raw = NULL
    volume: Raw = NULL  # base, 24 h
    low: Raw = NULL  # 24 h
    high: Raw = NULL  # 24 h
    change: Raw = NULL  # quote, 24 h
    change_pct: Raw = NULL  # percent, 24 h
    timestamp: str | None = None  # RFC 3339; not sent of old


class _Ohlc(Struct, gc=False):
    symbol: str
    open: Raw
    high: Raw
    low: Raw
    close: Raw
    vwap: Raw
    volume: Raw  # base
    trades: Whole
    interval_begin: str  # RFC 3339
    interval: Literal[1, 5, 15, 30, 60, 240, 1_440, 10_080, 21_600]  # minutes


class _Book(Struct, gc=False):
    symbol: str
    bids: Raw  # changed levels; a quantity of 0 removes
    asks: Raw
    checksum: Annotated[int, Meta(ge=0, le=2**32 - 1)]  # of the book after this message
    timestamp: str | None = None  # RFC 3339; snapshots came without it in 2023


class _Status(Struct, gc=False):
    system: str  # online, cancel_only, post_only, maintenance


class _Pairs(Struct):
    pairs: list[Raw] = []  # each for itself: one odd row must not hide the others


class _Pair(Struct):
    symbol: str
    base: str
    quote: str
    status: str
    price_precision: Digits  # fraction digits, also those of the checksum
    qty_precision: Digits
    price_increment: Raw
    qty_increment: Raw  # 1e-08 is seen
    qty_min: Raw = NULL


class _Answer(Struct):
    """An answer to a request, one for each symbol; and the head of all else."""

    method: str | None = None
    channel: str | None = None
    success: bool | None = None
    error: str | None = None
    Error: str | None = None  # "Exceeded msg rate" comes so
    symbol: str | None = None  # of what is refused
    req_id: int | None = None
    result: Raw = NULL


class _Result(Struct):
    symbol: str = ""  # none for ``instrument``
    depth: Whole = 0  # of ``book``


_decode_trades = json.Decoder(_Data[list[_Match]]).decode
_decode_ticker = json.Decoder(_Data[list[_Statistics]]).decode
_decode_ohlc = json.Decoder(_Data[list[_Ohlc]]).decode
_decode_book = json.Decoder(_Data[list[_Book]]).decode
_decode_status = json.Decoder(_Data[list[_Status]]).decode
_decode_instruments = json.Decoder(_Data[_Pairs]).decode
_decode_pair = json.Decoder(_Pair).decode
_decode_answer = json.Decoder(_Answer).decode
_decode_result = json.Decoder(_Result).decode

# What we subscribe to. No channel of its own carries the status, it comes unasked; but changes of pairs belong to it.
CHANNELS = {
    Channel.TRADES: "trade", Channel.QUOTES: "ticker", Channel.TICKER: "ticker", Channel.CANDLES: "ohlc",
    Channel.BOOK: "book", Channel.STATUS: "instrument",
}
BLAME = {
    b"trade": Channel.TRADES, b"ticker": Channel.TICKER, b"ohlc": Channel.CANDLES, b"book": Channel.BOOK,
    b"status": Channel.STATUS, b"instrument": Channel.STATUS, b"heartbeat": Channel.STATUS,
}
CHANNEL = re.compile(rb'"channel"\s*:\s*"(\w+)"')
SYMBOL = re.compile(rb'"symbol"\s*:\s*"([^"\\]+)"')

ERRORS = {
    "already subscribed": Reaction.IGNORE,
    "exceeded msg rate": Reaction.RETRY,
    "too many requests": Reaction.RETRY,
    "rate limit exceeded": Reaction.RETRY,
    "throttled": Reaction.RETRY,
    "service:unavailable": Reaction.RETRY,
    "service:busy": Reaction.RETRY,
    "deadline elapsed": Reaction.RETRY,
    "internal error": Reaction.RETRY,
}
PENDING = 64  # requests whose acks are still awaited; the oldest is forgotten first


class Kraken:
    spec: ClassVar[Spec] = SPEC

    def __init__(self, route: str = "") -> None:
        self.route = route
        self._sent = 0
        # By number: what awaits an ack, by symbol; True: unsubscribing.
        self._requests: dict[int, tuple[dict[str, Subscription], bool]] = {}
        self._subscribed: set[tuple[str, Channel]] = set()  # quotes and tickers, which look alike
        self._depths: dict[str, int] = {}
        self._counts: dict[str, int] = {}  # frames of each book: the venue numbers nothing
        self._digits: dict[str, tuple[int, int]] = {}  # behind the point, of price and quantity, from ``instrument``
        self._readers: dict[bytes, Callable[[bytes, int], Sequence[Parsed]]] = {
            b"book": self._book, b"trade": self._trade, b"ticker": self._ticker, b"ohlc": self._ohlc,
            b"heartbeat": self._heartbeat, b"status": self._status, b"instrument": self._instrument, b"": self._answer,
        }

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        return ""

    # --- out --------------------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        """None: no public channel asks who listens; `signing.kraken_token_request` is for private ones."""
        return []

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        return frame

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        for it in wanted:
            if it.channel is Channel.BOOK:
                self._depths[it.symbol] = it.depth or DEPTHS[0]
            elif it.channel in (Channel.QUOTES, Channel.TICKER):
                self._subscribed.add((it.symbol, it.channel))
        return self._request("subscribe", wanted)

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._request("unsubscribe", wanted)

    def _request(self, method: str, wanted: Sequence[Subscription]) -> list[bytes]:
        alike: dict[str, dict[str, Subscription]] = {}
        # Quotes before tickers: should the venue take but one trigger for a symbol, the faster one is needed.
        for it in sorted(wanted, key=lambda it: it.channel):
            alike.setdefault(_params(it, method), {})[json.encode(it.symbol).decode()] = it
        frames = []
        for params, symbols in alike.items():
            for batch in batches(list(symbols), self.spec.limits):
                self._sent += 1
                if len(self._requests) >= PENDING:
                    del self._requests[next(iter(self._requests))]
                asked = {symbols[it].symbol: symbols[it] for it in batch}
                self._requests[self._sent] = asked, method == "unsubscribe"
                listed = f'"symbol":[{",".join(batch)}],' if batch != ['""'] else ""
                frames.append(f'{{"method":"{method}","params":{{{listed}{params}}},"req_id":{self._sent}}}'.encode())
        return frames

    def ping(self, number: int) -> bytes | None:
        return b'{"method":"ping","req_id":%d}' % number

    # --- in ---------------------------------------------------------------------------------------------------------

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        # The channel's name stands first as a rule, but the order of keys is not promised.
        name = frame[12 : frame.find(b'"', 12)] if frame.startswith(b'{"channel":"') else None
        if name is None:
            name = (_decode_answer(frame).channel or "").encode()
        return self._readers.get(name, self._unknown)(frame, received)

    def _book(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = _decode_book(frame)
        counts: dict[str, int] = {}
        read = self._snapshot if message.type == "snapshot" else self._delta
        out = []
        for it in message.data:
            here = counts.get(it.symbol) or self._counts.get(it.symbol, 0)
            out.append(read(it, here, received))
            counts[it.symbol] = here + 1
        if len(self._counts) >= MAX_SYMBOLS and not counts.keys() <= self._counts.keys():
            raise BadFrame(f"more than {MAX_SYMBOLS} books", channel=Channel.BOOK)
        self._counts.update(counts)
        return out

    def _snapshot(self, it: _Book, here: int, received: int) -> Parsed:
        bids, asks = Levels(it.bids, PRICE_QTY), Levels(it.asks, PRICE_QTY)
        depth = self._depths.get(it.symbol)
        if depth is None:  # neither asked for by us nor acked
            levels = max(len(bids), len(asks))
            depth = next((depth for depth in DEPTHS if depth >= levels), DEPTHS[-1])
        return BookSnapshot(
            venue=self.spec.name, symbol=it.symbol, exchange_time=_time(it.timestamp, received),
            received_time=received, available_at=received, sequence=here + 1, bids=bids, asks=asks, depth=depth,
            verification="checksum(10)", checksum=it.checksum,
        )

    def _delta(self, it: _Book, here: int, received: int) -> Parsed:
        return BookDelta(
            venue=self.spec.name, symbol=it.symbol, exchange_time=_time(it.timestamp, received),
            received_time=received, available_at=received, after=here, sequence=here + 1,
            bids=Levels(it.bids, PRICE_QTY), asks=Levels(it.asks, PRICE_QTY), checksum=it.checksum,
        )

    def _trade(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = _decode_trades(frame)
        source = Source.LIVE
        if message.type == "snapshot":
            source = Source.SNAPSHOT
            message.data.sort(key=lambda it: it.trade_id)  # the order of the last 50 is nowhere promised
        return [
            Trade(
                venue=self.spec.name, symbol=it.symbol, exchange_time=_moment(rfc3339(it.timestamp)),
                received_time=received, available_at=received, channel=Channel.TRADES, id=str(it.trade_id),
                after=it.trade_id - 1, price=number(_text(it.price)), size=number(_text(it.qty)),
                side=Side(it.side), source=source,
            )
            for it in message.data
        ]

    def _ticker(self, frame: bytes, received: int) -> Sequence[Parsed]:
        """A frame does not say which trigger sent it: it yields what is subscribed for its symbol, else both."""
        out: list[Parsed] = []
        for it in _decode_ticker(frame).data:
            time = _time(it.timestamp, received)
            quotes = (it.symbol, Channel.QUOTES) in self._subscribed
            statistics = (it.symbol, Channel.TICKER) in self._subscribed
            if quotes or not statistics:
                out.append(Quote(
                    venue=self.spec.name, symbol=it.symbol, exchange_time=time, received_time=received,
                    available_at=received, bid=_level(it.bid, it.bid_qty), ask=_level(it.ask, it.ask_qty),
                ))
            if statistics or not quotes:
                out.append(Ticker(
                    venue=self.spec.name, symbol=it.symbol, exchange_time=time, received_time=received,
                    available_at=received, last=_optional(it.last), price_change=_optional(it.change, signed),
                    price_change_percent=_optional(it.change_pct, signed), high=_optional(it.high),
                    low=_optional(it.low), volume=_optional(it.volume),
                    quote_volume=None,  # volume x vwap would be inexact
                ))
        return out

    def _ohlc(self, frame: bytes, received: int) -> Sequence[Parsed]:
        """Nothing says that a candle is closed; in a snapshot it is if the same symbol has a later one."""
        message = _decode_ohlc(frame)
        time = _time(message.timestamp, received)
        newest: dict[str, int] = {}
        rows = []
        for it in message.data:
            begin = _moment(rfc3339(it.interval_begin))
            newest[it.symbol] = max(begin, newest.get(it.symbol, 0))
            rows.append((it, begin))
        return [
            _candle(it, begin, time, received, final=message.type == "snapshot" and begin < newest[it.symbol])
            for it, begin in rows
        ]

    def _status(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return [
            VenueStatus(
                venue=self.spec.name, symbol="", exchange_time=received, received_time=received,
                available_at=received, status=it.system,
            )
            for it in _decode_status(frame).data
        ]

    def _instrument(self, frame: bytes, received: int) -> Sequence[Parsed]:
        """The snapshot, all pairs of the venue, only teaches the precisions; what changes later is told."""
        message = _decode_instruments(frame)
        rows = readable(_pair, message.data.pairs)
        self._digits.update((symbol, digits) for symbol, digits, _ in rows[: MAX_SYMBOLS - len(self._digits)])
        return [
            InstrumentChanged(
                venue=self.spec.name, received_time=received, available_at=received, change=Change.UPDATED,
                instrument=instrument,
            )
            for symbol, _, instrument in rows if message.type == "update" and not symbol.endswith(ROUTED)
        ]

    def _heartbeat(self, frame: bytes, received: int) -> Sequence[Parsed]:
        _decode_answer(frame)
        return (Alive(),)

    def _unknown(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return (Unknown(_decode_answer(frame).channel or "?"),)

    # --- answers to requests ----------------------------------------------------------------------------------------

    def _answer(self, frame: bytes, received: int) -> Sequence[Parsed]:
        it = _decode_answer(frame)
        error = it.error or it.Error
        if error is not None or it.success is False:
            return (self._refused(it, error or "refused without a reason"),)
        if it.method == "pong":
            return (Alive(it.req_id),)
        if it.method in ("subscribe", "unsubscribe"):
            return (self._acked(it, _decode_result(it.result)),)
        return (Unknown(it.method or "?"),)

    def _acked(self, it: _Answer, result: _Result) -> Acked:
        removed = it.method == "unsubscribe"
        wanted, _ = self._take(it.req_id, result.symbol)
        if not removed and result.depth and len(self._depths) < MAX_SYMBOLS:
            self._depths[result.symbol] = result.depth
        alike = {(it.symbol, it.channel) for it in wanted if it.channel in (Channel.QUOTES, Channel.TICKER)}
        self._subscribed = self._subscribed - alike if removed else self._subscribed | alike
        return Acked(wanted, removed)

    def _refused(self, it: _Answer, error: str) -> Refused:
        wanted, removed = self._take(it.req_id, it.symbol)
        removed = removed or it.method == "unsubscribe"
        reaction = next_step(ERRORS, _tight(error))
        if reaction is Reaction.DROP and not removed:
            self._subscribed.difference_update((each.symbol, each.channel) for each in wanted)
        return Refused(wanted, error, reaction, removed)

    def _take(self, request: int | None, symbol: str | None) -> tuple[tuple[Subscription, ...], bool]:
        """What an answer speaks of: one symbol, or all that the request still waits for where it names none.

        True if the request was for unsubscribing.
        """
        waiting, removing = self._requests.get(request, ({}, False)) if request is not None else ({}, False)
        named = [symbol] if symbol is not None else list(waiting)
        wanted = tuple(waiting.pop(it) for it in named if it in waiting)
        if request is not None and not waiting:
            self._requests.pop(request, None)
        return wanted, removing

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        channel = CHANNEL.search(frame)
        if channel is None or channel[1] not in BLAME:
            return "", None
        symbols = set(SYMBOL.findall(frame))  # a message may mix symbols, and one that was cut may have had more
        whole = len(symbols) == 1 and frame.rstrip().endswith(b"}")
        return symbols.pop().decode("utf-8", "replace") if whole else "", BLAME[channel[1]]

    def checksum(self, symbol: str, book: OrderBook) -> int:
        """CRC32 over the digits of the ten best: docs.kraken.com/exchange/guides/websockets/book-checksum-v2"""
        bids, asks = book.digits(CHECKSUM_DEPTH, *self._digits.get(symbol, (0, 0)))
        return crc32(asks + bids)

    # --- REST -------------------------------------------------------------------------------------------------------

    def time_request(self) -> Request:
        return Request(RestKind.TIME, f"{REST}Time")

    def parse_time(self, body: bytes) -> int:
        return _decode_time(body).result.unixtime * SECOND

    def instrument_requests(self) -> list[Request]:
        return [Request(RestKind.INSTRUMENTS, f"{REST}AssetPairs?assetVersion=1")]

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        rows = readable(_asset_pair, _decode_body(body).result.items())
        return [it for it in rows if it is not None], None

    def book_request(self, symbol: str, depth: int) -> Request:
        count = min(depth or MAX_REST_DEPTH, MAX_REST_DEPTH)
        return Request(RestKind.BOOK, _path("Depth", symbol, f"&count={count}"), symbol, depth=count)

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot:
        symbol, raw = _only(request, body)
        it = _decode_depth(raw)
        return BookSnapshot(
            venue=self.spec.name, symbol=symbol, exchange_time=received, received_time=received,
            available_at=received, sequence=0, bids=_levels(it.bids), asks=_levels(it.asks), depth=request.depth,
            verification="none",  # neither sequence nor checksum, and each level has a time of its own
        )

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        # By time only. ``since`` is exclusive, and the fractions of a second in the answers are cut: step back a bit.
        start = "" if since is None else f"&since={max(since - MILLISECOND, 0)}"  # ns here, seconds elsewhere
        return Request(
            RestKind.TRADES, _path("Trades", symbol, f"{start}&count=1000"), symbol, channel=Channel.TRADES
        )

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        symbol, raw = _only(request, body)
        # Here with a digit more than on the socket: the same trade has one time, and trades of one order stay in order.
        return [
            Trade(
                venue=self.spec.name, symbol=symbol,
                exchange_time=_moment(decimal_seconds(_text(time))) // MICROSECOND * MICROSECOND,
                received_time=received, available_at=received, channel=Channel.TRADES, id=str(id_), after=id_ - 1,
                price=number(price), size=number(size), side=Side.BUY if side == "b" else Side.SELL,
                source=Source.BACKFILL,
            )
            for price, size, time, side, _, _, id_ in sorted(_decode_rest_trades(raw), key=lambda row: row[6])
        ]

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        return Request(  # the newest 720 at most, whatever ``since``; there is no way to name an end
            RestKind.CANDLES, _path("OHLC", symbol, f"&interval={MINUTES[interval]}&since={start // SECOND - 1}"),
            symbol, interval=interval,
        )

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        symbol, raw = _only(request, body)
        rows = _decode_rest_candles(raw)
        return [
            Candle(
                venue=self.spec.name, symbol=symbol, exchange_time=time * SECOND + interval_ns(request.interval),
                received_time=received, available_at=received, interval=request.interval, start=time * SECOND,
                end=time * SECOND + interval_ns(request.interval), open=number(o), high=number(h), low=number(low),
                close=number(c), volume=number(volume), quote_volume=None, vwap=number(vwap) if count else None,
                trades=count, taker_buy_volume=None, complete=True, source="venue",
                final=index < len(rows),  # the last row is always the one still open
            )
            for index, (time, o, h, low, c, vwap, volume, count) in enumerate(rows, 1)
        ]

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if status == 200:
            _check_errors(body, headers)
            return
        reason = f"HTTP {status}: {body[:100].decode('utf-8', 'replace')}"
        if status == 429:
            raise TryAgain(reason, retry_after_ns(headers, MINUTE))
        if status == 403:  # the edge has banned this address
            raise TryAgain(reason, retry_after_ns(headers, self.spec.ban_wait_ns))
        if status >= 500 or status == 408:
            raise TryAgain(reason, retry_after_ns(headers))
        raise GiveUp(reason)

    def request_of(self, url: str) -> Request | None:
        parts = urlsplit(url)
        if not parts.path.startswith(REST):
            return None
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        symbol, path = asked.get("pair", ""), f"{parts.path}?{parts.query}" if parts.query else parts.path
        match parts.path.removeprefix(REST):
            case "Depth":
                return Request(RestKind.BOOK, path, symbol, depth=int(asked.get("count", "100")))
            case "Trades":
                return Request(RestKind.TRADES, path, symbol, channel=Channel.TRADES)
            case "OHLC":
                interval = INTERVALS.get(int(asked.get("interval", "1")), "")
                return Request(RestKind.CANDLES, path, symbol, interval=interval)
            case "AssetPairs":
                return Request(RestKind.INSTRUMENTS, path)
            case "Time":
                return Request(RestKind.TIME, path)
            case _:
                return None


# --- helpers of the stream ------------------------------------------------------------------------------------------


def _params(it: Subscription, method: str) -> str:
    """All but the symbols; unsubscribing repeats what was asked for."""
    if it.channel not in CHANNELS:
        raise ValueError(f"Kraken has no {it.channel} channel")
    more = {
        Channel.BOOK: f',"depth":{it.depth or DEPTHS[0]}',
        Channel.CANDLES: f',"interval":{MINUTES.get(it.interval)}',
        Channel.QUOTES: ',"event_trigger":"bbo"',
        Channel.TICKER: ',"event_trigger":"trades"',
    }.get(it.channel, "")
    if it.channel is Channel.CANDLES and it.interval not in MINUTES:
        raise ValueError(f"Kraken has no interval {it.interval!r}")
    snapshot = ',"snapshot":true' if method == "subscribe" else ""  # of trades it is off unless asked for
    return f'"channel":"{CHANNELS[it.channel]}"{more}{snapshot}'


def _time(text: str | None, received: int) -> int:
    return received if text is None else _moment(rfc3339(text))


def _moment(time: int) -> int:
    if not 0 <= time <= LATEST * SECOND:
        raise BadFrame(f"not a time of a market: {str(time)[:40]} ns")
    return time


def _text(raw: Raw) -> str:
    return str(raw, "ascii")


def _optional(raw: Raw, read: Callable[[str], Decimal] = number) -> Decimal | None:
    text = _text(raw)
    return None if text == "null" else read(text)


def _level(price: Raw, size: Raw) -> Level | None:
    """A side without orders has no price, or 0."""
    at, of = _optional(price, level_number), _optional(size, level_number)
    return (at, of) if at and of is not None else None


def _candle(it: _Ohlc, begin: int, time: int, received: int, *, final: bool) -> Candle:
    name = INTERVALS[it.interval]
    return Candle(
        venue=SPEC.name, symbol=it.symbol, exchange_time=time, received_time=received, available_at=received,
        interval=name, start=begin, end=begin + interval_ns(name), open=number(_text(it.open)),
        high=number(_text(it.high)), low=number(_text(it.low)), close=number(_text(it.close)),
        volume=number(_text(it.volume)), quote_volume=None, vwap=number(_text(it.vwap)) if it.trades else None,
        trades=it.trades, taker_buy_volume=None, complete=True, final=final, source="venue",
    )


def _pair(raw: Raw) -> tuple[str, tuple[int, int], Instrument]:
    """Symbol, digits behind the point of price and quantity, instrument."""
    it = _decode_pair(raw)
    return it.symbol, (it.price_precision, it.qty_precision), _instrument_of(
        it.symbol, it.base, it.quote, it.status, number(_text(it.price_increment)), number(_text(it.qty_increment)),
        _optional(it.qty_min),
    )


# --- helpers of REST ------------------------------------------------------------------------------------------------

OLD_NAMES = {"XBT": "BTC", "XDG": "DOGE"}  # in ``wsname``; v2 of the WebSocket refuses them


class _Unixtime(Struct):
    unixtime: Seconds


class _Time(Struct):
    result: _Unixtime


class _Body(Struct):
    result: dict[str, Raw]


class _Errors(Struct):
    error: list[str] = []


class _AssetPair(Struct):
    base: str
    quote: str
    pair_decimals: Digits  # of the price
    lot_decimals: Digits  # of the quantity
    wsname: str = ""  # XBT/USD: the name in v1 of the WebSocket
    tick_size: str = ""  # may be coarser than pair_decimals; rows of 2021 have none
    ordermin: str = ""
    status: str = ""
    aclass_base: str = "currency"


DepthRow = tuple[str, str, Raw]  # price, quantity, time in s
TradeRow = tuple[str, str, Raw, Literal["b", "s"], str, str, Whole]  # price, quantity, time, taker, type, misc, id
OhlcRow = tuple[Seconds, str, str, str, str, str, str, Whole]  # start, open, high, low, close, vwap, volume, trades


class _Depth(Struct):
    bids: list[DepthRow]
    asks: list[DepthRow]


_decode_time = json.Decoder(_Time).decode
_decode_body = json.Decoder(_Body).decode
_decode_errors = json.Decoder(_Errors).decode
_decode_asset_pair = json.Decoder(_AssetPair).decode
_decode_depth = json.Decoder(_Depth).decode
_decode_rest_trades = json.Decoder(list[TradeRow]).decode
_decode_rest_candles = json.Decoder(list[OhlcRow]).decode


def _path(call: str, symbol: str, more: str) -> str:
    # With assetVersion=1 the answer is keyed by the symbol of the WebSocket, BTC/USD instead of XXBTZUSD.
    # https://docs.kraken.com/api-reference/market-data/get-ohlc-data
    return f"{REST}{call}?pair={quote(symbol.replace('/', ''))}&assetVersion=1{more}"


def _only(request: Request, body: bytes) -> tuple[str, Raw]:
    """Symbol and data: the one key that is not ``last``. The key is believed only where the request has no symbol."""
    found = [it for it in _decode_body(body).result.items() if it[0] != "last"]
    if len(found) != 1:
        raise BadFrame(f"{len(found)} pairs in an answer about {request.symbol!r}", request.symbol)
    name, raw = found[0]
    return name if "/" in name and "/" not in request.symbol else request.symbol, raw


def _levels(rows: list[DepthRow]) -> Levels:
    return Levels.of((level_number(price), level_number(size)) for price, size, _ in rows)


def _asset_pair(item: tuple[str, Raw]) -> Instrument | None:
    """None of what the WebSocket does not offer: dark pools, US margin routing."""
    key, it = item[0], _decode_asset_pair(item[1])
    if "/" in key:  # as assetVersion=1 has it
        symbol, base, quote_ = key, it.base, it.quote
    else:
        base, _, quote_ = (OLD_NAMES.get(name, name) for name in it.wsname.partition("/"))
        symbol = f"{base}/{quote_}"
    if not it.wsname or symbol.endswith(ROUTED):
        return None
    return _instrument_of(
        symbol, base, quote_, it.status, number(it.tick_size) if it.tick_size else Decimal(1).scaleb(-it.pair_decimals),
        Decimal(1).scaleb(-it.lot_decimals), number(it.ordermin) if it.ordermin else None,
        Kind.SPOT if it.aclass_base == "currency" else Kind.OTHER,
    )


def _instrument_of(
    symbol: str, base: str, quote_: str, status: str, tick: Decimal, lot: Decimal, least: Decimal | None,
    kind: Kind = Kind.SPOT,
) -> Instrument:
    if not (symbol and base and quote_):
        raise BadFrame(f"a pair without a name: {symbol!r}", symbol)
    return Instrument(
        id=InstrumentId(SPEC.name, symbol), kind=kind, pair=f"{base}-{quote_}" if kind is Kind.SPOT else "", base=base,
        quote=quote_, tradable=status == "online", status=status, tick_size=tick, lot_size=lot, min_size=least,
    )


# https://docs.kraken.com/api/docs/guides/spot-errors; in lower case, without spaces round the colons
WAITS = {
    "too many requests": 5 * SECOND,
    "rate limit exceeded": 5 * SECOND,
    "temporary lockout": 15 * MINUTE,  # further calls extend it
    "eservice:": 0,
    "internal error": 0,
    "invalid nonce": 0,
}
THROTTLED = re.compile(r"throttled:(\d{10})")


def _tight(text: str) -> str:
    return re.sub(r"\s*:\s*", ":", text).lower()


def _check_errors(body: bytes, headers: Mapping[str, str]) -> None:
    """Errors come with HTTP 200; what begins with W is but a warning."""
    try:
        errors = [it for it in _decode_errors(body).error if not it.startswith("W")]
    except UNREADABLE as bad:
        raise TryAgain(f"unreadable: {body[:100].decode('utf-8', 'replace')}") from bad
    if not errors:
        return
    reason = "; ".join(errors)
    text = _tight(reason)
    if until := THROTTLED.search(text):
        raise TryAgain(reason, _until(int(until[1]), headers))
    for words, wait in WAITS.items():
        if words in text:
            raise TryAgain(reason, retry_after_ns(headers, wait))
    raise GiveUp(reason)


def _until(unixtime: int, headers: Mapping[str, str]) -> int:
    """How long until then by the venue's own clock: 1 s to 10 min, a minute where it does not tell the time."""
    try:
        now = datetime.strptime(headers.get("date", ""), "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    except ValueError:
        return MINUTE
    return min(max(unixtime - int(now.timestamp()), 1) * SECOND, 10 * MINUTE)
