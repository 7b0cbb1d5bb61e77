"""One venue's REST: pooled connections, requests by priority at the governor's pace, answers bounded in size."""
import asyncio
import re
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from itertools import count

import aiohttp
from aiohttp_socks import ProxyConnectionError, ProxyConnector, ProxyError, ProxyTimeoutError
from msgspec import Struct
from yarl import URL

from onetape.clock import SECOND
from onetape.errors import OneTapeError, RestError, TryAgain, UsageError
from onetape.feed.governor import Governor, Priority
from onetape.model import Request, RestKind
from onetape.venues.base import Venue

MAX_WAITING = 2_000  # requests; further ones fail at once
MAX_BYTES = 128 * 2**20  # of one answer, decompressed
AT_ONCE = 4
TIMEOUT_S = 10.0
LOGIN = re.compile(r"//[^/@\s]+@")
FLOOD_NS = 5 * SECOND  # 429 without a wait of its own
KEPT_HEADERS = ("retry-after", "x-bapi-limit-reset-timestamp")
"""Headers that a recording needs: what ``Venue.check`` reads."""


class Unanswered(OneTapeError):
    """No answer came; the message says why."""


class Reply(Struct, frozen=True):
    status: int
    body: bytes
    headers: Mapping[str, str]
    """Names in lower case."""
    sent_at: int
    received_at: int
    """ns since the epoch, by our clock."""


class Rest:
    """``run`` does the asking, for as long as it runs; ``fetch`` waits for an answer."""

    def __init__(
        self, http: aiohttp.ClientSession, venue: Venue, addresses: Sequence[str], governor: Governor, *,
        clock: Callable[[], int], history: Sequence[str] = (), history_governor: Governor | None = None,
    ) -> None:
        """``history``: where trades of the past are to be had, if elsewhere, and the governor of that host."""
        self.governor, self._history_governor = governor, history_governor or governor
        self._http, self._venue, self._clock = http, venue, clock
        self._addresses, self._history = deque(addresses), deque(history)  # the first one is asked
        self._waiting: list[tuple[Priority, int, Request, asyncio.Future[Reply]]] = []
        self._numbers = count()
        self._news = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, request: Request, priority: Priority) -> Reply:
        """Raises Unanswered."""
        if len(self._waiting) >= MAX_WAITING:
            raise Unanswered(f"{MAX_WAITING} requests wait already")
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (priority, next(self._numbers), request, answer))
        self._news.set()
        return await answer

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._room.acquire()  # first, so that nobody is chosen who may no longer leave when there is room
                request, answer = await self._next()
                self._governor(request).sent(request.weight, self._clock())
                tasks.create_task(self._ask(request, answer))

    async def _next(self) -> tuple[Request, asyncio.Future[Reply]]:
        """The most urgent one, once it may leave; whoever comes meanwhile and is more urgent goes first."""
        while True:
            self._news.clear()
            while self._waiting and self._waiting[0][3].done():  # nobody waits for it any more
                heappop(self._waiting)
            if not self._waiting:
                await self._news.wait()
                continue
            priority, _, request, answer = self._waiting[0]
            now = self._clock()
            wait = self._governor(request).free_at(request.weight, priority, now) - now
            if wait <= 0:
                heappop(self._waiting)
                return request, answer
            try:
                async with asyncio.timeout(wait / SECOND):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _ask(self, request: Request, answer: "asyncio.Future[Reply]") -> None:
        addresses, governor = self._history if self._is_elsewhere(request) else self._addresses, self._governor(request)
        address = addresses[0]
        try:
            reply = await self._get(address, request)
        except Unanswered as error:
            _leave(addresses, address)
            governor.counters["unanswered"] += 1
            if not answer.done():
                answer.set_exception(error)
        else:
            if reply.status >= 500 or reply.status == 451:
                _leave(addresses, address)
            self._heed(reply, governor)
            if not answer.done():
                answer.set_result(reply)
        finally:
            self._room.release()

    async def _get(self, address: str, request: Request) -> Reply:
        sent_at = self._clock()
        try:
            async with self._http.get(URL(address + request.path, encoded=True), allow_redirects=False) as response:
                body = await _read(response)
        except TimeoutError:
            raise Unanswered(f"{address} did not answer within {TIMEOUT_S:g} s") from None
        except aiohttp.ClientConnectorDNSError as error:
            raise Unanswered(f"DNS: cannot resolve {error.host}: {_dns_reason(error)}") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise Unanswered(f"{address}: TLS failed: {_tls_reason(error)}") from error
        except (ProxyError, ProxyConnectionError, ProxyTimeoutError) as error:  # which have no base of their own
            raise Unanswered(f"{address}: the proxy refuses: {_said(error)}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a name that can be none
            raise Unanswered(f"{address}: {_said(error) or type(error).__name__}") from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status, body, headers, sent_at, self._clock())

    def _is_elsewhere(self, request: Request) -> bool:
        return request.kind is RestKind.TRADES and bool(self._history)

    def _governor(self, request: Request) -> Governor:
        """Of the host that is asked."""
        return self._history_governor if self._is_elsewhere(request) else self.governor

    def _heed(self, reply: Reply, governor: Governor) -> None:
        """What the venue says of its limits concerns all requests, not only the one that it refused."""
        now = reply.received_at
        governor.answered(reply.headers, now)
        try:
            self._venue.check(reply.status, reply.headers, reply.body)
        except TryAgain as error:
            governor.counters["refused"] += 1
            if error.retry_after_ns or reply.status in (418, 429):
                governor.pause(error.retry_after_ns or FLOOD_NS, now)
        except RestError:
            governor.counters["refused"] += 1


def _leave(addresses: "deque[str]", address: str) -> None:
    """For the next one, unless another request that failed there has done so already."""
    if address == addresses[0]:
        addresses.rotate(-1)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(256 * 1024):
        size += len(part)
        if size > MAX_BYTES:
            raise Unanswered(f"an answer of more than {MAX_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _said(error: Exception) -> str:
    """In one line, and without the user and password of a proxy."""
    return LOGIN.sub("//", " ".join(str(error).split()))[:300]


def _dns_reason(error: aiohttp.ClientConnectorDNSError) -> str:
    cause = error.os_error
    return cause.strerror or str(cause) if isinstance(cause, socket.gaierror) else str(cause)


def _tls_reason(error: aiohttp.ClientConnectorCertificateError) -> str:
    """As the WebSocket says it."""
    cause = error.certificate_error
    return getattr(cause, "verify_message", "") or str(cause)


def client(proxy: str | None = None, local_address: str | None = None) -> aiohttp.ClientSession:
    """Pooled, kept alive, every wait bounded. Raises UsageError: a proxy that is no address."""
    local = (local_address, 0) if local_address else None
    if proxy is not None:
        _check_proxy(proxy)
    http: str | None = proxy
    make: Callable[..., aiohttp.BaseConnector] = aiohttp.TCPConnector
    if proxy is not None and proxy.startswith("socks"):
        http, make = None, partial(ProxyConnector.from_url, proxy)
    return aiohttp.ClientSession(
        connector=make(limit=AT_ONCE * 2, keepalive_timeout=60, local_addr=local),
        proxy=http, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        headers={"User-Agent": "onetape"}, max_line_size=16 * 1024, max_field_size=16 * 1024,
    )


def _check_proxy(text: str) -> None:
    try:
        url = URL(text)
        known = bool(url.host) and (url.scheme in ("http", "https") or url.explicit_port is not None)
    except ValueError:
        known = False
    if not known:
        raise UsageError(f"proxy: not an address with host and port: {text.rpartition('@')[2][:80]}")
