"""Splits what is wanted over connections, within each venue's limits."""
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from itertools import count as numbers

from msgspec import Struct

from onetape.errors import UsageError
from onetape.model import Channel, Subscription
from onetape.nearest import nearest
from onetape.venues.base import Limits, Venue


class Connection(Struct, frozen=True):
    """One socket to open."""

    venue: str
    route: str
    number: int
    """Counts the connections of one venue and route."""
    subscriptions: tuple[Subscription, ...]

    @property
    def name(self) -> str:
        """``binance``, ``okx/business``, ``okx/public.2``."""
        route = f"/{self.route}" if self.route else ""
        return f"{self.venue}{route}" + (f".{self.number}" if self.number > 1 else "")


def plan(venue: type[Venue], wanted: Sequence[Subscription]) -> list[Connection]:
    """Connections that together serve all that is wanted, each subscription once. Raises UsageError.

    The channels of one symbol stay together where the venue's routes allow it.
    """
    subscriptions = sorted(dict.fromkeys(check(venue, it) for it in wanted))
    books = Counter(it.symbol for it in subscriptions if it.channel is Channel.BOOK)
    for symbol in (it for it, count in books.items() if count > 1):
        same = [it for it in subscriptions if it.symbol == symbol and it.channel is Channel.BOOK]
        depths = ", ".join(str(it.depth or "all") for it in same)
        raise UsageError(f"{venue.spec.name}: one book of {symbol}, not {books[symbol]} of depths {depths}")
    by_route: dict[str, list[Subscription]] = {}
    for subscription in subscriptions:
        by_route.setdefault(venue.route_of(subscription), []).append(subscription)
    return [
        Connection(venue.spec.name, route, number, tuple(part))
        for route, subscriptions in by_route.items()
        for number, part in enumerate(_parts(subscriptions, venue.spec.limits), start=1)
    ]


def replan(
    venue: type[Venue], wanted: Sequence[Subscription], before: Mapping[str, Sequence[Subscription]],
) -> list[Connection]:
    """As ``plan``, for connections that stand: by name, with what they serve. What is still wanted stays where it is;
    what is new goes where there is room, else to a connection of its own. Raises UsageError."""
    planned = plan(venue, wanted)
    if not before:
        return planned
    target = {it for connection in planned for it in connection.subscriptions}
    kept: dict[tuple[str, int], list[Subscription]] = {}
    for name, subscriptions in before.items():
        route, number = _place(name)
        kept[route, number] = [it for it in subscriptions if it in target]
    placed = {it for part in kept.values() for it in part}
    for it in sorted(target - placed):
        route = venue.route_of(it)
        number = next((at for at in numbers(1) if _has_room(kept.get((route, at), []), it, venue.spec.limits)), 1)
        kept.setdefault((route, number), []).append(it)
    return [Connection(venue.spec.name, *place, tuple(part)) for place, part in sorted(kept.items()) if part]


def _place(name: str) -> tuple[str, int]:
    """Route and number of ``okx/public.2``."""
    _, _, rest = name.partition("/")
    route, _, number = rest.partition(".") if rest else ("", "", name.partition(".")[2])
    return route, int(number or 1)


def _has_room(part: Sequence[Subscription], it: Subscription, limits: Limits) -> bool:
    most, books = limits.subscriptions or sys.maxsize, limits.books or sys.maxsize
    return len(part) < most and (it.channel is not Channel.BOOK or _books(part) < books)


def _parts(subscriptions: Sequence[Subscription], limits: Limits) -> Iterator[list[Subscription]]:
    """At most so many each; a symbol is only parted where it alone is more than that."""
    most, books = limits.subscriptions or len(subscriptions), limits.books or len(subscriptions)
    part: list[Subscription] = []
    for _, of_symbol in groupby(subscriptions, key=lambda it: it.symbol):
        group = list(of_symbol)
        if part and (len(part) + len(group) > most or _books(part) + _books(group) > books):
            yield part
            part = []
        part += group
        while len(part) > most:
            yield part[:most]
            part = part[most:]
    if part:
        yield part


def _books(subscriptions: Sequence[Subscription]) -> int:
    return sum(it.channel is Channel.BOOK for it in subscriptions)


def check(venue: type[Venue], wanted: Subscription) -> Subscription:
    """The subscription as the venue can serve it: the next depth up, and nothing that the channel has no use for.

    Raises UsageError if the venue has no such thing.
    """
    spec = venue.spec
    has = spec.capabilities
    if wanted.channel not in has.channels:
        there = ", ".join(sorted(has.channels))
        raise UsageError(f"{spec.name} has no channel {wanted.channel}: there is {there}")
    match wanted.channel:
        case Channel.CANDLES:
            if wanted.interval not in has.intervals:
                near = nearest(wanted.interval, has.intervals)
                raise UsageError(f"{spec.name} has no candles of {wanted.interval!r}: {near}")
            return Subscription(wanted.symbol, Channel.CANDLES, interval=wanted.interval)
        case Channel.BOOK:
            return Subscription(wanted.symbol, Channel.BOOK, depth=has.depth_for(wanted.depth))
        case _:
            return Subscription(wanted.symbol, wanted.channel)
