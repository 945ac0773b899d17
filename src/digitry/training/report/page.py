"""Write a run folder's pictures and its HTML report. It loads matplotlib; `write` does so when needed.

It reads what `run` wrote and nothing else: no stage of training knows that there is a report.
"""

import base64
import struct
from collections.abc import Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from digitry import files
from digitry.errors import ModelError, UsageError
from digitry.model.artifact import LABELS, MODEL_FILE
from digitry.model.load import load_uncalibrated
from digitry.training import run_folder
from digitry.training.evaluation.scores import Evaluation, wilson
from digitry.training.report import plots
from digitry.training.report.comparison_plot import draw_comparison
from digitry.training.report.style import percent
from digitry.training.run_folder import PLOTS, Run

COMPARISON = "comparison.png"

_CONTENTS = {
    MODEL_FILE: "the model file that digitry reads with",
    run_folder.KERAS_FILE: "the model for Keras 3, on any backend",
    run_folder.H5_FILE: "the same model in the older HDF5 format",
    run_folder.METRICS: "every number in this report",
    run_folder.HISTORY: "loss and accuracy of each epoch",
    run_folder.PREDICTIONS: "the predictions for all test images",
    run_folder.RECIPE: "the recipe, to train it again",
    run_folder.SUMMARY: "the layers, as Keras prints them",
}


def write_plots(run: Run, only: frozenset[str] | None = None) -> list[Path]:
    """Write the pictures of a run into its folder.

    Args:
        run: a run loaded from its folder.
        only: file names to draw; None = all of `run_folder.PLOTS`.

    Returns:
        The files, in the order in which a report shows them.

    Raises:
        DataError: predictions.npz is missing or damaged.
    """
    written = []
    for name in PLOTS:
        if only is None or name in only:
            files.write_bytes(run.folder / name, plots.draw(name, run))
            written.append(run.folder / name)
    return written


def write_html(run: Run) -> Path:
    """Write a run's report, one HTML file that contains its pictures and needs no network.

    Pictures in the folder are used unchanged; missing ones are drawn only into the report.

    Raises:
        DataError: predictions.npz is missing or damaged.
    """
    import jinja2

    text = resources.files("digitry.training.report").joinpath("page.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = run.folder / run_folder.REPORT
    files.write_text(page, environment.from_string(text).render(_facts(run)))
    return page


def write_comparison(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Write comparison.png, which compares runs.

    Args:
        runs: at least two.
        folder: folder to write to.

    Returns:
        The files written.

    Raises:
        UsageError: there are fewer than two runs.
    """
    if len(runs) < 2:
        raise UsageError("only one run is named", remedy="name two or more run folders")
    path = folder / COMPARISON
    files.write_bytes(path, draw_comparison(runs))
    return [path]


def _facts(run: Run) -> dict[str, Any]:
    """Return the values of the template, with numbers already formatted."""
    metrics, test = run.metrics, run.test
    held = metrics["validation"]
    calibrated = test.temperature != 1
    low, high = test.interval
    # Start the scale below the accuracy at a value that keeps the interval visible.
    floor = 0.9 if low >= 0.91 else 0.5 if low >= 0.52 else 0.0
    wrong = test.count - round(test.accuracy * test.count)
    example = metrics["example"]
    size = run.folder / MODEL_FILE
    return {
        "recipe": run.recipe,
        "settings": [
            (name.replace("_", " "), _words(name, value))
            for name, value in run.recipe.to_dict().items()
            if name not in ("name", "summary")
        ],
        "folder": run.folder.as_posix(),
        "data": metrics["data"],
        "finished": _day(metrics["finished"]),
        "interrupted": metrics["interrupted"],
        "epochs": len(run.history),
        "test": test,
        "accuracy": percent(test.accuracy),
        "low": percent(low),
        "high": percent(high),
        "wrong": wrong,
        "scale": {
            "low": f"{100 * floor:.0f}%",
            "start": f"{(low - floor) / (1 - floor):.4f}",
            "end": f"{(high - floor) / (1 - floor):.4f}",
            "at": f"{(test.accuracy - floor) / (1 - floor):.4f}",
        },
        "calibrated": calibrated,
        "undisputed": _undisputed(test),
        "validation": None if held is None else percent(held["accuracy"]),
        "validation_interval": "" if held is None else _between(held["interval"]),
        "validation_count": 0 if held is None else held["count"],
        "fit_seconds": seconds(metrics["fit_seconds"]),
        "total_seconds": seconds(metrics["total_seconds"]),
        "device": metrics["device"],
        "parameters": metrics["parameters"],
        "model_size": f"{bytes_text(size.stat().st_size)} on disk" if size.exists() else "",
        "example": {
            **example,
            "predicted": LABELS[example["predicted"]],
            "confidence": percent(example["confidence"], 1),
        },
        "learning": _learning(run),
        "classes": [
            {
                "label": one.label,
                "precision": percent(one.precision, 1),
                "recall": percent(one.recall, 1),
                "interval": _between(wilson(round(one.recall * one.support), one.support), 1)
                if one.support
                else "–",
                "f1": percent(one.f1, 1),
                "support": one.support,
                # Bars from 80%: recalls of digits differ by a few points.
                "length": f"{max(0.0, (one.recall - 0.8) / 0.2):.3f}",
            }
            for one in test.classes
        ],
        "pairs": _pairs(test.confusion),
        "calibration": _calibration(run),
        "risk": _risk(run),
        "pictures": {name: _embedded(run, name) for name in PLOTS},
        "files": [
            {"name": name, "what": what, "size": bytes_text((run.folder / name).stat().st_size)}
            for name, what in _CONTENTS.items()
            if (run.folder / name).exists()
        ],
        "versions": list(metrics["versions"].items()),
        "digitry": metrics["versions"]["digitry"],
    }


def _undisputed(test: Evaluation) -> dict[str, str] | None:
    if test.accuracy_undisputed is None or test.interval_undisputed is None:
        return None
    low, high = test.interval_undisputed
    return {
        "accuracy": percent(test.accuracy_undisputed),
        "low": percent(low),
        "high": percent(high),
    }


def _between(interval: Sequence[float], digits: int = 2) -> str:
    low, high = interval
    return f"{percent(low, digits)} to {percent(high, digits)}"


def _embedded(run: Run, name: str) -> dict[str, Any]:
    path = run.folder / name
    content = path.read_bytes() if path.exists() else plots.draw(name, run)
    # A PNG's size is at byte 16 (w3.org/TR/png, IHDR); the page shows pictures at half their size.
    width, height = struct.unpack(">II", content[16:24])
    return {
        "data": base64.b64encode(content).decode(),
        "width": width // 2,
        "height": height // 2,
    }


def _learning(run: Run) -> str:
    if not run.history:
        return "It was interrupted before the end of its first epoch: these are initial weights."
    last = run.history[-1]
    text = f"At the end it read {percent(last.accuracy, 1)} of its training images right"
    if last.val_accuracy is None:
        return f"{text}. No images were held out, so only the test shows how it reads new images."
    return (
        f"{text}, and {percent(last.val_accuracy, 1)} of the held-out ones, which it was not trained "
        "on. A large difference between the two means overfitting."
    )


def _calibration(run: Run) -> str:
    test = run.test
    if run.metrics["validation"] is None:
        return (
            "This recipe holds no images out, so it was not calibrated: the temperature is 1, and the "
            f"confidences are the network's own, off by {100 * test.ece:.2f}% on average (ECE)."
        )
    return (
        f"The temperature of {test.temperature:.2f} was fitted on the held-out images. On the test "
        f"images the calibrated confidences are off by {100 * test.calibrated_ece:.2f}% on average "
        f"(ECE), the network's own by {100 * test.ece:.2f}%."
    )


def _pairs(confusion: Sequence[Sequence[int]], most: int = 10) -> list[dict[str, Any]]:
    found = [
        (count, row, column)
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if row != column and count
    ]
    found.sort(key=lambda cell: (-cell[0], cell[1], cell[2]))
    return [
        {
            "true": LABELS[true],
            "said": LABELS[said],
            "count": count,
            "share": percent(count / sum(confusion[true]), 1),
        }
        for count, true, said in found[:most]
    ]


def _risk(run: Run) -> list[dict[str, str]]:
    """Return a few rows of the risk-coverage curve in the model file."""
    try:
        curve = load_uncalibrated(run.folder).metadata.risk_coverage
    except ModelError:
        # The report does not need the model file.
        return []
    rows = []
    for most in (0.0, 0.001, 0.005, 0.01, 0.02):
        fitting = [row for row in curve if row[1] <= most]
        if fitting:
            best = max(fitting, key=lambda row: row[2])
            if best not in rows:
                rows.append(best)
    return [
        {
            "threshold": percent(threshold),
            "error": percent(error),
            "coverage": percent(coverage, 1),
        }
        for threshold, error, coverage in rows
    ]


def _words(name: str, value: object) -> str:
    if value is None:
        meant = {
            "learning_rate": "0.001, Keras' default",
            "patience": "no early stopping",
            "pools": "before each layer with more channels",
        }
        return meant.get(name, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{part:,}" for part in value)
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _day(moment: str) -> str:
    return f"{datetime.fromisoformat(moment):%d %B %Y, %H:%M} UTC".lstrip("0")


def seconds(value: float) -> str:
    """Return a time as text: `0.84 s`, `12.3 s`, `4 min 05 s`, `2 h 10 min`."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 120:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def bytes_text(count: int) -> str:
    """Return a size as text in decimal units, as file managers show it."""
    for unit, size in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
