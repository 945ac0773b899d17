import numpy as np
import pytest

from digitry.training.writing import camera


def ink() -> np.ndarray:
    image = np.zeros((32, 60), np.uint8)
    image[6:26, 10:13] = 255
    image[6:26, 30:34] = 255
    return image


def test_a_spoilt_strip_is_a_strip_in_0_to_1():
    for seed in range(200):
        strip = camera.spoilt(ink(), np.random.default_rng(seed))
        assert strip.shape == (32, 60)
        assert strip.dtype == np.float32
        assert 0 <= strip.min() <= strip.max() <= 1


def test_ink_stays_darker_than_paper():
    for seed in range(200):
        strip = camera.spoilt(ink(), np.random.default_rng(seed))
        assert strip[8:24, 11].mean() > strip[8:24, 20:24].mean()


def test_a_thresholded_strip_is_black_and_white():
    strip = ink().astype(np.float32) / 400
    assert set(np.unique(camera.thresholded(strip, np.random.default_rng(0)))) == {0.0, 1.0}


@pytest.mark.parametrize("spoil", [camera.pen, camera.coarse, camera.blurred])
def test_what_a_camera_does_to_ink_keeps_its_shape(spoil):
    for seed in range(20):
        assert spoil(ink(), np.random.default_rng(seed)).shape == (32, 60)
