"""One connection's life on Binance spot, without a connection."""
import json
from decimal import Decimal as D
from itertools import pairwise

import pytest

from onetape.clock import SECOND
from onetape.feed.session import Session
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Change,
    Channel,
    ConnectionGap,
    FeedError,
    FeedStatus,
    Fetch,
    Instrument,
    InstrumentChanged,
    InstrumentId,
    Kind,
    Reconnect,
    Send,
    Subscription,
    Trade,
    TrustState,
    VenueStatus,
)
from onetape.venues import VENUES
from onetape.venues.base import Reaction, Refused, Timings
from onetape.venues.binance import Binance

BOOK, TRADES = Subscription("BTCUSDT", Channel.BOOK), Subscription("BTCUSDT", Channel.TRADES)
QUIET = Timings(silence_ns=0, heartbeat_ns=0)
LATER = 20 * SECOND  # beyond the least time between two requests for one book


def depth(first, last, bids=(), asks=(), symbol="BTCUSDT"):
    return json.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": {
        "e": "depthUpdate", "E": 1, "s": symbol, "U": first, "u": last, "b": bids, "a": asks,
    }}, separators=(",", ":")).encode()


def trade(number, price="1.0", size="2.0", symbol="BTCUSDT"):
    return json.dumps({"stream": f"{symbol.lower()}@trade", "data": {
        "e": "trade", "E": 1, "s": symbol, "t": number, "p": price, "q": size, "T": 5, "m": True,
    }}, separators=(",", ":")).encode()


def body(last, bids=(("1", "1"),), asks=(("9", "1"),)):
    return json.dumps({"lastUpdateId": last, "bids": bids, "asks": asks}).encode()


def kinds(outcomes):
    return [it.state if isinstance(it, FeedStatus) else type(it) for it in outcomes]


def opened(wanted=(BOOK, TRADES), timings=QUIET, **rest):
    session = Session(Binance(), wanted, 0, timings=timings, **rest)
    session.open(0)
    return session


def live(now=1, **rest):
    """A session whose book is live at update 12, and whose tape has begun."""
    session = opened(**rest)
    session.receive(trade(1), now)
    (fetch,) = session.receive(depth(11, 12), now)
    session.receive_rest(fetch.id, 200, body(11), now)
    assert session.books["BTCUSDT"].state is TrustState.LIVE
    return session


def test_opening_subscribes_and_says_that_it_is_syncing():
    session = Session(Binance(), (BOOK, TRADES), 0)
    assert kinds(session.open(0)) == [TrustState.SYNCING, Send]


def test_from_the_first_delta_over_the_snapshot_to_live():
    session = opened()
    (fetch,) = session.receive(depth(11, 12), 1)
    assert isinstance(fetch, Fetch)
    assert fetch.request.path == "/api/v3/depth?symbol=BTCUSDT&limit=5000"
    assert session.receive(depth(13, 13), 2) == []
    outcomes = session.receive_rest(fetch.id, 200, body(11), 3)
    assert kinds(outcomes) == [BookSnapshot, TrustState.LIVE, BookDelta, BookDelta]
    assert session.books["BTCUSDT"].sequence == 13


def test_the_snapshot_asked_for_is_as_deep_as_what_is_kept():
    session = opened(wanted=(Subscription("BTCUSDT", Channel.BOOK, 200),))
    (fetch,) = session.receive(depth(11, 12), 1)
    assert fetch.request.path.endswith("limit=1000")


def test_a_gap_is_told_before_anything_else_and_asks_once():
    session = live()
    assert kinds(session.receive(depth(20, 21), LATER)) == [TrustState.STALE, Fetch]
    assert session.receive(depth(22, 23), LATER + 1) == []


def test_a_second_gap_right_after_the_first_snapshot_waits_its_turn():
    session = live()
    assert kinds(session.receive(depth(20, 21), 2)) == [TrustState.STALE]
    fetched = [at for at, it in run_until(session, 10 * SECOND) if isinstance(it, Fetch)]
    assert fetched[0] == 1 + session.venue.spec.book.resync_every_ns


def test_an_old_snapshot_is_asked_for_again_later_not_at_once():
    session = opened()
    (fetch,) = session.receive(depth(50, 51), 1)
    assert kinds(session.receive_rest(fetch.id, 200, body(20), 2)) == [FeedError]
    ((due, again),) = [it for it in run_until(session, 4 * SECOND) if isinstance(it[1], Fetch)]
    assert due >= SECOND
    assert kinds(session.receive_rest(again.id, 200, body(50), due)) == [BookSnapshot, TrustState.LIVE, BookDelta]


def test_requests_for_a_snapshot_back_off_and_never_storm():
    session = opened(wanted=(BOOK,), timings=Timings(silence_ns=0, heartbeat_ns=0, ack_ns=10**15))
    (fetch,) = session.receive(depth(50, 51), 0)
    asked, now = [0], 0
    session.rest_failed(fetch.id, "no route", 0)
    while len(asked) < 9:
        now = session.next_wake()
        for it in session.wake(now):
            if isinstance(it, Fetch):
                asked.append(now)
                session.rest_failed(it.id, "no route", now)
    waits = [later - earlier for earlier, later in pairwise(asked)]
    assert waits == sorted(waits)
    assert waits[-1] == 30 * SECOND


def test_the_venues_own_wait_is_kept():
    session = opened(wanted=(BOOK,))
    (fetch,) = session.receive(depth(50, 51), 0)
    session.receive_rest(fetch.id, 429, b"{}", 0, {"retry-after": "37"})
    asked = [at for at, it in run_until(session, 40 * SECOND) if isinstance(it, Fetch)]
    assert asked == [37 * SECOND]


def test_a_snapshot_that_the_venue_will_never_give_drops_the_book_alone():
    session = opened()
    (fetch,) = session.receive(depth(50, 51), 0)
    outcomes = session.receive_rest(fetch.id, 400, b'{"code":-1121,"msg":"Invalid symbol."}', 1)
    assert kinds(outcomes) == [TrustState.DOWN, FeedError, Send]
    assert outcomes[1].permanent
    assert b'"UNSUBSCRIBE"' in outcomes[2].frame
    assert kinds(session.receive(trade(5), 2)) == [TrustState.LIVE, Trade]
    assert session.receive(depth(52, 53), 3) == []
    assert session.counters["not asked for"] == 1


def test_an_unreadable_snapshot_is_quarantined_and_asked_for_again():
    session = opened()
    (fetch,) = session.receive(depth(50, 51), 0)
    outcomes = session.receive_rest(fetch.id, 200, b'{"lastUpdateId":51,"bids":[["1","NaN"]],"asks":[]}', 1)
    assert outcomes[0].quarantined
    assert session.books["BTCUSDT"].state is TrustState.SYNCING


def test_an_answer_that_nobody_waits_for_changes_nothing():
    session = live()
    assert session.receive_rest(99, 200, body(5), 2) == []
    assert session.counters["answers nobody waits for"] == 1


HOSTILE = [
    b"", b"\x00\xff\xfe", b"not json", b"{", b"[]", b"null", b"[" * 100_000, b'{"stream":5,"data":{}}', b"\xff" * 50,
    b'{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":13,"u":13,"b":[["1"',
]


@pytest.mark.parametrize("frame", HOSTILE)
def test_hostile_frames_are_quarantined_and_the_next_one_is_handled(frame):
    session = live()
    outcomes = session.receive(frame, 2)
    error = outcomes[-1]
    assert isinstance(error, FeedError), outcomes
    assert error.quarantined
    assert error.reason
    assert kinds(outcomes)[0] is TrustState.STALE
    assert session.counters["quarantined"] == 1
    assert kinds(session.receive(trade(6), 3)) == [Trade]


@pytest.mark.parametrize("levels", [
    [["1", "-1"]], [["NaN", "1"]], [["1", "Infinity"]], [["1"]], ["1"], [[1, 2]], [["1" * 40, "1"]], [["1", "1e99"]],
    [["", "1"]], [["1_0", "1"]], [[" 1", "1"]], [["0x1", "1"]], "x", {"a": 1}, None, [["1", "1"], ["2", None]],
])
def test_bad_levels_never_half_change_a_book(levels):
    session = live()
    before = session.books["BTCUSDT"].book.bids(), session.books["BTCUSDT"].book.asks()
    outcomes = session.receive(depth(13, 13, bids=[["1", "5"]], asks=levels), LATER)
    assert kinds(outcomes) == [TrustState.STALE, Fetch, FeedError]
    assert outcomes[-1].quarantined
    assert (session.books["BTCUSDT"].book.bids(), session.books["BTCUSDT"].book.asks()) == before


@pytest.mark.parametrize(("price", "size"), [
    ("-1", "1"), ("NaN", "1"), ("1", "Infinity"), ("1" * 40, "1"), ("1", "0." + "1" * 40),
    ("", "1"), ("1", "one"), ("١", "1"),
])
def test_a_bad_trade_is_quarantined_and_leaves_the_book_alone(price, size):
    session = live()
    (error,) = session.receive(trade(7, price, size), 2)
    assert error.quarantined
    assert (error.symbol, error.channel) == ("BTCUSDT", "trades")
    assert session.books["BTCUSDT"].state is TrustState.LIVE


@pytest.mark.parametrize(("price", "size", "reason"), [
    ("1", "0", "a size that is not above zero"), ("0.000", "1", "a price that is not above zero"),
])
def test_a_trade_of_nothing_is_quarantined_and_nobody_looks_for_it_again(price, size, reason):
    session = live()
    error, skipped = session.receive(trade(7, price, size), 2)
    assert (error.quarantined, error.reason, error.symbol, error.channel) == (True, reason, "BTCUSDT", "trades")
    assert f'"q":"{size}"' in error.text
    assert (skipped.first, skipped.last, skipped.after, skipped.reason) == ("7", "7", 6, f"quarantined: {reason}")
    assert session.books["BTCUSDT"].state is TrustState.LIVE
    assert kinds(session.receive(trade(7, "0", "0", symbol="NOPEUSDT"), 3)) == [FeedError]


def test_an_impossible_trade_costs_none_of_its_frames_others():
    session = Session(VENUES["bybit"]("spot"), None, 0, timings=QUIET)
    rows = [{"T": 1, "s": "BTCUSDT", "S": "Buy", "v": size, "p": "5", "i": f"id-{size}", "BT": False, "seq": 1}
            for size in ("1", "0", "2")]
    frame = json.dumps({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": rows}).encode()
    out = session.receive(frame.replace(b'": ', b'":'), 1)
    assert [it.id for it in out if isinstance(it, Trade)] == ["id-1", "id-2"]
    assert [it.reason for it in out if isinstance(it, FeedError)] == ["a size that is not above zero"]


def test_a_bad_depth_of_one_symbol_leaves_the_other_book_alone():
    wanted = (BOOK, Subscription("ETHUSDT", Channel.BOOK))
    session = opened(wanted=wanted)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        (fetch,) = session.receive(depth(11, 12, symbol=symbol), 1)
        session.receive_rest(fetch.id, 200, body(11), 1)
    session.receive(depth(13, 13, bids=[["x", "1"]], symbol="ETHUSDT"), 2)
    assert {symbol: it.state for symbol, it in session.books.items()} == {
        "BTCUSDT": TrustState.LIVE, "ETHUSDT": TrustState.STALE,
    }
    session.receive(b"\xffgarbage", 3)  # and what may have been anything makes every book stale
    assert session.books["BTCUSDT"].state is TrustState.STALE


def test_an_unknown_symbol_is_quarantined():
    session = live()
    (error,) = session.receive(trade(1, symbol="NOPEUSDT"), 2)
    assert error.quarantined
    assert "NOPEUSDT" in error.reason
    (error,) = session.receive(depth(1, 2, symbol="NOPEUSDT"), 2)
    assert error.quarantined
    assert set(session.books) == {"BTCUSDT"}


def test_the_text_of_a_quarantined_frame_is_kept_but_bounded():
    session = live()
    error = session.receive(b'{"x":"' + b"y" * 200_000, 2)[-1]
    assert error.text.startswith('{"x":"y')
    assert len(error.text) == 64 * 1024


def test_unknown_fields_and_unknown_kinds_are_no_errors():
    session = live()
    frame = trade(8).replace(b'"e":', b'"brand":{"new":[1]},"e":')
    assert kinds(session.receive(frame, 2)) == [Trade]
    assert session.receive(b'{"stream":"btcusdt@somethingNew","data":{"e":"somethingNew"}}', 3) == []
    assert session.counters["unknown"] == 1


def test_a_46_000_level_snapshot_is_accepted():
    session = opened(wanted=(Subscription("BTCUSDT", Channel.BOOK, 50),))
    (fetch,) = session.receive(depth(11, 12), 1)
    bids = [[f"{price}.5", "1"] for price in range(1, 46_001)]
    session.receive_rest(fetch.id, 200, body(11, bids=bids, asks=()), 2)
    assert session.books["BTCUSDT"].book.held == (1_000, 0)
    assert session.books["BTCUSDT"].state is TrustState.LIVE


def test_the_end_of_the_connection_takes_every_book_and_tape_down():
    session = live()
    down = session.close("1006", 9)
    assert [(it.channel, it.state) for it in down] == [
        (Channel.TRADES, TrustState.DOWN), (Channel.BOOK, TrustState.DOWN),
    ]


def test_a_tape_is_live_with_its_first_trade():
    session = opened()
    status, first = session.receive(trade(1), 1)
    assert (status.channel, status.state, first.id) == (Channel.TRADES, TrustState.LIVE, "1")
    assert kinds(session.receive(trade(2), 2)) == [Trade]


def test_a_shutdown_notice_asks_for_the_next_connection_first():
    session = live()
    (reconnect,) = session.receive(b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', 2)
    assert reconnect == Reconnect("serverShutdown", planned=True)


# --- silence --------------------------------------------------------------------------------------------------------


def run_until(session, end):
    """Everything that the timers bring until ``end``, as (time, outcome)."""
    seen = []
    while (due := session.next_wake()) is not None and due <= end:
        seen += [(due, it) for it in session.wake(due)]
    return seen


def test_a_silent_socket_is_given_up():
    session = live(timings=Timings(silence_ns=30 * SECOND, heartbeat_ns=0))
    reconnects = [(at, it) for at, it in run_until(session, 60 * SECOND) if isinstance(it, Reconnect)]
    assert reconnects[0][0] <= 32 * SECOND
    assert "no frame for 30 s" in reconnects[0][1].reason


def test_what_is_not_acknowledged_is_asked_for_again_and_later_each_time():
    session = opened(wanted=(TRADES,))
    sent = [at for at, it in run_until(session, 200 * SECOND) if isinstance(it, Send) and b'"SUBSCRIBE"' in it.frame]
    assert [round(at / SECOND) for at in sent] == [10, 31, 72, 152]  # each wait begins when its frame has left


def test_acknowledged_but_silent_is_noticed_where_something_always_comes():
    quotes = Subscription("BTCUSDT", Channel.QUOTES)
    session = opened(wanted=(quotes, TRADES))
    session.receive(b'{"result":null,"id":1}', 1)
    errors = [(at, it) for at, it in run_until(session, 31 * SECOND) if isinstance(it, FeedError)]
    assert [(at // SECOND, it.channel) for at, it in errors] == [(30, "quotes")]
    assert "silent" in errors[0][1].reason


def test_data_before_its_ack_counts_as_the_ack():
    session = opened(wanted=(TRADES,))
    session.receive(trade(1), 1)
    assert run_until(session, 100 * SECOND) == []


def test_one_bad_name_is_dropped_and_those_that_were_refused_with_it_go_on():
    session = opened()
    refusal = '{"code":2,"msg":"Invalid request: invalid stream","id":%d}'
    errors = session.receive((refusal % 1).encode(), 1)
    assert [it.permanent for it in errors] == [False, False]  # nobody says which of the two it was
    alone = [json.loads(it.frame) for _, it in run_until(session, 7 * SECOND) if isinstance(it, Send)]
    (number,) = [it["id"] for it in alone if it["method"] == "SUBSCRIBE" and it["params"] == ["btcusdt@trade"]]
    status, error = session.receive((refusal % number).encode(), 8 * SECOND)
    assert (status.state, status.channel) == (TrustState.DOWN, "trades")
    assert (error.permanent, error.channel) == (True, "trades")
    assert kinds(session.receive(depth(11, 12), 9 * SECOND)) == [Fetch]
    later = [it for _, it in run_until(session, 100 * SECOND) if isinstance(it, Send)]
    assert not [it for it in later if b"@trade" in it.frame]


class Scripted(Binance):
    """Says of a frame what the test has put there."""

    def __init__(self, parsed):
        super().__init__()
        self.parsed = parsed

    def parse(self, frame, received):
        return self.parsed.pop(frame) if frame in self.parsed else super().parse(frame, received)


def test_a_gap_of_the_connection_makes_every_book_stale_and_reconnects():
    gap = ConnectionGap(venue="binance", received_time=2, available_at=2, expected=5, got=9)
    session = Session(Scripted({b"gap": [gap]}), (BOOK,), 0, timings=QUIET)
    session.open(0)
    (fetch,) = session.receive(depth(11, 12), 1)
    session.receive_rest(fetch.id, 200, body(11), 1)
    assert kinds(session.receive(b"gap", LATER)) == [ConnectionGap, TrustState.STALE, Fetch, Reconnect]


@pytest.mark.parametrize(("reaction", "expected"), [
    (Reaction.RETRY, [FeedError]), (Reaction.IGNORE, []), (Reaction.RECONNECT, [Reconnect]),
    (Reaction.DROP, [TrustState.DOWN, FeedError]),
])
def test_each_reaction_of_a_refusal(reaction, expected):
    session = Session(Scripted({b"no": [Refused((TRADES,), "why", reaction)]}), (TRADES,), 0, timings=QUIET)
    session.open(0)
    assert kinds(session.receive(b"no", 1)) == expected
    again = [it for _, it in run_until(session, 6 * SECOND) if isinstance(it, Send) and b'"SUBSCRIBE"' in it.frame]
    assert len(again) == (reaction is Reaction.RETRY)


def test_a_subscription_silent_far_beyond_its_history_is_asked_for_again_while_its_siblings_speak():
    session = live(wanted=(BOOK, TRADES), timings=Timings(silence_ns=0, heartbeat_ns=0, first_frame_ns=10**18))
    now, update = SECOND, 12
    for _ in range(30):
        now, update = now + SECOND, update + 1
        session.receive(depth(update, update), now)
        session.receive(trade(update), now)
    seen = []
    for number in range(60):  # the trades go on, the book does not
        now += SECOND
        seen += run_until(session, now)
        session.receive(trade(1_000 + number), now)
    assert session.counters["book frozen"] + session.counters["subscription silent"] == 1
    assert kinds([it for _, it in seen])[:2] == [TrustState.STALE, Fetch]


def test_a_book_frame_with_a_damaged_symbol_may_have_been_of_any_book_where_arrivals_are_counted():
    """Nothing on level2_batch would ever show that it is missing."""
    session = Session(VENUES["coinbase-exchange"](), (Subscription("BTC-USD", Channel.BOOK),), 0, timings=QUIET)
    session.open(0)
    session.receive(b'{"type":"snapshot","product_id":"BTC-USD","bids":[["1","1"]],"asks":[["2","1"]]}', 1)
    assert session.books["BTC-USD"].state is TrustState.LIVE
    outcomes = session.receive(
        b'{"type":"l2update","product_id":"BTC-USX","changes":[["buy","1","5"]],"time":"2026-01-01T00:00:00Z"}', LATER)
    assert kinds(outcomes)[0] is TrustState.STALE
    assert outcomes[-1].quarantined


# --- one book's trouble is not another's ----------------------------------------------------------------------------


def bybit(kind, update, symbol="BTCUSDT"):
    return json.dumps({"topic": f"orderbook.50.{symbol}", "type": kind, "ts": 1, "data": {
        "s": symbol, "b": [["1", "1"]], "a": [["9", "1"]], "u": update, "seq": update}}, separators=(",", ":")).encode()


def books(venue, *symbols, depth=0):
    session = Session(VENUES[venue](), [Subscription(it, Channel.BOOK, depth) for it in symbols], 0, timings=QUIET)
    return session, session.open(0)


def test_a_book_that_never_gets_its_snapshot_does_not_cost_the_others_their_connection():
    session, _ = books("bybit", "BTCUSDT", "PRELAUNCHUSDT", depth=50)
    session.receive(bybit("snapshot", 1), 1)
    seen = run_until(session, 3_600 * SECOND)
    assert not [it for _, it in seen if isinstance(it, Reconnect)]
    asked = [at for at, it in seen if isinstance(it, Send) and b'"unsubscribe"' in it.frame]
    assert 100 < len(asked) < 130  # it goes on asking, every half minute
    assert session.books["BTCUSDT"].state is TrustState.LIVE


def test_where_no_book_can_be_had_the_connection_is_given_up():
    session, _ = books("bybit", "BTCUSDT", depth=50)
    assert [it for _, it in run_until(session, 120 * SECOND) if isinstance(it, Reconnect)]


def test_many_books_do_not_time_out_while_their_requests_still_wait_to_leave():
    symbols = [f"S{n}USDT" for n in range(500)]
    session, out = books("bybit", *symbols, depth=50)
    rate = session.venue.spec.limits.sends_per_second
    leaves = len(out) - len(symbols)
    last = int(leaves / rate * SECOND)
    assert not [it for _, it in run_until(session, last) if isinstance(it, Send)]
    for symbol in symbols:
        session.receive(bybit("snapshot", 1, symbol), last)
    assert {it.state for it in session.books.values()} == {TrustState.LIVE}


def test_garbage_makes_all_books_stale_and_few_requests():
    symbols = [f"S{n}-USDT" for n in range(240)]
    session, _ = books("okx", *symbols, depth=400)
    for symbol in symbols:
        session.receive(json.dumps({"arg": {"channel": "books", "instId": symbol}, "action": "snapshot", "data": [{
            "asks": [["9", "1", "0", "1"]], "bids": [], "ts": "1", "checksum": 0, "prevSeqId": -1, "seqId": 1,
        }]}, separators=(",", ":")).encode(), 1)
    outcomes = session.receive(b"\xff", LATER)
    assert kinds(outcomes).count(TrustState.STALE) == 240
    assert kinds(outcomes).count(Send) <= 2


def test_a_refused_unsubscription_is_no_ack_of_a_subscription():
    refused = Refused((TRADES,), "no such thing", Reaction.DROP, removed=True)
    session = Session(Scripted({b"no": [refused]}), (TRADES,), 0, timings=QUIET)
    session.open(0)
    assert session.receive(b"no", 1) == []
    assert [it for _, it in run_until(session, 12 * SECOND) if isinstance(it, FeedError)]


def test_a_stranger_that_comes_again_and_again_disturbs_only_once():
    session, _ = books("coinbase-exchange", "BTC-USD")
    session.receive(b'{"type":"snapshot","product_id":"BTC-USD","bids":[["1","1"]],"asks":[["2","1"]]}', 1)
    other = b'{"type":"l2update","product_id":"BTC-USDC","changes":[],"time":"2026-01-01T00:00:00Z"}'
    assert TrustState.STALE in kinds(session.receive(other, LATER))
    session.receive(b'{"type":"snapshot","product_id":"BTC-USD","bids":[["1","1"]],"asks":[["2","1"]]}', LATER)
    for number in range(5):
        assert kinds(session.receive(other, LATER + number)) == [FeedError]
    assert session.books["BTC-USD"].state is TrustState.LIVE


def test_a_frame_is_quarantined_once_whatever_it_holds():
    rows = [{"T": 1, "s": "NOPE", "S": "Buy", "v": "1", "p": "1", "i": str(n), "seq": 1} for n in range(500)]
    session, _ = books("bybit", "BTCUSDT", depth=50)
    frame = json.dumps({"topic": "publicTrade.NOPE", "type": "snapshot", "ts": 1, "data": rows}).encode()
    assert kinds(session.receive(frame, 1)) == [FeedError]
    assert kinds(session.receive(frame, 2)) == [FeedError]


def test_on_maintenance_no_book_is_trusted_any_more():
    session = Session(Scripted({b"off": [VenueStatus(
        venue="kraken", symbol="", exchange_time=1, received_time=1, available_at=1, status="maintenance")]}),
        (BOOK,), 0, timings=QUIET)
    session.open(0)
    (fetch,) = session.receive(depth(11, 12), 1)
    session.receive_rest(fetch.id, 200, body(11), 1)
    expected = TrustState.STALE if "maintenance" in session.venue.spec.book.halts else TrustState.LIVE
    session.receive(b"off", LATER)
    assert session.books["BTCUSDT"].state is expected


def test_an_instrument_whose_tick_changes_gets_a_new_book():
    def told(tick):
        instrument = Instrument(
            id=InstrumentId("binance", "BTCUSDT"), pair="BTC-USDT", base="BTC", quote="USDT", kind=Kind.SPOT,
            tradable=True, status="TRADING", tick_size=D(tick), lot_size=D("0.1"), may_cross=True)
        return InstrumentChanged(
            venue="binance", received_time=1, available_at=1, change=Change.UPDATED, instrument=instrument)

    session = Session(
        Scripted({b"1": [told("0.1")], b"2": [told("0.1")], b"3": [told("0.01")]}), (BOOK,), 0, timings=QUIET)
    session.open(0)
    (fetch,) = session.receive(depth(11, 12), 1)
    session.receive_rest(fetch.id, 200, body(11), 1)
    assert kinds(session.receive(b"1", LATER)) == [InstrumentChanged]
    assert session.books["BTCUSDT"].may_cross
    assert kinds(session.receive(b"2", LATER)) == [InstrumentChanged]
    assert kinds(session.receive(b"3", LATER)) == [InstrumentChanged, TrustState.STALE, Fetch]


def test_a_connection_that_brings_nothing_but_rubbish_is_left():
    session = opened()
    said = [it for _ in range(60) for it in session.receive(b"\xff\xfe no json", 1)]
    assert [it.reason for it in said if isinstance(it, Reconnect)] == ["51 frames in a row could not be read"]
    session.receive(trade(7), 2)  # something came
    said = [it for _ in range(40) for it in session.receive(b"\xff\xfe no json", 3)]
    assert Reconnect not in kinds(said)


def test_a_connection_that_brings_nothing_but_what_nobody_knows_is_left():
    session = opened()
    said = [it for _ in range(10_010) for it in session.receive(b"{}", 1)]
    assert [it.reason for it in said if isinstance(it, Reconnect)] == ["10001 frames in a row are of no known kind"]
