"""The pictures of a model's robustness: a map of its errors, and the corrupted images."""

from pathlib import Path

import matplotlib
import numpy as np

from digitry import files
from digitry.training.evaluation.corruptions import (
    CORRUPTIONS,
    PUBLISHED,
    SEVERITIES,
    Bytes,
    corrupt,
)
from digitry.training.evaluation.robustness import Robustness
from digitry.training.report.style import (
    BLUE,
    DPI,
    INK,
    MUTED,
    ORANGE,
    STYLE,
    Sheet,
    add_axes,
    new_sheet,
    percent,
    png,
    rgb,
    shades,
)

PALE = "#fdf3ec"


def write_robustness(found: Robustness, name: str, folder: Path) -> Path:
    """Write robustness.png, the error under each corruption and severity.

    Args:
        found: the measured errors.
        name: title of the picture: the model and the data.
        folder: folder to write to; created if needed.

    Returns:
        The file written.

    Raises:
        DigitryError: the folder cannot be written.
    """
    path = folder / "robustness.png"
    with matplotlib.rc_context(STYLE):
        files.write_bytes(path, png(_map(found, name)))
    return path


def write_corruptions(images: Bytes, folder: Path, *, seed: int = 0) -> Path:
    """Write corruptions.png, digits under each corruption and severity.

    Args:
        images: (n, 28, 28) uint8, ink = 255; each corruption is shown on another one.
        folder: folder to write to; created if needed.
        seed: seed of the corruptions.

    Returns:
        The file written.

    Raises:
        DigitryError: the folder cannot be written.
    """
    path = folder / "corruptions.png"
    with matplotlib.rc_context(STYLE):
        files.write_bytes(path, png(_samples(images, seed)))
    return path


def _map(found: Robustness, name: str) -> Sheet:
    rows = sorted(found.corruptions, key=lambda one: one.mean)
    table = np.array([one.errors for one in rows])
    height = 1.75 + 0.29 * len(rows)
    refuses = any(share for one in rows for share in one.refused)
    figure = new_sheet(
        height,
        f"{percent(found.mean_error, 1)} of corrupted digits are read wrong or refused, "
        f"{percent(found.clean_error, 1)} of clean ones",
        f"{name}: {found.count:,} digits under {len(rows)} corruptions"
        + (f"; {percent(found.refused, 1)} are refused as not a digit" if refuses else ""),
        width=7.2,
    )
    axes = add_axes(figure, left=1.3, right=1.75, top=0.95, bottom=0.62)
    # Colour by the square root, so that small errors differ visibly, too.
    share = np.sqrt(table)[..., None]
    axes.imshow(rgb(PALE) + (rgb(ORANGE) - rgb(PALE)) * share, aspect="auto")
    axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, 4.5, color="white", linewidth=2)
    axes.vlines(np.arange(4) + 0.5, -0.5, len(rows) - 0.5, color="white", linewidth=2)
    for row, one in enumerate(rows):
        for column, error in enumerate(one.errors):
            published = PUBLISHED[one.name] == column + 1
            axes.text(
                column, row, percent(error, 1), ha="center", va="center", fontsize=9,
                color="white" if error > 0.45 else INK,
                fontweight="bold" if published else "normal",
            )  # fmt: skip
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks(range(5), [str(severity) for severity in SEVERITIES])
    axes.set_yticks(range(len(rows)), [one.name.replace("_", " ") for one in rows])
    axes.tick_params(labelsize=9.5, labelcolor=INK)
    axes.set_xlabel("severity; bold: that of the published MNIST-C files")

    means = add_axes(figure, left=7.2 - 1.6, right=0.6, top=0.95, bottom=0.62)
    places = range(len(rows))
    refused = [sum(one.refused) / len(one.refused) for one in rows]
    misread = [one.mean - share for one, share in zip(rows, refused, strict=True)]
    means.barh(places, misread, height=0.5, color=BLUE)
    means.barh(places, refused, left=misread, height=0.5, color="#a9c0f2")
    for place, one in zip(places, rows, strict=True):
        means.text(
            one.mean, place, f" {percent(one.mean, 1)}", va="center", fontsize=9, color=MUTED
        )
    means.set_ylim(len(rows) - 0.5, -0.5)
    means.set_xlim(0, max(table.mean(axis=1).max(), 0.01))
    means.set_xticks([])
    means.set_yticks([])
    means.grid(False)
    for spine in means.spines.values():
        spine.set_visible(False)
    means.set_xlabel("mean; pale: refused" if refuses else "mean")
    return figure


def _samples(images: Bytes, seed: int) -> Sheet:
    columns = ("clean", *(str(severity) for severity in SEVERITIES))
    scale, label, gap, top = 4, 1.25, 0.07, 1.02
    side = 28 * scale / DPI
    width = label + len(columns) * (side + gap) + 0.2
    height = top + len(CORRUPTIONS) * (side + gap) + 0.2
    figure = new_sheet(
        height, "Corrupted test images", "Fifteen corruptions, severity 1 to 5", width=width
    )
    for row, name in enumerate(CORRUPTIONS):
        y = top + row * (side + gap)
        figure.text(
            (label - 0.12) / width, 1 - (y + side / 2) / height, name.replace("_", " "),
            ha="right", va="center", fontsize=9.5,
        )  # fmt: skip
        whole = images[row % len(images)][None]
        shown = [whole, *(corrupt(whole, name, severity, seed) for severity in SEVERITIES)]
        for column, picture in enumerate(shown):
            x = label + column * (side + gap)
            square = shades(picture[0]).repeat(scale, axis=0).repeat(scale, axis=1)
            figure.pasted.append((round(x * DPI), round(y * DPI), square))
            if row == 0:
                figure.text(
                    (x + side / 2) / width, 1 - (top - 0.08) / height, columns[column],
                    ha="center", va="bottom", fontsize=9, color=MUTED,
                )  # fmt: skip
    return figure
