"""Pages of trades are spoiled as the plan says, row by row, and what is not spoiled keeps its very bytes."""
import json

import pytest
from msgspec import Raw

from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.sim.base import Response
from onetape.sim.credentials import KEY
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.kinds import OF_HISTORY
from onetape.sim.listings import LISTINGS
from onetape.sim.pages import Page, moment, target_of
from onetape.sim.simulator import Simulator

START = 1_790_000_000 * SECOND
FEW = {name: [it for it in listings if it.base in ("BTC", "ETH")] for name, listings in LISTINGS.items()}
NUMBERED = ("binance", "binance-usdm", "coinbase", "coinbase-exchange", "kraken", "okx")  # and paged by a cursor


class Wire:
    """A venue, and one page from the middle of its history."""

    def __init__(self, venue, *faults, seed=1):
        plan = FaultPlan(faults=tuple(faults), seed=seed)
        self.sim = Simulator(1, [venue], start=START, plan=plan, history_ns=60 * SECOND, listings=FEW)
        self.venue, self.now = venue, START
        self.symbol = next(it for it in self.names() if "BTC" in it)
        matches = self.sim.truths[venue, self.symbol].matches
        self.middle = matches[len(matches) // 2]

    def names(self):
        return [symbol for name, symbol in self.sim.truths if name == self.venue]

    def targets(self, limit=100):
        id, symbol = self.middle.id, self.symbol
        match self.venue:
            case "binance":
                return [
                    f"/api/v3/historicalTrades?symbol={symbol}&fromId={id}&limit={limit}",
                    f"/api/v3/aggTrades?symbol={symbol}&fromId={self.aggregate(500)}&limit={limit}",
                ]
            case "binance-usdm":
                return [
                    f"/fapi/v1/aggTrades?symbol={symbol}&fromId={self.aggregate(500)}&limit={limit}",
                    f"/fapi/v1/historicalTrades?symbol={symbol}&fromId={id + id // 40}&limit={limit}",
                ]
            case "coinbase" | "coinbase-exchange":
                return [f"/products/{symbol}/trades?limit={limit}&after={id}"]
            case "kraken":
                return [f"/0/public/Trades?pair=XBTUSD&since={self.middle.time}&count={limit}"]
            case "okx":
                return [f"/api/v5/market/history-trades?instId={symbol}&limit={limit}&after={id}"]
            case _:
                return ["/v5/market/recent-trade?category=spot&symbol=BTCUSDT&limit=60"]

    def aggregate(self, back):
        base = "/api/v3" if self.venue == "binance" else "/fapi/v1"
        newest = self.sim.venues[self.venue].request(
            "GET", f"{base}/aggTrades?symbol={self.symbol}&limit=1", START, {}, "another",
        )
        return json.loads(newest.body)[0]["a"] - back

    def get(self, target) -> Response:
        return self.sim.request(self.venue, "GET", target, self.now, {"X-MBX-APIKEY": KEY})

    def page(self, target) -> Page:
        return Page(target_of(self.venue, target).history, self.get(target).body)


def pages(kind, venue, **fault):
    """By target: the page as it is, and as it is spoiled."""
    good, bad = Wire(venue), Wire(venue, Fault(kind=kind, venue=venue, lasts=60, **fault))
    return [(good.page(target), bad.page(target), target) for target in good.targets()]


def rows(page):
    return [bytes(it) for it in page.rows]


EVERY = pytest.mark.parametrize("venue", [*NUMBERED, "bybit"])
PAGED = pytest.mark.parametrize("venue", NUMBERED)


@EVERY
def test_a_page_read_and_written_keeps_its_very_bytes(venue):
    wire = Wire(venue)
    for target in wire.targets():
        said = wire.get(target)
        page = Page(target_of(venue, target).history, said.body)
        assert page.body() == said.body
        assert len(page.rows) in (60, 100)


def test_numbers_keep_their_digits():
    body = b'{"error":[],"result":{"XXBTZUSD":[["1.10","0.20",1762795433.97174450,"b","l","",7]],"last":"1"}}'
    page = Page(target_of("kraken", "/0/public/Trades").history, body)
    page.rows = page.rows * 2
    assert page.body().count(b"1762795433.97174450,") == 2


@EVERY
def test_empty_and_cut_keep_what_stands_around_the_rows(venue):
    for good, bad, _ in pages(FaultKind.HISTORY_EMPTY, venue):
        assert bad.rows == []
        good.rows = []
        assert bad.body() == good.body()
    for good, bad, _ in pages(FaultKind.HISTORY_CUT, venue):
        count = len(bad.rows)
        assert 0 < count < len(good.rows)
        assert rows(bad) == rows(good)[:count]


@EVERY
def test_a_body_may_be_cut_or_be_no_json_at_all(venue):
    good, cut = Wire(venue), Wire(venue, Fault(kind=FaultKind.HISTORY_CUT, lasts=60, code=1))
    html = Wire(venue, Fault(kind=FaultKind.HISTORY_HTML, lasts=60))
    for target in good.targets():
        said, part = good.get(target), cut.get(target)
        assert part.status == 200
        assert said.body.startswith(part.body)
        assert len(part.body) < len(said.body)
        page = html.get(target)
        assert (page.status, page.headers["Content-Type"][:9]) == (200, "text/html")
        assert page.body.startswith(b"<!DOCTYPE html>")


@EVERY
def test_shuffled_rows_are_all_there(venue):
    for good, bad, _ in pages(FaultKind.HISTORY_SHUFFLED, venue):
        assert rows(bad) != rows(good)
        assert sorted(rows(bad)) == sorted(rows(good))


@EVERY
def test_doubled_rows_come_twice_or_from_the_page_before(venue):
    twice = before = 0
    for seed in range(4):
        good, bad = Wire(venue), Wire(venue, Fault(kind=FaultKind.HISTORY_DOUBLED, lasts=60), seed=seed)
        for target in good.targets():
            here, there = good.page(target), bad.page(target)
            if len(there.rows) > len(here.rows):
                assert rows(there) == [row for row in rows(here) for _ in range(2)]
                twice += 1
            else:
                new = there.ids()[:20]
                assert not set(new) & set(here.ids())
                assert there.ids()[20:] == here.ids()[:-20]
                before += 1
    assert twice
    assert before or venue == "bybit", "which has no cursor"


@EVERY
def test_foreign_rows_are_of_another_symbol_in_the_envelope_that_was_asked_for(venue):
    for good, bad, _ in pages(FaultKind.HISTORY_FOREIGN, venue):
        assert len(bad.rows) == len(good.rows)
        assert not set(bad.ids()) & set(good.ids())
        good.rows = bad.rows
        assert bad.body() == good.body()
    _, bad, _ = pages(FaultKind.HISTORY_FOREIGN, venue)[0]  # which is of the tape's own ids
    wire = Wire(venue)
    named = [wire.sim.venues[venue].number(id) for id in bad.ids()]
    owners = {symbol for symbol in wire.names() if all(wire.sim.venues[venue].match(symbol, it) for it in named[:3])}
    assert owners, "they are true rows"
    assert all("ETH" in it for it in owners)


@pytest.mark.parametrize(("venue", "target", "other"), [
    ("bybit", "/v5/market/recent-trade?category=linear&symbol=BTCPERP", "ETHPERP"),
    ("bybit", "/v5/market/recent-trade?category=spot&symbol=ETHUSDT", "BTCUSDT"),
    ("okx", "/api/v5/market/trades?instId=BTC-USDT-SWAP", "ETH-USDT-SWAP"),
])
def test_another_symbol_is_of_the_same_sort(venue, target, other):
    wire = Wire(venue, Fault(kind=FaultKind.HISTORY_FOREIGN, lasts=60))
    row = json.loads(bytes(wire.page(target).rows[0]))
    assert row.get("symbol", row.get("instId")) == other


@PAGED
def test_backwards_is_older_than_all_that_was_asked_for(venue):
    for good, bad, _ in pages(FaultKind.HISTORY_BACKWARDS, venue):
        assert bad.rows
        assert max(map(int, bad.ids())) < min(map(int, good.ids()))


def test_backwards_without_a_cursor_is_the_older_half():
    for good, bad, _ in pages(FaultKind.HISTORY_BACKWARDS, "bybit"):
        assert rows(bad) == rows(good)[30:]


@PAGED
def test_holes_are_had_by_another_request(venue):
    wire = Wire(venue, Fault(kind=FaultKind.HISTORY_HOLES, lasts=60, share=0.0))
    true = Wire(venue)
    for target in wire.targets():
        good = true.page(target).ids()
        one, two = wire.page(target).ids(), wire.page(target).ids()
        missing = [set(good) - set(it) for it in (one, two)]
        assert [len(it) for it in missing] == [3, 3]
        assert not missing[0] & missing[1]
        assert {good[0], good[-1]} <= set(one) & set(two)


@PAGED
def test_holes_for_good_are_the_same_for_every_request(venue):
    fault = Fault(kind=FaultKind.HISTORY_HOLES, lasts=60, code=1, share=0.0)
    true, wire, other = Wire(venue), Wire(venue, fault), Wire(venue, fault, seed=2)
    for long, short in zip(true.targets(100), true.targets(50), strict=True):
        good, bad, elsewhere = true.page(long).ids(), wire.page(long).ids(), other.page(long).ids()
        assert 0 < len(good) - len(bad) < 15
        assert wire.page(short).ids() == [it for it in true.page(short).ids() if it in bad]
        assert bad != elsewhere


@pytest.mark.parametrize(("venue", "target"), [
    ("binance", "/api/v3/trades?symbol=BTCUSDT&limit=1000"), ("binance", "/api/v3/aggTrades?symbol=BTCUSDT&limit=1000"),
    ("binance-usdm", "/fapi/v1/trades?symbol=BTCUSDT&limit=1000"),
    ("coinbase", "/api/v3/brokerage/market/products/BTC-USD/ticker?limit=100"),
    ("coinbase-exchange", "/products/BTC-USD/trades"), ("kraken", "/0/public/Trades?pair=XBTUSD"),
    ("okx", "/api/v5/market/trades?instId=BTC-USDT&limit=500"),
    ("bybit", "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=1000"),
])
@pytest.mark.parametrize("skew", [0.0, -4.0])
def test_the_newest_are_not_there_yet(venue, target, skew):
    clock = Fault(kind=FaultKind.CLOCK_SKEW, lasts=60, seconds=skew) if skew else Fault(kind=FaultKind.DNS, at=99)
    good = Wire(venue, clock).page(target)
    bad = Wire(venue, clock, Fault(kind=FaultKind.HISTORY_LATE, lasts=60, seconds=3.0)).page(target)
    until = START - round((3.0 - skew) * SECOND)
    assert rows(bad) == [bytes(it) for it in good.rows if good.time(it) <= until]
    assert 0 < len(bad.rows) < len(good.rows) or venue == "coinbase", "whose hundred may be younger than that"


@EVERY
def test_only_answers_that_list_trades_are_struck(venue):
    struck = [Fault(kind=kind, lasts=60, seconds=1.0) for kind in OF_HISTORY]
    good, bad = Wire(venue), Wire(venue, *struck)
    path = good.sim.venues[venue].instruments_path
    assert bad.get(path) == good.get(path)
    unknown = good.targets()[0].replace("BTC", "NONE")
    unknown = unknown.replace("XBT", "NONE")
    assert bad.get(unknown) == good.get(unknown), "an error stays that error"
    early = Wire(venue, *[Fault(kind=kind, at=10, lasts=60, seconds=1.0) for kind in OF_HISTORY])
    target = good.targets()[0]
    assert early.get(target).body == good.get(target).body


@PAGED
def test_the_share_and_the_seed_decide(venue):
    def struck(seed):
        wire = Wire(venue, Fault(kind=FaultKind.HISTORY_EMPTY, lasts=60, share=0.5), seed=seed)
        return [len(wire.page(wire.targets()[0]).rows) for _ in range(6)]

    assert struck(1) == struck(1)
    assert {0, 100} == {it for seed in range(4) for it in struck(seed)}


def test_pages_that_nobody_wanted_cost_the_client_nothing():
    wire = Wire("binance", Fault(kind=FaultKind.HISTORY_FOREIGN, lasts=60))
    said = wire.get(wire.targets()[0])
    assert said.headers["X-MBX-USED-WEIGHT-1M"] == "25"


def test_plans_of_history_say_what_is_wrong(tmp_path):
    path = tmp_path / "plan.toml"
    path.write_text("""
        [[fault]]
        kind = "history_late"
        lasts = 3
        [[fault]]
        kind = "history_cut"
        lasts = 3
        code = 2
        [[fault]]
        kind = "history_empty"
        lasts = 3
        symbol = "BTCUSDT"
        [[fault]]
        kind = "venue_skips"
        lasts = 3
        code = 5000
    """)
    with pytest.raises(UsageError) as caught:
        FaultPlan.load(path)
    for part in (
        "fault 1: history_late needs seconds", "fault 2: of history_cut the code is 0 or 1",
        "fault 3: history_empty knows no symbol and no channel", "fault 4: more than 1000 numbers at once",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(("told", "ns"), [
    (1_790_000_000.1234567, 1_790_000_000_123_457_000), ("1790000000123", 1_790_000_000_123_000_000),
    (1_790_000_000_123_456, 1_790_000_000_123_456_000), ("2026-09-21T14:13:20.000001Z", 1_790_000_000_000_001_000),
])
def test_times_are_told_by_their_size(told, ns):
    assert moment(told) == ns


def test_what_is_no_page_is_none():
    history = target_of("kraken", "/0/public/Trades?pair=X").history
    for body in (b'{"error":["EGeneral:Too many requests"]}', b"<html>", b"[]", b'{"result":{}}', b'{"result":[1]}'):
        with pytest.raises(ValueError):
            Page(history, body)
    assert target_of("kraken", "/0/public/OHLC?pair=X") is None
    assert isinstance(Page(history, b'{"result":{"X":[[1]]}}').rows[0], Raw)
