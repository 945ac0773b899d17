"""Which settings a sweep compares."""

import dataclasses
import math

import pytest

from digitry.errors import UsageError
from digitry.training.grid import HELD_OUT, LISTS, Range, parse_axes, plan_of, text_of
from digitry.training.recipes import RECIPES

DENSE = RECIPES["dense-128-128"]


def test_values_stand_apart_by_comma_or_bar_and_layers_by_bar_alone() -> None:
    axes = parse_axes(
        ["lr=1e-3,3e-3", "hidden=128|256,128", "batch_size=32|64", "dropout=0.1..0.5"]
    )
    assert axes == {
        "learning_rate": ("1e-3", "3e-3"),
        "hidden": ("128", "256,128"),
        "batch_size": ("32", "64"),
        "dropout": Range(0.1, 0.5),
    }
    assert parse_axes(["hidden=256,128"]) == {"hidden": ("256,128",)}


def test_every_field_that_holds_a_list_is_known() -> None:
    lists = {field.name for field in dataclasses.fields(DENSE) if "tuple" in str(field.type)}
    assert lists == set(LISTS)


def test_a_grid_is_every_combination_with_every_seed() -> None:
    axes = parse_axes(["learning_rate=1e-3,3e-3", "hidden=128|256,128"])
    plan = plan_of(DENSE, axes, seeds=3, epochs=2)
    assert plan.settings == (
        {"learning_rate": "0.001", "hidden": "128"},
        {"learning_rate": "0.001", "hidden": "256x128"},
        {"learning_rate": "0.003", "hidden": "128"},
        {"learning_rate": "0.003", "hidden": "256x128"},
    )
    assert plan.seeds == (0, 1, 2)
    assert len(plan.trainings) == 12
    # All settings with the first seed come before any with the second.
    assert [seed for _, seed in plan.trainings] == [0] * 4 + [1] * 4 + [2] * 4
    assert plan.recipe.epochs == 2


def test_a_recipe_that_holds_nothing_out_does_so_in_a_sweep() -> None:
    axes = parse_axes(["dropout=0,0.2"])
    assert plan_of(DENSE, axes).recipe.validation == HELD_OUT
    assert plan_of(RECIPES["dense-128"], axes).recipe.validation == 0.2


def test_a_value_that_stands_there_twice_is_trained_once() -> None:
    assert len(plan_of(DENSE, parse_axes(["learning_rate=1e-3,0.001,none"])).settings) == 2


def test_a_random_search_draws_different_settings_and_the_same_ones_each_time() -> None:
    axes = parse_axes(["learning_rate=1e-4,1e-3,1e-2", "batch_size=16,32,64,128"])
    plan = plan_of(DENSE, axes, draws=5)
    assert len(plan.settings) == 5
    assert len({tuple(setting.items()) for setting in plan.settings}) == 5
    assert plan == plan_of(DENSE, axes, draws=5)
    assert len(plan_of(DENSE, axes, draws=100).settings) == 12


def test_ranges_are_drawn_from_evenly_a_learning_rate_by_its_logarithm() -> None:
    axes = parse_axes(["learning_rate=1e-5..1e-1", "dropout=0..0.5", "batch_size=8..512"])
    plan = plan_of(DENSE, axes, draws=400)
    rates = [math.log10(float(setting["learning_rate"])) for setting in plan.settings]
    drops = [float(setting["dropout"]) for setting in plan.settings]
    sizes = [int(setting["batch_size"]) for setting in plan.settings]
    assert min(rates) >= -5 and max(rates) <= -1
    assert sum(rates) / len(rates) == pytest.approx(-3, abs=0.2)
    assert min(drops) >= 0 and max(drops) <= 0.5
    assert sum(drops) / len(drops) == pytest.approx(0.25, abs=0.03)
    assert sorted(sizes)[200] == pytest.approx(64, rel=0.35)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["learning_rate"], "write field=value,value"),
        (["learning_rate="], "write field=value,value"),
        (["lr=1e-3", "learning_rate=1e-2"], "twice"),
        (["seed=1,2"], "--seeds"),
        (["validation=0.1,0.2"], "the same for all"),
        (["epochs=1,2"], "--epochs"),
        (["data=uci"], "the same for all"),
        (["hidden=1..5"], "has no range"),
        (["optimizer=a..b"], "has no range"),
        (["dropout=a..b"], "write low..high"),
        (["dropout=0.5..0.1"], "lower end"),
        (["dropout=0..inf"], "lower end"),
        (["learning_rate=0..1"], "above 0"),
        (["lr=0.1,"], "'lr=0.1,' has an empty value"),
        (["lr=0.1,,0.2"], "has an empty value"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(settings: list[str], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_axes(settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ([], {}, "nothing to vary"),
        (["depth=1,2"], {}, "no field 'depth'"),
        (["depth=1..2"], {"draws": 2}, "no field 'depth'"),
        (["learning_rate=1e-3,fast"], {}, "'fast' does not do"),
        (["dropout=0.1,1.5"], {}, "dropout"),
        (["dropout=0.1..0.2"], {}, "add --random"),
        (["dropout=0.1"], {"seeds": 0}, "1 or more"),
        (["dropout=0.1"], {"draws": 0}, "1 or more"),
        (["dropout=0.1"], {"epochs": 0}, "epochs"),
        (
            ["dropout=0.1,0.2"],
            {"seeds": 6000},
            "12,000 trainings; 10,000 are the most; give --random",
        ),
        (["dropout=0.1"], {"seeds": 20_000}, "give fewer --seeds"),
        (["distil=0,0.5"], {}, "no teacher"),
    ],
)
def test_a_plan_that_cannot_be_trained_is_refused_before_anything_is(
    settings: list[str], options: dict[str, int], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        plan_of(DENSE, parse_axes(settings), **options)
    assert words in str(caught.value)


def test_values_are_written_as_set_takes_them() -> None:
    for name, value in {
        "hidden": (256, 128),
        "learning_rate": 0.0012345678,
        "patience": None,
        "one_hot": True,
        "optimizer": "adam",
    }.items():
        if name != "patience":
            assert getattr(DENSE.override({name: text_of(value)}), name) == value
    assert text_of(None) == "none"
