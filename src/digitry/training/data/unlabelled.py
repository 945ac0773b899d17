"""Read images without labels, to predict them: CSV, .npz, .npy, IDX, a folder of images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digitry.errors import DataError, ImageError
from digitry.progress import track
from digitry.reading.endings import is_image
from digitry.training.data.dataset import Bytes
from digitry.training.data.folders import picture
from digitry.training.data.formats import (
    MAX_IMAGES,
    csv_row,
    glyphs_of,
    open_stream,
    parse_idx,
)
from digitry.training.data.npz import npz_images, pixels_of, read_npy

if TYPE_CHECKING:
    from rich.console import Console

FORMS = "give a .csv, .npz or .npy file, an IDX file of images, or a folder of images"
PIXELS = 784
ARRAYS = ("x_test", "images", "x", "X", "test", "data")
"""Names under which an .npz may hold images, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Images without labels.

    Attributes:
        ids: what each image is called in a table of predictions: 1 to n, or the file's own names.
        images: (n, 28, 28) uint8, ink = 255.
    """

    ids: tuple[str, ...]
    images: Bytes = field(repr=False)


def read(path: Path, *, console: "Console | None" = None) -> Unlabelled:
    """Read images without labels.

    28x28 grey images with light ink on a dark background are used unchanged; all others go through the
    reader's normalisation. Labels that a CSV has are passed over.

    Args:
        path: a file or a folder, see `FORMS`. An .npz holds the images as `x_test`, `images` or `x`, or
            as its only array of images.
        console: where to show progress; None = nowhere.

    Raises:
        DataError: the file is wrong, or holds no images.
    """
    if path.is_dir():
        return _folder(path, console)
    if not path.is_file():
        raise DataError("no such file", where=path, remedy=FORMS)
    name = path.name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return _csv(path)
    if name.endswith(".npz"):
        with open_stream(path, gzipped=False) as stream:
            return _numbered(npz_images(stream, ARRAYS, where=path), path)
    if name.endswith(".npy"):
        with open_stream(path, gzipped=False) as stream:
            array = read_npy(stream, path.stat().st_size, path)
        return _numbered(pixels_of(array, path), path)
    if "ubyte" in name or "idx" in name:
        with open_stream(path) as stream:
            images = parse_idx(stream, where=path)
        if images.ndim != 3:
            raise DataError(
                "holds labels, not images", where=path, remedy="give the file with images"
            )
        return _numbered(images, path)
    raise DataError("is not a known kind of data set", where=path, remedy=FORMS)


def _numbered(images: Bytes, where: Path) -> Unlabelled:
    if not len(images):
        raise DataError("has no images", where=where, remedy=FORMS)
    ids = tuple(str(number) for number in range(1, len(images) + 1))
    return Unlabelled(ids, glyphs_of(images, [f"image {one}" for one in ids], where)[0])


def _csv(path: Path) -> Unlabelled:
    """Read rows of 784 pixels, with or without a header; columns `label` and `ImageId` are known."""
    pixels = bytearray()
    ids: list[str] = []
    label = named = None
    with open_stream(path) as stream:
        for number, line in enumerate(stream, 1):
            at = f"{path}, line {number}"
            if not line.strip():
                continue
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
                header = [field.strip(b"\"' \t\r\n").lower() for field in line.split(b",")]
                if any(re.search(rb"[a-z]", field) for field in header):
                    label, named = _column(header, b"label"), _column(header, b"imageid", b"id")
                    continue
                # Without a header, 785 numbers are a label and its image.
                label = 0 if len(header) == PIXELS + 1 else None
            if len(ids) == MAX_IMAGES:
                raise DataError(
                    "is one image too many", where=at, remedy=f"use at most {MAX_IMAGES:,} images"
                )
            fields = line.rstrip(b"\r\n").split(b",")
            ids.append(_id(fields, named, len(ids) + 1))
            left = [one for index, one in enumerate(fields) if index not in (label, named)]
            pixels += csv_row(b",".join(left), at, PIXELS)
    if not ids:
        raise DataError("has no images", where=path, remedy="give rows of 784 pixels")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)
    return Unlabelled(tuple(ids), glyphs_of(images, [f"image {one}" for one in ids], path)[0])


def _column(header: Sequence[bytes], *names: bytes) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _id(fields: Sequence[bytes], column: int | None, number: int) -> str:
    if column is None or column >= len(fields):
        return str(number)
    return fields[column].strip(b"\"' \t").decode("utf-8", "replace")


def _folder(folder: Path, console: "Console | None") -> Unlabelled:
    found = [path for path in sorted(folder.rglob("*")) if is_image(path.name) and path.is_file()]
    if not found:
        raise DataError("has no images", where=folder, remedy=FORMS)
    images = np.zeros((len(found), 28, 28), np.uint8)
    for index, path in enumerate(track(found, len(found), f"reading {folder.name}", console)):
        try:
            images[index], _ = picture(path)
        except ImageError as error:
            raise DataError(error.what, where=path, remedy="repair or remove the image") from error
    return Unlabelled(tuple(path.relative_to(folder).as_posix() for path in found), images)
