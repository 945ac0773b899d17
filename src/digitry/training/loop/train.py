"""Training: a recipe and images in, a Keras model out.

Model, callbacks and the arithmetic of the optimizers are Keras'; the loop is our own and replays one
traced step (`digitry.training.loop.step`).
"""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from digitry.errors import DataError, DigitryError, UnavailableError, UsageError
from digitry.model.artifact import DIGIT_CLASSES
from digitry.training.data.dataset import Split, hold_out
from digitry.training.epochs import Epoch
from digitry.training.loop import checkpoint as checkpoints
from digitry.training.loop.optimizer import keras_twin
from digitry.training.loop.session import Session
from digitry.training.loop.step import keep_memory
from digitry.training.network.build import build, keras
from digitry.training.progress import EpochDisplay
from digitry.training.recipes import Recipe

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Epoch", "Trained", "find_device", "train"]


@dataclass(frozen=True)
class Trained:
    """A trained model and its history.

    Attributes:
        recipe: what it was trained with.
        model: from (n, 28, 28) float32 in [0, 1], ink = 1, to softmax probabilities; compiled.
        history: one entry for each complete epoch.
        fit_seconds: of this call and of the calls that it resumed: building, tracing, training,
            validation, checkpoints.
        interrupted: whether Ctrl-C ended it early. The model is then that of the last step.
        told_to_stop: whether Ctrl-C was pressed, even if the training was complete by then.
    """

    recipe: Recipe
    model: keras.Model
    history: tuple[Epoch, ...]
    fit_seconds: float
    interrupted: bool
    told_to_stop: bool = False


def train(
    recipe: Recipe,
    split: Split,
    *,
    device: str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
    console: "Console | None" = None,
    initial_model: Callable[[], keras.Model] | None = None,
    targets: npt.NDArray[np.float32] | None = None,
) -> Trained:
    """Train a model.

    The same recipe, data and machine give the same bytes on CPU, with or without interruption.

    Args:
        recipe: what to train and how; its share `validation` is held out from the end of `split`.
        split: training images and labels; never the test set.
        device: `auto` (CUDA if available, else CPU), `cpu`, `cuda`, `cuda:1`, `mps`.
        callbacks: Keras callbacks, called as `fit` calls them; they may change the learning rate
            and `model.stop_training`. Their own state is not in the checkpoint.
        checkpoint: a file that is replaced after each epoch; None = none is written.
        resume: continue from `checkpoint`.
        console: shows a progress line, or one line per epoch if it is not a terminal.
        initial_model: builds the model to start from; None = the recipe's own, untrained.
        targets: (n, classes) float32, target probabilities of `split` in place of its labels, see
            `digitry.training.loop.teacher`; needed if and only if the recipe's `distil` is above 0.

    Returns:
        The model with its history. With `patience`, the weights of the epoch with the lowest
        validation loss; with `averaging`, the averaged weights.

    Raises:
        UsageError: `resume` without a checkpoint, or with one of another recipe; `distil` without
            `targets`, or the reverse.
        DataError: no training images are left, they have labels that the model has no output for, or
            the checkpoint belongs to other images.
        ModelError: the checkpoint is damaged.
        UnavailableError: the device is not available.
        DigitryError: loss or weights are not finite, the memory is too small, or the checkpoint cannot
            be written.
        KeyboardInterrupt: at a second Ctrl-C.
    """
    began = time.perf_counter()
    chosen = find_device(device)
    if resume and checkpoint is None:
        raise UsageError("resume needs a checkpoint", remedy="name a checkpoint file")
    training, held = _parts(recipe, split, targets)
    data = checkpoints.fingerprint(split) if checkpoint is not None else ""
    found = checkpoints.load_for(checkpoint, recipe, data) if resume and checkpoint else None
    keep_memory()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_out_of_memory_as_error(recipe, chosen))
        interrupt = stack.enter_context(_interruptible())
        stack.enter_context(_on_device(chosen, recipe.seed))
        classes = max(DIGIT_CLASSES, int(split.labels.max()) + 1)
        model = build(recipe, classes) if initial_model is None else initial_model()
        _compile(model, recipe)
        taught = _check_outputs(targets, classes, model)
        session = Session(
            recipe, model, training, held, chosen,
            None if taught is None else taught[: len(training)],
        )  # fmt: skip
        if found is not None and checkpoint is not None:
            session.restore(found, checkpoint)
        before = session.seconds

        def keep() -> None:
            session.seconds = before + time.perf_counter() - began
            if checkpoint is not None:
                checkpoints.save(checkpoint, session.checkpoint(data))

        display = stack.enter_context(EpochDisplay(console, recipe.epochs, len(training)))
        _run(session, list(callbacks), interrupt, display, keep)
        session.finish()
    seconds = before + time.perf_counter() - began
    told = interrupt.is_set()
    history = tuple(session.history)
    return Trained(recipe, model, history, seconds, told and not session.ended, told)


def _parts(
    recipe: Recipe, split: Split, targets: npt.NDArray[np.float32] | None
) -> tuple[Split, Split | None]:
    """Return the images to train on, and those held out; check that recipe and targets fit them."""
    if (targets is None) == (recipe.distil > 0):
        raise UsageError(
            f"distil is {recipe.distil:g}, but {'no' if targets is None else 'a'} teacher is given",
            where=f"recipe {recipe.name}",
            remedy="name a teacher and set distil above 0, or do neither",
        )
    training, held = hold_out(split, recipe.validation) if recipe.validation else (split, None)
    if len(training) == 0 or (held is not None and len(held) == 0):
        raise DataError(
            f"{len(split)} images are too few to train on", remedy="add images, or lower validation"
        )
    return training, held


@contextlib.contextmanager
def _on_device(device: torch.device, seed: int) -> Iterator[None]:
    """Create tensors and weights on a device, from seeded generators, within the block."""
    with contextlib.ExitStack() as stack:
        # The run seeds PyTorch's generators; the caller's state is restored afterwards.
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        if device.type == "cuda":
            # PyTorch creates streams and graphs on its own current device, not on Keras'.
            stack.enter_context(torch.cuda.device(device))
        stack.enter_context(keras.device(_keras_name(device)))
        torch.manual_seed(seed)
        yield


def _check_outputs(
    targets: npt.NDArray[np.float32] | None, classes: int, model: keras.Model
) -> npt.NDArray[np.float32] | None:
    """Check that a model has an output for each label; return targets with a column for each output."""
    outputs = model.output_shape[-1]
    if classes > outputs:
        raise DataError(
            f"have {classes} classes, but the model has {outputs}",
            where="the training images",
            remedy=f"use data with {outputs} classes, or start from a model with {classes}",
        )
    if targets is None:
        return None
    return np.pad(targets, ((0, 0), (0, outputs - targets.shape[1])))


@contextlib.contextmanager
def _out_of_memory_as_error(recipe: Recipe, device: torch.device) -> Iterator[None]:
    """Turn an out-of-memory error within the block into a `DigitryError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # PyTorch has an error class for the memory of GPUs only; for the CPU there is only the text.
        if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or "alloc" in str(error)):
            raise
        raise DigitryError(
            f"needs more memory than {device.type} has",
            where=f"recipe {recipe.name}",
            remedy="lower hidden or batch_size",
        ) from error


def find_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        UnavailableError: it is not available; the message lists those that are.
    """
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name == "auto":
        name = "cuda" if "cuda" in here else "cpu"
    if name not in here:
        raise UnavailableError(
            f"device {name!r} is not available", remedy=f"choose from: auto, {', '.join(here)}"
        )
    return torch.device("cuda:0" if name == "cuda" else name)


def _run(
    session: Session,
    callbacks: list[keras.callbacks.Callback],
    interrupt: threading.Event,
    display: EpochDisplay,
    keep: Callable[[], None],
) -> None:
    """Train until all epochs are done, or until early stopping, a callback or Ctrl-C ends it."""
    recipe, model = session.recipe, session.model
    listeners = keras.callbacks.CallbackList(
        callbacks, add_history=True, model=model,
        epochs=recipe.epochs, steps=session.steps_per_epoch, verbose=0,
    )  # fmt: skip
    batch_hooks = any(_has_batch_hooks(callback) for callback in callbacks)
    model.stop_training = False
    logs: dict[str, float] = {}
    number = len(session.history)
    listeners.on_train_begin()
    while not (session.ended or interrupt.is_set() or model.stop_training):
        number = len(session.history) + 1
        started = time.perf_counter()
        listeners.on_epoch_begin(number - 1)
        seen = _epoch(session, number, listeners if batch_hooks else None, interrupt, display)
        whole = seen == len(session.batches)
        if seen == 0:
            break
        loss, accuracy = session.mean(seen)
        _check_finite("loss", loss, recipe, number)
        if not (whole or model.stop_training):
            break
        # Validation, callbacks and the best weights all use the weights that would be saved.
        with session.averaged():
            listeners.on_test_begin()
            val_loss, val_accuracy = session.score()
            logs = {"accuracy": accuracy, "loss": loss}
            if val_loss is not None and val_accuracy is not None:
                _check_finite("loss on held-out images", val_loss, recipe, number)
                validation = {"accuracy": val_accuracy, "loss": val_loss}
                logs |= {f"val_{name}": value for name, value in validation.items()}
                listeners.on_test_end(validation)
            else:
                listeners.on_test_end()
            seconds = time.perf_counter() - started
            epoch = Epoch(number, loss, accuracy, val_loss, val_accuracy, session.rate, seconds)
            session.note(epoch)
            listeners.on_epoch_end(number - 1, logs)
        if whole:
            keep()
        display.epoch(epoch)
    session.settle()
    # The last step may have made weights infinite, which its loss does not show.
    for buffer in session.buffers():
        _check_finite("sum of the weights", float(buffer.sum()), recipe, number)
    # Callbacks come last: if one restores weights, those are the result.
    listeners.on_train_end(logs)


def _check_finite(what: str, value: float, recipe: Recipe, epoch: int) -> None:
    if not math.isfinite(value):
        raise DigitryError(
            f"the {what} is {value}",
            where=f"{recipe.name}, epoch {epoch}",
            remedy="lower learning_rate",
        )


def _epoch(
    session: Session,
    number: int,
    listeners: keras.callbacks.CallbackList | None,
    interrupt: threading.Event,
    display: EpochDisplay,
) -> int:
    """Run the steps of one epoch; return the number of images seen."""
    recipe, model = session.recipe, session.model
    count, size = len(session.batches), recipe.batch_size
    session.begin_epoch(session.batches.order(recipe.seed, number))
    rate = float(model.optimizer.learning_rate)
    seen = 0
    with torch.inference_mode():
        for batch, at in enumerate(range(0, count, size)):
            if interrupt.is_set():
                break
            if listeners is not None:
                listeners.on_train_batch_begin(batch)
                rate = float(model.optimizer.learning_rate)
            session.advance(rate)
            seen = min(at + size, count)
            if listeners is not None:
                loss, accuracy = session.mean(seen)
                listeners.on_train_batch_end(batch, {"accuracy": accuracy, "loss": loss})
                if model.stop_training:
                    # As in Keras, the epoch ends here and is validated.
                    break
            if display.due():
                display.show(number, seen, *session.mean(seen))
    return seen


def _compile(model: keras.Model, recipe: Recipe) -> None:
    """Compile the model with optimizer and loss, for callbacks, `evaluate` and the saved files."""
    if recipe.one_hot:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy()
    model.compile(optimizer=keras_twin(recipe), loss=loss, metrics=["accuracy"], jit_compile=False)
    # A file of a compiled model whose optimizer has no variables yet loads with a warning.
    model.optimizer.build(model.trainable_variables)


def _has_batch_hooks(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback has hooks for each batch; calling them costs time, most have none."""
    hooks = ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end")
    base = keras.callbacks.Callback
    return any(getattr(type(callback), hook) is not getattr(base, hook) for hook in hooks)


def _keras_name(device: torch.device) -> str:
    return f"gpu:{device.index or 0}" if device.type == "cuda" else device.type


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event; the second one raises `KeyboardInterrupt`.

    Outside the main thread Python allows no signal handlers, so the event is never set.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def first(signum: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before: Any = signal.signal(signal.SIGINT, first)
    try:
        yield event
    finally:
        # None: the old handler was not set from Python and cannot be restored from it.
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
