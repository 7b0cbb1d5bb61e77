"""Composes pipeline, journal and lake into one that keeps what it is given."""
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from msgspec import structs

from onetape.book.sync import BookSync
from onetape.model import Channel, Event, InstrumentId, NeedTrades
from onetape.pipeline import Pipeline, Policy
from onetape.storage.journal import Journal
from onetape.storage.lake import Lake
from onetape.storage.repeats import Repeats
from onetape.storage.restore import history, rebuilt
from onetape.tape.coverage import Covered
from onetape.tape.history import History


class Keeper:
    """Over one store, as its writer; a context manager. Times are those of the events: a replay keeps what it kept.

    ``tape_of`` names the channel that feeds an instrument's candles, where that is known from its subscriptions.
    ``repeats``: what comes may have come before, at the same times, as when a recording is played again.
    """

    def __init__(
        self, store: Path, policy: Policy = Policy(), *,  # noqa: B008 - frozen
        publish: Callable[[Event], None] = lambda _: None,
        pair_of: Callable[[InstrumentId], str] = lambda _: "",
        book_of: Callable[[InstrumentId], BookSync | None] = lambda _: None,
        tape_of: Callable[[InstrumentId], Channel | None] = lambda _: None, repeats: bool = False,
    ) -> None:
        self.journal = Journal(store, pair_of=lambda venue, symbol: pair_of(InstrumentId(venue, symbol)))
        self.pipeline = Pipeline(
            policy, store=self._add, commit=self._commit, publish=publish, restore=self._history,
            pair_of=pair_of, book_of=book_of,
        )
        self._store, self._tape_of, self._may_repeat = store, tape_of, repeats
        self._repeats: Repeats | None = None

    def __enter__(self) -> Self:
        """Raises UsageError: another writer, a folder that cannot be written, a schema that is newer."""
        with ExitStack() as stack:
            stack.enter_context(self.journal)
            self._lake = stack.enter_context(Lake(self._store))
            self._open = stack.pop_all()
        if self._may_repeat and self._lake.instruments():
            self._repeats = Repeats(self._store, self.journal.writer, self.journal.last_batch + 1)
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def handle(self, event: Event) -> Sequence[NeedTrades]:
        return self.pipeline.handle(event)

    def finish(self, now: int) -> None:
        """Nothing more will come: commits what waits, and mends stored candles that late trades have touched."""
        self.pipeline.finish(now)
        for id, stale in self.pipeline.take_stale_ranges():
            self.pipeline.restate(rebuilt(self._lake, id, stale, now), now)

    def _add(self, it: Event | Covered) -> None:
        if self._repeats is None or not self._repeats.had(it):
            self.journal.add(it)

    def _commit(self, now: int) -> None:
        self.journal.commit(self.journal.take(now))

    def _history(self, id: InstrumentId, channel: Channel, time: int) -> History:
        known = history(self._lake, id, channel, time, self.pipeline.policy.intervals)
        feeds = self._tape_of(id)
        return known if feeds is None else structs.replace(known, feeds_candles=feeds is channel)

