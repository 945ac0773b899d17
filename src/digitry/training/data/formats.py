"""Read one file of images and labels (IDX, .npz, CSV) into arrays or a `Split`.

Declared sizes are checked before memory is allocated, and every error is a `DataError` that names the
file, the row and the remedy. Nothing is unpickled.
"""

import gzip
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from digitry.errors import DataError, ImageError
from digitry.training.data.dataset import Array, Bytes, Split

MAX_IMAGES = 2_000_000
MAX_BYTES = 2 << 30
"""Size of one decompressed array, at most: enough for two million images."""
MAX_SIDE = 1024
"""Width and height of one image in an array, at most, in pixels."""


@contextmanager
def open_stream(path: Path, *, gzipped: bool = True) -> Iterator[BinaryIO]:
    """Open a file for reading, through gzip if it is gzipped; errors become `DataError`s."""
    try:
        with path.open("rb") as raw:
            packed = gzipped and raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"is truncated or damaged ({error})", where=path, remedy="copy or download it again"
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})", where=path, remedy="check the path"
        ) from error


def read_at_most(stream: BinaryIO, count: int) -> bytearray:
    """Read at most `count` bytes; memory grows only with the bytes that arrive."""
    content = bytearray()
    while len(content) < count and (piece := stream.read(min(1 << 20, count - len(content)))):
        content += piece
    return content


# --- IDX: the format of MNIST's own files (yann.lecun.org/exdb/mnist) ---------------------------


def parse_idx(stream: BinaryIO, *, where: object) -> Bytes:
    """Read one IDX file of unsigned bytes.

    Returns:
        (n,) labels or (n, height, width) images, uint8.

    Raises:
        DataError: wrong magic number, sizes out of range, a truncated file, or bytes after the end.
    """
    head = stream.read(4)
    if len(head) < 4 or head[:3] != b"\0\0\x08" or head[3] not in (1, 3):
        raise DataError(
            f"has the magic number {head.hex() or 'of an empty file'}, not 00000803 (images) or "
            "00000801 (labels)",
            where=where,
            remedy="download it again, or check that it is an IDX file of bytes",
        )
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise DataError("is truncated in its header", where=where, remedy="download it again")
    shape = struct.unpack(f">{head[3]}I", sizes)
    _check_shape(shape, where)
    wanted = math.prod(shape)
    content = read_at_most(stream, wanted + 1)
    if len(content) < wanted:
        raise DataError(
            f"is truncated: {'x'.join(map(str, shape))} needs {wanted:,} bytes after the header, "
            f"it has {len(content):,}",
            where=where,
            remedy="download it again",
        )
    if len(content) > wanted:
        raise DataError(
            f"has more than the {wanted:,} bytes of data in its header",
            where=where,
            remedy="download it again",
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _check_shape(shape: tuple[int, ...], where: object) -> None:
    if shape[0] > MAX_IMAGES or any(not 1 <= side <= MAX_SIDE for side in shape[1:]):
        raise DataError(
            f"declares the shape {' x '.join(f'{size:,}' for size in shape)}",
            where=where,
            remedy=f"use at most {MAX_IMAGES:,} images, 1 to {MAX_SIDE} pixels high and wide",
        )
    if math.prod(shape) > MAX_BYTES:
        raise DataError(
            f"declares {math.prod(shape):,} pixels",
            where=where,
            remedy=f"use at most {MAX_BYTES:,}",
        )


# --- .npz ---------------------------------------------------------------------------------------

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
    _check_shape((shape[0], *[side for side in shape[1:] if len(shape) > 2]), where)
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


# --- CSV with pixels ----------------------------------------------------------------------------

_LONGEST_LINE = 64 << 10


def parse_csv(stream: BinaryIO, *, where: object) -> Split:
    """Read rows of a label and 784 pixels, as in Kaggle's MNIST.

    A header is optional; without one the label is the first column.

    Raises:
        DataError: a row is wrong (the error names its line), or there are no labels.
    """
    column, header = 0, False
    pixels, labels, lines = bytearray(), bytearray(), []
    number = 0
    while line := stream.readline(_LONGEST_LINE + 1):
        number += 1
        at = f"{where}, line {number}"
        if len(line) > _LONGEST_LINE:
            raise DataError("is too long", where=at, remedy="write rows of 785 numbers")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            fields = [field.strip(b"\"' \t\r\n").lower() for field in line.split(b",")]
            header = any(re.search(rb"[a-z]", field) for field in fields) and b"nan" not in fields
            if (header and fields.count(b"label") != 1) or len(fields) == 784:
                raise DataError(
                    "has no column `label`",
                    where=where,
                    remedy="use a file with labels, e.g. Kaggle's train.csv; for a file without labels, "
                    "such as its test.csv, there is `digitry predict`",
                )
            if header:
                column = fields.index(b"label")
                continue
        if not line.strip():
            continue
        if len(labels) == MAX_IMAGES:
            raise DataError(
                "is one image too many", where=at, remedy=f"use at most {MAX_IMAGES:,} images"
            )
        row = csv_row(line, at)
        label = row[column]
        if label > 9:
            raise DataError(f"has the label {label}", where=at, remedy="use a label from 0 to 9")
        labels.append(label)
        pixels += row[:column] + row[column + 1 :]
        lines.append(f"line {number}")
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)
    return _split(images, np.frombuffer(labels, np.uint8), tuple(lines), where)


def csv_row(line: bytes, at: str, count: int = 785) -> bytes:
    """Return the bytes 0 to 255 in one line of a CSV.

    Args:
        line: the line.
        at: what errors call it.
        count: how many numbers it must have.

    Raises:
        DataError: it has another number of fields, or a field is not an integer of 0 to 255.
    """
    fields = line.replace(b'"', b"").split(b",")
    if len(fields) != count:
        what = "784 pixels" if count == 784 else "a label and 784 pixels"
        raise DataError(
            f"has {len(fields)} fields, not {count}",
            where=at,
            remedy=f"write {what}, separated by commas",
        )
    # int() accepts 1_0 as ten; a data set must not contain it.
    if b"_" not in line:
        with suppress(ValueError):
            # bytes() refuses values outside 0..255, and int() anything but integers.
            return bytes(map(int, fields))
    row = bytearray()
    for index, field in enumerate(fields, 1):
        try:
            value = math.nan if b"_" in field else float(field)
        except ValueError:
            value = math.nan
        if not (0 <= value <= 255 and value == int(value)):
            text = field.strip()[:20].decode("ascii", "backslashreplace")
            raise DataError(
                f"has {text!r} in field {index}",
                where=at,
                remedy="use integers from 0 to 255",
            )
        row.append(int(value))
    return bytes(row)


# --- arrays to splits ---------------------------------------------------------------------------


def light_ground(images: Bytes) -> npt.NDArray[np.bool_]:
    """Return which images have a light background: most of their border is lighter than mid-grey.

    Args:
        images: (n, height, width) uint8.

    Returns:
        (n,) bool.
    """
    border = np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1
    )
    return np.asarray((border > 127).mean(axis=1) > 0.5)


def from_arrays(images: Bytes, labels: Array, *, where: object, prefix: str) -> Split:
    """Return a split of images and labels, after normalising the images that need it.

    Args:
        images: (n, height, width) or (n, height, width, 3) uint8.
        labels: (n,) numbers.
        where: file or array that an error names.
        prefix: images are named `prefix[row]`.

    Raises:
        DataError: the counts differ, a label is out of range, or an image cannot be read.
    """
    names = tuple(f"{prefix}[{row}]" for row in range(len(images)))
    return _split(images, labels, names, where)


def _split(images: Bytes, labels: Array, names: tuple[str, ...], where: object) -> Split:
    if len(images) != len(labels):
        raise DataError(
            f"has {len(images):,} images, but {len(labels):,} labels",
            where=where,
            remedy="give one label per image; check that the two belong together",
        )
    good = (labels >= 0) & (labels <= 9) & (labels == np.floor(labels))
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"has the label {labels[row]} for {names[row]}",
            where=where,
            remedy="use labels from 0 to 9",
        )
    result, light = glyphs_of(images, names, where)
    small = images.shape[1:] == (28, 28)
    turned = np.flatnonzero(light) if small and 2 * light.sum() < len(light) else ()
    return Split(result, labels.astype(np.uint8), names, tuple(int(i) for i in turned))


def glyphs_of(
    images: Bytes, names: Sequence[str], where: object
) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Return images as glyphs: 28x28 with light ink unchanged, all others normalised.

    Args:
        images: (n, height, width) or (n, height, width, 3) uint8.
        names: what errors call each image.
        where: file or array that an error names.

    Returns:
        (n, 28, 28) uint8, ink = 255, and which images were normalised.

    Raises:
        DataError: an image cannot be read.
    """
    small = images.shape[1:] == (28, 28)
    light = light_ground(images) if small else np.ones(len(images), bool)
    result = images.copy() if small else np.zeros((len(images), 28, 28), np.uint8)
    for index in np.flatnonzero(light).tolist():
        try:
            result[index] = normalised(images[index])
        except ImageError as error:
            raise DataError(
                f"{names[index]}: {error.what}", where=where, remedy="repair or remove the image"
            ) from error
    return result, light


def normalised(source: Path | Bytes) -> Bytes:
    """Return an image of one digit, normalised as the reader does.

    Returns:
        (28, 28) uint8, ink = 255.

    Raises:
        ImageError: it cannot be read.
    """
    from digitry.reading.reader import single_glyph

    return np.asarray(np.rint(single_glyph(source) * 255), np.uint8)
