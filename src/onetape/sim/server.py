"""Serves a simulator on real sockets: a thin driver that moves bytes and time, and decides nothing."""
import asyncio
import errno
import ssl
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from types import MappingProxyType, TracebackType
from typing import Self, TypeVar

from aiohttp import web
from multidict import CIMultiDict
from picows import (
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)

from onetape.clock import MILLISECOND, MINUTE, SECOND
from onetape.errors import UsageError
from onetape.sim.base import Action, Close, Frame, Ping, Rejected
from onetape.sim.certificate import Certificates
from onetape.sim.listings import SHOWS
from onetape.sim.simulator import Simulator, Unreachable

HOSTS = MappingProxyType({
    "stream.binance.com": "binance", "data-stream.binance.vision": "binance", "api.binance.com": "binance",
    "api1.binance.com": "binance", "api2.binance.com": "binance", "api3.binance.com": "binance",
    "api4.binance.com": "binance", "api-gcp.binance.com": "binance", "data-api.binance.vision": "binance",
    "fstream.binance.com": "binance-usdm", "fapi.binance.com": "binance-usdm",
    "advanced-trade-ws.coinbase.com": "coinbase", "api.coinbase.com": "coinbase",
    "ws-feed.exchange.coinbase.com": "coinbase-exchange", "api.exchange.coinbase.com": "coinbase-exchange",
    "ws.kraken.com": "kraken", "api.kraken.com": "kraken",
    "ws.okx.com": "okx", "openapi.okx.com": "okx", "www.okx.com": "okx",
    "stream.bybit.com": "bybit", "api.bybit.com": "bybit", "api.bytick.com": "bybit",
})
"""Real names and the venues behind them: a client that is redirected by name resolution needs no prefix."""

MAX_UNREAD_BYTES = 96 * 1024 * 1024  # that a client leaves in our memory: more than a giant frame, and no more
STEP_NS = 50 * MILLISECOND  # of simulated time between two looks at the sockets
MAX_LAG_NS = 5 * SECOND  # further behind, the simulated clock no longer hurries after the real one
CLOSE_WAIT = 5.0  # seconds for the client's own close frame
MAX_MESSAGE_BYTES = 1024 * 1024  # from a client

_T = TypeVar("_T")

_STATUSES = frozenset(it.value for it in HTTPStatus)
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class Server:
    """``async with Server(simulator) as server: server.websocket_url("binance")``.

    The simulated clock is the real one where the simulator begins at about the real time; else it goes on from where
    the simulator is, as fast as the real one. A venue is the first segment of the path, or the name in ``HOSTS``.
    """

    def __init__(
        self, simulator: Simulator, host: str = "127.0.0.1", ws_port: int = 0, rest_port: int = 0,
        tls: Certificates | None = None,
    ) -> None:
        """Port 0: any that is free. ``tls``: of this server alone; None serves ws and http."""
        self.simulator = simulator
        self.dropped_clients = 0
        """That did not read what was sent to them."""
        self.slowed_ns = 0
        """How much the simulated clock lost because the machine could not follow."""
        self.connections: dict[int, _Client] = {}
        self.ending: set[_Client] = set()
        """They have been sent a close frame, and may answer it."""
        self._host, self._ws_port, self._rest_port, self._tls = host, ws_port, rest_port, tls
        self._offset = 0
        self._websocket: asyncio.Server | None = None
        self._rest: web.AppRunner | None = None
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Raises UsageError: a port is in use, or may not be used."""
        self._offset = _begin(self.simulator.now) - time.monotonic_ns()
        while self.now() - self.simulator.now >= STEP_NS:  # while it was built
            self.simulator.wake(self.now())
        try:
            await self._open()
        except BaseException:
            await self._shut()
            raise
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        """Raises what broke the simulator meanwhile, where nothing else was raised."""
        await self._shut()
        running = self._running
        broken = running.exception() if running is not None and not running.cancelled() else None
        if error is None and broken is not None:
            raise broken

    async def wait(self) -> None:
        """Until it is cancelled, or something in the simulator breaks: that is raised."""
        if self._running is not None:
            await asyncio.shield(self._running)

    def websocket_url(self, venue: str) -> str:
        """In place of ``wss://stream.binance.com:9443`` and the like."""
        return f"ws{self._secure}://{self._host}:{self._ws_port}/{venue}"

    def rest_url(self, venue: str) -> str:
        return f"http{self._secure}://{self._host}:{self._rest_port}/{venue}"

    @property
    def _secure(self) -> str:
        return "" if self._tls is None else "s"

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def _open(self) -> None:
        tls = None if self._tls is None else self._tls.good
        if tls is not None:
            tls.sni_callback = self._show  # the TLS of aiofastnet crashes with one: not with that, then
        self._websocket = await _bound(self._host, self._ws_port, lambda: ws_create_server(
            self._accept, self._host, self._ws_port, enable_auto_pong=False, max_frame_size=MAX_MESSAGE_BYTES,
            logger_name="onetape-sim", ssl=tls, use_aiofastnet=None if tls is None else False,
        ))
        self._ws_port = self._websocket.sockets[0].getsockname()[1]
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._rest = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._rest.setup()
        site = web.TCPSite(self._rest, self._host, self._rest_port, ssl_context=tls)
        await _bound(self._host, self._rest_port, site.start)
        self._rest_port = self._rest.addresses[0][1]

    def _show(self, handshake: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        """Another certificate than the good one, while that is among the faults."""
        fault = self.simulator.bad_certificate(HOSTS.get(name or "", ""), self.now())
        if fault is not None and self._tls is not None:
            handshake.context = self._tls.expired if fault.code else self._tls.another

    async def _shut(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._websocket is not None:
            self._websocket.close()
        for client in [*self.connections.values(), *self.ending]:
            client.abort()
        if self._websocket is not None:
            await self._websocket.wait_closed()
        if self._rest is not None:
            await self._rest.cleanup()

    # --- time -------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            now = self.now()
            self.send(self.simulator.wake(now))
            behind = time.monotonic_ns() + self._offset - now
            if behind > MAX_LAG_NS:
                self._offset -= behind
                self.slowed_ns += behind
            pause = min(max(self.simulator.next_wake() - now, MILLISECOND), STEP_NS // 2)
            await asyncio.sleep(0 if behind > STEP_NS else pause / SECOND)

    def now(self) -> int:
        """Simulated time: never more than a step ahead of what has happened, so that a busy machine stays polite."""
        return min(time.monotonic_ns() + self._offset, self.simulator.now + STEP_NS)

    # --- WebSocket --------------------------------------------------------------------------------------------------

    def send(self, actions: list[Action]) -> None:
        """All that goes to one client is written at once."""
        for connection, data in packed(actions).items():
            client = self.connections.get(connection)
            if client is not None:
                client.write(data)
        for it in actions:
            if isinstance(it, Close) and it.connection in self.connections:
                self.connections.pop(it.connection).end(it.code)

    def _accept(self, request: WSUpgradeRequest) -> WSListener | WSUpgradeResponseWithListener:
        if not _is_handshake(request):
            return _refusal(Rejected(400, None, b"this is a WebSocket"))
        venue, target = route(request.headers.get("Host", ""), request.path.decode("latin-1"))
        try:
            connection, actions = self.simulator.connect(venue, target, self.now())
        except Rejected as refused:
            return _refusal(refused)
        except Unreachable as error:  # too late to be unknown: whoever asks has found us
            return _refusal(Rejected(503, None, str(error).encode()))
        self.send([it for it in actions if it.connection != connection])
        return _Client(self, connection, [it for it in actions if it.connection == connection])

    # --- REST -------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.Response:
        venue, target = route(request.host, request.raw_path)
        if venue not in self.simulator.venues:  # that host's trades are to be had from who keeps their market
            venue = SHOWS.get(venue, venue)
        try:
            response = self.simulator.request(
                venue, request.method, target, self.now(), dict(request.headers), request.remote or "local",
            )
        except Unreachable:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=503)
        if response.after_ns:
            await asyncio.sleep(response.after_ns / SECOND)
        headers = CIMultiDict(response.headers)
        headers.setdefault("Content-Type", "application/json")
        return web.Response(status=response.status, body=response.body, headers=headers)


class _Client(WSListener):
    """One WebSocket of a client's."""

    def __init__(self, server: Server, connection: int, first: list[Action]) -> None:
        self._server, self._connection = server, connection
        self._first = first
        self._transport: WSTransport | None = None
        self._message = bytearray()  # a text of several frames, bounded like a frame

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._server.connections[self._connection] = self
        self._server.send(self._first)
        self._first = []

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        server, payload = self._server, frame.get_payload_as_bytes()
        heard = server.simulator.heard(self._connection)
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.CONTINUATION:
                self._message += payload
                if len(self._message) > MAX_MESSAGE_BYTES:
                    self.abort()
                elif frame.fin:
                    message, self._message = bytes(self._message), bytearray()
                    server.send(server.simulator.receive(self._connection, message, server.now()))
            case WSMsgType.PONG:
                server.send(server.simulator.pong(self._connection, payload, server.now()))
            case WSMsgType.PING if heard:
                self.write(packet(_PONG, payload))
            case WSMsgType.CLOSE if heard or self in server.ending:
                if heard:
                    self.write(packet(_CLOSE, payload[:2]))
                transport.underlying_transport.close()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._server.connections.pop(self._connection, None)
        self._server.ending.discard(self)
        self._server.simulator.disconnect(self._connection, self._server.now())

    def write(self, data: bytes) -> None:
        if self._transport is None:
            return
        below = self._transport.underlying_transport
        if below.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._server.dropped_clients += 1
            self.abort()
        elif not below.is_closing():
            below.write(data)

    def end(self, code: int) -> None:
        """The close frame is out: the client has a while to answer it. 1006 has none, and no while."""
        if code == 1006:
            self.abort()
        else:
            self._server.ending.add(self)
            asyncio.get_running_loop().call_later(CLOSE_WAIT, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.underlying_transport.abort()


# --- pure parts -----------------------------------------------------------------------------------------------------


def packet(opcode: int, payload: bytes) -> bytes:
    """A whole, unmasked frame, as a server sends it (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def packed(actions: list[Action]) -> dict[int, bytes]:
    """All that is to be written, by connection, in order."""
    parts: dict[int, list[bytes]] = {}
    for it in actions:
        match it:
            case Frame(connection, data):
                parts.setdefault(connection, []).append(packet(_TEXT, data))
            case Ping(connection, payload):
                parts.setdefault(connection, []).append(packet(_PING, payload[:125]))
            case Close(connection, code, reason) if code != 1006:  # which is no code that may be sent (RFC 6455, 7.4.1)
                payload = code.to_bytes(2, "big") + reason.encode()[:123]
                parts.setdefault(connection, []).append(packet(_CLOSE, payload))
            case Close():
                pass
    return {connection: b"".join(frames) for connection, frames in parts.items()}


def route(host: str, target: str) -> tuple[str, str]:
    """The venue that is meant, and path and query as it knows them."""
    name = host.rpartition(":")[0] or host
    if name.lower() in HOSTS:
        return HOSTS[name.lower()], target
    path, mark, query = target.partition("?")
    _, _, rest = path.partition("/")
    venue, _, inner = rest.partition("/")
    return venue, f"/{inner}{mark}{query}"


def _is_handshake(request: WSUpgradeRequest) -> bool:
    """Only then will it be a connection (RFC 6455, 4.2.1): else the venue must not hear of it."""
    headers = request.headers
    with suppress(ValueError):
        return (
            headers.get("Upgrade", "").lower() == "websocket"
            and "upgrade" in headers.get("Connection", "").lower()
            and headers.get("Sec-WebSocket-Version") == "13"
            and len(b64decode(headers.get("Sec-WebSocket-Key", ""))) == 16
        )
    return False


def _refusal(it: Rejected) -> WSUpgradeResponseWithListener:
    status = it.status if it.status in _STATUSES else 503  # the library writes none that it has no word for
    response = WSUpgradeResponse.create_error_response(status, it.body, it.headers)
    return WSUpgradeResponseWithListener(response, None)


def _begin(now: int) -> int:
    real = time.time_ns()
    return real if abs(real - now) < MINUTE else now


async def _bound(host: str, port: int, bind: Callable[[], Awaitable[_T]]) -> _T:
    try:
        return await bind()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UsageError(f"port {port} of {host} is in use: choose another, or 0 for any that is free") from error
        raise UsageError(f"port {port} of {host} cannot be used: {error.strerror or error}") from error
