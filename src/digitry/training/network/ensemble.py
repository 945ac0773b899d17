"""Joins several model files into one whose probabilities are the mean of theirs.

The mean of independently trained networks is usually more accurate than any of them (Hansen &
Salamon 1990, Neural Network Ensembles). One ONNX file holds the members' graphs side by side, each
followed by its own temperature, so any tool runs it like a single model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import digitry
from digitry import files
from digitry.errors import DigitryError, ModelError, UsageError
from digitry.model import artifact
from digitry.model.artifact import Artifact, Metadata
from digitry.model.onnx_check import MAX_BYTES
from digitry.reading.classifier import Classifier, softmax
from digitry.training import datasets, run_folder
from digitry.training.data.dataset import hold_out
from digitry.training.evaluation import calibration, scores
from digitry.training.evaluation.disputed import disputed_in
from digitry.training.network import convert

if TYPE_CHECKING:
    import onnx
    from rich.console import Console

    from digitry.training.data.dataset import Dataset
    from digitry.training.network.onnx_graph import OnnxGraph

TOLERANCE = 1e-5
"""Largest allowed difference of a probability between the file and the mean of its members."""


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """An ensemble that was written.

    Attributes:
        path: the file.
        metadata: as in the file.
        held_out: number of images, held out by every member, that gave its risk-coverage curve.
        why: if there were no such images, the reason.
    """

    path: Path
    metadata: Metadata
    held_out: int = 0
    why: str = ""


def join(
    models: Sequence[str], out: Path, *, console: "Console | None" = None, trust: bool = False
) -> Ensemble:
    """Write several models as one file.

    Its `probabilities` are the mean of the members' calibrated ones, its `logits` their logarithm, so
    its own temperature is 1. If every member is a run folder on the same data with a validation share,
    the images that all of them held out give the risk-coverage curve, and the test images the scores.
    Otherwise it has neither, because the members' own scores are not valid for the ensemble.

    Args:
        models: two or more: run folders, .onnx, .keras or .h5 files, or shipped models' names.
        out: the file to write, with the suffix .onnx, replaced atomically.
        console: shows progress of loading the data; None = nothing.
        trust: load Keras files whose sha256 no run folder records.

    Raises:
        UsageError: fewer than two models, the same model twice, or another suffix.
        ModelError: a model is missing, damaged, or a Keras file that is not trusted; the labels
            differ; or the models are too large together.
    """
    if len(models) < 2:
        raise UsageError("an ensemble needs at least two models", remedy="name two or more")
    if out.suffix != ".onnx":
        raise UsageError("does not end in .onnx", where=out, remedy=f"name it {out.stem}.onnx")
    members = [convert.load_artifact(model, trust=trust) for model in models]
    _check(models, members)
    graph = merged(members)
    draft = Metadata(
        name=out.stem,
        labels=members[0].metadata.labels,
        recipe={
            "name": "ensemble",
            "members": [
                {
                    "name": member.metadata.name,
                    "sha256": member.sha256,
                    "temperature": member.metadata.temperature,
                    "recipe": dict(member.metadata.recipe),
                }
                for member in members
            ],
        },
        data=_data(members),
        created=run_folder.now(),
        digitry=digitry.__version__,
    )
    with files.replacing(out) as temporary:
        joined = artifact.save(temporary, graph, draft)
        _check_mean(joined, members, out)
        try:
            dataset, share = _common_data(models, console)
        except DigitryError as error:
            return Ensemble(path=out, metadata=draft, why=str(error))
        metadata, held_out = _measured(joined, dataset, share)
        artifact.save(temporary, graph, metadata)
    return Ensemble(path=out, metadata=metadata, held_out=held_out)


def _check(models: Sequence[str], members: Sequence[Artifact]) -> None:
    first = members[0]
    seen: dict[str, str] = {}
    for model, member in zip(models, members, strict=True):
        if member.sha256 in seen:
            raise UsageError(
                f"is the same model as {seen[member.sha256]}", where=model, remedy="name it once"
            )
        seen[member.sha256] = model
        if member.metadata.labels != first.metadata.labels:
            raise ModelError(
                f"has {len(member.metadata.labels)} labels, but {models[0]} has "
                f"{len(first.metadata.labels)}",
                where=model,
                remedy="join models with the same labels",
            )
    total = sum(len(member.onnx) for member in members)
    if total > MAX_BYTES:
        raise ModelError(
            f"{len(members)} models have {total >> 20} MiB together; "
            f"a model file may have {MAX_BYTES >> 20} MiB",
            remedy="join fewer or smaller models",
        )


def _data(members: Sequence[Artifact]) -> dict[str, str]:
    """Return name -> sha256 of all data sets that any member was trained on."""
    found: dict[str, str] = {}
    for member in members:
        for name, sha256 in member.metadata.data.items():
            other = found.get(name, sha256) != sha256
            found[f"{name} ({sha256[:8]})" if other else name] = sha256
    return found


# --- the graph ---------------------------------------------------------------------------------------


def merged(members: Sequence[Artifact]) -> bytes:
    """Return one ONNX graph of several: input `glyphs`, outputs `logits` and `probabilities`.

    The mean is computed from logarithms, log(mean p) = logsumexp(log p) - log k, so that a class with
    a tiny probability in all members does not become log 0. A model file may not hold ReduceLogSumExp,
    so a log-softmax over the members replaces it: l - logsoftmax(l) = logsumexp(l) for each member.

    Args:
        members: checked model files with the same labels.

    Raises:
        ModelError: they use different ONNX opsets.
    """
    import onnx

    from digitry.training.network.onnx_graph import OnnxGraph

    models = [onnx.load_model_from_string(member.onnx) for member in members]
    versions = {_opset(model) for model in models}
    if len(versions) > 1 or not 13 <= min(versions) <= 17:
        raise ModelError(
            f"the models use the ONNX opsets {sorted(versions)}, not one from 13 to 17",
            remedy="export all of them again with this version of digitry",
        )
    graph = OnnxGraph()
    weight, add = graph.weight, graph.add
    between = weight([1], np.int64, name="between")
    stacked = []
    for number, (model, member) in enumerate(zip(models, members, strict=True)):
        prefix = f"m{number}_"
        _add_member(graph, model.graph, prefix)
        cooling = weight(1 / member.metadata.temperature, name=f"{prefix}cooling")
        scaled = add("Mul", f"{prefix}logits", cooling, output=f"{prefix}scaled")
        logarithm = add("LogSoftmax", scaled, output=f"{prefix}log", axis=-1)
        stacked.append(add("Unsqueeze", logarithm, between, output=f"{prefix}row"))
    together = add("Concat", *stacked, output="members", axis=1)  # (n, members, classes)
    shares = add("LogSoftmax", together, output="shares", axis=1)
    sums = add("Sub", together, shares, output="sums")
    total = add("ReduceMean", sums, output="sum", axes=[1], keepdims=0)
    add("Sub", total, weight(math.log(len(members)), name="count"), output="logits")
    add("Softmax", "logits", output="probabilities", axis=-1)
    joined = graph.digit_model(
        len(members[0].metadata.labels),
        opset=versions.pop(),
        ir_version=max(model.ir_version for model in models),
    )
    onnx.checker.check_model(joined, full_check=True)
    content: bytes = joined.SerializeToString()
    return content


def _opset(model: "onnx.ModelProto") -> int:
    return max(
        (one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0
    )


def _add_member(graph: "OnnxGraph", member: "onnx.GraphProto", prefix: str) -> None:
    """Add a member's nodes and weights; every name except `glyphs` gets the prefix `prefix`."""
    from onnx import numpy_helper

    def renamed(name: str) -> str:
        # An empty name is an optional input that is left out.
        return name if name in ("", "glyphs") else f"{prefix}{name}"

    read = {name for node in member.node for name in node.input}
    for node in member.node:
        if list(node.output) == ["probabilities"] and "probabilities" not in read:
            continue
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]
        graph.nodes.append(node)
    for tensor in member.initializer:
        graph.weights[renamed(tensor.name)] = numpy_helper.to_array(tensor)


def _check_mean(joined: Artifact, members: Sequence[Artifact], out: Path) -> None:
    """Check that the file gives the mean of its members' probabilities, on noise of rising strength."""
    random = np.random.default_rng(0)
    glyphs = (
        random.random((64, 28, 28), np.float32)
        * np.linspace(0, 1, 64, dtype=np.float32)[:, None, None]
    )
    mean = np.mean([Classifier(member).probabilities(glyphs) for member in members], axis=0)
    difference = float(np.abs(Classifier(joined).probabilities(glyphs) - mean).max())
    # `not <=` also catches NaN.
    if not difference <= TOLERANCE:
        raise ModelError(
            f"gives probabilities that differ by {difference:.1e} from its members' mean",
            where=out,
            remedy="nothing was saved, an existing file is unchanged; please report this",
        )


# --- what it was measured on -------------------------------------------------------------------------


def _common_data(models: Sequence[str], console: "Console | None") -> tuple["Dataset", float]:
    """Return the data of all members, and the share of it, from its end, that all of them held out.

    Raises:
        DigitryError: there is no such data.
    """
    runs = []
    for model in models:
        if not (Path(model) / run_folder.ARGUMENTS).is_file():
            raise UsageError(f"{model} is not a run folder")
        runs.append(run_folder.load_arguments(Path(model)))
    if len({run.data_sha256 for run in runs}) > 1:
        raise UsageError("the members were trained on different data")
    share = min(run.recipe.validation for run in runs)
    if share == 0:
        raise UsageError("a member has no validation images")
    first = runs[0]
    folder = None if first.data_dir is None else Path(first.data_dir)
    dataset = datasets.load_dataset(first.data, data_dir=folder, console=console)
    if dataset.sha256 != first.data_sha256:
        raise UsageError(f"{first.data} has changed since the training")
    return dataset, share


def _measured(joined: Artifact, dataset: "Dataset", share: float) -> tuple[Metadata, int]:
    """Return the metadata with the curve on what all members held out, and the test scores."""
    held_out = hold_out(dataset.train, share)[1]
    probabilities = softmax(scores.infer(joined, held_out.images))
    test = scores.score(
        scores.infer(joined, dataset.test.images),
        dataset.test.labels,
        disputed=disputed_in(scores.fingerprint(dataset.test)),
    )
    found = {f"{dataset.name}/test/{name}": value for name, value in test.headline().items()}
    # Its temperature is 1, so this would be the same number again.
    del found[f"{dataset.name}/test/calibrated_ece"]
    curve = calibration.risk_coverage(probabilities, held_out.labels)
    return replace(joined.metadata, risk_coverage=curve, scores=found), len(held_out)
