"""The drawing of a network: one box per layer, without an external program."""

import math
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from digitry.training.report.style import (
    BLUE,
    GROUND,
    MUTED,
    PALE_BLUE,
    WIDTH,
    Sheet,
    bare,
    new_sheet,
)
from digitry.training.run_folder import Run


def draw_network(run: Run) -> Sheet:
    """Return a figure of the layers as boxes, from input to output, with their connections."""
    layers = run.metrics["layers"]
    box, gap, column_width, per_column = 0.5, 0.24, 4.0, 14
    columns = math.ceil(len(layers) / per_column)
    rows = math.ceil(len(layers) / columns)
    width = max(WIDTH, 0.22 * 2 + columns * column_width + (columns - 1) * 0.5)
    height = 0.85 + rows * box + (rows - 1) * gap + 0.22
    total = run.metrics["parameters"]
    figure = new_sheet(
        height,
        f"{run.recipe.name}: {total:,} parameters",
        "Layer, output shape for one image, parameters",
        width=width,
    )
    axes = figure.add_axes((0, 0, 1, 1))
    bare(axes)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    room = width - 0.44 - (columns - 1) * 0.5
    # A connection that skips layers is drawn as a curve to their right.
    straight = all(layer["inputs"] in ([], [before["name"]]) for before, layer in pairwise(layers))
    wide = room / columns - (0 if straight else 0.5)
    places: dict[str, tuple[float, float, int]] = {}
    for number, layer in enumerate(layers):
        column, row = divmod(number, rows)
        x, y = 0.22 + column * (room / columns + 0.5), 0.85 + row * (box + gap)
        places[layer["name"]] = (x, y, number)
        _layer_box(axes, layer, x, y, wide, box, total)
        inputs = layer["inputs"] or ([layers[number - 1]["name"]] if number else [])
        for name in inputs:
            if name not in places:
                continue
            from_x, from_y, before = places[name]
            same = from_x == x
            if same and before == number - 1:
                start, end, bend = (x + wide / 2, from_y + box), (x + wide / 2, y), "arc3"
            elif same:
                start, end = (x + wide, from_y + box / 2), (x + wide, y + box / 2)
                bend = f"arc3,rad={-0.8 / (number - before) / (box + gap):.3f}"
            else:
                start, end, bend = (
                    (from_x + wide, from_y + box / 2),
                    (x, y + box / 2),
                    "arc3,rad=0.1",
                )
            axes.add_patch(
                FancyArrowPatch(
                    start,
                    end,
                    connectionstyle=bend,
                    arrowstyle="-|>",
                    mutation_scale=9,
                    color=MUTED,
                    linewidth=1.1,
                    shrinkA=0,
                    shrinkB=0,
                )
            )
    return figure


def _layer_box(
    axes: Axes, layer: dict[str, Any], x: float, y: float, wide: float, box: float, total: int
) -> None:
    learns = layer["parameters"] > 0
    axes.add_patch(
        FancyBboxPatch(
            (x, y),
            wide,
            box,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=PALE_BLUE if learns else GROUND,
            edgecolor="none",
        )
    )
    kind = "Input" if layer["kind"] == "InputLayer" else layer["kind"]
    activation = layer["activation"] if layer["activation"] not in (None, "linear") else ""
    middle = y + box / 2
    axes.text(x + 0.16, middle, kind, fontsize=10.5, fontweight="bold", va="center")
    axes.text(x + wide * 0.36, middle, activation, fontsize=9.5, color=MUTED, va="center")
    shape = " x ".join(str(size) for size in layer["output_shape"])
    axes.text(x + wide * 0.66, middle, shape, fontsize=10, va="center", ha="right")
    axes.text(
        x + wide - 0.16,
        middle,
        f"{layer['parameters']:,}" if learns else "–",
        fontsize=10,
        va="center",
        ha="right",
        color="#1c459f" if learns else MUTED,
        fontweight="bold" if learns else "normal",
    )
    # The length of the line at the bottom edge shows the share of the parameters.
    if learns:
        share = layer["parameters"] / max(1, total)
        axes.plot(
            [x + 0.16, x + 0.16 + (wide - 0.32) * share],
            [y + box - 0.07] * 2,
            color=BLUE,
            linewidth=2,
        )
