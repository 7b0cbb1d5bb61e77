"""Stored candles that late trades touch are rebuilt while the run goes on, and known from then on, not before."""
from decimal import Decimal as D

from onetape.clock import MINUTE, SECOND
from onetape.model import Channel, Side, Source, Trade
from onetape.service.keeper import Keeper
from onetape.storage.lake import Lake

START = 1_790_000_040 * SECOND // MINUTE * MINUTE


def trade(number, at, now, source=Source.LIVE):
    return Trade(
        venue="binance", symbol="BTCUSDT", exchange_time=START + at, received_time=START + now,
        available_at=START + now, channel=Channel.TRADES, id=str(number), after=number - 1, price=D(number), size=D(1),
        side=Side.BUY, source=source,
    )


def rebuilt(keeper):
    """Does not depend on how fast a thread is."""
    if keeper._mender._job is not None:
        keeper._mender._job.result()


def minutes(store, as_of=None):
    with Lake(store) as lake:
        found = lake.candles(interval="1m", as_of=as_of)
    return [(it.end - START, it.revision, it.trades, it.complete) for it in found]


def test_what_an_earlier_process_stored_is_revised_while_the_run_goes_on(tmp_path):
    with Keeper(tmp_path) as it:
        for number, at in ((1, -SECOND), (2, SECOND), (6, 30 * SECOND), (7, 2 * MINUTE)):
            it.handle(trade(number, at, at))
        it.finish(START + 3 * MINUTE)
    assert minutes(tmp_path)[1] == (MINUTE, 0, 2, False)
    now = 10 * MINUTE
    with Keeper(tmp_path) as it:
        it.handle(trade(8, now, now))
        for number in (3, 4, 5):
            it.handle(trade(number, (number * 2) * SECOND, now + SECOND, Source.BACKFILL))
        it.wake(START + now + 2 * SECOND)
        for second in range(2, 30):
            it.push(START + now + second * SECOND)
            it.flush()
            if minutes(tmp_path)[1][1]:
                break
            rebuilt(it)
        assert minutes(tmp_path)[1] == (MINUTE, 1, 5, True)
        assert minutes(tmp_path, as_of=START + now)[1] == (MINUTE, 0, 2, False)
        it.finish(START + now + MINUTE)
    assert minutes(tmp_path)[1] == (MINUTE, 1, 5, True)  # once


def gap_of_an_earlier_run(store):
    with Keeper(store) as it:
        for number, at in ((1, -SECOND), (2, SECOND), (6, 30 * SECOND), (7, 2 * MINUTE)):
            it.handle(trade(number, at, at))
        it.finish(START + 3 * MINUTE)


def test_what_is_stale_stays_on_record_until_the_candles_are_on_the_disk(tmp_path):
    gap_of_an_earlier_run(tmp_path)
    now = 10 * MINUTE
    with Keeper(tmp_path) as it:
        it.handle(trade(8, now, now))
        for number in (3, 4, 5):
            it.handle(trade(number, number * 2 * SECOND, now + SECOND, Source.BACKFILL))
        it.wake(START + now + 2 * SECOND)
        it.push(START + now + 3 * SECOND)
        rebuilt(it)
        it.push(START + now + 4 * SECOND)  # handed over
        assert (tmp_path / "stale.json").exists()
        it.flush()
        it.push(START + now + 5 * SECOND)
        assert not (tmp_path / "stale.json").exists()
    assert minutes(tmp_path)[1] == (MINUTE, 1, 5, True)


def test_trades_of_a_batch_that_is_still_open_are_not_passed_over(tmp_path):
    gap_of_an_earlier_run(tmp_path)
    now = 10 * MINUTE
    with Keeper(tmp_path) as it:
        it.handle(trade(8, now, now))
        it.wake(START + now + SECOND)
        for number in (3, 4, 5):
            it.handle(trade(number, number * 2 * SECOND, now + SECOND, Source.BACKFILL))
        for second in range(2, 90):
            it.push(START + now + second * SECOND)
            it.flush()
            rebuilt(it)
        it.finish(START + now + 2 * MINUTE)
    assert minutes(tmp_path)[1] == (MINUTE, 1, 5, True)


def test_a_gap_that_was_partly_filled_at_the_kill_leaves_whole_candles_when_it_is_healed(tmp_path):
    keeper = Keeper(tmp_path).__enter__()
    keeper.handle(trade(0, -SECOND, -SECOND))
    for number in (*range(1, 11), *range(31, 41)):
        keeper.handle(trade(number, number * SECOND, number * SECOND))
    keeper.wake(START + 41 * SECOND)
    for number in range(11, 16):
        keeper.handle(trade(number, number * SECOND, 42 * SECOND, Source.BACKFILL))
    keeper.wake(START + 43 * SECOND)
    keeper.flush()
    keeper.__exit__()  # killed
    with Keeper(tmp_path) as it:
        it.handle(trade(41, 45 * SECOND, 45 * SECOND))
        for number in range(16, 31):
            it.handle(trade(number, number * SECOND, 46 * SECOND, Source.BACKFILL))
        it.handle(trade(42, 130 * SECOND, 130 * SECOND))
        it.finish(START + 10 * MINUTE)
    with Lake(tmp_path) as lake:
        assert {it.state for it in lake.gaps()} == {"healed"}
    assert (MINUTE, 0, 41, True) in minutes(tmp_path)
