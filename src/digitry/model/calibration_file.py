"""What lies beside a model file: its calibration to one's own source of images.

A model file is never changed, since its bytes are its name. What `digitry calibrate` finds out about
somebody's own images stands in a small JSON file beside it (`model.onnx`, `model.calibration.json`), or,
for a model that is known by name, in the user's folder of models. It holds for exactly the bytes that it
was fitted to.
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from digitry import files
from digitry.errors import DigitryError, ModelError, UnavailableError
from digitry.places import user_models
from digitry.plain import Plain

FORMAT_VERSION = 1
SUFFIX = ".calibration.json"
MAX_BYTES = 64 << 10
MAX_ROWS = 256
MAX_TEXT = 400
REMEDY = "run `digitry calibrate` again, or take it away with --remove"


@dataclass(frozen=True, kw_only=True)
class Calibration(Plain):
    """Temperature and thresholds of one model for one source of images.

    Attributes:
        model_sha256: of the model file that it was fitted to.
        temperature: the logits are divided by it, in [0.01, 100].
        risk_coverage: rows (threshold, error, coverage), thresholds rising: of the readings with
            confidence >= threshold, the share that may be wrong, an upper bound at 95% confidence; and
            the share of all images that remains.
        source: what the images are called.
        images: how many there were.
        digits: how many of them gave a digit to fit to.
        data_sha256: of the images and their labels.
        scores: name -> number, before and after, in [0, 1] or a loss.
        created: ISO 8601 UTC.
        digitry: the version that wrote it.
    """

    model_sha256: str
    temperature: float
    risk_coverage: tuple[tuple[float, float, float], ...]
    source: str
    images: int
    digits: int
    data_sha256: str
    scores: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    digitry: str = ""

    def __post_init__(self) -> None:
        for name in ("model_sha256", "data_sha256"):
            if not re.fullmatch(r"[0-9a-f]{64}", getattr(self, name)):
                raise ModelError(f"has a {name} that is none", remedy=REMEDY)
        if not 0.01 <= self.temperature <= 100:
            raise ModelError(f"has the temperature {self.temperature}", remedy=REMEDY)
        if not 0 <= self.digits <= self.images:
            raise ModelError(f"counts {self.digits} digits in {self.images} images", remedy=REMEDY)
        if not all(math.isfinite(score) for score in self.scores.values()):
            raise ModelError("has a score that is not finite", remedy=REMEDY)
        thresholds = [row[0] for row in self.risk_coverage]
        if len(thresholds) > MAX_ROWS or thresholds != sorted(thresholds):
            raise ModelError("has a risk-coverage curve out of order or too long", remedy=REMEDY)
        if not all(0 <= share <= 1 for row in self.risk_coverage for share in row):
            raise ModelError("has a risk-coverage curve that is no shares", remedy=REMEDY)
        for text in (self.source, self.created, self.digitry, *self.scores):
            # What a file says of itself is printed on somebody's terminal.
            if len(text) > MAX_TEXT or not text.isprintable():
                raise ModelError("has text that cannot be printed", remedy=REMEDY)


def path_of(model: Path) -> Path:
    """Say where the calibration of a model file lies: beside it."""
    return model.with_suffix(SUFFIX)


def path_of_name(name: str) -> Path | None:
    """Say where the calibration of a model that is known by name lies; None where it cannot lie."""
    folder = user_models()
    return None if folder is None else folder / f"{name}{SUFFIX}"


def find(path: Path | None) -> Calibration | None:
    """Read a calibration, checking every part of it.

    Args:
        path: as `path_of` or `path_of_name` gives it.

    Returns:
        None where there is none.

    Raises:
        ModelError: what lies there is no calibration.
    """
    if path is None or not os.path.lexists(path):
        return None
    try:
        # A pipe would be waited for, and a device might never end.
        if not path.is_file():
            raise ModelError("is no file", remedy="take it away")
        content = files.read_bytes(path, MAX_BYTES)
        if len(content) > MAX_BYTES:
            raise ModelError(f"is larger than {MAX_BYTES >> 10} KiB", remedy=REMEDY)
        return _parsed(content)
    except OSError as error:
        raise ModelError(
            f"cannot be opened ({error.strerror})", where=path, remedy="check its rights"
        ) from error
    except ModelError as error:
        raise ModelError(error.what, where=path, remedy=error.remedy) from error


def save(path: Path | None, calibration: Calibration) -> Path:
    """Write a calibration, whole or not at all.

    Raises:
        UnavailableError: this user has no folder to keep it in.
        DigitryError: it cannot be written.
    """
    if path is None:
        raise UnavailableError(
            "this user has no home to keep a calibration in", remedy="name a folder: DIGITRY_MODELS"
        )
    files.write_json(path, {"format": FORMAT_VERSION, **calibration.to_dict()})
    return path


def remove(path: Path | None) -> bool:
    """Take a calibration away, sound or not.

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
            f"cannot be removed ({error.strerror})", where=path, remedy="check its rights"
        ) from error
    return True


def _parsed(content: bytes) -> Calibration:
    try:
        facts = json.loads(content, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelError("is not JSON", remedy=REMEDY) from error
    names = {"format", *(part.name for part in fields(Calibration))}
    if not isinstance(facts, dict) or facts.get("format") != FORMAT_VERSION:
        raise ModelError(f"is no calibration of format {FORMAT_VERSION}", remedy=REMEDY)
    if facts.keys() != names:
        raise ModelError("lacks fields, or has unknown ones", remedy=REMEDY)
    try:
        return Calibration.from_dict(facts)
    except ValueError as error:
        raise ModelError(f"{error}", remedy=REMEDY) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
