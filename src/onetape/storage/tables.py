"""The tables of the lake: how the journal's rows stream into DuckDB, and which columns they become there."""
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import quote

import duckdb
from msgspec import Struct

from onetape.clock import DAY
from onetape.storage.schema import CHANNELS, FLAGS, SIDES, SOURCES, STATES, TABLES

DIGITS = 18
"""Behind the point, in the lake: DECIMAL(38,18)."""
LONGEST_FOLDER = 200
BYTES = "''::BLOB"


class Table(Struct, frozen=True):
    """``stream`` and ``columns`` by name: expressions of SQLite, and those of DuckDB over them."""

    stream: Mapping[str, str]
    columns: Mapping[str, str]
    day: str
    """The time, ns, whose day is the ``date`` of a row."""
    low: str
    high: str
    """The columns whose least and greatest the catalog keeps of each file."""
    stored_as_text: bool = False
    """Venue and symbol stand in the rows themselves."""


def _same(*names: str) -> dict[str, str]:
    return {name: f'"{name}"' for name in names}


def _text(*names: str) -> dict[str, str]:
    """NULL as the empty text: the driver takes a column's type from its first rows, and NULL has none."""
    return {name: f"cast(ifnull(\"{name}\", '') AS text)" for name in names}


def _maybe(*names: str) -> dict[str, str]:
    return {name: f"nullif(\"{name}\", '')" for name in names}


def _numbers(*names: str) -> dict[str, str]:
    """Decimals of texts, with the digits that each has behind the point; what does not fit exactly is refused."""
    digits = ", ".join(f'digits("{name}")' for name in names)
    return {name: f'exactly("{name}")' for name in names} | {"digits": f"[{digits}]::UTINYINT[]"}


_TIMES = ("exchange_time", "received_time", "available_at")
_INSTRUMENT = {"symbol": "getvariable('symbols')[instrument]"}
_CHANNEL = {"channel": "getvariable('channels')[channel + 1]"}
_PLACE = {"writer": "getvariable('writers')[1]", "pos": "pos"}
_HEAD = _same("pos", "instrument")
_PRICES = ("open", "high", "low", "close", "volume", "vwap", "taker_buy_volume")
_SIDES = ("bid_price", "bid_size", "ask_price", "ask_size")


def _book(*numbers: str) -> Table:
    return Table(
        stream=_HEAD | _same(*numbers, "body", *_TIMES),
        columns=_INSTRUMENT | _same(*numbers, "body", *_TIMES) | _PLACE,
        day="exchange_time", low="exchange_time", high="exchange_time",
    )


LAKE: Mapping[str, Table] = {
    "trades": Table(
        stream=_HEAD | _same("channel", "side", "price", "size", "scales", *_TIMES, "source", "flags") | {
            "id": "cast(id AS text)"} | _text("first_id", "last_id") | {"raw": "ifnull(raw, x'')"},
        columns=_INSTRUMENT | _CHANNEL | _same("id") | _maybe("first_id", "last_id") | {
            "price": "decimal_of(price, scales >> 8)", "size": "decimal_of(size, scales & 255)",
            "price_digits": "(scales >> 8)::UTINYINT", "size_digits": "(scales & 255)::UTINYINT",
            "side": "getvariable('sides')[side + 1]", "flags": "getvariable('flags')[flags + 1]",
        } | _same(*_TIMES) | {"source": "getvariable('sources')[source + 1]", "raw": f"nullif(raw, {BYTES})"} | _PLACE,
        day="exchange_time", low="exchange_time", high="exchange_time",
    ),
    "candles": Table(
        stream=_HEAD | _same("interval", "start", "end", "revision", "final", "complete", "source", "trades", *_TIMES)
        | _text(*_PRICES, "quote_volume"),
        columns=_INSTRUMENT | _same("interval", "start", "end", "revision") | {
            "final": "final::BOOLEAN", "complete": "complete::BOOLEAN", **_same("source"), **_numbers(*_PRICES),
            "quote_volume": "fitting(quote_volume)", "quote_volume_digits": "digits(quote_volume)::UTINYINT",
            # up to 36 digits stand behind the point of a sum of price times size: kept as text where they do not fit
            "quote_volume_exact": "CASE WHEN fitting(quote_volume) IS NULL THEN nullif(quote_volume, '') END",
        } | _same("trades", *_TIMES) | _PLACE,
        day="start", low="end", high="end",
    ),
    "quotes": Table(
        stream=_HEAD | _text(*_SIDES) | _same("sequence", *_TIMES),
        columns=_INSTRUMENT | _numbers(*_SIDES) | _same("sequence", *_TIMES) | _PLACE,
        day="exchange_time", low="exchange_time", high="exchange_time",
    ),
    "book_snapshots": _book("sequence"),
    "book_deltas": _book("after", "sequence"),
    "feed_status": Table(
        stream=_HEAD | _same("channel", "state", "since", "reason", "received_time", "available_at"),
        columns=_INSTRUMENT | _CHANNEL | {"state": "getvariable('states')[state + 1]"}
        | _same("since", "reason", "received_time", "available_at") | _PLACE,
        day="available_at", low="available_at", high="available_at",
    ),
    "gaps": Table(
        stream=_HEAD | _same(
            "channel", "after", "before", "from_time", "to_time", "state", "cause", "recovered", "available_at"),
        columns=_INSTRUMENT | _CHANNEL | _same(
            "after", "before", "from_time", "to_time", "state", "cause", "recovered", "available_at") | _PLACE,
        day="available_at", low="from_time", high="to_time",
    ),
    "coverage": Table(
        stream=_HEAD | _same("channel", "first", "last", "from_time", "to_time"),
        columns=_INSTRUMENT | _CHANNEL | _same("first", "last", "from_time", "to_time") | _PLACE,
        day="to_time", low="from_time", high="to_time",
    ),
    "quarantine": Table(
        stream=_same("pos", "venue", "symbol", "channel", "reason", "text", "received_time", "available_at"),
        columns=_same("symbol", "channel", "reason", "text", "received_time", "available_at") | _PLACE,
        day="available_at", low="received_time", high="received_time", stored_as_text=True,
    ),
}
assert set(LAKE) | {"batches", "instruments"} == set(TABLES)

SCHEMA = 1
"""Of the lake's columns: one higher with every change of them. The catalog keeps it of each file."""
ADDED: Mapping[str, Mapping[str, str]] = {}
"""By table the columns that the first schema did not have, with their types in DuckDB: NULL in files of before."""

NARROW = "typeof(price) = 'integer' AND typeof(size) = 'integer'"
BARE = "first_id IS NULL AND last_id IS NULL AND raw IS NULL"


class Stream(Struct, frozen=True):
    """A SELECT of SQLite, every column of one type; what it leaves out, and what stands there in DuckDB instead."""

    sql: str
    without: Mapping[str, str] = {}
    wide: bool = False
    """Mantissas are texts."""


def streams(table: str, end: int) -> list[Stream]:
    """That together give each row below the position ``end`` once.

    Most trades have none of three columns, and leaving them out saves a third of the time. Mantissas beyond 64 bits
    are rare, and come as texts.
    """
    below = f"pos < {end}"
    if table != "trades":
        return [Stream(_select(table, below))]
    without = {"first_id": "''", "last_id": "''", "raw": BYTES}
    columns = LAKE[table].stream
    bare = {name: sql for name, sql in columns.items() if name not in without}
    wide = {**columns, "price": "cast(price AS text)", "size": "cast(size AS text)"}
    return [
        Stream(_select(table, f"{below} AND {NARROW} AND {BARE}", bare), without),
        Stream(_select(table, f"{below} AND {NARROW} AND NOT ({BARE})")),
        Stream(_select(table, f"{below} AND NOT ({NARROW})", wide), wide=True),
    ]


def _select(table: str, where: str, columns: Mapping[str, str] | None = None) -> str:
    listed = ", ".join(f'{sql} AS "{name}"' for name, sql in (columns or LAKE[table].stream).items())
    return f"SELECT {listed} FROM {table} WHERE {where} ORDER BY pos"  # noqa: S608 - names are ours


def projection(table: str, source: str) -> str:
    """A SELECT of DuckDB: the lake's columns, of a stream registered as ``source``."""
    of = LAKE[table]
    keys = {"date": f"DATE '1970-01-01' + (\"{of.day}\" // {DAY})::INTEGER"}
    if of.stored_as_text:
        keys |= {"venue": "venue", "pair": "'_'"}  # its symbols may be any text
    else:
        keys |= {"venue": "getvariable('venues')[instrument]", "pair": "getvariable('pairs')[instrument]"}
    listed = ", ".join(f'{sql} AS "{name}"' for name, sql in {**keys, **of.columns}.items())
    return f"SELECT {listed} FROM {source}"  # noqa: S608


def names(table: str) -> list[str]:
    """All columns of a table of the lake, those of its folders first."""
    return ["date", "venue", "pair", *LAKE[table].columns]


def prepare(duck: duckdb.DuckDBPyConnection) -> None:
    """The words of the journal's codes, and the macros of the projections.

    Words are ENUMs: Parquet takes them as dictionaries at once, at a tenth of the cost of texts.
    """
    for name, words in (
        ("channels", CHANNELS), ("sides", SIDES), ("sources", SOURCES), ("states", STATES), ("flags", _flag_words()),
    ):
        listed = ", ".join(f"'{it}'" for it in words)
        duck.execute(f"CREATE TYPE word_of_{name} AS ENUM ({listed})")
        duck.execute(f"SET VARIABLE {name} = [{listed}]::word_of_{name}[]")
    units = ", ".join(f"{'0.' + '0' * (n - 1) if n else ''}1::DECIMAL(19,18)" for n in range(DIGITS + 1))
    duck.execute(f"SET VARIABLE units = [{units}]")
    duck.execute("""
        CREATE MACRO digits(t) AS CASE WHEN contains(t, '.') THEN length(t) - strpos(t, '.') ELSE 0 END;
        CREATE MACRO fitting(t) AS
            CASE WHEN digits(t) <= 18 AND length(split_part(t, '.', 1)) <= 20 THEN try_cast(t AS DECIMAL(38,18)) END;
        CREATE MACRO exactly(t) AS
            CASE WHEN t = '' THEN NULL ELSE coalesce(fitting(t), error('DECIMAL(38,18) does not hold ' || t)) END;
        CREATE MACRO padded(m, scale) AS lpad(m, greatest(length(m)::INTEGER, scale + 1), '0');
        CREATE MACRO pointed(m, scale) AS CASE WHEN scale = 0 THEN m ELSE
            left(padded(m, scale), -scale) || '.' || right(padded(m, scale), scale) END;
    """)


def prepare_trades(duck: duckdb.DuckDBPyConnection, *, wide: bool) -> None:
    """How a mantissa becomes a decimal: an integer by an exact product, a text by text."""
    sql = "exactly(pointed(m, scale::INTEGER))" if wide else """coalesce(
        (m::DECIMAL(19,0) * getvariable('units')[scale + 1])::DECIMAL(38,18),
        error('DECIMAL(38,18) does not hold ' || m || 'e-' || scale))"""
    duck.execute(f"CREATE OR REPLACE MACRO decimal_of(m, scale) AS {sql}")


def prepare_file(
    duck: duckdb.DuckDBPyConnection, writer: str, instruments: list[tuple[int, str, str, str]], *,
    as_words: bool = True,
) -> None:
    """Whose rows come next: instruments as (id, venue, symbol, pair).

    ``as_words``: as ENUMs, that only the rows of this file know.
    """
    of = {it[0]: it for it in instruments}
    known = [of.get(id, (id, "", "", "")) for id in range(1, max(of, default=1) + 1)]
    for name, words in (
        ("venues", [it[1] for it in known]), ("symbols", [it[2] for it in known]),
        ("pairs", [folder(it[3] or it[2]) for it in known]),
    ):
        _set_words(duck, name, words, as_words=as_words)
    _set_words(duck, "writers", [writer], as_words=as_words)


def _set_words(duck: duckdb.DuckDBPyConnection, name: str, words: list[str], *, as_words: bool) -> None:
    """By way of a table, so that no word ever stands in a statement."""
    if not as_words:
        duck.execute(f"SET VARIABLE {name} = ?::VARCHAR[]", [words])
        return
    duck.execute("CREATE OR REPLACE TEMP TABLE words AS SELECT unnest(?::VARCHAR[]) AS word", [words])
    duck.execute(f"DROP TYPE IF EXISTS word_of_{name}")
    duck.execute(f"CREATE TYPE word_of_{name} AS ENUM (SELECT DISTINCT word FROM words)")  # noqa: S608
    duck.execute(f"SET VARIABLE {name} = (SELECT list(word::word_of_{name} ORDER BY rowid) FROM words)")  # noqa: S608


def _flag_words() -> list[str]:
    """By the bits of the journal: each combination as words with commas between them."""
    return [",".join(it for bit, it in enumerate(FLAGS) if bits >> bit & 1) for bits in range(1 << len(FLAGS))]


def folder(pair: str) -> str:
    """The pair as a folder names it: itself, unless it would be too long for a file name."""
    if len(quote(pair, safe="")) <= LONGEST_FOLDER:
        return pair
    return sha256(pair.encode()).hexdigest()
