"""Threads are as many as processors are free, and sleep while they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from digitry import processors

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(
    folder: Path, *, running: int = 1, group: str = "0::/", **files: str
) -> dict[str, Path]:
    """Write what the system tells about itself: running threads, control groups and their limits."""
    proc, cgroups = folder / "proc", folder / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "loadavg").write_text(f"9.00 9.00 9.00 {running}/300 4242\n")
    (proc / "self" / "cgroup").write_text(f"{group}\n")
    cgroups.mkdir()
    for place, content in files.items():
        path = cgroups / place.replace("__", "/").replace("cpu_max", "cpu.max").replace(
            "cfs_", "cpu.cfs_"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return {"cgroups": cgroups, "proc": proc}


def test_without_limits_all_processors_of_the_process_are_available(tmp_path: Path) -> None:
    assert processors.available(**machine(tmp_path)) == CORES
    assert processors.available(tmp_path / "none", tmp_path / "none") == CORES


@pytest.mark.parametrize(
    ("group", "files"),
    [
        ("0::/", {"cpu_max": "100000 100000\n"}),
        ("0::/a/b", {"a__cpu_max": "150000 100000\n", "a__b__cpu_max": "max 100000\n"}),
        ("0::/path/of/the/host", {"cpu_max": "50000 100000\n"}),
        ("4:cpu,cpuacct:/", {"cpu__cfs_quota_us": "100000\n", "cpu__cfs_period_us": "100000\n"}),
    ],
    ids=["version 2", "a group above", "within a container", "version 1"],
)
def test_a_container_s_limit_holds(tmp_path: Path, group: str, files: dict[str, str]) -> None:
    assert processors.available(**machine(tmp_path, group=group, **files)) == 1


@pytest.mark.parametrize(
    ("group", "files"),
    [
        ("0::/", {"cpu_max": "max 100000\n"}),
        ("0::/", {"cpu_max": "nonsense\n"}),
        ("4:cpu:/", {"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"}),
        ("9:memory:/", {"cpu_max": "100 0\n"}),
    ],
    ids=["unlimited", "unreadable", "version 1, unlimited", "another controller"],
)
def test_what_is_no_limit_limits_nothing(tmp_path: Path, group: str, files: dict[str, str]) -> None:
    assert processors.available(**machine(tmp_path, group=group, **files)) == CORES


def test_busy_processes_take_their_processors(tmp_path: Path) -> None:
    every = os.cpu_count() or 1
    for others in range(every + 3):
        where = machine(tmp_path / str(others), running=1 + others)
        assert processors.free(**where) == max(1, min(CORES, every - others))


def test_where_the_system_does_not_tell_who_runs_all_are_free(tmp_path: Path) -> None:
    assert processors.free(tmp_path / "none", tmp_path / "none") == CORES


def test_what_the_user_sets_stays() -> None:
    assert set(processors.waiting({})) == {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        assert processors.waiting({name: "1"}) == {}
    assert not processors.threads_are_set({"OMP_NUM_THREADS": ""})
    assert processors.threads_are_set({"MKL_NUM_THREADS": "4"})


def test_threads_sleep_while_they_wait_from_before_pytorch_is_loaded() -> None:
    program = (
        "import os, sys, digitry.training\n"
        "print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])"
    )
    names = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", program], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", processors.SPINS]
