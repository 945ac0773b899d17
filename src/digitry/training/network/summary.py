"""Describes a Keras model: its layers as data, and as text for summary.txt."""

import math
from typing import Any

from digitry.training.network.build import keras


def summary_of(model: keras.Model) -> str:
    """Return a description of the model as text, independent of the terminal.

    Keras' own summary is cut to the terminal's width and counts the optimizer's state as parameters.
    """
    layers = layers_of(model)
    rows = [("Layer (type)", "Output Shape", "Param #", "Fed by")]
    for layer in layers:
        shape = ", ".join(str(size) for size in [None, *layer["output_shape"]])
        rows.append(
            (
                f"{layer['name']} ({layer['kind']})",
                f"({shape})",
                f"{layer['parameters']:,}",
                ", ".join(layer["inputs"]) or "–",
            )
        )
    names, shapes, counts, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [
        f"{name:<{names}}  {shape:<{shapes}}  {count:>{counts}}  {fed}"
        for name, shape, count, fed in rows
    ]
    rule = "-" * max(map(len, lines))
    trained, fixed = (
        sum(math.prod(weight.shape) for weight in weights)
        for weights in (model.trainable_weights, model.non_trainable_weights)
    )
    return "\n".join(
        [
            f"Model: {model.name}",
            "",
            lines[0],
            rule,
            *lines[1:],
            rule,
            f"Total params: {trained + fixed:,}",
            f"Trainable params: {trained:,}",
            f"Non-trainable params: {fixed:,}",
            "",
        ]
    )


def layers_of(model: keras.Model) -> list[dict[str, Any]]:
    """Return each layer's kind, output shape, number of parameters and inputs, for the plot."""
    found: list[dict[str, Any]] = []
    makers = {id(layer.output): layer.name for layer in model.layers}
    if id(model.inputs[0]) not in makers:
        # A sequential model does not list its input as a layer.
        name = model.get_config()["layers"][0]["config"]["name"]
        makers[id(model.inputs[0])] = name
        found.append(
            {
                "name": name,
                "kind": "InputLayer",
                "activation": None,
                "output_shape": list(model.input_shape[1:]),
                "parameters": 0,
                "inputs": [],
            }
        )
    for layer in model.layers:
        inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
        config = layer.get_config()
        found.append(
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "activation": config.get("activation"),
                "output_shape": list(layer.output.shape[1:]),
                "parameters": int(layer.count_params()),
                # The input of an input layer is its own output.
                "inputs": [makers[id(tensor)] for tensor in inputs if tensor is not layer.output],
            }
        )
    return found
