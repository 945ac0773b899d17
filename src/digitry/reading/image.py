"""Bytes, a path or an array to one upright grey page. Hostile until checked: header first, pixels later.

What comes out is a `Page`: grey, 8 bits, turned as EXIF says, transparency laid on paper, and small
enough to work on. A large JPEG is decoded at a half or a quarter in the decoder itself, which costs a
fraction of the time and memory of decoding it whole.
"""

import io
import math
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from PIL.Image import Image

Source = "str | Path | bytes | npt.NDArray[Any] | Image"

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What is decoded. JPEG includes MPO, which is what many phones write under that name."""

MAX_PIXELS = 50_000_000
MAX_SIDE = 30_000
MAX_BYTES = 128 << 20
NO_MEMORY = "needs more memory than this process may have"
STRIP_PIXELS = 1 << 20
BOMB = 178_956_970
"""Pixels over which Pillow itself refuses to look further than the header."""

WORKING_PIXELS = 3_200_000
"""Pages are worked on at this size at most: a digit of 1/100 of the height still has 15 pixels."""


@dataclass(frozen=True, slots=True)
class Page:
    """One upright grey image.

    Attributes:
        gray: (h, w) uint8, 0 = black, at working size.
        width, height: of the upright image itself, in pixels.
        source: what readings call it.
    """

    gray: npt.NDArray[np.uint8] = field(repr=False)
    width: int
    height: int
    source: str

    @property
    def scale(self) -> float:
        """Working pixels for one pixel of the image, at most 1."""
        return float(self.gray.shape[1] / self.width)


def load(source: Any, *, max_pixels: int = MAX_PIXELS, name: str | None = None) -> Page:
    """Give the upright grey page of an image.

    Args:
        source: a path, the bytes of an image file, a PIL image, or an array: (h, w), (h, w, 1),
            (h, w, 3) RGB or (h, w, 4) RGBA; integers of 8 or 16 bits, booleans, or floats in [0, 1]
            or [0, 255].
        max_pixels: larger images are refused before any pixel is decoded.
        name: what readings call it; by default the path, or the kind of source in brackets.

    Raises:
        ImageError: it is not an image, is damaged, too large, or of a format that is not read.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "<array>", max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(source), name or "<bytes>", max_pixels)
    if isinstance(source, (str, Path)):
        return _from_bytes(_file(Path(source)), name or str(source), max_pixels)
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
    """Tell whether the ink is lighter than the paper, and how sure that is.

    Light that falls off over the page is taken away first, by a wide median. Then paper is what
    surrounds, and what there is most of: the votes are the share of border pixels and of all pixels
    on the dark side of Otsu's threshold, and to which side the rare, strong values lie.

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


def _file(path: Path) -> bytes:
    try:
        return files.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise ImageError(
            f"cannot be opened ({error.strerror})", where=path, remedy="check the path"
        ) from error
    except ValueError as error:
        raise ImageError("is not a path", where=repr(str(path)), remedy="check the path") from error


def _from_bytes(content: bytes, name: str, max_pixels: int) -> Page:
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise ImageError("is empty (0 bytes)", where=name, remedy="give a whole image file")
    if len(content) > MAX_BYTES:
        raise ImageError(f"is larger than {MAX_BYTES >> 20} MiB", where=name, remedy="shrink it")
    try:
        with warnings.catch_warnings():
            # The decoder's own bomb guard and its complaints about odd metadata are not our interface;
            # our limit is stricter and is checked next.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(content), formats=FORMATS)
            # The WebP decoder holds the whole picture three times over.
            most = max_pixels * 2 // 5 if image.format == "WEBP" else max_pixels
            _check_size(*image.size, name, most)
            if image.format in ("JPEG", "MPO"):
                return _from_pil(image, name, draft=True)
            return _from_pil(image, name)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(NO_MEMORY, where=name, remedy="shrink the picture") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            "is not an image that digitry reads",
            where=name,
            remedy="give PNG, JPEG, WebP, BMP, GIF or TIFF",
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"is too large (over {BOMB / 1e6:.0f} million pixels)",
            where=name,
            remedy=f"at most {max_pixels / 1e6:g} million pixels are read",
        ) from error
    except Exception as error:
        # Decoders raise whatever their C code meets (OSError, SyntaxError, struct.error, zlib.error,
        # ValueError, EOFError, ...); for the user it is one thing: this file is damaged.
        raise ImageError(
            f"is damaged ({' '.join(str(error).split())[:80] or type(error).__name__})",
            where=name,
            remedy="open it elsewhere and save it again",
        ) from error


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"has no pixels ({width} x {height})", where=name)
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"is too large ({width} x {height} pixels)",
            where=name,
            remedy=f"at most {max_pixels / 1e6:g} million pixels and {MAX_SIDE:,} a side are read",
        )


def _from_pil(image: "Image", name: str, *, draft: bool = False) -> Page:
    from PIL import ImageOps

    width, height = image.size
    orientation = image.getexif().get(0x0112, 1)
    if draft:
        # libjpeg scales by 1/2, 1/4 or 1/8 while it decodes; never below the working size.
        shrink = (WORKING_PIXELS / (width * height)) ** 0.5
        if shrink < 1:
            # Grey is one of the planes that a JPEG is made of: the colours need not be decoded.
            mode = "L" if image.mode == "RGB" else None
            image.draft(mode, (round(width * shrink), round(height * shrink)))
    image.seek(0)
    times = math.floor((image.width * image.height / WORKING_PIXELS) ** 0.5)
    if times >= 2 and image.mode in _STRIPPED:
        # Before anything else is made of it: a picture of 50 million pixels is large enough once.
        image = _reduced(image, times)
    gray = _grey(image)
    if orientation != 1:
        gray = _grey(ImageOps.exif_transpose(_with_orientation(gray, orientation)))
        if orientation >= 5:
            width, height = height, width
    pixels: npt.NDArray[np.uint8] = np.asarray(gray, np.uint8)
    return Page(_shrink(pixels, WORKING_PIXELS), width, height, name)


_STRIPPED = {
    "1": "L", "L": "L", "LA": "RGBA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA",
    "RGBX": "RGB", "CMYK": "CMYK", "YCbCr": "YCbCr",
}  # fmt: skip
"""Modes that are reduced a strip at a time -> what a strip is turned into first."""


def _reduced(image: "Image", times: int) -> "Image":
    """Average squares of `times` pixels, a strip at a time, so that no second whole copy is made."""
    from PIL import Image

    mode = _STRIPPED[image.mode]
    if image.mode == "P" and "transparency" in image.info:
        mode = "RGBA"
    small = Image.new(mode, (-(-image.width // times), -(-image.height // times)))
    for row in range(0, small.height, 64):
        area = (0, row * times, image.width, min((row + 64) * times, image.height))
        small.paste(image.crop(area).convert(mode).reduce(times), (0, row))
    return small


def _with_orientation(image: "Image", orientation: int) -> "Image":
    # A grey image made from the original has lost its EXIF block; turning it needs that one number.
    image.getexif()[0x0112] = orientation
    return image


def _grey(image: "Image") -> "Image":
    """Give mode L, whatever the mode: palettes, 1 bit, 16 bits, floats, CMYK, transparency."""
    from PIL import Image

    if image.mode == "L":
        return image
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa"):

        def rows(top: int, bottom: int) -> npt.NDArray[np.uint8]:
            return np.asarray(image.crop((0, top, image.width, bottom)).convert("RGBA"))

        return Image.fromarray(_on_paper(rows, image.height, image.width))
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_eight_bits(np.asarray(image)))
    return image.convert("L")


def _on_paper(
    rows: "Callable[[int, int], npt.NDArray[np.uint8]]", height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Lay a transparent picture on white paper, or on black where what is drawn is light.

    `rows(top, bottom)` gives a strip, (bottom - top, width, 4) RGBA: the whole of a large picture in
    floating point would take a gigabyte.
    """
    drawn = light = 0.0
    for top, bottom in _strips(height, width):
        gray, alpha = _weighed(rows(top, bottom))
        drawn += float(alpha.sum())
        light += float((gray * alpha).sum())
    # An opaque picture has no paper of ours to show, so the choice does not matter there.
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


def _eight_bits(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring any numbers to 0..255, keeping their order."""
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8:
        return values
    floating = np.issubdtype(values.dtype, np.floating)
    if floating and not np.isfinite(values).all():
        raise ImageError(
            "holds numbers that are not finite", where="<array>", remedy="replace NaN and infinity"
        )
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    shift, factor = 0.0, 1.0
    if floating and low >= 0 and high <= 1:
        factor = 255.0
    elif low < 0 or high > 255:
        # 16 bits or an odd range: scanners often use a part of it, so stretch what is there.
        shift, factor = low, 255 / max(high - low, 1e-6)
    result = np.empty(values.shape, np.uint8)
    for top, bottom in _strips(values.shape[0], values.size // max(values.shape[0], 1)):
        wide = (values[top:bottom].astype(np.float32) - np.float32(shift)) * np.float32(factor)
        result[top:bottom] = np.rint(wide).clip(0, 255)
    return result


def _from_array(array: npt.NDArray[Any], name: str, max_pixels: int) -> Page:
    if array.dtype == object or not (
        np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    ):
        raise ImageError(f"an array of {array.dtype} is not an image", where=name)
    if np.issubdtype(array.dtype, np.complexfloating):
        raise ImageError("an array of complex numbers is not an image", where=name)
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
    pixels = np.ascontiguousarray(_eight_bits(array))
    if pixels.ndim == 3:
        pixels = (
            _on_paper(lambda top, bottom: pixels[top:bottom], height, width)
            if pixels.shape[2] == 4
            else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        )
    return Page(_shrink(pixels, WORKING_PIXELS), width, height, name)


def _shrink(gray: npt.NDArray[np.uint8], pixels: int) -> npt.NDArray[np.uint8]:
    """Scale down by averaging to at most that many pixels; small ones stay as they are."""
    height, width = gray.shape
    factor = (pixels / (height * width)) ** 0.5
    if factor >= 1:
        return gray
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    result: npt.NDArray[np.uint8] = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return result


def _is_pil(source: object) -> bool:
    # Asking for the class without importing Pillow: who holds a PIL image has imported it already.
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(source, module.Image)
