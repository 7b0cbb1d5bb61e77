"""What real recordings bring is in the store: every trade once, digit for digit, and candles that follow from them."""
import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from decimal import Decimal as D
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from onetape.clock import MINUTE
from onetape.errors import RetryBatch
from onetape.feed.recording import open_recording
from onetape.feed.replay import Replay
from onetape.model import Channel, Event, InstrumentId
from onetape.model.numbers import plain
from onetape.service.keeper import Keeper
from onetape.storage.compaction import compact
from onetape.storage.lake import Lake, Selection
from onetape.storage.restore import running

VENUE_OF = {
    "binance/spot_20210814_4sym.jsonl": "binance",
    "binance/spot_20211012_4sym.jsonl": "binance",
    "binance/spot_20240808_ethusdt.jsonl": "binance",
    "binance/usdm_20210722_4sym.jsonl": "binance-usdm",
    "binance/usdm_20240808_ethusdt_first60s.jsonl": "binance-usdm",
    "okx/v5_20210722_conn1.jsonl": "okx",
    "okx/v5_20260824_btcusdt_books_seq.jsonl": "okx",
    "bybit/v5_20241201_linear_xrpusdt_ob500.jsonl": "bybit",
    "bybit/v5_20260809_spot.jsonl": "bybit",
    "kraken/v2_20260720_btcusd_d10_sample70.jsonl": "kraken",
    "kraken/v2_20260824_btcusd_d10_short.jsonl": "kraken",
    "coinbase/exchange_20210417_A5prod.jsonl": "coinbase-exchange",
    "coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl": "coinbase",
}
ETH = InstrumentId("binance", "ETHUSDT")


def keep(path, venue, store, stop=None):
    """Plays a recording into a store, all of it or its first ``stop`` inputs; gives the rows that are new by table."""
    player = Replay(open_recording(path), venue)
    with Keeper(store, pair_of=player.pair, book_of=player.book, tape_of=player.tape, repeats=True) as keeper:
        time = 0
        for number, step in enumerate(player):
            if number == stop:
                break
            time = step.input.time
            for _, it in step.outcomes:
                if isinstance(it, Event):
                    keeper.handle(it)
        keeper.finish(time)
        return {table: rows for table, rows in keeper.journal.counters.items() if table != "not stored"}


def raw(path, venue):
    """(symbol, id, price, size) of each trade in the frames, by the venue's documentation and nothing of ours."""
    for line in path.read_text().splitlines():
        frame = json.loads(line, parse_float=str, parse_int=str)
        match venue:
            case "binance" | "binance-usdm":
                data = frame.get("data", frame)
                if data.get("e") in ("trade", "aggTrade") and data.get("X", "MARKET") == "MARKET":
                    yield data["s"], data["t" if data["e"] == "trade" else "a"], data["p"], data["q"]
            case "okx":
                if frame.get("arg", {}).get("channel") == "trades" and "data" in frame:
                    yield from ((it["instId"], it["tradeId"], it["px"], it["sz"]) for it in frame["data"])
            case "bybit":
                if frame.get("topic", "").startswith("publicTrade"):
                    yield from ((it["s"], it["i"], it["p"], it["v"]) for it in frame["data"] if not it.get("BT"))
            case "coinbase":
                if frame.get("channel") == "market_trades":
                    trades = (it for event in frame["events"] for it in event["trades"])
                    yield from ((it["product_id"], it["trade_id"], it["price"], it["size"]) for it in trades)
            case "coinbase-exchange":
                if frame.get("type") in ("match", "last_match"):
                    yield frame["product_id"], frame["trade_id"], frame["price"], frame["size"]
            case "kraken":
                if frame.get("channel") == "trade":
                    yield from ((it["symbol"], it["trade_id"], it["price"], it["qty"]) for it in frame["data"])


def stored(store):
    with Lake(store) as lake:
        return Counter((it.symbol, it.id, plain(it.price), plain(it.size)) for it in lake.trades(Selection()))


@pytest.mark.parametrize("name", VENUE_OF)
def test_every_trade_of_a_recording_is_stored_once_with_the_digits_of_the_wire(recordings, tmp_path, name):
    expected = set(raw(recordings / name, VENUE_OF[name]))
    keep(recordings / name, VENUE_OF[name], tmp_path)
    assert stored(tmp_path) == Counter(expected)  # as a Counter: none is there twice
    assert not keep(recordings / name, VENUE_OF[name], tmp_path)
    compact(tmp_path, now=0)
    assert stored(tmp_path) == Counter(expected)
    assert not keep(recordings / name, VENUE_OF[name], tmp_path)
    assert stored(tmp_path) == Counter(expected)


def test_all_recordings_fit_into_one_store(recordings, tmp_path):
    expected = Counter()
    for name, venue in VENUE_OF.items():
        keep(recordings / name, venue, tmp_path)
        expected += Counter((venue, *it) for it in set(raw(recordings / name, venue)))
    with Lake(tmp_path) as lake:
        trades = lake.trades()
        found = Counter((it.venue, it.symbol, it.id, plain(it.price), plain(it.size)) for it in trades)
        assert found == expected
        assert lake.verify() == []


def minutes(path):
    """1m candles straight from the JSON, by their ends in ms."""
    groups = {}
    for line in path.read_text().splitlines():
        data = json.loads(line).get("data", {})
        if data.get("e") == "trade":
            end = data["T"] // 60_000 * 60_000 + 60_000
            groups.setdefault(end, []).append((data["T"], data["t"], D(data["p"]), D(data["q"])))
    out = {}
    for end, trades in groups.items():
        trades.sort()
        prices = [price for _, _, price, _ in trades]
        out[end] = (
            prices[0], max(prices), min(prices), prices[-1], sum(size for *_, size in trades), len(trades),
        )
    return out


def candles_of(store):
    selection = Selection(venue="binance", instruments=frozenset({ETH}))
    with Lake(store) as lake:
        found = [*lake.candles(selection, "1m"), *running(lake, selection, "1m")]
    for it in found:
        assert it.end == it.start + MINUTE
        assert it.exchange_time == it.end
    return {
        it.end // 1_000_000: (it.open, it.high, it.low, it.close, it.volume, it.trades)
        for it in found
    }


def test_minute_candles_are_those_of_the_raw_frames_from_journal_and_lake_and_across_both(recordings, tmp_path):
    path = recordings / "binance/spot_20240808_ethusdt.jsonl"
    expected = minutes(path)
    assert len(expected) > 3
    keep(path, "binance", tmp_path / "journal")
    assert candles_of(tmp_path / "journal") == expected
    keep(path, "binance", tmp_path / "lake")
    compact(tmp_path / "lake", now=0)
    assert candles_of(tmp_path / "lake") == expected
    keep(path, "binance", tmp_path / "both", stop=17_000)
    compact(tmp_path / "both", now=0)
    keep(path, "binance", tmp_path / "both")
    with Lake(tmp_path / "both") as lake:
        assert all(lake.status()["tables"]["trades"][place] for place in ("lake", "journal"))
    assert candles_of(tmp_path / "both") == expected


@pytest.mark.parametrize("stops", [(5_000, 20_000), (11_111,), (1, 2, 30_000)])
def test_a_process_that_ends_and_begins_again_stores_the_same(recordings, tmp_path, stops):
    """The trades once, and candles that differ in nothing but their revisions and when they were known."""
    path = recordings / "binance/spot_20240808_ethusdt.jsonl"
    keep(path, "binance", tmp_path / "whole")
    for stop in (*stops, None):
        keep(path, "binance", tmp_path / "parts", stop=stop)
    assert stored(tmp_path / "parts") == stored(tmp_path / "whole")
    assert candles_of(tmp_path / "parts") == candles_of(tmp_path / "whole")
    with Lake(tmp_path / "parts") as lake, Lake(tmp_path / "whole") as whole:
        for interval in ("1s", "1m", "5m"):
            ends = [it.end for it in lake.candles(Selection(), interval)]
            assert ends == [it.end for it in whole.candles(Selection(), interval)]
        assert lake.coverage().keys() == whole.coverage().keys() == {(*ETH, Channel.TRADES)}
        for key, coverage in lake.coverage().items():
            assert list(coverage) == list(whole.coverage()[key])


PARTS = ((0, 400), (300, 700), (700, 1_000))  # of the inputs, in thousandths


def part(recording, venue, folder, first, last):
    """A recording of others with some of the lines of another, and their receive times."""
    lines = recording.read_text().splitlines(keepends=True)
    times = recording.with_name(recording.name.replace(".jsonl", ".recv_ns.txt")).read_text().split()
    begin, end = len(lines) * first // 1_000, len(lines) * last // 1_000
    folder.mkdir(exist_ok=True)
    (folder / f"{first}.jsonl").write_text("".join(lines[begin:end]))
    (folder / f"{first}.recv_ns.txt").write_text("\n".join(times[begin:end]) + "\n")
    return folder / f"{first}.jsonl"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_parts_of_a_recording_in_any_order_make_the_same_tape_and_candles(recordings, tmp_path, order):
    """What comes later than what is newer makes revisions; none is known before its end or its trades."""
    whole = recordings / "binance/spot_20240808_ethusdt.jsonl"
    paths = [part(whole, "binance", tmp_path / "parts", *it) for it in PARTS]
    keep(whole, "binance", tmp_path / "whole")
    for number in order:
        keep(paths[number], "binance", tmp_path / "store")
    assert stored(tmp_path / "store") == stored(tmp_path / "whole")
    assert candles_of(tmp_path / "store") == candles_of(tmp_path / "whole")
    with Lake(tmp_path / "store") as lake, Lake(tmp_path / "whole") as all_at_once:
        assert {it.state for it in lake.gaps()} <= {"healed"}
        trades = lake.trades()
        for it in lake.candles(latest=False):
            assert it.available_at >= it.end
            inside = (one for one in trades if it.start <= one.exchange_time < it.end)
            assert sum(one.available_at <= it.available_at for one in inside) >= it.trades
        for interval in ("1s", "1m", "5m"):
            told = {it.end: (it.complete, it.trades, it.close) for it in lake.candles(interval=interval)}
            expected = {
                it.end: (it.complete, it.trades, it.close) for it in all_at_once.candles(interval=interval)}
            assert told.items() >= expected.items()
        assert lake.verify() == []


def test_a_full_disk_loses_nothing_that_came_before_it(recordings, tmp_path):
    """The batch that failed stays the first in line, and nothing that came after it is committed without it."""
    recording = recordings / "binance/spot_20240808_ethusdt.jsonl"
    player = Replay(open_recording(recording), "binance")
    with Keeper(tmp_path) as keeper:
        def give(until):
            for step in player:
                for _, it in step.outcomes:
                    if isinstance(it, Event):
                        keeper.handle(it)
                if step.line >= until:
                    return
        give(9_000)
        keeper.flush()
        file = keeper.journal._file
        (pages,) = file.execute("PRAGMA page_count").fetchone()
        file.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(RetryBatch, match="full"):
            give(30_000)
        file.execute("PRAGMA max_page_count=1000000")
    keep(recording, "binance", tmp_path)
    keep(recording, "binance", tmp_path / "whole")
    assert stored(tmp_path) == stored(tmp_path / "whole")
    with Lake(tmp_path) as lake:
        assert lake.verify() == []


KEEP = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_store import keep
keep(Path(sys.argv[2]), "binance", Path(sys.argv[3]))
print("done", flush=True)
"""
COMPACT = """
import sys, time
from pathlib import Path
from onetape.storage.compaction import compact
while True:
    compact(Path(sys.argv[1]), now=time.time_ns(), keep_journal_ns=-1, merge_at=3)
"""


@pytest.mark.parametrize("kills", [100 if os.environ.get("ONETAPE_LONG") else 6])
def test_kill_9_while_a_recording_is_kept_and_compacted(recordings, tmp_path, kills):
    """Both are killed at random moments; in the end all is there, once, as if nothing had happened."""
    recording, store = recordings / "binance/spot_20240808_ethusdt.jsonl", tmp_path / "store"
    random, before = Random(7), 0
    (store / "journal").mkdir(parents=True)
    for _ in range(kills):
        writer = subprocess.Popen([sys.executable, "-c", KEEP, Path(__file__).parent, recording, store])
        other = subprocess.Popen([sys.executable, "-c", COMPACT, store])
        for process in random.sample([writer, other], 2):
            with suppress(subprocess.TimeoutExpired):
                process.wait(random.uniform(0.2, 2.5))
            process.kill()
            process.wait()
        with Lake(store) as lake:
            assert [it for it in lake.verify() if "next compaction" not in it and "next one" not in it] == []
            assert lake.count("trades") >= before
            before = lake.count("trades")
    keep(recording, "binance", store)
    compact(store, now=0)
    assert stored(store) == Counter(set(raw(recording, "binance")))
    assert candles_of(store) == minutes(recording)
    with Lake(store) as lake:
        assert lake.verify() == []
