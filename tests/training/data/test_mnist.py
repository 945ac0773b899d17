"""MNIST: the order of search, checks by content, and downloads from any mirror that works."""

import gzip
import hashlib
import io
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from digitry import files, progress
from digitry.errors import DataError, DigitryError, UnavailableError
from digitry.places import cache_dir
from digitry.training import datasets
from digitry.training.data import mnist
from digitry.training.datasets import load_dataset


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small MNIST: the same four names, a few images of noise, and their hashes."""
    noise = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": noise.integers(0, 256, (120, 28, 28), np.uint8),
        "train-labels-idx1-ubyte": np.arange(120, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": noise.integers(0, 256, (20, 28, 28), np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(20, dtype=np.uint8) % 10,
    }
    plain = {name: idx(array) for name, array in arrays.items()}
    table = tuple(
        mnist.MnistFile(name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in plain.items()
    )
    monkeypatch.setattr(mnist, "MNIST", table)
    monkeypatch.setattr(datasets, "MNIST", table)
    return plain


@pytest.fixture
def cache() -> Path:
    return cache_dir() / "mnist"


@dataclass
class Mirror:
    """A local web server with a chosen behaviour."""

    url: str
    files: dict[str, bytes]
    answer: "Callable[[Handler, Mirror], None]"
    asked: int = 0
    over: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        self.mirror.asked += 1
        try:
            self.mirror.answer(self, self.mirror)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def content(self) -> bytes:
        return self.mirror.files[self.path.rpartition("/")[2]]

    def send(self, status: int, body: bytes, claim: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if claim is None else claim))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def good(handler: Handler, mirror: Mirror) -> None:
    handler.send(200, handler.content())


def cut_always(handler: Handler, mirror: Mirror) -> None:
    content = handler.content()
    handler.send(200, content[: len(content) // 2], claim=len(content))


def status(code: int) -> "Callable[[Handler, Mirror], None]":
    return lambda handler, mirror: handler.send(code, b"no")


def page(handler: Handler, mirror: Mirror) -> None:
    handler.send(200, b"<!DOCTYPE html><p>Please log in</p>", Content_Type="text/html")


def wrong(handler: Handler, mirror: Mirror) -> None:
    content = bytearray(gzip.decompress(handler.content()))
    content[-1] ^= 1
    handler.send(200, gzip.compress(bytes(content)))


def bomb(handler: Handler, mirror: Mirror) -> None:
    handler.send(200, gzip.compress(bytes(50_000_000)))


def endless(handler: Handler, mirror: Mirror) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"\x1f\x8b" + bytes(65_536))


def redirects(handler: Handler, mirror: Mirror) -> None:
    handler.send(302, b"", Location=handler.path)


def silent(handler: Handler, mirror: Mirror) -> None:
    mirror.over.wait()


def silent_in_the_middle(handler: Handler, mirror: Mirror) -> None:
    content = handler.content()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[: len(content) // 2])
    handler.wfile.flush()
    mirror.over.wait()


def drips(handler: Handler, mirror: Mirror) -> None:
    content = handler.content()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for start in range(0, len(content), 64):
        handler.wfile.write(content[start : start + 64])
        handler.wfile.flush()
        if mirror.over.wait(0.02):
            break


def odd_length(handler: Handler, mirror: Mirror) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "many")
    handler.end_headers()
    handler.close_connection = True


SLOW = (silent, silent_in_the_middle, drips)
FAULTS: dict[str, tuple[Callable[[Handler, Mirror], None], str]] = {
    "403": (status(403), "403 Forbidden"),
    "404": (status(404), "404 Not Found"),
    "503": (status(503), "503 Service Unavailable"),
    "cut": (cut_always, "the connection was cut"),
    "page": (page, "sent a web page instead of the file"),
    "wrong bytes": (wrong, "is not train-images-idx3-ubyte"),
    "bomb": (bomb, "has more than the"),
    "endless": (endless, "sent more than the whole file"),
    "redirects": (redirects, "too many redirects"),
    "silent": (silent, "slower than"),
    "silent in the middle": (silent_in_the_middle, "slower than"),
    "drips": (drips, "slower than"),
    "odd length": (odd_length, ""),
}


@pytest.fixture
def serve(
    contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[Mirror]]]:
    """Start one server for each behaviour, in order, and make them the mirrors."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    packed = {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}
    servers = []
    mirrors: list[Mirror] = []

    def start(*answers: Callable[[Handler, Mirror], None]) -> list[Mirror]:
        made = []
        for answer in answers:
            handler = type("Bound", (Handler,), {})
            server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
            server.daemon_threads = False
            mirror = Mirror(f"http://127.0.0.1:{server.server_port}/mnist", dict(packed), answer)
            handler.mirror = mirror  # type: ignore[attr-defined]
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            servers.append((server, thread))
            made.append(mirror)
        monkeypatch.setattr(mnist, "MIRRORS", tuple(mirror.url for mirror in made))
        mirrors.extend(made)
        return made

    receive = mnist._receive

    def impatient(url: str, *rest: Any) -> None:
        # Short limits only for mirrors that are slow on purpose, so a slow machine fails no other test.
        slow = any(mirror.answer in SLOW for mirror in mirrors if url.startswith(mirror.url))
        with monkeypatch.context() as patch:
            patch.setattr(mnist, "SILENCE_SECONDS", 0.5 if slow else 60.0)
            patch.setattr(mnist, "SLOWEST", 10**9 if slow else 0)
            receive(url, *rest)

    monkeypatch.setattr(mnist, "_receive", impatient)
    yield start
    for mirror in mirrors:
        mirror.over.set()
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


def lay(folder: Path, contents: dict[str, bytes], *, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- where MNIST is found -------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [True, False])
def test_a_named_folder_is_used_without_the_network(
    contents: dict[str, bytes], tmp_path: Path, packed: bool
) -> None:
    lay(tmp_path, contents, packed=packed)
    data = load_dataset("mnist", data_dir=tmp_path, offline=True)
    assert (len(data.train), len(data.test), data.name) == (120, 20, "mnist")
    assert data.source == str(tmp_path)
    assert "CC BY-SA 3.0" in data.licence
    assert data.train.images.flags.writeable


def test_the_environment_variable_and_other_layouts_work(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dotted = {name.replace("-idx", ".idx"): content for name, content in contents.items()}
    lay(tmp_path / "MNIST" / "raw", dotted, packed=False)
    monkeypatch.setenv("DIGITRY_DATA", str(tmp_path))
    assert len(load_dataset(offline=True).train) == 120


def test_the_cache_is_searched_after_the_named_folder(
    contents: dict[str, bytes], tmp_path: Path, cache: Path
) -> None:
    lay(cache, contents)
    assert load_dataset(offline=True).source == str(cache)
    console = Console(record=True, width=200, file=io.StringIO())
    data = load_dataset(data_dir=tmp_path, offline=True, console=console)
    assert data.source == str(cache)
    assert "has no train-images-idx3-ubyte" in console.export_text()


def test_the_sha256_depends_only_on_the_content(contents: dict[str, bytes], tmp_path: Path) -> None:
    a = load_dataset(data_dir=lay(tmp_path / "a", contents), offline=True)
    b = load_dataset(data_dir=lay(tmp_path / "b", contents, packed=False), offline=True)
    assert a.sha256 == b.sha256
    assert len(a.sha256) == 64


def test_offline_never_uses_the_network(serve: Callable[..., list[Mirror]], tmp_path: Path) -> None:
    (mirror,) = serve(good)
    with pytest.raises(UnavailableError) as caught:
        load_dataset(offline=True, data_dir=tmp_path)
    assert mirror.asked == 0
    assert "--data-dir" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_damaged_file_in_a_named_folder_is_an_error_and_unchanged(
    contents: dict[str, bytes], serve: Callable[..., list[Mirror]], tmp_path: Path
) -> None:
    (mirror,) = serve(good)
    lay(tmp_path, contents)
    bad = tmp_path / "t10k-labels-idx1-ubyte.gz"
    bad.write_bytes(gzip.compress(contents["t10k-labels-idx1-ubyte"][:-1] + b"\x05"))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: is not t10k-labels"):
        load_dataset(data_dir=tmp_path)
    assert bad.exists()
    assert mirror.asked == 0


def test_a_damaged_file_in_the_cache_is_fetched_again(
    contents: dict[str, bytes], serve: Callable[..., list[Mirror]], cache: Path
) -> None:
    (mirror,) = serve(good)
    lay(cache, contents)
    (cache / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8b broken")
    with pytest.raises(DataError):
        load_dataset(offline=True)
    assert len(load_dataset().test) == 20
    assert mirror.asked == 1


def test_check_reports_good_bad_and_absent_files(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    lay(tmp_path, contents)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(10**6)))
    states = datasets.check("mnist", data_dir=tmp_path)
    assert [state.state for state in states] == ["absent", "ok", "bad", "ok"]
    assert "more than" in states[2].detail
    assert datasets.check("uci")[0].state == "ok"
    with pytest.raises(DataError, match="no such data set"):
        datasets.check(str(tmp_path / "nothing"))
    assert datasets.check(str(tmp_path))[0].state == "bad"


# --- mirrors --------------------------------------------------------------------------------------


def test_a_download_is_kept_and_never_repeated(
    serve: Callable[..., list[Mirror]], cache: Path
) -> None:
    (mirror,) = serve(good)
    first = load_dataset(console=Console(quiet=True))
    assert load_dataset().sha256 == first.sha256
    assert mirror.asked == 4
    assert names(cache) == {".lock", *mirror.files}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_mirror_leads_to_the_next_one(
    serve: Callable[..., list[Mirror]], cache: Path, kind: str
) -> None:
    bad, fine = serve(FAULTS[kind][0], good)
    assert len(load_dataset().train) == 120
    # The mirror that worked is tried first afterwards: the faulty one got one request only.
    assert bad.asked <= (40 if kind == "redirects" else 1)
    assert fine.asked == 4
    assert names(cache) == {".lock", *fine.files}


@pytest.mark.parametrize("kind", FAULTS)
def test_when_all_mirrors_fail_one_error_names_each_with_its_reason(
    serve: Callable[..., list[Mirror]], cache: Path, kind: str
) -> None:
    made = serve(FAULTS[kind][0], status(404))
    with pytest.raises(UnavailableError) as caught:
        load_dataset()
    message = str(caught.value)
    for mirror in made:
        assert mirror.url in message
    assert FAULTS[kind][1] in message
    assert "404 Not Found" in message
    assert "--data-dir" in message
    assert "t10k-labels-idx1-ubyte.gz" in message
    assert "\n" not in message
    # A failed download leaves nothing, not even the folders that it created.
    assert not cache.parent.exists()


def test_an_unreachable_mirror_leads_to_the_next_one(
    serve: Callable[..., list[Mirror]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (fine,) = serve(good)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/mnist", fine.url))
    assert len(load_dataset().train) == 120


def test_a_mirror_may_send_uncompressed_files(
    serve: Callable[..., list[Mirror]], contents: dict[str, bytes]
) -> None:
    (mirror,) = serve(good)
    mirror.files = {f"{name}.gz": content for name, content in contents.items()}
    assert len(load_dataset().train) == 120


def test_files_downloaded_before_a_failure_are_kept(
    serve: Callable[..., list[Mirror]], cache: Path, contents: dict[str, bytes]
) -> None:
    (mirror,) = serve(good)
    last = list(mirror.files)[-1]
    whole, mirror.files[last] = mirror.files[last], b"<html>"
    with pytest.raises(UnavailableError, match=last):
        load_dataset()
    mirror.files[last] = whole
    assert len(load_dataset().train) == 120
    assert mirror.asked == 5


@pytest.mark.parametrize("place", ["connecting", "writing", "verifying"])
def test_an_interrupted_download_leaves_no_file(
    serve: Callable[..., list[Mirror]], cache: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    serve(good)
    what = {
        "connecting": ("requests.get", interrupted),
        "writing": ("digitry.training.data.mnist._Received.update", interrupted),
        "verifying": ("digitry.training.data.mnist._check_kind", interrupted),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*what[place])
        with pytest.raises(KeyboardInterrupt):
            load_dataset()
    assert not cache.exists()
    assert len(load_dataset().train) == 120


def test_files_of_a_killed_process_are_deleted(
    serve: Callable[..., list[Mirror]], cache: Path
) -> None:
    (mirror,) = serve(good)
    cache.mkdir(parents=True)
    (cache / ".train-images-idx3-ubyte-0123456789ab.gz").write_bytes(b"half")
    (cache / "train-images-idx3-ubyte.part").write_bytes(b"half")
    load_dataset()
    assert names(cache) == {".lock", *mirror.files}


def test_concurrent_processes_download_each_file_once(
    serve: Callable[..., list[Mirror]], cache: Path
) -> None:
    (mirror,) = serve(good)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_dataset().sha256, range(4)))
    assert len(set(found)) == 1
    assert mirror.asked == 4
    assert names(cache) == {".lock", *mirror.files}


def test_a_lock_timeout_is_an_error(
    serve: Callable[..., list[Mirror]], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mirror,) = serve(good)
    monkeypatch.setattr(mnist, "LOCK_SECONDS", 0.05)
    cache.mkdir(parents=True)
    with (
        files.alone(cache / ".lock", seconds=60),
        ThreadPoolExecutor(1) as other,
        pytest.raises(DigitryError, match="in use by another digitry"),
    ):
        other.submit(load_dataset).result()
    assert mirror.asked == 0


def test_a_download_prints_its_url(
    serve: Callable[..., list[Mirror]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_INTERVAL", 0.0)
    (mirror,) = serve(good)
    console = Console(record=True, width=200, file=io.StringIO())
    load_dataset(console=console)
    lines = console.export_text().splitlines()
    assert lines[0] == f"fetching {mirror.url}/train-images-idx3-ubyte.gz"
    assert "train-images-idx3-ubyte, 0.1 MB of 0.1 MB, 00:00 left" in lines
    assert f"fetching {mirror.url}/t10k-labels-idx1-ubyte.gz" in lines


@pytest.mark.parametrize("offline", [True, False])
def test_local_files_load_without_the_download_packages(
    contents: dict[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    for module in ("pooch", "requests"):
        monkeypatch.setitem(sys.modules, module, None)
    lay(cache, contents)
    assert len(load_dataset(offline=offline).train) == 120
    (cache / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UnavailableError) as error:
        load_dataset(offline=offline)
    assert ("digitry[train]" in str(error.value)) != offline


def test_a_user_without_a_home_can_name_a_folder(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "cache_dir", lambda: None)
    with pytest.raises(UnavailableError, match=r"no home.*--data-dir"):
        load_dataset()
    assert [state.state for state in datasets.check("mnist")] == ["absent"] * 4
    assert len(load_dataset(data_dir=lay(tmp_path, contents)).train) == 120


def test_a_cache_that_cannot_be_written_is_named(
    serve: Callable[..., list[Mirror]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(good)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DigitryError, match="XDG_CACHE_HOME"):
        load_dataset()


# --- the real MNIST -------------------------------------------------------------------------------


@pytest.mark.data
def test_real_mnist_matches_its_hashes(mnist_dir: Path) -> None:
    data = load_dataset("mnist", data_dir=mnist_dir, offline=True)
    assert data.train.images.shape == (60_000, 28, 28)
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert all(state.state == "ok" for state in datasets.check("mnist", data_dir=mnist_dir))


@pytest.mark.data
def test_real_mnist_as_a_users_idx_folder_is_unchanged(mnist_dir: Path) -> None:
    named = load_dataset("mnist", data_dir=mnist_dir, offline=True)
    data = load_dataset(str(mnist_dir))
    assert data.sha256 == named.sha256
    assert data.train.turned == ()
