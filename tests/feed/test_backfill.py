"""What is missing is asked for; no answer is believed further than it proves itself, and none leaves a gap unsaid."""
import json
from decimal import Decimal as D

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from onetape import venues
from onetape.clock import DAY, HOUR, MILLISECOND, SECOND
from onetape.feed.backfill import AGAIN_NS, AT_ONCE, MAX_HOLES, MAX_VAIN, Backfill
from onetape.model import Channel, Fetch, GapClosed, GapFilling, NeedTrades, Skipped, Source, Trade
from tests.feed.past import Past

NOW = 1_790_000_000 * SECOND
STEP = 100 * MILLISECOND  # between two trades


def need(after=100, before=200, *, venue="binance", symbol="BTCUSDT", channel=Channel.TRADES, at=NOW - DAY):
    """Trade N was at ``at`` + N steps."""
    return NeedTrades(
        venue, symbol, channel, str(after), str(before), at + after * STEP, at + before * STEP, "ids are missing",
    )


class Asker:
    """A Backfill of Binance with a venue to ask: ``answer`` makes the rows of a request."""

    def __init__(self, ids=range(1, 5_000), at=NOW - DAY, venue="binance", max_age_ns=7 * DAY):
        self.it = Backfill(venues.create(venue), max_age_ns)
        self.past = Past(ids, at, STEP)
        self.now = NOW
        self.said: list = []
        self.fetches: list[Fetch] = []

    def need(self, *needs):
        for one in needs:
            self.take(self.it.need(one, self.now))
        return self

    def take(self, outcomes):
        for one in outcomes:
            (self.fetches if isinstance(one, Fetch) else self.said).append(one)

    def of(self, kind):
        return [one for one in self.said if isinstance(one, kind)]

    def trades(self):
        return [int(one.id) for one in self.of(Trade)]

    def answer(self, spoil=lambda body: body, status=200, **headers):
        """To the oldest request."""
        fetch = self.fetches.pop(0)
        body = spoil(self.past.binance(fetch.request.path))
        self.take(self.it.receive(fetch.id, status, body, headers, self.now))
        return self

    def wait(self, ns):
        self.now += ns
        self.take(self.it.wake(self.now))
        return self

    def finish(self, spoil=lambda body: body, most=200):
        """Plays on until nothing is to be done any more."""
        for _ in range(most):
            if self.fetches:
                self.answer(spoil)
            elif (due := self.it.next_wake()) is not None:
                self.wait(max(due - self.now, 0))
            else:
                return self
        raise AssertionError("it never ends")


def rows(change):
    """Makes something else of the rows of a body."""
    return lambda body: json.dumps(change(json.loads(body))).encode()


def test_a_hole_is_filled_page_by_page_each_trade_once():
    it = Asker().need(need(100, 2_500)).finish()
    assert it.trades() == list(range(101, 2_500))
    assert {one.source for one in it.of(Trade)} == {Source.BACKFILL}
    (filling,) = it.of(GapFilling)
    assert (filling.after, filling.before, filling.cause) == ("100", "2500", "")
    assert it.it.counters["pages"] == 3
    assert it.it.waiting == 0


def test_the_oldest_hole_is_asked_for_first_and_only_so_many_at_once():
    needs = [need(number, number + 10) for number in range(900, 0, -100)]
    it = Asker().need(*needs)
    assert len(it.fetches) == AT_ONCE
    it.answer()
    assert f"fromId={needs[-1].after}&" in it.fetches[-1].request.path
    assert sorted(it.finish().trades()) == [n for start in range(100, 1_000, 100) for n in range(start + 1, start + 10)]


def test_the_same_need_twice_is_one():
    it = Asker().need(need(), need())
    assert len(it.fetches) == 1


BAD = {
    "empty": rows(lambda page: []),
    "html": lambda body: b"<!DOCTYPE html><html><body>Bad gateway</body></html>",
    "cut in the bytes": lambda body: body[: len(body) // 2],
    "of another symbol": rows(lambda page: [row | {"time": row["time"] - 7_200_000} for row in page]),
    "ids that go backwards": rows(lambda page: [row | {"id": row["id"] - 100} for row in page]),
    "ids far ahead": rows(lambda page: [row | {"id": row["id"] + 10_000} for row in page]),
    "two trades of one id": rows(lambda page: [row | {"price": price} for row in page for price in ("1", "2")]),
    "an object": lambda body: b"{}",
    "a number": lambda body: b"5",
    "nothing": lambda body: b"",
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_what_is_not_proven_is_not_taken_and_the_gap_stays_with_the_reason(spoil):
    it = Asker().need(need()).answer(spoil)
    assert it.trades() == []
    assert it.of(Skipped) == it.of(GapClosed) == []
    assert it.it.waiting == 1
    it.wait(60 * SECOND)
    assert it.of(GapFilling)[-1].cause
    assert it.finish().trades() == list(range(101, 200))


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
def test_after_many_answers_in_vain_it_is_given_up_with_the_reason_and_retried_on_a_schedule(spoil):
    it = Asker().need(need())
    while not it.of(GapClosed):
        it.answer(spoil) if it.fetches else it.wait(60 * SECOND)
    (closed,) = it.of(GapClosed)
    assert not closed.healed
    assert closed.cause.startswith("venue hole: ")
    assert it.it.counters["answers in vain"] == MAX_VAIN
    due = it.it.next_wake()
    assert due >= it.now + HOUR - 60 * SECOND
    assert it.finish().trades() == list(range(101, 200))


GOOD = {
    "out of order": rows(lambda page: page[::-1]),
    "doubled": rows(lambda page: page + page),
    "overlapping": rows(lambda page: [*page[:30], *page[10:]]),
    "cut short": rows(lambda page: page[: len(page) // 3 + 1]),
}


@pytest.mark.parametrize("spoil", GOOD.values(), ids=GOOD)
def test_what_is_proven_is_taken_however_it_comes(spoil):
    it = Asker().need(need()).finish(spoil)
    assert sorted(it.trades()) == list(range(101, 200))
    assert it.of(Skipped) == []


def test_what_two_answers_leave_out_the_venue_has_skipped():
    it = Asker(ids=[*range(1, 120), *range(130, 5_000)]).need(need())
    it.answer()
    assert it.trades() == [*range(101, 120), *range(130, 200)]
    assert it.of(Skipped) == []
    assert it.it.next_wake() == NOW + AGAIN_NS
    it.finish()
    (skipped,) = it.of(Skipped)
    assert (skipped.first, skipped.last, skipped.after, skipped.reason) == ("120", "129", 119, "venue-skipped")
    assert it.it.waiting == 0


def test_what_only_one_answer_left_out_is_no_skip():
    it = Asker().need(need()).answer(rows(lambda page: [row for row in page if row["id"] % 7]))
    assert it.finish().of(Skipped) == []
    assert sorted(it.trades()) == list(range(101, 200))


def test_what_is_not_yet_in_rest_is_asked_for_again():
    it = Asker(ids=range(1, 150)).need(need()).answer()
    assert it.trades() == list(range(101, 150))
    it.past = Past(range(1, 5_000), NOW - DAY, STEP)
    assert it.finish().trades() == list(range(101, 200))


@pytest.mark.parametrize("status", [500, 502, 503, 418, 429, 403])
def test_a_refusal_that_passes_is_waited_for_and_never_makes_a_gap_unhealable(status):
    it = Asker().need(need())
    for _ in range(30):
        it.answer(lambda body: b"{}", status=status, **{"retry-after": "100"})
        assert it.it.next_wake() >= it.now + 2 * SECOND
        it.wait(it.it.next_wake() - it.now)
    assert it.of(GapClosed) == []
    assert it.finish().trades() == list(range(101, 200))


def test_no_answer_at_all_is_asked_for_again():
    it = Asker().need(need())
    fetch = it.fetches.pop()
    it.take(it.it.failed(fetch.id, "DNS: cannot resolve", it.now))
    it.wait(60 * SECOND)
    assert it.of(GapFilling)[-1].cause == "DNS: cannot resolve"
    assert it.finish().trades() == list(range(101, 200))


def test_answers_nobody_waits_for_change_nothing():
    it = Asker().need(need())
    assert it.it.receive(99, 200, b"[]", {}, NOW) == []
    assert it.it.failed(99, "x", NOW) == []
    assert it.finish().trades() == list(range(101, 200))


@pytest.mark.parametrize(("venue", "channel", "age", "words"), [
    ("binance", Channel.TRADES, 8 * DAY, "too old: more than 7 days"),
    ("binance-usdm", Channel.AGG_TRADES, 3 * DAY, "too old: the venue keeps 48 hours"),
    ("binance", Channel.AGG_TRADES, 0, "venue limit: its REST has no agg_trades of the past"),
])
def test_what_cannot_be_had_is_said_at_once(venue, channel, age, words):
    it = Asker(venue=venue).need(need(venue=venue, channel=channel, at=NOW - age - HOUR))
    (closed,) = it.of(GapClosed)
    assert not closed.healed
    assert closed.cause.startswith(words)
    assert (it.fetches, it.it.next_wake()) == ([], None)


def test_pages_of_one_symbol_keep_the_venues_pace_and_others_do_not_wait_for_them():
    it = Asker(venue="kraken").need(*(
        need(number, number + 5, venue="kraken", symbol=symbol) for symbol in ("A/USD", "B/USD") for number in (1, 50)
    ))
    assert [fetch.request.symbol for fetch in it.fetches] == ["A/USD", "B/USD"]
    assert it.it.next_wake() == NOW + 3 * SECOND
    it.wait(3 * SECOND)
    assert len(it.fetches) == 4


def test_of_a_hole_that_reaches_beyond_what_the_venue_keeps_the_rest_is_too_old():
    it = Asker(venue="binance-usdm", at=NOW - 48 * HOUR - 20 * SECOND, ids=range(250, 5_000))
    it.need(need(100, 400, venue="binance-usdm", channel=Channel.AGG_TRADES, at=NOW - 48 * HOUR - 20 * SECOND))
    fetch = it.fetches.pop()
    listed = [
        {"a": id, "p": "5", "q": "1", "nq": "1", "f": id, "l": id, "T": it.past.time(id) // MILLISECOND, "m": False}
        for id in range(250, 500)
    ]
    it.take(it.it.receive(fetch.id, 200, json.dumps(listed).encode(), {}, NOW))
    assert it.trades() == list(range(250, 400))
    assert [(one.healed, one.cause) for one in it.of(GapClosed)] == [(False, "too old: the venue keeps 48 hours")]
    assert it.it.waiting == 0


def test_who_wants_no_backfill_gets_none():
    it = Asker(max_age_ns=0).need(need())
    assert (it.fetches, it.said) == ([], [])


def test_holes_are_bounded():
    it = Asker(ids=()).need(*(need(10 * number, 10 * number + 5) for number in range(MAX_HOLES + 5)))
    assert it.it.waiting == MAX_HOLES
    assert it.it.counters["gaps not asked for"] == 5


def bybit(*ids, at):
    """Ids of Bybit prove nothing; trade N is at ``at`` + N steps. The newest first."""
    listed = [
        {"execId": f"7{id}", "symbol": "BTCUSDT", "price": "5", "size": "1", "side": "Buy", "isBlockTrade": False,
         "time": str((at + id * STEP) // MILLISECOND), "seq": str(id)}
        for id in sorted(ids, reverse=True)
    ]
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": {"list": listed}, "time": NOW // MILLISECOND}).encode()


@pytest.mark.parametrize(("first", "healed"), [(95, True), (100, True), (120, False)])
def test_where_only_the_newest_can_be_had_a_page_that_reaches_back_has_it_all(first, healed):
    it = Asker(venue="bybit")
    asked = need(70, 80, venue="bybit", at=NOW - DAY)
    asked = NeedTrades("bybit", "BTCUSDT", Channel.TRADES, "7100", "7200", NOW - DAY + 100 * STEP,
                       NOW - DAY + 200 * STEP, asked.reason)
    it.need(asked)
    for _ in range(2):  # what one answer leaves out only another shows
        fetch = it.fetches.pop()
        it.take(it.it.receive(fetch.id, 200, bybit(*range(first, 220), at=NOW - DAY), {}, NOW))
    assert it.trades() == [int(f"7{id}") for id in range(max(first, 101), 200)]
    (closed,) = it.of(GapClosed)
    assert closed.healed is healed
    assert closed.cause.startswith("filled" if healed else "venue limit")
    assert it.it.waiting == 0


def test_where_ids_prove_nothing_answers_are_put_together_until_they_agree():
    it = Asker(venue="bybit")
    it.need(NeedTrades("bybit", "BTCUSDT", Channel.TRADES, "7100", "7200", NOW - DAY + 100 * STEP,
                       NOW - DAY + 200 * STEP, "x"))
    whole = list(range(95, 220))
    for left_out in ({110, 120}, {130}, set()):
        fetch = it.fetches.pop()
        body = bybit(*(id for id in whole if id not in left_out), at=NOW - DAY)
        it.take(it.it.receive(fetch.id, 200, body, {}, NOW))
    assert sorted(it.trades()) == [int(f"7{id}") for id in range(101, 200)]
    assert [one.healed for one in it.of(GapClosed)] == [True]


def test_a_newest_page_that_ends_before_the_gap_does_is_too_early():
    it = Asker(venue="bybit")
    it.need(NeedTrades("bybit", "BTCUSDT", Channel.TRADES, "7100", "7200", NOW - DAY + 100 * STEP,
                       NOW - DAY + 200 * STEP, "x"))
    fetch = it.fetches.pop()
    it.take(it.it.receive(fetch.id, 200, bybit(*range(90, 180), at=NOW - DAY), {}, NOW))
    assert it.trades() == []
    assert it.it.next_wake() == NOW + SECOND


changes = st.lists(st.sampled_from([
    "cut", "shuffle", "double", "drop", "empty", "shift", "foreign", "bytes", "good", "good", "status", "fail",
]), max_size=12)


@settings(max_examples=200, deadline=None)
@given(changes, st.integers(1, 40), st.integers(2, 60), st.randoms(use_true_random=False))
def test_whatever_comes_nothing_false_is_taken_and_it_ends_well(plan, start, width, random):
    """Safety: no trade that the venue does not have, none twice. Liveness: in the end all are there."""
    skipped = {id for id in range(start + 1, start + width) if random.random() < 0.05}
    ids = [id for id in range(1, 200) if id not in skipped]
    it = Asker(ids=ids).need(need(start, start + width))
    plan = list(plan)

    def spoil(body):
        kind = plan.pop() if plan else "good"
        page = json.loads(body)
        match kind:
            case "cut":
                page = page[: random.randint(0, len(page))]
            case "shuffle":
                random.shuffle(page)
            case "double":
                page += page[: random.randint(0, len(page))]
            case "drop":
                page = [row for row in page if random.random() < 0.8]
            case "empty":
                page = []
            case "shift":
                page = [row | {"id": row["id"] + random.choice([-50, 50])} for row in page]
            case "foreign":
                page = [row | {"time": row["time"] + random.choice([-10**7, 10**7])} for row in page]
            case "bytes":
                return body[: random.randint(0, len(body))]
        return json.dumps(page).encode()

    while it.it.waiting:
        if not it.fetches:
            it.wait(max(it.it.next_wake() - it.now, 0))
        elif plan and plan[-1] == "fail":
            plan.pop()
            fetch = it.fetches.pop(0)
            it.take(it.it.failed(fetch.id, "no answer", it.now))
        elif plan and plan[-1] == "status":
            plan.pop()
            it.answer(lambda body: b"", status=503)
        else:
            it.answer(spoil)
    taken = it.trades()
    assert len(taken) == len(set(taken))
    for one in it.of(Trade):
        assert one == it.past.trade(int(one.id), one.received_time)
    left_out = {id for one in it.of(Skipped) for id in range(int(one.first), int(one.last) + 1)}
    assert set(taken) | left_out == set(range(start + 1, start + width))
    assert skipped <= left_out
    assert D(0) not in {one.price for one in it.of(Trade)}


def test_many_ids_that_the_venue_skipped_are_progress_and_no_answers_in_vain():
    skips = {500 + 1_100 * number for number in range(9)}
    it = Asker(set(range(1, 11_000)) - skips).need(need(100, 10_500)).finish()
    assert {int(one.first) for one in it.of(Skipped)} == skips
    assert it.of(GapClosed) == []


def test_one_edge_that_fits_is_enough_for_the_time_of_another_may_be_a_guess():
    wrong = structs.replace(need(), from_time=need().from_time - 7)
    guessed = structs.replace(need(), from_time=need().from_time + 3 * SECOND)
    assert Asker().need(wrong).finish().trades() == Asker().need(guessed).finish().trades() == list(range(101, 200))


def test_a_page_fills_all_holes_that_it_reaches():
    it = Asker().need(*(need(number, number + 5, at=NOW - DAY) for number in range(10, 900, 10)))
    it.answer()
    assert it.it.counters["pages"] == 1
    assert it.it.waiting <= AT_ONCE  # those that were asked for beside it
