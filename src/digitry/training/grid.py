"""Which settings a sweep compares: every combination of values, or some drawn by chance.

A random search draws from the grid, or from ranges (Bergstra & Bengio 2012, "Random Search for
Hyper-Parameter Optimization", JMLR 13: 281-305).
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from digitry.errors import UsageError
from digitry.training.recipes import SHORT, Recipe

HELD_OUT = 1 / 6
"""Share of the training images that is held out where the recipe holds out none: MNIST's 10,000."""

MOST = 10_000
"""Most trainings of one sweep."""

FIXED = ("name", "summary", "seed", "data", "validation", "epochs")
"""Fields that are the same for every setting, or have an option of their own."""

LISTS = ("hidden", "kernels", "pools")
"""Fields whose values are lists of numbers, and so have commas of their own."""

LOGARITHMIC = ("learning_rate", "batch_size")
"""Fields whose ranges are drawn from evenly by their logarithm."""

Setting = Mapping[str, str]
"""Fields of a recipe and their values, in the text that `--set` takes."""


@dataclass(frozen=True)
class Range:
    """What a random search draws one field from, ends included."""

    low: float
    high: float


Axes = Mapping[str, tuple[str, ...] | Range]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep consists of.

    Attributes:
        recipe: what all trainings have in common.
        settings: what they differ in.
        seeds: with each of which every setting is trained.
    """

    recipe: Recipe
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that were swept."""
        return tuple(self.settings[0])

    @property
    def trainings(self) -> tuple[tuple[int, int], ...]:
        """Every (place of the setting, seed), in the order in which they are trained.

        Seed by seed, so that a sweep that is stopped early has seen all settings, if fewer times.
        """
        return tuple((place, seed) for seed in self.seeds for place in range(len(self.settings)))


def parse_axes(settings: Sequence[str]) -> dict[str, tuple[str, ...] | Range]:
    """Read what stands after `--set`.

    Args:
        settings: `field=value,value` or `field=value|value`; for `LISTS`, whose values have commas of
            their own, only the bar: `hidden=128|256,128`; for a random search also `field=low..high`.

    Raises:
        UsageError: one cannot be read, or stands there twice.
    """
    axes: dict[str, tuple[str, ...] | Range] = {}
    for text in settings:
        field, equals, values = (part.strip() for part in text.partition("="))
        name = SHORT.get(field, field)
        if not equals or not name or not values:
            raise UsageError(
                f"{text!r} is no setting", where="--set", remedy="write field=value,value"
            )
        if name in axes:
            raise UsageError(f"{name} stands there twice", where="--set", remedy="name it once")
        if name in FIXED:
            raise UsageError(
                f"{name} is the same for all settings",
                where="--set",
                remedy="--epochs and --seeds say it for all; the others stay as the recipe has them",
            )
        low, dots, high = values.partition("..")
        if dots:
            axes[name] = _range(name, low, high)
        else:
            listed = values.split("|" if "|" in values or name in LISTS else ",")
            found = tuple(value.strip() for value in listed)
            if "" in found:
                raise UsageError(
                    f"{text!r} has an empty value", where="--set", remedy="write field=value,value"
                )
            axes[name] = found
    return axes


def plan_of(
    recipe: Recipe,
    axes: Axes,
    *,
    seeds: int = 1,
    epochs: int | None = None,
    draws: int | None = None,
) -> Plan:
    """Lay out a sweep.

    Args:
        recipe: what is varied. If it holds out no images, `HELD_OUT` of them are.
        axes: values of each field, from `parse_axes`.
        seeds: trainings of each setting; the seeds count up from the recipe's.
        epochs: of each training; None = the recipe's.
        draws: settings of a random search; None = the whole grid.

    Raises:
        UsageError: a field or a value does not do, or there is too much or nothing to train.
    """
    if not axes:
        raise UsageError(
            "there is nothing to vary", where="--set", remedy="write field=value,value"
        )
    if seeds < 1 or (draws is not None and draws < 1):
        raise UsageError(
            "no training is asked for", remedy="give 1 or more of --seeds and --random"
        )
    base = replace(
        recipe,
        epochs=recipe.epochs if epochs is None else epochs,
        validation=recipe.validation or HELD_OUT,
    )
    ranges = [name for name, values in axes.items() if isinstance(values, Range)]
    if ranges and draws is None:
        raise UsageError(
            f"{ranges[0]} is a range, and a grid needs values", where="--set", remedy="add --random"
        )
    total = math.prod(1 if isinstance(values, Range) else len(values) for values in axes.values())
    count = total if draws is None else draws if ranges else min(draws, total)
    if count * seeds > MOST:
        fewer = "fewer --seeds" if draws is not None or count == 1 else "--random, or fewer --seeds"
        raise UsageError(
            f"that makes {count * seeds:,} trainings", remedy=f"{MOST:,} are the most; give {fewer}"
        )
    # Each setting goes through the recipe: what it refuses is refused now, and 1e-3 becomes 0.001.
    settings = []
    for setting in _combinations(axes, count, total, random.Random(recipe.seed)):
        made = base.override(setting)
        settings.append({name: text_of(getattr(made, name)) for name in axes})
        if made.distil:
            raise UsageError(
                "a sweep has no teacher to learn from", where="--set", remedy="leave distil at 0"
            )
    distinct = [setting for n, setting in enumerate(settings) if setting not in settings[:n]]
    return Plan(
        recipe=base,
        settings=tuple(distinct),
        seeds=tuple(range(recipe.seed, recipe.seed + seeds)),
    )


def _combinations(
    axes: Axes, count: int, total: int, chance: random.Random
) -> "list[dict[str, str]]":
    names = list(axes)
    if any(isinstance(values, Range) for values in axes.values()):
        return [
            {
                name: _drawn(name, values, chance)
                if isinstance(values, Range)
                else chance.choice(values)
                for name, values in axes.items()
            }
            for _ in range(count)
        ]
    lists = [values for values in axes.values() if not isinstance(values, Range)]
    if count == total:
        return [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*lists)]
    found = []
    for place in sorted(chance.sample(range(total), count)):
        setting, rest = {}, place
        for name, values in zip(names, lists, strict=True):
            rest, which = divmod(rest, len(values))
            setting[name] = values[which]
        found.append(setting)
    return found


def _range(name: str, low: str, high: str) -> Range:
    kinds = {field.name: field.type for field in fields(Recipe)}
    if name in kinds and kinds[name] not in (int, float, int | None, float | None):
        raise UsageError(
            f"{name} has no range", where="--set", remedy="list its values: field=value,value"
        )
    try:
        found = Range(float(low), float(high))
    except ValueError as error:
        raise UsageError(
            f"{low}..{high} is no range", where=f"--set {name}", remedy="write low..high"
        ) from error
    if not (math.isfinite(found.low) and math.isfinite(found.high) and found.low < found.high):
        raise UsageError(
            f"{low}..{high} is no range", where=f"--set {name}", remedy="begin with the lower end"
        )
    if name in LOGARITHMIC and found.low <= 0:
        raise UsageError(f"{name} is drawn by its logarithm", where="--set", remedy="begin above 0")
    return found


def _drawn(name: str, values: Range, chance: random.Random) -> str:
    if name in LOGARITHMIC:
        number = math.exp(chance.uniform(math.log(values.low), math.log(values.high)))
    else:
        number = chance.uniform(values.low, values.high)
    kind = next((field.type for field in fields(Recipe) if field.name == name), float)
    if kind in (int, int | None):
        return str(round(number))
    # Three figures: more would only look like knowledge.
    return f"{min(max(float(f'{number:.3g}'), values.low), values.high):g}"


def text_of(value: object) -> str:
    """Write the value of a recipe's field as `--set` takes it: `256x128`, `none`, `true`, `0.001`."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def words(setting: Setting) -> str:
    """Write a setting on one line: `hidden=256x128 learning_rate=0.003`."""
    return " ".join(f"{name}={value}" for name, value in setting.items())
