"""The fifteen disputed labels of MNIST's test part, and the scores without them."""

from pathlib import Path

import numpy as np
import pytest

from digitry.errors import DataError
from digitry.training.evaluation import disputed, scores
from digitry.training.evaluation.scores import Evaluation, wilson


def logits(said: list[int]) -> np.ndarray:
    return 10 * np.eye(10)[said]


def test_there_are_fifteen_each_with_a_text() -> None:
    assert len(disputed.DISPUTED) == 15
    assert list(disputed.DISPUTED) == sorted(disputed.DISPUTED)
    assert all(0 <= place < 10_000 for place in disputed.DISPUTED)
    assert sum("most people say neither" in text for text in disputed.DISPUTED.values()) == 3
    assert sum("split" in text for text in disputed.DISPUTED.values()) == 2


def test_other_sets_have_none() -> None:
    assert disputed.disputed_in("0" * 64) == ()
    assert disputed.disputed_in(disputed.MNIST_TEST) == tuple(disputed.DISPUTED)


def test_the_accuracy_without_them_is_given_beside_the_official_one() -> None:
    labels = np.array([1, 2, 3, 4, 5], np.uint8)
    found = scores.score(logits([1, 2, 3, 9, 9]), labels, disputed=(3,))
    assert found.accuracy == 0.6
    assert found.interval == wilson(3, 5)
    assert found.accuracy_undisputed == 0.75
    assert found.interval_undisputed == wilson(3, 4)
    assert found.disputed == 1
    assert Evaluation.from_dict(found.to_dict()) == found


def test_without_disputed_labels_the_undisputed_scores_are_none() -> None:
    found = scores.score(logits([1]), np.array([1], np.uint8))
    assert (found.disputed, found.accuracy_undisputed, found.interval_undisputed) == (0, None, None)
    assert Evaluation.from_dict(found.to_dict()) == found


def test_an_older_evaluation_is_still_read() -> None:
    facts = scores.score(logits([1]), np.array([1], np.uint8)).to_dict()
    for name in ("disputed", "accuracy_undisputed", "interval_undisputed", "refused"):
        del facts[name]
    assert Evaluation.from_dict(facts).accuracy_undisputed is None


@pytest.mark.data
def test_mnists_test_part_is_recognised_by_its_content(mnist_dir: Path) -> None:
    from digitry.training.datasets import load_dataset

    try:
        test = load_dataset("mnist", data_dir=mnist_dir, offline=True).test
    except DataError as error:
        pytest.fail(str(error))
    assert scores.fingerprint(test) == disputed.MNIST_TEST
    for place, text in disputed.DISPUTED.items():
        assert text.startswith(f"labelled {test.labels[place]}, ")
    found, _ = scores.evaluate("reader", test)
    assert found.disputed == 15
    assert found.accuracy_undisputed is not None
    assert found.accuracy_undisputed > found.accuracy
