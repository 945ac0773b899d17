"""The notebooks in examples/ run from their first cell to their last, offline."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("keras", "sklearn", "matplotlib"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "run.py"), str(copy)],
        capture_output=True, text=True, timeout=300, env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept, new = (json.loads(one.read_text(encoding="utf-8")) for one in (path, copy))
    for before, after in zip(kept["cells"], new["cells"], strict=True):
        # What the guide shows was written by a run, and has the same parts.
        assert [part["output_type"] for part in before.get("outputs", [])] == [
            part["output_type"] for part in after.get("outputs", [])
        ]


def test_a_failing_cell_is_an_error(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("run_examples", EXAMPLES / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cell = {"cell_type": "code", "source": ["1 / 0"]}
    with pytest.raises(ZeroDivisionError):
        module.run({"cells": [cell]})
    cell = {"cell_type": "code", "source": ["print(1)\n", "'two'"]}
    (done,) = module.run({"cells": [cell]})["cells"]
    assert [one["output_type"] for one in done["outputs"]] == ["stream", "execute_result"]
