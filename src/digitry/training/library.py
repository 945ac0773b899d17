"""Training from Python and from notebooks: it shows its progress, its curves, and saves itself.

>>> from digitry.training import RECIPES, evaluate, load_dataset, train
>>> data = load_dataset("mnist")                      # doctest: +SKIP
>>> trained = train(RECIPES["dense-128"], data)       # doctest: +SKIP
>>> evaluate(trained, data.test)[0].accuracy          # doctest: +SKIP
0.977
>>> trained.save("runs/mine")                         # doctest: +SKIP
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry import extras
from digitry.errors import UsageError
from digitry.model.artifact import LABELS, Artifact, Metadata
from digitry.training import run
from digitry.training.data.dataset import OWN, Dataset, Split, dataset_of
from digitry.training.loop import train as engine
from digitry.training.network import convert
from digitry.training.recipes import Recipe

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, repr=False)
class Trained(engine.Trained):
    """A trained model, its history and its data.

    Attributes:
        data: what it was trained on.
    """

    data: Dataset | Split | None = None

    @cached_property
    def artifact(self) -> Artifact:
        """The model as a model file in memory, not calibrated."""
        labels = LABELS[: self.model.output_shape[-1]]
        facts = Metadata(name=self.recipe.name, labels=labels, recipe=self.recipe.to_dict())
        return convert.as_artifact(self.model, facts)

    def save(self, folder: str | Path, test: Split | None = None) -> Path:
        """Write the whole run folder, as `digitry train` does: models, metrics, pictures, report.

        Args:
            folder: new or empty.
            test: labelled images to score the model on; None = the test part of the data set that it
                was trained on.

        Returns:
            The folder.

        Raises:
            UsageError: there are no test images, or the folder is not empty.
            ModelError: the three formats give different results.
            UnavailableError: matplotlib or jinja2 is not installed.
            DigitryError: the folder cannot be written.
        """
        extras.require("train", "this needs", "h5py", "onnx", "matplotlib", "jinja2")
        from digitry.training.report import page

        written = run.save_run(self, self._dataset(test), Path(folder))
        page.write_plots(written)
        page.write_html(written)
        return written.folder

    def _dataset(self, test: Split | None) -> Dataset:
        if isinstance(self.data, Dataset) and test is None:
            return self.data
        if test is None or self.data is None:
            raise UsageError(
                "there are no test images to score the model on",
                where="test",
                remedy="give them: trained.save(folder, test=data.test), or train on a data set",
            )
        trained = self.data.train if isinstance(self.data, Dataset) else self.data
        return dataset_of("own", trained, test, OWN, "given in Python")


def train(
    recipe: Recipe,
    data: Dataset | Split,
    *,
    device: str = "auto",
    callbacks: "Sequence[keras.callbacks.Callback]" = (),
    checkpoint: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    initial_model: "Callable[[], keras.Model] | None" = None,
    targets: npt.NDArray[np.float32] | None = None,
) -> Trained:
    """Train a model, and show the progress: a bar in a terminal or notebook, else a line an epoch.

    Args:
        recipe: what to train and how.
        data: a data set, whose training part is trained on, or labelled images.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        callbacks: Keras callbacks, called as `fit` calls them.
        checkpoint: a file that is replaced after each epoch; None = none is written.
        resume: continue from `checkpoint`.
        quiet: show nothing.
        initial_model: builds the model to start from; None = the recipe's own, untrained.
        targets: (n, classes) float32, a teacher's probabilities; needed if and only if the recipe's
            `distil` is above 0.

    Returns:
        The model with its history, which a notebook shows as curves.

    Raises:
        UnavailableError: Keras or PyTorch is not installed, or the device is not available.
        DigitryError: see `digitry.training.loop.train.train`.
    """
    console = None
    if not quiet:
        from rich.console import Console

        console = Console(stderr=True)
    split = data.train if isinstance(data, Dataset) else data
    done = engine.train(
        recipe, split, device=device, callbacks=callbacks, checkpoint=checkpoint, resume=resume,
        console=console, initial_model=initial_model, targets=targets,
    )  # fmt: skip
    return Trained(**{one.name: getattr(done, one.name) for one in fields(done)}, data=data)
