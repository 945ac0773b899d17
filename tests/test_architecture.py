"""The shape of the tree: who may know whom, what an import costs, and how long a module gets."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = ("torch", "keras", "matplotlib", "onnxruntime", "cv2", "sklearn", "scipy", "onnx", "jax")


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def loaded_by(code: str) -> set[str]:
    tail = "\nimport sys; print(); print(*sorted({n.split('.')[0] for n in sys.modules}))"
    return set(python(code + tail).splitlines()[-1].split())


def test_the_layers_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed")
    result = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_digitry_loads_nothing_heavy() -> None:
    assert not loaded_by("import digitry; dir(digitry)") & {*HEAVY, "numpy", "PIL", "typer", "rich"}


@pytest.mark.parametrize(
    "words", [["--help"], ["read", "--help"], ["train", "--help"], ["recipes"]]
)
def test_asking_the_command_line_for_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["digitry", *{words}]
from digitry.cli import app
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not loaded_by(code) & set(HEAVY)


def test_the_recipes_are_data_that_loads_nothing_heavy() -> None:
    assert not loaded_by("from digitry.training.recipes import RECIPES") & {*HEAVY, "numpy"}


def test_no_module_is_named_after_having_no_home() -> None:
    homeless = {"utils", "util", "common", "helpers", "helper", "misc"}
    assert not [path for path in MODULES if path.stem in homeless or path.parent.name in homeless]


def test_no_module_is_longer_than_600_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {path: count for path, count in lengths.items() if count > 600}


def test_every_module_says_what_it_is_for() -> None:
    assert not [path for path in MODULES if not path.read_text(encoding="utf-8").startswith('"""')]
