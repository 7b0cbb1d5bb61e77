"""The log: what a person on duty wants to read, once per fact, as JSON or for the console."""
import logging
import sys
from collections.abc import Callable
from contextlib import suppress

import structlog

from onetape.clock import SECOND
from onetape.config import Log
from onetape.model import (
    Channel,
    ConnectionGap,
    ConnectionState,
    Event,
    FeedError,
    FeedStatus,
    GapClosed,
    GapFilling,
    GapOpened,
    InstrumentChanged,
    Lifecycle,
    TrustState,
    VenueStatus,
)

REPEAT_NS = 10 * SECOND  # of one fact about one thing, not more often
MAX_FACTS = 10_000  # that are remembered for that
STOPPED = "stopped"  # the reason of what ends because we end it
BAD = {TrustState.STALE, TrustState.CROSSED, TrustState.DOWN}


def configure(log: Log) -> None:
    """For the whole process; to stderr."""
    level = logging.getLevelNamesMapping()[log.level.upper()]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if log.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    for name, floor in (("picows", logging.CRITICAL), ("aiohttp", logging.ERROR), ("asyncio", logging.ERROR)):
        logging.getLogger(name).setLevel(floor)  # what they say comes back to us as a reason


class _Stderr:
    """Whatever stderr is at the time: a live view may have taken its place."""

    def __init__(self) -> None:
        self.lost = 0
        """Lines that could not be written: whoever reads the log may go, the capture goes on."""

    def write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
        except (OSError, ValueError):  # ValueError: it is closed
            self.lost += 1

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


class EventLog:
    """Logs the events that are news; repeats of one fact are counted and told with the next one that gets through."""

    def __init__(self, logger: structlog.typing.FilteringBoundLogger | None = None) -> None:
        self._log = structlog.get_logger() if logger is None else logger
        self._told: dict[tuple[str, ...], tuple[int, int]] = {}  # when a fact was last told, and how often not since

    def add(self, it: Event) -> None:
        match it:
            case ConnectionState():
                write = self._log.warning if it.state in (Lifecycle.RECONNECTING, Lifecycle.ERROR) else self._log.info
                write("connection", venue=it.venue, about=it.connection, state=it.state, reason=it.reason or None)
            case FeedStatus(channel=Channel.BOOK):
                write = self._log.warning if it.state in BAD and it.reason != STOPPED else self._log.info
                self._tell(write, "book", it.venue, it.symbol, it.available_at, state=it.state, reason=it.reason)
            case GapOpened():
                self._tell(
                    self._log.warning, "gap opened", it.venue, it.symbol, it.available_at, channel=it.channel,
                    after=it.after, before=it.before, cause=it.cause,
                )
            case GapFilling() if it.cause:
                self._tell(
                    self._log.info, "gap asked for again", it.venue, it.symbol, it.available_at, channel=it.channel,
                    after=it.after, before=it.before, attempts=it.attempts, cause=it.cause,
                )
            case GapClosed():
                self._tell(
                    self._log.info if it.healed else self._log.warning, "gap healed" if it.healed else "gap unhealable",
                    it.venue, it.symbol, it.available_at, channel=it.channel, after=it.after, before=it.before,
                    cause=it.cause, recovered=it.recovered,
                )
            case ConnectionGap():
                self._tell(
                    self._log.warning, "frames lost", it.venue, "", it.available_at, expected=it.expected, got=it.got
                )
            case FeedError():
                what = "quarantined" if it.quarantined else "refused"
                write = self._log.warning if it.quarantined or it.permanent else self._log.info
                self._tell(
                    write, what, it.venue, it.symbol, it.available_at, channel=str(it.channel),
                    reason=it.reason, permanent=it.permanent,
                )
                self._log.debug("frame", venue=it.venue, text=it.text)
            case InstrumentChanged():
                self._tell(
                    self._log.info, "instrument", it.venue, it.instrument.id.symbol, it.available_at,
                    change=it.change, status=it.instrument.status,
                )
            case VenueStatus():
                self._tell(
                    self._log.info, "venue", it.venue, it.symbol, it.available_at, status=it.status, message=it.message
                )
            case _:
                pass

    def _tell(
        self, write: Callable[..., object], what: str, venue: str, about: str, now: int, **fields: object,
    ) -> None:
        key = (what, venue, about, str(fields.get("state") or fields.get("change", "")))
        told, untold = self._told.get(key, (-REPEAT_NS, 0))
        if now - told < REPEAT_NS:
            self._told[key] = told, untold + 1
            return
        if len(self._told) >= MAX_FACTS:
            self._told.clear()
        self._told[key] = now, 0
        named = {key: value for key, value in fields.items() if value not in ("", None)}
        if untold:
            named["repeats"] = untold
        write(what, venue=venue, **({"about": about} if about else {}), **named)
