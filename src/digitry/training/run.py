"""One training, from its recipe to its run folder.

First the files that a later `--resume` needs are written, then the model is trained, saved and
scored. `metrics.json` is written last: a folder that has it is complete, except for the pictures,
which `report` draws from the other files. `run_folder` lists the files.
"""

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata as packages
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import digitry
from digitry import files
from digitry.errors import DataError, DigitryError, ModelError, UsageError
from digitry.model.artifact import NOT_A_DIGIT, Artifact, Metadata
from digitry.reading.classifier import softmax
from digitry.training import epochs as history
from digitry.training.data.dataset import hold_out
from digitry.training.evaluation import calibration, scores
from digitry.training.evaluation.disputed import disputed_in
from digitry.training.loop import teacher as distillation
from digitry.training.loop.start_from import Parent, place_of
from digitry.training.network import convert
from digitry.training.recipes import Recipe
from digitry.training.run_folder import (
    CHECKPOINT,
    METRICS,
    MODELS,
    RECORDS,
    START,
    Run,
    Start,
    check_new,
    load_start,
)

if TYPE_CHECKING:
    import keras
    from rich.console import Console

    from digitry.training.data.dataset import Dataset, Split
    from digitry.training.loop.train import Trained

MISTAKES = 60
"""Largest number of wrongly read test images that are kept."""

SAMPLES = 20
"""Number of training images that are kept: a grid of 2 x 10."""


def train_run(
    recipe: Recipe,
    dataset: "Dataset",
    folder: Path,
    *,
    device: str = "auto",
    callbacks: Sequence["keras.callbacks.Callback"] = (),
    resume: bool = False,
    only: frozenset[str] | None = None,
    console: "Console | None" = None,
    data: str | None = None,
    data_dir: Path | None = None,
    start: "Callable[[], keras.Model] | None" = None,
    before_save: "Callable[[keras.Model], object] | None" = None,
    teacher: Artifact | None = None,
    parent: Parent | None = None,
) -> Run:
    """Train a recipe, save the model in its three formats, score it, and write the run folder.

    Ctrl-C ends the training after the current step; the model is still saved and scored, and the
    checkpoint is kept for a later `resume`.

    Args:
        recipe: how to train.
        dataset: images to train and test on.
        folder: of the run; new or empty, unless `resume`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        callbacks: Keras callbacks.
        resume: continue from the folder's checkpoint; if it has none, start again.
        only: names among `OUTPUTS` to write besides `RECORDS`; None = all. Pictures are drawn by
            `report`, not here.
        console: shows progress; None = nothing.
        data: the name or path given to `load_dataset`, for a later resume; None = the data set's name.
        data_dir: the folder given to `load_dataset`, for a later resume.
        start: builds the model to start from; None = the recipe's own, untrained.
        before_save: changes the trained model in place before it is saved.
        teacher: model whose probabilities are learned, with the weight `distil` of the recipe; None =
            none.
        parent: the model to start from, recorded in the files; None = use `start`.

    Raises:
        UsageError: the folder is not empty, or holds a run of another recipe.
        DataError: the data set is not the one that the run started with.
        ModelError: the three formats give different results.
        DigitryError: the training diverged, or the folder cannot be written.
    """
    from digitry.training.loop import train as engine

    began = time.perf_counter()
    asked = Start(
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
    _begin(folder, asked, resume=resume)
    checkpoint = folder / CHECKPOINT
    try:
        trained = engine.train(
            recipe,
            dataset.train,
            device=device,
            callbacks=callbacks,
            checkpoint=checkpoint,
            resume=resume and checkpoint.exists(),
            console=console,
            start=start if parent is None else parent.build,
            targets=None
            if teacher is None
            else distillation.targets(teacher, dataset.train, recipe.distil),
        )
    except DigitryError:
        if not (resume or checkpoint.exists()):
            _forget(folder)
        raise
    if before_save is not None:
        before_save(trained.model)
    run = _finish(trained, dataset, folder, asked, began)
    if not trained.interrupted:
        checkpoint.unlink(missing_ok=True)
    return run


def save_run(trained: "Trained", dataset: "Dataset", folder: Path) -> Run:
    """Write the run folder of a model that is trained already; pictures are drawn by `report`.

    Args:
        trained: the model and its history.
        dataset: what it was trained on, with the images to score it on.
        folder: new or empty.

    Raises:
        UsageError: the folder is not empty.
        ModelError: the three formats give different results.
        DigitryError: the folder cannot be written.
    """
    began = time.perf_counter()
    asked = Start(
        recipe=trained.recipe,
        data=dataset.name,
        data_dir=None,
        data_sha256=dataset.sha256,
        device=_device(trained.model).split(":")[0],
        only=None,
    )
    _begin(folder, asked, resume=False)
    return _finish(trained, dataset, folder, asked, began)


def _begin(folder: Path, start: Start, *, resume: bool) -> None:
    """Create the folder and write the files for resuming; with `resume`, check that they match."""
    if resume:
        before = load_start(folder)
        if before.recipe != start.recipe:
            raise UsageError(
                f"holds a run of recipe {before.recipe.name} with other settings",
                where=folder,
                remedy="resume it with its own recipe, or start a new run",
            )
        for kind, place, then, now in (
            ("teacher", start.teacher, before.teacher_sha256, start.teacher_sha256),
            ("parent", start.parent, before.parent_sha256, start.parent_sha256),
        ):
            if then != now:
                raise ModelError(
                    f"is not the {kind} that the run started with",
                    where=place or folder,
                    remedy="restore that model, or start a new run",
                )
        if before.data_sha256 != start.data_sha256:
            raise DataError(
                f"started with other images than {start.data} has now",
                where=folder,
                remedy="restore that data, or start a new run",
            )
        return
    check_new(folder)
    files.write_json(folder / "recipe.json", start.recipe.to_dict())
    files.write_json(
        folder / START,
        {
            "data": start.data,
            "data_dir": start.data_dir,
            "data_sha256": start.data_sha256,
            "device": start.device,
            "only": None if start.only is None else sorted(start.only),
            "teacher": start.teacher,
            "teacher_sha256": start.teacher_sha256,
            "parent": start.parent,
            "parent_sha256": start.parent_sha256,
            "started": _now(),
        },
    )


def _forget(folder: Path) -> None:
    """Delete the files that `_begin` wrote, because there is nothing to resume, and the empty folder."""
    for name in ("recipe.json", START):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        # The folder is kept if a tracker has written to it.
        folder.rmdir()


def _finish(
    trained: "Trained", dataset: "Dataset", folder: Path, start: Start, began: float
) -> Run:
    from digitry.training.network import keras_files

    recipe, model = trained.recipe, trained.model
    epochs = trained.history
    labels = tuple(str(digit) for digit in range(10))
    if model.output_shape[-1] == len(labels) + 1:
        labels = (*labels, NOT_A_DIGIT)
    data = {dataset.name: dataset.sha256}
    if start.teacher_sha256 is not None:
        data["teacher"] = start.teacher_sha256
    if start.parent_sha256 is not None:
        data["parent"] = start.parent_sha256
    draft = Metadata(
        name=recipe.name,
        labels=labels,
        recipe=recipe.to_dict(),
        data=data,
        created=_now(),
        digitry=digitry.__version__,
    )
    # The file holds its own scores. So a draft is scored first, and then saved again with the scores; the
    # graph of both is identical.
    graph = convert.as_artifact(model, draft)
    test_logits = scores.infer(graph, dataset.test.images)
    temperature, curve, validation = 1.0, draft.risk_coverage, None
    if recipe.validation > 0:
        held_out: Split = hold_out(dataset.train, recipe.validation)[1]
        logits = scores.infer(graph, held_out.images)
        temperature = calibration.fit_temperature(logits, held_out.labels)
        curve = calibration.risk_coverage(softmax(logits, temperature), held_out.labels)
        validation = scores.score(logits, held_out.labels, temperature=temperature)
    test_sha256 = scores.fingerprint(dataset.test)
    test = scores.score(
        test_logits,
        dataset.test.labels,
        temperature=temperature,
        disputed=disputed_in(test_sha256),
    )
    metadata = replace(
        draft,
        temperature=temperature,
        risk_coverage=curve,
        scores={
            f"{dataset.name}/test/{name}": getattr(test, name)
            for name in (
                "accuracy",
                "accuracy_undisputed",
                "accuracy_forced",
                "loss",
                "ece",
                "calibrated_ece",
            )
            if getattr(test, name) is not None
        },
    )
    glyphs = dataset.test.images.astype(np.float32) / np.float32(255)
    sha256 = keras_files.save_formats(model, folder, metadata, glyphs)
    _drop_unwanted_models(folder, start.only)

    if start.only is None or "summary.txt" in start.only:
        files.write_text(folder / "summary.txt", _summary(model))
    files.write_text(folder / "history.csv", history.to_csv(epochs))
    calibrated = softmax(test_logits, temperature)
    _save_predictions(folder / "predictions.npz", test_logits, calibrated, dataset, test_sha256)
    metrics = {
        "recipe": recipe.name,
        "test": test.to_dict(),
        "validation": None if validation is None else validation.to_dict(),
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
        "history": history.to_rows(epochs),
        "example": {
            "index": 0,
            "actual": int(dataset.test.labels[0]),
            "predicted": int(calibrated[0].argmax()),
            "confidence": float(calibrated[0].max()),
        },
        "parameters": int(model.count_params()),
        "layers": _layers(model),
        "sha256": {name: value for name, value in sha256.items() if (folder / name).exists()},
        "versions": versions(),
        "device": _device(model),
        "threads": trained.threads,
        "finished": _now(),
    }
    files.write_json(folder / METRICS, metrics)
    return Run(folder, recipe, metrics, epochs)


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


def _save_predictions(
    path: Path,
    logits: npt.NDArray[np.float32],
    calibrated: npt.NDArray[np.float64],
    dataset: "Dataset",
    test_sha256: str,
) -> None:
    train, test = dataset.train, dataset.test
    wrong = np.flatnonzero(calibrated.argmax(axis=1) != test.labels)
    worst = wrong[np.argsort(-calibrated[wrong].max(axis=1), kind="stable")][:MISTAKES]
    with files.replacing(path) as temporary:
        np.savez(
            temporary,
            probabilities=softmax(logits).astype(np.float32),
            labels=test.labels.astype(np.uint8),
            test_sha256=np.array(test_sha256),
            samples=train.images[:SAMPLES],
            sample_labels=train.labels[:SAMPLES],
            label_counts=np.bincount(train.labels, minlength=10),
            mistakes_index=worst,
            mistakes_images=test.images[worst],
            example_image=test.images[0],
        )


def _drop_unwanted_models(folder: Path, only: frozenset[str] | None) -> None:
    # All three are always written and compared, then the unwanted ones are deleted.
    for name in MODELS:
        if only is not None and name not in only and name not in RECORDS:
            (folder / name).unlink(missing_ok=True)


def _summary(model: "keras.Model") -> str:
    """Return a description of the model as text, independent of the terminal.

    Keras' own summary is cut to the terminal's width and counts the optimizer's state as parameters.
    """
    layers = _layers(model)
    rows = [("Layer (type)", "Output Shape", "Param #", "Fed by")]
    for layer in layers:
        shape = ", ".join(str(size) for size in [None, *layer["output_shape"]])
        rows.append(
            (
                f"{layer['name']} ({layer['kind']})",
                f"({shape})",
                f"{layer['parameters']:,}",
                ", ".join(layer["inputs"]) or "–",
            )
        )
    names, shapes, counts, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        f"{name:<{names}}  {shape:<{shapes}}  {count:>{counts}}  {fed}"
        for name, shape, count, fed in rows
    ]
    rule = "-" * max(map(len, lines))
    trained, fixed = (
        sum(math.prod(weight.shape) for weight in weights)
        for weights in (model.trainable_weights, model.non_trainable_weights)
    )
    return "\n".join(
        [
            f"Model: {model.name}",
            "",
            lines[0],
            rule,
            *lines[1:],
            rule,
            f"Total params: {trained + fixed:,}",
            f"Trainable params: {trained:,}",
            f"Non-trainable params: {fixed:,}",
            "",
        ]
    )


def _layers(model: "keras.Model") -> list[dict[str, Any]]:
    """Return each layer's kind, output shape, number of parameters and inputs, for the plot."""
    found: list[dict[str, Any]] = []
    makers = {id(layer.output): layer.name for layer in model.layers}
    if id(model.inputs[0]) not in makers:
        # A sequential model does not list its input as a layer.
        name = model.get_config()["layers"][0]["config"]["name"]
        makers[id(model.inputs[0])] = name
        found.append(
            {
                "name": name,
                "kind": "InputLayer",
                "activation": None,
                "output_shape": list(model.input_shape[1:]),
                "parameters": 0,
                "inputs": [],
            }
        )
    for layer in model.layers:
        inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
        config = layer.get_config()
        found.append(
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "activation": config.get("activation"),
                "output_shape": list(layer.output.shape[1:]),
                "parameters": int(layer.count_params()),
                # The input of an input layer is its own output.
                "inputs": [makers[id(tensor)] for tensor in inputs if tensor is not layer.output],
            }
        )
    return found


def _device(model: "keras.Model") -> str:
    value = model.weights[0].value if model.weights else None
    return str(getattr(value, "device", "cpu"))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
