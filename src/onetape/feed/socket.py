"""One WebSocket: bytes in with their receive time, text frames out; every size and every wait has a bound."""
import asyncio
import socket
import ssl
import zlib
from collections.abc import Callable
from http import HTTPStatus

from msgspec import Struct
from picows import WSCloseCode, WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect
from python_socks import ProxyError

from onetape.clock import SECOND

DEFLATE = {"Sec-WebSocket-Extensions": "permessage-deflate; client_no_context_takeover"}
TAIL = b"\x00\x00\xff\xff"  # that a sender of permessage-deflate leaves out: RFC 7692, 7.2.2
MAX_RETRY_AFTER = 3 * 86_400  # s
MAX_REASON = 200
MAX_UNREAD = 2**20  # bytes of ours that the venue leaves in our memory
_TEXT = WSMsgType.TEXT  # see BUY in model/events.py
MAX_PARTS = 65_536  # of a message: empty ones cost nothing to send, and never end


class Unreached(Exception):  # mapped to a Closed input at once, never seen outside of feed
    """No WebSocket could be had."""

    def __init__(self, reason: str, status: int = 0, retry_after_ns: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.status, self.retry_after_ns = reason, status, retry_after_ns


class Ends(Struct, frozen=True):
    """Who hears of a socket. ``frame`` gets bytes and receive time (ns), ``closed`` reason and close code (0: none)."""

    opened: Callable[["Socket"], None]
    """It stands; frames may follow before ``connect`` returns."""
    frame: Callable[[bytes, int], None]
    pinged: Callable[[int], None]
    closed: Callable[[str, int], None]
    failed: Callable[[BaseException], None]
    """One of the others raised: a defect of ours, never to be swallowed."""


class Way(Struct, frozen=True):
    """How sockets get out."""

    proxy: str | None = None
    """``http://``, ``https://``, ``socks4://`` or ``socks5://``, with user and password if need be."""
    local_address: str | None = None
    tls: ssl.SSLContext | None = None
    deflate: bool = False
    """Ask for permessage-deflate."""


class Socket(WSListener):
    """Made by ``connect``; ``ends`` are called in the order of the frames, ``closed`` once and last."""

    def __init__(self, ends: Ends, max_bytes: int, clock: Callable[[], int], *, deflate: bool) -> None:
        self._ends, self._max_bytes, self._clock, self._deflate = ends, max_bytes, clock, deflate
        self._transport: WSTransport | None = None
        self._inflate: Inflate | None = None
        self._parts: bytearray | None = None  # of a fragmented message; None: none is under way
        self._count = 0  # of them
        self._compressed = False
        self._over = False  # whatever still comes is not heard
        self._why = ""
        self._code = 0
        self.sent = 0

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self.sent += 1
            self._transport.send(WSMsgType.TEXT, frame)

    def close(self, reason: str) -> None:
        """Says goodbye and goes; ``closed`` follows."""
        self._why = self._why or reason
        self._over = True
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect(graceful=False)

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        extensions = transport.response.headers.get("Sec-WebSocket-Extensions", "")
        if self._deflate and "permessage-deflate" in extensions:
            self._inflate = Inflate(self._max_bytes, keep="server_no_context_takeover" not in extensions)
        try:
            self._ends.opened(self)
        except BaseException as error:  # noqa: BLE001 - picows would log it and go on
            self._ends.failed(error)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        now = self._clock()
        if self._over:
            return
        try:
            self._take(transport, frame, now)
        except _TooBig as error:
            self._refuse(transport, WSCloseCode.MESSAGE_TOO_BIG, str(error))
        except _Broken as error:
            self._refuse(transport, WSCloseCode.PROTOCOL_ERROR, str(error))
        except zlib.error as error:
            self._refuse(transport, WSCloseCode.PROTOCOL_ERROR, f"cannot decompress: {error}")
        except BaseException as error:  # noqa: BLE001 - picows would log it and go on
            self._ends.failed(error)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        if not self._why and (close := transport.close_handshake) is not None and close.sent is not None:
            self._why = f"broken: {close.sent.reason}"[:MAX_REASON]  # what picows made of it
        # It keeps that as an exception too, which nobody awaits: the loop would log it.
        ended = asyncio.get_running_loop().create_task(transport.wait_disconnected())
        ended.add_done_callback(lambda it: it.cancelled() or it.exception())
        try:
            self._ends.closed(self._why or "the connection was lost", self._code)
        except BaseException as error:  # noqa: BLE001 - picows would log it and go on
            self._ends.failed(error)

    def _take(self, transport: WSTransport, frame: WSFrame, now: int) -> None:
        kind = frame.msg_type
        if frame.rsv2 or frame.rsv3:
            raise _Broken("a frame with a reserved bit")
        if kind == _TEXT and frame.fin and not frame.rsv1 and self._parts is None:
            data = frame.get_payload_as_bytes()
            if len(data) > self._max_bytes:  # picows refuses such by their header, but then passes them on if they come
                raise _TooBig(f"a message of {len(data)} bytes")
            self._ends.frame(data, now)
        elif kind in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._take_part(frame, now)
        elif kind == WSMsgType.PING:
            if transport.underlying_transport.get_write_buffer_size() > MAX_UNREAD:
                self._refuse(transport, WSCloseCode.POLICY_VIOLATION, "it pings, and does not read the answers")
                return
            transport.send_pong(frame.get_payload_as_bytes())
            self._ends.pinged(now)
        elif kind == WSMsgType.PONG:
            self._ends.pinged(now)
        elif kind == WSMsgType.CLOSE:
            self._code = _number(frame.get_close_code())
            said = (frame.get_close_reason() or "")[:MAX_REASON]
            self._why = self._why or f"closed by the venue: {self._code or 'no code'}{f' {said}' if said else ''}"
            self._over = True
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def _take_part(self, frame: WSFrame, now: int) -> None:
        begins = frame.msg_type != WSMsgType.CONTINUATION
        if begins is not (self._parts is None) or (frame.rsv1 and not begins):
            raise _Broken("a message begins in the middle of another, or in its own")
        if begins or self._parts is None:
            self._parts, self._count, self._compressed = bytearray(), 0, frame.rsv1
        self._parts += frame.get_payload_as_bytes()
        self._count += 1
        if len(self._parts) > self._max_bytes or self._count > MAX_PARTS:
            raise _TooBig(f"a message of more than {self._max_bytes} bytes, or {MAX_PARTS} parts")
        if frame.fin:
            message, self._parts = bytes(self._parts), None
            if self._compressed:
                if self._inflate is None:
                    raise _Broken("compression was not agreed upon")
                message = self._inflate.message(message)
            self._ends.frame(message, now)

    def _refuse(self, transport: WSTransport, code: WSCloseCode, reason: str) -> None:
        self._why = self._why or reason
        self._over = True
        transport.send_close(code)
        transport.disconnect(graceful=False)


def _number(code: WSCloseCode | int) -> int:
    """What the application defines comes as a plain number."""
    return code.value if isinstance(code, WSCloseCode) else code


class _TooBig(Exception):
    pass


class _Broken(Exception):
    """Against RFC 6455."""


class Inflate:
    """permessage-deflate, RFC 7692, with a bound on what a message may grow to."""

    def __init__(self, max_bytes: int, *, keep: bool) -> None:
        self._max_bytes, self._keep = max_bytes, keep
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)

    def message(self, data: bytes) -> bytes:
        """Raises zlib.error."""
        if not self._keep or self._stream.eof:  # a sender may end its stream with any message: RFC 7692, 7.2.3.4
            self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        message = self._stream.decompress(data + TAIL, self._max_bytes + 1)
        if len(message) > self._max_bytes:
            raise _TooBig(f"a message that decompresses to more than {self._max_bytes} bytes")
        return message


async def connect(
    url: str, ends: Ends, *, way: Way, timeout_ns: int, max_bytes: int, clock: Callable[[], int],
) -> Socket:
    """Opens a WebSocket. Raises Unreached with a reason that a person can act on."""
    host = url.split("/")[2]
    timeout = timeout_ns / SECOND
    try:
        async with asyncio.timeout(timeout):
            _, listener = await ws_connect(
                lambda: Socket(ends, max_bytes, clock, deflate=way.deflate), url,
                ssl_context=way.tls, proxy=way.proxy, max_frame_size=max_bytes,
                websocket_handshake_timeout=timeout, enable_auto_pong=False, logger_name="onetape",
                extra_headers=DEFLATE if way.deflate else None, max_redirects=2,
                local_addr=(way.local_address, 0) if way.local_address else None,
            )
    except TimeoutError:
        raise Unreached(f"{host} did not answer within {timeout:g} s") from None
    except WSHandshakeError as error:
        raise _refused(host, error) from error
    except socket.gaierror as error:
        proxy = " (or the proxy)" if way.proxy else ""
        raise Unreached(f"DNS: cannot resolve {host.partition(':')[0]}{proxy}: {error.strerror}") from error
    except ssl.SSLError as error:
        raise Unreached(f"{host}: TLS failed: {getattr(error, 'verify_message', '') or error.reason}") from error
    except ProxyError as error:
        raise Unreached(f"the proxy {_bare(way.proxy or '')} refuses: {error}") from error
    except OSError as error:
        where = f"{host} through the proxy {_bare(way.proxy)}" if way.proxy else host
        raise Unreached(f"cannot connect to {where}: {error.strerror or error}") from error
    except (WSError, ValueError, AssertionError) as error:  # an address that is none: in a redirect, or the proxy's
        raise Unreached(f"{host}: {error or 'not an address'}"[:MAX_REASON]) from error
    if not isinstance(listener, Socket):
        raise Unreached(f"{host} hung up in the middle of the handshake")
    return listener


def _refused(host: str, error: WSHandshakeError) -> Unreached:
    if error.response is None:
        return Unreached(f"{host}: {error}"[:MAX_REASON])
    status = int(error.response.status)
    after = error.response.headers.get("Retry-After", "")
    wait = min(int(after), MAX_RETRY_AFTER) if after.isascii() and after.isdigit() and len(after) <= 9 else 0
    if status == HTTPStatus.SWITCHING_PROTOCOLS:  # but something else in the answer was wrong
        return Unreached(f"{host}: {error}"[:MAX_REASON])
    return Unreached(f"{host} refuses: HTTP {status}", status, wait * SECOND)


def _bare(proxy: str) -> str:
    """Without user and password."""
    scheme, _, rest = proxy.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
