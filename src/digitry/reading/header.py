"""What a decoder would read, keep or repeat, bounded from the file before a pixel is decoded.

Pillow reads every tag, comment and segment when it opens a file: tags that share one large block are
kept once for each tag, comments are joined block by block, and each segment costs time even if it is
empty. A progressive JPEG costs libjpeg all its pixels once for every scan, and a scan can be ten bytes.
So all of this is counted here first.
"""

import io
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from digitry.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_METADATA = 16 << 20
"""Bytes of tags, profiles, previews and comments. Phones write under one MiB."""
MAX_ENTRIES = 1 << 17
"""Tags of all directories of a TIFF together. A page has about 20; they may overlap in the file."""
MAX_PARTS = 50_000
"""Segments, chunks or blocks of one file. libpng cuts 128 MiB into 16,384."""
MAX_TILES = 2_000
"""Tiles of a JPEG 2000; its decoder takes about 50 kB for each."""
MAX_SCANS = 100
"""Scans of one JPEG. Encoders write about ten."""
SCANS_OF_LARGEST = 16
"""Scans of a JPEG of `max_pixels` pixels; a smaller one may have more, up to `MAX_SCANS`."""
ORIENTATION = 0x0112
SUBFILE = 0x00FE

# Bytes of one value, by TIFF's number of its type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_CHUNK = 1 << 16


@dataclass(slots=True)
class _Counts:
    """What was counted in one file.

    Attributes:
        metadata: bytes of tags, profiles, previews and comments.
        parts: segments, chunks or blocks.
        scans: of a JPEG.
        tiles: of a JPEG 2000.
        pixels: of a JPEG.
    """

    metadata: int = 0
    parts: int = 0
    scans: int = 0
    tiles: int = 0
    pixels: int = 0

    @property
    def in_bounds(self) -> bool:
        """Whether counting goes on."""
        return self.metadata <= MAX_METADATA and self.parts <= MAX_PARTS and self.scans <= MAX_SCANS


def check_header(stream: BinaryIO, name: str, max_pixels: int) -> None:
    """Refuse a file that would take its decoder too long or too much memory beside its pixels.

    Args:
        stream: of the file; its position is kept.
        name: what errors call it.
        max_pixels: pixels of the largest image that may be read.

    Raises:
        ImageError: there is too much metadata, or too many parts or scans.
    """
    start = stream.tell()
    magic = stream.read(8)
    stream.seek(start)
    counts = _Counts()
    if magic[:3] == b"\xff\xd8\xff":
        _count_jpeg(stream, counts)
    elif magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        counts.metadata = _tag_bytes(stream)
    elif magic[:3] == b"GIF":
        _count_gif(stream, counts)
    elif magic == b"\x89PNG\r\n\x1a\n":
        _count_png(stream, counts)
    elif magic in (_JP2, _JP2[:4] + b"jP\x1a\x1a") or magic[:4] == _CODESTREAM:
        for marker, size in _jpeg2000_parts(stream):
            counts.parts += 1
            if marker == _SIZE:
                counts.tiles = _tiles_of(stream.read(34))
            counts.metadata += size
            if not counts.in_bounds:
                break
    stream.seek(start)
    if counts.metadata > MAX_METADATA:
        raise ImageError(
            f"holds more than {MAX_METADATA >> 20} MiB of metadata",
            where=name,
            remedy="save it again without its metadata",
        )
    if counts.parts > MAX_PARTS:
        raise ImageError(
            f"is cut into more than {MAX_PARTS:,} parts", where=name, remedy="save it again"
        )
    if counts.tiles > MAX_TILES:
        raise ImageError(
            f"is cut into more than {MAX_TILES:,} tiles",
            where=name,
            remedy="save it again with larger tiles, or as PNG",
        )
    scan_pixels = counts.scans * counts.pixels
    if counts.scans > MAX_SCANS or (
        counts.scans > 1 and scan_pixels > SCANS_OF_LARGEST * max_pixels
    ):
        raise ImageError(
            f"has too many scans ({counts.scans} or more)",
            where=name,
            remedy="save it as a baseline JPEG",
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


def _count_jpeg(stream: BinaryIO, counts: _Counts) -> None:
    """Count the metadata before the first scan, and the segments and scans of the whole picture."""
    colours = progressive = 0
    stream.seek(2, io.SEEK_CUR)
    while counts.in_bounds:
        marker = _found_marker(stream) if counts.scans else _marker(stream)
        if marker in (0, 0xD9):
            return
        counts.parts += 1
        size = max(int.from_bytes(stream.read(2)) - 2, 0)
        if counts.scans == 0 and (0xE0 <= marker <= 0xEF or marker == 0xFE):
            content = stream.read(size)
            counts.metadata += len(content)
            for start in (b"Exif\0\0", b"MPF\0"):
                if content.startswith(start):
                    counts.metadata += _tag_bytes(io.BytesIO(content[len(start) :]))
            continue
        content = stream.read(min(size, 6))
        stream.seek(size - len(content), io.SEEK_CUR)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(content) == 6:
            # The head of the frame: bits, height, width, components.
            counts.pixels = int.from_bytes(content[1:3]) * int.from_bytes(content[3:5])
            colours, progressive = content[5], marker & 2
        elif marker == 0xDA and content:
            counts.scans += 1
            if counts.scans == 1 and not progressive and content[0] == colours:
                # Everything is in this scan; for a second one, libjpeg ends with an error.
                return


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


def _found_marker(stream: BinaryIO) -> int:
    """Return the next marker behind the data of a scan, in which 0xFF is followed by 0 or a restart."""
    last = b""
    while chunk := stream.read(_CHUNK):
        if found := re.search(rb"\xff[^\x00\xd0-\xd7\xff]", last + chunk):
            stream.seek(found.end() - len(last) - len(chunk), io.SEEK_CUR)
            return found[0][1]
        last = chunk[-1:]
    return 0


def _tag_bytes(stream: BinaryIO) -> int:
    """Return the bytes that the tags of the first TIFF directory claim, each counted by itself."""
    found = tiff_directories(stream, 1)
    return found[0].metadata if found else 0


_JP2, _CODESTREAM = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"
_SIZE, _CODING, _TILE, _END = 0x51, 0x52, 0x90, 0xD9
"""Markers of a JPEG 2000: the size of the picture, how it is coded, its first tile, its end."""


def halvings_of(stream: BinaryIO) -> int:
    """Return how often a JPEG 2000 can be halved while it is decoded; 0 where that cannot be told.

    Args:
        stream: of the file, at its start; its position is kept.

    Source: ITU-T T.800, annexes A.6.1 (the marker COD) and I (the boxes of a file).
    """
    start = stream.tell()
    try:
        for marker, size in _jpeg2000_parts(stream):
            if marker == _CODING and size >= 6:
                content = stream.read(6)
                return min(content[5], 32) if len(content) == 6 else 0
        return 0
    finally:
        stream.seek(start)


def _tiles_of(content: bytes) -> int:
    """Return the number of tiles that the marker SIZ of a JPEG 2000 names; its decoder allocates each."""
    if len(content) < 34:
        return 0
    sides: tuple[int, ...] = struct.unpack(">H8I", content)
    _, wide, high, _, _, across, down, left, top = sides
    if not across or not down:
        return 0
    return max(0, -(-(wide - left) // across)) * max(0, -(-(high - top) // down))


def _jpeg2000_parts(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield (marker, bytes) of the boxes, whose marker is 0, and the segments before the first tile."""
    if stream.read(4) != _CODESTREAM:
        stream.seek(-4, io.SEEK_CUR)
        while len(head := stream.read(8)) == 8 and head[4:] != b"jp2c":
            size = int.from_bytes(head[:4]) - 8
            if size == 1 - 8:
                size = int.from_bytes(stream.read(8)) - 16
            if size < 0:
                return
            following = stream.tell() + (0 if head[4:] == b"jp2h" else size)
            yield 0, 0 if head[4:] == b"jp2h" else size
            # `jp2h` holds boxes itself.
            stream.seek(following)
        if stream.read(4) != _CODESTREAM:
            return
    stream.seek(-2, io.SEEK_CUR)
    while len(head := stream.read(2)) == 2 and head[1] not in (_TILE, _END):
        size = int.from_bytes(stream.read(2)) - 2
        if size < 0:
            return
        following = stream.tell() + size
        yield head[1], size
        stream.seek(following)


def _count_gif(stream: BinaryIO, counts: _Counts) -> None:
    """Count the bytes and blocks of extensions before the first picture of a GIF."""
    head = stream.read(13)
    if len(head) < 13:
        return
    if head[10] & 0x80:
        stream.seek(3 << ((head[10] & 7) + 1), io.SEEK_CUR)
    while counts.in_bounds and stream.read(1) == b"\x21":
        counts.parts += 1
        stream.seek(1, io.SEEK_CUR)
        while counts.in_bounds and (size := int.from_bytes(stream.read(1))):
            stream.seek(size, io.SEEK_CUR)
            # Each block is copied with all before it, so blocks cost more than bytes.
            counts.metadata += 8 * size
            counts.parts += 1


def _count_png(stream: BinaryIO, counts: _Counts) -> None:
    """Count the chunks of a PNG. Pillow itself bounds the text and the profile that they hold."""
    stream.seek(8, io.SEEK_CUR)
    while counts.in_bounds and len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
        counts.parts += 1
        stream.seek(int.from_bytes(head[:4]) + 4, io.SEEK_CUR)
