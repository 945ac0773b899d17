"""An audit says what it found, or that it could not look: never that all is well without looking."""

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "requirements" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def locks(audit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One lock with one package."""
    (tmp_path / "dev.txt").write_text("numpy==2.1.0 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(audit, "HERE", tmp_path)
    monkeypatch.setattr(audit, "LOCKS", ("dev.txt",))
    return tmp_path


def database(folder: Path, **advisory: Any) -> Path:
    path = folder / "all.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("X-1.json", json.dumps({"id": "X-1", **advisory}))
    return path


def affected(*events: dict[str, str], name: str = "numpy") -> list[dict[str, Any]]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}]
    return [{"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}]


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (({"introduced": "0"}, {"fixed": "2.1.1"}), 1),
        (({"introduced": "0"}, {"fixed": "2.1.0"}), 0),
        (({"introduced": "2.0"}, {"last_affected": "2.1.0"}), 1),
        (({"introduced": "3"},), 0),
        # What cannot be compared is not passed over.
        (({"introduced": "0"}, {"fixed": "after-noon"}), 1),
    ],
)
def test_a_downloaded_database_is_looked_up_by_version(
    audit: ModuleType, locks: Path, events: tuple[dict[str, str], ...], code: int
) -> None:
    assert audit.offline(database(locks, affected=affected(*events))) == code


def test_a_listed_version_is_found_and_other_packages_are_not(
    audit: ModuleType, locks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = [{"package": {"ecosystem": "PyPI", "name": "NumPy"}, "versions": ["2.1.0"]}]
    assert audit.offline(database(locks, affected=listed)) == 1
    assert "dev.txt: numpy 2.1.0: X-1" in capsys.readouterr().out
    assert audit.offline(database(locks, affected=affected({"introduced": "0"}, name="other"))) == 0
    assert audit.offline(database(locks, withdrawn="2026-01-01", affected=listed)) == 0


def test_a_database_that_is_missing_damaged_or_empty_is_not_a_clean_audit(
    audit: ModuleType, locks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (locks / "damaged.zip").write_bytes(b"PK")
    with zipfile.ZipFile(locks / "empty.zip", "w"):
        pass
    for name in ("absent.zip", "damaged.zip", "empty.zip"):
        assert audit.offline(locks / name) == 4
        assert "nothing was checked" in capsys.readouterr().err


def online(audit: ModuleType, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Let pip-audit answer so, once for each lock."""
    left = list(answers)

    def run(*_: Any, **__: Any) -> SimpleNamespace:
        return SimpleNamespace(stdout=left.pop(0), stderr="no network")

    monkeypatch.setattr(audit.subprocess, "run", run)
    monkeypatch.setattr(audit, "LOCKS", ("dev.txt",) * len(answers))


def found(*weaknesses: str) -> str:
    known = [{"id": weakness, "fix_versions": []} for weakness in weaknesses]
    return json.dumps({"dependencies": [{"name": "numpy", "version": "2.1.0", "vulns": known}]})


def partly() -> str:
    odd = {"name": "odd", "skip_reason": "is not known"}
    return json.dumps({"dependencies": [odd, {"name": "numpy", "version": "2.1.0", "vulns": []}]})


@pytest.mark.parametrize(
    ("answers", "code", "strict"),
    [
        (["nothing"], 0, 4),
        ([found()], 0, 0),
        ([found("X-1")], 1, 1),
        ([partly()], 0, 4),
        # What was found before the network went is not forgotten.
        ([found("X-1"), "nothing"], 1, 1),
    ],
    ids=["not looked up", "clean", "weak", "partly", "weak, then cut"],
)
def test_not_looked_up_fails_only_if_that_is_asked_for(
    audit: ModuleType, locks: Path, monkeypatch: pytest.MonkeyPatch, answers: list[str],
    code: int, strict: int, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for words, expected in (([], code), (["--strict"], strict)):
        online(audit, monkeypatch, *answers)
        monkeypatch.setattr(audit.sys, "argv", ["audit.py", *words])
        assert audit.main() == expected
        said = "".join(capsys.readouterr())
        assert ("not done: nothing was checked" in said) == ("nothing" in answers)
