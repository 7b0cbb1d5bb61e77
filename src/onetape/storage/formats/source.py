"""Reads the lines of a text file that may be compressed, in constant memory, and says where it is damaged.

What a file is, its first bytes say and not its name. Members of an archive are read where they stand: no name out of
it ever becomes a path.
"""
import gzip
import zipfile
import zlib
from codecs import BOM_UTF8 as BOM
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import zstandard

from onetape.errors import UsageError

BLOCK = 1 << 18
"""Bytes that are read at once; a line that is longer is none of these formats."""
_ZST_STEP = 1 << 11
"""Compressed bytes that are taken at once: 2 kB can become 64 MB, and no more."""

Lines = Iterator[tuple[int, str]]
"""With their numbers, from 1, and without their ends."""


def lines(path: Path, tell: Callable[[int], None] = lambda _: None) -> Lines:
    """``tell`` hears how many bytes of the file were read. Raises UsageError, naming the line, when it comes to it."""
    number = 1
    try:
        with path.open("rb") as file:
            rest = b""
            for block in _blocks(file, path):
                whole, found, rest = (rest + block).rpartition(b"\n")
                if len(rest) > BLOCK:
                    line = number + whole.count(b"\n") + len(found)
                    raise UsageError(f"{path} line {line} is longer than {BLOCK:,} bytes")
                if not found:
                    continue
                if number == 1:
                    whole = whole.removeprefix(BOM)
                for text in _text(path, whole, number).split("\n"):
                    yield number, text.removesuffix("\r")
                    number += 1
                tell(file.tell())
            if rest:  # a number that was cut off looks like another one
                raise UsageError(
                    f"{path} line {number} does not end: the file is cut off (if it is whole, end it with a line end)")
    except (EOFError, zlib.error, zstandard.ZstdError, zipfile.BadZipFile, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} is damaged or cut off after line {number - 1}: {error}") from error
    except (RuntimeError, NotImplementedError) as error:  # an archive with a password, or of another method
        raise UsageError(f"{path} cannot be unpacked: {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def size(path: Path) -> int:
    """Raises UsageError: there is no such file."""
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file")
        return path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def _text(path: Path, whole: bytes, number: int) -> str:
    at = whole.find(0)
    try:
        if at < 0:
            return whole.decode()
        reason = "a NUL byte"
    except UnicodeDecodeError as error:
        at, reason = error.start, "no UTF-8"
    line = number + whole.count(b"\n", 0, at)
    raise UsageError(f"{path} line {line} is no text: it has {reason}")


def _blocks(file: IO[bytes], path: Path) -> Iterator[bytes]:
    start = file.read(4)
    file.seek(0)
    if start[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=file) as packed:
            yield from _read(packed)
    elif start == b"\x28\xb5\x2f\xfd":
        yield from _zst(file)
    elif start[:2] == b"PK":
        with _member(file, path) as packed:
            yield from _read(packed)
    else:
        yield from _read(file)


def _read(file: Any) -> Iterator[bytes]:
    while block := file.read(BLOCK):
        yield block


def _zst(file: IO[bytes]) -> Iterator[bytes]:
    """Frame by frame: the library's own reader does not say when the last one is cut off."""
    frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    begun = False
    while data := file.read(_ZST_STEP):
        while data:
            begun = True
            out = frame.decompress(data)
            for at in range(0, len(out), BLOCK):
                yield out[at : at + BLOCK]
            if not frame.eof:
                break
            data, begun = frame.unused_data, False
            frame = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    if begun:
        raise EOFError("its last frame is not whole")


@contextmanager
def _member(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """The one file of an archive."""
    with zipfile.ZipFile(file) as archive:
        names = [it for it in archive.infolist() if not it.is_dir()]
        if len(names) != 1:
            raise UsageError(f"{path} holds {len(names)} files: unpack it, and import them one by one")
        with archive.open(names[0]) as packed:
            yield packed
