"""Robustness scores, with classifiers whose answers are known."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from digitry.errors import DataError
from digitry.training.data.dataset import Split
from digitry.training.evaluation import robustness as module
from digitry.training.evaluation.corruptions import CORRUPTIONS, PUBLISHED
from digitry.training.evaluation.robustness import Robustness, measure, robustness


def split(labels: list[int]) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), 28, 28), np.uint8)
    return Split(images, np.array(labels, np.uint8))


def always(said: int, likeliest: int) -> module.Answer:
    return lambda images: (np.full(len(images), said), np.full(len(images), likeliest))


def test_every_corruption_and_severity_is_counted() -> None:
    found = measure(always(7, 7), split([7, 7, 7, 1]))
    assert [one.name for one in found.corruptions] == list(CORRUPTIONS)
    for one in found.corruptions:
        assert one.errors == (0.25,) * 5
        assert one.refused == (0.0,) * 5
    assert found.mean_error == found.clean_error == found.forced_error == 0.25
    assert found.count == 4


def test_a_refusal_is_an_error_but_its_likeliest_digit_may_be_right() -> None:
    found = measure(always(10, 7), split([7, 7, 1, 1]))
    assert found.mean_error == 1
    assert found.refused == 1
    assert found.forced_error == found.published_error == 0.5


def test_means_are_over_all_severities_or_the_published_ones() -> None:
    calls = iter(range(76))

    def answer(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Right at first, then wrong at the severities 4 and 5 of each corruption.
        call = next(calls)
        wrong = call > 0 and (call - 1) % 5 >= 3
        labels = np.array([2, 3]) + wrong
        return labels, labels

    found = measure(answer, split([2, 3]))
    assert found.clean_error == 0
    assert found.mean_error == pytest.approx(0.4)
    assert found.corruptions[0].mean == pytest.approx(0.4)
    assert found.published_error == pytest.approx(sum(s >= 4 for s in PUBLISHED.values()) / 15)


def test_the_interval_takes_an_image_as_one_observation() -> None:
    found = measure(always(7, 7), split([7] * 50 + [1] * 50))
    half = 1.96 * np.std([0] * 50 + [1] * 50, ddof=1) / 10
    assert found.interval == pytest.approx((0.5 - half, 0.5 + half), abs=1e-4)
    assert measure(always(7, 7), split([7])).interval == (0, 1)


def test_only_digits_are_used_and_at_most_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert measure(always(7, 7), split([7, 10, 10])).count == 1
    with pytest.raises(DataError, match="no images of digits"):
        measure(always(7, 7), split([10]))
    monkeypatch.setattr(module, "MOST", 3)
    # Spread evenly: both halves are met.
    assert measure(always(7, 7), split([7] * 5 + [1] * 4)).mean_error == pytest.approx(1 / 3)


def test_robustness_goes_through_json() -> None:
    found = measure(always(7, 7), split([7, 1, 2]))
    assert Robustness.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_progress_is_one_line_per_corruption_without_a_terminal() -> None:
    text = io.StringIO()
    measure(always(7, 7), split([7]), console=Console(file=text))
    lines = text.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["clean", *CORRUPTIONS]


def test_the_shipped_model_reads_clean_digits_better_than_corrupted_ones() -> None:
    pytest.importorskip("sklearn")
    from digitry.training.datasets import load_dataset

    few = load_dataset("uci").test.take(np.arange(0, 299, 15))
    found = robustness("reader", few)
    assert found.clean_error < found.mean_error < 1
    # It can refuse, and refusing is no misreading.
    assert found.refused > 0
    assert found.forced_error <= found.mean_error


def test_the_pictures_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    from digitry.training.report.robustness_plot import write_corruptions, write_robustness

    digits = split([7, 1, 2])
    found = measure(always(7, 7), digits)
    for path in (
        write_robustness(found, "a model on some $ data", tmp_path / "new"),
        write_corruptions(digits.images, tmp_path / "new"),
    ):
        with Image.open(path) as picture:
            assert min(picture.size) > 900
            assert len(np.unique(np.asarray(picture))) > 20
