"""The picture of a sweep: settings, the best first, each with its seeds and their interval. A leaf."""

from pathlib import Path

import matplotlib

from digitry import files
from digitry.errors import DataError
from digitry.training.report.style import (
    BLUE,
    INK,
    MUTED,
    PALE_BLUE,
    STYLE,
    Sheet,
    add_axes,
    new_sheet,
    percent,
    png,
)
from digitry.training.sweep import Sweep

SHOWN = 30
"""Most settings that are drawn."""

PLOT = "sweep.png"


def write_sweep(sweep: Sweep) -> Path:
    """Draw a sweep into its folder, as sweep.png.

    Raises:
        DataError: nothing was trained yet.
        DigitryError: the folder cannot be written.
    """
    path = sweep.folder / PLOT
    with matplotlib.rc_context(STYLE):
        files.write_bytes(path, png(_picture(sweep)))
    return path


def _picture(sweep: Sweep) -> Sheet:
    ranking = [one for one in sweep.ranking() if one.mean is not None]
    if not ranking:
        raise DataError(
            "no training has a result", where=sweep.folder, remedy="let the sweep go on"
        )
    shown = ranking[:SHOWN]
    labels = [
        "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in one.setting.items())
        for one in shown
    ]
    best = shown[0].mean or 0.0
    left = min(6.0, 0.4 + 0.076 * max(map(len, labels)))
    width = left + 5.2
    height = 1.62 + 0.3 * len(shown)
    hidden = len(ranking) - len(shown)
    seeds = max(len(one.trials) for one in shown)
    figure = new_sheet(
        height,
        f"{sweep.plan.recipe.name}: the best setting reads {percent(best)} of held-out digits",
        f"{sweep.held_out:,} training images of {sweep.data} held out; {seeds} "
        + ("seed" if seeds == 1 else "seeds, their mean and its 95% interval")
        + (f"; {hidden} worse settings are left out" if hidden else ""),
        width=width,
    )
    axes = add_axes(figure, left=left, right=1.0, top=0.92, bottom=0.55)
    for place, one in enumerate(shown):
        mean = one.mean or 0.0
        colour = BLUE if place == 0 else MUTED
        scores = [trial.accuracy for trial in one.trials if trial.accuracy is not None]
        if one.interval is not None:
            axes.plot(one.interval, [place] * 2, color=colour, linewidth=3, alpha=0.35, zorder=2)
        if len(scores) > 1:
            axes.plot(
                scores, [place] * len(scores), "o", color=PALE_BLUE if place == 0 else "#d3d8e0",
                markeredgecolor=colour, markeredgewidth=0.7, markersize=4, zorder=3,
            )  # fmt: skip
        axes.plot(mean, place, "o", color=colour, markersize=8, markeredgecolor="white", zorder=4)
        axes.text(
            1.02, place, percent(mean), transform=axes.get_yaxis_transform(), va="center",
            color=colour, fontweight="bold", fontsize=9,
        )  # fmt: skip
    # Intervals of two seeds are so wide that the scores would not be told apart.
    scores = [t.accuracy for one in shown for t in one.trials if t.accuracy is not None]
    low, high = min(scores), max(scores)
    room = 0.12 * (high - low) or 0.002
    left_end, right_end = max(0.0, low - room), min(1.0, high + room)
    axes.set_xlim(left_end, right_end)
    for place, one in enumerate(shown):
        first, last = one.interval or (left_end, right_end)
        for end, cut, mark in (
            (left_end, first < left_end, "<"),
            (right_end, last > right_end, ">"),
        ):
            if cut:
                # The interval goes on past the axis.
                axes.plot(end, place, mark, color=MUTED, markersize=5, clip_on=False, zorder=5)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks(range(len(shown)), labels)
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel("share of held-out images read right")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    return figure
