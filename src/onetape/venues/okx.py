"""OKX spot and linear swaps: https://www.okx.com/docs-v5/en/#overview-websocket"""
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from itertools import zip_longest
from typing import Annotated, ClassVar, Generic, Literal, TypeVar
from urllib.parse import parse_qs, quote, urlsplit
from zlib import crc32

from msgspec import Meta, Raw, Struct, json

from onetape.book import OrderBook
from onetape.clock import DAY, MILLISECOND, SECOND, interval_ns, month_end
from onetape.credentials import Credentials
from onetape.errors import BadFrame, ClockSkew, GiveUp, TryAgain
from onetape.model import (
    PAIRS,
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
from onetape.model.numbers import level_number, number, optional, plain, positive
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
    Notice,
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
    readable,
    retry_after_ns,
    whole,
)
from onetape.venues.signing import okx_login

# Case matters: 1m is a minute, 1M a month. From 6H on, bars without "utc" open by the clock of UTC+8.
BARS = {
    "1s": "1s", "1m": "1m", "3m": "3m", "5m": "5m", "15m": "15m", "30m": "30m", "1h": "1H", "2h": "2H", "4h": "4H",
    "6h": "6Hutc", "12h": "12Hutc", "1d": "1Dutc", "2d": "2Dutc", "3d": "3Dutc", "5d": "5Dutc", "1w": "1Wutc",
    "1M": "1Mutc", "3M": "3Mutc",
}
INTERVALS = {bar: interval for interval, bar in BARS.items()}
# Levels per side; the two tbt channels need a login of VIP4, but recordings have them.
DEPTHS = {"books5": 5, "books50-l2-tbt": 50, "books": 400, "books-l2-tbt": 400}

SPEC = Spec(
    name="okx",
    exchange="okx",
    documentation="https://www.okx.com/docs-v5/en/",
    endpoints={
        # Port 8443, which older samples use, was retired on 2026-10-31. The regional hosts (us, eea) hold other books.
        "production": Endpoints(
            {
                "public": ("wss://ws.okx.com/ws/v5/public",),
                "business": ("wss://ws.okx.com/ws/v5/business",),
            },
            ("https://openapi.okx.com", "https://www.okx.com"),
        ),
        # REST of the demo is the same host, told apart by the header "x-simulated-trading: 1".
        "demo": Endpoints(
            {
                "public": ("wss://wspap.okx.com/ws/v5/public",),
                "business": ("wss://wspap.okx.com/ws/v5/business",),
            },
            ("https://openapi.okx.com", "https://www.okx.com"),
        ),
    },
    capabilities=Capabilities(
        channels=frozenset(Channel),
        depths=(5, 400),
        intervals=tuple(BARS),
        verification="sequence",
        tape=Channel.TRADES,
    ),
    book=BookRules(
        Snapshots.IN_BAND_OR_REST, resends=True, checksum_depth=25, snapshot_wait_ns=3 * SECOND,
        silence_ns=75 * SECOND,  # a book that does not change repeats its number every 60 s
    ),
    limits=Limits(
        subscriptions=1_000,  # 64 KB of args in all: about 60 bytes each
        books=30,  # advised for those of 50 levels and more
        frame_bytes=64_000,
        requests_per_hour=480,
        connects=3,
        connects_per_ns=SECOND * 5 // 4,  # on the way some come closer together than they left
    ),
    timings=Timings(ping_every_ns=20 * SECOND),  # cut after 30 s without a frame
    history=History(reach_ns=90 * DAY, search=Search.UNTIL),
    budget=Budget(20, 2 * SECOND),  # requests; counted per endpoint by OKX, and the scarcest of ours allows 20
    close_codes={
        1009: Reaction.DROP, 4001: Reaction.DROP, 4002: Reaction.DROP, 4003: Reaction.DROP, 4005: Reaction.RETRY,
        4008: Reaction.DROP, 4009: Reaction.DROP,
    },
)

T = TypeVar("T")
Before = Annotated[int, Meta(ge=-1, le=2**63 - 1)]  # -1: there was none
Sum = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class _Arg(Struct, gc=False):
    channel: str
    instId: str  # symbol


class Push(Struct, Generic[T], gc=False):
    """Data whose rows do not name their instrument."""

    arg: _Arg
    data: list[T]
    action: Literal["snapshot", "update", ""] = ""  # incremental books only


class Rows(Struct, Generic[T], gc=False):
    """Data whose rows name it."""

    data: list[T]


class Match(Struct, gc=False):
    instId: str  # symbol
    tradeId: str  # of `trades`: the last match merged
    px: str  # price
    sz: str  # size: base (spot) or contracts (swaps)
    side: Side  # the taker's
    ts: str  # fill time, ms
    count: str = "1"  # matches merged; absent in recordings of 2022 and before


class _Book(Struct, gc=False):
    asks: Raw
    bids: Raw
    ts: str  # generation time, ms
    seqId: Whole | None = None  # absent in recordings of 2022 and before
    prevSeqId: Before | None = None  # -1 in a snapshot
    checksum: Sum | None = None  # CRC32 of old; since 2026-06-23 always 0


class Bbo(Struct, gc=False):
    asks: list[list[str]]  # none or one: [price, size, "0", orders]
    bids: list[list[str]]
    ts: str  # matching-engine time, ms
    seqId: Whole | None = None


class Ticker24h(Struct, gc=False):
    instType: str
    instId: str  # symbol
    last: str
    open24h: str
    high24h: str
    low24h: str
    vol24h: str  # base (spot) or contracts
    volCcy24h: str  # quote (spot) or base
    ts: str  # ms


class _Status(Struct):
    state: str  # scheduled, ongoing, pre_open, completed, canceled
    title: str = ""
    ts: str = ""  # of the push, ms


class _Row(Struct):
    """An instrument; what does not apply, or is not yet known, is sent empty."""

    instId: str
    instType: str
    state: str
    tickSz: str
    lotSz: str
    minSz: str = ""
    baseCcy: str = ""  # spot only
    quoteCcy: str = ""  # spot only
    settleCcy: str = ""  # of swaps: the quote of a linear one
    ctType: str = ""  # linear or inverse
    ctVal: str = ""  # linear: base in one contract, times ctMult
    ctMult: str = ""
    ctValCcy: str = ""
    instFamily: str = ""
    instCategory: str = ""  # 1 crypto, 3 stocks, 4 commodities, 5 currencies, 6 bonds


class _Named(Struct):
    channel: str
    instId: str = ""


class Control(Struct):
    """An ack or an error; a frame of an unknown kind leaves all of it empty."""

    event: str = ""
    id: str = ""  # of the request
    code: str = ""
    msg: str = ""
    arg: _Named | None = None  # acks only


decode_trades = json.Decoder(Rows[Match]).decode
_decode_book = json.Decoder(Push[_Book]).decode
decode_bbo = json.Decoder(Push[Bbo]).decode
decode_tickers = json.Decoder(Rows[Ticker24h]).decode
decode_candles = json.Decoder(Push[list[str]]).decode
_decode_status = json.Decoder(Rows[_Status]).decode
_decode_raw_rows = json.Decoder(Rows[Raw]).decode
_decode_row = json.Decoder(_Row).decode
decode_control = json.Decoder(Control).decode

HEAD = b'{"arg":{"channel":"'
CHANNEL = re.compile(rb'"channel"\s*:\s*"([^"]*)"')
SYMBOL = re.compile(rb'"instId"\s*:\s*"([^"]*)"')
REFUSED = re.compile(r"channel:([\w-]+),instId:([\w-]+)")  # errors name what failed in their text alone
# https://www.okx.com/docs-v5/en/#error-code-websocket-public
WHOLE_REQUEST = {
    "60012": Reaction.DROP, "60013": Reaction.DROP, "60019": Reaction.DROP,  # not understood: our bug
    "60014": Reaction.RECONNECT,  # the requests of this hour are used up: nothing more can be asked for here
    "63999": Reaction.RETRY, "64007": Reaction.RETRY,
}
WRONG_LOGIN = frozenset({"60005", "60007", "60009", "60024", "60032"})  # key, signature, passphrase
TRANSIENT_LOGIN = frozenset({"60004", "60006", "60022", "60023"})  # late, or too many: this connection is shown out
UPGRADE = "64008"  # the connection will be cut within 60 s
# https://www.okx.com/docs-v5/en/#error-code-rest-api
TRANSIENT = frozenset({"50001", "50004", "50011", "50013", "50026", "50040", "50046", "50062"})
CLOCK = frozenset({"50102", "50112"})
BACKOFF = 2 * SECOND  # the window in which OKX counts
PERCENT = Decimal("0.000001")
PENDING = 64  # requests whose acks are still awaited; the oldest is forgotten first


class Okx:
    spec: ClassVar[Spec] = SPEC

    def __init__(self, route: str = "") -> None:
        self.route = route or "public"
        self._sent = 0
        self._requests: dict[str, tuple[dict[_Key, Subscription], bool]] = {}  # not yet acked; True: unsubscribing
        self._arrivals: dict[_Key, int] = {}  # of books without sequence numbers
        self._readers: dict[bytes, Callable[[bytes, int], Sequence[Parsed]]] = {
            b"trades-all": self._trades, b"trades": self._agg_trades, b"bbo-tbt": self._quotes,
            b"tickers": self._tickers, b"status": self._status, b"instruments": self._instruments,
            **{f"candle{bar}".encode(): self._candles for bar in INTERVALS},
            **{channel.encode(): self._book for channel in DEPTHS},
        }

    @staticmethod
    def route_of(subscription: Subscription) -> str:
        return "business" if subscription.channel in (Channel.TRADES, Channel.CANDLES) else "public"

    # --- out --------------------------------------------------------------------------------------------------------

    def login(self, credentials: Credentials, now: int) -> list[bytes]:
        return [okx_login(credentials, now)]

    def signed(self, frame: bytes, credentials: Credentials, now: int) -> bytes:
        return frame  # it is the connection that is logged in

    def subscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._request("subscribe", wanted)

    def unsubscribe(self, wanted: Sequence[Subscription]) -> list[bytes]:
        return self._request("unsubscribe", wanted)

    def _request(self, op: str, wanted: Sequence[Subscription]) -> list[bytes]:
        args = {json.encode(arg_of(it)).decode(): it for it in wanted}
        frames = []
        for batch in batches(list(args), self.spec.limits):
            self._sent += 1
            if len(self._requests) >= PENDING:
                del self._requests[next(iter(self._requests))]
            self._requests[str(self._sent)] = {_key(args[it]): args[it] for it in batch}, op == "unsubscribe"
            frames.append(f'{{"id":"{self._sent}","op":"{op}","args":[{",".join(batch)}]}}'.encode())
        return frames

    def ping(self, number: int) -> bytes | None:
        return b"ping"

    # --- in ---------------------------------------------------------------------------------------------------------

    def parse(self, frame: bytes, received: int) -> Sequence[Parsed]:
        # The channel stands first in a data frame: looking there saves decoding the frame twice.
        channel = frame[len(HEAD) : frame.find(b'"', len(HEAD))] if frame.startswith(HEAD) else b""
        reader = self._readers.get(channel, self._other)
        return reader(frame, received)

    def _trades(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return [self._trade(it, received, Source.LIVE) for it in decode_trades(frame).data]

    def _trade(self, it: Match, received: int, source: Source) -> Trade:
        return Trade(
            venue=self.spec.name, symbol=it.instId, exchange_time=milliseconds(it.ts), received_time=received,
            available_at=received, channel=Channel.TRADES, id=it.tradeId, after=whole(it.tradeId) - 1,
            price=number(it.px), size=number(it.sz), side=it.side, source=source,
        )

    def _agg_trades(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return [self._agg_trade(it, received) for it in decode_trades(frame).data]

    def _agg_trade(self, it: Match, received: int) -> Trade:
        last, count = whole(it.tradeId), whole(it.count)
        if not 1 <= count <= last + 1:
            raise BadFrame(f"trade {it.tradeId} merges {it.count} matches", it.instId, Channel.AGG_TRADES)
        return Trade(
            venue=self.spec.name, symbol=it.instId, exchange_time=milliseconds(it.ts), received_time=received,
            available_at=received, channel=Channel.AGG_TRADES, id=it.tradeId, after=last - count,
            price=number(it.px), size=number(it.sz), side=it.side, first_id=str(last - count + 1),
            last_id=str(last),
        )

    def _quotes(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = decode_bbo(frame)
        return [
            Quote(
                venue=self.spec.name, symbol=message.arg.instId, exchange_time=milliseconds(it.ts),
                received_time=received, available_at=received, bid=_best(it.bids), ask=_best(it.asks),
                sequence=it.seqId,
            )
            for it in message.data
        ]

    def _tickers(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return [self._ticker(it, received) for it in decode_tickers(frame).data]

    def _ticker(self, it: Ticker24h, received: int) -> Ticker:
        last, opened = optional(it.last), optional(it.open24h)
        change = last - opened if last is not None and opened is not None else None
        return Ticker(
            venue=self.spec.name, symbol=it.instId, exchange_time=milliseconds(it.ts), received_time=received,
            available_at=received, last=last, price_change=change,
            # OKX gives no percentage: this one is rounded to six places, half to even.
            price_change_percent=(100 * change / opened).quantize(PERCENT) if change is not None and opened else None,
            high=optional(it.high24h), low=optional(it.low24h), volume=optional(it.vol24h),
            # Of swaps volCcy24h is in base: their quote volume is not told.
            quote_volume=optional(it.volCcy24h) if it.instType == "SPOT" else None,
        )

    def _candles(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = decode_candles(frame)
        interval = INTERVALS[message.arg.channel.removeprefix("candle")]
        return [candle(message.arg.instId, interval, row, received) for row in message.data]

    def _book(self, frame: bytes, received: int) -> Sequence[Parsed]:
        message = _decode_book(frame)
        channel, symbol = message.arg.channel, message.arg.instId
        if len(message.data) != 1:
            raise BadFrame(f"{len(message.data)} books in one message", symbol, Channel.BOOK)
        row = message.data[0]
        time = milliseconds(row.ts)
        whole_book = channel == "books5" or message.action == "snapshot"
        if not whole_book and (not message.action or (row.prevSeqId is None) != (row.seqId is None)):
            raise BadFrame("an update without an action or a prevSeqId", symbol, Channel.BOOK)
        after, sequence, checksum, verification = self._position(row, (channel, symbol))
        bids, asks = Levels(row.bids, PAIRS), Levels(row.asks, PAIRS)
        if whole_book:
            return (BookSnapshot(
                venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received, available_at=received,
                sequence=sequence, bids=bids, asks=asks, depth=DEPTHS[channel], checksum=checksum,
                verification="none" if channel == "books5" else verification,
            ),)
        return (BookDelta(
            venue=self.spec.name, symbol=symbol, exchange_time=time, received_time=received, available_at=received,
            after=after, sequence=sequence, bids=bids, asks=asks, checksum=checksum,
        ),)

    def _position(self, row: _Book, key: "_Key") -> tuple[int, int, int | None, str]:
        """after, sequence, checksum, verification; of old recordings, which number nothing, by counting arrivals."""
        if row.seqId is not None:
            # The checksum that still stands beside it is dead (0, or anything): to verify it would refuse every frame.
            return -1 if row.prevSeqId is None else row.prevSeqId, row.seqId, None, "sequence"
        after = self._arrivals.get(key, 0)
        if not after and len(self._arrivals) >= 2 * self.spec.limits.subscriptions:
            raise BadFrame("more books than one connection can have", key[1], Channel.BOOK)
        self._arrivals[key] = after + 1
        return after, after + 1, row.checksum, "none" if row.checksum is None else "checksum(25)"

    def _status(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return [
            VenueStatus(
                venue=self.spec.name, symbol="", exchange_time=milliseconds(it.ts) if it.ts else received,
                received_time=received, available_at=received, status=it.state, message=it.title,
            )
            for it in _decode_status(frame).data
        ]

    def _instruments(self, frame: bytes, received: int) -> Sequence[Parsed]:
        return [
            InstrumentChanged(
                venue=self.spec.name, received_time=received, available_at=received, change=Change.UPDATED,
                instrument=it,
            )
            for it in readable(_instrument, _decode_raw_rows(frame).data)
        ]

    def _other(self, frame: bytes, received: int) -> Sequence[Parsed]:
        if frame == b"pong":  # plain text, no JSON
            return (Alive(),)
        it = decode_control(frame)
        if it.event:
            return (self._control(it),)
        channel = it.arg.channel if it.arg else ""
        reader = self._readers.get(channel.encode())  # known after all: its keys came in another order
        return reader(frame, received) if reader else (Unknown(channel or "?"),)

    def _control(self, it: Control) -> Parsed:
        match it.event:
            case "subscribe" | "unsubscribe" if it.arg is not None:
                mine = self._answered(it.id, (it.arg.channel, it.arg.instId))
                return Acked(mine, it.event == "unsubscribe") if mine else Unknown(f"{it.event} {it.arg.channel}")
            case "error":
                return self._refused(it)
            case "notice" if it.code == UPGRADE:
                return Notice(f"{it.code}: {it.msg}")
            case _:
                return Unknown(it.event)

    def _refused(self, it: Control) -> Refused | LoginRefused:
        reason = f"{it.code}: {it.msg}"
        if it.code in WRONG_LOGIN:
            return LoginRefused(reason)
        if it.code in TRANSIENT_LOGIN:
            return Refused((), reason, Reaction.RECONNECT)
        pending, removed = self._requests.get(it.id, ({}, False))
        if it.code in WHOLE_REQUEST:
            self._requests.pop(it.id, None)
            return Refused(tuple(pending.values()), reason, WHOLE_REQUEST[it.code], removed)
        named = REFUSED.search(it.msg)
        key = (named[1], named[2]) if named else next(iter(pending)) if len(pending) == 1 else None
        mine = self._answered(it.id, key) if key else ()
        return Refused(mine, reason, Reaction.DROP, removed)

    def _answered(self, request: str, key: "_Key") -> tuple[Subscription, ...]:
        """What this answer is about; each arg of a request is answered by itself, an unknown channel is nothing."""
        pending, _ = self._requests.get(request, ({}, False))
        mine = pending.pop(key, None) or subscription_of(*key)
        if not pending:
            self._requests.pop(request, None)
        return () if mine is None else (mine,)

    def blame(self, frame: bytes) -> tuple[str, Channel | None]:
        channel, symbol = CHANNEL.search(frame), SYMBOL.search(frame)
        name = symbol[1].decode("utf-8", "replace") if symbol else ""
        mine = subscription_of(channel[1].decode("utf-8", "replace"), name) if channel else None
        return name, mine.channel if mine else None

    def checksum(self, symbol: str, book: OrderBook) -> int:
        """CRC32 of the best 25 as ``bid:size:ask:size:...``, as a signed int32; a missing side is left out."""
        depth = self.spec.book.checksum_depth
        pairs = zip_longest(book.bids(depth), book.asks(depth))
        value = crc32(":".join(_digits(it) for pair in pairs for level in pair if level for it in level).encode())
        return value - (value >> 31 << 32)

    # --- REST -------------------------------------------------------------------------------------------------------

    def time_request(self) -> Request:
        return Request(RestKind.TIME, "/api/v5/public/time", weight=2)

    def parse_time(self, body: bytes) -> int:
        return milliseconds(_decode_time(body).data[0].ts)

    def instrument_requests(self) -> list[Request]:
        return [
            Request(RestKind.INSTRUMENTS, f"/api/v5/public/instruments?instType={it}") for it in ("SPOT", "SWAP")
        ]

    def parse_instruments(self, body: bytes) -> tuple[list[Instrument], Request | None]:
        return readable(_instrument, _decode_body(body).data), None

    def book_request(self, symbol: str, depth: int) -> Request:
        size = depth if 0 < depth < 400 else 400  # left out, it would be 1
        return Request(
            RestKind.BOOK, f"/api/v5/market/books?instId={quote(symbol)}&sz={size}", symbol, depth=size
        )

    def parse_book(self, request: Request, body: bytes, received: int) -> BookSnapshot:
        row = _decode_book_body(body).data[0]
        if row.seqId is None:
            raise BadFrame("a book without seqId cannot be joined", request.symbol, Channel.BOOK)
        return BookSnapshot(
            venue=self.spec.name, symbol=request.symbol, exchange_time=milliseconds(row.ts), received_time=received,
            available_at=received, sequence=row.seqId, bids=Levels(row.bids, PAIRS),
            asks=Levels(row.asks, PAIRS), depth=request.depth, verification="sequence",
        )

    def trades_request(self, symbol: str, after: str | None, before: str | None, since: int | None) -> Request | None:
        """Always the newest page below ``before``, or before a time: OKX walks down only.

        So ask again with the least id that came.
        """
        path = f"/api/v5/market/trades?instId={quote(symbol)}&limit=500"
        if before is not None:  # in OKX's words `after` is older than, `before` newer than
            path = f"/api/v5/market/history-trades?instId={quote(symbol)}&type=1&after={whole(before) + 1}&limit=100"
        elif after is None and since is not None:  # in ms, of which the whole one is behind it
            ts = -(-since // MILLISECOND)
            path = f"/api/v5/market/history-trades?instId={quote(symbol)}&type=2&after={ts}&limit=100"
        return Request(RestKind.TRADES, path, symbol, channel=Channel.TRADES)

    def parse_trades(self, request: Request, body: bytes, received: int) -> list[Trade]:
        rows = [self._trade(it, received, Source.BACKFILL) for it in _decode_trades_body(body).data]
        return sorted(rows, key=lambda it: int(it.id))

    def candles_request(self, symbol: str, interval: str, start: int, end: int) -> Request:
        if not interval.endswith("M"):  # of more than fit into one answer, OKX would give the last: ask for the first
            end = min(end, start + 300 * interval_ns(interval))
        return Request(
            RestKind.CANDLES,
            f"/api/v5/market/history-candles?instId={quote(symbol)}&bar={BARS[interval]}"
            f"&after={-(-end // MILLISECOND)}&before={-(-start // MILLISECOND) - 1}&limit=300",
            symbol, interval=interval,
        )

    def parse_candles(self, request: Request, body: bytes, received: int) -> list[Candle]:
        rows = [candle(request.symbol, request.interval, row, received) for row in _decode_candles_body(body).data]
        return sorted(rows, key=lambda it: it.start)

    def check(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        try:
            error = _decode_code(body)
        except UNREADABLE:  # the edge answers in HTML
            error = _Code("not JSON", body[:100].decode("utf-8", "replace"))
        code, reason = str(error.code), f"HTTP {status}: {error.code} {error.msg}"
        if status == 200 and code == "0":  # a failure comes with HTTP 200 too
            return
        if code in CLOCK:
            raise ClockSkew(reason)
        unread = status == 200 and code == "not JSON"
        if unread or code in TRANSIENT or status in (408, 429) or status >= 500:
            raise TryAgain(reason, retry_after_ns(headers, BACKOFF))
        raise GiveUp(reason)

    def request_of(self, url: str) -> Request | None:
        parts = urlsplit(url)
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        symbol, path = asked.get("instId", ""), parts._replace(scheme="", netloc="", fragment="").geturl()
        match parts.path.removeprefix("/api/v5/"):
            case "market/books":
                return Request(RestKind.BOOK, path, symbol, depth=int(asked.get("sz", "1")))
            case "market/trades" | "market/history-trades":
                return Request(RestKind.TRADES, path, symbol, channel=Channel.TRADES)
            case "market/candles" | "market/history-candles" if asked.get("bar", "1m") in INTERVALS:
                return Request(RestKind.CANDLES, path, symbol, interval=INTERVALS[asked.get("bar", "1m")])
            case "public/instruments":
                return Request(RestKind.INSTRUMENTS, path)
            case "public/time":
                return Request(RestKind.TIME, path)
            case _:
                return None


# --- the venue's spellings ------------------------------------------------------------------------------------------

_Key = tuple[str, str]  # channel, instId

CHANNELS = {
    Channel.TRADES: "trades-all", Channel.AGG_TRADES: "trades", Channel.QUOTES: "bbo-tbt", Channel.TICKER: "tickers",
    Channel.STATUS: "status",
}
_CHANNEL_OF = {name: channel for channel, name in CHANNELS.items()}


def _key(it: Subscription) -> _Key:
    match it.channel:
        case Channel.BOOK:
            return "books5" if 0 < it.depth <= 5 else "books", it.symbol
        case Channel.CANDLES:
            return f"candle{BARS[it.interval]}", it.symbol
        case _:
            return CHANNELS[it.channel], it.symbol


def arg_of(it: Subscription) -> dict[str, str]:
    channel, symbol = _key(it)
    return {"channel": channel, "instId": symbol} if symbol else {"channel": channel}


def subscription_of(channel: str, symbol: str) -> Subscription | None:
    if channel in DEPTHS:
        return Subscription(symbol, Channel.BOOK, DEPTHS[channel])
    if channel in _CHANNEL_OF:
        return Subscription(symbol, _CHANNEL_OF[channel])
    interval = INTERVALS.get(channel.removeprefix("candle")) if channel.startswith("candle") else None
    return Subscription(symbol, Channel.CANDLES, interval=interval) if interval else None


# --- the venue's numbers --------------------------------------------------------------------------------------------


def _best(rows: list[list[str]]) -> Level | None:
    """A side may be empty."""
    return (level_number(rows[0][0]), level_number(rows[0][1])) if rows else None


def _digits(value: Decimal) -> str:
    """As OKX writes it: without trailing zeros, which a book that keeps one scale may have added."""
    text = plain(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def candle(symbol: str, interval: str, row: list[str], received: int) -> Candle:
    start, o, h, low, c, volume, _, *rest = row  # volCcy is base or quote; of late volCcyQuote and confirm too
    quote_volume, confirm = rest or (None, None)
    opened = milliseconds(start)
    end = month_end(opened, int(interval[:-1])) if interval.endswith("M") else opened + interval_ns(interval)
    if end >= 2**63:
        raise BadFrame(f"a candle without an end: {start!r}", symbol, Channel.CANDLES)
    final = end <= received if confirm is None else confirm == "1"
    return Candle(
        venue=SPEC.name, symbol=symbol, exchange_time=end if final else received, received_time=received,
        available_at=received, interval=interval, start=opened, end=end, open=number(o), high=number(h),
        low=number(low), close=number(c), volume=number(volume), quote_volume=optional(quote_volume), vwap=None,
        trades=None, taker_buy_volume=None, complete=True, final=final, source="venue",
    )


# --- instruments and REST bodies ------------------------------------------------------------------------------------


class Body(Struct, Generic[T]):
    code: Literal["0"]
    data: list[T]


class _Time(Struct):
    ts: str  # ms


class _Code(Struct):
    code: str | int = ""
    msg: str = ""


_decode_time = json.Decoder(Body[_Time]).decode
_decode_body = json.Decoder(Body[Raw]).decode
_decode_book_body = json.Decoder(Body[_Book]).decode
_decode_trades_body = json.Decoder(Body[Match]).decode
_decode_candles_body = json.Decoder(Body[list[str]]).decode
_decode_code = json.Decoder(_Code).decode


def _instrument(row: Raw) -> Instrument:
    """Raises on a row announced early, which has empty fields or wrong ids until it is filled."""
    it = _decode_row(row)
    kind = _kind(it)
    base, quoted = it.baseCcy, it.quoteCcy
    if it.instType != "SPOT":
        base, quoted = it.ctValCcy or it.instFamily.partition("-")[0], it.settleCcy
    linear = kind is Kind.PERPETUAL
    if kind is not Kind.OTHER and not (base and quoted):
        raise BadFrame("an instrument without base or quote", it.instId)
    return Instrument(
        id=InstrumentId(SPEC.name, it.instId), kind=kind,
        pair="" if kind is Kind.OTHER else f"{base}-{quoted}{'-PERP' if linear else ''}",
        base=base, quote=quoted, tradable=it.state == "live", status=it.state, tick_size=positive(it.tickSz),
        lot_size=positive(it.lotSz), min_size=optional(it.minSz),
        contract_value=positive(it.ctVal) * positive(it.ctMult or "1") if linear else Decimal(1),
        may_cross=it.state != "live",
    )


def _kind(it: _Row) -> Kind:
    if it.instCategory not in ("", "1"):  # stocks, commodities, currencies, bonds
        return Kind.OTHER
    if it.instType == "SPOT":
        return Kind.SPOT
    # A family quoted in something other than it settles in (BTC-USD_UM) would take the pair of another swap.
    straight = it.instFamily.partition("-")[2] in ("", it.settleCcy)
    return Kind.PERPETUAL if it.instType == "SWAP" and it.ctType == "linear" and straight else Kind.OTHER
