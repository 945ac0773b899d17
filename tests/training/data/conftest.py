"""Small packs of handwriting, drawn here: the same forms as the real ones, a few samples each."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WritePack = Callable[..., Path]


@pytest.fixture
def write_pack(tmp_path: Path) -> WritePack:
    """Write a pack, and note its sha256 in packs.json as the builder does."""
    folder = tmp_path / "data" / "handwriting"

    def write(name: str, **arrays: Any) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez_compressed(stream, **arrays)
        path = folder / f"{name}.npz"
        path.write_bytes(stream.getvalue())
        listed = folder / "packs.json"
        entries = json.loads(listed.read_text()) if listed.exists() else {}
        entries[path.name] = {"sha256": hashlib.sha256(stream.getvalue()).hexdigest()}
        listed.write_text(json.dumps(entries))
        return folder.parent

    return write


@pytest.fixture
def strokes() -> dict[str, Any]:
    """Three samples: one stroke, two strokes, one stroke; the arrays of a stroke pack."""
    return {
        "points": np.array(
            [[0, 0], [250, 1000], [0, 500], [1000, 500], [500, 0], [500, 800], [0, 0], [1000, 100]],
            np.int16,
        ),
        "stroke_offsets": np.array([0, 2, 4, 6, 8], np.int32),
        "sample_offsets": np.array([0, 1, 3, 4], np.int32),
    }


@pytest.fixture
def ragged() -> dict[str, Any]:
    """Two grey pictures of 2x3 and 2x2, dark ink on light paper; the arrays of a ragged pack."""
    return {
        "pixels": np.array([250, 250, 0, 250, 250, 0, 200, 50, 200, 50], np.uint8),
        "offsets": np.array([0, 6, 10], np.int64),
        "heights": np.array([2, 2], np.int32),
        "widths": np.array([3, 2], np.int32),
    }


_STROKES = {"points": "int16", "stroke_offsets": "int32", "sample_offsets": "int32"}
_RAGGED = {"pixels": "uint8", "offsets": "int64", "heights": "int32", "widths": "int32"}
_NAMES = {"writers": "str", "contributors": "str"}

FORMS = {
    "unipen_digits": {"labels": "uint8", **_NAMES, **_STROKES, "suspect": "bool"},
    "unipen_strings": {
        "labels": "str", "digits": "str", "digits_only": "bool", **_NAMES, **_STROKES,
    },
    "unipen_letters": {
        "images": "uint8", "labels": "str", "looks_like_digit": "bool", "category": "str", **_NAMES,
    },
    "unipen_words": {**_RAGGED, "labels": "str", **_NAMES},
    "lectaurep_strings": {
        **_RAGGED, "labels": "str", "digits": "str", "pages": "str", "documents": "str",
    },
    "lectaurep_text": {**_RAGGED, "line_text": "str", "documents": "str"},
    "peraire_strings": {**_RAGGED, "labels": "str", "digits": "str", "pages": "str"},
    "bhmsds_digits": {"images": "uint8", "labels": "uint8"},
    "bhmsds_symbols": {"images": "uint8", "labels": "str"},
    "mfeat_pixel": {"images": "uint8", "labels": "uint8"},
    "omniglot": {"images": "uint8", "labels": "str", "writers": "str"},
    "quickdraw": {"images": "uint8", "labels": "str"},
    "mnist_writers": {"writers": "int32"},
}  # fmt: skip
"""The arrays of each published pack, in their order, and of what kind they are."""


@pytest.fixture
def check_form() -> Callable[[str, dict[str, Any]], None]:
    """Assert that arrays have the keys, order and dtypes of a published pack."""

    def check(name: str, arrays: dict[str, Any]) -> None:
        kinds = {
            key: "str" if array.dtype.kind == "U" else array.dtype.name
            for key, array in arrays.items()
        }
        assert list(kinds.items()) == list(FORMS[name].items())

    return check
