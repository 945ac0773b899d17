"""What `glyph` learns from: true labels, through the reader's own code, the same for the same seed."""

import numpy as np
import pytest

from digitry.model.artifact import NOT_A_DIGIT_CLASS
from digitry.reading import glyph
from digitry.reading.alone import alone
from digitry.reading.ink import lift
from digitry.reading.result import Box
from digitry.training.data.dataset import Split
from digitry.training.datasets import load_dataset
from digitry.training.writing import clutter, glyphs, inks
from digitry.training.writing.sources import of_digits
from digitry.training.writing.strips import Sources


@pytest.fixture(scope="module")
def characters() -> Sources:
    digits: Split = load_dataset("uci").train
    return of_digits(digits.images, digits.labels)


def scenes(characters: Sources, count: int, seed: int = 0) -> list[glyphs.Scene]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        ink, label = inks.digit(characters, inks.any_height(rng), rng)
        found.append(glyphs.scene(ink, label, characters, rng))
    return found


def test_scenes_differ_in_size_and_light(characters: Sources) -> None:
    seen = scenes(characters, 60)
    heights = [scene.box.h for scene in seen]
    assert min(heights) < 25
    assert max(heights) > 80
    assert np.std([scene.gray.mean() for scene in seen]) > 20


def test_nearly_every_digit_of_a_scene_is_found_where_it_was_put(characters: Sources) -> None:
    rng = np.random.default_rng(1)
    seen = scenes(characters, 60, seed=1)
    for made in (
        [glyphs.as_whole(scene) for scene in seen],
        [glyphs.as_line(s, rng) for s in seen],
    ):
        found = [image for image in made if image is not None]
        assert len(found) >= 38
        assert all(image.shape == (28, 28) and 0.5 < image.max() <= 1 for image in found)


def test_all_the_ink_of_a_picture_is_cut_as_the_reader_cuts_it(characters: Sources) -> None:
    for scene in scenes(characters, 10, seed=2):
        taught, found = glyphs.as_whole(scene), alone(lift(scene.gray))
        if taught is not None:
            assert found is not None
            np.testing.assert_array_equal(taught, glyph.normalise([found.ink])[0])


def test_something_else_in_the_place_of_the_digit_is_not_taught_as_it(characters: Sources) -> None:
    (scene,) = scenes(characters, 1, seed=3)
    elsewhere = Box(scene.gray.shape[1] - 2, 0, 2, 2)
    assert glyphs.as_whole(glyphs.Scene(scene.gray, elsewhere, scene.label)) is None


def test_a_digit_of_a_line_that_touches_other_ink_is_not_taught() -> None:
    gray = np.full((60, 60), 255, np.uint8)
    gray[10:50, 28:32] = 0
    free = glyphs.Scene(gray.copy(), Box(27, 10, 6, 40), 1)
    gray[29:31] = 0
    crossed = glyphs.Scene(gray, Box(27, 10, 6, 40), 1)
    for seed in range(5):
        assert glyphs.as_line(free, np.random.default_rng(seed)) is not None
        assert glyphs.as_line(crossed, np.random.default_rng(seed)) is None


def test_an_upright_stroke_is_never_taught_as_no_digit(characters: Sources) -> None:
    gray = np.full((60, 60), 255, np.uint8)
    gray[10:50, 28:32] = 0
    box = Box(27, 10, 6, 40)
    assert glyphs.as_whole(glyphs.Scene(gray, box, 1)) is not None
    assert glyphs.as_whole(glyphs.Scene(gray, box, NOT_A_DIGIT_CLASS)) is None


@pytest.mark.parametrize("kind", glyphs.KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_gives_glyphs_of_its_labels(kind: object, characters: Sources) -> None:
    rng = np.random.default_rng(5)
    pairs = [kind(characters, rng) for _ in range(30)]  # type: ignore[operator]
    images = [image for image, _ in pairs if image is not None]
    assert len(images) >= 10
    assert all(image.shape == (28, 28) and 0 <= image.min() <= image.max() <= 1 for image in images)
    none = {label == NOT_A_DIGIT_CLASS for _, label in pairs}
    if kind is glyphs._stretched:
        # That it is stretched must not tell a digit from a letter.
        assert none == {True, False}
    else:
        assert none == {kind in (glyphs._other, glyphs._spoilt_other, glyphs._nothing)}


def test_shares_of_the_kinds_sum_to_one() -> None:
    assert len(glyphs.SHARES) == len(glyphs.KINDS)
    assert sum(glyphs.SHARES) == pytest.approx(1)


@pytest.mark.parametrize("draw", [clutter.bare, clutter.thing])
def test_pictures_without_writing_are_pictures(draw: object) -> None:
    for seed in range(30):
        gray = draw(np.random.default_rng(seed))  # type: ignore[operator]
        assert gray.dtype == np.uint8
        assert min(gray.shape) >= 28


def test_a_pool_is_the_same_wherever_it_is_composed(characters: Sources) -> None:
    pools = glyphs.GlyphPools(seed=4, glyphs=40)
    (one,), (again,), (other,) = (pools.compose(characters, pool) for pool in (2, 2, 3))
    np.testing.assert_array_equal(one.images, again.images)
    np.testing.assert_array_equal(one.labels, again.labels)
    assert (one.images != other.images).any()
    assert len(one) == 40
    assert one.images.any(axis=(1, 2)).all()
