"""The real recordings end where independent code says that they end, digit for digit."""
import json
from collections import Counter
from hashlib import sha256

import pytest

from onetape.cli.summary import Summary
from onetape.feed.recording import open_recording
from onetape.feed.replay import Replay
from onetape.model import BookDelta, BookSnapshot, Event, Quote, Trade, TrustState, encode
from onetape.model.numbers import plain

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
    "kraken/v2_20260824_btcusd_d10_short.jsonl": "kraken",
    "coinbase/exchange_20210417_A5prod.jsonl": "coinbase-exchange",
    "coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl": "coinbase",
}


# AT_SNAPSHOT: one delta of that recording ends exactly at the REST snapshot (u == lastUpdateId). Binance's own text
# applies it once more; here it is dropped, because all of it is in the snapshot. The book is the same.


def play(path, venue, depth=0):
    """The finished replay, its summary, and all its events."""
    player = Replay(open_recording(path), venue, depth)
    summary, events = Summary(), []
    for step in player:
        summary.add(step)
        events += [it for _, it in step.outcomes if isinstance(it, Event)]
    return player, summary, events


def symbol_of(key):
    """``books-l2-tbt|DHT-USDT`` and ``orderbook.200.BTCUSDT`` name the channel as well."""
    return key.rpartition("|")[2] if "|" in key else key.rpartition(".")[2] if key.startswith("orderbook") else key


@pytest.mark.parametrize("name", VENUE_OF)
def test_final_books(recordings, name):
    expected = json.loads((recordings / "final_books.json").read_text())[name]
    player, summary, _ = play(recordings / name, VENUE_OF[name])
    books = summary.to_dict(player.sessions)["books"]
    assert summary.quarantined == 0
    for key, want in expected.items():
        book = books[symbol_of(key)]
        assert book["state"] == "live"
        assert book["bids"] == want["bids"]
        assert book["asks"] == want["asks"]
        assert book["levels"] == [want["n_bids"], want["n_asks"]]
        if "last_u" in want:
            assert book["sequence"] == want["last_u"]
        if want.get("last_seqId"):
            assert book["sequence"] == want["last_seqId"]


def test_every_recording_with_a_final_book_is_played(recordings):
    assert set(VENUE_OF) == set(json.loads((recordings / "final_books.json").read_text()))


@pytest.mark.parametrize(("name", "frames", "kinds", "applied"), [
    ("binance/spot_20240808_ethusdt.jsonl", 33617, {"quote": 24077, "trade": 6106}, 3432),
    ("binance/usdm_20240808_ethusdt_first60s.jsonl", 13446, {"quote": 10196, "trade": 2097}, 1147),  # see AT_SNAPSHOT
    ("coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl", 360, {"book_snapshot": 2, "book_delta": 259}, 259),
    ("coinbase/exchange_20210417_A5prod.jsonl", 5117, {"book_snapshot": 5, "ticker": 71}, 4967),
    ("bybit/v5_20260809_spot.jsonl", 681, {"book_snapshot": 2, "book_delta": 548, "candle": 25}, 548),
    ("bybit/v5_20241201_linear_xrpusdt_ob500.jsonl", 50, {"book_snapshot": 1, "book_delta": 49}, 49),
    ("okx/v5_20260824_btcusdt_books_seq.jsonl", 8, {"book_snapshot": 1, "book_delta": 6}, 6),
    ("okx/v5_20210722_conn1.jsonl", 1616, {"book_snapshot": 10, "book_delta": 1494, "ticker": 46}, 1494),
    ("kraken/v2_20260824_btcusd_d10_short.jsonl", 8, {"book_snapshot": 1}, None),
])
def test_what_holds(recordings, name, frames, kinds, applied):
    player, summary, _ = play(recordings / name, VENUE_OF[name])
    assert summary.frames == frames
    assert {kind: summary.kinds[kind] for kind in kinds} == kinds
    if applied is not None:
        assert sum(sync.applied for session in player.sessions.values() for sync in session.books.values()) == applied
    assert summary.gaps == []


@pytest.mark.parametrize(("name", "matches"), [
    ("binance/spot_20240808_ethusdt.jsonl", 2671),
    ("binance/spot_20210814_4sym.jsonl", 200),
    ("binance/spot_20211012_4sym.jsonl", 51),
    ("binance/usdm_20240808_ethusdt_first60s.jsonl", 995),  # see AT_SNAPSHOT
    ("binance/usdm_20210722_4sym.jsonl", 237),
])
def test_the_top_of_the_book_is_the_venues_own_quote(recordings, name, matches):
    """Of every delta that a quote falls into, the last such quote is the top of the live book after it."""
    player = Replay(open_recording(recordings / name), VENUE_OF[name])
    quotes: dict[str, list[Quote]] = {}
    tops = []
    for step in player:
        for _, it in step.outcomes:
            if isinstance(it, Quote):
                quotes.setdefault(it.symbol, []).append(it)
            elif isinstance(it, BookDelta):
                (session,) = player.sessions.values()
                sync = session.books[it.symbol]
                assert sync.state is TrustState.LIVE
                tops.append((it, sync.book.bids(1)[0], sync.book.asks(1)[0]))
    compared = 0
    for delta, bid, ask in tops:
        within = [it for it in quotes.get(delta.symbol, []) if delta.after < it.sequence <= delta.sequence]
        if within:
            compared += 1
            assert (within[-1].bid, within[-1].ask) == (bid, ask)
    assert compared == matches


@pytest.mark.parametrize("name", [
    "binance/spot_20240808_ethusdt.jsonl", "binance/usdm_20240808_ethusdt_first60s.jsonl",
    "coinbase/exchange_20210417_A5prod.jsonl", "coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl",
])
def test_trade_ids_without_a_gap(recordings, name):
    """Each id once after taking out repetitions, and none missing between the first and the last."""
    player, summary, events = play(recordings / name, VENUE_OF[name])
    ids: dict[str, set[int]] = {}
    for it in events:
        if isinstance(it, Trade):
            ids.setdefault(it.symbol, set()).add(int(it.id))
    assert {symbol: len(seen) for symbol, seen in ids.items()} == summary.to_dict(player.sessions)["trades"]
    for symbol, seen in ids.items():
        assert len(seen) == max(seen) - min(seen) + 1, symbol


def test_the_gap_in_kraken_is_caught_at_the_first_bad_frame(recordings):
    """41 checksums hold, the next does not; from there the book is stale and shows nothing more as live."""
    player, summary, events = play(recordings / "kraken/v2_20260720_btcusd_d10_sample70.jsonl", "kraken")
    books = [it for it in events if isinstance(it, BookSnapshot | BookDelta)]
    assert len(books) == 41
    (gap,) = summary.gaps
    assert gap["symbol"] == "BTC/USD"
    assert "checksum" in gap["reason"]
    frames = (recordings / "kraken/v2_20260720_btcusd_d10_sample70.jsonl").read_bytes().splitlines()
    of_book = [number for number, frame in enumerate(frames, start=1) if frame.startswith(b'{"channel":"book"')]
    assert gap["at_frame"] == of_book[41]
    (session,) = player.sessions.values()
    assert session.books["BTC/USD"].state is TrustState.STALE


@pytest.mark.parametrize("name", VENUE_OF)
def test_replaying_twice_gives_the_same_bytes(recordings, name):
    hashes = set()
    for _ in range(2):
        digest = sha256()
        for event in play(recordings / name, VENUE_OF[name])[2]:
            digest.update(encode(event))
        hashes.add(digest.hexdigest())
    assert len(hashes) == 1


def test_old_okx_checksums_all_hold(recordings):
    player, _, events = play(recordings / "okx/v5_20210722_conn1.jsonl", "okx")
    summed = Counter(type(it) for it in events if isinstance(it, BookSnapshot | BookDelta) and it.checksum is not None)
    assert summed.total() == 1504
    (session,) = player.sessions.values()
    assert {sync.verification for sync in session.books.values()} == {"checksum(25)"}


def test_depth_limits_what_is_held_without_changing_what_is_seen(recordings):
    """A full-depth venue is cut to max(4 x depth, 1,000) known levels; the best are the same."""
    whole, _, _ = play(recordings / "coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl", "coinbase")
    cut, _, _ = play(recordings / "coinbase/advtrade_20260809_btcusd_ethusd_first360.jsonl", "coinbase", depth=50)
    for symbol in ("BTC-USD", "ETH-USD"):
        (all_of_it,), (some,) = ([it.books[symbol].book for it in player.sessions.values()] for player in (whole, cut))
        assert max(some.held) <= 1_000
        assert some.bids(50) == all_of_it.bids(50)
        assert some.asks(50) == all_of_it.asks(50)


def test_digits_are_those_of_the_wire(recordings):
    _, _, events = play(recordings / "binance/spot_20240808_ethusdt.jsonl", "binance")
    wire = []
    for line in (recordings / "binance/spot_20240808_ethusdt.jsonl").read_text().splitlines():
        data = json.loads(line)["data"]
        if data.get("e") == "trade":
            wire.append((str(data["t"]), data["p"], data["q"], "sell" if data["m"] else "buy"))
    assert [(it.id, plain(it.price), plain(it.size), it.side) for it in events if isinstance(it, Trade)] == wire
