"""OneTape against the simulated Bybit in memory: spot and linear lines at once."""
from onetape.clock import MILLISECOND, MINUTE
from onetape.model import Candle, FeedError, Quote, Ticker
from tests.simulation.lab import Lab

SETTINGS = {"pairs": ["BTC-USDT", "ETH-USDT", "BTC-USDT-PERP"]}


def test_books_equal_the_truth_and_nothing_is_missing():
    lab = Lab(venue="bybit", settings=SETTINGS)
    lab.start()
    lab.play(60)
    assert lab.healthy, lab.states
    assert set(lab.books()) == {("bybit", it) for it in ("BTCUSDT", "ETHUSDT", "linear:BTCUSDT")}
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    assert verdict.books > 1_000
    assert verdict.trades > 500
    assert not any(lab.missing().values())
    assert len(lab.attempts["bybit"]) == 2


def test_every_channel_is_understood():
    """More than ten topics on spot; closed candles are the truth's, quotes lie at the top of the book."""
    settings = {"channels": ["trades", "book", "quotes", "ticker", "candles"], "intervals": ["1m", "5m", "1h"]}
    lab = Lab(venue="bybit", settings=SETTINGS | settings)
    lab.start()
    lab.play(100)
    assert lab.healthy
    assert not [it for it in lab.events if isinstance(it, FeedError)]
    for kind in (Quote, Ticker, Candle):
        assert {it.symbol for it in lab.events if isinstance(it, kind)} == {it for _, it in lab.books()}
    closed = [it for it in lab.events if isinstance(it, Candle) and it.final and it.interval == "1m"]
    assert len(closed) >= 3
    for it in closed:
        truth = lab.sim.truths["bybit", it.symbol]
        tick, lot = truth.listing.tick, truth.listing.lot
        (true,) = truth.candles(MINUTE, it.start, it.start + 1)
        assert (it.open, it.close, it.volume) == (true.open * tick, true.close * tick, true.volume * lot)
        assert it.quote_volume == true.quote * tick * lot
    for symbol in {it for _, it in lab.books()}:
        quote = [it for it in lab.events if isinstance(it, Quote) and it.symbol == symbol][-1]
        book = lab.sim.truths["bybit", symbol].book_at_time(quote.exchange_time + MILLISECOND - 1)
        listing = lab.sim.truths["bybit", symbol].listing
        assert tuple(quote.bid) == (book.bids[0][0] * listing.tick, book.bids[0][1] * listing.lot)
