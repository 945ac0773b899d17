"""Models that people have: what each takes is found out, and it becomes a model file that reads.

All models here have the same weights: a small network that was trained on the training part of `uci`. A
variant takes other pixels because its first layer is changed by arithmetic, so what it takes is known.
"""

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier

from digitry.errors import ModelError, UsageError
from digitry.model.load import load_model
from digitry.reading.classifier import Classifier
from digitry.training.data.dataset import Dataset
from digitry.training.datasets import load_dataset
from digitry.training.network import convert, foreign
from digitry.training.network.build import keras
from digitry.training.network.trial import WAYS, Pixels

Weights = list[np.ndarray]

layers = keras.layers
HIDDEN = 24
IDS = [str(way) for way in WAYS]


@functools.cache
def known_digits() -> Dataset:
    return load_dataset("uci")


@functools.cache
def trained() -> tuple[np.ndarray, ...]:
    """Return kernel, bias, kernel and bias of a network for ink in 0 to 1."""
    known = known_digits().train
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = MLPClassifier((HIDDEN,), max_iter=15, random_state=0, learning_rate_init=0.01)
        network.fit(known.images.reshape(-1, 784) / 255, known.labels)
    pairs = zip(network.coefs_, network.intercepts_, strict=True)
    return tuple(np.asarray(one, np.float32) for pair in pairs for one in pair)


def weights(way: Pixels = WAYS[0]) -> Weights:
    """Return the weights of the same network for other pixels."""
    first, bias, *rest = trained()
    scaled = first / np.float32(way.factor)
    return [scaled, bias - scaled.sum(0) * np.float32(way.offset), *rest]


def check(target: Path, told: list[str], way: Pixels, *parts: str) -> None:
    """Check what was said, and that the model file reads as the network does."""
    (line,) = told
    for part in (str(way), "known digits right", *parts):
        assert part in line
    known = known_digits().test
    ink = known.images.astype(np.float32) / np.float32(255)
    first, bias, second, last = trained()
    expected = np.maximum(ink.reshape(-1, 784) @ first + bias, 0) @ second + last
    found = Classifier(load_model(target)).logits(ink)
    # Log-probabilities differ from logits by one number for each image.
    found += (expected - found).mean(1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    accuracy = float((expected.argmax(1) == known.labels).mean())
    assert load_model(target).metadata.scores["uci/test/accuracy"] == pytest.approx(accuracy)


def bring(source: Path, way: Pixels, *parts: str) -> None:
    told: list[str] = []
    target = source.with_name("target.onnx")
    assert convert.convert(str(source), "onnx", target, trust=True, tell=told.append) == target
    check(target, told, way, *parts)


# --- Keras ------------------------------------------------------------------------------------------


def augmentation() -> list[keras.Layer]:
    return [layers.RandomRotation(0.1), layers.RandomZoom(0.1), layers.RandomTranslation(0.1, 0.1)]


def in_keras(
    shape: tuple[int, ...], last: str | None, before: Callable[[], list[keras.Layer]] = list
) -> keras.Model:
    flat = [layers.Flatten()] if len(shape) > 1 else []
    hidden = layers.Dense(HIDDEN, activation="relu")
    return keras.Sequential(
        [layers.Input(shape), *before(), *flat, hidden, layers.Dense(10, activation=last)]
    )


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 1), (784,)], ids=str)
@pytest.mark.parametrize("last", ["softmax", None, "sigmoid"])
def test_keras_models_of_every_input_with_and_without_softmax(
    shape: tuple[int, ...], last: str | None, tmp_path: Path
) -> None:
    model = in_keras(shape, last)
    model.set_weights(weights())
    model.save(tmp_path / "mine.keras")
    returned = {"softmax": "probabilities", "sigmoid": "sigmoids"}.get(last or "", "logits")
    axes = ", ".join(map(str, ("n", *shape)))
    bring(tmp_path / "mine.keras", WAYS[0], f"takes ({axes})", f"returns {returned}")


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_keras_models_of_every_scaling_and_polarity(way: Pixels, tmp_path: Path) -> None:
    model = in_keras((28, 28, 1), None)
    model.set_weights(weights(way))
    model.save(tmp_path / "mine.keras")
    bring(tmp_path / "mine.keras", way)


def test_augmentation_is_left_out_wherever_it_stands(tmp_path: Path) -> None:
    def rescaled() -> list[keras.Layer]:
        return [*augmentation(), layers.Rescaling(1 / 255)]

    def nested() -> list[keras.Layer]:
        return [keras.Sequential(augmentation()), keras.Sequential([layers.Rescaling(1 / 255)])]

    image = layers.Input((28, 28, 1))
    inner = in_keras((28, 28, 1), "softmax")
    within = keras.Model(image, inner(keras.Sequential(augmentation())(image)))
    models = {
        "flat": (in_keras((28, 28, 1), "softmax", rescaled), WAYS[2]),
        "nested": (in_keras((28, 28, 1), "softmax", nested), WAYS[2]),
        "functional": (within, WAYS[0]),
    }
    for name, (model, way) in models.items():
        model.set_weights(weights())
        model.save(tmp_path / f"{name}.keras")
        bring(tmp_path / f"{name}.keras", way, "returns probabilities")


# --- PyTorch ----------------------------------------------------------------------------------------


class Net(torch.nn.Module):
    """A network as tutorials write it."""

    def __init__(self, flatten: str, end: torch.nn.Module | None, way: Pixels) -> None:
        super().__init__()
        self.flatten = flatten
        self.hidden, self.digits = torch.nn.Linear(784, HIDDEN), torch.nn.Linear(HIDDEN, 10)
        self.end = end or torch.nn.Identity()
        first, bias, second, last = (torch.from_numpy(one) for one in weights(way))
        self.hidden.weight.data, self.hidden.bias.data = first.t().contiguous(), bias
        self.digits.weight.data, self.digits.bias.data = second.t().contiguous(), last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = {
            "flatten": lambda: torch.flatten(x, 1),
            "view": lambda: x.view(x.size(0), -1),
            "reshape": lambda: x.reshape(-1, 28 * 28),
        }[self.flatten]()
        return self.end(self.digits(torch.relu(self.hidden(x))))


def exported(
    net: Net, path: Path, shape: tuple[int, ...] = (1, 28, 28), *, free: bool = True
) -> Path:
    axes = {"dynamic_axes": {"image": {0: "batch"}, "scores": {0: "batch"}}} if free else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.zeros(1, *shape),), str(path), dynamo=False,
            input_names=["image"], output_names=["scores"], **axes,
        )  # fmt: skip
    return path


@pytest.mark.parametrize("flatten", ["flatten", "view", "reshape"])
@pytest.mark.parametrize("free", [True, False], ids=["any number of images", "one image"])
def test_pytorch_models_however_they_flatten(flatten: str, free: bool, tmp_path: Path) -> None:
    path = exported(Net(flatten, None, WAYS[0]), tmp_path / "mine.onnx", free=free)
    bring(path, WAYS[0], "takes (n, 1, 28, 28)", "returns logits")


@pytest.mark.parametrize(
    ("end", "returned"),
    [
        (torch.nn.Softmax(1), "probabilities"),
        (torch.nn.LogSoftmax(1), "log-probabilities"),
        (torch.nn.Sigmoid(), "sigmoids"),
    ],
    ids=["softmax", "log-softmax", "sigmoid"],
)
def test_pytorch_models_whatever_they_return(
    end: torch.nn.Module, returned: str, tmp_path: Path
) -> None:
    path = exported(Net("flatten", end, WAYS[0]), tmp_path / "mine.onnx")
    bring(path, WAYS[0], f"returns {returned}")


@pytest.mark.parametrize(
    ("shape", "way"),
    [
        *(((1, 28, 28), way) for way in WAYS),
        *((shape, way) for shape in ((28, 28), (28, 28, 1), (784,)) for way in WAYS[1:3]),
    ],
    ids=str,
)
def test_pytorch_models_of_every_input_scaling_and_polarity(
    shape: tuple[int, ...], way: Pixels, tmp_path: Path
) -> None:
    path = exported(Net("flatten", None, way), tmp_path / "mine.onnx", shape)
    axes = ", ".join(map(str, ("n", *shape)))
    bring(path, way, f"takes ({axes})")


def test_weights_in_a_file_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    model = onnx.load(exported(Net("flatten", None, WAYS[0]), tmp_path / "first.onnx"))
    path = tmp_path / "mine.onnx"
    onnx.save(model, path, save_as_external_data=True, location="mine.data", size_threshold=0)
    bring(path, WAYS[0], "returns logits")
    (tmp_path / "mine.data").unlink()
    with pytest.raises(ModelError, match=r"mine\.onnx: .*copy the model with all its files"):
        foreign.core_of(path)
    model = onnx.load(tmp_path / "first.onnx")
    onnx.save(model, path, save_as_external_data=True, location="mine.data", size_threshold=0)
    moved = onnx.load(path, load_external_data=False)
    for tensor in moved.graph.initializer:
        tensor.external_data[0].value = "../../mine.data"
    path.write_bytes(moved.SerializeToString())
    with pytest.raises(ModelError, match="weights in another folder"):
        foreign.core_of(path)


# --- scikit-learn, in the graphs that skl2onnx writes -------------------------------------------------


def saved(nodes: list[onnx.NodeProto], held: dict[str, np.ndarray], path: Path) -> Path:
    scores = helper.make_tensor_type_proto(TensorProto.FLOAT, [None, 10])
    if any(node.op_type == "ZipMap" for node in nodes):
        one = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        scores = helper.make_sequence_type_proto(helper.make_map_type_proto(TensorProto.INT64, one))
    graph = helper.make_graph(
        nodes,
        "scikit-learn",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 784])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_value_info("probabilities", scores),
        ],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())
    return path


def ml(kind: str, inputs: list[str], outputs: list[str], **settings: object) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, outputs, domain="ai.onnx.ml", **settings)


@pytest.mark.parametrize("way", [WAYS[0], WAYS[2], WAYS[3]], ids=str)
@pytest.mark.parametrize("zipmap", [True, False], ids=["a dictionary", "an array"])
def test_a_network_of_scikit_learn(way: Pixels, zipmap: bool, tmp_path: Path) -> None:
    make = helper.make_node
    held = dict(zip(("coefficient", "intercepts", "coefficient1", "intercepts1"), weights(way)))  # noqa: B905
    held |= {"classes": np.arange(10, dtype=np.int32), "shape": np.array([-1])}
    nodes = [
        make("Cast", ["X"], ["cast"], to=TensorProto.FLOAT),
        make("MatMul", ["cast", "coefficient"], ["product"]),
        make("Add", ["product", "intercepts"], ["sum"]),
        make("Relu", ["sum"], ["next"]),
        make("MatMul", ["next", "coefficient1"], ["product1"]),
        make("Add", ["product1", "intercepts1"], ["sum1"]),
        make("Softmax", ["sum1"], ["scores"]),
        make("ArgMax", ["scores"], ["best"], axis=1),
        ml("ArrayFeatureExtractor", ["classes", "best"], ["extracted"]),
        make("Reshape", ["extracted", "shape"], ["label"]),
        ml("ZipMap", ["scores"], ["probabilities"], classlabels_int64s=list(range(10)))
        if zipmap
        else make("Identity", ["scores"], ["probabilities"]),
    ]
    path = saved(nodes, held, tmp_path / "mine.onnx")
    bring(path, way, "takes (n, 784)", "returns probabilities")


def test_a_scaled_logistic_regression_of_scikit_learn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    known = known_digits()
    pixels = known.train.images.reshape(-1, 784) / 255
    offset, scale = pixels.mean(0), 1 / (pixels.std(0) + 0.1)
    targets = np.eye(10)[known.train.labels] - 0.1
    kernel = np.linalg.lstsq((pixels - offset) * scale + rng.normal(0, 0.1, pixels.shape), targets)[
        0
    ]
    nodes = [
        ml("Scaler", ["X"], ["scaled"], offset=offset.tolist(), scale=scale.tolist()),
        ml(
            "LinearClassifier", ["scaled"], ["label", "scores"], post_transform="SOFTMAX",
            multi_class=1, classlabels_ints=list(range(10)), intercepts=[0.0] * 10,
            coefficients=(4 * kernel.T).ravel().tolist(),
        ),
        ml("Normalizer", ["scores"], ["probabilities"], norm="L1"),
    ]  # fmt: skip
    path = saved(nodes, {}, tmp_path / "mine.onnx")
    target, told = tmp_path / "target.onnx", []
    convert.convert(str(path), "onnx", target, tell=told.append)
    assert f"takes (n, 784), {WAYS[0]}; returns probabilities; reads" in told[0]
    ink = known.test.images.astype(np.float32) / np.float32(255)
    expected = ((ink.reshape(-1, 784) - offset) * scale) @ (4 * kernel)
    found = Classifier(load_model(target)).logits(ink)
    np.testing.assert_allclose(found, expected, atol=1e-3)


# --- what cannot be brought in ------------------------------------------------------------------------


def test_forests_are_refused_with_the_operator_named(tmp_path: Path) -> None:
    nodes = [
        ml("TreeEnsembleClassifier", ["X"], ["label", "scores"]),
        helper.make_node("Identity", ["scores"], ["probabilities"]),
    ]
    path = saved(nodes, {}, tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=r"mine\.onnx: .*TreeEnsembleClassifier"):
        convert.load_artifact(str(path))


def test_a_model_that_reads_nothing_is_refused(tmp_path: Path) -> None:
    untrained = Net("flatten", None, WAYS[0])
    torch.manual_seed(0)
    torch.nn.init.normal_(untrained.digits.weight)
    path = exported(untrained, tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=r"mine\.onnx: reads at most \d+% of known digits"):
        convert.load_artifact(str(path))


@pytest.mark.parametrize("shape", [(3, 28, 28), (64, 64)], ids=str)
def test_other_inputs_are_refused_with_their_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 10))
    path = exported(net, tmp_path / "mine.onnx", shape)
    with pytest.raises(ModelError, match=rf"takes the shape \(n, {', '.join(map(str, shape))}\)"):
        foreign.core_of(path)


def test_letters_are_refused_with_what_is_returned(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 26))
    path = exported(net, tmp_path / "mine.onnx")
    with pytest.raises(ModelError, match=r"returns scores \('n', 26\); .*one for each digit"):
        foreign.core_of(path)


def test_the_model_itself_is_never_replaced(tmp_path: Path) -> None:
    path = exported(Net("flatten", None, WAYS[0]), tmp_path / "mine.onnx")
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"would be replaced.*--to mine-digitry\.onnx"):
        convert.convert(str(path), "onnx")
    assert path.read_bytes() == before


def test_damage_is_said_to_be_damage(tmp_path: Path) -> None:
    path = exported(Net("flatten", None, WAYS[0]), tmp_path / "mine.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"mine\.onnx: .*copy it again"):
        convert.load_artifact(str(path))
