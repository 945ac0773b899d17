"""A service with its own small store, called in this process or over a real socket."""

import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

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
from digitry.serving.guard import Limits
from digitry.serving.server import configured
from digitry.training.writing import pen

from ..waiting import PATIENCE_S, until
from .local import LocalReaders

MODEL = os.environ.get("DIGITRY_TEST_MODEL", "reader")
"""The model under test; DIGITRY_TEST_MODEL can name another file than the shipped one."""

SAMPLES = Path(__file__).parents[2] / "samples"
CHROMIUM = os.environ.get("DIGITRY_CHROMIUM") or shutil.which("chromium")
DESKTOP, PHONE = (1280, 860), (390, 844)
SHOTS = os.environ.get("DIGITRY_SCREENSHOTS")
"""A folder for screenshots, or None."""

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


# --- a browser on the service ------------------------------------------------------------------------

SHOWN = """() => [...document.querySelectorAll("#answer .digits")].map(line =>
    [...line.querySelectorAll(".word")].map(word => word.textContent).join(" ")).join("\\n")"""
"""Returns the text that the web page shows."""


NO_FEATURES = (
    # For each window Chromium loads the pop-up of its address bar, which is a web page, too: three
    # quarters of the processor time of an empty window.
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup",
    # Playwright's own, which the above would replace.
    "AimEnabled", "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable", "HttpsUpgrades", "LensOverlay", "MediaRouter",
    "NetworkTimeServiceQuerying", "OptimizationHints", "PaintHolding", "PreconnectToSearch",
    "ThirdPartyStoragePartitioning",
)  # fmt: skip
"""Parts of Chromium that the tests do without."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                  "--disable-background-networking", "--disable-component-update",
                  "--disable-sync", f"--disable-features={','.join(NO_FEATURES)}"],
        )  # fmt: skip
        yield browser
        browser.close()


class Visit:
    """One browser window on the service; it collects errors of the web page."""

    def __init__(self, page: Any, running: Running) -> None:
        self.page = page
        self.url = running.url
        self.faults: list[str] = []
        self.foreign: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", self._heard)
        page.on("request", self._asked)
        page.goto(self.url)
        page.locator("#kept-empty").wait_for()

    def _heard(self, message: Any) -> None:
        # The browser itself logs refusals of the service.
        if message.type == "error" and "422" not in message.text and "401" not in message.text:
            self.faults.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)

    def write(self, text: str, *, touch: bool = False, height: float = 100, x: float = 30) -> None:
        """Draw synthetic digits with the mouse."""
        area = self.page.locator("#pad").bounding_box()
        left, top = area["x"] + x, area["y"] + 60
        for symbol in text:
            for stroke in pen.strokes_of(symbol, 1):
                # In percent of the symbol's height.
                scale = height / 100 if np.max(stroke) > 2 else height
                points = [(left + a * scale, top + b * scale) for a, b in stroke[::4]]
                (self._finger if touch else self._mouse)(points)
            left += 0.95 * height

    def _mouse(self, points: list[tuple[float, float]]) -> None:
        mouse = self.page.mouse
        mouse.move(*points[0])
        mouse.down()
        for point in points[1:]:
            mouse.move(*point)
        mouse.up()

    def _finger(self, points: list[tuple[float, float]]) -> None:
        line = self.page.context.new_cdp_session(self.page)
        for index, (x, y) in enumerate(points):
            line.send(
                "Input.dispatchTouchEvent",
                {
                    "type": "touchMove" if index else "touchStart",
                    "touchPoints": [{"x": x, "y": y}],
                },
            )
        line.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        line.detach()

    def text(self) -> str:
        """Return the text shown on the web page: its words joined by a space."""
        shown: str = self.page.evaluate(f"({SHOWN})()")
        return shown

    def wait_for(self, text: str) -> None:
        """Wait until the web page shows this reading."""
        self.page.wait_for_function(
            f"text => ({SHOWN})() === text",
            arg=text,
            timeout=1000 * PATIENCE_S,
        )

    def send(self, *files: Path | dict[str, Any]) -> None:
        """Choose files."""
        self.page.locator("#tab-image").click()
        self.page.locator("#files").set_input_files(list(files))

    def taken(self, button: str) -> bytes:
        """Return the file that a button downloads."""
        with self.page.expect_download() as download:
            self.page.locator(button).click()
        return Path(download.value.path()).read_bytes()

    def look(self, name: str) -> None:
        """Save a screenshot if requested, and check layout and accessibility."""
        if SHOTS:
            Path(SHOTS).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)
        axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
        found = axe.Axe().run(self.page).response["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
        # No horizontal scrolling.
        assert self.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )


NO_HASTE = """
const soon = window.setTimeout;
window.setTimeout = (run, wait, ...rest) => soon(run, wait < 5000 ? wait : 3600000, ...rest);
"""
"""On a busy machine, a message would be gone before a test clicks on it."""


@pytest.fixture
def visit(browser: Any, running: Running) -> Iterator[Callable[..., Visit]]:
    contexts, visits = [], []

    def begin(size: tuple[int, int] = DESKTOP, scheme: str = "light", **options: Any) -> Visit:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **options
        )
        context.set_default_timeout(1000 * PATIENCE_S)
        context.add_init_script(NO_HASTE)
        contexts.append(context)
        visits.append(Visit(context.new_page(), running))
        return visits[-1]

    yield begin
    for context in contexts:
        context.close()
    for one in visits:
        assert one.faults == []
        assert one.foreign == []
