"""What is said about a difference between our candle and the venue's."""
from decimal import Decimal as D

import pytest

from onetape.candles.compare import Verdict, compare
from onetape.clock import MINUTE
from onetape.model import Candle

AGREES, DIFFERS, UNDECIDED = Verdict


def candle(end=1, *, source="trades", **rest):
    return Candle(**{
        "venue": "v", "symbol": "s", "exchange_time": end * MINUTE, "received_time": 0, "available_at": 0,
        "interval": "1m", "start": (end - 1) * MINUTE, "end": end * MINUTE, "open": D(2), "high": D(3), "low": D(1),
        "close": D("2.50"), "volume": D(5), "quote_volume": None, "vwap": None, "trades": 7, "taker_buy_volume": None,
        "complete": True, "final": True, "source": source,
    } | rest)


def theirs(end=1, **rest):
    return candle(end, source="venue", **rest)


def one(ours, its, *, counts=True, missing="", lacking=""):
    (it,) = compare(
        [ours] if ours else [], [its] if its else [], counts=counts, missing=lambda *_: missing,
        lacking=lambda *_: lacking)
    return it.verdict, it.fields, it.why


@pytest.mark.parametrize(("ours", "its", "expected"), [
    ({}, {"close": D("2.5"), "quote_volume": D(9), "complete": False}, (AGREES, (), "")),
    ({}, {"trades": None}, (AGREES, (), "")),
    ({}, {"close": D("2.51"), "volume": D(6)}, (DIFFERS, ("close", "volume"), "")),
    ({}, {"trades": 8}, (DIFFERS, ("trades",), "")),
    ({}, {"high": D(4), "final": False}, (UNDECIDED, ("high",), "the venue's candle is still open")),
    ({"final": False}, {"low": D("0.5")}, (UNDECIDED, ("low",), "ours is provisional")),
    ({"complete": False}, {"open": D("2.5")}, (UNDECIDED, ("open",), "ours is incomplete")),
    ({"complete": False}, {}, (AGREES, (), "")),
    ({"volume": D(0), "trades": 0}, {"volume": D(0), "open": D(1), "trades": 0}, (AGREES, (), "")),
])
def test_both_have_it(ours, its, expected):
    assert one(candle(**ours), theirs(**its)) == expected


def test_a_gap_is_named():
    assert one(candle(complete=False), theirs(volume=D(6)), missing="a gap")[2] == "a gap"
    assert one(candle(), theirs(volume=D(6)), missing="a gap") == (DIFFERS, ("volume",), "")


def test_numbers_of_trades_count_where_they_mean_the_same():
    assert one(candle(), theirs(trades=8), counts=False)[0] is AGREES


@pytest.mark.parametrize(("ours", "its", "rest", "expected"), [
    (None, {}, {}, (DIFFERS, (), "")),
    (None, {}, {"missing": "not collected then"}, (UNDECIDED, (), "not collected then")),
    (None, {"final": False}, {}, (UNDECIDED, (), "the venue's candle is still open")),
    (None, {"volume": D(0)}, {}, (AGREES, (), "")),
    ({}, None, {}, (DIFFERS, (), "")),
    ({}, None, {"lacking": "HTTP 503"}, (UNDECIDED, (), "HTTP 503")),
    ({"complete": False}, None, {"missing": "a gap"}, (UNDECIDED, (), "a gap")),
    ({"final": False}, None, {}, (UNDECIDED, (), "ours is provisional")),
    ({"volume": D(0)}, None, {}, (AGREES, (), "")),
])
def test_one_has_it(ours, its, rest, expected):
    it = one(None if ours is None else candle(**ours), None if its is None else theirs(**its), **rest)
    assert it == expected


def test_they_come_by_time():
    found = list(compare([candle(3), candle(1)], [theirs(2), theirs(3)], counts=True))
    assert [(it.end // MINUTE, it.verdict) for it in found] == [(1, DIFFERS), (2, DIFFERS), (3, AGREES)]
