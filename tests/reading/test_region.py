"""A part of a picture is read as if it had been cut out, and its boxes lie on the whole picture."""

from pathlib import Path

import numpy as np
import pytest

import digitry
from digitry.errors import ImageError, UsageError
from digitry.reading.image import Page, load
from digitry.reading.reader import Reader
from digitry.reading.region import Region, cut, on_whole, region_of
from digitry.reading.result import Box, Digit, Line, Reading, Word

SAMPLES = Path(__file__).parents[2] / "samples"
SHEET = SAMPLES / "sheet.jpg"
FOURTH = "80,450,640,130"
"""The fourth line of the sheet, 1200 x 900 pixels."""


def blank(width: int, height: int) -> Page:
    return Page(np.full((height, width), 255, np.uint8), width, height, "a.png")


@pytest.mark.parametrize(
    ("given", "box"),
    [
        ("10,20,30,40", [10, 20, 30, 40]),
        (" 10, 20,30 ,40", [10, 20, 30, 40]),
        ((10, 20, 30, 40), [10, 20, 30, 40]),
        (Box(10, 20, 30, 40), [10, 20, 30, 40]),
        (np.array([10, 20, 30, 40]).tolist(), [10, 20, 30, 40]),
        ("10%,20%,50%,30%", [20, 20, 100, 30]),
        ("0,33.3%,100%,33.3%", [0, 33, 200, 34]),
        ("66.7%,0,33.3%,100%", [133, 0, 67, 100]),
        ("0,0,200,100", [0, 0, 200, 100]),
        ("0,0,0.1%,1", [0, 0, 1, 1]),
    ],
)
def test_a_region_is_pixels_or_shares_of_the_upright_image(given: object, box: list[int]) -> None:
    assert region_of(given).on(blank(200, 100)).to_list() == box  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("1,2,3", "is not four whole numbers or percentages"),
        ("1,2,3,4,5", "is not four"),
        ("a,b,c,d", "is not four"),
        ("", "is not four"),
        ("-1,0,5,5", "is not four"),
        ("0.1,0.2,0.5,0.3", "is not four"),
        ("1e3,0,5,5", "is not four"),
        ((1, 2), "is not four"),
        ((0.1, 0.2, 0.5, 0.3), "is not four"),
        ("9" * 5000, "is not four"),
        ("5,5,0,10", "is empty"),
        ("5,5,10,0%", "is empty"),
    ],
)
def test_what_is_no_region_is_one_clear_line(given: object, line: str) -> None:
    with pytest.raises(UsageError, match=line) as caught:
        region_of(given)  # type: ignore[arg-type]
    assert "such as 120,80,400,60" in str(caught.value)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["190,0,20,10", "0,95,10,10", "500,500,1,1", "60%,0,50%,10"])
def test_a_region_outside_the_picture_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"outside the picture of 200 x 100 pixels; give") as error:
        Region(text).on(blank(200, 100))
    assert str(error.value).startswith("a.png: ")


def test_a_part_of_a_reduced_page_is_the_same_part() -> None:
    page = Page(np.arange(60 * 40, dtype=np.uint8).reshape(60, 40), 120, 180, "a")
    part = cut(page, Box(30, 90, 60, 45))
    assert np.array_equal(part.gray, page.gray[30:45, 10:30])
    assert (part.width, part.height, part.scale) == (60, 45, page.scale)


@pytest.mark.parametrize("quarters", range(4))
def test_boxes_lie_on_the_whole_picture_however_it_was_turned(quarters: int) -> None:
    gray = np.zeros((60, 100), np.uint8)
    region, ink = Box(20, 10, 50, 30), Box(25, 18, 12, 7)
    gray[ink.y : ink.bottom, ink.x : ink.right] = 1
    page = Page(gray, 100, 60, "a")
    part = np.rot90(cut(page, region).gray, quarters)
    rows, columns = np.nonzero(part)
    box = Box(int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
    reading = on_whole(
        Reading(
            "a", "1", 1.0, False, None, part.shape[1], part.shape[0], False, 90 * quarters,
            (Line("1", 1.0, box),), (Word("1", 1.0, box, 0),), (Digit(1, 1.0, box, 0, ()),), (),
            "m", 1.0,
        ),
        region, page,
    )  # fmt: skip
    whole = np.rot90(gray, quarters)
    assert (reading.width, reading.height) == whole.shape[::-1]
    for one in (reading.lines[0], reading.words[0], reading.digits[0]):
        found = one.box
        assert whole[found.y : found.bottom, found.x : found.right].sum() == ink.w * ink.h
        assert found.w * found.h == ink.w * ink.h


def test_only_the_region_is_read_and_its_boxes_are_those_of_the_picture() -> None:
    whole = digitry.read(SHEET)
    part = digitry.read(SHEET, region=FOURTH)
    assert part.text == "5318" == whole.text.split("\n")[3]
    assert (part.width, part.height) == (whole.width, whole.height)
    fourth = [digit for digit in whole.digits if digit.line == 3]
    for one, other in zip(part.digits, fourth, strict=True):
        assert one.box.to_list() == pytest.approx(other.box.to_list(), abs=8)
    assert part.lines[0].box.to_list() == pytest.approx(whole.lines[3].box.to_list(), abs=8)
    shares = digitry.read(SHEET, region="6.7%,50%,53.3%,14.5%")
    assert shares.text == "5318"


def test_a_reader_holds_a_region_and_a_call_may_name_another() -> None:
    reader = Reader(region=FOURTH)
    assert reader.read(SHEET).text == "5318"
    assert reader.read(SHEET, region=(80, 720, 720, 150)).text == "406 719 25"
    assert reader.at(None).read(SHEET).text.startswith("1984")
    reading, glyphs = reader.examine(SHEET)
    assert len(glyphs) == len(reading.digits) == 4


def test_a_region_of_a_picture_on_its_side_is_read_upright() -> None:
    page = load(SHEET).turned(90)
    reading = digitry.read(page, region=(450, 480, 130, 640))
    assert (reading.text, reading.turned) == ("5318", 270)
    upright = digitry.read(SHEET, region=FOURTH)
    for one, other in zip(reading.digits, upright.digits, strict=True):
        assert one.box.to_list() == pytest.approx(other.box.to_list(), abs=8)


def test_a_picture_without_the_region_is_an_error_in_its_place() -> None:
    small = np.full((50, 50), 255, np.uint8)
    results = list(Reader(region=FOURTH).read_many([SHEET, small, SHEET]))
    assert [isinstance(result, ImageError) for result in results] == [False, True, False]
    with pytest.raises(UsageError, match="outside the picture"):
        digitry.read(small, region=FOURTH)


def test_a_template_takes_no_region() -> None:
    template = SAMPLES / "forms" / "slip.toml"
    for make in (
        lambda: Reader(template=template, region=FOURTH),
        lambda: Reader(region=FOURTH).on_form(template),
        lambda: Reader(template=template).at(FOURTH),
        lambda: digitry.read(SHEET, template=template, region=FOURTH),  # type: ignore[call-overload]
    ):
        with pytest.raises(UsageError, match="write each place as a field into the template"):
            make()
