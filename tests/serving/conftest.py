"""A service with its own small store, called in this process or over a real socket."""

import io
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from digitry.corrections.store import Corrections
from digitry.model.artifact import Artifact
from digitry.model.load import load_model
from digitry.reading.reader import Reader
from digitry.serving.addresses import proxies_of
from digitry.serving.app import create_app
from digitry.serving.connections import ConnectionRegistry
from digitry.serving.dispatch import LocalReaders
from digitry.serving.guard import Limits
from digitry.serving.server import configured
from digitry.training.synthetic import pen

from ..waiting import PATIENCE_S, until

MODEL = os.environ.get("DIGITRY_TEST_MODEL", "reader")
"""The model under test; DIGITRY_TEST_MODEL can name another file than the shipped one."""

GAP = 10
"""Pixels between two digits: near enough to be one word."""


def drawn(text: str, *, height: int = 56, hand: int = 1) -> np.ndarray:
    """Return an image of synthetic digits, dark on light."""
    rng = np.random.default_rng(7)
    inks = [pen.draw(pen.strokes_of(symbol, hand), height, 5, rng, taper=0) for symbol in text]
    page = np.zeros((height + 50, sum(ink.shape[1] + GAP for ink in inks) + 60), np.float32)
    x = 30
    for ink in inks:
        page[20 : 20 + ink.shape[0], x : x + ink.shape[1]] = ink
        x += ink.shape[1] + GAP
    return (235 - 200 * page).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="session")
def model() -> Artifact:
    return load_model(MODEL)


@pytest.fixture(scope="session")
def reader() -> Reader:
    return Reader(MODEL)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Corrections]:
    store = Corrections(str(tmp_path / "corrections.db"))
    yield store
    store.close()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def app(reader: Reader, model: Artifact, store: Corrections, limits: Limits) -> FastAPI:
    return create_app(LocalReaders(reader), store, model=model, limits=limits)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


class Running:
    """A service on a local socket, in a thread, with the configuration of `digitry serve`."""

    def __init__(self, app: FastAPI, *, proxies: Sequence[str] = ()) -> None:
        config = configured(app, proxies=proxies_of(proxies))
        config.port = 0
        config.timeout_graceful_shutdown = 3
        self._server = uvicorn.Server(config)
        self._registry: ConnectionRegistry = config.http.registry  # type: ignore[union-attr]
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        until(lambda: self._server.started)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_for(self, *, working: int) -> None:
        """Wait until so many connections are working on a request, and all others wait for one."""
        registry = self._registry
        until(lambda: registry._total - len(registry._all_waiting) == working)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)


@pytest.fixture
def running(app: FastAPI) -> Iterator[Running]:
    running = Running(app)
    yield running
    running.stop()
