"""The traps of the protocol pages that only a whole session can fall into, named after them."""
import json
from zlib import crc32

import pytest

from onetape.clock import SECOND
from onetape.feed.session import Session
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Channel,
    FeedError,
    FeedStatus,
    Fetch,
    Reconnect,
    Send,
    Subscription,
    TrustState,
)
from onetape.venues import create
from onetape.venues.base import Timings

QUIET = Timings(silence_ns=0, heartbeat_ns=0, ack_ns=10**15, first_frame_ns=10**15)


def session(venue, symbol, depth=0, timings=QUIET):
    it = Session(create(venue), (Subscription(symbol, Channel.BOOK, depth),), 0, timings=timings)
    it.open(0)
    return it


def text(value):
    return json.dumps(value, separators=(",", ":")).encode()


def until(it, end):
    """What the timers bring until ``end``, as (time, outcome)."""
    seen = []
    while (due := it.next_wake()) is not None and due <= end:
        seen += [(due, outcome) for outcome in it.wake(due)]
    return seen


def next_fetch(it):
    """The next request that the timers bring, with its time."""
    while True:
        due = it.next_wake()
        for outcome in it.wake(due):
            if isinstance(outcome, Fetch):
                return due, outcome


def states(outcomes):
    return [it.state for it in outcomes if isinstance(it, FeedStatus)]


def sends(outcomes):
    return [it.frame for it in outcomes if isinstance(it, Send)]


# --- Binance ----------------------------------------------------------------------------------------------------------


def depth(first, last, bids=()):
    return text({"stream": "btcusdt@depth@100ms", "data": {
        "e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": []}})


def body(last):
    return text({"lastUpdateId": last, "bids": [["1", "1"]], "asks": [["9", "1"]]})


def test_binance_trap_05_a_snapshot_from_before_the_stream_is_never_published():
    """And the buffer is kept over several refetches, or a cached snapshot would mean resync without end."""
    it = session("binance", "BTCUSDT")
    (fetch,) = it.receive(depth(101, 105), 0)
    now = 0
    for cached in (60, 80):  # two answers of a cache that lags
        it.receive_rest(fetch.id, 200, body(cached), now)
        assert it.books["BTCUSDT"].state is TrustState.SYNCING
        now, fetch = next_fetch(it)
    outcomes = it.receive_rest(fetch.id, 200, body(103), now)
    assert [type(one) for one in outcomes if not isinstance(one, FeedStatus)] == [BookSnapshot, BookDelta]
    assert it.books["BTCUSDT"].sequence == 105


def test_binance_trap_06_levels_beyond_the_snapshot_are_never_shown():
    it = session("binance", "BTCUSDT", depth=100)
    (fetch,) = it.receive(depth(1, 1), 0)
    bids = [[f"{1000 - n}", "1"] for n in range(fetch.request.depth)]
    it.receive_rest(fetch.id, 200, text({"lastUpdateId": 1, "bids": bids, "asks": []}), 0)
    it.receive(depth(2, 2, [["0.5", "7"]]), 1)
    assert it.books["BTCUSDT"].book.bids()[-1][0] == 1


# --- OKX --------------------------------------------------------------------------------------------------------------


def okx(action, before, sequence, bids=()):
    return text({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [{
        "asks": [["9", "1", "0", "1"]], "bids": list(bids), "ts": "1791369350776", "checksum": 0,
        "prevSeqId": before, "seqId": sequence}]})


def okx_ack(event):
    return text({"id": "1", "event": event, "arg": {"channel": "books", "instId": "BTC-USDT"}, "connId": "a"})


def okx_live():
    it = session("okx", "BTC-USDT", 400)
    it.receive(okx_ack("subscribe"), 0)
    assert states(it.receive(okx("snapshot", -1, 10), 0)) == [TrustState.LIVE]
    return it


def test_okx_trap_05_heartbeat_and_reset_are_no_gaps():
    it = okx_live()
    for before, sequence in ((10, 15), (15, 15), (15, 3), (3, 5)):
        assert [type(one) for one in it.receive(okx("update", before, sequence), 1)] == [BookDelta]


def test_okx_trap_06_after_a_lost_reset_nothing_old_is_served_as_live():
    it = okx_live()
    it.receive(okx("update", 10, 15), 1)
    assert states(it.receive(okx("update", 3, 5), 20 * SECOND)) == [TrustState.STALE]
    for number in range(5, 40):
        assert it.receive(okx("update", number, number + 1), 20 * SECOND + number) == []
    assert it.books["BTC-USDT"].state is TrustState.STALE


def test_okx_trap_07_a_gap_resubscribes_once_and_not_with_every_update():
    it = okx_live()
    now, asked = 20 * SECOND, []
    for number in range(600):  # a minute of updates that do not link, and the venue answers nothing
        now += SECOND // 10
        asked += [(now, one) for one in sends(it.receive(okx("update", 1000 + 2 * number, 1001 + 2 * number), now))]
        asked += [(at, one.frame) for at, one in until(it, now) if isinstance(one, Send)]
    subscribes = [at for at, frame in asked if b'"op":"subscribe"' in frame]
    assert 1 <= len(subscribes) <= 4
    assert len(asked) <= 8


def test_okx_announced_change_without_a_snapshot_in_band_rest_brings_it():
    it = session("okx", "BTC-USDT", 400)
    it.receive(okx_ack("subscribe"), 0)
    it.receive(okx("update", 10, 15), SECOND)
    _, fetch = next_fetch(it)
    answer = text({"code": "0", "msg": "", "data": [{
        "asks": [["9", "1", "0", "1"]], "bids": [], "ts": "1791369350776", "seqId": 12}]})
    assert states(it.receive_rest(fetch.id, 200, answer, 9 * SECOND)) == [TrustState.LIVE]
    assert it.books["BTC-USDT"].sequence == 15


# --- Bybit ------------------------------------------------------------------------------------------------------------


def bybit(kind, update, bids=(("1", "1"),)):
    return text({"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": 1, "data": {
        "s": "BTCUSDT", "b": bids, "a": [["9", "1"]], "u": update, "seq": update}, "cts": 1})


def test_bybit_trap_07_a_snapshot_in_mid_stream_replaces_and_is_no_error():
    it = session("bybit", "BTCUSDT", 50)
    it.receive(bybit("snapshot", 100), 0)
    outcomes = it.receive(bybit("snapshot", 1, [["2", "5"]]), 1)
    assert [type(one) for one in outcomes] == [BookSnapshot]
    assert [price for price, _ in it.books["BTCUSDT"].book.bids()] == [2]
    assert [type(one) for one in it.receive(bybit("delta", 2), 2)] == [BookDelta]


def test_bybit_a_delta_numbered_1_drops_the_book_and_subscribes_again():
    it = session("bybit", "BTCUSDT", 50)
    it.receive(bybit("snapshot", 100), 0)
    outcomes = it.receive(bybit("delta", 1), 20 * SECOND)
    assert states(outcomes) == [TrustState.STALE]
    (left,) = sends(outcomes)
    assert b'"op":"unsubscribe"' in left
    number = json.loads(left)["req_id"]
    ack = {"success": True, "ret_msg": "", "req_id": number, "op": "unsubscribe"}
    (back,) = sends(it.receive(text(ack), 20 * SECOND))
    assert b'"op":"subscribe"' in back
    assert states(it.receive(bybit("snapshot", 7), 21 * SECOND)) == [TrustState.LIVE]


# --- Kraken -----------------------------------------------------------------------------------------------------------


def kraken(kind, bid, checksum):
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{{"price":{bid},"qty":0.10}}],'
        f'"asks":[],"checksum":{checksum}}}]}}'
    ).encode()


def test_kraken_trap_07_one_resubscription_per_desync_and_the_ack_is_waited_for():
    it = session("kraken", "BTC/USD", 10)
    assert states(it.receive(kraken("snapshot", "5.0", crc32(b"5010")), 0)) == [TrustState.LIVE]
    sent = []
    for number in range(200):  # hundreds of bad updates a second
        sent += sends(it.receive(kraken("update", "5.0", 1), 20 * SECOND + number))
    assert len(sent) == 1
    assert b'"method":"unsubscribe"' in sent[0]
    number = json.loads(sent[0])["req_id"]
    ack = {"method": "unsubscribe", "success": True, "req_id": number, "result": {
        "channel": "book", "symbol": "BTC/USD", "depth": 10}}
    (back,) = sends(it.receive(text(ack), 20 * SECOND + 300))
    assert b'"method":"subscribe"' in back
    assert states(it.receive(kraken("snapshot", "6.0", crc32(b"6010")), 21 * SECOND)) == [TrustState.LIVE]


def test_kraken_trap_05_a_refused_symbol_goes_and_the_others_stay():
    wanted = (Subscription("XBT/USD", Channel.BOOK, 10), Subscription("BTC/USD", Channel.BOOK, 10))
    it = Session(create("kraken"), wanted, 0, timings=QUIET)
    (frame,) = sends(it.open(0))
    outcomes = it.receive(text({
        "error": "Currency pair not supported XBT/USD", "method": "subscribe", "success": False, "symbol": "XBT/USD",
        "req_id": json.loads(frame)["req_id"]}), 1)
    assert states(outcomes) == [TrustState.DOWN]
    assert [one.permanent for one in outcomes if isinstance(one, FeedError)] == [True]
    assert states(it.receive(kraken("snapshot", "5.0", crc32(b"5010")), 2)) == [TrustState.LIVE]


# --- Coinbase ---------------------------------------------------------------------------------------------------------


def at(number, kind, updates, channel="l2_data"):
    return text({"channel": channel, "client_id": "", "timestamp": "2026-10-05T12:00:00Z", "sequence_num": number,
                 "events": [{"type": kind, "product_id": "BTC-USD", "updates": [
                     {"side": side, "event_time": "x", "price_level": price, "new_quantity": size}
                     for side, price, size in updates]}]})


def test_coinbase_trap_05_deletes_of_unknown_levels_never_resynchronise():
    it = session("coinbase", "BTC-USD")
    it.receive(at(0, "snapshot", [("bid", "1", "1"), ("offer", "9", "1")]), 0)
    for number in range(1, 211):
        assert [type(one) for one in it.receive(at(number, "update", [("bid", "0.5", "0")]), number)] == [BookDelta]
    assert it.books["BTC-USD"].book.orphans == 210


def test_coinbase_a_gap_of_the_socket_makes_every_book_stale_and_reconnects():
    it = session("coinbase", "BTC-USD")
    it.receive(at(0, "snapshot", [("bid", "1", "1"), ("offer", "9", "1")]), 0)
    outcomes = it.receive(at(2, "update", [("bid", "1", "2")]), 20 * SECOND)
    assert states(outcomes) == [TrustState.STALE]
    assert any(isinstance(one, Reconnect) and not one.planned for one in outcomes)


def test_coinbase_an_unreadable_trade_costs_neither_the_books_nor_the_connection():
    it = session("coinbase", "BTC-USD")
    it.receive(at(0, "snapshot", [("bid", "1", "1"), ("offer", "9", "1")]), 0)
    (error,) = it.receive(text({
        "channel": "market_trades", "timestamp": "2026-10-05T12:00:00Z", "sequence_num": 1, "events": [{
            "type": "update", "trades": [{"trade_id": "1", "product_id": "BTC-USD", "price": "-1", "size": "1",
                                          "side": "BUY", "time": "2026-10-05T12:00:00Z"}]}]}), 1)
    assert error.quarantined
    assert [type(one) for one in it.receive(at(2, "update", [("bid", "1", "2")]), 2)] == [BookDelta]


def test_level2_batch_time_running_backwards_resynchronises():
    it = session("coinbase-exchange", "BTC-USD")
    it.receive(b'{"type":"snapshot","product_id":"BTC-USD","bids":[["1","1"]],"asks":[["2","1"]]}', 0)

    def update(second):
        return it.receive((
            '{"type":"l2update","product_id":"BTC-USD","changes":[["buy","1","5"]],'
            f'"time":"2026-01-01T00:00:{second}Z"}}'
        ).encode(), 20 * SECOND)

    assert [type(one) for one in update("05")] == [BookDelta]
    assert states(update("04")) == [TrustState.STALE]


@pytest.mark.parametrize(("venue", "symbol", "ping"), [
    ("okx", "BTC-USDT", b"ping"), ("bybit", "BTCUSDT", b'"op":"ping"'), ("kraken", "BTC/USD", b'"method":"ping"'),
])
def test_a_ping_comes_in_time_and_a_missing_pong_ends_the_connection(venue, symbol, ping):
    it = Session(create(venue), (Subscription(symbol, Channel.TRADES),), 0, timings=create(venue).spec.timings)
    it.open(0)
    it.receive(b"{}", 19 * SECOND)  # data alone does not excuse a missing pong
    seen = until(it, 21 * SECOND)
    assert [at for at, one in seen if isinstance(one, Send) and ping in one.frame] == [20 * SECOND]
    for second in range(21, 31):
        it.receive(b"{}", second * SECOND)
        seen += until(it, second * SECOND)
    assert any("no pong" in one.reason for _, one in seen if isinstance(one, Reconnect))
