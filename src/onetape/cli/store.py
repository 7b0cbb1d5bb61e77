"""``onetape trades``, ``candles show``, ``books`` and ``gaps``: what a store holds."""
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onetape.cli.main import app
from onetape.cli.output import print_json, print_table
from onetape.clock import isoformat
from onetape.errors import UsageError
from onetape.model.numbers import plain

if TYPE_CHECKING:
    from onetape.model import BookSnapshot, Candle, Trade
    from onetape.storage.lake import Lake, Selection

ROWS = 20  # shown to a person who names no limit
DEFAULT = Path("data")
Row = dict[str, Any]

_RIGHT = frozenset({
    "price", "size", "open", "high", "low", "close", "volume", "trades", "bid", "bid size", "ask", "ask size", "levels",
    "recovered",
})
_SPARE = (
    "flags", "verification", "levels", "to", "trades", "id", "recovered", "volume", "bid size", "ask size", "high",
    "low",
)
"""Left out of a narrow terminal, the first ones first; before them what is the same in all rows."""

candles = typer.Typer(no_args_is_help=True, help="Candles of a store.")
app.add_typer(candles, name="candles")

Store = Annotated[Path, typer.Option("--store", metavar="DIR", help="The folder of the store.")]
Venue = Annotated[str | None, typer.Option(help="Only this venue.")]
Pair = Annotated[str | None, typer.Option(help="Only this pair, BTC-USDT; the venue's own symbol will do.")]
Limit = Annotated[
    int | None,
    typer.Option(min=1, max=10**9, metavar="N", help=f"The newest N. Without it: {ROWS} in a table, all as JSON."),
]
Start = Annotated[
    str | None, typer.Option(metavar="TIME", help="From then on: 2024-08-08, 2024-08-08T12:00:00Z, or an epoch number.")
]
End = Annotated[str | None, typer.Option(metavar="TIME", help="Before then.")]
Json = Annotated[bool, typer.Option("--json", help="An array of objects, numbers as text, times in ns.")]


@app.command()
def trades(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, limit: Limit = None, start: Start = None,
    end: End = None, json: Json = False,
) -> None:
    """List trades, oldest first, each once, with the very digits of the wire.

    Examples:

      onetape trades --venue binance --pair ETH-USDT --limit 5

      onetape trades --store data --start 2024-08-08 --end 2024-08-09 --json
    """
    columns = ("time", "venue", "pair", "side", "price", "size", "id", "flags")
    _list(store, venue, pair, limit, start, end, columns, _trades, json=json)


@candles.command()
def show(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, limit: Limit = None,
    interval: Annotated[str, typer.Option(help="1s, 1m, 5m, 15m, 1h, 4h, 1d, or any that is stored.")] = "1m",
    start: Start = None, end: End = None,
    source: Annotated[
        Literal["trades", "venue"], typer.Option(help="trades: ours; venue: the exchange's own.")
    ] = "trades",
    json: Json = False,
) -> None:
    """List candles, oldest first, each labelled by its END, in its latest revision.

    --start and --end give those that lie wholly between them. What is still running when the store ends is shown too,
    as provisional.

    Examples:

      onetape candles show --venue binance --pair ETH-USDT --interval 1m

      onetape candles show --pair BTC-USDT --interval 1h --limit 24 --json
    """
    columns = ("time", "venue", "pair", "open", "high", "low", "close", "volume", "trades", "state")
    read = partial(_candles, interval=interval, source=source)
    _list(store, venue, pair, limit, start, end, columns, read, json=json)


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
    _list(store, venue, pair, limit, start, end, columns, _books, json=json)


@app.command()
def gaps(
    *, store: Store = DEFAULT, venue: Venue = None, pair: Pair = None, limit: Limit = None, start: Start = None,
    end: End = None, json: Json = False,
) -> None:
    """List what is, or was, missing on the tape: each gap in its latest state.

    Examples:

      onetape gaps

      onetape gaps --venue binance --pair BTC-USDT --json
    """
    columns = ("from", "to", "venue", "pair", "after", "before", "state", "recovered", "cause")
    _list(store, venue, pair, limit, start, end, columns, _gaps, json=json)


def _list(
    store: Path, venue: str | None, pair: str | None, limit: int | None, start: str | None, end: str | None,
    columns: Sequence[str], read: Callable[["Lake", "Selection"], Iterable[tuple[Row, Row]]], *, json: bool,
) -> None:
    """Prints what ``read`` finds: of each row all of it for programs, and what a person is shown."""
    from onetape.cli.select import find, moment
    from onetape.storage.lake import Lake, Selection

    since, until = None if start is None else moment(start, "--start"), None if end is None else moment(end, "--end")
    most = limit if json or limit else ROWS + 1  # one more tells that there are more
    with Lake(store) as lake:
        selection = Selection(venue=venue, instruments=find(lake, venue, pair), start=since, end=until, limit=most)
        rows = list(read(lake, selection))
    if json:
        print_json([row for row, _ in rows])
        return
    shown = rows if limit else rows[-ROWS:]
    cells = [{key: both[1].get(key, both[0].get(key, "")) for key in columns} for both in shown]
    alike = [key for key in ("venue", "pair") if len({row.get(key) for row in cells}) == 1]
    print_table(cells, right=_RIGHT, spare=(*alike, *_SPARE))
    if len(shown) < len(rows):
        print(f"the newest {ROWS}; --limit N shows more, --json all")


def _trades(lake: "Lake", selection: "Selection") -> Iterable[tuple[Row, Row]]:
    pairs = lake.pairs()
    for it in lake.trades(selection):
        row = _head(it, pairs) | {
            "channel": it.channel, "id": it.id, "first_id": it.first_id, "last_id": it.last_id,
            "side": it.side, "price": plain(it.price), "size": plain(it.size), "source": it.source,
            "flags": list(it.flags),
        }
        yield row, {"time": _clock(it.exchange_time)}


def _candles(lake: "Lake", selection: "Selection", interval: str, source: str) -> Iterable[tuple[Row, Row]]:
    from onetape.candles.builder import INTERVALS
    from onetape.storage.restore import running

    since = selection.start or 0
    selection = _within(selection)
    found = lake.candles(selection, interval, source=source)
    if not found and interval not in INTERVALS:
        raise UsageError(f"there are no candles of {interval[:20]!r}: there is {', '.join(INTERVALS)}")
    if source == "trades":
        found = sorted([*found, *running(lake, selection, interval)], key=lambda it: it.end)
    pairs = lake.pairs()
    found = [it for it in found if it.start >= since]
    for it in found[-selection.limit:] if selection.limit else found:
        values = {name: _number(getattr(it, name)) for name in (
            "open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "taker_buy_volume", "revision",
        )}
        row = _head(it, pairs) | {
            "interval": it.interval, "start": str(it.start), "end": str(it.end), **values, "complete": it.complete,
            "final": it.final, "source": it.source,
        }
        state = "complete" if it.complete else "incomplete"
        state = state if it.final else "provisional" if it.complete else "provisional, incomplete"
        yield row, {"time": f"{_clock(it.end)[:19]}Z", "state": state}


def _within(selection: "Selection") -> "Selection":
    """Candles whose ends are behind the one time, and no later than the other."""
    from msgspec import structs

    start, end = selection.start, selection.end
    return structs.replace(
        selection, start=None if start is None else start + 1, end=None if end is None else end + 1,
    )


def _books(lake: "Lake", selection: "Selection") -> Iterable[tuple[Row, Row]]:
    pairs = lake.pairs()
    for it in lake.books(selection):
        sides = {"bids": _levels(it.bids), "asks": _levels(it.asks)}
        row = _head(it, pairs) | {
            "sequence": str(it.sequence), "depth": str(it.depth), "verification": it.verification, **sides,
        }
        (bid, bid_size), (ask, ask_size) = ((sides[side] or [("-", "-")])[0] for side in ("bids", "asks"))
        yield row, {
            "time": _clock(it.exchange_time), "bid": bid, "bid size": bid_size, "ask": ask, "ask size": ask_size,
            "levels": f"{len(it.bids)}/{len(it.asks)}",
        }


def _gaps(lake: "Lake", selection: "Selection") -> Iterable[tuple[Row, Row]]:
    pairs = lake.pairs()
    for it in lake.gaps(selection):
        row = {
            "venue": it.venue, "pair": pairs[it.venue, it.symbol], "symbol": it.symbol, "channel": it.channel,
            "after": it.after, "before": it.before, "from_time": str(it.from_time), "to_time": str(it.to_time),
            "state": it.state, "cause": it.cause, "recovered": str(it.recovered), "available_at": str(it.available_at),
        }
        yield row, {"from": _clock(it.from_time), "to": _clock(it.to_time)}


def _head(it: "Trade | Candle | BookSnapshot", pairs: Mapping[tuple[str, str], str]) -> Row:
    return {
        "venue": it.venue, "pair": pairs[it.venue, it.symbol], "symbol": it.symbol,
        "exchange_time": str(it.exchange_time), "received_time": str(it.received_time),
        "available_at": str(it.available_at),
    }


def _levels(levels: Iterable[tuple[Decimal, Decimal]]) -> list[tuple[str, str]]:
    return [(plain(price), plain(size)) for price, size in levels]


def _number(value: Decimal | int | None) -> str | None:
    return None if value is None else format(value, "f") if isinstance(value, Decimal) else str(value)


def _clock(time: int) -> str:
    """To the millisecond, for people."""
    return f"{isoformat(time)[:23]}Z".replace("T", " ")
