"""A small model instead of the shipped one: the tests here are not about the network."""

import io
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from digitry.model import artifact
from digitry.model.artifact import NOT_A_DIGIT, Metadata
from digitry.training.writing import pen


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model file with eleven classes, so sure of itself that reading asks nothing else."""
    weights = np.random.default_rng(0).normal(0, 8, (784, 11)).astype(np.float32)
    weights[:, 10] = 0
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["glyphs"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("glyphs", TensorProto.FLOAT, ["n", 28, 28])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 11]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 11]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    labels = (*map(str, range(10)), NOT_A_DIGIT)
    artifact.save(path, made.SerializeToString(), Metadata(name="tiny", labels=labels))
    return path


@pytest.fixture(scope="session")
def digits() -> list[bytes]:
    """Small pictures, PNG: each of ten digits in several hands, no two the same."""
    rng = np.random.default_rng(3)
    made = []
    for index in range(40):
        ink = pen.draw(pen.strokes_of(str(index % 10), 1), 20, 2.4, rng)
        page = np.zeros((28, 28), np.float32)
        part = ink[:26, :26]
        page[1 : 1 + part.shape[0], 1 : 1 + part.shape[1]] = part
        stream = io.BytesIO()
        Image.fromarray((255 - 200 * page).astype(np.uint8)).save(stream, "PNG")
        made.append(stream.getvalue())
    return made
