"""The one synchronous path of every event: checked, had once, counted into candles, stored, published.

Sans-I/O. Sessions say what happened on their connections; the pipeline outlives them and owns one ledger and one candle
builder for each tape. What comes of an event goes to ``store`` and ``publish`` before ``handle`` returns; what is
needed from outside is returned. Batches are closed here too, so that gap, coverage and candle rows always stand in the
same transaction as the trades that they speak of.
"""
from collections import Counter
from enum import Enum
from heapq import heapify, heappop, heappush
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct, structs

from onetape.book.sync import BookSync
from onetape.candles.builder import INTERVALS, LATENESS_NS, CandleBuilder
from onetape.candles.series import StaleRange
from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.model import (
    TAPES,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Event,
    FeedError,
    FeedStatus,
    GapClosed,
    GapFilling,
    GapOpened,
    InstrumentId,
    Need,
    NeedCandles,
    NeedTrades,
    Quote,
    Skipped,
    Source,
    Ticker,
    Trade,
    TrustState,
    encode,
)
from onetape.tape.coverage import Covered
from onetape.tape.history import History
from onetape.tape.ledger import GRACE_NS, OpenGap, Output, TradeLedger
from onetape.tape.volume import VolumeCheck
from onetape.tape.validation import EARLIEST, Recent, SanityCheck, impossible, skipped, worthless

NOTHING: Sequence[Need] = ()
_NEVER = 1 << 63
REDUNDANT_GRACE_NS = 2 * SECOND
MINUTES = "1m"
"""The candles by which volume is compared."""


class Policy(Struct, frozen=True, kw_only=True):
    """What is made and kept of what comes."""

    intervals: tuple[str, ...] = INTERVALS
    carry_empty: bool = False
    """Empty candles carry the last close; else there are none."""
    lateness_ns: int = LATENESS_NS
    grace_ns: int = GRACE_NS
    """Until a hole between ids is a gap."""
    redundant: frozenset[str] = frozenset()
    """Venues with more than one connection: what one of them did not bring another may, a little later."""
    deltas: bool = False
    """Keep every book delta, and the whole snapshots that they build on."""
    past: bool = False
    """What comes is the past itself, read in its order: what follows the newest trade goes on with its tape."""
    quotes: bool = True
    snapshot_every_ns: int = 10 * SECOND
    """Between two kept views of a live book, at least."""
    snapshot_depth: int = 50
    """Levels per side of a kept view."""
    quarantine_per_minute: int = 200
    """Frames that are kept of one venue; further ones are counted."""
    batch_ns: int = 100 * MILLISECOND
    batch_rows: int = 1_000


class Doubt(Enum):
    """Whether candles may be called complete, of which trades may be missing that no gap speaks of yet."""

    NONE = 0
    AWAY = 1
    """Nothing has come since the connection was lost, or since the process began."""
    BACK = 2
    """A trade has, and the ledger sees to what lies between."""


_NONE, _AWAY, _BACK = Doubt  # see BUY in model/events.py
_LIVE, _BACKFILL = Source.LIVE, Source.BACKFILL


class _Tape:
    """One channel of trades of one instrument."""

    __slots__ = (
        "broken", "builder", "doubted", "due", "known_at", "ledger", "newest", "newest_time", "number", "recent",
        "touched", "volume",
    )

    def __init__(self, number: int, ledger: TradeLedger, builder: CandleBuilder | None, recent: Recent) -> None:
        self.number, self.ledger, self.builder, self.recent = number, ledger, builder, recent
        self.due = _NEVER
        """When the pipeline looks at it next."""
        self.newest: Trade | None = None
        self.newest_time = 0
        """Its exchange time."""
        self.touched = False
        """In this batch."""
        self.broken = ""
        """Why something may be missing from here on that no id will show."""
        self.doubted: Doubt = _NONE
        self.known_at = 0
        """When the last of its trades became available: no candle can have been known before its trades."""
        self.volume: VolumeCheck | None = None
        """Where ids prove nothing."""

    def next_wake(self) -> int:
        times = (self.ledger.next_wake(), self.builder.next_wake() if self.builder else None)
        return min((it for it in times if it is not None), default=_NEVER)


class _View:
    """When a book is to be kept next, and what it last said."""

    __slots__ = ("due", "kept", "last")

    def __init__(self, due: int) -> None:
        self.due = due
        self.kept: int | None = None  # sequence of the last one
        self.last: BookDelta | BookSnapshot


class Pipeline:
    """``store`` takes what is to be kept, ``commit`` says that what was stored so far makes up a batch.

    ``restore`` is asked once for each tape; ``stored_ids`` for the ids of an hour (its start in exchange time, ns) of a
    tape whose ids prove nothing; ``pair_of`` gives the pair of an instrument, or an empty text; ``book_of`` its book as
    it is now. ``today``, ns: no recording is of a later time, if it kept no clock that tells.
    """

    def __init__(
        self, policy: Policy = Policy(), *,  # noqa: B008 - frozen
        store: Callable[[Event | Covered], None], commit: Callable[[int], None],
        publish: Callable[[Event], None] = lambda _: None,
        restore: Callable[[InstrumentId, Channel], History] = lambda *_: History(),
        stored_ids: Callable[[InstrumentId, Channel, int], Iterable[str]] = lambda *_: (),
        pair_of: Callable[[InstrumentId], str] = lambda _: "",
        book_of: Callable[[InstrumentId], BookSync | None] = lambda _: None, today: int = _NEVER,
    ) -> None:
        self.policy = policy
        self._today = today
        self.quarantined = 0
        self.unkept = 0
        """Quarantined frames beyond what is kept of one venue in a minute."""
        self._rooms: dict[str, tuple[int, int]] = {}  # by venue: the minute, and frames kept in it
        self._store, self._commit, self._publish = store, commit, publish
        self._restore, self._stored_ids, self._pair_of, self._book_of = restore, stored_ids, pair_of, book_of
        self._sanity = SanityCheck()
        self._tapes: dict[tuple[str, str, Channel], _Tape] = {}
        self._touched: list[_Tape] = []  # in this batch
        self._rows, self._batch_rows, self._batch_ns = 0, policy.batch_rows, policy.batch_ns
        self._quotes = policy.quotes
        self._newest = 0  # exchange time of the newest trade of all
        self._due = _NEVER
        self._schedule: list[tuple[int, int, _Tape]] = []  # a heap of (due, number, tape); what is not its due is void
        self._batch_due = _NEVER
        self._views: dict[tuple[str, str], _View] = {}

    # --- inputs -----------------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> Sequence[Need]:
        """Takes an event that became available now, after everything that was due before it."""
        now = event.available_at
        needs = self.wake(now) if now >= self._due else NOTHING
        more = NOTHING
        if type(event) is BookDelta:  # nearly all are one of three; each class pattern that does not match costs 80 ns
            self._book(event, now)
        elif type(event) is Trade:
            more = self._trade(event, now)
        elif type(event) is Quote:
            if self._quotes:
                self._put(event, now)
            self._publish(event)
        else:
            more = self._handle_rarer(event, now)
        if more:
            needs = [*needs, *more]
        if self._rows >= self._batch_rows:
            self.close_batch(now)
        return needs

    def _handle_rarer(self, event: Event, now: int) -> Sequence[Need]:
        match event:
            case BookSnapshot():
                self._book(event, now)
            case Skipped():
                tape, needs = self._tape(InstrumentId(event.venue, event.symbol), event.channel, now)
                followed = self._follow(tape, tape.ledger.skip(event, now) or (), now)
                if tape.volume is not None:
                    tape.volume.skip(event.exchange_time)
                self._publish(event)
                return [*needs, *followed]
            case Ticker() | FeedError(quarantined=False):
                self._publish(event)
            case FeedError() if not self._has_room(event.venue, now):
                self.unkept += 1
                self._publish(event)
            case FeedStatus():
                self._status(event)
                self._keep(event, now)
            case Candle(final=False):
                self._publish(event)
            case Candle():
                self._keep(event, now)
                return self._their_minute(event, now)
            case GapOpened() | GapFilling() | GapClosed():
                return self._told_gap(event, now)
            case _:
                self._keep(event, now)
        return NOTHING

    def next_wake(self) -> int | None:
        """When ``wake`` is due, ns; None if nothing is."""
        return None if self._due == _NEVER else self._due

    def wake(self, now: int) -> Sequence[Need]:
        """Does all that is due until ``now``, in the order of the deadlines, each with now = its own deadline."""
        needs: list[Need] = []
        while self._due <= now:
            due = self._due
            while self._schedule and self._schedule[0][0] <= due:
                at, _, tape = heappop(self._schedule)
                if at == tape.due:
                    needs += self._wake_tape(tape, due)
            if self._batch_due <= due:
                self.close_batch(due)
            self._due = min(self._batch_due, self._schedule[0][0] if self._schedule else _NEVER)
        return needs

    def _reschedule(self, tape: _Tape) -> None:
        """It may be due earlier than it was."""
        due = tape.next_wake()
        if due < tape.due:
            tape.due = due
            heappush(self._schedule, (due, tape.number, tape))
            self._due = min(self._due, due)
            if len(self._schedule) > 4 * len(self._tapes) + 64:  # most of them void
                self._schedule = [(it.due, it.number, it) for it in self._tapes.values() if it.due != _NEVER]
                heapify(self._schedule)

    def finish(self, now: int) -> Sequence[Need]:
        """Nothing more will come: what is missing is told, then the last views of the books and the last batch."""
        needs = [*self.wake(now)]
        for tape in self._tapes.values():
            needs += self._follow(tape, tape.ledger.finish(now), now)
        for view in self._views.values():
            self._keep_view(view, now)
        self.close_batch(now)
        return needs

    def begin(self, id: InstrumentId, channel: Channel, now: int) -> Sequence[Need]:
        """What the store knows to be missing on a tape is asked for, though no trade of it has come yet."""
        return self._tape(id, channel, now)[1]

    def want(self, first: Trade, last: Trade) -> Sequence[Need]:
        """Somebody asks for all between two trades of a tape, however old; these two are had, too."""
        needs = [*self.handle(first), *self.handle(last)]
        tape, now = self._tapes[first.venue, first.symbol, first.channel], last.available_at
        wanted = self._follow(tape, tape.ledger.want(int(first.id), int(last.id), now), now)
        again = {(it.venue, it.symbol, it.channel, it.after) for it in wanted if isinstance(it, NeedTrades)}
        return [
            *(it for it in needs
              if not isinstance(it, NeedTrades) or (it.venue, it.symbol, it.channel, it.after) not in again),
            *wanted,
        ]

    def ledger(self, id: InstrumentId, channel: Channel) -> TradeLedger | None:
        """Of a tape, to read what it lacks; None before its first trade."""
        tape = self._tapes.get((*id, channel))
        return None if tape is None else tape.ledger

    def restate(self, candles: Iterable[Candle], now: int) -> None:
        """Takes candles that were rebuilt from the store, or are the venue's own, as a batch of their own."""
        for it in candles:
            self._keep(it, now)
        self.close_batch(now)

    def take_stale_ranges(self) -> list[tuple[InstrumentId, StaleRange]]:
        """Final candles that late trades have touched and that are no longer held: to be rebuilt from the store."""
        return [
            (tape.builder.id, it) for tape in self._tapes.values() if tape.builder
            for it in tape.builder.take_stale_ranges()
        ]

    # --- reading ----------------------------------------------------------------------------------------------------

    def candles(self, id: InstrumentId) -> CandleBuilder | None:
        """The builder of an instrument's candles, to read what runs; None before its first trade."""
        found = (self._tapes.get((*id, channel)) for channel in TAPES)
        return next((tape.builder for tape in found if tape is not None and tape.builder), None)

    def gaps(self) -> Iterator[tuple[InstrumentId, OpenGap]]:
        """All that is missing now, of the tapes that were heard of since the start."""
        for (venue, symbol, _), tape in self._tapes.items():
            yield from ((InstrumentId(venue, symbol), it) for it in tape.ledger.gaps)

    def proofs(self, venue: str) -> Counter[str]:
        """Of the venue's tapes: minutes by what their volume says, and ids that no ledger holds any more."""
        out = Counter[str]()
        for (name, _, _), tape in self._tapes.items():
            if name == venue:
                out["ids forgotten"] += tape.ledger.forgotten
                if tape.volume is not None:
                    out["minutes verified"] += tape.volume.verified
                    out["minutes short"] += tape.volume.short
                    out["minutes unverifiable"] += tape.volume.unverifiable
        return +out

    def _has_room(self, venue: str, now: int) -> bool:
        """A venue that sends nothing but rubbish does not fill the disk."""
        minute, kept = self._rooms.get(venue, (0, 0))
        if now // MINUTE != minute:
            minute, kept = now // MINUTE, 0
        self._rooms[venue] = minute, kept + 1
        return kept < self.policy.quarantine_per_minute

    # --- the tape ---------------------------------------------------------------------------------------------------

    def _trade(self, it: Trade, now: int) -> Sequence[Need]:
        tape = self._tapes.get((it.venue, it.symbol, it.channel))
        usual = tape is not None and tape.recent.usual(it)
        reason = "" if usual else impossible(it, self._newest, self._today)
        needs: Sequence[Need] = NOTHING
        if tape is None:
            tape, needs = self._tape(InstrumentId(it.venue, it.symbol), it.channel, now)
        if tape.doubted is _AWAY and (it.source is not _BACKFILL or self._goes_on(tape, it)):
            tape.doubted = _BACK
        if tape.broken and not reason and it.source is not _BACKFILL:
            needs = [*needs, *self._mend(tape, it, now)]
        outputs = self._refuse(tape, it, reason, now) if reason else self._take(tape, it, usual, now)
        if not outputs and not tape.ledger.suspects:
            if tape.doubted is not _NONE:
                self._end_doubt(tape)
            return needs
        return [*needs, *self._follow(tape, outputs, now)]

    def _goes_on(self, tape: _Tape, it: Trade) -> bool:
        """What is fetched afterwards says nothing of what follows; what is read from the past does."""
        return self.policy.past and it.exchange_time >= tape.newest_time

    def _take(self, tape: _Tape, it: Trade, usual: bool, now: int) -> "Sequence[Output | NeedCandles]":
        outputs = tape.ledger.receive(it, now)
        if outputs is None:
            return ()
        if usual:
            if tape.recent.add(it):
                self._sanity.fold(tape.recent)
        elif flags := self._sanity.flags(it, tape.recent):
            it = structs.replace(it, flags=flags)
        if not tape.touched:
            self._touch(tape)
        self._put(it, now)
        self._publish(it)
        if now > tape.known_at:  # noqa: PLR1730 - max() is a call, and this is for every trade
            tape.known_at = now
        more = self._weigh(tape, it, now) if it.after is None else None
        builder, time = tape.builder, it.exchange_time
        if builder is not None and builder.add(it, now):
            self._reschedule(tape)
        if time >= tape.newest_time:
            tape.newest, tape.newest_time = it, time
            if time > self._newest:  # noqa: PLR1730 - likewise
                self._newest = time
            if now < EARLIEST and builder is not None:  # no clock was kept: only the trades tell how late it is
                self._keep_candles(tape, builder.wake(time, now), now)
        return [*outputs, *more] if more else outputs

    def _touch(self, tape: _Tape) -> None:
        if not tape.touched:
            tape.touched = True
            self._touched.append(tape)

    def _weigh(self, tape: _Tape, it: Trade, now: int) -> "list[Output | NeedCandles]":
        """A new trade of a tape whose ids prove nothing; what volume says of the minutes before it."""
        if tape.volume is None:
            tape.volume = VolumeCheck()
        tape.volume.add(it)
        out: list[Output | NeedCandles] = []
        if tape.volume.proving and it.source is _LIVE and (between := tape.volume.prove(it)) is not None:
            first, last = between
            out.append(NeedTrades(
                it.venue, it.symbol, it.channel, first.id, last.id, first.exchange_time, last.exchange_time,
                "ids cannot tell whether the first minute is complete", proof=True,
            ))
        if (lacking := tape.volume.lacking(now)) is not None:
            out.append(NeedCandles(it.venue, it.symbol, MINUTES, *lacking))
        if tape.volume.waiting:
            out += self._short(tape, tape.volume, now)
        return out

    def _short(self, tape: _Tape, volume: VolumeCheck, now: int) -> list[Output]:
        since = tape.builder.covered_since if tape.builder is not None else None
        return [said for gap in volume.judge(tape.ledger.gaps, since, now) for said in tape.ledger.open(gap, now)]

    def _their_minute(self, it: Candle, now: int) -> Sequence[Need]:
        found = (self._tapes.get((it.venue, it.symbol, channel)) for channel in TAPES)
        tape = next((tape for tape in found if tape is not None and tape.volume is not None), None)
        if tape is None or tape.volume is None or it.interval != MINUTES:
            return NOTHING
        tape.volume.take(it)
        return self._follow(tape, self._short(tape, tape.volume, now), now)

    def _refuse(self, tape: _Tape, it: Trade, reason: str, now: int) -> Sequence[Output]:
        """It goes to the quarantine; its id is accounted for, so that nobody looks for it again and again."""
        time = it.exchange_time
        if not worthless(it):  # then it is its time that is absurd
            time = tape.newest.exchange_time if tape.newest else it.received_time
        outputs = tape.ledger.skip(skipped(it, f"quarantined: {reason}", time, now), now)
        if outputs is None:
            return ()
        self.quarantined += 1
        self._touch(tape)
        self._keep(FeedError(
            venue=it.venue, symbol=it.symbol, received_time=it.received_time, available_at=now, channel=it.channel,
            reason=reason, quarantined=True, text=encode(it).decode(),
        ), now)
        return outputs

    def _follow(self, tape: _Tape, outputs: "Iterable[Output | NeedCandles]", now: int) -> Sequence[Need]:
        """What a ledger says, told on; its needs."""
        needs: list[Need] = []
        for it in outputs:
            match it:
                case NeedTrades() | NeedCandles():
                    needs.append(it)
                case GapOpened() | GapFilling() | GapClosed():
                    self._gap(tape, it, now)
        self._touch(tape)
        self._reschedule(tape)
        if tape.doubted is not _NONE:
            self._end_doubt(tape)
        return needs

    def _told_gap(self, it: GapOpened | GapFilling | GapClosed, now: int) -> Sequence[Need]:
        """By the feed: the ledger knows better, but it cannot know where ids prove nothing, nor what REST answers."""
        tape = self._tapes.get((it.venue, it.symbol, it.channel))
        if tape is None:
            if isinstance(it, GapOpened):
                self._keep(it, now)
            return NOTHING
        match it:
            case GapOpened():
                return self._follow(tape, tape.ledger.open(it, now), now)
            case GapFilling():
                return self._follow(tape, tape.ledger.filling(it), now)
            case GapClosed():
                return self._follow(tape, tape.ledger.close(it, now), now)

    def _gap(self, tape: _Tape, it: GapOpened | GapFilling | GapClosed, now: int) -> None:
        self._keep(it, now)
        if tape.builder is None:
            return
        match it:
            case GapOpened():
                tape.builder.gap_opened(it.from_time, it.to_time, (it.after, it.before))
            case GapClosed(healed=True):
                tape.builder.gap_closed(it.from_time, it.to_time, (it.after, it.before))
            case GapFilling() | GapClosed():
                pass

    def _status(self, it: FeedStatus) -> None:
        tape = self._tapes.get((it.venue, it.symbol, it.channel))
        # syncing: a connection that has not brought a trade of it yet
        broken = it.state in (TrustState.DOWN, TrustState.STALE, TrustState.SYNCING)
        if tape is not None and broken:
            self._doubt(tape)
        if tape is not None and broken and tape.newest is not None and tape.newest.after is None:
            tape.broken = it.reason or "the connection was lost"

    def _doubt(self, tape: _Tape) -> None:
        """From the newest trade on it is not known what there is, until a trade comes."""
        if tape.builder is None or tape.newest is None:
            return
        if tape.doubted is _NONE:
            tape.builder.doubt(tape.newest.exchange_time)
        tape.doubted = _AWAY

    def _end_doubt(self, tape: _Tape) -> None:
        """Once what lies before the trade that has come is there, or is a gap that was told."""
        if tape.doubted is _BACK and tape.ledger.next_wake() is None and tape.builder is not None:
            tape.doubted = _NONE
            tape.builder.end_doubt()

    def _mend(self, tape: _Tape, it: Trade, now: int) -> Sequence[Need]:
        """The first trade after a break of a tape whose ids prove nothing: what lies between is not known.

        Not if it is the last one that was had: what comes now follows it.
        """
        last = tape.newest
        if last is None or it.exchange_time < last.exchange_time or (it.id != last.id and tape.ledger.knows(it)):
            return NOTHING
        reason, tape.broken = tape.broken, ""
        if it.id == last.id:
            return NOTHING
        return self._follow(tape, tape.ledger.open(GapOpened(
            venue=it.venue, symbol=it.symbol, exchange_time=it.exchange_time, received_time=it.received_time,
            available_at=now, channel=it.channel, after=last.id, before=it.id, from_time=last.exchange_time,
            to_time=it.exchange_time, cause=f"{reason}; ids cannot tell what was missed",
        ), now), now)

    def _wake_tape(self, tape: _Tape, now: int) -> Sequence[Need]:
        needs = self._follow(tape, tape.ledger.wake(now), now)
        if tape.builder is not None:
            self._keep_candles(tape, tape.builder.wake(now, max(now, tape.known_at)), now)
        tape.due = _NEVER  # not before: what is followed above would look at it once more for what is done now
        self._reschedule(tape)
        return needs

    def _keep_candles(self, tape: _Tape, candles: Iterable[Candle], now: int) -> None:
        for it in candles:  # of a recording without a clock: a candle cannot have been known before its end
            self._keep(it if it.available_at >= it.end else structs.replace(it, available_at=it.end), now)
            if tape.volume is not None and it.interval == MINUTES:
                tape.volume.take(it)

    def _tape(self, id: InstrumentId, channel: Channel, now: int) -> tuple[_Tape, Sequence[Need]]:
        """A tape, and what is needed where the store has shown that something is missing."""
        tape = self._tapes.get((*id, channel))
        if tape is not None:
            return tape, NOTHING
        known = self._restore(id, channel)
        grace_ns = REDUNDANT_GRACE_NS if id.venue in self.policy.redundant else self.policy.grace_ns
        ledger = TradeLedger(id, channel, grace_ns, known.ledger, lambda hour: self._stored_ids(id, channel, hour))
        others = (self._tapes.get((*id, other)) for other in TAPES if other is not channel)
        taken = any(other is not None and other.builder is not None for other in others)
        builder = self._builder(id, known) if known.feeds_candles and not taken else None
        recent = self._sanity.recent(id, self._pair_of(id))
        tape = self._tapes[(*id, channel)] = _Tape(len(self._tapes), ledger, builder, recent)
        tape.known_at, tape.newest = known.known_at, known.last
        if known.last is not None:
            tape.newest_time = known.last.exchange_time
            self._newest = max(self._newest, known.last.exchange_time)
            if known.last.after is None:
                tape.broken = "OneTape did not run"
                tape.volume = VolumeCheck()
                tape.volume.restore(known.trades, known.candles)
        self._doubt(tape)
        settled = self._follow(tape, ledger.settle(now), now)
        return tape, [*settled, *ledger.needs(), *self._wake_tape(tape, now)]

    def _builder(self, id: InstrumentId, known: History) -> CandleBuilder:
        policy = self.policy
        builder = CandleBuilder(
            id, policy.intervals, policy.lateness_ns, carry_empty=policy.carry_empty,
            covered_since=known.covered_since, final_until=known.final_until,
        )
        builder.restore(known.trades, known.candles, known.gaps)
        return builder

    # --- books ------------------------------------------------------------------------------------------------------

    def _book(self, it: BookDelta | BookSnapshot, now: int) -> None:
        view = self._views.get((it.venue, it.symbol))
        if view is None:
            view = self._views[it.venue, it.symbol] = _View(now)
        view.last = it
        if self.policy.deltas:
            self._keep(it, now)
        else:
            self._publish(it)
        if now >= view.due:
            self._keep_view(view, now)

    def _keep_view(self, view: "_View", now: int) -> None:
        """The best levels as they are after the last event: taken with that event, never later for an earlier time."""
        it = view.last
        sync = self._book_of(InstrumentId(it.venue, it.symbol))
        view.due = now + self.policy.snapshot_every_ns
        if sync is None or sync.state is not TrustState.LIVE or sync.sequence == view.kept:
            return
        view.kept = sync.sequence
        kept = sync.view(now, self.policy.snapshot_depth)
        self._put(structs.replace(kept, exchange_time=it.exchange_time, received_time=it.received_time), now)

    # --- batches ----------------------------------------------------------------------------------------------------

    def _keep(self, it: Event, now: int) -> None:
        self._put(it, now)
        self._publish(it)

    def _put(self, it: Event | Covered, now: int) -> None:
        self._store(it)
        self._rows += 1
        if self._batch_due == _NEVER:
            self._batch_due = now + self._batch_ns
            if self._batch_due < self._due:  # noqa: PLR1730 - likewise
                self._due = self._batch_due

    def close_batch(self, now: int) -> None:
        """Ends the batch. What the trades of this batch changed is stored with them: nothing can come between."""
        for tape in self._touched:
            tape.touched = False
            since = tape.ledger.since
            if tape.builder is not None and since is not None and since < (tape.builder.covered_since or 0):
                tape.builder.cover(since)
            if tape.builder is not None and tape.builder.unrevised:
                self._keep_candles(tape, tape.builder.revise(max(now, tape.known_at)), now)
            for covered in tape.ledger.take_covered():
                self._put(covered, now)
        self._touched.clear()
        rows, self._rows, self._batch_due = self._rows, 0, _NEVER
        if rows:
            self._commit(now)
