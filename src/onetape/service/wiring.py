"""Follows a probe from each kind of event to a stored row, before anything is collected: no feed without a store."""
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from onetape.clock import SECOND
from onetape.errors import UsageError
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    FeedError,
    FeedStatus,
    GapOpened,
    Levels,
    Quote,
    Side,
    Trade,
    TrustState,
)
from onetape.pipeline import Policy
from onetape.storage.following import Portion, next_portion
from onetape.storage.journal import Journal
from onetape.storage.lake import Lake
from onetape.storage.schema import TABLES, WRITERS, Record
from onetape.tape.coverage import Covered

AT = 1_700_000_000 * SECOND
"""The time of the probe."""
_ONE = Decimal("1.10")
_WHOSE: Any = {"venue": "probe", "symbol": "probe", "received_time": AT, "available_at": AT}
_LEVELS = Levels.of([(_ONE, _ONE)])

# What a channel brings that is to be kept, and the tables that also have to take what is said of it.
BRINGS: Mapping[Channel, Sequence[type]] = MappingProxyType({
    Channel.TRADES: (Trade, Candle, GapOpened, Covered),
    Channel.AGG_TRADES: (Trade, Candle, GapOpened, Covered),
    Channel.QUOTES: (Quote,),
    Channel.CANDLES: (Candle,),
    Channel.BOOK: (BookSnapshot, BookDelta, FeedStatus),
})
PROBES: Sequence[Record] = (
    Trade(**_WHOSE, exchange_time=AT, channel=Channel.TRADES, id="1", after=0, price=_ONE, size=_ONE, side=Side.BUY),
    Candle(
        **_WHOSE, exchange_time=AT, interval="1m", start=AT, end=AT + 60 * SECOND, open=_ONE, high=_ONE, low=_ONE,
        close=_ONE, volume=_ONE, quote_volume=_ONE, vwap=_ONE, trades=1, taker_buy_volume=_ONE, complete=True,
        final=True, source="trades",
    ),
    Quote(**_WHOSE, exchange_time=AT, bid=(_ONE, _ONE), ask=(_ONE, _ONE), sequence=1),
    BookSnapshot(
        **_WHOSE, exchange_time=AT, sequence=1, bids=_LEVELS, asks=_LEVELS, depth=0, verification="none",
    ),
    BookDelta(**_WHOSE, exchange_time=AT, after=0, sequence=1, bids=_LEVELS, asks=_LEVELS),
    FeedStatus(**_WHOSE, exchange_time=AT, channel=Channel.BOOK, state=TrustState.LIVE, since=AT, reason="a\tprobe\\n"),
    GapOpened(
        **_WHOSE, exchange_time=AT, channel=Channel.TRADES, after="1", before="3", from_time=AT, to_time=AT,
        cause="a probe",
    ),
    Covered("probe", "probe", Channel.TRADES, 1, 1, AT, AT),
    FeedError(**_WHOSE, channel="", reason="a probe", quarantined=True, text="\0\t\n\\ ' \" \ufffd"),
)
"""One of each kind that has a table, with what a text may hold at worst."""


@contextmanager
def probe() -> Iterator[Portion]:
    """A journal of its own with a row in every table."""
    with TemporaryDirectory(prefix="onetape-probe-") as folder:
        with Journal(Path(folder), pair_of=lambda *_: "PROBE") as journal:
            for it in PROBES:
                journal.add(it)
            journal.commit(journal.take(AT))
        portion = next_portion(Path(folder), "main", 0)
        assert portion is not None
        yield portion


def check_store() -> None:
    """That the journal takes every kind of event, and that what it took is read again. Raises UsageError."""
    with probe() as portion, Lake(portion.path.parents[2]) as lake:
        wanted = Counter(WRITERS[type(it)][0] for it in PROBES)
        compare(wanted, {table: lake.count(table) for table in wanted}, "the store")


def compare(wanted: Mapping[str, int], found: Mapping[str, int], store: str) -> None:
    """Raises UsageError: rows did not come where they belong."""
    lost = [table for table in wanted if found.get(table, 0) != wanted[table]]
    if lost:
        raise UsageError(
            f"{store} did not take what was sent to try it: {', '.join(lost)}: nothing would be kept of these",
        )


def unstored(channels: Sequence[Channel], policy: Policy) -> dict[Channel, str]:
    """The channels of which nothing will be kept, each with the reason."""
    out = {}
    for it in channels:
        if it not in BRINGS:
            out[it] = "it has no table: it is published, and not kept"
        elif it is Channel.QUOTES and not policy.quotes:
            out[it] = "keep.quotes is off: it is published, and not kept"
    return out


assert {WRITERS[type(it)][0] for it in PROBES} == set(TABLES) - {"batches", "instruments"}
assert all(kind in WRITERS for of in BRINGS.values() for kind in of)
