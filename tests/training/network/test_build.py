"""The models are the ones that the recipes name, of standard layers, with weights of their seed."""

import dataclasses

import numpy as np
import pytest

from digitry.errors import UsageError
from digitry.training.network.build import build, keras
from digitry.training.recipes import RECIPES, Recipe

CONV = Recipe(name="conv", architecture="conv", hidden=(8, 8, 16))

PARAMETERS = {
    "dense-256-128": 235_146,
    "dense-512": 407_050,
    "dense-128-64": 109_386,
    "dense-128-128": 118_282,
    "dense-128": 101_770,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_ancestors_are_flatten_relu_layers_and_a_softmax(name: str) -> None:
    model = build(RECIPES[name], 10)
    assert model.count_params() == PARAMETERS[name]
    assert model.input_shape == (None, 28, 28)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Flatten", *["Dense"] * (len(RECIPES[name].hidden) + 1)]
    *hidden, last = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in hidden] == list(RECIPES[name].hidden)
    assert all(layer.activation is keras.activations.relu for layer in hidden)
    assert last.activation is keras.activations.softmax
    for layer in (*hidden, last):
        kernel, bias = (variable.value.numpy(force=True) for variable in layer.weights)
        limit = np.sqrt(6 / sum(kernel.shape))  # Glorot's uniform
        assert 0.95 * limit < np.abs(kernel).max() <= limit
        assert not bias.any()


@pytest.mark.parametrize(
    ("recipe", "least"),
    [
        # Would need a hundred gigabytes.
        (Recipe(name="d", hidden=(65_536,) * 7), 784 * 65_536 + 6 * 65_536**2 + 65_536 * 10),
        (Recipe(name="c", architecture="conv", hidden=(2_000, 2_000)), 9 * 2_000 + 9 * 2_000**2),
        # Nearly all parameters are in the last layer.
        (
            Recipe(name="f", architecture="conv", hidden=(2_048,), head="flatten"),
            9 * 2_048 + 4 * 2_048 + 28 * 28 * 2_048 * 10 + 10,
        ),
    ],
)
def test_a_network_too_large_for_a_model_file_is_refused_before_it_is_trained(
    recipe: Recipe, least: int
) -> None:
    with pytest.raises(
        UsageError, match=f"recipe field hidden: gives {least:,} parameters or more"
    ):
        build(recipe, 10)


def test_a_convolution_pools_where_channels_grow() -> None:
    model = build(dataclasses.replace(CONV, dropout=0.2), 11)
    kinds = [type(layer).__name__ for layer in model.layers]
    block = ["Conv2D", "BatchNormalization", "ReLU"]
    pooled = ["Conv2D", "MaxPooling2D", "BatchNormalization", "ReLU"]
    tail = ["GlobalAveragePooling2D", "Dropout", "Dense"]
    assert kinds == ["Reshape", *block, *pooled, *block, *tail]
    assert model.output_shape == (None, 11)
    flat = build(dataclasses.replace(CONV, head="flatten"), 10)
    assert flat.layers[-1].kernel.shape == (14 * 14 * 16, 10)


def test_kernels_strides_and_pools_are_those_of_the_recipe() -> None:
    recipe = dataclasses.replace(CONV, kernels=(4, 3), stride=2, padding="valid", pools=(2,))
    model = build(recipe, 10)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    # 28 -> 13 by a kernel of 4 with stride 2 -> 11 -> 5 by the pool -> 3
    assert [layer.kernel_size for layer in convolutions] == [(4, 4), (3, 3), (3, 3)]
    assert [layer.output.shape[1] for layer in convolutions] == [13, 11, 3]
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.index("MaxPooling2D") == kinds.index("Conv2D", 4) + 1
    assert kinds.count("MaxPooling2D") == 1
    unpooled = build(dataclasses.replace(CONV, pools=()), 10)
    assert not [one for one in unpooled.layers if isinstance(one, keras.layers.MaxPooling2D)]


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": (1, 2, 3, 4, 5, 6)},
        {"kernels": (15,), "padding": "valid"},
        {"kernels": (5,), "padding": "valid", "pools": (1, 2, 3)},
    ],
)
def test_a_recipe_that_shrinks_images_to_nothing_is_refused(values: dict) -> None:
    with pytest.raises(UsageError, match="shrinks a 28-pixel image to nothing"):
        build(dataclasses.replace(CONV, **values), 10)


def test_weights_depend_only_on_the_seed() -> None:
    def first(seed: int) -> np.ndarray:
        model = build(dataclasses.replace(CONV, seed=seed), 10)
        return model.weights[0].value.numpy(force=True).copy()

    keras.utils.set_random_seed(9)
    one = first(1)
    np.testing.assert_array_equal(one, first(1))
    assert not np.array_equal(one, first(2))


def test_layers_of_one_shape_do_not_share_their_weights() -> None:
    model = build(RECIPES["dense-128-128"].override({"hidden": "10,10,10"}), 10)
    kernels = [layer.kernel.value.numpy(force=True) for layer in model.layers[2:]]
    assert not np.array_equal(kernels[0], kernels[1])
