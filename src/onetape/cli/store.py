"""``onetape trades`` and ``onetape books``: what a store holds."""
from collections.abc import Iterable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from onetape.cli.answers import Asked, Row, answer, clock, head
from onetape.cli.main import app
from onetape.cli.options import DEFAULT, AsOf, End, Json, Limit, Pair, Proof, Start, Store, Venue

if TYPE_CHECKING:
    from onetape.storage.lake import Lake, Selection


@app.command()
def trades(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, limit: Limit = None, start: Start = None,
    end: End = None, as_of: AsOf = None, json: Json = False, proof: Proof = False,
) -> None:
    """List trades, oldest first, each once, with the very digits of the wire; at the end, whether any is missing.

    With --json what is missing is said in one line on stderr; with --proof it is part of the answer: an object with
    complete, known, unknown, gaps and rows.

    Examples:

      onetape trades --venue binance --pair ETH-USDT --limit 5

      onetape trades --store data --start 2024-08-08 --end 2024-08-09 --json

      onetape trades --pair BTC-USDT --as-of 2024-08-08T12:00:00Z --json --proof
    """
    columns = ("time", "venue", "pair", "side", "price", "size", "id", "flags")
    asked = Asked(store, venue, pair, limit, start, end, as_of, json=json, proof=proof)
    answer(asked, columns, partial(_trades, as_of=asked.known_by), time="exchange_time", tapes=lambda *_: None)


@app.command()
def books(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, limit: Limit = None, start: Start = None,
    end: End = None, json: Json = False,
) -> None:
    """Show the last view of each book that was kept.

    Examples:

      onetape books --venue kraken --pair BTC-USD

      onetape books --pair ETH-USDT --json
    """
    columns = ("time", "venue", "pair", "bid", "bid size", "ask", "ask size", "levels", "verification")
    answer(Asked(store, venue, pair, limit, start, end, json=json), columns, _books)


def _trades(lake: "Lake", selection: "Selection", as_of: int | None) -> Iterable[tuple[Row, Row]]:
    from onetape.model.numbers import plain

    pairs = lake.pairs()
    for it in lake.trades(selection, as_of=as_of):
        row = head(it, pairs) | {
            "channel": it.channel, "id": it.id, "first_id": it.first_id, "last_id": it.last_id,
            "side": it.side, "price": plain(it.price), "size": plain(it.size), "source": it.source,
            "flags": list(it.flags),
        }
        yield row, {"time": clock(it.exchange_time)}


def _books(lake: "Lake", selection: "Selection") -> Iterable[tuple[Row, Row]]:
    pairs = lake.pairs()
    for it in lake.books(selection):
        sides = {"bids": _levels(it.bids), "asks": _levels(it.asks)}
        row = head(it, pairs) | {
            "sequence": str(it.sequence), "depth": str(it.depth), "verification": it.verification, **sides,
        }
        (bid, bid_size), (ask, ask_size) = ((sides[side] or [("-", "-")])[0] for side in ("bids", "asks"))
        yield row, {
            "time": clock(it.exchange_time), "bid": bid, "bid size": bid_size, "ask": ask, "ask size": ask_size,
            "levels": f"{len(it.bids)}/{len(it.asks)}",
        }


def _levels(levels: Iterable[tuple[Decimal, Decimal]]) -> list[tuple[str, str]]:
    from onetape.model.numbers import plain

    return [(plain(price), plain(size)) for price, size in levels]
