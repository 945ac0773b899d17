"""What the builders share: a file of a clone, and pictures of any sizes as arrays."""

from pathlib import Path

import numpy as np

from digitry import files
from digitry.errors import DataError
from digitry.training.data.dataset import Bytes
from digitry.training.data.packs import Array

WHOLE = "clone the repository whole, with its data"


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a file.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        DataError: it cannot be read, or is larger.
    """
    try:
        content = files.read_bytes(path, most)
    except OSError as error:
        raise DataError(
            f"cannot be read ({error.strerror or error})", where=path, remedy=WHOLE
        ) from error
    if len(content) > most:
        raise DataError(f"is larger than {most >> 20} MiB", where=path, remedy=WHOLE)
    return content


def ragged(pictures: list[Bytes]) -> dict[str, Array]:
    """Return pictures of any sizes as the arrays of a pack, one after the other in `pixels`."""
    sizes = np.array([picture.size for picture in pictures], np.int64)
    return {
        "pixels": np.concatenate([p.ravel() for p in pictures] or [np.zeros(0, np.uint8)]),
        "offsets": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        "heights": np.array([picture.shape[0] for picture in pictures], np.int32),
        "widths": np.array([picture.shape[1] for picture in pictures], np.int32),
    }
