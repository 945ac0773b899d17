"""README's examples run as written and give what README says."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
SHELL = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)


def stated() -> str:
    """Return the phone number that README says is read."""
    return README.partition("digitry read samples/phone-number.jpg        # ")[2].splitlines()[0]


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    return tmp_path


def test_the_five_lines_of_python_read_a_phone_number(checkout: Path) -> None:
    assert stated() in run([sys.executable, "-c", PYTHON[0]], checkout)


def test_reading_from_the_shell(checkout: Path) -> None:
    first, second, third = SHELL[0].splitlines()
    program = f"{sys.executable} -m digitry"
    assert run(["bash", "-c", first.replace("digitry", program)], checkout).strip() == stated()
    table = run(["bash", "-c", second.replace("digitry", program)], checkout)
    assert len(table.splitlines()) > 13
    assert len(list((checkout / "out").iterdir())) == 13
    (said,) = json.loads(run(["bash", "-c", third.replace("digitry", program)], checkout))
    assert said["text"] == "4"
    assert (checkout / "out" / "digit-4.explained.png").exists()
