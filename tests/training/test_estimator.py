"""`DigitClassifier` passes scikit-learn's checks, checks its images, and works in searches."""

import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from digitry.errors import DigitryError, UsageError
from digitry.model.load import load_model
from digitry.training import DigitClassifier
from digitry.training.data.dataset import Dataset
from digitry.training.datasets import load_dataset
from digitry.training.estimator import InputError, images_of
from digitry.training.evaluation import scores
from digitry.training.loop import train
from digitry.training.recipes import RECIPES


class Bars(DigitClassifier):
    """The classifier on any table: scikit-learn's checks know no pictures, so each row is drawn as one.

    A column becomes a bar as long as its value. All else is the class itself.
    """

    def _images(self, X: Any) -> Any:  # noqa: N803
        if (X < 0).any():
            return super()._images(np.full((1, 784), -1.0))
        width = 28 if X.shape[1] <= 28 else 784 // X.shape[1]
        length = X.astype(np.float64)[:, :, None] * width / 6
        bars = np.clip(length - np.arange(width), 0, 1).reshape(len(X), -1)
        return images_of(np.pad(bars, ((0, 0), (0, 784 - bars.shape[1]))))


BARS = Bars(hidden=(32,), epochs=8, batch_size=20, learning_rate=5e-3, validation=0.0)


@parametrize_with_checks([BARS])
def test_scikit_learns_own_checks_pass(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        # Some checks warn on purpose and check the warnings themselves.
        warnings.simplefilter("ignore")
        check(estimator)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("uci")


@pytest.fixture(scope="module")
def fitted(digits: Dataset) -> DigitClassifier:
    return DigitClassifier(epochs=4, random_state=3).fit(digits.train.images, digits.train.labels)


def test_it_reads_digits(fitted: DigitClassifier, digits: Dataset) -> None:
    assert fitted.score(digits.test.images, digits.test.labels) > 0.9
    np.testing.assert_array_equal(fitted.classes_, np.arange(10))
    assert fitted.n_features_in_ == 784
    assert fitted.n_iter_ == len(fitted.history_) == 4
    shares = fitted.predict_proba(digits.test.images[:7])
    assert shares.shape == (7, 10)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_array_equal(shares.argmax(axis=1), fitted.predict(digits.test.images[:7]))


def test_it_trains_as_the_engine_does(fitted: DigitClassifier, digits: Dataset) -> None:
    recipe = RECIPES["dense-128"].override(
        {"epochs": "4", "seed": str(fitted.artifact_.metadata.recipe["seed"])}
    )
    trained = train.train(recipe, digits.train)
    assert [epoch.loss for epoch in fitted.history_] == [epoch.loss for epoch in trained.history]
    found, shares = scores.evaluate(fitted.artifact_, digits.test)
    assert found.accuracy == fitted.score(digits.test.images, digits.test.labels)
    np.testing.assert_allclose(fitted.predict_proba(digits.test.images), shares, atol=1e-6)


def test_every_form_of_the_same_pictures_gives_the_same_answer(
    fitted: DigitClassifier, digits: Dataset
) -> None:
    images = digits.test.images[:20]
    expected = fitted.predict_proba(images)
    flat = images.reshape(20, 784)
    for same in (flat, flat.astype(np.int64), flat / 255, images / np.float32(255), flat.tolist()):
        np.testing.assert_array_equal(fitted.predict_proba(same), expected)
    ink = flat > 127
    np.testing.assert_array_equal(fitted.predict_proba(ink), fitted.predict_proba(ink * 255))


def test_one_image_gives_the_same_result_as_in_a_batch(
    fitted: DigitClassifier, digits: Dataset
) -> None:
    together = fitted.predict_proba(digits.test.images[:37])
    alone = [fitted.predict_proba(digits.test.images[n : n + 1])[0] for n in range(37)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (np.zeros((3, 783)), "(n, 784)"),
        (np.zeros((3, 20, 20)), "(3, 20, 20)"),
        (np.full((3, 784), 255.0), "divide by 255"),
        (np.full((3, 784), 1.01, np.float32), "divide by 255"),
        (np.full((3, 784), 256), "0 to 255"),
        (np.full((3, 784), -1), "give values of 0 or more"),
        (np.full((3, 784), -0.1), "give values of 0 or more"),
        (np.full((3, 784), np.nan), "NaN"),
        (np.full((3, 784), "a"), "Convert"),
        (np.zeros((3, 784), "datetime64[s]"), "holds datetime64"),
    ],
)
def test_invalid_images_are_a_value_error_with_a_reason(rows: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        DigitClassifier(epochs=1).fit(rows, [1, 2, 3])
    assert words in str(caught.value)


def test_its_own_errors_are_digitrys_and_scikit_learns() -> None:
    with pytest.raises(InputError) as caught:
        DigitClassifier().fit(np.zeros((2, 3)), [1, 2])
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, DigitryError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_more_than_ten_classes_are_refused() -> None:
    with pytest.raises(InputError, match="11 classes"):
        DigitClassifier().fit(np.zeros((22, 784)), np.arange(22) % 11)


def test_a_parameter_out_of_range_is_named(digits: Dataset) -> None:
    few = digits.train.images[:20], digits.train.labels[:20]
    for wrong, words in (
        ({"recipe": "dense-129"}, "dense-129"),
        ({"hidden": (0,)}, "hidden"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"epochs": 0}, "epochs"),
    ):
        with pytest.raises(UsageError, match=words):
            DigitClassifier(**wrong).fit(*few)


@pytest.mark.parametrize("hidden", [32, "32", (32.7,), [16, "8"]])
def test_layer_sizes_that_are_not_whole_numbers_are_refused(digits: Dataset, hidden: Any) -> None:
    with pytest.raises(UsageError, match=r"hidden.*whole numbers"):
        DigitClassifier(hidden=hidden).fit(digits.train.images[:20], np.arange(20) % 2)


def test_layers_may_come_as_a_list_or_an_array(digits: Dataset) -> None:
    for hidden in ([8, 4], np.array([8, 4])):
        few = DigitClassifier(hidden=hidden, epochs=1)
        few.fit(digits.train.images[:40].tolist(), digits.train.labels[:40])
        assert few.artifact_.metadata.recipe["hidden"] == [8, 4]


def test_labels_may_be_words(digits: Dataset) -> None:
    chosen = np.flatnonzero(digits.train.labels < 2)
    names = np.array(["zero", "one"])[digits.train.labels[chosen]]
    found = DigitClassifier(hidden=(16,), epochs=5).fit(digits.train.images[chosen], names)
    assert found.score(digits.train.images[chosen], names) > 0.95
    assert found.predict_proba(digits.train.images[:3]).shape == (3, 2)
    with pytest.raises(UsageError, match="fit with the labels 0 to 9"):
        found.save("model.onnx")


def test_some_digits_alone_keep_their_place_in_the_model_file(
    digits: Dataset, tmp_path: Path
) -> None:
    chosen = np.flatnonzero(np.isin(digits.train.labels, (3, 8)))
    images, labels = digits.train.images[chosen], digits.train.labels[chosen]
    found = DigitClassifier(hidden=(16,), epochs=5).fit(images, labels)
    assert found.score(images, labels) > 0.95
    logits = scores.infer(load_model(found.save(tmp_path / "model.onnx")), images)
    assert (logits.argmax(axis=1) == labels).mean() > 0.95


def test_the_same_random_state_gives_the_same_model_and_survives_pickling(digits: Dataset) -> None:
    images, y = digits.train.images[:100], digits.train.labels[:100]
    made = [
        DigitClassifier(hidden=(8,), epochs=1, random_state=s).fit(images, y) for s in (1, 1, 2)
    ]
    first, same, other = (one.predict_proba(images) for one in made)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made[0])).predict_proba(images), first)
    given = DigitClassifier(hidden=(8,), epochs=1, random_state=np.random.RandomState(1))
    np.testing.assert_array_equal(given.fit(images, y).predict_proba(images), first)


def test_it_searches_in_pipelines_and_over_settings(digits: Dataset) -> None:
    images, y = digits.train.images[:300].reshape(300, 784), digits.train.labels[:300]
    whole = make_pipeline(
        FunctionTransformer(lambda rows: rows / 255), DigitClassifier(epochs=3, hidden=(32,))
    )
    search = GridSearchCV(
        whole, {"digitclassifier__learning_rate": [1e-5, np.float64(5e-3)]}, cv=2
    ).fit(images, y)
    assert search.best_params_ == {"digitclassifier__learning_rate": 5e-3}
    assert cross_val_score(clone(whole), images, y, cv=2).mean() > 0.3


def test_an_interrupted_fit_raises_and_fits_nothing(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = train.build

    def build(*given: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return real(*given)

    monkeypatch.setattr(train, "build", build)
    classifier = DigitClassifier(epochs=1)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(digits.train.images[:50], digits.train.labels[:50])
    with pytest.raises(NotFittedError):
        classifier.predict(digits.train.images[:1])


def test_a_custom_recipe_is_accepted(digits: Dataset) -> None:
    own = RECIPES["dense-512"].override({"hidden": "8", "epochs": "1"})
    found = DigitClassifier(own, batch_size=50).fit(
        digits.train.images[:100], digits.train.labels[:100]
    )
    assert found.artifact_.metadata.recipe["optimizer"] == "rmsprop"
    assert found.artifact_.metadata.recipe["batch_size"] == 50


def test_it_is_imported_only_on_first_use() -> None:
    code = (
        "import sys, digitry.training\n"
        "assert 'DigitClassifier' in dir(digitry.training)\n"
        "assert not {'sklearn', 'torch', 'keras', 'numpy'} & set(sys.modules)\n"
        "from digitry.training import DigitClassifier\n"
        "assert not {'torch', 'keras', 'onnx', 'matplotlib'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
