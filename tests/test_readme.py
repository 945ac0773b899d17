"""README's examples run as written and give what README says."""

import csv
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Homepage"
]
STATED = README.partition("This prints `")[2].partition("`")[0]


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


SAMPLES = ("phone-number.jpg", "digit-3.png", "sheet.jpg", "truth.csv", "forms/slip.png")
"""Some of each kind: other tests read all of them."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in SAMPLES:
        place = tmp_path / "samples" / name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(ROOT / "samples" / name)
    return tmp_path


def test_the_two_lines_of_python_read_a_phone_number(checkout: Path) -> None:
    (example,) = PYTHON
    assert len([line for line in example.splitlines() if line]) == 2
    assert run([sys.executable, "-c", example], checkout).strip() == STATED != ""


def test_reading_from_the_shell(checkout: Path) -> None:
    ((first, second),) = [block.splitlines() for block in SHELL]
    program = f"{sys.executable} -m digitry"
    assert run(["bash", "-c", first.replace("digitry", program)], checkout).strip() == STATED
    table = run(["bash", "-c", second.replace("digitry", program)], checkout)
    rows = list(csv.DictReader(table.splitlines()))
    pictures = [name for name in SAMPLES if not name.endswith(".csv")]
    assert {row["source"] for row in rows} == {f"samples/{name}" for name in pictures}
    assert {path.name for path in (checkout / "out").iterdir()} == {
        f"{Path(name).stem}.annotated.png" for name in pictures
    }


def test_the_make_commands_exist_and_say_what_they_do_first() -> None:
    for target in re.findall(r"^make (\w+)", README, re.M):
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, timeout=60,
            env={**os.environ, "MAKEFLAGS": ""},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        said = [line for line in done.stdout.splitlines() if line.startswith("echo")]
        assert said, target


def test_links_are_absolute_as_on_pypi_and_lead_to_what_exists() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://"), target
    raw = HOME.replace("github.com", "raw.githubusercontent.com")
    for address in (f"{HOME}/blob/main/", f"{HOME}/tree/main/", f"{raw}/main/"):
        for target in targets:
            if target.startswith(address):
                path, _, heading = target.removeprefix(address).partition("#")
                assert (ROOT / path).exists(), target
                if heading:
                    text = (ROOT / path).read_text(encoding="utf-8")
                    titles = re.findall(r"^#+ (.+)$", text, re.M)
                    assert heading in [title.lower().replace(" ", "-") for title in titles], target


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 100
