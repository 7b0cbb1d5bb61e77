"""Which files hold the store's rows right now: those of the lake, and those of the journal that it has not yet."""
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

import adbc_driver_manager
import duckdb
from msgspec import Struct

from onetape.errors import UsageError
from onetape.model import InstrumentId
from onetape.storage.catalog import NAME, Compacted, LakeFile, Pruned, StoredInstrument, TapeId, read_catalog
from onetape.storage.schema import CHANNELS
from onetape.storage.sealed import JournalFile, open_sound, uncompacted
from onetape.storage.tables import folder
from onetape.tape.coverage import Coverage, Covered

TRIES = 20
T = TypeVar("T")


class Moment(Struct, frozen=True):
    """Every committed row is in exactly one of the files."""

    store: Path
    lake: Sequence[LakeFile]
    journal: Sequence[JournalFile]
    compacted: Sequence[Compacted]
    instruments: Sequence[StoredInstrument]
    """Of the lake."""
    coverage: dict[TapeId, Coverage]
    """Of the lake."""
    pruned: Sequence[Pruned] = ()
    """What it had, and has no longer."""


def consistently(store: Path, read: Callable[[Moment], T]) -> T:
    """Reads what is there now; should a file be merged or compacted away meanwhile, once more from what is there then.

    Raises UsageError: the files cannot be read.
    """
    for _ in range(TRIES):
        moment = look(store)
        try:
            return read(moment)
        except (OSError, sqlite3.Error, duckdb.Error, adbc_driver_manager.Error) as error:
            if _all_there(moment):
                text = " ".join(str(error).split())
                raise UsageError(f"{store} cannot be read: {text}") from error
    gone = [it.path for it in moment.lake if not (store / it.path).exists()]
    if gone:  # the catalog goes on naming it: nobody has merged it away
        raise UsageError(f"{store} cannot be read: {gone[0]} is missing")
    raise UsageError(f"{store} cannot be read: its files change faster than they can be opened")


def check(store: Path) -> None:
    """Raises UsageError: there is no store."""
    if not store.is_dir():
        raise UsageError(f"{store} is no store: there is no such folder")
    if not (store / "journal").is_dir() and not (store / NAME).exists():
        raise UsageError(f"{store} is no store: it has no journal")


def look(store: Path) -> Moment:
    """The catalog first, then the journal; anew if the catalog has gone on, for the journal may have lost a file."""
    check(store)
    for _ in range(TRIES):
        with read_catalog(store) as catalog:
            if catalog is None:
                before, moment = -1, Moment(store, (), uncompacted(store, []), (), (), {})
            else:
                with catalog.moment():
                    before, done = catalog.generation(), catalog.compacted()
                    files, instruments, coverage = catalog.files(), catalog.instruments(), catalog.coverage()
                    pruned = catalog.pruned()
                moment = Moment(store, files, uncompacted(store, done), done, instruments, coverage, pruned)
        with read_catalog(store) as catalog:
            if before == (-1 if catalog is None else catalog.generation()):
                return moment
    raise UsageError(f"{store} cannot be read: its catalog changes faster than it can be read")


def _all_there(moment: Moment) -> bool:
    return all((moment.store / it.path).exists() for it in moment.lake) and all(
        it.path.exists() for it in moment.journal)


@contextmanager
def opened(it: JournalFile) -> Iterator[sqlite3.Connection]:
    """A file of the journal, all of it as of one moment."""
    with closing(open_sound(it.path)) as file:
        file.execute("BEGIN")
        yield file


def instruments_of(file: sqlite3.Connection) -> dict[int, InstrumentId]:
    return {
        code: InstrumentId(venue, symbol)
        for code, venue, symbol in file.execute("SELECT id, venue, symbol FROM instruments ORDER BY id")
    }


def pairs_of(moment: Moment) -> dict[tuple[str, str], str]:
    """Of each venue and symbol; a pair that is known goes before the symbol, which stands where none is."""
    out: dict[tuple[str, str], str] = {}
    known = [(it.venue, it.symbol, it.pair) for it in moment.instruments]
    for it in moment.journal:
        with opened(it) as file:
            known += file.execute("SELECT venue, symbol, pair FROM instruments")
    for venue, symbol, pair in known:
        if not symbol:  # of what was quarantined, and may have been of any
            continue
        if pair not in ("", symbol) or (venue, symbol) not in out:
            out[venue, symbol] = pair or symbol
    return out


def coverage_of(moment: Moment) -> dict[TapeId, Coverage]:
    """Of lake and journal together."""
    out = moment.coverage
    for it in moment.journal:
        with opened(it) as file:
            for row in covered(file):
                known = out.setdefault((row.venue, row.symbol, row.channel), Coverage())
                known.add(row.first, row.last, row.from_time, row.to_time)
    return out


def proven_tapes(moment: Moment) -> set[TapeId]:
    """Those that have coverage: their ids are consecutive."""
    out = set(moment.coverage)
    for it in moment.journal:
        with opened(it) as file:
            known = instruments_of(file)
            for instrument, channel in file.execute("SELECT DISTINCT instrument, channel FROM coverage"):
                out.add((*known[instrument], CHANNELS[channel]))
    return out


def pruned_of(moment: Moment, table: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Of which times rows of a table are gone by policy, by venue and symbol: from and until, ns.

    Candles are known by their ends: what comes at the end of the last that is gone belongs to the next one.
    """
    beyond = 0 if table == "candles" else 1
    symbols = defaultdict(set)
    for known in moment.instruments:
        symbols[known.venue, folder(known.pair)].add(known.symbol)
    out: dict[tuple[str, str], tuple[int, int]] = {}
    for it in moment.pruned:
        for symbol in symbols[it.venue, it.pair] if it.table == table else ():
            low, until = out.get((it.venue, symbol), (it.low, it.high))
            out[it.venue, symbol] = min(low, it.low), max(until, it.high + beyond)
    return out


def count_of(moment: Moment, table: str) -> int:
    rows = sum(it.rows for it in moment.lake if it.table == table)
    for it in moment.journal:
        with opened(it) as file:
            rows += file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - names are ours
    return rows


def covered(file: sqlite3.Connection) -> Iterator[Covered]:
    """The coverage rows of a journal file."""
    known = instruments_of(file)
    for instrument, channel, *interval in file.execute(
        "SELECT instrument, channel, first, last, from_time, to_time FROM coverage ORDER BY pos"
    ):
        yield Covered(*known[instrument], CHANNELS[channel], *interval)


def line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = str(error).partition("\nLINE ")[0]  # DuckDB shows the statement too
    return " ".join(text.split()) or type(error).__name__
