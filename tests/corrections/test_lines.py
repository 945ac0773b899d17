"""Corrections of whole lines: checked, kept, undone and moved; a store made before them is migrated."""

import csv
import io
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("sqlalchemy", reason="the extra `serve` is not installed")

from digitry.corrections import migrations, transfer
from digitry.corrections.correction import LineCorrection, checked_text
from digitry.corrections.store import Corrections
from digitry.errors import DataError, UsageError

from .test_migrations import make_former, revision
from .test_store import correction


def strip(seed: int = 0, rows: int = 64) -> bytes:
    ink = np.random.default_rng(seed).integers(0, 256, (rows, 90), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ink).save(stream, "PNG")
    return stream.getvalue()


def line(text: str = "12.50", seed: int = 0, **changes: object) -> LineCorrection:
    facts: dict[str, object] = {
        "text": text, "strip": strip(seed), "read_text": "1250", "confidence": 0.4,
        "box": (3, 4, 50, 20), "model": "lines@shipped",
    }  # fmt: skip
    return LineCorrection(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Corrections:
    return Corrections(str(tmp_path / "corrections.db"))


def test_a_line_is_kept_with_its_strip_and_the_right_text(store: Corrections) -> None:
    kept, new = store.add_line(line(" 12.50   7 "))
    assert new
    assert (kept.text, kept.read_text, kept.box) == ("12.50 7", "1250", (3, 4, 50, 20))
    found = store.get(kept.id)
    assert found == kept
    assert kept.strip == strip()
    assert [*store.each_line()] == [kept]
    # The same said of the same strip is stored once; another text takes its place.
    assert store.add_line(line("12.50 7")) == (kept, False)
    other, new = store.add_line(line("13.50 7"))
    assert new
    assert [*store.lines()] == [other]
    assert len(store.lines(undone=True)) == 2


def test_digits_and_lines_do_not_mix(store: Corrections) -> None:
    digit, _ = store.add(correction(0))
    kept, _ = store.add_line(line())
    assert [row.id for row in store.list()] == [digit.id]
    assert [row.id for row in store.each()] == [digit.id]
    assert (store.stats().count, store.stats().lines) == (1, 1)
    undone = store.undo(kept.id)
    assert undone is not None
    assert undone.undone
    assert (store.stats().count, store.stats().lines) == (1, 0)
    assert store.delete([digit.id, kept.id]) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("12 EUR", "has 'E'"),
        ("", "no digit"),
        ("--", "no digit"),
        ("1" * 121, "121 characters"),
        ("1\n2", "has"),
    ],
)
def test_texts_that_are_no_line_are_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        line(text)


def test_all_marks_are_allowed() -> None:
    assert checked_text("13/01-2023 12:30 1,5.") == "13/01-2023 12:30 1,5."


def test_lines_are_exported_as_labelled_pictures_and_imported(
    store: Corrections, tmp_path: Path
) -> None:
    kept = [store.add_line(line(text, seed))[0] for seed, text in enumerate(("1,5", "20"))]
    store.add(correction(0))
    assert transfer.export(store, tmp_path / "out").count == 3
    with (tmp_path / "out" / "lines" / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] for row in rows] == ["1,5", "20"]
    assert all((tmp_path / "out" / "lines" / row["file"]).is_file() for row in rows)
    other = Corrections(str(tmp_path / "other.db"))
    assert transfer.load(other, tmp_path / "out").count == 3
    assert [row.text for row in other.each_line()] == [row.text for row in kept]
    assert transfer.load(other, tmp_path / "out").known == 3


def test_an_imported_strip_must_be_one(store: Corrections, tmp_path: Path) -> None:
    store.add_line(line(strip=strip(rows=40)))
    transfer.export(store, tmp_path / "out")
    with pytest.raises(DataError, match="40 rows high, not 64"):
        transfer.load(Corrections(str(tmp_path / "other.db")), tmp_path / "out")


@pytest.mark.parametrize("former", ["before Alembic", "r2"])
def test_a_store_without_lines_is_migrated_and_keeps_its_digits(
    former: str, tmp_path: Path
) -> None:
    path = tmp_path / "corrections.db"
    url = f"sqlite:///{path}"
    if former == "r2":
        with Corrections(url) as store:
            store.add(correction(0))
        with sqlite3.connect(path) as old:
            # As the version before made it.
            old.execute("DROP TABLE digitry_corrected_lines")
            old.execute(f"UPDATE {migrations.TABLE} SET version_num = 'r2'")
        old.close()
    else:
        make_former(url)
    with Corrections(url) as store:
        assert store.stats().count == (former == "r2")
        kept, _ = store.add_line(line())
        assert store.get(kept.id) == kept
    assert revision(url) == [migrations.HEAD]
