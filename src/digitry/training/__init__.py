"""Training: from a data set to a model, a model file and a report.

>>> from digitry.training import RECIPES, evaluate, load_dataset, train

Each name is imported when it is first used, so that only what is needed is loaded.
"""

import os
from typing import TYPE_CHECKING

from digitry import processors

if TYPE_CHECKING:
    from digitry.training.datasets import load_dataset as load_dataset
    from digitry.training.estimator import DigitClassifier as DigitClassifier
    from digitry.training.evaluation.scores import evaluate as evaluate
    from digitry.training.loop.train import train as train
    from digitry.training.recipes import RECIPES as RECIPES

# OpenMP reads this when PyTorch is loaded, which some name below does.
os.environ.update(processors.waiting())

__all__ = ["RECIPES", "DigitClassifier", "evaluate", "load_dataset", "train"]

_HOMES = {
    "RECIPES": "digitry.training.recipes",
    "DigitClassifier": "digitry.training.estimator",
    "evaluate": "digitry.training.evaluation.scores",
    "load_dataset": "digitry.training.datasets",
    "train": "digitry.training.loop.train",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'digitry.training' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
