from dataclasses import replace

import numpy as np
import pytest

from digitry.reading.classes import OTHER
from digitry.reading.lines import HEIGHT
from digitry.training.writing import texts
from digitry.training.writing.hands import Hands
from digitry.training.writing.strings import (
    CHARACTERS,
    Style,
    stroke_width,
    style,
    warp,
    write,
)
from digitry.training.writing.strips import Sources

PLAIN = Style(
    height=20,
    aspect=1,
    slant=0,
    slope=0,
    wobble=0,
    spacing="usual",
    gap=0.3,
    near=False,
    stretched=False,
)


def test_texts_are_digits_marks_other_writing_and_spaces():
    rng = np.random.default_rng(0)
    said = [texts.text(rng) for _ in range(2000)]
    assert set("".join(said)) == set(CHARACTERS + texts.LETTER + texts.WORD + " ")
    assert any(len(line) == 1 for line in said)
    assert all(any(char.isdigit() for char in line) for line in said)


def test_a_line_says_what_was_written(sources: Sources, hands: Hands):
    for said in ("7", "0042", "12.50", "-3", "03/11/1999", "12:45", "1,000"):
        written = write(said, hands, sources.others, PLAIN, np.random.default_rng(1))
        assert "".join(CHARACTERS[label] for label in written.labels) == said
        assert len(written.spans) == len(said)


def test_a_run_of_other_writing_is_one_label(sources: Sources, hands: Hands):
    written = write("???12?", hands, sources.others, PLAIN, np.random.default_rng(1))
    assert written.labels == (OTHER, 1, 2, OTHER)


def test_a_line_that_is_too_long_is_cut_with_its_labels(sources: Sources, hands: Hands):
    wide = replace(PLAIN, spacing="wide", gap=1.0)
    written = write("8" * 60, hands, sources.others, wide, np.random.default_rng(1))
    assert 0 < len(written.labels) < 60
    assert len(written.labels) == len(written.spans)
    assert written.ink.shape[0] == HEIGHT


@pytest.mark.parametrize("gap", [-0.1, 0.0, 0.5])
def test_the_gap_lies_between_the_ink_of_neighbours(sources: Sources, hands: Hands, gap: float):
    how = replace(PLAIN, gap=gap)
    written = write("3838", hands, sources.others, how, np.random.default_rng(1))
    for (_, end), (start, _) in zip(written.spans[:-1], written.spans[1:], strict=True):
        assert start - end == pytest.approx(gap * how.height, abs=1)


def test_digits_stay_on_the_strip_whatever_the_style(sources: Sources, hands: Hands):
    rng = np.random.default_rng(5)
    for _ in range(200):
        how = style(rng)
        written = write("58", hands, sources.others, how, rng)
        rows = np.flatnonzero((written.ink > 60).any(axis=1))
        # Most of a digit's height is there even when it stands at the strip's edge.
        assert rows[-1] - rows[0] + 1 > 0.55 * how.height


def test_a_wider_pen_is_measured_wider():
    thin, thick = np.zeros((30, 30), np.uint8), np.zeros((30, 30), np.uint8)
    thin[4:26, 14:16], thick[4:26, 12:18] = 255, 255
    assert stroke_width(thin) < stroke_width(thick)


def test_warping_scales_to_the_size_asked_for():
    block = np.full((20, 10), 255, np.uint8)
    assert warp(block, 2.0, 1.0, 0.0, 0.0).shape == pytest.approx((20, 20), abs=1)
    assert warp(block, 0.5, 0.5, 0.0, 0.0).shape == pytest.approx((10, 5), abs=1)
    # Slanted by half of its height.
    assert warp(block, 1.0, 1.0, 0.5, 0.0).shape[1] == pytest.approx(20, abs=2)
