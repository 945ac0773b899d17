"""Write readings as hOCR, or one as an annotated picture."""

import html
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from digitry.errors import UnavailableError
from digitry.reading import image
from digitry.reading.result import Box, Digit, Reading

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# Colours that people with the common colour blindnesses can tell apart (Okabe and Ito 2008).
SURE, UNSURE, REFUSED = (0, 114, 178), (200, 110, 0), (190, 30, 60)
SURE_FROM = 0.9
SHORTEST_SIDE, LONGEST_SIDE = 360, 1800
"""Longer side of an annotated picture, in pixels: small ones are enlarged so that tags are legible."""


def to_hocr(readings: list[Reading]) -> str:
    """Return an hOCR document, one page for each reading.

    Source: the hOCR 1.2 specification, kba.github.io/hocr-spec/1.2.
    """
    pages = "\n".join(_hocr_page(reading, number) for number, reading in enumerate(readings))
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
        '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        '<html xmlns="http://www.w3.org/1999/xhtml" lang="en">\n<head>\n<title>digitry</title>\n'
        '<meta http-equiv="Content-Type" content="text/html; charset=utf-8"/>\n'
        '<meta name="ocr-system" content="digitry"/>\n'
        '<meta name="ocr-capabilities" content="ocr_page ocr_line ocrx_word ocrx_cinfo"/>\n'
        f"</head>\n<body>\n{pages}\n</body>\n</html>\n"
    )


def annotate(source: Any, reading: Reading) -> "Image":
    """Return the image with the reading drawn on it: boxes, values, confidences, reasons of refusals.

    Args:
        source: the image that was read.
        reading: its reading.

    Returns:
        An RGB picture; small images are enlarged, large ones reduced.

    Raises:
        ImageError: the image cannot be read.
    """
    from PIL import Image, ImageDraw

    page = image.load(source)
    gray = Image.fromarray(page.gray)
    factor = min(
        max(SHORTEST_SIDE / max(page.width, page.height), 1.0),
        LONGEST_SIDE / max(page.width, page.height),
    )
    size = (max(1, round(page.width * factor)), max(1, round(page.height * factor)))
    picture = gray.resize(
        size, Image.Resampling.NEAREST if factor > 2 else Image.Resampling.LANCZOS
    )
    heights = [digit.box.h * factor for digit in reading.digits]
    type_size = int(min(max(0.34 * float(np.median(heights)) if heights else 16, 13), 30))
    font, small = type_of_size(type_size), type_of_size(max(11, round(type_size * 0.62)))
    bar = round(type_size * 2.2)
    canvas = Image.new("RGB", (max(size[0], 240), size[1] + bar), (255, 255, 255))
    canvas.paste(picture.convert("RGB"), (0, 0))
    draw = ImageDraw.Draw(canvas, "RGBA")
    for digit in reading.digits:
        _mark(draw, digit, factor, font, small, canvas.width, size[1])
    draw.rectangle((0, size[1], canvas.width, size[1] + bar), fill=(24, 28, 34, 255))
    _summary(draw, reading, (round(type_size * 0.6), size[1] + bar // 2), canvas.width, font, small)
    return canvas


def type_of_size(size: int) -> "FreeTypeFont":
    """Return Pillow's default font in a size in pixels.

    Raises:
        UnavailableError: Pillow was built without FreeType.
    """
    from PIL import ImageFont

    font = ImageFont.load_default(size=size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UnavailableError(
            "this Pillow was built without FreeType", remedy="pip install --force-reinstall pillow"
        )
    return font


def percent(confidence: float) -> str:
    """Return a confidence as text: with one decimal from 99% on, and never 100%."""
    share = 100 * confidence
    return f"{share:.0f}%" if share < 99 else f"{min(share, 99.9):.1f}%"


def _colour(digit: Digit) -> tuple[int, int, int]:
    if digit.value is None:
        return REFUSED
    return SURE if digit.confidence >= SURE_FROM else UNSURE


def _mark(
    draw: "ImageDraw",
    digit: Digit,
    factor: float,
    font: "FreeTypeFont",
    small: "FreeTypeFont",
    width: int,
    height: int,
) -> None:
    colour = _colour(digit)
    box = digit.box
    left, top = box.x * factor - 2, box.y * factor - 2
    right, bottom = box.right * factor + 1, box.bottom * factor + 1
    if digit.value is None:
        draw.rectangle((left, top, right, bottom), fill=(*colour, 46))
    draw.rectangle((left, top, right, bottom), outline=(*colour, 255), width=2)
    note = digit.reason if digit.reason else percent(digit.confidence)
    value_width = draw.textlength(digit.text, font=font)
    # A narrow digit has no room for a wide tag: leave out the confidence if it is high.
    roomy = colour != SURE or right - left >= value_width + draw.textlength(note, font=small)
    text_width = value_width + (draw.textlength(note, font=small) + 4 if roomy else 0) + 8
    tag_height = font.size * 1.25
    x = min(max(left, 0), max(width - text_width, 0))
    y = top - tag_height if top - tag_height >= 0 else min(bottom, height - tag_height)
    draw.rectangle((x, y, x + text_width, y + tag_height), fill=(*colour, 235))
    middle = y + tag_height / 2
    draw.text((x + 4, middle), digit.text, fill=(255, 255, 255), font=font, anchor="lm")
    if roomy:
        draw.text(
            (x + 8 + value_width, middle), note, fill=(255, 255, 255), font=small, anchor="lm"
        )


def _summary(
    draw: "ImageDraw",
    reading: Reading,
    place: tuple[int, int],
    width: int,
    font: "FreeTypeFont",
    small: "FreeTypeFont",
) -> None:
    x, y = place
    text = reading.text.replace("\n", "  ·  ") or "nothing read"
    note = reading.reason or f"confidence {percent(reading.confidence)}"
    room = width - 2 * x - draw.textlength(note, font=small) - 10
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text[:-2].rstrip() + "…"
    draw.text((x, y), text, fill=(255, 255, 255), font=font, anchor="lm")
    draw.text((width - x, y), note, fill=(190, 198, 208), font=small, anchor="rm")


def _hocr_page(reading: Reading, number: int) -> str:
    title = html.escape(
        f'image "{reading.source}"; bbox 0 0 {reading.width} {reading.height}; ppageno {number}',
        quote=True,
    )
    parts = [f'<div class="ocr_page" id="page_{number}" title="{title}">']
    for index, line in enumerate(reading.lines):
        name = f"{number}_{index}"
        digits = [digit for digit in reading.digits if digit.line == index]
        marks = "".join(
            f'<span class="ocrx_cinfo" title="x_bboxes {_corners(digit.box)}; '
            f'x_conf {100 * digit.confidence:.2f}">{digit.text}</span>'
            for digit in digits
        )
        parts.append(
            f'<span class="ocr_line" id="line_{name}" title="{_hocr_box(line.box)}">'
            f'<span class="ocrx_word" id="word_{name}" title="{_hocr_box(line.box)}; '
            f'x_wconf {round(100 * line.confidence)}">{marks}</span></span>'
        )
    return "\n".join([*parts, "</div>"])


def _hocr_box(box: Box) -> str:
    return f"bbox {_corners(box)}"


def _corners(box: Box) -> str:
    return f"{box.x} {box.y} {box.right} {box.bottom}"


def jpeg(gray: "npt.NDArray[np.uint8]", longest_side: int) -> bytes:
    """Return grey pixels as a JPEG file, reduced to a side; it contains no other data of the original file.

    Args:
        gray: (h, w) uint8.
        longest_side: in pixels, at most.
    """
    from PIL import Image

    picture = Image.fromarray(gray)
    picture.thumbnail((longest_side, longest_side))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def png(gray: "npt.NDArray[np.uint8]") -> bytes:
    """Return grey pixels as a PNG file; it contains no other data of the original file.

    Args:
        gray: (h, w) uint8.
    """
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(gray).save(stream, "PNG", optimize=False)
    return stream.getvalue()
