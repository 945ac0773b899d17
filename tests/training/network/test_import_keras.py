"""The command line imports Keras without its optional dependencies, which can be imported later."""

import subprocess
import sys
import textwrap

import pytest


def answers(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_keras_is_imported_without_its_optional_dependencies() -> None:
    heavy = answers(
        """
        import sys
        from digitry.training.network import import_keras
        import_keras.import_keras()
        from digitry.training.loop import train as engine
        print("keras" in sys.modules)
        print(*[name for name in ("sklearn", "jax", "matplotlib", "torch._dynamo") if name in sys.modules])
        """
    )
    assert heavy == ["True"]


def test_hidden_modules_can_be_imported_afterwards() -> None:
    pytest.importorskip("sklearn")
    found = answers(
        """
        from digitry.training.network import import_keras
        import_keras.import_keras()
        import sklearn.base, matplotlib.figure, torch._dynamo
        print(hasattr(torch._dynamo, "optimize"), sklearn.base.BaseEstimator.__name__)
        """
    )
    assert found == ["True", "BaseEstimator"]


def test_a_step_is_recorded_without_the_compiler() -> None:
    loaded = answers(
        """
        import sys
        import numpy as np
        from digitry.training.network import import_keras
        import_keras.import_keras()
        from digitry.training.loop.train import train
        from digitry.training.data.dataset import Split
        from digitry.training.recipes import Recipe
        split = Split(np.zeros((40, 28, 28), np.uint8), np.arange(40, dtype=np.uint8) % 10)
        train(Recipe(name="tiny", hidden=(8,), batch_size=16, epochs=1), split, device="cpu")
        print("done", *[n for n in ("torch._dynamo", "torch._inductor", "sympy") if n in sys.modules])
        """
    )
    assert loaded == ["done"]


def test_an_imported_keras_is_not_changed() -> None:
    same = answers(
        """
        import os
        os.environ["KERAS_BACKEND"] = "torch"
        import keras
        from digitry.training.network import import_keras
        import_keras.import_keras()
        import keras as again
        print(again is keras)
        """
    )
    assert same == ["True"]


def test_a_keras_that_needs_hidden_modules_is_imported_completely() -> None:
    whole = answers(
        """
        import sys
        from digitry.training.network import import_keras
        import_keras._OPTIONAL += ("absl",)
        import_keras.import_keras()
        from digitry.training.network import build
        print(build.keras.__version__ != "", "absl" in sys.modules)
        """
    )
    assert whole == ["True", "True"]
