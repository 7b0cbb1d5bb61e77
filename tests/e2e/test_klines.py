"""The venues' own candles: those of the truth at every simulated venue; what is not to be trusted is not taken."""
import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from onetape import venues
from onetape.candles.batch import build
from onetape.candles.compare import Verdict, compare
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.config import Settings
from onetape.errors import UsageError
from onetape.feed.governor import Governor
from onetape.feed.rest import Rest, client
from onetape.model import Channel, InstrumentId, Side, Trade
from onetape.service import klines as module
from onetape.service.compare import asking, choice_of, compare_fetched
from onetape.service.keeper import Keeper
from onetape.service.klines import BACKOFF_S, TRIES, klines
from onetape.service.run import redirect
from onetape.sim.server import Server
from onetape.sim.simulator import Simulator
from onetape.storage.lake import Lake, Selection
from onetape.venues import VENUES
from tests.feed.wire import run, serving

START = 1_790_000_040 * SECOND  # a whole minute
BACK = 12 * MINUTE
SYMBOLS = {
    "binance": "BTCUSDT", "binance-usdm": "BTCUSDT", "coinbase": "BTC-USD", "coinbase-exchange": "BTC-USD",
    "kraken": "BTC/USD", "okx": "BTC-USDT", "bybit": "linear:BTCUSDT",
}


def trades_of(truth, id, channel=Channel.TRADES):
    """What really happened, as our tape would have it."""
    tick, lot = truth.listing.tick, truth.listing.lot
    for it in truth.matches:
        yield Trade(
            venue=id.venue, symbol=id.symbol, exchange_time=it.time, received_time=it.time, available_at=it.time,
            channel=channel, id=str(it.id), after=it.id - 1, price=it.price * tick, size=it.size * lot,
            side=Side.BUY if it.buy else Side.SELL,
        )


async def had(choice, rest, symbol, interval, start, end):
    """Pages, what was lacking, and how long was waited."""
    lacking, waits = [], []

    async def pause(seconds):
        waits.append(seconds)

    theirs = klines(choice, rest, symbol, interval, start, end, lacking=lacking.append, pause=pause)
    pages = [page async for page in theirs]
    return pages, lacking, waits


@pytest.mark.parametrize("venue", VENUES)
def test_they_are_the_candles_of_the_truth_page_by_page(venue, monkeypatch):
    monkeypatch.setattr(module, "PAGES", dict.fromkeys(module.PAGES, 4))
    symbol, start, end = SYMBOLS[venue], START - BACK, START - MINUTE  # Coinbase shows the last minute late
    simulator = Simulator(5, [venue], start=START, history_ns=BACK + 2 * MINUTE)

    async def ask():
        async with Server(simulator) as server:
            choice = redirect(choice_of(Settings(), venue), server)
            async with client() as http:
                rest = Rest(http, venues.create(venue), choice.rest, Governor(choice.spec.budget), clock=server.now)
                async with running(rest):
                    return await had(choice, rest, symbol, "1m", start, end)

    pages, lacking, _ = run(ask())
    assert lacking == []
    assert len(pages) == (1 if venue == "kraken" else 3)
    theirs = [it for page in pages for it in page]
    assert [it.start for it in theirs] == list(range(start, end, MINUTE))
    ours = build(
        trades_of(simulator.truths[venue, symbol], InstrumentId(venue, symbol)), "1m", START, until=end,
        covered_since=start,
    )
    found = list(compare((it for it in ours if it.start >= start), theirs, counts=venue != "binance-usdm"))
    assert [it for it in found if it.verdict is not Verdict.AGREES] == []
    assert len(found) == BACK // MINUTE - 1


@asynccontextmanager
async def running(rest):
    task = asyncio.create_task(rest.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("venue", VENUES)
def test_a_store_with_the_truth_agrees_with_what_the_venue_gives(venue, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BACKOFF_S", 0.001)
    symbol = SYMBOLS[venue]
    simulator = Simulator(6, [venue], start=START, history_ns=BACK + 2 * MINUTE)
    truth = simulator.truths[venue, symbol]
    tape = venues.capabilities(venue).tape
    with Keeper(tmp_path) as keeper:
        for it in trades_of(truth, InstrumentId(venue, symbol), tape):
            if it.exchange_time >= START - BACK:
                keeper.handle(it)
        keeper.finish(START)

    async def ask(settings):
        with Lake(tmp_path) as lake:
            return await compare_fetched(lake, Selection(), "1m", settings, START, lambda *_: None)

    async def all_of_it():
        async with Server(simulator) as server:
            return await ask(Settings.model_validate({"venues": {venue: {"rest": [server.rest_url(venue)]}}}))

    (it,) = run(all_of_it())
    late = venue.startswith("coinbase")  # its REST shows the last minute up to a minute late
    assert (it.differ, it.undecided) == (0, 1 if late and it.undecided else 0), it.found
    assert it.agree >= BACK // MINUTE - 2
    (it,) = run(ask(Settings.model_validate({"venues": {venue: {"rest": ["http://127.0.0.1:1"]}}})))
    assert (it.agree, it.differ) == (0, 0)
    assert "127.0.0.1:1" in it.lacking[0].reason


# --- what venues say that is not so ---------------------------------------------------------------------------------


def row(minute, *, start=None, high="3", volume="5"):
    opened = (START + minute * MINUTE if start is None else start) // MILLISECOND
    return [opened, "2", high, "1", "2.5", volume, opened + 59_999, "10", 7, "1", "2", "0"]


def rows(*minutes):
    return json.dumps([row(it) for it in minutes]).encode()


def answering(*bodies):
    """The script of a server that answers with one body after the other, the last one again and again; and paths."""
    left, paths = list(bodies), []

    async def script(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            paths.append(head.split()[1].decode())
            status, body = left.pop(0) if len(left) > 1 else left[0]
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))

    return script, paths


def asked(*answers, minutes=6):
    """What comes of it."""
    script, paths = answering(*((it if isinstance(it, tuple) else (200, it)) for it in answers))

    async def ask():
        async with serving(script) as port:
            settings = Settings.model_validate({"venues": {"binance": {"rest": [f"http://127.0.0.1:{port}"]}}})
            choice = choice_of(settings, "binance")
            async with asking(choice) as rest:
                return await had(choice, rest, "BTCUSDT", "1m", START, START + minutes * MINUTE)

    pages, lacking, waits = run(ask())
    return [[(it.start - START) // MINUTE for it in page] for page in pages], lacking, waits, paths


BAD = {
    "unreadable": b"[[1,2", "html": b"<html>no</html>", "foreign time": rows(-1, 0, 1), "beyond": rows(0, 1, 9),
    "descending": rows(1, 0), "twice": rows(0, 0), "impossible": json.dumps([row(0, high="1.5")]).encode(),
    "another interval": json.dumps([row(0, start=START + SECOND)]).encode(), "an object": b'{"code":0}',
    "not a number": json.dumps([row(0, volume="NaN")]).encode(), "refused for now": (503, b""),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_page_is_asked_for_again_after_longer_and_longer_waits(bad):
    pages, lacking, waits, paths = asked(BAD[bad], BAD[bad], rows(0, 1, 2, 3, 4, 5))
    assert pages == [[0, 1, 2, 3, 4, 5]]
    assert lacking == []
    assert len(set(paths)) == 1
    assert [it for it in waits if it <= BACKOFF_S * 2 ** TRIES][:2] == [BACKOFF_S, 2 * BACKOFF_S]


@pytest.mark.parametrize("bad", BAD)
def test_what_stays_bad_is_told_as_not_had_with_the_reason(bad):
    pages, (lacking,), waits, paths = asked(rows(0, 1), *[BAD[bad]] * TRIES)
    assert pages == [[0, 1]]
    assert (lacking.start, lacking.end) == (START + 2 * MINUTE, START + 6 * MINUTE)
    assert lacking.reason.endswith(f"({TRIES} times)")
    assert len(waits) == TRIES - 1
    assert len(paths) == 1 + TRIES


def test_what_is_refused_for_good_is_not_asked_for_again():
    pages, (lacking,), waits, paths = asked((400, b'{"code":-1121,"msg":"Invalid symbol."}'))
    assert pages == []
    assert "Invalid symbol" in lacking.reason
    assert (waits, len(paths)) == ([], 1)


def test_a_page_that_is_cut_short_is_gone_on_with():
    pages, lacking, _, paths = asked(rows(0, 1, 2), rows(3, 4, 5))
    assert pages == [[0, 1, 2], [3, 4, 5]]
    assert lacking == []
    assert f"startTime={(START + 3 * MINUTE) // MILLISECOND}" in paths[1]


def test_an_empty_page_is_believed_if_it_is_empty_twice_and_the_next_is_asked_for(monkeypatch):
    monkeypatch.setattr(module, "PAGES", {"binance": 3})
    pages, (lacking,), waits, _ = asked(b"[]", b"[]", rows(3, 4, 5))
    assert pages == [[3, 4, 5]]
    assert (lacking.start, lacking.end) == (START, START + 3 * MINUTE)
    assert waits == [BACKOFF_S]
    assert asked(b"[]", rows(0, 1, 2), rows(3, 4, 5))[:2] == ([[0, 1, 2], [3, 4, 5]], [])


def test_nothing_is_asked_of_an_interval_that_the_venue_does_not_have():
    with pytest.raises(UsageError, match="binance gives no candles of '1M'"):
        asked(rows(0), minutes=0) and run(had_of("1M"))
    with pytest.raises(UsageError, match="coinbase gives no candles of '3m'"):
        run(had_of("3m", "coinbase"))


async def had_of(interval, venue="binance"):
    choice = choice_of(Settings(), venue)
    async with asking(choice) as rest:
        return await had(choice, rest, "X", interval, START, START + MINUTE)
