"""The networks that find and read lines, from the packs of handwriting to the files that the package ships.

One call trains one of them, from nothing to a .onnx file; a training that was stopped goes on where it
was. On an H200 with 16 processor cores, what is shipped took twelve minutes; two cores take a night.
"""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from digitry import files
from digitry.errors import DataError, UsageError
from digitry.progress import Display
from digitry.training.data import mnist, packs
from digitry.training.evaluation import held_lines, line_calibration
from digitry.training.writing.sources import load as load_sources

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.loop.composed import Schedule, State
    from digitry.training.writing.strips import Sources

Name = Literal["lines", "finder"]
NAMES: tuple[Name, ...] = ("lines", "finder")

SAMPLES = {"lines": 8_600_000.0, "finder": 94_000.0}
"""Strips and pages that the shipped networks saw."""

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


@dataclass(frozen=True)
class Built:
    """A network that was trained.

    Attributes:
        path: its .onnx file.
        samples: strips or pages that it saw.
        seconds: how long that took, in all of its parts.
    """

    path: Path
    samples: int
    seconds: float


def train_network(
    name: Name,
    out: Path,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    samples: float | None = None,
    seconds: float = math.inf,
    seed: int = 0,
    console: "Console | None" = None,
) -> Built:
    """Train a network of the package and write it to `out`, or go on where it was stopped.

    Args:
        name: `lines`, which reads a line, or `finder`, which finds them.
        out: a folder for the checkpoint and the .onnx file.
        data_dir: where MNIST and the packs of handwriting are; see `digitry data`.
        device: `auto`, `cpu` or `cuda`.
        samples: how many strips or pages it learns from; None = as many as the shipped one.
        seconds: the training ends after so long at the latest, its learning rate with it.
        seed: of the weights and of all that is composed.
        console: where to show progress; None = nowhere.

    Raises:
        UnavailableError: MNIST or a pack is not there.
        DataError: a pack is not what it must be, or the loss is not finite.
        DigitryError: the folder cannot be written.
    """
    import torch

    if name not in NAMES:
        raise UsageError(f"no network is called {name!r}", remedy=f"choose: {', '.join(NAMES)}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    from digitry.training.loop.composed import Schedule

    cuda = device.startswith("cuda")
    schedule = Schedule(
        samples=SAMPLES[name] if samples is None else samples,
        seconds=seconds,
        rate=3e-3 if cuda else 2e-3,
        average=0.999 if cuda else 0.998,
        # One core is kept for the step itself.
        composers=max(1, (os.cpu_count() or 2) - 1),
        device=device,
    )
    images = mnist.load(data_dir, offline=False, console=console).train
    sources = load_sources(images.images, np.asarray(images.labels, np.uint8), data_dir, seed=seed)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            str(error.strerror), where=str(out), remedy="choose another --out"
        ) from error
    path = out / f"{name}.onnx"
    last: list[State[Any]] = []

    def saved(state: "State[Any]") -> None:
        last[:] = [state]
        model = _to_onnx(name, state)
        _described(model, name, schedule, state)
        with files.replacing(path) as beside:
            onnx.save(halved(model), str(beside))

    with Display(console, 1.0, text=f"training {name}") as display:

        def told(entry: dict[str, float]) -> None:
            text = f"{entry['samples']:,.0f} samples, loss {entry['loss']:.3f}, "
            text += f"{entry['samples_per_second']:,.0f}/s"
            display.at(entry["progress"], f"{name}: {text}")

        _fit(name, schedule, sources, out, seed, on_log=told, on_checkpoint=saved)
        if name == "lines":
            display.at(1.0, "lines: calibrating on held-out hands")
            held = held_lines.load(images.images, np.asarray(images.labels, np.uint8), data_dir)
            line_calibration.calibrate(path, held)
    return Built(path, last[0].samples, last[0].seconds)


def _fit(
    name: Name,
    schedule: "Schedule",
    sources: "Sources",
    out: Path,
    seed: int,
    *,
    on_log: Callable[[dict[str, float]], None],
    on_checkpoint: "Callable[[State[Any]], None]",
) -> None:
    told: dict[str, Any] = {
        "on_log": on_log,
        "on_checkpoint": on_checkpoint,
        "log_every": 5.0,
        "save_every": SAVE_EVERY,
    }
    cuda = schedule.device.startswith("cuda")
    if name == "lines":
        from digitry.training.loop.lines import LineSettings, train_lines
        from digitry.training.writing.composers import Pools

        # A GPU is busy only with hundreds of strips at once.
        strips, columns = (8192, 65_536) if cuda else (2048, 6144)
        pools = Pools(seed=seed, strips=strips, columns=columns)
        settings = LineSettings(schedule=schedule, pools=pools, seed=seed)
        train_lines(settings, sources, out, **told)
        return
    from digitry.training.loop.finder import FinderSettings, train_finder
    from digitry.training.writing.pages import PagePools

    batch = 64 if cuda else 16
    page_pools = PagePools(seed=seed, pages=64, batch=batch)
    # Fewer steps than lines have: the average reaches less far back.
    schedule = replace(schedule, average=0.998 if cuda else 0.99)
    train_finder(
        FinderSettings(schedule=schedule, pools=page_pools, seed=seed), sources, out, **told
    )


def _to_onnx(name: Name, state: "State[Any]") -> onnx.ModelProto:
    from copy import deepcopy

    network = deepcopy(state.averaged).cpu()
    if name == "lines":
        from digitry.training.network.lines_onnx import to_onnx

        return to_onnx(network)
    from digitry.training.network.finder import to_onnx as finder_to_onnx

    return finder_to_onnx(network)


def _described(
    model: onnx.ModelProto, name: Name, schedule: "Schedule", state: "State[Any]"
) -> None:
    """Write into a model what it is, what it learnt from, and under which licences."""
    learnt = sorted({(source.title, source.licence) for source in packs.SOURCES.values()})
    facts = {
        "network": name,
        "samples": f"{state.samples}",
        "seconds": f"{state.seconds:.0f}",
        "device": schedule.device,
        "data": "MNIST (CC-BY-SA-3.0); " + "; ".join(f"{title} ({spdx})" for title, spdx in learnt),
    }
    helper.set_model_props(model, facts)


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose weights are stored in half precision; it computes in single precision.

    ONNX Runtime folds the casts when it loads the model: half the bytes, the same speed.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    casts, tensors = [], []
    for tensor in made.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.ndim < 2:
            tensors.append(tensor)
            continue
        stored = f"{tensor.name}_half"
        tensors.append(numpy_helper.from_array(array.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
    nodes = [*casts, *made.graph.node]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(tensors)
    onnx.checker.check_model(made)
    return made
