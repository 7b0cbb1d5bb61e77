"""Follows each subscription from the request over its ack to its first frame, and says which one got stuck."""
from collections.abc import Iterable, Sequence

from msgspec import Struct

from onetape.clock import MINUTE, SECOND
from onetape.model import Channel, Subscription

# Channels on which a healthy venue always has something to say at once; a trade may take hours.
PROMPT = frozenset({Channel.BOOK, Channel.TICKER, Channel.QUOTES, Channel.CANDLES})
FIRST_RETRY_NS = 5 * SECOND
LONGEST_RETRY_NS = 5 * MINUTE


class Stuck(Struct, frozen=True):
    """A subscription to ask for again, and why."""

    subscription: Subscription
    reason: str


class _Entry:
    __slots__ = ("acked", "asked", "attempts", "retry_at", "seen")

    def __init__(self, now: int) -> None:
        self.asked, self.attempts = now, 1
        self.acked = self.seen = False
        self.retry_at: int | None = None  # refused for now: to be asked again then


class SubscriptionWatch:
    """Of one connection. An ack proves nothing, and data may come before it: data counts as the ack.

    ``ack_ns`` or ``first_frame_ns`` of 0 waits for ever.
    """

    def __init__(self, ack_ns: int, first_frame_ns: int) -> None:
        self._ack_ns, self._first_frame_ns = ack_ns, first_frame_ns
        self._entries: dict[Subscription, _Entry] = {}
        self.open: set[Subscription] = set()
        """Those that have not shown yet that they work."""

    def asked(self, subscriptions: Iterable[Subscription], now: int) -> None:
        for it in subscriptions:
            entry = self._entries.get(it)
            if entry is None:
                self._entries[it] = _Entry(now)
            else:
                entry.asked, entry.acked, entry.seen, entry.retry_at = now, False, False, None
                entry.attempts += 1
            self.open.add(it)

    def acked(self, subscriptions: Iterable[Subscription]) -> None:
        for it in subscriptions:
            if entry := self._entries.get(it):
                entry.acked = True
                if it.channel not in PROMPT:
                    self.open.discard(it)

    def data(self, subscription: Subscription) -> None:
        if subscription in self.open:
            entry = self._entries[subscription]
            entry.acked = entry.seen = True
            entry.attempts, entry.retry_at = 1, None
            self.open.discard(subscription)

    def refused(self, subscription: Subscription, now: int) -> None:
        """Transient: it will be asked for again, later each time."""
        if entry := self._entries.get(subscription):
            wait = min(FIRST_RETRY_NS << min(entry.attempts - 1, 10), LONGEST_RETRY_NS)
            entry.retry_at = now + wait
            self.open.add(subscription)

    def forget(self, subscription: Subscription) -> None:
        self._entries.pop(subscription, None)
        self.open.discard(subscription)

    def next_wake(self) -> int | None:
        return min((due for it in self.open if (due := self._deadline(it)) is not None), default=None)

    def wake(self, now: int) -> Sequence[Stuck]:
        late = sorted(it for it in self.open if (due := self._deadline(it)) is not None and due <= now)
        return [Stuck(it, self._why(self._entries[it])) for it in late]

    def _deadline(self, subscription: Subscription) -> int | None:
        entry = self._entries[subscription]
        if entry.retry_at is not None:
            return entry.retry_at
        wait = self._first_frame_ns if entry.acked else self._ack_ns
        if not wait:
            return None
        return entry.asked + min(wait << min(entry.attempts - 1, 10), max(wait, LONGEST_RETRY_NS))

    def _why(self, entry: _Entry) -> str:
        if entry.retry_at is not None:
            return "refused before, asked again"
        if entry.acked:
            return f"acknowledged, but silent for {self._first_frame_ns // SECOND} s"
        return f"not acknowledged within {self._ack_ns // SECOND} s"
