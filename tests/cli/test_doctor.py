"""`digitry doctor`: what can be read, what is installed, what is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from digitry.cli import doctor

from .test_data import run


def test_doctor_reports_versions_devices_caches_extras_and_data(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run("doctor", "--format", "json", capsys=capsys)
    assert code == 0
    report = json.loads(out)
    # A process that imports torch finds them; once is enough.
    monkeypatch.setattr(doctor, "_devices", lambda: report["devices"])
    assert list(report) == [
        "reading", "versions", "devices", "caches", "extras", "requirements", "data"
    ]  # fmt: skip
    assert report["versions"]["numpy"] == np.__version__
    assert report["devices"]["cores"] >= 1
    assert report["caches"]["files"] == 0
    assert {"train", "serve", "cluster"} <= set(report["extras"])
    for extra, entry in report["extras"].items():
        assert entry["installed"] == (not entry["missing"])
        if entry["missing"]:
            assert f"pip install 'digitry[{extra}]'" in entry["remedy"]
    code, out, _ = run("doctor", capsys=capsys)
    assert code == 0
    assert "digitry data fetch mnist" in out
    # What only developers need is not named as missing.
    assert "dev" not in report["extras"]
    assert report["extras"]["train"]["use"] == "training, evaluation, plots"


def test_doctor_says_what_can_be_read_and_with_what(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = doctor._version
    gone = ("pypdfium2", "pillow-heif")
    monkeypatch.setattr(doctor, "_devices", dict)
    _, out, _ = run("doctor", "--format", "json", capsys=capsys)
    assert json.loads(out)["reading"] == {
        "images": "PNG, JPEG, WebP, AVIF, JPEG 2000, BMP, GIF, TIFF, PNM",
        "HEIC": True,
        "PDF": True,
        "model": "reader@shipped",
        "corrections": "none yet",
    }
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in gone else found(name))
    _, out, _ = run("doctor", capsys=capsys)
    assert out.count("no: pip install 'digitry[files]'") == 2


def test_doctor_names_packages_that_are_too_old_or_too_new(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"pillow": "12.9.1", "keras": "3.15", "torch": "2.14.0+cpu", "onnx": "1.100.0"}
    found = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda package: given.get(package) or found(package))
    monkeypatch.setattr(doctor, "_devices", dict)
    code, out, err = run("doctor", "--format", "json", capsys=capsys)
    assert code == 4
    outside = {one["package"]: one for one in json.loads(out)["requirements"]["outside"]}
    assert set(outside) == {"pillow", "keras", "torch"}
    assert outside["pillow"] == {"package": "pillow", "installed": "12.9.1", "needs": ">=13.0.0"}
    assert err.count("\n") == 1
    assert "pillow 12.9.1" in err
    assert "'pillow>=13.0.0'" in err
    code, out, err = run("doctor", capsys=capsys)
    assert code == 4
    assert "pillow 12.9.1 >=13.0.0" in out


def test_the_requirements_exclude_versions_with_known_faults() -> None:
    wanted = {one.name: one.specifier for one, _ in doctor._requirements()}
    floors = {
        "pillow": "13.0.0", "keras": "3.15.1", "onnx": "1.21.0", "onnxruntime": "1.28",
        "starlette": "1.6", "python-multipart": "0.0.32", "uvicorn": "0.51", "ray": "2.60",
    }  # fmt: skip
    for package, floor in floors.items():
        assert f">={floor}" in str(wanted[package]).split(",")
        assert floor in wanted[package] and "0.0.1" not in wanted[package]


def test_doctor_works_without_the_extra_train(tmp_path: Path) -> None:
    """As in a base install: these packages can neither be imported nor found by their metadata."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, importlib.metadata as metadata\n"
        "gone = ['torch', 'keras', 'matplotlib', 'sklearn', 'scipy', 'pooch', 'onnx', 'h5py']\n"
        "sys.modules.update(dict.fromkeys(gone))\n"
        "version = metadata.version\n"
        "def without(name):\n"
        "    if name in (*gone, 'scikit-learn'):\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return version(name)\n"
        "metadata.version = without\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "digitry", "doctor"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "keras         not installed" in done.stdout
    assert "pip install 'digitry[train]'" in done.stdout
    words = [sys.executable, "-m", "digitry", "data", "fetch", "uci"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 4
    assert "pip install 'digitry[train]'" in done.stderr
