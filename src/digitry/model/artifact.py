"""The model file: one ONNX graph, with the metadata that reading needs.

`Metadata` is stored as one JSON text in the ONNX metadata, so the file is still a plain ONNX model for
other tools. Input `glyphs` is (n, 28, 28) float32 in [0, 1], ink = 1; outputs `logits` and
`probabilities` are (n, classes) float32.

Our own reader of the protobuf wire format checks a file before ONNX Runtime loads it: size, structure,
one graph, standard operators only, no external data, our metadata, and the sha256 of the graph.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from digitry import files
from digitry.errors import ModelError
from digitry.model.calibration_checks import Curve
from digitry.model.calibration_file import Calibration
from digitry.model.foreign_files import ForeignModelError, check_not_foreign, not_ours
from digitry.model.onnx_check import MAX_BYTES, checked_facts, graph_sha256
from digitry.plain import Plain

FORMAT_VERSION = 1
GLYPH_VERSION = 2
"""The normalisation of glyphs that a model expects; raised whenever `reading.glyph` changes pixels."""
MAX_TEXT = 2000
"""Characters of one text in the metadata."""
MODEL_FILE = "model.onnx"
"""The name of the model file in a run folder, and in the folder of a user's version."""
NOT_A_DIGIT = "not a digit"
"""The label of the class for ink that is not a digit."""
DIGIT_CLASSES = 10
"""How many of a model's outputs are digits: the first ones."""
NOT_A_DIGIT_CLASS = 10
"""The output, and the label of an image as a number, that stands for `NOT_A_DIGIT`."""
LABELS = (*(str(digit) for digit in range(DIGIT_CLASSES)), NOT_A_DIGIT)
"""The labels in the order of the outputs; a model that refuses nothing has the digits only."""


@dataclass(frozen=True, kw_only=True)
class Metadata(Plain):
    """The metadata of a model file.

    Attributes:
        name: the value of `model` in readings.
        labels: label of each output: "0" to "9", and perhaps `NOT_A_DIGIT` last.
        glyph_version: the normalisation of glyphs that it was trained on.
        temperature: the logits are divided by it to give calibrated probabilities; 1 = as trained.
        recipe: all fields of the recipe that it was trained with.
        risk_coverage: rows (threshold, error, coverage) on held-out data: the share of wrong readings
            among those with confidence >= threshold, and their share of all images.
        data: name -> sha256 of the data it was trained on.
        scores: name -> number, measured on `data` or the test set named in the key.
        created: ISO 8601 UTC.
        digitry: the version that wrote it.
    """

    name: str
    labels: tuple[str, ...]
    glyph_version: int = GLYPH_VERSION
    temperature: float = 1.0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    risk_coverage: Curve = ()
    data: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    created: str = ""
    digitry: str = ""

    def __post_init__(self) -> None:
        if self.labels not in (LABELS[:DIGIT_CLASSES], LABELS):
            raise ModelError(
                f"has the labels {list(self.labels)}",
                remedy="use a model with the labels 0 to 9, in order",
            )
        if self.glyph_version != GLYPH_VERSION:
            raise ModelError(
                f"was trained on glyphs of version {self.glyph_version}; this version of digitry makes "
                f"version {GLYPH_VERSION}",
                remedy="train it again, or use the version of digitry that made it",
            )
        if not (math.isfinite(self.temperature) and 0.01 <= self.temperature <= 100):
            raise ModelError(
                f"has the temperature {self.temperature}",
                remedy="export it again with a temperature of 0.01 to 100",
            )


@dataclass(frozen=True)
class Artifact:
    """A checked model file, in memory.

    Attributes:
        onnx: the bytes of the whole file.
        metadata: its metadata; temperature and risk_coverage are those of the calibration, if any.
        sha256: of the whole file.
        source: the name or path that it was loaded from.
        calibration: the calibration to the user's images that was found beside it and applied, if any.
        version: for a model loaded by name: `shipped`, or the number of the user's version; None for a
            file.
    """

    onnx: bytes = field(repr=False)
    metadata: Metadata
    sha256: str
    source: str
    calibration: Calibration | None = None
    version: str | None = None

    @property
    def reference(self) -> str:
        """The name that always loads exactly this model, even after the default has changed."""
        if self.version is None:
            return self.source
        return f"{self.source.partition('@')[0]}@{self.version}"

    @property
    def fingerprint(self) -> str:
        """The sha256 of everything that decides a reading: the file and its calibration."""
        if self.calibration is None:
            return self.sha256
        facts = json.dumps(self.calibration.to_dict(), sort_keys=True)
        return hashlib.sha256((self.sha256 + facts).encode()).hexdigest()


def save(path: Path, onnx_model: bytes, metadata: Metadata) -> Artifact:
    """Write a model file in one step, after the same checks as for loading.

    Args:
        path: target; an existing file does not change if anything fails.
        onnx_model: a serialised ONNX model without our metadata.
        metadata: the metadata to store in it.

    Raises:
        ModelError: `load_model` would not accept the model.
    """
    import onnx

    model = onnx.load_model_from_string(onnx_model)
    facts = {
        "format": FORMAT_VERSION,
        **metadata.to_dict(),
        "graph_sha256": graph_sha256(onnx_model),
    }
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = "digitry", json.dumps(facts, allow_nan=False)
    content = model.SerializeToString()
    artifact = parse(content, source=str(path))
    files.write_bytes(path, content)
    return artifact


def parse(content: bytes, *, source: str) -> Artifact:
    """Check the bytes of a model file and read its metadata, without running it.

    Raises:
        ModelError: it is damaged or not a digitry model.
    """
    try:
        check_not_foreign(content, Path(source))
        if len(content) > MAX_BYTES:
            raise ModelError(f"is larger than {MAX_BYTES >> 20} MiB", remedy="use a smaller model")
        facts = checked_facts(content)
        version = facts.get("format")
        if version != FORMAT_VERSION:
            raise ModelError(
                f"has the file format {version!r}; this version of digitry reads {FORMAT_VERSION}",
                remedy="update digitry",
            )
        if facts.get("graph_sha256") != graph_sha256(content):
            raise ModelError(
                "is damaged: its graph does not match its sha256", remedy="copy it again"
            )
        return Artifact(content, _metadata(facts), hashlib.sha256(content).hexdigest(), source)
    except ForeignModelError as error:
        raise not_ours(source) from error
    except ModelError as error:
        raise ModelError(error.what, where=source, remedy=error.remedy) from error


def _metadata(facts: dict[str, Any]) -> Metadata:
    try:
        metadata = Metadata.from_dict(facts)
        numbers = (number for row in metadata.risk_coverage for number in row)
        if not all(map(math.isfinite, numbers)):
            raise ValueError("risk_coverage is not finite")
        # What a file says about itself is printed on somebody's terminal.
        if not all(len(text) <= MAX_TEXT and text.isprintable() for text in _texts(facts)):
            raise ValueError("it has text that cannot be printed")
        return metadata
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"has invalid metadata ({error})",
            remedy="export it again with digitry",
        ) from error


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _texts(key)
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
