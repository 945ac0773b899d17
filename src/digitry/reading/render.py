"""Write readings as hOCR or HTML, or one as an annotated picture."""

import base64
import html
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from digitry import files
from digitry.errors import ImageError, UnavailableError, UsageError
from digitry.reading import image
from digitry.reading.result import Box, Digit, FormReading, Mark, Reading

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# Colours that people with the common colour blindnesses can tell apart (Okabe and Ito 2008).
SURE, UNSURE, REFUSED = (0, 114, 178), (200, 110, 0), (190, 30, 60)
WORD = (110, 116, 124)
SURE_FROM = 0.9
SHORTEST_SIDE, LONGEST_SIDE = 360, 1800
"""Longer side of an annotated picture, in pixels: small ones are enlarged so that tags are legible."""


def to_hocr(readings: list[Reading]) -> str:
    """Return an hOCR document, one page for each reading.

    The boxes are those of the turned image; a page that was turned says so in `x_turned`.

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
    """Return the image, turned as it was read, with the reading drawn on it.

    Each digit has its box, value, confidence or the reason of its refusal; a mark has its box, a word of
    several characters a thin frame.

    Args:
        source: the image that was read.
        reading: its reading.

    Returns:
        An RGB picture; small images are enlarged, large ones reduced.

    Raises:
        ImageError: the image cannot be read.
    """
    from PIL import Image, ImageDraw

    page = image.load(source).turned(reading.turned)
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
    if isinstance(reading, FormReading):
        _fields(draw, reading, factor, small)
    for word in reading.words:
        if len(word.text) > 1:
            draw.rectangle(_outline(word.box, factor, 5), outline=(*WORD, 200), width=1)
    for mark in reading.marks:
        draw.rectangle(_outline(mark.box, factor), outline=(*_colour(mark), 255), width=2)
    for digit in reading.digits:
        _digit(draw, digit, factor, font, small, canvas.width, size[1])
    draw.rectangle((0, size[1], canvas.width, size[1] + bar), fill=(24, 28, 34, 255))
    _summary(draw, reading, (round(type_size * 0.6), size[1] + bar // 2), canvas.width, font, small)
    return canvas


def annotated(reading: Reading, source: Any = None) -> "Image":
    """Return the picture of a reading, from its file or from the image itself.

    Args:
        reading: of an image.
        source: the image; None = the file that the reading names.

    Raises:
        ImageError: it cannot be read, or has another size than the image that was read.
    """
    if source is None:
        if not Path(reading.source).is_file():
            raise ImageError(
                "is not a file, so the picture is not at hand",
                where=reading.source,
                remedy="give the image that was read: source=…",
            )
        source = reading.source
    page = image.load(source)
    # In either order, for a page that lay on its side.
    if sorted((page.width, page.height)) != sorted((reading.width, reading.height)):
        raise ImageError(
            f"is {page.width} x {page.height} pixels; the image that was read had "
            f"{reading.width} x {reading.height}",
            where=page.source,
            remedy="give the image that was read",
        )
    return annotate(source, reading)


def write_annotated(reading: Reading, path: Path, source: Any = None) -> None:
    """Write the picture of a reading; see `annotated`.

    Raises:
        ImageError: the source cannot be read, or is not the image that was read.
        UsageError: Pillow has no format of that ending.
    """
    from PIL import Image

    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise UsageError(
            f"{path.suffix!r} is not the ending of a picture", where=path, remedy="name it .png"
        )
    picture = annotated(reading, source)
    with files.replacing(path) as temporary:
        picture.save(temporary, Image.registered_extensions()[path.suffix.lower()])


def show(reading: Reading, source: Any = None) -> None:
    """Show the picture of a reading in the notebook, or in the system's viewer; see `annotated`.

    Raises:
        ImageError: the source cannot be read, or is not the image that was read.
    """
    picture = annotated(reading, source)
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        ipython.display.display(picture)
    else:
        picture.show(title=reading.source)


def to_html(reading: Reading) -> str:
    """Return a part of an HTML page: the annotated picture, if the source is a file, and the lines."""
    try:
        stream = io.BytesIO()
        annotated(reading).save(stream, "PNG")
        content = base64.b64encode(stream.getvalue()).decode()
        picture = f'<img alt="" style="max-width:100%" src="data:image/png;base64,{content}">'
    except ImageError:
        picture = ""
    note = reading.reason or f"confidence {percent(reading.confidence)}"
    rows = "".join(
        f'<tr><td style="text-align:left">{html.escape(line.text)}</td>'
        f"<td>{percent(line.confidence)}</td></tr>"
        for line in reading.lines
    )
    return (
        f"<div>{picture}<p><b>{html.escape(reading.text) or 'nothing read'}</b> "
        f"({html.escape(note)}), {html.escape(reading.source)}</p>"
        f"<table><tr><th>line</th><th>confidence</th></tr>{rows}</table></div>"
    )


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


def _colour(one: Digit | Mark) -> tuple[int, int, int]:
    if isinstance(one, Digit) and one.value is None:
        return REFUSED
    return SURE if one.confidence >= SURE_FROM else UNSURE


def _outline(box: Box, factor: float, margin: int = 2) -> tuple[float, float, float, float]:
    """Return the corners of the frame to draw around a box, on the enlarged picture."""
    left, top = box.x * factor - margin, box.y * factor - margin
    return left, top, box.right * factor + margin - 1, box.bottom * factor + margin - 1


def _digit(
    draw: "ImageDraw",
    digit: Digit,
    factor: float,
    font: "FreeTypeFont",
    small: "FreeTypeFont",
    width: int,
    height: int,
) -> None:
    colour = _colour(digit)
    left, top, right, bottom = _outline(digit.box, factor)
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


def _fields(draw: "ImageDraw", reading: FormReading, factor: float, small: "FreeTypeFont") -> None:
    """Draw the box of each field with its name, and why it is refused."""
    for one in reading.fields:
        colour = REFUSED if one.rejected else SURE
        corners = [(x * factor, y * factor) for x, y in one.corners]
        draw.polygon(corners, outline=(*colour, 255), width=3)
        note = f"{one.name}: {one.reason}" if one.reason else one.name
        # Below the box: the digits have their tags above them.
        x, y = min(corners[2:], key=lambda corner: corner[0])
        width = draw.textlength(note, font=small) + 8
        draw.rectangle((x, y + 2, x + width, y + 2 + small.size * 1.3), fill=(*colour, 200))
        middle = y + 2 + small.size * 0.65
        draw.text((x + 4, middle), note, fill=(255, 255, 255), font=small, anchor="lm")


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
    note = note if len(note) <= 60 else note[:59] + "…"
    room = width - 2 * x - draw.textlength(note, font=small) - 10
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text[:-2].rstrip() + "…"
    draw.text((x, y), text, fill=(255, 255, 255), font=font, anchor="lm")
    draw.text((width - x, y), note, fill=(190, 198, 208), font=small, anchor="rm")


def _hocr_page(reading: Reading, number: int) -> str:
    title = html.escape(
        f'image "{reading.source}"; bbox 0 0 {reading.width} {reading.height}; ppageno {number}'
        + (f"; x_turned {reading.turned}" if reading.turned else ""),
        quote=True,
    )
    parts = [f'<div class="ocr_page" id="page_{number}" title="{title}">']
    words = _hocr_words(reading, number)
    for index, line in enumerate(reading.lines):
        inside = " ".join(
            text for word, text in zip(reading.words, words, strict=True) if word.line == index
        )
        parts.append(
            f'<span class="ocr_line" id="line_{number}_{index}" title="{_hocr_box(line.box)}">'
            f"{inside}</span>"
        )
    return "\n".join([*parts, "</div>"])


def _hocr_words(reading: Reading, number: int) -> list[str]:
    characters = [""] * len(reading.words)
    for index, one in reading.characters():
        characters[index] += (
            f'<span class="ocrx_cinfo" title="x_bboxes {_corners(one.box)}; '
            f'x_conf {100 * one.confidence:.2f}">{one.text}</span>'
        )
    return [
        f'<span class="ocrx_word" id="word_{number}_{index}" title="{_hocr_box(word.box)}; '
        f'x_wconf {round(100 * word.confidence)}">{inside}</span>'
        for index, (word, inside) in enumerate(zip(reading.words, characters, strict=True))
    ]


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
