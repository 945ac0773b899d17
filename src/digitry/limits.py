"""Resource limits of a process that decodes bytes of strangers, set after it has loaded its code."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

OUT_OF_MEMORY, OUT_OF_TIME = 3, 4
"""Exit status of a process that ran out of memory, and out of time where no signal ends it."""

BUSY = 5
"""Seconds by the clock for each second of processor time, on a busy machine."""

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Size:
    """The memory of this process, in bytes; 0 if the system does not report it.

    Attributes:
        space: address space; RLIMIT_AS limits it.
        resident: physical memory in use.
    """

    space: int
    resident: int

    @classmethod
    def now(cls) -> Self:
        """Return the current memory of this process."""
        try:
            import resource

            pages = _STATM.read_bytes().split()
        except (ImportError, FileNotFoundError):
            return cls(0, 0)
        return cls(*(int(count) * resource.getpagesize() for count in pages[:2]))

    def beyond(self, usual: "Size") -> int:
        """Return by how many bytes it exceeds `usual`, in the measure that has grown most."""
        return max(self.space - usual.space, self.resident - usual.resident)


def confine(usual: Size, memory_bytes: int) -> None:
    """Limit this process: no file writes, no core dumps, 16 open files, and a bound on memory.

    Windows has none of these limits.

    Args:
        usual: the memory of this process now.
        memory_bytes: address space that it may use in addition.
    """
    try:
        import resource
    except ImportError:
        return
    wanted = [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 16)]
    if usual.space:
        wanted.append((resource.RLIMIT_AS, usual.space + memory_bytes))
    for what, most in wanted:
        # Some systems have a limit but refuse to set it; whoever waits for the process limits the time.
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))


@contextmanager
def ending_after(seconds: float) -> Iterator[None]:
    """Let the system end this process if the block takes too much processor time.

    The signal is SIGPROF; but SIGVTALRM in a worker, which limits its whole request by the other timer
    already, and then only time in user mode counts. Windows has no such timers: there a thread ends the
    process after `BUSY` times as long by the clock.

    Args:
        seconds: of processor time.
    """
    if hasattr(signal, "setitimer"):
        used = signal.getitimer(signal.ITIMER_PROF)[0] > 0
        timer = signal.ITIMER_VIRTUAL if used else signal.ITIMER_PROF
        signal.setitimer(timer, seconds)
        try:
            yield
        finally:
            signal.setitimer(timer, 0)
        return
    watch = threading.Timer(BUSY * seconds, os._exit, [OUT_OF_TIME])
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()
