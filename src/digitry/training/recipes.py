"""The recipes: a model's architecture and training settings, as data. Does not import Keras."""

import dataclasses
import difflib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from digitry.errors import UsageError

ARCHITECTURES = ("dense", "conv")
OPTIMIZERS = ("adam", "rmsprop")
SCHEDULES = ("constant", "one-cycle")
AUGMENTATIONS = ("none", "light", "elastic")
HEADS = ("average", "flatten")
PADDINGS = ("same", "valid")
PRECISIONS = ("float32", "bfloat16")
SHORT = {"lr": "learning_rate"}
"""Short names of fields, for `--set`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a training; stored completely in every model file and checkpoint.

    Attributes:
        name: on the command line.
        summary: what it is for, in one line.
        architecture: `dense` (flatten, hidden ReLU layers, softmax) or `conv`.
        hidden: units of each hidden layer; for `conv`, channels of each convolution.
        kernels: for `conv`: side of each convolution's square kernel in pixels, odd with `padding`
            same; the last one is repeated for all convolutions that follow.
        stride: for `conv`: stride of the first convolution in pixels. 2 halves the side, for a quarter
            of the work; needs `padding` valid.
        padding: for `conv`: `same` keeps the side by zeros around the image; `valid` cuts off the
            border, which is empty in a glyph at first.
        pools: for `conv`: the convolutions, counted from 1, that a 2x2 max pool follows. None =
            wherever the number of channels grows.
        head: for `conv`: the input of the last layer: the `average` of each channel, or all values,
            `flatten`.
        dropout: share of the last hidden layer's units dropped in training, in [0, 1).
        optimizer: `adam` or `rmsprop`, with Keras' defaults except for the learning rate.
        learning_rate: step size, with a schedule the peak. None = Keras' default, 0.001.
        schedule: `constant`, or `one-cycle`: linear up over `warmup`, then linear down to 0.
        warmup: share of all steps in which the rate rises, in [0, 1); only with `one-cycle`.
        batch_size: images per step.
        epochs: passes over the training part.
        one_hot: True = one-hot labels with categorical cross-entropy, False = integer labels with
            sparse categorical cross-entropy. The arithmetic is the same; saved Keras files differ.
        label_smoothing: mass moved from the true label to all, in [0, 0.5).
        distil: weight of a teacher's probabilities in the loss, in [0, 1); the labels have the rest.
            0 = no teacher.
        validation: share of the training images, from the end, that is held out, as in Keras.
        augment: `none`; `light`: a random shift, rotation, zoom and shear of each image; or
            `elastic`: the same and a smooth deformation.
        precision: of the factors of matrix products and convolutions in training: `float32`, or
            `bfloat16`, which is twice as fast on devices with instructions for it; on others it is
            `float32`. All else is float32.
        averaging: decay per step of the exponential average of the weights that is saved; 0 = off.
        patience: epochs without a better validation loss until training stops; None = no early stopping.
        seed: of the initial weights, the order of images, dropout and augmentation.
        data: its data set.
    """

    name: str
    summary: str = ""
    architecture: str = "dense"
    hidden: tuple[int, ...] = (128,)
    kernels: tuple[int, ...] = (3,)
    stride: int = 1
    padding: str = "same"
    pools: tuple[int, ...] | None = None
    head: str = "average"
    dropout: float = 0.0
    optimizer: str = "adam"
    learning_rate: float | None = None
    schedule: str = "constant"
    warmup: float = 0.25
    batch_size: int = 128
    epochs: int = 10
    one_hot: bool = False
    label_smoothing: float = 0.0
    distil: float = 0.0
    validation: float = 0.0
    augment: str = "none"
    precision: str = "float32"
    averaging: float = 0.0
    patience: int | None = None
    seed: int = 0
    data: str = "mnist"

    def __repr__(self) -> str:
        """Return one line: the network, the optimizer, the batches and the epochs."""
        units = ", ".join(map(str, self.hidden))
        return (
            f"<Recipe {self.name}: {self.architecture} {units}; {self.optimizer}, batches of "
            f"{self.batch_size}, {self.epochs} epochs>"
        )

    def __post_init__(self) -> None:
        for name in ("hidden", "kernels", "pools"):
            if isinstance(values := getattr(self, name), list):
                object.__setattr__(self, name, tuple(values))
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name))
        _one_of("architecture", self.architecture, ARCHITECTURES)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("augment", self.augment, AUGMENTATIONS)
        _one_of("head", self.head, HEADS)
        _one_of("padding", self.padding, PADDINGS)
        _one_of("precision", self.precision, PRECISIONS)
        if not self.hidden or not all(1 <= units <= 65_536 for units in self.hidden):
            raise _wrong("hidden", list(self.hidden), "one or more layers of 1 to 65,536")
        # Libraries pad an even kernel differently: it has no middle.
        odd = self.padding == "same"
        if not self.kernels or not all(1 <= k <= 27 and (k % 2 or not odd) for k in self.kernels):
            raise _wrong("kernels", list(self.kernels), f"{'odd ' * odd}sizes from 1 to 27")
        pools = self.pools or ()
        if list(pools) != sorted(set(pools)) or not set(pools) <= {*range(1, len(self.hidden) + 1)}:
            raise _wrong(
                "pools", list(pools), f"rising numbers from 1 to {len(self.hidden)}, or none"
            )
        if self.stride > 1 and self.padding == "same":
            raise _wrong("stride", self.stride, "1, or padding=valid")
        if self.learning_rate is not None and not 0 < self.learning_rate <= 10:
            raise _wrong("learning_rate", self.learning_rate, "above 0, at most 10")
        for name, low, high in (
            ("batch_size", 1, 65_536),
            ("epochs", 1, 100_000),
            ("seed", 0, 2**31 - 1),
            ("stride", 1, 4),
        ):
            if not low <= getattr(self, name) <= high:
                raise _wrong(name, getattr(self, name), f"{low} to {high}")
        for name, limit in (
            ("dropout", 1.0),
            ("warmup", 1.0),
            ("label_smoothing", 0.5),
            ("distil", 1.0),
            ("validation", 0.9),
            ("averaging", 1.0),
        ):
            if not 0 <= getattr(self, name) < limit:
                raise _wrong(name, getattr(self, name), f"at least 0 and below {limit}")
        if self.patience is not None and (self.patience < 1 or self.validation == 0):
            raise _wrong("patience", self.patience, "at least 1, together with a validation share")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        values = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Recipe":
        """Return a recipe from its JSON form.

        Raises:
            UsageError: a field is unknown, missing, or out of range.
        """
        if "name" not in data:
            raise UsageError("the recipe has no name", remedy="add the field `name`")
        return cls(**{_known(key): value for key, value in data.items()})

    def override(self, settings: Mapping[str, str]) -> "Recipe":
        """Return a copy with some fields set from text, as in `--set field=value`.

        Raises:
            UsageError: a field is unknown, or its value is not valid.
        """
        full = {SHORT.get(name, name): text for name, text in settings.items()}
        values = {name: _parse(_known(name), text) for name, text in full.items()}
        return dataclasses.replace(self, **values)


def find(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        UsageError: there is no such recipe.
    """
    if name not in RECIPES:
        remedy = f"choose from: {', '.join(RECIPES)}"
        if name == "reader":
            remedy = "`digitry train reader` makes the whole reader; its recipe is called `glyph`"
        if name in ("lines", "finder"):
            remedy = f"`digitry train reader --part {name}` trains that network"
        raise UsageError(f"no recipe is called {name!r}", remedy=remedy)
    return RECIPES[name]


def _known(name: str) -> str:
    names = [field.name for field in dataclasses.fields(Recipe)]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        remedy = "`digitry recipes --format json` lists all"
        if near:
            remedy = f"did you mean {' or '.join(near)}? {remedy}"
        raise UsageError(f"a recipe has no field {name!r}", remedy=remedy)
    return name


def _kinds(hint: Any) -> tuple[type, ...]:
    """Return the types that a field with this annotation may have; a number may be a whole one."""
    parts = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = tuple(get_origin(part) or part for part in parts)
    return (int, *kinds) if float in kinds else kinds


_TYPES = {name: _kinds(hint) for name, hint in get_type_hints(Recipe).items()}


def _check_type(name: str, value: object) -> None:
    allowed = _TYPES[name]
    # In Python bool is a subclass of int, but `epochs = True` is a mistake.
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise _wrong(name, value, _wanted(allowed))
    if isinstance(value, tuple) and not all(type(part) is int for part in value):
        raise _wrong(name, value, "whole numbers")


def _parse(name: str, text: str) -> Any:
    kinds = _TYPES[name]
    try:
        if type(None) in kinds and text.lower() == "none":
            return None
        if tuple in kinds:
            return tuple(int(part) for part in text.replace("x", ",").split(",") if part)
        if bool in kinds:
            return {"true": True, "false": False, "yes": True, "no": False}[text.lower()]
        if float in kinds:
            return float(text)
        return int(text) if int in kinds else text
    except (KeyError, ValueError) as error:
        raise _wrong(name, text, _wanted(kinds)) from error


def _wanted(kinds: tuple[type, ...]) -> str:
    # "a number" includes whole numbers.
    named = [kind for kind in kinds if kind is not int or float not in kinds]
    return " or ".join(_WORDS[kind] for kind in named)


_WORDS = {
    tuple: "whole numbers with commas, such as 256,64", int: "a whole number", float: "a number",
    bool: "true or false", str: "text", type(None): "none",
}  # fmt: skip


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise _wrong(name, value, " or ".join(allowed))


def _wrong(name: str, value: object, wanted: str) -> UsageError:
    return UsageError(
        f"{value!r} is not valid", where=f"recipe field {name}", remedy=f"give {wanted}"
    )


# The ancestors: exactly the settings of five small Keras programs for beginners.
_ANCESTORS = (
    Recipe(
        name="dense-256-128",
        summary="two hidden layers, 256 and 128, in batches of 200",
        hidden=(256, 128), batch_size=200, one_hot=True,
    ),
    Recipe(
        name="dense-512",
        summary="one wide layer of 512, trained by RMSprop",
        hidden=(512,), optimizer="rmsprop", batch_size=128, one_hot=True,
    ),
    Recipe(
        name="dense-128-64",
        summary="128 and 64, a fifth of the training images held out",
        hidden=(128, 64), batch_size=128, one_hot=True, validation=0.2,
    ),
    Recipe(
        name="dense-128-128",
        summary="128 and 128, in batches of 32, integer labels",
        hidden=(128, 128), batch_size=32,
    ),
    Recipe(
        name="dense-128",
        summary="the smallest one: 128, in batches of 32, a fifth held out",
        hidden=(128,), batch_size=32, validation=0.2,
    ),
)  # fmt: skip

_GLYPH = Recipe(
    name="glyph",
    summary="the shipped reader's model of single digits: a small convolutional network",
    architecture="conv",
    # Multiples of 16, the width of the processor's vector registers. 20 channels run three times slower.
    hidden=(16, 48, 48, 96, 96, 128, 128),
    head="flatten",
    dropout=0.3,
    learning_rate=4e-3,
    schedule="one-cycle",
    warmup=0.2,
    batch_size=256,
    epochs=8,
    precision="bfloat16",
    label_smoothing=0.02,
    # At the end of this data set are glyphs of hands that are held out.
    validation=1 / 12,
    augment="light",
    averaging=0.998,
    data="glyphs",
)

_CONV_FAST = Recipe(
    name="conv-fast",
    summary="99% in about two seconds on two cores: three convolutions, one pass",
    architecture="conv",
    # With stride 2 in the first convolution the others have a quarter of the work.
    hidden=(16, 16, 96),
    kernels=(5, 3),
    stride=2,
    padding="valid",
    pools=(2,),
    head="flatten",
    learning_rate=0.02,
    schedule="one-cycle",
    warmup=0.3,
    # Divides 60,000: a shorter last batch would have to be traced separately.
    batch_size=200,
    epochs=1,
    label_smoothing=0.1,
    precision="bfloat16",
    averaging=0.9,
    # The lower median of seeds 0 to 5 on held-out training images: docs/log.md.
    seed=2,
)

_CONV_SMALL = Recipe(
    name="conv-small",
    summary="99.6% with 19,000 parameters: five small convolutions, trained for long",
    architecture="conv",
    hidden=(16, 16, 16, 32, 32),
    padding="valid",
    # Two pools leave 2x2 positions, each of which sees nearly the whole glyph.
    pools=(2, 4),
    learning_rate=0.01,
    schedule="one-cycle",
    batch_size=100,
    epochs=40,
    label_smoothing=0.02,
    augment="light",
    precision="bfloat16",
    averaging=0.998,
)

_FLAGSHIP = dataclasses.replace(
    _CONV_SMALL,
    name="flagship",
    summary="conv-small four times as wide: a little better, an hour on two cores",
    hidden=(64, 64, 64, 128, 128),
    # A wide network needs smaller steps.
    learning_rate=5e-3,
    epochs=60,
    averaging=0.999,
)


class Recipes(dict[str, Recipe]):
    """Recipes by name."""

    def __repr__(self) -> str:
        """Return a line a recipe."""
        return "\n".join(map(repr, self.values()))


RECIPES = Recipes(
    (recipe.name, recipe) for recipe in (*_ANCESTORS, _GLYPH, _CONV_FAST, _CONV_SMALL, _FLAGSHIP)
)
"""Every named recipe, in the order in which they are listed."""
