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
