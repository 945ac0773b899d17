"""A recipe as a scikit-learn classifier, for pipelines, cross-validation and searches over settings.

    >>> from digitry.training import DigitClassifier
    >>> classifier = DigitClassifier("dense-128", epochs=3).fit(X, y)      # doctest: +SKIP
    >>> classifier.predict_proba(X[:1])                                    # doctest: +SKIP

It follows scikit-learn's rules for estimators (scikit-learn.org/stable/developers/develop.html).
"""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, check_is_fitted, validate_data

from digitry import files
from digitry.errors import DataError, UsageError
from digitry.model.artifact import DIGIT_CLASSES, LABELS, Metadata
from digitry.reading.classifier import Classifier, softmax
from digitry.training import recipes
from digitry.training.data.dataset import Split
from digitry.training.recipes import Recipe

SIDE = 28
PIXELS = SIDE * SIDE

OVERRIDES = (
    "hidden", "dropout", "optimizer", "learning_rate", "batch_size", "epochs", "validation", "augment",
)  # fmt: skip
"""Fields of a recipe that are also parameters of the classifier; None = the recipe's own value."""


class InputError(DataError, ValueError):
    """X or y is not valid for a `DigitClassifier`; also a `ValueError`, as scikit-learn expects."""


class DigitClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains a recipe on images of digits, and classifies images.

    X is (n, 784) or (n, 28, 28), ink on a background of 0. The range depends on the type: whole
    numbers from 0 to 255, floating-point numbers from 0 to 1, booleans False or True for ink. Other
    values are refused, because the scale cannot be guessed safely. y has at most ten classes, of any
    type; if they are the digits 0 to 9, the fitted model can be saved for reading.

    Training is that of `digitry train`: on the same machine, the same X, y and parameters give the same
    model. It uses all cores, so use `n_jobs=1` in searches over settings.

    Args:
        recipe: the name of a recipe, or a `Recipe`.
        hidden: as in the recipe; None = the recipe's own, here and below.
        dropout: as in the recipe.
        optimizer: as in the recipe.
        learning_rate: as in the recipe.
        batch_size: as in the recipe.
        epochs: as in the recipe.
        validation: the share of X, from its end, that is not trained on and gives the validation
            scores in `history_`.
        augment: as in the recipe.
        random_state: a seed, or a `RandomState` that gives one; None = the recipe's own seed.
        device: `auto`, `cpu`, `cuda` or `mps`.

    Attributes:
        classes_: (k,) the labels, sorted.
        n_features_in_: 784.
        history_: one `Epoch` per epoch.
        n_iter_: number of epochs.
        artifact_: the trained model as a model file in memory.
    """

    def __init__(
        self,
        recipe: str | Recipe = "dense-128",
        *,
        hidden: tuple[int, ...] | None = None,
        dropout: float | None = None,
        optimizer: str | None = None,
        learning_rate: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        validation: float | None = None,
        augment: str | None = None,
        random_state: "int | np.random.RandomState | None" = None,
        device: str = "auto",
    ) -> None:
        self.recipe = recipe
        self.hidden = hidden
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.epochs = epochs
        self.validation = validation
        self.augment = augment
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 (scikit-learn's names)
        """Train on images and their labels.

        Args:
            X: (n, 784) or (n, 28, 28), see the class.
            y: (n,) labels.

        Raises:
            ValueError: X or y is not valid.
            UsageError: a parameter is out of its range.
            UnavailableError: the device is not available.
            KeyboardInterrupt: at Ctrl-C; nothing is fitted then.
        """
        from digitry.training.loop import train
        from digitry.training.network import convert

        rows, y = validate_data(self, _rows(X), y)
        check_classification_targets(y)
        images = self._images(rows)
        classes = np.unique(y)
        if len(classes) < 2:
            raise InputError(
                f"y has only one class, {classes[0]}", remedy="give two or more classes"
            )
        if len(classes) > DIGIT_CLASSES:
            raise InputError(
                f"y has {len(classes)} classes", remedy=f"give at most {DIGIT_CLASSES} classes"
            )
        recipe = self._chosen()
        labels = _codes(classes)[np.searchsorted(classes, y)]
        try:
            trained = train.train(recipe, Split(images, labels), device=self.device)
        except DataError as error:
            raise InputError(error.what, where=error.where, remedy=error.remedy) from error
        if trained.interrupted:
            raise KeyboardInterrupt
        self.classes_ = classes
        self.history_ = trained.history
        self.n_iter_ = len(trained.history)
        metadata = Metadata(
            name=recipe.name,
            labels=LABELS[:DIGIT_CLASSES],
            recipe=recipe.to_dict(),
        )
        self.artifact_ = convert.as_artifact(trained.model, metadata)
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class, computed with ONNX Runtime as in reading.

        Args:
            X: (n, 784) or (n, 28, 28), see the class.

        Returns:
            (n, k) float64, columns as `classes_`, rows sum to 1; not calibrated.

        Raises:
            NotFittedError: the classifier is not fitted.
            ValueError: X is not valid.
        """
        check_is_fitted(self, "artifact_")
        rows = validate_data(self, _rows(X), reset=False)
        glyphs = self._images(rows).astype(np.float32) / np.float32(255)
        logits = Classifier(self.artifact_).logits(glyphs)[:, _codes(self.classes_)]
        return softmax(logits)

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """Return the most probable class of each image.

        Args:
            X: (n, 784) or (n, 28, 28), see the class.

        Returns:
            (n,) labels, of the same type as y.

        Raises:
            NotFittedError: the classifier is not fitted.
            ValueError: X is not valid.
        """
        check_is_fitted(self, "artifact_")
        chosen: npt.NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen

    def save(self, path: str | Path) -> Path:
        """Write the fitted model as a model file for `digitry read --model`.

        Raises:
            NotFittedError: the classifier is not fitted.
            UsageError: the classes are not digits.
            DigitryError: the file cannot be written.
        """
        check_is_fitted(self, "artifact_")
        if not _are_digits(self.classes_):
            raise UsageError(
                f"the classes are {self.classes_.tolist()}",
                remedy="fit with the labels 0 to 9 as integers, such as y.astype(int)",
            )
        files.write_bytes(Path(path), self.artifact_.onnx)
        return Path(path)

    def _images(self, X: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:  # noqa: N803
        """Turn checked rows of X into (n, 28, 28) uint8; scikit-learn's checks need another shape."""
        return images_of(X)

    def _chosen(self) -> Recipe:
        chosen = self.recipe if isinstance(self.recipe, Recipe) else recipes.find(self.recipe)
        values = {
            name: getattr(self, name) for name in OVERRIDES if getattr(self, name) is not None
        }
        if self.random_state is not None:
            values["seed"] = int(check_random_state(self.random_state).randint(2**31 - 1))
        # scikit-learn's searches pass NumPy numbers, and lists instead of tuples.
        return replace(chosen, **{name: _plain(value) for name, value in values.items()})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = True
        return tags


def images_of(X: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:  # noqa: N803
    """Return rows of numbers as images.

    Args:
        X: (n, 784); whole numbers in 0 to 255, floating-point numbers in [0, 1], or booleans.

    Returns:
        (n, 28, 28) uint8, ink = 255.

    Raises:
        InputError: it has another shape, type or range.
    """
    if X.ndim != 2 or X.shape[1] != PIXELS:
        raise InputError(
            f"X has the shape {X.shape}", remedy="give (n, 784) or (n, 28, 28), one digit per row"
        )
    if X.dtype.kind == "b":
        pixels = X * np.uint8(255)
    elif X.dtype.kind in "iu":
        _within(X, 255, "whole numbers")
        pixels = X
    elif X.dtype.kind == "f":
        _within(X, 1, "floating-point numbers")
        pixels = np.rint(X * 255)
    else:
        raise InputError(f"X holds {X.dtype}", remedy="give numbers")
    return pixels.astype(np.uint8).reshape(-1, SIDE, SIDE)


def _within(X: npt.NDArray[Any], most: int, kind: str) -> None:  # noqa: N803
    low, high = X.min(), X.max()
    if low < 0:
        raise InputError(
            f"Negative values in data passed to DigitClassifier: X holds {low:g}",
            remedy="give values of 0 or more",
        )
    if high > most:
        remedy = (
            "divide by 255, or give whole numbers"
            if most == 1
            else "scale them to 0 to 255, or give floating-point numbers from 0 to 1"
        )
        raise InputError(f"X holds {kind} up to {high:g}; at most {most} is valid", remedy=remedy)


def _rows(X: Any) -> Any:  # noqa: N803
    """Return (n, 28, 28) images as (n, 784) rows; everything else unchanged, for scikit-learn's checks."""
    if isinstance(X, list | tuple):
        # scikit-learn reports lists of unequal lengths itself.
        with contextlib.suppress(ValueError):
            X = np.asarray(X)  # noqa: N806
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) == 3:
        if tuple(shape[1:]) != (SIDE, SIDE):
            raise InputError(
                f"X has the shape {tuple(shape)}", remedy="give (n, 784) or (n, 28, 28)"
            )
        return np.asarray(X).reshape(_num_samples(X), PIXELS)
    return X


def _are_digits(classes: npt.NDArray[Any]) -> bool:
    return classes.dtype.kind in "iu" and bool(classes[0] >= 0 and classes[-1] < DIGIT_CLASSES)


def _codes(classes: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the network's output for each class: digits keep their own, other labels are numbered."""
    places = classes if _are_digits(classes) else np.arange(len(classes))
    return places.astype(np.uint8)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_plain(part) for part in value)
    return value.item() if isinstance(value, np.generic) else value
