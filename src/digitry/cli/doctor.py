"""The verb on the installation: `doctor`."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digitry import processors
from digitry.cli.app import READ, app
from digitry.cli.options import AsFormat, Format
from digitry.cli.text import print_json

if TYPE_CHECKING:
    from packaging.requirements import Requirement

EXTRAS = {
    "files": "HEIC and PDF",
    "train": "training, evaluation, plots",
    "serve": "the web page and the API",
    "postgresql": "corrections in PostgreSQL",
    "cluster": "Parquet, object stores, Ray",
    "sweep": "search for settings",
    "tensorboard": "train --log tensorboard",
    "mlflow": "train --log mlflow",
}
"""Extra -> what it is for."""


@app.command(rich_help_panel=READ)
def doctor(format_: AsFormat = Format.TEXT) -> None:
    """Show what can be read, versions, devices, extras and data: include this in a bug report.

    Packages outside the versions that digitry needs are named, and the exit code is 4.
    """
    from digitry.errors import UnavailableError

    report = _installation()
    if format_ is Format.JSON:
        print_json(report)
    else:
        for section, entries in report.items():
            print(section)
            for name, value in entries.items():
                print(f"  {name:<12}  {_words(value)}")
    outside = report["requirements"]["outside"]
    if outside:
        raise UnavailableError(
            "unsupported versions: "
            + ", ".join(f"{one['package']} {one['installed']}" for one in outside),
            remedy="pip install "
            + " ".join(f"'{one['package']}{one['needs']}'" for one in outside),
        )


def _words(value: object) -> str:
    if value is None:
        return "not installed"
    if isinstance(value, dict):
        use = f" ({value['use']})" if value["use"] else ""
        if value["installed"]:
            return f"installed{use}"
        return f"lacks {', '.join(value['missing'])}; {value['remedy']}{use}"
    if isinstance(value, list):
        lines = (" ".join(one.values()) if isinstance(one, dict) else str(one) for one in value)
        return ", ".join(lines) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _installation() -> dict[str, dict[str, Any]]:
    import digitry

    names = {
        "numpy": "numpy",
        "pillow": "pillow",
        "cv2": "opencv-python-headless",
        "onnxruntime": "onnxruntime",
        "keras": "keras",
        "torch": "torch",
    }
    versions: dict[str, Any] = {
        "digitry": digitry.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }
    versions |= {name: _version(package) for name, package in names.items()}
    return {
        "reading": _reading(),
        "versions": versions,
        "devices": _devices(),
        "caches": _caches(),
        "extras": _extras(),
        "requirements": _needed(),
        "data": _data(),
    }


def _reading() -> dict[str, Any]:
    """Return what can be read, with which model, and where corrections are kept."""
    from digitry.errors import ModelError
    from digitry.model import versions
    from digitry.places import corrections_file

    try:
        number = versions.default_number("reader")
        model = f"reader@{number or versions.SHIPPED_VERSION}"
    except ModelError as error:
        model = str(error)
    store = corrections_file()
    needs = "no: pip install 'digitry[files]'"
    return {
        "images": "PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF",
        "HEIC": True if _version("pillow-heif") else needs,
        "PDF": True if _version("pypdfium2") else needs,
        "model": model,
        "corrections": "none yet" if store is None or not store.is_file() else str(store),
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    cores = processors.available()
    devices: dict[str, Any] = {"cores": cores, "cuda": False, "mps": False}
    if _version("torch") is None:
        return devices
    # In a separate process: importing a broken torch can crash the whole process, and doctor must
    # report that.
    code = (
        "import json, torch; cuda = torch.cuda; there = cuda.is_available(); print(json.dumps({"
        "'cuda': there, 'mps': torch.backends.mps.is_available(),"
        "'gpus': [cuda.get_device_name(i) for i in range(cuda.device_count() if there else 0)]}))"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
        )
        devices |= json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        devices["torch"] = "does not load in two minutes"
    except (OSError, subprocess.CalledProcessError, json.JSONDecodeError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        devices["torch"] = f"does not load: {reason[:200]}"
    return devices


def _caches() -> dict[str, Any]:
    from digitry.places import cache_dir

    folder = cache_dir()
    if folder is None:
        return {"folder": "none: this user has no home", "files": 0, "mebibytes": 0.0}
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"folder": str(folder), "files": len(sizes), "mebibytes": round(sum(sizes) / 2**20, 1)}


def _requirements() -> "list[tuple[Requirement, str]]":
    """Return the requirements in our own metadata that hold on this system, with their extra or ""."""
    from importlib.metadata import PackageNotFoundError, metadata

    from packaging.requirements import Requirement

    try:
        own = metadata("digitry")
    except PackageNotFoundError:
        return []
    extras = ("", *(own.get_all("Provides-Extra") or ()))
    found = []
    for wanted in map(Requirement, own.get_all("Requires-Dist") or ()):
        marker = wanted.marker
        where = [one for one in extras if marker is None or marker.evaluate({"extra": one})]
        if where and wanted.name != "digitry":
            found.append((wanted, where[0]))
    return found


def _extras() -> dict[str, Any]:
    """Return, for each extra, the packages that are missing."""
    wanted: dict[str, list[str]] = {}
    for requirement, extra in _requirements():
        if extra:
            wanted.setdefault(extra, []).append(requirement.name)
    if not wanted:
        return {"unknown": "digitry is run from its source folder, not installed"}
    extras: dict[str, Any] = {}
    for extra, packages in wanted.items():
        if extra == "dev":
            # For those who change digitry.
            continue
        missing = [package for package in packages if _version(package) is None]
        extras[extra] = {
            "installed": not missing,
            "missing": missing,
            "remedy": f"pip install 'digitry[{extra}]'" if missing else None,
            "use": EXTRAS.get(extra, ""),
        }
    return extras


def _needed() -> dict[str, Any]:
    """Compare the installed packages with the versions that our metadata requires."""
    outside, checked = [], 0
    for wanted, _ in _requirements():
        installed = _version(wanted.name)
        if installed is None or not wanted.specifier:
            continue
        checked += 1
        if not wanted.specifier.contains(installed, prereleases=True):
            needs = str(wanted.specifier)
            outside.append({"package": wanted.name, "installed": installed, "needs": needs})
    return {"checked": checked, "outside": outside}


def _data() -> dict[str, Any]:
    from digitry.training import datasets

    states = datasets.check("mnist")
    bad = [state.file for state in states if state.state == "bad"]
    absent = [state.file for state in states if state.state == "absent"]
    if bad:
        mnist = f"damaged: {', '.join(bad)}"
    elif absent:
        mnist = "not here; run `digitry data fetch mnist`"
    else:
        mnist = str(Path(states[0].path or "").parent)
    uci = "with scikit-learn" if _version("scikit-learn") else "needs the extra `train`"
    return {"mnist": mnist, "uci": uci}
