"""Fit a recipe alone, beside one and beside four busy processes, and compare the times.

    python benchmarks/loaded.py [--data-dir MNIST] [--recipe dense-256-128] [--epochs 4] [--rounds 5]
                                [--earlier] [--record]

Each fit is a process of its own, and each round makes all of them in turn; a busy process is a loop of
Python. The times are `fit_seconds`: building, tracing and training, without imports and data. With
`--earlier` each fit is also made as before: all processors' threads, which wait in a loop.

On an idle machine with two cores, fair shares beside one and four busy processes are 1.5 to 2 and 3 to 4
times the time alone.
"""

import argparse
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import _record
from digitry import processors
from digitry.training.datasets import load_dataset
from digitry.training.recipes import RECIPES

BUSY = (0, 1, 4)
"""Busy processes beside a fit."""

LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""A busy process, which ends when this one does."""

EARLIER = {"OMP_NUM_THREADS": str(processors.available()), "GOMP_SPINCOUNT": "300000"}
"""Sets threads as GNU's runtime does by itself: one for each processor, which wait in a long loop."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--recipe", choices=list(RECIPES), default="dense-256-128")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--earlier", action="store_true", help="fit as before, too")
    parser.add_argument("--record", action="store_true", help="save records")
    parser.add_argument("--fit", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fit:
        fit(arguments)
        return
    ways = {"now": {}} | ({"earlier": EARLIER} if arguments.earlier else {})
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(arguments.rounds):
        for busy in BUSY:
            for way, settings in ways.items():
                took, threads = beside(busy, settings)
                seconds.setdefault((way, busy), []).append(took)
                print(
                    f"round {number + 1}, {way}, beside {busy}: {took:.2f} s, {threads} threads",
                    flush=True,
                )
    for way in ways:
        alone = statistics.median(seconds[way, 0])
        shares = ", ".join(
            f"beside {busy} {statistics.median(seconds[way, busy]) / alone:.2f} times"
            for busy in BUSY[1:]
        )
        print(f"{way}: alone {alone:.2f} s; {shares}")
    if arguments.earlier:
        print(
            f"alone, now against earlier: {statistics.median(against_earlier(seconds)):.3f} times"
        )
    if arguments.record:
        record(seconds, arguments)


def fit(arguments: argparse.Namespace) -> None:
    """Fit the recipe once, and print the seconds and the number of threads."""
    from digitry.training.loop.train import train

    dataset = load_dataset("mnist", data_dir=arguments.data_dir, offline=True)
    recipe = replace(RECIPES[arguments.recipe], epochs=arguments.epochs)
    trained = train(recipe, dataset.train, device="cpu")
    print(trained.fit_seconds, trained.threads)


def beside(busy: int, settings: dict[str, str]) -> tuple[float, int]:
    """Fit in a process of its own beside busy processes; return the seconds and the threads."""
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(busy)]
    try:
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--fit"],
            env={**without_settings(), **settings}, check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    took, threads = done.stdout.split()
    return float(took), int(threads)


def without_settings() -> dict[str, str]:
    """Return the environment without what would change the threads of a fit."""
    # This process itself has set some, when it imported digitry.training.
    ours = {*processors.waiting({}), "OMP_WAIT_POLICY", *processors.THREADS}
    return {name: value for name, value in os.environ.items() if name not in ours}


def against_earlier(seconds: dict[tuple[str, int], list[float]]) -> list[float]:
    """Return, for each round, the time alone as a share of the earlier way's."""
    pairs = zip(seconds["now", 0], seconds["earlier", 0], strict=True)
    return [now / earlier for now, earlier in pairs]


def record(seconds: dict[tuple[str, int], list[float]], arguments: argparse.Namespace) -> None:
    """Write a record for each number of busy processes."""
    dataset = load_dataset("mnist", data_dir=arguments.data_dir, offline=True)
    fits = {f"{way}, beside {busy}": values for (way, busy), values in seconds.items()}
    shown = f"`{arguments.recipe}`, {arguments.epochs} epochs"
    for busy in BUSY:
        if busy:
            values = [a / b for a, b in zip(seconds["now", busy], seconds["now", 0], strict=True)]
            what = f"{shown}, beside {busy} busy process{'es' if busy > 1 else ''}"
            metric = "time to fit, as a multiple of the time alone"
        elif arguments.earlier:
            values, what = against_earlier(seconds), f"{shown}, alone"
            metric = "time to fit, as a multiple of that with threads that wait in a loop"
        else:
            continue
        _record.write(
            f"loaded-{busy}",
            table="Speed beside other work",
            what=what,
            metric=metric,
            unit="x",
            values=values,
            data={"mnist": dataset.sha256},
            versions=("digitry", "torch", "keras", "numpy"),
            extra={"fit_seconds": fits},
        )


if __name__ == "__main__":
    main()
