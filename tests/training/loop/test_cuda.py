"""On a CUDA device the same recipes train, save in agreeing formats, and reach the same accuracy."""

import dataclasses
from pathlib import Path

import pytest
import torch

from digitry.model.load import load_model
from digitry.training import run
from digitry.training.data.dataset import Dataset
from digitry.training.loop.batches import Batches
from digitry.training.loop.train import train
from digitry.training.recipes import RECIPES, Recipe

from .test_train import digits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

TINY = Recipe(name="tiny", hidden=(32,), batch_size=32, epochs=6, learning_rate=3e-3)
DENSE = dataclasses.replace(TINY, averaging=0.9, dropout=0.2, validation=0.25)
CONV = dataclasses.replace(RECIPES["conv-fast"], batch_size=50, epochs=4)
BENT = dataclasses.replace(
    RECIPES["conv-small"], batch_size=64, epochs=8, augment="elastic", averaging=0.8
)


DATA = Dataset("digits", digits(520, 1), digits(200, 2), "6" * 64, "free", "drawn here")


@pytest.mark.parametrize("recipe", [TINY, DENSE, CONV, BENT], ids=lambda recipe: recipe.name)
def test_a_whole_run_is_trained_saved_and_measured(recipe: Recipe, tmp_path: Path) -> None:
    made = run.train_run(recipe, DATA, tmp_path / "run", device="cuda")
    assert made.metrics["device"] == "cuda:0"
    assert made.test.accuracy > 0.5
    assert load_model(tmp_path / "run").metadata.scores["digits/test/accuracy"] > 0.5


@pytest.mark.parametrize("augment", ["none", "light", "elastic"])
def test_a_seed_means_the_same_images_in_the_same_order(augment: str) -> None:
    images = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        train = DATA.train
        batches = Batches(train.images, train.labels, device, augment=augment)
        buffers = batches.buffers(len(train), 1, torch.eye(10, device=device))
        buffers.fill(batches.begin(5, 2))
        images.append(buffers.glyphs.cpu())
    # A rounded coordinate moves a sharp edge a little.
    torch.testing.assert_close(*images, rtol=0, atol=1e-3)


def test_a_seed_means_the_same_initial_weights() -> None:
    still = dataclasses.replace(CONV, epochs=1, learning_rate=1e-12, averaging=0.0)
    here, there = (train(still, DATA.train, device=device).model for device in ("cpu", "cuda"))
    for a, b in zip(here.trainable_variables, there.trainable_variables, strict=True):
        torch.testing.assert_close(a.value.cpu(), b.value.cpu(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("augment", ["none", "elastic"])
def test_the_captured_step_learns_what_the_step_on_the_processor_learns(augment: str) -> None:
    recipe = dataclasses.replace(TINY, epochs=2, augment=augment)
    here, there = (train(recipe, DATA.train, device=device) for device in ("cpu", "cuda"))
    for a, b in zip(here.history, there.history, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one CUDA device")
def test_a_second_device_is_trained_on_where_it_is_named() -> None:
    trained = train(TINY, DATA.train, device="cuda:1")
    assert trained.history[-1].loss < trained.history[0].loss / 2
