"""Explain a digit: its crop, its glyph, a heat map of its deciding parts, and its probabilities.

The heat map is made by occlusion (Zeiler and Fergus 2014, arxiv.org/abs/1311.2901): a small square of
the glyph is erased, or filled with ink, and the drop of the probability shows how much the answer
depends on it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from digitry.reading import image
from digitry.reading.glyph import SIZE
from digitry.reading.render import REFUSED, SURE, type_of_size

if TYPE_CHECKING:
    from PIL.Image import Image

    from digitry.reading.reader import Reader
    from digitry.reading.result import Digit, Reading

Floats = npt.NDArray[np.float32]
Probabilities = Callable[[Floats], npt.NDArray[np.float64]]

PATCH, STRIDE = 5, 2
MOST_DIGITS = 60
CELL = 140
"""Width and height of a picture in an explanation, in pixels: 5 per glyph pixel."""


def occlusion(probabilities: Probabilities, glyph: Floats, value: int) -> Floats:
    """Return how much a digit's probability depends on each pixel of its glyph.

    Args:
        probabilities: the classifier, (n, 28, 28) to (n, classes).
        glyph: (28, 28) float32 in [0, 1], ink = 1.
        value: the digit to explain.

    Returns:
        (28, 28) float32 in [0, 1]: the mean drop of the probability over the squares that cover the
        pixel, erased or filled, whichever drop is larger.
    """
    starts = range(0, SIZE - PATCH + 1, STRIDE)
    places = [(y, x) for y in starts for x in starts]
    changed = np.repeat(glyph[None], 2 * len(places), axis=0)
    for index, (y, x) in enumerate(places):
        changed[2 * index, y : y + PATCH, x : x + PATCH] = 0
        changed[2 * index + 1, y : y + PATCH, x : x + PATCH] = 1
    before = probabilities(glyph[None])[0, value]
    falls = np.maximum(before - probabilities(changed)[:, value], 0).reshape(-1, 2).max(axis=1)
    total: Floats = np.zeros((SIZE, SIZE), np.float32)
    covered = np.zeros((SIZE, SIZE), np.float32)
    for (y, x), fall in zip(places, falls, strict=True):
        total[y : y + PATCH, x : x + PATCH] += fall
        covered[y : y + PATCH, x : x + PATCH] += 1
    np.divide(total, np.maximum(covered, 1), out=total)
    return total


def explain(reader: "Reader", source: Any, *, name: str | None = None) -> tuple["Reading", "Image"]:
    """Return the reading of an image, and a picture with one row per digit that explains it.

    Args:
        reader: the reader to explain.
        source: as for `Reader.read`.
        name: the image's name in the reading.

    Returns:
        The reading and an RGB picture of its first 60 digits.

    Raises:
        ImageError: the image cannot be read.
    """
    from PIL import Image, ImageDraw

    reading, glyphs = reader.examine(source, name=name)
    page = image.load(source, name=name).turned(reading.turned)
    digits = reading.digits[:MOST_DIGITS]
    rows = max(1, len(digits))
    picture = Image.new("RGB", (3 * (CELL + 12) + 330, rows * (CELL + 16) + 40), (255, 255, 255))
    draw = ImageDraw.Draw(picture)
    head = type_of_size(15)
    titles = ("on the page", "as the model sees it", "deciding parts", "probabilities")
    for column, title in enumerate(titles):
        draw.text((12 + column * (CELL + 12), 12), title, fill=(90, 96, 104), font=head)
    if not digits:
        draw.text((12, 60), f"nothing read: {reading.reason}", fill=(20, 24, 28), font=head)
    for index, (digit, glyph) in enumerate(zip(digits, glyphs, strict=False)):
        top = 40 + index * (CELL + 16)
        heat = occlusion(reader.probabilities, glyph, digit.alternatives[0][0])
        for column, cell in enumerate(
            (_crop(page, digit), _enlarged(np.rint(glyph * 255)), _heated(glyph, heat))
        ):
            picture.paste(cell, (12 + column * (CELL + 12), top))
        bars = reader.probabilities(glyph[None])[0]
        _bars(draw, digit, bars, 12 + 3 * (CELL + 12), top)
    return reading, picture


def _crop(page: image.Page, digit: "Digit") -> "Image":
    from PIL import Image

    box, scale = digit.box, page.scale
    half = 0.7 * max(box.w, box.h) * scale
    x, y = (box.x + box.w / 2) * scale, (box.y + box.h / 2) * scale
    area = (round(x - half), round(y - half), round(x + half), round(y + half))
    around = Image.fromarray(page.gray).crop(area).resize((CELL, CELL), Image.Resampling.LANCZOS)
    return around.convert("RGB")


def _enlarged(pixels: npt.NDArray[Any]) -> "Image":
    from PIL import Image

    large = Image.fromarray(pixels.astype(np.uint8)).resize((CELL, CELL), Image.Resampling.NEAREST)
    return large.convert("RGB")


def _heated(glyph: Floats, heat: Floats) -> "Image":
    """Return the glyph with the drop of the probability in orange over it."""
    share = (heat / max(float(heat.max()), 0.05))[..., None]
    ink = np.repeat(glyph[..., None] * 150, 3, axis=2)
    return _enlarged(ink * (1 - share) + np.array([255, 140, 0]) * share)


def _bars(
    draw: Any, digit: "Digit", probabilities: npt.NDArray[np.float64], left: int, top: int
) -> None:
    small = type_of_size(12)
    step = CELL / max(len(probabilities), 11)
    for index, share in enumerate(probabilities):
        y = top + index * step
        chosen = index == digit.alternatives[0][0]
        colour = (SURE if digit.value is not None else REFUSED) if chosen else (176, 184, 194)
        label = str(index) if index < 10 else "none"
        draw.text((left + 34, y + step / 2), label, fill=(60, 66, 74), font=small, anchor="rm")
        length = 180 * float(share)
        draw.rectangle((left + 40, y + 2, left + 40 + length, y + step - 2), fill=colour)
        if share >= 0.005:
            place = (left + 46 + length, y + step / 2)
            draw.text(place, f"{100 * share:.1f}%", fill=(60, 66, 74), font=small, anchor="lm")
    if digit.reason:
        # At the bottom right, beside the last bars, which are short.
        draw.text((left + 236, top + CELL), digit.reason, fill=REFUSED, font=small, anchor="rb")
