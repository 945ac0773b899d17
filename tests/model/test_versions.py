"""The user's versions of a model: at any moment exactly one is the default."""

import contextlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import digitry
from digitry import files
from digitry.errors import DigitryError, DigitryWarning, ModelError, UnavailableError, UsageError
from digitry.model import artifact, versions
from digitry.model.load import load_model, load_uncalibrated
from digitry.model.versions import Version
from digitry.reading.reader import Reader

from ..processes import forked

SHIPPED = load_model("reader@shipped")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def added(**changes: Any) -> Version:
    facts: dict[str, Any] = {
        "created": "2026-01-01T00:00:00+00:00", "reason": "a trial", "passed": True,
        "scores": {"frozen MNIST": 0.99}, "gate": {"held": 3}, "parent_sha256": SHIPPED.sha256,
    }  # fmt: skip
    return versions.add("reader", SHIPPED.onnx, **{**facts, **changes})


def states() -> dict[int, str]:
    found, broken = versions.versions("reader")
    assert not broken
    return {version.number: version.state for version in found}


# --- versions ------------------------------------------------------------------------------------------


def test_add_and_find_round_trip() -> None:
    version = added()
    assert (version.reference, version.state) == ("reader@1", versions.CANDIDATE)
    assert versions.find("reader", 1) == version
    assert versions.content(version) == SHIPPED.onnx
    assert version.sha256 == SHIPPED.sha256


def test_without_a_promotion_the_shipped_model_is_the_default() -> None:
    added()
    assert versions.default_number("reader") is None
    assert load_model("reader").reference == "reader@shipped"


def test_promotions_are_rolled_back_in_reverse_order() -> None:
    for _ in range(3):
        added()
    versions.promote("reader", 1, reason="better")
    versions.promote("reader", 3, reason="better still")
    assert versions.default_number("reader") == 3
    assert states() == {1: versions.BEFORE, 2: versions.CANDIDATE, 3: versions.DEFAULT}
    assert versions.find("reader", 3).reason == "better still"

    assert versions.roll_back("reader", reason="it reads 7s as 1s") == 1
    assert states() == {1: versions.DEFAULT, 2: versions.CANDIDATE, 3: versions.ROLLED_BACK}
    assert versions.find("reader", 3).reason == "it reads 7s as 1s"
    assert versions.roll_back("reader", reason="no better") is None
    assert states()[1] == versions.ROLLED_BACK
    with pytest.raises(UsageError, match="is already the default"):
        versions.roll_back("reader", reason="again")


def test_promoting_the_shipped_model_can_be_rolled_back() -> None:
    added()
    versions.promote("reader", 1, reason="better")
    versions.promote("reader", None, reason="after all")
    assert versions.default_number("reader") is None
    assert states() == {1: versions.BEFORE}


def test_succeed_promotes_only_over_the_version_compared_with() -> None:
    for _ in range(2):
        added()
    assert versions.succeed("reader", 1, over=None, reason="passed")
    assert not versions.succeed("reader", 2, over=None, reason="passed")
    assert states() == {1: versions.DEFAULT, 2: versions.CANDIDATE}
    assert versions.succeed("reader", 2, over=1, reason="passed")
    assert versions.default_number("reader") == 2


def test_numbers_are_never_reused(models: Path) -> None:
    for _ in range(2):
        added()
    versions.promote("reader", 2, reason="better")
    versions.roll_back("reader", reason="worse")
    for path in (models / "reader" / "2").iterdir():
        path.unlink()
    assert added().number == 3


# --- by name -------------------------------------------------------------------------------------------


def test_a_name_loads_the_default_and_readings_name_its_version() -> None:
    page = np.full((60, 60), 255, np.uint8)
    page[15:45, 28:32] = 0
    assert digitry.read(page).model == "reader"
    added()
    versions.promote("reader", 1, reason="better")
    # The cached reader must not be used after the default has changed.
    assert digitry.read(page).model == "reader@1"
    assert Reader("reader").name == "reader@1"
    assert Reader("reader@shipped").read(page).model == "reader"
    versions.roll_back("reader", reason="worse")
    assert digitry.read(page).model == "reader"
    assert digitry.read(page, model="reader@1").model == "reader@1"


def test_a_reference_loads_the_same_model_after_a_promotion() -> None:
    added()
    before = load_model("reader")
    versions.promote("reader", 1, reason="better")
    assert load_model(before.reference).version == versions.SHIPPED_VERSION
    assert load_model("reader").reference == "reader@1"


@pytest.mark.parametrize("version", ["2", "0", "", "x", "-1", "1.5", "٣", "9" * 30, "../1"])
def test_an_invalid_version_is_refused_by_name(version: str) -> None:
    added()
    with pytest.raises(ModelError) as error:
        load_model(f"reader@{version}")
    assert str(error.value).startswith(f"reader@{version}: ")


def test_a_user_without_a_home_uses_the_shipped_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(versions, "user_models", lambda: None)
    assert load_uncalibrated("reader").reference == "reader@shipped"
    assert versions.versions("reader") == ([], [])
    with pytest.raises(UnavailableError, match="DIGITRY_MODELS"):
        added()


# --- damage --------------------------------------------------------------------------------------------

DAMAGES = {
    "model cut": lambda home: (home / "1" / "model.onnx").write_bytes(SHIPPED.onnx[:-9]),
    "model gone": lambda home: (home / "1" / "model.onnx").unlink(),
    "facts cut": lambda home: (home / "1" / "version.json").write_text('{"format": 1, "sta'),
    "facts empty": lambda home: (home / "1" / "version.json").write_text(""),
    "facts of another kind": lambda home: (home / "1" / "version.json").write_text("[1, 2]"),
    "facts with a strange state": lambda home: replaced(home, state="best"),
    "facts without scores": lambda home: replaced(home, scores=None),
    "facts with a line break": lambda home: replaced(home, reason="a\nb"),
    "of a later version of digitry": lambda home: replaced(home, format=9),
    "pointer cut": lambda home: (home / "default.json").write_text('{"history": [0'),
    "pointer to nothing": lambda home: (home / "default.json").write_text('{"history": [0, 7]}'),
    "pointer of another kind": lambda home: (home / "default.json").write_text(
        '{"history": ["1"]}'
    ),
    "pointer negative": lambda home: (home / "default.json").write_text('{"history": [-1]}'),
}


def replaced(home: Path, **changes: Any) -> None:
    path = home / "1" / "version.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_default_is_one_warning_and_the_shipped_model_is_used(
    damage: str, models: Path
) -> None:
    added()
    versions.promote("reader", 1, reason="better")
    DAMAGES[damage](models / "reader")
    with pytest.warns(DigitryWarning) as told:
        loaded = load_model("reader")
    assert loaded.reference == "reader@shipped"
    assert len(told) == 1 and "\n" not in str(told[0].message)
    assert load_model("reader@shipped").sha256 == SHIPPED.sha256
    if "pointer" not in damage:
        with pytest.raises(ModelError, match="reader@1: "):
            load_model("reader@1")
        assert len(versions.versions("reader")[1]) == 1


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_promotion_repairs_any_damage(damage: str, models: Path) -> None:
    added()
    versions.promote("reader", 1, reason="better")
    DAMAGES[damage](models / "reader")
    mended = added()
    versions.promote("reader", mended.number, reason="better")
    assert load_model("reader").reference == mended.reference


def test_a_damaged_version_does_not_become_the_default(models: Path) -> None:
    for _ in range(2):
        added()
    versions.promote("reader", 1, reason="better")
    (models / "reader" / "2" / "model.onnx").write_bytes(b"junk")
    with pytest.raises(ModelError, match="reader@2: "):
        versions.promote("reader", 2, reason="better")
    assert load_model("reader").reference == "reader@1"


def test_rollback_skips_damaged_versions(models: Path) -> None:
    for number in (1, 2, 3):
        added()
        versions.promote("reader", number, reason="better")
    (models / "reader" / "2" / "version.json").write_text("")
    assert versions.roll_back("reader", reason="worse") == 1


def test_a_version_for_other_glyphs_is_not_used(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added()
    versions.promote("reader", 1, reason="better")
    whole = artifact._metadata

    def later(facts: dict[str, Any]) -> Any:
        # As after an update of digitry that changed the normalisation of glyphs.
        if later.calls == 0:
            facts = {**facts, "glyph_version": 0}
        later.calls += 1
        return whole(facts)

    later.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(artifact, "_metadata", later)
    with pytest.warns(DigitryWarning, match="reader@1: was trained on glyphs of version 0"):
        assert load_model("reader").reference == "reader@shipped"


def test_on_the_command_line_damage_is_one_line_and_the_image_is_still_read(
    models: Path, tmp_path: Path
) -> None:
    added()
    versions.promote("reader", 1, reason="better")
    (models / "reader" / "1" / "model.onnx").write_bytes(b"junk")
    sample = Path(__file__).parents[2] / "samples" / "digit-3.png"

    def read(model: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "digitry", "read", str(sample), "--model", model]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = read("reader")
    assert (done.returncode, done.stdout) == (0, "3\n")
    (line,) = done.stderr.splitlines()
    assert line.startswith("digitry: reader@1: is damaged")
    done = read("reader@1")
    assert (done.returncode, done.stdout) == (3, "")
    assert len(done.stderr.splitlines()) == 1


# --- several at once -----------------------------------------------------------------------------------


def _work(folder: str, seed: int) -> list[int]:
    import os
    import random

    os.environ["DIGITRY_MODELS"] = folder
    mine = []
    for turn in range(6):
        mine.append(added(reason=f"{seed}.{turn}").number)
        rng = random.Random(100 * seed + turn)
        if rng.random() < 0.7:
            versions.promote("reader", mine[-1], reason="better")
        else:
            with contextlib.suppress(UsageError):
                versions.roll_back("reader", reason="worse")
        load_model("reader")
    return mine


def test_concurrent_processes_get_different_numbers_and_one_default(models: Path) -> None:
    with forked().Pool(3) as pool:
        taken = pool.starmap(_work, [(str(models), seed) for seed in range(3)])
    assert sorted(number for mine in taken for number in mine) == list(range(1, 19))
    found, broken = versions.versions("reader")
    assert len(found) == 18 and not broken
    default = versions.default_number("reader")
    assert [v.number for v in found if v.state == versions.DEFAULT] == (
        [default] if default else []
    )
    assert load_model("reader").version == str(default or versions.SHIPPED_VERSION)


def test_reading_works_while_other_processes_promote(models: Path) -> None:
    for _ in range(2):
        added()

    def promote() -> None:
        for turn in range(30):
            versions.promote("reader", 1 + turn % 2, reason="better")

    with ThreadPoolExecutor(1) as others:
        done = others.submit(promote)
        seen = set()
        while not done.done():
            seen.add(load_model("reader").reference)
        done.result()
    assert seen <= {"reader@shipped", "reader@1", "reader@2"}


def test_a_lock_timeout_is_an_error_and_the_default_stays(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added()
    monkeypatch.setattr(versions, "LOCK_SECONDS", 0.05)
    with (
        files.alone(models / "reader" / versions.LOCK, seconds=60),
        ThreadPoolExecutor(1) as other,
        pytest.raises(DigitryError, match="in use by another digitry"),
    ):
        other.submit(versions.promote, "reader", 1, reason="better").result()
    assert versions.default_number("reader") is None
    versions.promote("reader", 1, reason="better")
    assert versions.default_number("reader") == 1


def test_an_unfinished_version_is_ignored(models: Path) -> None:
    (models / "reader" / "1").mkdir(parents=True)
    (models / "reader" / "1" / "model.onnx").write_bytes(SHIPPED.onnx)
    (models / "reader" / "notes").mkdir()
    assert versions.versions("reader") == ([], [])
    assert added().number == 2


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "file"))
    with pytest.raises(DigitryError, match="DIGITRY_MODELS") as error:
        added()
    assert "\n" not in str(error.value)
    assert load_model("reader").reference == "reader@shipped"
