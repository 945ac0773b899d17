"""The state of one training run: weights, averages, optimizer, history; and the steps that change it."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from digitry.training.data.dataset import Split
from digitry.training.epochs import Epoch
from digitry.training.loop.batches import Batches
from digitry.training.loop.checkpoint import Checkpoint, damaged
from digitry.training.loop.flat import Flat
from digitry.training.loop.forward import logits_of, state_variables
from digitry.training.loop.optimizer import copy_to_keras, optimizer_for, schedule
from digitry.training.loop.step import capture, label_gradients, trace
from digitry.training.network.build import keras
from digitry.training.recipes import Recipe

SCORED_AT_ONCE = 1000
"""Held-out images per call of the model."""

FILLED_AT_ONCE = 2048
"""Training images gathered per call: few enough to stay in the processor's cache as float32."""


class Session:
    """The state of one training run: everything that a step or an epoch changes.

    Args:
        recipe: of the run.
        model: built and compiled; its variables are moved into flat buffers.
        training: the images that are trained on.
        held: the held-out images; None = none.
        device: where everything is stored.
        targets: (n, classes) float32, target probabilities of `training`; None = its labels. The
            reported loss and accuracy are always against the labels.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: keras.Model,
        training: Split,
        held: Split | None,
        device: torch.device,
        targets: npt.NDArray[np.float32] | None = None,
    ) -> None:
        self.recipe, self.model, self.device = recipe, model, device
        self.captures = device.type == "cuda"
        self.batches = Batches(
            training.images, training.labels, device, augment=recipe.augment, targets=targets
        )
        self.held = Batches(held.images, held.labels, device) if held is not None else None
        self.weights = Flat.of(model.trainable_variables, device)
        self.gradient = self.weights.like()
        self.state = Flat.of(state_variables(model), device)
        self.optimizer = optimizer_for(recipe, self.weights.buffer, self.gradient.buffer)
        # One value per image, from when it was last trained on. Summed only on demand, in an order that
        # does not depend on when that happens.
        self.losses = self.weights.buffer.new_zeros(len(self.batches))
        self.hits = torch.zeros(len(self.batches), dtype=torch.bool, device=device)
        self.average = self.live() if recipe.averaging else []
        self.best: list[torch.Tensor] = []
        self.best_loss = math.inf
        self.waited = 0
        self.step = 0
        self.history: list[Epoch] = []
        self.seconds = 0.0
        self.rate = 0.0
        # Sums use double precision, which Apple's GPUs do not have.
        self._exact = torch.float32 if device.type == "mps" else torch.float64
        self._averaging = torch.zeros((), device=device)
        self._order = torch.zeros(0, dtype=torch.int64)
        self._at = 0
        self._steps: _Steps | None = None
        self._made: dict[int, _Steps] = {}

    @property
    def ended(self) -> bool:
        """Whether every epoch is done, or early stopping applies."""
        patience = self.recipe.patience
        return len(self.history) >= self.recipe.epochs or (
            patience is not None and self.waited >= patience
        )

    @property
    def steps_per_epoch(self) -> int:
        """Steps per epoch, including a shorter last one."""
        return -(-len(self.batches) // self.recipe.batch_size)

    def live(self) -> list[torch.Tensor]:
        """Return copies of the current weights and moving statistics."""
        return [buffer.clone() for buffer in self.buffers()]

    def put(self, values: Sequence[torch.Tensor]) -> None:
        """Set the weights and the moving statistics."""
        for buffer, value in zip(self.buffers(), values, strict=True):
            buffer.copy_(value)

    def begin_epoch(self, order: torch.Tensor) -> None:
        """Reset the sums of the last epoch, and set the order of images: (n,) int64."""
        self.losses.zero_()
        self.hits.zero_()
        self._order, self._at, self._steps = order, 0, None

    def advance(self, peak_rate: float) -> None:
        """Train on the next batch of the epoch; must run in `torch.inference_mode`."""
        total = self.steps_per_epoch * self.recipe.epochs
        self.rate = peak_rate * schedule(self.recipe, self.step, total)
        self.step += 1
        self.optimizer.prepare(self.step, self.rate)
        if self.average:
            # Early averages follow the current weights more closely (as TensorFlow's moving averages).
            decay = min(self.recipe.averaging, (1 + self.step) / (10 + self.step))
            self._averaging.fill_(1 - decay)
        steps = self._steps
        if steps is None or steps.left == 0:
            steps = self._steps = self._fill()
        steps.advance()

    def _fill(self) -> "_Steps":
        """Gather the next batches: as many full ones as fit at once, or the shorter last one."""
        left, size = len(self._order) - self._at, self.recipe.batch_size
        at_once = 1 if self.captures else max(1, FILLED_AT_ONCE // size)
        many = min(left // size, at_once)
        if many == 0:
            many, size = 1, left
        if size not in self._made:
            made = _Captured(self, size) if self.captures else _Steps(self, size, many)
            self._made[size] = made
        steps = self._made[size]
        steps.fill(self._order[self._at : self._at + many * size])
        self._at += many * size
        return steps

    def update(self) -> None:
        """Update the weights by their gradient, then the averages by the weights."""
        self.optimizer.apply()
        if self.average:
            for average, buffer in zip(self.average, self.buffers(), strict=True):
                average.lerp_(buffer, self._averaging)

    def buffers(self) -> list[torch.Tensor]:
        """Return the weights and the moving statistics."""
        return [self.weights.buffer, self.state.buffer]

    def changed(self) -> list[torch.Tensor]:
        """Return everything that a step changes."""
        return [
            *self.buffers(),
            *self.average,
            *self.optimizer.state().values(),
            self.losses,
            self.hits,
        ]

    def mean(self, seen: int) -> tuple[float, float]:
        """Return loss and accuracy over the `seen` images since the epoch began."""
        if self._steps is not None:
            self._steps.count()
        return float(self.losses.sum(dtype=self._exact)) / seen, int(self.hits.sum()) / seen

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Put the averaged weights, if there are any, into the model while the block runs."""
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
        """Return loss and accuracy on the held-out images; None if there are none."""
        if self.held is None:
            return None, None
        totals = torch.zeros(2, dtype=self._exact, device=self.device)
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
        """Add an epoch to the history, and keep its weights if it is the best; call within `averaged`."""
        self.history.append(epoch)
        if self.recipe.patience is None or epoch.val_loss is None:
            return
        if epoch.val_loss < self.best_loss:
            self.best, self.best_loss, self.waited = self.live(), epoch.val_loss, 0
        else:
            self.waited += 1

    def settle(self) -> None:
        """Put the final weights into the model: the best, else the averaged, else the current ones."""
        if self.best or self.average:
            self.put(self.best or self.average)

    def finish(self) -> None:
        """Copy the optimizer's state to Keras' optimizer, and release the traced steps."""
        # They and this session refer to each other: without this, their memory is freed late.
        self._made.clear()
        self._steps = None
        state = {
            name: [_like(view, values) for view in self.weights.views]
            for name, values in self.optimizer.as_keras().items()
        }
        copy_to_keras(state, self.step, self.model.optimizer, self.model.trainable_variables)

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Return every tensor that a later epoch depends on, by name."""
        named = {"weights": self.weights.buffer, "state": self.state.buffer}
        named |= {f"optimizer_{name}": value for name, value in self.optimizer.state().items()}
        for group, values in (("average", self.average), ("best", self.best)):
            named |= {f"{group}_{name}": v for name, v in zip(("weights", "state"), values)}  # noqa: B905
        return named

    def checkpoint(self, data_sha256: str) -> Checkpoint:
        """Return the state after a complete epoch."""
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
        """Set the state to that of a checkpoint.

        Raises:
            ModelError: an array or a field is missing or has another shape.
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


class _Steps:
    """The steps on consecutive batches of one size.

    Images are gathered and losses computed for all of them at once: many small operations are slow.

    Args:
        session: the state that the steps change.
        size: images per batch.
        many: largest number of batches.
    """

    def __init__(self, session: Session, size: int, many: int) -> None:
        self.session, self.size = session, size
        self.filled = self.done = self.counted = 0
        self.index = session.batches.labels[:0]
        weights = session.weights
        classes = session.model.output_shape[-1]
        smoothing = session.recipe.label_smoothing
        # A tensor made in inference mode could not be differentiated through.
        with torch.inference_mode(False):
            table = label_gradients(classes, size, smoothing, weights.buffer)
            self.buffers = session.batches.buffers(size, many, table)
            self.logits = weights.buffer.new_zeros((many, classes, size))
            self.replays = trace(
                session.model, weights, session.gradient, session.state,
                self.buffers.glyphs, self.buffers.rows, self.logits, precision=session.recipe.precision,
            )  # fmt: skip

    @property
    def left(self) -> int:
        """Batches that are filled and not yet trained on."""
        return self.filled - self.done

    def fill(self, index: torch.Tensor) -> None:
        """Gather the next images: (n,) int64, n a multiple of the batch size."""
        self.index = index
        self.buffers.fill(index)
        self.filled, self.done, self.counted = len(index) // self.size, 0, 0

    def advance(self) -> None:
        """Train on the next batch."""
        self.replays[self.done]()
        self.session.update()
        self.done += 1
        if self.left == 0:
            self.count()

    def count(self) -> None:
        """Store loss and hits of the batches trained on since the last call."""
        if self.counted == self.done:
            return
        part = slice(self.counted, self.done)
        logits, labels = self.logits[part], self.buffers.labels[part]
        images = self.index.view(-1, self.size)[part].flatten()
        session, smoothing = self.session, self.session.recipe.label_smoothing
        losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        session.losses.index_copy_(0, images, losses.flatten())
        # argmax is faster when the classes are contiguous.
        hits = logits.transpose(1, 2).contiguous().argmax(-1) == labels
        session.hits.index_copy_(0, images, hits.flatten())
        self.counted = self.done


class _Captured(_Steps):
    """The step on one batch as one CUDA graph: gathering, training, counting."""

    def __init__(self, session: Session, size: int) -> None:
        super().__init__(session, size, 1)
        # Capturing runs on image 0.
        self.fixed = torch.zeros(size, dtype=torch.int64, device=session.device)
        self.replay = capture(self._whole, session.changed())

    def _whole(self) -> None:
        super().fill(self.fixed)
        super().advance()

    def fill(self, index: torch.Tensor) -> None:
        """Set which images come next: the graph gathers them."""
        self.fixed.copy_(index)
        self.filled, self.done, self.counted = 1, 0, 0

    def advance(self) -> None:
        """Train on the batch."""
        self.replay()
        self.done = self.counted = 1


def _like(view: torch.Tensor, buffer: torch.Tensor) -> torch.Tensor:
    """Return the view of `buffer` with the shape, strides and offset of `view`."""
    return buffer.as_strided(view.shape, view.stride(), view.storage_offset())
