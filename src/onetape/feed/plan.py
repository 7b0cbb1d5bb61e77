"""Splits what is wanted over connections, within each venue's limits."""
from collections.abc import Sequence

from msgspec import Struct

from onetape.errors import UsageError
from onetape.model import Channel, Subscription
from onetape.nearest import nearest
from onetape.venues.base import Venue


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
    by_route: dict[str, list[Subscription]] = {}
    for subscription in sorted(dict.fromkeys(check(venue, it) for it in wanted)):
        by_route.setdefault(venue.route_of(subscription), []).append(subscription)
    most = venue.spec.limits.subscriptions
    connections = []
    for route, subscriptions in by_route.items():
        step = most or len(subscriptions)
        for number, first in enumerate(range(0, len(subscriptions), step), start=1):
            connections.append(
                Connection(venue.spec.name, route, number, tuple(subscriptions[first : first + step]))
            )
    return connections


def check(venue: type[Venue], wanted: Subscription) -> Subscription:
    """The subscription as the venue can serve it: the next depth up. Raises UsageError if it has no such thing."""
    spec = venue.spec
    has = spec.capabilities
    if wanted.channel not in has.channels:
        there = ", ".join(sorted(has.channels))
        raise UsageError(f"{spec.name} has no channel {wanted.channel}: there is {there}")
    if wanted.channel is Channel.CANDLES and wanted.interval not in has.intervals:
        near = nearest(wanted.interval, has.intervals)
        raise UsageError(f"{spec.name} has no candles of {wanted.interval!r}: {near}")
    if wanted.channel is Channel.BOOK:
        return Subscription(wanted.symbol, Channel.BOOK, depth=has.depth_for(wanted.depth))
    return wanted
