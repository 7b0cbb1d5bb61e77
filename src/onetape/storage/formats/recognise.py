"""Says which format a file has, by its first line alone, and opens it as events."""
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain

from msgspec import Struct

from onetape.errors import UsageError
from onetape.model import Event
from onetape.storage.formats import binance_csv, tardis_csv
from onetape.storage.formats.rows import Read, Wanted, bad
from onetape.storage.formats.source import lines, size

FORMATS = ("tardis", "binance")
KNOWN = (
    "known are CSV of Tardis (trades, incremental_book_L2, quotes, book_snapshot_N) and the archives of Binance"
    " (trades, aggTrades, klines)"
)


class Opened(Struct, frozen=True):
    """A file whose first line is understood."""

    wanted: Wanted
    format: str
    layout: str
    head: bool
    """Its first line names the columns."""
    bytes: int
    read: Read

    def events(self, tell: Callable[[int], None] = lambda _: None) -> Iterator[tuple[int, Event]]:
        """With the numbers of their lines. Raises UsageError, which names the line, when it comes to what is wrong."""
        found = lines(self.wanted.path, tell)
        with closing(found):  # type: ignore[type-var]  # a generator, and it can be closed
            if self.head:
                next(found, None)
            yield from self.read(_no_empty_end(found, self.wanted), self.wanted)


def opened(wanted: Wanted, format: str | None = None) -> Opened:
    """Raises UsageError: it cannot be read, or is of no known format, or of another than ``format``."""
    path, bytes = wanted.path, size(wanted.path)
    with closing(lines(path)) as found:  # type: ignore[type-var]  # likewise
        first = next((text for _, text in found), None)
    if first is None:
        raise UsageError(f"{path} is empty")
    if (of_tardis := tardis_csv.reader(first)) is not None:
        it = Opened(wanted, "tardis", of_tardis[0], True, bytes, of_tardis[1])
    elif (of_binance := binance_csv.recognised(first)) is not None:
        it = Opened(wanted, "binance", of_binance[0], of_binance[1], bytes, binance_csv.reader(of_binance[0]))
    else:
        raise bad(wanted, 1, f"no known columns: {first[:60]!r}; {KNOWN}")
    if format is not None and format != it.format:
        raise UsageError(f"{path} is of {it.format} ({it.layout}), not of {format}")
    return it


def _no_empty_end(found: Iterator[tuple[int, str]], wanted: Wanted) -> Iterator[tuple[int, str]]:
    """Empty lines at the end are no rows; elsewhere they are damage."""
    for line, text in found:
        if text:
            yield line, text
            continue
        for later, rest in chain([(line, text)], found):
            if rest:
                raise bad(wanted, later - 1, "an empty line")
