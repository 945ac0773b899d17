"""Resource limits of worker processes, set after they have loaded the model."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

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
        import resource

        try:
            pages = _STATM.read_bytes().split()
        except FileNotFoundError:
            return cls(0, 0)
        return cls(*(int(count) * resource.getpagesize() for count in pages[:2]))

    def beyond(self, usual: "Size") -> int:
        """Return by how many bytes it exceeds `usual`, in the measure that has grown most."""
        return max(self.space - usual.space, self.resident - usual.resident)


def confine(usual: Size, memory_bytes: int) -> None:
    """Limit this process: no file writes, no core dumps, 16 open files, and a bound on memory.

    Args:
        usual: the memory of this process now.
        memory_bytes: address space that it may use in addition.
    """
    import resource

    wanted = [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 16)]
    if usual.space:
        wanted.append((resource.RLIMIT_AS, usual.space + memory_bytes))
    for what, most in wanted:
        # Some systems have a limit but refuse to set it; the supervisor still limits the time.
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
