"""Converts models between file formats, and Keras models to model files.

A run folder holds all three formats already; this is for model files outside of a run folder.
"""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from digitry import extras, files
from digitry.errors import ModelError, UsageError
from digitry.model import artifact
from digitry.model.artifact import DIGIT_CLASSES, LABELS, MODEL_FILE, Artifact, Metadata
from digitry.model.foreign_files import ForeignModelError
from digitry.model.load import SHIPPED, load_model
from digitry.training import run_folder

if TYPE_CHECKING:
    import keras

    from digitry.training.network.trial import Found

KERAS = (".keras", ".h5")
FORMATS = ("keras", "h5", "onnx")

Tell = Callable[[str], None]
"""Is called with one line about a model from elsewhere: what it takes and returns."""


def _silent(line: str) -> None:
    pass


def as_artifact(model: "keras.Model", metadata: Metadata) -> Artifact:
    """Return a Keras model as a checked model file in memory.

    Raises:
        ModelError: it has layers that a model file cannot hold, or its outputs do not match the labels.
    """
    from digitry.training.network import to_onnx

    with tempfile.TemporaryDirectory(prefix="digitry-") as folder:
        return artifact.save(Path(folder) / MODEL_FILE, to_onnx.to_onnx(model), metadata)


def load_artifact(model: str, *, trust: bool = False, tell: Tell = _silent) -> Artifact:
    """Load a model: the name of a shipped one, a .onnx file, a run folder, or a Keras file.

    A Keras file holds no recipe and no calibration, so its temperature is 1. A Keras file that no run
    folder records, and a .onnx file of another program, are tried on known digits, which shows what
    pixels they take (see `trial`).

    Args:
        model: what to load.
        trust: load a Keras file whose sha256 no run folder records.
        tell: is called with what was found out about a model from elsewhere.

    Raises:
        ModelError: it is missing, not a digit model, or a Keras file that is not trusted.
        UnavailableError: it is from elsewhere, and the extra `train` is not installed.
    """
    path = Path(model)
    if path.suffix in KERAS and path.is_file():
        return _from_keras(path, trust=trust, tell=tell)
    try:
        return load_model(model)
    except ForeignModelError:
        return _from_foreign(path, tell)


def convert(
    model: str, to: str, out: Path | None = None, *, trust: bool = False, tell: Tell = _silent
) -> Path:
    """Write a model in another format.

    A Keras file written into the run folder of its source is recorded there if the source is recorded.

    Args:
        model: a run folder, a .keras, .h5 or .onnx file, or the name of a shipped model.
        to: `keras`, `h5` or `onnx`.
        out: the file to write, replaced atomically; None = beside the source, with the format's suffix.
            A run folder's own files are never replaced.
        trust: load a Keras file whose sha256 no run folder records.
        tell: is called with what was found out about a model from elsewhere.

    Returns:
        The file written; for a run folder without `out`, its own file of that format if it has one.

    Raises:
        UsageError: the format is unknown, a .onnx file is to become a Keras model, or a run's own file
            or a model from elsewhere would be replaced.
        ModelError: the model is missing, damaged, or a Keras file that is not trusted.
    """
    if to not in FORMATS:
        raise UsageError(
            f"{to!r} is not a format", where="--format", remedy=f"choose from: {', '.join(FORMATS)}"
        )
    source = Path(model)
    target, is_there = _target(model, to, out)
    if is_there:
        return target
    if to == "onnx":
        loaded = load_artifact(model, trust=trust, tell=tell)
        if source.is_file() and target.resolve() == source.resolve():
            if source.read_bytes() != loaded.onnx:
                raise UsageError(
                    "would be replaced by what is made of it",
                    where=source,
                    remedy=f"write another file: --to {source.stem}-digitry.onnx",
                )
            return target
        files.write_bytes(target, loaded.onnx)
        return target
    file = keras_file(source)
    if model in SHIPPED or file is None:
        raise UsageError(
            "a model file cannot be converted back to Keras: its layers are folded together",
            where=model,
            remedy="name the run folder that it came from, or its model.keras",
        )
    from digitry.training.network.keras_files import load_keras, without_h5_warning

    loaded_model = load_keras(file, trust=trust)
    if target.suffix != f".{to}":
        # Keras chooses the format by the suffix.
        raise UsageError(
            f"does not end in .{to}", where=target, remedy=f"name it {target.stem}.{to}"
        )
    with files.replacing(target) as temporary, without_h5_warning():
        loaded_model.save(temporary)
        sha256 = hashlib.sha256(temporary.read_bytes()).hexdigest()
    if not trust and target.parent.resolve() == file.parent.resolve():
        run_folder.record_sha256(target, sha256)
    return target


def _target(model: str, to: str, out: Path | None) -> tuple[Path, bool]:
    """Return the file to write, and whether it is there already: a run folder's own file.

    Raises:
        UsageError: a run's own file would be replaced.
    """
    source = Path(model)
    if model in SHIPPED:
        return out or Path(f"{model}.{to}"), False
    home = source if source.is_dir() else source.parent
    own = home / f"model.{to}"
    target = out or (own if source.is_dir() else source.with_suffix(f".{to}"))
    is_run = (home / run_folder.ARGUMENTS).exists() and own.exists()
    is_own = is_run and target.resolve() == own.resolve() and source.resolve() != own.resolve()
    if is_own and not source.is_dir():
        # The run's own file holds the recipe, the calibration and the scores, or the optimizer.
        raise UsageError(
            "is the run's own file and holds more than the converted one would",
            where=own,
            remedy=f"use it as it is, or write another file: --out my.{to}",
        )
    return target, is_own


def keras_file(source: Path) -> Path | None:
    """Return `source` if it is a Keras file, or the Keras file of a run folder; else None.

    Raises:
        ModelError: the folder holds no model at all.
    """
    if source.is_dir():
        found = [
            source / f"model{ending}" for ending in KERAS if (source / f"model{ending}").exists()
        ]
        if not found and not (source / MODEL_FILE).exists():
            raise ModelError("holds no model", where=source, remedy="train it again")
        return found[0] if found else None
    return source if source.suffix in KERAS else None


def _from_keras(path: Path, *, trust: bool, tell: Tell) -> Artifact:
    # Imported here because a .onnx file needs only the base install, without Keras.
    from digitry.training.network import to_onnx, trial
    from digitry.training.network.keras_files import load_keras

    model = load_keras(path, trust=trust)
    shape = tuple(model.input_shape[1:]) if isinstance(model.input_shape, tuple) else ()
    classes = model.output_shape[-1] if isinstance(model.output_shape, tuple) else 0
    labels = LABELS[:classes]
    if classes not in (DIGIT_CLASSES, len(LABELS)) or shape not in to_onnx.INPUTS:
        raise ModelError(
            f"has the input {model.input_shape} and the output {model.output_shape}",
            where=path,
            remedy="use a digit model: input (n, 28, 28), (n, 28, 28, 1) or (n, 784), 10 or 11 outputs",
        )
    own = Metadata(name=path.stem, labels=labels)
    if run_folder.recorded_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest():
        return as_artifact(model, own)
    try:
        found = trial.tried(to_onnx.to_onnx(model), path.stem, labels)
    except trial.ReadsNothingError as error:
        if shape != (28, 28):
            raise ModelError(error.what, where=path, remedy=error.remedy) from error
        tell(
            f"{error.what}; its pixels are taken as those of digitry's own models: {trial.WAYS[0]}"
        )
        return as_artifact(model, own)
    tell(_told(shape, to_onnx.returned_by(model), found))
    return found.artifact


def _from_foreign(path: Path, tell: Tell) -> Artifact:
    """Return a .onnx file of another program as a model file."""
    extras.require("train", "a model of another program needs", "onnx")
    from digitry.training.network import foreign, trial

    core = foreign.core_of(path)
    try:
        found = trial.tried(core.onnx, path.stem)
    except ModelError as error:
        raise ModelError(error.what, where=path, remedy=error.remedy) from error
    tell(_told(core.shape, core.returned, found))
    return found.artifact


def _told(shape: tuple[int, ...], returned: str, found: "Found") -> str:
    axes = ", ".join(str(side) for side in ("n", *shape))
    return (
        f"takes ({axes}), {found.pixels}; returns {returned}; reads {100 * found.accuracy:.1f}% of "
        f"{found.images} known digits right ({found.known})"
    )
