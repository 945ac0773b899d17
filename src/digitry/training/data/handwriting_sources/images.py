"""BHMSDS, mfeat, Omniglot, Quick, Draw! and QMNIST -> packs of pictures, and MNIST's writers.

`mfeat_pixel`, `quickdraw` and `mnist_writers` follow from their sources alone. What the published packs
of the others do that this module can only guess: the order of BHMSDS's pictures within a symbol (here:
by number), and how Omniglot's pictures were made smaller (here: Lanczos).
"""

import gzip
import io
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from digitry.errors import DataError
from digitry.training.data.handwriting_sources.clone import WHOLE, read_file
from digitry.training.data.packs import Array

Bytes = npt.NDArray[np.uint8]

MAX_FILE = 128 << 20


def _grey(content: bytes, side: int, where: object) -> Bytes:
    """Decode a square picture of a known size."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.size != (side, side):
                raise DataError(f"is {image.size}, not {side}x{side} pixels", where=where)
            if "A" not in image.getbands():
                return np.asarray(image.convert("L"))
            paper = Image.new("RGBA", image.size, "white")
            return np.asarray(Image.alpha_composite(paper, image.convert("RGBA")).convert("L"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"is no picture ({error})", where=where, remedy=WHOLE) from error


# --- BHMSDS: symbols/<symbol>-<number>.png, 28x28 -------------------------------------------------


def _bhmsds(clone: Path, digits: bool) -> tuple[Bytes, list[str], int]:
    folder = clone / "symbols"
    if not folder.is_dir():
        raise DataError("has no folder symbols", where=clone, remedy=WHOLE)
    found = []
    for path in folder.glob("*.png"):
        match = re.fullmatch(r"(.+)-(\d{1,9})", path.stem)
        if match and bool(re.fullmatch("[0-9]", match[1])) == digits:
            found.append((match[1], int(match[2]), path))
    pictures, labels, damaged = [], [], 0
    for symbol, _, path in sorted(found):
        try:
            picture = _grey(read_file(path, MAX_FILE), 28, path)
        except DataError:
            damaged += 1
            continue
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        pictures.append(255 - picture if np.median(border) > 127 else picture)
        labels.append(symbol)
    return np.array(pictures, np.uint8).reshape(-1, 28, 28), labels, damaged


def bhmsds_digits(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `bhmsds_digits`."""
    pictures, labels, damaged = _bhmsds(clone, digits=True)
    return {"images": pictures, "labels": np.array([int(x) for x in labels], np.uint8)}, damaged


def bhmsds_symbols(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `bhmsds_symbols`."""
    pictures, labels, damaged = _bhmsds(clone, digits=False)
    return {"images": pictures, "labels": np.array(labels, "U")}, damaged


# --- mfeat: an ARFF of 240 pixels of 0..6 and a class of 1..10 ------------------------------------


def mfeat_pixel(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `mfeat_pixel`.

    Raises:
        DataError: the file is not there, or a row is wrong.
    """
    path = clone / "data" / "mfeat-pixel" / "mfeat-pixel.arff"
    _, found, data = read_file(path, MAX_FILE).decode("latin-1").partition("@data")
    rows = [line for line in data.splitlines() if line.strip() and not line.startswith("%")]
    if not found or not rows:
        raise DataError("has no @data", where=path, remedy=WHOLE)
    try:
        values = np.array([row.split(",") for row in rows], np.int64)
    except ValueError as error:
        raise DataError(f"has a wrong row ({error})", where=path, remedy=WHOLE) from error
    if values.ndim != 2 or values.shape[1] != 241:
        raise DataError("has rows that are not 241 numbers", where=path, remedy=WHOLE)
    pixels, classes = values[:, :240], values[:, 240]
    if pixels.min() < 0 or pixels.max() > 6 or classes.min() < 1 or classes.max() > 10:
        raise DataError("has pixels outside 0..6 or classes outside 1..10", where=path)
    # Class 1 is the digit 0, and so on: the file's own words say that it begins with the zeros.
    return {
        "images": np.rint(pixels.reshape(-1, 16, 15) * 42.5).astype(np.uint8),
        "labels": (classes - 1).astype(np.uint8),
    }, 0


# --- Omniglot: zips of <set>/<alphabet>/<character>/<number>_<drawer>.png, 105x105, ink = 0 -------

_SETS = ("images_background_small1.zip", "images_background_small2.zip")
_DRAWING = re.compile(r"[^/]+/([^/]+)/([^/]+)/\d+_(\d+)\.png")


def omniglot(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `omniglot`: the alphabets of the two small sets, each once.

    Raises:
        DataError: a zip is not there or damaged.
    """
    pictures: list[Bytes] = []
    labels: list[str] = []
    drawers: list[str] = []
    seen: set[str] = set()
    for name in _SETS:
        path = clone / "python" / name
        new: set[str] = set()
        try:
            with zipfile.ZipFile(io.BytesIO(read_file(path, MAX_FILE))) as archive:
                for info in sorted(archive.infolist(), key=lambda info: info.filename):
                    match = _DRAWING.fullmatch(info.filename)
                    if match is None or match[1] in seen or info.file_size > 1 << 20:
                        continue
                    new.add(match[1])
                    pictures.append(_smaller(archive.read(info), f"{path}: {info.filename}"))
                    labels.append(f"{match[1]}/{match[2]}")
                    drawers.append(match[3])
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise DataError(f"is no zip ({error})", where=path, remedy=WHOLE) from error
        seen |= new
    return {
        "images": np.array(pictures, np.uint8).reshape(-1, 64, 64),
        "labels": np.array(labels, "U"),
        "writers": np.array(drawers, "U"),
    }, 0


def _smaller(content: bytes, where: str) -> Bytes:
    picture = Image.fromarray(255 - _grey(content, 105, where))
    return np.asarray(picture.resize((64, 64), Image.Resampling.LANCZOS))


# --- Quick, Draw!: a thousand pictures of 784 bytes a file ----------------------------------------


def quickdraw(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `quickdraw`.

    Raises:
        DataError: a file is not there, or is not made of whole pictures.
    """
    pictures, labels = [], []
    for name in ("cat", "rainbow", "train"):
        path = clone / "examples" / "doodle_classification" / "data" / f"{name}s1000.bin"
        content = read_file(path, MAX_FILE)
        if not content or len(content) % 784:
            raise DataError(f"has {len(content):,} bytes, not 784 a picture", where=path)
        pictures.append(np.frombuffer(content, np.uint8).reshape(-1, 28, 28))
        labels += [name] * len(pictures[-1])
    return {"images": np.concatenate(pictures), "labels": np.array(labels, "U")}, 0


# --- QMNIST: a gzipped IDX of (60000, 8) int32, big-endian; column 2 is the writer ----------------


def mnist_writers(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `mnist_writers`.

    Raises:
        DataError: the file is not there, or is not that table.
    """
    path = clone / "qmnist-train-labels-idx2-int.gz"
    wanted = 12 + 60_000 * 8 * 4
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(read_file(path, MAX_FILE))) as stream:
            content = stream.read(wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"is no gzip ({error})", where=path, remedy=WHOLE) from error
    head = np.frombuffer(content[:12].ljust(12, b"\0"), ">i4").tolist()
    if head != [0x0C02, 60_000, 8] or len(content) != wanted:
        raise DataError("is no IDX of 60,000 rows of 8 numbers", where=path, remedy=WHOLE)
    table = np.frombuffer(content[12:], ">i4").reshape(60_000, 8)
    return {"writers": table[:, 2].astype(np.int32)}, 0
