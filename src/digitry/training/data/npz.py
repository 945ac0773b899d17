"""Read arrays of images and labels in NumPy's formats, .npz and .npy; nothing is unpickled."""

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO, cast

import numpy as np

from digitry.errors import DataError
from digitry.training.data.dataset import Array, Bytes, Split
from digitry.training.data.formats import MAX_BYTES, check_shape, from_arrays, read_at_most

# The header that numpy.lib.format writes for plain numbers.
_NPY = re.compile(
    rb"\{'descr': '(?P<descr>[<>|=]?[A-Za-z?]\d*)', 'fortran_order': (?P<fortran>True|False), "
    rb"'shape': \((?P<shape>[\d, ]{0,80})\), ?\}\s*"
)


def parse_npz(stream: BinaryIO, *, where: object) -> tuple[Split, Split | None]:
    """Read an .npz with `x_train`, `y_train` and perhaps `x_test`, `y_test`, or `images`, `labels`.

    Pixels may be bytes, integers in 0..255, floats in [0, 1] or [0, 255], or booleans; if no pixel is
    above 1, then 1 is full ink. Labels may be numbers or one-hot rows.

    Raises:
        DataError: it is not such an archive, or an array is wrong.
    """
    with _npz(stream, where) as (archive, keys):
        if {"x_train", "y_train"} <= keys.keys():
            pairs = [("x_train", "y_train")]
            if {"x_test", "y_test"} & keys.keys():
                pairs.append(("x_test", "y_test"))
        else:
            pairs = [("images", "labels")]
        parts = []
        for pair in pairs:
            for key in pair:
                if key not in keys:
                    raise DataError(
                        f"has no array {key!r}; it has {_listed(keys)}",
                        where=where,
                        remedy="name them x_train, y_train, x_test, y_test, or images, labels",
                    )
            images, labels = (_npy(archive, keys[key], f"{where}[{key}]") for key in pair)
            parts.append(
                from_arrays(
                    pixels_of(images, f"{where}[{pair[0]}]"),
                    _label_array(labels, f"{where}[{pair[1]}]"),
                    where=where,
                    prefix=pair[0],
                )
            )
    return parts[0], parts[1] if len(parts) == 2 else None


def npz_images(stream: BinaryIO, names: Sequence[str], *, where: object) -> Bytes:
    """Read the images of an .npz that needs no labels.

    Args:
        stream: of the file.
        names: of arrays that may be the images, the likeliest first; an only array may have any name.
        where: what errors call it.

    Returns:
        (n, height, width) or (n, height, width, 3) uint8.

    Raises:
        DataError: it is not such an archive, or has no such array.
    """
    with _npz(stream, where) as (archive, keys):
        found = next((name for name in names if name in keys), None)
        if found is None and len(keys) == 1:
            found = next(iter(keys))
        if found is None:
            raise DataError(
                f"has no array of a known name; it has {_listed(keys)}",
                where=where,
                remedy=f"name the images {names[0]} or {names[1]}",
            )
        at = f"{where}[{found}]"
        return pixels_of(_npy(archive, keys[found], at), at)


def _listed(keys: Mapping[str, zipfile.ZipInfo]) -> str:
    return ", ".join(sorted(keys)[:8]) or "none"


@contextmanager
def _npz(
    stream: BinaryIO, where: object
) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Open an .npz, and turn what a damaged one raises into a `DataError`."""
    try:
        with zipfile.ZipFile(stream) as archive:
            yield archive, {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
            ValueError, struct.error, OverflowError, OSError) as error:  # fmt: skip
        # zipfile raises all of these for damaged, encrypted or unusual archives.
        raise DataError(
            f"cannot be read as .npz ({error})",
            where=where,
            remedy="save it again with numpy.savez",
        ) from error


def _npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Array:
    if info.file_size > MAX_BYTES:
        raise DataError(
            f"declares {info.file_size:,} bytes", where=where, remedy=f"use at most {MAX_BYTES:,}"
        )
    # Deflate compresses at most 1,032 : 1, so a larger declared size is false.
    if info.file_size > 1_100 * (info.compress_size + 64):
        raise DataError("declares an impossible size", where=where, remedy="save it again")
    with archive.open(info) as stream:
        return read_npy(cast(BinaryIO, stream), info.file_size, where)


def read_npy(stream: BinaryIO, size: int, where: object) -> Array:
    """Read an array of numbers in NumPy's format.

    Args:
        stream: of the whole file.
        size: of the file, in bytes.
        where: what errors call it.

    Raises:
        DataError: it is damaged, or holds something else than numbers.
    """
    if size > MAX_BYTES:
        raise DataError(
            f"declares {size:,} bytes", where=where, remedy=f"use at most {MAX_BYTES:,}"
        )
    magic = stream.read(8)
    width = 2 if magic[6:7] == b"\x01" else 4
    length = int.from_bytes(stream.read(width), "little")
    header = stream.read(min(length, 4096))
    match = _NPY.fullmatch(header)
    if magic[:6] != b"\x93NUMPY" or match is None or length != len(header):
        pickled = b"'|O'" in header or b"'descr': [" in header
        raise DataError(
            "has Python objects or records, which are never loaded"
            if pickled
            else "is not an array",
            where=where,
            remedy="save plain arrays of numbers",
        )
    descr = match["descr"].decode()
    if descr.lstrip("<>|=")[:1] not in ("b", "i", "u", "f", "?"):
        raise DataError(
            f"is of the type {descr!r}; pickled objects and text are never loaded",
            where=where,
            remedy="save plain arrays of numbers",
        )
    try:
        dtype = np.dtype(descr)
    except TypeError as error:
        raise DataError(
            f"is of the type {descr!r}", where=where, remedy="save plain arrays of numbers"
        ) from error
    shape = tuple(int(size) for size in match["shape"].decode().replace(",", " ").split())
    if not shape or dtype.itemsize == 0 or len(shape) > 4:
        raise DataError(f"has the shape {shape}", where=where, remedy="save one row per image")
    check_shape((shape[0], *[side for side in shape[1:] if len(shape) > 2]), where)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != size - 8 - width - length:
        raise DataError(
            f"declares the shape {shape}, which does not match its {size:,} bytes",
            where=where,
            remedy="save it again",
        )
    content = read_at_most(stream, wanted + 1)
    if len(content) != wanted:
        raise DataError("is truncated", where=where, remedy="save it again")
    values: Array = np.frombuffer(content, dtype)
    return values.reshape(shape[::-1]).T if match["fortran"] == b"True" else values.reshape(shape)


def pixels_of(array: Array, where: object) -> Bytes:
    """Return pixels of any number type as uint8, and (n, 784) or (n, 28, 28, 1) as (n, 28, 28)."""
    if array.ndim == 2 and array.shape[1] == 784:
        array = array.reshape(-1, 28, 28)
    elif array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    elif array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 and not (array.ndim == 4 and array.shape[3] in (3, 4)):
        raise DataError(
            f"has the shape {array.shape}",
            where=where,
            remedy="save (n, 28, 28), (n, 784), (n, height, width) or (n, height, width, 3)",
        )
    if array.size == 0:
        return np.zeros(array.shape, np.uint8)
    rows = array.reshape(len(array), -1)
    if array.dtype == bool:
        return array.astype(np.uint8) * np.uint8(255)
    # NaN fails both comparisons, so it is caught here too.
    good = (rows.min(axis=1) >= 0) & (rows.max(axis=1) <= 255)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"row {row} has a pixel of {rows[row].max()} or {rows[row].min()}",
            where=where,
            remedy="save pixels of 0 to 255, or 0 to 1",
        )
    scale = 255 if array.max() <= 1 else 1
    if array.dtype.kind == "f":
        return np.rint(array.astype(np.float32) * scale).astype(np.uint8)
    return array.astype(np.uint8) * np.uint8(scale)


def _label_array(array: Array, where: str) -> Array:
    if array.ndim == 2 and array.shape[1] == 10:
        ones = (array == 1).sum(axis=1)
        if not ((ones == 1) & ((array == 0).sum(axis=1) == 9)).all():
            row = int(np.argmax((ones != 1) | ((array == 0).sum(axis=1) != 9)))
            raise DataError(
                f"row {row} is not one-hot", where=where, remedy="use one 1 and nine 0s in each row"
            )
        return np.asarray(array.argmax(axis=1))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"has the shape {array.shape}", where=where, remedy="save labels as (n,) numbers"
        )
    return array
