"""The training loop has Keras' arithmetic and callbacks, and stops at Ctrl-C."""

import dataclasses
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from digitry import processors
from digitry.errors import DataError, DigitryError, UnavailableError, UsageError
from digitry.training import progress
from digitry.training.data.dataset import Split
from digitry.training.loop import session as sessions
from digitry.training.loop import step
from digitry.training.loop.device import find_device
from digitry.training.loop.flat import Flat
from digitry.training.loop.optimizer import Adam, RMSprop, keras_twin, schedule
from digitry.training.loop.session import Session
from digitry.training.loop.step import unchanged
from digitry.training.loop.train import Trained, train
from digitry.training.network.build import build, keras
from digitry.training.recipes import RECIPES, Recipe

CONV = Recipe(name="conv", architecture="conv", hidden=(3, 4), batch_size=8)
TINY = Recipe(name="tiny", hidden=(16,), batch_size=32, epochs=3)


def digits(count: int, seed: int = 0) -> Split:
    """Blobs that stand for ten digits: a bright square at a place of its own, in noise.

    No area is of one grey: a maximum of equals would be taken here or there, both rightly.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    images = rng.integers(0, 120, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[2 + 9 * row : 8 + 9 * row, 1 + 7 * column : 6 + 7 * column] += 130
    return Split(images, labels)


def weights(model: keras.Model) -> list[np.ndarray]:
    return [variable.value.numpy(force=True).copy() for variable in model.weights]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def eager(recipe: Recipe, split: Split, steps: int) -> keras.Model:
    """The same training by Keras' own `train_on_batch`, in the order that the engine takes."""
    with keras.device("cpu"):
        model = build(recipe, 10)
        loss: keras.losses.Loss = keras.losses.SparseCategoricalCrossentropy()
        labels: np.ndarray = split.labels
        if recipe.one_hot:
            loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
            labels = np.eye(10, dtype=np.float32)[labels]
        model.compile(optimizer=keras_twin(recipe), loss=loss)
        for index in itertools.islice(orders(recipe, len(split)), steps):
            model.train_on_batch(split.images[index] / np.float32(255), labels[index])
    return model


def doubly_eager(recipe: Recipe, split: Split, steps: int) -> keras.Model:
    """The same in double precision, spelt out where Keras itself falls back to single."""
    with keras.device("cpu"):
        model, optimizer = build(recipe, 10), keras_twin(recipe)
        optimizer.build(model.trainable_variables)
        for index in itertools.islice(orders(recipe, len(split)), steps):
            model.zero_grad()
            outputs = torch.tensor(split.images[index] / 255.0)
            for layer in model.layers:
                if isinstance(layer, keras.layers.Dense):
                    outputs = layer.activation(outputs @ layer.kernel.value + layer.bias.value)
                elif isinstance(layer, keras.layers.BatchNormalization):
                    outputs = normalised(layer, outputs)
                else:
                    outputs = layer(outputs, training=True)
            loss = keras.losses.categorical_crossentropy(
                torch.tensor(np.eye(10)[split.labels[index]]),
                # Keras clips probabilities at 1e-7, a loss from logits does not.
                torch.log(outputs),
                from_logits=True,
                label_smoothing=recipe.label_smoothing,
            )
            loss.mean().backward()
            with torch.no_grad():
                optimizer.apply([variable.value.grad for variable in model.trainable_variables])
    return model


def normalised(layer: keras.layers.BatchNormalization, x: torch.Tensor) -> torch.Tensor:
    """Batch normalisation as Keras documents it."""
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), unbiased=False)
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        kept = moving.value.detach() * layer.momentum
        moving.assign(kept + value.detach() * (1 - layer.momentum))
    scaled = (x - mean) / torch.sqrt(variance + layer.epsilon)
    return scaled * layer.gamma.value + layer.beta.value


def orders(recipe: Recipe, count: int):
    for epoch in itertools.count(1):
        order = np.random.default_rng((recipe.seed, epoch)).permutation(count)
        for at in range(0, count, recipe.batch_size):
            yield order[at : at + recipe.batch_size]


EQUAL = [
    CONV,
    dataclasses.replace(CONV, name="conv-flat", head="flatten", one_hot=True, label_smoothing=0.1),
    dataclasses.replace(CONV, name="conv-rms", hidden=(3, 3), optimizer="rmsprop"),
]
PLAIN = {
    "epochs": 4,
    "validation": 0.0,
    "patience": None,
    "dropout": 0.0,
    "augment": "none",
    "averaging": 0.0,
    "schedule": "constant",
    "precision": "float32",
}


def name_of(recipe: Recipe) -> str:
    return recipe.name


def compared(recipe: Recipe, seed: int, reference=eager) -> float:
    """Return the largest relative difference of a weight after twenty steps."""
    # Smoothing needs one-hot labels in Keras; the arithmetic of the two forms is the same.
    one_hot = recipe.one_hot or recipe.label_smoothing > 0
    recipe = dataclasses.replace(recipe, **PLAIN, one_hot=one_hot)
    # The last batch of each epoch is shorter and has its own traced step.
    split = digits(4 * recipe.batch_size + recipe.batch_size // 2, seed)
    mine = weights(train(recipe, split, device="cpu").model)
    theirs = weights(reference(recipe, split, steps=20))
    return max(difference(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("recipe", [*RECIPES.values(), *EQUAL], ids=name_of)
def test_twenty_traced_steps_are_twenty_eager_ones(recipe: Recipe) -> None:
    # In double precision, so that rounding does not change a ReLU, a maximum or the sign of a gradient
    # near zero, which Adam turns into a full step. Small batches for convolutions, to save time.
    size = 8 if len(recipe.hidden) < 10 else 2
    size = recipe.batch_size if recipe.architecture == "dense" else size
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        recipe = dataclasses.replace(recipe, batch_size=size)
        assert compared(recipe, seed=0, reference=doubly_eager) <= 1e-7
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    # Each optimizer with each form of the labels, and convolutions.
    "recipe",
    [*(RECIPES[name] for name in ("dense-256-128", "dense-512", "dense-128-128")), *EQUAL],
    ids=name_of,
)
def test_twenty_traced_steps_are_twenty_eager_ones_in_single_precision(recipe: Recipe) -> None:
    # Here rounding may change one: Keras differs as much from itself if its first weights are scaled
    # by 1 + 1e-7. So one of a few data sets must agree; a wrong step agrees on none.
    worst = []
    for seed in range(12):
        worst.append(compared(recipe, seed))
        if worst[-1] <= 1e-4:
            return
    pytest.fail(f"the least of the largest differences is {min(worst):.1e}")


def test_bfloat16_trains_nearly_the_same_and_saves_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(step, "has_bfloat16", lambda device: True)
    recipe = dataclasses.replace(CONV, epochs=3, validation=0.0, patience=None)
    split = digits(200, 0)
    single = train(recipe, split, device="cpu")
    half = train(dataclasses.replace(recipe, precision="bfloat16"), split, device="cpu")
    assert half.history[-1].loss == pytest.approx(single.history[-1].loss, rel=0.05)
    assert half.history[-1].loss != single.history[-1].loss
    assert {variable.dtype for variable in half.model.weights} == {"float32"}


def test_a_processor_without_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "has_bfloat16", lambda device: False)
    recipe = dataclasses.replace(CONV, epochs=1, validation=0.0, patience=None)
    asked = dataclasses.replace(recipe, precision="bfloat16")
    single, half = (train(one, digits(200, 0), device="cpu") for one in (recipe, asked))
    assert half.history[0].loss == single.history[0].loss


@pytest.mark.parametrize("kind", [Adam, RMSprop])
def test_the_generic_optimizer_is_the_fused_one(kind: type[Adam] | type[RMSprop]) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(1000), [torch.randn(1000) for _ in range(20)]
    results = []
    for fused in (True, False):
        values, gradient = start.clone(), torch.zeros(1000)
        optimizer = kind(values, gradient, fused=fused)
        for number, value in enumerate(gradients, 1):
            gradient.copy_(value)
            optimizer.prepare(number, 0.01)
            optimizer.apply()
        results.append(values)
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_capturing_does_not_change_the_run() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tensor = torch.ones(4)
    with unchanged([tensor]):
        tensor.add_(torch.rand(4))
    assert tensor.tolist() == [1.0] * 4
    assert torch.equal(torch.rand(2), expected)


def test_a_step_that_is_captured_is_the_step_that_is_replayed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The function that a CUDA graph would record is run directly: every address is fixed, every number
    # of a step is in a tensor, and an index that is refilled selects the images of a batch.
    def record(work, touched):
        with unchanged(touched), torch.inference_mode():
            work()
        addresses = [tensor.data_ptr() for tensor in touched]

        def replay() -> None:
            work()
            assert [tensor.data_ptr() for tensor in touched] == addresses

        return replay

    monkeypatch.setattr(sessions, "capture", record)
    split = digits(72)
    for recipe in (TINY, dataclasses.replace(CONV, dropout=0.3, averaging=0.9)):
        results = []
        for captures in (False, True):
            torch.manual_seed(0)
            with keras.device("cpu"):
                model = build(recipe, 10)
            model.compile(optimizer=keras_twin(recipe), loss="sparse_categorical_crossentropy")
            session = Session(recipe, model, split, None, torch.device("cpu"))
            session.captures = captures
            with torch.inference_mode():
                session.begin_epoch(torch.arange(72))
                for _ in range(session.steps_per_epoch):
                    session.advance(0.001)
            results.append((session.live(), session.mean(72)))
        assert results[0][1] == results[1][1]
        for replayed, captured in zip(results[0][0], results[1][0], strict=True):
            assert torch.equal(replayed, captured)


def test_the_history_does_not_depend_on_callbacks_and_console() -> None:
    class Watching(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            assert logs["loss"] > 0

    recipe, split = dataclasses.replace(TINY, batch_size=7), digits(100)
    alone, watched = (
        train(recipe, split, device="cpu", callbacks=callbacks).history
        for callbacks in ([], [Watching()])
    )
    assert [(e.loss, e.accuracy) for e in alone] == [(e.loss, e.accuracy) for e in watched]


def test_a_run_learns_and_reports_each_epoch() -> None:
    started = time.monotonic()
    trained = train(
        dataclasses.replace(TINY, validation=0.25, epochs=20), digits(400), device="cpu"
    )
    assert [epoch.number for epoch in trained.history] == list(range(1, 21))
    assert trained.history[-1].val_accuracy is not None
    assert trained.history[-1].val_accuracy > 0.9
    assert trained.history[-1].loss < trained.history[0].loss
    assert trained.history[0].learning_rate == pytest.approx(0.001)
    assert 0 < trained.fit_seconds < time.monotonic() - started
    assert not trained.interrupted


def test_validation_is_what_keras_evaluates() -> None:
    split = digits(200)
    recipe = dataclasses.replace(CONV, validation=0.2, epochs=2)
    trained = train(recipe, split, device="cpu")
    held = split.images[160:] / np.float32(255)
    loss, accuracy = trained.model.evaluate(held, split.labels[160:], verbose=0)
    assert trained.history[-1].val_loss == pytest.approx(loss, abs=1e-5)
    assert trained.history[-1].val_accuracy == pytest.approx(accuracy)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    recipe = dataclasses.replace(CONV, dropout=0.3, augment="light", epochs=2)

    def run(seed: int) -> bytes:
        split = digits(100)
        trained = train(dataclasses.replace(recipe, seed=seed), split, device="cpu")
        return b"".join(array.tobytes() for array in weights(trained.model))

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(dataclasses.replace(TINY, epochs=1, dropout=0.5), digits(64), device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_dropout_drops_its_share_anew_at_each_step() -> None:
    recipe = dataclasses.replace(TINY, hidden=(2000,), dropout=0.3, learning_rate=1e-12)
    split = digits(32)
    with keras.device("cpu"):
        model = build(recipe, 10)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    session = Session(recipe, model, split, None, torch.device("cpu"))
    dead = []
    with torch.inference_mode():
        for _ in range(10):
            session.begin_epoch(torch.arange(32))
            session.advance(1e-12)
            # A unit dropped in all 32 images would have no gradient. So the shares are compared: the
            # gradient of the last kernel is linear in the units that are kept.
            dead.append(session.gradient.views[2].clone())
    assert not torch.equal(dead[0], dead[1])
    # With inverted dropout the mean over many steps equals that without dropout.
    plain = Session(
        dataclasses.replace(recipe, dropout=0.0),
        _copy_without_dropout(recipe, model),
        split,
        None,
        torch.device("cpu"),
    )
    with torch.inference_mode():
        plain.begin_epoch(torch.arange(32))
        plain.advance(1e-12)
    mean, expected = torch.stack(dead).mean(0), plain.gradient.views[2]
    assert torch.dot(mean.flatten(), expected.flatten()) / expected.square().sum() == pytest.approx(
        1, abs=0.05
    )


def _copy_without_dropout(recipe: Recipe, model: keras.Model) -> keras.Model:
    with keras.device("cpu"):
        plain = build(dataclasses.replace(recipe, dropout=0.0), 10)
    plain.set_weights(weights(model))
    plain.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    return plain


def test_an_eleventh_class_is_learnt_too() -> None:
    split = digits(128)
    labels = split.labels.copy()
    labels[:10] = 10
    trained = train(dataclasses.replace(TINY, epochs=1), Split(split.images, labels), device="cpu")
    assert trained.model.output_shape == (None, 11)


def test_one_cycle_rises_and_falls_in_straight_lines() -> None:
    recipe = dataclasses.replace(TINY, schedule="one-cycle", warmup=0.25)
    rates = [schedule(recipe, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[24] == 1.0
    assert rates[99] == pytest.approx(1 / 75)
    trained = train(recipe, digits(64), device="cpu")
    assert trained.history[-1].learning_rate < trained.history[0].learning_rate


def test_averaged_weights_are_what_is_validated_and_kept() -> None:
    recipe = dataclasses.replace(TINY, averaging=0.9, validation=0.25, epochs=2)
    split = digits(200)
    averaged = train(recipe, split, device="cpu")
    plain = train(dataclasses.replace(recipe, averaging=0.0), split, device="cpu")
    assert averaged.history[0].loss == plain.history[0].loss
    assert averaged.history[0].val_loss != plain.history[0].val_loss
    held = split.images[150:] / np.float32(255)
    loss = averaged.model.evaluate(held, split.labels[150:], verbose=0)[0]
    assert averaged.history[-1].val_loss == pytest.approx(loss, abs=1e-5)


def test_early_stopping_restores_the_best_epoch() -> None:
    rng = np.random.default_rng(0)
    noise = Split(
        rng.integers(0, 255, (120, 28, 28)).astype(np.uint8),
        rng.integers(0, 10, 120).astype(np.uint8),
    )
    recipe = dataclasses.replace(TINY, validation=0.5, patience=2, epochs=60, learning_rate=0.01)
    trained = train(recipe, noise, device="cpu")
    losses = [epoch.val_loss for epoch in trained.history if epoch.val_loss is not None]
    assert len(losses) == losses.index(min(losses)) + 3 < 60
    held = noise.images[60:] / np.float32(255)
    assert trained.model.evaluate(held, noise.labels[60:], verbose=0)[0] == pytest.approx(
        min(losses), abs=1e-5
    )


class Diary(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, object]] = []

    def on_train_begin(self, logs=None):
        self.calls.append(("begin", dict(self.params)))

    def on_epoch_end(self, epoch, logs=None):
        self.calls.append(("epoch", (epoch, sorted(logs))))

    def on_train_end(self, logs=None):
        self.calls.append(("end", sorted(logs)))


def test_callbacks_get_the_same_calls_as_from_keras(tmp_path: Path) -> None:
    diary, table = Diary(), keras.callbacks.CSVLogger(tmp_path / "log.csv")
    recipe = dataclasses.replace(TINY, validation=0.25, epochs=2)
    split = digits(200)
    trained = train(recipe, split, device="cpu", callbacks=[diary, table])
    names = ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert diary.calls == [
        ("begin", {"epochs": 2, "steps": 5, "verbose": 0}),
        ("epoch", (0, names)),
        ("epoch", (1, names)),
        ("end", names),
    ]
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,accuracy,loss,val_accuracy,val_loss"
    assert float(lines[2].split(",")[2]) == pytest.approx(trained.history[1].loss)
    assert trained.model.history.history["loss"] == [epoch.loss for epoch in trained.history]


def test_batch_hooks_are_called_if_a_callback_has_them() -> None:
    class Batches(keras.callbacks.Callback):
        seen: list[tuple[int, float]] = []  # noqa: RUF012

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append((batch, logs["loss"]))
            if len(self.seen) == 4:
                self.model.stop_training = True

    hooks = Batches()
    trained = train(TINY, digits(100), device="cpu", callbacks=[hooks])
    assert [batch for batch, _ in hooks.seen] == [0, 1, 2, 3]
    assert len(trained.history) == 1
    assert trained.history[0].loss == pytest.approx(hooks.seen[-1][1])


def test_callbacks_can_change_the_learning_rate_and_stop_the_training() -> None:
    halving = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01 / 2**epoch)
    trained = train(TINY, digits(64), device="cpu", callbacks=[halving])
    assert [epoch.learning_rate for epoch in trained.history] == pytest.approx(
        [0.01, 0.005, 0.0025]
    )
    frozen = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.0)
    still = train(dataclasses.replace(TINY, epochs=1), digits(64), device="cpu", callbacks=[frozen])
    with keras.device("cpu"):
        fresh = build(TINY, 10)
    for a, b in zip(weights(still.model), weights(fresh), strict=True):
        np.testing.assert_array_equal(a, b)
    early = keras.callbacks.EarlyStopping(monitor="loss", min_delta=100, patience=1)
    stopped = train(
        dataclasses.replace(TINY, epochs=20), digits(64), device="cpu", callbacks=[early]
    )
    assert len(stopped.history) == 2
    assert not stopped.interrupted


def test_keras_can_train_the_model_further() -> None:
    split = digits(64)
    trained = train(dataclasses.replace(TINY, epochs=1), split, device="cpu")
    before = weights(trained.model)[0].copy()
    with keras.device("cpu"):
        trained.model.fit(split.images / np.float32(255), split.labels, verbose=0)
    assert not np.array_equal(before, weights(trained.model)[0])


def test_without_a_terminal_each_epoch_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(force_terminal=False, width=60)
    train(dataclasses.replace(TINY, validation=0.25), digits(64), device="cpu", console=console)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 1/3  loss ")
    assert "  val_accuracy " in lines[2]
    assert lines[2].endswith(" s")


def test_without_a_terminal_a_long_epoch_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0.0)
    console = Console(force_terminal=False, width=60)
    recipe = dataclasses.replace(TINY, epochs=1, batch_size=16)
    train(recipe, digits(64), device="cpu", console=console)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    for line, share in zip(lines, (25, 50, 75, 100), strict=False):
        assert line.startswith(f"epoch 1/1, {share}%  loss ")
    assert all(re.search(r" images/s, \d\d:\d\d left$", line) for line in lines[1:-1])
    assert lines[-1].startswith("epoch 1/1  loss ")


def test_a_terminal_shows_one_moving_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(force_terminal=True, width=100)
    train(TINY, digits(64), device="cpu", console=console)
    out = capsys.readouterr().out
    assert "epoch 3/3  loss" in out
    assert out.count("\n") <= 2


def test_an_unavailable_device_is_refused_with_a_list_of_the_others() -> None:
    with pytest.raises(
        UnavailableError, match="device 'cuda:99' is not available; choose from: auto, cpu"
    ):
        train(TINY, digits(32), device="cuda:99")
    assert find_device("cpu") == torch.device("cpu")


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        train(dataclasses.replace(TINY, validation=0.1), digits(1), device="cpu")


def test_resuming_without_a_checkpoint_is_refused() -> None:
    with pytest.raises(UsageError, match="resume needs a checkpoint"):
        train(TINY, digits(32), device="cpu", resume=True)


def test_a_diverged_run_says_so() -> None:
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                self.model.layers[1].kernel.assign(np.full((784, 16), np.nan))

    with pytest.raises(DigitryError, match=r"tiny, epoch 2: the loss is nan; lower learning_rate"):
        train(TINY, digits(64), device="cpu", callbacks=[Spoil()])


class LastStepSpoilt(keras.callbacks.Callback):
    """Weights that a last step spoils: its own loss, taken before, is still a number."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.layers[1].kernel.assign(np.full((784, 16), np.nan))
        self.model.stop_training = True


class SpoiltAndStopped(LastStepSpoilt):
    """Somebody sees `loss nan`, and presses Ctrl-C."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            super().on_train_batch_end(batch, logs)
            self.model.stop_training = False
        else:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    ("callback", "validation", "told"),
    [
        (LastStepSpoilt, 0.0, "the sum of the weights is nan"),
        (LastStepSpoilt, 0.5, "the loss on held-out images is nan"),
        (SpoiltAndStopped, 0.0, "the loss is nan"),
    ],
)
def test_weights_that_are_not_finite_are_an_error(
    callback: type[keras.callbacks.Callback], validation: float, told: str
) -> None:
    recipe = dataclasses.replace(TINY, validation=validation)
    with pytest.raises(DigitryError, match=f"tiny, epoch 1: {told}; lower learning_rate"):
        train(recipe, digits(200), device="cpu", callbacks=[callback()])


def test_weights_that_a_callback_puts_back_at_the_end_are_kept() -> None:
    best = keras.callbacks.EarlyStopping(
        monitor="val_loss", mode="max", patience=9, restore_best_weights=True
    )
    recipe = dataclasses.replace(TINY, averaging=0.9, validation=0.25)
    split = digits(200)
    trained = train(recipe, split, device="cpu", callbacks=[best])
    losses = [epoch.val_loss for epoch in trained.history]
    assert losses[0] == max(losses)
    held = split.images[150:] / np.float32(255)
    loss = trained.model.evaluate(held, split.labels[150:], verbose=0)[0]
    assert loss == pytest.approx(losses[0], abs=1e-5)


def test_labels_that_the_model_has_no_output_for_are_refused() -> None:
    split = digits(64)
    eleven = Split(split.images, np.where(split.labels == 3, 10, split.labels).astype(np.uint8))
    with pytest.raises(DataError, match="the training images: have 11 classes, but the model has"):
        train(TINY, eleven, device="cpu", initial_model=lambda: build(TINY, 10))


def test_targets_of_ten_digits_teach_a_model_of_eleven_labels() -> None:
    split = digits(64)
    recipe = dataclasses.replace(TINY, distil=0.5)
    eleven = [
        train(
            recipe, split, device="cpu", initial_model=lambda: build(recipe, 11), targets=targets
        ).model.get_weights()
        for targets in (np.eye(10, dtype=np.float32), np.eye(11, dtype=np.float32))
        for targets in (targets[split.labels],)
    ]
    for a, b in zip(*eleven, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:132] DefaultCPUAllocator: can't allocate"),
    ],
)
def test_a_training_that_does_not_fit_into_memory_says_so(error: Exception) -> None:
    def start() -> keras.Model:
        raise error

    with pytest.raises(DigitryError, match="recipe tiny: needs more memory than cpu has; lower"):
        train(TINY, digits(64), device="cpu", initial_model=start)


def test_an_empty_buffer_is_on_the_device() -> None:
    assert Flat.of([], torch.device("meta")).buffer.device.type == "meta"


def test_ctrl_c_after_the_last_step_is_reported_and_interrupts_nothing() -> None:
    class Late(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            os.kill(os.getpid(), signal.SIGINT)

    trained = train(TINY, digits(64), device="cpu", callbacks=[Late()])
    assert trained.told_to_stop
    assert not trained.interrupted
    assert not train(TINY, digits(64), device="cpu").told_to_stop


@pytest.fixture(scope="module")
def interrupted() -> list[list[str]]:
    """What a process prints that is interrupted twice in one training, and once in the next."""
    script = """
        import signal, os, sys
        sys.path.insert(0, sys.argv[1])
        from digitry.training.network.import_keras import import_keras
        import_keras()
        from test_train import TINY, digits, keras, train
        import dataclasses

        class Impatient(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)

        class Interrupt(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if self.epochs == 1 and batch == 1:
                    os.kill(os.getpid(), signal.SIGINT)
            epochs = 0
            def on_epoch_end(self, epoch, logs=None):
                self.epochs += 1

        before = signal.getsignal(signal.SIGINT)
        try:
            train(TINY, digits(200), device="cpu", callbacks=[Impatient()])
        except KeyboardInterrupt:
            print("raised")
        assert signal.getsignal(signal.SIGINT) is before
        trained = train(dataclasses.replace(TINY, epochs=50), digits(200), device="cpu",
                        callbacks=[Interrupt()])
        assert signal.getsignal(signal.SIGINT) is before
        out = trained.model(digits(3).images / 255.0).sum().item()
        print(trained.interrupted, len(trained.history), round(out, 3))
    """
    done = _python(script)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def test_ctrl_c_ends_after_the_step_with_a_valid_model(interrupted: list[list[str]]) -> None:
    assert interrupted[1] == ["True", "1", "3.0"]


def test_a_second_ctrl_c_raises(interrupted: list[list[str]]) -> None:
    assert interrupted[0] == ["raised"]


def test_in_another_thread_signals_are_not_touched() -> None:
    results: list[Trained] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(
        target=lambda: results.append(
            train(dataclasses.replace(TINY, epochs=1), digits(64), device="cpu")
        )
    )
    thread.start()
    thread.join()
    assert len(results) == 1
    assert signal.getsignal(signal.SIGINT) is before


def _python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(Path(__file__).parent), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_keras_goes_on_with_the_optimizer_where_ours_stopped(optimizer: str) -> None:
    recipe = dataclasses.replace(TINY, optimizer=optimizer, epochs=1)
    split = digits(96)
    trained = train(recipe, split, device="cpu")
    theirs = eager(recipe, split, steps=3)
    assert int(trained.model.optimizer.iterations.value) == 3
    with keras.device("cpu"):
        for model in (trained.model, theirs):
            model.train_on_batch(split.images / np.float32(255), split.labels)
    for a, b in zip(weights(trained.model), weights(theirs), strict=True):
        assert difference(a, b) < 1e-3


def test_threads_are_those_that_are_free_and_a_resumed_run_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in processors.THREADS:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    recipe = dataclasses.replace(CONV, epochs=1)
    kept = tmp_path / "checkpoint.npz"
    torch.set_num_threads(3)
    try:
        monkeypatch.setattr(processors, "free", lambda: 2)
        assert train(recipe, digits(64, 0), device="cpu", checkpoint=kept).threads == 2
        monkeypatch.setattr(processors, "free", lambda: 1)
        longer = dataclasses.replace(recipe, epochs=2)
        again = train(longer, digits(64, 0), device="cpu", checkpoint=kept, resume=True)
        assert again.threads == 2
        assert train(recipe, digits(64, 0), device="cpu").threads == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert train(recipe, digits(64, 0), device="cpu").threads == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
