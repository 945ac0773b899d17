"""Reading uses no network and leaves no files; nor do its libraries."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys, time
import digitry
assert digitry.read(sys.argv[1]).text == "3"
time.sleep(float(sys.argv[2]))
"""
SAMPLE = Path(__file__).parents[2] / "samples" / "digit-3.png"


def plain(home: Path) -> dict[str, str]:
    """Return a user's environment: this home folder, and no variables of a CI."""
    dropped = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


def test_reading_leaves_no_file_in_the_home_folder(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CODE, str(SAMPLE), "1"]
    subprocess.run(words, env=plain(tmp_path), check=True)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.slow
def test_reading_uses_no_network(tmp_path: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    if subprocess.run([strace, "-qq", "true"], capture_output=True).returncode != 0:
        pytest.skip("strace may not trace here (ptrace is not permitted)")
    log = tmp_path / "log"
    home = tmp_path / "home"
    home.mkdir()
    words = [strace, "-f", "-qq", "-o", str(log), "-e", "trace=%network", sys.executable]
    # Long enough for what a library does in a thread of its own, ten seconds after its start.
    subprocess.run([*words, "-c", CODE, str(SAMPLE), "16"], env=plain(home), check=True)
    said = log.read_text()
    assert "AF_INET" not in said and "AF_NETLINK" not in said and "AF_UNIX" not in said, said
