"""Where ids prove nothing, volume does: our closed minutes against the venue's own.

Sans-I/O. A minute is judged once, when both candles are there and a trade behind it is known. If the venue's has more,
trades of it were lost on the way, and the gap is told; where the venue counts what it keeps off the tape (block
trades), nothing can be said of the minute.
"""
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from onetape.clock import MINUTE, SECOND
from onetape.model import Candle, GapOpened, Trade
from onetape.tape.ledger import OpenGap

KEPT = 10
"""Minutes that wait for their other half; older ones are not judged."""
PROVE_EVERY = 20
"""Trades, or half as many when they come slowly; a page of the venue's has three times as many."""
LATE_NS = 10 * SECOND
"""After the end of a minute: if the venue's candle has not come by then, it is asked for."""
TOLERANCE = Decimal("0.000001")
"""Share of the volume: sums may be rounded."""


class VolumeCheck:
    """Of one tape."""

    def __init__(self) -> None:
        self.verified = self.short = self.unverifiable = 0
        """Minutes, by what came of them."""
        self._edges: dict[int, tuple[Trade, Trade]] = {}  # by start of the minute: its first and last trade
        self._ours: dict[int, Candle] = {}  # by end
        self._theirs: dict[int, Candle] = {}
        self._prove_until: int | None = None  # -1: no more
        self._proven: Trade
        self._unproven = 0
        self._asked: dict[int, None] = {}  # ends
        self._blurred: dict[int, None] = {}  # starts of minutes with trades that are not on the tape

    def add(self, it: Trade) -> None:
        """A new trade of the tape."""
        start = it.exchange_time - it.exchange_time % MINUTE
        self._ours.pop(start + MINUTE, None)  # that candle gets another revision
        edges = self._edges.get(start)
        if edges is None:
            self._edges[start] = it, it
            _trim(self._edges)
        elif it.exchange_time >= edges[1].exchange_time:
            self._edges[start] = edges[0], it
        elif it.exchange_time < edges[0].exchange_time:
            self._edges[start] = it, edges[1]

    def prove(self, it: Trade) -> tuple[Trade, Trade] | None:
        """Two trades between which nothing may be missing, in the first minute, of which only a part is known.

        So often that a page of the venue's newest trades reaches from one to the other.
        """
        if self._prove_until is None:
            self._prove_until = it.exchange_time - it.exchange_time % MINUTE + MINUTE
            self._proven = it
            return None
        self._unproven += 1
        over = it.exchange_time >= self._prove_until
        if over:
            self._prove_until = -1
        elif self._unproven < PROVE_EVERY and (
            self._unproven < PROVE_EVERY // 2 or it.exchange_time - self._proven.exchange_time < SECOND
        ):
            return None
        between = self._proven, it
        self._proven, self._unproven = it, 0
        return between

    @property
    def proving(self) -> bool:
        return self._prove_until != -1

    def skip(self, exchange_time: int) -> None:
        """A trade that has no place on the tape, though the venue may count it."""
        self._blurred[exchange_time - exchange_time % MINUTE] = None
        _trim(self._blurred)

    def take(self, it: Candle) -> None:
        """A final candle of a minute, ours or theirs."""
        into = self._ours if it.source == "trades" else self._theirs
        into[it.end] = it
        _trim(into)

    def lacking(self, now: int) -> tuple[int, int] | None:
        """Start and end of the minutes of ours for which the venue's have not come; each is asked for once."""
        ends = [
            end for end in self._ours
            if end not in self._theirs and end not in self._asked and end + LATE_NS <= now
            and end > max(self._asked, default=0) - KEPT * MINUTE
        ]
        if not ends:
            return None
        self._asked.update(dict.fromkeys(ends))
        _trim(self._asked)
        return min(ends) - MINUTE, max(ends)

    @property
    def waiting(self) -> bool:
        """There is a minute of the venue's that was not judged."""
        return bool(self._theirs)

    def judge(self, gaps: Iterable[OpenGap], since: int | None, now: int) -> list[GapOpened]:
        """All minutes of which enough is known; one with a gap in it that may still be healed has time.

        ``gaps`` on record, ``since`` when the tape is known, ns of exchange time. A minute of which we have no trade at
        all has no candle of ours.
        """
        newest = max(self._edges, default=0)
        out = []
        for end in sorted(self._theirs):
            start = end - MINUTE
            ours = self._ours.get(end)
            if newest < end or (ours is None and (start in self._edges or now < end + LATE_NS)):
                continue
            within = [it for it in gaps if it.from_time < end and it.to_time >= start]
            if not all(it.unhealable for it in within):
                continue
            self._ours.pop(end, None)
            theirs = self._theirs.pop(end)
            forgotten = ours is None and start < min(self._edges)  # our trades of it, not only the candle
            told = any(it.from_time < start and it.to_time >= end for it in within)
            if start in self._blurred or since is None or since >= start or told or forgotten:
                self.unverifiable += 1
            else:
                out += self._judge(Decimal(0) if ours is None else ours.volume, theirs, now)
        return out

    def restore(self, trades: Sequence[Trade], minutes: Iterable[Candle]) -> None:
        """What an earlier process may not have come to judge; trades by their times."""
        for it in trades:
            self.add(it)
        for one in minutes:
            self.take(one)
        end = trades[0].exchange_time - trades[0].exchange_time % MINUTE + MINUTE if trades else 0
        self._prove_until = -1  # the first minute is over
        if trades and trades[-1].exchange_time < end:
            self._prove_until, self._proven = end, trades[-1]

    def _judge(self, volume: Decimal, theirs: Candle, now: int) -> list[GapOpened]:
        """``volume``: ours."""
        if theirs.volume - volume <= theirs.volume * TOLERANCE:
            self.verified += 1
            return []
        before = [edges[1] for start, edges in self._edges.items() if start < theirs.start]
        if not before:
            self.unverifiable += 1
            return []
        self.short += 1
        last = max(before, key=lambda it: it.exchange_time)
        first = min(
            (edges[0] for start, edges in self._edges.items() if start >= theirs.end), key=lambda it: it.exchange_time)
        return [GapOpened(
            venue=theirs.venue, symbol=theirs.symbol, exchange_time=first.exchange_time, received_time=now,
            available_at=now, channel=last.channel, after=last.id, before=first.id, from_time=last.exchange_time,
            to_time=first.exchange_time, cause=f"volume: the venue's minute has {theirs.volume}, ours {volume}",
        )]


def _trim(kept: dict[int, Any]) -> None:
    while len(kept) > KEPT:
        del kept[min(kept)]
