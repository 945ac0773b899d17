"""The model file: one ONNX graph with the facts that reading needs, in one file.

The facts (`Metadata`) travel as one JSON text in the ONNX metadata, so the file is still a plain ONNX
model for every other tool. Input `glyphs` is (n, 28, 28) float32 in [0, 1], ink = 1; outputs `logits`
and `probabilities` are (n, classes) float32.

A file is checked here, by our own reader of the protobuf wire format, before ONNX Runtime sees a byte
of it: size, structure, one graph, the standard operators alone, no external data, our metadata, and
the sha256 of the graph.
"""

import hashlib
import json
import math
import struct
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from digitry import files, shelf, sidecar
from digitry.errors import DigitryWarning, ModelError
from digitry.sidecar import Calibration

FORMAT_VERSION = 1
GLYPH_VERSION = 2
"""Which normalisation of glyphs a model expects; raised whenever `reading.glyph` gives other pixels."""

MAX_BYTES = 64 << 20
MAX_NODES = 2000
MAX_ATTRIBUTE = 4096
"""Windows, strides, pads and axes of an operator; the picture itself has 28 pixels a side."""
MAX_SHAPE = 1 << 24
NOT_A_DIGIT = "not a digit"
"""The label of the class for ink that is no digit."""

# What digit classifiers are made of. An operator outside this list has no business in a model of ours;
# none of these can open a file, loop, or ask for memory out of proportion to its input.
OPERATORS = frozenset(
    {
        "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Flatten", "Gemm",
        "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
        "LogSoftmax", "MatMul", "MaxPool", "Mul", "Pad", "ReduceMean", "Relu", "Reshape", "Sigmoid",
        "Softmax", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze",
    }
)  # fmt: skip

SHIPPED = ("reader",)
"""The models that come with the package, by name."""


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a model file says about itself.

    Attributes:
        name: what readings say in `model`.
        labels: of each output, "0" to "9", and perhaps `NOT_A_DIGIT` last.
        glyph_version: the normalisation that it was trained on.
        temperature: the logits are divided by it to give calibrated probabilities; 1 = as trained.
        recipe: the whole recipe that it was trained by.
        risk_coverage: rows (threshold, error, coverage) on held-out data: of the readings with
            confidence >= threshold, the share that is wrong, and the share of all that remains.
        data: name -> sha256 of the content it was trained on.
        scores: name -> number, measured on `data` or the test set named in the key.
        created: ISO 8601 UTC.
        digitry: the version that wrote it.
    """

    name: str
    labels: tuple[str, ...]
    glyph_version: int = GLYPH_VERSION
    temperature: float = 1.0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    risk_coverage: tuple[tuple[float, float, float], ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    digitry: str = ""

    def __post_init__(self) -> None:
        digits = tuple(str(value) for value in range(10))
        if self.labels not in (digits, (*digits, NOT_A_DIGIT)):
            raise ModelError(
                f"has the labels {list(self.labels)}",
                remedy="a reader of digits has 0 to 9, in order",
            )
        if self.glyph_version != GLYPH_VERSION:
            raise ModelError(
                f"was trained on glyphs of version {self.glyph_version}; this digitry makes "
                f"version {GLYPH_VERSION}",
                remedy="train it again, or use the digitry that made it",
            )
        if not (math.isfinite(self.temperature) and 0.01 <= self.temperature <= 100):
            raise ModelError(
                f"has the temperature {self.temperature}", remedy="0.01 to 100 is sane"
            )


@dataclass(frozen=True)
class Artifact:
    """A checked model file, in memory.

    Attributes:
        onnx: the bytes of the whole file.
        metadata: what it says about itself; temperature and curve are those of the calibration, if any.
        sha256: of the whole file.
        source: the name or path that it came from.
        calibration: to the user's own images, found beside the model and applied.
        version: of a model that is known by name: `shipped`, or the number of the user's version;
            None for a file.
    """

    onnx: bytes = field(repr=False)
    metadata: Metadata
    sha256: str
    source: str
    calibration: Calibration | None = None
    version: str | None = None

    @property
    def reference(self) -> str:
        """What `load` gives this very model for, whatever becomes the default meanwhile."""
        if self.version is None:
            return self.source
        return f"{self.source.partition('@')[0]}@{self.version}"

    @property
    def fingerprint(self) -> str:
        """The sha256 of all that decides how an image is read: the file, and its calibration."""
        if self.calibration is None:
            return self.sha256
        facts = json.dumps(asdict(self.calibration), sort_keys=True)
        return hashlib.sha256((self.sha256 + facts).encode()).hexdigest()


def save(path: Path, onnx_model: bytes, metadata: Metadata) -> Artifact:
    """Write a model file, atomically, after checking it as a reader would.

    Args:
        path: where to; what is there stays if anything fails.
        onnx_model: a serialised ONNX model without our metadata.
        metadata: its facts.

    Raises:
        ModelError: the model is not one that `load` would accept.
    """
    import onnx

    model = onnx.load_model_from_string(onnx_model)
    facts = {
        "format": FORMAT_VERSION,
        **asdict(metadata),
        "graph_sha256": _graph_sha256(onnx_model),
    }
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = "digitry", json.dumps(facts, allow_nan=False)
    content = model.SerializeToString()
    artifact = parse(content, source=str(path))
    files.write_bytes(path, content)
    return artifact


def load(model: str | Path) -> Artifact:
    """Load and check a model, and apply the calibration that lies beside it.

    One that was made for other bytes is not applied, with a `DigitryWarning`.

    The name of a shipped model means the user's own version of it, where one has been promoted to be
    the default (see `digitry.shelf`), and else the model of the package; `reader@shipped` and
    `reader@2` name one of them for good. Where the default is damaged, or was made for another digitry,
    the shipped model is given in its place, with a `DigitryWarning`; a version that is asked for by its
    number is given or refused.

    Args:
        model: the name of a shipped model, with or without a version; a .onnx file; or a run folder
            that holds model.onnx.

    Returns:
        The model. A user's version is called `reader@2` in its metadata, and so in every reading.

    Raises:
        ModelError: there is none, or it is not an undamaged model of ours; or its calibration is damaged.
    """
    loaded = load_uncalibrated(model)
    calibration = sidecar.find(calibration_path(loaded.reference))
    if calibration is None:
        return loaded
    if calibration.model_sha256 != loaded.sha256:
        warnings.warn(
            f"{loaded.source}: its calibration to {calibration.source} was made for another model and "
            f"is not used; {sidecar.REMEDY}",
            DigitryWarning,
            stacklevel=2,
        )
        return loaded
    metadata = replace(
        loaded.metadata,
        temperature=calibration.temperature,
        risk_coverage=calibration.risk_coverage,
    )
    return replace(loaded, metadata=metadata, calibration=calibration)


def calibration_path(model: str | Path) -> Path | None:
    """Say where the calibration of a model lies; None where this user has no place for it."""
    name, version = _named(model)
    if name is not None:
        number = _default_number(name) if version is None else _number(name, version)
        if number is None:
            return sidecar.path_of_name(name)
        return sidecar.path_of(shelf.file_of(name, number))
    path = Path(model)
    return sidecar.path_of(path / "model.onnx" if path.is_dir() else path)


def load_uncalibrated(model: str | Path) -> Artifact:
    """Load and check a model as it was trained, whatever lies beside it; otherwise as `load`."""
    name, version = _named(model)
    if name is not None:
        return _default(name) if version is None else _by_name(name, _number(name, version))
    path = Path(model)
    if path.is_dir():
        path = path / "model.onnx"
    try:
        content = files.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise ModelError(
            f"no such model ({error.strerror})",
            where=path,
            remedy=f"name a .onnx file, a run folder, or one of: {', '.join(SHIPPED)}",
        ) from error
    return parse(content, source=str(path))


def _named(model: str | Path) -> tuple[str | None, str | None]:
    """Give the name of a shipped model and the version asked for, or (None, None) for a path."""
    if isinstance(model, str):
        name, at, version = model.partition("@")
        if name in SHIPPED:
            return name, version if at else None
    return None, None


def _number(name: str, version: str) -> int | None:
    """Give the number of a version; None = the shipped model."""
    if version == shelf.SHIPPED:
        return None
    if not (version.isascii() and version.isdecimal() and len(version) <= 9):
        raise ModelError(
            f"{version!r} is no version",
            where=f"{name}@{version}",
            remedy=f"write {name}@{shelf.SHIPPED}, or a number of `digitry models list`",
        )
    return int(version)


def _default_number(name: str) -> int | None:
    """Give the number of the default, where that can be told; None = the shipped model."""
    try:
        return shelf.default_number(name)
    except ModelError:
        return None


def _default(name: str) -> Artifact:
    """Give what the plain name of a shipped model means to this user."""
    try:
        return _by_name(name, shelf.default_number(name))
    except ModelError as error:
        if error.where == name:
            # The shipped model itself: there is nothing to fall back on.
            raise
        warnings.warn(f"{error}; the shipped model reads meanwhile", DigitryWarning, stacklevel=4)
    return _by_name(name, None)


def _by_name(name: str, number: int | None) -> Artifact:
    if number is None:
        file = resources.files("digitry") / "models" / f"{name}.onnx"
        return replace(parse(file.read_bytes(), source=name), version=shelf.SHIPPED)
    found = shelf.find(name, number)
    loaded = parse(shelf.content(found), source=found.reference)
    # The file does not know its number; whoever reads a reading wants to.
    metadata = replace(loaded.metadata, name=found.reference)
    return replace(loaded, metadata=metadata, version=str(number))


def parse(content: bytes, *, source: str) -> Artifact:
    """Check the bytes of a model file and read its metadata; nothing of it is run.

    Raises:
        ModelError: it is not an undamaged model of ours.
    """
    try:
        if len(content) > MAX_BYTES:
            raise ModelError(f"is larger than {MAX_BYTES >> 20} MiB", remedy="no digit model is")
        facts = _facts(content)
        version = facts.get("format")
        if version != FORMAT_VERSION:
            raise ModelError(
                f"has the file format {version!r}; this digitry reads {FORMAT_VERSION}",
                remedy="update digitry",
            )
        if facts.get("graph_sha256") != _graph_sha256(content):
            raise ModelError(
                "is damaged: its graph does not match its sha256", remedy="copy it again"
            )
        return Artifact(content, _metadata(facts), hashlib.sha256(content).hexdigest(), source)
    except ModelError as error:
        raise ModelError(error.what, where=source, remedy=error.remedy) from error


def _metadata(facts: dict[str, Any]) -> Metadata:
    try:
        for name, kind in _PLAIN.items():
            if not isinstance(facts[name], kind):
                raise TypeError(f"{name} is no {kind.__name__}")
        if not all(math.isfinite(number) for row in facts["risk_coverage"] for number in row):
            raise ValueError("risk_coverage is not finite")
        return Metadata(
            **{f.name: facts[f.name] for f in fields(Metadata) if f.name not in _TYPED},
            labels=tuple(str(label) for label in facts["labels"]),
            glyph_version=int(facts["glyph_version"]),
            temperature=float(facts["temperature"]),
            risk_coverage=tuple(
                (float(threshold), float(error), float(coverage))
                for threshold, error, coverage in facts["risk_coverage"]
            ),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"has metadata that cannot be read ({type(error).__name__}: {error})",
            remedy="export it again with digitry",
        ) from error


_TYPED = ("labels", "glyph_version", "temperature", "risk_coverage")
_PLAIN = {"name": str, "recipe": dict, "data": dict, "scores": dict, "created": str, "digitry": str}


# --- the protobuf wire format, as far as a gate needs it -------------------------------------------
# Source: protobuf.dev/programming-guides/encoding and the field numbers of onnx.proto (IR version 13).


def _facts(content: bytes) -> dict[str, Any]:
    """Walk the whole model, refuse what does not belong, and give our metadata."""
    if not content:
        raise ModelError("is empty", remedy="copy it again")
    facts: dict[str, Any] | None = None
    graphs = 0
    for number, value in _walk(content):
        if number == 7:
            graphs += 1
            _check_graph(_message(value))
        elif number == 8:
            domain = dict(_walk(_message(value))).get(1, b"")
            if domain not in (b"", b"ai.onnx"):
                raise ModelError(
                    f"uses operators from {domain!r}", remedy="only standard ones are run"
                )
        elif number == 14:
            entry = dict(_walk(_message(value)))
            if entry.get(1) == b"digitry":
                facts = _json(_message(entry.get(2, b"")))
        elif number in (20, 25):
            raise ModelError("holds functions or training code", remedy="only a plain graph is run")
    if facts is None or graphs != 1:
        raise ModelError(
            "is not a digitry model (no metadata of ours in it)",
            remedy="use a model.onnx that `digitry train` or `digitry export` wrote",
        )
    return facts


def _check_graph(graph: bytes) -> None:
    nodes = 0
    for number, value in _walk(graph):
        if number == 1:
            nodes += 1
            if nodes > MAX_NODES:
                raise ModelError(f"has more than {MAX_NODES} nodes", remedy="no digit model has")
            _check_node(_message(value))
        elif number == 5:
            _check_tensor(_message(value))
        elif number == 15:
            raise ModelError("holds sparse tensors", remedy="only plain ones are accepted")


def _check_node(node: bytes) -> None:
    for number, value in _walk(node):
        if number == 4 and _message(value).decode("ascii", "replace") not in OPERATORS:
            raise ModelError(f"uses the operator {value!r}", remedy="no digit model needs it")
        if number == 7 and value not in (b"", b"ai.onnx"):
            raise ModelError(
                f"uses an operator from {value!r}", remedy="only standard ones are run"
            )
        if number == 5:
            for part, content in _walk(_message(value)):
                if part in (6, 11, 22, 23):
                    raise ModelError(
                        "holds a graph or a sparse tensor within a node",
                        remedy="only plain ones run",
                    )
                if part in (5, 10):
                    _check_tensor(_message(content))
                if part in (3, 8) and any(abs(whole) > MAX_ATTRIBUTE for whole in _wholes(content)):
                    raise ModelError(
                        "sets an operator to an absurd size", remedy="no digit model needs it"
                    )


# Bytes of one number in `raw_data`, by ONNX's number of the type: float, int32, int64, bool, float16,
# double. Strings, complex and four-bit numbers have no business here.
_WIDTHS = {1: 4, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8}


def _check_tensor(tensor: bytes) -> None:
    dims: list[int] = []
    kind, raw, floats, wholes, doubles = 0, None, 0, 0, 0
    sizes: list[int] = []
    for number, value in _walk(tensor):
        if number == 13 or (number == 14 and value != 0):
            raise ModelError("keeps weights in another file", remedy="export it as one file")
        if number == 1:
            dims += _wholes(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 9:
            raw = _message(value)
        elif number == 4:
            floats += len(_message(value)) // 4
        elif number in (5, 7, 11):
            held = _wholes(value)
            wholes += len(held)
            sizes += held if number == 7 else []
        elif number == 10:
            doubles += len(_message(value)) // 8
        elif number == 6:
            raise ModelError("holds strings for weights", remedy="weights are numbers")
    if kind not in _WIDTHS:
        raise ModelError(f"holds weights of the type {kind}", remedy="export it with digitry")
    if any(side < 0 or side > MAX_BYTES for side in dims) or math.prod(dims) > MAX_BYTES:
        raise ModelError("claims more weights than it holds", remedy="export it again")
    held_count = len(raw) // _WIDTHS[kind] if raw is not None else floats + wholes + doubles
    if held_count != math.prod(dims) or (raw is not None and len(raw) % _WIDTHS[kind]):
        raise ModelError("claims other weights than it holds", remedy="export it again")
    if kind == 7:
        if raw is not None:
            sizes += struct.unpack(f"<{len(raw) // 8}q", raw)
        # Whole numbers are shapes, pads and axes: they say how much memory an operator asks for.
        if len(sizes) > 64 or any(abs(size) > MAX_SHAPE for size in sizes):
            raise ModelError("sets an operator to an absurd size", remedy="no digit model needs it")


def _wholes(value: int | bytes) -> list[int]:
    """Give the signed numbers of a field, alone or packed."""
    if isinstance(value, int):
        return [value - (1 << 64) if value >= 1 << 63 else value]
    found, position = [], 0
    while position < len(value):
        whole, position = _varint(value, position)
        found.append(whole - (1 << 64) if whole >= 1 << 63 else whole)
    return found


def _walk(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give (field number, value) of one protobuf message: an int, or the bytes of a part."""
    position, end = 0, len(content)
    while position < end:
        key, position = _varint(content, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(content, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(content, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _broken()
        if position + length > end:
            raise _broken()
        yield number, content[position : position + length]
        position += length


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(content):
            raise _broken()
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _broken()


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise _broken()
    return value


def _json(text: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise ModelError("has metadata that is not JSON", remedy="export it again with digitry")
    return facts


def _graph_sha256(content: bytes) -> str:
    for number, value in _walk(content):
        if number == 7:
            return hashlib.sha256(_message(value)).hexdigest()
    return ""


def _broken() -> ModelError:
    return ModelError("is cut or is not an ONNX file", remedy="copy it again")
