"""What a decoder would read or keep before any pixel, bounded from the header of the file.

Pillow reads every tag, comment and segment when it opens a file: tags that share one large block are
kept once for each tag, and comments are joined block by block. So the sizes are added up here first.
"""

import io
import re
import struct
from typing import TYPE_CHECKING, BinaryIO

from digitry.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_METADATA = 16 << 20
"""Bytes of tags, profiles, previews and comments. Phones write under one MiB."""
ORIENTATION = 0x0112

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


def _tag_bytes(stream: BinaryIO) -> int:
    """Return the bytes that the tags of the first TIFF directory claim, each counted by itself."""
    start = stream.tell()
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return 0
    is_big = 43 in (head[2], head[3])
    if is_big and len(head) < 16:
        return 0
    (at,) = struct.unpack_from(order + ("Q" if is_big else "L"), head, 8 if is_big else 4)
    entry = struct.Struct(order + ("HHQ8x" if is_big else "HHL4x"))
    inline = 8 if is_big else 4
    if at > 1 << 40:
        return 0
    stream.seek(start + at)
    counted = stream.read(8 if is_big else 2)
    if len(counted) < (8 if is_big else 2):
        return 0
    (count,) = struct.unpack(order + ("Q" if is_big else "H"), counted)
    held = 0
    for _ in range(min(count, 1 << 16)):
        content = stream.read(entry.size)
        if len(content) < entry.size or held > MAX_METADATA:
            break
        _, kind, values = entry.unpack(content)
        size = _SIZES.get(kind, 1) * values
        held += size if size > inline else 0
    return held


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
