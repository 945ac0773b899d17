"""Measure how well `reader` and a classic network read corrupted digits.

    python benchmarks/robustness.py [--data-dir MNIST] [--seeds 5] [--pages 1000]

MNIST's 10,000 test digits get fifteen corruptions in five severities each, as in MNIST-C
(`training.evaluation.corruptions`). A digit that is read wrong or refused counts as an error.
`extra` holds the error of its likeliest digit, and the errors of each corruption.
`dense-128-128` is trained from nothing with seeds 0, 1, ...; `reader` is the shipped model. Both get the
28x28 glyphs as they are. Then one in 10,000 / PAGES of the same pictures is read with the whole pipeline,
as an image of a single digit. Nothing is chosen by these numbers.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

import _record
from digitry.model.artifact import Metadata
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.reading.result import Reading
from digitry.training.data.dataset import Split
from digitry.training.datasets import load_dataset
from digitry.training.evaluation.robustness import Robustness, measure, robustness
from digitry.training.loop.train import train
from digitry.training.network import convert
from digitry.training.recipes import RECIPES

CLASSIC = "dense-128-128"
REFUSED = 10


def classic(split: Split, test: Split, seed: int) -> Robustness:
    """Train the classic recipe and return its robustness."""
    recipe = dataclasses.replace(RECIPES[CLASSIC], seed=seed)
    trained = train(recipe, split)
    labels = tuple(str(digit) for digit in range(10))
    return robustness(
        convert.as_artifact(trained.model, Metadata(name=CLASSIC, labels=labels)), test
    )


def through_reading(test: Split, console: Console) -> Robustness:
    """Return the robustness of the whole pipeline, with each picture as an image of one digit."""
    reader = Reader("reader@shipped", layout="single")

    def answer(
        images: npt.NDArray[np.uint8],
    ) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.integer]]:
        said, likeliest = np.full((2, len(images)), REFUSED)
        for number, reading in enumerate(reader.read_many(list(images), layout="single")):
            digits = reading.digits if isinstance(reading, Reading) else ()
            if len(digits) == 1:
                (digit,) = digits
                said[number] = REFUSED if digit.value is None else digit.value
                best = digit.alternatives[0][0] if digit.alternatives else said[number]
                likeliest[number] = best
        return said, likeliest

    return measure(answer, test, console=console)


def save(
    name: str, what: str, runs: list[Robustness], data: dict[str, str], packages: list[str]
) -> None:
    _record.write(
        f"robustness-{name}",
        table="Robustness",
        what=what,
        metric="error, mean over 15 corruptions in 5 severities",
        unit="%",
        values=[run.mean_error for run in runs],
        data=data,
        versions=("digitry", "numpy", "opencv-python-headless", "onnxruntime", *packages),
        extra={
            "digits": runs[0].count,
            "interval of the first run": list(runs[0].interval),
            "refused": [run.refused for run in runs],
            "likeliest digit wrong": [run.forced_error for run in runs],
            "likeliest digit wrong, severities of the MNIST-C files": [
                run.published_error for run in runs
            ],
            "clean": [run.clean_error for run in runs],
            "errors of the first run": {one.name: list(one.errors) for one in runs[0].corruptions},
        },
    )


def shown(name: str, run: Robustness) -> str:
    return (
        f"{name}: {100 * run.mean_error:.2f}% wrong or refused, {100 * run.refused:.2f}% refused, "
        f"{100 * run.forced_error:.2f}% of the likeliest digits wrong; "
        f"{100 * run.clean_error:.2f}% wrong without corruption"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help=f"trainings of {CLASSIC}")
    parser.add_argument("--pages", type=int, default=1000, help="digits read by the whole pipeline")
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    dataset = load_dataset("mnist", data_dir=arguments.data_dir)
    test, console = dataset.test, Console(stderr=True)
    data = {dataset.name: dataset.sha256}
    shipped = {**data, "model reader": load_model("reader@shipped").sha256}

    old = []
    for seed in range(arguments.seeds):
        old.append(classic(dataset.train, test, seed))
        print(shown(f"{CLASSIC} seed {seed}", old[-1]), flush=True)
    new = robustness("reader@shipped", test, console=console)
    print(shown("reader", new), flush=True)
    step = max(1, len(test) // arguments.pages)
    read = through_reading(test.take(np.arange(0, len(test), step)), console)
    print(shown("reader, whole pipeline", read), flush=True)
    mean = float(np.mean([run.mean_error for run in old]))
    print(
        f"reader's error is {new.mean_error / mean:.2f} of {CLASSIC}'s, {read.mean_error / mean:.2f} "
        "with the whole pipeline; the goal is 0.33"
    )
    if not arguments.no_record:
        save("dense-128-128", f"`{CLASSIC}`, glyphs as they are", old, data, ["torch", "keras"])
        save("reader", "`reader`, glyphs as they are", [new], shipped, [])
        save("reader-images", f"`reader`, {read.count:,} of them as images", [read], shipped, [])


if __name__ == "__main__":
    main()
