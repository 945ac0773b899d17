"""docs/api.md: its examples run unchanged, and its table of errors is complete."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI

from digitry.corrections.store import Corrections
from digitry.model.artifact import Artifact
from digitry.reading.reader import Reader
from digitry.reading.template import load
from digitry.serving.app import create_app
from digitry.serving.guard import Limits
from digitry.serving.problems import KINDS

from ..waiting import PATIENCE_S
from .conftest import Running
from .local import LocalReaders

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python|javascript)\n(.*?)^```", TEXT, re.M | re.S)
PROGRAMS = {"bash": ["bash", "-euc"], "python": [sys.executable, "-c"],
            "javascript": ["node", "--input-type=module", "-e"]}  # fmt: skip


@pytest.fixture
def app(reader: Reader, model: Artifact, store: Corrections) -> FastAPI:
    """A service with the template `slip`, and with time for a busy machine."""
    templates = {"slip": load(ROOT / "samples" / "forms" / "slip.toml")}
    limits = Limits(read_seconds=PATIENCE_S)
    return create_app(LocalReaders(reader), store, model=model, limits=limits, templates=templates)


@pytest.mark.parametrize(("language", "code"), BLOCKS, ids=[kind for kind, _ in BLOCKS])
def test_the_examples_run(language: str, code: str, running: Running, tmp_path: Path) -> None:
    program = PROGRAMS[language]
    if not shutil.which(program[0]) or (language == "bash" and not shutil.which("curl")):
        pytest.skip(f"{program[0]} is not installed")
    samples = {"digit-3.png": "digit.png", "forms/slip-filled.jpg": "photo.jpg"}
    samples |= {"forms/slip.toml": "slip.toml", "forms/slip.png": "slip.png"}
    for sample, name in samples.items():
        shutil.copy(ROOT / "samples" / sample, tmp_path / name)
    code = code.replace("http://127.0.0.1:8000", running.url)
    done = subprocess.run(
        [*program, code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "urn:digitry:problem" not in done.stdout
    assert re.search(r'"text":"(3|40728153)"|^3 0\.9|"label":"3"|^1$', done.stdout, re.M), (
        done.stdout
    )


def test_every_problem_type_is_documented_with_its_status() -> None:
    listed = dict(re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", TEXT, re.M))
    known = {kind: str(status) for kind, (status, _) in KINDS.items()}
    assert listed == known
