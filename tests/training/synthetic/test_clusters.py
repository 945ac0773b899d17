"""Ink is found where it is, in reading order, and what is not writing is left out."""

import cv2
import numpy as np
import pytest

from digitry.reading.ink import lift
from digitry.training.synthetic import clusters
from digitry.training.synthetic import pen as strokes


def blank(height: int = 120, width: int = 400, level: int = 225) -> np.ndarray:
    return np.full((height, width), level, np.uint8)


def write(
    page: np.ndarray, text: str, x: int, y: int, height: int = 60, pen: float = 5, gap: int = 18
) -> list[tuple[int, int]]:
    """Write digits in plain hands; gives the columns that each takes."""
    spans = []
    for symbol in text:
        ink = strokes.draw(
            strokes.strokes_of(symbol, 0),
            height,
            pen,
            np.random.default_rng(0),
            pressure=0,
            taper=0,
        )
        place = page[y : y + ink.shape[0], x : x + ink.shape[1]]
        place[:] = (place * (1 - 0.8 * ink[: place.shape[0], : place.shape[1]])).astype(np.uint8)
        spans.append((x, x + ink.shape[1]))
        x += ink.shape[1] + gap
    return spans


def found(page: np.ndarray) -> list[list[clusters.Cluster]]:
    return clusters.lines(lift(page))


def test_digits_come_in_order_with_their_boxes() -> None:
    page = blank()
    spans = write(page, "48271", 30, 30)
    (line,) = found(page)
    assert len(line) == 5
    for cluster, (left, right) in zip(line, spans, strict=True):
        assert abs(cluster.box.x - left) <= 4
        assert abs(cluster.box.right - right) <= 4


def test_lines_come_from_top_to_bottom() -> None:
    page = blank(320, 420)
    for row, text in enumerate(("123", "4567", "89")):
        write(page, text, 30, 20 + 100 * row)
    assert [len(line) for line in found(page)] == [3, 4, 2]


@pytest.mark.parametrize("symbol", ["1", "7"])
def test_a_lone_one_and_a_lone_seven_are_found(symbol: str) -> None:
    page = blank(200, 300)
    write(page, symbol, 140, 60, pen=3)
    (line,) = found(page)
    assert len(line) == 1


def test_ones_among_other_digits_are_not_lost() -> None:
    page = blank()
    write(page, "181", 30, 30)
    (line,) = found(page)
    assert len(line) == 3


def test_ruling_lines_are_taken_off_and_digits_stay_whole() -> None:
    page = blank(200, 500)
    for y in range(20, 200, 35):
        cv2.line(page, (0, y), (500, y + 6), 150, 2)
    spans = write(page, "2580", 60, 60)
    lines = found(page)
    whole = [cluster for line in lines for cluster in line]
    assert len(whole) == 4
    for cluster, (left, right) in zip(whole, spans, strict=True):
        assert abs(cluster.box.w - (right - left)) <= 10


def test_a_dark_stroke_along_a_pale_ruling_line_stays() -> None:
    page = blank(200, 600)
    for y in (40, 90, 140):
        cv2.line(page, (0, y), (600, y), 190, 2)
    # A 7 whose top lies on the line, among digits that only cross it.
    write(page, "258", 30, 60)
    cv2.line(page, (400, 90), (440, 90), 30, 3)
    cv2.line(page, (440, 90), (415, 140), 30, 3)
    seven = [c.box for line in found(page) for c in line if 390 <= c.box.x <= 450]
    assert len(seven) == 1
    assert seven[0].w >= 40


def test_specks_are_not_writing() -> None:
    page = blank()
    write(page, "35", 60, 30)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(5, 395), rng.integers(5, 115)
        page[y : y + 2, x : x + 2] = 90
    assert sum(len(line) for line in found(page)) == 2


def test_the_hat_of_a_five_belongs_to_it() -> None:
    page = blank(120, 200)
    cv2.ellipse(page, (80, 75), (18, 18), 0, -120, 150, 40, 4)
    cv2.line(page, (68, 40), (66, 60), 40, 4)
    cv2.line(page, (76, 34), (102, 33), 40, 4)
    assert sum(len(line) for line in found(page)) == 1


def test_touching_digits_come_as_atoms_that_cover_all_their_ink() -> None:
    page = blank()
    write(page, "00", 60, 30, gap=-6)
    (line,) = found(page)
    (cluster,) = line
    parts = clusters.atoms(cluster)
    assert len(parts) >= 2
    whole = clusters.join(parts)
    rims = np.subtract(whole.box.to_list(), cluster.box.to_list())
    assert np.abs(rims).max() <= 2
    assert (whole.ink > 0.3).sum() == sum((atom.ink > 0.3).sum() for atom in parts)


def test_what_is_cut_out_remembers_what_it_was_cut_out_of() -> None:
    page = blank()
    write(page, "00", 60, 30, gap=-6)
    ((cluster,),) = found(page)
    assert cluster.whole.surroundings is None
    for run, piece in clusters.candidates(cluster).items():
        if piece is cluster.whole:
            assert run == (0, len(clusters.atoms(cluster)))
            continue
        ink, x, y = piece.surroundings
        place = ink[y : y + piece.box.h, x : x + piece.box.w]
        assert (place >= piece.ink).all()
        assert place[piece.ink > 0.3].min() > 0.3


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_even_page_has_no_ink(level: int) -> None:
    page = blank(level=level)
    assert found(page) == []


def test_noise_is_not_read_as_a_page_of_digits() -> None:
    page = np.random.default_rng(0).integers(0, 256, (400, 400)).astype(np.uint8)
    assert sum(len(line) for line in found(page)) < 40


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 2), (3, 500)])
def test_degenerate_pages_are_harmless(shape: tuple[int, int]) -> None:
    page = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    clusters.lines(lift(page))
