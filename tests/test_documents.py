"""JSON that digitry reads back, whatever was made of it: a value of ours, or one line that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digitry.corrections import transfer
from digitry.corrections.correction import Correction
from digitry.corrections.store import Corrections
from digitry.errors import DigitryError
from digitry.training import run_folder
from digitry.training.recipes import RECIPES, Recipe
from digitry.workers.answer import png

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def refused_or_read(read: Callable[[], object]) -> None:
    try:
        read()
    except DigitryError as error:
        assert "\n" not in str(error)


def changed(data: st.DataObject, document: dict[str, Any]) -> dict[str, Any]:
    """Change, remove or add one entry of a sound document, at any depth."""
    document = json.loads(json.dumps(document))
    place: Any = document
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        if not keys or data.draw(st.integers(0, 2)) == 0:
            break
        inner = place[data.draw(st.sampled_from(keys))]
        if not isinstance(inner, (dict, list)) or not inner:
            break
        place = inner
    if isinstance(place, dict):
        key = data.draw(st.sampled_from([*sorted(place), "unknown"]))
        if data.draw(st.booleans()):
            place[key] = data.draw(VALUES)
        else:
            place.pop(key, None)
    elif place:
        place[data.draw(st.integers(0, len(place) - 1))] = data.draw(VALUES)
    return document


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One exported correction."""
    folder = tmp_path_factory.mktemp("export")
    store = Corrections(str(folder / "corrections.db"))
    picture = png(np.zeros((28, 28), np.uint8))
    store.add(
        Correction(
            label="5", glyph=picture, crop=picture, read_value=3, best_guess=3, confidence=0.6,
            reason=None, model="reader", author="",
        )
    )  # fmt: skip
    transfer.export(store, folder / "out")
    store.close()
    found: dict[str, Any] = json.loads((folder / "out" / transfer.ROWS).read_text())
    return found


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_row_of_corrections_is_one_or_is_named(
    row: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    path.write_text(json.dumps(changed(data, row)) + "\n")
    refused_or_read(lambda: list(transfer._rows(path)))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_recipe_is_one_or_is_named(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(RECIPES)))
    document = changed(data, RECIPES[name].to_dict())
    refused_or_read(lambda: Recipe.from_dict(document))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_start_of_a_run_is_one_or_is_named(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    start = {"data": "uci", "data_dir": None, "data_sha256": "0", "device": "cpu", "only": ["loss"]}
    (folder / "recipe.json").write_text(json.dumps(RECIPES["dense-128"].to_dict()))
    (folder / run_folder.ARGUMENTS).write_text(json.dumps(changed(data, start)))
    refused_or_read(lambda: run_folder.load_arguments(folder))


@pytest.mark.parametrize("content", [b"[" * 200_000, b"\xff\xfe", b"", b"[]", b"5", b"{", b"NaN"])
def test_what_is_no_document_is_named(tmp_path: Path, content: bytes) -> None:
    for name in ("recipe.json", run_folder.ARGUMENTS, "metrics.json", "rows.jsonl"):
        (tmp_path / name).write_bytes(content)
    for read in (
        lambda: run_folder.load_arguments(tmp_path),
        lambda: run_folder.load_run(tmp_path),
        lambda: list(transfer._rows(tmp_path / "rows.jsonl")),
    ):
        refused_or_read(read)
