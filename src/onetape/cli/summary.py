"""Counts what a replay brought: events, books, trades, gaps."""
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from onetape.book.sync import BookSync
from onetape.feed.inputs import Frame
from onetape.feed.replay import Step
from onetape.feed.session import MAX_TEXT, Session
from onetape.model import Channel, ConnectionGap, Event, FeedError, FeedStatus, Level, Trade, TrustState
from onetape.model.events import kind_of
from onetape.model.numbers import plain

TOP = 10
MAX_REASONS = 100


class Summary:
    """Of one replay; feed it every step, then ask."""

    def __init__(self) -> None:
        self.frames = self.quarantined = 0
        self.reasons: Counter[str] = Counter()
        """Of quarantined frames; those that differ only in numbers count as one, and not more than 100."""
        self.foreign = 0
        """Quarantined frames that are sound JSON, but name no symbol where the venue would."""
        self.kinds: Counter[str] = Counter()
        self.gaps: list[dict[str, Any]] = []
        self._ids: dict[tuple[str, str, Channel], set[str]] = {}

    def add(self, step: Step) -> None:
        self.frames += isinstance(step.input, Frame)
        for _, outcome in step.outcomes:
            if isinstance(outcome, Event):
                self._count(outcome, step.line)

    def _count(self, event: Event, line: int) -> None:
        self.kinds[kind_of(event)] += 1
        match event:
            case Trade():
                self._ids.setdefault((event.venue, event.symbol, event.channel), set()).add(event.id)
            case FeedStatus(state=TrustState.STALE | TrustState.CROSSED):
                self._gap(event.symbol, event.channel, line, event.reason)
            case ConnectionGap():
                self._gap("", "connection", line, f"expected {event.expected}, got {event.got}")
            case FeedError(quarantined=True):
                self.quarantined += 1
                reason = re.sub(r"\d+", "N", event.reason)
                self.reasons[reason if len(self.reasons) < MAX_REASONS else "others"] += 1
                self.foreign += not event.symbol and _is_json(event.text)
            case _:
                pass

    def _gap(self, symbol: str, channel: str, line: int, reason: str) -> None:
        self.gaps.append({"symbol": symbol, "channel": channel, "at_frame": line, "reason": reason})

    def trades(self, tapes: Mapping[str, Channel]) -> dict[tuple[str, str], int]:
        """Trades by (venue, symbol), each id once, of the tape's channel; of the other one where only that came.

        ``tapes``: the tape's channel of each venue.
        """
        counts: dict[tuple[str, str], int] = {}
        for (venue, symbol, channel), ids in self._ids.items():
            if channel is tapes[venue] or (venue, symbol, tapes[venue]) not in self._ids:
                counts[venue, symbol] = len(ids)
        return counts

    def to_dict(self, sessions: Mapping[str, Session]) -> dict[str, Any]:
        """The one object of ``--summary json``: numbers as decimal text."""
        tapes = {it.venue.spec.name: it.venue.spec.capabilities.tape for it in sessions.values()}

        def name(venue: str, symbol: str) -> str:
            return symbol if len(tapes) == 1 else f"{venue}:{symbol}"

        return {
            "venue": ",".join(tapes),
            "frames": self.frames,
            "events": dict(sorted(self.kinds.items())),
            "books": {
                name(*sync.id): _book(sync) for session in sessions.values() for sync in session.books.values()
            },
            "trades": {name(*key): count for key, count in sorted(self.trades(tapes).items())},
            "gaps": self.gaps,
            "quarantined": self.quarantined,
            "unknown": sum(it.counters["unknown"] for it in sessions.values()),
        }


def _is_json(text: str) -> bool:
    if len(text) >= MAX_TEXT:  # it was cut there
        return text.startswith(("{", "["))
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _book(sync: BookSync) -> dict[str, Any]:
    return {
        "state": sync.state,
        "sequence": sync.sequence,
        "verification": sync.verification,
        "bids": _top(sync.book.bids(TOP)),
        "asks": _top(sync.book.asks(TOP)),
        "levels": list(sync.book.held),
    }


def _top(levels: list[Level]) -> list[list[str]]:
    return [[plain(price), plain(size)] for price, size in levels]
