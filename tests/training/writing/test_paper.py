import numpy as np
import pytest

from digitry.reading.lines import HEIGHT
from digitry.training.writing import paper
from digitry.training.writing.strings import Written


def written(width: int = 80) -> Written:
    ink = np.zeros((HEIGHT, width), np.uint8)
    ink[7:26, 30:34] = 255
    ink[7:26, 46:50] = 255
    return Written(ink, (1, 1), ((30, 34), (46, 50)), 7, 26, 4.0)


@pytest.mark.parametrize("draw", paper.DRAWN)
def test_every_kind_of_paper_draws_something_and_stays_on_the_sheet(draw):
    seen = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sheet = paper.Sheet(80, rng)
        draw(sheet, written(), rng)
        layer = sheet.finished()
        assert layer.shape == (HEIGHT, 80)
        seen += layer.max() > 20
    assert seen > 12


def test_borders_stand_beside_the_digits_and_are_taller():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sheet = paper.Sheet(80, rng)
        sheet.slope = 0.0
        paper.edges(sheet, written(), rng)
        ink = sheet.layer
        upright = np.flatnonzero((ink > 0).sum(axis=0) > 0.6 * len(ink)) / 2
        assert not ((upright > 29) & (upright < 51)).any()
        for column in upright:
            rows = np.flatnonzero(ink[:, int(2 * column)] > 0) / 2
            assert rows[-1] - rows[0] > 19


def test_the_walls_of_cells_stand_between_characters():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sheet = paper.Sheet(80, rng)
        sheet.slope = 0.0
        paper.cells(sheet, written(), rng)
        walls = (sheet.layer[2 * 14 : 2 * 20] > 0).all(axis=0)
        assert walls[2 * 34 : 2 * 46].any() or not walls.any()
        assert not walls[2 * 31 : 2 * 33].any()


def test_another_lines_writing_does_not_reach_into_the_digits():
    other = np.full((HEIGHT, 60), 255, np.uint8)
    for seed in range(20):
        line = written()
        ink = line.ink.copy()
        paper.neighbours(ink, line, other, np.random.default_rng(seed))
        assert (ink[line.top : line.bottom] == line.ink[line.top : line.bottom]).all()


def test_what_is_written_stays_under_any_paper():
    line = written()
    for seed in range(50):
        ink = paper.under(line, None, np.random.default_rng(seed))
        assert (ink >= line.ink).all()
