"""One connection without the connection: frames and REST answers in, events and commands out."""
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from onetape.book.order_book import OrderBook, Window
from onetape.book.rules import Snapshots
from onetape.book.sync import BookSync, Output
from onetape.clock import SECOND
from onetape.errors import RestError, TryAgain
from onetape.feed.liveness import BookFrozen, HeartbeatSilent, Liveness, SocketSilent, SubscriptionSilent
from onetape.feed.resync import Resync, Step
from onetape.feed.watch import SubscriptionWatch
from onetape.model import (
    BadLevels,
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
    GapOpened,
    InstrumentChanged,
    InstrumentId,
    NeedSnapshot,
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
from onetape.venues.base import (
    UNREADABLE,
    Acked,
    Alive,
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
MAX_FETCHES = 3  # answers that are still welcome for one book: a slow one may come after the next was asked for

BookFactory = Callable[[Window], OrderBook]


class _Feed:
    """A book of this connection and what asks for its snapshots."""

    __slots__ = ("resync", "subscription", "sync")

    def __init__(self, sync: BookSync, resync: Resync, subscription: Subscription) -> None:
        self.sync, self.resync, self.subscription = sync, resync, subscription


class Session:
    """Lives exactly as long as its connection. No method waits, raises on hostile input, or looks at the clock.

    ``wanted`` None means that whatever comes is welcome: for recordings of others, which name no subscriptions.
    """

    def __init__(
        self, venue: Venue, wanted: Sequence[Subscription] | None, now: int, *, depth: int = 0,
        timings: Timings | None = None, book: BookFactory = OrderBook,
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
        self._depth, self._new_book = depth, book
        self._feeds: dict[str, _Feed] = {}
        self._watch = SubscriptionWatch(timings.ack_ns, timings.first_frame_ns)
        self._liveness = Liveness(timings.silence_ns, timings.heartbeat_ns, now)
        # By symbol and channel, of candles by symbol and interval: there may be several.
        self._channels = {(it.symbol, it.interval or it.channel): it for it in wanted or ()}
        self._fetches: dict[int, tuple[Request, int]] = {}  # what is under way, and the book's epoch when it was sent
        self._fetched = 0
        self._pings = 0
        self._ping_at = now + timings.ping_every_ns
        self._pong_by: int | None = None
        self.round_trip_ns: int | None = None
        """From ping to pong, the last one."""
        self._wake_at: int | None = None
        self._scheduled = False

    @property
    def books(self) -> Mapping[str, BookSync]:
        """By symbol."""
        return {symbol: feed.sync for symbol, feed in self._feeds.items()}

    # --- inputs -----------------------------------------------------------------------------------------------------

    def open(self, now: int) -> list[Event | Command]:
        """The socket stands: subscribe to all that is wanted."""
        wanted = tuple(self._wanted or ())
        out: list[Event | Command] = []
        for subscription in wanted:
            if subscription.channel is Channel.BOOK:
                feed = self._add_feed(subscription, now)
                feed.resync.subscribed(now)
                out.append(self._status(subscription, TrustState.SYNCING, "", now))
            self._liveness.expect(subscription, now)
        self._watch.asked(wanted, now)
        out += map(Send, self.venue.subscribe(wanted))
        self._reschedule()
        return out

    def receive(self, frame: bytes, now: int) -> list[Event | Command]:
        """A frame as it came from the socket."""
        self.frames += 1
        self._liveness.frame(now)
        out: list[Event | Command] = []
        try:
            parsed = self.venue.parse(frame, now)
        except UNREADABLE as error:
            self._quarantine(frame, str(error), *self.venue.blame(frame), now, out)
            return out
        for it in parsed:
            self._take(it, frame, now, out)
        return out

    def receive_rest(
        self, id: int, status: int, body: bytes, now: int, headers: Mapping[str, str] | None = None,  # noqa: A002
    ) -> list[Event | Command]:
        """The answer to Fetch ``id``; header names in lower case."""
        out: list[Event | Command] = []
        if id not in self._fetches:
            self.counters["answers nobody waits for"] += 1
            return out
        request, epoch = self._fetches.pop(id)
        feed = self._feed_of(request.symbol, now)
        if feed is None:
            self.counters["answers nobody waits for"] += 1
            return out
        try:
            self.venue.check(status, headers or {}, body)
            outputs = feed.sync.join(self.venue.parse_book(request, body, now), epoch, now)
        except TryAgain as error:
            self._unanswered(feed, error.reason, error.retry_after_ns, now, out)
        except RestError as error:
            self._drop(feed.subscription, error.reason, now, out)
        except UNREADABLE as error:
            out.append(self._error(request.symbol, Channel.BOOK, str(error), now, quarantined=True, frame=body))
            self._unanswered(feed, "unreadable snapshot", 0, now, out)
        else:
            self._relay_joined(feed, outputs, now, out)
        self._reschedule()
        return out

    def rest_failed(self, id: int, reason: str, now: int) -> list[Event | Command]:  # noqa: A002
        """Fetch ``id`` brought no answer at all."""
        out: list[Event | Command] = []
        request, _ = self._fetches.pop(id, (None, 0))
        if request is not None and (feed := self._feeds.get(request.symbol)):
            self._unanswered(feed, reason, 0, now, out)
        self._reschedule()
        return out

    def expect(self, request: Request) -> int:
        """Announces an answer that somebody else asked for; gives the id under which it may be brought."""
        feed = self._feeds.get(request.symbol)
        mine = [number for number, (it, _) in self._fetches.items() if it.symbol == request.symbol]
        if len(mine) >= MAX_FETCHES:
            del self._fetches[mine[0]]
            self.counters["fetches given up"] += 1
        self._fetched += 1
        self._fetches[self._fetched] = request, feed.sync.epoch if feed else 0
        return self._fetched

    def close(self, reason: str, now: int) -> list[Event | Command]:
        """The socket is gone, and with it every book."""
        out: list[Event | Command] = []
        for feed in self._feeds.values():
            out += feed.sync.down(reason, now)
        return out

    def next_wake(self) -> int | None:
        """When ``wake`` is due, ns; None if nothing is."""
        if not self._scheduled:
            feeds = (it for feed in self._feeds.values() for it in (feed.sync.next_wake(), feed.resync.next_wake()))
            ping = self._ping_at if self._timings.ping_every_ns else None
            others = (self._watch.next_wake(), self._liveness.next_wake(), ping, self._pong_by)
            self._wake_at = min((it for it in (*feeds, *others) if it is not None), default=None)
            self._scheduled = True
        return self._wake_at

    def wake(self, now: int) -> list[Event | Command]:
        """Does what has become due. Called with now = the deadline, so that replays do the same at the same time."""
        out: list[Event | Command] = []
        for feed in list(self._feeds.values()):
            self._relay(feed, feed.sync.wake(now), now, out)
            self._take_step(feed, feed.resync.wake(now), now, out)
        for stuck in self._watch.wake(now):
            self._ask_again(stuck.subscription, stuck.reason, now, out)
        due = self._liveness.next_wake()
        if due is not None and now >= due:
            self._check_liveness(now, out)
        self._ping(now, out)
        self._reschedule()
        return out

    # --- what frames say --------------------------------------------------------------------------------------------

    def _take(self, it: Parsed, frame: bytes, now: int, out: list[Event | Command]) -> None:
        match it:
            case BookDelta() | BookSnapshot():
                self._take_book(it, frame, now, out)
            case Trade() | Skipped():
                self._take_market(it, it.channel, "", frame, now, out)
            case Quote():
                self._take_market(it, Channel.QUOTES, "", frame, now, out)
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
                if feed := self._feeds.get(it.instrument.id.symbol):
                    feed.sync.may_cross = not it.instrument.tradable
                out.append(it)
            case VenueStatus() | FeedStatus() | FeedError() | ConnectionState() | GapOpened() | GapClosed():
                out.append(it)
            case Acked():
                self._acked(it, now, out)
            case Refused():
                self._refused(it, now, out)
            case Alive():
                self._alive(it, now)
            case Notice():
                self.counters["notices"] += 1
                out.append(Reconnect(it.reason, planned=True))
            case Unknown():
                self.counters["unknown"] += 1

    def _take_market(
        self, it: Trade | Skipped | Quote | Ticker | Candle, channel: Channel, interval: str, frame: bytes, now: int,
        out: list[Event | Command],
    ) -> None:
        if not self._knows(it.symbol):
            self._quarantine(frame, f"unknown symbol {it.symbol[:40]!r}", it.symbol, channel, now, out)
            return
        self._heard(self._channels.get((it.symbol, interval or channel)), now)
        out.append(it)

    def _take_book(self, it: BookDelta | BookSnapshot, frame: bytes, now: int, out: list[Event | Command]) -> None:
        feed = self._feeds.get(it.symbol) or self._feed_of(it.symbol, now)
        if feed is None and self._knows(it.symbol):  # dropped before, and still on its way
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
        self._heard(feed.subscription, now)
        if len(outputs) == 1 and outputs[0] is it:
            out.append(it)
        else:
            self._relay(feed, outputs, now, out)

    def _heard(self, subscription: Subscription | None, now: int) -> None:
        self.delivered += 1
        if subscription is not None:
            self._watch.data(subscription)
            self._liveness.data(subscription, now)

    def _knows(self, symbol: str) -> bool:
        return 0 < len(symbol) <= MAX_SYMBOL if self._symbols is None else symbol in self._symbols

    def _acked(self, it: Acked, now: int, out: list[Event | Command]) -> None:
        self._reschedule()
        if not it.removed:
            self._watch.acked(it.subscriptions)
            return
        for subscription in it.subscriptions:
            feed = self._feeds.get(subscription.symbol)
            if subscription.channel is Channel.BOOK and feed is not None:
                self._take_step(feed, feed.resync.unsubscribed(now), now, out)

    def _refused(self, it: Refused, now: int, out: list[Event | Command]) -> None:
        self._reschedule()
        self.counters["refused"] += 1
        if it.reaction is Reaction.IGNORE:
            self._watch.acked(it.subscriptions)
            return
        if it.reaction is Reaction.RECONNECT:
            out.append(Reconnect(it.reason))
            return
        if not it.subscriptions:
            out.append(self._error("", "", it.reason, now))
        for subscription in it.subscriptions:
            if it.reaction is Reaction.DROP:
                self._drop(subscription, it.reason, now, out)
            else:
                out.append(self._error(subscription.symbol, subscription.channel, it.reason, now))
                self._watch.refused(subscription, now)

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
        id = InstrumentId(spec.name, subscription.symbol)  # noqa: A001
        feed = _Feed(BookSync(id, book, spec.book, self.venue.checksum, now), Resync(spec.book), subscription)
        self._feeds[subscription.symbol] = feed
        return feed

    def _relay(self, feed: _Feed, outputs: Iterable[Output], now: int, out: list[Event | Command]) -> None:
        for it in outputs:
            self._reschedule()
            if isinstance(it, NeedSnapshot):
                self._take_step(feed, feed.resync.need(now), now, out)
                continue
            if isinstance(it, FeedStatus) and it.state is TrustState.LIVE:
                feed.resync.live(now)
            out.append(it)

    def _relay_joined(self, feed: _Feed, outputs: Sequence[Output], now: int, out: list[Event | Command]) -> None:
        if not outputs:
            feed.resync.held()
        elif isinstance(outputs[0], NeedSnapshot):
            self._unanswered(feed, outputs[0].reason, 0, now, out)
        else:
            self._relay(feed, outputs, now, out)

    def _unanswered(self, feed: _Feed, reason: str, wait_ns: int, now: int, out: list[Event | Command]) -> None:
        self.counters["snapshots in vain"] += 1
        out.append(self._error(feed.subscription.symbol, Channel.BOOK, reason, now))
        self._take_step(feed, feed.resync.answered(now, wait_ns), now, out)

    def _take_step(self, feed: _Feed, step: Step | None, now: int, out: list[Event | Command]) -> None:
        wanted = (feed.subscription,)
        match step:
            case Step.FETCH:
                window = feed.sync.book.window
                request = self.venue.book_request(feed.subscription.symbol, window.keep(window.depth))
                out.append(Fetch(self.expect(request), request))
            case Step.UNSUBSCRIBE:
                out += map(Send, self.venue.unsubscribe(wanted))
            case Step.SUBSCRIBE:
                if feed.sync.state in (TrustState.LIVE, TrustState.CROSSED):  # by a late snapshot: a hole follows it
                    self._relay(feed, feed.sync.distrust("subscribed anew", now), now, out)
                self._watch.asked(wanted, now)
                out += map(Send, self.venue.subscribe(wanted))
            case Step.RECONNECT:
                out.append(Reconnect(f"no snapshot of {feed.subscription.symbol} could be had on this connection"))
            case None:
                pass

    def _distrust_all(self, reason: str, now: int, out: list[Event | Command]) -> None:
        for feed in self._feeds.values():
            self._relay(feed, feed.sync.distrust(reason, now), now, out)

    def _quarantine(
        self, frame: bytes, reason: str, symbol: str, channel: Channel | None, now: int, out: list[Event | Command],
    ) -> None:
        """Stale first, then the report: book data may have been in what could not be read."""
        if channel in (None, Channel.BOOK):
            if feed := self._feeds.get(symbol):
                self._relay(feed, feed.sync.distrust(f"unreadable frame: {reason}", now), now, out)
            elif not symbol or self.venue.spec.book.counted:  # a damaged symbol may have been any
                self._distrust_all(f"unreadable frame: {reason}", now, out)
        out.append(self._error(symbol, channel or "", reason, now, quarantined=True, frame=frame))

    # --- subscriptions and silence ----------------------------------------------------------------------------------

    def _drop(self, subscription: Subscription, reason: str, now: int, out: list[Event | Command]) -> None:
        """Permanent: this subscription is given up, the others go on."""
        self._watch.forget(subscription)
        self._liveness.forget(subscription)
        if subscription.channel is Channel.BOOK and subscription.symbol in self._feeds:
            del self._feeds[subscription.symbol]
            out.append(self._status(subscription, TrustState.DOWN, reason, now))
        out.append(self._error(subscription.symbol, subscription.channel, reason, now, permanent=True))

    def _ask_again(self, subscription: Subscription, reason: str, now: int, out: list[Event | Command]) -> None:
        self.counters["asked again"] += 1
        out.append(self._error(subscription.symbol, subscription.channel, reason, now))
        out += map(Send, [*self.venue.unsubscribe((subscription,)), *self.venue.subscribe((subscription,))])
        self._watch.asked((subscription,), now)

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
        if feed := self._feeds.get(subscription.symbol) if subscription.channel is Channel.BOOK else None:
            self._relay(feed, feed.sync.distrust(reason, now), now, out)
            if self.venue.spec.book.snapshots is not Snapshots.REST:
                return  # to get its snapshot it subscribes again anyway
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
