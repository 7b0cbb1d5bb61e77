"""Of several lines with the same subscriptions, which one is listened to: each book and each tape has its leader.

Sans-I/O. Trades of all lines are passed on, for the ledger takes each but once; of all else only what the leader says.
When the leader of a book says that it is no longer live and another line's is, that one leads from then on and shows
its book: who listens is never told of the break, for there is none.
"""
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping

from onetape.clock import SECOND
from onetape.feed.line import Line, Outcome
from onetape.feed.session import Session
from onetape.model import (
    TAPES,
    BookAudited,
    BookDelta,
    BookSnapshot,
    Candle,
    Channel,
    Event,
    FeedStatus,
    GapOpened,
    Lifecycle,
    Quote,
    Skipped,
    Ticker,
    Trade,
    TrustState,
)

MAX_IDS = 2_000  # of one instrument, by which is told whose trade came first
EARLIER_NS = SECOND  # a state has our time, a gap the venue's
Key = tuple[str, Channel]


def group_of(line: str) -> str:
    """What lines with the same subscriptions have in common: ``bybit/linear`` of ``bybit/linear+2``."""
    return line.partition("+")[0]


def copies(name: str, redundancy: int) -> list[str]:
    """Names of so many lines: ``bybit/linear``, ``bybit/linear+2``..."""
    return [name, *(f"{name}+{number}" for number in range(2, redundancy + 1))]


class Standby:
    """Of one group of lines, at least two."""

    def __init__(
        self, lines: Mapping[str, Line], names: list[str], session: Callable[[str], Session | None],
    ) -> None:
        """``lines`` by name, of which ``names`` are ours; ``session``: of a connection."""
        self.wins: Counter[str] = Counter()
        """By line: trades that came there first; ``late``: those that another line had brought before."""
        self.late: Counter[str] = Counter()
        self.switches = 0
        """Times that a book or a tape got another leader."""
        self.names = names
        self._lines, self._session = lines, session
        self._leaders: dict[Key, str] = {}
        self._states: dict[tuple[str, Key], FeedStatus] = {}
        self._ids: dict[str, OrderedDict[str, None]] = {}
        self._shown: set[str] = set()  # symbols of books that were shown in answer to the present input

    def begin(self) -> None:
        """Another input: what is said from now on follows from it."""
        self._shown.clear()

    def leader(self, symbol: str, channel: Channel) -> str:
        """The line that is listened to."""
        return self._leaders.get((symbol, channel)) or self._quickest()

    def choose(self, line: str, it: Event, now: int) -> list[Event]:
        """What is passed on of what a line says."""
        match it:
            case Trade():
                self._count(line, it)
                return [it]
            case BookDelta() | BookSnapshot() if it.symbol in self._shown:  # what was shown has it in it already
                return []
            case BookDelta() | BookSnapshot() | BookAudited():
                return [it] if self.leader(it.symbol, Channel.BOOK) == line else []
            case FeedStatus():
                return self._status(line, it, now)
            case GapOpened():
                heard = self.leader(it.symbol, it.channel) == line and not self._covers(line, it)
                return [it] if heard else []
            case Quote() | Ticker() | Candle():
                return [it] if line == self._quickest() else []
            case Skipped():
                return [it]
            case _:
                return [it]

    def _status(self, line: str, it: FeedStatus, now: int) -> list[Event]:
        key = it.symbol, it.channel
        before, self._states[line, key] = self._states.get((line, key)), it
        leader = self._leaders.setdefault(key, line)
        if line == leader:
            other = None if it.state is TrustState.LIVE else self._live(key, line) or self._proven(key, line, before)
            return [it] if other is None else self._switch(other, key, it, now)
        known = self._states.get((leader, key))
        if it.state is TrustState.LIVE and (known is None or known.state is not TrustState.LIVE):
            return self._switch(line, key, it, now)
        return []

    def _live(self, key: Key, but: str) -> str | None:
        """Another line on which it is live."""
        for name in self.names:
            state = self._states.get((name, key))
            if name != but and state is not None and state.state is TrustState.LIVE and self._stands(name):
                return name
        return None

    def _proven(self, key: Key, but: str, before: FeedStatus | None) -> str | None:
        """Another line whose tape goes on where that of the leader ends, though no trade of it has come there yet.

        ``before``: what the leader said of it before it ended.
        """
        old = self._before(but)
        if key[1] not in TAPES or old is None or before is None or before.state is not TrustState.LIVE:
            return None
        for name in self.names:
            new = self._session(self._lines[name].leader) if name in self._lines else None
            state = self._states.get((name, key))
            doubted = state is not None and state.state is TrustState.STALE  # it may be silent still
            if name != but and new is not None and not doubted and new.covers(old, key[0]):
                return name
        return None

    def _covers(self, but: str, it: GapOpened) -> bool:
        """Another line was live when the gap began, and is still: it brought what is missing there."""
        key = it.symbol, it.channel
        return any(
            (state := self._states.get((name, key))) is not None and state.state is TrustState.LIVE
            and state.since <= it.from_time - EARLIER_NS and self._stands(name)
            for name in self.names if name != but
        )

    def _switch(self, to: str, key: Key, it: FeedStatus, now: int) -> list[Event]:
        """``it`` is what has led to it: the end of the leader before, or the news that this one is live."""
        before, self._leaders[key] = self._leaders[key], to
        self.switches += 1
        symbol, channel = key
        new, old = self._session(self._lines[to].leader), self._before(before)
        if channel is Channel.BOOK:
            self._shown.add(symbol)
            return list(new.books[symbol].introduce(now)) if new is not None and symbol in new.books else []
        if channel in TAPES and it.state is not TrustState.LIVE and new is not None and old is not None:
            return new.bridge(old, it.reason, now, symbol)
        return [it] if it.state is TrustState.LIVE else []

    def _before(self, line: str) -> Session | None:
        return self._session(self._lines[line].leader) or self._lines[line].last

    def _stands(self, line: str) -> bool:
        return line in self._lines and self._session(self._lines[line].leader) is not None

    def _quickest(self) -> str:
        """The first of the lines that are active."""
        for name in self.names:
            if name in self._lines and self._lines[name].state is Lifecycle.ACTIVE:
                return name
        return self.names[0]

    def _count(self, line: str, it: Trade) -> None:
        seen = self._ids.setdefault(it.symbol, OrderedDict())
        if it.id in seen:
            self.late[line] += 1
            return
        self.wins[line] += 1
        seen[it.id] = None
        if len(seen) > MAX_IDS:
            seen.popitem(last=False)


def chosen(
    said: list[Outcome], standbys: Mapping[str, Standby], lines: Mapping[str, Line], now: int,
) -> list[Outcome]:
    """What is passed on of what all lines say; commands are for the connections themselves."""
    out: list[Outcome] = []
    for one in standbys.values():
        one.begin()
    for connection, it in said:
        line = connection.partition("#")[0]
        standby = standbys.get(group_of(line))
        if standby is None or line not in lines or not isinstance(it, Event):
            out.append((connection, it))
        else:
            out += [(connection, passed) for passed in standby.choose(line, it, now)]
    return out
