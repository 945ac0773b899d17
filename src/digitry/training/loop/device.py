"""The device of a training: which one, its threads, its memory, and what it computes in."""

import contextlib
import ctypes
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from digitry import processors
from digitry.errors import UnavailableError


def find_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        UnavailableError: it is not available; the message lists those that are.
    """
    here = ["cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if name == "auto":
        name = "cuda" if "cuda" in here else "cpu"
    if name not in here:
        raise UnavailableError(
            f"device {name!r} is not available", remedy=f"choose from: auto, {', '.join(here)}"
        )
    return torch.device("cuda:0" if name == "cuda" else name)


def keras_name(device: torch.device) -> str:
    """Return the name that Keras has for a device."""
    return f"gpu:{device.index or 0}" if device.type == "cuda" else device.type


@contextlib.contextmanager
def threads_on(device: torch.device, before: Mapping[str, Any] | None) -> Iterator[int]:
    """Set the number of PyTorch's threads within the block, and return it.

    Args:
        device: what is trained on; only the processor's threads need processors.
        before: the facts of the checkpoint that the run is resumed from; None = a new run.
    """
    kept = torch.get_num_threads()
    number = kept
    if device.type == "cpu" and not processors.threads_are_set():
        stored = (before or {}).get("threads")
        number = stored if stored in range(1, kept + 1) else min(kept, processors.free())
    torch.set_num_threads(number)
    try:
        yield number
    finally:
        torch.set_num_threads(kept)


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for products of bfloat16.

    A processor without them can only imitate such products, in ten times the time of float32.
    """
    if device.type != "cpu":
        return True
    if platform.machine() in ("x86_64", "AMD64"):
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def multiplies_tiles(device: torch.device) -> bool:
    """Return whether a device has units that multiply whole tiles of bfloat16: a GPU, or AMX.

    With them even thin convolutions are twice as fast as in float32; with vector instructions for bfloat16
    alone they are slower.
    """
    return device.type == "cuda" or (
        device.type == "cpu"
        and platform.machine() in ("x86_64", "AMD64")
        and bool(torch.cpu._is_amx_tile_supported())
    )


def keep_memory() -> None:
    """Ask the C library to keep large blocks for the next step.

    By default glibc returns them to the system at each `free` and maps them again, page by page; for
    the activations of a convolution this takes as long as the arithmetic. Without glibc this function
    does nothing.
    """
    # On Windows CDLL(None) raises a TypeError.
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
