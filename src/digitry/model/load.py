"""Load and check the model that a name, a file or a run folder stands for."""

import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path

from digitry import files
from digitry.errors import DigitryWarning, ModelError
from digitry.model import calibration_file, versions
from digitry.model.artifact import MODEL_FILE, Artifact, parse
from digitry.model.foreign_files import check_not_saved_model
from digitry.model.onnx_check import MAX_BYTES

SHIPPED = ("reader",)
"""The names of the models in the package; `versions.SHIPPED_VERSION` is the version of each."""


def load_model(model: str | Path) -> Artifact:
    """Load and check a model, and apply the calibration beside it.

    A calibration that was made for other bytes is not applied; a `DigitryWarning` says so.

    A shipped model's name loads the user's default version of it, if one has been promoted (see
    `digitry.model.versions`), else the model of the package; `reader@shipped` and `reader@2` always load
    the same one. If the default version is damaged, or made for another version of digitry, the shipped
    model is loaded instead, with a `DigitryWarning`. A version named by its number is never replaced.

    Args:
        model: the name of a shipped model, with or without a version; a .onnx file; or a run folder
            that holds model.onnx.

    Returns:
        The model. The metadata of a user's version have the name `reader@2`, and so do its readings.

    Raises:
        ModelError: it does not exist, is damaged or not a digitry model, or its calibration is damaged.
    """
    loaded = load_uncalibrated(model)
    calibration = calibration_file.find(calibration_path(loaded.reference))
    if calibration is None:
        return loaded
    if calibration.model_sha256 != loaded.sha256:
        warnings.warn(
            f"{loaded.source}: its calibration to {calibration.source} was made for another model and "
            f"is not used; {calibration_file.REMEDY}",
            DigitryWarning,
            stacklevel=2,
        )
        return loaded
    metadata = replace(
        loaded.metadata,
        temperature=calibration.temperature,
        risk_coverage=calibration.risk_coverage,
    )
    return replace(loaded, metadata=metadata, calibration=calibration)


def calibration_path(model: str | Path) -> Path | None:
    """Return the path of a model's calibration; None if this user has no home folder."""
    name, version = _named(model)
    if name is not None:
        number = _default_number(name) if version is None else versions.numbered(name, version)
        if number is None:
            return calibration_file.path_of_name(name)
        return calibration_file.path_of(versions.file_of(name, number))
    path = Path(model)
    return calibration_file.path_of(path / MODEL_FILE if path.is_dir() else path)


def load_uncalibrated(model: str | Path) -> Artifact:
    """Load and check a model without its calibration; otherwise as `load_model`."""
    name, version = _named(model)
    if name is not None:
        return (
            _default(name) if version is None else _by_name(name, versions.numbered(name, version))
        )
    path = Path(model)
    if path.is_dir():
        check_not_saved_model(path)
        path = path / MODEL_FILE
    try:
        content = files.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise ModelError(
            f"no such model ({error.strerror})",
            where=path,
            remedy=f"name a .onnx file, a run folder, or one of: {', '.join(SHIPPED)}",
        ) from error
    return parse(content, source=str(path))


def _named(model: str | Path) -> tuple[str | None, str | None]:
    """Return the name of a shipped model and its version, if any; (None, None) for a path."""
    if isinstance(model, str):
        name, at, version = model.partition("@")
        if name in SHIPPED:
            return name, version if at else None
    return None, None


def _default_number(name: str) -> int | None:
    """Return the number of the default; None = the shipped model, or default.json is damaged."""
    try:
        return versions.default_number(name)
    except ModelError:
        return None


def _default(name: str) -> Artifact:
    """Return the default version of a shipped model, or the shipped model if that is damaged."""
    try:
        return _by_name(name, versions.default_number(name))
    except ModelError as error:
        if error.where == name:
            # The shipped model itself is damaged.
            raise
        warnings.warn(f"{error}; the shipped model is used", DigitryWarning, stacklevel=4)
    return _by_name(name, None)


def _by_name(name: str, number: int | None) -> Artifact:
    if number is None:
        file = resources.files("digitry") / "models" / f"{name}.onnx"
        return replace(parse(file.read_bytes(), source=name), version=versions.SHIPPED_VERSION)
    found = versions.find(name, number)
    loaded = parse(versions.content(found), source=found.reference)
    # The file does not contain its number, but readings must name it.
    metadata = replace(loaded.metadata, name=found.reference)
    return replace(loaded, metadata=metadata, version=str(number))
