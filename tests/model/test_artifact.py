"""A model file that is not ours, damaged or unsupported is refused before it is run."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from digitry.errors import DigitryError, ModelError
from digitry.model import artifact, onnx_check
from digitry.model.artifact import Metadata
from digitry.model.load import SHIPPED, load_model
from digitry.reading.classifier import Classifier

LABELS = tuple("0123456789")


def tiny(**changes: object) -> onnx.ModelProto:
    """A linear model: logits = glyphs @ weights."""
    weights = np.random.default_rng(0).normal(0, 0.05, (784, 10)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", ["glyphs"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("glyphs", TensorProto.FLOAT, ["n", 28, 28])],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 10]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    artifact.save(path, tiny().SerializeToString(), Metadata(name="tiny", labels=LABELS))
    return path


def with_facts(model: onnx.ModelProto, **changes: object) -> bytes:
    """Attach metadata with some fields changed, as in a forged file or one of another version."""
    facts = {
        "format": artifact.FORMAT_VERSION,
        **asdict(Metadata(name="tiny", labels=LABELS)),
        "graph_sha256": onnx_check.graph_sha256(model.SerializeToString()),
        **changes,
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = "digitry", json.dumps(facts)
    return model.SerializeToString()


def test_save_and_load_round_trip(tmp_path: Path) -> None:
    facts = Metadata(
        name="tiny",
        labels=LABELS,
        temperature=1.25,
        recipe={"name": "tiny", "hidden": [3]},
        risk_coverage=((0.5, 0.01, 0.99), (0.9, 0.001, 0.9)),
        data={"mnist": "ab" * 32},
        scores={"test accuracy": 0.9},
        created="2026-01-01T00:00:00Z",
        digitry="0.1.0",
    )
    path = tmp_path / "model.onnx"
    artifact.save(path, tiny().SerializeToString(), facts)
    loaded = load_model(path)
    assert loaded.metadata == facts
    assert load_model(tmp_path).sha256 == loaded.sha256


def test_the_file_is_a_plain_onnx_model(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(saved(tmp_path)), full_check=True)


def test_the_shipped_models_are_valid_and_small() -> None:
    sizes = [len(load_model(name).onnx) for name in SHIPPED]
    assert sum(sizes) <= 4 << 20
    assert max(sizes) <= 2 << 20


def test_probabilities_are_softmax_of_logits_over_temperature(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    facts = Metadata(name="tiny", labels=LABELS, temperature=2.0)
    classifier = Classifier(artifact.save(path, tiny().SerializeToString(), facts))
    glyphs = np.random.default_rng(1).random((7, 28, 28)).astype(np.float32)
    powers = np.exp(classifier.logits(glyphs) / 2.0)
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert np.allclose(classifier.probabilities(glyphs), expected, atol=1e-6)
    assert classifier.probabilities(glyphs[:0]).shape == (0, 10)


def test_a_batch_and_its_parts_give_the_same(tmp_path: Path) -> None:
    classifier = Classifier(load_model(saved(tmp_path)))
    glyphs = np.random.default_rng(1).random((600, 28, 28)).astype(np.float32)
    together = classifier.logits(glyphs)
    apart = np.concatenate([classifier.logits(glyphs[i : i + 1]) for i in range(600)])
    assert np.allclose(together, apart, atol=1e-5)
    assert np.array_equal(together.argmax(axis=1), apart.argmax(axis=1))


def node(operator: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(operator, ["logits"], ["x"], domain=domain))

    return change


def external(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"


def subgraph(model: onnx.ModelProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", inner))


def function(model: onnx.ModelProto) -> None:
    made = helper.make_function("x", "f", ["a"], ["b"], [], [helper.make_opsetid("", 17)])
    model.functions.append(made)


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def lying(*dims: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


def strings(model: onnx.ModelProto) -> None:
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_type = TensorProto.STRING
    weights.string_data.extend([b"x"] * 7840)


def attribute(name: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].attribute.append(helper.make_attribute(name, value))

    return change


def numbers(*values: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), "x"))

    return change


def typed_numbers(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("x", TensorProto.INT64, [1], [-(1 << 40)]))


def crowd(model: onnx.ModelProto) -> None:
    model.graph.node.extend([helper.make_node("Relu", ["logits"], ["x"])] * 3000)


def constant(model: onnx.ModelProto) -> None:
    inner = numpy_helper.from_array(np.zeros(3, np.float32), "x")
    inner.dims[0] = 1 << 50
    attribute("value", inner)(model)


HOSTILE: list[tuple[Callable[[onnx.ModelProto], None], str]] = [
    (lying(1 << 40, 1 << 40), "declares more"),
    (lying(784, 10, 100_000), "declares more"),
    (lying(-1, -7840), "declares more"),
    (lying(784, 11), "declares another number"),
    (lying(), "declares another number"),
    (strings, "strings"),
    (attribute("pads", [0, 1 << 40]), "attribute"),
    (attribute("axis", -(1 << 40)), "attribute"),
    (attribute("kernel_shape", [9000, 9000]), "attribute"),
    (numbers(0, 1 << 40), "too large a shape"),
    (numbers(*range(100)), "too large a shape"),
    (typed_numbers, "too large a shape"),
    (crowd, "nodes"),
    (constant, "declares more"),
    (node("Loop"), "operator"),
    (node("If"), "operator"),
    (node("Scan"), "operator"),
    (node("Tile"), "operator"),
    (node("Expand"), "operator"),
    (node("Resize"), "operator"),
    (node("ConstantOfShape"), "operator"),
    (node("RandomNormal"), "operator"),
    (node("StringConcat"), "operator"),
    (node("PyOp", "ai.onnx.contrib"), "operator"),
    (node("Relu", "com.evil"), "operator"),
    (external, "another file"),
    (subgraph, "graph"),
    (function, "functions"),
    (sparse, "sparse"),
]


@pytest.mark.parametrize(("change", "line"), HOSTILE)
def test_unsupported_content_is_refused(
    change: Callable[[onnx.ModelProto], None], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was run")

    monkeypatch.setattr(onnxruntime, "InferenceSession", never)
    model = tiny()
    change(model)
    with pytest.raises(ModelError, match=line):
        Classifier(artifact.parse(with_facts(model), source="evil.onnx"))


def test_refusing_any_hostile_model_opens_connects_and_executes_nothing(
    tmp_path: Path, traced: Callable[[str, list[Path]], list[str]]
) -> None:
    paths = []
    (tmp_path / "files").mkdir()
    for change, _ in HOSTILE:
        model = tiny()
        change(model)
        paths.append(tmp_path / "files" / f"{len(paths)}.onnx")
        paths[-1].write_bytes(with_facts(model))
    code = (
        "from digitry.model.load import load_model\n"
        "from digitry.errors import ModelError\n"
        "def refuse(name):\n"
        "    try: load_model(name)\n"
        "    except ModelError: return\n"
        "    raise SystemExit(f'{name} passed')\n"
        "refuse(sys.argv[1])\n"
        "mark(b'BEGIN')\n"
        "for name in sys.argv[1:]: refuse(name)\n"
        "mark(b'END')\n"
    )
    calls = traced(code, paths)
    assert [call for call in calls if not any(f'"{path}"' in call for path in paths)] == []
    assert sum("open" in call.split("(")[0] for call in calls) == len(paths)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 99},
        {"format": None},
        {"glyph_version": 99},
        {"labels": ["a", "b"]},
        {"temperature": 0},
        {"temperature": "warm"},
        {"risk_coverage": [[1, 2]]},
        {"graph_sha256": "0" * 64},
        {"recipe": None, "labels": None},
        {"glyph_version": float("inf")},
        {"temperature": 10**400},
        {"risk_coverage": [[float("nan"), 0, 1]]},
        {"name": 5},
        {"name": "\x1b]0;owned\x07reader"},
        {"recipe": {"summary": "\x1b[2J"}},
        {"data": {"mnist\x9b": "0"}},
        {"created": "a" * 2001},
        {"recipe": "reader"},
        {"data": ["mnist"]},
        {"scores": [1]},
        {"created": None},
    ],
)
def test_invalid_metadata_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"^evil\.onnx: "):
        artifact.parse(with_facts(tiny(), **changes), source="evil.onnx")


def test_a_foreign_model_and_a_damaged_file_give_different_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a digitry model"):
        artifact.parse(tiny().SerializeToString(), source="theirs.onnx")
    for content in (b"", b"hello", b"\x00" * 100, b"\xff" * 100):
        with pytest.raises(ModelError):
            artifact.parse(content, source="cut.onnx")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    content = saved(tmp_path).read_bytes()
    for length in range(0, len(content), 487):
        with pytest.raises(ModelError):
            artifact.parse(content[:length], source="cut.onnx")


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path: Path) -> None:
    content = bytearray(saved(tmp_path).read_bytes())
    content[5000] ^= 1
    with pytest.raises(ModelError, match="damaged"):
        artifact.parse(bytes(content), source="rotten.onnx")


def test_a_refused_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()
    model = tiny()
    node("Loop")(model)
    with pytest.raises(ModelError):
        artifact.save(path, model.SerializeToString(), Metadata(name="x", labels=LABELS))
    assert path.read_bytes() == before


def test_a_missing_model_names_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reader"):
        load_model("no-such-model")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_by_name(content: bytes) -> None:
    with pytest.raises(DigitryError):
        artifact.parse(content, source="noise.onnx")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_mutations_give_a_model_or_our_error(data: st.DataObject) -> None:
    content = bytearray(with_facts(tiny()))
    # The weights fill the middle; the parsed structure is before and after them.
    for _ in range(data.draw(st.integers(1, 4))):
        ends = st.one_of(st.integers(0, 200), st.integers(len(content) - 1200, len(content) - 1))
        content[data.draw(ends)] = data.draw(st.integers(0, 255))
    try:
        artifact.parse(bytes(content), source="mutant.onnx")
    except ModelError as error:
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(
    key=st.sampled_from(["format", *(f.name for f in fields(Metadata)), "graph_sha256"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=6,
    ),
)
def test_any_metadata_field_is_accepted_with_its_type_or_refused_by_name(
    key: str, value: object
) -> None:
    try:
        found = artifact.parse(with_facts(tiny(), **{key: value}), source="any.onnx").metadata
    except ModelError as error:
        assert str(error).startswith("any.onnx: ")
        assert "\n" not in str(error)
        return
    assert isinstance(found.name, str)
    assert isinstance(found.recipe, dict)
    assert isinstance(found.scores, dict)
    assert all(0.01 <= number < float("inf") for number in [found.temperature])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["raw", "listed", "half", "double"])
def test_weights_that_are_not_finite_are_refused_when_the_file_is_loaded(
    value: float, kind: str, tmp_path: Path
) -> None:
    model = tiny()
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[3, 4] = value
    dtype = {"half": np.float16, "double": np.float64}.get(kind, np.float32)
    if kind == "listed":
        changed = helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())
    else:
        changed = numpy_helper.from_array(weights.astype(dtype), "weights")
    model.graph.initializer[0].CopyFrom(changed)
    (tmp_path / "bad.onnx").write_bytes(with_facts(model))
    with pytest.raises(ModelError, match=r"bad\.onnx: has weights that are not finite"):
        load_model(tmp_path / "bad.onnx")


def test_weights_that_overflow_blame_the_model_not_the_image(tmp_path: Path) -> None:
    model = tiny()
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.full((784, 10), 3e38, np.float32), "weights")
    )
    (tmp_path / "bad.onnx").write_bytes(with_facts(model))
    with pytest.raises(ModelError, match=r"bad\.onnx: returns numbers that are not finite"):
        Classifier(load_model(tmp_path / "bad.onnx"))
