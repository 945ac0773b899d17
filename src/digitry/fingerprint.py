"""By what arrays are known again: one sha256 of their shapes and bytes, the same on any machine."""

import hashlib
from typing import Any

import numpy.typing as npt


def sha256_of(*arrays: npt.NDArray[Any]) -> str:
    """Return the sha256 of arrays of bytes, in hexadecimal.

    Stores of corrections and run folders keep these digests, and splits are made by them: what is
    digested must stay as it is.

    Args:
        arrays: uint8, of any shapes; their order counts.
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
