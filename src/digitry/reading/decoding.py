"""The bytes of an image file to grey pixels: limits from its header, then the decoder of its format.

libjpeg reduces a large JPEG while it decodes, which takes a fraction of the time and memory of decoding
it in full. Large images of other formats are reduced strip by strip.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import cv2
import numpy as np
import numpy.typing as npt

from digitry.errors import ImageError
from digitry.reading import arrays, documents
from digitry.reading.arrays import STRIP_PIXELS, strips
from digitry.reading.confined import Document
from digitry.reading.header import check_header, halvings_of, orientation_of

if TYPE_CHECKING:
    from PIL.Image import Image

Bytes = npt.NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
"""The formats that Pillow opens. JPEG includes MPO, which many phones write as .jpg."""
EVERY_FORMAT = "PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, BMP, GIF, TIFF, PNM or PDF"

MAX_PIXELS = 50_000_000
MAX_SIDE = 30_000
MAX_BYTES = 128 << 20
MAX_DECODING = 147_200_000
"""Bytes that decoding one image may need; with the reader itself that is less than 300 MB."""
HEIF_BYTES, AVIF_BYTES = 6, 10
"""Bytes for each pixel of a HEIC and an AVIF image: the decoder's planes, and copies of the colours."""
JPEG2000_BYTES = 7
"""Bytes for each value of a JPEG 2000 at the size in which it is decoded."""
MOST_PLAIN = 8_000_000
"""Values of a PNM that is written as text, or in steps other than 255 or 65,535: slow to decode."""
SMALLER_HEIF = "share it as a JPEG or in a smaller size, or set the camera to 12 or 24 megapixels"
"""What to do with a HEIC of 48 megapixels: no decoder that pillow-heif offers reduces it on the way."""
NO_MEMORY = "needs more memory than this process may have"
BOMB = 178_956_970
"""Number of pixels above which Pillow itself refuses an image."""

WORKING_PIXELS = 3_200_000
"""Pixels of a page at working size, at most: a digit of 1/100 of the height still has 15 pixels."""


class Pixels(NamedTuple):
    """The image of a file: (h, w) uint8 at working size, 0 = black, and the size of the upright image."""

    gray: Bytes
    width: int
    height: int


def decoded_from(
    stream: BinaryIO,
    size: int,
    name: str,
    max_pixels: int,
    page: int | None,
    *,
    held: bool,
    document: Document | None = None,
) -> Pixels:
    """Return the pixels of an image file, or of one page of a document.

    Args:
        stream: of the file, at its start.
        size: of the file, in bytes.
        name: its name in errors.
        max_pixels: larger images are refused before any pixel is decoded.
        page: of a document, from 1; None = its only page.
        held: whether the whole file is in memory.
        document: see `digitry.reading.documents.opened_pdf`.

    Raises:
        ImageError: it cannot be read.
    """
    if not size:
        raise ImageError("is empty (0 bytes)", where=name, remedy="give a complete image file")
    if size > MAX_BYTES:
        raise ImageError(
            f"is larger than {MAX_BYTES >> 20} MiB", where=name, remedy="reduce the image"
        )
    head = stream.read(documents.HEAD_BYTES)
    _check_no_archive(head, name)
    kind = documents.kind_of(head)
    stream.seek(0)
    with translated(name, max_pixels):
        if kind == "heif":
            _check_page(1, page, name)
            return _from_heif(stream, size, name, max_pixels, held=held)
        if kind == "pdf":
            return _from_pdf(stream, name, max_pixels, page, document)
        return _from_pillow(stream, size, name, max_pixels, page, held=held)


def _check_no_archive(head: bytes, name: str) -> None:
    """Raise `ImageError`, with a remedy, for files that contain images but are not images themselves."""
    if head.startswith(b"\x93NUMPY"):
        raise ImageError(
            "is an array of NumPy (.npy)",
            where=name,
            remedy="numpy.load it and give the array, or use digitry predict",
        )
    if head.startswith(b"PK\3\4"):
        raise ImageError(
            "is an archive (.zip, .npz)",
            where=name,
            remedy="use digitry bulk for images, digitry predict for arrays",
        )


def _check_page(count: int, page: int | None, name: str) -> int:
    """Return the number of the page to read, of a file with `count` pages."""
    if page is None and count > 1:
        raise ImageError(
            f"has {count:,} pages",
            where=name,
            remedy="read_many reads them all"
            + ("" if name.startswith("<") else f"; {shortened(name)}#page=1 is the first"),
        )
    if page is not None and page > count:
        raise ImageError(
            f"has no page {page}",
            where=name,
            remedy=f"it has {count:,} page{'' if count == 1 else 's'}",
        )
    return page or 1


LONGEST_NAME = 200
"""Characters of a source in an error, at most: a data URL given as a path may have millions."""


def shortened(text: str) -> str:
    """Return a text of at most `LONGEST_NAME` characters, with its middle left out."""
    if len(text) <= LONGEST_NAME:
        return text
    return f"{text[: LONGEST_NAME - 21]}…{text[-20:]}"


@contextmanager
def translated(name: str, max_pixels: int) -> Iterator[None]:
    """Turn whatever a decoder raises into an `ImageError`, and hide its warnings."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Hide Pillow's warnings about size and metadata: our own, stricter limits are checked.
            warnings.simplefilter("ignore")
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(NO_MEMORY, where=name, remedy="reduce the image") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            "is not an image of a supported format", where=name, remedy=f"give {EVERY_FORMAT}"
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"is too large (more than {BOMB / 1e6:.0f} million pixels)",
            where=name,
            remedy=f"reduce it to at most {max_pixels / 1e6:g} million pixels",
        ) from error
    except Exception as error:
        # On a damaged file, decoders may raise OSError, SyntaxError, struct.error, zlib.error,
        # ValueError, EOFError and others.
        raise ImageError(
            f"is damaged ({' '.join(str(error).split())[:80] or type(error).__name__})",
            where=name,
            remedy="open it in another program and save it again",
        ) from error


def _from_pillow(
    stream: BinaryIO, size: int, name: str, max_pixels: int, page: int | None, *, held: bool
) -> Pixels:
    """Return the page of a file that Pillow opens: its first frame, or one page of a TIFF."""
    from PIL import Image

    check_header(stream, name, max_pixels)
    image = Image.open(stream, formats=FORMATS)
    pages = [0]
    if image.format == "TIFF":
        position = stream.tell()
        stream.seek(0)
        pages = documents.tiff_pages(stream, name)
        stream.seek(position)
    frame = pages[_check_page(len(pages), page, name) - 1]
    if frame:
        image.seek(frame)
    check_size(*image.size, name, max_pixels)
    if image.format == "JPEG2000":
        image.reduce = _halvings(image, stream)  # type: ignore[method-assign, assignment]
    if image.format == "PPM":
        _check_plain(image, name)
    _check_memory(image, stream, size, name, max_pixels, held=held)
    if image.format == "WEBP" and not image.is_animated:  # type: ignore[attr-defined]
        return from_picture(image, name, decoded=_webp(stream, image.mode))
    return from_picture(image, name, draft=image.format in ("JPEG", "MPO"))


def _from_pdf(
    stream: BinaryIO, name: str, max_pixels: int, page: int | None, document: Document | None
) -> Pixels:
    """Return one page of a PDF."""
    with documents.opened_pdf(stream, name, document) as opened:
        number = _check_page(opened.pages, page, name)
        pixels, width, height = opened.draw(
            number, most_pixels=min(WORKING_PIXELS, max_pixels), longest_side=MAX_SIDE
        )
    gray = np.frombuffer(pixels, np.uint8).reshape(height, width)
    return Pixels(shrink(gray, WORKING_PIXELS), width, height)


def _halvings(image: "Image", stream: BinaryIO) -> int:
    """Return how often a JPEG 2000 is halved while it is decoded: like a JPEG, to about working size."""
    position = stream.tell()
    stream.seek(0)
    most = halvings_of(stream)
    stream.seek(position)
    times = (image.width * image.height / (0.94**2 * WORKING_PIXELS)) ** 0.5
    return min(most, max(0, math.floor(math.log2(times))))


def _check_plain(image: "Image", name: str) -> None:
    """Raise `ImageError` for a large PNM that Pillow decodes number by number."""
    values = image.width * image.height * len(image.getbands())
    slow = image.tile and image.tile[0][0] != "raw" and image.mode != "1"  # type: ignore[attr-defined]
    if slow and values > MOST_PLAIN:
        raise ImageError(
            f"is a PNM of {values / 1e6:.0f} million numbers in a slow form, more than "
            f"{MOST_PLAIN / 1e6:.0f}",
            where=name,
            remedy="save it as PNG, or as a binary PNM with a maximum of 255",
        )


def _from_heif(stream: BinaryIO, size: int, name: str, max_pixels: int, *, held: bool) -> Pixels:
    """Return the page of the main image of a HEIC file."""
    opened = documents.open_heif(stream, name)
    width, height = opened.size
    check_size(width, height, name, max_pixels)
    needed = HEIF_BYTES * width * height + (2 if held else 1) * size
    _check_needed(needed, (width, height), name, max_pixels, remedy=SMALLER_HEIF)
    pixels = documents.heif_pixels(opened)
    height, width = pixels.shape[:2]
    return Pixels(shrink(grey_bytes(pixels), WORKING_PIXELS), width, height)


def check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    """Raise `ImageError` if an image has no pixels, or too many."""
    if width < 1 or height < 1:
        raise ImageError(
            f"has no pixels ({width} x {height})", where=name, remedy="save the image again"
        )
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"is too large ({width} x {height} pixels)",
            where=name,
            remedy=f"reduce it to at most {max_pixels / 1e6:g} million pixels and {MAX_SIDE:,} in "
            "width and height",
        )


def _check_memory(
    image: "Image", stream: BinaryIO, size: int, name: str, max_pixels: int, *, held: bool
) -> None:
    """Raise `ImageError` if decoding would need too much memory, estimated from the header.

    The limit grows with `max_pixels`.
    """
    needed = _decoder_bytes(image, stream, size) + (size if held else 0)
    _check_needed(needed, image.size, name, max_pixels)


def _check_needed(
    needed: int,
    size: tuple[int, int],
    name: str,
    max_pixels: int,
    remedy: str = "reduce it, or save it in grey or as a baseline JPEG",
) -> None:
    most = MAX_DECODING * max(1.0, max_pixels / MAX_PIXELS)
    if needed > most:
        raise ImageError(
            f"needs {needed / 1e6:.0f} MB to decode ({size[0]} x {size[1]} pixels), more than "
            f"{most / 1e6:.0f} MB",
            where=name,
            remedy=remedy,
        )


def _decoder_bytes(image: "Image", stream: BinaryIO, size: int) -> int:
    """Return an upper bound of the memory for decoding; benchmarks/memory.py checks it."""
    pixels = image.width * image.height
    whole = pixels * _PIXEL_BYTES.get(image.mode, 4)
    if image.format in ("JPEG", "MPO"):
        return _coefficient_bytes(image, stream)
    if image.format == "AVIF":
        return size + AVIF_BYTES * pixels
    if image.format == "JPEG2000":
        halved: int = image._reduce  # type: ignore[attr-defined]
        return size + ((JPEG2000_BYTES * len(image.getbands()) * pixels + whole) >> (2 * halved))
    if image.format == "PPM" and image.tile and image.tile[0][0] != "raw":  # type: ignore[attr-defined]
        # The text block by block, its numbers, and the image.
        return 3 * whole
    if image.format == "WEBP":
        if image.is_animated:  # type: ignore[attr-defined]
            # libwebp's canvases of this and the previous frame, its output, and Pillow's image.
            return size + 16 * pixels
        # The file for each decoder, the image, and the buffers of OpenCV and libwebp.
        return 2 * size + (8 if image.mode == "RGBA" else 6) * pixels
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        turned = 2 if tags.get(0x0112, 1) != 1 else 1
        if image.tile and image.tile[0][0] == "libtiff":  # type: ignore[attr-defined]
            # libtiff maps the file and decodes one strip or tile at a time; a tile in full, even if it
            # is larger than the image.
            rows = int(tags.get(323) or min(int(tags.get(278) or image.height), image.height))
            across = int(tags.get(322) or image.width)
            bits = tags.get(258) or (8,)
            unit = max(4, -(-int(tags.get(277) or 1) * max(bits) // 8))
            return whole * turned + size + rows * across * unit
        return whole * turned
    return whole


_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}
"""Pillow's mode -> bytes per pixel; 4 in all other modes."""


def _coefficient_bytes(image: "Image", stream: BinaryIO) -> int:
    """Return the bytes of the coefficients of a JPEG with several scans: two for each coefficient.

    A JPEG with one scan is decoded line by line and needs almost no memory.
    """
    layers: list[tuple[int, int, int, int]] = image.layer  # type: ignore[attr-defined]
    position = stream.tell()
    try:
        if not image.info.get("progressive") and _colours_of_scan(stream) == len(layers):
            return 0
    finally:
        stream.seek(position)
    across, down = max(layer[1] for layer in layers), max(layer[2] for layer in layers)
    share = sum(layer[1] * layer[2] for layer in layers) / (across * down)
    return round(2 * image.width * image.height * share)


def _colours_of_scan(stream: BinaryIO) -> int:
    """Return the number of colour components in the first scan of a JPEG; 0 if unknown."""
    stream.seek(2)
    while (marker := stream.read(2)) and len(marker) == 2 and marker[0] == 0xFF:
        if marker[1] in (0x01, 0xFF, *range(0xD0, 0xD8)):
            stream.seek(-1 if marker[1] == 0xFF else 0, io.SEEK_CUR)
            continue
        head = stream.read(2)
        if marker[1] == 0xDA:
            return int.from_bytes(stream.read(1))
        stream.seek(max(int.from_bytes(head) - 2, 0), io.SEEK_CUR)
    return 0


def _webp(stream: BinaryIO, mode: str) -> Bytes:
    """Return the pixels of a still WebP: (h, w, 3) BGR or (h, w, 4) BGRA.

    Pillow decodes every WebP as an animation with four canvases; OpenCV, with the same library, uses one.
    """
    stream.seek(0)
    found = cv2.imdecode(np.frombuffer(stream.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    bands = 4 if mode == "RGBA" else 3
    if found is None or found.ndim != 3 or found.shape[2] != bands or found.dtype != np.uint8:
        raise ValueError("cannot decode the image")
    return cast(Bytes, found)


def from_picture(
    image: "Image", name: str, *, draft: bool = False, decoded: Bytes | None = None
) -> Pixels:
    """Return the pixels of a Pillow image: the frame at which it stands.

    Args:
        image: opened, perhaps not decoded yet.
        name: its name in errors.
        draft: whether it is a JPEG that the decoder may reduce.
        decoded: its pixels in OpenCV's order, where OpenCV has decoded it.
    """
    from PIL import ImageOps

    width, height = image.size
    # Pillow rotates a TIFF itself while decoding, and its size is that of the rotated image.
    orientation = 1 if image.format == "TIFF" else orientation_of(image)
    if draft:
        # libjpeg can reduce by 1/2, 1/4 or 1/8 while it decodes.
        ratio = (WORKING_PIXELS / (width * height)) ** 0.5
        if ratio < 1:
            # Brightness is a component of a JPEG, so the colours need not be decoded.
            mode = "L" if image.mode == "RGB" else None
            # Accept 6% below working size: a 12-megapixel photo is then halved, in half the time.
            enough = 0.94 * ratio
            image.draft(mode, (round(width * enough), round(height * enough)))
    if image.format == "JPEG2000":
        # It has its reduced size only when it is decoded.
        image.load()
    times = math.floor((image.width * image.height / WORKING_PIXELS) ** 0.5)
    if times >= 2 and (image.mode in _STRIPPED or _holds_numbers(image)):
        # Reduce first: a copy of 50 million pixels would need too much memory.
        image = _reduced(image, decoded, times, name)
    elif decoded is not None:
        image = _rows(decoded, 0, len(decoded))
    gray = _grey(image, name)
    if orientation != 1:
        gray = _grey(ImageOps.exif_transpose(_with_orientation(gray, orientation)), name)
        if orientation >= 5:
            width, height = height, width
    pixels: Bytes = np.asarray(gray, np.uint8)
    return Pixels(shrink(pixels, WORKING_PIXELS), width, height)


_STRIPPED = {
    "1": "L", "L": "L", "LA": "RGBA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA",
    "RGBX": "RGB", "CMYK": "CMYK", "YCbCr": "YCbCr",
}  # fmt: skip
"""Modes that are reduced strip by strip -> the mode a strip is converted to first."""


def _reduced(image: "Image", decoded: Bytes | None, times: int, name: str) -> "Image":
    """Return the image averaged over squares of `times` pixels, strip by strip to save memory."""
    from PIL import Image

    mode = _STRIPPED.get(image.mode, "L")
    if image.mode == "P" and "transparency" in image.info:
        mode = "RGBA"
    numbers = _numbers(image)
    scaling = (
        arrays.scaling_of(numbers, (image.height, image.width), name)
        if _holds_numbers(image)
        else None
    )
    small = Image.new(mode, (-(-image.width // times), -(-image.height // times)))
    step = max(1, STRIP_PIXELS // (image.width * times))
    for row in range(0, small.height, step):
        top, bottom = row * times, min((row + step) * times, image.height)
        if decoded is not None:
            strip = _rows(decoded, top, bottom)
        elif scaling is not None:
            strip = Image.fromarray(arrays.scaled(numbers(top, bottom), *scaling))
        else:
            strip = image.crop((0, top, image.width, bottom)).convert(mode)
        small.paste(strip.reduce(times), (0, row))
    return small


def _rows(decoded: Bytes, top: int, bottom: int) -> "Image":
    """Return rows of an image that OpenCV decoded, with BGR changed to RGB."""
    from PIL import Image

    order = [2, 1, 0, 3][: decoded.shape[2]]
    return Image.fromarray(np.ascontiguousarray(decoded[top:bottom, :, order]))


def _with_orientation(image: "Image", orientation: int) -> "Image":
    # The grey copy has no EXIF block, but `exif_transpose` needs the orientation.
    image.getexif()[0x0112] = orientation
    return image


def _grey(image: "Image", name: str) -> "Image":
    """Return an image of any mode as mode L: palettes, 1 bit, 16 bits, floats, CMYK, transparency."""
    from PIL import Image

    if image.mode == "L":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):

        def rows(top: int, bottom: int) -> npt.NDArray[np.uint8]:
            return np.asarray(image.crop((0, top, image.width, bottom)).convert("RGBA"))

        return Image.fromarray(_on_paper(rows, image.height, image.width))
    if _holds_numbers(image):
        return Image.fromarray(arrays.stretched(_numbers(image), (image.height, image.width), name))
    if image.mode == "LAB":
        # Pillow cannot convert LAB to L; its first band is the lightness.
        return image.getchannel("L")
    return image.convert("L")


def _on_paper(
    rows: Callable[[int, int], npt.NDArray[np.uint8]], height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Return a transparent image on white, or on black if its ink is light.

    `rows(top, bottom)` returns a strip, (bottom - top, width, 4) RGBA: a large image as a whole in
    floating point would need a gigabyte.
    """
    drawn = light = 0.0
    for top, bottom in strips(height, width):
        gray, alpha = _weighed(rows(top, bottom))
        drawn += float(alpha.sum())
        light += float((gray * alpha).sum())
    # For an opaque image the choice has no effect.
    paper = 0.0 if drawn > 0 and light / drawn > 128 else 255.0
    result = np.empty((height, width), np.uint8)
    for top, bottom in strips(height, width):
        gray, alpha = _weighed(rows(top, bottom))
        result[top:bottom] = np.rint(gray * alpha + paper * (1 - alpha))
    return result


def _weighed(
    rgba: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    gray = cv2.cvtColor(np.ascontiguousarray(rgba), cv2.COLOR_RGBA2GRAY).astype(np.float32)
    return gray, rgba[..., 3].astype(np.float32) / np.float32(255)


def _holds_numbers(image: "Image") -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _numbers(image: "Image") -> arrays.Rows:
    def rows(top: int, bottom: int) -> npt.NDArray[Any]:
        return np.asarray(image.crop((0, top, image.width, bottom)))

    return rows


def grey_bytes(pixels: Bytes) -> Bytes:
    """Return (h, w), (h, w, 3) RGB or (h, w, 4) RGBA bytes as (h, w); transparency on paper."""
    if pixels.ndim == 2:
        return pixels
    height, width = pixels.shape[:2]
    if pixels.shape[2] == 4:
        return _on_paper(lambda top, bottom: pixels[top:bottom], height, width)
    return cast(Bytes, cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))


def shrink(gray: npt.NDArray[np.uint8], pixels: int) -> npt.NDArray[np.uint8]:
    """Return an image reduced by averaging to at most `pixels`; smaller images are unchanged."""
    height, width = gray.shape
    factor = (pixels / (height * width)) ** 0.5
    if factor >= 1:
        return gray
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    result: npt.NDArray[np.uint8] = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return result
