"""The picture of a sweep: its trials in order, and the accuracy along each field. A leaf."""

from pathlib import Path

import matplotlib
import optuna
from matplotlib.ticker import LogLocator, NullFormatter
from optuna.trial import TrialState

from digitry import files
from digitry.training.report.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    STYLE,
    Sheet,
    add_axes,
    new_sheet,
    percent,
    png,
)  # fmt: skip
from digitry.training.sweep import Plan, importances

PLOT = "sweep.png"
SHOWN = 6
"""Most fields that are drawn."""


def write_sweep(study: optuna.Study, plan: Plan, folder: Path) -> Path:
    """Draw a study with at least one complete trial into its folder, as sweep.png.

    Raises:
        DigitryError: the folder cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        files.write_bytes(folder / PLOT, png(_picture(study, plan)))
    return folder / PLOT


def _picture(study: optuna.Study, plan: Plan) -> Sheet:
    trials = study.get_trials(states=[TrialState.COMPLETE])
    pruned = study.get_trials(states=[TrialState.PRUNED])
    values = [100 * (trial.value or 0.0) for trial in trials]
    shares = importances(study)
    names = sorted(plan.axes, key=lambda name: -shares.get(name, 0.0))[:SHOWN]
    row, rows, width = 2.35, 1 + (len(names) + 1) // 2, 7.6
    height = 0.7 + rows * row
    figure = new_sheet(
        height,
        f"{plan.recipe.name}: the best setting reads {percent(max(values) / 100)} of held-out digits",
        f"{len(trials)} settings trained to the end, {len(pruned)} pruned; mean over {plan.seeds} "
        + ("seed" if plan.seeds == 1 else "seeds"),
        width=width,
    )

    history = add_axes(figure, top=0.85, bottom=height - row - 0.25)
    history.plot([t.number for t in trials], values, "o", color=BLUE, markersize=4, label="trained")
    history.plot(
        [t.number for t in pruned], [100 * (t.value or 0.0) for t in pruned],
        "x", color=MUTED, markersize=4, label="pruned",
    )  # fmt: skip
    best = [max(values[: place + 1]) for place in range(len(values))]
    history.step([t.number for t in trials], best, where="post", color=ORANGE, label="best so far")
    history.set_ylabel("held-out accuracy, %")
    history.set_xlabel("trial")
    history.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")

    for place, name in enumerate(names):
        down, right = divmod(place, 2)
        axes = add_axes(
            figure,
            left=0.62 + right * width / 2,
            right=0.25 + (1 - right) * width / 2,
            top=0.95 + (down + 1) * row,
            bottom=height - (down + 2) * row - 0.25,
        )
        choices = getattr(plan.axes[name], "choices", None)
        along = [trial.params[name] for trial in trials]
        if choices is not None:
            along = [choices.index(value) for value in along]
            axes.set_xticks(range(len(choices)), choices)
            axes.set_xlim(-0.5, len(choices) - 0.5)
        elif getattr(plan.axes[name], "log", False):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.plot(along, values, "o", color=BLUE, markersize=4, alpha=0.7)
        share = f", importance {percent(shares[name], 0)}" if name in shares else ""
        axes.set_xlabel(name.replace("_", " ") + share)
    return figure
