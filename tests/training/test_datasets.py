"""Named sets: found in order, verified by content, fetched from any mirror that works, never wrong."""

import gzip
import hashlib
import io
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from digitry.errors import DataError, DigitryError, UnavailableError
from digitry.places import cache_dir
from digitry.training import datasets
from digitry.training.data import mnist
from digitry.training.data.dataset import Split, hold_out
from digitry.training.datasets import load_dataset


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A small MNIST: the same four names, but few images of noise, and their own hashes."""
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
    """A web server on this machine that behaves as it is told."""

    url: str
    files: dict[str, bytes]
    answer: "Callable[[Handler, Mirror], None]"
    ranges: list[str | None] = field(default_factory=list)
    asked: int = 0


class Handler(BaseHTTPRequestHandler):
    mirror: Mirror

    def do_GET(self) -> None:
        self.mirror.asked += 1
        self.mirror.ranges.append(self.headers.get("Range"))
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


def with_ranges(handler: Handler, mirror: Mirror) -> None:
    content = handler.content()
    span = handler.headers.get("Range")
    if span is None:
        return handler.send(200, content)
    start = int(span.removeprefix("bytes=").rstrip("-"))
    if start >= len(content):
        return handler.send(416, b"", Content_Range=f"bytes */{len(content)}")
    part = f"bytes {start}-{len(content) - 1}/{len(content)}"
    return handler.send(206, content[start:], Content_Range=part)


def cut_first(handler: Handler, mirror: Mirror) -> None:
    """The first answer of all breaks off in the middle; later ones continue."""
    if mirror.asked == 1:
        content = handler.content()
        return handler.send(200, content[: len(content) // 2], claim=len(content))
    return with_ranges(handler, mirror)


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
    time.sleep(1.5)


def drips(handler: Handler, mirror: Mirror) -> None:
    content = handler.content()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for start in range(0, len(content), 64):
        handler.wfile.write(content[start : start + 64])
        handler.wfile.flush()
        time.sleep(0.1)


def odd_length(handler: Handler, mirror: Mirror) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "many")
    handler.end_headers()
    handler.close_connection = True


FAULTS: dict[str, tuple[Callable[[Handler, Mirror], None], str]] = {
    "403": (status(403), "403 Forbidden"),
    "404": (status(404), "404 Not Found"),
    "503": (status(503), "503 Service Unavailable"),
    "cut": (cut_always, "the connection was cut"),
    "page": (page, "sent a web page instead of the file"),
    "wrong bytes": (wrong, "holds other bytes than train-images-idx3-ubyte"),
    "bomb": (bomb, "holds more than the"),
    "endless": (endless, "sent more than the whole file"),
    "redirects": (redirects, "redirects without end"),
    "silent": (silent, "silent"),
    "drips": (drips, "slower than"),
    "odd length": (odd_length, ""),
}


@pytest.fixture
def serve(
    contents: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., list[Mirror]]]:
    """Start one server for each behaviour, in order, and make them the mirrors."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(mnist, "SILENCE_SECONDS", 0.8)
    monkeypatch.setattr(mnist, "SLOWEST", 5_000)
    monkeypatch.setattr(mnist, "WAITS", (0.0, 0.0))
    packed = {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}
    servers = []

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
        return made

    yield start
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


def test_the_environment_names_the_folder_too_and_other_layouts_are_known(
    contents: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dotted = {name.replace("-idx", ".idx"): content for name, content in contents.items()}
    lay(tmp_path / "MNIST" / "raw", dotted, packed=False)
    monkeypatch.setenv("DIGITRY_DATA", str(tmp_path))
    assert len(load_dataset(offline=True).train) == 120


def test_the_cache_comes_after_the_named_folder(
    contents: dict[str, bytes], tmp_path: Path, cache: Path
) -> None:
    lay(cache, contents)
    assert load_dataset(offline=True).source == str(cache)
    console = Console(record=True, width=200, file=io.StringIO())
    data = load_dataset(data_dir=tmp_path, offline=True, console=console)
    assert data.source == str(cache)
    assert "lacks train-images-idx3-ubyte" in console.export_text()


def test_the_sha256_is_of_the_content_whatever_the_files_look_like(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
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


def test_a_damaged_file_in_a_named_folder_is_an_error_and_stays(
    contents: dict[str, bytes], serve: Callable[..., list[Mirror]], tmp_path: Path
) -> None:
    (mirror,) = serve(good)
    lay(tmp_path, contents)
    bad = tmp_path / "t10k-labels-idx1-ubyte.gz"
    bad.write_bytes(gzip.compress(contents["t10k-labels-idx1-ubyte"][:-1] + b"\x05"))
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: holds other bytes"):
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


def test_check_tells_good_bad_and_absent_files_apart(
    contents: dict[str, bytes], tmp_path: Path
) -> None:
    lay(tmp_path, contents)
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(bytes(10**6)))
    states = datasets.check("mnist", data_dir=tmp_path)
    assert [state.state for state in states] == ["absent", "ok", "bad", "ok"]
    assert "more than" in states[2].detail
    assert datasets.check("uci")[0].state == "ok"
    with pytest.raises(DataError, match="there is no such data set"):
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
    assert not list(cache.glob("*.part"))


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_mirror_leads_to_the_next_one(
    serve: Callable[..., list[Mirror]], cache: Path, kind: str
) -> None:
    bad, fine = serve(FAULTS[kind][0], with_ranges)
    assert len(load_dataset().train) == 120
    # The mirror that worked is asked first from then on: the faulty one saw one file alone.
    assert bad.asked <= (40 if kind == "redirects" else 3)
    assert fine.asked >= 4
    assert not list(cache.glob("*.part"))


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
    # Nothing that could be taken for the file is left; at most the begun part of a cut download.
    assert {path.suffix for path in cache.iterdir()} <= {".part", ".lock", ""}
    assert not list(cache.glob("*.gz"))


def test_a_mirror_that_is_not_there_leads_to_the_next(
    serve: Callable[..., list[Mirror]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (fine,) = serve(good)
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/mnist", fine.url))
    assert len(load_dataset().train) == 120


def test_a_cut_download_goes_on_where_it_was_cut(serve: Callable[..., list[Mirror]]) -> None:
    (mirror,) = serve(cut_first)
    assert len(load_dataset().train) == 120
    half = len(mirror.files["train-images-idx3-ubyte.gz"]) // 2
    first, second, third = mirror.ranges[:3]
    assert (first, third) == (None, None)
    # The last, unfilled piece is not written.
    assert second is not None
    assert half - 256 <= int(second[6:-1]) <= half


def test_a_download_cut_by_the_end_of_the_process_goes_on_the_next_day(
    serve: Callable[..., list[Mirror]], cache: Path
) -> None:
    (mirror,) = serve(with_ranges)
    cache.mkdir(parents=True)
    part = cache / "train-images-idx3-ubyte.part"
    part.write_bytes(mirror.files["train-images-idx3-ubyte.gz"][:700])
    assert len(load_dataset().train) == 120
    assert mirror.ranges == ["bytes=700-", None, None, None]


@pytest.mark.parametrize("answer", [good, with_ranges])
@pytest.mark.parametrize("size", [700, 10**5])
def test_a_part_that_does_not_fit_is_given_up_for_a_whole_download(
    serve: Callable[..., list[Mirror]], cache: Path, answer: object, size: int
) -> None:
    serve(answer)
    cache.mkdir(parents=True)
    (cache / "train-images-idx3-ubyte.part").write_bytes(b"\x1f\x8b" + bytes(size))
    assert len(load_dataset().train) == 120


def test_a_part_that_is_whole_already_needs_no_network(
    serve: Callable[..., list[Mirror]], cache: Path
) -> None:
    (mirror,) = serve(good)
    cache.mkdir(parents=True)
    whole = mirror.files["train-images-idx3-ubyte.gz"]
    (cache / "train-images-idx3-ubyte.part").write_bytes(whole)
    assert len(load_dataset().train) == 120
    assert mirror.asked == 3


def test_a_mirror_may_send_the_files_unpacked(
    serve: Callable[..., list[Mirror]], contents: dict[str, bytes]
) -> None:
    (mirror,) = serve(good)
    mirror.files = {f"{name}.gz": content for name, content in contents.items()}
    assert len(load_dataset().train) == 120


def test_a_cache_that_cannot_be_written_is_named(
    serve: Callable[..., list[Mirror]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(good)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DigitryError, match="XDG_CACHE_HOME"):
        load_dataset()


# --- uci ------------------------------------------------------------------------------------------


def test_uci_is_always_there_and_its_test_part_never_changes() -> None:
    data = load_dataset("uci", offline=True)
    assert (len(data.train), len(data.test)) == (1498, 299)
    assert "CC BY 4.0" in data.licence
    assert data.test.labels[:12].tolist() == [1, 7, 9, 2, 3, 5, 7, 0, 0, 8, 4, 2]
    counts = np.bincount(data.test.labels)
    assert counts.min() >= 29
    assert counts.max() <= 30


def test_uci_is_drawn_as_mnist_is() -> None:
    images = load_dataset("uci").train.images.astype(float)
    rows, columns = images.max(axis=2) > 60, images.max(axis=1) > 60
    assert max(rows.sum(axis=1).max(), columns.sum(axis=1).max()) <= 22
    assert images.max(axis=(1, 2)).min() > 200
    mass = images.sum(axis=(1, 2))
    y = (images.sum(axis=2) * np.arange(28)).sum(axis=1) / mass
    x = (images.sum(axis=1) * np.arange(28)).sum(axis=1) / mass
    assert np.abs(np.stack([y, x]) - 14).max() < 0.75
    # Ink covers about as much of the image as in MNIST, 19%.
    assert 0.15 < (images > 0).mean() < 0.25


# --- one's own ------------------------------------------------------------------------------------


def own(path: Path, images: np.ndarray, labels: np.ndarray) -> str:
    np.savez(path / "own.npz", images=images, labels=labels)
    return str(path / "own.npz")


def test_a_sixth_of_each_class_is_held_out_and_it_is_the_same_sixth_in_any_order(
    tmp_path: Path,
) -> None:
    noise = np.random.default_rng(1)
    images = noise.integers(0, 100, (120, 28, 28), np.uint8)
    labels = (np.arange(120) % 10).astype(np.uint8)
    first = load_dataset(own(tmp_path, images, labels))
    order = noise.permutation(120)
    second = load_dataset(own(tmp_path, images[order], labels[order]))
    assert np.bincount(first.test.labels).tolist() == [2] * 10
    assert {image.tobytes() for image in first.test.images} == {
        image.tobytes() for image in second.test.images
    }
    assert "a sixth of each class held out" in first.source
    # A set that is mixed already keeps its order.
    assert first.train.names[0] == "images[0]"
    assert list(first.train.names) == sorted(first.train.names, key=lambda name: int(name[7:-1]))


def test_a_set_grouped_by_class_is_mixed_so_that_its_end_has_all_classes(tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 100, (600, 28, 28), np.uint8)
    labels = (np.arange(600) // 60).astype(np.uint8)
    data = load_dataset(own(tmp_path, images, labels))
    _, validation = hold_out(data.train, 0.2)
    assert set(validation.labels.tolist()) == set(range(10))
    for row in (0, 99):
        source = int(data.train.names[row][7:-1])
        assert np.array_equal(images[source], data.train.images[row])
        assert labels[source] == data.train.labels[row]


def test_a_set_too_small_to_hold_out_from_is_refused(tmp_path: Path) -> None:
    images = np.zeros((2, 28, 28), np.uint8)
    with pytest.raises(DataError, match="one image a class"):
        load_dataset(own(tmp_path, images, np.array([0, 1])))


def test_hold_out_is_keras_rule() -> None:
    split = Split(
        np.arange(7 * 784, dtype=np.uint32).astype(np.uint8).reshape(7, 28, 28),
        np.arange(7, dtype=np.uint8),
        tuple("abcdefg"),
        (1, 5),
    )
    kept, held = hold_out(split, 0.3)
    # floor(7 * 0.7) = 4
    assert kept.labels.tolist() == [0, 1, 2, 3]
    assert held.labels.tolist() == [4, 5, 6]
    assert (held.names, kept.turned, held.turned) == (("e", "f", "g"), (1,), (1,))
    assert len(hold_out(split, 0.0)[1]) == 0


def test_a_split_of_the_wrong_shape_or_type_is_refused() -> None:
    with pytest.raises(DataError, match="float"):
        Split(np.zeros((2, 28, 28)), np.zeros(2, np.uint8))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="labels"):
        Split(np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8))


# --- the real thing -------------------------------------------------------------------------------


@pytest.mark.data
def test_real_mnist_is_what_its_hashes_say(mnist_dir: Path) -> None:
    data = load_dataset("mnist", data_dir=mnist_dir, offline=True)
    assert data.train.images.shape == (60_000, 28, 28)
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert all(state.state == "ok" for state in datasets.check("mnist", data_dir=mnist_dir))


@pytest.mark.data
def test_real_mnist_as_ones_own_idx_folder_is_taken_as_it_is(mnist_dir: Path) -> None:
    named = load_dataset("mnist", data_dir=mnist_dir, offline=True)
    data = load_dataset(str(mnist_dir))
    assert data.sha256 == named.sha256
    assert data.train.turned == ()
