"""Compare the training of the dense recipes, and of one convolution, by digitry and by other programs.

    python benchmarks/training.py [RECIPE...] [--data-dir MNIST] [--rounds 3] [--epochs 10] [--only NAME...]
        [--tensorflow PYTHON] [--jax PYTHON] [--record]

The programs, each in a process of its own:

    digitry      `digitry train RECIPE`: the whole run folder with models, evaluation, plots and report
    tensorflow   the classic program in plain Keras on TensorFlow (peers/plain_keras.py), with its
                 plots and its one model file
    keras-torch, keras-jax, keras-jax-steps
                 Keras' own `fit` with evaluation; the last with 100 steps an execution
    torch        a plain PyTorch loop with the fused Adam, all images in memory, with evaluation
    sklearn      MLPClassifier, for the recipes that it supports
    limit        only the matrix products of the fit (peers/products.py): a lower limit

TensorFlow and JAX need their own environments: name their interpreters, or they are left out. In each
round all programs run one after the other, every second round in reverse order; the median counts. For
each it prints the seconds to fit and of the whole process, its peak memory and its test accuracy. The
recipe `convolution` is peers/convolution.py, where the time of an epoch counts.
"""

import argparse
import dataclasses
import gzip
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import _record
from digitry.training.data.dataset import Dataset, hold_out
from digitry.training.datasets import load_dataset
from digitry.training.recipes import RECIPES, Recipe

PEERS = Path(__file__).parent / "peers"
ANCESTORS = ("dense-256-128", "dense-512", "dense-128-64", "dense-128-128", "dense-128")
CONVOLUTION = "convolution"
PROGRAMS = (
    "digitry", "tensorflow", "keras-torch", "keras-jax", "keras-jax-steps", "torch", "sklearn", "limit",
)  # fmt: skip

SPOKEN = {
    "tensorflow": "Keras on TensorFlow",
    "keras-torch": "Keras on torch",
    "keras-jax": "Keras on JAX",
    "keras-jax-steps": "Keras on JAX with 100 steps an execution",
    "torch": "plain torch",
    "sklearn": "scikit-learn",
}
"""Program -> its name in records."""

Run = dict[str, float]
"""The results of a run: fit_s, whole_s, peak_mb, test_accuracy; of the limit: limit_s, rate, flop."""


def main() -> None:
    arguments = parsed()
    names = [name for name in PROGRAMS if name in (arguments.only or PROGRAMS)]
    for name, wanted in left_out(arguments).items():
        if name in names:
            print(f"{name} is left out: it needs {wanted}")
            names.remove(name)
    dataset = load_dataset("mnist", data_dir=arguments.data_dir)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.data_dir is None:
            arguments.data_dir = Path(folder)
            write_mnist(dataset, arguments.data_dir)
        compare(names, dataset, arguments)


def compare(names: list[str], dataset: Dataset, arguments: argparse.Namespace) -> None:
    medians: dict[str, dict[str, Run]] = {}
    for label in arguments.recipes or [*ANCESTORS, CONVOLUTION]:
        runs: dict[str, list[Run]] = {}
        for number in range(arguments.rounds):
            for name in names if number % 2 == 0 else reversed(names):
                found = entry(name, label, dataset, arguments)
                if found is not None:
                    runs.setdefault(name, []).append(measure(*found))
                    facts = ", ".join(f"{k} {v:.4g}" for k, v in runs[name][-1].items())
                    print(f"{label}, {name}, round {number + 1}: {facts}", flush=True)
        medians[label] = {
            name: {fact: statistics.median(run[fact] for run in several) for fact in several[0]}
            for name, several in runs.items()
        }
        show(label, medians[label])
        if arguments.record and "digitry" in runs:
            record(label, runs["digitry"], medians[label], dataset, arguments)
    together(medians, dataset, arguments)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--data-dir", type=Path, help="folder of MNIST's four files, gzipped")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="default: 10, for the convolution 3")
    parser.add_argument("--only", nargs="+", choices=PROGRAMS, metavar="NAME")
    parser.add_argument("--tensorflow", metavar="PYTHON", help="interpreter that has TensorFlow")
    parser.add_argument("--jax", metavar="PYTHON", help="interpreter that has Keras and JAX")
    parser.add_argument("--record", action="store_true", help="save records")
    arguments = parser.parse_args()
    unknown = {*arguments.recipes} - {*ANCESTORS, CONVOLUTION}
    if unknown:
        parser.error(f"unknown recipe: {', '.join(sorted(unknown))}")
    return arguments


def write_mnist(dataset: Dataset, folder: Path) -> None:
    """Write MNIST's four files to a folder, for the programs that need one."""
    for stem, split in (("train", dataset.train), ("t10k", dataset.test)):
        for kind, array in (("images-idx3", split.images), ("labels-idx1", split.labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            content = gzip.compress(header + array.tobytes(), compresslevel=1)
            (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(content)


def left_out(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the programs that cannot run, and the option that each needs."""
    wanted = {}
    if arguments.tensorflow is None:
        wanted["tensorflow"] = "--tensorflow PYTHON"
    if arguments.jax is None:
        wanted |= dict.fromkeys(("keras-jax", "keras-jax-steps"), "--jax PYTHON")
    return wanted


def entry(
    name: str, label: str, dataset: Dataset, arguments: argparse.Namespace
) -> tuple[list[str], dict[str, str]] | None:
    """Return a program's command and environment; None if it does not support the recipe."""
    folder = str(arguments.data_dir.resolve())
    if label == CONVOLUTION:
        words = ["convolution.py", name, folder, str(arguments.epochs or 3)]
        return own(words) if name in ("digitry", "torch") else None
    recipe = RECIPES[label]
    if arguments.epochs:
        recipe = dataclasses.replace(recipe, epochs=arguments.epochs)
    text = json.dumps(recipe.to_dict())
    if name == "digitry":
        words = ["train", label, "--epochs", str(recipe.epochs), "--data-dir", folder]
        return [sys.executable, "-m", "digitry", *words, "--out", "run", "--quiet"], {}
    if name == "tensorflow":
        words, settings = own(
            ["plain_keras.py", label, folder, "run", str(recipe.epochs)],
            KERAS_BACKEND="tensorflow",
            TF_CPP_MIN_LOG_LEVEL="2",
        )
        return [arguments.tensorflow, *words[1:]], settings
    if name == "keras-torch":
        return own(["keras_fit.py", folder, text], KERAS_BACKEND="torch")
    if name.startswith("keras-jax"):
        steps = ["100"] if name == "keras-jax-steps" else []
        words, settings = own(["keras_fit.py", folder, text, *steps], KERAS_BACKEND="jax")
        return [arguments.jax, *words[1:]], settings
    if name == "torch":
        return own(["torch_loop.py", folder, text])
    if name == "sklearn":
        return own(["scikit.py", folder, text]) if recipe.optimizer == "adam" else None
    return own(["products.py", text, *map(str, counts(recipe, dataset))])


def own(words: list[str], **settings: str) -> tuple[list[str], dict[str, str]]:
    """Return the command of a program in peers/, run by this interpreter."""
    return [sys.executable, str(PEERS / words[0]), *words[1:]], settings


def counts(recipe: Recipe, dataset: Dataset) -> tuple[int, int]:
    """Return how many images are trained on, and how many are held out."""
    if not recipe.validation:
        return len(dataset.train), 0
    training, held = hold_out(dataset.train, recipe.validation)
    return len(training), len(held)


def measure(words: list[str], settings: Mapping[str, str]) -> Run:
    """Run a program to its end; return the results in its last line or its run folder."""
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=place, env={**os.environ, **settings}, stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
        whole_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
        if process.returncode:
            sys.exit(f"{' '.join(words[:3])} ended with {process.returncode}:\n{printed[-2000:]}")
        metrics = Path(place, "run", "metrics.json")
        if metrics.exists():
            found = json.loads(metrics.read_text())
            result = {"fit_s": found["fit_seconds"], "test_accuracy": found["test"]["accuracy"]}
        else:
            result = json.loads(printed.splitlines()[-1])
    facts = {name: value for name, value in result.items() if isinstance(value, int | float)}
    if "epochs_s" in result:
        facts["epoch_s"] = statistics.median(result["epochs_s"])
    # Linux counts kilobytes.
    return {**facts, "whole_s": whole_s, "peak_mb": usage.ru_maxrss / 1000}


def show(label: str, medians: Mapping[str, Run]) -> None:
    """Print the medians for one recipe, the fastest fit first."""
    fact = "epoch_s" if label == CONVOLUTION else "fit_s"
    first = medians.get("digitry", {}).get(fact)
    print(f"\n{label}")
    for name, run in sorted(medians.items(), key=lambda item: item[1].get(fact, 0)):
        if name == "limit":
            print(f"  {name:<16} {run['limit_s']:7.2f} s at {run['rate'] / 1e9:.0f} GFLOP/s")
            continue
        ratio = f"{run[fact] / first:5.2f} x digitry" if first else ""
        print(
            f"  {name:<16} {run[fact]:7.2f} s {ratio}  whole process {run['whole_s']:6.2f} s, "
            f"{run['peak_mb']:5.0f} MB, {100 * run['test_accuracy']:.2f}%"
        )
    if first and "limit" in medians:
        print(f"  digitry takes {first / medians['limit']['limit_s']:.2f} x the limit")
    print(flush=True)


def record(
    label: str,
    runs: list[Run],
    medians: Mapping[str, Run],
    dataset: Dataset,
    arguments: argparse.Namespace,
) -> None:
    """Write the record of one recipe: digitry's seconds, and the medians of all programs."""
    fact = "epoch_s" if label == CONVOLUTION else "fit_s"
    others = {name: run[fact] for name, run in medians.items() if name not in ("digitry", "limit")}
    parts = [told(others)] if others else []
    if "limit" in medians:
        parts.append(f"its matrix products alone {medians['limit']['limit_s']:.3g} s")
    epochs = arguments.epochs or 10
    convolution = "an epoch of two convolutions of 24 and 32 channels, batches of 256"
    _record.write(
        f"training-{label}",
        table="Training",
        what=convolution if label == CONVOLUTION else f"`{label}`, {epochs} epochs",
        metric="; ".join(["to fit" if fact == "fit_s" else "an epoch", ", ".join(parts)]),
        unit="s",
        values=[run[fact] for run in runs],
        data={dataset.name: dataset.sha256},
        versions=("digitry", "torch", "keras", "numpy", "scikit-learn"),
        extra={"medians": medians, "peers": peer_versions(arguments)},
    )


def told(seconds: Mapping[str, float]) -> str:
    """Return the seconds of the other programs as text, the fastest first."""
    fastest = sorted(seconds, key=lambda name: seconds[name])
    return ", ".join(f"{SPOKEN[name]} {seconds[name]:.3g} s" for name in fastest)


def together(
    medians: Mapping[str, Mapping[str, Run]], dataset: Dataset, arguments: argparse.Namespace
) -> None:
    """Print the time of all five recipes as whole processes, and write its record."""
    wholes = {
        name: sum(medians[label][name]["whole_s"] for label in ANCESTORS)
        for name in PROGRAMS
        if name != "limit" and all(name in medians.get(label, {}) for label in ANCESTORS)
    }
    for name, seconds in sorted(wholes.items(), key=lambda item: item[1]):
        print(f"all five, whole processes: {name} {seconds:.1f} s")
    if arguments.record and {"digitry", "tensorflow"} <= {*wholes}:
        _record.write(
            "training-all-five",
            table="Training",
            what="all five dense recipes, whole processes with evaluation, plots and files",
            metric="in all; "
            + told({name: seconds for name, seconds in wholes.items() if name != "digitry"})
            + " (of these, TensorFlow's alone writes plots and a model)",
            unit="s",
            values=[wholes["digitry"]],
            data={dataset.name: dataset.sha256},
            versions=("digitry", "torch", "keras", "numpy"),
            extra={
                "seconds": wholes,
                "rounds": arguments.rounds,
                "peers": peer_versions(arguments),
            },
        )


def peer_versions(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the versions of the packages in the other interpreters."""
    code = (
        "import importlib.metadata as m, sys\n"
        "for n in sys.argv[1:]:\n"
        " try: print(n, m.version(n))\n"
        " except m.PackageNotFoundError: pass"
    )
    found = {}
    for python, packages in (
        (arguments.tensorflow, ["tensorflow", "tensorflow-cpu", "keras"]),
        (arguments.jax, ["jax", "keras"]),
    ):
        if python:
            answer = subprocess.run(
                [python, "-c", code, *packages], capture_output=True, text=True, check=True
            )
            found[packages[0]] = answer.stdout.strip().replace("\n", ", ")
    return found


if __name__ == "__main__":
    main()
