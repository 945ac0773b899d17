"""Read one file of images and labels (IDX, CSV; `npz` reads the third form) into arrays or a `Split`.

Declared sizes are checked before memory is allocated, and every error is a `DataError` that names the
file, the row and the remedy. Nothing is unpickled.
"""

import gzip
import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
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
    check_shape(shape, where)
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


def check_shape(shape: tuple[int, ...], where: object) -> None:
    """Raise a DataError if an array would have too many images, or too large ones."""
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
