"""What a decoder would read or keep before any pixel, bounded from the header of the file.

Pillow reads every tag, comment and segment when it opens a file: tags that share one large block are
kept once for each tag, and comments are joined block by block. So the sizes are added up here first.
"""

import io
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from digitry.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_METADATA = 16 << 20
"""Bytes of tags, profiles, previews and comments. Phones write under one MiB."""
MAX_ENTRIES = 1 << 17
"""Tags of all directories of a TIFF together. A page has about 20; they may overlap in the file."""
ORIENTATION = 0x0112
SUBFILE = 0x00FE

# Bytes of one value, by TIFF's number of its type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}


def check_header(stream: BinaryIO, name: str) -> None:
    """Refuse a JPEG, TIFF or GIF whose metadata would take its decoder too long or too much memory.

    Args:
        stream: of the file; its position is kept.
        name: what errors call it.

    Raises:
        ImageError: the metadata is too large.
    """
    start = stream.tell()
    magic = stream.read(4)
    stream.seek(start)
    if magic[:3] == b"\xff\xd8\xff":
        held = _jpeg_bytes(stream)
    elif magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        held = _tag_bytes(stream)
    elif magic[:3] == b"GIF":
        held = _gif_bytes(stream)
    else:
        held = 0
    stream.seek(start)
    if held > MAX_METADATA:
        raise ImageError(
            f"holds more than {MAX_METADATA >> 20} MiB of metadata",
            where=name,
            remedy="save it again without its metadata",
        )


def orientation_of(image: "Image") -> int:
    """Return how a picture is turned, 1 to 8 as in EXIF: by its EXIF block, else by its XMP."""
    content = image.info.get("exif")
    if isinstance(content, bytes):
        found = _orientation(content.removeprefix(b"Exif\0\0"))
        if found:
            return found
    text = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    text = text.encode("utf-8", "replace") if isinstance(text, str) else text
    match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', text[:MAX_METADATA])
    return int(match[1]) if match else 1


def _orientation(content: bytes) -> int:
    """Return the orientation in the first directory of a TIFF block; 0 where it has none."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None or len(content) < 8:
        return 0
    (at,) = struct.unpack_from(order + "L", content, 4)
    if at + 2 > len(content):
        return 0
    (count,) = struct.unpack_from(order + "H", content, at)
    for place in range(at + 2, min(at + 2 + 12 * count, len(content) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", content, place)
        if tag == ORIENTATION and kind == 3:
            value: int = struct.unpack_from(order + "H", content, place + 8)[0]
            return value if 1 <= value <= 8 else 0
    return 0


def _jpeg_bytes(stream: BinaryIO) -> int:
    """Return the bytes of metadata in the segments before the first scan."""
    held = 0
    stream.seek(2, io.SEEK_CUR)
    while held <= MAX_METADATA and (marker := _marker(stream)) not in (0, 0xDA, 0xD9):
        size = int.from_bytes(stream.read(2)) - 2
        if 0xE0 <= marker <= 0xEF or marker == 0xFE:
            content = stream.read(max(size, 0))
            held += len(content)
            for start in (b"Exif\0\0", b"MPF\0"):
                if content.startswith(start):
                    held += _tag_bytes(io.BytesIO(content[len(start) :]))
        else:
            stream.seek(max(size, 0), io.SEEK_CUR)
    return held


def _marker(stream: BinaryIO) -> int:
    """Return the next marker that has a segment; 0 at the end, or where there is none."""
    while (pair := stream.read(2)) and len(pair) == 2 and pair[0] == 0xFF:
        if pair[1] == 0xFF:
            stream.seek(-1, io.SEEK_CUR)
        elif pair[1] != 0x01 and not 0xD0 <= pair[1] <= 0xD8:
            return pair[1]
    return 0


@dataclass(frozen=True, slots=True)
class Directory:
    """One directory of a TIFF: one page, preview or mask.

    Attributes:
        entries: number of its tags.
        metadata: bytes that its tags claim, each counted by itself.
        subfile: bits of NewSubfileType: 1 = a preview, 2 = a page, 4 = a mask.
    """

    entries: int
    metadata: int
    subfile: int


def tiff_directories(stream: BinaryIO, most: int) -> list[Directory]:
    """Return the directories of a TIFF in order, at most `most`; a damaged or looped chain ends early.

    Args:
        stream: of a TIFF, at its start; its position is kept.
        most: how many are read; fewer if they have more than `MAX_ENTRIES` tags together.
    """
    start = stream.tell()
    found: list[Directory] = []
    try:
        layout = _Layout.of(stream.read(16))
        if layout is None:
            return []
        at, seen, entries = layout.first, set[int](), 0
        while at and at not in seen and len(found) < most and entries <= MAX_ENTRIES:
            seen.add(at)
            stream.seek(start + at)
            directory = _directory(stream, layout)
            if directory is None:
                break
            found.append(directory)
            entries += directory.entries
            following = stream.read(layout.offset.size)
            if len(following) < layout.offset.size:
                break
            (at,) = layout.offset.unpack(following)
            if at > 1 << 40:
                break
        return found
    finally:
        stream.seek(start)


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a TIFF stores its numbers: the byte order, and 4 or 8 bytes for an offset."""

    count: struct.Struct
    entry: struct.Struct
    offset: struct.Struct
    order: str
    first: int

    @classmethod
    def of(cls, head: bytes) -> "_Layout | None":
        """Return the layout by the first 16 bytes; None if it is not a TIFF."""
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            return None
        is_big = 43 in (head[2], head[3])
        if is_big and len(head) < 16:
            return None
        offset = struct.Struct(order + ("Q" if is_big else "L"))
        (first,) = offset.unpack_from(head, 8 if is_big else 4)
        if first > 1 << 40:
            return None
        return cls(
            struct.Struct(order + ("Q" if is_big else "H")),
            struct.Struct(order + ("HHQ8s" if is_big else "HHL4s")),
            offset,
            order,
            first,
        )


def _directory(stream: BinaryIO, layout: _Layout) -> Directory | None:
    """Return the directory at the stream's position, which is then behind its entries."""
    counted = stream.read(layout.count.size)
    if len(counted) < layout.count.size:
        return None
    (count,) = layout.count.unpack(counted)
    held = subfile = 0
    for _ in range(min(count, 1 << 16)):
        content = stream.read(layout.entry.size)
        if len(content) < layout.entry.size or held > MAX_METADATA:
            break
        tag, kind, values, inline = layout.entry.unpack(content)
        size = _SIZES.get(kind, 1) * values
        held += size if size > len(inline) else 0
        if tag == SUBFILE and kind == 4 and values == 1:
            (subfile,) = struct.unpack_from(layout.order + "L", inline)
    return Directory(count, held, subfile)


def _tag_bytes(stream: BinaryIO) -> int:
    """Return the bytes that the tags of the first TIFF directory claim, each counted by itself."""
    found = tiff_directories(stream, 1)
    return found[0].metadata if found else 0


def _gif_bytes(stream: BinaryIO) -> int:
    """Return the bytes of extensions before the first picture of a GIF."""
    head = stream.read(13)
    if len(head) < 13:
        return 0
    if head[10] & 0x80:
        stream.seek(3 << ((head[10] & 7) + 1), io.SEEK_CUR)
    held = 0
    while held <= MAX_METADATA and stream.read(1) == b"\x21":
        stream.seek(1, io.SEEK_CUR)
        while held <= MAX_METADATA and (size := int.from_bytes(stream.read(1))):
            stream.seek(size, io.SEEK_CUR)
            # Each block is copied with all before it, so blocks cost more than bytes.
            held += 8 * size
    return held
