"""What a run says of itself: as a value, and as a file in its store that other processes read."""
import os
from collections import Counter
from decimal import Decimal, InvalidOperation
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from onetape.clock import MILLISECOND, SECOND
from onetape.errors import UsageError
from onetape.feed.standby import group_of
from onetape.model import BookAudited, Channel, InstrumentId, Lifecycle, TrustState
from onetape.model.numbers import plain
from onetape.service import followed
from onetape.service.collector import Collector
from onetape.service.demand import Report
from onetape.service.followed import Following
from onetape.service.meter import Flow

FILE = "status.json"
OLD_NS = 5 * SECOND  # a status that is older is that of a process that was killed or hangs


class LineStatus(Struct, frozen=True):
    """One connection, as one sees it from outside."""

    name: str
    state: Lifecycle
    since: int
    reason: str
    subscriptions: int
    frames: int
    failures: int
    """In a row."""
    next_attempt: int | None
    """When it will be tried again, ns."""
    round_trip_ms: float | None
    first: int = 0
    """Of lines with the same subscriptions: trades that came here before they came on another."""
    late: int = 0
    """And those that another had brought."""


class ChannelStatus(Struct, frozen=True):
    channel: Channel
    events: int
    last: int
    """When the last one came, ns."""
    p50_ms: float | None
    p99_ms: float | None


class AuditStatus(Struct, frozen=True):
    """What REST showed of a book, compared with it."""

    at: int
    """ns."""
    bids_match: float
    asks_match: float
    """Share of the levels, 0 to 1."""
    exact: bool
    """At one and the same number; else at the moment that fits best."""


class BookStatus(Struct, frozen=True):
    symbol: str
    pair: str
    state: TrustState
    since: int
    reason: str
    verification: str
    bid: str
    ask: str
    """Empty where that side is empty, or the book cannot be trusted."""
    last: str
    """Price of the last trade."""
    side: str
    audit: AuditStatus | None = None
    """The last one; None: none yet."""


class VenueStatus(Struct, frozen=True):
    name: str
    state: Lifecycle
    """The worst of its lines."""
    reason: str
    offset_ms: float | None
    """Its clock less ours."""
    rest_ms: float | None
    """A REST request for the time, there and back."""
    lines: tuple[LineStatus, ...]
    channels: tuple[ChannelStatus, ...]
    books: tuple[BookStatus, ...]
    counters: dict[str, int]
    """All that was not plain delivery."""
    requests: int
    """By REST."""
    gaps_open: int = 0
    """On its tapes, that may still be healed."""
    gaps_unhealable: int = 0


class Status(Struct, frozen=True):
    pid: int
    started_at: int
    at: int
    source: str
    """``live`` or ``sim``."""
    store: str
    stopped: bool
    clock_ahead_ms: float
    """By how much our clock runs ahead of the machine's, which was set back."""
    venues: tuple[VenueStatus, ...]
    stored: dict[str, int]
    """Rows by table that this run has brought, as the journal has them."""
    received: dict[str, int] = {}
    """The same, those included that wait for the disk or had to be dropped."""
    postgres: Following | None = None
    """How far PostgreSQL is; None: there is none."""
    behind: str = ""
    """Why the store takes nothing right now; empty: it does."""
    waiting: int = 0
    """Rows that are held until it does."""
    dropped: dict[str, int] = {}
    """Rows by table that memory could not hold meanwhile."""
    damaged: tuple[str, ...] = ()
    """Files of the journal that were set aside, and why."""
    asked: tuple[Report, ...] = ()
    """What is asked of the store's past, the last that ended included."""


SEVERITY = (
    Lifecycle.ACTIVE, Lifecycle.SUBSCRIBING, Lifecycle.CONNECTED, Lifecycle.CONNECTING, Lifecycle.STOPPED,
    Lifecycle.RECONNECTING, Lifecycle.ERROR,
)


def status_of(collector: Collector, source: str, store: Path | None, *, stopped: bool = False) -> Status:
    keeper = collector.keeper
    journal = keeper.journal.counters if keeper is not None else Counter[str]()
    backlog = keeper.disk.backlog.count() + keeper.disk.backlog.dropped if keeper is not None else Counter[str]()
    following = None if store is None else followed.read(store, collector.clock())
    return Status(
        pid=os.getpid(), started_at=collector.started_at, at=collector.clock(), source=source,
        store="" if store is None else str(store), stopped=stopped,
        clock_ahead_ms=collector.clock.ahead_ns / MILLISECOND,
        venues=tuple(_venue(collector, it.venue) for it in collector.choices), stored=dict(journal),
        received=dict(journal + backlog),
        postgres=following if following is not None and following.at >= collector.started_at else None,
        behind=clean(keeper.disk.behind) if keeper is not None else "",
        waiting=keeper.disk.backlog.rows if keeper is not None else 0,
        dropped=dict(+keeper.disk.backlog.dropped) if keeper is not None else {},
        damaged=tuple(clean(str(it)) for it in keeper.damages) if keeper is not None else (),
        asked=(*demand.finished, *demand.reports.values()) if (demand := collector.demand) is not None else (),
    )


def _venue(collector: Collector, name: str) -> VenueStatus:
    lines = [it for it in collector.door.lines.values() if it.setup.venue == name]
    worst = max(lines, key=lambda it: SEVERITY.index(it.state), default=None)
    waiting = collector.reasons.get(name)
    idle = Lifecycle.STOPPED if name in collector.door.directories else Lifecycle.CONNECTING  # it has none of the pairs
    state = worst.state if worst else Lifecycle.RECONNECTING if waiting and idle is not Lifecycle.STOPPED else idle
    meter, sessions = collector.meter, collector.door.sessions
    counters = {what: count for (venue, what), count in meter.counters.items() if venue == name}
    for line in lines:
        for kept in (line.counters, *(it.counters for key, it in sessions.items() if key in (line.leader, line.next))):
            for what, count in kept.items():
                counters[what] = counters.get(what, 0) + count
    for more in _of_the_past(collector, name):
        for what, count in more.items():
            counters[what] = counters.get(what, 0) + count
    offset = meter.offsets.get(name)
    pipeline = collector.keeper.pipeline if collector.keeper is not None else None
    gaps = [it for id, it in pipeline.gaps() if id.venue == name] if pipeline is not None else []
    return VenueStatus(
        name=name, state=state, reason=clean(worst.reason if worst else waiting or ""),
        offset_ms=_ms(offset), rest_ms=_ms(meter.round_trips.get(name)),
        lines=tuple(_line(collector, it.name) for it in lines),
        channels=tuple(
            _channel(channel, flow) for (venue, channel), flow in meter.flows.items() if venue == name
        ),
        books=tuple(_books(collector, (it.name for it in lines if group_of(it.name) == it.name))), counters=counters,
        requests=collector.governors[name].counters["requests"],
        gaps_open=sum(not it.unhealable for it in gaps), gaps_unhealable=sum(bool(it.unhealable) for it in gaps),
    )


def _of_the_past(collector: Collector, name: str) -> Iterable[Mapping[str, int]]:
    """What was asked of the venue's past, and what its volume says of tapes whose ids prove nothing."""
    backfill = collector.door.backfills.get(name)
    if backfill is not None:
        yield {f"backfill: {what}": count for what, count in backfill.counters.items()}
    if collector.keeper is not None:
        yield collector.keeper.pipeline.proofs(name)


def _line(collector: Collector, name: str) -> LineStatus:
    line = collector.door.lines[name]
    session = collector.door.sessions.get(line.leader)
    standby = collector.door.standbys.get(group_of(name))
    return LineStatus(
        name=name, state=line.state, since=line.since, reason=clean(line.reason),
        next_attempt=line.retry_at, subscriptions=len(line.setup.wanted),
        frames=line.frames + (session.frames if session else 0), failures=line.failures,
        round_trip_ms=_ms(session.round_trip_ns) if session else None,
        first=standby.wins[name] if standby else 0, late=standby.late[name] if standby else 0,
    )


def _channel(channel: Channel, flow: Flow) -> ChannelStatus:
    p50, p99 = _ms(flow.latency.quantile(0.5)), _ms(flow.latency.quantile(0.99))
    return ChannelStatus(channel, flow.events, flow.last, p50, p99)


def _books(collector: Collector, names: Iterable[str]) -> Iterable[BookStatus]:
    """Of every book that is wanted, there or not."""
    for name in names:
        line = collector.door.lines[name]
        for symbol in dict.fromkeys(it.symbol for it in line.setup.wanted if it.channel is Channel.BOOK):
            session = collector.door.leading(InstrumentId(line.setup.venue, symbol), Channel.BOOK)
            sync = session.books.get(symbol) if session else None
            trade = collector.meter.last_trades.get((line.setup.venue, symbol))
            live = sync is not None and sync.state is TrustState.LIVE
            bids, asks = (sync.book.bids(1), sync.book.asks(1)) if sync is not None and live else ([], [])
            id = InstrumentId(line.setup.venue, symbol)
            yield BookStatus(
                symbol=symbol, pair=collector.pair(id) or symbol,
                state=sync.state if sync else TrustState.DOWN, since=sync.since if sync else line.since,
                reason=clean(sync.reason if sync else line.reason), verification=sync.verification if sync else "none",
                bid=_price(collector, id, bids[0][0]) if bids else "",
                ask=_price(collector, id, asks[0][0]) if asks else "",
                last=_price(collector, id, trade.price) if trade else "", side=trade.side if trade else "",
                audit=_audit(collector.meter.audits.get((line.setup.venue, symbol))),
            )


def _audit(it: BookAudited | None) -> AuditStatus | None:
    return None if it is None else AuditStatus(it.available_at, it.bids_match, it.asks_match, it.exact)


def match_of(it: VenueStatus) -> float | None:
    """Of all books that were audited, the mean of the worse side; None: none was yet."""
    found = [min(book.audit.bids_match, book.audit.asks_match) for book in it.books if book.audit is not None]
    return sum(found) / len(found) if found else None


def _price(collector: Collector, id: InstrumentId, price: Decimal) -> str:
    """With the digits of the instrument's tick: venues send more, all of them zeros."""
    listed = collector.instruments.get(id)
    places = -int(listed.tick_size.normalize().as_tuple().exponent) if listed and listed.tick_size else 0
    try:
        rounded = price.quantize(Decimal(1).scaleb(-max(places, 0)))
    except InvalidOperation:  # more digits than fit: an absurd price, told as it came
        return plain(price)
    return plain(rounded if rounded == price else price)


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / MILLISECOND


# --- the file -------------------------------------------------------------------------------------------------------


def write(status: Status, store: Path) -> None:
    """Whole or not at all."""
    new = store / f".{FILE}.{status.pid}"
    new.write_bytes(msgspec.json.encode(status))
    new.replace(store / FILE)


def read(store: Path) -> Status:
    """Raises UsageError: there is none, or it cannot be read."""
    try:
        return msgspec.json.decode((store / FILE).read_bytes(), type=Status)
    except FileNotFoundError:
        raise UsageError(f"nothing has run on the store {store} yet: onetape run --store {store}") from None
    except OSError as error:
        raise UsageError(f"cannot read {store / FILE}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(f"{store / FILE} is of another version of OneTape: {error}") from error


def running(status: Status, now: int) -> bool:
    return not status.stopped and now - status.at <= OLD_NS and _exists(status.pid)


def _exists(pid: int) -> bool:
    """On this machine; of a store on another one nothing can be said that way."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def clean(text: str) -> str:
    """Words of a venue's, fit for a terminal: no control character gets through."""
    return "".join(it if it.isprintable() else "\ufffd" for it in text)
