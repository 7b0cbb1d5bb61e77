"""Compares what is published with what the simulator knows to be true."""
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from msgspec import Struct

from onetape.book.sync import BookSync
from onetape.clock import SECOND
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Event,
    GapClosed,
    GapOpened,
    InstrumentId,
    Level,
    Side,
    Skipped,
    Trade,
    TrustState,
)
from onetape.sim.base import Change
from onetape.sim.simulator import Simulator
from onetape.sim.truth import Book, Truth
from onetape.venues import capabilities

MAX_FINDINGS = 20
SUMMED = 10  # levels that a checksum covers: what is lost below them cannot be seen
BEHIND_NS = 5 * SECOND  # where the clock is wrong: what another connection showed may be so much older
SKEWS_NS = (10 * SECOND, 5 * SECOND, 2 * SECOND, 0)


class Verdict(Struct):
    trades: int = 0
    missing: int = 0
    """Trades between the first and the last one that came, which never came."""
    untold: int = 0
    """Of those, the ones that no gap speaks of; and those that a gap speaks of though they came or never were."""
    books: int = 0
    wrong: int = 0
    """Trades and books that differ from the truth."""
    unproven: int = 0
    """Where only what is promised is compared: books that differ, and say themselves that nothing verifies them."""
    silent: list[str] = []
    """Instruments that brought no trade at all: nothing of theirs could be compared."""
    how: str = ""
    """What of the books was compared, where it was not all that is shown."""
    findings: list[str] = []
    """The first of them, in words."""

    def __str__(self) -> str:
        return (
            f"compared with the truth: {self.trades:,} trades, {self.missing} missing, {self.untold} of them untold; "
            f"{self.books:,} books{self.how}; {self.wrong} wrong"
            + (f"; {self.unproven} differ that nothing verifies, and say so" if self.unproven else "")
            + (f"; no trade of {', '.join(self.silent)}" if self.silent else "")
        )


class _Mirror:
    """A true book, moved forward to the moment of each published one."""

    __slots__ = ("asks", "bids", "sequence", "truth")

    def __init__(self, truth: Truth, book: Book) -> None:
        self.truth, self.sequence = truth, book.sequence
        self.bids, self.asks = dict(book.bids), dict(book.asks)

    def move(self, until: Callable[[Change], bool]) -> None:
        """Past all changes for which ``until`` holds."""
        for change in self.truth.changes_since(self.sequence):
            if not until(change):
                break
            side = self.bids if change.bid else self.asks
            if change.size:
                side[change.price] = change.size
            else:
                side.pop(change.price, None)
            self.sequence = change.sequence

    def equals(self, bids: list[Level], asks: list[Level]) -> bool:
        tick, lot = self.truth.listing.tick, self.truth.listing.lot
        return (
            bids == _scaled(sorted(self.bids, reverse=True)[:len(bids)], self.bids, tick, lot)
            and asks == _scaled(sorted(self.asks)[:len(asks)], self.asks, tick, lot)
        )


class Referee:
    """Sees every published event, and the books as they are then."""

    def __init__(
        self, simulator: Simulator, depth: int = 100, *, promised: bool = False,
    ) -> None:
        """``depth``: levels that are compared; ``promised``: only those for which the book's verification stands."""
        self.verdict = Verdict(how=f" (of those with a checksum the best {SUMMED})" if promised else "")
        self._venues, self._truths = simulator.venues, simulator.truths
        self._depth, self._promised = depth, promised
        self._mirrors: dict[InstrumentId, _Mirror] = {}
        self._ids: dict[InstrumentId, set[int]] = {}
        self._gaps: dict[InstrumentId, dict[tuple[int, int], None]] = {}  # open ones, by (after, before)

    def add(self, it: Event, book: BookSync | None) -> None:
        """``book``: of the event's instrument, as it is now."""
        match it:
            case Trade() | Skipped() | GapOpened() | GapClosed() if it.channel is not capabilities(it.venue).tape:
                pass  # another series of ids, which the truth does not know
            case Trade():
                self._trade(it)
            case Skipped():
                self._skipped(it)
            case GapOpened():
                self._gaps.setdefault(InstrumentId(it.venue, it.symbol), {})[self._range(it)] = None
            case GapClosed(healed=True):
                self._gaps.get(InstrumentId(it.venue, it.symbol), {}).pop(self._range(it), None)
            case BookDelta() | BookSnapshot() if book is not None and book.sequence == it.sequence:
                if book.state is TrustState.LIVE:
                    self._book(it, book)
            case _:
                pass

    def finish(self, wanted: Iterable[InstrumentId] = ()) -> Verdict:
        """``wanted``: instruments of which something should have come."""
        self.verdict.silent = sorted(str(id) for id in set(wanted) if id not in self._ids)
        for id, ids in self._ids.items():
            seen = range(min(ids), max(ids) + 1)  # a gap since the run before is no matter of this one
            never = set(self._venues[id.venue].skipped(id.symbol))  # the venue has no such trades
            missing = set(seen) - ids - never
            gaps = self._gaps.get(id, ())
            told = {it for after, before in gaps for it in range(after + 1, before) if it in seen} - ids - never
            untold = len(missing ^ told)
            self.verdict.missing += len(missing)
            self.verdict.untold += untold
            if untold:
                self._say(f"{id}: of {len(missing)} trades missing {untold} untold")
        return self.verdict

    def _range(self, it: GapOpened | GapClosed) -> tuple[int, int]:
        number = self._venues[it.venue].number
        return number(it.after), number(it.before)

    def _skipped(self, it: Skipped) -> None:
        """Ids that the venue has not given."""
        id, venue = InstrumentId(it.venue, it.symbol), self._venues[it.venue]
        for number in range(venue.number(it.first), venue.number(it.last) + 1):
            self._ids.setdefault(id, set()).add(number)
            if venue.match(it.symbol, number) is not None:
                self.verdict.wrong += 1
                self._say(f"{id}: trade {number} was passed over")

    def _trade(self, it: Trade) -> None:
        id, venue = InstrumentId(it.venue, it.symbol), self._venues[it.venue]
        listing = self._truths[id].listing
        number = venue.number(it.id)
        match = venue.match(it.symbol, number)
        self.verdict.trades += 1
        if number in self._ids.setdefault(id, set()):
            self.verdict.wrong += 1
            self._say(f"{id}: trade {it.id} came twice")
        self._ids[id].add(number)
        true = match and (match.price * listing.tick, match.size * listing.lot, match.buy)
        if (it.price, it.size, it.side is Side.BUY) != true:
            self.verdict.wrong += 1
            self._say(f"{id}: trade {it} is not {match}")

    def _book(self, it: BookDelta | BookSnapshot, book: BookSync) -> None:
        depth = SUMMED if self._promised and book.verification.startswith("checksum") else self._depth
        bids, asks = book.book.bids(depth), book.book.asks(depth)
        find = self._by_time if self._venues[it.venue].book_clock_ns else self._by_sequence
        equal = find(it, self._truths[book.id], bids, asks)
        if equal is None:
            return
        self.verdict.books += 1
        if not equal and self._promised and book.verification == "none":
            self.verdict.unproven += 1
        elif not equal:
            self.verdict.wrong += 1
            self._say(f"{book.id}: the book at {it.sequence} differs from the truth")

    def _by_sequence(
        self, it: BookDelta | BookSnapshot, truth: Truth, bids: list[Level], asks: list[Level],
    ) -> bool | None:
        """None: too long ago to say."""
        id = InstrumentId(it.venue, it.symbol)
        mirror = self._mirrors.get(id)
        if mirror is None or mirror.sequence > it.sequence:
            known = truth.book_at(it.sequence)
            if known is None:
                return None
            mirror = self._mirrors[id] = _Mirror(truth, known)
        mirror.move(lambda change: change.sequence <= it.sequence)
        return mirror.equals(bids, asks)

    def _by_time(
        self, it: BookDelta | BookSnapshot, truth: Truth, bids: list[Level], asks: list[Level],
    ) -> bool | None:
        """At the venue's time; where the venue's clock is wrong, at any time after the book before it."""
        id, clock_ns = InstrumentId(it.venue, it.symbol), self._venues[it.venue].book_clock_ns
        time = it.exchange_time // clock_ns
        mirror = self._mirrors.get(id)
        if mirror is None:
            known = _long_before(truth, it.exchange_time)
            if known is None:
                return None
            mirror = self._mirrors[id] = _Mirror(truth, known)
        begun = mirror.sequence
        if not truth.knows(begun):
            return None
        mirror.move(lambda change: change.time // clock_ns <= time)
        if mirror.equals(bids, asks):
            return True
        before = truth.book_at(begun)  # only now: to rebuild it takes longer than all the rest
        assert before is not None
        then = truth.book_at_time(time * clock_ns + clock_ns - 1)
        if then is not None and then.sequence < before.sequence:  # of another connection, a little behind
            mirror = self._mirrors[id] = _Mirror(truth, then)
            if mirror.equals(bids, asks):
                return True
        earlier = truth.book_at_time(before.time - BEHIND_NS) or before
        mirror = self._mirrors[id] = _Mirror(truth, earlier)
        for moment in sorted({change.time for change in truth.changes_since(earlier.sequence)}):
            mirror.move(lambda change, moment=moment: change.time <= moment)  # type: ignore[misc]
            if mirror.equals(bids, asks):
                return True
        self._mirrors[id] = _Mirror(truth, before)
        return False

    def _say(self, finding: str) -> None:
        if len(self.verdict.findings) < MAX_FINDINGS:
            self.verdict.findings.append(finding)


def _long_before(truth: Truth, time: int) -> Book | None:
    """As early as is known, within what a clock may be wrong."""
    return next((book for back in SKEWS_NS if (book := truth.book_at_time(time - back)) is not None), None)


def _scaled(prices: list[int], sizes: Mapping[int, int], tick: Decimal, lot: Decimal) -> list[Level]:
    return [(price * tick, sizes[price] * lot) for price in prices]
