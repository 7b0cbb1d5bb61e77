"""One connection without the connection: frames and REST answers in, events and commands out."""
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from onetape.book import OrderBook, Window
from onetape.book.rules import Snapshots
from onetape.book.sync import BookSync, Output
from onetape.clock import HOUR, SECOND
from onetape.credentials import Credentials
from onetape.errors import BadFrame, ClockSkew, RestError, TryAgain
from onetape.feed.auditor import Auditor, Verdict
from onetape.feed.liveness import BookFrozen, HeartbeatSilent, Liveness, Pulse, SocketSilent, SubscriptionSilent
from onetape.feed.overlap import Overlap
from onetape.feed.resync import Resync, Step
from onetape.feed.watch import SubscriptionWatch
from onetape.model import (
    TAPES,
    BadLevels,
    BookAudited,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Command,
    ConnectionGap,
    ConnectionState,
    Event,
    FeedError,
    FeedStatus,
    Fetch,
    GapClosed,
    GapFilling,
    GapOpened,
    Instrument,
    InstrumentChanged,
    InstrumentId,
    NeedSnapshot,
    Purpose,
    Quote,
    Reconnect,
    Request,
    Send,
    Skipped,
    Subscription,
    Ticker,
    Trade,
    TrustState,
    VenueStatus,
)
from onetape.tape.validation import skipped, worthless
from onetape.venues.base import (
    UNREADABLE,
    Acked,
    Alive,
    LoginRefused,
    Notice,
    Parsed,
    Reaction,
    Refused,
    Timings,
    Unknown,
    Venue,
)

MAX_TEXT = 64 * 1024  # bytes of a quarantined frame that are kept
MAX_SYMBOL = 64
MAX_BOOKS = 10_000  # that come unasked, in recordings of others
REVIVE_NS = 30 * SECOND  # what was refused for good, of a symbol that the venue lists, is asked for again
LONGEST_REVIVE_NS = HOUR
MAX_VAIN = 50  # frames that could not be read, one after the other: this connection brings nothing
MAX_UNKNOWN = 10_000  # frames of kinds that nobody knows, likewise
MAX_STRANGERS = 1_000  # symbols that nobody asked for and that came all the same
_QUOTES = Channel.QUOTES  # see BUY in model/events.py

BookFactory = Callable[[Window], OrderBook]


class _Feed:
    """A book of this connection and what asks for its snapshots."""

    __slots__ = ("pulse", "resync", "subscription", "sync")

    def __init__(self, sync: BookSync, resync: Resync, subscription: Subscription) -> None:
        self.sync, self.resync, self.subscription = sync, resync, subscription
        self.pulse: Pulse | None = None
        """None: nobody asked for it, so that nothing is expected."""


class Session:
    """Lives exactly as long as its connection. No method waits, raises on hostile input, or looks at the clock.

    ``wanted`` None means that whatever comes is welcome: for recordings of others, which name no subscriptions.
    """

    def __init__(
        self, venue: Venue, wanted: Sequence[Subscription] | None, now: int, *, depth: int = 0,
        timings: Timings | None = None, book: BookFactory = OrderBook, credentials: Credentials | None = None,
        beside: Callable[[], Iterable[Liveness]] = lambda: (),
    ) -> None:
        self.venue = venue
        self.frames = 0
        self.counters: Counter[str] = Counter()
        """All that was not plain delivery, by what it was."""
        self.delivered = 0
        """Events of the market that came over this connection: proof that it works."""
        timings = venue.spec.timings if timings is None else timings
        self._timings = timings
        self._wanted = None if wanted is None else dict.fromkeys(wanted)
        self._symbols = None if wanted is None else {it.symbol for it in wanted}
        self._depth, self._new_book, self._credentials = depth, book, credentials
        self._feeds: dict[str, _Feed] = {}
        self._watch = SubscriptionWatch(timings.ack_ns, timings.first_frame_ns)
        self._beside = beside
        self._liveness = Liveness(timings.silence_ns, timings.heartbeat_ns, now, self._beside)
        # By symbol and channel, of candles by symbol and interval: there may be several.
        self._channels = {(it.symbol, it.interval or it.channel): it for it in wanted or ()}
        # What is under way, the book's epoch when it was sent, and whether it is only to compare with.
        self._fetches: dict[int, tuple[Request, int, bool]] = {}
        self._fetched = 0
        self._pings = 0
        self._ping_at = now + timings.ping_every_ns
        self._free_at = now  # when the next frame may leave, at the venue's pace
        self._frame_gap_ns = int(SECOND / venue.spec.limits.sends_per_second)
        self._requests, self._requests_since = 0, now  # of the budget per hour
        self._strangers: set[str] = set()
        self._left_behind: set[str] = set()  # symbols that were wanted once: the rest of them may be on its way
        self._listed: dict[str, Instrument] = {}  # by symbol, as the venue's list has it
        self._given_up: dict[Subscription, tuple[int, int]] = {}  # when to ask again, and how often that was in vain
        self._vain = self._unheard = 0  # frames since the last event that could not be read, or are not known
        self._dropped: dict[Subscription, str] = {}  # and why
        self.awaited = {it for it in wanted or () if it.channel in TAPES}  # of which nothing has come yet
        self.overlap = None if venue.spec.counted_trades else Overlap()
        """What tells, where ids cannot, whether the next connection has every trade."""
        self._increments: dict[str, tuple[Decimal, Decimal]] = {}  # tick and lot, as last told
        self._refused_frame = 0  # the number of the last one that was quarantined
        self._pong_by: int | None = None
        self.round_trip_ns: int | None = None
        """From ping to pong, the last one."""
        # Nothing is asked for where nothing is known to be wanted.
        self._auditor = Auditor(venue.spec.book, 0 if wanted is None else timings.audit_ns, now)
        self._wake_at: int | None = None
        self._scheduled = False

    @property
    def liveness(self) -> Liveness:
        """For the venue's other connections to look at."""
        return self._liveness

    @property
    def books(self) -> Mapping[str, BookSync]:
        """By symbol."""
        return {symbol: feed.sync for symbol, feed in self._feeds.items()}

    @property
    def settled(self) -> bool:
        """Data flows, every book is live, and no subscription has anything left to prove."""
        return bool(self.delivered) and not self.lacking and not self._watch.open

    @property
    def lacking(self) -> int:
        """Books that are not live, and subscriptions that the venue refuses."""
        stale = sum(feed.sync.state is not TrustState.LIVE for feed in self._feeds.values())
        return stale + len(self._dropped)

    def behind(self, other: "Session", tolerance_ns: int) -> bool:
        """A book here is older than the same one there."""
        theirs = other.books
        return any(
            symbol in theirs and feed.sync.time + tolerance_ns < theirs[symbol].time
            for symbol, feed in self._feeds.items()
        )

    def overlaps(self, before: "Session") -> bool:
        """No trade can have been lost between that connection and this one."""
        return self.overlap is None or before.overlap is None or all(
            self.overlap.proven(before.overlap, it.symbol) for it in self._tapes()
        )

    def has(self, symbol: str, channel: Channel) -> bool:
        """It is subscribed to here."""
        return (symbol in self._feeds) if channel is Channel.BOOK else (symbol, channel) in self._channels

    def bridge(self, before: "Session", reason: str, now: int, symbol: str = "") -> list[Event]:
        """What is to be told of the tapes when this connection takes over from that one, where ids tell nothing.

        ``symbol``: only of this one.
        """
        out: list[Event] = []
        if self.overlap is None or before.overlap is None:
            return out
        for it in self._tapes():
            if symbol not in ("", it.symbol):
                continue
            hole = self.overlap.hole(before.overlap, it.symbol)
            if hole is not None:
                last, first = hole
                out.append(GapOpened(
                    venue=first.venue, symbol=first.symbol, exchange_time=first.exchange_time, received_time=now,
                    available_at=now, channel=first.channel, after=last.id, before=first.id,
                    from_time=last.exchange_time, to_time=first.exchange_time,
                    cause=f"{reason}; ids cannot tell what was missed",
                ))
            elif not self.overlap.begun(it.symbol) and not self.overlap.proven(before.overlap, it.symbol):
                out.append(self._status(it, TrustState.STALE, reason, now))
        return out

    def _continues(self, it: Subscription, before: "Session") -> bool:
        """Nothing has come of this tape yet, but it came there until it must have come here too."""
        if self.overlap is None or before.overlap is None:
            return False
        return it not in before.awaited and self.overlap.proven(before.overlap, it.symbol)

    def covers(self, before: "Session", symbol: str) -> bool:
        """That connection went on until well after this one was subscribed to the tape: what ended there goes on here.

        It need not have brought a trade yet. Only where ids prove nothing, else never.
        """
        return (
            self.overlap is not None and before.overlap is not None and self.overlap.proven(before.overlap, symbol)
        )

    def begun(self, symbol: str) -> bool:
        """Of a tape whose ids prove nothing: a trade came over this connection."""
        return self.overlap is not None and self.overlap.begun(symbol)

    def _tapes(self) -> Iterable[Subscription]:
        return (it for it in self._wanted or () if it.channel in TAPES)

    def introduce(self, now: int, before: "Session | None" = None) -> list[Event]:
        """All that somebody has to be told who was not listening until now, or to the connection before."""
        out: list[Event] = []
        for it in self._wanted or ():
            if it.channel is Channel.BOOK and it.symbol in self._feeds:
                out += self._feeds[it.symbol].sync.introduce(now)
            elif it in self._dropped:
                out.append(self._status(it, TrustState.DOWN, self._dropped[it], now))
            elif it.channel in TAPES:
                goes_on = it not in self.awaited or (before is not None and self._continues(it, before))
                state = TrustState.LIVE if goes_on else TrustState.SYNCING
                out.append(self._status(it, state, "", now))
        return out

    # --- inputs -----------------------------------------------------------------------------------------------------

    def open(self, now: int) -> list[Event | Command]:
        """The socket stands: subscribe to all that is wanted."""
        wanted = tuple(self._wanted or ())
        out: list[Event | Command] = [
            self._status(it, TrustState.SYNCING, "", now) for it in wanted if it.channel is Channel.BOOK
        ]
        self._free_at = self._requests_since = now
        self._ping_at = now + self._timings.ping_every_ns
        self._liveness = Liveness(self._timings.silence_ns, self._timings.heartbeat_ns, now, self._beside)
        if self._credentials is not None:  # not by `_send`: in a replay nobody logs in, and all else has to be the same
            out += map(Send, self.venue.login(self._credentials, now))
        self._subscribe(wanted, now, out)
        return out

    def change(
        self, new: Sequence[Subscription], gone: Sequence[Subscription], now: int,
    ) -> list[Event | Command]:
        """Something else is wanted from now on."""
        out: list[Event | Command] = []
        self._wanted = dict.fromkeys([*(it for it in self._wanted or () if it not in gone), *new])
        self._symbols = {it.symbol for it in self._wanted}
        self._left_behind |= {it.symbol for it in gone} - self._symbols
        self._channels = {(it.symbol, it.interval or it.channel): it for it in self._wanted}
        self.awaited |= {it for it in new if it.channel in TAPES}
        for it in gone:
            self._part(it, "no longer wanted", now, out)
        self._send(self.venue.unsubscribe(gone) if gone else (), now, out)
        out += [self._status(it, TrustState.SYNCING, "", now) for it in new if it.channel is Channel.BOOK]
        if new:
            self._subscribe(new, now, out)
        self._reschedule()
        return out

    def _subscribe(self, wanted: Sequence[Subscription], now: int, out: list[Event | Command]) -> None:
        sent = self._send(self.venue.subscribe(wanted), now, out)
        for subscription in wanted:
            self._expect(subscription, sent, now)
        self._watch.asked(self._watched(wanted), sent)

    def _expect(self, subscription: Subscription, sent: int, now: int) -> None:
        if subscription.channel is Channel.BOOK:
            feed = self._add_feed(subscription, now)
            feed.resync.subscribed(sent)
            feed.pulse = self._liveness.expect(subscription, sent, self.venue.spec.book.silence_ns)
        else:
            self._liveness.expect(subscription, sent)

    def learn(self, it: Instrument, now: int) -> list[Event | Command]:
        """An instrument of this venue, as its list says now."""
        out: list[Event | Command] = []
        self._listed[it.id.symbol] = it
        self._instrument(it, now, out)
        self._reschedule()
        return out

    def pinged(self, now: int) -> None:
        """A ping or pong frame of the WebSocket itself: the socket lives."""
        self._liveness.frame_at = now

    def receive(self, frame: bytes, now: int) -> list[Event | Command]:
        """A frame as it came from the socket."""
        self.frames += 1
        self._liveness.frame_at = now
        out: list[Event | Command] = []
        try:
            parsed = self.venue.parse(frame, now)
        except UNREADABLE as error:
            if isinstance(error, BadFrame) and error.channel:  # its parser could still tell
                self._quarantine(frame, str(error), error.symbol, Channel(error.channel), now, out)
            else:
                self._quarantine(frame, str(error), *self.venue.blame(frame), now, out)
            self._vain += 1
            if self._vain > MAX_VAIN:
                out.append(Reconnect(f"{self._vain} frames in a row could not be read"))
                self._vain = 0
            return out
        for it in parsed:  # nearly all are one of three; each class pattern that does not match costs 80 ns
            if type(it) is BookDelta:
                self._take_book(it, frame, now, out)
            elif type(it) is Trade and it.price and it.size:
                self._take_market(it, it.channel, "", frame, now, out)
            elif type(it) is Quote:
                self._take_market(it, _QUOTES, "", frame, now, out)
            else:
                self._take(it, frame, now, out)
        return out

    def receive_rest(
        self, id: int, status: int, body: bytes, now: int, headers: Mapping[str, str] | None = None,
    ) -> list[Event | Command]:
        """The answer to Fetch ``id``; header names in lower case."""
        out: list[Event | Command] = []
        if id not in self._fetches:
            self.counters["answers nobody waits for"] += 1
            return out
        request, epoch, audit = self._fetches.pop(id)
        if audit:
            self._take_audit(request, status, body, headers or {}, now, out)
            return out
        feed = self._feed_of(request.symbol, now)
        if feed is None:
            self.counters["answers nobody waits for"] += 1
            return out
        try:
            self.venue.check(status, headers or {}, body)
            outputs = feed.sync.join(self.venue.parse_book(request, body, now), epoch, now)
        except TryAgain as error:
            self._unanswered(feed, error.reason, error.retry_after_ns, now, out)
        except ClockSkew as error:
            self._unanswered(feed, error.reason, 0, now, out)
        except RestError as error:
            if self.venue.spec.book.snapshots is Snapshots.REST:
                self._drop(feed.subscription, error.reason, now, out)
                self._send(self.venue.unsubscribe((feed.subscription,)), now, out)
            else:  # the stream may still bring what REST will not
                self._unanswered(feed, error.reason, 0, now, out)
        except UNREADABLE as error:
            out.append(self._error(request.symbol, Channel.BOOK, str(error), now, quarantined=True, frame=body))
            self._unanswered(feed, "unreadable snapshot", 0, now, out)
        else:
            self._relay_joined(feed, outputs, now, out)
        self._reschedule()
        return out

    def rest_failed(self, id: int, reason: str, now: int) -> list[Event | Command]:
        """Fetch ``id`` brought no answer at all."""
        out: list[Event | Command] = []
        request, _, audit = self._fetches.pop(id, (None, 0, False))
        if audit:
            self._auditor.failed(now)
        elif request is not None and (feed := self._feeds.get(request.symbol)):
            self._unanswered(feed, reason, 0, now, out)
        self._reschedule()
        return out

    def expect(self, request: Request, *, audit: bool = False) -> int:
        """Announces an answer that somebody else asked for; gives the id under which it may be brought."""
        feed = self._feeds.get(request.symbol)
        self._fetched += 1
        self._fetches[self._fetched] = request, feed.sync.epoch if feed else 0, audit
        return self._fetched

    def close(self, reason: str, now: int) -> list[Event | Command]:
        """The socket is gone, and with it every book; what a tape misses from now on, its ids may not tell."""
        out: list[Event | Command] = [self._status(it, TrustState.DOWN, reason, now) for it in self._tapes()]
        for feed in self._feeds.values():
            out += feed.sync.down(reason, now)
        return out

    def next_wake(self) -> int | None:
        """When ``wake`` is due, ns; None if nothing is."""
        if not self._scheduled:
            feeds = (it for feed in self._feeds.values() for it in (feed.sync.next_wake(), feed.resync.next_wake()))
            ping = self._ping_at if self._timings.ping_every_ns else None
            revive = min((at for at, _ in self._given_up.values()), default=None)
            audit = self._auditor.next_wake()
            others = (self._watch.next_wake(), self._liveness.next_wake(), ping, self._pong_by, revive, audit)
            self._wake_at = min((it for it in (*feeds, *others) if it is not None), default=None)
            self._scheduled = True
        return self._wake_at

    def wake(self, now: int) -> list[Event | Command]:
        """Does what has become due. Called with now = the deadline, so that replays do the same at the same time."""
        out: list[Event | Command] = []
        feeds = list(self._feeds.values())
        steps = [(feed, self._relay(feed, feed.sync.wake(now), now, out)) for feed in feeds]
        self._take_steps([*steps, *((feed, feed.resync.wake(now)) for feed in feeds)], now, out)
        for stuck in self._watch.wake(now):
            self._ask_again(stuck.subscription, stuck.reason, now, out)
        due = self._liveness.next_wake()
        if due is not None and now >= due:
            self._check_liveness(now, out)
        self._revive(now, out)
        self._ping(now, out)
        self._begin_audit(now, out)
        self._reschedule()
        return out

    # --- what frames say --------------------------------------------------------------------------------------------

    def _take(self, it: Parsed, frame: bytes, now: int, out: list[Event | Command]) -> None:
        match it:
            case BookDelta() | BookSnapshot():
                self._take_book(it, frame, now, out)
            case Quote():
                self._take_market(it, _QUOTES, "", frame, now, out)
            case Trade() if self._knows(it.symbol):
                self._refuse_trade(it, worthless(it), frame, now, out)
            case Trade() | Skipped():
                self._take_market(it, it.channel, "", frame, now, out)
            case Ticker():
                self._take_market(it, Channel.TICKER, "", frame, now, out)
            case Candle():
                self._take_market(it, Channel.CANDLES, it.interval, frame, now, out)
            case ConnectionGap():
                out.append(it)
                reason = f"the connection lost frames: expected {it.expected}, got {it.got}"
                self._distrust_all(reason, now, out)
                out.append(Reconnect(reason))
            case InstrumentChanged():
                out.append(it)
                self._instrument(it.instrument, now, out)
            case VenueStatus():
                out.append(it)
                if not it.symbol and it.status in self.venue.spec.book.halts:
                    self._distrust_all(f"the venue is in {it.status}", now, out)
            case FeedStatus() | FeedError() | ConnectionState() | BookAudited():
                out.append(it)
            case GapOpened() | GapFilling() | GapClosed():
                out.append(it)
            case Acked():
                self._acked(it, now, out)
            case Refused():
                self._refused(it, now, out)
            case Alive():
                self._alive(it, now)
            case LoginRefused():
                out.append(self._error("", "", f"login refused: {it.reason}", now, permanent=True))
                out.append(Reconnect(f"login refused: {it.reason}", refused=True))
            case Notice():
                self.counters["notices"] += 1
                out.append(Reconnect(it.reason, planned=True))
            case Unknown():
                self.counters["unknown"] += 1
                self._unheard += 1
                if self._unheard > MAX_UNKNOWN:
                    out.append(Reconnect(f"{self._unheard} frames in a row are of no known kind"))
                    self._unheard = 0

    def _take_market(
        self, it: Trade | Skipped | Quote | Ticker | Candle, channel: Channel, interval: str, frame: bytes, now: int,
        out: list[Event | Command],
    ) -> None:
        subscription = self._channels.get((it.symbol, interval or channel))
        if subscription is None and not self._knows(it.symbol):
            if it.symbol in self._left_behind:
                self.counters["not asked for"] += 1
            else:
                self._quarantine(frame, f"unknown symbol {it.symbol[:40]!r}", it.symbol, channel, now, out)
            return
        self.delivered += 1
        if subscription is not None and (pulse := self._liveness.pulses.get(subscription)) is not None:
            pulse.beat(now)
        if (
            self._vain or self._unheard or self._dropped or self._given_up
            or (self._watch.open and subscription in self._watch.open)
        ):
            self._heard(subscription)
        if self.overlap is not None:
            self._hear_beyond_ids(it.exchange_time, now, out)
            if isinstance(it, Trade) and subscription is not None and (silence := self.overlap.trade(it, now)):
                self._doubt([subscription], f"no trade for {silence / SECOND:.1f} s, unlike before", now, out)
        if self.awaited and subscription in self.awaited:
            self.awaited.remove(subscription)
            out.append(self._status(subscription, TrustState.LIVE, "", now))
        out.append(it)

    def _refuse_trade(self, it: Trade, reason: str, frame: bytes, now: int, out: list[Event | Command]) -> None:
        """One impossible trade costs none of its frame's others, and nobody is to look for its id again."""
        self._quarantine(frame, reason, it.symbol, it.channel, now, out)
        out.append(skipped(it, f"quarantined: {reason}", it.exchange_time, now))

    def _take_book(self, it: BookDelta | BookSnapshot, frame: bytes, now: int, out: list[Event | Command]) -> None:
        feed = self._feeds.get(it.symbol) or self._feed_of(it.symbol, now)
        if feed is None and (self._knows(it.symbol) or it.symbol in self._left_behind):  # still on its way
            self.counters["not asked for"] += 1
            return
        if feed is None:
            self._quarantine(frame, f"unknown symbol {it.symbol[:40]!r}", it.symbol, Channel.BOOK, now, out)
            return
        try:
            outputs = feed.sync.receive(it, now)
        except BadLevels as error:
            self._quarantine(frame, str(error), it.symbol, Channel.BOOK, now, out)
            return
        self.delivered += 1
        if feed.pulse is not None:
            feed.pulse.beat(now)
        if (
            self._vain or self._unheard or self._dropped or self._given_up
            or (self._watch.open and feed.subscription in self._watch.open)
        ):
            self._heard(feed.subscription)
        if self.overlap is not None:
            self._hear_beyond_ids(it.exchange_time, now, out)
            if any(isinstance(one, FeedStatus) and one.state is TrustState.STALE for one in outputs):
                self._doubt(self._tapes(), f"frames were lost: {feed.sync.reason}", now, out)
        if len(outputs) == 1 and outputs[0] is it:
            out.append(it)
            if self._auditor.symbol == it.symbol:
                self._follow_audit(feed, outputs, now, out)
        else:
            self._take_steps([(feed, self._relay(feed, outputs, now, out))], now, out)

    def _heard(self, subscription: Subscription | None) -> None:
        """What was doubted: that the connection brings anything that can be read, and that this is brought."""
        self._vain = self._unheard = 0
        if subscription is not None:
            self._watch.data(subscription)
            self._given_up.pop(subscription, None)
            self._dropped.pop(subscription, None)

    def _knows(self, symbol: str) -> bool:
        return 0 < len(symbol) <= MAX_SYMBOL if self._symbols is None else symbol in self._symbols

    def _acked(self, it: Acked, now: int, out: list[Event | Command]) -> None:
        self._reschedule()
        if not it.removed:
            self._watch.acked(it.subscriptions)
            if self.overlap is not None:
                self.overlap.acked(one.symbol for one in it.subscriptions if one.channel in TAPES)
            return
        self._left(it.subscriptions, now, out)

    def _left(self, subscriptions: Iterable[Subscription], now: int, out: list[Event | Command]) -> None:
        """These are unsubscribed, or were never subscribed: books that want a snapshot may come back."""
        books = [
            self._feeds[it.symbol] for it in subscriptions if it.channel is Channel.BOOK and it.symbol in self._feeds
        ]
        self._take_steps([(feed, feed.resync.unsubscribed(now)) for feed in books], now, out)

    def _refused(self, it: Refused, now: int, out: list[Event | Command]) -> None:
        self._reschedule()
        self.counters["refused"] += 1
        if it.reaction is Reaction.RECONNECT:
            out.append(Reconnect(it.reason))
            return
        if it.removed:
            self._left(it.subscriptions, now, out)
            return
        if it.reaction is Reaction.IGNORE:
            self._watch.acked(it.subscriptions)
            return
        if not it.subscriptions:
            out.append(self._error("", "", it.reason, now))
        for subscription in it.subscriptions:
            if self._wanted is not None and subscription not in self._wanted:  # it was let go meanwhile
                continue
            if it.reaction is Reaction.DROP:
                self._drop(subscription, it.reason, now, out)
            else:
                out.append(self._error(subscription.symbol, subscription.channel, it.reason, now))
                self._watch.refused(subscription, now)
                if (feed := self._feed_by_stream(subscription)) is not None:
                    feed.resync.refused(now)
        others = [one for one in it.others if one in (self._wanted or ()) and one not in self._dropped]
        if others:
            self.counters["refused with others"] += len(others)
            self._send(self.venue.subscribe(others), now, out)

    def _alive(self, it: Alive, now: int) -> None:
        self._liveness.heartbeat(now)
        if self._pong_by is not None and it.request in (None, self._pings):
            self.round_trip_ns = now - self._ping_at + self._timings.ping_every_ns
            self._pong_by = None
            self._reschedule()

    # --- books ------------------------------------------------------------------------------------------------------

    def _feed_of(self, symbol: str, now: int) -> _Feed | None:
        if self._wanted is not None or not self._knows(symbol) or len(self._feeds) >= MAX_BOOKS:
            return self._feeds.get(symbol)
        return self._feeds.get(symbol) or self._add_feed(Subscription(symbol, Channel.BOOK, self._depth), now)

    def _add_feed(self, subscription: Subscription, now: int) -> _Feed:
        spec = self.venue.spec
        book = self._new_book(Window(subscription.depth, spec.book.resends))
        id = InstrumentId(spec.name, subscription.symbol)
        feed = _Feed(BookSync(id, book, spec.book, self.venue.checksum, now), Resync(spec.book), subscription)
        self._feeds[subscription.symbol] = feed
        if (listed := self._listed.get(subscription.symbol)) is not None:
            feed.sync.may_cross = listed.may_cross
            self._increments[subscription.symbol] = listed.tick_size, listed.lot_size
        return feed

    def _relay(self, feed: _Feed, outputs: Iterable[Output], now: int, out: list[Event | Command]) -> Step | None:
        """Passes on what a book says; gives the step that it needs."""
        step = None
        if self._auditor.symbol == feed.subscription.symbol and outputs:
            outputs = list(outputs)
            self._auditor.follow(outputs, now)
        for it in outputs:
            self._reschedule()
            if isinstance(it, NeedSnapshot):
                step = feed.resync.need(now) or step
                continue
            if isinstance(it, FeedStatus) and it.state is TrustState.LIVE:
                feed.resync.live(now)
            out.append(it)
        return step

    def _relay_joined(self, feed: _Feed, outputs: Sequence[Output], now: int, out: list[Event | Command]) -> None:
        if not outputs:
            feed.resync.held()
        elif isinstance(outputs[0], NeedSnapshot):
            self._unanswered(feed, outputs[0].reason, 0, now, out)
        else:
            self._take_steps([(feed, self._relay(feed, outputs, now, out))], now, out)

    def _unanswered(self, feed: _Feed, reason: str, wait_ns: int, now: int, out: list[Event | Command]) -> None:
        self.counters["snapshots in vain"] += 1
        out.append(self._error(feed.subscription.symbol, Channel.BOOK, reason, now))
        self._take_steps([(feed, feed.resync.answered(now, wait_ns))], now, out)

    def _take_steps(
        self, steps: Iterable[tuple[_Feed, Step | None]], now: int, out: list[Event | Command],
    ) -> None:
        """Many books in as few frames as the venue allows: one garbage frame may have made all of them stale."""
        leaving, coming = [], []
        for feed, step in steps:
            if self._wanted is None and step is not Step.FETCH:  # nobody subscribes again in a recording of others
                continue
            match step:
                case Step.FETCH:
                    window = feed.sync.book.window
                    request = self.venue.book_request(feed.subscription.symbol, window.keep(window.depth))
                    out.append(Fetch(self.expect(request), request))
                case Step.UNSUBSCRIBE:
                    leaving.append(feed)
                case Step.SUBSCRIBE:
                    if feed.sync.state in (TrustState.LIVE, TrustState.CROSSED):  # by a late snapshot: a hole follows
                        self._relay(feed, feed.sync.distrust("subscribed anew", now), now, out)
                    coming.append(feed)
                case None:
                    continue
            self._reschedule()
        self._send_for(leaving, self.venue.unsubscribe, now, out)
        self._send_for(coming, self.venue.subscribe, now, out)
        if any(it.resync.hopeless for it in leaving) and not self._any_live():
            out.append(Reconnect("no book could be had on this connection"))

    def _send_for(
        self, feeds: Sequence[_Feed], request: Callable[[Sequence[Subscription]], list[bytes]], now: int,
        out: list[Event | Command],
    ) -> None:
        if feeds:
            sent = self._send(request([it.subscription for it in feeds]), now, out)
            for feed in feeds:
                feed.resync.sent(sent)

    def _any_live(self) -> bool:
        return any(it.sync.state is TrustState.LIVE for it in self._feeds.values())

    def _instrument(self, it: Instrument, now: int, out: list[Event | Command]) -> None:
        symbol, increments = it.id.symbol, (it.tick_size, it.lot_size)
        feed = self._feeds.get(symbol)
        if feed is None:
            return
        feed.sync.may_cross = it.may_cross
        if self._increments.setdefault(symbol, increments) != increments:  # its digits change, and checksums with them
            self._increments[symbol] = increments
            outputs = feed.sync.distrust("the instrument's tick or lot changed", now)
            self._take_steps([(feed, self._relay(feed, outputs, now, out))], now, out)

    def _distrust_all(self, reason: str, now: int, out: list[Event | Command]) -> None:
        feeds = list(self._feeds.values())
        self._take_steps(
            [(feed, self._relay(feed, feed.sync.distrust(reason, now), now, out)) for feed in feeds], now, out
        )

    def _quarantine(
        self, frame: bytes, reason: str, symbol: str, channel: Channel | None, now: int, out: list[Event | Command],
    ) -> None:
        """Stale first, then the report: book data may have been in what could not be read."""
        again, self._refused_frame = self.frames == self._refused_frame, self.frames
        if channel in (None, Channel.BOOK):
            if feed := self._feeds.get(symbol):
                outputs = feed.sync.distrust(f"unreadable frame: {reason}", now)
                self._take_steps([(feed, self._relay(feed, outputs, now, out))], now, out)
            elif not symbol or self._may_be_damaged(symbol):
                self._distrust_all(f"unreadable frame: {reason}", now, out)
        if self.overlap is not None and (channel is None or channel in TAPES):
            tapes = [it for it in self._tapes() if symbol in ("", it.symbol)]
            self._doubt(tapes, f"unreadable frame: {reason}", now, out)
        if not again:
            out.append(self._error(symbol, channel or "", reason, now, quarantined=True, frame=frame))

    def _hear_beyond_ids(self, exchange_time: int, now: int, out: list[Event | Command]) -> None:
        """Where the ids of trades prove nothing, a silence of the connection has to be told before what ends it."""
        assert self.overlap is not None
        silence = self.overlap.event(exchange_time, now)
        if silence:
            self._doubt(self._tapes(), f"nothing came for {silence / SECOND:.1f} s", now, out)

    def _doubt(self, tapes: Iterable[Subscription], reason: str, now: int, out: list[Event | Command]) -> None:
        """What these tapes may have missed, their ids will not tell."""
        for it in tapes:
            self.awaited.add(it)
            out.append(self._status(it, TrustState.STALE, reason, now))

    def _may_be_damaged(self, symbol: str) -> bool:
        """A book frame of an unknown symbol may have been one of ours, where no number would show that it is missing.

        Only when it comes for the first time: who comes again is a stranger indeed, another name of the venue's.
        """
        if not self.venue.spec.book.counted or symbol in self._strangers:
            return False
        if len(self._strangers) < MAX_STRANGERS:
            self._strangers.add(symbol)
        return True

    # --- audit ------------------------------------------------------------------------------------------------------

    def _begin_audit(self, now: int, out: list[Event | Command]) -> None:
        due = self._auditor.next_wake()
        if due is None or now < due:
            return
        waiting = any(audit for _, _, audit in self._fetches.values())  # behind a pause of the venue's, say
        symbol = self._auditor.wake({} if waiting else self.books, now)
        if symbol is not None:
            request = self.venue.book_request(symbol, self._auditor.depth)
            out.append(Fetch(self.expect(request, audit=True), request, Purpose.AUDIT))

    def _take_audit(
        self, request: Request, status: int, body: bytes, headers: Mapping[str, str], now: int,
        out: list[Event | Command],
    ) -> None:
        """What REST shows of the book under audit. What cannot be compared says nothing about the book."""
        feed = self._feeds.get(request.symbol)
        try:
            self.venue.check(status, headers, body)
            snapshot = self.venue.parse_book(request, body, now)
            verdict = self._auditor.answered(snapshot, feed.sync if feed else None, now)
        except (RestError, ClockSkew, *UNREADABLE, BadLevels):
            self._auditor.failed(now)
        else:
            self._tell_audit(feed, verdict, now, out)
        self._reschedule()

    def _follow_audit(
        self, feed: _Feed, outputs: Sequence[Output], now: int, out: list[Event | Command],
    ) -> None:
        self._auditor.follow(outputs, now)
        if self._auditor.ahead:
            self._tell_audit(feed, self._auditor.judge(feed.sync, now), now, out)
            self._reschedule()

    def _tell_audit(self, feed: _Feed | None, it: Verdict | None, now: int, out: list[Event | Command]) -> None:
        """Stale first, then the result."""
        if it is None or feed is None:
            return
        sequence, match = feed.sync.sequence, it.match
        if it.wrong:
            self.counters["audits failed"] += 1
            reason = f"REST shows other levels: {match.bids:.1%} of the bids and {match.asks:.1%} of the asks agree"
            self._take_steps([(feed, self._relay(feed, feed.sync.distrust(reason, now), now, out))], now, out)
        out.append(BookAudited(
            venue=self.venue.spec.name, symbol=it.symbol, exchange_time=feed.sync.time, received_time=now,
            available_at=now, sequence=sequence, levels=match.levels, bids_match=match.bids, asks_match=match.asks,
            exact=it.exact, wrong=it.wrong,
        ))

    # --- subscriptions and silence ----------------------------------------------------------------------------------

    def _drop(self, subscription: Subscription, reason: str, now: int, out: list[Event | Command]) -> None:
        """Permanent: this subscription is given up, the others go on. Now and then it is asked for once more, as long
        as the venue lists what it refuses: one of the two is mistaken."""
        if subscription in self._dropped:  # told before, by another frame
            return
        _, vain = self._given_up.get(subscription, (0, 0))
        listed = self._listed.get(subscription.symbol)
        if listed is not None and listed.tradable:
            self._given_up[subscription] = now + min(REVIVE_NS << min(vain, 10), LONGEST_REVIVE_NS), vain + 1
        self._part(subscription, reason, now, out)
        self._dropped[subscription] = reason
        if subscription.channel in TAPES:
            self.awaited.add(subscription)
        out.append(self._error(subscription.symbol, subscription.channel, reason, now, permanent=True))

    def _part(self, subscription: Subscription, reason: str, now: int, out: list[Event | Command]) -> None:
        """It brings nothing any more."""
        self._watch.forget(subscription)
        self._liveness.forget(subscription)
        self.awaited.discard(subscription)
        self._dropped.pop(subscription, None)
        if subscription.symbol not in (self._symbols or ()):
            self._given_up.pop(subscription, None)
        was_book = subscription.channel is Channel.BOOK and self._feeds.pop(subscription.symbol, None) is not None
        if was_book or subscription.channel in TAPES:
            out.append(self._status(subscription, TrustState.DOWN, reason, now))

    def _revive(self, now: int, out: list[Event | Command]) -> None:
        due = [it for it, (at, _) in self._given_up.items() if now >= at]
        for subscription in due:
            vain = self._given_up[subscription][1]
            self._given_up[subscription] = now + LONGEST_REVIVE_NS, vain  # unless it is refused again, and sooner
            self.counters["asked for after a refusal"] += 1
            sent = self._send(self.venue.subscribe((subscription,)), now, out)
            self._dropped.pop(subscription, None)
            if subscription.channel is Channel.BOOK:
                out.append(self._status(subscription, TrustState.SYNCING, "asked for again", now))
            self._expect(subscription, sent, now)
            self._watch.asked(self._watched((subscription,)), sent)

    def _ask_again(self, subscription: Subscription, reason: str, now: int, out: list[Event | Command]) -> None:
        self.counters["asked again"] += 1
        out.append(self._error(subscription.symbol, subscription.channel, reason, now))
        self._send(self.venue.unsubscribe((subscription,)), now, out)
        self._watch.asked((subscription,), self._send(self.venue.subscribe((subscription,)), now, out))

    def _check_liveness(self, now: int, out: list[Event | Command]) -> None:
        for verdict in self._liveness.wake(now):
            match verdict:
                case SocketSilent(silent):
                    self.counters["socket silent"] += 1
                    out.append(Reconnect(f"no frame for {silent // SECOND} s"))
                case HeartbeatSilent(silent):
                    self.counters["heartbeat silent"] += 1
                    out.append(Reconnect(f"no heartbeat for {silent // SECOND} s"))
                case SubscriptionSilent(subscription, silent):
                    self.counters["subscription silent"] += 1
                    self._wake_up(subscription, f"silent for {silent // SECOND} s, unlike before", now, out)
                case BookFrozen(subscription, trades):
                    self.counters["book frozen"] += 1
                    self._wake_up(subscription, f"{trades} trades without a change of the book", now, out)

    def _wake_up(self, subscription: Subscription, reason: str, now: int, out: list[Event | Command]) -> None:
        if subscription.channel is Channel.BOOK and (feed := self._feeds.get(subscription.symbol)):
            self._take_steps([(feed, self._relay(feed, feed.sync.distrust(reason, now), now, out))], now, out)
        elif subscription.channel in TAPES:
            self._doubt([subscription], reason, now, out)
        if self._feed_by_stream(subscription) is None:  # such a book subscribes again by itself, to get its snapshot
            self._ask_again(subscription, reason, now, out)

    def _ping(self, now: int, out: list[Event | Command]) -> None:
        if self._pong_by is not None and now >= self._pong_by:
            self.counters["pong missing"] += 1
            self._pong_by = None
            out.append(Reconnect(f"no pong within {self._timings.pong_wait_ns // SECOND} s"))
        if self._timings.ping_every_ns and now >= self._ping_at:
            self._ping_at = now + self._timings.ping_every_ns
            frame = self.venue.ping(self._pings + 1)
            if frame is not None:
                self._pings += 1
                if self._pong_by is None and self._timings.pong_wait_ns:  # else the earlier ping is still waiting
                    self._pong_by = now + self._timings.pong_wait_ns
                out.append(Send(frame))

    # --- small things -----------------------------------------------------------------------------------------------

    def _send(self, frames: Sequence[bytes], now: int, out: list[Event | Command]) -> int:
        """Puts requests out; gives the time at which the last of them will have left, at the venue's pace."""
        out += (Send(self._signed(it, now)) for it in frames)
        self._free_at = max(self._free_at, now) + len(frames) * self._frame_gap_ns
        if now - self._requests_since >= HOUR:
            self._requests, self._requests_since = 0, now
        self._requests += len(frames)
        most = self.venue.spec.limits.requests_per_hour
        if most and self._requests > most * 5 // 6:  # beyond it nothing works any more on this connection
            self._requests = 0
            out.append(Reconnect(f"{most} requests an hour are nearly used up", planned=True))
        self._reschedule()
        return self._free_at

    def _signed(self, frame: bytes, now: int) -> bytes:
        return frame if self._credentials is None else self.venue.signed(frame, self._credentials, now)

    def _feed_by_stream(self, subscription: Subscription) -> _Feed | None:
        """The feed of a book that gets its snapshots by subscribing: Resync sees to its subscription, not the watch."""
        in_band = self.venue.spec.book.snapshots is not Snapshots.REST
        return self._feeds.get(subscription.symbol) if in_band and subscription.channel is Channel.BOOK else None

    def _watched(self, subscriptions: Iterable[Subscription]) -> list[Subscription]:
        return [it for it in subscriptions if self._feed_by_stream(it) is None]

    def _reschedule(self) -> None:
        self._scheduled = False

    def _status(self, subscription: Subscription, state: TrustState, reason: str, now: int) -> FeedStatus:
        return FeedStatus(
            venue=self.venue.spec.name, symbol=subscription.symbol, exchange_time=now, received_time=now,
            available_at=now, channel=subscription.channel, state=state, since=now, reason=reason,
        )

    def _error(
        self, symbol: str, channel: str, reason: str, now: int, *, permanent: bool = False, quarantined: bool = False,
        frame: bytes = b"",
    ) -> FeedError:
        self.counters["quarantined"] += quarantined
        return FeedError(
            venue=self.venue.spec.name, received_time=now, available_at=now, symbol=symbol, channel=channel,
            reason=reason, permanent=permanent, quarantined=quarantined,
            text=frame[:MAX_TEXT].decode("utf-8", "replace"),
        )
