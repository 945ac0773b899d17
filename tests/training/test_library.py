"""Training from Python: it shows its progress and its curves, saves itself, and can be evaluated."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from digitry.errors import UsageError
from digitry.training import RECIPES, Recipe, Trained, evaluate, train
from digitry.training.data.dataset import Dataset, Split
from digitry.training.run_folder import MODELS, PLOTS, load_run

RECIPE = Recipe(name="tiny", hidden=(16,), batch_size=16, epochs=3, validation=0.25)


def digits(count: int, seed: int) -> Split:
    """Draw a bar for each label, at its own place."""
    labels = np.arange(count) % 10
    images = np.random.default_rng(seed).integers(0, 60, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4:24, 2 + 2 * label : 5 + 2 * label] = 255
    return Split(images, labels.astype(np.uint8))


DATA = Dataset("bars", digits(160, 1), digits(50, 2), "6" * 64, "free", "drawn here")


@pytest.fixture(scope="module")
def trained() -> Trained:
    return train(RECIPE, DATA, device="cpu", quiet=True)


def test_progress_is_shown_unless_it_is_turned_off(capsys: pytest.CaptureFixture[str]) -> None:
    train(replace(RECIPE, epochs=2), DATA.train, device="cpu")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "epoch 2/2" in shown.err
    train(replace(RECIPE, epochs=2), DATA.train, device="cpu", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_everything_is_shown_in_a_line(trained: Trained) -> None:
    assert repr(trained).startswith("<Trained tiny: 3 epochs in ")
    assert "held out " in repr(trained)
    assert repr(RECIPE) == "<Recipe tiny: dense 16; adam, batches of 16, 3 epochs>"
    assert repr(DATA) == "<Dataset bars: 160 training and 50 test images>"
    assert repr(DATA.test) == "<Split of 50 images>"
    lines = repr(RECIPES).splitlines()
    assert len(lines) == len(RECIPES)
    assert lines[0] == "<Recipe dense-256-128: dense 256, 128; adam, batches of 200, 10 epochs>"


def test_a_notebook_shows_the_curves(trained: Trained) -> None:
    tree = ElementTree.fromstring(trained._repr_html_())
    curves = [element for element in tree.iter() if element.tag.endswith("polyline")]
    assert len(curves) == 4  # loss and accuracy, on training and held-out images
    for curve in curves:
        assert len(curve.get("points", "").split()) == 3


def test_it_is_evaluated_as_its_run_folder_is(trained: Trained, tmp_path: Path) -> None:
    folder = trained.save(tmp_path / "run")
    assert {*MODELS, *PLOTS, "report.html", "metrics.json"} <= {
        one.name for one in folder.iterdir()
    }
    scored = load_run(folder).metrics["test"]["accuracy"]
    assert evaluate(trained, DATA.test)[0].accuracy == scored
    assert evaluate(folder, DATA.test)[0].accuracy == scored
    with pytest.raises(UsageError):
        trained.save(folder)


def test_saving_needs_images_to_score_on(tmp_path: Path) -> None:
    alone = train(replace(RECIPE, epochs=1), DATA.train, device="cpu", quiet=True)
    with pytest.raises(UsageError, match=r"no test images .*trained\.save\(folder, test="):
        alone.save(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert load_run(alone.save(tmp_path / "run", DATA.test)).metrics["data"]["test_images"] == 50


def run(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **variables}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def test_a_missing_extra_is_our_error_with_its_remedy() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from digitry import DigitryError\n"
        "try:\n    from digitry.training import train\n"
        "except DigitryError as error: print(error)"
    )
    assert run(program).stdout.strip() == (
        "digitry.training.train needs the extra `train`; not installed: torch; "
        "pip install 'digitry[train]'"
    )


@pytest.mark.parametrize("backend", ["nonsense", "module://nothing.at.all", "template"])
def test_a_foreign_backend_of_matplotlib_never_matters(backend: str) -> None:
    program = (
        "import os, sys\n"
        "from digitry.training.report import plots, network_plot, data_plot, robustness_plot\n"
        "from digitry.training.report.style import Figure\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "print(os.environ['MPLBACKEND'])"
    )
    done = run(program, MPLBACKEND=backend)
    assert (done.stdout.strip(), done.stderr) == (backend, "")
