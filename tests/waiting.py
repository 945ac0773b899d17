"""How tests wait: for what must come about, and not for a time in which it should have."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 300
"""Not how long a thing may take, but when it is certain that it never comes: the machine may be busy."""


def until(what: Callable[[], T]) -> T:
    """Return what a function returns as soon as that is true."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert time.monotonic() < deadline, "it never came to this"
        time.sleep(0.005)
    return found
