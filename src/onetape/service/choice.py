"""What the settings ask of each venue: addresses, timings, and which of its instruments and channels."""
from collections.abc import Iterable, Iterator, Mapping, Sequence

from types import MappingProxyType

from msgspec import Struct, structs

from onetape import venues
from onetape.clock import MINUTE, SECOND, interval_ns
from onetape.config import Reconnect, Settings, Timings
from onetape.errors import UsageError
from onetape.feed import plan
from onetape.feed.inputs import Setup
from onetape.feed.patience import Patience
from onetape.feed.standby import copies, group_of
from onetape.model import Channel, Instrument, Kind, Subscription
from onetape.nearest import nearest
from onetape.pipeline import MINUTES
from onetape.venues.base import Spec
from onetape.venues.base import Timings as VenueTimings


AUDIT_NS = MINUTE  # between two audits of a connection, where the venue's table and the settings say nothing else


class Choice(Struct, frozen=True):
    """Of one venue."""

    spec: Spec
    pairs: tuple[str, ...]
    own_pairs: bool
    """They were chosen for this venue alone, so that it has to have them all."""
    named_pairs: bool
    """Somebody named them; else they are the defaults, of which a venue takes what it has."""
    channels: tuple[Channel, ...]
    depth: int
    intervals: tuple[str, ...]
    websocket: Mapping[str, tuple[str, ...]]
    rest: tuple[str, ...]
    history: tuple[str, ...]
    """REST that has the tape's past; empty: ``rest``."""
    timings: VenueTimings
    patience: Patience
    redundancy: int
    max_age_ns: int
    """Of trades that are missing and asked for; 0: none are."""
    proxy: str | None = None
    local_address: str | None = None
    deflate: bool = False

    @property
    def venue(self) -> str:
        return self.spec.name


def choices(settings: Settings) -> list[Choice]:
    """Of each venue that is to run. Raises UsageError that names every problem, before anything connects."""
    problems: list[str] = []
    named = settings.candles.intervals
    problems += [f"candles.intervals: not a candle interval: {it!r}" for it in named if not _is_interval(it)]
    found = [_choice(name, settings, problems) for name in settings.chosen()]
    if not found:
        problems.append("venues: none is enabled")
    if problems:
        raise UsageError(f"{len(problems)} problem(s) in the settings:\n" + "\n".join(f"  {it}" for it in problems))
    return found


def lines(
    choice: Choice, instruments: Iterable[Instrument], before: Mapping[str, Setup] = MappingProxyType({}),
) -> dict[str, Setup]:
    """The lines that bring what is chosen, by name, of the pairs that the venue has; ``before``: those that stand."""
    listed = {it.pair: it for it in sorted(instruments, key=lambda it: it.tradable) if it.pair}  # of two the tradable
    wanted = [it for pair in choice.pairs if pair in listed for it in _subscriptions(choice, listed[pair])]
    standing = {name: it.wanted for name, it in before.items() if group_of(name) == name}
    planned = plan.replan(venues.VENUES[choice.venue], wanted, standing) if wanted else []
    return {
        name: Setup(
            it.venue, it.route, it.subscriptions, choice.timings, choice.patience, len(choice.websocket[it.route])
        )
        for it in planned for name in copies(it.name, choice.redundancy)
    }


def unknown_pairs(
    chosen: Iterable[Choice], listed: Mapping[str, Sequence[Instrument]],
) -> Iterator[tuple[str, str]]:
    """Venue and words for each pair that is not at the venue for which it is chosen; no venue: it is at none of them.

    ``listed``: what is known of; nothing is said of a venue that has not answered, nor of pairs that it may have.
    """
    everything = [it for instruments in listed.values() for it in instruments]
    missing: list[set[str]] = []  # of the pairs for all, by venue that has to do with them
    unnamed: list[bool] = []  # of the venues that are to take what they have of the defaults: it has nothing
    for choice in chosen:
        there = {it.pair for it in listed.get(choice.venue, ())}
        lacking = [it for it in choice.pairs if it not in there] if choice.venue in listed else []
        if choice.own_pairs:
            yield from ((choice.venue, unknown_pair(it, [choice.venue], listed[choice.venue])) for it in lacking)
        elif choice.named_pairs:
            missing.append(set(lacking))
        else:
            unnamed.append(len(lacking) == len(choice.pairs))
    for pair in sorted(set[str].intersection(*missing)) if missing else ():
        yield "", unknown_pair(pair, list(listed), everything)
    if unnamed and all(unnamed):
        yield "", f"nothing is at {' or '.join(listed)} of what is collected by default: name pairs"


def unknown_pair(pair: str, names: Iterable[str], instruments: Iterable[Instrument]) -> str:
    """What to say about a pair that none of these venues has."""
    known = {it.pair for it in instruments if it.pair}
    return f"there is no pair {pair} at {' or '.join(names)}: {nearest(pair, known)}"


def _subscriptions(choice: Choice, instrument: Instrument) -> list[Subscription]:
    symbol, found = instrument.id.symbol, []
    for channel in choice.channels:
        match channel:
            case Channel.BOOK:
                found.append(Subscription(symbol, channel, depth=choice.depth))
            case Channel.CANDLES:
                found += [Subscription(symbol, channel, interval=it) for it in choice.intervals]
            case Channel.TRADES:  # where the venue's tape is made of aggregates, that is what trades are
                found.append(Subscription(symbol, choice.spec.capabilities.tape))
                if not choice.spec.counted_trades:  # what ids cannot show, the volume of the venue's minutes does
                    found.append(Subscription(symbol, Channel.CANDLES, interval=MINUTES))
            case _:
                found.append(Subscription(symbol, channel))
    return list(dict.fromkeys(found))


def _choice(name: str, settings: Settings, problems: list[str]) -> Choice:
    spec, own = venues.spec(name), settings.venue(name)
    has = spec.capabilities
    environment = own.environment or settings.environment
    endpoints = spec.endpoints.get(environment)
    path = f"venues.{name}"
    if endpoints is None and (own.websocket is None or own.rest is None):
        problems.append(f"{path}.environment: {name} has no {environment}: there is {', '.join(spec.endpoints)}")
    endpoints = endpoints or spec.endpoints["production"]
    channels = [Channel(it) for it in own.channels or settings.channels]
    for channel in channels:
        lacking = channel not in has.channels and not (channel is Channel.TRADES and has.tape is Channel.AGG_TRADES)
        if lacking:
            where = f"{path}.channels" if own.channels else "channels"
            problems.append(f"{where}: {name} has no {channel}: there is {', '.join(sorted(has.channels))}")
    intervals = own.intervals or settings.intervals
    if Channel.CANDLES in channels:
        problems += [
            f"{path}.intervals: {name} has no candles of {it!r}: {nearest(it, has.intervals)}"
            for it in intervals if it not in has.intervals
        ]
    routes = list(endpoints.websocket)
    if own.websocket is not None:
        problems += [
            f"{path}.websocket.{it}: there is no such route: {nearest(it, ['*', *routes])}"
            for it in own.websocket if it not in (*routes, "*")
        ]
    return Choice(
        spec=spec, pairs=own.pairs or settings.pairs, own_pairs=own.pairs is not None,
        named_pairs=own.pairs is not None or "pairs" in settings.model_fields_set, channels=tuple(channels),
        depth=own.depth or settings.depth, intervals=intervals,
        websocket={
            route: (own.websocket or {}).get(route) or (own.websocket or {}).get("*") or urls
            for route, urls in endpoints.websocket.items()
        },
        rest=own.rest or endpoints.rest, history=own.history or (() if own.rest else endpoints.history),
        redundancy=own.redundancy or settings.redundancy or spec.redundancy,
        max_age_ns=round(settings.backfill.max_age * SECOND) if settings.backfill.enabled else 0,
        timings=_timings(_timings(_audited(spec.timings), settings.timings), own.timings or Timings()),
        patience=_patience(settings.reconnect, own.reconnect), proxy=own.proxy or settings.proxy,
        local_address=own.local_address, deflate=own.deflate,
    )


def _audited(timings: VenueTimings) -> VenueTimings:
    return structs.replace(timings, audit_ns=timings.audit_ns or AUDIT_NS)


def _timings(base: VenueTimings, own: Timings) -> VenueTimings:
    return VenueTimings(**{
        field: getattr(base, field) if (given := getattr(own, field.removesuffix("_ns"))) is None
        else round(given * SECOND)
        for field in VenueTimings.__struct_fields__
    })


def _patience(general: Reconnect, given: Reconnect | None) -> Patience:
    named = {} if given is None else {name: getattr(given, name) for name in given.model_fields_set}
    own = general.model_copy(update=named)
    return Patience(
        base_ns=round(own.base * SECOND), cap_ns=round(own.cap * SECOND), long_cap_ns=round(own.long_cap * SECOND),
        jitter=own.jitter, max_attempts=own.max_attempts,
    )


def _is_interval(name: str) -> bool:
    try:
        return interval_ns(name) > 0
    except ValueError:
        return False


def tradable(instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """What can be subscribed to at all."""
    return tuple(it for it in instruments if it.kind is not Kind.OTHER)
