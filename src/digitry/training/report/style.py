"""Figures, colours and fonts of all pictures.

Figures use matplotlib's objects and its Agg canvas: no pyplot, no global state, no window. Sizes are in
inches; at `DPI` a figure of 5.6 inches has 1,120 pixels, twice its size in the report, for sharp screens.
Positions are explicit, because an automatic layout would draw each figure twice.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

DPI = 200
WIDTH = 5.6

INK, MUTED, FAINT, GROUND = "#16181d", "#626a78", "#e4e7ec", "#f5f6f8"
BLUE, PALE_BLUE, ORANGE = "#2457d6", "#dfe8fb", "#d9621e"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
    "path.simplify": True,
}


def percent(share: float, digits: int = 2) -> str:
    """Return a share in [0, 1] as a percentage; a share below 1 is never rounded up to 100%."""
    text = f"{100 * share:.{digits}f}"
    if share < 1 and float(text) == 100:
        text = f"{100 - 10**-digits:.{digits}f}"
    return f"{text}%"


class Sheet(Figure):
    """A figure with images of digits to paste on it: (left, top, (h, w, 3) uint8), in pixels."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=DPI, facecolor="white")
        self.pasted: list[tuple[int, int, npt.NDArray[np.uint8]]] = []


def png(figure: Sheet) -> bytes:
    """Return a figure as PNG bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    for across, down, square in figure.pasted:
        height, width = square.shape[:2]
        pixels[down : down + height, across : across + width] = square
    picture = Image.fromarray(pixels)
    stream = io.BytesIO()
    # Level 1: a quarter larger than the best level, in an eighth of the time.
    picture.save(stream, "PNG", compress_level=1, dpi=(DPI, DPI))
    return stream.getvalue()


def new_sheet(height: float, title: str, subtitle: str = "", width: float = WIDTH) -> Sheet:
    """Return a new figure, sizes in inches, with a title and a subtitle."""
    figure = Sheet(width, height)
    left, top = 0.22 / width, 1 - 0.2 / height
    figure.text(left, top, title, fontsize=12, fontweight="bold", va="top")
    if subtitle:
        figure.text(left, top - 0.27 / height, subtitle, fontsize=9, color=MUTED, va="top")
    return figure


def add_axes(
    figure: Sheet,
    *,
    left: float = 0.62,
    right: float = 0.25,
    top: float = 0.85,
    bottom: float = 0.5,
) -> Axes:
    """Return new axes of a figure, with margins in inches."""
    width, height = figure.get_size_inches()
    return figure.add_axes(
        (
            left / width,
            bottom / height,
            1 - (left + right) / width,
            1 - (top + bottom) / height,
        )
    )


def bare(axes: Axes) -> None:
    """Remove ticks, labels and frame."""
    axes.set_axis_off()


def shades(ink: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return images of digits as dark ink on light grey: (h, w) uint8, ink = 255, to (h, w, 3)."""
    dark, light = rgb(INK), rgb(GROUND)
    colours = 255 * (light + (dark - light) * (ink[..., None] / 255))
    return np.asarray(colours.round(), np.uint8)


def rgb(colour: str) -> npt.NDArray[np.float64]:
    """Return the colour `#rrggbb` as three numbers in [0, 1]."""
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255


def add_grid(
    figure: Sheet,
    images: npt.NDArray[np.uint8],
    labels: Sequence[Sequence[tuple[str, str, str]]],
    *,
    columns: int,
    top: float,
    caption: float,
) -> None:
    """Draw images in a grid, with lines of text below each.

    Args:
        figure: the figure to draw on.
        images: (n, 28, 28) uint8, ink = 255.
        labels: for each image its lines: (text, colour, weight).
        columns: images per row.
        top: space above, in inches.
        caption: space below each image, in inches.
    """
    margin, space = 0.22, 0.12
    width, height = figure.get_size_inches()
    side = (width - 2 * margin - (columns - 1) * space) / columns
    # Each pixel of a digit becomes a square of whole pixels: sharper than resampling, and ten times as
    # fast as one axes per image.
    scale = max(1, round(side * DPI / 28))
    size = 28 * scale
    for number, (image, lines) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(number, columns)
        x = margin + column * (side + space)
        y = top + row * (side + caption)
        across, down = round((x + side / 2) * DPI - size / 2), round(y * DPI)
        square = shades(image).repeat(scale, axis=0).repeat(scale, axis=1)
        figure.pasted.append((across, down, square))
        for line, (text, colour, weight) in enumerate(lines):
            figure.text(
                (x + side / 2) / width,
                1 - (y + size / DPI + 0.05 + 0.155 * line) / height,
                text,
                ha="center",
                va="top",
                fontsize=8.5,
                color=colour,
                fontweight=weight,
            )
