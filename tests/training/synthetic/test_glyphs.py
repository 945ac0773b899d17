"""What `reader` learns from: true labels, through the reader's own code, the same for the same seed."""

from pathlib import Path

import numpy as np
import pytest

from digitry.model.artifact import NOT_A_DIGIT_CLASS
from digitry.reading.ink import lift
from digitry.training.data.dataset import Dataset, Split
from digitry.training.datasets import load_dataset
from digitry.training.synthetic import damage, photos
from digitry.training.synthetic import glyphs as synthesis


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_dataset("uci").train


def test_the_same_seed_draws_the_same_scenes(digits: Split) -> None:
    one, other = (
        photos.digit_scene(digits.images[3], 3, np.random.default_rng(5)) for _ in range(2)
    )
    assert np.array_equal(one.gray, other.gray)
    assert (one.label, one.box, one.inverted) == (other.label, other.box, other.inverted)


def test_scenes_differ_in_size_light_and_polarity(digits: Split) -> None:
    rng = np.random.default_rng(0)
    drawn = [photos.digit_scene(digits.images[i], 0, rng) for i in range(60)]
    heights = [scene.box.h for scene in drawn]
    assert min(heights) < 25
    assert max(heights) > 80
    assert {scene.inverted for scene in drawn} == {True, False}
    assert np.std([scene.gray.mean() for scene in drawn]) > 30


def test_nearly_every_digit_of_a_scene_is_found_where_it_was_put(digits: Split) -> None:
    rng = np.random.default_rng(1)
    glyphs = [synthesis.glyph_of(photos.digit_scene(digits.images[i], 0, rng)) for i in range(80)]
    assert sum(glyph is not None for glyph in glyphs) >= 68
    for glyph in glyphs:
        assert glyph is None or (glyph.shape == (28, 28) and 0.5 < glyph.max() <= 1)


def test_something_else_in_the_place_of_the_digit_is_not_taught_as_it(digits: Split) -> None:
    scene = photos.digit_scene(digits.images[0], 0, np.random.default_rng(2))
    elsewhere = photos.Box(scene.gray.shape[1] - 2, 0, 2, 2)
    moved = photos.Scene(scene.gray, scene.inverted, scene.label, elsewhere)
    assert synthesis.glyph_of(moved) is None


def test_what_is_no_digit_says_so(digits: Split) -> None:
    rng = np.random.default_rng(3)
    assert {photos.nothing_scene(digits, rng).label for _ in range(20)} == {NOT_A_DIGIT_CLASS}


def test_cut_strings_name_digits_and_wrong_cuts(digits: Split) -> None:
    rng = np.random.default_rng(4)
    pairs = [pair for _ in range(25) for pair in synthesis.string_glyphs(digits, rng)]
    labels = np.array([label for _, label in pairs])
    assert (labels < NOT_A_DIGIT_CLASS).sum() > 25
    assert (labels == NOT_A_DIGIT_CLASS).sum() > 5
    assert all(glyph.shape == (28, 28) for glyph, _ in pairs)


def test_a_cut_digit_shows_its_neighbour_in_grey(digits: Split) -> None:
    rng = np.random.default_rng(4)
    pairs = [pair for _ in range(25) for pair in synthesis.string_glyphs(digits, rng)]
    grey = [((glyph > 0.2) & (glyph < 0.45)).sum() for glyph, _ in pairs]
    assert np.mean(np.array(grey) > 30) > 0.5


def test_what_is_cut_out_of_letters_is_no_digit(digits: Split) -> None:
    rng = np.random.default_rng(7)
    pairs = [pair for _ in range(40) for pair in synthesis.word_glyphs(digits, rng)]
    labels = np.array([label for _, label in pairs])
    assert (labels == NOT_A_DIGIT_CLASS).mean() > 0.7
    # Digits that stand among the letters stay what they are.
    assert (labels < NOT_A_DIGIT_CLASS).any()


def test_what_the_reader_takes_for_ink_on_an_empty_page_is_never_an_upright_stroke() -> None:
    rng = np.random.default_rng(8)
    glyphs = [glyph for _ in range(60) if (glyph := synthesis.empty_glyph(rng)) is not None]
    glyphs += [glyph for _ in range(60) if (glyph := synthesis.thing_glyph(rng)) is not None]
    assert len(glyphs) > 40
    widths = [np.ptp(np.flatnonzero((glyph > 0.3).any(axis=0))) + 1 for glyph in glyphs]
    # A shadow's pale rim is part of its box, and not of what is dark in it.
    assert np.mean(np.array(widths) >= 7) > 0.9


def test_a_spoilt_digit_is_another_picture_of_the_same_digit_and_the_same_again(
    digits: Split,
) -> None:
    changed = 0.0
    for index in range(60):
        one, again = (
            damage.spoilt(digits.images[index], np.random.default_rng(index)) for _ in "ab"
        )
        assert np.array_equal(one[0], again[0])
        picture, digit = one
        assert picture.shape == digit.shape == (28, 28)
        assert picture.dtype == np.float32
        assert 0 <= picture.min() <= picture.max() <= 1
        # Moved, perhaps, but still there.
        assert digit.sum() > 0.1 * digits.images[index].sum() / 255
        changed += float(np.abs(picture - digits.images[index] / 255).mean())
    assert changed / 60 > 0.03


def test_each_harm_changes_every_picture(digits: Split) -> None:
    clean = digits.images[0].astype(np.float32) / 255
    for harm in damage._HARMS:
        rng = np.random.default_rng(9)
        changes = [float(np.abs(harm(clean, rng) - clean).mean()) for _ in range(60)]
        # The mildest of sixty is still another picture, and most are plainly so.
        assert min(changes) > 1e-4, harm.__name__
        assert np.median(changes) > 0.01, harm.__name__


def test_bands_lie_along_edges_and_never_twice_on_one() -> None:
    blank = np.zeros((28, 28), np.float32)
    seen = set()
    for seed in range(200):
        banded = damage._banded(blank, np.random.default_rng(seed))
        edges = (banded[:, 0], banded[0], banded[:, -1], banded[-1])
        # The middle of an edge is light only if that edge has a band.
        found = tuple(bool(edge[14] > 0.5) for edge in edges)
        assert any(found)
        assert banded[14, 14] == 0
        seen.add(found)
    assert {(True, False, True, False), (False, True, False, True)} <= seen
    assert any(sum(found) == 3 for found in seen)


def test_a_spoilt_picture_is_taught_only_where_the_reader_finds_its_digit(digits: Split) -> None:
    few = Split(digits.images[:40], digits.labels[:40])
    mix = synthesis.Mix(plain=0, spoilt=1.0, spoilt_plain=1.0, spoilt_nothing=0.0)
    pairs = list(synthesis._spoilt(few, mix, np.random.default_rng(11)))
    assert [label for _, label in pairs[::2]] == few.labels.tolist()
    found = [glyph for glyph, _ in pairs[1::2] if glyph is not None]
    assert 30 <= len(found) <= 40
    blank, elsewhere = np.zeros((28, 28), np.float32), np.zeros((28, 28), np.float32)
    digit = few.images[0].astype(np.float32) / 255
    elsewhere[:6, :6] = 1
    assert synthesis._found(blank, digit) is None
    assert synthesis._found(elsewhere, np.eye(28, dtype=np.float32)[::-1]) is None
    assert synthesis._found(digit, digit) is not None


def test_what_is_spoilt_and_no_digit_is_hardly_ever_an_upright_stroke(digits: Split) -> None:
    few = Split(digits.images[:100], digits.labels[:100])
    mix = synthesis.Mix(plain=0, spoilt=0.0, spoilt_plain=0.0, spoilt_nothing=1.0)
    pairs = list(synthesis._spoilt(few, mix, np.random.default_rng(12)))
    assert {label for _, label in pairs} == {NOT_A_DIGIT_CLASS}
    found = [glyph for glyph, _ in pairs[1::2] if glyph is not None]
    assert len(found) > 50
    widths = [np.ptp(np.flatnonzero((glyph > 0.3).any(axis=0))) + 1 for glyph in found]
    assert np.mean(np.array(widths) >= 7) > 0.9
    shown = [damage.nothing(np.random.default_rng(seed)) for seed in range(100)]
    assert np.mean([np.ptp(picture) > 0.05 for picture in shown]) > 0.75


def test_pages_keep_the_order_of_their_digits_and_repeat(digits: Split, tmp_path: Path) -> None:
    few = Split(digits.images[:30], digits.labels[:30])
    source = Dataset("mnist", few, few, "0" * 64, "licence", "here")
    mix = synthesis.Mix(variants=1, strokes=0.2, nothing=0.2, strings=0.1, spoilt=0.2)
    one, two = (synthesis.pages(source, mix=mix, seed=1, workers=1) for _ in range(2))
    assert one.sha256 == two.sha256
    # The digits as they are come first, in order; what was made of them follows.
    assert np.array_equal(one.train.labels[:30], few.labels)
    assert len(one.train) > 45
    assert one.train.labels.max() <= NOT_A_DIGIT_CLASS


def test_drawn_strokes_are_seen_by_the_reader() -> None:
    scene = photos.stroke_scene(np.random.default_rng(6))
    gray = 255 - scene.gray if scene.inverted else scene.gray
    assert lift(gray).mask.any()
