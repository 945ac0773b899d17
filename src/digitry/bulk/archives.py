"""Tar and zip archives as streams of members: read in order, never unpacked to a disk.

Our own readers, because an archive may be a stranger's: nothing in it is followed, obeyed or trusted.
Links, devices and paths that lead out of it are told as errors of that member; overlaps, bombs and
absurd counts end the archive with an error. None of the functions here raises for what a file holds.

Sources: POSIX.1-2017 `pax`, ustar interchange format; GNU tar manual, "Basic Tar Format"; PKWARE
APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
"""

import bz2
import gzip
import re
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np

from digitry.reading.image import SUFFIXES

MAX_MEMBERS = 10_000_000
MAX_MEMBER_BYTES = 256 << 20
MAX_RATIO = 100
"""No picture is packed so tightly; what is, beyond `RATIO_FROM` bytes, is a bomb."""
RATIO_FROM = 64 << 20

_BLOCK = 512
_MAX_NAME = 64 << 10


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, or what is wrong there.

    Attributes:
        name: its path within the archive; empty where the error is that of the archive itself.
        offset: where its header begins, in bytes; of a zip, in the central directory.
        content: its bytes; None where they were not asked for, or there is an error.
        size: of its content, in bytes.
        error: why it cannot be had, or None.
    """

    name: str
    offset: int
    content: bytes | None = None
    size: int = 0
    error: str | None = None


class _DamagedError(Exception):
    """The archive cannot be read further; the text says why."""


# --- tar -------------------------------------------------------------------------------------------


def tar_members(stream: BinaryIO, start: int = 0, *, contents: bool = True) -> Iterator[Member]:
    """Give the images in a tar archive, in order.

    Args:
        stream: the archive; it is sought forward only.
        start: where the header of the first member lies, in bytes.
        contents: whether their bytes are read, too; else they are skipped.
    """
    position, count = start, 0
    try:
        stream.seek(start)
        while True:
            offset = position
            header, position = _tar_header(stream, position)
            if header is None:
                return
            count += 1
            if count > MAX_MEMBERS:
                raise _DamagedError(f"has more than {MAX_MEMBERS:,} members")
            data, end = position, position + -(-header.size // _BLOCK) * _BLOCK
            error = _name_error(header.name) or header.error
            if header.kind == b"5" and error is None:
                position = end
                stream.seek(position)
                continue
            if error is None and not _is_image(header.name):
                position = end
                stream.seek(position)
                continue
            if error is None and header.size > MAX_MEMBER_BYTES:
                error = f"is larger than {MAX_MEMBER_BYTES >> 20} MiB"
            content = None
            if error is None and contents:
                stream.seek(data)
                content = _exactly(stream, header.size)
            position = end
            stream.seek(position)
            yield Member(header.name, offset, content, header.size, error)
    except _DamagedError as error:
        yield Member("", position, error=str(error))
    except (OSError, EOFError, ValueError, zlib.error) as error:
        yield Member("", position, error=f"cannot be read further ({_line(error)})")


@dataclass(slots=True)
class _TarHeader:
    name: str
    size: int
    kind: bytes
    error: str | None = None


def _tar_header(stream: BinaryIO, position: int) -> tuple[_TarHeader | None, int]:
    """Read one header with those that extend it; None at the end. Gives where its content begins."""
    long_name: str | None = None
    long_size: int | None = None
    for _ in range(16):
        block = stream.read(_BLOCK)
        if not block or block == bytes(_BLOCK):
            return None, position
        if len(block) < _BLOCK:
            raise _DamagedError("is cut")
        position += _BLOCK
        _check_sum(block)
        size, kind = _number(block[124:136]), block[156:157]
        if kind in b"LKxgX" and kind:
            if size > _MAX_NAME:
                raise _DamagedError("has an absurd header")
            extra = _exactly(stream, -(-size // _BLOCK) * _BLOCK)[:size]
            position += -(-size // _BLOCK) * _BLOCK
            if kind == b"L":
                long_name = _text(extra.split(b"\0")[0])
            elif kind in b"xX":
                facts = _pax(extra)
                if "path" in facts:
                    long_name = _text(facts["path"])
                if "size" in facts:
                    long_size = _decimal(facts["size"])
            continue
        name = _text(block[:100].split(b"\0")[0])
        if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0")[0]):
            name = f"{_text(prefix)}/{name}"
        header = _TarHeader(
            long_name if long_name is not None else name,
            size if long_size is None else long_size,
            kind,
        )
        if kind in (b"1", b"2"):
            header.error, header.size = "is a link, which is not followed", 0
        elif kind in (b"3", b"4", b"6"):
            header.error, header.size = "is a device or a pipe", 0
        elif kind not in (b"0", b"\0", b"5", b"7"):
            header.error = "is of a kind that is not read"
        return header, position
    raise _DamagedError("has an absurd header")


def _check_sum(block: bytes) -> None:
    # The sum of all bytes, its own field taken as spaces.
    if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise _DamagedError("is damaged: a header does not match its sum")


def _number(field: bytes) -> int:
    if field[0] in (0x80, 0xFF):
        value = int.from_bytes(field[1:], "big")
        if field[0] == 0xFF or value >= 1 << 62:
            raise _DamagedError("is damaged: a size is absurd")
        return value
    text = field.split(b"\0")[0].strip()
    if not re.fullmatch(rb"[0-7]*", text):
        raise _DamagedError("is damaged: a number is none")
    return int(text or b"0", 8)


def _decimal(text: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,18}", text):
        raise _DamagedError("is damaged: a number is none")
    return int(text)


def _pax(content: bytes) -> dict[str, bytes]:
    facts = {}
    while content:
        length, _, _ = content.partition(b" ")
        if not re.fullmatch(rb"[0-9]{1,5}", length) or not len(length) < int(length) <= len(
            content
        ):
            raise _DamagedError("is damaged: an extended header is none")
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        facts[_text(key)] = value
        content = content[int(length) :]
    return facts


class Unpacked:
    """A compressed stream, read forward, that stops a bomb by the ratio of what comes out.

    Args:
        raw: the compressed file.
        method: `gz` or `bz2`.
    """

    def __init__(self, raw: BinaryIO, method: str) -> None:
        self._raw = raw
        self._stream: gzip.GzipFile | bz2.BZ2File = (
            gzip.GzipFile(fileobj=raw) if method == "gz" else bz2.BZ2File(raw)
        )
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        """Give up to `size` bytes."""
        content = self._stream.read(size)
        self._position += len(content)
        if self._position > RATIO_FROM and self._position > MAX_RATIO * self._raw.tell():
            raise _DamagedError(f"unpacks to more than {MAX_RATIO} times its size")
        return content

    def seek(self, position: int) -> int:
        """Skip forward to `position`, in bytes of the unpacked stream."""
        while self._position < position:
            if not self.read(min(position - self._position, 1 << 20)):
                raise _DamagedError("is cut")
        return self._position

    def close(self) -> None:
        """Close both streams."""
        self._stream.close()
        self._raw.close()


# --- zip -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    header: int
    mode: int


def zip_start(stream: BinaryIO) -> tuple[int, str | None]:
    """Find the central directory of a zip, and check the whole of it.

    Returns:
        Where it begins, and why the archive is refused, or None.
    """
    try:
        begin, count, end = _zip_directory(stream)
        if count > MAX_MEMBERS:
            raise _DamagedError(f"has more than {MAX_MEMBERS:,} members")
        places, ends = array("Q"), array("Q")
        position, seen = begin, 0
        stream.seek(begin)
        while seen < count:
            entry, position = _zip_entry(stream, position)
            if position > end:
                raise _DamagedError("is damaged: its directory is cut")
            places.append(entry.header)
            ends.append(entry.header + 30 + len(entry.raw_name) + entry.packed)
            seen += 1
        if position != end:
            raise _DamagedError("is damaged: its directory holds more than it says")
        first, last = np.array(places), np.array(ends)
        order = np.argsort(first, kind="stable")
        if seen and (last[order][:-1] > first[order][1:]).any():
            raise _DamagedError("is refused: members overlap")
        if seen and int(last.max()) > begin:
            raise _DamagedError("is damaged: members lie beyond its end")
    except _DamagedError as error:
        return 0, str(error)
    except (OSError, EOFError, ValueError, struct.error) as error:
        return 0, f"cannot be read ({_line(error)})"
    return begin, None


def zip_members(stream: BinaryIO, start: int, *, contents: bool = True) -> Iterator[Member]:
    """Give the images in a zip archive, in the order of its directory.

    Args:
        stream: the archive, which `zip_start` found good.
        start: where the directory's first entry lies, in bytes.
        contents: whether their bytes are read, too.
    """
    position = start
    try:
        while True:
            offset = position
            stream.seek(position)
            if stream.read(4) != b"PK\1\2":
                return
            stream.seek(position)
            entry, position = _zip_entry(stream, position)
            error = _name_error(entry.name)
            if error is None and (entry.name.endswith("/") or not _is_image(entry.name)):
                continue
            error = error or _zip_error(entry)
            content = None
            if error is None and contents:
                content, error = _zip_content(stream, entry)
            yield Member(entry.name, offset, content, entry.size, error)
    except _DamagedError as error:
        yield Member("", position, error=str(error))
    except (OSError, EOFError, ValueError, struct.error) as error:
        yield Member("", position, error=f"cannot be read further ({_line(error)})")


def _zip_directory(stream: BinaryIO) -> tuple[int, int, int]:
    """Give where the central directory begins, how many entries it has, and where it ends."""
    length = stream.seek(0, 2)
    tail_size = min(length, 22 + 0xFFFF)
    stream.seek(length - tail_size)
    tail = _exactly(stream, tail_size)
    place = tail.rfind(b"PK\5\6")
    if place < 0 or place + 22 > len(tail):
        raise _DamagedError("is cut, or is no zip archive")
    disk, first_disk, here, count, size, begin = struct.unpack_from("<HHHHII", tail, place + 4)
    end = length - tail_size + place
    locator = place - 20
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (size, begin):
        if locator < 0 or tail[locator : locator + 4] != b"PK\6\7":
            raise _DamagedError("is damaged: its directory is nowhere")
        (where,) = struct.unpack_from("<Q", tail, locator + 8)
        if where + 56 > end:
            raise _DamagedError("is damaged: its directory is nowhere")
        stream.seek(where)
        record = _exactly(stream, 56)
        if record[:4] != b"PK\6\6":
            raise _DamagedError("is damaged: its directory is nowhere")
        disk, first_disk, here, count, size, begin = struct.unpack_from("<IIQQQQ", record, 16)
        end = where
    if disk or first_disk or here != count:
        raise _DamagedError("is one part of several")
    if begin + size != end:
        raise _DamagedError("is damaged: its directory is not where it says")
    return begin, count, end


def _zip_entry(stream: BinaryIO, position: int) -> tuple[_Entry, int]:
    fixed = _exactly(stream, 46)
    if fixed[:4] != b"PK\1\2":
        raise _DamagedError("is damaged: its directory is none")
    flags, method = struct.unpack_from("<HH", fixed, 8)
    crc, packed, size, name_len, extra_len, comment_len = struct.unpack_from("<IIIHHH", fixed, 16)
    attributes, header = struct.unpack_from("<II", fixed, 38)
    rest = _exactly(stream, name_len + extra_len + comment_len)
    raw_name, extra = rest[:name_len], rest[name_len : name_len + extra_len]
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        values = extra[4 : 4 + length]
        if kind == 1:
            # ZIP64: only what did not fit its own field stands here, in this order.
            if size == 0xFFFFFFFF:
                (size,), values = struct.unpack_from("<Q", values), values[8:]
            if packed == 0xFFFFFFFF:
                (packed,), values = struct.unpack_from("<Q", values), values[8:]
            if header == 0xFFFFFFFF:
                (header,) = struct.unpack_from("<Q", values)
        extra = extra[4 + length :]
    if max(size, packed, header) >= 1 << 62:
        raise _DamagedError("is damaged: a size is absurd")
    name = _text(raw_name) if flags & 0x800 else raw_name.decode("cp437")
    entry = _Entry(name, raw_name, flags, method, crc, packed, size, header, mode=attributes >> 16)
    return entry, position + 46 + len(rest)


def _zip_error(entry: _Entry) -> str | None:
    if entry.mode & 0o170000 == 0o120000:
        return "is a link, which is not followed"
    if entry.flags & 0x2041:
        return "is encrypted"
    if entry.method not in (0, 8):
        return "is packed by a method that is not read"
    if entry.size > MAX_MEMBER_BYTES or entry.packed > MAX_MEMBER_BYTES:
        return f"is larger than {MAX_MEMBER_BYTES >> 20} MiB"
    if entry.method == 0 and entry.size != entry.packed:
        return "is damaged: it has two sizes"
    if entry.size > RATIO_FROM and entry.size > MAX_RATIO * entry.packed:
        return f"unpacks to more than {MAX_RATIO} times its size"
    return None


def _zip_content(stream: BinaryIO, entry: _Entry) -> tuple[bytes | None, str | None]:
    stream.seek(entry.header)
    fixed = stream.read(30)
    if len(fixed) < 30 or fixed[:4] != b"PK\3\4":
        return None, "is damaged: its header is none"
    name_len, extra_len = struct.unpack_from("<HH", fixed, 26)
    raw_name = stream.read(name_len)
    if raw_name != entry.raw_name:
        return None, "has two names"
    stream.seek(entry.header + 30 + name_len + extra_len)
    packed = stream.read(entry.packed)
    if len(packed) < entry.packed:
        return None, "is cut"
    content = packed
    if entry.method == 8:
        unpacker = zlib.decompressobj(-15)
        try:
            # One byte more than it says: a member that goes on is told, and costs no memory.
            content = unpacker.decompress(packed, entry.size + 1)
        except zlib.error:
            return None, "is damaged: it cannot be unpacked"
    if len(content) != entry.size or zlib.crc32(content) != entry.crc:
        return None, "is damaged: it does not match its sum"
    return content, None


# --- both ------------------------------------------------------------------------------------------


def _name_error(name: str) -> str | None:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", name):
        return "has a path that leads out of the archive"
    if "\0" in name:
        return "has a name that is none"
    return None


def _is_image(name: str) -> bool:
    # Files whose names begin with "._" are what macOS keeps beside the real ones.
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise _DamagedError("is cut")
    return content


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__
