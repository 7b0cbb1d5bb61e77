"""OneTape against the simulated OKX in memory: two sockets, spot and swaps, every channel."""
from onetape import venues
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.model import Candle, Channel, FeedError, Quote, Ticker, Trade
from onetape.service.choice import tradable
from onetape.sim.faults import Fault, FaultKind, FaultPlan
from onetape.sim.listings import LISTINGS
from onetape.sim.simulator import Simulator
from onetape.sim.venues.okx import Okx
from onetape.sim.venues.okx_books import Book
from tests.simulation.lab import START, Lab

CLASSES = {"okx": Okx}
SETTINGS = {"pairs": ["BTC-USDT", "ETH-USDT", "BTC-USDT-PERP"]}
SYMBOLS = ("BTC-USDT", "ETH-USDT", "BTC-USDT-SWAP")


def test_books_equal_the_truth_and_nothing_is_missing():
    lab = Lab(venue="okx", classes=CLASSES, settings=SETTINGS)
    lab.start()
    lab.play(60)
    assert lab.healthy, lab.states
    assert set(lab.books()) == {("okx", it) for it in SYMBOLS}
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    assert verdict.books > 1_000
    assert verdict.trades > 500
    assert not any(lab.missing().values())
    assert len(lab.attempts["okx"]) == 2


def test_every_channel_is_understood():
    """Closed candles are the truth's, quotes lie at the top of the book, aggregated trades are sums of others."""
    settings = {
        "channels": ["trades", "agg_trades", "book", "quotes", "ticker", "candles"], "intervals": ["1m", "5m", "1h"],
    }
    lab = Lab(venue="okx", classes=CLASSES, settings=SETTINGS | settings)
    lab.start()
    lab.play(100)
    assert lab.healthy
    assert not [it for it in lab.events if isinstance(it, FeedError)]
    for kind in (Quote, Ticker, Candle):
        assert {it.symbol for it in lab.events if isinstance(it, kind)} == set(SYMBOLS)
    closed = [it for it in lab.events if isinstance(it, Candle) and it.final and it.interval == "1m"]
    assert len(closed) >= 3
    for it in closed:
        listing = lab.sim.truths["okx", it.symbol].listing
        (true,) = lab.sim.truths["okx", it.symbol].candles(MINUTE, it.start, it.start + 1)
        assert (it.open, it.close, it.volume) == (
            true.open * listing.tick, true.close * listing.tick, true.volume * listing.lot,
        )
        assert it.quote_volume == true.quote * listing.tick * listing.lot * listing.contract
    merged = [it for it in lab.events if isinstance(it, Trade) and it.channel is Channel.AGG_TRADES]
    assert {it.symbol for it in merged} == set(SYMBOLS)
    for it in merged:
        truth, first, last = lab.sim.truths["okx", it.symbol], int(it.first_id), int(it.last_id)
        matches = truth.matches_from(first, last - first + 1)
        assert it.size == sum(match.size for match in matches) * truth.listing.lot
        assert {match.price * truth.listing.tick for match in matches} == {it.price}
    for symbol in SYMBOLS:
        quote = [it for it in lab.events if isinstance(it, Quote) and it.symbol == symbol][-1]
        book = lab.sim.truths["okx", symbol].book_at_time(quote.exchange_time + MILLISECOND - 1)
        listing = lab.sim.truths["okx", symbol].listing
        assert tuple(quote.bid) == (book.bids[0][0] * listing.tick, book.bids[0][1] * listing.lot)
        assert tuple(quote.ask) == (book.asks[0][0] * listing.tick, book.asks[0][1] * listing.lot)


def test_books_go_on_where_maintenance_begins_their_numbers_anew():
    """A lower number that links to the one before is no gap; the sockets end 10 s later, one of them without a word."""
    plan = FaultPlan(faults=(Fault(kind=FaultKind.NOTICE, venue="okx", at=10.0, lasts=1.0),))
    lab = Lab(plan, venue="okx", classes=CLASSES, settings=SETTINGS)
    lab.start()
    lab.play(40)
    assert lab.healthy, lab.states
    assert all(it.sequence < 1_000_000 for it in lab.books().values())
    assert not lab.deceived(5 * SECOND)
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    assert lab.missing() == lab.told_missing()


def test_books_without_snapshots_are_joined_over_rest(monkeypatch):
    """As was announced, and has not been seen: updates come, and no snapshot before them."""
    monkeypatch.setattr(Book, "whole", lambda *_: b"")
    lab = Lab(venue="okx", classes=CLASSES, settings=SETTINGS)
    lab.start()
    lab.play(20)
    assert lab.healthy, lab.states
    lab.stop()
    verdict = lab.referee.finish()
    assert verdict.books > 100
    assert not verdict.wrong, verdict.findings


def test_only_what_is_traded_against_a_coin_is_offered():
    """Not what is listed besides: inverse, expiring, suspended, not yet filled in, no coin."""
    sim, venue, found = Simulator(1, ["okx"], start=START, classes=CLASSES), venues.create("okx"), []
    for request in venue.instrument_requests():
        found += venue.parse_instruments(sim.request("okx", "GET", request.path, START).body)[0]
    offered = {it.id.symbol: it for it in tradable(found) if it.tradable}
    assert set(offered) == {it.symbol for it in LISTINGS["okx"]}
    for it in LISTINGS["okx"]:
        assert (offered[it.symbol].base, offered[it.symbol].quote) == (it.base, it.quote)
        assert offered[it.symbol].contract_value == it.contract


def test_all_instruments_on_all_channels():
    """A handful of requests for all of them."""
    pairs = [f"{it.base}-{it.quote}{'-PERP' * it.symbol.endswith('-SWAP')}" for it in LISTINGS["okx"]]
    channels = ["trades", "book", "quotes", "ticker", "candles"]
    lab = Lab(venue="okx", classes=CLASSES, settings={"pairs": pairs, "channels": channels, "intervals": ["1m"]})
    lab.start()
    lab.play(20)
    assert lab.healthy, lab.states
    assert {symbol for _, symbol in lab.books()} == {it.symbol for it in LISTINGS["okx"]}
    assert all(len(it) < 10 for it in lab.sent.values())
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    assert not any(lab.missing().values())
