"""Joins snapshots and deltas into one unbroken book, and says at any time whether it can be trusted.

Sans-I/O: events in, events and needs out. A delta states the interval (after, sequence] that it covers, and with that
one rule serves every venue:

    SYNCING --snapshot, joined--> LIVE --gap, bad checksum, restart, distrust--> STALE --snapshot, joined--> LIVE
                                  LIVE <--crossed, uncrossed within its grace--> CROSSED --grace over--> resync

While *following* (live, or crossed within its grace) the tests come in this order:

    restart mark                          gap
    after == here                         apply, even if sequence is equal (heartbeat) or lower (the venue's reset)
    the same interval as the last         ignore
    overlapping venues: sequence <= here  ignore;  after < here < sequence: apply
    anything else                         gap
"""
from collections import deque
from collections.abc import Callable

from msgspec import structs

from onetape.book import OrderBook
from onetape.book.rules import BookRules, Snapshots
from onetape.clock import SECOND
from onetape.model import (
    BookDelta,
    BookSnapshot,
    Channel,
    FeedStatus,
    InstrumentId,
    Levels,
    NeedSnapshot,
    TrustState,
)

MAX_PENDING = 5_000  # deltas that wait for a snapshot: eight minutes at 10/s
MAX_PENDING_LEVELS = 500_000  # in them
JOIN_NS = 5 * SECOND  # for so long a fetched snapshot is good for being joined
_LIVE = TrustState.LIVE  # see BUY in model/events.py

Checksum = Callable[[str, OrderBook], int]
Output = BookSnapshot | BookDelta | FeedStatus | NeedSnapshot


class BookSync:
    """The one writer of its OrderBook; lives as long as the connection that feeds it."""

    def __init__(self, id: InstrumentId, book: OrderBook, rules: BookRules, checksum: Checksum, now: int) -> None:
        self.id, self.book = id, book
        self.state, self.since, self.reason = TrustState.SYNCING, now, ""
        self.verification = "none"
        self.may_cross = False
        """The venue is in a phase (auction, pre-open) in which a crossed book is legitimate."""
        self.epoch = 0
        """REST snapshots that were asked for in an earlier epoch are void."""
        self.applied = self.ignored = self.overflows = 0
        self._rules, self._checksum = rules, checksum
        self._following = False
        self._here = 0
        self.time = 0
        """Exchange time of what came last into the book, ns."""
        self._cut_at = 0
        self._last_after: int | None = None
        self._joining = False  # at a REST snapshot, before the first delta, the one that reaches over it
        self._seen: int | None = None  # sequence of the last delta that came while not in the book
        self._crossed_messages = 0
        self._asked = False
        self._snapshot: BookSnapshot | None = None  # by REST, waiting for the first delta that proves that it joins
        self._join_by = 0
        self._whole_each_time = False  # a stream of full replacements: a delta is of another stream
        self._pending: deque[BookDelta] = deque()
        self._pending_levels = 0

    @property
    def sequence(self) -> int:
        """Of the last snapshot or delta in the book."""
        return self._here

    def receive(self, event: BookSnapshot | BookDelta, now: int) -> list[Output]:
        """An event of the stream. Raises BadLevels, the book unchanged: the caller then distrusts."""
        if not isinstance(event, BookDelta):  # what it has to deny costs 80 ns
            return self._start(event, None, now)
        if not self._following:
            return self._hold(event, now)
        after, sequence, here = event.after, event.sequence, self._here
        if event.restart:
            return self._break("the venue restarted its numbering", now)
        if self._whole_each_time:
            return self._break("a delta among full replacements", now)
        if after != here:
            if after == self._last_after and sequence == here:
                self.ignored += 1
                return []
            if not (self._rules.overlapping or self._joining) or after > here or sequence < after:
                return self._gap(event, now)
            if sequence <= here:
                self.ignored += 1
                return []
        well = self.book.apply(event.bids, event.asks)
        self._here, self._last_after, self._joining, self.time = sequence, after, False, event.exchange_time
        self.applied += 1
        if event.checksum is not None and not self._sum_holds(event.checksum):
            return self._break(f"the checksum does not hold after {sequence}", now)
        if well and self.state is _LIVE:  # nearly always
            return [event]
        if self.book.lacks:
            return self._break("too few levels inside the known edge", now)
        return self._passed(event, now)

    def join(self, snapshot: BookSnapshot, epoch: int, now: int) -> list[Output]:
        """A snapshot that was fetched apart from the stream. Raises BadLevels, the book unchanged."""
        if self._following:
            return []
        if epoch != self.epoch:
            return [NeedSnapshot(self.id.symbol, "the snapshot is from before a reset")]
        _read(snapshot)
        self._snapshot, self._join_by = snapshot, now + JOIN_NS
        return self._try_join(now)

    def distrust(self, reason: str, now: int) -> list[Output]:
        """Something may have been lost: what is held is stale from here on."""
        if self._following:
            return self._break(reason, now)
        self._void()
        return [self._need(reason)] if self._asked else []

    def introduce(self, now: int) -> list[BookSnapshot | FeedStatus]:
        """For somebody who was not listening until now: the book as it is, if it can be trusted, and its state."""
        status = FeedStatus(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=now, received_time=now, available_at=now,
            channel=Channel.BOOK, state=self.state, since=self.since, reason=self.reason,
        )
        return [self.view(now), status] if self.state is _LIVE else [status]

    def view(self, now: int, depth: int = 0) -> BookSnapshot:
        """The book as it is, to ``depth`` levels per side (0: all inside the edge)."""
        bids, asks = self.book.bids(depth), self.book.asks(depth)
        edges = [len(side) for side, known in zip((bids, asks), self.book.known, strict=True) if known is not None]
        return BookSnapshot(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=self.time, received_time=now, available_at=now,
            sequence=self._here, bids=Levels.of(bids), asks=Levels.of(asks),
            depth=depth or min(edges, default=self._cut_at),
            verification=self.verification,
        )

    def down(self, reason: str, now: int) -> list[Output]:
        """The connection is gone: nothing more will come."""
        self._following = False
        self._pending.clear()
        return [self._status(TrustState.DOWN, reason, now)]

    def next_wake(self) -> int | None:
        """When ``wake`` is due: the end of the grace of a crossed book."""
        if self._following and self.state is TrustState.CROSSED and self._rules.crossed_grace_ns:
            return self.since + self._rules.crossed_grace_ns
        return None

    def wake(self, now: int) -> list[Output]:
        due = self.next_wake()
        return self._resync("crossed beyond its grace") if due is not None and now >= due else []

    # --- syncing ----------------------------------------------------------------------------------------------------

    def _hold(self, delta: BookDelta, now: int) -> list[Output]:
        _read(delta)
        if self._rules.snapshots is Snapshots.IN_BAND:  # its snapshot will stand after all that comes before it
            self.ignored += 1
            return [] if self._asked else [self._need("deltas without a snapshot")]
        if delta.restart or delta.sequence < delta.after:  # the numbering began anew: nothing from before can be joined
            self._void()
            self._seen = delta.sequence
            return [self._need("the venue's numbering was reset")]
        out: list[Output] = []
        if self._seen not in (None, delta.after) and not self._rules.overlapping:
            if self._pending and (delta.after, delta.sequence) == (self._pending[-1].after, self._seen):
                self.ignored += 1
                return []
            self._void()  # what is missing here may have been a reset: a snapshot from before would join by chance
            out = [self._need("gap while waiting for a snapshot")]
        self._pending_levels += len(delta.bids) + len(delta.asks)
        if len(self._pending) >= MAX_PENDING or self._pending_levels > MAX_PENDING_LEVELS:
            held = len(self._pending)
            self._void()
            self.overflows += 1
            out = [self._need(f"more than {held} deltas while waiting for a snapshot")]
        self._pending.append(delta)
        self._seen = delta.sequence
        if self._snapshot is not None:
            return self._try_join(now)
        return out or ([] if self._asked else [self._need("deltas without a snapshot")])

    def _try_join(self, now: int) -> list[Output]:
        """Goes live with the first delta that reaches over the snapshot: nothing lies between it and the stream.

        Deltas that end before it prove nothing: after a reset that was lost, an old snapshot has a high number.
        """
        snapshot, pending = self._snapshot, self._pending
        if snapshot is None or not pending:
            return []
        if snapshot.sequence == -1:  # a new listing: the book is empty and begins with the first delta
            snapshot = structs.replace(snapshot, sequence=pending[0].after)
        here = snapshot.sequence
        while pending and pending[0].sequence <= here:
            pending.popleft()
            self.ignored += 1
        if not pending:
            if now < self._join_by:
                return []
            self._snapshot = None
            return [self._need(f"no delta reaches over the snapshot at {here}")]
        if pending[0].after > here:
            self._snapshot = None
            return [self._need(f"the snapshot at {here} is older than the stream after {pending[0].after}")]
        return self._start(structs.replace(snapshot, available_at=now), pending, now)

    def _start(self, snapshot: BookSnapshot, waiting: deque[BookDelta] | None, now: int) -> list[Output]:
        """``waiting``: the deltas that a fetched snapshot joins; None: an in-band one, which stands after all."""
        self.book.replace(snapshot.bids, snapshot.asks, snapshot.depth)
        self._pending, self._pending_levels, self._snapshot, self._asked = deque(), 0, None, False
        self._here, self._last_after, self._joining = snapshot.sequence, None, waiting is not None
        self.time, self._cut_at = snapshot.exchange_time, snapshot.depth
        self.verification = snapshot.verification
        self._whole_each_time = snapshot.verification == "none" and not self._rules.counted
        bids, asks = self.book.held
        self.book.required = min(self.book.window.depth, bids), min(self.book.window.depth, asks)
        if snapshot.checksum is not None and not self._sum_holds(snapshot.checksum):
            return self._break("the checksum of the snapshot does not hold", now)
        self._following = True
        out = self._passed(snapshot, now)
        while waiting and self._following:
            out += self.receive(structs.replace(waiting.popleft(), available_at=now), now)
        self._pending.extend(waiting or ())
        return out

    def _void(self) -> None:
        self._pending.clear()
        self._pending_levels = 0
        self._snapshot = None
        self.epoch += 1

    def _need(self, reason: str) -> NeedSnapshot:
        self._asked = True
        return NeedSnapshot(self.id.symbol, reason)

    # --- following --------------------------------------------------------------------------------------------------

    def _gap(self, delta: BookDelta, now: int) -> list[Output]:
        _read(delta)
        out = self._break(f"gap: the book is at {self._here}, the next delta begins after {delta.after}", now)
        self._seen = delta.after
        return out + self._hold(delta, now)

    def _passed(self, event: BookSnapshot | BookDelta, now: int) -> list[Output]:
        """The event, with the change of trust that it brings: a bad one is told before it, a good one after."""
        if not self.book.crossed or self.may_cross:
            return [event] if self.state is _LIVE else [event, self._status(TrustState.LIVE, "", now)]
        out: list[Output] = []
        if self.state is TrustState.CROSSED:
            self._crossed_messages += 1
        else:
            self._crossed_messages = 0
            out = [self._status(TrustState.CROSSED, "the best bid is at or above the best ask", now)]
        rules = self._rules
        if now - self.since < rules.crossed_grace_ns or self._crossed_messages < rules.crossed_grace_messages:
            return [*out, event]
        return out + self._resync("crossed")

    def _sum_holds(self, checksum: int) -> bool:
        return self._checksum(self.id.symbol, self.book) == checksum

    # --- breaking ---------------------------------------------------------------------------------------------------

    def _break(self, reason: str, now: int) -> list[Output]:
        """Stale first, then the need."""
        return [self._status(TrustState.STALE, reason, now), *self._resync(reason)]

    def _resync(self, reason: str) -> list[Output]:
        self._following = False
        if not self._joining:
            self._seen = self._here
        self._void()
        return [self._need(reason)]

    def _status(self, state: TrustState, reason: str, now: int) -> FeedStatus:
        self.state, self.since, self.reason = state, now, reason
        return FeedStatus(
            venue=self.id.venue, symbol=self.id.symbol, exchange_time=now, received_time=now, available_at=now,
            channel=Channel.BOOK, state=state, since=now, reason=reason,
        )


def _read(event: BookSnapshot | BookDelta) -> None:
    """What is kept for later must be readable now: raises BadLevels before anything has changed."""
    event.bids.read()
    event.asks.read()
