"""What a process that reads strangers' images gives up, once it has loaded all that it needs."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Size:
    """The memory of this process, in bytes; 0 where the system does not tell.

    Attributes:
        space: address space, which is what the system limits.
        resident: what lies in the machine's memory.
    """

    space: int
    resident: int

    @classmethod
    def now(cls) -> Self:
        """Return how large this process is."""
        import resource

        try:
            pages = _STATM.read_bytes().split()
        except FileNotFoundError:
            return cls(0, 0)
        return cls(*(int(count) * resource.getpagesize() for count in pages[:2]))

    def beyond(self, usual: "Size") -> int:
        """Return how much larger it is than `usual`, in the measure that has grown most."""
        return max(self.space - usual.space, self.resident - usual.resident)


def confine(usual: Size, memory_bytes: int) -> None:
    """Let this process write no file, open few, leave no core, and ask for so much more memory.

    Args:
        usual: what it has now.
        memory_bytes: address space beyond that.
    """
    import resource

    wanted = [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 16)]
    if usual.space:
        wanted.append((resource.RLIMIT_AS, usual.space + memory_bytes))
    for what, most in wanted:
        # Some systems know a limit but do not let it be set; the supervisor's clock remains.
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
