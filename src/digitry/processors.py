"""The processors that this process may use, and how threads wait for each other.

A step of training is a few short operations on all threads, which wait for the slowest after each one.
By default OpenMP's threads wait in a loop, which is fast while every thread has a core of its own. Beside
another busy process the loop takes the time that the slowest thread needs: a fit takes twenty times as
long.
"""

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

SPINS = "10000"
"""Rounds for which a thread waits in a loop before it sleeps, about 0.1 ms: longer than most of the
gaps between the operations of a step."""

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""The variables with which a user sets the number of threads."""

_SAMPLES, _PAUSE = 5, 0.002
_CGROUPS = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


def waiting(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment variables that let OpenMP's threads sleep soon; {} if the user set one.

    GNU's runtime, which PyTorch has on Linux, reads the first; LLVM's and Intel's read the second, in
    milliseconds. A runtime reads them once, when it is loaded: set them before PyTorch is imported.
    """
    if any(name in environment for name in _WAITING):
        return {}
    return {"GOMP_SPINCOUNT": SPINS, "KMP_BLOCKTIME": "0"}


def available(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Return how many processors this process may use: at least 1.

    That is the smallest of the machine's processors, those this process is bound to, and the limits of
    its control groups, which is how containers limit processors.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([cores or 1, *(math.floor(limit) for limit in _limits(cgroups, proc))]))


def free(cgroups: Path = _CGROUPS, proc: Path = _PROC) -> int:
    """Return how many of the available processors other processes leave: at least 1.

    The load average is of the last minute and holds what this process itself has done. So the threads
    that want to run are counted, a few times within 8 ms, and the smallest count is taken.
    """
    others = []
    for number in range(_SAMPLES):
        if number:
            time.sleep(_PAUSE)
        others.append(_running(proc) - 1)  # this thread runs, too
    return max(1, min(available(cgroups, proc), (os.cpu_count() or 1) - max(0, min(others))))


def threads_are_set(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the user has set the number of threads in an environment variable."""
    return any(environment.get(name) for name in THREADS)


def _running(proc: Path) -> int:
    """Return how many threads of the machine run or want to run; 1 where the system does not tell."""
    try:
        return int((proc / "loadavg").read_text().split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return 1


def _limits(cgroups: Path, proc: Path) -> Iterator[float]:
    """Yield the processors that the control groups of this process allow, where they limit them."""
    with suppress(OSError, ValueError):
        for line in (proc / "self" / "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            root = cgroups
            if controllers:  # Version 1: a tree for each controller.
                if "cpu" not in controllers.split(","):
                    continue
                root = cgroups / "cpu"
            group = root / path.lstrip("/")
            # Within a container the path may be that of the host; the root is then the container's.
            for folder in (group, *group.parents):
                if folder.is_relative_to(root):
                    yield from _limit(folder)


def _limit(folder: Path) -> Iterator[float]:
    """Yield the limit in one folder of control groups, if it has one."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text()
        if quota not in ("max", "-1"):
            yield int(quota) / int(period)
