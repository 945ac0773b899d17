"""Pictures as people bring them: forms, tables, shadows, odd hands; each kind was once read wrongly."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from digitry.reading.reader import Reader
from digitry.training.writing import pen

Draw = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def shipped() -> Reader:
    return Reader()


def seen(page: np.ndarray, *, blur: float = 0.8, noise: float = 3.0) -> np.ndarray:
    """Return a page as a camera sees it: a little blurred, with grain."""
    rng = np.random.default_rng(0)
    soft = cv2.GaussianBlur(page, (0, 0), blur).astype(np.float32)
    return np.clip(soft + rng.normal(0, noise, soft.shape), 0, 255).astype(np.uint8)


def in_table(
    sheet: Draw, texts: list[list[str]], *, cell: tuple[int, int] = (150, 90), margin: int = 60
) -> np.ndarray:
    """Return a table with a text in each cell, and lines around all cells."""
    width, height = cell
    rows, columns = len(texts), len(texts[0])
    pieces = [
        (text, margin + column * width + 24, margin + row * height + 20)
        for row, line in enumerate(texts)
        for column, text in enumerate(line)
    ]
    page = sheet(2 * margin + rows * height, 2 * margin + columns * width, *pieces, tall=48)
    for row in range(rows + 1):
        y = margin + row * height
        cv2.line(page, (margin, y), (margin + columns * width, y), 90, 2)
    for column in range(columns + 1):
        x = margin + column * width
        cv2.line(page, (x, margin), (x, margin + rows * height), 90, 2)
    return page


# --- lines of cells, tables and ruled paper --------------------------------------------------------


@pytest.mark.parametrize("text", ["134965", "111777", "437812"])
def test_in_a_crop_of_a_comb_no_stroke_of_a_digit_is_taken_for_a_line(
    text: str, sheet: Draw, shipped: Reader
) -> None:
    page = in_table(sheet, [list(text)], cell=(70, 84), margin=4)
    assert shipped.read(seen(page), layout="line").text.replace(" ", "") == text


def test_the_upright_lines_of_a_table_are_no_digits(sheet: Draw, shipped: Reader) -> None:
    page = in_table(sheet, [["37", "65"], ["40", "82"], ["94", "73"], ["25", "36"], ["58", "29"]])
    # The table covers a small part of the page.
    page = np.pad(page, ((300, 300), (200, 400)), constant_values=235)
    reading = shipped.read(seen(page))
    assert reading.text == "37 65\n40 82\n94 73\n25 36\n58 29"


def test_numbers_in_columns_are_words_of_their_own(sheet: Draw, shipped: Reader) -> None:
    page = sheet(110, 900, ("37", 40, 20), ("65", 330, 20), ("40", 640, 20))
    reading = shipped.read(seen(page))
    assert [word.text for word in reading.words] == ["37", "65", "40"]


@pytest.mark.parametrize("text", ["87", "34", "818"])
def test_a_small_crop_with_a_line_under_it_is_read(text: str, sheet: Draw, shipped: Reader) -> None:
    page = sheet(60, 34 * len(text) + 50, (text, 20, 10), tall=36, thick=3.5)
    cv2.line(page, (0, 51), (page.shape[1], 51), 120, 2)
    assert shipped.read(seen(page, blur=0.5)).text == text


def test_a_digit_that_touches_its_frame_is_read(sheet: Draw, shipped: Reader) -> None:
    page = sheet(120, 110, ("5", 34, 28))
    cv2.rectangle(page, (12, 12), (98, 86), 90, 2)
    assert shipped.read(seen(page), layout="single").text == "5"


def test_a_page_of_slanted_rulings_with_a_margin_is_read(sheet: Draw, shipped: Reader) -> None:
    page = sheet(560, 800, ("1984", 180, 60), ("2716", 180, 220), ("5308", 180, 380), tall=64)
    for row in range(8):
        cv2.line(page, (0, 40 + 70 * row), (800, 62 + 70 * row), 175, 2, cv2.LINE_AA)
    cv2.line(page, (130, 0), (118, 560), 160, 2, cv2.LINE_AA)
    assert shipped.read(seen(page)).text == "1984\n2716\n5308"


def test_an_empty_grid_of_two_megapixels_is_no_number(shipped: Reader) -> None:
    page = np.full((1400, 1400), 235, np.uint8)
    for at in range(60, 1400, 64):
        page[at : at + 5, 60:1345] = page[60:1345, at : at + 5] = 60
    # It once took minutes.
    assert shipped.read(page).rejected


# --- dates, signs ----------------------------------------------------------------------------------


def dated(text: str) -> np.ndarray:
    """Return a text with slashes as tall as its digits, dark on light."""
    rng = np.random.default_rng(3)
    page = np.zeros((130, 60 * len(text) + 60), np.float32)
    x = 30
    for symbol in text:
        if symbol == "/":
            cv2.line(page, (x, 104), (x + 30, 20), 1.0, 6, cv2.LINE_AA)
            x += 44
            continue
        ink = pen.draw(pen.strokes_of(symbol, 1), 60, 6, rng, taper=0)
        page[35 : 35 + ink.shape[0], x : x + ink.shape[1]] = ink
        x += ink.shape[1] + 14
    return (235 - 200 * page[:, : x + 20]).astype(np.uint8)


@pytest.mark.parametrize("text", ["13/01/2023", "12/03/2004"])
def test_a_slash_of_a_date_is_no_1_with_a_pattern_or_without(text: str, shipped: Reader) -> None:
    page = seen(dated(text))
    assert shipped.read(page, layout="line").text.replace(" ", "") == text
    within = shipped.within(r"\d\d/\d\d/\d{4}").read(page)
    assert (within.text.replace(" ", ""), within.rejected) == (text, False)


# --- shadows, tables of wood, turned pages ---------------------------------------------------------


def test_a_shadow_does_not_make_the_digits_vanish(sheet: Draw, shipped: Reader) -> None:
    page = sheet(700, 1000, ("600510", 200, 200), ("20", 300, 420), tall=64).astype(np.float32)
    shade = np.ones((700, 1000), np.float32)
    cv2.circle(shade, (950, 640), 420, 0.55, -1)
    page *= cv2.GaussianBlur(shade, (0, 0), 25)
    assert shipped.read(seen(page)).text == "600510\n20"


def test_a_wooden_table_around_the_sheet_is_no_writing(sheet: Draw, shipped: Reader) -> None:
    rng = np.random.default_rng(1)
    grain = cv2.resize(rng.uniform(40, 95, (90, 8)).astype(np.float32), (1100, 800))
    table = grain + rng.normal(0, 6, (800, 1100))
    table[150:650, 200:900] = sheet(500, 700, ("27", 120, 120), ("4096", 120, 300), tall=72)
    reading = shipped.read(seen(np.clip(table, 0, 255)))
    assert (reading.text, reading.inverted) == ("27\n4096", False)


# --- hands -----------------------------------------------------------------------------------------


def stroked(*lines: list[tuple[int, int]], thick: int = 6) -> np.ndarray:
    """Return a picture of strokes through points of 0 to 100 across and down."""
    page = np.full((160, 150), 235, np.uint8)
    for points in lines:
        path = np.array([[(25 + x) * 16, (30 + y) * 16] for x, y in points], np.int32)
        cv2.polylines(page, [path], False, 35, thick, cv2.LINE_AA, 4)
    return seen(page)


HANDS = {
    "4, open, in two strokes": ("4", [[(20, 0), (12, 58), (75, 56)], [(66, 8), (62, 100)]]),
    "1 with a long upstroke": ("1", [[(20, 52), (58, 0), (56, 100)]]),
    "7 with a bar": ("7", [[(12, 4), (82, 2), (38, 100)], [(30, 52), (76, 48)]]),
    "7 with a hook": ("7", [[(12, 24), (14, 4), (80, 6), (48, 60), (40, 100)]]),
    "5 with a flying bar": (
        "5",
        [[(28, 16), (26, 46), (55, 42), (74, 62), (66, 90), (40, 98), (18, 88)], [(36, 4), (82, 0)]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("hand", HANDS)
@pytest.mark.parametrize("layout", ["auto", "single"])
def test_a_digit_of_another_hand_is_read_or_refused_and_never_two(
    hand: str, layout: str, shipped: Reader
) -> None:
    value, strokes = HANDS[hand]
    reading = shipped.read(stroked(*strokes), layout=layout)  # type: ignore[arg-type]
    assert len(reading.digits) == 1
    assert reading.text in (value, "?")


def test_a_thin_zero_on_plain_ground_is_no_frame(shipped: Reader) -> None:
    page = np.full((28, 28), 255, np.uint8)
    cv2.ellipse(page, (14, 14), (6, 8), 8, 0, 360, 40, 1, cv2.LINE_AA)
    # Grey specks inside of the ring.
    page[13:15, 13:16] = 225
    for layout in ("single", "auto"):
        assert shipped.read(page, layout=layout).text == "0"  # type: ignore[arg-type]


def test_a_tilted_line_is_read_in_its_order(sheet: Draw, shipped: Reader) -> None:
    page = sheet(300, 760, ("735426", 120, 120), tall=64)
    # A long stray line runs from the third digit to the beginning of the line.
    cv2.line(page, (60, 196), (330, 188), 70, 2, cv2.LINE_AA)
    turn = cv2.getRotationMatrix2D((380, 150), 10, 1.0)
    tilted = cv2.warpAffine(page, turn, (760, 300), borderValue=235)
    assert shipped.read(seen(tilted)).text == "735426"
