"""Training: from a data set to a model, a model file and a report.

>>> from digitry.training import RECIPES, evaluate, load_dataset, train

Each name is imported when it is first used, so that only what is needed is loaded.
"""

import os
from typing import TYPE_CHECKING

from digitry import processors
from digitry.errors import UnavailableError

if TYPE_CHECKING:
    from digitry.training.datasets import load_dataset as load_dataset
    from digitry.training.estimator import DigitClassifier as DigitClassifier
    from digitry.training.evaluation.scores import evaluate as evaluate
    from digitry.training.library import Trained as Trained
    from digitry.training.library import train as train
    from digitry.training.recipes import RECIPES as RECIPES
    from digitry.training.recipes import Recipe as Recipe

# OpenMP reads this when PyTorch is loaded, which some name below does.
os.environ.update(processors.waiting())

__all__ = [
    "RECIPES",
    "DigitClassifier",
    "Recipe",
    "Trained",
    "evaluate",
    "load_dataset",
    "train",
]

_HOMES = {
    "RECIPES": "digitry.training.recipes",
    "DigitClassifier": "digitry.training.estimator",
    "evaluate": "digitry.training.evaluation.scores",
    "load_dataset": "digitry.training.datasets",
    "Recipe": "digitry.training.recipes",
    "Trained": "digitry.training.library",
    "train": "digitry.training.library",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'digitry.training' has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "digitry"):
            raise
        raise UnavailableError(
            f"digitry.training.{name} needs the extra `train`; not installed: {missing}",
            remedy="pip install 'digitry[train]'",
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
