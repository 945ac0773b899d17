"""The guide: its commands and examples are right, its pages have their places, and it builds."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer.main
import yaml

import digitry
import digitry.training
from digitry.cli.main import app
from digitry.errors import DigitryError
from digitry.training.recipes import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.stem not in ("log", "cli"))
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def name(path: Path) -> str:
    return path.stem


def blocks(path: Path, language: str) -> list[str]:
    found = FENCED.findall(path.read_text(encoding="utf-8"))
    return [text for kind, text in found if kind == language]


def commands(path: Path) -> list[list[str]]:
    """Return the words of each `digitry …` in the shell blocks and in the text of a page."""
    lines = [line for block in blocks(path, "sh") for line in block.splitlines()]
    lines += re.findall(r"`(digitry [a-z][^`…|]*)`", path.read_text(encoding="utf-8"))
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for words in found if words[:1] == ["digitry"]]


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_command_of_the_guide_is_one(path: Path) -> None:
    names = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for words in commands(path):
        assert words[1].startswith("-") or words[1] in names, words
        options = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
        known = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
        # `models promote` has options of its own; a word that is no verb leads to no section.
        verb = next(
            (
                verb
                for verb in (" ".join(words[:3]), " ".join(words[:2]))
                if f"## {verb}\n" in known
            ),
            "",
        )
        section = known.partition(f"## {verb}\n")[2].partition("\n## digitry ")[0]
        for option in options:
            assert re.search(rf"^- `[^`]*{option}\b", section, re.M), (words, option)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_example_in_python_is_python(path: Path) -> None:
    for source in blocks(path, "python"):
        compile(source.replace(">>> ", ""), path.name, "exec")
        for module, names in re.findall(r"^from (digitry\S*) import ([\w, ]*\w)", source, re.M):
            loaded = __import__(module, fromlist=["*"])
            for one in names.split(", "):
                assert one in dir(loaded), (path.name, one)


def test_the_page_of_scripts_has_every_recipe_of_theirs() -> None:
    text = (ROOT / "docs" / "keras.md").read_text(encoding="utf-8")
    for recipe in ("dense-256-128", "dense-512", "dense-128-64", "dense-128-128", "dense-128"):
        assert recipe in RECIPES
        assert text.count(f'RECIPES["{recipe}"]') >= 1
        assert text.count(f"digitry train {recipe} --out") == 1


def test_every_reason_of_the_reader_is_explained() -> None:
    code = (ROOT / "src/digitry/reading/assemble.py").read_text(encoding="utf-8")
    form = "".join(
        (ROOT / f"src/digitry/reading/{name}.py").read_text(encoding="utf-8")
        for name in ("form", "field")
    )
    table = (ROOT / "docs" / "python.md").read_text(encoding="utf-8").partition("## Reasons")[2]
    for reason in ("blank", "not a digit", "too small", "cut off", "ambiguous ", "does not fit "):
        assert f'"{reason}' in code
        assert f"| `{reason}" in table
    for reason in ("empty", "written beside its box", "holds several lines"):
        assert f'"{reason}"' in form
        assert f"| `{reason}`" in table
    named = set(re.findall(r'(?:reason = |return )f?"([a-z ]+)', code))
    named |= set(re.findall(r'reason = "([a-z ]+)" if .* else "([a-z ]+)"', code)[0])
    for reason in named:
        assert f"| `{reason.strip()}" in table, reason


def test_every_public_name_and_field_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for one in digitry.training.__all__:
        assert re.search(rf"::: digitry\.training\.{one}$|import .*\b{one}\b", text, re.M), one
    for one in set(digitry.__all__) - {"__version__"}:
        assert f"::: digitry.{one}\n" in text or f"`{one}`" in text, one
    public = [one for one in DigitryError.__subclasses__() if one.__module__ == "digitry.errors"]
    for one in (error.__name__ for error in public):
        assert f"`{one}`" in text, one


def test_every_page_has_one_place_in_the_menu() -> None:
    # Its icons have tags of their own.
    text = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    menu = yaml.safe_load(text)["nav"]
    named = re.findall(r"[\w/]+\.(?:md|ipynb)", str(menu))
    there = {path.name for path in (ROOT / "docs").glob("*.md")}
    there |= {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.ipynb")}
    assert sorted(named) == sorted(there | {"CONTRIBUTING.md", "CHANGELOG.md"})
    # Two clicks: a tab, then a page.
    for entry in menu:
        (content,) = entry.values()
        assert isinstance(content, str) or all(isinstance(*one.values(), str) for one in content)


def builder() -> str | None:
    """Return the program that builds the guide: in its own environment, or on the path."""
    own = ROOT / ".venv" / "site" / "bin" / "mkdocs"
    return str(own) if own.exists() else shutil.which("mkdocs")


@pytest.mark.slow
def test_the_guide_builds_without_a_warning(tmp_path: Path) -> None:
    program = builder()
    if program is None:
        pytest.skip("mkdocs is not installed; run make site")
    done = subprocess.run(
        [program, "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    assert (tmp_path / "site" / "python" / "index.html").exists()
