"""Recordings: all that came through the door, as JSON lines under zstd; those of others are read as well."""
import base64
import io
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Self

import msgspec
import zstandard
from msgspec import Struct

from onetape.clock import MILLISECOND, SECOND, decimal_seconds
from onetape.errors import RetryBatch, UsageError
from onetape.feed.inputs import (
    Answer,
    Closed,
    Failed,
    Frame,
    Input,
    Listed,
    Needed,
    Opened,
    Pinged,
    Setup,
    Started,
    Stopped,
    Unlisted,
)
from onetape.model import Event, Instrument, Need, encode

VERSION = 4
FLUSH_BYTES = 256 * 1024
FLUSH_NS = 5 * SECOND
"""Uncompressed bytes, and time, after which what was written can be read by others, whatever happens to us."""


class Header(Struct, frozen=True, omit_defaults=True):
    """The first line of a recording (of its first part): without it the rest means nothing."""

    onetape: int
    """Version of this format."""
    sessions: dict[str, Setup] = {}
    """By the name of the connection, in format 1; since then each venue's start says what its lines are."""
    instruments: tuple[Instrument, ...] = ()
    """In format 1."""
    seed: int = 0
    """Of the jitter of reconnects."""


class _Line(Struct, omit_defaults=True, gc=False):
    n: int  # number
    t: int  # time, ns
    c: str  # connection
    k: Literal["open", "frame", "answer", "failed", "ping", "close", "start", "need", "list", "unlisted", "stop"]
    d: str = ""  # the frame, body or reason, as text
    b: str = ""  # the same in base64, where it is not UTF-8
    i: int = 0  # id of the Fetch
    s: int = 0  # HTTP status
    e: int = 0  # close code of the WebSocket
    w: int = 0  # ns that the venue asks to wait
    u: str = ""  # url
    h: dict[str, str] = {}  # HTTP headers


class _Start(Struct):
    """The payload of ``start``."""

    lines: dict[str, Setup]
    instruments: tuple[Instrument, ...]
    max_age_ns: int = 0


class _List(Struct, omit_defaults=True):
    """The payload of ``list``."""

    pages: tuple[str, ...]
    lines: dict[str, Setup] | None = None
    encoded: bool = False
    """The pages are in base64: not all of them are UTF-8."""


class _End(Struct, omit_defaults=True):
    """The last line: without it the writer did not come to its end."""

    end: int  # number of inputs
    hash: str = ""  # SHA-256 of the events that came of them, one JSON a line; empty: nobody has counted them


_encode = msgspec.json.Encoder().encode
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_end = msgspec.json.Decoder(_End).decode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_start = msgspec.json.Decoder(_Start).decode
_decode_need = msgspec.json.Decoder(Need).decode
_decode_list = msgspec.json.Decoder(_List).decode


class RecordingWriter:
    """Writes one recording; use as a context manager.

    ``part_bytes``: uncompressed bytes after which a new file is begun; the recording then is a folder of such parts.
    Raises UsageError where nothing can be written, RetryBatch where that is so from now on.
    """

    def __init__(self, path: Path, header: Header, part_bytes: int = 0) -> None:
        self._path, self._header, self._part_bytes = path, header, part_bytes
        self._hash = sha256()
        self._hashed = False
        self._parts = self._count = self._flushed_at = self._unflushed = self._size = 0
        self.written = 0
        """Uncompressed bytes."""

    def __enter__(self) -> Self:
        try:
            if self._part_bytes:
                self._path.mkdir(parents=True, exist_ok=True)
                if next(self._path.iterdir(), None) is not None:
                    raise UsageError(f"{self._path} is not empty: name a new folder for this recording")
            self._open_part()
        except OSError as error:
            raise UsageError(f"cannot record to {self._path}: {error.strerror}") from error
        self._write(_encode(self._header))
        self._out.flush(zstandard.FLUSH_FRAME)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        """After an exception there is no hash: events that belong to the last input may be missing in it."""
        try:
            self._write(_encode(_End(self._count, self._hash.hexdigest() if self._hashed and kind is None else "")))
            self._out.close()  # type: ignore[no-untyped-call]
        except OSError as error:
            if kind is None:
                raise RetryBatch(f"cannot record to {self._path}: {error.strerror}") from error
        finally:
            with suppress(OSError):  # what could not be written was told above
                self._file.close()

    def add(self, it: Input) -> None:
        """Before its events."""
        self._count += 1
        try:
            if self._part_bytes and self._size >= self._part_bytes:
                self._out.close()  # type: ignore[no-untyped-call]
                self._open_part()
            self._write(_encode(_to_line(it)))
            if self._unflushed >= FLUSH_BYTES or it.time - self._flushed_at >= FLUSH_NS:
                self._out.flush(zstandard.FLUSH_FRAME)
                self._unflushed, self._flushed_at = 0, it.time
        except OSError as error:
            raise RetryBatch(f"cannot record to {self._path}: {error.strerror}") from error

    def happened(self, event: Event) -> None:
        """An event that came of the inputs: what a replay has to bring again."""
        self._hashed = True
        self._hash.update(encode(event) + b"\n")

    def _open_part(self) -> None:
        self._parts += 1
        path = self._path / f"part-{self._parts:06}.jsonl.zst" if self._part_bytes else self._path
        self._file = path.open("wb")
        self._out = zstandard.ZstdCompressor(level=3).stream_writer(self._file)
        self._unflushed = self._size = 0

    def _write(self, line: bytes) -> None:
        self._out.write(line + b"\n")
        self._unflushed += len(line)
        self._size += len(line)
        self.written += len(line)


class Recording(Struct):
    """Opened for reading: who was connected, and what came in."""

    path: Path

    header: Header | None
    """None for the recordings of others."""
    frames: int
    """Number of frames, for a progress bar; 0: not known before the end."""
    inputs: Iterator[tuple[int, Input]]
    """With the 1-based line (of the file of frames) that each belongs to."""
    cut_off: bool = False
    """Known once all was read: the writer of this recording was killed. What is there is good."""
    hash: str = ""
    """Known once all was read: SHA-256 of the events that came of it when it was made; empty: nobody says."""


def open_recording(path: Path) -> Recording:
    """Opens our own recordings and those in the layout of others. Raises UsageError, now or while reading."""
    try:
        there = path.exists()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if not there:
        raise UsageError(f"no such recording: {path}")
    if path.is_dir() and not _parts(path):
        raise UsageError(f"{path} is a folder: name one recording in it")
    with closing(_lines(path)) as lines:
        first = next((line for line in lines if line.strip()), b"")
    if not first.strip():
        raise UsageError(f"{path} is empty")
    if first.startswith(b'{"onetape":'):
        recording = Recording(path, _header(path, first), 0, iter(()))
        recording.inputs = _own(recording)
        return recording
    if b"\0" in first[:4096]:
        raise UsageError(f"{path} is not a recording: its first line is not text")
    return Recording(path, None, sum(1 for _ in _lines(path)), _others(path))


def _parts(path: Path) -> list[Path]:
    """Of a recording that is a folder, in their order."""
    return sorted(path.glob("part-*.jsonl.zst"))


def _lines(path: Path) -> Generator[bytes]:
    """With their ends; decompressed where the name says that they are compressed."""
    if path.is_dir():
        for part in _parts(path):
            yield from _lines(part)
        return
    try:
        with path.open("rb") as file:
            source: Any = file
            if path.suffix == ".zst":
                reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
                source = io.BufferedReader(reader)
            yield from source
    except zstandard.ZstdError as error:
        raise UsageError(f"{path} is corrupt: {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


# --- our own --------------------------------------------------------------------------------------------------------


def _header(path: Path, line: bytes) -> Header:
    try:
        header = _decode_header(line)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{path} is corrupt in line 1: {error}") from error
    if header.onetape == 1 and b'"sessions"' not in line:
        raise UsageError(f"{path} is corrupt in line 1: it names no sessions")
    if header.onetape > VERSION:
        raise UsageError(f"{path} was made by a newer OneTape: format {header.onetape}, this one reads {VERSION}")
    return header


def _own(recording: Recording) -> Iterator[tuple[int, Input]]:
    path, time, count = recording.path, 0, 0
    recording.cut_off = True
    lines = enumerate(_lines(path), start=1)
    next(lines)  # the header
    for number, line in lines:
        if not line.endswith(b"\n"):
            return
        try:
            if line.startswith(b'{"end":'):
                end = _decode_end(line)
                recording.cut_off, recording.hash = end.end != count, end.hash
                return
            it = _from_line(_decode_line(line))
        except (msgspec.MsgspecError, ValueError) as error:
            raise UsageError(f"{path} is corrupt in line {number}: {error}") from error
        if it.number != count + 1 or it.time < time:
            raise UsageError(f"{path} is corrupt in line {number}: input {it.number} follows input {count}")
        count, time = it.number, it.time
        yield number, it


def _to_line(it: Input) -> _Line:
    line = _Line(it.number, it.time, it.connection, "frame")
    match it:
        case Frame(data=data):
            _put(line, data)
        case Answer():
            line.k, line.i, line.s, line.u, line.h = "answer", it.id, it.status, it.url, it.headers
            _put(line, it.body)
        case Failed():
            line.k, line.i, line.d = "failed", it.id, it.reason
        case Opened():
            line.k = "open"
        case Pinged():
            line.k = "ping"
        case Closed():
            line.k, line.d, line.e, line.s, line.w = "close", it.reason, it.code, it.status, it.retry_after_ns
        case Started():
            line.k, line.d = "start", _encode(_Start(it.lines, it.instruments, it.max_age_ns)).decode()
        case Needed():
            line.k, line.d = "need", _encode(it.need).decode()
        case Listed():
            line.k, line.d = "list", _encode(_list_of(it)).decode()
        case Unlisted():
            line.k, line.d = "unlisted", it.reason
        case Stopped():
            line.k = "stop"
    return line


def _list_of(it: Listed) -> _List:
    try:
        return _List(tuple(page.decode() for page in it.pages), it.lines)
    except UnicodeDecodeError:
        return _List(tuple(base64.b64encode(page).decode() for page in it.pages), it.lines, encoded=True)


def _put(line: _Line, data: bytes) -> None:
    try:
        line.d = data.decode()
    except UnicodeDecodeError:
        line.b = base64.b64encode(data).decode()


def _from_line(line: _Line) -> Input:
    data = base64.b64decode(line.b, validate=True) if line.b else line.d.encode()
    match line.k:
        case "frame":
            return Frame(number=line.n, time=line.t, connection=line.c, data=data)
        case "answer":
            return Answer(
                number=line.n, time=line.t, connection=line.c, id=line.i, status=line.s, body=data, url=line.u,
                headers=line.h,
            )
        case "failed":
            return Failed(number=line.n, time=line.t, connection=line.c, id=line.i, reason=line.d)
        case "open":
            return Opened(number=line.n, time=line.t, connection=line.c)
        case "ping":
            return Pinged(number=line.n, time=line.t, connection=line.c)
        case "close":
            return Closed(
                number=line.n, time=line.t, connection=line.c, reason=line.d, code=line.e, status=line.s,
                retry_after_ns=line.w,
            )
        case "start":
            it = _decode_start(line.d)
            return Started(
                number=line.n, time=line.t, connection=line.c, lines=it.lines, instruments=it.instruments,
                max_age_ns=it.max_age_ns,
            )
        case "need":
            return Needed(number=line.n, time=line.t, connection=line.c, need=_decode_need(line.d))
        case "list":
            listed = _decode_list(line.d)
            decode = base64.b64decode if listed.encoded else str.encode
            pages = tuple(decode(page) for page in listed.pages)
            return Listed(number=line.n, time=line.t, connection=line.c, pages=pages, lines=listed.lines)
        case "unlisted":
            return Unlisted(number=line.n, time=line.t, connection=line.c, reason=line.d)
        case "stop":
            return Stopped(number=line.n, time=line.t, connection=line.c)


# --- those of others ------------------------------------------------------------------------------------------------
# NAME.jsonl: a frame a line. Beside it, each if there: NAME.recv_ns.txt or .recv_ts.txt (receive times, line by line);
# NAME.rest/ with index.tsv (file, receive time, URL); NAME.rest_depth.json with .meta.txt (where it came in).


class _Body(Struct):
    time: int
    line: int
    """It came in before this 0-based line; -1: where its time says."""
    url: str
    path: Path


def _others(path: Path) -> Iterator[tuple[int, Input]]:
    stem = path.with_name(path.name.removesuffix(".zst").removesuffix(".jsonl"))
    times = _times(stem)
    bodies = _bodies(stem)
    number = time = 0
    for index, line in enumerate(_lines(path)):
        at = _time_of(times, index, stem)
        while bodies and (bodies[0].line == index or (bodies[0].line < 0 and bodies[0].time <= at)):
            body = bodies.pop(0)
            number, time = number + 1, max(time, min(body.time, at))
            yield index + 1, _answer(body, number, time)
        if not line.strip():  # an empty line is no frame, but it is a line
            continue
        number, time = number + 1, max(time, at)
        yield index + 1, Frame(number=number, time=time, connection="", data=line.rstrip(b"\r\n"))
    for body in bodies:
        number, time = number + 1, time if times is None else max(time, body.time)
        yield index + 1, _answer(body, number, time)


def _times(stem: Path) -> list[int] | None:
    for suffix, parse in ((".recv_ns.txt", int), (".recv_ts.txt", decimal_seconds)):
        path = stem.with_name(stem.name + suffix)
        if path.exists():
            try:
                return [parse(line) for line in path.read_text().split()]
            except (OSError, ValueError) as error:
                raise UsageError(f"{path} is corrupt: {error}") from error
    return None


def _time_of(times: list[int] | None, index: int, stem: Path) -> int:
    if times is None:  # no clock was kept: frames come a millisecond apart
        return (index + 1) * MILLISECOND
    if index >= len(times):
        raise UsageError(f"{stem.name}: {len(times)} receive times for more frames than that")
    return times[index]


def _bodies(stem: Path) -> list[_Body]:
    bodies = []
    index = stem.with_name(stem.name + ".rest") / "index.tsv"
    if index.exists():
        try:
            for row in index.read_text().splitlines()[1:]:
                file, time, url = row.split("\t")
                bodies.append(_Body(decimal_seconds(time), -1, url, index.parent / file))
        except (OSError, ValueError) as error:
            raise UsageError(f"{index} is corrupt, a line needs file, time in seconds and URL: {error}") from error
    single = stem.with_name(stem.name + ".rest_depth.json")
    if single.exists():
        meta = stem.with_name(stem.name + ".rest_depth.meta.txt")
        try:
            told = dict(line.split("=") for line in meta.read_text().split())
            bodies.append(_Body(int(told["recv_ns"]), int(told["inserted_before_jsonl_line(0-based)"]), "", single))
        except (OSError, ValueError, KeyError) as error:
            needed = "recv_ns=N and inserted_before_jsonl_line(0-based)=N"
            raise UsageError(f"{meta} is missing or corrupt, it needs {needed}: {error}") from error
    return sorted(bodies, key=lambda it: it.time)


def _answer(it: _Body, number: int, time: int) -> Answer:
    try:
        body = it.path.read_bytes()
    except OSError as error:
        raise UsageError(f"{it.path} cannot be read: {error.strerror or error}") from error
    return Answer(number=number, time=time, connection="", id=0, status=200, body=body, url=it.url)
