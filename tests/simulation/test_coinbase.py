"""OneTape against both simulated Coinbases in memory: Advanced Trade and Exchange, which show one market."""
import pytest

from onetape.clock import MINUTE
from onetape.model import Candle, FeedError, Quote, Ticker, Trade
from onetape.sim.venues.coinbase import Coinbase
from onetape.sim.venues.coinbase_exchange import CoinbaseExchange
from tests.simulation.lab import Lab

CLASSES = {"coinbase": Coinbase, "coinbase-exchange": CoinbaseExchange}
SYMBOLS = ("BTC-USD", "ETH-USD")
SETTINGS = {"pairs": list(SYMBOLS), "channels": ["trades", "book"]}


@pytest.mark.parametrize("venue", CLASSES)
def test_books_equal_the_truth_and_nothing_is_missing(venue):
    lab = Lab(venue=venue, classes=CLASSES, settings=SETTINGS)
    lab.start()
    lab.play(60)
    assert lab.healthy, lab.states
    assert set(lab.books()) == {(venue, it) for it in SYMBOLS}
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    assert verdict.books > 1_000
    assert verdict.trades > 500
    assert not any(lab.missing().values())
    assert len(lab.attempts[venue]) == 1


def test_every_channel_of_advanced_trade_is_understood():
    """Quotes lie at the top of the book; the last that is heard of a bucket is the truth's."""
    settings = {"channels": ["trades", "book", "quotes", "ticker", "candles", "status"], "intervals": ["5m"]}
    lab = Lab(venue="coinbase", classes=CLASSES, settings=SETTINGS | settings)
    lab.start()
    lab.play(110)  # past the end of a bucket
    assert lab.healthy
    assert not [it for it in lab.events if isinstance(it, FeedError)]
    for kind in (Quote, Ticker, Candle):
        assert {it.symbol for it in lab.events if isinstance(it, kind)} == set(SYMBOLS)
    for symbol in SYMBOLS:
        truth = lab.sim.truths["coinbase", symbol]
        tick, lot = truth.listing.tick, truth.listing.lot
        for it in [it for it in lab.events if isinstance(it, Quote) and it.symbol == symbol][-20:]:
            book = truth.book_at_time(it.exchange_time)
            assert tuple(it.bid) == (book.bids[0][0] * tick, book.bids[0][1] * lot)
            assert tuple(it.ask) == (book.asks[0][0] * tick, book.asks[0][1] * lot)
        last = {it.start: it for it in lab.events if isinstance(it, Candle) and it.symbol == symbol}
        assert len(last) == 2
        for it in [it for start, it in last.items() if start < max(last)]:
            (true,) = truth.candles(5 * MINUTE, it.start, it.start + 1)
            assert (it.open, it.high, it.low, it.close, it.volume) == (
                true.open * tick, true.high * tick, true.low * tick, true.close * tick, true.volume * lot,
            )


def test_every_channel_of_the_exchange_is_understood():
    settings = SETTINGS | {"channels": ["trades", "book", "ticker"]}
    lab = Lab(venue="coinbase-exchange", classes=CLASSES, settings=settings)
    lab.start()
    lab.play(30)
    assert lab.healthy
    assert not [it for it in lab.events if isinstance(it, FeedError)]
    assert {it.symbol for it in lab.events if isinstance(it, Ticker)} == set(SYMBOLS)


def test_both_show_one_market():
    """The same trades under the same ids."""
    lab = Lab(classes=CLASSES, settings=SETTINGS)
    lab.start()
    lab.play(20)
    assert lab.healthy, lab.states
    lab.stop()
    found = {
        venue: {
            (it.symbol, it.id): (it.price, it.size, it.side) for it in lab.events
            if isinstance(it, Trade) and it.venue == venue
        }
        for venue in CLASSES
    }
    both = found["coinbase"].keys() & found["coinbase-exchange"].keys()
    assert len(both) > 100
    assert all(found["coinbase"][it] == found["coinbase-exchange"][it] for it in both)
