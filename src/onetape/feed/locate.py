"""Finds where on a venue's tape a time lies: the last trade before it, and the first one from then on.

Sans-I/O. Where REST can be asked by time its answer says around which id to look; else the ids, which are consecutive,
are bisected. The two trades are believed when pages have shown them as neighbours, and none has shown others.

    by time ──around which id──> page ──neighbours──> page ──the same──> found
    newest ──bisected ids──────────┘ └──another id──┘
"""
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from onetape.clock import SECOND
from onetape.errors import BadFrame, UsageError
from onetape.model import Request, Trade
from onetape.venues.base import Search, Venue

PROOFS = 2
MORE_PROOFS = 3  # that there is nothing, and where ids cannot be asked for: by them others would be found out
MAX_PAGES = 100  # without a result: then what was believed so far is not true
MAX_MISFITS = 5  # in a row: likewise
STEP_NS = SECOND  # back from the time, where a venue is asked by time alone; then four times as far, and again
SKIPPED = 1_000  # ids that a venue may leave out


class Place(Struct, frozen=True):
    """Two neighbours on the tape, by id."""

    before: Trade | None
    """The last trade before the time; None: the venue has none so old."""
    behind: Trade | None
    """The first one at or after it; None: there is none yet."""


class Locate:
    """Of one time on one tape: ``request``, then ``receive`` its rows, until ``found``; after BadFrame as well."""

    def __init__(self, venue: Venue, symbol: str, time: int) -> None:
        """``time``: ns. Raises UsageError: the venue shows its newest trades alone."""
        if venue.spec.history.newest_only:
            raise UsageError(f"{venue.spec.name} gives its newest trades alone: no time can be looked for")
        self.found: Place | None = None
        self._venue, self._symbol, self._time = venue, symbol, time
        self._begin()

    def _begin(self) -> None:
        self._search = self._venue.spec.history.search
        self._started = self._search is Search.NEVER
        self._below: Trade | None = None  # the highest that is before the time
        self._behind: Trade | None = None  # the lowest that is not
        self._candidate = 0  # the id of ``behind``, as an aggregate says
        self._floor = 0  # nothing that is not before the time is there up to this id
        self._ceiling = 0  # of pages that begin with an id: nothing is there from this one up to ``behind``
        self._back = 0 if self._search is Search.FROM else SKIPPED  # ids from ``behind`` down to where to look
        self._since, self._step = self._time, STEP_NS
        self._newest = False  # it is asked for next
        self._misfits = self._pages = 0
        self._proofs: Counter[tuple[str, int, str, int]] = Counter()

    def request(self) -> Request:
        centre = self._centre()
        if not self._started:
            request = self._venue.trades_request(self._symbol, None, None, self._time)
        elif centre is None:
            request = self._venue.trades_request(self._symbol, None, None, None)
        elif self._search is Search.ONLY:
            request = self._venue.trades_request(self._symbol, None, None, self._since)
        else:
            request = self._venue.trades_request(self._symbol, str(max(centre - 1, 0)), str(centre + 1), None)
        assert request is not None  # of a venue that shows more than its newest
        return request

    def receive(self, rows: Sequence[Trade]) -> None:
        """Of the last request, ascending. Raises BadFrame: it cannot be true, or another one was not."""
        try:
            if self._started:
                self._take(rows)
            else:
                self._start(rows)
        except BadFrame:
            self._misfits += 1
            if self._misfits >= MAX_MISFITS:
                self._begin()
            raise
        self._misfits = 0

    # --- one answer -------------------------------------------------------------------------------------------------

    def _start(self, rows: Sequence[Trade]) -> None:
        """To the question by time alone."""
        self._started = True
        if rows and rows[0].channel is not self._venue.spec.capabilities.tape:
            self._candidate = int(rows[0].first_id or 0)
        elif rows:
            self._narrow(rows)
        elif self._search is Search.UNTIL:  # nothing is so old: the ids tell where it begins
            self._search = Search.NEVER

    def _take(self, rows: Sequence[Trade]) -> None:
        centre, self._candidate, self._newest = self._centre(), 0, False
        self._check(rows, centre)
        known = self._below
        self._narrow(rows)
        self._doubt()
        there = next(((a, b) for a, b in pairwise(rows) if a.exchange_time < self._time <= b.exchange_time), None)
        if there is not None:
            self._prove(*there)
        elif not rows and centre is None:
            self._prove(None, None)
        elif not rows:
            self._floor = (centre or 0) + 1
        elif rows[0].exchange_time >= self._time:
            self._take_later(rows, centre)
        else:
            self._take_earlier(rows, centre, known)

    def _take_later(self, rows: Sequence[Trade], centre: int | None) -> None:
        """None of them is before the time: perhaps none is so old."""
        if self._search is Search.ONLY:
            if self._since <= 0:
                self._prove(None, rows[0])
            self._since, self._step = max(self._time - self._step, 0), self._step * 4
        elif self._search is not Search.FROM:
            if int(rows[0].id) == centre and self._below is None:  # else the page had begun below it
                self._prove(None, rows[0])
            else:
                self._back *= 4
        elif self._below is not None:  # the page begins behind what the venue does not have
            self._ceiling = max((centre or 0) - 1, 1)
        elif centre is not None and (centre == 1 or int(rows[0].id) >= centre + SKIPPED):
            self._prove(None, rows[0])
        elif centre is not None:  # else it was the newest page
            self._back = max(self._back * 4, SKIPPED)

    def _take_earlier(self, rows: Sequence[Trade], centre: int | None, known: Trade | None) -> None:
        """All of them are before the time: perhaps there are no others."""
        self._since = rows[-1].exchange_time
        if centre is not None and self._search in (Search.UNTIL, Search.NEVER) and self._behind is not None:
            self._floor = max(self._floor, min(centre, int(self._behind.id) - 2) + 1)  # what lies between is not there
        if self._behind is not None or known is None or known.id != rows[-1].id:
            return
        if centre is None:
            self._prove(known, None)
        self._newest = True

    def _check(self, rows: Sequence[Trade], centre: int | None) -> None:
        """That an answer may be to what was asked. Raises BadFrame."""
        if not rows or centre is None or self._search is Search.ONLY:
            if not rows and centre is not None and self._search in (Search.ONLY, Search.FROM):
                raise BadFrame("an empty answer where trades are known", self._symbol)
            return
        low, high = int(rows[0].id), int(rows[-1].id)
        fits = centre - SKIPPED <= high <= centre + 1
        if self._search is Search.FROM:
            known = centre if self._below is None or self._behind is None else max(centre, int(self._behind.id))
            fits = centre - 1 <= low and (low <= known or self._back > 0)
        if not fits:
            raise BadFrame(f"an answer of something else: the ids {low} to {high} for {centre}", self._symbol)

    def _doubt(self) -> None:
        """Of all that is believed so far. Raises BadFrame, having forgotten it."""
        self._pages += 1
        below, behind = self._below, self._behind
        crossed = below is not None and behind is not None and int(below.id) > int(behind.id) + SKIPPED
        if crossed or self._pages > MAX_PAGES or len(self._proofs) > 1:
            self._begin()
            raise BadFrame("answers that do not fit together", self._symbol)

    def _narrow(self, rows: Sequence[Trade]) -> None:
        for it in rows:
            if it.symbol != self._symbol:
                raise BadFrame("an answer of another instrument", self._symbol)
            if it.exchange_time < self._time:
                if self._below is None or int(it.id) > int(self._below.id):
                    self._below = it
            elif self._behind is None or int(it.id) < int(self._behind.id):
                self._behind = it

    def _prove(self, before: Trade | None, behind: Trade | None) -> None:
        at = (
            *(("", 0) if before is None else (before.id, before.exchange_time)),
            *(("", 0) if behind is None else (behind.id, behind.exchange_time)),
        )
        self._proofs[at] += 1
        if len(self._proofs) > 1:
            self._doubt()
        nothing = before is None or behind is None
        if self._proofs[at] >= (MORE_PROOFS if nothing or self._search is Search.ONLY else PROOFS):
            self.found = Place(before, behind)

    def _centre(self) -> int | None:
        """The id around which the next page is to lie; None: the newest page is wanted."""
        if self._newest:
            return None
        if self._candidate:
            return self._candidate
        if self._behind is None:
            return None if self._below is None else int(self._below.id) + 1
        high = int(self._behind.id)
        low = self._floor if self._below is None else max(int(self._below.id), self._floor)
        if self._search is Search.FROM and self._below is not None:
            high = max(min(high, self._ceiling or high), low + 1)
            if high - low <= 2:  # a page that begins with the one shows both, whatever the venue lacks between them
                return low + 1
        if self._search is Search.ONLY or high - low <= 2:
            return high
        if self._below is None and (self._search is Search.FROM or not self._floor):
            return max(high - self._back, 1)
        if self._below is None or self._pages % 2:
            return (low + high) // 2
        since, until = self._below.exchange_time, self._behind.exchange_time
        return min(low + (high - low) * (self._time - since) // (until - since) + (high - low) // 100 + 1, high)
