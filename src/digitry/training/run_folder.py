"""What a run folder holds, by name, and how it is read back, without loading what trained it."""

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import DataError, UsageError
from digitry.training import epochs as history
from digitry.training.epochs import Epoch
from digitry.training.evaluation.scores import Evaluation, Predictions
from digitry.training.recipes import Recipe

CHECKPOINT = "checkpoint.npz"
START = "run.json"
METRICS = "metrics.json"
MODELS = ("model.keras", "model.h5", "model.onnx")
PLOTS = (
    "label_histogram.png",
    "samples.png",
    "loss.png",
    "accuracy.png",
    "model_architecture.png",
    "confusion.png",
    "mistakes.png",
    "reliability.png",
    "example.png",
)
RECORDS = ("recipe.json", START, "history.csv", METRICS, "predictions.npz", "model.onnx")
"""What every run keeps, however much `--only` narrows it: the other verbs live on these."""

OUTPUTS = ("summary.txt", *MODELS, *PLOTS, "report.html")
"""What `--only` chooses from."""


@dataclass(frozen=True)
class Run:
    """A finished run, or an interrupted one that was brought to an end.

    Attributes:
        folder: where it lies.
        recipe: how it was trained.
        metrics: the content of metrics.json.
        history: its epochs.
    """

    folder: Path
    recipe: Recipe
    metrics: dict[str, Any]
    history: tuple[Epoch, ...]

    @property
    def name(self) -> str:
        """What it is called in tables: the name of its folder."""
        return self.folder.resolve().name

    @property
    def test(self) -> Evaluation:
        """How it did on the test images."""
        return Evaluation.from_dict(self.metrics["test"])


@dataclass(frozen=True, kw_only=True)
class Start:
    """What was asked for when a run began: all that resuming it needs.

    Attributes:
        recipe: how it is trained.
        data: what `load_dataset` was given: a name, or an absolute path.
        data_dir: where it was told to look for the files, or None.
        data_sha256: of the data set's content, so that a resumed run meets the same images.
        device: as asked for, `auto` included.
        only: the outputs asked for; None = all.
        teacher: the model whose probabilities are learned, a shipped one's name or an absolute path;
            None = none.
        teacher_sha256: of its file.
        parent: the model that it goes on from, likewise; None = it began anew.
        parent_sha256: of its file.
    """

    recipe: Recipe
    data: str
    data_dir: str | None
    data_sha256: str
    device: str
    only: frozenset[str] | None
    teacher: str | None = None
    teacher_sha256: str | None = None
    parent: str | None = None
    parent_sha256: str | None = None


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images that a report shows, from predictions.npz.

    Attributes:
        samples: (m, 28, 28) uint8, ink = 255: the first training images; `sample_labels` (m,).
        label_counts: (10,) training images of each digit.
        mistakes_index: (m,) their places in the test set, the most confident mistake first;
            `mistakes` (m, 28, 28) uint8.
        example: (28, 28) uint8, the test image named in the metrics' `example`.
    """

    samples: npt.NDArray[np.uint8]
    sample_labels: npt.NDArray[np.uint8]
    label_counts: npt.NDArray[np.int64]
    mistakes_index: npt.NDArray[np.int64]
    mistakes: npt.NDArray[np.uint8]
    example: npt.NDArray[np.uint8]


def default_folder(recipe: Recipe, parent: Path = Path("runs")) -> Path:
    """Return a new folder's path, `runs/<recipe>-<YYYYmmdd-HHMMSS>` in local time; it is not made."""
    wish = parent / f"{recipe.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder, number = wish, 2
    while folder.exists():
        folder, number = wish.with_name(f"{wish.name}-{number}"), number + 1
    return folder


def check_new(folder: Path) -> None:
    """Check that a run may begin in a folder: there is none yet, or nothing in it.

    Raises:
        UsageError: it is a file, or holds something.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file", where=folder, remedy="name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        resumable = (folder / START).exists()
        raise UsageError(
            "is not empty",
            where=folder,
            remedy="name a new folder"
            + (f", or resume the run in it: digitry train --resume {folder}" if resumable else ""),
        )


def select(names: Iterable[str]) -> frozenset[str]:
    """Turn what a user typed after `--only` into file names of a run folder.

    Args:
        names: file names (`loss.png`) or their stems (`loss`; `model` means all three formats).

    Raises:
        UsageError: a run folder has no such file.
    """
    chosen: set[str] = set()
    for name in names:
        matches = {output for output in OUTPUTS if name in (output, Path(output).stem)}
        if not matches and not any(name in (kept, Path(kept).stem) for kept in RECORDS):
            raise UsageError(
                f"no output is called {name!r}",
                where="--only",
                remedy=f"choose from: {', '.join(OUTPUTS)}",
            )
        chosen |= matches
    return frozenset(chosen)


def load_run(folder: Path) -> Run:
    """Read a run folder back.

    Raises:
        DataError: it is none, is not finished, or a file in it is damaged.
    """
    folder = Path(folder)
    metrics = folder / METRICS
    if not metrics.exists() and (folder / START).exists():
        raise DataError(
            "is an unfinished run",
            where=folder,
            remedy=f"finish it with: digitry train --resume {folder}",
        )
    content = _read_json(metrics)
    recipe = Recipe.from_dict(_read_json(folder / "recipe.json"))
    try:
        epochs = history.from_rows(content["history"])
        Evaluation.from_dict(content["test"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"is damaged ({type(error).__name__}: {error})",
            where=metrics,
            remedy="train again",
        ) from error
    return Run(folder, recipe, content, epochs)


def load_start(folder: Path) -> Start:
    """Read what a run was begun with.

    Raises:
        DataError: the folder is no run, or its files are damaged.
    """
    folder = Path(folder)
    facts = _read_json(folder / START)
    recipe = Recipe.from_dict(_read_json(folder / "recipe.json"))
    try:
        only = facts["only"]
        return Start(
            recipe=recipe,
            data=facts["data"],
            data_dir=facts["data_dir"],
            data_sha256=facts["data_sha256"],
            device=facts["device"],
            only=None if only is None else frozenset(only),
            # Older runs had none.
            teacher=facts.get("teacher"),
            teacher_sha256=facts.get("teacher_sha256"),
            parent=facts.get("parent"),
            parent_sha256=facts.get("parent_sha256"),
        )
    except (KeyError, TypeError) as error:
        raise DataError(
            f"is damaged ({type(error).__name__}: {error})",
            where=folder / START,
            remedy="train again",
        ) from error


def is_finished(folder: Path) -> bool:
    """Return whether a run folder is whole, so that there is nothing left to train."""
    if not (folder / METRICS).exists() or (folder / CHECKPOINT).exists():
        return False
    return not _read_json(folder / METRICS).get("interrupted", False)


def recorded_sha256(file: Path) -> str | None:
    """Return the sha256 that the metrics.json beside a file records for it, under `sha256`.

    Returns:
        64 hex digits; None where there is no such record. Runs of older versions have none.
    """
    try:
        recorded = _read_json(file.parent / METRICS).get("sha256")
    except DataError:
        return None
    found = recorded.get(file.name) if isinstance(recorded, dict) else None
    return found if isinstance(found, str) else None


def record_sha256(file: Path, sha256: str) -> None:
    """Write the sha256 of a file into the metrics.json beside it.

    Raises:
        DataError: there is no metrics.json, or it is damaged.
        DigitryError: it cannot be written.
    """
    metrics = _read_json(file.parent / METRICS)
    metrics.setdefault("sha256", {})[file.name] = sha256
    files.write_json(file.parent / METRICS, metrics)


def load_predictions(run: Run) -> Predictions:
    """Read what a run said about its test images.

    Raises:
        DataError: predictions.npz is missing or damaged.
    """
    arrays = _read_arrays(run, ("probabilities", "labels", "test_sha256"))
    return Predictions(
        name=run.name,
        probabilities=arrays["probabilities"],
        labels=arrays["labels"],
        test_sha256=str(arrays["test_sha256"]),
    )


def load_pictures(run: Run) -> Pictures:
    """Read the images that a report shows.

    Raises:
        DataError: predictions.npz is missing or damaged.
    """
    names = {
        "samples": "samples",
        "sample_labels": "sample_labels",
        "label_counts": "label_counts",
        "mistakes_index": "mistakes_index",
        "mistakes": "mistakes_images",
        "example": "example_image",
    }
    arrays = _read_arrays(run, tuple(names.values()))
    return Pictures(**{name: arrays[key] for name, key in names.items()})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror})",
            where=path,
            remedy="name a run folder that `digitry train` wrote",
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", where=path, remedy="train again") from error
    if not isinstance(content, dict):
        raise DataError("is not a JSON object", where=path, remedy="train again")
    return content


def _read_arrays(run: Run, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    path = run.folder / "predictions.npz"
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"is missing or damaged ({type(error).__name__})",
            where=path,
            remedy="train the run again",
        ) from error
