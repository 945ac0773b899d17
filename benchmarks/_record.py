"""Write one measured result as a record; docs/generate.py says what a record is."""

import datetime
import importlib.metadata
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from digitry import files

RECORDS = Path(__file__).parents[1] / "records"


def write(
    name: str,
    *,
    table: str,
    what: str,
    metric: str,
    unit: str,
    values: Sequence[float],
    data: Mapping[str, str],
    versions: Sequence[str],
    extra: Mapping[str, object] | None = None,
    device: str = "cpu",
) -> Path:
    """Write records/<name>.json; its command is the running one.

    A measurement on a GPU is written to records/<name>-<GPU>.json.

    Returns:
        The path of the record.
    """
    machine = hardware()
    if device != "cpu":
        machine, gpu = f"{gpu_name()}; {machine}", re.sub(r"\W+", "-", gpu_name().lower())
        name, what = f"{name}-{gpu}", f"{what}, on {gpu_name()}"
    root = RECORDS.parent
    script = Path(sys.argv[0]).resolve().relative_to(root)
    commit = _git("rev-parse", "--short", "HEAD")
    # Records do not count: each one that is written changes the tree for the next.
    if _git("status", "--porcelain", "--", "src", "benchmarks", "pyproject.toml", "requirements"):
        commit += "-dirty"
    path = RECORDS / f"{name}.json"
    files.write_json(
        path,
        {
            "name": name,
            "table": table,
            "what": what,
            "metric": metric,
            "unit": unit,
            # `_shown` leaves out the folders of this machine.
            "command": " ".join(["python", str(script), *map(_shown, sys.argv[1:])]),
            "commit": commit,
            "date": datetime.date.today().isoformat(),
            "hardware": machine,
            "versions": {
                "python": platform.python_version(),
                **{package: importlib.metadata.version(package) for package in versions},
            },
            "data": dict(data),
            "n": len(values),
            "values": list(values),
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            "extra": dict(extra or {}),
        },
    )
    return path


def hardware() -> str:
    """Return the processor's name and its number of cores."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


def gpu_name() -> str:
    """Return the name of the GPU that PyTorch uses."""
    import torch

    return torch.cuda.get_device_name()


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=RECORDS.parent, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _shown(argument: str) -> str:
    path = Path(argument)
    if path.is_absolute() or argument.startswith(".."):
        return "/".join(path.parts[-2:]) if path.suffix else path.name
    return argument
