"""hftbacktest itself, over a file of ours: it finds the order right, plays it, and sees the book that we had."""
from importlib.metadata import version
from importlib.util import find_spec

import pytest

from onetape.model import Channel, InstrumentId
from onetape.storage.formats import hftbacktest as ours
from onetape.storage.lake import Selection
from tests.storage.test_export import exporting, play

pytestmark = [
    pytest.mark.skipif(find_spec("hftbacktest") is None, reason="hftbacktest is not installed: make test-peers"),
    pytest.mark.filterwarnings("ignore"),  # numba has much to say about itself
]
ID = InstrumentId("binance-usdm", "ETHUSDT")


@pytest.fixture(scope="module")
def minute(recordings, tmp_path_factory):
    """The file, and the book at its end."""
    folder = tmp_path_factory.mktemp("minute")
    recording = recordings / "binance" / "usdm_20240808_ethusdt_first60s.jsonl"
    player, _ = play(recording, ID.venue, folder / "s")
    with exporting(folder / "s") as duck:
        ours.write(duck, Selection(instruments=frozenset({ID})), Channel.TRADES, folder / "a.npz")
    return folder / "a.npz", player.book(ID).book


def test_it_would_put_the_events_in_the_same_order(minute):
    import numpy as np  # noqa: PLC0415 - comes with hftbacktest
    from hftbacktest.data.validation import correct_event_order, validate_event_order  # noqa: PLC0415 - may be absent
    from hftbacktest.types import EXCH_EVENT, LOCAL_EVENT, event_dtype  # noqa: PLC0415 - may be absent

    print("hftbacktest", version("hftbacktest"))  # noqa: T201 - what was seen working
    data = np.load(minute[0])["data"].astype(event_dtype)
    validate_event_order(data)
    heard = data[data["ev"] & LOCAL_EVENT != 0]
    heard["ev"] &= ~np.uint64(EXCH_EVENT | LOCAL_EVENT)
    by_exchange = np.lexsort((heard["local_ts"], heard["exch_ts"]))
    theirs = correct_event_order(heard, by_exchange, np.arange(len(heard)))
    for name in data.dtype.names:
        assert np.array_equal(theirs[name], data[name], equal_nan=name in ("px", "qty", "fval"))


def test_a_backtest_ends_with_the_book_that_we_had(minute):
    from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest  # noqa: PLC0415 - may be absent

    path, book = minute
    asset = (
        BacktestAsset().data([str(path)]).linear_asset(1.0).constant_order_latency(0, 0).power_prob_queue_model(2.0)
        .no_partial_fill_exchange().trading_value_fee_model(0, 0).tick_size(0.01).lot_size(0.001)
    )
    backtest = HashMapMarketDepthBacktest([asset])
    while backtest.elapse(1_000_000_000) == 0:
        depth = backtest.depth(0)
    (bid, bid_size), (ask, ask_size) = ((float(price), float(size)) for price, size in (*book.bids(1), *book.asks(1)))
    assert (depth.best_bid, depth.best_ask) == pytest.approx((bid, ask))
    assert depth.bid_qty_at_tick(round(bid * 100)) == pytest.approx(bid_size)
    assert depth.ask_qty_at_tick(round(ask * 100)) == pytest.approx(ask_size)
    backtest.close()
