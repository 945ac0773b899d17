import numpy as np
import pytest

from digitry.errors import DataError
from digitry.training.writing.hands import Hands, cut_to_ink, draw_strokes, from_strokes


def test_a_character_is_by_the_writer_asked_for_if_he_wrote_one(hands: Hands):
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = hands.pick(7, 1, rng)
        assert hands.labels[place] == 7
        assert hands.writers[place] == 1


def test_a_character_that_the_writer_never_wrote_is_somebody_elses():
    glyphs = [np.full((4, 4), 255, np.uint8)] * 2
    pair = Hands(glyphs, np.array([0, 1]), np.array([0, 1]), np.ones(2, np.float32))
    assert pair.pick(1, 0, np.random.default_rng(0)) == 1


def test_labels_that_do_not_match_the_characters_are_refused():
    with pytest.raises(DataError, match="2 labels"):
        Hands([np.ones((4, 4), np.uint8)], np.arange(2), np.arange(1), np.ones(1, np.float32))


def test_cutting_to_the_ink_leaves_no_empty_edge_and_nothing_of_an_empty_picture():
    image = np.zeros((20, 20), np.uint8)
    image[5:9, 3:10] = 200
    cut = cut_to_ink(image)
    assert cut is not None
    assert cut.shape == (4, 7)
    assert cut_to_ink(np.zeros((5, 5), np.uint8)) is None


def test_strokes_are_drawn_at_the_size_and_the_width_asked_for():
    upright = np.array([[0, 0], [0, 1]], np.float32)
    for pen in (2.0, 5.0):
        cut = cut_to_ink(draw_strokes([upright], 40, pen), 100)
        assert cut is not None
        assert cut.shape[0] == pytest.approx(40 + pen, abs=1.5)
        assert cut.shape[1] == pytest.approx(pen, abs=1.1)


def test_a_dot_of_one_point_is_drawn():
    assert draw_strokes([np.zeros((1, 2), np.float32)], 40, 4.0).max() == 255


def test_one_writer_has_one_pen():
    upright = [np.array([[0, 0], [0, 1]], np.float32)]
    drawn = from_strokes(
        [upright] * 20, np.ones(20, int), np.repeat([0, 1], 10), np.random.default_rng(4)
    )
    widths = np.array([glyph.shape[1] for glyph in drawn.glyphs])
    for writer in (0, 1):
        own = widths[drawn.writers == writer]
        assert own.max() - own.min() <= 2
