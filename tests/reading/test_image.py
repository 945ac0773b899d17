"""Any image becomes one upright grey page, and anything else a one-line error."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from digitry.errors import ImageError
from digitry.reading import decoding, image
from digitry.reading.endings import SUFFIXES
from digitry.reading.header import halvings_of


def drawn() -> np.ndarray:
    """Return a dark L on light paper: 60 high, 40 wide, the foot to the right."""
    page = np.full((60, 40), 230, np.uint8)
    page[10:50, 10:14] = 20
    page[46:50, 10:30] = 20
    return page


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format, **options)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG", "JPEG2000", "PPM"])
def test_every_format_gives_the_same_page(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    page = image.load(encoded(Image.fromarray(drawn()), format, **options))
    assert (page.width, page.height) == (40, 60)
    assert np.abs(page.gray.astype(int) - drawn()).mean() < 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_every_mode_keeps_dark_ink_dark(mode: str) -> None:
    gray = Image.fromarray(drawn())
    if mode == "I;16":
        picture = Image.fromarray(drawn().astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        picture = Image.fromarray(drawn().astype({"I": np.int32, "F": np.float32}[mode]))
    else:
        picture = gray.convert(mode)
    page = image.load(picture)
    assert page.gray[30, 12] < 60
    assert page.gray[30, 30] > 200


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, format: str, mode: str) -> None:
    turns = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a.T, 2),
        8: lambda a: np.rot90(a, 3),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](drawn()))).convert(mode)
    options = {"lossless": True} if format == "WEBP" else {}
    page = image.load(encoded(stored, format, exif=exif, **options))
    assert (page.width, page.height) == (40, 60)
    assert np.array_equal(page.gray, drawn())


def test_ink_of_any_colour_on_a_transparent_background_is_visible() -> None:
    for colour in (0, 255):
        rgba = np.zeros((60, 40, 4), np.uint8)
        rgba[..., :3] = colour
        rgba[..., 3] = np.where(drawn() < 128, 255, 0)
        page = image.load(rgba)
        assert abs(int(page.gray[30, 12]) - int(page.gray[30, 30])) > 200


def test_arrays_of_all_kinds_give_the_same_page() -> None:
    page = drawn()
    for array in (
        page[..., None],
        np.stack([page] * 3, axis=-1),
        page.astype(np.float64) / 255,
        page.astype(np.float32),
        page.astype(np.uint16),
        page.astype(np.int64),
    ):
        assert np.abs(image.load(array).gray.astype(int) - page).max() <= 1
    assert set(np.unique(image.load(page > 128).gray)) == {0, 255}


def test_the_suffixes_are_those_of_the_supported_formats() -> None:
    Image.init()
    known = Image.registered_extensions() | dict.fromkeys([".heic", ".heif", ".hif"], "HEIC")
    assert {known[suffix] for suffix in SUFFIXES} == {*decoding.FORMATS, "HEIC", "PDF"}


def test_an_animated_gif_gives_its_first_frame() -> None:
    first, second = Image.fromarray(drawn()), Image.fromarray(255 - drawn())
    content = encoded(first, "GIF", save_all=True, append_images=[second] * 5)
    assert np.abs(image.load(content).gray.astype(int) - drawn()).max() < 3


def test_a_large_photograph_is_reduced_but_keeps_its_size() -> None:
    content = encoded(Image.new("RGB", (4000, 3000), "white"), "JPEG")
    page = image.load(content)
    assert (page.width, page.height) == (4000, 3000)
    assert page.gray.size <= decoding.WORKING_PIXELS * 1.01
    assert page.scale == pytest.approx(page.gray.shape[1] / 4000)


@pytest.mark.parametrize("name", ["a.jp2", "a.j2k", "a.jpf", "a.pgm", "a.pnm", "a.ppm"])
def test_a_jpeg_2000_and_a_pnm_are_read_from_files(name: str, tmp_path: Path) -> None:
    picture = Image.fromarray(drawn())
    picture.convert("RGB" if name.endswith(("ppm", "jpf")) else "L").save(tmp_path / name)
    page = image.load(tmp_path / name)
    assert np.abs(page.gray.astype(int) - drawn()).max() <= 1


@pytest.mark.parametrize("kind", ["P1", "P2", "P3", "P5 of 16 bits"])
def test_every_kind_of_pnm_keeps_dark_ink_dark(kind: str) -> None:
    page = drawn()
    if kind == "P5 of 16 bits":
        content = b"P5 # made by hand\n40 60\n65535\n" + (page.astype(">u2") * 257).tobytes()
    else:
        # In a bitmap, 1 is black.
        values = {"P1": page < 128, "P2": page, "P3": page.repeat(3)}[kind]
        text = " ".join(str(int(value)) for value in values.ravel())
        content = f"{kind}\n40 60\n{'' if kind == 'P1' else 255}\n{text}\n".encode()
    gray = image.load(content).gray
    assert gray.shape == (60, 40)
    assert gray[30, 12] < 60
    assert gray[30, 30] > 200


def test_a_large_jpeg_2000_is_halved_while_it_is_decoded() -> None:
    wide = Image.fromarray(drawn()).resize((2700, 2200))
    content = encoded(wide, "JPEG2000", quality_mode="rates", quality_layers=[60])
    assert halvings_of(io.BytesIO(content)) == 5
    page = image.load(content)
    assert (page.width, page.height) == (2700, 2200)
    larger = encoded(
        wide.resize((4000, 3200)), "JPEG2000", quality_mode="rates", quality_layers=[60]
    )
    page = image.load(larger)
    assert (page.width, page.height, page.gray.shape) == (4000, 3200, (1600, 2000))
    # One that was saved without smaller sizes is decoded as it is.
    whole = encoded(wide, "JPEG2000", num_resolutions=1)
    assert halvings_of(io.BytesIO(whole)) == 0
    assert np.abs(image.load(whole).gray.astype(int) - image.load(content).gray).mean() < 5


def test_a_large_pnm_of_text_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageError, match=r"9 million numbers in a slow form.*save it as PNG"):
        image.load(b"P2\n3000 3000\n255\n" + b"0 " * 1000)


def test_a_jpeg_2000_of_many_empty_boxes_is_refused() -> None:
    content = encoded(Image.fromarray(drawn()), "JPEG2000")
    boxes = b"\0\0\0\x08free" * 60_000
    with pytest.raises(ImageError, match="is cut into more than"):
        image.load(content[:12] + boxes + content[12:])
    segments = b"\xff\x64\0\x02" * 60_000
    at = content.index(b"\xff\x4f\xff\x51") + 2
    at += 2 + int.from_bytes(content[at + 2 : at + 4])
    with pytest.raises(ImageError, match="is cut into more than"):
        image.load(content[:at] + segments + content[at:])


@pytest.mark.parametrize(("ink", "paper", "expected"), [(20, 230, False), (230, 20, True)])
def test_polarity_is_that_of_the_paper(ink: int, paper: int, expected: bool) -> None:
    page = np.where(drawn() < 128, ink, paper).astype(np.uint8)
    inverted, certainty = image.light_on_dark(page)
    assert inverted is expected
    assert certainty > 0.5


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webp_is_decoded_as_pillow_decodes_it(mode: str, lossless: bool) -> None:
    bands = len(mode)
    noise = np.random.default_rng(0).integers(0, 256, (70, 50, bands), np.uint8)
    content = encoded(Image.fromarray(noise), "WEBP", lossless=lossless, exact=True)
    pillows = np.asarray(Image.open(io.BytesIO(content)))
    ours = decoding._rows(decoding._webp(io.BytesIO(content), mode), 0, 70)
    assert np.array_equal(pillows, np.asarray(ours))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_large_images_of_16_bits_have_one_scale(format: str) -> None:
    # 13 million pixels: reduced strip by strip, and yet with one scale for all strips.
    light = np.linspace(3000, 40_000, 4000).astype(np.uint16)[:, None].repeat(3300, axis=1)
    page = image.load(encoded(Image.fromarray(light), format))
    assert (page.width, page.height) == (3300, 4000)
    expected = np.linspace(3000, 40_000, page.gray.shape[0]) * 255 / 40_000
    assert np.abs(page.gray.mean(axis=1) - expected).max() < 2


def one_colour_a_scan(content: bytes) -> bytes:
    """Return a JPEG whose first scan has only its first component."""
    at = content.index(b"\xff\xda")
    scan = b"\xff\xda\0\x08\x01" + content[at + 5 : at + 7] + b"\0\x3f\0"
    return content[:at] + scan + content[at + 14 :]


def test_only_a_jpeg_with_several_scans_needs_memory_for_coefficients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colour = Image.fromarray(drawn()).convert("RGB")
    plain = encoded(colour, "JPEG")
    kinds = {
        "plain": (plain, 0),
        "film": (encoded(colour, "MPO", save_all=True, append_images=[colour]), 0),
        "progressive": (encoded(colour, "JPEG", progressive=True, subsampling=0), 6),
        "less colour": (encoded(colour, "JPEG", progressive=True, subsampling=2), 3),
        "one colour a scan": (one_colour_a_scan(encoded(colour, "JPEG", subsampling=0)), 6),
        "grey": (encoded(Image.fromarray(drawn()), "JPEG", progressive=True), 2),
    }
    for name, (content, bytes_a_pixel) in kinds.items():
        path = tmp_path / "picture"
        path.write_bytes(content)
        needed = bytes_a_pixel * 40 * 60
        monkeypatch.setattr(decoding, "MAX_DECODING", needed)
        image.load(path)
        if needed:
            monkeypatch.setattr(decoding, "MAX_DECODING", needed - 1)
            with pytest.raises(ImageError, match="to decode"):
                image.load(path)
        # What the caller holds in memory counts, too.
        monkeypatch.setattr(decoding, "MAX_DECODING", needed + len(content) - 1)
        with pytest.raises(ImageError, match="to decode"):
            image.load(content, name=name)


def test_the_memory_of_decoding_is_estimated_from_the_header() -> None:
    coloured = png_header(7000, 7000, colour=2)
    with pytest.raises(ImageError, match=r"needs 196 MB to decode \(7000 x 7000 pixels\)"):
        image.load(coloured)
    # Who asks for more pixels gives the memory for them, too.
    with pytest.raises(ImageError, match="damaged"):
        image.load(coloured, max_pixels=100_000_000)


def png_header(width: int, height: int, colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 10)
        + b"IDAT"
        + zlib.compress(b"")
    )


WHOLE = encoded(Image.fromarray(drawn()), "PNG")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "is empty"),
        (b"not an image at all", "is not an image"),
        (b"%PDF-1.7 ...", "is damaged"),
        (b"\x93NUMPY\1\0", "is an array of NumPy .*numpy.load it"),
        (b"PK\3\4...", "is an archive .*digitry bulk"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
        (WHOLE[: len(WHOLE) // 2], "is damaged"),
        (png_header(60_000, 60_000), "too large"),
        (png_header(1, 100_000), "too large"),
        (png_header(0, 5), "pixels|damaged|not an image"),
    ],
)
def test_bad_bytes_give_one_line_in_little_memory(content: bytes, line: str) -> None:
    with pytest.raises(ImageError):
        # Loads the decoder, whose import is slow under tracemalloc.
        image.load(content)
    tracemalloc.start()
    with pytest.raises(ImageError, match=line) as caught:
        image.load(content, name="bad.png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith("bad.png: ")
    assert "\n" not in str(caught.value)
    assert peak < 50 << 20


def test_an_image_over_the_limit_is_refused_before_its_pixels_are_decoded() -> None:
    content = encoded(Image.new("L", (300, 300)), "PNG")
    with pytest.raises(ImageError, match="too large"):
        image.load(content, max_pixels=10_000)


@pytest.mark.parametrize(
    "source",
    [
        np.zeros((0, 5), np.uint8),
        np.zeros((5, 5, 2), np.uint8),
        np.zeros((2, 3, 4, 5), np.uint8),
        np.zeros((4, 4), complex),
        np.array([["a", "b"]]),
        np.full((4, 4), np.nan),
        42,
        None,
    ],
)
def test_a_source_that_is_not_an_image_is_refused_by_name(source: object) -> None:
    with pytest.raises(ImageError):
        image.load(source)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path, "with\0zero.png"):
        with pytest.raises(ImageError):
            image.load(path)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_mutated_files_never_give_another_error(data: st.DataObject) -> None:
    format = data.draw(
        st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"])
    )
    content = bytearray(encoded(Image.fromarray(drawn()), format))
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for candidate in (bytes(content), bytes(content[:cut])):
        try:
            page = image.load(candidate, max_pixels=1_000_000)
        except ImageError:
            continue
        assert page.gray.dtype == np.uint8
        assert page.gray.ndim == 2
