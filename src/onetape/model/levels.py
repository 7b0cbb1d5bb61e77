"""Price levels of one side of a book, kept as the wire's own bytes until somebody reads them."""
from array import array
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from enum import Enum
from typing import Literal

from msgspec import DecodeError, Raw, Struct, json

from onetape.model.numbers import BadNumber, level_number, plain

Level = tuple[Decimal, Decimal]
"""(price, size); in a delta a size of 0 removes the level."""


class Shape(Enum):
    """How a venue writes its levels. Each is an array; a level of another side's tag is passed over."""

    PAIRS = "pairs"
    """``["price","size",...]``: Binance, Bybit, Coinbase Exchange snapshots, OKX (which adds two)."""
    PRICE_QTY = "price_qty"
    """``{"price":1.0,"qty":2.0}`` with JSON numbers: Kraken."""
    TAGGED_TRIPLES = "tagged_triples"
    """``["buy","price","size"]``: Coinbase Exchange updates."""
    TAGGED_OBJECTS = "tagged_objects"
    """``{"side":"bid","price_level":"1.0","new_quantity":"2.0"}``: Coinbase Advanced Trade."""


PAIRS, PRICE_QTY, TAGGED_TRIPLES, TAGGED_OBJECTS = Shape
"""For hot paths: see BUY in model/events.py."""


class BadLevels(ValueError):
    """Levels that cannot be read; nothing of them has been used."""


class _PriceQty(Struct, gc=False):
    price: Raw  # a JSON number: kept as text, so that every digit survives
    qty: Raw


class _Update(Struct, gc=False):
    side: Literal["bid", "offer"]
    price_level: str
    new_quantity: str


_decode_rows = json.Decoder(list[list[str]]).decode
_decode_triples = json.Decoder(list[tuple[Literal["buy", "sell"], str, str]]).decode
_decode_price_qty = json.Decoder(list[_PriceQty]).decode
_decode_updates = json.Decoder(list[_Update]).decode


def _pairs(raw: Raw, _tag: str) -> list[Level]:
    return [(level_number(row[0]), level_number(row[1])) for row in _decode_rows(raw)]


def _price_qty(raw: Raw, _tag: str) -> list[Level]:
    return [(_json_number(it.price), _json_number(it.qty)) for it in _decode_price_qty(raw)]


def _tagged_triples(raw: Raw, tag: str) -> list[Level]:
    return [(level_number(price), level_number(size)) for side, price, size in _decode_triples(raw) if side == tag]


def _tagged_objects(raw: Raw, tag: str) -> list[Level]:
    return [
        (level_number(it.price_level), level_number(it.new_quantity))
        for it in _decode_updates(raw) if it.side == tag
    ]


def _json_number(raw: Raw) -> Decimal:
    return level_number(str(raw, "ascii"))


_READERS: dict[Shape, Callable[[Raw, str], list[Level]]] = {
    Shape.PAIRS: _pairs,
    Shape.PRICE_QTY: _price_qty,
    Shape.TAGGED_TRIPLES: _tagged_triples,
    Shape.TAGGED_OBJECTS: _tagged_objects,
}


class Levels:
    """An immutable sequence of (price, size), exact, in the order of the wire.

    Made from the wire it is only a view of the frame's bytes; it is read when first iterated, and only then can it
    turn out to be unreadable (BadLevels). An order book takes all of it or nothing.
    """

    __slots__ = ("_levels", "raw", "shape", "tag")

    def __init__(self, raw: Raw, shape: Shape, tag: str = "") -> None:
        self.raw: Raw | None = raw
        self.shape, self.tag = shape, tag
        self._levels: list[Level] | None = None

    @classmethod
    def of(cls, levels: Iterable[Level]) -> "Levels":
        """From (price, size) pairs of Decimal."""
        self = cls.__new__(cls)
        self.raw, self.shape, self.tag, self._levels = None, Shape.PAIRS, "", list(levels)
        return self

    def read(self) -> list[Level]:
        """The levels as a list that the caller must not change. Raises BadLevels."""
        levels, raw = self._levels, self.raw
        if levels is None and raw is not None:
            try:
                levels = self._levels = _READERS[self.shape](raw, self.tag)
            except (DecodeError, BadNumber, IndexError, UnicodeDecodeError, RecursionError) as error:
                raise BadLevels(f"levels: {error}") from error
            self.raw = None  # a snapshot's frame may be 5 MB: do not keep it alive
        elif levels is None:  # another thread has read them just now: the journal's, say
            levels = self._levels
            assert levels is not None
        return levels

    def float64(self) -> "tuple[array[float], array[float]]":
        """Prices and sizes as two float64 arrays (buffers that NumPy takes without a copy). Inexact by nature."""
        levels = self.read()
        return array("d", [float(price) for price, _ in levels]), array("d", [float(size) for _, size in levels])

    def __iter__(self) -> Iterator[Level]:
        return iter(self.read())

    def __len__(self) -> int:
        return len(self.read())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Levels) and self.read() == other.read()

    def __hash__(self) -> int:
        return hash(tuple(self.read()))

    def __repr__(self) -> str:
        return f"Levels({[(plain(price), plain(size)) for price, size in self.read()]})"


EMPTY = Levels.of(())
