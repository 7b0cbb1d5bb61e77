"""Bybit spot and linear perpetuals: https://bybit-exchange.github.io/docs/v5/ws/connect"""
import re
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Generic, Literal, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

from msgspec import Raw, Struct, json

from onetape.book import OrderBook
from onetape.clock import MILLISECOND, MINUTE, SECOND, interval_ns, month_end
from onetape.credentials import Credentials
from onetape.errors import BadFrame, ClockSkew, GiveUp, TryAgain
from onetape.model import (
    PAIRS,
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
    Side,
    Skipped,
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
    Milliseconds,
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
    next_step,
    readable,
    retry_after_ns,
    whole,
)

BARS = {
    "1m": "1", "3m": "3", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "2h": "120", "4h": "240", "6h": "360",
    "12h": "720", "1d": "D", "1w": "W", "1M": "M",
}
INTERVALS = {bar: interval for interval, bar in BARS.items()}
LINEAR = "linear:"  # stands before the symbols of that market: BTCUSDT is the name of a spot pair and of a perpetual
_MAINNET = {
    "spot": ("wss://stream.bybit.com/v5/public/spot",),
    "linear": ("wss://stream.bybit.com/v5/public/linear",),
}

SPEC = Spec(
    name="bybit",
    exchange="bybit",
    documentation="https://bybit-exchange.github.io/docs/v5/intro",
    endpoints={
        "production": Endpoints(_MAINNET, ("https://api.bybit.com", "https://api.bytick.com")),
        "testnet": Endpoints(
            {
                "spot": ("wss://stream-testnet.bybit.com/v5/public/spot",),
                "linear": ("wss://stream-testnet.bybit.com/v5/public/linear",),
            },
            ("https://api-testnet.bybit.com",),
        ),
        # The demo has no public data of its own: https://bybit-exchange.github.io/docs/v5/demo
        "demo": Endpoints(_MAINNET, ("https://api.bybit.com", "https://api.bytick.com")),
    },
    capabilities=Capabilities(
        channels=frozenset(Channel) - {Channel.AGG_TRADES, Channel.STATUS},  # system.status has a socket of its own
        depths=(50, 200, 1_000),
        intervals=tuple(BARS),
        verification="sequence",
        tape=Channel.TRADES,
    ),
    book=BookRules(Snapshots.IN_BAND, resends=True, crossed_grace_messages=1),
    limits=Limits(
        subscriptions=500,  # 21,000 characters of args in all: about 40 each
        args=10,  # of spot; linear has no limit, but drops clients that ask for very much at once
        frame_bytes=21_000,
        connects=500,
        connects_per_ns=5 * MINUTE,
    ),
    timings=Timings(ping_every_ns=20 * SECOND),
    history=History(newest_only=True),
    redundancy=2,  # what one loses nothing would show, and REST has it for seconds only
    budget=Budget(600, 5 * SECOND),
    counted_trades=False,  # ids are UUIDs on linear, and rise by whatever on spot
    ban_wait_ns=10 * MINUTE,
)

T = TypeVar("T")
Time = Milliseconds | str  # ms; a number as documented, but text has been seen


class Push(Struct, Generic[T], gc=False):
    topic: str
    data: T
    type: Literal["snapshot", "delta", ""] = ""  # of trades and candles always "snapshot", and no reset
    ts: Time | None = None  # sent by the gateway
    cts: Time | None = None  # by the matching engine, the clock of trades; books only


class Match(Struct, gc=False):
    T: Time  # match time, ms
    s: str  # symbol
    S: Literal["Buy", "Sell"]  # the taker's side
    v: str  # size, base
    p: str  # price
    i: str  # trade id: a UUID on linear, digits on spot
    BT: bool = False  # block trade


class _Depth(Struct, gc=False):
    s: str  # symbol
    b: Raw  # bids
    a: Raw  # asks
    u: Whole  # update id of this topic


class Best(Struct, gc=False):
    s: str  # symbol
    b: list[list[str]]  # none or one
    a: list[list[str]]
    u: Whole


class Ticker24h(Struct, gc=False, frozen=True):
    """In a delta of linear only what changed is there; "" is a value: none."""

    symbol: str
    lastPrice: str | None = None
    prevPrice24h: str | None = None
    price24hPcnt: str | None = None  # a fraction: 0.01 is 1 %
    highPrice24h: str | None = None
    lowPrice24h: str | None = None
    volume24h: str | None = None  # base
    turnover24h: str | None = None  # quote


class Kline(Struct, gc=False):
    start: Time  # ms
    end: Time  # ms: the last one inside
    interval: str
    open: str
    close: str
    high: str
    low: str
    volume: str  # base
    turnover: str  # quote
    confirm: bool  # closed
    timestamp: Time  # of the last match inside, ms


class _Status(Struct):
    state: str  # scheduled, ongoing, completed, canceled
    title: str = ""


class Control(Struct):
    """An ack, a refusal or a pong; a frame of an unknown kind leaves all of it empty."""

    topic: str = ""
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""


decode_trades = json.Decoder(Push[list[Match]]).decode
_decode_depth = json.Decoder(Push[_Depth]).decode
decode_best = json.Decoder(Push[Best]).decode
decode_ticker = json.Decoder(Push[Ticker24h]).decode
decode_klines = json.Decoder(Push[list[Kline]]).decode
_decode_status = json.Decoder(Push[list[_Status]]).decode
decode_control = json.Decoder(Control).decode

HEAD = b'{"topic":"'
TOPIC = re.compile(rb'"topic"\s*:\s*"([^"]+)"')
NAMED = re.compile(r"topic\s*:\s*([\w.-]+)|invalid symbol\s*:\s*\[([^\]]*)\]", re.IGNORECASE)
# Texts, not codes, and their wording drifts: https://github.com/bybit-exchange/pybit/issues/333
REACTIONS = {"already subscribed": Reaction.IGNORE}
PENDING = 64  # requests whose acks are still awaited; the oldest is forgotten first

# https://bybit-exchange.github.io/docs/v5/error
TRANSIENT = frozenset({429, 10000, 10006, 10016, 10019, 10429})
CLOCK = frozenset({-1, 10002})
STOCKS = frozenset({"xstocks", "stock", "commodity", "forex"})


class Bybit:
    spec: ClassVar[Spec] = SPEC

    def __init__(self, route: str = "") -> None:
        self.route = route or "spot"
        self._prefix = LINEAR if self.route == "linear" else ""
        self._sent = 0
        self._requests: dict[str, tuple[dict[str, Subscription], bool]] = {}  # by id, by topic; True: unsubscribing
        self._suspects: set[str] = set()  # topics of requests that failed without a word which one is to blame
        self._tickers: dict[str, Ticker24h] = {}  # what the deltas of linear are merged into
        self._readers: dict[bytes, Callable[[bytes, int], Sequence[Parsed]]] = {
            b"publicTrade": self._trades, b"tickers": self._ticker, b"kline": self._candles, b"orderbook": self._book,
            b"system": self._status,
        }

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        return category_of(subscription.symbol)[0]

    # --- out --------------------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        """None: no public topic asks who listens; `signing.bybit_auth` is for private ones."""
        return []

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        return frame

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._request("subscribe", wanted)

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._request("unsubscribe", wanted)

    def _request(self, op: str, wanted: Sequence[Subscription]) -> list[bytes]:
        topics = {topic_of(it): it for it in wanted}
        texts = {json.encode(topic).decode(): topic for topic in topics}
        trusted = [text for text, topic in texts.items() if topic not in self._suspects]
        alone = [[text] for text, topic in texts.items() if topic in self._suspects]
        frames = []
        for batch in [*batches(trusted, self.spec.limits), *alone]:
            self._sent += 1
            if len(self._requests) >= PENDING:
                del self._requests[next(iter(self._requests))]
            asked = {texts[it]: topics[texts[it]] for it in batch}
            self._requests[str(self._sent)] = asked, op == "unsubscribe"
            frames.append(f'{{"req_id":"{self._sent}","op":"{op}","args":[{",".join(batch)}]}}'.encode())
        return frames

    def ping(self, number: int) -> bytes | None:
        return b'{"req_id":"%d","op":"ping"}' % number

    # --- in ---------------------------------------------------------------------------------------------------------

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        # The topic mostly stands first: looking there saves decoding the frame twice.
        kind = frame[len(HEAD) : frame.find(b".", len(HEAD))] if frame.startswith(HEAD) else b""
        reader = self._readers.get(kind, self._other)
        return reader(frame, received)

    def _trades(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return [self._trade(it, received) for it in decode_trades(frame).data]

    def _trade(self, it: Match, received: int) -> Trade | Skipped:
        time, symbol = milliseconds(it.T), self._prefix + it.s
        if it.BT:  # negotiated, its price is not of the market
            return Skipped(
                venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received,
                available_at=received, channel=Channel.TRADES, first=it.i, last=it.i, after=None, reason="block trade",
            )
        return Trade(
            venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received, available_at=received,
            channel=Channel.TRADES, id=it.i, after=None, price=number(it.p), size=number(it.v), side=SIDES[it.S],
        )

    def _ticker(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = decode_ticker(frame)
        it = message.data
        if message.type == "delta":
            old = self._tickers.get(it.symbol)
            if old is None:
                return (Unknown("a ticker's delta before its snapshot"),)
            it = _merged(old, it)
        event = ticker(self._prefix + it.symbol, it, _moment(received, message.ts), received)
        if it.symbol not in self._tickers and len(self._tickers) >= 2 * self.spec.limits.subscriptions:
            raise BadFrame("more tickers than one connection can have", event.symbol, Channel.TICKER)
        self._tickers[it.symbol] = it
        return (event,)

    def _candles(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = decode_klines(frame)
        symbol = self._prefix + message.topic.split(".", 2)[2]
        return [self._candle(symbol, it, message.ts, received) for it in message.data]

    def _candle(self, symbol: str, it: Kline, sent: Time | None, received: int) -> Candle:
        return Candle(
            venue=self.spec.name, symbol=symbol,
            exchange_time=milliseconds(it.timestamp if sent is None else sent), received_time=received,
            available_at=received, interval=INTERVALS[it.interval], start=milliseconds(it.start),
            end=_end(milliseconds(it.end) + MILLISECOND), open=number(it.open), high=number(it.high),
            low=number(it.low), close=number(it.close), volume=number(it.volume), quote_volume=number(it.turnover),
            vwap=None, trades=None, taker_buy_volume=None, complete=True, final=it.confirm, source="venue",
        )

    def _book(self, frame: bytes, received: int) -> Sequence[Parsed]:
        if frame.startswith(b"orderbook.1.", len(HEAD)):
            return self._quote(frame, received)
        message = _decode_depth(frame)
        _, depth, _ = message.topic.split(".", 2)
        if not depth.isdigit():  # orderbook.rpi and orderbook.full are other books, with other rules
            return (Unknown(f"orderbook.{depth}"),)
        if depth == "1":
            return self._quote(frame, received)
        it, symbol = message.data, self._prefix + message.data.s
        time = _moment(received, message.cts, message.ts)
        bids, asks = Levels(it.b, PAIRS), Levels(it.a, PAIRS)
        match message.type:
            case "snapshot":
                return (BookSnapshot(
                    venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received,
                    available_at=received, sequence=it.u, bids=bids, asks=asks, depth=int(depth),
                    verification="sequence",
                ),)
            case "delta":
                return (BookDelta(
                    venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received,
                    # The step of 1 is written down for orderbook.full alone, but holds on all of them. u == 1 is a
                    # restart of the service: such a message is meant to replace the book.
                    available_at=received, after=it.u - 1, sequence=it.u, bids=bids, asks=asks, restart=it.u == 1,
                ),)
            case _:
                raise BadFrame("a book without a type", symbol, Channel.BOOK)

    def _quote(self, frame: bytes, received: int) -> Sequence[Parsed]:
        """The same one comes again, with the same u, when nothing changes for 3 s."""
        message = decode_best(frame)
        if message.type != "snapshot":  # until 2025-03 there were deltas, in which an empty side meant no change
            return (Unknown("orderbook.1 delta"),)
        it = message.data
        return (Quote(
            venue=self.spec.name, symbol=self._prefix + it.s,
            exchange_time=_moment(received, message.cts, message.ts), received_time=received, available_at=received,
            bid=_best(it.b), ask=_best(it.a), sequence=it.u,
        ),)

    def _status(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = _decode_status(frame)
        return [
            VenueStatus(
                venue=self.spec.name, symbol="", exchange_time=_moment(received, message.ts),
                received_time=received, available_at=received, status=it.state, message=it.title,
            )
            for it in message.data
        ]

    def _other(self, frame: bytes, received: int) -> Sequence[Parsed]:
        it = decode_control(frame)
        if it.topic:
            reader = self._readers.get(it.topic.partition(".")[0].encode())  # its keys came in another order
            return reader(frame, received) if reader else (Unknown(it.topic),)
        if it.op == "pong" or it.ret_msg == "pong":  # spot and linear answer with op "ping", as if by an echo
            return (Alive(int(it.req_id) if it.req_id.isdecimal() and len(it.req_id) < 19 else None),)
        if it.success is None or (it.success and it.op not in ("subscribe", "unsubscribe")):
            return (Unknown(it.op or "?"),)
        asked, removing = self._requests.pop(it.req_id, ({}, it.op == "unsubscribe"))
        if not it.success:
            return _refusals(it.ret_msg, asked, self._suspects, removing=removing)
        self._suspects.difference_update(asked)
        return (Acked(tuple(asked.values()), removing),)

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        found = TOPIC.search(frame)
        kind, _, rest = found[1].decode("utf-8", "replace").partition(".") if found else ("", "", "")
        if kind in ("kline", "orderbook"):
            depth, _, rest = rest.partition(".")
            kind = f"{kind}.1" if kind == "orderbook" and depth == "1" else kind
        return (self._prefix + rest, CHANNELS[kind]) if rest and kind in CHANNELS else ("", None)

    def checksum(self, symbol: str, book: OrderBook) -> int:
        raise ValueError("Bybit numbers its updates and sums nothing")

    # --- REST -------------------------------------------------------------------------------------------------------

    def time_request(self) -> Request:
        return Request(RestKind.TIME, "/v5/market/time")

    def parse_time(self, body: bytes) -> int:
        text = _decode_time(body).result.timeNano  # 19 digits: in two parts
        return milliseconds(text[:-6]) + whole(text[-6:])

    def instrument_requests(self) -> list[Request]:
        return [
            Request(RestKind.INSTRUMENTS, f"/v5/market/instruments-info?category={it}&limit=1000")
            for it in ("spot", "linear")
        ]

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        it = _decode_instruments(body).result
        found = readable(lambda row: _instrument(it.category, _decode_row(row)), it.list)
        if not it.nextPageCursor:
            return found, None
        # It comes encoded already (https://github.com/sieblyio/bybit-api/pull/198): not a second time.
        cursor = quote(it.nextPageCursor, safe="%")
        path = f"/v5/market/instruments-info?category={quote(it.category or 'linear')}&limit=1000&cursor={cursor}"
        return found, Request(RestKind.INSTRUMENTS, path)

    def book_request(self, symbol: str, depth: int) -> Request:
        limit = depth if 0 < depth < 1_000 else 1_000
        return Request(RestKind.BOOK, f"{_path('orderbook', symbol)}&limit={limit}", symbol, depth=limit)

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot:
        it = _decode_book_body(body).result
        return BookSnapshot(
            venue=self.spec.name, symbol=request.symbol,
            exchange_time=_moment(received, it.cts, it.ts), received_time=received,
            available_at=received, sequence=it.u, bids=Levels(it.b, PAIRS), asks=Levels(it.a, PAIRS),
            # u is of the stream of depth 1000, and says nothing about the others.
            depth=request.depth, verification="sequence" if request.depth == 1_000 else "none",
        )

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        """Always the newest: there is no paging, and what lies further back cannot be had."""
        limit = 1_000 if symbol.startswith(LINEAR) else 60
        return Request(
            RestKind.TRADES, f"{_path('recent-trade', symbol)}&limit={limit}", symbol, channel=Channel.TRADES,
            rows=limit,
        )

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        listed = _decode_trades_body(body).result.list
        _, name = category_of(request.symbol)
        if any(it.symbol != name for it in listed):
            raise BadFrame(f"trades of something else than {request.symbol!r}", request.symbol, Channel.TRADES)
        rows = [it for it in reversed(listed) if not it.isBlockTrade]  # newest first
        rows.sort(key=lambda it: (milliseconds(it.time), whole(it.seq)))  # in practice, but not by promise
        return [
            Trade(
                venue=self.spec.name, symbol=request.symbol, exchange_time=milliseconds(it.time),
                received_time=received, available_at=received, channel=Channel.TRADES, id=it.execId, after=None,
                price=number(it.price), size=number(it.size), side=SIDES[it.side], source=Source.BACKFILL,
            )
            for it in rows
        ]

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        if not interval.endswith("M"):  # of more than fit into one answer, Bybit gives the last: ask for the first
            end = min(end, start + 1_000 * interval_ns(interval))
        return Request(
            RestKind.CANDLES,
            f"{_path('kline', symbol)}&interval={BARS[interval]}&start={-(-start // MILLISECOND)}"
            f"&end={-(-end // MILLISECOND) - 1}&limit=1000",
            symbol, interval=interval,
        )

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        it = _decode_klines_body(body)
        now = _moment(received, it.time)  # nothing in a row says whether it is closed
        return sorted((_rest_candle(request, row, now, received) for row in it.result.list), key=lambda it: it.start)

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        try:
            error = _decode_code(body)
        except UNREADABLE:
            error = _Code(None, body[:100].decode("utf-8", "replace"))
        if status == 200 and error.retCode == 0:  # a failure comes with HTTP 200 too
            return
        reason = f"HTTP {status}: {'not JSON' if error.retCode is None else error.retCode} {error.retMsg}"
        if status == 403:  # too many requests of this IP, or a country that Bybit does not serve
            if b"too frequent" in body.lower():
                raise TryAgain(reason, retry_after_ns(headers, self.spec.ban_wait_ns))
            raise GiveUp(reason)
        if error.retCode in CLOCK:
            raise ClockSkew(reason)
        unread = status == 200 and error.retCode is None
        if unread or error.retCode in TRANSIENT or status in (408, 429) or status >= 500:
            raise TryAgain(reason, retry_after_ns(headers, _until_reset(headers, error)))
        raise GiveUp(reason)

    def request_of(self, url: str) -> Request | None:
        parts = urlsplit(url)
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        path = parts._replace(scheme="", netloc="", fragment="").geturl()
        category = asked.get("category", "linear")  # Bybit's own default
        if category not in ("spot", "linear"):
            return None
        symbol = (LINEAR if category == "linear" else "") + asked.get("symbol", "")
        match parts.path.removeprefix("/v5/market/"):
            case "orderbook":
                default = "25" if category == "linear" else "1"
                return Request(RestKind.BOOK, path, symbol, depth=int(asked.get("limit", default)))
            case "recent-trade":
                limit = asked.get("limit", "")
                rows = int(limit) if limit.isdecimal() else 0
                return Request(RestKind.TRADES, path, symbol, channel=Channel.TRADES, rows=rows)
            case "kline" if asked.get("interval") in INTERVALS:
                return Request(RestKind.CANDLES, path, symbol, interval=INTERVALS[asked["interval"]])
            case "instruments-info":
                return Request(RestKind.INSTRUMENTS, path)
            case "time":
                return Request(RestKind.TIME, path)
            case _:
                return None


# --- the venue's spellings ------------------------------------------------------------------------------------------

SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
CHANNELS = {
    "publicTrade": Channel.TRADES, "tickers": Channel.TICKER, "kline": Channel.CANDLES, "orderbook": Channel.BOOK,
    "orderbook.1": Channel.QUOTES,
}


def category_of(symbol: str) -> tuple[str, str]:
    """Category and the venue's own spelling."""
    return ("linear", symbol.removeprefix(LINEAR)) if symbol.startswith(LINEAR) else ("spot", symbol)


def topic_of(it: Subscription) -> str:
    _, symbol = category_of(it.symbol)
    match it.channel:
        case Channel.TRADES:
            return f"publicTrade.{symbol}"
        case Channel.QUOTES:
            return f"orderbook.1.{symbol}"
        case Channel.TICKER:
            return f"tickers.{symbol}"
        case Channel.CANDLES:
            return f"kline.{BARS[it.interval]}.{symbol}"
        case Channel.BOOK:
            return f"orderbook.{SPEC.capabilities.depth_for(it.depth)}.{symbol}"
        case Channel.AGG_TRADES | Channel.STATUS:
            raise ValueError(f"Bybit has no {it.channel} channel")


def _refusals(
    text: str, asked: Mapping[str, Subscription], suspects: set[str], *, removing: bool,
) -> Sequence[Refused]:
    """One bad topic fails its whole request: that one is refused, and the others are to be asked for again.

    Where the text names none, each of them is next asked for by itself. A refused removal says nothing of any.
    """
    reaction = next_step(REACTIONS, text)
    if removing:
        return (Refused(tuple(asked.values()), text, reaction, removed=True),)
    words = {word for topic, symbols in NAMED.findall(text) for word in re.split(r"[\s,]+", topic or symbols)}
    named = {topic for topic in asked if topic in words or topic.rpartition(".")[2] in words}
    if len(asked) == 1:
        named = set(asked)
    if not named:
        suspects.update(asked)
        return (Refused(tuple(asked.values()), text, Reaction.RETRY if asked else reaction),)
    suspects.difference_update(named)
    others = tuple(it for topic, it in asked.items() if topic not in named)
    refused = Refused(tuple(it for topic, it in asked.items() if topic in named), text, reaction)
    return (refused, Refused(others, f"in one request with {text}", Reaction.RETRY)) if others else (refused,)


# --- the venue's numbers --------------------------------------------------------------------------------------------


def _moment(received: int, *times: Time | None) -> int:
    """The first that the venue gives, in ns; else the time of receipt."""
    return next((milliseconds(it) for it in times if it is not None), received)


def _end(time: int) -> int:
    if time >= 2**63:
        raise BadFrame(f"a candle without an end: {time}", channel=Channel.CANDLES)
    return time


def _best(rows: list[list[str]]) -> Level | None:
    return (level_number(rows[0][0]), level_number(rows[0][1])) if rows else None


def _merged(old: Ticker24h, new: Ticker24h) -> Ticker24h:
    values = zip(Ticker24h.__struct_fields__, _values(old), _values(new), strict=True)
    return Ticker24h(**{name: before if now is None else now for name, before, now in values})  # type: ignore[arg-type]


def _values(it: Ticker24h) -> list[str | None]:
    return [getattr(it, name) for name in Ticker24h.__struct_fields__]


def ticker(symbol: str, it: Ticker24h, time: int, received: int) -> Ticker:
    last, before, fraction = optional(it.lastPrice), optional(it.prevPrice24h), optional_signed(it.price24hPcnt)
    return Ticker(
        venue=SPEC.name, symbol=symbol, exchange_time=time, received_time=received, available_at=received, last=last,
        price_change=None if last is None or before is None else last - before,
        price_change_percent=None if fraction is None else fraction * 100, high=optional(it.highPrice24h),
        low=optional(it.lowPrice24h), volume=optional(it.volume24h), quote_volume=optional(it.turnover24h),
    )


# --- REST bodies ----------------------------------------------------------------------------------------------------


class Body(Struct, Generic[T]):
    retCode: Literal[0]
    result: T
    time: Time | None = None  # the server's, ms


class Page(Struct, Generic[T]):
    list: list[T]
    category: str = ""
    nextPageCursor: str | None = None  # "" or null on the last page


class _Time(Struct):
    timeNano: str


class _RestBook(Struct):
    b: Raw
    a: Raw
    u: Whole
    ts: Time  # ms
    cts: Time | None = None


class _RestTrade(Struct):
    execId: str
    symbol: str
    price: str
    size: str
    side: Literal["Buy", "Sell"]
    time: Time  # ms
    isBlockTrade: bool = False
    seq: str = "0"


class _Price(Struct):
    tickSize: str


class _Lot(Struct):
    qtyStep: str = ""  # linear
    basePrecision: str = ""  # spot: the step of the size
    minOrderQty: str = ""


class _Row(Struct):
    symbol: str
    status: str  # PreLaunch, Trading, Delivering, Closed
    baseCoin: str
    quoteCoin: str
    priceFilter: _Price
    lotSizeFilter: _Lot
    contractType: str = ""  # none on spot
    symbolType: str = ""  # innovation and adventure, or what is no crypto


class _Code(Struct):
    retCode: int | None = None
    retMsg: str = ""
    time: Time | None = None


_decode_time = json.Decoder(Body[_Time]).decode
_decode_instruments = json.Decoder(Body[Page[Raw]]).decode
_decode_row = json.Decoder(_Row).decode
_decode_book_body = json.Decoder(Body[_RestBook]).decode
_decode_trades_body = json.Decoder(Body[Page[_RestTrade]]).decode
_decode_klines_body = json.Decoder(Body[Page[tuple[str, str, str, str, str, str, str]]]).decode
_decode_code = json.Decoder(_Code).decode


def _path(call: str, symbol: str) -> str:
    category, name = category_of(symbol)  # never left out: Bybit would take linear
    return f"/v5/market/{call}?category={category}&symbol={quote(name)}"


def _until_reset(headers: Mapping[str, str], error: _Code) -> int:
    """From the server's now to the reset of its limit, as far as it tells both; 0: it does not."""
    reset = headers.get("x-bapi-limit-reset-timestamp", "")
    try:
        wait = 0 if error.time is None else milliseconds(reset) - milliseconds(error.time)
        return min(max(wait, 0), SPEC.ban_wait_ns)
    except BadFrame:
        return 0


def _rest_candle(request: Request, row: tuple[str, ...], now: int, received: int) -> Candle:
    opened, o, h, low, c, volume, turnover = row
    start, interval = milliseconds(opened), request.interval
    end = _end(month_end(start) if interval.endswith("M") else start + interval_ns(interval))
    return Candle(
        venue=SPEC.name, symbol=request.symbol, exchange_time=min(end, now), received_time=received,
        available_at=received, interval=interval, start=start, end=end, open=number(o), high=number(h), low=number(low),
        close=number(c), volume=number(volume), quote_volume=number(turnover), vwap=None, trades=None,
        taker_buy_volume=None, complete=True, final=end <= now, source="venue",
    )


def _instrument(category: str, it: _Row) -> Instrument:
    if it.contractType.startswith("Inverse") or category not in ("", "spot", "linear"):
        raise BadFrame(f"an instrument of another market: {it.symbol}")
    spot = not it.contractType
    kind = Kind.SPOT if spot else Kind.PERPETUAL if it.contractType == "LinearPerpetual" else Kind.OTHER
    if it.symbolType in STOCKS:
        kind = Kind.OTHER
    pair = f"{it.baseCoin}-{it.quoteCoin}{'' if spot else '-PERP'}"
    lot = it.lotSizeFilter
    return Instrument(
        id=InstrumentId(SPEC.name, it.symbol if spot else LINEAR + it.symbol), kind=kind,
        pair="" if kind is Kind.OTHER else pair, base=it.baseCoin, quote=it.quoteCoin,
        tradable=it.status == "Trading", status=it.status, tick_size=positive(it.priceFilter.tickSize),
        lot_size=positive(lot.basePrecision if spot else lot.qtyStep), min_size=optional(lot.minOrderQty),
    )
