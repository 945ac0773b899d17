"""A real Ray cluster gives the same files as one process, even if it loses a node."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from digitry.bulk.job import BulkJob
from digitry.bulk.run import run

from ..waiting import PATIENCE_S

pytest.importorskip("ray", reason="the extra `cluster` is not installed")

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("ray_runs.py")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, digits: list[bytes]) -> str:
    """A tar of 2,000 images, one in a hundred broken."""
    path = tmp_path_factory.mktemp("packed") / "in.tar"
    with tarfile.open(path, "w") as made:
        for index in range(2000):
            content = digits[index % len(digits)]
            if index % 100 == 7:
                content = content[:50]
            header = tarfile.TarInfo(f"{index:05d}.png")
            header.size = len(content)
            made.addfile(header, io.BytesIO(content))
    return str(path)


@pytest.fixture(scope="module")
def local(packed: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The output of one process."""
    out = tmp_path_factory.mktemp("local") / "out"
    run(
        BulkJob(
            inputs=[packed], out=out, model=str(model), format="jsonl", workers=1, shard_rows=50
        )
    )
    return files(out)


def files(out: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in (out / "rows").iterdir()}
    return {**found, "failed": (out / "failed.jsonl").read_bytes()}


def started(*arguments: object, **settings: str) -> list[int]:
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("RAY_")
    } | {"RAY_USAGE_STATS_ENABLED": "0", **settings}
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    return [int(word) for word in result.split()[1:]]


def test_a_ray_node_gives_the_same_files_as_one_process(
    packed: str, tmp_path: Path, model: Path, local: dict[str, bytes]
) -> None:
    assert started("one", packed, tmp_path, model) == [2000]
    assert files(tmp_path) == local


def test_a_lost_node_loses_no_row(
    packed: str, tmp_path: Path, model: Path, local: dict[str, bytes]
) -> None:
    images, before, after = started("nodes", packed, tmp_path, model, RAY_AUTH_MODE="disabled")
    assert (images, before, after) == (2000, 2, 1)
    assert files(tmp_path) == local
    rows = (tmp_path / "rows").glob("*.jsonl")
    sources = [
        json.loads(line)["source"] for part in rows for line in part.read_bytes().splitlines()
    ]
    assert len(set(sources)) == len(sources) == 2000
