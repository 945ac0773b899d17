"""Test accuracy and training time of recipes over several seeds, as records.

    python benchmarks/recipes.py [RECIPE...] [--seeds 10] [--data-dir MNIST]

Each recipe is trained from nothing with seeds 0, 1, ... on its own data set, for its own epochs, in this
process, one after the other; the record holds the test accuracy of each seed and, as `extra`, the
seconds to fit. Nothing is chosen by these numbers: the last epoch counts.
"""

import argparse
import dataclasses
import statistics
from pathlib import Path

import numpy as np

import _record
from digitry.training.datasets import load_dataset
from digitry.training.engine import train
from digitry.training.evaluation import score, wilson
from digitry.training.recipes import RECIPES

ANCESTORS = ("dense-256-128", "dense-512", "dense-128-64", "dense-128-128", "dense-128")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=ANCESTORS, metavar="RECIPE")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--no-record", action="store_true", help="print only")
    arguments = parser.parse_args()
    for name in arguments.recipes:
        recipe = RECIPES[name]
        dataset = load_dataset(recipe.data, data_dir=arguments.data_dir)
        accuracies, seconds = [], []
        for seed in range(arguments.seeds):
            trained = train(dataclasses.replace(recipe, seed=seed), dataset.train)
            glyphs = dataset.test.images.astype(np.float32) / 255
            probabilities = np.asarray(trained.model.predict(glyphs, batch_size=1000, verbose=0))
            result = score(np.log(np.maximum(probabilities, 1e-12)), dataset.test.labels)
            accuracies.append(result.accuracy)
            seconds.append(trained.fit_seconds)
            print(
                f"{name} seed {seed}: {100 * result.accuracy:.2f}% in {trained.fit_seconds:.1f} s"
            )
        right = round(statistics.fmean(accuracies) * len(dataset.test))
        print(f"{name}: mean {100 * statistics.fmean(accuracies):.2f}% of {arguments.seeds}")
        if not arguments.no_record:
            _record.write(
                f"recipe-{name}",
                table="Recipes",
                what=f"`{name}`, {recipe.epochs} epochs",
                metric="MNIST test accuracy",
                unit="%",
                values=accuracies,
                data={dataset.name: dataset.sha256},
                versions=("digitry", "torch", "keras", "numpy"),
                extra={
                    "fit_seconds": seconds,
                    "interval of the mean": list(wilson(right, len(dataset.test))),
                    "recipe": recipe.to_dict(),
                },
            )


if __name__ == "__main__":
    main()
