"""The shipped reader, from the packs of handwriting to the three files that the package ships.

Its parts are the finder, the line network, and the model of single digits. Each is trained from nothing to
its .onnx file in one folder; a training that was stopped goes on where it was. On an H200 with 16 processor
cores the finder and the line network took twelve minutes; two cores take a night.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from digitry import files, processors
from digitry.errors import DataError, ModelError, UsageError
from digitry.model import artifact
from digitry.model.line_calibration import of_network
from digitry.model.line_network import LineNetwork
from digitry.model.load import load_uncalibrated
from digitry.progress import Display
from digitry.reading.network import shipped
from digitry.training import recipes, run_folder
from digitry.training.data import mnist, packs
from digitry.training.datasets import load_dataset
from digitry.training.evaluation import held_lines, line_calibration
from digitry.training.writing.sources import load as load_sources
from digitry.training.writing.spliced import with_cuts

if TYPE_CHECKING:
    from rich.console import Console

    from digitry.training.loop.composed import Schedule, State
    from digitry.training.loop.start_from import Parent
    from digitry.training.network.lines_onnx import Network
    from digitry.training.writing.strips import Sources

Part = Literal["finder", "lines", "glyph"]
PARTS: tuple[Part, ...] = ("finder", "lines", "glyph")

FILES: Mapping[str, str] = {"finder": "finder.onnx", "lines": "lines.onnx", "glyph": "reader.onnx"}
"""What a part is called in the package."""

SAMPLES = {"lines": 10_600_000.0, "finder": 94_000.0}
"""Strips and pages that the shipped networks saw."""

LINE_POOL, LINE_POOL_CUDA = (2048, 6144), (8192, 65_536)
"""Strips that are composed at once, and columns of a batch: a GPU is busy only with hundreds of strips."""

MEASURED = 512
"""Strips by which the normalisations of a network to start from are measured."""

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Much:
    """How much a part learns; it ends at what comes first.

    Attributes:
        samples: strips, pages or glyphs that are composed for it; None = as many as for the shipped one.
        seconds: of the training of a network that finds or reads lines.
        rate: the highest learning rate of such a training; None = as for the shipped one.
        start: the line network that another one starts from, or None.
        moved: how far from the weights of `start` to the trained ones those of the file lie, in (0, 1]. A
            network between the two often reads unknown hands better than either (Wortsman et al. 2022).
        settings: fields of the recipe `glyph`, as text.
        parent: the model that the glyph model starts from, or None.
    """

    samples: float | None = None
    seconds: float = math.inf
    rate: float | None = None
    start: LineNetwork | None = None
    moved: float = 1.0
    settings: Mapping[str, str] = field(default_factory=dict)
    parent: "Parent | None" = None

    def __post_init__(self) -> None:
        if not 0 < self.moved <= 1:
            raise UsageError(f"moved is {self.moved:g}", remedy="give more than 0, at most 1")
        if self.moved < 1 and self.start is None:
            raise UsageError(
                f"moved is {self.moved:g}, without a network to start from",
                remedy="train lines alone, with --from",
            )


@dataclass(frozen=True)
class Built:
    """A part that was trained.

    Attributes:
        path: its .onnx file.
        samples: strips, pages or glyphs that it saw, each as often as it did.
        seconds: how long that took, in all of its parts.
        interrupted: whether it was stopped before its end.
    """

    path: Path
    samples: int
    seconds: float
    interrupted: bool = False


def train_part(
    part: Part,
    out: Path,
    much: Much | None = None,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    seed: int = 0,
    console: "Console | None" = None,
) -> Built:
    """Train a part of the reader and write its file to `out`, or go on where it was stopped.

    Args:
        part: `finder`, which finds lines, `lines`, which reads one, or `glyph`, which gives a second
            opinion on a digit that stands alone.
        out: a folder for checkpoints and files.
        much: how much it learns.
        data_dir: where MNIST and the packs of handwriting are; see `digitry data`.
        device: `auto`, `cpu` or `cuda`.
        seed: of the weights and of all that is composed.
        console: where to show progress; None = nowhere.

    Raises:
        UnavailableError: MNIST or a pack is not there.
        DataError: a pack is not what it must be, or the loss is not finite.
        DigitryError: the folder cannot be written.
    """
    much = much or Much()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            str(error.strerror), where=str(out), remedy="choose another --out"
        ) from error
    if part == "glyph":
        return _train_glyph(out, much, data_dir, device, seed, console)
    return _train_network(part, out, much, data_dir, device, seed, console)


# --- the model of single digits ----------------------------------------------------------------------


def _train_glyph(
    out: Path,
    much: Much,
    data_dir: Path | None,
    device: str,
    seed: int,
    console: "Console | None",
) -> Built:
    """Train the recipe `glyph` in a run folder of `out`, and copy its model."""
    from digitry.training import run

    folder = out / "glyph"
    if (folder / run_folder.ARGUMENTS).exists():
        began = run_folder.load_arguments(folder)
        if not run_folder.is_finished(folder):
            dataset = load_dataset(began.data, data_dir=data_dir, console=console)
            run.resume_run(folder, dataset, device=device, console=console)
    else:
        recipe = recipes.find("glyph")
        name = recipe.data if much.samples is None else f"{recipe.data}-{much.samples:.0f}"
        recipe = recipe.override({"seed": str(seed), "data": name, **much.settings})
        dataset = load_dataset(name, data_dir=data_dir, console=console)
        run.train_run(
            recipe,
            dataset,
            folder,
            device=device,
            console=console,
            data_dir=data_dir,
            parent=much.parent,
        )
    done = run_folder.load_run(folder)
    model = load_uncalibrated(folder)
    path = out / FILES["glyph"]
    # Readings name the model that is shipped, not its recipe.
    artifact.save(path, model.onnx, replace(model.metadata, name="reader"))
    seen = int(done.metrics["data"]["train_images"]) * len(done.metrics["history"])
    return Built(path, seen, float(done.metrics["total_seconds"]), done.metrics["interrupted"])


# --- the networks that find and read lines -----------------------------------------------------------


def _train_network(
    part: Part,
    out: Path,
    much: Much,
    data_dir: Path | None,
    device: str,
    seed: int,
    console: "Console | None",
) -> Built:
    import torch

    from digitry.training.loop.composed import Schedule, finished

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    cuda = device.startswith("cuda")
    # The finder has fewer steps than the line network: its average reaches less far back.
    average = {"lines": (0.998, 0.999), "finder": (0.99, 0.998)}[part][cuda]
    schedule = Schedule(
        samples=SAMPLES[part] if much.samples is None else much.samples,
        seconds=much.seconds,
        rate=(3e-3 if cuda else 2e-3) if much.rate is None else much.rate,
        average=average,
        # One core is kept for the step itself.
        composers=max(1, processors.available() - 1),
        device=device,
    )
    path = out / FILES[part]
    start = None if much.start is None else _started(much.start)
    _check_same_start(part, out, much)
    done = finished(out / f"{part}.pt", schedule)
    # Calibrating comes last: a network that was stopped before it is not done.
    if done is not None and path.exists() and (part != "lines" or of_network(path.read_bytes())):
        return Built(path, *done)
    images = mnist.load(data_dir, offline=False, console=console).train
    sources = load_sources(images.images, np.asarray(images.labels, np.uint8), data_dir, seed=seed)
    if part == "lines":
        # What they say is known; the shipped network says where.
        network = shipped("lines", threads=processors.available())
        sources = replace(sources, real=with_cuts(sources.real, network))
    last: list[State[Any]] = []

    def saved(state: "State[Any]") -> None:
        last[:] = [state]
        model = _to_onnx(part, state, start, much.moved)
        _described(model, part, schedule, state, much)
        with files.replacing(path) as beside:
            onnx.save(halved(model), str(beside))

    with Display(console, 1.0, text=f"training {part}") as display:

        def told(entry: dict[str, float]) -> None:
            text = f"{entry['samples']:,.0f} samples, loss {entry['loss']:.3f}, "
            text += f"{entry['samples_per_second']:,.0f}/s"
            display.at(entry["progress"], f"{part}: {text}")

        _fit(part, schedule, sources, out, seed, start, on_log=told, on_checkpoint=saved)
        if part == "lines":
            display.at(1.0, "lines: calibrating on held-out hands")
            held = held_lines.load(images.images, np.asarray(images.labels, np.uint8), data_dir)
            line_calibration.calibrate(path, held)
    return Built(path, last[0].samples, last[0].seconds)


def _check_same_start(part: Part, out: Path, much: Much) -> None:
    """Note what a training starts from, and check that it is the same when the training goes on.

    Raises:
        UsageError: it started from something else.
    """
    if much.start is not None and part != "lines":
        raise UsageError(f"{part} cannot start from another network", remedy="leave that out")
    now = {"from": None if much.start is None else much.start.sha256, "moved": much.moved}
    path = out / f"{part}-start.json"
    if not path.exists() and not (out / f"{part}.pt").exists():
        files.write_json(path, now)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        before = {"from": None, "moved": 1.0}
    except ValueError:
        before = None
    if before != now:
        raise UsageError(
            "holds a training that started from another network, or moves another way",
            where=str(out),
            remedy="give the same --from and moved, or another --out",
        )


def _started(given: LineNetwork) -> "Network":
    """Return a line network to train on from; one that is less deep than the shipped one is deepened.

    Raises:
        ModelError: it is no line network, or one of other layers than the shipped one.
    """
    from digitry.training.loop.lines import LineSettings
    from digitry.training.network.lines import line_layers
    from digitry.training.network.lines_onnx import deepened, from_onnx

    try:
        layers, network = from_onnx(onnx.load_model_from_string(given.onnx))
        return deepened(layers, network, line_layers(LineSettings().channels))
    except ModelError as error:
        raise ModelError(
            error.what,
            where=given.reference,
            remedy=error.remedy
            or "start from `lines`, or from a file that `digitry train reader` wrote",
        ) from error


def _fit(
    part: Part,
    schedule: "Schedule",
    sources: "Sources",
    out: Path,
    seed: int,
    start: "Network | None",
    **told: Any,
) -> None:
    told |= {"log_every": 5.0, "save_every": SAVE_EVERY}
    cuda = schedule.device.startswith("cuda")
    if part == "lines":
        from digitry.training.loop.lines import LineSettings, train_lines
        from digitry.training.network.lines_onnx import measured
        from digitry.training.writing.composers import Pools
        from digitry.training.writing.strips import Composer

        strips, columns = LINE_POOL_CUDA if cuda else LINE_POOL
        pools = Pools(seed=seed, strips=strips, columns=columns)
        settings = LineSettings(schedule=schedule, pools=pools, seed=seed)
        if start is not None:
            seen = Composer(sources, seed).batches(MEASURED, columns)
            start = measured(start, [batch.strips for batch in seen])
        train_lines(settings, sources, out, start=start, **told)
        return
    from digitry.training.loop.finder import FinderSettings, train_finder
    from digitry.training.writing.pages import PagePools

    page_pools = PagePools(seed=seed, pages=64, batch=64 if cuda else 16)
    train_finder(
        FinderSettings(schedule=schedule, pools=page_pools, seed=seed), sources, out, **told
    )


def _to_onnx(
    part: Part, state: "State[Any]", start: "Network | None", moved: float
) -> onnx.ModelProto:
    from copy import deepcopy

    network = deepcopy(state.averaged).cpu()
    if part == "lines":
        from digitry.training.network.lines_onnx import bare, between, to_onnx

        return to_onnx(network if start is None else between(bare(start), bare(network), moved))
    from digitry.training.network.finder import to_onnx as finder_to_onnx

    return finder_to_onnx(network)


def _described(
    model: onnx.ModelProto, part: Part, schedule: "Schedule", state: "State[Any]", much: Much
) -> None:
    """Write into a model what it is, what it learnt from, and under which licences."""
    learnt = sorted({(source.title, source.licence) for source in packs.SOURCES.values()})
    facts = {
        "network": part,
        "samples": f"{state.samples}",
        "seconds": f"{state.seconds:.0f}",
        "device": schedule.device,
        "data": "MNIST (CC-BY-SA-3.0); " + "; ".join(f"{title} ({spdx})" for title, spdx in learnt),
    }
    if much.start is not None:
        facts |= {"trained_from": much.start.sha256, "moved": f"{much.moved:g}"}
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
