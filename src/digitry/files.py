"""Atomic writes, reads with a size limit, and locks.

A file is written beside its target, flushed to disk, and renamed over the target in one step (POSIX
`rename`); then the folder is flushed too, so that the rename survives a power cut. If the process is
killed at any moment, the target has either the old content or the new.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from digitry.errors import DigitryError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error numbers of file systems without locks, such as some network file systems."""


class InUseError(DigitryError):
    """Another process or thread held the lock of a folder for too long."""


@contextmanager
def alone(lock: Path, *, seconds: float) -> Iterator[None]:
    """Let one process and one thread at a time run the block; others wait.

    The lock is released when its process ends, even if it is killed. On a file system without locks
    nothing is locked; writes are atomic there too.

    Args:
        lock: a file in the folder that the block writes to; created if needed, never removed.
        seconds: how long to wait for the lock; 0 = do not wait.

    Raises:
        InUseError: the lock was not released in time.
        OSError: the lock file cannot be created.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    try:
        held.acquire(timeout=seconds)
    except Timeout as error:
        raise InUseError(
            "is in use by another digitry process",
            where=lock.parent,
            remedy="try again when it has ended",
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        held.release()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; rename it to `path` when the block ends without error.

    The temporary name keeps the suffix, for writers that choose their format by it. If the block
    raises, `path` does not change and the temporary file is deleted.

    Raises:
        DigitryError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}-{os.urandom(6).hex()}{path.suffix}")
        # O_EXCL: never follow a link that somebody else created. The umask sets the permissions.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except DigitryError as error:
        if temporary is None or error.where != str(temporary):
            raise
        # What is wrong with the temporary file is wrong with what `path` would become.
        raise type(error)(error.what, where=path, remedy=error.remedy) from error
    except OSError as error:
        raise DigitryError(
            f"cannot be written ({error.strerror or error})",
            where=path,
            remedy="free disk space or choose another folder; an existing file is unchanged",
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def read_bytes(path: Path, limit: int) -> bytes:
    """Read at most `limit` + 1 bytes of a file, which may be a pipe, grow, or never end.

    Args:
        path: the file.
        limit: in bytes; a result of `limit` + 1 bytes means that the file is longer.

    Raises:
        OSError: it cannot be opened or read.
    """
    parts, wanted = [], limit + 1
    with Path(path).open("rb") as stream:
        # In pieces: one read of the whole limit would allocate that much memory.
        while wanted and (part := stream.read(min(wanted, 1 << 20))):
            parts.append(part)
            wanted -= len(part)
    return b"".join(parts)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8 in one step."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    """Write `content` to `path` as indented JSON in one step."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _flush(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        # Windows cannot open a folder as a file.
        return
    # Windows flushes only files that are open for writing.
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:
        # Some file systems cannot flush a folder; the rename itself is still atomic there.
        if not is_folder:
            raise
    finally:
        os.close(handle)
