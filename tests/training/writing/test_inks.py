import numpy as np
import pytest

from digitry.training.data.dataset import Split
from digitry.training.datasets import load_dataset
from digitry.training.writing import inks
from digitry.training.writing.sources import of_digits
from digitry.training.writing.strips import Sources


@pytest.fixture(scope="module")
def digits() -> Split:
    return load_dataset("uci").train


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_digit_has_the_height_that_it_is_given(sources: Sources) -> None:
    for height in (16.0, 60.0, 140.0):
        heights = [inks.digit(sources, height, rng(seed))[0].shape[0] for seed in range(20)]
        assert np.median(heights) == pytest.approx(height, rel=0.25)


def test_ink_is_crisp_at_any_size(sources: Sources) -> None:
    ink, _ = inks.digit(sources, 140.0, rng(3))
    assert ink.dtype == np.float32
    assert 0 <= ink.min() <= ink.max() <= 1
    # Most of a stroke is full ink; only its rim is grey.
    assert ((ink > 0.1) & (ink < 0.9)).sum() < 0.35 * (ink > 0.5).sum()


def test_the_paper_around_ink_stays_white() -> None:
    glyph = np.zeros((40, 30), np.uint8)
    glyph[4:36, 4:8] = glyph[32:36, 4:28] = 255
    for seed in range(40):
        # An L: right above its foot there is paper, whatever pen and slant it gets.
        ink = inks.enlarged(glyph, 40.0, 40.0, rng(seed))
        assert (ink == 0).mean() > 0.2


def test_signs_are_no_strokes_that_could_be_a_one_or_a_dash(sources: Sources) -> None:
    made = inks.signs(sources, 60, rng(2))
    assert len(made) == 60
    for ink in made:
        assert inks.NARROW < ink.shape[1] / ink.shape[0] < 2
        assert ink.max() > 200


def test_mnists_own_digits_stay_as_mnist_has_them(digits: Split) -> None:
    hands = of_digits(digits.images, digits.labels).hands[0]
    shifted = 0
    for place in range(40):
        picture = inks.as_mnist(hands.glyphs[place], float(hands.em[place]))
        original = digits.images[place].astype(np.float32) / 255
        # What is cut to its ink loses the palest rim, and may lie a pixel aside.
        likeness = max(
            float((np.roll(picture, (y, x), (0, 1)) * original).sum())
            for y in (-1, 0, 1)
            for x in (-1, 0, 1)
        )
        assert likeness > 0.9 * float((original**2).sum())
        mass = np.argwhere(picture > 0) - 13.5
        shifted += bool(np.abs(np.average(mass, axis=0, weights=picture[picture > 0])).max() > 0.75)
    assert shifted == 0


def test_only_digits_whose_mirror_image_is_no_digit_are_mirrored(sources: Sources) -> None:
    labels = {inks.picked(sources, rng(seed), wanted=(3, 4, 7, 9))[2] for seed in range(40)}
    assert labels == {3, 4, 7, 9}


@pytest.mark.parametrize("kind", inks._OTHERS, ids=lambda kind: kind.__name__)
def test_every_kind_of_other_ink_has_ink(kind: object, sources: Sources, digits: Split) -> None:
    alone = of_digits(digits.images[:200], digits.labels[:200])
    for seed in range(12):
        for made_of in (sources, alone):
            ink = kind(made_of, 40.0, rng(seed))  # type: ignore[operator]
            assert ink.dtype == np.float32
            assert ink.max() > 0.3
            assert min(ink.shape) >= 1


def test_no_letter_is_an_upright_stroke(sources: Sources) -> None:
    shapes = [inks.letter(sources, 40.0, rng(seed)).shape for seed in range(60)]
    assert min(width / height for height, width in shapes) >= inks.NARROW
