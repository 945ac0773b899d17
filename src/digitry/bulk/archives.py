"""Tar and zip archives as streams of members, read in order and never unpacked to disk.

Archives are untrusted. `tarfile` and `zipfile` parse the headers and unpack the members, but only one
member at a time: `TarFile` keeps every header in memory, ends silently at a damaged header, and can be
made to spend seconds and a gigabyte on a pax header of 64 KiB; `ZipFile` keeps the whole directory in
memory. No link is followed, and no path from an archive is opened. The functions here raise no error for
damaged content: they yield it.

Sources: POSIX.1-2017 `pax`, ustar interchange format; PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
"""

import bz2
import gzip
import io
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO, cast

from digitry.reading.endings import ending_of, is_image

MAX_MEMBERS = 10_000_000
MAX_MEMBER_BYTES = 256 << 20
MAX_RATIO = 100
"""The highest compression ratio above `RATIO_FROM` bytes. No image compresses that well: it is a bomb."""
RATIO_FROM = 64 << 20

_MAX_EXTENSION = 64 << 10
_ENTRY = b"PK\1\2"
_PAX_RECORD = re.compile(rb"([0-9]{1,5}) ([^=]*)=")


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an archive, or an error at its place.

    Attributes:
        name: path within the archive; empty if the error is about the archive itself.
        offset: offset of its header in bytes; in a zip, of its entry in the central directory.
        content: its bytes; None if they were not requested, or if there is an error.
        size: size of the content in bytes.
        error: why it cannot be read, or None.
    """

    name: str
    offset: int
    content: bytes | None = None
    size: int = 0
    error: str | None = None


class _DamagedError(Exception):
    """The rest of the archive cannot be read; the text says why."""


_STOPS = (_DamagedError, OSError, EOFError, ValueError, zlib.error)
_BROKEN_ZIP = (zipfile.BadZipFile, RuntimeError, EOFError, ValueError, struct.error, zlib.error)


# --- tar -------------------------------------------------------------------------------------------


def tar_members(
    stream: BinaryIO,
    start: int = 0,
    *,
    packing: str | None = None,
    contents: bool = True,
    skipped: Counter[str] | None = None,
) -> Iterator[Member]:
    """Yield the images in a tar archive, in order; the same members with and without contents.

    Args:
        stream: the archive; it is read forward only.
        start: offset of the first member's header, in bytes of the uncompressed archive.
        packing: `gz`, `bz2`, or None for an uncompressed tar.
        contents: whether to read the members' bytes or to skip them.
        skipped: counts the other files, by ending.
    """
    position = start
    try:
        archive = _Forward(stream, packing)
        archive.skip_to(start)
        for number in count():
            position = archive.position
            header = _tar_header(archive)
            if header is None:
                return
            if number == MAX_MEMBERS:
                raise _DamagedError(f"has more than {MAX_MEMBERS:,} members")
            # Links, devices and directories have no content, whatever their size says.
            size = 0 if header.type in (b"1", b"2", b"3", b"4", b"5", b"6") else header.size
            end = archive.position + size
            other = header.isdir() or (header.isreg() and not is_image(header.name))
            error = _name_error(header.name) or (None if other else _tar_error(header))
            content = None
            if contents and not other and error is None:
                content = _exactly(archive, size)
            archive.skip_to(end)
            if error is not None or not other:
                yield Member(header.name, position, content, size, error)
            elif not header.isdir():
                _count(skipped, header.name)
            archive.read(-size % tarfile.BLOCKSIZE)
    except _STOPS as error:
        yield Member("", position, error=_reason(error))


class _Forward:
    """A stream read forward, decompressed if necessary; it stops at too high a compression ratio."""

    def __init__(self, raw: BinaryIO, packing: str | None) -> None:
        self.position = 0
        self._raw = raw
        self._packed = packing is not None
        self._length = 0 if self._packed else raw.seek(0, os.SEEK_END)
        raw.seek(0)
        self._stream = raw
        if packing is not None:
            opened = gzip.GzipFile(fileobj=raw) if packing == "gz" else bz2.BZ2File(raw)
            self._stream = cast(BinaryIO, opened)

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end."""
        content = self._stream.read(size)
        self.position += len(content)
        if (
            self._packed
            and self.position > RATIO_FROM
            and self.position > MAX_RATIO * self._raw.tell()
        ):
            raise _DamagedError(f"decompresses to more than {MAX_RATIO} times its size")
        return content

    def skip_to(self, position: int) -> None:
        """Skip forward to `position`, in bytes of the uncompressed stream."""
        if self._packed:
            while self.position < position:
                _exactly(self, min(position - self.position, 1 << 20))
        elif position > self._length:
            raise _DamagedError("is truncated")
        elif position != self.position:
            self.position = self._raw.seek(position)


def _tar_header(archive: _Forward) -> tarfile.TarInfo | None:
    """Return the next member's header, extended headers applied; None at the end."""
    name: str | None = None
    size: int | None = None
    kind: bytes | None = None
    for _ in range(16):
        block = archive.read(tarfile.BLOCKSIZE)
        if not block.strip(b"\0"):
            return None
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
        except tarfile.HeaderError as error:
            cut = len(block) < tarfile.BLOCKSIZE
            raise _DamagedError("is truncated" if cut else f"is damaged: {error}") from error
        if header.size < 0:
            raise _DamagedError("is damaged: a size is negative")
        if header.type not in (b"L", b"K", b"x", b"X", b"g"):
            header.name = header.name if name is None else name
            header.size = header.size if size is None else size
            header.type = kind or header.type
            return header
        if header.size > _MAX_EXTENSION:
            raise _DamagedError(f"has an extended header of more than {_MAX_EXTENSION >> 10} KiB")
        extension = _exactly(archive, header.size)
        archive.read(-header.size % tarfile.BLOCKSIZE)
        if header.type == tarfile.GNUTYPE_LONGNAME:
            name = _text(extension.split(b"\0")[0])
        elif header.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            facts = _pax(extension)
            name = _text(facts[b"path"]) if b"path" in facts else name
            size = int(facts[b"size"]) if b"size" in facts else size
            if any(key.startswith(b"GNU.sparse.") for key in facts):
                kind = tarfile.GNUTYPE_SPARSE
    raise _DamagedError("has too many extended headers for one member")


def _pax(content: bytes) -> dict[bytes, bytes]:
    """Return the records of a pax header: `length key=value`, each ended by a newline."""
    facts: dict[bytes, bytes] = {}
    place = 0
    while place < len(content):
        found = _PAX_RECORD.match(content, place)
        end = place + int(found[1]) if found else 0
        if found is None or not found.end() < end <= len(content):
            raise _DamagedError("is damaged: an extended header has a wrong length")
        facts[found[2]] = content[found.end() : end - 1]
        place = end
    if not re.fullmatch(rb"[0-9]{1,18}", facts.get(b"size", b"0")):
        raise _DamagedError("is damaged: a size is not a number")
    return facts


def _tar_error(header: tarfile.TarInfo) -> str | None:
    if header.issym() or header.islnk():
        return "is a link; links are not followed"
    if header.isdev():
        return "is a device or a pipe"
    if not header.isreg() or header.type == tarfile.GNUTYPE_SPARSE:
        return "is a member of an unsupported type"
    return _size_error(header.size)


# --- zip -------------------------------------------------------------------------------------------


def zip_start(stream: BinaryIO) -> tuple[int, str | None]:
    """Find and check the central directory of a zip.

    Returns:
        Its offset in bytes, and why the archive is refused, or None.
    """
    try:
        begin, members, end = _zip_directory(stream)
        if members > MAX_MEMBERS:
            raise _DamagedError(f"has more than {MAX_MEMBERS:,} members")
        position, claimed = begin, 0
        for _ in range(members):
            entry = _zip_entry(stream, position)
            with suppress(
                *_BROKEN_ZIP
            ):  # `zip_members` reports such an entry and does not read it.
                claimed += _zip_of_one(entry)[1].compress_size
            position += len(entry)
        if position != end:
            raise _DamagedError("is damaged: its directory has a wrong size")
        # Overlapping members decompress the same bytes many times. If all members together claim no more
        # bytes than the archive has, reading costs no more than for a normal archive.
        if claimed > begin:
            raise _DamagedError("is refused: members overlap")
    except _STOPS as error:
        return 0, _reason(error)
    return begin, None


def zip_members(
    stream: BinaryIO, start: int, *, contents: bool = True, skipped: Counter[str] | None = None
) -> Iterator[Member]:
    """Yield the images in a zip archive, in the order of its directory.

    Args:
        stream: an archive that `zip_start` has checked.
        start: offset of the first entry to read, in bytes.
        contents: whether to read the members' bytes.
        skipped: counts the other files, by ending.
    """
    position = start
    try:
        while entries := _zip_entries(stream, position):
            for entry in entries:
                member = _zip_member(stream, position, entry, contents, skipped)
                if member is not None:
                    yield member
                position += len(entry)
    except _STOPS as error:
        yield Member("", position, error=_reason(error))


def _zip_directory(stream: BinaryIO) -> tuple[int, int, int]:
    """Return where the central directory begins, how many entries it has, and where it ends."""
    length = stream.seek(0, os.SEEK_END)
    tail_start = stream.seek(max(length - 22 - 0xFFFF, 0))
    tail = _exactly(stream, length - tail_start)
    place = tail.rfind(b"PK\5\6")
    if not 0 <= place <= len(tail) - 22:
        raise _DamagedError("is truncated, or is not a zip archive")
    disk, first_disk, here, members, size, begin = struct.unpack_from("<4H2I", tail, place + 4)
    end = tail_start + place
    if 0xFFFF in (here, members) or 0xFFFFFFFF in (size, begin):
        where = end
        if place >= 20 and tail[place - 20 : place - 16] == b"PK\6\7":
            (where,) = struct.unpack_from("<Q", tail, place - 12)
        stream.seek(min(where, end))
        record = stream.read(56)
        if len(record) < 56 or record[:4] != b"PK\6\6":
            raise _DamagedError("is damaged: its directory was not found")
        disk, first_disk, here, members, size, begin = struct.unpack_from("<2I4Q", record, 16)
        end = where
    if disk or first_disk or here != members:
        raise _DamagedError("is one part of a split archive")
    if begin + size != end:
        raise _DamagedError("is damaged: its directory is at a wrong offset")
    return begin, members, end


def _zip_entry(stream: BinaryIO, position: int) -> bytes:
    """Return the bytes of one entry of the central directory."""
    stream.seek(position)
    fixed = _exactly(stream, 46)
    if fixed[:4] != _ENTRY:
        raise _DamagedError("is damaged: entries are missing from its directory")
    return fixed + _exactly(stream, sum(struct.unpack_from("<3H", fixed, 28)))


def _zip_entries(stream: BinaryIO, position: int) -> list[bytes]:
    """Return up to 256 entries at once, so that the stream seeks less often."""
    entries: list[bytes] = []
    while len(entries) < 256 and stream.seek(position) == position and stream.read(4) == _ENTRY:
        entries.append(_zip_entry(stream, position))
        position += len(entries[-1])
    return entries


def _zip_of_one(entry: bytes, packed: bytes = b"") -> tuple[zipfile.ZipFile, zipfile.ZipInfo]:
    """Return a zip archive in memory with one member: its header and bytes, its entry, an end record."""
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(packed), 0)
    archive = zipfile.ZipFile(io.BytesIO(b"".join((packed, entry, end))))
    return archive, archive.infolist()[0]


def _zip_member(
    stream: BinaryIO, position: int, entry: bytes, contents: bool, skipped: Counter[str] | None
) -> Member | None:
    name, content = _text(entry[46 : 46 + struct.unpack_from("<H", entry, 28)[0]]), None
    try:
        _, info = _zip_of_one(entry)
        name = info.filename
        error = _name_error(name)
        if error is None and (info.is_dir() or not is_image(name)):
            if not info.is_dir():
                _count(skipped, name)
            return None
        error = error or _zip_error(info)
        if error is None and contents:
            content = _zip_content(stream, info, entry)
        return Member(name, position, content, info.file_size, error)
    except _BROKEN_ZIP:
        reason = "is damaged: its header, name, size or checksum does not match its entry"
        return Member(name, position, error=reason)


def _zip_content(stream: BinaryIO, info: zipfile.ZipInfo, entry: bytes) -> bytes:
    stream.seek(info.header_offset)
    header = stream.read(30)
    if len(header) < 30:
        raise EOFError
    packed = header + stream.read(sum(struct.unpack_from("<2H", header, 26)) + info.compress_size)
    # The member is now at offset 0; bytes 42 to 45 of its entry hold the offset.
    archive, alone = _zip_of_one(entry[:42] + bytes(4) + entry[46:], packed)
    with archive.open(alone) as opened:
        # Not `read()` without a size: that decompresses everything before it checks `file_size`.
        content = opened.read(alone.file_size)
    if len(content) != alone.file_size:
        raise EOFError
    return content


def _zip_error(info: zipfile.ZipInfo) -> str | None:
    if info.external_attr >> 16 & 0o170000 == 0o120000:
        return "is a link; links are not followed"
    if info.flag_bits & 0x2041:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed by an unsupported method"  # zipfile decompresses others without limit
    if error := _size_error(max(info.file_size, info.compress_size)):
        return error
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        return "is damaged: its two sizes differ"
    if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * info.compress_size:
        return f"decompresses to more than {MAX_RATIO} times its size"
    return None


# --- both ------------------------------------------------------------------------------------------


def _name_error(name: str) -> str | None:
    parts = name.replace("\\", "/").split("/")
    if parts[0] == "" or ".." in parts or re.match(r"[A-Za-z]:", name):
        return "has a path that leads out of the archive"
    return "has a name with a NUL byte" if "\0" in name else None


def _size_error(size: int) -> str | None:
    return f"is larger than {MAX_MEMBER_BYTES >> 20} MiB" if size > MAX_MEMBER_BYTES else None


def _count(skipped: Counter[str] | None, name: str) -> None:
    ending = ending_of(name)
    if skipped is not None and ending is not None:
        skipped[ending] += 1


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace")


def _exactly(stream: BinaryIO | _Forward, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise _DamagedError("is truncated")
    return content


def _reason(error: Exception) -> str:
    if isinstance(error, _DamagedError):
        return str(error)
    text = " ".join(str(error).split())[:80] or type(error).__name__
    return f"the rest cannot be read ({text})"
