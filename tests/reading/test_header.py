"""What a decoder would read before any pixel is bounded by the header; turning needs one number."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.errors import ImageError
from digitry.reading import image
from digitry.reading.header import MAX_METADATA, check_header

EXIF = b"Exif\0\0"


def encoded(kind: str, mode: str = "L", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (60, 100), 255 if mode == "L" else (255, 255, 255)).save(
        stream, kind, **options
    )
    return stream.getvalue()


def tags(entries: list[tuple[int, int, int, int]]) -> bytes:
    """A TIFF block with one directory, right behind its header."""
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(entries))
        + b"".join(struct.pack("<HHLL", *entry) for entry in entries)
        + bytes(4)
    )


def with_segments(*payloads: bytes) -> bytes:
    jpeg = encoded("JPEG")
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload for payload in payloads
    )
    return jpeg[:2] + segments + jpeg[2:]


def tiled(width: int, height: int) -> bytes:
    """A TIFF of 10 x 10 pixels that says its tiles are so large."""
    body = bytes(100)
    entries = [
        (256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1),
        (277, 3, 1, 1), (322, 4, 1, width), (323, 4, 1, height), (324, 4, 1, 8), (325, 4, 1, 100),
    ]  # fmt: skip
    directory = tags(entries)[8:]
    return b"II*\0" + struct.pack("<L", 8 + len(body)) + body + directory


MANY_EXIF = with_segments(*[EXIF + tags([]) + bytes(65_000)] * 300)
SHARED_BLOCK = tags([(1000 + tag, 7, 60_000, 8) for tag in range(5_000)])
TIFF_TAGS = tags([(300 + tag, 7, 1 << 20, 8) for tag in range(60_000)]) + bytes(1 << 20)
GIF = encoded("GIF")
GIF_GROUND = 13 + 3 * (2 << (GIF[10] & 7))
COMMENT = b"\x21\xfe" + (b"\xff" + b"a" * 255) * 40_000 + b"\0"


@pytest.mark.parametrize(
    "content",
    [
        MANY_EXIF,
        with_segments(EXIF + SHARED_BLOCK[:65_000]),
        TIFF_TAGS,
        GIF[:GIF_GROUND] + COMMENT + GIF[GIF_GROUND:],
    ],
    ids=["EXIF segments joined", "EXIF tags that share a block", "TIFF tags", "GIF comment"],
)
def test_metadata_beyond_reason_is_refused_before_the_decoder_sees_it(content: bytes) -> None:
    with pytest.raises(ImageError, match="16 MiB of metadata"):
        image.load(content)


@pytest.mark.parametrize("side", [30_000, 46_336])
def test_a_tile_counts_as_a_whole_even_where_it_is_larger_than_the_picture(side: int) -> None:
    with pytest.raises(ImageError, match=r"needs \d+ MB to decode \(10 x 10 pixels\)"):
        image.load(tiled(side, side))


def test_a_large_preview_and_profile_are_no_reason_to_refuse() -> None:
    image.load(
        with_segments(EXIF + tags([(0x0112, 3, 1, 1)]) + bytes(60_000), *[bytes(60_000)] * 50)
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_picture_is_turned_as_its_exif_says(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    page = image.load(encoded(kind, "RGB", exif=exif))
    assert (page.width, page.height) == ((100, 60) if turn >= 5 else (60, 100))


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        tags([(0x0112, 3, 1, 99)]),
        tags([(0x0112, 4, 9, 6)]),
    ],
)
def test_a_damaged_exif_block_turns_nothing(block: bytes) -> None:
    page = image.load(with_segments(EXIF + block))
    assert (page.width, page.height) == (60, 100)


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_any_cut_header_is_passed_on_to_the_decoder(cut: int) -> None:
    for content in (MANY_EXIF, TIFF_TAGS, tiled(8, 8), GIF):
        check_header(io.BytesIO(content[:cut]), "cut", image.MAX_PIXELS)


def progressive(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan, of a few bytes, is there so many times more."""
    stream = io.BytesIO()
    Image.new("L", (width, height), 200).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    scan = content.rindex(b"\xff\xda")
    return content[:-2] + content[scan:-2] * scans + content[-2:]


@pytest.mark.parametrize(
    ("side", "more"), [(64, 100), (6000, 20)], ids=["more than 100", "fewer, but large"]
)
@pytest.mark.usefixtures("undecoded")
def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(side: int, more: int) -> None:
    content = progressive(side, side, more)
    with pytest.raises(
        ImageError, match=r"has too many scans \(\d+ or more\); save it as a baseline"
    ):
        image.load(content)


def test_as_many_scans_as_encoders_write_are_read() -> None:
    image.load(progressive(64, 64, 80))
    # A picture of three colours in ten scans, as large as it may be.
    check_header(io.BytesIO(progressive(7000, 7000, 9)), "large", image.MAX_PIXELS)


def test_scans_are_counted_in_the_picture_not_in_what_lies_around_it() -> None:
    scans = b"\xff\xda\0\2" * 200
    image.load(with_segments(b"preview" + scans))
    image.load(encoded("JPEG") + scans)
    image.load(progressive(64, 64, 0).replace(b"\xff\xd9", b"\xff\xfe\3\x22" + scans + b"\xff\xd9"))


PARTS = 60_000
PNG_HEAD = 33


@pytest.mark.parametrize(
    "content",
    [
        encoded("JPEG")[:2] + b"\xff\xfe\0\2" * PARTS + encoded("JPEG")[2:],
        progressive(64, 64, 0)[:-2] + b"\xff\xfe\0\2" * PARTS + b"\xff\xd9",
        GIF[:GIF_GROUND] + b"\x21\xfe\0" * PARTS + GIF[GIF_GROUND:],
        GIF[:GIF_GROUND] + b"\x21\xfe" + b"\1a" * PARTS + b"\0" + GIF[GIF_GROUND:],
        encoded("PNG")[:PNG_HEAD] + b"\0\0\0\0abCd\0\0\0\0" * PARTS + encoded("PNG")[PNG_HEAD:],
    ],
    ids=["JPEG", "JPEG between scans", "GIF", "GIF blocks", "PNG"],
)
def test_a_file_in_very_many_parts_is_refused_however_small_they_are(content: bytes) -> None:
    with pytest.raises(ImageError, match="is cut into more than 50,000 parts; save it again"):
        image.load(content)


def test_the_bound_is_what_its_message_says() -> None:
    assert MAX_METADATA == 16 << 20


def test_lab_pictures_are_read_by_their_lightness(tmp_path: Path) -> None:
    lab = Image.new("LAB", (40, 40), (255, 128, 128))
    lab.paste((0, 128, 128), (10, 10, 20, 20))
    lab.save(tmp_path / "lab.tif")
    for source in (lab, tmp_path / "lab.tif"):
        gray = image.load(source).gray
        assert gray[15, 15] < 10
        assert gray[30, 30] > 245


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300, -1e300])
def test_numbers_beyond_any_brightness_are_named_without_a_warning(
    value: float, tmp_path: Path
) -> None:
    with pytest.raises(
        ImageError, match="<array>: has pixel values that are not finite or too large"
    ):
        image.load(np.full((30, 30), value))
    if abs(value) < 1e38 or not np.isfinite(value):
        Image.fromarray(np.full((30, 30), value, np.float32)).save(tmp_path / "odd.tif")
        with pytest.raises(ImageError, match=r"odd\.tif: has pixel values"):
            image.load(tmp_path / "odd.tif")
