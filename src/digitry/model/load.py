"""A name, a file or a run folder to the checked model that is meant."""

import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path

from digitry import files
from digitry.errors import DigitryWarning, ModelError
from digitry.model import calibration_file, versions
from digitry.model.artifact import Artifact, parse
from digitry.model.onnx_check import MAX_BYTES

SHIPPED = ("reader",)
"""The models that come with the package, by name."""


def load_model(model: str | Path) -> Artifact:
    """Load and check a model, and apply the calibration that lies beside it.

    One that was made for other bytes is not applied, with a `DigitryWarning`.

    The name of a shipped model means the user's own version of it, where one has been promoted to be
    the default (see `digitry.model.versions`), and else the model of the package; `reader@shipped` and
    `reader@2` name one of them for good. Where the default is damaged, or was made for another digitry,
    the shipped model is given in its place, with a `DigitryWarning`; a version that is asked for by its
    number is given or refused.

    Args:
        model: the name of a shipped model, with or without a version; a .onnx file; or a run folder
            that holds model.onnx.

    Returns:
        The model. A user's version is called `reader@2` in its metadata, and so in every reading.

    Raises:
        ModelError: there is none, or it is not an undamaged model of ours; or its calibration is damaged.
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
    """Return where the calibration of a model lies; None where this user has no place for it."""
    name, version = _named(model)
    if name is not None:
        number = _default_number(name) if version is None else _number(name, version)
        if number is None:
            return calibration_file.path_of_name(name)
        return calibration_file.path_of(versions.file_of(name, number))
    path = Path(model)
    return calibration_file.path_of(path / "model.onnx" if path.is_dir() else path)


def load_uncalibrated(model: str | Path) -> Artifact:
    """Load and check a model as it was trained, whatever lies beside it; otherwise as `load`."""
    name, version = _named(model)
    if name is not None:
        return _default(name) if version is None else _by_name(name, _number(name, version))
    path = Path(model)
    if path.is_dir():
        path = path / "model.onnx"
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
    """Return the name of a shipped model and the version asked for, or (None, None) for a path."""
    if isinstance(model, str):
        name, at, version = model.partition("@")
        if name in SHIPPED:
            return name, version if at else None
    return None, None


def _number(name: str, version: str) -> int | None:
    """Return the number of a version; None = the shipped model."""
    if version == versions.SHIPPED:
        return None
    if not (version.isascii() and version.isdecimal() and len(version) <= 9):
        raise ModelError(
            f"{version!r} is no version",
            where=f"{name}@{version}",
            remedy=f"write {name}@{versions.SHIPPED}, or a number of `digitry models list`",
        )
    return int(version)


def _default_number(name: str) -> int | None:
    """Return the number of the default, where that can be told; None = the shipped model."""
    try:
        return versions.default_number(name)
    except ModelError:
        return None


def _default(name: str) -> Artifact:
    """Return what the plain name of a shipped model means to this user."""
    try:
        return _by_name(name, versions.default_number(name))
    except ModelError as error:
        if error.where == name:
            # The shipped model itself: there is nothing to fall back on.
            raise
        warnings.warn(f"{error}; the shipped model reads meanwhile", DigitryWarning, stacklevel=4)
    return _by_name(name, None)


def _by_name(name: str, number: int | None) -> Artifact:
    if number is None:
        file = resources.files("digitry") / "models" / f"{name}.onnx"
        return replace(parse(file.read_bytes(), source=name), version=versions.SHIPPED)
    found = versions.find(name, number)
    loaded = parse(versions.content(found), source=found.reference)
    # The file does not know its number; whoever reads a reading wants to.
    metadata = replace(loaded.metadata, name=found.reference)
    return replace(loaded, metadata=metadata, version=str(number))
