"""Read a user's data set, a folder or a file, into a training part and perhaps a test part.

Forms: class folders of images, images with a labels.csv, pairs of IDX files, .npz, CSV. A path in a
table may not leave its folder; archives are not unpacked.
"""

import csv
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from digitry.errors import DataError, ImageError
from digitry.progress import track
from digitry.training.data.dataset import Bytes, Split
from digitry.training.data.formats import (
    MAX_IMAGES,
    from_arrays,
    light_ground,
    normalised,
    open_stream,
    parse_csv,
    parse_idx,
)
from digitry.training.data.npz import parse_npz

if TYPE_CHECKING:
    from rich.console import Console

FORMS = (
    "give a folder with class folders 0 to 9, a folder with labels.csv, "
    "a folder of IDX files, an .npz file, or a .csv file with the columns label, pixel0 to pixel783"
)
PICTURES = "give a folder with class folders 0 to 9, or a folder with labels.csv"
TEXTS = (
    "give a folder with labels.csv, or one folder for each text; a label is digits, perhaps with spaces "
    "and the marks . , - / :"
)
LONGEST = 120
"""Characters of a label."""

CLASSES = tuple(str(value) for value in range(10))


def read(path: Path, *, console: "Console | None" = None) -> tuple[Split, Split | None]:
    """Read a user's data set.

    28x28 grey images with light ink on a dark background are used unchanged; all others go through the
    reader's normalisation.

    Args:
        path: a folder or a file, in one of the forms of `FORMS`. A folder of images may have the
            subfolders `train` and `test` (or `training` and `testing`).
        console: where to show progress; None = nowhere.

    Returns:
        The training part, and the test part if the data set has one.

    Raises:
        DataError: a file, row, label or size is wrong.
    """
    if path.is_dir():
        return _folder(path, console)
    if not path.is_file():
        raise DataError("no such data set", where=path, remedy=f"name mnist, uci, or {FORMS}")
    name = path.name.lower()
    if name.endswith(".npz"):
        with open_stream(path, gzipped=False) as stream:
            return parse_npz(stream, where=path)
    if name.endswith((".csv", ".csv.gz")):
        with open_stream(path) as stream:
            return parse_csv(stream, where=path), None
    if "ubyte" in name:
        raise DataError(
            "is one of a pair of IDX files", where=path, remedy="give the folder that holds both"
        )
    if name.endswith((".zip", ".tar", ".tgz", ".tar.gz")):
        raise DataError("is an archive", where=path, remedy="unpack it, then give the folder")
    raise DataError("is not a known kind of data set", where=path, remedy=FORMS)


def labelled_texts(folder: Path) -> list[tuple[Path, str]]:
    """Return the images of a folder labelled with what is written in them, without reading them.

    Args:
        folder: as for `labelled_pictures`, but a label, or a folder's name, is digits, perhaps with
            spaces and the marks `. , - / :`.

    Returns:
        (path, label) of each image.

    Raises:
        DataError: it is not such a folder.
    """
    return _all_labelled(folder, _is_text, TEXTS)


def _is_text(label: str) -> bool:
    kept = set(label) <= set("0123456789.,-/: ")
    return kept and any(letter.isdigit() for letter in label) and len(label) <= LONGEST


def labelled_pictures(folder: Path) -> list[tuple[Path, int]]:
    """Return the images of a labelled folder, without reading them.

    Args:
        folder: with class folders 0 to 9, or a labels.csv; if it has the subfolders `train` and `test`
            (or `training` and `testing`), the latter is used.

    Returns:
        (path, label 0 to 9) of each image.

    Raises:
        DataError: it is not such a folder.
    """
    listed = _all_labelled(folder, CLASSES.__contains__, PICTURES)
    return [(path, int(label)) for path, label in listed]


def _all_labelled(
    folder: Path, is_label: Callable[[str], bool], remedy: str
) -> list[tuple[Path, str]]:
    if not folder.is_dir():
        raise DataError("is not a folder", where=folder, remedy=remedy)
    for train, test in (("train", "test"), ("training", "testing")):
        if (folder / train).is_dir() and (folder / test).is_dir():
            folder = folder / test
            break
    try:
        listed = _labelled(folder, is_label, remedy)
    except OSError as error:
        raise DataError(
            f"cannot be listed ({error.strerror})", where=folder, remedy="check its permissions"
        ) from error
    if not listed:
        raise DataError("has no images", where=folder, remedy=remedy)
    return listed


def _folder(folder: Path, console: "Console | None") -> tuple[Split, Split | None]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not _hidden(entry))
    except OSError as error:
        raise DataError(
            f"cannot be listed ({error.strerror})", where=folder, remedy="check its permissions"
        ) from error
    if not entries:
        raise DataError("is an empty folder", where=folder, remedy=FORMS)
    names = {entry.name.lower(): entry for entry in entries}
    for train, test in (("train", "test"), ("training", "testing")):
        if train in names and names[train].is_dir():
            parts = [_pictures(names[train], console)]
            if test in names:
                parts.append(_pictures(names[test], console))
            return parts[0], parts[1] if len(parts) == 2 else None
    idx = {
        (match["stem"], match["kind"].lower()): entry
        for entry in entries
        if (match := _IDX_NAME.match(entry.name))
    }
    if idx:
        return _idx_folder(folder, idx)
    if "train.csv" in names:
        train_part, _ = read(names["train.csv"])
        return train_part, read(names["test.csv"])[0] if "test.csv" in names else None
    return _pictures(folder, console), None


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name in ("Thumbs.db", "desktop.ini", "__MACOSX")


_IDX_NAME = re.compile(
    r"^(?P<stem>.*?)[-_.](?P<kind>images|labels)[-.]idx[13][-.]ubyte(\.gz)?$", re.I
)


def _idx_folder(folder: Path, found: dict[tuple[str, str], Path]) -> tuple[Split, Split | None]:
    stems = sorted({stem for stem, _ in found})
    tests = [stem for stem in stems if stem.lower().startswith(("t10k", "test"))]
    trains = [stem for stem in stems if stem not in tests]
    if len(trains) != 1 or len(tests) > 1:
        raise DataError(
            f"has IDX files of {', '.join(stems)}",
            where=folder,
            remedy="keep one pair train-images and train-labels, and at most one pair t10k-",
        )
    parts = []
    for stem in (*trains, *tests):
        for kind in ("images", "labels"):
            if (stem, kind) not in found:
                raise DataError(
                    f"has no {stem}-{kind}", where=folder, remedy="add the missing file"
                )
        arrays = []
        for kind, rank in (("images", 3), ("labels", 1)):
            with open_stream(found[stem, kind]) as stream:
                array = parse_idx(stream, where=found[stem, kind])
            if array.ndim != rank:
                raise DataError(
                    f"does not contain {kind}",
                    where=found[stem, kind],
                    remedy="check that images and labels are not swapped",
                )
            arrays.append(array)
        parts.append(from_arrays(*arrays, where=found[stem, "images"], prefix=f"{stem}-images"))
    return parts[0], parts[1] if tests else None


# --- images -------------------------------------------------------------------------------------


def _pictures(folder: Path, console: "Console | None") -> Split:
    named = _labelled(folder, CLASSES.__contains__, FORMS)
    listed = [(path, int(label)) for path, label in named]
    if not listed:
        raise DataError("has no images", where=folder, remedy=FORMS)
    if len(listed) > MAX_IMAGES:
        raise DataError(
            f"has {len(listed):,} images", where=folder, remedy=f"use at most {MAX_IMAGES:,}"
        )
    images = np.zeros((len(listed), 28, 28), np.uint8)
    turned, faults = [], []
    for index, (path, _) in enumerate(
        track(listed, len(listed), f"reading {folder.name}", console)
    ):
        try:
            images[index], inverted = picture(path)
        except ImageError as error:
            faults.append((path, error.what))
            continue
        if inverted:
            turned.append(index)
    if faults:
        path, reason = faults[0]
        others = ", ".join(str(other.relative_to(folder)) for other, _ in faults[1:6])
        more = f" (and {len(faults) - 1} more: {others})" if others else ""
        raise DataError(f"{reason}{more}", where=path, remedy="repair or remove the image")
    return Split(
        images,
        np.array([label for _, label in listed], np.uint8),
        tuple(path.relative_to(folder).as_posix() for path, _ in listed),
        tuple(turned) if 2 * len(turned) < len(listed) else (),
    )


def _labelled(folder: Path, is_label: Callable[[str], bool], remedy: str) -> list[tuple[Path, str]]:
    table = folder / "labels.csv"
    if table.is_file():
        return _listed(table, is_label, remedy)
    return _sorted_by_class(folder, is_label, remedy)


def _sorted_by_class(
    folder: Path, is_label: Callable[[str], bool], remedy: str
) -> list[tuple[Path, str]]:
    listed = []
    for entry in sorted(folder.iterdir()):
        if _hidden(entry):
            continue
        if not is_label(entry.name) or not entry.is_dir():
            what = "is not a class folder 0 to 9" if remedy != TEXTS else "is not a labelled folder"
            raise DataError(what, where=entry, remedy=remedy)
        pictures = sorted(path for path in entry.rglob("*") if path.is_file() and not _hidden(path))
        listed += [(path, entry.name) for path in pictures]
    return listed


def _listed(table: Path, is_label: Callable[[str], bool], remedy: str) -> list[tuple[Path, str]]:
    """Read labels.csv: a header, then one row per image, with a path in the folder and a label."""
    folder = table.parent.resolve()
    listed, seen = list[tuple[Path, str]](), dict[Path, int]()
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, strict=True)
            header = [name.strip().lower() for name in next(rows, [])]
            if header.count("file") != 1 or header.count("label") != 1:
                raise DataError(
                    f"has the columns {', '.join(header)[:80] or 'of an empty file'}",
                    where=table,
                    remedy="its first line must name the columns file,label",
                )
            for row in rows:
                at = f"{table}, line {rows.line_num}"
                if not row:
                    continue
                if len(row) != len(header):
                    raise DataError(
                        f"has {len(row)} fields, not {len(header)}",
                        where=at,
                        remedy="repair the line",
                    )
                name, label = row[header.index("file")].strip(), row[header.index("label")].strip()
                if not is_label(label):
                    wanted = "use a label from 0 to 9" if remedy != TEXTS else remedy
                    raise DataError(f"has the label {label[:20]!r}", where=at, remedy=wanted)
                path = folder / name
                # A table must not make us read files outside its folder.
                if "\0" in name or not path.resolve().is_relative_to(folder):
                    raise DataError(
                        f"names {name[:80]!r}, outside its folder",
                        where=at,
                        remedy="put the images into the folder of labels.csv",
                    )
                if not path.is_file():
                    raise DataError(
                        f"names {name[:80]!r}, which does not exist",
                        where=at,
                        remedy="add the file or remove the line",
                    )
                if path in seen:
                    raise DataError(
                        f"names {name[:80]!r} again, after line {seen[path]}",
                        where=at,
                        remedy="remove one of the lines",
                    )
                seen[path] = rows.line_num
                listed.append((table.parent / name, label))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"is not CSV in UTF-8 ({error})", where=table, remedy="save it again as UTF-8 CSV"
        ) from error
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror})",
            where=table,
            remedy="check the file names and permissions",
        ) from error
    return listed


def picture(path: Path) -> tuple[Bytes, bool]:
    """Return an image file of one digit as a glyph, and whether its ink was darker than its ground.

    Returns:
        (28, 28) uint8, ink = 255; a 28x28 grey image with light ink is unchanged.

    Raises:
        ImageError: it cannot be read.
    """
    grey = _grey_28(path)
    if grey is None:
        return normalised(path), False
    if light_ground(grey[None])[0]:
        return normalised(path), True
    return grey, False


def _grey_28(path: Path) -> Bytes | None:
    """Return the pixels of a 28x28 grey image; None for any other image."""
    from PIL import Image

    from digitry.reading.decoding import FORMATS

    try:
        with warnings.catch_warnings():
            # Only the header is read here; the reader has its own size limits.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if image.size != (28, 28) or image.mode not in ("1", "L", "P", "RGB"):
                    return None
                if "transparency" in image.info or image.getexif().get(0x0112, 1) != 1:
                    return None
                colours = np.asarray(image.convert("RGB"))
    except Exception:  # noqa: BLE001
        # Decoders may raise any exception on a damaged file; the reader reports the reason.
        return None
    grey = colours[..., 0]
    return grey.copy() if (colours == grey[..., None]).all() else None
