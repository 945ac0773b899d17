"""The state of one training run: weights, averages, optimizer, history; how a step changes it."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F

from digitry.training.architectures import keras
from digitry.training.batches import Batches
from digitry.training.checkpoint import Checkpoint, damaged
from digitry.training.history import Epoch
from digitry.training.optimizer import hand_over, optimizer_for, schedule
from digitry.training.parsers import Split
from digitry.training.recipes import Recipe
from digitry.training.step import Flat, capture, logits_of, state_variables, trace

SCORED_AT_ONCE = 1000
"""Held-out images a call."""


class Session:
    """The state of one training run: everything that a step or an epoch changes.

    Args:
        recipe: of the run.
        model: built and compiled; its variables are moved into flat buffers.
        training: the images that are trained on.
        held: those that are held out.
        device: where all of it lives.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: keras.Model,
        training: Split,
        held: Split | None,
        device: torch.device,
    ) -> None:
        self.recipe, self.model, self.device = recipe, model, device
        self.batches = Batches(training.images, training.labels, device, augment=recipe.augment)
        self.held = Batches(held.images, held.labels, device) if held is not None else None
        self.weights = Flat.of(model.trainable_variables)
        self.gradient = self.weights.like()
        self.state = Flat.of(state_variables(model))
        self.optimizer = optimizer_for(recipe, self.weights.buffer, self.gradient.buffer)
        # Sums over an epoch want double precision; Apple's GPUs have none.
        self.totals = torch.zeros(
            2, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device
        )
        self.average = self.live() if recipe.averaging else []
        self.best: list[torch.Tensor] = []
        self.best_loss = math.inf
        self.waited = 0
        self.step = 0
        self.history: list[Epoch] = []
        self.seconds = 0.0
        self.rate = 0.0
        self._averaging = torch.zeros((), device=device)
        self._steps: dict[int, Callable[[torch.Tensor], None]] = {}

    @property
    def ended(self) -> bool:
        """Whether every epoch is done, or none more would be of use."""
        patience = self.recipe.patience
        return len(self.history) >= self.recipe.epochs or (
            patience is not None and self.waited >= patience
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch, the last and shorter one included."""
        return -(-len(self.batches) // self.recipe.batch_size)

    def live(self) -> list[torch.Tensor]:
        """Give copies of the weights and the moving statistics as they are."""
        return [self.weights.buffer.clone(), self.state.buffer.clone()]

    def put(self, values: Sequence[torch.Tensor]) -> None:
        """Make these the weights and the moving statistics."""
        for buffer, value in zip((self.weights.buffer, self.state.buffer), values, strict=True):
            buffer.copy_(value)

    def advance(self, index: torch.Tensor, peak_rate: float) -> None:
        """Train on one batch, the images of `index`; must run in `torch.inference_mode`."""
        total = self.steps_per_epoch * self.recipe.epochs
        self.rate = peak_rate * schedule(self.recipe, self.step, total)
        self.step += 1
        self.optimizer.prepare(self.step, self.rate)
        if self.average:
            # Short of history the average leans on the present (as TensorFlow's moving averages).
            decay = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
            self._averaging.fill_(1 - decay)
        size = len(index)
        if size not in self._steps:
            self._steps[size] = self._make_step(size)
        self._steps[size](index)

    def _make_step(self, size: int) -> Callable[[torch.Tensor], None]:
        # A tensor made in inference mode could not be differentiated through.
        with torch.inference_mode(False):
            place = self.batches.place(size, self.weights.buffer.dtype)
            differentiate = trace(
                self.model, self.weights, self.gradient, self.state, place.glyphs, place.labels,
                self.totals, label_smoothing=self.recipe.label_smoothing,
                precision=self.recipe.precision,
            )  # fmt: skip
        buffers = [self.weights.buffer, self.state.buffer]

        def work() -> None:
            differentiate()
            self.optimizer.apply()
            if self.average:
                for average, buffer in zip(self.average, buffers, strict=True):
                    average.lerp_(buffer, self._averaging)

        if self.device.type != "cuda":

            def step(index: torch.Tensor) -> None:
                place.fill(index)
                work()

            return step

        fixed = torch.zeros(
            size, dtype=torch.int64, device=self.device
        )  # image 0, to be captured with
        touched = [*buffers, *self.average, *self.optimizer.state().values(), self.totals]

        def whole() -> None:
            place.fill(fixed)
            work()

        replay = capture(whole, touched)

        def launch(index: torch.Tensor) -> None:
            fixed.copy_(index)
            replay()

        return launch

    def mean(self, seen: int) -> tuple[float, float]:
        """Give loss and accuracy over the `seen` images since the epoch began."""
        loss, right = (self.totals / seen).tolist()
        return loss, right

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have the averaged weights for a while, if there are any."""
        if not self.average:
            yield
            return
        kept = self.live()
        self.put(self.average)
        try:
            yield
        finally:
            self.put(kept)

    def score(self) -> tuple[float | None, float | None]:
        """Give loss and accuracy on the held-out images; None without any."""
        if self.held is None:
            return None, None
        totals = torch.zeros_like(self.totals)
        smoothing = self.recipe.label_smoothing
        with torch.inference_mode():
            for at in range(0, len(self.held), SCORED_AT_ONCE):
                part = slice(at, at + SCORED_AT_ONCE)
                labels = self.held.labels[part]
                glyphs = self.held.images[part].to(self.weights.buffer.dtype).div_(255)
                logits, _ = logits_of(
                    self.model, self.weights.views, self.state.views, glyphs, training=False
                )
                loss = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
                totals += torch.stack([loss, (logits.argmax(-1) == labels).sum()])
        loss, right = (totals / len(self.held)).tolist()
        return loss, right

    def note(self, epoch: Epoch) -> None:
        """Enter an epoch, and keep its weights if it is the best so far. Wants `averaged` weights."""
        self.history.append(epoch)
        if self.recipe.patience is None or epoch.val_loss is None:
            return
        if epoch.val_loss < self.best_loss:
            self.best, self.best_loss, self.waited = self.live(), epoch.val_loss, 0
        else:
            self.waited += 1

    def finish(self) -> None:
        """Give the model the weights that the recipe promises."""
        if self.best or self.average:
            self.put(self.best or self.average)
        state = {
            name: [_like(view, values) for view in self.weights.views]
            for name, values in self.optimizer.state().items()
        }
        hand_over(state, self.step, self.model.optimizer, self.model.trainable_variables)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Name every tensor that a later epoch depends on."""
        named = {"weights": self.weights.buffer, "state": self.state.buffer}
        named |= {f"optimizer_{name}": value for name, value in self.optimizer.state().items()}
        for group, values in (("average", self.average), ("best", self.best)):
            named |= {f"{group}_{name}": v for name, v in zip(("weights", "state"), values)}  # noqa: B905
        return named

    def checkpoint(self, data_sha256: str) -> Checkpoint:
        """Give the state after a whole epoch."""
        arrays = {name: value.numpy(force=True) for name, value in self._tensors().items()}
        arrays["generator"] = torch.get_rng_state().numpy()
        if self.device.type == "cuda":
            arrays["generator_cuda"] = torch.cuda.get_rng_state(self.device).numpy()
        facts = {
            "step": self.step,
            "history": [asdict(epoch) for epoch in self.history],
            "best_loss": self.best_loss if self.best else None,
            "waited": self.waited,
            "seconds": self.seconds,
            "learning_rate": float(self.model.optimizer.learning_rate),
            "versions": {"torch": torch.__version__, "keras": keras.__version__},
        }
        return Checkpoint(recipe=self.recipe, data_sha256=data_sha256, arrays=arrays, facts=facts)

    def restore(self, found: Checkpoint, path: Path) -> None:
        """Go back to the state of a checkpoint.

        Raises:
            ModelError: something that should be in it is missing or has another shape.
        """
        try:
            facts = found.facts
            self.history = [Epoch(**epoch) for epoch in facts["history"]]
            self.step, self.waited = int(facts["step"]), int(facts["waited"])
            self.seconds = float(facts["seconds"])
            if facts["best_loss"] is not None:
                self.best, self.best_loss = self.live(), float(facts["best_loss"])
            for name, tensor in self._tensors().items():
                value = torch.from_numpy(found.arrays[name])
                if value.shape != tensor.shape or value.dtype != tensor.dtype:
                    raise ValueError(f"{name} has the shape {tuple(value.shape)}")
                tensor.copy_(value)
            torch.set_rng_state(torch.from_numpy(found.arrays["generator"]))
            if self.device.type == "cuda" and "generator_cuda" in found.arrays:
                torch.cuda.set_rng_state(
                    torch.from_numpy(found.arrays["generator_cuda"]), self.device
                )
            self.model.optimizer.learning_rate = float(facts["learning_rate"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(path, str(error)) from error


def _like(view: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """Give the part of a buffer that lies as `view` does in its own."""
    return buffer.as_strided(view.shape, view.stride(), view.storage_offset())
