"""Digests that are stored stay what they are: corrections, data sets and splits go by them."""

import io

import numpy as np
import pytest
from PIL import Image

from digitry.fingerprint import sha256_of
from digitry.training.data.dataset import Split, by_content, dataset_of

IMAGES = (np.arange(4 * 784) % 251).astype(np.uint8).reshape(4, 28, 28)
SPLIT = Split(IMAGES, np.arange(4, dtype=np.uint8))
ONE = "e6cf388c24e4be382a9503b2ca161daf16e5be92cf2d1d81ba8a19ab17c8b279"


def test_a_picture_is_known_by_its_pixels() -> None:
    assert sha256_of(IMAGES[0]) == ONE
    # However they lie in memory.
    assert sha256_of(np.asfortranarray(IMAGES[0])) == ONE
    assert sha256_of(IMAGES[0].reshape(14, 56)) != ONE


def test_a_correction_is_known_by_the_pixels_of_its_glyph() -> None:
    pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")
    from digitry.corrections.store import _pixels_sha256

    for options in ({}, {"compress_level": 0}):
        packed = io.BytesIO()
        Image.fromarray(IMAGES[0]).save(packed, "PNG", **options)
        assert _pixels_sha256(packed.getvalue()) == ONE


def test_a_data_set_is_known_by_its_images_and_labels() -> None:
    found = dataset_of("any name", SPLIT, SPLIT.take([1, 0]), "a licence", "a folder")
    assert found.sha256 == "9312b35eeea0b00f9a1f4ce7622d180556500924f0906bff05621ea4f398d2d6"


def test_images_are_put_into_the_same_order_for_ever() -> None:
    images = (np.arange(12 * 784) % 251).astype(np.uint8).reshape(12, 28, 28)
    assert by_content(images, np.arange(12)).tolist() == [0, 5, 1, 2, 3, 9, 8, 7, 10, 11, 6, 4]


def test_the_digests_that_predictions_and_checkpoints_are_kept_with_stay() -> None:
    pytest.importorskip("torch", reason="the extra `train` is not installed")
    from digitry.training.evaluation import scores
    from digitry.training.loop import checkpoint

    assert scores.fingerprint(SPLIT).startswith("d5ba417ea63b0879")
    assert checkpoint.fingerprint(SPLIT).startswith("8542e48eef1d12aa")
