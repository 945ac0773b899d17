"""One training, from its recipe to its run folder.

First the files that a later `--resume` needs are written, then the model is trained, saved and
scored. `metrics.json` is written last: a folder that has it is complete, except for the pictures,
which `report` draws from the other files. `run_folder` lists the files, writes and reads them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

import digitry
from digitry import files
from digitry.errors import DataError, DigitryError, ModelError
from digitry.model.artifact import DIGIT_CLASSES, LABELS, Artifact, Metadata
from digitry.model.load import load_model
from digitry.reading.classifier import softmax
from digitry.training import run_folder
from digitry.training.data.dataset import hold_out
from digitry.training.epochs import to_rows
from digitry.training.evaluation import calibration, scores
from digitry.training.evaluation.disputed import disputed_in
from digitry.training.loop.start_from import Parent, parent_of, place_of
from digitry.training.loop.teacher import targets
from digitry.training.network import convert
from digitry.training.recipes import Recipe
from digitry.training.run_folder import Run, RunArguments

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from digitry.training.data.dataset import Dataset
    from digitry.training.evaluation.scores import Evaluation
    from digitry.training.loop.train import Trained


@dataclass(frozen=True, kw_only=True)
class _How:
    """What training and resuming have in common; see `train_run`."""

    device: str
    callbacks: Sequence["keras.callbacks.Callback"]
    console: "Console | None"
    teacher: Artifact | None
    initial_model: "Callable[[], keras.Model] | None"
    before_save: "Callable[[keras.Model], object] | None" = None


def train_run(
    recipe: Recipe,
    dataset: "Dataset",
    folder: Path,
    *,
    device: str = "auto",
    callbacks: Sequence["keras.callbacks.Callback"] = (),
    only: frozenset[str] | None = None,
    console: "Console | None" = None,
    data: str | None = None,
    data_dir: Path | None = None,
    initial_model: "Callable[[], keras.Model] | None" = None,
    before_save: "Callable[[keras.Model], object] | None" = None,
    teacher: Artifact | None = None,
    parent: Parent | None = None,
) -> Run:
    """Train a recipe, save the model in its three formats, score it, and write the run folder.

    Ctrl-C ends the training after the current step; the model is still saved and scored, and the
    checkpoint is kept for `resume_run`.

    Args:
        recipe: how to train.
        dataset: images to train and test on.
        folder: of the run; new or empty.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, or `mps`.
        callbacks: Keras callbacks.
        only: names among `OUTPUTS` to write besides `RECORDS`; None = all. Pictures are drawn by
            `report`, not here.
        console: shows progress; None = nothing.
        data: the name or path given to `load_dataset`, for a later resume; None = the data set's name.
        data_dir: the folder given to `load_dataset`, for a later resume.
        initial_model: builds the model to start from; None = the recipe's own, untrained.
        before_save: changes the trained model in place before it is saved.
        teacher: model whose probabilities are learned, with the weight `distil` of the recipe; None =
            none.
        parent: the model to start from, recorded in the files; None = use `initial_model`.

    Raises:
        UsageError: the folder is not empty.
        ModelError: the three formats give different results.
        DigitryError: the training diverged, or the folder cannot be written.
    """
    began = time.perf_counter()
    run_folder.check_new(folder)
    arguments = RunArguments(
        recipe=recipe,
        data=dataset.name if data is None else data,
        data_dir=None if data_dir is None else str(Path(data_dir).resolve()),
        data_sha256=dataset.sha256,
        device=device,
        only=only,
        teacher=None if teacher is None else place_of(teacher),
        teacher_sha256=None if teacher is None else teacher.sha256,
        parent=None if parent is None else parent.place,
        parent_sha256=None if parent is None else parent.sha256,
    )
    run_folder.save_arguments(folder, arguments)
    how = _How(
        device=device, callbacks=callbacks, console=console, teacher=teacher,
        initial_model=initial_model if parent is None else parent.build, before_save=before_save,
    )  # fmt: skip
    try:
        return _train(arguments, dataset, folder, how, began)
    except DigitryError:
        if not (folder / run_folder.CHECKPOINT).exists():
            run_folder.remove_arguments(folder)
        raise


def resume_run(
    folder: Path,
    dataset: "Dataset",
    *,
    device: str | None = None,
    callbacks: Sequence["keras.callbacks.Callback"] = (),
    only: frozenset[str] | None = None,
    console: "Console | None" = None,
    trust: bool = False,
) -> Run:
    """Continue the training of a run folder from its checkpoint; if it has none, from the start.

    Args:
        folder: of the run.
        dataset: the one that the run started with.
        device: as for `train_run`; None = the one that the run started with.
        callbacks: Keras callbacks.
        only: as for `train_run`; None = as the run started.
        console: shows progress; None = nothing.
        trust: load the model that the run started from even if no run folder records its sha256.

    Raises:
        DataError: it is not a run folder, or the data set is not the one that the run started with.
        ModelError: a model that the run started with is missing or has changed; or as `train_run`.
        DigitryError: as `train_run`.
    """
    began = time.perf_counter()
    arguments = run_folder.load_arguments(folder)
    arguments = replace(arguments, only=arguments.only if only is None else only)
    teacher = None if arguments.teacher is None else load_model(arguments.teacher)
    parent = (
        None
        if arguments.parent is None
        else parent_of(arguments.parent, arguments.recipe, trust=trust)
    )
    for kind, place, then, now in (
        ("teacher", arguments.teacher, arguments.teacher_sha256, teacher and teacher.sha256),
        ("parent", arguments.parent, arguments.parent_sha256, parent and parent.sha256),
    ):
        if then != now:
            raise ModelError(
                f"is not the {kind} that the run started with",
                where=place or folder,
                remedy="restore that model, or start a new run",
            )
    if arguments.data_sha256 != dataset.sha256:
        raise DataError(
            f"started with other images than {arguments.data} has now",
            where=folder,
            remedy="restore that data, or start a new run",
        )
    how = _How(
        device=device or arguments.device, callbacks=callbacks, console=console, teacher=teacher,
        initial_model=None if parent is None else parent.build,
    )  # fmt: skip
    return _train(arguments, dataset, folder, how, began)


def _train(
    arguments: RunArguments, dataset: "Dataset", folder: Path, how: _How, began: float
) -> Run:
    """Train from the checkpoint, if there is one; save, score, and write the rest of the folder."""
    from digitry.training.loop.train import train

    recipe, checkpoint = arguments.recipe, folder / run_folder.CHECKPOINT
    trained = train(
        recipe,
        dataset.train,
        device=how.device,
        callbacks=how.callbacks,
        checkpoint=checkpoint,
        resume=checkpoint.exists(),
        console=how.console,
        initial_model=how.initial_model,
        targets=None if how.teacher is None else targets(how.teacher, dataset.train, recipe.distil),
    )
    if how.before_save is not None:
        how.before_save(trained.model)
    run = _finish(trained, dataset, folder, arguments, began)
    if not trained.interrupted:
        checkpoint.unlink(missing_ok=True)
    return run


def _finish(
    trained: "Trained", dataset: "Dataset", folder: Path, arguments: RunArguments, began: float
) -> Run:
    from digitry.training.network import keras_files, summary

    model, only = trained.model, arguments.only
    draft = _draft(trained, dataset, arguments)
    found = _measured(model, dataset, draft, trained.recipe.validation)
    glyphs = dataset.test.images.astype(np.float32) / np.float32(255)
    sha256 = keras_files.save_formats(model, folder, found.metadata, glyphs)
    # All three formats are always written and compared, then the unwanted ones are deleted.
    for name in run_folder.MODELS:
        if only is not None and name not in only and name not in run_folder.RECORDS:
            (folder / name).unlink(missing_ok=True)
    if only is None or run_folder.SUMMARY in only:
        files.write_text(folder / run_folder.SUMMARY, summary.summary_of(model))
    calibrated = softmax(found.logits, found.metadata.temperature)
    run_folder.save_predictions(
        folder, softmax(found.logits), calibrated, dataset, found.test_sha256
    )
    metrics = {
        "recipe": trained.recipe.name,
        "test": found.test.to_dict(),
        "validation": None if found.validation is None else found.validation.to_dict(),
        "fit_seconds": round(trained.fit_seconds, 4),
        "total_seconds": round(time.perf_counter() - began, 4),
        "interrupted": trained.interrupted,
        "data": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "licence": dataset.licence,
            "source": dataset.source,
            "train_images": len(dataset.train),
            "test_images": len(dataset.test),
        },
        "history": to_rows(trained.history),
        "example": {
            "index": 0,
            "actual": int(dataset.test.labels[0]),
            "predicted": int(calibrated[0].argmax()),
            "confidence": float(calibrated[0].max()),
        },
        "parameters": int(model.count_params()),
        "layers": summary.layers_of(model),
        "sha256": {name: value for name, value in sha256.items() if (folder / name).exists()},
        "versions": versions(),
        "device": _device(model),
        "finished": run_folder.now(),
    }
    run = Run(folder, trained.recipe, metrics, trained.history)
    run_folder.save_run(run)
    return run


def _draft(trained: "Trained", dataset: "Dataset", arguments: RunArguments) -> Metadata:
    """Return the metadata of a trained model before it is calibrated and scored."""
    data = {dataset.name: dataset.sha256}
    for kind, sha256 in (
        ("teacher", arguments.teacher_sha256),
        ("parent", arguments.parent_sha256),
    ):
        if sha256 is not None:
            data[kind] = sha256
    refuses = trained.model.output_shape[-1] > DIGIT_CLASSES
    return Metadata(
        name=trained.recipe.name,
        labels=LABELS if refuses else LABELS[:DIGIT_CLASSES],
        recipe=trained.recipe.to_dict(),
        data=data,
        created=run_folder.now(),
        digitry=digitry.__version__,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Measured:
    """A model's calibration and scores.

    Attributes:
        metadata: with temperature, risk-coverage curve and test scores.
        logits: (n, classes) float32, of the test images.
        test: the scores on them; `test_sha256` identifies them.
        validation: the scores on the held-out images; None if there are none.
    """

    metadata: Metadata
    logits: npt.NDArray[np.float32]
    test: "Evaluation"
    test_sha256: str
    validation: "Evaluation | None"


def _measured(model: "keras.Model", dataset: "Dataset", draft: Metadata, share: float) -> _Measured:
    """Calibrate a model on the held-out share of the training images, and score it on the test images.

    The model file holds its own scores. So a draft of it is scored here, and saved again with the
    scores; the graph of both is identical.
    """
    graph = convert.as_artifact(model, draft)
    logits = scores.infer(graph, dataset.test.images)
    temperature, curve, validation = 1.0, draft.risk_coverage, None
    if share > 0:
        held_out = hold_out(dataset.train, share)[1]
        held_logits = scores.infer(graph, held_out.images)
        temperature = calibration.fit_temperature(held_logits, held_out.labels)
        curve = calibration.risk_coverage(softmax(held_logits, temperature), held_out.labels)
        validation = scores.score(held_logits, held_out.labels, temperature=temperature)
    test_sha256 = scores.fingerprint(dataset.test)
    test = scores.score(
        logits,
        dataset.test.labels,
        temperature=temperature,
        disputed=disputed_in(test_sha256),
    )
    metadata = replace(
        draft,
        temperature=temperature,
        risk_coverage=curve,
        scores={f"{dataset.name}/test/{name}": value for name, value in test.headline().items()},
    )
    return _Measured(
        metadata=metadata, logits=logits, test=test, test_sha256=test_sha256, validation=validation
    )


def versions() -> dict[str, str]:
    """Return the versions that decide what a training computes."""
    import platform

    found = {"digitry": digitry.__version__, "python": platform.python_version()}
    for name in ("keras", "torch", "numpy", "onnx", "onnxruntime"):
        try:
            found[name] = packages.version(name)
        except packages.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _device(model: "keras.Model") -> str:
    value = model.weights[0].value if model.weights else None
    return str(getattr(value, "device", "cpu"))
