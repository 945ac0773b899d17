"""Pictures of what the reader learns from: pages for the finder, strips for the line network, glyphs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from digitry import files
from digitry.model.artifact import LABELS, NOT_A_DIGIT_CLASS
from digitry.reading.classes import OTHER
from digitry.reading.network import shipped
from digitry.training.writing import glyphs
from digitry.training.writing.pages import page
from digitry.training.writing.spliced import with_cuts
from digitry.training.writing.strings import CHARACTERS
from digitry.training.writing.strips import Composer, Sources
from digitry.training.writing.texts import drawn

Bytes = npt.NDArray[np.uint8]

COLUMNS, ROWS = 5, 4
"""Pages on a sheet of them."""

STRIPS = 80
PAGES = 30
"""Strips on a sheet, and from how many pages the real ones among them are."""

GLYPHS = 240


def write_synthetic(sources: Sources, folder: Path, *, seed: int = 0) -> list[Path]:
    """Write pages.png, strips.png and glyphs.png, a sample of each.

    Args:
        sources: what they are composed of.
        folder: folder to write to; created if needed.
        seed: of the sample.

    Returns:
        The files written.

    Raises:
        DigitryError: the folder cannot be written.
    """
    sheets: dict[str, Callable[[Sources, int], Image.Image]] = {
        "pages.png": _pages,
        "strips.png": _strips,
        "glyphs.png": _glyphs,
    }
    for name, draw in sheets.items():
        with files.replacing(folder / name) as beside:
            draw(sources, seed).save(beside)
    return [folder / name for name in sheets]


def _pages(sources: Sources, seed: int) -> Image.Image:
    """Return pages as the finder sees them; numbers are red, other writing is blue."""
    rng = np.random.default_rng(seed)
    side = 256
    sheet = Image.new("RGB", (COLUMNS * (side + 4), ROWS * (side + 4)), "white")
    for place in range(COLUMNS * ROWS):
        ink, core, other, _ = page(sources, rng)
        light = 255 - ink.astype(np.int16)
        colours = np.stack([light] * 3, axis=2)
        for cells, kept in ((core, 0), (other, 2)):
            inside = np.kron(cells, np.ones((side // len(cells),) * 2, np.uint8)) > 0
            for channel in range(3):
                if channel != kept:
                    colours[..., channel][inside] -= 90
        shown = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
        sheet.paste(shown, (place % COLUMNS * (side + 4), place // COLUMNS * (side + 4)))
    return sheet


def _of_some_pages(sources: Sources, seed: int) -> Sources:
    """Return sources with the real strips of a few pages, whose characters are told apart.

    In a training those of all pages are, which takes half a minute or more.
    """
    pages = np.array([real.page for real in sources.real], str)
    some = np.random.default_rng(seed).permutation(np.unique(pages))[:PAGES]
    index = np.flatnonzero(np.isin(pages, some))
    real = with_cuts([sources.real[i] for i in index.tolist()], shipped("lines"))
    return replace(sources, real=real, chances=sources.chances[index])


def _strips(sources: Sources, seed: int) -> Image.Image:
    """Return strips with what they say; `?` is other writing."""
    composer = Composer(_of_some_pages(sources, seed), seed)
    width, height = 660, 50
    sheet = Image.new("L", (2 * width, STRIPS // 2 * height), 255)
    pen = ImageDraw.Draw(sheet)
    for place in range(STRIPS):
        strip, labels = composer.strip()
        said = "".join("?" if label == OTHER else CHARACTERS[label] for label in labels)
        x, y = place % 2 * width, place // 2 * height
        sheet.paste(_inverted(strip), (x + 4, y + 14))
        pen.text((x + 4, y + 1), said or "-", fill=0)
    return sheet


def _glyphs(sources: Sources, seed: int) -> Image.Image:
    """Return glyphs of every kind with their labels, kind by kind."""
    rng = np.random.default_rng(seed)
    columns, cell = 24, 60
    sheet = Image.new("L", (columns * cell, GLYPHS // columns * (cell + 12)), 255)
    pen = ImageDraw.Draw(sheet)
    kinds = sorted(drawn(glyphs.SHARES, rng) for _ in range(GLYPHS))
    for place, kind in enumerate(kinds):
        image = None
        while image is None:
            image, label = glyphs.KINDS[kind](sources, rng)
        x, y = place % columns * cell, place // columns * (cell + 12)
        seen = _inverted(image).resize((56, 56), Image.Resampling.NEAREST)
        sheet.paste(seen, (x + 2, y + 14))
        pen.text((x + 2, y + 1), "-" if label == NOT_A_DIGIT_CLASS else LABELS[label], fill=0)
    return sheet


def _inverted(ink: npt.NDArray[np.float32]) -> Image.Image:
    return Image.fromarray(np.rint(255 * (1 - ink)).astype(np.uint8))
