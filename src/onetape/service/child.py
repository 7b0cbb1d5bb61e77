"""A process of ours beside a run: begun again when it ends, and asked to end by the end of its input.

Apart from the run, so that whatever is slow there holds up no frame; and no longer than the run, however that ends,
for its input ends with it.
"""
import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import structlog

from onetape.credentials import without_keys
from onetape.errors import UsageError

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
EARLY_S = 60.0  # a mistake in the settings that shows by then ends the run
USAGE = 2
"""The exit code of a command that a person has to mend."""


class Child:
    """``onetape`` with these arguments; a context manager that ends it. ``watch`` is to run meanwhile."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, drain_s: float = 5,
    ) -> None:
        """``environment``: beside our own. ``drain_s``: how long it may take to end."""
        self.starts = 0
        self._name, self._arguments, self._environment = name, arguments, environment or {}
        self._drain_s = drain_s
        self._process: asyncio.Task[asyncio.subprocess.Process] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        """Its input ends, and it does what is left to do; who takes longer than that is killed."""
        if self._process is None:
            return
        process = await self._process
        try:
            async with asyncio.timeout(self._drain_s):
                await _end(process)
        except TimeoutError:
            process.kill()
            await _end(process)

    async def watch(self) -> None:
        """Until it is cancelled. Raises UsageError: it cannot be begun with, and a human must change something."""
        loop = asyncio.get_running_loop()
        began, wait = loop.time(), FIRST_WAIT_S
        while True:
            since = loop.time()
            code, last = await self._run()
            reason = last.removeprefix("onetape: ") or f"exit code {code}"
            if code == USAGE and loop.time() - began < EARLY_S:
                raise UsageError(reason)
            structlog.get_logger().error(f"{self._name} has ended, and is begun again", reason=reason)
            wait = FIRST_WAIT_S if loop.time() - since > LONGEST_WAIT_S else min(wait * 2, LONGEST_WAIT_S)
            await asyncio.sleep(wait)

    async def _run(self) -> tuple[int, str]:
        """Until it ends by itself; its exit code and the last line that it said."""
        self.starts += 1
        self._process = asyncio.create_task(self._start())
        process = await asyncio.shield(self._process)  # who is cancelled meanwhile must not lose hold of it
        last = ""
        assert process.stderr is not None
        with contextlib.suppress(ValueError):  # a line without end
            async for line in process.stderr:
                last = line.decode(errors="replace").strip() or last
        return await _end(process), last

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "onetape", *self._arguments, env={**without_keys(os.environ), **self._environment},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the run, which tells it in its own way
        )


async def _end(process: asyncio.subprocess.Process) -> int:
    """Ends its input and waits for it. Not by ``communicate``: uvloop's raises where the process is gone already."""
    assert process.stdin is not None
    process.stdin.close()
    return await process.wait()
