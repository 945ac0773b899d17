"""Export of corrections to a folder that training and evaluation accept, and import from it."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from digitry import files
from digitry.corrections.correction import Correction, LineCorrection
from digitry.corrections.store import Corrections
from digitry.errors import DataError, DigitryError
from digitry.model.artifact import GLYPH_VERSION, NOT_A_DIGIT

ROWS = "corrections.jsonl"
LONGEST_FILE = 1 << 30


@dataclass(frozen=True)
class Moved:
    """The result of an export or an import.

    Attributes:
        count: number of corrections written.
        known: number of corrections that the store already had; 0 for an export.
    """

    count: int
    known: int = 0


def export(store: Corrections, folder: Path) -> Moved:
    """Write every current correction as `train/<digit>/*.png` or `not-a-digit/*.png`, and as JSON Lines.

    The glyphs are in class folders, so `digitry train --data` and `digitry evaluate --data` accept the
    folder. Lines are in `lines`, with a labels.csv, which `digitry calibrate` accepts.

    Args:
        store: the store to read.
        folder: a new or empty folder.

    Raises:
        DigitryError: the folder is not empty, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DigitryError(
            "is not an empty folder", where=folder, remedy="name a new folder; nothing was written"
        )
    lines = []
    for correction in store.each():
        if correction.label == NOT_A_DIGIT:
            place = folder / "not-a-digit"
        else:
            place = folder / "train" / correction.label
        files.write_bytes(place / f"{correction.id}.png", correction.glyph)
        row = correction.to_dict()
        row["glyph"] = base64.b64encode(correction.glyph).decode()
        row["crop"] = base64.b64encode(correction.crop).decode()
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    table = []
    for line in store.each_line():
        files.write_bytes(folder / "lines" / f"{line.id}.png", line.strip)
        table.append(f'{line.id}.png,"{line.text}"')
        row = {**line.to_dict(), "strip": base64.b64encode(line.strip).decode()}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    if table:
        files.write_text(folder / "lines" / "labels.csv", "\n".join(["file,label", *table]) + "\n")
    # Written last: if this file exists, the export is complete.
    files.write_text(folder / ROWS, "".join(lines))
    return Moved(len(lines))


def load(store: Corrections, source: Path) -> Moved:
    """Add the corrections of an export to a store; corrections already in it stay unchanged.

    Args:
        store: the store to write.
        source: an exported folder, or its corrections.jsonl.

    Raises:
        DataError: a row is not a correction; nothing was added.
    """
    path = source / ROWS if source.is_dir() else source
    rows = list(_rows(path))
    new = sum(
        (store.add_line(row) if isinstance(row, LineCorrection) else store.add(row))[1]
        for row in rows
    )
    return Moved(new, len(rows) - new)


def _rows(path: Path) -> Iterator[Correction | LineCorrection]:
    try:
        content = files.read_bytes(path, LONGEST_FILE)
    except OSError as error:
        raise DataError(
            f"cannot be opened ({error.strerror})", where=path, remedy="name an exported folder"
        ) from error
    if len(content) > LONGEST_FILE:
        raise DataError(
            "is larger than 1 GiB", where=path, remedy="split it into files of fewer lines"
        )
    for number, line in enumerate(content.splitlines(), 1):
        try:
            row = json.loads(line)
            yield _line(row) if "strip" in row else _correction(row)
        except (ValueError, TypeError, KeyError, RecursionError, DigitryError) as error:
            raise DataError(
                f"is not a correction ({' '.join(str(error).split())[:100]})",
                where=f"{path}, line {number}",
                remedy="export it again; nothing was added",
            ) from error


def _correction(row: dict[str, Any]) -> Correction:
    from digitry.reading import image
    from digitry.reading.render import png

    if int(row["glyph_version"]) != GLYPH_VERSION:
        raise DataError(f"its glyph is of version {row['glyph_version']}, not {GLYPH_VERSION}")
    # Decoded and encoded again: the file is untrusted, and the store must hold only our own PNGs.
    glyph = image.load(base64.b64decode(row["glyph"], validate=True), max_pixels=784, name="glyph")
    crop = image.load(base64.b64decode(row["crop"], validate=True), name="crop")
    if glyph.gray.shape != (28, 28):
        raise DataError(f"its glyph is {glyph.width} x {glyph.height}, not 28 x 28")
    return Correction(
        label=str(row["label"]),
        glyph=png(glyph.gray),
        crop=png(crop.gray),
        read_value=None if row["read_value"] is None else int(row["read_value"]),
        best_guess=int(row["best_guess"]),
        confidence=float(row["confidence"]),
        reason=None if row["reason"] is None else str(row["reason"])[:100],
        model=str(row["model"])[:200],
        author=str(row["author"]),
    )


def _line(row: dict[str, Any]) -> LineCorrection:
    from digitry.reading import image
    from digitry.reading.lines import CUT
    from digitry.reading.render import png

    strip = image.load(base64.b64decode(row["strip"], validate=True), name="strip").gray
    if strip.shape[0] != CUT:
        raise DataError(f"its strip is {strip.shape[0]} rows high, not {CUT}")
    x, y, w, h = (int(part) for part in row["box"])
    return LineCorrection(
        text=str(row["text"]),
        strip=png(strip),
        read_text=str(row["read_text"])[:400],
        confidence=float(row["confidence"]),
        box=(x, y, w, h),
        model=str(row["model"])[:200],
        author=str(row["author"]),
    )
