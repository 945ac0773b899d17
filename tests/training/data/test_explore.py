"""Exploring finds planted faults in a data set, and nothing in a clean one."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digitry.training.data.dataset import Dataset, Split
from digitry.training.data.explore import explore
from digitry.training.datasets import load_dataset
from digitry.training.report.data_plot import write_pictures


def drawing(label: int, random: np.random.Generator) -> np.ndarray:
    """Return one shape per label, at a place, size and stroke width that vary."""
    y, x = random.integers(-2, 3, 2)
    image = np.zeros((28, 28), np.uint8)
    for part in range(3):
        row = 6 + (label * 5 + part * 7) % 15 + y
        column = 5 + (label * 3 + part * 5) % 13 + x
        image[row : row + 2 + part, column : column + 4 + label % 3] = random.integers(120, 255)
    return np.maximum(image, (random.random((28, 28)) < 0.03).astype(np.uint8) * 200)


def a_set(count: int = 200) -> Dataset:
    random = np.random.default_rng(3)
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.stack([drawing(int(label), random) for label in labels])
    train, test = Split(images[:-40], labels[:-40]), Split(images[-40:], labels[-40:])
    return Dataset("drawn", train, test, "0" * 64, "none", "drawn here")


def test_a_clean_set_has_no_findings() -> None:
    found = explore(a_set())
    assert found.train_counts == (16,) * 10
    assert found.test_counts == (4,) * 10
    assert not (found.blank or found.near_empty or found.inverted)
    assert not (found.duplicates or found.near or found.conflicts or found.leaks)


def test_blank_near_empty_and_inverted_images_are_found() -> None:
    data = a_set()
    data.train.images[5] = 0
    data.train.images[6] = 3
    data.train.images[7] = 0
    data.train.images[7, 14, 10:18] = 255
    data.test.images[3] = 255 - data.test.images[3]
    found = explore(data)
    assert [item.index for item in found.blank] == [5, 6]
    assert [item.index for item in found.near_empty] == [7]
    assert [(item.part, item.index) for item in found.inverted] == [("test", 3)]


def test_images_inverted_by_loading_are_reported() -> None:
    data = a_set()
    train = Split(data.train.images, data.train.labels, turned=(8,))
    found = explore(Dataset("drawn", train, data.test, "", "", ""))
    assert [item.index for item in found.inverted] == [8]


def test_equal_images_are_grouped_with_their_conflicts_and_leaks() -> None:
    data = a_set()
    data.train.images[50] = data.train.images[10]
    data.train.images[90] = data.train.images[10]
    data.train.images[33] = data.train.images[21]
    data.test.images[4] = data.train.images[14]
    found = explore(data)
    assert sorted([item.index for item in group] for group in found.duplicates) == [
        [10, 50, 90],
        [14, 4],
        [21, 33],
    ]
    (conflict,) = found.conflicts
    assert (conflict.first.index, conflict.second.index) == (21, 33)
    assert (conflict.first.label, conflict.second.label) == (1, 3)
    (leak,) = found.leaks
    assert (leak.first.part, leak.second.part) == ("train", "test")


def test_lighter_or_recompressed_copies_are_near_duplicates() -> None:
    data = a_set()
    data.train.images[60] = (data.train.images[11] * 0.7).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(data.train.images[12]).save(stream, "JPEG", quality=80)
    data.train.images[70] = np.asarray(Image.open(stream))
    found = explore(data)
    pairs = {(pair.first.index, pair.second.index) for pair in found.near}
    assert pairs == {(11, 60), (12, 70)}
    assert {(p.first.label, p.second.label) for p in found.conflicts} == {(1, 0), (2, 0)}
    assert all(0 <= pair.distance <= 0.08 for pair in found.near)


def test_near_duplicates_equal_those_of_a_brute_force_search() -> None:
    from digitry.training.data import explore as module

    random = np.random.default_rng(0)
    base = random.random((60, 784)).astype(np.float32)
    noisy = np.repeat(base, 5, axis=0) + random.normal(0, 0.0327, (300, 784)).astype(np.float32)
    units = (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)
    found = module._near(units, module._signatures(units), np.arange(300), block=32)
    distances = np.sqrt(np.maximum(2 - 2 * units.astype(float) @ units.astype(float).T, 0))
    expected = {(a, b) for a, b in np.argwhere(distances <= module.NEAR).tolist() if a < b}
    assert len(expected) > 100
    assert {(a, b) for a, b, _ in found} == expected
    assert [d for *_, d in found] == sorted(d for *_, d in found)


def test_a_wrong_label_has_the_highest_odd_score() -> None:
    data = a_set(400)
    data.train.labels[123] = 8
    found = explore(data)
    assert (found.odd[0].item.index, found.odd[0].looks_like) == (123, 3)
    assert found.odd[0].score > 1


def test_findings_are_json_also_for_tiny_and_one_class_sets() -> None:
    random = np.random.default_rng(3)
    images = np.stack([drawing(label, random) for label in (0, 1, 1)])
    tiny = Split(images, np.array([0, 1, 1], np.uint8), ("a.png", "b.png", "c.png"))
    blank = Split(np.zeros((2, 28, 28), np.uint8), np.array([0, 1], np.uint8))
    for train in (tiny, blank):
        data = Dataset("tiny", train, blank, "", "", "")
        found = explore(data)
        assert json.loads(json.dumps(found.to_dict()))["name"] == "tiny"
        assert found.odd == ()


def test_pictures_are_written_and_outdated_ones_deleted(tmp_path: Path) -> None:
    data = a_set()
    (tmp_path / "faults.png").write_bytes(b"of an earlier exploration")
    written = write_pictures(data, explore(data), tmp_path)
    assert {path.name for path in written} >= {
        "label_histogram.png",
        "samples.png",
        "samples_by_label.png",
        "odd.png",
    }
    assert not (tmp_path / "faults.png").exists()
    data.train.images[5] = 0
    data.train.images[6] = data.train.images[7]
    names = tuple(f"{'long' * 9}/$a$_{row}.png" for row in range(len(data.train)))
    data = Dataset("d", Split(data.train.images, data.train.labels, names), data.test, "", "", "")
    written = write_pictures(data, explore(data), tmp_path)
    assert len(written) == 6
    for path in written:
        with Image.open(path) as picture:
            assert picture.width > 700
            assert np.asarray(picture.convert("L")).std() > 10


@pytest.mark.data
def test_the_known_wrong_label_of_real_mnist_is_found(
    mnist_dir: Path,
) -> None:
    data = load_dataset("mnist", data_dir=mnist_dir, offline=True)
    found = explore(data)
    assert not (found.blank or found.near_empty or found.inverted or found.duplicates)
    assert not found.conflicts
    # train 59915 is a 7 that is labelled 4.
    assert (found.odd[0].item.index, found.odd[0].looks_like) == (59_915, 7)
