"""Compares what is published with what the simulator knows to be true."""
from collections.abc import Callable, Mapping
from decimal import Decimal
from heapq import nlargest, nsmallest

from msgspec import Struct

from onetape.book.sync import BookSync
from onetape.clock import MICROSECOND
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Event,
    GapClosed,
    GapOpened,
    InstrumentId,
    Level,
    Side,
    Trade,
    TrustState,
)
from onetape.sim.truth import Truth

MAX_FINDINGS = 20
SUMMED = 10  # levels that a checksum covers: what is lost below them cannot be seen
BY_TIME = frozenset({"kraken"})
"""Venues whose books carry no number of the venue's: their moment is their time, to a microsecond."""


class Verdict(Struct):
    trades: int = 0
    missing: int = 0
    """Trades between the first and the last one that came, which never came."""
    untold: int = 0
    """Of those, the ones that no gap speaks of; and those that a gap speaks of though they came or never were."""
    books: int = 0
    wrong: int = 0
    """Trades and books that differ from the truth."""
    findings: list[str] = []
    """The first of them, in words."""

    def __str__(self) -> str:
        return (
            f"compared with the truth: {self.trades:,} trades, {self.missing} missing, {self.untold} of them untold; "
            f"{self.books:,} books; {self.wrong} wrong"
        )


class _Mirror:
    """A true book, moved forward to the moment of each published one."""

    __slots__ = ("asks", "bids", "sequence", "truth")

    def __init__(self, truth: Truth, sequence: int) -> None:
        self.truth = truth
        book = truth.book_at(sequence)
        self.sequence = sequence
        self.bids = dict(book.bids) if book else {}
        self.asks = dict(book.asks) if book else {}

    def move(self, sequence: int | None, time: int) -> None:
        """To a sequence, or to a time."""
        for change in self.truth.changes_since(self.sequence):
            if change.time // MICROSECOND > time // MICROSECOND if sequence is None else change.sequence > sequence:
                break
            side = self.bids if change.bid else self.asks
            if change.size:
                side[change.price] = change.size
            else:
                side.pop(change.price, None)
            self.sequence = change.sequence


class Referee:
    """Sees every published event, and the books as they are then."""

    def __init__(
        self, truths: Mapping[tuple[str, str], Truth], depth: int = 100,
        shift: Callable[[BookDelta | BookSnapshot], int] = lambda _: 0, *, promised: bool = False,
    ) -> None:
        """``depth``: levels that are compared; ``promised``: only those for which the book's verification stands.

        ``shift``: by how much the venue's clock was wrong, ns.
        """
        self.verdict = Verdict()
        self.shift = shift
        self._truths, self._depth, self._promised = truths, depth, promised
        self._mirrors: dict[InstrumentId, _Mirror] = {}
        self._ids: dict[InstrumentId, set[int]] = {}
        self._gaps: dict[InstrumentId, dict[tuple[str, str], None]] = {}  # open ones, by (after, before)

    def add(self, it: Event, book: BookSync | None) -> None:
        """``book``: of the event's instrument, as it is now."""
        match it:
            case Trade():
                self._trade(it)
            case GapOpened():
                self._gaps.setdefault(InstrumentId(it.venue, it.symbol), {})[it.after, it.before] = None
            case GapClosed():
                self._gaps.get(InstrumentId(it.venue, it.symbol), {}).pop((it.after, it.before), None)
            case BookDelta() | BookSnapshot() if book is not None and book.sequence == it.sequence:
                if book.state is TrustState.LIVE:
                    self._book(it, book)
            case _:
                pass

    def finish(self) -> Verdict:
        for id, ids in self._ids.items():
            missing = set(range(min(ids), max(ids) + 1)) - ids
            told = {it for after, before in self._gaps.get(id, ()) for it in range(int(after) + 1, int(before))} - ids
            untold = len(missing ^ told)
            self.verdict.missing += len(missing)
            self.verdict.untold += untold
            if untold:
                self._say(f"{id}: of {len(missing)} trades missing {untold} untold")
        return self.verdict

    def _trade(self, it: Trade) -> None:
        id = InstrumentId(it.venue, it.symbol)
        truth = self._truths[id]
        listing = truth.listing
        self.verdict.trades += 1
        self._ids.setdefault(id, set()).add(int(it.id))
        (match,) = truth.matches_from(int(it.id), 1)
        true = (str(match.id), match.price * listing.tick, match.size * listing.lot, match.buy)
        if (it.id, it.price, it.size, it.side is Side.BUY) != true:
            self.verdict.wrong += 1
            self._say(f"{id}: trade {it} is not {match}")

    def _book(self, it: BookDelta | BookSnapshot, book: BookSync) -> None:
        id = book.id
        truth = self._truths[id]
        by_time = id.venue in BY_TIME
        time = it.exchange_time - self.shift(it)
        mirror = self._mirrors.get(id)
        if mirror is None or (not by_time and mirror.sequence > it.sequence):
            started = truth.book_at_time(time + MICROSECOND - 1) if by_time else truth.book_at(it.sequence)
            if started is None:
                return
            mirror = self._mirrors[id] = _Mirror(truth, started.sequence)
        mirror.move(None if by_time else it.sequence, time)
        self.verdict.books += 1
        depth = SUMMED if self._promised and book.verification.startswith("checksum") else self._depth
        bids, asks = book.book.bids(depth), book.book.asks(depth)
        listing = truth.listing
        true_bids = _scaled(nlargest(len(bids), mirror.bids), mirror.bids, listing.tick, listing.lot)
        true_asks = _scaled(nsmallest(len(asks), mirror.asks), mirror.asks, listing.tick, listing.lot)
        if bids != true_bids or asks != true_asks:
            self.verdict.wrong += 1
            self._say(f"{id}: the book at {it.sequence} differs from the truth at {mirror.sequence}")

    def _say(self, finding: str) -> None:
        if len(self.verdict.findings) < MAX_FINDINGS:
            self.verdict.findings.append(finding)


def _scaled(prices: list[int], sizes: Mapping[int, int], tick: Decimal, lot: Decimal) -> list[Level]:
    return [(price * tick, sizes[price] * lot) for price in prices]
