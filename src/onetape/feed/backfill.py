"""Asks a venue's REST for what is missing on its tapes, and takes no more of an answer than is proven.

Sans-I/O. A page proves itself by its ids: they lie in the hole, a trade at its edge that is known has the same time
there, and all times fit. What a page leaves out between two of its own trades the venue does not have, if another
answer, a while later, leaves out the same. Where ids prove nothing (Bybit) a page that reaches back to the trade
before the hole has all of it.

    due ──asked──> page ──progress──> asked again ──nothing missing──> done: the ledger says that it is healed
     ^               │
     └──a while──────┴──nothing new, MAX_VAIN times, or beyond what the venue keeps──> given up, with the reason
"""
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from onetape.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND, interval_ns
from onetape.errors import ClockSkew, RestError, TryAgain
from onetape.model import (
    Command,
    Event,
    Fetch,
    GapClosed,
    GapFilling,
    GapOpened,
    Need,
    NeedCandles,
    NeedTrades,
    Purpose,
    Request,
    Skipped,
    Trade,
)
from onetape.tape.coverage import Coverage, Interval
from onetape.tape.ledger import VENUE_HOLE
from onetape.venues.base import UNREADABLE, Venue

MAX_AGE_NS = 7 * DAY
MAX_HOLES = 10_000  # of one venue at a time; further ones stay open, and are asked for at the next start
AT_ONCE = 4  # requests under way, each for another hole
MAX_VAIN = 6  # answers in a row that bring nothing
FULL = 0.9  # of the newest trades that were asked for: block trades among them are none of the tape's
SHORT_NS = 2 * SECOND  # until the next look after an answer that was cut
MAX_LOOKS = 4  # answers where ids prove nothing
AGAIN_NS = 5 * SECOND  # between two looks at what one answer left out: longer than any cache of REST
SAME_NS = MILLISECOND  # REST and WebSocket say the same time, but for the digits that one of them cuts
ORDER_NS = 5 * SECOND  # ids may run ahead of times by so much
LONGEST_WAIT_NS = 60 * SECOND
RETRY_NS = HOUR  # what the venue should have and did not give is asked for once more
MAX_RETRIES = 24

Outcome = Event | Command


class _Hole:
    """What one NeedTrades asks for."""

    __slots__ = ("absent", "absent_at", "asked", "dropped", "due", "failures", "got", "high", "looks", "low", "need",
                 "request", "retries", "seen", "told", "vain", "whole", "why")

    def __init__(self, need: NeedTrades, due: int, *, counted: bool) -> None:
        self.need, self.due = need, due
        self.low, self.high = (int(need.after), int(need.before)) if counted else (0, 0)
        self.got = Coverage()
        if counted:
            self.got.add(self.low, self.low, need.from_time, need.from_time)
            self.got.add(self.high, self.high, need.to_time, need.to_time)
        self.looks, self.whole = 0, False  # where ids prove nothing: answers, and whether one had all of it
        self.seen: set[str] = set()
        self.absent = Coverage()  # left out between two trades of one answer
        self.absent_at = 0
        self.asked = False
        self.told = False  # that this attempt has begun
        self.failures = self.vain = self.retries = 0
        self.why = ""  # the attempt before brought not all
        self.dropped = ""  # nobody asks for it any more, and it is one of those that are not asked for by themselves
        self.request: Request | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.need.symbol, self.need.channel, self.need.after, self.need.before


class _Minutes:
    """What one NeedCandles asks for."""

    __slots__ = ("asked", "due", "need", "request", "vain")

    def __init__(self, need: NeedCandles, due: int) -> None:
        self.need, self.due = need, due
        self.asked, self.vain = False, 0
        self.request: Request | None = None


class Backfill:
    """Of one venue, as long as the process runs.

    ``max_age_ns``: what is older is not asked for, unless somebody wants it expressly; 0: nothing is.
    """

    def __init__(self, venue: Venue, max_age_ns: int = MAX_AGE_NS) -> None:
        self.counters: Counter[str] = Counter()
        """Pages, trades, and why answers could not be used."""
        self._venue, self._max_age_ns = venue, max_age_ns
        self._holes: dict[tuple[str, str, str, str], _Hole] = {}
        self._minutes: list[_Minutes] = []
        self._free_at: dict[str, int] = {}  # by symbol: when the next page may be asked for
        self._asked: dict[int, _Hole | _Minutes] = {}
        self._fetched = 0

    @property
    def waiting(self) -> int:
        """Holes that are asked for, or will be."""
        return len(self._holes)

    # --- inputs -----------------------------------------------------------------------------------------------------

    def need(self, it: Need, now: int) -> list[Outcome]:
        """Something is missing. What cannot be had is said at once."""
        out: list[Outcome] = []
        if isinstance(it, NeedCandles):
            if not self._max_age_ns:
                return out
            if len(self._minutes) < MAX_HOLES:
                self._minutes.append(_Minutes(it, now))
            self._ask_all(now, out)
            return out
        counted = it.after.isdecimal() and it.before.isdecimal() and self._venue.spec.counted_trades
        hole = _Hole(it, now, counted=counted)
        known = self._holes.get(hole.key)
        if not self._max_age_ns and not it.asked and known is None:
            return out
        if known is not None:
            if known.need.asked and not it.asked:
                known.dropped = self._hopeless(it, now)
            elif it.asked:
                known.dropped = ""
            known.need = it
            known.due = now if not known.asked else known.due
        elif reason := self._hopeless(it, now):
            self._say_given_up(hole, reason, now, out)
        elif len(self._holes) >= MAX_HOLES:
            self.counters["gaps not asked for"] += 1
        else:
            self._holes[hole.key] = hole
        self._ask_all(now, out)
        return out

    def receive(self, id: int, status: int, body: bytes, headers: Mapping[str, str], now: int) -> list[Outcome]:
        """The answer to Fetch ``id``; header names in lower case."""
        out: list[Outcome] = []
        hole = self._asked.pop(id, None)
        if isinstance(hole, _Minutes):
            self._take_minutes(hole, status, body, headers, now, out)
            self._ask_all(now, out)
            return out
        if hole is None or hole.request is None:
            self.counters["answers nobody waits for"] += 1
            return out
        hole.asked = False
        self.counters["pages"] += 1
        try:
            self._venue.check(status, headers, body)
            rows = self._venue.parse_trades(hole.request, body, now)
        except TryAgain as error:
            self._fail(hole, error.reason, error.retry_after_ns, now)
        except ClockSkew as error:
            self._fail(hole, error.reason, 0, now)
        except RestError as error:
            self._in_vain(hole, f"refused: {error.reason}", now, out)
        except UNREADABLE as error:
            self._in_vain(hole, f"an unreadable answer: {' '.join(str(error).split())[:200]}", now, out)
        else:
            self._take(hole, rows, now, out)
        self._ask_all(now, out)
        return out

    def failed(self, id: int, reason: str, now: int) -> list[Outcome]:
        """No answer to Fetch ``id``."""
        out: list[Outcome] = []
        hole = self._asked.pop(id, None)
        if isinstance(hole, _Minutes):
            self._later(hole, now)
        elif hole is not None:
            hole.asked = False
            self._fail(hole, reason, 0, now)
        self._ask_all(now, out)
        return out

    def next_wake(self) -> int | None:
        if len(self._asked) >= AT_ONCE:
            return None
        idle = [self._due(it) for it in self._holes.values() if not it.asked]
        return min([*idle, *(it.due for it in self._minutes if not it.asked)], default=None)

    def wake(self, now: int) -> list[Outcome]:
        out: list[Outcome] = []
        self._ask_all(now, out)
        return out

    # --- asking -----------------------------------------------------------------------------------------------------

    def _hopeless(self, it: NeedTrades, now: int) -> str:
        """Why there is no use in asking; empty: there may be."""
        if now - it.to_time > self._max_age_ns and not it.asked:
            return f"too old: more than {_span(self._max_age_ns)}, as the settings say"
        reach = self._venue.spec.history.reach_ns
        if reach and now - it.to_time > reach:
            return f"too old: the venue keeps {_span(reach)}"
        request = self._venue.trades_request(it.symbol, it.after, it.before, it.from_time)
        if request is None or request.channel is not it.channel:
            return f"venue limit: its REST has no {it.channel} of the past"
        return ""

    def _ask_all(self, now: int, out: list[Outcome]) -> None:
        """The oldest first; what somebody wants of long ago behind what heals the present."""
        for it in [it for it in self._holes.values() if it.dropped and not it.asked]:
            del self._holes[it.key]
            self._say_given_up(it, it.dropped, now, out)
        while len(self._asked) < AT_ONCE:
            due = [it for it in self._holes.values() if not it.asked and self._due(it) <= now]
            minutes = next((it for it in self._minutes if not it.asked and it.due <= now), None)
            if due:
                self._ask(min(due, key=lambda it: (it.need.asked, it.need.from_time)), now, out)
            elif minutes is not None:
                self._ask_minutes(minutes, out)
            else:
                return

    def _due(self, it: _Hole) -> int:
        """Not before the venue gives the next page of this symbol."""
        return max(it.due, self._free_at.get(it.need.symbol, 0))

    def _ask(self, hole: _Hole, now: int, out: list[Outcome]) -> None:
        need = hole.need
        after, before, since = need.after, need.before, need.from_time
        if hole.high:
            missing = hole.got.missing(hole.low, hole.high)
            first = next((it for it in missing if not hole.absent.covers(it.first, it.last)), missing[0])
            after, before, since = str(first.first - 1), str(first.last + 1), first.from_time
        request = self._venue.trades_request(need.symbol, after, before, since)
        assert request is not None  # else it would be hopeless
        if not hole.told and not need.proof:
            hole.told = True
            out.append(GapFilling(
                venue=need.venue, symbol=need.symbol, exchange_time=now, received_time=now, available_at=now,
                channel=need.channel, after=need.after, before=need.before, from_time=need.from_time,
                to_time=need.to_time, attempts=1, cause=hole.why,
            ))
        self._fetched += 1
        if every := self._venue.spec.history.page_every_ns:
            self._free_at[need.symbol] = now + every
        hole.asked, hole.request = True, request
        self._asked[self._fetched] = hole
        out.append(Fetch(self._fetched, request, Purpose.BACKFILL))

    # --- what an answer is worth ------------------------------------------------------------------------------------

    def _take(self, hole: _Hole, rows: Sequence[Trade], now: int, out: list[Outcome]) -> None:
        hole.failures = 0
        need = hole.need
        if any(it.symbol != need.symbol or it.channel is not need.channel for it in rows):
            self._in_vain(hole, "an answer of another instrument", now, out)
        elif hole.high:
            self._take_counted(hole, rows, now, out)
        else:
            self._take_newest(hole, rows, now, out)

    def _take_counted(self, hole: _Hole, rows: Sequence[Trade], now: int, out: list[Outcome]) -> None:
        page = _Page(rows)
        if reason := page.contradiction or _doubt(hole, page):
            self._in_vain(hole, reason, now, out)
            return
        found = self._fill(hole, page, out)
        self._share(hole, page, out)
        progress = self._left_out(hole, page, now, out)
        missing = hole.got.missing(hole.low, hole.high)
        reach = self._venue.spec.history.reach_ns
        if not missing:
            del self._holes[hole.key]
        elif reach and all(it.to_time <= now - reach + MINUTE for it in missing):  # the rest of one that was longer
            del self._holes[hole.key]
            self._say_given_up(hole, f"too old: the venue keeps {_span(reach)}", now, out)
        elif found or progress:
            doubtful = all(hole.absent.covers(it.first, it.last) for it in missing)
            hole.vain, hole.due = 0, hole.absent_at + AGAIN_NS if doubtful else now
        else:
            self._in_vain(hole, "an answer without anything that is missing", now, out)

    def _fill(self, hole: _Hole, page: "_Page", out: list[Outcome]) -> int:
        """Trades of a page that the hole lacks."""
        found = [page.trades[id] for id in page.between(hole.low + 1, hole.high - 1) if not hole.got.covers(id, id)]
        for it in found:
            hole.got.add(_after(it) + 1, int(it.id), it.exchange_time, it.exchange_time)
        out += found
        self.counters["trades"] += len(found)
        return len(found)

    def _share(self, hole: _Hole, page: "_Page", out: list[Outcome]) -> None:
        """Of the same tape, small holes often lie near one another: a page that was asked for one has others too."""
        need = hole.need
        for it in list(self._holes.values()):
            same = it.need.symbol == need.symbol and it.need.channel is need.channel
            if it is hole or it.asked or not same or not page.between(it.low + 1, it.high - 1) or _doubt(it, page):
                continue
            if self._fill(it, page, out):
                it.vain = 0
            if not it.got.missing(it.low, it.high):
                del self._holes[it.key]

    def _left_out(self, hole: _Hole, page: "_Page", now: int, out: list[Outcome]) -> bool:
        """Ids between two trades of this answer; what was left out before, too, the venue does not have.

        True if that was so, or if there is something to look at once more.
        """
        again = hole.absent_at + AGAIN_NS <= now
        news = progress = False
        for below, above in pairwise(page.between(hole.low, hole.high)):
            if _after(page.trades[above]) <= below:
                continue
            for it in hole.got.missing(below, above):
                progress = True
                if again and hole.absent.covers(it.first, it.last):
                    hole.got.add(it.first, it.last, it.from_time, it.to_time)
                    out.append(_skipped(hole.need, it, now))
                else:
                    hole.absent.add(it.first, it.last, 0, 0)
                    news = True
        if news:
            hole.absent_at = now
            hole.why = "the venue left out ids: it is asked once more whether it has them"
        return progress

    def _take_newest(self, hole: _Hole, rows: Sequence[Trade], now: int, out: list[Outcome]) -> None:
        """The answer has the newest trades, whatever was asked for; that behind the gap proves whose they are.

        Nothing shows what an answer leaves out but another answer: it is asked for until two bring the same.
        """
        need, ids = hole.need, [it.id for it in rows]
        start = ids.index(need.after) + 1 if need.after in ids else 0
        behind = ids.index(need.before) if need.before in ids else None
        if not rows or (behind is None and rows[0].exchange_time <= need.to_time):
            self._in_vain(hole, "an answer without the trade behind the gap", now, out)
            return
        whole = behind is not None and (start > 0 or rows[0].exchange_time < need.from_time)
        found = rows[start:behind] if behind is not None else []
        found = [it for it in found if need.from_time <= it.exchange_time <= need.to_time]
        if need.proof and not whole and not hole.looks:
            out.append(_opened(need, now))  # before what fills a part of it
        news = [it for it in {it.id: it for it in found}.values() if it.id not in hole.seen]
        hole.seen.update(it.id for it in news)
        out += news
        self.counters["trades"] += len(news)
        hole.looks, hole.whole = hole.looks + 1, hole.whole or whole
        asked = 0 if hole.request is None else hole.request.rows
        short = not hole.whole and len(rows) < asked * FULL  # cut on the way: the next one may have it all
        if hole.looks == 1 or ((news or short) and hole.looks < MAX_LOOKS):
            hole.due = now + (SHORT_NS if short else 0)
            return
        del self._holes[hole.key]
        if hole.whole:
            out.append(_closed(need, "filled", now, healed=True))
        else:
            reason = f"venue limit: it gives its newest {len(rows)} trades, and no more"
            self.counters["given up"] += 1
            out.append(_closed(need, reason, now, healed=False))

    # --- the venue's own candles ------------------------------------------------------------------------------------

    def _ask_minutes(self, it: "_Minutes", out: list[Outcome]) -> None:
        need = it.need
        self._fetched += 1
        it.asked, it.request = True, self._venue.candles_request(need.symbol, need.interval, need.start, need.end)
        self._asked[self._fetched] = it
        out.append(Fetch(self._fetched, it.request, Purpose.BACKFILL))

    def _take_minutes(
        self, it: "_Minutes", status: int, body: bytes, headers: Mapping[str, str], now: int, out: list[Outcome],
    ) -> None:
        need = it.need
        assert it.request is not None
        try:
            self._venue.check(status, headers, body)
            found = self._venue.parse_candles(it.request, body, now)
        except (RestError, ClockSkew, *UNREADABLE):
            self._later(it, now)
            return
        found = [
            one for one in found
            if one.final and one.symbol == need.symbol and one.interval == need.interval
            and need.start <= one.start < need.end
        ]
        out += found
        if len({one.start for one in found}) < (need.end - need.start) // interval_ns(need.interval):
            self._later(it, now)
        else:
            self._minutes.remove(it)

    def _later(self, it: "_Minutes", now: int) -> None:
        it.asked, it.vain = False, it.vain + 1
        it.due = now + (2 * SECOND << it.vain)
        if it.vain >= MAX_VAIN:
            self.counters["candles given up"] += 1
            self._minutes.remove(it)

    # --- when it brings nothing -------------------------------------------------------------------------------------

    def _fail(self, hole: _Hole, reason: str, wait_ns: int, now: int) -> None:
        """For a reason that passes, and that says nothing of what the venue has."""
        self.counters["failures"] += 1
        hole.failures += 1
        hole.why, hole.told = reason, False
        hole.due = now + max(min(SECOND << min(hole.failures, 10), LONGEST_WAIT_NS), wait_ns)

    def _in_vain(self, hole: _Hole, reason: str, now: int, out: list[Outcome]) -> None:
        self.counters["answers in vain"] += 1
        hole.vain += 1
        hole.why, hole.told = reason, False
        wait = SECOND << min(hole.vain, 10)
        if not hole.high:  # with each moment the newest ones reach less far back
            wait = SECOND
        hole.due = now + min(wait, LONGEST_WAIT_NS)
        if hole.vain < MAX_VAIN:
            return
        hole.vain, hole.retries = 0, hole.retries + 1
        hole.due = now + RETRY_NS
        if not hole.high or hole.retries > MAX_RETRIES:
            del self._holes[hole.key]
        self._say_given_up(hole, f"{VENUE_HOLE}: {reason}, {MAX_VAIN} times in a row", now, out)

    def _say_given_up(self, hole: _Hole, reason: str, now: int, out: list[Outcome]) -> None:
        self.counters["given up"] += 1
        if hole.need.proof:
            out.append(_opened(hole.need, now))
        out.append(_closed(hole.need, reason, now, healed=False))


class _Page:
    """Rows of an answer whose ids are consecutive numbers."""

    __slots__ = ("contradiction", "ids", "trades")

    def __init__(self, rows: Sequence[Trade]) -> None:
        self.trades = {int(it.id): it for it in rows}
        self.ids = sorted(self.trades)
        twice = (it.id for it in rows if not _same(it, self.trades[int(it.id)]))
        self.contradiction = next((f"an answer with two trades of the id {it}" for it in twice), "")

    def between(self, first: int, last: int) -> list[int]:
        """Ids of the page from one to another, both inclusive."""
        return self.ids[bisect_left(self.ids, first) : bisect_right(self.ids, last)]


def _same(one: Trade, other: Trade) -> bool:
    return (one.price, one.size, one.exchange_time, one.side) == (
        other.price, other.size, other.exchange_time, other.side)


def _doubt(hole: _Hole, page: _Page) -> str:
    """Why nothing of an answer is to be believed; empty: it fits what is known.

    One edge that fits is enough: the time of another may be a guess (of a trade that was quarantined for its time).
    """
    need, wrong, right = hole.need, 0, False
    for edge in hole.got:
        for id, time in ((edge.first, edge.from_time), (edge.last, edge.to_time)):
            if (it := page.trades.get(id)) is not None:
                fits = abs(it.exchange_time - time) <= SAME_NS
                wrong, right = wrong if fits else id, right or fits
    if wrong and not right:
        return f"an answer of something else: the trade {wrong} has another time there"
    for id in page.between(hole.low + 1, hole.high - 1):
        time = page.trades[id].exchange_time
        if not need.from_time - ORDER_NS <= time <= need.to_time + ORDER_NS:
            return f"an answer of something else: the time of the trade {id} is not that of the gap"
    return ""


def _after(it: Trade) -> int:
    return int(it.id) - 1 if it.after is None else it.after


def _skipped(need: NeedTrades, ids: Interval, now: int) -> Skipped:
    return Skipped(
        venue=need.venue, symbol=need.symbol, exchange_time=ids.to_time, received_time=now, available_at=now,
        channel=need.channel, first=str(ids.first), last=str(ids.last), after=ids.first - 1, reason="venue-skipped",
    )


def _opened(need: NeedTrades, now: int) -> GapOpened:
    return GapOpened(
        venue=need.venue, symbol=need.symbol, exchange_time=need.to_time, received_time=now, available_at=now,
        channel=need.channel, after=need.after, before=need.before, from_time=need.from_time, to_time=need.to_time,
        cause=need.reason,
    )


def _closed(need: NeedTrades, cause: str, now: int, *, healed: bool) -> GapClosed:
    return GapClosed(
        venue=need.venue, symbol=need.symbol, exchange_time=now, received_time=now, available_at=now,
        channel=need.channel, after=need.after, before=need.before, from_time=need.from_time, to_time=need.to_time,
        healed=healed, cause=cause, recovered=0,
    )


def _span(ns: int) -> str:
    return f"{ns / DAY:g} days" if ns >= 3 * DAY else f"{ns / HOUR:g} hours"
