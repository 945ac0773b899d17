"""Trains a new version of a shipped model on a store of corrections, and puts it through the gate."""

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digitry.errors import DataError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.improve.gate import GlyphVerdict
    from digitry.improve.line_gate import LineVerdict
    from digitry.improve.retrain import Corrected
    from digitry.improve.retrain_lines import CorrectedLines
    from digitry.improve.verdict import Verdict
    from digitry.model.versions import Version
    from digitry.training.run_folder import Run


@dataclass(frozen=True, kw_only=True)
class Taught:
    """The result of teaching.

    Attributes:
        run: the run folder.
        learnt: number of corrections that the model was trained on.
        verdict: of the gate; None if the training was interrupted, and no version was added.
        version: the new version; None if the training was interrupted.
        promoted: whether it is now the default version. A version that passed is not if another one
            became the default during the training.
    """

    run: "Run"
    learnt: int
    verdict: "GlyphVerdict | None" = None
    version: "Version | None" = None
    promoted: bool = False


def teach(
    name: str,
    db: str | None,
    settings: Mapping[str, str],
    *,
    data_dir: Path | None,
    device: str,
    out: Path | None,
    only: frozenset[str] | None,
    console: "Console | None",
) -> Taught:
    """Train the default version of a shipped model on a store of corrections, and add a new version.

    Args:
        name: of the shipped model.
        db: file or address of the store; None = the user's own.
        settings: recipe fields, as text.
        data_dir: folder of MNIST's files.
        device: `auto`, `cpu`, `cuda` or `mps`.
        out: the run folder; None = a new one under `runs`.
        only: outputs to write, as in `train_run`.
        console: shows progress; None = nothing.

    Raises:
        DigitryError: something is missing or damaged; the default version is unchanged.
    """
    from digitry.model import versions
    from digitry.model.load import SHIPPED, load_uncalibrated

    if name not in SHIPPED:
        raise UsageError(
            f"{name!r} is not a shipped model",
            where="MODEL",
            remedy=f"choose from: {', '.join(SHIPPED)}",
        )
    corrected = _corrected(db, console)
    if console is not None:
        console.print(_counted("corrections", *corrected.split()), highlight=False)
    # By its number: a damaged default is an error here, not replaced by the shipped model.
    over = versions.default_number(name)
    parent = load_uncalibrated(f"{name}@{over or versions.SHIPPED_VERSION}")
    from digitry.improve import retrain
    from digitry.training import datasets, run_folder
    from digitry.training.loop.device import find_device

    find_device(device)
    recipe = retrain.recipe_for(parent, settings)
    if out is not None:
        run_folder.check_new(out)
    mnist = datasets.load_dataset("mnist", data_dir=data_dir, console=console)
    done = retrain.retrain(
        parent,
        load_uncalibrated(f"{name}@{versions.SHIPPED_VERSION}"),
        corrected,
        mnist,
        out or run_folder.default_folder(recipe.name),
        settings=settings,
        device=device,
        only=only,
        console=console,
    )
    verdict = done.verdict
    if verdict is None:
        return Taught(run=done.run, learnt=done.learnt)
    created = done.model.metadata.created
    version, promoted = _kept(name, done.model.onnx, created, verdict, parent.sha256, over)
    return Taught(
        run=done.run, learnt=done.learnt, verdict=verdict, version=version, promoted=promoted
    )


def _kept(
    name: str,
    model: bytes,
    created: str,
    verdict: "Verdict",
    parent_sha256: str,
    over: int | None,
) -> "tuple[Version, bool]":
    """Write a new version, and return it and whether it is now the default."""
    from digitry.model import versions

    version = versions.add(
        name,
        model,
        created=created,
        reason=verdict.summary,
        passed=verdict.passed,
        scores=verdict.scores,
        gate=verdict.to_dict(),
        parent_sha256=parent_sha256,
    )
    promoted = verdict.passed and versions.succeed(
        name, version.number, over=over, reason=verdict.summary
    )
    return version, promoted


@dataclass(frozen=True, kw_only=True)
class TaughtLines:
    """The result of teaching the line network.

    Attributes:
        folder: with the network, the checkpoint and the verdict.
        learnt: number of corrected lines that it was trained on.
        verdict: of the gate.
        version: the new version.
        promoted: as in `Taught`.
    """

    folder: Path
    learnt: int
    verdict: "LineVerdict"
    version: "Version"
    promoted: bool


def teach_lines(
    db: str | None,
    *,
    data_dir: Path | None,
    out: Path | None,
    samples: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    console: "Console | None" = None,
) -> TaughtLines:
    """Train the default version of the line network on corrected lines, and add a new version.

    Args:
        db: file or address of the store; None = the user's own.
        data_dir: folder of MNIST and of the packs of handwriting; without them it also learns drawn lines.
        out: the folder; an interrupted training in it is continued. None = a new one under `runs`.
        samples: how many strips it is trained on; None = as many as take a few minutes.
        seed: of the composed strips.
        device: `cpu` or `cuda`.
        console: shows progress; None = nothing.

    Raises:
        DigitryError: something is missing or damaged; the default version is unchanged.
    """
    from digitry.improve import retrain_lines
    from digitry.model import line_network, versions
    from digitry.training import run_folder

    name = line_network.NAME
    corrected = _corrected_lines(db)
    if console is not None:
        console.print(_counted("corrected lines", *corrected.split()), highlight=False)
    over = versions.default_number(name)
    parent = line_network.load_lines(f"{name}@{over or versions.SHIPPED_VERSION}")
    created = run_folder.now()
    done = retrain_lines.retrain_lines(
        parent,
        line_network.load_lines(f"{name}@{versions.SHIPPED_VERSION}"),
        corrected,
        out or run_folder.default_folder(name),
        data_dir=data_dir,
        samples=samples or retrain_lines.SAMPLES,
        seed=seed,
        device=device,
        console=console,
    )
    verdict = done.verdict
    version, promoted = _kept(name, done.network.onnx, created, verdict, parent.sha256, over)
    return TaughtLines(
        folder=done.folder,
        learnt=done.learnt,
        verdict=verdict,
        version=version,
        promoted=promoted,
    )


def _corrected_lines(db: str | None) -> "CorrectedLines":
    """Return the corrected lines of a store."""
    from digitry.corrections.store import open_store
    from digitry.improve.retrain_lines import CorrectedLines
    from digitry.reading import image

    _check_store(db)
    with open_store(db) as store:
        where = store.address
        rows = [
            (image.load(row.strip, name=row.id).gray, row.text, row.sha256)
            for row in store.each_line()
        ]
    if not rows:
        raise DataError(
            "holds no corrected lines to train on",
            where=where,
            remedy="type some lines first, on the web page of digitry serve",
        )
    inks, texts, digests = zip(*rows, strict=True)
    return CorrectedLines(inks, texts, digests)


def _check_store(db: str | None) -> None:
    from digitry.corrections.database import file_of
    from digitry.places import corrections_file

    path = corrections_file() if db is None else file_of(db)
    if path is not None and not path.is_file():
        raise DataError(
            "no such corrections store",
            where=path,
            remedy="correct some readings on the web page of digitry serve, or name its store by --db",
        )


def _counted(what: str, learnt: Sized, held: Sized) -> str:
    """Return how many corrections there are, and how many are missing for the gate."""
    from digitry.improve import retrain, verdict

    text = f"{len(learnt) + len(held)} {what}: {len(learnt)} to train on, {len(held)} held out"
    missing = verdict.fewest() - len(held)
    if missing <= 0:
        return text
    # About this share of further corrections will be held out, too.
    more = math.ceil(missing / retrain.HELD_OUT)
    return (
        f"{text}\n{missing} more must be held out, about {more} more {what} in all: until then "
        "a new version stays a candidate"
    )


def _corrected(db: str | None, console: "Console | None") -> "Corrected":
    """Return the corrections of a store as arrays."""
    import numpy as np

    from digitry.corrections.store import open_store
    from digitry.improve.retrain import Corrected
    from digitry.model.artifact import GLYPH_VERSION, LABELS
    from digitry.reading import image

    _check_store(db)
    images, labels, digests, skipped = [], [], [], 0
    with open_store(db) as store:
        where = store.address
        for row in store.each():
            if row.glyph_version != GLYPH_VERSION:
                skipped += 1
                continue
            images.append(image.load(row.glyph, name=row.id).gray)
            labels.append(LABELS.index(row.label))
            digests.append(row.sha256)
    if skipped and console is not None:
        console.print(
            f"{skipped} corrections are skipped: another version of digitry made their glyphs",
            highlight=False,
        )
    if not images:
        raise DataError(
            "holds no corrections to train on",
            where=where,
            remedy="correct some readings first, on the web page of digitry serve",
        )
    return Corrected(np.stack(images), np.array(labels, np.uint8), tuple(digests))
