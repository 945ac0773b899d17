"""The notebooks in examples/ run from their first cell to their last, offline."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .waiting import PATIENCE_S

for needed in ("keras", "sklearn", "matplotlib"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def test_the_notebooks_run(tmp_path: Path) -> None:
    # In one process, as `make notebooks` runs them: importing Keras takes longer than most cells.
    copies = [Path(shutil.copy(path, tmp_path)) for path in NOTEBOOKS]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "run.py"), *map(str, copies)],
        capture_output=True, text=True, timeout=PATIENCE_S, env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [path.name for path in NOTEBOOKS]
    for path, copy in zip(NOTEBOOKS, copies, strict=True):
        kept, new = (json.loads(one.read_text(encoding="utf-8")) for one in (path, copy))
        for before, after in zip(kept["cells"], new["cells"], strict=True):
            # What the guide shows was written by a run, and has the same parts.
            assert [part["output_type"] for part in before.get("outputs", [])] == [
                part["output_type"] for part in after.get("outputs", [])
            ], path.name


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
