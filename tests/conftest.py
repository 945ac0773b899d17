"""What every test shares: isolation from the user's machine, processes that run tests side by side,
and the markers' switches.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from digitry import processors

from .waiting import PATIENCE_S

MOST_WORKERS = 8
"""Processes that run tests; each needs about 1 GB of memory."""

# A busy machine draws examples slowly, and that is no fault.
settings.register_profile("digitry", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("digitry")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes `-n auto` starts: one more than processors, as many tests wait for others;
    and none for one processor."""
    count = processors.available()
    return min(count + 1, MOST_WORKERS) if count > 1 else 0


def pytest_configure(config: pytest.Config) -> None:
    # What lives for the whole session is made before any test is isolated; it is to read with the
    # shipped models, not with versions that somebody has on the shelf.
    os.environ["DIGITRY_MODELS"] = os.devnull
    # Some tests run ONNX Runtime by themselves.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # The networks of the tests are so small that several threads only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of its own: pytest looks through all folders beside a new one, to number it."""
    return tmp_path_factory.mktemp("homes")


@pytest.fixture(autouse=True)
def isolated(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's caches or settings, and none reaches beyond this machine."""
    home = Path(tempfile.mkdtemp(dir=homes))
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    for name in ("DIGITRY_DATA", "DIGITRY_MODELS", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("local", "127.0.0.1", "::1", "localhost"):
            raise OSError(f"a test reached out to {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images and MNIST; it is no part of the project."""
    folder = os.environ.get("DIGITRY_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DIGITRY_TEST_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture(scope="session")
def mnist_dir(test_data: Path) -> Path:
    """The canonical MNIST files."""
    return test_data / "mnist"


@pytest.fixture
def traced(tmp_path: Path) -> Callable[[str, list[Path]], list[str]]:
    """Run code under strace, and give the system calls on files, networks and processes that it made.

    The code says BEGIN and END by `mark(b"BEGIN")`; what lies between is given. `sys.argv[1:]` are the
    paths.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    if subprocess.run([strace, "-qq", "true"], capture_output=True).returncode != 0:
        pytest.skip("strace may not trace here (ptrace is not permitted)")

    def run(code: str, paths: list[Path]) -> list[str]:
        log = tmp_path / "strace.log"
        code = f"import os, sys\ndef mark(word): os.write(2, word)\n{code}"
        done = subprocess.run(
            [strace, "-f", "-qq", "-o", str(log), "-e", "trace=%file,%network,%process,write",
             sys.executable, "-c", code, *map(str, paths)],
            capture_output=True, text=True, timeout=PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = log.read_text().splitlines()
        begin, end = (
            next(i for i, line in enumerate(lines) if f'write(2, "{word}"' in line)
            for word in ("BEGIN", "END")
        )
        # Asking about a file that is open already, or where one is, names no path.
        idle = (" write(", " fstat(", "AT_EMPTY_PATH", " getcwd(")
        return [line for line in lines[begin + 1 : end] if not any(word in line for word in idle)]

    return run


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes the pixels of an image fails."""

    def decode(*_: object, **__: object) -> None:
        raise AssertionError("pixels are decoded")

    for place in ("decoding.from_picture", "decoding._webp", "documents.heif_pixels"):
        monkeypatch.setattr(f"digitry.reading.{place}", decode)
    # As in a worker, so that it is this process that would draw.
    monkeypatch.setattr("digitry.reading.documents._worker_draws_s", 2.0)
    with suppress(ImportError):
        monkeypatch.setattr("pypdfium2.PdfPage.render", decode)
