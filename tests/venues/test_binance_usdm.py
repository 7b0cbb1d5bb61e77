"""Binance USD-M: what differs from spot, what is shared with it, and the traps that others fell into."""
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.errors import ClockSkew, GiveUp, TryAgain
from onetape.model import (
    BadLevels,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Instrument,
    InstrumentId,
    Kind,
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
)
from onetape.venues.base import UNREADABLE, Acked, Alive, Notice, Reaction, Refused, Snapshots, Unknown, Venue
from onetape.venues.binance_usdm import BinanceUsdm
from tests.venues.books import checksum

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = (
    "ack", "error", "error_nested", "trade", "trade_insurance", "trade_na", "agg_trade", "quote", "ticker", "candle",
    "depth", "depth_0ms", "depth20", "depth_quarterly", "mark_price", "contract_info", "shutdown",
)
FRAMES = dict(zip(NAMES, (FIXTURES / "binance_usdm.jsonl").read_bytes().splitlines(), strict=True))
REST = json.loads((FIXTURES / "binance_usdm_rest.json").read_text())
BODIES = {name: json.dumps(body).encode() for name, body in REST.items()}
NOW = 1_790_000_000_500 * MILLISECOND
BOOK = Subscription("BTCUSDT", Channel.BOOK)
D = Decimal


def common(ms: int, symbol: str = "BTCUSDT") -> dict[str, Any]:
    return {
        "venue": "binance-usdm", "symbol": symbol, "exchange_time": ms * MILLISECOND, "received_time": NOW,
        "available_at": NOW,
    }


def levels(*pairs: tuple[str, str]) -> Levels:
    return Levels.of((D(price), D(size)) for price, size in pairs)


def test_it_is_a_venue_of_binance() -> None:
    venue: Venue = BinanceUsdm("public")
    assert (venue.spec.name, venue.spec.exchange, venue.route) == ("binance-usdm", "binance", "public")
    assert venue.ping(7) == b'{"method":"LIST_SUBSCRIPTIONS","id":-7}'
    assert venue.parse(b'{"result":["btcusdt@depth@100ms"],"id":-7}', NOW) == (Alive(7),)
    assert venue.parse(b'{"error":{"code":2,"msg":"no"},"id":-7}', NOW) == (Alive(7),), "it lives, whatever it says"
    with pytest.raises(ValueError, match="sums nothing"):
        checksum(venue, "BTCUSDT", [], [])


def test_its_tables() -> None:
    spec = BinanceUsdm.spec
    assert spec.book.snapshots is Snapshots.REST
    assert (spec.book.resends, spec.book.overlapping, spec.book.checksum_depth) == (False, False, 0)
    assert spec.timings.silence_ns > spec.timings.ping_every_ns  # the server itself pings every 3 min only
    assert spec.capabilities.tape is Channel.AGG_TRADES
    assert spec.capabilities.depths == (0, 5, 10, 20)
    assert "1s" not in spec.capabilities.intervals
    assert {"1m", "1h", "1d", "1w", "1M"} <= set(spec.capabilities.intervals)
    assert Channel.STATUS not in spec.capabilities.channels
    assert (spec.budget.weight, spec.budget.per_ns) == (2_400, MINUTE)


# --- out ------------------------------------------------------------------------------------------------------------


def test_streams() -> None:
    (frame,) = BinanceUsdm().subscribe([
        Subscription("BTCUSDT", Channel.TRADES), Subscription("BTCUSDT", Channel.AGG_TRADES),
        Subscription("BTCUSDT", Channel.QUOTES), Subscription("BTCUSDT", Channel.TICKER),
        Subscription("BTCUSDT", Channel.CANDLES, interval="1h"), BOOK, Subscription("BTCUSDT", Channel.BOOK, depth=20),
        Subscription("BTCUSDT_261225", Channel.BOOK),
    ])
    assert json.loads(frame) == {"method": "SUBSCRIBE", "id": 1, "params": [
        "btcusdt@trade", "btcusdt@aggTrade", "btcusdt@bookTicker", "btcusdt@ticker", "btcusdt@kline_1h",
        "btcusdt@depth@100ms", "btcusdt@depth20@100ms", "btcusdt_261225@depth@100ms",
    ]}


def test_request_frames_stay_below_four_thousand_bytes() -> None:
    wanted = [Subscription(f"SYMBOL{n}USDT", Channel.AGG_TRADES) for n in range(500)]
    frames = BinanceUsdm().subscribe(wanted)
    assert max(map(len, frames)) <= 4_000
    assert [json.loads(it)["id"] for it in frames] == list(range(1, len(frames) + 1))
    assert [name for it in frames for name in json.loads(it)["params"]] == [
        f"symbol{n}usdt@aggTrade" for n in range(500)
    ]


def test_acks_and_errors_name_what_was_asked_for() -> None:
    usdm = BinanceUsdm()
    usdm.subscribe([BOOK])
    assert usdm.parse(FRAMES["ack"], NOW) == (Acked((BOOK,)),)
    usdm.unsubscribe([BOOK])
    assert usdm.parse(b'{"result":null,"id":2}', NOW) == (Acked((BOOK,), removed=True),)
    for name, reason in (
        ("error", "2: Invalid request: invalid stream"), ("error_nested", "4: Too many subscriptions"),
    ):
        usdm = BinanceUsdm()
        usdm.subscribe([BOOK])
        assert usdm.parse(FRAMES[name], NOW) == (Refused((BOOK,), reason, Reaction.DROP),)
    usdm = BinanceUsdm()
    usdm.unsubscribe([BOOK])
    assert usdm.parse(FRAMES["error"], NOW) == (
        Refused((BOOK,), "2: Invalid request: invalid stream", Reaction.DROP, removed=True),
    )
    assert BinanceUsdm().parse(b'{"code":3,"msg":"Invalid JSON"}', NOW) == (
        Refused((), "3: Invalid JSON", Reaction.DROP),
    )


# --- in -------------------------------------------------------------------------------------------------------------


def test_trade() -> None:
    assert BinanceUsdm().parse(FRAMES["trade"], NOW) == (Trade(
        **common(1790000000135), channel=Channel.TRADES, id="7012345609", after=7012345608, price=D("83720.10"),
        size=D("0.014"), side=Side.SELL,
    ),)


def test_a_trade_without_x_is_of_the_market() -> None:
    (event,) = BinanceUsdm().parse(FRAMES["trade"].replace(b'"X":"MARKET",', b""), NOW)
    assert isinstance(event, Trade)


def test_agg_trade() -> None:
    assert BinanceUsdm().parse(FRAMES["agg_trade"], NOW) == (Trade(
        **common(1790000000135), channel=Channel.AGG_TRADES, id="3249829971", after=3249829970, price=D("83720.10"),
        size=D("0.512"), side=Side.SELL, first_id="7012345601", last_id="7012345609",
    ),)


def test_quote() -> None:
    assert BinanceUsdm().parse(FRAMES["quote"], NOW) == (Quote(
        **common(1790000000139), bid=(D("83720.00"), D("7.211")), ask=(D("83720.10"), D("3.018")),
        sequence=8301234567890,
    ),)


def test_ticker() -> None:
    assert BinanceUsdm().parse(FRAMES["ticker"], NOW) == (Ticker(
        **common(1790000000136), last=D("83725.90"), price_change=D("-512.10"), price_change_percent=D("-0.615"),
        high=D("84300.00"), low=D("82950.00"), volume=D("210345.551"), quote_volume=D("17566123451.12"),
    ),)


def test_candle() -> None:
    assert BinanceUsdm().parse(FRAMES["candle"], NOW) == (Candle(
        **common(1790000040010), interval="1m", start=1789999980000 * MILLISECOND, end=1790000040000 * MILLISECOND,
        open=D("83700"), high=D("83730"), low=D("83699.9"), close=D("83725.9"), volume=D("124.012"),
        quote_volume=D("10382111.1"), vwap=None, trades=5610, taker_buy_volume=D("61"), complete=True, final=True,
        source="venue",
    ),)
    (event,) = BinanceUsdm().parse(FRAMES["candle"].replace(b'"x":true', b'"x":false'), NOW)
    assert isinstance(event, Candle)
    assert not event.final


def test_depth() -> None:
    usdm = BinanceUsdm()
    first = BookDelta(
        **common(1790000000148), after=8301234499876, sequence=8301234500917, bids=levels(("83720.00", "7.211")),
        asks=levels(("83720.30", "0")),
    )
    assert usdm.parse(FRAMES["depth"], NOW) == (first,)
    assert usdm.parse(FRAMES["depth_0ms"], NOW) == (BookDelta(
        **common(1790000000149), after=first.sequence, sequence=8301234501002, bids=levels(),
        asks=levels(("83720.40", "1")),
    ),)


def test_a_partial_depth_is_a_snapshot_by_the_name_of_its_stream() -> None:
    assert BinanceUsdm().parse(FRAMES["depth20"], NOW) == (BookSnapshot(
        **common(1790000000148), sequence=8301234500917, bids=levels(("83720.00", "7.211"), ("83719.90", "0.1")),
        asks=levels(("83720.10", "3.018")), depth=20, verification="none",
    ),)


def test_other_streams_and_the_notice() -> None:
    usdm = BinanceUsdm()
    assert usdm.parse(FRAMES["mark_price"], NOW) == (Unknown("btcusdt@markPrice@1s"),)
    assert usdm.parse(FRAMES["contract_info"], NOW) == (Unknown("!contractInfo"),)
    assert usdm.parse(FRAMES["shutdown"], NOW) == (Notice("serverShutdown"),)


def test_spaces_in_frames_confuse_nothing() -> None:
    usdm = BinanceUsdm()
    usdm.subscribe([BOOK])
    spaced = json.dumps(json.loads(FRAMES["trade"])).encode()
    assert usdm.parse(spaced, NOW) == usdm.parse(FRAMES["trade"], NOW)
    assert usdm.parse(b'{ "result": null, "id": 1 }', NOW) == (Acked((BOOK,)),)


# --- REST -----------------------------------------------------------------------------------------------------------


def query(request: Request | None) -> tuple[str, dict[str, str]]:
    assert request is not None
    parts = urlsplit(request.path)
    return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}


@pytest.mark.parametrize(("depth", "limit", "weight"), [
    (0, 1_000, 20), (5, 5, 2), (6, 10, 2), (20, 20, 2), (50, 50, 2), (51, 100, 5), (200, 500, 10), (501, 1_000, 20),
    (5_000, 1_000, 20),
])
def test_only_the_limits_that_the_venue_knows_are_asked_for(depth: int, limit: int, weight: int) -> None:
    request = BinanceUsdm().book_request("BTCUSDT", depth)
    assert query(request) == ("/fapi/v1/depth", {"symbol": "BTCUSDT", "limit": str(limit)})
    assert (request.kind, request.depth, request.weight) == (RestKind.BOOK, limit, weight)


def test_trades_are_asked_for_by_id_or_by_time_and_never_by_both() -> None:
    usdm = BinanceUsdm()
    by_id = usdm.trades_request("BTCUSDT", "3249829970", "3249830000", NOW)
    assert query(by_id) == ("/fapi/v1/aggTrades", {"symbol": "BTCUSDT", "fromId": "3249829970", "limit": "1000"})
    by_time = usdm.trades_request("BTCUSDT", None, None, NOW)
    assert query(by_time) == (
        "/fapi/v1/aggTrades", {"symbol": "BTCUSDT", "startTime": "1790000000500", "limit": "1000"},
    )
    newest = usdm.trades_request("BTCUSDT", None, None, None)
    assert query(newest)[1] == {"symbol": "BTCUSDT", "limit": "1000"}
    for request in (by_id, by_time, newest):
        assert request is not None
        assert (request.channel, request.weight) == (Channel.AGG_TRADES, 20)


def test_candles_are_asked_for() -> None:
    request = BinanceUsdm().candles_request("BTCUSDT", "1m", NOW, NOW + SECOND)
    assert query(request) == ("/fapi/v1/klines", {
        "symbol": "BTCUSDT", "interval": "1m", "startTime": "1790000000500", "endTime": "1790000001499",
        "limit": "1500",
    })
    assert (request.interval, request.weight) == ("1m", 10)


def test_symbols_are_percent_encoded() -> None:
    request = BinanceUsdm().book_request("币安人生USDT", 100)
    assert request.path.isascii()
    assert query(request)[1]["symbol"] == "币安人生USDT"


def test_time() -> None:
    assert BinanceUsdm().parse_time(BODIES["time"]) == 1790000000123 * MILLISECOND


def perpetual(symbol: str, base: str, tick: str, status: str = "TRADING") -> Instrument:
    return Instrument(
        id=InstrumentId("binance-usdm", symbol), pair=f"{base}-USDT-PERP", base=base, quote="USDT",
        kind=Kind.PERPETUAL, tradable=status == "TRADING", status=status, tick_size=D(tick), lot_size=D("0.001"),
        min_size=D("0.001"),
    )


def test_instruments() -> None:
    usdm = BinanceUsdm()
    assert [query(it) for it in usdm.instrument_requests()] == [("/fapi/v1/exchangeInfo", {})]
    instruments, more = usdm.parse_instruments(BODIES["instruments"])
    assert more is None
    assert [it for it in instruments if it.kind is Kind.PERPETUAL] == [
        perpetual("BTCUSDT", "BTC", "0.10"),
        perpetual("1000PEPEUSDT", "1000PEPE", "0.0000001"),  # a pair of its own: its price is that of 1000
        perpetual("OLDUSDT", "OLD", "0.10", "SETTLING"),
        perpetual("币安人生USDT", "币安人生", "0.10"),
    ]
    others = [(it.id.symbol, it.kind, it.pair) for it in instruments if it.kind is not Kind.PERPETUAL]
    assert others == [("BTCUSDT_261225", Kind.OTHER, ""), ("TSLAUSDT", Kind.OTHER, "")]


def test_book_by_rest() -> None:
    usdm = BinanceUsdm()
    assert usdm.parse_book(usdm.book_request("BTCUSDT", 0), BODIES["book"], NOW) == BookSnapshot(
        **common(1790000000145), sequence=8301234500900, bids=levels(("83720.00", "7"), ("83719.90", "0.1")),
        asks=levels(("83720.10", "3.018")), depth=1_000, verification="sequence",
    )


def test_trades_by_rest() -> None:
    usdm = BinanceUsdm()
    request = usdm.trades_request("BTCUSDT", None, None, NOW)
    assert request is not None
    assert usdm.parse_trades(request, BODIES["agg_trades"], NOW) == [
        Trade(
            **common(1790000000135), channel=Channel.AGG_TRADES, id="3249829971", after=3249829970,
            price=D("83720.10"), size=D("0.512"), side=Side.SELL, source=Source.BACKFILL, first_id="7012345601",
            last_id="7012345609",
        ),
        Trade(
            **common(1790000000235), channel=Channel.AGG_TRADES, id="3249829972", after=3249829971,
            price=D("83720.20"), size=D("0.010"), side=Side.BUY, source=Source.BACKFILL, first_id="7012345611",
            last_id="7012345611",
        ),
    ]
    single = usdm.request_of("https://fapi.binance.com/fapi/v1/trades?symbol=BTCUSDT&limit=5")
    assert single is not None
    assert usdm.parse_trades(single, BODIES["trades"], NOW) == [Trade(
        **common(1790000000135), channel=Channel.TRADES, id="7012345609", after=7012345608, price=D("83720.10"),
        size=D("0.014"), side=Side.SELL, source=Source.BACKFILL,
    )]


def test_candles_by_rest() -> None:
    usdm = BinanceUsdm()
    now = 1790000050000 * MILLISECOND
    candles = usdm.parse_candles(usdm.candles_request("BTCUSDT", "1m", 0, 0), BODIES["candles"], now)
    assert [(it.start // MILLISECOND, it.end // MILLISECOND, it.interval, it.final) for it in candles] == [
        (1789999980000, 1790000040000, "1m", True), (1790000040000, 1790000100000, "1m", False),
    ]
    assert (candles[0].volume, candles[0].quote_volume, candles[0].trades, candles[0].taker_buy_volume) == (
        D("124.012"), D("10382111.10"), 5610, D("61"),
    )


def test_request_of_a_url_is_the_request_that_was_made() -> None:
    usdm = BinanceUsdm()
    for made in (
        usdm.time_request(), *usdm.instrument_requests(), usdm.book_request("BTCUSDT", 100),
        usdm.trades_request("BTCUSDT", "7", None, None), usdm.candles_request("BTCUSDT", "4h", NOW, NOW),
    ):
        assert made is not None
        found = usdm.request_of("https://fapi.binance.com" + made.path)
        assert found is not None
        assert (found.kind, found.symbol, found.depth, found.channel, found.interval) == (
            made.kind, made.symbol, made.depth, made.channel, made.interval,
        )
    assert usdm.request_of("https://fapi.binance.com/fapi/v1/premiumIndex?symbol=BTCUSDT") is None
    assert usdm.request_of("https://api.binance.com/api/v3/depth?symbol=BTCUSDT") is None


@pytest.mark.parametrize(("status", "headers", "body", "error", "wait"), [
    (429, {"retry-after": "7"}, b'{"code":-1003,"msg":"Too many requests"}', TryAgain, 7 * SECOND),
    (418, {"retry-after": "120"}, b'{"code":-1003,"msg":"banned"}', TryAgain, 120 * SECOND),
    (429, {}, b"", TryAgain, MINUTE),
    (403, {}, b"<html>", TryAgain, 5 * MINUTE),
    (503, {}, b"", TryAgain, 0),
    (400, {}, b'{"code":-1007,"msg":"Timeout"}', TryAgain, 0),
    (400, {}, b'{"code":-1021,"msg":"Timestamp"}', ClockSkew, None),
    (400, {}, b'{"code":-1121,"msg":"Invalid symbol."}', GiveUp, None),
    (400, {}, b'{"code":-1127,"msg":"More than 1 hour"}', GiveUp, None),
    (401, {}, b'{"code":-2014,"msg":"API-key format invalid."}', GiveUp, None),
    (451, {}, b'{"code":0,"msg":"Service unavailable from a restricted location"}', GiveUp, None),
])
def test_errors_have_their_class(
    status: int, headers: dict[str, str], body: bytes, error: type[Exception], wait: int | None,
) -> None:
    with pytest.raises(error, match=f"HTTP {status}") as caught:
        BinanceUsdm().check(status, headers, body)
    assert getattr(caught.value, "retry_after_ns", None) == wait


def test_a_good_answer_passes() -> None:
    BinanceUsdm().check(200, {}, BODIES["book"])


# --- bad input ------------------------------------------------------------------------------------------------------


def spoilt(name: str, old: bytes, new: bytes) -> bytes:
    assert old in FRAMES[name]
    return FRAMES[name].replace(old, new)


@pytest.mark.parametrize("frame", [
    b"", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"stream":"btcusdt@trade","data":' + b"[" * 100_000,
    b'{"stream":"btcusdt@trade"}', FRAMES["trade"][:-20], FRAMES["depth"][:-20], FRAMES["depth"][:20],
    spoilt("trade", b"83720.10", b"-83720.10"),
    spoilt("trade", b"83720.10", b"NaN"),
    spoilt("trade", b"83720.10", b"9" * 40),
    spoilt("trade", b'"0.014"', b"0.014"),
    spoilt("trade", b'"m":true', b'"m":1'),
    spoilt("trade", b'"p":"83720.10",', b""),
    spoilt("trade", b"7012345609", b'"7012345609"'),
    spoilt("trade", b"BTCUSDT", b"BTC\xffUSDT"),
    spoilt("agg_trade", b'"a":3249829971,', b""),
    spoilt("quote", b"7.211", b"+7.211"),
    spoilt("ticker", b"84300.00", b"-1"),
    spoilt("candle", b"83730.00", b"Infinity"),
    spoilt("depth", b'"pu":8301234499876,', b""),
    spoilt("depth", b"8301234500917", b"null"),
    spoilt("depth", b"8301234500917", b"-1"),
    spoilt("depth", b"8301234500917", b"9223372036854775808"),
    spoilt("depth", b'"pu":8301234499876', b'"pu":-1'),
    spoilt("depth20", b'"T":1790000000148', b'"T":9223372036855'),
    spoilt("depth20", b'"T":1790000000148', b'"T":"now"'),
    spoilt("ack", b":1}", b':"one"}'),
])
def test_bad_frames_are_refused_and_change_nothing(frame: bytes) -> None:
    usdm = BinanceUsdm()
    usdm.subscribe([BOOK])
    with pytest.raises(UNREADABLE) as caught:
        usdm.parse(frame, NOW)
    assert str(caught.value)
    usdm.blame(frame)
    assert usdm.parse(FRAMES["ack"], NOW) == (Acked((BOOK,)),)


@pytest.mark.parametrize("level", [
    b'["83720.30"]', b'["-1","1"]', b"[1,2]", b'["NaN","1"]', b'["1","' + b"9" * 40 + b'"]', b"7", b'["1e99","1"]',
])
def test_bad_levels_are_found_when_they_are_read(level: bytes) -> None:
    (event,) = BinanceUsdm().parse(spoilt("depth", b'["83720.30","0"]', level), NOW)
    assert isinstance(event, BookDelta)
    with pytest.raises(BadLevels):
        event.asks.read()


@pytest.mark.parametrize(("frame", "blamed"), [
    (FRAMES["depth"][:-20], ("BTCUSDT", Channel.BOOK)), (FRAMES["depth20"], ("BTCUSDT", Channel.BOOK)),
    (FRAMES["trade"], ("BTCUSDT", Channel.TRADES)), (FRAMES["agg_trade"], ("BTCUSDT", Channel.AGG_TRADES)),
    (FRAMES["candle"], ("BTCUSDT", Channel.CANDLES)), (FRAMES["depth_quarterly"], ("BTCUSDT_261225", Channel.BOOK)),
    (FRAMES["ack"], ("", None)), (b"\xff", ("", None)), (b"", ("", None)),
])
def test_blame(frame: bytes, blamed: tuple[str, Channel | None]) -> None:
    assert BinanceUsdm().blame(frame) == blamed


def test_bad_bodies_are_refused() -> None:
    usdm = BinanceUsdm()
    request = usdm.trades_request("BTCUSDT", None, None, None)
    assert request is not None
    for body in (b"", b"{}", b'[{"a":1}]', b'[[1,"x"]]', b"[" * 100_000, BODIES["unknown_symbol"]):
        for parse in (usdm.parse_trades, usdm.parse_book, usdm.parse_candles):
            with pytest.raises(UNREADABLE):
                parse(request, body, NOW)
        with pytest.raises(UNREADABLE):
            usdm.parse_instruments(body)
        with pytest.raises(UNREADABLE):
            usdm.parse_time(body)


# --- traps of others ------------------------------------------------------------------------------------------------


def test_trap_01_each_stream_has_its_route() -> None:
    public = {Channel.BOOK, Channel.QUOTES, Channel.TRADES}
    market = {Channel.AGG_TRADES, Channel.TICKER, Channel.CANDLES}
    routes = {it: BinanceUsdm.route_of(Subscription("BTCUSDT", it)) for it in BinanceUsdm.spec.capabilities.channels}
    assert routes == dict.fromkeys(public, "public") | dict.fromkeys(market, "market")
    for environment in BinanceUsdm.spec.endpoints.values():
        assert {route: urlsplit(urls[0]).path for route, urls in environment.websocket.items()} == {
            "public": "/public/stream", "market": "/market/stream",
        }


def test_trap_02_an_ack_is_only_an_ack() -> None:
    usdm = BinanceUsdm()
    nowhere = Subscription("NOSUCHUSDT", Channel.BOOK)
    usdm.subscribe([nowhere])
    assert usdm.parse(FRAMES["ack"], NOW) == (Acked((nowhere,)),)


def test_trap_03_only_the_combined_form_can_be_told_apart() -> None:
    assert all(
        url.endswith("/stream")
        for environment in BinanceUsdm.spec.endpoints.values()
        for urls in environment.websocket.values() for url in urls
    )
    raw = json.dumps(json.loads(FRAMES["depth20"])["data"]).encode()
    assert not any(isinstance(it, BookSnapshot | BookDelta) for it in BinanceUsdm().parse(raw, NOW))


def test_trap_04_continuity_is_pu_and_not_u() -> None:
    (event,) = BinanceUsdm().parse(FRAMES["depth_0ms"], NOW)
    assert isinstance(event, BookDelta)
    assert event.after == 8301234500917  # U - 1 is 8301234500954
    assert not BinanceUsdm.spec.book.overlapping


def test_trap_06_a_level_once_cut_is_not_sent_again() -> None:
    assert not BinanceUsdm.spec.book.resends
    request = BinanceUsdm().book_request("BTCUSDT", 0)
    assert request.depth == 1_000  # the known edge: it is cut even where all is asked for


def test_trap_08_a_snapshot_costs_no_more_than_it_must() -> None:
    weights = [BinanceUsdm().book_request("BTCUSDT", depth).weight for depth in (20, 100, 500, 1_000)]
    assert weights == [2, 5, 10, 20]


@pytest.mark.parametrize(("name", "id_", "word"), [
    ("trade_insurance", 7012345610, "INSURANCE_FUND"), ("trade_na", 7012345611, "NA"),
])
def test_trap_09_prints_off_the_book_are_skipped_and_their_ids_count(name: str, id_: int, word: str) -> None:
    assert BinanceUsdm().parse(FRAMES[name], NOW) == (Skipped(
        **common(1790000000136), channel=Channel.TRADES, first=str(id_), last=str(id_), after=id_ - 1,
        reason=f"off the book: {word}",
    ),)
    (adl,) = BinanceUsdm().parse(FRAMES[name].replace(word.encode(), b"ADL"), NOW)
    assert isinstance(adl, Skipped)


def test_trap_11_sizes_of_aggregates_include_rpi_fills_and_ids_may_jump() -> None:
    usdm = BinanceUsdm()
    request = usdm.trades_request("BTCUSDT", None, None, NOW)
    assert request is not None
    first, second = usdm.parse_trades(request, BODIES["agg_trades"], NOW)
    assert first.size == D("0.512")  # q; nq is 0.500
    assert second.after == int(first.id)  # continuity by ``a``...
    assert int(second.first_id or 0) > int(first.last_id or 0) + 1  # ...never by ``f`` and ``l``


# --- what the exchange really sent ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "count"), [("usdm_20240808_ethusdt_first60s", 13_446), ("usdm_20210722_4sym", 1_535)])
def test_recordings(recordings: Path, name: str, count: int) -> None:
    usdm = BinanceUsdm()
    here: dict[str, int] = {}
    seen = 0
    for frame in (recordings / "binance" / f"{name}.jsonl").read_bytes().splitlines():
        (event,) = usdm.parse(frame, NOW)
        assert not isinstance(event, Unknown | Refused | BookSnapshot | Skipped)
        seen += 1
        if isinstance(event, BookDelta):
            assert len(event.bids) + len(event.asks) > 0
            assert here.get(event.symbol, event.after) == event.after  # the chain of pu is unbroken
            here[event.symbol] = event.sequence
    assert seen == count
    assert len(here) == (1 if "ethusdt" in name else 4)


def test_samples(recordings: Path) -> None:
    folder = recordings / "binance" / "samples"
    frames = (folder / "crypto_msg_parser_raw.jsonl").read_bytes().splitlines()
    frames += [
        json.dumps(json.loads(it)["msg"]).encode()
        for it in (folder / "tardis_node_mapper_messages.jsonl").read_bytes().splitlines()
    ]
    kinds, reasons = set(), []
    for frame in frames:  # spot and COIN-M among them
        try:
            kinds |= {type(it) for it in BinanceUsdm().parse(frame, NOW)}
        except UNREADABLE as error:
            reasons.append(str(error))
    assert all(reasons)
    assert {Trade, Skipped, Quote, Ticker, Candle, BookDelta, BookSnapshot, Unknown} <= kinds


def test_real_rest_bodies(recordings: Path) -> None:
    usdm = BinanceUsdm()
    folder = recordings / "binance" / "samples" / "gct_rest"
    parsed = 0
    for row in (folder / "index.tsv").read_text().splitlines():
        name, path, *_ = row.split("\t")
        request = usdm.request_of(f"https://fapi.binance.com{path}") if name.startswith("fapi_") else None
        if request is None:
            continue
        body = (folder / name).read_bytes()
        if not body.startswith(b"[") and b'"code":' in body[:20]:
            with pytest.raises((GiveUp, TryAgain)):
                usdm.check(400, {}, body)
            continue
        match request.kind:
            case RestKind.BOOK:
                assert len(usdm.parse_book(request, body, NOW).bids) > 0
            case RestKind.TRADES:
                assert usdm.parse_trades(request, body, NOW)
            case RestKind.CANDLES:
                assert usdm.parse_candles(request, body, NOW)
            case RestKind.INSTRUMENTS:
                assert [it.kind for it in usdm.parse_instruments(body)[0]] == [Kind.PERPETUAL] * 25
            case RestKind.TIME:
                assert usdm.parse_time(body)
        parsed += 1
    assert parsed >= 10


def test_real_snapshots(recordings: Path) -> None:
    usdm = BinanceUsdm()
    book = usdm.parse_book(
        usdm.book_request("ETHUSDT", 0),
        (recordings / "binance" / "usdm_20240808_ethusdt_first60s.rest_depth.json").read_bytes(), NOW,
    )
    assert book.bids.read()[0] < book.asks.read()[0]
