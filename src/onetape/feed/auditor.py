"""Looks, one live book after the other, whether the venue's REST shows the same: when to begin, to ask and to judge."""
from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from onetape.book.audit import Audit, Match, Odd
from onetape.book.rules import BookRules, Snapshots
from onetape.book.sync import BookSync
from onetape.clock import SECOND
from onetape.model import BookDelta, BookSnapshot, TrustState

LEVELS = 50
"""A side that are compared, or as many as the book shows."""
BEFORE_NS = 3 * SECOND  # from remembering to asking: venues give answers that are a second or two old
FIRST_NS = 15 * SECOND  # until the first one
TIMES = 2  # that the same levels have to differ, where a snapshot says its time; once more where it does not
AGAIN_NS = 5 * SECOND  # what differs where nothing is numbered is looked at again so much later
CATCH_UP_NS = 5 * SECOND  # for so long a snapshot may be ahead of the stream


class Phase(StrEnum):
    RESTING = "resting"
    FOLLOWING = "following"
    """The book is remembered, the request not yet sent."""
    ASKED = "asked"
    AHEAD = "ahead"
    """The snapshot is there, and the stream has not come to its number."""


class Verdict(Struct, frozen=True):
    """Of one audit."""

    symbol: str
    match: Match
    exact: bool
    """Compared at the very number of the snapshot."""
    wrong: bool
    """The book is to be had anew."""


class Auditor:
    """Of one connection. Sans-I/O; ``every_ns`` from one audit to the next, 0: none."""

    def __init__(self, rules: BookRules, every_ns: int, now: int) -> None:
        self.symbol = ""
        """Whose book is under audit; empty: nobody's."""
        self.vain = 0
        """Audits without a result."""
        self._rules, self._every_ns = rules, every_ns
        self._phase = Phase.RESTING
        self._due = now + min(every_ns, FIRST_NS)
        self._last = ""  # the symbol that was audited last
        self._odd: dict[str, tuple[frozenset[Odd], int]] = {}  # by symbol: what differed, and how often in a row
        self._out_of_turn = False
        self._again = ""  # the symbol to look at once more, out of turn
        self._audit: Audit
        self._snapshot: BookSnapshot
        self._numbered = False

    def next_wake(self) -> int | None:
        return self._due if self._every_ns else None

    def wake(self, books: Mapping[str, BookSync], now: int) -> str | None:
        """The symbol whose snapshot is to be asked for now."""
        if not self._every_ns or now < self._due:
            return None
        match self._phase:
            case Phase.RESTING:
                self._begin(books, now)
            case Phase.FOLLOWING:
                self._phase, self._due = Phase.ASKED, now + self._every_ns  # an answer that never comes ends it
                return self.symbol
            case Phase.ASKED | Phase.AHEAD:
                self._give_up(now)
        return None

    @property
    def depth(self) -> int:
        """Of the snapshot to ask for."""
        return self._audit.depth

    def follow(self, outputs: Sequence[object], now: int) -> None:
        """What the book under audit just said."""
        for it in outputs:
            if isinstance(it, BookDelta | BookSnapshot):
                self._audit.add(it)
            else:  # it is not live any more, or just became so
                self._give_up(now)
                return
        if self._audit.overrun:
            self._give_up(now)

    def answered(self, snapshot: BookSnapshot, book: BookSync | None, now: int) -> Verdict | None:
        """Raises BadLevels."""
        if self._phase is not Phase.ASKED:
            return None
        snapshot.bids.read(), snapshot.asks.read()  # it may have to wait, and then nobody expects it to be unreadable
        self._numbered = snapshot.verification == "sequence" and self._rules.snapshots is not Snapshots.IN_BAND
        self._snapshot = snapshot
        return self.judge(book, now)

    def judge(self, book: BookSync | None, now: int) -> Verdict | None:
        """If there is a snapshot to compare with, and the stream has come so far. Raises BadLevels."""
        if book is None or book.state is not TrustState.LIVE:
            self._give_up(now)
            return None
        if self._numbered and book.verification == "sequence":
            if book.sequence < self._snapshot.sequence:
                if self._phase is not Phase.AHEAD:
                    self._phase, self._due = Phase.AHEAD, now + CATCH_UP_NS
                return None
            # A venue that tells what is different after all leaves out levels that came and went in the meantime.
            self._numbered = self._rules.snapshots is Snapshots.REST or not self._audit.divides(self._snapshot.sequence)
        else:
            self._numbered = False
        if self._numbered:
            found = self._audit.by_number(self._snapshot, book.book, book.sequence)
        else:
            found = self._audit.by_time(self._snapshot)
        return self._conclude(found, now)

    @property
    def ahead(self) -> bool:
        """A snapshot waits for the stream."""
        return self._phase is Phase.AHEAD

    def failed(self, now: int) -> None:
        """No answer, or none that could be used."""
        self._give_up(now)

    def _begin(self, books: Mapping[str, BookSync], now: int) -> None:
        """The next one in order, round and round; out of turn once where something differed."""
        live = sorted(symbol for symbol, it in books.items() if it.state is TrustState.LIVE)
        self._due = now + self._every_ns
        if not live:
            return
        following = next((it for it in live if it > self._last), live[0])
        self._out_of_turn = self._again in live
        self.symbol, self._again = self._again if self._out_of_turn else following, ""
        book = books[self.symbol]
        levels = min(book.book.window.depth or LEVELS, LEVELS)
        self._audit = Audit(book.view(now, 4 * levels), levels)
        self._phase, self._due = Phase.FOLLOWING, now + BEFORE_NS

    def _conclude(self, found: Match | None, now: int) -> Verdict | None:
        """Where no number tells the moment, only what differs several times is surely wrong."""
        symbol, exact = self.symbol, self._numbered
        if found is None:
            self._give_up(now)
            return None
        before, times = self._odd.pop(symbol, (frozenset(), 0))
        lasting = before & found.odd if before else found.odd
        times = times + 1 if lasting else 1
        timed = self._snapshot.exchange_time != self._snapshot.received_time
        wrong = found.worst < 1.0 and (exact or times >= (TIMES if timed else TIMES + 1))
        turn = self._out_of_turn
        self._rest(now)
        if found.worst < 1.0 and not wrong:
            self._odd[symbol] = lasting or found.odd, times
            if not turn or times > 1:
                self._again, self._due = symbol, min(self._due, now + AGAIN_NS)
        return Verdict(symbol, found, exact, wrong)

    def _give_up(self, now: int) -> None:
        self.vain += 1
        self._rest(now)

    def _rest(self, now: int) -> None:
        if not self._out_of_turn:
            self._last = self.symbol or self._last
        self.symbol, self._phase, self._out_of_turn = "", Phase.RESTING, False
        self._due = now + self._every_ns
