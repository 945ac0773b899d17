"""The one way in which digitry saves anything: whole, or not at all; and reads: within a limit.

A file is written beside its target, flushed to the disk, and moved over the target in one step
(POSIX `rename`); then the folder itself is flushed, so that the new name survives a power cut. Whoever
kills the process, the target holds either the old content or the new.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from digitry.errors import DigitryError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; move it over `path` when the block ends well.

    The temporary name keeps the suffix, for writers that choose their format by it. If the block
    raises, `path` stays as it was and the temporary file is gone.

    Raises:
        DigitryError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.stem}-{secrets.token_hex(6)}{path.suffix}")
        # O_EXCL: never follow a link that somebody laid in our way. The umask sets the rights.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise DigitryError(
            f"cannot be written ({error.strerror or error})",
            where=path,
            remedy="free space or choose another folder; what was there before is untouched",
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a file that may be a pipe, may grow, or may never end.

    Args:
        path: what to read.
        limit: bytes; of a longer file one byte more than the limit is given, so that one can tell.

    Raises:
        OSError: as from opening and reading.
    """
    parts, wanted = [], limit + 1
    with Path(path).open("rb") as stream:
        # Piece by piece: asking for the limit at once would set aside that much memory.
        while wanted and (part := stream.read(min(wanted, 1 << 20))):
            parts.append(part)
            wanted -= len(part)
    return b"".join(parts)


def write_bytes(path: Path, content: bytes) -> None:
    """Save `content` as `path`, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Save `content` as UTF-8 in `path`, whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object) -> None:
    """Save `content` as indented JSON in `path`, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _flush(path: Path) -> None:
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        # Windows opens no folder as a file.
        return
    # Windows flushes only what is open for writing.
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError:
        # Some file systems cannot flush a folder; the rename itself is still atomic there.
        if not is_folder:
            raise
    finally:
        os.close(handle)
