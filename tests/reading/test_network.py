"""The networks of the package run, and a file that is none is an error of ours."""

from pathlib import Path

import numpy as np
import pytest

from digitry.errors import ModelError
from digitry.reading.network import Session, shipped


@pytest.mark.parametrize("content", [b"", b"no network", b"\x08\x07" * 500])
def test_a_broken_file_is_a_model_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "finder.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"finder\.onnx: cannot be run .*; install digitry again"):
        Session(path)


def test_a_missing_file_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be run"):
        Session(tmp_path / "lines.onnx")


@pytest.mark.parametrize(
    ("name", "shape", "result"),
    [
        ("finder", (1, 1, 64, 96), (1, 3, 16, 24)),
        ("finder", (2, 1, 32, 32), (2, 3, 8, 8)),
        ("lines", (3, 1, 32, 100), (3, 50, 17)),
    ],
)
def test_the_shipped_networks_take_any_size(
    name: str, shape: tuple[int, ...], result: tuple[int, ...]
) -> None:
    found = shipped(name).run(np.zeros(shape, np.float32))
    assert found.shape == result
    assert np.isfinite(found).all()


def test_a_batch_says_what_each_of_it_says_alone() -> None:
    strips = np.random.default_rng(0).random((3, 1, 32, 64), np.float32)
    lines = shipped("lines")
    together = lines.run(strips)
    for strip, row in zip(strips, together, strict=True):
        np.testing.assert_allclose(lines.run(strip[None])[0], row, atol=1e-4)


def test_a_network_that_is_made_ready_later_is_the_same() -> None:
    strip = np.random.default_rng(0).random((1, 1, 32, 64), np.float32)
    np.testing.assert_array_equal(
        shipped("lines", later=True).run(strip), shipped("lines").run(strip)
    )


def test_a_network_that_is_made_ready_later_fails_when_it_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "finder.onnx"
    path.write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"finder\.onnx: cannot be run"):
        Session(path, later=True).run(np.zeros((1, 1, 32, 32), np.float32))
