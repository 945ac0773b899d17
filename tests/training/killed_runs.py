"""Trains in child processes that are killed at a given point, resumes, and prints what came out.

Run by test_resume.py: one process imports PyTorch once and forks for each run, so that each one is
a real process that really dies. Prints a line a death: how it died, epochs kept; and a line a result:
name, epochs, digests of the weights and of the history.
"""

import dataclasses
import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from digitry.training.network.import_keras import import_keras

import_keras()

from digitry.training.loop import checkpoint  # noqa: E402

sys.path.insert(0, str(Path(__file__).with_name("loop")))

from test_train import Recipe, digits, keras, train, weights  # noqa: E402

FULL = Recipe(
    name="full", architecture="conv", hidden=(3, 4), batch_size=16, epochs=4, dropout=0.3,
    augment="light", averaging=0.9, schedule="one-cycle", validation=0.25,
)  # fmt: skip
# Without patience the weights are those of the last step, so anything not restored changes them; with
# patience they are those of the best epoch, and early stopping ends the run.
PATIENT = dataclasses.replace(FULL, name="patient", epochs=8, patience=2)
DENSE = Recipe(name="dense", hidden=(16,), batch_size=16, epochs=4, optimizer="rmsprop")


class Kill(keras.callbacks.Callback):
    """Kills its process in a batch of an epoch, both from 0."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self.at, self.now = (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == self.at:
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_in_write(times: int, *, after: bool) -> None:
    """Let the process die in its n-th writing of a checkpoint, or right before the move."""
    real, count = np.savez, 0

    def savez(stream, **arrays):
        nonlocal count
        count += 1
        if count < times:
            real(stream, **arrays)
        elif after:
            real(stream, **arrays)
            stream.flush()
            die()
        else:
            stream.write(b"PK\x03\x04 half of a checkpoint")
            stream.flush()
            die()

    np.savez = savez


def child(work: Callable[..., None], *arguments: object) -> str:
    pid = os.fork()
    if pid == 0:
        try:
            work(*arguments)
        finally:
            sys.stdout.flush()
            os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return "killed" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9 else "ended"


def show(name: str, recipe: Recipe, path: Path | None, resume: bool) -> None:
    trained = train(recipe, digits(90), device="cpu", checkpoint=path, resume=resume)
    content = b"".join(array.tobytes() for array in weights(trained.model))
    losses = [dataclasses.replace(epoch, seconds=0) for epoch in trained.history]
    digests = [hashlib.sha256(part).hexdigest() for part in (content, repr(losses).encode())]
    print(name, len(trained.history), *digests)


def run(recipe: Recipe, path: Path, *callbacks: keras.callbacks.Callback) -> None:
    train(recipe, digits(90), device="cpu", checkpoint=path, callbacks=callbacks)


def run_to_writing(recipe: Recipe, path: Path, times: int, after: bool) -> None:
    killed_in_write(times, after=after)
    run(recipe, path)


POINTS: dict[str, tuple[Callable[..., None], tuple[object, ...]]] = {
    "step": (run, (Kill(2, 1),)),
    "late-step": (run, (Kill(3, 3),)),
    "write": (run_to_writing, (2, False)),
    "move": (run_to_writing, (3, True)),
}


def main(folder: Path) -> None:
    for recipe in (FULL, DENSE):
        name = recipe.name
        path = folder / f"{name}-whole" / "checkpoint.npz"
        child(show, f"{name}-unbroken", recipe, None, False)
        child(run, recipe, path)
        child(show, f"{name}-again", recipe, path, True)
        for point, (work, more) in POINTS.items():
            path = folder / f"{name}-{point}" / "checkpoint.npz"
            died = child(work, recipe, path, *more)
            print("died", died, len(checkpoint.load(path).facts["history"]))
            child(show, f"{name}-{point}", recipe, path, True)
    path = folder / "patient" / "checkpoint.npz"
    child(show, "patient-unbroken", PATIENT, None, False)
    print(
        "died", child(run, PATIENT, path, Kill(2, 1)), len(checkpoint.load(path).facts["history"])
    )
    child(show, "patient-step", PATIENT, path, True)
    # A constant learning rate does not depend on the number of epochs.
    path = folder / "longer" / "checkpoint.npz"
    child(run, dataclasses.replace(DENSE, epochs=2), path)
    child(show, "dense-longer", DENSE, path, True)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    main(Path(sys.argv[1]))
