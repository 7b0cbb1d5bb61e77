"""Rows of the journal as the lines of PostgreSQL's COPY: SQLite writes them, no value passes through Python.

The text format of COPY: columns apart by tabs, NULL as ``\\N``, a backslash before what would end a column or a line.
https://www.postgresql.org/docs/current/sql-copy.html
"""
import sqlite3
from collections.abc import Iterator, Mapping, Sequence

from onetape.storage.following import Portion
from onetape.storage.schema import CHANNELS, FLAGS, SIDES, SOURCES, STATES

AT_ONCE = {"book_snapshots": 10, "book_deltas": 100, "quarantine": 10}
"""Lines that are sent together, where one may be long; else 1,000."""
NUL, REPLACEMENT = b"\0", "\ufffd".encode()
"""PostgreSQL takes no NUL in a text; quarantined frames may have some."""


def _text(column: str) -> str:
    """Any text, with what COPY would take for its own."""
    out = f"replace(\"{column}\", '\\', '\\\\')"
    for code, word in ((9, "\\t"), (10, "\\n"), (13, "\\r")):
        out = f"replace({out}, char({code}), '{word}')"
    return out


def _maybe(sql: str) -> str:
    return f"ifnull({sql}, '\\N')"


def _id(column: str) -> str:
    return f"CASE typeof(\"{column}\") WHEN 'integer' THEN \"{column}\" ELSE {_text(column)} END"


def _word(column: str, words: Sequence[str]) -> str:
    cases = " ".join(f"WHEN {code} THEN '{it}'" for code, it in enumerate(words))
    return f'CASE "{column}" {cases} END'


def _scaled(column: str, scale: str) -> str:
    """A mantissa as PostgreSQL reads it: 1050e-2 is 10.50, with both digits."""
    return f"\"{column}\" || 'e-' || ({scale})"


def _same(*columns: str) -> dict[str, str]:
    return {it: f'"{it}"' for it in columns}


def _numbers(*columns: str) -> dict[str, str]:
    return {it: _maybe(f'"{it}"') for it in columns}


def _flags() -> str:
    """As words with commas between them; a case for each combination, for most rows have none."""
    words = (",".join(it for bit, it in enumerate(FLAGS) if bits >> bit & 1) for bits in range(1 << len(FLAGS)))
    return _word("flags", tuple(words))


_TIMES = ("exchange_time", "received_time", "available_at")
_CHANNEL = {"channel": _word("channel", CHANNELS)}
_BODY = {"book": "replace(cast(body AS text), '\\', '\\\\')"}  # JSON, which has no other control characters

# By table, its columns as of storage/postgres/schema.py, but for venue and symbol, and origin and pos.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "trades": {
        **_CHANNEL, "id": _id("id"), "first_id": _maybe(_id("first_id")), "last_id": _maybe(_id("last_id")),
        "side": _word("side", SIDES), "price": _scaled("price", "scales >> 8"), "size": _scaled("size", "scales & 255"),
        "flags": _flags(), "source": _word("source", SOURCES), **_same(*_TIMES),
        "raw": "CASE WHEN raw IS NULL THEN '\\N' ELSE '\\\\x' || hex(raw) END",
    },
    "candles": {
        **_same("interval", "start", "end", "revision", "final", "complete", "source"),
        **_numbers("open", "high", "low", "close", "volume", "quote_volume", "vwap", "trades", "taker_buy_volume"),
        **_same(*_TIMES),
    },
    "quotes": {**_numbers("bid_price", "bid_size", "ask_price", "ask_size", "sequence"), **_same(*_TIMES)},
    "book_snapshots": {**_same("sequence"), **_BODY, **_same(*_TIMES)},
    "book_deltas": {**_same("after", "sequence"), **_BODY, **_same(*_TIMES)},
    "feed_status": {
        **_CHANNEL, "state": _word("state", STATES), **_same("since"), "reason": _text("reason"),
        **_same("received_time", "available_at"),
    },
    "gaps": {
        **_CHANNEL, "after": _text("after"), "before": _text("before"), **_same("from_time", "to_time", "state"),
        "cause": _text("cause"), **_same("recovered", "available_at"),
    },
    "coverage": {**_CHANNEL, **_same("first", "last", "from_time", "to_time")},
    "quarantine": {
        "channel": _text("channel"), "reason": _text("reason"), "text": _text("text"),
        **_same("received_time", "available_at"),
    },
}


def columns(table: str) -> list[str]:
    """In the order of the lines."""
    return ["venue", "symbol", *COLUMNS[table], "origin", "pos"]


def prepare(file: sqlite3.Connection) -> None:
    """The instruments of the file as the two columns with which every line begins."""
    name = f"{_text('venue')} || char(9) || {_text('symbol')}"
    file.execute(f"CREATE TEMP TABLE named AS SELECT id AS code, {name} AS name FROM instruments")  # noqa: S608
    file.execute("CREATE UNIQUE INDEX temp.named_code ON named(code)")


def lines(file: sqlite3.Connection, it: Portion, table: str, origin: int) -> Iterator[bytes]:
    """The rows of a portion, some lines together."""
    name, source = "name", f"{table} JOIN named ON code = instrument"
    if table == "quarantine":  # which names what may be no instrument
        name, source = f"{_text('venue')} || char(9) || {_text('symbol')}", table
    values = " || char(9) || ".join(f"({sql})" for sql in COLUMNS[table].values())
    sql = (  # names are ours
        f"SELECT {name} || char(9) || {values} || char(9) || {origin} || char(9) || pos FROM {source}"  # noqa: S608
        " WHERE pos > ? AND pos <= ? ORDER BY pos"
    )
    cursor = file.execute(sql, (it.after, it.until))
    while rows := cursor.fetchmany(AT_ONCE.get(table, 1_000)):
        chunk = "\n".join([text for (text,) in rows]).encode()
        yield chunk.replace(NUL, REPLACEMENT) + b"\n"
