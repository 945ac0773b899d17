"""The verbs on installed models, as a user types them."""

import json
from pathlib import Path
from typing import Any

import pytest

from digitry.model import versions
from digitry.model.load import load_model

from .in_process import Done, digitry

SHIPPED = load_model("reader@shipped")


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def add(*, passed: bool = True, reason: str = "a trial") -> None:
    versions.add(
        "reader", SHIPPED.onnx, created="2026-01-01T00:00:00+00:00", reason=reason, passed=passed,
        scores={"frozen MNIST": 0.9951}, gate={}, parent_sha256=SHIPPED.sha256,
    )  # fmt: skip


def say(*words: str) -> Done:
    return digitry("models", *words)


def rows() -> list[dict[str, Any]]:
    done = say("list", "--format", "json")
    assert done.returncode == 0, done.err
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def refused(code: int, *words: str) -> str:
    done = say(*words)
    assert (done.returncode, done.out) == (code, ""), done.err
    (line,) = done.err.splitlines()
    assert line.startswith("digitry: ")
    return line


def test_without_a_verb_it_lists_and_shows_cards() -> None:
    add()
    text = say().out
    assert text == say("list").out
    assert "reader@shipped" in text and "reader@1" in text and "0.9951" in text
    assert say("--format", "json").out == say("list", "--format", "json").out
    card = say("--card", "reader").out
    assert card == say("--card", "reader@shipped").out
    assert card.startswith("# reader\n")
    assert say("--card", "reader@1").out.startswith("# reader@1\n")
    assert "--card" in refused(2, "--card", "reader", "list")


def test_the_list_shows_which_version_is_the_default_and_why() -> None:
    add()
    add(passed=False, reason="frozen MNIST is 0.10 points lower, at most 0.05 points may be")
    assert [(row["reference"], row["state"]) for row in rows()] == [
        ("reader@shipped", "default"), ("reader@1", "candidate"), ("reader@2", "candidate"),
        ("lines@shipped", "default"),
    ]  # fmt: skip
    assert say("promote", "reader@1").out == "reader@1 is now the default of reader\n"
    first, second, third, _ = rows()
    assert (first["state"], second["state"]) == ("shipped", "default")
    assert second["reason"] == "promoted by hand"
    assert second["parent_sha256"] == SHIPPED.sha256
    assert third["reason"].startswith("frozen MNIST is 0.10 points lower")
    assert second["gate_scores"] == {"frozen MNIST": 0.9951}


def test_a_version_that_failed_the_gate_is_promoted_only_on_request() -> None:
    add(passed=False, reason="recall of 7 there is 0.90 points lower")
    line = refused(2, "promote", "reader@1")
    assert "recall of 7" in line and "--despite-gate" in line
    assert load_model("reader").reference == "reader@shipped"
    assert say("promote", "reader@1", "--despite-gate").returncode == 0
    assert load_model("reader").reference == "reader@1"


def test_rollback_goes_step_by_step_to_the_shipped_model() -> None:
    for number in (1, 2):
        add()
        assert say("promote", f"reader@{number}").returncode == 0
    assert say("rollback").out == "reader@1 is now the default of reader\n"
    assert say("rollback", "reader").out == "reader@shipped is now the default of reader\n"
    assert "is already the default" in refused(2, "rollback")
    assert [row["state"] for row in rows()] == ["default", "rolled back", "rolled back", "default"]


def test_the_shipped_model_can_be_promoted_again() -> None:
    add()
    say("promote", "reader@1")
    done = say("promote", "reader@shipped")
    assert done.out == "reader@shipped is now the default of reader\n"
    assert load_model("reader").reference == "reader@shipped"


def test_a_wrong_call_is_one_line(models: Path) -> None:
    assert "is not a version" in refused(2, "promote", "reader")
    assert "is not a version" in refused(2, "promote", "other@1")
    assert "no such version" in refused(3, "promote", "reader@7")
    assert "is not a version" in refused(3, "promote", "reader@x")
    assert "no shipped model is called" in refused(2, "rollback", "other")
    assert "xml" in refused(2, "list", "--format", "xml")
    assert not models.exists()


def test_damaged_versions_are_named_and_the_others_listed(models: Path) -> None:
    for _ in range(3):
        add()
    (models / "reader" / "1" / "version.json").write_text("{")
    (models / "reader" / "3" / "model.onnx").write_bytes(b"junk")
    done = say("list", "--format", "json")
    assert done.returncode == 1
    assert [row["reference"] for row in json.loads(done.out)] == [
        "reader@shipped",
        "reader@2",
        "lines@shipped",
    ]
    first, second = done.err.splitlines()
    assert first.startswith("digitry: reader@1: ") and second.startswith("digitry: reader@3: ")
    assert "reader@3" in refused(3, "promote", "reader@3")
