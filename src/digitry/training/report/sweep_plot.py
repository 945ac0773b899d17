"""The plot of a sweep: accuracy by trial, and the importance of each field."""

import itertools
from pathlib import Path

import matplotlib
import optuna
from optuna.trial import TrialState

from digitry import files
from digitry.training.report.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    STYLE,
    add_axes,
    new_sheet,
    percent,
    png,
)
from digitry.training.sweep import importances


def write_sweep(study: optuna.Study, folder: Path) -> Path:
    """Write the plot of a study as sweep.png, and return its path.

    Args:
        study: a study with at least one complete trial.
        folder: the folder of the sweep.

    Raises:
        DigitryError: the folder cannot be written.
    """
    shares = importances(study)
    below = 0.9 + 0.25 * len(shares) if shares else 0.0
    with matplotlib.rc_context(STYLE):
        title = f"The best setting reads {percent(study.best_value)} of held-out digits"
        figure = new_sheet(3.4 + below, title)
        history = add_axes(figure, top=0.6, bottom=0.5 + below)
        for state, mark, ink in ((TrialState.COMPLETE, "o", BLUE), (TrialState.PRUNED, "x", MUTED)):
            trials = study.get_trials(states=[state])
            numbers, values = [t.number for t in trials], [100 * (t.value or 0) for t in trials]
            history.plot(numbers, values, mark, color=ink, markersize=4, label=state.name.lower())
            if state == TrialState.COMPLETE:
                best = list(itertools.accumulate(values, max))
                history.step(numbers, best, where="post", color=ORANGE, label="best so far")
        history.set(xlabel="trial", ylabel="held-out accuracy, %")
        history.locator_params(axis="x", integer=True)
        history.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
        if shares:
            bars = add_axes(figure, left=1.4, top=3.5, bottom=0.5)
            bars.barh(list(shares)[::-1], list(shares.values())[::-1], color=BLUE)
            for place, share in enumerate(list(shares.values())[::-1]):
                bars.text(share, place, f" {percent(share, 0)}", va="center", color=INK)
            bars.set(
                xlabel="share of the differences that a field explains", xticks=[], xlim=(0, 1.1)
            )
        files.write_bytes(folder / "sweep.png", png(figure))
    return folder / "sweep.png"
