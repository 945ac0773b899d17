"""Hostile model files are refused before Keras or ONNX Runtime sees them; ours pass."""

import copy
import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.errors import ModelError
from digitry.training.network import keras_check, keras_files, keras_layers
from digitry.training.network.build import build, keras
from digitry.training.recipes import RECIPES, Recipe

Config = dict[str, Any]
layers = keras.layers


def functional() -> keras.Model:
    given = layers.Input((28, 28))
    x = layers.Reshape((28, 28, 1))(given)
    a = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    b = layers.DepthwiseConv2D(3, strides=2, padding="same")(a)
    c = layers.AveragePooling2D(2)(a)
    e = layers.Concatenate()([c, layers.Add()([b, c])])
    out = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(e))
    return keras.Model(given, out)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain with convolutions and a graph, in both formats."""
    folder = tmp_path_factory.mktemp("saved")
    for name, model in (("chain", build(RECIPES["reader"], 11)), ("graph", functional())):
        model.save(folder / f"{name}.keras")
        with keras_files.without_advice():
            model.save(folder / f"{name}.h5")
    return folder


@pytest.fixture
def apart() -> None:
    """Asked for by tests that check files as users do, in a process of its own."""


@pytest.fixture(autouse=True)
def never(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "apart" not in request.fixturenames:
        # A process for each of hundreds of files would take minutes.
        monkeypatch.setattr(keras_check, "_checked_apart", keras_check.checked)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("Keras was called")

    monkeypatch.setattr(keras.saving, "load_model", refuse)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.usefixtures("apart")
def test_a_large_network_passes_with_the_state_of_its_optimizer(tmp_path: Path, name: str) -> None:
    model = build(Recipe(name="wide", hidden=(2_048, 2_048)), 10)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    with keras_files.without_advice():
        model.save(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 64 << 20
    (tmp_path / "copy").mkdir()
    assert keras_check.checked_copy(tmp_path / name, tmp_path / "copy").stat().st_size > 64 << 20


@pytest.mark.parametrize("name", ["chain.keras", "chain.h5", "graph.keras", "graph.h5"])
def test_what_passes_loads_and_computes_the_same(
    saved: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    glyphs = np.random.default_rng(0).random((4, 28, 28), np.float32)
    expected = keras.saving.load_model(saved / name, compile=False)
    loaded = keras_files.load_keras(saved / name)
    before, after = (np.asarray(model(glyphs).detach()) for model in (expected, loaded))
    assert np.allclose(before, after, atol=1e-6)


def parts(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


# --- configurations --------------------------------------------------------------------------------


def layer(config: Config, kind: str) -> Config:
    return next(one for one in config["config"]["layers"] if one["class_name"] == kind)


def new_layer(kind: str, module: str = "keras.layers", **values: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        made = {
            "module": module,
            "class_name": kind,
            "config": {"name": "evil", **values},
            "registered_name": None,
        }
        config["config"]["layers"].insert(1, made)

    return change


def setting(kind: str, key: str, value: Any) -> Callable[[Config], None]:
    return lambda config: layer(config, kind)["config"].__setitem__(key, value)


def wrapper(kind: str, key: str, value: Any) -> Callable[[Config], None]:
    return lambda config: layer(config, kind).__setitem__(key, value)


def top(key: str, value: Any) -> Callable[[Config], None]:
    return lambda config: config.__setitem__(key, value)


LAMBDA = {
    "class_name": "__lambda__",
    "config": {"code": "4wAAAAA=", "defaults": None, "closure": None},
}
FUNCTION = {
    "module": "os",
    "class_name": "function",
    "config": "system",
    "registered_name": "system",
}

CONFIGS: dict[str, Callable[[Config], None]] = {
    "Lambda with bytecode": new_layer("Lambda", function=LAMBDA),
    "Lambda naming a function": new_layer("Lambda", function=FUNCTION),
    "Lambda of Keras' own function": new_layer(
        "Lambda", function={"module": "keras.utils", "class_name": "get_file", "config": {}}
    ),
    "a function of os as activation": setting("Dense", "activation", FUNCTION),
    "bytecode as activation": setting("Dense", "activation", LAMBDA),
    "a function as initializer": setting("Dense", "kernel_initializer", FUNCTION),
    "a function as regularizer": setting("Dense", "kernel_regularizer", FUNCTION),
    "a constraint": setting(
        "Dense", "kernel_constraint", {"module": "keras.constraints", "class_name": "MaxNorm", "config": {}}
    ),
    "a module of its own": wrapper("Dense", "module", "evil.package"),
    "the module os": wrapper("Dense", "module", "os"),
    "a module inside Keras": wrapper("Dense", "module", "keras.src.layers.core.lambda_layer"),
    "a registered class": wrapper("Dense", "registered_name", "evil>Dense"),
    "another class of the model": top("class_name", "MyModel"),
    "the model from another module": top("module", "subprocess"),
    "a registered model": top("registered_name", "evil>Sequential"),
    "enable_unsafe_deserialization": new_layer("enable_unsafe_deserialization", "keras.config"),
    "TorchModuleWrapper": new_layer("TorchModuleWrapper", module={"class_name": "x"}),
    "TFSMLayer": new_layer("TFSMLayer", filepath="/etc"),
    "JaxLayer": new_layer("JaxLayer"),
    "FlaxLayer": new_layer("FlaxLayer"),
    "StringLookup with a path": new_layer("StringLookup", vocabulary="/etc/passwd"),
    "StringLookup with an address": new_layer("StringLookup", vocabulary="http://127.0.0.1:9/x"),
    "IntegerLookup": new_layer("IntegerLookup", vocabulary="/etc/passwd"),
    "TextVectorization": new_layer("TextVectorization", vocabulary="/etc/passwd"),
    "TimeDistributed around Lambda": new_layer("TimeDistributed", layer={"class_name": "Lambda"}),
    "Wrapper": new_layer("Wrapper", layer={"class_name": "Lambda"}),
    "Bidirectional": new_layer("Bidirectional", layer={"class_name": "LSTM"}),
    "a model in the model": new_layer("Sequential", "keras", layers=[]),
    "FeatureSpace": new_layer("FeatureSpace", "keras.utils"),
    "SharedObject of custom code": new_layer("CustomLayer", "builtins"),
    "an unknown setting": setting("Dense", "quantize_with", "x"),
    "quantization by a class": setting("Dense", "quantization_config", {"class_name": "Q", "config": {}}),
    "a path for a number": setting("Dense", "units", "/etc/passwd"),
    "a path for a word": setting("Conv2D", "padding", "../../x"),
    "an address for a word": setting("Conv2D", "data_format", "hf://evil/model"),
    "an unknown activation": setting("Dense", "activation", "evil>act"),
    "an odd dtype": setting("Dense", "dtype", "string"),
    "a quantized dtype": setting(
        "Dense", "dtype", {"class_name": "QuantizedDTypePolicy", "config": {"mode": "int8"}}
    ),
    "a name with a path": setting("Dense", "name", "../../../tmp/evil"),
    "a name with a slash": setting("Dense", "name", "a/b"),
    "two layers of one name": setting("Flatten", "name", "digits"),
    "a shape bomb of units": setting("Dense", "units", 900_000),
    "a shape bomb of filters": setting("Conv2D", "filters", 900_000),
    "a shape bomb of a kernel": setting("Conv2D", "kernel_size", [9000, 9000]),
    "a shape bomb of the input": setting("InputLayer", "batch_shape", [None, 900_000, 900_000]),
    "a fixed batch": setting("InputLayer", "batch_shape", [1_000_000, 28, 28]),
    "a shape bomb of reshaping": setting("Reshape", "target_shape", [1_000_000, 1_000_000]),
    "a negative size": setting("Dense", "units", -1),
    "a size past all bounds": setting("Dense", "units", 10**30),
    "true for a size": setting("Dense", "units", True),
    "a nested list": setting("Dropout", "noise_shape", [[[[1]]]]),
    "built for another shape": wrapper("Dense", "build_config", {"input_shape": [None, 10**6]}),
    "odd orders for building": wrapper("Dense", "build_config", {"shapes_dict": {"x": [10**6]}}),
    "compiled inside": wrapper("Dense", "compile_config", {"loss": FUNCTION}),
    "assets": wrapper("Dense", "assets", "../x"),
    "no layers": lambda config: config["config"].__setitem__("layers", []),
    "too many layers": lambda config: config["config"].__setitem__(
        "layers", config["config"]["layers"] * 100
    ),
    "a layer that is a text": lambda config: config["config"]["layers"].append("Lambda"),
    "a class that is a list": wrapper("Dense", "class_name", ["Dense"]),
    "no number": setting("Dropout", "rate", float("nan")),
}  # fmt: skip


def test_the_corpus_is_large_enough() -> None:
    assert len(CONFIGS) + len(ZIPS) + len(HDF5) >= 60


def told(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        keras_files.load_keras(path)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(path))
    return str(raised.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configurations_are_refused_in_keras_files(
    saved: Path, tmp_path: Path, name: str
) -> None:
    members = parts(saved / "chain.keras")
    config = json.loads(members["config.json"])
    CONFIGS[name](config)
    members["config.json"] = json.dumps(config).encode()
    path = tmp_path / "evil.keras"
    path.write_bytes(packed(members))
    told(path)


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configurations_are_refused_in_h5_files(
    saved: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "evil.h5"
    shutil.copy(saved / "chain.h5", path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        CONFIGS[name](config)
        text = json.dumps(config)
        # Attributes above 64 KiB do not fit; a model of so many layers is refused as .keras above.
        file.attrs["model_config"] = text if len(text) < 60_000 else "[" * 60_000
    told(path)


# --- zip structure ---------------------------------------------------------------------------------


def with_member(name: str, content: bytes = b"x") -> Callable[[dict[str, bytes]], bytes]:
    return lambda members: packed({**members, name: content})


def without(name: str) -> Callable[[dict[str, bytes]], bytes]:
    return lambda members: packed({key: value for key, value in members.items() if key != name})


def changed(name: str, content: bytes, method: int = zipfile.ZIP_STORED) -> Callable[..., bytes]:
    return lambda members: packed({**members, name: content}, method)


def twice(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO(packed(members))
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("config.json", b"{}")
    return stream.getvalue()


def repeated_key(members: dict[str, bytes]) -> bytes:
    text = members["config.json"].replace(b'"class_name"', b'"class_name": "x", "class_name"', 1)
    return packed({**members, "config.json": text})


ZIPS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "an asset": with_member("assets/vocabulary.txt"),
    "a member outside": with_member("../../evil.py"),
    "a pickle": with_member("model.pkl", b"cos\nsystem\n(S'true'\ntR."),
    "no configuration": without("config.json"),
    "no weights": without("model.weights.h5"),
    "a member twice": twice,
    "a key twice": repeated_key,
    "a bomb": changed("config.json", b" " * 900_000 + b"{}", zipfile.ZIP_DEFLATED),
    "a bomb of weights": changed("model.weights.h5", bytes(50 << 20), zipfile.ZIP_DEFLATED),
    "a long configuration": changed("config.json", b" " * (2 << 20)),
    "deep JSON": changed("config.json", b"[" * 500_000),
    "no JSON": changed("config.json", b"\x80\x04pickle"),
    "JSON that is a list": changed("config.json", b"[]"),
    "weights that are none": changed("model.weights.h5", b"cos\nsystem\n(S'true'\ntR."),
    "cut weights": lambda members: packed(
        {**members, "model.weights.h5": members["model.weights.h5"][:5000]}
    ),
    "a cut archive": lambda members: packed(members)[:-50],
    "no archive": lambda members: b"hello",
    "nothing": lambda members: b"",
}


@pytest.mark.parametrize("name", ZIPS)
def test_hostile_archives_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "evil.keras"
    path.write_bytes(ZIPS[name](parts(saved / "chain.keras")))
    told(path)


# --- HDF5 structure --------------------------------------------------------------------------------


def replaced(file: h5py.File, made: Callable[[h5py.Group], None]) -> None:
    group = file["layers/conv2d/vars"]
    del group["0"]
    made(group)


def external(group: h5py.Group) -> None:
    group.create_dataset("0", (3, 3, 1, 16), "f4", external=[("/etc/passwd", 0, 576)])


def virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((10,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (10,))
    group.create_virtual_dataset("0", layout)


def linked(link: object) -> Callable[[h5py.Group], None]:
    return lambda group: group.__setitem__("0", link)


def loop(group: h5py.Group) -> None:
    group["0"] = group.parent


def sparse(group: h5py.Group) -> None:
    group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def unallocated(group: h5py.Group) -> None:
    space = h5py.h5s.create_simple((1 << 20,))
    h5py.h5d.create(group.id, b"0", h5py.h5t.IEEE_F32LE, space)


def compressed(group: h5py.Group) -> None:
    group.create_dataset("0", data=np.zeros((3000, 1000), "f4"), compression="gzip")


def objects(group: h5py.Group) -> None:
    group.create_dataset("0", data=["evil"], dtype=h5py.string_dtype())


def reference(group: h5py.Group) -> None:
    group.create_dataset("0", data=np.array([group.ref], dtype=h5py.ref_dtype))


def committed(group: h5py.Group) -> None:
    group["0"] = np.dtype("f4")


def deep(group: h5py.Group) -> None:
    for _ in range(30):
        group = group.create_group("0")


def attribute(group: h5py.Group) -> None:
    group.attrs["x"] = np.zeros(6000, "f4")


def odd_name(group: h5py.Group) -> None:
    group.create_group("\u202eevil")


HDF5: dict[str, Callable[[h5py.Group], None]] = {
    "external data": external,
    "virtual data": virtual,
    "a soft link": linked(h5py.SoftLink("/vars")),
    "an external link": linked(h5py.ExternalLink("/etc/passwd", "/x")),
    "a loop of hard links": loop,
    "a sparse bomb": sparse,
    "numbers never stored": unallocated,
    "packed data": compressed,
    "texts": objects,
    "references": reference,
    "a type": committed,
    "groups without end": deep,
    "a large attribute": attribute,
    "an odd name": odd_name,
}


@pytest.mark.parametrize("name", HDF5)
@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_hostile_weights_are_refused(saved: Path, tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"evil.{ending}"
    if ending == "keras":
        members = parts(saved / "chain.keras")
        weights = tmp_path / "weights.h5"
        weights.write_bytes(members["model.weights.h5"])
        with h5py.File(weights, "r+") as file:
            replaced(file, HDF5[name])
        members["model.weights.h5"] = weights.read_bytes()
        path.write_bytes(packed(members))
    else:
        shutil.copy(saved / "chain.h5", path)
        with h5py.File(path, "r+") as file:
            HDF5[name](file["model_weights"].create_group("evil"))
    told(path)


def test_a_file_that_never_ends_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "endless.keras"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    assert "larger than" in told(path)


def test_keras_gets_a_copy_of_what_was_checked(saved: Path, tmp_path: Path) -> None:
    original = parts(saved / "chain.keras")
    config = json.loads(original["config.json"])
    config["compile_config"] = {"optimizer": FUNCTION, "loss": LAMBDA}
    path = tmp_path / "model.keras"
    path.write_bytes(packed({**original, "config.json": json.dumps(config).encode()}))
    folder = tmp_path / "copy"
    folder.mkdir()
    found = parts(keras_check.checked_copy(path, folder))
    assert "compile_config" not in json.loads(found["config.json"])
    assert found["model.weights.h5"] == original["model.weights.h5"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_mutations_pass_or_are_refused_by_name(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    # Of .h5 files see below: HDF5 may never come back.
    name = "graph.keras"
    content = bytearray((saved / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("mutant")
    path = folder / name
    path.write_bytes(content)
    (folder / "copy").mkdir()
    try:
        keras_check.checked_copy(path, folder / "copy")
    except ModelError as error:
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_configuration_passes_or_is_refused_by_name(saved: Path, data: st.DataObject) -> None:
    config = copy.deepcopy(
        CHAIN.setdefault(0, json.loads(parts(saved / "chain.keras")["config.json"]))
    )
    config.pop("compile_config", None)
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=6,
    )
    one = data.draw(st.sampled_from(config["config"]["layers"]))
    place = data.draw(st.sampled_from([one, one["config"], config, config["config"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    try:
        keras_layers.check_model(config)
    except ModelError as error:
        assert "\n" not in str(error)


CHAIN: dict[int, Config] = {}


# --- what a refusal does to the machine -------------------------------------------------------------


def corpus(saved: Path, folder: Path) -> list[Path]:
    """Write every hostile file of this module."""
    made: list[Path] = []

    def add(ending: str, content: bytes) -> None:
        path = folder / f"{len(made)}.{ending}"
        path.write_bytes(content)
        made.append(path)

    sound = parts(saved / "chain.keras")
    for change in CONFIGS.values():
        config = json.loads(sound["config.json"])
        change(config)
        text = json.dumps(config)
        add("keras", packed({**sound, "config.json": text.encode()}))
        path = folder / "work.h5"
        shutil.copy(saved / "chain.h5", path)
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = text if len(text) < 60_000 else "[" * 60_000
        add("h5", path.read_bytes())
    for build_archive in ZIPS.values():
        add("keras", build_archive(dict(sound)))
    for make in HDF5.values():
        path = folder / "work.h5"
        path.write_bytes(sound["model.weights.h5"])
        with h5py.File(path, "r+") as file:
            replaced(file, make)
        add("keras", packed({**sound, "model.weights.h5": path.read_bytes()}))
        shutil.copy(saved / "chain.h5", path)
        with h5py.File(path, "r+") as file:
            make(file["model_weights"].create_group("evil"))
        add("h5", path.read_bytes())
    return made


def test_refusing_any_hostile_file_opens_connects_and_executes_nothing(
    saved: Path, tmp_path: Path, traced: Callable[[str, list[Path]], list[str]]
) -> None:
    (tmp_path / "files").mkdir()
    files = corpus(saved, tmp_path / "files")
    code = (
        "import pathlib\n"
        "from digitry.errors import ModelError\n"
        "from digitry.training import gate\n"
        "def refuse(name):\n"
        "    path = pathlib.Path(name)\n"
        "    try: gate.checked(path.read_bytes(), path.suffix)\n"
        "    except ModelError: return\n"
        "    raise SystemExit(f'{name} passed')\n"
        "gate._without_plugins()\n"
        # Once before: what Python itself loads late is not the files' doing.
        "for name in sys.argv[1:]: refuse(name)\n"
        "mark(b'BEGIN')\n"
        "for name in sys.argv[1:]: refuse(name)\n"
        "mark(b'END')\n"
    )
    calls = traced(code, files)
    assert [call for call in calls if not any(f'"{path}"' in call for path in files)] == []
    assert sum("open" in call for call in calls) == len(files) > 150


# --- the process that may hang ----------------------------------------------------------------------

CIRCLES = Path(__file__).parents[2] / "corpus" / "h5" / "circles.h5"
"""Found by fuzzing: HDF5 never returns from reading an attribute of it."""


@pytest.mark.usefixtures("apart")
def test_a_file_that_sends_hdf5_round_in_circles_is_refused() -> None:
    assert "damaged HDF5 file" in told(CIRCLES)


@pytest.mark.usefixtures("apart")
def test_a_crash_of_hdf5_is_a_refusal(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_check, "_CHILD", "import os; os.kill(os.getpid(), 11)")
    assert "damaged HDF5 file" in told(saved / "chain.h5")
    monkeypatch.setattr(keras_check, "_CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(keras_check, "WALL_S", 0.2)
    assert "takes too long" in told(saved / "chain.h5")


@pytest.mark.usefixtures("apart")
def test_a_fault_of_our_own_is_not_taken_for_a_damaged_file(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_check, "_CHILD", "raise ZeroDivisionError")
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        keras_check.checked_copy(saved / "chain.h5", tmp_path)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("name", ["chain.keras", "chain.h5"])
def test_apart_or_not_the_check_says_the_same(saved: Path, tmp_path: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    ending = Path(name).suffix
    assert keras_check._checked_apart(content, ending) == keras_check.checked(content, ending)
    bad = content[:-50]
    for check in (keras_check._checked_apart, keras_check.checked):
        with pytest.raises(ModelError) as raised:
            check(bad, ending)
        assert (raised.value.what, raised.value.remedy) != ("", None)


@pytest.mark.usefixtures("apart")
@pytest.mark.parametrize("count", [8, pytest.param(300, marks=pytest.mark.slow)])
def test_mutated_hdf5_passes_or_is_refused_whatever_its_library_does(
    saved: Path, tmp_path: Path, count: int
) -> None:
    chance = random.Random(count)
    original = (saved / "graph.h5").read_bytes()
    (tmp_path / "copy").mkdir()
    for _ in range(count):
        content = bytearray(original)
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path = tmp_path / "mutant.h5"
        path.write_bytes(content)
        try:
            keras_check.checked_copy(path, tmp_path / "copy")
        except ModelError as error:
            assert "\n" not in str(error)
