"""The pictures of a run, each as PNG bytes. Only `page` imports this module."""

import math
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from digitry.model.artifact import LABELS
from digitry.reading.classifier import softmax
from digitry.training.evaluation.calibration import Bin
from digitry.training.evaluation.scores import wilson
from digitry.training.report.network_plot import draw_network
from digitry.training.report.style import (
    BLUE,
    FAINT,
    GROUND,
    INK,
    MUTED,
    ORANGE,
    PALE_BLUE,
    STYLE,
    WIDTH,
    Sheet,
    add_axes,
    add_grid,
    bare,
    new_sheet,
    percent,
    png,
    rgb,
    shades,
)
from digitry.training.run_folder import Run, load_pictures, load_predictions


def draw(name: str, run: Run) -> bytes:
    """Return one picture of a run.

    Args:
        name: its file name, one of `run_folder.PLOTS`.
        run: a run loaded from its folder.

    Returns:
        A PNG.
    """
    with matplotlib.rc_context(STYLE):
        return png(_DRAWINGS[name](run))


# --- the data --------------------------------------------------------------------------------------


def _label_histogram(run: Run) -> Sheet:
    counts = load_pictures(run).label_counts
    low, high = int(counts.min()), int(counts.max())
    title = f"{low:,} to {high:,} training images of each digit"
    figure = new_sheet(
        2.6,
        f"{low:,} training images of each digit" if low == high else title,
        f"{int(counts.sum()):,} images of {run.metrics['data']['name']}, by their label",
    )
    axes = add_axes(figure, left=0.3, right=0.3, bottom=0.4, top=0.95)
    places = range(len(counts))
    axes.bar(places, counts, width=0.72, color=BLUE)
    for place, count in zip(places, counts, strict=True):
        axes.text(place, count, f"{count:,}", ha="center", va="bottom", fontsize=8.5, color=MUTED)
    axes.grid(False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xticks(places, LABELS[: len(places)])
    axes.tick_params(axis="x", labelsize=10.5, labelcolor=INK)
    return figure


def _samples(run: Run) -> Sheet:
    pictures = load_pictures(run)
    count = len(pictures.samples)
    figure = new_sheet(
        2.3,
        f"The first {count} training images and their labels",
        f"{run.metrics['data']['name']}, 28 x 28 pixels, as the network gets them",
    )
    labels = [[(str(label), INK, "bold")] for label in pictures.sample_labels]
    add_grid(figure, pictures.samples, labels, columns=10, top=0.85, caption=0.27)
    return figure


# --- learning --------------------------------------------------------------------------------------


def _loss(run: Run) -> Sheet:
    history = run.history
    scored = [(epoch.val_loss, epoch.number) for epoch in history if epoch.val_loss is not None]
    if not history:
        title = "No epoch was finished"
    elif scored:
        best, number = min(scored)
        title = f"Validation loss is lowest in epoch {number}: {best:.3f}"
    elif len(history) == 1:
        title = f"Training loss is {history[0].loss:.3f} after one epoch"
    else:
        title = f"Training loss falls from {history[0].loss:.3f} to {history[-1].loss:.3f}"
        if history[-1].loss >= history[0].loss:
            title = f"Training loss does not fall: {history[-1].loss:.3f} at the end"
    return _curves(
        run,
        title,
        "Cross-entropy in nats, by epoch",
        [epoch.loss for epoch in history],
        [epoch.val_loss for epoch in history],
        run.metrics["test"]["loss"],
        lambda value: f"{value:.3f}",
    )


def _accuracy(run: Run) -> Sheet:
    test = run.metrics["test"]
    return _curves(
        run,
        f"{percent(test['accuracy'])} of the test images are read right",
        "Share of images read right, by epoch; the line at the diamond is its 95% interval",
        [epoch.accuracy for epoch in run.history],
        [epoch.val_accuracy for epoch in run.history],
        test["accuracy"],
        lambda value: percent(value, 1),
        interval=tuple(test["interval"]),
    )


def _curves(
    run: Run,
    title: str,
    subtitle: str,
    training: Sequence[float],
    validation: Sequence[float | None],
    test: float,
    write: Callable[[float], str],
    interval: tuple[float, float] | None = None,
) -> Sheet:
    height = 3.6
    figure = new_sheet(height, title, subtitle)
    axes = add_axes(figure, left=0.66, right=1.5, bottom=0.5)
    numbers = [epoch.number for epoch in run.history]
    held = [value for value in validation if value is not None]
    marker = "o" if len(numbers) <= 30 else ""
    ends = []
    for values, colour, name in ((training, BLUE, "training"), (held, ORANGE, "validation")):
        if values:
            axes.plot(
                numbers[: len(values)],
                values,
                color=colour,
                marker=marker,
                markersize=5,
                markeredgecolor="white",
                markeredgewidth=1,
                clip_on=False,
                zorder=3,
            )
            ends.append((values[-1], colour, f"{name} {write(values[-1])}"))
    last = numbers[-1] if numbers else 1
    if interval:
        axes.plot([last] * 2, interval, color=INK, linewidth=1.4, zorder=4, clip_on=False)
    axes.plot(
        last, test, "D", color=INK, markersize=6, markeredgecolor="white", zorder=5, clip_on=False
    )
    ends.append((test, INK, f"test {write(test)}"))

    axes.set_xlim(min(numbers, default=1) - 0.15, last + 0.15 if last > 1 else 1.5)
    low, high = axes.get_ylim()
    # A loss is seen from 0; a share up to all, and from 0 or from a bound that the axis names.
    axes.set_ylim(*((_floor(low), 1) if interval else (0, high)))
    if interval and _floor(low):
        axes.set_ylabel(f"from {percent(_floor(low), 0)} to 100%")
    step = max(1, math.ceil(last / 12))
    axes.set_xticks(range(step, last + 1, step) if step > 1 else range(1, last + 1))
    axes.set_xlabel("epoch")
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{100 * value:g}%" if interval else f"{value:g}"
    )
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="x")
    _label_ends(axes, ends, height)
    return figure


def _floor(share: float) -> float:
    """Return where an axis of shares begins: at the largest of these bounds that is below it."""
    return max(bound for bound in (0, 0.5, 0.8, 0.9, 0.95, 0.99) if bound <= max(share, 0))


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]], height: float) -> None:
    """Label curves at their right end, instead of a legend; move labels apart that would overlap."""
    low, high = axes.get_ylim()
    room = 0.19 / (axes.get_position().height * height)  # a line of text, as a share of the axes
    ends = sorted(ends)
    places = [(value - low) / (high - low) for value, _, _ in ends]
    for _ in range(50):
        for number in range(len(places) - 1):
            overlap = room - (places[number + 1] - places[number])
            if overlap > 1e-6:
                places[number] -= overlap / 2
                places[number + 1] += overlap / 2
        places = [min(max(place, 0.02), 0.99) for place in places]
    for place, (_, colour, text) in zip(places, ends, strict=True):
        axes.text(
            1.03,
            place,
            text,
            transform=axes.transAxes,
            color=colour,
            fontsize=9,
            fontweight="bold",
            va="center",
        )


# --- the test --------------------------------------------------------------------------------------


def _confusion(run: Run) -> Sheet:
    table = np.array(run.metrics["test"]["confusion"])
    rows, columns = table.shape
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    if wrong.max():
        true, said = np.unravel_index(wrong.argmax(), wrong.shape)
        what = LABELS[said]
        title = f"Most often {true} is read as {what}: {_times(int(wrong.max()))}"
    else:
        title = "No mistakes"
    figure = new_sheet(
        5.75,
        title,
        f"{int(wrong.sum()):,} of {int(table.sum()):,} test images are read wrong",
    )
    axes = add_axes(figure, left=0.6, right=0.25, bottom=0.55, top=0.85)
    share = np.sqrt(wrong / max(1, wrong.max()))[..., None]
    colours = rgb("#fdf0e7") + (rgb(ORANGE) - rgb("#fdf0e7")) * share
    colours[wrong == 0] = rgb(GROUND)
    diagonal = np.arange(min(rows, columns))
    colours[diagonal, diagonal] = rgb(PALE_BLUE)
    axes.imshow(colours, interpolation="nearest", aspect="auto")
    axes.hlines(np.arange(rows - 1) + 0.5, -0.5, columns - 0.5, color="white", linewidth=2)
    axes.vlines(np.arange(columns - 1) + 0.5, -0.5, rows - 0.5, color="white", linewidth=2)
    for row, column in zip(*np.nonzero(table), strict=True):
        own = row == column
        strong = not own and share[row, column, 0] > 0.72
        axes.text(
            column,
            row,
            f"{table[row, column]:,}",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if strong else "#1c459f" if own else INK,
            fontweight="bold" if own else "normal",
        )
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    names = [str(column) if column < 10 else "none" for column in range(max(rows, columns))]
    axes.set_xticks(range(columns), names[:columns])
    axes.set_yticks(range(rows), names[:rows])
    axes.tick_params(labelsize=10.5, labelcolor=INK)
    axes.set_xlabel("read as")
    axes.set_ylabel("is")
    return figure


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _mistakes(run: Run) -> Sheet:
    pictures = load_pictures(run)
    test = run.metrics["test"]
    total = round(test["count"] * (1 - test["accuracy"]))
    if not len(pictures.mistakes):
        return new_sheet(1.1, f"No mistakes on {test['count']:,} test images")
    columns, shown = 8, min(40, len(pictures.mistakes))
    best, confidence, labels = _answers(run)
    captions = []
    for index in pictures.mistakes_index[:shown]:
        said = str(best[index]) if best[index] < 10 else "none"
        captions.append(
            [
                (f"{labels[index]} → {said}", INK, "bold"),
                (percent(confidence[index], 1), MUTED, "normal"),
            ]
        )
    rows = math.ceil(shown / columns)
    side = (WIDTH - 2 * 0.22 - (columns - 1) * 0.12) / columns
    figure = new_sheet(
        0.85 + rows * (side + 0.46) + 0.02,
        f"The {shown} most confident mistakes" if shown > 1 else "The only mistake",
        f"of {total:,} in {test['count']:,} test images: true label → what was read, and its confidence",
    )
    add_grid(figure, pictures.mistakes[:shown], captions, columns=columns, top=0.85, caption=0.46)
    return figure


def _answers(
    run: Run,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], npt.NDArray[np.uint8]]:
    """Return the best label of each test image, its calibrated confidence, and the true label."""
    said = load_predictions(run)
    shares = _calibrated(run, said.probabilities)
    return shares.argmax(axis=1), shares.max(axis=1), said.labels


def _calibrated(run: Run, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    # The log of a probability is the logit up to a constant, which softmax ignores.
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return softmax(logits, run.metrics["test"]["temperature"])


def _example(run: Run) -> Sheet:
    example = run.metrics["example"]
    actual, predicted = example["actual"], example["predicted"]
    what = LABELS[predicted]
    joint = "and it is" if predicted == actual else "but it is"
    figure = new_sheet(
        2.75,
        f"Test image {example['index']}: read as {what}, {joint} {actual}",
        f"Probability of each digit; confidence of the answer: {percent(example['confidence'])}",
    )
    width, height = figure.get_size_inches()
    side = height - 1.05
    picture = figure.add_axes((0.22 / width, 0.22 / height, side / width, side / height))
    bare(picture)
    picture.imshow(shades(load_pictures(run).example), interpolation="nearest", aspect="auto")

    said = load_predictions(run).probabilities[example["index"]]
    shares = _calibrated(run, said[None])[0]
    axes = add_axes(figure, left=0.22 + side + 0.45, right=0.75, top=0.83, bottom=0.2)
    places = range(len(shares))
    colours = [BLUE if place == actual else FAINT for place in places]
    if predicted != actual:
        colours[predicted] = ORANGE
    axes.barh(places, [1.0] * len(shares), height=0.68, color=GROUND)
    axes.barh(places, shares, height=0.68, color=colours)
    for place, share in zip(places, shares, strict=True):
        axes.text(
            1.02,
            place,
            percent(share, 1),
            va="center",
            fontsize=9,
            color=INK if place in (actual, predicted) else MUTED,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_yticks(places, [str(place) if place < 10 else "none" for place in places])
    axes.set_xticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK)
    return figure


def _reliability(run: Run) -> Sheet:
    test = run.test
    fitted = test.temperature != 1
    says = sum(part.count * (part.confidence or 0) for part in test.reliability) / test.count
    excess = says - test.accuracy
    title = f"Mean confidence {percent(says, 1)}, accuracy {percent(test.accuracy, 1)}"
    subtitle = (
        f"{'Over' if excess >= 0 else 'Under'}confident by {abs(100 * excess):.1f} points; "
        f"calibration error (ECE) {100 * test.ece:.2f}%"
        + (f", calibrated {100 * test.calibrated_ece:.2f}%" if fitted else "")
    )
    height = 5.6
    figure = new_sheet(height, title, subtitle)
    axes = add_axes(figure, left=0.72, right=0.3, top=0.9, bottom=1.6)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    # The label of the dashed line is rotated to its slope on paper.
    box = axes.get_position()
    slope = math.degrees(math.atan2(box.height * height, box.width * WIDTH))
    axes.text(
        0.07, 0.095, "perfectly calibrated", color=MUTED, fontsize=8.5, rotation=slope,
        rotation_mode="anchor",
    )  # fmt: skip
    series = [(test.reliability, ORANGE, "as trained")]
    if fitted:
        name = f"calibrated (temperature {test.temperature:.2f})"
        series.append((test.calibrated_reliability, BLUE, name))
    for bins, colour, name in series:
        _reliability_curve(axes, bins, colour, name)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.03)
    axes.set_ylabel("accuracy")
    axes.legend(loc="upper left", frameon=False, handlelength=1.4, labelcolor="linecolor")

    counts = add_axes(figure, left=0.72, right=0.3, top=height - 1.38, bottom=0.5)
    bins, colour, _ = series[-1]
    most = max(part.count for part in bins)
    for part in bins:
        if part.count:
            middle = (part.low + part.high) / 2
            counts.bar(middle, part.count, width=0.8 / len(bins), color=colour)
            counts.text(
                middle, part.count + 0.03 * most, f"{part.count:,}",
                ha="center", va="bottom", fontsize=7.5, color=MUTED,
            )  # fmt: skip
    counts.set_ylim(0, 1.3 * most)
    counts.set_yticks([])
    counts.set_xlim(0, 1.01)
    counts.set_ylabel("images")
    counts.set_xlabel("confidence of the answer")
    counts.grid(False)
    ticks = [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    for panel in (axes, counts):
        panel.set_xticks(ticks, [f"{100 * tick:.0f}%" for tick in ticks])
        panel.spines["left"].set_visible(False)
    axes.set_yticks(ticks, [f"{100 * tick:.0f}%" for tick in ticks])
    axes.tick_params(axis="x", labelbottom=False)
    return figure


FEW = 20
"""A bin with fewer images has an accuracy that is mostly chance."""


def _reliability_curve(axes: Axes, bins: Sequence[Bin], colour: str, name: str) -> None:
    filled = [
        (part.confidence, part.accuracy, part.count)
        for part in bins
        if part.accuracy is not None and part.confidence is not None
    ]
    # Bins with few images are pale dots that the line skips.
    strong = [row for row in filled if row[2] >= FEW]
    weak = [row for row in filled if row[2] < FEW]
    for confidence, share, count in strong:
        bounds = wilson(round(share * count), count)
        axes.plot([confidence] * 2, bounds, color=colour, linewidth=1.3, alpha=0.6)
    axes.plot(
        [row[0] for row in weak], [row[1] for row in weak], "o", color=colour, markersize=4,
        alpha=0.35, markeredgewidth=0, clip_on=False,
    )  # fmt: skip
    axes.plot(
        [row[0] for row in strong], [row[1] for row in strong], color=colour, marker="o",
        markersize=6.5, markeredgecolor="white", linewidth=1.8, label=name, clip_on=False,
    )  # fmt: skip


_DRAWINGS: dict[str, Callable[[Run], Sheet]] = {
    "label_histogram.png": _label_histogram,
    "samples.png": _samples,
    "loss.png": _loss,
    "accuracy.png": _accuracy,
    "model_architecture.png": draw_network,
    "confusion.png": _confusion,
    "mistakes.png": _mistakes,
    "reliability.png": _reliability,
    "example.png": _example,
}
