"""Where a user's files lie: they stay where earlier versions put them."""

import os
import subprocess
import sys
from pathlib import Path

import platformdirs
import pytest
from platformdirs.macos import MacOS

from digitry import places

linux = pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")


@linux
def test_on_linux_they_lie_below_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        # Set and empty means not set.
        monkeypatch.setenv(name, "")
    assert places.user_models() == tmp_path / ".local/share/digitry/models"
    assert places.corrections_file() == tmp_path / ".local/share/digitry/corrections.db"
    assert places.cache_dir() == tmp_path / ".cache/digitry"


@linux
def test_variables_move_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert places.user_models() == tmp_path / "data/digitry/models"
    assert places.corrections_file() == tmp_path / "data/digitry/corrections.db"
    assert places.cache_dir() == tmp_path / "cache/digitry"
    monkeypatch.setenv("DIGITRY_MODELS", str(tmp_path / "shelf"))
    assert places.user_models() == tmp_path / "shelf"


@linux
def test_on_macos_they_lie_in_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(
        platformdirs, "user_data_path", lambda *a, **k: MacOS(*a, **k).user_data_path
    )
    monkeypatch.setattr(
        platformdirs, "user_cache_path", lambda *a, **k: MacOS(*a, **k).user_cache_path
    )
    library = tmp_path / "Library"
    assert places.user_models() == library / "Application Support/digitry/models"
    assert places.corrections_file() == library / "Application Support/digitry/corrections.db"
    assert places.cache_dir() == library / "Caches/digitry"


def test_nothing_is_made_by_asking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in (places.user_models, places.corrections_file, places.cache_dir):
        place()
    assert list(tmp_path.iterdir()) == []


@linux
def test_a_user_without_a_home_has_no_places(tmp_path: Path) -> None:
    """As in a container that runs with a user id that has no name."""
    code = (
        "import os, pwd\n"
        "def nobody(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = nobody\n"
        "from digitry import places\n"
        "print(places.user_models(), places.corrections_file(), places.cache_dir())\n"
    )
    gone = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "DIGITRY_MODELS")
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "None None None\n", done.stderr
