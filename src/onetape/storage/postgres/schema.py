"""The tables of PostgreSQL, and the versions that lead to them.

All in a schema of its own, ``onetape``. Times are BIGINT, ns since the epoch, UTC, and numbers NUMERIC with the digits
of the wire: nothing is rounded. Every row names where it came from: ``origin``, a writer of one store, and ``pos``, its
position in that writer's journal.
"""
from collections.abc import Mapping

from msgspec import Struct

from onetape.storage.postgres.lines import COLUMNS

SCHEMA = "onetape"
NS_PER_MONTH = 30 * 86_400 * 1_000_000_000
"""The width of a chunk of TimescaleDB."""

_NAMES = "venue TEXT NOT NULL, symbol TEXT NOT NULL"
_TIMES = "exchange_time BIGINT NOT NULL, received_time BIGINT NOT NULL, available_at BIGINT NOT NULL"
_PLACE = "origin INT NOT NULL, pos BIGINT NOT NULL"


class Table(Struct, frozen=True):
    columns: str
    """With their types, in the order of the lines that are copied into it."""
    key: str
    """By which rows are told apart, and read: an instrument's, by time."""
    month: str = ""
    """The time that a partition holds a month of; empty: one table for all times."""


TABLES: Mapping[str, Table] = {
    "trades": Table(
        f"{_NAMES}, channel TEXT NOT NULL, id TEXT NOT NULL, first_id TEXT, last_id TEXT, side TEXT NOT NULL,"
        " price NUMERIC NOT NULL, size NUMERIC NOT NULL, flags TEXT NOT NULL, source TEXT NOT NULL,"
        f" {_TIMES}, raw BYTEA, {_PLACE}",
        key="venue, symbol, channel, exchange_time, id", month="exchange_time",
    ),
    "candles": Table(
        f'{_NAMES}, interval TEXT NOT NULL, start BIGINT NOT NULL, "end" BIGINT NOT NULL, revision INT NOT NULL,'
        " final BOOLEAN NOT NULL, complete BOOLEAN NOT NULL, source TEXT NOT NULL, open NUMERIC NOT NULL,"
        " high NUMERIC NOT NULL, low NUMERIC NOT NULL, close NUMERIC NOT NULL, volume NUMERIC NOT NULL,"
        f" quote_volume NUMERIC, vwap NUMERIC, trades BIGINT, taker_buy_volume NUMERIC, {_TIMES}, {_PLACE}",
        key='venue, symbol, interval, source, "end", revision, origin, pos', month="end",
    ),
    "quotes": Table(
        f"{_NAMES}, bid_price NUMERIC, bid_size NUMERIC, ask_price NUMERIC, ask_size NUMERIC, sequence BIGINT,"
        f" {_TIMES}, {_PLACE}",
        key="venue, symbol, exchange_time, origin, pos", month="exchange_time",
    ),
    "book_snapshots": Table(
        f"{_NAMES}, sequence BIGINT NOT NULL, book JSONB NOT NULL, {_TIMES}, {_PLACE}",
        key="venue, symbol, exchange_time, origin, pos", month="exchange_time",
    ),
    "book_deltas": Table(
        f"{_NAMES}, after BIGINT NOT NULL, sequence BIGINT NOT NULL, book JSONB NOT NULL, {_TIMES}, {_PLACE}",
        key="venue, symbol, exchange_time, origin, pos", month="exchange_time",
    ),
    "feed_status": Table(
        f"{_NAMES}, channel TEXT NOT NULL, state TEXT NOT NULL, since BIGINT NOT NULL, reason TEXT NOT NULL,"
        f" received_time BIGINT NOT NULL, available_at BIGINT NOT NULL, {_PLACE}",
        key="venue, symbol, channel, available_at, origin, pos",
    ),
    "gaps": Table(
        f"{_NAMES}, channel TEXT NOT NULL, after TEXT NOT NULL, before TEXT NOT NULL, from_time BIGINT NOT NULL,"
        " to_time BIGINT NOT NULL, state TEXT NOT NULL, cause TEXT NOT NULL, recovered BIGINT NOT NULL,"
        f" available_at BIGINT NOT NULL, {_PLACE}",
        key="venue, symbol, channel, from_time, origin, pos",
    ),
    "coverage": Table(
        f"{_NAMES}, channel TEXT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, from_time BIGINT NOT NULL,"
        f" to_time BIGINT NOT NULL, {_PLACE}",
        key="venue, symbol, channel, from_time, origin, pos",
    ),
    "quarantine": Table(
        f"{_NAMES}, channel TEXT NOT NULL, reason TEXT NOT NULL, text TEXT NOT NULL, received_time BIGINT NOT NULL,"
        f" available_at BIGINT NOT NULL, {_PLACE}",
        key="origin, pos",  # its symbols may be any text, longer than an index takes
    ),
}
assert set(TABLES) == set(COLUMNS)

_TIME = "to_timestamp({} / 1e9)"

# Of an interval the newest final revision; of two stores, whose revisions do not know of each other, the complete one.
VIEWS = f"""
    CREATE VIEW {SCHEMA}.raw_trades AS
        SELECT {_TIME.format("exchange_time")} AS time, coalesce(i.pair, t.symbol) AS pair, t.*
        FROM {SCHEMA}.trades AS t LEFT JOIN {SCHEMA}.instruments AS i USING (venue, symbol);
    CREATE VIEW {SCHEMA}.market_data AS
        SELECT DISTINCT ON (c.venue, c.symbol, c.interval, c."end")
            {_TIME.format('c."end"')} AS time, coalesce(i.pair, c.symbol) AS pair, c.*
        FROM {SCHEMA}.candles AS c LEFT JOIN {SCHEMA}.instruments AS i USING (venue, symbol)
        WHERE c.source = 'trades' AND c.final
        ORDER BY c.venue, c.symbol, c.interval, c."end", c.complete DESC, c.revision DESC, c.available_at DESC;
"""  # noqa: S608 - names are ours

OWN = f"""
    CREATE TABLE {SCHEMA}.origins (
        origin INT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, store TEXT NOT NULL, writer TEXT NOT NULL,
        position BIGINT NOT NULL, committed_at BIGINT NOT NULL, UNIQUE (store, writer));
    CREATE TABLE {SCHEMA}.instruments (
        venue TEXT NOT NULL, symbol TEXT NOT NULL, pair TEXT NOT NULL, PRIMARY KEY (venue, symbol));
    CREATE TABLE {SCHEMA}.refused (
        tbl TEXT NOT NULL, line BYTEA NOT NULL, reason TEXT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now());
"""


def create(name: str, *, hypertable: bool) -> str:
    """The statements that make a table; a hypertable makes its own partitions."""
    it = TABLES[name]
    by_month = "" if hypertable or not it.month else f' PARTITION BY RANGE ("{it.month}")'
    out = f"CREATE TABLE {SCHEMA}.{name} ({it.columns}, PRIMARY KEY ({it.key})){by_month};"
    if hypertable and it.month:
        out += (
            f"SELECT create_hypertable('{SCHEMA}.{name}', by_range('{it.month}', {NS_PER_MONTH}::bigint),"
            " create_default_indexes => FALSE);"
        )
    return out


def first(*, hypertables: bool) -> str:
    """Version 1."""
    return OWN + "".join(create(name, hypertable=hypertables) for name in TABLES) + VIEWS


VERSION = 1
"""Of this schema; a database of a newer one is refused."""
