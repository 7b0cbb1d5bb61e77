"""Only plain non-negative decimals become numbers, and keep their digits."""
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from onetape.model.levels import BadLevels, Levels, Shape
from onetape.model.numbers import BadNumber, level_number, number, optional, plain, positive, signed


@pytest.mark.parametrize("text", [
    "0", "0.0", "1", "007.10", "83725.91000000", "1e-8", "1E3", "9" * 28, "0." + "1" * 18, "1" * 10 + "." + "1" * 18,
])
def test_plain_numbers_are_taken_with_their_digits(text):
    assert number(text) == Decimal(text)
    assert number(text).as_tuple() == Decimal(text).as_tuple()


@pytest.mark.parametrize("text", [
    "", "-1", "+1", "NaN", "sNaN", "Infinity", "inf", "1_000", " 1", "1 ", "1,5", "0x10", "1.", ".5", "1.2.3", "e5",
    "1e", "1e999", "１", "٣", "²", "9" * 29, "0." + "1" * 19, "1" * 11 + "." + "1" * 18, "1e30",
    "1e-19", "1\n", "1" * 40,
])
def test_all_else_is_refused(text):
    with pytest.raises(BadNumber):
        number(text)
    with pytest.raises(BadNumber):
        level_number(text)


def test_levels_hold_what_an_int64_holds():
    assert level_number("9" * 18)
    assert level_number("12345678901.00000000")  # Binance prints eight places, whatever the size
    with pytest.raises(BadNumber, match="more than 18 digits"):
        level_number("9" * 19)


def test_signs_zeros_and_nothing():
    assert signed("-1.50") == Decimal("-1.50")
    assert optional("") is None
    assert optional(None) is None
    for text in ("0", "0.000"):
        with pytest.raises(BadNumber, match="more than zero"):
            positive(text)
    with pytest.raises(BadNumber):
        signed("--1")


@given(st.decimals(0, 10**10, places=8))
def test_plain_text_has_no_exponent_and_comes_back(value):
    assert "E" not in plain(value)
    assert number(plain(value)) == value


TAGGED_OBJECTS = (
    b'[{"side":"offer","price_level":"3","new_quantity":"4","event_time":"x"},'
    b'{"side":"bid","price_level":"1","new_quantity":"2"}]'
)


@pytest.mark.parametrize(("raw", "shape", "tag", "expected"), [
    (b'[["1.0","2"],["3","0"]]', Shape.PAIRS, "", [("1.0", "2"), ("3", "0")]),
    (b'[["1.0","2","0","7"]]', Shape.PAIRS, "", [("1.0", "2")]),
    (b' [ [ "1" , "2" ] ] ', Shape.PAIRS, "", [("1", "2")]),
    (b'[{"price":1.10,"qty":0.00000001},{"qty":2,"price":5e-1}]', Shape.PRICE_QTY, "", [
        ("1.10", "0.00000001"), ("0.5", "2")]),
    (b'[["buy","1","2"],["sell","3","4"],["buy","1","0"]]', Shape.TAGGED_TRIPLES, "buy", [("1", "2"), ("1", "0")]),
    (TAGGED_OBJECTS, Shape.TAGGED_OBJECTS, "offer", [("3", "4")]),
    (b"[]", Shape.PAIRS, "", []),
])
def test_each_shape_of_levels(raw, shape, tag, expected):
    levels = Levels(Raw(raw), shape, tag)
    assert [(plain(p), plain(q)) for p, q in levels] == expected
    assert len(levels) == len(expected)
    prices, sizes = levels.float64()
    assert list(prices) == [float(p) for p, _ in expected]
    assert list(sizes) == [float(q) for _, q in expected]


@pytest.mark.parametrize(("raw", "shape"), [
    (b"{}", Shape.PAIRS), (b"null", Shape.PAIRS), (b'[["1"]]', Shape.PAIRS), (b"[[1,2]]", Shape.PAIRS),
    (b'[["1","-2"]]', Shape.PAIRS), (b'[["1","\xff"]]', Shape.PAIRS), (b'[["1","2"]', Shape.PAIRS),
    (b'[{"price":"1","qty":2}]', Shape.PRICE_QTY), (b'[{"price":1}]', Shape.PRICE_QTY),
    (b'[{"price":-1,"qty":2}]', Shape.PRICE_QTY), (b'[{"price":NaN,"qty":2}]', Shape.PRICE_QTY),
    (b'[["hold","1","2"]]', Shape.TAGGED_TRIPLES), (b'[["buy","1"]]', Shape.TAGGED_TRIPLES),
    (b'[{"side":"ask","price_level":"1","new_quantity":"2"}]', Shape.TAGGED_OBJECTS),
    (b"[" * 5_000, Shape.PAIRS),
])
def test_unreadable_levels_say_so(raw, shape):
    with pytest.raises(BadLevels):
        Levels(Raw(raw), shape, "bid").read()
