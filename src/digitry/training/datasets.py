"""Named data sets and users' own: found, verified, and brought to one form, `Dataset`.

    >>> from digitry.training import load_dataset
    >>> load_dataset("uci").train.images.shape       # doctest: +SKIP
    (1498, 28, 28)

`mnist` is found in the folder named by the caller or by `DIGITRY_DATA`, else in the user's cache,
else it is downloaded. `uci` comes with scikit-learn. Anything else is a path to a set of one's own.
"""

import hashlib
import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError, UnavailableError
from digitry.training import folders, mirrors
from digitry.training.mirrors import MNIST, MnistFile
from digitry.training.parsers import Bytes, Split, parse_idx

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "LICENCES",
    "ORIGINS",
    "Dataset",
    "FileState",
    "Split",
    "check",
    "hold_out",
    "load_dataset",
]

NAMED = ("mnist", "uci", "pages")

LICENCES = {
    "mnist": "CC BY-SA 3.0 (Y. LeCun, C. Cortes, C. J. C. Burges)",
    "uci": "CC BY 4.0 (E. Alpaydin, C. Kaynak)",
}
# What is drawn from MNIST stays under MNIST's licence.
LICENCES["pages"] = LICENCES["mnist"]

ORIGINS = {
    "mnist": "MNIST database of handwritten digits",
    "uci": "Optical Recognition of Handwritten Digits, UCI, doi.org/10.24432/C50P49",
    "pages": "pages that digitry draws from MNIST, the database of handwritten digits",
}
"""What the named data sets are, or are made of."""

OWN = "your own; digitry knows no licence of it"

TEST_SHARE = 1 / 6
"""Of a set without a test part of its own: MNIST's proportion, 10,000 of 60,000."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, ready to train and test on.

    Attributes:
        name: `mnist`, `uci`, or the name of the user's folder or file.
        train: what to train on; a validation part is taken from its end.
        test: what to test on; never trained on.
        sha256: of the images and labels of both parts, whatever files they came in.
        licence: of the data.
        source: the folder, file or package that it was found in, and how it was split if we did it.
    """

    name: str
    train: Split
    test: Split
    sha256: str
    licence: str
    source: str


@dataclass(frozen=True)
class FileState:
    """What `check` finds about one file.

    Attributes:
        file: its name.
        path: where it lies, if anywhere.
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

    A set of the user's own that has no test part loses a sixth of each class to it: the images with
    the smallest sha256, so the same images are held out however files are named or ordered, and
    `source` says so. A set that comes grouped by class is put into an order by sha256 too, since
    training holds out its end for validation.

    Args:
        name: `mnist`, `uci`, `pages` (what `reader` learns from, made of MNIST), or a path to a
            folder or file (see `folders.FORMS`).
        data_dir: where the files of `mnist` are looked for first; None = the folder `DIGITRY_DATA`.
        offline: never use the network.
        console: shows progress.

    Raises:
        DataError: a file, row, label or size is wrong.
        UnavailableError: the set is not here and cannot be had.
    """
    if name == "mnist":
        return _mnist(data_dir, offline, console)
    if name == "uci":
        return _uci()
    if name == "pages":
        # Synthesis is built on data sets; importing it here keeps the arrow one way at import.
        from digitry.training import synthesis

        return synthesis.load(_mnist(data_dir, offline, console), console=console)
    return _own(Path(name).expanduser(), console)


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """Cut the last share of the images off, before any shuffling, as Keras' `validation_split` does.

    Args:
        split: what to cut.
        share: in [0, 1).

    Returns:
        What stays, and what is held out.
    """
    at = math.floor(len(split) * (1 - share))
    return split.take(np.arange(at)), split.take(np.arange(at, len(split)))


def check(name: str, *, data_dir: Path | None = None) -> tuple[FileState, ...]:
    """Look at the files of a data set; nothing is downloaded or changed.

    Args:
        name: as for `load_dataset`.
        data_dir: as for `load_dataset`.

    Raises:
        DataError: there is no such data set, and nothing lies at a path of that name.
    """
    if name != "mnist":
        try:
            data = load_dataset(name)
        except UnavailableError as error:
            return (FileState(name, None, "absent", str(error)),)
        except DataError as error:
            if name not in NAMED and not Path(name).expanduser().exists():
                raise
            return (FileState(name, error.where, "bad", str(error)),)
        return (FileState(name, data.source, "ok", data.sha256),)
    for folder in _places(data_dir):
        found = [mirrors.locate(folder, file) for file in MNIST]
        if any(found):
            break
    states = []
    for file, path in zip(MNIST, found, strict=True):
        if path is None:
            states.append(FileState(file.name, None, "absent", f"not in {folder}"))
            continue
        try:
            mirrors.verified(path, file)
            states.append(FileState(file.name, str(path), "ok", file.sha256))
        except DataError as error:
            states.append(FileState(file.name, str(path), "bad", error.what))
    return tuple(states)


# --- mnist ----------------------------------------------------------------------------------------


def _places(data_dir: Path | None) -> list[Path]:
    named = data_dir or (
        Path(os.environ["DIGITRY_DATA"]) if os.environ.get("DIGITRY_DATA") else None
    )
    cache = mirrors.cache_dir() / "mnist"
    return [cache] if named is None else [named.expanduser(), cache]


def _mnist(data_dir: Path | None, offline: bool, console: "Console | None") -> Dataset:
    *named, cache = _places(data_dir)
    for folder in named:
        paths = [mirrors.locate(folder, file) for file in MNIST]
        if all(paths):
            return _from_files([path for path in paths if path], folder)
        if console is not None:
            missing = ", ".join(
                f.name for f, path in zip(MNIST, paths, strict=True) if path is None
            )
            console.print(f"{folder} lacks {missing}; looking further", highlight=False)
    with _gentle(named):
        cached = [mirrors.locate(cache, file) for file in MNIST]
        if all(cached):
            try:
                return _from_files([path for path in cached if path], cache)
            except DataError:
                # The cache is ours to repair; a folder of the user's is not.
                if offline:
                    raise
        if offline:
            raise UnavailableError(
                f"MNIST is not in {cache}, and offline nothing is downloaded",
                remedy="put its four files into a folder "
                f"({', '.join(f'{file.name}.gz' for file in MNIST)}) and name it by --data-dir or "
                "DIGITRY_DATA; or use the set `uci`, which is always there",
            )
        mirrors.fetch(cache, console=console)
        return _from_files([_there(cache, file) for file in MNIST], cache)


@contextmanager
def _gentle(named: list[Path]) -> Iterator[None]:
    """Say in the final error that the folder the user named was looked into, too."""
    try:
        yield
    except UnavailableError as error:
        if not named:
            raise
        raise UnavailableError(
            f"not all four files are in {named[0]}; {error.what}",
            where=error.where,
            remedy=error.remedy,
        ) from error


def _there(folder: Path, file: MnistFile) -> Path:
    path = mirrors.locate(folder, file)
    if path is None:
        raise DataError("has gone again", where=folder / file.name, remedy="fetch it once more")
    return path


def _from_files(paths: list[Path], folder: Path) -> Dataset:
    arrays = [
        parse_idx(io.BytesIO(mirrors.verified(path, file)), where=path)
        for path, file in zip(paths, MNIST, strict=True)
    ]
    return dataset_of(
        "mnist",
        Split(arrays[0], arrays[1]),
        Split(arrays[2], arrays[3]),
        LICENCES["mnist"],
        str(folder),
    )


# --- uci ------------------------------------------------------------------------------------------


def _uci() -> Dataset:
    try:
        import sklearn
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UnavailableError(
            "the data set `uci` needs the extra `train`", remedy="pip install 'digitry[train]'"
        ) from error
    digits = load_digits()
    images = np.stack([_as_mnist(image) for image in digits.images])
    whole = Split(images, digits.target.astype(np.uint8))
    train, test = _stratified(whole)
    source = (
        f"scikit-learn {sklearn.__version__}, load_digits; a sixth of each class is the test part"
    )
    return dataset_of("uci", train, test, LICENCES["uci"], source)


def _as_mnist(counts: npt.NDArray[np.float64]) -> Bytes:
    """Draw an 8x8 image of 0..16 as MNIST would have it: its ink in a 20x20 box, its mass centred.

    The 8x8 pixels are counts of ink in 4x4 cells, so smooth upscaling is the honest inverse. It is
    bicubic; the contrast is stretched a little, since MNIST's strokes are near full ink inside.
    """
    from PIL import Image

    rows, columns = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
    ink = counts[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    # A cell of ground around it lets the edge of the ink fade out as it does inside.
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
            raise DataError(f"has no {part} images", where=path, remedy="add some, of each class")
    classes = np.unique(train.labels)
    if len(classes) == 1:
        raise DataError(
            f"has the one class {classes[0]}",
            where=path,
            remedy="with one class there is nothing to tell apart; add images of other digits",
        )
    source = str(path.absolute())
    if test is None:
        train, test = _stratified(train)
        source += ", a sixth of each class held out for testing"
        if len(test) == 0:
            raise DataError(
                "has one image a class", where=path, remedy="add more, so that some can be held out"
            )
    if _grouped(train.labels):
        train = train.take(_by_content(train.images, np.arange(len(train))))
        source += ", put into an order by sha256"
    return dataset_of(path.absolute().name.split(".")[0], train, test, OWN, source)


def _by_content(pixels: Bytes, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Order images by the sha256 of their pixels: as good as random, and the same on any machine.

    No generator's stream is promised to stay, but this is; and equal images lie side by side.
    """
    digests = [hashlib.sha256(b"digitry" + pixels[i].tobytes()).digest() for i in index]
    return index[np.array(sorted(range(len(index)), key=digests.__getitem__), np.int64)]


def _stratified(split: Split, pixels: Bytes | None = None) -> tuple[Split, Split]:
    """Hold out `TEST_SHARE` of each class, but at least one image where a class has two or more.

    Args:
        split: what to cut.
        pixels: (n, …) uint8 that the choice goes by; None = the images.
    """
    pixels = split.images if pixels is None else pixels
    held = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        index = np.flatnonzero(split.labels == label)
        count = max(1, round(len(index) * TEST_SHARE)) if len(index) > 1 else 0
        held[_by_content(pixels, index)[:count]] = True
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def _grouped(labels: Bytes) -> bool:
    """Say whether labels change less than half as often as they would in a random order."""
    shares = np.bincount(labels, minlength=10) / len(labels)
    expected = (len(labels) - 1) * float(1 - (shares**2).sum())
    return int((labels[1:] != labels[:-1]).sum()) < expected / 2


def dataset_of(name: str, train: Split, test: Split, licence: str, source: str) -> Dataset:
    """Make a data set of its two parts, with the sha256 of their content."""
    digest = hashlib.sha256()
    for array in (train.images, train.labels, test.images, test.labels):
        digest.update(f"{array.shape}".encode())
        digest.update(array.tobytes())
    return Dataset(name, train, test, digest.hexdigest(), licence, source)
