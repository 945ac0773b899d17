"""Named data sets and users' own have the same form and the same rule for held-out images."""

from pathlib import Path

import numpy as np
import pytest

from digitry.errors import DataError
from digitry.training.data.dataset import hold_out
from digitry.training.datasets import load_dataset

# --- uci ------------------------------------------------------------------------------------------


def test_uci_is_always_there_and_its_test_part_never_changes() -> None:
    data = load_dataset("uci", offline=True)
    assert (len(data.train), len(data.test)) == (1498, 299)
    assert "CC BY 4.0" in data.licence
    assert data.test.labels[:12].tolist() == [1, 7, 9, 2, 3, 5, 7, 0, 0, 8, 4, 2]
    counts = np.bincount(data.test.labels)
    assert counts.min() >= 29
    assert counts.max() <= 30


def test_uci_images_have_the_form_of_mnist() -> None:
    images = load_dataset("uci").train.images.astype(float)
    rows, columns = images.max(axis=2) > 60, images.max(axis=1) > 60
    assert max(rows.sum(axis=1).max(), columns.sum(axis=1).max()) <= 22
    assert images.max(axis=(1, 2)).min() > 200
    mass = images.sum(axis=(1, 2))
    y = (images.sum(axis=2) * np.arange(28)).sum(axis=1) / mass
    x = (images.sum(axis=1) * np.arange(28)).sum(axis=1) / mass
    assert np.abs(np.stack([y, x]) - 14).max() < 0.75
    # Ink covers about as much of the image as in MNIST, 19%.
    assert 0.15 < (images > 0).mean() < 0.25


# --- users' own -----------------------------------------------------------------------------------


def own(path: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.savez(path / "own.npz", images=images, labels=labels)
    return str(path / "own.npz")


def test_a_sixth_of_each_class_is_held_out_and_it_is_the_same_sixth_in_any_order(
    tmp_path: Path,
) -> None:
    noise = np.random.default_rng(1)
    images = noise.integers(0, 100, (120, 28, 28), np.uint8)
    labels = (np.arange(120) % 10).astype(np.uint8)
    first = load_dataset(own(tmp_path, images, labels))
    order = noise.permutation(120)
    second = load_dataset(own(tmp_path, images[order], labels[order]))
    assert np.bincount(first.test.labels).tolist() == [2] * 10
    assert {image.tobytes() for image in first.test.images} == {
        image.tobytes() for image in second.test.images
    }
    assert "a sixth of each class held out" in first.source
    # A set that is not grouped keeps its order.
    assert first.train.names[0] == "images[0]"
    assert list(first.train.names) == sorted(first.train.names, key=lambda name: int(name[7:-1]))


def test_a_set_grouped_by_class_is_mixed_so_that_its_end_has_all_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 100, (600, 28, 28), np.uint8)
    labels = (np.arange(600) // 60).astype(np.uint8)
    data = load_dataset(own(tmp_path, images, labels))
    _, validation = hold_out(data.train, 0.2)
    assert set(validation.labels.tolist()) == set(range(10))
    for row in (0, 99):
        source = int(data.train.names[row][7:-1])
        assert np.array_equal(images[source], data.train.images[row])
        assert labels[source] == data.train.labels[row]


def test_a_set_too_small_to_hold_out_from_is_refused(tmp_path: Path) -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    with pytest.raises(DataError, match="one image per class"):
        load_dataset(own(tmp_path, images, np.array([0, 1])))
