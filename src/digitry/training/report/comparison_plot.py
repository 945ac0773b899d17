"""The picture that compares runs, as PNG bytes. Only `page` imports this module."""

from collections.abc import Sequence

import matplotlib

from digitry.training.evaluation.scores import Evaluation
from digitry.training.report.style import (
    BLUE,
    INK,
    MUTED,
    STYLE,
    Sheet,
    add_axes,
    new_sheet,
    percent,
    png,
)
from digitry.training.run_folder import Run


def draw_comparison(runs: Sequence[Run]) -> bytes:
    """Return a picture that compares runs: accuracies with their intervals, and training times.

    Args:
        runs: at least one, drawn from top to bottom.

    Returns:
        A PNG.
    """
    with matplotlib.rc_context(STYLE):
        return png(_comparison(runs))


def _comparison(runs: Sequence[Run]) -> Sheet:
    tests: list[Evaluation] = [run.test for run in runs]
    best = max(range(len(runs)), key=lambda number: tests[number].accuracy)
    names = _names(runs)
    top = percent(tests[best].accuracy)
    even = sum(test.accuracy == tests[best].accuracy for test in tests) > 1
    figure = new_sheet(
        1.5 + 0.42 * len(runs),
        f"{top} of the test images are read right at best"
        + (", by several runs" if even else f", by {names[best]}"),
        "Test accuracy with its 95% interval, and seconds of training",
        width=9.0,
    )
    label = min(3.2, 0.35 + 0.085 * max(len(name) for name in names))
    axes = add_axes(figure, left=label, right=9.0 - label - 3.6, top=0.9, bottom=0.5)
    places = range(len(runs))
    for place, test in zip(places, tests, strict=True):
        colour = BLUE if place == best else MUTED
        axes.plot(test.interval, [place] * 2, color=colour, linewidth=3, alpha=0.45)
        axes.plot(test.accuracy, place, "o", color=colour, markersize=8, markeredgecolor="white")
        axes.text(
            1.03, place, percent(test.accuracy), transform=axes.get_yaxis_transform(),
            va="center", color=colour, fontweight="bold",
        )  # fmt: skip
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("test accuracy")

    seconds = [run.metrics["fit_seconds"] for run in runs]
    bars = add_axes(figure, left=label + 4.5, right=0.7, top=0.9, bottom=0.5)
    bars.barh(places, seconds, height=0.5, color=[BLUE if p == best else "#b9c0cc" for p in places])
    for place, value in zip(places, seconds, strict=True):
        bars.text(value, place, f" {value:,.1f}", va="center", fontsize=9, color=MUTED)
    bars.set_xticks([])
    bars.set_yticks([])
    bars.set_xlabel("seconds of training")
    for part in (axes, bars):
        part.set_ylim(len(runs) - 0.5, -0.5)
        part.grid(False, axis="y")
        part.spines["left"].set_visible(False)
    bars.spines["bottom"].set_visible(False)
    return figure


def _names(runs: Sequence[Run]) -> list[str]:
    recipes = [run.recipe.name for run in runs]
    return recipes if len(set(recipes)) == len(recipes) else [run.name for run in runs]
