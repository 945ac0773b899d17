"""Loads and checks named data sets and users' own as a `Dataset`.

    >>> from digitry.training import load_dataset
    >>> load_dataset("uci").train.images.shape       # doctest: +SKIP
    (1498, 28, 28)

`mnist` is searched for in the folder given by the caller or by `DIGITRY_DATA`, then in the user's
cache, and then downloaded. `uci` comes with scikit-learn. Any other name is a path to a user's own set.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry import extras
from digitry.errors import DataError, UnavailableError
from digitry.training.data import folders, mnist
from digitry.training.data.dataset import (
    LICENCES,
    OWN,
    Bytes,
    Dataset,
    Split,
    by_content,
    dataset_of,
    is_grouped,
    stratified,
)
from digitry.training.data.mnist import MNIST

if TYPE_CHECKING:
    from rich.console import Console

NAMED = ("mnist", "uci", "glyphs")


def is_named(name: str) -> bool:
    """Return whether a data set is known by its name; any other is a path."""
    stem, _, count = name.partition("-")
    return name in NAMED or (stem == "glyphs" and count.isdecimal())


@dataclass(frozen=True)
class FileState:
    """The state of one file of a data set.

    Attributes:
        file: its name.
        path: its path; None if it is absent.
        state: `ok`, `bad` or `absent`.
        detail: what is wrong, or the sha256 of its content.
    """

    file: str
    path: str | None
    state: str
    detail: str


def load_dataset(
    name: str = "mnist",
    *,
    data_dir: Path | None = None,
    offline: bool = False,
    console: "Console | None" = None,
) -> Dataset:
    """Load a data set.

    If a user's own set has no test part, a sixth of each class becomes the test part: the images with
    the smallest sha256, so the choice does not depend on names or order of files; `source` says so.
    A set that is grouped by class is sorted by sha256, because training holds out its end for
    validation.

    Args:
        name: `mnist`, `uci`, `glyphs` (what the recipe `glyph` learns from, composed of MNIST and the
            packs of handwriting; `glyphs-60000` has so many), or a path to a folder or file (see
            `folders.FORMS`).
        data_dir: where the files of `mnist` are searched first; None = the folder `DIGITRY_DATA`.
        offline: never use the network.
        console: shows progress.

    Raises:
        DataError: a file, row, label or size is wrong.
        UnavailableError: the set is not on this machine and cannot be downloaded.
    """
    if name == "mnist":
        return mnist.load(data_dir, offline, console)
    if name == "uci":
        return _uci()
    if is_named(name):
        # Imported late: OpenCV and the reader are not needed for other data.
        from digitry.training.writing import glyph_set

        return glyph_set.load(
            mnist.load(data_dir, offline, console), data_dir, name, console=console
        )
    if name == "pages" and not Path(name).exists():
        raise DataError(
            "were drawn by an earlier version, and are no more",
            where=name,
            remedy="name other data, such as `glyphs`; a run on pages cannot be resumed: train anew "
            "with `digitry train glyph`",
        )
    return _own(Path(name).expanduser(), console)


def check(name: str, *, data_dir: Path | None = None) -> tuple[FileState, ...]:
    """Check the files of a data set; nothing is downloaded or changed.

    Args:
        name: as for `load_dataset`.
        data_dir: as for `load_dataset`.

    Raises:
        DataError: there is no data set and no path of that name.
    """
    if name != "mnist":
        try:
            data = load_dataset(name)
        except UnavailableError as error:
            return (FileState(name, None, "absent", str(error)),)
        except DataError as error:
            if not is_named(name) and not Path(name).expanduser().exists():
                raise
            return (FileState(name, error.where, "bad", str(error)),)
        return (FileState(name, data.source, "ok", data.sha256),)
    found: list[Path | None] = [None] * len(MNIST)
    absent = "no folder is given, and the user has no home folder"
    for folder in mnist.places(data_dir):
        found, absent = [mnist.locate(folder, file) for file in MNIST], f"not in {folder}"
        if any(found):
            break
    states = []
    for file, path in zip(MNIST, found, strict=True):
        if path is None:
            states.append(FileState(file.name, None, "absent", absent))
            continue
        try:
            mnist.verified(path, file)
            states.append(FileState(file.name, str(path), "ok", file.sha256))
        except DataError as error:
            states.append(FileState(file.name, str(path), "bad", error.what))
    return tuple(states)


# --- uci ------------------------------------------------------------------------------------------


def _uci() -> Dataset:
    extras.require("train", "the data set `uci` needs", "sklearn")
    import sklearn
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.stack([_as_mnist(image) for image in digits.images])
    whole = Split(images, digits.target.astype(np.uint8))
    train, test = stratified(whole)
    source = (
        f"scikit-learn {sklearn.__version__}, load_digits; a sixth of each class is the test part"
    )
    return dataset_of("uci", train, test, LICENCES["uci"], source)


def _as_mnist(counts: npt.NDArray[np.float64]) -> Bytes:
    """Return an 8x8 image of 0 to 16 in MNIST's form: ink in a 20x20 box, centre of mass in the middle.

    The 8x8 pixels are counts of ink in 4x4 cells, so they are scaled up smoothly (bicubic). The contrast
    is raised a little, because MNIST's strokes are nearly full ink inside.

    Args:
        counts: (8, 8) float64 in [0, 16].

    Returns:
        (28, 28) uint8, ink = 255.
    """
    from PIL import Image

    rows, columns = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
    ink = counts[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # One empty cell around the ink, so that its outer edges fade out like the inner ones.
    ink = np.pad(ink, 1).astype(np.float32)
    zoom = 20 / max(ink.shape[0] - 1, ink.shape[1] - 1)
    width, height = round(ink.shape[1] * zoom), round(ink.shape[0] * zoom)
    large = np.asarray(Image.fromarray(ink).resize((width, height), Image.Resampling.BICUBIC))
    large = np.clip((large / 16 - 0.12) * 1.4, 0, 1)
    page = np.zeros((84, 84), np.float32)
    page[28 : 28 + height, 28 : 28 + width] = large
    total = page.sum()
    y = round(float((page.sum(axis=1) * np.arange(84)).sum() / total)) - 14
    x = round(float((page.sum(axis=0) * np.arange(84)).sum() / total)) - 14
    return np.asarray(np.rint(page[y : y + 28, x : x + 28] * 255), np.uint8)


# --- users' own -----------------------------------------------------------------------------------


def _own(path: Path, console: "Console | None") -> Dataset:
    train, test = folders.read(path, console=console)
    for part, split in (("training", train), ("test", test)):
        if split is not None and len(split) == 0:
            raise DataError(f"has no {part} images", where=path, remedy="add images of each class")
    classes = np.unique(train.labels)
    if len(classes) == 1:
        raise DataError(
            f"has only one class, {classes[0]}",
            where=path,
            remedy="add images of other digits",
        )
    source = str(path.absolute())
    if test is None:
        train, test = stratified(train)
        source += ", a sixth of each class held out for testing"
        if len(test) == 0:
            raise DataError(
                "has only one image per class",
                where=path,
                remedy="add images, so that some can be held out for testing",
            )
    if is_grouped(train.labels):
        train = train.take(by_content(train.images, np.arange(len(train))))
        source += ", ordered by sha256"
    return dataset_of(path.absolute().name.split(".")[0], train, test, OWN, source)
