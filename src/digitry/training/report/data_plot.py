"""The pictures of an exploration: histogram, samples, odd images, duplicates, faults."""

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from digitry import files
from digitry.training.data.dataset import Bytes, Dataset
from digitry.training.data.explore import Exploration, Item, Pair
from digitry.training.report.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    ORANGE,
    STYLE,
    Sheet,
    add_axes,
    add_grid,
    new_sheet,
    png,
)


def write_pictures(dataset: Dataset, exploration: Exploration, folder: Path) -> list[Path]:
    """Write the pictures of an exploration as PNG files.

    A picture without content (e.g. no blank images) is not written, and one of an earlier exploration
    is deleted.

    Args:
        dataset: the data set.
        exploration: the findings on it.
        folder: folder to write to; created if needed.

    Returns:
        The files written.

    Raises:
        DigitryError: the folder cannot be written.
    """
    faults = (
        [(item, "blank") for item in exploration.blank]
        + [(item, "near-empty") for item in exploration.near_empty]
        + [(item, "inverted") for item in exploration.inverted]
    )
    pairs = _pairs_to_show(exploration)
    drawings: dict[str, Callable[[], Figure | None]] = {
        "label_histogram.png": lambda: _histogram(exploration),
        "samples.png": lambda: _first_samples(dataset),
        "samples_by_label.png": lambda: _samples_by_label(dataset),
        "odd.png": lambda: _odd_page(dataset, exploration) if exploration.odd else None,
        "duplicates.png": lambda: _pair_page(dataset, pairs) if pairs else None,
        "faults.png": lambda: _fault_page(dataset, faults) if faults else None,
    }
    written = []
    for name, draw in drawings.items():
        path = folder / name
        with matplotlib.rc_context(STYLE):
            figure = draw()
            if figure is None:
                path.unlink(missing_ok=True)
                continue
            with files.replacing(path) as temporary:
                if isinstance(figure, Sheet):
                    temporary.write_bytes(png(figure))
                else:
                    figure.savefig(temporary, dpi=120, facecolor="white")
        written.append(path)
    return written


def _histogram(found: Exploration) -> Sheet:
    train, test = np.array(found.train_counts), np.array(found.test_counts)
    figure = new_sheet(
        3.2,
        f"{train.sum():,} training and {test.sum():,} test images, by label",
        _plain(found.name),
        width=9.0,
    )
    axes = add_axes(figure, left=0.3, right=0.3, bottom=0.4, top=0.95)
    places = np.arange(len(train))
    for shift, counts, colour, name in (
        (-0.21, train, BLUE, "train"),
        (0.21, test, ORANGE, "test"),
    ):
        axes.bar(places + shift, counts, 0.4, color=colour, label=name)
        for place, count in zip(places, counts, strict=True):
            axes.text(
                place + shift,
                count,
                f"{count:,}",
                ha="center",
                va="bottom",
                fontsize=7.5,
                color=MUTED,
            )
    axes.set_ylim(0, max(1, train.max(), test.max()) * 1.18)
    axes.grid(False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xticks(places)
    axes.tick_params(axis="x", labelsize=10.5, labelcolor=INK)
    axes.legend(frameon=False, ncols=2, loc="upper right")
    return figure


def _first_samples(dataset: Dataset) -> Sheet:
    """Return 2 x 10 of the first training images, as in a run's report."""
    count = min(20, len(dataset.train))
    figure = new_sheet(
        2.3, f"The first {count} training images and their labels", _plain(dataset.name)
    )
    labels = [[(str(label), INK, "bold")] for label in dataset.train.labels[:count]]
    add_grid(figure, dataset.train.images[:count], labels, columns=10, top=0.85, caption=0.27)
    return figure


def _samples_by_label(dataset: Dataset, columns: int = 20) -> Figure:
    """Return one row of tiles per label, with images spread evenly over the training part."""
    tile = 30
    sheet = np.full((10 * tile, columns * tile), 255, np.uint8)
    for label in range(10):
        rows = np.flatnonzero(dataset.train.labels == label)
        chosen = rows[np.linspace(0, len(rows) - 1, min(columns, len(rows))).astype(int)]
        for column, row in enumerate(chosen):
            y, x = label * tile + 1, column * tile + 1
            sheet[y : y + 28, x : x + 28] = 255 - dataset.train.images[row]
    figure = Figure(figsize=(columns * 0.5 + 0.5, 10 * 0.5 + 0.5), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.grid(False)
    axes.set_yticks(np.arange(10) * tile + tile / 2, [str(label) for label in range(10)])
    axes.set_xticks([])
    axes.tick_params(length=0, labelsize=13, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.hlines(np.arange(1, 10) * tile - 0.5, 0, columns * tile - 1, color=FAINT, linewidth=0.8)
    axes.set_title(
        f"{_plain(dataset.name)}: {columns} training images of each label",
        loc="left",
        color=INK,
        fontweight="bold",
    )
    return figure


def _odd_page(dataset: Dataset, found: Exploration) -> Figure:
    return _page(
        f"{_plain(found.name)}: odd images (orange: closer to another label than to their own)",
        [_image(dataset, odd.item) for odd in found.odd],
        [f"{_where(odd.item)}\nlabel {odd.item.label}, near {odd.looks_like}" for odd in found.odd],
        columns=10,
        colours=[ORANGE if odd.score > 1 else MUTED for odd in found.odd],
    )


def _fault_page(dataset: Dataset, faults: Sequence[tuple[Item, str]]) -> Figure:
    shown = faults[:60]
    more = f", the first {len(shown)} of {len(faults):,}" if len(faults) > len(shown) else ""
    return _page(
        f"{_plain(dataset.name)}: blank, near-empty and inverted images{more}",
        [_image(dataset, item) for item, _ in shown],
        [f"{_where(item)}\n{kind}, label {item.label}" for item, kind in shown],
        columns=10,
    )


def _pairs_to_show(found: Exploration) -> list[Pair]:
    """Return conflicts first, then leaks, then other duplicates: the most harmful first."""
    exact = [Pair(group[0], item, 0.0) for group in found.duplicates for item in group[1:]]
    ordered = dict.fromkeys((*found.conflicts, *found.leaks, *exact, *found.near))
    return list(ordered)[:24]


def _pair_page(dataset: Dataset, pairs: Sequence[Pair]) -> Figure:
    images, captions, colours = [], [], []
    for pair in pairs:
        for item in (pair.first, pair.second):
            images.append(_image(dataset, item))
            captions.append(f"{_where(item)}\nlabel {item.label}, {pair.distance:.3f}")
            colours.append(ORANGE if pair.first.label != pair.second.label else MUTED)
    return _page(
        f"{_plain(dataset.name)}: equal and nearly equal images, in pairs; label, distance (0 = equal)",
        images,
        captions,
        columns=8,
        colours=colours,
        paired=True,
    )


def _page(
    title: str,
    images: Sequence[Bytes],
    captions: Sequence[str],
    *,
    columns: int,
    colours: Sequence[str] | None = None,
    caption_size: float = 6.5,
    paired: bool = False,
) -> Figure:
    """Return a figure with a grid of images, dark ink on white, each with its caption below."""
    rows = -(-len(images) // columns)
    lines = max(caption.count("\n") + 1 for caption in captions)
    cell, below = 1.05, 0.14 * lines * caption_size / 6.5 + 0.08
    width, height = columns * cell + 0.3, rows * (cell - 0.1 + below) + 0.55
    figure = Figure(figsize=(width, height))
    figure.text(0.15 / width, 1 - 0.32 / height, title, color=INK, fontweight="bold", fontsize=11)
    for index, (image, caption) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(index, columns)
        shift = (0.05 if index % 2 == 0 else -0.05) if paired else 0.0
        left = 0.15 + column * cell + 0.05 + shift
        bottom = height - 0.5 - row * (cell - 0.1 + below) - (cell - 0.1)
        axes = figure.add_axes(
            (left / width, bottom / height, (cell - 0.1) / width, (cell - 0.1) / height)
        )
        axes.imshow(255 - image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(True)
        figure.text(
            (left + (cell - 0.1) / 2) / width,
            (bottom - 0.04) / height,
            caption,
            ha="center",
            va="top",
            fontsize=caption_size,
            linespacing=1.15,
            color=colours[index] if colours else INK,
        )
    return figure


def _image(dataset: Dataset, item: Item) -> Bytes:
    split = dataset.train if item.part == "train" else dataset.test
    image: Bytes = split.images[item.index]
    return image


def _where(item: Item) -> str:
    """Return the name of an image for a caption; of a long path only its end."""
    text = item.name or f"{item.part} {item.index}"
    return _plain(text if len(text) <= 18 else f"…{text[-17:]}")


def _plain(text: str) -> str:
    """Return a text in which matplotlib does not take dollar signs as the start of a formula."""
    return text.replace("$", r"\$")
