"""Levels as a frame holds them: true ones in every spelling that is legal, and what becomes of them when spoiled."""
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from msgspec import Raw

from onetape.model import Levels, Shape
from tests.property.memory import Laid

TAGS = {
    Shape.PAIRS: ("", ""), Shape.PRICE_QTY: ("", ""), Shape.TAGGED_TRIPLES: ("buy", "sell"),
    Shape.TAGGED_OBJECTS: ("bid", "offer"),
}
SHAPES = tuple(TAGS)
POWERS = ("1", "1.0", "10", "10.0", "0.1", "0.10", "0.100", "0.01", "100", "100.00", "0.001", "1e1", "1E+2", "0", "0.0")
"""Prices whose digits are the same: only the place of the point tells them apart."""
SIZES = (
    "0", "0", "0", "0.0", "0.000", "0.00000000", "00", "0e5", "1", "2", "1.0",
    "0.5", "0.50", "12.5000", "1e3", "1E-3", "3.14159265",
)
PLAIN_SIZES = 11  # the first of them
ODD_TAGS = ("", "buy", "bid", "b", "offer\0", "\xe9")
NUMBERS = (
    b"", b" 1", b"1 ", b"1\0", b"\xd9\xa1", b"9" * 17, b"9" * 18, b"9" * 19, b"1" + b"0" * 18, b"1" * 28, b"1" * 40,
    b"0." + b"0" * 17 + b"1", b"0." + b"0" * 18, b"0." + b"0" * 18 + b"1", b"0." + b"9" * 18, b"1." + b"0" * 18,
    b"123456789." + b"1" * 9, b"123456789." + b"1" * 10, b"1234567890." + b"0" * 18, b"12345678901." + b"0" * 18,
    b"0" * 40 + b"1",
    *rb"9223372036854775807 9223372036854775808 18446744073709551616 18446744073709551617.5".split(),
    *rb"-1 0 -0 00 0.0 00.10 01 1. .1 +1 1_0 0x1 1e 1e5 1E+2 1e-5 0e5 1.50E1 5e-18 5e-19 1e17 1e18".split(),
    *rb"1e27 1e28 1e99 1e-99 1e100 NaN Infinity null 1\u0031 \u0031".split(),
)
PIECES = (
    b" ", b"\t", b"\n", b"\r\n", b"\0", b"\x1f", b"\x7f", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    *rb'''" \" \ \u0022 \ud800 \u00e9 , : [ ] { } [] {} null true 1 "1" ["1","2"] ["buy","1","2"] ["1","2","3","4"]
    {"price":1,"qty":2} {"qty":2,"price":1} {"side":"bid","price_level":"1","new_quantity":"2"} "side":"bid"
    ,"side":"offer" ,"price_level":"7" ,"price":7 ,"qty":7 ,"x":[{"y":null}] ,"x":"y" ,"3" ,"3","4"'''.split(),
    b"[" * 60, b"[" * 3_000, b'{"a":' * 3_000,
)


class Side(NamedTuple):
    """Levels as they stand in a frame."""

    message: bytes
    shape: Shape
    tag: str

    def levels(self, laid: Laid) -> Levels:
        return Levels(Raw(laid(self.message)), self.shape, self.tag)


class Operation(NamedTuple):
    """A snapshot or a delta."""

    bids: Side
    asks: Side
    cut_at: int | None
    """None: a delta."""


EMPTY = Side(b"[]", Shape.PAIRS, "")


# --- true levels ------------------------------------------------------------------------------------------------------


class Market:
    """Prices near one another in a few spellings, the way of one venue or of none."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._few = random.sample(POWERS, 5) if random.random() < 0.2 else []
        self._scale = random.choice((0, 1, 2, 2, 2, 5, 8, 12, 18))
        self._middle = random.choice((12, 500, 6_512_345, 10 ** random.randint(1, 17)))
        self._plain = random.random() < 0.5
        self._grows = random.random() < 0.3

    def price(self) -> str:
        rand = self._random.random
        if self._few:
            return self._few[int(rand() * len(self._few))]
        if self._grows and rand() < 0.02:
            self._scale = min(self._scale + 1 + int(4 * rand()), 18)
            if rand() < 0.3:
                self._scale = 0
        ticks = max(self._middle + int(rand() * 24) - 12, 0)
        whole, behind = divmod(ticks, 10 ** min(self._scale, len(str(self._middle)) + 1))
        text = f"{whole}.{behind:0{self._scale}d}"[:20] if self._scale else str(ticks)
        return text if self._plain or rand() < 0.9 else self._respelled(text)

    def _respelled(self, text: str) -> str:
        way = int(self._random.random() * 5)
        if way == 0 and "." in text:
            return text.rstrip("0").rstrip(".")
        if way == 1:
            return text + ("00" if "." in text else ".00")
        if way == 2:
            return "0" + text
        if way == 3:
            return text + "e-1"
        return text + "E+1" if way == 4 and len(text) < 10 else text

    def level(self) -> tuple[str, str]:
        return self.price(), SIZES[int(self._random.random() * (PLAIN_SIZES if self._plain else len(SIZES)))]

    def levels(self, most: int) -> list[tuple[str, str]]:
        return [self.level() for _ in range(int(self._random.random() * (most + 1)))]


def written(levels: list[tuple[str, str]], shape: Shape, tag: str, random: Random) -> bytes:
    """In a venue's shape; now and then with what is legal and seldom."""
    odd = random.random() < 0.1
    texts = [_ONE[shape](price, size, tag, random if odd else None) for price, size in levels]
    comma = random.choice((",", ", ", ",\n")) if odd else ","
    return f"[{comma.join(texts)}]".encode()


def _pair(price: str, size: str, _tag: str, odd: Random | None) -> str:
    more = odd.choice(("", ',"0","4"', ',"\\u0031"', ',"\xe9"')) if odd else ""
    return f'["{price}","{size}"{more}]'


def _price_qty(price: str, size: str, _tag: str, odd: Random | None) -> str:
    price, size = (_json_number(it) for it in (price, size))
    way = int(odd.random() * 4) if odd else 0
    if way == 1:
        return f'{{"qty":{size},"price":{price}}}'
    if way == 2:
        return f'{{"price": {price}, "qty": {size} }}'
    more = ',"x":[1]' if way == 3 else ""
    return f'{{"price":{price},"qty":{size}{more}}}'


def _json_number(text: str) -> str:
    whole = text.lstrip("0")
    return whole if whole[:1].isdecimal() else "0" + whole


def _triple(price: str, size: str, tag: str, odd: Random | None) -> str:
    side = odd.choice(("buy", "sell")) if odd else tag
    return f'["{side}","{price}","{size}"]'


def _object(price: str, size: str, tag: str, odd: Random | None) -> str:
    side = odd.choice(("bid", "offer")) if odd else tag
    fields = [
        f'"side":"{side}"', '"event_time":"2026-08-09T01:02:03Z"', f'"price_level":"{price}"',
        f'"new_quantity":"{size}"',
    ]
    if odd:
        odd.shuffle(fields)
        fields += [odd.choice(('"x":null', '"x":"\\n"', f'"price_level":"{price}"', '"side":"bid"'))]
    return f"{{{','.join(fields)}}}"


_ONE = {Shape.PAIRS: _pair, Shape.PRICE_QTY: _price_qty, Shape.TAGGED_TRIPLES: _triple, Shape.TAGGED_OBJECTS: _object}


def operations(random: Random, most: int = 12) -> Iterator[Operation]:
    """Snapshots and deltas of one market, for ever."""
    market, shape = Market(random), random.choice(SHAPES)
    while True:
        snapshot = random.random() < 0.04
        sides = []
        for tag in TAGS[shape]:
            count = 0 if random.random() < 0.2 else most
            sides.append(Side(written(market.levels(count * (1 + 2 * snapshot)), shape, tag, random), shape, tag))
        yield Operation(sides[0], sides[1], random.choice((0, 0, 1, 3, 8)) if snapshot else None)


# --- hostile bytes ----------------------------------------------------------------------------------------------------


def flipped(it: bytes, random: Random) -> bytes:
    at = int(random.random() * len(it))
    return it[:at] + bytes([it[at] ^ 1 << int(random.random() * 8)]) + it[at + 1 :]


def cut_off(it: bytes, random: Random) -> bytes:
    return it[: int(random.random() * len(it))]


def lacking(it: bytes, random: Random) -> bytes:
    at = int(random.random() * len(it))
    return it[:at] + it[at + 1 + int(random.random() ** 3 * 8) :]


def with_piece(it: bytes, random: Random) -> bytes:
    at = int(random.random() * (len(it) + 1))
    return it[:at] + PIECES[int(random.random() * len(PIECES))] + it[at:]


def with_byte(it: bytes, random: Random) -> bytes:
    at = int(random.random() * (len(it) + 1))
    return it[:at] + bytes([int(random.random() * 256)]) + it[at + int(random.random() * 2) :]


def renumbered(it: bytes, random: Random) -> bytes:
    """One run of number characters becomes another."""
    at = int(random.random() * len(it))
    while at < len(it) and not 48 <= it[at] <= 57:
        at += 1
    end = at
    while end < len(it) and it[end] in b"0123456789.eE+-":
        end += 1
    while at > 0 and it[at - 1] in b"0123456789.eE+-":
        at -= 1
    return it[:at] + NUMBERS[int(random.random() * len(NUMBERS))] + it[end:]


def miswritten(it: bytes, random: Random) -> bytes:
    """A digit becomes another, a point, or what else stands in numbers."""
    at = int(random.random() * len(it))
    while at < len(it) and not 48 <= it[at] <= 57:
        at += 1
    return it[:at] + b"00123456789...eE+- "[int(random.random() * 19) :][:1] + it[at + 1 :]


def repeated(it: bytes, random: Random) -> bytes:
    at, end = sorted((int(random.random() * len(it)), int(random.random() * len(it))))
    return it[:end] + it[at:end] + it[end:]


MUTATIONS = (
    flipped, cut_off, lacking, with_piece, with_byte, renumbered, renumbered, miswritten, miswritten, miswritten,
    repeated,
)


def spoiled(side: Side, random: Random) -> Side:
    message, tag = side.message, side.tag
    for _ in range(1 + int(random.random() ** 4 * 4)):
        if message:
            message = MUTATIONS[int(random.random() * len(MUTATIONS))](message, random)
    if random.random() < 0.02:
        tag = random.choice(ODD_TAGS)
    return Side(message, side.shape, tag)


def hostile(random: Random) -> Iterator[Operation]:
    """The operations of a market, most of them spoiled; few are made and many spoiled, for speed."""
    made = operations(random, most=random.choice((2, 4, 10)))
    pool = [next(made) for _ in range(12)]
    while True:
        bids, asks, cut_at = pool[int(random.random() * len(pool))]
        which = random.random()
        if which < 0.4:
            bids = spoiled(bids, random)
        elif which < 0.8:
            asks = spoiled(asks, random)
        yield Operation(bids, asks, cut_at)
