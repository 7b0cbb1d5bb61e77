"""OneTape against the simulated USD-M in memory: two routes, a chain of depth events, a tape of aggregates."""
from onetape.clock import MINUTE
from onetape.model import Candle, FeedError, GapOpened, Quote, Ticker
from onetape.sim.venues.usdm import BinanceUsdm
from tests.simulation.lab import Lab

SETTINGS = {"pairs": ["BTC-USDT-PERP", "ETH-USDT-PERP"]}
SYMBOLS = {"BTCUSDT", "ETHUSDT"}


def lab_of(plan=None, *, settings=SETTINGS, **options):
    return Lab(plan, venue="binance-usdm", classes={"binance-usdm": BinanceUsdm}, settings=settings, **options)


def test_books_equal_the_truth_and_nothing_is_missing():
    lab = lab_of()
    lab.start()
    lab.play(60)
    assert lab.healthy, lab.states
    assert set(lab.books()) == {("binance-usdm", it) for it in SYMBOLS}
    lab.stop()
    verdict = lab.referee.finish()
    assert not verdict.wrong, verdict.findings
    assert verdict.books > 800
    assert verdict.trades > 300
    assert not any(lab.missing().values())


def test_every_channel_is_understood():
    """Closed candles are the truth's, quotes lie at the top of the book, nothing is taken for a gap."""
    settings = {"channels": ["agg_trades", "book", "quotes", "ticker", "candles"], "intervals": ["1m", "5m", "1h"]}
    lab = lab_of(settings=SETTINGS | settings)
    lab.start()
    lab.play(100)
    assert lab.healthy
    assert not [it for it in lab.events if isinstance(it, (FeedError, GapOpened))]
    for kind in (Quote, Ticker, Candle):
        assert {it.symbol for it in lab.events if isinstance(it, kind)} == SYMBOLS
    closed = [it for it in lab.events if isinstance(it, Candle) and it.final and it.interval == "1m"]
    assert len(closed) >= 2
    for it in closed:
        truth = lab.sim.truths["binance-usdm", it.symbol]
        tick, lot = truth.listing.tick, truth.listing.lot
        (true,) = truth.candles(MINUTE, it.start, it.start + 1)
        assert (it.open, it.close, it.volume) == (true.open * tick, true.close * tick, true.volume * lot)
        assert it.quote_volume == true.quote * tick * lot
    for symbol in SYMBOLS:
        quote = [it for it in lab.events if isinstance(it, Quote) and it.symbol == symbol][-1]
        truth = lab.sim.truths["binance-usdm", symbol]
        book = truth.book_at(truth.sequence)
        assert tuple(quote.bid) == (book.bids[0][0] * truth.listing.tick, book.bids[0][1] * truth.listing.lot)
