"""Recipes are checked data: complete, frozen, and clear about what they refuse."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from digitry.errors import UsageError
from digitry.training.recipes import RECIPES, Recipe, find

ROOT = Path(__file__).parents[2]

ANCESTORS = {
    "dense-256-128": ((256, 128), "adam", 200, True, 0.0),
    "dense-512": ((512,), "rmsprop", 128, True, 0.0),
    "dense-128-64": ((128, 64), "adam", 128, True, 0.2),
    "dense-128-128": ((128, 128), "adam", 32, False, 0.0),
    "dense-128": ((128,), "adam", 32, False, 0.2),
}


@pytest.mark.parametrize("name", ANCESTORS)
def test_the_ancestors_have_their_settings(name: str) -> None:
    recipe = find(name)
    found = (recipe.hidden, recipe.optimizer, recipe.batch_size, recipe.one_hot, recipe.validation)
    assert found == ANCESTORS[name]
    assert (recipe.epochs, recipe.learning_rate, recipe.architecture) == (10, None, "dense")
    assert (recipe.schedule, recipe.augment, recipe.averaging) == ("constant", "none", 0.0)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        find("dense-128").epochs = 3  # type: ignore[misc]


def test_settings_are_read_from_text() -> None:
    changed = find("dense-128").override(
        {"hidden": "64x32", "learning_rate": "1e-2", "one_hot": "yes", "patience": "3", "seed": "7"}
    )
    assert changed.hidden == (64, 32)
    assert (changed.learning_rate, changed.one_hot, changed.patience) == (0.01, True, 3)
    assert changed.override({"learning_rate": "none"}).learning_rate is None


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("hidden", ""),
        ("hidden", "0"),
        ("hidden", "a"),
        ("epochs", "0"),
        ("epochs", "1.5"),
        ("batch_size", "-1"),
        ("dropout", "1"),
        ("dropout", "nan"),
        ("learning_rate", "0"),
        ("learning_rate", "inf"),
        ("optimizer", "sgd"),
        ("one_hot", "perhaps"),
        ("head", "none"),
        ("kernels", ""),
        ("kernels", "4"),
        ("kernels", "29"),
        ("stride", "2"),
        ("stride", "0"),
        ("padding", "full"),
        ("pools", "2"),
        ("pools", "1,1"),
        ("schedule", "cosine"),
        ("validation", "0.95"),
        ("seed", "-1"),
        ("architecture", "transformer"),
    ],
)
def test_a_bad_setting_is_refused_by_name(field: str, text: str) -> None:
    with pytest.raises(UsageError, match=rf"recipe field {field}: .*; give "):
        find("dense-128").override({field: text})


def test_unknown_fields_and_recipes_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no field 'epoch'; did you mean epochs"):
        find("dense-128").override({"epoch": "3"})
    with pytest.raises(UsageError, match="no field 'units'"):
        Recipe.from_dict({"name": "x", "units": 3})
    with pytest.raises(UsageError, match="has no name"):
        Recipe.from_dict({"epochs": 3})
    with pytest.raises(UsageError, match="choose from: dense-256-128"):
        find("dense")


def test_the_kernels_of_a_convolution_are_read_from_text() -> None:
    conv = Recipe(name="conv", architecture="conv", hidden=(8, 8, 16))
    changed = conv.override({"kernels": "4,3", "stride": "2", "padding": "valid", "pools": "1,3"})
    assert (changed.kernels, changed.stride, changed.pools) == ((4, 3), 2, (1, 3))
    assert changed.override({"pools": "none"}).pools is None
    assert changed.override({"pools": ""}).pools == ()
    assert Recipe.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed


@pytest.mark.parametrize(
    "values", [{"epochs": True}, {"hidden": (1.5,)}, {"hidden": None}, {"name": 3}]
)
def test_wrong_types_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Recipe(**{"name": "x", **values})


def test_patience_needs_validation() -> None:
    with pytest.raises(UsageError, match="together with a validation share"):
        Recipe(name="x", patience=2)


def test_listing_recipes_loads_no_keras_and_no_torch() -> None:
    script = (
        "import sys, digitry.training.recipes; "
        "print(*(name for name in ('keras', 'torch', 'numpy') if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_default_seed_of_conv_fast_is_not_its_worst() -> None:
    record = json.loads((ROOT / "records" / "recipe-conv-fast.json").read_text())
    by_seed = record["values"]
    assert by_seed[RECIPES["conv-fast"].seed] > min(by_seed)
