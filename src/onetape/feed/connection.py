"""The hands and ears of the door: sockets, REST and one timer; it decides nothing."""
import asyncio
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from msgspec import Struct

from onetape.clock import SECOND
from onetape.credentials import Credentials
from onetape.feed.door import Door, asked_by_backfill
from onetape.feed.governor import Priority
from onetape.feed.inputs import Answer, Closed, Failed, Frame, Input, Opened, Pinged
from onetape.feed.line import Outcome
from onetape.feed.rest import KEPT_HEADERS, Rest, Unanswered
from onetape.feed.socket import Ends, Socket, Unreached, Way, connect
from onetape.model import (
    Command,
    Connect,
    Disconnect,
    Event,
    Fetch,
    NeedCandles,
    NeedSnapshot,
    NeedTrades,
    Purpose,
    Reconnect,
    Send,
)
from onetape.venues.base import Limits, Spec

MAX_UNSENT = 1_000  # frames of ours that wait for the venue's pace


PRIORITIES = {
    Purpose.RESYNC: Priority.RESYNC, Purpose.AUDIT: Priority.AUDIT, Purpose.BACKFILL: Priority.BACKFILL,
}


class Access(Struct, frozen=True):
    """Where and how one venue is reached."""

    spec: Spec
    websocket: Mapping[str, tuple[str, ...]]
    """By route; of several addresses the next one is tried after a failure."""
    rest: Rest
    way: Way = Way()


class Waker(Protocol):
    """What else has deadlines in the same time: the pipeline."""

    def next_wake(self) -> int | None: ...

    def wake(self, now: int) -> object: ...


class _Link:
    """A socket, or the attempt at one, and what waits to be sent on it."""

    __slots__ = ("credentials", "fetches", "free_at", "gap", "sending", "socket", "task", "unsent")

    def __init__(self, limits: Limits, credentials: Credentials | None) -> None:
        self.credentials = credentials
        self.socket: Socket | None = None
        self.task: asyncio.Task[None] | None = None
        self.fetches: set[asyncio.Task[None]] = set()  # for it alone: they end with it
        self.unsent: deque[bytes] = deque()
        self.sending: asyncio.TimerHandle | None = None
        self.gap = 1 / limits.sends_per_second
        self.free_at = 0.0  # by the loop's clock


class Network:
    """Lives in one event loop, from ``run`` until its task is cancelled.

    ``publish`` gets every event, in the stack of the frame that caused it. ``record`` gets every input before the door.
    What ``publish`` raises ends ``run``: a defect, or a disk that takes no more, is never passed over.
    """

    def __init__(
        self, door: Door, accesses: Mapping[str, Access], publish: Callable[[Event], None], *,
        record: Callable[[Input], None] | None = None, waker: Waker | None = None,
        clock: Callable[[], int],
    ) -> None:
        self.door = door
        self.counters: Counter[str] = Counter()
        self._accesses, self._publish, self._record, self._waker, self._clock = accesses, publish, record, waker, clock
        self._links: dict[str, _Link] = {}
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0

    async def run(self) -> None:
        """Raises what went wrong in ``publish``."""
        self._loop = asyncio.get_running_loop()
        self._failure: asyncio.Future[None] = self._loop.create_future()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await self._failure
        finally:
            self._hang_up()

    def now(self) -> int:
        """ns since the epoch, never less than before."""
        return max(self._clock(), self.door.time)

    def enter(self, kind: type[Input], connection: str, at: int | None = None, **fields: Any) -> None:
        """An input, as of now or ``at``; ``fields``: its own."""
        number, time = self.door.stamp(self._clock() if at is None else at)
        self._take(kind(number=number, time=time, connection=connection, **fields))

    def enter_soon(self, kind: type[Input], connection: str, **fields: Any) -> None:
        """As ``enter``, after all that follows from the present input; not if it is too late then."""
        def enter() -> None:
            if self._over:
                return
            try:
                self.enter(kind, connection, **fields)
            except BaseException as error:  # noqa: BLE001 - the loop would log it and go on
                self._fail(error)

        self._loop.call_soon(enter)

    def _take(self, it: Input) -> None:
        if self._record is not None:
            self._record(it)
        self._pass_on(self.door.enter(it))
        self._set_timer()

    # --- outwards ---------------------------------------------------------------------------------------------------

    def _pass_on(self, outcomes: list[Outcome]) -> None:
        for name, it in outcomes:
            if isinstance(it, Event):  # nearly always
                self._publish(it)
            else:
                self._obey(name, it)

    def _obey(self, name: str, it: Command) -> None:
        match it:
            case Send():
                self._send(name, it.frame)
            case Fetch() if asked_by_backfill(name):
                self._start(self._fetch(name, it))
            case Fetch():
                if (link := self._links.get(name)) is not None:
                    task = self._start(self._fetch(name, it))
                    link.fetches.add(task)
                    task.add_done_callback(link.fetches.discard)
            case Connect() if self.door.let_go(name):
                pass  # nobody wants its line any more
            case Connect():
                spec = self._access(name).spec
                link = self._links[name] = _Link(spec.limits, self.door.credentials.get(spec.name))
                link.task = self._start(self._connect(name, it, link))
            case Disconnect():
                self._disconnect(name, it.reason)
            case Reconnect() | NeedSnapshot() | NeedTrades() | NeedCandles():
                pass  # the line has seen to it

    def _send(self, name: str, frame: bytes) -> None:
        """At the venue's pace."""
        link = self._links.get(name)
        if link is None or link.socket is None:
            self.counters["frames for a lost socket"] += 1
            return
        now = self._loop.time()
        if not link.unsent and now >= link.free_at:
            link.free_at = now + link.gap
            link.socket.send(frame)
            return
        if len(link.unsent) >= MAX_UNSENT:
            self.counters["frames not sent"] += 1
            link.socket.close(f"{MAX_UNSENT} frames wait to be sent")
            return
        link.unsent.append(frame)
        if link.sending is None:
            link.sending = self._loop.call_at(link.free_at, self._send_next, link)

    def _send_next(self, link: _Link) -> None:
        link.sending = None
        if link.socket is None or not link.unsent:
            return
        link.free_at = self._loop.time() + link.gap
        link.socket.send(link.unsent.popleft())
        if link.unsent:
            link.sending = self._loop.call_at(link.free_at, self._send_next, link)

    async def _connect(self, name: str, it: Connect, link: _Link) -> None:
        access, line = self._access(name), self.door.line_of(name)
        assert line is not None
        urls = access.websocket[line.setup.route]
        timings = line.setup.timings or access.spec.timings
        ends = Ends(
            opened=lambda socket: self._opened(name, link, socket),
            frame=lambda data, at: self._frame(name, link, data, at),
            pinged=lambda at: self._pinged(name, link, at),
            closed=lambda reason, code: self._closed(name, link, reason, code),
            failed=self._fail,
        )
        try:
            await connect(
                urls[it.address % len(urls)], ends, way=access.way, timeout_ns=timings.connect_ns,
                max_bytes=access.spec.limits.receive_bytes, clock=self._clock,
            )
        except Unreached as error:
            if link.socket is None and self._links.get(name) is link:  # else it stood before the time was over
                del self._links[name]
                self.enter(
                    Closed, name, reason=error.reason, status=error.status, retry_after_ns=error.retry_after_ns
                )

    def _disconnect(self, name: str, reason: str) -> None:
        link = self._links.pop(name, None)
        if link is None:
            return
        _quiet(link)
        if link.socket is not None:
            link.socket.close(reason)
        elif link.task is not None:
            link.task.cancel()

    async def _fetch(self, name: str, it: Fetch) -> None:
        try:
            reply = await self._access(name).rest.fetch(it.request, PRIORITIES[it.purpose])
        except Unanswered as error:
            self.enter(Failed, name, id=it.id, reason=str(error))
            return
        headers = {key: reply.headers[key] for key in KEPT_HEADERS if key in reply.headers}
        self.enter(
            Answer, name, id=it.id, status=reply.status, body=reply.body, url=it.request.path, headers=headers
        )

    # --- inwards ----------------------------------------------------------------------------------------------------

    def _opened(self, name: str, link: _Link, socket: Socket) -> None:
        if self._links.get(name) is not link:  # given up while it was being opened
            socket.close("no longer wanted")
            return
        link.socket = socket
        self.enter(Opened, name)

    def _frame(self, name: str, link: _Link, data: bytes, at: int) -> None:
        if self._links.get(name) is not link:
            self.counters["frames of a lost socket"] += 1
            return
        if link.credentials is not None and b"error" in data:  # some venues repeat what they complain of
            data = link.credentials.hide(data)
        number, at = self.door.stamp(at)
        self._take(Frame(number=number, time=at, connection=name, data=data))

    def _pinged(self, name: str, link: _Link, at: int) -> None:
        if self._links.get(name) is link:
            self.enter(Pinged, name, at)

    def _closed(self, name: str, link: _Link, reason: str, code: int) -> None:
        if self._links.get(name) is not link:
            return
        del self._links[name]
        _quiet(link)
        if link.credentials is not None:
            reason = link.credentials.hide(reason.encode()).decode("utf-8", "replace")
        self.enter(Closed, name, reason=reason, code=code)

    # --- time -------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        due = self.door.next_wake()
        if self._waker is not None and (other := self._waker.next_wake()) is not None:
            due = other if due is None else min(due, other)
        if due is None or (self._timer is not None and self._armed <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed = due
        self._timer = self._loop.call_later(max(due - self.now(), 0) / SECOND, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            now = self.now()
            self._pass_on(self.door.wake(now))
            if self._waker is not None:
                self._waker.wake(now)
        except BaseException as error:  # noqa: BLE001 - the loop would log it and go on
            self._fail(error)
        else:
            self._set_timer()

    # --- small things -----------------------------------------------------------------------------------------------

    def _access(self, connection: str) -> Access:
        return self._accesses[self.door.venue_of(connection)]

    def _start(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        return self._tasks.create_task(coroutine)

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    def _hang_up(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        for link in self._links.values():
            _quiet(link)
            if link.socket is not None:
                link.socket.close("stopped")
        self._links.clear()


def _quiet(link: _Link) -> None:
    for task in list(link.fetches):
        task.cancel()
    if link.sending is not None:
        link.sending.cancel()
    link.unsent.clear()
