"""Pages of trades over REST are right to the edge: each venue's whole history is read its own way, and is the truth."""
import json

import pytest

from onetape.clock import DAY, HOUR, MILLISECOND, SECOND
from onetape.sim.faults import Fault, FaultKind, FaultPlan, Faults
from onetape.sim.listings import LISTINGS
from onetape.sim.pages import Page, target_of
from onetape.sim.simulator import Simulator
from onetape.sim.truth import Truth
from onetape.sim.venues.usdm import BinanceUsdm

START = 1_790_000_000 * SECOND
FEW = {name: [it for it in listings if it.base in ("BTC", "ETH")] for name, listings in LISTINGS.items()}
SYMBOLS = {
    "binance": "BTCUSDT", "binance-usdm": "BTCUSDT", "coinbase": "BTC-USD", "coinbase-exchange": "BTC-USD",
    "kraken": "BTC/USD", "okx": "BTC-USDT",
}
SKIPS = Fault(kind=FaultKind.VENUE_SKIPS, lasts=3_600, share=0.05, code=2)


class Wire:
    """A venue that has a past, and then lived on for ten seconds in which nobody was connected."""

    def __init__(self, venue, *faults):
        plan = FaultPlan(faults=faults)
        self.sim = Simulator(3, [venue], start=START, plan=plan, history_ns=30 * SECOND, listings=FEW)
        self.venue, self.symbol = venue, SYMBOLS.get(venue, "BTCUSDT")
        self.now = START + 10 * SECOND
        self.sim.wake(self.now)
        self.truth = self.sim.truths[venue, self.symbol]
        self.matches = list(self.truth.matches)

    def get(self, target):
        """Waits as long as every limit wants it, and remembers nothing of the market that comes meanwhile."""
        self.now += 4 * SECOND
        return self.sim.request(self.venue, "GET", target, self.now)

    def page(self, target):
        return Page(target_of(self.venue, target).history, self.get(target).body)

    def ids(self, target):
        return [int(it) for it in self.page(target).ids()]

    def known(self):
        """The tape's numbers and matches up to the moment it was ten seconds old."""
        if self.venue != "binance-usdm":
            return [it.id for it in self.matches]
        aggregates = self.sim.venues[self.venue]._traded[self.symbol].aggregates
        return [it.id for it in aggregates.from_id(0, 1 << 40) if it.first <= self.matches[-1].id]


def walk(wire, last):
    """All ids from the oldest there is up to ``last``, as the venue wants to be asked; ascending."""
    symbol, found = wire.symbol, []
    if wire.venue in ("binance", "binance-usdm"):
        base = "/api/v3/historicalTrades" if wire.venue == "binance" else "/fapi/v1/aggTrades"
        page = wire.ids(f"{base}?symbol={symbol}&fromId=0&limit=50")
        while page and page[0] <= last:
            found += page
            page = wire.ids(f"{base}?symbol={symbol}&fromId={page[-1] + 1}&limit=50")
    elif wire.venue == "kraken":
        since, fresh = 0, [0]
        while fresh and fresh[-1] <= last:
            target = f"/0/public/Trades?pair=XBTUSD&since={since}&count=50"
            page = wire.page(target)
            fresh = [int(it) for it in page.ids() if int(it) not in found[-50:]]
            found += fresh
            since = json.loads(page.body())["result"]["last"]
    else:
        base = f"/products/{symbol}/trades?" if "coinbase" in wire.venue else (
            f"/api/v5/market/history-trades?instId={symbol}&"
        )
        page = wire.ids(f"{base}limit=50&after={last + 1}")
        while page:
            found += page
            page = wire.ids(f"{base}limit=50&after={page[-1]}")
        found.reverse()
    return [it for it in found if it <= last]


VENUES = pytest.mark.parametrize("venue", sorted(SYMBOLS))


@VENUES
@pytest.mark.parametrize("faults", [(), (SKIPS,)], ids=["whole", "skipping"])
def test_the_whole_history_is_read_page_by_page(venue, faults):
    wire = Wire(venue, *faults)
    known = wire.known()
    assert walk(wire, known[-1]) == known, "each once, from the first of the past to what nobody was connected for"
    skipped = [it for it in wire.sim.venues[venue].skipped(wire.symbol) if it < known[-1]]
    assert bool(skipped) == bool(faults)
    assert sorted([*known, *skipped]) == list(range(known[0], known[-1] + 1))


@pytest.mark.parametrize(("venue", "target"), [
    ("binance", "/api/v3/historicalTrades?symbol=BTCUSDT&limit=3&fromId={}"),
    ("binance-usdm", "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=3&fromId={}"),
])
def test_binance_begins_with_the_id_that_is_asked_for(venue, target):
    wire = Wire(venue)
    known = wire.known()
    for place in (0, 1, 49, len(known) - 3):
        assert wire.ids(target.format(known[place])) == known[place:place + 3]
    assert wire.ids(target.format(1)) == known[:3], "older than all: the first there are"
    assert wire.ids(target.format(known[-1] + 10**9)) == [], "not yet"


@pytest.mark.parametrize(("venue", "target"), [
    ("coinbase", "/products/BTC-USD/trades?limit=3&after={}"),
    ("coinbase-exchange", "/products/BTC-USD/trades?limit=3&after={}"),
    ("okx", "/api/v5/market/history-trades?instId=BTC-USDT&limit=3&after={}"),
])
def test_coinbase_and_okx_go_down_from_below_the_cursor(venue, target):
    wire = Wire(venue)
    known = wire.known()
    for place in (3, 4, 50, len(known) - 1):
        assert wire.ids(target.format(known[place])) == known[place - 3:place][::-1]
    assert wire.ids(target.format(known[1])) == [known[0]]
    assert wire.ids(target.format(known[0])) == [], "there is nothing older"
    assert wire.ids(target.format(1)) == []
    newest = wire.ids(target.format(known[-1] + 10**9))
    assert newest == [it.id for it in wire.truth.last_matches(3)][::-1], "a cursor in the future is none"


def test_kraken_begins_with_its_own_nanosecond():
    wire = Wire("kraken")
    target = "/0/public/Trades?pair=XBTUSD&count=50&since={}"
    matches = wire.matches
    for place in (0, 1, 30):
        at = matches[place]
        first = next(it.id for it in matches if it.time == at.time)
        assert wire.ids(target.format(at.time))[0] == first
        later = next(it.id for it in matches if it.time > at.time)
        assert wire.ids(target.format(at.time + 1))[0] == later
    assert wire.ids(target.format(1))[0] == matches[0].id, "older than all: from the first on"
    future = START + HOUR
    said = json.loads(wire.get(target.format(future)).body)["result"]
    assert said == {"XXBTZUSD": [], "last": str(future)}, "an empty page leads nowhere"
    page = json.loads(wire.get(target.format(matches[0].time)).body)["result"]
    assert int(page["last"]) == wire.truth.match(page["XXBTZUSD"][-1][6]).time


@pytest.mark.parametrize(("category", "symbol", "most"), [("spot", "BTCUSDT", 60), ("linear", "linear:BTCUSDT", 1_000)])
def test_bybit_has_the_newest_and_no_more(category, symbol, most):
    wire = Wire("bybit")
    truth = wire.sim.truths["bybit", symbol]
    target = f"/v5/market/recent-trade?category={category}&symbol=BTCUSDT&limit={most}"
    number = wire.sim.venues["bybit"].number
    for _ in range(2):
        page = wire.page(target)
        assert [number(it) for it in page.ids()] == [it.id for it in truth.last_matches(most)][::-1]
        assert page.time(page.rows[0]) <= wire.now
    assert json.loads(wire.get(target.replace(f"={most}", f"={most + 1}")).body)["retCode"] == 10001


@pytest.mark.parametrize(("venue", "target", "said"), [
    ("binance", "/api/v3/historicalTrades?symbol=NONE&fromId=1", (400, b'"code":-1121')),
    ("binance-usdm", "/fapi/v1/aggTrades?symbol=NONE&fromId=1", (400, b'"code":-1121')),
    ("coinbase", "/products/NONE-USD/trades?after=5", (404, b'{"message":"NotFound"}')),
    ("coinbase-exchange", "/products/NONE-USD/trades?after=5", (404, b'{"message":"NotFound"}')),
    ("kraken", "/0/public/Trades?pair=NONE&since=1", (200, b"EQuery:Unknown asset pair")),
    ("okx", "/api/v5/market/history-trades?instId=NONE&after=5", (200, b'"code":"51001"')),
    ("bybit", "/v5/market/recent-trade?category=spot&symbol=NONE", (200, b'"retCode":10001')),
])
def test_a_symbol_that_does_not_exist(venue, target, said):
    answer = Wire(venue).get(target)
    assert answer.status == said[0]
    assert said[1] in answer.body


@pytest.mark.parametrize(("venue", "target", "free", "said"), [
    ("binance", "/api/v3/historicalTrades?symbol=BTCUSDT&fromId={}", 240, (429, b"-1003", "Retry-After")),
    ("binance-usdm", "/fapi/v1/aggTrades?symbol=BTCUSDT&fromId={}", 120, (429, b"-1003", "Retry-After")),
    ("coinbase", "/products/BTC-USD/trades?after={}", 15, (429, b"message", "")),
    ("coinbase-exchange", "/products/BTC-USD/trades?after={}", 15, (429, b"message", "")),
    ("kraken", "/0/public/Trades?pair=XBTUSD&since={}", 30, (200, b"EGeneral:Too many requests", "")),
    ("okx", "/api/v5/market/history-trades?instId=BTC-USDT&after={}", 20, (429, b"50011", "")),
    ("bybit", "/v5/market/recent-trade?category=spot&symbol=BTCUSDT&limit={}", 600, (403, b"access too frequent", "")),
])
def test_too_many_pages_at_once(venue, target, free, said):
    wire = Wire(venue)
    last = wire.matches[-1].id
    targets = [target.format(last - it if venue != "bybit" else it % 60 + 1) for it in range(free + 1)]
    at = (wire.now // (60 * SECOND) + 1) * 60 * SECOND  # where windows begin
    answers = [wire.sim.request(venue, "GET", it, at) for it in targets]
    assert all(it.status == 200 and said[1] not in it.body for it in answers[:free])
    over = answers[free]
    assert over.status == said[0]
    assert said[1] in over.body
    assert not said[2] or int(over.headers[said[2]]) > 0
    if venue.startswith("binance"):
        again = [wire.sim.request(venue, "GET", targets[0], at + it).status for it in range(1, 9)]
        assert again[-1] == 418, "who goes on is banned"
        banned = wire.sim.request(venue, "GET", targets[0], at + SECOND)
        assert int(banned.headers["Retry-After"]) >= 120
        assert int(banned.headers["X-MBX-USED-WEIGHT-1M"]) > 2_400


def test_usdm_reaches_back_48_hours():
    listing = next(it for it in LISTINGS["binance-usdm"] if it.symbol == "BTCUSDT")
    truth = Truth(listing, START - 3 * DAY, 1, 1_000)
    for hour in range(72):  # all in batches of their own
        truth.happen(START - 3 * DAY + hour * HOUR + 1, [], [(600_000 + hour, 5, True)])
    venue = BinanceUsdm({"BTCUSDT": truth}, Faults(FaultPlan(), START), 1)

    def rows(query):
        said = venue.request("GET", f"/fapi/v1/aggTrades?symbol=BTCUSDT&{query}", START, {}, "me")
        return json.loads(said.body)

    everything = venue._traded["BTCUSDT"].aggregates.from_id(0, 100)
    within = [it for it in everything if it.time >= START - 48 * HOUR]
    assert len(within) == 48
    assert [it["a"] for it in rows(f"fromId={everything[0].id}&limit=10")] == [it.id for it in within[:10]]
    assert [it["a"] for it in rows(f"fromId={within[0].id}&limit=2")] == [it.id for it in within[:2]]
    assert [it["a"] for it in rows(f"fromId={within[1].id}&limit=2")] == [it.id for it in within[1:3]]
    assert rows(f"startTime={(START - 60 * HOUR) // MILLISECOND}&limit=3") == []


# --- two hosts of one exchange ----------------------------------------------------------------------------------------


def test_advanced_trade_has_the_other_hosts_trades_and_nothing_else_of_it():
    wire = Wire("coinbase")
    both = Simulator(3, ["coinbase", "coinbase-exchange"], start=START, history_ns=30 * SECOND, listings=FEW)
    target = f"/products/BTC-USD/trades?limit=100&after={wire.matches[200].id}"
    one, other = (both.request(name, "GET", target, START) for name in ("coinbase", "coinbase-exchange"))
    assert one == other
    assert one.headers["CB-AFTER"] == str(wire.matches[100].id)
    for path in ("/products", "/products/BTC-USD/book?level=2", "/time", "/products/BTC-USD/candles"):
        assert both.request("coinbase", "GET", path, START).status == 404
    assert both.request("coinbase", "POST", target, START).status == 404


def test_the_two_hosts_count_and_remember_apart():
    wire = Wire("coinbase")
    sim, at = wire.sim, wire.now
    pages = [f"/products/BTC-USD/trades?after={it.id}" for it in wire.matches[:16]]
    assert [sim.request("coinbase", "GET", it, at).status for it in pages] == [200] * 15 + [429]
    book = "/api/v3/brokerage/market/product_book?product_id=BTC-USD&limit={}"
    assert [sim.request("coinbase", "GET", book.format(it), at).status for it in range(1, 12)] == [200] * 10 + [429]
    assert sim.request("coinbase", "GET", pages[0], at + SECOND).status == 200
    first = sim.request("coinbase", "GET", "/products/BTC-USD/trades?limit=5", at + SECOND)
    assert sim.request("coinbase", "GET", "/products/BTC-USD/trades?limit=5", at + 5 * SECOND).body == first.body
    assert sim.request("coinbase", "GET", "/products/BTC-USD/trades?limit=5", at + 7 * SECOND).body != first.body


# --- numbers that the venue leaves out --------------------------------------------------------------------------------


def test_a_plan_of_skips_changes_the_numbers_and_nothing_else():
    plain, skipping = Wire("okx"), Wire("okx", SKIPS)

    def told(wire):
        return [(it.time, it.price, it.size, it.buy) for it in wire.matches]

    assert told(plain) == told(skipping)
    assert plain.truth.bids() == skipping.truth.bids()
    since = [it for it in skipping.matches if it.time >= START]
    holes = skipping.truth.skipped()
    assert all(it > since[0].id - 3 for it in holes), "not in the past"
    assert 0.01 < len(holes) / 2 / len(since) < 0.12
    assert all(plain.truth.match(it.id) is not None for it in plain.matches)
    assert all(skipping.truth.match(it) is None for it in holes)
    assert plain.truth.skipped() == []


def test_candles_are_those_of_the_trades_that_are_shown():
    wire = Wire("binance", SKIPS)
    rows = json.loads(wire.get("/api/v3/klines?symbol=BTCUSDT&interval=1s&limit=1000").body)
    matches = wire.truth.matches
    for row in rows[-20:]:
        shown = [it for it in matches if row[0] <= it.time // MILLISECOND < row[0] + 1_000]
        assert row[8] == len(shown)


def test_aggregates_of_a_hole_are_a_hole_of_their_own():
    for venue in ("binance", "binance-usdm"):
        wire = Wire(venue, SKIPS)
        found = wire.sim.venues[venue]._rest._desks["BTCUSDT"].aggregates
        every = found.from_id(0, 1 << 40)
        missing = set(wire.truth.skipped())
        assert missing
        assert len(found.skipped()) == len(missing)
        for one in every:
            assert not missing & set(range(one.first, one.last + 1)), "no range claims what is not there"
        for limit in (1, 2, 7):
            at = found.skipped()[0]
            assert found.from_id(at, limit) == [it for it in every if it.id >= at][:limit]


def test_exchange_shows_the_holes_of_the_market_that_it_shares():
    fault = Fault(kind=FaultKind.VENUE_SKIPS, venue="coinbase-exchange", lasts=60, symbol="BTC-USD", share=0.5)
    sim = Simulator(3, ["coinbase", "coinbase-exchange"], start=START, history_ns=SECOND, listings=FEW,
                    plan=FaultPlan(faults=(fault,)))
    sim.wake(START + 5 * SECOND)
    one, other = (sim.venues[name].skipped("BTC-USD") for name in ("coinbase", "coinbase-exchange"))
    assert one
    assert one == other
    assert sim.venues["coinbase"].skipped("ETH-USD") == []


def test_memory_is_bounded_and_the_oldest_is_forgotten():
    truth = Truth(LISTINGS["okx"][0], START, 1, 1, matches_kept=1_000, changes_kept=1_000)
    truth.leaves_out = lambda time: time % 2
    for moment in range(1, 12_000):
        truth.happen(START + moment, [(True, 1, moment)], [(5, 1, True)])
    assert len(truth.matches) < 6_000
    first = truth.matches[0].id
    assert truth.matches_from(0, 1)[0].id == first > 1
    assert truth.matches_before(first, 5) == []
    assert truth.skipped()[0] > first
