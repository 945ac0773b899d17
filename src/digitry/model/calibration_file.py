"""The calibration file: a model's calibration to one source of images.

A model file never changes, because its sha256 identifies it. `digitry calibrate` writes a small JSON
file beside it (`model.onnx`, `model.calibration.json`), or, for a shipped model, in the user's folder of
models. The calibration is valid only for the model file that it was fitted to.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from digitry import files
from digitry.errors import DigitryError, ModelError, UnavailableError
from digitry.model.calibration_checks import (
    Curve,
    check_curve,
    check_digest,
    check_scores,
    check_texts,
)
from digitry.model.line_calibration import LineCalibration
from digitry.places import user_models
from digitry.plain import Plain

FORMAT_VERSION = 1
SUFFIX = ".calibration.json"
MAX_BYTES = 64 << 10
REMEDY = "run `digitry calibrate` again, or remove it with `digitry models uncalibrate`"


@dataclass(frozen=True, kw_only=True)
class Calibration(Plain):
    """Temperature and thresholds of one model for one source of images.

    Attributes:
        model_sha256: of the model file that it was fitted to.
        temperature: the logits are divided by it, in [0.01, 100].
        risk_coverage: rows (threshold, error, coverage), thresholds rising: an upper bound, at 95%
            confidence, of the share of wrong readings among those with confidence >= threshold, and
            their share of all images.
        source: name of the images.
        images: number of images.
        digits: number of images in which exactly one digit was found.
        data_sha256: of the images and their labels.
        scores: name -> number, before and after; shares in [0, 1], or a loss.
        created: ISO 8601 UTC.
        digitry: the version that wrote it.
    """

    model_sha256: str
    temperature: float
    risk_coverage: Curve
    source: str
    images: int
    digits: int
    data_sha256: str
    scores: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    digitry: str = ""

    def __post_init__(self) -> None:
        check_digest("model_sha256", self.model_sha256, REMEDY)
        check_digest("data_sha256", self.data_sha256, REMEDY)
        if not 0.01 <= self.temperature <= 100:
            raise ModelError(f"has the temperature {self.temperature}", remedy=REMEDY)
        if not 0 <= self.digits <= self.images:
            raise ModelError(f"counts {self.digits} digits in {self.images} images", remedy=REMEDY)
        check_scores(self.scores.values(), REMEDY)
        check_curve(self.risk_coverage, REMEDY)
        check_texts((self.source, self.created, self.digitry, *self.scores), REMEDY)


Kind = TypeVar("Kind", "Calibration", LineCalibration)


def path_of(model: Path) -> Path:
    """Return the path of a model file's calibration, beside it."""
    return model.with_suffix(SUFFIX)


def path_of_name(name: str) -> Path | None:
    """Return the path of a shipped model's calibration; None if this user has no home folder."""
    folder = user_models()
    return None if folder is None else folder / f"{name}{SUFFIX}"


def find(path: Path | None, kind: type[Kind] = Calibration) -> Kind | None:  # type: ignore[assignment]
    """Read a calibration and check every field.

    Args:
        path: from `path_of` or `path_of_name`.
        kind: of a glyph model, or of the line network.

    Returns:
        The calibration, or None if there is no file.

    Raises:
        ModelError: the file is not a valid calibration.
    """
    if path is None or not os.path.lexists(path):
        return None
    try:
        # Reading a pipe could block, and a device may never end.
        if not path.is_file():
            raise ModelError("is not a file", remedy="delete it")
        content = files.read_bytes(path, MAX_BYTES)
        if len(content) > MAX_BYTES:
            raise ModelError(f"is larger than {MAX_BYTES >> 10} KiB", remedy=REMEDY)
        return _parsed(content, kind)
    except OSError as error:
        raise ModelError(
            f"cannot be opened ({error.strerror})", where=path, remedy="check its permissions"
        ) from error
    except ModelError as error:
        raise ModelError(error.what, where=path, remedy=error.remedy) from error


def save(path: Path | None, calibration: Calibration | LineCalibration) -> Path:
    """Write a calibration, in one step.

    Raises:
        UnavailableError: this user has no home folder.
        DigitryError: it cannot be written.
    """
    if path is None:
        raise UnavailableError(
            "this user has no home folder for a calibration",
            remedy="set DIGITRY_MODELS to a folder",
        )
    files.write_json(path, {"format": FORMAT_VERSION, **calibration.to_dict()})
    return path


def remove(path: Path | None) -> bool:
    """Delete a calibration, even a damaged one.

    Returns:
        Whether there was one.

    Raises:
        DigitryError: it cannot be removed.
    """
    if path is None or not os.path.lexists(path):
        return False
    try:
        path.unlink()
    except OSError as error:
        raise DigitryError(
            f"cannot be deleted ({error.strerror})", where=path, remedy="check its permissions"
        ) from error
    return True


def _parsed(content: bytes, kind: type[Kind]) -> Kind:
    try:
        facts = json.loads(content, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError("is not JSON", remedy=REMEDY) from error
    names = {"format", *(part.name for part in fields(kind))}
    if not isinstance(facts, dict) or facts.get("format") != FORMAT_VERSION:
        raise ModelError(f"is not a calibration of format {FORMAT_VERSION}", remedy=REMEDY)
    if facts.keys() != names:
        raise ModelError("has missing or unknown fields", remedy=REMEDY)
    try:
        return kind.from_dict(facts)
    except ValueError as error:
        raise ModelError(f"{error}", remedy=REMEDY) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not valid JSON")
