"""The command line imports Keras without its optional dependencies, which can be imported later."""

import subprocess
import sys
import textwrap

import pytest

from ...waiting import PATIENCE_S


def said(code: str) -> list[list[str]]:
    """Run code in a process of its own, and return the words of each line that it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def lines() -> list[list[str]]:
    """What one process, which imports Keras in our way and trains, prints at each stage."""
    return said(
        """
        import sys

        def loaded(*names):
            print(*[name for name in names if name in sys.modules], flush=True)

        from digitry.training.network import import_keras
        import_keras.import_keras()
        from digitry.training.loop import trackers
        from digitry.training.loop.train import train
        loaded("keras", "sklearn", "jax", "matplotlib", "torch._dynamo")

        import numpy as np
        from digitry.training.data.dataset import Split
        from digitry.training.recipes import Recipe
        split = Split(np.zeros((40, 28, 28), np.uint8), np.arange(40, dtype=np.uint8) % 10)
        train(Recipe(name="tiny", hidden=(8,), batch_size=16, epochs=1), split, device="cpu")
        loaded("keras", "torch._dynamo", "torch._inductor", "sympy")
        loaded("keras", "mlflow", "tensorboard", "torch.utils.tensorboard")

        import sklearn.base, matplotlib.figure, torch._dynamo
        print(hasattr(torch._dynamo, "optimize"), sklearn.base.BaseEstimator.__name__)
        """
    )


def test_keras_is_imported_without_its_optional_dependencies(lines: list[list[str]]) -> None:
    assert lines[0] == ["keras"]


def test_a_step_is_recorded_without_the_compiler(lines: list[list[str]]) -> None:
    assert lines[1] == ["keras"]


def test_trackers_are_only_loaded_on_request(lines: list[list[str]]) -> None:
    assert lines[2] == ["keras"]


def test_hidden_modules_can_be_imported_afterwards(lines: list[list[str]]) -> None:
    assert lines[3] == ["True", "BaseEstimator"]


def test_a_keras_that_needs_hidden_modules_is_imported_completely_and_then_not_changed() -> None:
    whole, same = said(
        """
        import sys
        from digitry.training.network import import_keras
        import_keras._OPTIONAL += ("absl",)
        import_keras.import_keras()
        assert "keras" not in sys.modules
        from digitry.training.network import build
        print(build.keras.__version__ != "", "absl" in sys.modules)

        loaded = dict(sys.modules)
        import_keras.import_keras()
        import keras
        print(keras is build.keras, sys.modules == loaded)
        """
    )
    assert whole == ["True", "True"]
    assert same == ["True", "True"]
