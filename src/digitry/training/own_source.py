"""A user's labelled images -> the calibration of a model to that source, kept beside the model.

The images go the whole way that they will go later: file, page, ink, glyph, network. So what is
fitted holds for this camera, these pens and this paper, as far as the images show them.
"""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digitry import __version__, artifact, sidecar
from digitry.artifact import Artifact
from digitry.errors import DataError, ImageError
from digitry.reading.reader import Layout, Reader
from digitry.sidecar import Calibration
from digitry.training import calibration, folders
from digitry.training.calibration import Quality
from digitry.training.progress import Steps

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What a calibration came to.

    Attributes:
        calibration: as it was saved.
        path: where.
        model: as it was trained, without any calibration.
        before, after: how well the model's own calibration and the new one hold on these images.
        unread: images in which nothing was found, or more than one digit.
        failed: images that could not be read at all.
    """

    calibration: Calibration
    path: Path
    model: Artifact
    before: Quality
    after: Quality
    unread: int
    failed: tuple[ImageError, ...]


def calibrate(
    folder: Path,
    model: str | Path = "reader",
    *,
    layout: Layout = "single",
    console: "Console | None" = None,
) -> Calibrated:
    """Fit a model's temperature and thresholds to one's own images, and keep them beside the model.

    Args:
        folder: of class folders 0 to 9, or with a labels.csv; of subfolders `train` and `test` the
            latter is taken.
        model: the name of a shipped model, with or without a version; a .onnx file; or a run folder.
        layout: how the images will be read.
        console: shows progress.

    Raises:
        DataError: the folder has another form, or too few images give a digit.
        ModelError: the model is missing, damaged, or not ours.
        UnavailableError: there is no place to keep the calibration in.
    """
    listed = folders.labelled_pictures(Path(folder))
    loaded = artifact.load_uncalibrated(model)
    reader = Reader(loaded, layout)
    logits, labels, failed, unread = [], [], [], 0
    digest = hashlib.sha256()
    said = time.monotonic()
    with Steps(console, len(listed)) as steps:
        for number, (path, label) in enumerate(listed):
            steps.at(number, "reading")
            if console is not None and not console.is_terminal and time.monotonic() - said >= 5:
                said = time.monotonic()
                steps.line(f"read {number} of {len(listed)}")
            try:
                _, glyphs = reader.examine(path)
            except ImageError as error:
                failed.append(error)
                continue
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{content} {label}\n".encode())
            if len(glyphs) != 1:
                unread += 1
                continue
            # Logits but for a constant, which no softmax sees.
            shares = np.maximum(reader.probabilities(glyphs)[0], 1e-300)
            logits.append(loaded.metadata.temperature * np.log(shares))
            labels.append(label)
    images = len(listed) - len(failed)
    try:
        fit = calibration.fit_source(
            np.array(logits, np.float64).reshape(len(labels), len(loaded.metadata.labels)),
            np.array(labels, np.int64),
            images=images,
            temperature=loaded.metadata.temperature,
            curve=loaded.metadata.risk_coverage,
        )
    except DataError as error:
        raise DataError(error.what, where=folder, remedy=error.remedy) from error
    found = Calibration(
        model_sha256=loaded.sha256,
        temperature=fit.temperature,
        risk_coverage=fit.risk_coverage,
        source=_printable(Path(folder).resolve().name),
        images=images,
        digits=len(labels),
        data_sha256=digest.hexdigest(),
        scores={
            f"{name} {when}": value
            for when, quality in (("before", fit.before), ("after", fit.after))
            for name, value in _scores(quality).items()
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        digitry=__version__,
    )
    return Calibrated(
        calibration=found,
        path=sidecar.save(artifact.calibration_path(loaded.reference), found),
        model=loaded,
        before=fit.before,
        after=fit.after,
        unread=unread,
        failed=tuple(failed),
    )


def _scores(quality: Quality) -> dict[str, float]:
    scores = {"nll": quality.nll, "ece": quality.ece, "accuracy": quality.accuracy}
    for kept in quality.kept:
        if kept.coverage is not None:
            scores[f"coverage at {kept.limit:g}"] = kept.coverage
    return scores


def _printable(name: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return shown[: sidecar.MAX_TEXT]
