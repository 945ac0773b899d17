"""Trains the line network further on corrected lines, without forgetting what it knew.

The corrected strips, scaled and distorted at random each time, are mixed with composed and real strips from
the packs of handwriting. Without the packs, the others are composed of MNIST's digits, or of drawn digits.
Then the weights are interpolated between the old and the new network, as close to the old one as the gain
allows (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arxiv.org/abs/2109.01903).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from digitry import files
from digitry.errors import DataError, UnavailableError
from digitry.improve import line_gate
from digitry.improve.line_gate import LineVerdict
from digitry.improve.retrain import is_kept_for_gate, smallest_step
from digitry.model.line_network import LineNetwork, parse
from digitry.progress import Display
from digitry.reading.lines import CUT, Cut
from digitry.training.data import mnist
from digitry.training.evaluation import held_lines
from digitry.training.evaluation.held_lines import HeldLine
from digitry.training.loop.composed import Schedule, fit
from digitry.training.loop.lines import CHECKPOINT, batch_loss
from digitry.training.network.lines_onnx import Network, bare, between, from_onnx, to_onnx
from digitry.training.reader import halved
from digitry.training.writing import pen
from digitry.training.writing import sources as written
from digitry.training.writing.composers import Pools
from digitry.training.writing.hands import Hands, from_images
from digitry.training.writing.real import Real, labels_of
from digitry.training.writing.strings import Others
from digitry.training.writing.strips import Composer, Mix, Sources

if TYPE_CHECKING:
    from rich.console import Console

NETWORK, GATE = "lines.onnx", "gate.json"
"""The files of the folder: the new network, and the verdict."""

SAMPLES = 12_000
"""How many strips it is trained on: a few minutes on two cores."""

RATE = 2e-4
MIX = Mix(single=0.1, real=0.5, nothing=0.12)
CORRECTED = 0.7
"""Share of corrected strips among the real ones."""

STEPS = (0.25, 0.5, 0.75, 1.0)
"""Steps from the old weights (0) to the new ones (1) that are tried."""

MAX_FORGOTTEN = 0.003
"""Share of the validation lines that a step may lose."""

VALIDATION = 400
FALLBACK = 400
"""Lines that are composed for the gate and for validation if there are no packs."""


@dataclass(frozen=True, eq=False)
class CorrectedLines:
    """Corrected lines.

    Attributes:
        inks: (64, w) uint8 each, 255 = ink: the line as it was cut out; its digits are 32 pixels high.
        texts: their digits, marks and spaces.
        sha256: of each ink, hexadecimal; it decides whether a line is held out.
    """

    inks: tuple[npt.NDArray[np.uint8], ...]
    texts: tuple[str, ...]
    sha256: tuple[str, ...]

    def split(self) -> tuple[list[HeldLine], list[HeldLine]]:
        """Return the lines to train on, and those that are held out."""
        parts: tuple[list[HeldLine], list[HeldLine]] = ([], [])
        for ink, text, digest in zip(self.inks, self.texts, self.sha256, strict=True):
            held = is_kept_for_gate(digest)
            line = HeldLine("corrections", 0, Cut(ink, np.eye(2, 3)), held_lines.plain(text))
            parts[held].append(line)
        return parts


@dataclass(frozen=True, eq=False)
class RetrainedLines:
    """A retrained line network.

    Attributes:
        folder: with its file and the verdict.
        network: the new one.
        verdict: of the gate.
        learnt: number of corrections that it was trained on.
        step: from the old weights (0) to the new ones (1) that was chosen.
    """

    folder: Path
    network: LineNetwork
    verdict: LineVerdict
    learnt: int
    step: float


def retrain_lines(
    parent: LineNetwork,
    shipped: LineNetwork,
    corrected: CorrectedLines,
    folder: Path,
    *,
    data_dir: Path | None = None,
    samples: float = SAMPLES,
    seed: int = 0,
    device: str = "cpu",
    console: "Console | None" = None,
) -> RetrainedLines:
    """Train a line network further on corrections, write it, and run the gate.

    Args:
        parent: the default network.
        shipped: the one of the package; may be the same.
        corrected: the corrections.
        folder: for the network and a checkpoint; an interrupted training in it is continued.
        data_dir: where MNIST and the packs of handwriting are.
        samples: how many strips it is trained on.
        seed: of the composed strips.
        device: `cpu` or `cuda`.
        console: shows progress; None = nothing.

    Raises:
        DataError: there is no correction to train on, or the loss is not finite.
        DigitryError: the folder cannot be written.
    """
    learnt, held = corrected.split()
    if not learnt:
        raise DataError(
            f"all {len(corrected.texts)} corrected lines are held out; none is left to train on",
            remedy="correct more lines",
        )
    known, frozen = sources_for(data_dir, seed)
    validation = frozen[::2][:VALIDATION]
    judged = frozen[1::2]
    folder.mkdir(parents=True, exist_ok=True)
    old = bare(from_onnx(onnx.load_model_from_string(parent.onnx))[1])
    schedule = Schedule(samples=samples, rate=RATE, average=0.99, device=device)
    pools = Pools(seed=seed, strips=512, columns=6144, mix=MIX)
    with Display(console, 1.0, text="training lines") as display:

        def told(entry: dict[str, float]) -> None:
            display.at(
                entry["progress"],
                f"lines: {entry['samples']:,.0f} strips, loss {entry['loss']:.3f}",
            )

        told_of: dict[str, Any] = {"on_log": told, "log_every": 2.0, "save_every": 30.0}
        # A copy: the network is trained in place.
        new = fit(
            bare(from_onnx(onnx.load_model_from_string(parent.onnx))[1]),
            batch_loss, schedule, pools, mixed(known, learnt), folder / CHECKPOINT, **told_of,
        ).cpu()  # fmt: skip
    step = chosen_step(old, new, learnt, validation)
    made = exported(between(old, new, step), parent)
    files.write_bytes(folder / NETWORK, made.onnx)
    verdict = line_gate.judge(judged, held, (parent, made, shipped))
    files.write_json(
        folder / GATE,
        {"parent_sha256": parent.sha256, "learnt": len(learnt), "step": step} | verdict.to_dict(),
    )
    return RetrainedLines(folder, made, verdict, len(learnt), step)


def mixed(known: Sources, learnt: Sequence[HeldLine]) -> Sources:
    """Return the sources of strips, with the corrected lines among the real ones."""
    own = [Real(line.cut.ink, labels_of(line.text), CUT // 4, 3 * CUT // 4) for line in learnt]
    share = CORRECTED if len(known.real) else 1.0
    chances = np.concatenate([np.full(len(own), share / len(own)), (1 - share) * known.chances])
    return replace(known, real=[*own, *known.real], chances=chances / chances.sum())


def sources_for(data_dir: Path | None, seed: int) -> tuple[Sources, list[HeldLine]]:
    """Return the sources of strips, and lines by other people for validation and the gate.

    They come from the packs and MNIST; without the packs from MNIST alone; without MNIST from drawn digits.
    """
    try:
        digits = mnist.load(data_dir, offline=True, console=None).train
    except UnavailableError:
        return drawn_sources(seed), composed_lines(drawn_sources(seed + 1), seed)
    labels = np.asarray(digits.labels, np.uint8)
    try:
        known = written.load(digits.images, labels, data_dir, seed=seed)
        return known, held_lines.load(digits.images, labels, data_dir, seed=seed)
    except UnavailableError:
        hands = [from_images(digits.images[at::10], labels[at::10]) for at in (0, 1)]
        parts = [replace(drawn_sources(seed + at), hands=[hands[at]]) for at in (0, 1)]
        return parts[0], composed_lines(parts[1], seed)


def drawn_sources(seed: int) -> Sources:
    """Return the sources of strips if there is no handwriting: drawn digits and letters."""
    rng = np.random.default_rng([seed, 7])
    glyphs, labels = [], []
    for index in range(600):
        glyphs.append(_drawn(pen.DIGITS[index % len(pen.DIGITS)], rng))
        labels.append(index % len(pen.DIGITS))
    letters = [_drawn(pen.LETTERS[index % len(pen.LETTERS)], rng) for index in range(200)]
    hands: Hands = from_images(np.stack(glyphs), np.array(labels, np.int64))
    return Sources(
        hands=[hands], shares=[1.0], others=Others(letters, letters, {}), real=[],
        chances=np.zeros(0), text=[], doodles=[],
    )  # fmt: skip


def _drawn(symbol: str, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    lines = pen.wobble(pen.strokes_of(symbol, pen.pick_hand(symbol, rng)), rng, amount=1.5)
    ink = pen.draw(lines, 32, float(rng.uniform(2, 4)), rng)
    side = np.zeros((48, 48), np.float32)
    ink = ink[:48, :48]
    side[: ink.shape[0], : ink.shape[1]] = ink
    return np.asarray(np.rint(np.clip(side, 0, 1) * 255), np.uint8)


def composed_lines(sources: Sources, seed: int) -> list[HeldLine]:
    """Return composed lines for validation and the gate: numbers, single digits, and other writing."""
    found: list[HeldLine] = []
    for kind, mix in (
        ("composed", Mix(single=0.0, real=0.0, nothing=0.0)),
        ("single", Mix(single=1.0, real=0.0, nothing=0.0)),
        ("words", Mix(single=0.0, real=0.0, nothing=1.0)),
    ):
        composer = Composer(sources, [seed, 11], mix)
        found += held_lines.composed(kind, 0, composer, FALLBACK // 2)
    return found


def chosen_step(
    old: Network,
    new: Network,
    learnt: Sequence[HeldLine],
    known: Sequence[HeldLine],
) -> float:
    """Return the step from the old weights (0) to the new ones (1) that `smallest_step` chooses."""

    def at(step: float) -> tuple[int, int]:
        network = line_gate.Greedy.of(to_onnx(between(old, new, step)).SerializeToString())
        return sum(network.right(learnt)), sum(network.right(known))

    start, knew = at(0.0)
    gained: dict[float, int] = {}
    excess: dict[float, float] = {}
    for step in STEPS:
        now, knows = at(step)
        gained[step] = now - start
        excess[step] = max(knew - knows - MAX_FORGOTTEN * len(known), 0.0)
    return smallest_step(gained, excess)


def exported(network: Network, parent: LineNetwork) -> LineNetwork:
    """Return a network in the form of a file, with the parent's calibration and metadata."""
    model = halved(to_onnx(network))
    facts = {
        entry.key: entry.value for entry in onnx.load_model_from_string(parent.onnx).metadata_props
    }
    onnx.helper.set_model_props(model, facts | {"taught_from": parent.sha256})
    return parse(model.SerializeToString(), parent.version)
