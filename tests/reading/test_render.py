"""HOCR and annotated pictures agree with the reading."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from digitry.reading import render
from digitry.reading.result import Box, Digit, Line, Reading


def reading(**changes: object) -> Reading:
    digits = (
        Digit(4, 0.99, Box(10, 12, 20, 30), 0, ((4, 0.99), (9, 0.01))),
        Digit(None, 0.42, Box(40, 12, 18, 30), 0, ((7, 0.42), (1, 0.4)), "ambiguous 7/1"),
        Digit(1, 0.7, Box(12, 60, 6, 30), 1, ((1, 0.7), (7, 0.2))),
    )
    values: dict[str, object] = {
        "source": 'a "b" <c>.png',
        "text": "4?\n1",
        "confidence": 0.29,
        "rejected": True,
        "reason": "ambiguous 7/1",
        "width": 100,
        "height": 120,
        "inverted": False,
        "lines": (
            Line("4?", 0.4158, Box(10, 12, 48, 30)),
            Line("1", 0.7, Box(12, 60, 6, 30)),
        ),
        "digits": digits,
        "model": "reader",
        "ms": 1.5,
    }
    return Reading(**{**values, **changes})  # type: ignore[arg-type]


EMPTY = reading(text="", confidence=0.0, reason="blank", lines=(), digits=())


def test_hocr_is_well_formed_and_has_all_boxes() -> None:
    document = render.to_hocr([reading(), EMPTY])
    body = document.split("\n", 2)[2].replace(' xmlns="http://www.w3.org/1999/xhtml"', "")
    root = ElementTree.fromstring(body)
    pages = root.findall(".//div[@class='ocr_page']")
    assert len(pages) == 2
    assert pages[0].get("title") == 'image "a "b" <c>.png"; bbox 0 0 100 120; ppageno 0'
    lines = pages[0].findall(".//span[@class='ocr_line']")
    assert ["".join(line.itertext()) for line in lines] == ["4?", "1"]
    assert lines[0].get("title") == "bbox 10 12 58 42"
    first = pages[0].find(".//span[@class='ocrx_cinfo']")
    assert first is not None
    assert first.get("title") == "x_bboxes 10 12 30 42; x_conf 99.00"


@pytest.mark.parametrize("shape", [(120, 100), (28, 28), (1, 1), (3000, 200), (5000, 5000)])
def test_an_annotated_picture_has_a_legible_size(shape: tuple[int, int]) -> None:
    page = np.full(shape, 230, np.uint8)
    picture = render.annotate(page, reading(width=shape[1], height=shape[0]))
    assert picture.mode == "RGB"
    assert 240 <= max(picture.size) <= render.LONGEST_SIDE + 80


def test_boxes_are_drawn_around_the_digits() -> None:
    page = np.full((120, 100), 230, np.uint8)
    picture = np.asarray(render.annotate(page, reading()))
    factor = render.SHORTEST_SIDE / 120
    column = round(10 * factor) - 2
    middle = round((12 + 15) * factor)
    assert tuple(picture[middle, column]) == render.SURE
    assert tuple(picture[round((12 + 28) * factor), round(40 * factor) - 2]) == render.REFUSED
    assert tuple(picture[round((60 + 25) * factor), round(12 * factor) - 2]) == render.UNSURE
