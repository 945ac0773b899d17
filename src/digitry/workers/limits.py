"""What a process that reads strangers' images gives up, once it has loaded all that it needs."""

from contextlib import suppress
from pathlib import Path


def confine(memory_bytes: int) -> None:
    """Let this process write no file, open few, leave no core, and ask for so much more memory.

    Args:
        memory_bytes: address space beyond what it has now.
    """
    import resource

    wanted = [(resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 16)]
    statm = Path("/proc/self/statm")
    if statm.exists():
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        wanted.append((resource.RLIMIT_AS, used + memory_bytes))
    for what, most in wanted:
        # Some systems know a limit but do not let it be set; the watchdog remains.
        with suppress(ValueError, OSError):
            resource.setrlimit(what, (most, most))
