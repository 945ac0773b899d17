"""The files of a run folder: written and read here; needs neither Keras nor PyTorch."""

import contextlib
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry import files
from digitry.errors import DataError, UsageError
from digitry.model.artifact import MODEL_FILE
from digitry.training.data.dataset import Dataset
from digitry.training.epochs import Epoch, from_rows, to_csv
from digitry.training.evaluation.scores import Evaluation, Predictions
from digitry.training.recipes import Recipe

RECIPE = "recipe.json"
ARGUMENTS = "run.json"
CHECKPOINT = "checkpoint.npz"
SUMMARY = "summary.txt"
HISTORY = "history.csv"
METRICS = "metrics.json"
PREDICTIONS = "predictions.npz"
KERAS_FILE, H5_FILE = "model.keras", "model.h5"
REPORT = "report.html"

MODELS = (KERAS_FILE, H5_FILE, MODEL_FILE)
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
RECORDS = (RECIPE, ARGUMENTS, HISTORY, METRICS, PREDICTIONS, MODEL_FILE)
"""Files that every run keeps, whatever `--only` selects: the other commands need them."""

OUTPUTS = (SUMMARY, *MODELS, *PLOTS, REPORT)
"""Files that `--only` selects from."""

MISTAKES = 60
"""Largest number of wrongly read test images that are kept."""

SAMPLES = 20
"""Number of training images that are kept: a grid of 2 x 10."""


@dataclass(frozen=True)
class Run:
    """A finished run, or an interrupted one whose model was saved and scored.

    Attributes:
        folder: of the run.
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
        """The name of its folder, used in tables."""
        return self.folder.resolve().name

    @property
    def test(self) -> Evaluation:
        """Its scores on the test images."""
        return Evaluation.from_dict(self.metrics["test"])


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """The arguments that a run was started with, as resuming needs them.

    Attributes:
        recipe: how it is trained.
        data: the data set's name or absolute path, as given to `load_dataset`.
        data_dir: the folder for the data files as given to `load_dataset`, or None.
        data_sha256: of the data set's content, so that a resumed run uses the same images.
        device: as requested; may be `auto`.
        only: the requested outputs; None = all.
        teacher: the model whose probabilities are learned: a shipped model's name or an absolute path;
            None = none.
        teacher_sha256: of its file.
        parent: the model that the training starts from, given like `teacher`; None = none.
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
        mistakes_index: (m,) indices in the test set, the most confident mistake first;
            `mistakes` (m, 28, 28) uint8.
        example: (28, 28) uint8, the test image named in the metrics' `example`.
    """

    samples: npt.NDArray[np.uint8]
    sample_labels: npt.NDArray[np.uint8]
    label_counts: npt.NDArray[np.int64]
    mistakes_index: npt.NDArray[np.int64]
    mistakes: npt.NDArray[np.uint8]
    example: npt.NDArray[np.uint8]


def default_folder(name: str, parent: Path = Path("runs")) -> Path:
    """Return an unused path `runs/<recipe>-<YYYYmmdd-HHMMSS>`, in local time; it is not created."""
    first = parent / f"{name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    folder, number = first, 2
    while folder.exists():
        folder, number = first.with_name(f"{first.name}-{number}"), number + 1
    return folder


def check_new(folder: Path, marker: str = ARGUMENTS, verb: str = "train") -> None:
    """Check that a new run can use a folder: it does not exist or is empty.

    Args:
        folder: the folder of the new run.
        marker: the file that marks a run which can be resumed.
        verb: the command that resumes it.

    Raises:
        UsageError: it is a file, or not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError("is a file", where=folder, remedy="name a new folder")
    if folder.is_dir() and any(folder.iterdir()):
        resumable = (folder / marker).exists()
        raise UsageError(
            "is not empty",
            where=folder,
            remedy="name a new folder"
            + (f", or resume the run in it: digitry {verb} --resume {folder}" if resumable else ""),
        )


def select(names: Iterable[str]) -> frozenset[str]:
    """Return the file names of a run folder that the values of `--only` mean.

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


def save_run(run: Run) -> None:
    """Write history.csv, and metrics.json last: a folder that has it is complete."""
    files.write_text(run.folder / HISTORY, to_csv(run.history))
    files.write_json(run.folder / METRICS, run.metrics)


def load_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        DataError: it is not a run folder, is not finished, or a file in it is damaged.
    """
    folder = Path(folder)
    metrics = folder / METRICS
    if not metrics.exists() and (folder / ARGUMENTS).exists():
        raise DataError(
            "is an unfinished run",
            where=folder,
            remedy=f"finish it with: digitry train --resume {folder}",
        )
    content = _read_json(metrics)
    recipe = Recipe.from_dict(_read_json(folder / RECIPE))
    try:
        epochs = from_rows(content["history"])
        Evaluation.from_dict(content["test"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"is damaged ({type(error).__name__}: {error})",
            where=metrics,
            remedy="train again",
        ) from error
    return Run(folder, recipe, content, epochs)


def save_arguments(folder: Path, arguments: RunArguments) -> None:
    """Write recipe.json and run.json, which resuming needs; the folder is created."""
    facts = {name: value for name, value in vars(arguments).items() if name != "recipe"}
    facts["only"] = None if arguments.only is None else sorted(arguments.only)
    files.write_json(folder / RECIPE, arguments.recipe.to_dict())
    files.write_json(folder / ARGUMENTS, facts | {"started": now()})


def load_arguments(folder: Path) -> RunArguments:
    """Read the arguments that a run was started with.

    Raises:
        DataError: it is not a run folder, or its files are damaged.
    """
    folder = Path(folder)
    facts = _read_json(folder / ARGUMENTS)
    recipe = Recipe.from_dict(_read_json(folder / RECIPE))
    try:
        only = facts["only"]
        return RunArguments(
            recipe=recipe,
            data=facts["data"],
            data_dir=facts["data_dir"],
            data_sha256=facts["data_sha256"],
            device=facts["device"],
            only=None if only is None else frozenset(only),
            # Older runs do not have these fields.
            teacher=facts.get("teacher"),
            teacher_sha256=facts.get("teacher_sha256"),
            parent=facts.get("parent"),
            parent_sha256=facts.get("parent_sha256"),
        )
    except (KeyError, TypeError) as error:
        raise DataError(
            f"is damaged ({type(error).__name__}: {error})",
            where=folder / ARGUMENTS,
            remedy="train again",
        ) from error


def remove_arguments(folder: Path) -> None:
    """Delete what `save_arguments` wrote, and the folder if nothing else is in it."""
    for name in (RECIPE, ARGUMENTS):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        # The folder is kept if a tracker has written to it.
        folder.rmdir()


def is_finished(folder: Path) -> bool:
    """Return whether a run is complete: its files are written and no epoch is left to train."""
    if not (folder / METRICS).exists() or (folder / CHECKPOINT).exists():
        return False
    return not _read_json(folder / METRICS).get("interrupted", False)


def recorded_sha256(file: Path) -> str | None:
    """Return the sha256 that the metrics.json beside a file records for it, under `sha256`.

    Returns:
        64 hex digits; None if there is no record, as in runs of older versions.
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


def save_predictions(
    folder: Path,
    probabilities: npt.NDArray[np.floating],
    calibrated: npt.NDArray[np.floating],
    dataset: Dataset,
    test_sha256: str,
) -> None:
    """Write predictions.npz: the predictions for the test images, and the images that a report shows.

    Args:
        folder: the run folder.
        probabilities: (n, classes) of the test images, not calibrated.
        calibrated: (n, classes), the same calibrated; the most confident mistakes are kept.
        dataset: what the run was trained and tested on.
        test_sha256: of its test images, see `scores.fingerprint`.
    """
    train, test = dataset.train, dataset.test
    wrong = np.flatnonzero(calibrated.argmax(axis=1) != test.labels)
    worst = wrong[np.argsort(-calibrated[wrong].max(axis=1), kind="stable")][:MISTAKES]
    with files.replacing(folder / PREDICTIONS) as temporary:
        np.savez(
            temporary,
            probabilities=probabilities.astype(np.float32),
            labels=test.labels.astype(np.uint8),
            test_sha256=np.array(test_sha256),
            samples=train.images[:SAMPLES],
            sample_labels=train.labels[:SAMPLES],
            label_counts=np.bincount(train.labels, minlength=10),
            mistakes_index=worst,
            mistakes_images=test.images[worst],
            example_image=test.images[0],
        )


def load_predictions(run: Run) -> Predictions:
    """Read the predictions of a run for its test images.

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


def now() -> str:
    """Return the time in ISO 8601, UTC, in whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


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
    path = run.folder / PREDICTIONS
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"is missing or damaged ({type(error).__name__})",
            where=path,
            remedy="train the run again",
        ) from error
