"""What every test shares: isolation from the user's machine, and the markers' switches."""

import os
import socket
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's caches or settings, and none reaches beyond this machine."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    monkeypatch.delenv("DIGITRY_DATA", raising=False)
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
