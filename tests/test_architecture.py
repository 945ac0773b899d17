"""The shape of the tree: who may know whom, what an import costs, and how long a module gets."""

import re
import subprocess
import sys
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

from .waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
FOLDERS = {
    str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*") if path.is_dir()
}
MODULES = sorted((ROOT / "src").rglob("*.py"))
HEAVY = ("torch", "keras", "matplotlib", "onnxruntime", "cv2", "sklearn", "scipy", "onnx", "jax")


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    ).stdout


def loaded_by(code: str) -> set[str]:
    tail = "\nimport sys; print(); print(*sorted({n.split('.')[0] for n in sys.modules}))"
    return set(python(code + tail).splitlines()[-1].split())


def test_the_layers_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed")
    result = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def room_of(module: str) -> str:
    """The folder that a module lies in; the package itself for those at its top."""
    return module if module.replace(".", "/") in FOLDERS else module.rpartition(".")[0]


def imports_between(names: Callable[[str], str]) -> dict[str, set[str]]:
    """What each module imports of the others, by the names that `names` gives them."""
    graph = grimp.build_graph("digitry", cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            a, b = names(module), names(imported)
            # A folder and a folder within it are one room here; its modules are looked at one by one.
            if a != b and not f"{a}.".startswith(f"{b}.") and not f"{b}.".startswith(f"{a}."):
                found.setdefault(a, set()).add(b)
    return found


@pytest.mark.parametrize("names", [str, room_of], ids=["modules", "folders"])
def test_nothing_imports_in_a_circle(names: Callable[[str], str]) -> None:
    try:
        list(TopologicalSorter(imports_between(names)).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_importing_digitry_loads_nothing_heavy() -> None:
    assert not loaded_by("import digitry; dir(digitry)") & {*HEAVY, "numpy", "PIL", "typer", "rich"}


@pytest.mark.parametrize(
    "words", [["--help"], ["read", "--help"], ["train", "--help"], ["recipes"]]
)
def test_asking_the_command_line_for_help_loads_nothing_heavy(words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["digitry", *{words}]
from digitry.cli.main import app
try:
    app()
except SystemExit as end:
    assert not end.code, end.code
"""
    assert not loaded_by(code) & {*HEAVY, "platformdirs", "filelock", "pooch"}


def test_a_reader_loads_what_forms_need_only_for_forms() -> None:
    assert "tomllib" not in loaded_by("import digitry.reading.reader, digitry.cli.read")


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


def test_the_tree_in_the_documents_is_the_tree_as_it_is() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.split("```")[1]
    known = {path.stem for path in MODULES if "migrations" not in path.parts} - {"__init__"}
    assert not {stem for stem in known if not re.search(rf"\b{stem}\b", tree)}
    assert not set(re.findall(r"(\w+)\.py\b", tree)) - known - {"__init__"}
