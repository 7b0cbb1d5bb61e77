"""Tells silence from a quiet market, at four levels: socket, heartbeat, subscription, and channel against channel."""
from collections.abc import Callable, Iterable

from msgspec import Struct

from onetape.clock import MINUTE, SECOND
from onetape.model import TAPES, Channel, Subscription

MIN_HISTORY = 20  # arrivals before a subscription's own habits count
MIN_SILENCE_NS = 30 * SECOND
FAR_BEYOND = 5  # times the longest gap of its own history
SIBLINGS_NS = 5 * SECOND  # some other subscription spoke within this time
FROZEN_TRADES = 20  # trades without one change of the book...
FROZEN_NS = 10 * SECOND  # ...over at least this time
MUTE_NS = MINUTE  # trades that never spoke, while their book...
MUTE_CHANGES = 200  # ...changed so often; later each time, for some instruments are hardly traded
MOST_IN_VAIN = 6


class SocketSilent(Struct, frozen=True):
    silent_ns: int


class HeartbeatSilent(Struct, frozen=True):
    silent_ns: int


class SubscriptionSilent(Struct, frozen=True):
    subscription: Subscription
    silent_ns: int


class BookFrozen(Struct, frozen=True):
    """Trades move, the book does not."""

    subscription: Subscription
    trades: int


Verdict = SocketSilent | HeartbeatSilent | SubscriptionSilent | BookFrozen


class Pulse:
    """The habits of one subscription."""

    __slots__ = ("arrivals", "book", "changed", "last", "longest", "most", "suspected", "traded", "trades", "vain")

    def __init__(self, now: int, most_ns: int) -> None:
        self.arrivals, self.longest, self.last, self.suspected = 0, 0, now, False
        self.changed = self.traded = 0  # of a book: its arrivals when last looked at, and trades elsewhere until then
        self.trades = 0  # of a book: those here since its last change
        self.book: Pulse | None = None  # of a tape: the book here that has to move with it
        self.vain = 0  # how often it was asked for again before it ever spoke
        self.most = most_ns

    def beat(self, now: int) -> None:
        """The subscription has brought data."""
        if now - self.last > self.longest and self.arrivals:
            self.longest = now - self.last
        self.arrivals += 1
        self.last = now
        self.suspected, self.trades = False, 0
        if self.book is not None:
            self.book.trades += 1

    def limit(self) -> int | None:
        """The silence that would be far beyond its history; None as long as there is too little of it."""
        return max(MIN_SILENCE_NS, FAR_BEYOND * self.longest) if self.arrivals >= MIN_HISTORY else None


REFERENCE = Pulse
try:
    from onetape.feed import _liveness

    _compiled = _liveness.Pulse
except (ImportError, AttributeError):  # as in book/__init__.py
    COMPILED = False
else:
    COMPILED = True
    Pulse = _compiled  # type: ignore[misc]


class Liveness:
    """Of one connection. ``silence_ns`` and ``heartbeat_ns`` of 0 switch their level off.

    ``beside``: of the venue's other connections, for some bring trades on one and books on another.
    """

    def __init__(
        self, silence_ns: int, heartbeat_ns: int, now: int, beside: Callable[[], Iterable["Liveness"]] = lambda: (),
    ) -> None:
        self._beside = beside
        self._silence_ns, self._heartbeat_ns = silence_ns, heartbeat_ns
        self.frame_at = now
        """When the last frame of any kind came: whoever hears it says so here."""
        self._heartbeat = self._began = now
        self._heartbeats = 0
        self._told_frame: int | None = None  # the frame since which the silence was told, and lasts
        self._told_heartbeat = False  # likewise
        self._next = now + SECOND
        self.pulses: dict[Subscription, Pulse] = {}
        self.books: dict[str, Subscription] = {}

    def expect(self, subscription: Subscription, now: int, most_ns: int = 0) -> Pulse:
        """This subscription is watched from now on; ``most_ns``: the silence that it never keeps if it is alive.

        Gives what is to be told of each of its data.
        """
        pulse = self.pulses[subscription] = Pulse(now, most_ns)
        if subscription.channel is Channel.BOOK:
            self.books[subscription.symbol] = subscription
            self.pulses[subscription].traded = self._traded_elsewhere(subscription.symbol)
        self._pair(subscription.symbol)
        return pulse

    def forget(self, subscription: Subscription) -> None:
        gone = self.pulses.pop(subscription, None)
        if gone is not None and gone.book is not None:
            gone.book.trades = 0
        if self.books.get(subscription.symbol) == subscription:
            del self.books[subscription.symbol]
        self._pair(subscription.symbol)

    def _pair(self, symbol: str) -> None:
        book = self.pulses.get(self.books[symbol]) if symbol in self.books else None
        for channel in TAPES:
            if (tape := self.pulses.get(Subscription(symbol, channel))) is not None:
                tape.book = book

    def heartbeat(self, now: int) -> None:
        self._heartbeat, self._told_heartbeat = now, False
        self._heartbeats += 1

    def next_wake(self) -> int | None:
        """Once a second is exact enough for silences of many seconds, and cheap; None if nothing is watched."""
        return self._next if self._silence_ns or self._heartbeat_ns or self.pulses else None

    def wake(self, now: int) -> list[Verdict]:
        """What has become suspicious since the last time; each fact once until it heals."""
        self._next = now + SECOND
        silent = now - self.frame_at
        if self._silence_ns and self.pulses and silent >= self._silence_ns:  # who asked for nothing hears nothing
            told, self._told_frame = self._told_frame, self.frame_at
            return [] if told == self.frame_at else [SocketSilent(silent)]
        beat = now - self._heartbeat
        if self._heartbeat_ns and self._heartbeats and beat >= self._heartbeat_ns:
            told, self._told_heartbeat = self._told_heartbeat, True
            return [] if told else [HeartbeatSilent(beat)]
        return [*self._silent_subscriptions(now), *self._mute_tapes(now), *self._frozen_books(now)]

    def _silent_subscriptions(self, now: int) -> list[Verdict]:
        siblings = any(now - it.spoke <= SIBLINGS_NS for it in self._everybody())
        found: list[Verdict] = []
        for subscription, pulse in self.pulses.items():
            limit, silent = pulse.limit(), now - pulse.last
            unlike = siblings and limit is not None and silent >= limit
            dead = pulse.most and pulse.arrivals and silent >= pulse.most
            if (unlike or dead) and not pulse.suspected:
                pulse.suspected = True
                found.append(SubscriptionSilent(subscription, silent))
        return found

    def _mute_tapes(self, now: int) -> list[Verdict]:
        """An ack proves nothing, and trades may take long: but not while their book moves and moves."""
        found: list[Verdict] = []
        for subscription, pulse in self.pulses.items():
            if subscription.channel not in TAPES or pulse.arrivals:
                continue
            book, silent = self._book_of(subscription.symbol), now - pulse.last
            if book is not None and book.arrivals >= MUTE_CHANGES << pulse.vain and silent >= MUTE_NS << pulse.vain:
                pulse.last, pulse.vain = now, min(pulse.vain + 1, MOST_IN_VAIN)
                found.append(SubscriptionSilent(subscription, silent))
        return found

    def _frozen_books(self, now: int) -> list[Verdict]:
        found: list[Verdict] = []
        for symbol, book in self.books.items():
            pulse, traded = self.pulses[book], self._traded_elsewhere(symbol)
            if pulse.changed != pulse.arrivals or traded < pulse.traded:  # less: another connection brings them now
                pulse.changed, pulse.traded = pulse.arrivals, traded
            trades = pulse.trades + traded - pulse.traded
            if trades >= FROZEN_TRADES and now - pulse.last >= FROZEN_NS and not pulse.suspected:
                pulse.suspected = True
                found.append(BookFrozen(book, trades))
        return found

    # --- of this connection or of those beside it -------------------------------------------------------------------

    @property
    def spoke(self) -> int:
        """When any of its subscriptions last brought data."""
        return max((it.last for it in self.pulses.values() if it.arrivals), default=self._began)

    def _everybody(self) -> list["Liveness"]:
        return [self, *(it for it in self._beside() if it is not self)]

    def _book_of(self, symbol: str) -> Pulse | None:
        return next((it.pulses[it.books[symbol]] for it in self._everybody() if symbol in it.books), None)

    def _traded_elsewhere(self, symbol: str) -> int:
        """Trades that came so far on the connections beside."""
        tapes = [Subscription(symbol, channel) for channel in TAPES]
        found = (it.pulses.get(tape) for it in self._everybody()[1:] for tape in tapes)
        return sum(pulse.arrivals for pulse in found if pulse is not None)
