"""Load bytes, a path or an array as one upright grey page; the header is checked before any pixel.

A `Page` is grey, 8 bits, rotated as EXIF says, with transparency on white or black, and reduced to
working size. libjpeg reduces a large JPEG while it decodes, which takes a fraction of the time and
memory of decoding it in full.
"""

import io
import math
import re
import stat
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import cv2
import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import ImageError
from digitry.reading.header import check_header, orientation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL.Image import Image

    Rows = Callable[[int, int], npt.NDArray[Any]]
    """`rows(top, bottom)` returns a strip of an image."""

Bytes = npt.NDArray[np.uint8]
Source = "str | Path | bytes | npt.NDArray[Any] | Image"

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""The supported formats. JPEG includes MPO, which many phones write as .jpg."""

SUFFIXES = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"])
"""Suffixes of image files, in lower case; folders and archives are searched for them."""

MAX_PIXELS = 50_000_000
MAX_SIDE = 30_000
MAX_BYTES = 128 << 20
MAX_DECODING = 160_000_000
"""Bytes that decoding one image may need; with the reader itself that is less than 300 MB."""
NO_MEMORY = "needs more memory than this process may have"
STRIP_PIXELS = 1 << 20
MOST_VALUE = 1e30
"""Larger pixel values are refused: float32 arithmetic would overflow."""
BOMB = 178_956_970
"""Number of pixels above which Pillow itself refuses an image."""

WORKING_PIXELS = 3_200_000
"""Pixels of a page at working size, at most: a digit of 1/100 of the height still has 15 pixels."""


@dataclass(frozen=True, slots=True)
class Page:
    """One upright grey image.

    Attributes:
        gray: (h, w) uint8, 0 = black, at working size.
        width, height: size of the upright image, in pixels.
        source: its name in readings.
    """

    gray: npt.NDArray[np.uint8] = field(repr=False)
    width: int
    height: int
    source: str

    @property
    def scale(self) -> float:
        """Working pixels per pixel of the image, at most 1."""
        return float(self.gray.shape[1] / self.width)

    def turned(self, degrees: int) -> "Page":
        """Return the page turned counter-clockwise, as `Reading.turned` says it was read.

        Args:
            degrees: 0, 90, 180 or 270.
        """
        gray = np.ascontiguousarray(np.rot90(self.gray, degrees // 90))
        across = degrees % 180 != 0
        width, height = (self.height, self.width) if across else (self.width, self.height)
        return Page(gray, width, height, self.source)


def load(source: Any, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Page:
    """Return the upright grey page of an image.

    Args:
        source: a path, the bytes of an image file, a PIL image, or an array: (h, w), (h, w, 1),
            (h, w, 3) RGB or (h, w, 4) RGBA; integers of 8 or 16 bits, booleans, or floats in [0, 1]
            or [0, 255].
        max_pixels: larger images are refused before any pixel is decoded.
        name: its name in readings; default: the path, or `<bytes>`, `<array>` or `<image>`.

    Raises:
        ImageError: it is not an image, is damaged, too large, or of an unsupported format.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "<array>", max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), name or "<bytes>", max_pixels)
    if isinstance(source, (str, Path)):
        return _from_path(Path(source), name or str(source), max_pixels)
    if _is_pil(source):
        label = name or "<image>"
        width, height = source.size
        _check_size(width, height, label, max_pixels)
        return _from_pil(source, label)
    raise ImageError(
        f"cannot read an image from {type(source).__name__}",
        remedy="give a path, bytes, a NumPy array or a PIL image",
    )


def light_on_dark(gray: npt.NDArray[np.uint8]) -> tuple[bool, float]:
    """Return whether the ink is lighter than the paper, and how certain that is.

    First a wide median removes gradients of light. Paper is at the border and covers most of the image,
    so three votes decide: the share of border pixels and of all pixels on the dark side of Otsu's
    threshold, and the skewness of the values.

    Args:
        gray: (h, w) uint8.

    Returns:
        The answer, and its certainty from 0 (a tie) to 1.
    """
    small = _shrink(gray, 128 * 128)
    window = min(max(3, round(0.7 * min(small.shape))) | 1, 255)
    padded = cv2.copyMakeBorder(small, *(window // 2,) * 4, cv2.BORDER_REFLECT)
    paper = cv2.medianBlur(padded, window)[
        window // 2 : window // 2 + small.shape[0], window // 2 : window // 2 + small.shape[1]
    ]
    relief = small.astype(np.float32) - paper
    spread = float(np.sqrt((relief**2).mean()))
    if spread < 0.5:
        return bool(small.mean() < 128), 0.0
    skew = float((relief**3).mean()) / spread**3
    flat = np.clip(relief * 0.5 + 128, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(flat, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    dark = flat <= threshold
    border = np.concatenate((dark[0], dark[-1], dark[1:-1, 0], dark[1:-1, -1]))
    vote = 0.45 * (2 * border.mean() - 1) + 0.25 * (2 * dark.mean() - 1) + 0.3 * np.tanh(skew)
    return bool(vote > 0), float(min(1.0, abs(vote)))


def _remedy(path: Path) -> str:
    # A URL that became a Path has only one slash left.
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path), re.I):
        return "URLs are not supported here: download the file, or use digitry bulk"
    return "check the path"


def _from_path(path: Path, name: str, max_pixels: int) -> Page:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # A pipe or a device, which may never end.
            return _from_bytes(files.read_bytes(path, MAX_BYTES), name, max_pixels)
        stream = path.open("rb")
    except OSError as error:
        raise ImageError(
            f"cannot be opened ({error.strerror})", where=path, remedy=_remedy(path)
        ) from error
    except ValueError as error:
        raise ImageError("is not a path", where=repr(str(path)), remedy="check the path") from error
    # The file is not read into memory here; only some decoders do that.
    with stream:
        return _decoded(stream, status.st_size, name, max_pixels, held=False)


def _from_bytes(content: bytes, name: str, max_pixels: int) -> Page:
    return _decoded(io.BytesIO(content), len(content), name, max_pixels, held=True)


def _decoded(stream: BinaryIO, size: int, name: str, max_pixels: int, *, held: bool) -> Page:
    from PIL import Image, UnidentifiedImageError

    if not size:
        raise ImageError("is empty (0 bytes)", where=name, remedy="give a complete image file")
    if size > MAX_BYTES:
        raise ImageError(
            f"is larger than {MAX_BYTES >> 20} MiB", where=name, remedy="reduce the image"
        )
    try:
        with warnings.catch_warnings():
            # Hide Pillow's warnings about size and metadata: our own, stricter limits are checked next.
            warnings.simplefilter("ignore")
            check_header(stream, name, max_pixels)
            image = Image.open(stream, formats=FORMATS)
            _check_size(*image.size, name, max_pixels)
            _check_memory(image, stream, size, name, max_pixels, held=held)
            if image.format == "WEBP" and not image.is_animated:  # type: ignore[attr-defined]
                return _from_pil(image, name, decoded=_webp(stream, image.mode))
            return _from_pil(image, name, draft=image.format in ("JPEG", "MPO"))
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(NO_MEMORY, where=name, remedy="reduce the image") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            "is not an image of a supported format",
            where=name,
            remedy="give PNG, JPEG, WebP, BMP, GIF or TIFF",
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


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
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
    most = MAX_DECODING * max(1.0, max_pixels / MAX_PIXELS)
    needed = _decoder_bytes(image, stream, size) + (size if held else 0)
    if needed > most:
        raise ImageError(
            f"needs {needed / 1e6:.0f} MB to decode ({image.width} x {image.height} pixels), more than "
            f"{most / 1e6:.0f} MB",
            where=name,
            remedy="reduce it, or save it in grey or as a baseline JPEG",
        )


def _decoder_bytes(image: "Image", stream: BinaryIO, size: int) -> int:
    """Return an upper bound of the memory for decoding; benchmarks/memory.py checks it."""
    pixels = image.width * image.height
    whole = pixels * _PIXEL_BYTES.get(image.mode, 4)
    if image.format in ("JPEG", "MPO"):
        return _coefficient_bytes(image, stream)
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


def _from_pil(
    image: "Image", name: str, *, draft: bool = False, decoded: Bytes | None = None
) -> Page:
    from PIL import ImageOps

    width, height = image.size
    # Pillow rotates a TIFF itself while decoding, and its size is that of the rotated image.
    orientation = 1 if image.format == "TIFF" else orientation_of(image)
    if draft:
        # libjpeg can reduce by 1/2, 1/4 or 1/8 while it decodes.
        shrink = (WORKING_PIXELS / (width * height)) ** 0.5
        if shrink < 1:
            # Brightness is a component of a JPEG, so the colours need not be decoded.
            mode = "L" if image.mode == "RGB" else None
            # Accept 6% below working size: a 12-megapixel photo is then halved, in half the time.
            enough = 0.94 * shrink
            image.draft(mode, (round(width * enough), round(height * enough)))
    image.seek(0)
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
    return Page(_shrink(pixels, WORKING_PIXELS), width, height, name)


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
        _scaling(numbers, (image.height, image.width), name) if _holds_numbers(image) else None
    )
    small = Image.new(mode, (-(-image.width // times), -(-image.height // times)))
    step = max(1, STRIP_PIXELS // (image.width * times))
    for row in range(0, small.height, step):
        top, bottom = row * times, min((row + step) * times, image.height)
        if decoded is not None:
            strip = _rows(decoded, top, bottom)
        elif scaling is not None:
            strip = Image.fromarray(_scaled(numbers(top, bottom), *scaling))
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
        return Image.fromarray(_stretched(_numbers(image), (image.height, image.width), name))
    if image.mode == "LAB":
        # Pillow cannot convert LAB to L; its first band is the lightness.
        return image.getchannel("L")
    return image.convert("L")


def _on_paper(
    rows: "Callable[[int, int], npt.NDArray[np.uint8]]", height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Return a transparent image on white, or on black if its ink is light.

    `rows(top, bottom)` returns a strip, (bottom - top, width, 4) RGBA: a large image as a whole in
    floating point would need a gigabyte.
    """
    drawn = light = 0.0
    for top, bottom in _strips(height, width):
        gray, alpha = _weighed(rows(top, bottom))
        drawn += float(alpha.sum())
        light += float((gray * alpha).sum())
    # For an opaque image the choice has no effect.
    paper = 0.0 if drawn > 0 and light / drawn > 128 else 255.0
    result = np.empty((height, width), np.uint8)
    for top, bottom in _strips(height, width):
        gray, alpha = _weighed(rows(top, bottom))
        result[top:bottom] = np.rint(gray * alpha + paper * (1 - alpha))
    return result


def _weighed(
    rgba: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    gray = cv2.cvtColor(np.ascontiguousarray(rgba), cv2.COLOR_RGBA2GRAY).astype(np.float32)
    return gray, rgba[..., 3].astype(np.float32) / np.float32(255)


def _strips(height: int, width: int) -> "Iterator[tuple[int, int]]":
    step = max(1, STRIP_PIXELS // max(width, 1))
    for top in range(0, height, step):
        yield top, min(top + step, height)


def _eight_bits(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    """Return numbers of any type scaled to 0..255, in the same order."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    return _stretched(lambda top, bottom: values[top:bottom], values.shape, name)


def _holds_numbers(image: "Image") -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _numbers(image: "Image") -> "Rows":
    def rows(top: int, bottom: int) -> npt.NDArray[Any]:
        return np.asarray(image.crop((0, top, image.width, bottom)))

    return rows


def _stretched(rows: "Rows", shape: tuple[int, ...], name: str) -> Bytes:
    """Return numbers scaled to 0..255, strip by strip."""
    scaling = _scaling(rows, shape, name)
    result = np.empty(shape, np.uint8)
    for top, bottom in _strips(shape[0], math.prod(shape[1:])):
        result[top:bottom] = _scaled(rows(top, bottom), *scaling)
    return result


def _scaling(rows: "Rows", shape: tuple[int, ...], name: str) -> tuple[float, float]:
    """Return (shift, factor): numbers are scaled to (number - shift) * factor."""
    low = high = 0.0
    floating = False
    for top, bottom in _strips(shape[0], math.prod(shape[1:])):
        strip = rows(top, bottom)
        floating = np.issubdtype(strip.dtype, np.floating)
        # float64 values beyond the range of float32 would become infinite.
        if floating and not (np.abs(strip) <= MOST_VALUE).all():
            raise ImageError(
                "has pixel values that are not finite or too large",
                where=name,
                remedy="replace NaN and infinity, and scale the rest to 0..255",
            )
        low = min(low, float(strip.min(initial=0)))
        high = max(high, float(strip.max(initial=0)))
    if floating and low >= 0 and high <= 1:
        return 0.0, 255.0
    if low < 0 or high > 255:
        # 16 bits or another range: scanners often use only a part of it, so stretch that part.
        return low, 255 / max(high - low, 1e-6)
    return 0.0, 1.0


def _scaled(values: npt.NDArray[Any], shift: float, factor: float) -> Bytes:
    wide = (values.astype(np.float32) - np.float32(shift)) * np.float32(factor)
    scaled: Bytes = np.rint(wide).clip(0, 255).astype(np.uint8)
    return scaled


def _from_array(array: npt.NDArray[Any], name: str, max_pixels: int) -> Page:
    if array.dtype == object or not (
        np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    ):
        raise ImageError(
            f"an array of {array.dtype} is not an image",
            where=name,
            remedy="give integers, booleans or floats",
        )
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ImageError(
            "an array of complex numbers is not an image",
            where=name,
            remedy="give integers, booleans or floats",
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ImageError(
            f"an array of shape {array.shape} is not one image",
            where=name,
            remedy="give (h, w), (h, w, 3) RGB or (h, w, 4) RGBA",
        )
    height, width = array.shape[:2]
    _check_size(width, height, name, max_pixels)
    pixels = np.ascontiguousarray(_eight_bits(array, name))
    if pixels.ndim == 3:
        pixels = (
            _on_paper(lambda top, bottom: pixels[top:bottom], height, width)
            if pixels.shape[2] == 4
            else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        )
    return Page(_shrink(pixels, WORKING_PIXELS), width, height, name)


def _shrink(gray: npt.NDArray[np.uint8], pixels: int) -> npt.NDArray[np.uint8]:
    """Return an image reduced by averaging to at most `pixels`; smaller images are unchanged."""
    height, width = gray.shape
    factor = (pixels / (height * width)) ** 0.5
    if factor >= 1:
        return gray
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    result: npt.NDArray[np.uint8] = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return result


def _is_pil(source: object) -> bool:
    # If the caller has a PIL image, Pillow is imported already; otherwise do not import it here.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)
