"""Scanned pages with their transcriptions (ALTO or PAGE XML) -> strings and windows of text.

LECTAUREP's registers and the diary of Peraire lie as `data/<document>/<page>.xml` beside the pictures,
as eScriptorium exports them: ALTO 4 (`TextLine` with `BASELINE`, `HPOS`, `VPOS`, `WIDTH`, `HEIGHT`, a
`Shape/Polygon`, and `String CONTENT`). PAGE XML (`TextLine` with `Coords`, `Baseline`,
`TextEquiv/Unicode`) is read, too.

What the published packs do that this module can only guess: how far around a line they cut, which
lines they left out after looking, and which window of a line of text they took. Here: a tenth of the
line's height around its outline; every line whose text has digits and separators only, and that is
not marked as printed; one window a line, eleven lines a page.
"""

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from digitry.errors import DataError
from digitry.training.data.handwriting_sources.clone import ragged, read_file
from digitry.training.data.packs import Array

Bytes = npt.NDArray[np.uint8]

MAX_XML = 32 << 20
MAX_SIDE = 20_000
"""Of a page's picture, in pixels."""
AROUND = 0.1
"""Cut so much of a line's height around its outline."""
STRING_HEIGHT = 64
TEXT_HEIGHT = 48
WIDEST_STRING = 400
WINDOW = 144
"""Width of a window of text, in pixels at most."""
LINES_A_PAGE = 11

_STRING = re.compile(r"(?=.*[0-9])[0-9 .,\-/()]+")
_TEXT = re.compile(r"(?=.*[^\W\d_]{3})[^\d#]+")
_PICTURES = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class Line:
    """A line of a page.

    Attributes:
        text: its transcription.
        kind: what the transcriber calls it: `printed`, `DefaultLine`, …; empty if nothing is said.
        box: left, top, right, bottom of its outline, in pixels of the page.
        baseline: points on which the writing stands, left to right; empty if unknown.
    """

    text: str
    kind: str
    box: tuple[int, int, int, int]
    baseline: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Page:
    """A transcribed page.

    Attributes:
        name: of its file.
        document: the folder that it lies in.
        picture: the scan.
        lines: in the order of the file.
    """

    name: str
    document: str
    picture: Path
    lines: tuple[Line, ...]


# --- the form -------------------------------------------------------------------------------------


def read(path: Path) -> tuple[str, tuple[Line, ...]]:
    """Read ALTO or PAGE XML.

    Returns:
        The name of the picture that the file gives (empty if it gives none), and the lines that have
        a text and an outline.

    Raises:
        DataError: it is neither.
    """
    content = read_file(path, MAX_XML)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        # Neither form has them, and entities can grow without bound.
        raise DataError("declares entities, which are not read", where=path)
    try:
        root = ET.fromstring(content)
    except ET.ParseError as error:
        raise DataError(f"is no XML ({error})", where=path) from error
    for element in root.iter():
        # The forms come in many versions; the namespace is all that differs.
        element.tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    if root.tag == "alto":
        return _alto(root)
    if root.tag == "PcGts":
        return _page(root)
    raise DataError(f"is <{root.tag}>, neither ALTO nor PAGE XML", where=path)


def _alto(root: ET.Element) -> tuple[str, tuple[Line, ...]]:
    kinds = {tag.get("ID", ""): tag.get("LABEL", "") for tag in root.iter("OtherTag")}
    lines: list[Line] = []
    for element in root.iter("TextLine"):
        text = " ".join(string.get("CONTENT", "") for string in element.iter("String"))
        polygon = element.find("Shape/Polygon")
        points = _points("" if polygon is None else polygon.get("POINTS", ""))
        if not points:
            sides = [_number(element.get(key)) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT")]
            left, top, width, height = sides
            points = [(left, top), (left + width, top + height)] if width and height else []
        named = [kinds.get(tag, "") for tag in element.get("TAGREFS", "").split()]
        baseline = _points(element.get("BASELINE", ""))
        _append(lines, text, " ".join(filter(None, named)), points, baseline)
    name = root.find("Description/sourceImageInformation/fileName")
    return ("" if name is None else (name.text or "").strip()), tuple(lines)


def _page(root: ET.Element) -> tuple[str, tuple[Line, ...]]:
    lines: list[Line] = []
    for element in root.iter("TextLine"):
        # The text of the line itself; words may carry their own.
        texts = [unicode.text or "" for unicode in element.findall("TextEquiv/Unicode")]
        coords, base = element.find("Coords"), element.find("Baseline")
        kind = re.search(r"structure\s*\{[^}]*type:\s*([^;}]+)", element.get("custom", ""))
        _append(
            lines,
            texts[0] if texts else "",
            element.get("type", "") or (kind[1].strip() if kind else ""),
            _points("" if coords is None else coords.get("points", "")),
            _points("" if base is None else base.get("points", "")),
        )
    picture = root.find("Page")
    return ("" if picture is None else picture.get("imageFilename", "")), tuple(lines)


def _append(
    lines: list[Line],
    text: str,
    kind: str,
    points: list[tuple[int, int]],
    baseline: list[tuple[int, int]],
) -> None:
    text = " ".join(text.split())
    if not text or len(points) < 2:
        return
    xs, ys = [x for x, _ in points], [y for _, y in points]
    lines.append(Line(text, kind, (min(xs), min(ys), max(xs), max(ys)), tuple(baseline)))


def _points(text: str) -> list[tuple[int, int]]:
    """Read `1 2 3 4` (ALTO) or `1,2 3,4` (PAGE)."""
    numbers = [_number(part) for part in re.split(r"[\s,]+", text.strip()) if part]
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def _number(text: str | None) -> int:
    try:
        return max(0, min(round(float(text or 0)), MAX_SIDE))
    except (ValueError, OverflowError):
        return 0


def pages(clone: Path) -> Iterator[Page | int]:
    """Walk through the pages of a clone, in sorted order.

    Yields:
        Pages; and 1 for each file that cannot be read or whose picture is not there.
    """
    for path in sorted((clone / "data").rglob("*.xml")):
        try:
            name, lines = read(path)
        except DataError:
            # METS and other lists lie among the pages.
            yield 1
            continue
        picture = _picture(path, name)
        if picture is None:
            yield 1
        else:
            yield Page(path.name, path.parent.name, picture, lines)


def _picture(path: Path, name: str) -> Path | None:
    # The name alone: a path from a file must not lead elsewhere.
    name = name.replace("\\", "/").rpartition("/")[2]
    if name.lower().endswith(_PICTURES) and (path.parent / name).is_file():
        return path.parent / name
    beside = (path.with_suffix(suffix) for suffix in (*_PICTURES, *map(str.upper, _PICTURES)))
    return next((picture for picture in beside if picture.is_file()), None)


# --- cutting --------------------------------------------------------------------------------------


def _open(picture: Path) -> Image.Image | None:
    """Return the scan in grey; None if it cannot be read."""
    try:
        with Image.open(picture) as image:
            if max(image.size) > MAX_SIDE:
                return None
            return image.convert("L")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def cut(scan: Image.Image, line: Line, height: int) -> Bytes | None:
    """Cut a line out of a scan, and scale it to a height.

    Returns:
        (height, width) uint8, dark ink on light paper; None if nothing of the line is on the scan.
    """
    left, top, right, bottom = line.box
    around = round((bottom - top) * AROUND)
    left, top = max(0, left - around), max(0, top - around)
    right, bottom = min(scan.width, right + around), min(scan.height, bottom + around)
    if right - left < 4 or bottom - top < 4:
        return None
    width = max(1, round((right - left) * height / (bottom - top)))
    if width > MAX_SIDE:
        return None
    return np.asarray(
        scan.resize((width, height), Image.Resampling.LANCZOS, box=(left, top, right, bottom))
    )


def _strings(clone: Path, steps: int) -> tuple[list[tuple[Page, Line, Bytes]], int]:
    """Return lines with numbers alone, in grey values that are multiples of 256 / steps."""
    found: list[tuple[Page, Line, Bytes]] = []
    damaged = 0
    for page in pages(clone):
        if isinstance(page, int):
            damaged += page
            continue
        lines = [
            line for line in page.lines if _STRING.fullmatch(line.text) and line.kind != "printed"
        ]
        scan = _open(page.picture) if lines else None
        for line in lines:
            picture = None if scan is None else cut(scan, line, STRING_HEIGHT)
            if picture is None:
                damaged += 1
            elif picture.shape[1] <= WIDEST_STRING:
                found.append((page, line, _coarse(picture, steps)))
    return found, damaged


def _coarse(picture: Bytes, steps: int) -> Bytes:
    step = 256 // steps
    return (picture // step * step).astype(np.uint8)


def _string_arrays(found: list[tuple[Page, Line, Bytes]]) -> dict[str, Array]:
    return {
        **ragged([picture for _, _, picture in found]),
        "labels": np.array([line.text for _, line, _ in found], "U"),
        "digits": np.array([re.sub("[^0-9]", "", line.text) for _, line, _ in found], "U"),
        "pages": np.array([page.name for page, _, _ in found], "U"),
    }


# --- packs ----------------------------------------------------------------------------------------


def lectaurep_strings(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `lectaurep_strings`: 64 grey values, height 64."""
    found, damaged = _strings(clone, 64)
    documents = np.array([page.document for page, _, _ in found], "U")
    return {**_string_arrays(found), "documents": documents}, damaged


def peraire_strings(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `peraire_strings`: 256 grey values, height 64."""
    found, damaged = _strings(clone, 256)
    return _string_arrays(found), damaged


def lectaurep_text(clone: Path) -> tuple[dict[str, Array], int]:
    """Build `lectaurep_text`: a window of each line without digits, height 48."""
    pictures: list[Bytes] = []
    texts: list[str] = []
    documents: list[str] = []
    damaged = 0
    for page in pages(clone):
        if isinstance(page, int):
            damaged += page
            continue
        keys = {
            number: hashlib.sha256(f"{page.document}/{page.name}#{number}".encode()).digest()
            for number, line in enumerate(page.lines)
            if _TEXT.fullmatch(line.text)
        }
        chosen = sorted(sorted(keys, key=keys.__getitem__)[:LINES_A_PAGE])
        scan = _open(page.picture) if chosen else None
        for number in chosen:
            picture = None if scan is None else cut(scan, page.lines[number], TEXT_HEIGHT)
            if picture is None:
                damaged += 1
                continue
            pictures.append(_coarse(_window(picture, keys[number]), 64))
            texts.append(page.lines[number].text)
            documents.append(page.document)
    return {
        **ragged(pictures),
        "line_text": np.array(texts, "U"),
        "documents": np.array(documents, "U"),
    }, damaged


def _window(picture: Bytes, key: bytes) -> Bytes:
    """Return a window of a line; where it begins goes by the key."""
    spare = picture.shape[1] - WINDOW
    if spare <= 0:
        return picture
    start = int.from_bytes(key[-4:], "big") % (spare + 1)
    return picture[:, start : start + WINDOW]
