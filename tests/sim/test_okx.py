"""The simulated OKX against its protocol page, section by section, and against what the real one sent."""
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from onetape.sim.base import Action, Close, Frame, Listing, Rejected, Response, SimVenue
from onetape.sim.credentials import KEY, PASSPHRASE, SECRET
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.market import Market
from onetape.sim.truth import Truth
from onetape.sim.venues.okx import QUIRKS, Okx
from onetape.sim.venues.okx_bars import BARS
from onetape.sim.venues.okx_books import Window
from onetape.sim.venues.okx_control import signature
from onetape.sim.venues.okx_frames import orders

START = 1_790_000_040 * SECOND  # a round minute
PUBLIC, BUSINESS, PRIVATE = "/ws/v5/public", "/ws/v5/business", "/ws/v5/private"
SPOT, SWAP = "BTC-USDT", "BTC-USDT-SWAP"
BOOKS = ("books", "books-rpi")


def _listing(symbol: str, base: str, quote: str, tick: str, lot: str, contract: str = "1") -> Listing:
    return Listing(
        venue="okx", symbol=symbol, base=base, quote=quote, tick=Decimal(tick), lot=Decimal(lot), rate=2.0,
        contract=Decimal(contract),
    )


LISTINGS = (
    _listing(SPOT, "BTC", "USDT", "0.1", "0.00000001"),
    _listing("ETH-USDT", "ETH", "USDT", "0.01", "0.000001"),
    _listing(SWAP, "BTC", "USDT", "0.1", "0.01", "0.01"),
)
BID, ASK = (True, 600_000, 50_000), (False, 600_001, 70_000)


class Bench:
    """A venue on a virtual clock, with what every connection has heard; over a market, or over what a test lets be.

    Connection 1 is a public one, 2 one for business.
    """

    def __init__(self, *faults: Fault, market: bool = False, seed: int = 1) -> None:
        self.now = START
        self.market = Market(seed, LISTINGS, START) if market else None
        self.truths = (
            {symbol: it for (_, symbol), it in self.market.truths.items()} if self.market else
            {it.symbol: Truth(it, START - HOUR, 70_000_000_000, 5_000_000_000) for it in LISTINGS}
        )
        self.venue = Okx(self.truths, Faults(FaultPlan(faults=faults), START), seed)
        self.actions: list[Action] = []
        for number, target in enumerate((PUBLIC, BUSINESS), 1):
            self.connect(number, target)

    def connect(self, connection: int, target: str = PUBLIC) -> None:
        assert self.venue.connect(connection, target, self.now) == []

    def say(self, said: object, connection: int = 1) -> list[Any]:
        """The answers."""
        frame = said if isinstance(said, bytes) else json.dumps(said).encode()
        actions = self.venue.receive(connection, frame, self.now)
        self.actions += actions
        return [json.loads(it.data) if it.data != b"pong" else "pong" for it in actions if isinstance(it, Frame)]

    def ask(self, channel: str, symbol: str = SPOT, connection: int = 1, op: str = "subscribe") -> Any:
        (answer,) = self.say({"op": op, "args": [{"channel": channel, "instId": symbol}]}, connection)
        return answer

    def hear(self, *channels: str, symbol: str = SPOT, connection: int = 1) -> None:
        for channel in channels:
            assert self.ask(channel, symbol, connection)["event"] == "subscribe"

    def happen(
        self, *levels: tuple[bool, int, int], trades: Sequence[tuple[int, int, bool]] = (), symbol: str = SPOT,
    ) -> list[Any]:
        self.run(1)
        actions = self.venue.happen(self.truths[symbol].happen(self.now, levels, trades), self.now)
        self.actions += actions
        return [json.loads(it.data) for it in actions if isinstance(it, Frame)]

    def run(self, ns: int) -> None:
        """Lets time pass, and the market live if there is one."""
        end = self.now + ns
        while (wake := self._next()) is not None and wake <= end:
            self.now = max(self.now, wake)
            for it in self.market.wake(self.now) if self.market else ():
                self.actions += self.venue.happen(it, self.now)
            self.actions += self.venue.wake(self.now)
        self.now = end

    def keep(self, ns: int) -> None:
        """The same, with pings."""
        end = self.now + ns
        while self.now < end:
            self.run(min(20 * SECOND, end - self.now))
            for connection in (1, 2):
                self.say(b"ping", connection)

    def _next(self) -> int | None:
        times = [self.venue.next_wake(), self.market.next_wake() if self.market else None]
        return min((it for it in times if it is not None), default=None)

    def heard(self, channel: str = "", symbol: str = SPOT, connection: int = 1) -> list[Any]:
        """Data frames of a channel, or all frames."""
        frames = [json.loads(it.data) for it in self.actions
                  if isinstance(it, Frame) and it.connection == connection and it.data != b"pong"]
        if not channel:
            return frames
        return [it for it in frames if "data" in it and it["arg"] == {"channel": channel, "instId": symbol}]

    def closes(self) -> list[tuple[int, int]]:
        return [(it.connection, it.code) for it in self.actions if isinstance(it, Close)]

    def get(self, target: str, client: str = "1.2.3.4") -> Response:
        return self.venue.request("GET", f"/api/v5/{target}", self.now, {}, client)

    def rows(self, target: str) -> Any:
        answer = self.get(target, str(self.now))
        said = json.loads(answer.body)
        assert (answer.status, said["code"], said["msg"], list(said)) == (200, "0", "", ["code", "msg", "data"])
        return said["data"]


class Book:
    """Section 5.6, literally: what a client makes of the frames of one channel."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[Decimal, Decimal]] = {}
        self.last = self.ts = self.heartbeats = self.resets = 0

    def receive(self, frame: Any) -> None:
        (data,) = frame["data"]
        if frame["action"] == "snapshot":
            assert data["prevSeqId"] == -1
            self.sides = {"bids": {}, "asks": {}}
        else:
            assert data["prevSeqId"] == self.last
            self.heartbeats += data["seqId"] == self.last
            self.resets += data["seqId"] < self.last
            assert bool(data["bids"] or data["asks"]) == (data["seqId"] != self.last)
        self.last, self.ts = data["seqId"], int(data["ts"])
        for name, side in self.sides.items():
            prices = [Decimal(it[0]) for it in data[name]]
            assert prices == sorted(prices, reverse=name == "bids")
            for price, size, *_, count in data[name]:
                assert (size == "0") == (count == "0")
                side[Decimal(price)] = Decimal(size)
                if size == "0":
                    del side[Decimal(price)]

    def is_the_truth(self, truth: Truth) -> None:
        """At its time."""
        book = truth.book_at_time((self.ts + 1) * MILLISECOND - 1)
        assert book is not None
        for name, levels in (("bids", book.bids), ("asks", book.asks)):
            assert scaled(truth, levels[:400]) == self.sides[name]


def scaled(truth: Truth, levels: Sequence[tuple[int, int]]) -> dict[Decimal, Decimal]:
    return {price * truth.listing.tick: size * truth.listing.lot for price, size in levels}


@pytest.fixture
def bench() -> Bench:
    it = Bench()
    for symbol in it.truths:
        it.happen(BID, ASK, symbol=symbol)
    it.run(10 * SECOND)
    return it


@pytest.fixture(scope="module")
def lively() -> Bench:
    it = Bench(market=True)
    for symbol in (SPOT, SWAP):
        it.hear("trades", "tickers", "bbo-tbt", "books5", *BOOKS, symbol=symbol)
        it.hear("trades-all", "candle1m", "candle1s", symbol=symbol, connection=2)
    it.keep(70 * SECOND)
    return it


def fault(kind: FaultKind, **options: Any) -> Fault:
    return Fault(kind=kind, **({"lasts": 1e6} | options))


def shape(value: Any) -> Any:
    """Keys in their order, JSON types, and whether text is a number."""
    match value:
        case dict():
            return [(key, shape(it)) for key, it in value.items()]
        case [first, *_]:
            return [shape(first)]
        case str() if re.fullmatch(r"-?\d+(\.\d+)?", value):
            return "quoted number"
        case _:
            return type(value).__name__


def lines(path: Path) -> list[Any]:
    return [json.loads(it) for it in path.read_text().splitlines()]


def login(seconds: int, **changed: str) -> dict[str, Any]:
    arg = {"apiKey": KEY, "passphrase": PASSPHRASE, "timestamp": str(seconds),
           "sign": signature(str(seconds), SECRET).decode()}
    return {"op": "login", "args": [arg | changed]}


def test_is_a_venue() -> None:
    venue: SimVenue = Bench().venue
    assert venue.name == "okx"
    assert venue.number("123") == 123


def test_every_quirk_has_its_test() -> None:
    assert all(callable(globals().get(test)) for _, _, test in QUIRKS), [it for it in QUIRKS if it[2] not in globals()]


def test_the_same_seed_says_the_same() -> None:
    runs = []
    for _ in range(2):
        it = Bench(market=True)
        it.hear("books", "trades", "tickers", "bbo-tbt")
        it.hear("candle1m", connection=2)
        it.run(3 * SECOND)
        runs.append(it.actions)
    assert runs[0] == runs[1]
    assert len(runs[0]) > 50


# --- 1 and 2: connections ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "", "/ws/v5", "/ws/v5/nope", "/ws/v5/public/", "/ws/v3/public"])
def test_other_paths_are_refused(target: str) -> None:
    bench = Bench()
    with pytest.raises(Rejected) as caught:
        bench.venue.connect(7, target, bench.now + SECOND)
    assert caught.value.status == 404
    bench.now += SECOND
    bench.connect(7, f"{PUBLIC}?brokerId=9999")


def test_three_connections_a_second() -> None:
    bench = Bench()
    bench.connect(3)
    with pytest.raises(Rejected) as caught:
        bench.connect(4)
    assert caught.value.status == 429
    bench.now += SECOND
    bench.connect(4)


def test_480_requests_an_hour() -> None:
    """Whatever they ask for, and however many args they have; other connections have their own."""
    bench = Bench()
    args = [{"channel": it, "instId": SPOT} for it in ("trades", "tickers", "books")]
    for number in range(480):
        op = "unsubscribe" if number % 2 else "subscribe"
        assert [it["event"] for it in bench.say({"op": op, "args": args})] == [op] * 3
    (answer,) = bench.say({"id": "x1", "op": "subscribe", "args": args})
    assert (answer["id"], answer["event"], answer["code"]) == ("x1", "error", "60014")
    assert bench.say(b"ping") == ["pong"]
    assert bench.ask("candle1m", connection=2)["event"] == "subscribe"
    assert not bench.closes()
    bench.now += HOUR
    assert bench.ask("trades")["event"] == "subscribe"


def test_a_socket_without_subscription_is_cut() -> None:
    """Pings do not help."""
    bench = Bench()
    bench.hear("trades", connection=1)
    bench.keep(30 * SECOND)
    assert bench.closes() == [(2, 4004)]
    assert bench.say(b"ping", 2) == []
    bench.ask("trades", op="unsubscribe")
    bench.keep(90 * SECOND)
    assert bench.closes() == [(2, 4004)]


def test_a_silent_socket_is_cut(bench: Bench) -> None:
    """30 s after the last frame; a pong is one."""
    bench = Bench()
    bench.hear("trades")
    bench.hear("trades-all", connection=2)
    bench.run(29 * SECOND)
    bench.say(b"ping")
    bench.run(SECOND)
    assert bench.closes() == [(2, 4004)]
    bench.run(29 * SECOND - 1)
    assert len(bench.closes()) == 1
    bench.run(1)
    assert bench.closes() == [(2, 4004), (1, 4004)]


def test_pings_are_text(bench: Bench) -> None:
    assert bench.venue.receive(1, b"ping", bench.now) == [Frame(1, b"pong")]
    assert bench.say(b'"ping"')[0]["code"] == "60012"
    assert bench.say({"op": "ping"})[0]["code"] == "60019"
    assert bench.venue.pong(1, b"", bench.now) == []


def test_a_long_request_ends_the_connection(bench: Bench) -> None:
    args = [{"channel": "trades", "instId": "X" * 30}] * 1_500
    assert bench.say({"op": "subscribe", "args": args}) == []
    assert bench.closes() == [(1, 1009)]


def test_an_upgrade() -> None:
    """Announced on public sockets alone; those that come after the notice stay."""
    bench = Bench(fault(FaultKind.NOTICE, at=15.0, lasts=1.0))
    bench.happen(BID, ASK)
    bench.say({"op": "subscribe", "args": [{"channel": "status"}]})
    bench.hear("books", "trades")
    bench.hear("trades-all", connection=2)
    bench.run(15 * SECOND)
    (notice,) = [it for it in bench.heard() if it.get("event") == "notice"]
    assert list(notice) == ["event", "code", "msg", "connId"]
    assert notice["code"] == "64008"
    assert bench.heard(connection=2) == bench.heard(connection=2)[:1]
    bench.connect(3)
    bench.hear("books", connection=3)
    (planned,) = bench.rows("system/status?state=scheduled")
    bench.run(10 * SECOND)
    assert bench.closes() == [(1, 1001), (2, 1006)]
    (told,) = [it["data"][0] for it in bench.heard() if it.get("arg", {}).get("channel") == "status" and "data" in it]
    assert told == planned
    assert bench.rows("system/status")[0]["state"] == "ongoing"
    bench.run(10 * SECOND)
    assert bench.rows("system/status") == []
    bench.happen((True, 599_999, 7))
    bench.run(SECOND)
    assert len(bench.heard("books", connection=3)) == 2


# --- 3: control frames ------------------------------------------------------------------------------------------------


def test_acks_look_like_the_recorded_ones(bench: Bench, recordings: Path) -> None:
    real = lines(recordings / "okx" / "v5_20260824_btcusdt_books_seq.jsonl")[0]
    ack = bench.ask("books")
    assert list(ack) == list(real)
    assert {**ack, "connId": ""} == {**real, "connId": ""}
    assert re.fullmatch("[0-9a-f]{8}", ack["connId"])
    named = bench.say({"id": "1512", "op": "unsubscribe", "args": [{"channel": "books", "instId": SPOT}]})[0]
    assert named == {"id": "1512", "event": "unsubscribe", "arg": real["arg"], "connId": ack["connId"]}
    wanted = {"channel": "instruments", "instType": "SWAP"}
    assert bench.say({"op": "subscribe", "args": [wanted]})[0]["arg"] == wanted


def test_each_arg_succeeds_or_fails_alone(bench: Bench, recordings: Path) -> None:
    args = [{"channel": "trades", "instId": SPOT}, {"channel": "books", "instId": "NOPE-USDT"},
            {"channel": "nope", "instId": SPOT}, 7, {"instId": SPOT}, {"channel": "tickers", "instId": SWAP}]
    answers = bench.say({"id": "7", "op": "subscribe", "args": args})
    assert [it.get("code", it["event"]) for it in answers] == [
        "subscribe", "60018", "60018", "60013", "60027", "subscribe",
    ]
    assert answers[1]["msg"] == (
        "Wrong URL or channel:books,instId:NOPE-USDT doesn't exist. Please use the correct URL, channel and parameters "
        "referring to API document."
    )
    assert {it["id"] for it in answers} == {"7"}
    real = next(it for it in lines(recordings / "okx" / "samples" / "v5_live_2026_isolated.jsonl")
                if it.get("code") == "60011")
    assert shape(answers[1])[1:3] == shape(real)[:2]
    assert list(answers[1]) == ["id", *real]
    assert "arg" not in answers[1]
    assert not bench.closes()
    assert len(bench.happen(trades=[(600_000, 1, True)])) == 1


@pytest.mark.parametrize(("channel", "connection", "code"), [
    ("candle1m", 1, "64001"), ("trades-all", 1, "60018"), ("tickers", 2, "60018"), ("books", 2, "60018"),
    ("status", 2, "60018"), ("candle1M", 2, ""), ("candle1h", 2, "60018"), ("candle6Hutc", 2, ""),
    ("candle", 2, "60018"), ("1m", 2, "60018"), ("books-elp", 1, "60018"), ("Trades", 1, "60018"),
    ("instruments", 1, "60018"), ("books-l2-tbt", 1, "60011"), ("books50-l2-tbt", 1, "60011"),
    ("books-l2-tbt", 2, "60018"),
])
def test_each_channel_has_its_socket(bench: Bench, channel: str, connection: int, code: str) -> None:
    assert bench.ask(channel, connection=connection).get("code", "") == code


@pytest.mark.parametrize(("frame", "code"), [
    (b"", "60012"), (b"hello", "60012"), (b"{", "60012"), (b"[]", "60012"), (b"\xff\xfe", "60012"), (b"1e999", "60012"),
    (b"[" * 60_000, "60012"), (b'{"op":"subscribe","args":["\\ud800"]}', "60012"), (b"{}", "60019"),
    (b'{"op":7}', "60019"), (b'{"op":"nope","args":[]}', "60019"), (b'{"op":"subscribe"}', "60013"),
    (b'{"op":"subscribe","args":[]}', "60013"), (b'{"op":"subscribe","args":"x"}', "60013"),
    (b'{"op":"subscribe","args":[[]]}', "60013"), (b'{"op":"subscribe","args":[{"channel":7}]}', "60013"),
    (b'{"op":"subscribe","args":[{"channel":""}]}', "60027"), (b'{"id":"a b","op":"subscribe","args":[{}]}', "60033"),
    (b'{"id":7,"op":"subscribe","args":[{}]}', "60033"), (b'{"id":"' + b"x" * 33 + b'","op":"subscribe"}', "60033"),
    (b'{"op":"subscribe","args":[{"channel":"books","instId":"' + b"9" * 9_000 + b'"}]}', "60018"),
])
def test_hostile_frames_get_an_answer(bench: Bench, frame: bytes, code: str) -> None:
    assert [it["code"] for it in bench.say(frame)] == [code]
    assert bench.say(b"ping") == ["pong"]


def test_illegal_requests_are_repeated(bench: Bench, recordings: Path) -> None:
    real = next(it for it in lines(recordings / "okx" / "samples" / "v5_live_2026_isolated.jsonl")
                if it.get("code") == "60012")
    (answer,) = bench.say(b'{"op":"subscribe",')
    assert {**answer, "connId": ""} == {**real, "connId": ""}
    assert list(answer) == list(real)


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | st.lists(st.text(max_size=20)).map(
    lambda it: json.dumps({"op": "subscribe", "args": [{"channel": each, "instId": SPOT} for each in it]}).encode()))
def test_nothing_that_a_client_sends_raises(frame: bytes) -> None:
    bench = Bench()
    for connection in (1, 2):
        assert bench.say(frame, connection)


@given(st.text(max_size=60))
def test_no_request_raises(target: str) -> None:
    bench = Bench(market=False)
    bench.happen(BID, ASK, trades=[(600_000, 1, True)])
    for path in (target, f"market/candles?{target}", f"market/books?instId=BTC-USDT&sz={target}",
                 f"market/history-trades?instId=BTC-USDT&after={target}"):
        assert bench.get(path).status in (200, 400, 404)


def test_unknown_connections_are_ignored(bench: Bench) -> None:
    assert bench.say(b"ping", 99) == []
    bench.venue.disconnect(99, bench.now)


# --- 10: logging in ---------------------------------------------------------------------------------------------------


def test_the_signature_is_that_of_the_page() -> None:
    assert signature("1700000000", "demo-secret") == b"Dbj9TeBlK6iGESGeYVhsS/TxSP5cMwR5L9xvZYI1RMo="


@pytest.mark.parametrize("target", [PUBLIC, BUSINESS, PRIVATE])
def test_logging_in(bench: Bench, target: str) -> None:
    bench.connect(3, target)
    (answer,) = bench.say(login(bench.now // SECOND), 3)
    assert list(answer) == ["event", "code", "msg", "connId"]
    assert (answer["event"], answer["code"], answer["msg"]) == ("login", "0", "")
    assert bench.say(login(bench.now // SECOND), 3)[0]["code"] == "60031"
    assert not bench.closes()
    if target == PUBLIC:
        assert [bench.ask(it, connection=3)["code"] for it in ("books-l2-tbt", "books50-l2-tbt")] == ["64003", "64003"]


@pytest.mark.parametrize(("changed", "code"), [
    ({"apiKey": ""}, "60005"), ({"apiKey": "k"}, "60032"), ({"passphrase": "p"}, "60024"), ({"sign": ""}, "60009"),
    ({"sign": "Dbj9TeBlK6iGESGeYVhsS/TxSP5cMwR5L9xvZYI1RMo="}, "60007"), ({"sign": "ä"}, "60007"),
    ({"timestamp": "x"}, "60004"), ({"timestamp": "1700000000"}, "60006"), ({"timestamp": str(10**30)}, "60004"),
])
def test_wrong_logins_are_shown_out(bench: Bench, changed: dict[str, str], code: str) -> None:
    assert [it["code"] for it in bench.say(login(bench.now // SECOND, **changed))] == [code]
    assert bench.closes() == [(1, 4001)]


def test_an_old_login(bench: Bench) -> None:
    bench.connect(3, PRIVATE)
    assert bench.ask("orders", connection=3)["code"] == "60011"
    assert bench.say(login(bench.now // SECOND - 29), 3)[0]["event"] == "login"
    assert bench.ask("orders", connection=3)["code"] == "60018"
    assert bench.say(login(bench.now // SECOND - 31), 1)[0]["code"] == "60006"
    both = login(bench.now // SECOND)
    assert bench.say({"op": "login", "args": [both["args"], both["args"]]}, 2)[0]["code"] == "60026"


# --- 4, 5.1 and 5.2: trades -------------------------------------------------------------------------------------------


def test_trades_at_one_price_are_one(bench: Bench) -> None:
    bench.hear("trades", "books")
    bench.hear("trades-all", connection=2)
    bench.run(100 * MILLISECOND)
    executed = [(600_001, 300, True), (600_001, 700, True), (600_002, 5, True)]
    bench.happen((False, 600_001, 69_000), trades=executed)
    bench.run(100 * MILLISECOND)
    merged = [it["data"] for it in bench.heard("trades")]
    assert [len(it) for it in merged] == [1, 1]
    assert [(it["tradeId"], it["count"], it["sz"], it["px"]) for it, in merged] == [
        ("5000000001", "2", "0.00001", "60000.1"), ("5000000002", "1", "0.00000005", "60000.2"),
    ]
    assert {it["seqId"] for it, in merged} == {bench.heard("books")[-1]["data"][0]["seqId"]}
    single = [it["data"][0] for it in bench.heard("trades-all", connection=2)]
    assert [it["tradeId"] for it in single] == ["5000000000", "5000000001", "5000000002"]
    assert list(single[0]) == ["instId", "tradeId", "px", "sz", "side", "source", "ts"]


def test_trades_are_the_truth(lively: Bench) -> None:
    for symbol in (SPOT, SWAP):
        truth = lively.truths[symbol]
        tick, lot = truth.listing.tick, truth.listing.lot
        single = [it["data"][0] for it in lively.heard("trades-all", symbol, 2)]
        matches = truth.matches_from(int(single[0]["tradeId"]), len(single))
        assert len(single) > 50
        for row, it in zip(single, matches, strict=True):
            assert (Decimal(row["px"]), Decimal(row["sz"])) == (it.price * tick, it.size * lot)
            side = "buy" if it.buy else "sell"
            assert (row["tradeId"], row["side"], row["ts"]) == (str(it.id), side, str(it.time // MILLISECOND))
        merged = [it["data"][0] for it in lively.heard("trades", symbol)]
        for before, after in pairwise(merged):
            assert int(after["tradeId"]) - int(after["count"]) == int(before["tradeId"])
            assert after["seqId"] >= before["seqId"]
        assert sum(Decimal(it["sz"]) for it in merged) == sum(Decimal(it["sz"]) for it in single)
        assert max(int(it["count"]) for it in merged) > 1 or symbol == SWAP
        assert lively.venue.match(symbol, matches[3].id) == matches[3]
        assert lively.venue.match(symbol, 10**18) is None


def test_subscribing_to_trades_replays_nothing(bench: Bench) -> None:
    bench.happen(trades=[(600_000, 1, True)])
    bench.hear("trades")
    bench.run(5 * SECOND)
    assert not bench.heard("trades")
    assert len(bench.happen(trades=[(600_000, 1, False)])) == 1


# --- 5.3 to 5.5: tickers, best prices, candles ------------------------------------------------------------------------


def test_tickers_tell_the_truth(lively: Bench) -> None:
    for symbol in (SPOT, SWAP):
        truth, rows = lively.truths[symbol], [it["data"][0] for it in lively.heard("tickers", symbol)]
        listing, day, row = truth.listing, truth.day(lively.now), rows[-1]
        assert day is not None
        assert len(rows) > 100
        assert all(int(after["ts"]) - int(before["ts"]) >= 100 for before, after in pairwise(rows))
        base, quote = day.volume * listing.lot * listing.contract, day.quote * listing.tick * listing.lot
        assert row["last"] == lively.heard("trades", symbol)[-1]["data"][0]["px"]
        assert Decimal(row["high24h"]) == day.high * listing.tick
        meant = (day.volume * listing.lot, base) if symbol == SWAP else (base, quote)
        assert (Decimal(row["vol24h"]), Decimal(row["volCcy24h"])) == meant
        assert Decimal(row["sodUtc0"]) == truth.candles(MINUTE, START - HOUR, lively.now)[0].open * listing.tick
        best = lively.heard("bbo-tbt", symbol)[-1]["data"][0]
        assert [row["bidPx"], row["bidSz"]] == best["bids"][0][:2]


def test_a_ticker_before_the_first_trade(bench: Bench) -> None:
    bench.hear("tickers")
    bench.run(SECOND)
    (frame,) = bench.heard("tickers")
    row = frame["data"][0]
    assert (row["last"], row["lastSz"], row["open24h"], row["bidPx"]) == ("", "0", "", "60000")
    bench.happen((True, 599_000, 3))
    bench.run(SECOND)
    assert len(bench.heard("tickers")) == 1
    bench.happen(trades=[(600_000, 1, True)])
    bench.run(SECOND)
    assert bench.heard("tickers")[-1]["data"][0]["sodUtc8"] == "60000"


def test_best_prices_repeat(bench: Bench) -> None:
    """With the time of the matching engine, every minute."""
    bench.hear("bbo-tbt")
    changed = bench.truths[SPOT].time
    bench.keep(170 * SECOND)
    frames = bench.heard("bbo-tbt")
    assert len(frames) == 3
    assert {json.dumps(it) for it in frames} == {json.dumps(frames[0])}
    assert frames[0]["data"][0]["ts"] == str(changed // MILLISECOND)
    bench.happen((True, 599_999, 1))
    bench.run(20 * MILLISECOND)
    assert len(bench.heard("bbo-tbt")) == 3
    bench.happen((True, 600_000, 0))
    bench.run(10 * MILLISECOND)
    last = bench.heard("bbo-tbt")[-1]["data"][0]
    assert last["bids"] == [["59999.9", "0.00000001", "0", str(orders(599_999, 1))]]
    assert last["seqId"] == frames[0]["data"][0]["seqId"] + 2
    bench.happen((True, 599_999, 0))
    bench.run(10 * MILLISECOND)
    assert bench.heard("bbo-tbt")[-1]["data"][0]["bids"] == []


def test_candles(lively: Bench) -> None:
    for symbol in (SPOT, SWAP):
        truth, frames = lively.truths[symbol], lively.heard("candle1m", symbol, 2)
        listing, rows = truth.listing, [it["data"][0] for it in frames]
        assert len(rows) > 20
        (closed,) = [it for it in rows if it[8] == "1"]
        assert closed[0] == str(START // MILLISECOND)
        (true,) = truth.candles(MINUTE, START, START + 1)
        unit = listing.lot * listing.contract
        assert [Decimal(it) for it in closed[1:5]] == [
            it * listing.tick for it in (true.open, true.high, true.low, true.close)
        ]
        assert Decimal(closed[5]) == true.volume * listing.lot
        assert Decimal(closed[7]) == true.quote * listing.tick * unit
        assert Decimal(closed[6]) == (true.volume * unit if symbol == SWAP else Decimal(closed[7]))
        assert {it[0] for it in rows[rows.index(closed) + 1:]} == {str((START + MINUTE) // MILLISECOND)}


def test_candles_come_once_a_second_at_most(lively: Bench) -> None:
    for bar in ("candle1m", "candle1s"):
        times = []
        bench = Bench(market=True, seed=3)
        bench.hear(bar, connection=2)
        for _ in range(80):
            seen = len(bench.heard(bar, connection=2))
            bench.run(250 * MILLISECOND)
            times += [bench.now] * (len(bench.heard(bar, connection=2)) - seen)
        assert all(after - before >= 1_000 * MILLISECOND for before, after in pairwise(times))
        assert len(times) > 10
    closed = [it["data"][0] for it in lively.heard("candle1s", SPOT, 2) if it["data"][0][8] == "1"]
    true = lively.truths[SPOT].candles(SECOND, int(closed[0][0]) * MILLISECOND, int(closed[-1][0]) * MILLISECOND + 1)
    assert [int(it[0]) * MILLISECOND for it in closed] == [it.start for it in true]


def test_an_empty_interval_brings_no_candle(bench: Bench) -> None:
    bench.hear("candle1m", connection=2)
    bench.happen(trades=[(600_000, 200_000_000, True)])
    bench.keep(3 * MINUTE)
    rows = [it["data"][0] for it in bench.heard("candle1m", connection=2)]
    assert [(it[5], it[8]) for it in rows] == [("2", "0"), ("2", "1")]
    bench.happen(trades=[(600_000, 100_000_000, True)])
    bench.keep(2 * MINUTE)
    rest = [it[5] for it in bench.rows("market/history-candles?instId=BTC-USDT")]
    assert rest[-4:] == ["1", "0", "0", "2"]
    assert {it[6] for it in bench.rows("market/history-candles?instId=BTC-USDT")} == {"60000", "0", "120000"}


def test_candles_of_all_bars(bench: Bench) -> None:
    bench.happen(trades=[(600_000, 1, True)])
    bench.hear(*(f"candle{it}" for it in BARS), connection=2)
    bench.run(SECOND)
    frames = [it for it in bench.heard(connection=2) if "data" in it]
    starts = {it["arg"]["channel"].removeprefix("candle"): int(it["data"][0][0]) * MILLISECOND for it in frames}
    assert set(starts) >= set(BARS) - {"1s"}
    assert len(BARS) == 27
    for hours in (6, 12):
        assert starts[f"{hours}Hutc"] % (hours * HOUR) == 0
        assert starts[f"{hours}H"] % (hours * HOUR) == 16 * HOUR % (hours * HOUR)
    assert (starts["1Dutc"] % DAY, starts["1D"] % DAY) == (0, 16 * HOUR)
    assert (starts["1Wutc"] % (7 * DAY), starts["1W"] % (7 * DAY)) == (4 * DAY, 4 * DAY - 8 * HOUR)
    assert starts["1Mutc"] == 1_788_220_800 * SECOND  # 2026-09-01
    assert starts["1M"] == starts["1Mutc"] - 8 * HOUR
    assert starts["3Mutc"] == 1_782_864_000 * SECOND  # 2026-07-01
    assert BARS["3Mutc"].after(starts["3Mutc"]) == 1_790_812_800 * SECOND
    assert BARS["1M"].after(starts["1M"]) == 1_790_812_800 * SECOND - 8 * HOUR


# --- 5.6: books -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", [SPOT, SWAP])
@pytest.mark.parametrize("channel", BOOKS)
def test_a_market_can_be_followed(lively: Bench, channel: str, symbol: str) -> None:
    book, frames = Book(), lively.heard(channel, symbol)
    assert [it["action"] for it in frames] == ["snapshot"] + ["update"] * (len(frames) - 1)
    for number, frame in enumerate(frames):
        book.receive(frame)
        if number % 20 == 0:
            book.is_the_truth(lively.truths[symbol])
    times = [int(it["data"][0]["ts"]) for it in frames]
    assert {(after - before) % 100 for before, after in pairwise(times)} == {0}
    assert len(frames) > 300


def test_levels_that_leave_the_window_are_told(bench: Bench) -> None:
    """As recorded: 400 of each side at any time."""
    bench.happen(*((True, 599_000 - it, 5) for it in range(500)), *((False, 601_000 + it, 5) for it in range(500)))
    bench.hear("books")
    bench.run(SECOND)
    for price in range(599_010, 599_030):
        bench.happen((True, price, 3), (False, price + 1_980, 0))
        bench.run(100 * MILLISECOND)
    sides: dict[str, set[str]] = {"asks": set(), "bids": set()}
    for frame in bench.heard("books"):
        for name, side in sides.items():
            for price, size, _, _ in frame["data"][0][name]:
                side.add(price) if size != "0" else side.remove(price)
            assert len(side) == 400
    assert len(bench.heard("books")) == 21


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_book_follows_the_truth(data: st.DataObject) -> None:
    """Few prices on a deep book, so that levels leave the window and come back; listeners come and go at any time."""
    bench, books = Bench(), dict[tuple[str, int], Book]()
    bench.now += SECOND
    bench.connect(3)
    bench.happen(*((True, 1_000 - it, 5) for it in range(402)), *((False, 1_001 + it, 5) for it in range(402)))
    for _ in range(data.draw(st.integers(5, 40))):
        at = len(bench.actions)
        match data.draw(st.integers(0, 5)):
            case 0:
                key = data.draw(st.sampled_from(BOOKS)), data.draw(st.sampled_from((1, 3)))
                gone = books.pop(key, None)
                bench.ask(*key[:1], connection=key[1], op="subscribe" if gone is None else "unsubscribe")
                if gone is None:
                    books[key] = Book()
            case 1:
                bench.run(data.draw(st.sampled_from((1, MILLISECOND, 70 * MILLISECOND, 2 * SECOND))))
                bench.say(b"ping"), bench.say(b"ping", 3)
            case _:
                bid, step = data.draw(st.booleans()), data.draw(st.sampled_from((0, 1, 300, 398, 399, 400, 401, 402)))
                bench.happen((bid, 1_000 - step if bid else 1_001 + step, data.draw(st.integers(0, 3))))
        _read(books, bench, at)
    at = len(bench.actions)
    bench.run(SECOND)
    _read(books, bench, at)
    truth = bench.truths[SPOT]
    for book in books.values():
        assert book.sides == {"bids": scaled(truth, truth.bids(400)), "asks": scaled(truth, truth.asks(400))}


@given(st.lists(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), max_size=9), max_size=9), st.booleans())
def test_a_window_is_what_is_best(steps: list[list[tuple[int, int]]], bid: bool) -> None:
    truth = Truth(LISTINGS[0], START)
    window = Window(truth, bid=bid, depth=3)
    window.begin()
    for number, levels in enumerate(steps, 1):
        before = dict(window.levels)
        truth.happen(START + number, ((bid, *it) for it in levels))
        told = window.follow(price for price, _ in levels)
        best = dict(truth.bids(3) if bid else truth.asks(3))
        assert dict(window.best_first()) == best
        gone = {(price, 0) for price in before.keys() - best.keys()}
        assert set(told) == gone | (best.items() - before.items())
        assert told == sorted(told, reverse=bid)


def _read(books: dict[tuple[str, int], Book], bench: Bench, at: int) -> None:
    for it in bench.actions[at:]:
        said = json.loads(it.data) if isinstance(it, Frame) and it.data != b"pong" else {}
        if "data" in said:
            books[said["arg"]["channel"], it.connection].receive(said)


def test_all_listeners_hear_the_same_numbers(bench: Bench) -> None:
    bench.connect(3)
    bench.hear("books")
    bench.run(SECOND)
    bench.happen((True, 599_999, 1))
    bench.hear("books", connection=3)
    bench.run(SECOND)
    bench.happen((True, 599_998, 1))
    bench.run(SECOND)
    first, second = ([it["data"][0] for it in bench.heard("books", connection=number)] for number in (1, 3))
    assert (second[0]["prevSeqId"], second[0]["seqId"]) == (-1, first[1]["seqId"])
    assert len(second[0]["bids"]) == 2
    assert first[2] == second[1]


def test_subscribing_again_brings_a_snapshot(bench: Bench) -> None:
    bench.hear("books")
    bench.run(SECOND)
    bench.hear("books")
    bench.run(SECOND)
    bench.ask("books", op="unsubscribe")
    bench.happen((True, 599_999, 1))
    bench.run(SECOND)
    bench.hear("books")
    bench.run(SECOND)
    assert [it["action"] for it in bench.heard("books")] == ["snapshot"] * 3


def test_a_quiet_book_repeats_its_number(bench: Bench) -> None:
    """Also where all that changes lies below what is shown."""
    bench.happen(*((True, 599_000 - it, 1) for it in range(400)))
    bench.hear("books")
    for _ in range(100):
        bench.happen((True, 500_000, 1 + bench.now % 7))
        bench.keep(2 * SECOND)
    book, frames = Book(), bench.heard("books")
    for frame in frames:
        book.receive(frame)
    assert [it["action"] for it in frames] == ["snapshot"] + ["update"] * 3
    assert book.heartbeats == 3
    bench.happen((True, 599_999, 1))
    bench.run(SECOND)
    book.receive(bench.heard("books")[-1])
    assert book.last == bench.truths[SPOT].sequence


def test_maintenance_begins_the_numbers_anew() -> None:
    """The next update is linked to the one before, and lower; REST and trades have the new numbers as well."""
    bench = Bench(fault(FaultKind.NOTICE, at=5.0, lasts=1.0), market=True)
    bench.hear("books", "trades", "bbo-tbt")
    bench.run(9 * SECOND)
    book = Book()
    for frame in bench.heard("books"):
        book.receive(frame)
        book.is_the_truth(bench.truths[SPOT])
    assert book.resets == 1
    assert book.last < 10_000
    assert bench.heard("trades")[-1]["data"][0]["seqId"] < 10_000
    assert bench.heard("bbo-tbt")[-1]["data"][0]["seqId"] < 10_000
    assert bench.rows("market/books?instId=BTC-USDT")[0]["seqId"] < 10_000


def test_books5_is_whole_each_time(lively: Bench) -> None:
    frames = lively.heard("books5")
    truth = lively.truths[SPOT]
    for frame in frames[::20]:
        (data,) = frame["data"]
        past = truth.book_at_time((int(data["ts"]) + 1) * MILLISECOND - 1)
        assert past is not None
        assert {Decimal(it[0]): Decimal(it[1]) for it in data["asks"]} == scaled(truth, past.asks[:5])
        assert {Decimal(it[0]): Decimal(it[1]) for it in data["bids"]} == scaled(truth, past.bids[:5])
    assert len(frames) > 100
    assert "action" not in frames[0]


def test_books_of_an_instrument_come_in_order(lively: Bench) -> None:
    """Best prices, books, then books5: of what is pushed at one moment on one connection."""
    frames = [it for it in lively.heard() if it.get("arg", {}).get("instId") == SPOT and "data" in it]
    names = [it["arg"]["channel"] for it in frames]
    order = [it for it in names if it in ("bbo-tbt", "books", "books-rpi", "books5")]
    assert order[:4] == ["bbo-tbt", "books", "books-rpi", "books5"]
    assert all(after == "books-rpi" for before, after in pairwise(order) if before == "books")
    assert all(before == "books-rpi" for before, after in pairwise(order) if after == "books5")


def test_books_have_all_of_their_millisecond(bench: Bench) -> None:
    """What is told at a time is the book after everything that bears it: else nobody could compare by time."""
    bench.hear("books")
    bench.run(SECOND)
    bench.now += MILLISECOND - bench.now % MILLISECOND
    for price in (599_998, 599_997):
        bench.happen((True, price, 1))
        wake = bench.venue.next_wake()
        assert wake is not None
        assert wake % MILLISECOND == MILLISECOND - 1


# --- 5.7: instruments -------------------------------------------------------------------------------------------------


def test_instruments_are_told_when_they_change() -> None:
    bench = Bench(fault(FaultKind.UNLISTED, at=5.0, lasts=5.0, symbol=SWAP))
    for kind in ("SPOT", "SWAP"):
        bench.say({"op": "subscribe", "args": [{"channel": "instruments", "instType": kind}]})
    assert bench.say({"op": "subscribe", "args": [{"channel": "instruments", "instType": "X"}]})[0]["code"] == "60018"
    bench.say({"op": "unsubscribe", "args": [{"channel": "instruments", "instType": "SPOT"}]})
    assert SWAP in {it["instId"] for it in bench.rows("public/instruments?instType=SWAP")}
    states = []
    for _ in range(12):
        bench.now += SECOND
        bench.actions += bench.venue.wake(bench.now)
        states.append(SWAP in {it["instId"] for it in bench.rows("public/instruments?instType=SWAP")})
        assert (bench.ask("trades", SWAP)["event"] == "subscribe") == states[-1]
        code = json.loads(bench.get(f"market/books?instId={SWAP}", str(bench.now)).body)["code"]
        assert code == ("0" if states[-1] else "51001")
    assert states == [True] * 4 + [False] * 5 + [True] * 3
    told = [it for it in bench.heard() if it.get("arg", {}).get("channel") == "instruments" and "data" in it]
    assert [(it["arg"]["instType"], it["data"][0]["instId"], it["data"][0]["state"]) for it in told] == [
        ("SWAP", SWAP, "expired"), ("SWAP", SWAP, "live"),
    ]


def test_instruments_look_like_the_recorded_ones(bench: Bench, recordings: Path) -> None:
    samples = recordings / "okx" / "samples"
    old = {row["instId"]: row for kind in ("SPOT", "SWAP")
           for row in json.loads((samples / "rest_2022" / f"instruments_{kind}.json").read_text())["data"]}
    for kind in ("spot", "swap", "futures"):
        real = json.loads((samples / "nautilus" / f"http_get_instruments_{kind}.json").read_text())["data"][0]
        for row in bench.rows(f"public/instruments?instType={kind.upper()}"):
            types = {name: type(it) for name, it in row.items()}
            assert {name: types[name] for name in real} == {name: type(it) for name, it in real.items()}
            known = old.get(row["instId"])
            for name in ("baseCcy", "quoteCcy", "settleCcy", "ctVal", "ctValCcy", "ctType", "ctMult", "uly"):
                if known and row["instType"] == known["instType"]:
                    assert row[name] == known[name]


def test_what_must_not_be_offered_is_listed_too(bench: Bench) -> None:
    """Inverse swaps, futures, what is no crypto, what is not traded or not yet filled in: nothing is heard of them."""
    rows = {it["instId"]: it for kind in ("SPOT", "SWAP", "FUTURES")
            for it in bench.rows(f"public/instruments?instType={kind}")}
    assert rows["BTC-USD-SWAP"]["ctType"] == "inverse"
    assert rows["TSLA-USDT-SWAP"]["instCategory"] == "3"
    assert rows["BTC-USDT-311226"]["ruleType"] == "xperp"
    assert {it["state"] for it in rows.values()} >= {"live", "suspend", "preopen", "test"}
    assert rows["NEWCOIN-USDT-SWAP"]["ctVal"] == rows["NEWCOIN-USDT"]["tickSz"] == ""
    assert rows[SWAP]["ctVal"] == "0.01"
    assert len({it["instIdCode"] for it in rows.values()}) == len(rows)
    for symbol in set(rows) - set(bench.truths):
        assert bench.ask("trades", symbol)["code"] == "60018"
    assert bench.rows("public/instruments?instType=OPTION") == []
    assert [it["instId"] for it in bench.rows("public/instruments?instType=SPOT&instId=ETH-USDT")] == ["ETH-USDT"]


# --- 6 and 7: REST ----------------------------------------------------------------------------------------------------


def test_time(bench: Bench) -> None:
    assert bench.rows("public/time") == [{"ts": str(bench.now // MILLISECOND)}]


@pytest.mark.parametrize(("target", "status", "code"), [
    ("market/books", 400, "50014"), ("market/books?instId=NOPE", 200, "51001"),
    ("market/books?instId=BTC-USDT&sz=x", 200, "51000"), ("market/books?instId=BTC-USDT&sz=0", 200, "51000"),
    ("market/trades?instId=btc-usdt", 200, "51001"), ("market/candles?instId=BTC-USDT&bar=1h", 200, "51000"),
    ("market/candles?instId=BTC-USDT&after=x", 200, "51000"), ("public/instruments", 400, "50014"),
    ("public/instruments?instType=NOPE", 200, "51000"), ("public/instruments?instType=SPOT&instId=X", 200, "51001"),
    ("market/history-trades?instId=BTC-USDT&type=2&before=1", 200, "50039"),
    ("market/history-trades?instId=BTC-USDT&type=3", 200, "51000"), ("market/tickers", 400, "50014"),
    ("market/history-trades?instId=BTC-USDT&after=-1", 200, "51000"), ("nothing", 404, "404"), ("", 404, "404"),
])
def test_rest_refusals(bench: Bench, target: str, status: int, code: str) -> None:
    bench.happen(trades=[(600_000, 1, True)])
    answer = bench.get(target)
    said = json.loads(answer.body)
    assert (answer.status, said["code"], said["data"]) == (status, code, [])
    assert said["msg"]


def test_rest_knows_one_method(bench: Bench) -> None:
    answer = bench.venue.request("POST", "/api/v5/public/time", bench.now, {}, "x")
    assert (answer.status, json.loads(answer.body)["code"]) == (405, "50115")


@pytest.mark.parametrize(("target", "most"), [
    ("public/time", 10), ("public/instruments?instType=SPOT", 20), ("market/books?instId=BTC-USDT", 40),
    ("market/books-full?instId=BTC-USDT", 10), ("market/trades?instId=BTC-USDT", 100),
    ("market/history-trades?instId=BTC-USDT", 20), ("market/candles?instId=BTC-USDT", 40),
    ("market/history-candles?instId=BTC-USDT", 20), ("market/tickers?instType=SPOT", 20), ("market/nope", 10**9),
])
def test_rest_budgets(bench: Bench, target: str, most: int) -> None:
    bench.now -= bench.now % (2 * SECOND)
    answers = [bench.get(target) for _ in range(min(most, 150) + 1)]
    assert {it.status for it in answers[:-1]} == ({200} if most < 10**9 else {404})
    if most < 10**9:
        assert (answers[-1].status, json.loads(answers[-1].body)["code"]) == (429, "50011")
        assert not {it.lower() for it in answers[-1].headers} & {"retry-after"}
    assert bench.get(target, "5.6.7.8").status == answers[0].status
    assert bench.get("market/ticker?instId=BTC-USDT").status == 200
    assert bench.get("public/instruments?instType=SWAP").status == 200
    bench.now += 2 * SECOND
    assert bench.get(target).status == answers[0].status


def test_status_may_be_asked_every_five_seconds(bench: Bench) -> None:
    bench.now -= bench.now % (5 * SECOND)
    assert [bench.get("system/status").status for _ in range(2)] == [200, 429]
    bench.now += 5 * SECOND
    assert bench.get("system/status").status == 200


def test_rest_books_are_refreshed_every_50_ms() -> None:
    bench = Bench(market=True)
    bench.hear("books")
    bench.run(3 * SECOND)
    truth = bench.truths[SPOT]
    for _ in range(20):
        bench.run(37 * MILLISECOND + 11)
        (row,) = bench.rows("market/books?instId=BTC-USDT&sz=1000")
        assert list(row) == ["asks", "bids", "ts", "seqId"]
        assert 0 <= bench.now - (int(row["ts"]) + 1) * MILLISECOND < 50 * MILLISECOND
        past = truth.book_at_time((int(row["ts"]) + 1) * MILLISECOND - 1)
        assert past is not None
        assert row["seqId"] == past.sequence
        assert {Decimal(it[0]): Decimal(it[1]) for it in row["asks"]} == scaled(truth, past.asks[:400])
    assert len(bench.rows("market/books?instId=BTC-USDT")[0]["bids"]) == 1
    assert bench.get("market/books?instId=BTC-USDT").after_ns <= 51 * MILLISECOND
    (full,) = bench.rows("market/books-full?instId=BTC-USDT&sz=5000")
    assert list(full) == ["asks", "bids", "ts"]
    assert {len(it) for it in full["asks"]} == {3}
    assert len(full["asks"]) == len(truth.book_at_time((int(full["ts"]) + 1) * MILLISECOND - 1).asks)
    (rpi,) = bench.rows("market/books-rpi?instId=BTC-USDT&sz=2")
    assert [it[1] for it in rpi["bids"]] == [it[2] for it in rpi["bids"]]


def test_a_rest_book_joins_the_updates() -> None:
    """Section 5.6, without the first snapshot: buffer, ask, drop, link."""
    bench = Bench(market=True)
    bench.hear("books")
    bench.run(3 * SECOND)
    (row,) = bench.rows("market/books?instId=BTC-USDT&sz=400")
    bench.run(3 * SECOND)
    kept = [it for it in bench.heard("books")[1:] if it["data"][0]["seqId"] > row["seqId"]]
    assert kept[0]["data"][0]["prevSeqId"] <= row["seqId"]
    book = Book()
    book.receive({"action": "snapshot", "data": [{**row, "prevSeqId": -1}]})
    for frame in kept:
        (data,) = frame["data"]
        for name, side in book.sides.items():
            for price, size, *_ in data[name]:
                side[Decimal(price)] = Decimal(size)
    last = bench.truths[SPOT].book_at_time((int(data["ts"]) + 1) * MILLISECOND - 1)
    assert last is not None
    ours = {price: size for price, size in book.sides["bids"].items() if size}
    assert ours == scaled(bench.truths[SPOT], last.bids[:400])


def test_trades_newest_first(lively: Bench) -> None:
    rows = lively.rows("market/trades?instId=BTC-USDT")
    assert len(rows) == 100
    ids = [int(it["tradeId"]) for it in rows]
    assert ids == sorted(ids, reverse=True)
    assert len(lively.rows("market/trades?instId=BTC-USDT&limit=900")) == min(500, len(lively.truths[SPOT].matches))
    told = {it["data"][0]["tradeId"]: it["data"][0] for it in lively.heard("trades-all", connection=2)}
    for row in (it for it in rows if it["tradeId"] in told):
        assert {**told[row["tradeId"]]} == row


def test_history_of_trades_is_paged_down(lively: Bench) -> None:
    """``after`` brings what is older, ``before`` what is newer; alone, the newest page."""
    target, first = "market/history-trades?instId=BTC-USDT", lively.truths[SPOT].matches[0].id
    newest = [int(it["tradeId"]) for it in lively.rows(target)]
    assert newest == list(range(newest[0], newest[0] - 100, -1))
    older = [int(it["tradeId"]) for it in lively.rows(f"{target}&type=1&after={newest[-1]}&limit=500")]
    assert older == list(range(newest[-1] - 1, newest[-1] - 101, -1))
    alone = [int(it["tradeId"]) for it in lively.rows(f"{target}&before={newest[50]}&limit=10")]
    assert alone == newest[:10]
    both = [int(it["tradeId"]) for it in lively.rows(f"{target}&after={newest[10]}&before={newest[15]}")]
    assert both == newest[11:15]
    assert lively.rows(f"{target}&before={newest[0]}") == []
    assert lively.rows(f"{target}&after={first}") == []
    time = int(lively.rows(target)[60]["ts"])
    by_time = lively.rows(f"{target}&type=2&after={time}")
    assert all(int(it["ts"]) < time for it in by_time)
    older_ids = [it.id for it in lively.truths[SPOT].matches if it.time // MILLISECOND < time]
    assert int(by_time[0]["tradeId"]) == older_ids[-1]
    assert Bench().rows(target) == []


def test_rest_candles(lively: Bench) -> None:
    """Newest first, both ends exclusive; the running one only where it is recent."""
    recent = lively.rows("market/candles?instId=BTC-USDT&bar=1m")
    starts = [int(it[0]) for it in recent]
    assert starts[0] == lively.now // MINUTE * 60_000
    assert {before - after for before, after in pairwise(starts)} == {60_000}
    assert [it[8] for it in recent] == ["0"] + ["1"] * (len(recent) - 1)
    past = lively.rows("market/history-candles?instId=BTC-USDT")
    assert past == recent[1:]
    (closed,) = [it["data"][0] for it in lively.heard("candle1m", SPOT, 2) if it["data"][0][8] == "1"]
    assert closed in past
    for target in ("candles", "history-candles"):
        page = lively.rows(f"market/{target}?instId=BTC-USDT&after={starts[2]}&before={starts[5]}")
        assert [int(it[0]) for it in page] == starts[3:5]
        short = lively.rows(f"market/{target}?instId=BTC-USDT&after={starts[2]}&limit=2")
        assert [int(it[0]) for it in short] == starts[3:5]
        assert lively.rows(f"market/{target}?instId=BTC-USDT&after=0") == []
        assert lively.rows(f"market/{target}?instId=BTC-USDT&before={10**17}") == []
    alone = lively.rows(f"market/candles?instId=BTC-USDT&before={starts[6]}&limit=2")
    assert [int(it[0]) for it in alone] == starts[:2]
    assert all(lively.rows(f"market/candles?instId=BTC-USDT&bar={it}") for it in BARS)
    assert len(lively.rows("market/candles?instId=BTC-USDT&bar=1s&limit=999")) == 300
    assert Bench().rows("market/candles?instId=BTC-USDT") == []


def test_candles_reach_back_1440_bars() -> None:
    bench = Bench()
    bench.happen(trades=[(600_000, 1, True)])
    bench.now += 2 * HOUR
    bench.happen(trades=[(600_000, 1, True)])
    wanted = "instId=BTC-USDT&bar=1s&limit=1&after="
    edge = (bench.now // SECOND - 1_439) * 1_000
    assert bench.rows(f"market/candles?{wanted}{edge + 1}")
    assert bench.rows(f"market/candles?{wanted}{edge - 1_000}") == []
    assert bench.rows(f"market/history-candles?{wanted}{edge - 1_000}")


def test_rest_tickers(lively: Bench) -> None:
    rows = lively.rows("market/tickers?instType=SPOT")
    assert [it["instId"] for it in rows] == [SPOT, "ETH-USDT"]
    assert lively.rows("market/tickers?instType=FUTURES") == []
    (one,) = lively.rows("market/ticker?instId=BTC-USDT")
    assert one == rows[0]
    assert list(one) == list(lively.heard("tickers")[0]["data"][0])


# --- faults -----------------------------------------------------------------------------------------------------------


def test_clock_skew_shifts_all_times() -> None:
    bench, plain = Bench(fault(FaultKind.CLOCK_SKEW, seconds=3.0), market=True), Bench(market=True)
    channels = ("trades", "books", "tickers", "bbo-tbt", "books5")
    for it in (bench, plain):
        it.hear(*channels)
        it.run(3 * SECOND)
    assert len(bench.actions) == len(plain.actions)
    for skewed, true in zip(bench.heard(), plain.heard(), strict=True):
        if "data" in true:
            assert int(skewed["data"][0]["ts"]) == int(true["data"][0]["ts"]) + 3_000
    rows = [it.rows("market/trades?instId=BTC-USDT")[0] for it in (bench, plain)]
    assert int(rows[0]["ts"]) == int(rows[1]["ts"]) + 3_000
    moment = int(rows[0]["ts"])
    assert int(bench.rows(f"market/history-trades?instId=BTC-USDT&type=2&after={moment}")[0]["ts"]) < moment
    assert int(bench.rows("public/time")[0]["ts"]) == bench.now // MILLISECOND + 3_000


def test_skipped_frames_leave_a_hole() -> None:
    bench = Bench(fault(FaultKind.SKIP_SEQUENCE, at=2.0, lasts=3.0, share=0.3, channel="book"), market=True)
    bench.hear("books")
    bench.run(8 * SECOND)
    rows = [it["data"][0] for it in bench.heard("books")]
    assert 0 < sum(after["prevSeqId"] != before["seqId"] for before, after in pairwise(rows)) < 20


def test_a_checksum_means_nothing() -> None:
    bench = Bench(fault(FaultKind.CHECKSUM, at=2.0, lasts=1.0), market=True)
    bench.hear("books")
    bench.run(5 * SECOND)
    sums = [it["data"][0]["checksum"] for it in bench.heard("books")]
    assert sums[0] == sums[-1] == 0
    assert len(set(sums)) > 3


def test_a_stale_snapshot_does_not_join_its_updates() -> None:
    bench = Bench(fault(FaultKind.STALE_SNAPSHOT, at=0.0, lasts=5.0, seconds=20.0), market=True)
    bench.hear("books")
    bench.run(3 * SECOND)
    snapshot, update, *_ = [it["data"][0] for it in bench.heard("books")]
    assert bench.now // MILLISECOND - int(snapshot["ts"]) > 20_000
    assert update["prevSeqId"] > snapshot["seqId"]
    (rest,) = bench.rows("market/books?instId=BTC-USDT")
    assert bench.now // MILLISECOND - int(rest["ts"]) > 19_000
    bench.run(5 * SECOND)
    assert bench.now // MILLISECOND - int(bench.rows("market/books?instId=BTC-USDT")[0]["ts"]) <= 51


def test_a_refused_symbol(bench: Bench) -> None:
    bench = Bench(fault(FaultKind.REFUSE_SYMBOL, lasts=5.0, symbol=SWAP))
    args = [{"channel": "trades", "instId": it} for it in (SPOT, SWAP)]
    assert [it["event"] for it in bench.say({"op": "subscribe", "args": args})] == ["subscribe", "error"]
    bench.run(6 * SECOND)
    assert [it["event"] for it in bench.say({"op": "subscribe", "args": args})] == ["subscribe"] * 2


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_books_look_like_the_recorded_ones(lively: Bench, recordings: Path) -> None:
    """Keys, their order, types, and that no number ends in a zero."""
    _, snapshot, update, *_ = lines(recordings / "okx" / "v5_20260824_btcusdt_books_seq.jsonl")
    whole, *updates = lively.heard("books")
    changed = next(it for it in updates if it["data"][0]["bids"] and it["data"][0]["asks"])
    assert shape(whole) == shape(snapshot)
    assert shape(changed) == shape(update)
    texts = [it for frame in lively.heard("books") for level in frame["data"][0]["bids"] for it in level]
    assert len(texts) > 500
    assert not [it for it in texts if re.fullmatch(r"\d+\.\d*0", it)]


def test_other_frames_look_like_the_samples(lively: Bench, recordings: Path) -> None:
    samples = recordings / "okx" / "samples"
    real = {it["arg"]["channel"]: it for it in lines(samples / "v5_live_2026_isolated.jsonl") if "data" in it}
    for channel in ("trades", "bbo-tbt", "tickers"):
        assert shape(lively.heard(channel)[-1]) == shape(real[channel])
    old = {it["arg"]["channel"]: it for it in lines(samples / "crypto_msg_parser_raw.jsonl") if "arg" in it}
    ours, theirs = lively.heard("books5")[-1]["data"][0], old["books5"]["data"][0]
    assert [it for it in ours if it != "seqId"] == list(theirs)
    (row,) = lively.heard("candle1m", connection=2)[-1]["data"]
    assert {shape(it) for it in row} == {"quoted number"}


@pytest.mark.parametrize(("name", "target"), [
    ("http_get_candlesticks_full", "candles?instId=BTC-USDT-SWAP"), ("http_get_trades", "trades?instId=BTC-USDT"),
])
def test_rest_bodies_look_like_the_samples(lively: Bench, recordings: Path, name: str, target: str) -> None:
    real = json.loads((recordings / "okx" / "samples" / "nautilus" / f"{name}.json").read_text())
    ours = lively.rows(f"market/{target}")
    assert set(real) == {"code", "msg", "data"}
    if isinstance(ours[0], list):
        assert [shape(it) for it in ours[0]] == [shape(it) for it in real["data"][0]]
    else:
        assert {key: shape(it) for key, it in ours[0].items() if key != "source"} == dict(shape(real["data"][0]))
