"""Compacts and prunes the store of a run, now and then, in a process of its own that has the processor last."""
import asyncio
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import structlog

from onetape.clock import SECOND
from onetape.config import Upkeep as Settings
from onetape.config import Retention, span_ns
from onetape.credentials import without_keys

FIRST_S = 300.0  # after the start: there the books are fetched, and gaps of the last run
PROGRAM = (sys.executable, "-m", "onetape", "storage")
SAID = 2_000  # bytes of what a failed one said, at most


class Upkeep:
    """Of one store; one process at a time, which ends with this one. What fails is said, counted, and tried again.

    ``counters`` as of the Meter: ``compact done``, ``prune failed``, ``compact put off``.
    """

    def __init__(
        self, store: Path, settings: Settings, retention: Retention, counters: Counter[tuple[str, str]], *,
        first_s: float = FIRST_S,
    ) -> None:
        self.counters = counters
        self._store, self._settings, self._first_s = store, settings, first_s
        self._limits = retention.model_dump(exclude_none=True)

    async def run(self) -> None:
        """Until it is cancelled."""
        every_s = span_ns(self._settings.compact_every) / SECOND
        if not every_s:
            return
        await asyncio.sleep(min(self._first_s, every_s))
        while True:
            for name, *options in self._due():
                await self._do(name, *options)
            await asyncio.sleep(every_s)

    def _due(self) -> Iterator[tuple[str, ...]]:
        """Command and options. A compaction takes space before it gives any, pruning takes none."""
        if self._has_space():
            yield "compact", "--keep-journal", self._settings.keep_journal
        else:
            self._note("compact", "put off", "the disk has too little space")
        if self._limits:
            keep = [f"--keep={table}={it}" for table, limits in self._limits.items() for it in limits]
            yield "prune", *keep

    def _has_space(self) -> bool:
        """For the largest file of the journal: they are compacted one after the other, and become smaller."""
        try:
            sizes = [it.stat().st_size for it in self._store.glob("journal/*/*.db")]
            return shutil.disk_usage(self._store).free > max(sizes, default=0)
        except OSError:  # a file was removed meanwhile: then there is some
            return True

    async def _do(self, name: str, *options: str) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *PROGRAM, name, "--store", str(self._store), "--beside-run", *options, stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=without_keys(os.environ),
                start_new_session=True,  # Ctrl-C is for the run, which ends it
            )
        except OSError as error:  # no process may be made, or no memory is left
            self._note(name, "failed", str(error))
            return
        try:
            said = await _all_of(process.stderr)
            code = await process.wait()
        except asyncio.CancelledError:
            if process.returncode is None:  # a kill harms nothing: what counts is a transaction of the catalog
                process.kill()
                await process.wait()
            raise
        self._note(name, "done" if code == 0 else "failed", said)

    def _note(self, name: str, how: str, said: str) -> None:
        self.counters["", f"{name} {how}"] += 1
        log = structlog.get_logger()
        if how == "done":
            log.debug("upkeep", what=name, said=said)
        else:
            log.warning("upkeep", what=name, how=how, reason=said)


async def _all_of(stream: asyncio.StreamReader | None) -> str:
    """To its end, lest the other side waits; the last of it is given, in one line."""
    assert stream is not None
    kept = b""
    while part := await stream.read(65_536):
        kept = (kept + part)[-SAID:]
    return " ".join(kept.decode(errors="replace").split())
