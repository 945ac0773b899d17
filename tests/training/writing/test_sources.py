import numpy as np
import pytest

from digitry.reading.classes import OTHER
from digitry.training.data.handwriting import Digits, Images, Other, Strings, Strokes
from digitry.training.writing.sources import hands_of, real_strip, turned_letters


def images(pictures: np.ndarray, dark_ink: bool) -> Images:
    count, height, width = pictures.shape
    return Images(
        pixels=pictures.reshape(-1),
        starts=np.arange(count) * height * width,
        heights=np.full(count, height),
        widths=np.full(count, width),
        dark_ink=dark_ink,
    )


def strokes(samples: list[list[np.ndarray]]) -> Strokes:
    flat = [stroke for sample in samples for stroke in sample]
    last = np.cumsum([len(sample) for sample in samples])
    return Strokes(
        points=np.concatenate(flat).astype(np.float32),
        offsets=np.concatenate([[0], np.cumsum([len(stroke) for stroke in flat])]),
        first=np.concatenate([[0], last[:-1]]),
        last=last,
        sizes=np.ones((len(samples), 2), np.float32),
    )


def strings(drawings: Images | Strokes, text: str) -> Strings:
    one = np.array([text])
    return Strings(
        pack="drawn", drawings=drawings, hands=np.array(["a"]), texts=one,
        pages=np.array([""]), complete=np.array([True]),
    )  # fmt: skip


def test_letters_are_turned_if_they_look_like_no_digit_then():
    pictures = np.zeros((3, 20, 20), np.uint8)
    pictures[:, 2:18, 4:7] = 255
    pictures[:, 2:5, 4:18] = 255
    letters = Other(
        pack="drawn",
        drawings=images(pictures, dark_ink=False),
        hands=np.array(["a", "a", "a"]),
        labels=np.array(["K", "h", "A"]),
        looks_like_digit=np.zeros(3, bool),
    )
    # K in a mirror, upside down and lying; A but not in a mirror; a turned h would be a 4.
    glyph = pictures[0, 2:18, 4:18]
    turned = [
        np.fliplr(glyph),
        np.flipud(glyph),
        np.flipud(glyph),
        np.rot90(glyph),
        np.rot90(glyph),
    ]
    for found, wanted in zip(turned_letters(letters), turned, strict=True):
        assert np.array_equal(found, wanted)


def test_pictures_become_hands_by_their_writer():
    pictures = np.zeros((4, 28, 28), np.uint8)
    pictures[:, 5:24, 12:15] = 255
    digits = Digits(
        pack="drawn",
        drawings=images(pictures, dark_ink=False),
        hands=np.array(["b", "a", "b", "a"]),
        labels=np.array([1, 1, 7, 7], np.uint8),
    )
    hands = hands_of(digits, np.random.default_rng(0))
    assert hands.writers.tolist() == [1, 0, 1, 0]
    assert hands.glyphs[0].shape == (19, 3)
    assert hands.em[0] == 19


def test_strokes_are_drawn_with_two_pens_each():
    upright = [np.array([[0, 0], [0, 1]])]
    digits = Digits(
        pack="drawn",
        drawings=strokes([upright, upright]),
        hands=np.array(["a", "b"]),
        labels=np.array([1, 1], np.uint8),
    )
    hands = hands_of(digits, np.random.default_rng(0))
    assert len(hands.glyphs) == 4
    assert len(set(hands.writers.tolist())) == 4


def test_a_scanned_string_has_its_labels_and_its_rows():
    grey = np.full((1, 64, 60), 210, np.uint8)
    grey[0, 20:46, 20:24] = 40
    grey[0, 20:46, 34:38] = 40
    real = real_strip(strings(images(grey, dark_ink=True), "1 (1"), 0, np.random.default_rng(0))
    assert real is not None
    assert real.labels == (1, OTHER, 1)
    assert (real.top, real.bottom) == pytest.approx((20, 46), abs=2)


def test_a_string_of_strokes_has_the_height_of_its_digits():
    drawn = strokes([[np.array([[x, 0], [x, 0.4]]) for x in (0.0, 0.3, 0.6)]])
    real = real_strip(strings(drawn, "111"), 0, np.random.default_rng(0))
    assert real is not None
    assert real.labels == (1, 1, 1)
    assert real.bottom - real.top == pytest.approx(38, abs=5)


def test_an_empty_scan_is_no_strip():
    blank = images(np.full((1, 64, 60), 255, np.uint8), dark_ink=True)
    assert real_strip(strings(blank, "1"), 0, np.random.default_rng(0)) is None
