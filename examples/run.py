"""Run the notebooks of this folder, and keep what their cells show.

    python examples/run.py                 # run all and write them, with what they show
    python examples/run.py NOTEBOOK...     # only these

Each runs in a folder of its own that holds `samples/`, as in a checkout, so that it leaves nothing behind.
The last expression of a cell is shown as a notebook shows it: as HTML or a picture if it has such a form.
It needs the extra `train`, but not Jupyter.
"""

import ast
import base64
import contextlib
import io
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FORMS = {"_repr_html_": "text/html", "_repr_png_": "image/png"}
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
"""Where an object lies in memory: another place in each run."""


def run(notebook: dict[str, Any]) -> dict[str, Any]:
    """Return a notebook with the output of every code cell; an error of a cell is raised.

    Args:
        notebook: the content of an .ipynb file (nbformat 4). It runs in the current folder.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            cells.append(cell)
            continue
        count += 1
        outputs = shown("".join(cell["source"]), names, count)
        cells.append({**cell, "execution_count": count, "outputs": outputs})
    return {**notebook, "cells": cells}


def shown(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run one cell and return what it prints and what its last expression is."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"<cell {count}>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"<cell {count}>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": count,
                "metadata": {},
                "data": forms(value),
            }
        )
    return outputs


def forms(value: Any) -> dict[str, Any]:
    """Return a value in the forms that a notebook shows, by their MIME type."""
    found: dict[str, Any] = {"text/plain": ADDRESS.sub("", repr(value)).splitlines(keepends=True)}
    for method, kind in FORMS.items():
        form = getattr(value, method, lambda: None)()
        if isinstance(form, bytes):
            found[kind] = base64.b64encode(form).decode()
        elif form is not None:
            found[kind] = form.splitlines(keepends=True)
    return found


@contextlib.contextmanager
def workplace(folder: Path) -> Any:
    """Work in a folder that has `samples/`."""
    before = Path.cwd()
    (folder / "samples").symlink_to(HERE.parent / "samples")
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main() -> None:
    """Run the notebooks that are named, or all."""
    for path in [Path(name).resolve() for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder, workplace(Path(folder)):
            done = run(notebook)
        path.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(path.name)


if __name__ == "__main__":
    main()
