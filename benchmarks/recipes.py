"""Measure the test accuracy and the training time of recipes over several seeds.

    python benchmarks/recipes.py [RECIPE...] [--seeds 10] [--set FIELD=VALUE...] [--processes 1]
        [--data-dir MNIST] [--device cpu]

Each recipe is trained from nothing with seeds 0, 1, ... on its own data set, for its own epochs. The
record holds the test accuracy of each seed and, in `extra`, the seconds to fit and the accuracy without
the disputed labels. The mean of all seeds' probabilities is measured, too. With more than one process,
several seeds train at the same time, each on its share of the processors. Nothing is chosen by these
numbers: the last epoch counts. The folder --keep holds each seed's model and its probabilities; a seed
that it already holds, trained by the same recipe, is not trained again.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import _record
from digitry.training.data.dataset import Dataset
from digitry.training.datasets import load_dataset
from digitry.training.evaluation.disputed import disputed_in
from digitry.training.evaluation.scores import fingerprint, wilson
from digitry.training.loop.train import train
from digitry.training.recipes import RECIPES, Recipe

ANCESTORS = ("dense-256-128", "dense-512", "dense-128-64", "dense-128-128", "dense-128")


def main() -> None:
    arguments = parsed()
    for name in arguments.recipes:
        settings = dict(text.split("=", 1) for text in arguments.set)
        recipe = RECIPES[name].override(settings)
        dataset = load_dataset(recipe.data, data_dir=arguments.data_dir)
        if arguments.seed is None:
            measure(recipe, settings, dataset, arguments)
        else:
            chosen = dataclasses.replace(recipe, seed=arguments.seed)
            work(chosen, dataset, arguments.keep, arguments.device)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=ANCESTORS, metavar="RECIPE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--processes", type=int, default=1, help="seeds trained at the same time")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--device", default="cpu", help="cpu or cuda; a GPU gets other records")
    parser.add_argument("--keep", type=Path, help="folder for the models and their probabilities")
    parser.add_argument("--no-record", action="store_true", help="print only")
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def work(recipe: Recipe, dataset: Dataset, keep: Path, device: str) -> None:
    """Train one seed in this process; write the model and its probabilities of the test images."""
    trained = train(recipe, dataset.train, device=device)
    glyphs = dataset.test.images.astype(np.float32) / 255
    said = np.asarray(trained.model.predict(glyphs, batch_size=1000, verbose=0))
    trained.model.save(keep / f"{recipe.name}-{recipe.seed}.keras")
    np.save(keep / f"{recipe.name}-{recipe.seed}.npy", said)
    facts = {
        "fit_s": trained.fit_seconds,
        "parameters": trained.model.count_params(),
        "recipe": recipe.to_dict(),
    }
    # Written last: a seed that has this file is complete.
    (keep / f"{recipe.name}-{recipe.seed}.json").write_text(json.dumps(facts))


def measure(
    recipe: Recipe, settings: dict[str, str], dataset: Dataset, arguments: argparse.Namespace
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keep = arguments.keep or Path(folder)
        keep.mkdir(parents=True, exist_ok=True)
        threads = max(1, (os.cpu_count() or 1) // arguments.processes)
        words = [sys.executable, __file__, recipe.name, "--keep", str(keep)]
        words += [f"--set={field}={value}" for field, value in settings.items()]
        words += ["--data-dir", str(arguments.data_dir)] if arguments.data_dir else []
        words += ["--device", arguments.device]

        def one(seed: int) -> dict[str, Any]:
            written = keep / f"{recipe.name}-{seed}.json"
            wanted = dataclasses.replace(recipe, seed=seed).to_dict()
            if not written.exists() or json.loads(written.read_text())["recipe"] != wanted:
                subprocess.run(
                    [*words, "--seed", str(seed)],
                    env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                    check=True, stdout=subprocess.DEVNULL,
                )  # fmt: skip
            facts: dict[str, Any] = json.loads(written.read_text())
            said = np.load(keep / f"{recipe.name}-{seed}.npy")
            facts |= {"accuracy": right(said, dataset).mean(), "said": said}
            print(
                f"{recipe.name} seed {seed}: {100 * facts['accuracy']:.2f}% "
                f"in {facts['fit_s']:.1f} s",
                flush=True,
            )
            return facts

        with ThreadPoolExecutor(arguments.processes) as several:
            runs = list(several.map(one, range(arguments.seeds)))
    agreed = np.ones(len(dataset.test), bool)
    agreed[list(disputed_in(fingerprint(dataset.test)))] = False
    together = right(np.mean([run["said"] for run in runs], axis=0), dataset)
    accuracies = [float(run["accuracy"]) for run in runs]
    mean = statistics.fmean(accuracies)
    undisputed = [float(right(run["said"], dataset)[agreed].mean()) for run in runs]
    print(
        f"{recipe.name}: mean {100 * mean:.3f}% of {arguments.seeds}, "
        f"{100 * statistics.fmean(undisputed):.3f}% without the disputed labels; "
        f"together {100 * together.mean():.2f}%"
    )
    if arguments.no_record:
        return
    what = f"`{recipe.name}`, {recipe.epochs} epochs"
    shared: dict[str, Any] = {
        "table": "Recipes",
        "unit": "%",
        "data": {dataset.name: dataset.sha256},
        "versions": ("digitry", "torch", "keras", "numpy"),
        "device": arguments.device,
    }
    extra = {
        "fit_seconds": [run["fit_s"] for run in runs],
        "seeds at one time": arguments.processes,
        "parameters": runs[0]["parameters"],
        "interval of the mean": list(wilson(round(mean * len(dataset.test)), len(dataset.test))),
        "without the disputed labels": undisputed,
        "recipe": recipe.to_dict(),
    }
    # The wall-clock time of all of them, with several at the same time.
    spent = sum(run["fit_s"] for run in runs) / arguments.processes
    metric = f"MNIST test accuracy; {plain(spent / len(runs))} to fit"
    _record.write(
        f"recipe-{recipe.name}", what=what, metric=metric, values=accuracies, extra=extra, **shared
    )
    if recipe.architecture == "conv" and len(runs) > 1:
        _record.write(
            f"recipe-{recipe.name}-ensemble",
            what=f"`{recipe.name}`, the mean of {len(runs)} seeds as one",
            metric=f"MNIST test accuracy; {plain(spent)} to fit all",
            values=[float(together.mean())],
            extra={**extra, "without the disputed labels": float(together[agreed].mean())},
            **shared,
        )


def plain(seconds: float) -> str:
    """Return a time in seconds or minutes, as text."""
    return f"{seconds:.3g} s" if seconds < 180 else f"{seconds / 60:.3g} minutes"


def right(said: npt.NDArray[np.float32], dataset: Dataset) -> npt.NDArray[np.bool_]:
    """Return which test images are classified right, (n,) bool."""
    found: npt.NDArray[np.bool_] = said.argmax(-1) == dataset.test.labels
    return found


if __name__ == "__main__":
    main()
