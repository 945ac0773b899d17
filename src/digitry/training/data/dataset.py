"""Labelled images: `Split`, and `Dataset` with a training and a test split."""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError
from digitry.fingerprint import sha256_of

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


LICENCES = {
    "mnist": "CC BY-SA 3.0 (Y. LeCun, C. Cortes, C. J. C. Burges)",
    "uci": "CC BY 4.0 (E. Alpaydin, C. Kaynak)",
}
# What is composed of MNIST keeps MNIST's licence.
LICENCES["pages"] = LICENCES["mnist"]
LICENCES["glyphs"] = (
    f"{LICENCES['mnist']}; CC BY 4.0 (UNIPEN, Multiple Features, Quick, Draw!, LECTAUREP, Peraire); MIT "
    "(BHMSDS, Omniglot); NOTICE names them in full"
)

ORIGINS = {
    "mnist": "MNIST database of handwritten digits",
    "uci": "Optical Recognition of Handwritten Digits, UCI, doi.org/10.24432/C50P49",
    # No command makes these any more, but models that learnt from them are in use.
    "pages": "pages of digits that digitry draws from MNIST",
    "glyphs": "characters that digitry composes of MNIST and of the packs of handwriting",
}
"""The full names of the named data sets, or what they are made of."""

WITH_CORRECTIONS = "mnist+corrections"
"""The data set that `digitry teach` trains on. It cannot be loaded by its name."""

COMPOSED = re.compile(r"(glyphs)-\d+")
"""Names of as many glyphs as one likes; all are the set `glyphs`."""

OWN = "your own; its licence is not known to digitry"


TEST_SHARE = 1 / 6
"""Share held out for testing if a set has no test part: MNIST's proportion, 10,000 of 60,000."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: (n, 28, 28) uint8, ink = 255 on a background of 0.
        labels: (n,) uint8, 0 to 9.
        names: source of each image (a file, a line, an array's row); empty for a named set.
        turned: indices of images that were dark ink on a light background, unlike most of the set.
            Loading has inverted them; `explore` reports them.
    """

    images: Bytes
    labels: Bytes
    names: tuple[str, ...] = ()
    turned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.shape != (count, 28, 28) or self.images.dtype != np.uint8:
            raise DataError(
                f"images are {self.images.shape} {self.images.dtype}, not (n, 28, 28) uint8"
            )
        if self.labels.shape != (count,) or self.labels.dtype != np.uint8:
            raise DataError(
                f"labels are {self.labels.shape} {self.labels.dtype}, not ({count},) uint8"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        """Return one line: how many images there are."""
        return f"<Split of {len(self):,} images>"

    @staticmethod
    def joined(parts: Sequence["Split"]) -> "Split":
        """Return the images of several splits, one after the other, without their names."""
        return Split(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )

    def take(self, index: Sequence[int] | npt.NDArray[np.int64]) -> "Split":
        """Return the images at these indices, in this order."""
        chosen = np.asarray(index, np.int64)
        turned = np.zeros(len(self), bool)
        turned[list(self.turned)] = True
        return Split(
            self.images[chosen],
            self.labels[chosen],
            tuple(self.names[i] for i in chosen) if self.names else (),
            tuple(int(i) for i in np.flatnonzero(turned[chosen])),
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with a training and a test part.

    Attributes:
        name: `mnist`, `uci`, or the name of the user's folder or file.
        train: training part; validation images are taken from its end.
        test: test part; never trained on.
        sha256: of the images and labels of both parts, independent of the file format.
        licence: licence of the data.
        source: its folder, file or package, and how digitry split it, if it did.
    """

    name: str
    train: Split
    test: Split
    sha256: str
    licence: str
    source: str

    def __repr__(self) -> str:
        """Return one line: the name, and how many images the two parts have."""
        return f"<Dataset {self.name}: {len(self.train):,} training and {len(self.test):,} test images>"


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """Return a split without its last images, and those images, as Keras' `validation_split` does.

    Args:
        split: images in their original order.
        share: share to hold out, in [0, 1).

    Returns:
        The first images, and the held-out last ones.
    """
    at = math.floor(len(split) * (1 - share))
    return split.take(np.arange(at)), split.take(np.arange(at, len(split)))


def stratified(split: Split, pixels: Bytes | None = None) -> tuple[Split, Split]:
    """Return a training and a test part, with `TEST_SHARE` of each class held out.

    At least one image of each class with two or more is held out.

    Args:
        split: images to divide.
        pixels: (n, …) uint8 whose digests decide the choice; None = the images.
    """
    pixels = split.images if pixels is None else pixels
    held = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        index = np.flatnonzero(split.labels == label)
        count = max(1, round(len(index) * TEST_SHARE)) if len(index) > 1 else 0
        held[by_content(pixels, index)[:count]] = True
    return split.take(np.flatnonzero(~held)), split.take(np.flatnonzero(held))


def is_grouped(labels: Bytes) -> bool:
    """Return whether labels change less than half as often as they would in a random order."""
    shares = np.bincount(labels, minlength=10) / len(labels)
    expected = (len(labels) - 1) * float(1 - (shares**2).sum())
    return int((labels[1:] != labels[:-1]).sum()) < expected / 2


def dataset_of(name: str, train: Split, test: Split, licence: str, source: str) -> Dataset:
    """Return a data set of these two parts, with the sha256 of their content."""
    sha256 = sha256_of(train.images, train.labels, test.images, test.labels)
    return Dataset(name, train, test, sha256, licence, source)


def by_content(pixels: Bytes, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return indices in the order of the images' sha256: pseudo-random, and the same on any machine.

    Unlike a random generator's stream, this order can never change between library versions. Equal
    images are adjacent. A prefix keeps these digests different from all others.
    """
    digests = [hashlib.sha256(b"digitry" + pixels[i].tobytes()).digest() for i in index]
    return index[np.array(sorted(range(len(index)), key=digests.__getitem__), np.int64)]
