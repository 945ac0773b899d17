"""HOCR and annotated pictures agree with the reading, and a reading is read back whole."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from digitry.reading import render
from digitry.reading.result import Box, Digit, Line, Mark, Reading, Word


def reading(**changes: object) -> Reading:
    digits = (
        Digit(4, 0.99, Box(10, 12, 20, 30), 0, ((4, 0.99), (9, 0.01))),
        Digit(None, 0.42, Box(40, 12, 18, 30), 0, ((7, 0.42), (1, 0.4)), "ambiguous 7/1"),
        Digit(1, 0.7, Box(12, 60, 6, 30), 1, ((1, 0.7), (7, 0.2))),
        Digit(5, 0.9, Box(40, 60, 16, 30), 1, ((5, 0.9), (6, 0.05))),
        Digit(0, 0.8, Box(64, 60, 16, 30), 1, ((0, 0.8), (6, 0.1))),
    )
    values: dict[str, object] = {
        "source": 'a "b" <c>.png',
        "text": "4?\n1 5,0",
        "confidence": 0.2,
        "rejected": True,
        "reason": "ambiguous 7/1",
        "width": 100,
        "height": 120,
        "inverted": False,
        "turned": 0,
        "lines": (
            Line("4?", 0.4158, Box(10, 12, 48, 30)),
            Line("1 5,0", 0.48, Box(12, 60, 68, 34)),
        ),
        "words": (
            Word("4?", 0.4158, Box(10, 12, 48, 30), 0),
            Word("1", 0.7, Box(12, 60, 6, 30), 1),
            Word("5,0", 0.684, Box(40, 60, 40, 34), 1),
        ),
        "digits": digits,
        "marks": (Mark(",", 0.95, Box(58, 84, 4, 10), 1),),
        "model": "reader",
        "ms": 1.5,
    }
    return Reading(**{**values, **changes})  # type: ignore[arg-type]


EMPTY = reading(text="", confidence=0.0, reason="blank", lines=(), words=(), digits=(), marks=())


def test_a_reading_is_read_back_from_its_json() -> None:
    for one in (reading(turned=90), EMPTY):
        assert Reading.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_a_reading_stored_before_there_were_words_has_a_word_for_each_line() -> None:
    data = reading().to_dict()
    for key in ("turned", "words", "marks"):
        del data[key]
    found = Reading.from_dict(data)
    assert found.turned == 0
    assert found.marks == ()
    assert [(word.text, word.line) for word in found.words] == [("4?", 0), ("1 5,0", 1)]
    assert found.words[0].box == found.lines[0].box


def test_the_characters_of_the_words_are_the_digits_and_marks_in_order() -> None:
    whole = reading()
    assert [(index, one.text) for index, one in whole.characters()] == [
        (0, "4"), (0, "?"), (1, "1"), (2, "5"), (2, ","), (2, "0"),
    ]  # fmt: skip


def test_hocr_is_well_formed_and_has_all_boxes() -> None:
    document = render.to_hocr([reading(), EMPTY])
    body = document.split("\n", 2)[2].replace(' xmlns="http://www.w3.org/1999/xhtml"', "")
    root = ElementTree.fromstring(body)
    pages = root.findall(".//div[@class='ocr_page']")
    assert len(pages) == 2
    assert pages[0].get("title") == 'image "a "b" <c>.png"; bbox 0 0 100 120; ppageno 0'
    lines = pages[0].findall(".//span[@class='ocr_line']")
    assert ["".join(line.itertext()) for line in lines] == ["4?", "1 5,0"]
    assert lines[0].get("title") == "bbox 10 12 58 42"
    words = lines[1].findall("span[@class='ocrx_word']")
    assert ["".join(word.itertext()) for word in words] == ["1", "5,0"]
    assert words[1].get("title") == "bbox 40 60 80 94; x_wconf 68"
    comma = words[1].findall("span[@class='ocrx_cinfo']")[1]
    assert comma.get("title") == "x_bboxes 58 84 62 94; x_conf 95.00"
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
    assert tuple(picture[round(88 * factor), round(58 * factor) - 2]) == render.SURE
    grey = picture[round(75 * factor), round(40 * factor) - 5].astype(int)
    assert np.abs(grey - render.WORD).max() < 40


def test_a_page_on_its_side_is_drawn_as_it_was_read() -> None:
    page = np.full((100, 120), 230, np.uint8)
    # Where the picture that was read has its upper left corner, once it is turned.
    page[:30, 90:] = 0
    turned = reading(turned=90, width=100, height=120)
    picture = np.asarray(render.annotate(page, turned))
    factor = render.SHORTEST_SIDE / 120
    assert picture.shape[1] == round(100 * factor)
    assert picture[4, 4].max() < 30
    assert tuple(picture[round(75 * factor), round(12 * factor) - 2]) == render.UNSURE
    assert "x_turned 90" in render.to_hocr([turned])
